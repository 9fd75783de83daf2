/* disk.c - see disk.h; a VFS of SQLite */
#include "tests/sim/disk.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"

#define FILES 4
#define SECTOR 512

struct image {
	char *p;
	size_t n, cap;
};

/* What was done to a file since it was last synced. */
struct change {
	size_t at, n; /* n 0: was cut to 'at' bytes */
	size_t data; /* in 'written' */
};

struct file {
	char name[32];
	bool exists;
	bool named; /* its name is on the disk */
	bool back; /* was removed, and that is not on the disk yet */
	struct image now, synced;
	struct change *changes;
	size_t n_changes, cap_changes;
	struct image written;
};

struct handle {
	sqlite3_file base;
	struct file *file;
	uint64_t process;
};

static struct {
	struct world *w;
	struct file files[FILES], made[FILES]; /* 'made': what every run begins with */
	uint64_t process;
	bool dying, dead;
	uint32_t dies_in;
	int64_t room;
	bool strict;
	uint32_t bad_writes, bad_syncs;
} D = { .room = -1 };

struct disk_stats disk_stats;

/* ---- memory --------------------------------------------------------------------- */

static void *must(void *p)
{
	if (p == NULL) {
		fputs("sim: out of memory\n", stderr);
		exit(2);
	}
	return p;
}

static void image_size(struct image *i, size_t n)
{
	if (n > i->cap) {
		i->cap = 2 * n + 65536;
		i->p = must(realloc(i->p, i->cap));
	}
	if (n > i->n)
		memset(i->p + i->n, 0, n - i->n);
	i->n = n;
}

static void image_put(struct image *i, size_t at, const void *p, size_t n)
{
	if (at + n > i->n)
		image_size(i, at + n);
	if (n > 0)
		memcpy(i->p + at, p, n);
}

static void image_copy(struct image *to, const struct image *from)
{
	to->n = 0;
	image_put(to, 0, from->p, from->n);
}

static void forget_changes(struct file *f)
{
	f->n_changes = 0;
	f->written.n = 0;
}

static void note_change(struct file *f, size_t at, const void *p, size_t n)
{
	if (f->n_changes == f->cap_changes) {
		f->cap_changes = 2 * f->cap_changes + 16;
		f->changes = must(realloc(f->changes, f->cap_changes * sizeof(*f->changes)));
	}
	f->changes[f->n_changes++] = (struct change){ at, n, f->written.n };
	if (n > 0)
		image_put(&f->written, f->written.n, p, n);
}

static struct file *find(const char *name, bool make)
{
	for (int i = 0; i < FILES; i++)
		if (strcmp(D.files[i].name, name) == 0)
			return &D.files[i];
	for (int i = 0; i < FILES && make; i++)
		if (D.files[i].name[0] == '\0') {
			snprintf(D.files[i].name, sizeof(D.files[i].name), "%s", name);
			return &D.files[i];
		}
	return NULL;
}

/* ---- what goes wrong ---------------------------------------------------------------- */

static bool chance(uint32_t permille)
{
	return D.w != NULL && permille > 0 && rng_chance(&D.w->rng, permille);
}

/* Counts down to the death of the process; true: it has no effect any more. */
static bool is_dead(const struct handle *h)
{
	if (D.dead || (h != NULL && h->process != D.process))
		return true;
	if (!D.dying)
		return false;
	if (D.dies_in > 0) {
		D.dies_in--;
		return false;
	}
	disk_stats.cut_short++;
	return D.dead = true;
}

void disk_dies_after(uint32_t ops)
{
	D.dying = true;
	D.dies_in = ops;
	D.dead = D.dead || ops == 0;
}

void disk_new_process(void)
{
	D.process++;
	D.dying = D.dead = false;
}

void disk_room(int64_t bytes, bool strict)
{
	D.room = bytes;
	D.strict = strict;
}

void disk_errors(uint32_t writes, uint32_t syncs)
{
	D.bad_writes = writes;
	D.bad_syncs = syncs;
}

bool disk_is_bad(void)
{
	return D.room >= 0 || D.bad_writes > 0 || D.bad_syncs > 0;
}

/* Of each change all, nothing, or some sectors: as the disk's queue went. */
static void survive(struct file *f, uint32_t kept, uint32_t torn)
{
	for (size_t i = 0; i < f->n_changes; i++) {
		const struct change *c = &f->changes[i];
		const char *data = f->written.p + c->data;
		bool whole = chance(kept), tear = chance(torn);

		if (!whole && !tear) {
			disk_stats.lost++;
			continue;
		}
		if (c->n == 0) {
			image_size(&f->synced, c->at);
			continue;
		}
		disk_stats.torn += tear;
		for (size_t from = c->at; from < c->at + c->n;) {
			size_t to = (from / SECTOR + 1) * SECTOR;

			if (to > c->at + c->n)
				to = c->at + c->n;
			if (!tear || chance(500))
				image_put(&f->synced, from, data + (from - c->at), to - from);
			from = to;
		}
	}
	forget_changes(f);
}

