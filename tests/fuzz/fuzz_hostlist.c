/* fuzz_hostlist.c - an accepted list holds valid names once each, and its short form reads
 * back as the same names */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/hostlist.h"

#define COMPARE_MAX 3000 /* larger lists are only parsed */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int naturally(const void *a, const void *b)
{
	return node_name_cmp(*(char *const *)a, *(char *const *)b);
}

static void check_names(struct hostlist *h)
{
	if (h->count == 0 || h->count > HOSTLIST_MAX)
		abort();
	qsort(h->names, h->count, sizeof(*h->names), naturally);
	for (size_t i = 1; i < h->count; i++) {
		if (node_name_cmp(h->names[i - 1], h->names[i]) >= 0)
			abort();
	}
	qsort(h->names, h->count, sizeof(*h->names), by_name);
	for (size_t i = 0; i < h->count; i++) {
		if (!node_name_valid(h->names[i]))
			abort();
	}
}

static void check_format(const struct hostlist *h)
{
	char *text = hostlist_format((const char *const *)h->names, h->count);
	struct hostlist back;

	if (!text || hostlist_parse(text, &back, NULL) || back.count != h->count)
		abort();
	qsort(back.names, back.count, sizeof(*back.names), by_name);
	for (size_t i = 0; i < h->count; i++) {
		if (strcmp(back.names[i], h->names[i]) != 0)
			abort();
	}
	hostlist_finish(&back);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct hostlist h;
	struct err e;

	memcpy(text, data, size);
	text[size] = '\0';
	if (hostlist_parse(text, &h, &e) == 0) {
		if (h.count <= COMPARE_MAX) {
			check_names(&h);
			check_format(&h);
		}
		hostlist_finish(&h);
	} else if (text[0] != '\0' && !strchr(e.text, '^')) { /* of an empty list nothing can be pointed at */
		abort();
	}
	free(text);
	return 0;
}
