/* main.c - nodectl: global options, then one row of the table of commands
 *
 * Every command is a request to the local agent and a rendering of its answer;
 * no state, no policy, and as little as possible before the first byte is sent. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/complete.h"

static const struct opt main_opts[] = {
	{ OPT_VERSION, 'V', "version", NULL, "the version of this program" },
	{ OPT_COMPLETE, 0, "complete", "WHAT", NULL }, /* for shells: complete.c */
	{ 0 },
};

/* A socket must not become standard output because somebody closed that. */
static void fill_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_WRONLY : O_RDONLY) < 0)
			_exit(EXIT_REFUSED);
}

static int print_version(void)
{
	char text[] = "nodectl " NA_SOFTWARE "\n";

	return ctl_write(&(struct buf){ .data = text, .len = sizeof(text) - 1 });
}

static int run_command(struct ctl *c, int argc, char **argv)
{
	int words;

	if (!argc)
		return ctl_fail(EXIT_USAGE, "which command? nodectl help lists them");
	c->cmd = command_find(argc, argv, &words);
	if (!c->cmd)
		return command_unknown(argc, argv);
	c->argc = argc - words;
	c->argv = argv + words;
	return c->cmd->run(c);
}

int main(int argc, char **argv)
{
	struct opts o = { .what = "nodectl", .table = main_opts, .argc = argc, .argv = argv, .next = 1 };
	struct ctl c = { 0 };
	const char *value;
	struct err e;
	int id;

	fill_standard_descriptors();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	while ((id = opts_next(&o, &value, &e)) != OPT_END) {
		switch (id) {
		case OPT_DIR:
			c.dir = value;
			break;
		case OPT_SOCKET:
			c.socket = value;
			break;
		case OPT_JSON:
			c.json = true;
			break;
		case OPT_VERSION:
			return print_version();
		case OPT_COMPLETE:
			return complete(&c, value);
		case OPT_HELP:
			c.cmd = &cmd_help;
			return cmd_help.run(&c);
		case OPT_OPERAND:
			return run_command(&c, argc - o.next + 1, argv + o.next - 1);
		default:
			return ctl_fail(EXIT_USAGE, "%s", e.text);
		}
	}
	return run_command(&c, 0, NULL);
}
