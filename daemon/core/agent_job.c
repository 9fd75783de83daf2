/* agent_job.c - life of a job's part on this node
 *
 *   fetching -> spawning -> setup -> ready -> latching -> starting -> running
 *       |           |         |        |                               |
 *       v           v         v        v          (shim dead)          v
 *     failed <------+---------+     ended <------- sweeping <-------- ended
 *
 * 'prepare', 'start', 'end', 'forget' may come twice; the second time is
 * answered from what is known. The latch is taken before the shim is told to
 * go, once, and the shim itself goes once in its life: so no rank is started
 * twice whoever dies in between. A dead shim means its ranks are ended and lost.
 */
#include "core/agent_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define SWEEP_RETRY_MS 1000
#define SWEEP_GIVE_UP_MS 30000 /* who still lives then cannot be ended */

const char *ajob_phase_name(enum job_phase p)
{
	static const char *const names[AJ_PHASES] = {
		[AJ_FETCHING] = "preparing", [AJ_SPAWNING] = "preparing",
		[AJ_SETUP] = "preparing",    [AJ_READY] = "ready",
		[AJ_LATCHING] = "starting",  [AJ_STARTING] = "starting",
		[AJ_RUNNING] = "running",    [AJ_SWEEPING] = "running",
		[AJ_FAILED] = "preparing",   [AJ_ENDED] = "ended",
		[AJ_ADOPTING] = "starting",  [AJ_UNKNOWN] = "starting",
	};

	return names[p];
}

bool ajob_alive(const struct ajob *j)
{
	return j->phase != AJ_ENDED && j->phase != AJ_FAILED;
}

struct ajob *ajob_find(const struct agent *a, uint64_t job, uint32_t attempt)
{
	list_foreach(e, &a->jobs) {
		struct ajob *j = list_entry(e, struct ajob, all);

		if (j->job == job && j->attempt == attempt)
			return j;
	}
	return NULL;
}

bool ajobs_adopting(const struct agent *a)
{
	list_foreach(e, &a->jobs)
		if (list_entry(e, struct ajob, all)->phase == AJ_ADOPTING)
			return true;
	return false;
}

static void free_ras(struct ajob *j)
{
	for (size_t i = 0; i < j->n_ras; i++)
		free(j->ras[i]);
	free(j->ras);
	j->ras = NULL;
	j->n_ras = 0;
}

static void free_start_env(struct ajob *j)
{
	for (size_t i = 0; i < j->n_start_env; i++)
		free(j->start_env[i]);
	j->n_start_env = 0;
}

void ajob_free(struct agent *a, struct ajob *j)
{
	list_remove(&j->all);
	for (uint32_t i = 0; j->ranks != NULL && i < j->prepare.u.prepare.nprocs; i++) {
		free(j->ranks[i].text);
		free(j->ranks[i].cause);
		free((void *)j->ranks[i].tail.p);
		below_free(&j->ranks[i].below);
	}
	free_ras(j);
	free_start_env(j);
	free(j->ranks);
	free(j->prepare_json);
	free(j->fail_text);
	free(j->end_text);
	msg_finish(&j->pulse);
	msg_finish(&j->prepare);
	if (j->has_nccl)
		msg_finish(&j->nccl);
	free(j);
	(void)a;
}

/* Takes a prepare message apart into memory of its own. */
struct ajob *ajob_new(struct agent *a, const char *json, size_t len)
{
	struct ajob *j = calloc(1, sizeof(*j));

	if (j == NULL || msg_decode(json, len, &j->prepare, NULL) < 0) {
		free(j);
		return NULL;
	}
	list_init(&j->all);
	j->run_since = j->look_at = j->sweep_at = j->sweep_until = MONO_NEVER;
	j->job = j->prepare.u.prepare.job;
	j->attempt = j->prepare.u.prepare.attempt;
	j->prepare_json = strndup(json, len);
	j->ranks = calloc(j->prepare.u.prepare.nprocs + 1, sizeof(*j->ranks));
	if (j->prepare.type != MSG_prepare || j->prepare_json == NULL || j->ranks == NULL) {
		ajob_free(a, j);
		return NULL;
	}
	for (uint32_t i = 0; i < j->prepare.u.prepare.nprocs; i++)
		snprintf(j->ranks[i].state, sizeof(j->ranks[i].state), "waiting");
	list_append(&a->jobs, &j->all);
	return j;
}

