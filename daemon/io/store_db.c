/* store_db.c - SQLite, kept small: seven tables of (key, json)
 *
 * The file is locked exclusively while we have it: nobody else writes, and
 * the WAL index lives in our memory in place of a shared mapping. */
#include "io/store_db.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#define SCHEMA_VERSION 1
#define TABLES 7
#define SETTLE_BYTES 65536

static const char *const table_names[TABLES] = {
	[TABLE_CLUSTER] = "cluster",
	[TABLE_NODE] = "node",
	[TABLE_TOKEN] = "token",
	[TABLE_JOB] = "job",
	[TABLE_REVOKED] = "revoked", /* not in the first databases; older programs do not look at it */
	[TABLE_EVENT] = "event", /* nor this one */
	[TABLE_BASE] = "base", /* nor this one */
};

struct db {
	sqlite3 *sql;
	const char *path; /* borrowed from sql */
	sqlite3_stmt *put[TABLES], *del[TABLES];
	sqlite3_stmt *begin, *commit, *rollback;
	bool open_end;
};

/* SQLite's results as errno; the sentence says which file and what to do. */
static int failed(struct db *d, struct err *e)
{
	int rc = sqlite3_errcode(d->sql);
	const char *text = sqlite3_errmsg(d->sql);

	switch (rc & 0xff) {
	case SQLITE_FULL:
		return err_set(e, ENOSPC, "cannot write %s: the disk is full", d->path);
	case SQLITE_NOMEM:
		return err_set(e, ENOMEM, "cannot write %s: out of memory", d->path);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_set(e, EBUSY, "%s is in use by another process", d->path);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_CANTOPEN:
		return err_set(e, EACCES, "cannot write %s: %s", d->path, text);
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return err_set(e, EUCLEAN, "%s is damaged: %s. Restore it from a backup", d->path, text);
	default:
		return err_set(e, EIO, "cannot use %s: %s (SQLite error %d)", d->path, text,
			       sqlite3_extended_errcode(d->sql));
	}
}

