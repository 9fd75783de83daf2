/* settings.h - what nodeagentd.conf and the command line can set, in one table
 *
 * Every key of section [coordinator] or [agent] is a long option of that role
 * too, with '-' for '_'. The command line wins.
 */
#ifndef NA_IO_SETTINGS_H
#define NA_IO_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/err.h"

#define DEFAULT_CONFIG "/etc/nodeagent/nodeagentd.conf"

#define SETTINGS_MAX 64 /* keys of the table, at most */

struct settings {
	/* Where each key was set, for sentences: file and line, line only: an option, neither: nowhere. */
	struct {
		char *file; /* own copy */
		unsigned line;
	} from[SETTINGS_MAX];

	char *coord_state, *coord_socket, *coord_listen, *address;
	uint32_t port;
	uint32_t heartbeat_ms, unreachable_ms, node_lost_ms, prepare_ms;
	char *cordon_on, *hook;
	uint32_t cordon_lift_ms, quarantine_after, quarantine_ms;
	uint32_t history_jobs, history_days, events_keep, events_days;

	char *agent_state, *agent_spool, *agent_run, *agent_socket, *agent_listen;
	char *shim, *launcher, *sysfs_root, *exclude_ports, *nvml, *kmsg;
	bool probe, nccl_log, nccl_ras;
	uint32_t probe_patience_ms;
	uint32_t pulse_ms;
	uint32_t gpu_share, gpu_share_of;
	uint32_t peer_port;
	bool single_user, allow_root;
	uint32_t uid_min, uid_max, port_min, port_max;
	uint64_t specs_max, specs_user_max;
	uint64_t spool_per_job, spool_per_node;
	uint32_t spool_keep_ms;
};

/* Defaults. */
void settings_init(struct settings *s);
void settings_finish(struct settings *s);
/* path NULL: the default file, which may be absent. */
int settings_load(struct settings *s, const char *path, struct err *e);
/* What `init` was told about the coordinator's address, kept in its state
 * directory: weaker than the configuration. host NULL: all addresses. */
int settings_record(const char *state_dir, const char *host, uint16_t port, struct err *e);
int settings_load_recorded(struct settings *s, const char *state_dir, struct err *e);
/* --dir: all that a role has lies in this directory. */
int settings_place(struct settings *s, const char *dir, struct err *e);
/* Fills in what depends on other settings; when all have been read. */
int settings_complete(struct settings *s, struct err *e);
/* Values that are good alone and not together, of this role's section (NULL: all). From a file: what
 * has a safe meaning gets it, and 'warn' the place, what would do and what counts until then. From an
 * option, or without one (or without 'warn'): refused, with the same. */
int settings_check(struct settings *s, const char *role, void (*warn)(const char *text), struct err *e);
/* Sets SECTION's key from an option's name ("node-lost-timeout") and value
 * (NULL: the option stood alone). -ENOENT: no such key, *e untouched. */
int settings_option(struct settings *s, const char *section, const char *name, const char *value,
		    struct err *e);
/* True when the key exists; *ret_alone: it may stand without a value. */
bool settings_knows(const char *section, const char *name, bool *ret_alone);
/* The options of a section, for --help. */
void settings_help(FILE *f, const char *section);

#endif
