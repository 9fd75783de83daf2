/* coord_hold.c - verdicts that come and go are not let go at once
 *
 * A verdict clears as soon as it is passed no more: the port is Active again,
 * that is that. But one that has come HOLD_TIMES times within HOLD_WINDOW_MS is
 * flapping: it stays, and says so, until it has been away for HOLD_CLEAR_MS. So
 * a cordon that rests on it does not open and close, and jobs do not walk into
 * a port that is well for half a minute.
 *
 * Not promised: more than the life of this coordinator, nor more than HELD_MAX
 * different verdicts of a node.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOLD_TIMES 3
#define HOLD_WINDOW_MS 600000
#define HOLD_CLEAR_MS 300000
#define HELD_MAX 64

struct held_verdict {
	uint64_t key;
	mono_t came[HOLD_TIMES]; /* the last ones, latest first; MONO_NEVER: there was none */
	mono_t left; /* while it is not here */
	bool here, bad, met; /* met: in this round */
	struct verdict_kind kind; /* static, but for 'is': that is in 'word' */
	char word[49], subject[129], brief[129], fix[257];
};

/* Words that change ("Xid 79", "2.1 s") are no part of the key: see key_of() in coord_verdicts.c. */
static struct held_verdict *find(struct node *n, uint64_t key)
{
	for (size_t i = 0; i < n->n_held_verdicts; i++)
		if (n->held_verdicts[i].key == key)
			return &n->held_verdicts[i];
	return NULL;
}

static struct held_verdict *add(struct coord *c, struct node *n, uint64_t key)
{
	struct held_verdict *v;

	if (n->n_held_verdicts == HELD_MAX)
		return NULL;
	v = realloc(n->held_verdicts, (n->n_held_verdicts + 1) * sizeof(*v));
	if (v == NULL) {
		c->oom = true;
		return NULL;
	}
	n->held_verdicts = v;
	v += n->n_held_verdicts++;
	memset(v, 0, sizeof(*v));
	v->key = key;
	for (int i = 0; i < HOLD_TIMES; i++)
		v->came[i] = MONO_NEVER;
	return v;
}

static bool flapping(const struct coord *c, const struct held_verdict *h)
{
	mono_t first = h->came[HOLD_TIMES - 1];

	return !mono_is_never(first) && mono_sub_ms(h->here ? c->now : h->left, first) <= HOLD_WINDOW_MS;
}

static void came(struct coord *c, struct held_verdict *h, const struct rec_attention *x, const struct verdict_kind *k)
{
	h->met = true;
	h->bad = strcmp(x->severity, "bad") == 0;
	h->kind = *k;
	snprintf(h->word, sizeof(h->word), "%s", k->is);
	snprintf(h->subject, sizeof(h->subject), "%s", x->subject);
	snprintf(h->brief, sizeof(h->brief), "%s", x->brief != NULL ? x->brief : "");
	snprintf(h->fix, sizeof(h->fix), "%s", x->fix != NULL ? x->fix : "");
	if (h->here)
		return;
	h->here = true;
	memmove(&h->came[1], &h->came[0], (HOLD_TIMES - 1) * sizeof(h->came[0]));
	h->came[0] = c->now;
}

static void say_held(struct arena *a, const struct held_verdict *h, struct verdicts *v)
{
	struct rec_attention *x = &v->v[v->n];

	if (v->n == VERDICTS_MAX)
		return;
	*x = (struct rec_attention){ .severity = h->bad ? "bad" : "warn" };
	x->subject = arena_strdup(a, h->subject);
	x->brief = arena_printf(a, "%.110s, on and off", h->brief);
	x->fix = h->fix[0] != '\0' ? arena_strdup(a, h->fix) : NULL;
	x->text = arena_printf(a, "%.120s comes and goes: %d times in the last %d min. It is well at the moment, and counts "
			       "as so until that has lasted %d min", h->brief, HOLD_TIMES, HOLD_WINDOW_MS / 60000, HOLD_CLEAR_MS / 60000);
	v->kind[v->n] = (struct verdict_kind){ h->kind.noun, arena_strdup(a, h->word), h->kind.id };
	v->n += v->kind[v->n].is != NULL && x->subject != NULL && x->brief != NULL && x->text != NULL;
}

static bool is_worth_keeping(const struct coord *c, const struct held_verdict *h)
{
	return h->here || mono_sub_ms(c->now, h->left) <= HOLD_WINDOW_MS;
}

void hold_verdicts(struct arena *a, struct coord *c, struct node *n, struct verdicts *v)
{
	size_t kept = 0, passed = v->n;

	for (size_t i = 0; i < n->n_held_verdicts; i++)
		n->held_verdicts[i].met = false;
	for (size_t i = 0; i < passed; i++) {
		uint64_t key = verdict_key(v, i);
		struct held_verdict *h = find(n, key);

		if (h == NULL)
			h = add(c, n, key);
		if (h != NULL)
			came(c, h, &v->v[i], &v->kind[i]);
	}
	for (size_t i = 0; i < n->n_held_verdicts; i++) {
		struct held_verdict *h = &n->held_verdicts[i];

		/* what could not be judged has not gone */
		h->kind.is = h->word; /* rows move */
		if (!h->met && h->here && verdict_judged(n, h->kind)) {
			h->here = false;
			h->left = c->now;
		}
		if (!h->met && !h->here && flapping(c, h) && mono_sub_ms(c->now, h->left) < HOLD_CLEAR_MS)
			say_held(a, h, v);
		if (is_worth_keeping(c, h)) {
			struct held_verdict same = *h;

			n->held_verdicts[kept++] = same;
		}
	}
	n->n_held_verdicts = kept;
}
