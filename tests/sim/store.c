/* store.c - the coordinator's store: the real one (daemon/io/store_db.c, store_group.c), real SQLite,
 * a simulated disk
 *
 * Only its thread is played here: it takes all that is queued, commits it as
 * one, answers, and takes what has come meanwhile. A crash may fall into a
 * commit, after any of its writes; a power failure loses what was not synced.
 *
 * After each crash the database is read back and compared with what was
 * answered as stored: all of that is there, and nothing else but, whole, one
 * transaction that was under way or has failed (a sync that fails leaves open
 * whether it is on the disk).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/store_group.h"
#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

struct txn {
	uint64_t ticket;
	struct store_job *job;
	int error;
	const char *text;
};

/* A transaction of which nobody knows whether it is on the disk. */
struct maybe {
	struct maybe *next;
	struct row *rows; /* in order */
};

static struct db *db; /* NULL: the process does not run */

static void out_of_memory(void)
{
	fputs("sim: out of memory\n", stderr);
	exit(2);
}

/* ---- rows ----------------------------------------------------------------------- */

static struct row *row_find(struct row *in, enum store_table table, const char *key)
{
	for (struct row *r = in; r != NULL; r = r->next)
		if (r->table == table && strcmp(r->key, key) == 0)
			return r;
	return NULL;
}

static struct row *row_copy(struct sim *s, const struct store_row *r)
{
	struct row *d = world_alloc(&s->w, sizeof(*d));

	d->table = r->table;
	d->key = world_copy(&s->w, r->key, strlen(r->key));
	if (r->json != NULL)
		d->json = world_copy(&s->w, r->json, r->len);
	d->len = r->len;
	return d;
}

/* What is on the disk now: look at it, keep it. */
static void row_apply(struct sim *s, const struct row *now)
{
	struct coord_actor *c = &s->coord;
	struct row *r = row_find(c->rows, now->table, now->key);

	check_row(s, now);
	if (r == NULL) {
		r = world_alloc(&s->w, sizeof(*r));
		r->table = now->table;
		r->key = now->key;
		r->next = c->rows;
		c->rows = r;
	}
	r->json = now->json;
	r->len = now->len;
}

static void rows_apply(struct sim *s, const struct row *rows)
{
	for (const struct row *r = rows; r != NULL; r = r->next) {
		LINE(&s->w, "store", "%s = %.3900s", r->key, r->json != NULL ? r->json : "(deleted)");
		row_apply(s, r);
	}
}

static struct row **add_rows(struct sim *s, struct row **end, const struct store_job *j)
{
	for (size_t i = 0; i < j->n; i++) {
		*end = row_copy(s, &j->rows[i]);
		end = &(*end)->next;
	}
	return end;
}

/* ---- what must be there ------------------------------------------------------------- */

static void maybe_add(struct sim *s, struct store_job *const *jobs, size_t n)
{
	struct maybe *m = world_alloc(&s->w, sizeof(*m));
	struct row **end = &m->rows;

	for (size_t i = 0; i < n; i++)
		end = add_rows(s, end, jobs[i]);
	m->next = s->coord.maybes;
	s->coord.maybes = m;
}

/* The last one of this key. */
static const struct row *last_of(const struct row *rows, enum store_table table, const char *key)
{
	const struct row *found = NULL;

	for (const struct row *r = rows; r != NULL; r = r->next)
		if (r->table == table && strcmp(r->key, key) == 0)
			found = r;
	return found;
}

static bool same_row(const struct row *a, const struct row *b)
{
	bool no_a = a == NULL || a->json == NULL, no_b = b == NULL || b->json == NULL;

	return no_a || no_b ? no_a == no_b
			    : a->len == b->len && memcmp(a->json, b->json, a->len) == 0;
}

/* The first row that is not as 'kept', with 'rows' on top, has it. */
static const struct row *differs(struct sim *s, struct row *found, const struct row *rows)
{
	for (struct row *r = s->coord.rows; r != NULL; r = r->next) {
		const struct row *over = last_of(rows, r->table, r->key);

		if (!same_row(row_find(found, r->table, r->key), over != NULL ? over : r))
			return r;
	}
	for (const struct row *r = rows; r != NULL; r = r->next)
		if (!same_row(row_find(found, r->table, r->key), last_of(rows, r->table, r->key)))
			return r;
	for (struct row *r = found; r != NULL; r = r->next)
		if (row_find(s->coord.rows, r->table, r->key) == NULL &&
		    last_of(rows, r->table, r->key) == NULL)
			return r;
	return NULL;
}

