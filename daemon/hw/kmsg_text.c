/* kmsg_text.c - see kmsg_text.h
 *
 * A record of /dev/kmsg: "6,339,5140900,-;text", then lines that begin with a
 * blank ("dev-kmsg" in the kernel's Documentation/ABI/testing). Old texts and
 * new ones are known; what changes between kernels is not relied on:
 *
 *   Out of memory: Killed process 4711 (python3) total-vm:...         (mm/oom_kill.c)
 *   Memory cgroup out of memory: Killed process 4711 (python3) ...
 *   Killed process 4711 (python3) total-vm:...                         (before 5.3)
 *   oom-kill:constraint=...,oom_memcg=/a,task_memcg=/a/b,task=python3,pid=4711,uid=1000
 *   NVRM: Xid (PCI:0000:17:00): 79, pid=4711, name=python3, GPU has fallen off the bus.
 *   NVRM: Xid (PCI:0000:17:00 GPU-I:05 GPU-CI:00): 13, pid=4711, ...   (a part of it, MIG)
 *   python3[4711]: segfault at 0 ip 00007f... sp 00007f... error 4 in libtorch_cuda.so[7f...]
 *   mlx5_core 0000:17:00.0 ibp23s0: Link down        mlx5_core 0000:17:00.0: Port module event...
 */
#include "hw/kmsg_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define LINE_MAX_ 1000 /* of which the rest tells nothing */

static bool number(const char *s, uint64_t max, uint64_t *ret)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*ret = strtoull(s, &end, 10);
	return errno == 0 && *ret <= max;
}

/* The number behind 'key', if it is there. */
static bool number_after(const char *text, const char *key, uint64_t max, uint64_t *ret)
{
	const char *p = strstr(text, key);

	return p && number(p + strlen(key), max, ret);
}

static void put_pid(struct hw_event *e, uint64_t pid)
{
	if (pid > 0)
		e->pid = hw_u32((uint32_t)pid);
}

/* Between from and the first of 'ends', cut to fit. */
static void take(char *out, size_t size, const char *from, const char *ends)
{
	snprintf(out, size, "%.*s", (int)strcspn(from, ends), from);
	utf8_scrub(out);
}

static const char *after_pid(const char *p)
{
	return p + strspn(p, "0123456789");
}

/* "Killed process 4711 (python3) ...". "Kill process" is said before it is done. What
 * a process is called may begin like this, and be the first word of another line. */
static bool oom(const char *text, struct hw_event *e)
{
	static const char *const begins[] = { "Killed process ", "Memory cgroup out of memory: Killed process ",
					      "Out of memory: Killed process ",
					      "Out of memory (oom_kill_allocating_task): Killed process " };
	const char *p = NULL;
	uint64_t pid;
	char name[32] = "";
	bool bare, cgroup;
	size_t i = 0;

	for (; i < sizeof begins / sizeof begins[0] && !p; i++)
		p = strncmp(text, begins[i], strlen(begins[i])) == 0 ? text + strlen(begins[i]) : NULL;
	bare = i == 1;
	cgroup = i == 2;
	if (!p || !number(p, 4194304, &pid))
		return false;
	put_pid(e, pid);
	p = after_pid(p);
	if (strncmp(p, " (", 2) == 0)
		take(name, sizeof name, p + 2, ")");
	e->kind = "oom";
	snprintf(e->text, sizeof e->text, "the kernel's OOM killer ended pid %u%s%s%s%s", e->pid.v,
		 name[0] ? " (" : "", name, name[0] ? ")" : "",
		 cgroup	   ? ": its cgroup was out of memory" :
		 bare	   ? "" :
			     ": the host was out of memory");
	return true;
}

/* The last one: what comes before is named by users. */
static const char *last(const char *text, const char *key)
{
	const char *found = NULL;

	for (const char *p = strstr(text, key); p; p = strstr(p + 1, key))
		found = p;
	return found;
}

/* The summary since 5.0 names the victim's cgroup, and so the job: "nodeagent-12.1". */
static bool oom_summary(const char *text, struct hw_event *e)
{
	const char *group = last(text, ",task_memcg="), *job, *end = last(text, ",pid=");
	uint64_t pid, id;

	if (strncmp(text, "oom-kill:constraint=", 20) != 0 || !end || !number(end + 5, 4194304, &pid))
		return false;
	put_pid(e, pid);
	e->kind = "oom-job";
	for (job = group ? strstr(group, "/nodeagent-") : NULL; job; job = strstr(job + 1, "/nodeagent-"))
		if (number(job + 11, UINT64_MAX, &id)) /* not "/nodeagent-launcher.service" */
			break;
	if (!job || job > group + 1 + strcspn(group + 1, ","))
		return false;
	e->job = hw_u64(id);
	snprintf(e->text, sizeof e->text, "the OOM killer chose pid %u of job %llu", e->pid.v, (unsigned long long)id);
	return true;
}

/* "0000:17:00", "0000:17:00.0". What a process is called may begin as xid() and port()
 * want it, and has 5 bytes left behind that, followed by " [PID]: segfault at ... in FILE". */
static bool is_pci(const char *s)
{
	size_t domain = strspn(s, "0123456789abcdefABCDEF");

	if ((domain != 4 && domain != 8) || s[domain] != ':')
		return false;
	s += domain;
	for (int i = 0; i < 2; i++, s += 3)
		if (s[0] != ':' || strspn(s + 1, "0123456789abcdefABCDEF") != 2)
			return false;
	return !*s || (s[0] == '.' && s[1] >= '0' && s[1] <= '7' && !s[2]);
}

