/* specs.c - see specs.h
 *
 * One work item a request does everything that may block or takes long: hash,
 * write, sync. A file's name is its hash and every reader checks it, so it is
 * renamed into place first and synced after: one sync instead of two, and a
 * file that a crash left torn counts as absent.
 */
#include "io/specs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/list.h"
#include "io/tls.h"
#include "proto/spec.h"

#define RECENT_MAX 8 /* blobs kept for the launch that follows a submit within seconds */
#define RECENT_MS 5000
#define KEEP_S (7 * 86400)

enum order { ORDER_STORE, ORDER_LOAD, ORDER_VERIFY, ORDER_PRUNE };

struct order_item {
	uv_work_t req;
	struct specs *specs;
	enum order order;
	uint8_t hash[32];
	char *p;
	size_t n;
	unsigned seq;
	int rc;
	struct err e;
	specs_cb cb;
	void *arg;
};

struct specs {
	uv_loop_t *loop;
	int dir;
	char path[512];
	unsigned seq;
	struct spec_blob *recent[RECENT_MAX];
	unsigned next;
	uv_timer_t forget;
};

struct spec_blob *spec_ref(struct spec_blob *b)
{
	b->refs++;
	return b;
}

void spec_unref(struct spec_blob *b)
{
	if (b == NULL || --b->refs > 0)
		return;
	free(b->p);
	free(b);
}

/* ---- on the thread pool ---------------------------------------------- */

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

