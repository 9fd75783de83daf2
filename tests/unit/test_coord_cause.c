/* test_coord_cause.c - which of several ends is named as the first, and what is said of it */
#include "coord_world.h"

/* An end that the node's agent has measured: by the coordinator's monotonic clock. */
struct end {
	uint32_t rank, code, sig;
	int64_t at_us; /* before now */
	uint64_t error_us;
	int64_t mono_us; /* its host's clock; 0: not told */
	uint64_t late_us;
	const char *cause, *exception, *tail;
	bool ours;
};

static struct rec_rank_state state_of_end(const struct world *w, const struct end *e)
{
	struct rec_rank_state r = { .rank = e->rank, .state = e->sig != 0 ? "killed" : "exited", .pid = 77 };

	if (e->sig == 0)
		MSG_SET(&r, rank_state, code, e->code);
	r.sig = e->sig;
	r.cause = e->cause;
	r.exception = e->exception;
	if (e->tail != NULL)
		MSG_SET(&r, rank_state, tail, ((struct bytes){ (const uint8_t *)e->tail, strlen(e->tail) }));
	if (e->ours)
		MSG_SET(&r, rank_state, ours, true);
	r.end_mono_us = e->mono_us;
	if (e->late_us != 0)
		MSG_SET(&r, rank_state, late_us, e->late_us);
	if (e->error_us != 0) {
		MSG_SET(&r, rank_state, at_mono_us, w->now.ns / 1000 - e->at_us);
		MSG_SET(&r, rank_state, at_error_us, e->error_us);
	}
	return r;
}

static void dies(struct world *w, uint64_t link, struct end e)
{
	struct rec_rank_state r = state_of_end(w, &e);
	struct msg m;

	msg_init(&m, MSG_ranks);
	m.u.ranks.job = w->job;
	m.u.ranks.attempt = 1;
	m.u.ranks.ranks = &r;
	m.u.ranks.n_ranks = 1;
	say(w, link, &m);
}

static void is_gone(struct world *w, uint64_t link, struct end e)
{
	struct rec_rank_state r = state_of_end(w, &e);
	struct msg m;

	msg_init(&m, MSG_ended);
	m.u.ended.job = w->job;
	m.u.ended.attempt = 1;
	m.u.ended.ranks = &r;
	m.u.ended.n_ranks = 1;
	say(w, link, &m);
	store(w);
}

static void heartbeat(struct world *w, uint64_t link)
{
	struct msg m;

	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	say(w, link, &m);
}

static int64_t first_of(struct world *w, size_t *ret_either)
{
	struct msg m;
	const struct rec_job_info *j = job_one(w, &m);
	int64_t first = j->n_first > 0 ? (int64_t)j->first->rank : -1;

	*ret_either = 0;
	for (size_t i = 0; i < j->n_ranks; i++)
		*ret_either += j->ranks[i].maybe_first;
	assert_int_equal(*ret_either, j->n_either);
	msg_finish(&m);
	return first;
}

static void an_earlier_end_that_is_reported_later_is_the_first(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	assert_int_equal(first_of(w, &either), 1);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 5000, .error_us = 300 });
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 0);
	is_gone(w, a, (struct end){ .rank = 0, .code = 7 });
	is_gone(w, b, (struct end){ .rank = 1, .code = 1 });
	assert_job(w, "failed", 7);
}

static void ends_that_the_clocks_cannot_tell_apart_are_both_named(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;
	struct msg m;

	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 1000, .error_us = 300 });
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 700, .error_us = 300 });
	store(w);
	is_gone(w, a, (struct end){ .rank = 0, .code = 7 });
	is_gone(w, b, (struct end){ .rank = 1, .code = 1 });
	assert_int_equal(first_of(w, &either), 1);
	assert_int_equal(either, 1);
	assert_string_equal(job_one(w, &m)->why, "rank 1 (gpu02, pid 77) exited with code 1; may have been first as well, for the "
						 "clocks leave 0.3 ms open: rank 0 (gpu01, pid 77) exited with code 7");
	msg_finish(&m);
}

