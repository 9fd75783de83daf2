/* nccl_say.c - see nccl_say.h */
#include "core/nccl_say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/nccl_log.h"
#include "core/verdict.h"

/* Below this NCCL cannot register its buffers: they are some MiB a channel, and 64 KiB was
 * the kernel's default until 5.16, 8 MiB since. */
#define COUNTERS_NAMED 3 /* of a port */
#define MEMLOCK_LOW (UINT64_C(16) << 20)

static void add(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void add(char *out, size_t size, const char *fmt, ...)
{
	size_t n = strlen(out);
	va_list ap;

	if (n + 1 >= size)
		return;
	va_start(ap, fmt);
	vsnprintf(out + n, size - n, fmt, ap);
	va_end(ap);
}

static bool is_socket(const struct rec_nccl_state *s)
{
	return s != NULL && s->net != NULL && strcasecmp(s->net, "Socket") == 0;
}

bool nccl_on_socket(const struct nccl_node *n, size_t n_nodes)
{
	return is_socket(n->s) && (n_nodes > 1 || n->s->sends_net > 0);
}

/* ---- one line --------------------------------------------------------------------- */

static const char *version_of(const struct nccl_node *v, size_t n, bool *ret_differ)
{
	const char *first = NULL;

	*ret_differ = false;
	for (size_t i = 0; i < n; i++) {
		const char *x = v[i].s != NULL ? v[i].s->version : NULL;

		if (x == NULL)
			continue;
		if (first == NULL)
			first = x;
		*ret_differ = *ret_differ || strcmp(first, x) != 0;
	}
	return first;
}

enum trait { OF_VERSION, OF_PORTS, OF_GDR };

/* False: it has not said. */
static bool says(const struct rec_nccl_state *s, enum trait t)
{
	if (s == NULL)
		return false;
	return t == OF_VERSION ? s->version != NULL : t == OF_PORTS ? s->net != NULL : s->sends_net > 0;
}

static bool alike(const struct rec_nccl_state *a, const struct rec_nccl_state *b, enum trait t)
{
	if (t == OF_VERSION)
		return strcmp(a->version, b->version) == 0;
	return t == OF_PORTS ? a->n_hcas == b->n_hcas : (a->gdr < a->sends_net) == (b->gdr < b->sends_net);
}

/* The first node that is not like most, and how many such there are; NULL: all are alike. */
static const struct nccl_node *odd_one(const struct nccl_node *v, size_t n, enum trait t, size_t *ret_n)
{
	const struct nccl_node *most = NULL, *odd = NULL;
	long lead = 0;

	for (size_t i = 0; i < n; i++) { /* the majority's, by Boyer and Moore */
		if (!says(v[i].s, t))
			continue;
		if (most == NULL || lead == 0) {
			most = most != NULL && alike(most->s, v[i].s, t) ? most : &v[i];
			lead = 1;
		} else {
			lead += alike(most->s, v[i].s, t) ? 1 : -1;
		}
	}
	*ret_n = 0;
	for (size_t i = 0; i < n; i++)
		if (says(v[i].s, t) && !alike(most->s, v[i].s, t)) {
			odd = odd != NULL ? odd : &v[i];
			(*ret_n)++;
		}
	return odd;
}

static void add_odd(const struct nccl_node *odd, size_t n, char *out, size_t size)
{
	add(out, size, " on %.24s", odd->node);
	if (n > 1)
		add(out, size, " and %zu more", n - 1);
}

/* Every sender that told how it sends does so with GPUDirect. */
static bool all_gdr(const struct nccl_node *v, size_t n)
{
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		if (v[i].s == NULL || v[i].s->sends_net == 0)
			continue;
		if (v[i].s->gdr < v[i].s->sends_net)
			return false;
		any = true;
	}
	return any;
}

