/* test_probe.c - sources in threads, what becomes of readings on the wire, and slow readers */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe/compose.h"
#include "probe/out.h"
#include "proto/frame.h"
#include "proto/message.h"

#define TEST(name) static void name(void **state)

/* ---- a source of our own -------------------------------------------------- */

static atomic_int polls, opens, closes;
static atomic_bool hang, hangs; /* it is to; it does */

static void *toy_open(const struct hw_options *o)
{
	return opens++ == 0 ? NULL : &polls; /* the first time there is no memory */
}

static void toy_poll(void *source, struct hw_readings *ret)
{
	polls++;
	hw_say(&ret->sources[ret->n_sources++], "toy", true, NULL);
	while (hang) {
		hangs = true;
		usleep(1000);
	}
	hangs = false;
}

static void toy_close(void *source)
{
	closes++;
}

static struct hw_ops toy = { .name = "toy", .period_ms = 20, .open = toy_open, .poll = toy_poll,
			     .close = toy_close };
static const struct hw_ops *const toys[] = { &toy, NULL };

static void take_within(struct sources *s, int ms)
{
	struct pollfd p = { .fd = s->notify_fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, ms), 1);
	assert_true(sources_take(s, hw_now()));
}

TEST(a_source_is_polled_again_and_again)
{
	struct hw_options o = { 0 };
	struct sources s;

	polls = opens = closes = 0; /* no memory at first: it tries again after 2 s */
	assert_int_equal(sources_start(&s, toys, &o, false), 0);
	assert_false(sources_complete(&s));
	take_within(&s, 5000);
	assert_true(sources_complete(&s));
	take_within(&s, 5000);
	assert_true(polls >= 2);
	usleep(300000); /* nobody takes: what was not taken is freed (by LeakSanitizer's word) */
	assert_true(sources_stop(&s));
	assert_int_equal(closes, 1);
}

TEST(a_source_without_a_period_waits_to_be_woken)
{
	struct hw_options o = { 0 };
	struct sources s;

	polls = 0;
	opens = 1;
	toy.period_ms = -1;
	assert_int_equal(sources_start(&s, toys, &o, false), 0);
	take_within(&s, 5000);
	usleep(100000);
	assert_int_equal(polls, 1);
	sources_wake(&s.list[0]);
	take_within(&s, 5000);
	assert_int_equal(polls, 2);
	assert_true(sources_stop(&s));
	toy.period_ms = 20;
}

static int toy_idle(void *source)
{
	return 1500;
}

TEST(a_source_that_can_find_nothing_new_is_left_alone_and_is_not_stuck)
{
	struct hw_options o = { 0 };
	struct sources s;

	polls = 0;
	opens = 1;
	toy.idle_ms = toy_idle;
	assert_int_equal(sources_start(&s, toys, &o, false), 0);
	take_within(&s, 5000);
	usleep(300000); /* 15 periods */
	assert_int_equal(polls, 1);
	sources_take(&s, mono_add_ms(hw_now(), SOURCE_STUCK_MS));
	assert_false(s.list[0].stuck);
	sources_wake(&s.list[0]);
	take_within(&s, 5000);
	assert_int_equal(polls, 2);
	assert_true(sources_stop(&s));
	toy.idle_ms = NULL;
}

TEST(a_source_that_hangs_is_marked_and_does_not_hold_up_the_end)
{
	struct hw_options o = { 0 };
	struct sources *s = calloc(1, sizeof *s); /* left to the thread */
	mono_t begin;

	opens = 1;
	assert_int_equal(sources_start(s, toys, &o, false), 0);
	take_within(s, 5000);
	hang = true;
	usleep(200000);
	sources_take(s, hw_now());
	assert_false(s->list[0].stuck);
	assert_true(sources_take(s, mono_add_ms(hw_now(), SOURCE_STUCK_MS)));
	assert_true(s->list[0].stuck);
	assert_non_null(s->list[0].taken);
	begin = hw_now();
	assert_false(sources_stop(s));
	assert_true(mono_sub_ms(hw_now(), begin) < 6000);
	hang = false; /* for the sanitizer: now it ends, and so may we */
	assert_true(sources_stop(s));
	free(s);
}