void disk_power_lost(void)
{
	static const uint32_t kept[] = { 0, 0, 300, 700, 1000 }, torn[] = { 0, 300, 700 };
	uint32_t k = kept[rng_below(&D.w->rng, 5)], t = torn[rng_below(&D.w->rng, 3)];

	for (int i = 0; i < FILES; i++) {
		struct file *f = &D.files[i];

		if (!f->exists && f->back && chance(500))
			f->exists = f->named = true;
		f->back = false;
		if (!f->exists)
			continue;
		survive(f, k, t);
		if (!f->named && chance(500)) {
			f->exists = false;
			f->synced.n = 0;
		}
		f->named = f->exists;
		image_copy(&f->now, &f->synced);
	}
}

/* ---- files ---------------------------------------------------------------------------- */

static struct handle *handle_of(sqlite3_file *f)
{
	return (struct handle *)(void *)f;
}

static int x_close(sqlite3_file *file)
{
	(void)file;
	return SQLITE_OK;
}

static int x_read(sqlite3_file *file, void *out, int n, sqlite3_int64 at)
{
	struct handle *h = handle_of(file);
	const struct image *i = &h->file->now;
	size_t have = (size_t)at < i->n ? i->n - (size_t)at : 0;

	if (D.dead || h->process != D.process)
		return SQLITE_IOERR_READ;
	if (have >= (size_t)n) {
		memcpy(out, i->p + at, (size_t)n);
		return SQLITE_OK;
	}
	memset(out, 0, (size_t)n);
	if (have > 0)
		memcpy(out, i->p + at, have);
	return SQLITE_IOERR_SHORT_READ;
}

/* How much of it the disk has room for. */
static size_t room_for(const struct file *f, size_t at, size_t n)
{
	size_t grows = at + n > f->now.n ? at + n - f->now.n : 0;

	if (D.strict && grows < n)
		grows = n;
	if (D.room < 0 || (int64_t)grows <= D.room) {
		D.room -= D.room < 0 ? 0 : (int64_t)grows;
		return n;
	}
	disk_stats.full++;
	return n - grows;
}

static int x_write(sqlite3_file *file, const void *p, int len, sqlite3_int64 at)
{
	struct handle *h = handle_of(file);
	struct file *f = h->file;
	size_t n = (size_t)len, fits;
	bool was_dead = D.dead || h->process != D.process;

	if (is_dead(h)) {
		/* killed within it: some of it is in the page cache all the same */
		if (was_dead || D.w == NULL)
			return SQLITE_IOERR_WRITE;
		n = rng_below(&D.w->rng, n / SECTOR + 1) * SECTOR;
		if (n > 0) {
			image_put(&f->now, (size_t)at, p, n);
			note_change(f, (size_t)at, p, n);
		}
		return SQLITE_IOERR_WRITE;
	}
	if (chance(D.bad_writes)) {
		disk_stats.bad++;
		return SQLITE_IOERR_WRITE;
	}
	disk_stats.writes++;
	fits = room_for(f, (size_t)at, n);
	if (fits > 0) {
		image_put(&f->now, (size_t)at, p, fits);
		note_change(f, (size_t)at, p, fits);
	}
	return fits == n ? SQLITE_OK : SQLITE_FULL;
}

static int x_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct handle *h = handle_of(file);

	if (is_dead(h))
		return SQLITE_IOERR_TRUNCATE;
	image_size(&h->file->now, (size_t)size);
	note_change(h->file, (size_t)size, NULL, 0);
	return SQLITE_OK;
}

static int x_sync(sqlite3_file *file, int flags)
{
	struct handle *h = handle_of(file);
	struct file *f = h->file;

	(void)flags;
	if (is_dead(h))
		return SQLITE_IOERR_FSYNC;
	if (chance(D.bad_syncs)) {
		/* what Linux does: it is told once, and what was not written counts as written */
		disk_stats.bad++;
		survive(f, 300, 300);
		return SQLITE_IOERR_FSYNC;
	}
	disk_stats.syncs++;
	for (size_t i = 0; i < f->n_changes; i++) {
		const struct change *c = &f->changes[i];

		if (c->n == 0)
			image_size(&f->synced, c->at);
		else
			image_put(&f->synced, c->at, f->written.p + c->data, c->n);
	}
	forget_changes(f);
	f->named = true;
	return SQLITE_OK;
}

static int x_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	*ret = (sqlite3_int64)handle_of(file)->file->now.n;
	return SQLITE_OK;
}

