/* world.c - time, chance, wires; and what stands for uv, the links, the pool and the clock */
#include "tests/sim/output/flow.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define HIGH (256u << 10)

struct wire {
	struct list at;
	bool cut;
	unsigned refs; /* frames under way, and ends that somebody holds */
	struct link ends[2];
	int64_t last[2];
};

int64_t now;
bool verbose;
static uint64_t state, seq, links;
static struct event **heap;
static size_t n_heap, cap_heap;
static struct list wires;

uint64_t chance(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return n ? (state * UINT64_C(0x2545F4914F6CDD1D) >> 20) % n : 0;
}

bool permille(unsigned p)
{
	return chance(1000) < p;
}

void trace(const char *fmt, ...)
{
	va_list ap;

	if (!verbose)
		return;
	printf("%9.3f ms  ", (double)now / 1e6);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* ---- events ------------------------------------------------------------------ */

static bool before(const struct event *a, const struct event *b)
{
	return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}

static void put(struct event *e)
{
	size_t i = n_heap++;

	if (n_heap > cap_heap) {
		cap_heap = cap_heap ? 2 * cap_heap : 256;
		heap = realloc(heap, cap_heap * sizeof(struct event *)); /* NOLINT: a table of pointers */
	}
	for (; i > 0 && before(e, heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = e;
}

static struct event *take(void)
{
	struct event *e = heap[0], *last = heap[--n_heap];
	size_t i = 0, k;

	while ((k = 2 * i + 1) < n_heap) {
		k += k + 1 < n_heap && before(heap[k + 1], heap[k]);
		if (before(last, heap[k]))
			break;
		heap[i] = heap[k];
		i = k;
	}
	heap[i] = last;
	return e;
}

static struct event *event_at(int64_t at, void (*f)(struct event *e), void *a, uint64_t x)
{
	struct event *e = calloc(1, sizeof(*e));

	*e = (struct event){ .at = at, .seq = seq++, .f = f, .a = a, .x = x };
	put(e);
	return e;
}

struct event *later(int64_t ms, void (*f)(struct event *e), void *a, uint64_t x)
{
	return event_at(now + ms * MS, f, a, x);
}

bool next_event(int64_t until)
{
	struct event *e;

	if (n_heap == 0 || heap[0]->at > until)
		return false;
	e = take();
	now = e->at > now ? e->at : now;
	e->f(e);
	free(e->data);
	free(e);
	return true;
}

/* ---- wires ---------------------------------------------------------------------- */

struct link *link_peer(struct link *l)
{
	return &l->w->ends[1 - l->end];
}

struct link *wire_new(enum link_role ra, void *a, enum link_role rb, void *b)
{
	struct wire *w = calloc(1, sizeof(*w));

	list_append(&wires, &w->at);
	w->ends[0] = (struct link){ .w = w, .end = 0, .id = ++links, .role = ra, .owner = a, .up = true };
	w->ends[1] = (struct link){ .w = w, .end = 1, .id = ++links, .role = rb, .owner = b, .up = true };
	return &w->ends[0];
}

static void down(struct link *l)
{
	if (!l->up)
		return;
	l->up = false;
	if (l->owner == NULL)
		return;
	if (l->role == L_CLIENT)
		client_down(l);
	else if (l->role == L_AGENT)
		agent_down(l);
	else if (l->role == L_SHIM)
		shim_down(l);
	else
		pool_down(l);
}

static void on_down(struct event *e)
{
	down(e->a);
}

void wire_cut(struct link *l, bool slowly)
{
	if (l->w->cut)
		return;
	l->w->cut = true;
	counts.cuts++;
	for (unsigned i = 0; i < 2; i++)
		later(slowly ? (int64_t)chance(permille(300) ? 4000 : 20) : 0, on_down, &l->w->ends[i], 0);
}

void link_forget(struct link *l)
{
	l->owner = NULL;
	l->up = false;
	wire_cut(l, true);
}

void wires_cut_some(void)
{
	list_foreach(e, &wires) {
		struct wire *w = list_entry(e, struct wire, at);

		if (!w->cut && w->ends[0].role != L_SHIM && w->ends[1].role != L_SHIM && permille(400))
			wire_cut(&w->ends[0], true);
	}
}

size_t wires_up(void)
{
	size_t n = 0;

	list_foreach(e, &wires)
		n += !list_entry(e, struct wire, at)->cut;
	return n;
}

static void on_frame(struct event *e)
{
	struct link *from = e->a, *to = link_peer(from);

	from->queued -= e->n;
	if (from->w->cut || !to->up || to->owner == NULL)
		return;
	if (to->role == L_CLIENT)
		client_frame(to, e);
	else if (to->role == L_AGENT)
		agent_frame(to, e);
	else if (to->role == L_SHIM)
		shim_frame(to, e);
	else
		pool_frame(to, e);
	if (from->full && from->queued < HIGH / 2 && from->up && from->owner != NULL && from->role == L_AGENT) {
		from->full = false;
		agent_drained(from);
	}
}

static int put_out(struct link *l, char *data, size_t n, const struct data_header *h)
{
	struct wire *w = l->w;
	struct event *e;
	int64_t at;

	if (!l->up) {
		free(data);
		return -ENOTCONN;
	}
	at = now + (int64_t)chance(2 * MS) + (permille(20) ? (int64_t)chance(300) * MS : 0);
	w->last[l->end] = at > w->last[l->end] ? at : w->last[l->end] + 1; /* nothing overtakes */
	e = event_at(w->last[l->end], on_frame, l, h != NULL);
	e->data = data;
	e->n = n;
	if (h != NULL)
		e->h = *h;
	l->queued += n;
	l->full = l->queued > HIGH;
	return l->full;
}

/* ---- io/link.h, io/agent_io.h ------------------------------------------------------- */

int link_send_data(struct link *l, const struct data_header *h, const void *payload, size_t n)
{
	char *p = malloc(n + 1);

	memcpy(p, payload, n);
	return put_out(l, p, n, h);
}

int link_send_data_take(struct link *l, const struct data_header *h, char *buf, size_t n)
{
	int r = link_send_data(l, h, buf + DATA_ROOM, n);

	free(buf);
	return r;
}

void conn_send(struct link *l, const struct msg *m)
{
	struct buf b;
	struct err e;

	buf_init(&b);
	if (msg_encode(m, &b, &e) != 0)
		broken("%s cannot be encoded: %s", msg_name(m->type), e.text);
	put_out(l, strndup(b.data, b.len), b.len, NULL);
	buf_finish(&b);
}

void conn_refuse(struct link *l, uint32_t rid, const char *code, const char *fmt, ...)
{
	char text[1024];
	struct msg m;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	msg_init(&m, MSG_refused);
	MSG_SET(&m.u.refused, refused, rid, rid);
	m.u.refused.code = code;
	m.u.refused.text = text;
	conn_send(l, &m);
}

void *agent_alloc(size_t n)
{
	return calloc(1, n);
}

_Noreturn void agent_no_memory(void)
{
	abort();
}

mono_t clock_mono(void)
{
	return (mono_t){ now };
}

void log_line(enum log_level lvl, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	trace("log: %s", text);
}

/* ---- uv and the deadline -------------------------------------------------------------- */

static struct host *host_of_loop(const uv_loop_t *loop)
{
	for (unsigned i = 0; i < HOSTS; i++)
		if (hosts[i].io != NULL && &hosts[i].io->loop == loop)
			return &hosts[i];
	abort();
}

static void on_work(struct event *e)
{
	uv_work_t *req = e->a;
	struct host *h = e->b;

	if (h->life == e->x && h->up) /* else its process is dead, and only memory is left of it */
		((uv_work_cb)req->reserved[0])(req);
	((uv_after_work_cb)req->reserved[1])(req, 0);
}

int uv_queue_work(uv_loop_t *loop, uv_work_t *req, uv_work_cb work, uv_after_work_cb after)
{
	struct host *h = host_of_loop(loop);

	req->reserved[0] = (void *)work;
	req->reserved[1] = (void *)after;
	later((int64_t)chance(permille(50) ? 500 : 3), on_work, req, h->life)->b = h;
	return 0;
}

static void on_idle(struct event *e)
{
	struct host *h = e->b;

	if (h->life == e->x && h->up && h->idle_on)
		((uv_idle_cb)((uv_handle_t *)e->a)->loop)(e->a);
}

int uv_idle_init(uv_loop_t *loop, uv_idle_t *i)
{
	return 0;
}

int uv_idle_start(uv_idle_t *i, uv_idle_cb cb)
{
	struct bulk *b = list_entry(i, struct bulk, more);
	struct host *h = host_of_loop(&b->io->loop);

	h->idle_on = true;
	i->loop = (uv_loop_t *)cb; /* nobody else uses it here */
	later(0, on_idle, i, h->life)->b = h;
	return 0;
}

int uv_idle_stop(uv_idle_t *i)
{
	struct bulk *b = list_entry(i, struct bulk, more);

	host_of_loop(&b->io->loop)->idle_on = false;
	return 0;
}

static void on_due(struct event *e)
{
	struct host *h = e->b;
	struct deadline_timer *d = e->a;

	if (h->life != e->x || !h->up || d->armed.ns != (int64_t)e->y)
		return;
	d->armed = MONO_NEVER;
	d->due(d->arg);
}

void deadline_init(uv_loop_t *loop, struct deadline_timer *d, void (*due)(void *arg), void *arg)
{
	d->timer.loop = loop;
	d->armed = MONO_NEVER;
	d->due = due;
	d->arg = arg;
}

void deadline_arm(struct deadline_timer *d, mono_t when)
{
	struct host *h = host_of_loop(d->timer.loop);
	struct event *e;

	d->armed = when;
	if (mono_is_never(when))
		return;
	e = later(when.ns > now ? (when.ns - now + MS - 1) / MS : 0, on_due, d, h->life);
	e->b = h;
	e->y = (uint64_t)when.ns;
}

/* ---- begin and end ----------------------------------------------------------------------- */

void world_begin(uint64_t seed)
{
	state = seed * UINT64_C(0x9E3779B97F4A7C15) + 0x1234567;
	for (int i = 0; i < 8; i++)
		chance(2);
	now = 1000 * MS;
	seq = links = 0;
	list_init(&wires);
}

void world_end(void)
{
	while (n_heap > 0) {
		struct event *e = take();

		if (e->f == on_work)
			((uv_after_work_cb)((uv_work_t *)e->a)->reserved[1])(e->a, 0);
		free(e->data);
		free(e);
	}
	list_foreach_safe(e, &wires) {
		list_remove(e);
		free(list_entry(e, struct wire, at));
	}
}
