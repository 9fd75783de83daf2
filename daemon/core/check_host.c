/* check_host.c - the node itself: clock, sources, memory, file systems, limits */
#include "core/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MOUNT_DEAD_MS 20000 /* a server that is busy with a checkpoint answers before */
#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)
#define INODES_FEW 10000 /* an environment of Python's has more files */

/* ---- sources and clock --------------------------------------------------------------- */

static bool is_of_ports(const struct rec_source *s)
{
	return strcmp(s->name, "verbs") == 0 || strcmp(s->name, "sysfs") == 0;
}

void check_node_source(const struct check_at *at, struct check_is *is)
{
	const struct rec_source *s = at->source;
	bool grave = strcmp(s->name, "nvml") == 0 || strcmp(s->name, "probe") == 0 ||
		     (is_of_ports(s) && !verdict_ports_known(at->r)); /* by nobody else either */

	if (s->absent) {
		is->verdict = CHECK_SKIP;
		return;
	}
	if (s->ok && !s->late) {
		check_ok(is, s->text != NULL ? s->text : "it answers");
		return;
	}
	if (s->starting && !s->late) {
		is->reading = s->text;
		return;
	}
	is->brief = arena_printf(at->a, s->ok ? "%s: slow to answer" : "%s: no readings", s->name);
	check_say(is, grave && !s->late ? CHECK_BAD : CHECK_WARN, s->name,
		  arena_printf(at->a, "%s: %.250s", s->name, s->text != NULL ? s->text : "no readings"), NULL);
}

static bool unsteered(const struct verdict_in *in)
{
	const struct rec_host *h = in->readings != NULL && in->readings->n_host ? in->readings->host : NULL;

	return h != NULL && MSG_HAS(h, host, clock_synced) && !h->clock_synced;
}

static uint64_t skew_size(const struct verdict_in *in)
{
	return in->skew_us < 0 ? -(uint64_t)in->skew_us : (uint64_t)in->skew_us;
}

bool verdict_clock_off(const struct verdict_in *in)
{
	uint64_t off = skew_size(in);
	uint64_t sure = off > in->skew_error_us ? off - in->skew_error_us : 0;

	return in->has_skew && !in->is_ref && sure > (unsteered(in) ? SKEW_UNSTEERED_US : SKEW_BAD_US);
}

/* "0.3 ms" "340 ms" "2.1 s" "13 min" "8.0 h" "3 d" */
static const char *span(struct arena *a, uint64_t us)
{
	double s = (double)us / 1e6;

	if (us < 99950)
		return arena_printf(a, "%.1f ms", s * 1000);
	if (us < 999500)
		return arena_printf(a, "%.0f ms", s * 1000);
	if (s < 120)
		return arena_printf(a, "%.1f s", s);
	if (s < 7200)
		return arena_printf(a, "%.0f min", s / 60);
	return s < 172800 ? arena_printf(a, "%.1f h", s / 3600) : arena_printf(a, "%.0f d", s / 86400);
}

static const char *clock_reading(struct arena *a, const struct verdict_in *in)
{
	if (in->is_ref)
		return "the coordinator's own";
	return arena_printf(a, "%s %s (+-%s)", span(a, skew_size(in)), in->skew_us < 0 ? "behind" : "ahead",
			    span(a, in->skew_error_us));
}

void check_node_clock(const struct check_at *at, struct check_is *is)
{
	const struct verdict_in *in = at->in;

	if (!in->has_skew && !in->is_ref) {
		is->reading = "not measured yet";
		return;
	}
	check_ok(is, arena_printf(at->a, "%s%s", clock_reading(at->a, in), unsteered(in) ? ", not synchronised by NTP" : ""));
	if (!verdict_clock_off(in))
		return;
	is->brief = arena_printf(at->a, "clock %s off", span(at->a, skew_size(in)));
	check_say(is, CHECK_BAD, "clock",
		  arena_printf(at->a, "its clock is %s by %s (+-%s)%s: torchrun's heartbeats and the "
			       "order of log lines go wrong",
			       in->skew_us < 0 ? "behind" : "ahead", span(at->a, skew_size(in)),
			       span(at->a, in->skew_error_us),
			       unsteered(in) ? ", and nobody steers it" : ""),
		  "run chrony or ntpd on every host; without internet let one host be the others' "
		  "time server");
}

/* ---- memory and file systems ------------------------------------------------------------- */

