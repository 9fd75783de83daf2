/* below.c - the host's part of workers.c: what they and our ranks said when they died
 *
 * Where a worker has a file of its own for errors or output, that is read beside
 * the loop (reader.c), and may come a little after its end. Otherwise it shares
 * the rank's pipes, and its exception is looked for in the spool, which is local.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "common/elastic.h"
#include "common/last_line.h"
#include "common/traceback.h"
#include "shim/host.h"

#define FAILURES_MAX 64
#define SPOKEN_AFTER 2000 /* bytes: who writes more than that behind an exception has survived it */

/* ---- exceptions ------------------------------------------------------------ */

/* Who was killed from outside has said nothing about it: what lies in its output
 * is older. */
static bool may_have_spoken(bool known, int status)
{
	int sig = known && WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	return sig != SIGKILL && sig != SIGTERM && sig != SIGINT && sig != SIGHUP;
}

static void drain(struct host *h, uint32_t local)
{
	int64_t wall_ms = host_wall_ms();

	host_read(h, 2 * local, wall_ms, 0);
	host_read(h, 2 * local + 1, wall_ms, 0);
}

/* What an earlier round of workers wrote is not searched. */
static uint64_t from_of(const struct host *h, uint32_t fd)
{
	return h->workers ? h->round_from[fd] : 0;
}

/* In what the rank and all below it wrote, standard error first. */
static void find_in_spool(struct host *h, uint32_t local, int64_t rank, int64_t local_rank, struct traceback *ret)
{
	*ret = (struct traceback){ .rank = -1 };
	for (uint32_t i = 2; i > 0 && ret->kind == TRACEBACK_NONE; i--) {
		size_t n;
		char *p = output_window(h->out, 2 * local + i - 1, from_of(h, i - 1), READER_WINDOW, &n);

		if (p)
			traceback_find(p, n, rank, local_rank, ret);
		free(p);
	}
}

static void set_exception(struct host *h, struct worker *k, const struct traceback *t)
{
	char *copy = strdup(t->text);

	if (!copy)
		return;
	free(k->exception);
	k->exception = copy;
	h->below_changed = true;
}

/* Of an end of its own making, without an exception: what was written last there, by it most likely. */
static void quote_last(struct host *h, const struct worker *k, struct traceback *t)
{
	char line[LAST_LINE_SIZE] = "";

	if (!k->known || WIFSIGNALED(k->status) || WEXITSTATUS(k->status) == 0)
		return;
	for (uint32_t i = 2; i > 0 && line[0] == '\0'; i--) {
		size_t n;
		char *p = output_window(h->out, i - 1, from_of(h, i - 1), READER_WINDOW, &n);

		if (p)
			last_line(p, n, line);
		free(p);
	}
	if (line[0] != '\0') {
		snprintf(t->text, sizeof t->text, "the last line there: %s", line);
		t->kind = TRACEBACK_NOTE;
	}
}

static void ask(struct host *h, const struct worker *k)
{
	struct reader_request req = { .id = worker_id(k), .error_file = k->error_file,
				      .logs = { k->logs[0], k->logs[1] }, .rank = k->rank,
				      .local_rank = k->local_rank };

	if (!k->error_file && !k->logs[0] && !k->logs[1])
		return;
	if (!h->reader) {
		h->reader = reader_create();
		if (h->reader)
			host_poll(h, reader_fd(h->reader), POLL_READER, 0, EPOLLIN);
	}
	reader_ask(h->reader, &req);
}

/* The first to die has lost its peer. Another one here may have raised, and waits at its exit: that tells more. */
static void look_further(struct host *h, struct traceback *t)
{
	static const char by[] = " (of another worker there)";
	struct traceback other;
	size_t n;

	if (t->kind != TRACEBACK_PEER)
		return;
	find_in_spool(h, 0, -1, -1, &other);
	if (other.kind < TRACEBACK_NATIVE || other.after > SPOKEN_AFTER)
		return;
	n = strlen(other.text);
	if (n + sizeof by <= sizeof other.text)
		memcpy(other.text + n, by, sizeof by);
	memcpy(t->text, other.text, sizeof t->text);
	t->kind = other.kind;
}

/* Whose traceback it is can only be guessed where no prefix says so: it is that of
 * the first to die. */
static void examine(struct host *h, struct worker *k)
{
	struct traceback t;

	k->examined = true;
	if (!may_have_spoken(k->known, k->status))
		return;
	ask(h, k);
	if (k->logs[0])
		return;
	drain(h, 0);
	find_in_spool(h, 0, k->rank, k->local_rank, &t);
	if (k == workers_guilty(h->workers)) {
		look_further(h, &t);
		if (t.kind == TRACEBACK_NONE)
			quote_last(h, k, &t);
	}
	if (t.kind != TRACEBACK_NONE && (t.rank == (int64_t)k->rank || k == workers_guilty(h->workers)))
		set_exception(h, k, &t);
}

static void examine_all(struct host *h)
{
	struct worker *k;
	unsigned n = 0;

	while (n++ < BAD_TOLD && (k = workers_unexamined(h->workers)) != NULL)
		examine(h, k);
}

void below_read(struct host *h)
{
	struct traceback t;
	struct worker *k;
	uint64_t id;

	while (h->reader && reader_take(h->reader, &id, &t))
		if (t.kind != TRACEBACK_NONE && (k = workers_by_id(h->workers, id)) != NULL)
			set_exception(h, k, &t);
}

/* ---- what happens ------------------------------------------------------------ */

