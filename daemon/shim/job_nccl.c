/* job_nccl.c - the host's part of nccl.c, ras.c and flight.c: what the ranks' NCCL says, and is asked
 *
 * Nothing of it passes the machine: it goes to the agent as it is, and nothing in the
 * life of a job depends on it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "shim/env.h"
#include "shim/host.h"

static const char *var(const struct host *h, const char *name)
{
	return env_get((const char *const *)h->spec.env, name);
}

static bool is_off(const struct host *h, const char *name)
{
	const char *v = var(h, name);

	return v && strcmp(v, "0") == 0;
}

/* ---- the log ---------------------------------------------------------------------------- */

/* Where the ranks' RAS listens: later 'go' is not there any more. */
static void keep_ras(struct host *h, const struct rec_shim_go *go)
{
	h->ras_addrs = calloc(go->n_ras + 1, sizeof *h->ras_addrs);
	for (size_t i = 0; h->ras_addrs && i < go->n_ras && i < h->nprocs; i++)
		h->ras_addrs[h->n_ras_addrs++] = arena_strdup(&h->setup_arena, go->ras[i]);
}

const char *job_nccl_begin(struct host *h, const struct rec_shim_go *go)
{
	keep_ras(h, go);
	if (h->setup.no_nccl_log || is_off(h, "NODEAGENT_NCCL_LOG") || !(h->nccl_said = nccl_create()))
		return NULL;
	if (host_poll(h, nccl_fd(h->nccl_said), POLL_NCCL, 0, EPOLLIN) < 0) {
		nccl_destroy(h->nccl_said);
		h->nccl_said = NULL;
		return NULL;
	}
	return nccl_path(h->nccl_said);
}

void job_nccl_env(struct host *h, struct env *env)
{
	if (h->nccl_said)
		nccl_env(h->nccl_said, (const char *const *)h->spec.env, (const char *const *)env_rank(env, 0));
	if (h->nccl_said && !env_nccl_log(env))
		nccl_unread(h->nccl_said, "the job, or a nccl.conf, sets NCCL_DEBUG, NCCL_DEBUG_SUBSYS or NCCL_DEBUG_FILE: NCCL's log goes "
			    "where these say, and is not read", host_now());
}

static bool is_worker(const struct host *h, uint32_t pid, uint32_t *ret_rank)
{
	struct rec_worker v[WORKERS_MAX];
	size_t n = h->workers ? workers_list(h->workers, v) : 0;

	for (size_t i = 0; i < n; i++)
		if (v[i].pid == pid) {
			*ret_rank = v[i].rank;
			return true;
		}
	return false;
}

static void add_rank(const struct host *h, struct rec_nccl_state *s)
{
	uint32_t pid = nccl_trouble_pid(h->nccl_said), rank;

	for (uint32_t i = 0; pid && i < h->nprocs; i++)
		if (h->started[i].pid == (int32_t)pid) {
			MSG_SET(s, nccl_state, trouble_rank, h->setup.rank_base + i);
			return;
		}
	if (pid && is_worker(h, pid, &rank))
		MSG_SET(s, nccl_state, trouble_rank, rank);
}

static void send(struct host *h, const struct msg *m)
{
	if (h->conn.fd >= 0 && !channel_send_msg(&h->conn, m))
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
}

static void tell_log(struct host *h, bool now)
{
	struct rec_nccl_state s;
	struct arena a;
	struct msg m;

	if (now)
		nccl_read(h->nccl_said, host_now(), host_wall_ms());
	if (h->conn.fd < 0 || !(h->nccl_anew || mono_due(nccl_due(h->nccl_said), host_now()) ||
				(now && !mono_is_never(nccl_due(h->nccl_said)))))
		return;
	h->nccl_anew = false;
	arena_init(&a);
	if (nccl_tell(h->nccl_said, &a, &s)) {
		add_rank(h, &s);
		msg_init(&m, MSG_shim_nccl);
		m.u.shim_nccl.nccl = &s;
		m.u.shim_nccl.n_nccl = 1;
		send(h, &m);
	}
	arena_finish(&a);
}

/* ---- RAS ---------------------------------------------------------------------------------- */

static void answer(struct host *h, struct rec_ras_state *s)
{
	struct msg m;

	msg_init(&m, MSG_ras);
	m.u.ras.job = h->job;
	m.u.ras.attempt = h->attempt;
	MSG_SET(s, ras_state, wall_ms, host_wall_ms());
	m.u.ras.ras = s;
	m.u.ras.n_ras = 1;
	send(h, &m);
}

/* Of ranks that live: a dead one's port may be another's. The user's address is one for all. */
static size_t addresses(const struct host *h, const char **v)
{
	const char *own = var(h, "NCCL_RAS_ADDR");
	size_t n = 0;

	if (own) {
		v[0] = v[1] = own; /* ranks share it, and a stopped one may be met first */
		return 2;
	}
	for (uint32_t i = 0; i < h->n_ras_addrs; i++)
		if (h->ras_addrs[i] && shim_rank_pid(h->machine, i))
			v[n++] = h->ras_addrs[i];
	return n;
}

