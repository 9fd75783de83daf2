/* test_hw_verbs.c - ports by way of verbs: devices that open or not, events, unplugging
 *
 * The functions of libibverbs are this file's own: a device for each name in
 * 'present', with events out of a pipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hw/sysfs_ports.h"
#include "hw/verbs_ports.h"
#include "tests/unit/tree.h"

#define TEST(name) static void name(void **state)

/* ---- a libibverbs --------------------------------------------------------- */

static struct {
	struct ibv_device dev;
	struct ibv_context ctx;
	int open_error; /* errno of ibv_open_device */
	int query_error; /* what ibv_query_port returns */
	int fds[2];
	int opened, acked;
	struct ibv_port_attr attr;
} fakes[3];
static int present, list_error, lists;

struct ibv_device **ibv_get_device_list(int *n)
{
	struct ibv_device **list = calloc(4, sizeof(struct ibv_device *));

	lists++;
	if (list_error) {
		free(list);
		errno = list_error;
		return NULL;
	}
	for (*n = 0; *n < present; ++*n)
		list[*n] = &fakes[*n].dev;
	return list;
}

void ibv_free_device_list(struct ibv_device **list)
{
	free(list);
}

const char *ibv_get_device_name(struct ibv_device *device)
{
	return device->name;
}

static int number_of(const struct ibv_context *ctx)
{
	for (int i = 0; i < 3; i++)
		if (ctx == &fakes[i].ctx)
			return i;
	fail_msg("no device of ours");
	return 0;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	for (int i = 0; i < 3; i++) {
		if (device != &fakes[i].dev)
			continue;
		if (fakes[i].open_error) {
			errno = fakes[i].open_error;
			return NULL;
		}
		assert_int_equal(pipe(fakes[i].fds), 0);
		fakes[i].ctx = (struct ibv_context){ .device = device, .async_fd = fakes[i].fds[0] };
		fakes[i].opened++;
		return &fakes[i].ctx;
	}
	return NULL;
}

int ibv_close_device(struct ibv_context *ctx)
{
	int i = number_of(ctx);

	close(fakes[i].fds[0]);
	if (fakes[i].fds[1] >= 0)
		close(fakes[i].fds[1]);
	fakes[i].opened--;
	return 0;
}

int ibv_query_device(struct ibv_context *ctx, struct ibv_device_attr *attr)
{
	memset(attr, 0, sizeof *attr);
	strcpy(attr->fw_ver, "1.2.3-verbs");
	return 0;
}

#undef ibv_query_port
int ibv_query_port(struct ibv_context *ctx, uint8_t port, struct _compat_ibv_port_attr *ret)
{
	int i = number_of(ctx);

	if (fakes[i].query_error)
		return fakes[i].query_error;
	memcpy(ret, &fakes[i].attr, sizeof fakes[i].attr);
	return 0;
}

int ibv_query_gid(struct ibv_context *ctx, uint8_t port, int index, union ibv_gid *gid)
{
	for (int i = 0; i < 16; i++)
		gid->raw[i] = (uint8_t)(0xf0 + i);
	return index;
}

int ibv_get_async_event(struct ibv_context *ctx, struct ibv_async_event *ev)
{
	assert_true(fcntl(ctx->async_fd, F_GETFL) & O_NONBLOCK);
	return read(ctx->async_fd, &ev->event_type, sizeof ev->event_type) == sizeof ev->event_type ? 0 : -1;
}

void ibv_ack_async_event(struct ibv_async_event *ev)
{
	fakes[0].acked++;
}

static void happens(int i, enum ibv_event_type type)
{
	assert_int_equal(write(fakes[i].fds[1], &type, sizeof type), sizeof type);
}

/* ---- set up --------------------------------------------------------------- */

static char root[64];
static struct sysfs fs;
static struct verbs *v;
static struct ports ports;
static mono_t t;
static const sysfs_name names[] = { "mlx5_0", "mlx5_1", "mlx5_2" };

