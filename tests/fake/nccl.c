/* nccl.c - an NCCL that is none: ranks exchange data through files both map
 *
 * For tests of nodeagent-nccl where there is no GPU; goes with tests/fake/cudart.c,
 * which asks fake_nccl_busy() how far things are.
 *   FAKE_NCCL_DIR      a folder that all ranks see (needed)
 *   FAKE_NCCL_VERSION  what ncclGetVersion says (22809)
 *   FAKE_NCCL_MS       how long an operation takes this rank, in the time that is told (1);
 *                      an operation takes as long as its slowest rank; real time does not matter
 *   FAKE_NCCL_FAULT    "KIND OP": this rank, in that operation ("join": the communicator):
 *                      withhold (never takes part), corrupt (one number), fail, stop (SIGSTOP), exit
 *   FAKE_NCCL_FAULT_RANK  only in this rank (by RANK)
 *   FAKE_NCCL_MS_RANK, FAKE_NCCL_VERSION_RANK  "RANK:VALUE": for this rank alone
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "nccl/abi.h"

#define RANKS_MAX 64
#define SLOT ((size_t)8 << 20)
#define QUEUE_MAX 64 /* more than are asked for without looking */
#define EXPORT __attribute__((visibility("default")))
#define FAKE(name, params) EXPORT nccl_ret name params; EXPORT nccl_ret name params

enum kind { BROADCAST, REDUCE, ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, P2P };
static const char *const kind_names[] = { "broadcast", "reduce", "all_reduce", "all_gather", "reduce_scatter", "p2p" };

struct shared {
	atomic_uint joined;
	atomic_uint posted[RANKS_MAX], taken[RANKS_MAX]; /* operations */
	double ms[RANKS_MAX]; /* of this operation */
};

struct op {
	enum kind kind;
	const float *from;
	float *to;
	size_t n;
	struct {
		float *to;
		size_t n;
		int peer;
	} recv[RANKS_MAX];
	int n_recv, peer;
	bool posted;
};

struct nccl_comm {
	int n, rank;
	struct shared *shared;
	float *slots[RANKS_MAX];
	struct op queue[QUEUE_MAX];
	int head, len;
	unsigned seq; /* operations over */
	nccl_ret error;
	bool joined;
};

static struct nccl_comm *now; /* one at a time is enough */
static struct op group;
static int grouping;
#define HISTORY 65536
static double ms_after[HISTORY]; /* of so many operations, in the time that is told */
static unsigned asked, done; /* operations of this process */

EXPORT int fake_nccl_busy(void);
EXPORT double fake_nccl_ms(unsigned ops);
EXPORT unsigned fake_nccl_asked(void);

static bool is_rank(const char *text)
{
	const char *rank = getenv("RANK");

	return rank && atoi(text) == atoi(rank);
}

/* A setting of all ranks, or of this one. */
static const char *setting(const char *name, const char *usual)
{
	char own[64];
	const char *v;

	snprintf(own, sizeof own, "%s_RANK", name);
	v = getenv(own);
	if (v && strchr(v, ':') && is_rank(v))
		return strchr(v, ':') + 1;
	v = getenv(name);
	return v ? v : usual;
}

/* Is this fault mine, here? */
static bool fault(const char *kind, const char *where)
{
	const char *v = getenv("FAKE_NCCL_FAULT");
	char both[80];

	if (getenv("FAKE_NCCL_FAULT_RANK") && !is_rank(getenv("FAKE_NCCL_FAULT_RANK")))
		return false;
	snprintf(both, sizeof both, "%s %s", kind, where);
	return v && strcmp(v, both) == 0;
}

FAKE(ncclGetVersion, (int *version))
{
	*version = atoi(setting("FAKE_NCCL_VERSION", "22809"));
	return NCCL_OK;
}

FAKE(ncclGetUniqueId, (struct nccl_id *id))
{
	return getrandom(id, sizeof *id, 0) == sizeof *id ? NCCL_OK : 2;
}

/* Into a log of NCCL's, where one is asked for. */
static void say(const char *text)
{
	const char *path = getenv("NCCL_DEBUG_FILE");
	FILE *f = path ? fopen(path, "a") : NULL;

	if (!f)
		return;
	fprintf(f, "fake:%d:%d [0] NCCL INFO %s\n", (int)getpid(), (int)getpid(), text);
	fclose(f);
}