static void add_ib(const struct nccl_node *v, size_t n, char *out, size_t size)
{
	size_t least = SIZE_MAX, most = 0, sends = 0, odds;
	const struct nccl_node *odd;
	bool roce = false;

	for (size_t i = 0; i < n; i++) {
		if (v[i].s == NULL || v[i].s->net == NULL)
			continue;
		roce = roce || v[i].s->roce;
		sends += v[i].s->sends_net;
		least = v[i].s->n_hcas < least ? v[i].s->n_hcas : least;
		most = v[i].s->n_hcas > most ? v[i].s->n_hcas : most;
	}
	add(out, size, ", %s", roce ? "RoCE" : "IB");
	if (most > 0 && least == most)
		add(out, size, " x%zu", most);
	else if (most > 0)
		add(out, size, " x%zu-%zu!", least, most);
	if (least < most && (odd = odd_one(v, n, OF_PORTS, &odds)) != NULL) {
		add(out, size, " (x%zu", odd->s->n_hcas);
		add_odd(odd, odds, out, size);
		add(out, size, ")");
	}
	if (all_gdr(v, n))
		add(out, size, " GDR");
	else if (sends > 0)
		add(out, size, " no GDR");
	if (sends > 0 && (odd = odd_one(v, n, OF_GDR, &odds)) != NULL) {
		bool without = odd->s->gdr < odd->s->sends_net;

		add(out, size, without ? "!" : "! (but");
		add_odd(odd, odds, out, size);
		add(out, size, without ? "" : ")");
	}
}

/* The network that all who chose one have chosen; NULL: none has, or they differ. */
static const char *common_net(const struct nccl_node *v, size_t n, bool *ret_differ)
{
	const char *net = NULL;

	*ret_differ = false;
	for (size_t i = 0; i < n; i++) {
		const char *x = v[i].s != NULL ? v[i].s->net : NULL;

		if (x == NULL)
			continue;
		if (net == NULL)
			net = x;
		*ret_differ = *ret_differ || strcasecmp(net, x) != 0;
	}
	return net;
}

static void add_inside(const struct nccl_node *v, char *out, size_t size)
{
	if (v->s->p2p > 0)
		add(out, size, ", GPU to GPU");
	if (v->s->shm > 0)
		add(out, size, "%s shared memory", v->s->p2p > 0 ? " and" : ",");
	if (v->s->p2p + v->s->shm == 0)
		add(out, size, ", within its node");
}

static uint32_t beginning(const struct nccl_node *v, size_t n)
{
	uint32_t left = 0;

	for (size_t i = 0; i < n; i++)
		if (v[i].s != NULL && v[i].s->inits > v[i].s->inits_done)
			left += v[i].s->inits - v[i].s->inits_done;
	return left;
}

void nccl_say_brief(const struct nccl_node *v, size_t n, char *out, size_t size)
{
	bool versions, nets;
	const char *version = version_of(v, n, &versions), *net = common_net(v, n, &nets);
	const struct nccl_node *odd;
	size_t odds;

	out[0] = '\0';
	if (version == NULL && net == NULL)
		return;
	add(out, size, "NCCL%s%s%s", version != NULL ? " " : "", version != NULL ? version : "",
	    versions ? " and others!" : "");
	if (versions && (odd = odd_one(v, n, OF_VERSION, &odds)) != NULL) {
		add(out, size, " (%.16s", odd->s->version);
		add_odd(odd, odds, out, size);
		add(out, size, ")");
	}
	if (nets) {
		add(out, size, ", MIXED! %s and others", net);
	} else if (net != NULL && strcasecmp(net, "Socket") == 0) {
		bool on = false;

		for (size_t i = 0; i < n; i++)
			on = on || nccl_on_socket(&v[i], n);
		if (!on) {
			add_inside(&v[0], out, size);
			return;
		}
		add(out, size, ", SOCKET!");
		for (size_t i = 0; i < n; i++)
			if (v[i].s != NULL && v[i].s->socket_if != NULL) {
				add(out, size, " %s", v[i].s->socket_if);
				break;
			}
	} else if (net != NULL && n == 1 && v[0].s->sends_net == 0 && v[0].s->p2p + v[0].s->shm > 0) {
		add_inside(&v[0], out, size);
	} else if (net != NULL && (strcasecmp(net, "IB") == 0)) {
		add_ib(v, n, out, size);
	} else if (net != NULL) {
		add(out, size, ", %s", net);
	}
	if (net == NULL && beginning(v, n) > 0)
		add(out, size, ", beginning");
}

