/* actor_agent.c - an agent's process and its host
 *
 * The process may die and come back while its shims live on; the host may
 * reboot, which ends everything on it and empties the run directory.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/kernel.h"
#include "tests/sim/sim.h"

static void new_boot(struct sim *s, struct agent_actor *a)
{
	struct rng r;

	a->boot++;
	/* Of their own chance, so that older seeds stay what they were. */
	rng_seed(&r, s->seed ^ (uint64_t)a->idx << 32 ^ (uint64_t)a->boot << 48);
	a->mono_ns = rng_range(&r, 0, 3600 * SECOND);
	a->wall_us = rng_range(&r, -2000000, 2000000) / (rng_chance(&r, 600) ? 40 : 1);
	snprintf(a->boot_id, sizeof(a->boot_id), "%08x-%04x-4000-8000-%012llx", a->idx + 1, a->boot,
		 (unsigned long long)(s->seed & 0xffffffffffff));
}

void simagent_setup(struct sim *s, uint32_t i)
{
	struct agent_actor *a = &s->agents[i];

	a->proc.kind = PK_AGENT;
	a->proc.idx = a->idx = i;
	snprintf(a->name, sizeof(a->name), "n%u", i + 1);
	snprintf(a->ip, sizeof(a->ip), "10.0.0.%u", i + 1);
	memset(a->key, 0x40 + (int)i, sizeof(a->key));
	a->host_up = true;
	launcher_setup(a);
	new_boot(s, a);
}

void simagent_start(struct sim *s, struct agent_actor *a)
{
	struct agent_conf conf = {
		.node = a->name,
		.boot_id = a->boot_id,
		.coordinator = "head:7070",
		.peer_port = 7100 + a->idx,
		.cpus = 8,
		.heartbeat_ms = 1000,
		.silence_ms = 5000,
		.request_ms = s->request_ms,
		.backoff_min_ms = 200,
		.backoff_max_ms = 15000,
		.uid_min = 1000,
		.uid_max = 59999,
		.probe = a->gpus != NULL,
		.gpu_share = a->share,
		.gpu_share_of = a->share_of,
	};
	struct agent_event ev = { .type = AEV_ADDRS };
	struct rec_addr addr = { .ip = a->ip, .ifname = "eth0" };

	conf.incarnation = rng_u64(&s->w.rng);
	proc_start(&a->proc);
	a->proc.mono_ns = a->mono_ns;
	a->leases = NULL;
	LINE(&s->w, a->name, "starts, life %u, boot %s", a->proc.life, a->boot_id);
	a->core = agent_create(&conf, proc_mono(s, &a->proc));
	actions_init(&a->acts);
	simagent_find_specs(a);
	simagent_adopt_all(s, a);
	ev.addrs = &addr;
	ev.n_addrs = 1;
	simagent_feed(s, a, &ev);
	gpus_probe_starts(s, a);
	if (a->proc.up)
		proc_arm(s, &a->proc, agent_deadline(a->core));
}

void simagent_teardown(struct agent_actor *a)
{
	if (a->core == NULL)
		return;
	agent_destroy(a->core);
	a->core = NULL;
	actions_finish(&a->acts);
}

static void stop(struct sim *s, struct agent_actor *a, bool silent)
{
	net_proc_died(s, &a->proc, silent);
	memset(a->spec_holder, 0, sizeof(a->spec_holder));
	a->proc.up = false;
	a->proc.life++;
	a->proc.resume_at = 0;
	a->leaving = false;
	simagent_teardown(a);
}

void simagent_gone(struct sim *s, struct agent_actor *a, int64_t down_ns)
{
	stop(s, a, false);
	world_at(&s->w, s->w.now + down_ns, EV_RESTART, &a->proc, 0, NULL);
}

void simagent_crash(struct sim *s, struct agent_actor *a, int64_t down_ns)
{
	if (!a->proc.up)
		return;
	LINE(&s->w, a->name, "CRASHES after action %llu", (unsigned long long)a->proc.actions);
	simagent_gone(s, a, down_ns);
}

void simagent_reboot(struct sim *s, struct agent_actor *a, int64_t down_ns)
{
	if (!a->host_up)
		return;
	LINE(&s->w, a->name, "HOST DIES after action %llu", (unsigned long long)a->proc.actions);
	for (uint32_t i = 0; i < s->n_shims; i++)
		if (s->shims[i]->host == a->idx)
			simshim_host_gone(s, s->shims[i]);
	stop(s, a, true);
	a->host_up = false;
	a->files = NULL;
	gpus_rebooted(a);
	kernel_reboot(s, a->idx);
	launcher_reboot(s, a);
	s->loss_allowed = true;
	world_at(&s->w, s->w.now + down_ns, EV_RESTART, &a->proc, 1, NULL);
}

void simagent_lost(struct sim *s, struct agent_actor *a)
{
	a->dead = true;
	LINE(&s->w, a->name, "is LOST for good");
	simagent_reboot(s, a, SECOND);
}

static void restart(struct sim *s, struct agent_actor *a, bool booted)
{
	if (a->dead)
		return;
	if (booted) {
		new_boot(s, a);
		a->host_up = true;
		net_host_back(s, (int)a->idx);
	}
	simagent_start(s, a);
}

/* ---- steps ------------------------------------------------------------------------ */

