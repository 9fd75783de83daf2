/* pulse.c - see pulse.h */
#include "shim/pulse.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/proc.h"
#include "common/proc_sys.h"
#include "shim/flight.h"
#include "shim/procfs.h"

#define PROCS_MAX 512
#define THREADS_MAX 128 /* of one process that are asked why they wait */
#define TREE_MS 30000 /* who is below is looked up this often, and when nothing seems to be used */
#define IDLE_TREE_MS 5000
#define THREADS_MS 5000
#define IDLE_MS 1000
#define IDLE_TELL_MS 5000
#define CPU_LEAST 30 /* permille of a core */
#define MOVED_LEAST 1048576 /* bytes a second: less is a heartbeat through a pipe */
#define ANSWER_LATE_MS (FLIGHT_MS + 1000)
#define ANSWER_MOST_MS 10000 /* all that was taken for answers, less the rest since: where nobody answers it is asked again and again */
#define ANSWER_CPU 1250 /* permille of a core: one thread makes the dump; the first one takes seconds, for the names of functions */
#define ANSWER_READ (1u << 30) /* ... which it reads from libraries */
#define ANSWER_WRITTEN TORCH_FLIGHT_MAX
#define WRITES_MUCH 5000000 /* bytes a second */
#define FLUSHES_LEAST 1000000 /* bytes a second: more than a system's own logs */
#define FLUSHED_MS 20000

struct use {
	pid_t pid;
	uint64_t start_time;
	uint64_t ticks, disk_read, disk_written, moved;
	char state;
	bool read; /* at all */
};

struct tracked {
	struct pulse_target t;
	struct use *procs; /* own; the target itself is the first */
	size_t n_procs, cap;
	mono_t threads_at; /* they are looked at again then, while it is idle */
	mono_t tree_at, looked, used_at, state_at; /* never: not yet; used_at: the end of the last look with progress */
	uint32_t cpu_permille;
	uint64_t read_bps, write_bps;
	bool idle, seen;
	uint64_t spared_ms; /* of what it did, taken for an answer */
	char state, wchan[65];
	char threads[200]; /* where they wait, when idle */
	pid_t waiter; /* the thread that state and wchan are of, when it waits for files */
	uint64_t calls; /* its reads and writes that have come back */
	uint32_t told; /* what was told last, as a number */
};

struct pulse {
	uint32_t period_ms;
	mono_t due, told_at;
	mono_t asked_at, answered_at; /* asked for a dump. never: not yet */
	bool again, idle; /* idle: some rank is */
	mono_t host_at, flushed_at; /* /proc/vmstat was read last; pages went to disks. never: not yet */
	uint64_t host_pages;
	struct tracked *v; /* own */
	size_t n;
};

struct pulse *pulse_create(uint32_t period_ms, mono_t now)
{
	struct pulse *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->period_ms = period_ms;
	p->due = mono_add_ms(now, period_ms < IDLE_MS ? period_ms : IDLE_MS);
	p->again = true;
	p->told_at = p->asked_at = p->answered_at = p->host_at = p->flushed_at = MONO_NEVER;
	return p;
}

static void forget(struct tracked *k)
{
	free(k->procs);
	k->procs = NULL;
}

void pulse_destroy(struct pulse *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++)
		forget(&p->v[i]);
	free(p->v);
	free(p);
}

mono_t pulse_due(const struct pulse *p)
{
	return p->due;
}

bool pulse_is_progress(const struct pulse_use *u)
{
	if (u->disk_read || u->disk_written)
		return true;
	return u->cpu_ms * 1000 >= u->span_ms * CPU_LEAST || u->moved * 1000 >= u->span_ms * MOVED_LEAST;
}

/* ---- /proc --------------------------------------------------------------- */

/* Fields 14 to 17 of stat: its own time, and that of children it has waited for. */
static bool read_stat(struct use *u)
{
	char text[1024], *p, *word, *save = NULL;
	unsigned long long start = 0;

	if (proc_read_file(u->pid, "stat", text, sizeof text) <= 0 || !(p = strrchr(text, ')')))
		return false;
	u->ticks = 0;
	word = strtok_r(p + 1, " \n", &save);
	for (int field = 3; word && field <= 22; word = strtok_r(NULL, " \n", &save), field++) {
		if (field == 3)
			u->state = *word;
		else if (field >= 14 && field <= 17)
			u->ticks += strtoull(word, NULL, 10);
		else if (field == 22)
			start = strtoull(word, NULL, 10);
	}
	if (u->start_time && start != u->start_time)
		return false;
	u->start_time = start;
	return start != 0 && u->state != 'Z' && u->state != 'X';
}

