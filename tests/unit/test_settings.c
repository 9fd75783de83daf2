/* test_settings.c - values that do not go together are refused where they were set, with what would do */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/ports.h"
#include "io/settings.h"

#define TEST(name) static void name(void **state)

static char path[64];

static int setup(void **state)
{
	int fd;

	strcpy(path, "/tmp/settings-XXXXXX");
	fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	return unlink(path);
}

/* Loads such a file, sets the option ("name=value" of the section, or NULL) and checks. */
static int check(const char *file, const char *section, const char *option, struct err *e)
{
	struct settings s;
	char name[64];
	FILE *f = fopen(path, "w");
	int r;

	fputs(file, f);
	fclose(f);
	settings_init(&s);
	r = settings_load(&s, path, e);
	assert_int_equal(r, 0);
	if (option) {
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(option, "="), option);
		assert_int_equal(settings_option(&s, section, name, strchr(option, '=') + 1, e), 0);
	}
	r = settings_check(&s, e);
	settings_finish(&s);
	return r;
}

/* Every "[section] key" of a sentence is a key that there is. */
static void assert_real_keys(const char *text)
{
	size_t n = 0;

	for (const char *p = strchr(text, '['); p; p = strchr(p + 1, '[')) {
		char section[32] = "", key[64] = "";

		if (sscanf(p, "[%31[a-z]] %63[a-z_]", section, key) != 2)
			continue;
		for (char *q = key; *q; q++)
			*q = *q == '_' ? '-' : *q;
		if (!settings_knows(section, key, NULL))
			fail_msg("no key '%s' in [%s]: %s", key, section, text);
		n++;
	}
	assert_true(n > 0);
}

static void assert_refused(const char *file, const char *section, const char *option,
			   const char *where, const char *what)
{
	char want[400];
	struct err e;

	if (*where == ':')
		snprintf(want, sizeof(want), "%s%s", path, where);
	else
		snprintf(want, sizeof(want), "%s", where);
	assert_int_equal(check(file, section, option, &e), -EINVAL);
	if (strncmp(e.text, want, strlen(want)) != 0 || !strstr(e.text, what))
		fail_msg("'%s' does not begin with '%s' and have '%s'", e.text, want, what);
}

TEST(the_defaults_go_together)
{
	struct err e;

	assert_int_equal(check("", NULL, NULL, &e), 0);
}

TEST(fewer_heartbeats_alone_are_fine)
{
	struct err e;

	assert_int_equal(check("[coordinator]\nheartbeat = 5s\n", NULL, NULL, &e), 0);
	assert_int_equal(check("[coordinator]\nheartbeat = 20s\n", NULL, NULL, &e), 0);
	assert_refused("[coordinator]\nheartbeat = 30s\n", NULL, NULL, ":2: heartbeat: ",
		       "set node_lost_timeout to 180000 ms or more");
}

TEST(silence_shorter_than_three_heartbeats_is_refused_with_file_and_line)
{
	assert_refused("[coordinator]\nheartbeat = 5s\nunreachable_after = 4s\n", NULL, NULL,
		       ":3: unreachable_after: ", "set unreachable_after to 15000 ms or more");
	assert_refused("[coordinator]\n\nunreachable_after = 300ms\n", NULL, NULL,
		       ":3: unreachable_after: ", "set unreachable_after to 3000 ms or more");
	assert_refused("[coordinator]\nunreachable_after = 3500ms\n", "coordinator", "heartbeat=2s",
		       ":2: unreachable_after: ", "6000 ms");
	assert_refused("[coordinator]\nheartbeat = 2s\n", "coordinator", "unreachable-after=5s",
		       "unreachable_after: ", "6000 ms");
}

