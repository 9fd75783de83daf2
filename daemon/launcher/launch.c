/* launch.c - from root to the job's user, in one direction
 *
 * Order matters: who is it (NSS of this host) - spool - cgroup - descriptors -
 * limits - rights. The first error ends the child. Root opens nothing here but
 * its own state directory and cgroup tree; cwd, command and environment of the
 * job are the shim's business, as the user. */
#include "launcher/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/spool.h"
#include "launcher/cgroup.h"

#define PATH_BYTES 1024
#define PROCS_MAX 4096u
#define GROUPS_MAX 65536
#define FD_OUTPUT 10

struct identity {
	uid_t uid;
	gid_t gid;
	int n_groups;
	gid_t *groups; /* the child ends or executes: never freed */
};

/* ---- may it? --------------------------------------------------------- */

static bool terminated(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL && *s != '\0';
}

static bool is_hex(const char *s)
{
	return s[strspn(s, "0123456789abcdef")] == '\0';
}

int launch_check_cookie(const struct launcher_request *q, struct err *e)
{
	if (!terminated(q->cookie, sizeof q->cookie) || !is_hex(q->cookie))
		return err_set(e, EINVAL, "the cookie in the request is malformed");
	return 0;
}

int launch_allowed(const struct policy *p, const struct launcher_request *q, struct err *e)
{
	if (q->nprocs < 1 || q->nprocs > PROCS_MAX || q->rank_base > 16777215u)
		return err_set(e, EINVAL, "%u ranks from rank %u on are not possible", q->nprocs,
			       q->rank_base);
	if (!terminated(q->user, sizeof q->user))
		return err_set(e, EINVAL, "the user's name in the request is malformed");
	if (q->uid == 0 && !p->allow_root)
		return err_set(e, EPERM, "jobs of root are not allowed on this node (allow_root)");
	if (q->uid != 0 && (q->uid < p->uid_min || q->uid > p->uid_max))
		return err_set(e, EPERM,
			       "uid %u (%s) may not run jobs on this node: allowed are %u to %u",
			       q->uid, q->user, p->uid_min, p->uid_max);
	return launch_check_cookie(q, e);
}

/* Nobody but root can change it; in a sticky directory others cannot rename it. */
bool launch_roots_own(const struct stat *st)
{
	bool writable = st->st_mode & (S_IWGRP | S_IWOTH);

	return st->st_uid == 0 && (!writable || (S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)));
}

int launch_check_above(const char *path, const char *what, struct err *e)
{
	char dir[PATH_BYTES];
	struct stat st;

	if (*path != '/' || strlen(path) >= sizeof dir)
		return err_set(e, EINVAL, "the %s's path %s is not absolute", what, path);
	memcpy(dir, path, strlen(path) + 1);
	for (char *slash; (slash = strrchr(dir, '/'));) {
		slash[slash == dir] = '\0';
		if (stat(dir, &st) < 0)
			return err_set(e, errno, "%s, where the %s lies: %s", dir, what,
				       strerror(errno));
		if (!launch_roots_own(&st))
			return err_set(e, EPERM, "%s, where the %s lies, can be changed by others",
				       dir, what);
		if (slash == dir)
			break;
	}
	return 0;
}

