/* test_coord_story.c - the moments of a job that the coordinator keeps */
#include "coord_world.h"

#include "core/coord_internal.h"

/* One node, job 1 submitted there by li and running. */
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

/* How many moments hold this text. */
static unsigned told(struct world *w, const char *text)
{
	unsigned n = 0;
	struct msg m;
	const struct rec_job_info *j = job_one(w, &m);

	for (size_t i = 0; i < j->n_story; i++)
		n += strstr(j->story[i].text, text) != NULL;
	msg_finish(&m);
	return n;
}

static void a_job_tells_how_it_came_to_its_end(void **state)
{
	static const char *const texts[] = { "submitted by li", "placed on gpu01, attempt 1", "prepared",
					     "started: 1 process", "rank 0 (gpu01, pid 77) exited with code 3",
					     "failed, exit code 3" };
	struct world *w = *state;
	uint64_t l = running_one(w);
	const struct rec_job_info *j;
	struct msg m;

	ranks(w, l, 0, "exited", 3);
	store(w);
	ended(w, l, 0, "exited", 3, false);
	store(w);
	j = job_one(w, &m);
	assert_int_equal(j->n_story, 6); /* there are no others to end */
	for (size_t i = 0; i < 6; i++) {
		assert_non_null(strstr(j->story[i].text, texts[i]));
		assert_true(i == 0 || j->story[i].wall_us >= j->story[i - 1].wall_us);
	}
	msg_finish(&m);
}

/* A job of launchers, each of which has said what its 16 workers did. */
static uint64_t many_launchers(struct world *w, uint32_t n)
{
	static char ugly[1001];
	struct rec_rank_state *r = calloc(n, sizeof(*r));
	struct rec_worker v[16] = { { .rank = 0 } };
	uint64_t l = node_up(w, "gpu01");
	struct msg m;

	assert_non_null(r);
	memset(ugly, '"', 1000);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = "c1";
	m.u.submit.command = "torchrun";
	m.u.submit.procs_per_node = n;
	m.u.submit.spec_hash = (struct bytes){ (const uint8_t *)"0123456789abcdef0123456789abcdef", 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	say(w, l, &m);
	store(w);
	w->job = 1;
	prepared(w, l, true);
	for (uint32_t k = 0; k < 16; k++)
		v[k] = (struct rec_worker){ .rank = k, .pid = 100 + k, .state = "exited", .exception = ugly };
	for (uint32_t k = 0; k < n; k++)
		r[k] = (struct rec_rank_state){ .rank = k, .state = "running", .pid = 77, .exception = ugly,
						.workers = v, .n_workers = 16 };
	msg_init(&m, MSG_ranks);
	m.u.ranks.job = 1;
	m.u.ranks.attempt = 1;
	m.u.ranks.ranks = r;
	m.u.ranks.n_ranks = n;
	say(w, l, &m);
	free(r);
	return l;
}

static void a_job_of_4096_launchers_comes_in_pieces_that_fit_a_frame(void **state)
{
	struct world *w = *state;
	uint32_t next = 0, pieces = 0;
	uint64_t adm;
	struct msg m;
	struct err e;

	many_launchers(w, 4096);
	adm = link_up(w, WHO_LOCAL, NULL, "client");
	forget_sent(w);
	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.rid = 1;
	MSG_SET(&m.u.jobs_get, jobs_get, job, 1);
	say(w, adm, &m);
	for (size_t i = 0; i < w->n_sent; i++) {
		const struct rec_job_info *j;

		assert_true(strlen(w->sent[i].text) < 1048576);
		assert_int_equal(msg_decode(w->sent[i].text, strlen(w->sent[i].text), &m, &e), 0);
		assert_int_equal(m.type, MSG_jobs);
		j = m.u.jobs.jobs;
		for (size_t k = 0; k < j->n_ranks; k++)
			assert_int_equal(j->ranks[k].rank, next++);
		assert_int_equal(j->ranks[0].n_workers, 16);
		assert_int_equal(j->n_story > 0, pieces == 0);
		assert_int_equal(m.u.jobs.more, next < 4096);
		pieces++;
		msg_finish(&m);
	}
	assert_int_equal(next, 4096);
	assert_true(pieces > 10);
}

static void what_was_told_survives_the_coordinator(void **state)
{
	struct world *w = *state;

	running_one(w);
	store(w);
	tick(w, 2500);
	store(w); /* nothing has happened since it started: its story was written alone */
	restart(w);
	node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	tick(w, 10);
	assert_int_equal(told(w, "started: 1 process"), 1);
	assert_int_equal(told(w, "the coordinator was restarted"), 1);
}

static void what_a_full_disk_did_not_take_is_written_when_there_is_room(void **state)
{
	struct world *w = *state;

	running_one(w);
	store(w);
	w->disk_full = true;
	tick(w, 2500);
	store(w);
	w->disk_full = false;
	tick(w, 2500);
	store(w);
	restart(w);
	node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	tick(w, 10);
	assert_int_equal(told(w, "started: 1 process"), 1);
}

static void a_node_that_is_away_and_back_is_told_once_each(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct msg m;

	tick(w, 10000);
	msg_init(&m, MSG_ping);
	say(w, l, &m);
	tick(w, 1000);
	assert_int_equal(told(w, "unreachable"), 1);
	assert_int_equal(told(w, "heard again"), 1);
}

static void a_kill_is_told_with_who_asked_for_it(void **state)
{
	struct world *w = *state;
	uint64_t l = running_one(w);
	struct msg m;

	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, l, &m);
	store(w);
	assert_int_equal(told(w, "li asked for its end, with a grace of 30.0 s"), 1);
}

