/* utf8.c - which bytes are UTF-8
 *
 * Follows table 3-7 of the Unicode standard: only the second byte of a
 * sequence has a range that depends on the first. Kept apart from json.c so
 * that programs without cJSON can log.
 */
#include "common/utf8.h"

#include <string.h>

#include <stdbool.h>
#include <stdint.h>

#include "common/json.h"

static bool in_range(uint8_t c, uint8_t low, uint8_t high)
{
	return c >= low && c <= high;
}

/* Smallest and largest second byte after the lead byte c >= 0xE0. */
static bool second_ok(uint8_t lead, uint8_t c)
{
	switch (lead) {
	case 0xE0: /* below 0xA0: overlong */
		return in_range(c, 0xA0, 0xBF);
	case 0xED: /* above 0x9F: surrogates */
		return in_range(c, 0x80, 0x9F);
	case 0xF0: /* below 0x90: overlong */
		return in_range(c, 0x90, 0xBF);
	case 0xF4: /* above 0x8F: beyond U+10FFFF */
		return in_range(c, 0x80, 0x8F);
	default:
		return in_range(c, 0x80, 0xBF);
	}
}

/* What the lead byte announces; 0 for a byte that cannot lead. */
static size_t announced(uint8_t c)
{
	if (c < 0x80)
		return 1;
	if (in_range(c, 0xC2, 0xDF))
		return 2;
	if (in_range(c, 0xE0, 0xEF))
		return 3;
	if (in_range(c, 0xF0, 0xF4))
		return 4;
	return 0;
}

size_t utf8_seq(const char *p, size_t len)
{
	const uint8_t *s = (const uint8_t *)p;
	size_t n;

	if (len == 0)
		return 0;
	n = announced(s[0]);
	if (n > len)
		return 0;
	if (n > 1 && !second_ok(s[0], s[1]))
		return 0;
	for (size_t i = 2; i < n; i++) {
		if (!in_range(s[i], 0x80, 0xBF))
			return 0;
	}
	return n;
}

size_t utf8_cut(const char *p, size_t len)
{
	size_t back = 0;

	while (back < 3 && back < len && in_range((uint8_t)p[len - 1 - back], 0x80, 0xBF))
		back++;
	if (back == len)
		return len;
	if (announced((uint8_t)p[len - 1 - back]) > back + 1)
		return len - 1 - back;
	return len;
}

bool utf8_valid(const char *p, size_t len)
{
	while (len > 0) {
		size_t n = utf8_seq(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

char *utf8_scrub(char *s)
{
	size_t len = strlen(s), n;

	for (size_t i = 0; i < len; i += n) {
		n = utf8_seq(s + i, len - i);
		if (n == 0) {
			s[i] = '?';
			n = 1;
		}
	}
	return s;
}
