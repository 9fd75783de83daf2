/* label.c - output labelling, see label.h
 *
 * The speed is in take_lines(): one look for "\r" a block instead of one a
 * line, one check of room a block, and labels copied in a fixed size that the
 * compiler turns into a few vector moves. */
#include "client/label.h"

#include <string.h>

#define BLOCK 65536u /* input taken between two checks of room */
#define SHORT 32u /* labels up to this length are copied as SHORT bytes */

static const char clear_line[3] = { '\033', '[', 'K' };

void label_out_init(struct label_out *o, bool terminal)
{
	memset(o, 0, sizeof(*o));
	buf_init(&o->buf);
	o->terminal = terminal;
}

void label_out_finish(struct label_out *o)
{
	buf_finish(&o->buf);
	o->open = NULL;
}

void label_stream_init(struct label_stream *s, const char *label)
{
	size_t n = label ? strlen(label) : 0;

	memset(s, 0, sizeof(*s));
	buf_init(&s->held);
	s->label_len = n < LABEL_MAX ? (unsigned)n : LABEL_MAX - 1;
	if (n)
		memcpy(s->label, label, s->label_len);
}

void label_stream_finish(struct label_stream *s)
{
	buf_finish(&s->held);
}

/* Brings the output to where a line of s may begin or go on. Without labels
 * and off the terminal no byte is added: whoever asks for that wants the bytes. */
static void take_over(struct label_out *o, const struct label_stream *s)
{
	if (o->open == s && s)
		return;
	if (o->open && !o->cr && (o->terminal || o->open->label_len))
		buf_addc(&o->buf, '\n');
	else if (o->cr && o->terminal)
		buf_add(&o->buf, clear_line, sizeof(clear_line));
	o->open = NULL;
	o->cr = false;
	if (s)
		buf_add(&o->buf, s->label, s->label_len);
}

/* Writes bytes of the open line of s and notes how the output now ends. */
static void put(struct label_out *o, const struct label_stream *s, const char *p, size_t n)
{
	if (!n)
		return;
	take_over(o, s);
	buf_add(&o->buf, p, n);
	o->cr = p[n - 1] == '\r';
	o->open = p[n - 1] == '\n' ? NULL : s;
}

/* The byte after the line's end, NULL when p..end holds none. A "\r" that is
 * the last byte is no end yet: "\n" may follow. *cr: next "\r", found once. */
static const char *line_end(const char *p, const char *end, const char **cr)
{
	const char *stop, *nl;

	if (*cr < p) {
		*cr = memchr(p, '\r', (size_t)(end - p));
		if (!*cr)
			*cr = end;
	}
	stop = *cr;
	nl = memchr(p, '\n', (size_t)(stop - p));
	if (nl)
		return nl + 1;
	if (stop == end || stop + 1 == end)
		return NULL;
	return stop[1] == '\n' ? stop + 2 : stop + 1;
}

static char *add_label(char *w, const struct label_stream *s)
{
	if (s->label_len <= SHORT)
		memcpy(w, s->label, SHORT);
	else
		memcpy(w, s->label, s->label_len);
	return w + s->label_len;
}

/* Without labels whole runs of lines are one copy. */
static const char *last_end(const char *p, const char *end)
{
	const char *nl = memrchr(p, '\n', (size_t)(end - p));
	const char *from = nl ? nl + 1 : p, *cr;

	cr = end - from > 1 ? memrchr(from, '\r', (size_t)(end - from - 1)) : NULL;
	return cr ? cr + 1 : nl ? nl + 1 : NULL;
}

static const char *take_run(struct label_out *o, const struct label_stream *s, const char *p,
			    const char *end)
{
	const char *next = last_end(p, end);

	if (!next)
		return p;
	put(o, s, p, (size_t)(next - p));
	o->open = NULL;
	return next;
}

/* Writes the whole lines at p (the output stands at a line's begin) and returns what is left. */
static const char *take_lines(struct label_out *o, const struct label_stream *s, const char *p,
			      const char *end)
{
	const char *cr = p - 1, *next;
	char *w, *limit;

	if (!s->label_len)
		return take_run(o, s, p, end);
	while ((next = line_end(p, end, &cr))) {
		size_t room = (size_t)(next - p) + LABEL_MAX + SHORT + 4;

		take_over(o, NULL);
		w = buf_reserve(&o->buf, room < BLOCK ? BLOCK : room);
		if (!w)
			return end;
		limit = o->buf.data + o->buf.cap - LABEL_MAX - SHORT - 4;
		do {
			size_t n = (size_t)(next - p);

			if (n > (size_t)(limit - w) || w > limit)
				break;
			if (o->cr && o->terminal) {
				memcpy(w, clear_line, sizeof(clear_line));
				w += sizeof(clear_line);
			}
			w = add_label(w, s);
			memcpy(w, p, n);
			w += n;
			o->cr = next[-1] == '\r';
			p = next;
		} while ((next = line_end(p, end, &cr)));
		o->buf.len = (size_t)(w - o->buf.data);
	}
	return p;
}

/* Finishes the line that s has begun (held here, or open in the output). Returns
 * what is left of p..end; NULL when the line has not ended. */
static const char *finish_begun(struct label_out *o, struct label_stream *s, const char *p,
				const char *end)
{
	const char *cr = p - 1, *next;
	bool cr_before = s->held.len ? s->held.data[s->held.len - 1] == '\r' : o->cr;

	if (cr_before && *p != '\n')
		next = p; /* the line had ended with "\r" */
	else
		next = line_end(p, end, &cr);
	if (!next)
		return NULL;
	put(o, s, s->held.data, s->held.len);
	put(o, s, p, (size_t)(next - p));
	buf_reset(&s->held);
	o->open = NULL;
	return next;
}

static void keep(struct label_out *o, struct label_stream *s, const char *p, size_t n)
{
	if (o->open == s) {
		put(o, s, p, n);
		return;
	}
	buf_add(&s->held, p, n);
	if (s->held.len > LABEL_HELD_MAX)
		label_show(o, s);
}

void label_feed(struct label_out *o, struct label_stream *s, const char *p, size_t n)
{
	const char *end = p + n, *rest;

	if (!n)
		return;
	if (s->held.len || o->open == s) {
		rest = finish_begun(o, s, p, end);
		if (!rest) {
			keep(o, s, p, n);
			return;
		}
		p = rest;
	}
	if (p < end)
		p = take_lines(o, s, p, end);
	if (p < end)
		keep(o, s, p, (size_t)(end - p));
}

void label_show(struct label_out *o, struct label_stream *s)
{
	put(o, s, s->held.data, s->held.len);
	buf_finish(&s->held);
}

void label_eof(struct label_out *o, struct label_stream *s)
{
	label_show(o, s);
	if (o->open != s || !s->label_len)
		return;
	if (!o->cr)
		buf_addc(&o->buf, '\n');
	o->open = NULL;
}

void label_passed(struct label_out *o, const struct label_stream *s, const char *p, size_t n)
{
	if (!n)
		return;
	o->cr = p[n - 1] == '\r';
	o->open = p[n - 1] == '\n' ? NULL : s;
}

void label_raw(struct label_out *o, const struct label_stream *s, const char *p, size_t n)
{
	buf_add(&o->buf, p, n);
	label_passed(o, s, p, n);
}

void label_line(struct label_out *o, const char *text)
{
	if (o->open || o->cr)
		buf_addc(&o->buf, '\n'); /* a progress bar stays to be seen */
	o->open = NULL;
	o->cr = false;
	buf_adds(&o->buf, text);
	buf_addc(&o->buf, '\n');
}
