/* actor_client.c - people: each submits one job and waits for its end
 *
 * A client comes back after a lost connection and submits again with the same
 * client id until it is told a job number; then it watches until 'settled'.
 * What it was told is compared with what it was told before (check.c). It may be
 * killed after any of its messages, and begins anew then: who started it knows
 * the client id and nothing else.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { CL_CONNECT, CL_KILL, CL_VANISH, CL_AGAIN };

void plan_hash(uint32_t plan_no, uint8_t out[32])
{
	memset(out, 0xa0, 32);
	out[0] = (uint8_t)plan_no;
}

struct plan *plan_of_hash(struct sim *s, const uint8_t *hash)
{
	return &s->plans[hash[0] % CLIENTS_MAX];
}

struct client *client_add(struct sim *s, uint32_t agent, int64_t at)
{
	struct client *k = &s->clients[s->n_clients];
	struct plan *p = &s->plans[s->n_clients];

	k->proc.kind = PK_CLIENT;
	k->proc.idx = k->idx = k->plan_no = s->n_clients++;
	k->agent = agent;
	k->plan = p;
	snprintf(k->client_id, sizeof(k->client_id), "client-%u", k->idx);
	k->rank_of_state = -1;
	*p = (struct plan){ .nnodes = 1, .ppn = 1, .gpus = -1, .fail_rank = -1, .also_fails = -1, .missing_host = -1 };
	p->run_ms = rng_range(&s->w.rng, 20, 3000);
	p->grace_ms = (uint32_t)rng_range(&s->w.rng, 200, 3000);
	client_start_at(s, k, at);
	return k;
}

void client_start_at(struct sim *s, struct client *k, int64_t at)
{
	proc_start(&k->proc);
	world_at(&s->w, at, EV_CLIENT, &k->proc, CL_CONNECT, NULL);
}

static void send_msg(struct sim *s, struct client *k, const struct msg *m)
{
	struct buf b;

	if (k->conn == NULL)
		return;
	buf_init(&b);
	if (msg_encode(m, &b, NULL) < 0)
		sim_fail(s, "the client's own %s can be encoded", msg_name(m->type));
	else
		net_send(s, k->conn, 0, b.data, b.len);
	proc_acted(s, &k->proc, m->type, b.data, b.len);
	buf_finish(&b);
}

static void submit(struct sim *s, struct client *k)
{
	const struct plan *p = k->plan;
	struct msg m;
	struct rec_submit *r = &m.u.submit;

	msg_init(&m, MSG_submit);
	r->rid = k->submit_rid = ++k->rid;
	r->client_id = k->client_id;
	if (p->nnodes != 0)
		MSG_SET(r, submit, nnodes, p->nnodes);
	MSG_SET(r, submit, procs_per_node, p->ppn);
	MSG_SET(r, submit, grace_ms, p->grace_ms);
	r->hosts = p->hosts;
	r->time_s = p->time_s;
	r->immediate = p->immediate;
	r->max_restarts = p->max_restarts;
	r->restart_any = p->restart_any;
	r->spares = p->spares;
	r->on_hang = p->on_hang;
	r->busy_gpus = p->busy_gpus;
	if (p->gpus >= 0)
		MSG_SET(r, submit, gpus_per_node, (uint32_t)p->gpus);
	r->command = "python train.py";
	r->spec_size = 100;
	k->stage = CS_SUBMITTING;
	send_msg(s, k, &m);
	if (k->twice) {
		r->rid = ++k->rid;
		send_msg(s, k, &m);
	}
}

static void watch(struct sim *s, struct client *k)
{
	struct msg m;

	msg_init(&m, MSG_watch);
	m.u.watch.rid = k->watch_rid = ++k->rid;
	m.u.watch.job = k->job;
	k->stage = CS_WATCHING;
	send_msg(s, k, &m);
}

static void send_kill(struct sim *s, struct client *k)
{
	struct msg m;

	k->kill_wanted = true;
	k->kill_sent = k->conn != NULL ? s->w.now : 0;
	msg_init(&m, MSG_kill);
	m.u.kill.rid = k->kill_rid = ++k->rid;
	m.u.kill.job = k->job;
	if (k->kill_grace_ms != 0) {
		MSG_SET(&m.u.kill, kill, grace_ms, k->kill_grace_ms);
		check_job(s, k->job)->kill_grace_ms = k->kill_grace_ms;
	}
	send_msg(s, k, &m);
}

static void again_in(struct sim *s, struct client *k, uint64_t what, int64_t lo, int64_t hi)
{
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, lo, hi), EV_CLIENT, &k->proc, what, NULL);
}

static void finish(struct sim *s, struct client *k, enum client_stage stage)
{
	k->stage = stage;
	k->over = true;
	if (k->conn != NULL)
		net_close(s, k->conn, 0, "done");
	k->conn = NULL;
}

static void dial(struct sim *s, struct client *k)
{
	struct agent_actor *a = &s->agents[k->agent];
	bool local = k->local_watch && k->job != 0;
	struct proc *to = local ? &s->coord.proc : &a->proc;

	if (k->over || k->conn != NULL)
		return;
	k->stage = CS_DIALING;
	if (!to->up || to->resume_at > s->w.now)
		again_in(s, k, CL_CONNECT, 100 * MS, 400 * MS);
	else
		k->conn = net_open(s, local ? CONN_LOCAL : CONN_CLIENT, &k->proc, to, -1);
}

/* The link goes with it. What it has seen before stays to be compared with. */
void client_crash(struct sim *s, struct client *k, int64_t down_ns)
{
	if (!k->proc.up || k->over || k->late) /* who comes when all is healed is not there yet */
		return;
	LINE(&s->w, proc_name(s, &k->proc), "CRASHES after action %llu",
	     (unsigned long long)k->proc.actions);
	net_proc_died(s, &k->proc, false);
	k->conn = NULL;
	k->stage = CS_IDLE;
	k->crashed = true;
	k->job = 0;
	k->rid = k->submit_rid = k->watch_rid = k->kill_rid = 0;
	k->kill_wanted = k->kill_done;
	k->kill_sent = 0;
	k->proc.up = false;
	k->proc.life++;
	k->proc.resume_at = 0;
	world_at(&s->w, s->w.now + down_ns, EV_RESTART, &k->proc, 0, NULL);
}

