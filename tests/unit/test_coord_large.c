/* test_coord_large.c - a job of as many nodes as one may have, each with many addresses: what is sent fits its frame */
#include "coord_world.h"

#include <time.h>

#include "core/coord_internal.h"
#include "proto/frame.h"

#define NODES 4096
#define ADDRS 8

/* What was sent of one kind to one link. */
static struct {
	uint64_t link;
	size_t n, peers, most; /* bytes of the longest, of any kind and to any link */
	bool more; /* as the last one says */
} got;
static uint64_t tickets[64];
static size_t n_tickets;

static void look_at(struct action *a)
{
	struct msg m;

	if (a->type == ACT_PERSIST)
		tickets[n_tickets++ % 64] = a->ticket;
	if (a->type != ACT_SEND)
		return;
	got.most = a->len > got.most ? a->len : got.most;
	if (a->link != got.link || a->len < 20 || strncmp(a->text, "{\"t\":\"job_update\"", 17) != 0)
		return;
	assert_int_equal(msg_decode(a->text, a->len, &m, NULL), 0);
	got.n++;
	got.peers += m.u.job_update.n_peers;
	got.more = m.u.job_update.more;
	for (size_t i = 0; i < m.u.job_update.n_peers; i++)
		assert_int_equal(m.u.job_update.peers[i].n_addrs, ADDRS);
	msg_finish(&m);
}

static void step(struct world *w, struct coord_event *ev)
{
	ev->now = w->now;
	ev->wall_ms = w->wall_ms;
	assert_int_equal(coord_step(w->c, ev, &w->acts), 0);
	for (size_t i = 0; i < w->acts.n; i++)
		look_at(&w->acts.v[i]);
	actions_reset(&w->acts);
}

static void tell(struct world *w, uint64_t link, struct msg *m)
{
	step(w, &(struct coord_event){ .type = CEV_MESSAGE, .link = link, .msg = m });
}

static void all_stored(struct world *w)
{
	for (size_t i = 0; i < n_tickets; i++)
		step(w, &(struct coord_event){ .type = CEV_STORED, .ticket = tickets[i] });
	n_tickets = 0;
}

static void name_of(uint32_t i, char out[64])
{
	snprintf(out, 64, "node-with-quite-a-long-name-in-some-rack-of-the-great-hall-%04u", i);
}

static uint64_t comes_up(struct world *w, uint32_t i)
{
	struct coord_event up = { .type = CEV_LINK_UP, .link = i + 1, .who = WHO_NODE };
	struct rec_addr v[ADDRS];
	char name[64], ip[ADDRS][46];
	struct msg m;

	name_of(i, name);
	memcpy(up.key, &i, sizeof(i));
	step(w, &up);
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = "test";
	m.u.hello.role = "agent";
	tell(w, up.link, &m);
	for (int k = 0; k < ADDRS; k++) {
		snprintf(ip[k], sizeof(ip[k]), "2001:db8:aaaa:bbbb:cccc:dddd:%x:%x", i, (unsigned)k);
		v[k] = (struct rec_addr){ .ip = ip[k], .ifname = "ibs0f0" };
	}
	msg_init(&m, MSG_node_register);
	m.u.node_register.node = name;
	m.u.node_register.boot_id = "boot-1";
	m.u.node_register.incarnation = up.link;
	m.u.node_register.peer_port = 7000;
	m.u.node_register.addrs = v;
	m.u.node_register.n_addrs = ADDRS;
	tell(w, up.link, &m);
	all_stored(w);
	return up.link;
}

static void enrolled(struct world *w, uint32_t i)
{
	uint8_t key[32] = { 0 };
	char name[64];
	struct msg m;

	name_of(i, name);
	memcpy(key, &i, sizeof(i));
	msg_init(&m, MSG_row_node);
	m.u.row_node.node = name;
	m.u.row_node.key = (struct bytes){ key, 32 };
	m.u.row_node.submit = true;
	MSG_SET(&m.u.row_node, row_node, uid_min, 1000);
	MSG_SET(&m.u.row_node, row_node, uid_max, 59999);
	m.u.row_node.joined_wall_ms = 1;
	load(w, &m);
}

static void the_largest_job_is_told_in_frames_that_fit(void **state)
{
	static const uint8_t hash[32] = { 1 };
	struct world *w = *state;
	struct msg m;

	memset(&got, 0, sizeof(got));
	for (uint32_t i = 0; i < NODES; i++)
		enrolled(w, i);
	for (uint32_t i = 0; i < NODES; i++)
		comes_up(w, i);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = "c1";
	m.u.submit.nnodes = NODES;
	m.u.submit.command = "true";
	m.u.submit.spec_hash = (struct bytes){ hash, 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	m.u.submit.user = "li";
	tell(w, 1, &m);
	all_stored(w);
	got.link = 1;
	msg_init(&m, MSG_watch);
	m.u.watch.rid = 10;
	m.u.watch.job = 1;
	MSG_SET(&m.u.watch, watch, uid, 1000);
	tell(w, 1, &m);
	print_message("%zu pieces, the longest message of all has %zu bytes\n", got.n, got.most);
	assert_int_equal(got.peers, NODES);
	assert_true(got.n > 1);
	assert_false(got.more);
	assert_true(got.most <= FRAME_MAX);
}

static void pulse_of(struct world *w, uint32_t i, const struct job *j)
{
	struct rec_rank_pulse v[8];
	struct msg m;

	for (uint32_t k = 0; k < 8; k++) {
		v[k] = (struct rec_rank_pulse){ .rank = 8 * i + k, .pid = 4000 + k, .state = "S" };
		v[k].has |= MSG_BIT(rank_pulse, pid);
		MSG_SET(&v[k], rank_pulse, procs, 1);
		MSG_SET(&v[k], rank_pulse, idle_ms, 6000);
	}
	msg_init(&m, MSG_pulse);
	m.u.pulse.job = 1;
	m.u.pulse.attempt = j->attempt;
	m.u.pulse.ranks = v;
	m.u.pulse.n_ranks = 8;
	tell(w, i + 1, &m);
}

/* All ranks are idle: each node says so every 5 s. To look through the job for each of these is too much. */
static void the_pulses_of_the_largest_job_take_no_time(void **state)
{
	struct world *w = *state;
	struct timespec before, after;
	struct job *j;

	the_largest_job_is_told_in_frames_that_fit(state);
	j = job_find(w->c, 1);
	j->state = JOB_RUNNING; /* as far as pulses go */
	for (uint32_t i = 0; i < NODES; i++)
		pulse_of(w, i, j);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	for (uint32_t i = 0; i < NODES; i++) {
		w->now.ns += 5000000000 / NODES;
		pulse_of(w, i, j);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	print_message("%d pulses in %lld ms\n", NODES, (long long)((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000));
	assert_true(after.tv_sec - before.tv_sec < 4); /* they are of 5 s */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_largest_job_is_told_in_frames_that_fit, setup, teardown),
		cmocka_unit_test_setup_teardown(the_pulses_of_the_largest_job_take_no_time, setup, teardown),
	};

	return cmocka_run_group_tests_name("coord_large", tests, NULL, NULL);
}
