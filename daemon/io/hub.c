/* hub.c - what the links of one loop share: batching of output, a read buffer, trimming
 *
 * Links that have something to do are marked; prepare (before the poll) and
 * check (after it) let each do it once. The handles are unreferenced and are
 * closed with the last link, so a loop can end. At rest no timer is armed. */
#include "io/link_private.h"

#include <malloc.h>
#include <stdlib.h>

#define TRIM_MS 1000

/* A loop belongs to one thread, so do the hubs. */
static _Thread_local struct list hubs;

static void run(struct hub *h)
{
	struct list now;

	/* Links marked from here on have their turn next time. */
	list_init(&now);
	while (!list_empty(&h->dirty)) {
		struct list *e = h->dirty.next;

		list_remove(e);
		list_append(&now, e);
	}
	h->refs++; /* a callback may drop the last link */
	while (!list_empty(&now)) {
		struct link *l = list_entry(now.next, struct link, dirty);

		list_remove(&l->dirty);
		link_turn(l);
	}
	hub_put(h);
}

static void on_turn(struct hub *h)
{
	if (!list_empty(&h->dirty))
		run(h);
	else if (uv_is_active((uv_handle_t *)&h->idle))
		uv_idle_stop(&h->idle);
}

static void on_idle(uv_idle_t *i)
{
}

static void on_prepare(uv_prepare_t *p)
{
	struct hub *h = p->data;

	on_turn(h);
	if (!list_empty(&h->dirty))
		uv_idle_start(&h->idle, on_idle);
}

static void on_check(uv_check_t *c)
{
	on_turn(c->data);
}

static void on_trim(uv_timer_t *t)
{
	struct hub *h = t->data;

	list_foreach_safe(e, &h->big) {
		struct link *l = list_entry(e, struct link, big);

		list_remove(&l->big);
		link_trim(l);
	}
	free(h->scratch);
	h->scratch = NULL;
	malloc_trim(0); /* what bulk and handshakes used lies scattered below the heap's top */
}

static void on_closed(uv_handle_t *u)
{
	struct hub *h = u->data;

	if (--h->handles > 0)
		return;

	free(h->scratch);
	free(h);
}

static struct hub *hub_new(uv_loop_t *loop)
{
	struct hub *h = calloc(1, sizeof(*h));
	uv_handle_t *all[4];

	if (!h)
		return NULL;

	h->loop = loop;
	list_init(&h->dirty);
	list_init(&h->big);
	uv_prepare_init(loop, &h->prepare);
	uv_check_init(loop, &h->check);
	uv_idle_init(loop, &h->idle);
	uv_timer_init(loop, &h->trim);
	all[0] = (uv_handle_t *)&h->prepare;
	all[1] = (uv_handle_t *)&h->check;
	all[2] = (uv_handle_t *)&h->idle;
	all[3] = (uv_handle_t *)&h->trim;
	h->handles = 4;
	uv_prepare_start(&h->prepare, on_prepare);
	uv_check_start(&h->check, on_check);
	for (int i = 0; i < 4; i++) {
		all[i]->data = h;
		uv_unref(all[i]);
	}
	list_append(&hubs, &h->entry);
	return h;
}

struct hub *hub_get(uv_loop_t *loop)
{
	struct hub *h = NULL;

	if (!hubs.next)
		list_init(&hubs);
	list_foreach(e, &hubs) {
		h = list_entry(e, struct hub, entry);
		if (h->loop == loop)
			break;
		h = NULL;
	}
	if (!h)
		h = hub_new(loop);
	if (h)
		h->refs++;
	return h;
}

void hub_put(struct hub *h)
{
	if (--h->refs > 0)
		return;

	list_remove(&h->entry);
	uv_close((uv_handle_t *)&h->prepare, on_closed);
	uv_close((uv_handle_t *)&h->check, on_closed);
	uv_close((uv_handle_t *)&h->idle, on_closed);
	uv_close((uv_handle_t *)&h->trim, on_closed);
}

/* Untouched pages of the scratch cost nothing, so a link that only pings
 * holds one page of it. */
char *hub_scratch(struct hub *h)
{
	if (!h->scratch)
		h->scratch = malloc(READ_BIG);
	return h->scratch;
}

void hub_mark(struct link *l)
{
	if (list_empty(&l->dirty))
		list_append(&l->hub->dirty, &l->dirty);
}

void hub_mark_big(struct link *l)
{
	struct hub *h = l->hub;

	if (list_empty(&l->big))
		list_append(&h->big, &l->big);
	if (!uv_is_active((uv_handle_t *)&h->trim))
		uv_timer_start(&h->trim, on_trim, TRIM_MS, 0);
}
