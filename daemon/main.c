/* main.c - nodeagentd: reads the command line and the configuration, starts one role
 *
 * Every setting of a role is an option of it as well (io/settings.c), so the
 * words here are only those that choose the role and its surroundings. The
 * first pass finds out what the role is and where its configuration lies, the
 * second one applies everything, weakest first: defaults, what `init` wrote
 * down, the configuration file, the command line. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/log.h"
#include "io/enrol.h"
#include "io/roles.h"
#include "io/settings.h"
#include "io/standalone.h"
#include "proto/message.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#define leak_check() __lsan_do_leak_check() /* it is made in exit() else */
#else
#define leak_check() ((void)0)
#endif

#define EXIT_USAGE 2

enum role { ROLE_NONE, ROLE_COORDINATOR, ROLE_AGENT, ROLE_STANDALONE };

struct command {
	enum role role;
	const char *dir, *config;
	uint32_t nodes;
	uint32_t ready_fd, parent_fd; /* 0: none */
	bool end_jobs, verbose, help, version, has_nodes;
	struct settings s;
	char **coord_args, **agent_args; /* standalone: passed on */
	size_t n_coord, n_agent;
};

/* ---- words that are not settings ---------------------------------------- */

struct word {
	const char *name;
	bool value;
	int (*take)(struct command *c, const char *value, struct err *e);
};

static int take_role(struct command *c, enum role role, struct err *e)
{
	if (c->role != ROLE_NONE && c->role != role)
		return err_set(e, EINVAL, "choose one of --coordinator, --agent and --standalone");
	c->role = role;
	return 0;
}

static int take_coordinator(struct command *c, const char *value, struct err *e)
{
	return take_role(c, ROLE_COORDINATOR, e);
}

static int take_agent(struct command *c, const char *value, struct err *e)
{
	return take_role(c, ROLE_AGENT, e);
}

static int take_standalone(struct command *c, const char *value, struct err *e)
{
	return take_role(c, ROLE_STANDALONE, e);
}

static int take_dir(struct command *c, const char *value, struct err *e)
{
	c->dir = value;
	return *value ? 0 : err_set(e, EINVAL, "--dir: the value is empty");
}

static int take_config(struct command *c, const char *value, struct err *e)
{
	c->config = value;
	return 0;
}

static int take_number(const char *name, const char *value, uint32_t min, uint32_t max,
		       uint32_t *ret, struct err *e)
{
	struct err why;

	if (conf_parse_uint(value, min, max, ret, &why) < 0)
		return err_set(e, EINVAL, "--%s: %s", name, why.text);
	return 0;
}

static int take_nodes(struct command *c, const char *value, struct err *e)
{
	c->has_nodes = true;
	return take_number("virtual-nodes", value, 1, VIRTUAL_NODES_MAX, &c->nodes, e);
}

static int take_ready_fd(struct command *c, const char *value, struct err *e)
{
	return take_number("ready-fd", value, 3, 65535, &c->ready_fd, e);
}

static int take_parent_fd(struct command *c, const char *value, struct err *e)
{
	return take_number("parent-fd", value, 3, 65535, &c->parent_fd, e);
}

static int take_end_jobs(struct command *c, const char *value, struct err *e)
{
	c->end_jobs = true;
	return 0;
}

static int take_verbose(struct command *c, const char *value, struct err *e)
{
	c->verbose = true;
	return 0;
}

static int take_help(struct command *c, const char *value, struct err *e)
{
	c->help = true;
	return 0;
}

static int take_version(struct command *c, const char *value, struct err *e)
{
	c->version = true;
	return 0;
}

static const struct word words[] = {
	{ "coordinator", false, take_coordinator },
	{ "agent", false, take_agent },
	{ "standalone", false, take_standalone },
	{ "dir", true, take_dir },
	{ "config", true, take_config },
	{ "virtual-nodes", true, take_nodes },
	{ "verbose", false, take_verbose },
	{ "help", false, take_help },
	{ "version", false, take_version },
	/* Between the supervisor and its children. */
	{ "ready-fd", true, take_ready_fd },
	{ "parent-fd", true, take_parent_fd },
	{ "end-jobs-on-term", false, take_end_jobs },
	{ 0 },
};

static const struct word *find_word(const char *name)
{
	for (const struct word *w = words; w->name; w++)
		if (strcmp(w->name, name) == 0)
			return w;
	return NULL;
}

/* ---- the command line --------------------------------------------------- */

/* One option: its name, and its value if it has one. */
struct given {
	char name[64];
	const char *value;
	const char *text; /* as written */
};

