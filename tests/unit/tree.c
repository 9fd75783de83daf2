/* tree.c - see tree.h */
#include "tests/unit/tree.h"

#include <ftw.h>
#include <libgen.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

void tree_make(char root[64])
{
	snprintf(root, 64, "/tmp/nodeagent-tree-XXXXXX");
	assert_non_null(mkdtemp(root));
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

void tree_remove(const char *root)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void full(char out[PATH_MAX], const char *root, const char *path)
{
	snprintf(out, PATH_MAX, "%s/%s", root, path);
	for (char *p = out + strlen(root) + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		mkdir(out, 0755);
		*p = '/';
	}
}

void tree_bytes(const char *root, const char *path, const void *p, unsigned long n)
{
	char name[PATH_MAX];
	FILE *f;

	full(name, root, path);
	f = fopen(name, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	fclose(f);
}

void tree_file(const char *root, const char *path, const char *text)
{
	char line[4096];

	snprintf(line, sizeof line, "%s\n", text);
	tree_bytes(root, path, line, strlen(line));
}

void tree_link(const char *root, const char *path, const char *target)
{
	char name[PATH_MAX];

	full(name, root, path);
	assert_int_equal(symlink(target, name), 0);
}

void tree_fifo(const char *root, const char *path)
{
	char name[PATH_MAX];

	full(name, root, path);
	unlink(name);
	assert_int_equal(mkfifo(name, 0644), 0);
}

void tree_unlink(const char *root, const char *path)
{
	char name[PATH_MAX];

	full(name, root, path);
	tree_remove(name);
}

void tree_port_file(const char *root, const char *device, unsigned port, const char *name,
		    const char *text)
{
	char path[256];

	snprintf(path, sizeof path, "class/infiniband/%s/ports/%u/%s", device, port, name);
	tree_file(root, path, text);
}

void tree_port(const char *root, const char *device, unsigned port)
{
	static const char *const files[][2] = {
		{ "state", "4: ACTIVE" },
		{ "phys_state", "5: LinkUp" },
		{ "rate", "400 Gb/sec (4X NDR)" },
		{ "lid", "0x2a" },
		{ "sm_lid", "0x1" },
		{ "link_layer", "InfiniBand" },
		{ "gids/0", "fe80:0000:0000:0000:a088:c203:00ab:1234" },
		{ "gids/1", "0000:0000:0000:0000:0000:0000:0000:0000" },
	};
	char path[256];

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		tree_port_file(root, device, port, files[i][0], files[i][1]);
	snprintf(path, sizeof path, "class/infiniband/%s/fw_ver", device);
	tree_file(root, path, "28.39.1002");
	snprintf(path, sizeof path, "class/infiniband/%s/board_id", device);
	tree_file(root, path, "MT_0000000838");
}

const char *tree_fake(const char *name)
{
	static char path[PATH_MAX];
	char self[PATH_MAX - 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	assert_true(n > 0);
	self[n] = '\0';
	snprintf(path, sizeof path, "%s/../fake/%s", dirname(self), name);
	return path;
}
