/* opts.c - options of a command from a table, see opts.h */
#include "client/opts.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/term.h"

#define RANK_MAX 16777215u
#define NAMES_MAX 64
#define TOO_LONG_MS (UINT64_MAX / 4)

const struct opt opts_global[] = {
	{ OPT_DIR, 0, "dir", "DIR", "the cluster or node under DIR (default: $NODEAGENT_DIR, or the one of this host)" },
	{ OPT_SOCKET, 0, "socket", "PATH", "the agent's socket itself" },
	{ OPT_JSON, 0, "json", NULL, "one JSON document in place of text" },
	{ OPT_HELP, 'h', "help", NULL, "this text" },
	{ 0 },
};

static const struct opt *by_name(const struct opt *t, const char *name, size_t len)
{
	for (; t && t->id; t++)
		if (t->name && strlen(t->name) == len && memcmp(t->name, name, len) == 0)
			return t;
	return NULL;
}

static const struct opt *by_letter(const struct opt *t, char c)
{
	for (; t && t->id; t++)
		if (t->letter == c)
			return t;
	return NULL;
}

static size_t collect_names(const struct opt *t, const char **names, size_t n)
{
	for (; t && t->id; t++)
		if (t->name && t->help && n < NAMES_MAX - 1)
			names[n++] = t->name;
	names[n] = NULL;
	return n;
}

static int unknown_name(const struct opts *o, const char *given, size_t len, struct err *e)
{
	const char *names[NAMES_MAX], *close;
	char word[64];

	collect_names(opts_global, names, collect_names(o->table, names, 0));
	if (len >= sizeof(word))
		len = sizeof(word) - 1;
	memcpy(word, given, len);
	word[len] = '\0';
	close = opts_nearest(word, names);
	if (close)
		return err_set(e, EINVAL, "there is no option --%s; did you mean --%s?", word, close);
	return err_set(e, EINVAL, "there is no option --%s; see %s --help", word, o->what);
}

/* The value of an option: the text behind it, or the next argument. */
static int take_value(struct opts *o, const char *attached, const struct opt *found, const char **ret_value, struct err *e)
{
	if (attached) {
		*ret_value = attached;
		return found->id;
	}
	if (o->next >= o->argc)
		return err_set(e, EINVAL, "%s needs a value: %s %s", o->shown, o->shown, found->arg);
	*ret_value = o->argv[o->next++];
	return found->id;
}

static int long_option(struct opts *o, const char *text, const char **ret_value, struct err *e)
{
	size_t len = strcspn(text, "=");
	const char *attached = text[len] ? text + len + 1 : NULL;
	const struct opt *found = by_name(o->table, text, len);

	if (!found)
		found = by_name(opts_global, text, len);
	if (!found)
		return unknown_name(o, text, len, e);
	if (!found->arg && attached)
		return err_set(e, EINVAL, "--%s takes no value", found->name);
	if (!found->arg)
		return found->id;
	snprintf(o->shown, sizeof(o->shown), "--%s", found->name);
	return take_value(o, attached, found, ret_value, e);
}

static int letter_option(struct opts *o, const char **ret_value, struct err *e)
{
	char shown[3] = { '-', *o->letters++, 0 };
	const struct opt *found = by_letter(o->table, shown[1]);
	const char *rest = *o->letters ? o->letters : NULL;

	if (!found)
		found = by_letter(opts_global, shown[1]);
	if (!rest || !found || found->arg)
		o->letters = NULL;
	if (!found && isprint((unsigned char)shown[1]))
		return err_set(e, EINVAL, "there is no option %s; see %s --help", shown, o->what);
	if (!found)
		return err_set(e, EINVAL, "there is no such option; see %s --help", o->what);
	if (!found->arg)
		return found->id;
	if (rest && *rest == '=')
		rest++;
	memcpy(o->shown, shown, sizeof(shown));
	return take_value(o, rest, found, ret_value, e);
}

int opts_next(struct opts *o, const char **ret_value, struct err *e)
{
	const char *arg;

	*ret_value = NULL;
	if (o->letters)
		return letter_option(o, ret_value, e);
	if (o->next >= o->argc)
		return OPT_END;

	arg = o->argv[o->next++];
	if (!o->only_operands && strcmp(arg, "--") == 0) {
		o->only_operands = true;
		return opts_next(o, ret_value, e);
	}
	if (o->only_operands || arg[0] != '-' || !arg[1]) {
		*ret_value = arg;
		return OPT_OPERAND;
	}
	if (arg[1] == '-')
		return long_option(o, arg + 2, ret_value, e);
	o->letters = arg + 1;
	return letter_option(o, ret_value, e);
}

void opts_help(struct buf *b, const struct opt *t, unsigned columns)
{
	for (; t && t->id; t++) {
		struct buf left;
		unsigned w;

		if (!t->help)
			continue;
		buf_init(&left);
		if (t->letter)
			buf_addf(&left, "  -%c%s", t->letter, t->name ? ", " : "");
		else
			buf_adds(&left, "      ");
		if (t->name)
			buf_addf(&left, "--%s", t->name);
		if (t->arg)
			buf_addf(&left, " %s", t->arg);
		w = term_width(buf_str(&left));
		if (w < 26)
			term_add_spaces(&left, 26 - w);
		else
			buf_adds(&left, "  ");
		term_add_wrapped(b, t->help, buf_str(&left), "                          ", columns);
		buf_finish(&left);
	}
}

