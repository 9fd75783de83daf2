/* files.c - durable small files, directories, lock files; blocking, for start-up only */
#include "io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define HELD_MAX 256

/* Files written but not yet synced; their blocks are on the way already, so
 * that the first fsync finds all of them in one transaction of the journal.
 * (syncfs would wait for everybody else's gigabytes too.) */
static struct {
	bool on;
	size_t n;
	int fd[HELD_MAX];
} held;

static int sync_held(void)
{
	int r = 0;

	for (size_t i = 0; i < held.n; i++) {
		if (fsync(held.fd[i]) < 0)
			r = -errno;
		close(held.fd[i]);
	}
	held.n = 0;
	return r;
}

void files_defer_sync(void)
{
	held.on = true;
}

int files_sync(struct err *e)
{
	int r = sync_held();

	held.on = false;
	return r < 0 ? err_set(e, -r, "cannot sync what was written: %s", strerror(-r)) : 0;
}

/* Takes fd. */
static int sync_later(int fd)
{
	int r = held.n == HELD_MAX ? sync_held() : 0;

	(void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	held.fd[held.n++] = fd;
	return r;
}

static int sync_parent(const char *path, struct err *e)
{
	char copy[PATH_MAX];
	int fd, r = 0;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		r = err_set(e, errno, "cannot sync the directory of %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

static int write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

int file_save(const char *path, const void *data, size_t n, mode_t mode, struct err *e)
{
	char tmp[PATH_MAX];
	int fd, r;

	if (snprintf(tmp, sizeof(tmp), "%s.new", path) >= (int)sizeof(tmp))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", path);

	unlink(tmp); /* left by a crash */
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return err_set(e, errno, "cannot create %s: %s", tmp, strerror(errno));

	r = write_all(fd, data, n);
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (held.on && r == 0) {
		r = sync_later(fd);
	} else {
		if (r == 0 && fsync(fd) < 0)
			r = -errno;
		if (close(fd) < 0 && r == 0)
			r = -errno;
	}
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return err_set(e, -r, "cannot write %s: %s", path, strerror(-r));
	}
	return held.on ? 0 : sync_parent(path, e);
}

int dir_make(const char *path, mode_t mode, struct err *e)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return err_set(e, errno, "cannot create %s: %s", path, strerror(errno));

	if (stat(path, &st) < 0)
		return err_set(e, errno, "cannot look at %s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, ENOTDIR, "%s is not a directory", path);
	if (st.st_uid != geteuid() && geteuid() != 0)
		return err_set(e, EPERM, "%s belongs to uid %u, not to you (uid %u)", path,
			       (unsigned)st.st_uid, (unsigned)geteuid());
	/* Group-writable is what a umask of 002 makes of everybody's own directory. */
	if ((st.st_mode & S_IWOTH) != 0 && !(st.st_mode & S_ISVTX))
		return err_set(e, EPERM, "%s can be written by others (mode %04o); run: chmod o-w %s",
			       path, (unsigned)st.st_mode & 07777, path);
	return 0;
}

/* A directory on the way to ours. Root's umask may be 077, but whom the end
 * belongs to must be able to come there. */
static int make_way(const char *path)
{
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -1;
	return geteuid() == 0 ? chmod(path, 0755) : 0;
}

int dir_make_all(const char *path, mode_t mode, struct err *e)
{
	char part[PATH_MAX];
	struct stat st;

	if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", path);

	for (char *p = strchr(part + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (stat(part, &st) < 0 && make_way(part) < 0)
			return err_set(e, errno, "cannot create %s: %s", part, strerror(errno));
		*p = '/';
	}
	return dir_make(path, mode, e);
}

int file_lock(const char *path, pid_t *ret_pid, struct err *e)
{
	char text[32] = "";
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int n, saved;

	if (fd < 0)
		return err_set(e, errno, "cannot open %s: %s", path, strerror(errno));

	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		saved = errno;
		if (pread(fd, text, sizeof(text) - 1, 0) < 0)
			text[0] = '\0';
		close(fd);
		if (saved != EWOULDBLOCK)
			return err_set(e, saved, "cannot lock %s: %s", path, strerror(saved));
		*ret_pid = (pid_t)strtol(text, NULL, 10);
		return err_set(e, EBUSY, "%s is held by process %ld", path, (long)*ret_pid);
	}

	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n) {
		saved = errno ? errno : EIO;
		close(fd);
		return err_set(e, saved, "cannot write %s: %s", path, strerror(saved));
	}
	return fd;
}

/* ---- links -------------------------------------------------------------- */

int file_link(const char *target, const char *dir, const char *name, struct err *e)
{
	char path[PATH_MAX], now[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
	n = readlink(path, now, sizeof(now) - 1);
	if (n > 0 && (size_t)n == strlen(target) && memcmp(now, target, (size_t)n) == 0)
		return 0;
	/* A link can be made anew; what else bears the name may be somebody's, a socket in use too. */
	if (lstat(path, &st) == 0 && !S_ISLNK(st.st_mode))
		return err_set(e, EEXIST, "%s is in the way: it is not a symbolic link", path);
	if ((unlink(path) < 0 && errno != ENOENT) || symlink(target, path) < 0)
		return err_set(e, errno, "cannot make %s: %s", path, strerror(errno));
	return 0;
}