/* Of rank 1 of two, when both are over. */
static void why_is(struct world *w, struct end e, struct end other, const char *text)
{
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	tick(w, 500);
	e.rank = 1;
	e.at_us = 1000;
	e.error_us = 100;
	other.at_us = 0;
	dies(w, b, e);
	store(w);
	tick(w, 100);
	is_gone(w, a, other);
	is_gone(w, b, e);
	assert_string_equal(job_one(w, &m)->why, text);
	msg_finish(&m);
}

static void where_nothing_better_is_known_the_last_line_is_quoted(void **state)
{
	why_is(*state, (struct end){ .code = 127, .tail = "begin\ntrain.sh: line 4: torchrun: command not found\n" }, (struct end){ .code = 0 },
	       "rank 1 (gpu02, pid 77) exited with code 127 (as a shell says when it does not find its program); its last line: "
	       "\"train.sh: line 4: torchrun: command not found\"");
}

static void a_signal_of_its_own_making_has_its_name_and_its_last_line(void **state)
{
	why_is(*state, (struct end){ .sig = 6, .tail = "python3: alloc.c:77: Assertion `p' failed.\n" }, (struct end){ .code = 0 },
	       "rank 1 (gpu02, pid 77) was killed by signal 6 (SIGABRT); its last line: \"python3: alloc.c:77: Assertion `p' failed.\"");
}

static void who_was_killed_from_outside_has_said_nothing_of_it(void **state)
{
	why_is(*state, (struct end){ .sig = 15, .tail = "step 20 loss 3.1\n" }, (struct end){ .code = 0 }, "rank 1 (gpu02, pid 77) was killed by signal 15");
}

static void an_exception_says_more_than_the_last_line(void **state)
{
	why_is(*state, (struct end){ .code = 1, .tail = "ValueError: x\n", .exception = "ValueError: x at a.py:3" }, (struct end){ .code = 0 },
	       "rank 1 (gpu02, pid 77) exited with code 1: ValueError: x at a.py:3");
}

#define WATCHDOG "[Rank 1] Watchdog caught collective operation timeout"
static void who_had_raised_and_did_not_end_is_named_beside_those_that_waited(void **state)
{
	why_is(*state, (struct end){ .sig = 6, .exception = WATCHDOG }, (struct end){ .sig = 15, .ours = true, .exception = "ValueError: bad batch at a.py:9" },
	       "rank 1 (gpu02, pid 77) was killed by signal 6 (SIGABRT): " WATCHDOG "; but rank 0 (gpu01, pid 77) had raised before and did not end, so "
	       "the others waited for it: ValueError: bad batch at a.py:9");
}

static void who_lost_a_peer_too_is_not_named(void **state)
{
	why_is(*state, (struct end){ .sig = 6, .exception = WATCHDOG }, (struct end){ .sig = 15, .ours = true, .exception = "DistBackendError: NCCL error" },
	       "rank 1 (gpu02, pid 77) was killed by signal 6 (SIGABRT): " WATCHDOG);
}

/* Virtual nodes of one host have one clock, and need not be compared. */
static void ends_on_one_host_are_told_apart_by_its_own_clock(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair(w, &a, &b); /* both of boot-1 */
	tick(w, 500);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 500, .error_us = 300, .mono_us = 5000 });
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 400, .error_us = 300, .mono_us = 4990 });
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 0);
}

/* The shim of rank 0 waited for a processor while that of rank 1 ran. */
static void an_end_that_its_shim_saw_late_may_have_been_the_first(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .mono_us = 5000, .late_us = 1000 });
	dies(w, a, (struct end){ .rank = 0, .code = 7, .mono_us = 9000, .late_us = 8000 });
	store(w);
	assert_int_equal(first_of(w, &either), 1);
	assert_int_equal(either, 1);
}

static void that_an_end_was_seen_late_survives_the_coordinator(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	w->boot = "head-1";
	restart(w);
	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .mono_us = 9000, .late_us = 8000 });
	store(w);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	node_up_held(w, "gpu02", "boot-1", 1, "ended", "exited", 1, 1);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .mono_us = 5000, .late_us = 1000 });
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 1);
}