int launch_check_shim(const char *path, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return err_set(e, errno, "the shim %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || !(st.st_mode & S_IXOTH) || !launch_roots_own(&st))
		return err_set(e, EPERM, "the shim %s must be a program that only root can change",
			       path);
	return launch_check_above(path, "shim", e);
}

int launch_check_spool(const char *path, struct err *e)
{
	return launch_check_above(path, "spool", e);
}

/* ---- who is it? ------------------------------------------------------ */

/* uid -> name and name -> uid must agree with the request: a host on which
 * the number is somebody else must not run the job. */
static int look_up(const struct launcher_request *q, struct identity *id, struct err *e)
{
	struct passwd *pw;
	char name[LAUNCHER_USER_MAX];

	errno = 0;
	pw = getpwuid(q->uid);
	if (!pw)
		return err_set(e, errno ? errno : ENOENT, "uid %u (%s) is not known on this node",
			       q->uid, q->user);
	if (strcmp(pw->pw_name, q->user) != 0)
		return err_set(e, EPERM,
			       "uid %u is '%s' on the submitting node but '%s' on this one", q->uid,
			       q->user, pw->pw_name);

	snprintf(name, sizeof name, "%s", pw->pw_name);
	id->uid = q->uid;
	id->gid = pw->pw_gid;
	errno = 0;
	pw = getpwnam(name);
	if (!pw || pw->pw_uid != q->uid)
		return err_set(e, EPERM, "user '%s' is uid %ld on this node, not %u", name,
			       pw ? (long)pw->pw_uid : -1L, q->uid);
	return 0;
}

static int look_up_groups(const char *user, struct identity *id, struct err *e)
{
	id->n_groups = 64;
	for (int tries = 0; tries < 8; tries++) {
		int room = id->n_groups;

		id->groups = reallocarray(id->groups, (size_t)room, sizeof *id->groups);
		if (!id->groups)
			return err_set(e, ENOMEM, "out of memory");
		if (getgrouplist(user, id->gid, id->groups, &id->n_groups) >= 0)
			return 0;
		if (id->n_groups <= room)
			id->n_groups = 2 * room;
		if (id->n_groups > GROUPS_MAX)
			break;
	}
	return err_set(e, E2BIG, "user '%s' is in too many groups", user);
}

/* ---- what it gets ---------------------------------------------------- */

static int allow_files(uint32_t nprocs, struct rlimit *old, struct err *e)
{
	rlim_t need = 64 + 6 * (rlim_t)nprocs;
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, old) < 0)
		return err_set(e, errno, "getrlimit: %s", strerror(errno));
	r = *old;
	if (r.rlim_cur < need)
		r.rlim_cur = need;
	if (r.rlim_max < need)
		r.rlim_max = need;
	if (setrlimit(RLIMIT_NOFILE, &r) < 0)
		return err_set(e, errno, "cannot allow %lu open files: %s", (unsigned long)need,
			       strerror(errno));
	return 0;
}

static int open_spool(const struct policy *p, struct err *e)
{
	int spool = spool_open(p->spool, p->agent_gid, e);
	struct stat st;

	if (spool < 0 || (fstat(spool, &st) == 0 && launch_roots_own(&st)))
		return spool;
	close(spool);
	return err_set(e, EPERM, "the spool directory %s can be changed by others", p->spool);
}

static int make_spool(const struct policy *p, const struct launcher_request *q, int *fds,
		      struct err *e)
{
	int spool = open_spool(p, e), r;

	if (spool < 0)
		return spool;
	r = spool_make(spool, q->job, q->attempt, q->rank_base, q->nprocs, q->uid, p->agent_gid,
		       &fds[2], &fds[3], fds + 4, e);
	close(spool);
	return r;
}

int launch_aside(const struct policy *p, const struct launcher_request *q, struct err *e)
{
	struct timespec t;
	int spool, r;

	if (cgroup_remove(q->job, q->attempt) == -EBUSY)
		return err_set(e, EBUSY, "job %llu.%u still lives on this node",
			       (unsigned long long)q->job, q->attempt);
	spool = open_spool(p, e);
	if (spool < 0)
		return spool;
	clock_gettime(CLOCK_REALTIME, &t);
	r = spool_aside(spool, q->job, q->attempt, t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000, e);
	close(spool);
	return r;
}

int launch_remove(const struct policy *p, const struct launcher_request *q, struct err *e)
{
	int spool, r;

	if (!q->nprocs && cgroup_remove(q->job, q->attempt) == -EBUSY)
		return err_set(e, EBUSY, "job %llu.%u still lives on this node",
			       (unsigned long long)q->job, q->attempt);
	spool = open_spool(p, e);
	if (spool < 0)
		return spool;
	r = spool_remove(spool, q->job, q->attempt, q->nprocs ? SPOOL_ASIDE : SPOOL_ATTEMPT, e);
	close(spool);
	return r;
}

