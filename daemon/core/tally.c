/* tally.c - see tally.h */
#include "core/tally.h"

#include <stdio.h>
#include <string.h>

static bool same(const char *kept, const char *text)
{
	return strncmp(kept, text, sizeof(((struct tally_entry *)0)->value) - 1) == 0;
}

void tally_add(struct tally *t, enum tally_kind kind, const char *model, const char *value)
{
	struct tally_entry *e;

	for (size_t i = 0; i < t->n; i++) {
		e = &t->v[i];
		if (e->kind == kind && same(e->model, model) && same(e->value, value)) {
			e->n++;
			return;
		}
	}
	if (t->n == TALLY_MAX)
		return;
	e = &t->v[t->n++];
	e->kind = (uint8_t)kind;
	e->n = 1;
	snprintf(e->model, sizeof(e->model), "%s", model);
	snprintf(e->value, sizeof(e->value), "%s", value);
}

void tally_look(const struct tally *t, enum tally_kind kind, const char *model, const char *value,
		struct tally_view *ret)
{
	const struct tally_entry *best = NULL;

	*ret = (struct tally_view){ 0 };
	for (size_t i = 0; i < t->n; i++) {
		const struct tally_entry *e = &t->v[i];

		if (e->kind != kind || !same(e->model, model))
			continue;
		ret->n_all += e->n;
		if (value != NULL && same(e->value, value))
			ret->n_same = e->n;
		if (best == NULL || e->n > best->n)
			best = e;
	}
	if (best != NULL && best->n * 2 > ret->n_all) {
		ret->most = best->value;
		ret->n_most = best->n;
	}
}

static void add_number(struct tally *t, enum tally_kind kind, const char *model, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
	tally_add(t, kind, model, text);
}

const char *tally_port_model(const struct rec_port *p)
{
	return p->board != NULL ? p->board : "";
}

const char *tally_gpu_model(const struct rec_readings *r)
{
	for (size_t i = 0; i < r->n_gpus; i++)
		if (r->gpus[i].name != NULL)
			return r->gpus[i].name;
	return "";
}

const char *tally_make(const struct rec_readings *r, char out[66])
{
	const char *gpu = tally_gpu_model(r);

	if (r->n_gpus > 0)
		return gpu;
	snprintf(out, 66, "@%.60s", r->n_ports > 0 ? tally_port_model(&r->ports[0]) : ""); /* no GPU's name begins so */
	return out;
}

const char *tally_port_name(const struct rec_port *p, char out[66])
{
	snprintf(out, 66, "@%.60s/%u", p->device, p->port); /* no board_id begins so */
	return out;
}

static void add_rates(struct tally *t, const struct rec_port *p, const char *model)
{
	if (*model != '\0' && MSG_HAS(p, port, rate_mbps))
		add_number(t, TALLY_RATE, model, p->rate_mbps);
	if (*model != '\0' && MSG_HAS(p, port, lanes))
		add_number(t, TALLY_LANES, model, p->lanes);
}

/* A copy of the InfiniBand port's rules: what is not Active has no rate. */
static void add_port(struct tally *t, const struct rec_port *p, bool *init, bool *active)
{
	const char *model = tally_port_model(p);
	bool ib = p->link_layer == NULL || strcmp(p->link_layer, "InfiniBand") == 0;
	char name[66];

	if (p->excluded)
		return;
	if (p->fw != NULL && *model != '\0')
		tally_add(t, TALLY_FIRMWARE, model, p->fw);
	if (p->state == NULL)
		return;
	tally_add(t, TALLY_DOWN, tally_port_name(p, name), strcmp(p->state, "Down") == 0 ? "1" : "0");
	*init = *init || (ib && strcmp(p->state, "Initializing") == 0 &&
			  p->phys_state != NULL && strcmp(p->phys_state, "LinkUp") == 0);
	if (strcmp(p->state, "Active") != 0)
		return;
	*active = *active || ib;
	add_rates(t, p, model);
	add_rates(t, p, tally_port_name(p, name));
	if (ib && MSG_HAS(p, port, sm_lid) && p->sm_lid != 0)
		add_number(t, TALLY_SM, p->device, p->sm_lid);
	if (ib && MSG_HAS(p, port, pkey))
		add_number(t, TALLY_PKEY, "", p->pkey & 0x7fff);
}

static void add_gpu(struct tally *t, const struct rec_gpu *g)
{
	char text[24];

	if (g->name == NULL || g->text != NULL)
		return;
	if (MSG_HAS(g, gpu, nvlinks))
		add_number(t, TALLY_NVLINKS, g->name, g->nvlinks);
	if (MSG_HAS(g, gpu, ecc_on))
		add_number(t, TALLY_ECC, g->name, g->ecc_on);
	if (MSG_HAS(g, gpu, power_limit_mw))
		add_number(t, TALLY_LIMIT, g->name, g->power_limit_mw / 1000);
	if (MSG_HAS(g, gpu, pcie_gen_max) && MSG_HAS(g, gpu, pcie_width_max)) {
		snprintf(text, sizeof(text), "%u x%u", g->pcie_gen_max, g->pcie_width_max);
		tally_add(t, TALLY_PCIE, g->name, text);
	}
}

void tally_node(struct tally *t, const struct rec_readings *r)
{
	char make[66];
	bool init = false, active = false;

	t->nodes++;
	for (size_t i = 0; i < r->n_ports; i++)
		add_port(t, &r->ports[i], &init, &active);
	for (size_t i = 0; i < r->n_gpus; i++)
		add_gpu(t, &r->gpus[i]);
	for (size_t i = 0; i < r->n_sources; i++)
		if (strcmp(r->sources[i].name, "nvml") == 0 && r->sources[i].version != NULL)
			tally_add(t, TALLY_DRIVER, "", r->sources[i].version);
	if (r->n_gpus > 0)
		add_number(t, TALLY_GPUS, tally_gpu_model(r), r->n_gpus);
	if (r->n_ports > 0)
		add_number(t, TALLY_PORTS, tally_make(r, make), r->n_ports);
	t->nodes_init += init;
	t->nodes_active += active;
}
