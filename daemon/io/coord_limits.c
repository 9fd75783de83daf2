/* coord_limits.c - how much one user, or one node's key, may hold of the coordinator
 *
 * The local socket is open to everybody, so everybody is a possible attacker, with
 * many uids if there are such for his containers:
 *
 *   connections  LOCAL_LINKS_MAX of one uid: the oldest that has said nothing gives
 *                way, else the newcomer. LOCAL_LINKS_ALL of all but root and
 *                administrators: one of the uid with the most gives way, the longest
 *                idle, those where somebody waits last.
 *   answers      a link whose queue is above LOCAL_HIGH is not read until it has
 *                drained: the next question waits, and nothing is computed for it.
 *                When the queues of one uid (or of all but root and administrators)
 *                are above a limit together, none of its links are read: 8 MiB, and
 *                64 MiB of all.
 *   unasked      updates of watched jobs come all the same; 16 MiB of them for one
 *                uid, on top of that, end the link with the most.
 *   stalled      while somebody is over such a limit, those of its links that have
 *                taken nothing for STALL_MS are closed, or a reader that is stopped
 *                would keep its user's other commands waiting for ever; and where it
 *                is the limit of all, those that others would wait for too long.
 *
 * A node's link is trusted more: LINK_HIGH, and nobody else waits for it; but it
 * is not read either while it does not take its answers. One key has at most
 * NODE_LINKS_MAX links: the newest count, as old ones may be half dead.
 *
 * Not promised: that an answer is small. The largest one comes on top of each limit.
 * Nor that who reads less than 64 KiB in STALL_MS is known to read at all: the
 * kernel counts in such pieces. */
#include "io/coord_io.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define LOCAL_LINKS_MAX 64u
#define LOCAL_LINKS_ALL 512u
#define LOCAL_FRAME_MAX (320u << 10) /* nodectl's largest: 256 KiB of a specification, to be refused */
#define LOCAL_HIGH (64u << 10)
/* Links that are just not full (LOCAL_HIGH each) stay below RESUME(), so while
 * somebody is over its limit there is always one that will drain or be closed. */
#define USER_QUEUE_MAX (8u << 20)
#define LOCAL_QUEUE_MAX (64u << 20)
#define RESUME(max) ((max) / 4 * 3)
#define USER_UNASKED_MAX (16u << 20)
#define STALL_MS 5000
#define OTHERS_WAIT 16 /* when others wait for a link, it takes this part of its queue in STALL_MS */
#define NODE_LINKS_MAX 8u

_Static_assert(LOCAL_LINKS_MAX * LOCAL_HIGH < RESUME(USER_QUEUE_MAX), "a user could wait for nobody");
_Static_assert(LOCAL_LINKS_ALL * LOCAL_HIGH < RESUME(LOCAL_QUEUE_MAX), "all could wait for nobody");

struct local_user {
	struct list at; /* role.local_users */
	struct list links;
	uint32_t uid;
	unsigned n, leaving, dropped; /* of these links, so many are being closed; of them, so many at once */
	bool trusted; /* root or an administrator: waits for itself alone */
	size_t queued, unasked; /* at the last weighing */
	bool over;
};

static void on_stalls(void *arg);

void coord_limits_init(struct coord_role *r)
{
	deadline_init(&r->loop, &r->stalls, on_stalls, r);
}

/* ---- connections -------------------------------------------------------- */

static struct local_user *user_get(struct coord_role *r, uint32_t uid)
{
	struct local_user *u;

	list_foreach(e, &r->local_users) {
		u = list_entry(e, struct local_user, at);
		if (u->uid == uid)
			return u;
	}
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->uid = uid;
	u->trusted = coord_users_admin(r->users, uid);
	list_init(&u->links);
	list_append(&r->local_users, &u->at);
	return u;
}

static struct coord_link *oldest_silent(const struct local_user *u, const struct coord_link *but)
{
	list_foreach(e, &u->links) {
		struct coord_link *c = list_entry(e, struct coord_link, of_owner);

		if (c != but && !c->spoke && !c->leaving)
			return c;
	}
	return NULL;
}

static void user_free(struct local_user *u)
{
	list_remove(&u->at);
	free(u);
}

static unsigned staying(const struct local_user *u)
{
	return u->n - u->leaving;
}

/* Somebody waits there: for the answer, for who he is, or for what happens to a job. */
static bool waits(const struct coord_link *c)
{
	return c->asking || link_queued(c->l) > 0 || coord_link_waits(c->role->core, c->id);
}

/* The longest idle link of u, or the one found before; c is never it. */
static struct coord_link *more_idle(const struct local_user *u, const struct coord_link *c, bool busy_too,
				    struct coord_link *best)
{
	list_foreach(e, &u->links) {
		struct coord_link *o = list_entry(e, struct coord_link, of_owner);

		if (o != c && !o->leaving && (!best || mono_before(o->heard, best->heard)) &&
		    (busy_too || !waits(o)))
			best = o;
	}
	return best;
}

static struct coord_link *idlest_of(struct coord_role *r, const struct coord_link *c, unsigned n, bool busy_too)
{
	struct coord_link *best = NULL;

