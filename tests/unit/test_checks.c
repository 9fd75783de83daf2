/* test_checks.c - each check's verdicts, from readings as they were recorded or are documented */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/check.h"

#define TEST(name) static void name(void **state)
#define GIB (UINT64_C(1) << 30)

static struct arena ar;
static struct verdicts v;
static struct checks rows;
static struct tally tally;

static void judge(struct verdict_in *in)
{
	arena_finish(&ar);
	arena_init(&ar);
	rows = (struct checks){ .n = 0 };
	in->node = "gpu03";
	in->rows = &rows;
	verdict_node(&ar, in, &v);
}

static const struct check_is *row(const char *id, const char *what)
{
	for (size_t i = 0; i < rows.n; i++)
		if (strcmp(rows.v[i].id, id) == 0 && (what == NULL || (rows.v[i].what && strcmp(rows.v[i].what, what) == 0)))
			return &rows.v[i].is;
	return NULL;
}

static void expect(const char *id, enum check_verdict want, const char *words)
{
	const struct check_is *is = row(id, NULL);
	const char *text;

	if (want == CHECK_SKIP) {
		assert_null(is);
		return;
	}
	assert_non_null(is);
	if (is->verdict != want)
		print_error("%s: %s, %s\n", id, check_verdict_name(is->verdict), is->text ? is->text : is->reading ? is->reading : "-");
	assert_int_equal(is->verdict, want);
	text = want == CHECK_WARN || want == CHECK_BAD ? is->text : is->reading;
	if (words != NULL && (text == NULL || strstr(text, words) == NULL))
		print_error("%s says: %s\n", id, text ? text : "-");
	assert_true(words == NULL || (text != NULL && strstr(text, words) != NULL));
}

static struct rec_source sources[] = { { .name = "sysfs", .ok = true }, { .name = "nvml", .ok = true, .version = "550.54.15" } };

static void with(struct rec_readings *r, struct verdict_in *in)
{
	r->sources = sources;
	r->n_sources = 2;
	in->readings = r;
	judge(in);
}

static void of_port(struct rec_port *p, struct verdict_in *in)
{
	struct rec_readings r = { .ports = p, .n_ports = 1 };

	with(&r, in);
}

static void of_gpus(struct rec_gpu *g, size_t n, struct verdict_in *in)
{
	struct rec_readings r = { .gpus = g, .n_gpus = n };

	with(&r, in);
}

static void of_host(struct rec_host *h, struct rec_port *p, struct rec_gpu *g)
{
	struct rec_readings r = { .host = h, .n_host = 1, .ports = p, .n_ports = p != NULL, .gpus = g, .n_gpus = g != NULL };
	struct verdict_in in = { 0 };

	with(&r, &in);
}

/* ConnectX-7 of an HGX H100: fw_ver, board_id and rate as its sysfs shows them. */
static struct rec_port ndr(const char *device)
{
	struct rec_port p = { .device = device, .port = 1, .state = "Active", .phys_state = "LinkUp", .link_layer = "InfiniBand",
			      .speed = "NDR", .fw = "28.39.1002", .board = "MT_0000000838" };

	MSG_SET(&p, port, rate_mbps, 400000);
	MSG_SET(&p, port, lanes, 4);
	MSG_SET(&p, port, lid, 7);
	MSG_SET(&p, port, sm_lid, 1);
	return p;
}

static void crowd(struct rec_port p, int n)
{
	struct rec_readings r = { .ports = &p, .n_ports = 1 };

	for (int i = 0; i < n; i++)
		tally_node(&tally, &r);
}

/* ---- the table itself ------------------------------------------------------------------- */

TEST(each_check_has_a_name_of_its_own_and_says_all_that_explain_shows)
{
	for (const struct check *c = check_table; c->id != NULL; c++) {
		for (const struct check *d = c + 1; d->id != NULL; d++)
			assert_string_not_equal(c->id, d->id);
		assert_true(strlen(c->id) <= 48 && c->judge != NULL);
		assert_true(*c->title && strlen(c->title) <= 128 && *c->reads && strlen(c->reads) <= 512);
		assert_true(*c->threshold && strlen(c->threshold) <= 512 && *c->source && strlen(c->source) <= 512);
		assert_true(*c->remedy && strlen(c->remedy) <= 256); /* counters take it as their fix */
	}
	assert_true(check_matches(&check_table[0], "node.") && check_matches(&check_table[0], NULL));
	assert_false(check_matches(&check_table[0], "node") || check_matches(&check_table[0], "node.cloc"));
}

TEST(what_is_not_read_is_unknown_and_never_ok)
{
	struct rec_port p = { .device = "mlx5_0", .port = 1 };
	struct rec_gpu g = { .index = 0 };
	struct rec_readings r = { .ports = &p, .n_ports = 1, .gpus = &g, .n_gpus = 1 };
	struct verdict_in in = { 0 };

	with(&r, &in);
	assert_true(rows.n > 40);
	for (size_t i = 0; i < rows.n; i++) {
		const char *id = rows.v[i].id;

		/* that these are there, and nobody uses the GPU, is what was read */
		if (strcmp(id, "node.sources") == 0 || strcmp(id, "gpu.present") == 0 || strcmp(id, "gpu.strangers") == 0 ||
		    strcmp(id, "ib.layers") == 0 || strcmp(id, "ib.state") == 0 || strcmp(id, "gpu.driver") == 0 || strcmp(id, "gpu.count") == 0 ||
		    strcmp(id, "ib.count") == 0)
			continue;
		if (rows.v[i].is.verdict != CHECK_UNKNOWN)
			print_error("%s\n", id);
		assert_int_equal(rows.v[i].is.verdict, CHECK_UNKNOWN);
		assert_non_null(rows.v[i].is.reading);
	}
}

TEST(of_a_source_that_hangs_all_is_unknown_and_told_once)
{
	struct rec_source s = { .name = "nvml", .text = "does not answer" };
	struct rec_gpu g = { .index = 0, .text = "not read for 9 s" };
	struct rec_readings r = { .sources = &s, .n_sources = 1, .gpus = &g, .n_gpus = 1 };
	struct verdict_in in = { .readings = &r };

	judge(&in);
	assert_int_equal(v.n, 1);
	expect("gpu.present", CHECK_UNKNOWN, "source");
	expect("node.sources", CHECK_BAD, "nvml: does not answer");
}

/* ---- ports -------------------------------------------------------------------------------- */

TEST(of_several_nodes_that_wait_it_is_the_manager)
{
	struct rec_port p = ndr("mlx5_2");
	struct verdict_in in = { .peers = &tally };

	p.state = "Initializing";
	memset(&tally, 0, sizeof(tally));
	crowd(p, 1);
	of_port(&p, &in);
	expect("ib.state", CHECK_BAD, "it may be down for all, or this port alone");
	crowd(p, 2);
	of_port(&p, &in);
	expect("ib.state", CHECK_BAD, "Ports of 3 nodes are so: the subnet manager is down");
	expect("ib.lid", CHECK_UNKNOWN, "not Active");
	expect("ib.rate", CHECK_UNKNOWN, "not Active"); /* a port that is not up shows 10 Gb/s */
}

