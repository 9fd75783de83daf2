/* sm.c - see sm.h. Debian and upstream name the unit opensm, MLNX_OFED and DOCA opensmd.
 *
 * Debian's and Ubuntu's opensm.service has ended when all is well: it starts an
 * opensm@GUID.service for each port, and these are in the slice of their template.
 */
#include "hw/sm.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = { "opensm", "opensmd" };

static bool there(const char *dir, const char *name, const char *suffix)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix) < (int)sizeof path &&
	       faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The kernel's file of a group with processes is not empty, though its size is 0. */
static bool has_process(const char *group)
{
	char path[PATH_MAX], c;
	bool some;
	int fd;

	if (snprintf(path, sizeof path, "%s/cgroup.procs", group) >= (int)sizeof path)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	some = read(fd, &c, 1) == 1;
	close(fd);
	return some;
}

static bool runs(const char *cgroup, const char *name)
{
	char path[PATH_MAX / 2], one[PATH_MAX];
	size_t len = strlen(name);
	bool yes;
	DIR *d;

	snprintf(path, sizeof path, "%s/system.slice/%s.service", cgroup, name);
	yes = has_process(path);
	snprintf(path, sizeof path, "%s/system.slice/system-%s.slice", cgroup, name);
	d = yes ? NULL : opendir(path);
	for (struct dirent *e; d != NULL && !yes && (e = readdir(d)) != NULL;) {
		if (strncmp(e->d_name, name, len) != 0 || e->d_name[len] != '@')
			continue;
		yes = snprintf(one, sizeof one, "%s/%s", path, e->d_name) < (int)sizeof one && has_process(one);
	}
	if (d != NULL)
		closedir(d);
	return yes;
}

/* A link NAME.service in any TARGET.wants or TARGET.requires. */
static bool enabled(const char *dir, const char *name)
{
	DIR *d = opendir(dir);
	char path[PATH_MAX];
	bool yes = false;

	for (struct dirent *e; d != NULL && !yes && (e = readdir(d)) != NULL;) {
		const char *dot = strrchr(e->d_name, '.');

		if (!dot || (strcmp(dot, ".wants") != 0 && strcmp(dot, ".requires") != 0))
			continue;
		snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		yes = there(path, name, ".service");
	}
	if (d != NULL)
		closedir(d);
	return yes;
}

void sm_read(const char *sysfs, struct hw_host *h)
{
	char own[PATH_MAX], v2[PATH_MAX], v1[PATH_MAX];
	const char *const system[] = { "/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system", NULL };
	const char *const tests[] = { own, NULL };
	const char *const *dirs = sysfs ? tests : system;

	snprintf(own, sizeof own, "%s/systemd", sysfs ? sysfs : "");
	snprintf(v2, sizeof v2, "%s/fs/cgroup", sysfs ? sysfs : "/sys");
	snprintf(v1, sizeof v1, "%s/fs/cgroup/systemd", sysfs ? sysfs : "/sys");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		bool found = false;

		for (size_t k = 0; dirs[k] != NULL; k++)
			found = found || there(dirs[k], names[i], ".service");
		if (!found)
			continue;
		if (h->sm != NULL && h->sm_running)
			return; /* both are installed: the one that runs */
		h->sm = names[i];
		h->sm_running = runs(v2, names[i]) || runs(v1, names[i]);
		h->sm_enabled = false;
		for (size_t k = 0; dirs[k] != NULL; k++)
			h->sm_enabled = h->sm_enabled || enabled(dirs[k], names[i]);
	}
}
