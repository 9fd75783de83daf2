/* reader.c - see reader.h */
#include "shim/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/elastic.h"
#include "shim/beside.h"

#define ERROR_FILE_MAX (1u << 20)

struct answer {
	uint64_t id;
	struct traceback found;
};

struct reader {
	struct beside b; /* users: threads, and the owner */
	unsigned n_out; /* threads under way */
	struct answer answers[READER_MAX];
	unsigned n_answers;
};

struct task {
	struct reader *r;
	uint64_t id;
	char *error_file, *logs[2];
	int64_t rank, local_rank;
};

struct reader *reader_create(void)
{
	struct reader *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	if (beside_open(&r->b))
		return r;
	free(r);
	return NULL;
}

static void let_go(struct reader *r)
{
	if (beside_let_go(&r->b))
		free(r);
}

void reader_destroy(struct reader *r)
{
	if (r)
		let_go(r);
}

int reader_fd(const struct reader *r)
{
	return r->b.fd;
}

/* ---- in the thread ------------------------------------------------------ */

static char *read_end(int fd, size_t max, size_t *ret_n)
{
	struct stat st;
	size_t want, got = 0;
	off_t from;
	char *p;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return NULL;
	want = (uint64_t)st.st_size < max ? (size_t)st.st_size : max;
	from = st.st_size - (off_t)want;
	p = malloc(want);
	while (p && got < want) {
		ssize_t n = pread(fd, p + got, want - got, from + (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	*ret_n = got;
	return p;
}

/* Not blocking on a FIFO that lies there; a link is followed: the path is the
 * job's own, and so is the right to read. */
char *reader_tail(const char *path, size_t max, size_t *ret_n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *p;

	if (fd < 0)
		return NULL;
	p = read_end(fd, max, ret_n);
	close(fd);
	return p;
}

static void look(const struct task *t, struct traceback *ret)
{
	size_t n;
	char *p = t->error_file ? reader_tail(t->error_file, ERROR_FILE_MAX, &n) : NULL;

	*ret = (struct traceback){ .rank = -1 };
	if (p)
		elastic_error_file(p, n, ret);
	free(p);
	for (int i = 0; i < 2 && ret->kind == TRACEBACK_NONE; i++) {
		p = t->logs[i] ? reader_tail(t->logs[i], READER_WINDOW, &n) : NULL;
		if (p)
			traceback_find(p, n, t->rank, t->local_rank, ret);
		free(p);
	}
}

static void free_task(struct task *t)
{
	free(t->error_file);
	free(t->logs[0]);
	free(t->logs[1]);
	free(t);
}

static void *run(void *arg)
{
	struct task *t = arg;
	struct reader *r = t->r;
	struct answer a = { .id = t->id };

	look(t, &a.found);
	free_task(t);
	pthread_mutex_lock(&r->b.lock);
	r->answers[r->n_answers++] = a; /* n_out is not above READER_MAX */
	beside_ring(&r->b);
	pthread_mutex_unlock(&r->b.lock);
	let_go(r);
	return NULL;
}

/* ---- in the loop ---------------------------------------------------------- */

static bool copy(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return !from || *to;
}

bool reader_ask(struct reader *r, const struct reader_request *req)
{
	struct task *t;

	if (!r || r->n_out == READER_MAX)
		return false;
	t = calloc(1, sizeof *t);
	if (!t)
		return false;
	*t = (struct task){ .r = r, .id = req->id, .rank = req->rank, .local_rank = req->local_rank };
	if (!copy(&t->error_file, req->error_file) || !copy(&t->logs[0], req->logs[0]) ||
	    !copy(&t->logs[1], req->logs[1])) {
		free_task(t);
		return false;
	}
	beside_hold(&r->b);
	r->n_out++;
	if (beside_start(run, t))
		return true;
	r->n_out--;
	let_go(r);
	free_task(t);
	return false;
}

bool reader_take(struct reader *r, uint64_t *ret_id, struct traceback *ret)
{
	bool any;

	beside_heard(&r->b);
	pthread_mutex_lock(&r->b.lock);
	any = r->n_answers > 0;
	if (any) {
		*ret_id = r->answers[0].id;
		*ret = r->answers[0].found;
		r->n_answers--;
		memmove(r->answers, r->answers + 1, r->n_answers * sizeof r->answers[0]);
	}
	pthread_mutex_unlock(&r->b.lock);
	if (any)
		r->n_out--;
	return any;
}
