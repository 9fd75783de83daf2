/* agent_lease.c - how long jobs that may restart run without the coordinator
 *
 * Their lease lasts lease_ms from when we sent the last word that the
 * coordinator has answered: it heard that word later, so it counts at least as
 * long, whatever the link did to the answer. When the lease has passed, the
 * ranks are ended, by us and by the shim itself; a lease that has passed is not
 * renewed. Time is the host's CLOCK_BOOTTIME: a machine that slept has not heard
 * anybody either, and its ranks must not go on when it wakes.
 *
 * Until the coordinator has answered an agent that was restarted, the lease
 * is what the shim was told last, and only the shim keeps it.
 */
#include "core/agent_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLD_PART 16 /* renewed each time that this part of it has passed */
#define LEASES_SHIM_PROTO 2

static uint32_t lease_ms(const struct ajob *j)
{
	return j->prepare.u.prepare.lease_ms;
}

bool lease_kept(const struct ajob *j)
{
	return lease_ms(j) != 0 && j->shim_proto >= LEASES_SHIM_PROTO;
}

int64_t lease_until(const struct agent *a, const struct ajob *j)
{
	return lease_ms(j) != 0 && a->lease_base != 0 ? a->lease_base + lease_ms(j) : 0;
}

/* Ranks of it may be alive, and nobody has told it to end. */
static bool is_running(const struct ajob *j)
{
	return ajob_alive(j) && j->latched && !j->end_wanted && lease_ms(j) != 0;
}

void lease_renew(struct agent *a, struct ajob *j, bool anew)
{
	int64_t until = lease_until(a, j);
	struct msg m;

	if (!is_running(j) || !lease_kept(j) || until <= a->boot_ms)
		return;
	if (!anew && until < j->lease_told + lease_ms(j) / TOLD_PART)
		return;
	j->lease_told = until;
	msg_init(&m, MSG_shim_lease);
	m.u.shim_lease.until_boot_ms = until;
	ajob_send_shim(a, j, &m);
}

static void answered(struct agent *a, int64_t sent_boot_ms)
{
	if (sent_boot_ms <= a->lease_base)
		return;
	a->lease_base = sent_boot_ms;
	list_foreach(e, &a->jobs)
		lease_renew(a, list_entry(e, struct ajob, all), false);
}

void lease_asked(struct agent *a, uint64_t seq)
{
	struct asked *s = &a->asked[seq % ASKED];

	s->seq = seq;
	s->boot_ms = a->boot_ms;
}

void lease_on_pong(struct agent *a, uint64_t seq)
{
	const struct asked *s = &a->asked[seq % ASKED];

	if (a->session == SE_READY && s->seq == seq && s->boot_ms != 0)
		answered(a, s->boot_ms);
}

void lease_on_registered(struct agent *a)
{
	answered(a, a->register_boot_ms);
}

static bool passed(const struct agent *a, const struct ajob *j)
{
	return is_running(j) && lease_until(a, j) != 0 && a->boot_ms >= lease_until(a, j);
}

/* Before any event: what lay in our sockets while we were stopped changes nothing. */
void leases_fence(struct agent *a)
{
	list_foreach(e, &a->jobs) {
		struct ajob *j = list_entry(e, struct ajob, all);

		if (!passed(a, j))
			continue;
		act_log(a->out, j->job, "job %llu: the coordinator was not heard for %u s, and the job may be started "
			"elsewhere: its processes are ended", (unsigned long long)j->job, lease_ms(j) / 1000);
		j->lapsed = true;
		ajob_end(a, j, j->prepare.u.prepare.grace_ms);
	}
}

mono_t leases_deadline(const struct agent *a)
{
	mono_t t = MONO_NEVER;

	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (is_running(j) && lease_until(a, j) != 0)
			t = mono_min(t, mono_add_ms(a->now, lease_until(a, j) - a->boot_ms));
	}
	return t;
}
