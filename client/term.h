/* term.h - how wide the terminal is, how wide a text is, and whether colour is welcome
 *
 * Widths are counted without a locale (setlocale costs start-up time and the
 * C locale knows no wide characters): a small table of wide and of combining
 * characters. Bytes that are not UTF-8 count as one column each.
 */
#ifndef NA_CLIENT_TERM_H
#define NA_CLIENT_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

/* The terminal's width on 'fd', else $COLUMNS, else 80; never below 20. */
unsigned term_columns(int fd);
/* Lines of the terminal on 'fd', else 24. */
unsigned term_lines(int fd);
/* A terminal that is not dumb, and NO_COLOR is unset or empty. */
bool term_colour(int fd);

/* The first character of p[0..n), n > 0: its bytes and its columns (0, 1 or 2). */
size_t term_char(const char *p, size_t n, unsigned *ret_columns);
unsigned term_width(const char *s);
/* Bytes of s that fit into so many columns; *ret_used: columns they take. */
size_t term_fit(const char *s, unsigned columns, unsigned *ret_used);
/* Appends s cut to 'columns' ('..' marks a cut); returns the columns used. */
unsigned term_add_cut(struct buf *b, const char *s, unsigned columns);
void term_add_spaces(struct buf *b, unsigned n);
/* Appends s[0..n) with control characters (C0, DEL, C1) shown as '?', so that
 * a name from elsewhere cannot drive the terminal. A tab becomes a space. */
void term_add_clean(struct buf *b, const char *s, size_t n);
/* Appends s as lines of at most 'columns', broken at blanks, each ended by a
 * newline; the first begins with 'first', the others with 'rest'. A newline
 * in s breaks too. */
void term_add_wrapped(struct buf *b, const char *s, const char *first, const char *rest,
		      unsigned columns);

#endif
