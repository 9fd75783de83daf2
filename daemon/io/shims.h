/* shims.h - names in RUN/shims, shared by shims.c and adopt.c */
#ifndef NA_IO_SHIMS_H
#define NA_IO_SHIMS_H

#include "io/agent_io.h"

void shims_file(uint64_t job, uint32_t attempt, const char *suffix, char out[48]);
/* socket, held record, ports, latch. Blocks a little: thread pool or start-up. */
void shims_remove_files(struct agent_io *io, uint64_t job, uint32_t attempt);

/* 'wanted', or the program of this name beside ours or in libexec. 0 or -ENOENT. */
int program_find(const char *wanted, const char *name, char *out, size_t size, struct err *e);

#endif
