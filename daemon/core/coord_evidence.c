/* coord_evidence.c - what happened on a node near the first end, in time and place
 *
 * Of each node the last EVENTS_MAX are kept, as its agent tells them; they are
 * on no disk but for what has become part of a job's story or cause. An event
 * is put beside the first end when it was shortly before it (or as good as at
 * the same time) and touches the same process, its job, its GPUs, or, for a
 * port, any node of the job. That it was the reason is for people to say.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "common/xid.h"

#define EVENTS_MAX 64
#define AT_ONCE_US 1500000 /* it may be noticed so much later than the end that it has caused */
#define UNTIMED_US 5000000 /* an event of which is known only when we heard of it */
#define CLAUSES_MAX 3
#define SILENT_US 2000000
#define FOUND_MAX 500 /* bytes: as much as its row and messages have room for */

struct event_seen {
	int64_t mono_us; /* its host's clock: names it */
	int64_t lo_us, hi_us; /* by our monotonic clock */
	size_t kind; /* in kinds[] */
	char text[257];
	uint32_t pid, xid;
	uint64_t job; /* 0: not known */
	char gpu_id[65];
};

struct events {
	struct event_seen v[EVENTS_MAX];
	size_t n;
};

/* Whom it befalls: a process, who has the GPU, who talks over the network, all on the host; nobody who ends of it. */
enum whom { OF_PROC, OF_GPU, OF_NET, OF_HOST, OF_NONE };
enum { EV_OOM };

/* How long before the end it may have been. The names are those of messages.def; hw/kmsg_faults.c has the lines. */
static const struct {
	const char *name;
	enum whom whom;
	int64_t window_us;
} kinds[] = {
	[EV_OOM] = { "oom", OF_PROC, 5000000 },
	{ "xid", OF_GPU, 30000000 },
	{ "fault", OF_PROC, 5000000 },
	{ "port", OF_NET, 60000000 },
	{ "hung-task", OF_PROC, 0 },
	{ "lockup", OF_HOST, 60000000 },
	{ "nic", OF_NET, 60000000 },
	{ "nic-module", OF_NONE, 0 },
	{ "gpu-bus", OF_GPU, 60000000 },
	{ "gpu-driver", OF_NONE, 0 },
	{ "nvswitch", OF_HOST, 60000000 },
	{ "pcie", OF_HOST, 30000000 },
	{ "pcie-nonfatal", OF_HOST, 30000000 },
	{ "pcie-corrected", OF_NONE, 0 },
	{ "mem-ue", OF_HOST, 30000000 },
	{ "mem-ce", OF_NONE, 0 },
	{ "fs", OF_HOST, 60000000 },
	{ "io", OF_NONE, 0 },
	{ "heat", OF_NONE, 0 },
	{ "iommu", OF_HOST, 30000000 },
	{ "nfs", OF_NONE, 0 },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static bool kind_from(const char *s, size_t *ret)
{
	for (size_t i = 0; i < KINDS; i++)
		if (strcmp(s, kinds[i].name) == 0) {
			*ret = i;
			return true;
		}
	return false;
}

/* One of a comma- or blank-separated list. */
static bool listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = list; p != NULL && *p != '\0' && n > 0;) {
		size_t len = strcspn(p, ", ");

		if (len == n && memcmp(p, name, n) == 0)
			return true;
		p += len;
		p += strspn(p, ", ");
	}
	return false;
}

/* When this attempt was started, by our monotonic clock. After a restart of ours only
 * the wall clock's word is left. */
static int64_t begun_us(const struct coord *c, const struct job *j)
{
	if (!mono_is_never(j->started_at))
		return j->started_at.ns / 1000;
	if (j->start_wall_ms != 0)
		return c->now.ns / 1000 - 1000 * (c->wall_ms - j->start_wall_ms);
	return j->state == JOB_PREPARING && !j->restored ? INT64_MAX : INT64_MIN;
}

/* Its number in the places: of a squeezed job not all ranks are there. */
static uint32_t first_place(const struct job *j)
{
	uint32_t no = j->rank_no != NULL ? j->rank_no[j->first] : (uint32_t)j->first;

	return no / j->ppn;
}

/* Below a launcher it is the worker that counts. */
static uint32_t pid_of(const struct rank *r)
{
	uint32_t pid = below_pid(&r->below);

	return pid != 0 ? pid : r->pid;
}

/* A rank there, or a worker below it. */
static bool is_own_pid(const struct job *j, const struct place *p, uint32_t pid)
{
	size_t at = (size_t)(p - j->places) * j->ppn;

	for (size_t k = at; pid != 0 && k < at + j->ppn && k < j->n_ranks && j->rank_no == NULL; k++) {
		const struct below *b = &j->ranks[k].below;

		if (j->ranks[k].pid == pid)
			return true;
		for (size_t i = 0; i < b->n_workers; i++)
			if (b->workers[i].pid == pid)
				return true;
	}
	return false;
}

