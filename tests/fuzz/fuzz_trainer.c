/* fuzz_trainer.c - a training's file: any bytes end in values or in one sentence with a line */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/trainer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct trainer t = { 0 };
	struct err e = { .code = 0 };
	struct buf b;
	int r = trainer_read(&t, (const char *)data, size, &e);

	if (r == -EINVAL && strncmp(e.text, "line ", 5) != 0)
		abort();
	for (int k = 0; k < TK_COUNT; k++)
		if (memchr(t.v[k].text, 0, sizeof(t.v[k].text)) == NULL)
			abort();
	buf_init(&b);
	if (trainer_judge(&t, "f", &b) > 6 || buf_failed(&b))
		abort();
	buf_finish(&b);
	return 0;
}
