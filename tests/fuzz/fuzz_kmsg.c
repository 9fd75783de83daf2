/* fuzz_kmsg.c - any bytes as a record of the kernel's log; and as our cgroup's files */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "hw/kmsg_text.h"
#include "shim/oom.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is shown to people is UTF-8 and drives no terminal. */
static void check(const char *s, size_t max)
{
	size_t n = strnlen(s, max);

	assert(n < max);
	for (size_t i = 0; i < n;) {
		size_t len = utf8_seq(s + i, n - i);

		assert(len > 0 && (unsigned char)s[i] >= 0x20);
		i += len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), own[64];
	struct hw_event e;
	int64_t at;
	uint64_t n;
	bool v1;

	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (kmsg_parse((const char *)data, size, &e, &at)) {
		assert(e.kind != NULL && e.text != NULL && at >= 0);
		check(e.text, sizeof(e.text));
		check(e.device, sizeof(e.device));
		check(e.pci, sizeof(e.pci));
		assert(!e.pid.known || e.pid.v <= 4194304);
		assert(!e.xid.known || e.xid.v <= 65535);
	}
	oom_count(text, &n);
	if (oom_own_cgroup(text, own, sizeof(own), &v1))
		assert(own[0] == '/' && strlen(own) < sizeof(own));
	free(text);
	return 0;
}
