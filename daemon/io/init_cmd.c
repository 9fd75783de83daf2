/* init_cmd.c - `nodeagentd init`: makes a cluster on the head host
 *
 * The cluster's database and the coordinator's key, and the head host itself
 * as a node from which users may submit (uids 1000-59999). */
#include "io/enrol.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/hostlist.h"
#include "io/roles.h"
#include "io/settings.h"
#include "io/sockets.h"

#define SUBMIT_UID_MIN 1000
#define SUBMIT_UID_MAX 59999

static const char usage[] =
	"usage: nodeagentd init [--dir STATE] [--name CLUSTER] [--listen HOST:PORT] [--config FILE]\n"
	"\n"
	"Makes a new cluster on this host: the coordinator's database and key in STATE,\n"
	"and this host as its first node, from which users (uids 1000-59999) may submit\n"
	"jobs to all nodes.\n"
	"\n"
	"  --dir STATE         the coordinator's directory; the node's is STATE/agent\n"
	"                      (default: what the configuration says, or\n"
	"                      " DEFAULT_BASE "/coordinator and " DEFAULT_BASE "/agent)\n"
	"  --name CLUSTER      the cluster's name (default: this host's name)\n"
	"  --listen HOST:PORT  address by which other hosts reach this one\n"
	"                      (default: this host's name, port 7070)\n"
	"  --config FILE       default " DEFAULT_CONFIG "\n";

struct init {
	const char *dir, *name, *listen, *config;
	char coordinator[PATH_MAX], agent[PATH_MAX];
	char host[256];
	char node[65];
	uint16_t port;
	struct settings s;
};

static int parse(int argc, char **argv, struct init *i)
{
	static const struct option options[] = {
		{ "dir", required_argument, NULL, 'd' },    { "name", required_argument, NULL, 'n' },
		{ "listen", required_argument, NULL, 'l' }, { "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },	    { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'd')
			i->dir = optarg;
		else if (c == 'n')
			i->name = optarg;
		else if (c == 'l')
			i->listen = optarg;
		else if (c == 'c')
			i->config = optarg;
		else if (c == 'h')
			return 1;
		else
			return -EINVAL;
	}
	if (optind == argc)
		return 0;
	fprintf(stderr, "nodeagentd init: unexpected '%s' (see nodeagentd init --help)\n", argv[optind]);
	return -EINVAL;
}

static int find_directories(struct init *i, struct err *e)
{
	const char *c = i->dir ? i->dir : i->s.coord_state;
	const char *a = i->dir ? i->dir : i->s.agent_state;

	if (snprintf(i->coordinator, PATH_MAX, "%s", c) >= PATH_MAX ||
	    snprintf(i->agent, PATH_MAX, i->dir ? "%s/agent" : "%s", a) >= PATH_MAX)
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", i->dir);
	return 0;
}

/* Where nodes find the coordinator, and what this host is called. */
static int find_names(struct init *i, struct err *e)
{
	int r = enrol_host_name(i->node, e);

	if (r < 0)
		return r;

	if (!i->name)
		i->name = i->node;
	if (i->listen)
		return socket_parse_host_port(i->listen, i->host, &i->port, e);
	i->port = (uint16_t)(i->s.port ? i->s.port : DEFAULT_PORT);
	if (i->s.coord_listen)
		snprintf(i->host, sizeof(i->host), "%s", i->s.coord_listen);
	else if (gethostname(i->host, sizeof(i->host) - 1) < 0)
		return err_set(e, errno, "this host has no name: %s", strerror(errno));
	return 0;
}

static int refuse_second(const struct init *i, struct err *e)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/state.db", i->coordinator) < (int)sizeof(path) &&
	    access(path, F_OK) == 0)
		return err_set(e, EEXIST, "%s holds a cluster already. To make a new one, stop the "
			       "coordinator and remove that directory: all nodes must join again",
			       i->coordinator);
	if (snprintf(path, sizeof(path), "%s/node.ini", i->agent) < (int)sizeof(path) &&
	    access(path, F_OK) == 0)
		return err_set(e, EEXIST, "this host is a node of a cluster already (%s)", path);
	return 0;
}

static int add_head(const struct init *i, struct err *e)
{
	struct enrol_node n = {
		.state_dir = i->agent, .name = i->node, .cluster = i->name,
		.host = i->host, .port = i->port, .submit = true,
		.uid_min = SUBMIT_UID_MIN, .uid_max = SUBMIT_UID_MAX,
	};
	uint8_t key[KEY_HASH];
	struct store *s = NULL;
	int r = enrol_own_key(i->coordinator, key, e);

	n.coord_key = key;
	if (r == 0)
		r = store_open(i->coordinator, false, &s, e);
	if (r == 0)
		r = enrol_add_node(s, &n, e);
	store_close(s);
	return r == 0 ? enrol_write_ini(&n, e) : r;
}

static int make(struct init *i, struct err *e)
{
	int r = find_directories(i, e);

	if (r == 0)
		r = find_names(i, e);
	if (r == 0)
		r = refuse_second(i, e);
	if (r == 0)
		r = enrol_make_cluster(i->coordinator, i->name, e);
	if (r == 0)
		r = add_head(i, e);
	if (r == 0)
		r = settings_record(i->coordinator, i->listen ? i->host : NULL, i->port, e);
	if (r == 0 && !i->dir)
		r = enrol_hand_over(i->coordinator, DAEMON_USER, e);
	return r == 0 && !i->dir ? enrol_hand_over(i->agent, DAEMON_USER, e) : r;
}

static void tell(const struct init *i)
{
	char text[512], address[280];

	socket_format_host_port(i->host, i->port, address, sizeof(address));
	if (enrol_loopback_mistake(i->host, text, sizeof(text)))
		fprintf(stderr, "nodeagentd init: warning: %s\n", text);
	printf("Cluster %s is made; this host is its node %s.\n\nStart it here:\n", i->name,
	       i->node);
	if (i->dir)
		printf("  nodeagentd --coordinator --dir %s\n"
		       "  nodeagentd --agent --dir %s\n", i->coordinator, i->agent);
	else
		printf("  systemctl enable --now nodeagent-coordinator nodeagentd\n");
	printf("\nThen, for each other host, make a token here and use it there:\n"
	       "  nodectl%s%s token create\n"
	       "  nodeagentd join %s        (on the other host; asks for the token)\n",
	       i->dir ? " --dir " : "", i->dir ? i->dir : "", address);
}

int enrol_init_main(int argc, char **argv)
{
	struct init i = { 0 };
	struct err e = { 0 };
	int r = parse(argc, argv, &i);

	if (r != 0) {
		fputs(r > 0 ? usage : "", stdout);
		return r > 0 ? 0 : 2;
	}

	settings_init(&i.s);
	r = settings_load(&i.s, i.config, &e);
	if (r == 0)
		r = make(&i, &e);
	if (r == 0)
		tell(&i);
	else
		fprintf(stderr, "nodeagentd init: %s\n", e.text);
	settings_finish(&i.s);
	return r == 0 ? 0 : 1;
}
