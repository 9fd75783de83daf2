/* identity.c - STATE/node.ini: who this node is and which coordinator it belongs to */
#include "io/roles.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/conf.h"
#include "common/hostlist.h"
#include "io/files.h"
#include "io/sockets.h"

struct ini {
	char *name, *cluster, *coordinator, *key;
};

#define ROW(field, text)                                                                 \
	{ "node", #field, CONF_STR, offsetof(struct ini, field), 0, 0, text }

static const struct conf_key table[] = {
	ROW(name, "name of this node in the cluster"),
	ROW(cluster, "the cluster's name"),
	ROW(coordinator, "HOST:PORT of the coordinator"),
	{ "node", "coordinator_key", CONF_STR, offsetof(struct ini, key), 0, 0,
	  "SHA-256 of the coordinator's public key" },
	{ 0 },
};

static int ini_path(const char *state_dir, char out[PATH_MAX], struct err *e)
{
	if (snprintf(out, PATH_MAX, "%s/node.ini", state_dir) >= PATH_MAX)
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", state_dir);
	return 0;
}

static int convert(const struct ini *i, const char *path, struct node_identity *ret, struct err *e)
{
	struct node_identity id = { 0 };
	struct err why;

	if (!i->name || !i->cluster || !i->coordinator || !i->key)
		return err_set(e, EINVAL, "%s: name, cluster, coordinator and coordinator_key must "
			       "all be there. Join again: nodeagentd join", path);
	if (!node_name_valid(i->name) || !node_name_valid(i->cluster))
		return err_set(e, EINVAL, "%s: '%s' or '%s' is not a valid name", path, i->name,
			       i->cluster);
	if (socket_parse_host_port(i->coordinator, id.coord_host, &id.coord_port, &why) < 0)
		return err_set(e, EINVAL, "%s: coordinator: %s", path, why.text);
	if (hex_decode(i->key, id.coord_key, sizeof(id.coord_key)) < 0)
		return err_set(e, EINVAL, "%s: coordinator_key is not 64 hexadecimal digits", path);

	snprintf(id.node, sizeof(id.node), "%s", i->name);
	snprintf(id.cluster, sizeof(id.cluster), "%s", i->cluster);
	*ret = id;
	return 0;
}

/* 'nodeagentd init --dir DIR' makes the node in DIR/agent, and the coordinator in DIR. */
static int no_node(const char *state_dir, const char *path, struct err *e)
{
	char below[PATH_MAX + 16];

	snprintf(below, sizeof(below), "%s/agent/node.ini", state_dir);
	if (access(below, F_OK) == 0)
		return err_set(e, ENOENT, "%s does not exist: the node that nodeagentd init made is in %s/agent. Start it with: "
			       "nodeagentd --agent --dir %s/agent", path, state_dir, state_dir);
	return err_set(e, ENOENT, "%s does not exist: this node belongs to no cluster yet. "
		       "Enrol it with: nodeagentd join HOST:PORT", path);
}

int identity_load(const char *state_dir, struct node_identity *ret, struct err *e)
{
	char path[PATH_MAX];
	struct ini i = { 0 };
	int r = ini_path(state_dir, path, e);

	if (r < 0)
		return r;

	r = conf_load(path, table, &i, e);
	if (r == -ENOENT)
		r = no_node(state_dir, path, e);
	else if (r == 0)
		r = convert(&i, path, ret, e);
	free(i.name);
	free(i.cluster);
	free(i.coordinator);
	free(i.key);
	return r;
}

int identity_save(const char *state_dir, const struct node_identity *id, struct err *e)
{
	char path[PATH_MAX], address[280], key[65], text[1024];
	int n, r = ini_path(state_dir, path, e);

	if (r < 0)
		return r;

	socket_format_host_port(id->coord_host, id->coord_port, address, sizeof(address));
	hex_encode(key, id->coord_key, sizeof(id->coord_key));
	n = snprintf(text, sizeof(text),
		     "; written by nodeagentd when this node joined\n"
		     "[node]\nname = %s\ncluster = %s\ncoordinator = %s\ncoordinator_key = %s\n",
		     id->node, id->cluster, address, key);
	return file_save(path, text, (size_t)n, 0600, e);
}
