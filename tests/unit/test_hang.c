/* test_hang.c - scenarios of running jobs, and what is to be said of each */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/hang.h"

/* Ranks 0..3, two on each of gpu01 and gpu02, in one of these ways. */
enum way { WORK, SPIN, SPIN_DARK, TOKENISE, WRITE, FROZEN, REST, STOP, NFS, SYNC, FLUSH, DEBUG, DIED, DARK, COMPUTE, BLOCKED, PAUSED, MOUNT };

static struct hang_rank rank_in(enum way w, uint32_t rank, int64_t ms)
{
	struct hang_rank r = { .rank = rank, .pid = 4000 + rank, .node = rank < 2 ? "gpu01" : "gpu02", .known = true,
			       .state = 'R', .procs = 1, .cpu_permille = 1000 };
	struct hang_rank idle = { .rank = rank, .pid = 4000 + rank, .node = r.node, .known = true, .idle = true,
				  .idle_ms = ms, .state = 'S', .wchan = "futex_do_wait", .procs = 1 };

	switch (w) {
	case WORK: /* a training at work */
		r.gpu = GPU_FULL;
		r.has_power = true;
		return r;
	case SPIN: /* NCCL's busy-wait */
		r.gpu = GPU_FULL;
		r.has_power = r.low_power = true;
		return r;
	case SPIN_DARK: /* or an evaluation: nobody reads its power */
		r.gpu = GPU_FULL;
		return r;
	case TOKENISE:
		r.gpu = GPU_RESTS;
		r.cpu_permille = 97000;
		r.procs = 128;
		return r;
	case WRITE:
		r.gpu = GPU_RESTS;
		r.cpu_permille = 200;
		r.write_bps = 812000000;
		return r;
	case COMPUTE: /* no GPU */
		return r;
	case FROZEN: /* nobody knows its GPU */
		return idle;
	case REST:
		idle.gpu = GPU_RESTS;
		return idle;
	case BLOCKED: /* sleeps until its GPU is through */
		idle.gpu = GPU_FULL;
		idle.has_power = true;
		return idle;
	case STOP:
		idle.state = 'T';
		idle.state_ms = ms;
		return idle;
	case DEBUG:
		idle.state = 't';
		idle.state_ms = ms;
		return idle;
	case NFS:
		idle.state = 'D';
		idle.state_ms = ms;
		idle.wchan = "nfs_wait";
		return idle;
	case PAUSED:
		idle.state = 'D';
		idle.state_ms = ms;
		idle.wchan = "a frozen cgroup";
		return idle;
	case MOUNT:
		idle.wchan = "request_wait_answer";
		return idle;
	case SYNC:
	case FLUSH:
		idle.gpu = GPU_RESTS;
		idle.flushes = w == FLUSH;
		idle.state = 'D';
		idle.state_ms = ms;
		idle.wchan = "folio_wait_writeback";
		return idle;
	case DIED:
		return (struct hang_rank){ .rank = rank, .pid = 4000 + rank, .node = r.node, .dead = true, .dead_ms = ms,
					   .dead_how = "was killed by signal 9" };
	case DARK:
		return (struct hang_rank){ .rank = rank, .node = r.node };
	}
	return r;
}

