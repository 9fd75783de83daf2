/* fuzz_torch_flight.c - any bytes as a dump of PyTorch's flight recorder */
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/torch_flight.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *s, size_t size)
{
	size_t n = strnlen(s, size);

	assert(n < size);
	for (size_t i = 0; i < n; i++)
		assert(s[i] >= ' ' && s[i] < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct torch_flight f;
	int r = torch_flight_parse(data, size, &f);

	assert(r == 0 || r == -EAGAIN || r == -EINVAL || r == -ENOMEM);
	assert(r != 0 || f.has_status || f.has_last);
	check(f.op, sizeof f.op);
	check(f.state, sizeof f.state);
	return 0;
}
