/* store_db.h - the database file itself: what store.c's thread calls; blocks. No uv, no threads:
 * the simulator runs it over a disk of its own. */
#ifndef NA_IO_STORE_DB_H
#define NA_IO_STORE_DB_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "core/actions.h"

struct db;

int db_open(const char *path, bool create, struct db **ret, struct err *e);
void db_close(struct db *d);
int db_each(struct db *d,
	    int (*f)(void *arg, enum store_table table, const char *key, const char *json,
		     size_t len, struct err *e),
	    void *arg, struct err *e);
int db_begin(struct db *d, struct err *e);
int db_row(struct db *d, const struct store_row *row, struct err *e);
/* One that fails in its sync has failed here, but is in the file, whole: whoever opens it
 * next may find it, as long as no other commit takes its place. */
int db_commit(struct db *d, struct err *e);
bool db_open_end(const struct db *d); /* the last commit was such a one */
int db_overwrite(struct db *d, struct err *e); /* by a commit that says nothing */
void db_rollback(struct db *d);
void db_limit_pages(struct db *d, unsigned n);

#endif
