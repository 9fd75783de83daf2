/* mounts.c - see mounts.h */
#include "hw/mounts.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STACK 131072
#define FIRST_WAIT_MS 100 /* local ones answer at once: the first reading knows them */

int (*mounts_statvfs)(const char *path, struct statvfs *ret) = statvfs;

/* Between us and the thread that asks; whoever comes last frees it. */
struct question {
	char path[129];
	struct statvfs answer;
	int error;
	atomic_bool done;
	atomic_int owners;
};

struct mount {
	struct mount_entry e;
	struct question *q; /* under way; NULL */
	mono_t asked;
	bool known, listed, read_only;
	int error;
	uint64_t total, available, inodes, inodes_free;
};

struct mounts {
	struct mount v[MOUNTS_MAX];
	size_t n;
	bool begun;
};

/* ---- which ----------------------------------------------------------------------------- */

/* "\040" is a blank. */
static bool unescape(const char *from, size_t len, char *to, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = from[i];

		if (c == '\\' && len - i > 3 && from[i + 1] >= '0' && from[i + 1] <= '3') {
			c = (char)((from[i + 1] - '0') * 64 + (from[i + 2] - '0') * 8 + (from[i + 3] - '0'));
			i += 3;
		}
		if (n + 1 >= size)
			return false;
		to[n++] = c;
	}
	to[n] = '\0';
	return n > 0 && strlen(to) == n;
}

bool mountinfo_parse(const char *line, struct mount_entry *ret)
{
	const char *field[6], *type;
	size_t len[6];

	for (int i = 0; i < 6; i++) {
		field[i] = line;
		len[i] = strcspn(line, " \n");
		line += len[i];
		if (len[i] == 0 || *line != ' ')
			return false;
		line++;
	}
	type = strncmp(line, "- ", 2) == 0 ? line - 1 : strstr(line, " - ");
	if (type == NULL)
		return false;
	type += 3;
	ret->read_only = len[5] >= 2 && strncmp(field[5], "ro", 2) == 0 && (len[5] == 2 || field[5][2] == ',');
	return unescape(field[2], len[2], ret->device, sizeof ret->device) &&
	       unescape(field[4], len[4], ret->path, sizeof ret->path) && ret->path[0] == '/' &&
	       unescape(type, strcspn(type, " \n"), ret->type, sizeof ret->type);
}

static bool begins(const char *s, const char *with)
{
	size_t n = strlen(with);

	return strncmp(s, with, n) == 0 && (s[n] == '\0' || s[n] == '/' || with[n - 1] == '/');
}

bool mount_of_interest(const struct mount_entry *e)
{
	static const char *const types[] = { "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "nfs", "nfs4", "cifs", "smb3", "lustre",
					     "ceph", "gpfs", "beegfs", "beegfs_nodev", "glusterfs", "panfs", "wekafs", "afs", "pvfs2", "9p" };
	static const char *const not[] = { "/boot", "/efi", "/snap", "/etc", "/run", "/sys", "/proc", "/var/lib/docker", "/var/lib/containerd",
					   "/var/lib/kubelet", "/var/lib/containers" };

	static const size_t of_disks = 7; /* the first of these types */

	if (strcmp(e->path, "/") == 0 || strcmp(e->path, "/dev/shm") == 0)
		return true;
	if (strcmp(e->type, "tmpfs") == 0) /* jobs write there; others are full by intention */
		return strcmp(e->path, "/tmp") == 0 || strcmp(e->path, "/var/tmp") == 0;
	for (size_t i = 0; i < sizeof not / sizeof not[0]; i++)
		if (begins(e->path, not[i]))
			return false;
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (strcmp(e->type, types[i]) == 0)
			return i >= of_disks || !e->read_only; /* an image that is full is meant so */
	return strncmp(e->type, "fuse.", 5) == 0 && !begins(e->path, "/tmp") && strcmp(e->type, "fuse.lxcfs") != 0 &&
	       strcmp(e->type, "fuse.gvfsd-fuse") != 0 && strcmp(e->type, "fuse.portal") != 0;
}

/* The same file system once, be it mounted at many places. */
static void list_one(struct mounts *m, const struct mount_entry *e)
{
	for (size_t i = 0; i < m->n; i++) {
		if (strcmp(m->v[i].e.path, e->path) == 0) {
			m->v[i].listed = true;
			m->v[i].e = *e; /* mounted anew, or over it */
			return;
		}
		if (m->v[i].listed && strcmp(m->v[i].e.device, e->device) == 0)
			return;
	}
	if (m->n == MOUNTS_MAX)
		return;
	m->v[m->n++] = (struct mount){ .e = *e, .listed = true };
}