static int close_from(unsigned first, unsigned last)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, last, 0) == 0)
		return 0;
#endif
	for (unsigned fd = first; fd <= last && fd < 65536; fd++)
		close((int)fd);
	return 0;
}

/* fds: spec, listener, status, stamps, outputs -> 3 4 5 6 10...; the report
 * becomes 7. All are moved out of the way first. */
static int arrange(int *fds, uint32_t nprocs, int *report, struct err *e)
{
	int n = 4 + 2 * (int)nprocs, high = FD_OUTPUT + 2 * (int)nprocs;
	int null = open("/dev/null", O_RDWR);
	int moved = fcntl(*report, F_DUPFD_CLOEXEC, high);

	null = fcntl(null, F_DUPFD_CLOEXEC, high);
	if (moved < 0 || null < 0)
		return err_set(e, errno, "cannot arrange descriptors: %s", strerror(errno));
	*report = moved;
	for (int i = 0; i < n; i++)
		if ((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, high)) < 0)
			return err_set(e, errno, "cannot arrange descriptors: %s", strerror(errno));
	for (int i = 0; i < n; i++)
		if (dup2(fds[i], i < 4 ? 3 + i : FD_OUTPUT + i - 4) < 0)
			return err_set(e, errno, "cannot arrange descriptors: %s", strerror(errno));
	for (int i = 0; i < 3; i++)
		if (dup2(null, i) < 0)
			return err_set(e, errno, "cannot open /dev/null: %s", strerror(errno));
	if (dup3(*report, 7, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot arrange descriptors: %s", strerror(errno));

	*report = 7;
	close_from(8, FD_OUTPUT - 1);
	close_from((unsigned)high, ~0u);
	return 0;
}

/* What this service was given and a login is not: best effort. */
static void like_a_login(const struct rlimit *nofile)
{
	struct rlimit memlock = { RLIM_INFINITY, RLIM_INFINITY };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		if (write(fd, "0", 1) < 0)
			errno = 0;
		close(fd);
	}
	/* registered memory of InfiniBand; a container's root may only go to its limit */
	if (setrlimit(RLIMIT_MEMLOCK, &memlock) < 0 && getrlimit(RLIMIT_MEMLOCK, &memlock) == 0) {
		memlock.rlim_cur = memlock.rlim_max;
		setrlimit(RLIMIT_MEMLOCK, &memlock);
	}
	setrlimit(RLIMIT_NOFILE, nofile);
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
}

/* ---- rights ---------------------------------------------------------- */

static int set_ids(const struct identity *id, struct err *e)
{
	if (prctl(PR_SET_KEEPCAPS, 0L) < 0)
		return err_set(e, errno, "cannot clear keep-caps: %s", strerror(errno));
	if (setgroups((size_t)id->n_groups, id->groups) < 0)
		return err_set(e, errno, "setgroups: %s", strerror(errno));
	if (setresgid(id->gid, id->gid, id->gid) < 0)
		return err_set(e, errno, "setresgid(%u): %s", (unsigned)id->gid, strerror(errno));
	if (setresuid(id->uid, id->uid, id->uid) < 0)
		return err_set(e, errno, "setresuid(%u): %s", (unsigned)id->uid, strerror(errno));
	return 0;
}

static int drop_capabilities(struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 }, now[2];

	if (syscall(SYS_capset, &head, none) < 0 || syscall(SYS_capget, &head, now) < 0)
		return err_set(e, errno, "cannot drop capabilities: %s", strerror(errno));
	for (int i = 0; i < 2; i++)
		if (now[i].effective || now[i].permitted || now[i].inheritable)
			return err_set(e, EPERM, "capabilities are left after the drop");
	return 0;
}

