/* writer.c - writes numbered 80-byte lines to standard output, or checks and counts them
 *
 *   writer MB [--block BYTES]   MB (10^6 bytes) of lines, so many bytes a write (80: one line a write)
 *   writer --drain              reads standard input to its end; prints the bytes
 *   writer --check              the same, and every line must be the next one, whole, after its label if it has one
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE 80
#define DIGITS 15

static const char pad[] = " the quick brown fox jumps over the lazy dog and on it goes to th";

static void make_line(char out[LINE], unsigned long i)
{
	for (int d = DIGITS - 1; d >= 0; d--, i /= 10)
		out[d] = (char)('0' + i % 10);
	memcpy(out + DIGITS, pad, LINE - DIGITS - 1);
	out[LINE - 1] = '\n';
}

static int put(const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(1, p, n);

		if (k < 0 && errno != EINTR)
			return -1;
		if (k > 0)
			p += k, n -= (size_t)k;
	}
	return 0;
}

static int produce(unsigned long mb, size_t block)
{
	size_t lines = block / LINE ? block / LINE : 1;
	char *b = malloc(lines * LINE);
	unsigned long total = mb * 1000000 / LINE;

	if (!b)
		return 1;
	for (unsigned long i = 0; i < total;) {
		size_t n = 0;

		for (; n < lines && i < total; n++, i++)
			make_line(b + n * LINE, i);
		if (put(b, n * LINE) < 0) {
			perror("writer");
			return 1;
		}
	}
	free(b);
	return 0;
}

/* The line without what the launcher put before it: "[node:rank] " or "[0] ". */
static const char *content(const char *line, size_t n)
{
	return n >= LINE ? line + n - LINE : line;
}

static int consume(bool check)
{
	enum { ROOM = 1 << 20 };
	char *b = malloc(ROOM), want[LINE];
	size_t have = 0;
	unsigned long bytes = 0, next = 0;
	ssize_t k;

	if (!b)
		return 1;
	while ((k = read(0, b + have, ROOM - have)) > 0) {
		bytes += (unsigned long)k;
		if (!check)
			continue;
		have += (size_t)k;
		char *at = b, *nl;

		while ((nl = memchr(at, '\n', have - (size_t)(at - b)))) {
			size_t n = (size_t)(nl - at) + 1;

			make_line(want, next);
			if (n < LINE || n > LINE + 64 || memcmp(content(at, n), want, LINE) != 0 ||
			    (n > LINE && at[0] != '[')) {
				fprintf(stderr, "line %lu is not what was written: %.*s\n", next, (int)n, at);
				return 1;
			}
			next++;
			at = nl + 1;
		}
		have -= (size_t)(at - b);
		memmove(b, at, have);
	}
	free(b);
	if (check && have) {
		fprintf(stderr, "%zu bytes after the last line\n", have);
		return 1;
	}
	printf("%lu %lu\n", bytes, next);
	return k < 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--drain") == 0)
		return consume(false);
	if (argc == 2 && strcmp(argv[1], "--check") == 0)
		return consume(true);
	if (argc != 2 && !(argc == 4 && strcmp(argv[2], "--block") == 0)) {
		fprintf(stderr, "usage: writer MB [--block BYTES] | --drain | --check\n");
		return 2;
	}
	return produce(strtoul(argv[1], NULL, 10), argc == 4 ? strtoul(argv[3], NULL, 10) : LINE);
}
