/* disk.h - the disk of the coordinator's host, as SQLite sees it
 *
 * A file is what a process reads (the page cache) and what a power failure
 * leaves: what was synced, and of each write since then any 512-byte sectors or
 * none. The process may be killed in the middle of a write, the disk may be
 * full, and writing or syncing may fail.
 *
 * Not modelled: reads that fail, sectors that change by themselves, locks (there
 * is one coordinator).
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include <stdbool.h>
#include <stdint.h>

struct world;

#define DISK_DB "state.db"

/* Registers the VFS as SQLite's own, once; then an empty database is made on it by 'make',
 * which is what every disk_begin() starts from. */
void disk_init(void (*make)(void));
void disk_finish(void);
/* A new disk for this run; chance and determinism are the world's. */
void disk_begin(struct world *w);
/* The process that had files open is gone after so many more operations that
 * change something (0: now): nothing of it has an effect from then on. */
void disk_dies_after(uint32_t ops);
/* Who opens files from here on is a new process. */
void disk_new_process(void);
/* Its host has lost power. */
void disk_power_lost(void);
/* Files may grow by so many bytes more in all; -1: without end. strict: what
 * overwrites a file needs room too (as on file systems that copy). */
void disk_room(int64_t bytes, bool strict);
/* permille of writes and of syncs that fail */
void disk_errors(uint32_t writes, uint32_t syncs);

bool disk_is_bad(void); /* full, or failing, just now */

struct disk_stats {
	uint64_t writes, syncs, lost, torn, full, bad, cut_short;
};
extern struct disk_stats disk_stats; /* since the program began */

#endif
