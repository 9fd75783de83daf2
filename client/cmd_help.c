/* cmd_help.c - nodectl help [COMMAND] */
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "client/term.h"

static int print_overview(void)
{
	unsigned columns = term_columns(1);
	struct buf b;
	int r;

	buf_init(&b);
	buf_adds(&b, "usage: nodectl [--dir DIR] [--socket PATH] [--json] COMMAND\n\n");
	for (const struct command *const *c = commands; *c; c++) {
		char left[32];

		snprintf(left, sizeof(left), "  %-14s ", (*c)->verb);
		term_add_wrapped(&b, (*c)->brief, left, "                 ", columns);
	}
	buf_addc(&b, '\n');
	opts_help(&b, opts_global, columns);
	buf_adds(&b, "      --version           the version of this program\n");
	buf_adds(&b, "\nnodectl COMMAND --help tells more about a command; man nodectl about all.\n");
	r = ctl_write(&b);
	buf_finish(&b);
	return r;
}

static int run(struct ctl *c)
{
	struct opts o;
	const char *value;
	char *words[2];
	const struct command *found;
	int n = 0, out, used;

	ctl_options(c, &o);
	while (ctl_option(c, &o, &value, &out) != OPT_END) {
		if (out != CTL_GO)
			return out;
		if (n < 2)
			words[n++] = (char *)value;
	}
	if (!n)
		return print_overview();
	found = command_find(n, words, &used);
	if (!found)
		return command_unknown(n, words);
	return command_help(found);
}

const struct command cmd_help = {
	.verb = "help",
	.args = "[COMMAND]",
	.brief = "what commands there are, or how to use one",
	.run = run,
};