struct action *ajob_action(struct agent *a, struct ajob *j, enum action_type t,
				 uint64_t *ticket)
{
	struct action *x = act_add(a->out, t);

	x->job = j->job;
	x->attempt = j->attempt;
	x->prepare = &j->prepare.u.prepare; /* lives at least as long as the job */
	x->prepare_json = j->prepare_json;
	x->cookie = j->cookie;
	x->lineage = a->lineage;
	if (ticket != NULL)
		*ticket = x->ticket = ++a->next_ticket;
	return x;
}

/* A freed job's memory must outlive the actions of this step. */
static void forget_job(struct agent *a, struct ajob *j)
{
	struct action *x = act_add(a->out, ACT_CLEAN);

	x->job = j->job;
	x->attempt = j->attempt;
	ajob_free(a, j);
}

void ajob_send_shim(struct agent *a, struct ajob *j, const struct msg *m)
{
	if (j->shim_link != 0)
		act_send(a->out, j->shim_link, m);
}

static void send_bye(struct agent *a, struct ajob *j, bool settled)
{
	struct msg m;

	if (j->bye_sent || j->shim_link == 0)
		return;
	j->bye_sent = true;
	msg_init(&m, MSG_shim_bye);
	if (settled)
		MSG_SET(&m.u.shim_bye, shim_bye, settled, true);
	ajob_send_shim(a, j, &m);
}

void ajob_send_shim_end(struct agent *a, struct ajob *j)
{
	struct msg m;

	msg_init(&m, MSG_shim_end);
	m.u.shim_end.grace_ms = j->end_grace_ms;
	ajob_send_shim(a, j, &m);
}

/* ---- ending ------------------------------------------------------------------------ */

void ajob_ended(struct agent *a, struct ajob *j)
{
	j->phase = AJ_ENDED;
	j->ended_at = a->now;
	if (j->prepare.u.prepare.gpus != NULL && j->prepare.u.prepare.gpus[0] != '\0')
		readings_wanted(a);
	report_ended(a, j);
	if (a->stopping)
		send_bye(a, j, false);
}

/* Preparing went wrong here. The coordinator answers with 'end' for the others'
 * sake. The shim stays until 'forget': it knows the reason if we are restarted. */
void ajob_failed(struct agent *a, struct ajob *j, uint32_t code, bool retry, const char *text)
{
	if (j->phase == AJ_FAILED || j->phase == AJ_ENDED)
		return;
	j->phase = AJ_FAILED;
	j->fail_code = code;
	j->fail_retry = retry;
	free(j->fail_text);
	j->fail_text = agent_strdup(a, text != NULL ? text : "it cannot prepare the job");
	if (j->end_wanted)
		ajob_ended(a, j);
	else
		report_prepared(a, j);
}

void ajob_end(struct agent *a, struct ajob *j, uint32_t grace_ms)
{
	if (!j->end_wanted || grace_ms < j->end_grace_ms)
		j->end_grace_ms = grace_ms;
	j->end_wanted = true;
	switch (j->phase) {
	case AJ_ENDED:
		report_ended(a, j); /* said again: the answer may have been lost */
		break;
	case AJ_FAILED:
		ajob_ended(a, j);
		break;
	case AJ_FETCHING:
		/* Nothing was started. Late answers of its actions find no job or an ended one. */
		ajob_ended(a, j);
		break;
	case AJ_SPAWNING:
	case AJ_SWEEPING:
		break; /* goes on when that is done */
	default:
		ajob_send_shim_end(a, j);
	}
}

void ajob_on_end(struct agent *a, const struct rec_end *e)
{
	struct ajob *j = ajob_find(a, e->job, e->attempt);
	struct msg m;

	if (j != NULL) {
		ajob_end(a, j, e->grace_ms);
		return;
	}
	msg_init(&m, MSG_ended);
	m.u.ended.job = e->job;
	m.u.ended.attempt = e->attempt;
	session_send(a, &m);
}