static void an_end_that_its_shim_saw_somewhat_late_was_not_the_first(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .mono_us = 5000, .late_us = 1000 });
	dies(w, a, (struct end){ .rank = 0, .code = 7, .mono_us = 9000, .late_us = 3000 });
	assert_int_equal(first_of(w, &either), 1);
	assert_int_equal(either, 0);
}

/* Four ranks of two nodes: those that lose their peer end alike. */
static void of_ends_in_doubt_the_one_unlike_the_others_is_named(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair_of(w, &a, &b, 2);
	tick(w, 500);
	dies(w, a, (struct end){ .rank = 0, .code = 1, .mono_us = 5000, .late_us = 1000 });
	assert_int_equal(first_of(w, &either), 0);
	dies(w, b, (struct end){ .rank = 2, .code = 41, .mono_us = 6000, .late_us = 4000 });
	dies(w, b, (struct end){ .rank = 3, .code = 1, .mono_us = 6100, .late_us = 4000 });
	assert_int_equal(first_of(w, &either), 2);
	assert_int_equal(either, 2);
}

/* Whatever the others do: the host knows why this one ended. */
static void of_ends_in_doubt_the_one_with_a_cause_is_named(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair_of(w, &a, &b, 2);
	tick(w, 500);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .mono_us = 5000, .late_us = 1000 });
	dies(w, b, (struct end){ .rank = 2, .sig = 9, .mono_us = 5500, .late_us = 1000 });
	dies(w, b, (struct end){ .rank = 3, .sig = 9, .mono_us = 5600, .late_us = 1000, .cause = "the OOM killer has ended it" });
	assert_int_equal(first_of(w, &either), 3);
	assert_int_equal(either, 2);
}

/* ... but not in place of one that was surely before. */
static void an_end_unlike_the_others_that_came_later_is_not_named(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair_of(w, &a, &b, 2);
	tick(w, 500);
	dies(w, a, (struct end){ .rank = 0, .code = 1, .mono_us = 5000, .late_us = 1000 });
	dies(w, a, (struct end){ .rank = 1, .code = 1, .mono_us = 6500, .late_us = 1000 });
	dies(w, b, (struct end){ .rank = 2, .code = 41, .mono_us = 7000, .late_us = 1000 });
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 0);
}

/* A clock that says: before the start, or after we have heard of it. */
static void a_time_that_cannot_be_is_not_believed(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 10000000, .error_us = 300 });
	tick(w, 20);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = -10000000, .error_us = 300 });
	assert_int_equal(first_of(w, &either), 0); /* heard first */
	assert_int_equal(either, 1); /* but nobody knows */
}

static void a_first_cause_that_was_told_as_settled_stays(void **state)
{
	struct world *w = *state;
	uint64_t a, b, watcher;
	size_t either;
	struct msg m;

	running_pair(w, &a, &b);
	watcher = link_up(w, WHO_LOCAL, NULL, "client");
	msg_init(&m, MSG_watch);
	m.u.watch.rid = 3;
	m.u.watch.job = 1;
	say(w, watcher, &m);
	tick(w, 500);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 1000, .error_us = 300 });
	store(w);
	for (int i = 0; i < 6; i++) { /* gpu02 says nothing */
		tick(w, 1000);
		msg_init(&m, MSG_ping);
		say(w, a, &m);
	}
	is_gone(w, a, (struct end){ .rank = 0, .code = 7 });
	assert_true(last_to(w, watcher, MSG_job_update, &m));
	assert_true(m.u.job_update.settled);
	assert_int_equal(m.u.job_update.job->exit_code, 7);
	msg_finish(&m);
	is_gone(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 6000000, .error_us = 300 });
	assert_int_equal(first_of(w, &either), 0);
	assert_job(w, "failed", 7);
}

static void the_order_survives_the_coordinator(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	w->boot = "head-1"; /* without one nobody knows whether the clock has begun anew */
	restart(w);
	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	node_up_held(w, "gpu02", "boot-1", 1, "ended", "exited", 1, 1);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 400000, .error_us = 300 });
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 0);
}

static void first_then_away(struct world *w, int64_t wall_jump_ms, const char *boot)
{
	uint64_t a, b;

	w->boot = "head-1";
	restart(w);
	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	w->wall_ms += wall_jump_ms;
	w->boot = boot;
	restart(w);
	tick(w, 500);
}

