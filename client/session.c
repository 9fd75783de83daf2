/* session.c - the loop of a session: link, clock, descriptors; see session.h */
#include "client/session_private.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/features.h"

#define TELL_AFTER_MS 300
#define RETRY_FIRST_MS 50
#define RETRY_MAX_MS 1000
#define GIVE_UP_MS 60000
#define STEADY_MS 5000 /* a link that lasted so long was a good one */
#define TELL_LOST_MS 500
#define TELL_SLOW_MS 1000 /* a coordinator that does not answer */
#define LAST_OUTPUT_MS 10000 /* a settled job whose output does not end */
#define UNREAD_FULL ((size_t)8 << 20) /* output that nobody takes, from which we stop reading */
#define SPEC_CHUNK (256u << 10)
#define RESUME_MAX 8192

void session_leave(struct session *s, int code)
{
	s->code = code;
	s->done = true;
}

/* An own message that cannot be sent is a bug or a lack of memory. */
static void send_or_leave(struct session *s, const struct msg *m)
{
	struct err e;

	if (link_send(s->link, m, &e) == 0)
		return;
	session_complain(s, "%s", e.text);
	session_leave(s, EXIT_REFUSED);
}

/* An agent of an older version would drop these options without a word. */
static bool unknown_there(struct session *s)
{
	const char *option = features_option(features_needed(&s->conf->submit->u.submit) & ~s->link->features);
	char text[480];

	if (!option)
		return false;
	features_say(text, sizeof(text), "agent", s->conf->path, s->link->software, s->link->features, option);
	session_complain(s, "%s", text);
	session_leave(s, EXIT_REFUSED);
	return true;
}

/* Specification and request go out in one write. */
static void send_submit(struct session *s)
{
	const struct buf *spec = s->conf->spec;
	struct data_header h = { .fd = 3 };
	struct msg m = *s->conf->submit;

	if (unknown_there(s))
		return;
	do {
		size_t n = spec->len - h.offset;

		if (n > SPEC_CHUNK)
			n = SPEC_CHUNK;
		if (h.offset + n == spec->len)
			h.flags = DATA_EOF;
		if (link_send_data(s->link, &h, spec->data + h.offset, n) < 0) {
			session_complain(s, "out of memory");
			session_leave(s, EXIT_REFUSED);
			return;
		}
		h.offset += n;
	} while (h.offset < spec->len);
	m.u.submit.rid = s->rid_submit = link_id(s->link);
	send_or_leave(s, &m);
}

void session_watch(struct session *s)
{
	struct msg m;

	msg_init(&m, MSG_watch);
	m.u.watch.rid = s->rid_watch = link_id(s->link);
	m.u.watch.job = s->job;
	m.u.watch.attempt = s->conf->attempt;
	send_or_leave(s, &m);
}

/* Ranks as the message wants them: decimal strings. NULL and 0: all. */
static char (*rank_words(const struct session_conf *c, const char ***list, size_t *n))[12]
{
	char(*words)[12];

	*n = 0;
	*list = NULL;
	for (size_t i = 0; i < c->n_ranks; i++)
		*n += (size_t)c->ranks[i].last - c->ranks[i].first + 1;
	words = *n ? malloc(*n * sizeof(*words)) : NULL;
	*list = words ? malloc(*n * sizeof(**list)) : NULL;
	*n = 0;
	for (size_t i = 0; *list && i < c->n_ranks; i++)
		for (uint32_t r = c->ranks[i].first; r <= c->ranks[i].last; r++) {
			snprintf(words[*n], sizeof(*words), "%u", r);
			(*list)[*n] = words[*n];
			++*n;
		}
	return words;
}

