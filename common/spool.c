/* spool.c - see spool.h */
#include "common/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_MODE 0750
#define FILE_MODE 0640
#define OPEN_FILE (O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC)

struct spool {
	int dir;
	uid_t uid;
	gid_t gid;
	bool chown;
	uint32_t rank_base;
	char name[SPOOL_NAME_MAX];
};

void spool_name(char out[SPOOL_NAME_MAX], uint64_t job, uint32_t attempt)
{
	snprintf(out, SPOOL_NAME_MAX, "%" PRIu64 ".%" PRIu32, job, attempt);
}

int spool_open(const char *path, gid_t group, struct err *e)
{
	bool grouped = group != (gid_t)-1, made = mkdir(path, grouped ? 0700 : 0755) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return err_set(e, errno, "cannot make the spool directory %s: %s", path,
			       strerror(errno));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, errno, "cannot open the spool directory %s: %s", path,
			       strerror(errno));
	if (made && grouped && (fchown(fd, (uid_t)-1, group) < 0 || fchmod(fd, DIR_MODE) < 0)) {
		err_set(e, errno, "cannot give the spool directory %s to group %u: %s", path,
			(unsigned)group, strerror(errno));
		close(fd);
		return e ? e->code : -EPERM;
	}
	return fd;
}

#define PATH_ROOM 256

/* For a sentence: where the directory lies, and what to do when it is full. */
static const char *dir_path(int fd, char out[PATH_ROOM])
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, out, PATH_ROOM - 1);
	snprintf(out + (n > 0 ? n : 0), n > 0 ? 1 : PATH_ROOM, "%s", n > 0 ? "" : "the spool");
	return out;
}

static const char *remedy(int error)
{
	if (error == ENOSPC || error == EDQUOT)
		return "; remove files there (df and df -i tell whether bytes or files are used up)";
	return "";
}

/* mkdir, then open: whoever may write above could have put another directory
 * there in between, so its owner is checked. */
static int make_dir(struct spool *s, int spool_dirfd, struct err *e)
{
	char path[PATH_ROOM];
	struct stat st;
	int r;

	if (mkdirat(spool_dirfd, s->name, 0700) < 0) {
		r = errno;
		return err_set(e, r, "cannot make %s/%s, for the job's output: %s%s",
			       dir_path(spool_dirfd, path), s->name, strerror(r), remedy(r));
	}

	s->dir = openat(spool_dirfd, s->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->dir < 0 || fstat(s->dir, &st) < 0)
		return err_set(e, errno, "cannot open spool directory %s: %s", s->name,
			       strerror(errno));
	if (st.st_uid != geteuid())
		return err_set(e, EPERM, "spool directory %s belongs to somebody else", s->name);
	if (s->chown && fchown(s->dir, (uid_t)-1, s->gid) < 0)
		return err_set(e, errno, "cannot give spool directory %s to group %u: %s", s->name,
			       (unsigned)s->gid, strerror(errno));
	if (fchmod(s->dir, DIR_MODE) < 0)
		return err_set(e, errno, "cannot set the mode of spool directory %s: %s", s->name,
			       strerror(errno));
	return 0;
}

static int make_file(const struct spool *s, const char *name, int flags, int *ret_fd, struct err *e)
{
	int fd = openat(s->dir, name, OPEN_FILE | flags, FILE_MODE);

	if (fd < 0) {
		char path[PATH_ROOM];
		int r = errno;

		return err_set(e, r, "cannot make %s/%s, for the job's output: %s%s",
			       dir_path(s->dir, path), name, strerror(r), remedy(r));
	}
	/* by descriptor, after O_EXCL: it is ours whatever the name means now */
	if ((s->chown && fchown(fd, s->uid, s->gid) < 0) || fchmod(fd, FILE_MODE) < 0) {
		err_set(e, errno, "cannot hand spool file %s/%s to uid %u: %s", s->name, name,
			(unsigned)s->uid, strerror(errno));
		close(fd);
		unlinkat(s->dir, name, 0);
		return e ? e->code : -EPERM;
	}

	*ret_fd = fd;
	return 0;
}

static void output_name(char out[SPOOL_NAME_MAX], uint32_t rank, uint32_t stream)
{
	snprintf(out, SPOOL_NAME_MAX, "%" PRIu32 "%s", rank, stream ? ".err" : ".out");
}

