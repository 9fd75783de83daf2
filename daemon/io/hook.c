/* hook.c - see hook.h */
#include "io/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/list.h"
#include "common/mono.h"
#include "io/loop_util.h"
#include "io/spawn.h"

#define LOOK_MS 20 /* whether it has ended, and whether we are to */
#define DIE_MS 1000 /* after SIGKILL: who still lives is in the kernel (state D) */
#define CLOSE_MS 2500 /* our own end waits no longer for the thread */
#define THREAD_STACK (256 << 10)

struct waiting {
	struct list entry;
	size_t len;
	char text[];
};

struct hook {
	char *path;
	hook_told told;
	void *arg;
	uv_async_t wake;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t work, gone;
	/* under the mutex */
	struct list queue;
	size_t n;
	unsigned long dropped;
	bool stop, failed, news, over; /* over: the thread touches nothing any more */
	int limit_ms;
	pid_t left; /* the thread's: it outlives SIGKILL; 0: none */
	char text[512];
};

/* ---- the thread ---------------------------------------------------------------- */

static bool stopped(struct hook *h, int *ret_limit)
{
	bool stop;

	pthread_mutex_lock(&h->mutex);
	stop = h->stop;
	*ret_limit = h->limit_ms;
	pthread_mutex_unlock(&h->mutex);
	return stop;
}

/* Not reaped, so its number and its group's are its own until we are done. True: it has ended. */
static bool wait_for(struct hook *h, pid_t pid, mono_t began)
{
	const struct timespec pause = { .tv_nsec = LOOK_MS * 1000000 };
	int limit;

	for (;;) {
		siginfo_t si = { .si_pid = 0 };

		if (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno != EINTR)
			return false;
		if (si.si_pid == pid)
			return true;
		if (stopped(h, &limit) || mono_due(mono_add_ms(began, limit), clock_mono()))
			return false;
		nanosleep(&pause, NULL);
	}
}

/* False: it does not die, and we go on without its status. */
static bool reap(pid_t pid, int *ret_status)
{
	const struct timespec pause = { .tv_nsec = LOOK_MS * 1000000 };
	mono_t until = mono_add_ms(clock_mono(), DIE_MS);

	for (;;) {
		pid_t r = waitpid(pid, ret_status, WNOHANG);

		if (r == pid || (r < 0 && errno != EINTR))
			return true;
		if (mono_due(until, clock_mono()))
			return false;
		nanosleep(&pause, NULL);
	}
}

/* While one that cannot be killed is there, no other is started: it would hang where that one does. */
static bool one_is_left(struct hook *h)
{
	if (h->left != 0 && waitpid(h->left, NULL, WNOHANG) != 0)
		h->left = 0;
	return h->left != 0;
}

static int say_left(const struct hook *h, char *out, size_t size)
{
	snprintf(out, size, "the hook %.300s (pid %d) cannot be killed: it hangs in the kernel; until it is gone no event is "
		 "told to it", h->path, (int)h->left);
	return -EIO;
}

