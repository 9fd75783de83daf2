/* test_traceback.c - the line that says what went wrong, out of what programs write when they die */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/traceback.h"

#define TB "Traceback (most recent call last):\n"
#define MAIN "  File \"/home/li/run/train.py\", line 42, in <module>\n    main()\n"
#define LIB "  File \"/opt/env/lib/python3.11/site-packages/torch/nn/modules/linear.py\", line 134, in forward\n    return f(x)\n"
#define CHILD                                                                                      \
	TB "  File \"/opt/env/bin/torchrun\", line 8, in <module>\n    sys.exit(main())\n"        \
	   "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"                 \
	   "============================================================\ntrain.py FAILED\n"
#define DURING "\nDuring handling of the above exception, another exception occurred:\n\n"
#define DIRECT "\nThe above exception was the direct cause of the following exception:\n\n"

static void check(const char *text, size_t n, int64_t rank, int64_t local, const char *want, int line)
{
	struct traceback t;
	char *copy = malloc(n ? n : 1); /* the sanitiser watches its end */

	assert_non_null(copy);
	memcpy(copy, text, n);
	traceback_find(copy, n, rank, local, &t);
	if (strcmp(t.text, want) != 0)
		fail_msg("line %d: '%s' instead of '%s'", line, t.text, want);
	assert_int_equal(t.kind == TRACEBACK_NONE, *want == '\0');
	assert_true(utf8_valid(t.text, strlen(t.text)));
	free(copy);
}

#define FINDS(text, want) check(text, strlen(text), -1, -1, want, __LINE__)
#define FINDS_OF(rank, local, text, want) check(text, strlen(text), rank, local, want, __LINE__)

static void an_exception_with_its_place(void **state)
{
	FINDS("loading\n" TB MAIN "ValueError: bad learning rate\n", "ValueError: bad learning rate at train.py:42");
	FINDS(TB MAIN "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.90 GiB\n",
	      "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.90 GiB at train.py:42");
	FINDS(TB MAIN "AssertionError\n", "AssertionError at train.py:42");
	FINDS(TB MAIN "KeyError: 'labels'", "KeyError: 'labels' at train.py:42"); /* the end is cut */
}

static void the_users_own_line_rather_than_a_packages(void **state)
{
	FINDS(TB MAIN LIB "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)\n",
	      "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3) at train.py:42");
	FINDS(TB LIB "RuntimeError: no frame of the user's\n", "RuntimeError: no frame of the user's at linear.py:134");
	FINDS(TB "  File \"<string>\", line 1, in <module>\nZeroDivisionError: division by zero\n",
	      "ZeroDivisionError: division by zero at <string>:1");
}

static void marks_below_the_source_and_repeated_frames_are_no_exceptions(void **state)
{
	FINDS(TB MAIN "    ^^^^^^\n  [Previous line repeated 996 more times]\n"
	      "RecursionError: maximum recursion depth exceeded\n",
	      "RecursionError: maximum recursion depth exceeded at train.py:42");
}

static void of_a_chain_the_first(void **state)
{
	FINDS(TB MAIN "KeyError: 'a'\n" DURING TB MAIN "RuntimeError: second\n", "KeyError: 'a' at train.py:42");
	FINDS(TB MAIN "OSError: disk\n" DIRECT TB MAIN "RuntimeError: second\n" DURING TB MAIN "ValueError: third\n",
	      "OSError: disk at train.py:42");
	FINDS(TB MAIN "KeyboardInterrupt\n" DURING TB MAIN "RuntimeError: while it was stopped\n",
	      "RuntimeError: while it was stopped at train.py:42");
}

static void the_exception_inside_of_a_loaders_message(void **state)
{
	FINDS(TB MAIN LIB "ValueError: Caught ValueError in DataLoader worker process 0.\nOriginal " TB
	      "  File \"/home/li/run/data.py\", line 7, in __getitem__\n    raise ValueError(i)\nValueError: 17\n\n",
	      "ValueError: 17 at data.py:7");
	FINDS("multiprocessing.pool.RemoteTraceback: \n\"\"\"\n" TB
	      "  File \"/home/li/run/data.py\", line 9, in work\n    f()\nTypeError: inner\n\"\"\"\n" DIRECT TB MAIN
	      "TypeError: inner\n", "TypeError: inner at data.py:9");
	FINDS(TB MAIN "torch.multiprocessing.spawn.ProcessRaisedException: \n\n-- Process 1 terminated with the following "
	      "error:\n" TB "  File \"/home/li/run/spawned.py\", line 3, in work\n    f()\nIndexError: 8\n",
	      "IndexError: 8 at spawned.py:3");
}

