/* bulk_begin.h - where in a spool file a reader begins: so many lines from its end, or at a time
 *
 * All of it blocks (metadata and a little of local disk): for the thread pool.
 */
#ifndef NA_IO_BULK_BEGIN_H
#define NA_IO_BULK_BEGIN_H

#include <stdbool.h>
#include <stdint.h>

/* The first byte that is there at or after 'offset': files begin with a hole
 * where their oldest bytes were given back. 'size' when none is; 'offset' where
 * the file system cannot tell. */
uint64_t begin_of_data(int file, uint64_t offset, uint64_t size);

/* Where the last 'lines' lines of a file of 'size' bytes begin; looks back 16 MiB
 * at most. A last line without an end counts. */
uint64_t begin_of_tail(int file, uint64_t size, uint32_t lines);

/* Reads a stamps file ("wall_ms rank fd offset" a line, see the shim's protocol):
 * calls f for each stamp from that time on, in order. */
void begin_since(int stamps, int64_t wall_ms,
		 void (*f)(void *arg, uint32_t rank, uint32_t fd, uint64_t offset), void *arg);

#endif
