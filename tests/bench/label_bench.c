/* label_bench.c - MB/s of nodectl's output path: label and write, nothing else
 *
 *   label_bench [MB]     80-byte lines in 64 KiB pieces of one rank, to
 *                        /dev/null and into a pipe that a child empties
 *
 * "buffer" is what nodectl does: labels and lines copied into one buffer that
 * is written at 256 KiB. "writev" is the way not taken, for comparison: vectors
 * that point into the received frame. Includes the sources it measures, so that
 * it needs no library. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/label.c"
#include "common/buf.c"

#define PIECE 65536
#define LINE 80
#define FLUSH (256u << 10)
#define VECTORS 1024

static char piece[LINE][PIECE]; /* LINE pieces in a row end at a line's end */
static struct label_out out;
static struct label_stream stream;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0)
			exit(1);
		p += w;
		n -= (size_t)w;
	}
}

static void buffered(int fd, const char *p)
{
	label_feed(&out, &stream, p, PIECE);
	if (out.buf.len >= FLUSH) {
		write_all(fd, out.buf.data, out.buf.len);
		buf_reset(&out.buf);
	}
}

static void passed(int fd, const char *p)
{
	label_passed(&out, &stream, p, PIECE);
	write_all(fd, p, PIECE);
}

static void vectored(int fd, const char *p)
{
	const char *end = p + PIECE;
	struct iovec v[VECTORS];
	int n = 0;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl + 1 : end;

		v[n++] = (struct iovec){ stream.label, stream.label_len };
		v[n++] = (struct iovec){ (char *)p, (size_t)(stop - p) };
		p = stop;
		if (n == VECTORS || p == end) {
			if (writev(fd, v, n) < 0) /* /dev/null and this pipe's reader take all */
				exit(1);
			n = 0;
		}
	}
}

/* A pipe and a child that reads it. */
static int reader(pid_t *pid)
{
	static char sink[1 << 20];
	int fds[2];

	if (pipe(fds) < 0)
		exit(1);
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	*pid = fork();
	if (*pid == 0) {
		close(fds[1]);
		while (read(fds[0], sink, sizeof(sink)) > 0)
			;
		_exit(0);
	}
	close(fds[0]);
	return fds[1];
}

static double measure(void (*f)(int, const char *), int fd, size_t mb)
{
	size_t pieces = mb * 1048576 / PIECE;
	double start = now(), took;

	for (size_t i = 0; i < pieces; i++)
		f(fd, piece[i % LINE]);
	write_all(fd, out.buf.data, out.buf.len);
	buf_reset(&out.buf);
	took = now() - start;
	return (double)pieces * PIECE / 1e6 / took;
}

static void run(const char *what, void (*f)(int, const char *), size_t mb)
{
	double best[2] = { 0, 0 };

	for (int round = 0; round < 3; round++)
		for (int to = 0; to < 2; to++) {
			pid_t pid = 0;
			int fd = to ? reader(&pid) : open("/dev/null", O_WRONLY);
			double rate = measure(f, fd, mb);

			close(fd);
			if (pid)
				waitpid(pid, NULL, 0);
			if (rate > best[to])
				best[to] = rate;
		}
	printf("%-22s %8.0f %8.0f\n", what, best[0], best[1]);
}

int main(int argc, char **argv)
{
	size_t mb = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;

	memset(piece, 'x', sizeof(piece));
	for (size_t i = LINE - 1; i < sizeof(piece); i += LINE)
		((char *)piece)[i] = '\n';
	label_out_init(&out, false);
	label_stream_init(&stream, "[gpu01:11] ");
	printf("%-22s %8s %8s   (MB/s of ranks' output, best of 3)\n", "", "null", "pipe");
	run("labelled, buffer", buffered, mb);
	run("labelled, writev", vectored, mb);
	run("passed through", passed, mb);
	label_stream_init(&stream, NULL);
	run("no label, many ranks", buffered, mb);
	return 0;
}
