/* pulse.h - what the ranks' processes do: CPU, disk, state, and what they wait in
 *
 * Each rank (or worker below a launcher) is looked at with all that lives below it,
 * now and then: every period while something is used, every second while nothing is,
 * for the coordinator must know soon when it goes on. /proc only: nothing here opens a
 * file of a user's.
 *
 * Progress is CPU (more than 3 % of a core: watchdog threads of PyTorch and NCCL use
 * less) or bytes from or to the disk; and a call that came back to a thread that waits
 * for files, however little it brought: its server is slow, and answers. Whether CPU is progress or a busy-wait cannot be
 * seen here; the coordinator knows the GPUs.
 *
 * Not promised: processes that have left the tree (a double fork), and more than
 * PROCS_MAX of one rank.
 */
#ifndef NA_SHIM_PULSE_H
#define NA_SHIM_PULSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/mono.h"
#include "proto/message.h"

#define PULSE_FROZEN "a frozen cgroup" /* in place of a wait channel; core/hang.c knows it */
#define PULSE_RANKS 1024 /* looked at; as message 'pulse' holds */

struct pulse_target {
	uint32_t rank;
	bool worker;
	pid_t pid;
	uint64_t start_time;
};

struct pulse;

struct pulse *pulse_create(uint32_t period_ms, mono_t now); /* NULL on ENOMEM */
void pulse_destroy(struct pulse *p);
mono_t pulse_due(const struct pulse *p);
/* Targets that were not there before are new, those that are not any more are
 * forgotten. True: something is to be told. */
bool pulse_look(struct pulse *p, const struct pulse_target *v, size_t n, mono_t now);
void pulse_told(struct pulse *p, mono_t now);
void pulse_tell_again(struct pulse *p); /* somebody new listens */
/* The ranks are asked for a dump (flight.h): what those that did nothing use for it, within some limits, is no progress; nor is
 * it for longer than 10 s, however often they are asked. */
void pulse_asked(struct pulse *p, mono_t now);
void pulse_answered(struct pulse *p, mono_t now); /* all of them have written it; else 7 s are enough */
/* As of the last look; texts are borrowed until the next. Number of out[max]. */
size_t pulse_list(const struct pulse *p, mono_t now, struct rec_rank_pulse *out, size_t max);

/* ---- the judgement of one look, pure ------------------------------------- */

/* Of a rank and all below it, since the look before. */
struct pulse_use {
	uint64_t span_ms;
	uint64_t cpu_ms; /* user and system */
	uint64_t disk_read, disk_written; /* bytes of the block layer, or of a network file system */
	uint64_t moved; /* bytes by read() and write(), out of the page cache too */
};
bool pulse_is_progress(const struct pulse_use *u);
/* Does a thread in this state and wait channel wait for a file system's answer? */
bool pulse_waits_for_files(char state, const char *wchan);
/* So many pages that the host has written back in so long are a disk at work. */
bool pulse_flushes(uint64_t pages, uint64_t span_ms);

#endif
