/* specs_disk.c - see specs_disk.h
 *
 * A file's name is its hash and its owner's uid, HASH.UID (HASH alone: stored
 * by 0.1, nobody's). Every reader checks the hash, so a file is renamed into
 * place first and synced after: one sync instead of two, and a file that a
 * crash left torn counts as absent.
 *
 * What lies there is also kept in memory: the limits are checked, and room is
 * reserved, before anything is written. One who stores what is there already
 * is charged nothing: it stays its first owner's.
 */
#include "io/specs_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <uv.h>

#include "common/base64.h"
#include "common/list.h"
#include "io/tls.h"
#include "proto/spec.h"

#define BLOCK 4096u /* a small file takes as much */
#define NOBODY UINT32_MAX
#define TMP_S 3600
#define NAME_SIZE 80 /* 64 digits, a dot, a uid */

struct kept {
	struct list at;
	uint8_t hash[32];
	uint32_t uid;
	uint64_t charge;
	int64_t stored_wall_s;
	uint64_t seq; /* of the youngest order that stored it */
	unsigned holds;
	bool on_disk; /* else: being written */
};

struct specs_disk {
	int fd;
	char path[512];
	struct specs_limits limits;
	uv_mutex_t lock; /* guards the list, and unlink() against rename() */
	struct list kept;
	unsigned next_tmp;
};

/* ---- what lies there, in memory ----------------------------------------------- */

static uint64_t charge_of(uint64_t size)
{
	return size == 0 ? BLOCK : (size + BLOCK - 1) / BLOCK * BLOCK;
}

static void name_of(const struct kept *k, char out[NAME_SIZE])
{
	hex_encode(out, k->hash, 32);
	if (k->uid != NOBODY)
		snprintf(out + 64, NAME_SIZE - 64, ".%u", k->uid);
}

static struct kept *find(struct specs_disk *d, const uint8_t hash[32])
{
	list_foreach(e, &d->kept) {
		struct kept *k = list_entry(e, struct kept, at);

		if (memcmp(k->hash, hash, 32) == 0)
			return k;
	}
	return NULL;
}

static struct kept *kept_new(struct specs_disk *d, const uint8_t hash[32], uint32_t uid,
			     uint64_t size)
{
	struct kept *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return NULL;
	memcpy(k->hash, hash, 32);
	k->uid = uid;
	k->charge = charge_of(size);
	list_append(&d->kept, &k->at);
	return k;
}

static void kept_free(struct kept *k)
{
	list_remove(&k->at);
	free(k);
}

static double mib(uint64_t bytes)
{
	return (double)bytes / 1048576;
}

static int check_room(struct specs_disk *d, uint32_t uid, uint64_t charge, struct err *e)
{
	uint64_t all = charge, own = charge;

	list_foreach(l, &d->kept) {
		const struct kept *k = list_entry(l, struct kept, at);

		all += k->charge;
		own += k->uid == uid ? k->charge : 0;
	}
	if (own > d->limits.user)
		return err_set(e, EDQUOT,
			       "with this one the specifications of your unfinished jobs would take %.2f MiB, "
			       "and this node keeps %.2f MiB for a user (specs_user_max): wait until some of "
			       "your jobs have ended, or pass large values in files",
			       mib(own), mib(d->limits.user));
	if (all > d->limits.total)
		return err_set(e, EDQUOT,
			       "with this one the specifications of all users' unfinished jobs would take "
			       "%.2f MiB, and this node keeps %.2f MiB (specs_max): wait until some jobs have "
			       "ended, or ask the administrator for more",
			       mib(all), mib(d->limits.total));
	return 0;
}

/* ---- stock-taking ---------------------------------------------------------------- */

/* False: not one of ours (a temporary file, a stranger's). */
static bool parse_name(const char *name, struct kept *ret)
{
	char digits[65] = "", again[NAME_SIZE];

	memcpy(digits, name, strnlen(name, 64));
	if (hex_decode(digits, ret->hash, 32) != 0)
		return false;
	ret->uid = name[64] == '.' ? (uint32_t)strtoul(name + 65, NULL, 10) : NOBODY;
	name_of(ret, again);
	return strcmp(name, again) == 0;
}

static int take_one(struct specs_disk *d, const char *name)
{
	struct kept *k, said = { 0 };
	struct stat st;

	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    !S_ISREG(st.st_mode))
		return 0;
	if (!parse_name(name, &said) || find(d, said.hash) != NULL) {
		/* A crash may have left it; an agent that runs beside us by mistake has younger ones. */
		if (st.st_mtime < time(NULL) - TMP_S)
			unlinkat(d->fd, name, 0);
		return 0;
	}
	k = kept_new(d, said.hash, said.uid, (uint64_t)st.st_size);
	if (k == NULL)
		return -ENOMEM;
	k->on_disk = true;
	k->stored_wall_s = st.st_mtime;
	return 0;
}

