/* test_notify.c - what systemd is told, and that nobody else speaks for us */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/notify.h"

#define TEST(name) static void name(void **state)

/* Listens at a path, or at an abstract name when it begins with '@'. */
static int systemd_at(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	memcpy(a.sun_path, name, strlen(name));
	if (name[0] == '@')
		a.sun_path[0] = '\0';
	else
		unlink(name);
	assert_int_equal(bind(fd, (struct sockaddr *)&a,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))), 0);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

static const char *heard(int fd)
{
	static char text[1024];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void speaks_to(const char *name)
{
	int fd = systemd_at(name);
	struct notify n;

	notify_init(&n);
	notify_send(&n, "READY=1");
	assert_string_equal(heard(fd), "READY=1");
	assert_string_equal(heard(fd), "");
	close(fd);
}

TEST(it_speaks_to_a_path_and_to_an_abstract_name)
{
	char name[108];

	snprintf(name, sizeof(name), "/tmp/na_notify_%d.sock", getpid());
	speaks_to(name);
	unlink(name);
	snprintf(name, sizeof(name), "@na/notify/%d", getpid());
	speaks_to(name);
}

TEST(a_name_of_the_greatest_length_is_whole)
{
	char name[108];

	memset(name, 'x', 107);
	snprintf(name, sizeof(name), "@na%d", getpid());
	name[strlen(name)] = 'x';
	name[107] = '\0';
	speaks_to(name);
}

TEST(children_find_nothing_in_the_environment)
{
	char name[64], pid[16];
	struct notify n;
	int fd;

	snprintf(name, sizeof(name), "@na/notify/%d", getpid());
	fd = systemd_at(name);
	snprintf(pid, sizeof(pid), "%d", getpid());
	setenv("WATCHDOG_USEC", "3000000", 1);
	setenv("WATCHDOG_PID", pid, 1);
	notify_init(&n);
	assert_int_equal(n.watchdog_ms, 3000);
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
	close(fd);
}

TEST(a_watchdog_of_another_process_is_not_ours)
{
	struct notify n;
	int fd = systemd_at("@na/notify/other");

	setenv("WATCHDOG_USEC", "3000000", 1);
	setenv("WATCHDOG_PID", "1", 1);
	notify_init(&n);
	assert_int_equal(n.watchdog_ms, 0);
	close(fd);
}

TEST(the_same_status_is_told_once)
{
	struct notify n;
	int fd = systemd_at("@na/notify/status");

	notify_init(&n);
	notify_status(&n, "%u jobs", 3);
	assert_string_equal(heard(fd), "STATUS=3 jobs");
	notify_status(&n, "%u jobs", 3);
	assert_string_equal(heard(fd), "");
	notify_status(&n, "%u jobs", 4);
	assert_string_equal(heard(fd), "STATUS=4 jobs");
	close(fd);
}

TEST(nonsense_is_nobody)
{
	static const char *const names[] = { "", "@", "/", "relative", "vsock:2:1234" };
	char big[200];
	struct notify n;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		setenv("NOTIFY_SOCKET", names[i], 1);
		notify_init(&n);
		assert_int_equal(n.len, 0);
		notify_send(&n, "READY=1");
		notify_status(&n, "x");
	}
	memset(big, 'x', sizeof(big) - 1);
	big[0] = '/';
	big[sizeof(big) - 1] = '\0';
	setenv("NOTIFY_SOCKET", big, 1);
	notify_init(&n);
	assert_int_equal(n.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_speaks_to_a_path_and_to_an_abstract_name),
		cmocka_unit_test(a_name_of_the_greatest_length_is_whole),
		cmocka_unit_test(children_find_nothing_in_the_environment),
		cmocka_unit_test(a_watchdog_of_another_process_is_not_ours),
		cmocka_unit_test(the_same_status_is_told_once),
		cmocka_unit_test(nonsense_is_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