void session_follow(struct session *s)
{
	struct rec_follow_from *from;
	char(*words)[12];
	struct msg m;

	msg_init(&m, MSG_follow);
	from = streams_from(&s->streams, RESUME_MAX, &m.u.follow.n_from);
	words = rank_words(s->conf, &m.u.follow.ranks, &m.u.follow.n_ranks);
	m.u.follow.sid = s->sid = link_id(s->link);
	m.u.follow.job = s->job;
	m.u.follow.live = s->conf->live;
	m.u.follow.from = from;
	/* after a lost link 'from' says where: nothing may be left out */
	m.u.follow.from_end = s->conf->from_end && !m.u.follow.n_from;
	m.u.follow.holes = true;
	m.u.follow.fds = s->conf->fds;
	if (s->conf->attempt)
		MSG_SET(&m.u.follow, follow, attempt, s->conf->attempt);
	if (!m.u.follow.n_from) {
		m.u.follow.offset = s->conf->offset;
		m.u.follow.tail = s->conf->tail;
		m.u.follow.since_wall_ms = s->conf->since_wall_ms;
	}
	if (s->attempt && from && m.u.follow.n_from)
		MSG_SET(&m.u.follow, follow, from_attempt, s->attempt);
	m.u.follow.credit = SESSION_CREDIT;
	s->streams.owed = 0;
	s->refollow = false;
	send_or_leave(s, &m);
	free(m.u.follow.ranks);
	free(words);
	free(from);
}

void session_kill(struct session *s, const char *why)
{
	struct msg m;

	s->killing = true;
	if (!s->job && mono_is_never(s->number_until))
		s->number_until = mono_add_ms(mono_now(), LINK_ANSWER_MS);
	if (s->phase != PHASE_LIVE || !s->job)
		return; /* said again once the link is up */
	msg_init(&m, MSG_kill);
	m.u.kill.rid = s->rid_kill = link_id(s->link);
	m.u.kill.job = s->job;
	m.u.kill.why = why;
	send_or_leave(s, &m);
}

/* The link is up: ask for everything, the first time or again. */
void session_begin(struct session *s)
{
	if (s->told_lost)
		session_say(s, "nodectl: the agent is back");
	s->told_lost = false;
	s->phase = PHASE_LIVE;
	s->live_since = mono_now();
	s->told_slow = s->answered = false;
	s->sid_stdin = s->stdin_credit = 0;
	s->idle_since = mono_now();
	if (!s->job) {
		send_submit(s);
		return;
	}
	session_watch(s);
	if (!s->output_over)
		session_follow(s);
	if (s->killing)
		session_kill(s, "ended by its user");
}

void session_lost(struct session *s)
{
	mono_t now = mono_now();
	bool was_live = s->phase == PHASE_LIVE;

	s->resumed = s->attempt != 0;
	link_close(s->link);
	if (was_live)
		s->may_tell_at = mono_add_ms(now, TELL_LOST_MS);
	/* an agent that dies of what we ask for is not asked for ever */
	if (was_live && (mono_is_never(s->give_up_at) || mono_sub_ms(now, s->live_since) >= STEADY_MS)) {
		s->retry_ms = RETRY_FIRST_MS;
		s->give_up_at = mono_add_ms(now, GIVE_UP_MS);
	}
	s->phase = PHASE_DIAL;
	s->retry_at = mono_add_ms(now, s->retry_ms);
	s->retry_ms = s->retry_ms * 2 < RETRY_MAX_MS ? s->retry_ms * 2 : RETRY_MAX_MS;
}

static void tell_lost(struct session *s)
{
	if (s->told_lost)
		return;
	s->told_lost = true;
	if (s->job)
		session_complain(s, "the agent at %s is away; waiting for it up to 60 s "
				    "(job %" PRIu64 " goes on)", s->conf->path, s->job);
	else
		session_complain(s, "the agent at %s is away; waiting for it up to 60 s",
				 s->conf->path);
}

/* Nothing more will come: the last words. */
static void finish(struct session *s)
{
	s->closing = true;
	streams_end(&s->streams);
	if (!s->conf->to_end) {
		if (s->conf->live && !s->conf->attempt && s->settled)
			session_say_never(s);
		return;
	}
	session_say_end(s);
	s->code = session_job_code(s->info);
	if (s->terminated && !s->code)
		s->code = EXIT_TERM;
	/* as shells want it; a rank that had failed by itself before counts more */
	if (s->interrupts > 1 && s->killing && s->info && !s->info->n_first)
		s->code = EXIT_INT;
}

static void give_up(struct session *s)
{
	if (s->settled) {
		session_complain(s, "the agent has not come back; some output may be missing");
		finish(s);
		return;
	}
	if (s->job)
		session_complain(s, "the agent at %s has not come back; job %" PRIu64
				    " goes on: nodectl attach %" PRIu64, s->conf->path, s->job, s->job);
	else
		session_complain(s, "the agent at %s has not come back; whether it took the job is not "
				    "known: nodectl jobs", s->conf->path);
	session_leave(s, EXIT_UNREACHABLE);
}

