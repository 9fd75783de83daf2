/* oom.c - see oom.h */
#include "shim/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNLIMITED (UINT64_C(1) << 60) /* v1 writes a number near 2^63 */

static bool read_text(const char *root, const char *path, char *out, size_t size)
{
	char full[1024];
	size_t len = 0;
	ssize_t n;
	int fd;

	if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
		return false;
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	while (len < size - 1 && (n = read(fd, out + len, size - 1 - len)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		len += (size_t)n;
	}
	close(fd);
	out[len] = '\0';
	return len > 0;
}

bool oom_count(const char *text, uint64_t *ret)
{
	static const char key[] = "oom_kill ";

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (strncmp(p, key, sizeof key - 1) != 0)
			continue;
		errno = 0;
		*ret = strtoull(p + sizeof key - 1, NULL, 10);
		return errno == 0 && p[sizeof key - 1] >= '0' && p[sizeof key - 1] <= '9';
	}
	return false;
}

/* "4:cpuset,memory:/PATH" has the controller's name between the colons. */
static bool has_memory(const char *from, const char *to)
{
	while (from < to) {
		size_t n = strcspn(from, ",:");

		if (n == 6 && memcmp(from, "memory", 6) == 0)
			return true;
		from += n + 1;
	}
	return false;
}

bool oom_own_cgroup(const char *text, char *out, size_t size, bool *ret_v1)
{
	bool found = false;

	*ret_v1 = false;
	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		const char *names = strchr(p, ':'), *path = names ? strchr(names + 1, ':') : NULL;
		size_t len;
		bool v1;

		if (!path || strcspn(p, "\n") < (size_t)(path - p))
			continue;
		v1 = has_memory(names + 1, path);
		len = strcspn(++path, "\n");
		if ((!v1 && path - names > 2) || (found && !v1) || *path != '/' || len >= size)
			continue;
		snprintf(out, size, "%.*s", (int)len, path);
		*ret_v1 = v1;
		found = strstr(out, "/../") == NULL;
	}
	return found;
}

/* Upwards from our cgroup to the first one that has the file. */
static bool find_up(const char *root, const char *mount, const char *cgroup, const char *file, char *out,
		    size_t size, char *text, size_t text_size)
{
	char path[400];
	char *slash;

	snprintf(path, sizeof path, "%s", cgroup);
	for (;;) {
		if (snprintf(out, size, "%s%s/%s", mount, strcmp(path, "/") == 0 ? "" : path, file) < (int)size &&
		    read_text(root, out, text, text_size))
			return true;
		slash = strrchr(path, '/');
		if (!slash || path[0] == '\0')
			return false;
		*slash = '\0';
	}
}

/* The nearest one; those above may be tighter, but this one is the job's own. */
static uint64_t find_limit(const char *root, const char *mount, const char *cgroup, bool v1)
{
	char path[400], file[512], text[64];
	char *slash;

	snprintf(path, sizeof path, "%s", cgroup);
	for (;;) {
		uint64_t v = 0;

		snprintf(file, sizeof file, "%s%s/%s", mount, strcmp(path, "/") == 0 ? "" : path,
			 v1 ? "memory.limit_in_bytes" : "memory.max");
		if (read_text(root, file, text, sizeof text) && text[0] != 'm')
			v = strtoull(text, NULL, 10);
		if (v > 0 && v < UNLIMITED)
			return v;
		slash = strrchr(path, '/');
		if (!slash || path[0] == '\0')
			return 0;
		*slash = '\0';
	}
}

static bool host_count(const char *root, uint64_t *ret)
{
	char text[16384];

	return read_text(root, "/proc/vmstat", text, sizeof text) && oom_count(text, ret);
}

static bool cgroup_count(const struct oom *o, const char *root, uint64_t *ret)
{
	char text[1024];

	return o->events[0] && read_text(root, o->events, text, sizeof text) && oom_count(text, ret);
}

void oom_look(struct oom *o, const char *root)
{
	o->host_known = host_count(root, &o->host);
	o->cgroup_known = cgroup_count(o, root, &o->cgroup);
}

void oom_begin(struct oom *o, const char *root)
{
	static const char *const mounts[][2] = { { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" },
						 { "/sys/fs/cgroup/memory", NULL } };
	char text[4096], own[400], found[1024];
	bool v1;

	memset(o, 0, sizeof *o);
	if (read_text(root, "/proc/self/cgroup", text, sizeof text) &&
	    oom_own_cgroup(text, own, sizeof own, &v1))
		for (int i = 0; i < 2 && mounts[v1][i] && !o->events[0]; i++) {
			if (!find_up(root, mounts[v1][i], own, v1 ? "memory.oom_control" : "memory.events",
				     o->events, sizeof o->events, found, sizeof found))
				o->events[0] = '\0';
			else
				o->limit = find_limit(root, mounts[v1][i], own, v1);
		}
	oom_look(o, root);
}

static void say_limit(const struct oom *o, char *out, size_t size)
{
	out[0] = '\0';
	if (o->limit >= UINT64_C(10) << 30)
		snprintf(out, size, " (its limit is %" PRIu64 " GiB)", o->limit >> 30);
	else if (o->limit > 0)
		snprintf(out, size, " (its limit is %" PRIu64 " MiB)", o->limit >> 20);
}

bool oom_say(const struct oom *o, const char *root, bool killed, char *out, size_t size)
{
	uint64_t host = 0, cgroup = 0;
	bool host_known = host_count(root, &host) && o->host_known;
	char limit[64];

	say_limit(o, limit, sizeof limit);
	if (cgroup_count(o, root, &cgroup) && o->cgroup_known && cgroup > o->cgroup)
		snprintf(out, size, killed ? "by the kernel's OOM killer, for its cgroup was out of memory%s" :
					     "the kernel's OOM killer has ended a process of its cgroup%s", limit);
	else if (!killed)
		return false;
	else if (host_known && host > o->host)
		snprintf(out, size, "perhaps by the kernel's OOM killer, which has struck on this host meanwhile");
	else if (host_known)
		snprintf(out, size, "sent by neither nodeagent nor the kernel's OOM killer");
	else
		snprintf(out, size, "not sent by nodeagent; whether by the kernel's OOM killer is not known");
	return true;
}