static void the_order_survives_a_wall_clock_that_is_set_while_the_coordinator_is_away(void **state)
{
	struct world *w = *state;
	uint64_t a;
	size_t either;

	first_then_away(w, -86400000, "head-1");
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 1000, .error_us = 300 });
	assert_int_equal(first_of(w, &either), 1);
	assert_int_equal(either, 0);
}

/* Its monotonic clock has begun anew, and the wall clock says that the end is yet to come. */
static void what_a_set_wall_clock_says_after_a_reboot_is_not_believed(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	first_then_away(w, -86400000, "head-2");
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 500400, .error_us = 100 });
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 1);
	b = node_up_held(w, "gpu02", "boot-1", 1, "running", "exited", 1, 1);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 501000, .error_us = 300 });
	assert_int_equal(first_of(w, &either), 1);
	assert_int_equal(either, 0);
}

/* Ahead: the end seems to be longer ago than it is. */
static void what_its_node_measures_counts_more_than_the_wall_clock_of_before_a_reboot(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	first_then_away(w, 86400000, "head-2");
	b = node_up_held(w, "gpu02", "boot-1", 1, "running", "exited", 1, 1);
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 501000, .error_us = 300 });
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	dies(w, a, (struct end){ .rank = 0, .code = 7, .at_us = 600000, .error_us = 300 });
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 0);
}

/* Its host lost power; the other rank lost its peer, and said so first. */
static void a_host_that_comes_back_rebooted_may_have_been_the_first(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair(w, &a, &b);
	tick(w, 500);
	heartbeat(w, b);
	tick(w, 700);
	link_down(w, b);
	dies(w, a, (struct end){ .code = 1, .at_us = 1000, .error_us = 300 });
	tick(w, 900);
	node_up_held(w, "gpu02", "boot-2", 0, NULL, NULL, 0, 0);
	assert_int_equal(first_of(w, &either), 1);
	assert_int_equal(either, 1);
}

/* It spoke after the other's end: so its own was later, whenever that was. */
static void a_host_that_spoke_after_the_first_end_was_rebooted_later(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, a, (struct end){ .code = 1, .at_us = 1000, .error_us = 300 });
	tick(w, 100);
	heartbeat(w, b);
	link_down(w, b);
	tick(w, 900);
	node_up_held(w, "gpu02", "boot-2", 0, NULL, NULL, 0, 0);
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 0);
}

/* It came back before the coordinator did, without the job: what it says since tells nothing of when that was. */
static void what_a_host_says_since_it_has_missed_the_job_does_not_tell_when(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair(w, &a, &b);
	store(w);
	restart(w);
	b = node_up(w, "gpu02");
	tick(w, 500);
	heartbeat(w, b);
	tick(w, 500);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	dies(w, a, (struct end){ .code = 1, .at_us = 900000, .error_us = 300 });
	assert_int_equal(first_of(w, &either), 1);
	assert_int_equal(either, 1);
}

/* Also when the coordinator has forgotten when: what told of rank 0 knew of no end of rank 1. */
static void a_rank_lost_with_its_host_ended_after_those_it_told_of(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	size_t either;

	running_pair_of(w, &a, &b, 2);
	tick(w, 500);
	dies(w, a, (struct end){ .code = 7, .at_us = 1000, .error_us = 300 });
	store(w);
	w->boot = "head-2";
	restart(w);
	tick(w, 500);
	node_up_held(w, "gpu01", "boot-2", 0, NULL, NULL, 0, 0);
	assert_int_equal(first_of(w, &either), 0);
	assert_int_equal(either, 0);
}

