/* test_hw_ports.c - ports as a tree like sysfs shows them, well and hostile */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hw/ports.h"
#include "hw/sysfs_ports.h"
#include "tests/unit/failmalloc.h"
#include "tests/unit/tree.h"

#define TEST(name) static void name(void **state)

static char root[64];
static struct hw_options options;
static void *source;
static struct hw_readings r;

static int setup(void **state)
{
	tree_make(root);
	options = (struct hw_options){ .sysfs = root };
	source = hw_ports.open(&options);
	return 0;
}

static void forget(void)
{
	arena_finish(&r.arena);
	memset(&r, 0, sizeof r);
}

static int teardown(void **state)
{
	forget();
	hw_ports.close(source);
	tree_remove(root);
	return 0;
}

static void poll_ports(void)
{
	forget();
	hw_ports.poll(source, &r);
	assert_int_equal(r.n_sources, 1);
	assert_string_equal(r.sources[0].name, "sysfs");
}

static const struct hw_port *only_port(void)
{
	poll_ports();
	assert_int_equal(r.n_ports, 1);
	return &r.ports[0];
}

TEST(a_healthy_port_is_read_whole)
{
	const struct hw_port *p;

	tree_port(root, "mlx5_0", 1);
	tree_file(root, "devices/0000:17:00.0/numa_node", "1");
	tree_link(root, "class/infiniband/mlx5_0/device", "../../../devices/0000:17:00.0");
	p = only_port();
	assert_true(r.sources[0].ok);
	assert_string_equal(p->device, "mlx5_0");
	assert_int_equal(p->port, 1);
	assert_string_equal(p->state, "Active");
	assert_string_equal(p->phys_state, "LinkUp");
	assert_string_equal(p->speed, "NDR");
	assert_string_equal(p->link_layer, "InfiniBand");
	assert_int_equal(p->rate_mbps.v, 400000);
	assert_int_equal(p->lanes.v, 4);
	assert_int_equal(p->lid.v, 42);
	assert_int_equal(p->sm_lid.v, 1);
	assert_int_equal(p->gids.v, 1);
	assert_string_equal(p->gid, "fe80:0000:0000:0000:a088:c203:00ab:1234");
	assert_string_equal(p->fw, "28.39.1002");
	assert_string_equal(p->board, "MT_0000000838");
	assert_string_equal(p->pci, "0000:17:00.0");
	assert_true(p->numa.known);
	assert_int_equal(p->numa.v, 1);
	assert_string_equal(p->netdev, "");
	assert_string_equal(p->text, "");
	assert_int_equal(p->since_wall_ms, 0);
	assert_false(p->excluded);
}

TEST(real_sysfs_has_links_for_devices)
{
	tree_file(root, "devices/pci0000:10/0000:11:00.0/infiniband/mlx5_3/fw_ver", "1.2");
	tree_file(root, "devices/pci0000:10/0000:11:00.0/infiniband/mlx5_3/ports/1/state", "2: INIT");
	tree_link(root, "class/infiniband/mlx5_3",
		  "../../devices/pci0000:10/0000:11:00.0/infiniband/mlx5_3");
	tree_link(root, "devices/pci0000:10/0000:11:00.0/infiniband/mlx5_3/device", "../../../0000:11:00.0");
	assert_string_equal(only_port()->state, "Initializing");
	assert_string_equal(r.ports[0].pci, "0000:11:00.0");
	assert_string_equal(r.ports[0].fw, "1.2");
}

TEST(devices_and_ports_come_in_natural_order)
{
	tree_port(root, "mlx5_10", 1);
	tree_port(root, "mlx5_2", 10);
	tree_port(root, "mlx5_2", 9);
	poll_ports();
	assert_int_equal(r.n_ports, 3);
	assert_string_equal(r.ports[0].device, "mlx5_2");
	assert_int_equal(r.ports[0].port, 9);
	assert_int_equal(r.ports[1].port, 10);
	assert_string_equal(r.ports[2].device, "mlx5_10");
}

