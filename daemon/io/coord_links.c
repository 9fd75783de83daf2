/* coord_links.c - connections of the coordinator: who they are, found by number
 *
 * A local client's link is paused until the name behind its uid is known;
 * only then does the core hear of it. Strangers may only join: their frames
 * stay small, and there are never more than STRANGERS_MAX of them. How much
 * anybody may hold of us: coord_limits.c. */
#include "io/coord_io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"

static const char *const who_names[] = {
	[WHO_NODE] = "node",
	[WHO_STRANGER] = "stranger",
	[WHO_LOCAL] = "local client",
};

void coord_links_init(struct coord_role *r)
{
	for (int i = 0; i < LINK_BUCKETS; i++) {
		list_init(&r->links[i]);
		list_init(&r->keys[i]);
	}
	list_init(&r->strangers);
	list_init(&r->local_users);
}

struct coord_link *coord_link_find(struct coord_role *r, uint64_t id)
{
	list_foreach(e, &r->links[id % LINK_BUCKETS]) {
		struct coord_link *c = list_entry(e, struct coord_link, bucket);

		if (c->id == id)
			return c;
	}
	return NULL;
}

void coord_links_drop_key(struct coord_role *r, const uint8_t key[KEY_HASH])
{
	for (int i = 0; i < LINK_BUCKETS; i++)
		list_foreach(e, &r->links[i]) {
			struct coord_link *c = list_entry(e, struct coord_link, bucket);

			if (c->who != WHO_LOCAL && memcmp(c->key, key, KEY_HASH) == 0)
				link_close(c->l, "its key is out");
		}
}

void coord_links_close_all(struct coord_role *r, const char *why)
{
	for (int i = 0; i < LINK_BUCKETS; i++)
		list_foreach(e, &r->links[i])
			link_close(list_entry(e, struct coord_link, bucket)->l, why);
}

void coord_link_refuse(struct coord_link *c, uint32_t rid, const char *code, const char *text)
{
	struct msg m;
	struct buf b;

	msg_init(&m, MSG_refused);
	m.u.refused.code = code;
	m.u.refused.text = text;
	if (rid > 0)
		MSG_SET(&m.u.refused, refused, rid, rid);
	buf_init(&b);
	if (msg_encode(&m, &b, NULL) == 0)
		link_send_json(c->l, b.data, b.len);
	buf_finish(&b);
}

/* ---- up ----------------------------------------------------------------- */

static void tell_up(struct coord_link *c, const char *user, bool admin)
{
	struct coord_event ev = {
		.type = CEV_LINK_UP,
		.link = c->id,
		.who = c->who,
		.uid = c->uid,
		.admin = admin,
		.user = user,
		.address = c->who == WHO_LOCAL ? NULL : link_address(c->l),
	};

	memcpy(ev.key, c->key, KEY_HASH);
	c->told = true;
	log_debug("link %llu: %s from %s is up", (unsigned long long)c->id, who_names[c->who],
		  c->who == WHO_LOCAL ? (user ? user : "an unnamed uid") : link_address(c->l));
	coord_role_step(c->role, &ev);
}

static void on_user(void *arg, const char *name, bool admin)
{
	struct coord_link *c = arg;

	c->asking = false;
	if (!c->l) { /* went down meanwhile */
		free(c);
		return;
	}
	if (admin)
		coord_limits_admin(c);
	if (c->turned_away) {
		coord_link_refuse(c, 0, "busy", "too many connections to this coordinator are open, of your "
						"user or of all; end some of them, or ask a node's agent");
		link_close(c->l, "too many connections");
		return;
	}
	if (c->held) { /* its time for a hello begins when it is read: on_json() */
		snprintf(c->name, sizeof(c->name), "%s", name ? name : "");
		c->admin = admin;
		return;
	}
	tell_up(c, name, admin);
	link_pause(c->l, c->held);
}

static void on_up(struct link *l, void *arg)
{
	struct coord_link *c = arg;

	if (c->who != WHO_LOCAL) {
		tell_up(c, NULL, false);
		return;
	}
	link_pause(l, true);
	c->asking = true;
	if (coord_users_ask(c->role->users, c->uid, on_user, c) < 0) {
		c->asking = false;
		link_close(l, "out of memory");
	}
}

/* ---- messages ----------------------------------------------------------- */

/* A newer client may ask what we do not know: its request is answered. */
static void unknown_message(struct coord_link *c, const char *text, size_t n, const char *why)
{
	cJSON *j = json_parse(text, n, NULL);
	cJSON *rid = j ? cJSON_GetObjectItemCaseSensitive(j, "rid") : NULL;

	if (rid && cJSON_IsNumber(rid) && rid->valuedouble >= 1 && rid->valuedouble <= UINT32_MAX)
		coord_link_refuse(c, (uint32_t)rid->valuedouble, "version", why);
	else
		log_debug("link %llu: ignored: %s", (unsigned long long)c->id, why);
	cJSON_Delete(j);
}

