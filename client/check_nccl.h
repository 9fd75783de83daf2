/* check_nccl.h - what the conductor of a check says, gathered and shown
 *
 * Its lines are one JSON object each; daemon/nccl/report.c writes them. */
#ifndef NA_CLIENT_CHECK_NCCL_H
#define NA_CLIENT_CHECK_NCCL_H

#include <stdbool.h>

#include "client/out.h"
#include "common/json.h"

#define CHECK_LINES_MAX 65536

struct check_lines {
	cJSON **line; /* whole objects, in the order they came */
	size_t n;
	bool begun, ended; /* a line, and "end" have come */
	bool ok; /* as "end" says */
	bool oom;
	double expect_inside, expect_between; /* of all_reduce, GB/s at least; 0: not known */
};

/* A line without its newline. False: it is none of the conductor's. */
bool check_lines_add(struct check_lines *c, const char *line, size_t len);
void check_lines_finish(struct check_lines *c);

/* Tables, then what is wrong and what to do; verbose: all operations of each node. */
void check_lines_text(const struct check_lines *c, struct buf *b, unsigned columns, bool verbose);
/* One document. */
void check_lines_json(const struct check_lines *c, struct buf *b);

#endif
