/* chores.c - around a shim's life: latch, sweep, clean, containers
 *
 * Not promised: that a process which cannot be killed is gone. It is named.
 */
#include "io/shims.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/containers.h"
#include "common/left.h"
#include "common/log.h"
#include "common/orphans.h"
#include "common/proc.h"
#include "io/launcher_client.h"
#include "io/spawn.h"

#define SWEEP_MS 1000 /* of a pool thread's time; the core tries again */
#define PAUSE_MS 10
#define PAUSE_MAX_MS 100
#define LEAF_WAIT_MS 300
#define LEAF_EMPTY_MS 2000 /* of a pool thread's time: mostly a few ms */

/* Sweeps run on several threads of the pool. */
static pthread_mutex_t orphans_lock = PTHREAD_MUTEX_INITIALIZER;
static struct orphans orphans;

struct chore {
	uv_work_t req;
	struct agent_io *io;
	enum { CHORE_LATCH, CHORE_SWEEP, CHORE_CLEAN } what;
	uint64_t ticket, job;
	uint32_t attempt;
	char cookie[65];
	struct proc_id shim; /* see struct job_io */
	char leaf[LEAF_PATH_MAX];
	int result;
	char left[360]; /* who was not ended, and why */
	char lines[2048]; /* of those, who got SIGKILL: common/left.h */
};

/* A second name of the held record, which carries the boot id: as exclusive as
 * O_EXCL, and no new file on the way to the start. */
static int take_latch(struct chore *c)
{
	char held[48], latch[48];

	shims_file(c->job, c->attempt, "held", held);
	shims_file(c->job, c->attempt, "latch", latch);
	return linkat(c->io->shims_dir, held, c->io->shims_dir, latch, 0) == 0 ? 0 : -errno;
}

/* How many live on that we wait for, or -errno. */
static int sweep_orphans(struct chore *c, struct orphan_sweep *o)
{
	int alive;

	pthread_mutex_lock(&orphans_lock);
	alive = orphans_pass(&orphans, o);
	orphans_tell(&orphans, o, c->left, sizeof(c->left));
	c->lines[0] = '\0';
	orphans_left(&orphans, o, c->lines, sizeof(c->lines));
	pthread_mutex_unlock(&orphans_lock);
	return alive;
}

static void tell_left(struct chore *c, const struct proc_id *p)
{
	size_t n = strlen(c->left);
	char who[48];

	proc_tell(p->pid, p->start_time, who);
	snprintf(c->left + n, sizeof(c->left) - n, "%s%s could not be ended", n > 0 ? "; " : "", who);
	left_add(c->lines, sizeof(c->lines), p);
}

/* By its cgroup where it has one; by the cookie, and, as their subreaper, by their coming to us when the shim
 * has died: a process may well have another environment. Those of a shim that an
 * earlier life of this agent started go to init, and only the cookie finds them. */
static int sweep(struct chore *c)
{
	mono_t end = mono_add_ms(clock_mono(), SWEEP_MS);
	struct orphan_sweep o = { .shim = c->shim };
	struct proc_id left, member;
	int alive, swept, all = leaf_kill(c->leaf, LEAF_WAIT_MS, &member), pause = PAUSE_MS;

	for (;; pause = 2 * pause < PAUSE_MAX_MS ? 2 * pause : PAUSE_MAX_MS) {
		int64_t ms = mono_sub_ms(end, clock_mono());

		swept = proc_sweep_env("NODEAGENT_COOKIE", c->cookie, ms > 0 ? (int)ms : 0, &left);
		all += swept > 0 ? swept : 0;
		alive = sweep_orphans(c, &o);
		/* what it leaves comes to us before it counts as dead */
		if (swept >= 0 && alive == 0 && c->shim.start_time != 0 &&
		    !proc_dead(c->shim.pid, c->shim.start_time)) {
			left = c->shim;
			swept = -ETIME;
		}
		if (swept >= 0 && alive == 0 && member.pid != 0 && !proc_dead(member.pid, member.start_time)) {
			left = member;
			swept = -ETIME;
		}
		if ((swept < 0 && swept != -ETIME) || alive < 0 || (swept >= 0 && alive == 0) ||
		    mono_due(end, clock_mono()))
			break;
		nanosleep(&(struct timespec){ .tv_nsec = pause * 1000000L }, NULL);
	}
	if (swept == -ETIME)
		tell_left(c, &left);
	if (swept < 0 || alive < 0)
		return swept < 0 ? swept : alive;
	return alive > 0 ? -ETIME : all + (int)o.killed;
}

