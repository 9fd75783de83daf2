/* test_identity.c - node.ini there and back, HOST:PORT, private files, locks */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/files.h"
#include "io/roles.h"
#include "io/sockets.h"

#define TEST(name) static void name(void **state)

static char dir[64];

static int set_up(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/na-id-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static struct node_identity sample(void)
{
	struct node_identity id = { .node = "gpu01", .cluster = "lab", .coord_host = "head.example",
				    .coord_port = 7070 };

	for (int i = 0; i < 32; i++)
		id.coord_key[i] = (uint8_t)(i * 7);
	return id;
}

static void write_ini(const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/node.ini", dir);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

TEST(an_identity_comes_back_as_it_was_saved)
{
	struct node_identity id = sample(), got = { 0 };
	struct err e = { 0 };
	struct stat st;
	char path[128];

	assert_int_equal(identity_save(dir, &id, &e), 0);
	assert_int_equal(identity_load(dir, &got, &e), 0);
	assert_memory_equal(&id, &got, sizeof(id));
	snprintf(path, sizeof(path), "%s/node.ini", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

TEST(a_node_that_init_made_is_one_directory_below)
{
	struct node_identity id = sample(), got;
	struct err e = { 0 };
	char below[128];

	assert_int_equal(identity_load(dir, &got, &e), -ENOENT);
	assert_non_null(strstr(e.text, "this node belongs to no cluster yet"));
	snprintf(below, sizeof(below), "%s/agent", dir);
	assert_int_equal(mkdir(below, 0700), 0);
	assert_int_equal(identity_save(below, &id, &e), 0);
	assert_int_equal(identity_load(dir, &got, &e), -ENOENT);
	assert_non_null(strstr(e.text, "Start it with: nodeagentd --agent --dir "));
	assert_non_null(strstr(e.text, below));
}

TEST(an_ipv6_coordinator_comes_back)
{
	struct node_identity id = sample(), got;
	struct err e = { 0 };

	strcpy(id.coord_host, "fd00::1");
	assert_int_equal(identity_save(dir, &id, &e), 0);
	assert_int_equal(identity_load(dir, &got, &e), 0);
	assert_string_equal(got.coord_host, "fd00::1");
	assert_int_equal(got.coord_port, 7070);
}

TEST(saving_again_replaces_the_file_whole)
{
	struct node_identity id = sample(), got;
	struct err e = { 0 };

	identity_save(dir, &id, &e);
	write_ini("[node]\nname = x\n");
	id.coord_port = 7071;
	assert_int_equal(identity_save(dir, &id, &e), 0);
	assert_int_equal(identity_load(dir, &got, &e), 0);
	assert_int_equal(got.coord_port, 7071);
}

TEST(an_absent_file_says_to_join)
{
	struct node_identity got;
	struct err e = { 0 };

	assert_int_equal(identity_load(dir, &got, &e), -ENOENT);
	assert_non_null(strstr(e.text, "nodeagentd join"));
}

TEST(a_damaged_file_is_refused)
{
	static const char key[] =
		"0001020304050607080900010203040506070809000102030405060708090001";
	static const struct {
		const char *name, *coordinator, *key;
	} bad[] = {
		{ "GPU 1", "h:1", key },   { "gpu1", "h", key },     { "gpu1", "h:0", key },
		{ "gpu1", "h:65536", key }, { "gpu1", "::1:80", key }, { "gpu1", "h:1", "0001" },
		{ "gpu1", ":1", key },
	};
	struct node_identity got;
	char text[512];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			 "[node]\nname = %s\ncluster = lab\ncoordinator = %s\ncoordinator_key = %s\n",
			 bad[i].name, bad[i].coordinator, bad[i].key);
		write_ini(text);
		assert_int_equal(identity_load(dir, &got, NULL), -EINVAL);
	}
	write_ini("[node]\nname = gpu1\n");
	assert_int_equal(identity_load(dir, &got, NULL), -EINVAL);
}

TEST(host_and_port_are_told_apart)
{
	char host[256], out[280];
	uint16_t port;

	assert_int_equal(socket_parse_host_port("[::1]:9", host, &port, NULL), 0);
	assert_string_equal(host, "::1");
	assert_int_equal(port, 9);
	socket_format_host_port(host, port, out, sizeof(out));
	assert_string_equal(out, "[::1]:9");
	assert_int_equal(socket_parse_host_port("[::1]", host, &port, NULL), -EINVAL);
	assert_int_equal(socket_parse_host_port("[]:1", host, &port, NULL), -EINVAL);
	assert_int_equal(socket_parse_host_port("a:", host, &port, NULL), -EINVAL);
	assert_int_equal(socket_parse_host_port("a:+1", host, &port, NULL), -EINVAL);
	assert_int_equal(socket_parse_host_port("a:1x", host, &port, NULL), -EINVAL);
	assert_int_equal(socket_parse_host_port("", host, &port, NULL), -EINVAL);
}

TEST(a_directory_that_others_may_write_is_refused)
{
	struct err e = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "%s/a/b/c", dir);
	assert_int_equal(dir_make_all(path, 0700, &e), 0);
	assert_int_equal(dir_make_all(path, 0700, &e), 0);
	chmod(path, 0777);
	assert_int_equal(dir_make(path, 0700, &e), -EPERM);
	snprintf(path, sizeof(path), "%s/a/file", dir);
	assert_int_equal(file_save(path, "x", 1, 0600, &e), 0);
	assert_int_equal(dir_make(path, 0700, &e), -ENOTDIR);
}

TEST(a_link_planted_at_the_temporary_name_is_not_followed)
{
	struct err e = { 0 };
	struct stat st;
	char path[128], tmp[140], victim[128];

	snprintf(path, sizeof(path), "%s/f", dir);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	snprintf(victim, sizeof(victim), "%s/victim", dir);
	assert_int_equal(symlink(victim, tmp), 0);
	assert_int_equal(file_save(path, "x", 1, 0600, &e), 0);
	assert_int_equal(lstat(victim, &st), -1);
}

TEST(a_lock_names_its_holder_and_dies_with_it)
{
	struct err e = { 0 };
	char path[128], go;
	int ready[2], fd;
	pid_t pid, holder = 0;

	snprintf(path, sizeof(path), "%s/lock", dir);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (file_lock(path, &holder, &e) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &go, 1), 1);
	assert_int_equal(file_lock(path, &holder, &e), -EBUSY);
	assert_int_equal(holder, pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	fd = file_lock(path, &holder, &e);
	assert_true(fd >= 0);
	close(fd);
	close(ready[0]);
	close(ready[1]);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_identity_comes_back_as_it_was_saved),
		T(a_node_that_init_made_is_one_directory_below),
		T(an_ipv6_coordinator_comes_back),
		T(saving_again_replaces_the_file_whole),
		T(an_absent_file_says_to_join),
		T(a_damaged_file_is_refused),
		T(host_and_port_are_told_apart),
		T(a_directory_that_others_may_write_is_refused),
		T(a_link_planted_at_the_temporary_name_is_not_followed),
		T(a_lock_names_its_holder_and_dies_with_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
