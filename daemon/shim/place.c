/* place.c - see place.h */
#include "shim/place.h"

#include <stdlib.h>
#include <string.h>

#define RANK_MAX 16777215

/* Where one of these differs, a launcher has been at work. */
static const char *const marks[] = {
	"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "LOCAL_SIZE", "CROSS_RANK",
	"MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_RESTART_COUNT",
	"OMPI_COMM_WORLD_RANK", "PMI_RANK",
};
#define N_MARKS (sizeof marks / sizeof marks[0])

enum { M_RANK, M_LOCAL_RANK, M_WORLD_SIZE, M_ERROR_FILE = 9, M_ROUND };

static int mark_of(const char *var, size_t n)
{
	for (size_t i = 0; i < N_MARKS; i++) {
		size_t len = strlen(marks[i]);

		if (n > len && var[len] == '=' && memcmp(var, marks[i], len) == 0)
			return (int)i;
	}
	return -1;
}

static bool number(const char *s, size_t n, uint32_t *ret)
{
	uint32_t v = 0;

	if (n == 0 || n > 8)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (uint32_t)(s[i] - '0');
	}
	*ret = v;
	return v <= RANK_MAX;
}

/* FNV-1a; the sum does not depend on the order of the variables. */
static uint64_t hash(const char *s, size_t n)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)s[i]) * UINT64_C(1099511628211);
	return h;
}

void place_read(const char *env, size_t n, struct place *ret)
{
	bool rank = false, local = false, world = false;

	*ret = (struct place){ .valid = false };
	for (size_t at = 0, len; at < n; at += len + 1) {
		const char *var = env + at, *value;
		int m;

		len = strnlen(var, n - at);
		m = mark_of(var, len);
		if (m < 0)
			continue;
		ret->mark += hash(var, len);
		value = var + strlen(marks[m]) + 1;
		if (m == M_RANK)
			rank = number(value, len - (size_t)(value - var), &ret->rank);
		else if (m == M_LOCAL_RANK)
			local = number(value, len - (size_t)(value - var), &ret->local_rank);
		else if (m == M_WORLD_SIZE)
			world = number(value, len - (size_t)(value - var), &ret->world);
		else if (m == M_ROUND)
			number(value, len - (size_t)(value - var), &ret->round);
		else if (m == M_ERROR_FILE && at + len < n) /* whole */
			ret->error_file = value;
	}
	ret->valid = rank && local && world && ret->world > 0 && ret->rank < ret->world;
}