/* As the kernel's log says it (kmsg_text.c): not one cgroup's limit, but all that is there. */
static bool of_whole_host(const struct event_seen *x)
{
	return strstr(x->text, "the host was out of memory") != NULL;
}

/* Does it touch this job's part there, and this attempt? A process of nobody's that the OOM
 * killer has ended does only where the whole host was out of memory. */
static bool touches(const struct coord *c, const struct job *j, const struct place *p, const struct event_seen *x)
{
	if (x->hi_us < begun_us(c, j))
		return false;
	if (x->job != 0)
		return x->job == j->id;
	if (x->kind == EV_OOM)
		return is_own_pid(j, p, x->pid) || of_whole_host(x);
	switch (kinds[x->kind].whom) {
	case OF_GPU: /* who has no GPUs there is not concerned */
		return listed(p->gpu_ids, x->gpu_id);
	case OF_NET:
		return j->n_places > 1;
	case OF_HOST:
		return true;
	default:
		return false;
	}
}

/* ---- put beside the first end --------------------------------------------------------- */

static void say_before(int64_t us, char *out, size_t size)
{
	out[0] = '\0';
	if (us >= 100000)
		snprintf(out, size, " %.1f s before", (double)us / 1e6);
	else if (us >= 0)
		snprintf(out, size, " %.1f ms before", (double)us / 1000);
}

static void add_clause(char *out, size_t size, unsigned *n, const char *clause)
{
	size_t len = strlen(out);

	if ((*n)++ < CLAUSES_MAX)
		snprintf(out + len, size - len, "%s%.300s", len > 0 ? "; " : "", clause);
}

/* That the OOM killer has struck somebody else beside it is worth a word only where the
 * rank was killed just so, and not by us. */
static bool may_concern(const struct job *j, const struct place *p, const struct rank *r, const struct event_seen *x)
{
	uint32_t sig = below_pid(&r->below) != 0 ? below_signal(&r->below) : r->state == RK_KILLED ? r->sig : 0;

	if (x->kind != EV_OOM || x->job == j->id || is_own_pid(j, p, x->pid))
		return true;
	return sig == 9 && !r->ours;
}

/* Its shim has found the same by the counts. */
static bool said_already(const struct rank *r, const struct event_seen *x)
{
	return x->pid == pid_of(r) && r->cause != NULL && strncmp(r->cause, "by the kernel's OOM killer", 26) == 0;
}

static void from_events(const struct coord *c, const struct job *j, uint32_t place, const struct rank *r, char *out,
			size_t size, unsigned *n)
{
	const struct place *p = &j->places[place];
	bool here = place == first_place(j);

	for (size_t i = 0; p->node->events != NULL && i < p->node->events->n; i++) {
		const struct event_seen *x = &p->node->events->v[i];
		int64_t before = (r->lo_us + r->hi_us) / 2 - (x->lo_us + x->hi_us) / 2;
		char clause[400], when[48];

		if (before < -AT_ONCE_US || before > kinds[x->kind].window_us || !touches(c, j, p, x) ||
		    (!here && kinds[x->kind].whom != OF_NET) || (x->kind == EV_OOM && said_already(r, x)) ||
		    (r->cause != NULL && strstr(r->cause, x->text) != NULL) || !may_concern(j, p, r, x))
			continue;
		say_before(before, when, sizeof(when));
		if (here)
			snprintf(clause, sizeof(clause), "%s%s", x->text, when);
		else
			snprintf(clause, sizeof(clause), "on %s %s%s", p->node->name, x->text, when);
		add_clause(out, size, n, clause);
	}
}

/* Another of its nodes was not heard any more: perhaps it knows better. */
static void from_silence(const struct coord *c, const struct job *j, const struct rank *r, char *out, size_t size,
			 unsigned *n)
{
	for (size_t i = 0; i < j->n_places; i++) {
		const struct node *x = j->places[i].node;
		int64_t silent = r->lo_us - x->heard.ns / 1000;
		char clause[200];

		if (i == first_place(j) || silent < SILENT_US || (x->link != NULL && !x->silent))
			continue;
		snprintf(clause, sizeof(clause), "node %s had not been heard for %.1f s", x->name, (double)silent / 1e6);
		if (r->cause == NULL || strstr(r->cause, x->name) == NULL)
			add_clause(out, size, n, clause);
	}
	(void)c;
}

void evidence_attach(struct coord *c, struct job *j)
{
	struct rank *r = j->first >= 0 ? &j->ranks[j->first] : NULL;
	char text[CLAUSES_MAX * 310] = "";
	unsigned n = 0;

	if (r == NULL || !r->timed || j->first_settled || j->saving || j->saved) /* what was told stays */
		return;
	for (uint32_t i = 0; i < j->n_places; i++)
		from_events(c, j, i, r, text, sizeof(text), &n);
	if (!job_over(j))
		from_silence(c, j, r, text, sizeof(text), &n);
	if (text[0] == '\0')
		return;
	if (strlen(text) > FOUND_MAX)
		text[utf8_cut(text, FOUND_MAX)] = '\0';
	free(r->found);
	r->found = coord_strdup(c, utf8_scrub(text));
}

