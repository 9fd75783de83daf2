/* coord_jobs.h - what several tests of the coordinator do with jobs */
#ifndef NA_TESTS_COORD_JOBS_H
#define NA_TESTS_COORD_JOBS_H

#include <errno.h>

#include "coord_world.h"

UNUSED static void join_with(struct world *w, const char *key, const char *name, const char *token,
		      enum msg_type expect)
{
	uint64_t l = link_up(w, WHO_STRANGER, key, "join");
	char id[33];
	uint8_t secret[32];
	struct msg m;

	assert_int_equal(sscanf(token, "na1.%16[0-9a-f].", id), 1);
	for (int i = 0; i < 32; i++) {
		unsigned v;

		assert_int_equal(sscanf(strchr(token + 4, '.') + 1 + 2 * i, "%2x", &v), 1);
		secret[i] = (uint8_t)v;
	}
	msg_init(&m, MSG_join);
	m.u.join.token_id = id;
	m.u.join.secret = (struct bytes){ secret, 32 };
	m.u.join.node = name;
	say(w, l, &m);
	store(w);
	assert_true(was_told(w, l, expect));
	link_down(w, l);
}

/* uid_min, if any: for a node that may submit. */
UNUSED static void token_for(struct world *w, const uint32_t *uid_min, char out[160])
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_token_create);
	m.u.token_create.rid = 3;
	m.u.token_create.submit = true;
	if (uid_min)
		MSG_SET(&m.u.token_create, token_create, uid_min, *uid_min);
	say(w, l, &m);
	assert_false(was_told(w, l, MSG_token)); /* not before it is on disk */
	store(w);
	assert_true(last_to(w, l, MSG_token, &m));
	snprintf(out, 160, "%s", m.u.token.token);
	msg_finish(&m);
	link_down(w, l);
}

UNUSED static void new_token(struct world *w, char out[160])
{
	token_for(w, NULL, out);
}

UNUSED static void remove_node(struct world *w, const char *name, enum msg_type expect)
{
	uint64_t adm = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 4;
	m.u.node_remove.node = name;
	MSG_SET(&m.u.node_remove, node_remove, force, true);
	say(w, adm, &m);
	store(w);
	assert_true(was_told(w, adm, expect));
	link_down(w, adm);
}

UNUSED static void watch(struct world *w, uint64_t link, uint32_t rid)
{
	struct msg m;

	msg_init(&m, MSG_watch);
	m.u.watch.rid = rid;
	m.u.watch.job = 1;
	MSG_SET(&m.u.watch, watch, uid, 1000);
	say(w, link, &m);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