static void list(struct mounts *m, const char *mountinfo)
{
	FILE *f = fopen(mountinfo, "re");
	struct mount_entry e;
	char line[1024];

	if (!f)
		return; /* what we knew stays */
	for (size_t i = 0; i < m->n; i++)
		m->v[i].listed = false;
	for (int n = 0; n < 4096 && fgets(line, sizeof line, f); n++)
		if (mountinfo_parse(line, &e) && mount_of_interest(&e))
			list_one(m, &e);
	fclose(f);
}

/* ---- asking ------------------------------------------------------------------------------ */

static void leave(struct question *q)
{
	if (atomic_fetch_sub(&q->owners, 1) == 1)
		free(q);
}

static void *ask(void *arg)
{
	struct question *q = arg;

	q->error = mounts_statvfs(q->path, &q->answer) < 0 ? errno : 0;
	atomic_store(&q->done, true);
	leave(q);
	return NULL;
}

static void begin(struct mount *x, mono_t now)
{
	struct question *q = calloc(1, sizeof *q);
	pthread_attr_t attr;
	pthread_t t;
	int r;

	if (!q)
		return;
	memcpy(q->path, x->e.path, sizeof q->path);
	atomic_init(&q->owners, 2);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&t, &attr, ask, q);
	pthread_attr_destroy(&attr);
	if (r != 0) {
		free(q);
		return;
	}
	x->q = q;
	x->asked = now;
}

static void take(struct mount *x)
{
	struct question *q = x->q;

	if (!q || !atomic_load(&q->done))
		return;
	x->known = true;
	x->error = q->error;
	x->read_only = (q->answer.f_flag & ST_RDONLY) != 0;
	x->total = (uint64_t)q->answer.f_blocks * q->answer.f_frsize;
	x->available = (uint64_t)q->answer.f_bavail * q->answer.f_frsize;
	x->inodes = q->answer.f_files;
	x->inodes_free = q->answer.f_favail;
	x->q = NULL;
	leave(q);
}

static bool any_open(const struct mounts *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].q && !atomic_load(&m->v[i].q->done))
			return true;
	return false;
}

/* Unmounted ones go, unless one still hangs: that is worth knowing. */
static void drop(struct mounts *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->n; i++) {
		struct mount x = m->v[i];

		if (x.listed || x.q)
			m->v[kept++] = x;
	}
	m->n = kept;
}

static void put(const struct mount *x, mono_t now, struct hw_mount *to)
{
	hw_copy(to->path, sizeof to->path, x->e.path);
	hw_copy(to->type, sizeof to->type, x->e.type);
	if (x->q && mono_sub_ms(now, x->asked) >= MOUNT_HUNG_MS) {
		to->hung = true;
		to->wait_ms = (uint64_t)mono_sub_ms(now, x->asked);
	} else if (x->known && x->error) {
		hw_copy(to->text, sizeof to->text, strerror(x->error));
	} else if (x->known) {
		to->total = hw_u64(x->total);
		if (!x->read_only) /* nobody misses room there: images of live systems are full */
			to->available = hw_u64(x->available);
		if (x->inodes > 0 && !x->read_only) {
			to->inodes = hw_u64(x->inodes);
			to->inodes_free = hw_u64(x->inodes_free);
		}
	}
}

void mounts_poll(struct mounts *m, const char *mountinfo, struct arena *a, struct hw_host *h)
{
	mono_t now = hw_now();

	list(m, mountinfo);
	for (size_t i = 0; i < m->n; i++) {
		take(&m->v[i]);
		if (!m->v[i].q && (!m->v[i].known || mono_sub_ms(now, m->v[i].asked) >= MOUNT_PERIOD_MS))
			begin(&m->v[i], now);
	}
	for (int ms = 0; ms < (m->begun ? 5 : FIRST_WAIT_MS) && any_open(m); ms++)
		usleep(1000);
	m->begun = true;
	for (size_t i = 0; i < m->n; i++)
		take(&m->v[i]);
	drop(m);
	h->mounts = m->n > 0 ? arena_alloc(a, m->n * sizeof *h->mounts) : NULL;
	for (size_t i = 0; h->mounts && i < m->n; i++)
		put(&m->v[i], hw_now(), &h->mounts[h->n_mounts++]);
}

struct mounts *mounts_new(void)
{
	return calloc(1, sizeof(struct mounts));
}

void mounts_free(struct mounts *m)
{
	for (size_t i = 0; m && i < m->n; i++)
		if (m->v[i].q)
			leave(m->v[i].q);
	free(m);
}
