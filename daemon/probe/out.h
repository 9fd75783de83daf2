/* out.h - frames to a descriptor that others own too
 *
 * The descriptor was inherited: its flags are not ours to change. So nothing
 * is written before poll(2) says that it fits.
 */
#ifndef NA_PROBE_OUT_H
#define NA_PROBE_OUT_H

#include <stdbool.h>
#include <stddef.h>

/* All n bytes. 0; -EPIPE when nobody reads any more; -ETIMEDOUT when the reader
 * took nothing for stall_ms; -errno. After a failure the stream is cut. */
int out_write(int fd, const void *p, size_t n, int stall_ms);
/* True when the reading end is closed. */
bool out_gone(short poll_revents);

#endif
