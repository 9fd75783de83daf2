/* fuzz_conf.c - a configuration file is taken whole or not at all */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct settings {
	char *name;
	bool on;
	uint32_t count, wait_ms;
	uint64_t size;
};

#define KEY(section, key, kind, field, min, max)                                                   \
	{ section, key, kind, offsetof(struct settings, field), min, max, "help" }
static const struct conf_key table[] = {
	KEY("a", "name", CONF_STR, name, 0, 0),
	KEY("a", "on", CONF_BOOL, on, 0, 0),
	KEY("b", "count", CONF_UINT, count, 1, 100),
	KEY("b", "wait", CONF_MS, wait_ms, 10, 86400000),
	KEY("b", "size", CONF_SIZE, size, 1, UINT64_MAX),
	{ .section = NULL },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings s = { .count = 1, .wait_ms = 10, .size = 1 }, before = s;
	int fd = memfd_create("conf", 0);
	struct err e = { .code = 0 };
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (conf_load(path, table, &s, &e)) {
		if (strncmp(e.text, path, strlen(path)) != 0 || memcmp(&s, &before, sizeof(s)) != 0)
			abort();
	} else if (s.count < 1 || s.count > 100 || s.wait_ms < 10 || s.size < 1 ||
		   (s.name && !*s.name)) {
		abort();
	}
	free(s.name);
	close(fd);
	return 0;
}
