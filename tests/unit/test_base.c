/* test_base.c - runs of check nccl: the statistic, who may store, what is compared with what, bounds */
#include "coord_world.h"

#include "common/nccl_base.h"

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* ---- the statistic ------------------------------------------------------------------ */

static uint32_t next_of(uint32_t before, const uint32_t *v, size_t n)
{
	uint32_t copy[NCCL_BASE_RUNS];

	memcpy(copy, v, n * sizeof(*v));
	return nccl_base_next(before, copy, n);
}

static void one_run_that_is_off_does_not_move_the_median(void **state)
{
	(void)state;
	assert_int_equal(next_of(0, (uint32_t[]){ 284 }, 1), 284);
	assert_int_equal(next_of(200, (uint32_t[]){ 284, 200 }, 2), 242);
	assert_int_equal(next_of(242, (uint32_t[]){ 284, 284, 200 }, 3), 284);
	assert_int_equal(next_of(284, (uint32_t[]){ 900, 284, 285, 283, 200 }, 5), 284);
	assert_int_equal(nccl_base_median(NULL, 0), 0);
}

static void a_slow_decline_does_not_take_the_baseline_along(void **state)
{
	uint32_t v[NCCL_BASE_RUNS] = { 284000, 284000, 284000, 284000, 284000 }, base = 284000, is = 284000;
	unsigned good = 0;

	(void)state;
	while (!nccl_base_slow(is, base, 0)) { /* 1 % less each time */
		memmove(v + 1, v, sizeof(v) - sizeof(v[0]));
		v[0] = is;
		base = next_of(base, v, NCCL_BASE_RUNS);
		is = is * 99 / 100;
		good++;
		assert_true(good < 50);
	}
	assert_int_equal(base, 284000);
	assert_true(good <= 11);
}

static void what_gets_better_lifts_the_baseline(void **state)
{
	(void)state;
	assert_int_equal(next_of(200, (uint32_t[]){ 280, 281, 282, 200, 200 }, 5), 280);
}

static void slow_is_below_nine_tenths(void **state)
{
	(void)state;
	assert_false(nccl_base_slow(900, 1000, 0));
	assert_true(nccl_base_slow(899, 1000, 0));
	assert_false(nccl_base_slow(899, 1000, 80));
	assert_false(nccl_base_slow(0, 0, 0));
	assert_true(nccl_base_slow(3000000000u, 4294967295u, 90));
}

/* ---- kept by the coordinator ----------------------------------------------------------- */

static uint64_t admin_up(struct world *w)
{
	return link_up(w, WHO_LOCAL, NULL, "client");
}

static struct rec_nccl_speed speeds[2] = { { .op = "all_reduce" }, { .op = "broadcast" } };
static struct rec_nccl_run run_of_set;

static struct rec_nccl_set a_set(const char *scope, const char *nodes)
{
	run_of_set = (struct rec_nccl_run){ .good = true, .how = "P2P", .speeds = speeds, .n_speeds = 2 };
	return (struct rec_nccl_set){ .scope = scope, .nodes = nodes, .ranks = 8, .mib = 128, .gpu = "H100", .nccl = "2.28.9",
				      .driver = "580.1", .runs = &run_of_set, .n_runs = 1 };
}

/* One run of this set; the answer, to be finished. */
static struct rec_nccl_told *put_set(struct world *w, uint64_t l, struct rec_nccl_set *s, uint32_t mb_s, bool anew, struct msg *m)
{
	struct msg q;

	speeds[0].mb_s = mb_s;
	speeds[1].mb_s = 100000;
	msg_init(&q, MSG_base_put);
	q.u.base_put.rid = 5;
	q.u.base_put.sets = s;
	q.u.base_put.n_sets = 1;
	MSG_SET(&q.u.base_put, base_put, keep, true);
	MSG_SET(&q.u.base_put, base_put, anew, anew);
	say(w, l, &q);
	store(w);
	assert_true(last_to(w, l, MSG_base_told, m));
	assert_int_equal(m->u.base_told.n_told, 1);
	return &m->u.base_told.told[0];
}

