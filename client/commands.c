/* commands.c - the table of commands, and what every command starts from */
#include "client/commands.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/term.h"

#define AGENT_SOCKET "/run/nodeagent/agent.sock"
#define COORD_SOCKET "/run/nodeagent-coordinator/coordinator.sock"

const struct command *const commands[] = { &cmd_launch, &cmd_attach, &cmd_logs, &cmd_kill,
					   &cmd_jobs,	&cmd_job,    &cmd_why,	  &cmd_status, &cmd_nodes,
					   &cmd_node,	&cmd_ports,  &cmd_gpus,	  &cmd_token_create,
					   &cmd_node_remove, &cmd_drain, &cmd_resume, &cmd_check_nccl, &cmd_check, &cmd_events, &cmd_fix_sm, &cmd_help, NULL };

int write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EAGAIN) /* whoever gave it to us does not block: we do */
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
		if (w < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

/* On a terminal no word is torn at its edge. */
static void complain_wrapped(const char *who, const char *text)
{
	struct buf all, b;

	buf_init(&all);
	buf_init(&b);
	buf_addf(&all, "%s%s", who, text);
	term_add_wrapped(&b, buf_str(&all), "", "  ", term_columns(2));
	write_all(2, b.data, b.len);
	buf_finish(&b);
	buf_finish(&all);
}

/* Control characters are shown as '?', but lines stay lines (carets). */
static void complain(const char *who, const char *text)
{
	struct buf b;

	if (isatty(2) && !strchr(text, '\n')) {
		complain_wrapped(who, text);
		return;
	}
	buf_init(&b);
	buf_adds(&b, who);
	while (*text) {
		size_t n = strcspn(text, "\n");

		term_add_clean(&b, text, n);
		buf_addc(&b, '\n');
		text += n;
		if (*text++ != '\n')
			break;
		buf_adds(&b, "  ");
	}
	write_all(2, b.data, b.len);
	buf_finish(&b);
}

int ctl_fail(int code, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	complain("nodectl: ", text);
	return code;
}

void ctl_say(const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	complain("", text);
}

int ctl_usage(const struct ctl *c, const char *fmt, ...)
{
	char text[2048], who[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(who, sizeof(who), "nodectl %s: ", c->cmd->verb);
	complain(who, text);
	return EXIT_USAGE;
}

void ctl_options(const struct ctl *c, struct opts *o)
{
	static char what[64];

	snprintf(what, sizeof(what), "nodectl %s", c->cmd->verb);
	memset(o, 0, sizeof(*o));
	o->what = what;
	o->table = c->cmd->opts;
	o->argc = c->argc;
	o->argv = c->argv;
}

int ctl_option(struct ctl *c, struct opts *o, const char **value, int *ret_exit)
{
	*ret_exit = CTL_GO;
	for (;;) {
		struct err e;
		int id = opts_next(o, value, &e);

		switch (id) {
		case OPT_JSON:
			c->json = true;
			continue;
		case OPT_DIR:
			c->dir = *value;
			continue;
		case OPT_SOCKET:
			c->socket = *value;
			continue;
		case OPT_HELP:
			*ret_exit = command_help(c->cmd);
			return id;
		default:
			if (id < 0)
				*ret_exit = ctl_usage(c, "%s", e.text);
			return id;
		}
	}
}

int ctl_operands(struct ctl *c, const char **operands, int want)
{
	struct opts o;
	const char *value;
	int n = 0, out;

	ctl_options(c, &o);
	while (ctl_option(c, &o, &value, &out) != OPT_END) {
		if (out != CTL_GO)
			return out;
		if (n == want)
			return ctl_usage(c, "\"%s\" is one word too many: nodectl %s %s", value, c->cmd->verb,
					 c->cmd->args);
		operands[n++] = value;
	}
	if (n < want && strcmp(c->cmd->args, "ID") == 0)
		return ctl_usage(c, "which job? nodectl jobs lists them");
	if (n < want)
		return ctl_usage(c, "something is missing: nodectl %s %s", c->cmd->verb, c->cmd->args);
	return CTL_GO;
}

/* Where nodeagentd may have put it below the directory that was named to either of them. */
static int path_below(const struct ctl *c, const char *dir, char *out, size_t size)
{
	static const char *const agent[] = { "nodectl.sock", "agent/nodectl.sock", "agent.sock",
					     "agent/run/agent.sock", "agent/agent.sock", NULL };
	static const char *const coordinator[] = { "coordinator.sock", "coordinator/coordinator.sock", NULL };
	const char *const *names = c->cmd->admin ? coordinator : agent;
	int n;

	for (const char *const *name = names; *name; name++) {
		n = snprintf(out, size, "%s/%s", dir, *name);
		if (n > 0 && (size_t)n < size && access(out, F_OK) == 0)
			return n;
	}
	return snprintf(out, size, "%s/%s", dir, names[0]);
}

int ctl_path(const struct ctl *c, char *out, size_t size)
{
	const char *dir = c->dir, *env = getenv("NODEAGENT_DIR");
	int n;

	if (!dir && env && *env)
		dir = env;
	if (c->socket)
		n = snprintf(out, size, "%s", c->socket);
	else if (dir)
		n = path_below(c, dir, out, size);
	else
		n = snprintf(out, size, "%s", c->cmd->admin ? COORD_SOCKET : AGENT_SOCKET);
	if (n < 0 || (size_t)n >= size)
		return ctl_fail(EXIT_USAGE, "the path of the socket is too long");
	return CTL_GO;
}

int ctl_connect(const struct ctl *c, struct link *l)
{
	char path[4096];
	struct err e;
	int r = ctl_path(c, path, sizeof(path));

	if (r != CTL_GO)
		return r;
	link_init(l);
	l->coordinator = c->cmd->admin;
	r = link_open(l, path, &e);
	if (r == 0)
		return CTL_GO;
	return ctl_fail(r == -EPERM ? EXIT_REFUSED : EXIT_UNREACHABLE, "%s", e.text);
}

static int call_failed(int r, const struct err *e)
{
	return ctl_fail(r == -EPIPE || r == -ETIME || r == -EHOSTUNREACH ? EXIT_UNREACHABLE : EXIT_REFUSED, "%s", e->text);
}

int ctl_gather(struct link *l, const struct msg *request, uint32_t rid, enum msg_type want,
	       struct gathered *ret)
{
	struct err e;
	int r = gather_call(l, request, rid, want, ret, &e);

	return r == 0 ? CTL_GO : call_failed(r, &e);
}

int ctl_call(struct link *l, const struct msg *request, uint32_t rid, enum msg_type want,
	     struct msg *ret)
{
	struct err e;
	int r = link_call(l, request, rid, want, ret, &e);

	return r == 0 ? CTL_GO : call_failed(r, &e);
}

int ctl_ask_jobs(const struct ctl *c, struct msg *m, struct gathered *ret)
{
	struct link l;
	int r = ctl_connect(c, &l);

	if (r != CTL_GO)
		return r;
	m->u.jobs_get.rid = link_id(&l);
	r = ctl_gather(&l, m, m->u.jobs_get.rid, MSG_jobs, ret);
	link_close(&l);
	return r;
}

struct out *ctl_out(const struct ctl *c, struct buf *b)
{
	struct out *o;

	buf_init(b);
	if (c->json)
		o = out_json_create(b);
	else
		o = out_text_create(b, term_columns(1), term_colour(1));
	out_start(o, NULL, OUT_OBJECT);
	return o;
}

int ctl_write(const struct buf *b)
{
	int r;

	if (buf_failed(b))
		return ctl_fail(EXIT_REFUSED, "out of memory");
	r = write_all(1, b->data, b->len);
	if (r == -EPIPE)
		return EXIT_PIPE;
	return r < 0 ? ctl_fail(EXIT_REFUSED, "cannot write: %s", strerror(-r)) : 0;
}

int ctl_print(struct out *o, struct buf *b)
{
	int code;

	out_end(o);
	code = o ? ctl_write(b) : ctl_fail(EXIT_REFUSED, "out of memory");
	out_destroy(o);
	buf_finish(b);
	return code;
}

int ctl_job_id(const struct ctl *c, const char *text, uint64_t *ret)
{
	struct err e;

	if (opts_uint("the job", text, 1, UINT64_MAX, ret, &e) == 0)
		return CTL_GO;
	return ctl_usage(c, "\"%s\" is no job id; ids are numbers, see: nodectl jobs", text);
}

int command_help(const struct command *cmd)
{
	unsigned columns = term_columns(1);
	struct buf b, usage;
	int code;

	if (columns > 100)
		columns = 100; /* long lines are hard to read */
	buf_init(&b);
	buf_init(&usage);
	buf_addf(&usage, "usage: nodectl %s%s%s", cmd->verb, *cmd->args ? " " : "", cmd->args);
	term_add_wrapped(&b, buf_str(&usage), "", "       ", columns);
	buf_addc(&b, '\n');
	term_add_wrapped(&b, cmd->help ? cmd->help : cmd->brief, "", "", columns);
	if (cmd->opts) {
		buf_addc(&b, '\n');
		opts_help(&b, cmd->opts, columns);
	}
	buf_addc(&b, '\n');
	opts_help(&b, opts_global, columns);
	code = ctl_write(&b);
	buf_finish(&usage);
	buf_finish(&b);
	return code;
}

/* Words of a verb that the arguments begin with; 0 when they do not. */
static int matches(const char *verb, int argc, char **argv)
{
	const char *space = strchr(verb, ' ');
	size_t n = space ? (size_t)(space - verb) : strlen(verb);

	if (argc < 1 || strlen(argv[0]) != n || memcmp(argv[0], verb, n) != 0)
		return 0;
	if (!space)
		return 1;
	return argc > 1 && strcmp(argv[1], space + 1) == 0 ? 2 : 0;
}

const struct command *command_find(int argc, char **argv, int *ret_words)
{
	for (const struct command *const *c = commands; *c; c++) {
		*ret_words = matches((*c)->verb, argc, argv);
		if (*ret_words)
			return *c;
	}
	return NULL;
}

bool command_is_group(const char *word)
{
	for (const struct command *const *c = commands; *c; c++) {
		size_t len = strcspn((*c)->verb, " ");

		if ((*c)->verb[len] && strncmp((*c)->verb, word, len) == 0 && !word[len])
			return true;
	}
	return false;
}

/* What other programs call it. */
static const char *other_name(const char *word)
{
	static const char *const names[][2] = {
		{ "run", "launch" },   { "exec", "launch" },  { "submit", "launch" }, { "start", "launch" },
		{ "srun", "launch" },  { "sbatch", "launch" }, { "cancel", "kill" },  { "scancel", "kill" },
		{ "stop", "kill" },    { "ps", "jobs" },      { "ls", "jobs" },	      { "list", "jobs" },
		{ "squeue", "jobs" },  { "queue", "jobs" },   { "sinfo", "nodes" },   { "top", "status --watch" },
		{ "watch", "status --watch" }, { "show", "job" }, { "log", "logs" },  { "tail", "logs -f" },
		{ "version", "--version" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i][0], word) == 0)
			return names[i][1];
	return NULL;
}

int command_unknown(int argc, char **argv)
{
	const char *words[32], *close = other_name(argv[0]);
	bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
	size_t n = 0;

	if (help && command_is_group(argv[0]))
		return command_group_help(argv[0]);
	for (const struct command *const *c = commands; *c; c++) {
		size_t len = strcspn((*c)->verb, " ");

		if ((*c)->verb[len] && strncmp((*c)->verb, argv[0], len) == 0 && !argv[0][len])
			return ctl_fail(EXIT_USAGE, "after \"%s\" comes \"%s\": nodectl %s %s", argv[0],
					(*c)->verb + len + 1, (*c)->verb, (*c)->args);
		words[n++] = (*c)->verb;
	}
	words[n] = NULL;
	if (close)
		return ctl_fail(EXIT_USAGE, "there is no command \"%s\"; you want: nodectl %s", argv[0], close);
	close = opts_nearest(argv[0], words);
	if (close)
		return ctl_fail(EXIT_USAGE, "there is no command \"%s\"; did you mean \"%s\"?", argv[0], close);
	return ctl_fail(EXIT_USAGE, "there is no command \"%s\"; see nodectl help", argv[0]);
}