static void wrappers_are_no_cause(void **state)
{
	FINDS(CHILD, "");
	FINDS(TB MAIN "ValueError: the cause\n" CHILD, "ValueError: the cause at train.py:42");
	FINDS(TB MAIN "ValueError: the cause\n" CHILD TB
	      "  File \"/opt/env/bin/llamafactory-cli\", line 8, in <module>\n    sys.exit(main())\n"
	      "subprocess.CalledProcessError: Command '['torchrun', '--nnodes', '1', 'launcher.py']' returned non-zero exit "
	      "status 1.\n", "ValueError: the cause at train.py:42");
	FINDS(TB MAIN "subprocess.CalledProcessError: Command '['git', 'rev-parse']' returned non-zero exit status 128.\n",
	      "subprocess.CalledProcessError: Command '['git', 'rev-parse']' returned non-zero exit status 128. at train.py:42");
	FINDS(TB MAIN "torch.distributed.elastic.multiprocessing.api.SignalException: Process 12 got signal: 15\n", "");
	FINDS(TB MAIN "KeyboardInterrupt\n", "");
	FINDS(TB MAIN "SystemExit: 3\n", "");
}

static void the_earliest_of_several_processes(void **state)
{
	FINDS("[rank3]: " TB "[rank3]: " MAIN "[rank3]: ValueError: first\n"
	      "[rank1]: " TB "[rank1]: " MAIN "[rank1]: RuntimeError: second\n" CHILD, "ValueError: first at train.py:42");
}

static void a_rank_is_found_by_its_prefix(void **state)
{
	static const char two[] = "[rank3]: " TB "[rank3]: " MAIN "[rank3]: ValueError: of three\n"
				  "[rank1]: " TB "[rank1]: " MAIN "[rank1]: RuntimeError: of one\n";
	static const char local[] = "[default1]:" TB "[default0]:" TB "[default1]:" MAIN "[default0]:" MAIN
				    "[default1]:ValueError: one\n[default0]:KeyError: 0\n";

	FINDS_OF(1, 1, two, "RuntimeError: of one at train.py:42");
	FINDS_OF(3, 3, two, "ValueError: of three at train.py:42");
	FINDS_OF(2, 2, two, "");
	FINDS_OF(4, 0, local, "KeyError: 0 at train.py:42");
	FINDS_OF(5, 1, local, "ValueError: one at train.py:42");
	FINDS_OF(5, 1, TB MAIN "ValueError: nobody's name\n", "ValueError: nobody's name at train.py:42");
}

static void prefixes_of_others(void **state)
{
	FINDS("[gpu01:3] " TB "[gpu01:3] " MAIN "[gpu01:3] ValueError: x\n", "ValueError: x at train.py:42");
	FINDS("[1,3]<stderr>:" TB "[1,3]<stderr>:" MAIN "[1,3]<stderr>:ValueError: x\n", "ValueError: x at train.py:42");
	FINDS("[gpu01:0] [default3]:[rank3]: " TB "[gpu01:0] [default3]:[rank3]: " MAIN
	      "[gpu01:0] [default3]:[rank3]: ValueError: x\n", "ValueError: x at train.py:42");
}

static void woven_lines_of_two_ranks(void **state)
{
	FINDS("[rank0]: " TB "[rank1]: " TB "[rank0]:   File \"a.py\", line 1, in f\n[rank1]:   File \"b.py\", line 2, in g\n"
	      "[rank1]: KeyError: 1\n[rank0]: ValueError: 0\n", "KeyError: 1 at b.py:2");
	/* without prefixes, one of both is good enough */
	FINDS(TB TB "  File \"b.py\", line 2, in g\n  File \"b.py\", line 2, in g\nKeyError: 1\nKeyError: 1\n",
	      "KeyError: 1 at b.py:2");
}

static void progress_bars_and_colours(void **state)
{
	FINDS("\r 50%|#####     | 3/6 [00:01<00:01]" TB MAIN "ValueError: x\n", "ValueError: x at train.py:42");
	FINDS("\r 50%|#####     | 3/6 [00:01<00:01][rank2]: " TB "[rank2]: " MAIN "[rank2]: ValueError: x\n",
	      "ValueError: x at train.py:42");
	FINDS("\x1b[31m" TB "\x1b[0m" MAIN "\x1b[1;35mValueError\x1b[0m: \x1b[35mx\x1b[0m\n", "ValueError: x at train.py:42");
	FINDS("Traceback (most recent call last):\r\n  File \"t.py\", line 1, in <module>\r\nValueError: x\r\n",
	      "ValueError: x at t.py:1");
	FINDS(TB MAIN "\x1b]0;title\aValueError: x\n", "ValueError: x at train.py:42");
}

