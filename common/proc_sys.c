/* proc_sys.c - see proc_sys.h. No libraries here: the launcher uses this. */
#include "common/proc_sys.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

pid_t proc_sys_self(void)
{
	return getpid();
}

pid_t proc_sys_group(pid_t pid)
{
	return getpgid(pid);
}

ssize_t proc_sys_file(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (n > 0 && len < size - 1) {
		n = read(fd, out + len, size - 1 - len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			len += (size_t)n;
	}
	n = n < 0 ? -errno : (ssize_t)len;
	close(fd);
	out[len] = '\0';
	return n;
}

/* exec() allows 6 MiB for all of a process's words. Afterwards the process may name
 * any memory of its own as its environment (PR_SET_MM_MAP), terabytes of it: root
 * reads this of every process there is. */
#define ENVIRON_MAX (8u << 20)

int proc_sys_environ(pid_t pid, struct buf *b)
{
	char path[32];
	ssize_t n = 0;
	int fd;

	buf_reset(b);
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		char *room = buf_reserve(b, 16384);

		n = room ? read(fd, room, b->cap - b->len) : -1;
		if (n > 0)
			b->len += (size_t)n;
	} while (n > 0 && b->len < ENVIRON_MAX);
	close(fd);
	return n < 0 ? -EIO : 0;
}

void *proc_sys_list(void)
{
	return opendir("/proc");
}

pid_t proc_sys_next(void *list)
{
	struct dirent *d;

	while ((d = readdir(list)) != NULL) {
		char *end;
		long pid;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		pid = strtol(d->d_name, &end, 10);
		if (!*end && pid > 0)
			return (pid_t)pid;
	}
	return 0;
}

void proc_sys_list_close(void *list)
{
	closedir(list);
}

int proc_sys_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int proc_sys_pidfd_signal(int fd, int sig)
{
	return syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0) ? -errno : 0;
}

void proc_sys_pidfd_close(int fd)
{
	close(fd);
}

int proc_sys_kill(pid_t pid, int sig)
{
	return kill(pid, sig) ? -errno : 0;
}

int64_t proc_sys_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void proc_sys_pause(long ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}
