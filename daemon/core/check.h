/* check.h - the table of checks: what is read, where the limit is and who says so, what it means
 *
 * A check looks at one thing (a node, a source of readings, a port, a GPU) and
 * passes a verdict. What could not be read is unknown, never ok. The verdicts
 * warn and bad are what a node's "attention" is made of (verdict.h).
 *
 * Pure: all that a check knows is in struct verdict_in.
 */
#ifndef NA_CORE_CHECK_H
#define NA_CORE_CHECK_H

#include "core/tally.h"
#include "core/verdict.h"

#define FLAPS_WARN 2 /* times down in an hour */
#define FLAPS_BAD 4

enum check_verdict {
	CHECK_UNKNOWN, /* what a check that does nothing says */
	CHECK_OK,
	CHECK_WARN,
	CHECK_BAD,
	CHECK_SKIP, /* does not apply to this thing: no row */
};
#define CHECK_VERDICTS 4 /* that are counted */

enum check_scope { OF_NODE, OF_SOURCE, OF_PORT, OF_GPU };

/* What one check has found at one thing. Texts live in the arena, the readings, or for ever. */
struct check_is {
	enum check_verdict verdict;
	const char *reading; /* what was read, or why it was not; NULL */
	const char *is; /* of warn and bad: in a word or two, without numbers that change */
	const char *brief; /* NULL: what it is, and 'is' */
	const char *text, *fix; /* of warn and bad; fix may be NULL */
	bool untold; /* it is not for the node's attention: another one says it */
};

struct check;
/* What it looks at; which of the pointers are set depends on the scope. */
struct check_at {
	struct arena *a;
	const struct verdict_in *in;
	const struct check *check;
	const struct rec_readings *r; /* NULL: none */
	const struct rec_host *host; /* NULL: not read */
	const struct rec_source *source;
	const struct rec_port *port;
	const struct rec_gpu *gpu;
	const char *what; /* "mlx5_2", "GPU 3"; NULL: the node */
};

struct check {
	const char *id;
	enum check_scope scope;
	void (*judge)(const struct check_at *at, struct check_is *is);
	const char *noun; /* of verdict_kind: equal ones are counted; NULL */
	const char *title;
	const char *reads; /* where the reading comes from */
	const char *threshold;
	const char *source; /* who says that this is the threshold */
	const char *remedy;
	/* of counters: the file, how much in an hour is a warning, and how much is bad (0: never) */
	const char *counter;
	uint64_t warn, bad;
};

extern const struct check check_table[]; /* ends with id NULL */

/* Is its id this one, or does it begin so ("gpu.")? NULL: all do. */
bool check_matches(const struct check *c, const char *id);
const char *check_verdict_name(enum check_verdict v); /* "ok" */

/* The rows of one node, when somebody asks for them. */
struct check_found {
	const struct check *check; /* NULL: a verdict that the coordinator passes itself, see 'id' */
	const char *id, *what;
	struct check_is is;
};
struct checks {
	struct check_found *v; /* in the arena */
	size_t n, cap;
	bool oom;
};
void checks_add(struct arena *a, struct checks *c, const struct check_found *f);

/* ---- shared by the files of checks ---- */

void check_say(struct check_is *is, enum check_verdict v, const char *word, const char *text, const char *fix);
/* ok with a reading */
void check_ok(struct check_is *is, const char *reading);
/* Is it a port of Ethernet, or of InfiniBand (also when nobody says)? It may be neither. Does it carry traffic? */
bool check_is_ethernet(const struct rec_port *p);
bool check_is_infiniband(const struct rec_port *p);
bool check_is_active(const struct rec_port *p);
/* "64.0 GiB" */
const char *check_bytes(struct arena *a, uint64_t bytes);

/* check_port.c */
void check_port_state(const struct check_at *at, struct check_is *is);
void check_port_lid(const struct check_at *at, struct check_is *is);
void check_port_rate(const struct check_at *at, struct check_is *is);
void check_port_width(const struct check_at *at, struct check_is *is);
void check_port_counter(const struct check_at *at, struct check_is *is);
void check_port_flap(const struct check_at *at, struct check_is *is);
void check_port_firmware(const struct check_at *at, struct check_is *is);
void check_port_pkey(const struct check_at *at, struct check_is *is);
void check_port_gids(const struct check_at *at, struct check_is *is);
void check_port_sm(const struct check_at *at, struct check_is *is);
void check_layers(const struct check_at *at, struct check_is *is);
void check_ports_count(const struct check_at *at, struct check_is *is);

/* check_gpu.c */
void check_gpu_present(const struct check_at *at, struct check_is *is);
void check_gpu_ecc(const struct check_at *at, struct check_is *is);
void check_gpu_xid(const struct check_at *at, struct check_is *is);
void check_gpu_strangers(const struct check_at *at, struct check_is *is);
void check_gpu_memory(const struct check_at *at, struct check_is *is);
void check_gpu_remap(const struct check_at *at, struct check_is *is);
void check_gpu_throttle(const struct check_at *at, struct check_is *is);
void check_gpu_temp(const struct check_at *at, struct check_is *is);
void check_gpu_power(const struct check_at *at, struct check_is *is);
void check_gpu_pcie(const struct check_at *at, struct check_is *is);
void check_gpu_nvlink(const struct check_at *at, struct check_is *is);
void check_gpu_fabric(const struct check_at *at, struct check_is *is);
void check_gpu_mode(const struct check_at *at, struct check_is *is);
void check_gpu_persistence(const struct check_at *at, struct check_is *is);
void check_gpu_driver(const struct check_at *at, struct check_is *is);
void check_gpu_count(const struct check_at *at, struct check_is *is);
void check_gpu_fabricmanager(const struct check_at *at, struct check_is *is);
void check_gpu_peermem(const struct check_at *at, struct check_is *is);

/* check_nic.c */
void check_gpu_nic(const struct check_at *at, struct check_is *is);

/* check_host.c */
void check_node_clock(const struct check_at *at, struct check_is *is);
void check_node_source(const struct check_at *at, struct check_is *is);
void check_node_mem(const struct check_at *at, struct check_is *is);
void check_node_disk(const struct check_at *at, struct check_is *is);
void check_node_mounts(const struct check_at *at, struct check_is *is);
void check_node_memlock(const struct check_at *at, struct check_is *is);
void check_node_shm(const struct check_at *at, struct check_is *is);
void check_node_hugepages(const struct check_at *at, struct check_is *is);
void check_node_limits(const struct check_at *at, struct check_is *is);
void check_node_kmsg(const struct check_at *at, struct check_is *is);

#endif