static int exec(struct db *d, const char *text, struct err *e)
{
	return sqlite3_exec(d->sql, text, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(d, e);
}

static int prepare(struct db *d, const char *text, sqlite3_stmt **ret, struct err *e)
{
	int rc = sqlite3_prepare_v3(d->sql, text, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);

	return rc == SQLITE_OK ? 0 : failed(d, e);
}

/* Steps a statement that returns no row. */
static int run(struct db *d, sqlite3_stmt *s, struct err *e)
{
	int r = sqlite3_step(s) == SQLITE_DONE ? 0 : failed(d, e);

	sqlite3_reset(s);
	return r;
}

/* ---- opening ------------------------------------------------------------ */

static int user_version(struct db *d, int *ret, struct err *e)
{
	sqlite3_stmt *s;
	int r = prepare(d, "PRAGMA user_version", &s, e);

	if (r < 0)
		return r;
	if (sqlite3_step(s) == SQLITE_ROW)
		*ret = sqlite3_column_int(s, 0);
	else
		r = failed(d, e);
	sqlite3_finalize(s);
	return r;
}

static int make_tables(struct db *d, struct err *e)
{
	char text[128];
	int r = 0;

	for (int i = 0; i < TABLES && r == 0; i++) {
		snprintf(text, sizeof(text),
			 "CREATE TABLE IF NOT EXISTS %s (key TEXT PRIMARY KEY NOT NULL, json TEXT NOT NULL)",
			 table_names[i]);
		r = exec(d, text, e);
	}
	return r;
}

static int make_schema(struct db *d, struct err *e)
{
	char text[128];
	int r = exec(d, "BEGIN IMMEDIATE", e);

	if (r == 0)
		r = make_tables(d, e);
	snprintf(text, sizeof(text), "PRAGMA user_version = %d", SCHEMA_VERSION);
	if (r == 0)
		r = exec(d, text, e);
	return r == 0 ? exec(d, "COMMIT", e) : r;
}

static int check_schema(struct db *d, bool create, struct err *e)
{
	int version = 0, r = user_version(d, &version, e);

	if (r < 0)
		return r;
	if (version == 0 && create)
		return make_schema(d, e);
	if (version == 0)
		return err_set(e, EINVAL, "%s is not a nodeagent database", d->path);
	if (version > SCHEMA_VERSION)
		return err_set(e, ENOTSUP,
			       "%s was written by a newer nodeagent (schema %d, this one knows %d): "
			       "upgrade this coordinator", d->path, version, SCHEMA_VERSION);
	return make_tables(d, e);
}

static int prepare_all(struct db *d, struct err *e)
{
	char text[160];
	int r = prepare(d, "BEGIN IMMEDIATE", &d->begin, e);

	if (r == 0)
		r = prepare(d, "COMMIT", &d->commit, e);
	if (r == 0)
		r = prepare(d, "ROLLBACK", &d->rollback, e);
	for (int i = 0; i < TABLES && r == 0; i++) {
		snprintf(text, sizeof(text),
			 "INSERT INTO %s (key, json) VALUES (?1, ?2) "
			 "ON CONFLICT (key) DO UPDATE SET json = excluded.json", table_names[i]);
		r = prepare(d, text, &d->put[i], e);
		snprintf(text, sizeof(text), "DELETE FROM %s WHERE key = ?1", table_names[i]);
		if (r == 0)
			r = prepare(d, text, &d->del[i], e);
	}
	return r;
}

/* What the WAL holds is read here as committed, and is answered for from now
 * on: but whoever wrote it may have been killed before it was synced, or its sync
 * may have failed, and then the kernel takes for written what is not on the
 * disk. So all of it is written once more, as it is, and synced. A file system
 * that copies may have no room for that: then the sync alone has to do. */
static int settle(struct db *d, struct err *e)
{
	sqlite3_file *wal = NULL;
	sqlite3_int64 size = 0;
	char *page;
	int rc = sqlite3_file_control(d->sql, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);

	if (rc != SQLITE_OK || wal == NULL || wal->pMethods == NULL)
		return 0;
	page = malloc(SETTLE_BYTES);
	if (page == NULL)
		return err_set(e, ENOMEM, "out of memory");
	rc = wal->pMethods->xFileSize(wal, &size);
	for (sqlite3_int64 at = 0; rc == SQLITE_OK && at < size; at += SETTLE_BYTES) {
		int n = size - at < SETTLE_BYTES ? (int)(size - at) : SETTLE_BYTES;

		rc = wal->pMethods->xRead(wal, page, n, at);
		if (rc == SQLITE_OK)
			rc = wal->pMethods->xWrite(wal, page, n, at);
	}
	if ((rc == SQLITE_OK || rc == SQLITE_FULL) && size > 0)
		rc = wal->pMethods->xSync(wal, SQLITE_SYNC_FULL);
	free(page);
	return rc == SQLITE_OK ? 0
			       : err_set(e, EIO, "cannot write %s-wal: %s", d->path, sqlite3_errstr(rc));
}

/* Before the first connection of the process; a second time it is refused, harmlessly. */
static void frugal(void)
{
	sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 256, 32);
}

/* SQLite opens read-only what it may not open for writing just now (EMFILE), the WAL
 * included, and nothing would be written for the life of this process. A full disk
 * is no reason not to start: it may have room again. */
static int check_writable(struct db *d, struct err *e)
{
	char text[80];
	int r;

	snprintf(text, sizeof(text), "BEGIN IMMEDIATE; PRAGMA user_version = %d; COMMIT", SCHEMA_VERSION);
	r = exec(d, text, e);
	if (r < 0 && !sqlite3_get_autocommit(d->sql))
		sqlite3_exec(d->sql, "ROLLBACK", NULL, NULL, NULL);
	return r == -EACCES ? r : 0;
}

int db_open(const char *path, bool create, struct db **ret, struct err *e)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
	struct db *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_set(e, ENOMEM, "out of memory");

	frugal();
	d->path = path;
	if (sqlite3_open_v2(path, &d->sql, flags, NULL) != SQLITE_OK)
		r = d->sql ? failed(d, e) : err_set(e, ENOMEM, "out of memory");
	else
		r = exec(d,
			 "PRAGMA locking_mode = EXCLUSIVE;"
			 "PRAGMA journal_mode = WAL;"
			 "PRAGMA synchronous = FULL;"
			 "PRAGMA trusted_schema = OFF;"
			 "PRAGMA cell_size_check = ON;"
			 "PRAGMA temp_store = MEMORY;"
			 "PRAGMA mmap_size = 0;"
			 "PRAGMA cache_size = -256;"
			 "PRAGMA wal_autocheckpoint = 256;"
			 "PRAGMA journal_size_limit = 1048576;", e);
	if (r == 0) {
		d->path = sqlite3_db_filename(d->sql, "main");
		r = check_schema(d, create, e);
	}
	if (r == 0)
		r = check_writable(d, e);
	if (r == 0)
		r = settle(d, e);
	if (r == 0)
		r = prepare_all(d, e);
	if (r < 0)
		db_close(d);
	else
		*ret = d;
	return r;
}

