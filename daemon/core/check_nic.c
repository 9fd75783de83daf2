/* check_nic.c - has each GPU its own adapter?
 *
 * Of the ports that NCCL is allowed it takes for each GPU the nearest by PCIe, and
 * GPUDirect RDMA only over PCIe switches (PIX, PXB: NCCL_NET_GDR_LEVEL). So when
 * the nearest is down nothing fails: that GPU's traffic takes a way round.
 */
#include "core/check.h"

#include <stdio.h>
#include <string.h>

enum far { FAR_PIX, FAR_PXB, FAR_PHB, FAR_NODE, FAR_SYS, FAR_UNKNOWN };

static enum far far_from(const char *how, size_t len)
{
	static const char *const words[] = { "PIX", "PXB", "PHB", "NODE", "SYS" };

	for (int i = 0; i < FAR_UNKNOWN; i++)
		if (strlen(words[i]) == len && memcmp(how, words[i], len) == 0)
			return (enum far)i;
	return FAR_UNKNOWN;
}

static const char *way(enum far f)
{
	static const char *const ways[] = { "a PCIe switch", "PCIe switches", "the CPU", "the CPU", "the link between the CPUs" };

	return f < FAR_UNKNOWN ? ways[f] : "?";
}

/* The nearest device of a kind: any, or with a port that carries traffic. */
struct near {
	char name[65];
	enum far far;
	const struct rec_port *port;
};

static const struct rec_port *port_of(const struct rec_readings *r, const char *device, bool active)
{
	for (size_t i = 0; i < r->n_ports; i++)
		if (strcmp(r->ports[i].device, device) == 0 && !r->ports[i].excluded && (!active || check_is_active(&r->ports[i])))
			return &r->ports[i];
	return NULL;
}

/* Cards for Ethernet beside InfiniBand are not what NCCL takes. */
static bool same_layer(const struct rec_readings *r, const struct rec_port *p)
{
	for (size_t i = 0; i < r->n_ports; i++)
		if (!r->ports[i].excluded && !check_is_ethernet(&r->ports[i]))
			return !check_is_ethernet(p);
	return true;
}

static struct near nearest(const struct rec_readings *r, const char *nics, bool active)
{
	struct near best = { .far = FAR_UNKNOWN };

	for (const char *p = nics; *p != '\0'; p += strcspn(p, ","), p += *p == ',') {
		size_t n = strcspn(p, ":,"), len = p[n] == ':' ? strcspn(p + n + 1, ",") : 0;
		const struct rec_port *port;
		enum far f = far_from(p + n + 1, len);
		char name[65];

		if (n >= sizeof(name) || f >= best.far)
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)n, p);
		port = port_of(r, name, active);
		if (port == NULL || !same_layer(r, port))
			continue;
		best.far = f;
		best.port = port;
		memcpy(best.name, name, sizeof(name));
	}
	return best;
}

static const char *state_text(struct arena *a, const struct rec_port *p)
{
	if (p->state == NULL)
		return "of unknown state";
	if (strcmp(p->state, "Down") == 0 && p->phys_state != NULL)
		return arena_printf(a, "Down/%s", p->phys_state);
	return p->state;
}

void check_gpu_nic(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;
	struct near own, next;

	is->untold = true; /* that the port is down is told already */
	if (g->nics == NULL || at->r == NULL || g->text != NULL) {
		is->verdict = CHECK_SKIP;
		return;
	}
	own = nearest(at->r, g->nics, false);
	next = nearest(at->r, g->nics, true);
	if (own.far == FAR_UNKNOWN) {
		is->verdict = CHECK_SKIP;
		return;
	}
	check_ok(is, arena_printf(at->a, "nearest %s, over %s", own.name, way(own.far)));
	if (own.far == next.far)
		return;
	is->brief = arena_printf(at->a, "GPU %u without %s", g->index, own.name);
	if (next.far == FAR_UNKNOWN)
		check_say(is, CHECK_WARN, "without its adapter",
			  arena_printf(at->a, "it is nearest %s, which is %s, and no other port is Active", own.name, state_text(at->a, own.port)),
			  "mend the port: see ib.state");
	else
		check_say(is, CHECK_WARN, "without its adapter",
			  arena_printf(at->a, "it is nearest %s, which is %s: its traffic takes %s and crosses %s%s", own.name,
				       state_text(at->a, own.port), next.name, way(next.far),
				       own.far <= FAR_PXB && next.far > FAR_PXB ? ", without GPUDirect" : ""),
			  "mend the port: see ib.state");
}
