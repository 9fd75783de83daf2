/* frame.h - cuts a byte stream into frames, with hard limits and no I/O
 *
 * A frame is a 4-byte big-endian length (of what follows the type byte), a
 * 1-byte type, and that many bytes. Length is checked before anything is
 * kept. JSON frames carry one message; DATA frames carry a fixed 24-byte
 * header (all big-endian) and raw bytes.
 */
#ifndef NA_PROTO_FRAME_H
#define NA_PROTO_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

#define FRAME_HEADER 5
#define FRAME_MAX_UNAUTH 65536u /* before the peer has proved who it is */
#define FRAME_MAX 1048576u

enum frame_type { FRAME_JSON = 1, FRAME_DATA = 2 };

#define DATA_HEADER 24
#define DATA_EOF 1u /* nothing follows on this (sid, rank, fd) */
#define DATA_GIVEN 4u /* no payload: all before 'offset' was given back; the stream goes on there */
#define DATA_LOST 2u /* no payload: 'offset' bytes of this stream were dropped (disk full) */

struct data_header {
	uint32_t sid;
	uint32_t rank; /* global rank */
	uint8_t fd; /* 0 stdin, 1 stdout, 2 stderr, 3 specification */
	uint8_t flags;
	uint64_t offset; /* of the first payload byte within (rank, fd) */
};

struct frame {
	uint8_t type;
	const char *data; /* borrowed until the next frame_* call on the reader */
	size_t len;
};

struct frame_reader {
	struct buf in;
	size_t pos; /* consumed */
	uint32_t max;
};

void frame_reader_init(struct frame_reader *r, uint32_t max);
void frame_reader_finish(struct frame_reader *r);
void frame_reader_set_max(struct frame_reader *r, uint32_t max);
/* Room to receive into (at least 'want' bytes); then frame_reader_got(n). NULL on ENOMEM. */
char *frame_reader_space(struct frame_reader *r, size_t want, size_t *ret_room);
void frame_reader_got(struct frame_reader *r, size_t n);
/* 1 and a frame; 0 when more bytes are needed; -EPROTO (unknown type) or
 * -EMSGSIZE (over the limit), after which the stream is unusable. */
int frame_next(struct frame_reader *r, struct frame *ret, struct err *e);

/* Writes the 5 header bytes. */
void frame_put_header(char out[FRAME_HEADER], uint8_t type, uint32_t len);
/* Appends a JSON frame of the given text; -EMSGSIZE when too long. */
int frame_add_json(struct buf *b, const char *text, size_t len);
/* Writes frame header and data header (29 bytes) for a payload of n bytes. */
void frame_put_data(char out[FRAME_HEADER + DATA_HEADER], const struct data_header *h, size_t n);
/* Splits a DATA frame's body; -EPROTO when shorter than the header or fd > 3. */
int frame_get_data(const struct frame *f, struct data_header *ret, const char **ret_payload,
		   size_t *ret_n, struct err *e);

#endif
