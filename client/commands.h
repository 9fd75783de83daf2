/* commands.h - the table of commands, and what every command starts from */
#ifndef NA_CLIENT_COMMANDS_H
#define NA_CLIENT_COMMANDS_H

#include <stdbool.h>

#include "client/gather.h"
#include "client/link.h"
#include "client/opts.h"
#include "client/out.h"
#include "client/session.h"

struct command;
struct ctl {
	const char *dir, *socket; /* as given; NULL */
	bool json;
	const struct command *cmd;
	int argc; /* arguments behind the command's name */
	char **argv;
};

struct command {
	const char *verb; /* "launch", "token create" */
	const char *args; /* "[options] [--] COMMAND [ARG...]" */
	const char *brief; /* one line */
	const char *help; /* paragraphs */
	const struct opt *opts; /* NULL: none of its own */
	int (*run)(struct ctl *c);
	bool admin; /* speaks to the coordinator's own socket */
};

extern const struct command *const commands[]; /* ends with NULL */

/* "nodectl: ..." on standard error; returns 'code'. Further lines of the text are indented. */
int ctl_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same without "nodectl: ": how it goes on. */
void ctl_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* EXIT_USAGE, with the command's name before the sentence. */
int ctl_usage(const struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What is left of a command line once the common options are taken out. */
enum { CTL_GO = -1 };
/* Next option or operand of the command; takes --json, --dir and --socket by
 * itself. OPT_END at the end. When *ret_exit is not CTL_GO, return it. */
int ctl_option(struct ctl *c, struct opts *o, const char **value, int *ret_exit);
void ctl_options(const struct ctl *c, struct opts *o);
/* For commands that take exactly so many operands and no options of their own. */
int ctl_operands(struct ctl *c, const char **operands, int want);

/* The socket for this command: --socket, --dir, $NODEAGENT_DIR, /run/nodeagent. */
int ctl_path(const struct ctl *c, char *out, size_t size);
/* Opens it: CTL_GO, or the exit code after the sentence was printed. */
int ctl_connect(const struct ctl *c, struct link *l);
/* gather_call; CTL_GO, or the exit code after the sentence was printed. */
int ctl_gather(struct link *l, const struct msg *request, uint32_t rid, enum msg_type want,
	       struct gathered *ret);
/* link_call; CTL_GO, or the exit code after the sentence was printed. */
int ctl_call(struct link *l, const struct msg *request, uint32_t rid, enum msg_type want,
	     struct msg *ret);

/* Sends jobs_get (its rid is filled in) over a link of its own; CTL_GO and the answer. */
int ctl_ask_jobs(const struct ctl *c, struct msg *m, struct gathered *ret);

/* A document in the form asked for. */
struct out *ctl_out(const struct ctl *c, struct buf *b);
/* Ends the document, prints it, frees both. 0 or the exit code. */
int ctl_print(struct out *o, struct buf *b);
/* To standard output; what fails is told. 0 or the exit code. */
int ctl_write(const struct buf *b);
/* Waits when the descriptor takes nothing now, whether it blocks or not. 0 or -errno. */
int write_all(int fd, const char *p, size_t n);

int ctl_job_id(const struct ctl *c, const char *text, uint64_t *ret);
int command_help(const struct command *cmd);
const struct command *command_find(int argc, char **argv, int *ret_words);
/* The first word of commands of two: "token", "fix". */
bool command_is_group(const char *word);
/* These commands with what they do; the exit code. */
int command_group_help(const char *word);
int command_unknown(int argc, char **argv);

extern const struct command cmd_launch, cmd_attach, cmd_logs, cmd_kill, cmd_jobs, cmd_job, cmd_status,
	cmd_nodes, cmd_node, cmd_ports, cmd_gpus, cmd_token_create, cmd_node_remove, cmd_drain, cmd_resume, cmd_check_nccl, cmd_check, cmd_why, cmd_events, cmd_fix_sm, cmd_help;

#endif