TEST(what_is_absent_is_unknown)
{
	const struct hw_port *p;

	/* ibsim's tree has no more than this */
	tree_port_file(root, "ibsim0", 1, "state", "1: DOWN");
	p = only_port();
	assert_string_equal(p->state, "Down");
	assert_string_equal(p->link_layer, "InfiniBand");
	assert_null(p->phys_state);
	assert_null(p->speed);
	assert_false(p->rate_mbps.known);
	assert_false(p->lid.known);
	assert_false(p->gids.known);
	assert_false(p->numa.known);
	assert_string_equal(p->gid, "");
	assert_string_equal(p->text, "");
}

TEST(a_port_without_a_state_says_so)
{
	tree_port(root, "mlx5_0", 1);
	tree_unlink(root, "class/infiniband/mlx5_0/ports/1/state");
	assert_null(only_port()->state);
	assert_string_equal(r.ports[0].text, "state: absent");
	assert_string_equal(r.ports[0].phys_state, "LinkUp");
}

TEST(no_rdma_is_another_thing_than_no_sysfs)
{
	poll_ports();
	assert_false(r.sources[0].ok);
	tree_file(root, "class/net/lo/x", "");
	poll_ports();
	assert_true(r.sources[0].ok);
	assert_non_null(strstr(r.sources[0].text, "no RDMA device"));
	assert_int_equal(r.n_ports, 0);
	tree_remove(root);
	poll_ports();
	assert_false(r.sources[0].ok);
}

TEST(one_bad_file_costs_its_field_only)
{
	const struct hw_port *p;

	tree_port(root, "mlx5_0", 1);
	tree_port_file(root, "mlx5_0", 1, "rate", "N/A (no PMA)");
	tree_port_file(root, "mlx5_0", 1, "lid", "0x10000");
	p = only_port();
	assert_string_equal(p->state, "Active");
	assert_false(p->rate_mbps.known);
	assert_false(p->lid.known);
	assert_true(p->sm_lid.known);
	assert_non_null(strstr(p->text, "rate: \"N/A (no PMA)\" is not understood"));
	assert_non_null(strstr(p->text, "lid: \"0x10000\" is not understood"));
}

TEST(files_that_are_none_are_not_read)
{
	const struct hw_port *p;

	tree_port(root, "mlx5_0", 1);
	tree_fifo(root, "class/infiniband/mlx5_0/ports/1/state");
	tree_unlink(root, "class/infiniband/mlx5_0/ports/1/rate");
	tree_file(root, "class/infiniband/mlx5_0/ports/1/rate/inside", "a folder");
	tree_unlink(root, "class/infiniband/mlx5_0/ports/1/lid");
	tree_link(root, "class/infiniband/mlx5_0/ports/1/lid", "sm_lid");
	tree_unlink(root, "class/infiniband/mlx5_0/ports/1/phys_state");
	tree_link(root, "class/infiniband/mlx5_0/ports/1/phys_state", "/dev/zero");
	p = only_port();
	assert_null(p->state);
	assert_null(p->phys_state);
	assert_false(p->rate_mbps.known);
	assert_false(p->lid.known);
	assert_int_equal(p->sm_lid.v, 1);
	assert_non_null(strstr(p->text, "state: no regular file; phys_state: no regular file; "
					"rate: no regular file; lid: no regular file"));
}

