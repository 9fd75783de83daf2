/* cmd_help.c - nodectl help [COMMAND] */
#include <stdio.h>
#include <string.h>

#include "client/commands.h"
#include "client/term.h"

static void add_row(struct buf *b, const struct command *cmd, unsigned columns)
{
	char left[32];

	snprintf(left, sizeof(left), "  %-14s ", cmd->verb);
	term_add_wrapped(b, cmd->brief, left, "                 ", columns);
}

int command_group_help(const char *word)
{
	unsigned columns = term_columns(1);
	size_t len = strlen(word);
	struct buf b;
	int r;

	buf_init(&b);
	buf_addf(&b, "usage: nodectl %s WORD\n\n", word);
	for (const struct command *const *c = commands; *c; c++)
		if (strncmp((*c)->verb, word, len) == 0 && (*c)->verb[len] == ' ')
			add_row(&b, *c, columns);
	buf_addf(&b, "\nnodectl %s WORD --help tells more.\n", word);
	r = ctl_write(&b);
	buf_finish(&b);
	return r;
}

static int print_overview(void)
{
	unsigned columns = term_columns(1);
	struct buf b;
	int r;

	buf_init(&b);
	buf_adds(&b, "usage: nodectl [--dir DIR] [--socket PATH] [--json] COMMAND\n\n");
	for (const struct command *const *c = commands; *c; c++)
		add_row(&b, *c, columns);
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
	if (!found && n == 1 && command_is_group(words[0]))
		return command_group_help(words[0]);
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
