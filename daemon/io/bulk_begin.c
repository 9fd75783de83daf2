/* bulk_begin.c - see bulk_begin.h */
#include "io/bulk_begin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK (64u << 10)
#define BACK_MAX (16u << 20)

uint64_t begin_of_data(int file, uint64_t offset, uint64_t size)
{
	off_t at;

	if (offset >= size)
		return offset;
	at = lseek(file, (off_t)offset, SEEK_DATA);
	if (at < 0)
		return errno == ENXIO ? size : offset;
	return (uint64_t)at > offset ? (uint64_t)at : offset;
}

/* All of it, or what came before the end or an error. */
static size_t read_at(int file, char *p, size_t n, uint64_t offset)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = pread(file, p + got, n - got, (off_t)(offset + got));

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		got += (size_t)r;
	}
	return got;
}

uint64_t begin_of_tail(int file, uint64_t size, uint32_t lines)
{
	uint64_t first = begin_of_data(file, 0, size), end = size;
	uint32_t seen = 0;
	char block[BLOCK];

	if (size - first > BACK_MAX)
		first = size - BACK_MAX;
	while (end > first) {
		size_t n = end - first < BLOCK ? (size_t)(end - first) : BLOCK;
		uint64_t at = end - n;

		if (read_at(file, block, n, at) != n)
			return end; /* it has shrunk: its owner can do that */
		for (size_t i = n; i-- > 0;)
			if (block[i] == '\n' && at + i + 1 < size && ++seen == lines)
				return at + i + 1;
		end = at;
	}
	return first;
}

/* True: a line was there, whole. */
static bool one_stamp(const char *line, int64_t *ms, uint32_t *rank, uint32_t *fd, uint64_t *offset)
{
	return sscanf(line, "%" SCNd64 " %" SCNu32 " %" SCNu32 " %" SCNu64, ms, rank, fd, offset) == 4; /* NOLINT(cert-err34-c) */
}

void begin_since(int stamps, int64_t wall_ms,
		 void (*f)(void *arg, uint32_t rank, uint32_t fd, uint64_t offset), void *arg)
{
	char block[BLOCK + 1];
	size_t held = 0, got;
	struct stat st;
	uint64_t at;

	if (fstat(stamps, &st) != 0)
		return;
	at = begin_of_data(stamps, 0, (uint64_t)st.st_size);
	while ((got = read_at(stamps, block + held, BLOCK - held, at)) > 0) {
		char *line = block, *nl;
		uint32_t rank, fd;
		uint64_t offset;
		int64_t ms;

		at += got;
		held += got;
		block[held] = '\0'; /* what is no text ends a line, which is then none */
		while ((nl = memchr(line, '\n', held - (size_t)(line - block))) != NULL) {
			*nl = '\0';
			if (one_stamp(line, &ms, &rank, &fd, &offset) && ms >= wall_ms)
				f(arg, rank, fd, offset);
			line = nl + 1;
		}
		held -= (size_t)(line - block);
		if (held == BLOCK)
			held = 0; /* no stamp is so long */
		memmove(block, line, held);
	}
}