static bool map(struct nccl_comm *c, const struct nccl_id *id)
{
	size_t size = sizeof(struct shared) + (size_t)c->n * SLOT;
	char path[512];
	char *p;
	int fd;

	snprintf(path, sizeof path, "%s/comm-%02x%02x%02x%02x%02x%02x", getenv("FAKE_NCCL_DIR"), id->bytes[0] & 0xff,
		 id->bytes[1] & 0xff, id->bytes[2] & 0xff, id->bytes[3] & 0xff, id->bytes[4] & 0xff, id->bytes[5] & 0xff);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return false;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return false;
	c->shared = (struct shared *)p;
	for (int i = 0; i < c->n; i++)
		c->slots[i] = (float *)(p + sizeof(struct shared) + (size_t)i * SLOT);
	return true;
}

FAKE(ncclCommInitRank, (nccl_comm * ret, int n, struct nccl_id id, int rank))
{
	struct nccl_comm *c = calloc(1, sizeof *c);

	if (!c || n > RANKS_MAX || !getenv("FAKE_NCCL_DIR"))
		return 2;
	c->n = n;
	c->rank = rank;
	if (fault("fail", "join")) {
		free(c);
		return 2;
	}
	if (fault("stop", "join"))
		raise(SIGSTOP);
	if (!map(c, &id))
		return 2;
	if (!fault("withhold", "join"))
		atomic_fetch_add(&c->shared->joined, 1);
	say("NCCL version 2.28.9+fake");
	say("Using network Socket");
	say("Channel 00/0 : 0[0] -> 1[0] via SHM/direct/direct");
	now = c;
	*ret = c;
	return NCCL_OK;
}

FAKE(ncclCommInitRankConfig, (nccl_comm * ret, int n, struct nccl_id id, int rank, struct nccl_config *config))
{
	nccl_ret r;

	if (config->magic != NCCL_CONFIG_MAGIC || config->size != sizeof *config)
		return 4;
	r = ncclCommInitRank(ret, n, id, rank);
	return r == NCCL_OK && !config->blocking ? NCCL_IN_PROGRESS : r;
}

FAKE(ncclCommGetAsyncError, (nccl_comm c, nccl_ret *ret))
{
	*ret = c->error;
	if (c->error == NCCL_OK && (int)atomic_load(&c->shared->joined) < c->n)
		*ret = NCCL_IN_PROGRESS;
	return NCCL_OK;
}

FAKE(ncclCommAbort, (nccl_comm c))
{
	asked = done; /* what waits will never be */
	munmap(c->shared, sizeof(struct shared) + (size_t)c->n * SLOT);
	now = now == c ? NULL : now;
	free(c);
	return NCCL_OK;
}

FAKE(ncclCommDestroy, (nccl_comm c))
{
	return ncclCommAbort(c);
}

/* ---- operations ------------------------------------------------------------------ */

static nccl_ret enqueue(struct nccl_comm *c, struct op op)
{
	if (fault("fail", kind_names[op.kind]))
		return 3;
	if (fault("stop", kind_names[op.kind]))
		raise(SIGSTOP);
	if (fault("exit", kind_names[op.kind]))
		_exit(9);
	if (c->len == QUEUE_MAX)
		return 3;
	c->queue[(c->head + c->len++) % QUEUE_MAX] = op;
	asked++;
	return NCCL_OK;
}

FAKE(ncclBroadcast, (const void *from, void *to, size_t n, int type, int root, nccl_comm c, cuda_stream s))
{
	(void)type, (void)root, (void)s;
	return enqueue(c, (struct op){ .kind = BROADCAST, .from = from, .to = to, .n = n });
}

FAKE(ncclReduce, (const void *from, void *to, size_t n, int type, int op, int root, nccl_comm c, cuda_stream s))
{
	(void)type, (void)root, (void)s, (void)op;
	return enqueue(c, (struct op){ .kind = REDUCE, .from = from, .to = to, .n = n });
}

FAKE(ncclAllReduce, (const void *from, void *to, size_t n, int type, int op, nccl_comm c, cuda_stream s))
{
	(void)type, (void)s, (void)op;
	return enqueue(c, (struct op){ .kind = ALL_REDUCE, .from = from, .to = to, .n = n });
}

FAKE(ncclAllGather, (const void *from, void *to, size_t n, int type, nccl_comm c, cuda_stream s))
{
	(void)type, (void)s;
	return enqueue(c, (struct op){ .kind = ALL_GATHER, .from = from, .to = to, .n = n });
}

FAKE(ncclReduceScatter, (const void *from, void *to, size_t n, int type, int op, nccl_comm c, cuda_stream s))
{
	(void)type, (void)s, (void)op;
	return enqueue(c, (struct op){ .kind = REDUCE_SCATTER, .from = from, .to = to, .n = n });
}

