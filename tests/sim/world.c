/* world.c - see world.h */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

/* ---- chance: xoshiro256**, seeded by splitmix64 (both public domain algorithms) -- */

static uint64_t splitmix(uint64_t *x)
{
	uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void rng_seed(struct rng *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		r->s[i] = splitmix(&seed);
}

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

uint64_t rng_u64(struct rng *r)
{
	uint64_t result = rotl(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;

	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = rotl(r->s[3], 45);
	return result;
}

/* The bias of a plain remainder does not matter here. */
uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_u64(r) % n;
}

int64_t rng_range(struct rng *r, int64_t lo, int64_t hi)
{
	return hi <= lo ? lo : lo + (int64_t)rng_below(r, (uint64_t)(hi - lo) + 1);
}

bool rng_chance(struct rng *r, uint32_t permille)
{
	return rng_below(r, 1000) < permille;
}

void rng_fill(struct rng *r, void *p, size_t n)
{
	uint8_t *out = p;

	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = rng_u64(r);

		memcpy(out + i, &v, n - i < 8 ? n - i : 8);
	}
}

/* ---- memory of a run ----------------------------------------------------------- */

#define BLOCK_SIZE (1u << 20)

struct pool_block {
	struct pool_block *next;
	size_t used, size;
	_Alignas(16) char data[];
};

static void *must(void *p)
{
	if (p == NULL) {
		fputs("sim: out of memory\n", stderr);
		exit(2);
	}
	return p;
}

static struct pool_block *new_block(size_t n)
{
	size_t size = n > BLOCK_SIZE ? n : BLOCK_SIZE;
	struct pool_block *b = must(malloc(sizeof(*b) + size));

	b->next = NULL;
	b->used = 0;
	b->size = size;
	return b;
}

void *world_alloc(struct world *w, size_t n)
{
	struct pool_block *b = w->current;
	void *p;

	n = (n + 15) & ~(size_t)15;
	while (b->used + n > b->size) {
		if (b->next == NULL || b->next->size < n) {
			struct pool_block *fresh = new_block(n);

			fresh->next = b->next;
			b->next = fresh;
		}
		b = w->current = b->next;
		b->used = 0;
	}
	p = b->data + b->used;
	b->used += n;
	return memset(p, 0, n);
}

void *world_copy(struct world *w, const void *p, size_t n)
{
	char *q = world_alloc(w, n + 1);

	if (n > 0)
		memcpy(q, p, n);
	return q;
}

char *world_printf(struct world *w, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return world_copy(w, text, strlen(text));
}

void world_begin(struct world *w, uint64_t seed)
{
	if (w->blocks == NULL)
		w->blocks = new_block(BLOCK_SIZE);
	if (w->lines == NULL && w->text)
		w->lines = must(calloc(WORLD_LINES, sizeof(*w->lines)));
	w->current = w->blocks;
	w->current->used = 0;
	rng_seed(&w->rng, seed);
	rng_seed(&w->core_rng, ~seed);
	w->now = 0;
	w->wall_offset_ms = INT64_C(1790000000000);
	w->seq = w->steps = 0;
	w->n = w->n_lines = 0;
	w->hash = w->shape = UINT64_C(0xcbf29ce484222325);
}

void world_finish(struct world *w)
{
	while (w->blocks != NULL) {
		struct pool_block *b = w->blocks;

		w->blocks = b->next;
		free(b);
	}
	free(w->heap);
	free(w->lines);
	memset(w, 0, sizeof(*w));
}

/* ---- the queue: a binary heap by (at, seq) --------------------------------------- */