static int load(struct order_item *o)
{
	uint8_t have[32];
	char name[65];
	int fd, rc;

	hex_encode(name, o->hash, 32);
	fd = openat(o->specs->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(&o->e, errno, "%s/%s: %s", o->specs->path, name, strerror(errno));
	rc = read_all(fd, &o->p, &o->n);
	close(fd);
	if (rc != 0)
		return err_set(&o->e, rc, "%s/%s: %s", o->specs->path, name, strerror(-rc));
	tls_sha256(o->p, o->n, have);
	if (memcmp(have, o->hash, 32) == 0)
		return 0;
	free(o->p);
	o->p = NULL;
	return err_set(&o->e, ENOENT, "%s/%s: damaged (its hash is another)", o->specs->path, name);
}

/* Submitted before and whole? Then only its age is renewed. */
static bool stored_already(struct order_item *o, const char *name)
{
	struct order_item probe = { .specs = o->specs };

	memcpy(probe.hash, o->hash, 32);
	if (load(&probe) != 0)
		return false;
	free(probe.p);
	return utimensat(o->specs->dir, name, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

static int store(struct order_item *o)
{
	char name[65], tmp[96];
	int fd, rc, dir = o->specs->dir;

	tls_sha256(o->p, o->n, o->hash);
	hex_encode(name, o->hash, 32);
	if (stored_already(o, name))
		return 0;
	snprintf(tmp, sizeof(tmp), "%s.%ld.%u.tmp", name, (long)getpid(), o->seq);
	fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(&o->e, errno, "cannot store the specification: %s/%s: %s", o->specs->path,
			       tmp, strerror(errno));
	rc = write_all(fd, o->p, o->n);
	if (rc == 0 && renameat(dir, tmp, dir, name) != 0)
		rc = -errno;
	if (rc == 0 && fsync(fd) != 0)
		rc = -errno;
	close(fd);
	if (rc != 0) {
		unlinkat(dir, tmp, 0);
		return err_set(&o->e, rc, "cannot store the specification in %s: %s", o->specs->path,
			       strerror(-rc));
	}
	return 0;
}

static int verify(struct order_item *o)
{
	uint8_t have[32];

	tls_sha256(o->p, o->n, have);
	if (memcmp(have, o->hash, 32) == 0)
		return 0;
	return err_set(&o->e, EBADMSG, "the specification's hash is wrong");
}

static int prune(struct order_item *o)
{
	int fd = dup(o->specs->dir);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	time_t old = time(NULL) - KEEP_S;
	struct dirent *de;
	struct stat st;

	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((de = readdir(d)) != NULL)
		if (de->d_name[0] != '.' &&
		    fstatat(o->specs->dir, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode) && st.st_mtime < old)
			unlinkat(o->specs->dir, de->d_name, 0);
	closedir(d);
	return 0;
}

static void work(uv_work_t *req)
{
	struct order_item *o = list_entry(req, struct order_item, req);

	switch (o->order) {
	case ORDER_STORE:
		o->rc = store(o);
		break;
	case ORDER_LOAD:
		o->rc = load(o);
		break;
	case ORDER_VERIFY:
		o->rc = verify(o);
		break;
	case ORDER_PRUNE:
		o->rc = prune(o);
		break;
	}
}

/* ---- on the loop ------------------------------------------------------ */

static void forget(uv_timer_t *t)
{
	struct specs *s = t->data;

	for (unsigned i = 0; i < RECENT_MAX; i++) {
		spec_unref(s->recent[i]);
		s->recent[i] = NULL;
	}
}

static void remember(struct specs *s, struct spec_blob *b)
{
	struct spec_blob **slot = &s->recent[s->next++ % RECENT_MAX];

	spec_unref(*slot);
	*slot = spec_ref(b);
	uv_timer_start(&s->forget, forget, RECENT_MS, 0);
}

static struct spec_blob *recent(struct specs *s, const uint8_t hash[32])
{
	for (unsigned i = 0; i < RECENT_MAX; i++)
		if (s->recent[i] != NULL && memcmp(s->recent[i]->hash, hash, 32) == 0)
			return s->recent[i];
	return NULL;
}

static struct spec_blob *blob_of(struct order_item *o)
{
	struct spec_blob *b = o->p != NULL ? calloc(1, sizeof(*b)) : NULL;

	if (b == NULL)
		return NULL;
	b->refs = 1;
	memcpy(b->hash, o->hash, 32);
	b->p = o->p;
	b->n = o->n;
	o->p = NULL;
	return b;
}

static void after(uv_work_t *req, int status)
{
	struct order_item *o = list_entry(req, struct order_item, req);
	struct spec_blob *b = NULL;

	if (o->order == ORDER_PRUNE) {
		free(o);
		return;
	}
	if (o->rc == 0 && (b = recent(o->specs, o->hash)) != NULL)
		spec_ref(b);
	else if (o->rc == 0 && (b = blob_of(o)) != NULL)
		remember(o->specs, b);
	if (o->rc == 0 && b == NULL)
		o->rc = err_set(&o->e, ENOMEM, "out of memory");
	o->cb(o->arg, o->rc, b, o->rc != 0 ? o->e.text : NULL);
	spec_unref(b);
	free(o->p);
	free(o);
}

/* Takes p. Without memory for the order the caller is told from inside its own
 * call: all callers can bear that. */
static void order(struct specs *s, enum order what, char *p, size_t n, const uint8_t *hash,
		  specs_cb cb, void *arg)
{
	struct order_item *o = calloc(1, sizeof(*o));

	if (o == NULL) {
		free(p);
		if (cb != NULL)
			cb(arg, -ENOMEM, NULL, "out of memory");
		return;
	}
	o->specs = s;
	o->order = what;
	o->p = p;
	o->n = n;
	o->seq = ++s->seq;
	o->cb = cb;
	o->arg = arg;
	if (hash != NULL)
		memcpy(o->hash, hash, 32);
	uv_queue_work(s->loop, &o->req, work, after);
}

void specs_store(struct specs *s, char *p, size_t n, specs_cb cb, void *arg)
{
	order(s, ORDER_STORE, p, n, NULL, cb, arg);
}

void specs_verify(struct specs *s, char *p, size_t n, const uint8_t hash[32], specs_cb cb, void *arg)
{
	order(s, ORDER_VERIFY, p, n, hash, cb, arg);
}

void specs_load(struct specs *s, const uint8_t hash[32], specs_cb cb, void *arg)
{
	struct spec_blob *b = recent(s, hash);

	if (b == NULL) {
		order(s, ORDER_LOAD, NULL, 0, hash, cb, arg);
		return;
	}
	spec_ref(b); /* the callback may bring new ones in */
	cb(arg, 0, b, NULL);
	spec_unref(b);
}

int specs_create(uv_loop_t *loop, const char *state_dir, struct specs **ret, struct err *e)
{
	struct specs *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return err_set(e, ENOMEM, "out of memory");
	s->loop = loop;
	snprintf(s->path, sizeof(s->path), "%s/specs", state_dir);
	if (mkdir(s->path, 0700) != 0 && errno != EEXIST) {
		rc = err_set(e, errno, "%s: %s", s->path, strerror(errno));
		free(s);
		return rc;
	}
	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->dir < 0) {
		rc = err_set(e, errno, "%s: %s", s->path, strerror(errno));
		free(s);
		return rc;
	}
	uv_timer_init(loop, &s->forget);
	uv_unref((uv_handle_t *)&s->forget);
	s->forget.data = s;
	*ret = s;
	order(s, ORDER_PRUNE, NULL, 0, NULL, NULL, NULL);
	return 0;
}

void specs_destroy(struct specs *s)
{
	if (s == NULL)
		return;
	forget(&s->forget);
	close(s->dir);
	free(s);
}
