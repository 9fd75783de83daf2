/* sentence.c - see sentence.h */
#include "client/sentence.h"

#include <ctype.h>
#include <string.h>

static bool name_char(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_';
}

bool sentence_begins(const char *s, const char *node)
{
	size_t n = strlen(node);

	if (strncmp(s, node, n) != 0 || name_char(s[n]))
		return false;
	return s[n] != '.' || !name_char(s[n + 1]);
}

const char *sentence_without(struct arena *a, const char *text, const char *node)
{
	const char *kept;
	struct buf b;
	char before = ' ';

	if (!text || !node || !*node)
		return text ? text : "";
	buf_init(&b);
	while (*text) {
		if (!name_char(before) && before != '.' && sentence_begins(text, node)) {
			buf_addc(&b, SENTENCE_NODES);
			text += strlen(node);
			before = SENTENCE_NODES;
		} else {
			before = *text++;
			buf_addc(&b, before);
		}
	}
	kept = arena_strdup(a, buf_str(&b));
	buf_finish(&b);
	return kept ? kept : "";
}

void sentence_fill(struct buf *b, const char *text, const char *names)
{
	for (; *text; text++) {
		if (*text == SENTENCE_NODES)
			buf_adds(b, names);
		else
			buf_addc(b, *text);
	}
}
