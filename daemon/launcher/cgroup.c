/* cgroup.c - see cgroup.h */
#include "launcher/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cgroup.h"

#define NAME_MAX_ 64
#define PREFIX "nodeagent-"
#define KILL_WAIT_MS 1000

static int base = -1; /* the launcher's own cgroup directory */

static void job_name(char out[NAME_MAX_], uint64_t job, uint32_t attempt)
{
	snprintf(out, NAME_MAX_, PREFIX "%" PRIu64 ".%" PRIu32, job, attempt);
}

int cgroup_find(struct err *e)
{
	base = cgroup_open_own(NULL, e);
	return base < 0 ? base : 0;
}

bool cgroup_found(void)
{
	return base >= 0;
}

int cgroup_enter(uint64_t job, uint32_t attempt, struct err *e)
{
	char name[NAME_MAX_];
	int fd, r = 0;

	if (base < 0)
		return -ENOSYS;
	job_name(name, job, attempt);
	if (mkdirat(base, name, 0755) < 0 && errno != EEXIST)
		return err_set(e, errno, "cannot make cgroup %s: %s", name, strerror(errno));
	fd = cgroup_open(base, name, "cgroup.procs", O_WRONLY);
	if (fd < 0 || write(fd, "0", 1) < 0)
		r = fd < 0 ? fd : -errno;
	if (fd >= 0)
		close(fd);
	if (r < 0)
		return err_set(e, r, "cannot enter cgroup %s: %s", name, strerror(-r));
	return 0;
}

int cgroup_kill(uint64_t job, uint32_t attempt, struct proc_id *ret_left)
{
	char name[NAME_MAX_];

	job_name(name, job, attempt);
	return cgroup_kill_in(base, name, KILL_WAIT_MS, ret_left);
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