static int x_lock(sqlite3_file *file, int how)
{
	(void)file;
	(void)how;
	return SQLITE_OK;
}

static int x_reserved(sqlite3_file *file, int *ret)
{
	(void)file;
	*ret = 0;
	return SQLITE_OK;
}

static int x_control(sqlite3_file *file, int op, void *arg)
{
	(void)file;
	(void)op;
	(void)arg;
	return SQLITE_NOTFOUND;
}

/* As the VFS for Linux says it. */
static int x_sector(sqlite3_file *file)
{
	(void)file;
	return 4096;
}

static int x_device(sqlite3_file *file)
{
	(void)file;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
	.iVersion = 1,
	.xClose = x_close,
	.xRead = x_read,
	.xWrite = x_write,
	.xTruncate = x_truncate,
	.xSync = x_sync,
	.xFileSize = x_size,
	.xLock = x_lock,
	.xUnlock = x_lock,
	.xCheckReservedLock = x_reserved,
	.xFileControl = x_control,
	.xSectorSize = x_sector,
	.xDeviceCharacteristics = x_device,
};

/* ---- names ---------------------------------------------------------------------------- */

static int x_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *out, int flags, int *ret_flags)
{
	struct handle *h = handle_of(out);
	struct file *f = name != NULL ? find(name, true) : NULL;

	(void)vfs;
	h->base.pMethods = NULL;
	if (f == NULL || (!f->exists && !(flags & SQLITE_OPEN_CREATE)) || is_dead(NULL))
		return SQLITE_CANTOPEN;
	if (!f->exists) {
		f->exists = true;
		f->named = f->back = false;
		f->now.n = f->synced.n = 0;
		forget_changes(f);
	}
	h->file = f;
	h->process = D.process;
	h->base.pMethods = &methods;
	if (ret_flags != NULL)
		*ret_flags = flags;
	return SQLITE_OK;
}

static int x_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	struct file *f = find(name, false);

	(void)vfs;
	if (f == NULL || !f->exists)
		return SQLITE_IOERR_DELETE_NOENT;
	if (is_dead(NULL))
		return SQLITE_IOERR_DELETE;
	f->exists = false;
	f->back = f->named && !sync_dir;
	return SQLITE_OK;
}

static int x_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	struct file *f = find(name, false);

	(void)vfs;
	(void)flags;
	*ret = f != NULL && f->exists && f->now.n > 0;
	return SQLITE_OK;
}

static int x_full(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
	(void)vfs;
	snprintf(out, (size_t)n, "%s", name);
	return SQLITE_OK;
}

static int x_random(sqlite3_vfs *vfs, int n, char *out)
{
	(void)vfs;
	memset(out, 7, (size_t)n);
	if (D.w != NULL)
		rng_fill(&D.w->rng, out, (size_t)n);
	return n;
}

static int x_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	return us;
}

static int x_time(sqlite3_vfs *vfs, double *ret)
{
	(void)vfs;
	*ret = 2461000.5;
	return SQLITE_OK;
}

static sqlite3_vfs vfs = {
	.iVersion = 1,
	.szOsFile = sizeof(struct handle),
	.mxPathname = 31,
	.zName = "simulated",
	.xOpen = x_open,
	.xDelete = x_delete,
	.xAccess = x_access,
	.xFullPathname = x_full,
	.xRandomness = x_random,
	.xSleep = x_sleep,
	.xCurrentTime = x_time,
};

/* ---- runs ------------------------------------------------------------------------------- */

void disk_init(void (*make)(void))
{
	sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK) {
		fputs("sim: SQLite takes no VFS\n", stderr);
		exit(2);
	}
	make();
	memcpy(D.made, D.files, sizeof(D.made));
	memset(D.files, 0, sizeof(D.files));
}

void disk_begin(struct world *w)
{
	D.w = w;
	D.room = -1;
	D.bad_writes = D.bad_syncs = 0;
	disk_new_process();
	for (int i = 0; i < FILES; i++) {
		struct file *f = &D.files[i];

		memcpy(f->name, D.made[i].name, sizeof(f->name));
		f->exists = f->named = D.made[i].exists;
		f->back = false;
		image_copy(&f->now, &D.made[i].now);
		image_copy(&f->synced, &D.made[i].now);
		forget_changes(f);
	}
	sqlite3_randomness(0, NULL); /* seeded anew, by x_random() */
}

static void file_finish(struct file *f)
{
	free(f->now.p);
	free(f->synced.p);
	free(f->written.p);
	free(f->changes);
}

void disk_finish(void)
{
	for (int i = 0; i < FILES; i++) {
		file_finish(&D.files[i]);
		file_finish(&D.made[i]);
	}
	memset(D.files, 0, sizeof(D.files));
	memset(D.made, 0, sizeof(D.made));
}
