/* standalone_make.c - what a standalone cluster has on disk; see PROTOCOL.md, "Directories"
 *
 * Unix sockets have 107 bytes for their path. When DIR is too deep, DIR/run
 * is a symbolic link to a short private directory below $XDG_RUNTIME_DIR or
 * /tmp. We follow it only while it leads to a directory of ours that nobody
 * else may enter; otherwise a new one is made. */
#include "io/standalone.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "io/enrol.h"
#include "io/files.h"
#include "io/roles.h"

#define CLUSTER NA_STANDALONE
#define SOCKET_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
/* RUN/NAME + "/shims/" JOB "." ATTEMPT ".sock" */
#define BELOW_RUN (1 + 8 + 7 + 10 + 1 + 5 + 5)

/* Formats a path; false when it is too long. */
__attribute__((format(printf, 2, 3))) static bool path_set(char out[PATH_MAX], const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out, PATH_MAX, fmt, ap);
	va_end(ap);
	return n >= 0 && n < PATH_MAX;
}

void layout_node_name(const struct layout *l, unsigned i, char out[65])
{
	snprintf(out, 65, "node%0*u", (int)l->digits, i + 1);
}

/* ---- the run directory -------------------------------------------------- */

static bool private_directory(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
	       (st.st_mode & 077) == 0;
}

static int make_short(struct layout *l, const char *link, struct err *e)
{
	const char *base = getenv("XDG_RUNTIME_DIR");

	if (!base || !private_directory(base) || strlen(base) > SOCKET_MAX - BELOW_RUN - 16)
		base = "/tmp";
	if (!path_set(l->run, "%s/na-XXXXXX", base) || !mkdtemp(l->run))
		return err_set(e, errno, "cannot make a directory in %s: %s", base, strerror(errno));
	if ((unlink(link) < 0 && errno != ENOENT) || symlink(l->run, link) < 0)
		return err_set(e, errno, "cannot make %s: %s", link, strerror(errno));
	return 0;
}