/* Told to end a job whose number never came. */
static void give_up_number(struct session *s)
{
	session_complain(s, "the agent at %s has not answered within %d s: whether it took the job, which "
			    "would go on, is not known; nodectl jobs tells, nodectl kill ends it",
			 s->conf->path, LINK_ANSWER_MS / 1000);
	session_leave(s, s->terminated ? EXIT_TERM : EXIT_INT);
}

static void dial(struct session *s, mono_t now)
{
	if (mono_due(s->give_up_at, now)) {
		give_up(s);
		return;
	}
	if (!mono_due(s->retry_at, now))
		return;
	if (link_dial(s->link, s->conf->path, NULL) < 0) {
		session_lost(s);
		return;
	}
	s->phase = PHASE_GREETING;
	s->greet_until = mono_add_ms(now, LINK_HELLO_MS);
}

/* Credit goes back in steps, and only for what has left us. */
static void give_credit(struct session *s)
{
	struct msg m;

	if (s->streams.owed < SESSION_CREDIT / 4 || s->phase != PHASE_LIVE || s->output_over ||
	    streams_pending(&s->streams) > STREAMS_FULL)
		return;
	msg_init(&m, MSG_credit);
	m.u.credit.sid = s->sid;
	m.u.credit.bytes = (uint32_t)s->streams.owed;
	s->streams.owed = 0;
	send_or_leave(s, &m);
}

static void output_failed(struct session *s, int error)
{
	if (s->conf->to_end)
		session_complain(s, "%s%s; job %" PRIu64 " goes on: nodectl attach %" PRIu64,
				 error == -EPIPE ? "nobody reads the output any more" : "cannot write the output: ",
				 error == -EPIPE ? "" : strerror(-error), s->job, s->job);
	else if (error != -EPIPE)
		session_complain(s, "cannot write the output: %s", strerror(-error));
	sink_flush(&s->streams.sinks[1]);
	session_leave(s, error == -EPIPE ? EXIT_PIPE : EXIT_REFUSED);
}

static void maybe_close(struct session *s, mono_t now)
{
	bool enough = !s->conf->to_end && !s->output_over && streams_enough(&s->streams);
	bool late = s->settled && !s->output_over && s->phase == PHASE_LIVE &&
		    !streams_pending(&s->streams) &&
		    mono_sub_ms(now, s->idle_since) >= LAST_OUTPUT_MS;

	if (s->closing || (s->conf->to_end && !s->settled) || !(s->output_over || late || enough))
		return;
	if (late && !enough)
		session_complain(s, "some output has not arrived; it can be read later: nodectl logs %" PRIu64,
				 s->job);
	finish(s);
}

/* Since when nobody has said a word about the job on this link; MONO_NEVER: that is told, or not so. */
static mono_t slow_at(const struct session *s)
{
	if (s->phase != PHASE_LIVE || s->told_slow || s->answered || s->closing)
		return MONO_NEVER;
	return mono_add_ms(s->live_since, TELL_SLOW_MS);
}

static mono_t next_deadline(const struct session *s)
{
	mono_t t = mono_min(streams_due(&s->streams), slow_at(s));

	if (s->phase == PHASE_DIAL)
		t = mono_min(t, mono_min(s->retry_at, s->give_up_at));
	if (s->phase == PHASE_GREETING)
		t = mono_min(t, s->greet_until);
	if (s->phase != PHASE_LIVE && !s->told_lost)
		t = mono_min(t, s->may_tell_at);
	if (s->info && !s->settled)
		t = mono_min(t, mono_min(s->may_tell_at, s->say_again_at));
	if (!s->job)
		t = mono_min(t, s->number_until);
	if (s->settled && !s->output_over)
		t = mono_min(t, mono_add_ms(s->idle_since, LAST_OUTPUT_MS));
	return t;
}

