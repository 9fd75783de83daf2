/* test_shim_machine.c - the shim's life as traces */
#include "shim_play.h"
#include "tests/unit/failmalloc.h"

static void a_job_runs_from_setup_to_bye(void **state)
{
	struct play p;

	play_init(&p, 2);
	T(on(&p, SEV_AGENT_UP), " send shim_hello{setup};");
	T(setup(&p, 2), " check;");
	T(on(&p, SEV_CHECKED), " send shim_ready{ok};");
	T(simple(&p, MSG_shim_go), " start;");
	T(started(&p, 2), " send ranks{ 8:running 9:running};");
	assert_true(mono_is_never(shim_deadline(p.s)));
	T(reaped(&p, 1, EXIT(0), false), " send ranks{ 9:exited=0};");
	T(closed(&p, 1, 2), "");
	T(closed(&p, 0, 2), "");
	T(reaped(&p, 0, EXIT(0), true),
	  " send ranks{ 8:exited=0}; send shim_ended{ 8:exited=0 9:exited=0};");
	T(bye_settled(&p), " exit;");
	play_finish(&p);
}

/* Ended, an agent was told. */
static void to_ended(struct play *p)
{
	to_running(p, 1);
	closed(p, 0, 2);
	T(reaped(p, 0, EXIT(5), true), " send ranks{ 8:exited=5}; send shim_ended{ 8:exited=5};");
}

/* An agent that was restarted does not know, and a wall clock may lie. */
static void a_new_agent_is_told_for_how_long_the_ranks_have_run(void **state)
{
	struct play p;

	to_running(&p, 1);
	p.now = mono_add_ms(p.now, 3600000);
	on(&p, SEV_AGENT_DOWN);
	p.now = mono_add_ms(p.now, 1000);
	on(&p, SEV_AGENT_UP);
	assert_int_equal(hello_run_ms, 3601000);
	play_finish(&p);
}

static void the_status_file_is_written_unless_the_end_is_settled(void **state)
{
	struct play p;

	to_ended(&p);
	T(simple(&p, MSG_shim_bye), " write shim_ended{ 8:exited=5};"); /* that agent is leaving itself */
	T(on(&p, SEV_WRITTEN), " exit;");
	play_finish(&p);

	to_ended(&p);
	T(on(&p, SEV_AGENT_DOWN), " write shim_ended{ 8:exited=5};");
	T(on(&p, SEV_WRITTEN), "");
	T(on(&p, SEV_AGENT_UP), " send shim_hello{ended 8:exited=5 at 10.0.0.1:20000}; send shim_ended{ 8:exited=5};");
	T(simple(&p, MSG_shim_bye), " exit;");
	play_finish(&p);

	to_ended(&p);
	T(deadline(&p, SHIM_WRITE_MS), " write shim_ended{ 8:exited=5};");
	T(bye_settled(&p), " exit;"); /* whether it is written or not */
	play_finish(&p);

	to_ended(&p);
	T(on(&p, SEV_TERM), " write shim_ended{ 8:exited=5};");
	T(feed(&p, (struct shim_event){ .type = SEV_WRITTEN, .error = -ENOSPC }),
	  " write shim_ended{ 8:exited=5 'the status file could not be written'};");
	T(feed(&p, (struct shim_event){ .type = SEV_WRITTEN, .error = -ENOSPC }), " exit;");
	play_finish(&p);
}

static void what_nobody_else_knows_is_not_given_up(void **state)
{
	struct play p;

	to_ended(&p);
	on(&p, SEV_AGENT_DOWN);
	for (int i = 0; i < 2; i++)
		feed(&p, (struct shim_event){ .type = SEV_WRITTEN, .error = -ENOSPC });
	for (int64_t ms = 0; ms < 3 * SHIM_BYE_MS; ms += SHIM_REWRITE_MS) {
		p.now = mono_add_ms(p.now, SHIM_REWRITE_MS);
		on(&p, SEV_DEADLINE);
		feed(&p, (struct shim_event){ .type = SEV_WRITTEN, .error = -ENOSPC });
	}
	assert_false(p.exited);
	feed(&p, (struct shim_event){ .type = SEV_WRITTEN, .error = -ENOENT });
	T(on(&p, SEV_AGENT_UP), " send shim_hello{ended 8:exited=5 at 10.0.0.1:20000}; send shim_ended{ 8:exited=5"
				" 'the status file could not be written'};");
	T(bye_settled(&p), " exit;");
	play_finish(&p);
}

