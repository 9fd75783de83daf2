/* agent_peer.c - which peers may speak to this agent, and about which job
 *
 * The coordinator names them per job: the source of the specification (in
 * 'prepare'), and others (in 'allow'). 'forget' and 'revoke' withdraw them.
 */
#include "core/agent_internal.h"

#include <stdlib.h>
#include <string.h>

static struct allowed *find(struct agent *a, uint64_t job, const uint8_t *key)
{
	list_foreach(e, &a->allowed) {
		struct allowed *w = list_entry(e, struct allowed, all);

		if (w->job == job && memcmp(w->key, key, 32) == 0)
			return w;
	}
	return NULL;
}

static void drop(struct allowed *w)
{
	list_remove(&w->all);
	free(w);
}

void peers_free(struct agent *a)
{
	list_foreach_safe(e, &a->allowed)
		drop(list_entry(e, struct allowed, all));
	free(a->revoked);
}

void peers_on_allow(struct agent *a, const struct rec_allow *m)
{
	for (size_t i = 0; i < m->n_peers; i++) {
		struct allowed *w;

		if (m->peers[i].key.n != 32 || find(a, m->job, m->peers[i].key.p) != NULL)
			continue;
		w = calloc(1, sizeof(*w));
		if (w == NULL) {
			a->oom = true;
			return;
		}
		w->job = m->job;
		memcpy(w->key, m->peers[i].key.p, 32);
		list_append(&a->allowed, &w->all);
	}
}

void peers_forget_job(struct agent *a, uint64_t job)
{
	list_foreach_safe(e, &a->allowed) {
		struct allowed *w = list_entry(e, struct allowed, all);

		if (w->job == job)
			drop(w);
	}
}

static bool is_revoked(const struct agent *a, const uint8_t *key)
{
	for (size_t i = 0; i < a->n_revoked; i++)
		if (memcmp(a->revoked[i], key, 32) == 0)
			return true;
	return false;
}

static void keep_revoked(struct agent *a, const uint8_t *key)
{
	uint8_t(*v)[32];

	if (is_revoked(a, key))
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
	list_foreach_safe(e, &a->allowed) {
		struct allowed *w = list_entry(e, struct allowed, all);

		if (memcmp(w->key, m->key.p, 32) == 0)
			drop(w);
	}
	keep_revoked(a, m->key.p);
	act = act_add(a->out, ACT_REVOKE);
	memcpy(act->key, m->key.p, 32);
}

static bool is_source(const struct ajob *j, const uint8_t *key)
{
	const struct rec_prepare *p = &j->prepare.u.prepare;

	return p->n_source == 1 && p->source[0].key.n == 32 &&
	       memcmp(p->source[0].key.p, key, 32) == 0;
}

bool agent_peer_may(const struct agent *a, const uint8_t key[32], uint64_t job)
{
	if (is_revoked(a, key))
		return false;
	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (j->job == job && is_source(j, key))
			return true;
	}
	return find((struct agent *)a, job, key) != NULL;
}

bool agent_peer_allowed(const struct agent *a, const uint8_t key[32])
{
	if (is_revoked(a, key))
		return false;
	list_foreach(e, &a->jobs)
		if (is_source(list_entry(e, struct ajob, all), key))
			return true;
	list_foreach(e, &a->allowed)
		if (memcmp(list_entry(e, struct allowed, all)->key, key, 32) == 0)
			return true;
	return false;
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
			if (v[i].addrs[k].ifname != NULL)
				ad[k].ifname = arena_strdup(ar, v[i].addrs[k].ifname);
		}
	}
	return d;
}
