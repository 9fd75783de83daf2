/* spools.c - see spools.h
 *
 * By age nothing is removed for a day after the wall clock has jumped: the times
 * of files are the wall clock's, and a wrong one must not empty the spool.
 */
#include "io/spools.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "io/launcher_client.h"
#include "io/spools_disk.h"

#define LOOK_MS 10000 /* while jobs are here */
#define SOON_MS 1000 /* after one has ended */
#define IDLE_MS 3600000
#define JUMP_MS 600000 /* of the wall clock, between two looks */
#define TRUST_MS 86400000
#define LEAST (64u << 10) /* that a job may keep, however many there are */
#define TELL_MS 600000
#define TELL_AGAIN_MS 3600000
#define REMOVE_MAX 16 /* at a time, by the launcher */

struct spools {
	struct agent_io *io;
	uint64_t per_job, per_node;
	unsigned told_jobs; /* shims were told their share of so many */
	uv_timer_t timer;
	uv_work_t req;
	bool busy; /* a pool thread looks, or removes */
	struct spool_live *live;
	size_t n_live;
	struct spool_list now, next;
	int rc;
	bool in_trouble;
	mono_t told_at; /* of it, or of its end */
	unsigned untold; /* times that it went wrong since */
	unsigned removing; /* asked of the launcher */
	int64_t offset_ms; /* wall clock minus monotonic clock, at the last look */
	bool have_offset;
	mono_t trust_from; /* the wall clock tells ages again */
};

/* ---- shares ---------------------------------------------------------------- */

static uint64_t share(const struct spools *s)
{
	uint64_t n = s->io->n_jobs > 0 ? s->io->n_jobs : 1, each = s->per_node / n;

	if (s->per_job < each)
		each = s->per_job;
	return each > LEAST ? each : LEAST;
}

static void tell(const struct spools *s, struct conn *shim)
{
	struct msg m;

	msg_init(&m, MSG_shim_spool);
	m.u.shim_spool.keep = share(s);
	conn_send(shim->link, &m);
}

void spools_shim_up(struct spools *s, struct conn *shim)
{
	tell(s, shim);
}

static void tell_all(struct spools *s)
{
	s->told_jobs = s->io->n_jobs;
	list_foreach(e, &s->io->conns) {
		struct conn *c = list_entry(e, struct conn, at);

		if (c->kind == LINK_SHIM && c->up && c->link != NULL)
			tell(s, c);
	}
}

/* ---- looking ----------------------------------------------------------------- */

static void collect(void *arg, uint64_t job, uint32_t attempt, const char *phase)
{
	struct spools *s = arg;

	(void)phase;
	s->live[s->n_live++] = (struct spool_live){ job, attempt };
}

static void count(void *arg, uint64_t job, uint32_t attempt, const char *phase)
{
	(void)job;
	(void)attempt;
	(void)phase;
	++*(size_t *)arg;
}

/* All that core or io still keep something of; its status file may be needed. */
static void collect_live(struct spools *s)
{
	size_t n = s->io->n_jobs + 1;

	agent_each_job(s->io->core, count, &n);
	free(s->live);
	s->live = agent_alloc(n * sizeof(*s->live));
	s->n_live = 0;
	agent_each_job(s->io->core, collect, s);
	list_foreach(e, &s->io->jobs) {
		const struct job_io *j = list_entry(e, struct job_io, at);

		s->live[s->n_live++] = (struct spool_live){ j->job, j->attempt };
	}
}

static void again(struct spools *s, uint64_t ms);

static void look_work(uv_work_t *req)
{
	struct spools *s = list_entry(req, struct spools, req);

	s->rc = spools_scan(s->io->opts->spool_dir, s->live, s->n_live, &s->now, &s->next);
}