/* The shim has said goodbye and is on its way out. */
static void clean(struct chore *c)
{
	int rc;

	shims_remove_files(c->io, c->job, c->attempt);
	rc = leaf_remove(c->leaf, LEAF_EMPTY_MS);
	if (rc != 0)
		log_job(LOG_LVL_WARN, c->job, c->attempt, "its cgroup /%s could not be removed: %s", c->leaf, strerror(-rc));
}

static void chore_work(uv_work_t *req)
{
	struct chore *c = list_entry(req, struct chore, req);

	if (c->what == CHORE_LATCH)
		c->result = take_latch(c);
	else if (c->what == CHORE_SWEEP)
		c->result = sweep(c);
	else
		clean(c);
}

static void log_left(struct agent_io *io, uint64_t job, uint32_t attempt, const char *left)
{
	struct job_io *j = job_io_find(io, job, attempt);

	if (left[0] == '\0' || (j != NULL && j->told_left))
		return;
	if (j != NULL)
		j->told_left = true;
	log_job(LOG_LVL_WARN, job, attempt, "its shim is dead; %s", left);
}

/* Lines of left.h as records: the event's. 'as_self': it was we who did the killing. */
static void add_stuck(struct later *l, const char *lines, bool as_self)
{
	struct rec_stuck_proc *v = arena_alloc(&l->arena, 16 * sizeof(*v));
	struct proc_stat st;
	struct left one;

	if (v == NULL)
		agent_no_memory();
	while (l->ev.n_stuck < 16 && (lines = left_next(lines, &one)) != NULL) {
		if (proc_read(one.id.pid, &st) || st.start_time != one.id.start_time)
			continue; /* gone meanwhile */
		if (st.state == 't')
			continue; /* held by a tracer: that is no fault of the node, and any user could do it */
		v[l->ev.n_stuck] = (struct rec_stuck_proc){ .pid = (uint32_t)one.id.pid,
							    .start_time = one.id.start_time,
							    .name = arena_strdup(&l->arena, st.name),
							    .text = arena_strdup(&l->arena, one.text) };
		if (as_self && left_foreign(&one.id)) /* the launcher may signal all */
			MSG_SET(&v[l->ev.n_stuck], stuck_proc, foreign, true);
		l->ev.n_stuck++;
	}
	l->ev.stuck = v;
}

/* error 0, or why it must be done again; left: who was not ended. */
static void swept(struct agent_io *io, uint64_t ticket, int error, uint32_t result, const char *left,
		  const char *lines)
{
	struct later *l = agent_later_new(AEV_DONE);

	l->ev.ticket = ticket;
	l->ev.error = error;
	l->ev.retry = error != 0;
	l->ev.result = result;
	if (left[0] != '\0' && (l->ev.text = arena_strdup(&l->arena, left)) == NULL)
		agent_no_memory();
	if (lines[0] != '\0')
		add_stuck(l, lines, io->launcher == NULL);
	agent_later(io, l);
}

static void chore_after(uv_work_t *req, int status)
{
	struct chore *c = list_entry(req, struct chore, req);
	char text[128];

	if (c->what == CHORE_SWEEP)
		log_left(c->io, c->job, c->attempt, c->left);
	if (c->what == CHORE_SWEEP && c->result == -ETIME && c->left[0] != '\0') {
		swept(c->io, c->ticket, c->result, 0, c->left, c->lines);
	} else if (c->what != CHORE_CLEAN && c->result < 0) {
		snprintf(text, sizeof(text), c->what == CHORE_LATCH ?
			 "cannot take the start latch in the run directory: %s" :
			 "processes of the job may be left: %s", strerror(-c->result));
		agent_done(c->io, c->ticket, c->result, true, text);
	} else if (c->what != CHORE_CLEAN) {
		swept(c->io, c->ticket, 0, (uint32_t)c->result, c->left, c->lines);
	}
	free(c);
}

