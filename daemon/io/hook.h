/* hook.h - the administrator's program that hears of events
 *
 * Run for each event, one at a time, as the coordinator's user and without a shell:
 * the event is a line of JSON on its standard input; its output goes to /dev/null, its
 * environment is PATH and nothing else. After HOOK_MS it is killed with its process
 * group; while one cannot be killed (state D), no other is run. At most HOOK_QUEUE events wait; more are dropped, counted and told. A thread
 * of its own does all of it: the loop never waits.
 */
#ifndef NA_IO_HOOK_H
#define NA_IO_HOOK_H

#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "common/err.h"

#define HOOK_MS 10000
#define HOOK_QUEUE 256

struct hook;

/* On the loop: it failed and did not before (a sentence), or works again (NULL). */
typedef void (*hook_told)(void *arg, const char *text);

/* path: absolute, copied. */
int hook_create(uv_loop_t *loop, const char *path, hook_told told, void *arg, struct hook **ret, struct err *e);
/* Copies the text. NULL: nothing happens. */
void hook_push(struct hook *h, const char *text, size_t len);
/* What runs is killed, and waited for no longer than 2.5 s, whatever it hangs in; frees from the handle's
 * close callback. NULL is fine. */
void hook_close(struct hook *h);
/* For tests: in place of HOOK_MS. */
void hook_limit(struct hook *h, int ms);

#endif
