/* fuzz_traceback.c - whatever a dying program wrote, what is found in it is one line of text
 *
 * The first byte is the rank asked for; the rest is read as output, as torchrun's
 * last lines and as an error file. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/elastic.h"
#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check(const struct traceback *t)
{
	size_t n = strnlen(t->text, sizeof t->text);

	must(n < sizeof t->text && utf8_valid(t->text, n));
	must((t->kind == TRACEBACK_NONE) == (n == 0));
	must(t->kind != TRACEBACK_WRAPPER && t->rank >= -1);
	for (size_t i = 0; i < n; i++)
		must((unsigned char)t->text[i] >= ' ' && t->text[i] != 127);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct elastic_failure f[4];
	struct traceback t;
	const char *p;
	size_t n;

	if (size == 0)
		return 0;
	p = (const char *)data + 1;
	traceback_find(p, size - 1, (int8_t)data[0], (int8_t)data[0] % 4, &t);
	check(&t);
	elastic_error_file(p, size - 1, &t);
	check(&t);
	n = elastic_failures(p, size - 1, f, 4);
	must(n <= 4);
	for (size_t i = 0; i < n; i++)
		must(f[i].code >= -64 && f[i].code <= 255 && f[i].rank <= 16777215);
	return 0;
}
