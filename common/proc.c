/* proc.c - processes named so that a signal cannot hit a stranger
 *
 * Everything is read from /proc, which is no snapshot: a process that forks
 * while we look may hide a child, so callers that must get all repeat until
 * a pass finds nothing. Processes of other users that we may not inspect are
 * invisible to proc_sweep_env; so are those that have overwritten their
 * environment. No JSON and no libraries here: the launcher uses this.
 */
#include "common/proc.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/proc_sys.h"

#define SWEEP_PAUSE_NS 10000000
#define PF_EXITING 4ul /* of include/linux/sched.h, since ever */

/* Field n >= 3 of a stat line of which p is the ')' after field 2; "" when the
 * line is shorter. */
static const char *stat_field(const char *p, int n)
{
	for (; n > 2 && *p; n--) {
		p += strcspn(p, " ");
		p += *p == ' ';
	}
	return p;
}

/* What a process calls itself may be no text at all. */
static void take_name(const char *stat, const char *end, char name[16])
{
	const char *p = strchr(stat, '(');
	size_t n = 0;

	for (p = p && p < end ? p + 1 : end; p < end && n < 15; p++)
		name[n++] = *p < ' ' || *p > '~' ? '?' : *p;
	name[n] = '\0';
}

/* /proc/PID/stat. The name in it may hold anything, so we count from the last ')'. */
int proc_read(pid_t pid, struct proc_stat *ret)
{
	char path[32], text[1024];
	const char *p, *start;

	if (pid <= 0)
		return -ESRCH;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (proc_sys_file(path, text, sizeof(text)) <= 0)
		return -ESRCH;
	p = strrchr(text, ')');
	if (!p)
		return -ESRCH;
	start = stat_field(p, 22);
	if (!isdigit((unsigned char)*start))
		return -ESRCH;
	ret->pid = pid;
	take_name(text, p, ret->name);
	ret->state = *stat_field(p, 3);
	ret->ppid = (pid_t)strtol(stat_field(p, 4), NULL, 10);
	ret->session = (pid_t)strtol(stat_field(p, 6), NULL, 10);
	ret->exiting = (strtoul(stat_field(p, 9), NULL, 10) & PF_EXITING) != 0;
	/* one whose first thread has exited shows as a zombie while its others live on */
	ret->dead = (ret->state == 'Z' && strtol(stat_field(p, 20), NULL, 10) <= 1) ||
		    ret->state == 'X' || ret->state == 'x';
	ret->start_time = strtoull(start, NULL, 10);
	return 0;
}

int proc_start_time(pid_t pid, uint64_t *ret)
{
	struct proc_stat s;

	if (proc_read(pid, &s))
		return -ESRCH;
	*ret = s.start_time;
	return 0;
}

int proc_boot_id(char out[37])
{
	char text[64];
	ssize_t n = proc_sys_file("/proc/sys/kernel/random/boot_id", text, sizeof(text));

	if (n < 0)
		return (int)n;
	if (n < 36)
		return -EIO;
	memcpy(out, text, 36);
	out[36] = '\0';
	return 0;
}

static int check_start(pid_t pid, uint64_t start_time)
{
	uint64_t now;
	int rc = proc_start_time(pid, &now);

	if (rc)
		return rc;
	return now == start_time ? 0 : -ESRCH;
}

/* The pidfd holds on to one process. If the start time read afterwards is the
 * wanted one, it is that process: a later one could not have this start time. */
static int signal_pidfd(int fd, pid_t pid, uint64_t start_time, int sig)
{
	int rc = check_start(pid, start_time);

	if (rc)
		return rc;
	rc = proc_sys_pidfd_signal(fd, sig);
	if (rc != -ENOSYS)
		return rc;
	return proc_sys_kill(pid, sig); /* Linux 5.1 and 5.2, seccomp */
}

int proc_signal(pid_t pid, uint64_t start_time, int sig)
{
	int fd, rc;

	if (pid <= 1)
		return -ESRCH;
	fd = proc_sys_pidfd(pid);
	if (fd >= 0) {
		rc = signal_pidfd(fd, pid, start_time, sig);
		proc_sys_pidfd_close(fd);
		return rc;
	}
	if (fd == -ESRCH || fd == -EINVAL)
		return -ESRCH;

	/* no pidfd (ENOSYS), or no descriptor left: a small race beats no signal */
	rc = check_start(pid, start_time);
	if (rc)
		return rc;
	return proc_sys_kill(pid, sig);
}

int proc_dead(pid_t pid, uint64_t start_time)
{
	struct proc_stat s;

	if (proc_read(pid, &s) || s.start_time != start_time)
		return true;
	return s.dead;
}

static int read_all(struct buf *table)
{
	void *proc = proc_sys_list();
	struct proc_stat s;
	pid_t pid;

	if (!proc)
		return -errno;
	while ((pid = proc_sys_next(proc)) != 0) {
		if (proc_read(pid, &s) == 0)
			buf_add(table, &s, sizeof(s));
	}
	proc_sys_list_close(proc);
	return buf_failed(table) ? -ENOMEM : 0;
}

int proc_children(pid_t parent, void (*f)(void *arg, const struct proc_stat *child), void *arg)
{
	void *proc = proc_sys_list();
	struct proc_stat s;
	pid_t pid;

	if (!proc)
		return -errno;
	while ((pid = proc_sys_next(proc)) != 0)
		if (proc_read(pid, &s) == 0 && s.ppid == parent)
			f(arg, &s);
	proc_sys_list_close(proc);
	return 0;
}

