/* spools_disk.h - what lies in the spool directory, and what of it has to go
 *
 * Knows no loop and no core, so it is tested alone. Scanning and removing block:
 * for the thread pool.
 */
#ifndef NA_IO_SPOOLS_DISK_H
#define NA_IO_SPOOLS_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/spool.h"

struct spool_dir {
	uint64_t job;
	uint32_t attempt;
	enum spool_kind kind;
	bool live; /* its job is here, or not yet forgotten: it stays */
	bool goes; /* chosen by spools_choose() */
	uint64_t bytes; /* that its files take on disk */
	int64_t wall_ms; /* last written */
};

struct spool_list {
	struct spool_dir *v; /* by job, attempt, kind */
	size_t n, cap;
};

/* An attempt that is alive, or was when it was asked. */
struct spool_live {
	uint64_t job;
	uint32_t attempt;
};

/* Lists the directory. What was listed before and was not live then has not
 * changed since, and is not looked at again. 0 or -errno; without memory the
 * list is shorter. */
int spools_scan(const char *spool_dir, const struct spool_live *live, size_t n_live,
		const struct spool_list *before, struct spool_list *ret);
void spools_list_finish(struct spool_list *l);

/* Marks what goes: all that was last written before 'old_ms' (0: nothing is too
 * old), what is half removed, and the oldest until all together take no more than
 * 'limit' bytes. What is live stays. Number of those that go. */
size_t spools_choose(struct spool_list *l, uint64_t limit, int64_t old_ms);

/* A tenth of the file system there, at least 1 GiB, at most half of it; 0: no such path. */
uint64_t spools_default_limit(const char *path);

#endif
