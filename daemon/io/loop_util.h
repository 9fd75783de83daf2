/* loop_util.h - what every role's loop needs: clocks, randomness, one deadline, its parent */
#ifndef NA_IO_LOOP_UTIL_H
#define NA_IO_LOOP_UTIL_H

#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "common/mono.h"

mono_t clock_mono(void);
int64_t clock_wall_ms(void);
int64_t clock_boot_ms(void); /* goes on while the machine is suspended */
int64_t clock_wall_us(void);
/* From getrandom; a kernel that cannot give any ends the process. */
void random_fill(void *p, size_t n);

/* uv_loop_init(), with a sentence in place of libuv's abort() when there are no descriptors for it. */
int loop_begin(uv_loop_t *loop, struct err *e);

/* The one timer of a pure core. */
struct deadline_timer {
	uv_timer_t timer;
	mono_t armed;
	void (*due)(void *arg);
	void *arg;
};
void deadline_init(uv_loop_t *loop, struct deadline_timer *d, void (*due)(void *arg), void *arg);
/* Does nothing when 'when' is what it is armed for already. */
void deadline_arm(struct deadline_timer *d, mono_t when);

/* End of file on fd (the supervisor died) ends the process at once. fd -1: nothing. */
void parent_watch(uv_loop_t *loop, uv_poll_t *poll, int fd);
/* Writes the line to fd and closes it. fd -1: nothing. */
void ready_tell(int fd, const char *line);
/* The owner of a loop has closed its own handles; links may still be saying
 * their last words. Runs the loop until nothing is left, at most limit_ms. */
void loop_finish(uv_loop_t *loop, unsigned limit_ms);
/* Waits until all that was queued for libuv's threads is done, at most limit_ms: a file server may never
 * answer. False: something is not. The loop does not run meanwhile, and what follows the work does not. */
bool pool_settle(uv_loop_t *loop, unsigned limit_ms);
/* glibc's malloc: one arena, fixed thresholds. Before the first thread. */
void memory_frugal(void);

#endif