static int take_stock(struct specs_disk *d)
{
	int fd = dup(d->fd), rc = 0;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (dir == NULL) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	rewinddir(dir);
	while (rc == 0 && (de = readdir(dir)) != NULL)
		rc = take_one(d, de->d_name);
	closedir(dir);
	return rc;
}

int specs_disk_open(const char *state_dir, const struct specs_limits *limits,
		    struct specs_disk **ret, struct err *e)
{
	struct specs_disk *d = calloc(1, sizeof(*d));
	int rc = 0;

	if (d == NULL)
		return err_set(e, ENOMEM, "out of memory");
	d->fd = -1;
	d->limits = *limits;
	list_init(&d->kept);
	uv_mutex_init(&d->lock);
	snprintf(d->path, sizeof(d->path), "%s/specs", state_dir);
	if (mkdir(d->path, 0700) != 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0 && (d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		rc = -errno;
	if (rc == 0)
		rc = take_stock(d);
	if (rc != 0) {
		err_set(e, -rc, "%s: %s", d->path, strerror(-rc));
		specs_disk_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

void specs_disk_close(struct specs_disk *d)
{
	if (d == NULL)
		return;
	list_foreach_safe(e, &d->kept)
		kept_free(list_entry(e, struct kept, at));
	if (d->fd >= 0)
		close(d->fd);
	uv_mutex_destroy(&d->lock);
	free(d);
}

void specs_disk_each(struct specs_disk *d, void (*f)(void *arg, const uint8_t hash[32]), void *arg)
{
	uv_mutex_lock(&d->lock);
	list_foreach(l, &d->kept) {
		const struct kept *k = list_entry(l, struct kept, at);

		if (k->on_disk)
			f(arg, k->hash);
	}
	uv_mutex_unlock(&d->lock);
}

/* ---- reading ------------------------------------------------------------------------ */

/* Reads a whole file of at most SPEC_MAX bytes. */
static int read_all(int fd, char **ret, size_t *ret_n)
{
	struct stat st;
	size_t n = 0;
	char *p;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)SPEC_MAX)
		return -EBADMSG;
	p = malloc((size_t)st.st_size + 1);
	if (p == NULL)
		return -ENOMEM;
	while (n < (size_t)st.st_size) {
		ssize_t r = read(fd, p + n, (size_t)st.st_size - n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	*ret = p;
	*ret_n = n;
	return 0;
}

static int read_named(struct specs_disk *d, const char *name, const uint8_t hash[32], char **ret,
		      size_t *ret_n, struct err *e)
{
	uint8_t have[32];
	int fd, rc;

	*ret = NULL;
	*ret_n = 0;
	fd = openat(d->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, errno, "%s/%s: %s", d->path, name, strerror(errno));
	rc = read_all(fd, ret, ret_n);
	close(fd);
	if (rc != 0)
		return err_set(e, -rc, "%s/%s: %s", d->path, name, strerror(-rc));
	tls_sha256(*ret, *ret_n, have);
	if (memcmp(have, hash, 32) == 0)
		return 0;
	free(*ret);
	*ret = NULL;
	return err_set(e, ENOENT, "%s/%s: damaged (its hash is another)", d->path, name);
}

int specs_disk_load(struct specs_disk *d, const uint8_t hash[32], char **ret, size_t *ret_n,
		    struct err *e)
{
	char name[NAME_SIZE];
	struct kept *k;

	uv_mutex_lock(&d->lock);
	k = find(d, hash);
	if (k != NULL)
		name_of(k, name);
	uv_mutex_unlock(&d->lock);
	if (k == NULL) {
		hex_encode(name, hash, 32);
		return err_set(e, ENOENT, "%s/%s: %s", d->path, name, strerror(ENOENT));
	}
	return read_named(d, name, hash, ret, ret_n, e);
}

/* ---- writing ------------------------------------------------------------------------- */

static int write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

/* Submitted before and whole? Then only its age is renewed. */
static bool stored_already(struct specs_disk *d, const char *name, const uint8_t hash[32])
{
	char *p = NULL;
	size_t n;

	if (read_named(d, name, hash, &p, &n, NULL) != 0)
		return false;
	free(p);
	return utimensat(d->fd, name, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

static int write_named(struct specs_disk *d, const char *name, unsigned tmp_no, const char *p,
		       size_t n, struct err *e)
{
	char tmp[NAME_SIZE + 40];
	int fd, rc;

	snprintf(tmp, sizeof(tmp), "%s.%ld.%u.tmp", name, (long)getpid(), tmp_no);
	fd = openat(d->fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, errno, "cannot store the specification: %s/%s: %s", d->path, tmp,
			       strerror(errno));
	rc = write_all(fd, p, n);
	if (rc == 0 && renameat(d->fd, tmp, d->fd, name) != 0)
		rc = -errno;
	if (rc == 0 && fsync(fd) != 0)
		rc = -errno;
	close(fd);
	if (rc == 0)
		return 0;
	unlinkat(d->fd, tmp, 0);
	return err_set(e, -rc, "cannot store the specification in %s: %s", d->path, strerror(-rc));
}

/* Room for it, and a hold. */
static int reserve(struct specs_disk *d, const uint8_t hash[32], size_t n, uint32_t uid,
		   uint64_t seq, char name[NAME_SIZE], unsigned *ret_tmp, struct err *e)
{
	struct kept *k;
	int rc = 0;

	uv_mutex_lock(&d->lock);
	k = find(d, hash);
	if (k == NULL) {
		rc = check_room(d, uid, charge_of(n), e);
		if (rc == 0 && (k = kept_new(d, hash, uid, n)) == NULL)
			rc = err_set(e, ENOMEM, "out of memory");
	}
	if (k != NULL) {
		k->charge = charge_of(n); /* it may have been torn */
		k->holds++;
		k->seq = seq > k->seq ? seq : k->seq;
		name_of(k, name);
		*ret_tmp = ++d->next_tmp;
	}
	uv_mutex_unlock(&d->lock);
	return rc;
}

static void written(struct specs_disk *d, const uint8_t hash[32], bool good)
{
	struct kept *k;

	uv_mutex_lock(&d->lock);
	k = find(d, hash); /* held, so it is there */
	if (good) {
		k->on_disk = true;
		k->stored_wall_s = time(NULL);
	} else if (--k->holds == 0 && !k->on_disk) {
		kept_free(k);
	}
	uv_mutex_unlock(&d->lock);
}

int specs_disk_store(struct specs_disk *d, const char *p, size_t n, uint32_t uid, uint64_t seq,
		     uint8_t ret_hash[32], struct err *e)
{
	char name[NAME_SIZE];
	unsigned tmp = 0;
	int rc;

	tls_sha256(p, n, ret_hash);
	rc = reserve(d, ret_hash, n, uid, seq, name, &tmp, e);
	if (rc != 0)
		return rc;
	if (!stored_already(d, name, ret_hash))
		rc = write_named(d, name, tmp, p, n, e);
	written(d, ret_hash, rc == 0);
	return rc;
}

/* ---- removing --------------------------------------------------------------------------- */

void specs_disk_release(struct specs_disk *d, const uint8_t hash[32])
{
	struct kept *k;

	uv_mutex_lock(&d->lock);
	k = find(d, hash);
	if (k != NULL && k->holds > 0)
		k->holds--;
	uv_mutex_unlock(&d->lock);
}

/* Under the lock: nobody renames a new one into its place meanwhile. */
static void drop(struct specs_disk *d, struct kept *k, uint64_t seq)
{
	char name[NAME_SIZE];

	if (k->holds > 0 || k->seq > seq)
		return;
	name_of(k, name);
	unlinkat(d->fd, name, 0);
	kept_free(k);
}

void specs_disk_drop(struct specs_disk *d, const uint8_t hash[32], uint64_t seq)
{
	struct kept *k;

	uv_mutex_lock(&d->lock);
	k = find(d, hash);
	if (k != NULL)
		drop(d, k, seq);
	uv_mutex_unlock(&d->lock);
}

static bool among(uint8_t (*v)[32], size_t n, const uint8_t hash[32])
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(v[i], hash, 32) == 0)
			return true;
	return false;
}

void specs_disk_keep_only(struct specs_disk *d, uint8_t (*wanted)[32], size_t n, uint64_t seq)
{
	uv_mutex_lock(&d->lock);
	list_foreach_safe(e, &d->kept) {
		struct kept *k = list_entry(e, struct kept, at);

		if (!among(wanted, n, k->hash))
			drop(d, k, seq);
	}
	uv_mutex_unlock(&d->lock);
}

void specs_disk_drop_old(struct specs_disk *d, int64_t before_wall_s, uint64_t seq)
{
	uv_mutex_lock(&d->lock);
	list_foreach_safe(e, &d->kept) {
		struct kept *k = list_entry(e, struct kept, at);

		if (k->stored_wall_s < before_wall_s)
			drop(d, k, seq);
	}
	uv_mutex_unlock(&d->lock);
}
