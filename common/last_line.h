/* last_line.h - the last words of a program that ended without an exception */
#ifndef NA_COMMON_LAST_LINE_H
#define NA_COMMON_LAST_LINE_H

#include <stddef.h>

#define LAST_LINE_SIZE 201 /* with NUL */

/* The last line of an output's end that has words, without colours and prefixes; "" when there is none. */
void last_line(const char *p, size_t n, char out[LAST_LINE_SIZE]);

#endif
