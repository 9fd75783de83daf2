/* store_group.c - see store_group.h */
#include "io/store_group.h"

#include <stdlib.h>
#include <string.h>

/* ---- jobs --------------------------------------------------------------- */

void store_job_free(struct store_job *j)
{
	free(j->rows);
	free(j->text);
	free(j);
}

struct store_job *store_job_new(uint64_t ticket, const struct store_row *rows, size_t n)
{
	struct store_job *j = calloc(1, sizeof(*j));
	size_t bytes = n * sizeof(*rows);
	char *p;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(rows[i].key) + 1 + (rows[i].json ? rows[i].len : 0);
	if (j)
		j->rows = malloc(bytes > 0 ? bytes : 1);
	if (!j || !j->rows) {
		free(j);
		return NULL;
	}

	j->ticket = ticket;
	j->n = n;
	p = (char *)(j->rows + n);
	for (size_t i = 0; i < n; i++) {
		j->rows[i] = rows[i];
		j->rows[i].key = memcpy(p, rows[i].key, strlen(rows[i].key) + 1);
		p += strlen(p) + 1;
		if (rows[i].json) {
			j->rows[i].json = memcpy(p, rows[i].json, rows[i].len);
			p += rows[i].len;
		}
	}
	return j;
}

/* ---- writing ------------------------------------------------------------ */

int store_rows_add(struct db *d, const struct store_row *rows, size_t n, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = db_row(d, &rows[i], e);
	return r;
}

int store_rows_write(struct db *d, const struct store_row *rows, size_t n, struct err *e)
{
	int r = db_begin(d, e);

	if (r == 0)
		r = store_rows_add(d, rows, n, e);
	if (r == 0)
		r = db_commit(d, e);
	if (r < 0)
		db_rollback(d);
	return r;
}

static int write_all(struct db *d, struct list *group, struct err *e)
{
	int r = db_begin(d, e);

	list_foreach(it, group) {
		struct store_job *j = list_entry(it, struct store_job, entry);

		if (r == 0)
			r = store_rows_add(d, j->rows, j->n, e);
	}
	if (r == 0)
		r = db_commit(d, e);
	if (r < 0)
		db_rollback(d);
	return r;
}

static void write_each(struct db *d, struct list *group)
{
	list_foreach(it, group) {
		struct store_job *j = list_entry(it, struct store_job, entry);
		struct err e;

		j->error = store_rows_write(d, j->rows, j->n, &e);
		if (j->error < 0)
			j->text = strdup(e.text);
	}
}

bool store_group_known(struct db *d)
{
	return !db_open_end(d) || db_overwrite(d, NULL) == 0;
}

bool store_group_write(struct db *d, struct list *group)
{
	if (write_all(d, group, NULL) < 0)
		write_each(d, group);
	if (store_group_known(d))
		return true;
	for (struct list *it = group->prev; it != group; it = it->prev) {
		struct store_job *j = list_entry(it, struct store_job, entry);

		if (j->error == 0)
			break; /* it took the place of those before it */
		j->open = true;
	}
	return false;
}