static const struct row {
	const char *scenario;
	enum way way[4];
	int64_t ms; /* of what stands */
	enum port_flow flow;
	bool step; /* one was told */
	uint32_t polls;
	uint64_t count[4]; /* all-reduces; all 0: not known */
	const char *phase, *says; /* of the hang, or NULL: there is none */
} rows[] = {
	/* it goes on */
	{ "training", { WORK, WORK, WORK, WORK }, 60000, FLOW_SOME, true, 0, { 0 }, "training", NULL },
	{ "training on one node, ports flat", { WORK, WORK, WORK, WORK }, 60000, FLOW_NONE, true, 0, { 0 }, "training", NULL },
	{ "processes sleep while GPUs compute", { BLOCKED, BLOCKED, BLOCKED, BLOCKED }, 60000, FLOW_SOME, true, 0, { 0 },
	  "training", NULL },
	{ "rank 0 tokenises, others spin in a barrier", { TOKENISE, SPIN, SPIN, SPIN }, 600000, FLOW_NONE, false, 0, { 0 },
	  "tokenising", NULL },
	{ "the same, and counts stand", { TOKENISE, SPIN, SPIN, SPIN }, 600000, FLOW_NONE, false, 9, { 3, 4, 4, 4 },
	  "tokenising", NULL },
	{ "rank 0 tokenises, others sleep", { TOKENISE, REST, REST, REST }, 600000, FLOW_NONE, false, 0, { 0 }, "tokenising",
	  NULL },
	{ "a checkpoint is written", { WRITE, SPIN, SPIN, SPIN }, 600000, FLOW_NONE, true, 9, { 215, 216, 216, 216 },
	  "checkpointing", NULL },
	{ "a checkpoint is synced", { SYNC, SPIN, SPIN, SPIN }, 22000, FLOW_SOME, true, 0, { 0 }, "checkpointing", NULL },
	{ "a checkpoint is synced, nobody sees bytes", { SYNC, SPIN, SPIN, SPIN }, 170000, FLOW_NONE, true, 9, { 215, 216, 216, 216 },
	  "checkpointing", NULL },
	{ "a checkpoint is synced to a slow disk", { SPIN, SPIN, FLUSH, SPIN }, 900000, FLOW_NONE, true, 9, { 216, 216, 215, 216 },
	  "checkpointing", NULL },
	{ "little power, and bytes", { SPIN, SPIN, SPIN, SPIN }, 59000, FLOW_SOME, true, 0, { 0 }, "training", NULL },
	{ "no bytes, power not known: an evaluation", { SPIN_DARK, SPIN_DARK, SPIN_DARK, SPIN_DARK }, 600000, FLOW_NONE, true, 0, { 0 },
	  "training", NULL },
	{ "a barrier for 24 s", { REST, REST, REST, REST }, 24000, FLOW_NONE, true, 0, { 0 }, "idle", NULL },
	{ "one sleeps for 24 s, others spin", { SPIN, REST, SPIN, SPIN }, 24000, FLOW_NONE, true, 0, { 0 }, "training", NULL },
	{ "idle for minutes: a server without requests", { REST, REST, REST, REST }, 600000, FLOW_NONE, false, 0, { 0 },
	  "idle", NULL },
	{ "idle, counts equal", { REST, REST, REST, REST }, 600000, FLOW_NONE, false, 9, { 7, 7, 7, 7 }, "idle", NULL },
	{ "no GPU, CPU used", { COMPUTE, FROZEN, FROZEN, FROZEN }, 600000, FLOW_DARK, false, 0, { 0 }, "busy", NULL },
	{ "a node is silent", { DARK, DARK, SPIN, SPIN }, 600000, FLOW_NONE, true, 0, { 0 }, "training", NULL },
	{ "just stopped", { WORK, STOP, WORK, WORK }, 9000, FLOW_SOME, true, 0, { 0 }, "training", NULL },
	{ "just frozen", { WORK, PAUSED, WORK, WORK }, 9000, FLOW_SOME, true, 0, { 0 }, "training", NULL },
	{ "just in D", { WORK, NFS, WORK, WORK }, 19000, FLOW_SOME, true, 0, { 0 }, "training", NULL },
	{ "just in FUSE", { WORK, MOUNT, WORK, WORK }, 19000, FLOW_SOME, true, 0, { 0 }, "training", NULL },
	{ "just died", { SPIN, DIED, SPIN, SPIN }, 19000, FLOW_NONE, true, 0, { 0 }, "training", NULL },
	{ "rank 1 pauses between what it computes alone, and counts stand for long", { SPIN, REST, SPIN, SPIN }, 6000, FLOW_NONE, true, 9,
	  { 216, 215, 216, 216 }, "training", NULL },
	{ "counts differ for one poll", { SPIN, SPIN, SPIN, SPIN }, 5000, FLOW_SOME, true, 1, { 216, 215, 216, 216 },
	  "training", NULL },
	/* it does not */
	{ "SIGSTOP", { SPIN, SPIN, STOP, SPIN }, 12000, FLOW_NONE, true, 0, { 0 }, "hung",
	  "rank 2 on gpu02 (pid 4002) is stopped (SIGSTOP, state T) for 12 s" },
	{ "SIGSTOP, others compute", { COMPUTE, STOP, COMPUTE, COMPUTE }, 12000, FLOW_DARK, false, 0, { 0 }, "hung",
	  "rank 1 on gpu01 (pid 4001) is stopped" },
	{ "a debugger", { SPIN, SPIN, DEBUG, SPIN }, 12000, FLOW_NONE, true, 0, { 0 }, "hung", "is held by a debugger" },
	{ "docker pause", { SPIN, SPIN, PAUSED, SPIN }, 12000, FLOW_NONE, true, 0, { 0 }, "hung",
	  "rank 2 on gpu02 (pid 4002) is frozen with its cgroup (docker pause, systemctl freeze) for 12 s; the others wait" },
	{ "D in NFS", { SPIN, SPIN, SPIN, NFS }, 42000, FLOW_NONE, true, 0, { 0 }, "hung",
	  "rank 3 on gpu02 (pid 4003) waits for a disk or a driver: state D for 42 s in nfs_wait" },
	{ "FUSE, whose server is gone", { COMPUTE, COMPUTE, MOUNT, COMPUTE }, 42000, FLOW_DARK, true, 0, { 0 }, "hung",
	  "rank 2 on gpu02 (pid 4002) waits for a file system whose server does not answer: neither CPU nor disk used for 42 s "
	  "in request_wait_answer" },
	{ "a sync that never ends", { SYNC, SPIN, SPIN, SPIN }, 200000, FLOW_NONE, true, 0, { 0 }, "hung",
	  "state D for 3 min in folio_wait_writeback" },
	{ "a worker died, its launcher lives", { SPIN, DIED, SPIN, SPIN }, 24000, FLOW_NONE, true, 0, { 0 }, "hung",
	  "rank 1 on gpu01 (pid 4001) was killed by signal 9 24 s ago, and its launcher runs on" },
	{ "one rank is behind", { SPIN, SPIN, SPIN, REST }, 16000, FLOW_NONE, true, 3, { 216, 216, 216, 215 }, "hung",
	  "rank 3 on gpu02 has launched 215 all-reduces, all others 216; neither CPU nor disk used for 16 s in futex_do_wait" },
	{ "one is behind, and of another nothing is told", { SPIN, SPIN, SPIN, REST }, 16000, FLOW_NONE, true, 3, { 216, 0, 216, 215 }, "hung",
	  "rank 3 on gpu02 has launched 215 all-reduces, all others that are known 216; neither CPU nor disk" },
	{ "behind, and in D", { SPIN, NFS, SPIN, SPIN }, 18000, FLOW_NONE, true, 3, { 216, 215, 216, 216 }, "hung",
	  "rank 1 on gpu01 has launched 215 all-reduces, all others 216; state D for 18 s in nfs_wait" },
	{ "two behind", { SPIN, REST, REST, SPIN }, 26000, FLOW_NONE, true, 3, { 216, 1, 1, 216 }, "hung",
	  "rank 1 on gpu01 has launched 1 all-reduce, 1 other fewer than 216 too" },
	{ "one rests, no counts", { SPIN, SPIN, REST, SPIN }, 26000, FLOW_NONE, true, 0, { 0 }, "hung",
	  "rank 2 on gpu02 (pid 4002) does nothing: neither CPU nor disk used for 26 s in futex_do_wait, its GPU idle; "
	  "the GPUs of 3 others wait for it in a kernel" },
	{ "all spin, counts equal", { SPIN, SPIN, SPIN, SPIN }, 26000, FLOW_NONE, true, 3, { 9, 9, 9, 9 }, "hung",
	  "all 4 GPUs wait in a kernel for 26 s, at little power, and all ranks have launched the "
	  "same operations: the network, or a wait outside NCCL; no bytes on the ports of its nodes for 26 s" },
	{ "all spin, counts equal, power not known", { SPIN_DARK, SPIN_DARK, SPIN_DARK, SPIN_DARK }, 26000, FLOW_SOME, true, 3,
	  { 9, 9, 9, 9 }, "hung", "same operations: the network, or a wait outside NCCL; bytes move on the ports of its nodes, for storage" },
	{ "bytes of somebody for a minute", { SPIN, SPIN, SPIN, SPIN }, 61000, FLOW_SOME, true, 0, { 0 }, "hung",
	  "bytes move on the ports of its nodes, for storage or another job perhaps" },
	{ "counts stand, bytes of somebody", { SPIN, SPIN, SPIN, REST }, 26000, FLOW_SOME, true, 3, { 216, 216, 216, 215 }, "hung",
	  "rank 3 on gpu02 has launched 215 all-reduces, all others 216; neither CPU nor disk used for 26 s in futex_do_wait; "
	  "bytes move" },
	{ "one is behind and spins", { SPIN, SPIN, SPIN, SPIN }, 26000, FLOW_NONE, true, 3, { 9, 8, 9, 9 }, "hung",
	  "rank 1 on gpu01 has launched 8 all-reduces, all others 9; 100 % CPU; no bytes on the ports of its nodes for 26 s" },
	{ "a sync that takes half an hour", { FLUSH, SPIN, SPIN, SPIN }, 1810000, FLOW_NONE, true, 0, { 0 }, "hung",
	  "state D for 30 min in folio_wait_writeback" },
	{ "all spin, counts not known", { SPIN, SPIN, SPIN, SPIN }, 26000, FLOW_NONE, true, 0, { 0 }, "hung",
	  "which rank is behind is not known without NCCL's counts" },
};

