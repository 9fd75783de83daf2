/* spec.c - a job's specification: cwd, argv and environment as bytes
 *
 * One value has one encoding and decoding checks every byte's place, so the
 * hash of the blob stands for the job. Values of environment variables never
 * get into an error text: they may be secrets.
 */
#include "proto/spec.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "NASPEC1\n"
#define MAGIC_LEN 8
#define HEAD_LEN (MAGIC_LEN + 8)
#define LARGEST 3 /* parts named when a specification is too large */
#define LARGE 1024 /* ... from this size on */

static void put32(char *p, uint32_t v)
{
	p[0] = (char)(v >> 24);
	p[1] = (char)(v >> 16);
	p[2] = (char)(v >> 8);
	p[3] = (char)v;
}

static uint32_t get32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Number of strings; their bytes with NULs are added to *total. */
static size_t measure(char *const *strings, size_t *total)
{
	size_t n = 0;

	for (; strings && strings[n]; n++)
		*total += strlen(strings[n]) + 1;
	return n;
}

/* Length of the name of a variable; 0 when there is no name or no '='. */
static size_t name_len(const char *entry)
{
	const char *eq = strchr(entry, '=');

	return eq ? (size_t)(eq - entry) : 0;
}

static void add_name(struct buf *b, const char *entry)
{
	size_t n = name_len(entry), shown = n < 64 ? n : 64;

	for (size_t i = 0; i < shown; i++)
		buf_addc(b, entry[i] > ' ' && entry[i] <= '~' ? entry[i] : '?');
	if (shown < n)
		buf_adds(b, "...");
}

struct part {
	const char *text;
	size_t arg; /* its index in argv, or SIZE_MAX: a variable */
	size_t len;
};

/* Into the (at most LARGEST) largest parts, largest first. */
static size_t rank_part(struct part *v, size_t n, struct part p)
{
	size_t at = n < LARGEST ? n++ : LARGEST;

	for (; at > 0 && p.len > v[at - 1].len; at--)
		if (at < LARGEST)
			v[at] = v[at - 1];
	if (at < LARGEST)
		v[at] = p;
	return n;
}

void spec_add_largest(const char *const *argv, const char *const *env, struct buf *b)
{
	struct part v[LARGEST];
	size_t n = 0, shown = 0;

	for (size_t i = 0; argv[i]; i++)
		n = rank_part(v, n, (struct part){ argv[i], i, strlen(argv[i]) + 1 });
	for (size_t i = 0; env && env[i]; i++)
		n = rank_part(v, n, (struct part){ env[i], SIZE_MAX, strlen(env[i]) + 1 });
	for (size_t i = 0; i < n && v[i].len >= LARGE && v[i].len >= v[0].len / 8; i++) {
		buf_adds(b, shown++ ? ", " : "");
		if (v[i].arg == SIZE_MAX)
			add_name(b, v[i].text);
		else
			buf_addf(b, "argument %zu", v[i].arg);
		buf_addf(b, " (%zu bytes)", v[i].len);
	}
}

static int too_large(size_t size, char *const *argv, char *const *env, struct err *e)
{
	struct buf list;
	int rc;

	buf_init(&list);
	spec_add_largest((const char *const *)argv, (const char *const *)env, &list);
	rc = err_set(e, E2BIG, "command and environment take %zu bytes, but at most %u are allowed; "
		     SPEC_PASS_LESS "%s%s", size, SPEC_MAX, list.len ? "; the largest: " : "", buf_str(&list));
	buf_finish(&list);
	return rc;
}

static int check_parts(const char *cwd, char *const *argv, char *const *env, struct err *e)
{
	if (!cwd || cwd[0] != '/')
		return err_set(e, EINVAL, "the working directory must be an absolute path");
	if (!argv || !argv[0])
		return err_set(e, EINVAL, "there is no command");
	for (size_t i = 0; env && env[i]; i++) {
		if (name_len(env[i]) == 0)
			return err_set(e, EINVAL, "entry %zu of the environment is not NAME=value",
				       i);
	}
	return 0;
}

