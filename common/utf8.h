/* utf8.h - UTF-8, one sequence at a time */
#ifndef NA_COMMON_UTF8_H
#define NA_COMMON_UTF8_H

#include <stddef.h>

#define UTF8_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD, stands for a byte that is not UTF-8 */

/* Length of the valid sequence that begins at p (1-4), 0 when there is none.
 * Overlong forms, surrogates and values above U+10FFFF are not valid. */
size_t utf8_seq(const char *p, size_t len);
/* The largest n <= len such that p[0..n) does not end inside a sequence. */
size_t utf8_cut(const char *p, size_t len);
/* Puts '?' for every byte that is not part of a valid sequence: what snprintf
 * cut in the middle of a character must not grow on the wire. Returns s. */
char *utf8_scrub(char *s);

#endif
