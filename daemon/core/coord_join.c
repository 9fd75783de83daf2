/* coord_join.c - tokens, and the nodes that join with them */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tokens_free(struct coord *c)
{
	list_foreach_safe(e, &c->tokens) {
		struct token *t = list_entry(e, struct token, all);

		list_remove(&t->all);
		free(t->nodes);
		free(t);
	}
}

static void hex(char *out, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", p[i]);
}

/* Only the secret's hash is kept: a stolen database lets nobody in. */
static struct token *token_new(struct coord *c, const struct rec_token_create *r, char *ret_text,
			       size_t size)
{
	struct token *t = calloc(1, sizeof(*t));
	char secret[65];

	if (t == NULL) {
		c->oom = true;
		return NULL;
	}
	hex(t->id, c->ev->random, 8);
	hex(secret, c->ev->random + 16, 32);
	c->conf.sha256(c->ev->random + 16, 32, t->secret_hash);
	t->expires_wall_ms = c->wall_ms + 1000 * (int64_t)(r->ttl_s != 0 ? r->ttl_s : 3600);
	t->uses = r->uses != 0 ? r->uses : 1;
	t->nodes = coord_strdup(c, r->nodes);
	t->submit = r->submit;
	/* root only where the administrator has said so, and on nodes that allow it */
	t->uid_min = MSG_HAS(r, token_create, uid_min) ? r->uid_min : 1000;
	t->uid_max = MSG_HAS(r, token_create, uid_max) ? r->uid_max : 59999;
	list_append(&c->tokens, &t->all);
	snprintf(ret_text, size, "na1.%s.%s", t->id, secret);
	return t;
}

void nodes_on_token_create(struct coord *c, struct clink *l, const struct rec_token_create *r)
{
	struct hostlist h;
	struct pending *pd;
	struct action *p;
	struct token *t;
	struct msg m;
	struct err e;
	char text[128];

	if (!admin_only(c, l, r->rid, "creating a token"))
		return;
	if (r->nodes != NULL) {
		if (hostlist_parse(r->nodes, &h, &e) < 0) {
			coord_refuse(c, l, r->rid, "bad-request", "%s", e.text);
			return;
		}
		hostlist_finish(&h);
	}
	t = token_new(c, r, text, sizeof(text));
	if (t == NULL)
		return;
	msg_init(&m, MSG_token);
	m.u.token.rid = r->rid;
	m.u.token.token = text;
	m.u.token.address = c->address;
	m.u.token.expires_wall_ms = t->expires_wall_ms;
	p = coord_persist(c, &pd);
	persist_token(c, p, t);
	reply_when_stored(c, pd, l, r->rid, &m);
}

static struct token *token_find(struct coord *c, const char *id)
{
	list_foreach(e, &c->tokens) {
		struct token *t = list_entry(e, struct token, all);

		if (strcmp(t->id, id) == 0)
			return t;
	}
	return NULL;
}

static bool token_names(const struct token *t, const char *node)
{
	struct hostlist h;
	bool yes;

	if (t->nodes == NULL)
		return true;
	if (hostlist_parse(t->nodes, &h, NULL) < 0)
		return false;
	yes = hostlist_has(&h, node);
	hostlist_finish(&h);
	return yes;
}

static bool secret_fits(struct coord *c, const struct token *t, const struct rec_join *j)
{
	uint8_t hash[32];

	c->conf.sha256(j->secret.p, j->secret.n, hash);
	return t != NULL && j->secret.n == 32 && same32(hash, t->secret_hash);
}

/* NULL when the token lets this node in; else why not. A wrong secret and an
 * unknown id read the same. */
static const char *join_obstacle(struct coord *c, const struct token *t, const struct rec_join *j)
{
	if (!secret_fits(c, t, j))
		return "the token is not known here: it was mistyped, has been used up, or is "
		       "another cluster's; make a new one with 'nodectl token create'";
	if (c->wall_ms >= t->expires_wall_ms)
		return "the token has expired; make a new one with 'nodectl token create'";
	if (t->uses == 0)
		return "the token has been used up; make a new one with 'nodectl token create'";
	if (!node_name_valid(j->node))
		return "this is not a node name: use 1-64 lower-case letters, digits, '.', '_', "
		       "'-', beginning with a letter or digit; choose one with --name";
	if (!token_names(t, j->node))
		return "the token is not for a node of this name";
	return NULL;
}

/* Anybody who reaches our port can ask, and ask again. */
static void log_refused(struct coord *c, const struct clink *l, const char *node, const char *why)
{
	if (c->refusals == 0 || mono_due(mono_add_ms(c->refusals_since, 60000), c->now)) {
		c->refusals = 0;
		c->refusals_since = c->now;
	}
	if (++c->refusals <= REFUSALS_MAX)
		act_log(c->out, 0, "join refused: %s from %s: %s",
			node_name_valid(node) ? node : "an impossible name", l->address, why);
	if (c->refusals == REFUSALS_MAX)
		act_log(c->out, 0, "join refused: %u times in a minute: those that follow are left out",
			REFUSALS_MAX);
}

