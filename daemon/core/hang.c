/* hang.c - see hang.h */
#include "core/hang.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define STARTING_MS 15000
#define CPU_MUCH 300 /* permille of a core; pulse.c tells when it is passed */
#define CPU_BUSY 500 /* permille of a core */
#define WRITES_MUCH 5000000 /* bytes a second */
#define STEP_FRESH_MS 60000
#define IDLE_SHOWN_MS 5000

static const char *const op_names[OP_COUNT][2] = {
	{ "broadcast", "broadcasts" },		   { "reduce", "reduces" },
	{ "all-gather", "all-gathers" },	   { "reduce-scatter", "reduce-scatters" },
	{ "all-reduce", "all-reduces" },	   { "collective", "collectives" },
};

static void add(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void add(char *out, size_t size, const char *fmt, ...)
{
	size_t n = strlen(out);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + n, size - n, fmt, ap);
	va_end(ap);
}

static void add_ms(char *out, size_t size, int64_t ms)
{
	if (ms < 120000)
		add(out, size, "%lld s", (long long)(ms / 1000));
	else
		add(out, size, "%lld min", (long long)(ms / 60000));
}

/* ---- one rank -------------------------------------------------------------- */

static bool counts_stand(const struct hang_in *in)
{
	return in->polls >= HANG_POLLS;
}

/* It runs a kernel and its CPU spins, and none of it gets anywhere. */
static bool spins(const struct hang_in *in, const struct hang_rank *r)
{
	if (r->gpu != GPU_FULL || r->write_bps >= WRITES_MUCH)
		return false;
	if (r->has_power) /* counts stand still in an evaluation without collectives, too: that takes power */
		return r->low_power;
	return r->counted && counts_stand(in);
}

static bool waits_for_sync(const struct hang_rank *r)
{
	return r->state == 'D' && r->wchan != NULL &&
	       (strstr(r->wchan, "writeback") != NULL || strstr(r->wchan, "fsync") != NULL ||
		strstr(r->wchan, "jbd2") != NULL || strstr(r->wchan, "commit") != NULL);
}

/* It waits for its own bytes, and they move, or may. */
static bool syncs(const struct hang_rank *r)
{
	return r->known && waits_for_sync(r) && r->state_ms < (r->flushes ? HANG_FLUSH_MS : HANG_SYNC_MS);
}

static bool goes_on(const struct hang_in *in, const struct hang_rank *r)
{
	if (r->dead)
		return false;
	if (!r->known || r->gpu == GPU_WORKS || syncs(r))
		return true;
	if (r->gpu == GPU_FULL)
		return !spins(in, r);
	return !r->idle;
}

/* Who is behind; what its threads do goes with it. */
static void blame(struct hang_out *out, const struct hang_rank *r)
{
	out->threads = r->threads;
	out->node = r->node;
	out->has_rank = true;
	out->rank = r->rank;
}

static void add_who(char *out, size_t size, const struct hang_rank *r)
{
	add(out, size, "rank %u on %s", r->rank, r->node);
	if (r->pid != 0)
		add(out, size, " (pid %u)", r->pid);
}

/* "state D for 42 s in nfs_wait" */
static void add_state(char *out, size_t size, const struct hang_rank *r)
{
	if (r->state == 'D' || r->state == 'T' || r->state == 't') {
		add(out, size, "state %c for ", r->state);
		add_ms(out, size, r->state_ms);
	} else if (r->idle) {
		add(out, size, "neither CPU nor disk used for ");
		add_ms(out, size, r->idle_ms);
	} else {
		add(out, size, "%u %% CPU", r->cpu_permille / 10);
	}
	if (r->idle && r->wchan != NULL)
		add(out, size, " in %s", r->wchan);
}

/* ", 3 more" */
static void add_more(char *out, size_t size, size_t n)
{
	if (n > 1)
		add(out, size, ", and %zu more", n - 1);
}

/* ---- what is told whatever goes on ------------------------------------------- */

static const struct hang_rank *first_of(const struct hang_in *in, bool (*is)(const struct hang_rank *), size_t *ret_n)
{
	const struct hang_rank *first = NULL;

	*ret_n = 0;
	for (size_t i = 0; i < in->n; i++) {
		if (!is(&in->v[i]))
			continue;
		first = first != NULL ? first : &in->v[i];
		(*ret_n)++;
	}
	return first;
}

static bool is_stopped(const struct hang_rank *r)
{
	return r->known && (r->state == 'T' || r->state == 't') && r->state_ms >= HANG_STOPPED_MS;
}

