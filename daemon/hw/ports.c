/* ports.c - see ports.h */
#include "hw/ports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ports_begin(struct ports *ps)
{
	for (size_t i = 0; i < ps->n; i++)
		ps->rows[i].present = false;
	ps->full = false;
}

void ports_end(struct ports *ps)
{
	size_t kept = 0;

	for (size_t i = 0; i < ps->n; i++) {
		if (!ps->rows[i].present)
			continue;
		if (kept != i)
			ps->rows[kept] = ps->rows[i];
		kept++;
	}
	ps->n = kept;
	ps->began = true;
}

void ports_finish(struct ports *ps)
{
	free(ps->rows);
	*ps = (struct ports){ 0 };
}

static struct port_row *add_row(struct ports *ps, const char *device, uint32_t port)
{
	struct port_row *row;

	if (ps->n == HW_PORTS_MAX) {
		ps->full = true;
		return NULL;
	}
	if (ps->n == ps->cap) {
		size_t cap = ps->cap ? 2 * ps->cap : 16;
		struct port_row *rows = realloc(ps->rows, cap * sizeof *rows);

		if (!rows)
			return NULL;
		ps->rows = rows;
		ps->cap = cap;
	}
	row = &ps->rows[ps->n++];
	*row = (struct port_row){ .p.port = port };
	memcpy(row->p.device, device, strlen(device) + 1);
	if (ps->began) /* it came while we looked: its state is new */
		row->p.since_wall_ms = hw_wall_ms();
	return row;
}

static void clear(struct hw_port *p)
{
	p->state = p->phys_state = p->speed = NULL;
	p->rate_mbps = p->lanes = p->lid = p->sm_lid = p->mtu = (struct hw_u32){ 0 };
	p->gid[0] = '\0';
	p->text[0] = '\0';
	p->excluded = false;
}

struct port_row *port_row(struct ports *ps, const char *device, uint32_t port)
{
	struct port_row *row = NULL;

	for (size_t i = 0; i < ps->n && !row; i++)
		if (ps->rows[i].p.port == port && strcmp(ps->rows[i].p.device, device) == 0)
			row = &ps->rows[i];
	if (!row)
		row = add_row(ps, device, port);
	if (!row)
		return NULL;
	row->present = true;
	clear(&row->p);
	return row;
}

static const char *const ask_names[] = {
	[ASK_STATE] = "state", [ASK_PHYS] = "phys_state", [ASK_RATE] = "rate",
	[ASK_LID] = "lid",     [ASK_SM_LID] = "sm_lid",	  [ASK_VERBS] = "verbs",
};

static void say(struct port_row *row, enum port_ask what)
{
	hw_remark(row->p.text, sizeof row->p.text, "%s: %s", ask_names[what],
		  sysfs_why(row->asks[what].error));
}

bool port_may_ask(struct port_row *row, enum port_ask what, mono_t now)
{
	struct port_backoff *b = &row->asks[what];

	if (b->error == 0 || mono_due(b->retry, now))
		return true;
	say(row, what);
	return false;
}

void port_asked(struct port_row *row, enum port_ask what, int error, mono_t now)
{
	struct port_backoff *b = &row->asks[what];
	int64_t wait_ms;

	b->error = error;
	if (error == 0) {
		b->fails = 0;
		return;
	}
	/* twice at full pace: a device that is just going away or coming up */
	wait_ms = b->fails < 2 ? 0 : INT64_C(2000) << (b->fails - 2);
	if (b->fails < 7)
		b->fails++;
	b->retry = mono_add_ms(now, wait_ms < PORT_RETRY_MAX_MS ? wait_ms : PORT_RETRY_MAX_MS);
	say(row, what);
}

void port_state_known(struct port_row *row)
{
	if (!row->p.state)
		return;
	if (row->last_state && row->last_state != row->p.state) {
		if (strcmp(row->last_state, "Active") == 0)
			row->lost[row->n_lost++ % PORT_LOSSES_MAX] = hw_now();
		row->p.since_wall_ms = hw_wall_ms();
		row->slow_due = row->pkeys_due = (mono_t){ 0 };
	}
	row->last_state = row->p.state;
}

static uint32_t count_losses(const struct port_row *row, mono_t now)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < row->n_lost && i < PORT_LOSSES_MAX; i++)
		n += mono_sub_ms(now, row->lost[i]) < PORT_LOSSES_MS;
	return n;
}

int ports_publish(const struct ports *ps, struct hw_readings *ret)
{
	mono_t now = hw_now();

	if (ps->n == 0)
		return 0;
	ret->ports = arena_alloc(&ret->arena, ps->n * sizeof *ret->ports);
	if (!ret->ports)
		return -ENOMEM;
	for (size_t i = 0; i < ps->n; i++) {
		struct hw_port *p = &ret->ports[i];

		*p = ps->rows[i].p;
		if (p->excluded)
			continue;
		if (ps->rows[i].last_state)
			p->losses = hw_u32(count_losses(&ps->rows[i], now));
		counters_publish(&ps->rows[i].counters, now, &ret->arena, p);
	}
	ret->n_ports = ps->n;
	return 0;
}
