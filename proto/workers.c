/* workers.c - see workers.h */
#include "proto/workers.h"

#include <stdlib.h>
#include <string.h>

static size_t text_size(const char *s)
{
	return s ? strlen(s) + 1 : 0;
}

static const char *keep(char **at, const char *s)
{
	size_t n = text_size(s);
	char *p = *at;

	if (!n)
		return NULL;
	memcpy(p, s, n);
	*at += n;
	return p;
}

struct rec_worker *workers_dup(const struct rec_worker *v, size_t n, size_t *ret_n)
{
	struct rec_worker *copy;
	size_t size;
	char *at;

	*ret_n = 0;
	n = n > WORKERS_MAX ? WORKERS_MAX : n;
	if (n == 0)
		return NULL;
	size = n * sizeof *v;
	for (size_t i = 0; i < n; i++)
		size += text_size(v[i].state) + text_size(v[i].exception);
	copy = malloc(size);
	if (!copy)
		return NULL;

	memcpy(copy, v, n * sizeof *v);
	at = (char *)(copy + n);
	for (size_t i = 0; i < n; i++) {
		copy[i].state = keep(&at, v[i].state);
		copy[i].exception = keep(&at, v[i].exception);
	}
	*ret_n = n;
	return copy;
}

bool worker_bad(const struct rec_worker *w)
{
	if (strcmp(w->state, "running") == 0)
		return false;
	return strcmp(w->state, "exited") != 0 || w->code != 0;
}

const struct rec_worker *workers_first(const struct rec_worker *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (worker_bad(&v[i]) && !v[i].ours)
			return &v[i];
	return NULL;
}
