/* test_check.c - can a job's command be run here? Codes and sentences as a shell's
 *
 * Root may enter and run anything, so the program becomes nobody first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim/check.h"

#define TEST(name) static void name(void **state)
#define NOBODY 65534

static char dir[64];
static char *path;
static uint32_t code;
static struct err e;

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/na_check_XXXXXX");
	path = NULL;
	memset(&e, 0, sizeof(e));
	return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
	char cmd[200];

	snprintf(cmd, sizeof(cmd), "chmod -R u+rwx '%s'; rm -rf '%s'", dir, dir);
	free(path);
	return system(cmd);
}

/* DIR/name with this content and mode. */
static void put(const char *name, const char *text, mode_t mode)
{
	char p[128];
	FILE *f;

	snprintf(p, sizeof(p), "%s/%s", dir, name);
	f = fopen(p, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(p, mode), 0);
}

static void folder(const char *name, mode_t mode)
{
	char p[128];

	snprintf(p, sizeof(p), "%s/%s", dir, name);
	assert_true(mkdir(p, 0700) == 0 || errno == EEXIST);
	assert_int_equal(chmod(p, mode), 0);
}

/* PATH: folders below DIR, separated by blanks. */
static int check(const char *command, const char *folders)
{
	char var[512] = "PATH=", list[128], *save, *w;
	const char *argv[] = { command, NULL }, *env[] = { var, NULL };
	struct spec spec = { .cwd = dir, .argv = argv, .env = env, .argc = 1, .envc = 1 };

	snprintf(list, sizeof(list), "%s", folders);
	for (w = strtok_r(list, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		snprintf(var + strlen(var), sizeof(var) - strlen(var), "%s%s/%s",
			 var[5] != '\0' ? ":" : "", dir, w);
	return check_command(&spec, &path, &code, &e);
}

TEST(the_first_of_the_path_that_can_run_is_taken)
{
	char want[128];

	folder("a", 0700);
	folder("b", 0700);
	put("a/tool", "x", 0600);
	put("b/tool", "x", 0700);
	assert_int_equal(check("tool", "a b"), 0);
	snprintf(want, sizeof(want), "%s/b/tool", dir);
	assert_string_equal(path, want);
}

TEST(a_file_that_may_not_be_run_is_126)
{
	folder("a", 0700);
	put("a/tool", "x", 0600);
	assert_int_equal(check("tool", "none a"), -EACCES);
	assert_int_equal(code, 126);
	assert_non_null(strstr(e.text, "is not executable for uid"));
	assert_non_null(strstr(e.text, "; make it executable: chmod +x "));
	put("a/tool.py", "x", 0644);
	assert_int_equal(check("tool.py", "a"), -EACCES);
	assert_non_null(strstr(e.text, "; make it executable (chmod +x), or run it as python3 "));
}

TEST(a_directory_of_the_path_that_may_not_be_entered_hides_what_is_in_it)
{
	folder("a", 0700);
	put("a/tool", "x", 0700);
	folder("a", 0);
	assert_int_equal(check("tool", "a"), -ENOENT);
	assert_int_equal(code, 127);
	assert_non_null(strstr(e.text, "command 'tool' not found on the node, in your PATH: "));
	assert_non_null(strstr(e.text, ": install it there, give its path, or pass another with --env PATH=... (PATH="));
}

TEST(what_was_quoted_or_is_the_shells_gets_a_hint)
{
	folder("a", 0700);
	assert_int_equal(check("python3 train.py", "a"), -ENOENT);
	assert_string_equal(e.text, "command 'python3 train.py' not found: it is one word with blanks in it: leave the "
				    "quotes out, or write sh -c '...'");
	assert_int_equal(check("cd", "a"), -ENOENT);
	assert_string_equal(e.text, "command 'cd' not found: it is a command of the shell, not a program: write sh -c '...' "
				    "(or bash -lc '...')");
}

TEST(a_directory_of_that_name_does_not_count)
{
	folder("a", 0700);
	folder("a/tool", 0700);
	folder("b", 0700);
	put("b/tool", "x", 0600);
	assert_int_not_equal(check("tool", "a"), 0);
	assert_int_equal(code, 127);
	assert_int_equal(check("tool", "a b"), -EACCES);
	assert_int_equal(code, 126);
}

TEST(a_path_through_a_closed_directory_is_126_as_in_a_shell)
{
	char p[128];

	folder("a", 0700);
	put("a/tool", "x", 0700);
	folder("a", 0);
	snprintf(p, sizeof(p), "%s/a/tool", dir);
	assert_int_equal(check(p, ""), -EACCES);
	assert_int_equal(code, 126);
}

TEST(sentences_leave_the_node_to_those_who_know_several)
{
	struct spec spec = { .cwd = "/no/such/place" };

	assert_int_equal(check_cwd(&spec, &e), -ENOENT);
	assert_string_equal(e.text, "cwd /no/such/place does not exist; a job's directory must be there on "
				    "each of its nodes: share it, or give another with --cwd");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* The kernel is asked: what is let through it takes, what it would not take is refused. */
static void try_exec(size_t n_vars, size_t len, bool *ret_let, bool *ret_taken)
{
	char **env = calloc(n_vars + 1, sizeof(*env));
	const char *argv[] = { "true", NULL };
	struct room room;
	int status;
	pid_t pid;

	for (size_t i = 0; i < n_vars; i++) {
		env[i] = malloc(len);
		memset(env[i], 'x', len);
		env[i][1] = '=';
		env[i][len - 1] = '\0';
	}
	check_room_here(&room);
	*ret_let = check_room(&room, "/bin/true", argv, (const char *const *)env, &e) == 0;
	pid = vfork();
	if (pid == 0) {
		execve("/bin/true", (char **)argv, env);
		_exit(errno == E2BIG ? 9 : 8);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	*ret_taken = WEXITSTATUS(status) == 0;
	assert_true(*ret_taken || WEXITSTATUS(status) == 9);
	for (size_t i = 0; i < n_vars; i++)
		free(env[i]);
	free(env);
}

TEST(what_the_kernel_would_not_pass_on_is_refused_before)
{
	struct rlimit old, r;
	struct room room;
	bool let, taken;

	assert_int_equal(getrlimit(RLIMIT_STACK, &old), 0);
	r = old;
	r.rlim_cur = 8u << 20;
	assert_int_equal(setrlimit(RLIMIT_STACK, &r), 0);
	check_room_here(&room);
	assert_int_equal(room.all, 2u << 20);
	try_exec(20000, 96, &let, &taken);
	assert_true(let && taken);
	try_exec(20000, 97, &let, &taken); /* 1.94 MB, and 8 bytes each */
	assert_true(!let && !taken);
	assert_non_null(strstr(e.text, "(1 arguments, 20000 variables, 8 bytes for each included)"));
	try_exec(1, room.one, &let, &taken);
	assert_true(let && taken);
	try_exec(1, room.one + 1, &let, &taken);
	assert_true(!let && !taken);
	assert_non_null(strstr(e.text, "in one argument or variable: x (131073 bytes); put it into a file"));
	for (size_t len = 60; len < 130; len++) { /* of what is let through nothing fails */
		try_exec(17000, len, &let, &taken);
		assert_true(taken || !let);
	}
	r.rlim_cur = RLIM_INFINITY;
	if (setrlimit(RLIMIT_STACK, &r) == 0) {
		check_room_here(&room);
		assert_int_equal(room.all, 6u << 20);
		try_exec(50, 120000, &let, &taken);
		assert_true(let && taken);
		try_exec(53, 120000, &let, &taken);
		assert_true(!let && !taken);
	}
	setrlimit(RLIMIT_STACK, &old);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(the_first_of_the_path_that_can_run_is_taken),
		T(a_file_that_may_not_be_run_is_126),
		T(a_directory_of_the_path_that_may_not_be_entered_hides_what_is_in_it),
		T(what_was_quoted_or_is_the_shells_gets_a_hint),
		T(a_directory_of_that_name_does_not_count),
		T(a_path_through_a_closed_directory_is_126_as_in_a_shell),
		T(sentences_leave_the_node_to_those_who_know_several),
		T(what_the_kernel_would_not_pass_on_is_refused_before),
	};

	if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
