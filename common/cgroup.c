/* cgroup.c - see cgroup.h */
#include "common/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/left.h"

#define PAUSE_MS 10

/* Mount point of the cgroup2 file system (of the hybrid layout's, too). Its
 * fields are octal-escaped; a mount point with such a byte is not looked for. */
static bool find_mount(char out[PATH_MAX])
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096 + PATH_MAX], root[PATH_MAX], *dash;
	bool found = false;

	while (f && !found && fgets(line, sizeof line, f)) {
		dash = strstr(line, " - ");
		if (!dash || strncmp(dash, " - cgroup2 ", 11) != 0)
			continue;
		found = sscanf(line, "%*s %*s %*s %4095s %4095s", root, out) == 2 &&
			strcmp(root, "/") == 0 && !strchr(out, '\\');
	}
	if (f)
		fclose(f);
	return found;
}

/* Our own path within it: the line "0::/PATH". */
static bool find_own(char out[PATH_MAX])
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX + 16];
	bool found = false;

	while (f && !found && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, "0::/", 4) == 0 && !strstr(line, "/../") &&
			snprintf(out, PATH_MAX, "%s", line + 4) < PATH_MAX;
	}
	if (f)
		fclose(f);
	return found;
}

static int open_beneath_mount(const char *path)
{
	char mount[PATH_MAX];
	int top, fd;

	if (!find_mount(mount))
		return -ENOSYS;
	top = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = top < 0 ? -errno : openat(top, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top >= 0) {
		if (fd < 0)
			fd = -errno;
		close(top);
	}
	return fd;
}

int cgroup_open_own(char ret_path[PATH_MAX], struct err *e)
{
	char mount[PATH_MAX], own[PATH_MAX];
	int fd;

	if (!find_mount(mount) || !find_own(own))
		return err_set(e, ENOSYS, "no cgroup v2 tree is mounted here");
	fd = open_beneath_mount(own);
	if (fd < 0)
		return err_set(e, ENOSYS, "cannot open cgroup /%s: %s", own, strerror(-fd));
	if (faccessat(fd, "cgroup.procs", W_OK, AT_EACCESS) == 0) {
		if (ret_path)
			memcpy(ret_path, own, strlen(own) + 1);
		return fd;
	}
	close(fd);
	return err_set(e, ENOSYS, "cgroup /%s is not writable", own);
}

int cgroup_open_path(const char *path)
{
	return *path == '/' || strstr(path, "..") ? -EINVAL : open_beneath_mount(path);
}

int cgroup_open(int dir, const char *name, const char *file, int flags)
{
	char path[PATH_MAX];
	int fd;

	if (dir < 0)
		return -ENOSYS;
	if (snprintf(path, sizeof path, "%s%s%s", name, file ? "/" : "", file ? file : "") >= (int)sizeof path)
		return -ENAMETOOLONG;
	fd = openat(dir, path, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* A pid that was read may be a stranger's by now: its start time is read before
 * it is seen in the cgroup, and it is signalled by both. */
static void kill_member(pid_t pid, const char *name)
{
	uint64_t start;

	if (pid > 1 && proc_start_time(pid, &start) == 0 && left_in_cgroup(pid, name))
		proc_signal(pid, start, SIGKILL);
}

/* Number of processes; each gets SIGKILL when 'kill_them'. One of them in *ret_one
 * (may be NULL). */
static int each_process(int dir, const char *name, bool kill_them, pid_t *ret_one)
{
	int fd = cgroup_open(dir, name, "cgroup.procs", O_RDONLY), n = 0;
	char line[32];
	FILE *f;

	if (fd < 0)
		return fd;
	f = fdopen(fd, "re");
	if (!f) {
		close(fd);
		return -ENOMEM;
	}

	while (fgets(line, sizeof line, f)) {
		pid_t pid = (pid_t)strtol(line, NULL, 10);

		n++;
		if (kill_them)
			kill_member(pid, name);
		if (ret_one)
			*ret_one = pid;
	}
	fclose(f);
	return n;
}

static int write_kill(int dir, const char *name)
{
	int fd = cgroup_open(dir, name, "cgroup.kill", O_WRONLY), r = 0;

	if (fd < 0)
		return fd; /* before Linux 5.14 */
	if (write(fd, "1", 1) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Also beneath it: who owns it may have made more of them there. */
static bool populated(int dir, const char *name)
{
	int fd = cgroup_open(dir, name, "cgroup.events", O_RDONLY);
	char text[128];
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "populated 1") != NULL;
}

int cgroup_kill_in(int dir, const char *name, int wait_ms, struct proc_id *ret_left)
{
	const struct timespec pause = { 0, PAUSE_MS * 1000000L };
	int seen = each_process(dir, name, false, NULL), r;
	pid_t left = 0;

	*ret_left = (struct proc_id){ 0 };
	if (seen < 0 || (seen == 0 && !populated(dir, name)))
		return seen;
	seen += seen == 0;
	r = write_kill(dir, name);
	for (int ms = 0; ms < wait_ms; ms += PAUSE_MS) {
		if (each_process(dir, name, r < 0, &left) <= 0 && !populated(dir, name))
			return seen;
		nanosleep(&pause, NULL);
	}
	if (proc_start_time(left, &ret_left->start_time) == 0)
		ret_left->pid = left;
	return seen;
}
