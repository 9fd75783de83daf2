/* test_coord_hang.c - what nodes tell of their ranks' processes, and what the coordinator makes of it */
#include "coord_world.h"

#include "core/coord_internal.h"
#include "core/hang.h"

/* One node, job 1 there and running. */
static uint64_t running_one(struct world *w)
{
	uint64_t l = node_up(w, "gpu01");

	store(w);
	submit_as(w, l, "c1", 1, NULL, 1000);
	store(w);
	prepared(w, l, true);
	ranks(w, l, 0, "running", 0);
	return l;
}

static struct rec_rank_pulse in_state(uint32_t rank, const char *state, uint64_t ms)
{
	struct rec_rank_pulse r = { .rank = rank, .pid = 4000 + rank, .state = state };

	r.has |= MSG_BIT(rank_pulse, pid);
	MSG_SET(&r, rank_pulse, procs, 1);
	if (*state == 'R') {
		MSG_SET(&r, rank_pulse, cpu_permille, 1000);
		return r;
	}
	MSG_SET(&r, rank_pulse, idle_ms, ms);
	if (*state != 'S')
		MSG_SET(&r, rank_pulse, state_ms, ms);
	return r;
}

static void pulse(struct world *w, uint64_t l, struct rec_rank_pulse *v, size_t n, struct rec_train_step *step)
{
	struct msg m;

	msg_init(&m, MSG_pulse);
	m.u.pulse.job = w->job;
	m.u.pulse.attempt = 1;
	m.u.pulse.ranks = v;
	m.u.pulse.n_ranks = n;
	m.u.pulse.step = step;
	m.u.pulse.n_step = step != NULL;
	say(w, l, &m);
}

/* Rank 0 on its GPU, as the probe reads it; rank 1 on another one. */
static void gpus(struct world *w, uint64_t l, uint32_t util0, uint32_t util1, uint32_t mw)
{
	struct rec_source s = { .name = "nvml", .ok = true };
	struct rec_gpu_proc p[2] = { { .pid = 4000 }, { .pid = 4001 } };
	struct rec_gpu g[2] = { { .index = 0, .procs = &p[0], .n_procs = 1 }, { .index = 1, .procs = &p[1], .n_procs = 1 } };
	struct msg m;

	for (int i = 0; i < 2; i++) {
		MSG_SET(&g[i], gpu, util, i == 0 ? util0 : util1);
		MSG_SET(&g[i], gpu, power_mw, mw);
		MSG_SET(&g[i], gpu, power_limit_mw, 400000);
	}
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	m.u.readings.gpus = g;
	m.u.readings.n_gpus = 2;
	say(w, l, &m);
}

/* Time passes, and the node is heard. */
static void heard(struct world *w, uint64_t l, int64_t ms)
{
	struct msg m;

	for (; ms > 0; ms -= 1000) {
		msg_init(&m, MSG_ping);
		m.u.ping.seq = 1;
		say(w, l, &m);
		tick(w, 1000);
	}
	forget_sent(w);
}

/* What is shown of job 1; "" where there is nothing. */
static const struct rec_job_progress *shown(struct world *w, struct msg *m)
{
	static const struct rec_job_progress none = { .phase = "" };
	const struct rec_job_info *j = job_one(w, m);

	return j->n_progress ? &j->progress[0] : &none;
}

static void expect(struct world *w, const char *phase, const char *hang)
{
	struct msg m;
	const struct rec_job_progress *p = shown(w, &m);

	assert_string_equal(p->phase, phase);
	if (hang == NULL)
		assert_null(p->hang);
	else
		assert_non_null(strstr(p->hang != NULL ? p->hang : "", hang));
	msg_finish(&m);
}

static bool story_says(struct world *w, const char *text)
{
	struct msg m;
	const struct rec_job_info *j = job_one(w, &m);
	bool yes = false;

	for (size_t i = 0; i < j->n_story; i++)
		yes = yes || strstr(j->story[i].text, text) != NULL;
	msg_finish(&m);
	return yes;
}