/* Since the last look it has run as the monotonic clock has. */
static int64_t too_old(struct spools *s)
{
	int64_t wall = clock_wall_ms(), offset = wall - clock_mono().ns / 1000000;
	mono_t now = clock_mono();

	if (s->have_offset && llabs(offset - s->offset_ms) > JUMP_MS) {
		s->trust_from = mono_add_ms(now, TRUST_MS);
		log_warn("the wall clock has jumped: for a day no output is removed for its age");
	}
	s->have_offset = true;
	s->offset_ms = offset;
	if (s->io->opts->spool_keep_ms == 0 || !mono_due(s->trust_from, now))
		return 0;
	return wall - (int64_t)s->io->opts->spool_keep_ms;
}

/* The core's word of now: a job may have come since the look began. */
static bool lives_now(struct spools *s, const struct spool_dir *d)
{
	for (size_t i = 0; i < s->n_live; i++)
		if (s->live[i].job == d->job && s->live[i].attempt == d->attempt)
			return d->kind == SPOOL_ATTEMPT;
	return false;
}

static void say_removed(const struct spools *s)
{
	uint64_t bytes = 0;
	unsigned n = 0;

	for (size_t i = 0; i < s->now.n; i++)
		if (s->now.v[i].goes) {
			bytes += s->now.v[i].bytes;
			n++;
		}
	log_info("output of %u ended attempt%s (%.1f MB) is removed: older than spool_keep, or all takes more than "
		 "spool_per_node (%.1f MB)", n, n == 1 ? "" : "s", (double)bytes / 1e6, (double)s->per_node / 1e6);
}

/* ---- removing ----------------------------------------------------------------- */

/* What goes wrong each minute is said once an hour, and that it goes well again: once
 * it did, and then not before TELL_MS, lest a disk that comes and goes fills the log. */
static void trouble(struct spools *s, const char *text)
{
	mono_t now = clock_mono();
	char more[48] = "";

	s->untold++;
	if (s->told_at.ns != 0 && mono_sub_ms(now, s->told_at) < (s->in_trouble ? TELL_AGAIN_MS : TELL_MS))
		return;
	if (s->untold > 1)
		snprintf(more, sizeof(more), " (%u times since it was said last)", s->untold);
	log_warn("%s%s", text, more);
	s->in_trouble = true;
	s->told_at = now;
	s->untold = 0;
}

static void no_trouble(struct spools *s)
{
	if (!s->in_trouble)
		return;
	log_info("old output can be removed from %.100s again", s->io->opts->spool_dir);
	s->in_trouble = false;
	s->told_at = clock_mono();
	s->untold = 0;
}

