/* fuzz_nccl_conf.c - whatever a configuration file of NCCL's holds, its names are names */
#include <stdlib.h>
#include <string.h>

#include "common/nccl_conf.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct nccl_conf c;

	c.n = 0;
	nccl_conf_text((const char *)data, size, &c);
	if (c.n > NCCL_CONF_NAMES)
		abort();
	for (size_t i = 0; i < c.n; i++) {
		size_t n = strnlen(c.names[i], sizeof c.names[i]);

		if (n <= 5 || n > NCCL_CONF_NAME_MAX || strncmp(c.names[i], "NCCL_", 5) != 0 || strpbrk(c.names[i], "= \n#"))
			abort();
	}
	return 0;
}
