/* cmd_status.c - nodectl status [--watch]: the cluster on one page */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/render.h"
#include "client/status.h"
#include "client/term.h"

#define EVERY_MS 1000
#define SCREEN_ON "\033[?1049h\033[?25l"
#define SCREEN_OFF "\033[?25h\033[?1049l"

enum { WATCH = 1 };
static const struct opt opts[] = {
	{ WATCH, 0, "watch", NULL, "again each second, until ^C" },
	{ 0 },
};

static void headline(struct out *o, const struct rec_status *s)
{
	size_t off = 0, running = 0, queued = 0;
	struct buf b;

	for (size_t i = 0; i < s->n_nodes; i++)
		off += strcmp(s->nodes[i].state, "ok") != 0;
	for (size_t i = 0; i < s->n_jobs; i++) {
		queued += strcmp(s->jobs[i].state, "queued") == 0;
		running += strcmp(s->jobs[i].state, "queued") != 0 && !render_job_over(&s->jobs[i]);
	}
	buf_init(&b);
	buf_addf(&b, "%s: ", s->cluster);
	render_count(&b, s->n_nodes, "node", "nodes");
	if (off)
		status_count_states(&b, s);
	buf_adds(&b, " | ");
	render_count(&b, running, "job running", "jobs running");
	if (queued)
		buf_addf(&b, ", %zu queued", queued);
	out_data(o, NULL, buf_str(&b));
	buf_finish(&b);
}

static void document(struct out *o, const struct rec_status *s)
{
	out_str(o, "cluster", NULL, s->cluster);
	out_str(o, "coordinator", NULL, s->coordinator);
	out_int(o, "time_ms", NULL, s->wall_ms);
	headline(o, s);
	status_nodes(o, s);
	out_start(o, "jobs", OUT_TABLE);
	for (size_t i = 0; i < s->n_jobs; i++) {
		out_start(o, NULL, OUT_ROW);
		render_job_row(o, &s->jobs[i], s->wall_ms);
		out_end(o);
	}
	out_end(o);
	render_attention(o, s);
}

/* ---- watching ---------------------------------------------------------- */

static volatile sig_atomic_t stop, pause_wanted;

static void note(int sig)
{
	if (sig == SIGTSTP)
		pause_wanted = 1;
	else
		stop = sig;
}

static void put(const char *text)
{
	write_all(1, text, strlen(text));
}

/* ^Z: the shell gets its screen back, we get ours again afterwards. */
static void pause_now(void)
{
	pause_wanted = 0;
	put(SCREEN_OFF);
	raise(SIGSTOP);
	put(SCREEN_ON);
}

/* One screen in one write: home, each line cleared to its end, the rest cleared. */
static int draw(const struct buf *page)
{
	unsigned left = term_lines(1);
	const char *p = page->data, *end = p + page->len;
	struct buf b;
	int r;

	buf_init(&b);
	buf_adds(&b, "\033[H");
	while (p < end && left) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);

		buf_add(&b, p, n);
		buf_adds(&b, --left ? "\033[K\r\n" : "\033[K");
		p += n + 1;
	}
	buf_adds(&b, left ? "\033[J" : "");
	r = write_all(1, b.data, b.len);
	buf_finish(&b);
	return r;
}

static int show(const struct ctl *c, const struct rec_status *s)
{
	struct buf b;
	struct out *o = ctl_out(c, &b);
	int r;

	document(o, s);
	out_end(o);
	r = c->json ? write_all(1, b.data, b.len) : draw(&b);
	out_destroy(o);
	buf_finish(&b);
	return r;
}

static int show_away(const struct ctl *c, const char *why)
{
	struct buf b;
	int r;

	if (c->json)
		return 0;
	buf_init(&b);
	term_add_wrapped(&b, why, "nodectl: ", "  ", term_columns(1));
	r = draw(&b);
	buf_finish(&b);
	return r;
}

/* Asks once, over a link that is opened when there is none. */
static int round_trip(struct link *l, const char *path, struct gathered *ret, struct err *e)
{
	struct msg m;
	int r = l->fd < 0 ? link_open(l, path, e) : 0;

	if (r < 0)
		return r;
	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = link_id(l);
	r = gather_call(l, &m, m.u.status_get.rid, MSG_status, ret, e);
	if (r < 0)
		link_close(l);
	return r;
}

static int watch_loop(const struct ctl *c, struct link *l, const char *path)
{
	int written = 0;

	while (!stop && written >= 0) {
		struct gathered g;
		struct err e;

		if (round_trip(l, path, &g, &e) < 0) {
			written = show_away(c, e.text);
		} else {
			written = show(c, &g.all.u.status);
			gather_finish(&g);
		}
		if (!stop && !pause_wanted)
			poll(NULL, 0, EVERY_MS);
		if (pause_wanted && !stop)
			pause_now();
	}
	return written == -EPIPE ? EXIT_PIPE : stop == SIGINT || !stop ? 0 : 128 + stop;
}

static int watch(const struct ctl *c, struct link *l)
{
	static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
	struct sigaction sa = { .sa_handler = note };
	char path[4096];
	int r = ctl_path(c, path, sizeof(path));

	if (r != CTL_GO)
		return r;
	for (size_t i = 0; !c->json && i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaction(caught[i], &sa, NULL);
	if (!c->json)
		put(SCREEN_ON);
	r = watch_loop(c, l, path);
	if (!c->json)
		put(SCREEN_OFF);
	return r;
}

static int once(const struct ctl *c, struct link *l)
{
	struct gathered g;
	struct out *o;
	struct buf b;
	int r = status_ask(l, &g);

	if (r != CTL_GO)
		return r;
	o = ctl_out(c, &b);
	document(o, &g.all.u.status);
	gather_finish(&g);
	return ctl_print(o, &b);
}

static int run(struct ctl *c)
{
	struct opts o;
	struct link l;
	const char *value;
	bool again = false;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == OPT_OPERAND)
			return ctl_usage(c, "\"%s\" is one word too many; for one node: nodectl node %s", value,
					 value);
		again = true;
	}
	if (again && !c->json && !isatty(1))
		return ctl_usage(c, "--watch draws on a terminal; for programs: nodectl --json status --watch");
	r = ctl_connect(c, &l);
	if (r != CTL_GO)
		return r;
	r = again ? watch(c, &l) : once(c, &l);
	link_close(&l);
	return r;
}

const struct command cmd_status = {
	.verb = "status",
	.args = "[--watch]",
	.brief = "nodes, jobs, and what needs attention",
	.opts = opts,
	.run = run,
};
