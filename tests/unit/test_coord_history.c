/* test_coord_history.c - jobs that are over: what is kept of them, for how long, and how they are picked */
#include "coord_world.h"

#define TEST(name) static void name(void **state)
#define DAY_MS INT64_C(86400000)

/* ---- rows ---------------------------------------------------------------------- */

#define RANKS_MAX 256

struct past {
	uint64_t job;
	uint32_t nnodes, ppn;
	const char *state, *user;
	uint32_t bad, code; /* rank that failed with this code, and all others were ended by us; code 0: none */
	int64_t end_wall_ms, start_wall_ms;
};

static const struct past some = { .job = 1, .nnodes = 4, .ppn = 16, .state = "failed", .user = "li", .bad = 37,
				  .code = 7, .end_wall_ms = 1600000000000 };

static void one_rank(struct rec_rank_state *r, const struct past *p, uint32_t i)
{
	*r = (struct rec_rank_state){ .rank = i, .state = "exited", .pid = 100 + i };
	if (p->code == 0 || i == p->bad) {
		MSG_SET(r, rank_state, code, p->code);
		return;
	}
	r->state = "killed";
	r->sig = 15;
	r->ours = true;
}

/* A row as older coordinators wrote it: with every rank. */
static void load_past(struct world *w, const struct past *p)
{
	static const char *const names[] = { "gpu01", "gpu02", "gpu03", "gpu04" };
	struct rec_rank_state ranks[RANKS_MAX], first;
	struct rec_row_place places[4];
	static const uint8_t hash[32] = { 1 };
	uint32_t n = p->nnodes * p->ppn;
	struct rec_row_job *r;
	char id[24];
	struct msg m;

	assert_true(n <= RANKS_MAX && p->nnodes <= 4);
	msg_init(&m, MSG_row_job);
	r = &m.u.row_job;
	snprintf(id, sizeof(id), "c%llu", (unsigned long long)p->job);
	for (uint32_t i = 0; i < p->nnodes; i++)
		places[i] = (struct rec_row_place){ .node = names[i], .boot_id = "boot-1", .gpus = "0,1",
						    .gpu_ids = "GPU-A,GPU-B" };
	for (uint32_t i = 0; i < n; i++)
		one_rank(&ranks[i], p, i);
	one_rank(&first, p, p->bad);
	r->job = p->job;
	r->client_id = id;
	r->state = p->state;
	r->attempt = 1;
	r->uid = 1000;
	r->user = p->user;
	r->submit_node = "gpu01";
	r->spec_hash = (struct bytes){ hash, 32 };
	r->nnodes = p->nnodes;
	r->procs_per_node = p->ppn;
	r->command = "train";
	r->places = places;
	r->n_places = p->nnodes;
	r->ranks = ranks;
	r->n_ranks = n;
	r->first = &first;
	r->n_first = p->code != 0;
	r->end_wall_ms = p->end_wall_ms;
	r->start_wall_ms = p->start_wall_ms;
	MSG_SET(r, row_job, exit_code, p->code);
	load(w, &m);
}

/* A coordinator that keeps so much. */
static void begin_keeping(struct world *w, uint32_t jobs, uint32_t days)
{
	struct coord_conf conf = { .address = "head:7070", .sha256 = fake_sha, .history = jobs,
				   .history_days = days };

	coord_destroy(w->c);
	w->c = coord_create(&conf, w->now);
	assert_non_null(w->c);
}

static void loaded(struct world *w)
{
	for (int i = 1; i <= 4; i++) {
		char name[16];

		snprintf(name, sizeof(name), "gpu%02d", i);
		add_node(w, name, true);
	}
	coord_loaded(w->c, &w->acts);
	take_actions(w);
	tick(w, 10);
}

static size_t row_bytes;

static void measure(void *arg, const struct rec_row_job *r)
{
	struct buf b;
	struct msg m;

	msg_init(&m, MSG_row_job);
	m.u.row_job = *r;
	buf_init(&b);
	assert_int_equal(msg_encode(&m, &b, NULL), 0);
	row_bytes = b.len;
	if (arg != NULL) {
		load(arg, &m);
	}
	buf_finish(&b);
}

/* ---- what is kept -------------------------------------------------------------------- */

