/* cgroup.c - see cgroup.h */
#include "launcher/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/left.h"

#define NAME_MAX_ 64
#define PREFIX "nodeagent-"
#define KILL_PASSES 100 /* x 10 ms, for kernels without cgroup.kill */

static int base = -1; /* the launcher's own cgroup directory */

static void job_name(char out[NAME_MAX_], uint64_t job, uint32_t attempt)
{
	snprintf(out, NAME_MAX_, PREFIX "%" PRIu64 ".%" PRIu32, job, attempt);
}

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

int cgroup_find(struct err *e)
{
	char mount[PATH_MAX], own[PATH_MAX];
	int top;

	if (!find_mount(mount) || !find_own(own))
		return err_set(e, ENOSYS, "no cgroup v2 tree is mounted here");
	top = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	base = top < 0 ? -1 : openat(top, *own ? own : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top >= 0)
		close(top);
	if (base < 0)
		return err_set(e, ENOSYS, "cannot open cgroup /%s: %s", own, strerror(errno));
	if (faccessat(base, "cgroup.procs", W_OK, AT_EACCESS) == 0)
		return 0;

	close(base);
	base = -1;
	return err_set(e, ENOSYS, "cgroup /%s is not writable", own);
}

bool cgroup_found(void)
{
	return base >= 0;
}

static int open_in(uint64_t job, uint32_t attempt, const char *file, int flags)
{
	char name[NAME_MAX_ + 32];

	if (base < 0)
		return -ENOSYS;
	job_name(name, job, attempt);
	if (file)
		snprintf(name + strlen(name), 32, "/%s", file);

	int fd = openat(base, name, flags | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

static int write_in(uint64_t job, uint32_t attempt, const char *file, const char *text)
{
	int fd = open_in(job, attempt, file, O_WRONLY), r = 0;

	if (fd < 0)
		return fd;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

int cgroup_enter(uint64_t job, uint32_t attempt, struct err *e)
{
	char name[NAME_MAX_];
	int r;

	if (base < 0)
		return -ENOSYS;
	job_name(name, job, attempt);
	if (mkdirat(base, name, 0755) < 0 && errno != EEXIST)
		return err_set(e, errno, "cannot make cgroup %s: %s", name, strerror(errno));
	r = write_in(job, attempt, "cgroup.procs", "0");
	if (r < 0)
		return err_set(e, r, "cannot enter cgroup %s: %s", name, strerror(-r));
	return 0;
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
static int each_process(uint64_t job, uint32_t attempt, bool kill_them, pid_t *ret_one)
{
	int fd = open_in(job, attempt, "cgroup.procs", O_RDONLY), n = 0;
	char line[32], name[NAME_MAX_];
	FILE *f;

	if (fd < 0)
		return fd;
	f = fdopen(fd, "re");
	if (!f) {
		close(fd);
		return -ENOMEM;
	}

	job_name(name, job, attempt);
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

int cgroup_kill(uint64_t job, uint32_t attempt, struct proc_id *ret_left)
{
	const struct timespec pause = { 0, 10000000 };
	int seen = each_process(job, attempt, false, NULL), r;
	pid_t left = 0;

	*ret_left = (struct proc_id){ 0 };

	if (seen <= 0)
		return seen;
	r = write_in(job, attempt, "cgroup.kill", "1");
	for (int i = 0; i < KILL_PASSES; i++) {
		if (each_process(job, attempt, r < 0, &left) <= 0)
			return seen;
		nanosleep(&pause, NULL);
	}
	if (proc_start_time(left, &ret_left->start_time) == 0)
		ret_left->pid = left;
	return seen;
}

int cgroup_remove(uint64_t job, uint32_t attempt)
{
	char name[NAME_MAX_];

	if (base < 0)
		return 0;
	job_name(name, job, attempt);
	if (unlinkat(base, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

void cgroup_remove_empty(void)
{
	int fd = base < 0 ? -1 : openat(base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (strncmp(de->d_name, PREFIX, strlen(PREFIX)) == 0)
			unlinkat(base, de->d_name, AT_REMOVEDIR); /* EBUSY: somebody lives there */
	if (d)
		closedir(d);
}
