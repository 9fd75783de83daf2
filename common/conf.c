/* conf.c - configuration files, through inih
 *
 * Lines reach inih through our own reader, which counts them (so errors have
 * a line number), looks at section headings (inih tells only of keys), and
 * refuses lines that inih would cut. Values are collected first and stored in
 * the target when the whole file is good: a bad file changes nothing.
 *
 * A key written twice is refused. Continuation lines are not supported. Not
 * for use by two threads at once: inih's options are global.
 */
#include "common/conf.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ini.h>

#define LINE_BYTES 4096 /* with newline and NUL */

struct value {
	bool set;
	unsigned line;
	uint64_t number;
	char *text;
};

struct load {
	const char *path;
	const struct conf_key *table;
	struct value *values; /* one for each row of the table */
	FILE *file;
	char *line; /* getline's */
	size_t line_cap;
	unsigned lineno;
	int rc; /* the first error */
	struct err *e;
};

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit ms_units[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 }, { NULL, 0 },
};

static const struct unit size_units[] = {
	{ "", 1 }, { "K", 1u << 10 }, { "M", 1u << 20 }, { "G", 1u << 30 }, { "T", UINT64_C(1) << 40 },
	{ NULL, 0 },
};

static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };

/* Digits, then one of the units. -EINVAL: not such a text; -ERANGE: over 2^64-1. */
static int parse_units(const char *text, const struct unit *units, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	}
	for (; units->name; units++) {
		if (strcmp(p, units->name) == 0)
			return __builtin_mul_overflow(v, units->factor, ret) ? -ERANGE : 0;
	}
	if (v != 0 || *p)
		return -EINVAL;
	*ret = 0; /* plain 0 needs no unit */
	return 0;
}

/* Writes v in the largest unit that divides it. */
static void format_units(uint64_t v, const struct unit *units, char *out, size_t size)
{
	const struct unit *best = units;

	for (; units->name; units++) {
		if (v % units->factor == 0 && v >= units->factor)
			best = units;
	}
	snprintf(out, size, "%" PRIu64 "%s", v / best->factor, best->name);
}

static int parse_ranged(const char *text, const struct unit *units, const char *form, uint64_t min,
			uint64_t max, uint64_t *ret, struct err *e)
{
	char low[32], high[32];
	uint64_t v = 0;
	int rc = parse_units(text, units, &v);

	if (rc == -EINVAL)
		return err_set(e, EINVAL, "'%.80s' is not %s", text, form);
	if (rc == 0 && v >= min && v <= max) {
		*ret = v;
		return 0;
	}
	format_units(min, units, low, sizeof(low));
	format_units(max, units, high, sizeof(high));
	return err_set(e, EINVAL, "'%.80s' is out of range: from %s to %s is allowed", text, low,
		       high);
}

static int parse_u32(const char *text, const struct unit *units, const char *form, uint64_t min,
		     uint64_t max, uint32_t *ret, struct err *e)
{
	uint64_t v = 0;
	int rc;

	rc = parse_ranged(text, units, form, min, max < UINT32_MAX ? max : UINT32_MAX, &v, e);
	if (!rc)
		*ret = (uint32_t)v;
	return rc;
}

int conf_parse_ms(const char *text, uint64_t min, uint64_t max, uint32_t *ret, struct err *e)
{
	return parse_u32(text, ms_units, "a duration: write a number and ms, s, m, h or d, like 4s",
			 min, max, ret, e);
}

int conf_parse_uint(const char *text, uint64_t min, uint64_t max, uint32_t *ret, struct err *e)
{
	return parse_u32(text, no_units, "a whole number", min, max, ret, e);
}

int conf_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e)
{
	return parse_ranged(text, size_units, "a size: write a number, or one with K, M, G or T",
			    min, max, ret, e);
}

static int parse_bool(const char *text, uint64_t *ret, struct err *e)
{
	static const char *const words[] = { "no",  "yes", "false", "true",
					     "off", "on",  "0",     "1" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcasecmp(text, words[i]) == 0) {
			*ret = i % 2;
			return 0;
		}
	}
	return err_set(e, EINVAL, "'%.80s' is neither yes nor no", text);
}

static int parse_str(const char *text, char **ret, struct err *e)
{
	if (!*text)
		return err_set(e, EINVAL, "the value is empty");
	*ret = strdup(text);
	return *ret ? 0 : err_set(e, ENOMEM, "out of memory");
}

static int parse_value(const struct conf_key *k, const char *text, struct value *v, struct err *e)
{
	uint32_t small = 0;
	int rc;

	switch (k->kind) {
	case CONF_STR:
		return parse_str(text, &v->text, e);
	case CONF_BOOL:
		return parse_bool(text, &v->number, e);
	case CONF_SIZE:
		return conf_parse_size(text, k->min, k->max, &v->number, e);
	case CONF_UINT:
		rc = conf_parse_uint(text, k->min, k->max, &small, e);
		break;
	case CONF_MS:
		rc = conf_parse_ms(text, k->min, k->max, &small, e);
		break;
	default:
		return err_set(e, EINVAL, "unknown kind of key %d", (int)k->kind);
	}
	v->number = small;
	return rc;
}

static void store(const struct conf_key *k, const struct value *v, void *target)
{
	char *at = (char *)target + k->offset;

	switch (k->kind) {
	case CONF_STR:
		*(char **)(void *)at = v->text;
		break;
	case CONF_BOOL:
		*(bool *)(void *)at = v->number != 0;
		break;
	case CONF_UINT:
	case CONF_MS:
		*(uint32_t *)(void *)at = (uint32_t)v->number;
		break;
	case CONF_SIZE:
		*(uint64_t *)(void *)at = v->number;
		break;
	}
}

