/* test_nccl_say.c - what NCCL's log means, in words */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/nccl_say.h"

#define TEST(name) static void name(void **state)

static const char *hcas[8] = { "mlx5_0:1", "mlx5_1:1", "mlx5_2:1", "mlx5_3:1", "mlx5_4:1", "mlx5_5:1", "mlx5_6:1", "mlx5_7:1" };
static struct rec_port ports[2][2];
static struct rec_source verbs = { .name = "verbs", .ok = true };
static struct rec_readings readings[2];
static struct rec_nccl_state s[2];
static struct rec_addr addrs[2] = { { .ip = "10.0.0.1" }, { .ip = "10.0.0.2" } };
static struct nccl_node v[2];
static struct nccl_why w;
static char text[769];

static int fresh(void **state)
{
	static const char *const names[] = { "gpu01", "gpu02" };

	for (uint32_t i = 0; i < 2; i++) {
		for (uint32_t k = 0; k < 2; k++)
			ports[i][k] = (struct rec_port){ .device = k ? "mlx5_1" : "mlx5_0", .port = 1, .state = "Active" };
		readings[i] = (struct rec_readings){ .sources = &verbs, .n_sources = 1, .ports = ports[i], .n_ports = 2 };
		s[i] = (struct rec_nccl_state){ .version = "2.28.9", .net = "IB", .hcas = hcas, .n_hcas = 8 };
		v[i] = (struct nccl_node){ .node = names[i], .s = &s[i], .r = &readings[i], .addrs = &addrs[i], .n_addrs = 1,
					   .rank_base = 8 * i, .n_ranks = 8 };
	}
	return 0;
}

static const char *brief(size_t n)
{
	nccl_say_brief(v, n, text, sizeof(text));
	return text;
}

static void tcp(uint32_t i)
{
	s[i].net = "Socket";
	s[i].socket_if = "eth0";
	s[i].n_hcas = 0;
	s[i].no_ib_device = true;
}

static const char *why(void)
{
	assert_true(nccl_on_socket(&v[0], 2));
	nccl_say_why(&v[0], &w);
	assert_true(strlen(w.text) > 10);
	assert_null(strstr(w.text, "not in use"));
	return w.reason;
}

TEST(one_line_says_version_network_and_gpudirect)
{
	assert_string_equal(brief(2), "NCCL 2.28.9, IB x8");
	s[0].sends_net = s[0].gdr = s[1].sends_net = s[1].gdr = 4;
	assert_string_equal(brief(2), "NCCL 2.28.9, IB x8 GDR");
	s[1].gdr = 3;
	assert_string_equal(brief(2), "NCCL 2.28.9, IB x8 no GDR! on gpu02");
	s[0].gdr = 3;
	assert_string_equal(brief(2), "NCCL 2.28.9, IB x8 no GDR");
	s[1].gdr = 4;
	assert_string_equal(brief(2), "NCCL 2.28.9, IB x8 no GDR! (but on gpu02)"); /* of two nodes none is most */
	s[1].gdr = 3;
	s[1].n_hcas = 7;
	s[0].roce = true;
	assert_string_equal(brief(2), "NCCL 2.28.9, RoCE x7-8! (x7 on gpu02) no GDR");
	s[1].version = "2.21.5";
	s[1].net = "Socket";
	assert_string_equal(brief(2), "NCCL 2.28.9 and others! (2.21.5 on gpu02), MIXED! IB and others");
}

/* The first is as good as any other. */
TEST(the_node_that_differs_is_named_wherever_it_stands)
{
	struct nccl_node all[5];
	struct rec_nccl_state states[5];
	char out[129];

	for (size_t odd = 0; odd < 5; odd++) {
		char want[80];

		for (size_t i = 0; i < 5; i++) {
			all[i] = v[0];
			states[i] = s[0];
			all[i].s = &states[i];
			all[i].node = (const char *[]){ "n0", "n1", "n2", "n3", "n4" }[i];
			states[i].version = i == odd ? "2.21.5" : "2.28.9";
		}
		nccl_say_brief(all, 5, out, sizeof(out));
		snprintf(want, sizeof(want), "and others! (2.21.5 on n%zu), IB x8", odd);
		if (strstr(out, want) == NULL)
			fail_msg("%s, not %s", out, want);
	}
	states[0].version = "2.21.5";
	nccl_say_brief(all, 5, out, sizeof(out));
	assert_non_null(strstr(out, "(2.21.5 on n0 and 1 more)"));
}