static int say_end(struct hook *h, bool in_time, int status, char *out, size_t size)
{
	int limit;

	if (!in_time && stopped(h, &limit))
		return 0;
	if (!in_time)
		snprintf(out, size, "the hook %.300s did not end in %d s and was killed", h->path, h->limit_ms / 1000);
	else if (WIFSIGNALED(status))
		snprintf(out, size, "the hook %.300s was killed by signal %d", h->path, WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		snprintf(out, size, "the hook %.300s exited with code %d", h->path, WEXITSTATUS(status));
	else
		return 0;
	return -EIO;
}

/* The text fits a pipe, so nobody waits for a reader. SIGPIPE is ignored by the process. */
static int start(const struct hook *h, const struct waiting *w, pid_t *ret, struct err *e)
{
	char *argv[] = { h->path, NULL };
	char *env[] = { (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int p[2], r;

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot start %s: %s", h->path, strerror(errno));
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	r = spawn_program(h->path, argv, env, &(struct spawn_fd){ .from = p[0], .to = 0 }, 1, 0, 0, ret, e);
	close(p[0]);
	if (r == 0 && write(p[1], w->text, w->len) < 0 && errno != EPIPE)
		r = 0; /* it reads an empty line, and says so if it minds */
	close(p[1]);
	return r;
}

static int run(struct hook *h, const struct waiting *w, char *out, size_t size)
{
	mono_t began = clock_mono();
	struct err e;
	int status = 0;
	bool in_time;
	pid_t pid;

	if (one_is_left(h))
		return say_left(h, out, size);
	if (start(h, w, &pid, &e) < 0) {
		snprintf(out, size, "%.500s", e.text);
		return -EIO;
	}
	in_time = wait_for(h, pid, began);
	if (!in_time)
		kill(-pid, SIGKILL); /* it is the first of a session of its own */
	if (!reap(pid, &status)) {
		h->left = pid;
		return say_left(h, out, size);
	}
	return say_end(h, in_time, status, out, size);
}

/* Told when it changes, not for each event. */
static void note(struct hook *h, int r, const char *text)
{
	bool failed = r < 0 || h->dropped > 0;

	if (h->dropped > 0 && !h->failed)
		snprintf(h->text, sizeof(h->text), "the hook %.300s is too slow: %lu events were not told to it", h->path,
			 h->dropped);
	else if (failed && !h->failed)
		snprintf(h->text, sizeof(h->text), "%s", text);
	h->dropped = 0;
	if (failed == h->failed)
		return;
	h->failed = failed;
	h->news = true;
	uv_async_send(&h->wake);
}

static void *thread_main(void *arg)
{
	struct hook *h = arg;

	pthread_mutex_lock(&h->mutex);
	for (;;) {
		char text[512] = "";
		struct waiting *w;
		int r;

		while (list_empty(&h->queue) && !h->stop)
			pthread_cond_wait(&h->work, &h->mutex);
		if (h->stop)
			break;
		w = list_entry(h->queue.next, struct waiting, entry);
		list_remove(&w->entry);
		h->n--;
		pthread_mutex_unlock(&h->mutex);
		r = run(h, w, text, sizeof(text));
		free(w);
		pthread_mutex_lock(&h->mutex);
		if (!h->stop)
			note(h, r, text);
	}
	h->over = true;
	pthread_cond_signal(&h->gone);
	pthread_mutex_unlock(&h->mutex);
	return NULL;
}

/* ---- the loop -------------------------------------------------------------------- */

static void on_wake(uv_async_t *a)
{
	struct hook *h = a->data;
	char text[512];
	bool news, failed;

	pthread_mutex_lock(&h->mutex);
	news = h->news && !h->stop;
	failed = h->failed;
	h->news = false;
	memcpy(text, h->text, sizeof(text));
	pthread_mutex_unlock(&h->mutex);
	if (news)
		h->told(h->arg, failed ? text : NULL);
}

static void hook_free(struct hook *h)
{
	list_foreach_safe(e, &h->queue)
		free(list_entry(e, struct waiting, entry));
	pthread_cond_destroy(&h->gone);
	pthread_cond_destroy(&h->work);
	pthread_mutex_destroy(&h->mutex);
	free(h->path);
	free(h);
}

static int start_thread(struct hook *h)
{
	pthread_attr_t attr;
	sigset_t all, was;
	int r;

	sigfillset(&all); /* signals belong to the loop's thread */
	pthread_sigmask(SIG_SETMASK, &all, &was);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	r = pthread_create(&h->thread, &attr, thread_main, h);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return r;
}

static void on_closed(uv_handle_t *handle)
{
	hook_free(handle->data);
}

static void init_gone(struct hook *h)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->gone, &attr);
	pthread_condattr_destroy(&attr);
}

int hook_create(uv_loop_t *loop, const char *path, hook_told told, void *arg, struct hook **ret, struct err *e)
{
	struct hook *h = calloc(1, sizeof(*h));
	int r;

	if (h == NULL || (h->path = strdup(path)) == NULL) {
		free(h);
		return err_set(e, ENOMEM, "out of memory");
	}
	h->told = told;
	h->arg = arg;
	h->limit_ms = HOOK_MS;
	h->wake.data = h;
	list_init(&h->queue);
	pthread_mutex_init(&h->mutex, NULL);
	pthread_cond_init(&h->work, NULL);
	init_gone(h);
	r = uv_async_init(loop, &h->wake, on_wake);
	if (r < 0) {
		hook_free(h);
		return err_set(e, -r, "cannot prepare the hook: %s", uv_strerror(r));
	}
	uv_unref((uv_handle_t *)&h->wake);
	r = start_thread(h);
	if (r != 0) {
		uv_close((uv_handle_t *)&h->wake, on_closed);
		return err_set(e, r, "cannot start the hook's thread: %s", strerror(r));
	}
	*ret = h;
	return 0;
}

void hook_push(struct hook *h, const char *text, size_t len)
{
	struct waiting *w;

	if (h == NULL)
		return;
	w = malloc(sizeof(*w) + len);
	pthread_mutex_lock(&h->mutex);
	if (w == NULL || h->n == HOOK_QUEUE) {
		h->dropped++;
		free(w);
	} else {
		memcpy(w->text, text, len);
		w->len = len;
		list_append(&h->queue, &w->entry);
		h->n++;
		pthread_cond_signal(&h->work);
	}
	pthread_mutex_unlock(&h->mutex);
}

void hook_limit(struct hook *h, int ms)
{
	pthread_mutex_lock(&h->mutex);
	h->limit_ms = ms;
	pthread_mutex_unlock(&h->mutex);
}

/* Where the program lies may hang (a mount), and with it the thread that starts it. */
static bool thread_ends(struct hook *h)
{
	mono_t until = mono_add_ms(clock_mono(), CLOSE_MS);
	const struct timespec ts = { .tv_sec = until.ns / 1000000000, .tv_nsec = until.ns % 1000000000 };
	int r = 0;

	while (!h->over && r == 0)
		r = pthread_cond_timedwait(&h->gone, &h->mutex, &ts);
	return h->over;
}

void hook_close(struct hook *h)
{
	bool over;

	if (h == NULL)
		return;
	pthread_mutex_lock(&h->mutex);
	h->stop = true;
	pthread_cond_signal(&h->work);
	over = thread_ends(h);
	pthread_mutex_unlock(&h->mutex);
	if (over)
		pthread_join(h->thread, NULL);
	else
		pthread_detach(h->thread); /* and what it uses stays: the process is about to end */
	uv_close((uv_handle_t *)&h->wake, over ? on_closed : NULL);
}
