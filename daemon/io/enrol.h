/* enrol.h - making clusters and nodes on this host, and joining one over the network */
#ifndef NA_IO_ENROL_H
#define NA_IO_ENROL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "io/store.h"
#include "io/tls.h"

#define DEFAULT_PORT 7070
#define DEFAULT_BASE "/var/lib/nodeagent"
#define DAEMON_USER "nodeagent" /* both roles', when systemd starts them */

/* Makes DIR with the coordinator's key and a database that holds a new
 * cluster. -EEXIST when there is one. */
int enrol_make_cluster(const char *dir, const char *cluster, struct err *e);
/* The cluster's name in an open store; room for 65 bytes. */
int enrol_cluster_name(struct store *s, char out[65], struct err *e);

struct enrol_node {
	const char *state_dir; /* made */
	const char *name, *cluster;
	const char *host; /* of the coordinator */
	uint16_t port;
	const uint8_t *coord_key;
	bool submit;
	uint32_t uid_min, uid_max;
};
/* Makes the node's key and writes its row. May be repeated. */
int enrol_add_node(struct store *s, const struct enrol_node *n, struct err *e);
/* Its row again, with the key it has, after somebody took the node out of the cluster. */
int enrol_take_back(struct store *s, const struct enrol_node *n, struct err *e);
/* Its node.ini: only when the row is on disk, for who has a node.ini is enrolled. */
int enrol_write_ini(const struct enrol_node *n, struct err *e);
/* The key hash of the identity in a state directory. */
int enrol_own_key(const char *state_dir, uint8_t out[KEY_HASH], struct err *e);

/* This host's name up to the first dot, lower case; -EINVAL and a sentence
 * when that is no node name. */
int enrol_host_name(char out[65], struct err *e);
/* A sentence when 'host' resolves to 127.0.1.1 (Debian's /etc/hosts line for
 * the own name), else false. Blocks. */
bool enrol_loopback_mistake(const char *host, char *out, size_t size);
/* Gives the files of a state directory to a user, when we are root and the
 * user exists. */
int enrol_hand_over(const char *dir, const char *user, struct err *e);

/* nodeagentd init | join: exit codes. argv begins after the verb. */
int enrol_init_main(int argc, char **argv);
int enrol_join_main(int argc, char **argv);

#endif