/* ---- why TCP ------------------------------------------------------------------------ */

static bool active(const struct rec_port *p)
{
	return p->state != NULL && strcmp(p->state, "Active") == 0;
}

struct ports {
	bool known;
	uint32_t all, active;
	const struct rec_port *bad; /* the first that is not Active */
};

static struct ports look(const struct rec_readings *r)
{
	struct ports p = { .known = r != NULL && verdict_ports_known(r) };

	for (size_t i = 0; p.known && i < r->n_ports; i++) {
		if (r->ports[i].excluded)
			continue;
		p.all++;
		p.active += active(&r->ports[i]);
		if (p.bad == NULL && !active(&r->ports[i]))
			p.bad = &r->ports[i];
	}
	return p;
}

static void add_ports(const struct nccl_node *n, const struct ports *p, char *out, size_t size)
{
	if (!p->known)
		return;
	if (p->all > 0 && p->all == p->active)
		add(out, size, "; %s %u InfiniBand port%s of %s %s Active", p->all == 1 ? "the" : "all", p->all,
		    p->all == 1 ? "" : "s", n->node, p->all == 1 ? "is" : "are");
	else if (p->all > 0)
		add(out, size, "; of %u InfiniBand ports of %s %u are Active", p->all, n->node, p->active);
	else
		add(out, size, "; %s has no InfiniBand port that can be read", n->node);
}

static bool by_user(const struct nccl_node *n, const struct ports *p, struct nccl_why *w)
{
	const char *by = n->s->set_by != NULL ? n->s->set_by : "its environment";
	bool socket = n->s->net_asked != NULL && strcasecmp(n->s->net_asked, "Socket") == 0;

	if (!n->s->ib_disabled && !socket)
		return false;
	w->reason = "user";
	snprintf(w->text, sizeof(w->text), "%s is set, by %s", n->s->ib_disabled ? "NCCL_IB_DISABLE=1" : "NCCL_NET=Socket", by);
	add_ports(n, p, w->text, sizeof(w->text));
	snprintf(w->fix, sizeof(w->fix), "relaunch without %s", n->s->ib_disabled ? "NCCL_IB_DISABLE" : "NCCL_NET");
	return true;
}

static bool by_library(const struct nccl_node *n, const struct ports *p, struct nccl_why *w)
{
	(void)p;
	if (n->s->ib_why == NULL || strstr(n->s->ib_why, "libibverbs") == NULL)
		return false;
	w->reason = "library";
	snprintf(w->text, sizeof(w->text), "libibverbs is not found by its processes on %s, so NCCL cannot use InfiniBand%s",
		 n->node, n->s->container ? " (they run in a container)" : "");
	snprintf(w->fix, sizeof(w->fix), "install libibverbs (Debian: libibverbs1; RHEL: rdma-core) %s",
		 n->s->container ? "in the container's image" : "there");
	return true;
}

static bool by_container(const struct nccl_node *n, const struct ports *p, struct nccl_why *w)
{
	(void)p;
	if (!n->s->no_dev)
		return false;
	w->reason = "container";
	snprintf(w->text, sizeof(w->text), "its processes on %s run in a container that has no /dev/infiniband, though the "
		 "host has", n->node);
	snprintf(w->fix, sizeof(w->fix), "map it into the container: --device /dev/infiniband (docker: also --ulimit memlock=-1)");
	return true;
}

static bool by_port(const struct nccl_node *n, const struct ports *p, struct nccl_why *w)
{
	if (!p->known || p->all == 0 || p->active > 0)
		return false;
	w->reason = "port";
	snprintf(w->text, sizeof(w->text), "NCCL uses Active ports only, and no InfiniBand port of %s is: %s is %s", n->node,
		 p->bad->device, p->bad->state != NULL ? p->bad->state : "in an unknown state");
	snprintf(w->fix, sizeof(w->fix), "nodectl node %s says what is wrong with the port; then relaunch", n->node);
	return true;
}

