/* fuzz_progress.c - any bytes as a training's output, and as the end of its log */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/progress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct progress *g)
{
	assert(strnlen(g->loss, sizeof g->loss) < sizeof g->loss);
	for (const char *p = g->loss; *p; p++)
		assert(*p > ' ' && *p < 0x7f);
	assert(g->steps == 0 || g->step <= g->steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct progress g = { .step = 0 };
	char loss[24] = "";

	if (progress_bar((const char *)data, size, &g))
		check(&g);
	if (progress_trainer_log((const char *)data, size, &g))
		check(&g);
	if (progress_loss((const char *)data, size, loss))
		assert(loss[0] && strnlen(loss, sizeof loss) < sizeof loss);
	assert(progress_seconds((const char *)data, size) >= -1);
	return 0;
}