static void timers(struct session *s, mono_t now)
{
	streams_tick(&s->streams, now);
	if (s->phase == PHASE_GREETING && mono_due(s->greet_until, now))
		session_lost(s);
	if (s->phase == PHASE_DIAL && !s->closing)
		dial(s, now);
	if (!s->job && !s->done && mono_due(s->number_until, now))
		give_up_number(s);
	if (mono_due(slow_at(s), now)) {
		session_say_slow(s, now);
		s->told_slow = true;
	}
	if (mono_due(s->say_again_at, now)) {
		s->say_again_at = MONO_NEVER;
		if (s->phase == PHASE_LIVE && mono_is_never(s->may_tell_at))
			session_say_waiting(s, now);
	}
	if (!mono_due(s->may_tell_at, now))
		return;
	if (s->phase != PHASE_LIVE)
		tell_lost(s);
	else
		session_say_waiting(s, now);
	s->may_tell_at = MONO_NEVER;
}

struct waits {
	struct pollfd p[4];
	int link, in, out[2]; /* indexes, -1: not waited for */
	nfds_t n;
};

static int add(struct waits *w, int fd, short events)
{
	w->p[w->n] = (struct pollfd){ .fd = fd, .events = events };
	return (int)w->n++;
}

static void prepare(struct session *s, struct waits *w)
{
	short events = 0;

	memset(w, 0, sizeof(*w));
	w->link = w->in = w->out[0] = w->out[1] = -1;
	if (s->link->fd >= 0 && !s->closing) {
		/* output that nobody takes: read on only while it is little */
		if (streams_pending(&s->streams) < UNREAD_FULL)
			events |= POLLIN;
		if (link_pending(s->link))
			events |= POLLOUT;
		w->link = add(w, s->link->fd, events);
	}
	if (session_wants_stdin(s))
		w->in = add(w, 0, POLLIN);
	for (int i = 0; i < 2; i++)
		if (sink_pending(&s->streams.sinks[i]) && s->streams.sinks[i].fd >= 0)
			w->out[i] = add(w, s->streams.sinks[i].fd, POLLOUT);
}

static void wait_and_act(struct session *s)
{
	mono_t now = mono_now(), due = next_deadline(s);
	struct timespec limit = { 0 };
	struct waits w;
	int n;

	prepare(s, &w);
	if (mono_before(now, due)) {
		int64_t left = due.ns - now.ns;

		limit.tv_sec = left / 1000000000;
		limit.tv_nsec = left % 1000000000;
	}
	n = ppoll(w.p, w.n, mono_is_never(due) ? NULL : &limit, session_signals_mask());
	if (n > 0 && w.in >= 0 && w.p[w.in].revents)
		session_read_stdin(s);
	if (n > 0 && w.link >= 0 && (w.p[w.link].revents & (POLLIN | POLLHUP | POLLERR)))
		session_receive(s);
	session_signals_act(s);
}

static void step(struct session *s)
{
	int r;

	wait_and_act(s);
	timers(s, mono_now());
	r = streams_flush(&s->streams);
	if (r < 0 && !s->done) {
		output_failed(s, r);
		return;
	}
	give_credit(s);
	if (s->link->fd >= 0 && link_flush(s->link) < 0 && !s->closing)
		session_lost(s);
	maybe_close(s, mono_now());
	if (s->closing && streams_flush(&s->streams) == 0 && !streams_pending(&s->streams))
		s->done = true;
}

int session_run(const struct session_conf *conf, struct link *link)
{
	struct session s = { .conf = conf, .link = link, .job = conf->job };

	s.info = conf->info;
	s.retry_at = s.give_up_at = s.number_until = MONO_NEVER;
	s.say_again_at = MONO_NEVER;
	s.may_tell_at = conf->to_end ? mono_add_ms(mono_now(), TELL_AFTER_MS) : MONO_NEVER;
	streams_init(&s.streams, conf->labels, conf->json);
	s.streams.ranks = conf->ranks;
	s.streams.n_ranks = conf->n_ranks;
	s.streams.first_offset = conf->offset;
	s.streams.any_begin = conf->from_end || conf->tail || conf->since_wall_ms;
	s.streams.fds = conf->fds;
	s.streams.head = conf->head;
	streams_job(&s.streams, conf->info);
	session_signals_install(conf->to_end);
	session_begin(&s);
	link_flush(link);

	while (!s.done)
		step(&s);
	streams_flush(&s.streams);
	streams_finish(&s.streams);
	msg_finish(&s.update);
	link_close(link);
	return s.code;
}
