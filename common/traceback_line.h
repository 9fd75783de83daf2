/* traceback_line.h - lines of output without colours and prefixes; for traceback.c and elastic.c */
#ifndef NA_COMMON_TRACEBACK_LINE_H
#define NA_COMMON_TRACEBACK_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_MAX_KEPT 1024

struct trace_line {
	char text[LINE_MAX_KEPT]; /* NUL-terminated; what is longer is cut; no control characters but tabs */
	size_t len;
	int64_t tag; /* rank, or local rank, that a prefix names; -1: none */
	bool is_rank; /* the tag is "[rankN]" or "[node:N]": a global rank */
};

/* Offset after the line that begins at p[at] (its '\n' or '\r' included). */
size_t trace_line_end(const char *p, size_t n, size_t at);
/* The line p[at..end), cleaned. */
void trace_line_read(const char *p, size_t at, size_t end, struct trace_line *ret);

#endif
