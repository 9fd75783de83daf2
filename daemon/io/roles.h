/* roles.h - what main.c starts: the coordinator role and the agent role
 *
 * Each runs its own libuv loop in its own process and returns an exit code.
 */
#ifndef NA_IO_ROLES_H
#define NA_IO_ROLES_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

struct coord_opts {
	const char *state_dir; /* state.db, key.pem, cert.pem; made by coord_init */
	const char *socket_path; /* local clients */
	const char *listen_host; /* NULL: all */
	uint16_t port; /* 0: any */
	const char *address; /* HOST:PORT told to joining nodes; NULL: listen_host:port */
	int ready_fd; /* -1, or: one line "HOST:PORT\n" is written once listening */
	int parent_fd; /* -1, or: EOF on it ends the process at once (standalone's supervisor died) */
	uint32_t heartbeat_ms, unreachable_ms, node_lost_ms, prepare_ms; /* 0: default */
	uint32_t history_jobs, history_days; /* 0: the default; any age */
	uint32_t events_keep, events_days; /* the same */
	bool cordon_on_bad; /* the policy, see coord_policy.c; 0: the default, or (after) never */
	uint32_t cordon_lift_ms, quarantine_after, quarantine_ms;
	const char *hook; /* program that is run for each event; NULL: none */
};

struct agent_opts {
	const char *state_dir; /* key.pem, cert.pem, node.ini, specs/ */
	const char *spool_dir; /* output of jobs: JOB.ATTEMPT/ */
	const char *run_dir; /* agent.sock, shims/ */
	const char *socket_path; /* NULL: run_dir/agent.sock */
	const char *dir; /* NULL, or where `nodectl --dir` is to find the socket */
	const char *listen_host; /* peers; NULL: all */
	uint16_t peer_port; /* 0: any */
	const char *shim_path; /* nodeagent-shim; NULL: beside this program, or libexec */
	const char *launcher_path; /* used when not single_user */
	bool single_user;
	bool allow_root;
	uint32_t uid_min, uid_max;
	uint64_t specs_max, specs_user_max; /* bytes */
	uint64_t spool_per_job, spool_per_node; /* bytes of output; per_node 0: a tenth of the file system */
	uint32_t spool_keep_ms; /* after the end; 0: as long as there is room */
	uint32_t port_min, port_max; /* MASTER_PORT range; 0: 20000 .. below the ephemeral range */
	int ready_fd; /* -1, or: "registered\n" once registered */
	int parent_fd;
	bool end_jobs_on_term; /* standalone: SIGTERM ends this node's jobs first */
	const char *sysfs_root;
	const char *kmsg; /* in place of /dev/kmsg; NULL: that */
	const char *nvml; /* path of the library; NULL: the system's */
	const char *exclude_ports; /* RDMA devices not to be touched, comma-separated */
	bool no_probe; /* GPUs and ports are not read */
	uint32_t probe_patience_ms; /* a source of it that hangs for so long is started anew */
	bool no_nccl_log; /* jobs' NCCL is not asked to write one */
	bool no_ras; /* ... nor how far it is */
	uint32_t pulse_ms; /* what ranks do is looked at this often; 0: never */
	uint32_t gpu_share, gpu_share_of; /* virtual nodes share the host's GPUs out; of <= 1: all are ours */
};

int coord_run(const struct coord_opts *o);
int agent_run(const struct agent_opts *o);

/* identity.c: STATE/node.ini of an agent */
struct node_identity {
	char node[65];
	char cluster[65];
	char coord_host[256];
	uint16_t coord_port;
	uint8_t coord_key[32];
};
int identity_load(const char *state_dir, struct node_identity *ret, struct err *e);
int identity_save(const char *state_dir, const struct node_identity *id, struct err *e);

#endif