void client_event(struct sim *s, struct client *k, const struct event *e)
{
	if (e->kind == EV_RESTART) {
		client_start_at(s, k, s->w.now);
		return;
	}
	switch (e->a) {
	case CL_CONNECT:
		dial(s, k);
		break;
	case CL_KILL:
		if (!k->over)
			send_kill(s, k);
		break;
	case CL_VANISH:
		LINE(&s->w, proc_name(s, &k->proc), "vanishes");
		if (!k->over)
			finish(s, k, CS_GONE);
		break;
	case CL_AGAIN:
		if (k->over || k->conn == NULL)
			break;
		if (k->job == 0)
			submit(s, k);
		else
			watch(s, k);
		break;
	}
}

void client_link_up(struct sim *s, struct client *k, struct conn *c)
{
	struct msg m;

	if (k->conn != c)
		return;
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = NA_SOFTWARE;
	m.u.hello.role = "client";
	send_msg(s, k, &m);
}

void client_link_down(struct sim *s, struct client *k, struct conn *c)
{
	if (k->conn != c)
		return;
	k->conn = NULL;
	k->kill_sent = 0;
	if (!k->over)
		again_in(s, k, CL_CONNECT, 50 * MS, 1000 * MS);
}

static void on_submitted(struct sim *s, struct client *k, const struct rec_submitted *r)
{
	check_acked(s, k, r->job);
	if (k->job != 0)
		return;
	k->job = k->acked_job = r->job;
	if (k->vanish_after != 0)
		again_in(s, k, CL_VANISH, k->vanish_after, k->vanish_after + 1);
	if (k->local_watch) {
		net_close(s, k->conn, 0, "goes to the coordinator");
		k->conn = NULL;
		again_in(s, k, CL_CONNECT, MS, 50 * MS);
	} else {
		watch(s, k);
	}
}

static void on_update(struct sim *s, struct client *k, const struct rec_job_update *u)
{
	if (u->rid != k->watch_rid || u->n_job != 1)
		return;
	check_told(s, k, u);
	if (k->kill_in != NULL && strcmp(k->kill_in, u->job[0].state) == 0 && !k->kill_wanted) {
		k->kill_wanted = true;
		again_in(s, k, CL_KILL, k->kill_after, k->kill_after + 1);
	}
	if (k->settled)
		finish(s, k, CS_DONE);
}

static void on_refused(struct sim *s, struct client *k, const struct rec_refused *r)
{
	bool later = strcmp(r->code, "unavailable") == 0;

	LINE(&s->w, proc_name(s, &k->proc), "refused: %s %s", r->code, r->text);
	if (r->rid == k->kill_rid)
		k->kill_sent = 0;
	if (later && r->rid == k->kill_rid && r->rid != 0) {
		again_in(s, k, CL_KILL, 500 * MS, SECOND);
	} else if (later) {
		again_in(s, k, CL_AGAIN, 500 * MS, SECOND);
	} else if (k->job != 0) {
		if (!s->no_progress_checks && s->history == 0)
			sim_fail(s, "a job that was acknowledged is known (client %u, job %llu: %s %s)",
				 k->idx, (unsigned long long)k->job, r->code, r->text);
		finish(s, k, CS_DONE);
	} else {
		snprintf(k->refused, sizeof(k->refused), "%s", r->code);
		finish(s, k, CS_DONE);
	}
}

void client_message(struct sim *s, struct client *k, struct conn *c, const struct msg *m)
{
	if (k->conn != c)
		return;
	switch (m->type) {
	case MSG_welcome:
		if (k->job == 0)
			submit(s, k);
		else
			watch(s, k);
		if (k->job != 0 && k->kill_wanted && !k->kill_done)
			send_kill(s, k);
		break;
	case MSG_submitted:
		on_submitted(s, k, &m->u.submitted);
		break;
	case MSG_job_update:
		on_update(s, k, &m->u.job_update);
		break;
	case MSG_ok:
		if (m->u.ok.rid == k->kill_rid) {
			k->kill_done = true;
			k->kill_sent = 0;
			due_kill_confirmed(s, k->job);
		}
		break;
	case MSG_refused:
		on_refused(s, k, &m->u.refused);
		break;
	default:
		break;
	}
}
