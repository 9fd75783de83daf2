/* flight.c - see flight.h */
#include "shim/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shim/beside.h"
#include "shim/env.h"
#include "shim/reader.h"

#define LOOK_MS 100
#define STEMS 3

struct flight {
	struct beside b; /* users: the thread, and the owner */
	bool asked; /* a thread is under way */
	bool answered;
	struct flight_rank v[FLIGHT_RANKS];
	size_t n;
};

struct task {
	struct flight *f;
	char pipe[PATH_MAX], stems[STEMS][PATH_MAX]; /* "": none */
	struct flight_rank v[FLIGHT_RANKS];
	size_t n;
	struct timespec old[FLIGHT_RANKS][STEMS]; /* of dumps of before, which are old news; 0: there was none */
};

struct flight *flight_create(void)
{
	struct flight *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	if (beside_open(&f->b))
		return f;
	free(f);
	return NULL;
}

static void let_go(struct flight *f)
{
	if (beside_let_go(&f->b))
		free(f);
}

void flight_destroy(struct flight *f)
{
	if (f)
		let_go(f);
}

int flight_fd(const struct flight *f)
{
	return f->b.fd;
}

/* ---- in the thread ------------------------------------------------------------------ */

/* Only a FIFO of our own user that somebody reads: never anything else is written to. */
static bool ring(const char *stem, uint32_t rank)
{
	char path[PATH_MAX + 32];
	bool rung = false;
	struct stat st;
	int fd;

	snprintf(path, sizeof path, "%s%u.pipe", stem, rank);
	fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && st.st_uid == geteuid())
		rung = write(fd, "1", 1) == 1;
	close(fd);
	return rung;
}

/* A file server stamps by its own clock, so a time is compared with no other than that of the dump before. */
static void note_old(const char *stem, uint32_t rank, struct timespec *ret)
{
	char path[PATH_MAX + 32];
	struct stat st;

	snprintf(path, sizeof path, "%s%u", stem, rank);
	if (stem[0] != '\0' && stat(path, &st) == 0)
		*ret = st.st_mtim;
}

/* One that is still being written does not parse, and is looked at again. Two of the places are in /tmp, where
 * another user may have put something. */
static bool look(const char *stem, const struct timespec *old, struct flight_rank *r)
{
	char path[PATH_MAX + 32];
	struct stat st;
	size_t n = 0;
	char *p;

	snprintf(path, sizeof path, "%s%u", stem, r->rank);
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_size > TORCH_FLIGHT_MAX ||
	    (st.st_mtim.tv_sec == old->tv_sec && st.st_mtim.tv_nsec == old->tv_nsec))
		return false;
	p = reader_tail(path, TORCH_FLIGHT_MAX, &n);
	r->have = p && torch_flight_parse((const uint8_t *)p, n, &r->last) == 0;
	free(p);
	return r->have;
}

/* True: some are still to come. */
static bool look_at_all(struct task *t)
{
	bool more = false;

	for (size_t i = 0; i < t->n; i++) {
		for (size_t k = 0; k < STEMS && t->v[i].asked && !t->v[i].have; k++)
			if (t->stems[k][0] != '\0' && look(t->stems[k], &t->old[i][k], &t->v[i]))
				break;
		more = more || (t->v[i].asked && !t->v[i].have);
	}
	return more;
}

static void ask_all(struct task *t)
{
	struct timespec nap = { 0, LOOK_MS * 1000000L };
	int left = FLIGHT_MS / LOOK_MS;
	bool any = false;

	for (size_t i = 0; i < t->n; i++)
		for (size_t k = 0; k < STEMS; k++)
			note_old(t->stems[k], t->v[i].rank, &t->old[i][k]);
	for (size_t i = 0; i < t->n; i++)
		any = (t->v[i].asked = ring(t->pipe, t->v[i].rank)) || any;
	while (any && left-- > 0 && look_at_all(t))
		nanosleep(&nap, NULL);
}

static void *run(void *arg)
{
	struct task *t = arg;
	struct flight *f = t->f;

	ask_all(t);
	pthread_mutex_lock(&f->b.lock);
	memcpy(f->v, t->v, sizeof f->v);
	f->n = t->n;
	f->answered = true;
	beside_ring(&f->b);
	pthread_mutex_unlock(&f->b.lock);
	free(t);
	let_go(f);
	return NULL;
}

/* ---- in the loop ------------------------------------------------------------------------ */

static const char *first_of(const char *const *env, const char *a, const char *b)
{
	const char *v = env_get(env, a);

	return v && *v ? v : env_get(env, b);
}

const char *flight_off(const char *const *env)
{
	const char *size = first_of(env, "TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE");
	const char *pipe = env_get(env, "TORCH_NCCL_DEBUG_INFO_PIPE_FILE");

	if (size && *size && strtol(size, NULL, 10) <= 0)
		return "PyTorch's flight recorder is off: the job's environment says so";
	if (!pipe || pipe[0] != '/')
		return "PyTorch's flight recorder cannot be asked: the job does not set TORCH_NCCL_DEBUG_INFO_PIPE_FILE=/PATH";
	return NULL;
}

/* Where PyTorch writes dumps: as told, or its defaults, which have changed. */
static void fill_stems(struct task *t, const char *const *env)
{
	const char *own = first_of(env, "TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE");
	const char *cache = env_get(env, "XDG_CACHE_HOME"), *home = env_get(env, "HOME");

	if (own && *own) {
		snprintf(t->stems[0], sizeof t->stems[0], "%s", own);
		return;
	}
	if (cache && *cache)
		snprintf(t->stems[0], sizeof t->stems[0], "%s/torch/comm_lib_trace_rank_", cache);
	else if (home && *home)
		snprintf(t->stems[0], sizeof t->stems[0], "%s/.cache/torch/comm_lib_trace_rank_", home);
	snprintf(t->stems[1], sizeof t->stems[1], "/tmp/nccl_trace_rank_");
	snprintf(t->stems[2], sizeof t->stems[2], "/tmp/comm_lib_trace_rank_");
}

bool flight_ask(struct flight *f, const char *const *env, const struct flight_rank *v, size_t n)
{
	struct task *t = f->asked ? NULL : calloc(1, sizeof *t);

	if (!t)
		return false;
	t->f = f;
	t->n = n < FLIGHT_RANKS ? n : FLIGHT_RANKS;
	memcpy(t->v, v, t->n * sizeof *v);
	snprintf(t->pipe, sizeof t->pipe, "%s", env_get(env, "TORCH_NCCL_DEBUG_INFO_PIPE_FILE"));
	fill_stems(t, env);
	beside_hold(&f->b);
	f->asked = true;
	if (beside_start(run, t))
		return true;
	f->asked = false;
	let_go(f);
	free(t);
	return false;
}

bool flight_take(struct flight *f, struct flight_rank ret[FLIGHT_RANKS], size_t *ret_n)
{
	bool any;

	beside_heard(&f->b);
	pthread_mutex_lock(&f->b.lock);
	any = f->answered;
	if (any) {
		memcpy(ret, f->v, sizeof f->v);
		*ret_n = f->n;
		f->answered = f->asked = false;
	}
	pthread_mutex_unlock(&f->b.lock);
	return any;
}
