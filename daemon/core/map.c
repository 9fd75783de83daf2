/* map.c - see map.h */
#include "core/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct map_slot {
	uint64_t key; /* 0: never used */
	void *value; /* NULL with a key: deleted */
};

static size_t slot_of(uint64_t key, size_t cap)
{
	key ^= key >> 33;
	key *= UINT64_C(0xff51afd7ed558ccd);
	key ^= key >> 33;
	return (size_t)key & (cap - 1);
}

void map_finish(struct map *m)
{
	free(m->slots);
	memset(m, 0, sizeof(*m));
}

static struct map_slot *find(const struct map *m, uint64_t key)
{
	size_t i;

	if (m->cap == 0)
		return NULL;
	for (i = slot_of(key, m->cap); m->slots[i].key != 0; i = (i + 1) & (m->cap - 1))
		if (m->slots[i].key == key)
			return &m->slots[i];
	return NULL;
}

static void insert(struct map_slot *slots, size_t cap, uint64_t key, void *value)
{
	size_t i = slot_of(key, cap);

	while (slots[i].key != 0)
		i = (i + 1) & (cap - 1);
	slots[i].key = key;
	slots[i].value = value;
}

/* A new table with the living entries only. */
static int rebuild(struct map *m)
{
	size_t live = 0, cap = 16, i;
	struct map_slot *slots;

	for (i = 0; i < m->cap; i++)
		live += m->slots[i].value != NULL;
	while (cap < (live + 1) * 3)
		cap *= 2;
	slots = calloc(cap, sizeof(*slots));
	if (slots == NULL)
		return -ENOMEM;
	for (i = 0; i < m->cap; i++)
		if (m->slots[i].value != NULL)
			insert(slots, cap, m->slots[i].key, m->slots[i].value);
	free(m->slots);
	m->slots = slots;
	m->cap = cap;
	m->used = live;
	return 0;
}

int map_put(struct map *m, uint64_t key, void *value)
{
	struct map_slot *s = find(m, key);

	if (s != NULL) {
		s->value = value;
		return 0;
	}
	if ((m->used + 1) * 3 > m->cap * 2 && rebuild(m) < 0)
		return -ENOMEM;
	insert(m->slots, m->cap, key, value);
	m->used++;
	return 0;
}

void *map_get(const struct map *m, uint64_t key)
{
	struct map_slot *s = key != 0 ? find(m, key) : NULL;

	return s != NULL ? s->value : NULL;
}

void map_del(struct map *m, uint64_t key)
{
	struct map_slot *s = find(m, key);

	if (s != NULL)
		s->value = NULL;
}