/* The baseline of all_reduce that this run was compared with; 0: none. */
static uint32_t put(struct world *w, uint64_t l, const char *nodes, uint32_t mb_s)
{
	struct rec_nccl_set s = a_set("inside", nodes);
	struct msg m;
	const struct rec_nccl_told *t = put_set(w, l, &s, mb_s, false, &m);
	uint32_t base = t->n_base > 0 ? t->base[0].mb_s : 0;

	msg_finish(&m);
	return base;
}

static size_t kept_rows(const struct world *w)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_rows; i++)
		n += w->rows[i].table == TABLE_BASE && w->rows[i].json != NULL;
	return n;
}

static size_t events_of(struct world *w, uint64_t l, const char *kind)
{
	struct msg m;
	size_t n;

	msg_init(&m, MSG_events_get);
	m.u.events_get.rid = 3;
	m.u.events_get.kind = kind;
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_events, &m));
	n = m.u.events.n_events;
	msg_finish(&m);
	return n;
}

static void the_first_run_begins_a_baseline_which_outlives_a_restart(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);

	assert_int_equal(put(w, l, "gpu01", 284000), 0);
	assert_int_equal(kept_rows(w), 1);
	restart(w);
	l = admin_up(w);
	assert_int_equal(put(w, l, "gpu01", 283000), 284000);
	assert_int_equal(put(w, l, "gpu02", 280000), 0); /* another one */
}

static void it_is_told_as_kept_when_it_is_on_the_disk(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);
	struct rec_nccl_set s = a_set("inside", "gpu01");
	struct msg q;

	msg_init(&q, MSG_base_put);
	q.u.base_put.rid = 5;
	q.u.base_put.sets = &s;
	q.u.base_put.n_sets = 1;
	MSG_SET(&q.u.base_put, base_put, keep, true);
	say(w, l, &q);
	assert_false(was_told(w, l, MSG_base_told));
	w->disk_full = true;
	store(w);
	assert_false(was_told(w, l, MSG_base_told));
	assert_true(was_told(w, l, MSG_refused));
}

static void only_an_administrators_run_is_kept(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w), node = node_up(w, "gpu01");
	struct rec_nccl_set s = a_set("inside", "gpu01");
	struct msg m;

	assert_int_equal(put(w, l, "gpu01", 284000), 0);
	for (int i = 0; i < 8; i++) { /* a user, through his node's agent: slow, then absurdly fast */
		const struct rec_nccl_told *t = put_set(w, node, &s, i < 4 ? 1000 : 4000000000u, i % 2 != 0, &m);

		assert_int_equal(t->base[0].mb_s, 284000);
		assert_false(m.u.base_told.kept);
		msg_finish(&m);
	}
	assert_int_equal(put(w, l, "gpu01", 284000), 284000);
	assert_int_equal(events_of(w, l, "nccl"), 0);
}

static void a_fall_is_told_once_and_its_end(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);

	put(w, l, "gpu01", 284000);
	put(w, l, "gpu01", 200000);
	assert_int_equal(put(w, l, "gpu01", 201000), 284000); /* the slow one does not count */
	assert_int_equal(events_of(w, l, "nccl.slow"), 1);
	restart(w);
	l = admin_up(w);
	put(w, l, "gpu01", 200000);
	assert_int_equal(events_of(w, l, "nccl.slow"), 1);
	put(w, l, "gpu01", 280000);
	assert_int_equal(events_of(w, l, "nccl.ok"), 1);
	put(w, l, "gpu01", 280000);
	assert_int_equal(events_of(w, l, "nccl.ok"), 1);
}

