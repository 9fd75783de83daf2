/* test_shim_env.c - the environment that each rank gets */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/env.h"
#include "tests/unit/failmalloc.h"

static const char *ras[] = { "127.0.0.1:7001", "127.0.0.1:7002" };
static struct rec_shim_setup setup;
static struct rec_shim_go go;
static struct env_job job;

static int fresh(void **state)
{
	setup = (struct rec_shim_setup){ .rank_base = 8, .nprocs = 2, .world = 32, .node_rank = 4,
					 .nnodes = 16, .node = "gpu05" };
	go = (struct rec_shim_go){ .master_addr = "10.1.2.3", .master_port = 20017, .ifname = "ib0",
				   .ras = ras, .n_ras = 2 };
	job = (struct env_job){ .job = 77, .attempt = 3, .cookie = "c0ffee", .setup = &setup, .go = &go };
	return 0;
}

static struct env *make(const char **user)
{
	struct spec spec = { .env = user };
	struct env *e;

	while (user[spec.envc])
		spec.envc++;
	e = env_create(&spec, &job);
	assert_non_null(e);
	return e;
}

static const char *get(char **vars, const char *name)
{
	return env_get((const char *const *)vars, name);
}

static unsigned times(char **vars, const char *name)
{
	unsigned n = 0;
	size_t len = strlen(name);

	for (; *vars; vars++)
		n += strncmp(*vars, name, len) == 0 && (*vars)[len] == '=';
	return n;
}

#define HAS(vars, name, value) assert_string_equal(get(vars, name), value)
#define LACKS(vars, name) assert_null(get(vars, name))

static void a_rank_knows_its_place_as_under_torchrun_and_deepspeed(void **state)
{
	const char *user[] = { "HOME=/home/ada", NULL };
	struct env *e = make(user);
	char **v = env_rank(e, 1);

	HAS(v, "HOME", "/home/ada");
	HAS(v, "RANK", "9");
	HAS(v, "LOCAL_RANK", "1");
	HAS(v, "WORLD_SIZE", "32");
	HAS(v, "LOCAL_WORLD_SIZE", "2");
	HAS(v, "NODE_RANK", "4");
	HAS(v, "GROUP_RANK", "4");
	HAS(v, "NNODES", "16");
	HAS(v, "GROUP_WORLD_SIZE", "16");
	HAS(v, "ROLE_RANK", "9");
	HAS(v, "ROLE_WORLD_SIZE", "32");
	HAS(v, "ROLE_NAME", "default");
	HAS(v, "MASTER_ADDR", "10.1.2.3");
	HAS(v, "MASTER_PORT", "20017");
	HAS(v, "TORCHELASTIC_RESTART_COUNT", "2");
	HAS(v, "LOCAL_SIZE", "2");
	HAS(v, "CROSS_RANK", "4");
	HAS(v, "CROSS_SIZE", "16");
	HAS(v, "NODEAGENT_JOB", "77");
	HAS(v, "NODEAGENT_ATTEMPT", "3");
	HAS(v, "NODEAGENT_NODE", "gpu05");
	HAS(v, "NODEAGENT_COOKIE", "c0ffee");
	env_destroy(e);
}

static void the_GPUs_are_those_of_the_order_to_start(void **state)
{
	const char *user[] = { "CUDA_VISIBLE_DEVICES=7", NULL };
	struct env *e;
	char **v;

	setup.gpus = "1,3";
	e = make(user);
	v = env_rank(e, 0);
	HAS(v, "CUDA_VISIBLE_DEVICES", "1,3");
	env_destroy(e);

	go.gpus = "0,2"; /* indices have shifted */
	e = make(user);
	v = env_rank(e, 0);
	HAS(v, "CUDA_VISIBLE_DEVICES", "0,2");
	assert_int_equal(times(v, "CUDA_VISIBLE_DEVICES"), 1);
	env_destroy(e);
}

