/* trainlog.c - see trainlog.h */
#include "shim/trainlog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/beside.h"

#define END_MAX 8192

struct trainlog {
	pthread_mutex_t lock;
	unsigned users; /* the owner, and the thread */
	bool reading, any;
	struct progress found;
	/* the thread's own: the file as it was met first */
	bool looked, old;
	struct stat first;
	char path[];
};

struct trainlog *trainlog_create(const char *path)
{
	struct trainlog *t = calloc(1, sizeof *t + strlen(path) + 1);

	if (!t)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	t->users = 1;
	memcpy(t->path, path, strlen(path) + 1);
	return t;
}

static void let_go(struct trainlog *t)
{
	bool last;

	pthread_mutex_lock(&t->lock);
	last = --t->users == 0;
	pthread_mutex_unlock(&t->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void trainlog_destroy(struct trainlog *t)
{
	if (t)
		let_go(t);
}

/* What lay there already is an earlier run's, until somebody writes to it. */
static bool is_old(struct trainlog *t, bool there, const struct stat *st)
{
	if (!t->looked) {
		t->looked = true;
		t->old = there;
		if (there)
			t->first = *st;
	} else if (there && t->old) {
		t->old = st->st_ino == t->first.st_ino && st->st_dev == t->first.st_dev && st->st_size == t->first.st_size &&
			 st->st_mtim.tv_sec == t->first.st_mtim.tv_sec && st->st_mtim.tv_nsec == t->first.st_mtim.tv_nsec;
	}
	return there && t->old;
}

static bool read_log(struct trainlog *t, struct progress *ret)
{
	int fd = open(t->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
	char text[END_MAX];
	ssize_t n = -1;
	struct stat st;
	bool there = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);

	if (!is_old(t, there, &st) && there)
		n = pread(fd, text, sizeof text, st.st_size > END_MAX ? st.st_size - END_MAX : 0);
	if (fd >= 0)
		close(fd);
	return n > 0 && progress_trainer_log(text, (size_t)n, ret);
}

static void *run(void *arg)
{
	struct trainlog *t = arg;
	struct progress found;
	bool any = read_log(t, &found);

	pthread_mutex_lock(&t->lock);
	t->reading = false;
	t->any = any;
	if (any)
		t->found = found;
	pthread_mutex_unlock(&t->lock);
	let_go(t);
	return NULL;
}

bool trainlog_look(struct trainlog *t, struct progress *ret)
{
	bool any, start;

	pthread_mutex_lock(&t->lock);
	any = t->any;
	if (any)
		*ret = t->found;
	start = !t->reading;
	if (start) {
		t->reading = true;
		t->users++;
	}
	pthread_mutex_unlock(&t->lock);
	if (start && !beside_start(run, t)) {
		pthread_mutex_lock(&t->lock);
		t->reading = false;
		pthread_mutex_unlock(&t->lock);
		let_go(t);
	}
	return any;
}
