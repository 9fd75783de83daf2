/* bulk_spool.h - reads one attempt's spool for one reader: what to send next
 *
 * Knows credit, offsets and turns; knows no link and no loop, so it is tested
 * alone. The files belong to the job's user and are treated as hostile: opened
 * beneath their directory only, no symbolic link, regular, one link, expected
 * owner; a file that shrinks or lies about its size harms its own reader only.
 */
#ifndef NA_IO_BULK_SPOOL_H
#define NA_IO_BULK_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"
#include "proto/message.h"

#define SPOOL_CHUNK (256u << 10) /* bytes one stream may send before the next one's turn */
#define SPOOL_ANY_OWNER UINT32_MAX

struct spool_where {
	const char *spool_dir;
	uint64_t job;
	uint32_t attempt;
	uint32_t owner; /* of the files; SPOOL_ANY_OWNER when the job is forgotten */
	uint32_t rank_base, nprocs; /* whose output is to come, file or not; nprocs 0: what lies there */
	const uint32_t *ranks; /* global ranks wanted; NULL: all that lie here */
	size_t n_ranks;
	const struct rec_follow_from *from;
	size_t n_from;
	/* streams not named in 'from' begin at 0, or: */
	bool from_end;
	uint64_t offset;
	uint32_t tail; /* lines before the end; 0: not asked for */
	int64_t since_wall_ms; /* 0: not asked for */
	uint32_t fds; /* 1 standard output only, 2 standard error only, else both */
	bool holes; /* the reader understands GIVEN */
};

struct spool_reader;

/* Opens the directory and finds its streams. Blocks (metadata of local disk):
 * for the thread pool. -ENOENT when there is no such spool; else a sentence. */
int spool_reader_open(const struct spool_where *w, struct spool_reader **ret, struct err *e);
void spool_reader_close(struct spool_reader *r); /* NULL is fine; no read may be under way */

void spool_reader_credit(struct spool_reader *r, uint64_t bytes);
uint64_t spool_reader_credit_left(const struct spool_reader *r);
/* What the shim reports; unknown streams are ignored. */
void spool_reader_grown(struct spool_reader *r, uint32_t rank, uint8_t fd, uint64_t size, bool eof,
			uint64_t lost, uint64_t given);
/* Nobody writes any more: each stream ends where its file ends now. */
void spool_reader_final(struct spool_reader *r);

enum spool_next {
	SPOOL_SEND, /* *h and a malloc'ed buffer (DATA_ROOM before n payload bytes), NULL when n is 0 */
	SPOOL_WAIT, /* everything there is has been sent */
	SPOOL_CREDIT, /* there is more, but no credit */
	SPOOL_DISK, /* not in memory: fill *job with spool_read_blocking() on the thread pool */
	SPOOL_DONE, /* the end of every stream has been sent */
	SPOOL_NOMEM, /* try again later */
};

/* One read to be made off the loop. The reader must live until spool_read_done(). */
struct spool_read {
	int file;
	uint64_t offset;
	size_t want;
	char *buf;
	long got; /* bytes or -errno */
	size_t stream;
};

/* The next thing to send, streams in turn. For SPOOL_SEND the credit is taken. */
enum spool_next spool_reader_next(struct spool_reader *r, struct data_header *h, char **ret_buf,
				  size_t *ret_n, struct spool_read *read);
void spool_read_blocking(struct spool_read *read);
/* Takes the result; SPOOL_SEND as above, or SPOOL_WAIT when nothing came of it. */
enum spool_next spool_read_done(struct spool_reader *r, struct spool_read *read,
				struct data_header *h, char **ret_buf, size_t *ret_n);

/* A stream that could not be opened or read, told once: a sentence or NULL. */
const char *spool_reader_trouble(struct spool_reader *r);
size_t spool_reader_streams(const struct spool_reader *r);

#endif