TEST(a_rate_is_compared_with_its_like_and_with_better_times)
{
	struct rec_port p = ndr("mlx5_2"), slow = ndr("mlx5_2");
	struct port_base base = { .device = "mlx5_2", .port = 1, .rate_mbps = 400000, .lanes = 4 };
	struct verdict_in in = { .peers = &tally };

	memset(&tally, 0, sizeof(tally));
	of_port(&p, &in);
	expect("ib.rate", CHECK_UNKNOWN, "nothing to compare");
	crowd(p, 7);
	of_port(&p, &in);
	expect("ib.rate", CHECK_OK, "400 Gb/s NDR");
	expect("ib.width", CHECK_OK, "4X");
	slow.rate_mbps = 100000;
	slow.lanes = 1;
	crowd(slow, 1);
	of_port(&slow, &in);
	expect("ib.rate", CHECK_BAD, "100 Gb/s, 7 of 8 ports of its model are at 400 Gb/s");
	expect("ib.width", CHECK_BAD, "1X");
	assert_int_equal(v.n, 1); /* told once */
	assert_string_equal(v.v[0].subject, "gpu03 mlx5_2");
	in = (struct verdict_in){ .bases = &base, .n_bases = 1 };
	of_port(&slow, &in);
	expect("ib.rate", CHECK_BAD, "it was at 400 Gb/s before");
	of_port(&p, &in);
	expect("ib.rate", CHECK_OK, NULL);
}

/* Eight rails at a fast switch and one card of the same model at the storage's: so on each node. */
TEST(a_port_that_is_slower_on_each_node_may_be_meant_so)
{
	struct rec_port p[9], alone;
	static const char *const names[] = { "mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3", "mlx5_4", "mlx5_5", "mlx5_6", "mlx5_7", "mlx5_8" };
	struct rec_readings r = { .ports = p, .n_ports = 9 };
	struct verdict_in in = { .peers = &tally };

	memset(&tally, 0, sizeof(tally));
	for (int i = 0; i < 9; i++)
		p[i] = ndr(names[i]);
	p[8].rate_mbps = 200000; /* four lanes of HDR */
	for (int i = 0; i < 4; i++)
		tally_node(&tally, &r);
	of_port(&p[8], &in);
	expect("ib.rate", CHECK_WARN, "so is it on 4 of 4 nodes");
	alone = ndr("mlx5_3");
	alone.rate_mbps = 200000;
	of_port(&alone, &in);
	expect("ib.rate", CHECK_BAD, "200 Gb/s, 32 of 36 ports");
}

TEST(two_lanes_are_right_where_all_are_split_and_doubtful_where_one_is)
{
	struct rec_port p = ndr("mlx5_0"), split = ndr("mlx5_1");
	struct verdict_in in = { .peers = &tally };

	split.rate_mbps = 200000;
	split.lanes = 2;
	memset(&tally, 0, sizeof(tally));
	crowd(split, 8);
	of_port(&split, &in);
	expect("ib.rate", CHECK_OK, "200 Gb/s");
	memset(&tally, 0, sizeof(tally));
	crowd(p, 7);
	crowd(split, 1);
	of_port(&split, &in);
	expect("ib.rate", CHECK_WARN, "right on a split cable");
	split.board = "MT_0000000000"; /* another model is not compared */
	crowd(split, 1);
	of_port(&split, &in);
	expect("ib.rate", CHECK_UNKNOWN, "nothing to compare");
}

static struct rec_counter counter(const char *name, uint64_t value, uint64_t delta)
{
	struct rec_counter c = { .name = name };

	MSG_SET(&c, counter, value, value);
	MSG_SET(&c, counter, delta, delta);
	return c;
}

TEST(counters_are_judged_by_what_they_grew_and_not_by_what_they_are)
{
	static const struct {
		const char *name;
		uint64_t value, delta;
		enum check_verdict want;
	} cases[] = {
		{ "symbol_error", 65000, 0, CHECK_OK }, { "symbol_error", 9, 9, CHECK_OK }, { "symbol_error", 10, 10, CHECK_WARN },
		{ "symbol_error", 4000, 120, CHECK_BAD }, { "link_error_recovery", 11, 11, CHECK_WARN }, { "link_downed", 1, 1, CHECK_OK },
		{ "link_downed", 4, 4, CHECK_BAD }, { "port_rcv_errors", 1000, 1000, CHECK_BAD }, { "port_rcv_remote_physical_errors", 100, 100, CHECK_WARN },
		{ "port_xmit_discards", 99, 99, CHECK_OK }, { "local_link_integrity_errors", 1, 1, CHECK_WARN },
		{ "excessive_buffer_overrun_errors", 1, 1, CHECK_WARN }, { "local_ack_timeout_err", 10, 10, CHECK_WARN },
		{ "rnr_nak_retry_err", 1, 1, CHECK_WARN }, { "out_of_sequence", 4000000, 4000000, CHECK_OK }, /* adaptive routing */
	};
	struct verdict_in in = { 0 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rec_counter c = counter(cases[i].name, cases[i].value, cases[i].delta);
		struct rec_port p = ndr("mlx5_0");
		char id[64];

		p.counters = &c;
		p.n_counters = 1;
		MSG_SET(&p, port, counters_s, 3600);
		of_port(&p, &in);
		snprintf(id, sizeof(id), "ib.counters.%s", cases[i].name);
		expect(id, cases[i].want, cases[i].want == CHECK_OK ? NULL : "in the last hour");
		assert_int_equal(v.n > 0, cases[i].want != CHECK_OK);
		expect(strcmp(cases[i].name, "symbol_error") == 0 ? "ib.counters.port_rcv_errors" : "ib.counters.symbol_error", CHECK_OK, "+0");
	}
}

TEST(packets_out_of_order_are_a_fault_where_some_are_lost)
{
	struct rec_counter c[2] = { counter("out_of_sequence", 1000, 1000), counter("local_ack_timeout_err", 1, 1) };
	struct rec_port p = ndr("mlx5_0");
	struct verdict_in in = { 0 };

	p.counters = c;
	p.n_counters = 2;
	MSG_SET(&p, port, counters_s, 3600);
	of_port(&p, &in);
	expect("ib.counters.out_of_sequence", CHECK_WARN, "1000 in the last hour");
	c[1].delta = 0;
	of_port(&p, &in);
	expect("ib.counters.out_of_sequence", CHECK_OK, "+1000");
	c[1].delta = 1;
	c[0].delta = 999;
	of_port(&p, &in);
	expect("ib.counters.out_of_sequence", CHECK_OK, "+999");
}

/* A node with an Active port, and one that is down. */
static struct rec_port pair[2];

static void pair_of(const char *pci, const char *board, struct verdict_in *in)
{
	struct rec_readings r = { .ports = pair, .n_ports = 2 };

	pair[1].pci = pci;
	pair[1].board = board;
	with(&r, in);
}

static void second_is(enum check_verdict want, const char *words)
{
	const struct check_is *is = row("ib.state", "mlx5_1");
	const char *text = is->verdict == CHECK_OK ? is->reading : is->text;

	if (is->verdict != want || strstr(text, words) == NULL)
		fail_msg("%s: %s, not %s", check_verdict_name(is->verdict), text, words);
}

