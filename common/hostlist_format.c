/* hostlist_format.c - writes compact lists of node names
 *
 * Names that differ only in their last number form a group. A group is
 * written with brackets unless plain names are shorter. Groups stand in the
 * natural order of their first names, so "a1-ib" may come after "a2".
 */
#include "common/hostlist.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

#define DIGITS_MAX 18 /* longer numbers are not folded: hostlist_parse refuses them */

/* A name cut at its last number; ndigits 0 when it has none to fold. */
struct split {
	const char *name;
	size_t prefix, ndigits;
	size_t size; /* of the group, in its first name */
};

static size_t digit_run(const char *p)
{
	size_t n = 0;

	while (isdigit((unsigned char)p[n]))
		n++;
	return n;
}

/* Compares the runs at a and b as numbers. */
static int number_cmp(const char *a, size_t na, const char *b, size_t nb)
{
	while (na > 0 && *a == '0') {
		a++;
		na--;
	}
	while (nb > 0 && *b == '0') {
		b++;
		nb--;
	}
	if (na != nb)
		return na < nb ? -1 : 1;
	return memcmp(a, b, na);
}

int node_name_cmp(const char *a, const char *b)
{
	const char *p = a, *q = b;

	while (*p && *q) {
		size_t np = digit_run(p), nq = digit_run(q);
		int c;

		if (np && nq) {
			c = number_cmp(p, np, q, nq);
			p += np;
			q += nq;
		} else {
			c = (unsigned char)*p++ - (unsigned char)*q++;
		}
		if (c)
			return c;
	}
	if (*p || *q)
		return *p ? 1 : -1;
	return strcmp(a, b);
}

static struct split split_name(const char *name)
{
	struct split s = { .name = name };
	size_t end = strlen(name);

	while (end > 0 && !isdigit((unsigned char)name[end - 1]))
		end--;
	s.prefix = end;
	while (s.prefix > 0 && isdigit((unsigned char)name[s.prefix - 1]))
		s.prefix--;
	s.ndigits = end - s.prefix;
	if (s.ndigits > DIGITS_MAX)
		s.ndigits = 0;
	return s;
}

static const char *suffix(const struct split *s)
{
	return s->name + s->prefix + s->ndigits;
}

/* 0 when both belong to one group. */
static int group_cmp(const struct split *a, const struct split *b)
{
	int c;

	if (!a->ndigits || !b->ndigits)
		return strcmp(a->name, b->name);
	if (a->prefix != b->prefix)
		return a->prefix < b->prefix ? -1 : 1;
	c = memcmp(a->name, b->name, a->prefix);
	return c ? c : strcmp(suffix(a), suffix(b));
}

/* Names without a number first, then by group; within a group by width and
 * value, which puts all names of a range side by side. */
static int fold_cmp(const void *pa, const void *pb)
{
	const struct split *a = pa, *b = pb;
	int c;

	if (!a->ndigits != !b->ndigits)
		return a->ndigits ? 1 : -1;
	c = group_cmp(a, b);
	if (c || !a->ndigits)
		return c;
	if (a->ndigits != b->ndigits)
		return a->ndigits < b->ndigits ? -1 : 1;
	return memcmp(a->name + a->prefix, b->name + b->prefix, a->ndigits);
}

static int natural_cmp(const void *pa, const void *pb)
{
	const struct split *const *a = pa, *const *b = pb;

	return node_name_cmp((*a)->name, (*b)->name);
}

static bool padded(const struct split *s)
{
	return s->ndigits > 1 && s->name[s->prefix] == '0';
}

static uint64_t value(const struct split *s)
{
	return strtoull(s->name + s->prefix, NULL, 10);
}

/* True when a range from 'first' that has come to 'last' may go on to 'next'. */
static bool continues(const struct split *first, const struct split *last, const struct split *next)
{
	if (value(next) != value(last) + 1)
		return false;
	if (padded(first))
		return next->ndigits == first->ndigits;
	return !padded(next);
}

static void add_digits(struct buf *b, const struct split *s)
{
	buf_add(b, s->name + s->prefix, s->ndigits);
}

static void add_brackets(struct buf *b, const struct split *s, size_t n)
{
	buf_add(b, s->name, s->prefix);
	buf_addc(b, '[');
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && continues(&s[i], &s[end - 1], &s[end]); end++)
			;
		if (i > 0)
			buf_addc(b, ',');
		add_digits(b, &s[i]);
		if (end - i > 1) {
			buf_addc(b, '-');
			add_digits(b, &s[end - 1]);
		}
	}
	buf_addc(b, ']');
	buf_adds(b, suffix(s));
}

static void add_group(struct buf *b, const struct split *s, size_t n)
{
	size_t from = b->len, plain = n - 1;

	for (size_t i = 0; i < n; i++)
		plain += strlen(s[i].name);
	if (n > 1)
		add_brackets(b, s, n);
	if (n > 1 && b->len - from <= plain)
		return;
	if (!b->failed)
		b->len = from;
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buf_addc(b, ',');
		buf_adds(b, s[i].name);
	}
}

/* Sorts, drops repeats, and marks the groups: size is set in the first name
 * of each. Returns how many groups; their first names go to 'groups'. */
static size_t find_groups(struct split *s, size_t count, struct split **groups)
{
	size_t n = 0, ngroups = 0;

	qsort(s, count, sizeof(*s), fold_cmp);
	for (size_t i = 0; i < count; i++) {
		if (n > 0 && fold_cmp(&s[n - 1], &s[i]) == 0)
			continue;
		s[n] = s[i];
		if (n == 0 || group_cmp(groups[ngroups - 1], &s[n]) != 0)
			groups[ngroups++] = &s[n];
		groups[ngroups - 1]->size++;
		n++;
	}
	qsort(groups, ngroups, sizeof(struct split *), natural_cmp);
	return ngroups;
}

char *hostlist_format(const char *const *names, size_t count)
{
	struct split *s = calloc(count + 1, sizeof(*s));
	struct split **groups = calloc(count + 1, sizeof(struct split *));
	struct buf b;
	size_t ngroups = 0;
	char *text = NULL;

	buf_init(&b);
	if (s && groups) {
		for (size_t i = 0; i < count; i++)
			s[i] = split_name(names[i]);
		ngroups = find_groups(s, count, groups);
		for (size_t i = 0; i < ngroups; i++) {
			if (i > 0)
				buf_addc(&b, ',');
			add_group(&b, groups[i], groups[i]->size);
		}
		text = buf_steal(&b, NULL);
	}
	free(s);
	free(groups);
	buf_finish(&b);
	return text;
}
