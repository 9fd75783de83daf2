/* cmd_node.c - nodectl node NAME: all that is known of one node, and from where */
#include <string.h>

#include "client/attention.h"
#include "client/devices.h"
#include "client/node_json.h"
#include "client/reading.h"
#include "client/render.h"
#include "client/status.h"
#include "client/term.h"
#include "client/topology.h"

enum { TOPOLOGY = 1 };
static const struct opt opts[] = {
	{ TOPOLOGY, 0, "topology", NULL, "how near its GPUs and NICs are to each other, and its NUMA nodes" },
	{ 0 },
};

static void age_pair(struct out *o, const struct rec_node_info *n)
{
	struct buf b;

	buf_init(&b);
	if (MSG_HAS(n, node_info, age_ms)) {
		render_age(&b, n->age_ms);
		buf_adds(&b, " ago");
	}
	out_str(o, NULL, "heard", b.len ? buf_str(&b) : "never");
	buf_finish(&b);
}

/* "128 in 2 NUMA nodes", as the probe or else the agent counted them. */
static void host_pairs(struct out *o, const struct rec_node_info *n)
{
	const struct rec_host *h = n->host, none = { 0 };
	uint32_t cpus;
	struct buf b;

	if (!n->n_host)
		h = &none;
	cpus = h->cpus ? h->cpus : n->cpus;
	buf_init(&b);
	if (cpus)
		buf_addf(&b, "%u", cpus);
	if (cpus && h->numa_nodes) {
		buf_adds(&b, " in ");
		render_count(&b, h->numa_nodes, "NUMA node", "NUMA nodes");
	}
	out_str(o, NULL, cpus ? "cpus" : NULL, buf_str(&b));
	buf_reset(&b);
	if (MSG_HAS(h, host, mem_total)) {
		reading_bytes(&b, h->mem_total);
		if (MSG_HAS(h, host, mem_available)) {
			buf_adds(&b, ", available ");
			reading_bytes(&b, h->mem_available);
		}
	}
	out_str(o, NULL, b.len ? "memory" : NULL, buf_str(&b));
	buf_finish(&b);
}

static void clock_pair(struct out *o, const struct rec_node_info *n)
{
	struct buf b;

	buf_init(&b);
	reading_clock(&b, n);
	if (n->clock_synced && n->n_host && MSG_HAS(n->host, host, clock_error_us))
		buf_addf(&b, " within %.1f ms by its own account", (double)n->host->clock_error_us / 1000);
	out_attr(o, &(struct out_attr){ .title = "clock", .kind = OUT_STR, .s = buf_str(&b),
					.tone = reading_skew_bad(n) ? OUT_WARN : OUT_PLAIN });
	buf_finish(&b);
}

static const char *no_jobs_why(const struct rec_node_info *n)
{
	if (n->cordon_by && strcmp(n->cordon_by, "quarantine") == 0)
		return "none: quarantined";
	if (n->cordon_by && strcmp(n->cordon_by, "unfit") == 0)
		return "none: unfit";
	return n->drained ? "none: drained" : "none: a process cannot be killed";
}

static void pairs(struct out *o, const struct rec_node_info *n)
{
	out_str(o, NULL, "node", n->name);
	out_attr(o, &(struct out_attr){ .title = "state", .kind = OUT_STR, .s = n->state,
					.tone = render_tone(n->state) });
	if (n->note && *n->note)
		out_str(o, NULL, "note", n->note);
	if (n->cordon)
		out_attr(o, &(struct out_attr){ .title = "new jobs", .kind = OUT_STR, .tone = OUT_WARN,
						.s = no_jobs_why(n) });
	age_pair(o, n);
	out_nums(o, NULL, "jobs", n->job_ids, n->n_job_ids);
	out_str(o, NULL, "address", n->address);
	host_pairs(o, n);
	clock_pair(o, n);
	out_str(o, NULL, "software", n->software);
	out_str(o, NULL, "boot id", n->boot_id);
	out_str(o, NULL, "may submit", n->submit ? "yes, jobs on any node" : "jobs on itself only");
}

