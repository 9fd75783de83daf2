/* kmsg.c - the kernel's log: what may end processes, and what tells of broken hardware
 *
 * From its present end on; the last HW_EVENTS_MAX that say something are kept.
 * Reading needs a right that an agent may not have (kernel.dmesg_restrict, or
 * the mode of /dev/kmsg): that is said, and is no fault.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hw/counters.h"
#include "hw/kmsg_text.h"

#define RECORD_MAX 8192 /* the kernel gives one record a read, at most this long */
#define FILE_MS 100 /* a plain file (tests) cannot be polled */
#define PERIOD_MS 5000
#define REPEAT_MS 600000 /* the same of the same device is told again after this */
#define STORM_MS 3600000
#define HEAT_MS 10000 /* each CPU of a package says it, dozens of lines for one moment of heat */
#define STORM 10 /* of what is harmless alone so many in an hour are told, then 100, 1000 ... */
#define REPEATS_MAX 32

/* Lines of one kind about one device. */
struct repeat {
	const char *kind; /* NULL: not in use */
	char what[65];
	mono_t since, told;
	unsigned n, next; /* of a storm: lines since then; how many will be told */
};

struct kmsg {
	const char *path;
	int fd; /* -1: not open */
	int error; /* why */
	bool plain; /* a file: lines, not records */
	char line[RECORD_MAX]; /* of a file: what has no end yet */
	size_t have;
	struct hw_event events[HW_EVENTS_MAX];
	size_t n;
	int64_t last_us;
	struct repeat repeats[REPEATS_MAX];
};

