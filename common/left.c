/* left.c - see left.h. No libraries here: the launcher uses this. */
#include "common/left.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *state_word(char state)
{
	switch (state) {
	case 'D':
		return " (disk sleep)";
	case 'R':
		return " (running)";
	case 'S':
		return " (sleeping)";
	case 'T':
		return " (stopped)";
	case 't':
		return " (traced)";
	case 'Z':
		return " (its other threads live)";
	default:
		return "";
	}
}

/* "[<0>] nfs_wait_bit_killable+0x23/0x90": root's only; up to '+'. */
static bool read_stack(pid_t pid, char *out, size_t size)
{
	char text[256], *at;

	if (proc_read_file(pid, "stack", text, sizeof(text)) <= 0)
		return false;
	at = strstr(text, "] ");
	if (!at)
		return false;
	at += 2;
	at[strcspn(at, "+\n")] = '\0';
	snprintf(out, size, "%s", at);
	return *at != '\0';
}

/* "0": it waits for nothing, or that is not for us to know. */
static bool read_wchan(pid_t pid, char *out, size_t size)
{
	if (proc_read_file(pid, "wchan", out, size) > 0 && strcmp(out, "0") != 0)
		return true;
	return read_stack(pid, out, size);
}

/* "Uid:\t1000\t0\t0\t0": the saved one decides who may signal it, the effective one is known better. */
static long effective_uid(pid_t pid)
{
	char text[1024], *at;

	if (proc_read_file(pid, "status", text, sizeof(text)) <= 0 || (at = strstr(text, "\nUid:")) == NULL)
		return -1;
	at += strlen("\nUid:");
	strtol(at, &at, 10);
	return strtol(at, NULL, 10);
}

bool left_foreign(const struct proc_id *p)
{
	return proc_signal(p->pid, p->start_time, 0) == -EPERM;
}

void left_tell(const struct proc_id *p, char *out, size_t size)
{
	size_t n;

	left_tell_state(p->pid, out, size);
	n = strlen(out);
	if (left_foreign(p))
		snprintf(out + n, size - n, "; it runs as uid %ld, and may not be signalled", effective_uid(p->pid));
}

void left_tell_state(pid_t pid, char *out, size_t size)
{
	struct proc_stat s;
	char where[80];

	if (proc_read(pid, &s))
		snprintf(out, size, "its state is not known");
	else if (read_wchan(pid, where, sizeof(where)))
		snprintf(out, size, "state %c%s in %s", s.state, state_word(s.state), where);
	else
		snprintf(out, size, "state %c%s", s.state, state_word(s.state));
}

void left_add(char *lines, size_t size, const struct proc_id *p)
{
	char text[LEFT_TEXT_MAX], line[LEFT_TEXT_MAX + 64];
	size_t at = strlen(lines);

	if (p->pid <= 1 || proc_dead(p->pid, p->start_time))
		return;
	left_tell(p, text, sizeof(text));
	snprintf(line, sizeof(line), "%d %" PRIu64 " %s\n", (int)p->pid, p->start_time, text);
	if (at + strlen(line) < size)
		memcpy(lines + at, line, strlen(line) + 1);
}

const char *left_next(const char *lines, struct left *ret)
{
	const char *end = strchr(lines, '\n');
	char *p;
	long pid;

	if (!end)
		return NULL;
	pid = strtol(lines, &p, 10);
	if (*p != ' ' || pid <= 1 || pid > 4194304)
		return NULL;
	ret->id.pid = (pid_t)pid;
	ret->id.start_time = strtoull(p + 1, &p, 10);
	if (*p != ' ' || p >= end)
		return NULL;
	snprintf(ret->text, sizeof(ret->text), "%.*s", (int)(end - p - 1), p + 1);
	return end + 1;
}

bool left_in_cgroup(pid_t pid, const char *name)
{
	char text[4096], *line, *next;
	size_t n = strlen(name);

	if (proc_read_file(pid, "cgroup", text, sizeof(text)) <= 0)
		return false;
	for (line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		for (char *at = line + 3; at; at = strchr(at + 1, '/'))
			if (strncmp(at + 1, name, n) == 0 && (at[n + 1] == '\0' || at[n + 1] == '/'))
				return true;
	}
	return false;
}
