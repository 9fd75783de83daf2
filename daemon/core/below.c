/* below.c - see below.h */
#include "core/below.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void below_take(struct below *b, const struct rec_rank_state *s)
{
	struct rec_worker *copy;
	char *text;
	size_t n;

	if (s->status_unknown)
		b->status_unknown = true;
	if (s->exception != NULL && (text = strdup(s->exception)) != NULL) {
		free(b->exception);
		b->exception = text;
	}
	if (s->n_workers == 0 && s->workers_found == 0)
		return;
	copy = workers_dup(s->workers, s->n_workers, &n);
	if (copy == NULL && s->n_workers > 0)
		return;
	free(b->workers);
	b->workers = copy;
	b->n_workers = n;
	b->found = s->workers_found;
	b->alive = s->workers_alive;
}

void below_fill(const struct below *b, bool live, struct rec_rank_state *s)
{
	s->exception = b->exception;
	s->status_unknown = b->status_unknown;
	s->workers = b->workers;
	s->n_workers = b->n_workers;
	for (size_t i = 0; !live && i < s->n_workers; i++) /* the bad ones come first */
		if (!worker_bad(&b->workers[i]))
			s->n_workers = i;
	if (b->found == 0)
		return;
	MSG_SET(s, rank_state, workers_found, b->found);
	MSG_SET(s, rank_state, workers_alive, b->alive);
}

void below_free(struct below *b)
{
	free(b->exception);
	free(b->workers);
	memset(b, 0, sizeof(*b));
}

bool below_say(const struct below *b, const char *node, const char *gpu, char *out, size_t size)
{
	const struct rec_worker *w = workers_first(b->workers, b->n_workers);
	char end[64];

	if (w == NULL)
		return false;
	if (strcmp(w->state, "killed") == 0)
		snprintf(end, sizeof(end), "was killed by signal %u%s", w->sig, w->core ? " and dumped core" : "");
	else if (strcmp(w->state, "exited") == 0)
		snprintf(end, sizeof(end), "exited with code %u", w->code);
	else
		snprintf(end, sizeof(end), "ended, exit status unknown");
	snprintf(out, size, "rank %u (%s%s, below the launcher, pid %u) %s", w->rank, node, gpu, w->pid, end);
	return true;
}

uint32_t below_pid(const struct below *b)
{
	const struct rec_worker *w = workers_first(b->workers, b->n_workers);

	return w != NULL ? w->pid : 0;
}

uint32_t below_signal(const struct below *b)
{
	const struct rec_worker *w = workers_first(b->workers, b->n_workers);

	return w != NULL && strcmp(w->state, "killed") == 0 ? w->sig : 0;
}

void below_say_exception(const struct below *b, char *out, size_t size)
{
	size_t n = strlen(out);

	if (b->exception != NULL)
		snprintf(out + n, size - n, ": %s", b->exception);
}
