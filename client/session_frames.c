/* session_frames.c - what the agent says during a session */
#include "client/session_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define FLUSH_AT (256u << 10) /* rendered output written while more frames wait */

static void on_submitted(struct session *s, const struct rec_submitted *m)
{
	if (m->rid != s->rid_submit || s->job)
		return;
	s->job = m->job;
	session_say_submitted(s);
	if (s->conf->detach && !s->killing) {
		s->closing = s->settled = s->output_over = true;
		return;
	}
	session_watch(s);
	session_follow(s);
	if (s->killing)
		session_kill(s, "ended by its user");
}

static bool has_started(const struct rec_job_info *j)
{
	return strcmp(j->state, "running") == 0 || strcmp(j->state, "ending") == 0;
}

/* Keeps the message: 'info' and the streams point into it. */
static void on_update(struct session *s, struct msg *m)
{
	struct msg old = s->update;
	const struct rec_job_update *u = &m->u.job_update;

	if (u->rid != s->rid_watch || !u->n_job) {
		msg_finish(m);
		return;
	}
	if (!s->info && u->settled && !s->conf->submit) /* attached to what is over: nothing of it was seen here */
		s->was_over = true;
	s->update = *m;
	s->answered = true;
	u = &s->update.u.job_update;
	s->info = u->job;
	streams_job(&s->streams, s->info);
	msg_finish(&old);

	if (u->settled && !s->settled) {
		s->settled = true;
		s->idle_since = mono_now();
	}
	if (!s->settled) /* those of the end follow what ended it */
		session_say_notices(s);
	if (!s->settled)
		session_say_progress(s);
	session_say_restart(s);
	if (mono_is_never(s->may_tell_at))
		session_say_waiting(s, mono_now());
	if (s->refollow && (s->settled || has_started(s->info)))
		session_follow(s);
	if (s->conf->feed_stdin && !s->sid_stdin && has_started(s->info))
		session_open_stdin(s);
}

static void on_refused(struct session *s, const struct rec_refused *m)
{
	if (m->rid && m->rid == s->sid) {
		/* too early, perhaps: asked again when the job has started */
		s->refollow = !s->settled && s->conf->live;
		if (s->refollow)
			return;
		s->output_over = true;
		if (!s->conf->to_end)
			s->code = EXIT_REFUSED;
		session_complain(s, "%s", m->text);
		return;
	}
	if (m->rid && m->rid == s->sid_stdin) {
		s->stdin_over = true;
		session_complain(s, "no standard input: %s", m->text);
		return;
	}
	if (m->rid && m->rid != s->rid_submit && m->rid != s->rid_watch && m->rid != s->rid_kill)
		return;
	if (m->rid && m->rid == s->rid_watch && s->settled)
		return; /* asked again after a reconnect; all is known */
	session_complain(s, "%s", m->text);
	if (m->rid && m->rid == s->rid_kill) {
		s->killing = s->terminated = false;
		s->interrupts = 0;
		return;
	}
	session_leave(s, EXIT_REFUSED);
}

/* Its offsets begin anew, as its output does. */
static void on_follow_attempt(struct session *s, const struct rec_follow_attempt *m)
{
	if (m->sid != s->sid)
		return;
	if (m->missing && *m->missing)
		session_complain(s, "of attempt %" PRIu32 ": %s", s->attempt, m->missing);
	if (s->attempt && m->attempt != s->attempt) {
		session_say_missed(s, m->attempt);
		streams_restart(&s->streams);
	}
	s->attempt = m->attempt;
	s->resumed = false;
}

static void on_follow_end(struct session *s, const struct rec_follow_end *m)
{
	if (m->sid != s->sid)
		return;
	s->output_over = true;
	if (m->text && *m->text)
		session_complain(s, "%s", m->text);
	/* one that came later has no output, or it would have been shown */
	if (s->conf->live && s->attempt && s->info)
		session_say_missed(s, s->info->attempt > s->attempt ? s->info->attempt : s->attempt + 1);
}

static void on_ping(struct session *s, uint64_t seq)
{
	struct msg m;

	msg_init(&m, MSG_pong);
	m.u.pong.seq = seq;
	link_send(s->link, &m, NULL);
}

static void greet(struct session *s, struct msg *m)
{
	struct err e;

	if (link_welcomed(s->link, m, &e) == 0) {
		session_begin(s);
	} else {
		session_complain(s, "%s", e.text);
		session_leave(s, EXIT_REFUSED);
	}
	msg_finish(m);
}

static void on_message(struct session *s, struct msg *m)
{
	switch (m->type) {
	case MSG_job_update:
		on_update(s, m); /* keeps it or frees it */
		return;
	case MSG_submitted:
		on_submitted(s, &m->u.submitted);
		break;
	case MSG_refused:
		on_refused(s, &m->u.refused);
		break;
	case MSG_follow_attempt:
		on_follow_attempt(s, &m->u.follow_attempt);
		break;
	case MSG_follow_end:
		on_follow_end(s, &m->u.follow_end);
		break;
	case MSG_credit:
		if (m->u.credit.sid == s->sid_stdin && s->sid_stdin)
			s->stdin_credit += m->u.credit.bytes;
		break;
	case MSG_ping:
		on_ping(s, m->u.ping.seq);
		break;
	default:
		break;
	}
	msg_finish(m);
}

static void on_json(struct session *s, const struct frame *f)
{
	struct err e;
	struct msg m;
	int r = msg_decode(f->data, f->len, &m, &e);

	if (r == -ENOTSUP)
		return; /* from a newer agent */
	if (r < 0) {
		session_complain(s, "the agent sent what nobody understands: %s", e.text);
		session_leave(s, EXIT_REFUSED);
		return;
	}
	if (s->phase == PHASE_GREETING)
		greet(s, &m);
	else
		on_message(s, &m);
}

static void on_data(struct session *s, const struct frame *f, mono_t now)
{
	struct data_header h;
	const char *p;
	size_t n;

	if (frame_get_data(f, &h, &p, &n, NULL) < 0 || h.sid != s->sid || s->output_over)
		return;
	s->idle_since = now;
	streams_data(&s->streams, &h, p, n, now);
	if (streams_pending(&s->streams) > FLUSH_AT)
		streams_flush(&s->streams);
}

void session_receive(struct session *s)
{
	long n = link_fill(s->link);
	mono_t now = mono_now();
	struct frame f;
	struct err e;
	int r = 0;

	while (!s->done && !s->closing && s->phase != PHASE_DIAL &&
	       (r = link_next(s->link, &f, &e)) == 1) {
		if (f.type == FRAME_JSON)
			on_json(s, &f);
		else
			on_data(s, &f, now);
	}
	if (r < 0 || n < 0)
		session_lost(s);
}
