/* sweep.c - see sweep.h */
#include "shim/sweep.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/left.h"
#include "common/proc_sys.h"
#include "shim/machine.h"

#define FIRST_ROOM 256
#define ROOM_MAX (1u << 20)

struct target {
	pid_t pid;
	uint64_t start;
};

struct sweep {
	struct target *hits;
	size_t n_hits, cap_hits;
};

struct sweep *sweep_create(void)
{
	return calloc(1, sizeof(struct sweep));
}

void sweep_destroy(struct sweep *s)
{
	if (!s)
		return;

	free(s->hits);
	free(s);
}

/* All descendants; the array is the caller's. NULL when none or on failure. */
static pid_t *descendants(size_t *ret_n)
{
	pid_t *v = NULL;
	int n = FIRST_ROOM;

	for (size_t room = 0; n > 0 && (size_t)n > room && (size_t)n <= ROOM_MAX;) {
		pid_t *more;

		room = (size_t)n + FIRST_ROOM;
		more = realloc(v, room * sizeof *v);
		if (!more)
			break;
		v = more;
		n = proc_descendants(proc_sys_self(), v, room);
		if (n >= 0 && (size_t)n <= room) {
			*ret_n = (size_t)n;
			return v;
		}
	}
	free(v);
	return NULL;
}

static int by_pid(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return (x > y) - (x < y);
}

/* Start times are read between two looks: who is below us in both and still
 * has that start time when signalled was below us all along. */
static struct target *find_targets(size_t *ret_n)
{
	size_t n1 = 0, n2 = 0, n = 0;
	pid_t *first = descendants(&n1), *second = NULL;
	struct target *t = first && n1 ? calloc(n1, sizeof *t) : NULL;

	for (size_t i = 0; t && i < n1; i++) {
		t[i].pid = first[i];
		if (proc_start_time(first[i], &t[i].start) < 0)
			t[i].pid = 0;
	}
	if (t)
		second = descendants(&n2);
	if (second)
		qsort(second, n2, sizeof *second, by_pid);
	for (size_t i = 0; second && i < n1; i++)
		if (t[i].pid && bsearch(&t[i].pid, second, n2, sizeof *second, by_pid))
			t[n++] = t[i];
	free(first);
	free(second);
	*ret_n = n;
	return t;
}

static void remember(struct sweep *s, const struct target *t)
{
	for (size_t i = 0; i < s->n_hits; i++)
		if (s->hits[i].pid == t->pid && s->hits[i].start == t->start)
			return;
	if (s->n_hits == s->cap_hits) {
		size_t cap = s->cap_hits ? 2 * s->cap_hits : 16;
		struct target *more = realloc(s->hits, cap * sizeof *more);

		if (!more)
			return;
		s->hits = more;
		s->cap_hits = cap;
	}
	s->hits[s->n_hits++] = *t;
}

uint32_t sweep_signal(struct sweep *s, int sig, bool count, bool (*skip)(void *arg, pid_t pid),
		      void *arg)
{
	uint32_t sent = 0;
	size_t n;
	struct target *t = find_targets(&n);

	for (size_t i = 0; t && i < n; i++) {
		if (skip && skip(arg, t[i].pid))
			continue;
		if (proc_signal(t[i].pid, t[i].start, sig) < 0)
			continue;
		if (sig == SIGTERM)
			proc_signal(t[i].pid, t[i].start, SIGCONT);
		if (count)
			remember(s, &t[i]);
		sent++;
	}
	free(t);
	return sent;
}

struct ranks {
	const struct shim *machine;
	uint32_t n;
};

/* In the group of a rank that lives: kill(-pid) has reached it. */
static bool in_rank_group(void *arg, pid_t pid)
{
	const struct ranks *r = arg;
	pid_t group = proc_sys_group(pid);

	for (uint32_t i = 0; i < r->n; i++)
		if (group == shim_rank_pid(r->machine, i))
			return true;
	return false;
}

/* A rank that is not reaped keeps its pid and group: they cannot be a stranger's. */
void sweep_signal_all(struct sweep *s, const struct shim *machine, uint32_t nprocs, int sig)
{
	struct ranks r = { machine, nprocs };

	for (uint32_t i = 0; i < nprocs; i++) {
		pid_t pid = shim_rank_pid(machine, i);

		if (pid > 1)
			proc_sys_kill(-pid, sig);
		if (pid > 1 && sig == SIGTERM)
			proc_sys_kill(-pid, SIGCONT); /* what is stopped could not act on it */
	}
	sweep_signal(s, sig, false, in_rank_group, &r);
}

size_t sweep_stuck(struct arena *a, struct rec_stuck_proc *v, size_t max)
{
	char text[LEFT_TEXT_MAX];
	size_t n, k = 0;
	struct target *t = find_targets(&n);

	for (size_t i = 0; t && i < n; i++) {
		const struct proc_id id = { t[i].pid, t[i].start };
		int r = proc_signal(id.pid, id.start_time, SIGKILL);
		struct proc_stat st;

		if ((r < 0 && r != -EPERM) || k == max || proc_read(id.pid, &st) || st.start_time != id.start_time)
			continue;
		left_tell(&id, text, sizeof text);
		v[k] = (struct rec_stuck_proc){ .pid = (uint32_t)id.pid, .start_time = id.start_time,
						.name = arena_strdup(a, st.name), .text = arena_strdup(a, text) };
		if (r == -EPERM)
			MSG_SET(&v[k], stuck_proc, foreign, true);
		k++;
	}
	free(t);
	return k;
}

uint32_t sweep_hits(const struct sweep *s)
{
	return (uint32_t)s->n_hits;
}
