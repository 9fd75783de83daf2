/* check_removed.c - a node whose key is out (22)
 *
 * From the moment the administrator is told so: it is not registered, is told
 * nothing but that it is refused, and no other node is handed its key. An
 * agent that has had the coordinator's word for 5 s without a gap lets it in no
 * more, whatever its jobs say. A restart of any of them changes nothing.
 */
#include <string.h>

#include "common/base64.h"
#include "tests/sim/sim.h"

#define KNOWN_AFTER (5 * SECOND)
#define NO_GAP (1600 * MS) /* heartbeats are answered every second */

bool removed_host(const struct sim *s, uint32_t host)
{
	return s->agents[host].removed_at != 0;
}

void removed_now(struct sim *s, uint32_t host)
{
	s->agents[host].removed_at = s->w.now;
	LINE(&s->w, s->agents[host].name, "is REMOVED");
}

void removed_back(struct sim *s, uint32_t host)
{
	s->agents[host].removed_at = 0;
	LINE(&s->w, s->agents[host].name, "has JOINED again");
}

static bool begins(const char *text, size_t len, const char *type)
{
	size_t n = strlen(type);

	return len > 6 + n && memcmp(text + 6, type, n) == 0;
}

static bool names_key(const char *text, size_t len, const uint8_t key[32])
{
	struct buf b;
	bool yes;

	buf_init(&b);
	base64_encode(&b, key, 32);
	yes = memmem(text, len, b.data, b.len) != NULL;
	buf_finish(&b);
	return yes;
}

void removed_sent(struct sim *s, struct conn *c, int side, const char *text, size_t len)
{
	const struct proc *to = c->end[1 - side].proc;

	for (uint32_t i = 0; i < s->n_agents; i++) {
		const struct agent_actor *a = &s->agents[i];

		if (!removed_host(s, i))
			continue;
		if (to->kind == PK_AGENT && to->idx == i && !begins(text, len, "refused"))
			sim_fail(s, "22: a node that was removed is told nothing but that (%s: %.*s)", a->name,
				 (int)(len < 200 ? len : 200), text);
		if (to->kind == PK_AGENT && to->idx != i && !begins(text, len, "revoke") &&
		    names_key(text, len, a->key))
			sim_fail(s, "22: nobody is told to let in a node that was removed (%s, to %s: "
				    "%.*s)", a->name, s->agents[to->idx].name,
				 (int)(len < 200 ? len : 200), text);
	}
}

void removed_told(struct sim *s, struct conn *c)
{
	struct agent_actor *a = &s->agents[c->end[0].proc->idx];

	if (s->w.now - a->told > NO_GAP || a->session != c)
		a->told_since = s->w.now;
	a->told = s->w.now;
	if (a->core == NULL || !agent_registered(a->core) || s->w.now - a->told_since < KNOWN_AFTER)
		return;
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (removed_host(s, i) && i != a->idx &&
		    s->w.now - s->agents[i].removed_at >= KNOWN_AFTER &&
		    (agent_peer_allowed(a->core, s->agents[i].key) ||
		     !agent_peer_revoked(a->core, s->agents[i].key)))
			sim_fail(s, "22: a key that is out opens no door after 5 s (%s at %s)",
				 s->agents[i].name, a->name);
}