/* Whoever asks for one of the three wants its lines where they are used to find them. */
static void nccl_writes_its_log_for_us_unless_the_user_says_anything_about_it(void **state)
{
	static const char *const own[] = { "NCCL_DEBUG=WARN", "NCCL_DEBUG_FILE=/tmp/x", "NCCL_DEBUG_SUBSYS=ALL" };
	const char *user[] = { "HOME=/", NULL };
	struct env *e;
	char **v;

	e = make(user);
	LACKS(env_rank(e, 0), "NCCL_DEBUG"); /* switched off */
	env_destroy(e);
	job.nccl_file = "/proc/77/fd/9";
	e = make(user);
	v = env_rank(e, 0);
	HAS(v, "NCCL_DEBUG", "INFO");
	HAS(v, "NCCL_DEBUG_SUBSYS", "INIT,BOOTSTRAP,ENV,NET");
	HAS(v, "NCCL_DEBUG_FILE", "/proc/77/fd/9");
	assert_true(env_nccl_log(e));
	env_destroy(e);
	for (size_t i = 0; i < 3; i++) {
		user[0] = own[i];
		e = make(user);
		v = env_rank(e, 0);
		assert_false(env_nccl_log(e));
		assert_int_equal(times(v, "NCCL_DEBUG") + times(v, "NCCL_DEBUG_FILE") + times(v, "NCCL_DEBUG_SUBSYS"), 1);
		env_destroy(e);
	}
}

