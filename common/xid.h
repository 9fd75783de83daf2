/* xid.h - Xid errors that a program brings about by itself
 *
 * NVIDIA's Xid catalogue: 13 graphics exception, 31 page fault, 43 and 45 a channel
 * stopped or cleaned up, 68 and 69 engine exceptions, 109 a context switch that took
 * too long. An assertion or an illegal address in a kernel of a user's is enough.
 */
#ifndef NA_COMMON_XID_H
#define NA_COMMON_XID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool xid_is_fault(uint32_t xid)
{
	static const uint32_t programs[] = { 13, 31, 43, 45, 68, 69, 109 };

	for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++)
		if (programs[i] == xid)
			return false;
	return true;
}

#endif