static void compare(struct sim *s, struct row *found)
{
	const struct row *bad = differs(s, found, NULL);

	for (const struct maybe *m = s->coord.maybes; m != NULL && bad != NULL; m = m->next)
		if (differs(s, found, m->rows) == NULL) {
			LINE(&s->w, "store", "what was under way is there");
			rows_apply(s, m->rows);
			bad = NULL;
		}
	s->coord.maybes = NULL;
	if (bad != NULL) {
		const struct row *is = row_find(found, bad->table, bad->key);

		sim_fail(s, "3: what was answered as stored is on disk after a crash, whole, and nothing else "
			    "(%s: %.200s)", bad->key, is != NULL ? is->json : "not there");
	}
}

/* ---- open and close ------------------------------------------------------------------- */

static void make(void)
{
	struct err e = { 0 };
	struct db *d;

	if (db_open(DISK_DB, true, &d, &e) < 0) {
		fprintf(stderr, "sim: %s\n", e.text);
		exit(2);
	}
	db_close(d);
}

void simstore_init(void)
{
	disk_init(make);
}

void simstore_finish(void)
{
	disk_finish();
}

void simstore_begin(struct sim *s)
{
	disk_begin(&s->w);
	s->coord.rows = NULL;
	s->coord.maybes = NULL;
	s->coord.n_initial = 0;
}

void simstore_initial(struct sim *s, enum store_table table, const char *key, const char *json,
		      size_t len)
{
	struct coord_actor *c = &s->coord;

	c->initial[c->n_initial++] = (struct store_row){ .table = table,
							 .key = world_copy(&s->w, key, strlen(key)),
							 .json = world_copy(&s->w, json, len),
							 .len = len };
}

struct loading {
	struct sim *s;
	struct row *rows;
};

static int on_row(void *arg, enum store_table table, const char *key, const char *json, size_t len,
		  struct err *e)
{
	struct loading *l = arg;
	struct store_row r = { .table = table, .key = key, .json = json, .len = len };
	struct row *d = row_copy(l->s, &r);

	(void)e;
	d->next = l->rows;
	l->rows = d;
	return 0;
}

/* A cluster is made: the rows of 'init'. */
static void write_initial(struct sim *s)
{
	struct coord_actor *c = &s->coord;
	struct err e = { 0 };

	if (store_rows_write(db, c->initial, c->n_initial, &e) < 0)
		sim_fail(s, "a cluster can be made (%s)", e.text);
	for (size_t i = 0; i < c->n_initial; i++)
		row_apply(s, row_copy(s, &c->initial[i]));
	c->n_initial = 0;
}

bool simstore_open(struct sim *s, struct row **ret)
{
	struct coord_actor *c = &s->coord;
	struct loading l = { s, NULL };
	struct err e = { 0 };

	disk_new_process();
	list_init(&c->queued);
	list_init(&c->writing);
	list_init(&c->kept);
	c->committing = false;
	if (db_open(DISK_DB, false, &db, &e) < 0) {
		db = NULL;
		LINE(&s->w, "store", "%s", e.text);
		if (!disk_is_bad())
			sim_fail(s, "the database can be opened after a crash (%s)", e.text);
		return false;
	}
	if (c->n_initial > 0)
		write_initial(s);
	if (db_each(db, on_row, &l, &e) < 0)
		sim_fail(s, "the database can be read after a crash (%s)", e.text);
	if (!s->failed)
		compare(s, l.rows);
	*ret = l.rows;
	return true;
}

static void free_jobs(struct list *l)
{
	list_foreach_safe(e, l) {
		struct store_job *j = list_entry(e, struct store_job, entry);

		list_remove(e);
		store_job_free(j);
	}
}

/* ---- the thread ----------------------------------------------------------------------- */

static void begin_commit(struct sim *s)
{
	struct coord_actor *c = &s->coord;
	int64_t takes = rng_range(&s->w.rng, MS / 10, 4 * MS);

	if (c->committing || list_empty(&c->queued))
		return;
	c->committing = true;
	while (!list_empty(&c->queued)) {
		struct list *e = c->queued.next;

		list_remove(e);
		list_append(&c->writing, e);
	}
	if (rng_chance(&s->w.rng, s->slow_store))
		takes += rng_range(&s->w.rng, 0, 800 * MS);
	world_at(&s->w, s->w.now + takes, EV_COMMIT, &c->proc, 0, NULL);
}

void simstore_write(struct sim *s, const struct action *a)
{
	struct store_job *j = store_job_new(a->ticket, a->rows, a->n_rows);

	if (j == NULL)
		out_of_memory();
	for (size_t i = 0; i < a->n_rows; i++) {
		silence_row(s, &a->rows[i]);
		gpus_row(s, &a->rows[i]);
		stuck_row(s, &a->rows[i]);
		again_row(s, &a->rows[i]);
	}
	list_append(&s->coord.queued, &j->entry);
	begin_commit(s);
}