/* ---- where readings come from -------------------------------------------- */

static const char *what_it_reads(const char *source)
{
	static const char *const reads[][2] = { { "nvml", "GPUs" },	{ "verbs", "ports" },
						{ "sysfs", "ports" },	{ "hwloc", "topology" },
						{ "host", "CPUs, memory, clock" } };

	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
		if (strcmp(source, reads[i][0]) == 0)
			return reads[i][1];
	return "-";
}

static void source_row(struct out *o, const struct rec_source *s)
{
	struct buf b;

	buf_init(&b);
	out_start(o, NULL, OUT_ROW);
	out_cell(o, "SOURCE", 0, OUT_PLAIN, "%s", s->name);
	out_cell(o, "OF", 0, OUT_PLAIN, "%s", what_it_reads(s->name));
	out_cell(o, "READ", 0, s->ok ? OUT_GOOD : OUT_WARN, "%s", s->ok ? "yes" : "no");
	if (MSG_HAS(s, source, age_ms))
		render_age(&b, s->age_ms);
	out_cell(o, "AGE", 0, OUT_PLAIN, "%s", b.len ? buf_str(&b) : "never");
	out_cell(o, "NOTE", OUT_WRAP, OUT_PLAIN, "%s", s->text ? s->text : "");
	out_end(o);
	buf_finish(&b);
}

static void sources(struct out *o, const struct rec_node_info *n)
{
	out_start(o, "sources", OUT_TABLE);
	for (size_t i = 0; i < n->n_sources; i++)
		source_row(o, &n->sources[i]);
	out_end(o);
}

static void devices(struct out *o, const struct device_kind *kind, const struct rec_node_info *n,
		    int64_t wall_ms)
{
	struct rec_node_info copy = *n;
	const struct rec_status one = { .nodes = &copy, .n_nodes = 1, .wall_ms = wall_ms };
	struct devices d;

	if (devices_find(kind, &one, NULL, &d) < 0)
		return;
	d.node = false;
	if (d.n)
		kind->table(o, &d);
	devices_finish(&d);
}

static int print_node(const struct ctl *c, const struct rec_status *s, const struct rec_node_info *n, bool topology)
{
	struct buf b;
	struct out *o = ctl_out(c, &b);

	if (c->json) {
		node_json(o, n, topology);
		return ctl_print(o, &b);
	}
	pairs(o, n);
	devices(o, &devices_gpus, n, s->wall_ms);
	devices(o, &devices_ports, n, s->wall_ms);
	sources(o, n);
	if (topology)
		topology_tables(o, n, term_columns(1));
	attention_of_node(o, s->cluster, n);
	return ctl_print(o, &b);
}

static int parse(struct ctl *c, struct status_wish *wish)
{
	struct opts o;
	const char *value;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == TOPOLOGY)
			wish->topology = true;
		else if (wish->node)
			return ctl_usage(c, "\"%s\" is one word too many: nodectl node %s", value, c->cmd->args);
		else
			wish->node = value;
	}
	if (!wish->node)
		return ctl_usage(c, "which node? nodectl nodes lists them");
	return CTL_GO;
}

static int run(struct ctl *c)
{
	struct status_wish wish = { .detail = true };
	const struct rec_node_info *n;
	struct gathered g;
	int r = parse(c, &wish);

	if (r == CTL_GO)
		r = status_get(c, &wish, &g);
	if (r != CTL_GO)
		return r;
	n = status_node(&g.all.u.status, wish.node);
	if (n)
		r = print_node(c, &g.all.u.status, n, wish.topology);
	else
		r = status_no_node(c, &g.all.u.status, wish.node);
	gather_finish(&g);
	return r;
}

const struct command cmd_node = {
	.verb = "node",
	.args = "[--topology] NAME",
	.brief = "one node: its GPUs, ports, clock, and where that is read from",
	.opts = opts,
	.run = run,
};
