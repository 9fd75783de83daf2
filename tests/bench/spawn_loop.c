/* spawn_loop.c - the limit for every launcher: posix_spawn COMMAND N times, then wait for all
 *
 *   spawn_loop N COMMAND [ARG...]
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[1]) : 0, bad = 0, status;
	pid_t pid;

	if (n < 1) {
		fprintf(stderr, "usage: spawn_loop N COMMAND [ARG...]\n");
		return 2;
	}
	for (int i = 0; i < n; i++) {
		int e = posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ);

		if (e != 0) {
			fprintf(stderr, "spawn_loop: %s: %s\n", argv[2], strerror(e));
			return 1;
		}
	}
	while (wait(&status) > 0)
		bad |= status != 0;
	return bad;
}