/* In the poll that hangs, however loaded the machine is: when that was due. Its polls took usual_ms, or nearly no time. */
static mono_t in_hang(struct sources *s, int64_t usual_ms)
{
	struct source *src = &s->list[0];
	mono_t due;

	hang = true;
	for (int i = 0; i < 20000 && !hangs; i++)
		usleep(1000);
	assert_true(hangs);
	pthread_mutex_lock(&src->lock);
	src->usual_ms = usual_ms;
	due = src->due;
	pthread_mutex_unlock(&src->lock);
	return due;
}

/* ... and what it takes for it: sources_take() as seen so long after that. How long this test takes is nothing to it. */
static void look_at(struct sources *s, mono_t due, int64_t ms, bool late, bool stuck)
{
	sources_take(s, mono_add_ms(due, ms));
	assert_int_equal(s->list[0].late, late);
	assert_int_equal(s->list[0].stuck, stuck);
}

/* At one of many looks: the toy sleeps for a moment only, and may be about to run. */
static void expect_late(struct sources *s, mono_t due, int64_t ms)
{
	for (int i = 0; i < 3000 && !s->list[0].late; i++) {
		sources_take(s, mono_add_ms(due, ms));
		usleep(1700);
	}
	look_at(s, due, ms, true, false);
}

TEST(a_source_that_does_not_answer_is_late_before_it_hangs)
{
	struct hw_options o = { 0 };
	struct sources s;
	mono_t due;

	opens = 1;
	assert_int_equal(sources_start(&s, toys, &o, false), 0);
	take_within(&s, 5000);
	due = in_hang(&s, 1);
	look_at(&s, due, SOURCE_LATE_MS - 1, false, false);
	assert_int_equal(mono_sub_ms(sources_look(&s, due), due), SOURCE_LATE_MS);
	look_at(&s, due, SOURCE_LATE_MS, false, false); /* the process may have been frozen */
	look_at(&s, due, SOURCE_LATE_MS + SOURCE_LOOK_MS - 1, false, false);
	expect_late(&s, due, SOURCE_LATE_MS + SOURCE_LOOK_MS);
	look_at(&s, due, SOURCE_STUCK_MS, false, true);
	hang = false;
	take_within(&s, 5000);
	look_at(&s, due, 0, false, false);
	assert_true(sources_stop(&s));
}

TEST(a_source_that_is_slow_by_habit_is_not_late)
{
	struct hw_options o = { 0 };
	const int64_t usual = 1500, late = SOURCE_LATE_TIMES * usual;
	struct sources s;
	int64_t took = 0;
	mono_t due;

	opens = 1;
	toy.period_ms = -1; /* no other poll in between: it is forgotten with them */
	assert_int_equal(sources_start(&s, toys, &o, false), 0);
	take_within(&s, 5000);
	hang = true;
	sources_wake(&s.list[0]);
	in_hang(&s, 1);
	usleep(1200000); /* so long this one takes, at least */
	hang = false;
	for (int i = 0; i < 20000 && took < 1200; i++) {
		usleep(1000);
		pthread_mutex_lock(&s.list[0].lock);
		took = s.list[0].usual_ms;
		pthread_mutex_unlock(&s.list[0].lock);
	}
	assert_true(took >= 1200);
	hang = true;
	sources_wake(&s.list[0]);
	due = in_hang(&s, usual);
	look_at(&s, due, late - 1, false, false);
	look_at(&s, due, late, false, false);
	look_at(&s, due, late + SOURCE_LOOK_MS - 1, false, false);
	expect_late(&s, due, late + SOURCE_LOOK_MS);
	hang = false;
	assert_true(sources_stop(&s));
	toy.period_ms = 20;
}

static atomic_bool spin;

static void toy_spin(void *source, struct hw_readings *ret)
{
	hw_say(&ret->sources[ret->n_sources++], "toy", true, NULL);
	while (spin)
		;
}

/* However loaded the machine is. */
static void used_cpu(const struct source *src, int64_t ms)
{
	struct timespec t;
	clockid_t clock;

	assert_int_equal(pthread_getcpuclockid(src->thread, &clock), 0);
	for (int i = 0; i < 6000; i++) {
		assert_int_equal(clock_gettime(clock, &t), 0);
		if ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 >= ms)
			return;
		usleep(10000);
	}
	fail_msg("no CPU for a minute");
}