	list_foreach(e, &r->local_users) {
		struct local_user *u = list_entry(e, struct local_user, at);

		if (!u->trusted && staying(u) == n)
			best = more_idle(u, c, busy_too, best);
	}
	return best;
}

/* The one that gives way to c, of the uid with the most links; NULL: none does. */
static struct coord_link *gives_way(struct coord_role *r, const struct coord_link *c)
{
	struct coord_link *best = NULL;
	unsigned most = 0;

	list_foreach(e, &r->local_users) {
		struct local_user *u = list_entry(e, struct local_user, at);

		if (!u->trusted && staying(u) > most)
			most = staying(u);
	}
	if (staying(c->user) == most) /* nobody else's while one of its own will do */
		best = more_idle(c->user, c, false, NULL);
	if (!best)
		best = idlest_of(r, c, most, false);
	if (!best && staying(c->user) < most)
		best = idlest_of(r, c, most, true);
	return best;
}

static void leave(struct coord_link *c)
{
	c->leaving = true;
	c->user->leaving++;
	c->role->n_leaving += !c->user->trusted;
}

static void drop(struct coord_link *c)
{
	c->dropped = true;
	c->user->dropped++;
	link_drop(c->l, "too many connections");
}

static void make_way(struct coord_link *c)
{
	leave(c);
	if (!c->spoke) {
		drop(c);
		return;
	}
	coord_link_refuse(c, 0, "busy", "too many connections to this coordinator are open: this one, idle for "
			  "long, is closed for another user's; a node's agent has more room");
	link_close(c->l, "too many connections");
}

/* Those on their way out have some seconds to hear why; not when they are so many
 * that they would keep others out. */
static void hurry(struct coord_role *r)
{
	struct local_user *most = NULL;

	list_foreach(e, &r->local_users) {
		struct local_user *u = list_entry(e, struct local_user, at);

		if (!u->trusted && u->leaving > u->dropped &&
		    (!most || u->leaving - u->dropped > most->leaving - most->dropped))
			most = u;
	}
	if (!most)
		return;
	list_foreach(e, &most->links) {
		struct coord_link *c = list_entry(e, struct coord_link, of_owner);

		if (!c->leaving || c->dropped)
			continue;
		drop(c);
		return;
	}
}

/* For its user's queues, or all users'. */
static bool must_wait(const struct coord_link *c)
{
	return c->user->over || (c->role->any_over && !c->user->trusted);
}

static bool far_too_many(const struct coord_role *r, const struct local_user *u)
{
	return u->n >= 2 * LOCAL_LINKS_MAX || (!u->trusted && r->n_local >= 3 * LOCAL_LINKS_ALL);
}

static bool admit_local(struct coord_link *c)
{
	struct coord_role *r = c->role;
	struct local_user *u = user_get(r, c->uid);
	struct coord_link *old;

	if (!u)
		return false;
	if (far_too_many(r, u)) {
		if (u->n == 0)
			user_free(u);
		return false;
	}

	link_set_high(c->l, LOCAL_HIGH);
	link_set_max(c->l, LOCAL_FRAME_MAX);
	if (!u->trusted && r->n_local >= 2 * LOCAL_LINKS_ALL)
		hurry(r);
	c->user = u;
	c->heard = clock_mono();
	u->n++;
	r->n_local += !u->trusted;
	list_append(&u->links, &c->of_owner);
	c->held = must_wait(c); /* a newcomer too, or each could have one more answer */
	if (staying(u) > LOCAL_LINKS_MAX)
		old = oldest_silent(u, c);
	else if (!u->trusted && r->n_local - r->n_leaving > LOCAL_LINKS_ALL)
		old = gives_way(r, c);
	else
		return true;

	c->turned_away = old == NULL; /* it is told when it is up and known */
	if (old)
		make_way(old);
	else
		leave(c);
	return true;
}

void coord_limits_admin(struct coord_link *c)
{
	struct coord_role *r = c->role;
	struct local_user *u = c->user;

	if (!u)
		return;
	if (!u->trusted) {
		u->trusted = true;
		r->n_local -= u->n;
		r->n_leaving -= u->leaving;
	}
	if (c->turned_away && staying(u) < LOCAL_LINKS_MAX) {
		c->turned_away = c->leaving = false;
		u->leaving--;
	}
}

static bool admit_key(struct coord_link *c)
{
	struct list *same = &c->role->keys[c->key[0]];
	struct coord_link *oldest = NULL;
	unsigned n = 0;

	list_append(same, &c->of_owner);
	list_foreach(e, same) {
		struct coord_link *o = list_entry(e, struct coord_link, of_owner);

		if (o->leaving || memcmp(o->key, c->key, KEY_HASH) != 0)
			continue;
		n++;
		if (!oldest)
			oldest = o;
	}
	if (n <= NODE_LINKS_MAX)
		return true;
	oldest->leaving = true;
	link_drop(oldest->l, "too many connections with one key");
	return true;
}

bool coord_limits_admit(struct coord_link *c)
{
	return c->who == WHO_LOCAL ? admit_local(c) : admit_key(c);
}