void ajob_on_forget(struct agent *a, const struct rec_forget *f)
{
	struct ajob *j = ajob_find(a, f->job, f->attempt);

	peers_forget_job(a, f->job);
	if (f->over)
		specs_on_over(a, f->job);
	if (j == NULL || ajob_alive(j))
		return;
	send_bye(a, j, true);
	forget_job(a, j);
}

void ajobs_deadlines(struct agent *a)
{
	list_foreach(e, &a->jobs) {
		struct ajob *j = list_entry(e, struct ajob, all);

		if (j->phase != AJ_SWEEPING || !mono_due(j->sweep_at, a->now))
			continue;
		j->sweep_at = MONO_NEVER;
		ajob_action(a, j, ACT_SWEEP, &j->ticket_sweep);
	}
}

mono_t ajobs_deadline(const struct agent *a)
{
	mono_t t = MONO_NEVER;

	list_foreach(e, &a->jobs)
		t = mono_min(t, list_entry(e, struct ajob, all)->sweep_at);
	return t;
}

void ajobs_stop(struct agent *a)
{
	list_foreach(e, &a->jobs) {
		struct ajob *j = list_entry(e, struct ajob, all);

		if (ajob_alive(j)) {
			ajob_end(a, j, j->prepare.u.prepare.grace_ms);
		} else {
			j->ended_at = a->now;
			send_bye(a, j, false);
		}
	}
}

/* ---- starting ------------------------------------------------------------------------- */

/* An order holds for three heartbeats after the coordinator's last word. */
static mono_t orders_until(const struct agent *a)
{
	return mono_add_ms(a->heard, 3 * (int64_t)a->conf.heartbeat_ms);
}

/* The order came over a session that is gone, or silent for long: the job may be
 * over since. A new order finds the latch ours and goes; who was told 'starting'
 * meanwhile must hear that it did not. */
static bool order_is_stale(struct agent *a, struct ajob *j)
{
	if (a->session == SE_READY && a->coord_link == j->start_link &&
	    mono_before(a->now, orders_until(a)))
		return false;
	j->phase = AJ_READY;
	j->master_addr[0] = '\0';
	if (a->told)
		session_register(a);
	return true;
}

void ajob_send_go(struct agent *a, struct ajob *j)
{
	const char *indices;
	struct msg m;

	if (j->end_wanted) {
		ajob_send_shim_end(a, j);
		return;
	}
	if (order_is_stale(a, j))
		return;
	msg_init(&m, MSG_shim_go);
	m.u.shim_go.master_addr = j->master_addr;
	m.u.shim_go.master_port = j->start_port;
	if (j->prepare.u.prepare.nnodes > 1 && j->ifname[0] != '\0')
		m.u.shim_go.ifname = j->ifname;
	m.u.shim_go.ras = (const char **)j->ras;
	m.u.shim_go.n_ras = j->n_ras;
	m.u.shim_go.env = (const char **)j->start_env;
	m.u.shim_go.n_env = j->n_start_env;
	/* others may have taken long to prepare, and GPUs come and go */
	m.u.shim_go.gpus = readings_visible(a, &j->prepare.u.prepare, &indices);
	MSG_SET(&m.u.shim_go, shim_go, until_mono_ms,
		orders_until(a).ns / 1000000);
	if (lease_kept(j)) {
		j->lease_told = lease_until(a, j);
		MSG_SET(&m.u.shim_go, shim_go, lease_boot_ms, j->lease_told);
	}
	ajob_send_shim(a, j, &m);
	if (!j->go_sent)
		j->run_since = a->now;
	j->go_sent = true;
	j->phase = AJ_STARTING;
}

/* It may be told to go; itself it goes once. */
static void latch_held(struct agent *a, struct ajob *j)
{
	if (order_is_stale(a, j))
		return;
	act_add(a->out, ACT_UNLISTEN)->job = j->job;
	if (j->shim_link != 0)
		ajob_send_go(a, j);
}

