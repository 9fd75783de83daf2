/* launch.h - a launch on its way from the command line to the agent */
#ifndef NA_CLIENT_LAUNCH_H
#define NA_CLIENT_LAUNCH_H

#include "client/commands.h"
#include "client/envfilter.h"
#include "client/session.h"
#include "common/hostlist.h"

struct launch {
	struct msg request; /* submit */
	char **argv; /* NULL-terminated, borrowed */
	const char **choices; /* --env, in order */
	size_t n_choices;
	const char *cwd; /* as given; NULL */
	bool per_node, per_gpu, clean_env, detach, dry_run;
	enum labels labels;
	struct hostlist hosts, exclude;
	/* made by launch_prepare() */
	char *dir; /* absolute */
	char **yours; /* names in request.net_yours */
	char *warnings; /* lines, or NULL: see launch_warn() */
	struct envset env;
	/* what the request points to */
	char client_id[33], command[257];
	char path[4096]; /* of the socket */
};

/* Working directory and environment. -EINVAL and a sentence. */
int launch_prepare(struct launch *w, struct err *e);
/* A job that may be restarted: would its training go on where it was? With --dry-run: are its
 * directory and program on this host? Says on stderr why not, and keeps the lines for --dry-run. */
void launch_warn(struct launch *w);
/* The command line for people: arguments with blanks are quoted, UTF-8, cut. */
void launch_command_text(char *const *argv, char *out, size_t size);
/* The name of the program in the command line that starts a worker for each
 * GPU by itself (torchrun and its like), or NULL. */
const char *launch_own_workers(char *const *argv);
int launch_dry_run(const struct ctl *c, const struct launch *w);

#endif
