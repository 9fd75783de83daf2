/* workers.c - see workers.h */
#include "shim/workers.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/proc.h"
#include "shim/place.h"
#include "shim/procfs.h"

#define CHILDREN_MAX 1024
#define VISITED_MAX 2048 /* processes in one look */
#define DEPTH_MAX 8 /* bash -> llamafactory-cli -> torchrun -> worker */

/* Looks: often while workers may be on their way, rarely later. */
#define SOON_MS 250
#define SOON_FOR_MS 15000
#define LATER_MS 1000
#define LATER_FOR_MS 120000
#define FOLLOWING_MS 5000
#define NONE_MS 30000
#define DEAR_MS 5000 /* at least, where a look is dear: it reads all of /proc, or met this many for nothing: */
#define MANY 64

struct workers {
	int ep;
	uint32_t kind;
	pid_t root; /* 0: not begun */
	uint64_t root_mark;
	bool have_mark;
	bool signalled;
	bool dear;
	mono_t began; /* the present round */
	mono_t due;
	struct buf env; /* reused */
	struct worker v[FOLLOWED_MAX];
	size_t n;
	size_t more; /* beyond FOLLOWED_MAX, in the last look */
	uint32_t ends; /* so far in this round */
	uint32_t rounds;
	/* while looking */
	size_t visited;
	bool changed;
};

struct workers *workers_create(int epoll_fd, uint32_t kind)
{
	struct workers *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->ep = epoll_fd;
	w->kind = kind;
	w->due = MONO_NEVER;
	buf_init(&w->env);
	return w;
}

static void close_pidfd(struct workers *w, struct worker *k)
{
	if (k->pidfd < 0)
		return;
	epoll_ctl(w->ep, EPOLL_CTL_DEL, k->pidfd, NULL);
	close(k->pidfd);
	k->pidfd = -1;
}

static void forget(struct workers *w)
{
	for (size_t i = 0; i < w->n; i++) {
		close_pidfd(w, &w->v[i]);
		free(w->v[i].error_file);
		free(w->v[i].logs[0]);
		free(w->v[i].logs[1]);
		free(w->v[i].exception);
	}
	w->n = w->more = 0;
	w->ends = 0;
}

void workers_destroy(struct workers *w)
{
	if (!w)
		return;

	forget(w);
	buf_finish(&w->env);
	free(w);
}

void workers_begin(struct workers *w, pid_t root, mono_t now)
{
	w->root = root;
	w->began = now;
	w->due = mono_add_ms(now, SOON_MS);
}

void workers_stop(struct workers *w)
{
	w->due = MONO_NEVER;
}

mono_t workers_due(const struct workers *w)
{
	return w->due;
}

/* ---- what is known ------------------------------------------------------- */

static uint64_t id_of(pid_t pid, uint64_t start_time)
{
	return start_time << 22 | (uint64_t)pid; /* pids are below 2^22 */
}

uint64_t worker_id(const struct worker *w)
{
	return id_of(w->pid, w->start_time);
}

struct worker *workers_by_id(struct workers *w, uint64_t id)
{
	for (size_t i = 0; i < w->n; i++)
		if (worker_id(&w->v[i]) == id)
			return &w->v[i];
	return NULL;
}

const struct worker *workers_live(const struct workers *w, size_t i)
{
	for (size_t k = 0; k < w->n; k++)
		if (!w->v[k].over && i-- == 0)
			return &w->v[k];
	return NULL;
}

uint32_t workers_round(const struct workers *w)
{
	return w->rounds;
}

uint32_t workers_found(const struct workers *w)
{
	return (uint32_t)(w->n + w->more);
}

uint32_t workers_alive(const struct workers *w)
{
	uint32_t n = (uint32_t)w->more;

	for (size_t i = 0; i < w->n; i++)
		n += !w->v[i].over;
	return n;
}

bool worker_ended_badly(const struct worker *w)
{
	return w->over && !(w->known && WIFEXITED(w->status) && WEXITSTATUS(w->status) == 0);
}

/* ---- ends ------------------------------------------------------------------ */

static int64_t clock_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void has_ended(struct workers *w, struct worker *k)
{
	k->over = true;
	k->ours = w->signalled;
	k->order = ++w->ends;
	k->end_us = clock_us(CLOCK_REALTIME);
	k->end_mono_us = clock_us(CLOCK_MONOTONIC);
	close_pidfd(w, k);
	if (workers_alive(w) == 0 && !mono_is_never(w->due)) { /* another round may follow */
		w->began = (mono_t){ k->end_mono_us * 1000 };
		w->due = mono_min(w->due, mono_add_ms(w->began, SOON_MS));
	}
}

struct worker *workers_ended(struct workers *w, uint32_t index)
{
	struct worker *k = index < w->n ? &w->v[index] : NULL;