static int make_one(int dir_fd, const char *name, int flags)
{
	struct spool s = { .dir = dir_fd };
	struct err e;
	int fd = -1, r = make_file(&s, name, flags, &fd, &e);

	return r < 0 ? r : fd;
}

int spool_stream(int dir_fd, uint32_t rank, uint32_t stream)
{
	char name[SPOOL_NAME_MAX];

	output_name(name, rank, stream);
	return make_one(dir_fd, name, O_APPEND);
}

int spool_stamps(int dir_fd)
{
	return make_one(dir_fd, "stamps", O_APPEND);
}

int spool_status(int dir_fd)
{
	return make_one(dir_fd, "status", 0);
}

static int make_files(const struct spool *s, uint32_t n, int *fds, uint32_t *ret_made,
		      struct err *e)
{
	char name[SPOOL_NAME_MAX];
	int r;

	for (uint32_t i = 0; i < n; i++) {
		output_name(name, s->rank_base + i / 2, i % 2);
		r = make_file(s, name, O_APPEND, &fds[i], e);
		if (r < 0)
			return r;
		*ret_made = i + 1;
	}
	return 0;
}

static void unmake(const struct spool *s, int spool_dirfd, const int *fds, uint32_t made)
{
	char name[SPOOL_NAME_MAX];

	for (uint32_t i = 0; i < made; i++) {
		output_name(name, s->rank_base + i / 2, i % 2);
		unlinkat(s->dir, name, 0);
		close(fds[i]);
	}
	unlinkat(s->dir, "status", 0);
	unlinkat(s->dir, "stamps", 0);
	close(s->dir);
	unlinkat(spool_dirfd, s->name, AT_REMOVEDIR);
}

int spool_aside(int spool_dirfd, uint64_t job, uint32_t attempt, int64_t wall_ms, struct err *e)
{
	char name[SPOOL_NAME_MAX], aside[SPOOL_NAME_MAX + 32];

	spool_name(name, job, attempt);
	snprintf(aside, sizeof(aside), "%s.old-%" PRId64, name, wall_ms);
	if (renameat(spool_dirfd, name, spool_dirfd, aside) == 0)
		return 0;
	return err_set(e, errno, "cannot move the spool directory %s aside: %s", name,
		       strerror(errno));
}

int spool_begin(int spool_dirfd, uint64_t job, uint32_t attempt, int *ret_dir_fd, struct err *e)
{
	struct spool s = { .dir = -1, .uid = geteuid() };
	struct err own = { 0 };
	int r;

	e = e ? e : &own;
	spool_name(s.name, job, attempt);
	r = make_dir(&s, spool_dirfd, e);
	if (r == 0)
		*ret_dir_fd = s.dir;
	else if (r != -EEXIST && s.dir >= 0)
		unmake(&s, spool_dirfd, NULL, 0);
	return r;
}

int spool_make(int spool_dirfd, uint64_t job, uint32_t attempt, uint32_t rank_base, uint32_t nprocs,
	       uid_t uid, gid_t gid, int *ret_status_fd, int *ret_stamps_fd, int *fds, struct err *e)
{
	struct spool s = { .dir = -1, .uid = uid, .gid = gid, .rank_base = rank_base };
	int status = -1, stamps = -1, r;
	uint32_t made = 0;
	struct err own = { 0 };

	e = e ? e : &own;
	s.chown = uid != geteuid() || gid != getegid(); /* root's own job, too: the group reads it */
	spool_name(s.name, job, attempt);
	r = make_dir(&s, spool_dirfd, e);
	if (r < 0) {
		if (r != -EEXIST && s.dir >= 0)
			unmake(&s, spool_dirfd, fds, 0);
		return r;
	}

	r = make_file(&s, "status", 0, &status, e);
	if (r == 0)
		r = make_file(&s, "stamps", O_APPEND, &stamps, e);
	if (r == 0)
		r = make_files(&s, 2 * nprocs, fds, &made, e);
	if (r < 0) {
		if (status >= 0)
			close(status);
		if (stamps >= 0)
			close(stamps);
		unmake(&s, spool_dirfd, fds, made);
		return r;
	}

	close(s.dir);
	*ret_status_fd = status;
	*ret_stamps_fd = stamps;
	return 0;
}

