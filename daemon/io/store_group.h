/* store_group.h - transactions that wait, and the commit that answers several of them
 *
 * Blocks; no uv, no threads: the simulator runs it too.
 */
#ifndef NA_IO_STORE_GROUP_H
#define NA_IO_STORE_GROUP_H

#include "common/list.h"
#include "io/store_db.h"

struct store_job {
	struct list entry;
	uint64_t ticket;
	struct store_row *rows; /* one allocation with all keys and texts behind it */
	size_t n;
	int error;
	char *text;
	bool open; /* it has failed, and may be found on the disk all the same */
};

/* Copies the rows. NULL: no memory. */
struct store_job *store_job_new(uint64_t ticket, const struct store_row *rows, size_t n);
void store_job_free(struct store_job *j);

/* Within a transaction that is open. */
int store_rows_add(struct db *d, const struct store_row *rows, size_t n, struct err *e);
/* One transaction. */
int store_rows_write(struct db *d, const struct store_row *rows, size_t n, struct err *e);
/* One commit for all (struct store_job.entry). When that fails each member is
 * tried on its own: one too big for the disk does not take the others with it.
 * Afterwards each has its error, and a sentence. Who is told of an error may
 * count on it that nothing was stored: false when some are open, all at the end of
 * the list, and not to be answered before store_group_known(). */
bool store_group_write(struct db *d, struct list *group);
/* Takes the place of what has failed, unless a later commit has done so; false: once more, later. */
bool store_group_known(struct db *d);

#endif
