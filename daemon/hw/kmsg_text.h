/* kmsg_text.h - which lines of the kernel's log may say why a process ended */
#ifndef NA_HW_KMSG_TEXT_H
#define NA_HW_KMSG_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hw/hw.h"

/* What one line says ("complaint": the driver's, of being asked; it ends no process); texts are UTF-8 without control characters, cut to fit.
 * False: nothing of interest. 'line' need not be terminated and may hold any
 * bytes. With *ret_at_us the time since boot that the line bears, 0 if none. */
bool kmsg_parse(const char *line, size_t len, struct hw_event *ret, int64_t *ret_at_us);
/* What the text of a line, without its head, tells of broken hardware or a stuck host. */
bool kmsg_fault(const char *text, struct hw_event *ret);
/* One alone is harmless: such are told when there are many. */
bool kmsg_is_storm(const char *kind);

#endif
