/* users.c - names of uids, asked for on the thread pool
 *
 * A directory server that hangs blocks a pool thread: at most two questions
 * are under way, so launches and reads of the spool still have threads.
 * Answers are kept for a minute.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/agent_io.h"

#define CACHE_MAX 32
#define CACHE_MS 60000
#define ASKING_MAX 2

struct known {
	uint32_t uid;
	bool has_name;
	char name[65];
	mono_t until;
};

struct waiter {
	struct list at;
	uint32_t uid;
	void (*cb)(void *arg, const char *name);
	void *arg;
};

struct question {
	uv_work_t req;
	struct users *users;
	uint32_t uid;
	bool found;
	char name[65];
};

struct users {
	struct agent_io *io;
	struct known known[CACHE_MAX];
	size_t next; /* to be overwritten */
	struct list waiting;
	uint32_t asking[ASKING_MAX];
	unsigned n_asking;
	uv_idle_t idle; /* answers from the cache come in a later turn */
};

/* Blocks. A uid without an entry has no name; an error counts as none. */
static bool name_of(uint32_t uid, char out[65])
{
	char buf[16384];
	struct passwd pw, *r = NULL;

	if (getpwuid_r(uid, &pw, buf, sizeof(buf), &r) != 0 || r == NULL ||
	    strlen(r->pw_name) > 64)
		return false;
	strcpy(out, r->pw_name);
	return true;
}

int users_check(uint32_t uid, const char *user, struct err *e)
{
	char buf[16384], name[65], number[16];
	struct passwd pw, *r = NULL;

	snprintf(number, sizeof(number), "%u", uid);
	if (!name_of(uid, name)) {
		/* containers run uids without an entry; such a user is called by its number */
		if (strcmp(user, number) == 0)
			return 0;
		return err_set(e, ENOENT, "uid %u (%s where the job was submitted) is unknown on this node", uid,
			       user);
	}
	if (strcmp(name, user) != 0)
		return err_set(e, EPERM, "uid %u is %s on this node, but %s where the job was submitted", uid,
			       name, user);
	if (getpwnam_r(user, &pw, buf, sizeof(buf), &r) != 0 || r == NULL || r->pw_uid != uid)
		return err_set(e, EPERM, "user %s does not have uid %u on this node", user, uid);
	return 0;
}

static struct known *cached(struct users *u, uint32_t uid)
{
	for (size_t i = 0; i < CACHE_MAX; i++)
		if (u->known[i].uid == uid && mono_before(clock_mono(), u->known[i].until))
			return &u->known[i];
	return NULL;
}

static void answer_waiters(struct users *u)
{
	list_foreach_safe(l, &u->waiting) {
		struct waiter *w = list_entry(l, struct waiter, at);
		struct known *k = cached(u, w->uid);

		if (k == NULL)
			continue;
		list_remove(&w->at);
		w->cb(w->arg, k->has_name ? k->name : NULL);
		free(w);
	}
}

static void ask(uv_work_t *req)
{
	struct question *q = list_entry(req, struct question, req);

	q->found = name_of(q->uid, q->name);
}

static void ask_more(struct users *u);

static void asked(uv_work_t *req, int status)
{
	struct question *q = list_entry(req, struct question, req);
	struct users *u = q->users;
	struct known *k = &u->known[u->next++ % CACHE_MAX];

	for (unsigned i = 0; i < u->n_asking; i++)
		if (u->asking[i] == q->uid)
			u->asking[i] = u->asking[--u->n_asking];
	*k = (struct known){ .uid = q->uid, .has_name = q->found,
			     .until = mono_add_ms(clock_mono(), q->found ? CACHE_MS : 2000) };
	strcpy(k->name, q->name);
	free(q);
	answer_waiters(u);
	ask_more(u);
}

static bool being_asked(const struct users *u, uint32_t uid)
{
	for (unsigned i = 0; i < u->n_asking; i++)
		if (u->asking[i] == uid)
			return true;
	return false;
}

static void ask_more(struct users *u)
{
	list_foreach(l, &u->waiting) {
		struct waiter *w = list_entry(l, struct waiter, at);
		struct question *q;

		if (u->n_asking == ASKING_MAX)
			return;
		if (being_asked(u, w->uid) || cached(u, w->uid) != NULL)
			continue;
		q = agent_alloc(sizeof(*q));
		q->users = u;
		q->uid = w->uid;
		u->asking[u->n_asking++] = w->uid;
		uv_queue_work(&u->io->loop, &q->req, ask, asked);
	}
}

static void on_idle(uv_idle_t *h)
{
	struct users *u = h->data;

	uv_idle_stop(h);
	answer_waiters(u);
	ask_more(u); /* an entry may have grown too old between question and answer */
}

void users_name(struct users *u, uint32_t uid, void (*cb)(void *arg, const char *name), void *arg)
{
	struct waiter *w = agent_alloc(sizeof(*w));

	*w = (struct waiter){ .uid = uid, .cb = cb, .arg = arg };
	list_append(&u->waiting, &w->at);
	if (cached(u, uid) != NULL)
		uv_idle_start(&u->idle, on_idle);
	else
		ask_more(u);
}

void users_forget(struct users *u, void *arg)
{
	list_foreach_safe(l, &u->waiting) {
		struct waiter *w = list_entry(l, struct waiter, at);

		if (w->arg == arg) {
			list_remove(&w->at);
			free(w);
		}
	}
}

int users_create(struct agent_io *io, struct users **ret)
{
	struct users *u = agent_alloc(sizeof(*u));

	u->io = io;
	list_init(&u->waiting);
	uv_idle_init(&io->loop, &u->idle);
	u->idle.data = u;
	*ret = u;
	return 0;
}

/* At exit only: the loop no longer runs, its handles need no closing. */
void users_destroy(struct users *u)
{
	if (u == NULL)
		return;
	list_foreach_safe(l, &u->waiting)
		free(list_entry(l, struct waiter, at));
	free(u);
}
