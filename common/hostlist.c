/* hostlist.c - reads compact lists of node names
 *
 * Two passes: the first checks the grammar and counts, so a list that stands
 * for too many names is refused before any memory is taken; the second writes
 * the names. Names that occur twice are found by sorting, not hashing: no
 * list can make it slow. The writer is in hostlist_format.c.
 */
#include "common/hostlist.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS_MAX 18 /* of a number in brackets: fits a uint64_t */
#define SHOWN 60 /* columns of the list in an error text */

struct parser {
	const char *text, *p;
	struct err *e;
};

/* One number or range of a group. */
struct range {
	uint64_t low, high;
	unsigned width; /* zero-padded to this; 0: as it is */
	size_t longest; /* digits of the highest */
};

/* The three lines of an error: what, the list around 'at', a caret. */
static int flaw(struct parser *s, const char *at, int code, const char *what)
{
	size_t len = strlen(s->text), pos = (size_t)(at - s->text);
	size_t from = 0, n, head;
	char shown[SHOWN + 1];

	if (len > SHOWN && pos > SHOWN / 2)
		from = len - pos < SHOWN / 2 ? len - SHOWN : pos - SHOWN / 2;
	n = len - from < SHOWN ? len - from : SHOWN;
	for (size_t i = 0; i < n; i++) {
		char c = s->text[from + i];

		shown[i] = '?';
		if (c >= ' ' && c <= '~')
			shown[i] = c;
	}
	shown[n] = '\0';
	if (from > 0)
		memcpy(shown, "...", 3);
	if (from + n < len)
		memcpy(shown + n - 3, "...", 3);
	head = pos - from;
	return err_set(s->e, code, "%s\n%s\n%*s^", what, shown, (int)head, "");
}

static bool name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

static bool first_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool node_name_valid(const char *name)
{
	size_t n;

	if (!name || !first_byte(name[0]))
		return false;
	for (n = 1; n <= NODE_NAME_MAX && name[n]; n++) {
		if (!name_byte(name[n]))
			return false;
	}
	return n <= NODE_NAME_MAX;
}

/* Digits at p; -EINVAL with the error set when there are none or too many. */
static int read_number(struct parser *s, uint64_t *ret, size_t *ret_len)
{
	const char *from = s->p;
	uint64_t v = 0;

	while (isdigit((unsigned char)*s->p)) {
		if (s->p - from == DIGITS_MAX)
			return flaw(s, from, EINVAL, "the number is too long");
		v = v * 10 + (uint64_t)(*s->p++ - '0');
	}
	if (s->p == from)
		return flaw(s, from, EINVAL, *from ? "a number must stand here" : "a ] is missing");
	*ret = v;
	*ret_len = (size_t)(s->p - from);
	return 0;
}

static bool padded(const char *digits, size_t len)
{
	return len > 1 && digits[0] == '0';
}

/* low or low-high */
static int read_range(struct parser *s, struct range *ret)
{
	const char *low = s->p, *high;
	size_t low_len = 0, high_len = 0;
	int rc;

	rc = read_number(s, &ret->low, &low_len);
	if (rc)
		return rc;
	ret->high = ret->low;
	ret->longest = low_len;
	ret->width = padded(low, low_len) ? (unsigned)low_len : 0;
	if (*s->p != '-')
		return 0;

	high = ++s->p;
	rc = read_number(s, &ret->high, &high_len);
	if (rc)
		return rc;
	if (low_len != high_len && (padded(low, low_len) || padded(high, high_len)))
		return flaw(s, high, EINVAL, "both ends of a zero-padded range need the same width");
	if (ret->high < ret->low)
		return flaw(s, high, EINVAL, "the range runs backwards");
	ret->longest = high_len;
	return 0;
}

/* Counts no further than one past the limit, so nothing can overflow. */
static uint64_t cap(uint64_t n)
{
	return n > HOSTLIST_MAX ? HOSTLIST_MAX + 1 : n;
}

/* At '['; leaves p after ']'. How many numbers, and the digits of the longest. */
static int count_group(struct parser *s, uint64_t *ret_count, size_t *ret_longest)
{
	uint64_t count = 0;
	size_t longest = 0;

	do {
		struct range r = { .low = 0 };
		int rc;

		s->p++;
		rc = read_range(s, &r);
		if (rc)
			return rc;
		count = cap(count + cap(r.high - r.low) + 1);
		if (r.longest > longest)
			longest = r.longest;
	} while (*s->p == ',');
	if (*s->p != ']')
		return flaw(s, s->p, EINVAL, *s->p ? "a comma, - or ] must stand here" : "a ] is missing");
	s->p++;
	*ret_count = count;
	*ret_longest = longest;
	return 0;
}

static const char *wrong_byte(char c)
{
	if (isupper((unsigned char)c))
		return "node names have lower-case letters only";
	if (isspace((unsigned char)c))
		return "no white space in a host list; separate names by commas";
	if (c == ']')
		return "this ] has no [";
	return "node names have only lower-case letters, digits, '.', '_' and '-'";
}

