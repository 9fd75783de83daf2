/* err.h - an error as a person reads it: a code for programs, a sentence for people
 *
 * Functions that can fail for a reason worth telling take a 'struct err *'
 * (may be NULL) and return a negative errno value. The sentence says what,
 * where and what to do, without a final newline.
 */
#ifndef NA_COMMON_ERR_H
#define NA_COMMON_ERR_H

#include <stdarg.h>

#define ERR_TEXT_MAX 768

struct err {
	int code; /* negative errno, 0 = no error */
	char text[ERR_TEXT_MAX];
};

/* Fills *e and returns -abs(code), so that `return err_set(e, EINVAL, ...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
