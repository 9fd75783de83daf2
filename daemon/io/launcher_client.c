/* launcher_client.c - see launcher_client.h
 *
 *   down --(start or connect)--> up --(end of file)--> down, again in a second
 *
 * An agent of root starts the program itself, over a socket pair. Any other
 * connects to the socket that systemd holds for it: there the launcher can be
 * restarted, and what is asked meanwhile waits in the socket. A launcher that
 * is not there does not keep the agent from starting: its jobs need it.
 * What was asked when it died is answered with an error: whether a shim was
 * started meanwhile is found out by the launch's caller, who fails the launch;
 * a shim that nobody comes to leaves by itself.
 */
#include "io/launcher_client.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "io/spawn.h"

#define AGAIN_MS 1000
#define ASKED_MAX 1024
#define DEFAULT_SOCKET "/run/nodeagent-launcher.sock" /* nodeagent-launcher.socket */

struct asked {
	struct list at;
	uint64_t id;
	launcher_cb cb;
	void *arg;
};

struct launcher_client {
	struct agent_io *io;
	char path[512];
	bool is_socket;
	int fd; /* -1: down */
	mono_t since; /* ... it is up */
	bool told; /* that it cannot be reached */
	unsigned short_lives; /* connections in a row that ended within a second */
	uv_poll_t *poll; /* own memory: closes asynchronously */
	uv_timer_t again;
	uv_idle_t idle; /* answers questions that could not be asked */
	pid_t pid; /* our child, 0 none */
	uint64_t next_id;
	struct list asked;
	unsigned n_asked;
};

static void answer(struct launcher_client *l, struct asked *a, int error, uint32_t result,
		   const char *text)
{
	list_remove(&a->at);
	l->n_asked--;
	if (a->cb != NULL)
		a->cb(a->arg, error, result, text);
	free(a);
}

static void fail_all(struct launcher_client *l)
{
	while (!list_empty(&l->asked))
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): answer() has taken the one before off the list */
		answer(l, list_entry(l->asked.next, struct asked, at), -EPIPE, 0,
		       "nodeagent-launcher has died; it is being started again");
}

static void poll_closed(uv_handle_t *h)
{
	free(h);
}

static int connect_up(struct launcher_client *l);

static void try_again(uv_timer_t *t)
{
	struct launcher_client *l = t->data;

	int rc = connect_up(l);

	if (rc == 0)
		return;
	if (!l->told)
		log_warn("nodeagent-launcher: %s: %s; trying again every second", l->path,
			 strerror(-rc));
	l->told = true;
	uv_timer_start(&l->again, try_again, AGAIN_MS, 0);
}

static void tell_status(struct launcher_client *l)
{
	if (l->io->core != NULL) /* else we are still starting */
		agent_tell_status(l->io);
}

/* A socket that systemd holds is there while the launcher restarts; one that
 * turns us away is not asked in a circle. */
static uint64_t pause_ms(struct launcher_client *l)
{
	bool lived = mono_sub_ms(clock_mono(), l->since) >= AGAIN_MS;

	l->short_lives = lived ? 0 : l->short_lives + 1;
	return l->is_socket && l->short_lives <= 1 ? 0 : AGAIN_MS;
}

static void went_down(struct launcher_client *l, const char *why)
{
	log_warn("nodeagent-launcher: %s", why);
	uv_close((uv_handle_t *)l->poll, poll_closed);
	l->poll = NULL;
	close(l->fd);
	l->fd = -1;
	uv_timer_start(&l->again, try_again, pause_ms(l), 0);
	fail_all(l);
	tell_status(l);
}

static void replied(struct launcher_client *l, struct launcher_reply *r)
{
	r->text[sizeof(r->text) - 1] = r->text[sizeof(r->text) - 2] = 0; /* two strings, see launcher.h */
	list_foreach_safe(e, &l->asked) {
		struct asked *a = list_entry(e, struct asked, at);

		if (a->id == r->id) {
			answer(l, a, r->error > 0 ? -r->error : r->error, r->result, r->text);
			return;
		}
	}
}

static void on_readable(uv_poll_t *p, int status, int events)
{
	struct launcher_client *l = p->data;
	struct launcher_reply r;

	for (;;) {
		ssize_t n = recv(l->fd, &r, sizeof(r), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n != (ssize_t)sizeof(r) || r.version != LAUNCHER_VERSION) {
			went_down(l, n == 0 ? "it has ended" : n < 0 ? strerror(errno) :
				  "it is of another version; restart agent and launcher");
			return;
		}
		replied(l, &r);
		if (l->fd < 0)
			return;
	}
}

static int watch(struct launcher_client *l, int fd)
{
	l->poll = agent_alloc(sizeof(*l->poll));
	if (uv_poll_init(&l->io->loop, l->poll, fd) != 0) {
		free(l->poll);
		l->poll = NULL;
		close(fd);
		return -EIO;
	}
	l->poll->data = l;
	l->fd = fd;
	return uv_poll_start(l->poll, UV_READABLE | UV_DISCONNECT, on_readable);
}

static int connect_socket(struct launcher_client *l)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;

	if (fd < 0)
		return -errno;
	if (strlen(l->path) >= sizeof(sa.sun_path)) {
		close(fd);
		return -ENAMETOOLONG;
	}
	strcpy(sa.sun_path, l->path);
	if (connect(fd, (void *)&sa, sizeof(sa)) != 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return watch(l, fd);
}

/* Its name must be known to the launcher, which hands the spool's files to it. */
static void own_name(char out[65])
{
	struct passwd *pw = getpwuid(geteuid());

	snprintf(out, 65, "%s", pw != NULL ? pw->pw_name : "root");
}