	if (!k || k->over || k->pidfd < 0)
		return NULL;
	k->known = procfs_status(k->pid, k->start_time, k->pidfd, &k->status);
	has_ended(w, k);
	return k;
}

struct worker *workers_reaped(struct workers *w, pid_t pid, int status)
{
	for (size_t i = 0; i < w->n; i++) {
		struct worker *k = &w->v[i];

		if (k->pid != pid || k->over)
			continue;
		k->known = true;
		k->status = status;
		has_ended(w, k);
		return k;
	}
	return NULL;
}

bool workers_collect(struct workers *w)
{
	bool any = false;

	for (size_t i = 0; i < w->n; i++) {
		struct worker *k = &w->v[i];

		if (k->over || !proc_dead(k->pid, k->start_time))
			continue;
		k->known = procfs_status(k->pid, k->start_time, k->pidfd, &k->status);
		has_ended(w, k);
		any = true;
	}
	return any;
}

void workers_signalled(struct workers *w)
{
	workers_collect(w);
	w->signalled = true;
}

static struct worker *earliest(struct workers *w, bool unexamined)
{
	struct worker *first = NULL;

	for (size_t i = 0; i < w->n; i++) {
		struct worker *k = &w->v[i];

		if (worker_ended_badly(k) && !k->ours && !(unexamined && k->examined) &&
		    (!first || k->order < first->order))
			first = k;
	}
	return first;
}

struct worker *workers_guilty(struct workers *w)
{
	return earliest(w, false);
}

struct worker *workers_unexamined(struct workers *w)
{
	return earliest(w, true);
}

bool workers_survived(struct workers *w)
{
	const struct worker *k = workers_guilty(w);

	if (!k || clock_us(CLOCK_MONOTONIC) - k->end_mono_us < SURVIVED_US)
		return false;
	forget(w);
	return true;
}

/* ---- looks ------------------------------------------------------------------- */

/* All known ones are over, and this one is of another launcher or another try of it. */
static bool begins_round(const struct workers *w, const struct worker *new)
{
	for (size_t i = 0; i < w->n; i++)
		if (!w->v[i].over || (w->v[i].parent == new->parent && w->v[i].round == new->round))
			return false;
	return w->n > 0;
}

static void follow(struct workers *w, struct worker *k)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (uint64_t)w->kind << 32 | (uint64_t)(k - w->v) };

	k->pidfd = procfs_open(k->pid, k->start_time);
	if (k->pidfd < 0)
		return;
	if (epoll_ctl(w->ep, EPOLL_CTL_ADD, k->pidfd, &ev) < 0) {
		close(k->pidfd);
		k->pidfd = -1;
	}
}

/* Logs of its own: torchrun --redirects, --tee, --log-dir. A pipe is the rank's. */
static void note_files(struct worker *k, const char *error_file)
{
	k->error_file = error_file && *error_file == '/' ? strdup(error_file) : NULL;
	k->logs[0] = procfs_path(k->pid, 2);
	k->logs[1] = procfs_path(k->pid, 1);
	if (k->logs[0] && k->logs[1] && strcmp(k->logs[0], k->logs[1]) == 0) {
		free(k->logs[1]);
		k->logs[1] = NULL;
	}
}

static void add(struct workers *w, const struct proc_stat *st, const struct place *place)
{
	struct worker new = { .pid = st->pid, .parent = st->ppid, .start_time = st->start_time, .rank = place->rank,
			      .local_rank = place->local_rank, .round = place->round, .pidfd = -1 };

	w->changed = true;
	if (begins_round(w, &new)) {
		forget(w);
		w->rounds++;
	}
	if (w->n == FOLLOWED_MAX) {
		w->more++;
		return;
	}
	w->v[w->n] = new;
	note_files(&w->v[w->n], place->error_file);
	follow(w, &w->v[w->n]);
	w->n++;
}

static void walk(struct workers *w, pid_t parent, unsigned depth);

static void visit(struct workers *w, pid_t pid, unsigned depth)
{
	struct proc_stat st;
	struct place place;

	if (++w->visited > VISITED_MAX || proc_read(pid, &st) < 0 || st.dead || workers_by_id(w, id_of(pid, st.start_time)))
		return;
	if (procfs_environ(pid, &w->env) < 0)
		return; /* another user's, or gone */
	place_read(buf_str(&w->env), w->env.len, &place);
	if (place.valid && w->have_mark && place.mark != w->root_mark)
		add(w, &st, &place);
	else
		walk(w, pid, depth + 1);
}

static void walk(struct workers *w, pid_t parent, unsigned depth)
{
	pid_t kids[CHILDREN_MAX];
	size_t n = depth < DEPTH_MAX ? procfs_children(parent, kids, CHILDREN_MAX, &w->dear) : 0;

	for (size_t i = 0; i < n; i++)
		visit(w, kids[i], depth);
}