static void a_script_that_does_not_compile(void **state)
{
	FINDS("  File \"/home/li/run/train.py\", line 3\n    x = = 1\n        ^\nSyntaxError: invalid syntax\n",
	      "SyntaxError: invalid syntax at train.py:3");
	FINDS(TB MAIN "  File \"/home/li/run/conf.py\", line 9\n    if x:\nIndentationError: expected an indented block\n",
	      "IndentationError: expected an indented block at conf.py:9");
	FINDS("  File \"not an error\", line 3\nlife goes on\n", "");
}

static void messages_of_several_lines(void **state)
{
	FINDS(TB MAIN "RuntimeError: CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later.\n"
	      "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n",
	      "RuntimeError: CUDA error: device-side assert triggered at train.py:42");
	FINDS(TB MAIN "OSError: \nthe weights are not there\n", "OSError: the weights are not there at train.py:42");
}

static void a_group_of_exceptions(void **state)
{
	FINDS("  + Exception Group " TB "  |   File \"g.py\", line 2, in <module>\n  |     f()\n"
	      "  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    | " TB
	      "    |   File \"g.py\", line 7, in f\n    |     raise ValueError(1)\n    | ValueError: 1\n"
	      "    +------------------------------------\n", "ValueError: 1 at g.py:7");
}

static void what_peers_deaths_cause_only_when_there_is_nothing_else(void **state)
{
	static const char peer[] = TB MAIN "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2251, "
				   "remote process exited or there was a network error\n";
	static const char gloo[] = TB MAIN "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection "
				   "closed by peer [127.0.0.1]:51844\n";
	static const char dog[] = "[rank0]:[E1125 17:00:00.123456789 ProcessGroupNCCL.cpp:616] [Rank 0] Watchdog caught "
				  "collective operation timeout: WorkNCCL(SeqNum=3, OpType=ALLREDUCE)\n";
	char both[2048];

	FINDS(gloo, "RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer "
	      "[127.0.0.1]:51844 at train.py:42");
	FINDS(dog, "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3, OpType=ALLREDUCE)");
	snprintf(both, sizeof both, "%s%s%s%s", peer, gloo, dog, TB MAIN "ValueError: the cause\n");
	FINDS(both, "ValueError: the cause at train.py:42");
	FINDS(TB MAIN "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network "
	      "address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use\n" CHILD,
	      "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
	      "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use at train.py:42");
}

static void what_c_and_cxx_say(void **state)
{
	FINDS("terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: unspecified launch failure\n",
	      "c10::Error: CUDA error: unspecified launch failure");
	FINDS("terminate called without an active exception\n", "terminate called without an active exception");
	FINDS("Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call first):\n"
	      "  File \"/home/li/run/train.py\", line 12 in f\n  File \"/home/li/run/train.py\", line 20 in <module>\n",
	      "Fatal Python error: Segmentation fault at train.py:12");
	FINDS("double free or corruption (out)\n", "double free or corruption (out)");
	FINDS("[rank1]:[E1125 17:00:00.1 ProcessGroupNCCL.cpp:1785] [PG ID 0 Rank 1] Process group watchdog thread terminated "
	      "with exception: CUDA error: an illegal memory access was encountered\n",
	      "[PG ID 0 Rank 1] Process group watchdog thread terminated with exception: CUDA error: an illegal memory access "
	      "was encountered");
}

static void the_crashed_thread_and_the_users_own_line_of_it(void **state)
{
	FINDS("Fatal Python error: Segmentation fault\n\nThread 0x00007f8d (most recent call first):\n"
	      "  File \"/home/li/run/other.py\", line 3 in wait\n\nCurrent thread 0x00007f8e (most recent call first):\n"
	      "  File \"/usr/lib/python3.11/ctypes/__init__.py\", line 519 in string_at\n"
	      "  File \"/home/li/run/train.py\", line 12 in f\n  File \"/home/li/run/train.py\", line 20 in <module>\n\n"
	      "Extension modules: numpy (total: 1)\n",
	      "Fatal Python error: Segmentation fault at train.py:12");
	FINDS("Fatal Python error: Aborted\n\nCurrent thread 0x00007f8e (most recent call first):\n"
	      "  File \"/usr/lib/python3.11/ctypes/__init__.py\", line 519 in string_at\n"
	      "  File \"/usr/lib/python3.11/threading.py\", line 982 in run\nbye\n",
	      "Fatal Python error: Aborted at __init__.py:519");
}