static bool has_host(const struct check_at *at, struct check_is *is, bool known)
{
	if (at->host == NULL || !known)
		is->reading = "not read";
	return at->host != NULL && known;
}
#define HOST_HAS(at, field) ((at)->host != NULL && MSG_HAS((at)->host, host, field))

void check_node_mem(const struct check_at *at, struct check_is *is)
{
	const struct rec_host *h = at->host;
	uint64_t percent;

	if (!has_host(at, is, HOST_HAS(at, mem_available) && HOST_HAS(at, mem_total) && h->mem_total > 0))
		return;
	percent = h->mem_available / (h->mem_total / 100 + 1);
	check_ok(is, arena_printf(at->a, "%s of %s available", check_bytes(at->a, h->mem_available), check_bytes(at->a, h->mem_total)));
	if (percent >= 5 || h->mem_available >= 8 * GIB)
		return;
	is->brief = "memory nearly used up";
	check_say(is, percent < 1 ? CHECK_BAD : CHECK_WARN, "memory",
		  arena_printf(at->a, "%s: the kernel will soon kill processes", is->reading), "see who has it: ps aux --sort=-rss | head");
	is->untold = is->verdict == CHECK_WARN; /* a training may mean to use that much */
}

static enum check_verdict fullness(const struct rec_mount *m, uint64_t *ret_percent)
{
	*ret_percent = m->available / (m->total / 100 + 1);
	if (*ret_percent >= 5 || m->available >= 20 * GIB)
		return CHECK_OK;
	return *ret_percent < 1 && m->available < GIB ? CHECK_BAD : CHECK_WARN;
}

/* The worst of the file systems that answer: 0.5 % of a large one is more than 2 % of the root's. */
/* One that has room for bytes, and none for files. */
static void few_inodes(const struct check_at *at, struct check_is *is)
{
	for (size_t i = 0; is->verdict == CHECK_OK && at->host != NULL && i < at->host->n_mounts; i++) {
		const struct rec_mount *m = &at->host->mounts[i];

		if (!MSG_HAS(m, mount, inodes) || !MSG_HAS(m, mount, inodes_free) || m->inodes_free >= INODES_FEW ||
		    m->inodes_free >= m->inodes / 100)
			continue;
		is->brief = arena_printf(at->a, "%.60s has no inodes left", m->path);
		check_say(is, CHECK_BAD, "inodes",
			  arena_printf(at->a, "%.100s has %" PRIu64 " of %" PRIu64 " inodes free: no file can be made there, whatever space there is "
				       "(\"No space left on device\")", m->path, m->inodes_free, m->inodes),
			  arena_printf(at->a, "delete or pack small files: du --inodes -xs %.100s/*", strcmp(m->path, "/") ? m->path : ""));
	}
}

void check_node_disk(const struct check_at *at, struct check_is *is)
{
	const struct rec_mount *worst = NULL;
	enum check_verdict verdict = CHECK_OK;
	uint64_t least = 0, percent;

	for (size_t i = 0; at->host != NULL && i < at->host->n_mounts; i++) {
		const struct rec_mount *m = &at->host->mounts[i];
		enum check_verdict v;

		if (!MSG_HAS(m, mount, available) || !MSG_HAS(m, mount, total) || m->total == 0 || strcmp(m->path, "/dev/shm") == 0)
			continue;
		v = fullness(m, &percent);
		if (worst != NULL && (v < verdict || (v == verdict && percent >= least)))
			continue;
		least = percent;
		verdict = v;
		worst = m;
	}
	if (worst == NULL) {
		is->reading = "not read";
		return;
	}
	check_ok(is, arena_printf(at->a, "%.100s has the least: %s of %s free", worst->path, check_bytes(at->a, worst->available),
				  check_bytes(at->a, worst->total)));
	if (verdict == CHECK_OK) {
		few_inodes(at, is);
		return;
	}
	is->brief = arena_printf(at->a, "%.60s is full", worst->path);
	check_say(is, verdict, "disk",
		  arena_printf(at->a, "%.100s is nearly full: %s of %s free", worst->path, check_bytes(at->a, worst->available),
			       check_bytes(at->a, worst->total)),
		  arena_printf(at->a, "delete or move what is not needed: du -xsh %.100s/*", strcmp(worst->path, "/") ? worst->path : ""));
	is->untold = is->verdict == CHECK_WARN;
}