static void plan(struct workers *w, mono_t now)
{
	int64_t age_ms = (now.ns - w->began.ns) / 1000000;
	uint32_t ms = w->n ? FOLLOWING_MS : NONE_MS;

	if (age_ms < SOON_FOR_MS)
		ms = SOON_MS;
	else if (age_ms < LATER_FOR_MS)
		ms = LATER_MS;
	if ((w->dear || (w->visited > MANY && !w->n)) && ms < DEAR_MS)
		ms = DEAR_MS;
	w->due = mono_add_ms(now, ms);
}

static void take_mark(struct workers *w)
{
	struct place place;

	if (w->have_mark || procfs_environ(w->root, &w->env) < 0)
		return;
	place_read(buf_str(&w->env), w->env.len, &place);
	w->root_mark = place.mark;
	w->have_mark = place.valid;
}

bool workers_look(struct workers *w, mono_t now)
{
	if (!w->root || mono_is_never(w->due))
		return false;
	w->changed = false;
	w->visited = 0;
	w->more = 0;
	take_mark(w);
	if (w->have_mark)
		walk(w, w->root, 0);
	w->changed = workers_collect(w) || w->changed;
	plan(w, now);
	return w->changed;
}

/* ---- what is told -------------------------------------------------------------- */

/* By its rank: in a container torchrun knows its workers by other pids than we. */
static struct worker *by_number(struct workers *w, uint32_t rank)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].rank == rank)
			return &w->v[i];
	return NULL;
}

static int status_of(int code)
{
	return code < 0 ? -code : code << 8;
}

/* One that lived too shortly to be seen. torchrun's root cause came before all
 * that we have seen to end. */
static struct worker *add_told(struct workers *w, const struct elastic_failure *f)
{
	struct worker *k;

	if (w->n == FOLLOWED_MAX)
		return NULL;
	k = &w->v[w->n++];
	*k = (struct worker){ .pid = (pid_t)f->pid, .rank = f->rank, .local_rank = f->local_rank, .pidfd = -1,
			      .told = true };
	has_ended(w, k);
	if (!f->root)
		return k;
	k->order = 0;
	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].over && w->v[i].end_us < k->end_us)
			k->end_us = w->v[i].end_us;
	return k;
}

static bool take_failure(struct workers *w, const struct elastic_failure *f)
{
	struct worker *k = by_number(w, f->rank);

	if (k && (k->known || !k->over))
		return false;
	if (!k)
		k = add_told(w, f);
	if (!k)
		return false;
	k->known = true;
	k->status = status_of(f->code);
	return true;
}

bool workers_summary(struct workers *w, const struct elastic_failure *v, size_t n)
{
	bool changed = false;

	for (int root = 1; root >= 0; root--)
		for (size_t i = 0; i < n; i++)
			if (v[i].root == (bool)root)
				changed = take_failure(w, &v[i]) || changed;
	return changed;
}

static void fill(const struct worker *k, struct rec_worker *out)
{
	*out = (struct rec_worker){ .rank = k->rank, .pid = (uint32_t)k->pid, .exception = k->exception };
	MSG_SET(out, worker, local_rank, k->local_rank);
	out->state = "running";
	if (!k->over)
		return;
	out->state = !k->known ? "unknown" : WIFSIGNALED(k->status) ? "killed" : "exited";
	if (k->known && WIFSIGNALED(k->status)) {
		MSG_SET(out, worker, sig, (uint32_t)WTERMSIG(k->status));
		out->core = WCOREDUMP(k->status);
	} else if (k->known) {
		MSG_SET(out, worker, code, (uint32_t)WEXITSTATUS(k->status));
	}
	out->ours = k->ours;
	out->end_us = k->end_us;
	out->end_mono_us = k->told ? 0 : k->end_mono_us;
}

static int by_end(const void *a, const void *b)
{
	const struct worker *x = *(const struct worker *const *)a, *y = *(const struct worker *const *)b;

	return (x->order > y->order) - (x->order < y->order);
}

static int by_rank(const void *a, const void *b)
{
	const struct rec_worker *x = a, *y = b;

	return (x->rank > y->rank) - (x->rank < y->rank);
}

size_t workers_list(struct workers *w, struct rec_worker out[WORKERS_MAX])
{
	const struct worker *bad[FOLLOWED_MAX] = { NULL };
	size_t n_bad = 0, n, from;

	for (size_t i = 0; i < w->n; i++)
		if (worker_ended_badly(&w->v[i]))
			bad[n_bad++] = &w->v[i];
	qsort(bad, n_bad, sizeof *bad, by_end);
	for (n = 0; n < n_bad && n < BAD_TOLD; n++)
		fill(bad[n], &out[n]);
	from = n;
	for (size_t i = 0; i < w->n && n < WORKERS_MAX; i++)
		if (!w->v[i].over)
			fill(&w->v[i], &out[n++]);
	qsort(out + from, n - from, sizeof *out, by_rank);
	return n;
}
