/* spools_disk.c - see spools_disk.h */
#include "io/spools_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define GIB (UINT64_C(1) << 30)

static int by_name(const void *a, const void *b)
{
	const struct spool_dir *x = a, *y = b;

	if (x->job != y->job)
		return x->job < y->job ? -1 : 1;
	if (x->attempt != y->attempt)
		return x->attempt < y->attempt ? -1 : 1;
	return (int)x->kind - (int)y->kind;
}

static bool is_live(const struct spool_live *v, size_t n, const struct spool_dir *d)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].job == d->job && v[i].attempt == d->attempt)
			return d->kind == SPOOL_ATTEMPT;
	return false;
}

/* Known from before, and nobody has written to it since. */
static const struct spool_dir *known(const struct spool_list *before, const struct spool_dir *d)
{
	const struct spool_dir *k;

	if (before == NULL || before->n == 0 || d->live || d->kind != SPOOL_ATTEMPT)
		return NULL;
	k = bsearch(d, before->v, before->n, sizeof(*before->v), by_name);
	return k != NULL && !k->live ? k : NULL;
}

/* Of its files; a link or a directory that somebody has put there counts for nothing. */
static void measure(int spool, const char *name, struct spool_dir *d)
{
	int fd = openat(spool, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	struct stat st;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if (fstat(fd, &st) == 0)
		d->wall_ms = (int64_t)st.st_mtim.tv_sec * 1000;
	while ((de = readdir(dir)) != NULL) {
		int64_t at;

		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
			continue;
		d->bytes += (uint64_t)st.st_blocks * 512;
		at = (int64_t)st.st_mtim.tv_sec * 1000;
		d->wall_ms = at > d->wall_ms ? at : d->wall_ms;
	}
	closedir(dir);
}

static bool add(struct spool_list *l, const struct spool_dir *d)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct spool_dir *v = realloc(l->v, cap * sizeof(*v));

		if (v == NULL)
			return false;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = *d;
	return true;
}

int spools_scan(const char *spool_dir, const struct spool_live *live, size_t n_live,
		const struct spool_list *before, struct spool_list *ret)
{
	DIR *dir = opendir(spool_dir);
	struct dirent *de;

	*ret = (struct spool_list){ 0 };
	if (dir == NULL)
		return errno == ENOENT ? 0 : -errno;
	while ((de = readdir(dir)) != NULL) {
		struct spool_dir d = { 0 };
		const struct spool_dir *k;

		d.kind = spool_parse_name(de->d_name, &d.job, &d.attempt);
		if (d.kind == SPOOL_NONE)
			continue;
		d.live = is_live(live, n_live, &d);
		k = known(before, &d);
		if (k != NULL)
			d = *k;
		else
			measure(dirfd(dir), de->d_name, &d);
		d.goes = false;
		if (!add(ret, &d))
			break;
	}
	closedir(dir);
	if (ret->n > 0)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
	return 0;
}

void spools_list_finish(struct spool_list *l)
{
	free(l->v);
	*l = (struct spool_list){ 0 };
}

/* The oldest that may go and does not yet; NULL: none. */
static struct spool_dir *oldest(struct spool_list *l)
{
	struct spool_dir *best = NULL;

	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].live && !l->v[i].goes && (best == NULL || l->v[i].wall_ms < best->wall_ms))
			best = &l->v[i];
	return best;
}

size_t spools_choose(struct spool_list *l, uint64_t limit, int64_t old_ms)
{
	struct spool_dir *d;
	uint64_t all = 0;
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		d = &l->v[i];
		d->goes = !d->live && (d->kind == SPOOL_GONE || (old_ms != 0 && d->wall_ms < old_ms));
		n += d->goes;
		all += d->goes ? 0 : d->bytes;
	}
	while (all > limit && (d = oldest(l)) != NULL) {
		d->goes = true;
		all -= d->bytes;
		n++;
	}
	return n;
}

uint64_t spools_default_limit(const char *path)
{
	struct statvfs st;
	uint64_t all;

	if (statvfs(path, &st) != 0)
		return 0;
	all = (uint64_t)st.f_blocks * st.f_frsize;
	if (all / 10 >= GIB)
		return all / 10;
	return all / 2 < GIB ? all / 2 : GIB;
}
