/* usernames.c - see usernames.h */
#include "hw/usernames.h"

#include <pthread.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hw/hw.h"

#define CACHED 128
#define KEEP_MS 600000
#define FIRST_WAIT_NS 50000000

struct entry {
	uint32_t uid;
	bool asked; /* an answer is awaited */
	mono_t until;
	char name[65];
};

struct usernames {
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	struct entry entries[CACHED];
	size_t n;
	unsigned refs; /* whoever is last frees it */
	bool over;
};

/* Unlocks, and frees when nobody else holds it. */
static void drop(struct usernames *u)
{
	bool last = --u->refs == 0;

	pthread_mutex_unlock(&u->lock);
	if (!last)
		return;
	pthread_cond_destroy(&u->work);
	pthread_cond_destroy(&u->done);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static struct entry *find(struct usernames *u, uint32_t uid)
{
	for (size_t i = 0; i < u->n; i++)
		if (u->entries[i].uid == uid)
			return &u->entries[i];
	return NULL;
}

static struct entry *next_asked(struct usernames *u)
{
	for (size_t i = 0; i < u->n; i++)
		if (u->entries[i].asked)
			return &u->entries[i];
	return NULL;
}

static void look_up(uint32_t uid, char out[65])
{
	char text[4096];
	struct passwd pw, *found = NULL;

	out[0] = '\0';
	if (getpwuid_r(uid, &pw, text, sizeof text, &found) == 0 && found)
		hw_copy(out, 65, found->pw_name);
}

static void *answer(void *arg)
{
	struct usernames *u = arg;
	struct entry *e;
	char name[65];

	pthread_mutex_lock(&u->lock);
	while (!u->over) {
		uint32_t uid;

		e = next_asked(u);
		if (!e) {
			pthread_cond_wait(&u->work, &u->lock);
			continue;
		}
		uid = e->uid;
		pthread_mutex_unlock(&u->lock);
		look_up(uid, name);
		pthread_mutex_lock(&u->lock);
		e = find(u, uid); /* entries may have moved meanwhile */
		if (e) {
			e->asked = false;
			e->until = mono_add_ms(hw_now(), KEEP_MS);
			memcpy(e->name, name, sizeof name);
		}
		pthread_cond_broadcast(&u->done);
	}
	drop(u);
	return NULL;
}

static bool start(struct usernames *u)
{
	pthread_attr_t a;
	pthread_t t;
	bool ok;

	pthread_attr_init(&a);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	ok = pthread_create(&t, &a, answer, u) == 0;
	pthread_attr_destroy(&a);
	return ok;
}

struct usernames *usernames_new(void)
{
	struct usernames *u = calloc(1, sizeof *u);
	pthread_condattr_t a;

	if (!u)
		return NULL;
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->work, NULL);
	pthread_cond_init(&u->done, &a);
	pthread_condattr_destroy(&a);
	u->refs = 2;
	if (!start(u)) {
		u->refs = 1;
		usernames_free(u);
		return NULL;
	}
	return u;
}

void usernames_free(struct usernames *u)
{
	if (!u)
		return;
	pthread_mutex_lock(&u->lock);
	u->over = true;
	pthread_cond_signal(&u->work);
	drop(u);
}

static struct entry *ask(struct usernames *u, uint32_t uid)
{
	struct entry *e;

	if (u->n == CACHED) /* more users than anybody has: begin anew */
		u->n = 0;
	e = &u->entries[u->n++];
	*e = (struct entry){ .uid = uid, .asked = true };
	return e;
}

static void wait_for(struct usernames *u, uint32_t uid)
{
	struct timespec until;
	struct entry *e;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += FIRST_WAIT_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while ((e = find(u, uid)) && e->asked)
		if (pthread_cond_timedwait(&u->done, &u->lock, &until) != 0)
			return;
}

void usernames_get(struct usernames *u, uint32_t uid, char *out, size_t size)
{
	struct entry *e;

	out[0] = '\0';
	if (!u)
		return;
	pthread_mutex_lock(&u->lock);
	e = find(u, uid);
	if (!e) {
		ask(u, uid);
		pthread_cond_signal(&u->work);
		wait_for(u, uid);
	} else if (!e->asked && mono_due(e->until, hw_now())) {
		e->asked = true; /* the old name will do until then */
		pthread_cond_signal(&u->work);
	}
	e = find(u, uid);
	if (e)
		hw_copy(out, size, e->name);
	pthread_mutex_unlock(&u->lock);
}