static void add_strings(struct buf *b, char *const *strings, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_add(b, strings[i], strlen(strings[i]) + 1);
}

int spec_encode(const char *cwd, char *const *argv, char *const *env, struct buf *b, struct err *e)
{
	size_t size = HEAD_LEN, argc, envc;
	char counts[8];
	int rc;

	rc = check_parts(cwd, argv, env, e);
	if (rc)
		return rc;
	size += strlen(cwd) + 1;
	argc = measure(argv, &size);
	envc = measure(env, &size);
	if (size > SPEC_MAX)
		return too_large(size, argv, env, e);
	if (!buf_reserve(b, size))
		return err_set(e, ENOMEM, "out of memory for a specification of %zu bytes", size);

	put32(counts, (uint32_t)argc);
	put32(counts + 4, (uint32_t)envc);
	buf_add(b, MAGIC, MAGIC_LEN);
	buf_add(b, counts, sizeof(counts));
	buf_add(b, cwd, strlen(cwd) + 1);
	add_strings(b, argv, argc);
	add_strings(b, env, envc);
	return 0;
}

/* The string at *p, which moves behind it; NULL when none ends before end. */
static const char *take(const char **p, const char *end)
{
	const char *s = *p;
	const char *nul = s < end ? memchr(s, '\0', (size_t)(end - s)) : NULL;

	if (!nul)
		return NULL;
	*p = nul + 1;
	return s;
}

static bool take_all(const char **p, const char *end, const char **into, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		into[i] = take(p, end);
		if (!into[i])
			return false;
	}
	return true;
}

/* Reads all strings into s, whose arrays have room. NULL, or what is wrong. */
static const char *read_strings(struct spec *s, const char *p, const char *end)
{
	s->cwd = take(&p, end);
	if (!s->cwd || s->cwd[0] != '/')
		return "the working directory is not an absolute path";
	if (!take_all(&p, end, s->argv, s->argc))
		return "an argument is missing";
	if (!take_all(&p, end, s->env, s->envc))
		return "an environment variable is missing";
	if (p != end)
		return "something follows the last string";
	for (size_t i = 0; i < s->envc; i++) {
		if (name_len(s->env[i]) == 0)
			return "an environment entry is not NAME=value";
	}
	return NULL;
}

int spec_decode(const void *blob, size_t len, struct spec *ret, struct err *e)
{
	const uint8_t *bytes = blob;
	const char *text = blob, *what;
	struct spec s = { .cwd = NULL };
	uint64_t strings;

	if (len > SPEC_MAX)
		return err_set(e, EINVAL, "bad specification: %zu bytes, at most %u are allowed", len,
			       SPEC_MAX);
	if (len < HEAD_LEN || memcmp(bytes, MAGIC, MAGIC_LEN) != 0)
		return err_set(e, EINVAL, "bad specification: it does not begin as one");
	s.argc = get32(bytes + MAGIC_LEN);
	s.envc = get32(bytes + MAGIC_LEN + 4);
	strings = 1 + (uint64_t)s.argc + s.envc; /* each has a NUL at least */
	if (s.argc == 0 || strings > len - HEAD_LEN)
		return err_set(e, EINVAL, "bad specification: impossible number of strings");

	s.argv = calloc((size_t)strings + 1, sizeof(*s.argv)); /* env lies behind argv */
	if (!s.argv)
		return err_set(e, ENOMEM, "out of memory for a specification");
	s.env = s.argv + s.argc + 1;
	what = read_strings(&s, text + HEAD_LEN, text + len);
	if (what) {
		spec_finish(&s);
		return err_set(e, EINVAL, "bad specification: %s", what);
	}
	*ret = s;
	return 0;
}

void spec_finish(struct spec *s)
{
	free(s->argv);
	memset(s, 0, sizeof(*s));
}
