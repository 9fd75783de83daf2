/* settings.c - the table of all settings, and the two ways to set them */
#include "io/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf.h"
#include "core/coord.h"
#include "core/coord_events.h"
#include "io/enrol.h"
#include "io/files.h"
#include "io/ports.h"
#include "io/sockets.h"

#define SECOND UINT64_C(1000)
#define HOUR UINT64_C(3600000)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define UID_LAST 4294967294u
#define DEFAULT_AGENT_STATE DEFAULT_BASE "/agent"

#define STR(sec, key, field, help)                                                       \
	{ sec, key, CONF_STR, offsetof(struct settings, field), 0, 0, help }
#define BOOLEAN(sec, key, field, help)                                                   \
	{ sec, key, CONF_BOOL, offsetof(struct settings, field), 0, 0, help }
#define UINT(sec, key, field, min, max, help)                                            \
	{ sec, key, CONF_UINT, offsetof(struct settings, field), min, max, help }
#define MS(sec, key, field, min, max, help)                                              \
	{ sec, key, CONF_MS, offsetof(struct settings, field), min, max, help }
#define SIZE(sec, key, field, min, max, help)                                            \
	{ sec, key, CONF_SIZE, offsetof(struct settings, field), min, max, help }

static const struct conf_key table[] = {
	STR("coordinator", "state", coord_state, "directory of state.db and the key"),
	STR("coordinator", "socket", coord_socket, "Unix socket for local clients"),
	STR("coordinator", "listen", coord_listen, "address to listen on for nodes (default: all)"),
	UINT("coordinator", "port", port, 0, 65535, "port for nodes (default 7070; 0: any)"),
	STR("coordinator", "address", address, "HOST:PORT that joining nodes are told"),
	MS("coordinator", "heartbeat", heartbeat_ms, 100, 60 * SECOND, "agents ping this often"),
	MS("coordinator", "unreachable_after", unreachable_ms, 300, HOUR,
	   "silence after which a node is shown as unreachable"),
	MS("coordinator", "node_lost_timeout", node_lost_ms, SECOND, 24 * HOUR,
	   "silence after which a node's processes count as lost"),
	MS("coordinator", "prepare_timeout", prepare_ms, SECOND, HOUR,
	   "time that all nodes of a job have to get ready"),
	UINT("coordinator", "history_jobs", history_jobs, 1, 1000000, "ended jobs that are kept (default 1000)"),
	UINT("coordinator", "history_days", history_days, 0, 36500, "... and for how many days (default 0: any)"),
	UINT("coordinator", "events_keep", events_keep, 100, 1000000, "events that are kept (default 5000)"),
	UINT("coordinator", "events_days", events_days, 0, 36500, "... and for how many days (default 0: any)"),
	STR("coordinator", "cordon_on", cordon_on, "bad: a node with a bad verdict gets no new jobs; never (default)"),
	MS("coordinator", "cordon_lift", cordon_lift_ms, SECOND, 24 * HOUR, "... until that is over for so long (default 5m)"),
	UINT("coordinator", "quarantine_after", quarantine_after, 0, 16,
	     "so many jobs failed on a node: no new ones there (default 0: never)"),
	MS("coordinator", "quarantine_within", quarantine_ms, 60 * SECOND, 24 * HOUR, "... within this time (default 1h)"),
	STR("coordinator", "hook", hook, "program that is run for each event, with it as JSON on its standard input"),

	STR("agent", "state", agent_state, "directory of the node's key and node.ini"),
	STR("agent", "spool", agent_spool, "directory of jobs' output"),
	STR("agent", "run", agent_run, "directory of sockets; short, and not kept over a reboot"),
	STR("agent", "socket", agent_socket, "Unix socket for nodectl (default RUN/agent.sock)"),
	STR("agent", "listen", agent_listen, "address to listen on for other agents (default: all)"),
	UINT("agent", "peer_port", peer_port, 0, 65535, "port for other agents (default 0: any)"),
	STR("agent", "shim", shim, "nodeagent-shim (default: beside this program)"),
	STR("agent", "launcher", launcher, "socket of nodeagent-launcher"),
	BOOLEAN("agent", "single_user", single_user, "no launcher: jobs run as the agent's own user"),
	BOOLEAN("agent", "allow_root", allow_root, "jobs of root may run here"),
	UINT("agent", "uid_min", uid_min, 0, UID_LAST, "lowest uid whose jobs may run here"),
	UINT("agent", "uid_max", uid_max, 0, UID_LAST, "highest uid whose jobs may run here"),
	UINT("agent", "port_min", port_min, 0, 65535, "lowest MASTER_PORT (0: 20000)"),
	UINT("agent", "port_max", port_max, 0, 65535, "highest MASTER_PORT (0: below the ephemeral range)"),
	BOOLEAN("agent", "probe", probe, "read GPUs and InfiniBand ports (default yes)"),
	STR("agent", "exclude_ports", exclude_ports, "RDMA devices that are not to be touched"),
	SIZE("agent", "specs_max", specs_max, 64 * KIB, 1024 * GIB,
	     "bytes of all specifications of unfinished jobs submitted here"),
	SIZE("agent", "specs_user_max", specs_user_max, 64 * KIB, 1024 * GIB,
	     "bytes of one user's"),
	SIZE("agent", "spool_per_job", spool_per_job, 64 * KIB, 1024 * GIB,
	     "bytes of one job's output kept here (default 4G)"),
	SIZE("agent", "spool_per_node", spool_per_node, 0, 1024 * GIB,
	     "bytes of all output kept here (default 0: a tenth of the disk)"),
	MS("agent", "spool_keep", spool_keep_ms, 0, 49 * 24 * HOUR,
	   "output is kept so long after the job (default 7d; 0: while there is room)"),
	MS("agent", "probe_patience", probe_patience_ms, SECOND, 24 * HOUR,
	   "a source of readings that hangs for so long is started anew (default 60s)"),
	MS("agent", "pulse", pulse_ms, 0, HOUR,
	   "CPU, disk and state of jobs' processes are looked at this often (default 5s; 0: never)"),
	STR("agent", "kmsg", kmsg, "kernel log to read in place of /dev/kmsg"),
	STR("agent", "nvml", nvml, "library in place of libnvidia-ml.so.1"),
	STR("agent", "sysfs_root", sysfs_root, "read ROOT/class/... in place of /sys/class/..."),
	BOOLEAN("agent", "nccl_log", nccl_log, "jobs' NCCL writes a log for us, which is read (default yes)"),
	BOOLEAN("agent", "nccl_ras", nccl_ras, "jobs' NCCL (2.28.7 and later) may be asked how far its ranks are (default yes)"),
	UINT("agent", "gpu_share", gpu_share, 0, 4095, "of the host's GPUs those i with i mod SHARE_OF = this"),
	UINT("agent", "gpu_share_of", gpu_share_of, 0, 4096, "agents of this host that share its GPUs out"),
	{ 0 },
};

