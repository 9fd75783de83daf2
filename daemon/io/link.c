/* link.c - life of a link: up, frames in, pause, close, down
 *
 * States: link_private.h. Every end goes through link_kill(), whatever is
 * open is closed there, and the last close callback tells on_down and frees.
 * So no callback ever runs from inside a link_* call: what a call finds out
 * (a write error, frames left over from a pause) waits for the loop's turn. */
#include "io/link_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t last_id;

/* ---- birth and death ---------------------------------------------------- */

struct link *link_new(uv_loop_t *loop, const struct link_callbacks *cb, void *arg)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->hub = hub_get(loop);
	if (!l->hub) {
		free(l);
		return NULL;
	}

	l->id = ++last_id;
	l->cb = cb;
	l->arg = arg;
	l->want = READ_SMALL;
	l->high = LINK_HIGH;
	frame_reader_init(&l->in, FRAME_MAX_UNAUTH);
	list_init(&l->pending);
	list_init(&l->dirty);
	list_init(&l->big);
	uv_timer_init(loop, &l->timer);
	l->timer.data = l;
	l->handles = 1;
	return l;
}

void link_init_stream(struct link *l)
{
	l->s.handle.data = l;
	l->s_open = true;
	l->handles++;
}

static void link_free(struct link *l)
{
	SSL_free(l->ssl);
	frame_reader_finish(&l->in);
	queue_clear(&l->plain);
	queue_clear(&l->wire);
	hub_put(l->hub);
	free(l->held);
	free(l->why);
	free(l);
}

static void on_closed(uv_handle_t *h)
{
	struct link *l = h->data;

	if (--l->handles > 0)
		return;

	if (l->cb)
		l->cb->on_down(l, l->why ? l->why : "out of memory", l->arg);
	link_free(l);
}

void link_kill(struct link *l, const char *why)
{
	if (l->state == LS_DEAD)
		return;

	l->state = LS_DEAD;
	if (!l->why)
		l->why = strdup(why);
	list_remove(&l->dirty);
	list_remove(&l->big);
	listener_forget(l);
	link_dial_abandon(l);
	if (l->s_open)
		uv_close(&l->s.handle, on_closed);
	uv_close((uv_handle_t *)&l->timer, on_closed);
}

void link_killf(struct link *l, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	link_kill(l, text);
}

static void on_timer(uv_timer_t *t)
{
	struct link *l = t->data;

	if (l->state == LS_DIALING)
		link_dial_timeout(l);
	else if (l->state == LS_HANDSHAKE)
		link_killf(l, "no TLS handshake within %g s", l->deadline_ms / 1000.0);
	else
		link_kill(l, "the connection broke");
}

void link_arm(struct link *l, uint64_t ms)
{
	uv_timer_start(&l->timer, on_timer, ms, 0);
}

/* ---- up ----------------------------------------------------------------- */

static void name_of(const struct sockaddr_storage *a, char out[LINK_ADDRESS_MAX])
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)a;
	struct in_addr four;

	if (a->ss_family == AF_INET) {
		uv_ip4_name((const struct sockaddr_in *)a, out, LINK_ADDRESS_MAX);
	} else if (a->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr)) {
		memcpy(&four, six->sin6_addr.s6_addr + 12, 4);
		uv_inet_ntop(AF_INET, &four, out, LINK_ADDRESS_MAX);
	} else if (a->ss_family == AF_INET6) {
		uv_ip6_name(six, out, LINK_ADDRESS_MAX);
	}
}

void link_find_addresses(struct link *l)
{
	struct sockaddr_storage a;
	int n = sizeof(a);

	memset(&a, 0, sizeof(a));
	if (uv_tcp_getpeername(&l->s.tcp, (struct sockaddr *)&a, &n) == 0)
		name_of(&a, l->address);
	n = sizeof(a);
	memset(&a, 0, sizeof(a));
	if (uv_tcp_getsockname(&l->s.tcp, (struct sockaddr *)&a, &n) == 0)
		name_of(&a, l->local);
}

void link_is_up(struct link *l)
{
	uv_timer_stop(&l->timer);
	l->state = LS_UP;
	if (l->cb->on_up)
		l->cb->on_up(l, l->arg);
}

/* ---- input -------------------------------------------------------------- */

/* The other side may not know what it did wrong: it is told, where somebody cares to. */
static void bad_input(struct link *l, int error, const char *why)
{
	if (l->cb->on_bad == NULL) {
		link_kill(l, why);
		return;
	}
	l->cb->on_bad(l, error, why, l->arg);
	link_close(l, why);
}

static void deliver(struct link *l, const struct frame *f)
{
	struct data_header h;
	const char *payload;
	struct err e;
	size_t n;

	if (f->type == FRAME_JSON) {
		l->cb->on_json(l, f->data, f->len, l->arg);
	} else if (!l->cb->on_data) {
		bad_input(l, -EPROTO, "it sent bulk data where only messages are allowed");
	} else if (frame_get_data(f, &h, &payload, &n, &e) < 0) {
		bad_input(l, -EPROTO, e.text);
	} else {
		l->cb->on_data(l, &h, payload, n, l->arg);
	}
}

void link_dispatch(struct link *l)
{
	struct frame f;
	struct err e;
	int r = 0;

	while (l->state == LS_UP && !l->paused && (r = frame_next(&l->in, &f, &e)) > 0)
		deliver(l, &f);
	if (r < 0)
		bad_input(l, r, e.text);
	if (l->state == LS_UP && l->in.in.cap > (size_t)2 * READ_SMALL)
		hub_mark_big(l);
}