/* As shim/pulse.h says it in place of a wait channel; the state is that of before, or D. */
static bool is_frozen(const struct hang_rank *r)
{
	return r->known && r->idle && r->wchan != NULL && strcmp(r->wchan, "a frozen cgroup") == 0 && r->idle_ms >= HANG_STOPPED_MS;
}

static bool is_in_disk(const struct hang_rank *r)
{
	return r->known && r->idle && r->state == 'D' && r->state_ms >= HANG_DISK_MS && !syncs(r) &&
	       r->idle_ms >= HANG_DISK_MS;
}

/* Interruptible, so not in state D; its server is as dead. */
static bool is_in_mount(const struct hang_rank *r)
{
	static const char *const waits[] = { "request_wait_answer", "fuse_", "p9_client_rpc" }; /* NFS waits in D */
	bool waits_there = false;

	for (size_t i = 0; r->wchan != NULL && i < sizeof(waits) / sizeof(waits[0]); i++)
		waits_there = waits_there || strncmp(r->wchan, waits[i], strlen(waits[i])) == 0;
	return r->known && r->idle && r->state != 'D' && waits_there && r->idle_ms >= HANG_DISK_MS;
}

static bool is_dead(const struct hang_rank *r)
{
	return r->dead && r->dead_ms >= HANG_DEAD_MS;
}

static bool stopped(const struct hang_in *in, struct hang_out *out)
{
	size_t n;
	const struct hang_rank *r = first_of(in, is_stopped, &n);

	if (r == NULL)
		return false;
	blame(out, r);
	add_who(out->text, sizeof(out->text), r);
	add(out->text, sizeof(out->text), r->state == 't' ? " is held by a debugger (state t) for " :
	    " is stopped (SIGSTOP, state T) for ");
	add_ms(out->text, sizeof(out->text), r->state_ms);
	add_more(out->text, sizeof(out->text), n);
	if (in->n > n)
		add(out->text, sizeof(out->text), "; the others wait for it at their next collective");
	if (r->state == 'T' && r->pid != 0)
		snprintf(out->fix, sizeof(out->fix), "on %s: kill -CONT %u", r->node, r->pid);
	return true;
}

static bool frozen(const struct hang_in *in, struct hang_out *out)
{
	size_t n;
	const struct hang_rank *r = first_of(in, is_frozen, &n);

	if (r == NULL)
		return false;
	blame(out, r);
	add_who(out->text, sizeof(out->text), r);
	add(out->text, sizeof(out->text), " is frozen with its cgroup (docker pause, systemctl freeze) for ");
	add_ms(out->text, sizeof(out->text), r->idle_ms);
	add_more(out->text, sizeof(out->text), n);
	if (in->n > n)
		add(out->text, sizeof(out->text), "; the others wait for it at their next collective");
	snprintf(out->fix, sizeof(out->fix), "on %s: thaw it (docker unpause, systemctl thaw; cat /proc/%u/cgroup names it)", r->node, r->pid);
	return true;
}

static bool in_disk(const struct hang_in *in, struct hang_out *out)
{
	size_t n;
	const struct hang_rank *r = first_of(in, is_in_disk, &n);

	if (r == NULL)
		return false;
	blame(out, r);
	add_who(out->text, sizeof(out->text), r);
	add(out->text, sizeof(out->text), " waits for a disk or a driver: state D for ");
	add_ms(out->text, sizeof(out->text), r->state_ms);
	if (r->wchan != NULL)
		add(out->text, sizeof(out->text), " in %s", r->wchan);
	add(out->text, sizeof(out->text), ", and no byte moves");
	add_more(out->text, sizeof(out->text), n);
	snprintf(out->fix, sizeof(out->fix), "look at the file system or device on %s (dmesg, df); it cannot be killed "
		 "before that answers", r->node);
	return true;
}

static bool in_mount(const struct hang_in *in, struct hang_out *out)
{
	size_t n;
	const struct hang_rank *r = first_of(in, is_in_mount, &n);

	if (r == NULL)
		return false;
	blame(out, r);
	add_who(out->text, sizeof(out->text), r);
	add(out->text, sizeof(out->text), " waits for a file system whose server does not answer: ");
	add_state(out->text, sizeof(out->text), r);
	add_more(out->text, sizeof(out->text), n);
	snprintf(out->fix, sizeof(out->fix), "look at the file systems of %s (nodectl check node.mounts), and at their servers", r->node);
	return true;
}

