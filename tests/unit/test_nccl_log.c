/* test_nccl_log.c - lines of NCCL's log, as its versions print them */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/nccl_log.h"

#define TEST(name) static void name(void **state)
#define INFO "gpu01:4711:4720 [0] NCCL INFO "

static struct nccl_log l;

static bool line(const char *text)
{
	return nccl_log_line(&l, text, strlen(text));
}

static void fresh(void)
{
	l = (struct nccl_log){ .inits = 0 };
}

/* As printed on two H100s by 2.28.9, over TCP. */
TEST(a_job_over_sockets_says_why)
{
	fresh();
	line("vm:1864:1864 [0] NCCL INFO NCCL version 2.28.9+cuda13.0");
	line("vm:1864:1864 [0] NCCL INFO Bootstrap: Using eth0:192.0.2.2<0>");
	line("vm:1864:1878 [0] NCCL INFO NET/Plugin: Could not find: libnccl-net.so");
	line("vm:1864:1878 [0] NCCL INFO NET/IB : No device found.");
	line("vm:1864:1878 [0] NCCL INFO NET/IB : Using [RO]; OOB eth0:192.0.2.2<0>");
	line("vm:1864:1878 [0] NCCL INFO Failed to initialize NET plugin IB");
	line("vm:1864:1878 [0] NCCL INFO NET/Socket : Using [0]eth0:192.0.2.2<0>");
	line("vm:1864:1878 [0] NCCL INFO Initialized NET plugin Socket");
	line("vm:1864:1878 [0] NCCL INFO Using network Socket");
	line("vm:1864:1878 [0] NCCL INFO ncclCommInitRankConfig comm 0x558b rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 60 commId "
	     "0xa2fc - Init START");
	line("vm:1864:1878 [0] NCCL INFO Channel 00/24 : 0 1");
	line("vm:1864:1878 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] [send] via NET/Socket/0");
	line("vm:1864:1878 [0] NCCL INFO ncclCommInitRankConfig comm 0x558b rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 60 commId "
	     "0xa2fc - Init COMPLETE");
	assert_string_equal(l.version, "2.28.9");
	assert_string_equal(l.bootstrap, "eth0:192.0.2.2");
	assert_string_equal(l.net, "Socket");
	assert_string_equal(l.socket_if, "eth0");
	assert_true(l.no_ib_device && l.n_hcas == 0 && !l.ib_disabled);
	assert_int_equal(l.inits, 1);
	assert_int_equal(l.inits_done, 1);
	assert_int_equal(l.sends_net, 1);
	assert_int_equal(l.gdr + l.p2p + l.shm, 0);
	assert_int_equal(l.trouble, NCCL_FINE);
}

TEST(devices_of_infiniband_are_read_in_their_order)
{
	fresh();
	assert_true(line(INFO "NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB/SHARP [2]mlx5_bond_0:1/RoCE [RO]; OOB "
			      "bond0:10.0.0.1<0>"));
	assert_int_equal(l.n_hcas, 3);
	assert_string_equal(l.hcas[0], "mlx5_0:1");
	assert_string_equal(l.hcas[1], "mlx5_1:1");
	assert_string_equal(l.hcas[2], "mlx5_bond_0:1");
	assert_true(l.roce);
	assert_true(line("[2025-11-02 10:02:11] gpu01:4711:4720 [0] NCCL INFO Using network IB"));
	assert_string_equal(l.net, "IB");
}

TEST(channels_tell_nvlink_memory_network_and_gpudirect_apart)
{
	fresh();
	line(INFO "Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM");
	line(INFO "Channel 01/0 : 0[0] -> 1[1] via P2P/IPC/read");
	line(INFO "Channel 00 : 2[1b0] -> 3[1c0] via SHM/direct/direct");
	line(INFO "Channel 00/0 : 0[0] -> 8[0] [send] via NET/IB/0/GDRDMA(PCI)/Shared");
	line(INFO "Channel 01/0 : 8[0] -> 0[0] [receive] via NET/IB/1");
	assert_int_equal(l.p2p, 2);
	assert_int_equal(l.shm, 1);
	assert_int_equal(l.sends_net, 2);
	assert_int_equal(l.gdr, 1);
}

TEST(what_the_user_has_set_is_seen_as_nccl_read_it)
{
	fresh();
	line(INFO "NCCL_IB_DISABLE set by environment to 0.");
	assert_false(l.ib_disabled);
	line(INFO "NCCL_IB_DISABLE set by environment to 1.");
	assert_true(l.ib_disabled);
	line(INFO "NCCL_NET set by environment to IB");
	assert_true(l.net_asked);
	assert_string_equal(l.net_wanted, "IB");
	line(INFO "NCCL_IB_HCA set to mlx5_0,mlx5_1");
	assert_string_equal(l.ib_hca, "mlx5_0,mlx5_1");
	line(INFO "NCCL_NET_GDR_LEVEL set by environment to PHB");
	assert_string_equal(l.net_wanted, "IB");
}

TEST(who_wrote_a_line_is_known)
{
	static const char *const rows[] = { INFO "x", "[2025-11-02 10:02:11] gpu01:4711:4720 [0] NCCL INFO x",
					    "[2025-11-02 10:02:11] gpu01:4711:4720 [0] transport/net_ib.cc:2543 NCCL WARN x" };

	for (size_t i = 0; i < 3; i++)
		assert_int_equal(nccl_log_pid(rows[i], strlen(rows[i])), 4711);
	assert_int_equal(nccl_log_pid("step 1:2:3", 10), 0);
	assert_int_equal(nccl_log_pid("NCCL version 2.21.5+cuda12.4", 28), 0);
	assert_int_equal(nccl_log_pid("", 0), 0);
}