TEST(a_port_that_nobody_uses_is_no_fault)
{
	struct verdict_in in = { .peers = &tally };
	struct port_base base = { .device = "mlx5_1", .port = 1 };
	struct rec_readings r = { .ports = pair, .n_ports = 2 };

	pair[0] = ndr("mlx5_0");
	pair[1] = ndr("mlx5_1");
	pair[0].pci = "0000:17:00.0";
	pair[1].pci = "0000:17:00.1";
	pair[1].state = "Down";
	pair[1].phys_state = "Polling";
	memset(&tally, 0, sizeof(tally));
	tally_node(&tally, &r);
	tally_node(&tally, &r);
	pair_of("0000:17:00.1", pair[0].board, &in);
	second_is(CHECK_WARN, "Down/Polling"); /* two nodes may have the same fault */
	tally_node(&tally, &r);
	pair_of("0000:17:00.1", pair[0].board, &in);
	second_is(CHECK_OK, "so is it on 3 of 3 nodes, and it never was Active");
	pair[1].phys_state = "Disabled";
	pair_of("0000:17:00.1", pair[0].board, &in);
	second_is(CHECK_OK, "Down/Disabled; so is it on 3 of 3");
	pair_of("0000:3a:00.0", pair[0].board, &in); /* a card of its own, like the one in use: a rail */
	second_is(CHECK_BAD, "switched this port off");
	pair_of("0000:3a:00.0", "MT_0000000359", &in); /* unlike it */
	second_is(CHECK_OK, "nobody uses it");
	in.bases = &base;
	in.n_bases = 1;
	pair_of("0000:17:00.1", pair[0].board, &in);
	second_is(CHECK_BAD, "switched this port off"); /* and it was used */
	in.n_bases = 0;
	pair[0].state = "Down"; /* none is used: that is not meant so */
	pair_of("0000:17:00.1", pair[0].board, &in);
	second_is(CHECK_BAD, "switched this port off");
	pair[0].state = pair[1].state = "Active"; /* as most others are */
	for (int i = 0; i < 5; i++)
		tally_node(&tally, &r);
	pair[1].state = "Down";
	pair_of("0000:17:00.1", pair[0].board, &in);
	second_is(CHECK_BAD, "switched this port off");
}

/* mlx5_1 of three nodes is down, and n of them had used it. */
static void went_down_on(size_t n, const char *phys, const char *words)
{
	struct port_base base = { .device = "mlx5_1", .port = 1 };
	struct verdict_in in = { .peers = &tally, .bases = &base, .n_bases = 1 };
	struct rec_readings r = { .ports = pair, .n_ports = 2 };
	struct tally_part part[3] = { 0 };

	pair[0] = ndr("mlx5_0");
	pair[1] = ndr("mlx5_1");
	pair[1].state = "Down";
	pair[1].phys_state = phys;
	memset(&tally, 0, sizeof(tally));
	for (size_t i = 0; i < 3; i++)
		assert_true(tally_put(&tally, &r, &base, i < n ? 1 : 0, &part[i]));
	pair_of("0000:17:00.1", pair[0].board, &in);
	second_is(CHECK_BAD, words);
	for (size_t i = 0; i < 3; i++)
		free(part[i].v);
}

TEST(ports_that_went_down_on_several_nodes_have_a_switch_in_common)
{
	went_down_on(3, "Polling", "mlx5_1 of 3 nodes went down: it is their switch");
	assert_non_null(strstr(row("ib.state", "mlx5_1")->fix, "look at the switch"));
	went_down_on(1, "Polling", "or the other end is off; it was Active before");
	assert_null(strstr(row("ib.state", "mlx5_1")->text, "their switch")); /* the others do not use it */
	went_down_on(3, "Disabled", "switched this port off");
	assert_null(strstr(row("ib.state", "mlx5_1")->text, "their switch"));
	assert_non_null(strstr(row("ib.state", "mlx5_1")->fix, "enable"));
}

TEST(a_counter_at_its_end_or_that_is_not_to_be_had_is_told)
{
	struct rec_counter c[2] = { counter("link_downed", 255, 0), { .name = "symbol_error", .text = "N/A (no PMA)" } };
	struct rec_port p = ndr("mlx5_0");
	struct verdict_in in = { 0 };

	c[0].stuck = true;
	p.counters = c;
	p.n_counters = 2;
	MSG_SET(&p, port, counters_s, 60);
	of_port(&p, &in);
	expect("ib.counters.link_downed", CHECK_WARN, "at its maximum (255)");
	assert_non_null(strstr(row("ib.counters.link_downed", NULL)->fix, "perfquery -R -C mlx5_0 -P 1"));
	expect("ib.counters.symbol_error", CHECK_UNKNOWN, "N/A (no PMA)");
	expect("ib.counters.port_rcv_errors", CHECK_OK, "in the last 60 s");
	p = ndr("mlx5_0");
	p.counters_text = "not read any more: the driver complained";
	of_port(&p, &in);
	expect("ib.counters.symbol_error", CHECK_UNKNOWN, "the driver complained");
	p.excluded = true;
	of_port(&p, &in);
	expect("ib.counters.symbol_error", CHECK_SKIP, NULL);
}

TEST(a_port_that_comes_and_goes_is_flapping)
{
	struct rec_port p = ndr("mlx5_0");
	struct rec_counter c = counter("link_downed", 9, 5);
	struct verdict_in in = { 0 };

	MSG_SET(&p, port, losses, 1);
	of_port(&p, &in);
	expect("ib.flap", CHECK_OK, "1 times");
	p.losses = 2;
	of_port(&p, &in);
	expect("ib.flap", CHECK_WARN, "2 times");
	p.counters = &c; /* the hardware has seen more than we did */
	p.n_counters = 1;
	MSG_SET(&p, port, counters_s, 3600);
	of_port(&p, &in);
	expect("ib.flap", CHECK_BAD, "5 times");
}

TEST(firmware_and_partitions_that_differ_are_told)
{
	struct rec_port p = ndr("mlx5_0"), old = ndr("mlx5_0");
	struct verdict_in in = { .peers = &tally };

	old.fw = "28.37.1014";
	MSG_SET(&p, port, pkey, 0xffff);
	MSG_SET(&p, port, pkeys, 1);
	MSG_SET(&old, port, pkey, 0x8001);
	memset(&tally, 0, sizeof(tally));
	crowd(p, 3);
	crowd(old, 1);
	of_port(&p, &in);
	expect("ib.firmware", CHECK_OK, "28.39.1002");
	expect("ib.pkey", CHECK_OK, "0xffff, 1 in use");
	of_port(&old, &in);
	expect("ib.firmware", CHECK_WARN, "3 of 4 ports of its model (MT_0000000838) have 28.39.1002");
	expect("ib.pkey", CHECK_WARN, "its partition is 0x0001, that of 3 of 4 ports 0x7fff");
	memset(&tally, 0, sizeof(tally));
	crowd(p, 1);
	crowd(old, 1);
	of_port(&p, &in); /* nobody knows which is right */
	expect("ib.firmware", CHECK_WARN, "several others");
}