static void a_stopped_rank_is_told_of_and_that_it_goes_on(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v[2] = { in_state(0, "R", 0), in_state(1, "T", 1000) };

	pulse(w, l, v, 2, NULL);
	expect(w, "starting", NULL);
	heard(w, l, 5000);
	v[1] = in_state(1, "T", 6000);
	pulse(w, l, v, 2, NULL);
	expect(w, "starting", NULL);
	heard(w, l, 5000); /* nobody says anything new: it grows older by itself */
	expect(w, "hung", "rank 1 on gpu01 (pid 4001) is stopped (SIGSTOP, state T) for 1");
	assert_true(story_says(w, "hangs: rank 1 on gpu01"));
	assert_non_null(strstr(w->log, "job 1 hangs: rank 1"));
	v[1] = in_state(1, "R", 0);
	pulse(w, l, v, 2, NULL);
	expect(w, "starting", NULL);
	assert_true(story_says(w, "goes on again"));
}

static void an_idle_rank_that_nobody_speaks_of_any_more_is_not_known(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v[2] = { in_state(0, "R", 0), in_state(1, "T", 1000) };

	pulse(w, l, v, 2, NULL);
	v[1].state = "D";
	v[1].idle_ms = v[1].state_ms = 3000;
	pulse(w, l, v, 2, NULL);
	heard(w, l, 19000); /* its shim is stopped, perhaps */
	expect(w, "busy", NULL);
}

static void gpus_that_wait_are_told_from_those_at_work(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v[2] = { in_state(0, "R", 0), in_state(1, "R", 0) };

	for (int i = 0; i < 6; i++) { /* at work */
		gpus(w, l, 100, 100, 380000);
		pulse(w, l, v, 2, NULL);
		heard(w, l, 5000);
	}
	expect(w, "training", NULL);
	for (int i = 0; i < 3; i++) {
		gpus(w, l, 100, 100, 118000);
		pulse(w, l, v, 2, NULL);
		expect(w, "busy", NULL);
		heard(w, l, 5000);
	}
	gpus(w, l, 100, 100, 118000);
	pulse(w, l, v, 2, NULL);
	expect(w, "hung", "all 2 GPUs wait in a kernel for ");
}

static void the_rank_that_rests_while_another_spins_is_named(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v[2] = { in_state(0, "R", 0), in_state(1, "S", 0) };
	struct msg m;

	for (uint64_t ms = 0; ms <= 20000; ms += 5000) {
		expect(w, ms == 0 ? "" : "busy", NULL);
		gpus(w, l, 100, 0, 118000);
		v[1] = in_state(1, "S", ms);
		v[1].wchan = "hrtimer_nanosleep";
		v[1].threads = "40 futex_do_wait, 1 hrtimer_nanosleep";
		pulse(w, l, v, 2, NULL);
		heard(w, l, 5000);
	}
	assert_string_equal(shown(w, &m)->threads, "40 futex_do_wait, 1 hrtimer_nanosleep");
	msg_finish(&m);
	expect(w, "hung", "rank 1 on gpu01 (pid 4001) does nothing: neither CPU nor disk used for 25 s in "
	       "hrtimer_nanosleep, its GPU idle; the GPUs of 1 others wait for it in a kernel");
}

/* An answer of RAS: the two ranks have launched so many all-reduces. */
static void counted(struct world *w, uint64_t l, uint64_t first, uint64_t second)
{
	struct rec_ras_count v[2] = { { .rank = 0, .host = "127.0.0.1", .pid = 4000 }, { .rank = 1, .host = "127.0.0.1", .pid = 4001 } };
	struct rec_ras_state s = { .version = "2.29.2", .counts = v, .n_counts = 2 };
	struct msg m;

	MSG_SET(&v[0], ras_count, all_reduce, first);
	MSG_SET(&v[1], ras_count, all_reduce, second);
	MSG_SET(&s, ras_state, sum, first + second);
	msg_init(&m, MSG_ras);
	m.u.ras.job = w->job;
	m.u.ras.attempt = 1;
	m.u.ras.ras = &s;
	m.u.ras.n_ras = 1;
	say(w, l, &m);
}

