/* launch.h - the forked child that becomes a shim */
#ifndef NA_LAUNCHER_LAUNCH_H
#define NA_LAUNCHER_LAUNCH_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "common/err.h"
#include "launcher/launcher.h"

struct policy {
	uid_t uid_min, uid_max;
	bool allow_root;
	uid_t agent_uid;
	gid_t agent_gid;
	const char *spool; /* where output goes; made when absent */
	const char *shim; /* absolute path, checked again before each use */
	const char *fix_sm; /* the file whose presence allows LAUNCHER_FIX_SM; the same */
};

/* The cookie can be searched for. All that a KILL needs: policy may have
 * become stricter while the job ran. */
int launch_check_cookie(const struct launcher_request *q, struct err *e);
/* The request is well-formed and this host lets its uid run jobs. */
int launch_allowed(const struct policy *p, const struct launcher_request *q, struct err *e);
/* Regular file of root, executable, and nobody else can put another in its place. */
int launch_check_shim(const char *path, struct err *e);
/* Absolute, and nobody but root can put another directory in its place. */
int launch_check_spool(const char *path, struct err *e);
/* Nobody but root can put another file or directory at this absolute path. 'what': "shim" */
int launch_check_above(const char *path, const char *what, struct err *e);
/* ... nor change what is there. */
bool launch_roots_own(const struct stat *st);
/* Renames the spool of an attempt that nobody lives in. 0 or -errno and a sentence. */
int launch_aside(const struct policy *p, const struct launcher_request *q, struct err *e);
/* Removes it, or what was set aside of it. The same. May take long. */
int launch_remove(const struct policy *p, const struct launcher_request *q, struct err *e);
/* All but the last step. 0, or -errno and a sentence: the caller must then _exit at
 * once, whatever rights it has left. Waits on NSS: only in a child.
 * *report is a descriptor to keep (close-on-exec); it may get another number. */
int launch_child(const struct policy *p, const struct launcher_request *q, int spec_fd,
		 int listen_fd, int *report, struct err *e);
/* The last one: becomes the shim. Returns only when it cannot; the same. */
int launch_execute(const struct policy *p, const struct launcher_request *q, struct err *e);

#endif
