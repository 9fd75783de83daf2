/* progress.c - see progress.h */
#include "common/progress.h"

#include <ctype.h>
#include <string.h>

#define BAR_MAX 1024 /* bytes of its drawing */
#define NUMBER_MAX 1000000000000ull /* steps: more is no step */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits from p up to end; where they stop in *p. False: none, or too many. */
static bool take_number(const char **p, const char *end, uint64_t *ret)
{
	uint64_t v = 0;

	if (*p == end || !is_digit(**p))
		return false;
	for (; *p < end && is_digit(**p); (*p)++) {
		v = v * 10 + (uint64_t)(**p - '0');
		if (v > NUMBER_MAX)
			return false;
	}
	*ret = v;
	return true;
}

static bool take_char(const char **p, const char *end, char c)
{
	if (*p == end || **p != c)
		return false;
	(*p)++;
	return true;
}

/* [D day[s], ][H:]MM:SS, and nothing behind it. */
int64_t progress_seconds(const char *p, size_t n)
{
	const char *end = p + n, *q = p;
	uint64_t v, sum = 0, days = 0;
	unsigned parts = 0;

	if (take_number(&q, end, &v) && take_char(&q, end, ' ')) {
		static const char word[] = "day";

		if ((size_t)(end - q) < 3 || memcmp(q, word, 3) != 0)
			return -1;
		q += 3;
		take_char(&q, end, 's');
		if (!take_char(&q, end, ',') || !take_char(&q, end, ' '))
			return -1;
		days = v;
		p = q;
	}
	q = p;
	do {
		if (!take_number(&q, end, &v) || v > 1000000 || ++parts > 3)
			return -1;
		sum = sum * 60 + v;
	} while (take_char(&q, end, ':'));
	if (take_char(&q, end, '.')) /* microseconds of a timedelta */
		while (q < end && is_digit(*q))
			q++;
	if (q != end || parts < 2 || days > 100000)
		return -1;
	return (int64_t)(days * 86400 + sum);
}

/* ---- a bar ---------------------------------------------------------------- */

/* p is behind the bar's second '|': " 340/1200 [1:02:11<2:37:18, 10.98s/it]". */
static bool take_bar(const char *p, const char *end, struct progress *ret)
{
	struct progress new = { .bar = true };
	const char *from;
	int64_t left;

	while (p < end && *p == ' ')
		p++;
	if (!take_number(&p, end, &new.step) || !take_char(&p, end, '/') || !take_number(&p, end, &new.steps))
		return false;
	if (!take_char(&p, end, ' ') || !take_char(&p, end, '[') || new.steps == 0 || new.step > new.steps)
		return false;
	while (p < end && (is_digit(*p) || *p == ':'))
		p++;
	if (!take_char(&p, end, '<'))
		return false;
	for (from = p; p < end && *p != ',' && *p != ']';)
		p++;
	if (p == end)
		return false;
	left = progress_seconds(from, (size_t)(p - from));
	new.has_left = left >= 0;
	new.left_s = left >= 0 ? (uint64_t)left : 0;
	*ret = new;
	return true;
}

/* The '|' that ends a bar comes after "NN%|" within the same line. */
static bool has_percent(const char *begin, const char *bar_end)
{
	if ((size_t)(bar_end - begin) > BAR_MAX)
		begin = bar_end - BAR_MAX;
	for (const char *q = bar_end; q > begin && q[-1] != '\n' && q[-1] != '\r'; q--)
		if (q - begin >= 3 && q[-1] == '|' && q[-2] == '%' && is_digit(q[-3]))
			return true;
	return false;
}

bool progress_bar(const char *p, size_t n, struct progress *ret)
{
	const char *end = p + n;

	for (const char *q = end; q > p; q--)
		if (q[-1] == '|' && has_percent(p, q - 1) && take_bar(q, end, ret))
			return true;
	return false;
}

/* ---- numbers in text ------------------------------------------------------- */

/* A JSON or Python number, or nan; its length, 0: none. */
static size_t number_length(const char *p, const char *end)
{
	const char *q = p;
	bool digit = false;

	if (end - p >= 3 && (memcmp(p, "nan", 3) == 0 || memcmp(p, "NaN", 3) == 0 || memcmp(p, "inf", 3) == 0))
		return 3;
	for (; q < end && (is_digit(*q) || *q == '-' || *q == '+' || *q == '.' || *q == 'e' || *q == 'E'); q++)
		digit = digit || is_digit(*q);
	return digit && q < end ? (size_t)(q - p) : 0;
}

static bool copy_number(const char *p, const char *end, char out[24])
{
	size_t n = number_length(p, end);

	if (n == 0 || n >= 24)
		return false;
	memcpy(out, p, n);
	out[n] = '\0';
	return true;
}

bool progress_loss(const char *p, size_t n, char out[24])
{
	static const char word[] = "{'loss': ";
	size_t len = sizeof word - 1;

	for (size_t i = n; i >= len; i--) {
		const char *q = p + i - len;

		if (memcmp(q, word, len) != 0)
			continue;
		q += len;
		q += q < p + n && *q == '\''; /* newer ones print it as text */
		if (copy_number(q, p + n, out))
			return true;
	}
	return false;
}

/* ---- trainer_log.jsonl ------------------------------------------------------- */

/* What follows "key": in this line; NULL: it is not there. */
static const char *value_of(const char *p, const char *end, const char *key)
{
	size_t n = strlen(key);

	for (; (size_t)(end - p) > n + 3; p++)
		if (p[0] == '"' && memcmp(p + 1, key, n) == 0 && p[n + 1] == '"' && p[n + 2] == ':') {
			p += n + 3;
			return p + (p < end && *p == ' ');
		}
	return NULL;
}

static bool take_line(const char *p, const char *end, struct progress *ret)
{
	struct progress new = { .bar = false };
	const char *v = value_of(p, end, "current_steps"), *close;
	int64_t left;

	if (*p != '{' || end[-1] != '}' || !v || !take_number(&v, end, &new.step))
		return false;
	v = value_of(p, end, "total_steps");
	if (v && (!take_number(&v, end, &new.steps) || new.steps < new.step))
		new.steps = 0;
	v = value_of(p, end, "loss");
	if (v)
		copy_number(v, end, new.loss);
	v = value_of(p, end, "remaining_time");
	if (v && *v == '"' && (close = memchr(v + 1, '"', (size_t)(end - v - 1))) != NULL) {
		left = progress_seconds(v + 1, (size_t)(close - v - 1));
		new.has_left = left >= 0;
		new.left_s = left >= 0 ? (uint64_t)left : 0;
	}
	*ret = new;
	return true;
}

/* Evaluations have lines of their own, without a loss: that of the last step stays. */
bool progress_trainer_log(const char *p, size_t n, struct progress *ret)
{
	struct progress found = { .step = 0 }, one;
	bool any = false;

	for (const char *end = p + n; end > p;) {
		const char *begin;

		while (end > p && end[-1] != '\n')
			end--; /* what is not ended yet is being written */
		while (end > p && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' '))
			end--;
		for (begin = end; begin > p && begin[-1] != '\n';)
			begin--;
		if (end > begin && take_line(begin, end, &one)) {
			if (!any)
				found = one;
			else
				memcpy(found.loss, one.loss, sizeof found.loss);
			any = true;
			if (found.loss[0])
				break;
		}
		end = begin;
	}
	if (any)
		*ret = found;
	return any;
}
