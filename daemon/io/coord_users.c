/* coord_users.c - who is behind a uid on the coordinator's own socket
 *
 * Administrators are uid 0, the coordinator's own uid and the members of the
 * group nodeagent-admin. A look-up that fails is "no". */
#include "io/coord_io.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ADMIN_GROUP "nodeagent-admin"
#define CACHE_MAX 32
#define CACHE_MS 60000
#define GROUPS_MAX 256
#define NAME_MAX_BYTES 64

struct person {
	uint32_t uid;
	bool admin;
	char name[NAME_MAX_BYTES + 1]; /* empty: none */
};

struct coord_users {
	uv_loop_t *loop;
	unsigned refs; /* the owner and the questions under way */
	bool gone;
	struct person known[CACHE_MAX];
	mono_t until[CACHE_MAX];
	size_t n, next;
};

struct question {
	uv_work_t work;
	struct coord_users *users;
	struct person person;
	void (*answer)(void *arg, const char *name, bool admin);
	void *arg;
};

/* ---- on a pool thread --------------------------------------------------- */

static bool in_admin_group(const char *name, gid_t gid)
{
	gid_t groups[GROUPS_MAX];
	int n = GROUPS_MAX;
	char buf[16384];
	struct group g, *found = NULL;

	if (getgrnam_r(ADMIN_GROUP, &g, buf, sizeof(buf), &found) != 0 || !found)
		return false;
	if (getgrouplist(name, gid, groups, &n) < 0)
		return false;
	for (int i = 0; i < n; i++)
		if (groups[i] == g.gr_gid)
			return true;
	return false;
}

static void look_up(uv_work_t *w)
{
	struct person *p = &((struct question *)w->data)->person;
	char buf[16384];
	struct passwd pw, *found = NULL;

	p->admin = p->uid == 0 || p->uid == geteuid();
	if (getpwuid_r(p->uid, &pw, buf, sizeof(buf), &found) != 0 || !found)
		return;
	if (strlen(pw.pw_name) <= NAME_MAX_BYTES)
		snprintf(p->name, sizeof(p->name), "%s", pw.pw_name);
	if (!p->admin)
		p->admin = in_admin_group(pw.pw_name, pw.pw_gid);
}

/* ---- on the loop -------------------------------------------------------- */

static void users_put(struct coord_users *u)
{
	if (--u->refs == 0)
		free(u);
}

static void remember(struct coord_users *u, const struct person *p)
{
	u->known[u->next] = *p;
	u->until[u->next] = mono_add_ms(clock_mono(), CACHE_MS);
	u->next = (u->next + 1) % CACHE_MAX;
	if (u->n < CACHE_MAX)
		u->n++;
}

static void on_looked_up(uv_work_t *w, int status)
{
	struct question *q = w->data;

	if (status == 0)
		remember(q->users, &q->person);
	if (!q->users->gone)
		q->answer(q->arg, q->person.name[0] ? q->person.name : NULL, q->person.admin);
	users_put(q->users);
	free(q);
}

static void nothing(uv_work_t *w)
{
}

static void on_known(uv_work_t *w, int status)
{
	struct question *q = w->data;

	if (!q->users->gone)
		q->answer(q->arg, q->person.name[0] ? q->person.name : NULL, q->person.admin);
	users_put(q->users);
	free(q);
}

static bool recall(const struct coord_users *u, uint32_t uid, struct person *ret)
{
	mono_t now = clock_mono();

	for (size_t i = 0; i < u->n; i++)
		if (u->known[i].uid == uid && mono_before(now, u->until[i])) {
			*ret = u->known[i];
			return true;
		}
	return false;
}

bool coord_users_admin(const struct coord_users *u, uint32_t uid)
{
	struct person p;

	return uid == 0 || uid == geteuid() || (recall(u, uid, &p) && p.admin);
}

int coord_users_ask(struct coord_users *u, uint32_t uid,
		    void (*answer)(void *arg, const char *name, bool admin), void *arg)
{
	struct question *q = calloc(1, sizeof(*q));
	bool known;
	int r;

	if (!q)
		return -ENOMEM;

	q->users = u;
	q->answer = answer;
	q->arg = arg;
	q->person.uid = uid;
	q->work.data = q;
	known = recall(u, uid, &q->person);
	r = uv_queue_work(u->loop, &q->work, known ? nothing : look_up,
			  known ? on_known : on_looked_up);
	if (r < 0) {
		free(q);
		return r;
	}
	u->refs++;
	return 0;
}

struct coord_users *coord_users_create(uv_loop_t *loop)
{
	struct coord_users *u = calloc(1, sizeof(*u));

	if (u) {
		u->loop = loop;
		u->refs = 1;
	}
	return u;
}

void coord_users_destroy(struct coord_users *u)
{
	if (!u)
		return;

	u->gone = true;
	users_put(u);
}