static void on_json(struct link *l, const char *text, size_t n, void *arg)
{
	struct coord_link *c = arg;
	struct coord_event ev = { .type = CEV_MESSAGE, .link = c->id };
	struct msg m;
	struct err e;
	int r = msg_decode(text, n, &m, &e);

	if (!c->told)
		tell_up(c, c->name[0] ? c->name : NULL, c->admin);
	c->spoke = true;
	c->heard = clock_mono();
	if (r == -ENOTSUP) {
		unknown_message(c, text, n, e.text);
		return;
	}
	if (r < 0) {
		log_warn("link %llu (%s, %s): %s", (unsigned long long)c->id, who_names[c->who],
			 link_address(l), e.text);
		coord_link_refuse(c, 0, "bad-request", e.text);
		link_close(l, "sent a message that makes no sense");
		return;
	}
	ev.msg = &m;
	coord_role_step(c->role, &ev);
	msg_finish(&m);
}

/* No output passes here, and no specification. A client sends its specification
 * before it submits, and the submit is refused with a better sentence. */
static void on_data(struct link *l, const struct data_header *h, const char *p, size_t n, void *arg)
{
	struct coord_link *c = arg;
	const char *why = "it sent bulk data where only messages are allowed";

	if (c->who == WHO_LOCAL && c->spoke && h->sid == 0 && h->fd == 3)
		return;
	if (c->who == WHO_LOCAL)
		coord_link_refuse(c, 0, "bad-request", why);
	link_close(l, why);
}

/* ---- down --------------------------------------------------------------- */

static void forget_stranger(struct coord_link *c)
{
	if (list_empty(&c->stranger))
		return;

	list_remove(&c->stranger);
	c->role->n_strangers--;
}

static void on_down(struct link *l, const char *why, void *arg)
{
	struct coord_link *c = arg;
	struct coord_event ev = { .type = CEV_LINK_DOWN, .link = c->id, .text = why };

	log_debug("link %llu: %s %s is down: %s", (unsigned long long)c->id, who_names[c->who],
		  link_address(l), why);
	c->l = NULL;
	list_remove(&c->bucket);
	forget_stranger(c);
	coord_limits_gone(c);
	if (c->told && !c->role->stopping)
		coord_role_step(c->role, &ev);
	if (!c->asking)
		free(c);
}

static void on_drain(struct link *l, void *arg)
{
	coord_limits_drained(arg);
}

static void on_bad(struct link *l, int error, const char *why, void *arg)
{
	struct coord_link *c = arg;

	if (c->who == WHO_LOCAL)
		coord_link_refuse(c, 0, error == -EMSGSIZE ? "too-large" : "bad-request", why);
}

static const struct link_callbacks callbacks = {
	.on_up = on_up,
	.on_json = on_json,
	.on_data = on_data,
	.on_drain = on_drain,
	.on_down = on_down,
	.on_bad = on_bad,
};

/* ---- admission ---------------------------------------------------------- */

static void admit_stranger(struct coord_role *r, struct coord_link *c)
{
	if (r->n_strangers >= STRANGERS_MAX) {
		struct coord_link *oldest =
			list_entry(r->strangers.next, struct coord_link, stranger);

		forget_stranger(oldest);
		link_close(oldest->l, "too many unknown nodes are connected");
	}
	list_append(&r->strangers, &c->stranger);
	r->n_strangers++;
}

bool coord_links_admit(void *role, struct link *l, const struct link_who *who,
		       const struct link_callbacks **ret_cb, void **ret_arg)
{
	struct coord_role *r = role;
	struct coord_link *c = calloc(1, sizeof(*c));

	if (!c)
		return false;

	c->role = r;
	c->l = l;
	c->id = link_id(l);
	c->uid = who->uid;
	list_init(&c->stranger);
	list_init(&c->of_owner);
	list_append(&r->links[c->id % LINK_BUCKETS], &c->bucket);
	if (!who->key) {
		c->who = WHO_LOCAL;
	} else {
		memcpy(c->key, who->key, KEY_HASH);
		c->who = coord_find_key(r->core, who->key) ? WHO_NODE : WHO_STRANGER;
	}
	link_set_max(l, c->who == WHO_STRANGER ? FRAME_MAX_UNAUTH : FRAME_MAX);
	if (!coord_limits_admit(c)) {
		list_remove(&c->bucket);
		free(c);
		return false;
	}
	if (c->who == WHO_STRANGER)
		admit_stranger(r, c);
	*ret_cb = &callbacks;
	*ret_arg = c;
	return true;
}