static void judge(const struct row *row, struct hang_out *out)
{
	struct hang_rank v[4];
	struct hang_in in = { .v = v, .n = 4, .nodes = 2, .run_ms = 3600000, .stalled_ms = row->ms, .flow = row->flow,
			      .flow_ms = row->ms, .polls = row->polls, .has_step = row->step,
			      .step_ms = 300000 };

	for (uint32_t i = 0; i < 4; i++) {
		v[i] = rank_in(row->way[i], i, row->ms);
		v[i].counted = row->count[i] != 0;
		v[i].count[OP_ALL_REDUCE] = row->count[i];
	}
	hang_judge(&in, out);
}

static void each_scenario_has_its_verdict(void **state)
{
	struct hang_out out;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];

		judge(row, &out);
		if (out.hang != (row->says != NULL) || strcmp(out.phase, row->phase) != 0 ||
		    (row->says != NULL && strstr(out.text, row->says) == NULL))
			fail_msg("%s: %s: %s%s", row->scenario, out.phase, out.text, out.note);
	}
}

/* Idle ranks are no hang by themselves. */
static void who_does_not_come_to_the_initialisation_is_named(void **state)
{
	static const struct {
		enum way first, late;
		int64_t ms;
		bool hang;
	} cases[] = { { REST, REST, 24000, false }, { REST, REST, 26000, true }, { FROZEN, FROZEN, 26000, true }, { TOKENISE, REST, 600000, false },
		      { REST, TOKENISE, 600000, false }, /* it comes */ { DARK, REST, 600000, false } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hang_rank v[3] = { rank_in(cases[i].first, 0, cases[i].ms), rank_in(REST, 1, cases[i].ms), rank_in(cases[i].late, 2, cases[i].ms) };
		struct hang_in in = { .v = v, .n = 3, .nodes = 2, .run_ms = 3600000, .stalled_ms = cases[i].ms, .late = "rank 2 on gpu02", .late_node = "gpu02" };
		struct hang_out out;

		hang_judge(&in, &out);
		if (out.hang != cases[i].hang)
			fail_msg("case %zu: %s %s", i, out.phase, out.text);
		if (!out.hang)
			continue;
		assert_non_null(strstr(out.text, "rank 2 on gpu02 has not come to NCCL's initialisation, where others wait"));
		assert_true(out.patient);
		assert_string_equal(out.node, "gpu02");
		in.late = NULL;
		hang_judge(&in, &out);
		assert_false(out.hang);
	}
	(void)state;
}