static bool xid(const char *text, struct hw_event *e)
{
	const char *p = text;
	uint64_t n, pid;

	if (strncmp(p, "NVRM: Xid (", 11) != 0)
		return false;
	p += 11;
	p += strncmp(p, "PCI:", 4) == 0 ? 4 : 0;
	take(e->pci, sizeof e->pci, p, " )"); /* of a part of it: " GPU-I:05 GPU-CI:00" */
	p += strcspn(p, ")");
	if (!is_pci(e->pci) || strncmp(p, "): ", 3) != 0 || !number(p + 3, 65535, &n))
		return false;
	e->kind = "xid";
	e->xid = hw_u32((uint32_t)n);
	if (number_after(p, "pid=", 4194304, &pid))
		put_pid(e, pid);
	snprintf(e->text, sizeof e->text, "Xid %u on the GPU at %s", e->xid.v, e->pci);
	return true;
}

/* Where 'words' follow "[pid". A process's name of 15 bytes may hold a '[', a number and the
 * beginning of such words, but not all of that; what the kernel names after them may. */
static const char *pid_before(const char *text, const char *words, uint64_t *pid)
{
	for (const char *p = strstr(text, words); p; p = strstr(p + 1, words)) {
		const char *open = memrchr(text, '[', (size_t)(p - text));

		if (open && number(open + 1, 4194304, pid) && after_pid(open + 1) == p)
			return p;
	}
	return NULL;
}

static bool fault(const char *text, struct hw_event *e)
{
	static const char *const words[] = { "]: segfault at ", "] general protection fault ip:",
					     "] trap invalid opcode ip:", "] trap divide error ip:" };
	const char *end = NULL, *in;
	char object[64] = "";
	uint64_t pid;
	size_t w = 0;

	for (; w < 4 && !end; w += !end)
		end = pid_before(text, words[w], &pid);
	if (!end)
		return false;
	put_pid(e, pid);
	in = strstr(end, " in ");
	if (in)
		take(object, sizeof object, in + 4, "[");
	e->kind = "fault";
	snprintf(e->text, sizeof e->text, "%s of pid %u%s%s",
		 w == 0 ? "segmentation fault" : w == 1 ? "general protection fault" : "illegal instruction or division",
		 e->pid.v, object[0] ? " in " : "", object);
	return true;
}

/* "mlx5_core 0000:17:00.0 ibp23s0: Link down" */
static bool port(const char *text, struct hw_event *e)
{
	size_t n = strlen(text);
	const char *dev;

	if (strncmp(text, "mlx5_core ", 10) != 0 || n < 9 || strcmp(text + n - 9, "Link down") != 0)
		return false;
	take(e->pci, sizeof e->pci, text + 10, " ");
	if (!is_pci(e->pci))
		return false;
	dev = text + 10 + strcspn(text + 10, " ");
	dev += strspn(dev, " ");
	take(e->device, sizeof e->device, dev, ": ");
	e->kind = "port";
	snprintf(e->text, sizeof e->text, "%s lost its link", e->device[0] && e->device[0] != 'L' ? e->device : e->pci);
	return true;
}

/* "mlx5_core 0000:47:00.0: mlx5_cmd_out_err:838:(pid 4122): ACCESS_REG(0x805) op_mod(0x1) failed, ...":
 * what reading the counters of a restricted function makes the driver say. */
static bool complaint(const char *text, struct hw_event *e)
{
	if (strncmp(text, "mlx5_core ", 10) != 0 || !strstr(text, "ACCESS_REG(0x805)") || !strstr(text, "failed"))
		return false;
	take(e->pci, sizeof e->pci, text + 10, " ");
	e->pci[strcspn(e->pci, " ")] = '\0';
	if (e->pci[0] && e->pci[strlen(e->pci) - 1] == ':')
		e->pci[strlen(e->pci) - 1] = '\0';
	e->kind = "complaint";
	return true;
}

/* The level and 8 * facility: others than 0 are what programs have written there, such
 * as a system log that forwards whatever users tell it. */
static bool by_kernel(const char *record)
{
	uint64_t prio;

	return number(record, 7, &prio);
}

bool kmsg_parse(const char *line, size_t len, struct hw_event *ret, int64_t *ret_at_us)
{
	static bool (*const known[])(const char *, struct hw_event *) = { oom, oom_summary, xid, fault, port, complaint, kmsg_fault };
	char copy[LINE_MAX_ + 1];
	const char *text, *second;
	uint64_t at;
	char *nl;

	*ret_at_us = 0;
	len = len > LINE_MAX_ ? LINE_MAX_ : len;
	memcpy(copy, line, len);
	copy[len] = '\0';
	nl = strchr(copy, '\n'); /* what follows are its continuations */
	if (nl)
		*nl = '\0';
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	utf8_scrub(copy);
	text = strchr(copy, ';');
	if (!text || !by_kernel(copy))
		return false;
	second = strchr(copy, ',');
	second = second && second < text ? strchr(second + 1, ',') : NULL;
	if (second && second < text && number(second + 1, INT64_MAX / 2, &at))
		*ret_at_us = (int64_t)at;
	text++;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		memset(ret, 0, sizeof *ret);
		if (known[i](text, ret))
			return true;
	}
	return false;
}
