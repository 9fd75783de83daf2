/* gpus.h - the GPUs of simulated hosts, their probes, and what must hold for both
 *
 *   gpus.c           the GPUs, what befalls them, the probe that reads them
 *   check_gpus.c     who is given which, and when
 *   scenario_gpus.c  what happens to them
 */
#ifndef SIM_GPUS_H
#define SIM_GPUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GPUS_MAX 4

/* In PCI order: this is what a GPU is. An index counts those that are there. */
struct sim_gpu {
	char uuid[41];
	bool gone; /* fell off the bus, or was taken out: nobody lists it */
	bool lost; /* listed, but it cannot be read, and CUDA counts on without it */
	bool unclear; /* nobody can say which processes use it */
	int64_t left_at; /* its last process of a job died then */
	int64_t full_until; /* and the driver keeps the memory */
	uint32_t stranger; /* pid of a process of nobody's job on it; 0: none */
};

struct gpu_host {
	struct sim_gpu v[GPUS_MAX];
	uint32_t n;
	uint32_t order; /* counts changes of what an index means, from 1 */
	bool broken, absent; /* its driver */
	bool port_bad; /* its InfiniBand port; only where nodes are left out for that */
};

/* What the coordinator was told of a node over the present session. */
struct told_gpus {
	bool any, ok, absent;
	uint32_t usable, mine; /* bits: not lost; and not another virtual node's */
	uint32_t full; /* bits: more memory in use than without a job */
	int64_t read_at; /* when the probe has read it */
	uint32_t strange, used; /* bits: a process of nobody's job uses it, or any process does */
};

struct sim;
struct agent_actor;
struct shim_actor;
struct conn;
struct event;
struct rec_readings;
struct rec_row_job;
struct store_row;

/* gpus.c */
void gpus_host(struct sim *s, uint32_t host, uint32_t n); /* this host has n of them, and a probe */
/* 'host' is another virtual node of host 'with': same boot, same GPUs, each its share. */
void gpus_share(struct sim *s, uint32_t with, uint32_t host, uint32_t share, uint32_t of);
void gpus_probe_starts(struct sim *s, struct agent_actor *a);
void gpus_probe_event(struct sim *s, struct agent_actor *a, const struct event *e);
void gpus_left(struct sim *s, const struct shim_actor *h); /* a process of it has died */
void gpus_rebooted(struct agent_actor *a);
uint32_t gpus_some(struct sim *s, uint32_t host); /* one of them */
void gpus_fault(struct sim *s, uint32_t host, uint32_t gpu, int kind, bool on); /* enum fault_kind */
void gpus_heal(struct sim *s);
uint32_t gpus_bit(const struct agent_actor *a, const char *uuid, size_t len); /* 0: none of these */
uint32_t gpus_mask(const struct agent_actor *a, const char *uuids); /* of a list */

/* check_gpus.c */
void gpus_told(struct sim *s, const struct conn *c, const struct rec_readings *r);
void gpus_registered(struct sim *s, struct conn *c); /* before it counts as the session */
void gpus_go_sent(struct sim *s, struct shim_actor *h); /* by its agent, at this moment */
void gpus_started(struct sim *s, struct shim_actor *h); /* its ranks */
void gpus_look(struct sim *s); /* after each step of the coordinator, before its rows are looked at */
void gpus_look_job(struct sim *s, const struct rec_row_job *r); /* for each job in its memory */
struct jobrec;
bool gpus_source_away(const struct sim *s, const struct jobrec *j);
void gpus_looked(struct sim *s);
void gpus_row(struct sim *s, const struct store_row *r); /* is to be stored */

#endif
