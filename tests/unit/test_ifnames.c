/* test_ifnames.c - NCCL_SOCKET_IFNAME and its like against the interfaces that are there */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "shim/ifnames.h"

static const struct ifname_here here[] = { { "lo", true }, { "eth0", false }, { "ibp1s0", false } };

static const char *said(const char *var, bool other_nodes)
{
	static char text[300];
	const char *const env[] = { "HOME=/root", "NCCL_SOCKET_IFNAMES=no", var, NULL };

	bool found;

	text[0] = '\0';
	found = ifnames_judge(env, here, 3, other_nodes, text, sizeof(text));
	assert_int_equal(found, text[0] != '\0');
	return text;
}

static void names_that_are_there_are_not_spoken_of(void **state)
{
	static const char *const good[] = { "NCCL_SOCKET_IFNAME=eth", "NCCL_SOCKET_IFNAME==eth0", "NCCL_SOCKET_IFNAME=ib,eth",
					    "NCCL_SOCKET_IFNAME=^docker,lo", "NCCL_SOCKET_IFNAME=^=lo", "NCCL_SOCKET_IFNAME=eth0:1",
					    "NCCL_SOCKET_IFNAME=", "GLOO_SOCKET_IFNAME=bond0,eth0", "TP_SOCKET_IFNAME=ibp1s0",
					    "NCCL_SOCKET_IFNAME=lo,eth0" };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_string_equal(said(good[i], true), "");
}

static void names_of_nothing_are(void **state)
{
	static const char *const none[] = { "NCCL_SOCKET_IFNAME=eth7", "NCCL_SOCKET_IFNAME==eth", "NCCL_SOCKET_IFNAME=^lo,eth,ib",
					    "GLOO_SOCKET_IFNAME=eth", "TP_SOCKET_IFNAME=^lo", "NCCL_SOCKET_IFNAME=," };

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_non_null(strstr(said(none[i], false), "names no interface that it has"));
	assert_string_equal(said("NCCL_SOCKET_IFNAME=eth7", true),
			    "NCCL_SOCKET_IFNAME=eth7, which the job sets, names no interface that it has: NCCL cannot connect");
	assert_string_equal(said("NCCL_SOCKET_IFNAME=^", true), "");
}

static void loopback_is_for_one_node(void **state)
{
	assert_string_equal(said("NCCL_SOCKET_IFNAME=lo", false), "");
	assert_string_equal(said("NCCL_SOCKET_IFNAME=lo", true),
			    "NCCL_SOCKET_IFNAME=lo, which the job sets, is the loopback interface: other nodes cannot reach it");
	assert_non_null(strstr(said("GLOO_SOCKET_IFNAME=lo", true), "GLOO_SOCKET_IFNAME=lo"));
	assert_non_null(strstr(said("NCCL_SOCKET_IFNAME=^eth,ib", true), "is the loopback interface"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_that_are_there_are_not_spoken_of),
		cmocka_unit_test(names_of_nothing_are),
		cmocka_unit_test(loopback_is_for_one_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