static void the_ranks_are_started_once_however_often_go_comes(void **state)
{
	struct play p;

	play_init(&p, 1);
	on(&p, SEV_AGENT_UP);
	T(simple(&p, MSG_shim_go), ""); /* before the check: nothing to start yet */
	setup(&p, 1);
	T(simple(&p, MSG_shim_go), " send ranks{ 8:waiting};");
	on(&p, SEV_CHECKED);
	simple(&p, MSG_shim_go);
	T(simple(&p, MSG_shim_go), " send ranks{ 8:waiting};");
	started(&p, 1);
	T(simple(&p, MSG_shim_go), " send ranks{ 8:running};");
	reaped(&p, 0, EXIT(3), true);
	T(simple(&p, MSG_shim_go), " send ranks{ 8:exited=3};");
	closed(&p, 0, 2);
	on(&p, SEV_WRITTEN);
	T(simple(&p, MSG_shim_go), " send ranks{ 8:exited=3};");
	assert_int_equal(p.starts, 1);
	play_finish(&p);
}

static void a_refused_check_tells_every_new_agent_code_and_sentence(void **state)
{
	struct play p;

	play_init(&p, 1);
	on(&p, SEV_AGENT_UP);
	setup(&p, 1);
	T(feed(&p, (struct shim_event){ .type = SEV_CHECKED, .error = -ENOENT, .code = 127,
					.text = "no such command" }),
	  " send shim_ready{no 127 'no such command'};");
	on(&p, SEV_AGENT_DOWN);
	T(on(&p, SEV_AGENT_UP),
	  " send shim_hello{failed 8:waiting}; send shim_ready{no 127 'no such command'};");
	T(setup(&p, 1), " send shim_ready{no 127 'no such command'};");
	T(simple(&p, MSG_shim_go), " send ranks{ 8:waiting};");
	T(simple(&p, MSG_shim_bye), " exit;");
	assert_int_equal(p.starts, 0);
	play_finish(&p);
}

static void another_number_of_ranks_is_refused(void **state)
{
	struct play p;

	play_init(&p, 2);
	on(&p, SEV_AGENT_UP);
	setup(&p, 3);
	assert_int_equal(shim_phase(p.s), SHIM_FAILED);
	play_finish(&p);
}

static const char *go_until(struct play *p, int64_t until_ms)
{
	struct msg m;

	msg_init(&m, MSG_shim_go);
	m.u.shim_go.master_addr = "10.0.0.1";
	m.u.shim_go.master_port = 20000;
	MSG_SET(&m.u.shim_go, shim_go, until_mono_ms, until_ms);
	return say(p, &m);
}

/* We were stopped, and the order lay in our socket. */
static void an_order_that_comes_late_starts_nothing(void **state)
{
	struct play p;

	play_init(&p, 1);
	on(&p, SEV_AGENT_UP);
	setup(&p, 1);
	on(&p, SEV_CHECKED);
	p.now = mono_add_ms(p.now, 10001);
	T(go_until(&p, 10000), " send shim_hello{ready 8:waiting};");
	assert_false(shim_started(p.s));
	T(go_until(&p, 10001), " start;"); /* to the millisecond */
	T(started(&p, 1), " send ranks{ 8:running};");
	T(go_until(&p, 1), " send ranks{ 8:running};"); /* started already: old or not */
	play_finish(&p);
}

static void an_end_behind_a_late_order_finds_nothing_started(void **state)
{
	struct play p;

	play_init(&p, 1);
	on(&p, SEV_AGENT_UP);
	setup(&p, 1);
	on(&p, SEV_CHECKED);
	p.now = mono_add_ms(p.now, 60000);
	T(go_until(&p, 5000), " send shim_hello{ready 8:waiting};");
	T(end(&p, GRACE), " send shim_ended{ 8:waiting};");
	assert_int_equal(p.starts, 0);
	play_finish(&p);
}

