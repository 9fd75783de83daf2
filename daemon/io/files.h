/* files.h - small files written so that a crash leaves the old one or the new one */
#ifndef NA_IO_FILES_H
#define NA_IO_FILES_H

#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"

/* Writes PATH.new (O_EXCL, mode), syncs it, renames it over PATH and syncs the
 * directory. Blocks: for start-up and one-shot commands only. */
int file_save(const char *path, const void *data, size_t n, mode_t mode, struct err *e);
/* mkdir; fine when it exists as a directory of ours. -EPERM when it is
 * another's, or everybody may write there. */
int dir_make(const char *path, mode_t mode, struct err *e);
/* The same for each missing component above it too (those 0755). */
int dir_make_all(const char *path, mode_t mode, struct err *e);
/* From the first on, file_save() leaves syncing to the second: hundreds of
 * small files reach the disk in a few commits of its journal. */
void files_defer_sync(void);
int files_sync(struct err *e);
/* A symbolic link DIR/NAME to TARGET, in place of another one. -EEXIST when
 * something else is there. */
int file_link(const char *target, const char *dir, const char *name, struct err *e);
/* Opens PATH and takes its flock for this process' life; writes our pid into
 * it. The descriptor, or -EBUSY with the other's pid in *ret_pid (0: unknown). */
int file_lock(const char *path, pid_t *ret_pid, struct err *e);

#endif
