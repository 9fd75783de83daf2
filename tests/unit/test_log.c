/* test_log.c - one message is one line that nobody can forge */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"

#define TEST(name) static void name(void **state)

static int saved_stderr = -1, file = -1;
static char text[65536];

static void catch_begin(void)
{
	FILE *f = tmpfile();

	assert_non_null(f);
	file = dup(fileno(f));
	fclose(f);
	saved_stderr = dup(STDERR_FILENO);
	dup2(file, STDERR_FILENO);
}

static const char *catch_end(void)
{
	ssize_t n = pread(file, text, sizeof(text) - 1, 0);

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(file);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

/* stderr becomes what JOURNAL_STREAM names. */
static void pretend_journal(void)
{
	char name[64];
	struct stat st;

	fstat(STDERR_FILENO, &st);
	snprintf(name, sizeof(name), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", name, 1);
}

TEST(a_terminal_line_has_time_level_and_who)
{
	const char *line;
	int y, mo, d, h, mi, s, ms;
	char level[8], rest[64];

	unsetenv("JOURNAL_STREAM");
	catch_begin();
	log_setup("agent gpu01", LOG_LVL_INFO);
	log_warn("lost %d", 3);
	line = catch_end();
	assert_int_equal(sscanf(line, "%d-%d-%d %d:%d:%d.%d %7s %63[^\n]", &y, &mo, &d, &h, &mi, &s,
				&ms, level, rest), 9);
	assert_string_equal(level, "warn");
	assert_string_equal(rest, "agent gpu01: lost 3");
	assert_int_equal(line[strlen(line) - 1], '\n');
}

TEST(a_journal_line_has_a_priority_and_no_time)
{
	catch_begin();
	pretend_journal();
	log_setup("agent", LOG_LVL_DEBUG);
	log_error("a");
	log_warn("b");
	log_info("c");
	log_debug("d");
	assert_string_equal(catch_end(),
			    "<3>agent: a\n<4>agent: b\n<6>agent: c\n<7>agent: d\n");
}

TEST(an_inherited_journal_variable_is_not_believed)
{
	catch_begin();
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_setup("agent", LOG_LVL_INFO);
	log_info("x");
	assert_int_not_equal(catch_end()[0], '<');
}

TEST(levels_above_the_limit_are_silent)
{
	catch_begin();
	log_setup("agent", LOG_LVL_WARN);
	log_info("quiet");
	log_debug("quiet");
	assert_string_equal(catch_end(), "");
}

TEST(control_characters_and_broken_utf8_are_escaped)
{
	catch_begin();
	pretend_journal();
	log_setup("agent", LOG_LVL_INFO);
	log_info("a\nb\tc\x1b[2Jd\x7f e\xC2\x9B f\xFF g\xC3\xA4");
	assert_string_equal(catch_end(), "<6>agent: a\\nb\\tc\\x1b[2Jd\\x7f e\\xc2\\x9b f\\xff "
					 "g\xC3\xA4\n");
}

TEST(a_long_message_is_cut_to_one_short_line)
{
	char *big = malloc(20000);
	const char *line;

	memset(big, '\x01', 19999);
	big[19999] = '\0';
	catch_begin();
	log_setup("agent", LOG_LVL_INFO);
	log_info("%s", big);
	line = catch_end();
	assert_true(strlen(line) <= 4096);
	assert_string_equal(line + strlen(line) - 4, "...\n");
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	free(big);
}

TEST(errno_is_kept_and_can_be_printed)
{
	const char *line;

	catch_begin();
	pretend_journal();
	log_setup("agent", LOG_LVL_INFO);
	errno = ENOENT;
	log_info("%m");
	assert_int_equal(errno, ENOENT);
	line = catch_end();
	assert_string_equal(line, "<6>agent: No such file or directory\n");
}

/* A journal's socket of our own. */
static int fake_journal(char path[108])
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	snprintf(path, 108, "/tmp/na_log_%d.sock", getpid());
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	log_journal_at(path);
	return fd;
}

TEST(a_line_about_a_job_carries_fields_and_cannot_forge_one)
{
	char path[108], got[4096];
	int fd = fake_journal(path);
	ssize_t n;

	catch_begin();
	pretend_journal();
	log_setup("agent", LOG_LVL_INFO);
	log_job(LOG_LVL_WARN, 12, 3, "%s", "lost\nJOB=13");
	assert_string_equal(catch_end(), "");
	n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);
	assert_true(n > 0);
	got[n] = '\0';
	assert_string_equal(got, "MESSAGE=agent: job 12.3: lost\\nJOB=13\nPRIORITY=4\n"
				 "SYSLOG_IDENTIFIER=test_log\nJOB=12\nATTEMPT=3\n");
	close(fd);
	unlink(path);
}

TEST(a_journal_that_does_not_take_it_gets_it_on_stderr)
{
	log_journal_at("/nonexistent/socket");
	catch_begin();
	pretend_journal();
	log_setup("agent", LOG_LVL_INFO);
	log_job(LOG_LVL_ERROR, 12, 3, "lost");
	assert_string_equal(catch_end(), "<3>agent: job 12.3: lost\n");
}

/* Last: a node is never forgotten. */
TEST(every_line_of_a_node_carries_its_name)
{
	char path[108], got[4096];
	int fd = fake_journal(path);
	ssize_t n;

	catch_begin();
	pretend_journal();
	log_setup("agent", LOG_LVL_INFO);
	log_node("gpu01");
	log_info("registered");
	assert_string_equal(catch_end(), "");
	n = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);
	assert_true(n > 0);
	got[n] = '\0';
	assert_string_equal(got, "MESSAGE=agent: registered\nPRIORITY=6\n"
				 "SYSLOG_IDENTIFIER=test_log\nNODE=gpu01\n");
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_terminal_line_has_time_level_and_who),
		cmocka_unit_test(a_journal_line_has_a_priority_and_no_time),
		cmocka_unit_test(an_inherited_journal_variable_is_not_believed),
		cmocka_unit_test(levels_above_the_limit_are_silent),
		cmocka_unit_test(control_characters_and_broken_utf8_are_escaped),
		cmocka_unit_test(a_long_message_is_cut_to_one_short_line),
		cmocka_unit_test(errno_is_kept_and_can_be_printed),
		cmocka_unit_test(a_line_about_a_job_carries_fields_and_cannot_forge_one),
		cmocka_unit_test(a_journal_that_does_not_take_it_gets_it_on_stderr),
		cmocka_unit_test(every_line_of_a_node_carries_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