static void refuse_join(struct coord *c, struct clink *l, const char *node, const char *code,
			const char *why)
{
	log_refused(c, l, node, why);
	coord_refuse(c, l, 0, code, "%s", why);
	coord_close(c, l, "join refused");
}

/* The machine with this key was removed, and is back: its jobs still name it. */
static struct node *take_back(struct coord *c, const uint8_t key[32])
{
	for (struct node **at = &c->removed; *at != NULL; at = &(*at)->next_removed) {
		struct node *n = *at;

		if (n->stand_in || !same32(n->key, key))
			continue;
		*at = n->next_removed;
		n->removed = n->quarantined = n->silent = false;
		n->n_former = n->returns = 0;
		return n;
	}
	return NULL;
}

static struct node *node_enrol(struct coord *c, const struct clink *l, const struct token *t,
			       const char *name)
{
	struct node *n = take_back(c, l->key);

	if (n == NULL)
		n = calloc(1, sizeof(*n));
	if (n != NULL) {
		snprintf(n->name, sizeof(n->name), "%s", name);
		memcpy(n->key, l->key, 32);
		n->submit = t->submit;
		n->uid_min = t->uid_min;
		n->uid_max = t->uid_max;
		n->joined_wall_ms = c->wall_ms;
		n->heard = c->now;
	}
	if (n == NULL || node_insert(c, n) < 0) {
		free(n);
		c->oom = true;
		return NULL;
	}
	return n;
}

static void send_joined(struct coord *c, struct clink *l, const char *name)
{
	struct msg m;

	msg_init(&m, MSG_joined);
	m.u.joined.node = name;
	m.u.joined.cluster = c->cluster;
	act_send(c->out, l->id, &m);
	coord_close(c, l, "joined");
}

void nodes_on_join(struct coord *c, struct clink *l, const struct rec_join *j)
{
	struct token *t = token_find(c, j->token_id);
	const char *why = join_obstacle(c, t, j);
	struct node *same = node_find(c, j->node), *n;
	struct pending *pd;
	struct action *p;
	char text[300];

	/* Asked again, because the answer got lost: the secret is right, the use was its own. */
	if (same != NULL && same32(same->key, l->key) && secret_fits(c, t, j)) {
		act_log(c->out, 0, "node %s: joined again with the same key, from %s", same->name,
			l->address);
		send_joined(c, l, same->name);
		return;
	}
	if (why != NULL) {
		refuse_join(c, l, j->node, "denied", why);
		return;
	}
	if (same == NULL)
		same = map_get(&c->keys, key_id(l->key)); /* this machine's key, under another name */
	if (same != NULL) {
		snprintf(text, sizeof(text),
			 "the cluster already has a node named %s; choose another name with --name, "
			 "or first remove the old one: nodectl node-remove %s%s",
			 same->name, node_removal_flag(same), same->name);
		refuse_join(c, l, j->node, "denied", text);
		return;
	}
	n = node_enrol(c, l, t, j->node);
	if (n == NULL)
		return;
	t->uses--;
	p = coord_persist(c, &pd);
	persist_node(c, p, n);
	persist_revoked(c, p, n, false);
	persist_token(c, p, t);
	pd->kind = PD_JOIN;
	pd->link = l->id;
	memcpy(pd->key, l->key, 32);
	snprintf(pd->token, sizeof(pd->token), "%s", t->id);
	snprintf(pd->node, sizeof(pd->node), "%s", n->name);
}

void nodes_joined(struct coord *c, const struct pending *p, int error)
{
	struct clink *l = coord_link_open(c, p->link);
	struct node *n = node_of_key(c, p->key);
	struct token *t = token_find(c, p->token);

	if (error != 0) {
		/* Not on disk: as if it had not been asked. */
		if (l != NULL)
			refuse_join(c, l, p->node, "unavailable",
				    "the coordinator could not save the new node; see its log");
		if (n != NULL && n->link == NULL)
			node_take_out(c, n);
		if (t != NULL)
			t->uses++;
		return;
	}
	events_add(c, &(struct event_in){ .kind = "node.joined", .severity = "info", .node = p->node }, "joined from %s",
		   l != NULL ? l->address : "a connection that is gone");
	act_log(c->out, 0, "node %s: joined from %s", p->node,
		l != NULL ? l->address : "a connection that is gone");
	if (l != NULL && l->state == CL_JOINING)
		send_joined(c, l, p->node);
}
