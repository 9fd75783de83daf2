/* fix_ports.c - see fix_ports.h */
#include "client/fix_ports.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client/status.h"

#define LOOK_MS 500
#define LOOK_SHARE 4 /* and so many times as long as it takes to look */
#define LEFT_MAX 8 /* lines */

void fix_ports_init(struct fix_ports *p)
{
	memset(p, 0, sizeof(*p));
	buf_init(&p->names);
}

void fix_ports_finish(struct fix_ports *p)
{
	buf_finish(&p->names);
}

static bool is_ib(const struct rec_port *p)
{
	return !p->excluded && p->state && (!p->link_layer || strcmp(p->link_layer, "Ethernet") != 0);
}

static bool waits(const struct rec_port *p)
{
	return is_ib(p) && (strcmp(p->state, "Initializing") == 0 || strcmp(p->state, "Armed") == 0);
}

static void count(struct fix_ports *p, const struct rec_status *s)
{
	p->all = p->active = p->waiting = 0;
	buf_reset(&p->names);
	for (size_t i = 0; i < s->n_nodes; i++)
		for (size_t k = 0; k < s->nodes[i].n_port_list; k++) {
			const struct rec_port *x = &s->nodes[i].port_list[k];

			p->all += is_ib(x);
			p->active += is_ib(x) && strcmp(x->state, "Active") == 0;
			if (waits(x) && p->waiting++ < FIX_NAMES)
				buf_addf(&p->names, "%s%s %s %s", p->waiting > 1 ? ", " : "", s->nodes[i].name, x->device, x->state);
		}
	if (p->waiting > FIX_NAMES)
		buf_addf(&p->names, " and %zu more", p->waiting - FIX_NAMES);
}

int fix_ports_look(const struct ctl *c, struct fix_ports *p)
{
	struct gathered g;
	int r = status_get(c, &(struct status_wish){ .detail = true }, &g);

	if (r != CTL_GO)
		return r;
	count(p, &g.all.u.status);
	gather_finish(&g);
	return CTL_GO;
}

int fix_ports_wait(const struct ctl *c, uint64_t ms, struct fix_ports *p, int64_t *ret_ms)
{
	mono_t begin = mono_now(), end = mono_add_ms(begin, (int64_t)ms);
	size_t before = SIZE_MAX;
	int64_t took;
	int r;

	for (;;) {
		mono_t look = mono_now();

		r = fix_ports_look(c, p);
		took = mono_sub_ms(mono_now(), look);
		*ret_ms = mono_sub_ms(mono_now(), begin);
		if (r != CTL_GO || p->waiting == 0 || mono_due(end, mono_now()))
			return r;
		if (p->waiting != before)
			ctl_say("waiting for %zu port%s, %llu s at most: %s", p->waiting, p->waiting == 1 ? "" : "s",
				(unsigned long long)(ms + 999) / 1000, buf_str(&p->names));
		before = p->waiting;
		poll(NULL, 0, (int)(LOOK_MS + (took < 10000 ? LOOK_SHARE * took : 10000))); /* a large cluster is not asked all the time */
	}
}

/* What the coordinator makes of it; NULL: nothing. */
static const char *judged(const struct rec_node_info *n, const struct rec_port *p)
{
	for (size_t i = 0; i < n->n_attention; i++) {
		const char *subject = n->attention[i].subject, *blank = strrchr(subject, ' ');
		size_t len = strlen(p->device);

		/* "gpu03 mlx5_2", and "gpu03 mlx5_2:2" of a device with several ports */
		if (blank && strncmp(blank + 1, p->device, len) == 0 && (blank[1 + len] == '\0' || blank[1 + len] == ':'))
			return n->attention[i].text;
	}
	return NULL;
}

static void say_port(const struct rec_node_info *n, const struct rec_port *p)
{
	const char *text = judged(n, p);

	ctl_say("%s %s port %u is still %s%s%s", n->name, p->device, p->port, p->state, text ? ": " : "", text ? text : "");
}

static void say_why(const struct rec_status *s, const struct fix_ports *before, const struct fix_ports *now, const char *node,
		    const char *unit)
{
	const struct rec_node_info *n = status_node(s, node);

	if (n && n->n_host && n->host->sm && !n->host->sm_running)
		ctl_say("%s on %s has ended again; there: systemctl status %s", unit, node, unit);
	else if (now->active > before->active)
		ctl_say("%s configures other ports: these are perhaps of another fabric, which needs a manager of its own, or "
			"are refused (pkey, M_Key); on %s: journalctl -u %s", unit, node, unit);
	else
		ctl_say("%s configures none of them: it is perhaps bound to a port of another fabric, or cannot use its own; on "
			"%s: journalctl -u %s", unit, node, unit);
}

void fix_ports_say_left(const struct ctl *c, const struct fix_ports *before, const char *node, const char *unit)
{
	struct fix_ports now;
	struct gathered g;
	size_t said = 0;

	if (status_get(c, &(struct status_wish){ .detail = true }, &g) != CTL_GO)
		return;
	fix_ports_init(&now);
	count(&now, &g.all.u.status);
	for (size_t i = 0; i < g.all.u.status.n_nodes; i++)
		for (size_t k = 0; k < g.all.u.status.nodes[i].n_port_list; k++)
			if (waits(&g.all.u.status.nodes[i].port_list[k]) && said++ < LEFT_MAX)
				say_port(&g.all.u.status.nodes[i], &g.all.u.status.nodes[i].port_list[k]);
	if (said > LEFT_MAX)
		ctl_say("and %zu more", said - LEFT_MAX);
	say_why(&g.all.u.status, before, &now, node, unit);
	fix_ports_finish(&now);
	gather_finish(&g);
}