static void what_python_says_that_it_ignores(void **state)
{
	FINDS("Exception ignored in: <function It.__del__ at 0x7f>\n" TB MAIN "AssertionError: can only test a child process\n"
	      TB MAIN "ValueError: the cause\n", "ValueError: the cause at train.py:42");
	FINDS("Exception ignored in: <function It.__del__ at 0x7f>\n" TB MAIN "KeyError: 'a'\n" DURING TB MAIN
	      "AssertionError: can only test a child process\n", "");
	FINDS("--- Logging error ---\n" TB LIB "TypeError: %d format\nCall stack:\n" MAIN "Message: 'a %d'\nArguments: ('x',)\n"
	      TB MAIN "ValueError: the cause\n", "ValueError: the cause at train.py:42");
	FINDS("Error in sys.excepthook:\n" TB MAIN "TypeError: of the hook\n\nOriginal exception was:\n" TB MAIN
	      "ValueError: the cause\n", "ValueError: the cause at train.py:42");
}

static void a_line_of_any_length_before_it(void **state)
{
	static char text[5000];

	memset(text, 'x', 4000);
	strcpy(text + 4000, TB MAIN "ValueError: the cause\n");
	FINDS(text, "ValueError: the cause at train.py:42");
}

static void what_keeps_python_from_beginning(void **state)
{
	FINDS("/usr/bin/python3: can't open file '/x/train.py': [Errno 2] No such file or directory\n",
	      "/usr/bin/python3: can't open file '/x/train.py': [Errno 2] No such file or directory");
	FINDS("usage: train.py [-h]\ntrain.py: error: unrecognized arguments: --epoch\n",
	      "train.py: error: unrecognized arguments: --epoch");
}

static void what_was_survived_does_not_count(void **state)
{
	char text[20000];
	size_t n = (size_t)snprintf(text, sizeof text, TB MAIN "TimeoutError: tried again\n");

	for (int i = 0; n < 12000; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "step %d: loss 1.23\n", i);
	check(text, n, -1, -1, "", __LINE__);
	snprintf(text + n, sizeof text - n, TB MAIN "ValueError: the end\n");
	check(text, strlen(text), -1, -1, "ValueError: the end at train.py:42", __LINE__);
}

static void bytes_that_are_no_text(void **state)
{
	static const char raw[] = TB MAIN "ValueError: \xff\xfe caf\xc3\xa9 \0 and on\n";

	check(raw, sizeof raw - 1, -1, -1, "ValueError: ?? caf\xc3\xa9  and on at train.py:42", __LINE__);
	check("", 0, -1, -1, "", __LINE__);
	FINDS("\n\n\r\r\n", "");
	FINDS("Traceback (most recent call last)", "");
	FINDS(TB, "");
	FINDS(TB MAIN, "");
}

static void a_long_message_is_cut(void **state)
{
	char text[8192];
	struct traceback t;
	size_t n = (size_t)snprintf(text, sizeof text, TB MAIN "ValueError: ");

	memset(text + n, 'x', 6000);
	traceback_find(text, n + 6000, -1, -1, &t);
	assert_int_equal(t.kind, TRACEBACK_PYTHON);
	assert_true(strlen(t.text) < TRACEBACK_TEXT && strlen(t.text) > 500);
	assert_non_null(strstr(t.text, " at train.py:42"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_exception_with_its_place),
		cmocka_unit_test(the_users_own_line_rather_than_a_packages),
		cmocka_unit_test(marks_below_the_source_and_repeated_frames_are_no_exceptions),
		cmocka_unit_test(of_a_chain_the_first),
		cmocka_unit_test(the_exception_inside_of_a_loaders_message),
		cmocka_unit_test(wrappers_are_no_cause),
		cmocka_unit_test(the_earliest_of_several_processes),
		cmocka_unit_test(a_rank_is_found_by_its_prefix),
		cmocka_unit_test(prefixes_of_others),
		cmocka_unit_test(woven_lines_of_two_ranks),
		cmocka_unit_test(progress_bars_and_colours),
		cmocka_unit_test(a_script_that_does_not_compile),
		cmocka_unit_test(messages_of_several_lines),
		cmocka_unit_test(a_group_of_exceptions),
		cmocka_unit_test(what_peers_deaths_cause_only_when_there_is_nothing_else),
		cmocka_unit_test(what_c_and_cxx_say),
		cmocka_unit_test(the_crashed_thread_and_the_users_own_line_of_it),
		cmocka_unit_test(what_python_says_that_it_ignores),
		cmocka_unit_test(a_line_of_any_length_before_it),
		cmocka_unit_test(what_keeps_python_from_beginning),
		cmocka_unit_test(what_was_survived_does_not_count),
		cmocka_unit_test(bytes_that_are_no_text),
		cmocka_unit_test(a_long_message_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