static void many_slow_runs_do_not_push_the_baseline_out(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);
	struct msg m;

	put(w, l, "gpu01", 284000);
	for (int i = 0; i < 40; i++)
		put(w, l, "gpu01", 100000);
	assert_int_equal(put(w, l, "gpu01", 100000), 284000);
	msg_init(&m, MSG_base_get);
	m.u.base_get.rid = 4;
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_base_list, &m));
	assert_int_equal(m.u.base_list.n_sets, 1);
	assert_int_equal(m.u.base_list.sets[0].n_runs, 8);
	assert_true(m.u.base_list.sets[0].runs[0].good);
	assert_int_equal(m.u.base_list.sets[0].good, 1);
	msg_finish(&m);
}

static void a_new_baseline_may_be_asked_for(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);
	struct rec_nccl_set s = a_set("inside", "gpu01");
	struct msg m;

	put(w, l, "gpu01", 284000);
	put(w, l, "gpu01", 200000);
	put_set(w, l, &s, 200000, true, &m);
	msg_finish(&m);
	assert_int_equal(events_of(w, l, "nccl.ok"), 1);
	assert_int_equal(put(w, l, "gpu01", 199000), 200000);
}

static void other_conditions_are_told_and_begin_a_baseline_of_their_own(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);
	struct rec_nccl_set s = a_set("inside", "gpu01");
	const struct rec_nccl_told *t;
	struct msg m;

	put(w, l, "gpu01", 284000);
	s.nccl = "2.29.2";
	s.env = "NCCL_ALGO=Ring";
	t = put_set(w, l, &s, 150000, false, &m);
	assert_int_equal(t->base[0].mb_s, 284000);
	assert_string_equal(t->other, "NCCL 2.28.9 then, 2.29.2 now; settings none then, NCCL_ALGO=Ring now");
	msg_finish(&m);
	assert_int_equal(events_of(w, l, "nccl"), 0);
	t = put_set(w, l, &s, 150000, true, &m); /* slow against the others: not by itself */
	assert_int_equal(t->base[0].mb_s, 284000);
	msg_finish(&m);
	t = put_set(w, l, &s, 150000, false, &m);
	assert_int_equal(t->base[0].mb_s, 150000);
	assert_null(t->other);
	msg_finish(&m);
	s.nccl = "2.30.3";
	put_set(w, l, &s, 149000, false, &m);
	msg_finish(&m);
	t = put_set(w, l, &s, 149000, false, &m); /* not slow: it has begun one */
	assert_int_equal(t->base[0].mb_s, 149000);
	assert_null(t->other);
	msg_finish(&m);
	assert_int_equal(put(w, l, "gpu01", 284000), 284000); /* the other one is still there */
}

static void another_transport_is_no_other_condition(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);
	struct rec_nccl_set s = a_set("between", "gpu[01-02]");
	const struct rec_nccl_told *t;
	struct msg m;

	run_of_set.how = "IB GDR";
	put_set(w, l, &s, 45000, false, &m);
	msg_finish(&m);
	run_of_set.how = "SOCKET";
	t = put_set(w, l, &s, 5000, false, &m);
	assert_string_equal(t->how, "IB GDR");
	assert_int_equal(t->base[0].mb_s, 45000);
	assert_null(t->other);
	msg_finish(&m);
	assert_int_equal(events_of(w, l, "nccl.slow"), 1);
}

static void a_new_node_is_compared_with_its_kind_and_new_nodes_are_named(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);
	struct rec_nccl_set s = a_set("between", "gpu[01-02]");
	const struct rec_nccl_told *t;
	struct msg m;

	put_set(w, l, &s, 45000, false, &m);
	msg_finish(&m);
	s.nodes = "gpu[01-03]";
	s.ranks = 12;
	t = put_set(w, l, &s, 44000, false, &m);
	assert_int_equal(t->n_base, 0);
	assert_string_equal(t->other, "there is one of gpu[01-02]");
	msg_finish(&m);
	put(w, l, "gpu01", 280000);
	put(w, l, "gpu02", 284000);
	assert_int_equal(put(w, l, "gpu03", 290000), 0); /* of two it is not known which is usual */
	s = a_set("inside", "gpu04");
	t = put_set(w, l, &s, 150000, false, &m);
	assert_int_equal(t->base[0].mb_s, 284000);
	assert_string_equal(t->other, "it is new, and compared with 3 other nodes of its kind");
	msg_finish(&m);
}