static void defaults_are_set_when_the_user_has_none(void **state)
{
	const char *user[] = { NULL };
	struct env *e = make(user);
	char **v = env_rank(e, 0);

	HAS(v, "OMP_NUM_THREADS", "1");
	HAS(v, "TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
	HAS(v, "PYTHONUNBUFFERED", "1");
	HAS(v, "NCCL_SOCKET_IFNAME", "ib0");
	HAS(v, "GLOO_SOCKET_IFNAME", "ib0");
	HAS(v, "TP_SOCKET_IFNAME", "ib0");
	HAS(v, "NCCL_RAS_ADDR", "127.0.0.1:7001");
	LACKS(v, "FORCE_TORCHRUN");
	HAS(env_rank(e, 1), "NCCL_RAS_ADDR", "127.0.0.1:7002");
	env_destroy(e);
}

static void the_users_settings_win(void **state)
{
	const char *user[] = { "OMP_NUM_THREADS=12",	 "TORCH_NCCL_ASYNC_ERROR_HANDLING=0",
			       "PYTHONUNBUFFERED=",	 "NCCL_SOCKET_IFNAME=^lo",
			       "GLOO_SOCKET_IFNAME=e0",	 "TP_SOCKET_IFNAME=e1",
			       "NCCL_RAS_ADDR=10.0.0.1", "FORCE_TORCHRUN=0",
			       "NCCL_DEBUG=INFO",	 NULL };
	struct env *e;
	char **v;

	setup.per_node = true;
	e = make(user);
	v = env_rank(e, 0);
	for (size_t i = 0; user[i]; i++) {
		char name[64];

		snprintf(name, sizeof name, "%.*s", (int)strcspn(user[i], "="), user[i]);
		assert_int_equal(times(v, name), 1);
		HAS(v, name, user[i] + strlen(name) + 1);
	}
	env_destroy(e);
}

static void stale_rank_variables_of_the_caller_are_replaced(void **state)
{
	const char *user[] = { "RANK=99", "LOCAL_RANK=99", "WORLD_SIZE=99", "MASTER_ADDR=old",
			       "MASTER_PORT=1", "NODE_RANK=99", "NNODES=99", "CROSS_RANK=99",
			       "NODEAGENT_COOKIE=stolen", "NODEAGENT_JOB=99", "RANK=98",
			       "TORCHELASTIC_RESTART_COUNT=99", "ROLE_NAME=trainer", NULL };
	struct env *e = make(user);
	char **v = env_rank(e, 0);

	HAS(v, "RANK", "8");
	HAS(v, "LOCAL_RANK", "0");
	HAS(v, "MASTER_ADDR", "10.1.2.3");
	HAS(v, "NODEAGENT_COOKIE", "c0ffee");
	for (size_t i = 0; user[i]; i++) {
		char name[64];

		snprintf(name, sizeof name, "%.*s", (int)strcspn(user[i], "="), user[i]);
		assert_int_equal(times(v, name), 1);
	}
	env_destroy(e);
}

static void torch_is_never_told_of_a_store_that_nobody_hosts(void **state)
{
	const char *user[] = { "TORCHELASTIC_USE_AGENT_STORE=True", "TORCHELASTIC_RUN_ID=x",
			       "NODEAGENT_AGENT_UID=5", NULL };
	struct env *e = make(user);
	char **v = env_rank(e, 0);

	LACKS(v, "TORCHELASTIC_USE_AGENT_STORE");
	LACKS(v, "TORCHELASTIC_RUN_ID");
	LACKS(v, "NODEAGENT_AGENT_UID");
	env_destroy(e);
}

static void one_launcher_a_node_gets_what_llamafactory_reads(void **state)
{
	const char *user[] = { NULL };
	struct env *e;
	char **v;

	setup.per_node = true;
	setup.nprocs = 1;
	setup.rank_base = setup.node_rank;
	setup.world = setup.nnodes;
	e = make(user);
	v = env_rank(e, 0);
	HAS(v, "FORCE_TORCHRUN", "1");
	HAS(v, "NNODES", "16");
	HAS(v, "NODE_RANK", "4");
	HAS(v, "RANK", "4"); /* its versions before 2024-11 take this for the node's */
	LACKS(v, "NPROC_PER_NODE");
	LACKS(v, "OMP_NUM_THREADS");
	HAS(v, "PET_NNODES", "16"); /* for 'torchrun train.py' without options */
	HAS(v, "PET_NODE_RANK", "4");
	HAS(v, "PET_MASTER_ADDR", "10.1.2.3");
	HAS(v, "PET_MASTER_PORT", "20017");
	env_destroy(e);

	const char *own[] = { "NPROC_PER_NODE=4", "PET_NNODES=1", NULL };

	e = make(own);
	HAS(env_rank(e, 0), "NPROC_PER_NODE", "4");
	HAS(env_rank(e, 0), "PET_NNODES", "1");
	env_destroy(e);

	const char *alone[] = { "bash", "-c", "exec torchrun --standalone train.py", NULL };
	struct spec spec = { .env = user, .argv = alone, .argc = 3 };

	e = env_create(&spec, &job);
	assert_non_null(e);
	LACKS(env_rank(e, 0), "PET_NNODES");
	HAS(env_rank(e, 0), "NNODES", "16");
	env_destroy(e);

	setup.per_node = false;
	e = make(user);
	LACKS(env_rank(e, 0), "PET_NNODES");
	env_destroy(e);
}

static void a_job_of_one_node_has_no_interface(void **state)
{
	const char *user[] = { NULL };
	struct env *e;

	go.ifname = NULL;
	go.n_ras = 0;
	job.cookie = NULL;
	job.attempt = 1;
	e = make(user);
	LACKS(env_rank(e, 0), "NCCL_SOCKET_IFNAME");
	LACKS(env_rank(e, 0), "NCCL_RAS_ADDR");
	LACKS(env_rank(e, 0), "NODEAGENT_COOKIE");
	HAS(env_rank(e, 0), "TORCHELASTIC_RESTART_COUNT", "0");
	env_destroy(e);
}

static void names_that_only_look_like_ours_are_the_users(void **state)
{
	const char *user[] = { "RANKS=1", "RAN=2", "MASTER_ADDRESS=3", "NODEAGENT_JOBS=4", "A=B=C",
			       "WORLD_SIZE_=5", "LOCAL_RANK2=6", "rank=7", NULL };
	struct env *e = make(user);
	char **v = env_rank(e, 0);

	for (size_t i = 0; user[i]; i++)
		assert_ptr_equal(v[i], user[i]); /* shared, not copied */
	HAS(v, "A", "B=C");
	env_destroy(e);
}

static void the_coordinator_sets_what_is_of_nccls_network_and_nothing_else(void **state)
{
	const char *user[] = { "NCCL_IB_HCA=^mlx5_3", NULL }, *nobody[] = { NULL };
	const char *net[] = { "NCCL_NET=IB", "NCCL_IB_HCA==mlx5_0:1", "LD_PRELOAD=/tmp/x.so", "MASTER_ADDR=10.9.9.9", "PATH=/tmp",
			      "NCCL_NET=Socket", "NCCL_IB_GID_INDEX=3", "NCCL_SOCKET_IFNAME=eth9", "NCCL_NET" };
	struct env *e;
	char **v;

	go.env = net;
	go.n_env = sizeof(net) / sizeof(net[0]);
	e = make(user);
	v = env_rank(e, 0);
	HAS(v, "NCCL_NET", "IB");
	HAS(v, "NCCL_IB_HCA", "^mlx5_3");
	HAS(v, "NCCL_IB_GID_INDEX", "3");
	HAS(v, "MASTER_ADDR", "10.1.2.3");
	HAS(v, "NCCL_SOCKET_IFNAME", "ib0");
	LACKS(v, "LD_PRELOAD");
	LACKS(v, "PATH");
	assert_int_equal(times(v, "NCCL_NET"), 1);
	assert_int_equal(times(v, "NCCL_IB_HCA"), 1);
	env_destroy(e);
	e = make(nobody);
	HAS(env_rank(e, 0), "NCCL_IB_HCA", "=mlx5_0:1");
	env_destroy(e);
}

static void what_a_file_of_nccls_sets_is_left_to_it(void **state)
{
	static const struct nccl_conf conf = { 3, { "NCCL_SOCKET_IFNAME", "NCCL_NET", "NCCL_DEBUG" } };
	const char *user[] = { "A=1", NULL }, *net[] = { "NCCL_NET=IB", "NCCL_IB_HCA==mlx5_0:1" };
	struct env *e;
	char **v;

	go.env = net;
	go.n_env = 2;
	job.conf = &conf;
	job.nccl_file = "/proc/77/fd/9";
	e = make(user);
	v = env_rank(e, 0);
	assert_false(env_nccl_log(e));
	LACKS(v, "NCCL_DEBUG"); /* and its companions: who set one wants those lines where they are used to find them */
	LACKS(v, "NCCL_DEBUG_FILE");
	LACKS(v, "NCCL_DEBUG_SUBSYS");
	LACKS(v, "NCCL_NET");
	LACKS(v, "NCCL_SOCKET_IFNAME");
	HAS(v, "GLOO_SOCKET_IFNAME", "ib0");
	HAS(v, "NCCL_IB_HCA", "=mlx5_0:1");
	env_destroy(e);
}

static void every_name_of_the_table_is_found(void **state)
{
	const char *ours[] = { "CROSS_SIZE", "GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODEAGENT_ATTEMPT",
			       "NODEAGENT_NODE", "ROLE_RANK", "ROLE_WORLD_SIZE", "LOCAL_SIZE",
			       "GROUP_RANK" };
	char stale[9][64];
	const char *user[10] = { NULL };
	struct env *e;
	char **v;

	for (size_t i = 0; i < 9; i++) {
		snprintf(stale[i], sizeof stale[i], "%s=stale", ours[i]);
		user[i] = stale[i];
	}
	e = make(user);
	v = env_rank(e, 0);
	for (size_t i = 0; i < 9; i++) {
		assert_int_equal(times(v, ours[i]), 1);
		assert_string_not_equal(get(v, ours[i]), "stale");
	}
	env_destroy(e);
}

static void a_failing_malloc_gives_no_environment(void **state)
{
	const char *user[] = { "A=1", NULL };
	struct spec spec = { .env = user, .envc = 1 };

	EACH_FAILING_MALLOC({
		struct env *e = env_create(&spec, &job);

		if (e)
			HAS(env_rank(e, 1), "RANK", "9");
		env_destroy(e);
	});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_rank_knows_its_place_as_under_torchrun_and_deepspeed, fresh),
		cmocka_unit_test_setup(the_GPUs_are_those_of_the_order_to_start, fresh),
		cmocka_unit_test_setup(nccl_writes_its_log_for_us_unless_the_user_says_anything_about_it, fresh),
		cmocka_unit_test_setup(defaults_are_set_when_the_user_has_none, fresh),
		cmocka_unit_test_setup(the_users_settings_win, fresh),
		cmocka_unit_test_setup(stale_rank_variables_of_the_caller_are_replaced, fresh),
		cmocka_unit_test_setup(torch_is_never_told_of_a_store_that_nobody_hosts, fresh),
		cmocka_unit_test_setup(one_launcher_a_node_gets_what_llamafactory_reads, fresh),
		cmocka_unit_test_setup(a_job_of_one_node_has_no_interface, fresh),
		cmocka_unit_test_setup(names_that_only_look_like_ours_are_the_users, fresh),
		cmocka_unit_test_setup(the_coordinator_sets_what_is_of_nccls_network_and_nothing_else, fresh),
		cmocka_unit_test_setup(what_a_file_of_nccls_sets_is_left_to_it, fresh),
		cmocka_unit_test_setup(every_name_of_the_table_is_found, fresh),
		cmocka_unit_test_setup(a_failing_malloc_gives_no_environment, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