/* Edit distance where swapping two neighbours counts once; words over 31 bytes are far away. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned d[32][32];

	if (n > 31 || m > 31)
		return 99;
	for (size_t i = 0; i <= n; i++)
		for (size_t j = 0; j <= m; j++) {
			unsigned best;

			if (!i || !j) {
				d[i][j] = (unsigned)(i + j);
				continue;
			}
			best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	return d[n][m];
}

const char *opts_nearest(const char *word, const char *const *list)
{
	const char *found = NULL;
	unsigned best = strlen(word) / 3 + 2; /* "nodse" is near to "nodes", "x" to nothing */

	if (best > 4)
		best = 4;
	for (; *list; list++) {
		unsigned d = distance(word, *list);

		if (d >= strlen(*list)) /* nothing in common */
			continue;
		if (strlen(word) > 2 && strncmp(*list, word, strlen(word)) == 0)
			d = 1;
		if (d < best || (d == best && found && strlen(*list) == strlen(word))) {
			best = d;
			found = *list;
		}
	}
	return found;
}

/* One "90s" of a duration; 0 when it is none. */
static size_t duration_part(const char *p, uint64_t *ret_ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = { { "ms", 1 },	 { "s", 1000 },	    { "m", 60000 },
		      { "h", 3600000 }, { "d", 86400000 } };
	uint64_t v = 0;
	size_t n = 0, word = 0;

	while (n < 12 && isdigit((unsigned char)p[n]))
		v = v * 10 + (uint64_t)(p[n++] - '0');
	while (islower((unsigned char)p[n + word]))
		word++;
	for (size_t i = 0; n && i < sizeof(units) / sizeof(units[0]); i++)
		if (strlen(units[i].unit) == word && memcmp(units[i].unit, p + n, word) == 0) {
			*ret_ms = v > TOO_LONG_MS / units[i].ms ? TOO_LONG_MS : v * units[i].ms;
			return n + word;
		}
	return 0;
}

/* As Slurm writes it: MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS. A number alone is
 * not taken: there it means minutes, elsewhere seconds. */
static bool clock_form(const char *text, uint64_t *ret_ms)
{
	unsigned long v[4] = { 0 };
	size_t n = 0;
	bool days = false;
	char *end;

	for (const char *p = text; n < 4; p = end + 1) {
		if (!isdigit((unsigned char)*p))
			return false;
		v[n++] = strtoul(p, &end, 10);
		if (end - p > 5 || (*end == '-' && n != 1) || (*end && *end != ':' && *end != '-'))
			return false;
		days = days || *end == '-';
		if (!*end)
			break;
	}
	if (*end || n < 2 || (!days && n > 3))
		return false;
	if (days)
		*ret_ms = (((v[0] * 24 + v[1]) * 60 + v[2]) * 60 + v[3]) * UINT64_C(1000);
	else if (n == 3)
		*ret_ms = ((v[0] * 60 + v[1]) * 60 + v[2]) * UINT64_C(1000);
	else
		*ret_ms = (v[0] * 60 + v[1]) * UINT64_C(1000);
	return true;
}

int opts_duration(const char *what, const char *text, uint64_t max_ms, uint64_t *ret_ms,
		  struct err *e)
{
	uint64_t sum = 0, part;
	const char *p = text;
	size_t n = 1;

	if (clock_form(text, &sum) && sum <= max_ms) {
		*ret_ms = sum;
		return 0;
	}
	while (*p && n && sum <= max_ms) {
		n = duration_part(p, &part);
		p += n;
		if (n)
			sum += part;
	}
	if (sum > max_ms)
		return err_set(e, EINVAL, "%s %s is too long: at most %llud", what, text,
			       (unsigned long long)(max_ms / 86400000));
	if (p == text || *p)
		return err_set(e, EINVAL, "%s \"%s\" is no length of time: write 30s, 5m, 1h30m, 2d or 1:30:00", what,
			       text);
	*ret_ms = sum;
	return 0;
}

int opts_uint(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *ret,
	      struct err *e)
{
	uint64_t v = 0;
	const char *p = text;

	for (; isdigit((unsigned char)*p); p++) {
		if (v > (UINT64_MAX - 9) / 10)
			break;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	if (p == text || *p || v < min || v > max) {
		if (max == UINT64_MAX)
			return err_set(e, EINVAL, "%s \"%s\" is not a number", what, text);
		return err_set(e, EINVAL, "%s \"%s\" is not a number from %llu to %llu", what, text,
			       (unsigned long long)min, (unsigned long long)max);
	}
	*ret = v;
	return 0;
}

/* "7" or "0-3" at p; bytes taken, 0 when it is neither. */
static size_t one_span(const char *p, struct span *ret)
{
	char *end;
	unsigned long a, b;

	if (!isdigit((unsigned char)*p))
		return 0;
	a = b = strtoul(p, &end, 10);
	if (*end == '-') {
		if (!isdigit((unsigned char)end[1]))
			return 0;
		b = strtoul(end + 1, &end, 10);
	}
	if ((*end && *end != ',') || a > b || b > RANK_MAX)
		return 0;
	ret->first = (uint32_t)a;
	ret->last = (uint32_t)b;
	return (size_t)(end - p);
}

int opts_spans(const char *what, const char *text, struct span **list, size_t *n, struct err *e)
{
	const char *p = text;

	do {
		struct span one, *more;
		size_t len = one_span(p, &one);

		if (!len || (p[len] == ',' && !p[len + 1]))
			return err_set(e, EINVAL, "%s \"%s\" is no list of ranks: write 3, 0-3 or 0-3,7", what,
				       text);
		more = realloc(*list, (*n + 1) * sizeof(one));
		if (!more)
			return err_set(e, ENOMEM, "out of memory");
		more[(*n)++] = one;
		*list = more;
		p += len;
	} while (*p++ == ',');
	return 0;
}