static void perform_all(struct sim *s, struct agent_actor *a)
{
	for (size_t i = 0; i < a->acts.n; i++) {
		const struct action *x = &a->acts.v[i];

		LINE(&s->w, a->name, "%s %llu %.*s", action_name(x->type),
		     (unsigned long long)(x->link != 0 ? x->link : x->job),
		     (int)(x->len > 3900 ? 3900 : x->len), x->text != NULL && x->len > 0 ? x->text : "");
		simagent_perform(s, a, x);
		if (proc_acted(s, &a->proc, x->type, x->text, x->len) || s->failed)
			return;
	}
	actions_reset(&a->acts);
}

void simagent_feed(struct sim *s, struct agent_actor *a, struct agent_event *ev)
{
	int r;

	if (!a->proc.up || s->failed)
		return;
	ev->now = proc_mono(s, &a->proc);
	ev->wall_us = world_wall_us(&s->w) + a->wall_us;
	ev->wall_ms = ev->wall_us / 1000;
	ev->boot_ms = world_boot(&s->w);
	rng_fill(&s->w.core_rng, ev->random, sizeof(ev->random));
	r = agent_step(a->core, ev, &a->acts);
	if (r < 0 || a->acts.failed)
		sim_fail(s, "a step does not fail while there is memory (agent %s)", a->name);
	agent_check(a->core);
	proc_stepped(s, &a->proc, ev->type == AEV_DEADLINE, agent_deadline(a->core));
	perform_all(s, a);
	if (a->proc.up)
		proc_arm(s, &a->proc, agent_deadline(a->core));
	due_heard(s, a);
	leave_if_idle(s, a);
}

/* ---- events ------------------------------------------------------------------------- */

/* While nobody answers it goes on trying, as TCP does: after 1, 3 and 7 s. */
static void dialed(struct sim *s, struct agent_actor *a, uint64_t tries)
{
	struct agent_event ev = { .type = AEV_DIAL_FAILED };

	if (a->cut_up || a->cut_down || s->coord.host_down || s->coord.proc.resume_at > s->w.now) {
		if (tries < 3) {
			world_at(&s->w, s->w.now + (SECOND << tries), EV_DIALED, &a->proc, tries + 1,
				 NULL);
			return;
		}
	} else if (s->coord.proc.up) {
		net_open(s, CONN_CONTROL, &a->proc, &s->coord.proc, (int)a->idx);
		return;
	}
	ev.text = s->coord.proc.up ? "timed out" : "connection refused";
	simagent_feed(s, a, &ev);
}

static void connect_shim(struct sim *s, struct agent_actor *a, struct shim_actor *h)
{
	struct conn *c = net_open(s, CONN_SHIM, &a->proc, &h->proc, -1);

	c->job = h->job;
	c->attempt = h->attempt;
	if (!h->proc.up)
		net_refuse(s, c);
}

void simagent_event(struct sim *s, struct agent_actor *a, const struct event *e)
{
	struct agent_event ev = { 0 };

	switch (e->kind) {
	case EV_RESTART:
		restart(s, a, e->a != 0);
		return;
	case EV_TIMER:
		if (!proc_due(s, &a->proc, e->a, agent_deadline(a->core)))
			return;
		ev.type = AEV_DEADLINE;
		simagent_feed(s, a, &ev);
		return;
	case EV_DIALED:
		dialed(s, a, e->a);
		return;
	case EV_CONNECT:
		connect_shim(s, a, e->p);
		return;
	case EV_DONE:
		simagent_done(s, a, e);
		return;
	case EV_LEAVE:
		leave_event(s, a, e);
		return;
	case EV_FETCH:
		simagent_fetch_poll(s, a, e);
		return;
	case EV_REPEAT:
		repeat_event(s, a, e);
		return;
	case EV_PROBE:
		gpus_probe_event(s, a, e);
		return;
	default:
		return;
	}
}

/* ---- links ---------------------------------------------------------------------------- */

static enum agent_link_kind kind_of(const struct conn *c)
{
	return c->kind == CONN_CONTROL ? LINK_COORD : c->kind == CONN_SHIM ? LINK_SHIM : LINK_CLIENT;
}

void simagent_link_up(struct sim *s, struct agent_actor *a, struct conn *c, int side)
{
	struct agent_event ev = { .type = AEV_LINK_UP, .link = c->end[side].link };

	ev.kind = kind_of(c);
	ev.job = c->job;
	ev.attempt = c->attempt;
	if (ev.kind == LINK_CLIENT) {
		ev.uid = RUN_UID;
		ev.user = "ann";
	}
	simagent_feed(s, a, &ev);
}

void simagent_link_down(struct sim *s, struct agent_actor *a, struct conn *c, int side,
			const char *why)
{
	struct agent_event ev = { .type = AEV_LINK_DOWN, .link = c->end[side].link, .text = why };

	ev.kind = kind_of(c);
	if (c->kind == CONN_CLIENT)
		simagent_uploader_gone(a, c);
	simagent_feed(s, a, &ev);
}

void simagent_message(struct sim *s, struct agent_actor *a, struct conn *c, int side,
		      const struct msg *m)
{
	struct agent_event ev = { .type = AEV_MESSAGE, .link = c->end[side].link, .msg = m };
	uint8_t hash[32];

	ev.kind = kind_of(c);
	if (c->kind == CONN_CLIENT && m->type == MSG_submit) {
		/* what this client has uploaded on this link */
		plan_hash(s->clients[c->end[0].proc->idx].plan_no, hash);
		simagent_uploaded(a, c, hash);
		ev.spec_hash = hash;
		ev.spec_size = 100;
	}
	simagent_feed(s, a, &ev);
}
