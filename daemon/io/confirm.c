/* confirm.c - see confirm.h */
#include "io/confirm.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/left.h"
#include "common/proc_sys.h"
#include "io/agent_io.h"

#define THREADS_MAX 4096 /* of more, the first are looked at */
#define DEPTH_MAX 1024
#define CLAIMS_MAX 16
#define PAUSE_MS 500

static const char *field(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at != NULL ? at + strlen(name) : NULL;
}

static bool has_kill(const char *mask)
{
	return mask != NULL && (strtoull(mask, NULL, 16) >> (SIGKILL - 1) & 1) != 0;
}

bool confirm_parse(const char *status, struct confirm_thread *ret)
{
	const char *state = field(status, "\nState:\t"), *uid = field(status, "\nUid:\t");
	char *at;

	if (state == NULL || uid == NULL)
		return false;
	ret->state = *state;
	ret->uid = (uint32_t)strtoul(uid, &at, 10);
	strtoul(at, &at, 10); /* the effective one */
	ret->saved_uid = (uint32_t)strtoul(at, NULL, 10);
	ret->killed = has_kill(field(status, "\nSigPnd:\t")) || has_kill(field(status, "\nShdPnd:\t"));
	return true;
}

bool confirm_killed(const struct confirm_thread *v, size_t n)
{
	size_t live = 0;

	for (size_t i = 0; i < n; i++) {
		if (v[i].state == 'Z' || v[i].state == 'X')
			continue;
		if (!v[i].killed || v[i].state == 't' || v[i].state == 'T')
			return false;
		live++;
	}
	return live > 0;
}

void confirm_text(char *out, size_t size, const char *seen, const char *said)
{
	const char *where = said != NULL && strstr(seen, " in ") == NULL ? strstr(said, " in ") : NULL;
	size_t n = 0;

	if (where != NULL)
		while (n < 64 && (isalnum((unsigned char)where[4 + n]) || where[4 + n] == '_' || where[4 + n] == '.'))
			n++;
	if (n > 0)
		snprintf(out, size, "%s%.*s", seen, (int)(4 + n), where);
	else
		snprintf(out, size, "%s", seen);
}

/* ---- what there is to see ---------------------------------------------------------- */

static bool read_thread(pid_t pid, const char *tid, struct confirm_thread *ret)
{
	char name[64], text[4096];
	struct proc_stat st;

	snprintf(name, sizeof(name), "task/%s/status", tid);
	if (proc_read_file(pid, name, text, sizeof(text)) <= 0 || !confirm_parse(text, ret))
		return false;
	if (proc_read((pid_t)atoi(tid), &st) == 0 && st.exiting) /* /proc/TID is there, though not listed */
		ret->killed = true;
	return true;
}

/* The threads that there are; what ends meanwhile is left out. */
static size_t read_threads(pid_t pid, struct confirm_thread *v, size_t max)
{
	char path[32];
	struct dirent *e;
	size_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d != NULL && n < max && (e = readdir(d)) != NULL)
		if (isdigit((unsigned char)e->d_name[0]) && read_thread(pid, e->d_name, &v[n]))
			n++;
	if (d != NULL)
		closedir(d);
	return n;
}

/* Is 'pid' a descendant of this process? */
static bool below(pid_t pid, pid_t root)
{
	struct proc_stat st;

	for (int i = 0; i < DEPTH_MAX && pid > 1; i++) {
		if (proc_read(pid, &st) != 0)
			return false;
		if (st.ppid == root)
			return true;
		pid = st.ppid;
	}
	return false;
}

/* By what the user has no hand in: the job's cgroup, or the shim that was started for it. */
static bool surely_of(const struct confirm_job *j, pid_t pid)
{
	if (j->cgroup[0] != '\0' && left_in_cgroup(pid, j->cgroup))
		return true;
	return j->shim.start_time != 0 && !proc_dead(j->shim.pid, j->shim.start_time) && below(pid, j->shim.pid);
}

static bool has_cookie(const struct confirm_job *j, pid_t pid)
{
	char wanted[96];
	struct buf env;
	bool found = false;

	if (j->cookie[0] == '\0' || j->uid != geteuid())
		return false;
	snprintf(wanted, sizeof(wanted), "NODEAGENT_COOKIE=%.70s", j->cookie);
	buf_init(&env);
	if (proc_sys_environ(pid, &env) == 0 && !buf_failed(&env)) {
		const char *p = buf_str(&env), *end = p + env.len;

		for (; p < end && !found; p += strlen(p) + 1)
			found = strcmp(p, wanted) == 0;
	}
	buf_finish(&env);
	return found;
}

/* By the word of the shim, or what its user could have set: good for that user's own processes only. */
static bool maybe_of(const struct confirm_job *j, pid_t pid, const struct confirm_thread *t)
{
	return t->uid == j->uid && ((j->said > 1 && below(pid, j->said)) || has_cookie(j, pid));
}

