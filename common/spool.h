/* spool.h - makes the directory and the files that hold one attempt's output
 *
 * SPOOL/JOB.ATTEMPT/ with "status", "stamps" and for each rank "R.out"
 * and "R.err" (R: global rank). Everything is opened by descriptor beneath the
 * spool directory, exclusively, without following links: what was there before
 * is never touched, a name that is taken is -EEXIST.
 *
 * Making a file is the dearest step of a launch (0.1-0.3 ms each on ext4, for
 * two of each rank), and most are not written to at once. So where the job's
 * user owns the directory, his shim makes each when there is something to put
 * into it: spool_begin(), then spool_stream() and so on.
 * Where root does, all are made before the shim runs: spool_make().
 *
 * Modes are exact whatever the umask: directory 0750, files 0640. When uid or
 * gid is not the caller's own, the files belong to uid:gid and the directory to
 * (caller):gid, so that the job's user writes through descriptors only and
 * cannot make or remove names; otherwise nothing is chowned.
 */
#ifndef NA_COMMON_SPOOL_H
#define NA_COMMON_SPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

#define SPOOL_NAME_MAX 32 /* "JOB.ATTEMPT" and NUL */

/* Opens the spool directory, making it when it is absent: 0755, or, with a
 * group (not (gid_t)-1), 0750 for that group. A link in its place is not
 * followed. A descriptor or -errno. */
int spool_open(const char *path, gid_t group, struct err *e);

/* 0 and open descriptors, all O_CLOEXEC and write-only: spool files (fds[2k]
 * stdout and fds[2k+1] stderr of local rank k; room for 2*nprocs) and stamps
 * also O_APPEND. On failure nothing is open, what was made is removed again,
 * -errno and a sentence. The limit of open files must allow 2*nprocs + 4. */
int spool_make(int spool_dirfd, uint64_t job, uint32_t attempt, uint32_t rank_base, uint32_t nprocs,
	       uid_t uid, gid_t gid, int *ret_status_fd, int *ret_stamps_fd, int *fds, struct err *e);

/* The directory alone (a readable descriptor), for the caller's own uid. On
 * failure as spool_make(). */
int spool_begin(int spool_dirfd, uint64_t job, uint32_t attempt, int *ret_dir_fd, struct err *e);
/* A file in such a directory: write-only, O_CLOEXEC, streams and stamps O_APPEND.
 * stream: 0 stdout, 1 stderr. A descriptor or -errno. */
int spool_stream(int dir_fd, uint32_t rank, uint32_t stream);
int spool_stamps(int dir_fd);
int spool_status(int dir_fd);

/* What stands in the way of a new attempt of this name becomes JOB.ATTEMPT.old-MS;
 * nothing is lost. 0 or -errno and a sentence. */
int spool_aside(int spool_dirfd, uint64_t job, uint32_t attempt, int64_t wall_ms, struct err *e);

/* A directory of the spool, and what its name says. */
enum spool_kind {
	SPOOL_NONE, /* not ours */
	SPOOL_ATTEMPT, /* JOB.ATTEMPT */
	SPOOL_ASIDE, /* JOB.ATTEMPT.old-MS */
	SPOOL_GONE, /* JOB.ATTEMPT.gone: its removal was interrupted */
};
enum spool_kind spool_parse_name(const char *name, uint64_t *ret_job, uint32_t *ret_attempt);
/* Removes the attempt's directory (SPOOL_ATTEMPT), or those of its name that were
 * set aside or are half removed already. It must be the caller's own; nothing
 * beneath but plain names goes. Removing much data blocks for long. 0 (also when there is
 * none) or -errno and a sentence. */
int spool_remove(int spool_dirfd, uint64_t job, uint32_t attempt, enum spool_kind kind, struct err *e);

/* "JOB.ATTEMPT" */
void spool_name(char out[SPOOL_NAME_MAX], uint64_t job, uint32_t attempt);

#endif