/* Rank 0 on gpu01, rank 1 on gpu02; both nodes have the same addresses, as virtual ones: the pid tells. */
static void running_two(struct world *w, uint64_t l[2])
{
	running_pair(w, &l[0], &l[1]);
	for (uint32_t i = 0; i < 2; i++) {
		struct rec_rank_state r = { .rank = i, .state = "running", .pid = 4000 + i };
		struct msg m;

		msg_init(&m, MSG_ranks);
		m.u.ranks.job = w->job;
		m.u.ranks.attempt = 1;
		m.u.ranks.ranks = &r;
		m.u.ranks.n_ranks = 1;
		say(w, l[i], &m);
	}
}

/* Five seconds in which both spin, at this power. */
static void both_spin(struct world *w, const uint64_t l[2], uint32_t mw)
{
	struct rec_rank_pulse v[2] = { in_state(0, "R", 0), in_state(1, "R", 0) };

	for (int i = 0; i < 2; i++) {
		gpus(w, l[i], 100, 100, mw);
		pulse(w, l[i], &v[i], 1, NULL);
	}
	for (int s = 0; s < 5; s++)
		for (int i = 0; i < 2; i++) {
			struct msg m;

			msg_init(&m, MSG_ping);
			m.u.ping.seq = 1;
			say(w, l[i], &m);
			if (i == 1)
				tick(w, 1000);
		}
	forget_sent(w);
}

static void the_rank_that_has_launched_fewer_is_named(void **state)
{
	struct world *w = *state;
	uint64_t l[2];

	running_two(w, l);
	for (int i = 0; i < 4; i++) {
		counted(w, l[0], 216, 215);
		both_spin(w, l, 118000);
	}
	expect(w, "hung", "rank 1 on gpu02 has launched 215 all-reduces, all others 216");
	counted(w, l[0], 217, 217);
	both_spin(w, l, 380000);
	expect(w, "training", NULL); /* it went on */
}

/* An evaluation launches no collectives for minutes, and takes power. */
static void counts_that_stand_still_are_no_hang_where_gpus_take_power(void **state)
{
	struct world *w = *state;
	uint64_t l[2];

	running_two(w, l);
	for (int i = 0; i < 20; i++) {
		struct msg m;

		counted(w, l[0], 216, 215);
		both_spin(w, l, 380000);
		assert_null(shown(w, &m)->hang);
		msg_finish(&m);
	}
	expect(w, "training", NULL);
}

/* What the probe reads of one node: its GPU, and one port that has carried so much. */
static void gpu_and_port(struct world *w, uint64_t l, uint32_t mw, uint64_t bytes)
{
	struct rec_source s[2] = { { .name = "nvml", .ok = true }, { .name = "verbs", .ok = true } };
	struct rec_gpu_proc p[2] = { { .pid = 4000 }, { .pid = 4001 } };
	struct rec_gpu g = { .index = 0, .procs = p, .n_procs = 2 };
	struct rec_port port = { .device = "mlx5_0", .port = 1, .state = "Active" };
	struct msg m;

	MSG_SET(&g, gpu, util, 100);
	MSG_SET(&g, gpu, power_mw, mw);
	MSG_SET(&g, gpu, power_limit_mw, 400000);
	MSG_SET(&port, port, rx_bytes, bytes);
	MSG_SET(&port, port, tx_bytes, 1000);
	msg_init(&m, MSG_readings);
	m.u.readings.sources = s;
	m.u.readings.n_sources = 2;
	m.u.readings.gpus = &g;
	m.u.readings.n_gpus = 1;
	m.u.readings.ports = &port;
	m.u.readings.n_ports = 1;
	say(w, l, &m);
}