TEST(tcp_between_nodes_is_marked_and_within_one_it_is_not)
{
	tcp(0);
	tcp(1);
	assert_string_equal(brief(2), "NCCL 2.28.9, SOCKET! eth0");
	assert_string_equal(brief(1), "NCCL 2.28.9, within its node");
	assert_false(nccl_on_socket(&v[0], 1));
	s[0].p2p = 3;
	assert_string_equal(brief(1), "NCCL 2.28.9, GPU to GPU");
	s[0].sends_net = 1; /* it does use it: several hosts in one, or no way between its GPUs */
	assert_string_equal(brief(1), "NCCL 2.28.9, SOCKET! eth0");
}

TEST(where_nothing_was_said_nothing_is_shown)
{
	v[0].s = v[1].s = NULL;
	assert_string_equal(brief(2), "");
	s[0] = (struct rec_nccl_state){ .unread = "the job sets NCCL_DEBUG" };
	v[0].s = &s[0];
	assert_string_equal(brief(2), "");
	s[0] = (struct rec_nccl_state){ .version = "2.28.9", .inits = 1 };
	assert_string_equal(brief(2), "NCCL 2.28.9, beginning");
}

TEST(a_plug_in_is_named)
{
	s[0].net = s[1].net = "AWS Libfabric";
	assert_string_equal(brief(2), "NCCL 2.28.9, AWS Libfabric");
}

TEST(the_user_set_it)
{
	tcp(0);
	s[0].ib_disabled = true;
	s[0].set_by = "/etc/nccl.conf";
	ports[0][1].state = "Down"; /* what the user said comes before */
	assert_string_equal(why(), "user");
	assert_string_equal(w.text, "NCCL_IB_DISABLE=1 is set, by /etc/nccl.conf; of 2 InfiniBand ports of gpu01 1 are Active");
	s[0].ib_disabled = false;
	s[0].net_asked = "Socket";
	ports[0][1].state = "Active";
	assert_string_equal(why(), "user");
	assert_string_equal(w.text, "NCCL_NET=Socket is set, by /etc/nccl.conf; all 2 InfiniBand ports of gpu01 are Active");
	s[0].net_asked = NULL;
	s[0].ib_hca = "mlx5_9";
	assert_string_equal(why(), "user");
	assert_non_null(strstr(w.text, "NCCL_IB_HCA=mlx5_9"));
}

TEST(a_port_that_is_not_active)
{
	tcp(0);
	ports[0][0].state = "Initializing";
	ports[0][1].state = "Down";
	assert_string_equal(why(), "port");
	assert_non_null(strstr(w.text, "mlx5_0 is Initializing"));
}

TEST(the_library_the_container_the_limit_and_no_infiniband)
{
	tcp(0);
	MSG_SET(&s[0], nccl_state, memlock, 64 << 10);
	assert_string_equal(why(), "memlock");
	assert_non_null(strstr(w.text, "64 KiB"));
	readings[0].n_ports = 0;
	assert_string_equal(why(), "none");
	readings[0].n_ports = 2;
	s[0].no_dev = true;
	assert_string_equal(why(), "container");
	s[0].ib_why = "libibverbs.so cannot be loaded";
	assert_string_equal(why(), "library");
}

TEST(what_is_not_known_is_said_to_be_unknown)
{
	tcp(0);
	assert_string_equal(why(), "unknown");
	assert_non_null(strstr(w.text, "all 2 InfiniBand ports of gpu01 are Active"));
	assert_non_null(strstr(w.fix, "nodectl check nccl -w gpu01"));
	v[0].r = NULL; /* and not "no InfiniBand" */
	assert_string_equal(why(), "unknown");
}

