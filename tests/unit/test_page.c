/* test_page.c - what the coordinator's own words look like on a page
 *
 * Readings go into a real coordinator, its answer through the client's tables:
 * no sentence is written down here. golden/page.txt holds what was looked at, at
 * 80 and 200 columns; NA_GOLDEN=write makes it anew.
 */
#include "client/attention.h"
#include "client/nodes.h"
#include "coord_world.h"

#define TEST(name) static void name(void **state)
#define GOLDEN "tests/unit/golden/page.txt" /* from the top of the repository, as for the others */
#define PORTS 4
#define GPUS 8

/* One host: well, but for what a test changes. */
struct host {
	struct rec_gpu gpu[GPUS];
	struct rec_port port[PORTS];
	struct rec_source source[2];
	struct rec_host host;
	struct rec_readings r;
};

static void well(struct host *h, const char *layer)
{
	static const char *const devices[PORTS] = { "mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3" };

	memset(h, 0, sizeof(*h));
	h->source[0] = (struct rec_source){ .name = "nvml", .ok = true, .text = "driver 550.54.15" };
	h->source[1] = (struct rec_source){ .name = "verbs", .ok = true };
	for (uint32_t i = 0; i < GPUS; i++)
		h->gpu[i].index = i;
	for (uint32_t i = 0; i < PORTS; i++) {
		h->port[i] = (struct rec_port){ .device = devices[i], .port = 1, .state = "Active",
						.phys_state = "LinkUp", .link_layer = layer };
		MSG_SET(&h->port[i], port, lid, i + 1);
		MSG_SET(&h->port[i], port, sm_lid, 1);
	}
	MSG_SET(&h->host, host, clock_synced, true);
	h->r = (struct rec_readings){ .sources = h->source, .n_sources = 2, .gpus = h->gpu, .n_gpus = GPUS,
				      .ports = h->port, .n_ports = PORTS, .host = &h->host, .n_host = 1 };
}

static void port_is(struct host *h, uint32_t i, const char *state, const char *phys)
{
	h->port[i].state = state;
	h->port[i].phys_state = phys;
}

static uint64_t registered(struct world *w, const char *name, const struct host *h, int64_t skew_us)
{
	uint64_t l = link_up(w, WHO_NODE, name, "agent");
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = name;
	m.u.node_register.boot_id = name;
	m.u.node_register.incarnation = l;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	MSG_SET(&m.u.node_register, node_register, probe, true);
	say(w, l, &m);
	store(w);
	msg_init(&m, MSG_ping);
	MSG_SET(&m.u.ping, ping, skew_us, skew_us);
	MSG_SET(&m.u.ping, ping, skew_error_us, 300);
	say(w, l, &m);
	msg_init(&m, MSG_readings);
	m.u.readings = h->r;
	say(w, l, &m);
	return l;
}

/* The coordinator's answer at 80 and 200 columns. */
static void add_page(struct world *w, struct buf *all, const char *title)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 1;
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_status, &m)); /* so few nodes come in one piece */
	for (unsigned columns = 80; columns <= 200; columns += 120) {
		struct nodes_view view = { .columns = columns };
		struct out *o;

		buf_addf(all, "%s--- %s, %u columns\n\n", all->len ? "\n" : "", title, columns);
		nodes_count(all, &m.u.status);
		buf_adds(all, " | ");
		nodes_gpus(all, &m.u.status);
		buf_adds(all, "\n\n");
		o = out_text_create(all, columns, false);
		out_start(o, NULL, OUT_OBJECT);
		nodes_table(o, &m.u.status, &view);
		attention_lines(o, &m.u.status);
		out_end(o);
		out_destroy(o);
	}
	msg_finish(&m);
	link_down(w, l);
}