void link_trim(struct link *l)
{
	uint32_t max = l->in.max;

	if (l->in.pos < l->in.in.len) /* half a frame: not at rest */
		return;

	frame_reader_finish(&l->in);
	frame_reader_init(&l->in, max);
	l->want = READ_SMALL;
}

static void input(struct link *l)
{
	if (l->ssl)
		link_tls_input(l);
	else
		link_dispatch(l);
}

static bool discarding(const struct link *l)
{
	return l->state == LS_FLUSHING || l->state == LS_LINGER;
}

static void tell_half(struct link *l)
{
	size_t n = l->in.in.len - l->in.pos;

	if (n == l->half || l->state == LS_DEAD || !l->cb || !l->cb->on_half)
		return;
	l->half = n;
	l->cb->on_half(l, n, l->arg);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
	struct link *l = h->data;
	size_t room = READ_BIG;
	char *p;

	if (l->ssl || discarding(l))
		p = hub_scratch(l->hub);
	else
		p = frame_reader_space(&l->in, l->want, &room);
	*ret = uv_buf_init(p, p ? (unsigned)(room < READ_BIG ? room : READ_BIG) : 0);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct link *l = s->data;

	if (l->resume && l->state != LS_DEAD) {
		l->resume = false;
		input(l);
	}
	if (n == 0 || l->state == LS_DEAD)
		return;
	if (n < 0) {
		link_kill(l, n == UV_EOF       ? "closed by the other side"
			     : n == UV_ENOBUFS ? "out of memory"
					       : uv_strerror((int)n));
		return;
	}
	if (discarding(l))
		return;

	if (l->ssl) {
		l->rx = b->base;
		l->rx_n = (size_t)n;
		if (n > (ssize_t)READ_SMALL)
			hub_mark_big(l); /* the scratch has grown */
	} else {
		frame_reader_got(&l->in, (size_t)n);
		if ((size_t)n == b->len && l->want < READ_BIG)
			l->want *= 4;
	}
	input(l);
	tell_half(l);
}

int link_read(struct link *l)
{
	int r = uv_read_start(&l->s.stream, on_alloc, on_read);

	return r == UV_EALREADY ? 0 : r;
}

void link_pause(struct link *l, bool paused)
{
	if (l->paused == paused || l->state != LS_UP)
		return;

	l->paused = paused;
	if (paused) {
		l->resume = false;
		uv_read_stop(&l->s.stream);
		return;
	}
	if (link_read(l) < 0) {
		link_kill(l, "cannot read from the connection");
		return;
	}
	l->resume = true;
	hub_mark(l);
}

/* ---- end ---------------------------------------------------------------- */

static void on_shutdown(uv_shutdown_t *s, int status)
{
}

/* All is written: end our side, and wait for the other's. */
static void shut(struct link *l)
{
	l->state = LS_LINGER;
	l->shutdown.data = l;
	if (uv_shutdown(&l->shutdown, &l->s.stream, on_shutdown) < 0)
		link_kill(l, "closed");
}

static void end_output(struct link *l)
{
	if (l->writing || l->plain.bytes > 0 || l->wire.bytes > 0)
		return;

	if (l->broken) {
		link_kill(l, "closed");
	} else if (l->ssl && !l->shut) {
		l->shut = true;
		link_tls_goodbye(l);
		link_flush(l);
		end_output(l);
	} else {
		shut(l);
	}
}

void link_close(struct link *l, const char *why)
{
	if (l->state >= LS_FLUSHING)
		return;
	if (l->state != LS_UP || l->broken) {
		link_kill(l, why);
		return;
	}

	if (!l->why)
		l->why = strdup(why);
	l->state = LS_FLUSHING;
	l->paused = false;
	l->resume = false;
	link_arm(l, LINK_FLUSH_MS);
	if (link_read(l) < 0)
		link_kill(l, why);
	else
		hub_mark(l);
}

void link_drop(struct link *l, const char *why)
{
	link_kill(l, why);
}

static void drained(struct link *l)
{
	if (!l->full || l->state != LS_UP || link_queued(l) >= l->high / 2)
		return;

	l->full = false;
	if (l->cb->on_drain)
		l->cb->on_drain(l, l->arg);
}

void link_turn(struct link *l)
{
	if (l->resume) {
		l->resume = false;
		input(l);
	}
	link_flush(l);
	drained(l);
	if (discarding(l))
		frame_reader_finish(&l->in);
	tell_half(l);
	if (l->state == LS_FLUSHING)
		end_output(l);
}

/* ---- what others ask ---------------------------------------------------- */

uint64_t link_id(const struct link *l)
{
	return l->id;
}

const uint8_t *link_key(const struct link *l)
{
	return l->has_key ? l->key : NULL;
}

const char *link_address(const struct link *l)
{
	return l->address;
}

const char *link_local_address(const struct link *l)
{
	return l->local;
}

void link_set_max(struct link *l, uint32_t frame_max)
{
	frame_reader_set_max(&l->in, frame_max);
}

void link_set_high(struct link *l, size_t high)
{
	l->high = high;
}

void link_set_callbacks(struct link *l, const struct link_callbacks *cb, void *arg)
{
	l->cb = cb;
	l->arg = arg;
}
