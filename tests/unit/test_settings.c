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
	r = settings_check(&s, NULL, NULL, e);
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

static char warned[2][ERR_TEXT_MAX + 160];
static size_t n_warned;

static void keep_warning(const char *text)
{
	assert_true(n_warned < 2);
	snprintf(warned[n_warned++], sizeof(warned[0]), "%s", text);
}

/* The settings of a role that reads this file, with what was warned of. */
static int start(const char *file, const char *role, struct settings *s, struct err *e)
{
	FILE *f = fopen(path, "w");

	fputs(file, f);
	fclose(f);
	n_warned = 0;
	settings_init(s);
	assert_int_equal(settings_load(s, path, e), 0);
	return settings_check(s, role, keep_warning, e);
}

static void assert_starts(const char *file, const char *role, struct settings *s, const char *where, const char *instead)
{
	char want[100];
	struct err e = { 0 };

	snprintf(want, sizeof(want), "%s:%s", path, where);
	if (start(file, role, s, &e) != 0)
		fail_msg("refused: %s", e.text);
	assert_int_equal(n_warned, 1);
	if (strncmp(warned[0], want, strlen(want)) != 0 || !strstr(warned[0], instead))
		fail_msg("'%s' does not begin with '%s' and have '%s'", warned[0], want, instead);
}

/* Each of these was taken by a version before this one. */
TEST(a_file_that_was_good_for_the_version_before_keeps_no_role_from_starting)
{
	struct settings s;
	struct err e;

	assert_starts("[agent]\nuid_min = 3000\nuid_max = 2000\n", "agent", &s, "3: uid_max: ",
		      "; until then, no jobs of users run here");
	assert_true(s.uid_min > s.uid_max);
	settings_finish(&s);
	assert_starts("[agent]\nspecs_max = 1M\nspecs_user_max = 2M\n", "agent", &s, "3: specs_user_max: ",
		      "counts as much as specs_max");
	assert_int_equal(s.specs_user_max, 1 << 20);
	settings_finish(&s);
	assert_starts("[agent]\nspool_per_job = 2G\nspool_per_node = 1G\n", "agent", &s, "2: spool_per_job: ",
		      "counts as much as spool_per_node");
	assert_int_equal(s.spool_per_job, 1 << 30);
	settings_finish(&s);
	assert_starts("[agent]\ngpu_share = 1\n", "agent", &s, "2: gpu_share: ", "all GPUs of the host");
	settings_finish(&s);
	assert_starts("[agent]\ngpu_share = 2\ngpu_share_of = 2\n", "agent", &s, "2: gpu_share: ", "no GPU is this agent's");
	settings_finish(&s);
	assert_starts("[agent]\nport_min = 80\n", "agent", &s, "2: port_min: ", "counts as 1024");
	assert_int_equal(s.port_min, 1024);
	settings_finish(&s);
	assert_starts("[coordinator]\nheartbeat = 5s\nunreachable_after = 4s\n", "coordinator", &s, "3: unreachable_after: ",
		      "until then, unreachable_after counts as 15000 ms");
	assert_int_equal(s.unreachable_ms, 15000);
	settings_finish(&s);
	assert_starts("[coordinator]\nheartbeat = 60s\n", "coordinator", &s, "2: heartbeat: ",
		      "until then, node_lost_timeout counts as 360000 ms");
	assert_int_equal(s.node_lost_ms, 360000);
	assert_int_equal(settings_check(&s, NULL, NULL, &e), 0); /* what counts goes together */
	settings_finish(&s);
	assert_starts("[coordinator]\nnode_lost_timeout = 2s\n", "coordinator", &s, "2: node_lost_timeout: ",
		      "node_lost_timeout counts as 6000 ms");
	assert_int_equal(settings_check(&s, NULL, NULL, &e), 0);
	settings_finish(&s);
}

TEST(what_is_the_other_roles_business_stops_nobody)
{
	struct settings s;
	struct err e;

	assert_starts("[agent]\nport_min = 30000\nport_max = 20000\n", "coordinator", &s, "3: port_max: ",
		      "; the agent does not start with it");
	settings_finish(&s);
	assert_int_equal(start("[agent]\nport_min = 30000\nport_max = 20000\n", "agent", &s, &e), -EINVAL);
	settings_finish(&s);
	assert_int_equal(start("[agent]\nuid_min = 3000\nuid_max = 2000\n", "coordinator", &s, &e), 0);
	assert_int_equal(n_warned, 0);
	settings_finish(&s);
}

TEST(who_types_a_contradiction_is_refused)
{
	struct settings s;
	struct err e;

	settings_init(&s);
	assert_int_equal(settings_option(&s, "agent", "uid-min", "3000", &e), 0);
	assert_int_equal(settings_option(&s, "agent", "uid-max", "2000", &e), 0);
	n_warned = 0;
	assert_int_equal(settings_check(&s, "agent", keep_warning, &e), -EINVAL);
	assert_int_equal(n_warned, 0);
	settings_finish(&s);
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
		T(a_file_that_was_good_for_the_version_before_keeps_no_role_from_starting),
		T(what_is_the_other_roles_business_stops_nobody),
		T(who_types_a_contradiction_is_refused),
		T(remedies_about_ports_name_keys_that_there_are),
	};

	return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