static void take_start_env(struct agent *a, struct ajob *j, const struct rec_start *s)
{
	free_start_env(j);
	for (size_t i = 0; i < s->n_env && i < START_ENV_MAX; i++)
		if ((j->start_env[j->n_start_env] = agent_strdup(a, s->env[i])) != NULL)
			j->n_start_env++;
}

void ajob_on_start(struct agent *a, const struct rec_start *s)
{
	struct ajob *j = ajob_find(a, s->job, s->attempt);
	struct arena ar;
	struct rec_ranks r = { 0 };

	if (j == NULL || strcmp(s->boot_id, a->boot_id) != 0)
		return;
	if (j->phase == AJ_ENDED) {
		report_ended(a, j);
		return;
	}
	if (j->phase == AJ_FAILED) {
		report_prepared(a, j); /* the refusal has crossed this order, or was lost */
		return;
	}
	if (j->phase == AJ_RUNNING) {
		arena_init(&ar);
		r.n_ranks = report_fill(&ar, a, j, &r.ranks);
		report_ranks(a, j, &r);
		arena_finish(&ar);
		return;
	}
	if (j->phase != AJ_READY || j->end_wanted)
		return;
	snprintf(j->master_addr, sizeof(j->master_addr), "%s", s->master_addr);
	j->start_port = s->master_port;
	if (s->ifname != NULL)
		snprintf(j->ifname, sizeof(j->ifname), "%s", s->ifname);
	take_start_env(a, j, s);
	j->start_link = a->coord_link;
	j->phase = AJ_LATCHING;
	if (j->latched)
		latch_held(a, j);
	else
		ajob_action(a, j, ACT_LATCH, &j->ticket_latch);
}

/* ---- answers of actions ------------------------------------------------------------------ */

static void maybe_spawn(struct agent *a, struct ajob *j)
{
	if (j->phase != AJ_FETCHING || !j->fetched || !j->leased)
		return;
	j->phase = AJ_SPAWNING;
	ajob_action(a, j, ACT_SPAWN, &j->ticket_spawn);
}

static void done_fetch(struct agent *a, struct ajob *j)
{
	j->ticket_fetch = 0;
	if (j->phase != AJ_FETCHING)
		return;
	if (a->ev->error != 0) {
		ajob_failed(a, j, 1, a->ev->retry, a->ev->text);
		return;
	}
	j->fetched = true;
	maybe_spawn(a, j);
}

static void take_lease(struct agent *a, struct ajob *j)
{
	j->master_port = a->ev->master_port;
	j->proof_port = a->ev->proof_port;
	free_ras(j);
	j->ras = calloc(a->ev->n_ras + 1, sizeof(char *));
	if (j->ras == NULL)
		a->oom = true;
	for (size_t i = 0; j->ras != NULL && i < a->ev->n_ras; i++)
		j->ras[j->n_ras++] = agent_strdup(a, a->ev->ras[i]);
	j->leased = true;
	j->need_lease = false;
}

static void done_lease(struct agent *a, struct ajob *j)
{
	j->ticket_lease = 0;
	if (j->phase != AJ_FETCHING && j->phase != AJ_READY)
		return;
	if (a->ev->error != 0) {
		ajob_failed(a, j, 1, a->ev->retry, a->ev->text);
		return;
	}
	take_lease(a, j);
	if (j->phase == AJ_READY)
		report_prepared(a, j);
	else
		maybe_spawn(a, j);
}

/* The shim's connection may have come before this answer. */
static void done_spawn(struct agent *a, struct ajob *j)
{
	j->ticket_spawn = 0;
	if (a->ev->error == 0) {
		j->shim_known = true;
		return;
	}
	if (j->phase == AJ_SPAWNING)
		ajob_failed(a, j, a->ev->exit_code != 0 ? (uint32_t)a->ev->exit_code : 1,
			   a->ev->retry, a->ev->text);
}