TEST(huge_and_binary_contents_do_no_harm)
{
	const struct hw_port *p;
	char *big = malloc(1 << 20);

	memset(big, '4', 1 << 20);
	tree_port(root, "mlx5_0", 1);
	tree_bytes(root, "class/infiniband/mlx5_0/ports/1/state", big, 1 << 20);
	memset(big, 0xff, 4096);
	tree_bytes(root, "class/infiniband/mlx5_0/fw_ver", big, 4096);
	tree_bytes(root, "class/infiniband/mlx5_0/ports/1/rate", big, 4096);
	tree_bytes(root, "class/infiniband/mlx5_0/ports/1/lid", "0x1\0002", 5);
	tree_bytes(root, "class/infiniband/mlx5_0/ports/1/sm_lid", "", 0);
	free(big);
	p = only_port();
	assert_null(p->state);
	assert_false(p->rate_mbps.known);
	assert_int_equal(p->lid.v, 1); /* a text ends at a NUL byte */
	assert_false(p->sm_lid.known);
	assert_int_equal(strlen(p->fw), 64);
	assert_string_equal(p->fw + 60, "????"); /* valid UTF-8 in any case */
	assert_true(strlen(p->text) < sizeof p->text);
}

TEST(links_out_of_the_tree_lead_nowhere)
{
	char other[64], target[128];

	tree_make(other);
	tree_port(other, "mlx5_0", 1);
	tree_port(root, "mlx5_1", 1);
	snprintf(target, sizeof target, "%s/class/infiniband/mlx5_0", other);
	tree_link(root, "class/infiniband/evil", target);
	snprintf(target, sizeof target, "%s", other);
	tree_link(root, "class/infiniband/mlx5_1/device", target);
	tree_file(other, "numa_node", "3");
	assert_string_equal(only_port()->device, "mlx5_1");
	assert_false(r.ports[0].numa.known);
	tree_remove(other);
}

TEST(names_that_are_no_ports_or_too_long_are_passed_over)
{
	char name[128];

	tree_port(root, "mlx5_0", 1);
	tree_port_file(root, "mlx5_0", 0, "state", "4: ACTIVE");
	tree_port_file(root, "mlx5_0", 256, "state", "4: ACTIVE");
	tree_file(root, "class/infiniband/mlx5_0/ports/one/state", "4: ACTIVE");
	memset(name, 'x', 65);
	name[65] = '\0';
	tree_port(root, name, 1);
	assert_string_equal(only_port()->device, "mlx5_0");
}

TEST(no_more_than_256_ports_are_kept)
{
	for (unsigned i = 1; i <= 200; i++) {
		tree_port_file(root, "a", i, "state", "4: ACTIVE");
		tree_port_file(root, "b", i, "state", "4: ACTIVE");
	}
	poll_ports();
	assert_int_equal(r.n_ports, 256);
	assert_non_null(strstr(r.sources[0].text, "only the first 256 ports"));
}

TEST(a_change_of_state_has_a_time)
{
	int64_t before = hw_wall_ms();

	tree_port(root, "mlx5_0", 1);
	assert_int_equal(only_port()->since_wall_ms, 0);
	tree_port_file(root, "mlx5_0", 1, "state", "1: DOWN");
	assert_true(only_port()->since_wall_ms >= before);
	before = r.ports[0].since_wall_ms;
	assert_int_equal(only_port()->since_wall_ms, before);
	/* unreadable for a moment is no change */
	tree_unlink(root, "class/infiniband/mlx5_0/ports/1/state");
	assert_int_equal(only_port()->since_wall_ms, before);
	tree_port_file(root, "mlx5_0", 1, "state", "1: DOWN");
	assert_int_equal(only_port()->since_wall_ms, before);
}

TEST(gids_in_use_are_counted_wherever_they_are)
{
	char name[32];

	tree_port(root, "rxe0", 1);
	for (int i = 1; i < 600; i++) {
		snprintf(name, sizeof name, "gids/%d", i);
		tree_port_file(root, "rxe0", 1, name,
			       i == 599 ? "0000:0000:0000:0000:0000:ffff:c000:0201" :
					  "0000:0000:0000:0000:0000:0000:0000:0000");
	}
	tree_fifo(root, "class/infiniband/rxe0/ports/1/gids/7"); /* stands for one that fails */
	assert_int_equal(only_port()->gids.v, 2);
	tree_port(root, "rxe1", 1);
	tree_unlink(root, "class/infiniband/rxe1/ports/1/gids");
	poll_ports();
	assert_false(r.ports[1].gids.known);
}

