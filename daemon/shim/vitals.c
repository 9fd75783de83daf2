/* vitals.c - the host's part of pulse.c: whom it looks at, how far they are, and telling the agent
 *
 * Nothing of this decides anything, so it does not pass through the machine. An agent
 * that does not know of it (it has not set pulse_ms) is told nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "common/proc.h"
#include "shim/host.h"

#define WINDOW 4096 /* of a stream: the last bar is in there */
#define VITALS_RANKS 8 /* whose output is searched for a bar: rank 0 prints it, as a rule */
#define TRAINER_LOG "NODEAGENT_TRAINER_LOG="

/* ---- whom ------------------------------------------------------------------ */

/* Workers are whom it is about; their launcher only waits for them. */
static size_t of_workers(const struct host *h, struct pulse_target *v, size_t max)
{
	const struct worker *k;
	size_t n = 0;

	for (size_t i = 0; h->workers && n < max && (k = workers_live(h->workers, i)) != NULL; i++)
		v[n++] = (struct pulse_target){ k->rank, true, k->pid, k->start_time };
	return n;
}

static size_t targets(const struct host *h, struct pulse_target *v, size_t max)
{
	size_t n = of_workers(h, v, max);

	for (uint32_t i = 0; n == 0 && i < h->nprocs && i < max; i++)
		v[i] = (struct pulse_target){ .rank = h->setup.rank_base + i, .pid = shim_rank_pid(h->machine, i) };
	if (n > 0)
		return n;
	for (uint32_t i = 0; i < h->nprocs && i < max; i++) /* those that live, moved together */
		if (v[i].pid > 0 && proc_start_time(v[i].pid, &v[i].start_time) == 0)
			v[n++] = v[i];
	return n;
}

/* ---- how far ----------------------------------------------------------------- */

static bool from_output(const struct host *h, struct progress *ret)
{
	bool bar = false;

	for (uint32_t i = 0; !bar && i < 2 * h->nprocs && i < 2 * VITALS_RANKS; i++) {
		size_t n;
		char *p = output_window(h->out, i ^ 1, 0, WINDOW, &n); /* standard error first */

		bar = p && progress_bar(p, n, ret);
		if (bar)
			progress_loss(p, n, ret->loss);
		free(p);
		p = bar && !ret->loss[0] ? output_window(h->out, i, 0, WINDOW, &n) : NULL;
		if (p)
			progress_loss(p, n, ret->loss);
		free(p);
	}
	return bar;
}

/* The log says more than the bar. */
static bool look_at_step(struct host *h)
{
	struct progress now;
	bool any = h->trainlog && trainlog_look(h->trainlog, &now);

	if (!any && !from_output(h, &now))
		return false;
	if (!mono_is_never(h->step_at) && now.step == h->step.step && now.steps == h->step.steps &&
	    strcmp(now.loss, h->step.loss) == 0)
		return false;
	h->step = now;
	h->step_at = host_now();
	return true;
}

static void fill_step(const struct host *h, struct rec_train_step *s)
{
	*s = (struct rec_train_step){ .step = h->step.step, .source = h->step.bar ? "tqdm" : "trainer_log",
				      .loss = h->step.loss[0] ? h->step.loss : NULL };
	if (h->step.steps)
		MSG_SET(s, train_step, steps, h->step.steps);
	if (h->step.has_left)
		MSG_SET(s, train_step, left_s, h->step.left_s);
	MSG_SET(s, train_step, age_ms, (uint64_t)mono_sub_ms(host_now(), h->step_at));
}

/* ---- telling ------------------------------------------------------------------ */

static void tell(struct host *h)
{
	struct rec_rank_pulse *v = calloc(PULSE_RANKS, sizeof *v);
	struct rec_train_step step;
	struct msg m;

	if (!v)
		return;
	msg_init(&m, MSG_pulse);
	m.u.pulse.job = h->job;
	m.u.pulse.attempt = h->attempt;
	m.u.pulse.ranks = v;
	m.u.pulse.n_ranks = pulse_list(h->pulse, host_now(), v, PULSE_RANKS);
	if (!mono_is_never(h->step_at)) {
		fill_step(h, &step);
		m.u.pulse.step = &step;
		m.u.pulse.n_step = 1;
	}
	pulse_told(h->pulse, host_now());
	if (!channel_send_msg(&h->conn, &m))
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
	free(v);
}

static const char *trainer_log(const struct host *h)
{
	size_t n = sizeof TRAINER_LOG - 1;

	for (uint32_t i = 0; i < h->spec.envc; i++)
		if (strncmp(h->spec.env[i], TRAINER_LOG, n) == 0 && h->spec.env[i][n])
			return h->spec.env[i] + n;
	return NULL;
}

void vitals_began(struct host *h)
{
	const char *path = trainer_log(h);

	h->step_at = MONO_NEVER;
	if (h->setup.pulse_ms == 0)
		return;
	h->pulse = pulse_create(h->setup.pulse_ms, host_now());
	if (h->pulse && path && h->setup.node_rank == 0) /* rank 0 writes it */
		h->trainlog = trainlog_create(path);
}

mono_t vitals_due(const struct host *h)
{
	return h->pulse && shim_running(h->machine) ? pulse_due(h->pulse) : MONO_NEVER;
}

void vitals_look(struct host *h)
{
	static struct pulse_target v[PULSE_RANKS];
	bool news = pulse_look(h->pulse, v, targets(h, v, PULSE_RANKS), host_now());

	news = look_at_step(h) || news;
	if (news && h->conn.fd >= 0)
		tell(h);
}

void vitals_finish(struct host *h)
{
	pulse_destroy(h->pulse);
	trainlog_destroy(h->trainlog);
}
