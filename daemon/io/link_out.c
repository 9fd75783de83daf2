/* link_out.c - the output queue of a link
 *
 * Small frames share a segment; a big payload is a segment of its own and is
 * written from where it lies. A write is first tried at once; only what the
 * kernel does not take is given to uv_write, one at a time per link.
 *
 * TLS links have two queues: frames in 'plain' are sealed into 'wire' a batch
 * at a time, only when the wire is empty, so little is held twice. */
#include "io/link_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

#define SEG_SMALL 2048u
#define IOV 32

static struct seg *seg_new(size_t cap)
{
	struct seg *s = malloc(sizeof(*s));

	if (!s)
		return NULL;

	*s = (struct seg){ .cap = cap };
	if (cap > 0 && !(s->base = malloc(cap))) {
		free(s);
		return NULL;
	}
	return s;
}

static void seg_free(struct seg *s)
{
	free(s->base);
	free(s);
}

static void queue_append(struct queue *q, struct seg *s)
{
	if (q->tail)
		q->tail->next = s;
	else
		q->head = s;
	q->tail = s;
}

/* Appending to a segment in flight is fine: its memory does not move, and the
 * write knows its own length. */
char *queue_room(struct queue *q, size_t n, size_t prefer)
{
	struct seg *s = q->tail;

	if (!s || s->cap < s->off + s->len + n) {
		s = seg_new(n > prefer ? n : prefer);
		if (!s)
			return NULL;
		queue_append(q, s);
	}
	return s->base + s->off + s->len;
}

void queue_added(struct queue *q, size_t n)
{
	q->tail->len += n;
	q->bytes += n;
}

int queue_take(struct queue *q, char *buf, size_t off, size_t n)
{
	struct seg *s = seg_new(0);

	if (!s) {
		free(buf);
		return -ENOMEM;
	}

	s->base = buf;
	s->off = off;
	s->len = n;
	queue_append(q, s);
	q->bytes += n;
	return 0;
}

void queue_consume(struct queue *q, size_t n)
{
	q->bytes -= n;
	while (q->head && (n > 0 || q->head->len == 0)) {
		struct seg *s = q->head;
		size_t k = n < s->len ? n : s->len;

		s->off += k;
		s->len -= k;
		n -= k;
		if (s->len > 0)
			return;
		q->head = s->next;
		if (!q->head)
			q->tail = NULL;
		seg_free(s);
	}
}

void queue_clear(struct queue *q)
{
	struct seg *next;

	for (struct seg *s = q->head; s; s = next) {
		next = s->next;
		seg_free(s);
	}
	*q = (struct queue){ 0 };
}

/* The input may still hold the other side's last word ("refused ..."): it is
 * read to its end before the link goes down. */
static void write_failed(struct link *l, int r)
{
	if (l->broken || l->state == LS_DEAD)
		return;

	l->broken = true;
	if (!l->why)
		l->why = strdup(uv_strerror(r));
	if (!l->writing)
		queue_clear(&l->wire);
	queue_clear(&l->plain);
	link_arm(l, l->paused ? 0 : LINK_FLUSH_MS);
}

static unsigned gather(const struct queue *q, uv_buf_t *v, size_t *ret_bytes)
{
	unsigned n = 0;

	*ret_bytes = 0;
	for (struct seg *s = q->head; s && n < IOV; s = s->next) {
		v[n++] = uv_buf_init(s->base + s->off, (unsigned)s->len);
		*ret_bytes += s->len;
	}
	return n;
}

static void on_written(uv_write_t *w, int status)
{
	struct link *l = w->data;

	l->writing = false;
	if (l->state == LS_DEAD)
		return;

	queue_consume(&l->wire, l->flying);
	l->written += (int64_t)l->flying;
	l->flying = 0;
	if (status < 0) {
		write_failed(l, status);
		return;
	}
	hub_mark(l);
	link_flush(l);
}

