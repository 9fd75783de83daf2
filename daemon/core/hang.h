/* hang.h - what a running job does, and whether it will go on: judged, from evidence
 *
 * Pure: everything that is known of its ranks comes in, a phase and maybe a verdict go out.
 *
 * The rule above all others: no hang while any rank makes progress. Progress is CPU or disk
 * used by the rank's processes (shim/pulse.h), unless the CPU is a busy-wait: NCCL's kernels
 * and threads spin while they wait, at 100 % of GPU and CPU. Such a wait shows in the power
 * (118 W of 400 W: nccl#2428; training takes well above half) or in RAS counts that stand still.
 * A GPU at work is progress, too, and so is a rank that syncs a file while its host writes back:
 * then the bytes were counted when they were written, and move only now.
 *
 * Two hints hold a verdict off, and neither for ever. A step that advanced lately: small models
 * take little power; for twice the time a step takes. Bytes on the ports of the job's nodes: they
 * may be those of its collectives, or of storage, or of another job, so they say nothing once
 * NCCL's counts stand still, or after a minute. Ports that carry nothing prove nothing, either: an
 * evaluation sends nothing for minutes, and a job on sockets or on one node never does. So no
 * verdict comes of them alone; they are told with it.
 *
 * Three things are told whatever else goes on, for they do not end by themselves: a rank that
 * is stopped or frozen, one whose process waits for a disk without a byte moving, and a worker that has
 * died below a launcher that lives on.
 *
 * Ranks that do nothing may be a server's, without requests. Where some of them have begun to make a communicator of NCCL, and
 * others have not, it is a hang all the same.
 *
 * What is not known is taken for progress: silence is no proof.
 */
#ifndef NA_CORE_HANG_H
#define NA_CORE_HANG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HANG_STOPPED_MS 10000
#define HANG_DISK_MS 20000
#define HANG_SYNC_MS 180000 /* a large checkpoint is being synced: no bytes of its process are counted meanwhile */
#define HANG_FLUSH_MS 1800000 /* ... while its host writes back, which may be another's: not longer */
#define HANG_DEAD_MS 20000 /* torchrun ends the others within seconds, or cannot */
#define HANG_IDLE_MS 25000 /* with 5 s between two looks: 30 s from freezing to verdict */
#define HANG_SPIN_MS 15000 /* all wait: known up to 15 s after it began (a look, a reading) */
#define HANG_FLOW_MS 60000 /* bytes on the ports hold a verdict off for so long at most */
#define HANG_STEP_LEAST_MS 10000 /* a step that advanced holds it off for twice its time, within these */
#define HANG_STEP_MOST_MS 600000
#define HANG_POLLS 3 /* RAS counts that were equal so often stand still */
#define HANG_COUNTED_MS 10000 /* who is behind by them, and did something less than so long ago, may do it again */

enum hang_op { OP_BROADCAST, OP_REDUCE, OP_ALL_GATHER, OP_REDUCE_SCATTER, OP_ALL_REDUCE, OP_ANY, OP_COUNT };
enum gpu_use { GPU_DARK, GPU_RESTS, GPU_WORKS, GPU_FULL }; /* not known; <= 5 %; between; >= 95 % */
enum port_flow { FLOW_DARK, FLOW_NONE, FLOW_SOME }; /* not known, or little; < 100 kB/s of each node; >= 1 MB/s of any */

struct hang_rank {
	uint32_t rank, pid;
	const char *node;
	/* its processes */
	bool known; /* its node tells of it, lately */
	bool idle; /* they use neither CPU nor disk */
	int64_t idle_ms;
	char state; /* as in proc(5), 0: not known */
	int64_t state_ms; /* in T or D for so long */
	const char *wchan, *threads; /* or NULL; of all its threads */
	uint32_t cpu_permille, procs;
	uint64_t write_bps;
	bool flushes; /* its host writes back to its disks, whoever wrote */
	/* its GPU */
	enum gpu_use gpu;
	bool has_power, low_power; /* low: below a third of its limit */
	/* RAS: operations launched so far */
	bool counted;
	uint64_t count[OP_COUNT]; /* OP_ANY: of a flight recorder, which counts all together */
	/* it has ended badly, and its launcher lives on */
	bool dead;
	int64_t dead_ms;
	const char *dead_how; /* "was killed by signal 9" */
};

struct hang_in {
	const struct hang_rank *v;
	size_t n;
	uint32_t nodes;
	int64_t run_ms;
	int64_t stalled_ms; /* hang_out.stalled was so without a break for so long */
	bool has_step;
	int64_t step_ms; /* since it changed */
	int64_t step_gap_ms; /* between its last two changes; 0: not known */
	enum port_flow flow; /* RDMA ports of its nodes */
	int64_t flow_ms; /* NONE: for so long */
	uint32_t polls; /* of RAS, that brought the same counts */
	const char *late, *late_node; /* who has not come to NCCL's initialisation while others are in it: "rank 1 on gpu02"; NULL: nobody */
	bool elsewhere; /* a rank is behind in a communicator, perhaps not the one of the counts */
};

struct hang_out {
	const char *phase; /* starting tokenising training checkpointing busy idle hung */
	bool hang, stalled; /* stalled: no rank makes progress; the hints do not count */
	bool moves; /* it is seen to go on: some rank makes progress, or a step has just come */
	bool blind; /* of some rank nothing is known: that nothing hangs is not known, either */
	char text[512], fix[256]; /* of a hang */
	bool patient; /* of a hang: a program that waits for a file or a service for a minute looks the same */
	bool has_rank; /* of a hang: somebody is behind */
	uint32_t rank;
	const char *node; /* of a hang: that of the rank that is behind; NULL: none is; borrowed from hang_rank */
	const char *threads; /* of a hang: where those of the rank wait; NULL; borrowed from hang_rank */
	char note[256]; /* what the phase is known by; may be "" */
};

void hang_judge(const struct hang_in *in, struct hang_out *out);

#endif
