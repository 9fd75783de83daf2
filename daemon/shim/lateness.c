#include "shim/lateness.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define LOOK_EVERY_NS 1000000

/* "RAN_NS WAITED_NS TIMES": Documentation/scheduler/sched-stats.rst of the kernel */
static uint64_t busy_ns(const struct lateness *l)
{
	unsigned long long ran, waited;
	char text[96];
	ssize_t n = pread(l->fd, text, sizeof text - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return sscanf(text, "%llu %llu", &ran, &waited) == 2 ? ran + waited : 0;
}

void lateness_open(struct lateness *l)
{
	l->fd = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
	l->at = (mono_t){ 0 };
	l->busy_ns[0] = l->busy_ns[1] = l->fd >= 0 ? busy_ns(l) : 0;
}

void lateness_close(struct lateness *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}

void lateness_mark(struct lateness *l, mono_t now)
{
	if (l->fd < 0 || now.ns - l->at.ns < LOOK_EVERY_NS)
		return;
	l->at = now;
	l->busy_ns[1] = l->busy_ns[0];
	l->busy_ns[0] = busy_ns(l);
}

uint64_t lateness_us(const struct lateness *l)
{
	uint64_t now = l->fd >= 0 ? busy_ns(l) : 0, us = now > l->busy_ns[1] ? (now - l->busy_ns[1]) / 1000 : 0;

	return us > LATENESS_LEAST_US ? us : LATENESS_LEAST_US;
}
