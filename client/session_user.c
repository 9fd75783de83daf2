/* session_user.c - the person at the terminal: signals and standard input
 *
 * Signals are blocked except inside ppoll(), so a handler only notes what
 * came and the loop acts on it. SIGTSTP and SIGCONT keep their default: a
 * stopped client stops reading, and no rank waits for it.
 *
 *   ^C         tells what runs; a second one within 3 s ends the job; while
 *              the job ends, one more leaves
 *   ^\         leaves at once
 *   SIGTERM    ends the job that this program launched, and waits for that;
 *              of a job that it has only attached to it leaves at once
 *   SIGHUP     leaves at once; the job goes on
 *
 * A job that has no number yet may have been taken all the same: it is ended
 * as soon as its number comes, which is waited for; not on SIGTERM once the
 * coordinator is known not to answer.
 */
#include "client/session_private.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define AGAIN_MS 3000
#define STDIN_CHUNK (64u << 10)
#define STDIN_QUEUE (1u << 20) /* bytes waiting for the agent */

static volatile sig_atomic_t got_int, got_term, got_hup, got_quit;
static sigset_t during_wait;

static void note(int sig)
{
	switch (sig) {
	case SIGINT:
		got_int++;
		break;
	case SIGTERM:
		got_term = 1;
		break;
	case SIGHUP:
		got_hup = 1;
		break;
	case SIGQUIT:
		got_quit = 1;
		break;
	}
}

/* A signal that was ignored when we were started (nohup) stays ignored. */
static void catch(int sig, sigset_t *set)
{
	struct sigaction old, sa = { .sa_handler = note };

	if (sigaction(sig, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
		return;
	sigaction(sig, &sa, NULL);
	sigaddset(set, sig);
}

void session_signals_install(bool all)
{
	sigset_t block;

	sigemptyset(&block);
	if (all) {
		catch(SIGINT, &block);
		catch(SIGTERM, &block);
		catch(SIGHUP, &block);
		catch(SIGQUIT, &block);
	}
	sigprocmask(SIG_BLOCK, &block, &during_wait);
}

const sigset_t *session_signals_mask(void)
{
	return &during_wait;
}

/* The last words of one who does not wait, and what becomes of the job. */
static void leave_early(struct session *s, int code)
{
	if (!s->job)
		session_complain(s, "left before the job had a number%s; whether it was taken: nodectl jobs",
				 s->killing ? ", so it was not ended" : "");
	else if (!s->killing)
		session_complain(s, "job %" PRIu64 " goes on: nodectl attach %" PRIu64, s->job, s->job);
	else if (s->phase == PHASE_LIVE)
		session_complain(s, "job %" PRIu64 " is still ending: nodectl attach %" PRIu64, s->job, s->job);
	else
		session_complain(s, "the agent is away and may not know yet that job %" PRIu64
				    " is to end: nodectl kill %" PRIu64, s->job, s->job);
	session_leave(s, code);
}

static void end_job(struct session *s, const char *because, const char *then, const char *why)
{
	if (s->job)
		session_say(s, "ending job %" PRIu64 "%s%s", s->job, because, then);
	else
		session_say(s, "the job has no number yet%s; waiting up to %d s for the agent to tell it, to end "
			       "the job then%s", because, LINK_ANSWER_MS / 1000, then);
	session_kill(s, why);
}

static void interrupted(struct session *s)
{
	mono_t now = mono_now();

	if (s->closing) {
		session_leave(s, s->code);
		return;
	}
	if (s->killing && (s->interrupts > 1 || s->terminated)) {
		leave_early(s, EXIT_INT);
		return;
	}
	if (s->interrupts && mono_before(now, s->interrupt_until)) {
		streams_wipe_echo(&s->streams);
		s->interrupts = 2;
		end_job(s, "", "; ^C once more leaves without waiting for it", "interrupted by its user");
		return;
	}
	streams_wipe_echo(&s->streams);
	s->interrupts = 1;
	s->interrupt_until = mono_add_ms(now, AGAIN_MS);
	session_say_running(s, "^C again within 3 s ends the job, ^\\ leaves it running");
}

static void terminated(struct session *s)
{
	if (s->closing) {
		session_leave(s, EXIT_TERM);
		return;
	}
	if (s->terminated)
		return;
	if (!s->conf->submit) { /* who watches a job need not be the one who wants it ended */
		leave_early(s, EXIT_TERM);
		return;
	}
	s->terminated = true;
	if (!s->job && s->told_slow) { /* nobody is there to end it */
		s->killing = true;
		leave_early(s, EXIT_TERM);
		return;
	}
	end_job(s, ": nodectl was told to (SIGTERM)", "", "its nodectl received SIGTERM");
}

void session_signals_act(struct session *s)
{
	if (got_term) { /* before SIGHUP: a session that is closed sends both */
		got_term = 0;
		terminated(s);
	}
	if (got_hup || got_quit) {
		if (!s->done)
			leave_early(s, got_hup ? EXIT_HUP : EXIT_QUIT);
		return;
	}
	for (; got_int > 0 && !s->done; got_int--)
		interrupted(s);
}

/* ---- standard input ---------------------------------------------------- */

void session_open_stdin(struct session *s)
{
	struct msg m;

	if (s->stdin_over)
		return;
	if (s->stdin_sent)
		session_complain(s, "input sent while the agent went away may not have arrived");
	msg_init(&m, MSG_stdin_open);
	m.u.stdin_open.sid = s->sid_stdin = link_id(s->link);
	m.u.stdin_open.job = s->job;
	link_send(s->link, &m, NULL);
}

bool session_wants_stdin(const struct session *s)
{
	return s->conf->feed_stdin && s->sid_stdin && s->stdin_credit && !s->stdin_over &&
	       s->phase == PHASE_LIVE && s->link->out.len - s->link->sent < STDIN_QUEUE;
}

void session_read_stdin(struct session *s)
{
	struct data_header h = { .sid = s->sid_stdin, .offset = s->stdin_sent };
	size_t want = s->stdin_credit < STDIN_CHUNK ? s->stdin_credit : STDIN_CHUNK;
	static char chunk[STDIN_CHUNK];
	ssize_t n = read(0, chunk, want);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		n = 0;
		h.flags = DATA_EOF;
		s->stdin_over = true;
	}
	link_send_data(s->link, &h, chunk, (size_t)n);
	s->stdin_sent += (uint64_t)n;
	s->stdin_credit -= (uint32_t)n;
}