TEST(a_port_that_was_Active_is_missed_and_its_Down_is_no_warning_only)
{
	struct rec_port p[2] = { ndr("mlx5_0"), ndr("mlx5_1") };
	struct port_base bases[] = { { .device = "mlx5_0", .port = 1 }, { .device = "mlx5_1", .port = 1 } };
	struct rec_readings r = { .ports = p, .n_ports = 2 };
	struct verdict_in in = { .bases = bases, .n_bases = 2, .peers = &tally };

	memset(&tally, 0, sizeof(tally));
	with(&r, &in);
	expect("ib.count", CHECK_OK, "2 RDMA ports");
	r.n_ports = 1;
	with(&r, &in);
	expect("ib.count", CHECK_BAD, "mlx5_1 was Active and is not there any more: it has 1 RDMA port, and had 2");
	r.n_ports = 2;
	p[1].device = "mlx5_7"; /* renamed */
	with(&r, &in);
	expect("ib.count", CHECK_OK, NULL);
	in.n_bases = 0;
	for (int i = 0; i < 3; i++)
		tally_node(&tally, &r);
	r.n_ports = 1;
	with(&r, &in);
	expect("ib.count", CHECK_WARN, "it has 1 RDMA port, 3 of 3 nodes of its make have 2");
	r.n_gpus = 1; /* a GPU host, among login and storage nodes */
	r.gpus = &(struct rec_gpu){ .name = "NVIDIA H100 80GB HBM3" };
	with(&r, &in);
	expect("ib.count", CHECK_OK, "1 RDMA port");
	r.n_gpus = 0;
	p[0].board = "MT_0000000223";
	with(&r, &in);
	expect("ib.count", CHECK_OK, "1 RDMA port");
	p[0].board = "MT_0000000838";
	in.n_bases = 2;
	p[0].state = "Down";
	p[0].phys_state = "Polling";
	of_port(&p[0], &in);
	expect("ib.state", CHECK_BAD, "it was Active before");
	in.n_bases = 0;
	of_port(&p[0], &in);
	expect("ib.state", CHECK_WARN, "no partner");
	p[0].state = "Active";
	p[0].phys_state = "LinkErrorRecovery";
	of_port(&p[0], &in);
	expect("ib.state", CHECK_BAD, "trains again");
}

TEST(who_has_another_subnet_manager_than_its_like_is_told_when_that_has_settled)
{
	struct rec_port p = ndr("mlx5_0"), other = ndr("mlx5_0"), rail = ndr("mlx5_1");
	struct verdict_in in = { .peers = &tally, .sm_moves = true };

	other.sm_lid = 9;
	rail.sm_lid = 5; /* a fabric of its own */
	memset(&tally, 0, sizeof(tally));
	crowd(p, 2);
	crowd(other, 1);
	crowd(rail, 3);
	of_port(&other, &in);
	expect("ib.sm", CHECK_OK, "SM LID 9");
	in.sm_moves = false;
	of_port(&other, &in);
	expect("ib.sm", CHECK_WARN, "SM LID 9, 2 of 3 ports of this name the one at SM LID 1");
	of_port(&rail, &in);
	expect("ib.sm", CHECK_OK, NULL);
}

TEST(limited_members_of_a_partition_do_not_hear_each_other)
{
	struct rec_port p = ndr("mlx5_0");
	struct verdict_in in = { 0 };

	MSG_SET(&p, port, pkey, 0x7fff);
	MSG_SET(&p, port, pkeys, 1);
	of_port(&p, &in);
	expect("ib.pkey", CHECK_WARN, "limited member");
	p.pkeys = 2; /* it may be a full one of the other */
	of_port(&p, &in);
	expect("ib.pkey", CHECK_OK, "2 in use");
}

TEST(ports_of_one_model_with_both_link_layers_are_told)
{
	struct rec_port p[2] = { ndr("mlx5_0"), ndr("mlx5_1") };
	struct rec_readings r = { .ports = p, .n_ports = 2 };
	struct verdict_in in = { 0 };

	with(&r, &in);
	expect("ib.layers", CHECK_OK, NULL);
	p[1].link_layer = "Ethernet";
	with(&r, &in);
	expect("ib.layers", CHECK_WARN, "mlx5_1 speaks Ethernet and mlx5_0 InfiniBand");
	p[1].board = "MT_0000000359"; /* a card for storage */
	with(&r, &in);
	expect("ib.layers", CHECK_OK, NULL);
}

/* ---- GPUs ---------------------------------------------------------------------------------- */

TEST(GPUs_are_compared_with_their_like_on_other_nodes)
{
	struct rec_gpu g = { .index = 0, .name = "NVIDIA H100 80GB HBM3" };
	struct rec_readings r = { .gpus = &g, .n_gpus = 1 };
	struct verdict_in in = { .peers = &tally };

	MSG_SET(&g, gpu, power_limit_mw, 700000);
	MSG_SET(&g, gpu, pcie_gen_max, 5);
	MSG_SET(&g, gpu, pcie_width_max, 16);
	MSG_SET(&g, gpu, pcie_width, 16);
	memset(&tally, 0, sizeof(tally));
	for (int i = 0; i < 3; i++)
		tally_node(&tally, &r);
	of_gpus(&g, 1, &in);
	expect("gpu.power", CHECK_OK, "700 W");
	expect("gpu.pcie", CHECK_OK, "x16 of x16");
	g.power_limit_mw = 400000;
	g.pcie_width = g.pcie_width_max = 8;
	of_gpus(&g, 1, &in);
	expect("gpu.power", CHECK_WARN, "400 W, 3 of 3 GPUs of its model have 700 W");
	expect("gpu.pcie", CHECK_WARN, "8 lanes here, that of most GPUs of its model generation 5 with 16");
}

TEST(memory_that_no_process_has_is_told)
{
	struct rec_gpu g = { .index = 3 };
	struct rec_gpu_proc proc = { .pid = 4711 };
	struct verdict_in in = { 0 };

	MSG_SET(&g, gpu, mem_used, GIB);
	of_gpus(&g, 1, &in);
	expect("gpu.memory", CHECK_OK, "1.0 GiB in use, 0 processes");
	g.mem_used = 30 * GIB;
	of_gpus(&g, 1, &in);
	expect("gpu.memory", CHECK_WARN, "30.0 GiB of its memory are in use, and no process");
	in.held_gpus = 1 << 3;
	of_gpus(&g, 1, &in);
	expect("gpu.memory", CHECK_OK, NULL);
	in.held_gpus = 1 << 2;
	g.procs = &proc;
	g.n_procs = 1;
	of_gpus(&g, 1, &in);
	expect("gpu.memory", CHECK_OK, "1 process");
	g.procs_unknown = true;
	of_gpus(&g, 1, &in);
	expect("gpu.memory", CHECK_UNKNOWN, NULL);
}

