/* test_last_words.c - what a rank's end tells where no exception does */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "common/last_line.h"
#include "core/check.h"
#include "core/last_words.h"
#include "tests/unit/failmalloc.h"

static const char *line(const char *text)
{
	static char out[LAST_LINE_SIZE];

	last_line(text, strlen(text), out);
	return out;
}

static void the_last_line_with_words_is_taken(void **state)
{
	char many[3000];

	assert_string_equal(line(""), "");
	assert_string_equal(line("\n \n====\n"), "");
	assert_string_equal(line("loading\ntrain.sh: line 4: torchrun: command not found\n\n"), "train.sh: line 4: torchrun: command not found");
	assert_string_equal(line("\033[31mno data at /data\033[0m\n^^^^^\n"), "no data at /data");
	assert_string_equal(line("no data\n/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: resource_tracker: There appear to be 1 leaked\n"
				 "  warnings.warn('resource_tracker: There appear'\n"), "no data");
	assert_string_equal(line("\xe6\xb2\xa1\xe6\x9c\x89\xe6\x95\xb0\xe6\x8d\xae\n"), "\xe6\xb2\xa1\xe6\x9c\x89\xe6\x95\xb0\xe6\x8d\xae");
	assert_string_equal(line("bad data\n 28%|##8       | 340/1200 [1:02:11<2:37:18, 10.98s/it]\n"), "bad data");
	assert_string_equal(line("a\xff"), "a?");
	for (size_t i = 0; i < sizeof(many); i += 3)
		memcpy(many + i, "\xe6\xb2\xa1", 3);
	many[sizeof(many) - 3] = '\0';
	assert_int_equal(strlen(line(many)), 198); /* not inside of a character */
	(void)state;
}

static void shells_codes_and_signals_have_names(void **state)
{
	char out[80];

	assert_string_equal(last_words_signal(7), "SIGBUS");
	assert_null(last_words_signal(9)); /* sent by somebody */
	assert_null(last_words_signal(0));
	assert_true(last_words_code(127, out, sizeof(out)));
	assert_string_equal(out, "as a shell says when it does not find its program");
	assert_true(last_words_code(137, out, sizeof(out)));
	assert_string_equal(out, "as a shell says when its program was killed by signal 9 (SIGKILL)");
	assert_false(last_words_code(1, out, sizeof(out)));
	assert_false(last_words_code(128, out, sizeof(out)));
	assert_false(last_words_code(255, out, sizeof(out)));
	(void)state;
}

/* What it says to type is a check, or with a dot a group of them. */
static void checks_are_there(const char *fix)
{
	for (const char *p = fix; (p = strstr(p, "nodectl check ")) != NULL;) {
		const struct check *c = check_table;
		char id[64];

		p += strlen("nodectl check ");
		snprintf(id, sizeof(id), "%.*s", (int)strcspn(p, " ,;:()"), p);
		while (c->id != NULL && !check_matches(c, id))
			c++;
		if (c->id == NULL)
			fail_msg("there is no check '%s': %s", id, fix);
	}
}

static void what_is_well_known_has_a_remedy_with_the_nodes_name(void **state)
{
	static const struct {
		const char *text, *fix;
	} v[] = {
		{ "rank 1 (b, pid 7) was killed by signal 7 (SIGBUS)", "/dev/shm of gpu02 was full" },
		{ "RuntimeError: DataLoader worker (pid 1) is killed by signal: Bus error. It is possible", "/dev/shm of gpu02" },
		{ "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.90 GiB", "smaller batches" },
		{ "OSError: [Errno 122] Disk quota exceeded: '/x'", "quota -s" },
		{ "ModuleNotFoundError: No module named 'flash_attn'", "the environment of gpu02" },
		{ "/opt/env/bin/python3: /lib/libc.so.6: version `GLIBC_2.38' not found", "newer system" },
		{ "Cuda failure 802 'system not yet initialized'", "nvidia-fabricmanager" },
		{ "train.sh: line 3: torchrun: command not found", "see that the path is there on gpu02" },
		{ "OSError: [Errno 24] Too many open files", "LimitNOFILE= of nodeagent-launcher.service" },
		{ "RuntimeError: can't start new thread", "LimitNPROC= of nodeagent-launcher.service" },
		{ "BlockingIOError: [Errno 11] Unable to open file (unable to lock file, errno = 11, error message = 'Resource temporarily unavailable')",
		  "another process has that file open" },
		{ "pdsh@gpu02: gpu03: Permission denied (publickey,password).", "logs in to another node by ssh" },
		{ "socketStartConnect: Connect to 10.0.0.2<40123> failed : Network is unreachable", "NCCL_SOCKET_IFNAME" },
		{ "urllib.error.URLError: <urlopen error [Errno 101] Network is unreachable>", "HF_HUB_OFFLINE" },
		{ "The IPv4 network addresses of (gpu01, 29500) cannot be retrieved (gai error: -3 - Temporary failure in name resolution).", "MASTER_ADDR" },
		{ "CUDA error: uncorrectable ECC error encountered", "nodectl check gpu. -w gpu02" },
		{ "CUDA error: an illegal memory access was encountered", "nodectl check gpu. -w gpu02" },
		{ "The NVIDIA driver on your system is too old (found version 12040)", "nodectl check gpu.driver -v -w gpu02" },
		{ "OSError: [Errno 116] Stale file handle: '/data/x'", "nodectl check node. -v -w gpu02" },
		{ "OSError: [Errno 28] No space left on device", "nodectl check node.disk -v -w gpu02" },
		{ "sh exited with code 137 (as a shell says when its program was killed by signal 9 (SIGKILL))", "nodectl check node.kmsg.oom -w gpu02" },
		{ "Mismatched collective detected, please check your collective calls at and around rank 3", "different collectives" },
	};
	struct arena a;

	arena_init(&a);
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		const char *fix = last_words_fix(&a, v[i].text, "gpu02");

		assert_non_null(fix);
		if (strstr(fix, v[i].fix) == NULL || strstr(fix, "NODE") != NULL || strlen(fix) > 400)
			fail_msg("%s: %s", v[i].text, fix);
		checks_are_there(fix);
	}
	assert_null(last_words_fix(&a, "ValueError: bad batch", "gpu02"));
	assert_null(last_words_fix(&a, "RuntimeError: Mismatched sizes of vocabularies", "gpu02"));
	assert_null(last_words_fix(&a, NULL, "gpu02"));
	EACH_FAILING_MALLOC({
		last_words_fix(&a, v[0].text, NULL);
		arena_finish(&a);
		arena_init(&a);
	})
	arena_finish(&a);
	(void)state;
}

static void who_lost_a_peer_is_not_the_cause(void **state)
{
	assert_true(last_words_of_peer("[Rank 2] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=216)"));
	assert_true(last_words_of_peer("torch.distributed.DistBackendError: NCCL error in: x"));
	assert_false(last_words_of_peer("ValueError: bad batch"));
	assert_false(last_words_of_peer("torch.AcceleratorError: CUDA error: unspecified launch failure"));
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_line_with_words_is_taken),
		cmocka_unit_test(shells_codes_and_signals_have_names),
		cmocka_unit_test(what_is_well_known_has_a_remedy_with_the_nodes_name),
		cmocka_unit_test(who_lost_a_peer_is_not_the_cause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