/* Only the beginning and the end are kept of a story that is too long. */
static void moments_in_the_middle_go_first_and_are_counted(void **state)
{
	struct coord *c = ((struct world *)*state)->c;
	struct job j = { .story_save = MONO_NEVER };

	c->wall_ms = 1000;
	for (int i = 0; i < 100; i++)
		job_tell(c, &j, NULL, 0, 0, "moment %d", i);
	assert_int_equal(j.story.n, STORY_MAX);
	assert_int_equal(j.story.dropped, 100 - STORY_MAX);
	assert_string_equal(j.story.v[0].text, "moment 0");
	assert_string_equal(j.story.v[31].text, "moment 31");
	assert_string_equal(j.story.v[32].text, "moment 68");
	assert_string_equal(j.story.v[63].text, "moment 99");
	story_free(&j);
}

static void what_is_told_late_goes_where_it_belongs(void **state)
{
	struct coord *c = ((struct world *)*state)->c;
	struct job j = { .story_save = MONO_NEVER };

	for (c->wall_ms = 1000; c->wall_ms < 1005; c->wall_ms++)
		job_tell(c, &j, NULL, 0, 0, "at %d", (int)c->wall_ms);
	job_tell(c, &j, "gpu02", 1002500, 300, "died");
	assert_string_equal(j.story.v[2].text, "at 1002");
	assert_string_equal(j.story.v[3].text, "died");
	assert_string_equal(j.story.v[3].node, "gpu02");
	assert_string_equal(j.story.v[4].text, "at 1003");
	story_free(&j);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_job_tells_how_it_came_to_its_end),
		T(a_job_of_4096_launchers_comes_in_pieces_that_fit_a_frame),
		T(what_was_told_survives_the_coordinator),
		T(what_a_full_disk_did_not_take_is_written_when_there_is_room),
		T(a_node_that_is_away_and_back_is_told_once_each),
		T(a_kill_is_told_with_who_asked_for_it),
		T(moments_in_the_middle_go_first_and_are_counted),
		T(what_is_told_late_goes_where_it_belongs),
	};

	return cmocka_run_group_tests_name("coord_story", tests, NULL, NULL);
}
