/* standalone.c - the supervisor of a standalone cluster
 *
 *   making -> coordinator -> agents -> ready -> ending agents -> ending coordinator -> gone
 *
 * It sleeps in one poll() on a signalfd and the ready pipes, without a timer
 * while all is well. Children that die are started again. Children hold the
 * read end of a pipe whose only write end is ours: when we are killed, they
 * see its end and exit, and jobs stay with their shims.
 *
 * It never calls OpenSSL, SQLite or libuv: it is there for days and must
 * weigh nothing. */
#include "io/standalone.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mono.h"
#include "common/notify.h"
#include "io/loop_util.h"
#include "io/sockets.h"

#define READY_FD 3
#define PARENT_FD 4
#define LINE_MAX_BYTES 300
#define SAY_MS 2000 /* then it is said what we wait for */
#define AGENTS_MS 40000 /* default grace of jobs and 10 s */
#define COORDINATOR_MS 10000
#define BACKOFF_MS 200
#define BACKOFF_MAX_MS 10000
#define SETTLED_MS 60000 /* who lived this long starts again with the shortest delay */
#define STARTS_MAX 3 /* deaths of one child before the cluster is ready */

enum state { COORDINATOR, AGENTS, READY, END_AGENTS, END_COORDINATOR };

struct child {
	char name[65]; /* "coordinator" or the node's */
	pid_t pid; /* 0: not running */
	int ready_fd; /* -1: told, or nothing to be told */
	bool ready;
	unsigned deaths;
	mono_t born, again; /* again: when to start it; MONO_NEVER: not due */
};

struct supervisor {
	const struct standalone_opts *opts;
	struct layout at;
	enum state state;
	struct child *child; /* [0]: the coordinator */
	unsigned n;
	struct pollfd *poll; /* [0]: signalfd, then the children's ready pipes */
	int signal_fd, parent_pipe[2];
	sigset_t old_mask;
	struct rlimit files; /* as we found it */
	char line[LINE_MAX_BYTES]; /* the coordinator's address */
	mono_t say, give_up;
	struct notify notify; /* ours: children do not speak to systemd */
	int code;
};

static void start_ending(struct supervisor *s, int code);

/* ---- starting one child ------------------------------------------------- */

/* In the child, between fork and exec. */
static void place_fd(int fd, int at)
{
	if (fd < 0)
		close(at);
	else if (dup2(fd, at) < 0)
		_exit(126);
}

static void exec_child(struct supervisor *s, char **argv, int ready)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setrlimit(RLIMIT_NOFILE, &s->files); /* jobs inherit it */
	signal(SIGPIPE, SIG_DFL);
	setpgid(0, 0); /* a terminal's ^C is for us to handle, in our order */
	sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
	place_fd(null, 0);
	place_fd(2, 1); /* stdout carries the ready line and nothing else */
	place_fd(ready, READY_FD);
	place_fd(s->parent_pipe[0], PARENT_FD);
	execv("/proc/self/exe", argv);
	_exit(127);
}

/* Moved out of the way of READY_FD and PARENT_FD. */
static int high_pipe(int fd[2])
{
	int low[2];

	if (pipe2(low, O_CLOEXEC) < 0)
		return -errno;
	fd[0] = fcntl(low[0], F_DUPFD_CLOEXEC, 10);
	fd[1] = fcntl(low[1], F_DUPFD_CLOEXEC, 10);
	close(low[0]);
	close(low[1]);
	return fd[0] < 0 || fd[1] < 0 ? -EMFILE : 0;
}

static void spawn(struct supervisor *s, struct child *c, char **argv)
{
	int ready[2] = { -1, -1 };

	c->again = MONO_NEVER;
	c->born = clock_mono();
	c->ready = false;
	if (high_pipe(ready) < 0) {
		log_error("no file descriptor left to start %s", c->name);
		c->again = mono_add_ms(c->born, BACKOFF_MAX_MS);
		return;
	}

	c->pid = fork();
	if (c->pid == 0)
		exec_child(s, argv, ready[1]);
	close(ready[1]);
	c->ready_fd = ready[0];
	if (c->pid < 0) {
		log_error("cannot start %s: %s", c->name, strerror(errno));
		c->pid = 0;
		close(c->ready_fd);
		c->ready_fd = -1;
		c->again = mono_add_ms(c->born, BACKOFF_MAX_MS);
	}
}