static bool dead(const struct hang_in *in, struct hang_out *out)
{
	size_t n;
	const struct hang_rank *r = first_of(in, is_dead, &n);

	if (r == NULL)
		return false;
	add_who(out->text, sizeof(out->text), r);
	add(out->text, sizeof(out->text), " %s ", r->dead_how != NULL ? r->dead_how : "has ended");
	add_ms(out->text, sizeof(out->text), r->dead_ms);
	add(out->text, sizeof(out->text), " ago, and its launcher runs on");
	add_more(out->text, sizeof(out->text), n);
	snprintf(out->fix, sizeof(out->fix), "the others wait for a rank that is gone: end the job");
	return true;
}

/* ---- what holds a verdict off for a while ------------------------------------------ */

/* Counts that stand still are of the last ten seconds. */
static bool steps_on(const struct hang_in *in)
{
	int64_t ms = 2 * in->step_gap_ms;

	if (ms < HANG_STEP_LEAST_MS || counts_stand(in))
		ms = HANG_STEP_LEAST_MS;
	return in->has_step && in->step_ms < (ms < HANG_STEP_MOST_MS ? ms : HANG_STEP_MOST_MS);
}

static bool sends_on(const struct hang_in *in)
{
	return in->flow == FLOW_SOME && !counts_stand(in) && in->stalled_ms < HANG_FLOW_MS;
}

static void add_flow(struct hang_out *out, const struct hang_in *in)
{
	if (in->flow == FLOW_NONE) {
		add(out->text, sizeof(out->text), "; no bytes on the ports of its nodes for ");
		add_ms(out->text, sizeof(out->text), in->flow_ms);
	} else if (in->flow == FLOW_SOME) {
		add(out->text, sizeof(out->text), "; bytes move on the ports of its nodes, for storage or another job perhaps");
	}
}

/* ---- who is behind --------------------------------------------------------------- */

/* The operation whose counts differ; the rank that has launched fewest. */
static const struct hang_rank *behind(const struct hang_in *in, size_t *ret_op, size_t *ret_n, uint64_t *ret_most)
{
	for (size_t op = OP_COUNT; op-- > 0;) {
		const struct hang_rank *least = NULL;
		uint64_t most = 0;

		*ret_n = 0;
		for (size_t i = 0; i < in->n; i++) {
			const struct hang_rank *r = &in->v[i];

			if (!r->counted)
				continue;
			most = r->count[op] > most ? r->count[op] : most;
			if (least == NULL || r->count[op] < least->count[op])
				least = r;
		}
		for (size_t i = 0; least != NULL && i < in->n; i++)
			*ret_n += in->v[i].counted && in->v[i].count[op] < most;
		*ret_op = op;
		*ret_most = most;
		if (*ret_n > 0)
			return least;
	}
	return NULL;
}

/* Some rank lives whose counts nobody has told. */
static bool some_uncounted(const struct hang_in *in)
{
	for (size_t i = 0; i < in->n; i++)
		if (!in->v[i].dead && !in->v[i].counted)
			return true;
	return false;
}

static bool counts_differ(const struct hang_in *in, struct hang_out *out)
{
	size_t op, n;
	uint64_t most;
	const struct hang_rank *r = counts_stand(in) ? behind(in, &op, &n, &most) : NULL;

	if (r == NULL || (r->idle && r->gpu != GPU_FULL && r->idle_ms < HANG_COUNTED_MS))
		return false;
	blame(out, r);
	add(out->text, sizeof(out->text), "rank %u on %s has launched %llu %s, ", r->rank, r->node,
	    (unsigned long long)r->count[op], op_names[op][r->count[op] != 1]);
	if (n == 1)
		add(out->text, sizeof(out->text), "all others %s%llu", some_uncounted(in) ? "that are known " : "", (unsigned long long)most);
	else
		add(out->text, sizeof(out->text), "%zu other%s fewer than %llu too", n - 1, n == 2 ? "" : "s", (unsigned long long)most);
	if (r->known) {
		add(out->text, sizeof(out->text), "; ");
		add_state(out->text, sizeof(out->text), r);
	}
	add_flow(out, in);
	return true;
}

/* It does nothing at all, while the GPUs of others wait in a kernel. */
static bool one_rests(const struct hang_in *in, struct hang_out *out)
{
	const struct hang_rank *first = NULL;
	size_t n = 0, spin = 0;

	for (size_t i = 0; i < in->n; i++) {
		const struct hang_rank *r = &in->v[i];
		bool rests = r->known && r->idle && r->gpu == GPU_RESTS && r->idle_ms >= HANG_IDLE_MS;

		spin += r->gpu == GPU_FULL;
		n += rests;
		if (rests && first == NULL)
			first = r;
	}
	if (first == NULL || spin == 0)
		return false;
	blame(out, first);
	add_who(out->text, sizeof(out->text), first);
	add(out->text, sizeof(out->text), " does nothing: ");
	add_state(out->text, sizeof(out->text), first);
	add(out->text, sizeof(out->text), ", its GPU idle");
	add_more(out->text, sizeof(out->text), n);
	add(out->text, sizeof(out->text), "; the GPUs of %zu others wait for it in a kernel", spin);
	add_flow(out, in);
	return true;
}