/* Notes the first error and gives it file and line. */
static void fail(struct load *l, int code, const char *what)
{
	if (!l->rc)
		l->rc = err_set(l->e, code, "%s:%u: %s", l->path, l->lineno, what);
}

static bool section_known(const struct load *l, const char *name, size_t len)
{
	for (const struct conf_key *k = l->table; k->section; k++) {
		if (strlen(k->section) == len && memcmp(k->section, name, len) == 0)
			return true;
	}
	return false;
}

/* A heading must be "[name]", alone but for white space and a comment. */
static void check_heading(struct load *l, const char *p)
{
	const char *close = strchr(p, ']');
	char what[160];

	if (!close) {
		fail(l, EINVAL, "a section heading needs its ]");
		return;
	}
	if (!section_known(l, p + 1, (size_t)(close - p - 1))) {
		snprintf(what, sizeof(what), "unknown section [%.*s]", (int)(close - p - 1), p + 1);
		fail(l, EINVAL, what);
		return;
	}
	p = close + 1 + strspn(close + 1, " \t\r\n");
	if (*p && *p != ';' && *p != '#')
		fail(l, EINVAL, "something follows the section heading");
}

/* inih's reader: one line into str, or NULL at the end and on any error. */
static char *read_line(char *str, int num, void *stream)
{
	struct load *l = stream;
	ssize_t n;
	char *p;

	if (l->rc)
		return NULL;
	n = getline(&l->line, &l->line_cap, l->file);
	l->lineno++;
	if (n < 0) {
		if (!feof(l->file))
			fail(l, errno, strerror(errno));
		return NULL;
	}
	p = l->line;
	if (l->lineno == 1 && strncmp(p, "\xEF\xBB\xBF", 3) == 0) /* inih skips this mark */
		p += 3;
	p += strspn(p, " \t\r");
	if (n > num - 2) /* room for inih's own bytes too */
		fail(l, EINVAL, "the line is too long");
	else if (strlen(l->line) != (size_t)n)
		fail(l, EINVAL, "the line contains a NUL byte");
	else if (*p == '[')
		check_heading(l, p);
	if (l->rc)
		return NULL;
	memcpy(str, l->line, (size_t)n + 1);
	return str;
}

static const struct conf_key *find_key(const struct load *l, const char *section, const char *key)
{
	for (const struct conf_key *k = l->table; k->section; k++) {
		if (strcmp(k->section, section) == 0 && strcmp(k->key, key) == 0)
			return k;
	}
	return NULL;
}

/* inih's handler: one key. Returns 1 when it was good. */
static int on_key(void *user, const char *section, const char *key, const char *text)
{
	struct load *l = user;
	const struct conf_key *k = find_key(l, section, key);
	char what[ERR_TEXT_MAX];
	struct err inner;
	struct value *v;

	if (l->rc)
		return 0;
	if (!k) {
		snprintf(what, sizeof(what), *section ? "unknown key '%.80s' in section [%.80s]"
						      : "key '%.80s' before any section%.0s",
			 key, section);
		fail(l, EINVAL, what);
		return 0;
	}
	v = &l->values[k - l->table];
	if (v->set) {
		snprintf(what, sizeof(what), "key '%s' is already set above", key);
		fail(l, EINVAL, what);
	} else if (parse_value(k, text, v, &inner)) {
		snprintf(what, sizeof(what), "%s: %.600s", key, inner.text);
		fail(l, inner.code, what);
	}
	v->set = true;
	v->line = l->lineno;
	return l->rc == 0;
}

/* Runs inih over the open file. */
static void parse_file(struct load *l)
{
	int line;

	ini_allow_multiline = false;
	ini_use_stack = false;
	ini_allow_realloc = false;
	ini_initial_alloc = LINE_BYTES;
	ini_max_line = LINE_BYTES;
	ini_stop_on_first_error = true;
	line = ini_parse_stream(read_line, l, on_key, l);
	if (line == -2) {
		fail(l, ENOMEM, "out of memory");
	} else if (line > 0 && !l->rc) {
		l->lineno = (unsigned)line;
		fail(l, EINVAL, "not a section, a key = value, or a comment");
	}
}

static void finish(struct load *l, size_t nkeys, void *target, unsigned *lines)
{
	for (size_t i = 0; i < nkeys; i++) {
		if (!l->values[i].set)
			continue;
		if (l->rc) {
			free(l->values[i].text);
			continue;
		}
		store(&l->table[i], &l->values[i], target);
		if (lines)
			lines[i] = l->values[i].line;
	}
	free(l->values);
	free(l->line);
}

int conf_load(const char *path, const struct conf_key *table, void *target, struct err *e)
{
	return conf_load_lines(path, table, target, NULL, e);
}

int conf_load_lines(const char *path, const struct conf_key *table, void *target, unsigned *lines,
		    struct err *e)
{
	struct load l = { .path = path, .table = table, .e = e };
	size_t nkeys = 0;

	while (table[nkeys].section)
		nkeys++;
	l.file = fopen(path, "re");
	if (!l.file)
		return err_set(e, errno, "cannot read %s: %s", path, strerror(errno));
	l.values = calloc(nkeys + 1, sizeof(*l.values));
	if (!l.values) {
		fclose(l.file);
		return err_set(e, ENOMEM, "out of memory while reading %s", path);
	}

	parse_file(&l);
	fclose(l.file);
	finish(&l, nkeys, target, lines);
	return l.rc;
}