static bool earlier(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void heap_push(struct world *w, const struct event *e)
{
	size_t i = w->n++;

	if (w->n > w->cap) {
		w->cap = w->cap ? w->cap * 2 : 256;
		w->heap = must(realloc(w->heap, w->cap * sizeof(*w->heap)));
	}
	while (i > 0 && earlier(e, &w->heap[(i - 1) / 2])) {
		w->heap[i] = w->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->heap[i] = *e;
}

/* Puts e where it belongs at or below i. */
static void sink(struct world *w, size_t i, struct event e)
{
	for (;;) {
		size_t k = 2 * i + 1;

		if (k >= w->n)
			break;
		if (k + 1 < w->n && earlier(&w->heap[k + 1], &w->heap[k]))
			k++;
		if (!earlier(&w->heap[k], &e))
			break;
		w->heap[i] = w->heap[k];
		i = k;
	}
	w->heap[i] = e;
}

static struct event heap_pop(struct world *w)
{
	struct event top = w->heap[0], last = w->heap[--w->n];

	sink(w, 0, last);
	return top;
}

void world_at(struct world *w, int64_t at, enum event_kind kind, struct proc *p, uint64_t a,
	      void *arg)
{
	struct event e = { .at = at < w->now ? w->now : at, .kind = kind, .proc = p, .a = a, .p = arg };

	e.seq = ++w->seq;
	e.life = p != NULL ? p->life : 0;
	heap_push(w, &e);
}

/* What befalls a stopped process all the same: it is started anew, its disk
 * writes, its children (other processes) exit. */
static bool goes_on(const struct event *e)
{
	return e->kind == EV_RESTART || e->kind == EV_COMMIT || e->kind == EV_EXIT || e->kind == EV_GUARD;
}

/* An event for a process that is stopped waits until it goes on; its timers
 * come after what was said meanwhile, as in a loop that woke up in poll(). */
bool world_pop(struct world *w, struct event *ret)
{
	while (w->n > 0) {
		struct event e = heap_pop(w);

		if (e.proc != NULL && e.life != e.proc->life)
			continue;
		if (e.proc != NULL && e.proc->resume_at > e.at && !goes_on(&e)) {
			e.at = e.proc->resume_at + (e.kind == EV_TIMER ? MS : 0);
			e.seq = ++w->seq;
			heap_push(w, &e);
			continue;
		}
		w->now = e.at;
		w->steps++;
		*ret = e;
		return true;
	}
	return false;
}

void world_stop(struct world *w, struct proc *p, int64_t until)
{
	int64_t before = p->resume_at;

	if (before >= until)
		return;
	p->resume_at = until;
	if (before <= w->now)
		return;
	for (size_t i = 0; i < w->n; i++) {
		struct event *e = &w->heap[i];

		if (e->proc == p && e->life == p->life && e->at >= before && e->at <= before + MS &&
		    !goes_on(e))
			e->at += until - before;
	}
	for (size_t i = w->n / 2; i-- > 0;)
		sink(w, i, w->heap[i]);
}

mono_t world_mono(const struct world *w)
{
	return (mono_t){ w->now + 1000 * SECOND };
}

int64_t world_wall_us(const struct world *w)
{
	return w->wall_offset_ms * 1000 + w->now / 1000;
}

/* They have all slept a while before the run. */
#define SLEPT_MS 777000

int64_t world_boot(const struct world *w)
{
	return w->now / MS + SLEPT_MS;
}

int64_t world_of_boot(const struct world *w, int64_t boot_ms)
{
	(void)w;
	return (boot_ms - SLEPT_MS) * MS;
}

const char *event_kind_name(enum event_kind k)
{
	static const char *const names[EV_KINDS] = {
		[EV_TIMER] = "timer",	  [EV_PUMP] = "pump",	    [EV_DIALED] = "dialed",
		[EV_COMMIT] = "commit",	  [EV_STORED] = "stored",   [EV_RESTART] = "restart",
		[EV_DONE] = "done",	  [EV_FETCH] = "fetch",	    [EV_CONNECT] = "connect",
		[EV_CHECKED] = "checked", [EV_STARTED] = "started", [EV_EXIT] = "exit",
		[EV_REAP] = "reap",	  [EV_CLOSED] = "closed",   [EV_WRITTEN] = "written",
		[EV_CLIENT] = "client",	  [EV_ROGUE] = "rogue",	    [EV_FAULT] = "fault",
		[EV_CHECK] = "check",	  [EV_ADMIN] = "admin",
		[EV_GUARD] = "guard",	  [EV_LAUNCHER] = "launcher",
		[EV_LEAVE] = "leave",	  [EV_PROBE] = "probe",	    [EV_REPEAT] = "repeat",
		[EV_PULSE] = "pulse",	  [EV_HANG] = "hang",
	};

	return k < EV_KINDS ? names[k] : "?";
}

/* ---- the trace ---------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * UINT64_C(0x9fb21c651e98df25);
	return h ^ (h >> 32);
}

void world_mix(struct world *w, uint64_t v)
{
	w->hash = mix(w->hash, v);
	w->shape = mix(w->shape, v);
}

void world_mix_bytes(struct world *w, const void *p, size_t n)
{
	const char *s = p;
	uint64_t v;

	for (; n >= 8; n -= 8, s += 8) {
		memcpy(&v, s, 8);
		w->hash = mix(w->hash, v);
	}
	v = n;
	for (; n > 0; n--)
		v = v << 8 | (uint8_t)*s++;
	w->hash = mix(w->hash, v);
}

void world_line(struct world *w, const char *who, const char *fmt, ...)
{
	char *line = w->lines[w->n_lines++ % WORLD_LINES];
	int n = snprintf(line, sizeof(w->lines[0]), "%11.6f %-9s ", (double)w->now / 1e9, who);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(w->lines[0]) - (size_t)n, fmt, ap);
	va_end(ap);
	if (w->print)
		puts(line);
}

void world_tail(const struct world *w, size_t n)
{
	size_t from;

	if (w->lines == NULL || w->print)
		return;
	if (n > WORLD_LINES)
		n = WORLD_LINES;
	from = w->n_lines > n ? w->n_lines - n : 0;
	for (size_t i = from; i < w->n_lines; i++)
		printf("%.400s\n", w->lines[i % WORLD_LINES]);
}
