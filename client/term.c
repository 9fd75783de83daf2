/* term.c - widths of terminals and texts, see term.h */
#include "client/term.h"

#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct range {
	uint32_t first, last;
};

/* East Asian Wide and Fullwidth, coarse: what people put into names and paths. */
static const struct range wide[] = {
	{ 0x1100, 0x115f },   { 0x231a, 0x231b },   { 0x2329, 0x232a },	  { 0x23e9, 0x23ec },
	{ 0x23f0, 0x23f0 },   { 0x23f3, 0x23f3 },   { 0x25fd, 0x25fe },	  { 0x2614, 0x2615 },
	{ 0x2648, 0x2653 },   { 0x267f, 0x267f },   { 0x2693, 0x2693 },	  { 0x26a1, 0x26a1 },
	{ 0x26aa, 0x26ab },   { 0x26bd, 0x26be },   { 0x26c4, 0x26c5 },	  { 0x26ce, 0x26ce },
	{ 0x26d4, 0x26d4 },   { 0x26ea, 0x26ea },   { 0x26f2, 0x26f3 },	  { 0x26f5, 0x26f5 },
	{ 0x26fa, 0x26fa },   { 0x26fd, 0x26fd },   { 0x2705, 0x2705 },	  { 0x270a, 0x270b },
	{ 0x2728, 0x2728 },   { 0x274c, 0x274c },   { 0x274e, 0x274e },	  { 0x2753, 0x2755 },
	{ 0x2757, 0x2757 },   { 0x2795, 0x2797 },   { 0x27b0, 0x27b0 },	  { 0x27bf, 0x27bf },
	{ 0x2b1b, 0x2b1c },   { 0x2b50, 0x2b50 },   { 0x2b55, 0x2b55 },	  { 0x2e80, 0x303e },
	{ 0x3041, 0x3098 },   { 0x309b, 0x4dbf },   { 0x4e00, 0xa4cf },	  { 0xa960, 0xa97f },
	{ 0xac00, 0xd7a3 },   { 0xf900, 0xfaff },   { 0xfe10, 0xfe19 },	  { 0xfe30, 0xfe6f },
	{ 0xff01, 0xff60 },   { 0xffe0, 0xffe6 },   { 0x17000, 0x18aff }, { 0x1b000, 0x1b2ff },
	{ 0x1f004, 0x1f004 }, { 0x1f0cf, 0x1f0cf }, { 0x1f18e, 0x1f18e }, { 0x1f191, 0x1f19a },
	{ 0x1f200, 0x1f320 }, { 0x1f32d, 0x1f335 }, { 0x1f337, 0x1f37c }, { 0x1f37e, 0x1f393 },
	{ 0x1f3a0, 0x1f3ca }, { 0x1f3cf, 0x1f3d3 }, { 0x1f3e0, 0x1f3f0 }, { 0x1f3f4, 0x1f3f4 },
	{ 0x1f3f8, 0x1f43e }, { 0x1f440, 0x1f440 }, { 0x1f442, 0x1f4fc }, { 0x1f4ff, 0x1f53d },
	{ 0x1f54b, 0x1f54e }, { 0x1f550, 0x1f567 }, { 0x1f57a, 0x1f57a }, { 0x1f595, 0x1f596 },
	{ 0x1f5a4, 0x1f5a4 }, { 0x1f5fb, 0x1f64f }, { 0x1f680, 0x1f6c5 }, { 0x1f6cc, 0x1f6cc },
	{ 0x1f6d0, 0x1f6d2 }, { 0x1f6eb, 0x1f6ec }, { 0x1f6f4, 0x1f6fc }, { 0x1f90c, 0x1f9ff },
	{ 0x1fa70, 0x1faff }, { 0x20000, 0x2fffd }, { 0x30000, 0x3fffd },
};

/* Marks that stand on the character before them, and characters without ink. */
static const struct range zero[] = {
	{ 0x300, 0x36f },   { 0x483, 0x489 },	{ 0x591, 0x5bd },   { 0x610, 0x61a },
	{ 0x64b, 0x65f },   { 0xe31, 0xe31 },	{ 0xe34, 0xe3a },   { 0xe47, 0xe4e },
	{ 0x200b, 0x200f }, { 0x202a, 0x202e }, { 0x2060, 0x2069 }, { 0x20d0, 0x20f0 },
	{ 0x302a, 0x302d }, { 0x3099, 0x309a }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f },
	{ 0xfeff, 0xfeff }, { 0xe0100, 0xe01ef },
};

static bool in_ranges(uint32_t c, const struct range *r, size_t n)
{
	for (size_t lo = 0, hi = n; lo < hi;) {
		size_t mid = (lo + hi) / 2;

		if (c > r[mid].last)
			lo = mid + 1;
		else if (c < r[mid].first)
			hi = mid;
		else
			return true;
	}
	return false;
}

static unsigned number_in(const char *s)
{
	char *end;
	unsigned long v;

	if (!s || *s < '0' || *s > '9')
		return 0;
	v = strtoul(s, &end, 10);
	return *end || v > 10000 ? 0 : (unsigned)v;
}