bool confirm_stuck(const struct confirm_job *j, const struct rec_stuck_proc *claim, struct arena *a,
		   struct rec_stuck_proc *ret)
{
	const struct proc_id id = { (pid_t)claim->pid, claim->start_time };
	struct confirm_thread *v = calloc(THREADS_MAX, sizeof(*v));
	char seen[LEFT_TEXT_MAX], text[LEFT_TEXT_MAX];
	size_t n = v != NULL && id.pid > 1 ? read_threads(id.pid, v, THREADS_MAX) : 0;
	bool sure = n > 0 && surely_of(j, id.pid), foreign, ok;
	struct proc_stat st;

	foreign = n > 0 && sure && claim->foreign && v[0].uid != j->uid && v[0].saved_uid != j->uid;
	ok = n > 0 && (foreign || (confirm_killed(v, n) && (sure || maybe_of(j, id.pid, &v[0]))));
	free(v);
	/* last: all that was read was read of this process, if it is there still */
	if (!ok || proc_read(id.pid, &st) != 0 || st.start_time != id.start_time || st.dead)
		return false;
	if (foreign)
		left_tell(&id, seen, sizeof(seen));
	else
		left_tell_state(id.pid, seen, sizeof(seen)); /* that *we* may not signal it is nothing to tell */
	confirm_text(text, sizeof(text), seen, claim->text);
	*ret = (struct rec_stuck_proc){ .pid = claim->pid, .start_time = id.start_time,
					.name = arena_strdup(a, st.name), .text = arena_strdup(a, text) };
	if (foreign)
		MSG_SET(ret, stuck_proc, foreign, true);
	return ret->name != NULL && ret->text != NULL;
}

/* ---- ACT_CONFIRM ------------------------------------------------------------------------ */

struct confirming {
	uv_work_t req;
	struct agent_io *io;
	struct confirm_job job;
	char cookie[65], cgroup[LEAF_PATH_MAX];
	struct later *answer;
	struct rec_stuck_proc claims[CLAIMS_MAX], seen[CLAIMS_MAX];
	size_t n;
};

static void confirm_work(uv_work_t *req)
{
	struct confirming *c = list_entry(req, struct confirming, req);
	size_t n = 0;

	for (int look = 0; look < 2 && c->n > 0; look++, c->n = n) {
		n = 0;
		if (look > 0)
			nanosleep(&(struct timespec){ .tv_nsec = PAUSE_MS * 1000000L }, NULL);
		for (size_t i = 0; i < c->n; i++)
			if (confirm_stuck(&c->job, &c->claims[i], &c->answer->arena, &c->seen[n]))
				c->claims[n++] = c->claims[i];
	}
}

static void confirm_after(uv_work_t *req, int status)
{
	struct confirming *c = list_entry(req, struct confirming, req);
	struct agent_event *ev = &c->answer->ev;
	struct rec_stuck_proc *v = arena_alloc(&c->answer->arena, sizeof(c->seen));

	if (v == NULL) {
		agent_no_memory();
		return; /* it does not come here, which cppcheck cannot see */
	}
	memcpy(v, c->seen, sizeof(c->seen));
	ev->stuck = v;
	ev->n_stuck = c->n;
	agent_later(c->io, c->answer);
	free(c);
}

/* The directory's name; the launcher's cgroups are named by it (launcher/cgroup.c). */
static void name_cgroup(struct confirming *c, const struct job_io *j, const struct action *a)
{
	const char *slash = j != NULL ? strrchr(j->leaf, '/') : NULL;

	if (c->io->launcher != NULL)
		snprintf(c->cgroup, sizeof(c->cgroup), "nodeagent-%" PRIu64 ".%u", a->job, a->attempt);
	else if (j != NULL)
		snprintf(c->cgroup, sizeof(c->cgroup), "%s", slash != NULL ? slash + 1 : j->leaf);
}

void confirm_begin(struct agent_io *io, const struct action *a)
{
	const struct job_io *j = job_io_find(io, a->job, a->attempt);
	struct confirming *c = agent_alloc(sizeof(*c));

	c->io = io;
	c->answer = agent_later_new(AEV_DONE);
	c->answer->ev.ticket = a->ticket;
	name_cgroup(c, j, a);
	snprintf(c->cookie, sizeof(c->cookie), "%s", a->cookie);
	c->job = (struct confirm_job){ .uid = a->prepare->uid, .said = (pid_t)a->shim_pid, .cgroup = c->cgroup,
				       .cookie = c->cookie };
	if (j != NULL)
		c->job.shim = j->started;
	for (; c->n < a->n_procs && c->n < CLAIMS_MAX; c->n++) {
		c->claims[c->n] = a->procs[c->n];
		c->claims[c->n].text = a->procs[c->n].text != NULL ?
					       arena_strdup(&c->answer->arena, a->procs[c->n].text) : NULL;
	}
	uv_queue_work(&io->loop, &c->req, confirm_work, confirm_after);
}
