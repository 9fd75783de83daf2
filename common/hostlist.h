/* hostlist.h - compact lists of node names: gpu[01-16,20],login,r[1-2]n[01-04]
 *
 * Grammar: items separated by commas; an item is literal text with any number
 * of bracket groups; a group is a comma-separated list of numbers or ranges
 * low-high. Zero padding is kept: [08-11] gives 08 09 10 11; both ends of a
 * padded range must have the same width. Names are lower-case letters,
 * digits, '.', '_' and '-', 1-64 bytes, and begin with a letter or a digit.
 * Order is kept as written; a name that occurs twice counts once (its first
 * place). An empty list is an error.
 */
#ifndef NA_COMMON_HOSTLIST_H
#define NA_COMMON_HOSTLIST_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

#define HOSTLIST_MAX 65536 /* names one list may stand for; counted before memory is taken */
#define NODE_NAME_MAX 64

struct hostlist {
	char **names; /* each freed by hostlist_finish */
	size_t count;
};

/* 0 or -EINVAL / -E2BIG / -ENOMEM. The error text has three lines: what is
 * wrong, the list as given (cut to 60 columns around the place), and a caret
 * under the first bad byte. *ret untouched on failure. */
int hostlist_parse(const char *text, struct hostlist *ret, struct err *e);
void hostlist_finish(struct hostlist *h);
bool hostlist_has(const struct hostlist *h, const char *name);
/* For lists in which much is looked up: sort it once, then ask. */
void hostlist_sort(struct hostlist *h);
bool hostlist_has_sorted(const struct hostlist *h, const char *name);
/* Shortest text for the names in natural order: {gpu1,gpu2,gpu3,a} -> a,gpu[1-3].
 * Only the last number of a name is folded. Caller frees; NULL on ENOMEM. */
char *hostlist_format(const char *const *names, size_t count);
bool node_name_valid(const char *name);
/* Natural order: digit runs compare as numbers (gpu2 < gpu10), ties by strcmp. */
int node_name_cmp(const char *a, const char *b);

#endif
