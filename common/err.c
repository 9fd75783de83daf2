/* err.c - fills in an error
 *
 * The text may be built from the error's own old text ("file: %s"), so it is
 * formatted aside first. A text that is too long is cut, never inside a
 * UTF-8 sequence.
 */
#include "common/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

int err_set(struct err *e, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;
	int n;

	code = -abs(code);
	if (!e)
		return code;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		text[0] = '\0';
	else if ((size_t)n >= sizeof(text))
		text[utf8_cut(text, sizeof(text) - 1)] = '\0';

	e->code = code;
	memcpy(e->text, text, strlen(text) + 1);
	return code;
}