/* All spin, at little power, for ten minutes: a small model does so while it trains. */
static void a_step_that_advances_holds_the_rule_of_power_off(void **state)
{
	static const struct {
		int64_t step_ms, gap_ms;
		uint32_t polls;
		bool hang;
	} cases[] = {
		{ 4000, 5000, 0, false },     { 4000, 0, 0, false },	    { 9000, 100, 0, false },	{ 11000, 5000, 0, true },
		{ 110000, 60000, 0, false },  { 121000, 60000, 0, true },  { 601000, 3600000, 0, true }, { 9000, 60000, 3, false },
		{ 11000, 60000, 3, true }, /* NCCL's counts are newer than the step */
	};
	struct hang_rank v[4];
	struct hang_out out;

	for (uint32_t i = 0; i < 4; i++)
		v[i] = rank_in(SPIN, i, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hang_in in = { .v = v, .n = 4, .nodes = 2, .run_ms = 3600000, .stalled_ms = 600000, .has_step = true,
				      .step_ms = cases[i].step_ms, .step_gap_ms = cases[i].gap_ms, .polls = cases[i].polls };

		hang_judge(&in, &out);
		if (out.hang != cases[i].hang || !out.stalled)
			fail_msg("case %zu: %s", i, out.text);
		assert_string_equal(out.phase, cases[i].hang ? "hung" : "training");
	}
}

