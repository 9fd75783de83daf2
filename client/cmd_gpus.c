/* cmd_gpus.c - nodectl gpus [-w hosts]: what the GPUs do, and for whom */
#include <inttypes.h>
#include <string.h>

#include "client/devices.h"
#include "client/node_json.h"
#include "client/reading.h"

static size_t count(const struct rec_node_info *n)
{
	return n->n_gpu_list;
}

static void get(const struct rec_node_info *n, size_t i, struct device *ret)
{
	const struct rec_gpu *g = &n->gpu_list[i];

	ret->gpu = g;
	ret->rank = g->text ? 0 : g->xids || g->ecc_uncorrected ? 1 : 2;
}

static int compare(const struct device *a, const struct device *b)
{
	return (a->gpu->index > b->gpu->index) - (a->gpu->index < b->gpu->index);
}

static void json(struct out *o, const struct device *d)
{
	gpu_json(o, d->gpu);
}

/* ---- the table ----------------------------------------------------------- */

/* What anybody knows: a column each. */
struct known {
	bool name, mem, temp, power, util, job, procs, note, numa;
};

static bool has_note(const struct rec_gpu *g)
{
	return g->text || g->note || g->xids || g->ecc_uncorrected || g->shared_out;
}

static struct known look(const struct devices *d)
{
	struct known k = { 0 };

	for (size_t i = 0; i < d->n; i++) {
		const struct rec_gpu *g = d->v[i].gpu;

		k.name |= g->name != NULL;
		k.mem |= MSG_HAS(g, gpu, mem_total) || MSG_HAS(g, gpu, mem_used);
		k.temp |= MSG_HAS(g, gpu, temp_c);
		k.power |= MSG_HAS(g, gpu, power_mw);
		k.util |= MSG_HAS(g, gpu, util);
		k.job |= MSG_HAS(g, gpu, job);
		k.procs |= g->n_procs > 0 || g->procs_unknown;
		k.note |= has_note(g);
		k.numa |= MSG_HAS(g, gpu, numa);
	}
	return k;
}

/* All are NVIDIA's: the rest of the name is what tells them apart. */
static const char *short_name(const struct rec_gpu *g)
{
	static const char maker[] = "NVIDIA ";

	if (!g->name)
		return "?";
	return strncmp(g->name, maker, sizeof(maker) - 1) == 0 ? g->name + sizeof(maker) - 1 : g->name;
}

static void number_cell(struct out *o, const char *title, unsigned flags, bool known, uint32_t v,
			const char *unit)
{
	if (known)
		out_cell(o, title, flags | OUT_RIGHT, OUT_PLAIN, "%u%s", v, unit);
	else
		out_cell(o, title, flags | OUT_RIGHT, OUT_PLAIN, "?");
}

static void job_cell(struct out *o, const struct rec_gpu *g)
{
	if (MSG_HAS(g, gpu, job))
		out_cell(o, "JOB", 0, OUT_PLAIN, "%" PRIu64, g->job);
	else
		out_cell(o, "JOB", 0, OUT_PLAIN, "-");
}

/* "li 40112 python, !wang 4711 python (30 GiB)": strangers are marked, and what they hold. */
static void procs_cell(struct out *o, const struct rec_gpu *g)
{
	bool foreign = false;
	struct buf b;

	buf_init(&b);
	if (g->procs_unknown)
		buf_addc(&b, '?');
	for (size_t i = 0; i < g->n_procs; i++) {
		const struct rec_gpu_proc *p = &g->procs[i];
		bool ours = MSG_HAS(p, gpu_proc, job);

		foreign |= !ours;
		buf_addf(&b, "%s%s", i ? ", " : "", ours ? "" : "!");
		if (p->user)
			buf_addf(&b, "%s ", p->user);
		else if (MSG_HAS(p, gpu_proc, uid))
			buf_addf(&b, "uid %u ", p->uid);
		else
			buf_adds(&b, "? ");
		buf_addf(&b, "%u", p->pid);
		if (p->name)
			buf_addf(&b, " %s", p->name);
		if (!ours && MSG_HAS(p, gpu_proc, mem)) {
			buf_adds(&b, " (");
			reading_bytes(&b, p->mem);
			buf_addc(&b, ')');
		}
	}
	out_cell(o, "PROCESSES", OUT_SHRINK, foreign ? OUT_WARN : OUT_PLAIN, "%s", b.len ? buf_str(&b) : "-");
	buf_finish(&b);
}

