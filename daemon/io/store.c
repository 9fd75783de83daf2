/* store.c - the thread that commits, and the answers back on the loop
 *
 * The loop appends jobs to 'queued'; the thread takes all of them, commits
 * them as one (store_group.c), appends them to 'finished' and wakes the loop. Those
 * of which it is not known yet whether they are on the disk it keeps, and all behind them. */
#include "io/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/list.h"
#include "io/files.h"
#include "io/store_db.h"
#include "io/store_group.h"

#define THREAD_STACK (256 << 10)
#define KNOWN_RETRY_S 1

struct store {
	struct db *db;
	int lock_fd;
	uv_async_t wake;
	store_done done;
	void *arg;
	bool wake_open, started, closed, batch;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t work;
	/* under the mutex */
	struct list queued, finished;
	bool stop;
	uint64_t commits;
	bool limit_set;
	unsigned limit;
};

/* ---- the thread --------------------------------------------------------- */

static void move_all(struct list *from, struct list *to)
{
	while (!list_empty(from)) {
		struct list *e = from->next;

		list_remove(e);
		list_append(to, e);
	}
}

/* In order, as far as it is known what became of them. */
static void move_known(struct list *from, struct list *to, bool known)
{
	while (!list_empty(from) && (known || !list_entry(from->next, struct store_job, entry)->open)) {
		struct list *e = from->next;

		list_remove(e);
		list_append(to, e);
	}
}

/* Until there is something to do; those that are kept are something, after a while. */
static void wait_for_work(struct store *s, bool kept)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += KNOWN_RETRY_S;
	while (list_empty(&s->queued) && !s->stop)
		if (!kept)
			pthread_cond_wait(&s->work, &s->mutex);
		else if (pthread_cond_timedwait(&s->work, &s->mutex, &until) == ETIMEDOUT)
			return;
}

static void *thread_main(void *arg)
{
	struct store *s = arg;
	struct list group, kept;
	bool known = true, some;

	list_init(&group);
	list_init(&kept);
	pthread_mutex_lock(&s->mutex);
	for (;;) {
		wait_for_work(s, !known);
		if (list_empty(&s->queued) && s->stop)
			break;
		move_all(&s->queued, &group);
		if (s->limit_set)
			db_limit_pages(s->db, s->limit);
		s->limit_set = false;
		pthread_mutex_unlock(&s->mutex);

		some = !list_empty(&group);
		known = some ? store_group_write(s->db, &group) : store_group_known(s->db);
		move_all(&group, &kept);

		pthread_mutex_lock(&s->mutex);
		s->commits += some;
		move_known(&kept, &s->finished, known);
		uv_async_send(&s->wake);
	}
	pthread_mutex_unlock(&s->mutex);
	list_foreach_safe(e, &kept) /* nobody is told */
		store_job_free(list_entry(e, struct store_job, entry));
	return NULL;
}

static void on_wake(uv_async_t *a)
{
	struct store *s = a->data;
	struct list done;

	list_init(&done);
	pthread_mutex_lock(&s->mutex);
	move_all(&s->finished, &done);
	pthread_mutex_unlock(&s->mutex);
	while (!list_empty(&done)) {
		struct store_job *j = list_entry(done.next, struct store_job, entry);

		list_remove(&j->entry);
		if (!s->closed)
			s->done(s->arg, j->ticket, j->error, j->text);
		store_job_free(j);
	}
}

/* ---- opening ------------------------------------------------------------ */

static int take_lock(const char *dir, int *ret_fd, struct err *e)
{
	char path[PATH_MAX];
	pid_t pid = 0;
	int fd;

	if (snprintf(path, sizeof(path), "%s/lock", dir) >= (int)sizeof(path))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
	fd = file_lock(path, &pid, e);
	if (fd == -EBUSY)
		return err_set(e, EBUSY, "%s is in use by the coordinator with process id %ld", dir,
			       (long)pid);
	*ret_fd = fd;
	return fd < 0 ? fd : 0;
}

/* SQLite would make it readable for all, as the umask allows; the WAL takes
 * after the database. */
