/* beside.c - see beside.h */
#include "shim/beside.h"

#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STACK_SIZE (256u << 10)

bool beside_open(struct beside *b)
{
	b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->fd < 0)
		return false;
	pthread_mutex_init(&b->lock, NULL);
	b->users = 1;
	return true;
}

void beside_hold(struct beside *b)
{
	pthread_mutex_lock(&b->lock);
	b->users++;
	pthread_mutex_unlock(&b->lock);
}

bool beside_let_go(struct beside *b)
{
	bool last;

	pthread_mutex_lock(&b->lock);
	last = --b->users == 0;
	pthread_mutex_unlock(&b->lock);
	if (!last)
		return false;
	close(b->fd);
	pthread_mutex_destroy(&b->lock);
	return true;
}

void beside_ring(struct beside *b)
{
	uint64_t one = 1;
	ssize_t n = write(b->fd, &one, sizeof one);

	(void)n;
}

void beside_heard(struct beside *b)
{
	uint64_t count;
	ssize_t n = read(b->fd, &count, sizeof count);

	(void)n;
}

bool beside_start(void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	if (pthread_attr_init(&attr) != 0)
		return false;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	rc = pthread_create(&thread, &attr, run, arg);
	pthread_attr_destroy(&attr);
	return rc == 0;
}