/* A filter of the user's that lets nothing through. */
static bool by_filter(const struct nccl_node *n, const struct ports *p, struct nccl_why *w)
{
	if (n->s->ib_hca == NULL || !n->s->no_ib_device)
		return false;
	w->reason = "user";
	snprintf(w->text, sizeof(w->text), "NCCL_IB_HCA=%s is set, by %s, and no Active port is left by it", n->s->ib_hca,
		 n->s->set_by != NULL ? n->s->set_by : "its environment");
	add_ports(n, p, w->text, sizeof(w->text));
	snprintf(w->fix, sizeof(w->fix), "relaunch without NCCL_IB_HCA");
	return true;
}

static bool by_memlock(const struct nccl_node *n, const struct ports *p, struct nccl_why *w)
{
	bool said = n->s->trouble != NULL && strcmp(n->s->trouble, "memlock") == 0;

	(void)p;
	if (!said && (!MSG_HAS(n->s, nccl_state, memlock) || n->s->memlock >= MEMLOCK_LOW))
		return false;
	w->reason = "memlock";
	snprintf(w->text, sizeof(w->text), "the limit of locked memory (memlock) of its processes on %s is ", n->node);
	if (MSG_HAS(n->s, nccl_state, memlock))
		add(w->text, sizeof(w->text), "%llu KiB: InfiniBand needs more%s", (unsigned long long)(n->s->memlock >> 10),
		    said ? "" : ", and nothing else is known that kept NCCL from it");
	else
		add(w->text, sizeof(w->text), "too low for InfiniBand, as NCCL says");
	snprintf(w->fix, sizeof(w->fix), "LimitMEMLOCK=infinity for nodeagent-launcher.service (or nodeagentd) there");
	return true;
}

static bool by_absence(const struct nccl_node *n, const struct ports *p, struct nccl_why *w)
{
	if (!p->known || p->all > 0)
		return false;
	w->reason = "none";
	snprintf(w->text, sizeof(w->text), "%s has no InfiniBand port", n->node);
	return true;
}

void nccl_say_why(const struct nccl_node *n, struct nccl_why *w)
{
	static bool (*const rules[])(const struct nccl_node *, const struct ports *, struct nccl_why *) = {
		by_user, by_library, by_container, by_port, by_filter, by_absence, by_memlock,
	};
	struct ports p = look(n->r);

	*w = (struct nccl_why){ .reason = "unknown" };
	for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i](n, &p, w))
			return;
	if (n->s->ib_why != NULL)
		snprintf(w->text, sizeof(w->text), "on %s %s", n->node, n->s->ib_why);
	else
		snprintf(w->text, sizeof(w->text), "NCCL found no InfiniBand device that it can use on %s, and does not say why",
			 n->node);
	add_ports(n, &p, w->text, sizeof(w->text));
	snprintf(w->fix, sizeof(w->fix), "nodectl check nccl -w %s", n->node);
}

/* ---- trouble ------------------------------------------------------------------------- */

static const struct rec_port *port_named(const struct rec_readings *r, const char *dev)
{
	for (size_t i = 0; r != NULL && i < r->n_ports; i++)
		if (strcmp(r->ports[i].device, dev) == 0)
			return &r->ports[i];
	return NULL;
}

static bool has_address(const struct nccl_node *n, const char *ip)
{
	for (size_t i = 0; i < n->n_addrs; i++)
		if (strcmp(n->addrs[i].ip, ip) == 0)
			return true;
	return false;
}

/* The node that the other end's address or GID is of. */
static const struct nccl_node *find_peer(const struct nccl_node *v, size_t n, const char *peer, const struct rec_port **ret)
{
	*ret = NULL;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; v[i].r != NULL && k < v[i].r->n_ports; k++)
			if (v[i].r->ports[k].gid != NULL && strcasecmp(v[i].r->ports[k].gid, peer) == 0) {
				*ret = &v[i].r->ports[k];
				return &v[i];
			}
		if (has_address(&v[i], peer))
			return &v[i];
	}
	return NULL;
}

static void add_ranks(const struct nccl_node *n, char *out, size_t size)
{
	if (n->n_ranks == 1)
		add(out, size, " (rank %u)", n->rank_base);
	else if (n->n_ranks > 1)
		add(out, size, " (ranks %u-%u)", n->rank_base, n->rank_base + n->n_ranks - 1);
}