static void an_end_before_go_leaves_the_ranks_waiting(void **state)
{
	struct play p;

	play_init(&p, 2);
	on(&p, SEV_AGENT_UP);
	setup(&p, 2);
	on(&p, SEV_CHECKED);
	T(end(&p, GRACE), " send shim_ended{ 8:waiting 9:waiting};");
	T(simple(&p, MSG_shim_go), " send ranks{ 8:waiting 9:waiting};");
	T(end(&p, GRACE), " send shim_ended{ 8:waiting 9:waiting};");
	assert_int_equal(p.starts, 0);
	play_finish(&p);
}

static void an_end_while_checking_wins_over_the_answer(void **state)
{
	struct play p;

	play_init(&p, 1);
	on(&p, SEV_AGENT_UP);
	setup(&p, 1);
	T(end(&p, 0), " send shim_ended{ 8:waiting};");
	T(on(&p, SEV_CHECKED), "");
	assert_int_equal(shim_phase(p.s), SHIM_ENDED);
	play_finish(&p);
}

static void an_end_is_TERM_at_once_and_KILL_after_the_grace(void **state)
{
	struct play p;

	to_running(&p, 2);
	T(end(&p, GRACE), " signal TERM;");
	T(reaped(&p, 0, SIGTERM, false), " send ranks{ 8:killed=15/ours};");
	T(deadline(&p, GRACE), " signal KILL;");
	T(deadline(&p, SHIM_SWEEP_MS), " signal KILL;"); /* it may be stuck in a driver */
	T(deadline(&p, 2 * SHIM_SWEEP_MS), " signal KILL;");
	closed(&p, 0, 2);
	closed(&p, 1, 2);
	T(reaped(&p, 1, SIGKILL, true),
	  " send ranks{ 9:killed=9/ours}; send shim_ended{ 8:killed=15/ours 9:killed=9/ours};");
	play_finish(&p);
}

static void the_shorter_grace_wins(void **state)
{
	struct play p;

	to_running(&p, 1);
	end(&p, GRACE);
	T(end(&p, 2 * GRACE), "");
	T(end(&p, 100), "");
	T(deadline(&p, 100), " signal KILL;");
	T(end(&p, GRACE), ""); /* being killed: no new grace */
	play_finish(&p);

	to_running(&p, 1);
	T(end(&p, 0), " signal TERM; signal KILL;");
	play_finish(&p);
}

static void only_our_own_signals_count_as_ours(void **state)
{
	struct play p;

	to_running(&p, 5);
	T(reaped(&p, 0, SIGTERM, false), " send ranks{ 8:killed=15};"); /* before we sent any */
	end(&p, GRACE);
	T(reaped(&p, 1, SIGSEGV, false), " send ranks{ 9:killed=11};");
	T(reaped(&p, 2, SIGKILL, false), " send ranks{ 10:killed=9};"); /* the kernel's, not yet ours */
	T(reaped(&p, 3, EXIT(143), false), " send ranks{ 11:exited=143/ours};");
	deadline(&p, GRACE);
	T(reaped(&p, 4, SIGKILL, false), " send ranks{ 12:killed=9/ours};");
	play_finish(&p);
}

static void a_rank_that_fails_does_not_end_the_others(void **state)
{
	struct play p;

	to_running(&p, 3);
	T(reaped(&p, 1, EXIT(1), false), " send ranks{ 9:exited=1};");
	assert_int_equal(shim_phase(p.s), SHIM_RUNNING);
	assert_true(mono_is_never(shim_deadline(p.s)));
	play_finish(&p);
}

static void what_outlives_the_ranks_is_swept_and_counted(void **state)
{
	struct play p;

	to_running(&p, 1);
	closed(&p, 0, 2);
	T(reaped(&p, 0, EXIT(0), false), " send ranks{ 8:exited=0}; sweep TERM;");
	T(deadline(&p, SHIM_LEFTOVER_MS), " sweep KILL;");
	T(deadline(&p, SHIM_SWEEP_MS), " sweep KILL;");
	T(gone(&p, 2), " send shim_ended{ 8:exited=0 '2 processes outlived the ranks and were ended'};");
	play_finish(&p);
}