static int start_program(struct launcher_client *l)
{
	const struct agent_opts *o = l->io->opts;
	char min[12], max[12], name[65];
	char *argv[] = { (char *)"nodeagent-launcher", (char *)"--spool", (char *)o->spool_dir,
			 (char *)"--fd", (char *)"3", (char *)"--shim", l->io->shim_path,
			 (char *)"--agent-user", name, (char *)"--uid-min", min,
			 (char *)"--uid-max", max, NULL, NULL };
	char *env[] = { NULL };
	struct spawn_fd map[2];
	struct err e;
	int fds[2], rc;

	snprintf(min, sizeof(min), "%u", o->uid_min);
	snprintf(max, sizeof(max), "%u", o->uid_max);
	own_name(name);
	if (o->allow_root)
		argv[13] = (char *)"--allow-root";
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
		return -errno;
	map[0] = (struct spawn_fd){ fds[1], 3 };
	map[1] = (struct spawn_fd){ 2, 2 }; /* its log is ours */
	rc = spawn_program(l->path, argv, env, map, 2, l->io->nofile.cur, l->io->nofile.max, &l->pid,
			   &e);
	close(fds[1]);
	if (rc != 0) {
		log_error("%s", e.text);
		close(fds[0]);
		return rc;
	}
	return watch(l, fds[0]);
}

static int connect_up(struct launcher_client *l)
{
	int rc = l->is_socket ? connect_socket(l) : start_program(l);

	if (rc != 0)
		return rc;
	log_info("nodeagent-launcher is up");
	l->since = clock_mono();
	l->told = false;
	tell_status(l);
	return 0;
}

/* What could not be asked stays in the list with id 0 and is answered here. */
static void on_idle(uv_idle_t *h)
{
	struct launcher_client *l = h->data;

	uv_idle_stop(h);
	list_foreach_safe(e, &l->asked) {
		struct asked *a = list_entry(e, struct asked, at);

		if (a->id == 0)
			answer(l, a, -EAGAIN, 0, l->fd < 0 ? "nodeagent-launcher does not run on this node" :
			       "nodeagent-launcher is overloaded on this node");
	}
}

static bool send_request(struct launcher_client *l, const struct launcher_request *r, const int *fds)
{
	struct iovec iov = { (void *)r, sizeof(*r) };
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} u;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds != NULL) {
		memset(&u, 0, sizeof(u));
		m.msg_control = u.room;
		m.msg_controllen = sizeof(u.room);
		u.h.cmsg_level = SOL_SOCKET;
		u.h.cmsg_type = SCM_RIGHTS;
		u.h.cmsg_len = CMSG_LEN(2 * sizeof(int));
		memcpy(CMSG_DATA(&u.h), fds, 2 * sizeof(int));
	}
	return l->fd >= 0 && l->n_asked <= ASKED_MAX &&
	       sendmsg(l->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof(*r);
}

void launcher_client_ask(struct launcher_client *l, struct launcher_request *r, const int fds[2],
			 launcher_cb cb, void *arg)
{
	struct asked *a = agent_alloc(sizeof(*a));

	a->id = r->id = ++l->next_id;
	a->cb = cb;
	a->arg = arg;
	r->version = LAUNCHER_VERSION;
	list_append(&l->asked, &a->at);
	l->n_asked++;
	if (!send_request(l, r, fds)) {
		a->id = 0;
		uv_idle_start(&l->idle, on_idle);
	}
}

bool launcher_client_up(const struct launcher_client *l)
{
	return l != NULL && l->fd >= 0;
}

void launcher_client_reap(struct launcher_client *l)
{
	if (l->pid > 0 && waitpid(l->pid, NULL, WNOHANG) != 0)
		l->pid = 0;
}

static int find_launcher(struct launcher_client *l, struct err *e)
{
	const char *slash = strrchr(l->io->shim_path, '/');
	bool root = geteuid() == 0;
	struct stat st;

	if (l->io->opts->launcher_path != NULL)
		snprintf(l->path, sizeof(l->path), "%s", l->io->opts->launcher_path);
	else if (!root)
		snprintf(l->path, sizeof(l->path), "%s", DEFAULT_SOCKET);
	else /* where the shim is */
		snprintf(l->path, sizeof(l->path), "%.*s/nodeagent-launcher",
			 slash ? (int)(slash - l->io->shim_path) : 1, slash ? l->io->shim_path : ".");
	l->is_socket = true;
	if (stat(l->path, &st) == 0)
		l->is_socket = S_ISSOCK(st.st_mode);
	else if (root)
		return err_set(e, errno, "%s: %s", l->path, strerror(errno));
	if (!l->is_socket && !root)
		return err_set(e, EPERM, "starting %s takes root; let systemd start it, and name its "
				 "socket, or run the agent for a single user", l->path);
	return 0;
}

int launcher_client_create(struct agent_io *io, struct launcher_client **ret, struct err *e)
{
	struct launcher_client *l = agent_alloc(sizeof(*l));
	int rc;

	l->io = io;
	l->fd = -1;
	list_init(&l->asked);
	rc = find_launcher(l, e);
	if (rc != 0) {
		free(l);
		return rc;
	}
	uv_timer_init(&io->loop, &l->again);
	uv_idle_init(&io->loop, &l->idle);
	l->again.data = l->idle.data = l;
	try_again(&l->again);
	*ret = l;
	return 0;
}

void launcher_client_destroy(struct launcher_client *l)
{
	if (l == NULL)
		return;
	if (l->fd >= 0)
		close(l->fd); /* it ends with its connection */
	l->fd = -1;
}