TEST(a_source_that_has_no_cpu_is_not_late_and_one_that_waits_in_a_loop_is)
{
	struct hw_options o = { 0 };
	struct sources s;
	mono_t now;

	opens = 1;
	toy.poll = toy_spin;
	spin = false;
	assert_int_equal(sources_start(&s, toys, &o, false), 0);
	take_within(&s, 5000);
	spin = true;
	usleep(200000); /* of CPU at most: not half of what is thought to have passed */
	pthread_mutex_lock(&s.list[0].lock);
	s.list[0].usual_ms = 1;
	pthread_mutex_unlock(&s.list[0].lock);
	now = hw_now();
	look_at(&s, now, SOURCE_LATE_MS, false, false);
	look_at(&s, now, 2 * SOURCE_LATE_MS, false, false);
	assert_true(mono_sub_ms(sources_look(&s, now), now) <= SOURCE_LATE_MS);
	look_at(&s, now, SOURCE_STUCK_MS, false, true);
	s.list[0].stuck = false;
	used_cpu(&s.list[0], (SOURCE_LATE_MS + SOURCE_LOOK_MS) / 2 + 200);
	pthread_mutex_lock(&s.list[0].lock);
	now = hw_now();
	s.list[0].due = mono_add_ms(now, -SOURCE_LATE_MS); /* it seems to have had more than half of it since */
	s.list[0].cpu_ns = 0;
	s.list[0].usual_ms = 1;
	pthread_mutex_unlock(&s.list[0].lock);
	look_at(&s, now, 0, false, false);
	look_at(&s, now, SOURCE_LOOK_MS, true, false);
	spin = false;
	assert_true(sources_stop(&s));
	toy.poll = toy_poll;
}

TEST(a_source_at_its_start_has_time_unless_one_has_hung_before)
{
	struct hw_options o = { 0 };
	struct sources s;
	mono_t due;

	for (int again = 0; again < 2; again++) {
		opens = 1;
		hang = true;
		assert_int_equal(sources_start(&s, toys, &o, again), 0);
		due = in_hang(&s, 0);
		look_at(&s, due, SOURCE_STUCK_MS - 1, false, false);
		if (!again)
			look_at(&s, due, SOURCE_START_MS - 1, false, false);
		look_at(&s, due, again ? SOURCE_STUCK_MS : SOURCE_START_MS, false, true);
		hang = false;
		take_within(&s, 5000);
		sources_take(&s, hw_now());
		assert_false(s.list[0].again);
		assert_true(sources_stop(&s));
	}
}

static atomic_bool wait_hangs;

static bool toy_wait(void *source, int wake_fd, int timeout_ms)
{
	while (wait_hangs)
		usleep(1000);
	hw_sleep(wake_fd, timeout_ms);
	return false;
}

TEST(a_source_that_hangs_while_it_waits_is_marked_too)
{
	struct hw_options o = { 0 };
	struct sources s;

	opens = 1;
	toy.wait = toy_wait;
	wait_hangs = true;
	assert_int_equal(sources_start(&s, toys, &o, false), 0);
	take_within(&s, 5000);
	usleep(100000);
	sources_take(&s, mono_add_ms(hw_now(), SOURCE_STUCK_MS / 2));
	assert_false(s.list[0].stuck);
	assert_true(sources_take(&s, mono_add_ms(hw_now(), SOURCE_STUCK_MS + 1000)));
	assert_true(s.list[0].stuck);
	wait_hangs = false;
	take_within(&s, 5000);
	assert_false(s.list[0].stuck);
	assert_true(sources_stop(&s));
	toy.wait = NULL;
}

/* The kernel shows a thread that waits for its vfork child as D. */
static void freeze(void)
{
	if (vfork() != 0)
		return;
	for (int i = 0; hang && i < 10000; i++) /* a test that fails must end, too */
		usleep(1000);
	_exit(0);
}

static void toy_freeze(void *source, struct hw_readings *ret)
{
	hw_say(&ret->sources[ret->n_sources++], "toy", true, NULL);
	if (hang)
		freeze();
}