static void the_number_of_sets_is_bounded(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w), deleted = 0;
	struct msg q;

	for (int i = 0; i < 4200; i++) {
		char name[32];
		struct rec_nccl_set s;

		snprintf(name, sizeof(name), "n%d", i);
		s = a_set("inside", name);
		speeds[0].mb_s = 284000;
		msg_init(&q, MSG_base_put);
		q.u.base_put.rid = 5;
		q.u.base_put.sets = &s;
		q.u.base_put.n_sets = 1;
		MSG_SET(&q.u.base_put, base_put, keep, true);
		w->wall_ms++;
		say(w, l, &q);
		for (size_t k = 0; k < w->queue[0].n; k++) {
			deleted += w->queue[0].rows[k].table == TABLE_BASE && w->queue[0].rows[k].json == NULL;
			free(w->queue[0].rows[k].json);
		}
		w->queue[0].n = 0;
		store(w);
		forget_sent(w);
	}
	assert_int_equal(deleted, 4200 - 4096);
	for (int i = 0; i < 2; i++) {
		struct rec_nccl_set s = a_set("inside", i == 0 ? "n0" : "n4199"); /* the oldest has gone */
		struct msg m;
		const struct rec_nccl_told *t = put_set(w, l, &s, 1, false, &m);

		assert_int_equal(t->other != NULL, i == 0);
		msg_finish(&m);
	}
}

static void what_is_kept_is_told_in_pages(void **state)
{
	struct world *w = *state;
	uint64_t l = admin_up(w);
	size_t n = 0, pages = 0;
	char name[32];
	struct msg m, q;

	for (int i = 0; i < 70; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		put(w, l, name, 284000);
		forget_sent(w);
	}
	msg_init(&q, MSG_base_get);
	q.u.base_get.rid = 4;
	do {
		say(w, l, &q);
		assert_true(last_to(w, l, MSG_base_list, &m));
		n += m.u.base_list.n_sets;
		MSG_SET(&q.u.base_get, base_get, after, m.u.base_list.last);
		q.u.base_get.rid++;
		pages++;
		msg_finish(&m);
	} while (m.u.base_list.more && pages < 9);
	assert_int_equal(n, 70);
	assert_int_equal(pages, 3);
	msg_init(&q, MSG_base_get);
	q.u.base_get.rid = 4;
	q.u.base_get.nodes = "n[3-5]";
	say(w, l, &q);
	assert_true(last_to(w, l, MSG_base_list, &m));
	assert_int_equal(m.u.base_list.n_sets, 3);
	msg_finish(&m);
	forget_sent(w);
	q.u.base_get.nodes = "n[1-5000]";
	say(w, l, &q);
	assert_true(was_told(w, l, MSG_refused));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_run_that_is_off_does_not_move_the_median),
		cmocka_unit_test(a_slow_decline_does_not_take_the_baseline_along),
		cmocka_unit_test(what_gets_better_lifts_the_baseline),
		cmocka_unit_test(slow_is_below_nine_tenths),
		T(the_first_run_begins_a_baseline_which_outlives_a_restart),
		T(it_is_told_as_kept_when_it_is_on_the_disk),
		T(only_an_administrators_run_is_kept),
		T(a_fall_is_told_once_and_its_end),
		T(many_slow_runs_do_not_push_the_baseline_out),
		T(a_new_baseline_may_be_asked_for),
		T(other_conditions_are_told_and_begin_a_baseline_of_their_own),
		T(another_transport_is_no_other_condition),
		T(a_new_node_is_compared_with_its_kind_and_new_nodes_are_named),
		T(the_number_of_sets_is_bounded),
		T(what_is_kept_is_told_in_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