/* ---- argument lists ----------------------------------------------------- */

struct args {
	char *v[96];
	int n;
	char text[12][PATH_MAX + 64];
	int n_text;
};

static void arg(struct args *a, const char *text)
{
	if (a->n < 95)
		a->v[a->n++] = (char *)(uintptr_t)text;
	a->v[a->n] = NULL;
}

__attribute__((format(printf, 2, 3))) static void argf(struct args *a, const char *fmt, ...)
{
	char *p = a->text[a->n_text++];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p, sizeof(a->text[0]), fmt, ap);
	va_end(ap);
	arg(a, p);
}

static void common_args(struct supervisor *s, struct args *a, char **more)
{
	/* Ours come last, and the last one counts. */
	if (s->opts->config)
		argf(a, "--config=%s", s->opts->config);
	if (s->opts->verbose)
		arg(a, "--verbose");
	for (; more && *more; more++)
		arg(a, *more);
	arg(a, "--listen=127.0.0.1");
	argf(a, "--ready-fd=%d", READY_FD);
	argf(a, "--parent-fd=%d", PARENT_FD);
}

static void spawn_coordinator(struct supervisor *s)
{
	struct args *a = calloc(1, sizeof(*a));

	if (!a)
		return;
	arg(a, "nodeagentd");
	arg(a, "--coordinator");
	common_args(s, a, s->opts->coord_args);
	argf(a, "--state=%s/coordinator", s->at.dir);
	argf(a, "--socket=%s", s->at.coord_socket);
	argf(a, "--port=%u", s->at.port);
	argf(a, "--address=127.0.0.1:%u", s->at.port);
	spawn(s, &s->child[0], a->v);
	free(a);
}

static void spawn_agent(struct supervisor *s, struct child *c)
{
	struct args *a = calloc(1, sizeof(*a));

	if (!a)
		return;
	arg(a, "nodeagentd");
	arg(a, "--agent");
	common_args(s, a, s->opts->agent_args);
	argf(a, "--state=%s/nodes/%s", s->at.dir, c->name);
	argf(a, "--run=%s/%s", s->at.run, c->name);
	argf(a, "--socket=%s/%s/agent.sock", s->at.run, c->name);
	if (s->n > 2) { /* virtual nodes: each its part of the GPUs */
		argf(a, "--gpu-share=%u", (unsigned)(c - s->child) - 1);
		argf(a, "--gpu-share-of=%u", s->n - 1);
	}
	arg(a, "--peer-port=0");
	arg(a, "--single-user");
	arg(a, "--end-jobs-on-term");
	spawn(s, c, a->v);
	free(a);
}

static void spawn_child(struct supervisor *s, struct child *c)
{
	if (c == &s->child[0])
		spawn_coordinator(s);
	else
		spawn_agent(s, c);
}

/* ---- ready -------------------------------------------------------------- */

/* The agent listens before it registers, so this is true at the first look. */
static bool first_agent_answers(struct supervisor *s)
{
	char path[PATH_MAX + 80];
	int fd;

	snprintf(path, sizeof(path), "%s/%s/agent.sock", s->at.run, s->child[1].name);
	fd = socket_unix_connect(path);
	if (fd < 0) {
		log_error("the agent of %s does not answer on %s: %s", s->child[1].name, path,
			  strerror(-fd));
		return false;
	}
	close(fd);
	return true;
}

static void check_ready(struct supervisor *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!s->child[i].ready)
			return;

	if (!first_agent_answers(s)) {
		start_ending(s, 1);
		return;
	}
	s->state = READY;
	notify_send(&s->notify, "READY=1");
	printf("ready %s\n", s->line);
	fflush(stdout);
}

static void on_child_ready(struct supervisor *s, struct child *c, const char *line)
{
	c->ready = true;
	if (s->state == COORDINATOR && c == &s->child[0]) {
		snprintf(s->line, sizeof(s->line), "%s", line);
		s->state = AGENTS;
		for (unsigned i = 1; i < s->n; i++)
			spawn_agent(s, &s->child[i]);
	} else if (s->state == AGENTS) {
		check_ready(s);
	}
}