/* Five seconds in which both spin, and gpu01's port carries so many bytes a second. */
static void spin_and_send(struct world *w, const uint64_t l[2], uint64_t *at, uint64_t bps)
{
	struct rec_rank_pulse v[2] = { in_state(0, "R", 0), in_state(1, "R", 0) };

	*at += 5 * bps;
	gpu_and_port(w, l[0], 118000, *at);
	gpu_and_port(w, l[1], 118000, 77);
	for (int i = 0; i < 2; i++)
		pulse(w, l[i], &v[i], 1, NULL);
	for (int s = 0; s < 5; s++) {
		struct msg m;

		msg_init(&m, MSG_ping);
		m.u.ping.seq = 1;
		say(w, l[0], &m);
		say(w, l[1], &m);
		tick(w, 1000);
	}
	forget_sent(w);
}

static void bytes_on_the_ports_hold_it_off_and_not_for_ever(void **state)
{
	struct world *w = *state;
	uint64_t l[2], at = 1 << 20;

	running_two(w, l);
	spin_and_send(w, l, &at, 0);
	for (int i = 0; i < 10; i++) {
		spin_and_send(w, l, &at, 5000000);
		expect(w, "busy", NULL);
	}
	spin_and_send(w, l, &at, 5000000);
	spin_and_send(w, l, &at, 5000000);
	expect(w, "hung", "; bytes move on the ports of its nodes, for storage or another job perhaps");
}

static void flat_ports_are_told_with_it(void **state)
{
	struct world *w = *state;
	uint64_t l[2], at = 1 << 20;

	running_two(w, l);
	for (int i = 0; i < 5; i++)
		spin_and_send(w, l, &at, 2000); /* keep-alives */
	expect(w, "hung", "all 2 GPUs wait in a kernel for 2");
	expect(w, "hung", "; no bytes on the ports of its nodes for 2");
}

/* A small model at little power, whose steps come: as long as they do. */
static void steps_that_come_hold_the_rule_of_power_off(void **state)
{
	struct world *w = *state;
	uint64_t l[2];

	running_two(w, l);
	for (uint64_t i = 0; i < 12; i++) {
		struct rec_train_step s = { .step = 1 + i };
		struct rec_rank_pulse v = in_state(0, "R", 0);

		MSG_SET(&s, train_step, age_ms, 0);
		pulse(w, l[0], &v, 1, &s);
		both_spin(w, l, 118000);
		expect(w, "training", NULL);
	}
	both_spin(w, l, 118000);
	both_spin(w, l, 118000);
	expect(w, "hung", "all 2 GPUs wait in a kernel for ");
}

static void a_sync_is_no_hang_while_its_host_writes_back(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v[2] = { in_state(0, "D", 600000), in_state(1, "R", 0) };

	v[0].wchan = "folio_wait_writeback";
	MSG_SET(&v[0], rank_pulse, flushes, true);
	pulse(w, l, v, 2, NULL);
	expect(w, "checkpointing", NULL);
	v[0].flushes = false;
	pulse(w, l, v, 2, NULL);
	expect(w, "hung", "state D for 10 min in folio_wait_writeback, and no byte moves");
}

static void a_tokenising_rank_is_no_hang_however_long(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v[2] = { in_state(0, "R", 0), in_state(1, "R", 0) };

	MSG_SET(&v[0], rank_pulse, cpu_permille, 97000);
	for (int i = 0; i < 60; i++) {
		gpus(w, l, 0, 100, 118000);
		pulse(w, l, v, 2, NULL);
		expect(w, "tokenising", NULL);
		heard(w, l, 5000);
	}
}