TEST(the_entry_of_roce_v2_with_an_address_is_found)
{
	static const char *const gids[] = { "fe80:0000:0000:0000:0002:c9ff:fe00:0001", "fe80:0000:0000:0000:0002:c9ff:fe00:0001",
					    "0000:0000:0000:0000:0000:ffff:c0a8:0101", "0000:0000:0000:0000:0000:ffff:c0a8:0101" };
	char name[40];

	tree_port(root, "mlx5_0", 1);
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "gids/%d", i);
		tree_port_file(root, "mlx5_0", 1, name, gids[i]);
		snprintf(name, sizeof name, "gid_attrs/types/%d", i);
		tree_port_file(root, "mlx5_0", 1, name, i % 2 ? "RoCE v2" : "IB/RoCE v1");
	}
	tree_port_file(root, "mlx5_0", 1, "link_layer", "Ethernet");
	assert_true(only_port()->gid_v2.known);
	assert_int_equal(only_port()->gid_v2.v, 3);
	tree_port(root, "mlx5_1", 1);
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "gids/%d", i);
		tree_port_file(root, "mlx5_1", 1, name, gids[i]);
	}
	tree_port_file(root, "mlx5_1", 1, "link_layer", "Ethernet");
	poll_ports();
	assert_false(r.ports[1].gid_v2.known); /* a kernel that tells no types */
}

TEST(partition_keys_are_told_from_index_0_on_without_the_empty_ones_behind)
{
	static const char *const keys[] = { "0xffff", "0x0000", "0x8001", "0x0000" };
	char name[24];

	tree_port(root, "mlx5_0", 1);
	for (int i = 0; i < 128; i++) {
		snprintf(name, sizeof name, "pkeys/%d", i);
		tree_port_file(root, "mlx5_0", 1, name, i < 4 ? keys[i] : i == 100 ? "0x8064" : "0x0000");
	}
	assert_string_equal(only_port()->pkey_table, "ffff,0,8001");
	assert_int_equal(only_port()->pkey.v, 0xffff);
	assert_int_equal(only_port()->pkeys.v, 3); /* one of them beyond what is told */
	tree_port(root, "mlx5_1", 1); /* a tree without keys */
	poll_ports();
	assert_string_equal(r.ports[1].pkey_table, "");
	assert_false(r.ports[1].pkey.known);
}

static uint32_t keys_seen(const struct sysfs *fs, int device_fd, struct port_row *row, int64_t ms)
{
	sysfs_port_slow(fs, device_fd, row, mono_add_ms((mono_t){ 1 }, ms));
	return row->p.pkeys.v;
}

TEST(a_partition_key_behind_the_first_empty_entry_is_looked_for_seldom)
{
	struct port_row row = { .p = { .port = 1 } };
	struct sysfs fs;
	char name[24];
	int fd;

	tree_port(root, "mlx5_0", 1);
	for (int i = 0; i < 128; i++) {
		snprintf(name, sizeof name, "pkeys/%d", i);
		tree_port_file(root, "mlx5_0", 1, name, i == 0 ? "0xffff" : "0x0000");
	}
	assert_int_equal(sysfs_open(&fs, root), 0);
	fd = sysfs_dir(&fs, fs.root, "class/infiniband/mlx5_0");
	assert_true(fd >= 0);
	assert_int_equal(keys_seen(&fs, fd, &row, 0), 1);
	tree_port_file(root, "mlx5_0", 1, "pkeys/1", "0x8001"); /* the next one: soon */
	assert_int_equal(keys_seen(&fs, fd, &row, PORT_SOON_MS), 2);
	tree_port_file(root, "mlx5_0", 1, "pkeys/9", "0x8009");
	assert_int_equal(keys_seen(&fs, fd, &row, PORT_SLOW_MS + PORT_SOON_MS), 2);
	assert_int_equal(keys_seen(&fs, fd, &row, PORT_PKEYS_MS + PORT_SLOW_MS), 3);
	tree_port_file(root, "mlx5_0", 1, "pkeys/9", "0x0000"); /* what was found is looked at as soon as the others */
	assert_int_equal(keys_seen(&fs, fd, &row, PORT_PKEYS_MS + PORT_SLOW_MS + PORT_SOON_MS), 2);
	close(fd);
	sysfs_close(&fs);
}