/* Splits argv[*i]; does not look at what follows. */
static int split(const char *text, struct given *g, struct err *e)
{
	const char *eq = strchr(text, '=');
	size_t n = eq ? (size_t)(eq - text) : strlen(text);

	if (strncmp(text, "--", 2) != 0 || n < 3 || n - 2 >= sizeof(g->name))
		return err_set(e, EINVAL, "'%s' is not an option", text);
	memcpy(g->name, text + 2, n - 2);
	g->name[n - 2] = '\0';
	g->value = eq ? eq + 1 : NULL;
	g->text = text;
	return 0;
}

/* True when the option takes the next argument as its value. */
static int needs_value(const struct given *g, bool *ret, struct err *e)
{
	const struct word *w = find_word(g->name);
	bool alone = false;

	if (w && !w->value && g->value)
		return err_set(e, EINVAL, "--%s takes no value", g->name);
	if (!w && !settings_knows("coordinator", g->name, &alone) &&
	    !settings_knows("agent", g->name, &alone))
		return err_set(e, EINVAL, "unknown option '--%s'", g->name);
	*ret = !g->value && (w ? w->value : !alone);
	return 0;
}

/* Each option in turn to f. */
static int each_option(int argc, char **argv, struct command *c,
		       int (*f)(struct command *c, const struct given *g, struct err *e),
		       struct err *e)
{
	struct given g = { 0 };
	bool next = false;
	int r;

