/* elastic.c - see elastic.h
 *
 * The summary, as PyTorch 1.9 to 2.13 print it:
 *   Root Cause (first observed failure):
 *   [0]:
 *     rank      : 1 (local_rank: 1)
 *     exitcode  : -9 (pid: 4711)  (SIGKILL)
 */
#include "common/elastic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/traceback_line.h"
#include "common/utf8.h"

struct summary {
	struct elastic_failure now; /* being read */
	bool have_rank, root;
	size_t n;
};

/* The number after "word ", blanks and ": ", or false. */
static bool field(const char *line, const char *word, long *ret)
{
	const char *p = line + strspn(line, " ");
	size_t n = strlen(word);
	char *end;

	if (strncmp(p, word, n) != 0)
		return false;
	p += n;
	p += strspn(p, " ");
	if (*p++ != ':')
		return false;
	*ret = strtol(p, &end, 10);
	return end != p;
}

/* The number after "(word: ". */
static bool aside(const char *line, const char *word, long *ret)
{
	const char *p = strstr(line, word);
	char *end;

	if (!p)
		return false;
	*ret = strtol(p + strlen(word), &end, 10);
	return *end == ')';
}

static void take(struct summary *s, const char *line, struct elastic_failure *out, size_t max)
{
	long v, w;

	if (strncmp(line, "Failures:", 9) == 0) { /* a new summary */
		*s = (struct summary){ .n = 0 };
	} else if (strncmp(line, "Root Cause ", 11) == 0) {
		s->root = true;
	} else if (field(line, "rank", &v) && aside(line, "(local_rank: ", &w)) {
		s->have_rank = v >= 0 && v <= 16777215 && w >= 0 && w <= 16777215;
		s->now = (struct elastic_failure){ .rank = (uint32_t)v, .local_rank = (uint32_t)w, .root = s->root };
	} else if (s->have_rank && field(line, "exitcode", &v) && aside(line, "(pid: ", &w)) {
		s->have_rank = false;
		s->now.pid = w > 0 && w <= 4194304 ? (uint32_t)w : 0;
		s->now.code = v >= -64 && v <= 255 ? (int)v : 1;
		if (s->n < max)
			out[s->n++] = s->now;
	}
}

size_t elastic_failures(const char *p, size_t n, struct elastic_failure *out, size_t max)
{
	struct summary s = { .n = 0 };
	struct trace_line l = { .len = 0 };

	for (size_t at = 0, end; at < n; at = end) {
		end = trace_line_end(p, n, at);
		trace_line_read(p, at, end, &l);
		take(&s, l.text, out, max);
	}
	return s.n;
}

static const char *text_of(const cJSON *o, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	return cJSON_IsString(v) ? v->valuestring : NULL;
}

/* Python's own text of the exception says more than the message: its place, and
 * what it came from. */
static void from_message(const cJSON *message, struct traceback *ret)
{
	const cJSON *extra = cJSON_GetObjectItemCaseSensitive(message, "extraInfo");
	const char *stack = text_of(extra, "py_callstack"), *said = text_of(message, "message");

	if (stack)
		traceback_find(stack, strlen(stack), -1, -1, ret);
	if (ret->kind != TRACEBACK_NONE || !said)
		return;
	ret->kind = TRACEBACK_PYTHON;
	snprintf(ret->text, sizeof ret->text, "%s", said);
}

void elastic_error_file(const char *p, size_t n, struct traceback *ret)
{
	cJSON *all = json_parse(p, n, NULL);
	const cJSON *message = cJSON_GetObjectItemCaseSensitive(all, "message");
	struct trace_line l = { .len = 0 };

	*ret = (struct traceback){ .rank = -1 };
	if (cJSON_IsString(message)) {
		ret->kind = TRACEBACK_PYTHON;
		snprintf(ret->text, sizeof ret->text, "%s", message->valuestring);
	} else if (cJSON_IsObject(message)) {
		from_message(message, ret);
	}
	cJSON_Delete(all);
	if (ret->kind == TRACEBACK_NONE)
		return;
	/* one printable line, as what is read from logs */
	trace_line_read(ret->text, 0, trace_line_end(ret->text, strlen(ret->text), 0), &l);
	snprintf(ret->text, sizeof ret->text, "%s", l.text);
	utf8_scrub(ret->text);
	if (!*ret->text)
		ret->kind = TRACEBACK_NONE;
}
