/* agent_peer.c - which peers may speak to this agent, and about which job
 *
 *   allowed --(withdrawn; or we registered and it was not named again)--> fading
 *      ^-------------------------- named again <-----------------------------'
 *                                               (30 s) --> out: what it reads is cut
 *
 * The coordinator names them per job: the node where it was submitted (in
 * 'prepare', as long as we hold the job; those that only hold a copy of the
 * specification may nothing by that), and others (in 'allow', the whole
 * list each time). Fading bridges the time in which a restarted coordinator
 * does not yet know who watches what: no reader notices. 'revoke' has none: a
 * key that left the cluster is out at once.
 *
 * An older coordinator names single ones, and 'forget' withdraws them.
 */
#include "core/agent_internal.h"

#include <stdlib.h>
#include <string.h>

#define FADE_MS 30000 /* longer than the pause before an agent dials again */
#define PEERS_MAX 65536u /* all entries; beyond, the fading ones go at once, and new ones are not taken */
#define KEYS_TOLD 1024u /* at registration */

struct allowed {
	uint8_t key[32];
	mono_t until; /* fading; MONO_NEVER: allowed */
	mono_t reads_until; /* then it may only fetch the specification; MONO_NEVER: more than that */
};

/* Of one job. */
struct peer_set {
	uint64_t job;
	bool whole; /* by an 'allow' that names them all */
	struct allowed *v;
	size_t n, cap;
	struct list all;
};

static struct peer_set *set_find(const struct agent *a, uint64_t job)
{
	list_foreach(e, &a->peer_sets) {
		struct peer_set *s = list_entry(e, struct peer_set, all);

		if (s->job == job)
			return s;
	}
	return NULL;
}

static struct allowed *find(const struct peer_set *s, const uint8_t *key)
{
	for (size_t i = 0; i < s->n; i++)
		if (memcmp(s->v[i].key, key, 32) == 0)
			return &s->v[i];
	return NULL;
}

static void set_free(struct agent *a, struct peer_set *s)
{
	a->n_allowed -= s->n;
	list_remove(&s->all);
	free(s->v);
	free(s);
}

void peers_free(struct agent *a)
{
	list_foreach_safe(e, &a->peer_sets)
		set_free(a, list_entry(e, struct peer_set, all));
	free(a->revoked);
}

/* ---- fading -------------------------------------------------------------------- */

static void fade(struct agent *a, struct peer_set *s)
{
	for (size_t i = 0; i < s->n; i++) {
		if (!mono_is_never(s->v[i].until))
			continue;
		s->v[i].until = mono_add_ms(a->now, FADE_MS);
		a->peers_due = mono_min(a->peers_due, s->v[i].until);
	}
}

static void remove_at(struct agent *a, struct peer_set *s, size_t i)
{
	s->v[i] = s->v[--s->n];
	a->n_allowed--;
}

/* Those that were due at this moment are out. */
static void expire(struct agent *a, struct peer_set *s, mono_t due)
{
	for (size_t i = s->n; i-- > 0;) {
		struct action *act;

		if (!mono_due(s->v[i].until, due)) {
			a->peers_due = mono_min(a->peers_due, s->v[i].until);
			continue;
		}
		act = act_add(a->out, ACT_PEER_OUT);
		act->job = s->job;
		memcpy(act->key, s->v[i].key, 32);
		remove_at(a, s, i);
	}
	if (s->n == 0)
		set_free(a, s);
}

static void expire_all(struct agent *a, mono_t due)
{
	a->peers_due = MONO_NEVER;
	list_foreach_safe(e, &a->peer_sets)
		expire(a, list_entry(e, struct peer_set, all), due);
}

void peers_deadlines(struct agent *a)
{
	if (mono_due(a->peers_due, a->now))
		expire_all(a, a->now);
}

void peers_registered(struct agent *a)
{
	list_foreach(e, &a->peer_sets)
		fade(a, list_entry(e, struct peer_set, all));
}

/* ---- allow, forget ----------------------------------------------------------------- */

