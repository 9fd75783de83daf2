/* fuzz_nccl_ras.c - any bytes as a reply of NCCL's RAS */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/nccl_ras.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nccl_ras r = { .n_comms = 0 };
	struct ras_behind b;

	if (nccl_ras_parse((const char *)data, size, &r, NULL) < 0) {
		assert(!r.comms && !r.n_comms);
		return 0;
	}
	if (nccl_ras_behind(&r, &b))
		assert(b.count < b.most && b.n_behind > 0 && b.n_behind < b.comm->n_ranks && !b.rank->missing);
	for (size_t i = 0; i < r.n_comms; i++)
		for (size_t k = 1; k < r.comms[i].n_ranks; k++)
			assert(r.comms[i].ranks[k - 1].rank <= r.comms[i].ranks[k].rank);
	nccl_ras_finish(&r);
	return 0;
}
