/* store.h - the coordinator's rows on disk (SQLite)
 *
 * A transaction is answered when it is durable: WAL, synchronous=FULL. All
 * that are queued while one commit runs go into the next one together and
 * are answered in the order in which they came. One thread of the store's
 * own touches SQLite; callbacks run on the loop.
 *
 * A transaction that fails (disk full) changes nothing, is answered with
 * -ENOSPC or -EIO and a sentence, and the store goes on: the next may succeed.
 * One whose sync has failed is in the file nevertheless, and would count after a
 * crash: it is answered when another commit has taken its place, which is tried
 * every second.
 */
#ifndef NA_IO_STORE_H
#define NA_IO_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "core/actions.h"

struct store;

/* error: 0 or -errno; text: NULL or one sentence. */
typedef void (*store_done)(void *arg, uint64_t ticket, int error, const char *text);

/* Opens DIR/state.db, made when 'create'; takes DIR/lock for this process.
 * -EBUSY when another coordinator has it (the text names its pid), -ENOENT. */
int store_open(const char *dir, bool create, struct store **ret, struct err *e);
/* Every row, in no order. f returns 0 to go on or -errno (and fills *e). Before store_start(). */
int store_each(struct store *s,
	       int (*f)(void *arg, enum store_table table, const char *key, const char *json,
			size_t len, struct err *e),
	       void *arg, struct err *e);
/* One transaction, here and now. Before store_start(). */
int store_write_now(struct store *s, const struct store_row *rows, size_t n, struct err *e);
/* Between these, store_write_now() adds to one transaction. A store closed
 * before the end forgets it. */
int store_batch_begin(struct store *s, struct err *e);
int store_batch_end(struct store *s, struct err *e);

/* Starts the thread; from now on: */
int store_start(struct store *s, uv_loop_t *loop, store_done done, void *arg, struct err *e);
/* Copies the rows. -ENOMEM: nothing queued, no answer. */
int store_write(struct store *s, uint64_t ticket, const struct store_row *rows, size_t n);
/* Commits what is queued (blocks), without answers; frees, from the handle's
 * close callback when it was started. NULL is fine. */
void store_close(struct store *s);

/* For tests: the database may not grow beyond n pages; 0 lifts the limit. */
void store_limit_pages(struct store *s, unsigned n);
/* Commits made so far. */
uint64_t store_commits(const struct store *s);

#endif
