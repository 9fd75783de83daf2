/* test_nccl_net.c - NCCL's settings from the ports of a job's nodes: a table of situations, and what is said of each */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/nccl_net.h"
#include "tests/unit/failmalloc.h"

#define NODES 3

/* The ports of a node in short: "a0" is an Active InfiniBand port on mlx5_0 of 400 Gb/s. Letters:
 * a Active, i Initializing, r Armed, d Down/Polling, x Down/Disabled, f ActiveDefer, n no state, l Active without LID,
 * e Active RoCE, E RoCE that is Down, g Active RoCE with GID index 3, h ... with 5, s Active at 200 Gb/s, k excluded,
 * o Active on another name (ibN). Behind it the keys of its partitions: "a0/ffff,8001"; none are not told. */
struct situation {
	const char *name;
	const char *ports[NODES]; /* NULL: no readings; of the third: two nodes */
	enum net_want want;
	const char *hca; /* of the first node, NULL: not set */
	const char *net; /* NCCL_NET */
	const char *text; /* part of it */
	const char *notice; /* part of some notice; NULL: there is none */
	const char *refusal;
};

#define TWO(a, b) { a, b, NULL }

static const struct situation table[] = {
	{ "all good", TWO("a0 a1", "a0 a1"), NET_AUTO, "=mlx5_0:1,mlx5_1:1", NULL, "InfiniBand: 2 ports of 400 Gb/s", NULL, NULL },
	{ "good, ib", TWO("a0 a1", "a0 a1"), NET_IB, "=mlx5_0:1,mlx5_1:1", "IB", "asked for with --net ib", NULL, NULL },
	{ "socket", TWO("a0 a1", "a0 a1"), NET_SOCKET, NULL, "Socket", "asked for with --net socket", NULL, NULL },
	{ "ten", TWO("a2 a9", "a9 a2"), NET_AUTO, "=mlx5_2:1,mlx5_9:1", NULL, "2 ports", NULL, NULL },
	/* each state that is not Active */
	{ "init", TWO("a0 a1", "a0 i1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "n2: mlx5_1 Initializing, 1 of 2 Active", NULL },
	{ "armed", TWO("r0 a1", "a0 a1"), NET_AUTO, "=mlx5_1:1", NULL, "1 port", "n1: mlx5_0 Armed, 1 of 2", NULL },
	{ "down", TWO("a0 a1", "a0 d1"), NET_IB, "=mlx5_0:1", "IB", "1 port", "n2: mlx5_1 Down/Polling, 1 of 2", NULL },
	{ "disabled", TWO("a0 a1", "a0 x1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "mlx5_1 Down/Disabled", NULL },
	{ "defer", TWO("a0 a1", "a0 f1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "mlx5_1 ActiveDefer", NULL },
	{ "no state", TWO("a0 a1", "a0 n1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "mlx5_1 of unknown state", NULL },
	{ "no lid", TWO("a0 a1", "a0 l1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "mlx5_1 Active without a LID", NULL },
	{ "unused everywhere", TWO("a0 d1", "a0 d1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", NULL, NULL },
	{ "stuck everywhere", TWO("a0 i1", "a0 i1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "n1: mlx5_1 Initializing", NULL },
	{ "different ones", TWO("a0 i1", "i0 a1"), NET_AUTO, "=mlx5_0:1", NULL, "own names", "name their Active ports differently", NULL },
	/* nothing to use */
	{ "none, auto", TWO("a0 a1", "i0 d1"), NET_AUTO, NULL, "Socket", "SOCKET: n2 has no Active port (mlx5_0 Initializing, mlx5_1 Down/Polling)",
	  "SOCKET: NCCL is told to use TCP on all nodes, many times slower: n2 has", NULL },
	{ "none, ib", TWO("a0 a1", "i0 d1"), NET_IB, NULL, "IB", NULL, NULL, "--net ib: n2 has no Active port (mlx5_0 Initializing, mlx5_1" },
	{ "none on two", { "a0", "i0", "d0" }, NET_AUTO, NULL, "Socket", "n2 has no Active port (mlx5_0 Initializing), nor have 1 other", "SOCKET", NULL },
	{ "one has no port", TWO("a0", ""), NET_AUTO, NULL, "Socket", "n2 has no Active port (it has none)", "SOCKET", NULL },
	{ "no hardware", TWO("", ""), NET_AUTO, NULL, NULL, "none of the job's nodes has", NULL, NULL },
	{ "no hardware, ib", TWO("", ""), NET_IB, NULL, "IB", NULL, NULL, "none of the job's nodes has an InfiniBand" },
	{ "not read", TWO("a0", NULL), NET_AUTO, NULL, NULL, "left to NCCL: the ports of n2 are not known (no readings)", "left to NCCL", NULL },
	{ "not read, ib", TWO("a0", NULL), NET_IB, NULL, "IB", NULL, NULL, "the ports of node n2 are not known" },
	{ "nobody reads", TWO(NULL, NULL), NET_AUTO, NULL, NULL, "left to NCCL", NULL, NULL },
	{ "efa", TWO("u0 u1", "u0 u1"), NET_AUTO, NULL, NULL, "left to NCCL and its plug-ins: mlx5_1 of n1", NULL, NULL },
	{ "efa, ib", TWO("u0", "u0"), NET_IB, NULL, "IB", NULL, NULL, "none of the job's nodes has an InfiniBand or RoCE port" },
	{ "efa beside one that is down", TWO("u0 E1", "u0 E1"), NET_AUTO, NULL, NULL, "left to NCCL and its plug-ins", NULL, NULL },
	{ "efa beside InfiniBand", TWO("a0 u1", "a0 u1"), NET_AUTO, "=mlx5_0:1", NULL, "InfiniBand: 1 port", NULL, NULL },
	{ "excluded", TWO("a0 k1", "a0 k1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", NULL, NULL },
	{ "excluded on one", TWO("a0 a1", "a0 k1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "Active ports differ: 2 at 400 Gb/s on n1; 1 at", NULL },
	/* link layers */
	{ "roce", TWO("e0 e1", "e0 e1"), NET_AUTO, "=mlx5_0:1,mlx5_1:1", NULL, "RoCE: 2 ports", NULL, NULL },
	{ "roce, one down", TWO("e0 e1", "e0 E1"), NET_IB, "=mlx5_0:1", "IB", "RoCE: 1 port", "mlx5_1 Down/Disabled", NULL },
	{ "both", TWO("a0 e1", "a0 e1"), NET_AUTO, "=mlx5_0:1", NULL, "InfiniBand: 1 port", NULL, NULL },
	{ "ib against roce", TWO("a0", "e0"), NET_AUTO, NULL, "Socket", "n2 has Active RoCE ports only and other nodes InfiniBand", "link layers differ: ",
	  NULL },
	{ "ib against roce, ib", TWO("a0", "e0"), NET_IB, NULL, "IB", NULL, "link layers differ: InfiniBand on n1; RoCE on n2", "these do not meet" },
	{ "roce on all, ib on some", { "a0 e1", "e1", "e1" }, NET_AUTO, "=mlx5_1:1", NULL, "RoCE", "link layers differ", NULL },
	/* rates */
	{ "a slow rail", TWO("a0 a1", "a0 s1"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "NCCL gets 1 of 2 ports: a slow one would slow down all: "
	  "mlx5_1 is 400 Gb/s on n1, 200 Gb/s on n2", NULL },
	{ "all slow on one", TWO("a0 a1", "s0 s1"), NET_AUTO, "=mlx5_0:1,mlx5_1:1", NULL, "2 ports", "slowest port sets the pace", NULL },
	{ "two kinds of rails", TWO("a0 s1", "a0 s1"), NET_AUTO, "=mlx5_0:1,mlx5_1:1", NULL, "2 ports on each", NULL, NULL },
	/* names */
	{ "other names", TWO("a0 a1", "o0 o1"), NET_AUTO, "=mlx5_0:1,mlx5_1:1", NULL, "own names", "name their Active ports differently", NULL },
	{ "other names, fewer", TWO("s0 a1", "o0"), NET_AUTO, "=mlx5_1:1", NULL, "1 port on each node, by", "differently: NCCL gets 1", NULL },
	{ "a subset", TWO("a0 a1 a2", "a0 a1"), NET_AUTO, "=mlx5_0:1,mlx5_1:1", NULL, "2 ports", "Active ports differ: ", NULL },
	/* partitions */
	{ "one partition", TWO("a0/ffff a1/ffff", "a0/ffff a1/ffff"), NET_IB, "=mlx5_0:1,mlx5_1:1", "IB", "2 ports", NULL, NULL },
	{ "not told", TWO("a0/8001 a1", "a0/ffff a1/ffff"), NET_IB, "=mlx5_0:1,mlx5_1:1", "IB", "2 ports", NULL, NULL },
	{ "two partitions", TWO("a0/ffff", "a0/8001"), NET_AUTO, NULL, "Socket", "SOCKET: the nodes have no partition key in common as full members: "
	  "partition 0x7fff on n1; 0x0001 on n2 (the", "SOCKET: NCCL is told to use TCP", NULL },
	{ "two partitions, ib", TWO("a0/ffff", "a0/8001"), NET_IB, NULL, "IB", NULL, NULL, "--net ib: the nodes have no partition key in common" },
	{ "another one of three, ib", { "a0/8001", "a0/8001", "a0/8002" }, NET_IB, NULL, "IB", NULL, NULL, "partition 0x0001 on n1,n2; 0x0002 on n3" },
	{ "no key", TWO("a0/ffff", "a0/0"), NET_IB, NULL, "IB", NULL, NULL, "partition 0x7fff on n1; none on n2" },
	{ "limited members", TWO("a0/7fff", "a0/7fff"), NET_IB, NULL, "IB", NULL, NULL, "limited members of their partition, and limited members do not "
	  "hear each other: 0x7fff (limited) on n1,n2" },
	{ "one is limited", TWO("a0/ffff", "a0/7fff"), NET_IB, "=mlx5_0:1", "IB", "1 port", NULL, NULL },
	{ "two are limited", { "a0/ffff", "a0/7fff", "a0/7fff" }, NET_IB, NULL, "IB", NULL, NULL, "limited" },
	{ "one rail apart", TWO("a0/ffff a1/ffff", "a0/ffff a1/8001"), NET_IB, "=mlx5_0:1", "IB", "1 port",
	  "NCCL gets 1 of 2 ports, those of partition 0x7fff: mlx5_1 of n2 is a member of partition 0x0001", NULL },
	{ "rails apart on all", TWO("a0/ffff a1/8001", "a0/ffff a1/8001"), NET_AUTO, "=mlx5_0:1", NULL, "1 port", "NCCL gets 1 of 2 ports, those", NULL },
	{ "names and partitions differ", TWO("a0/ffff", "o0/8001"), NET_IB, NULL, "IB", NULL, NULL, "no partition key in common" },
	{ "roce has none", TWO("e0/ffff", "e0/8001"), NET_IB, "=mlx5_0:1", "IB", "RoCE", NULL, NULL },
	/* one node; virtual nodes are nodes with the same ports */
	{ "one node", { "i0" }, NET_AUTO, NULL, NULL, "one node", NULL, NULL },
	{ "one node, ib", { "a0" }, NET_IB, "=mlx5_0:1", "IB", "1 port", NULL, NULL },
	{ "one node, ib, none", { "i0" }, NET_IB, NULL, "IB", NULL, NULL, "n1 has no Active port (mlx5_0 Initializing)" },
};

/* ---- making them --------------------------------------------------------------------- */

static struct arena arena;
static const char *const node_names[NODES] = { "n1", "n2", "n3" };

static int fresh(void **state)
{
	(void)state;
	arena_init(&arena);
	return 0;
}

static int done(void **state)
{
	(void)state;
	arena_finish(&arena);
	return 0;
}

static void make_port(const char *code, struct rec_port *p)
{
	static const char kinds[] = "airdxfnlegEhskou";
	static const char *const states[] = { "Active", "Initializing", "Armed", "Down", "Down", "ActiveDefer", NULL, "Active",
					      "Active", "Active", "Down", "Active", "Active", "Active", "Active", "Active" };
	size_t k = (size_t)(strchr(kinds, code[0]) - kinds);

	p->device = arena_printf(&arena, code[0] == 'o' ? "ib%c" : "mlx5_%c", code[1]);
	p->pci = arena_printf(&arena, "0000:1%c:00.0", code[1]);
	p->port = 1;
	p->state = states[k];
	p->phys_state = code[0] == 'd' ? "Polling" : strchr("xE", code[0]) ? "Disabled" : "LinkUp";
	p->link_layer = strchr("egEh", code[0]) ? "Ethernet" : code[0] == 'u' ? "Unspecified" : "InfiniBand";
	MSG_SET(p, port, rate_mbps, code[0] == 's' ? 200000 : 400000);
	MSG_SET(p, port, lid, strchr("legEhu", code[0]) ? 0 : 7);
	if (strchr("gh", code[0]))
		MSG_SET(p, port, gid_v2, code[0] == 'g' ? 3 : 5);
	p->excluded = code[0] == 'k';
	if (code[2] == '/') {
		p->pkey_table = arena_printf(&arena, "%.*s", (int)strcspn(code + 3, " "), code + 3);
		MSG_SET(p, port, pkey, (uint32_t)strtoul(code + 3, NULL, 16));
	}
}

static struct rec_readings *make_readings(const char *ports)
{
	struct rec_readings *r = arena_alloc(&arena, sizeof(*r));
	struct rec_source *s = arena_alloc(&arena, 2 * sizeof(*s));

	r->ports = arena_alloc(&arena, 16 * sizeof(*r->ports));
	for (; *ports; ports += strcspn(ports, " "), ports += *ports == ' ')
		make_port(ports, &r->ports[r->n_ports++]);
	s[0] = (struct rec_source){ .name = "sysfs", .ok = true };
	s[1] = (struct rec_source){ .name = "nvml", .ok = true, .text = "driver 550.54" };
	r->sources = s;
	r->n_sources = 2;
	return r;
}

static size_t make_nodes(const struct situation *t, struct net_node *v)
{
	bool one = strncmp(t->name, "one node", 8) == 0;
	size_t n = one ? 1 : t->ports[2] != NULL ? 3 : 2;

	for (size_t i = 0; i < n; i++)
		v[i] = (struct net_node){ .name = node_names[i], .sets_env = true, .gpus = 8, .ifname = "eth0",
					  .r = t->ports[i] != NULL ? make_readings(t->ports[i]) : NULL };
	return n;
}

static const char *value_of(const struct net_out *o, const char *name, const char *node)
{
	for (size_t i = 0; i < o->plan.n_sets; i++) { /* lists of one node suffice here */
		const struct rec_net_set *s = &o->plan.sets[i];

		if (strcmp(s->name, name) == 0 && s->value != NULL && (s->nodes == NULL || strcmp(s->nodes, node) == 0))
			return s->value;
	}
	return NULL;
}

static bool noticed(const struct net_out *o, const char *part)
{
	for (size_t i = 0; i < o->n_notices; i++)
		if (strstr(o->notices[i], part))
			return true;
	return false;
}

static void same(const char *situation, const char *what, const char *is, const char *want)
{
	if ((is == NULL) != (want == NULL) || (is && strcmp(is, want) != 0))
		fail_msg("%s: %s is %s, not %s", situation, what, is ? is : "not set", want ? want : "not set");
}

static void contains(const char *situation, const char *what, const char *is, const char *part)
{
	if (part ? !is || !strstr(is, part) : is != NULL)
		fail_msg("%s: %s is \"%s\", without \"%s\"", situation, what, is ? is : "", part ? part : "");
}

static void every_situation_has_its_settings_and_its_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct situation *t = &table[i];
		struct net_node nodes[NODES];
		struct net_in in = { .want = t->want, .nodes = nodes, .all_gpus = true };
		struct net_out o;

		in.n = make_nodes(t, nodes);
		assert_int_equal(net_choose(&arena, &in, &o), 0);
		same(t->name, "NCCL_IB_HCA", value_of(&o, "NCCL_IB_HCA", "n1"), t->hca);
		same(t->name, "NCCL_NET", value_of(&o, "NCCL_NET", "n1"), t->net);
		same(t->name, "NCCL_IB_DISABLE", value_of(&o, "NCCL_IB_DISABLE", "n1"), t->want == NET_SOCKET ? "1" : NULL);
		same(t->name, "GLOO_SOCKET_IFNAME", value_of(&o, "GLOO_SOCKET_IFNAME", "n1"), "eth0");
		contains(t->name, "the text", o.plan.text, t->refusal ? t->refusal : t->text);
		contains(t->name, "the refusal", o.refusal, t->refusal);
		if (t->notice ? !noticed(&o, t->notice) : o.n_notices > 0)
			fail_msg("%s: the notices are \"%s\" ...", t->name, o.n_notices ? o.notices[0] : "(none)");
		for (size_t k = 0; k < o.plan.n_sets; k++)
			assert_non_null(o.plan.sets[k].why);
	}
}

/* ---- more of it ------------------------------------------------------------------------ */

static void choose(const char *a, const char *b, enum net_want want, const char *const *yours, size_t n_yours,
		   struct net_node *nodes, struct net_out *o)
{
	const struct situation t = { "", { a, b, NULL }, want, NULL, NULL, NULL, NULL, NULL };
	struct net_in in = { .want = want, .nodes = nodes, .yours = yours, .n_yours = n_yours, .all_gpus = true };

	in.n = make_nodes(&t, nodes);
	assert_int_equal(net_choose(&arena, &in, o), 0);
}

static void many_nodes_are_told_in_few_rows(void **state)
{
	enum { MANY = 2000 };
	struct net_node *nodes = arena_alloc(&arena, MANY * sizeof(*nodes));
	struct rec_readings *one = make_readings("a0 a1 d2"), *other = make_readings("o0 o1 d2");
	struct net_in in = { .nodes = nodes, .n = MANY };
	struct net_out o;

	(void)state;
	for (size_t i = 0; i < MANY; i++)
		nodes[i] = (struct net_node){ .name = arena_printf(&arena, "gpu%04zu", i), .sets_env = true, .ifname = "ib0",
					      .r = i < 1500 ? one : other };
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_string_equal(value_of(&o, "NCCL_IB_HCA", "gpu[0000-1499]"), "=mlx5_0:1,mlx5_1:1");
	assert_string_equal(value_of(&o, "NCCL_IB_HCA", "gpu[1500-1999]"), "=ib0:1,ib1:1");
	assert_int_equal(o.plan.n_sets, 5);
	assert_int_equal(o.n_notices, 1); /* mlx5_2 is in use nowhere */
}

/* Each port of each node is looked at a few times, and not once for each other node: that took 45 s. */
static void ten_thousand_alike_are_chosen_for_at_once(void **state)
{
	enum { MANY = 10000 };
	struct net_node *nodes = arena_alloc(&arena, MANY * sizeof(*nodes));
	struct rec_readings *r = make_readings("a0 a1 a2 a3 a4 a5 a6 a7");
	struct net_in in = { .nodes = nodes, .n = MANY };
	struct timespec before, after;
	struct net_out o;

	(void)state;
	for (size_t i = 0; i < MANY; i++)
		nodes[i] = (struct net_node){ .name = arena_printf(&arena, "gpu%05zu", i), .sets_env = true, .ifname = "ib0", .r = r };
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	assert_string_equal(o.plan.text, "InfiniBand: 8 ports of 400 Gb/s on each node");
	assert_true(after.tv_sec - before.tv_sec < 10);
}

static void what_the_owner_has_set_is_left_alone_and_shown(void **state)
{
	static const char *const yours[] = { "NCCL_DEBUG", "NCCL_IB_DISABLE", "NCCL_IB_HCA", "TP_SOCKET_IFNAME" };
	struct net_node nodes[NODES];
	struct net_out o;
	size_t shown = 0;

	(void)state;
	choose("a0 a1", "a0 a1", NET_IB, yours, 4, nodes, &o);
	assert_null(value_of(&o, "NCCL_IB_HCA", "n1"));
	assert_null(value_of(&o, "TP_SOCKET_IFNAME", "n1"));
	assert_string_equal(value_of(&o, "NCCL_SOCKET_IFNAME", "n1"), "eth0");
	assert_string_equal(value_of(&o, "NCCL_NET", "n1"), "IB");
	assert_non_null(strstr(o.plan.text, "but NCCL_IB_DISABLE, which its owner has set, decides"));
	for (size_t i = 0; i < o.plan.n_sets; i++)
		shown += o.plan.sets[i].yours;
	assert_int_equal(shown, 4);
	assert_int_equal(o.plan.n_yours, 4);
}

static void names_of_each_node_go_to_that_node_in_the_order_of_its_bus(void **state)
{
	struct net_node nodes[NODES];
	struct net_out o;

	(void)state;
	choose("a0 a1 a2", "o2 o0", NET_AUTO, NULL, 0, nodes, &o);
	assert_string_equal(value_of(&o, "NCCL_IB_HCA", "n1"), "=mlx5_0:1,mlx5_1:1");
	assert_string_equal(value_of(&o, "NCCL_IB_HCA", "n2"), "=ib0:1,ib2:1");
}

static void roce_gets_the_index_that_its_ports_agree_on(void **state)
{
	struct net_node nodes[NODES];
	struct net_out o;

	(void)state;
	choose("g0 g1", "g0 g1", NET_AUTO, NULL, 0, nodes, &o);
	assert_string_equal(value_of(&o, "NCCL_IB_GID_INDEX", "n1"), "3");
	choose("g0 g1", "h0 h1", NET_AUTO, NULL, 0, nodes, &o);
	assert_string_equal(value_of(&o, "NCCL_IB_GID_INDEX", "n1"), "3");
	assert_string_equal(value_of(&o, "NCCL_IB_GID_INDEX", "n2"), "5");
	choose("g0 h1", "g0 h1", NET_AUTO, NULL, 0, nodes, &o);
	assert_null(value_of(&o, "NCCL_IB_GID_INDEX", "n1"));
	choose("e0 e1", "e0 e1", NET_AUTO, NULL, 0, nodes, &o);
	assert_null(value_of(&o, "NCCL_IB_GID_INDEX", "n1"));
	assert_string_equal(o.plan.sets[1].name, "NCCL_IB_GID_INDEX");
	assert_non_null(strstr(o.plan.sets[1].why, "not known"));
	choose("g0", "e0", NET_AUTO, NULL, 0, nodes, &o);
	assert_string_equal(value_of(&o, "NCCL_IB_GID_INDEX", "n1"), "3");
	assert_null(value_of(&o, "NCCL_IB_GID_INDEX", "n2"));
	choose("a0", "a0", NET_AUTO, NULL, 0, nodes, &o);
	assert_null(value_of(&o, "NCCL_IB_GID_INDEX", "n1"));
}

static void another_index_of_the_partition_table_serves_where_all_have_the_key(void **state)
{
	static const char *const yours[] = { "NCCL_IB_PKEY" };
	struct net_node nodes[NODES];
	struct net_out o;

	(void)state;
	choose("a0/ffff,8001", "a0/ffff,8001", NET_AUTO, NULL, 0, nodes, &o);
	assert_null(value_of(&o, "NCCL_IB_PKEY", "n1")); /* index 0 serves */
	choose("a0/7fff,8001", "a0/7fff,8001", NET_IB, NULL, 0, nodes, &o);
	assert_string_equal(value_of(&o, "NCCL_IB_PKEY", "n1"), "1");
	assert_string_equal(value_of(&o, "NCCL_IB_HCA", "n1"), "=mlx5_0:1");
	assert_null(o.refusal);
	choose("a0/8002,8001", "a0/8003,0,8001", NET_IB, NULL, 0, nodes, &o);
	assert_string_equal(value_of(&o, "NCCL_IB_PKEY", "n1"), "1");
	assert_string_equal(value_of(&o, "NCCL_IB_PKEY", "n2"), "2");
	/* one index for all ports of a node */
	choose("a0/8002,8001 a1/8001,8002", "a0/8003,8001 a1/8003,8001", NET_IB, NULL, 0, nodes, &o);
	assert_null(value_of(&o, "NCCL_IB_PKEY", "n1"));
	assert_non_null(o.refusal);
	/* the owner may know more of it */
	choose("a0/ffff", "a0/8001", NET_IB, yours, 1, nodes, &o);
	assert_null(o.refusal);
	assert_string_equal(value_of(&o, "NCCL_IB_HCA", "n1"), "=mlx5_0:1");
	/* of an older probe, which tells the first only; and what nobody sends */
	choose("a0/ffff", "a0/zz,,", NET_IB, NULL, 0, nodes, &o);
	assert_non_null(o.refusal);
}

static void the_cluster_is_counted_where_its_nodes_do_not_suffice(void **state)
{
	const struct situation t = { "", { "a0", "i0", NULL }, NET_IB, NULL, NULL, NULL, NULL, NULL };
	struct net_node nodes[NODES];
	struct net_in in = { .nodes = nodes, .want = NET_IB, .cluster = 5, .cluster_good = 1 };
	struct net_out o;

	(void)state;
	in.n = make_nodes(&t, nodes);
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_non_null(strstr(o.refusal, "(mlx5_0 Initializing); of the cluster's 5 nodes 1 has an Active port; mend it"));
	in.cluster_good = 2;
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_null(strstr(o.refusal, "cluster's"));
}

static void differing_drivers_and_gpus_are_told(void **state)
{
	const struct situation t = { "", { "a0", "a0", "a0" }, NET_AUTO, NULL, NULL, NULL, NULL, NULL };
	struct net_node nodes[NODES];
	struct net_in in = { .nodes = nodes, .all_gpus = true };
	struct net_out o;

	(void)state;
	in.n = make_nodes(&t, nodes);
	nodes[1].gpus = 7;
	nodes[2].r->sources[1].text = "driver 580.95";
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_true(noticed(&o, "NVIDIA drivers differ: 550.54 on n1,n2; 580.95 on n3"));
	assert_true(noticed(&o, "GPUs of the nodes differ: 8 on n1,n3; 7 on n2"));
	assert_false(noticed(&o, "MTUs")); /* not known */
	nodes[0].mtu = nodes[1].mtu = 9000;
	nodes[2].mtu = 1500;
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_true(noticed(&o, "MTUs of the interfaces between the nodes differ: 9000 on n1,n2; 1500 on n3; large messages may be lost"));
	in.all_gpus = false; /* as many of each were asked for */
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_false(noticed(&o, "GPUs of"));
}

static void an_agent_that_would_drop_it_is_refused_or_left_alone(void **state)
{
	const struct situation t = { "", { "a0", "a0", NULL }, NET_AUTO, NULL, NULL, NULL, NULL, NULL };
	struct net_node nodes[NODES];
	struct net_in in = { .nodes = nodes };
	struct net_out o;

	(void)state;
	in.n = make_nodes(&t, nodes);
	nodes[1].sets_env = false;
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_null(o.refusal);
	assert_null(value_of(&o, "NCCL_IB_HCA", "n1"));
	assert_non_null(strstr(o.plan.text, "the agent of n2 is of an older version"));
	in.want = NET_IB;
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_non_null(strstr(o.refusal, "--net ib cannot be had on node n2"));
	in.want = NET_SOCKET;
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_non_null(strstr(o.refusal, "--net socket cannot be had on node n2"));
}

static void the_one_node_that_is_why_is_named_guilty(void **state)
{
	struct net_node nodes[NODES];
	struct situation three;
	struct net_in in = { .nodes = nodes, .want = NET_IB };
	struct net_out o;

	(void)state;
	choose("a0", "i0", NET_IB, NULL, 0, nodes, &o);
	assert_int_equal(o.guilty, 1);
	choose("i0", "i0", NET_IB, NULL, 0, nodes, &o);
	assert_int_equal(o.guilty, 2); /* none in particular */
	choose("a0/ffff", "a0/8001", NET_IB, NULL, 0, nodes, &o);
	assert_int_equal(o.guilty, 2); /* either may be wrong */
	three = (struct situation){ "", { "a0/8001", "a0/8002", "a0/8001" }, NET_IB, NULL, NULL, NULL, NULL, NULL };
	in.n = make_nodes(&three, nodes);
	assert_int_equal(net_choose(&arena, &in, &o), 0);
	assert_int_equal(o.guilty, 1);
}

static void words_are_auto_ib_and_socket(void **state)
{
	enum net_want w = NET_SOCKET;

	(void)state;
	assert_true(net_want_from(NULL, &w) && w == NET_AUTO);
	assert_true(net_want_from("ib", &w) && w == NET_IB);
	assert_true(net_want_from("socket", &w) && w == NET_SOCKET);
	assert_true(net_want_from("auto", &w) && w == NET_AUTO);
	assert_false(net_want_from("roce", &w));
}

static void a_failing_allocation_touches_nothing_that_is_not_there(void **state)
{
	static const char *const yours[] = { "NCCL_DEBUG" };
	static const struct situation t[] = { { "", TWO("g0 a1 i2", "h0 s1"), NET_AUTO, NULL, NULL, NULL, NULL, NULL },
					      { "", TWO("a0 a1", "s0 a2 a3"), NET_AUTO, NULL, NULL, NULL, NULL, NULL },
					      { "", TWO("a0", "d0"), NET_IB, NULL, NULL, NULL, NULL, NULL },
					      { "", TWO("a0", "e0"), NET_AUTO, NULL, NULL, NULL, NULL, NULL },
					      { "", TWO("a0/ffff a1/ffff", "a0/ffff a1/8001"), NET_IB, NULL, NULL, NULL, NULL, NULL },
					      { "", TWO("a0/7fff,8001", "a0/8002,8001"), NET_IB, NULL, NULL, NULL, NULL, NULL } };

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct net_node nodes[NODES];
		struct net_in in = { .want = t[i].want, .nodes = nodes, .yours = yours, .n_yours = 1, .all_gpus = true };
		unsigned refused = 0;

		in.n = make_nodes(&t[i], nodes);
		EACH_FAILING_MALLOC({
			struct net_out o;
			struct arena a;

			arena_init(&a);
			refused += net_choose(&a, &in, &o) == -ENOMEM;
			arena_finish(&a);
		});
		assert_true(refused > 0);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, fresh, done)
	const struct CMUnitTest tests[] = {
		T(every_situation_has_its_settings_and_its_words),
		T(many_nodes_are_told_in_few_rows),
		T(ten_thousand_alike_are_chosen_for_at_once),
		T(what_the_owner_has_set_is_left_alone_and_shown),
		T(names_of_each_node_go_to_that_node_in_the_order_of_its_bus),
		T(roce_gets_the_index_that_its_ports_agree_on),
		T(another_index_of_the_partition_table_serves_where_all_have_the_key),
		T(the_cluster_is_counted_where_its_nodes_do_not_suffice),
		T(differing_drivers_and_gpus_are_told),
		T(an_agent_that_would_drop_it_is_refused_or_left_alone),
		T(the_one_node_that_is_why_is_named_guilty),
		T(words_are_auto_ib_and_socket),
		T(a_failing_allocation_touches_nothing_that_is_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
