/* fail_at.c - one rank notes the time and exits with a code, the others sleep
 *
 *   fail_at RANK CODE DELAY_MS FILE    FILE gets CLOCK_MONOTONIC in nanoseconds at the exit
 *
 * The rank's number is taken from the first of RANK, PMI_RANK, SLURM_PROCID,
 * OMPI_COMM_WORLD_RANK that is set.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int my_rank(void)
{
	static const char *const names[] = { "RANK", "PMI_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (getenv(names[i]))
			return atoi(getenv(names[i]));
	return -1;
}

int main(int argc, char **argv)
{
	struct timespec t;

	if (argc != 5) {
		fprintf(stderr, "usage: fail_at RANK CODE DELAY_MS FILE\n");
		return 2;
	}
	if (my_rank() != atoi(argv[1])) {
		sleep(60);
		return 0;
	}
	long ms = atol(argv[3]);

	t = (struct timespec){ ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&t, NULL);
	FILE *f = fopen(argv[4], "w");

	clock_gettime(CLOCK_MONOTONIC, &t);
	if (f) {
		fprintf(f, "%lld\n", (long long)t.tv_sec * 1000000000 + t.tv_nsec);
		fclose(f);
	}
	_exit(atoi(argv[2]));
}