static void read_ready(struct supervisor *s, struct child *c)
{
	char line[LINE_MAX_BYTES];
	ssize_t n = read(c->ready_fd, line, sizeof(line) - 1);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	close(c->ready_fd);
	c->ready_fd = -1;
	if (n <= 0) /* it died: SIGCHLD says the rest */
		return;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	on_child_ready(s, c, line);
}

/* ---- deaths ------------------------------------------------------------- */

static void describe(int status, char *out, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(out, size, "was killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(out, size, "ended with code %d", WEXITSTATUS(status));
}

static void start_again(struct supervisor *s, struct child *c, const char *how)
{
	mono_t now = clock_mono();
	int64_t delay = BACKOFF_MS;

	if (mono_sub_ms(now, c->born) > SETTLED_MS)
		c->deaths = 0;
	for (unsigned i = 0; i < c->deaths && delay < BACKOFF_MAX_MS; i++)
		delay *= 2;
	c->deaths++;
	if (s->state < READY && (c == &s->child[0] || c->deaths > STARTS_MAX)) {
		log_error("%s %s before the cluster was ready", c->name, how);
		start_ending(s, 1);
		return;
	}
	c->again = mono_add_ms(now, delay < BACKOFF_MAX_MS ? delay : BACKOFF_MAX_MS);
	log_warn("%s %s: starting it again in %g s", c->name, how,
		 (double)mono_sub_ms(c->again, now) / 1000);
}

static void on_death(struct supervisor *s, struct child *c, int status)
{
	char how[96];

	c->pid = 0;
	describe(status, how, sizeof(how));
	if (s->state < END_AGENTS || (s->state == END_AGENTS && c == &s->child[0]))
		start_again(s, c, how);
}

static void reap(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (unsigned i = 0; i < s->n; i++)
			if (s->child[i].pid == pid)
				on_death(s, &s->child[i], status);
}

/* ---- ending ------------------------------------------------------------- */

static unsigned agents_alive(const struct supervisor *s)
{
	unsigned n = 0;

	for (unsigned i = 1; i < s->n; i++)
		n += s->child[i].pid != 0;
	return n;
}

static void signal_agents(struct supervisor *s, int number)
{
	for (unsigned i = 1; i < s->n; i++)
		if (s->child[i].pid != 0)
			kill(s->child[i].pid, number);
}

static void start_ending(struct supervisor *s, int code)
{
	mono_t now = clock_mono();

	if (s->state >= END_AGENTS)
		return;

	s->state = END_AGENTS;
	s->code = code;
	notify_send(&s->notify, "STOPPING=1");
	s->say = mono_add_ms(now, SAY_MS);
	s->give_up = mono_add_ms(now, AGENTS_MS);
	for (unsigned i = 1; i < s->n; i++)
		s->child[i].again = MONO_NEVER;
	signal_agents(s, SIGTERM);
}

static void end_coordinator(struct supervisor *s)
{
	s->state = END_COORDINATOR;
	s->child[0].again = MONO_NEVER;
	s->say = MONO_NEVER;
	s->give_up = mono_add_ms(clock_mono(), COORDINATOR_MS);
	if (s->child[0].pid != 0)
		kill(s->child[0].pid, SIGTERM);
}

static void say_whom_we_wait_for(struct supervisor *s)
{
	char text[512];
	size_t n = 0;

	for (unsigned i = 1; i < s->n && n < 400; i++)
		if (s->child[i].pid != 0)
			n += (size_t)snprintf(text + n, sizeof(text) - n, " %s", s->child[i].name);
	if (n > 0)
		log_info("waiting for %u agent%s to end %s jobs:%s (again ^C or SIGTERM: at once)", agents_alive(s),
			 agents_alive(s) == 1 ? "" : "s", agents_alive(s) == 1 ? "its" : "their", text);
	s->say = MONO_NEVER;
}

static void end_at_once(struct supervisor *s)
{
	if (s->state == END_AGENTS) {
		log_warn("%u agent%s not ended all jobs and %s killed: the shims go on with it", agents_alive(s),
			 agents_alive(s) == 1 ? " has" : "s have", agents_alive(s) == 1 ? "is" : "are");
		signal_agents(s, SIGKILL);
	} else if (s->child[0].pid != 0) {
		kill(s->child[0].pid, SIGKILL);
	}
	s->give_up = MONO_NEVER;
}

/* ---- the loop ----------------------------------------------------------- */

static void read_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(s);
		else if (s->state >= END_AGENTS)
			end_at_once(s);
		else
			start_ending(s, 0);
	}
}