static void ports_in_trouble(struct world *w, struct buf *all)
{
	struct host h;

	well(&h, "InfiniBand");
	registered(w, "gpu01", &h, 0);
	registered(w, "gpu02", &h, 412);
	port_is(&h, 2, "Initializing", "LinkUp");
	MSG_SET(&h.port[2], port, since_wall_ms, w->wall_ms - 185000);
	registered(w, "gpu03", &h, 911);
	port_is(&h, 1, "Initializing", "LinkUp");
	registered(w, "gpu04", &h, -230);
	well(&h, "InfiniBand");
	port_is(&h, 0, "Down", "Disabled");
	registered(w, "gpu05", &h, 100);
	port_is(&h, 0, "Down", "Polling");
	port_is(&h, 3, "ActiveDefer", "LinkErrorRecovery");
	registered(w, "gpu06", &h, 100);
	well(&h, "Ethernet");
	port_is(&h, 1, "Down", "Disabled");
	h.port[1].netdev = "ens1f1np1";
	registered(w, "gpu07", &h, 100);
	add_page(w, all, "ports");
}

static void all_else(struct world *w, struct buf *all)
{
	static struct rec_gpu_proc stranger = { .pid = 4711, .user = "wang", .name = "python" };
	uint64_t silent;
	struct host h;

	well(&h, "InfiniBand");
	silent = registered(w, "gpu01", &h, 0);
	h.gpu[3].text = h.gpu[6].text = "fell off the bus: the driver cannot reach it any more; reboot the node";
	registered(w, "gpu02", &h, 412);
	well(&h, "InfiniBand");
	h.gpu[5].procs = &stranger;
	h.gpu[5].n_procs = 1;
	registered(w, "gpu03", &h, -2100000);
	h.r.n_gpus = 0;
	h.source[0] = (struct rec_source){ .name = "nvml", .text = "driver and library are of different versions" };
	h.host.clock_synced = false;
	registered(w, "gpu04", &h, 150000);
	h.r = (struct rec_readings){ .sources = h.source, .n_sources = 1 };
	h.source[0] = (struct rec_source){ .name = "probe", .text = "it ended with code 3" };
	registered(w, "gpu05", &h, 90);
	link_down(w, silent);
	w->wall_ms += 125000;
	add_page(w, all, "all else");
}

static void nothing_known(struct world *w, struct buf *all)
{
	struct host h;

	well(&h, "InfiniBand");
	registered(w, "gpu07", &h, 0);
	restart(w); /* it was heard before, the others that are down never */
	h.r = (struct rec_readings){ .sources = h.source, .n_sources = 1 };
	h.source[0] = (struct rec_source){ .name = "nvml", .text = "does not answer: its driver or a device hangs" };
	registered(w, "gpu01", &h, 0);
	registered(w, "gpu02", &h, 412);
	add_page(w, all, "every driver hangs");
}

static void in_world(void (*scene)(struct world *, struct buf *), struct buf *all)
{
	void *w;

	setup(&w);
	for (const char *const *name = (const char *const[]){ "gpu04", "gpu05", "gpu06", "gpu07", NULL }; *name; name++)
		add_node(w, *name, false);
	scene(w, all);
	teardown(&w);
}

static void read_golden(struct buf *b)
{
	char piece[4096];
	FILE *f = fopen(GOLDEN, "r");
	size_t n;

	assert_non_null(f);
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		buf_add(b, piece, n);
	fclose(f);
}

TEST(the_page_is_the_one_that_was_looked_at)
{
	struct buf all, want;

	buf_init(&all);
	buf_init(&want);
	in_world(ports_in_trouble, &all);
	in_world(all_else, &all);
	in_world(nothing_known, &all);
	if (getenv("NA_GOLDEN") != NULL) {
		FILE *f = fopen(GOLDEN, "w");

		assert_non_null(f);
		fputs(buf_str(&all), f);
		fclose(f);
	}
	read_golden(&want);
	assert_string_equal(buf_str(&all), buf_str(&want));
	buf_finish(&all);
	buf_finish(&want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_page_is_the_one_that_was_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