/* ---- which GPU ------------------------------------------------------------------------------ */

/* The one GPU that its process used a moment ago, or the only one it had. */
void evidence_gpu(struct rank *r, const struct place *p)
{
	const struct rec_readings *x = node_readings(p->node);
	uint32_t pid = pid_of(r), found = 0;

	if (pid == 0 || (r->has_gpu && (r->gpu_pid == pid || r->gpu_pid == 0)))
		return;
	r->gpu_pid = pid;
	for (size_t i = 0; x != NULL && i < x->n_gpus; i++)
		for (size_t k = 0; k < x->gpus[i].n_procs; k++)
			if (x->gpus[i].procs[k].pid == pid) {
				r->gpu = x->gpus[i].index;
				found++;
				break;
			}
	if (found == 0 && p->gpus_text != NULL && p->gpus_text[0] != '\0' &&
	    p->gpus_text[strspn(p->gpus_text, "0123456789")] == '\0') {
		r->gpu = (uint32_t)strtoul(p->gpus_text, NULL, 10);
		found = 1;
	}
	r->has_gpu = found == 1;
}

/* ---- heard of --------------------------------------------------------------------------------- */

static void tell_jobs(struct coord *c, struct node *n, const struct event_seen *x)
{
	int64_t base = cause_now_us(c) - c->now.ns / 1000;

	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		uint32_t i;

		/* Of a saved job it is forgotten which GPUs it had; its story is on disk. */
		if (j->n_places == 0 || j->saved || job_place_of(j, n, &i) == NULL ||
		    !touches(c, j, &j->places[i], x))
			continue;
		job_tell(c, j, n->name, base + x->lo_us + (x->hi_us - x->lo_us) / 2,
			 (uint64_t)(x->hi_us - x->lo_us + 1) / 2, "%s", x->text);
		if (j->first >= 0)
			evidence_attach(c, j);
	}
}

static void note(struct coord *c, struct node *n, const struct rec_happening *h)
{
	struct event_seen x = { .mono_us = h->mono_us, .pid = h->pid, .xid = h->xid, .job = h->job };
	int64_t now = c->now.ns / 1000;

	if (!kind_from(h->kind, &x.kind))
		return;
	for (size_t i = 0; i < n->events->n; i++)
		if (n->events->v[i].mono_us == h->mono_us && n->events->v[i].kind == x.kind)
			return; /* told again */
	snprintf(x.text, sizeof(x.text), "%s", h->text);
	snprintf(x.gpu_id, sizeof(x.gpu_id), "%s", h->gpu_id != NULL ? h->gpu_id : "");
	x.lo_us = now - UNTIMED_US;
	x.hi_us = now;
	if (MSG_HAS(h, happening, at_mono_us) && h->at_mono_us > 0 && h->at_mono_us <= now + AT_ONCE_US &&
	    h->at_error_us < (uint64_t)UNTIMED_US) {
		x.lo_us = h->at_mono_us - (int64_t)h->at_error_us;
		x.hi_us = h->at_mono_us + (int64_t)h->at_error_us;
	}
	/* not after we heard of it: what is told meanwhile would stand before it */
	x.hi_us = x.hi_us < now ? x.hi_us : now;
	x.lo_us = x.lo_us < now ? x.lo_us : now;
	if (n->events->n == EVENTS_MAX)
		memmove(&n->events->v[0], &n->events->v[1], --n->events->n * sizeof(x));
	n->events->v[n->events->n++] = x;
	tell_jobs(c, n, &x);
}

void evidence_on_happened(struct coord *c, struct node *n, const struct rec_happened *m)
{
	if (n->events == NULL)
		n->events = calloc(1, sizeof(*n->events));
	if (n->events == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < m->n_happenings; i++)
		note(c, n, &m->happenings[i]);
}

/* What there was in the last so many microseconds, of the last EVENTS_MAX; Xids that a program brings
 * about by itself are its own affair. */
void evidence_fill(const struct coord *c, const struct node *n, int64_t within_us, struct kmsg_seen ret[KMSG_KINDS_MAX])
{
	_Static_assert(KINDS <= KMSG_KINDS_MAX, "room for all");

	for (size_t i = 0; i < KINDS; i++)
		ret[i] = (struct kmsg_seen){ .kind = kinds[i].name };
	for (size_t i = 0; n->events != NULL && i < n->events->n; i++) {
		const struct event_seen *x = &n->events->v[i];

		if (c->now.ns / 1000 - x->hi_us > within_us || (x->xid != 0 && !xid_is_fault(x->xid)))
			continue;
		ret[x->kind].n++;
		ret[x->kind].last = x->text;
	}
}
