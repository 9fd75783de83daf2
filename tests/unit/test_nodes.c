/* test_nodes.c - rows that nodes may share, their order, and matters told once */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/attention.h"
#include "client/nodes.h"

#define TEST(name) static void name(void **state)
#define N 12

static struct buf b;
static char names[N][16];
static struct rec_node_info nodes[N];
static struct rec_status status;

/* N nodes gpu01.. that are equal in all that is shown. */
static int setup(void **state)
{
	buf_init(&b);
	memset(nodes, 0, sizeof(nodes));
	for (unsigned i = 0; i < N; i++) {
		struct rec_node_info *n = &nodes[i];

		snprintf(names[i], sizeof(names[i]), "gpu%02u", i + 1);
		n->name = names[i];
		n->state = "ok";
		MSG_SET(n, node_info, age_ms, i * 100);
		MSG_SET(n, node_info, gpus, 8);
		MSG_SET(n, node_info, gpus_busy, 0);
		MSG_SET(n, node_info, ports, 8);
		MSG_SET(n, node_info, ports_active, 8);
		MSG_SET(n, node_info, skew_us, (int64_t)i * 10 - 50);
	}
	status = (struct rec_status){ .cluster = "lab", .nodes = nodes, .n_nodes = N };
	return 0;
}

static int teardown(void **state)
{
	buf_finish(&b);
	return 0;
}

static const char *table_of(struct nodes_view view)
{
	struct out *o;

	buf_reset(&b);
	o = out_text_create(&b, view.columns, false);
	out_start(o, NULL, OUT_OBJECT);
	nodes_table(o, &status, &view);
	out_end(o);
	out_destroy(o);
	return buf_str(&b);
}

static const char *grouped(void)
{
	return table_of((struct nodes_view){ .group = true, .columns = 80 });
}

TEST(equal_nodes_share_a_row)
{
	assert_string_equal(grouped(), "NODE        STATE  GPUS  IB   SKEW\n"
				       "gpu[01-12]  ok     0/8   8/8  <10ms\n");
}

TEST(without_grouping_each_has_its_own)
{
	unsigned lines = 0;

	for (const char *s = table_of((struct nodes_view){ .columns = 80 }); *s; s++)
		lines += *s == '\n';
	assert_int_equal(lines, N + 1);
	assert_non_null(strstr(buf_str(&b), "gpu01  ok     0/8   8/8  -0.1ms\n"));
}

/* Whatever a row shows keeps a node that differs in it out of the others' row. */
TEST(every_cell_that_is_shown_must_be_equal)
{
	static const char *const jobs[] = { "17" };
	struct rec_node_info *n = &nodes[4];
	const struct rec_node_info plain = *n;

	for (int i = 0; i < 8; i++) {
		*n = plain;
		if (i == 0)
			n->state = "draining";
		else if (i == 1)
			n->gpus = 7;
		else if (i == 2)
			n->gpus_busy = 1;
		else if (i == 3)
			n->ports_active = 7;
		else if (i == 4)
			n->has &= ~MSG_BIT(node_info, ports);
		else if (i == 5)
			n->skew_us = 20000;
		else if (i == 6)
			n->note = "something";
		else
			n->job_ids = (const char **)(uintptr_t)jobs, n->n_job_ids = 1;
		assert_non_null(strstr(grouped(), "\ngpu[01-04,06-12]  ok "));
		assert_non_null(strstr(buf_str(&b), "\ngpu05 "));
	}
}

TEST(what_is_not_shown_does_not_part_them)
{
	nodes[3].cpus = 64;
	nodes[4].software = "0.2.0";
	nodes[5].age_ms = 2000;
	nodes[6].address = "10.0.0.7";
	assert_non_null(strstr(grouped(), "\ngpu[01-12]  ok "));
}

TEST(one_alone_shows_its_exact_clock_and_age)
{
	nodes[6].skew_us = 43210;
	nodes[7].state = nodes[8].state = "unreachable";
	nodes[7].age_ms = 185000;
	nodes[8].age_ms = 245000;
	assert_string_equal(grouped(), "NODE              STATE        GPUS  IB   SKEW     NOTE\n"
				       "gpu[08-09]        unreachable  0/8   8/8  <10ms    last heard <10m ago\n"
				       "gpu[01-06,10-12]  ok           0/8   8/8  <10ms\n"
				       "gpu07             ok           0/8   8/8  +43.2ms\n");
	nodes[8].age_ms = 700000;
	assert_non_null(strstr(grouped(), "last heard 3m ago\n"));
	assert_non_null(strstr(buf_str(&b), "last heard 11m ago\n"));
}