static void must_be_the_job(struct world *w)
{
	struct rec_job_info *i;
	struct msg m;

	w->job = 1;
	i = job_one(w, &m);
	assert_non_null(i);
	assert_int_equal(i->world, 64);
	assert_int_equal(i->n_first, 1);
	assert_int_equal(i->first->rank, 37);
	assert_string_equal(i->first->node, "gpu03");
	assert_int_equal(i->first->code, 7);
	assert_int_equal(i->n_ranks, 1);
	assert_int_equal(i->ranks[0].rank, 37);
	assert_int_equal(i->n_sums, 2);
	for (size_t k = 0; k < 2; k++) {
		assert_int_equal(i->sums[k].n, i->sums[k].ours ? 63 : 1);
		assert_int_equal(i->sums[k].sig, i->sums[k].ours ? 15 : 0);
		assert_int_equal(i->sums[k].code, i->sums[k].ours ? 0 : 7);
		assert_string_equal(i->sums[k].state, i->sums[k].ours ? "killed" : "exited");
	}
	assert_int_equal(i->n_node_names, 4);
	assert_string_equal(i->nodes, "gpu[01-04]");
	assert_int_equal(i->n_gpus, 4);
	msg_finish(&m);
}

TEST(of_many_ranks_the_cause_and_the_counts_are_kept)
{
	struct world *w = *state;

	begin_keeping(w, 0, 0);
	load_past(w, &some);
	loaded(w);
	must_be_the_job(w);
}

TEST(what_is_kept_is_the_same_from_the_shorter_row)
{
	struct world *w = *state;
	struct coord *old;

	begin_keeping(w, 0, 0);
	load_past(w, &some);
	loaded(w);
	old = w->c;
	w->c = NULL;
	begin_keeping(w, 0, 0);
	coord_each_job(old, measure, w); /* written and read again */
	assert_true(row_bytes < 1200);
	coord_destroy(old);
	loaded(w);
	must_be_the_job(w);
}

TEST(of_a_few_ranks_all_are_kept)
{
	struct past p = some;
	struct world *w = *state;
	struct rec_job_info *i;
	struct msg m;

	p.ppn = 4;
	p.bad = 5;
	begin_keeping(w, 0, 0);
	load_past(w, &p);
	loaded(w);
	w->job = 1;
	i = job_one(w, &m);
	assert_int_equal(i->n_ranks, 16);
	for (uint32_t k = 0; k < 16; k++) {
		assert_int_equal(i->ranks[k].rank, k);
		assert_int_equal(i->ranks[k].pid, 100 + k);
	}
	msg_finish(&m);
}

