/* specs_disk.h - STATE/specs: what lies there, whose it is, how much it may be
 *
 * All of it may block and is for the thread pool, but for specs_disk_open(),
 * which is called before the loop runs. Several threads may be inside.
 */
#ifndef NA_IO_SPECS_DISK_H
#define NA_IO_SPECS_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct specs_disk;

struct specs_limits {
	uint64_t total, user; /* bytes of all files, and of one uid's */
};

/* Makes the directory (0700) and takes stock of it. */
int specs_disk_open(const char *state_dir, const struct specs_limits *limits,
		    struct specs_disk **ret, struct err *e);
void specs_disk_close(struct specs_disk *d);

/* Stores p under its hash, durably. 0, and the hash is held until
 * specs_disk_release(); -EDQUOT: uid, or all of them, have too much already.
 * seq: of the order, ever growing; see specs_disk_drop(). */
int specs_disk_store(struct specs_disk *d, const char *p, size_t n, uint32_t uid, uint64_t seq,
		     uint8_t ret_hash[32], struct err *e);
/* All that lie there. */
void specs_disk_each(struct specs_disk *d, void (*f)(void *arg, const uint8_t hash[32]), void *arg);
/* malloc'ed. -ENOENT when it is not here, or not whole. */
int specs_disk_load(struct specs_disk *d, const uint8_t hash[32], char **ret, size_t *ret_n,
		    struct err *e);
void specs_disk_release(struct specs_disk *d, const uint8_t hash[32]);
/* Removes it, unless it is held or was stored again by an order younger than
 * seq: whoever asked did not know of that. */
void specs_disk_drop(struct specs_disk *d, const uint8_t hash[32], uint64_t seq);
/* The same for all that are not among the n wanted ones. */
void specs_disk_keep_only(struct specs_disk *d, uint8_t (*wanted)[32], size_t n, uint64_t seq);
/* The same for all that were stored before this time. */
void specs_disk_drop_old(struct specs_disk *d, int64_t before_wall_s, uint64_t seq);

#endif
