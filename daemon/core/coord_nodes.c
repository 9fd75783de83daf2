/* coord_nodes.c - the registry: who belongs to the cluster, who is there
 *
 * 'silent' is also noted of a node that is down, for the sake of its jobs.
 *
 * A node is 'ok' while it is registered and heard within unreachable_ms;
 * 'unreachable' when it is registered but silent; 'down' when its agent's
 * connection is closed; 'quarantined' after two live agents with its key were
 * seen (a copied key, or a cloned machine): of different boots by their words at
 * the same time, of one boot by an agent that comes back after another one has
 * taken its place, again and again. Silence alone never
 * touches a job before node_lost_ms.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_NAMED 8

uint64_t key_id(const uint8_t key[32])
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | key[i];
	return v != 0 ? v : 1;
}

/* Constant time: secrets pass here. */
bool same32(const uint8_t *a, const uint8_t *b)
{
	uint8_t d = 0;

	for (int i = 0; i < 32; i++)
		d |= a[i] ^ b[i];
	return d == 0;
}

static size_t node_position(const struct coord *c, const char *name)
{
	size_t lo = 0, hi = c->n_nodes;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (node_name_cmp(c->nodes[mid]->name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct node *node_find(const struct coord *c, const char *name)
{
	size_t i = node_position(c, name);

	return i < c->n_nodes && strcmp(c->nodes[i]->name, name) == 0 ? c->nodes[i] : NULL;
}

struct node *node_of_key(const struct coord *c, const uint8_t key[32])
{
	struct node *n = map_get(&c->keys, key_id(key));

	return n != NULL && !n->removed && same32(n->key, key) ? n : NULL;
}

struct node *node_removed_find(const struct coord *c, const char *name)
{
	for (struct node *n = c->removed; n != NULL; n = n->next_removed)
		if (!n->stand_in && strcmp(n->name, name) == 0)
			return n;
	return NULL;
}

int node_insert(struct coord *c, struct node *n)
{
	size_t at = node_position(c, n->name);

	if (c->n_nodes == c->cap_nodes) {
		size_t cap = c->cap_nodes ? c->cap_nodes * 2 : 16;
		struct node **v = realloc(c->nodes, cap * sizeof(struct node *));

		if (v == NULL)
			return -ENOMEM;
		c->nodes = v;
		c->cap_nodes = cap;
	}
	if (map_put(&c->keys, key_id(n->key), n) < 0)
		return -ENOMEM;
	memmove(&c->nodes[at + 1], &c->nodes[at], (c->n_nodes - at) * sizeof(struct node *));
	n->kept_from = n->away_until = MONO_NEVER;
	c->nodes[at] = n;
	c->n_nodes++;
	return 0;
}

const char *node_state(const struct node *n)
{
	if (n->quarantined)
		return "quarantined";
	if (n->link == NULL)
		return "down";
	return n->silent ? "unreachable" : "ok";
}

bool node_usable(const struct node *n)
{
	return !n->removed && !n->quarantined && n->link != NULL && !n->silent &&
	       n->jobs < NODE_JOBS_MAX;
}

/* One line for each transition; all of them pass here. */
static void changed(struct coord *c, struct node *n, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void changed(struct coord *c, struct node *n, const char *fmt, ...)
{
	const char *was = n->logged != NULL ? n->logged : "down";
	char why[200];
	va_list ap;

	n->logged = n->removed ? "removed" : node_state(n);
	if (strcmp(was, n->logged) == 0)
		return;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	act_log(c->out, 0, "node %s: %s -> %s (%s)", n->name, was, n->logged, why);
	events_node(c, n, n->logged, why);
}

static double seconds_since(const struct coord *c, mono_t t)
{
	return (double)mono_sub_ms(c->now, t) / 1000;
}

/* Not a state that anybody else is shown: from here its ranks count as lost. */
static void log_lost(struct coord *c, struct node *n)
{
	const char *was = n->logged != NULL ? n->logged : "down";
	char why[120];

	if (strcmp(was, "lost") == 0)
		return;
	n->logged = "lost";
	act_log(c->out, 0, "node %s: %s -> lost (not heard for %.1f s)", n->name, was,
		seconds_since(c, n->heard));
	snprintf(why, sizeof(why), "not heard for %.0f s: its processes count as lost", seconds_since(c, n->heard));
	events_node(c, n, "lost", why);
}

/* ---- being heard, and silence ------------------------------------------------ */

static const char *twins(const struct node *n)
{
	return n->same_host ? "two agents on its host" : "two machines";
}

const char *node_removal_flag(const struct node *n)
{
	return n->jobs > 0 ? "--force " : "";
}

static void refuse_twin(struct coord *c, struct clink *l, const struct node *n)
{
	coord_refuse(c, l, 0, "denied",
		     "node %s is quarantined: %s used its key at the same time; stop one of them, remove "
		     "the node ('nodectl node-remove %s%s') and enrol it again",
		     n->name, twins(n), node_removal_flag(n), n->name);
	l->node = NULL;
	coord_close(c, l, "quarantined");
}

/* All are told why. */
static void quarantine(struct coord *c, struct node *n, struct clink *other)
{
	struct clink *mine = n->link, *rival = n->rival;

	n->quarantined = true;
	n->same_host = other != rival;
	n->link = n->rival = NULL;
	refuse_twin(c, mine, n);
	refuse_twin(c, other, n);
	if (rival != NULL && rival != other)
		refuse_twin(c, rival, n);
	changed(c, n, "%s use its key", twins(n));
	jobs_node_state(c, n);
}

/* Called for a word on n->link. */
void node_heard(struct coord *c, struct node *n)
{
	double silence = seconds_since(c, n->heard);
	bool was = n->silent;

	n->heard = n->spoke = c->now;
	n->silent = false;
	if (was) /* nobody waits for its next silence yet */
		coord_wake_at(c, mono_add_ms(c->now, c->conf.unreachable_ms));
	changed(c, n, "heard again after %.1f s", silence);
	/* What was said before the rival came may be read after it. */
	if (n->rival != NULL && mono_due(mono_add_ms(n->rival_since, RIVAL_MS), c->now))
		quarantine(c, n, n->rival);
	else if (was)
		jobs_node_state(c, n);
}

/* The old session is dead or silent: the one with the other boot id may
 * register now (it dials again at once). */
static void admit_rival(struct coord *c, struct node *n)
{
	struct clink *l = n->rival;

	if (l == NULL)
		return;
	n->rival = NULL;
	l->node = NULL;
	coord_close(c, l, "register again: the session of the earlier boot is gone");
}

void node_link_gone(struct coord *c, struct clink *l)
{
	struct node *n = l->node;

	if (n == NULL)
		return;
	if (n->rival == l)
		n->rival = NULL;
	if (n->link != l)
		return;
	n->link = NULL;
	changed(c, n, "%s", c->ev->text != NULL ? c->ev->text : "its connection is gone");
	coord_wake_at(c, mono_add_ms(n->heard, c->conf.unreachable_ms));
	admit_rival(c, n);
	jobs_node_state(c, n);
}

/* If more than half of the nodes fall silent together, the fault is more
 * likely ours or the network's: nothing is failed by itself then. */
static bool most_are_gone(const struct coord *c)
{
	size_t gone = 0, all = 0;

	for (size_t i = 0; i < c->n_nodes; i++) {
		const struct node *n = c->nodes[i];

		if (n->boot_id[0] == '\0')
			continue; /* enrolled, but never came */
		all++;
		gone += mono_due(mono_add_ms(n->heard, c->conf.node_lost_ms), c->now);
	}
	return all > 1 && gone * 2 > all;
}

void nodes_forgive(struct coord *c, int64_t ms)
{
	for (size_t i = 0; i < c->n_nodes; i++)
		c->nodes[i]->heard = mono_min(mono_add_ms(c->nodes[i]->heard, ms), c->now);
	for (struct node *n = c->removed; n != NULL; n = n->next_removed)
		n->heard = mono_min(mono_add_ms(n->heard, ms), c->now);
}

/* What was given up must not go on in the old session: it registers anew, and
 * is told then to end what it still holds. */
static void fence(struct coord *c, struct node *n)
{
	struct clink *l = n->link;

	if (l == NULL)
		return;
	l->node = NULL;
	n->link = NULL;
	coord_close(c, l, "silent for too long");
	admit_rival(c, n);
	jobs_node_state(c, n);
}

static void node_deadline(struct coord *c, struct node *n)
{
	mono_t silent = mono_add_ms(n->heard, c->conf.unreachable_ms);
	mono_t lost = mono_add_ms(n->heard, c->conf.node_lost_ms);

	if (!n->silent && (n->link != NULL || n->jobs > 0)) {
		if (mono_due(silent, c->now)) {
			n->silent = true;
			changed(c, n, "silent for %.1f s", seconds_since(c, n->heard));
			admit_rival(c, n);
			jobs_node_state(c, n);
		} else {
			coord_wake_at(c, silent);
		}
	}
	if (mono_due(n->away_until, c->now)) {
		n->away_until = MONO_NEVER;
		c->have_dirty = true; /* who stands behind that job may pass now */
	} else if (!mono_is_never(n->away_until)) {
		coord_wake_at(c, n->away_until);
	}
	if (n->jobs == 0)
		return;
	if (!mono_due(lost, c->now)) {
		/* often, so that an absence of our own is noticed in between */
		coord_wake_at(c, mono_min(lost, mono_add_ms(c->now, LATE_MS)));
	} else if (most_are_gone(c)) {
		coord_wake_at(c, mono_add_ms(c->now, 1000));
	} else {
		char why[160];

		snprintf(why, sizeof(why), "node %s has not been heard for %u s", n->name,
			 c->conf.node_lost_ms / 1000);
		log_lost(c, n);
		jobs_node_lost(c, n, why);
		fence(c, n);
	}
}

void node_deadlines(struct coord *c)
{
	for (size_t i = 0; i < c->n_nodes; i++)
		node_deadline(c, c->nodes[i]);
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		for (size_t i = 0; !job_over(j) && i < j->n_places; i++)
			if (j->places[i].node->removed && j->places[i].phase < PL_ENDED)
				node_deadline(c, j->places[i].node);
	}
}

/* ---- registration ---------------------------------------------------------------- */

static int copy_addrs(struct node *n, const struct rec_node_register *r)
{
	size_t bytes = 0, i;
	struct rec_addr *v;
	char *s;

	for (i = 0; i < r->n_addrs; i++)
		bytes += strlen(r->addrs[i].ip) + 2 +
			 (r->addrs[i].ifname ? strlen(r->addrs[i].ifname) : 0);
	v = calloc(1, r->n_addrs * sizeof(*v) + bytes);
	if (v == NULL)
		return -ENOMEM;
	s = (char *)(v + r->n_addrs);
	for (i = 0; i < r->n_addrs; i++) {
		v[i].ip = s;
		s = stpcpy(s, r->addrs[i].ip) + 1;
		if (r->addrs[i].ifname == NULL)
			continue;
		v[i].ifname = s;
		s = stpcpy(s, r->addrs[i].ifname) + 1;
	}
	free(n->addrs);
	n->addrs = v;
	n->n_addrs = r->n_addrs;
	return 0;
}

static void save_boot(struct coord *c, struct node *n)
{
	struct pending *pd;
	struct action *p = coord_persist(c, &pd);

	persist_node(c, p, n);
}

/* Another agent takes the place of a live one. A restarted agent is another one
 * than before each time; who returns has been alive all the time. True: it is
 * beyond doubt that there are two. */
static bool displaces(struct coord *c, struct node *n, const struct rec_node_register *r)
{
	bool returns = false;

	for (uint32_t i = 0; i < n->n_former && i < FORMER_MAX; i++)
		returns = returns || n->former[i] == r->incarnation;
	n->former[n->n_former++ % FORMER_MAX] = n->incarnation;
	if (!returns)
		return false;
	if (n->returns == 0 || mono_due(mono_add_ms(n->returns_since, RETURNS_MS), c->now)) {
		n->returns = 0;
		n->returns_since = c->now;
	}
	return ++n->returns >= RETURNS_MAX;
}

/* If its agent has died nobody reads that. */
static void tell_displaced(struct coord *c, const struct node *n, struct clink *old,
			   const struct rec_node_register *r)
{
	const char *from = r->n_addrs > 0 ? r->addrs[0].ip : "an unknown address";

	act_log(c->out, 0, "node %s: another agent with its key took the place of a connected one (from %s)",
		n->name, from);
	coord_refuse(c, old, 0, "replaced",
		     "another agent of this host registered as node %s, with the same key; if two are "
		     "running, stop one, and give each a key of its own (nodeagentd join)",
		     n->name);
}

/* An older session of this node may be a dead connection (its agent was
 * restarted, its host rebooted) or a second machine with the same key. Same
 * boot: the agent was restarted. Another boot, and the old one was heard just
 * now: wait for which of them speaks. False: this registration has to wait. */
static bool replace_session(struct coord *c, struct node *n, struct clink *l,
			    const struct rec_node_register *r)
{
	struct clink *old = n->link;

	if (old == NULL || old == l)
		return true;
	if (strcmp(n->boot_id, r->boot_id) != 0 && !n->silent) {
		if (n->rival != NULL && n->rival != l) {
			n->rival->node = NULL;
			coord_close(c, n->rival, "replaced by a newer session of this node");
		}
		n->rival = l;
		n->rival_since = c->now;
		l->node = n;
		return false;
	}
	if (n->incarnation != r->incarnation && !n->silent && displaces(c, n, r)) {
		quarantine(c, n, l);
		return false;
	}
	if (n->incarnation != r->incarnation)
		tell_displaced(c, n, old, r);
	old->node = NULL;
	coord_close(c, old, "replaced by a newer session of this node");
	return true;
}

/* What this node may have missed while it was away. */
static void send_revokes(struct coord *c, struct clink *l)
{
	struct msg m;

	msg_init(&m, MSG_revoke);
	for (const struct node *n = c->removed; n != NULL; n = n->next_removed) {
		m.u.revoke.key = (struct bytes){ n->key, 32 };
		/* Nor the key of one enrolled again since, as another node. */
		if (!n->stand_in && node_of_key(c, n->key) == NULL)
			act_send(c->out, l->id, &m);
	}
}

static void send_registered(struct coord *c, struct clink *l, const struct node *n)
{
	struct msg m;

	msg_init(&m, MSG_node_registered);
	m.u.node_registered.node = n->name;
	m.u.node_registered.submit = n->submit;
	act_send(c->out, l->id, &m);
}

static bool may_register(struct coord *c, struct clink *l, struct node *n,
			 const struct rec_node_register *r)
{
	if (n == NULL)
		coord_refuse(c, l, 0, "denied", "this node was removed from the cluster %s",
			     c->cluster);
	else if (strcmp(n->name, r->node) != 0)
		coord_refuse(c, l, 0, "denied", "this key belongs to node %s, not to %s", n->name,
			     r->node);
	else if (n->quarantined)
		refuse_twin(c, l, n);
	else
		return true;
	if (l->state == CL_CLOSED)
		return false;
	coord_close(c, l, "registration refused");
	return false;
}

void nodes_on_register(struct coord *c, struct clink *l, const struct rec_node_register *r)
{
	struct node *n = node_of_key(c, l->key);
	bool fresh, again = n != NULL && n->link == l;

	if (l->who != WHO_NODE || !may_register(c, l, n, r))
		return;
	if (!replace_session(c, n, l, r))
		return;
	if (copy_addrs(n, r) < 0) {
		c->oom = true;
		return;
	}
	fresh = n->incarnation != r->incarnation;
	n->link = l;
	l->node = n;
	l->state = CL_READY;
	n->incarnation = r->incarnation;
	n->peer_port = r->peer_port;
	n->cpus = r->cpus;
	snprintf(n->software, sizeof(n->software), "%s", r->software ? r->software : "");
	n->ever = true;
	n->silent = false;
	if (!again)
		n->spoke_before = n->spoke;
	n->heard = n->spoke = c->now;
	if (strcmp(n->boot_id, r->boot_id) != 0) {
		if (n->boot_id[0] != '\0')
			events_add(c, &(struct event_in){ .kind = "node.rebooted", .severity = "warn", .node = n->name },
				   "its host was rebooted");
		snprintf(n->boot_id, sizeof(n->boot_id), "%s", r->boot_id);
		cordon_rebooted(c, n);
		save_boot(c, n);
	}
	coord_wake_at(c, mono_add_ms(c->now, c->conf.unreachable_ms));
	gpus_find_siblings(c, n);
	readings_registered(c, n, r->probe, again);
	changed(c, n, "registered from %s", n->n_addrs > 0 ? n->addrs[0].ip : "an unknown address");
	send_registered(c, l, n);
	send_revokes(c, l);
	peers_check_keys(c, l, r);
	peers_tell_all(c, n);
	specs_registered(c, n, r);
	cordon_tell(c, n, false);
	fix_registered(c, n, fresh);
	jobs_node_up(c, n, r, fresh);
	c->have_dirty = true;
}

/* Of a node that was removed only the name is told: who wants a job's output
 * from it hears that nobody knows its address. */
void nodes_fill_peer(const struct node *n, struct rec_peer *ret)
{
	static const uint8_t nobody[32];

	memset(ret, 0, sizeof(*ret));
	ret->node = n->name;
	ret->key.p = n->removed ? nobody : n->key;
	ret->key.n = 32;
	if (n->removed)
		return;
	ret->addrs = n->addrs;
	ret->n_addrs = n->n_addrs;
	ret->port = n->peer_port;
}

/* ---- removal ------------------------------------------------------------------------ */

static void broadcast_revoke(struct coord *c, const struct node *gone)
{
	struct msg m;

	msg_init(&m, MSG_revoke);
	m.u.revoke.key.p = gone->key;
	m.u.revoke.key.n = 32;
	for (size_t i = 0; i < c->n_nodes; i++)
		if (c->nodes[i]->link != NULL)
			act_send(c->out, c->nodes[i]->link->id, &m);
}

void node_take_out(struct coord *c, struct node *n)
{
	size_t at = node_position(c, n->name);
	struct action *a;

	checks_untally(c, n);
	memmove(&c->nodes[at], &c->nodes[at + 1], (c->n_nodes - at - 1) * sizeof(struct node *));
	c->n_nodes--;
	map_del(&c->keys, key_id(n->key));
	n->removed = true;
	n->next_removed = c->removed;
	c->removed = n;
	if (n->rival != NULL) {
		n->rival->node = NULL;
		coord_close(c, n->rival, "node removed");
	}
	if (n->link != NULL) {
		n->link->node = NULL;
		coord_close(c, n->link, "node removed");
	}
	n->link = n->rival = NULL;
	specs_node_left(c, n);
	changed(c, n, "its key is out");
	a = act_add(c->out, ACT_DROP_KEY); /* and those that have not registered yet */
	memcpy(a->key, n->key, 32);
	n->heard = mono_min(n->heard, c->now);
	coord_wake_at(c, mono_add_ms(n->heard, c->conf.node_lost_ms));
}

bool admin_only(struct coord *c, struct clink *l, uint32_t rid, const char *what)
{
	if (l->who == WHO_LOCAL && l->admin)
		return true;
	coord_refuse(c, l, rid, "denied",
		     "%s is for administrators: run it on the coordinator's host as root or as a "
		     "member of the group nodeagent-admin",
		     what);
	return false;
}

void reply_when_stored(struct coord *c, struct pending *pd, struct clink *l, uint32_t rid,
			      const struct msg *m)
{
	struct buf b;

	buf_init(&b);
	pd->kind = PD_REPLY;
	pd->link = l->id;
	pd->rid = rid;
	if (msg_encode(m, &b, NULL) == 0)
		pd->reply = buf_steal(&b, &pd->reply_len);
	if (pd->reply == NULL)
		c->oom = true;
	buf_finish(&b);
}

/* "jobs 17, 18 and 3 more": those whose ranks are there, or for whom it is kept. */
static const char *name_jobs(struct coord *c, const struct node *n)
{
	char text[200] = "";
	size_t len = 0, shown = 0;

	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (job_over(j) || !job_holds(j, n) || shown == JOBS_NAMED)
			continue;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%llu", shown++ > 0 ? ", " : "",
					(unsigned long long)j->id);
	}
	if (n->jobs > shown)
		snprintf(text + len, sizeof(text) - len, " and %zu more", (size_t)n->jobs - shown);
	return arena_printf(&c->out->arena, "job%s %s", n->jobs == 1 ? "" : "s", text);
}

static bool refuse_removal(struct coord *c, struct clink *l, const struct rec_node_remove *r, const struct node *n)
{
	if (n->removed || n->jobs == 0 || r->force)
		return false;
	coord_refuse(c, l, r->rid, "busy", "node %s is in use by %s, so nothing was done; end what runs there "
		     "('nodectl kill'), or take it out all the same: nodectl node-remove --force %s",
		     n->name, name_jobs(c, n), n->name);
	return true;
}

/* It is out at once. Asked again, because the answer was lost or it could not
 * be saved, it is saved again. */
void nodes_on_remove(struct coord *c, struct clink *l, const struct rec_node_remove *r)
{
	struct node *n = node_find(c, r->node);
	struct pending *pd;
	struct action *p;
	struct msg m;

	if (!admin_only(c, l, r->rid, "removing a node"))
		return;
	if (n == NULL)
		n = node_removed_find(c, r->node);
	if (n == NULL) {
		coord_refuse(c, l, r->rid, "not-found",
			     "no node named %s in this cluster; 'nodectl nodes' lists them", r->node);
		return;
	}
	if (refuse_removal(c, l, r, n))
		return;
	p = coord_persist(c, &pd);
	act_row(c->out, p, TABLE_NODE, n->name, NULL);
	persist_revoked(c, p, n, true);
	msg_init(&m, MSG_ok);
	m.u.ok.rid = r->rid;
	reply_when_stored(c, pd, l, r->rid, &m);
	if (n->removed)
		return;
	broadcast_revoke(c, n);
	node_take_out(c, n);
	c->have_dirty = true;
}