/* KILL again and again, until the stuck ones are told. */
static void to_stuck(struct play *p)
{
	const char *said = "";
	mono_t begin;

	to_running(p, 1);
	end(p, 0);
	begin = p->now;
	while (strstr(said, "stuck;") == NULL) {
		p->now = shim_deadline(p->s);
		said = on(p, SEV_DEADLINE);
		assert_true(mono_sub_ms(p->now, begin) <= SHIM_STUCK_MS);
	}
	assert_int_equal(mono_sub_ms(p->now, begin), SHIM_STUCK_MS);
}

static void who_outlives_KILL_for_long_is_told_to_each_agent_until_it_is_gone(void **state)
{
	struct play p;

	to_stuck(&p);
	for (int i = 0; i < 60; i++) {
		p.now = shim_deadline(p.s);
		assert_null(strstr(on(&p, SEV_DEADLINE), "stuck;")); /* once */
	}
	T(on(&p, SEV_AGENT_UP), " send shim_hello{ending 8:running at 10.0.0.1:20000}; stuck;");
	T(simple(&p, MSG_shim_bye), ""); /* the job is over for its agent; not for its shim */
	T(on(&p, SEV_AGENT_DOWN), "");
	T(on(&p, SEV_AGENT_UP), " send shim_hello{ending 8:running at 10.0.0.1:20000}; stuck;");
	closed(&p, 0, 2);
	T(reaped(&p, 0, SIGKILL, true), " send ranks{ 8:killed=9/ours}; send shim_ended{ 8:killed=9/ours};");
	T(on(&p, SEV_AGENT_UP), " send shim_hello{ended 8:killed=9/ours at 10.0.0.1:20000}; send shim_ended{ 8:killed=9/ours};");
	T(bye_settled(&p), " exit;");
	play_finish(&p);
}

static void children_of_ended_ranks_keep_the_grace_they_were_given(void **state)
{
	struct play p;

	to_running(&p, 1);
	end(&p, GRACE);
	T(reaped(&p, 0, SIGTERM, false), " send ranks{ 8:killed=15/ours};");
	T(deadline(&p, GRACE), " sweep KILL;");
	play_finish(&p);
}

static void a_pipe_held_from_outside_is_given_up(void **state)
{
	struct play p;

	to_running(&p, 1);
	T(reaped(&p, 0, EXIT(0), true), " send ranks{ 8:exited=0};");
	closed(&p, 0, 1);
	T(deadline(&p, SHIM_DRAIN_MS), " close;");
	T(closed(&p, 0, 1),
	  " send shim_ended{ 8:exited=0 'output was held open by a process outside the job'};");
	play_finish(&p);
}

static void without_an_agent_everything_goes_on(void **state)
{
	struct play p;

	to_running(&p, 2);
	on(&p, SEV_AGENT_DOWN);
	T(reaped(&p, 0, EXIT(7), false), "");
	T(on(&p, SEV_AGENT_UP), " send shim_hello{running 8:exited=7 9:running at 10.0.0.1:20000};");
	on(&p, SEV_AGENT_DOWN);
	closed(&p, 0, 2);
	closed(&p, 1, 2);
	T(reaped(&p, 1, SIGSEGV, true), " write shim_ended{ 8:exited=7 9:killed=11};");
	T(on(&p, SEV_WRITTEN), "");
	T(on(&p, SEV_AGENT_UP), " send shim_hello{ended 8:exited=7 9:killed=11 at 10.0.0.1:20000};"
				" send shim_ended{ 8:exited=7 9:killed=11};");
	T(deadline(&p, SHIM_BYE_MS), " exit;");
	play_finish(&p);
}

static void a_new_agent_replaces_the_old_one(void **state)
{
	struct play p;

	to_running(&p, 1);
	T(on(&p, SEV_AGENT_UP), " send shim_hello{running 8:running at 10.0.0.1:20000};");
	T(reaped(&p, 0, EXIT(0), true), " send ranks{ 8:exited=0};");
	play_finish(&p);
}

