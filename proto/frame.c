/* frame.c - cuts a byte stream into frames
 *
 * Received bytes lie in one buffer; [pos, in.len) is not consumed yet. They
 * move to the front only when at least as many were consumed, so each byte
 * moves at most once on average. When a header has announced a long frame,
 * room for all of it is made at once. An empty buffer that a long frame has
 * blown up is given back: ten thousand idle links must not keep a MiB each.
 *
 * Not checked here: what is inside a JSON frame, flags of a DATA frame.
 */
#include "proto/frame.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define KEEP_MAX ((size_t)256 * 1024) /* an empty buffer keeps up to this */

static uint32_t get32(const char *p)
{
	const uint8_t *b = (const uint8_t *)p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put32(char *p, uint32_t v)
{
	p[0] = (char)(v >> 24);
	p[1] = (char)(v >> 16);
	p[2] = (char)(v >> 8);
	p[3] = (char)v;
}

void frame_reader_init(struct frame_reader *r, uint32_t max)
{
	buf_init(&r->in);
	r->pos = 0;
	r->max = max;
}

void frame_reader_finish(struct frame_reader *r)
{
	buf_finish(&r->in);
	r->pos = 0;
}

void frame_reader_set_max(struct frame_reader *r, uint32_t max)
{
	r->max = max;
}

/* How many bytes the frame that has begun still lacks, 0 when not known. */
static size_t lacking(const struct frame_reader *r)
{
	size_t have = r->in.len - r->pos;
	uint32_t len;

	if (have < FRAME_HEADER)
		return 0;
	len = get32(r->in.data + r->pos);
	if (len > r->max || (size_t)len + FRAME_HEADER <= have)
		return 0;
	return (size_t)len + FRAME_HEADER - have;
}

/* Forgets consumed bytes where that costs little. */
static void compact(struct frame_reader *r, size_t want)
{
	size_t have = r->in.len - r->pos;

	if (r->pos == 0)
		return;
	if (have > 0 && (r->in.cap - r->in.len >= want || have > r->pos))
		return;
	buf_drop(&r->in, r->pos);
	r->pos = 0;
	if (have == 0 && r->in.cap > KEEP_MAX)
		buf_finish(&r->in);
}

char *frame_reader_space(struct frame_reader *r, size_t want, size_t *ret_room)
{
	size_t lack = lacking(r);
	char *room;

	if (lack > want)
		want = lack;
	compact(r, want);
	room = buf_reserve(&r->in, want);
	if (!room)
		return NULL;
	*ret_room = r->in.cap - r->in.len;
	return room;
}

void frame_reader_got(struct frame_reader *r, size_t n)
{
	assert(n <= r->in.cap - r->in.len);
	r->in.len += n;
}

int frame_next(struct frame_reader *r, struct frame *ret, struct err *e)
{
	const char *head = r->in.data ? r->in.data + r->pos : NULL;
	size_t have = r->in.len - r->pos;
	uint32_t len;
	uint8_t type;

	if (have < FRAME_HEADER || !head) {
		compact(r, 0);
		return 0;
	}
	len = get32(head);
	type = (uint8_t)head[4];
	if (type != FRAME_JSON && type != FRAME_DATA)
		return err_set(e, EPROTO, "unknown frame type %u: the peer does not speak this protocol",
			       type);
	if (len > r->max)
		return err_set(e, EMSGSIZE, "a frame of %u bytes, but at most %u are allowed here",
			       len, r->max);
	if (have - FRAME_HEADER < len)
		return 0;

	*ret = (struct frame){ .type = type, .data = head + FRAME_HEADER, .len = len };
	r->pos += FRAME_HEADER + (size_t)len;
	return 1;
}

void frame_put_header(char out[FRAME_HEADER], uint8_t type, uint32_t len)
{
	put32(out, len);
	out[4] = (char)type;
}

int frame_add_json(struct buf *b, const char *text, size_t len)
{
	char *to;

	if (len > FRAME_MAX)
		return -EMSGSIZE;
	to = buf_reserve(b, FRAME_HEADER + len);
	if (!to)
		return -ENOMEM;
	frame_put_header(to, FRAME_JSON, (uint32_t)len);
	if (len > 0)
		memcpy(to + FRAME_HEADER, text, len);
	b->len += FRAME_HEADER + len;
	return 0;
}

void frame_put_data(char out[FRAME_HEADER + DATA_HEADER], const struct data_header *h, size_t n)
{
	char *p = out + FRAME_HEADER;

	assert(n <= FRAME_MAX - DATA_HEADER);
	frame_put_header(out, FRAME_DATA, (uint32_t)(DATA_HEADER + n));
	memset(p, 0, DATA_HEADER);
	put32(p, h->sid);
	put32(p + 4, h->rank);
	p[8] = (char)h->fd;
	p[9] = (char)h->flags;
	put32(p + 12, (uint32_t)(h->offset >> 32));
	put32(p + 16, (uint32_t)h->offset);
}

int frame_get_data(const struct frame *f, struct data_header *ret, const char **ret_payload,
		   size_t *ret_n, struct err *e)
{
	const char *p = f->data;

	if (f->len < DATA_HEADER)
		return err_set(e, EPROTO, "a data frame of %zu bytes is shorter than its header",
			       f->len);
	if ((uint8_t)p[8] > 3)
		return err_set(e, EPROTO, "a data frame for stream %u; 0 to 3 exist", (uint8_t)p[8]);
	ret->sid = get32(p);
	ret->rank = get32(p + 4);
	ret->fd = (uint8_t)p[8];
	ret->flags = (uint8_t)p[9];
	ret->offset = (uint64_t)get32(p + 12) << 32 | get32(p + 16);
	*ret_payload = p + DATA_HEADER;
	*ret_n = f->len - DATA_HEADER;
	return 0;
}
