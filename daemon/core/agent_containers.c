/* agent_containers.c - jobs that have a daemon start containers
 *
 * What 'docker run' starts is no descendant of the job's: it is in no cgroup of
 * ours, does not end with the job, and keeps its GPUs. Nothing can be done about
 * that but to say so, once for each job, and what helps.
 *
 * The client is looked for soon after the start and then less and less often,
 * for a look costs some milliseconds of /proc. Not promised: to see a client
 * that runs for a moment only ('docker run -d').
 */
#include "core/agent_internal.h"

#include <stdio.h>
#include <string.h>

#define LOOK_FIRST_MS 1000
#define LOOK_MAX_MS 60000

void containers_running(struct agent *a, struct ajob *j)
{
	if (j->look_pause_ms != 0)
		return;
	j->look_pause_ms = LOOK_FIRST_MS;
	j->look_at = mono_add_ms(a->now, LOOK_FIRST_MS);
}

static void look(struct agent *a, struct ajob *j)
{
	uint32_t n = j->prepare.u.prepare.nprocs;
	uint32_t *pids = arena_alloc(&a->out->arena, n * sizeof(*pids) + 1);
	struct action *x;

	if (pids == NULL || j->shim_pid == 0)
		return;
	x = ajob_action(a, j, ACT_CONTAINERS, &j->ticket_look);
	x->shim_pid = j->shim_pid;
	for (uint32_t i = 0; i < n; i++)
		pids[i] = strcmp(j->ranks[i].state, "running") == 0 ? j->ranks[i].pid : 0;
	x->pids = pids;
	x->n_pids = n;
}

void containers_deadlines(struct agent *a)
{
	list_foreach(e, &a->jobs) {
		struct ajob *j = list_entry(e, struct ajob, all);

		if (j->phase != AJ_RUNNING)
			j->look_at = MONO_NEVER;
		if (!mono_due(j->look_at, a->now))
			continue;
		j->look_pause_ms = 2 * j->look_pause_ms < LOOK_MAX_MS ? 2 * j->look_pause_ms : LOOK_MAX_MS;
		j->look_at = mono_add_ms(a->now, j->look_pause_ms);
		look(a, j);
	}
}

mono_t containers_deadline(const struct agent *a)
{
	mono_t t = MONO_NEVER;

	list_foreach(e, &a->jobs)
		t = mono_min(t, list_entry(e, struct ajob, all)->look_at);
	return t;
}

void containers_done(struct agent *a, struct ajob *j)
{
	uint32_t at = a->ev->result;
	char who[32] = "the job", text[500];
	struct msg m;

	j->ticket_look = 0;
	if (a->ev->error != 0 || at == 0 || a->ev->text == NULL || j->phase != AJ_RUNNING)
		return;
	j->look_at = MONO_NEVER;
	if (at <= j->prepare.u.prepare.nprocs)
		snprintf(who, sizeof(who), "rank %u", j->prepare.u.prepare.rank_base + at - 1);
	snprintf(text, sizeof(text), "%s runs '%.128s': what is in the container is started by a daemon and is outside of "
		 "this job: it does not end with it, and may keep its GPUs; end it yourself (--rm, --cidfile), or use podman or "
		 "enroot, or run nodectl launch inside", who, a->ev->text);
	msg_init(&m, MSG_notice);
	m.u.notice.job = j->job;
	m.u.notice.attempt = j->attempt;
	m.u.notice.text = text;
	session_send(a, &m);
}