void check_node_mounts(const struct check_at *at, struct check_is *is)
{
	const struct rec_host *h = at->host;
	const struct rec_mount *hung = NULL;
	uint64_t longest = 0;
	size_t n = 0;

	if (!has_host(at, is, h != NULL && h->n_mounts > 0))
		return;
	for (size_t i = 0; i < h->n_mounts; i++) {
		if (h->mounts[i].hung && n++ == 0)
			hung = &h->mounts[i];
		if (h->mounts[i].hung && h->mounts[i].wait_ms > longest)
			longest = h->mounts[i].wait_ms;
	}
	if (hung == NULL) {
		check_ok(is, arena_printf(at->a, "%zu answer", h->n_mounts));
		return;
	}
	is->brief = arena_printf(at->a, "%.60s hangs", hung->path);
	check_say(is, longest >= MOUNT_DEAD_MS ? CHECK_BAD : CHECK_WARN, "mount",
		  arena_printf(at->a, "%.128s%s%.32s%s does not answer%s: whoever uses it hangs", hung->path, hung->type != NULL ? " (" : "",
			       hung->type != NULL ? hung->type : "", hung->type != NULL ? ")" : "",
			       n > 1 ? ", nor do other file systems" : ""),
		  arena_printf(at->a, "see whether its server can be reached; umount -l %.100s, then mount it again", hung->path));
}

void check_node_shm(const struct check_at *at, struct check_is *is)
{
	const struct rec_mount *m = NULL;

	for (size_t i = 0; at->host != NULL && i < at->host->n_mounts; i++)
		if (strcmp(at->host->mounts[i].path, "/dev/shm") == 0)
			m = &at->host->mounts[i];
	is->untold = true;
	if (m == NULL || !MSG_HAS(m, mount, available)) {
		is->reading = "not read";
		return;
	}
	check_ok(is, arena_printf(at->a, "%s of %s free", check_bytes(at->a, m->available), check_bytes(at->a, m->total)));
	if (m->available >= GIB)
		return;
	is->brief = "/dev/shm is small";
	check_say(is, m->available < 64 * MIB ? CHECK_BAD : CHECK_WARN, "shm",
		  arena_printf(at->a, "/dev/shm has %s of %s free: NCCL and data loaders end with a bus error or \"No space left on device\"",
			       check_bytes(at->a, m->available), check_bytes(at->a, m->total)),
		  "rm stale /dev/shm/nccl-* and torch_*; mount -o remount,size=50% /dev/shm; in a container --shm-size");
}

/* ---- limits --------------------------------------------------------------------------------- */

void check_node_memlock(const struct check_at *at, struct check_is *is)
{
	if (!has_host(at, is, HOST_HAS(at, memlock)))
		return;
	if (at->r->n_ports == 0) {
		is->verdict = CHECK_SKIP; /* nothing to register memory with */
		return;
	}
	check_ok(is, at->host->memlock == UINT64_MAX ? "unlimited" : check_bytes(at->a, at->host->memlock));
	is->untold = true;
	if (at->host->memlock == UINT64_MAX)
		return;
	is->brief = "memlock limited";
	check_say(is, CHECK_WARN, "memlock",
		  arena_printf(at->a, "jobs may lock %s of memory: NCCL cannot register its buffers with the adapter, and ends or falls back "
			       "to sockets", check_bytes(at->a, at->host->memlock)),
		  "LimitMEMLOCK=infinity in nodeagentd's unit, or ulimit -l unlimited before it is started; then restart it");
}

/* By hand: a standalone cluster has no unit. */
#define MORE_FILES "LimitNOFILE= in nodeagentd's unit, or ulimit -n 65536 before it is started by hand"
#define MORE_PROCS "LimitNPROC= and TasksMax= in nodeagentd's unit, or ulimit -u 16384 before it is started by hand"
#define MORE_BOTH                                                                                                 \
	"LimitNOFILE=, LimitNPROC= and TasksMax= in nodeagentd's unit, or ulimit -n 65536 -u 16384 before it is " \
	"started by hand"

