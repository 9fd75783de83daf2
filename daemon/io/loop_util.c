/* loop_util.c - clocks, randomness, one deadline, the parent's pipe */
#include "io/loop_util.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"

mono_t clock_mono(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_t){ (int64_t)t.tv_sec * 1000000000 + t.tv_nsec };
}

int64_t clock_boot_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_wall_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_wall_ms(void)
{
	return clock_wall_us() / 1000;
}

void random_fill(void *p, size_t n)
{
	char *c = p;

	while (n > 0) {
		ssize_t k = getrandom(c, n, 0);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			log_error("the kernel gives no random numbers: %s", strerror(errno));
			abort();
		}
		c += k;
		n -= (size_t)k;
	}
}

/* ---- begin --------------------------------------------------------------- */

#define POOL_MAX 1024 /* libuv's own limit */
#define LOOP_PIPES 3 /* a pipe for signal handlers, one for the loop's signals, and as many for epoll and eventfd */

int loop_begin(uv_loop_t *loop, struct err *e)
{
	int fds[LOOP_PIPES][2], n = 0, error = 0, r;

	while (n < LOOP_PIPES && error == 0) {
		if (pipe2(fds[n], O_CLOEXEC) == 0)
			n++;
		else
			error = errno;
	}
	while (n-- > 0) {
		close(fds[n][0]);
		close(fds[n][1]);
	}
	if (error == 0 && (r = uv_loop_init(loop)) < 0)
		error = -r;
	return error == 0 ? 0 : err_set(e, error, "cannot start: %s", strerror(error));
}

/* ---- deadline ----------------------------------------------------------- */

static void on_due(uv_timer_t *t)
{
	struct deadline_timer *d = t->data;

	d->armed = MONO_NEVER;
	d->due(d->arg);
}

void deadline_init(uv_loop_t *loop, struct deadline_timer *d, void (*due)(void *arg), void *arg)
{
	uv_timer_init(loop, &d->timer);
	d->timer.data = d;
	d->armed = MONO_NEVER;
	d->due = due;
	d->arg = arg;
}

void deadline_arm(struct deadline_timer *d, mono_t when)
{
	int64_t ns;

	if (when.ns == d->armed.ns)
		return;

	d->armed = when;
	if (mono_is_never(when)) {
		uv_timer_stop(&d->timer);
		return;
	}
	/* Rounded up: a timer that fires too early would find nothing due. */
	ns = when.ns - clock_mono().ns;
	uv_update_time(d->timer.loop);
	uv_timer_start(&d->timer, on_due, ns > 0 ? (uint64_t)(ns + 999999) / 1000000 : 0, 0);
}

/* ---- parent, ready ------------------------------------------------------ */

static void on_parent(uv_poll_t *p, int status, int events)
{
	/* At once, by design: whatever we were about to do, the next life of
	 * this cluster starts from what is on disk. */
	log_warn("the supervisor is gone: exiting, jobs stay");
	_exit(0);
}

void parent_watch(uv_loop_t *loop, uv_poll_t *poll, int fd)
{
	if (fd < 0 || uv_poll_init(loop, poll, fd) < 0)
		return;

	uv_poll_start(poll, UV_READABLE | UV_DISCONNECT, on_parent);
	uv_unref((uv_handle_t *)poll);
}

void ready_tell(int fd, const char *line)
{
	size_t n = strlen(line);

	if (fd < 0)
		return;

	if (write(fd, line, n) != (ssize_t)n)
		log_warn("cannot tell the supervisor that we are ready: %s", strerror(errno));
	close(fd);
}

/* ---- end ---------------------------------------------------------------- */

static void on_limit(uv_timer_t *t)
{
	uv_stop(t->loop);
}

void loop_finish(uv_loop_t *loop, unsigned limit_ms)
{
	uv_timer_t limit;

	uv_timer_init(loop, &limit);
	uv_unref((uv_handle_t *)&limit); /* ends a wait, is none */
	uv_timer_start(&limit, on_limit, limit_ms, 0);
	uv_run(loop, UV_RUN_NOWAIT); /* uses up an earlier uv_stop() */
	uv_run(loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&limit, NULL);
	uv_run(loop, UV_RUN_NOWAIT);
	(void)uv_loop_close(loop);
}

/* One for each thread of the pool: when all stand at it, nothing that was queued before is left. */
static struct fence {
	uv_mutex_t lock;
	uv_cond_t all_there;
	unsigned n, there;
	uint64_t until_ns;
} fence;

static bool stand(void)
{
	uint64_t now = uv_hrtime();

	while (fence.there < fence.n && now < fence.until_ns) {
		uv_cond_timedwait(&fence.all_there, &fence.lock, fence.until_ns - now);
		now = uv_hrtime();
	}
	return fence.there == fence.n;
}

static void fence_work(uv_work_t *req)
{
	(void)req;
	uv_mutex_lock(&fence.lock);
	if (++fence.there == fence.n)
		uv_cond_broadcast(&fence.all_there);
	stand();
	uv_mutex_unlock(&fence.lock);
}

static unsigned pool_size(void)
{
	const char *v = getenv("UV_THREADPOOL_SIZE"); /* as libuv reads it */
	int n = v != NULL ? atoi(v) : 4;

	return n < 1 ? 1 : n > POOL_MAX ? POOL_MAX : (unsigned)n;
}

bool pool_settle(uv_loop_t *loop, unsigned limit_ms)
{
	static uv_work_t reqs[POOL_MAX]; /* threads may come to them when this has returned */
	bool all;

	uv_mutex_init(&fence.lock);
	uv_cond_init(&fence.all_there);
	fence.n = pool_size();
	fence.there = 0;
	fence.until_ns = uv_hrtime() + (uint64_t)limit_ms * 1000000;
	for (unsigned i = 0; i < fence.n; i++)
		uv_queue_work(loop, &reqs[i], fence_work, NULL);
	uv_mutex_lock(&fence.lock);
	all = stand();
	uv_mutex_unlock(&fence.lock);
	return all;
}

void memory_frugal(void)
{
	/* Bulk buffers stay in the heap while bulk flows (a fresh mapping for each
	 * costs its page faults); hub.c gives the heap back when it has ended. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
}
