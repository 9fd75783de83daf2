/* sysfs.c - see sysfs.h */
#include "hw/sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hostlist.h"
#include "hw/port_text.h"

int sysfs_real(int fd, char out[PATH_MAX])
{
	char link[40];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, out, PATH_MAX - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

int sysfs_open(struct sysfs *s, const char *path)
{
	int r;

	s->real[0] = '\0';
	s->root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->root < 0)
		return -errno;
	r = sysfs_real(s->root, s->real);
	if (r < 0)
		sysfs_close(s);
	return r;
}

void sysfs_close(struct sysfs *s)
{
	if (s->root >= 0)
		close(s->root);
	s->root = -1;
}

static bool beneath(const struct sysfs *s, int fd)
{
	char real[PATH_MAX];
	size_t n = strlen(s->real);

	if (sysfs_real(fd, real) < 0)
		return false;
	if (n == 1) /* the root is "/" */
		return true;
	return strncmp(real, s->real, n) == 0 && (real[n] == '/' || real[n] == '\0');
}

/* AT_FDCWD is negative too, and names are absolute then. */
static bool is_none(int at)
{
	return at < 0 && at != AT_FDCWD;
}

int sysfs_dir(const struct sysfs *s, int at, const char *name)
{
	int fd;

	if (at < 0)
		return -ENOENT;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!beneath(s, fd)) {
		close(fd);
		return -EXDEV;
	}
	return fd;
}

static int read_some(int fd, char *out, size_t size)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOTSUP;
	do {
		n = read(fd, out, size - 1);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

int sysfs_read(int at, const char *name, char *out, size_t size)
{
	int fd, n;

	out[0] = '\0';
	if (is_none(at))
		return -ENOENT;
	fd = openat(at, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? -ENOTSUP : -errno;
	n = read_some(fd, out, size);
	close(fd);
	if (n < 0) {
		out[0] = '\0';
		return n;
	}
	out[n] = '\0';
	n = (int)strcspn(out, "\n");
	while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '\t' || out[n - 1] == '\r'))
		n--;
	out[n] = '\0';
	return n;
}

const char *sysfs_why(int error)
{
	switch (error) {
	case -ENOENT:
		return "absent";
	case -ENOTSUP:
		return "no regular file";
	case -EXDEV:
		return "leads out of the tree";
	case -EINVAL:
		return "invalid argument";
	case -EIO:
		return "input/output error";
	case -EACCES:
	case -EPERM:
		return "permission denied";
	default:
		return "cannot be read";
	}
}

static int by_name(const void *a, const void *b)
{
	return node_name_cmp(a, b);
}

int sysfs_list(int at, const char *name, bool (*want)(const char *), sysfs_name *out, size_t max)
{
	int fd = is_none(at) ? -1 : openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *e;
	size_t n = 0;
	DIR *d;

	if (fd < 0)
		return is_none(at) ? -ENOENT : -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (n < max && (e = readdir(d)))
		if (strlen(e->d_name) < sizeof(sysfs_name) && want(e->d_name))
			memcpy(out[n++], e->d_name, strlen(e->d_name) + 1);
	closedir(d);
	qsort(out, n, sizeof *out, by_name);
	return (int)n;
}

struct hw_u32 sysfs_numa(int at)
{
	char text[SYSFS_TEXT];
	uint64_t v;

	/* -1 says that the firmware did not tell */
	if (sysfs_read(at, "numa_node", text, sizeof text) <= 0 || !text_number(text, 65535, &v))
		return (struct hw_u32){ 0 };
	return hw_u32((uint32_t)v);
}

struct hw_u32 sysfs_pci_numa(const struct sysfs *s, const char *pci)
{
	char path[32 + HW_PCI_SIZE];
	struct hw_u32 numa;
	int fd;

	snprintf(path, sizeof path, "bus/pci/devices/%s", pci);
	fd = sysfs_dir(s, s->root, path);
	numa = sysfs_numa(fd);
	if (fd >= 0)
		close(fd);
	return numa;
}