/* What is too small, and that only. */
static void say_limits(const struct check_at *at, struct check_is *is, bool files, bool procs)
{
	const char *few = arena_printf(at->a, "%" PRIu64 " open files", at->host->nofile);
	const char *less = arena_printf(at->a, "%" PRIu64 " processes", at->host->nproc);
	const char *end = files ? "Too many open files" : "Resource temporarily unavailable";

	is->brief = "low limits";
	check_say(is, CHECK_WARN, "limits",
		  arena_printf(at->a, "jobs get %s%s%s: large ones end with \"%s\"", files ? few : "", files && procs ? " and " : "",
			       procs ? less : "", end),
		  arena_printf(at->a, "%s; then restart it", files && procs ? MORE_BOTH : files ? MORE_FILES : MORE_PROCS));
}

void check_node_limits(const struct check_at *at, struct check_is *is)
{
	const struct rec_host *h = at->host;
	bool files, procs;

	if (!has_host(at, is, HOST_HAS(at, nofile) && HOST_HAS(at, nproc)))
		return;
	files = h->nofile < 65536;
	procs = h->nproc < 16384;
	check_ok(is, arena_printf(at->a, "%" PRIu64 " open files, %s processes", h->nofile,
				  h->nproc == UINT64_MAX ? "unlimited" : arena_printf(at->a, "%" PRIu64, h->nproc)));
	is->untold = true;
	if (files || procs)
		say_limits(at, is, files, procs);
}

void check_node_hugepages(const struct check_at *at, struct check_is *is)
{
	const struct rec_host *h = at->host;
	uint64_t unused;

	if (!has_host(at, is, HOST_HAS(at, hugepages) && HOST_HAS(at, hugepages_free) && HOST_HAS(at, hugepage_size) && HOST_HAS(at, mem_total)))
		return;
	check_ok(is, arena_printf(at->a, "%" PRIu64 " reserved, %" PRIu64 " unused", h->hugepages, h->hugepages_free));
	is->untold = true;
	if (h->hugepage_size == 0 || h->hugepages_free > UINT64_MAX / h->hugepage_size)
		return;
	unused = h->hugepages_free * h->hugepage_size;
	if (unused <= h->mem_total / 2)
		return;
	is->brief = "memory in huge pages";
	check_say(is, CHECK_WARN, "hugepages", arena_printf(at->a, "%s are reserved as huge pages that nobody uses", check_bytes(at->a, unused)),
		  "sysctl vm.nr_hugepages=0, unless a program asks for them");
}

static const struct kmsg_seen *seen_of(const struct verdict_in *in, const char *kind)
{
	for (size_t i = 0; i < KMSG_KINDS_MAX && in->kmsg[i].kind != NULL; i++)
		if (strcmp(in->kmsg[i].kind, kind) == 0)
			return &in->kmsg[i];
	return NULL;
}

/* A container has no /dev/kmsg, and an agent may lack the right to read it: then no line was seen, which is not none. */
static bool log_is_read(const struct check_at *at)
{
	for (size_t i = 0; at->r != NULL && i < at->r->n_sources; i++)
		if (strcmp(at->r->sources[i].name, "kmsg") == 0)
			return at->r->sources[i].ok;
	return false;
}

/* Of a log that is not read a few say so, the others keep silent. */
static bool speaks(const char *kind)
{
	return strcmp(kind, "oom") == 0 || strcmp(kind, "xid") == 0 || strcmp(kind, "port") == 0;
}

/* What the kernel's log told; told elsewhere beside the jobs that it befell. It is
 * so until an hour after the last: a fault that stays is told by the kernel again. */
void check_node_kmsg(const struct check_at *at, struct check_is *is)
{
	const struct check *c = at->check;
	const struct kmsg_seen *seen = seen_of(at->in, c->counter);
	uint32_t n = seen != NULL ? seen->n : 0;

	is->untold = true;
	if (!at->in->has_happened || (n < c->warn && !log_is_read(at))) {
		is->verdict = speaks(c->counter) ? CHECK_UNKNOWN : CHECK_SKIP;
		is->reading = at->in->has_happened ? "the kernel's log is not read" : "not read";
		return;
	}
	check_ok(is, arena_printf(at->a, "%u in the last hour", n));
	if (n < c->warn)
		return;
	is->brief = c->title;
	check_say(is, c->bad != 0 && n >= c->bad ? CHECK_BAD : CHECK_WARN, "kmsg",
		  seen->last == NULL ? arena_printf(at->a, "%s: %u in the last hour", c->title, n) :
		  arena_printf(at->a, "%s: %u in the last hour, the last: %.200s", c->title, n, seen->last), c->remedy);
	is->untold = is->verdict == CHECK_WARN; /* what breaks nodes is told, the rest when somebody looks */
}
