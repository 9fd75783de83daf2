/* procfs.c - see procfs.h */
#include "shim/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/proc.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define ENVIRON_MAX (1u << 20)
#define THREADS_MAX 512

/* <linux/pidfd.h> of 6.15; older headers do not have it. */
struct pid_info {
	uint64_t mask;
	uint64_t cgroupid;
	uint32_t pid, tgid, ppid;
	uint32_t ids[8];
	int32_t exit_code;
};
#define PID_INFO_EXIT (UINT64_C(1) << 3)
#define PID_GET_INFO _IOWR(0xFF, 11, struct pid_info)

/* ---- children ----------------------------------------------------------- */

struct kids {
	pid_t *out;
	size_t n, max;
};

static void add(struct kids *k, pid_t pid)
{
	if (k->n < k->max)
		k->out[k->n++] = pid;
}

/* "12 13 14 ". False: there is no such file. */
static bool of_thread(pid_t pid, const char *tid, struct kids *k)
{
	char path[64], text[8192], *p = text, *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", (int)pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (long v; (v = strtol(p, &end, 10)) > 0 && end != p; p = end)
		if (*end == ' ') /* else it is cut */
			add(k, (pid_t)v);
	return true;
}

static void one_of_all(void *arg, const struct proc_stat *child)
{
	add(arg, child->pid);
}

static bool lists_exist(void)
{
	static int known = -1;
	char path[64];

	if (known < 0) {
		snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
		known = access(path, R_OK) == 0;
	}
	return known;
}

size_t procfs_children(pid_t pid, pid_t *out, size_t max, bool *ret_dear)
{
	struct kids k = { .out = out, .max = max };
	char path[32];
	struct dirent *d;
	DIR *tasks;

	*ret_dear = !lists_exist();
	if (*ret_dear) {
		proc_children(pid, one_of_all, &k);
		return k.n;
	}
	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	for (int i = 0; tasks && i < THREADS_MAX && (d = readdir(tasks)) != NULL; i++)
		if (isdigit((unsigned char)d->d_name[0]))
			of_thread(pid, d->d_name, &k);
	if (tasks)
		closedir(tasks);
	return k.n;
}

/* ---- one process ---------------------------------------------------------- */

int procfs_environ(pid_t pid, struct buf *ret)
{
	char path[32];
	ssize_t n = 0;
	int fd;

	buf_reset(ret);
	snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		char *room = buf_reserve(ret, 4096);

		n = room ? read(fd, room, 4096) : -1;
		if (n > 0)
			ret->len += (size_t)n;
	} while (n > 0 && ret->len < ENVIRON_MAX);
	close(fd);
	return n < 0 ? -EIO : 0;
}

int procfs_open(pid_t pid, uint64_t start_time)
{
	uint64_t now;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	/* read afterwards: a later process of this pid has another start time */
	if (proc_start_time(pid, &now) == 0 && now == start_time)
		return fd;
	close(fd);
	return -ESRCH;
}

/* Field 52 of /proc/PID/stat, while nobody has reaped it. Shown to those who may
 * trace it: the same user. */
static bool of_zombie(pid_t pid, uint64_t start_time, int *ret_status)
{
	char path[32], text[1024], *p, *word, *save = NULL;
	unsigned long long start = 0;
	bool dead = false;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	p = strrchr(text, ')');
	word = p ? strtok_r(p + 1, " \n", &save) : NULL;
	for (int field = 3; word; word = strtok_r(NULL, " \n", &save), field++) {
		if (field == 3)
			dead = *word == 'Z' || *word == 'X';
		else if (field == 22)
			start = strtoull(word, NULL, 10);
		else if (field == 52)
			*ret_status = atoi(word);
		if (field == 52)
			return dead && start == start_time;
	}
	return false;
}

bool procfs_status(pid_t pid, uint64_t start_time, int pidfd, int *ret_status)
{
	struct pid_info info = { .mask = PID_INFO_EXIT };

	if (of_zombie(pid, start_time, ret_status))
		return true;
	if (pidfd < 0 || ioctl(pidfd, PID_GET_INFO, &info) < 0 || !(info.mask & PID_INFO_EXIT))
		return false;
	*ret_status = info.exit_code;
	return true;
}

char *procfs_path(pid_t pid, int fd)
{
	char link[48], path[4096];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)pid, fd);
	n = readlink(link, path, sizeof path - 1);
	if (n <= 0 || (size_t)n >= sizeof path - 1 || *path != '/')
		return NULL;
	path[n] = '\0';
	if (strncmp(path, "/dev/", 5) == 0 || strstr(path, " (deleted)"))
		return NULL;
	return strdup(path);
}
