/* torch_flight.c - see torch_flight.h
 *
 * A stack machine for the part of pickle (protocol 2 to 5) that such a dump is made of. Nothing is
 * built: a dictionary is looked at when its items are put into it, and forgotten. What it is known
 * by is the key below it on the stack when it begins, and that of the one above it.
 */
#include "common/torch_flight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX (1u << 20) /* of the stack, and of the memo */

enum kind { OTHER, MARK, TEXT, INT, TRUTH, DICT, LIST };
/* What a dictionary or a list is in the dump. */
enum role { NOBODY, TOP, STATUSES, STATUS, ENTRIES, ENTRY };

struct value {
	enum kind kind;
	enum role role;
	int64_t number;
	const char *text; /* not ended by NUL */
	size_t len;
};

struct values {
	struct value *v;
	size_t n, room;
};

struct machine {
	const uint8_t *p, *end;
	struct values stack, memo;
	struct values marks; /* their places on the stack, in 'number' */
	struct torch_flight *out;
	int error;
};

static void fail(struct machine *m, int error)
{
	if (m->error == 0)
		m->error = error;
}

/* ---- the stack ---------------------------------------------------------------------- */

static bool grow(struct machine *m, struct values *s, size_t need)
{
	size_t room = s->room;
	struct value *v;

	if (need > SLOTS_MAX) {
		fail(m, -EINVAL);
		return false;
	}
	if (need <= room)
		return true;
	room = room < 64 ? 64 : room * 2;
	room = room < need ? need : room;
	v = realloc(s->v, room * sizeof(*v));
	if (v == NULL) {
		fail(m, -ENOMEM);
		return false;
	}
	memset(v + s->room, 0, (room - s->room) * sizeof(*v));
	s->v = v;
	s->room = room;
	return true;
}

static void push(struct machine *m, struct value x)
{
	if (grow(m, &m->stack, m->stack.n + 1))
		m->stack.v[m->stack.n++] = x;
}

static void cut(struct machine *m, size_t n)
{
	m->stack.n = n;
	while (m->marks.n > 0 && (size_t)m->marks.v[m->marks.n - 1].number >= n)
		m->marks.n--;
}

static void pop(struct machine *m, size_t n)
{
	if (n <= m->stack.n)
		cut(m, m->stack.n - n);
	else
		fail(m, -EINVAL);
}

static void mark(struct machine *m)
{
	if (!grow(m, &m->marks, m->marks.n + 1))
		return;
	m->marks.v[m->marks.n++].number = (int64_t)m->stack.n;
	push(m, (struct value){ .kind = MARK });
}

/* The place of the newest mark. */
static size_t find_mark(struct machine *m)
{
	if (m->marks.n > 0)
		return (size_t)m->marks.v[m->marks.n - 1].number;
	fail(m, -EINVAL);
	return 0;
}

static bool is(const struct value *v, const char *text)
{
	return v->kind == TEXT && v->len == strlen(text) && memcmp(v->text, text, v->len) == 0;
}

/* ---- what it means -------------------------------------------------------------------- */

/* What the newest value will be put into: it lies below the newest mark. */
static const struct value *container(const struct machine *m)
{
	size_t at = m->marks.n > 0 ? (size_t)m->marks.v[m->marks.n - 1].number : 0;

	return at > 0 ? &m->stack.v[at - 1] : NULL;
}

static enum role role_of_new(const struct machine *m, enum kind kind)
{
	const struct value *in = container(m), *key = m->stack.n > 0 ? &m->stack.v[m->stack.n - 1] : NULL;

	if (key == NULL)
		return kind == DICT ? TOP : NOBODY;
	if (in == NULL)
		return NOBODY; /* of a tuple, or of one item alone: not in such a dump */
	if (in->role == TOP)
		return kind == DICT && is(key, "pg_status") ? STATUSES : kind == LIST && is(key, "entries") ? ENTRIES : NOBODY;
	if (in->role == STATUSES)
		return kind == DICT && is(key, "0") ? STATUS : NOBODY;
	return in->role == ENTRIES && kind == DICT ? ENTRY : NOBODY;
}

static void copy_text(char *out, size_t size, const struct value *v, size_t skip)
{
	size_t n = 0;

	for (size_t i = skip; v->kind == TEXT && i < v->len && n + 1 < size; i++)
		if (v->text[i] >= ' ' && v->text[i] <= '~')
			out[n++] = v->text[i];
	out[n] = '\0';
}

static void take_status(struct torch_flight *out, const struct value *v, size_t n)
{
	for (size_t i = 0; i + 1 < n; i += 2) {
		if (v[i + 1].kind != INT)
			continue;
		if (is(&v[i], "last_enqueued_collective"))
			out->enqueued = v[i + 1].number;
		else if (is(&v[i], "last_started_collective"))
			out->started = v[i + 1].number;
		else if (is(&v[i], "last_completed_collective"))
			out->completed = v[i + 1].number;
		else
			continue;
		out->has_status = true;
	}
}