static void a_stopped_rank_has_its_remedy(void **state)
{
	static const struct row row = { "", { SPIN, SPIN, STOP, SPIN }, 12000, FLOW_NONE, true, 0, { 0 }, NULL, NULL };
	struct hang_out out;

	judge(&row, &out);
	assert_string_equal(out.fix, "on gpu02: kill -CONT 4002");
}

static const struct row *row_named(const char *scenario)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].scenario, scenario) == 0)
			return &rows[i];
	fail_msg("no row %s", scenario);
	return NULL;
}

static void the_phase_says_by_what_it_is_known(void **state)
{
	struct hang_out out;

	judge(row_named("rank 0 tokenises, others spin in a barrier"), &out);
	assert_string_equal(out.note, "rank 0 on gpu01 (pid 4000): 9700 % CPU, 128 processes; all 3 others wait");
	judge(row_named("a checkpoint is written"), &out);
	assert_string_equal(out.note, "rank 0 on gpu01 (pid 4000) writes 812 MB/s; all 3 others wait");
	judge(row_named("a checkpoint is synced to a slow disk"), &out);
	assert_string_equal(out.note, "rank 2 on gpu02 (pid 4002) syncs what it has written: state D for 15 min in folio_wait_writeback");
}

/* At this moment, and it may well be another one in the next. */
static void a_rank_that_all_others_wait_for_is_named(void **state)
{
	static const struct row rows_[] = {
		{ "", { SPIN, WORK, SPIN, SPIN }, 60000, FLOW_SOME, true, 0, { 0 }, NULL, "rank 1 on gpu01 (pid 4001): its GPU works; all 3 others wait" },
		{ "", { FROZEN, FROZEN, COMPUTE, FROZEN }, 60000, FLOW_DARK, true, 0, { 0 }, NULL,
		  "rank 2 on gpu02 (pid 4002): 100 % CPU, 1 process; all 3 others wait" },
		{ "two", { SPIN, WORK, WORK, SPIN }, 60000, FLOW_SOME, true, 0, { 0 }, NULL, "" },
		{ "all", { WORK, WORK, WORK, WORK }, 60000, FLOW_SOME, true, 0, { 0 }, NULL, "" },
		{ "one is not known", { SPIN, WORK, SPIN, DARK }, 60000, FLOW_SOME, true, 0, { 0 }, NULL, "" },
	};
	struct hang_out out;

	for (size_t i = 0; i < sizeof(rows_) / sizeof(rows_[0]); i++) {
		judge(&rows_[i], &out);
		assert_false(out.hang);
		assert_string_equal(out.note, rows_[i].says);
	}
}