TEST(a_failed_transfer_names_both_ends)
{
	s[0].trouble = "completion";
	MSG_SET(&s[0], nccl_state, number, 12);
	MSG_SET(&s[0], nccl_state, trouble_rank, 3);
	s[0].dev = "mlx5_1";
	s[0].peer = "10.0.0.2";
	ports[1][1].state = "Down";
	nccl_say_trouble(v, 2, 0, text, sizeof(text));
	assert_string_equal(text, "rank 3 on gpu01 mlx5_1: a transfer failed: the peer stopped answering, or a link failed "
				  "(completion status 12); its port is Active; the other end is gpu02 (ranks 8-15), whose "
				  "mlx5_1 is Down");
	s[0].peer = "10.9.9.9";
	nccl_say_trouble(v, 2, 0, text, sizeof(text));
	assert_non_null(strstr(text, "the other end is 10.9.9.9"));
}

TEST(what_both_ends_have_counted_is_said)
{
	struct rec_counter here[] = { { .name = "symbol_error", .value = 9 }, { .name = "out_of_sequence", .value = 70, .delta = 70 } };
	struct rec_counter there[] = { { .name = "symbol_error", .value = 40, .delta = 31 }, { .name = "link_downed", .delta = 1 } };

	s[0].trouble = "completion";
	MSG_SET(&s[0], nccl_state, number, 12);
	s[0].dev = "mlx5_1";
	s[0].peer = "10.0.0.2";
	for (int i = 0; i < 2; i++) {
		ports[i][1].counters = i == 0 ? here : there;
		ports[i][1].n_counters = 2;
		MSG_SET(&ports[i][1], port, counters_s, 1790);
	}
	nccl_say_trouble(v, 2, 0, text, sizeof(text));
	assert_non_null(strstr(text, "; its port is Active (no error counted in the last 30 min); the other end is gpu02 (ranks 8-15), whose "
				     "2 ports are all Active, mlx5_1 (symbol_error +31, link_downed +1 in the last 30 min)"));
	ports[1][1].gid = "fe80::5";
	s[0].peer = "fe80::5";
	nccl_say_trouble(v, 2, 0, text, sizeof(text));
	assert_non_null(strstr(text, "whose mlx5_1 is Active (symbol_error +31, link_downed +1 in the last 30 min)"));
}

TEST(a_gid_names_the_port_of_the_other_end)
{
	s[0].trouble = "modify-qp";
	MSG_SET(&s[0], nccl_state, number, 110);
	s[0].dev = "mlx5_0";
	s[0].peer = "fe80::5";
	ports[1][1].gid = "fe80::5";
	nccl_say_trouble(v, 2, 0, text, sizeof(text));
	assert_non_null(strstr(text, "no path to the peer (ibv_modify_qp: error 110)"));
	assert_non_null(strstr(text, "the other end is gpu02 (ranks 8-15), whose mlx5_1 is Active"));
	nccl_say_trouble(v, 2, 1, text, sizeof(text));
	assert_string_equal(text, "");
	s[1].trouble = "other";
	s[1].text = "something new";
	nccl_say_trouble(v, 2, 1, text, sizeof(text));
	assert_string_equal(text, "gpu02: something new");
}

#define T(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_line_says_version_network_and_gpudirect),
		T(the_node_that_differs_is_named_wherever_it_stands),
		T(tcp_between_nodes_is_marked_and_within_one_it_is_not),
		T(where_nothing_was_said_nothing_is_shown),
		T(a_plug_in_is_named),
		T(the_user_set_it),
		T(a_port_that_is_not_active),
		T(the_library_the_container_the_limit_and_no_infiniband),
		T(what_is_not_known_is_said_to_be_unknown),
		T(a_failed_transfer_names_both_ends),
		T(what_both_ends_have_counted_is_said),
		T(a_gid_names_the_port_of_the_other_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
