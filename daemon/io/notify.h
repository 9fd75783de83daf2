/* notify.h - READY=1 and WATCHDOG=1 from a role's loop */
#ifndef NA_IO_NOTIFY_H
#define NA_IO_NOTIFY_H

#include <stdbool.h>

#include <uv.h>

#include "common/notify.h"

struct notify_timer {
	struct notify *to;
	uv_timer_t timer;
	bool ready;
};

/* READY=1 from the loop's first turn, and WATCHDOG=1 at half of the time after
 * which systemd loses patience: both prove that the loop turns. No more is asked
 * of it: a disk or a name service that hangs the thread pool would hang the
 * next life of the process as well. */
void notify_start(struct notify_timer *t, uv_loop_t *loop, struct notify *to);

#endif