/* From its life to the history: the same coordinator, and the next one. */
TEST(a_job_that_has_just_ended_is_kept_in_the_same_way)
{
	struct world *w = *state;
	struct rec_rank_state r[20];
	struct rec_job_info *i;
	struct msg m;
	uint64_t a;

	a = node_up(w, "gpu01");
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = "c1";
	m.u.submit.command = "train";
	m.u.submit.procs_per_node = 20;
	m.u.submit.spec_hash = (struct bytes){ (const uint8_t *)"0123456789abcdef0123456789abcdef", 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	say(w, a, &m);
	store(w);
	w->job = 1;
	prepared(w, a, true);
	for (uint32_t k = 0; k < 20; k++) {
		r[k] = (struct rec_rank_state){ .rank = k, .state = k == 3 || k == 11 ? "exited" : "killed" };
		if (k == 3 || k == 11) {
			MSG_SET(&r[k], rank_state, code, k);
			r[k].end_wall_ms = 1000 + k;
		} else {
			r[k].sig = 15;
			r[k].ours = true;
		}
	}
	msg_init(&m, MSG_ended);
	m.u.ended.job = 1;
	m.u.ended.attempt = 1;
	m.u.ended.ranks = r;
	m.u.ended.n_ranks = 20;
	say(w, a, &m);
	store(w);
	store(w);
	for (int life = 0; life < 2; life++) {
		i = job_one(w, &m);
		assert_string_equal(i->state, "failed");
		assert_int_equal(i->exit_code, 3);
		assert_int_equal(i->n_sums, 3);
		assert_int_equal(i->n_ranks, 2);
		assert_int_equal(i->ranks[0].rank, 3);
		assert_int_equal(i->ranks[1].rank, 11);
		assert_int_equal(i->first->rank, 3);
		msg_finish(&m);
		restart(w);
	}
}

/* ---- for how long -------------------------------------------------------------------------- */

static bool is_there(struct world *w, uint64_t job)
{
	struct rec_job_info *i;
	struct msg m;

	w->job = job;
	i = job_one(w, &m);
	if (i != NULL)
		msg_finish(&m);
	return i != NULL;
}

static void load_many(struct world *w, uint32_t n, int64_t first_end_ms, int64_t step_ms)
{
	for (uint32_t k = 0; k < n; k++) {
		struct past p = { .job = k + 1, .nnodes = 1, .ppn = 1, .state = k % 3 == 0 ? "failed" : "done",
				  .user = k % 2 == 0 ? "li" : "wang", .code = k % 3 == 0,
				  .end_wall_ms = first_end_ms + k * step_ms };

		load_past(w, &p);
	}
}

TEST(the_oldest_go_when_there_are_too_many)
{
	struct world *w = *state;
	uint64_t a;

	begin_keeping(w, 5, 0);
	load_many(w, 5, 1000, 1000);
	loaded(w);
	assert_true(is_there(w, 1));
	a = node_up(w, "gpu01");
	submit(w, a, "new", 1);
	store(w);
	w->job = 6;
	prepared(w, a, true);
	ended(w, a, 0, "exited", 0, false);
	store(w);
	store(w);
	assert_true(is_there(w, 6));
	assert_true(is_there(w, 2));
	assert_false(is_there(w, 1));
}

/* A job of weeks: all others came after it, and it is the one that people ask about now. */
TEST(who_ended_first_goes_first_not_who_came_first)
{
	struct world *w = *state;
	uint64_t a;

	begin_keeping(w, 3, 0);
	load_many(w, 1, 9000, 0); /* job 1 ended last of those on disk */
	for (uint32_t k = 2; k <= 3; k++) {
		struct past p = { .job = k, .nnodes = 1, .ppn = 1, .state = "done", .user = "li", .end_wall_ms = 1000 * k };

		load_past(w, &p);
	}
	loaded(w);
	a = node_up(w, "gpu01");
	submit(w, a, "long", 1);
	store(w);
	w->job = 4;
	prepared(w, a, true);
	submit(w, a, "short", 1);
	store(w);
	w->job = 5;
	prepared(w, a, true);
	ended(w, a, 0, "exited", 0, false);
	store(w);
	store(w);
	assert_false(is_there(w, 2));
	assert_true(is_there(w, 1));
	w->job = 4;
	w->wall_ms = 100; /* and somebody has set the clock back */
	ended(w, a, 0, "exited", 7, false);
	store(w);
	store(w);
	assert_true(is_there(w, 4)); /* it came first of the three, and ended last */
	assert_true(is_there(w, 5));
	assert_true(is_there(w, 1));
	assert_false(is_there(w, 3));
}

TEST(what_ended_too_many_days_ago_goes_by_and_by)
{
	struct world *w = *state;

	begin_keeping(w, 0, 10);
	load_many(w, 4, w->wall_ms - 12 * DAY_MS, DAY_MS); /* 12, 11, 10, 9 days ago */
	loaded(w);
	assert_false(is_there(w, 1));
	assert_false(is_there(w, 2));
	assert_true(is_there(w, 4));
	for (int h = 0; h < 26; h++)
		tick(w, 3600000);
	assert_false(is_there(w, 3));
	assert_false(is_there(w, 4));
}

/* Its spools may still lie on the nodes, and its events are told. */
TEST(the_number_of_a_job_that_has_gone_is_not_given_again)
{
	struct past p = some;
	struct world *w = *state;
	uint64_t a;

	begin_keeping(w, 0, 10);
	p.job = 9;
	p.end_wall_ms = w->wall_ms - 12 * DAY_MS;
	load_past(w, &p);
	loaded(w);
	assert_false(is_there(w, 9));
	store(w);
	restart(w);
	a = node_up(w, "gpu01");
	submit(w, a, "new", 1);
	store(w);
	assert_false(is_there(w, 1));
	assert_true(is_there(w, 10));
}

/* No reading has shown them since. Those of job 1 are the younger job 2's to give back. */
TEST(who_has_left_GPUs_that_are_not_clean_yet_stays)
{
	struct world *w = *state;
	struct past p = some;

	begin_keeping(w, 0, 10);
	for (uint32_t i = 1; i <= 3; i++) {
		p.job = i;
		p.nnodes = i == 1 ? 1 : 2;
		p.bad = 0;
		p.end_wall_ms = w->wall_ms - (20 - i) * DAY_MS;
		p.start_wall_ms = i == 3 ? 0 : p.end_wall_ms - 1000; /* job 3 has never begun */
		load_past(w, &p);
	}
	loaded(w);
	assert_false(is_there(w, 1));
	assert_true(is_there(w, 2));
	assert_false(is_there(w, 3));
}

TEST(without_days_nothing_is_too_old)
{
	struct world *w = *state;

	begin_keeping(w, 0, 0);
	load_many(w, 3, 1000, 1000);
	loaded(w);
	tick(w, 7200000);
	assert_true(is_there(w, 1));
}

/* ---- picked ------------------------------------------------------------------------------------ */

/* "5 3 1": as they are listed. */
static const char *list(struct world *w, struct rec_jobs_get *g)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	static char out[256];
	size_t n = 0;
	struct msg m;

	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get = *g;
	m.u.jobs_get.rid = 1;
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_jobs, &m));
	assert_true(m.u.jobs.filtered);
	out[0] = '\0';
	for (size_t i = 0; i < m.u.jobs.n_jobs; i++)
		n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%u", n ? " " : "", (unsigned)m.u.jobs.jobs[i].job);
	msg_finish(&m);
	link_down(w, l);
	return out;
}

