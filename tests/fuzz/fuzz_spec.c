/* fuzz_spec.c - a specification that decodes encodes to the same bytes */
#include <stdlib.h>
#include <string.h>

#include "proto/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spec s;
	struct buf b;
	struct err e;

	if (spec_decode(data, size, &s, &e))
		return 0;
	buf_init(&b);
	if (spec_encode(s.cwd, (char *const *)s.argv, (char *const *)s.env, &b, &e))
		abort();
	if (b.len != size || memcmp(b.data, data, size) != 0)
		abort();
	buf_finish(&b);
	spec_finish(&s);
	return 0;
}
