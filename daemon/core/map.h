/* map.h - from a 64-bit number to a pointer: open addressing, keys never 0
 *
 * Not ordered: never iterate over it where the order could reach an action.
 */
#ifndef NA_CORE_MAP_H
#define NA_CORE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map {
	struct map_slot *slots;
	size_t cap, used; /* used counts tombstones too */
};

void map_finish(struct map *m);
/* 0 or -ENOMEM; an existing key gets the new value. */
int map_put(struct map *m, uint64_t key, void *value);
void *map_get(const struct map *m, uint64_t key); /* NULL when absent */
void map_del(struct map *m, uint64_t key);

#endif