static int setup(void **state)
{
	memset(fakes, 0, sizeof fakes);
	for (int i = 0; i < 3; i++) {
		strcpy(fakes[i].dev.name, names[i]);
		sprintf(fakes[i].dev.dev_name, "uverbs%d", i);
		fakes[i].attr = (struct ibv_port_attr){
			.state = IBV_PORT_ACTIVE, .phys_state = 5, .active_speed = 32, .active_width = 2,
			.lid = 9, .sm_lid = 1, .link_layer = IBV_LINK_LAYER_INFINIBAND,
			.active_mtu = IBV_MTU_4096,
		};
	}
	present = 3;
	list_error = lists = 0;
	t = (mono_t){ 1000000000 };
	tree_make(root);
	for (int i = 0; i < 3; i++) {
		char path[64];

		tree_port(root, names[i], 1);
		sprintf(path, "class/infiniband_verbs/uverbs%d/dev", i);
		tree_file(root, path, "231:0");
	}
	assert_int_equal(sysfs_open(&fs, root), 0);
	v = verbs_new();
	return 0;
}

static int teardown(void **state)
{
	verbs_free(v);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fakes[i].opened, 0);
	ports_finish(&ports);
	sysfs_close(&fs);
	tree_remove(root);
	return 0;
}

static bool has(const char *device)
{
	const char *why;

	return verbs_has(v, device, &why);
}

static const char *why_not(const char *device)
{
	const char *why;

	assert_false(verbs_has(v, device, &why));
	return why;
}

static const struct hw_port *read_one(const char *device)
{
	int fd = sysfs_device(&fs, device);
	struct port_row *row = port_row(&ports, device, 1);

	verbs_port(v, &fs, fd, row, t);
	close(fd);
	return &row->p;
}

/* ---- the tests ------------------------------------------------------------ */

TEST(a_port_is_read_whole)
{
	const struct hw_port *p;

	tree_unlink(root, "class/infiniband/mlx5_0/fw_ver");
	verbs_sync(v, &fs, names, 1, t);
	p = read_one("mlx5_0");
	assert_string_equal(p->state, "Active");
	assert_string_equal(p->phys_state, "LinkUp");
	assert_string_equal(p->speed, "EDR");
	assert_int_equal(p->rate_mbps.v, 100000);
	assert_int_equal(p->lanes.v, 4);
	assert_int_equal(p->lid.v, 9);
	assert_int_equal(p->sm_lid.v, 1);
	assert_int_equal(p->mtu.v, 4096);
	assert_string_equal(p->link_layer, "InfiniBand");
	assert_string_equal(p->gid, "f0f1:f2f3:f4f5:f6f7:f8f9:fafb:fcfd:feff");
	assert_int_equal(p->gids.v, 1); /* the others are from sysfs */
	assert_string_equal(p->board, "MT_0000000838");
	assert_string_equal(p->fw, "1.2.3-verbs"); /* where sysfs has none */
	assert_string_equal(p->text, "");
}

TEST(split_ports_and_speeds_that_the_library_cannot_tell)
{
	verbs_sync(v, &fs, names, 1, t);
	fakes[0].attr.active_width = 16;
	fakes[0].attr.active_speed = 64;
	assert_int_equal(read_one("mlx5_0")->rate_mbps.v, 100000); /* HDR100 */
	assert_int_equal(read_one("mlx5_0")->lanes.v, 2);
	fakes[0].attr.active_width = 2;
	fakes[0].attr.active_speed = 128;
	tree_port_file(root, "mlx5_0", 1, "rate", "800 Gb/sec (4X XDR)");
	assert_string_equal(read_one("mlx5_0")->speed, "XDR");
	assert_int_equal(read_one("mlx5_0")->rate_mbps.v, 800000);
	tree_port_file(root, "mlx5_0", 1, "rate", "10 Gb/sec (4X SDR)"); /* a kernel that knows no XDR */
	assert_string_equal(read_one("mlx5_0")->speed, "NDR");
	fakes[0].attr.active_speed = 0;
	tree_unlink(root, "class/infiniband/mlx5_0/ports/1/rate");
	assert_null(read_one("mlx5_0")->speed);
	assert_false(read_one("mlx5_0")->rate_mbps.known);
}