static bool make_room(struct agent *a)
{
	if (a->n_allowed >= PEERS_MAX)
		expire_all(a, mono_add_ms(a->now, FADE_MS));
	return a->n_allowed < PEERS_MAX;
}

static void set_add(struct agent *a, struct peer_set *s, const uint8_t *key, bool spec_only)
{
	struct allowed *w = find(s, key);

	if (w == NULL && s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 4;

		w = realloc(s->v, cap * sizeof(*w));
		if (w == NULL) {
			a->oom = true;
			return;
		}
		s->v = w;
		s->cap = cap;
		w = NULL;
	}
	if (w == NULL) {
		w = &s->v[s->n++];
		a->n_allowed++;
		memcpy(w->key, key, 32);
		w->reads_until = a->now;
	}
	w->until = MONO_NEVER;
	if (!spec_only)
		w->reads_until = MONO_NEVER;
	else if (mono_is_never(w->reads_until)) /* it fades, too */
		w->reads_until = mono_add_ms(a->now, FADE_MS);
}

static struct peer_set *set_new(struct agent *a, uint64_t job)
{
	struct peer_set *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		a->oom = true;
		return NULL;
	}
	s->job = job;
	list_append(&a->peer_sets, &s->all);
	return s;
}

void peers_on_allow(struct agent *a, const struct rec_allow *m)
{
	struct peer_set *s = set_find(a, m->job);

	if (s != NULL && m->whole)
		fade(a, s);
	if (m->n_peers == 0)
		return;
	if (!make_room(a)) {
		act_log(a->out, m->job, "job %llu: none of its %zu peers can be let in: %u are already, the most "
			"there may be", (unsigned long long)m->job, m->n_peers, PEERS_MAX);
		return;
	}
	s = set_find(a, m->job); /* it may have gone to make room */
	if (s == NULL && (s = set_new(a, m->job)) == NULL)
		return;
	s->whole = m->whole;
	for (size_t i = 0; i < m->n_peers && a->n_allowed < PEERS_MAX; i++) {
		if (m->peers[i].key.n != 32)
			continue;
		peers_unrevoke(a, &m->peers[i]);
		set_add(a, s, m->peers[i].key.p, m->peers[i].spec_only);
	}
	if (s->n == 0)
		set_free(a, s);
}

void peers_forget_job(struct agent *a, uint64_t job)
{
	struct peer_set *s = set_find(a, job);

	if (s != NULL && !s->whole)
		set_free(a, s);
}

/* ---- revoke ------------------------------------------------------------------------ */

bool agent_peer_revoked(const struct agent *a, const uint8_t key[32])
{
	for (size_t i = 0; i < a->n_revoked; i++)
		if (memcmp(a->revoked[i], key, 32) == 0)
			return true;
	return false;
}

static void keep_revoked(struct agent *a, const uint8_t *key)
{
	uint8_t(*v)[32];

	if (agent_peer_revoked(a, key))
		return;
	v = realloc(a->revoked, (a->n_revoked + 1) * sizeof(*v));
	if (v == NULL) {
		a->oom = true;
		return;
	}
	a->revoked = v;
	memcpy(v[a->n_revoked++], key, 32);
}

void peers_on_revoke(struct agent *a, const struct rec_revoke *m)
{
	struct action *act;

	if (m->key.n != 32)
		return;
	list_foreach_safe(e, &a->peer_sets) {
		struct peer_set *s = list_entry(e, struct peer_set, all);
		struct allowed *w = find(s, m->key.p);

		if (w != NULL)
			remove_at(a, s, (size_t)(w - s->v));
		if (s->n == 0)
			set_free(a, s);
	}
	keep_revoked(a, m->key.p);
	act = act_add(a->out, ACT_REVOKE);
	memcpy(act->key, m->key.p, 32);
}

void peers_unrevoke(struct agent *a, const struct rec_peer *p)
{
	for (size_t i = a->n_revoked; i-- > 0 && p->key.n == 32;)
		if (memcmp(a->revoked[i], p->key.p, 32) == 0)
			memmove(a->revoked[i], a->revoked[--a->n_revoked], 32);
}