static void done_prove(struct agent *a, struct ajob *j)
{
	struct msg m;

	j->ticket_prove = 0;
	if (j->phase != AJ_READY)
		return;
	if (a->ev->ifname != NULL)
		snprintf(j->ifname, sizeof(j->ifname), "%s", a->ev->ifname);
	msg_init(&m, MSG_proved);
	m.u.proved.job = j->job;
	m.u.proved.attempt = j->attempt;
	m.u.proved.results = (struct rec_proof_result *)a->ev->results;
	m.u.proved.n_results = a->ev->n_results;
	m.u.proved.ifname = j->ifname[0] != '\0' ? j->ifname : NULL;
	if (a->ev->mtu != 0)
		MSG_SET(&m.u.proved, proved, mtu, a->ev->mtu);
	session_send(a, &m);
}

/* The latch is taken once and decides: whoever finds it taken by somebody he does
 * not know of (-EEXIST; what an earlier life of ours took is known since
 * adoption) starts nothing. */
static void done_latch(struct agent *a, struct ajob *j)
{
	j->ticket_latch = 0;
	if (j->phase != AJ_LATCHING)
		return;
	if (a->ev->error != 0) {
		report_rest(a, j, "failed", 1, a->ev->error == -EEXIST ?
			    "it may have been started here before: its start latch is taken" : a->ev->text);
		j->end_wanted = true;
		j->end_grace_ms = 0;
		ajob_send_shim_end(a, j);
		return;
	}
	j->latched = true;
	latch_held(a, j);
}

/* Somebody may still live: nothing is said before he is dead, unless he was
 * given time enough (state D). Where nobody could look (the launcher is away)
 * no time is given. */
static bool sweep_again(struct agent *a, struct ajob *j)
{
	bool somebody_lives = a->ev->error == -ETIME || a->ev->error == -ETIMEDOUT;

	if (a->ev->error == 0)
		return false;
	if (somebody_lives && mono_is_never(j->sweep_until))
		j->sweep_until = mono_add_ms(a->now, SWEEP_GIVE_UP_MS);
	if (somebody_lives && mono_due(j->sweep_until, a->now))
		return false;
	j->sweep_at = mono_add_ms(a->now, SWEEP_RETRY_MS);
	return true;
}

/* Who was ended, and who was not. */
static void tell_swept(struct agent *a, struct ajob *j)
{
	uint32_t n = a->ev->error == 0 ? a->ev->result : 0;
	const char *left = a->ev->text != NULL ? a->ev->text : "";
	char ended[80] = "", text[500];

	if (n > 0)
		snprintf(ended, sizeof(ended), "; %u process%s it left %s ended", n, n == 1 ? "" : "es",
			 n == 1 ? "was" : "were");
	if (n == 0 && *left == '\0')
		return;
	snprintf(text, sizeof(text), "the shim was killed%s%s%s", ended, *left != '\0' ? "; " : "", left);
	free(j->end_text);
	j->end_text = agent_strdup(a, text);
}

static void done_sweep(struct agent *a, struct ajob *j)
{
	j->ticket_sweep = 0;
	if (j->phase != AJ_SWEEPING || sweep_again(a, j))
		return;
	if (!j->latched && !j->end_wanted) {
		ajob_failed(a, j, 1, true, "its shim died while the job was being prepared");
		return;
	}
	if (j->latched)
		report_rest(a, j, "lost", 0, "its shim was killed");
	tell_swept(a, j);
	stuck_met(a, j->job, a->ev->stuck, a->ev->n_stuck); /* before its GPUs count as free */
	ajob_ended(a, j);
}

void ajob_on_done(struct agent *a)
{
	uint64_t t = a->ev->ticket;

	if (t == 0)
		return;
	list_foreach(e, &a->jobs) {
		struct ajob *j = list_entry(e, struct ajob, all);
		struct {
			uint64_t ticket;
			void (*f)(struct agent *, struct ajob *);
		} rows[] = {
			{ j->ticket_fetch, done_fetch }, { j->ticket_lease, done_lease },
			{ j->ticket_spawn, done_spawn }, { j->ticket_prove, done_prove },
			{ j->ticket_latch, done_latch }, { j->ticket_sweep, done_sweep },
			{ j->ticket_look, containers_done },	 { j->ticket_confirm, stuck_confirmed },
		};

		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			if (rows[i].ticket == t) {
				rows[i].f(a, j);
				return;
			}
	}
}
