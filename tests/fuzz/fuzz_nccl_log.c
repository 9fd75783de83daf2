/* fuzz_nccl_log.c - any bytes as lines of NCCL's log */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/nccl_log.h"

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
	const char *p = (const char *)data, *end = p + size;
	struct nccl_log l = { .inits = 0 };

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);

		nccl_log_line(&l, p, n);
		p += n + 1;
	}
	check(l.version, sizeof l.version);
	check(l.bootstrap, sizeof l.bootstrap);
	check(l.net, sizeof l.net);
	check(l.socket_if, sizeof l.socket_if);
	check(l.ib_why, sizeof l.ib_why);
	check(l.dev, sizeof l.dev);
	check(l.peer, sizeof l.peer);
	check(l.text, sizeof l.text);
	assert(l.n_hcas <= NCCL_LOG_HCAS);
	for (uint32_t i = 0; i < l.n_hcas; i++)
		check(l.hcas[i], sizeof l.hcas[i]);
	return 0;
}