static void do_chore(struct agent_io *io, int what, uint64_t ticket, uint64_t job, uint32_t attempt,
		     const char *cookie)
{
	const struct job_io *j = job_io_find(io, job, attempt);
	struct chore *c = agent_alloc(sizeof(*c));

	c->io = io;
	c->what = what;
	c->ticket = ticket;
	c->job = job;
	c->attempt = attempt;
	snprintf(c->cookie, sizeof(c->cookie), "%s", cookie);
	if (j != NULL) {
		c->shim = j->shim;
		memcpy(c->leaf, j->leaf, sizeof(c->leaf));
	}
	uv_queue_work(&io->loop, &c->req, chore_work, chore_after);
}

void shims_latch(struct agent_io *io, const struct action *a)
{
	do_chore(io, CHORE_LATCH, a->ticket, a->job, a->attempt, "");
}

struct sweep {
	struct agent_io *io;
	uint64_t ticket, job;
	uint32_t attempt;
};

static void launcher_swept(void *arg, int error, uint32_t result, const char *text)
{
	struct sweep *s = arg;

	if (error == 0 || error == -ETIME)
		log_left(s->io, s->job, s->attempt, text != NULL ? text : "");
	if (error != 0 && error != -ETIME)
		agent_done(s->io, s->ticket, error, true, text);
	else
		swept(s->io, s->ticket, error, result, text != NULL ? text : "",
		      text != NULL ? text + strlen(text) + 1 : "");
	free(s);
}

void shims_sweep(struct agent_io *io, const struct action *a)
{
	struct launcher_request r = { .op = LAUNCHER_KILL, .job = a->job, .attempt = a->attempt };
	struct sweep *s;

	if (io->launcher == NULL) {
		do_chore(io, CHORE_SWEEP, a->ticket, a->job, a->attempt, a->cookie);
		return;
	}
	s = agent_alloc(sizeof(*s));
	*s = (struct sweep){ io, a->ticket, a->job, a->attempt };
	snprintf(r.cookie, sizeof(r.cookie), "%s", a->cookie);
	launcher_client_ask(io->launcher, &r, NULL, launcher_swept, s);
}

/* On a thread of the pool: all of /proc is looked at. */
struct hunt {
	uv_work_t req;
	struct agent_io *io;
	uint64_t ticket;
	pid_t shim;
	pid_t *pids;
	size_t n;
	struct container_client found;
	int rc;
};

static void hunt_work(uv_work_t *req)
{
	struct hunt *h = list_entry(req, struct hunt, req);

	h->rc = container_find(h->shim, h->pids, h->n, &h->found);
}

static void hunt_after(uv_work_t *req, int status)
{
	struct hunt *h = list_entry(req, struct hunt, req);
	struct later *l = agent_later_new(AEV_DONE);

	l->ev.ticket = h->ticket;
	if (h->rc == 1) {
		l->ev.result = UINT32_MAX;
		for (size_t i = 0; i < h->n; i++)
			if (h->found.below != 0 && h->pids[i] == h->found.below)
				l->ev.result = (uint32_t)i + 1;
		l->ev.text = arena_strdup(&l->arena, h->found.text);
		if (l->ev.text == NULL)
			agent_no_memory();
	}
	agent_later(h->io, l);
	free(h->pids);
	free(h);
}

void shims_containers(struct agent_io *io, const struct action *a)
{
	struct hunt *h = agent_alloc(sizeof(*h));

	h->io = io;
	h->ticket = a->ticket;
	h->shim = (pid_t)a->shim_pid;
	h->n = a->n_pids;
	h->pids = agent_alloc((h->n + 1) * sizeof(*h->pids));
	for (size_t i = 0; i < h->n; i++)
		h->pids[i] = (pid_t)a->pids[i];
	uv_queue_work(&io->loop, &h->req, hunt_work, hunt_after);
}

void shims_clean(struct agent_io *io, uint64_t job, uint32_t attempt)
{
	struct launcher_request r = { .op = LAUNCHER_CLEAN, .job = job, .attempt = attempt };

	do_chore(io, CHORE_CLEAN, 0, job, attempt, "");
	if (io->launcher != NULL)
		launcher_client_ask(io->launcher, &r, NULL, NULL, NULL);
}

void chores_start(void)
{
	orphans_init(&orphans, spawn_is_ours);
	if (orphans.doubt != NULL)
		log_info("what a killed shim leaves is ended when it has the job's cookie; any other orphan is named "
			 "and left alone, for this agent cannot tell whose it is: %s", orphans.doubt);
}
