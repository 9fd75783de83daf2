/* launcher.h - the wire between agent and nodeagent-launcher: fixed structs, one packet each
 *
 * SOCK_SEQPACKET, host byte order (both ends are on one host, one build).
 * The launcher reads nothing else: no JSON, no path from the agent. It makes
 * STATE/spool/JOB.ATTEMPT itself beneath the state directory it was started with.
 */
#ifndef NA_LAUNCHER_H
#define NA_LAUNCHER_H

#include <stdint.h>

#define LAUNCHER_VERSION 1u
#define LAUNCHER_COOKIE_MAX 64
#define LAUNCHER_TEXT_MAX 512
#define LAUNCHER_USER_MAX 64

enum launcher_op {
	LAUNCHER_LAUNCH = 1, /* + SCM_RIGHTS: memfd of the specification, listening socket */
	LAUNCHER_KILL = 2, /* SIGKILL everything of (job, attempt): cgroup.kill, then a sweep for the cookie */
	LAUNCHER_CLEAN = 3, /* remove the job's cgroup; -EBUSY when somebody is still in it after a while */
	LAUNCHER_REMOVE = 5, /* the spool of an attempt that is over (nprocs 0), or what was set aside of it (1);
			      * -EBUSY when its job lives */
	LAUNCHER_ASIDE = 4, /* a spool of this name is another cluster's: rename it; -EBUSY when its job lives */
	LAUNCHER_FIX_SM = 6, /* restart the subnet manager's unit: nprocs is an enum sm_unit; rank_base 1: enable it, too;
			      * job: the order's number, which is carried out once, and answered each time that it comes, or 0;
			      * rank_base + LAUNCHER_FIX_TELL: answered only, -ENOENT when it is not known. All else 0.
			      * -EPERM unless root allows it on this host, -EBUSY when it is too often (fix_sm.h) */
};

struct launcher_request {
	uint32_t version;
	uint32_t op;
	uint64_t id; /* echoed */
	uint64_t job;
	uint32_t attempt;
	uint32_t uid;
	uint32_t nprocs; /* 1..4096 */
	uint32_t rank_base; /* names of the spool files */
	char user[LAUNCHER_USER_MAX]; /* must be uid's name in this host's NSS */
	char cookie[LAUNCHER_COOKIE_MAX]; /* hex */
};

#define LAUNCHER_FIX_TELL 2u
#define LAUNCHER_ENABLING 256u /* in the result of FIX_SM: it is that of enabling; the restart went well */

struct launcher_reply {
	uint32_t version;
	uint32_t op;
	uint64_t id;
	int32_t error; /* 0 or errno */
	uint32_t result; /* LAUNCH: pid of the shim; KILL: processes killed; FIX_SM: systemctl's exit status */
	char text[LAUNCHER_TEXT_MAX]; /* one sentence when error != 0; KILL: who lives on, if anybody,
	                               * and behind its NUL the same as lines of common/left.h */
};

#endif