/* One item, up to a comma or the end. */
static int count_item(struct parser *s, uint64_t *ret_count)
{
	const char *from = s->p;
	uint64_t count = 1;
	size_t len = 0;

	if (*s->p == ',' || !*s->p)
		return flaw(s, s->p, EINVAL, "a node name is missing");
	if (*s->p != '[' && name_byte(*s->p) && !first_byte(*s->p))
		return flaw(s, s->p, EINVAL, "a node name begins with a letter or a digit");
	while (*s->p && *s->p != ',') {
		uint64_t times = 1;
		size_t longest = 1;
		int rc = 0;

		if (*s->p == '[')
			rc = count_group(s, &times, &longest);
		else if (!name_byte(*s->p))
			rc = flaw(s, s->p, EINVAL, wrong_byte(*s->p));
		else
			s->p++;
		if (rc)
			return rc;
		count = cap(count * times); /* both at most HOSTLIST_MAX + 1 */
		len += longest;
		if (len > NODE_NAME_MAX)
			return flaw(s, from, EINVAL, "a node name has at most 64 characters");
	}
	*ret_count = count;
	return 0;
}

static int count_all(struct parser *s, size_t *ret)
{
	uint64_t total = 0, count = 0;

	if (!*s->p)
		return err_set(s->e, EINVAL, "the host list is empty"); /* a caret would point at nothing */
	for (;;) {
		const char *from = s->p;
		int rc = count_item(s, &count);

		if (rc)
			return rc;
		total += count;
		if (total > HOSTLIST_MAX)
			return flaw(s, from, E2BIG, "the list stands for more than 65536 nodes");
		if (!*s->p)
			break;
		s->p++;
	}
	*ret = (size_t)total;
	return 0;
}

/* A name being written. */
struct name {
	char text[NODE_NAME_MAX + 1];
	size_t len;
};

static int add_name(struct hostlist *h, const struct name *n)
{
	char *copy = malloc(n->len + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, n->text, n->len);
	copy[n->len] = '\0';
	h->names[h->count++] = copy;
	return 0;
}

/* Writes all names of the item at p that begin with 'prefix'. The first pass
 * has seen the item: no flaw is left. Recursion: once for each group. */
static int expand(const char *p, struct name prefix, struct hostlist *h)
{
	struct parser s = { .text = p };
	const char *close;

	while (*p && *p != ',' && *p != '[')
		prefix.text[prefix.len++] = *p++;
	if (*p != '[')
		return add_name(h, &prefix);

	close = strchr(p, ']');
	for (s.p = p; *s.p != ']';) {
		struct range r = { .low = 0 };

		s.p++;
		read_range(&s, &r);
		for (uint64_t v = r.low; v <= r.high; v++) {
			struct name n = prefix;

			n.len += (size_t)snprintf(n.text + n.len, sizeof(n.text) - n.len, "%0*llu",
						  (int)r.width, (unsigned long long)v);
			if (expand(close + 1, n, h))
				return -ENOMEM;
		}
	}
	return 0;
}

static const char *item_end(const char *p)
{
	bool inside = false;

	for (; *p && (inside || *p != ','); p++) {
		if (*p == '[' || *p == ']')
			inside = *p == '[';
	}
	return p;
}

static int expand_all(const char *text, struct hostlist *h)
{
	for (const char *p = text;; p++) {
		if (expand(p, (struct name){ .len = 0 }, h))
			return -ENOMEM;
		p = item_end(p);
		if (!*p)
			return 0;
	}
}

/* By name, and by place among equals: the place is that of the pointer. */
static int place_cmp(const void *pa, const void *pb)
{
	char *const *a = *(char *const *const *)pa, *const *b = *(char *const *const *)pb;
	int c = strcmp(*a, *b);

	if (c)
		return c;
	return a < b ? -1 : a > b;
}

/* Removes later occurrences of a name. */
static int drop_repeats(struct hostlist *h)
{
	char ***places = malloc(h->count * sizeof(*places));
	size_t n = 0;

	if (!places)
		return -ENOMEM;
	for (size_t i = 0; i < h->count; i++)
		places[i] = &h->names[i];
	qsort(places, h->count, sizeof(*places), place_cmp);
	for (size_t i = 1, kept = 0; i < h->count; i++) {
		if (strcmp(*places[kept], *places[i]) != 0) {
			kept = i;
			continue;
		}
		free(*places[i]);
		*places[i] = NULL;
	}
	free(places);

	for (size_t i = 0; i < h->count; i++) {
		if (h->names[i])
			h->names[n++] = h->names[i];
	}
	h->count = n;
	return 0;
}

int hostlist_parse(const char *text, struct hostlist *ret, struct err *e)
{
	struct parser s = { .text = text, .p = text, .e = e };
	struct hostlist h = { .count = 0 };
	size_t total = 0;
	int rc;

	rc = count_all(&s, &total);
	if (rc)
		return rc;
	assert(total > 0);
	h.names = calloc(total, sizeof(*h.names));
	rc = h.names ? expand_all(text, &h) : -ENOMEM;
	if (!rc)
		rc = drop_repeats(&h);
	if (rc) {
		hostlist_finish(&h);
		return err_set(e, ENOMEM, "out of memory for a host list of %zu names", total);
	}
	*ret = h;
	return 0;
}

void hostlist_finish(struct hostlist *h)
{
	for (size_t i = 0; i < h->count; i++)
		free(h->names[i]);
	free(h->names);
	h->names = NULL;
	h->count = 0;
}

bool hostlist_has(const struct hostlist *h, const char *name)
{
	for (size_t i = 0; i < h->count; i++) {
		if (strcmp(h->names[i], name) == 0)
			return true;
	}
	return false;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void hostlist_sort(struct hostlist *h)
{
	if (h->count > 1)
		qsort(h->names, h->count, sizeof(*h->names), by_name);
}

bool hostlist_has_sorted(const struct hostlist *h, const char *name)
{
	return h->count > 0 && bsearch(&name, h->names, h->count, sizeof(*h->names), by_name) != NULL;
}
