/* coord_story.c - the moments of a job, for who asks later what happened
 *
 * At most STORY_MAX; then those in the middle go and are counted: how a job
 * began and how it ended tells most. They are in the order of time; what is
 * told late (a death, by a node's clock) goes where it belongs.
 *
 * Not promised: that the last two seconds survive a crash of the coordinator.
 * A moment is written with the job's next row, or alone STORY_SAVE_MS later; a
 * start after STORY_SOON_MS, for nothing may follow it for days.
 */
#include "core/coord_internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define STORY_KEEP_FIRST (STORY_MAX / 2)
#define STORY_SAVE_MS 2000
#define STORY_SOON_MS 250

static void moment_free(struct moment *m)
{
	free(m->text);
	memset(m, 0, sizeof(*m));
}

void story_free(struct job *j)
{
	for (size_t i = 0; i < j->story.n; i++)
		moment_free(&j->story.v[i]);
	free(j->story.v);
	memset(&j->story, 0, sizeof(j->story));
}

/* Of a job that is over: no more will come. */
void story_fit(struct job *j)
{
	struct moment *v = j->story.n > 0 ? realloc(j->story.v, j->story.n * sizeof(*v)) : NULL;

	if (v == NULL)
		return;
	j->story.v = v;
	j->story.cap = j->story.n;
}

/* A job has few: most never need more than the first sixteen. */
static bool make_room(struct story *s)
{
	size_t cap = s->cap == 0 ? 16 : 2 * s->cap;
	struct moment *v;

	if (s->n == STORY_MAX) {
		moment_free(&s->v[STORY_KEEP_FIRST]);
		s->n--;
		s->dropped++;
		memmove(&s->v[STORY_KEEP_FIRST], &s->v[STORY_KEEP_FIRST + 1],
			(s->n - STORY_KEEP_FIRST) * sizeof(*v));
	}
	if (s->n < s->cap)
		return true;
	v = realloc(s->v, cap * sizeof(*v));
	if (v == NULL)
		return false;
	s->v = v;
	s->cap = cap;
	return true;
}

/* Of the same time: in the order they were told. */
static void insert(struct story *s, const struct moment *m, bool late)
{
	size_t at = s->n;

	while (late && at > 0 && s->v[at - 1].wall_us > m->wall_us)
		at--;
	memmove(&s->v[at + 1], &s->v[at], (s->n - at) * sizeof(*m));
	s->v[at] = *m;
	s->n++;
}

void job_tell(struct coord *c, struct job *j, const char *node, int64_t at_wall_us,
	      uint64_t error_us, const char *fmt, ...)
{
	struct moment m = { .wall_us = at_wall_us != 0 ? at_wall_us : cause_now_us(c), .error_us = error_us };
	char text[MOMENT_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(m.node, sizeof(m.node), "%s", node != NULL ? node : "");
	m.text = coord_strdup(c, utf8_scrub(text));
	if (m.text == NULL || !make_room(&j->story)) {
		moment_free(&m);
		c->oom = true;
		return;
	}
	insert(&j->story, &m, at_wall_us != 0);
	if (mono_is_never(j->story_save))
		j->story_save = mono_add_ms(c->now, STORY_SAVE_MS);
	coord_wake_at(c, j->story_save);
}

void story_fill(struct arena *a, const struct job *j, struct rec_moment **ret, size_t *ret_n)
{
	struct rec_moment *v = arena_alloc(a, j->story.n * sizeof(*v) + 1);

	*ret = v;
	*ret_n = v != NULL ? j->story.n : 0;
	for (size_t i = 0; i < *ret_n; i++) {
		const struct moment *m = &j->story.v[i];

		memset(&v[i], 0, sizeof(v[i]));
		v[i].wall_us = m->wall_us;
		v[i].text = m->text;
		v[i].node = m->node[0] != '\0' ? m->node : NULL;
		if (m->error_us != 0)
			MSG_SET(&v[i], moment, error_us, m->error_us);
	}
}

void story_load(struct coord *c, struct job *j, const struct rec_moment *v, size_t n, uint32_t dropped)
{
	for (size_t i = 0; i < n; i++) {
		struct moment m = { .wall_us = v[i].wall_us, .error_us = v[i].error_us };

		snprintf(m.node, sizeof(m.node), "%s", v[i].node != NULL ? v[i].node : "");
		m.text = coord_strdup(c, v[i].text);
		if (m.text == NULL || !make_room(&j->story)) {
			moment_free(&m);
			c->oom = true;
			return;
		}
		insert(&j->story, &m, false);
	}
	j->story.dropped = dropped;
}

/* ---- on disk -------------------------------------------------------------------- */

void story_saved(struct job *j)
{
	j->story_save = MONO_NEVER;
}

void story_soon(struct coord *c, struct job *j)
{
	mono_t soon = mono_add_ms(c->now, STORY_SOON_MS);

	if (mono_is_never(j->story_save) || !mono_before(soon, j->story_save))
		return;
	j->story_save = soon;
	coord_wake_at(c, soon);
}

/* Every other row of the job carries its story: only a moment that none has
 * followed is written by itself. */
void story_deadline(struct coord *c, struct job *j)
{
	struct pending *pd;

	if (mono_is_never(j->story_save))
		return;
	if (!mono_due(j->story_save, c->now)) {
		coord_wake_at(c, j->story_save);
		return;
	}
	if (!j->stored || j->placing || j->saving) { /* the row that is under way was made before */
		j->story_save = mono_add_ms(c->now, STORY_SOON_MS);
		coord_wake_at(c, j->story_save);
		return;
	}
	persist_job(c, coord_persist(c, &pd), j);
	pd->kind = PD_STORY;
	pd->job = j->id;
}

void story_stored(struct coord *c, struct job *j, int error)
{
	if (error == 0 || !mono_is_never(j->story_save))
		return;
	j->story_save = mono_add_ms(c->now, STORY_SAVE_MS);
	coord_wake_at(c, j->story_save);
}

/* ---- what all jobs tell ------------------------------------------------------------ */

void story_nodes(const struct job *j, char *out, size_t size)
{
	const char **v = calloc(j->n_places + 1, sizeof(*v));
	char *text = NULL;

	for (size_t i = 0; v != NULL && i < j->n_places; i++)
		v[i] = j->places[i].node->name;
	if (v != NULL)
		text = hostlist_format(v, j->n_places);
	if (text != NULL && strlen(text) < size)
		snprintf(out, size, "%s", text);
	else
		snprintf(out, size, "%zu nodes", j->n_places);
	free(text);
	free(v);
}

/* A node of a job that is not over has fallen silent, or is back. */
void story_node_state(struct coord *c, struct job *j, uint32_t i)
{
	struct place *p = &j->places[i];
	const struct node *n = p->node;
	bool away = !n->removed && (n->link == NULL || n->silent);

	if (p->phase >= PL_ENDED || away == p->told_away || (!n->ever && away))
		return;
	p->told_away = away;
	if (away)
		job_tell(c, j, n->name, 0, 0, n->link == NULL ? "unreachable: its agent has ended or is cut off"
							     : "unreachable: it is silent");
	else
		job_tell(c, j, n->name, 0, 0, "heard again");
}
