/* reader.h - reads logs and error files of workers beside the loop
 *
 * They may lie on a network file system that hangs: the shim must go on draining
 * pipes meanwhile. So each request has a thread of its own, which is left alone
 * when it does not come back.
 */
#ifndef NA_SHIM_READER_H
#define NA_SHIM_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/traceback.h"

#define READER_MAX 8 /* requests under way; more are not taken */
#define READER_WINDOW (256u << 10) /* of a log: so much of its end */

struct reader;

struct reader_request {
	uint64_t id;
	const char *error_file, *logs[2]; /* paths, the better first; NULL: none. Copied */
	int64_t rank, local_rank;
};

struct reader *reader_create(void); /* NULL: no memory, no descriptor */
/* Threads that hang keep what they use. */
void reader_destroy(struct reader *r);
int reader_fd(const struct reader *r); /* readable when there is an answer */
bool reader_ask(struct reader *r, const struct reader_request *req);
/* The next answer (kind NONE: nothing was found). False: no more for now. */
bool reader_take(struct reader *r, uint64_t *ret_id, struct traceback *ret);

/* Whole content or the last 'max' bytes of a regular file; malloc'ed, NULL on failure. Blocks. */
char *reader_tail(const char *path, size_t max, size_t *ret_n);

#endif