static void steps_are_shown_and_a_lower_one_of_another_node_is_not(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v = in_state(0, "R", 0);
	struct rec_train_step s = { .step = 340, .loss = "1.31", .source = "tqdm" };
	const struct rec_job_progress *p;
	struct msg m;

	MSG_SET(&s, train_step, steps, 1200);
	MSG_SET(&s, train_step, left_s, 9438);
	MSG_SET(&s, train_step, age_ms, 1000);
	pulse(w, l, &v, 1, &s);
	s.step = 12;
	pulse(w, l, &v, 1, &s);
	tick(w, 2000);
	p = shown(w, &m);
	assert_int_equal(p->n_step, 1);
	assert_true(p->step[0].step == 340 && p->step[0].steps == 1200 && p->step[0].left_s == 9438);
	assert_int_equal(p->step[0].age_ms, 3000);
	assert_string_equal(p->step[0].loss, "1.31");
	assert_string_equal(p->phase, "training");
	msg_finish(&m);
}

static void what_is_of_another_attempt_or_after_the_end_does_not_count(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v = in_state(0, "T", 60000);
	struct msg m;

	msg_init(&m, MSG_pulse);
	m.u.pulse.job = 1;
	m.u.pulse.attempt = 2;
	m.u.pulse.ranks = &v;
	m.u.pulse.n_ranks = 1;
	say(w, l, &m);
	m.u.pulse.job = 77;
	say(w, l, &m);
	expect(w, "", NULL);
	pulse(w, l, &v, 1, NULL);
	expect(w, "hung", "is stopped");
	ranks(w, l, 0, "exited", 3);
	store(w);
	ended(w, l, 0, "exited", 3, false);
	store(w);
	expect(w, "", NULL);
	pulse(w, l, &v, 1, NULL);
	expect(w, "", NULL);
}

static void times_that_nobody_can_mean_do_no_harm(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v = in_state(0, "T", UINT64_MAX);
	struct rec_train_step s = { .step = UINT64_MAX };

	MSG_SET(&s, train_step, age_ms, UINT64_MAX);
	MSG_SET(&s, train_step, left_s, UINT64_MAX);
	pulse(w, l, &v, 1, &s);
	heard(w, l, 60000);
	expect(w, "hung", "is stopped"); /* not told again: not known, and it did not go on, either */
}

static size_t times_told(struct world *w, const char *text)
{
	struct msg m;
	const struct rec_job_info *j = job_one(w, &m);
	size_t n = 0;

	for (size_t i = 0; i < j->n_story; i++)
		n += strncmp(j->story[i].text, text, strlen(text)) == 0;
	msg_finish(&m);
	return n;
}

static void a_hang_is_told_once_over_a_restart(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v = in_state(0, "T", 60000);

	pulse(w, l, &v, 1, NULL);
	expect(w, "hung", "is stopped");
	heard(w, l, 3000); /* it is written with the story */
	store(w);
	restart(w);
	l = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	expect(w, "", NULL); /* nobody has told of it yet: it did not go on, either */
	pulse(w, l, &v, 1, NULL);
	expect(w, "hung", "is stopped");
	assert_int_equal(times_told(w, "hangs: "), 1);
	assert_int_equal(times_told(w, "goes on again"), 0);
	v = in_state(0, "R", 0);
	pulse(w, l, &v, 1, NULL);
	assert_int_equal(times_told(w, "goes on again"), 1);
}

/* A verdict that takes a while to come again: nobody has seen the job go on meanwhile. */
static void a_hang_of_spinning_gpus_is_told_once_over_a_restart(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v[2] = { in_state(0, "R", 0), in_state(1, "R", 0) };

	for (int life = 0; life < 2; life++) {
		for (int i = 0; i < 8; i++) {
			gpus(w, l, 100, 100, 118000);
			pulse(w, l, v, 2, NULL);
			heard(w, l, 5000);
		}
		expect(w, "hung", "all 2 GPUs wait in a kernel for ");
		store(w);
		if (life == 0) {
			restart(w);
			l = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
		}
	}
	assert_int_equal(times_told(w, "hangs: "), 1);
	assert_int_equal(times_told(w, "goes on again"), 0);
	gpus(w, l, 100, 100, 380000);
	pulse(w, l, v, 2, NULL);
	assert_int_equal(times_told(w, "goes on again"), 1);
}