static void remove_work(uv_work_t *req)
{
	struct spools *s = list_entry(req, struct spools, req);
	int root = open(s->io->opts->spool_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct err e;

	s->rc = root >= 0 ? 0 : -errno;
	for (size_t i = 0; root >= 0 && i < s->now.n; i++) {
		const struct spool_dir *d = &s->now.v[i];

		if (d->goes && spool_remove(root, d->job, d->attempt, d->kind, &e) != 0)
			s->rc = e.code;
	}
	if (root >= 0)
		close(root);
}

static void removed(uv_work_t *req, int status)
{
	struct spools *s = list_entry(req, struct spools, req);
	char text[200];

	(void)status;
	s->busy = false;
	if (s->rc != 0) {
		snprintf(text, sizeof(text), "old output could not be removed from %.100s: %s",
			 s->io->opts->spool_dir, strerror(-s->rc));
		trouble(s, text);
	} else {
		no_trouble(s);
	}
	again(s, LOOK_MS); /* what is gone is listed no more then */
}

static void launcher_removed(void *arg, int error, uint32_t result, const char *text)
{
	struct spools *s = arg;

	(void)result;
	s->removing--;
	if (error != 0)
		trouble(s, text != NULL && *text != '\0' ? text : "the launcher could not remove old output");
	else
		no_trouble(s);
}

static void ask_launcher(struct spools *s)
{
	for (size_t i = 0; i < s->now.n && s->removing < REMOVE_MAX; i++) {
		const struct spool_dir *d = &s->now.v[i];
		struct launcher_request r = { .op = LAUNCHER_REMOVE, .job = d->job, .attempt = d->attempt,
					      .nprocs = d->kind != SPOOL_ATTEMPT };

		if (!d->goes)
			continue;
		s->removing++;
		launcher_client_ask(s->io->launcher, &r, NULL, launcher_removed, s);
	}
}

/* When the next look is due, in ms: when something gets too old, too. */
static uint64_t next_look(const struct spools *s)
{
	uint64_t ms = s->io->n_jobs > 0 || s->removing > 0 ? LOOK_MS : IDLE_MS;
	int64_t wall = clock_wall_ms();

	for (size_t i = 0; s->io->opts->spool_keep_ms != 0 && i < s->now.n; i++) {
		int64_t left = s->now.v[i].wall_ms + (int64_t)s->io->opts->spool_keep_ms - wall + SOON_MS;

		if (!s->now.v[i].live && !s->now.v[i].goes && left < (int64_t)ms)
			ms = left > SOON_MS ? (uint64_t)left : SOON_MS;
	}
	return mono_due(s->trust_from, clock_mono()) || ms > LOOK_MS ? ms : LOOK_MS;
}

static void looked(uv_work_t *req, int status)
{
	struct spools *s = list_entry(req, struct spools, req);
	bool any = false;

	(void)status;
	s->busy = false;
	spools_list_finish(&s->now);
	s->now = s->next;
	s->next = (struct spool_list){ 0 };
	if (s->rc == 0 && spools_choose(&s->now, s->per_node, too_old(s)) > 0) {
		collect_live(s);
		for (size_t i = 0; i < s->now.n; i++) {
			s->now.v[i].goes = s->now.v[i].goes && !lives_now(s, &s->now.v[i]);
			any = any || s->now.v[i].goes;
		}
	}
	if (any && s->removing == 0)
		say_removed(s);
	if (any && s->io->launcher != NULL) {
		if (s->removing == 0)
			ask_launcher(s);
	} else if (any) {
		s->busy = true;
		uv_queue_work(&s->io->loop, &s->req, remove_work, removed);
		return;
	}
	again(s, next_look(s));
}

static void look(uv_timer_t *t)
{
	struct spools *s = t->data;

	if (s->busy)
		return;
	s->busy = true;
	collect_live(s);
	uv_queue_work(&s->io->loop, &s->req, look_work, looked);
}

static void again(struct spools *s, uint64_t ms)
{
	if (!uv_is_active((uv_handle_t *)&s->timer) || uv_timer_get_due_in(&s->timer) > ms)
		uv_timer_start(&s->timer, look, ms, 0);
}

/* ---- life ---------------------------------------------------------------------- */

void spools_kick(struct spools *s)
{
	if (s->told_jobs == s->io->n_jobs)
		return;
	again(s, s->io->n_jobs < s->told_jobs ? SOON_MS : LOOK_MS);
	tell_all(s);
}

void spools_say_limits(const struct spools *s, char *out, size_t size)
{
	unsigned hours = s->io->opts->spool_keep_ms / 3600000;
	char keep[64] = "";

	if (s->io->opts->spool_keep_ms != 0)
		snprintf(keep, sizeof(keep), "for %u %s after its end (spool_keep), and ",
			 hours >= 48 ? hours / 24 : hours, hours >= 48 ? "days" : "hours");
	snprintf(out, size, "it is kept %swhile all output takes less than %.1f MB (spool_per_node)", keep,
		 (double)s->per_node / 1e6);
}

void spools_create(struct agent_io *io, struct spools **ret)
{
	struct spools *s = agent_alloc(sizeof(*s));

	s->io = io;
	s->per_job = io->opts->spool_per_job;
	s->per_node = io->opts->spool_per_node;
	if (s->per_node == 0)
		s->per_node = spools_default_limit(io->opts->spool_dir);
	if (s->per_node == 0) /* it is made with the first job */
		s->per_node = spools_default_limit(io->opts->state_dir);
	s->trust_from = clock_mono();
	uv_timer_init(&io->loop, &s->timer);
	s->timer.data = s;
	again(s, LOOK_MS);
	*ret = s;
}
