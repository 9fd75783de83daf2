/* run.c - one job with its attempts, those who read it, and what goes wrong meanwhile */
#include "tests/sim/output/flow.h"

#include <string.h>

#define LIMIT_MS 120000 /* after the end: nobody reads for so long */

struct job job;
static unsigned gone[ATTEMPTS + 1];
static bool faults, capped;
static uint64_t each;
static int64_t settled_at;

static const char *state_name(void)
{
	if (job.settled)
		return job.started[job.attempt] ? "done" : "failed";
	return job.attempt == 0 ? "queued" : job.between ? "restarting" : job.started[job.attempt] ? "running" : "preparing";
}

/* As coord_answer.c fills it in, for one who asked for attempt 'shown'. */
void fill_info(struct rec_job_info *i, struct rec_attempt_info past[ATTEMPTS + 1], uint32_t shown)
{
	static const char *names[HOSTS] = { "n0", "n1", "n2" };

	*i = (struct rec_job_info){ .job = JOB, .state = state_name(), .attempt = shown, .world = HOSTS * PPN, .node_names = names };
	i->n_node_names = HOSTS;
	MSG_SET(i, job_info, procs_per_node, PPN);
	i->nnodes = HOSTS;
	i->user = i->command = "x";
	if (job.attempt && job.started[job.attempt])
		MSG_SET(i, job_info, start_wall_ms, 1);
	if (job.attempts > 1)
		MSG_SET(i, job_info, restarts, job.attempt ? job.attempt - 1 : 0);
	for (uint32_t a = 1; a <= job.attempt; a++) {
		if (!job.over[a] || job.attempts == 1)
			continue;
		past[i->n_attempts] = (struct rec_attempt_info){ .attempt = a, .nodes = "n[0-2]" };
		if (job.started[a])
			MSG_SET(&past[i->n_attempts], attempt_info, start_wall_ms, 1);
		i->n_attempts++;
	}
	i->attempts = past;
}

static void on_forget(struct event *e)
{
	host_forget(e->a, (uint32_t)e->x);
}

static void on_remove(struct event *e)
{
	host_remove_spool(e->a, (uint32_t)e->x);
}

static void begin_attempt(struct event *e);

static void attempt_over(struct event *e)
{
	uint32_t a = (uint32_t)e->x;

	job.over[a] = true;
	if (a < job.attempts) {
		job.between = true;
		later(100 + (int64_t)chance(2000), begin_attempt, NULL, 0);
	} else {
		job.settled = true;
		settled_at = now;
	}
	trace("attempt %u is over%s", a, job.settled ? ", and the job" : "");
	for (unsigned i = 0; i < HOSTS; i++)
		if (permille(600)) {
			later((int64_t)chance(3000), on_forget, &hosts[i], a);
			if (faults && permille(100))
				later(3000 + (int64_t)chance(5000), on_remove, &hosts[i], a);
		}
	update_watches();
}

void shim_gone(struct host *h, uint32_t attempt)
{
	if (++gone[attempt] == HOSTS)
		later(5 + (int64_t)chance(300), attempt_over, NULL, attempt);
}

static void on_shim_start(struct event *e)
{
	struct host *h = e->a;

	shim_start(h, (uint32_t)e->x, each, capped ? each / 3 : 0);
}

static void begin_attempt(struct event *e)
{
	uint32_t a = job.attempt + 1;

	for (unsigned i = 0; i < HOSTS; i++)
		if (!hosts[i].up) {
			later(300, begin_attempt, NULL, 0);
			return;
		}
	job.attempt = a;
	job.between = false;
	job.started[a] = permille(920);
	trace("attempt %u begins%s", a, job.started[a] ? "" : ", and is not started");
	for (unsigned i = 0; i < HOSTS; i++) {
		hosts[i].known[a] = true;
		if (job.started[a])
			later((int64_t)chance(100), on_shim_start, &hosts[i], a);
		else
			hosts[i].over[a] = true;
	}
	if (!job.started[a])
		later(20, attempt_over, NULL, a);
	update_watches();
}

static void heal(struct event *e)
{
	hosts[e->x].cut_off = false;
}

static void one_fault(void)
{
	unsigned i = (unsigned)chance(HOSTS), k = (unsigned)chance(100);
	struct host *h = &hosts[i];

	if (k < 40) {
		wires_cut_some();
	} else if (k < 62) {
		agent_crash(h);
	} else if (k < 82) {
		h->full_until = now + (int64_t)chance(400) * MS;
	} else if (k < 92) {
		h->cut_off = true;
		wires_cut_some();
		later((int64_t)chance(permille(100) ? 9000 : 1000), heal, NULL, i);
	} else if (k < 98) {
		shim_kill(h->shims[job.attempt]);
	} else if (h->up && h->shims[job.attempt] != NULL) {
		host_power_loss(h);
	}
}

static void on_fault(struct event *e)
{
	if (job.settled && now - settled_at > 3000 * MS)
		return;
	one_fault();
	later(10 + (int64_t)chance(400), on_fault, NULL, 0);
}

static void on_client(struct event *e)
{
	uint32_t fixed = job.attempt && permille(400) ? 1 + (uint32_t)chance(job.attempt) : 0;

	client_start((unsigned)e->x, permille(600), fixed);
}

void run(uint64_t seed)
{
	static const uint64_t sizes[] = { 500, 6000, 60000, 400000 };

	world_begin(seed);
	memset(&job, 0, sizeof(job));
	memset(gone, 0, sizeof(gone));
	settled_at = 0;
	for (unsigned i = 0; i < HOSTS; i++)
		host_begin(&hosts[i], i);
	clients_begin();
	faults = seed % 8 != 0;
	job.attempts = 1 + (uint32_t)chance(ATTEMPTS);
	each = sizes[permille(100) ? 3 : chance(3)];
	capped = each > 100000 || permille(100);
	each *= capped && each < 100000 ? 4 : 1;
	later((int64_t)chance(100), begin_attempt, NULL, 0);
	later(0, on_client, NULL, 0);
	for (uint64_t i = 1; i < CLIENTS; i++)
		later((int64_t)chance(permille(300) ? 20000 : 1500), on_client, NULL, i);
	if (faults)
		later((int64_t)chance(300), on_fault, NULL, 0);

	while (next_event(INT64_MAX) && !(job.settled && now - settled_at > 21000 * MS && clients_done()))
		if (job.settled && now - settled_at > LIMIT_MS * MS)
			broken("somebody waits for ever");
	if (!clients_done())
		broken("somebody waits, and nothing happens any more");
	clients_check();
	if (!faults && clients_were_told())
		broken("something is told as missing, and nothing went wrong");
	counts.runs++;
	for (unsigned i = 0; i < HOSTS; i++)
		host_end(&hosts[i]);
	clients_end();
	world_end();
}