void below_began(struct host *h)
{
	if (!h->setup.per_node || h->nprocs != 1 || h->started[0].pid <= 0)
		return;
	h->workers = workers_create(h->ep, POLL_WORKER);
	if (h->workers)
		workers_begin(h->workers, h->started[0].pid, host_now());
}

/* Some have ended. When all are over, what comes now is the launcher's or the next round's. */
static void changed(struct host *h)
{
	h->below_changed = true;
	if (workers_alive(h->workers) > 0)
		return;
	drain(h, 0);
	for (uint32_t i = 0; i < 2; i++)
		h->round_end[i] = output_size(h->out, i);
}

void below_look(struct host *h)
{
	if (!workers_look(h->workers, host_now()))
		return;
	if (workers_round(h->workers) != h->round) {
		h->round = workers_round(h->workers);
		memcpy(h->round_from, h->round_end, sizeof h->round_from);
	}
	changed(h);
}

void below_ended(struct host *h, uint32_t index)
{
	if (workers_ended(h->workers, index))
		changed(h);
}

void below_reaped(struct host *h, pid_t pid, int status)
{
	if (h->workers && workers_reaped(h->workers, pid, status))
		changed(h);
}

/* A rank may have raised and not ended, for something at its exit waits: a log that is sent, a thread.
 * After our signal nobody could tell whether its words are older than that. */
static void note_spoken(struct host *h)
{
	uint32_t n = h->workers ? 1 : h->nprocs;
	struct traceback t;

	for (uint32_t i = 0; i < n && i < SHIM_TAILS; i++) {
		if (h->spoken[i])
			continue;
		find_in_spool(h, i, -1, -1, &t);
		if (t.kind >= TRACEBACK_NATIVE && t.after <= SPOKEN_AFTER)
			h->spoken[i] = strdup(t.text);
	}
}

void below_signal(struct host *h)
{
	job_stacks_end(h);
	if (!h->signalled)
		note_spoken(h);
	h->signalled = true;
	if (!h->workers)
		return;
	workers_signalled(h->workers);
	h->below_changed = true;
}

mono_t below_due(const struct host *h)
{
	return h->workers ? workers_due(h->workers) : MONO_NEVER;
}

void below_finish(struct host *h)
{
	for (uint32_t i = 0; i < SHIM_TAILS; i++)
		free(h->spoken[i]);
	workers_destroy(h->workers);
	reader_destroy(h->reader);
}

/* ---- what is told -------------------------------------------------------------- */

static struct shim_below *describe(struct host *h)
{
	struct rec_worker *v = arena_alloc(&h->scratch, WORKERS_MAX * sizeof *v);
	struct shim_below *b = arena_alloc(&h->scratch, sizeof *b);

	if (!b || !v)
		return NULL;
	*b = (struct shim_below){ .workers = v };
	if (h->workers) {
		b->n_workers = workers_list(h->workers, v);
		b->found = workers_found(h->workers);
		b->alive = workers_alive(h->workers);
	}
	return b;
}

bool below_by_kill(const struct host *h)
{
	const struct worker *k = h->workers ? workers_guilty(h->workers) : NULL;

	return k && k->known && WIFSIGNALED(k->status) && WTERMSIG(k->status) == SIGKILL;
}

/* The rank's exception is that of its first worker. */
static const char *guilty_exception(struct host *h)
{
	struct worker *k = h->workers ? workers_guilty(h->workers) : NULL;

	return k ? k->exception : NULL;
}

void below_tell(struct host *h)
{
	struct shim_rank_event re = { .local = 0 };
	struct shim_below *b;

	if (!h->workers || !h->below_changed || h->done)
		return;
	examine_all(h);
	h->below_changed = false;
	b = describe(h);
	if (!b)
		return;
	if (!shim_rank_pid(h->machine, 0)) /* it is over; what was read late belongs to it */
		b->exception = guilty_exception(h);
	re.below = b;
	host_step(h, (struct shim_event){ .type = SEV_WORKERS, .ranks = &re, .n_ranks = 1 });
}

/* The launcher's last words name the workers that it has lost. */
static void read_summary(struct host *h)
{
	struct elastic_failure v[FAILURES_MAX];
	size_t n;

	for (uint32_t i = 0; i < 2; i++) {
		char *p = output_window(h->out, i, from_of(h, i), READER_WINDOW, &n);

		if (p && workers_summary(h->workers, v, elastic_failures(p, n, v, FAILURES_MAX)))
			h->below_changed = true;
		free(p);
	}
}

const struct shim_below *below_rank(struct host *h, const struct shim_rank_event *re)
{
	bool good = WIFEXITED(re->status) && WEXITSTATUS(re->status) == 0;
	struct shim_below *b;
	struct traceback t;

	if (h->workers) {
		workers_collect(h->workers);
		workers_stop(h->workers);
		if (workers_survived(h->workers))
			memcpy(h->round_from, h->round_end, sizeof h->round_from);
		if (!good)
			read_summary(h);
		examine_all(h);
	} else if (good || (!h->signalled && h->n_searched == SHIM_TAILS)) {
		return NULL;
	}
	h->below_changed = false;
	b = describe(h);
	if (!b || good)
		return b;
	if (h->workers && workers_guilty(h->workers)) {
		b->exception = guilty_exception(h);
	} else if (may_have_spoken(true, re->status) && !h->signalled && h->n_searched++ < SHIM_TAILS) {
		find_in_spool(h, re->local, -1, -1, &t);
		b->exception = t.kind != TRACEBACK_NONE ? arena_strdup(&h->scratch, t.text) : NULL;
	}
	if (re->local < SHIM_TAILS)
		b->spoken = h->spoken[re->local];
	return b;
}