static const char *overdue(struct sources *s, int64_t ms)
{
	mono_t now = mono_add_ms(hw_now(), ms);

	sources_take(s, now);
	return sources_overdue(s, 60000, now);
}

TEST(whoever_hangs_for_long_is_named_unless_the_process_could_not_end)
{
	struct hw_options o = { 0 };
	struct sources s;

	for (int frozen = 0; frozen < 2; frozen++) {
		opens = 1;
		hang = true;
		toy.poll = frozen ? toy_freeze : toy_poll;
		assert_int_equal(sources_start(&s, toys, &o, true), 0);
		usleep(300000);
		assert_null(overdue(&s, 0));
		assert_null(overdue(&s, 50000));
		assert_true(s.list[0].stuck);
		assert_false(s.list[0].in_kernel);
		if (frozen)
			assert_null(overdue(&s, 60000));
		else
			assert_string_equal(overdue(&s, 60000), "toy");
		assert_int_equal(s.list[0].in_kernel, frozen);
		if (frozen) { /* about to answer */
			toy.period_ms = -1;
			hang = false;
			usleep(100000);
			assert_null(sources_overdue(&s, 60000, mono_add_ms(hw_now(), 61000)));
			toy.period_ms = 20;
		}
		hang = false;
		take_within(&s, 5000);
		sources_take(&s, hw_now());
		assert_null(overdue(&s, 0));
		assert_false(s.list[0].in_kernel);
		assert_true(sources_stop(&s));
	}
	toy.poll = toy_poll;
}

/* ---- the message ---------------------------------------------------------- */

static struct sources one;
static struct hw_readings readings;

static int setup(void **state)
{
	memset(&one, 0, sizeof one);
	memset(&readings, 0, sizeof readings);
	one.n = 1;
	one.list[0].ops = &toy;
	one.list[0].taken = &readings;
	return 0;
}

static int teardown(void **state)
{
	arena_finish(&readings.arena);
	return 0;
}

