/* test_nccl_conf.c - names in NCCL's configuration files */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/nccl_conf.h"

static struct nccl_conf conf;

static void text(const char *s)
{
	conf.n = 0;
	nccl_conf_text(s, strlen(s), &conf);
}

static void names_are_what_stands_before_the_first_equals_sign(void **state)
{
	(void)state;
	text("# NCCL_NET=IB\nNCCL_IB_HCA==mlx5_0:1\nNCCL_DEBUG=a=b\nPATH=/x\nNCCL_IB_HCA=again\nNCCL_NOTHING\n NCCL_BLANK=1\n"
	     "NCCL_SOCKET_IFNAME =eth0\n=\nNCCL_=1\nNCCL_LAST=");
	assert_int_equal(conf.n, 3);
	assert_true(nccl_conf_has(&conf, "NCCL_IB_HCA") && nccl_conf_has(&conf, "NCCL_DEBUG") && nccl_conf_has(&conf, "NCCL_LAST"));
	assert_false(nccl_conf_has(&conf, "NCCL_NET"));
	text("");
	assert_int_equal(conf.n, 0);
}

static void too_many_and_too_long_ones_are_passed_over(void **state)
{
	char many[4096] = "", name[128];

	(void)state;
	for (int i = 0; i < 100; i++)
		snprintf(many + strlen(many), sizeof many - strlen(many), "NCCL_%d=1\n", i);
	text(many);
	assert_int_equal(conf.n, NCCL_CONF_NAMES);
	memset(name, 'A', sizeof name);
	memcpy(name, "NCCL_", 5);
	strcpy(name + 64, "=1");
	text(name);
	assert_int_equal(conf.n, 1);
	strcpy(name + 65, "=1");
	name[64] = 'A';
	text(name);
	assert_int_equal(conf.n, 0);
}

static void write_file(const char *path, const char *s)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(s, f);
	fclose(f);
}

static void the_file_that_is_named_is_read_in_place_of_the_one_at_home(void **state)
{
	char dir[] = "/tmp/nccl-conf-XXXXXX", home[64], other[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(home, sizeof home, "%s/.nccl.conf", dir);
	snprintf(other, sizeof other, "%s/other", dir);
	write_file(home, "NCCL_AT_HOME=1\n");
	write_file(other, "NCCL_OTHER=1\n");
	conf.n = 0;
	nccl_conf_read(dir, NULL, &conf);
	assert_true(nccl_conf_has(&conf, "NCCL_AT_HOME") && !nccl_conf_has(&conf, "NCCL_OTHER"));
	conf.n = 0;
	nccl_conf_read(dir, other, &conf);
	assert_true(!nccl_conf_has(&conf, "NCCL_AT_HOME") && nccl_conf_has(&conf, "NCCL_OTHER"));
	unlink(home);
	assert_int_equal(mkfifo(home, 0600), 0); /* nobody writes to it */
	conf.n = 0;
	nccl_conf_read(dir, "", &conf);
	assert_false(nccl_conf_has(&conf, "NCCL_AT_HOME"));
	nccl_conf_read(NULL, "/nonexistent", &conf);
	unlink(home);
	unlink(other);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_what_stands_before_the_first_equals_sign),
		cmocka_unit_test(too_many_and_too_long_ones_are_passed_over),
		cmocka_unit_test(the_file_that_is_named_is_read_in_place_of_the_one_at_home),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