bool pulse_waits_for_files(char state, const char *wchan)
{
	static const char *const waits[] = { "request_wait_answer", "fuse_", "p9_client_rpc" }; /* as in core/hang.c; others in D */

	for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++)
		if (strncmp(wchan, waits[i], strlen(waits[i])) == 0)
			return true;
	return state == 'D';
}

static uint64_t number_after(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? strtoull(p + strlen(name), NULL, 10) : 0;
}

/* Not there for one that is not ours any more (it has become another user's). */
static void read_io(struct use *u)
{
	char text[512];

	if (proc_read_file(u->pid, "io", text, sizeof text) <= 0)
		return;
	u->moved = number_after(text, "rchar: ") + number_after(text, "wchar: ");
	u->disk_read = number_after(text, "\nread_bytes: ");
	u->disk_written = number_after(text, "\nwrite_bytes: ");
}

static void add_proc(struct tracked *k, pid_t pid)
{
	if (k->n_procs == PROCS_MAX)
		return;
	for (size_t i = 0; i < k->n_procs; i++)
		if (k->procs[i].pid == pid)
			return;
	if (k->n_procs == k->cap) {
		size_t cap = k->cap ? 2 * k->cap : 8;
		struct use *more = realloc(k->procs, cap * sizeof *more);

		if (!more)
			return;
		k->procs = more;
		k->cap = cap;
	}
	k->procs[k->n_procs++] = (struct use){ .pid = pid };
}

/* The list grows while it is walked. */
static void find_tree(struct tracked *k)
{
	pid_t kids[256];
	bool dear;

	for (size_t i = 0; i < k->n_procs; i++) {
		size_t n = procfs_children(k->procs[i].pid, kids, 256, &dear);

		for (size_t c = 0; c < n; c++)
			add_proc(k, kids[c]);
	}
}

static uint64_t more(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

/* What each used since the last look. What one that is new has used before it was found is not
 * known to be of that time. */
static void sum_up(struct tracked *k, struct pulse_use *ret)
{
	static long hz;
	uint64_t ticks = 0;
	size_t kept = 0;

	if (!hz)
		hz = sysconf(_SC_CLK_TCK);
	for (size_t i = 0; i < k->n_procs; i++) {
		struct use old = k->procs[i], new = old;

		if (!read_stat(&new)) {
			if (i > 0)
				continue; /* gone: its time is in its parent's now */
			new = old;
		}
		read_io(&new);
		if (old.read) {
			ticks += more(new.ticks, old.ticks);
			ret->disk_read += more(new.disk_read, old.disk_read);
			ret->disk_written += more(new.disk_written, old.disk_written);
			ret->moved += more(new.moved, old.moved);
		}
		new.read = true;
		k->procs[kept++] = new;
	}
	k->n_procs = kept;
	ret->cpu_ms = ticks * 1000 / (uint64_t)(hz > 0 ? hz : 100);
}

static int weight(char state)
{
	return state == 'T' || state == 't' ? 2 : state == 'D' ? 1 : 0;
}

static void take_wchan(pid_t pid, const char *tid, char out[65])
{
	char name[48];

	snprintf(name, sizeof name, "task/%.16s/wchan", tid);
	if (proc_read_file(pid, name, out, 65) <= 0 || strcmp(out, "0") == 0)
		out[0] = '\0';
	for (char *c = out; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '_' && *c != '.')
			*c = '?';
}

/* A cgroup that is frozen (docker pause, systemctl freeze, a scheduler's suspend) shows its processes in state D or S,
 * in whatever they were. Line: "4:freezer:/a/b", of version 2 "0::/a/b". */
static bool line_is_frozen(const char *line)
{
	const char *names = strchr(line, ':'), *dir = names ? strchr(names + 1, ':') : NULL;
	bool second = dir == names + 1;
	char path[512], text[256];
	ssize_t n;

	if (!dir || (!second && !memmem(names, (size_t)(dir - names), "freezer", 7)))
		return false;
	snprintf(path, sizeof path, second ? "/sys/fs/cgroup%s/cgroup.events" : "/sys/fs/cgroup/freezer%s/freezer.state", dir + 1);
	n = proc_sys_file(path, text, sizeof text);
	return n > 0 && (second ? strstr(text, "frozen 1") != NULL : strncmp(text, "FROZEN", 6) == 0);
}

static bool is_frozen(pid_t pid)
{
	char text[4096], *save = NULL;

	if (proc_read_file(pid, "cgroup", text, sizeof text) <= 0)
		return false;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (line_is_frozen(line))
			return true;
	return false;
}

static char thread_state(pid_t pid, const char *tid)
{
	char name[48], text[512];
	const char *p;

	snprintf(name, sizeof name, "task/%.16s/stat", tid);
	if (proc_read_file(pid, name, text, sizeof text) <= 0 || !(p = strrchr(text, ')')) || p[1] != ' ')
		return '?';
	return p[2];
}

#define PLACES_MAX 8 /* in which threads wait, told apart */

struct places {
	struct {
		char wchan[65];
		unsigned n;
	} v[PLACES_MAX];
	size_t n;
	unsigned others;
};

static void count_place(struct places *p, const char *wchan)
{
	size_t i = 0;

	while (i < p->n && strcmp(p->v[i].wchan, wchan) != 0)
		i++;
	if (i == PLACES_MAX || !wchan[0]) {
		p->others++;
		return;
	}
	if (i == p->n)
		snprintf(p->v[p->n++].wchan, sizeof p->v[i].wchan, "%s", wchan);
	p->v[i].n++;
}

/* "40 futex_do_wait, 3 ep_poll, 1 nfs_wait, 2 elsewhere": rare ones say most, and come last. */
static void say_places(struct places *p, char out[200])
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t k = 0; k < p->n; k++) {
		size_t best = 0;

		for (size_t i = 1; i < p->n; i++)
			if (p->v[i].n > p->v[best].n)
				best = i;
		if (used < 130)
			used += (size_t)snprintf(out + used, 200 - used, "%s%u %.60s", used ? ", " : "", p->v[best].n,
						 p->v[best].wchan);
		p->v[best].n = 0;
	}
	if (p->others && used && used < 180)
		snprintf(out + used, 200 - used, ", %u elsewhere", p->others);
}