static void one_whose_node_is_not_heard_goes_on_hanging(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct rec_rank_pulse v = in_state(0, "T", 60000);

	pulse(w, l, &v, 1, NULL);
	tick(w, 10000);
	forget_sent(w);
	expect(w, "hung", "is stopped");
	assert_int_equal(times_told(w, "goes on again"), 0);
}

/* Job 1 of li with this wish for hangs, running. */
static uint64_t running_with(struct world *w, const char *on_hang, uint32_t restarts)
{
	uint64_t l = node_up(w, "gpu01");
	struct msg m;

	store(w);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = "c1";
	m.u.submit.command = "train";
	m.u.submit.nnodes = 1;
	m.u.submit.spec_hash = (struct bytes){ (const uint8_t *)"0123456789abcdef0123456789abcdef", 32 };
	m.u.submit.spec_size = 10;
	m.u.submit.on_hang = on_hang;
	m.u.submit.hang_stacks = w->ours; /* where nothing has died it has no other use */
	m.u.submit.max_restarts = restarts;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	say(w, l, &m);
	store(w);
	if (was_told(w, l, MSG_refused))
		return l;
	prepared(w, l, true);
	store(w);
	ranks(w, l, 0, "running", 0);
	return l;
}

static void hangs_for(struct world *w, uint64_t l, int seconds)
{
	struct rec_rank_pulse v = in_state(0, "T", 10000);

	for (int s = 0; s <= seconds; s += 5) {
		MSG_SET(&v, rank_pulse, idle_ms, 10000 + 1000 * (uint64_t)s);
		MSG_SET(&v, rank_pulse, state_ms, 10000 + 1000 * (uint64_t)s);
		pulse(w, l, &v, 1, NULL);
		if (s < seconds)
			heard(w, l, 5000);
	}
}

static void expect_job(struct world *w, const char *state, const char *story)
{
	struct msg m;
	const struct rec_job_info *j = job_one(w, &m);

	assert_string_equal(j->state, state);
	msg_finish(&m);
	if (story != NULL)
		assert_true(story_says(w, story));
}

static void a_job_that_is_to_be_ended_when_it_hangs_is_after_half_a_minute(void **state)
{
	struct world *w = *state;
	uint64_t l = running_with(w, "kill", 0);

	hangs_for(w, l, 25);
	expect_job(w, "running", "hangs: rank 0");
	hangs_for(w, l, 5);
	store(w);
	expect_job(w, "ending", "it hung, and --on-hang kill was asked for: rank 0 on gpu01 (pid 4000) is stopped");
	assert_true(was_told(w, l, MSG_end));
	ended(w, l, 0, "killed", 15, true);
	store(w);
	expect_job(w, "failed", NULL);
}

/* Which rank hangs, and in what, is for its owner. */
static void others_are_told_that_a_job_hangs_and_no_more(void **state)
{
	struct world *w = *state;
	uint64_t l = running_with(w, NULL, 0);
	const struct rec_job_progress *p;
	struct msg m;

	hangs_for(w, l, 5);
	for (uint32_t uid = 1000; uid < 1002; uid++) {
		msg_init(&m, MSG_status_get);
		m.u.status_get.rid = 9;
		MSG_SET(&m.u.status_get, status_get, uid, uid);
		say(w, l, &m);
		assert_true(last_to(w, l, MSG_status, &m));
		assert_int_equal(m.u.status.n_jobs, 1);
		assert_int_equal(m.u.status.jobs->n_progress, 1);
		p = m.u.status.jobs->progress;
		assert_string_equal(p->phase, "hung");
		assert_int_equal(strstr(p->hang, "rank 0 on gpu01") != NULL, uid == 1000);
		assert_int_equal(MSG_HAS(p, job_progress, hang_rank), uid == 1000);
		assert_int_equal(p->fix != NULL, uid == 1000);
		msg_finish(&m);
	}
}