static void decode(struct msg *m, mono_t now)
{
	struct buf b;
	struct err e = { 0 };

	buf_init(&b);
	if (compose(&one, COMPOSE_ALL, now, &b, &e) < 0)
		fail_msg("%s", e.text);
	if (msg_decode(b.data, b.len, m, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(m->type, MSG_readings);
	buf_finish(&b);
}

static struct hw_gpu *gpus(size_t n)
{
	readings.gpus = arena_alloc(&readings.arena, n * sizeof *readings.gpus);
	readings.n_gpus = n;
	for (size_t i = 0; i < n; i++)
		snprintf(readings.gpus[i].pci, HW_PCI_SIZE, "0000:%02zx:00.0", i);
	return readings.gpus;
}

static struct hw_port *ports(size_t n)
{
	readings.ports = arena_alloc(&readings.arena, n * sizeof *readings.ports);
	readings.n_ports = n;
	for (size_t i = 0; i < n; i++) {
		snprintf(readings.ports[i].device, 65, "mlx5_%zu", i);
		readings.ports[i].port = 1;
	}
	return readings.ports;
}

TEST(known_zeroes_travel_and_unknown_values_do_not)
{
	struct hw_gpu *g = gpus(1);
	struct hw_port *p = ports(1);
	struct msg m;

	g->temp_c = hw_u32(0);
	g->ecc_uncorrected = hw_u64(0);
	p->lid = hw_u32(0);
	p->numa = hw_u32(0);
	decode(&m, hw_now());
	assert_true(MSG_HAS(&m.u.readings.gpus[0], gpu, temp_c));
	assert_true(MSG_HAS(&m.u.readings.gpus[0], gpu, ecc_uncorrected));
	assert_false(MSG_HAS(&m.u.readings.gpus[0], gpu, ecc_corrected));
	assert_false(MSG_HAS(&m.u.readings.gpus[0], gpu, numa));
	assert_null(m.u.readings.gpus[0].text);
	assert_true(MSG_HAS(&m.u.readings.ports[0], port, lid));
	assert_true(MSG_HAS(&m.u.readings.ports[0], port, numa));
	assert_false(MSG_HAS(&m.u.readings.ports[0], port, sm_lid));
	assert_null(m.u.readings.ports[0].state);
	assert_false(MSG_HAS(&m.u.readings.ports[0], port, excluded));
	msg_finish(&m);
}

TEST(sources_have_an_age_and_a_word_when_they_hang)
{
	mono_t now = hw_now();
	struct msg m;

	hw_say(&readings.sources[0], "verbs", false, "no");
	hw_say(&readings.sources[1], "sysfs", true, NULL);
	readings.n_sources = 2;
	one.list[0].taken_at = now;
	decode(&m, mono_add_ms(now, 1234));
	assert_int_equal(m.u.readings.n_sources, 2);
	assert_string_equal(m.u.readings.sources[0].name, "verbs");
	assert_string_equal(m.u.readings.sources[0].text, "no");
	assert_false(m.u.readings.sources[0].ok);
	assert_true(m.u.readings.sources[1].ok);
	assert_int_equal(m.u.readings.sources[1].age_ms, 1234);
	msg_finish(&m);

	one.list[0].late = true;
	decode(&m, now);
	assert_true(m.u.readings.sources[1].ok && m.u.readings.sources[1].late);
	assert_non_null(strstr(m.u.readings.sources[1].text, "may hang"));
	msg_finish(&m);

	one.list[0].late = false;
	one.list[0].stuck = true;
	decode(&m, now);
	assert_false(m.u.readings.sources[1].late);
	assert_false(m.u.readings.sources[1].ok);
	assert_non_null(strstr(m.u.readings.sources[1].text, "does not answer"));
	msg_finish(&m);

	one.list[0].taken = NULL;
	one.list[0].stuck = false;
	decode(&m, now);
	assert_int_equal(m.u.readings.n_sources, 1);
	assert_string_equal(m.u.readings.sources[0].name, "toy");
	assert_string_equal(m.u.readings.sources[0].text, "not read yet");
	assert_true(m.u.readings.sources[0].starting);
	assert_false(MSG_HAS(&m.u.readings.sources[0], source, age_ms));
	msg_finish(&m);
}

static void all_known(struct hw_gpu *g, struct hw_port *p)
{
	static struct hw_gpu_proc proc = { .pid = 7 };

	snprintf(g->uuid, sizeof g->uuid, "GPU-1");
	snprintf(g->name, sizeof g->name, "H100");
	g->numa = g->temp_c = g->power_mw = g->power_limit_mw = g->util = hw_u32(1);
	g->mem_total = g->mem_used = g->ecc_corrected = g->ecc_uncorrected = hw_u64(1);
	g->xids = g->xid = hw_u32(79);
	g->xid_wall_ms = 5;
	snprintf(g->note, sizeof g->note, "power: error 999");
	g->procs = &proc;
	g->n_procs = 1;
	g->procs_known = true;
	p->state = "Active";
	p->phys_state = "LinkUp";
	p->speed = "NDR";
	p->link_layer = "InfiniBand";
	p->rate_mbps = p->lanes = p->lid = p->sm_lid = p->gids = p->mtu = p->numa = hw_u32(1);
	p->since_wall_ms = 5;
	snprintf(p->gid, sizeof p->gid, "fe80::1");
	snprintf(p->fw, sizeof p->fw, "28.39");
	snprintf(p->pci, sizeof p->pci, "0000:17:00.0");
}

static void expect_stuck_gpu(const struct rec_gpu *g)
{
	assert_string_equal(g->uuid, "GPU-1");
	assert_string_equal(g->name, "H100");
	assert_string_equal(g->pci, "0000:00:00.0");
	assert_true(MSG_HAS(g, gpu, numa));
	assert_int_equal(g->xid, 79); /* has come, whatever hangs now */
	assert_string_equal(g->text, "not read for 40 s, its source hangs");
	assert_false(MSG_HAS(g, gpu, temp_c) || MSG_HAS(g, gpu, power_mw) || MSG_HAS(g, gpu, util));
	assert_false(MSG_HAS(g, gpu, mem_used) || MSG_HAS(g, gpu, mem_total));
	assert_false(MSG_HAS(g, gpu, ecc_corrected) || MSG_HAS(g, gpu, ecc_uncorrected));
	assert_null(g->note);
	assert_int_equal(g->n_procs, 0);
	assert_true(g->procs_unknown);
}

static void expect_stuck_port(const struct rec_port *p)
{
	assert_string_equal(p->device, "mlx5_0");
	assert_int_equal(p->port, 1);
	assert_string_equal(p->fw, "28.39");
	assert_string_equal(p->pci, "0000:17:00.0");
	assert_string_equal(p->text, "not read for 40 s, its source hangs");
	assert_null(p->state);
	assert_null(p->phys_state);
	assert_null(p->speed);
	assert_null(p->gid);
	assert_false(MSG_HAS(p, port, rate_mbps) || MSG_HAS(p, port, lanes) || MSG_HAS(p, port, lid));
	assert_false(MSG_HAS(p, port, sm_lid) || MSG_HAS(p, port, gids) || MSG_HAS(p, port, mtu));
	assert_int_equal(p->since_wall_ms, 0);
}

TEST(of_a_source_that_hangs_only_what_does_not_change_is_told)
{
	struct hw_host host = { .cpus = hw_u32(4), .clock_known = true, .clock_synced = true,
				.mem_available = hw_u64(1) };
	mono_t then = hw_now(), now = mono_add_ms(then, 40900);
	struct hw_port *p = ports(2);
	struct msg m;

	all_known(gpus(1), p);
	p[1].excluded = true;
	readings.host = &host;
	one.list[0].taken_at = then;
	decode(&m, now);
	assert_int_equal(m.u.readings.gpus[0].n_procs, 1);
	assert_string_equal(m.u.readings.gpus[0].note, "power: error 999");
	assert_false(m.u.readings.gpus[0].procs_unknown);
	assert_string_equal(m.u.readings.ports[0].state, "Active");
	msg_finish(&m);
	one.list[0].stuck = true;
	decode(&m, now);
	expect_stuck_gpu(&m.u.readings.gpus[0]);
	expect_stuck_port(&m.u.readings.ports[0]);
	assert_null(m.u.readings.ports[1].text); /* nobody asks it anything */
	assert_int_equal(m.u.readings.host->cpus, 4);
	assert_false(MSG_HAS(m.u.readings.host, host, clock_synced));
	assert_false(MSG_HAS(m.u.readings.host, host, mem_available));
	msg_finish(&m);
	one.list[0].in_kernel = true;
	decode(&m, now);
	assert_non_null(strstr(m.u.readings.sources[0].text, "inside the kernel"));
	msg_finish(&m);
}

TEST(odd_values_do_not_cost_the_message)
{
	struct hw_gpu *g = gpus(1);
	struct hw_port *p = ports(1);
	struct msg m;

	g->temp_c = hw_u32(1001);
	g->util = hw_u32(101);
	g->power_mw = hw_u32(UINT32_MAX);
	g->xid = hw_u32(65536);
	memset(g->text, 'x', sizeof g->text - 1);
	p->lid = hw_u32(65536);
	memset(p->fw, 'y', sizeof p->fw - 1);
	decode(&m, hw_now());
	assert_false(MSG_HAS(&m.u.readings.gpus[0], gpu, temp_c));
	assert_false(MSG_HAS(&m.u.readings.gpus[0], gpu, xid));
	assert_int_equal(strlen(m.u.readings.gpus[0].text), 256);
	assert_false(MSG_HAS(&m.u.readings.ports[0], port, lid));
	msg_finish(&m);
}

#define GIB (UINT64_C(1) << 30)

static bool material(struct buf *was)
{
	struct buf b;
	bool changed;

	buf_init(&b);
	assert_int_equal(compose(&one, COMPOSE_MATERIAL, hw_now(), &b, NULL), 0);
	changed = b.len != was->len || memcmp(b.data, was->data, b.len) != 0;
	buf_finish(was);
	*was = b;
	return changed;
}

TEST(what_is_never_still_is_not_material)
{
	struct hw_gpu_proc proc = { .pid = 7 };
	struct hw_host host = { 0 };
	struct hw_gpu *g = gpus(1);
	struct hw_port *p = ports(1);
	struct buf was;

	buf_init(&was);
	readings.host = &host;
	hw_say(&readings.sources[0], "toy", true, NULL);
	readings.n_sources = 1;
	material(&was);
	g->temp_c = hw_u32(50);
	g->power_mw = hw_u32(50);
	g->util = hw_u32(50);
	g->mem_used = hw_u64(50);
	g->ecc_corrected = hw_u64(50);
	host.mem_available = hw_u64(50);
	host.clock_error_us = hw_u64(50);
	one.list[0].taken_at = hw_now();
	assert_false(material(&was));
	/* but that a check may find something in it is told at once */
	g->temp_c = hw_u32(86);
	assert_true(material(&was));
	g->temp_c = hw_u32(89);
	assert_false(material(&was));
	g->temp_c = hw_u32(91);
	assert_true(material(&was));
	host.mem_total = hw_u64(100 * GIB);
	host.mem_available = hw_u64(50 * GIB);
	material(&was);
	host.mem_available = hw_u64(6 * GIB);
	assert_false(material(&was)); /* more than a twentieth */
	host.mem_available = hw_u64(4 * GIB);
	assert_true(material(&was));
	host.mem_available = hw_u64(GIB / 2);
	assert_true(material(&was));
	g->procs = &proc;
	g->n_procs = 1;
	assert_true(material(&was));
	proc.mem = hw_u64(50);
	assert_false(material(&was));
	proc.pid = 8;
	assert_true(material(&was));
	g->xids = hw_u32(1);
	assert_true(material(&was));
	g->ecc_uncorrected = hw_u64(1);
	assert_true(material(&was));
	p->state = "Down";
	assert_true(material(&was));
	host.clock_known = true;
	assert_true(material(&was));
	one.list[0].stuck = true;
	assert_true(material(&was));
	one.list[0].taken_at = mono_add_ms(hw_now(), -50000);
	assert_false(material(&was)); /* that it goes on hanging is no news */
	readings.n_ports = 0;
	assert_true(material(&was));
	assert_false(material(&was));
	buf_finish(&was);
}

TEST(gpus_of_the_topology_get_their_numbers)
{
	struct hw_affinity a[] = {
		{ "0000:01:00.0", "0000:00:00.0", "PIX" },
		{ "0000:00:00.0", "mlx5_0", "SYS" },
		{ "0000:99:00.0", "mlx5_0", "SYS" }, /* a GPU that is not ours */
	};
	struct hw_numa numa = { .numa = 1, .cpus = "0-3" };
	struct msg m;

	gpus(2);
	readings.affinity = a;
	readings.n_affinity = 3;
	readings.numa = &numa;
	readings.n_numa = 1;
	decode(&m, hw_now());
	assert_int_equal(m.u.readings.n_topology, 2);
	assert_string_equal(m.u.readings.topology[0].a, "gpu1");
	assert_string_equal(m.u.readings.topology[0].b, "gpu0");
	assert_string_equal(m.u.readings.topology[0].how, "PIX");
	assert_string_equal(m.u.readings.topology[1].b, "mlx5_0");
	assert_string_equal(m.u.readings.numa[0].cpus, "0-3");
	msg_finish(&m);
}

TEST(the_largest_readings_fit_into_a_frame)
{
	struct hw_gpu_proc *procs = calloc(HW_PROCS_MAX, sizeof *procs);
	struct hw_affinity *a = calloc(8128, sizeof *a);
	struct hw_gpu *g = gpus(HW_GPUS_MAX);
	struct hw_port *p = ports(HW_PORTS_MAX);
	struct msg m;

	for (size_t i = 0; i < HW_PROCS_MAX; i++) {
		procs[i].pid = 4194304;
		memset(procs[i].user, 'u', 64);
		memset(procs[i].name, 'n', 64);
	}
	for (size_t i = 0; i < HW_GPUS_MAX; i++) {
		g[i].procs = procs;
		g[i].n_procs = HW_PROCS_MAX;
		memset(g[i].text, 't', 256);
		memset(p[i].text, 't', 256);
		memset(p[i].pkey_table, 'f', sizeof p[i].pkey_table - 1);
	}
	for (size_t i = 0; i < 8128; i++)
		a[i] = (struct hw_affinity){ "0000:01:00.0", "0000:00:00.0", "NODE" };
	readings.affinity = a;
	readings.n_affinity = 8128;
	decode(&m, hw_now()); /* fails unless it fits */
	assert_int_equal(m.u.readings.n_gpus, HW_GPUS_MAX);
	assert_int_equal(m.u.readings.n_ports, HW_PORTS_MAX);
	assert_int_equal(m.u.readings.n_topology, 0);
	assert_int_equal(m.u.readings.gpus[0].n_procs, 0);
	assert_true(m.u.readings.gpus[0].procs_unknown);
	msg_finish(&m);
	for (size_t i = 0; i < HW_GPUS_MAX; i++)
		g[i].n_procs = i < 8;
	decode(&m, hw_now());
	assert_int_equal(m.u.readings.n_topology, 8128);
	assert_int_equal(m.u.readings.gpus[0].n_procs, 1);
	msg_finish(&m);
	free(procs);
	free(a);
}

TEST(devices_that_change_are_noticed)
{
	uint64_t was;

	gpus(2);
	ports(2);
	was = compose_devices(&one);
	readings.ports[0].state = "Down";
	assert_int_equal(compose_devices(&one), was);
	readings.n_ports = 1;
	assert_int_not_equal(compose_devices(&one), was);
	readings.n_ports = 2;
	readings.gpus[1].pci[0] = '1';
	assert_int_not_equal(compose_devices(&one), was);
}

/* ---- writing -------------------------------------------------------------- */

static void *slow_reader(void *arg)
{
	int fd = *(int *)arg;
	char b[3000];
	long sum = 0;
	ssize_t n;

	while ((n = read(fd, b, sizeof b)) > 0) {
		sum += n;
		usleep(200);
	}
	close(fd);
	return (void *)sum;
}

static void write_all(int fds[2])
{
	size_t size = 1 << 20;
	char *big = calloc(1, size);
	pthread_t t;
	void *sum;

	assert_int_equal(pthread_create(&t, NULL, slow_reader, &fds[0]), 0);
	assert_int_equal(out_write(fds[1], big, size, 5000), 0);
	assert_false(fcntl(fds[1], F_GETFL) & O_NONBLOCK);
	close(fds[1]);
	pthread_join(t, &sum);
	assert_int_equal((long)sum, size);
	free(big);
}

TEST(a_slow_reader_gets_all_of_it)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	write_all(fds);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	write_all(fds);
}

static void give_up(int fds[2])
{
	char *big = calloc(1, 4 << 20);
	mono_t begin = hw_now();

	assert_int_equal(out_write(fds[1], big, 4 << 20, 200), -ETIMEDOUT);
	assert_in_range(mono_sub_ms(hw_now(), begin), 199, 5000);
	close(fds[0]);
	assert_int_equal(out_write(fds[1], big, 10, 200), -EPIPE);
	close(fds[1]);
	free(big);
}

TEST(a_reader_that_takes_nothing_is_given_up)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	give_up(fds);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	give_up(fds);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_source_is_polled_again_and_again),
		cmocka_unit_test(a_source_without_a_period_waits_to_be_woken),
		cmocka_unit_test(a_source_that_can_find_nothing_new_is_left_alone_and_is_not_stuck),
		cmocka_unit_test(a_source_that_does_not_answer_is_late_before_it_hangs),
		cmocka_unit_test(a_source_that_is_slow_by_habit_is_not_late),
		cmocka_unit_test(a_source_that_has_no_cpu_is_not_late_and_one_that_waits_in_a_loop_is),
		cmocka_unit_test(a_source_at_its_start_has_time_unless_one_has_hung_before),
		cmocka_unit_test(a_source_that_hangs_is_marked_and_does_not_hold_up_the_end),
		cmocka_unit_test(a_source_that_hangs_while_it_waits_is_marked_too),
		cmocka_unit_test(whoever_hangs_for_long_is_named_unless_the_process_could_not_end),
		CASE(of_a_source_that_hangs_only_what_does_not_change_is_told),
		CASE(known_zeroes_travel_and_unknown_values_do_not),
		CASE(sources_have_an_age_and_a_word_when_they_hang),
		CASE(odd_values_do_not_cost_the_message),
		CASE(what_is_never_still_is_not_material),
		CASE(gpus_of_the_topology_get_their_numbers),
		CASE(the_largest_readings_fit_into_a_frame),
		CASE(devices_that_change_are_noticed),
		cmocka_unit_test(a_slow_reader_gets_all_of_it),
		cmocka_unit_test(a_reader_that_takes_nothing_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
