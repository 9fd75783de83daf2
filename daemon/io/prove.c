/* prove.c - can this node reach the ports it will be told to use?
 *
 * All addresses of all targets are tried at once, 3 s for everything. We close
 * first, so that TIME_WAIT stays here and not on the port that was proved.
 * Once every target has answered on some address, the others get 250 ms more:
 * a dead second network must not cost each launch 3 s.
 *
 * A connection that is dropped without a word looks like a host that is down;
 * the text names the firewall because on clusters that is what it is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/agent_io.h"

#define PROVE_MS 3000
#define REST_MS 250
#define TARGETS_MAX 4

struct proving;
struct try {
	uv_tcp_t tcp;
	uv_connect_t req;
	struct proving *all;
	unsigned target;
	char ip[46];
	uint32_t port;
	bool started, done, reached, silent;
	int error;
};

struct target {
	char kind[17], node[65];
	char text[512];
	const char *reached[ADDRS_MAX];
	bool answered;
};

struct proving {
	struct agent_io *io;
	uint64_t ticket;
	uv_timer_t timer;
	struct target targets[TARGETS_MAX];
	size_t n_targets;
	struct try *tries;
	size_t n_tries;
	size_t waiting; /* tries not done */
	size_t open; /* handles not closed yet */
	bool told;
	bool hurried;
	char ifname[33];
	uint32_t mtu;
};

static void closed(struct proving *p)
{
	if (--p->open > 0)
		return;
	free(p->tries);
	free(p);
}

static void try_closed(uv_handle_t *h)
{
	closed(list_entry(h, struct try, tcp)->all);
}

static void timer_closed(uv_handle_t *h)
{
	closed(list_entry(h, struct proving, timer));
}

static void add_text(struct target *t, const struct try *y)
{
	size_t n = strlen(t->text);
	bool v6 = strchr(y->ip, ':') != NULL;

	if (n > sizeof(t->text) - 100)
		return;
	snprintf(t->text + n, sizeof(t->text) - n, "%s%s%s%s:%u: %s", n ? "; " : "", v6 ? "[" : "",
		 y->ip, v6 ? "]" : "", y->port,
		 !y->silent		? uv_strerror(y->error)
		 : y->all->hurried ? "no answer in 250 ms"
				   : "no answer in 3 s (a firewall drops it?)");
}

static void tell(struct proving *p)
{
	struct later *l = agent_later_new(AEV_DONE);
	struct rec_proof_result *r = arena_alloc(&l->arena, p->n_targets * sizeof(*r));

	if (r == NULL)
		agent_no_memory();
	for (size_t i = 0; i < p->n_tries; i++) {
		struct try *y = &p->tries[i];
		struct target *t = &p->targets[y->target];

		if (y->reached)
			t->reached[r[y->target].n_reached++] = arena_strdup(&l->arena, y->ip);
		else
			add_text(t, y);
	}
	for (size_t i = 0; i < p->n_targets; i++) {
		struct target *t = &p->targets[i];

		r[i].kind = arena_strdup(&l->arena, t->kind);
		r[i].node = arena_strdup(&l->arena, t->node);
		r[i].text = t->text[0] ? arena_strdup(&l->arena, t->text) : NULL;
		r[i].reached = arena_memdup(&l->arena, t->reached, sizeof(t->reached));
		if (r[i].kind == NULL || r[i].node == NULL || r[i].reached == NULL)
			agent_no_memory();
	}
	l->ev.ticket = p->ticket;
	l->ev.results = r;
	l->ev.n_results = p->n_targets;
	if (p->ifname[0] != 0)
		l->ev.ifname = arena_strdup(&l->arena, p->ifname);
	l->ev.mtu = p->mtu;
	agent_later(p->io, l);
}

static void finish(struct proving *p)
{
	if (p->told)
		return;
	p->told = true;
	tell(p);
	for (size_t i = 0; i < p->n_tries; i++)
		if (p->tries[i].started && !uv_is_closing((uv_handle_t *)&p->tries[i].tcp))
			uv_close((uv_handle_t *)&p->tries[i].tcp, try_closed);
	uv_close((uv_handle_t *)&p->timer, timer_closed);
}