_Static_assert(sizeof(table) / sizeof(table[0]) <= SETTINGS_MAX, "settings.from is too short");

void settings_init(struct settings *s)
{
	*s = (struct settings){
		.coord_state = strdup(DEFAULT_BASE "/coordinator"),
		.coord_socket = strdup("/run/nodeagent-coordinator/coordinator.sock"),
		.port = DEFAULT_PORT,
		.agent_state = strdup(DEFAULT_AGENT_STATE),
		.agent_run = strdup("/run/nodeagent"),
		.uid_min = 1000,
		.uid_max = 59999,
		.probe = true,
		.nccl_log = true,
		.nccl_ras = true,
		.probe_patience_ms = 60 * SECOND,
		.pulse_ms = 5 * SECOND,
		.specs_max = 256 * MIB,
		.specs_user_max = 64 * MIB,
		.history_jobs = 1000,
		.events_keep = EVENTS_KEEP,
		.cordon_on = strdup("never"),
		.cordon_lift_ms = 300 * SECOND,
		.quarantine_ms = HOUR,
		.spool_per_job = 4 * GIB,
		.spool_keep_ms = 7 * 24 * HOUR,
	};
}

void settings_finish(struct settings *s)
{
	for (const struct conf_key *k = table; k->section; k++)
		if (k->kind == CONF_STR)
			free(*(char **)((char *)s + k->offset));
	for (size_t i = 0; i < SETTINGS_MAX; i++)
		free(s->from[i].file);
	memset(s, 0, sizeof(*s));
}