static void run_due(struct supervisor *s)
{
	mono_t now = clock_mono();

	for (unsigned i = 0; i < s->n; i++)
		if (mono_due(s->child[i].again, now))
			spawn_child(s, &s->child[i]);
	if (mono_due(s->say, now))
		say_whom_we_wait_for(s);
	if (mono_due(s->give_up, now))
		end_at_once(s);
	if (s->state == END_AGENTS && agents_alive(s) == 0)
		end_coordinator(s);
}

/* -1: nothing is due, sleep. */
static int poll_timeout(const struct supervisor *s)
{
	mono_t next = mono_min(s->say, s->give_up), now = clock_mono();

	for (unsigned i = 0; i < s->n; i++)
		next = mono_min(next, s->child[i].again);
	if (mono_is_never(next))
		return -1;
	return next.ns <= now.ns ? 0 : (int)mono_sub_ms(next, now) + 1;
}

static void loop(struct supervisor *s)
{
	while (s->state != END_COORDINATOR || s->child[0].pid != 0) {
		s->poll[0] = (struct pollfd){ .fd = s->signal_fd, .events = POLLIN };
		for (unsigned i = 0; i < s->n; i++)
			s->poll[i + 1] = (struct pollfd){ .fd = s->child[i].ready_fd, .events = POLLIN };
		if (poll(s->poll, s->n + 1, poll_timeout(s)) < 0 && errno != EINTR) {
			log_error("poll: %s", strerror(errno));
			return;
		}
		for (unsigned i = 0; i < s->n; i++)
			if (s->poll[i + 1].revents != 0 && s->child[i].ready_fd >= 0)
				read_ready(s, &s->child[i]);
		if (s->poll[0].revents != 0)
			read_signals(s);
		run_due(s);
	}
}

/* ---- birth and death ---------------------------------------------------- */

static int prepare(struct supervisor *s, struct err *e)
{
	struct rlimit more;
	sigset_t mask;
	int r = layout_open(&s->at, s->opts, e);

	if (r == 0)
		r = layout_make_nodes(&s->at, e);
	if (r == 0)
		r = layout_links(&s->at, e);
	if (r < 0)
		return r;
	layout_say_left_out(&s->at);

	getrlimit(RLIMIT_NOFILE, &s->files);
	more = s->files;
	more.rlim_cur = more.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &more);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, &s->old_mask);
	s->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0 || high_pipe(s->parent_pipe) < 0)
		return err_set(e, EMFILE, "no file descriptor left");
	return 0;
}

static int children_make(struct supervisor *s, struct err *e)
{
	s->n = s->opts->nodes + 1;
	s->child = calloc(s->n, sizeof(*s->child));
	s->poll = calloc(s->n + 1, sizeof(*s->poll));
	if (!s->child || !s->poll)
		return err_set(e, ENOMEM, "out of memory");
	for (unsigned i = 0; i < s->n; i++) {
		s->child[i].ready_fd = -1;
		s->child[i].again = MONO_NEVER;
		if (i == 0)
			strcpy(s->child[i].name, "coordinator");
		else
			layout_node_name(&s->at, i - 1, s->child[i].name);
	}
	return 0;
}

int standalone_run(const struct standalone_opts *o)
{
	struct supervisor s = { .opts = o, .say = MONO_NEVER, .give_up = MONO_NEVER };
	struct err e = { 0 };
	int r;

	notify_init(&s.notify);
	r = prepare(&s, &e);
	if (r == 0)
		r = children_make(&s, &e);
	if (r < 0) {
		log_error("%s", e.text);
		s.code = 1;
	} else {
		signal(SIGPIPE, SIG_IGN);
		spawn_coordinator(&s);
		loop(&s);
	}
	if (!s.child || (agents_alive(&s) == 0 && s.child[0].pid == 0))
		layout_close(&s.at);
	free(s.child);
	free(s.poll);
	return s.code;
}
