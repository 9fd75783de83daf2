/* fuzz_frame.c - the frames of a stream do not depend on how it arrives
 *
 * The first byte chooses the pieces; the rest is the stream, read once whole
 * and once in pieces. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct result {
	struct buf frames; /* type, length and bytes of each */
	int end; /* 0, or the error that ended it */
};

static void note_frame(struct result *res, const struct frame *f)
{
	struct data_header h;
	const char *payload;
	size_t n;

	buf_addf(&res->frames, "%u:%zu:", f->type, f->len);
	buf_add(&res->frames, f->data, f->len);
	if (f->type != FRAME_DATA || frame_get_data(f, &h, &payload, &n, NULL))
		return;
	if (n != f->len - DATA_HEADER || payload + n != f->data + f->len || h.fd > 3)
		abort();
}

static struct result read_stream(const uint8_t *data, size_t size, size_t piece, uint32_t max)
{
	struct result res = { .end = 0 };
	struct frame_reader r;
	struct frame f;
	struct err e;

	frame_reader_init(&r, max);
	for (size_t at = 0; at < size && res.end == 0; at += piece) {
		size_t n = size - at < piece ? size - at : piece, room = 0;
		char *to = frame_reader_space(&r, n, &room);
		int rc;

		if (!to || room < n)
			abort();
		memcpy(to, data + at, n);
		frame_reader_got(&r, n);
		while ((rc = frame_next(&r, &f, &e)) == 1)
			note_frame(&res, &f);
		res.end = rc;
	}
	frame_reader_finish(&r);
	return res;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t max = FRAME_MAX_UNAUTH;
	struct result whole, pieces;

	if (size < 2)
		return 0;
	if (data[0] & 0x80)
		max = 100;
	whole = read_stream(data + 1, size - 1, size - 1, max);
	pieces = read_stream(data + 1, size - 1, 1 + (data[0] & 0x7F), max);
	if (whole.end != pieces.end || whole.frames.len != pieces.frames.len)
		abort();
	if (whole.frames.len && memcmp(whole.frames.data, pieces.frames.data, whole.frames.len))
		abort();
	buf_finish(&whole.frames);
	buf_finish(&pieces.frames);
	return 0;
}