/* file NULL: from an option. */
static void note_origin(struct settings *s, size_t i, const char *file, unsigned line)
{
	free(s->from[i].file);
	s->from[i].file = file ? strdup(file) : NULL;
	s->from[i].line = line;
}

static int load(struct settings *s, const char *path, struct err *e)
{
	struct settings before = *s;
	unsigned lines[SETTINGS_MAX] = { 0 };
	int r = conf_load_lines(path, table, s, lines, e);

	for (size_t i = 0; i < SETTINGS_MAX; i++)
		if (lines[i] > 0)
			note_origin(s, i, path, lines[i]);
	for (const struct conf_key *k = table; k->section; k++) {
		char *was = *(char **)((char *)&before + (k->kind == CONF_STR ? k->offset : 0));

		if (k->kind == CONF_STR && was != *(char **)((char *)s + k->offset))
			free(was);
	}
	return r;
}

int settings_load(struct settings *s, const char *path, struct err *e)
{
	int r = load(s, path ? path : DEFAULT_CONFIG, e);

	return r == -ENOENT && !path ? 0 : r;
}

/* ---- what init was told ------------------------------------------------- */

static int recorded_path(const char *state_dir, char out[PATH_MAX], struct err *e)
{
	if (snprintf(out, PATH_MAX, "%s/coordinator.ini", state_dir) >= PATH_MAX)
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", state_dir);
	return 0;
}

/* A numeric address is bound; a name is only what others are told. */
int settings_record(const char *state_dir, const char *host, uint16_t port, struct err *e)
{
	char path[PATH_MAX], text[1024], address[280] = "", numeric[300] = "";
	struct sockaddr_storage a;
	socklen_t len;
	int n, r = recorded_path(state_dir, path, e);

	if (r < 0)
		return r;

	if (host)
		socket_format_host_port(host, port, address, sizeof(address));
	if (host && socket_numeric(host, port, &a, &len))
		snprintf(numeric, sizeof(numeric), "listen = %s\n", host);
	n = snprintf(text, sizeof(text),
		     "; written by nodeagentd init; the configuration file and options win\n"
		     "[coordinator]\n%sport = %u\n%s%s%s", numeric, port,
		     host ? "address = " : "", address, host ? "\n" : "");
	return file_save(path, text, (size_t)n, 0600, e);
}

int settings_load_recorded(struct settings *s, const char *state_dir, struct err *e)
{
	char path[PATH_MAX];
	int r = recorded_path(state_dir, path, e);

	if (r == 0)
		r = load(s, path, e);
	return r == -ENOENT ? 0 : r;
}

static int set_path(char **field, const char *format, const char *dir, struct err *e)
{
	char *text;

	if (asprintf(&text, format, dir) < 0)
		return err_set(e, ENOMEM, "out of memory");
	free(*field);
	*field = text;
	return 0;
}

int settings_place(struct settings *s, const char *dir, struct err *e)
{
	int r = set_path(&s->coord_state, "%s", dir, e);

	if (r == 0)
		r = set_path(&s->coord_socket, "%s/coordinator.sock", dir, e);
	if (r == 0)
		r = set_path(&s->agent_state, "%s", dir, e);
	if (r == 0)
		r = set_path(&s->agent_run, "%s/run", dir, e);
	s->single_user = true;
	return r;
}

/* Below the agent's own directory; the system's agent has it beside: there the
 * launcher writes as root, so everything above must be root's. */
int settings_complete(struct settings *s, struct err *e)
{
	bool system = strcmp(s->agent_state, DEFAULT_AGENT_STATE) == 0;

	if (s->agent_spool)
		return 0;
	return set_path(&s->agent_spool, "%s/spool", system ? DEFAULT_BASE : s->agent_state, e);
}

/* ---- options ------------------------------------------------------------ */