/* Writes the group; what is done is seen, what is not is open. */
static bool write_group(struct sim *s, bool dying)
{
	struct coord_actor *c = &s->coord;
	struct store_job *v[256];
	size_t n = 0;
	bool known;

	list_foreach(e, &c->writing)
		if (n < 256)
			v[n++] = list_entry(e, struct store_job, entry);
	known = store_group_write(db, &c->writing) && !dying;
	for (size_t i = 0; i < n; i++) {
		struct row *rows = NULL;

		if (v[i]->error < 0) {
			LINE(&s->w, "store", "transaction %llu: %s", (unsigned long long)v[i]->ticket,
			     v[i]->text);
			continue;
		}
		add_rows(s, &rows, v[i]);
		rows_apply(s, rows);
	}
	if (known) {
		c->maybes = NULL; /* overwritten */
		return true;
	}
	maybe_add(s, v, n);
	for (size_t i = 0; i < n; i++)
		maybe_add(s, &v[i], 1);
	return false;
}

/* What is still not known waits, and all behind it. */
static void answer(struct sim *s, bool known)
{
	struct coord_actor *c = &s->coord;

	while (!list_empty(&c->kept)) {
		struct store_job *j = list_entry(c->kept.next, struct store_job, entry);
		struct txn *t;

		if (j->open && !known)
			break;
		t = world_alloc(&s->w, sizeof(*t));
		list_remove(&j->entry);
		t->ticket = j->ticket;
		t->error = j->error;
		if (j->error < 0)
			t->text = world_copy(&s->w, j->text, strlen(j->text));
		store_job_free(j);
		c->answer_at = c->answer_at > s->w.now ? c->answer_at : s->w.now;
		c->answer_at += rng_range(&s->w.rng, 10000, MS);
		world_at(&s->w, c->answer_at, EV_STORED, &c->proc, 0, t);
	}
}

static void look_again(struct sim *s)
{
	if (!s->coord.committing)
		world_at(&s->w, s->w.now + SECOND, EV_COMMIT, &s->coord.proc, 1, NULL);
}

/* Nothing was written meanwhile. */
void simstore_look(struct sim *s)
{
	struct coord_actor *c = &s->coord;

	if (db == NULL || c->committing || list_empty(&c->kept))
		return;
	if (!store_group_known(db)) {
		look_again(s);
		return;
	}
	c->maybes = NULL;
	answer(s, true);
}

void simstore_commit(struct sim *s)
{
	struct coord_actor *c = &s->coord;
	bool known;

	if (db == NULL)
		return;
	known = write_group(s, false);
	c->committing = false;
	while (!list_empty(&c->writing)) {
		struct list *e = c->writing.next;

		list_remove(e);
		list_append(&c->kept, e);
	}
	answer(s, known);
	begin_commit(s);
	if (!known)
		look_again(s);
}

void simstore_answer(const struct txn *t, struct coord_event *ev)
{
	ev->type = CEV_STORED;
	ev->ticket = t->ticket;
	ev->error = t->error;
	ev->text = t->text;
}

/* ---- the end of the process -------------------------------------------------------------- */

static void shut(struct sim *s)
{
	free_jobs(&s->coord.queued);
	free_jobs(&s->coord.writing);
	free_jobs(&s->coord.kept);
	if (db != NULL)
		db_close(db);
	db = NULL;
}

void simstore_crash(struct sim *s, bool power)
{
	struct coord_actor *c = &s->coord;

	if (db == NULL)
		return;
	if (c->committing && rng_chance(&s->w.rng, 700)) { /* it was at it */
		disk_dies_after((uint32_t)rng_below(&s->w.rng, 12));
		write_group(s, true);
	}
	disk_dies_after(0);
	shut(s);
	if (power)
		disk_power_lost();
}

/* It commits what is queued, then closes the database. */
void simstore_close(struct sim *s)
{
	struct coord_actor *c = &s->coord;

	if (db == NULL)
		return;
	while (!list_empty(&c->queued)) {
		struct list *e = c->queued.next;

		list_remove(e);
		list_append(&c->writing, e);
	}
	if (!list_empty(&c->writing))
		write_group(s, false);
	shut(s);
}

/* The cluster is made anew. */
void simstore_anew(struct sim *s)
{
	disk_begin(&s->w);
	s->told = NULL;
	s->coord.rows = NULL;
	s->coord.maybes = NULL;
}

/* At the end of a run: it is of no interest any more. */
void simstore_drop(struct sim *s)
{
	if (db == NULL)
		return;
	disk_dies_after(0);
	shut(s);
}
