/* last_words.h - what a rank's end tells where no exception does, and what is to be done about it
 *
 * Pure. Texts are for ever unless a buffer is given.
 */
#ifndef NA_CORE_LAST_WORDS_H
#define NA_CORE_LAST_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/buf.h"

/* "SIGSEGV" of signals that a process brings upon itself; NULL of others. */
const char *last_words_signal(uint32_t sig);
/* What a shell means by an exit code: "as a shell says when its program was killed by signal 9 (SIGKILL)". False: nothing. */
bool last_words_code(uint32_t code, char *out, size_t size);
/* Does an exception tell of a peer that is gone or did not come? Then another one is the cause. */
bool last_words_of_peer(const char *text);
/* What is to be done about an end or a trouble in whose words something well known stands, on this node; NULL: it is not known. */
const char *last_words_fix(struct arena *a, const char *text, const char *node);

#endif
