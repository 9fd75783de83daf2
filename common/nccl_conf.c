/* nccl_conf.c - see nccl_conf.h */
#include "common/nccl_conf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSTEM_FILE "/etc/nccl.conf"
#define TEXT_MAX 65536 /* of one file; nobody writes that much */

bool nccl_conf_has(const struct nccl_conf *c, const char *name)
{
	for (size_t i = 0; i < c->n; i++)
		if (strcmp(c->names[i], name) == 0)
			return true;
	return false;
}

/* As NCCL takes it: all before the first '=', blanks included, so such a name is none of its own. */
static void add(struct nccl_conf *c, const char *name, size_t len)
{
	char text[NCCL_CONF_NAME_MAX + 1];

	if (len <= 5 || len > NCCL_CONF_NAME_MAX || memcmp(name, "NCCL_", 5) != 0 || c->n == NCCL_CONF_NAMES)
		return;
	for (size_t i = 0; i < len; i++)
		if (!((name[i] >= 'A' && name[i] <= 'Z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '_'))
			return;
	memcpy(text, name, len);
	text[len] = '\0';
	if (!nccl_conf_has(c, text))
		memcpy(c->names[c->n++], text, len + 1);
}

void nccl_conf_text(const char *text, size_t len, struct nccl_conf *c)
{
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t line = end ? (size_t)(end - text) : len;
		const char *eq = memchr(text, '=', line);

		if (eq)
			add(c, text, (size_t)(eq - text)); /* a comment is no such name */
		line += end != NULL;
		text += line;
		len -= line;
	}
}

static void read_file(const char *path, struct nccl_conf *c)
{
	/* a FIFO would hang, a device may do anything */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char text[TEXT_MAX];
	size_t got = 0;
	struct stat st;
	ssize_t n = 1;

	if (fd < 0)
		return;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		n = 0;
	while (n != 0 && got < sizeof text) {
		n = read(fd, text + got, sizeof text - got);
		if (n < 0 && errno != EINTR)
			break;
		got += n > 0 ? (size_t)n : 0;
	}
	close(fd);
	nccl_conf_text(text, got, c);
}

void nccl_conf_read(const char *home, const char *conf_file, struct nccl_conf *c)
{
	char path[PATH_MAX];

	if (conf_file && *conf_file)
		read_file(conf_file, c);
	else if (home && *home && snprintf(path, sizeof path, "%s/.nccl.conf", home) < (int)sizeof path)
		read_file(path, c);
	read_file(SYSTEM_FILE, c);
}
