/* perform_agent.c - the one switch from an action of the agent's core to its side effect
 *
 * Nothing here steps the core: what an action brings is fed in a later turn
 * of the loop (agent_later, or the callbacks of links).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/proc.h"
#include "io/bulk.h"
#include "io/confirm.h"
#include "io/launcher_client.h"
#include "io/ports.h"
#include "io/probe.h"
#include "io/shims.h"

#define BYE_PREFIX "{\"t\":\"shim_bye\""

struct fetch {
	struct agent_io *io;
	uint64_t ticket, job;
	uint32_t attempt, uid;
	bool keep; /* on disk, too */
};

struct wanted {
	uint8_t (*v)[32];
	size_t n, cap;
};

/* On disk or not: the launch has what it needs. */
static void copied(void *arg, int rc, struct spec_blob *b, const char *text)
{
	struct fetch *f = arg;

	if (rc == 0)
		specs_release(f->io->specs, b->hash, agent_spec_needed(f->io->core, b->hash));
	agent_done_well(f->io, f->ticket, rc == 0, text);
	free(f);
}

static void copy(struct fetch *f, const struct spec_blob *b)
{
	char *p = malloc(b->n + 1);

	if (p == NULL) {
		copied(f, -ENOMEM, NULL, "out of memory");
		return;
	}
	memcpy(p, b->p, b->n);
	specs_store(f->io->specs, p, b->n, f->uid, copied, f);
}

static void fetched(void *arg, int rc, struct spec_blob *b, const char *text)
{
	struct fetch *f = arg;
	struct job_io *j = job_io_find(f->io, f->job, f->attempt);

	if (rc == 0 && j != NULL) { /* else it was cleaned up meanwhile, or is to be kept only */
		spec_unref(j->spec);
		j->spec = spec_ref(b);
	}
	if (rc == 0 && f->keep) {
		copy(f, b);
		return;
	}
	agent_done(f->io, f->ticket, rc, rc != 0, text);
	free(f);
}

static void fetch_spec(struct agent_io *io, const struct action *a)
{
	struct fetch *f = agent_alloc(sizeof(*f));

	*f = (struct fetch){ io, a->ticket, a->job, a->attempt, a->prepare->uid, a->prepare->keep };
	bulk_fetch_spec(io->bulk, a->prepare, fetched, f);
}

static void fetch(struct agent_io *io, const struct action *a)
{
	struct job_io *j = job_io_get(io, a->job, a->attempt);

	j->uid = a->prepare->uid;
	j->uid_known = true;
	fetch_spec(io, a);
}

static void lease(struct agent_io *io, const struct action *a)
{
	struct later *l;
	struct ports_given g;
	const char **ras;
	struct err e;
	int rc = ports_lease(io->ports, a->prepare, &g, &e);

	if (rc != 0) {
		agent_done(io, a->ticket, rc, true, e.text);
		return;
	}
	l = agent_later_new(AEV_DONE);
	ras = arena_alloc(&l->arena, (g.n_ras + 1) * sizeof(*ras));
	for (size_t i = 0; ras != NULL && i < g.n_ras; i++)
		if ((ras[i] = arena_printf(&l->arena, "127.0.0.1:%u", g.ras[i])) == NULL)
			ras = NULL;
	if (ras == NULL)
		agent_no_memory();
	l->ev.ticket = a->ticket;
	l->ev.master_port = g.master_port;
	l->ev.proof_port = g.proof_port;
	l->ev.ras = ras;
	l->ev.n_ras = g.n_ras;
	agent_later(io, l);
}

static void clean(struct agent_io *io, const struct action *a)
{
	ports_release(io->ports, a->job, a->attempt);
	shims_clean(io, a->job, a->attempt);
	job_io_drop(io, a->job, a->attempt);
}

/* /proc/PID/stat: it is made in memory, and waits for nobody. */
static void look(struct agent_io *io, const struct action *a)
{
	struct later *l = agent_later_new(AEV_DONE);

	l->ev.ticket = a->ticket;
	for (size_t i = 0; i < a->n_procs; i++)
		if (!proc_dead((pid_t)a->procs[i].pid, a->procs[i].start_time))
			l->ev.result |= 1u << i;
	agent_later(io, l);
}

struct fix {
	struct agent_io *io;
	uint64_t ticket;
};

static void sm_fixed(void *arg, int error, uint32_t result, const char *text)
{
	struct fix *f = arg;

	agent_done_so_far(f->io, f->ticket, error, result, text);
	free(f);
}