static void what_its_host_knows_of_the_end_is_said(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	tick(w, 500);
	dies(w, a, (struct end){ .sig = 9, .at_us = 5000, .error_us = 300, .cause = "by the kernel's OOM killer" });
	dies(w, b, (struct end){ .rank = 1, .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	is_gone(w, a, (struct end){ .sig = 9 });
	is_gone(w, b, (struct end){ .rank = 1, .code = 1 });
	assert_string_equal(job_one(w, &m)->why,
			    "rank 0 (gpu01, pid 77) was killed by signal 9: by the kernel's OOM killer");
	assert_string_equal(m.u.jobs.jobs->others, "1 other rank (collateral): 1 exited with code 1 4.0 ms later");
	msg_finish(&m);
}

static void happens(struct world *w, uint64_t link, const char *kind, const char *text, uint64_t job, int64_t before_us)
{
	struct rec_happening h = { .kind = kind, .text = text, .mono_us = 1000 };
	struct msg m;

	if (job != 0)
		MSG_SET(&h, happening, job, job);
	MSG_SET(&h, happening, at_mono_us, w->now.ns / 1000 - before_us);
	MSG_SET(&h, happening, at_error_us, 200);
	msg_init(&m, MSG_happened);
	m.u.happened.happenings = &h;
	m.u.happened.n_happenings = 1;
	say(w, link, &m);
	say(w, link, &m); /* told again after a registration */
}

static void what_happened_near_the_end_is_put_beside_it(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;
	size_t told = 0;

	running_pair(w, &a, &b);
	tick(w, 70000);
	happens(w, a, "oom", "somebody else's OOM kill", 77, 500000);
	happens(w, a, "fault", "a fault of nobody we know", 0, 500000);
	happens(w, a, "oom", "an OOM kill long ago", 1, 9000000);
	happens(w, a, "xid", "Xid 79 on GPU 0", 1, 400000);
	happens(w, b, "port", "port mlx5_0/1 went down", 0, 12000000);
	dies(w, a, (struct end){ .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	is_gone(w, a, (struct end){ .code = 1 });
	is_gone(w, b, (struct end){ .rank = 1 });
	assert_string_equal(job_one(w, &m)->why,
			    "rank 0 (gpu01, pid 77) exited with code 1: Xid 79 on GPU 0 0.4 s before; "
			    "on gpu02 port mlx5_0/1 went down 12.0 s before");
	for (size_t i = 0; i < m.u.jobs.jobs->n_story; i++)
		told += strstr(m.u.jobs.jobs->story[i].text, "Xid 79 on GPU 0") != NULL;
	assert_int_equal(told, 2); /* by itself, and beside the end */
	msg_finish(&m);
}

/* The OOM killer ends pid 77 (the rank) or another one, of which no job is known. */
static void oom_strikes(struct world *w, uint64_t link, uint32_t pid, const char *where)
{
	struct rec_happening h = { .kind = "oom", .mono_us = 1000 };
	char text[100];
	struct msg m;

	snprintf(text, sizeof(text), "the kernel's OOM killer ended pid %u: its %s was out of memory", pid, where);
	if (strcmp(where, "host") == 0)
		snprintf(text, sizeof(text), "the kernel's OOM killer ended pid %u: the host was out of memory", pid);
	h.text = text;
	MSG_SET(&h, happening, pid, pid);
	MSG_SET(&h, happening, at_mono_us, w->now.ns / 1000 - 400000);
	MSG_SET(&h, happening, at_error_us, 200);
	msg_init(&m, MSG_happened);
	m.u.happened.happenings = &h;
	m.u.happened.n_happenings = 1;
	say(w, link, &m);
}

/* What is said of the end of rank 0, and how many moments of the story tell of the OOM killer. */
static size_t oom_and_end(struct world *w, uint32_t pid, const char *where, struct end e, char why[400])
{
	uint64_t a, b;
	struct msg m;
	size_t told = 0;

	running_pair(w, &a, &b);
	tick(w, 3000);
	oom_strikes(w, a, pid, where);
	e.at_us = 1000, e.error_us = 300;
	dies(w, a, e);
	store(w);
	is_gone(w, a, e);
	is_gone(w, b, (struct end){ .rank = 1 });
	snprintf(why, 400, "%s", job_one(w, &m)->why);
	for (size_t i = 0; i < m.u.jobs.jobs->n_story; i++)
		told += strncmp(m.u.jobs.jobs->story[i].text, "the kernel's OOM", 16) == 0;
	msg_finish(&m);
	return told;
}

static void an_OOM_kill_in_a_strangers_cgroup_is_no_cause(void **state)
{
	char why[400];

	assert_int_equal(oom_and_end(*state, 13694, "cgroup", (struct end){ .code = 7 }, why), 0);
	assert_string_equal(why, "rank 0 (gpu01, pid 77) exited with code 7");
}

/* Not even where it was killed: a limit that it is not under. */
static void an_OOM_kill_in_a_strangers_cgroup_is_no_cause_of_a_SIGKILL(void **state)
{
	char why[400];

	oom_and_end(*state, 13694, "cgroup", (struct end){ .sig = 9 }, why);
	assert_string_equal(why, "rank 0 (gpu01, pid 77) was killed by signal 9");
}

static void a_host_without_memory_is_no_cause_of_an_exit_code(void **state)
{
	char why[400];

	assert_int_equal(oom_and_end(*state, 13694, "host", (struct end){ .code = 7 }, why), 1);
	assert_string_equal(why, "rank 0 (gpu01, pid 77) exited with code 7");
}

static void a_host_without_memory_is_said_where_somebody_has_killed_the_rank(void **state)
{
	char why[400];

	oom_and_end(*state, 13694, "host", (struct end){ .sig = 9 }, why);
	assert_non_null(strstr(why, "killed by signal 9: the kernel's OOM killer ended pid 13694: the host was out"));
}

/* An agent that was just restarted may not have known whose it was. */
static void the_OOM_killer_has_ended_the_rank_itself(void **state)
{
	char why[400];

	assert_int_equal(oom_and_end(*state, 77, "cgroup", (struct end){ .sig = 9 }, why), 1);
	assert_non_null(strstr(why, "killed by signal 9: the kernel's OOM killer ended pid 77: its cgroup was out"));
}

/* The GPUs of a job are forgotten once it is saved; what comes later is told of no job. */
static void a_saved_job_is_told_nothing_more(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;
	char why[300];
	size_t n;

	running_pair(w, &a, &b);
	tick(w, 70000);
	dies(w, a, (struct end){ .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	is_gone(w, a, (struct end){ .code = 1 });
	is_gone(w, b, (struct end){ .rank = 1 });
	store(w);
	snprintf(why, sizeof(why), "%s", job_one(w, &m)->why);
	n = m.u.jobs.jobs->n_story;
	msg_finish(&m);
	tick(w, 1000);
	happens(w, a, "xid", "Xid 79 on GPU 1", 1, 1100000);
	assert_string_equal(job_one(w, &m)->why, why);
	assert_int_equal(m.u.jobs.jobs->n_story, n);
	msg_finish(&m);
}

/* Nor what was before the attempt began. */
static void what_was_before_the_start_is_no_evidence(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	tick(w, 60000);
	running_pair(w, &a, &b);
	tick(w, 3000);
	happens(w, a, "xid", "Xid 43 on GPU 1", 1, 25600000);
	dies(w, a, (struct end){ .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	is_gone(w, a, (struct end){ .code = 1 });
	is_gone(w, b, (struct end){ .rank = 1 });
	assert_string_equal(job_one(w, &m)->why, "rank 0 (gpu01, pid 77) exited with code 1");
	for (size_t i = 0; i < m.u.jobs.jobs->n_story; i++)
		assert_null(strstr(m.u.jobs.jobs->story[i].text, "Xid"));
	msg_finish(&m);
}

/* Its clock was measured with an error: what is told next still stands behind it. */
static void nothing_happened_after_it_was_heard_of(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;
	size_t told = 0;

	running_pair(w, &a, &b);
	tick(w, 70000);
	happens(w, a, "xid", "Xid 79 on GPU 0", 1, -1400000);
	tick(w, 100);
	dies(w, a, (struct end){ .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	is_gone(w, a, (struct end){ .code = 1 });
	is_gone(w, b, (struct end){ .rank = 1 });
	job_one(w, &m);
	for (size_t i = 0; i < m.u.jobs.jobs->n_story; i++) {
		told += strncmp(m.u.jobs.jobs->story[i].text, "Xid 79", 6) == 0;
		assert_true(i == 0 || m.u.jobs.jobs->story[i].wall_us >= m.u.jobs.jobs->story[i - 1].wall_us);
	}
	assert_int_equal(told, 1);
	msg_finish(&m);
}

/* Three long texts have room beside the end, as much as fits; the end is stored all the same. */
static void what_happened_is_cut_to_what_has_room(void **state)
{
	struct world *w = *state;
	struct rec_happening h[3];
	struct rec_job_info *i;
	char text[257] = "";
	uint64_t a, b;
	struct msg m;

	memset(text, 'x', 250);
	running_pair(w, &a, &b);
	tick(w, 70000);
	for (int k = 0; k < 3; k++) {
		h[k] = (struct rec_happening){ .kind = "oom", .text = text, .mono_us = 1000 + k };
		MSG_SET(&h[k], happening, job, 1);
		MSG_SET(&h[k], happening, at_mono_us, w->now.ns / 1000 - 1000);
		MSG_SET(&h[k], happening, at_error_us, 200);
	}
	msg_init(&m, MSG_happened);
	m.u.happened.happenings = h;
	m.u.happened.n_happenings = 3;
	say(w, a, &m);
	store(w);
	dies(w, a, (struct end){ .code = 1, .at_us = 1000, .error_us = 300 });
	store(w);
	is_gone(w, a, (struct end){ .code = 1 });
	is_gone(w, b, (struct end){ .rank = 1 });
	store(w);
	store(w);
	assert_true(was_told(w, a, MSG_forget));
	i = job_one(w, &m);
	assert_string_equal(i->state, "failed");
	msg_finish(&m);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_earlier_end_that_is_reported_later_is_the_first),
		T(ends_that_the_clocks_cannot_tell_apart_are_both_named),
		T(where_nothing_better_is_known_the_last_line_is_quoted),
		T(a_signal_of_its_own_making_has_its_name_and_its_last_line),
		T(who_was_killed_from_outside_has_said_nothing_of_it),
		T(an_exception_says_more_than_the_last_line),
		T(who_had_raised_and_did_not_end_is_named_beside_those_that_waited),
		T(who_lost_a_peer_too_is_not_named),
		T(ends_on_one_host_are_told_apart_by_its_own_clock),
		T(an_end_that_its_shim_saw_late_may_have_been_the_first),
		T(that_an_end_was_seen_late_survives_the_coordinator),
		T(an_end_that_its_shim_saw_somewhat_late_was_not_the_first),
		T(of_ends_in_doubt_the_one_unlike_the_others_is_named),
		T(of_ends_in_doubt_the_one_with_a_cause_is_named),
		T(an_end_unlike_the_others_that_came_later_is_not_named),
		T(a_time_that_cannot_be_is_not_believed),
		T(a_first_cause_that_was_told_as_settled_stays),
		T(the_order_survives_the_coordinator),
		T(the_order_survives_a_wall_clock_that_is_set_while_the_coordinator_is_away),
		T(what_a_set_wall_clock_says_after_a_reboot_is_not_believed),
		T(what_its_node_measures_counts_more_than_the_wall_clock_of_before_a_reboot),
		T(a_host_that_comes_back_rebooted_may_have_been_the_first),
		T(a_host_that_spoke_after_the_first_end_was_rebooted_later),
		T(what_a_host_says_since_it_has_missed_the_job_does_not_tell_when),
		T(a_rank_lost_with_its_host_ended_after_those_it_told_of),
		T(what_its_host_knows_of_the_end_is_said),
		T(what_happened_near_the_end_is_put_beside_it),
		T(a_saved_job_is_told_nothing_more),
		T(what_was_before_the_start_is_no_evidence),
		T(nothing_happened_after_it_was_heard_of),
		T(an_OOM_kill_in_a_strangers_cgroup_is_no_cause),
		T(an_OOM_kill_in_a_strangers_cgroup_is_no_cause_of_a_SIGKILL),
		T(a_host_without_memory_is_no_cause_of_an_exit_code),
		T(a_host_without_memory_is_said_where_somebody_has_killed_the_rank),
		T(the_OOM_killer_has_ended_the_rank_itself),
		T(what_happened_is_cut_to_what_has_room),
	};

	return cmocka_run_group_tests_name("coord_cause", tests, NULL, NULL);
}
