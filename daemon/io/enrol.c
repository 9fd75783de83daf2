/* enrol.c - new clusters and new nodes, written straight into the store
 *
 * Used by `nodeagentd init` and by the standalone supervisor's set-up child,
 * while no coordinator runs. Every step may be repeated after a crash: keys
 * that exist are kept, rows are written again, node.ini comes last. */
#include "io/enrol.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/hostlist.h"
#include "io/files.h"
#include "io/loop_util.h"
#include "io/roles.h"

static int put(struct store *s, enum store_table table, const char *key, const struct msg *m,
	       struct err *e)
{
	struct store_row row = { .table = table, .key = key };
	struct buf b;
	int r;

	buf_init(&b);
	r = msg_encode(m, &b, e);
	row.json = b.data;
	row.len = b.len;
	if (r == 0)
		r = store_write_now(s, &row, 1, e);
	buf_finish(&b);
	return r;
}

/* ---- the cluster -------------------------------------------------------- */

static int on_cluster_row(void *arg, enum store_table table, const char *key, const char *json,
			  size_t len, struct err *e)
{
	char *out = arg;
	struct msg m;
	int r;

	if (table != TABLE_CLUSTER)
		return 0;
	r = msg_decode(json, len, &m, e);
	if (r == 0 && m.type == MSG_row_cluster)
		snprintf(out, 65, "%s", m.u.row_cluster.cluster);
	if (r == 0)
		msg_finish(&m);
	return r;
}

int enrol_cluster_name(struct store *s, char out[65], struct err *e)
{
	int r;

	out[0] = '\0';
	r = store_each(s, on_cluster_row, out, e);
	if (r == 0 && !out[0])
		r = err_set(e, ENOENT, "the database holds no cluster");
	return r;
}

static int write_cluster(struct store *s, const char *cluster, struct err *e)
{
	char name[65];
	struct msg m;

	if (enrol_cluster_name(s, name, NULL) == 0)
		return err_set(e, EEXIST, "there is a cluster already: '%s'", name);

	msg_init(&m, MSG_row_cluster);
	m.u.row_cluster.cluster = cluster;
	random_fill(&m.u.row_cluster.lineage, sizeof(m.u.row_cluster.lineage));
	m.u.row_cluster.next_job = 1;
	return put(s, TABLE_CLUSTER, "cluster", &m, e);
}

int enrol_make_cluster(const char *dir, const char *cluster, struct err *e)
{
	struct store *s = NULL;
	int r;

	if (!node_name_valid(cluster))
		return err_set(e, EINVAL, "'%s' cannot be a cluster's name: use lower-case letters, "
			       "digits, '.', '_' and '-'", cluster);

	r = dir_make_all(dir, 0700, e);
	if (r == 0)
		r = store_open(dir, true, &s, e);
	if (r == 0)
		r = tls_make_identity(dir, e);
	if (r == 0)
		r = write_cluster(s, cluster, e);
	store_close(s);
	return r;
}

/* ---- a node ------------------------------------------------------------- */

int enrol_own_key(const char *state_dir, uint8_t out[KEY_HASH], struct err *e)
{
	struct tls_context *t;
	int r = tls_context_create(state_dir, &t, e);

	if (r < 0)
		return r;
	memcpy(out, tls_own_key(t), KEY_HASH);
	tls_context_destroy(t);
	return 0;
}

static int put_node(struct store *s, const struct enrol_node *n, const uint8_t key[KEY_HASH],
		    struct err *e)
{
	struct rec_row_node *row;
	struct msg m;

	msg_init(&m, MSG_row_node);
	row = &m.u.row_node;
	row->node = n->name;
	row->key = (struct bytes){ key, KEY_HASH };
	MSG_SET(row, row_node, joined_wall_ms, clock_wall_ms());
	if (n->submit) {
		MSG_SET(row, row_node, submit, true);
		MSG_SET(row, row_node, uid_min, n->uid_min);
		MSG_SET(row, row_node, uid_max, n->uid_max);
	}
	return put(s, TABLE_NODE, n->name, &m, e);
}