/* Follows DIR/run of a former start when it is still what we made. */
static int find_run(struct layout *l, struct err *e)
{
	char link[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (!path_set(link, "%s/run", l->dir))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", l->dir);
	if (lstat(link, &st) == 0 && S_ISLNK(st.st_mode)) {
		n = readlink(link, l->run, sizeof(l->run) - 1);
		l->run[n > 0 ? n : 0] = '\0';
		return private_directory(l->run) ? 0 : make_short(l, link, e);
	}
	if (strlen(link) + BELOW_RUN <= SOCKET_MAX) {
		memcpy(l->run, link, sizeof(link));
		return dir_make(l->run, 0700, e);
	}
	if (lstat(link, &st) == 0 && rmdir(link) < 0)
		return err_set(e, errno, "%s is too long a path for sockets, and it is not empty: stop what "
			       "runs there and remove it", link);
	return make_short(l, link, e);
}

/* systemd-tmpfiles leaves a locked directory alone. */
static void hold_run(struct layout *l)
{
	l->run_fd = open(l->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->run_fd >= 0)
		(void)flock(l->run_fd, LOCK_SH | LOCK_NB);
}

/* ---- the whole ---------------------------------------------------------- */

/* Names keep the width of the first start: nodes that exist are never renamed. */
static unsigned digits_of(const struct layout *l)
{
	char path[PATH_MAX], name[65];
	struct layout probe = { .digits = 1 };
	unsigned need = 1;

	for (; probe.digits <= 4; probe.digits++) {
		layout_node_name(&probe, 0, name);
		if (path_set(path, "%s/nodes/%s/node.ini", l->dir, name) && access(path, F_OK) == 0)
			return probe.digits;
	}
	for (unsigned n = l->nodes; n >= 10; n /= 10)
		need++;
	return need;
}

static int lock_dir(struct layout *l, struct err *e)
{
	char path[PATH_MAX];
	pid_t pid = 0;

	if (!path_set(path, "%s/lock", l->dir))
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", l->dir);
	l->lock_fd = file_lock(path, &pid, e);
	if (l->lock_fd == -EBUSY)
		return err_set(e, EBUSY, "a cluster runs in %s already (process %ld)", l->dir, (long)pid);
	return l->lock_fd < 0 ? l->lock_fd : 0;
}

static int make_dirs(const struct layout *l, struct err *e)
{
	static const char *const names[] = { "nodes", "coordinator" };
	char path[PATH_MAX], name[65];
	int r = 0;

	for (size_t i = 0; i < 2 && r == 0; i++)
		r = path_set(path, "%s/%s", l->dir, names[i])
			    ? dir_make(path, 0700, e)
			    : err_set(e, ENAMETOOLONG, "%s: the path is too long", l->dir);
	for (unsigned i = 0; i < l->nodes && r == 0; i++) {
		layout_node_name(l, i, name);
		if (path_set(path, "%s/%s", l->run, name))
			r = dir_make(path, 0700, e);
	}
	return r;
}

int layout_open(struct layout *l, const struct standalone_opts *o, struct err *e)
{
	int r;

	*l = (struct layout){ .nodes = o->nodes, .port = o->port, .lock_fd = -1, .run_fd = -1 };
	r = dir_make_all(o->dir, 0700, e);
	if (r < 0)
		return r;
	if (!realpath(o->dir, l->dir))
		return err_set(e, errno, "%s: %s", o->dir, strerror(errno));

	r = lock_dir(l, e);
	if (r == 0)
		r = find_run(l, e);
	if (r < 0)
		return r;
	hold_run(l);
	l->digits = digits_of(l);
	if (!path_set(l->coord_socket, "%s/coordinator/coordinator.sock", l->dir) ||
	    strlen(l->coord_socket) > SOCKET_MAX)
		path_set(l->coord_socket, "%.200s/coordinator.sock", l->run);
	return make_dirs(l, e);
}

/* ---- keys, database, node.ini ------------------------------------------- */

static int node_dir(const struct layout *l, unsigned i, char out[PATH_MAX])
{
	char name[65];

	layout_node_name(l, i, name);
	return path_set(out, "%s/nodes/%s", l->dir, name) ? 0 : -ENAMETOOLONG;
}

static int coord_dir(const struct layout *l, char out[PATH_MAX], struct err *e)
{
	return path_set(out, "%s/coordinator", l->dir)
		       ? 0 : err_set(e, ENAMETOOLONG, "%s: the path is too long", l->dir);
}

/* Which of our nodes the database has. */
struct rows {
	const struct layout *l;
	bool *there;
};

static int on_row(void *arg, enum store_table table, const char *key, const char *json, size_t len, struct err *e)
{
	struct rows *rows = arg;
	char name[65];

	for (unsigned i = 0; table == TABLE_NODE && i < rows->l->nodes; i++) {
		layout_node_name(rows->l, i, name);
		if (strcmp(name, key) == 0) {
			rows->there[i] = true;
			break;
		}
	}
	return 0;
}

/* It was taken out with nodectl node-remove, and is asked for again by whoever starts the cluster. */
static int take_back(struct store *s, const struct enrol_node *n, struct err *e)
{
	log_warn("node %s was taken out of this cluster (nodectl node-remove) and is one of the --virtual-nodes asked for: "
		 "it is taken in again", n->name);
	return enrol_take_back(s, n, e);
}

/* With a store: key and row of a node that is missing. Without: its node.ini,
 * which also learns a new port. */
static int make_node(const struct layout *l, struct store *s, bool there, unsigned i, const uint8_t *coord_key,
		     struct err *e)
{
	char dir[PATH_MAX], name[65];
	struct node_identity id;
	struct enrol_node n = {
		.state_dir = dir, .name = name, .cluster = CLUSTER, .host = "127.0.0.1", .port = l->port,
		.coord_key = coord_key, .submit = true, .uid_min = geteuid(), .uid_max = geteuid(),
	};

	if (node_dir(l, i, dir) < 0)
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", l->dir);
	layout_node_name(l, i, name);
	if (identity_load(dir, &id, NULL) < 0)
		return s ? enrol_add_node(s, &n, e) : enrol_write_ini(&n, e);
	if (s && !there)
		return take_back(s, &n, e);
	if (s || id.coord_port == l->port)
		return 0;
	id.coord_port = l->port;
	return identity_save(dir, &id, e);
}

static int make_rows(const struct layout *l, const char *dir, const uint8_t *coord_key, struct err *e)
{
	struct rows rows = { .l = l, .there = calloc(l->nodes, sizeof(bool)) };
	struct store *s = NULL;
	int r = rows.there ? store_open(dir, false, &s, e) : err_set(e, ENOMEM, "out of memory");

	if (r == 0)
		r = store_each(s, on_row, &rows, e);
	if (r == 0)
		r = store_batch_begin(s, e);
	for (unsigned i = 0; i < l->nodes && r == 0; i++)
		r = make_node(l, s, rows.there[i], i, coord_key, e);
	if (r == 0)
		r = store_batch_end(s, e);
	store_close(s);
	free(rows.there);
	return r;
}

/* In the child. node.ini is written after the rows: a start that was cut
 * short is repeated, and a key that was lost with it is made again. */
static int make_all(struct layout *l, bool complete, struct err *e)
{
	uint8_t key[KEY_HASH];
	char dir[PATH_MAX], path[PATH_MAX];
	int r = coord_dir(l, dir, e);

	files_defer_sync();
	if (r == 0 && path_set(path, "%s/cert.pem", dir) && access(path, F_OK) < 0) {
		r = enrol_make_cluster(dir, CLUSTER, e);
		if (r == -EEXIST)
			r = tls_make_identity(dir, e);
	}
	if (r == 0)
		r = enrol_own_key(dir, key, e);
	if (r == 0)
		r = make_rows(l, dir, key, e);
	if (r == -EBUSY && complete) /* a coordinator of before is on its way out, or will say so itself */
		return 0;
	for (unsigned i = 0; i < l->nodes && r == 0; i++)
		r = make_node(l, NULL, true, i, key, e);
	return r == 0 ? files_sync(e) : r;
}

static bool complete(const struct layout *l)
{
	struct node_identity id;
	char dir[PATH_MAX];

	for (unsigned i = 0; i < l->nodes; i++)
		if (node_dir(l, i, dir) < 0 || identity_load(dir, &id, NULL) < 0 ||
		    id.coord_port != l->port)
			return false;
	return true;
}

/* A port of loopback that can be bound now: the wanted one, or any. 0: none. */
static uint16_t free_port(uint16_t wanted)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(wanted) };
	socklen_t n = sizeof(a);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint16_t got = 0;

	if (fd < 0)
		return 0;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 &&
	    getsockname(fd, (struct sockaddr *)&a, &n) == 0)
		got = ntohs(a.sin_port);
	close(fd);
	return got;
}