FAKE(ncclGroupStart, (void))
{
	group = (struct op){ .kind = P2P };
	grouping = 1;
	return NCCL_OK;
}

FAKE(ncclSend, (const void *from, size_t n, int type, int peer, nccl_comm c, cuda_stream s))
{
	(void)type, (void)s, (void)c;
	group.from = from;
	group.n = n;
	group.peer = peer;
	return NCCL_OK;
}

FAKE(ncclRecv, (void *to, size_t n, int type, int peer, nccl_comm c, cuda_stream s))
{
	(void)type, (void)s, (void)c;
	group.recv[group.n_recv].to = to;
	group.recv[group.n_recv].n = n;
	group.recv[group.n_recv++].peer = peer;
	return NCCL_OK;
}

FAKE(ncclGroupEnd, (void))
{
	grouping = 0;
	return now ? enqueue(now, group) : 3;
}

static void add_all(const struct nccl_comm *c, float *to, size_t first, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		to[i] = 0;
		for (int r = 0; r < c->n; r++)
			to[i] += c->slots[r][first + i];
	}
}

static void compute(const struct nccl_comm *c, const struct op *op)
{
	switch (op->kind) {
	case BROADCAST:
		memcpy(op->to, c->slots[0], op->n * sizeof(float));
		break;
	case REDUCE:
		if (c->rank == 0)
			add_all(c, op->to, 0, op->n);
		break;
	case ALL_REDUCE:
		add_all(c, op->to, 0, op->n);
		break;
	case ALL_GATHER:
		for (int r = 0; r < c->n; r++)
			memcpy(op->to + (size_t)r * op->n, c->slots[r], op->n * sizeof(float));
		break;
	case REDUCE_SCATTER:
		add_all(c, op->to, (size_t)c->rank * op->n, op->n);
		break;
	case P2P:
		for (int i = 0; i < op->n_recv; i++)
			memcpy(op->recv[i].to, c->slots[op->recv[i].peer], op->recv[i].n * sizeof(float));
		break;
	}
	if (fault("corrupt", kind_names[op->kind]) && op->to)
		op->to[op->n / 2] += 1;
}

static bool all(const struct nccl_comm *c, const atomic_uint *v, unsigned least)
{
	for (int r = 0; r < c->n; r++)
		if (atomic_load(&v[r]) < least)
			return false;
	return true;
}

static void post(struct nccl_comm *c, struct op *op)
{
	size_t n = op->kind == REDUCE_SCATTER ? op->n * (size_t)c->n : op->n;

	if (fault("withhold", kind_names[op->kind]))
		return;
	memcpy(c->slots[c->rank], op->from, n * sizeof(float));
	c->shared->ms[c->rank] = atof(setting("FAKE_NCCL_MS", "1"));
	atomic_store(&c->shared->posted[c->rank], c->seq + 1);
	op->posted = true;
}

static void take(struct nccl_comm *c, const struct op *op)
{
	double slowest = 0;

	for (int r = 0; r < c->n; r++)
		slowest = c->shared->ms[r] > slowest ? c->shared->ms[r] : slowest;
	ms_after[(done + 1) % HISTORY] = ms_after[done % HISTORY] + slowest;
	done++;
	compute(c, op);
	c->seq++;
	atomic_store(&c->shared->taken[c->rank], c->seq);
	c->head = (c->head + 1) % QUEUE_MAX;
	c->len--;
}

/* Goes on as far as the others have come. */
int fake_nccl_busy(void)
{
	struct nccl_comm *c = now;

	while (c && c->len > 0) {
		struct op *op = &c->queue[c->head];

		if (!op->posted && all(c, c->shared->taken, c->seq))
			post(c, op);
		if (!op->posted || !all(c, c->shared->posted, c->seq + 1))
			return 1;
		take(c, op);
	}
	return 0;
}

double fake_nccl_ms(unsigned ops)
{
	return ms_after[ops % HISTORY];
}

unsigned fake_nccl_asked(void)
{
	return asked;
}

EXPORT const char *ncclGetErrorString(nccl_ret r);
EXPORT const char *ncclGetErrorString(nccl_ret r)
{
	return r == NCCL_OK ? "no error" : "internal error";
}

EXPORT const char *ncclGetLastError(nccl_comm c);
EXPORT const char *ncclGetLastError(nccl_comm c)
{
	(void)c;
	return "a made error";
}
