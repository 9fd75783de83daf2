/* last_line.c - see last_line.h */
#include "common/last_line.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/traceback_line.h"
#include "common/utf8.h"

/* What libraries say at any end, and bars of progress. */
static bool is_noise(const char *s)
{
	static const char *const words[] = { "resource_tracker: ", "warnings.warn(", "leaked semaphore", "leaked shared_memory",
					     "destroy_process_group() was not called", "it/s]", "s/it]", "it/s, ", "s/it, ", NULL };

	for (size_t i = 0; words[i] != NULL; i++)
		if (strstr(s, words[i]) != NULL)
			return true;
	for (; *s != '\0'; s++)
		if (isalpha((unsigned char)*s) || (*s & 0x80))
			return false;
	return true; /* no letter in it */
}

void last_line(const char *p, size_t n, char out[LAST_LINE_SIZE])
{
	struct trace_line line;
	size_t end;

	out[0] = '\0';
	for (size_t at = 0; at < n; at = end) {
		const char *text;
		size_t len;

		end = trace_line_end(p, n, at);
		trace_line_read(p, at, end, &line);
		text = line.text + strspn(line.text, " \t");
		if (is_noise(text))
			continue;
		len = strlen(text);
		len = utf8_cut(text, len < LAST_LINE_SIZE ? len : LAST_LINE_SIZE - 1);
		snprintf(out, LAST_LINE_SIZE, "%.*s", (int)len, text);
		utf8_scrub(out);
	}
}