TEST(troubles_have_names_for_programs)
{
	for (int i = NCCL_COMPLETION; i <= NCCL_OTHER; i++)
		assert_int_equal(nccl_trouble_of(nccl_trouble_name((enum nccl_trouble)i)), i);
	assert_null(nccl_trouble_name(NCCL_FINE));
	assert_int_equal(nccl_trouble_of("new"), NCCL_OTHER);
}

TEST(a_failed_transfer_names_device_and_peer)
{
	fresh();
	line("gpu01:4711:4790 [3] transport/net_ib.cc:2543 NCCL WARN NET/IB: Got completion from peer 10.0.0.7<51234> with "
	     "status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_WC_SEND(0) reqSize=0 vendor_err=129 req_type=Send localGid :: "
	     "remoteGids:: hca mlx5_2");
	assert_int_equal(l.trouble, NCCL_COMPLETION);
	assert_int_equal(l.number, 12);
	assert_string_equal(l.peer, "10.0.0.7");
	assert_string_equal(l.dev, "mlx5_2");
	fresh();
	line("gpu01:4711:4790 [3] NCCL WARN NET/IB : Got completion from peer 10.0.0.7<51234> with error 12, opcode 0, len 0, "
	     "vendor err 129");
	assert_int_equal(l.trouble, NCCL_COMPLETION);
	assert_int_equal(l.number, 12);
}

TEST(no_path_to_a_peer_is_told_with_its_device)
{
	fresh();
	line(INFO "NCCL WARN Call to ibv_modify_qp failed with 110 Connection timed out, on dev mlx5_0:1, curr state INIT, next "
		  "state RTR, local GID index 3, local GID fe80::1, remote GID fe80::2");
	assert_int_equal(l.trouble, NCCL_MODIFY_QP);
	assert_int_equal(l.number, 110);
	assert_string_equal(l.dev, "mlx5_0");
	assert_string_equal(l.peer, "fe80::2");
}

/* The other rank's end is seen first by those that lived; the cause comes later, or not. */
TEST(a_cause_takes_the_place_of_what_only_follows_from_it)
{
	fresh();
	line("gpu01:1:2 [0] misc/socket.cc:1 NCCL WARN socketProgress: Connection closed by remote peer gpu02<41234>");
	assert_int_equal(l.trouble, NCCL_PEER_GONE);
	line("gpu01:1:2 [0] init.cc:896 NCCL WARN Duplicate GPU detected : rank 0 and rank 1 both on CUDA device 1b000");
	assert_int_equal(l.trouble, NCCL_DUPLICATE_GPU);
	line("gpu01:1:2 [0] misc/ibvwrap.cc:1 NCCL WARN Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory");
	assert_int_equal(l.trouble, NCCL_DUPLICATE_GPU);
}

TEST(every_kind_of_trouble_is_known)
{
	static const struct {
		const char *text;
		enum nccl_trouble what;
	} rows[] = {
		{ "NET/IB : mlx5_0:1 async fatal event: local catastrophic error", NCCL_ASYNC_EVENT },
		{ "NET/IB : mlx5_1:1 Got non-fatal async event: port error(10)", NCCL_ASYNC_EVENT },
		{ "Call to ibv_reg_mr failed with error Cannot allocate memory", NCCL_MEMLOCK },
		{ "Mismatched NCCL version detected : rank 0 version 22809 rank 1 version 22105", NCCL_VERSIONS },
		{ "Failed to initialize any NET plugin", NCCL_NO_NET },
		{ "Cuda failure 'out of memory'", NCCL_CUDA },
		{ "something new", NCCL_OTHER },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[256] = "h:1:2 [0] x.cc:1 NCCL WARN ";

		fresh();
		strcat(text, rows[i].text);
		assert_true(line(text));
		assert_int_equal(l.trouble, rows[i].what);
		assert_string_equal(l.text, rows[i].text);
		assert_true(strlen(nccl_trouble_text(l.trouble)) > 3);
	}
}

TEST(other_lines_are_nothing)
{
	fresh();
	assert_false(line("step 3: loss 1.2"));
	assert_false(line(""));
	assert_false(line(INFO "Setting affinity for GPU 0 to ff"));
	assert_false(line("I wrote NCCL version 9 in a log")); /* not where a line of NCCL's has it */
	assert_int_equal(l.trouble, NCCL_FINE);
	assert_string_equal(l.version, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_job_over_sockets_says_why),
		cmocka_unit_test(devices_of_infiniband_are_read_in_their_order),
		cmocka_unit_test(channels_tell_nvlink_memory_network_and_gpudirect_apart),
		cmocka_unit_test(what_the_user_has_set_is_seen_as_nccl_read_it),
		cmocka_unit_test(who_wrote_a_line_is_known),
		cmocka_unit_test(troubles_have_names_for_programs),
		cmocka_unit_test(a_failed_transfer_names_device_and_peer),
		cmocka_unit_test(no_path_to_a_peer_is_told_with_its_device),
		cmocka_unit_test(a_cause_takes_the_place_of_what_only_follows_from_it),
		cmocka_unit_test(every_kind_of_trouble_is_known),
		cmocka_unit_test(other_lines_are_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