TEST(devices_come_and_go)
{
	tree_port(root, "mlx5_0", 1);
	tree_port(root, "mlx5_1", 1);
	poll_ports();
	assert_int_equal(r.n_ports, 2);
	tree_unlink(root, "class/infiniband/mlx5_0");
	assert_string_equal(only_port()->device, "mlx5_1");
	tree_port(root, "mlx5_0", 1);
	poll_ports();
	assert_int_equal(r.n_ports, 2);
	assert_true(r.ports[0].since_wall_ms > 0 || r.ports[1].since_wall_ms > 0);
	tree_unlink(root, "class/infiniband");
	poll_ports();
	assert_int_equal(r.n_ports, 0);
	assert_true(r.sources[0].ok);
}

TEST(an_excluded_device_is_shown_and_not_asked)
{
	static const char *const exclude[] = { "mlx5_9", "mlx5_0" };
	const struct hw_port *p;

	tree_port(root, "mlx5_0", 1);
	tree_link(root, "class/infiniband/mlx5_0/device", "../../../0000:17:00.0");
	options.exclude = exclude;
	options.n_exclude = 2;
	p = only_port();
	assert_true(p->excluded);
	assert_null(p->state);
	assert_false(p->lid.known);
	assert_string_equal(p->fw, "");
	assert_string_equal(p->pci, "0000:17:00.0"); /* of a copied tree: the link's text */
}

TEST(roce_has_an_interface)
{
	tree_port(root, "mlx5_0", 1);
	tree_port_file(root, "mlx5_0", 1, "link_layer", "Ethernet");
	tree_port_file(root, "mlx5_0", 1, "gid_attrs/ndevs/0", "eth3");
	assert_string_equal(only_port()->link_layer, "Ethernet");
	assert_string_equal(r.ports[0].netdev, "eth3");
}

TEST(ipoib_interfaces_are_told_apart_by_their_port)
{
	tree_port(root, "mlx5_0", 2);
	tree_file(root, "devices/0000:17:00.0/net/ib0/dev_port", "0");
	tree_file(root, "devices/0000:17:00.0/net/ib1/dev_port", "1");
	tree_link(root, "class/infiniband/mlx5_0/device", "../../../devices/0000:17:00.0");
	assert_string_equal(only_port()->netdev, "ib1");
}

TEST(what_fails_is_asked_less_and_less)
{
	struct ports ps = { 0 };
	struct port_row *row;
	mono_t t = { 1000000000 };
	int asked = 0;

	ports_begin(&ps);
	row = port_row(&ps, "mlx5_0", 1);
	for (int s = 0; s < 600; s += 2, t = mono_add_ms(t, 2000)) {
		port_row(&ps, "mlx5_0", 1);
		if (port_may_ask(row, ASK_RATE, t)) {
			asked++;
			port_asked(row, ASK_RATE, -EIO, t);
		}
		assert_string_equal(row->p.text, "rate: input/output error");
	}
	/* 0 2 4 6 10 18 34 66, then once a minute */
	assert_in_range(asked, 14, 18);
	t = mono_add_ms(t, PORT_RETRY_MAX_MS);
	assert_true(port_may_ask(row, ASK_RATE, t));
	port_asked(row, ASK_RATE, 0, t);
	assert_true(port_may_ask(row, ASK_RATE, t));
	ports_finish(&ps);
}