/* ---- the end ------------------------------------------------------------- */

/* A decimal number without leading zeroes up to 'max' and the character after it. */
static const char *number(const char *p, uint64_t max, char after, uint64_t *ret)
{
	uint64_t v = 0;
	const char *begin = p;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (v > (max - (uint64_t)(*p - '0')) / 10)
			return NULL;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	if (p == begin || (*begin == '0' && p > begin + 1) || (*p != after && *p != '\0'))
		return NULL;
	*ret = v;
	return p;
}

enum spool_kind spool_parse_name(const char *name, uint64_t *ret_job, uint32_t *ret_attempt)
{
	uint64_t job, attempt, ms;
	const char *p = number(name, UINT64_MAX, '.', &job);

	if (p == NULL || *p++ != '.' || (p = number(p, UINT32_MAX, '.', &attempt)) == NULL)
		return SPOOL_NONE;
	*ret_job = job;
	*ret_attempt = (uint32_t)attempt;
	if (*p == '\0')
		return SPOOL_ATTEMPT;
	if (strcmp(p, ".gone") == 0)
		return SPOOL_GONE;
	if (strncmp(p, ".old-", 5) == 0 && (p = number(p + 5, INT64_MAX, '\0', &ms)) != NULL && *p == '\0')
		return SPOOL_ASIDE;
	return SPOOL_NONE;
}

/* Of a directory, by descriptor; a name that is a directory stays, and what is above it, too. */
static int remove_names(int dir, struct err *e)
{
	DIR *d = fdopendir(dir);
	struct dirent *de;

	if (d == NULL) {
		close(dir);
		return err_set(e, errno, "cannot list a spool directory: %s", strerror(errno));
	}
	while ((de = readdir(d)) != NULL)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			unlinkat(dirfd(d), de->d_name, 0);
	closedir(d);
	return 0;
}

static int remove_dir(int spool_dirfd, const char *name, struct err *e)
{
	int dir = openat(spool_dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;
	struct stat st;

	if (dir < 0 && errno == ENOENT)
		return 0;
	if (dir < 0 || fstat(dir, &st) < 0 || st.st_uid != geteuid()) {
		r = dir < 0 ? errno : EPERM;
		if (dir >= 0)
			close(dir);
		return err_set(e, r, "cannot remove the spool directory %s: %s", name, strerror(r));
	}
	r = remove_names(dir, e);
	if (r == 0 && unlinkat(spool_dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = err_set(e, errno, "cannot remove the spool directory %s: %s", name, strerror(errno));
	return r;
}

/* Not while the directory is read: what is renamed meanwhile might come again. */
static int next_of(int spool_dirfd, uint64_t job, uint32_t attempt, char out[256])
{
	int fd = openat(spool_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	uint64_t j;
	uint32_t a;

	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while (!found && (de = readdir(d)) != NULL)
		if (spool_parse_name(de->d_name, &j, &a) >= SPOOL_ASIDE && j == job && a == attempt)
			found = snprintf(out, 256, "%s", de->d_name);
	closedir(d);
	return found;
}

int spool_remove(int spool_dirfd, uint64_t job, uint32_t attempt, enum spool_kind kind, struct err *e)
{
	char name[SPOOL_NAME_MAX], gone[SPOOL_NAME_MAX + 8], other[256];
	int r = 0;

	if (kind != SPOOL_ATTEMPT) {
		while (r == 0 && next_of(spool_dirfd, job, attempt, other))
			r = remove_dir(spool_dirfd, other, e);
		return r;
	}
	spool_name(name, job, attempt);
	snprintf(gone, sizeof(gone), "%s.gone", name);
	r = remove_dir(spool_dirfd, gone, e); /* of a removal that was interrupted */
	/* its name is free at once: whoever makes a new one gets a directory of his own */
	if (r == 0 && renameat(spool_dirfd, name, spool_dirfd, gone) < 0 && errno != ENOENT)
		r = err_set(e, errno, "cannot remove the spool directory %s: %s", name, strerror(errno));
	return r == 0 ? remove_dir(spool_dirfd, gone, e) : r;
}