void db_close(struct db *d)
{
	if (!d)
		return;

	sqlite3_finalize(d->begin);
	sqlite3_finalize(d->commit);
	sqlite3_finalize(d->rollback);
	for (int i = 0; i < TABLES; i++) {
		sqlite3_finalize(d->put[i]);
		sqlite3_finalize(d->del[i]);
	}
	sqlite3_close(d->sql);
	free(d);
}

/* ---- reading ------------------------------------------------------------ */

static int each_of(struct db *d, enum store_table t,
		   int (*f)(void *arg, enum store_table table, const char *key, const char *json,
			    size_t len, struct err *e),
		   void *arg, struct err *e)
{
	sqlite3_stmt *s;
	char text[64];
	int r, rc;

	snprintf(text, sizeof(text), "SELECT key, json FROM %s", table_names[t]);
	r = prepare(d, text, &s, e);
	if (r < 0)
		return r;

	while (r == 0 && (rc = sqlite3_step(s)) != SQLITE_DONE) {
		const char *key, *json;

		if (rc != SQLITE_ROW) {
			r = failed(d, e);
			break;
		}
		key = (const char *)sqlite3_column_text(s, 0);
		json = (const char *)sqlite3_column_text(s, 1);
		r = key && json ? f(arg, t, key, json, (size_t)sqlite3_column_bytes(s, 1), e)
				: err_set(e, ENOMEM, "out of memory");
	}
	sqlite3_finalize(s);
	return r;
}

int db_each(struct db *d,
	    int (*f)(void *arg, enum store_table table, const char *key, const char *json,
		     size_t len, struct err *e),
	    void *arg, struct err *e)
{
	int r = 0;

	for (int i = 0; i < TABLES && r == 0; i++)
		r = each_of(d, (enum store_table)i, f, arg, e);
	return r;
}

/* ---- writing ------------------------------------------------------------ */

int db_begin(struct db *d, struct err *e)
{
	return run(d, d->begin, e);
}

int db_row(struct db *d, const struct store_row *row, struct err *e)
{
	sqlite3_stmt *s = row->json ? d->put[row->table] : d->del[row->table];
	int r;

	if (row->broken)
		return err_set(e, EINVAL, "the row '%s' (table %d) broke its own limits and was not stored: a bug", row->key,
			       (int)row->table);
	if (sqlite3_bind_text(s, 1, row->key, -1, SQLITE_STATIC) != SQLITE_OK ||
	    (row->json &&
	     sqlite3_bind_text(s, 2, row->json, (int)row->len, SQLITE_STATIC) != SQLITE_OK))
		r = failed(d, e);
	else
		r = run(d, s, e);
	sqlite3_clear_bindings(s);
	return r;
}

/* Its index in memory grows after the sync: without memory the file has all of it, too. */
static bool may_be_whole(int error)
{
	return error == SQLITE_IOERR_FSYNC || (error & 0xff) == SQLITE_NOMEM || error == SQLITE_IOERR_NOMEM;
}

int db_commit(struct db *d, struct err *e)
{
	int r = run(d, d->commit, e);

	if (r == 0)
		d->open_end = false;
	else if (may_be_whole(sqlite3_extended_errcode(d->sql)))
		d->open_end = true;
	return r;
}

bool db_open_end(const struct db *d)
{
	return d->open_end;
}

/* The first page comes at the place in the WAL where the failed commit's first one is;
 * what follows does not fit to it any more. */
int db_overwrite(struct db *d, struct err *e)
{
	char text[48];
	int r = db_begin(d, e);

	snprintf(text, sizeof(text), "PRAGMA user_version = %d", SCHEMA_VERSION);
	if (r == 0)
		r = exec(d, text, e);
	if (r == 0)
		r = db_commit(d, e);
	if (r < 0)
		db_rollback(d);
	return r;
}

void db_rollback(struct db *d)
{
	if (!sqlite3_get_autocommit(d->sql)) /* some errors have rolled back already */
		run(d, d->rollback, NULL);
}

void db_limit_pages(struct db *d, unsigned n)
{
	char text[64];

	snprintf(text, sizeof(text), "PRAGMA max_page_count = %u", n > 0 ? n : 1073741823u);
	exec(d, text, NULL);
}
