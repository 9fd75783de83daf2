/* job_stacks.c - the host's part of stacks.c: whose, and where they go
 *
 * Into the standard error of the ranks, in lines that say whose words they are; what the ranks
 * have said last stays what they have said. One look at a time: who asks meanwhile gets that one.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/proc.h"
#include "shim/env.h"
#include "shim/host.h"

static void answer(struct host *h, uint32_t ranks, const char *text)
{
	struct msg m;

	msg_init(&m, MSG_stacks);
	m.u.stacks.job = h->job;
	m.u.stacks.attempt = h->attempt;
	m.u.stacks.ranks = ranks;
	m.u.stacks.text = text;
	if (h->conn.fd >= 0 && !channel_send_msg(&h->conn, &m))
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
}

/* Workers are whom it is about; what they say comes out of their launcher's pipes. */
static size_t targets(const struct host *h, struct stacks_target *v)
{
	const struct worker *k;
	size_t n = 0;

	for (size_t i = 0; h->workers && n < STACKS_RANKS && (k = workers_live(h->workers, i)) != NULL; i++)
		v[n++] = (struct stacks_target){ k->rank, 0, k->pid, k->start_time };
	for (uint32_t i = 0, found = (uint32_t)n; found == 0 && i < h->nprocs && n < STACKS_RANKS; i++) {
		v[n] = (struct stacks_target){ .rank = h->setup.rank_base + i, .local = i, .pid = shim_rank_pid(h->machine, i) };
		n += v[n].pid > 0 && proc_start_time(v[n].pid, &v[n].start_time) == 0;
	}
	return n;
}

void job_stacks_asked(struct host *h)
{
	struct stacks_target v[STACKS_RANKS];
	size_t n = shim_running(h->machine) ? targets(h, v) : 0;

	if (h->stacks)
		return;
	if (n == 0) {
		answer(h, 0, "no rank runs here");
		return;
	}
	h->stacks = stacks_begin(v, n, env_get((const char *const *)h->spec.env, "PATH"));
	if (h->stacks && host_poll(h, stacks_fd(h->stacks), POLL_STACKS, 0, EPOLLIN) < 0)
		job_stacks_end(h);
	if (!h->stacks)
		answer(h, 0, "no process could be started to look");
	h->n_stacks = (uint32_t)n;
}

/* Whoever reads them knows a stream that is over for complete. */
static bool put(struct host *h, uint32_t local, const char *p, size_t n)
{
	uint32_t stream = 2 * local + 1;

	if (local >= h->nprocs)
		return false;
	if (!output_is_open(h->out, stream))
		stream--;
	if (!output_is_open(h->out, stream))
		return false;
	output_say(h->out, stream, p, n, host_wall_ms());
	return true;
}

void job_stacks_read(struct host *h)
{
	bool all = true;
	uint32_t local;
	const char *p;
	size_t n;

	if (!h->stacks || !stacks_read(h->stacks))
		return;
	while (stacks_next(h->stacks, &local, &p, &n))
		all = put(h, local, p, n) && all;
	job_stacks_end(h);
	answer(h, h->n_stacks, all ? NULL : "the output of some rank was over before");
}

void job_stacks_end(struct host *h)
{
	if (h->stacks)
		epoll_ctl(h->ep, EPOLL_CTL_DEL, stacks_fd(h->stacks), NULL);
	stacks_destroy(h->stacks);
	h->stacks = NULL;
}