/* "nccl:all_reduce": what stands before the colon is the backend. */
static size_t behind_colon(const struct value *v)
{
	const char *colon = v->kind == TEXT && v->len > 0 ? memchr(v->text, ':', v->len) : NULL;

	return colon != NULL ? (size_t)(colon - v->text) + 1 : 0;
}

static void take_entry(struct torch_flight *out, const struct value *v, size_t n)
{
	const struct value *seq = NULL, *op = NULL, *state = NULL;
	bool other = false;

	for (size_t i = 0; i + 1 < n; i += 2) {
		const struct value *x = &v[i + 1];

		if (is(&v[i], "pg_id"))
			other = other || x->kind != INT || x->number != 0;
		else if (is(&v[i], "is_p2p"))
			other = other || (x->kind == TRUTH && x->number != 0);
		else if (is(&v[i], "collective_seq_id") && x->kind == INT && x->number >= 0)
			seq = x;
		else if (is(&v[i], "profiling_name"))
			op = x;
		else if (is(&v[i], "state"))
			state = x;
	}
	if (other || seq == NULL || op == NULL || state == NULL || (out->has_last && (uint64_t)seq->number < out->seq))
		return;
	out->has_last = true;
	out->seq = (uint64_t)seq->number;
	copy_text(out->op, sizeof(out->op), op, behind_colon(op));
	copy_text(out->state, sizeof(out->state), state, 0);
}

/* Items that lie above the dictionary at 'at', from 'first' on, are put into it. */
static void set_items(struct machine *m, size_t at, size_t first)
{
	const struct value *items = m->stack.v + first;
	size_t n = m->stack.n - first;

	if (m->stack.v[at].kind == DICT && m->stack.v[at].role == STATUS)
		take_status(m->out, items, n);
	else if (m->stack.v[at].kind == DICT && m->stack.v[at].role == ENTRY)
		take_entry(m->out, items, n);
	cut(m, at + 1);
}

/* ---- reading ---------------------------------------------------------------------------- */

static const uint8_t *bytes(struct machine *m, size_t n)
{
	const uint8_t *p = m->p;

	if ((size_t)(m->end - m->p) < n) {
		fail(m, -EAGAIN);
		m->p = m->end;
		return NULL;
	}
	m->p += n;
	return p;
}

/* Little endian, unsigned. */
static uint64_t number(struct machine *m, size_t n)
{
	const uint8_t *p = bytes(m, n);
	uint64_t x = 0;

	for (size_t i = 0; p != NULL && i < n; i++)
		x |= (uint64_t)p[i] << (8 * i);
	return x;
}

static void push_text(struct machine *m, uint64_t len)
{
	const uint8_t *p = len <= SIZE_MAX ? bytes(m, (size_t)len) : NULL;

	if (p != NULL)
		push(m, (struct value){ .kind = TEXT, .text = (const char *)p, .len = (size_t)len });
}

static void push_int(struct machine *m, int64_t x)
{
	push(m, (struct value){ .kind = INT, .number = x });
}

/* Two's complement of any length; what does not fit is no number that is looked for. */
static void push_long(struct machine *m)
{
	size_t n = (size_t)number(m, 1);
	const uint8_t *p = bytes(m, n);
	uint64_t x = p != NULL && n > 0 && p[n - 1] & 0x80 ? UINT64_MAX : 0;

	for (size_t i = 0; p != NULL && i < n && i < 8; i++)
		x = (x & ~(UINT64_C(0xff) << (8 * i))) | (uint64_t)p[i] << (8 * i);
	if (n <= 8)
		push_int(m, (int64_t)x);
	else
		push(m, (struct value){ .kind = OTHER });
}

static void skip_line(struct machine *m)
{
	const uint8_t *nl = m->p < m->end ? memchr(m->p, '\n', (size_t)(m->end - m->p)) : NULL;

	if (nl == NULL)
		fail(m, -EAGAIN);
	else
		m->p = nl + 1;
}

static void remember(struct machine *m, uint64_t at)
{
	if (m->stack.n == 0 || at >= SLOTS_MAX) {
		fail(m, -EINVAL);
		return;
	}
	if (!grow(m, &m->memo, (size_t)at + 1))
		return;
	m->memo.n = at + 1 > m->memo.n ? (size_t)at + 1 : m->memo.n;
	m->memo.v[at] = m->stack.v[m->stack.n - 1];
}