static void a_shim_that_nobody_wants_gives_up(void **state)
{
	struct play p;

	play_init(&p, 1);
	T(deadline(&p, SHIM_ABSENT_MS), " write shim_ended{};");
	on(&p, SEV_WRITTEN);
	T(deadline(&p, SHIM_BYE_MS), " exit;");
	play_finish(&p);

	play_init(&p, 1);
	on(&p, SEV_AGENT_UP);
	assert_true(mono_is_never(shim_deadline(p.s)));
	on(&p, SEV_AGENT_DOWN);
	assert_int_equal(mono_sub_ms(shim_deadline(p.s), p.now), SHIM_ABSENT_MS);
	play_finish(&p);
}

static void bye_does_not_abandon_what_runs(void **state)
{
	struct play p;

	to_running(&p, 1);
	T(simple(&p, MSG_shim_bye), "");
	end(&p, GRACE);
	T(simple(&p, MSG_shim_bye), "");
	play_finish(&p);
}

static void SIGTERM_to_the_shim_is_an_end_with_the_jobs_grace(void **state)
{
	struct play p;

	to_running(&p, 1);
	T(on(&p, SEV_TERM), " signal TERM;");
	T(deadline(&p, GRACE), " signal KILL;");
	play_finish(&p);

	play_init(&p, 1);
	T(on(&p, SEV_TERM), " write shim_ended{};");
	T(on(&p, SEV_WRITTEN), " exit;");
	play_finish(&p);
}

static void after_SIGTERM_no_agent_is_waited_for(void **state)
{
	struct play p;

	to_running(&p, 1);
	on(&p, SEV_AGENT_DOWN);
	T(on(&p, SEV_TERM), " signal TERM;");
	closed(&p, 0, 2);
	T(reaped(&p, 0, SIGTERM, true), " write shim_ended{ 8:killed=15/ours};");
	T(on(&p, SEV_WRITTEN), " exit;");
	play_finish(&p);

	/* one that is there is told first, and is not left before it goes */
	to_ended(&p);
	T(deadline(&p, SHIM_WRITE_MS), " write shim_ended{ 8:exited=5};");
	T(on(&p, SEV_WRITTEN), "");
	T(on(&p, SEV_TERM), " exit;");
	play_finish(&p);

	to_running(&p, 1);
	T(on(&p, SEV_TERM), " signal TERM;");
	closed(&p, 0, 2);
	T(reaped(&p, 0, SIGTERM, true), " send ranks{ 8:killed=15/ours}; send shim_ended{ 8:killed=15/ours};");
	T(deadline(&p, SHIM_WRITE_MS), " write shim_ended{ 8:killed=15/ours};");
	T(on(&p, SEV_WRITTEN), "");
	T(on(&p, SEV_AGENT_DOWN), " exit;");
	play_finish(&p);
}

static void ranks_that_could_not_start_are_failed(void **state)
{
	struct shim_rank_event re[2] = { { .local = 0, .error = -ENOEXEC, .code = 126, .text = "x" },
					 { .local = 1, .pid = 55 } };
	struct play p;

	play_init(&p, 2);
	on(&p, SEV_AGENT_UP);
	setup(&p, 2);
	on(&p, SEV_CHECKED);
	simple(&p, MSG_shim_go);
	T(feed(&p, (struct shim_event){ .type = SEV_STARTED, .ranks = re, .n_ranks = 2 }),
	  " send ranks{ 8:failed=126 9:running};");
	re[1] = re[0];
	re[1].local = 1;
	play_finish(&p);

	play_init(&p, 2);
	on(&p, SEV_AGENT_UP);
	setup(&p, 2);
	on(&p, SEV_CHECKED);
	simple(&p, MSG_shim_go);
	T(feed(&p, (struct shim_event){ .type = SEV_STARTED, .ranks = re, .n_ranks = 2, .gone = true }),
	  " send ranks{ 8:failed=126 9:failed=126}; send shim_ended{ 8:failed=126 9:failed=126};");
	play_finish(&p);
}

static void an_end_that_overtakes_the_start_is_kept(void **state)
{
	struct play p;

	play_init(&p, 1);
	on(&p, SEV_AGENT_UP);
	setup(&p, 1);
	on(&p, SEV_CHECKED);
	simple(&p, MSG_shim_go);
	T(end(&p, GRACE), "");
	T(started(&p, 1), " signal TERM; send ranks{ 8:running};");
	T(deadline(&p, GRACE), " signal KILL;");
	play_finish(&p);
}

