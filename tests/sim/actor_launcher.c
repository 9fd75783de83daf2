/* actor_launcher.c - nodeagent-launcher, between an agent and its shims
 *
 * Played after daemon/io/launcher_client.c and daemon/launcher/serve.c, for they
 * are all system calls: the agent asks over a socket that systemd holds, so a
 * question waits while the launcher is being restarted; the launcher forks for
 * each, and its child goes on when it dies. What was asked of one that died is
 * answered with an error (-EPIPE) whatever became of it: then the agent removes
 * the record, fails the launch, and a shim that was started all the same finds
 * nobody and leaves by itself.
 *
 * A shim's process is there, and stopped, from when it was asked for: its socket
 * listens already, as the real one does.
 *
 * Not played: cgroups, look-ups of users, its own limits and refusals.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { LC_TAKE, LC_REPLY };

struct ask {
	struct ask *next;
	struct done *done;
	uint32_t agent_life;
	struct shim_actor *shim; /* LAUNCH: what is started; KILL: what is swept */
	bool kill, forked, over;
	uint32_t swept;
};

void launcher_setup(struct agent_actor *a)
{
	a->launcher.kind = PK_LAUNCHER;
	a->launcher.idx = a->idx;
	proc_start(&a->launcher);
	a->asks = NULL;
}

static void take_in(struct sim *s, struct agent_actor *a, struct ask *q)
{
	if (a->launcher.up)
		world_at(&s->w, s->w.now + rng_range(&s->w.rng, 50000, 2 * MS), EV_LAUNCHER, &a->launcher,
			 LC_TAKE, q);
}

static struct ask *ask(struct sim *s, struct agent_actor *a, struct done *d, struct shim_actor *h)
{
	struct ask *q = world_alloc(&s->w, sizeof(*q));

	q->done = d;
	q->agent_life = a->proc.life;
	q->shim = h;
	q->next = a->asks;
	a->asks = q;
	take_in(s, a, q);
	return q;
}

void launcher_launch(struct sim *s, struct agent_actor *a, struct done *d, struct shim_actor *h)
{
	int64_t from = a->launcher_up_at > s->w.now ? a->launcher_up_at : s->w.now;

	if (a->launcher.resume_at > from)
		from = a->launcher.resume_at;
	world_stop(&s->w, &h->proc, from + 3 * MS);
	ask(s, a, d, h);
}

void launcher_kill(struct sim *s, struct agent_actor *a, struct done *d, struct shim_actor *h)
{
	ask(s, a, d, h)->kill = true;
}

static void answer(struct sim *s, struct agent_actor *a, struct ask *q, int error, const char *text)
{
	q->over = true;
	if (!a->proc.up || a->proc.life != q->agent_life)
		return;
	files_launcher_answered(s, a, q->done, q->kill, q->shim, error, text, q->swept);
}

static void take(struct sim *s, struct agent_actor *a, struct ask *q)
{
	int64_t runs = rng_range(&s->w.rng, MS, 20 * MS);

	if (q->over || q->forked)
		return;
	q->forked = true;
	if (!q->kill)
		world_stop(&s->w, &q->shim->proc, s->w.now + runs);
	else if (q->shim != NULL)
		q->swept = simshim_sweep(s, q->shim);
	world_at(&s->w, s->w.now + runs + MS, EV_LAUNCHER, &a->launcher, LC_REPLY, q);
}

static void reply(struct sim *s, struct agent_actor *a, struct ask *q)
{
	if (q->over)
		return;
	if (!q->kill && !q->shim->proc.up)
		answer(s, a, q, EIO, "the shim ended at once");
	else
		answer(s, a, q, 0, NULL);
}

void launcher_crash(struct sim *s, struct agent_actor *a, int64_t down_ns)
{
	if (!a->launcher.up)
		return;
	LINE(&s->w, proc_name(s, &a->launcher), "CRASHES after action %llu",
	     (unsigned long long)a->launcher.actions);
	a->launcher.up = false;
	a->launcher.life++;
	a->launcher.resume_at = 0;
	a->launcher_up_at = s->w.now + down_ns;
	for (struct ask *q = a->asks; q != NULL; q = q->next) {
		if (q->over)
			continue;
		if (!q->forked && !q->kill)
			simshim_unborn(s, q->shim);
		answer(s, a, q, EPIPE, "nodeagent-launcher has died; it is being started again");
	}
	world_at(&s->w, s->w.now + down_ns, EV_RESTART, &a->launcher, 0, NULL);
}

/* With its host, or after a reboot. */
void launcher_reboot(struct sim *s, struct agent_actor *a)
{
	(void)s;
	a->launcher.life++;
	launcher_setup(a);
}

void launcher_event(struct sim *s, struct agent_actor *a, const struct event *e)
{
	struct ask *q = e->p;

	if (e->kind == EV_RESTART) {
		proc_start(&a->launcher);
		for (q = a->asks; q != NULL; q = q->next)
			if (!q->over)
				take_in(s, a, q);
		return;
	}
	LINE(&s->w, proc_name(s, &a->launcher), "%s %s of job %llu", e->a == LC_TAKE ? "takes" : "answers",
	     q->kill ? "kill" : "launch", (unsigned long long)(q->shim != NULL ? q->shim->job : 0));
	if (e->a == LC_TAKE)
		take(s, a, q);
	else
		reply(s, a, q);
	proc_acted(s, &a->launcher, (uint32_t)e->a, NULL, 0);
}