static void try_open(struct kmsg *k)
{
	struct stat st;

	k->fd = open(k->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	k->error = k->fd < 0 ? errno : 0;
	if (k->fd < 0)
		return;
	k->plain = fstat(k->fd, &st) == 0 && S_ISREG(st.st_mode);
	lseek(k->fd, 0, SEEK_END);
}

static void *kmsg_open(const struct hw_options *o)
{
	struct kmsg *k = calloc(1, sizeof *k);

	if (!k)
		return NULL;
	k->path = o->kmsg ? o->kmsg : "/dev/kmsg";
	try_open(k);
	return k;
}

static void kmsg_close(void *source)
{
	struct kmsg *k = source;

	if (k->fd >= 0)
		close(k->fd);
	free(k);
}

static bool limited(const char *kind)
{
	static const char *const whole[] = { "oom", "oom-job", "xid", "fault", "port" };

	for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
		if (strcmp(kind, whole[i]) == 0)
			return false;
	return true;
}

/* The one of this event; else the one that was told longest ago is given up. */
static struct repeat *repeat_of(struct kmsg *k, const struct hw_event *e, mono_t now)
{
	const char *what = e->pci[0] ? e->pci : e->device;
	struct repeat *oldest = &k->repeats[0];

	for (size_t i = 0; i < REPEATS_MAX; i++) {
		struct repeat *r = &k->repeats[i];

		if (r->kind && strcmp(r->kind, e->kind) == 0 && strcmp(r->what, what) == 0)
			return r;
		if (!r->kind || (oldest->kind && mono_before(r->since, oldest->since)))
			oldest = r;
	}
	*oldest = (struct repeat){ .kind = e->kind, .since = now, .next = STORM };
	hw_copy(oldest->what, sizeof oldest->what, what);
	return oldest;
}

/* A broken device fills the log with the same; a few of them say it as well. */
static bool is_to_be_told(struct kmsg *k, struct hw_event *e)
{
	mono_t now = hw_now();
	struct repeat *r;

	if (!limited(e->kind))
		return true;
	r = repeat_of(k, e, now);
	if (!kmsg_is_storm(e->kind)) {
		if (r->n > 0 && mono_sub_ms(now, r->told) < REPEAT_MS)
			return false;
		r->n = 1;
		r->told = r->since = now;
		return true;
	}
	if (mono_sub_ms(now, r->since) >= STORM_MS) {
		r->since = now;
		r->n = 0;
		r->next = STORM;
	}
	if (strcmp(e->kind, "heat") == 0 && r->n > 0 && mono_sub_ms(now, r->told) < HEAT_MS)
		return false;
	r->told = now;
	if (++r->n < r->next)
		return false;
	r->next *= 10;
	hw_remark(e->text, sizeof e->text, "%u such lines within %d min", r->n, (int)(mono_sub_ms(now, r->since) / 60000) + 1);
	return true;
}

static void keep(struct kmsg *k, const char *line, size_t len)
{
	struct hw_event e;
	int64_t at;

	if (!kmsg_parse(line, len, &e, &at))
		return;
	if (strcmp(e.kind, "complaint") == 0) {
		counters_complain(e.pci);
		return;
	}
	if (!is_to_be_told(k, &e))
		return;
	e.mono_us = hw_now().ns / 1000;
	if (e.mono_us <= k->last_us)
		e.mono_us = k->last_us + 1;
	k->last_us = e.mono_us;
	if (k->n == HW_EVENTS_MAX)
		memmove(&k->events[0], &k->events[1], --k->n * sizeof(e));
	k->events[k->n++] = e;
}

static void keep_lines(struct kmsg *k)
{
	char *nl, *p = k->line;

	while ((nl = memchr(p, '\n', k->have - (size_t)(p - k->line)))) {
		keep(k, p, (size_t)(nl - p));
		p = nl + 1;
	}
	k->have -= (size_t)(p - k->line);
	memmove(k->line, p, k->have);
	if (k->have == sizeof k->line)
		k->have = 0; /* no line of a log */
}

/* What was overwritten before we came (EPIPE) is lost; the next read goes on behind it. */
static void read_all(struct kmsg *k)
{
	for (;;) {
		ssize_t n = read(k->fd, k->line + k->have, sizeof k->line - k->have);

		if (n < 0 && (errno == EINTR || errno == EPIPE))
			continue;
		if (n < 0 && errno != EAGAIN) {
			k->error = errno;
			close(k->fd);
			k->fd = -1;
		}
		if (n <= 0)
			return;
		if (k->plain) {
			k->have += (size_t)n;
			keep_lines(k);
		} else {
			keep(k, k->line, (size_t)n);
		}
	}
}

static void kmsg_poll(void *source, struct hw_readings *ret)
{
	struct kmsg *k = source;
	struct hw_source *line = &ret->sources[ret->n_sources++];

	if (k->fd < 0)
		try_open(k);
	if (k->fd >= 0)
		read_all(k);
	if (k->fd >= 0) {
		hw_say(line, "kmsg", true, NULL);
	} else {
		hw_say(line, "kmsg", false, "%s: %s; causes of ends are looked for elsewhere", k->path, strerror(k->error));
		line->absent = true;
	}
	if (k->n > 0)
		ret->events = arena_memdup(&ret->arena, k->events, k->n * sizeof(k->events[0]));
	ret->n_events = ret->events ? k->n : 0;
}

static bool kmsg_wait(void *source, int wake_fd, int timeout_ms)
{
	struct kmsg *k = source;
	struct pollfd fds[2] = { { .fd = wake_fd, .events = POLLIN }, { .fd = k->fd, .events = POLLIN } };
	struct stat st;

	if (k->fd < 0 || !k->plain) {
		poll(fds, k->fd < 0 ? 1 : 2, timeout_ms);
		return k->fd >= 0 && fds[1].revents != 0;
	}
	for (int ms = 0; ms < timeout_ms; ms += FILE_MS) {
		if (poll(fds, 1, FILE_MS) != 0)
			return false;
		if (fstat(k->fd, &st) != 0 || st.st_size != lseek(k->fd, 0, SEEK_CUR))
			return true;
	}
	return false;
}

const struct hw_ops hw_kmsg = {
	.name = "kmsg",
	.period_ms = PERIOD_MS,
	.open = kmsg_open,
	.poll = kmsg_poll,
	.wait = kmsg_wait,
	.close = kmsg_close,
};