/* The interface that carried the first success of the first target ("master"
 * when there is one): what NCCL and Gloo are pointed to. */
static void note_interface(struct try *y)
{
	struct sockaddr_storage ss;
	int len = sizeof(ss);
	char ip[46];
	const void *p = &((struct sockaddr_in *)&ss)->sin_addr;

	if (y->all->ifname[0] != 0 || uv_tcp_getsockname(&y->tcp, (void *)&ss, &len) != 0)
		return;
	if (ss.ss_family == AF_INET6)
		p = &((struct sockaddr_in6 *)&ss)->sin6_addr;
	if (inet_ntop(ss.ss_family, p, ip, sizeof(ip)) != NULL)
		addrs_ifname(ip, y->all->ifname);
	if (y->all->ifname[0] != 0)
		y->all->mtu = addrs_mtu(y->all->ifname);
}

static void out_of_time(uv_timer_t *t)
{
	struct proving *p = list_entry(t, struct proving, timer);

	for (size_t i = 0; i < p->n_tries; i++)
		if (!p->tries[i].done)
			p->tries[i].done = p->tries[i].silent = true;
	finish(p);
}

static void hurry(struct proving *p)
{
	for (size_t i = 0; i < p->n_targets; i++)
		if (!p->targets[i].answered)
			return;
	if (!p->hurried)
		uv_timer_start(&p->timer, out_of_time, REST_MS, 0);
	p->hurried = true;
}

static void try_done(struct try *y, int error)
{
	struct proving *p = y->all;

	if (y->done)
		return;
	y->done = true;
	y->error = error;
	y->reached = error == 0;
	if (y->reached) {
		note_interface(y);
		p->targets[y->target].answered = true;
	}
	if (y->started && !uv_is_closing((uv_handle_t *)&y->tcp))
		uv_close((uv_handle_t *)&y->tcp, try_closed);
	if (--p->waiting == 0)
		finish(p);
	else if (y->reached)
		hurry(p);
}

static void connected(uv_connect_t *req, int status)
{
	try_done(list_entry(req, struct try, req), status);
}

/* Some tries may end at once; 'waiting' counts them all before the first one. */
static void start_try(struct try *y)
{
	struct sockaddr_storage ss;
	int rc = uv_ip4_addr(y->ip, (int)y->port, (void *)&ss);

	if (rc != 0)
		rc = uv_ip6_addr(y->ip, (int)y->port, (void *)&ss);
	if (rc == 0)
		rc = uv_tcp_init(&y->all->io->loop, &y->tcp);
	if (rc == 0) {
		y->started = true;
		y->all->open++;
		rc = uv_tcp_connect(&y->req, &y->tcp, (void *)&ss, connected);
	}
	if (rc != 0)
		try_done(y, rc);
}

static void take_target(struct proving *p, const struct rec_proof *f)
{
	struct target *t = &p->targets[p->n_targets];

	snprintf(t->kind, sizeof(t->kind), "%s", f->kind);
	snprintf(t->node, sizeof(t->node), "%s", f->node);
	for (size_t i = 0; i < f->n_addrs && i < ADDRS_MAX; i++) {
		struct try *y = &p->tries[p->n_tries++];

		y->all = p;
		y->target = (unsigned)p->n_targets;
		y->port = f->port;
		snprintf(y->ip, sizeof(y->ip), "%s", f->addrs[i].ip);
	}
	p->n_targets++;
}

void prove_start(struct agent_io *io, const struct action *a)
{
	struct proving *p = agent_alloc(sizeof(*p));

	p->io = io;
	p->ticket = a->ticket;
	p->tries = agent_alloc((TARGETS_MAX * ADDRS_MAX + 1) * sizeof(*p->tries));
	for (size_t i = 0; i < a->n_proofs && i < TARGETS_MAX; i++)
		take_target(p, &a->proofs[i]);
	uv_timer_init(&io->loop, &p->timer);
	p->open = 1;
	p->waiting = p->n_tries;
	if (p->n_tries == 0) {
		finish(p);
		return;
	}
	uv_timer_start(&p->timer, out_of_time, PROVE_MS, 0);
	for (size_t i = 0, n = p->n_tries; i < n; i++)
		start_try(&p->tries[i]);
}