static bool is_source(const struct ajob *j, const uint8_t *key)
{
	const struct rec_prepare *p = &j->prepare.u.prepare; /* its copies are no sources of questions */

	return p->n_source == 1 && p->source[0].key.n == 32 &&
	       memcmp(p->source[0].key.p, key, 32) == 0;
}

bool agent_peer_may(const struct agent *a, const uint8_t key[32], uint64_t job)
{
	const struct peer_set *s = set_find(a, job);
	const struct allowed *w;

	if (agent_peer_revoked(a, key))
		return false;
	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (j->job == job && is_source(j, key))
			return true;
	}
	w = s != NULL ? find(s, key) : NULL;
	return w != NULL && !mono_due(w->reads_until, a->now);
}

bool agent_peer_may_fetch(const struct agent *a, const uint8_t key[32], uint64_t job)
{
	const struct peer_set *s = set_find(a, job);

	return agent_peer_may(a, key, job) || (s != NULL && find(s, key) != NULL && !agent_peer_revoked(a, key));
}

bool agent_peer_allowed(const struct agent *a, const uint8_t key[32])
{
	if (agent_peer_revoked(a, key))
		return false;
	list_foreach(e, &a->jobs)
		if (is_source(list_entry(e, struct ajob, all), key))
			return true;
	list_foreach(e, &a->peer_sets)
		if (find(list_entry(e, struct peer_set, all), key) != NULL)
			return true;
	return false;
}

/* ---- for the registration ------------------------------------------------------------- */

static void tell_key(struct rec_key_hash *v, size_t *n, const uint8_t *key)
{
	for (size_t i = 0; i < *n; i++)
		if (memcmp(v[i].key.p, key, 32) == 0)
			return;
	if (*n < KEYS_TOLD)
		v[(*n)++].key = (struct bytes){ key, 32 };
}

/* Whoever may come in, or is in: the coordinator says who has left the cluster. */
size_t peers_keys(struct arena *ar, const struct agent *a, struct rec_key_hash **ret)
{
	struct rec_key_hash *v = arena_alloc(ar, KEYS_TOLD * sizeof(*v));
	size_t n = 0;

	*ret = v;
	if (v == NULL)
		return 0;
	memset(v, 0, KEYS_TOLD * sizeof(*v));
	list_foreach(e, &a->links) {
		const struct alink *l = list_entry(e, struct alink, all);

		if (l->kind == LINK_PEER)
			tell_key(v, &n, l->key);
	}
	list_foreach(e, &a->jobs) {
		const struct rec_prepare *p = &list_entry(e, struct ajob, all)->prepare.u.prepare;

		if (p->n_source == 1 && p->source[0].key.n == 32)
			tell_key(v, &n, p->source[0].key.p);
	}
	list_foreach(e, &a->peer_sets) {
		const struct peer_set *s = list_entry(e, struct peer_set, all);

		for (size_t i = 0; i < s->n; i++)
			tell_key(v, &n, s->v[i].key);
	}
	return n;
}

struct rec_peer *peers_copy(struct arena *ar, const struct rec_peer *v, size_t n)
{
	struct rec_peer *d = arena_alloc(ar, n * sizeof(*d) + 1);

	for (size_t i = 0; d != NULL && i < n; i++) {
		struct rec_addr *ad = arena_alloc(ar, v[i].n_addrs * sizeof(*ad) + 1);

		d[i].node = arena_strdup(ar, v[i].node);
		d[i].key.p = arena_memdup(ar, v[i].key.p, v[i].key.n);
		d[i].key.n = v[i].key.n;
		d[i].port = v[i].port;
		d[i].addrs = ad;
		d[i].n_addrs = v[i].n_addrs;
		if (d[i].node == NULL || d[i].key.p == NULL || ad == NULL)
			return NULL;
		for (size_t k = 0; k < v[i].n_addrs; k++) {
			ad[k].ip = arena_strdup(ar, v[i].addrs[k].ip);
			if (ad[k].ip == NULL)
				return NULL;
			if (v[i].addrs[k].ifname != NULL)
				ad[k].ifname = arena_strdup(ar, v[i].addrs[k].ifname);
		}
	}
	return d;
}
