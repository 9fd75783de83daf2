/* log.c - one line a message, on standard error
 *
 * A line leaves in one write(2) of at most LINE_MAX_BYTES (PIPE_BUF), so lines
 * of several processes on one pipe do not mix. Longer messages are cut.
 * Control characters (C0, DEL, C1) and bytes that are not UTF-8 are escaped.
 * Never fails visibly: when stderr is gone the line is gone. errno is kept.
 * A journal that does not take a datagram at once gets the line on stderr.
 */
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/utf8.h"

#define LINE_MAX_BYTES 4096

static const struct {
	const char *name;
	char priority; /* as in syslog(3) */
} levels[] = {
	[LOG_LVL_ERROR] = { "error", '3' },
	[LOG_LVL_WARN] = { "warn", '4' },
	[LOG_LVL_INFO] = { "info", '6' },
	[LOG_LVL_DEBUG] = { "debug", '7' },
};

static char log_who[96];
static enum log_level log_max = LOG_LVL_INFO;
static bool log_journal;
static char log_of_node[96]; /* "NODE=...\n" or empty */
static const char *log_socket = "/run/systemd/journal/socket";

/* JOURNAL_STREAM is DEVICE:INODE of the journal's stream. It is inherited, so
 * it proves nothing unless stderr is that very stream. */
static bool stderr_is_journal(void)
{
	const char *text = getenv("JOURNAL_STREAM");
	char ours[64];
	struct stat st;

	if (!text || fstat(STDERR_FILENO, &st))
		return false;
	snprintf(ours, sizeof(ours), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	return strcmp(text, ours) == 0;
}

void log_setup(const char *who, enum log_level max)
{
	snprintf(log_who, sizeof(log_who), "%s", who);
	log_max = max;
	log_journal = stderr_is_journal();
}

void log_node(const char *node)
{
	snprintf(log_of_node, sizeof(log_of_node), "NODE=%.80s\n", node);
}

void log_journal_at(const char *path)
{
	log_socket = path;
}

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	bool full;
};

/* Adds all n bytes or none; room for the cut mark and the newline is kept. */
static void line_add(struct line *l, const char *p, size_t n)
{
	if (l->full || n > sizeof(l->text) - 4 - l->len) {
		l->full = true;
		return;
	}
	memcpy(l->text + l->len, p, n);
	l->len += n;
}

static bool is_control(const char *p, size_t n)
{
	uint8_t c = (uint8_t)p[0];

	if (n == 2)
		return c == 0xC2 && (uint8_t)p[1] < 0xA0; /* C1 controls */
	return n == 1 && (c < 0x20 || c == 0x7F);
}

static void line_add_escaped(struct line *l, const char *p, size_t n)
{
	char hex[5];

	if (n == 1 && (*p == '\n' || *p == '\t')) {
		line_add(l, *p == '\n' ? "\\n" : "\\t", 2);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		snprintf(hex, sizeof(hex), "\\x%02x", (unsigned)(uint8_t)p[i]);
		line_add(l, hex, 4);
	}
}

static void line_add_text(struct line *l, const char *s)
{
	size_t left = strlen(s);

	while (left > 0 && !l->full) {
		size_t n = utf8_seq(s, left);

		if (n == 0 || is_control(s, n)) {
			n = n ? n : 1;
			line_add_escaped(l, s, n);
		} else {
			line_add(l, s, n);
		}
		s += n;
		left -= n;
	}
}

static void line_add_head(struct line *l, enum log_level lvl, bool native)
{
	char head[64];
	struct timespec now;
	struct tm tm;
	size_t n;

	if (native) {
		n = (size_t)snprintf(head, sizeof(head), "MESSAGE=");
	} else if (log_journal) {
		n = (size_t)snprintf(head, sizeof(head), "<%c>", levels[lvl].priority);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		localtime_r(&now.tv_sec, &tm);
		n = strftime(head, sizeof(head), "%Y-%m-%d %H:%M:%S", &tm);
		n += (size_t)snprintf(head + n, sizeof(head) - n, ".%03ld %-5s ",
				      now.tv_nsec / 1000000, levels[lvl].name);
	}
	line_add(l, head, n);
	if (log_who[0]) {
		line_add_text(l, log_who);
		line_add(l, ": ", 2);
	}
}

static void line_end(struct line *l)
{
	if (l->full) {
		memcpy(l->text + l->len, "...", 3);
		l->len += 3;
	}
	l->text[l->len++] = '\n';
}

/* The journal's native protocol: one datagram of NAME=VALUE lines. A message is
 * one line already, so its binary form is not needed. False: not taken. */
static bool line_send(const struct line *l, enum log_level lvl, const char *fields)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char rest[320];
	int fd, n = snprintf(rest, sizeof(rest), "PRIORITY=%c\nSYSLOG_IDENTIFIER=%.60s\n%s%s",
			     levels[lvl].priority, program_invocation_short_name, log_of_node, fields);
	struct iovec iov[] = { { (void *)(uintptr_t)l->text, l->len }, { rest, (size_t)n } };
	struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = iov,
			    .msg_iovlen = 2 };
	bool sent;

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", log_socket);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	sent = fd >= 0 && sendmsg(fd, &m, MSG_NOSIGNAL) >= 0;
	if (fd >= 0)
		close(fd);
	return sent;
}

static void line_write(const struct line *l)
{
	size_t done = 0;

	while (done < l->len) { /* almost always once */
		ssize_t n = write(STDERR_FILENO, l->text + done, l->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		done += (size_t)n;
	}
}

static void line_make(struct line *l, enum log_level lvl, const char *text, bool native)
{
	l->len = 0;
	l->full = false;
	line_add_head(l, lvl, native);
	line_add_text(l, text);
	line_end(l);
}

static void say(enum log_level lvl, const char *text, const char *fields)
{
	bool native = log_journal && (log_of_node[0] || fields[0]);
	struct line l;

	if (native)
		line_make(&l, lvl, text, true);
	if (native && line_send(&l, lvl, fields))
		return;
	line_make(&l, lvl, text, false);
	line_write(&l);
}

void log_line(enum log_level lvl, const char *fmt, ...)
{
	int saved = errno;
	char text[LINE_MAX_BYTES];
	va_list ap;

	if (lvl > log_max)
		return;

	va_start(ap, fmt);
	errno = saved; /* for %m */
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);

	say(lvl, text, "");
	errno = saved;
}

void log_job(enum log_level lvl, uint64_t job, uint32_t attempt, const char *fmt, ...)
{
	int saved = errno;
	char text[LINE_MAX_BYTES], fields[64];
	size_t n;
	va_list ap;

	if (lvl > log_max)
		return;

	snprintf(fields, sizeof(fields), "JOB=%" PRIu64 "\nATTEMPT=%" PRIu32 "\n", job, attempt);
	n = (size_t)snprintf(text, sizeof(text), "job %" PRIu64 ".%" PRIu32 ": ", job, attempt);
	va_start(ap, fmt);
	errno = saved; /* for %m */
	if (vsnprintf(text + n, sizeof(text) - n, fmt, ap) < 0)
		text[n] = '\0';
	va_end(ap);

	say(lvl, text, fields);
	errno = saved;
}
