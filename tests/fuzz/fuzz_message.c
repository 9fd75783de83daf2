/* fuzz_message.c - what decodes can be encoded, and then nothing changes any more
 *
 * decode -> encode -> decode -> encode: both encodings are the same bytes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const struct msg *m, struct buf *b)
{
	struct err e;

	buf_init(b);
	if (msg_encode(m, b, &e))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct msg first, second;
	struct buf once, twice;
	struct err e = { .code = 0 };
	int rc = msg_decode((const char *)data, size, &first, &e);

	if (rc) {
		if (rc != e.code || !e.text[0] || (rc != -EINVAL && rc != -ENOTSUP))
			abort();
		return 0;
	}
	encode(&first, &once);
	if (msg_decode(once.data, once.len, &second, &e))
		abort();
	encode(&second, &twice);
	if (first.type != second.type || once.len != twice.len ||
	    memcmp(once.data, twice.data, once.len) != 0)
		abort();
	msg_finish(&first);
	msg_finish(&second);
	buf_finish(&once);
	buf_finish(&twice);
	return 0;
}
