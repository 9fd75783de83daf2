/* hw.c - small things that all sources need: texts, time, sleep */
#include "hw/hw.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/utf8.h"

void hw_say(struct hw_source *s, const char *name, bool ok, const char *fmt, ...)
{
	va_list ap;

	hw_copy(s->name, sizeof s->name, name);
	s->ok = ok;
	s->text[0] = '\0';
	if (!fmt)
		return;
	va_start(ap, fmt);
	vsnprintf(s->text, sizeof s->text, fmt, ap);
	va_end(ap);
	utf8_scrub(s->text);
}

void hw_copy(char *out, size_t size, const char *text)
{
	snprintf(out, size, "%s", text);
	utf8_scrub(out);
}

void hw_remark(char *text, size_t size, const char *fmt, ...)
{
	size_t n = strlen(text);
	va_list ap;

	if (n > 0)
		n += (size_t)snprintf(text + n, size - n, "; ");
	if (n >= size)
		return;
	va_start(ap, fmt);
	vsnprintf(text + n, size - n, fmt, ap);
	va_end(ap);
	utf8_scrub(text);
}

void hw_sleep(int wake_fd, int timeout_ms)
{
	struct pollfd p = { .fd = wake_fd, .events = POLLIN };

	poll(&p, 1, timeout_ms);
}

mono_t hw_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_t){ (int64_t)t.tv_sec * 1000000000 + t.tv_nsec };
}

int64_t hw_wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
