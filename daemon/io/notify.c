/* notify.c - see notify.h */
#include "io/notify.h"

static void on_time(uv_timer_t *timer)
{
	struct notify_timer *t = timer->data;

	notify_send(t->to, t->ready ? "WATCHDOG=1" : "READY=1");
	t->ready = true;
}

void notify_start(struct notify_timer *t, uv_loop_t *loop, struct notify *to)
{
	t->to = to;
	t->ready = false;
	uv_timer_init(loop, &t->timer);
	t->timer.data = t;
	uv_timer_start(&t->timer, on_time, 0, to->watchdog_ms / 2);
	uv_unref((uv_handle_t *)&t->timer);
}
