/* conf.h - configuration files: INI syntax, every key declared in a table
 *
 * Unknown sections, keys and bad values are refused with file and line; the
 * first error wins. Absent file: -ENOENT, the caller decides.
 */
#ifndef NA_COMMON_CONF_H
#define NA_COMMON_CONF_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

enum conf_kind {
	CONF_STR, /* char *, malloc'ed, may not be empty */
	CONF_BOOL, /* bool: yes no true false on off 1 0 */
	CONF_UINT, /* uint32_t in [min, max] */
	CONF_MS, /* uint32_t milliseconds in [min, max]; written 250ms, 4s, 2m, 1h, 1d */
	CONF_SIZE, /* uint64_t bytes in [min, max]; written 4096, 64K, 10M, 2G, 1T (powers of 1024) */
};

struct conf_key {
	const char *section;
	const char *key;
	enum conf_kind kind;
	size_t offset; /* into the target struct */
	uint64_t min, max; /* inclusive; ignored for STR and BOOL */
	const char *help;
};

/* Fills fields of *target from the file; keys that are absent leave theirs
 * untouched, so set defaults first. Table ends with section == NULL. */
int conf_load(const char *path, const struct conf_key *table, void *target, struct err *e);
/* lines[i]: the line that set row i of the table; those of other rows stay as they are. */
int conf_load_lines(const char *path, const struct conf_key *table, void *target, unsigned *lines,
		    struct err *e);
/* The same values, given as text (command-line options use these). */
int conf_parse_ms(const char *text, uint64_t min, uint64_t max, uint32_t *ret, struct err *e);
int conf_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e);
int conf_parse_uint(const char *text, uint64_t min, uint64_t max, uint32_t *ret, struct err *e);

#endif