static void note_cell(struct out *o, const struct devices *d, const struct rec_gpu *g)
{
	bool grave;
	struct buf b;

	buf_init(&b);
	if (g->text)
		buf_adds(&b, g->text);
	if (g->xids) {
		buf_addf(&b, "%sXid %u", b.len ? "; " : "", g->xid);
		if (MSG_HAS(g, gpu, xid_wall_ms)) {
			buf_addc(&b, ' ');
			devices_add_age(&b, d, g->xid_wall_ms);
			buf_adds(&b, " ago");
		}
		if (g->xids > 1)
			buf_addf(&b, " (%u in all)", g->xids);
	}
	if (g->ecc_uncorrected)
		buf_addf(&b, "%s%" PRIu64 " uncorrectable ECC errors", b.len ? "; " : "", g->ecc_uncorrected);
	grave = b.len > 0;
	if (g->shared_out)
		buf_addf(&b, "%sanother virtual node's", b.len ? "; " : "");
	if (g->note)
		buf_addf(&b, "%s%s", b.len ? "; " : "", g->note);
	out_cell(o, "NOTE", OUT_SHRINK, g->shared_out && !g->text ? OUT_DIM : grave ? OUT_WARN : OUT_PLAIN, "%s",
		 buf_str(&b));
	buf_finish(&b);
}

static void reading_cell(struct out *o, const char *title, unsigned flags, const struct rec_gpu *g,
			 void (*reading)(struct buf *, const struct rec_gpu *))
{
	struct buf b;

	buf_init(&b);
	reading(&b, g);
	out_cell(o, title, flags | OUT_RIGHT, OUT_PLAIN, "%s", buf_str(&b));
	buf_finish(&b);
}

static void row(struct out *o, const struct devices *d, const struct device *one, const struct known *k)
{
	const struct rec_gpu *g = one->gpu;

	out_start(o, NULL, OUT_ROW);
	devices_node_cell(o, d, one);
	out_cell(o, "GPU", OUT_RIGHT, OUT_PLAIN, "%u", g->index);
	if (k->name)
		out_cell(o, "NAME", OUT_SHRINK, OUT_PLAIN, "%s", short_name(g));
	if (k->mem)
		reading_cell(o, "MEM", 0, g, reading_memory);
	if (k->temp)
		number_cell(o, "TEMP", OUT_SPARE, MSG_HAS(g, gpu, temp_c), g->temp_c, "C");
	if (k->power)
		reading_cell(o, "POWER", OUT_SPARE, g, reading_power);
	if (k->util)
		number_cell(o, "UTIL", 0, MSG_HAS(g, gpu, util), g->util, "%");
	if (k->numa)
		devices_numa_cell(o, MSG_HAS(g, gpu, numa), g->numa);
	if (k->job)
		job_cell(o, g);
	if (k->procs)
		procs_cell(o, g);
	if (k->note)
		note_cell(o, d, g);
	out_end(o);
}

static void table(struct out *o, const struct devices *d)
{
	struct known k = look(d);

	out_start(o, "gpus", OUT_TABLE);
	for (size_t i = 0; i < d->n; i++)
		row(o, d, &d->v[i], &k);
	out_end(o);
}

const struct device_kind devices_gpus = {
	.key = "gpus",
	.none = "no GPUs are known; nodectl node NAME tells what there is to read from",
	.count = count,
	.get = get,
	.compare = compare,
	.table = table,
	.json = json,
};

static int run(struct ctl *c)
{
	return devices_run(c, &devices_gpus);
}

const struct command cmd_gpus = {
	.verb = "gpus",
	.args = "[-w HOSTLIST]",
	.brief = "the GPUs: memory, load, which job, whose processes",
	.help = "Lists the GPUs of all nodes, those in trouble first. A process with \"!\" before its user is no "
		"job's: its GPU is not given to jobs unless they are launched with --busy-gpus.",
	.opts = devices_opts,
	.run = run,
};