TEST(what_holds_clocks_down_is_told_unless_it_is_meant)
{
	static const struct {
		uint64_t bits;
		enum check_verdict want;
		const char *words;
	} cases[] = { { 0, CHECK_OK, "not held" }, { 1, CHECK_OK, "idle" }, { 4, CHECK_OK, "full load" }, { 2, CHECK_OK, "setting" },
		      { 0x48, CHECK_BAD, "too hot" }, { 0x88, CHECK_BAD, "power brake" }, { 8, CHECK_BAD, "half or less" },
		      { 0x20, CHECK_WARN, "hot" } };
	struct verdict_in in = { 0 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rec_gpu g = { .index = 0, .name = "NVIDIA A800-SXM4-80GB" };

		MSG_SET(&g, gpu, throttle, cases[i].bits);
		of_gpus(&g, 1, &in);
		expect("gpu.throttle", cases[i].want, cases[i].words);
	}
}

TEST(heat_is_measured_by_the_GPUs_own_limit)
{
	struct rec_gpu g = { .index = 0 };
	struct verdict_in in = { 0 };

	MSG_SET(&g, gpu, temp_c, 84);
	of_gpus(&g, 1, &in);
	expect("gpu.temp", CHECK_OK, "84 C, slows down at 90 C");
	g.temp_c = 85;
	of_gpus(&g, 1, &in);
	expect("gpu.temp", CHECK_WARN, "85 C");
	MSG_SET(&g, gpu, slow_c, 84);
	of_gpus(&g, 1, &in);
	expect("gpu.temp", CHECK_BAD, "slows down at 84 C");
}

TEST(replaced_rows_pending_failed_and_many)
{
	struct rec_gpu g = { .index = 0 };
	struct verdict_in in = { 0 };

	MSG_SET(&g, gpu, remap_uncorrected, 1);
	MSG_SET(&g, gpu, remap_corrected, 3);
	of_gpus(&g, 1, &in);
	expect("gpu.remap", CHECK_OK, "1 after uncorrectable errors, 3 after correctable ones");
	g.remap_uncorrected = 8;
	of_gpus(&g, 1, &in);
	expect("gpu.remap", CHECK_WARN, "8 rows");
	g.remap_pending = true;
	of_gpus(&g, 1, &in);
	expect("gpu.remap", CHECK_WARN, "next reset");
	g.remap_failed = true;
	of_gpus(&g, 1, &in);
	expect("gpu.remap", CHECK_BAD, "could not be replaced");
}

TEST(a_GPU_with_a_lower_limit_or_asleep_though_busy_is_slow)
{
	struct rec_gpu g[4];
	struct verdict_in in = { 0 };

	for (uint32_t i = 0; i < 4; i++) {
		g[i] = (struct rec_gpu){ .index = i, .name = "NVIDIA H100 80GB HBM3" };
		MSG_SET(&g[i], gpu, power_limit_mw, i == 0 ? 350000 : 700000);
	}
	of_gpus(g, 4, &in);
	expect("gpu.power", CHECK_WARN, "350 W, lower than that of 3 of its 3 equals");
	assert_int_equal(row("gpu.power", "GPU 1")->verdict, CHECK_OK);
	g[0].power_limit_mw = 700000;
	MSG_SET(&g[0], gpu, pstate, 8);
	MSG_SET(&g[0], gpu, util, 97);
	of_gpus(g, 4, &in);
	expect("gpu.power", CHECK_WARN, "busy (97 %) in power state P8");
	g[0].util = 0;
	of_gpus(g, 4, &in);
	expect("gpu.power", CHECK_OK, "state P8");
}

TEST(a_PCIe_link_is_narrow_always_and_slow_only_while_it_is_busy)
{
	struct rec_gpu g = { .index = 0 };
	struct verdict_in in = { 0 };

	MSG_SET(&g, gpu, pcie_gen, 1);
	MSG_SET(&g, gpu, pcie_gen_max, 4);
	MSG_SET(&g, gpu, pcie_width, 16);
	MSG_SET(&g, gpu, pcie_width_max, 16);
	MSG_SET(&g, gpu, util, 0);
	of_gpus(&g, 1, &in);
	expect("gpu.pcie", CHECK_OK, "generation 1 of 4, x16 of x16");
	g.util = 80;
	of_gpus(&g, 1, &in);
	expect("gpu.pcie", CHECK_WARN, "generation 1 of 4");
	g.pcie_width = 8;
	of_gpus(&g, 1, &in);
	expect("gpu.pcie", CHECK_WARN, "8 lanes of 16");
}

static struct rec_gpu linked(const char *name, uint32_t links)
{
	struct rec_gpu g = { .index = 0, .name = name };

	MSG_SET(&g, gpu, nvlinks, links);
	return g;
}

TEST(NVLinks_are_counted_by_the_model)
{
	struct rec_gpu g[2] = { linked("NVIDIA A800-SXM4-80GB", 8), linked("NVIDIA A800-SXM4-80GB", 8) };
	struct verdict_in in = { .peers = &tally };
	struct rec_readings r = { .gpus = g, .n_gpus = 1 };

	memset(&tally, 0, sizeof(tally));
	of_gpus(g, 2, &in);
	expect("gpu.nvlink", CHECK_OK, "8 active");
	g[0].name = "NVIDIA A100-SXM4-80GB"; /* which has half as many again */
	of_gpus(g, 2, &in);
	expect("gpu.nvlink", CHECK_BAD, "8 NVLinks are active, its model has 12");
	g[0].nvlinks = 0;
	of_gpus(g, 2, &in);
	expect("gpu.nvlink", CHECK_WARN, "NCCL goes over PCIe");
	of_gpus(g, 1, &in); /* a virtual machine's one GPU */
	expect("gpu.nvlink", CHECK_SKIP, NULL);
	g[0] = linked("NVIDIA L40S", 0);
	of_gpus(g, 1, &in);
	expect("gpu.nvlink", CHECK_SKIP, NULL);
	g[0] = linked("NVIDIA A30", 4); /* bridged or not: its peers tell */
	for (int i = 0; i < 7; i++)
		tally_node(&tally, &r);
	g[0].nvlinks = 2;
	tally_node(&tally, &r);
	of_gpus(g, 1, &in);
	expect("gpu.nvlink", CHECK_BAD, "7 of 8 GPUs of its model have 4");
	g[0].nvlinks = 0;
	of_gpus(g, 1, &in); /* the third card of a node, beside a bridged pair */
	expect("gpu.nvlink", CHECK_WARN, "it has no bridge, or that is down");
	g[0] = g[1] = linked("NVIDIA H200 NVL", 0);
	of_gpus(g, 2, &in);
	expect("gpu.nvlink", CHECK_SKIP, NULL);
}

TEST(driver_and_count_are_compared_with_other_nodes)
{
	struct rec_gpu g[8];
	struct rec_readings r = { .gpus = g, .n_gpus = 8, .sources = sources, .n_sources = 2 };
	struct verdict_in in = { .peers = &tally };

	for (uint32_t i = 0; i < 8; i++)
		g[i] = (struct rec_gpu){ .index = i, .name = "NVIDIA A800-SXM4-80GB" };
	memset(&tally, 0, sizeof(tally));
	for (int i = 0; i < 3; i++)
		tally_node(&tally, &r);
	of_gpus(g, 8, &in);
	expect("gpu.driver", CHECK_OK, "550.54.15");
	expect("gpu.count", CHECK_OK, "8");
	sources[1].version = "535.161.08";
	r.n_gpus = 7;
	tally_node(&tally, &r);
	of_gpus(g, 7, &in);
	expect("gpu.driver", CHECK_WARN, "535.161.08, that of 3 of 4 nodes 550.54.15");
	expect("gpu.count", CHECK_WARN, "it has 7 GPUs, 3 of 4 nodes have 8");
	for (int i = 0; i < 2; i++)
		g[i].name = "NVIDIA RTX A6000"; /* a workstation beside them */
	of_gpus(g, 2, &in);
	expect("gpu.count", CHECK_OK, "2");
	sources[1].version = "550.54.15";
}