TEST(trouble_comes_first_then_the_natural_order)
{
	static struct rec_attention warn = { .severity = "warn", .subject = "gpu10", .text = "late" },
				    bad = { .severity = "bad", .subject = "gpu11", .text = "gone. Really" };
	const char *s;

	status.n_nodes = 0;
	for (unsigned i = 0; i < N; i++) /* the other way round */
		nodes[i].name = names[N - 1 - i];
	nodes[0].state = "degraded"; /* gpu12 */
	nodes[5].state = "down"; /* gpu07 */
	nodes[6].state = "unreachable"; /* gpu06 */
	nodes[2].attention = &warn; /* gpu10 */
	nodes[1].attention = &bad; /* gpu11 */
	nodes[1].n_attention = nodes[2].n_attention = 1;
	status.n_nodes = N;
	s = table_of((struct nodes_view){ .columns = 80 });
	for (const char *const *want = (const char *const[]){ "gpu07", "gpu06", "gpu12", "gpu11", "gpu10", "gpu01",
							      "gpu02", "gpu03", "gpu04", "gpu05", "gpu08", "gpu09", NULL };
	     *want; want++) {
		s = strchr(s, '\n') + 1;
		assert_memory_equal(s, *want, 5);
	}
	assert_non_null(strstr(buf_str(&b), "gone\n")); /* the first sentence, without the node's name */
}

/* The coordinator's few words and their age, exact for one, about for some. */
TEST(trouble_is_noted_in_a_few_words_with_its_age)
{
	static struct rec_attention bad = { .severity = "bad", .subject = "gpu01 mlx5_2",
					    .text = "Initializing: the cable is up, but no subnet manager" };

	status.wall_ms = 1000000;
	for (unsigned i = 0; i < 3; i++) {
		nodes[i].state = "degraded";
		nodes[i].brief = "mlx5_2 Initializing";
		MSG_SET(&nodes[i], node_info, brief_since_wall_ms, 1000000 - 185000 - 60000 * (int64_t)i);
		nodes[i].attention = &bad;
		nodes[i].n_attention = 1;
	}
	assert_non_null(strstr(table_of((struct nodes_view){ .columns = 80 }), "  mlx5_2 Initializing 3m\n"));
	assert_non_null(strstr(buf_str(&b), "  mlx5_2 Initializing 5m\n"));
	assert_non_null(strstr(grouped(), "\ngpu[04-12]  ok "));
	assert_non_null(strstr(buf_str(&b), "  mlx5_2 Initializing <10m\n"));
	nodes[0].brief = "drained: new disks in bay 2"; /* his words end where they end */
	assert_non_null(strstr(table_of((struct nodes_view){ .columns = 80 }), "  drained: new disks in bay 2 (3m)\n"));
	nodes[0].brief = "mlx5_2 Initializing";
	nodes[0].brief_since_wall_ms = 1000001; /* from the future: no age, and never a huge one */
	assert_non_null(strstr(table_of((struct nodes_view){ .columns = 80 }), "  mlx5_2 Initializing\n"));
	status.wall_ms = 0;
}

TEST(a_list_too_long_for_its_column_says_how_many_it_stands_for)
{
	for (unsigned i = 0; i < N; i += 2)
		nodes[i].gpus_busy = 8;
	assert_non_null(strstr(grouped(), "\ngpu[02,04,06,.. (6)"));
	assert_non_null(strstr(table_of((struct nodes_view){ .group = true, .columns = 200 }),
			       "\ngpu[02,04,06,08,10,12] "));
}

TEST(columns_that_nobody_has_are_absent)
{
	for (unsigned i = 0; i < N; i++)
		nodes[i].has = 0, nodes[i].gpus = nodes[i].ports = 0;
	assert_string_equal(grouped(), "NODE        STATE\ngpu[01-12]  ok\n");
	MSG_SET(&nodes[0], node_info, gpus, 0); /* counted, and none: still no column */
	MSG_SET(&nodes[0], node_info, skew_ref, true);
	assert_string_equal(grouped(), "NODE        STATE\ngpu[01-12]  ok\n");
	MSG_SET(&nodes[1], node_info, gpus, 8);
	assert_string_equal(grouped(), "NODE        STATE  GPUS\n"
				       "gpu01       ok     -\n"
				       "gpu02       ok     ?/8\n"
				       "gpu[03-12]  ok     ?\n");
}

