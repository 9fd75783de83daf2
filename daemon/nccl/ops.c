/* ops.c - see ops.h */
#include "nccl/ops.h"

#include <stdbool.h>
#include <string.h>

static const char *const names[OP_N] = { "broadcast", "reduce", "all_reduce", "all_gather",
					 "reduce_scatter", "gather", "send_recv" };

const char *op_name(enum op op)
{
	return (unsigned)op < OP_N ? names[op] : "?";
}

enum op op_named(const char *name)
{
	for (int i = 0; i < OP_N; i++)
		if (strcmp(name, names[i]) == 0)
			return (enum op)i;
	return OP_N;
}

struct op_size op_size(enum op op, uint32_t n, size_t bytes)
{
	bool parts = op == OP_ALL_GATHER || op == OP_REDUCE_SCATTER || op == OP_GATHER;
	size_t count = bytes / sizeof(float) / (parts ? n : 1);
	struct op_size s;

	if (count == 0)
		count = 1;
	s = (struct op_size){ .send = count, .recv = count, .count = count, .bytes = count * sizeof(float) };
	if (parts)
		s.bytes *= n;
	if (op == OP_ALL_GATHER || op == OP_GATHER)
		s.recv = count * n;
	if (op == OP_REDUCE_SCATTER)
		s.send = count * n;
	return s;
}

double op_bus_factor(enum op op, uint32_t n)
{
	switch (op) {
	case OP_ALL_REDUCE:
		return 2.0 * (n - 1) / n;
	case OP_ALL_GATHER:
	case OP_REDUCE_SCATTER:
	case OP_GATHER:
		return (n - 1.0) / n;
	default:
		return 1;
	}
}

/* 1 to 31, not periodic: a block that lands elsewhere is seen. Mixing as in splitmix64. */
static uint32_t base(size_t i)
{
	uint64_t x = (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 32)) * UINT64_C(0xbf58476d1ce4e5b9);
	return 1 + (uint32_t)(x >> 40) % 31;
}

/* 1 to 64: whose data it is. */
static uint32_t weight(uint32_t rank)
{
	return 1 + rank % 64;
}

static uint32_t weight_of_all(uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t r = 0; r < n; r++)
		sum += weight(r);
	return sum;
}

void op_fill(uint32_t rank, float *send, size_t count)
{
	for (size_t i = 0; i < count; i++)
		send[i] = (float)(base(i) * weight(rank));
}

/* What 'count' floats must be: base from 'first' on, times w. */
static size_t compare(const float *is, size_t count, size_t first, uint32_t w, size_t *ret_first)
{
	size_t wrong = 0;

	for (size_t i = 0; i < count; i++)
		if (is[i] != (float)(base(first + i) * w) && wrong++ == 0)
			*ret_first = i;
	return wrong;
}

/* One part of each rank, one after the other. */
static size_t compare_parts(uint32_t n, const float *is, size_t count, size_t *ret_first)
{
	size_t wrong = 0, first = 0;

	for (uint32_t r = 0; r < n; r++) {
		size_t w = compare(is + r * count, count, 0, weight(r), &first);

		if (wrong == 0 && w > 0)
			*ret_first = r * count + first;
		wrong += w;
	}
	return wrong;
}

size_t op_wrong(enum op op, uint32_t n, uint32_t rank, const float *recv, size_t count, size_t *ret_first)
{
	switch (op) {
	case OP_BROADCAST:
		return compare(recv, count, 0, weight(0), ret_first);
	case OP_REDUCE:
		return rank == 0 ? compare(recv, count, 0, weight_of_all(n), ret_first) : 0;
	case OP_ALL_REDUCE:
		return compare(recv, count, 0, weight_of_all(n), ret_first);
	case OP_REDUCE_SCATTER:
		return compare(recv, count, rank * count, weight_of_all(n), ret_first);
	case OP_ALL_GATHER:
		return compare_parts(n, recv, count, ret_first);
	case OP_GATHER:
		return rank == 0 ? compare_parts(n, recv, count, ret_first) : 0;
	case OP_SEND_RECV: /* each to the next one */
		return compare(recv, count, 0, weight((rank + n - 1) % n), ret_first);
	default:
		return 0;
	}
}
