/* tally.c - see tally.h */
#include "core/tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/verdict.h"

static bool same(const char *kept, const char *text)
{
	return strncmp(kept, text, sizeof(((struct tally_entry *)0)->value) - 1) == 0;
}

/* Of what is kept of a text, eight bytes at a time. */
static uint64_t mix(uint64_t h, const char *s)
{
	size_t left = strnlen(s, sizeof(((struct tally_entry *)0)->value) - 1);
	uint64_t w;

	h ^= left;
	for (; left >= 8; s += 8, left -= 8) {
		memcpy(&w, s, 8);
		h = (h ^ w) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 32;
	}
	for (w = 0; left > 0; left--)
		w = w << 8 | (unsigned char)s[left - 1];
	h = (h ^ w) * UINT64_C(0x9e3779b97f4a7c15);
	h ^= h >> 32;
	return h;
}

static void counted(struct tally *t, size_t i, bool *no_memory)
{
	struct tally_part *p = t->part;
	uint16_t *more;

	t->v[i].n++;
	if (p == NULL)
		return;
	if (p->n == p->cap) {
		more = realloc(p->v, (2 * p->cap + 64) * sizeof(*more));
		*no_memory = *no_memory || more == NULL;
		if (more == NULL)
			return;
		p->v = more;
		p->cap = 2 * p->cap + 64;
	}
	p->v[p->n++] = (uint16_t)i;
}

/* Ten thousand nodes bring nearly a million of these a second: texts are compared when their hashes are equal. */
void tally_add(struct tally *t, enum tally_kind kind, const char *model, const char *value)
{
	uint32_t hash = (uint32_t)mix(mix((uint64_t)kind + 1, model), value);
	size_t at = hash & (TALLY_SLOTS - 1);
	struct tally_entry *e;

	for (; t->slots[at] != 0; at = (at + 1) & (TALLY_SLOTS - 1)) {
		e = &t->v[t->slots[at] - 1];
		if (e->hash == hash && e->kind == kind && same(e->model, model) && same(e->value, value)) {
			counted(t, (size_t)(e - t->v), &t->no_memory);
			return;
		}
	}
	if (t->n == TALLY_MAX) {
		t->full = true;
		return;
	}
	e = &t->v[t->n++];
	t->slots[at] = (uint16_t)t->n;
	e->kind = (uint8_t)kind;
	e->hash = hash;
	e->n = 0;
	snprintf(e->model, sizeof(e->model), "%s", model);
	snprintf(e->value, sizeof(e->value), "%s", value);
	counted(t, t->n - 1, &t->no_memory);
}

void tally_clear(struct tally *t)
{
	t->n = t->nodes = t->nodes_init = t->nodes_active = 0;
	t->full = t->no_memory = false;
	memset(t->slots, 0, sizeof(t->slots));
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
	char text[24], *p = text + sizeof(text) - 1;

	*p = '\0';
	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	tally_add(t, kind, model, p);
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
	if (t->part != NULL)
		*t->part = (struct tally_part){ true, init, active, t->part->v, t->part->n, t->part->cap };
}

static void add_went(struct tally *t, const struct rec_readings *r, const struct port_base *b)
{
	char name[66];

	for (size_t i = 0; i < r->n_ports; i++) {
		const struct rec_port *p = &r->ports[i];

		if (!p->excluded && p->port == b->port && p->state != NULL && strcmp(p->state, "Down") == 0 && strcmp(p->device, b->device) == 0)
			tally_add(t, TALLY_WENT, tally_port_name(p, name), "1");
	}
}

bool tally_put(struct tally *t, const struct rec_readings *r, const struct port_base *bases, size_t n_bases, struct tally_part *part)
{
	part->n = 0;
	t->part = part;
	tally_node(t, r);
	for (size_t i = 0; i < n_bases; i++)
		add_went(t, r, &bases[i]);
	t->part = NULL;
	return !t->no_memory;
}

void tally_take_back(struct tally *t, struct tally_part *part)
{
	if (!part->counted)
		return;
	for (size_t i = 0; i < part->n; i++)
		t->v[part->v[i]].n--;
	t->nodes--;
	t->nodes_init -= part->init;
	t->nodes_active -= part->active;
	part->n = 0;
	part->counted = false;
}