/* Writes what the kernel takes now and leaves the rest to uv_write. */
static void flush_wire(struct link *l)
{
	uv_buf_t v[IOV];
	size_t bytes;
	unsigned n = gather(&l->wire, v, &bytes);
	int r = uv_try_write(&l->s.stream, v, n);

	if (r < 0 && r != UV_EAGAIN) {
		write_failed(l, r);
		return;
	}
	if (r > 0) {
		queue_consume(&l->wire, (size_t)r);
		l->written += r;
	}
	if (r > 0 && (size_t)r == bytes)
		return;

	n = gather(&l->wire, v, &l->flying);
	l->write.data = l;
	r = uv_write(&l->write, &l->s.stream, v, n, on_written);
	if (r < 0)
		write_failed(l, r);
	else
		l->writing = true;
}

void link_flush(struct link *l)
{
	while (!l->writing && !l->broken && l->state != LS_DEAD && l->state != LS_DIALING) {
		if (l->wire.bytes == 0 && l->plain.bytes > 0 &&
		    (l->state == LS_UP || l->state == LS_FLUSHING))
			link_tls_seal(l);
		if (l->wire.bytes == 0 || l->state == LS_DEAD)
			break;
		flush_wire(l);
	}
}

/* ---- sending ------------------------------------------------------------ */

static struct queue *out(struct link *l)
{
	return l->ssl ? &l->plain : &l->wire;
}

static int sendable(const struct link *l)
{
	return l->state == LS_UP && !l->broken ? 0 : -ENOTCONN;
}

static int queued(struct link *l)
{
	hub_mark(l);
	if (l->plain.bytes + l->wire.bytes - l->flying >= EAGER_FLUSH)
		link_flush(l);
	if (link_queued(l) <= l->high)
		return 0;
	l->full = true;
	return 1;
}

/* What was to be sent is lost, and the other side must not go on as if nothing had been
 * said: it connects anew, and both tell again what counts. */
static int no_room(struct link *l)
{
	link_close(l, "out of memory for what is sent");
	return -ENOMEM;
}

int link_send_json(struct link *l, const char *text, size_t n)
{
	char *p;

	if (sendable(l) < 0)
		return -ENOTCONN;
	if (n > FRAME_MAX)
		return -EMSGSIZE;

	p = queue_room(out(l), FRAME_HEADER + n, SEG_SMALL);
	if (!p)
		return no_room(l);
	frame_put_header(p, FRAME_JSON, (uint32_t)n);
	memcpy(p + FRAME_HEADER, text, n);
	queue_added(out(l), FRAME_HEADER + n);
	return queued(l);
}

int link_send_data(struct link *l, const struct data_header *h, const void *payload, size_t n)
{
	char *p;

	if (sendable(l) < 0)
		return -ENOTCONN;
	if (n > FRAME_MAX - DATA_HEADER)
		return -EMSGSIZE;

	p = queue_room(out(l), DATA_ROOM + n, SEG_SMALL);
	if (!p)
		return no_room(l);
	frame_put_data(p, h, n);
	if (n > 0)
		memcpy(p + DATA_ROOM, payload, n);
	queue_added(out(l), DATA_ROOM + n);
	return queued(l);
}

int link_send_data_take(struct link *l, const struct data_header *h, char *buf, size_t payload_n)
{
	int r = sendable(l);

	if (r == 0 && payload_n > FRAME_MAX - DATA_HEADER)
		r = -EMSGSIZE;
	if (r < 0) {
		free(buf);
		return r;
	}

	if (payload_n > READ_SMALL)
		hub_mark_big(l); /* the heap is to shrink when this is over */
	frame_put_data(buf, h, payload_n);
	r = queue_take(out(l), buf, 0, DATA_ROOM + payload_n);
	return r < 0 ? no_room(l) : queued(l);
}

size_t link_queued(const struct link *l)
{
	return l->plain.bytes + l->wire.bytes;
}

/* The queue does not tell: a long write in flight counts in it to its last byte. */
int64_t link_taken(const struct link *l)
{
	int64_t n = l->written;
	uv_os_fd_t fd;
	int left = 0;

	if (!l->s_open || l->state == LS_DEAD)
		return n;
	if (l->writing)
		n += (int64_t)l->flying - (int64_t)uv_stream_get_write_queue_size(&l->s.stream);
	if (uv_fileno(&l->s.handle, &fd) == 0 && ioctl(fd, SIOCOUTQ, &left) == 0)
		n -= left;
	return n;
}