static void recall(struct machine *m, uint64_t at)
{
	if (at < m->memo.n)
		push(m, m->memo.v[at]);
	else
		fail(m, -EINVAL);
}

static void container_begins(struct machine *m, enum kind kind)
{
	push(m, (struct value){ .kind = kind, .role = role_of_new(m, kind) });
}

/* n values become one of which nothing is known. */
static void tuple(struct machine *m, size_t n)
{
	pop(m, n);
	push(m, (struct value){ .kind = OTHER });
}

static void items_of_mark(struct machine *m, bool of_dict)
{
	size_t at = find_mark(m);

	if (m->error != 0)
		return;
	if (at == 0)
		fail(m, -EINVAL);
	else if (of_dict)
		set_items(m, at - 1, at + 1);
	else
		cut(m, at);
}

static void one_item(struct machine *m)
{
	if (m->stack.n < 3)
		fail(m, -EINVAL);
	else
		set_items(m, m->stack.n - 3, m->stack.n - 2);
}

static void tuple_of_mark(struct machine *m)
{
	size_t at = find_mark(m);

	if (m->error != 0)
		return;
	cut(m, at);
	push(m, (struct value){ .kind = OTHER });
}

/* What would import or call something: nothing is known of what came of it. */
static void reduce(struct machine *m)
{
	pop(m, 2);
	push(m, (struct value){ .kind = OTHER });
}

/* Opcodes that push one scalar. False: it is none of them. */
static bool scalar(struct machine *m, uint8_t op)
{
	switch (op) {
	case 'K':
		push_int(m, (int64_t)number(m, 1));
		return true;
	case 'M':
		push_int(m, (int64_t)number(m, 2));
		return true;
	case 'J':
		push_int(m, (int32_t)(uint32_t)number(m, 4));
		return true;
	case 0x8a:
		push_long(m);
		return true;
	case 'X':
		push_text(m, number(m, 4));
		return true;
	case 0x8c:
		push_text(m, number(m, 1));
		return true;
	case 0x8d:
		push_text(m, number(m, 8));
		return true;
	case 0x88:
	case 0x89:
		push(m, (struct value){ .kind = TRUTH, .number = op == 0x88 });
		return true;
	case 'G':
		bytes(m, 8);
		push(m, (struct value){ .kind = OTHER });
		return true;
	case 'N':
	case ')':
		push(m, (struct value){ .kind = OTHER });
		return true;
	default:
		return false;
	}
}

static bool whole(struct machine *m, uint8_t op)
{
	switch (op) {
	case '(':
		mark(m);
		return true;
	case '}':
		container_begins(m, DICT);
		return true;
	case ']':
		container_begins(m, LIST);
		return true;
	case 'u':
		items_of_mark(m, true);
		return true;
	case 'e':
		items_of_mark(m, false);
		return true;
	case 's':
		one_item(m);
		return true;
	case 'a':
		pop(m, 1);
		return true;
	case 't':
		tuple_of_mark(m);
		return true;
	case 0x85:
	case 0x86:
	case 0x87:
		tuple(m, op - 0x84u);
		return true;
	default:
		return false;
	}
}

static bool memory(struct machine *m, uint8_t op)
{
	switch (op) {
	case 'q':
		remember(m, number(m, 1));
		return true;
	case 'r':
		remember(m, number(m, 4));
		return true;
	case 0x94:
		remember(m, m->memo.n);
		return true;
	case 'h':
		recall(m, number(m, 1));
		return true;
	case 'j':
		recall(m, number(m, 4));
		return true;
	default:
		return false;
	}
}

static void other(struct machine *m, uint8_t op)
{
	switch (op) {
	case 0x80: /* protocol */
		number(m, 1);
		break;
	case 0x95: /* frame */
		number(m, 8);
		break;
	case 'c':
		skip_line(m);
		skip_line(m);
		push(m, (struct value){ .kind = OTHER });
		break;
	case 'R':
		reduce(m);
		break;
	default:
		fail(m, -EINVAL);
	}
}

int torch_flight_parse(const uint8_t *p, size_t n, struct torch_flight *ret)
{
	struct machine m = { .p = p, .end = p + n, .out = ret };
	bool stop = false;

	*ret = (struct torch_flight){ .enqueued = -1, .started = -1, .completed = -1 };
	while (m.error == 0 && !stop) {
		const uint8_t *op = bytes(&m, 1);

		if (op == NULL)
			break;
		stop = *op == '.';
		if (!stop && !scalar(&m, *op) && !whole(&m, *op) && !memory(&m, *op))
			other(&m, *op);
	}
	free(m.stack.v);
	free(m.memo.v);
	free(m.marks.v);
	if (m.error == 0 && !ret->has_status && !ret->has_last)
		return -EINVAL; /* a pickle of something else */
	return m.error;
}