void job_ras_asked(struct host *h)
{
	const char **v = calloc((size_t)h->n_ras_addrs + 2, sizeof *v);
	struct rec_ras_state s = { .text = NULL };

	if (!h->ras)
		h->ras = ras_create(h->ep, (uint64_t)POLL_RAS << 32);
	if (!v || !h->ras)
		s.text = "out of memory";
	else if (!shim_started(h->machine))
		s.text = "its ranks are not started";
	else if (h->setup.no_ras)
		s.text = "switched off on this node (nccl_ras in nodeagentd.conf)";
	else if (is_off(h, "NODEAGENT_NCCL_RAS") || is_off(h, "NCCL_RAS_ENABLE"))
		s.text = "switched off by the job's environment";
	else
		ras_ask(h->ras, v, addresses(h, v), host_now());
	if (s.text)
		answer(h, &s);
	free(v);
}

/* ---- PyTorch's flight recorder -------------------------------------------------------------- */

/* Local ranks that live; below launchers those that were found. */
static size_t recorders(const struct host *h, struct flight_rank v[FLIGHT_RANKS])
{
	struct rec_worker w[WORKERS_MAX];
	size_t n = 0, n_w = h->workers ? workers_list(h->workers, w) : 0;

	for (size_t i = 0; i < n_w && n < FLIGHT_RANKS; i++)
		if (strcmp(w[i].state, "running") == 0)
			v[n++] = (struct flight_rank){ .rank = w[i].rank, .pid = w[i].pid };
	for (uint32_t i = 0; n_w == 0 && i < h->nprocs && n < FLIGHT_RANKS; i++)
		if (shim_rank_pid(h->machine, i))
			v[n++] = (struct flight_rank){ .rank = h->setup.rank_base + i, .pid = (uint32_t)h->started[i].pid };
	return n;
}

void job_flight_asked(struct host *h)
{
	struct rec_ras_state s = { .text = flight_off((const char *const *)h->spec.env) };
	struct flight_rank v[FLIGHT_RANKS];

	if (!s.text && !h->flight) {
		h->flight = flight_create();
		if (h->flight && host_poll(h, flight_fd(h->flight), POLL_FLIGHT, 0, EPOLLIN) < 0) {
			flight_destroy(h->flight);
			h->flight = NULL;
		}
	}
	if (!s.text && !h->flight)
		s.text = "out of memory";
	if (!s.text) {
		if (flight_ask(h->flight, (const char *const *)h->spec.env, v, recorders(h, v)) && h->pulse)
			pulse_asked(h->pulse, host_now());
		return;
	}
	MSG_SET(&s, ras_state, flight, true);
	answer(h, &s);
}

static void put_recorder(struct rec_ras_count *out, const struct flight_rank *r)
{
	*out = (struct rec_ras_count){ .rank = r->rank, .pid = r->pid, .missing = !r->have };
	if (r->have && r->last.has_status && r->last.enqueued >= 0)
		MSG_SET(out, ras_count, seq, (uint64_t)r->last.enqueued);
	else if (r->have && r->last.has_last)
		MSG_SET(out, ras_count, seq, r->last.seq);
	out->op = r->have && r->last.has_last ? r->last.op : NULL;
}

static bool all_answered(const struct flight_rank *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].asked && !v[i].have)
			return false;
	return true;
}

void job_flight_ready(struct host *h)
{
	struct flight_rank v[FLIGHT_RANKS];
	struct rec_ras_count *counts;
	struct rec_ras_state s = { .text = NULL };
	struct arena a;
	size_t n;

	if (!flight_take(h->flight, v, &n))
		return;
	if (h->pulse && all_answered(v, n))
		pulse_answered(h->pulse, host_now());
	arena_init(&a);
	counts = arena_alloc(&a, n * sizeof *counts + 1);
	for (size_t i = 0; counts && i < n; i++)
		if (v[i].asked)
			put_recorder(&counts[s.n_counts++], &v[i]);
	MSG_SET(&s, ras_state, flight, true);
	s.counts = counts;
	if (s.n_counts == 0)
		s.text = "no rank reads a FIFO of TORCH_NCCL_DEBUG_INFO_PIPE_FILE: no PyTorch with a flight recorder on";
	answer(h, &s);
	arena_finish(&a);
}

static void tell_ras(struct host *h)
{
	struct rec_ras_state s;
	struct arena a;

	if (mono_due(ras_due(h->ras), host_now()))
		ras_late(h->ras, host_now());
	arena_init(&a);
	if (ras_take(h->ras, &a, &s))
		answer(h, &s);
	arena_finish(&a);
}

/* ---- both ----------------------------------------------------------------------------------- */

void job_nccl_tell(struct host *h, bool now)
{
	if (h->nccl_said && !h->done)
		tell_log(h, now);
	if (h->ras && !h->done)
		tell_ras(h);
}

mono_t job_nccl_due(const struct host *h)
{
	mono_t at = h->nccl_said ? nccl_due(h->nccl_said) : MONO_NEVER;

	return h->ras ? mono_min(at, ras_due(h->ras)) : at;
}

void job_nccl_finish(struct host *h)
{
	nccl_destroy(h->nccl_said);
	ras_destroy(h->ras);
	flight_destroy(h->flight);
	free(h->ras_addrs);
}
