/* traceback_line.c - see traceback_line.h */
#include "common/traceback_line.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

size_t trace_line_end(const char *p, size_t n, size_t at)
{
	while (at < n && p[at] != '\n' && p[at] != '\r')
		at++;
	return at < n ? at + 1 : n;
}

/* Length of the escape sequence at p, which begins with ESC. */
static size_t escape_len(const char *p, size_t n)
{
	size_t i = 2;

	if (n < 2)
		return n;
	if (p[1] == '[') { /* colours, cursor */
		while (i < n && (unsigned char)p[i] < 0x40)
			i++;
		return i < n ? i + 1 : n;
	}
	if (p[1] == ']') { /* titles, links: to BEL or ESC \ */
		while (i < n && p[i] != '\a' && p[i] != 27)
			i++;
		return i < n ? i + 1 : n;
	}
	return 2;
}

static size_t clean(const char *p, size_t n, char *out, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < n && len + 1 < size;) {
		if (p[i] == 27) {
			i += escape_len(p + i, n - i);
			continue;
		}
		if ((unsigned char)p[i] >= ' ' && p[i] != 127)
			out[len++] = p[i];
		else if (p[i] == '\t')
			out[len++] = ' ';
		i++;
	}
	out[len] = '\0';
	return len;
}

static const char *digits(const char *p, int64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)*p))
		return NULL;
	*ret = strtoll(p, &end, 10);
	return end - p <= 8 ? end : NULL;
}

/* "[rank3]:" "[default0]:" "[gpu01:3]" "[1,3]<stderr>:"; the end of it, or NULL. */
static const char *prefix(const char *s, int64_t *ret_tag, bool *ret_is_rank)
{
	const char *p = s + 1, *word = p;
	bool node = false;

	if (*s != '[')
		return NULL;
	while (isalnum((unsigned char)*p) || *p == '_' || *p == '.' || *p == '-')
		p++;
	if (*p == ':' || *p == ',') {
		node = true;
		p++;
	} else {
		while (p > word && isdigit((unsigned char)p[-1]))
			p--;
	}
	if (p == word || !(p = digits(p, ret_tag)) || *p != ']')
		return NULL;
	*ret_is_rank = node || strncmp(word, "rank", 4) == 0;
	p++;
	if (strncmp(p, "<std", 4) == 0)
		p += strcspn(p, ">") + 1 - (strchr(p, '>') == NULL);
	if (*p == ':')
		p++;
	return p + (*p == ' ');
}

void trace_line_read(const char *p, size_t at, size_t end, struct trace_line *ret)
{
	const char *s = ret->text, *after;

	while (end > at && (p[end - 1] == '\n' || p[end - 1] == '\r'))
		end--;
	ret->len = clean(p + at, end - at, ret->text, sizeof ret->text);
	ret->tag = -1;
	ret->is_rank = false;
	/* torchrun's label outside, PyTorch's or ours inside of it: the last says most */
	for (int i = 0; i < 3 && (after = prefix(s, &ret->tag, &ret->is_rank)) != NULL; i++)
		s = after;
	ret->len -= (size_t)(s - ret->text);
	memmove(ret->text, s, ret->len + 1);
}