/* Some are in NCCL's initialisation, and whom they wait for does nothing either. */
static bool one_is_late(const struct hang_in *in, struct hang_out *out)
{
	int64_t ms = INT64_MAX;

	for (size_t i = 0; i < in->n; i++)
		if (!in->v[i].dead && in->v[i].idle_ms < ms)
			ms = in->v[i].idle_ms;
	if (in->late == NULL || ms < HANG_IDLE_MS || ms == INT64_MAX)
		return false;
	for (size_t i = 0; i < in->n && out->node == NULL; i++)
		if (!in->v[i].dead && strcmp(in->v[i].node, in->late_node) == 0)
			blame(out, &in->v[i]);
	out->patient = true;
	add(out->text, sizeof(out->text), "%.128s has not come to NCCL's initialisation, where others wait; no rank uses CPU, disk or GPU for ", in->late);
	add_ms(out->text, sizeof(out->text), ms);
	snprintf(out->fix, sizeof(out->fix), "see what it said last (nodectl logs), and what it waits in: a store or a barrier before, a question, a download");
	return true;
}

/* All of them wait in a kernel, and nobody knows for whom. */
static bool all_spin(const struct hang_in *in, struct hang_out *out)
{
	size_t spin = 0, counted = 0;

	for (size_t i = 0; i < in->n; i++) {
		spin += in->v[i].gpu == GPU_FULL;
		counted += in->v[i].counted;
	}
	if (in->n < 2) /* it has nobody to wait for: a small model takes little power */
		return false;
	if (spin < in->n || in->stalled_ms < HANG_SPIN_MS || sends_on(in)) /* one that sleeps has time until one_rests() */
		return false;
	add(out->text, sizeof(out->text), "all %zu GPUs wait in a kernel for ", spin);
	add_ms(out->text, sizeof(out->text), in->stalled_ms);
	if (in->v[0].has_power && in->v[0].low_power)
		add(out->text, sizeof(out->text), ", at little power");
	if (in->elsewhere && counts_stand(in))
		add(out->text, sizeof(out->text), "; in another of its communicators a rank is behind: see what NCCL's RAS says");
	else if (counted == in->n && counts_stand(in))
		add(out->text, sizeof(out->text), ", and all ranks have launched the same operations: the network, or a "
		    "wait outside NCCL");
	else
		add(out->text, sizeof(out->text), "; which rank is behind is not known without NCCL's counts");
	add_flow(out, in);
	return true;
}

/* ---- phases -------------------------------------------------------------------------- */

static const struct hang_rank *busiest(const struct hang_in *in, bool gpu_rests)
{
	const struct hang_rank *best = NULL;

	for (size_t i = 0; i < in->n; i++) {
		const struct hang_rank *r = &in->v[i];

		if (!r->known || r->idle || (gpu_rests && r->gpu != GPU_RESTS))
			continue;
		if (best == NULL || r->cpu_permille > best->cpu_permille)
			best = r;
	}
	return best;
}

static const struct hang_rank *writer(const struct hang_in *in)
{
	const struct hang_rank *best = NULL;

	for (size_t i = 0; i < in->n; i++)
		if (in->v[i].known && in->v[i].write_bps >= WRITES_MUCH &&
		    (best == NULL || in->v[i].write_bps > best->write_bps))
			best = &in->v[i];
	return best;
}

static void note_cpu(struct hang_out *out, const struct hang_rank *r)
{
	add_who(out->note, sizeof(out->note), r);
	add(out->note, sizeof(out->note), ": %u %% CPU, %u process%s", r->cpu_permille / 10, r->procs,
	    r->procs == 1 ? "" : "es");
}

static bool any_gpu(const struct hang_in *in)
{
	for (size_t i = 0; i < in->n; i++)
		if (in->v[i].gpu >= GPU_WORKS)
			return true;
	return false;
}

static int64_t least_idle_ms(const struct hang_in *in)
{
	int64_t ms = INT64_MAX;

	for (size_t i = 0; i < in->n; i++)
		if (!in->v[i].dead && in->v[i].idle_ms < ms)
			ms = in->v[i].idle_ms;
	return ms == INT64_MAX ? 0 : ms;
}