/* Numbers: the launcher takes no text. */
static void fix_sm(struct agent_io *io, const struct action *a)
{
	struct launcher_request r = { .op = LAUNCHER_FIX_SM, .nprocs = a->unit, .job = a->order,
				      .rank_base = a->enable | (a->tell ? LAUNCHER_FIX_TELL : 0) };
	struct fix *f;

	if (io->launcher == NULL) {
		agent_done(io, a->ticket, -EAGAIN, false, "nodeagent-launcher does not run on this node");
		return;
	}
	f = agent_alloc(sizeof(*f));
	*f = (struct fix){ io, a->ticket };
	launcher_client_ask(io->launcher, &r, NULL, sm_fixed, f);
}

static void collect(void *arg, const uint8_t hash[32])
{
	struct wanted *w = arg;

	if (w->n == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 64;
		w->v = realloc(w->v, w->cap * sizeof(*w->v));
		if (w->v == NULL)
			agent_no_memory();
	}
	memcpy(w->v[w->n++], hash, 32);
}

static void tidy_specs(struct agent_io *io)
{
	struct wanted w = { 0 };

	agent_each_spec(io->core, collect, &w);
	specs_keep_only(io->specs, w.v, w.n);
}

static bool is_bye(const struct action *a)
{
	return a->len > strlen(BYE_PREFIX) && memcmp(a->text, BYE_PREFIX, strlen(BYE_PREFIX)) == 0;
}

static void send_text(struct agent_io *io, const struct action *a)
{
	struct conn *c = conn_find(io, a->link);
	int r;

	if (c == NULL || c->link == NULL)
		return;
	r = link_send_json(c->link, a->text, a->len);
	/* Who is connected anew is told everything, but for this: the core has let go of the job
	 * then, and its shim would wait for us for ten minutes. After a restart we know it again. */
	if (r == -ENOMEM && c->kind == LINK_SHIM)
		agent_no_memory();
	if (r == -ENOTCONN && c->kind == LINK_SHIM && is_bye(a))
		shims_abandon(io, c->job, c->attempt);
	if (r >= 0 && c->kind == LINK_SHIM && is_bye(a))
		link_flush(c->link); /* before what we know of it is cleaned away, should we end right here */
	/* A client that does not read what it asked for is not read either. */
	if (r == 1 && c->kind == LINK_CLIENT) {
		c->held_back = true;
		link_pause(c->link, true);
	}
}

static void hang_up(struct agent_io *io, const struct action *a)
{
	struct conn *c = conn_find(io, a->link);

	if (c == NULL || c->link == NULL)
		return;
	if (c->kind == LINK_COORD || c->kind == LINK_PEER)
		log_info("closing a link: %s", a->text);
	link_close(c->link, a->text);
}

void perform_agent(struct agent_io *io, const struct action *a)
{
	switch (a->type) {
	case ACT_SEND:
		send_text(io, a);
		break;
	case ACT_CLOSE:
		hang_up(io, a);
		break;
	case ACT_LOG:
		log_info("%s", a->text);
		break;
	case ACT_DIAL:
		conns_dial_coordinator(io);
		break;
	case ACT_FETCH:
		fetch(io, a);
		break;
	case ACT_KEEP_SPEC:
		fetch_spec(io, a);
		break;
	case ACT_LEASE:
		lease(io, a);
		break;
	case ACT_SPAWN:
		shims_spawn(io, a);
		break;
	case ACT_PROVE:
		prove_start(io, a);
		break;
	case ACT_UNLISTEN:
		ports_unlisten(io->ports, a->job);
		break;
	case ACT_LATCH:
		shims_latch(io, a);
		break;
	case ACT_SWEEP:
		shims_sweep(io, a);
		break;
	case ACT_CLEAN:
		clean(io, a);
		break;
	case ACT_REVOKE:
		conns_revoke(io, a->key);
		break;
	case ACT_PEER_OUT:
		conns_peer_out(io, a->key, a->job);
		break;
	case ACT_DROP_SPEC:
		specs_drop(io->specs, a->key);
		break;
	case ACT_TIDY_SPECS:
		tidy_specs(io);
		break;
	case ACT_CONTAINERS:
		shims_containers(io, a);
		break;
	case ACT_READ:
		probe_ask(io);
		break;
	case ACT_LOOK:
		look(io, a);
		break;
	case ACT_CONFIRM:
		confirm_begin(io, a);
		break;
	case ACT_FIX_SM:
		fix_sm(io, a);
		break;
	case ACT_PERSIST:
	case ACT_EVENT:
	case ACT_DROP_KEY:
		log_error("the agent's core asked for %s, which is the coordinator's", action_name(a->type));
		break;
	}
}
