/* test_shim_lease.c - a shim whose lease passes or is renewed, as traces */
#include "shim_play.h"

static const char *go_with_lease(struct play *p, int64_t until)
{
	struct msg m;

	msg_init(&m, MSG_shim_go);
	m.u.shim_go.master_addr = "10.0.0.1";
	m.u.shim_go.master_port = 20000;
	MSG_SET(&m.u.shim_go, shim_go, lease_boot_ms, until);
	return say(p, &m);
}

static const char *renew(struct play *p, int64_t until)
{
	struct msg m;

	msg_init(&m, MSG_shim_lease);
	m.u.shim_lease.until_boot_ms = until;
	return say(p, &m);
}

static void to_leased(struct play *p, int64_t until)
{
	play_init(p, 1);
	on(p, SEV_AGENT_UP);
	setup(p, 1);
	on(p, SEV_CHECKED);
	T(go_with_lease(p, until), " guard; start;");
	T(started(p, 1), " send ranks{ 8:running};");
}

static void the_ranks_are_ended_when_the_lease_has_passed(void **state)
{
	struct play p;

	to_leased(&p, BOOTED + 10000);
	T(on(&p, SEV_AGENT_DOWN), "");
	T(deadline(&p, 10000), " signal TERM;");
	T(deadline(&p, GRACE), " guard; signal KILL;");
	T(closed(&p, 0, 2), "");
	T(reaped(&p, 0, SIGKILL, true), " guard; write shim_ended{ 8:killed=9/ours 'its lease passed: the coordinator was not "
					"heard, and the job may be started elsewhere'};");
	play_finish(&p);
}

/* Its agent keeps the lease as well, and was first. It may be started anew before it can tell. */
static void whose_agent_ends_it_for_its_lease_says_so(void **state)
{
	struct play p;

	to_leased(&p, BOOTED + 10000);
	p.now = mono_add_ms(p.now, 10000);
	T(end(&p, GRACE), " signal TERM;");
	T(on(&p, SEV_AGENT_DOWN), "");
	T(closed(&p, 0, 2), "");
	T(reaped(&p, 0, SIGTERM, true), " guard; write shim_ended{ 8:killed=15/ours 'its lease passed: the coordinator was not "
					"heard, and the job may be started elsewhere'};");
	play_finish(&p);
	to_leased(&p, BOOTED + 10000);
	p.now = mono_add_ms(p.now, 9000); /* somebody has asked for its end */
	T(end(&p, GRACE), " signal TERM;");
	T(on(&p, SEV_AGENT_DOWN), "");
	T(closed(&p, 0, 2), "");
	p.now = mono_add_ms(p.now, 2000);
	T(reaped(&p, 0, SIGTERM, true), " guard; write shim_ended{ 8:killed=15/ours};");
	play_finish(&p);
}

static void a_lease_is_renewed_by_moments_not_by_messages(void **state)
{
	struct play p;

	to_leased(&p, BOOTED + 10000);
	p.now = mono_add_ms(p.now, 4000);
	T(renew(&p, BOOTED + 14000), " guard;");
	T(renew(&p, BOOTED + 12000), ""); /* an older one, that was on its way for long */
	p.now = mono_add_ms(p.now, 9999);
	T(on(&p, SEV_DEADLINE), "");
	T(deadline(&p, 1), " signal TERM;");
	T(renew(&p, BOOTED + 99000), ""); /* too late */
	T(deadline(&p, GRACE), " guard; signal KILL;");
	play_finish(&p);
}

static void an_order_whose_lease_has_passed_starts_nothing(void **state)
{
	struct play p;

	play_init(&p, 1);
	on(&p, SEV_AGENT_UP);
	setup(&p, 1);
	on(&p, SEV_CHECKED);
	T(go_with_lease(&p, BOOTED), " send shim_hello{ready 8:waiting};");
	T(renew(&p, BOOTED + 5000), "");
	assert_int_equal(p.starts, 0);
	play_finish(&p);
}

static void a_shim_whose_ranks_are_gone_needs_no_guard(void **state)
{
	struct play p;

	to_leased(&p, BOOTED + 10000);
	closed(&p, 0, 2);
	T(reaped(&p, 0, EXIT(0), true), " send ranks{ 8:exited=0}; guard; send shim_ended{ 8:exited=0};");
	assert_int_equal(mono_sub_ms(shim_deadline(p.s), p.now), SHIM_WRITE_MS);
	play_finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_ranks_are_ended_when_the_lease_has_passed),
		cmocka_unit_test(whose_agent_ends_it_for_its_lease_says_so),
		cmocka_unit_test(a_lease_is_renewed_by_moments_not_by_messages),
		cmocka_unit_test(an_order_whose_lease_has_passed_starts_nothing),
		cmocka_unit_test(a_shim_whose_ranks_are_gone_needs_no_guard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