TEST(roce_by_verbs)
{
	verbs_sync(v, &fs, names, 1, t);
	fakes[0].attr.link_layer = IBV_LINK_LAYER_ETHERNET;
	fakes[0].attr.lid = fakes[0].attr.sm_lid = 0;
	fakes[0].attr.state = IBV_PORT_DOWN;
	fakes[0].attr.phys_state = 3;
	assert_string_equal(read_one("mlx5_0")->link_layer, "Ethernet");
	assert_string_equal(read_one("mlx5_0")->phys_state, "Disabled");
	assert_true(read_one("mlx5_0")->lid.known);
}

TEST(devices_that_do_not_open_say_why_and_are_tried_again)
{
	fakes[1].open_error = EACCES;
	fakes[2].open_error = ENOENT;
	present = 3;
	verbs_sync(v, &fs, names, 3, t);
	assert_true(has("mlx5_0"));
	assert_non_null(strstr(why_not("mlx5_1"), "no permission"));
	assert_non_null(strstr(why_not("mlx5_2"), "absent here"));
	fakes[1].open_error = 0;
	verbs_sync(v, &fs, names, 3, mono_add_ms(t, 100));
	assert_false(has("mlx5_1")); /* not at each poll */
	verbs_sync(v, &fs, names, 3, mono_add_ms(t, 2100));
	assert_true(has("mlx5_1"));
}

TEST(a_library_without_a_driver_or_a_kernel_without_the_module)
{
	present = 1;
	verbs_sync(v, &fs, names, 2, t);
	assert_non_null(strstr(why_not("mlx5_1"), "no driver for it"));
	list_error = ENOSYS;
	verbs_sync(v, &fs, names, 3, t);
	assert_non_null(strstr(why_not("mlx5_2"), "ib_uverbs is not loaded"));
	assert_true(has("mlx5_0"));
	assert_false(has("mlx5_9"));
}

TEST(the_library_lists_devices_only_when_some_are_new)
{
	for (int i = 0; i < 10; i++)
		verbs_sync(v, &fs, names, 3, mono_add_ms(t, 2000 * i));
	assert_int_equal(lists, 1);
	verbs_sync(v, &fs, names + 1, 2, t);
	assert_int_equal(lists, 1);
	assert_int_equal(fakes[0].opened, 0);
	assert_true(has("mlx5_2"));
}

TEST(events_end_the_waiting_and_are_acknowledged)
{
	int wake = eventfd(0, 0);

	verbs_sync(v, &fs, names, 3, t);
	assert_false(verbs_wait(v, &ports, wake, 30));
	happens(2, IBV_EVENT_PORT_ERR);
	happens(2, IBV_EVENT_PORT_ACTIVE);
	happens(0, IBV_EVENT_SM_CHANGE);
	assert_true(verbs_wait(v, &ports, wake, 10000));
	assert_int_equal(fakes[0].acked, 3);
	assert_false(verbs_wait(v, &ports, wake, 30));
	assert_true(has("mlx5_2"));
	eventfd_write(wake, 1);
	assert_false(verbs_wait(v, &ports, wake, 10000)); /* woken: no event */
	close(wake);
}