/* One thread that waits for a disk holds up all of them: it may be any. */
static void look_at_threads(const struct use *u, struct places *p, char *state, char wchan[65], pid_t ret_which[2])
{
	char path[32];
	struct dirent *d;
	DIR *tasks;

	snprintf(path, sizeof path, "/proc/%d/task", (int)u->pid);
	tasks = opendir(path);
	for (int i = 0; tasks && i < THREADS_MAX && (d = readdir(tasks)) != NULL; i++) {
		char s = isdigit((unsigned char)d->d_name[0]) ? thread_state(u->pid, d->d_name) : '?';

		char where[65];

		if (s == '?')
			continue;
		take_wchan(u->pid, d->d_name, where);
		count_place(p, where);
		if (*state && weight(s) <= weight(*state))
			continue;
		*state = s;
		memcpy(wchan, where, sizeof where);
		ret_which[0] = u->pid;
		ret_which[1] = (pid_t)atoi(d->d_name);
	}
	if (tasks)
		closedir(tasks);
}

/* A server that is slow gives little, and answers: each call that has come back is another wait. Counted is
 * the waiting thread only, for others write into pipes whatever becomes of it. */
static void look_at_answers(struct tracked *k, const pid_t which[2], char state, const char *wchan, mono_t now)
{
	char text[512], name[32];
	uint64_t calls;

	snprintf(name, sizeof name, "task/%d/io", (int)which[1]);
	if (!k->idle || !pulse_waits_for_files(state, wchan) || proc_read_file(which[0], name, text, sizeof text) <= 0) {
		k->waiter = 0;
		return;
	}
	calls = number_after(text, "syscr: ") + number_after(text, "syscw: ");
	if (k->waiter == which[1] && calls != k->calls)
		k->used_at = k->state_at = now;
	k->waiter = which[1];
	k->calls = calls;
}

/* Of a rank that uses nothing: the state that says most, the rank's own process first. */
static void look_at_state(struct tracked *k, mono_t now)
{
	char state = '\0', wchan[65] = "";
	struct places places = { .n = 0 };
	pid_t which[2] = { 0, 0 };

	if (!k->n_procs)
		return;
	if (!k->idle)
		k->threads_at = now;
	else if (!mono_due(k->threads_at, now) && weight(k->procs[0].state) == weight(k->state))
		return; /* hundreds of them in each process: not every second */
	else
		k->threads_at = mono_add_ms(now, THREADS_MS);
	if (k->idle)
		for (size_t i = 0; i < k->n_procs && weight(state) == 0; i++)
			look_at_threads(&k->procs[i], &places, &state, wchan, which);
	look_at_answers(k, which, state, wchan, now);
	if (k->idle && is_frozen(k->procs[0].pid))
		snprintf(wchan, sizeof wchan, PULSE_FROZEN);
	say_places(&places, k->threads);
	if (!state)
		state = k->procs[0].state;
	if (state != k->state)
		k->state_at = now;
	k->state = state;
	memcpy(k->wchan, wchan, sizeof k->wchan);
}

