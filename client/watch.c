/* watch.c - the status again twice a second, see watch.h
 *
 * A page is one write: home, each line cleared behind its text, the rest
 * cleared; nothing is ever blanked first, so nothing flickers. The last answer
 * is kept, so that a new size of the window is drawn at once.
 *
 * Signals are blocked except while we wait, for the time to pass or for an
 * answer: so none is missed between a look at a flag and the wait, and ^C works
 * while the agent is silent. */
#include "client/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "client/term.h"

/* What has happened is on the screen within a second: up to 100 ms pass in the
 * probe, which gathers bursts, a few on the links, and the rest here. */
#define EVERY_MS 500
#define SCREEN_ON "\033[?1049h\033[?25l"
#define SCREEN_OFF "\033[?25h\033[?1049l"

static volatile sig_atomic_t stop, pause_wanted, resized;

struct watch {
	const struct ctl *c;
	const struct status_wish *wish;
	watch_page *page;
	struct link link;
	char path[4096];
	struct gathered last; /* .n 0: none yet */
	struct err away; /* why there is no newer one */
	sigset_t open; /* signals as they are while we wait */
	int written; /* 0 or -errno of the last write */
};

static void note(int sig)
{
	if (sig == SIGTSTP)
		pause_wanted = 1;
	else if (sig == SIGWINCH)
		resized = 1;
	else
		stop = sig;
}

static void put(const char *text)
{
	write_all(1, text, strlen(text));
}

/* Columns of a line in which colours take none. */
static unsigned width_of(const char *p, size_t n)
{
	unsigned columns = 0, w;

	for (size_t i = 0; i < n;) {
		if (p[i] == '\033') {
			while (i < n && p[i] != 'm')
				i++;
			i++;
			continue;
		}
		i += term_char(p + i, n - i, &w);
		columns += w;
	}
	return columns;
}

/* Behind a full line the cursor still stands on its last column: clearing to
 * the end would take that character away. */
static void add_line(struct buf *b, const char *p, size_t n, unsigned columns)
{
	buf_add(b, p, n);
	if (width_of(p, n) < columns)
		buf_adds(b, "\033[K");
}

static size_t count_lines(const char *p, const char *end)
{
	size_t n = 0;

	for (; p < end; p++)
		n += *p == '\n';
	return n;
}

static int draw(const struct buf *page)
{
	unsigned left = term_lines(1), columns = term_columns(1);
	const char *p = page->data, *end = p + page->len;
	size_t lines = count_lines(p, end);
	struct buf b;
	int r;

	buf_init(&b);
	buf_adds(&b, "\033[H");
	for (; p < end && left > (lines > left); lines--) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);

		add_line(&b, p, n, columns);
		buf_adds(&b, --left ? "\r\n" : "");
		p += n + 1;
	}
	if (p < end)
		buf_addf(&b, ".. %zu more lines\033[K", lines);
	else if (left)
		buf_adds(&b, "\033[J");
	r = write_all(1, b.data, b.len);
	buf_finish(&b);
	return r;
}

static int show_page(struct watch *w)
{
	struct buf b;
	struct out *o = ctl_out(w->c, &b);
	int r;

	w->page(w->c, o, &w->last.all.u.status);
	out_end(o);
	r = w->c->json ? write_all(1, b.data, b.len) : draw(&b);
	out_destroy(o);
	buf_finish(&b);
	return r;
}

/* Alone: an old page would be taken for the present one. */
static int show_away(const char *why)
{
	struct buf b;
	int r;

	buf_init(&b);
	term_add_wrapped(&b, why, "nodectl: ", "  ", term_columns(1));
	r = draw(&b);
	buf_finish(&b);
	return r;
}

static void show(struct watch *w)
{
	if (!w->away.code)
		w->written = show_page(w);
	else if (!w->c->json)
		w->written = show_away(w->away.text);
}

/* ^Z: the shell gets its screen back, we get ours again afterwards. */
static void pause_now(void)
{
	put(SCREEN_OFF);
	raise(SIGSTOP);
	put(SCREEN_ON);
}

/* After each signal; true: give up what you wait for. */
static bool on_signal(void *arg)
{
	struct watch *w = arg;

	if (pause_wanted)
		pause_now();
	if (!stop && (pause_wanted || resized) && (w->last.n || w->away.code))
		show(w);
	pause_wanted = resized = 0;
	return stop != 0;
}

/* Asks once, over a link that is opened when there is none. */
static int ask(struct watch *w, struct gathered *ret, struct err *e)
{
	struct msg m;
	int r = w->link.fd < 0 ? link_open(&w->link, w->path, e) : 0;

	if (r < 0)
		return r;
	status_request(&m, w->wish);
	m.u.status_get.rid = link_id(&w->link);
	r = gather_call(&w->link, &m, m.u.status_get.rid, MSG_status, ret, e);
	if (r < 0)
		link_close(&w->link);
	return r;
}

static void refresh(struct watch *w)
{
	struct gathered g;
	struct err e = { 0 };

	if (ask(w, &g, &e) == 0) {
		gather_finish(&w->last);
		w->last = g;
		e.code = 0;
	}
	w->away = e;
	if (!stop)
		show(w);
}

/* Sleeps until it is time to ask again, whatever wakes us in between. */
static void wait_a_moment(struct watch *w)
{
	mono_t until = mono_add_ms(mono_now(), EVERY_MS);
	int64_t left;

	while (!stop && (left = mono_sub_ms(until, mono_now())) > 0) {
		struct timespec t = { left / 1000, left % 1000 * 1000000 };

		if (ppoll(NULL, 0, &t, &w->open) < 0 && on_signal(w))
			return;
	}
}

static void catch_signals(struct watch *w)
{
	static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH };
	struct sigaction sa = { .sa_handler = note };
	sigset_t block;

	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		sigaction(caught[i], &sa, NULL);
		sigaddset(&block, caught[i]);
	}
	sigprocmask(SIG_BLOCK, &block, &w->open);
	w->link.open_mask = &w->open;
	w->link.on_signal = on_signal;
	w->link.signal_arg = w;
}

static int leave(struct watch *w)
{
	link_close(&w->link);
	gather_finish(&w->last);
	if (!w->c->json)
		put(SCREEN_OFF);
	if (w->written == -EPIPE)
		return EXIT_PIPE;
	return stop && stop != SIGINT ? 128 + stop : 0;
}

int watch_status(const struct ctl *c, const struct status_wish *wish, watch_page *page)
{
	struct watch w = { .c = c, .wish = wish, .page = page };
	struct err e;
	int r = ctl_path(c, w.path, sizeof(w.path));

	if (r != CTL_GO)
		return r;
	link_init(&w.link);
	r = link_open(&w.link, w.path, &e);
	if (r < 0) /* a first time that fails is not waited for */
		return ctl_fail(r == -EPERM ? EXIT_REFUSED : EXIT_UNREACHABLE, "%s", e.text);
	sigemptyset(&w.open);
	if (!c->json) {
		catch_signals(&w);
		put(SCREEN_ON);
	}
	while (!stop && w.written >= 0) {
		refresh(&w);
		if (w.written >= 0)
			wait_a_moment(&w);
	}
	return leave(&w);
}