TEST(jobs_are_picked_by_what_is_known_of_them)
{
	const char *failed[] = { "failed", "lost" }, *ids[] = { "2", "5", "77" };
	struct rec_jobs_get since = { .all = true };
	struct world *w = *state;

	begin_keeping(w, 0, 0);
	load_many(w, 6, 10000, 1000);
	loaded(w);
	assert_string_equal(list(w, &(struct rec_jobs_get){ 0 }), "");
	assert_string_equal(list(w, &(struct rec_jobs_get){ .all = true }), "6 5 4 3 2 1");
	assert_string_equal(list(w, &(struct rec_jobs_get){ .all = true, .user = "wang" }), "6 4 2");
	assert_string_equal(list(w, &(struct rec_jobs_get){ .all = true, .states = failed, .n_states = 2 }), "4 1");
	assert_string_equal(list(w, &(struct rec_jobs_get){ .all = true, .ids = ids, .n_ids = 3 }), "5 2");
	assert_string_equal(list(w, &(struct rec_jobs_get){ .all = true, .limit = 2 }), "6 5");
	assert_string_equal(list(w, &(struct rec_jobs_get){ .all = true, .limit = 2, .user = "li" }), "5 3");
	MSG_SET(&since, jobs_get, since_wall_ms, 13000);
	assert_string_equal(list(w, &since), "6 5 4");
}

TEST(ten_thousand_jobs_come_in_pieces_each_once)
{
	struct world *w = *state;
	uint64_t l, next = 10000;
	size_t pieces = 0;
	struct msg m;
	struct err e;

	begin_keeping(w, 20000, 0);
	load_many(w, 10000, 1000, 1);
	loaded(w);
	l = link_up(w, WHO_LOCAL, NULL, "client");
	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.all = true;
	say(w, l, &m);
	for (size_t i = 0; i < w->n_sent; i++) {
		if (w->sent[i].link != l || strncmp(w->sent[i].text, "{\"t\":\"jobs\"", 11) != 0)
			continue;
		assert_true(strlen(w->sent[i].text) < 320 * 1024); /* a frame on the coordinator's own socket */
		assert_int_equal(msg_decode(w->sent[i].text, strlen(w->sent[i].text), &m, &e), 0);
		for (size_t k = 0; k < m.u.jobs.n_jobs; k++)
			assert_int_equal(m.u.jobs.jobs[k].job, next--);
		assert_int_equal(m.u.jobs.more, next > 0);
		msg_finish(&m);
		pieces++;
	}
	assert_int_equal(next, 0);
	assert_true(pieces > 10);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(of_many_ranks_the_cause_and_the_counts_are_kept),
		T(what_is_kept_is_the_same_from_the_shorter_row),
		T(of_a_few_ranks_all_are_kept),
		T(a_job_that_has_just_ended_is_kept_in_the_same_way),
		T(the_oldest_go_when_there_are_too_many),
		T(who_ended_first_goes_first_not_who_came_first),
		T(the_number_of_a_job_that_has_gone_is_not_given_again),
		T(what_ended_too_many_days_ago_goes_by_and_by),
		T(who_has_left_GPUs_that_are_not_clean_yet_stays),
		T(without_days_nothing_is_too_old),
		T(jobs_are_picked_by_what_is_known_of_them),
		T(ten_thousand_jobs_come_in_pieces_each_once),
	};

	return cmocka_run_group_tests_name("coord history", tests, NULL, NULL);
}