/* Once: how much it was is told at the end. */
static void the_first_output_that_is_lost_is_told_while_it_runs(void **state)
{
	struct shim_rank_event re = { .local = 0, .lost = 7 };
	struct play p;

	to_running(&p, 1);
	T(feed(&p, (struct shim_event){ .type = SEV_CLOSED, .ranks = &re, .n_ranks = 1 }), " send ranks{ 8:running/lost7};");
	re.lost = 900;
	T(feed(&p, (struct shim_event){ .type = SEV_CLOSED, .ranks = &re, .n_ranks = 1 }), "");
	play_finish(&p);
}

static void a_full_disk_does_not_hide_how_it_ended(void **state)
{
	struct play p;

	to_running(&p, 1);
	closed(&p, 0, 2);
	struct shim_rank_event re = { .local = 0, .status = EXIT(1), .lost = 7,
				      .tail = { (const uint8_t *)"oops", 4 } };
	T(feed(&p, (struct shim_event){ .type = SEV_REAPED, .ranks = &re, .n_ranks = 1, .gone = true }),
	  " send ranks{ 8:exited=1/lost7/\"oops\"};"
	  " send shim_ended{ 8:exited=1/lost7/\"oops\"};");
	T(on(&p, SEV_AGENT_DOWN),
	  " write shim_ended{ 8:exited=1/lost7/\"oops\"};");
	T(feed(&p, (struct shim_event){ .type = SEV_WRITTEN, .error = -ENOSPC }),
	  " write shim_ended{ 8:exited=1/lost7};");
	T(feed(&p, (struct shim_event){ .type = SEV_WRITTEN, .error = -ENOSPC }), "");
	T(deadline(&p, SHIM_REWRITE_MS),
	  " write shim_ended{ 8:exited=1/lost7};");
	T(on(&p, SEV_WRITTEN), "");
	T(deadline(&p, SHIM_BYE_MS - SHIM_REWRITE_MS), " exit;");
	play_finish(&p);
}

static void tails_are_kept_of_the_first_failures_only(void **state)
{
	struct play p;
	struct shim_rank_event re = { .tail = { (const uint8_t *)"why", 3 } };
	unsigned n = 0;

	to_running(&p, 20);
	for (uint32_t i = 0; i < 20; i++) {
		re.local = i;
		re.status = i == 0 ? EXIT(0) : EXIT(1);
		feed(&p, (struct shim_event){ .type = SEV_REAPED, .ranks = &re, .n_ranks = 1 });
	}
	on(&p, SEV_AGENT_UP);
	for (const char *t = buf_str(&p.trace); (t = strstr(t, "\"why\"")); t++)
		n++;
	assert_int_equal(n, SHIM_TAILS);
	assert_null(strstr(buf_str(&p.trace), "8:exited=0/"));
	play_finish(&p);
}

static void unknown_messages_are_ignored(void **state)
{
	struct play p;

	to_running(&p, 1);
	T(simple(&p, MSG_ping), "");
	T(simple(&p, MSG_shim_arm), "");
	on(&p, SEV_AGENT_DOWN);
	T(end(&p, 0), ""); /* of a connection that is gone */
	play_finish(&p);
}

/* feed() without the trace: its own allocations must not be the ones that fail */
static void raw_step(struct play *p, struct shim_event *ev)
{
	struct shim_actions acts;

	ev->now = p->now;
	shim_actions_init(&acts);
	shim_step(p->s, ev, &acts);
	for (size_t i = 0; i < acts.n; i++)
		p->starts += acts.v[i].type == SACT_START;
	shim_actions_finish(&acts);
	shim_check(p->s);
}

