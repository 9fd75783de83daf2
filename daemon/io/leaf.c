/* leaf.c - see leaf.h */
#include "io/leaf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cgroup.h"
#include "common/log.h"

#define PREFIX "nodeagent-"
#define COOKIE_PART 12 /* of its hexadecimal digits: no two jobs of a host have them in common */
#define PAUSE_MS 10

static int own = -1; /* our cgroup's directory; never changed after the start */
static char own_path[PATH_MAX];

/* cgroup.procs may be writable where nothing may be made, and the other way round. */
static int try_one(void)
{
	char name[48];

	snprintf(name, sizeof(name), PREFIX "try-%d", (int)getpid());
	if (mkdirat(own, name, 0755) != 0)
		return -errno;
	return unlinkat(own, name, AT_REMOVEDIR) == 0 ? 0 : -errno;
}

void leaf_find(void)
{
	struct err e;
	int rc = 0;

	own = cgroup_open_own(own_path, &e);
	if (own >= 0 && strlen(own_path) < LEAF_PATH_MAX - 100 && (rc = try_one()) == 0)
		return;
	if (own >= 0) {
		err_set(&e, ENOSYS, "cgroup /%s: %s", own_path, rc != 0 ? strerror(-rc) : "its path is too long");
		close(own);
	}
	own = -1;
	log_info("jobs get no cgroup of their own (%s): what a killed shim leaves is looked for by its parent and the job's "
		 "cookie", e.text);
}

void leaf_path(char out[LEAF_PATH_MAX], uint64_t job, uint32_t attempt, const char *cookie)
{
	out[0] = '\0';
	if (own >= 0)
		snprintf(out, LEAF_PATH_MAX, "%.900s%s" PREFIX "%" PRIu64 ".%u-%.*s", own_path,
			 own_path[0] != '\0' ? "/" : "", job, attempt, COOKIE_PART, cookie);
}

/* The directory that it is in, and its name there. */
static int parent(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char above[LEAF_PATH_MAX];

	*ret_name = slash != NULL ? slash + 1 : path;
	if (strncmp(*ret_name, PREFIX, strlen(PREFIX)) != 0)
		return -EINVAL; /* a record of ours names nothing else */
	snprintf(above, sizeof(above), "%.*s", slash != NULL ? (int)(slash - path) : 0, path);
	return cgroup_open_path(above);
}

int leaf_make(const char *path)
{
	const char *name;
	int dir = parent(path, &name), fd;

	if (dir < 0)
		return dir;
	fd = mkdirat(dir, name, 0755) == 0 ? cgroup_open(dir, name, "cgroup.procs", O_WRONLY) : -errno;
	close(dir);
	return fd;
}

int leaf_kill(const char *path, int wait_ms, struct proc_id *ret_left)
{
	const char *name;
	int dir, n;

	*ret_left = (struct proc_id){ 0 };
	if (path[0] == '\0' || (dir = parent(path, &name)) < 0)
		return 0;
	n = cgroup_kill_in(dir, name, wait_ms, ret_left);
	close(dir);
	return n > 0 ? n : 0;
}

int leaf_remove(const char *path, int wait_ms)
{
	const char *name;
	int dir, rc;

	if (path[0] == '\0' || (dir = parent(path, &name)) < 0)
		return 0;
	for (;; wait_ms -= PAUSE_MS) {
		rc = unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
		if (rc != -EBUSY || wait_ms <= 0)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = PAUSE_MS * 1000000L }, NULL);
	}
	close(dir);
	return rc;
}