void proc_tell(pid_t pid, uint64_t start_time, char out[48])
{
	struct proc_stat s;

	if (proc_read(pid, &s) == 0 && s.start_time == start_time)
		snprintf(out, 48, "pid %d (%s, state %c)", (int)pid, s.name, s.state);
	else
		snprintf(out, 48, "pid %d", (int)pid);
}

ssize_t proc_read_file(pid_t pid, const char *name, char *out, size_t size)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return proc_sys_file(path, out, size);
}

static int family_cmp(const void *pa, const void *pb)
{
	const struct proc_stat *a = pa, *b = pb;

	if (a->ppid != b->ppid)
		return a->ppid < b->ppid ? -1 : 1;
	return a->pid < b->pid ? -1 : a->pid > b->pid;
}

/* Index of the first entry whose parent is ppid, or of where it would be. */
static size_t first_child(const struct proc_stat *all, size_t n, pid_t ppid)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (all[mid].ppid < ppid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Breadth first. 'queue' has room for n: a process has one parent, so each is
 * entered at most once ('done' also stops at a loop that a torn read made). */
static int walk(const struct proc_stat *all, size_t n, pid_t root, pid_t *queue, pid_t *out,
		size_t max)
{
	size_t queued = 0, found = 0;

	for (size_t at = 0; at <= queued; at++) {
		pid_t parent = at == 0 ? root : queue[at - 1];

		for (size_t i = first_child(all, n, parent); i < n && all[i].ppid == parent; i++) {
			if (all[i].pid == root || queued == n)
				continue;
			queue[queued++] = all[i].pid;
			if (all[i].dead)
				continue;
			if (found < max)
				out[found] = all[i].pid;
			found++;
		}
	}
	return (int)found;
}

int proc_descendants(pid_t root, pid_t *out, size_t max)
{
	struct buf table;
	pid_t *queue = NULL;
	size_t n;
	int rc;

	buf_init(&table);
	rc = read_all(&table);
	n = table.len / sizeof(struct proc_stat);
	if (!rc && n > 0) {
		queue = malloc(n * sizeof(*queue));
		rc = queue ? 0 : -ENOMEM;
	}
	if (!rc && n > 0) {
		struct proc_stat *all = (void *)table.data;

		qsort(all, n, sizeof(*all), family_cmp);
		rc = walk(all, n, root, queue, out, max);
	}
	free(queue);
	buf_finish(&table);
	return rc;
}

/* True when one of the NUL-terminated strings in b is exactly name=value. */
static bool has_variable(struct buf *b, const char *name, const char *value)
{
	size_t nname = strlen(name), nvalue = strlen(value);
	const char *p = buf_str(b), *end = p + b->len;

	if (buf_failed(b))
		return false;
	while (p < end) {
		size_t n = strlen(p);

		if (n == nname + 1 + nvalue && p[nname] == '=' && memcmp(p, name, nname) == 0 &&
		    memcmp(p + nname + 1, value, nvalue) == 0)
			return true;
		p += n + 1;
	}
	return false;
}

struct sweep {
	const char *name, *value;
	struct buf env; /* reused */
	struct buf killed; /* each process counts once */
	struct proc_id left; /* met in the last pass */
	int count;
};

static bool seen(const struct buf *killed, const struct proc_stat *one)
{
	for (size_t at = 0; at < killed->len; at += sizeof(*one)) {
		struct proc_stat old;

		memcpy(&old, killed->data + at, sizeof(old));
		if (old.pid == one->pid && old.start_time == one->start_time)
			return true;
	}
	return false;
}

/* Kills pid if it holds the variable. The start time is read first: should
 * the pid change hands meanwhile, the signal does not go out. */
static bool sweep_one(struct sweep *s, pid_t pid)
{
	struct proc_stat st;

	if (pid <= 1 || pid == proc_sys_self() || proc_read(pid, &st) || st.dead)
		return false;
	if (proc_sys_environ(pid, &s->env) || !has_variable(&s->env, s->name, s->value))
		return false;
	if (proc_signal(pid, st.start_time, SIGKILL) == 0 && !seen(&s->killed, &st)) {
		buf_add(&s->killed, &st, sizeof(st));
		s->count++;
	}
	s->left = (struct proc_id){ pid, st.start_time };
	return true;
}

/* How many were found, or -errno. */
static int sweep_pass(struct sweep *s)
{
	void *proc = proc_sys_list();
	int found = 0;
	pid_t pid;

	if (!proc)
		return -errno;
	while ((pid = proc_sys_next(proc)) != 0)
		found += sweep_one(s, pid);
	proc_sys_list_close(proc);
	return found;
}

int proc_sweep_env(const char *name, const char *value, int deadline_ms, struct proc_id *ret_left)
{
	struct sweep s = { .name = name, .value = value };
	int64_t end = proc_sys_ms() + deadline_ms;
	int found;

	while ((found = sweep_pass(&s)) > 0 && proc_sys_ms() < end)
		proc_sys_pause(SWEEP_PAUSE_NS);
	buf_finish(&s.env);
	buf_finish(&s.killed);
	if (found < 0)
		return found;
	if (found > 0 && ret_left)
		*ret_left = s.left;
	return found > 0 ? -ETIME : s.count;
}