/* As a count of all anew: what a node has said before is in nothing any more. */
static void counts_are(const struct tally *t, const char *port_rate, uint32_t most, uint32_t all)
{
	struct tally_view view;

	tally_look(t, TALLY_RATE, "@mlx5_2/1", NULL, &view);
	assert_int_equal(view.n_all, all);
	if (port_rate == NULL)
		assert_null(view.most);
	else
		assert_string_equal(view.most, port_rate);
	assert_int_equal(view.n_most, most);
}

TEST(what_a_node_said_before_is_taken_back)
{
	struct rec_port p = ndr("mlx5_2");
	struct rec_readings r = { .ports = &p, .n_ports = 1 };
	struct tally_part part[4] = { 0 };

	memset(&tally, 0, sizeof(tally));
	for (int i = 0; i < 4; i++)
		assert_true(tally_put(&tally, &r, NULL, 0, &part[i]));
	counts_are(&tally, "400000", 4, 4);
	assert_int_equal(tally.nodes_active, 4);
	for (uint64_t k = 0; k < 3; k++) { /* three of them become slower, one after the other */
		MSG_SET(&p, port, rate_mbps, 200000);
		tally_take_back(&tally, &part[k]);
		counts_are(&tally, k < 2 ? "400000" : "200000", k == 0 ? 3 : 2, 3);
		assert_true(tally_put(&tally, &r, NULL, 0, &part[k]));
	}
	counts_are(&tally, "200000", 3, 4);
	for (int i = 0; i < 4; i++) {
		tally_take_back(&tally, &part[i]);
		tally_take_back(&tally, &part[i]); /* once is enough */
	}
	counts_are(&tally, NULL, 0, 0);
	assert_int_equal(tally.nodes + tally.nodes_init + tally.nodes_active, 0);
	for (uint32_t i = 0; i < TALLY_MAX; i++) { /* values that nobody has any more fill it: it is said */
		MSG_SET(&p, port, rate_mbps, 1000 + i);
		assert_true(tally_put(&tally, &r, NULL, 0, &part[0]));
		tally_take_back(&tally, &part[0]);
	}
	assert_true(tally.full);
	tally_clear(&tally);
	assert_true(tally_put(&tally, &r, NULL, 0, &part[0]));
	counts_are(&tally, "1255", 1, 1);
	assert_false(tally.full);
	for (int i = 0; i < 4; i++)
		free(part[i].v);
}

TEST(ports_that_were_bonded_are_not_gone)
{
	struct port_base b[3] = { { .device = "mlx5_bond_0", .port = 1, .pci = "0000:3b:00.0" },
				  { .device = "mlx5_1", .port = 1, .pci = "0000:3b:00.1" },
				  { .device = "mlx5_2", .port = 1, .pci = "0000:5e:00.0" } };
	struct rec_port p[2] = { ndr("mlx5_bond_0"), ndr("mlx5_2") };
	struct rec_readings r = { .ports = p, .n_ports = 2 };
	struct verdict_in in = { .bases = b, .n_bases = 3 };

	p[0].pci = "0000:3b:00.0";
	p[1].pci = "0000:5e:00.0";
	with(&r, &in);
	assert_int_not_equal(row("ib.count", NULL)->verdict, CHECK_BAD);
	r.n_ports = 1; /* another adapter is */
	with(&r, &in);
	expect("ib.count", CHECK_BAD, "mlx5_2");
	r.n_ports = 2;
	p[0].pci = "0000:3c:00.0"; /* a bond elsewhere is no proof */
	with(&r, &in);
	expect("ib.count", CHECK_BAD, "mlx5_1");
	p[0].pci = "0000:3b:00.0";
	p[0].device = "mlx5_bond_0";
	b[1].pci[0] = '\0'; /* of a database before this */
	with(&r, &in);
	expect("ib.count", CHECK_BAD, "mlx5_1");
}

TEST(a_GPU_whose_adapter_is_down_takes_a_way_round)
{
	struct rec_port p[3] = { ndr("mlx5_0"), ndr("mlx5_1"), ndr("mlx5_2") };
	struct rec_gpu g = { .index = 3, .nics = "mlx5_0:SYS,mlx5_1:PIX,mlx5_2:NODE" };
	struct rec_readings r = { .ports = p, .n_ports = 3, .gpus = &g, .n_gpus = 1 };
	struct verdict_in in = { 0 };

	with(&r, &in);
	expect("gpu.nic", CHECK_OK, "nearest mlx5_1, over a PCIe switch");
	p[1].state = "Down";
	p[1].phys_state = "Polling";
	with(&r, &in);
	expect("gpu.nic", CHECK_WARN, "nearest mlx5_1, which is Down/Polling: its traffic takes mlx5_2 and crosses the CPU, without GPUDirect");
	p[2].state = "Initializing";
	with(&r, &in);
	expect("gpu.nic", CHECK_WARN, "takes mlx5_0 and crosses the link between the CPUs");
	p[0].state = "Down";
	with(&r, &in);
	expect("gpu.nic", CHECK_WARN, "no other port is Active");
	/* what is excluded, or a card for Ethernet, is not its adapter */
	p[1].excluded = true;
	p[0].state = "Active";
	with(&r, &in);
	expect("gpu.nic", CHECK_WARN, "nearest mlx5_2");
	p[2].link_layer = "Ethernet";
	with(&r, &in);
	expect("gpu.nic", CHECK_OK, "nearest mlx5_0");
	g.nics = "mlx5_0,x:,:PIX,mlx5_0:FAR"; /* of nobody's making */
	with(&r, &in);
	expect("gpu.nic", CHECK_SKIP, NULL);
	g.nics = NULL;
	with(&r, &in);
	expect("gpu.nic", CHECK_SKIP, NULL);
}

TEST(fabric_manager_and_peermem_are_asked_for_where_they_are_needed)
{
	struct rec_host h = { .cpus = 1 };
	struct rec_port p = ndr("mlx5_0");
	struct rec_gpu g = { .index = 0 };

	of_host(&h, &p, &g);
	expect("gpu.fabricmanager", CHECK_UNKNOWN, "not read");
	MSG_SET(&h, host, nvswitch, false);
	MSG_SET(&h, host, peermem, false);
	MSG_SET(&h, host, open_modules, false);
	of_host(&h, &p, &g);
	expect("gpu.fabricmanager", CHECK_SKIP, NULL);
	expect("gpu.peermem", CHECK_WARN, "through host memory");
	h.open_modules = true;
	h.nvswitch = true;
	MSG_SET(&h, host, fabricmanager, false);
	of_host(&h, &p, &g);
	expect("gpu.fabricmanager", CHECK_BAD, "802");
	expect("gpu.peermem", CHECK_OK, "dma-buf");
	h.fabricmanager = true;
	of_host(&h, NULL, &g);
	expect("gpu.fabricmanager", CHECK_OK, "it runs");
	expect("gpu.peermem", CHECK_SKIP, NULL); /* without InfiniBand */
	MSG_SET(&g, gpu, persistence, false);
	of_host(&h, NULL, &g);
	expect("gpu.persistence", CHECK_WARN, "off");
}