int enrol_add_node(struct store *s, const struct enrol_node *n, struct err *e)
{
	uint8_t key[KEY_HASH];
	int r = dir_make_all(n->state_dir, 0700, e);

	if (r == 0)
		r = tls_make_identity(n->state_dir, e);
	if (r == 0)
		r = enrol_own_key(n->state_dir, key, e);
	return r == 0 ? put_node(s, n, key, e) : r;
}

int enrol_take_back(struct store *s, const struct enrol_node *n, struct err *e)
{
	char hex[2 * KEY_HASH + 1];
	struct store_row revoked = { .table = TABLE_REVOKED, .key = hex }; /* without text: it goes */
	uint8_t key[KEY_HASH];
	int r = enrol_own_key(n->state_dir, key, e);

	if (r < 0)
		return r;
	for (size_t i = 0; i < KEY_HASH; i++)
		snprintf(hex + 2 * i, 3, "%02x", key[i]);
	r = store_write_now(s, &revoked, 1, e);
	return r == 0 ? put_node(s, n, key, e) : r;
}

int enrol_write_ini(const struct enrol_node *n, struct err *e)
{
	struct node_identity id = { .coord_port = n->port };

	snprintf(id.node, sizeof(id.node), "%s", n->name);
	snprintf(id.cluster, sizeof(id.cluster), "%s", n->cluster);
	snprintf(id.coord_host, sizeof(id.coord_host), "%s", n->host);
	memcpy(id.coord_key, n->coord_key, KEY_HASH);
	return identity_save(n->state_dir, &id, e);
}

/* ---- this host ---------------------------------------------------------- */

int enrol_host_name(char out[65], struct err *e)
{
	char name[256] = "";

	if (gethostname(name, sizeof(name) - 1) < 0)
		return err_set(e, errno, "this host has no name: %s", strerror(errno));
	name[strcspn(name, ".")] = '\0';
	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (!node_name_valid(name))
		return err_set(e, EINVAL, "this host's name '%s' cannot be a node's name: "
			       "give one with --name", name);
	snprintf(out, 65, "%s", name);
	return 0;
}

bool enrol_loopback_mistake(const char *host, char *out, size_t size)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	bool mistake = false;

	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return false;
	for (struct addrinfo *a = found; a; a = a->ai_next)
		if (((struct sockaddr_in *)a->ai_addr)->sin_addr.s_addr == inet_addr("127.0.1.1"))
			mistake = true;
	freeaddrinfo(found);
	if (mistake)
		snprintf(out, size,
			 "the name '%s' resolves to 127.0.1.1, which reaches only this host: other "
			 "hosts cannot use it. Put the host's real address beside the name in "
			 "/etc/hosts, in place of 127.0.1.1", host);
	return mistake;
}

/* ---- ownership ---------------------------------------------------------- */

static int give_all(int fd, const struct passwd *pw)
{
	DIR *d = fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!d)
		return -errno;
	while (r == 0 && (entry = readdir(d))) {
		if (strcmp(entry->d_name, "..") == 0)
			continue;
		if (fchownat(dirfd(d), entry->d_name, pw->pw_uid, pw->pw_gid,
			     AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
	}
	closedir(d);
	return r;
}

int enrol_hand_over(const char *dir, const char *user, struct err *e)
{
	const struct passwd *pw;
	int fd, r;

	if (geteuid() != 0)
		return 0;
	pw = getpwnam(user);
	if (!pw) {
		fprintf(stderr, "warning: there is no user %s on this host yet: run systemd-sysusers "
			"before the services are started\n", user);
		return 0;
	}

	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	r = fd < 0 ? -errno : give_all(fd, pw); /* takes fd */
	if (r < 0)
		return err_set(e, -r, "cannot give %s to the user %s: %s", dir, user, strerror(-r));
	return 0;
}
