/* stuck.c - processes in state D: they outlive SIGKILL for a while, and their hosts get no new jobs
 *
 * Such a process runs nothing of its user any more, so it counts as gone where
 * ranks must not run twice; and it must be told, stored, and told again when it
 * has gone, or the host would be left out for ever (the late job shows it).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/scenario.h"

bool stuck_now(const struct sim *s, const struct worker *w)
{
	return w->alive && s->w.now < w->undying;
}

void stuck_begin(struct sim *s, struct shim_actor *h, struct worker *w)
{
	if (h->plan->undying == 0 || !w->alive || !rng_chance(&s->w.rng, h->plan->undying))
		return;
	w->stubborn = true;
	w->undying = s->w.now + rng_range(&s->w.rng, 20 * SECOND, 90 * SECOND);
	check_job(s, h->job)->lost_allowed = true; /* it may be given up */
}

/* Its shim is dead, and a SIGKILL has waited for it. */
static void die_at_last(const struct sim *s, struct shim_actor *h)
{
	for (uint32_t i = 0; i < h->n_workers && !h->proc.up; i++) {
		struct worker *w = &h->workers[i];

		if (!w->alive || !w->killed || stuck_now(s, w))
			continue;
		w->alive = false;
		if (i < h->nprocs && h->execs[i] != NULL)
			h->execs[i]->end = EX_VANISHED;
	}
}

uint32_t stuck_mortal(const struct sim *s, struct shim_actor *h)
{
	uint32_t n = 0;

	die_at_last(s, h);

	for (uint32_t i = 0; i < h->n_workers; i++)
		n += h->workers[i].alive && !stuck_now(s, &h->workers[i]);
	return n;
}

/* Named by pid and, as its start time, until when it lives: no two are equal. */
size_t stuck_list(const struct sim *s, const struct shim_actor *h, struct rec_stuck_proc *v, size_t max)
{
	size_t n = 0;

	for (uint32_t i = 0; i < h->n_workers && n < max; i++) {
		if (!stuck_now(s, &h->workers[i]))
			continue;
		v[n] = (struct rec_stuck_proc){ .pid = h->workers[i].pid, .name = "python",
						.start_time = (uint64_t)h->workers[i].undying };
		v[n++].text = "state D (disk sleep)";
	}
	return n;
}

void stuck_tell(struct sim *s, struct shim_actor *h)
{
	struct rec_stuck_proc v[16];
	struct msg m;
	struct buf b;

	msg_init(&m, MSG_shim_stuck);
	m.u.shim_stuck.procs = v;
	m.u.shim_stuck.n_procs = stuck_list(s, h, v, 16);
	h->gave_up = true;
	buf_init(&b);
	if (h->agent == NULL)
		sim_fail(s, "a shim tells of stuck processes only to an agent that is there");
	else if (msg_encode(&m, &b, NULL) == 0)
		net_send(s, h->agent, 1, b.data, b.len);
	buf_finish(&b);
}

uint32_t stuck_look(const struct sim *s, const struct agent_actor *a, const struct action *act)
{
	uint32_t alive = 0;

	for (uint32_t i = 0; i < s->n_shims; i++)
		die_at_last(s, s->shims[i]);
	for (uint32_t i = 0; i < s->n_shims; i++)
		die_at_last(s, s->shims[i]);

	for (size_t k = 0; k < act->n_procs; k++)
		for (uint32_t i = 0; i < s->n_shims; i++) {
			const struct shim_actor *h = s->shims[i];

			for (uint32_t n = 0; h->host == a->idx && n < h->n_workers; n++)
				if (h->workers[n].alive && h->workers[n].pid == act->procs[k].pid &&
				    (uint64_t)h->workers[n].undying == act->procs[k].start_time)
					alive |= 1u << k;
		}
	return alive;
}

/* ---- no new jobs there ----------------------------------------------------------------- */

static struct agent_actor *named(struct sim *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (strcmp(s->agents[i].name, name) == 0)
			return &s->agents[i];
	return NULL;
}

static void look_at_choice(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);

	if (strcmp(r->state, "preparing") != 0 || r->attempt == j->stuck_attempt)
		return;
	j->stuck_attempt = r->attempt;
	for (size_t i = 0; i < r->n_places; i++) {
		const struct agent_actor *a = named(s, r->places[i].node);

		if (a != NULL && a->cordoned)
			sim_fail(s, "where a process cannot be killed, no new job is placed (job %" PRIu64 " on %s)",
				 r->job, a->name);
	}
}

static void take_row(struct sim *s, const char *json, size_t len, bool loaded)
{
	struct agent_actor *a;
	struct msg m;

	if (json == NULL || msg_decode(json, len, &m, NULL) < 0)
		return;
	if (m.type == MSG_row_node && (a = named(s, m.u.row_node.node)) != NULL)
		a->cordoned = m.u.row_node.n_stuck > 0;
	else if (m.type == MSG_row_job && loaded)
		check_job(s, m.u.row_job.job)->stuck_attempt = m.u.row_job.attempt;
	else if (m.type == MSG_row_job)
		look_at_choice(s, &m.u.row_job);
	msg_finish(&m);
}

/* What is asked to be stored is what is in memory: from here on it holds. */
void stuck_row(struct sim *s, const struct store_row *r)
{
	if (s->undying)
		take_row(s, r->json, r->len, false);
}

/* A coordinator that starts knows what is on disk. */
void stuck_loaded(struct sim *s, const char *json, size_t len)
{
	if (s->undying)
		take_row(s, json, len, true);
}

/* ---- what happens ------------------------------------------------------------------------ */

/* Ranks that hang in the kernel, jobs that come meanwhile, and anybody may die. */
void scn_undying(struct sim *s)
{
	static const enum fault_kind kinds[] = { FT_AGENT_CRASH, FT_COORD_CRASH, FT_SHIM_KILL, FT_REBOOT };
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, s->n_agents),
				      (uint32_t)rng_range(&s->w.rng, 1, 2));
	int more = (int)rng_range(&s->w.rng, 1, 3), faults = (int)rng_range(&s->w.rng, 0, 3);

	s->undying = true;
	s->node_lost_ms = 120000;
	k->plan->run_ms = 60000;
	k->plan->undying = 500;
	k->plan->grace_ms = 500;
	k->kill_in = "running";
	k->kill_after = scn_ms(s, 0, 2000);
	for (int i = 0; i < more; i++) {
		k = client_add(s, (uint32_t)rng_below(&s->w.rng, s->n_agents), scn_ms(s, 0, 90000));
		k->plan->nnodes = (uint32_t)rng_range(&s->w.rng, 1, s->n_agents);
		k->plan->run_ms = 300;
	}
	for (int i = 0; i < faults; i++)
		fault_at(s, scn_ms(s, 1000, 60000), kinds[rng_below(&s->w.rng, 4)],
			 (uint32_t)rng_below(&s->w.rng, s->n_agents), scn_ms(s, 100, 4000));
	s->heal_at = s->heal_at > 120 * SECOND ? s->heal_at : 120 * SECOND;
	k = client_add(s, 0, s->heal_at + scn_ms(s, 18000, 25000));
	k->plan->nnodes = s->n_agents;
	k->plan->run_ms = 50;
	k->late = true;
}
