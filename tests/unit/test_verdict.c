/* test_verdict.c - what readings mean, in words */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "core/verdict.h"

#define TEST(name) static void name(void **state)

static struct arena ar;
static struct verdicts v;

static void judge(const struct verdict_in *in)
{
	arena_finish(&ar);
	arena_init(&ar);
	verdict_node(&ar, in, &v);
}

static void judge_port(struct rec_port *p)
{
	struct rec_readings r = { .ports = p, .n_ports = 1 };

	judge(&(struct verdict_in){ .node = "gpu03", .readings = &r });
}

static struct rec_port port(const char *layer, const char *state, const char *phys)
{
	struct rec_port p = { .device = "mlx5_2", .port = 1, .state = state, .phys_state = phys,
			      .link_layer = layer };

	return p;
}

static void one(const char *severity, const char *subject, const char *text, const char *fix)
{
	assert_int_equal(v.n, 1);
	assert_string_equal(v.v[0].severity, severity);
	assert_string_equal(v.v[0].subject, subject);
	assert_non_null(strstr(v.v[0].text, text));
	if (fix != NULL)
		assert_non_null(strstr(v.v[0].fix, fix));
}

TEST(each_port_state_has_its_meaning_and_remedy)
{
	static const struct {
		const char *layer, *state, *phys, *severity, *text, *fix;
	} rows[] = {
		{ "InfiniBand", "Initializing", "LinkUp", "bad", "no subnet manager has configured", "opensm" },
		{ "InfiniBand", "Initializing", "Training", "bad", "coming up", "cable first" },
		{ "InfiniBand", "Armed", "LinkUp", "warn", "has not activated", "opensm" },
		{ "InfiniBand", "ActiveDefer", "LinkErrorRecovery", "warn", "nothing is sent", "cable" },
		{ "InfiniBand", "Down", "Polling", "warn", "no partner", "reseat the cable" },
		{ "InfiniBand", "Down", "Disabled", "bad", "switched this port off", "ibportstate -C mlx5_2 -D 0 1 enable" },
		{ "InfiniBand", "Down", "Training", "warn", "cannot agree", "cable" },
		{ "InfiniBand", "Down", "Sleep", "warn", "asleep", "driver" },
		{ "InfiniBand", "Down", "LinkErrorRecovery", "bad", "so many errors", "cable" },
		{ "InfiniBand", "Down", NULL, "bad", "Down", "switch port" },
		{ "Ethernet", "Down", "LinkUp", "warn", "RoCE", "ip link set" },
		{ "Ethernet", "Down", "Disabled", "warn", "switched off, or it has no cable", "ip link set" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rec_port p = port(rows[i].layer, rows[i].state, rows[i].phys);

		judge_port(&p);
		one(rows[i].severity, "gpu03 mlx5_2", rows[i].text, rows[i].fix);
		assert_null(strstr(v.v[0].fix, i < 10 ? "ip link" : "ibportstate")); /* of the other layer */
	}
}

TEST(an_absent_link_layer_is_InfiniBand_and_a_second_port_is_named)
{
	struct rec_port p = port(NULL, "Initializing", "LinkUp");

	p.port = 2;
	judge_port(&p);
	one("bad", "gpu03 mlx5_2/2", "no subnet manager", "opensm");
}

TEST(a_remedy_names_the_device_or_the_interface)
{
	struct rec_port p = port("Ethernet", "Down", NULL);

	p.netdev = "enp23s0f0np0";
	judge_port(&p);
	one("warn", "gpu03 mlx5_2", "RoCE", "ip link set enp23s0f0np0 up");
	p.phys_state = "Disabled";
	judge_port(&p);
	assert_int_equal(strncmp(v.v[0].fix, "ip link set enp23s0f0np0 up; ", 29), 0);
	p.netdev = NULL;
	judge_port(&p);
	assert_non_null(strstr(v.v[0].fix, "ip link set DEV up; "));
	assert_non_null(strstr(v.v[0].fix, " (rdma link names its DEV)"));
	p.link_layer = NULL;
	p.port = 2;
	judge_port(&p);
	assert_string_equal(v.v[0].fix, "switch it on: ibportstate -C mlx5_2 -D 0 2 enable");
}

/* 64 bytes of name, as the longest that may come, fit into a remedy that may be sent. */
TEST(a_remedy_is_never_longer_than_the_wire_takes)
{
	struct rec_port p = port("Ethernet", "Down", NULL);

	p.device = "mlx5_0123456789012345678901234567890123456789012345678901234567890";
	judge_port(&p);
	assert_true(strlen(v.v[0].fix) < 256);
	p.link_layer = "InfiniBand";
	p.phys_state = "Disabled";
	judge_port(&p);
	assert_non_null(strstr(v.v[0].fix, "-C mlx5_0123456789012345678901234567890123456789012345678901234567890 -D"));
}

TEST(active_ports_are_well_and_RoCE_is_never_blamed_for_having_no_LID)
{
	struct rec_port p = port("InfiniBand", "Active", "LinkUp");

	MSG_SET(&p, port, lid, 7);
	MSG_SET(&p, port, sm_lid, 1);
	judge_port(&p);
	assert_int_equal(v.n, 0);
	p = port("Ethernet", "Active", "LinkUp");
	MSG_SET(&p, port, lid, 0);
	MSG_SET(&p, port, sm_lid, 0);
	judge_port(&p);
	assert_int_equal(v.n, 0);
	p = port("InfiniBand", "Active", "LinkUp"); /* LIDs not read: not judged */
	judge_port(&p);
	assert_int_equal(v.n, 0);
	MSG_SET(&p, port, lid, 0xffff);
	judge_port(&p);
	one("bad", "gpu03 mlx5_2", "without a LID", "opensm");
	MSG_SET(&p, port, lid, 3);
	MSG_SET(&p, port, sm_lid, 0);
	judge_port(&p);
	one("bad", "gpu03 mlx5_2", "no subnet manager", "opensm");
}

/* The second port of an Ethernet card often has no cable: no driver can tell this from one that is switched off. */
TEST(an_Ethernet_port_is_bad_only_when_it_was_Active_before)
{
	struct port_base seen = { .device = "mlx5_2", .port = 1 };
	struct rec_port p = port("Ethernet", "Down", "Disabled");
	struct rec_readings r = { .ports = &p, .n_ports = 1 };

	judge_port(&p);
	one("warn", "gpu03 mlx5_2", "no link", "exclude_ports");
	judge(&(struct verdict_in){ .node = "gpu03", .readings = &r, .bases = &seen, .n_bases = 1 });
	one("bad", "gpu03 mlx5_2", "no link", "ip link");
	seen.port = 2;
	judge(&(struct verdict_in){ .node = "gpu03", .readings = &r, .bases = &seen, .n_bases = 1 });
	one("warn", "gpu03 mlx5_2", "no link", "ip link");
}

/* Amazon's EFA is Active, and has neither LID nor subnet manager. */
TEST(a_port_that_is_neither_InfiniBand_nor_Ethernet_lacks_no_manager)
{
	struct rec_port p = port("Unspecified", "Active", "LinkUp");

	MSG_SET(&p, port, lid, 0);
	MSG_SET(&p, port, sm_lid, 0);
	judge_port(&p);
	assert_int_equal(v.n, 0);
	p.state = "Down";
	p.phys_state = "Disabled";
	judge_port(&p);
	one("bad", "gpu03 mlx5_2", "Down", "cable");
	assert_null(strstr(v.v[0].text, "RoCE"));
}

TEST(unknown_is_said_and_excluded_is_not_judged)
{
	struct rec_port p = port(NULL, NULL, NULL);

	p.text = "state: Invalid argument";
	judge_port(&p);
	one("warn", "gpu03 mlx5_2", "not known: state: Invalid argument", NULL);
	p.excluded = true;
	judge_port(&p);
	assert_int_equal(v.n, 0);
}

TEST(ports_are_counted_without_the_excluded_ones)
{
	struct rec_port p[] = { port(NULL, "Active", "LinkUp"), port(NULL, "Down", "Polling"),
				port(NULL, "ActiveDefer", "LinkUp"), port(NULL, "Active", "LinkUp"),
				port(NULL, NULL, NULL) };
	struct rec_source s = { .name = "sysfs", .ok = true };
	struct rec_readings r = { .ports = p, .n_ports = 5, .sources = &s, .n_sources = 1 };
	uint32_t all, active;

	p[3].excluded = true;
	verdict_count_ports(&r, &all, &active);
	assert_int_equal(all, 4);
	assert_int_equal(active, 1);
	assert_true(verdict_ports_known(&r));
	s.ok = false;
	assert_false(verdict_ports_known(&r));
}

TEST(devices_of_a_source_that_could_not_be_had_are_not_judged_one_by_one)
{
	struct rec_source s[] = { { .name = "verbs", .text = "does not answer" },
				  { .name = "nvml", .text = "does not answer" }, { .name = "sysfs" } };
	struct rec_port p = port("InfiniBand", NULL, NULL);
	struct rec_gpu g = { .text = "not read for 40 s", .procs_unknown = true };
	struct rec_readings r = { .sources = s, .n_sources = 2, .ports = &p, .n_ports = 1, .gpus = &g, .n_gpus = 1 };
	struct verdict_in in = { .node = "gpu03", .readings = &r, .strange_gpus = 1 };

	judge(&in);
	assert_int_equal(v.n, 2);
	assert_string_equal(v.v[0].text, "verbs: does not answer");
	assert_string_equal(v.v[0].severity, "bad"); /* nobody knows the ports */
	assert_string_equal(v.v[1].text, "nvml: does not answer");
	r.n_sources = 3;
	s[2].ok = s[1].ok = true; /* sysfs reads them, so they are judged, and verbs are a pity only */
	g.text = NULL;
	judge(&in);
	assert_int_equal(v.n, 3);
	assert_string_equal(v.v[0].severity, "warn");
	assert_non_null(strstr(v.v[1].text, "its state is not known"));
	assert_string_equal(v.v[2].subject, "gpu03 GPU 0");
	assert_non_null(strstr(v.v[2].text, "does not tell which processes use it"));
}

TEST(a_strangers_process_is_named_with_user_and_pid)
{
	struct rec_gpu_proc pr = { .pid = 4711, .user = "li", .name = "python" };
	struct rec_gpu g = { .index = 3, .procs = &pr, .n_procs = 1 };
	struct rec_readings r = { .gpus = &g, .n_gpus = 1 };
	struct verdict_in in = { .node = "gpu03", .readings = &r };

	judge(&in);
	assert_int_equal(v.n, 0);
	in.strange_gpus = 8;
	judge(&in);
	one("warn", "gpu03 GPU 3", "in use by python (pid 4711 of li)", "--busy-gpus");
	g.shared_out = true; /* another virtual node says it */
	judge(&in);
	assert_int_equal(v.n, 0);
}

TEST(a_GPU_off_the_bus_and_memory_errors_are_told)
{
	struct rec_gpu g = { .index = 0, .text = "fell off the bus" };
	struct rec_readings r = { .gpus = &g, .n_gpus = 1 };
	struct verdict_in in = { .node = "gpu03", .readings = &r };

	judge(&in);
	one("bad", "gpu03 GPU 0", "fell off the bus", "dmesg");
	g.text = NULL;
	MSG_SET(&g, gpu, ecc_uncorrected, 2);
	judge(&in);
	one("warn", "gpu03 GPU 0", "2 uncorrectable", "reset");
	g = (struct rec_gpu){ .index = 0 };
	MSG_SET(&g, gpu, xids, 1);
	MSG_SET(&g, gpu, xid, 79);
	judge(&in);
	one("bad", "gpu03 GPU 0", "Xid 79: it has fallen off the bus", "reboot");
	MSG_SET(&g, gpu, xid, 43); /* an assertion in a user's kernel */
	judge(&in);
	assert_int_equal(v.n, 0);
	MSG_SET(&g, gpu, xids, 2); /* of the first nothing is known */
	judge(&in);
	one("warn", "gpu03 GPU 0", "Xid 43", NULL);
	MSG_SET(&g, gpu, xid_faults, 0);
	judge(&in);
	assert_int_equal(v.n, 0);
	MSG_SET(&g, gpu, xid_faults, 1);
	MSG_SET(&g, gpu, xid_fault, 48);
	judge(&in);
	one("bad", "gpu03 GPU 0", "(double-bit ECC) (1 in all)", "reset");
}

static void brief(const char *want, int64_t want_since)
{
	int64_t since;

	assert_string_equal(verdict_brief(&ar, &v, &since), want);
	assert_int_equal(since, want_since);
}

TEST(a_few_words_for_a_table_tell_the_worst_and_count_its_equals)
{
	struct rec_port p[] = { port(NULL, "Down", "Polling"), port(NULL, "Initializing", "LinkUp"),
				port(NULL, "Down", "Disabled"), port(NULL, "Initializing", "LinkUp") };
	struct rec_gpu g[] = { { .index = 0, .text = "fell off the bus: the driver cannot reach it" },
			       { .index = 5, .text = "fell off the bus: the driver cannot reach it" },
			       { .index = 6, .text = "no permission" } };
	struct rec_source s = { .name = "probe", .text = "it ended with code 3" };
	struct rec_readings r = { .ports = p, .n_ports = 3 };
	struct verdict_in in = { .node = "gpu03", .readings = &r };

	MSG_SET(&p[1], port, since_wall_ms, 5000);
	MSG_SET(&p[3], port, since_wall_ms, 4000);
	judge(&in);
	assert_string_equal(v.v[0].brief, "mlx5_2 Down/Polling");
	brief("mlx5_2 Initializing", 5000);
	r.n_ports = 4;
	judge(&in);
	brief("2 ports Initializing", 4000);
	r = (struct rec_readings){ .gpus = g, .n_gpus = 1 };
	judge(&in);
	brief("GPU 0 lost", 0);
	r.n_gpus = 3;
	judge(&in);
	brief("2 GPUs lost", 0);
	g[0].text = g[1].text = NULL;
	MSG_SET(&g[0], gpu, xids, 2);
	MSG_SET(&g[0], gpu, xid, 63);
	judge(&in);
	brief("GPU 6 not readable", 0);
	r.n_gpus = 2;
	judge(&in);
	brief("GPU 0 Xid 63", 0);
	r = (struct rec_readings){ .sources = &s, .n_sources = 1 };
	judge(&in);
	brief("probe: no readings", 0);
	in = (struct verdict_in){ .node = "gpu03", .has_skew = true, .skew_us = -2100000 };
	judge(&in);
	brief("clock 2.1 s off", 0);
	v.v[1] = v.v[0];
	v.kind[1] = v.kind[0];
	v.v[1].severity = "bad";
	v.v[0] = (struct rec_attention){ .severity = "warn", .brief = "drained: new NIC" };
	v.kind[0] = (struct verdict_kind){ .is = "drained" };
	v.n = 2;
	brief("drained; clock 2.1 s off", 0); /* by coord_cordon.c: first */
	v.v[1].severity = "warn";
	brief("drained: new NIC", 0);
	in.skew_us = INT64_C(28800000000);
	judge(&in);
	brief("clock 8.0 h off", 0);
	in.has_skew = false;
	judge(&in);
	assert_null(verdict_brief(&ar, &v, &(int64_t){ 0 }));
}

TEST(the_time_of_a_change_is_told_by_the_coordinators_clock)
{
	struct rec_port p = port(NULL, "Down", "Polling");
	struct rec_readings r = { .ports = &p, .n_ports = 1 };
	struct verdict_in in = { .node = "gpu03", .readings = &r, .has_skew = true, .is_ref = true, .skew_us = 400000 };

	judge(&in);
	assert_false(MSG_HAS(&v.v[0], attention, since_wall_ms));
	MSG_SET(&p, port, since_wall_ms, 1000000);
	judge(&in);
	assert_int_equal(v.v[0].since_wall_ms, 1000000);
	in.is_ref = false;
	judge(&in);
	assert_int_equal(v.v[0].since_wall_ms, 999600);
	p.since_wall_ms = INT64_MIN; /* nonsense is not told */
	judge(&in);
	assert_false(MSG_HAS(&v.v[0], attention, since_wall_ms));
}

TEST(a_clock_is_told_only_when_it_is_surely_off)
{
	struct rec_host h = { .cpus = 1 };
	struct rec_readings r = { .host = &h, .n_host = 1 };
	struct verdict_in in = { .node = "gpu04", .readings = &r, .has_skew = true,
				 .skew_us = -2100000, .skew_error_us = 300 };

	judge(&in);
	one("bad", "gpu04", "behind by 2.1 s", "chrony");
	in.skew_us = 600000;
	in.skew_error_us = 200000; /* it may be 0.4 s only */
	judge(&in);
	assert_int_equal(v.n, 0);
	assert_false(verdict_clock_off(&in));
	MSG_SET(&h, host, clock_synced, false);
	assert_true(verdict_clock_off(&in));
	in.skew_error_us = 500000; /* then it may be 0.1 s only */
	assert_false(verdict_clock_off(&in));
	in.skew_error_us = 200000;
	judge(&in);
	one("bad", "gpu04", "nobody steers it", "chrony");
	in.is_ref = true; /* the coordinator's own clock */
	judge(&in);
	assert_int_equal(v.n, 0);
	in = (struct verdict_in){ .node = "gpu04", .has_skew = true, .skew_us = INT64_MIN };
	judge(&in);
	assert_int_equal(v.n, 1);
}

TEST(a_source_that_fails_is_told_and_one_that_is_absent_is_not)
{
	struct rec_source s = { .name = "nvml", .text = "driver and library differ" };
	struct rec_readings r = { .sources = &s, .n_sources = 1 };

	judge(&(struct verdict_in){ .node = "gpu05", .readings = &r });
	one("bad", "gpu05", "nvml: driver and library differ", NULL);
	assert_true(verdict_bad(&v));
	s.absent = true;
	judge(&(struct verdict_in){ .node = "gpu05", .readings = &r });
	assert_int_equal(v.n, 0);
	assert_false(verdict_bad(&v));
}

TEST(there_is_an_end_to_what_is_said_of_one_node)
{
	struct rec_port p[200];
	struct rec_readings r = { .ports = p, .n_ports = 200 };

	for (int i = 0; i < 200; i++)
		p[i] = port(NULL, "Down", "Polling");
	judge(&(struct verdict_in){ .node = "n", .readings = &r });
	assert_int_equal(v.n, VERDICTS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_port_state_has_its_meaning_and_remedy),
		cmocka_unit_test(an_absent_link_layer_is_InfiniBand_and_a_second_port_is_named),
		cmocka_unit_test(a_remedy_names_the_device_or_the_interface),
		cmocka_unit_test(a_remedy_is_never_longer_than_the_wire_takes),
		cmocka_unit_test(active_ports_are_well_and_RoCE_is_never_blamed_for_having_no_LID),
		cmocka_unit_test(an_Ethernet_port_is_bad_only_when_it_was_Active_before),
		cmocka_unit_test(a_port_that_is_neither_InfiniBand_nor_Ethernet_lacks_no_manager),
		cmocka_unit_test(unknown_is_said_and_excluded_is_not_judged),
		cmocka_unit_test(ports_are_counted_without_the_excluded_ones),
		cmocka_unit_test(devices_of_a_source_that_could_not_be_had_are_not_judged_one_by_one),
		cmocka_unit_test(a_strangers_process_is_named_with_user_and_pid),
		cmocka_unit_test(a_GPU_off_the_bus_and_memory_errors_are_told),
		cmocka_unit_test(a_few_words_for_a_table_tell_the_worst_and_count_its_equals),
		cmocka_unit_test(the_time_of_a_change_is_told_by_the_coordinators_clock),
		cmocka_unit_test(a_clock_is_told_only_when_it_is_surely_off),
		cmocka_unit_test(a_source_that_fails_is_told_and_one_that_is_absent_is_not),
		cmocka_unit_test(there_is_an_end_to_what_is_said_of_one_node),
	};
	int r;

	arena_init(&ar);
	r = cmocka_run_group_tests_name("verdict", tests, NULL, NULL);
	arena_finish(&ar);
	return r;
}