/* ---- one look ------------------------------------------------------------- */

static uint32_t per_second(uint64_t n, uint64_t span_ms)
{
	uint64_t v = span_ms ? n * 1000 / span_ms : 0;

	return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

/* It did nothing before we asked, and no more than an answer takes since. */
static bool is_answer(const struct tracked *k, const struct pulse *p, const struct pulse_use *u)
{
	mono_t end;

	if (!k->idle || mono_is_never(p->asked_at))
		return false;
	end = mono_is_never(p->answered_at) ? mono_add_ms(p->asked_at, ANSWER_LATE_MS) : p->answered_at;
	return mono_before(k->looked, end) && k->spared_ms + u->span_ms <= ANSWER_MOST_MS && u->cpu_ms * 1000 <= u->span_ms * ANSWER_CPU &&
	       u->disk_read <= ANSWER_READ && u->disk_written <= ANSWER_WRITTEN && u->moved <= ANSWER_READ;
}

static bool is_idle(struct tracked *k, const struct pulse *p, const struct pulse_use *u)
{
	if (!pulse_is_progress(u)) {
		k->spared_ms = more(k->spared_ms, u->span_ms);
		return true;
	}
	if (!is_answer(k, p, u)) {
		k->spared_ms = 0;
		return false;
	}
	k->spared_ms += u->span_ms;
	return true;
}

static void look(struct tracked *k, const struct pulse *p, mono_t now)
{
	bool first = mono_is_never(k->looked);
	struct pulse_use u = { .span_ms = first ? 0 : (uint64_t)mono_sub_ms(now, k->looked) };

	if (mono_is_never(k->tree_at) || mono_due(k->tree_at, now)) {
		find_tree(k);
		k->tree_at = mono_add_ms(now, k->idle ? IDLE_TREE_MS : TREE_MS);
	}
	sum_up(k, &u);
	if (first) {
		k->looked = now;
		k->used_at = k->state_at = now;
		k->state = k->n_procs ? k->procs[0].state : '\0';
		return;
	}
	if (!pulse_is_progress(&u) && !k->idle) { /* by those we know; others may have come */
		find_tree(k);
		sum_up(k, &u);
		k->tree_at = mono_add_ms(now, IDLE_TREE_MS);
	}
	k->cpu_permille = per_second(u.cpu_ms, u.span_ms);
	k->read_bps = per_second(u.disk_read, u.span_ms);
	k->write_bps = per_second(u.disk_written, u.span_ms);
	k->idle = is_idle(k, p, &u);
	k->looked = now;
	if (!k->idle)
		k->used_at = now;
	look_at_state(k, now);
}

/* ---- the host -------------------------------------------------------------- */

static bool pages_written(uint64_t *ret)
{
	FILE *f = fopen("/proc/vmstat", "re");
	char line[128];
	bool found = false;

	while (f && !found && fgets(line, sizeof line, f))
		if (strncmp(line, "nr_written ", 11) == 0) {
			*ret = strtoull(line + 11, NULL, 10);
			found = true;
		}
	if (f)
		fclose(f);
	return found;
}

/* Bytes of write() were counted when they went into the page cache. Who syncs them waits until the
 * kernel has written them, and whose they are is told nowhere: those of all are counted. */
static void look_at_host(struct pulse *p, mono_t now)
{
	uint64_t pages, span;

	if (!pages_written(&pages))
		return;
	span = mono_is_never(p->host_at) ? 0 : (uint64_t)mono_sub_ms(now, p->host_at);
	if (pulse_flushes(pages > p->host_pages ? pages - p->host_pages : 0, span))
		p->flushed_at = now;
	p->host_pages = pages;
	p->host_at = now;
}

bool pulse_flushes(uint64_t pages, uint64_t span_ms)
{
	static long size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return span_ms && span_ms <= FLUSHED_MS && pages * (uint64_t)size * 1000 >= span_ms * FLUSHES_LEAST;
}

static bool flushes(const struct pulse *p, const struct tracked *k, mono_t now)
{
	return k->state == 'D' && !mono_is_never(p->flushed_at) && mono_sub_ms(now, p->flushed_at) < FLUSHED_MS;
}

/* ---- all of them ------------------------------------------------------------- */

/* What is of interest, as a number: when it changes, it is told. */
static uint32_t mark(const struct tracked *k)
{
	uint32_t m = weight(k->state) == 2 ? 1 : !k->idle ? 2 : weight(k->state) == 1 ? 3 : 4;

	if (!k->idle)
		m |= (k->cpu_permille >= 300 ? 8u : 0) | (k->write_bps >= WRITES_MUCH ? 16u : 0);
	return mono_is_never(k->looked) ? 0 : m;
}

static bool same(const struct pulse_target *a, const struct pulse_target *b)
{
	return a->pid == b->pid && a->start_time == b->start_time && a->rank == b->rank && a->worker == b->worker;
}

static struct tracked *find(struct tracked *v, size_t n, const struct pulse_target *t, size_t guess)
{
	if (guess < n && same(&v[guess].t, t))
		return &v[guess];
	for (size_t i = 0; i < n; i++)
		if (same(&v[i].t, t))
			return &v[i];
	return NULL;
}

/* The targets of this look; what is known of those that were there before is kept. */
static bool take_targets(struct pulse *p, const struct pulse_target *v, size_t n)
{
	struct tracked *new = calloc(n ? n : 1, sizeof *new);
	bool changed = n != p->n;

	if (!new)
		return false;
	for (size_t i = 0; i < n; i++) {
		struct tracked *old = find(p->v, p->n, &v[i], i);

		if (old && !old->seen) {
			new[i] = *old;
			old->seen = true;
			continue;
		}
		changed = true;
		new[i] = (struct tracked){ .t = v[i], .tree_at = MONO_NEVER, .looked = MONO_NEVER };
		add_proc(&new[i], v[i].pid);
		if (new[i].n_procs)
			new[i].procs[0].start_time = v[i].start_time;
	}
	for (size_t i = 0; i < p->n; i++)
		if (!p->v[i].seen)
			forget(&p->v[i]);
	free(p->v);
	p->v = new;
	p->n = n;
	return changed;
}

bool pulse_look(struct pulse *p, const struct pulse_target *v, size_t n, mono_t now)
{
	bool changed, disk = false;

	n = n < PULSE_RANKS ? n : PULSE_RANKS;
	changed = take_targets(p, v, n);
	p->idle = false;
	for (size_t i = 0; i < p->n; i++) {
		struct tracked *k = &p->v[i];

		k->seen = false;
		look(k, p, now);
		p->idle = p->idle || k->idle;
		disk = disk || k->state == 'D';
		changed = changed || mark(k) != k->told;
	}
	if (disk)
		look_at_host(p, now);
	p->due = mono_add_ms(now, p->idle && p->period_ms > IDLE_MS ? IDLE_MS : p->period_ms);
	if (mono_is_never(p->told_at) || p->again)
		return true;
	return changed || (p->idle && mono_sub_ms(now, p->told_at) >= IDLE_TELL_MS);
}

void pulse_told(struct pulse *p, mono_t now)
{
	p->told_at = now;
	p->again = false;
	for (size_t i = 0; i < p->n; i++)
		p->v[i].told = mark(&p->v[i]);
}

void pulse_tell_again(struct pulse *p)
{
	p->again = true;
}

void pulse_asked(struct pulse *p, mono_t now)
{
	p->asked_at = now;
	p->answered_at = MONO_NEVER;
}

void pulse_answered(struct pulse *p, mono_t now)
{
	p->answered_at = now;
}

size_t pulse_list(const struct pulse *p, mono_t now, struct rec_rank_pulse *out, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n && n < max; i++) {
		const struct tracked *k = &p->v[i];
		struct rec_rank_pulse *r = &out[n++];
		static const char states[] = "R\0S\0D\0T\0t\0I\0P\0";
		const char *s = k->state ? memchr(states, k->state, sizeof states - 1) : NULL;

		*r = (struct rec_rank_pulse){ .rank = k->t.rank, .worker = k->t.worker, .pid = (uint32_t)k->t.pid,
					      .procs = (uint32_t)k->n_procs, .state = s,
					      .wchan = k->wchan[0] ? k->wchan : NULL,
					      .threads = k->idle && k->threads[0] ? k->threads : NULL };
		r->has |= MSG_BIT(rank_pulse, pid) | MSG_BIT(rank_pulse, procs);
		MSG_SET(r, rank_pulse, cpu_permille, k->cpu_permille);
		MSG_SET(r, rank_pulse, read_bps, k->read_bps);
		MSG_SET(r, rank_pulse, write_bps, k->write_bps);
		if (flushes(p, k, now))
			MSG_SET(r, rank_pulse, flushes, true);
		if (k->idle)
			MSG_SET(r, rank_pulse, idle_ms, (uint64_t)mono_sub_ms(now, k->used_at));
		if (weight(k->state))
			MSG_SET(r, rank_pulse, state_ms, (uint64_t)mono_sub_ms(now, k->state_at));
	}
	return n;
}
