/* test_shim_below.c - what a shim tells of ranks below a launcher, as traces */
#include "shim_play.h"

static const char *below(struct play *p, enum shim_event_type type, int status, const struct shim_below *b)
{
	struct shim_rank_event re = { .local = 0, .status = status, .below = b };

	return feed(p, (struct shim_event){ .type = type, .ranks = &re, .n_ranks = 1, .gone = true });
}

static void workers_are_told_at_once_and_to_every_new_agent(void **state)
{
	struct rec_worker v[2] = { { .rank = 16, .state = "running" }, { .rank = 17, .state = "running" } };
	struct shim_below b = { .workers = v, .n_workers = 2, .found = 2, .alive = 2 };
	struct play p;

	to_running(&p, 1);
	T(below(&p, SEV_WORKERS, 0, &b), " send ranks{ 8:running[2/2 16:running 17:running]};");
	v[0].state = "killed";
	v[0].sig = 9;
	b.alive = 1;
	T(below(&p, SEV_WORKERS, 0, &b), " send ranks{ 8:running[1/2 16:killed 17:running]};");
	T(on(&p, SEV_AGENT_UP), " send shim_hello{running 8:running[1/2 16:killed 17:running] at 10.0.0.1:20000};");
	T(below(&p, SEV_REAPED, EXIT(1), NULL), " send ranks{ 8:exited=1[1/2 16:killed 17:running]};");
	play_finish(&p);
}

static void a_launchers_end_counts_from_its_first_workers(void **state)
{
	struct rec_worker w = { .rank = 16, .state = "exited", .code = 3, .end_us = 1700000001000000 };
	struct shim_below b = { .workers = &w, .n_workers = 1, .found = 1, .exception = "ValueError: x" };
	struct play p;

	w.has = MSG_BIT(worker, code);
	to_running(&p, 1);
	p.now = mono_add_ms(p.now, 9000);
	T(end(&p, 60000), " signal TERM;");
	T(below(&p, SEV_REAPED, EXIT(1), &b), " send ranks{ 8:exited=1!ValueError: x[0/1 16:exited]};"); /* not ours */
	closed(&p, 0, 2);
	play_finish(&p);

	to_running(&p, 1);
	w.ours = true; /* it ended after our signal: so did the launcher */
	end(&p, 60000);
	T(below(&p, SEV_REAPED, EXIT(1), &b), " send ranks{ 8:exited=1/ours[0/1 16:exited]};");
	play_finish(&p);

	to_running(&p, 1);
	end(&p, 60000);
	b.spoken = "KeyError: y"; /* before our signal, and it did not end */
	T(below(&p, SEV_REAPED, EXIT(1), &b), " send ranks{ 8:exited=1/ours!KeyError: y[0/1 16:exited]};");
	b.spoken = NULL;
	play_finish(&p);

	to_running(&p, 1);
	w.ours = false;
	T(below(&p, SEV_REAPED, EXIT(0), &b), " send ranks{ 8:exited=0[0/1 16:exited]};");
	play_finish(&p);
}

static void its_time_is_the_workers(void **state)
{
	struct rec_worker w = { .rank = 16, .state = "unknown", .end_us = 1700000001000999, .end_mono_us = 1000999 };
	struct shim_below b = { .workers = &w, .n_workers = 1, .found = 1 };
	struct shim_rank_event re = { .local = 0, .status = EXIT(1), .below = &b, .ended = { 9000000000 },
				      .end_us = 1700000009000000 };
	struct shim_event ev = { .type = SEV_REAPED, .ranks = &re, .n_ranks = 1, .wall_ms = 1700000009000 };
	struct shim_actions acts;
	struct play p;
	struct msg m;

	to_running(&p, 1);
	shim_actions_init(&acts);
	shim_step(p.s, &ev, &acts);
	assert_int_equal(msg_decode(acts.v[0].text, acts.v[0].len, &m, NULL), 0);
	assert_int_equal(m.u.ranks.ranks[0].end_wall_ms, 1700000001000);
	assert_int_equal(m.u.ranks.ranks[0].end_us, 1700000001000999);
	assert_int_equal(m.u.ranks.ranks[0].end_mono_us, 1000999);
	msg_finish(&m);
	shim_actions_finish(&acts);
	play_finish(&p);
}

static void what_comes_late_is_told_until_the_end_is(void **state)
{
	struct shim_below b = { .exception = "ValueError: late" };
	struct play p;

	to_running(&p, 1);
	T(below(&p, SEV_REAPED, EXIT(1), NULL), " send ranks{ 8:exited=1};");
	T(below(&p, SEV_WORKERS, 0, &b), " send ranks{ 8:exited=1!ValueError: late};");
	T(closed(&p, 0, 2), " send shim_ended{ 8:exited=1!ValueError: late};");
	b.exception = "too late";
	T(below(&p, SEV_WORKERS, 0, &b), "");
	play_finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(workers_are_told_at_once_and_to_every_new_agent),
		cmocka_unit_test(a_launchers_end_counts_from_its_first_workers),
		cmocka_unit_test(its_time_is_the_workers),
		cmocka_unit_test(what_comes_late_is_told_until_the_end_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
