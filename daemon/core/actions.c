/* actions.c - building lists of actions; see actions.h */
#include "core/actions.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

void actions_init(struct actions *a)
{
	memset(a, 0, sizeof(*a));
	arena_init(&a->arena);
}

void actions_reset(struct actions *a)
{
	arena_finish(&a->arena);
	a->n = 0;
	a->failed = false;
	a->invalid = 0;
}

void actions_finish(struct actions *a)
{
	arena_finish(&a->arena);
	free(a->v);
	memset(a, 0, sizeof(*a));
}

/* Writing to the spare entry is harmless; 'failed' makes the step fail. */
static struct action *spare(struct actions *a)
{
	static struct action nobody;

	a->failed = true;
	memset(&nobody, 0, sizeof(nobody));
	return &nobody;
}

struct action *act_add(struct actions *a, enum action_type type)
{
	struct action *e;

	if (a->n == a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 16;
		struct action *v = realloc(a->v, cap * sizeof(*v));

		if (v == NULL)
			return spare(a);
		a->v = v;
		a->cap = cap;
	}
	e = &a->v[a->n++];
	memset(e, 0, sizeof(*e));
	e->type = type;
	return e;
}

/* Encodes m into the list's arena; NULL (and failed, or invalid counted) when it cannot. */
static char *encode(struct actions *a, const struct msg *m, size_t *ret_len)
{
	struct buf b;
	char *p = NULL;
	int r;

	buf_init(&b);
	r = msg_encode(m, &b, NULL);
	if (r == 0) {
		p = arena_memdup(&a->arena, b.data, b.len);
		*ret_len = b.len;
	}
	buf_finish(&b);
	if (r == -EINVAL)
		a->invalid++;
	else if (p == NULL)
		a->failed = true;
	return p;
}

void act_send(struct actions *a, uint64_t link, const struct msg *m)
{
	size_t len = 0;
	char *text = encode(a, m, &len);
	struct action *e;

	if (text == NULL)
		return;
	e = act_add(a, ACT_SEND);
	e->link = link;
	e->text = text;
	e->len = len;
}

void act_close(struct actions *a, uint64_t link, const char *why)
{
	struct action *e = act_add(a, ACT_CLOSE);

	e->link = link;
	e->text = arena_strdup(&a->arena, why);
	if (e->text == NULL)
		a->failed = true;
}

void act_log(struct actions *a, uint64_t job, const char *fmt, ...)
{
	struct action *e = act_add(a, ACT_LOG);
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	e->job = job;
	e->text = arena_strdup(&a->arena, text);
	e->len = strlen(text);
	if (e->text == NULL)
		a->failed = true;
}

void act_refuse(struct actions *a, uint64_t link, uint32_t rid, const char *code, const char *fmt,
		...)
{
	struct msg m;
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	msg_init(&m, MSG_refused);
	if (rid != 0)
		MSG_SET(&m.u.refused, refused, rid, rid);
	m.u.refused.code = code;
	m.u.refused.text = utf8_scrub(text);
	act_send(a, link, &m);
}

void act_row(struct actions *a, struct action *p, enum store_table table, const char *key,
	     const struct msg *m)
{
	struct store_row *rows = arena_alloc(&a->arena, (p->n_rows + 1) * sizeof(*rows));
	struct store_row *r;

	if (rows == NULL) {
		a->failed = true;
		return;
	}
	if (p->n_rows > 0)
		memcpy(rows, p->rows, p->n_rows * sizeof(*rows));
	p->rows = rows;
	r = &rows[p->n_rows++];
	r->table = table;
	r->key = arena_strdup(&a->arena, key);
	if (r->key == NULL)
		a->failed = true;
	if (m != NULL && (r->json = encode(a, m, &r->len)) == NULL)
		r->broken = true; /* counted as invalid (or failed); the store refuses all of it */
}

const char *action_name(enum action_type t)
{
	static const char *const names[] = {
		[ACT_SEND] = "send",	 [ACT_CLOSE] = "close",	  [ACT_PERSIST] = "persist",
		[ACT_LOG] = "log", [ACT_EVENT] = "event",
		[ACT_DROP_KEY] = "drop-key", [ACT_DIAL] = "dial", [ACT_FETCH] = "fetch",
		[ACT_LEASE] = "lease",	 [ACT_SPAWN] = "spawn",	  [ACT_PROVE] = "prove",
		[ACT_UNLISTEN] = "unlisten", [ACT_LATCH] = "latch", [ACT_SWEEP] = "sweep",
		[ACT_CLEAN] = "clean",	 [ACT_REVOKE] = "revoke",
		[ACT_PEER_OUT] = "peer-out",
		[ACT_DROP_SPEC] = "drop-spec", [ACT_CONTAINERS] = "containers", [ACT_READ] = "read", [ACT_LOOK] = "look",
		[ACT_CONFIRM] = "confirm", [ACT_TIDY_SPECS] = "tidy-specs", [ACT_FIX_SM] = "fix-sm",
		[ACT_KEEP_SPEC] = "keep-spec",
	};

	return (size_t)t < sizeof(names) / sizeof(names[0]) ? names[t] : "?";
}