static void each_step_of_a_life(struct play *p)
{
	struct msg m[3];
	struct shim_rank_event st[2] = { { .local = 0, .pid = 5 }, { .local = 1, .error = -2, .text = "t" } };
	struct rec_worker w = { .rank = 3, .state = "killed", .exception = "e" };
	struct shim_below b = { .workers = &w, .n_workers = 1, .found = 1, .exception = "e" };
	struct shim_rank_event re = { .local = 0, .status = EXIT(1), .tail = { (uint8_t *)"x", 1 }, .below = &b };
	struct shim_rank_event cl = { .local = 0, .streams = 2 };
	struct shim_event evs[] = {
		{ .type = SEV_AGENT_UP },
		{ .type = SEV_MESSAGE, .msg = &m[0] },
		{ .type = SEV_CHECKED },
		{ .type = SEV_AGENT_UP },
		{ .type = SEV_MESSAGE, .msg = &m[1] },
		{ .type = SEV_STARTED, .ranks = st, .n_ranks = 2 },
		{ .type = SEV_WORKERS, .ranks = &re, .n_ranks = 1 },
		{ .type = SEV_CLOSED, .ranks = &cl, .n_ranks = 1 },
		{ .type = SEV_REAPED, .ranks = &re, .n_ranks = 1, .gone = true },
	};

	msg_init(&m[0], MSG_shim_setup);
	m[0].u.shim_setup = (struct rec_shim_setup){ .nprocs = 2, .node = "n" };
	msg_init(&m[1], MSG_shim_go);
	m[1].u.shim_go.master_addr = "a";
	for (size_t i = 0; i < sizeof evs / sizeof evs[0]; i++) {
		raw_step(p, &evs[i]);
		if (i == 3 && shim_phase(p->s) == SHIM_SETUP)
			return; /* setup was not heard: hung up before it */
		if (evs[i].type == SEV_MESSAGE && evs[i].msg == &m[1] && p->starts == 0)
			return;
	}
}

static void every_allocation_of_a_life_may_fail(void **state)
{
	EACH_FAILING_MALLOC({
		struct play p = { .s = fresh(2) };

		if (p.s) {
			each_step_of_a_life(&p);
			shim_check(p.s);
			assert_true(p.starts <= 1);
		}
		shim_destroy(p.s);
	});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_job_runs_from_setup_to_bye),
		cmocka_unit_test(a_new_agent_is_told_for_how_long_the_ranks_have_run),
		cmocka_unit_test(the_status_file_is_written_unless_the_end_is_settled),
		cmocka_unit_test(what_nobody_else_knows_is_not_given_up),
		cmocka_unit_test(the_ranks_are_started_once_however_often_go_comes),
		cmocka_unit_test(a_refused_check_tells_every_new_agent_code_and_sentence),
		cmocka_unit_test(another_number_of_ranks_is_refused),
		cmocka_unit_test(an_order_that_comes_late_starts_nothing),
		cmocka_unit_test(an_end_behind_a_late_order_finds_nothing_started),
		cmocka_unit_test(an_end_before_go_leaves_the_ranks_waiting),
		cmocka_unit_test(an_end_while_checking_wins_over_the_answer),
		cmocka_unit_test(an_end_is_TERM_at_once_and_KILL_after_the_grace),
		cmocka_unit_test(the_shorter_grace_wins),
		cmocka_unit_test(only_our_own_signals_count_as_ours),
		cmocka_unit_test(a_rank_that_fails_does_not_end_the_others),
		cmocka_unit_test(what_outlives_the_ranks_is_swept_and_counted),
		cmocka_unit_test(who_outlives_KILL_for_long_is_told_to_each_agent_until_it_is_gone),
		cmocka_unit_test(children_of_ended_ranks_keep_the_grace_they_were_given),
		cmocka_unit_test(a_pipe_held_from_outside_is_given_up),
		cmocka_unit_test(without_an_agent_everything_goes_on),
		cmocka_unit_test(a_new_agent_replaces_the_old_one),
		cmocka_unit_test(a_shim_that_nobody_wants_gives_up),
		cmocka_unit_test(bye_does_not_abandon_what_runs),
		cmocka_unit_test(SIGTERM_to_the_shim_is_an_end_with_the_jobs_grace),
		cmocka_unit_test(after_SIGTERM_no_agent_is_waited_for),
		cmocka_unit_test(ranks_that_could_not_start_are_failed),
		cmocka_unit_test(an_end_that_overtakes_the_start_is_kept),
		cmocka_unit_test(the_first_output_that_is_lost_is_told_while_it_runs),
		cmocka_unit_test(a_full_disk_does_not_hide_how_it_ended),
		cmocka_unit_test(tails_are_kept_of_the_first_failures_only),
		cmocka_unit_test(unknown_messages_are_ignored),
		cmocka_unit_test(every_allocation_of_a_life_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
