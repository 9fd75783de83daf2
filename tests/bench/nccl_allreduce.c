/* nccl_allreduce.c - all-reduces 128 MiB with the CUDA runtime and NCCL, as a job to launch
 *
 * Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. Rank 0
 * hands the NCCL id to the others over TCP at the master address. Rank 0
 * prints "FIRST <unix time>" after the first reduction, then the rate of the
 * best of some rounds; every number of the result is checked.
 *
 *   nccl_allreduce [ROUNDS [MIB]]        (20 rounds, 128 MiB)
 *
 * Built where CUDA and NCCL are, see gpu_two.sh; not part of `make`.
 */
#include <cuda_runtime.h>
#include <nccl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int rank, world;

#define CUDA(x)                                                                                    \
	do {                                                                                       \
		cudaError_t e_ = (x);                                                              \
		if (e_ != cudaSuccess)                                                             \
			die(#x, cudaGetErrorString(e_));                                           \
	} while (0)
#define NCCL(x)                                                                                    \
	do {                                                                                       \
		ncclResult_t e_ = (x);                                                             \
		if (e_ != ncclSuccess)                                                             \
			die(#x, ncclGetErrorString(e_));                                           \
	} while (0)

static void die(const char *what, const char *why)
{
	fprintf(stderr, "rank %d: %s: %s\n", rank, what, why);
	exit(1);
}

static int need(const char *name)
{
	const char *v = getenv(name);

	if (!v)
		die(name, "missing from the environment");
	return atoi(v);
}

static double now(clockid_t c)
{
	struct timespec t;

	clock_gettime(c, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void move(int fd, void *p, size_t n, int out)
{
	for (char *at = p; n;) {
		ssize_t k = out ? send(fd, at, n, MSG_NOSIGNAL) : recv(fd, at, n, 0);

		if (k <= 0)
			die("meeting", "a peer has gone");
		at += k;
		n -= (size_t)k;
	}
}

static void meet(ncclUniqueId *id)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *a;
	int one = 1, s = -1;

	if (world == 1)
		return;
	if (getaddrinfo(getenv("MASTER_ADDR"), getenv("MASTER_PORT"), &hints, &a) != 0)
		die("MASTER_ADDR", "cannot be resolved");
	if (rank == 0) {
		s = socket(a->ai_family, SOCK_STREAM, 0);
		setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (s < 0 || bind(s, a->ai_addr, a->ai_addrlen) < 0 || listen(s, world) < 0)
			die("MASTER_PORT", "cannot be listened on");
		for (int i = 1; i < world; i++) {
			int c = accept(s, NULL, NULL);

			move(c, id, sizeof(*id), 1);
			close(c);
		}
	} else {
		double end = now(CLOCK_MONOTONIC) + 60;

		for (;;) {
			s = socket(a->ai_family, SOCK_STREAM, 0);
			if (s >= 0 && connect(s, a->ai_addr, a->ai_addrlen) == 0)
				break;
			close(s);
			if (now(CLOCK_MONOTONIC) > end)
				die("meeting", "rank 0 does not answer");
			usleep(10000);
		}
		move(s, id, sizeof(*id), 0);
	}
	close(s);
	freeaddrinfo(a);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 20, devices = 0, version = 0;
	size_t n = (size_t)(argc > 2 ? atoi(argv[2]) : 128) << 18; /* floats */
	float *host = malloc(n * sizeof(*host)), *send_buf, *recv_buf;
	double best = 1e9;
	ncclUniqueId id;
	ncclComm_t comm;
	cudaStream_t stream;

	rank = need("RANK");
	world = need("WORLD_SIZE");
	CUDA(cudaGetDeviceCount(&devices));
	if (devices < 1 || !host)
		die("devices", "none");
	CUDA(cudaSetDevice(need("LOCAL_RANK") % devices));
	if (rank == 0)
		NCCL(ncclGetUniqueId(&id));
	meet(&id);
	NCCL(ncclCommInitRank(&comm, world, id, rank));
	CUDA(cudaStreamCreate(&stream));
	CUDA(cudaMalloc((void **)&send_buf, n * sizeof(float)));
	CUDA(cudaMalloc((void **)&recv_buf, n * sizeof(float)));
	for (size_t i = 0; i < n; i++)
		host[i] = (float)(rank + 1) * (float)(i % 1000);
	CUDA(cudaMemcpy(send_buf, host, n * sizeof(float), cudaMemcpyHostToDevice));
	for (int r = 0; r < rounds; r++) {
		double begin = now(CLOCK_MONOTONIC);

		NCCL(ncclAllReduce(send_buf, recv_buf, n, ncclFloat, ncclSum, comm, stream));
		CUDA(cudaStreamSynchronize(stream));
		double took = now(CLOCK_MONOTONIC) - begin;

		best = took < best ? took : best;
		if (r == 0 && rank == 0) {
			printf("FIRST %.3f\n", now(CLOCK_REALTIME));
			fflush(stdout);
		}
	}
	CUDA(cudaMemcpy(host, recv_buf, n * sizeof(float), cudaMemcpyDeviceToHost));
	for (size_t i = 0; i < n; i++) {
		float want = (float)(world * (world + 1) / 2) * (float)(i % 1000);

		if (host[i] != want)
			die("result", "a number is wrong");
	}
	NCCL(ncclGetVersion(&version));
	if (rank == 0)
		printf("DONE %zu MiB on %d ranks, NCCL %d: exact, best %.2f GB/s (bytes / time)\n", n >> 18, world, version,
		       (double)(n * sizeof(float)) / best / 1e9);
	NCCL(ncclCommDestroy(comm));
	return 0;
}