/* It is shown as this, with the rank that was behind. */
static void expect_past(struct world *w, const char *text, bool over)
{
	struct msg m;
	const struct rec_job_info *j = job_one(w, &m);

	assert_int_equal(j->n_past_hang, 1);
	assert_non_null(strstr(j->past_hang->text, text));
	assert_int_equal(MSG_HAS(j->past_hang, past_hang, over_wall_ms), over);
	assert_true(MSG_HAS(j->past_hang, past_hang, rank));
	assert_int_equal(j->past_hang->rank, 0);
	assert_string_equal(j->past_hang->node, "gpu01");
	assert_int_equal(j->past_hang->attempt, 1);
	msg_finish(&m);
}

static void what_was_known_of_a_hang_stays_when_the_job_was_killed(void **state)
{
	struct world *w = *state;
	uint64_t l = running_with(w, NULL, 0);
	const struct rec_job_progress *p;
	struct msg m;

	hangs_for(w, l, 40);
	p = shown(w, &m);
	assert_true(MSG_HAS(p, job_progress, hang_rank) && p->hang_rank == 0);
	msg_finish(&m);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, l, &m);
	store(w);
	expect_job(w, "ending", NULL);
	expect_past(w, "rank 0 on gpu01 (pid 4000) is stopped (SIGSTOP, state T) for 50", false);
	ended(w, l, 0, "killed", 15, true);
	store(w);
	expect_job(w, "failed", NULL);
	expect_past(w, "is stopped (SIGSTOP, state T) for 50", false);
	restart(w);
	expect_past(w, "is stopped (SIGSTOP, state T) for 50", false);
}

static void who_was_behind_in_the_end_is_kept_with_its_node(void **state)
{
	struct world *w = *state;
	struct rec_rank_pulse v[2] = { in_state(0, "T", 10000), in_state(1, "T", 10000) };
	const struct rec_job_info *j;
	uint64_t l[2];
	struct msg m;

	running_two(w, l);
	for (int i = 0; i < 2; i++)
		pulse(w, l[i], &v[i], 1, NULL);
	heard(w, l[0], 2000);
	v[0] = in_state(0, "R", 0);
	for (int i = 0; i < 2; i++)
		pulse(w, l[i], &v[i], 1, NULL);
	heard(w, l[1], 2000);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, l[0], &m);
	store(w);
	j = job_one(w, &m);
	assert_int_equal(j->n_past_hang, 1);
	assert_non_null(strstr(j->past_hang->text, "rank 1 on gpu02 (pid 4001) is stopped"));
	assert_int_equal(j->past_hang->rank, 1);
	assert_string_equal(j->past_hang->node, "gpu02");
	msg_finish(&m);
}

static void a_hang_that_is_over_stays_too_also_over_a_restart(void **state)
{
	struct world *w = *state;
	uint64_t l = running_with(w, NULL, 0);
	struct rec_rank_pulse v = in_state(0, "R", 0);

	hangs_for(w, l, 0);
	heard(w, l, 3000);
	store(w);
	restart(w); /* while it hangs */
	expect_past(w, "rank 0 on gpu01 (pid 4000) is stopped", false);
	l = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	pulse(w, l, &v, 1, NULL);
	expect_past(w, "rank 0 on gpu01 (pid 4000) is stopped", true);
}

static void stacks_are_asked_for_once_when_a_hang_is_told(void **state)
{
	struct world *w = *state;
	struct rec_stacks *s;
	struct msg m;
	uint64_t l;

	w->ours = true;
	l = running_with(w, NULL, 0);
	w->ours = false;
	hangs_for(w, l, 0);
	assert_true(was_told(w, l, MSG_stacks_get));
	assert_int_equal(times_told(w, "the stacks of its ranks on 1 node go to their standard error"), 1);
	forget_sent(w);
	hangs_for(w, l, 40);
	assert_false(was_told(w, l, MSG_stacks_get));
	expect_job(w, "running", NULL);
	msg_init(&m, MSG_stacks);
	s = &m.u.stacks;
	s->job = 1;
	s->attempt = 1;
	s->ranks = 1;
	say(w, l, &m);
	assert_int_equal(times_told(w, "stacks: "), 0);
	s->text = "no rank runs here";
	say(w, l, &m);
	s->attempt = 2;
	say(w, l, &m);
	assert_int_equal(times_told(w, "stacks: no rank runs here"), 1);
	{
		const struct rec_job_info *j = job_one(w, &m);

		assert_true(j->hang_stacks);
	}
	msg_finish(&m);
}

