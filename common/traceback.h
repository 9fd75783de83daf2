/* traceback.h - what went wrong, from the last lines a program wrote
 *
 * Finds Python exceptions and what C and C++ say when they die, in the output of
 * one process or of several that share a pipe. Colours, carriage returns,
 * prefixes of ranks ("[rank3]: ", "[default0]:", "[gpu01:3] ", "[1,3]<stderr>:")
 * and bytes that are no text may be among it.
 *
 *   chain     of exceptions that led to each other, the first counts
 *   wrapper   what a launcher says of its workers' end (ChildFailedError,
 *             CalledProcessError of torchrun, KeyboardInterrupt): never shown
 *   ignored   by Python itself ("Exception ignored in: ..."), or of its logging: never shown
 *   peer      an exception that others' deaths cause (NCCL, gloo, the store):
 *             shown only when there is nothing better
 *
 * What lies further back than a few KiB of ordinary output was survived, and
 * does not count. Pure; linear in n; no memory is taken.
 *
 * Not promised: lines of two processes that came through one pipe without
 * prefixes, woven into each other, are told apart by their look alone.
 */
#ifndef NA_COMMON_TRACEBACK_H
#define NA_COMMON_TRACEBACK_H

#include <stddef.h>
#include <stdint.h>

#define TRACEBACK_TEXT 1024 /* with NUL */

enum traceback_kind {
	TRACEBACK_NONE,
	TRACEBACK_WRAPPER, /* never returned */
	TRACEBACK_NOTE, /* "python3: can't open file ..." */
	TRACEBACK_PEER,
	TRACEBACK_NATIVE, /* "terminate called after ...", "Fatal Python error: ..." */
	TRACEBACK_PYTHON
};

struct traceback {
	enum traceback_kind kind;
	int64_t rank; /* as its prefix says; -1: no such prefix */
	size_t after; /* bytes of output that follow it */
	char text[TRACEBACK_TEXT]; /* "RuntimeError: ... at train.py:42", UTF-8, one line, printable */
};

/* The earliest real exception in p[0..n). rank >= 0: of that rank, whose number on
 * its node is 'local' (torchrun's labels), or of none that is named; rank -1: of
 * any. Nothing found: kind NONE, text "". */
void traceback_find(const char *p, size_t n, int64_t rank, int64_t local, struct traceback *ret);

#endif