TEST(changed_gids_are_counted_at_once)
{
	int wake = eventfd(0, 0);

	verbs_sync(v, &fs, names, 2, t);
	assert_int_equal(read_one("mlx5_0")->gids.v, 1);
	assert_int_equal(read_one("mlx5_1")->gids.v, 1);
	tree_port_file(root, "mlx5_0", 1, "gids/1", "fe80:0000:0000:0000:a088:c203:00ab:9999");
	tree_port_file(root, "mlx5_1", 1, "gids/1", "fe80:0000:0000:0000:a088:c203:00ab:9999");
	assert_int_equal(read_one("mlx5_0")->gids.v, 1); /* seldom looked at */
	happens(0, IBV_EVENT_GID_CHANGE);
	assert_true(verbs_wait(v, &ports, wake, 10000));
	assert_int_equal(read_one("mlx5_0")->gids.v, 2);
	assert_int_equal(read_one("mlx5_1")->gids.v, 1);
	close(wake);
}

TEST(a_device_that_died_is_closed_and_opened_again)
{
	int wake = eventfd(0, 0);

	verbs_sync(v, &fs, names, 1, t);
	happens(0, IBV_EVENT_DEVICE_FATAL);
	assert_true(verbs_wait(v, &ports, wake, 10000));
	assert_false(has("mlx5_0"));
	fakes[0].open_error = ENOENT;
	verbs_sync(v, &fs, names, 1, t);
	assert_int_equal(fakes[0].opened, 0);
	fakes[0].open_error = 0;
	verbs_sync(v, &fs, names, 1, mono_add_ms(t, 2000));
	assert_true(has("mlx5_0"));
	close(wake);
}

TEST(a_device_that_waits_for_us_to_let_go_is_let_go)
{
	verbs_sync(v, &fs, names, 2, t);
	tree_unlink(root, "class/infiniband_verbs/uverbs0");
	verbs_sync(v, &fs, names, 2, mono_add_ms(t, 2000));
	assert_int_equal(fakes[0].opened + fakes[1].opened, 2); /* it still lists it here: opened again */
	present = 0; /* the library lists no device without uverbsN */
	verbs_sync(v, &fs, names, 2, mono_add_ms(t, 4000));
	assert_int_equal(fakes[0].opened, 0);
	assert_int_equal(fakes[1].opened, 1);
	assert_true(has("mlx5_1"));
}

TEST(an_unplugged_device_is_not_waited_for)
{
	int wake = eventfd(0, 0);

	verbs_sync(v, &fs, names, 2, t);
	close(fakes[0].fds[1]); /* its descriptor is readable for ever now */
	fakes[0].fds[1] = -1;
	assert_true(verbs_wait(v, &ports, wake, 10000));
	assert_false(has("mlx5_0"));
	assert_false(verbs_wait(v, &ports, wake, 30));
	verbs_sync(v, &fs, names + 1, 1, t);
	assert_true(has("mlx5_1"));
	close(wake);
}

TEST(a_port_that_cannot_be_asked_costs_only_itself)
{
	const struct hw_port *p;

	verbs_sync(v, &fs, names, 2, t);
	fakes[0].query_error = EINVAL;
	p = read_one("mlx5_0");
	assert_null(p->state);
	assert_string_equal(p->text, "verbs: invalid argument");
	assert_true(has("mlx5_0"));
	assert_string_equal(read_one("mlx5_1")->state, "Active");
	fakes[0].query_error = EIO; /* its firmware does not answer */
	read_one("mlx5_0");
	assert_false(has("mlx5_0"));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_port_is_read_whole),
		CASE(split_ports_and_speeds_that_the_library_cannot_tell),
		CASE(roce_by_verbs),
		CASE(devices_that_do_not_open_say_why_and_are_tried_again),
		CASE(a_library_without_a_driver_or_a_kernel_without_the_module),
		CASE(the_library_lists_devices_only_when_some_are_new),
		CASE(events_end_the_waiting_and_are_acknowledged),
		CASE(changed_gids_are_counted_at_once),
		CASE(a_device_that_died_is_closed_and_opened_again),
		CASE(a_device_that_waits_for_us_to_let_go_is_let_go),
		CASE(an_unplugged_device_is_not_waited_for),
		CASE(a_port_that_cannot_be_asked_costs_only_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