static void without_a_wish_no_stacks_are_asked_for(void **state)
{
	struct world *w = *state;
	uint64_t l = running_with(w, "kill", 0);

	hangs_for(w, l, 0);
	assert_false(was_told(w, l, MSG_stacks_get));
}

static void or_started_again(void **state)
{
	struct world *w = *state;
	uint64_t l = running_with(w, "restart", 2);

	hangs_for(w, l, 30);
	store(w);
	expect_job(w, "ending", "it hung, and --on-hang restart was asked for");
	ended(w, l, 0, "killed", 15, true);
	store(w);
	heard(w, l, 1000);
	expect_job(w, "preparing", "attempt 2"); /* no node is to blame */
}

static void a_wish_that_nobody_knows_is_refused(void **state)
{
	struct world *w = *state;
	uint64_t l = running_with(w, "dance", 0);
	struct msg m;

	assert_true(last_to(w, l, MSG_refused, &m));
	assert_string_equal(m.u.refused.code, "bad-request");
	msg_finish(&m);
}

static void one_that_goes_on_in_time_is_left_alone(void **state)
{
	struct world *w = *state;
	uint64_t l = running_with(w, "kill", 0);
	struct rec_rank_pulse v = in_state(0, "R", 0);

	hangs_for(w, l, 25);
	pulse(w, l, &v, 1, NULL);
	heard(w, l, 20000);
	pulse(w, l, &v, 1, NULL);
	expect_job(w, "running", "goes on again");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_stopped_rank_is_told_of_and_that_it_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(an_idle_rank_that_nobody_speaks_of_any_more_is_not_known, setup, teardown),
		cmocka_unit_test_setup_teardown(gpus_that_wait_are_told_from_those_at_work, setup, teardown),
		cmocka_unit_test_setup_teardown(the_rank_that_rests_while_another_spins_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(the_rank_that_has_launched_fewer_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(counts_that_stand_still_are_no_hang_where_gpus_take_power, setup, teardown),
		cmocka_unit_test_setup_teardown(bytes_on_the_ports_hold_it_off_and_not_for_ever, setup, teardown),
		cmocka_unit_test_setup_teardown(flat_ports_are_told_with_it, setup, teardown),
		cmocka_unit_test_setup_teardown(steps_that_come_hold_the_rule_of_power_off, setup, teardown),
		cmocka_unit_test_setup_teardown(a_sync_is_no_hang_while_its_host_writes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tokenising_rank_is_no_hang_however_long, setup, teardown),
		cmocka_unit_test_setup_teardown(steps_are_shown_and_a_lower_one_of_another_node_is_not, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_of_another_attempt_or_after_the_end_does_not_count, setup, teardown),
		cmocka_unit_test_setup_teardown(times_that_nobody_can_mean_do_no_harm, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hang_is_told_once_over_a_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hang_of_spinning_gpus_is_told_once_over_a_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(one_whose_node_is_not_heard_goes_on_hanging, setup, teardown),
		cmocka_unit_test_setup_teardown(others_are_told_that_a_job_hangs_and_no_more, setup, teardown),
		cmocka_unit_test_setup_teardown(a_job_that_is_to_be_ended_when_it_hangs_is_after_half_a_minute, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_known_of_a_hang_stays_when_the_job_was_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(who_was_behind_in_the_end_is_kept_with_its_node, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hang_that_is_over_stays_too_also_over_a_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(stacks_are_asked_for_once_when_a_hang_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(without_a_wish_no_stacks_are_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(or_started_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_wish_that_nobody_knows_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_goes_on_in_time_is_left_alone, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