TEST(a_gpu_outside_of_its_fabric_or_in_an_odd_mode_is_told)
{
	struct rec_gpu g = { .index = 0, .name = "NVIDIA H100 80GB HBM3" };
	struct rec_readings r = { .gpus = &g, .n_gpus = 1 };
	struct rec_host h = { 0 };
	struct verdict_in in = { .peers = &tally };

	memset(&tally, 0, sizeof(tally));
	MSG_SET(&g, gpu, compute_mode, 0);
	MSG_SET(&g, gpu, ecc_on, true);
	with(&r, &in);
	expect("gpu.fabric", CHECK_SKIP, NULL); /* there is none */
	expect("gpu.mode", CHECK_OK, "compute mode default, ECC on");
	for (int i = 0; i < 3; i++)
		tally_node(&tally, &r);
	MSG_SET(&g, gpu, fabric, 3);
	MSG_SET(&g, gpu, fabric_status, 0);
	with(&r, &in);
	expect("gpu.fabric", CHECK_OK, "joined");
	g.fabric_status = 999;
	with(&r, &in);
	expect("gpu.fabric", CHECK_BAD, "999");
	g.fabric = 2;
	with(&r, &in);
	expect("gpu.fabric", CHECK_BAD, "in progress");
	assert_int_equal(v.n, 1);
	MSG_SET(&h, host, fabricmanager, false); /* that is told */
	of_host(&h, NULL, &g);
	expect("gpu.fabric", CHECK_BAD, "in progress");
	g.ecc_on = false;
	with(&r, &in);
	expect("gpu.mode", CHECK_WARN, "on at 3 of 3");
	g.compute_mode = 2;
	with(&r, &in);
	expect("gpu.mode", CHECK_BAD, "Prohibited");
	g.compute_mode = 3;
	MSG_SET(&g, gpu, mig, true);
	g.procs_unknown = true;
	memset(&tally, 0, sizeof(tally));
	with(&r, &in);
	expect("gpu.mode", CHECK_OK, "compute mode exclusive, ECC off, MIG"); /* as on all, for all that is known */
	expect("gpu.strangers", CHECK_OK, "MIG");
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static struct rec_mount mount_of(const char *path, uint64_t total, uint64_t available)
{
	struct rec_mount m = { .path = path, .type = "ext4" };

	MSG_SET(&m, mount, total, total);
	MSG_SET(&m, mount, available, available);
	return m;
}

TEST(file_systems_that_hang_are_full_or_small)
{
	struct rec_mount m[3] = { mount_of("/", 900 * GIB, 300 * GIB), mount_of("/data", 30000 * GIB, 900 * GIB),
				  mount_of("/dev/shm", 500 * GIB, 400 * GIB) };
	struct rec_host h = { .mounts = m, .n_mounts = 3 };

	of_host(&h, NULL, NULL);
	expect("node.disk", CHECK_OK, "/data has the least"); /* 3 %, which is a lot */
	expect("node.mounts", CHECK_OK, "3 answer");
	expect("node.shm", CHECK_OK, "400.0 GiB of 500.0 GiB");
	m[0].available = 10 * GIB;
	m[2].available = m[2].total = 64 << 20;
	of_host(&h, NULL, NULL);
	expect("node.disk", CHECK_WARN, "/ is nearly full");
	expect("node.shm", CHECK_WARN, "64 MiB of 64 MiB");
	assert_int_equal(v.n, 0); /* setup is not trouble */
	m[0].available = 100 << 20;
	m[2].available = 1 << 20;
	of_host(&h, NULL, NULL);
	expect("node.disk", CHECK_BAD, "100 MiB of 900.0 GiB");
	expect("node.shm", CHECK_BAD, "bus error");
	m[1].available = 60 * GIB; /* less by the hundred, and yet plenty: it hides no other */
	of_host(&h, NULL, NULL);
	expect("node.disk", CHECK_BAD, "100 MiB of 900.0 GiB");
	m[0].available = 10 * GIB;
	of_host(&h, NULL, NULL);
	expect("node.disk", CHECK_WARN, "/ is nearly full");
	m[0].available = 300 * GIB;
	MSG_SET(&m[0], mount, inodes, 6000000);
	MSG_SET(&m[0], mount, inodes_free, 59000);
	of_host(&h, NULL, NULL);
	expect("node.disk", CHECK_OK, "has the least"); /* less than 1 %, and plenty */
	m[0].inodes_free = 12;
	of_host(&h, NULL, NULL);
	expect("node.disk", CHECK_BAD, "/ has 12 of 6000000 inodes free: no file can be made there");
	m[0].inodes = m[0].inodes_free = 0; /* btrfs */
	of_host(&h, NULL, NULL);
	expect("node.disk", CHECK_OK, "has the least");
	m[1] = (struct rec_mount){ .path = "/data", .type = "nfs4" };
	MSG_SET(&m[1], mount, hung, true);
	of_host(&h, NULL, NULL);
	MSG_SET(&m[1], mount, wait_ms, 3100);
	of_host(&h, NULL, NULL);
	expect("node.mounts", CHECK_WARN, "/data (nfs4) does not answer");
	MSG_SET(&m[1], mount, wait_ms, 20000);
	of_host(&h, NULL, NULL);
	expect("node.mounts", CHECK_BAD, "/data (nfs4) does not answer");
	h.n_mounts = 0;
	of_host(&h, NULL, NULL);
	expect("node.mounts", CHECK_UNKNOWN, NULL);
	expect("node.shm", CHECK_UNKNOWN, NULL);
}

TEST(a_clock_that_nobody_steers_is_said_to_be_so)
{
	struct rec_host h = { 0 };
	struct rec_readings r = { .host = &h, .n_host = 1 };
	struct verdict_in in = { .has_skew = true, .is_ref = true };

	with(&r, &in);
	expect("node.clock", CHECK_OK, "the coordinator's own");
	MSG_SET(&h, host, clock_synced, false);
	with(&r, &in);
	expect("node.clock", CHECK_OK, "the coordinator's own, not synchronised by NTP");
	in.is_ref = false;
	in.skew_us = 300;
	with(&r, &in);
	expect("node.clock", CHECK_OK, "0.3 ms ahead (+-0.0 ms), not synchronised by NTP");
}

TEST(memory_limits_and_huge_pages)
{
	struct rec_host h = { .cpus = 1 };
	struct rec_port p = ndr("mlx5_0");

	MSG_SET(&h, host, mem_total, 1000 * GIB);
	MSG_SET(&h, host, mem_available, 40 * GIB);
	MSG_SET(&h, host, memlock, 8 << 20);
	MSG_SET(&h, host, nofile, 524288);
	MSG_SET(&h, host, nproc, UINT64_MAX);
	MSG_SET(&h, host, hugepages, 300000);
	MSG_SET(&h, host, hugepages_free, 300000);
	MSG_SET(&h, host, hugepage_size, 2 << 20);
	of_host(&h, &p, NULL);
	expect("node.mem", CHECK_OK, "40.0 GiB of 1000.0 GiB");
	expect("node.memlock", CHECK_WARN, "8 MiB");
	expect("node.limits", CHECK_OK, "524288 open files, unlimited processes");
	expect("node.hugepages", CHECK_WARN, "585.9 GiB");
	h.mem_available = 3 * GIB;
	h.memlock = UINT64_MAX;
	h.nofile = 1024;
	h.hugepages_free = 1000;
	of_host(&h, &p, NULL);
	expect("node.mem", CHECK_BAD, "kill processes");
	expect("node.memlock", CHECK_OK, "unlimited");
	expect("node.limits", CHECK_WARN, "jobs get 1024 open files: large ones end with \"Too many open files\"");
	assert_string_equal(row("node.limits", NULL)->fix, "LimitNOFILE= in nodeagentd's unit, or ulimit -n 65536 before it is started by "
							   "hand; then restart it");
	expect("node.hugepages", CHECK_OK, NULL);
	of_host(&h, NULL, NULL);
	expect("node.memlock", CHECK_SKIP, NULL);
}

TEST(the_kernels_log_is_counted_and_no_attention)
{
	struct rec_source log = { .name = "kmsg", .ok = true };
	struct rec_readings r = { .sources = &log, .n_sources = 1 };
	struct verdict_in in = { .readings = &r, .has_happened = true, .kmsg = { { "oom", 2, "x" }, { "port", 2, "y" } } };

	judge(&in);
	expect("node.kmsg.oom", CHECK_WARN, "2 in the last hour");
	expect("node.kmsg.port", CHECK_OK, NULL);
	expect("node.kmsg.xid", CHECK_OK, "0 in");
	assert_int_equal(v.n, 0);
	log.ok = false; /* no /dev/kmsg: NVML and the ports tell of some things yet */
	log.absent = true;
	judge(&in);
	expect("node.kmsg.oom", CHECK_WARN, "2 in the last hour");
	expect("node.kmsg.port", CHECK_UNKNOWN, "the kernel's log is not read");
	r.n_sources = 0;
	in.kmsg[0].n = 0;
	judge(&in);
	expect("node.kmsg.oom", CHECK_UNKNOWN, NULL);
}

TEST(what_breaks_a_node_is_told_from_the_kernels_log_and_the_rest_to_who_looks)
{
	struct rec_source s = { .name = "kmsg", .ok = true };
	struct rec_readings r = { .sources = &s, .n_sources = 1 };
	struct verdict_in in = { .has_happened = true, .readings = &r, .kmsg = { { "mem-ue", 1, "EDAC MC0: 1 UE" }, { "io", 3, "nvme nvme0: I/O 1 timeout" } } };

	judge(&in);
	expect("node.kmsg.mem-ue", CHECK_BAD, "1 in the last hour, the last: EDAC MC0: 1 UE");
	expect("node.kmsg.io", CHECK_WARN, "nvme0");
	expect("node.kmsg.fs", CHECK_OK, "0 in");
	assert_int_equal(v.n, 1);
	assert_string_equal(v.v[0].severity, "bad");
	s.ok = false;
	in = (struct verdict_in){ .has_happened = true, .readings = &r, .kmsg = { { "mem-ue", 1, "told before" } } };
	judge(&in);
	expect("node.kmsg.mem-ue", CHECK_BAD, "told before");
	expect("node.kmsg.oom", CHECK_UNKNOWN, "is not read");
	expect("node.kmsg.fs", CHECK_SKIP, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_check_has_a_name_of_its_own_and_says_all_that_explain_shows),
		cmocka_unit_test(what_is_not_read_is_unknown_and_never_ok),
		cmocka_unit_test(of_a_source_that_hangs_all_is_unknown_and_told_once),
		cmocka_unit_test(of_several_nodes_that_wait_it_is_the_manager),
		cmocka_unit_test(a_rate_is_compared_with_its_like_and_with_better_times),
		cmocka_unit_test(a_port_that_is_slower_on_each_node_may_be_meant_so),
		cmocka_unit_test(two_lanes_are_right_where_all_are_split_and_doubtful_where_one_is),
		cmocka_unit_test(counters_are_judged_by_what_they_grew_and_not_by_what_they_are),
		cmocka_unit_test(packets_out_of_order_are_a_fault_where_some_are_lost),
		cmocka_unit_test(a_gpu_outside_of_its_fabric_or_in_an_odd_mode_is_told),
		cmocka_unit_test(a_port_that_nobody_uses_is_no_fault),
		cmocka_unit_test(ports_that_went_down_on_several_nodes_have_a_switch_in_common),
		cmocka_unit_test(a_counter_at_its_end_or_that_is_not_to_be_had_is_told),
		cmocka_unit_test(a_port_that_comes_and_goes_is_flapping),
		cmocka_unit_test(firmware_and_partitions_that_differ_are_told),
		cmocka_unit_test(a_port_that_was_Active_is_missed_and_its_Down_is_no_warning_only),
		cmocka_unit_test(who_has_another_subnet_manager_than_its_like_is_told_when_that_has_settled),
		cmocka_unit_test(limited_members_of_a_partition_do_not_hear_each_other),
		cmocka_unit_test(ports_of_one_model_with_both_link_layers_are_told),
		cmocka_unit_test(GPUs_are_compared_with_their_like_on_other_nodes),
		cmocka_unit_test(memory_that_no_process_has_is_told),
		cmocka_unit_test(what_holds_clocks_down_is_told_unless_it_is_meant),
		cmocka_unit_test(heat_is_measured_by_the_GPUs_own_limit),
		cmocka_unit_test(replaced_rows_pending_failed_and_many),
		cmocka_unit_test(a_GPU_with_a_lower_limit_or_asleep_though_busy_is_slow),
		cmocka_unit_test(a_PCIe_link_is_narrow_always_and_slow_only_while_it_is_busy),
		cmocka_unit_test(NVLinks_are_counted_by_the_model),
		cmocka_unit_test(driver_and_count_are_compared_with_other_nodes),
		cmocka_unit_test(what_a_node_said_before_is_taken_back),
		cmocka_unit_test(ports_that_were_bonded_are_not_gone),
		cmocka_unit_test(a_GPU_whose_adapter_is_down_takes_a_way_round),
		cmocka_unit_test(fabric_manager_and_peermem_are_asked_for_where_they_are_needed),
		cmocka_unit_test(file_systems_that_hang_are_full_or_small),
		cmocka_unit_test(what_breaks_a_node_is_told_from_the_kernels_log_and_the_rest_to_who_looks),
		cmocka_unit_test(memory_limits_and_huge_pages),
		cmocka_unit_test(a_clock_that_nobody_steers_is_said_to_be_so),
		cmocka_unit_test(the_kernels_log_is_counted_and_no_attention),
	};
	int r;

	arena_init(&ar);
	r = cmocka_run_group_tests_name("checks", tests, NULL, NULL);
	arena_finish(&ar);
	return r;
}