static void add_port(const struct rec_port *p, char *out, size_t size)
{
	if (p != NULL)
		add(out, size, " %s is %s", p->device, p->state != NULL ? p->state : "in an unknown state");
}

/* Those that grow also on a link that is well say nothing of it. */
static bool tells_of_link(const struct rec_counter *x)
{
	static const char *const noise[] = { "out_of_sequence", "port_xmit_discards", "port_rcv_data", "port_xmit_data" };

	for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++)
		if (strcmp(x->name, noise[i]) == 0)
			return false;
	return true;
}

/* "; symbol_error grew by 12 there in the last 30 min": which of the two ends is bad. */
static void add_counters(const struct rec_port *p, char *out, size_t size)
{
	size_t n = 0;

	if (p == NULL || !MSG_HAS(p, port, counters_s) || p->n_counters == 0)
		return;
	for (size_t i = 0; i < p->n_counters; i++) {
		const struct rec_counter *x = &p->counters[i];

		if (!tells_of_link(x) || x->delta == 0 || n == COUNTERS_NAMED)
			continue;
		add(out, size, "%s%s +%llu", n == 0 ? " (" : ", ", x->name, (unsigned long long)x->delta);
		n++;
	}
	if (n == 0)
		add(out, size, " (no error counted");
	add(out, size, " in the last %u min)", (p->counters_s + 59) / 60);
}

static void add_peer(const struct nccl_node *v, size_t n, const char *peer, const char *dev, char *out, size_t size)
{
	const struct rec_port *port;
	const struct nccl_node *x = find_peer(v, n, peer, &port);
	struct ports p;

	if (x == NULL) {
		add(out, size, "; the other end is %s", peer);
		return;
	}
	add(out, size, "; the other end is %s", x->node);
	add_ranks(x, out, size);
	p = look(x->r);
	if (port == NULL)
		port = p.bad;
	if (port != NULL) {
		add(out, size, ", whose");
		add_port(port, out, size);
		add_counters(port, out, size);
	} else if (p.known && p.all > 0) {
		add(out, size, ", whose %u port%s %s Active", p.all, p.all == 1 ? "" : "s", p.all == 1 ? "is" : "are all");
		port = dev != NULL ? port_named(x->r, dev) : NULL; /* as rails are wired, most likely */
		if (port != NULL) {
			add(out, size, ", %s", port->device);
			add_counters(port, out, size);
		}
	}
}

void nccl_say_trouble(const struct nccl_node *v, size_t n, size_t i, char *out, size_t size)
{
	const struct rec_nccl_state *s = v[i].s;
	enum nccl_trouble t;

	out[0] = '\0';
	if (s == NULL || s->trouble == NULL)
		return;
	t = nccl_trouble_of(s->trouble);
	if (MSG_HAS(s, nccl_state, trouble_rank))
		add(out, size, "rank %u on ", s->trouble_rank);
	add(out, size, "%s", v[i].node);
	if (s->dev != NULL)
		add(out, size, " %s", s->dev);
	if (t == NCCL_OTHER && s->text != NULL)
		add(out, size, ": %.200s", s->text);
	else if (t == NCCL_CUDA && s->text != NULL)
		add(out, size, ": %s: %.120s", nccl_trouble_text(t), s->text);
	else
		add(out, size, ": %s", nccl_trouble_text(t));
	if (t == NCCL_COMPLETION && s->number > 0)
		add(out, size, " (completion status %u)", s->number);
	else if (t == NCCL_MODIFY_QP && s->number > 0)
		add(out, size, " (ibv_modify_qp: error %u)", s->number);
	if (s->dev != NULL && port_named(v[i].r, s->dev) != NULL) {
		add(out, size, "; its port is %s", port_named(v[i].r, s->dev)->state != NULL ? port_named(v[i].r, s->dev)->state :
		    "in an unknown state");
		add_counters(port_named(v[i].r, s->dev), out, size);
	}
	if (s->peer != NULL)
		add_peer(v, n, s->peer, s->dev, out, size);
}
