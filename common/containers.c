/* containers.c - see containers.h */
#include "common/containers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PIDS_MAX 65536
#define UP_MAX 64 /* generations */

static const char *const clients[] = { "docker", "nerdctl", "docker-compose", NULL };
static const char *const verbs[] = { "run", "start", "exec", "up", "create", NULL };

static bool is_one_of(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(s, *list) == 0)
			return true;
	return false;
}

static const char *base_name(const char *s)
{
	const char *slash = strrchr(s, '/');

	return slash ? slash + 1 : s;
}

static void add_word(char *out, size_t size, const char *word)
{
	size_t at = strlen(out);

	if (at > 0 && at + 1 < size)
		out[at++] = ' ';
	for (; *word && at + 1 < size; word++)
		out[at++] = *word < ' ' || *word > '~' ? '?' : *word;
	if (at < size)
		out[at] = '\0';
}

/* What such a word is about is nobody's business: the text is told to all who may see
 * the job. */
static bool is_secret(const char *word, size_t n)
{
	static const char *const secret[] = { "token", "secret", "passw", "passphrase", "key", "credential", "auth",
					      "cookie", NULL };

	for (const char *const *s = secret; *s; s++)
		for (size_t i = 0, len = strlen(*s); i + len <= n; i++)
			if (strncasecmp(word + i, *s, len) == 0)
				return true;
	return false;
}

/* Variables (-e NAME=value) without their values, options with them. */
static void add_shown(char *out, size_t size, const char *word, bool hide)
{
	const char *eq = strchr(word, '=');
	bool option = eq && strncmp(word, "--", 2) == 0 && strncmp(word, "--env=", 6) != 0 && !strchr(eq + 1, '=') &&
		      !is_secret(word, (size_t)(eq - word));
	char cut[128];

	if (hide || (eq && !option))
		snprintf(cut, sizeof(cut), "%.*s...", hide ? 0 : (int)(eq + 1 - word), word);
	add_word(out, size, hide || (eq && !option) ? cut : word);
}

/* The client may stand behind an interpreter; its verb is the first word that is one,
 * behind options and "compose". */
bool container_command(const char *words, size_t n, char *out, size_t size)
{
	const char *p = words, *end = words + n;
	bool client = false, verb = false, hide = false;

	out[0] = '\0';
	for (unsigned i = 0; p < end; p += strlen(p) + 1, i++) {
		if (!client && i < 3 && is_one_of(base_name(p), clients)) {
			client = true;
			add_word(out, size, base_name(p));
			continue;
		}
		if (!client)
			continue;
		verb = verb || is_one_of(p, verbs);
		add_shown(out, size, p, hide);
		hide = *p == '-' && !strchr(p, '=') && is_secret(p, strlen(p));
	}
	return client && verb;
}

static bool is_client(pid_t pid, char *out, size_t size)
{
	struct proc_stat st;
	char line[2048];
	ssize_t n;

	if (proc_read(pid, &st) || !is_one_of(st.name, clients))
		return false;
	n = proc_read_file(pid, "cmdline", line, sizeof(line));
	return n > 0 && container_command(line, (size_t)n, out, size);
}

static pid_t root_of(pid_t pid, const pid_t *roots, size_t n)
{
	struct proc_stat st;

	for (int up = 0; pid > 1 && up < UP_MAX; up++) {
		for (size_t i = 0; i < n; i++)
			if (roots[i] == pid)
				return pid;
		if (proc_read(pid, &st))
			return 0;
		pid = st.ppid;
	}
	return 0;
}

int container_find(pid_t top, const pid_t *roots, size_t n_roots, struct container_client *ret)
{
	pid_t *v = malloc(PIDS_MAX * sizeof(*v));
	int n = v ? proc_descendants(top, v, PIDS_MAX) : -ENOMEM, found = n < 0 ? n : 0;

	for (int i = 0; found == 0 && i < n && i < PIDS_MAX; i++) {
		if (!is_client(v[i], ret->text, sizeof(ret->text)))
			continue;
		ret->pid = v[i];
		ret->below = root_of(v[i], roots, n_roots);
		found = 1;
	}
	free(v);
	return found;
}