	for (int i = 1; i < argc; i++) {
		r = split(argv[i], &g, e);
		if (r == 0)
			r = needs_value(&g, &next, e);
		if (r == 0 && next && i + 1 >= argc)
			r = err_set(e, EINVAL, "--%s needs a value", g.name);
		if (r < 0)
			return r;
		if (next)
			g.value = argv[++i];
		r = f(c, &g, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int on_word(struct command *c, const struct given *g, struct err *e)
{
	const struct word *w = find_word(g->name);

	return w ? w->take(c, g->value, e) : 0;
}

static int on_setting(struct command *c, const struct given *g, struct err *e)
{
	const char *section = c->role == ROLE_COORDINATOR ? "coordinator" : "agent";

	if (find_word(g->name))
		return 0;
	if (!settings_knows(section, g->name, NULL))
		return err_set(e, EINVAL, "--%s has no meaning with --%s", g->name, section);
	return settings_option(&c->s, section, g->name, g->value, e);
}

/* ---- standalone: options for the children ------------------------------- */

static int pass_on(char ***args, size_t *n, const struct given *g, struct err *e)
{
	char **more = realloc(*args, (*n + 2) * sizeof(*more));

	if (!more)
		return err_set(e, ENOMEM, "out of memory");
	*args = more;
	if (asprintf(&more[*n], g->value ? "--%s=%s" : "--%s", g->name, g->value) < 0)
		return err_set(e, ENOMEM, "out of memory");
	more[++*n] = NULL;
	return 0;
}

static int on_passed(struct command *c, const struct given *g, struct err *e)
{
	static const char *const ours[] = { "state", "spool", "run", "socket", "listen", "address",
					    "peer-port", "single-user", "launcher", NULL };
	int r = 0;

	if (find_word(g->name))
		return 0;
	for (int i = 0; ours[i]; i++)
		if (strcmp(ours[i], g->name) == 0)
			return err_set(e, EINVAL, "--%s has no meaning with --standalone: everything is "
				       "on the loopback interface and below --dir", g->name);
	if (settings_knows("coordinator", g->name, NULL)) {
		r = settings_option(&c->s, "coordinator", g->name, g->value, e);
		if (r == 0)
			r = pass_on(&c->coord_args, &c->n_coord, g, e);
	} else if (settings_knows("agent", g->name, NULL)) {
		r = settings_option(&c->s, "agent", g->name, g->value, e);
		if (r == 0)
			r = pass_on(&c->agent_args, &c->n_agent, g, e);
	}
	return r;
}

/* ---- the roles ---------------------------------------------------------- */

/* The supervisor's descriptors must not reach jobs. */
static int own_fd(uint32_t fd)
{
	if (fd == 0 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return (int)fd;
}

static int run_coordinator(const struct command *c)
{
	struct coord_opts o = {
		.state_dir = c->s.coord_state,
		.socket_path = c->s.coord_socket,
		.listen_host = c->s.coord_listen,
		.port = (uint16_t)c->s.port,
		.address = c->s.address,
		.ready_fd = own_fd(c->ready_fd),
		.parent_fd = own_fd(c->parent_fd),
		.heartbeat_ms = c->s.heartbeat_ms,
		.unreachable_ms = c->s.unreachable_ms,
		.node_lost_ms = c->s.node_lost_ms,
		.prepare_ms = c->s.prepare_ms,
		.history_jobs = c->s.history_jobs,
		.history_days = c->s.history_days,
		.events_keep = c->s.events_keep,
		.events_days = c->s.events_days,
		.cordon_on_bad = strcmp(c->s.cordon_on, "bad") == 0,
		.cordon_lift_ms = c->s.cordon_lift_ms,
		.quarantine_after = c->s.quarantine_after,
		.quarantine_ms = c->s.quarantine_ms,
		.hook = c->s.hook,
	};

	return coord_run(&o);
}

static int run_agent(const struct command *c)
{
	struct agent_opts o = {
		.state_dir = c->s.agent_state,
		.spool_dir = c->s.agent_spool,
		.run_dir = c->s.agent_run,
		.socket_path = c->s.agent_socket,
		.dir = c->dir,
		.listen_host = c->s.agent_listen,
		.peer_port = (uint16_t)c->s.peer_port,
		.shim_path = c->s.shim,
		.launcher_path = c->s.launcher,
		.single_user = c->s.single_user,
		.allow_root = c->s.allow_root,
		.uid_min = c->s.uid_min,
		.uid_max = c->s.uid_max,
		.specs_max = c->s.specs_max,
		.specs_user_max = c->s.specs_user_max,
		.spool_per_job = c->s.spool_per_job,
		.spool_per_node = c->s.spool_per_node,
		.spool_keep_ms = c->s.spool_keep_ms,
		.port_min = c->s.port_min,
		.port_max = c->s.port_max,
		.ready_fd = own_fd(c->ready_fd),
		.parent_fd = own_fd(c->parent_fd),
		.end_jobs_on_term = c->end_jobs,
		.sysfs_root = c->s.sysfs_root,
		.exclude_ports = c->s.exclude_ports,
		.nvml = c->s.nvml,
		.kmsg = c->s.kmsg,
		.no_probe = !c->s.probe,
		.no_nccl_log = !c->s.nccl_log,
		.no_ras = !c->s.nccl_ras,
		.probe_patience_ms = c->s.probe_patience_ms,
		.pulse_ms = c->s.pulse_ms,
		.gpu_share = c->s.gpu_share,
		.gpu_share_of = c->s.gpu_share_of,
	};

	return agent_run(&o);
}

static int run_standalone(const struct command *c)
{
	struct standalone_opts o = {
		.dir = c->dir,
		.nodes = c->has_nodes ? c->nodes : 1,
		.port = (uint16_t)c->s.port,
		.config = c->config,
		.coord_args = c->coord_args,
		.agent_args = c->agent_args,
		.verbose = c->verbose,
	};

	return standalone_run(&o);
}

/* ---- putting it together ------------------------------------------------ */

static int load_config(struct command *c, struct err *e)
{
	if (c->role == ROLE_STANDALONE && !c->config)
		return 0; /* the system's configuration is not a user's */
	return settings_load(&c->s, c->config, e);
}

/* The two passes differ only in what init wrote down: where that lies is
 * known after the first one. */
static int apply(int argc, char **argv, struct command *c, const char *recorded, struct err *e)
{
	int r = 0;

	settings_finish(&c->s);
	settings_init(&c->s);
	if (recorded)
		r = settings_load_recorded(&c->s, recorded, e);
	if (r == 0)
		r = load_config(c, e);
	if (c->role == ROLE_STANDALONE)
		c->s.port = 0; /* the one of last time, unless the command line names one */
	else if (r == 0 && c->dir)
		r = settings_place(&c->s, c->dir, e);
	if (r < 0)
		return r;
	return each_option(argc, argv, c, c->role == ROLE_STANDALONE ? on_passed : on_setting, e);
}

static int check(const struct command *c, struct err *e)
{
	if (c->role == ROLE_NONE)
		return err_set(e, EINVAL, "choose one of --coordinator, --agent, --standalone, init and join");
	if (c->role == ROLE_STANDALONE && !c->dir)
		return err_set(e, EINVAL, "--standalone needs --dir DIR: where everything of it is kept");
	if (c->role != ROLE_STANDALONE && c->has_nodes)
		return err_set(e, EINVAL, "--virtual-nodes has no meaning without --standalone");
	return 0;
}

static void warn_of_setting(const char *text)
{
	log_warn("%s", text);
}

/* Coordinator and agents of a standalone cluster read the same, and say it. */
static void left_to_roles(const char *text)
{
}

static int check_settings(struct command *c, struct err *e)
{
	switch (c->role) {
	case ROLE_AGENT:
		return settings_check(&c->s, "agent", warn_of_setting, e);
	case ROLE_COORDINATOR:
		return settings_check(&c->s, "coordinator", warn_of_setting, e);
	default:
		return settings_check(&c->s, NULL, left_to_roles, e);
	}
}

static int configure(int argc, char **argv, struct command *c, struct err *e)
{
	char *state;
	int r = apply(argc, argv, c, NULL, e);

	if (r == 0 && c->role == ROLE_AGENT)
		r = settings_complete(&c->s, e);
	if (r == 0 && c->role == ROLE_COORDINATOR) {
		state = strdup(c->s.coord_state);
		r = state ? apply(argc, argv, c, state, e) : err_set(e, ENOMEM, "out of memory");
		free(state);
	}
	return r == 0 ? check_settings(c, e) : r;
}

static void help(void)
{
	printf("usage: nodeagentd --standalone [--virtual-nodes N] --dir DIR\n"
	       "       nodeagentd --coordinator | --agent [--dir DIR] [--config FILE] [options]\n"
	       "       nodeagentd init | join ...        (see nodeagentd init --help)\n"
	       "\n"
	       "Starts jobs on the nodes of a GPU cluster. One coordinator for the cluster, one\n"
	       "agent on each node; --standalone is a whole cluster on this host, for one user.\n"
	       "\n"
	       "  --dir DIR                  everything below DIR, for its own user\n"
	       "  --virtual-nodes N          agents of a standalone cluster (default 1)\n"
	       "  --config FILE              default " DEFAULT_CONFIG "\n"
	       "  --verbose                  say more in the log\n"
	       "  --version, --help\n"
	       "\nCoordinator (section [coordinator] of the configuration has the same keys):\n");
	settings_help(stdout, "coordinator");
	printf("\nAgent (section [agent]):\n");
	settings_help(stdout, "agent");
	printf("\nTIME is written 500ms, 10s, 2m, 1h. A standalone cluster passes options on to\n"
	       "its coordinator and agents.\n");
}

static int start(struct command *c)
{
	enum log_level level = c->verbose ? LOG_LVL_DEBUG : LOG_LVL_INFO;

	switch (c->role) {
	case ROLE_COORDINATOR:
		log_setup("coordinator", level);
		return run_coordinator(c);
	case ROLE_AGENT:
		log_setup("agent", level);
		return run_agent(c);
	default:
		log_setup("supervisor", level);
		return run_standalone(c);
	}
}

static void command_finish(struct command *c)
{
	for (size_t i = 0; i < c->n_coord; i++)
		free(c->coord_args[i]);
	for (size_t i = 0; i < c->n_agent; i++)
		free(c->agent_args[i]);
	free(c->coord_args);
	free(c->agent_args);
	settings_finish(&c->s);
}

/* Files that cannot be read just now make no bad configuration: 2 is for what no new
 * start will mend, and systemd leaves it at that. */
static int exit_code(int r)
{
	switch (r) {
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
	case -EIO:
	case -EAGAIN:
	case -EINTR:
		return 1;
	default:
		return EXIT_USAGE;
	}
}

/* Threads may still wait for a file server or a name service. So nothing that they read is freed, and no
 * destructor of a library runs: what exit() does while they work has crashed. */
static _Noreturn void leave(int code)
{
	fflush(NULL);
	leak_check();
	_exit(code);
}

int main(int argc, char **argv)
{
	struct command c = { 0 };
	struct err e = { 0 };
	int r;

	prctl(PR_SET_NAME, "nodeagentd"); /* the supervisor starts us as /proc/self/exe */
	if (argc > 1 && strcmp(argv[1], "init") == 0)
		return enrol_init_main(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "join") == 0)
		return enrol_join_main(argc - 1, argv + 1);

	r = each_option(argc, argv, &c, on_word, &e);
	if (r == 0 && (c.help || c.version)) {
		if (c.help)
			help();
		else
			printf("nodeagentd " NA_SOFTWARE " (protocol %d.%d)\n", NA_PROTO / 1000,
			       NA_PROTO % 1000);
		return 0;
	}
	if (r == 0)
		r = check(&c, &e);
	if (r == 0)
		r = configure(argc, argv, &c, &e);
	if (r < 0) {
		fprintf(stderr, "nodeagentd: %s\n", e.text);
		if (r == -EINVAL && !c.config)
			fprintf(stderr, "Try: nodeagentd --help\n");
		command_finish(&c);
		return exit_code(r);
	}
	leave(start(&c));
}
