/* envfilter.h - which of the caller's variables a job gets
 *
 * Pure: an environment in, an environment out. The lists are in envfilter.c
 * and, for people, in nodectl-launch(1).
 */
#ifndef NA_CLIENT_ENVFILTER_H
#define NA_CLIENT_ENVFILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* Finds a name among many; see envfilter.c. */
struct env_index {
	uint32_t *slots; /* index + 1; 0: free */
	size_t size, used;
};

struct envset {
	char **env; /* NULL-terminated "NAME=value": what the job gets */
	size_t count;
	char **dropped; /* NULL-terminated names, in the caller's order */
	size_t n_dropped;
	char **set; /* NULL-terminated "NAME=value": set by an option, also in env */
	size_t n_set;
	struct env_index env_at, set_at; /* for envfilter.c alone */
};

/* 'choices' are the arguments of --env, in order: "NAME=value" sets, "NAME"
 * passes the caller's value on even if the lists would drop it. 'clean' keeps
 * only the basics. Names without '=' and repeated names in 'environ' are
 * left out. 0; -EINVAL for a choice that is none, or a NAME that the caller
 * does not have; -ENOMEM. */
int envfilter(char *const *environ, const char *const *choices, size_t n_choices, bool clean,
	      struct envset *ret, struct err *e);
void envset_finish(struct envset *s);
/* Appends or replaces; false when out of memory. */
bool envset_put(struct envset *s, const char *name, const char *value);

/* True for names that are not passed on without being asked for. */
bool env_is_dropped(const char *name, size_t len);
/* True for names that --clean-env keeps. */
bool env_is_basic(const char *name, size_t len);
/* True for names whose values are not for other eyes (TOKEN, SECRET, KEY ...). */
bool env_is_secret(const char *name, size_t len);

#endif