static void make_private(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd >= 0)
		close(fd);
}

int store_open(const char *dir, bool create, struct store **ret, struct err *e)
{
	pthread_condattr_t attr;
	char path[PATH_MAX];
	struct store *s;
	int r;

	if (snprintf(path, sizeof(path), "%s/state.db", dir) >= (int)sizeof(path))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
	if (!create && access(path, F_OK) < 0)
		return err_set(e, errno, "%s: %s. Make a cluster with: nodeagentd init", path,
			       strerror(errno));

	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, ENOMEM, "out of memory");
	s->lock_fd = -1;
	list_init(&s->queued);
	list_init(&s->finished);
	pthread_mutex_init(&s->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->work, &attr);
	pthread_condattr_destroy(&attr);
	r = take_lock(dir, &s->lock_fd, e);
	if (r == 0 && create)
		make_private(path);
	if (r == 0)
		r = db_open(path, create, &s->db, e);
	if (r < 0)
		store_close(s);
	else
		*ret = s;
	return r;
}

int store_each(struct store *s,
	       int (*f)(void *arg, enum store_table table, const char *key, const char *json,
			size_t len, struct err *e),
	       void *arg, struct err *e)
{
	return db_each(s->db, f, arg, e);
}

int store_write_now(struct store *s, const struct store_row *rows, size_t n, struct err *e)
{
	return s->batch ? store_rows_add(s->db, rows, n, e) : store_rows_write(s->db, rows, n, e);
}

int store_batch_begin(struct store *s, struct err *e)
{
	int r = db_begin(s->db, e);

	s->batch = r == 0;
	return r;
}

int store_batch_end(struct store *s, struct err *e)
{
	s->batch = false;
	return db_commit(s->db, e);
}

int store_start(struct store *s, uv_loop_t *loop, store_done done, void *arg, struct err *e)
{
	pthread_attr_t attr;
	sigset_t all, was;
	int r;

	s->done = done;
	s->arg = arg;
	s->wake.data = s;
	r = uv_async_init(loop, &s->wake, on_wake);
	if (r < 0)
		return err_set(e, -r, "cannot start the store: %s", uv_strerror(r));
	s->wake_open = true;
	uv_unref((uv_handle_t *)&s->wake);

	/* Signals belong to the loop's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	r = pthread_create(&s->thread, &attr, thread_main, s);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	if (r != 0)
		return err_set(e, r, "cannot start the store's thread: %s", strerror(r));
	s->started = true;
	return 0;
}

int store_write(struct store *s, uint64_t ticket, const struct store_row *rows, size_t n)
{
	struct store_job *j = store_job_new(ticket, rows, n);

	if (!j)
		return -ENOMEM;

	pthread_mutex_lock(&s->mutex);
	list_append(&s->queued, &j->entry);
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->mutex);
	return 0;
}

/* ---- closing ------------------------------------------------------------ */

static void store_free(struct store *s)
{
	list_foreach_safe(e, &s->finished)
		store_job_free(list_entry(e, struct store_job, entry));
	pthread_cond_destroy(&s->work);
	pthread_mutex_destroy(&s->mutex);
	free(s);
}

static void on_closed(uv_handle_t *h)
{
	store_free(h->data);
}

void store_close(struct store *s)
{
	if (!s)
		return;

	s->closed = true;
	if (s->started) {
		pthread_mutex_lock(&s->mutex);
		s->stop = true;
		pthread_cond_signal(&s->work);
		pthread_mutex_unlock(&s->mutex);
		pthread_join(s->thread, NULL);
	}
	db_close(s->db);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	if (s->wake_open)
		uv_close((uv_handle_t *)&s->wake, on_closed);
	else
		store_free(s);
}

void store_limit_pages(struct store *s, unsigned n)
{
	pthread_mutex_lock(&s->mutex);
	s->limit = n;
	s->limit_set = true;
	pthread_mutex_unlock(&s->mutex);
}

uint64_t store_commits(const struct store *s)
{
	return s->commits;
}