/* ---- answers ------------------------------------------------------------ */

static void hold(struct coord_link *c, bool held)
{
	if (c->held == held)
		return;
	c->held = held;
	if (!c->asking) /* else it is paused, and on_user() looks at 'held' */
		link_pause(c->l, held);
}

static bool is_over(bool was, size_t queued, size_t max)
{
	return queued > (was ? RESUME(max) : max);
}

/* What came to it by itself. It has taken what it asked for last, or that is at the queue's end. */
static size_t unasked(const struct coord_link *c)
{
	size_t queued = link_queued(c->l);

	return queued > c->answer ? queued - c->answer : 0;
}

static void weigh_user(struct local_user *u)
{
	u->queued = u->unasked = 0;
	list_foreach(e, &u->links) {
		struct coord_link *c = list_entry(e, struct coord_link, of_owner);

		u->queued += link_queued(c->l);
		u->unasked += c->leaving ? 0 : unasked(c);
	}
	u->over = is_over(u->over, u->queued, USER_QUEUE_MAX);
}

static void apply(struct coord_role *r, struct local_user *u)
{
	list_foreach(e, &u->links) {
		struct coord_link *c = list_entry(e, struct coord_link, of_owner);

		hold(c, c->full || must_wait(c));
	}
}

static void weigh(struct coord_role *r)
{
	size_t all = 0;
	bool some = false;

	list_foreach(e, &r->local_users) {
		struct local_user *u = list_entry(e, struct local_user, at);

		weigh_user(u);
		all += u->trusted ? 0 : u->queued;
		some = some || u->over;
	}
	r->any_over = is_over(r->any_over, all, LOCAL_QUEUE_MAX);
	list_foreach(e, &r->local_users)
		apply(r, list_entry(e, struct local_user, at));
	if (some || r->any_over) {
		if (mono_is_never(r->stalls.armed))
			deadline_arm(&r->stalls, mono_add_ms(clock_mono(), STALL_MS));
	} else {
		deadline_arm(&r->stalls, MONO_NEVER);
	}
}

/* Since the last look; whether its queue grows meanwhile says nothing. Only what
 * has waited all the time counts. */
static bool stalled(struct coord_link *c, bool others_wait)
{
	int64_t taken = link_taken(c->l), more = taken - c->was_taken;
	bool looked = c->looked;

	c->was_taken = taken;
	c->looked = c->full;
	return looked && c->full &&
	       (more <= 0 || (others_wait && more < (int64_t)(link_queued(c->l) / OTHERS_WAIT)));
}

static void on_stalls(void *arg)
{
	struct coord_role *r = arg;

	list_foreach(e, &r->local_users) {
		struct local_user *u = list_entry(e, struct local_user, at);
		bool others_wait = r->any_over && !u->trusted;

		list_foreach(f, &u->links) {
			struct coord_link *c = list_entry(f, struct coord_link, of_owner);

			if (stalled(c, others_wait) && (u->over || others_wait))
				link_close(c->l, "it does not take what is sent to it");
		}
	}
	deadline_arm(&r->stalls, mono_add_ms(clock_mono(), STALL_MS));
}

bool coord_limits_may_send(struct coord_link *c, size_t n, bool asked)
{
	if (!c->full)
		c->answer = 0;
	/* However long: only who takes its answers is read, so this is one, or about. */
	if (asked) {
		c->answer += n;
		return true;
	}
	if (unasked(c) + n <= QUEUE_MAX)
		return true;
	link_close(c->l, "it does not take what is sent to it");
	return false;
}

static struct coord_link *most_unasked(const struct local_user *u)
{
	struct coord_link *most = NULL;

	list_foreach(e, &u->links) {
		struct coord_link *c = list_entry(e, struct coord_link, of_owner);

		if (!c->leaving && (!most || unasked(c) > unasked(most)))
			most = c;
	}
	return most;
}

void coord_limits_sent(struct coord_link *c, bool full)
{
	struct coord_link *most;

	if (!full)
		return;
	c->full = true;
	hold(c, true);
	if (!c->user)
		return;
	weigh(c->role);
	most = c->user->unasked > USER_UNASKED_MAX ? most_unasked(c->user) : NULL;
	if (most) {
		leave(most);
		link_drop(most->l, "it does not take what is sent to it");
	}
}

void coord_limits_drained(struct coord_link *c)
{
	c->full = c->looked = false;
	if (c->user)
		weigh(c->role);
	else
		hold(c, false);
}

void coord_limits_gone(struct coord_link *c)
{
	struct coord_role *r = c->role;
	struct local_user *u = c->user;
	bool waited_for = c->held || r->any_over || (u && u->over);

	list_remove(&c->of_owner);
	if (!u)
		return;
	c->user = NULL;
	u->leaving -= c->leaving;
	u->dropped -= c->dropped;
	r->n_leaving -= c->leaving && !u->trusted;
	r->n_local -= !u->trusted;
	if (--u->n == 0)
		user_free(u);
	if (waited_for && !r->stopping)
		weigh(r);
}