TEST(a_node_is_not_lost_before_it_is_unreachable)
{
	struct err e;

	assert_refused("[coordinator]\nheartbeat = 60s\n", NULL, NULL, ":2: heartbeat: ",
		       "set node_lost_timeout to 180000 ms or more");
	assert_refused("[coordinator]\nnode_lost_timeout = 2s\n", NULL, NULL, ":2: node_lost_timeout: ",
		       "3000 ms");
	assert_refused("[coordinator]\nunreachable_after = 3m\n", NULL, NULL, ":2: unreachable_after: ",
		       "set node_lost_timeout to 183000 ms or more");
	assert_refused("[coordinator]\nnode_lost_timeout = 4s\n", NULL, NULL, ":2: node_lost_timeout: ",
		       "three heartbeats more; set node_lost_timeout to 6000 ms or more");
	assert_refused("[coordinator]\nunreachable_after = 10s\nnode_lost_timeout = 12s\n", NULL, NULL,
		       ":3: node_lost_timeout: ", "13000 ms or more");
	assert_int_equal(check("[coordinator]\nnode_lost_timeout = 6s\n", NULL, NULL, &e), 0);
	assert_int_equal(check("[coordinator]\nnode_lost_timeout = 7s\n", NULL, NULL, &e), 0);
}

TEST(a_range_of_ports_upside_down_is_refused_with_file_and_line)
{
	assert_refused("[agent]\nport_min = 30000\nport_max = 20000\n", NULL, NULL, ":3: port_max: ",
		       "30000-20000");
	assert_refused("[agent]\nport_max = 1000\n", NULL, NULL, ":2: port_max: ", "20000 unless set");
	assert_refused("[agent]\nport_min = 80\n", NULL, NULL, ":2: port_min: ", "1024 or more");
	assert_refused("[agent]\nport_max = 21000\n", "agent", "port-min=22000", ":2: port_max: ",
		       "22000-21000");
}

TEST(what_contradicts_itself_is_refused_with_file_and_line)
{
	struct err e;

	assert_refused("[agent]\nuid_min = 3000\nuid_max = 2000\n", NULL, NULL, ":3: uid_max: ", "3000-2000 is no range");
	assert_refused("[agent]\nuid_min = 60000\n", NULL, NULL, ":2: uid_min: ", "uid_max (59999) must not be below");
	assert_refused("[agent]\nuid_max = 2000\n", "agent", "uid-min=3000", ":2: uid_max: ", "3000-2000");
	assert_refused("[agent]\nspecs_max = 1M\nspecs_user_max = 2M\n", NULL, NULL, ":3: specs_user_max: ", "set it lower");
	assert_refused("[agent]\nspool_per_job = 2G\nspool_per_node = 1G\n", NULL, NULL, ":2: spool_per_job: ",
		       "spool_per_node higher");
	assert_refused("[agent]\ngpu_share = 1\n", NULL, NULL, ":2: gpu_share: ", "set both or none");
	assert_refused("[agent]\ngpu_share = 2\ngpu_share_of = 2\n", NULL, NULL, ":2: gpu_share: ", "counted 0 to 1");
	/* a default that is above a limit that was set is none */
	assert_int_equal(check("[agent]\nspecs_max = 1M\n", NULL, NULL, &e), 0);
	assert_int_equal(check("[agent]\nspool_per_node = 1G\n", NULL, NULL, &e), 0);
	assert_int_equal(check("[agent]\nuid_min = 2000\nuid_max = 2000\ngpu_share = 0\ngpu_share_of = 1\n", NULL, NULL,
			       &e), 0);
}

TEST(remedies_about_ports_name_keys_that_there_are)
{
	struct rec_prepare a = { .job = 1, .attempt = 1, .nprocs = 1, .nnodes = 1 };
	struct ports_given g;
	struct ports *p;
	struct err e;
	uv_loop_t loop;

	uv_loop_init(&loop);
	assert_int_equal(ports_create(&loop, 40000, 30000, &p, &e), -EINVAL);
	assert_real_keys(e.text);
	assert_int_equal(ports_create(&loop, 29500, 29500, &p, &e), 0); /* nothing but the one left out */
	assert_int_equal(ports_lease(p, &a, &g, &e), -EADDRINUSE);
	assert_real_keys(e.text);
	ports_destroy(p);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_defaults_go_together),
		T(fewer_heartbeats_alone_are_fine),
		T(silence_shorter_than_three_heartbeats_is_refused_with_file_and_line),
		T(a_node_is_not_lost_before_it_is_unreachable),
		T(a_range_of_ports_upside_down_is_refused_with_file_and_line),
		T(what_contradicts_itself_is_refused_with_file_and_line),
		T(remedies_about_ports_name_keys_that_there_are),
	};

	return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