static bool same_name(const char *key, const char *option)
{
	for (; *key && *option; key++, option++)
		if (*key != (*option == '-' ? '_' : *option) || *option == '_')
			return false;
	return *key == *option;
}

static const struct conf_key *find_key(const char *section, const char *key)
{
	for (const struct conf_key *k = table; k->section; k++)
		if (strcmp(k->section, section) == 0 && strcmp(k->key, key) == 0)
			return k;
	return NULL;
}

static const struct conf_key *find(const char *section, const char *name)
{
	for (const struct conf_key *k = table; k->section; k++)
		if (strcmp(k->section, section) == 0 && same_name(k->key, name))
			return k;
	return NULL;
}

static int parse_bool(const char *text, bool *ret, struct err *e)
{
	static const char *const words[][2] = {
		{ "no", "yes" }, { "false", "true" }, { "off", "on" }, { "0", "1" },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		for (int v = 0; v < 2; v++)
			if (strcmp(text, words[i][v]) == 0) {
				*ret = v;
				return 0;
			}
	return err_set(e, EINVAL, "'%s' is neither yes nor no", text);
}

static int set_text(char **field, const char *value, struct err *e)
{
	char *copy;

	if (!*value)
		return err_set(e, EINVAL, "the value is empty");
	copy = strdup(value);
	if (!copy)
		return err_set(e, ENOMEM, "out of memory");
	free(*field);
	*field = copy;
	return 0;
}

static int set_value(const struct conf_key *k, void *field, const char *value, struct err *e)
{
	switch (k->kind) {
	case CONF_STR:
		return set_text(field, value, e);
	case CONF_BOOL:
		return parse_bool(value, field, e);
	case CONF_UINT:
		return conf_parse_uint(value, k->min, k->max, field, e);
	case CONF_MS:
		return conf_parse_ms(value, k->min, k->max, field, e);
	case CONF_SIZE:
		return conf_parse_size(value, k->min, k->max, field, e);
	}
	return -EINVAL;
}

int settings_option(struct settings *s, const char *section, const char *name, const char *value,
		    struct err *e)
{
	const struct conf_key *k = find(section, name);
	struct err why = { 0 };

	if (!k)
		return -ENOENT;
	if (!value && k->kind != CONF_BOOL)
		return err_set(e, EINVAL, "--%s needs a value", name);
	if (set_value(k, (char *)s + k->offset, value ? value : "yes", &why) < 0)
		return err_set(e, EINVAL, "--%s: %s", name, why.text);
	note_origin(s, (size_t)(k - table), NULL, 1);
	return 0;
}

/* ---- together ----------------------------------------------------------- */

/* One pass over what does not go together. */
struct together {
	struct settings *s;
	const char *role; /* whose settings must be good: a section; NULL: all */
	void (*warn)(const char *text);
	struct err *e;
};

/* What is wrong, with the place where the last of these two keys of a section was set. */
static int refuse(const struct together *t, const char *section, const char *key, const char *other, const char *what)
{
	const struct settings *s = t->s;
	const struct conf_key *k = find_key(section, key);
	size_t i = (size_t)(k - table);

	if (s->from[i].line == 0 && other) {
		k = find_key(section, other);
		i = (size_t)(k - table);
	}
	if (s->from[i].file)
		return err_set(t->e, EINVAL, "%s:%u: %s: %s", s->from[i].file, s->from[i].line, k->key, what);
	return err_set(t->e, EINVAL, "%s: %s", k->key, what);
}

static bool by_option(const struct settings *s, const char *section, const char *key)
{
	size_t i = key ? (size_t)(find_key(section, key) - table) : 0;

	return key && s->from[i].line > 0 && !s->from[i].file;
}

/* A file was good for the version before this one, perhaps, and nobody is there to change it when
 * daemons are upgraded: so what has a safe meaning gets it, and is told. Who types an option is there. */
static int mend(const struct together *t, const char *section, const char *key, const char *other,
		const char *instead, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static int mend(const struct together *t, const char *section, const char *key, const char *other,
		const char *instead, const char *fmt, ...)
{
	bool ours = !t->role || strcmp(t->role, section) == 0;
	char what[400], text[sizeof(t->e->text) + 160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	refuse(t, section, key, other, what);
	if (ours && (!instead || !t->warn || by_option(t->s, section, key) || by_option(t->s, section, other)))
		return -EINVAL;
	if (!ours && instead)
		return 0; /* it is told where it counts */
	snprintf(text, sizeof(text), "%s; %s%s%s", t->e->text, ours ? "until then, " : "the ",
		 ours ? instead : section, ours ? "" : " does not start with it");
	if (t->warn)
		t->warn(text);
	return 0;
}

static const char *ms_instead(char out[80], const char *key, uint32_t ms)
{
	snprintf(out, 80, "%s counts as %u ms", key, ms);
	return out;
}

/* A lost ping, or one that comes late, must not make a node unreachable, let alone lost. */
static int check_silence(const struct together *t)
{
	struct settings *s = t->s;
	uint32_t beat = s->heartbeat_ms ? s->heartbeat_ms : HEARTBEAT_MS;
	uint32_t lost = s->node_lost_ms ? s->node_lost_ms : NODE_LOST_MS;
	uint32_t silent = s->unreachable_ms ? s->unreachable_ms : unreachable_default_ms(beat, lost);
	char instead[80];
	int r = 0;

	if (lost < 3 * beat) {
		r = mend(t, "coordinator", "node_lost_timeout", "heartbeat", ms_instead(instead, "node_lost_timeout", 6 * beat),
			 "a node would count as lost after %u ms of silence, but it says a word only "
			 "every %u ms (heartbeat); set node_lost_timeout to %u ms or more", lost, beat, 3 * beat);
		s->node_lost_ms = lost = 6 * beat;
		silent = s->unreachable_ms ? s->unreachable_ms : unreachable_default_ms(beat, lost);
	}
	if (r == 0 && silent < 3 * beat) {
		r = mend(t, "coordinator", "unreachable_after", "heartbeat",
			 ms_instead(instead, "unreachable_after", 3 * beat),
			 "%u ms of silence make a node unreachable, but it says a word only every "
			 "%u ms (heartbeat); set unreachable_after to %u ms or more, or leave it out",
			 silent, beat, 3 * beat);
		s->unreachable_ms = silent = 3 * beat;
	}
	/* A start order holds for three heartbeats (PROTOCOL.md), and none is sent to
	 * a node that is unreachable: so none may be left when it counts as lost. */
	if (r == 0 && lost < silent + 3 * beat) {
		r = mend(t, "coordinator", "node_lost_timeout", s->unreachable_ms ? "unreachable_after" : "heartbeat",
			 ms_instead(instead, "node_lost_timeout", silent + 3 * beat),
			 "a node would count as lost after %u ms, but it is unreachable only after %u ms "
			 "and may obey for three heartbeats more; set node_lost_timeout to %u ms or more",
			 lost, silent, silent + 3 * beat);
		s->node_lost_ms = silent + 3 * beat;
	}
	return r;
}

static int check_ports(const struct together *t)
{
	struct settings *s = t->s;
	uint32_t min = s->port_min ? s->port_min : PORTS_FIRST;
	int r = 0;

	if (min < 1024) {
		r = mend(t, "agent", "port_min", NULL, "it counts as 1024",
			 "ports below 1024 are the system's; set port_min to 1024 or more");
		s->port_min = min = 1024;
	}
	/* never was taken: no port could be leased */
	if (r == 0 && s->port_max && s->port_max < min)
		r = mend(t, "agent", "port_max", "port_min", NULL,
			 "%u-%u is no range: port_max must not be below port_min%s", min, s->port_max,
			 s->from[find_key("agent", "port_min") - table].line > 0 ? "" : " (20000 unless set)");
	return r;
}

static int check_uids(const struct together *t)
{
	const struct settings *s = t->s;

	if (s->uid_min > s->uid_max)
		return mend(t, "agent", "uid_max", "uid_min", "no jobs of users run here",
			    "no user's jobs may run here, for %u-%u is no range: uid_max (%u) must not be below uid_min "
			    "(%u)", s->uid_min, s->uid_max, s->uid_max, s->uid_min);
	return 0;
}

static bool is_set(const struct settings *s, const char *key)
{
	return s->from[find_key("agent", key) - table].line > 0;
}

/* A share that is larger than the whole. A default that is so means nothing. */
static int check_shares(const struct together *t)
{
	struct settings *s = t->s;
	int r = 0;

	if (is_set(s, "specs_user_max") && s->specs_user_max > s->specs_max) {
		r = mend(t, "agent", "specs_user_max", NULL, "it counts as much as specs_max",
			 "one user may have more (%" PRIu64 " bytes) than all together (specs_max, %" PRIu64
			 " bytes); set it lower, or specs_max higher", s->specs_user_max, s->specs_max);
		s->specs_user_max = s->specs_max;
	}
	if (r == 0 && is_set(s, "spool_per_job") && s->spool_per_node != 0 && s->spool_per_job > s->spool_per_node) {
		r = mend(t, "agent", "spool_per_job", NULL, "it counts as much as spool_per_node",
			 "one job may keep more (%" PRIu64 " bytes) than the whole node (spool_per_node, %" PRIu64
			 " bytes); set it lower, or spool_per_node higher", s->spool_per_job, s->spool_per_node);
		s->spool_per_job = s->spool_per_node;
	}
	return r;
}

/* As it always was: no number of shares means all GPUs, a share that there is none of means none. */
static int check_gpus(const struct together *t)
{
	const struct settings *s = t->s;

	if (is_set(s, "gpu_share") && s->gpu_share_of == 0)
		return mend(t, "agent", "gpu_share", NULL, "all GPUs of the host are this agent's",
			    "it says which share of the GPUs is this agent's, and gpu_share_of does not say of how many; "
			    "set both or none");
	if (s->gpu_share_of != 0 && s->gpu_share >= s->gpu_share_of)
		return mend(t, "agent", "gpu_share", "gpu_share_of",
			    s->gpu_share_of > 1 ? "no GPU is this agent's" : "all GPUs of the host are this agent's",
			    "the shares of %u agents are counted 0 to %u, so there is none with the number %u; set "
			    "gpu_share lower", s->gpu_share_of, s->gpu_share_of - 1, s->gpu_share);
	return 0;
}

static int check_policy(const struct together *t)
{
	const struct settings *s = t->s;

	if (strcmp(s->cordon_on, "bad") != 0 && strcmp(s->cordon_on, "never") != 0)
		return mend(t, "coordinator", "cordon_on", NULL, NULL, "'%s' is neither bad nor never", s->cordon_on);
	if (s->hook && *s->hook != '/')
		return mend(t, "coordinator", "hook", NULL, NULL,
			    "'%s' is no absolute path; give the whole path of the program", s->hook);
	return 0;
}

int settings_check(struct settings *s, const char *role, void (*warn)(const char *text), struct err *e)
{
	static int (*const checks[])(const struct together *) = { check_silence, check_ports, check_uids, check_shares,
								    check_gpus, check_policy };
	struct err mended = { 0 };
	struct together t = { s, role, warn, &mended };
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(checks) / sizeof(checks[0]); i++)
		r = checks[i](&t);
	if (r < 0)
		*e = mended;
	return r;
}

bool settings_knows(const char *section, const char *name, bool *ret_alone)
{
	const struct conf_key *k = find(section, name);

	if (k && ret_alone)
		*ret_alone = k->kind == CONF_BOOL;
	return k != NULL;
}

void settings_help(FILE *f, const char *section)
{
	static const char *const forms[] = {
		[CONF_STR] = " TEXT", [CONF_BOOL] = "", [CONF_UINT] = " N", [CONF_MS] = " TIME",
		[CONF_SIZE] = " SIZE",
	};
	char name[64];

	for (const struct conf_key *k = table; k->section; k++) {
		if (strcmp(k->section, section) != 0)
			continue;
		snprintf(name, sizeof(name), "--%s%s", k->key, forms[k->kind]);
		for (char *p = name; *p; p++)
			*p = *p == '_' ? '-' : *p;
		fprintf(f, "  %-26s %s\n", name, k->help);
	}
}