static void nothing_known_is_no_hang(void **state)
{
	struct hang_in in = { .run_ms = 3600000 };
	struct hang_out out;

	hang_judge(&in, &out);
	assert_false(out.hang || out.stalled);
	assert_string_equal(out.phase, "");
	in.run_ms = 1000;
	hang_judge(&in, &out);
	assert_string_equal(out.phase, "starting");
}

/* A small model, or one that answers questions: its GPU is always in some kernel, and takes little power. */
static void a_job_of_one_rank_waits_for_nobody(void **state)
{
	struct hang_rank v[2] = { rank_in(SPIN, 0, 0), rank_in(SPIN, 1, 0) };
	struct hang_in in = { .v = v, .n = 1, .nodes = 1, .run_ms = 3600000, .stalled_ms = 600000 };
	struct hang_out out;

	hang_judge(&in, &out);
	assert_false(out.hang);
	in.n = 2;
	hang_judge(&in, &out);
	assert_true(out.hang);
}

/* The world's counts are equal, and a rank is behind in a smaller communicator (tensor parallel): not the network. */
static void equal_counts_of_one_communicator_are_not_those_of_all(void **state)
{
	struct hang_rank v[2] = { rank_in(SPIN, 0, 0), rank_in(SPIN, 1, 0) };
	struct hang_in in = { .v = v, .n = 2, .nodes = 1, .run_ms = 3600000, .stalled_ms = 600000, .polls = HANG_POLLS };
	struct hang_out out;

	v[0].counted = v[1].counted = true;
	hang_judge(&in, &out);
	assert_true(out.hang);
	assert_non_null(strstr(out.text, "all ranks have launched the same operations"));
	in.elsewhere = true;
	hang_judge(&in, &out);
	assert_true(out.hang);
	assert_null(strstr(out.text, "same operations"));
	assert_non_null(strstr(out.text, "in another of its communicators a rank is behind"));
}

/* Looks every 5 s, as a shim reports them: when is it said? */
static void a_frozen_rank_is_named_within_30_s(void **state)
{
	for (int64_t late = 0; late <= 5000; late += 1000) { /* the last look that saw progress came so much after its end */
		struct hang_out out = { .hang = false };
		int64_t ms = 0;

		while (!out.hang && ms < 60000) {
			struct row row = { "", { SPIN, REST, SPIN, SPIN }, ms - late, FLOW_NONE, true, 0, { 0 }, NULL, NULL };

			judge(&row, &out);
			ms += out.hang ? 0 : 1000;
		}
		assert_true(ms >= 25000 && ms <= 30000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_scenario_has_its_verdict),
		cmocka_unit_test(a_step_that_advances_holds_the_rule_of_power_off),
		cmocka_unit_test(who_does_not_come_to_the_initialisation_is_named),
		cmocka_unit_test(a_stopped_rank_has_its_remedy),
		cmocka_unit_test(the_phase_says_by_what_it_is_known),
		cmocka_unit_test(a_rank_that_all_others_wait_for_is_named),
		cmocka_unit_test(nothing_known_is_no_hang),
		cmocka_unit_test(a_job_of_one_rank_waits_for_nobody),
		cmocka_unit_test(equal_counts_of_one_communicator_are_not_those_of_all),
		cmocka_unit_test(a_frozen_rank_is_named_within_30_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
