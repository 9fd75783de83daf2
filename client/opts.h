/* opts.h - options of a command from a table, with words for what is wrong
 *
 * Not getopt: the table also makes the help text and the nearest suggestion,
 * and options may stand after operands ("logs 18 -f").
 */
#ifndef NA_CLIENT_OPTS_H
#define NA_CLIENT_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

struct opt {
	int id; /* > 0 */
	char letter; /* 0: none */
	const char *name; /* without dashes; NULL: none */
	const char *arg; /* what its value is called; NULL: a flag */
	const char *help; /* NULL: understood but not in the help */
};

enum { OPT_END = 0, OPT_OPERAND = 1000, OPT_HELP, OPT_JSON, OPT_DIR, OPT_SOCKET, OPT_VERSION, OPT_COMPLETE };

struct opts {
	const char *what; /* "nodectl launch", for sentences */
	const struct opt *table; /* ends with id 0; may be NULL */
	int argc;
	char **argv;
	int next; /* first argument not looked at */
	const char *letters; /* rest of a bundle of letters */
	bool only_operands; /* after "--" */
	char shown[72]; /* the last option, as it was typed: "-n", "--limit" */
};

/* The options that every command takes. */
extern const struct opt opts_global[];

/* The next option's id and its value (NULL for a flag), OPT_OPERAND and the
 * operand, or OPT_END; -EINVAL and a sentence. */
int opts_next(struct opts *o, const char **ret_value, struct err *e);
/* Appends the lines that describe a table. */
void opts_help(struct buf *b, const struct opt *table, unsigned columns);

/* The word of the list (ends with NULL) that is closest to 'word', or NULL when none is close. */
const char *opts_nearest(const char *word, const char *const *list);

/* "90s", "5m", "1h30m", "500ms", "1:30:00", "1-12:00:00" in milliseconds; 'what' names the option in the sentence. */
int opts_duration(const char *what, const char *text, uint64_t max_ms, uint64_t *ret_ms,
		  struct err *e);
int opts_uint(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret,
	      struct err *e);
/* Ranges of numbers "0-3,7"; pairs first,last in a malloc'ed array. */
struct span {
	uint32_t first, last;
};
int opts_spans(const char *what, const char *text, struct span **list, size_t *n, struct err *e);

#endif