static const char *stalled_phase(const struct hang_in *in, struct hang_out *out)
{
	int64_t ms = least_idle_ms(in);

	if (any_gpu(in))
		return in->has_step ? "training" : "busy"; /* they wait, and not for long */
	if (ms < IDLE_SHOWN_MS)
		return in->run_ms < STARTING_MS ? "starting" : "busy";
	add(out->note, sizeof(out->note), "no rank uses CPU, disk or GPU for ");
	add_ms(out->note, sizeof(out->note), ms);
	return "idle";
}

/* The others wait for it. */
static bool one_syncs(const struct hang_in *in, struct hang_out *out)
{
	for (size_t i = 0; i < in->n; i++) {
		const struct hang_rank *r = &in->v[i];

		if (!r->idle || !syncs(r) || r->state_ms < IDLE_SHOWN_MS)
			continue;
		add_who(out->note, sizeof(out->note), r);
		add(out->note, sizeof(out->note), " syncs what it has written: ");
		add_state(out->note, sizeof(out->note), r);
		return true;
	}
	return false;
}

static const char *phase(const struct hang_in *in, struct hang_out *out)
{
	const struct hang_rank *w = writer(in), *cpu;

	if (in->n == 0)
		return in->run_ms < STARTING_MS ? "starting" : "";
	if (out->stalled)
		return stalled_phase(in, out);
	if (one_syncs(in, out))
		return "checkpointing";
	if (w != NULL && in->has_step) {
		add_who(out->note, sizeof(out->note), w);
		add(out->note, sizeof(out->note), " writes %llu MB/s", (unsigned long long)(w->write_bps / 1000000));
		return "checkpointing";
	}
	if (in->has_step && in->step_ms < STEP_FRESH_MS)
		return "training";
	cpu = busiest(in, true);
	if (cpu != NULL && cpu->cpu_permille >= CPU_BUSY && !in->has_step) {
		note_cpu(out, cpu);
		return "tokenising";
	}
	if (any_gpu(in))
		return "training";
	if (in->run_ms < STARTING_MS)
		return "starting";
	cpu = busiest(in, false);
	if (cpu != NULL)
		note_cpu(out, cpu);
	return "busy";
}

/* It has nothing to do but to wait for others: sleeps, or its GPU is full at little power. */
static bool waits(const struct hang_rank *r)
{
	if (r->gpu >= GPU_WORKS)
		return r->gpu == GPU_FULL && r->has_power && r->low_power;
	return r->idle || (r->cpu_permille < CPU_MUCH && r->write_bps < WRITES_MUCH);
}

/* The one that all others wait for at this moment; NULL: there is none. */
static const struct hang_rank *slow(const struct hang_in *in)
{
	const struct hang_rank *one = NULL;

	for (size_t i = 0; i < in->n; i++) {
		const struct hang_rank *r = &in->v[i];

		if (!r->known || r->dead)
			return NULL;
		if (waits(r))
			continue;
		if (one != NULL)
			return NULL;
		one = r;
	}
	return in->n > 1 ? one : NULL;
}

static void note_slow(const struct hang_in *in, struct hang_out *out)
{
	const struct hang_rank *r = slow(in);

	if (r == NULL || strcmp(out->phase, "starting") == 0)
		return;
	if (out->note[0] == '\0' && r->gpu >= GPU_WORKS) {
		add_who(out->note, sizeof(out->note), r);
		add(out->note, sizeof(out->note), ": its GPU works");
	} else if (out->note[0] == '\0') {
		note_cpu(out, r);
	}
	if (in->n == 2)
		add(out->note, sizeof(out->note), "; the other rank waits");
	else
		add(out->note, sizeof(out->note), "; all %zu others wait", in->n - 1);
}

void hang_judge(const struct hang_in *in, struct hang_out *out)
{
	memset(out, 0, sizeof(*out));
	out->stalled = in->n > 0;
	out->blind = in->n == 0;
	for (size_t i = 0; i < in->n; i++) {
		out->stalled = out->stalled && !goes_on(in, &in->v[i]);
		out->blind = out->blind || !(in->v[i].known || in->v[i].dead);
	}
	out->moves = in->n > 0 && (!out->stalled || steps_on(in));
	out->hang = stopped(in, out) || frozen(in, out) || in_disk(in, out) || in_mount(in, out) || dead(in, out) ||
		    (out->stalled && !steps_on(in) && (counts_differ(in, out) || one_rests(in, out) || one_is_late(in, out) || all_spin(in, out)));
	out->phase = out->hang ? "hung" : phase(in, out);
	if (!out->hang)
		note_slow(in, out);
}