unsigned term_columns(int fd)
{
	struct winsize w;
	unsigned n = 0;

	if (ioctl(fd, TIOCGWINSZ, &w) == 0)
		n = w.ws_col;
	if (!n)
		n = number_in(getenv("COLUMNS"));
	if (!n)
		n = 80;
	return n < 20 ? 20 : n;
}

unsigned term_lines(int fd)
{
	struct winsize w;

	if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_row)
		return w.ws_row;
	return 24;
}

bool term_colour(int fd)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if (no && *no)
		return false;
	return isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

/* Length of a UTF-8 sequence and its code point; 0 when it is none. */
static size_t decode(const unsigned char *p, size_t n, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	uint32_t c;

	if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
		return 0;
	c = p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*ret = c;
	return len;
}

size_t term_char(const char *p, size_t n, unsigned *ret_columns)
{
	const unsigned char *u = (const unsigned char *)p;
	uint32_t c;
	size_t len;

	*ret_columns = 1;
	if (u[0] < 0x80)
		return 1;
	len = decode(u, n, &c);
	if (!len)
		return 1;

	if (in_ranges(c, zero, sizeof(zero) / sizeof(zero[0])))
		*ret_columns = 0;
	else if (in_ranges(c, wide, sizeof(wide) / sizeof(wide[0])))
		*ret_columns = 2;
	return len;
}

size_t term_fit(const char *s, unsigned columns, unsigned *ret_used)
{
	size_t n = strlen(s), at = 0;
	unsigned used = 0, w;

	while (at < n) {
		size_t len = term_char(s + at, n - at, &w);

		if (used + w > columns)
			break;
		used += w;
		at += len;
	}
	*ret_used = used;
	return at;
}

unsigned term_width(const char *s)
{
	unsigned used;

	term_fit(s, UINT32_MAX, &used);
	return used;
}

void term_add_spaces(struct buf *b, unsigned n)
{
	char *p = buf_reserve(b, n);

	if (!p)
		return;
	memset(p, ' ', n);
	b->len += n;
}

unsigned term_add_cut(struct buf *b, const char *s, unsigned columns)
{
	unsigned used;
	size_t n = term_fit(s, columns, &used);

	if (!s[n]) {
		buf_add(b, s, n);
		return used;
	}
	if (columns < 3) { /* half a number would be another one */
		buf_add(b, "..", columns);
		return columns;
	}
	n = term_fit(s, columns - 2, &used);
	buf_add(b, s, n);
	buf_adds(b, "..");
	return used + 2;
}

/* C1 controls (8-bit escapes), and what turns or hides text: directional
 * marks, zero-width characters, the byte order mark. */
static bool tricky(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	unsigned v;

	if (len == 2)
		return p[0] == 0xc2 && p[1] < 0xa0;
	if (len != 3)
		return false;
	v = (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
	return (v >= 0x200b && v <= 0x200f) || (v >= 0x202a && v <= 0x202e) ||
	       (v >= 0x2060 && v <= 0x2069) || v == 0xfeff;
}

void term_add_clean(struct buf *b, const char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		unsigned char c = (unsigned char)s[i];
		unsigned w;
		size_t len;

		if (c < 0x20 || c == 0x7f) {
			buf_addc(b, c == '\t' ? ' ' : '?');
			i++;
			continue;
		}
		len = term_char(s + i, n - i, &w);
		if (utf8_seq(s + i, n - i) == 0 || tricky(s + i, len))
			buf_addc(b, '?');
		else
			buf_add(b, s + i, len);
		i += len;
	}
}

/* Bytes of s for one line of 'room' columns; *ret_skip: blanks to drop after them. */
static size_t break_at(const char *s, unsigned room, size_t *ret_skip)
{
	const char *nl = strchr(s, '\n');
	unsigned used;
	size_t n = term_fit(s, room ? room : 1, &used), cut;

	*ret_skip = 0;
	if (nl && (size_t)(nl - s) <= n) {
		*ret_skip = 1;
		return (size_t)(nl - s);
	}
	if (!s[n])
		return n;
	for (cut = n; cut > 0 && s[cut] != ' '; cut--)
		;
	if (!cut)
		return n ? n : 1; /* one long word: cut it */
	while (s[cut + *ret_skip] == ' ')
		++*ret_skip;
	while (cut > 0 && s[cut - 1] == ' ') {
		cut--;
		++*ret_skip;
	}
	return cut;
}

void term_add_wrapped(struct buf *b, const char *s, const char *first, const char *rest,
		      unsigned columns)
{
	const char *prefix = first;

	do {
		unsigned taken = term_width(prefix);
		size_t skip, n = break_at(s, columns > taken ? columns - taken : 1, &skip);

		if (n)
			buf_adds(b, prefix);
		term_add_clean(b, s, n);
		buf_addc(b, '\n');
		s += n + skip;
		prefix = rest;
	} while (*s);
}
