/* spec.h - a job's specification: cwd, argv and environment as bytes
 *
 * Not JSON: argv and environment are bytes without NUL, so NUL-terminated
 * strings one after the other are exact and cost nothing to read:
 *   "NASPEC1\n"  8 bytes
 *   argc, envc   4 bytes each, big-endian
 *   cwd NUL, argv[0..argc) each NUL, env[0..envc) each NUL ("NAME=value")
 * Nothing may follow. argc >= 1; cwd absolute; each env has '=' not first.
 */
#ifndef NA_PROTO_SPEC_H
#define NA_PROTO_SPEC_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

#define SPEC_MAX (2u << 20) /* 2 MiB: Linux's own usual limit for argv + environment */
/* So begins what an agent says that could not get it, with the name of the node that has it;
 * the coordinator knows the fault by that. */
#define SPEC_NOT_FETCHED "could not fetch the job's specification from node "

struct spec {
	const char *cwd;
	const char **argv; /* NULL-terminated; pointers into the blob */
	const char **env; /* NULL-terminated */
	uint32_t argc, envc;
};

/* -E2BIG when over SPEC_MAX (text: size, limit, and the largest parts). */
int spec_encode(const char *cwd, char *const *argv, char *const *env, struct buf *b, struct err *e);
/* The blob must outlive *ret; free with spec_finish. -EINVAL on any flaw. */
int spec_decode(const void *blob, size_t len, struct spec *ret, struct err *e);
void spec_finish(struct spec *s);

/* "argument 2 (2500000 bytes), PATH (412 bytes)": what takes most, at most three, without
 * any value. Nothing when all are small. */
void spec_add_largest(const char *const *argv, const char *const *env, struct buf *b);
#define SPEC_PASS_LESS "pass less with --clean-env or --env, or put it into a file"

#endif