static int find_port(struct layout *l, struct err *e)
{
	struct node_identity id;
	char dir[PATH_MAX];

	if (l->port != 0) {
		if (free_port(l->port) == l->port)
			return 0;
		return err_set(e, EADDRINUSE, "127.0.0.1:%u: address already in use", l->port);
	}
	if (node_dir(l, 0, dir) == 0 && identity_load(dir, &id, NULL) == 0)
		l->port = free_port(id.coord_port);
	if (l->port == 0)
		l->port = free_port(0);
	return l->port != 0 ? 0 : err_set(e, EADDRINUSE, "no TCP port is free on 127.0.0.1");
}

int layout_make_nodes(struct layout *l, struct err *e)
{
	int status, r = find_port(l, e);
	pid_t pid;

	if (r < 0)
		return r;

	pid = fork();
	if (pid < 0)
		return err_set(e, errno, "cannot start a process: %s", strerror(errno));
	if (pid == 0) {
		r = make_all(l, complete(l), e);
		if (r < 0)
			log_error("%s", e->text);
		_exit(r < 0 ? 1 : 0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(e, errno, "cannot wait for a child: %s", strerror(errno));
	return status == 0 ? 0 : err_set(e, EIO, "the cluster in %s could not be made", l->dir);
}

/* ---- nodes of before ------------------------------------------------------ */

/* "job 3, job 5" that shims hold there; empty: none. */
static void jobs_there(const struct layout *l, const char *name, char *out, size_t size)
{
	char path[PATH_MAX];
	unsigned long long job;
	struct dirent *d;
	size_t n = 0;
	DIR *dir;

	out[0] = '\0';
	if (!path_set(path, "%s/%s/shims", l->run, name) || !(dir = opendir(path)))
		return;
	while ((d = readdir(dir)) && n + 32 < size)
		if (sscanf(d->d_name, "%llu.", &job) == 1)
			n += (size_t)snprintf(out + n, size - n, "%sjob %llu", n > 0 ? ", " : "", job);
	closedir(dir);
}

static bool is_ours(const struct layout *l, const char *name)
{
	char own[65];

	for (unsigned i = 0; i < l->nodes; i++) {
		layout_node_name(l, i, own);
		if (strcmp(own, name) == 0)
			return true;
	}
	return false;
}

void layout_say_left_out(const struct layout *l)
{
	char path[PATH_MAX], jobs[256];
	struct dirent *d;
	DIR *dir;

	if (!path_set(path, "%s/nodes", l->dir) || !(dir = opendir(path)))
		return;
	while ((d = readdir(dir))) {
		if (d->d_name[0] == '.' || is_ours(l, d->d_name))
			continue;
		jobs_there(l, d->d_name, jobs, sizeof(jobs));
		log_warn("node %s of an earlier start is left out: %u virtual node%s asked for%s%s", d->d_name, l->nodes,
			 l->nodes == 1 ? " is" : "s are", jobs[0] ? "; it holds what cannot be ended or read without it: " : "",
			 jobs);
	}
	closedir(dir);
}

/* ---- symbolic links for clients ----------------------------------------- */

int layout_links(const struct layout *l, struct err *e)
{
	char target[PATH_MAX], name[65];
	bool beside = strncmp(l->coord_socket, l->dir, strlen(l->dir)) == 0;
	int r;

	layout_node_name(l, 0, name);
	path_set(target, "run/%s/agent.sock", name);
	r = file_link(target, l->dir, "nodectl.sock", e);
	return r < 0 ? r
		     : file_link(beside ? "coordinator/coordinator.sock" : l->coord_socket, l->dir,
			       "coordinator.sock", e);
}

/* ---- the end ------------------------------------------------------------ */

/* Daemons are gone, so their sockets serve nobody; whatever else is there stays. */
static void tidy_node(const char *run, const char *name)
{
	static const char *const files[] = { "agent.sock", "peer.port", "boot" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (path_set(path, "%s/%s/%s", run, name, files[i]))
			(void)unlink(path);
	if (path_set(path, "%s/%s/shims", run, name))
		(void)rmdir(path);
	if (path_set(path, "%s/%s", run, name))
		(void)rmdir(path);
}

void layout_close(const struct layout *l)
{
	char link[PATH_MAX], path[PATH_MAX];
	struct dirent *d;
	struct stat st;
	DIR *dir;

	if (!l->run[0] || !path_set(link, "%s/run", l->dir) || lstat(link, &st) < 0 ||
	    !S_ISLNK(st.st_mode) || !(dir = opendir(l->run)))
		return;
	while ((d = readdir(dir)))
		if (d->d_name[0] != '.')
			tidy_node(l->run, d->d_name);
	closedir(dir);
	if (path_set(path, "%s/coordinator.sock", l->run))
		(void)unlink(path);
	if (rmdir(l->run) == 0)
		(void)unlink(link);
}