TEST(what_should_be_known_and_is_not_has_a_column)
{
	for (unsigned i = 0; i < N; i++) {
		nodes[i].has = 0, nodes[i].gpus = nodes[i].ports = 0;
		nodes[i].gpus_unknown = nodes[i].ports_unknown = true;
	}
	assert_string_equal(grouped(), "NODE        STATE  GPUS  IB\n"
				       "gpu[01-12]  ok     ?     ?\n");
	nodes[2].gpus_unknown = false;
	MSG_SET(&nodes[2], node_info, gpus, 0);
	MSG_SET(&nodes[2], node_info, gpus_busy, 0);
	assert_non_null(strstr(grouped(), "gpu03             ok     -     ?\n"));
}

static const char *gpus(void)
{
	buf_reset(&b);
	nodes_gpus(&b, &status);
	return buf_str(&b);
}

TEST(sums_say_of_how_many_nodes_nothing_is_known)
{
	nodes[0].gpus_busy = 8;
	assert_string_equal(gpus(), "GPUs 8 busy / 96");
	nodes[1].has &= ~MSG_BIT(node_info, gpus);
	nodes[1].gpus = 0;
	assert_string_equal(gpus(), "GPUs 8 busy / 88, ? on 1 node");
	for (unsigned i = 0; i < N; i++)
		nodes[i].has &= ~MSG_BIT(node_info, gpus_busy);
	assert_string_equal(gpus(), "GPUs ? busy / 88");
	for (unsigned i = 0; i < N; i++)
		nodes[i].gpus = 0;
	assert_string_equal(gpus(), "");
	nodes[1].gpus_unknown = true;
	assert_string_equal(gpus(), "GPUs ? on 1 node"); /* the others have none */
	for (unsigned i = 2; i < N; i++)
		nodes[i].has &= ~MSG_BIT(node_info, gpus);
	assert_string_equal(gpus(), "GPUs ? on 11 nodes");
	nodes[0].has &= ~MSG_BIT(node_info, gpus);
	assert_string_equal(gpus(), "GPUs ?");
}

/* ---- attention ----------------------------------------------------------- */

static const char *lines(void)
{
	struct out *o;

	buf_reset(&b);
	o = out_text_create(&b, 200, false);
	out_start(o, NULL, OUT_OBJECT);
	attention_lines(o, &status);
	out_end(o);
	out_destroy(o);
	return buf_str(&b);
}

static void says(unsigned node, const char *severity, const char *subject, const char *text, const char *fix)
{
	static struct rec_attention all[N];

	all[node] = (struct rec_attention){ .severity = severity, .subject = subject, .text = text, .fix = fix };
	nodes[node].attention = &all[node];
	nodes[node].n_attention = 1;
}

TEST(the_same_of_many_is_one_line_with_a_host_list)
{
	says(2, "bad", "gpu03 mlx5_2", "gpu03 has no manager", "nodectl drain gpu03");
	says(3, "bad", "gpu04 mlx5_2", "gpu04 has no manager", "nodectl drain gpu04");
	says(4, "bad", "gpu05: mlx5_2", "gpu05 has no manager", "nodectl drain gpu05");
	assert_string_equal(lines(), "! gpu[03-05] mlx5_2: gpu[03-05] has no manager  fix: nodectl drain gpu[03-05]\n");
}

TEST(gpus_of_a_node_are_listed_by_their_numbers)
{
	static struct rec_attention v[3];

	for (unsigned i = 0; i < 3; i++)
		v[i] = (struct rec_attention){ .severity = "warn", .subject = i == 0 ? "gpu03 GPU 0" : i == 1 ?
					       "gpu03 GPU 3" : "gpu03 GPU 3", .text = "is used by strangers" };
	nodes[2].attention = v;
	nodes[2].n_attention = 3;
	assert_string_equal(lines(), "! gpu03 GPUs 0, 3: is used by strangers\n");
	nodes[2].n_attention = 1;
	assert_string_equal(lines(), "! gpu03 GPU 0: is used by strangers\n");
}

TEST(a_name_within_a_longer_one_is_left_alone)
{
	says(0, "bad", "gpu01", "gpu01.lab and xgpu01 and gpu012 are not gpu01.", NULL);
	says(1, "bad", "gpu02", "gpu01.lab and xgpu01 and gpu012 are not gpu02.", NULL);
	assert_string_equal(lines(), "! gpu[01-02]: gpu01.lab and xgpu01 and gpu012 are not gpu[01-02].\n");
}

