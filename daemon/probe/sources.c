/* sources.c - see sources.h */
#include "probe/sources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MS 50 /* between polls at least: events may come in bursts */
#define NO_MEMORY_MS 2000 /* before the next try */
#define STOP_S 3

static void readings_free(struct hw_readings *r)
{
	if (!r)
		return;
	arena_finish(&r->arena);
	free(r);
}

static void count_up(int fd)
{
	const uint64_t one = 1;

	while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void count_down(int fd)
{
	uint64_t n;

	while (read(fd, &n, sizeof n) < 0 && errno == EINTR)
		;
}

/* ---- in the source's thread ----------------------------------------------- */

static uint64_t cpu_of(clockid_t clock)
{
	struct timespec t;

	return clock_gettime(clock, &t) == 0 ? (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec : 0;
}

/* What it does next should take ms at most; -1: as long as it likes. */
static bool go_on(struct source *src, int64_t ms)
{
	bool stop;

	pthread_mutex_lock(&src->lock);
	stop = src->stop;
	src->due = ms < 0 || stop ? MONO_NEVER : mono_add_ms(hw_now(), ms);
	src->cpu_ns = cpu_of(CLOCK_THREAD_CPUTIME_ID);
	pthread_mutex_unlock(&src->lock);
	return !stop;
}

/* What polls mostly take: one that was slow is forgotten in the course of some ten. */
static void note_poll(struct source *src, int64_t ms)
{
	pthread_mutex_lock(&src->lock);
	src->usual_ms -= src->usual_ms / 8;
	if (ms > src->usual_ms)
		src->usual_ms = ms;
	pthread_mutex_unlock(&src->lock);
}

static void publish(struct source *src, struct hw_readings *r)
{
	struct hw_readings *old;

	pthread_mutex_lock(&src->lock);
	old = src->fresh;
	src->fresh = r;
	src->fresh_at = hw_now();
	pthread_mutex_unlock(&src->lock);
	readings_free(old);
	count_up(src->notify_fd);
}

static bool rest(struct source *src, void *hw, mono_t since)
{
	const struct hw_ops *ops = src->ops;
	int64_t left = ops->period_ms;

	if (left >= 0) {
		left -= mono_sub_ms(hw_now(), since);
		left = left < 0 ? 0 : left;
		if (ops->idle_ms && ops->idle_ms(hw) > left)
			left = ops->idle_ms(hw);
	}
	if (!go_on(src, left))
		return false;
	if (ops->wait)
		ops->wait(hw, src->wake_fd, (int)left);
	else
		hw_sleep(src->wake_fd, (int)left);
	return true;
}

static void poll_again(struct source *src, void *hw)
{
	while (go_on(src, 0)) {
		struct hw_readings *r = calloc(1, sizeof *r);
		mono_t since = hw_now();

		count_down(src->wake_fd);
		if (r) {
			src->ops->poll(hw, r);
			note_poll(src, mono_sub_ms(hw_now(), since));
			publish(src, r);
		}
		if (!rest(src, hw, since))
			break;
		if (mono_sub_ms(hw_now(), since) < PAUSE_MS)
			usleep(PAUSE_MS * 1000);
	}
}

static void *run(void *arg)
{
	struct source *src = arg;
	void *hw = NULL;
	char name[16];

	snprintf(name, sizeof name, "probe-%s", src->ops->name); /* as top -H shows it */
	pthread_setname_np(pthread_self(), name);
	pthread_mutex_lock(&src->lock);
	src->tid = (pid_t)syscall(SYS_gettid);
	pthread_mutex_unlock(&src->lock);
	while (!hw && go_on(src, 0)) {
		hw = src->ops->open(src->options);
		if (!hw)
			hw_sleep(src->wake_fd, NO_MEMORY_MS);
	}
	if (!hw)
		return NULL;
	poll_again(src, hw);
	src->ops->close(hw);
	return NULL;
}

/* ---- in the taker's ------------------------------------------------------- */

static int start(struct source *src)
{
	int r;

	src->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (src->wake_fd < 0)
		return -errno;
	src->due = MONO_NEVER;
	pthread_mutex_init(&src->lock, NULL);
	r = pthread_create(&src->thread, NULL, run, src);
	if (r == 0)
		return 0;
	pthread_mutex_destroy(&src->lock);
	close(src->wake_fd);
	return -r;
}

int sources_start(struct sources *s, const struct hw_ops *const *ops, const struct hw_options *o, bool again)
{
	int r = 0;

	*s = (struct sources){ .notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	if (s->notify_fd < 0)
		return -errno;
	for (; *ops && s->n < SOURCES_MAX && r == 0; ops++) {
		struct source *src = &s->list[s->n];

		*src = (struct source){ .ops = *ops, .options = o, .notify_fd = s->notify_fd, .again = again };
		r = start(src);
		if (r == 0)
			s->n++;
	}
	if (r < 0)
		sources_stop(s);
	return r;
}

/* Its thread's state, as the kernel says it: 'R' 'S' 'D' ... */
static char state_of(struct source *src)
{
	char path[64], text[512] = "", *end;
	pid_t tid;
	FILE *f;

	pthread_mutex_lock(&src->lock);
	tid = src->tid;
	pthread_mutex_unlock(&src->lock);
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return '?';
	if (!fgets(text, sizeof text, f))
		text[0] = '\0';
	fclose(f);
	end = strrchr(text, ')');
	return end && end[1] == ' ' ? end[2] : '?';
}

/* It would run, and others have the CPUs. Not so is a driver that waits in a loop. */
static bool is_starved(struct source *src, int64_t late_ms)
{
	clockid_t clock;
	uint64_t began;

	if (state_of(src) != 'R' || pthread_getcpuclockid(src->thread, &clock) != 0)
		return false;
	pthread_mutex_lock(&src->lock);
	began = src->cpu_ns;
	pthread_mutex_unlock(&src->lock);
	return cpu_of(clock) - began < (uint64_t)late_ms * 1000000 / 2;
}

static bool is_read(const struct source *src)
{
	for (size_t i = 0; src->taken && i < src->taken->n_sources; i++)
		if (src->taken->sources[i].ok)
			return true;
	return false;
}

/* Without readings it is at its start: its driver may be, too. */
static bool is_starting(const struct source *src)
{
	return !src->again && !is_read(src);
}

static int64_t stuck_after(const struct source *src)
{
	return is_starting(src) ? SOURCE_START_MS : SOURCE_STUCK_MS;
}

static int64_t late_after(struct source *src)
{
	int64_t ms;

	pthread_mutex_lock(&src->lock);
	ms = SOURCE_LATE_TIMES * src->usual_ms;
	pthread_mutex_unlock(&src->lock);
	if (is_starting(src) || ms > SOURCE_STUCK_MS)
		return SOURCE_STUCK_MS;
	return ms < SOURCE_LATE_MS ? SOURCE_LATE_MS : ms;
}

/* Twice, for whoever was frozen with the whole process goes on with it. */
static bool is_late(struct source *src, mono_t due, mono_t now)
{
	if (mono_is_never(due) || mono_sub_ms(now, due) < late_after(src) || (src->again && !is_read(src)))
		return false;
	if (src->late_due.ns != due.ns) {
		src->late_due = due;
		src->late_look = mono_add_ms(now, SOURCE_LOOK_MS);
	}
	if (!mono_due(src->late_look, now))
		return false;
	return src->late || !is_starved(src, mono_sub_ms(now, due));
}

static mono_t due_of(struct source *src)
{
	mono_t due;

	pthread_mutex_lock(&src->lock);
	due = src->due;
	pthread_mutex_unlock(&src->lock);
	return due;
}

static bool take(struct source *src, mono_t now)
{
	struct hw_readings *r;
	bool stuck, late;
	mono_t due;

	pthread_mutex_lock(&src->lock);
	due = src->due;
	r = src->fresh;
	src->fresh = NULL;
	if (r)
		src->taken_at = src->fresh_at;
	pthread_mutex_unlock(&src->lock);
	if (r) {
		readings_free(src->taken);
		src->taken = r;
	}
	src->again = src->again && !is_read(src);
	src->stuck_since = due;
	stuck = !mono_is_never(due) && mono_sub_ms(now, due) >= stuck_after(src);
	late = !stuck && is_late(src, due, now);
	if (!r && stuck == src->stuck && late == src->late)
		return false;
	src->stuck = stuck;
	src->late = late;
	src->in_kernel = src->in_kernel && stuck;
	return true;
}

mono_t sources_look(struct sources *s, mono_t now)
{
	mono_t first = MONO_NEVER;

	for (size_t i = 0; i < s->n; i++) {
		struct source *src = &s->list[i];
		mono_t due = due_of(src), at;

		if (src->stuck || mono_is_never(due))
			continue;
		at = mono_add_ms(due, src->late ? stuck_after(src) : late_after(src));
		if (!mono_before(now, at)) /* seen once, or starved */
			at = mono_add_ms(now, SOURCE_LOOK_MS);
		if (mono_before(at, first))
			first = at;
	}
	return first;
}

bool sources_take(struct sources *s, mono_t now)
{
	bool any = false;

	count_down(s->notify_fd);
	for (size_t i = 0; i < s->n; i++)
		any = take(&s->list[i], now) || any;
	return any;
}

/* Who has just come back from there is about to answer. */
static bool is_held(struct source *src, mono_t now)
{
	src->in_kernel = state_of(src) == 'D';
	if (src->in_kernel)
		src->thawed = mono_add_ms(now, SOURCE_STUCK_MS);
	return mono_before(now, src->thawed);
}

const char *sources_overdue(struct sources *s, int64_t patience_ms, mono_t now)
{
	const char *name = NULL;
	bool held = false;

	for (size_t i = 0; i < s->n; i++) {
		struct source *src = &s->list[i];

		if (!src->stuck || mono_sub_ms(now, src->stuck_since) < patience_ms)
			continue;
		held = is_held(src, now) || held;
		name = src->ops->name;
	}
	return held ? NULL : name;
}

bool sources_complete(const struct sources *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (!s->list[i].taken)
			return false;
	return true;
}

void sources_wake(struct source *src)
{
	count_up(src->wake_fd);
}

static void release(struct source *src)
{
	readings_free(src->fresh);
	readings_free(src->taken);
	pthread_mutex_destroy(&src->lock);
	close(src->wake_fd);
}

bool sources_stop(struct sources *s)
{
	struct timespec until;

	for (size_t i = 0; i < s->n; i++) {
		pthread_mutex_lock(&s->list[i].lock);
		s->list[i].stop = true;
		pthread_mutex_unlock(&s->list[i].lock);
		sources_wake(&s->list[i]);
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_S;
	for (size_t i = 0; i < s->n; i++)
		if (pthread_timedjoin_np(s->list[i].thread, NULL, &until) != 0)
			return false;
	for (size_t i = 0; i < s->n; i++)
		release(&s->list[i]);
	close(s->notify_fd);
	s->n = 0;
	return true;
}