static int prove_ids(const struct identity *id, struct err *e)
{
	static gid_t now[GROUPS_MAX];
	uid_t r, f, s;
	gid_t rg, fg, sg;
	int n = getgroups(GROUPS_MAX, now);

	if (getresuid(&r, &f, &s) < 0 || r != id->uid || f != id->uid || s != id->uid)
		return err_set(e, EPERM, "the uid is not %u after the drop", (unsigned)id->uid);
	if (getresgid(&rg, &fg, &sg) < 0 || rg != id->gid || fg != id->gid || sg != id->gid)
		return err_set(e, EPERM, "the gid is not %u after the drop", (unsigned)id->gid);
	if (n != id->n_groups)
		return err_set(e, EPERM, "%d groups after the drop, not %d", n, id->n_groups);
	for (int i = 0, k; i < n; i++) {
		for (k = 0; k < id->n_groups && id->groups[k] != now[i]; k++)
			;
		if (k == id->n_groups)
			return err_set(e, EPERM, "group %u is left after the drop",
				       (unsigned)now[i]);
	}
	return 0;
}

static int prove_no_return(const struct identity *id, struct err *e)
{
	if (setresuid((uid_t)-1, 0, (uid_t)-1) == 0 || setuid(0) == 0)
		return err_set(e, EPERM, "root can be regained after the drop");
	if (id->gid != 0 && setresgid((gid_t)-1, 0, (gid_t)-1) == 0)
		return err_set(e, EPERM, "group 0 can be regained after the drop");
	return 0;
}

static int become(const struct identity *id, struct err *e)
{
	int r = set_ids(id, e);

	if (r == 0 && id->uid != 0)
		r = drop_capabilities(e);
	if (r == 0)
		r = prove_ids(id, e);
	if (r == 0 && id->uid != 0)
		r = prove_no_return(id, e);
	/* not root's keys; a kernel without keyrings has none to leak */
	if (r == 0)
		syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
	return r;
}

/* ---- all of it ------------------------------------------------------- */

int launch_execute(const struct policy *p, const struct launcher_request *q, struct err *e)
{
	char job[24], attempt[12], nprocs[12], cookie[32 + LAUNCHER_COOKIE_MAX], agent[48];
	char *argv[] = { "nodeagent-shim", job, attempt, nprocs, NULL };
	char *env[] = { cookie, agent, NULL };

	snprintf(job, sizeof job, "%llu", (unsigned long long)q->job);
	snprintf(attempt, sizeof attempt, "%u", q->attempt);
	snprintf(nprocs, sizeof nprocs, "%u", q->nprocs);
	snprintf(cookie, sizeof cookie, "NODEAGENT_COOKIE=%s", q->cookie);
	snprintf(agent, sizeof agent, "NODEAGENT_AGENT_UID=%u", (unsigned)p->agent_uid);
	execve(p->shim, argv, env);
	return err_set(e, errno, "cannot execute %s: %s", p->shim, strerror(errno));
}

int launch_child(const struct policy *p, const struct launcher_request *q, int spec_fd,
		 int listen_fd, int *report, struct err *e)
{
	static int fds[4 + 2 * PROCS_MAX];
	struct identity id = { 0 };
	struct rlimit nofile;
	int r;

	fds[0] = spec_fd;
	fds[1] = listen_fd;
	r = launch_check_shim(p->shim, e);
	if (r == 0)
		r = look_up(q, &id, e);
	if (r == 0)
		r = look_up_groups(q->user, &id, e);
	if (r == 0)
		r = allow_files(q->nprocs, &nofile, e);
	if (r == 0)
		r = make_spool(p, q, fds, e);
	if (r == 0)
		r = cgroup_enter(q->job, q->attempt, e);
	if (r == -ENOSYS)
		r = 0; /* said once, at the start: the sweep has to do */
	if (r == 0)
		r = arrange(fds, q->nprocs, report, e);
	if (r < 0)
		return r;

	like_a_login(&nofile);
	r = chdir("/") < 0 ? err_set(e, errno, "chdir /: %s", strerror(errno)) : become(&id, e);
	return r;
}