TEST(what_differs_is_not_thrown_together)
{
	says(0, "bad", "gpu01 mlx5_2", "down", "cable");
	says(1, "warn", "gpu02 mlx5_2", "down", "cable");
	says(2, "bad", "gpu03 mlx5_2", "down", "switch");
	says(3, "bad", "gpu04 mlx5_2", "up", "cable");
	assert_string_equal(lines(), "! gpu01 mlx5_2: down  fix: cable\n"
				     "! gpu03 mlx5_2: down  fix: switch\n"
				     "! gpu04 mlx5_2: up  fix: cable\n"
				     "! gpu02 mlx5_2: down  fix: cable\n");
}

TEST(a_subject_that_is_no_node_stands_for_itself)
{
	says(0, "warn", "subnet manager", "stopped", NULL);
	says(1, "warn", "gpu020", "is not gpu02", NULL);
	assert_string_equal(lines(), "! subnet manager: stopped\n! gpu020: is not gpu02\n");
}

TEST(a_state_without_a_word_gets_the_usual_remedy)
{
	nodes[0].state = nodes[1].state = "down";
	nodes[0].note = nodes[1].note = "its agent is not running";
	nodes[2].state = "degraded";
	says(3, "bad", "gpu04", "explained", NULL);
	nodes[3].state = "unreachable";
	assert_string_equal(lines(), "! gpu[01-02]: down, its agent is not running  fix: on gpu[01-02]: systemctl status "
				     "nodeagentd, and the network to this host\n"
				     "! gpu04: explained\n"
				     "! gpu03: degraded\n");
}

TEST(a_node_that_was_never_heard_is_to_be_started_first)
{
	nodes[0].state = nodes[1].state = "down";
	nodes[0].note = nodes[1].note = "note";
	nodes[0].has = nodes[1].has = 0;
	nodes[1].boot_id = "a boot that the coordinator has stored";
	assert_string_equal(lines(), "! gpu01: down, note  fix: on gpu01: systemctl enable --now nodeagentd; if it runs there, the "
				     "network to this host\n"
				     "! gpu02: down, note  fix: on gpu02: systemctl status nodeagentd, and the network to this host\n");
}

TEST(nodes_of_a_standalone_cluster_have_no_units)
{
	status.cluster = NA_STANDALONE;
	nodes[0].state = nodes[1].state = "down";
	nodes[2].state = "unreachable";
	nodes[2].note = "silent";
	assert_string_equal(lines(), "! gpu[01-02]: down, last heard 0s ago  fix: start nodeagentd --standalone again with enough "
				     "--virtual-nodes, or take gpu[01-02] out with nodectl node-remove\n"
				     "! gpu03: unreachable, silent  fix: see whether its process is stopped: ps -C nodeagentd -o "
				     "pid,stat,args\n");
}

TEST(a_remedy_that_does_not_fit_has_a_line_of_its_own)
{
	struct out *o;

	says(0, "bad", "gpu01", "one two three four five six", "do this and that");
	o = out_text_create(&b, 36, false);
	out_start(o, NULL, OUT_OBJECT);
	attention_of_node(o, "lab", &nodes[0]);
	out_end(o);
	out_destroy(o);
	assert_string_equal(buf_str(&b), "! gpu01: one two three four five six\n  fix: do this and that\n");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(equal_nodes_share_a_row),
		T(without_grouping_each_has_its_own),
		T(every_cell_that_is_shown_must_be_equal),
		T(what_is_not_shown_does_not_part_them),
		T(one_alone_shows_its_exact_clock_and_age),
		T(trouble_comes_first_then_the_natural_order),
		T(trouble_is_noted_in_a_few_words_with_its_age),
		T(a_list_too_long_for_its_column_says_how_many_it_stands_for),
		T(columns_that_nobody_has_are_absent),
		T(what_should_be_known_and_is_not_has_a_column),
		T(sums_say_of_how_many_nodes_nothing_is_known),
		T(the_same_of_many_is_one_line_with_a_host_list),
		T(gpus_of_a_node_are_listed_by_their_numbers),
		T(a_name_within_a_longer_one_is_left_alone),
		T(what_differs_is_not_thrown_together),
		T(a_subject_that_is_no_node_stands_for_itself),
		T(a_state_without_a_word_gets_the_usual_remedy),
		T(a_node_that_was_never_heard_is_to_be_started_first),
		T(nodes_of_a_standalone_cluster_have_no_units),
		T(a_remedy_that_does_not_fit_has_a_line_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