TEST(without_memory_nothing_is_made_up)
{
	tree_port(root, "mlx5_0", 1);
	EACH_FAILING_MALLOC({
		void *s = hw_ports.open(&options);
		struct hw_readings got = { 0 };

		if (s) {
			hw_ports.poll(s, &got);
			assert_true(got.n_ports == 1 || !got.sources[0].ok || got.n_ports == 0);
			arena_finish(&got.arena);
			hw_ports.close(s);
		}
	});
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* ---- counters ---------------------------------------------------------------------- */

static uint64_t sum(const struct counter_row *c)
{
	uint64_t n = 0;

	for (int i = 0; i < COUNTER_BUCKETS; i++)
		n += c->grown[i];
	return n;
}

TEST(a_counter_tells_what_it_grew_in_the_last_hour)
{
	struct counter_row c = { 0 };
	struct counter_row d = { 0 };

	counter_take(&c, CNT_SYMBOL_ERROR, 65000, 0, 0); /* what was before is not ours */
	assert_int_equal(sum(&c), 0);
	counter_take(&c, CNT_SYMBOL_ERROR, 65010, 0, 0);
	counter_take(&c, CNT_SYMBOL_ERROR, 65015, 1, 1);
	assert_int_equal(sum(&c), 15);
	counter_take(&c, CNT_SYMBOL_ERROR, 65015, 11, 12); /* an hour later the first 5 minutes are out of it */
	assert_int_equal(sum(&c), 5);
	counter_take(&c, CNT_SYMBOL_ERROR, 3, 0, 12); /* perfquery -R, and 3 since */
	assert_int_equal(sum(&c), 8);
	counter_take(&c, CNT_SYMBOL_ERROR, 3, 1000, 1012); /* nobody looked for long */
	assert_int_equal(sum(&c), 0);
	counter_take(&d, CNT_RCV_DATA, UINT64_MAX - 9, 0, 0);
	counter_take(&d, CNT_RCV_DATA, 10, 0, 0); /* it wraps */
	assert_int_equal(sum(&d), 20);
}

TEST(narrow_counters_stick_at_their_maximum_and_wide_ones_go_on)
{
	struct counter_row c = { 0 };

	counter_take(&c, CNT_LINK_DOWNED, 254, 0, 0);
	assert_false(c.stuck);
	counter_take(&c, CNT_LINK_DOWNED, 255, 0, 0);
	assert_true(c.stuck);
	counter_take(&c, CNT_LINK_DOWNED, 256, 0, 0); /* mlx5's are wider */
	assert_false(c.stuck);
	counter_take(&c, CNT_LOCAL_INTEGRITY, 15, 0, 0);
	assert_true(c.stuck);
	counter_take(&c, CNT_OUT_OF_SEQUENCE, UINT64_MAX, 0, 0);
	assert_false(c.stuck);
}

static void put_counters(const char *symbol)
{
	tree_file(root, "class/infiniband/mlx5_0/ports/1/counters/symbol_error", symbol);
	tree_file(root, "class/infiniband/mlx5_0/ports/1/counters/link_downed", "255");
	tree_file(root, "class/infiniband/mlx5_0/ports/1/counters/port_rcv_errors", "0");
	tree_file(root, "class/infiniband/mlx5_0/ports/1/counters/port_rcv_data", "1000");
	tree_file(root, "class/infiniband/mlx5_0/ports/1/hw_counters/out_of_sequence", "N/A (no PMA)");
}

static const struct hw_counter *counter_of(const struct hw_port *p, const char *name)
{
	for (size_t i = 0; i < p->n_counters; i++)
		if (strcmp(p->counters[i].name, name) == 0)
			return &p->counters[i];
	return NULL;
}

TEST(counters_are_read_and_one_that_cannot_be_costs_itself)
{
	const struct hw_port *p;

	tree_port(root, "mlx5_0", 1);
	put_counters("7");
	p = only_port();
	assert_true(p->counters_s.known && p->counters_text[0] == '\0');
	assert_int_equal(counter_of(p, "symbol_error")->value.v, 7);
	assert_int_equal(counter_of(p, "symbol_error")->delta.v, 0);
	assert_true(counter_of(p, "link_downed")->stuck);
	assert_null(counter_of(p, "port_rcv_errors")); /* 0 is not told */
	assert_false(counter_of(p, "out_of_sequence")->value.known);
	assert_string_equal(counter_of(p, "out_of_sequence")->text, "the driver says that it has none");
	assert_string_equal(counter_of(p, "port_xmit_discards")->text, "absent");
	assert_int_equal(p->rx_bytes.v, 4000);
	assert_false(p->tx_bytes.known);
}

TEST(a_port_without_counters_says_so)
{
	const struct hw_port *p;

	tree_port(root, "mlx5_0", 1);
	p = only_port();
	assert_false(p->counters_s.known);
	assert_string_equal(p->counters_text, "none can be read: absent");
}

TEST(a_device_whose_driver_complains_is_left_alone)
{
	struct port_counters pc = { 0 };
	struct arena a;
	struct hw_port p = { 0 };
	mono_t now = { 1000000000 };

	arena_init(&a);
	counters_read(&pc, -1, "0000:47:00.0", now);
	assert_true(pc.begun);
	for (unsigned i = 1; i <= COUNTERS_LAST; i++) {
		counters_complain("0000:47:00.0");
		now = mono_add_ms(now, INT64_C(10) * 3600000);
		counters_read(&pc, -1, "0000:47:00.0", now);
		assert_int_equal(pc.complaints, i);
		assert_false(mono_due(pc.due, now));
		counters_publish(&pc, now, &a, &p);
		assert_false(p.counters_s.known);
		assert_non_null(strstr(p.counters_text, i < COUNTERS_LAST ? "less often" : "any more"));
	}
	now = mono_add_ms(now, INT64_C(1000) * 3600000);
	pc.any = true;
	counters_read(&pc, -1, "0000:47:00.0", now);
	assert_true(pc.any); /* it was not even tried */
	arena_finish(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_counter_tells_what_it_grew_in_the_last_hour),
		cmocka_unit_test(narrow_counters_stick_at_their_maximum_and_wide_ones_go_on),
		CASE(counters_are_read_and_one_that_cannot_be_costs_itself),
		CASE(a_port_without_counters_says_so),
		cmocka_unit_test(a_device_whose_driver_complains_is_left_alone),
		CASE(a_healthy_port_is_read_whole),
		CASE(real_sysfs_has_links_for_devices),
		CASE(devices_and_ports_come_in_natural_order),
		CASE(what_is_absent_is_unknown),
		CASE(a_port_without_a_state_says_so),
		CASE(no_rdma_is_another_thing_than_no_sysfs),
		CASE(one_bad_file_costs_its_field_only),
		CASE(files_that_are_none_are_not_read),
		CASE(huge_and_binary_contents_do_no_harm),
		CASE(links_out_of_the_tree_lead_nowhere),
		CASE(names_that_are_no_ports_or_too_long_are_passed_over),
		CASE(no_more_than_256_ports_are_kept),
		CASE(a_change_of_state_has_a_time),
		CASE(gids_in_use_are_counted_wherever_they_are),
		CASE(the_entry_of_roce_v2_with_an_address_is_found),
		CASE(partition_keys_are_told_from_index_0_on_without_the_empty_ones_behind),
		CASE(a_partition_key_behind_the_first_empty_entry_is_looked_for_seldom),
		CASE(devices_come_and_go),
		CASE(an_excluded_device_is_shown_and_not_asked),
		CASE(roce_has_an_interface),
		CASE(ipoib_interfaces_are_told_apart_by_their_port),
		CASE(what_fails_is_asked_less_and_less),
		CASE(without_memory_nothing_is_made_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
