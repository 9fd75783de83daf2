/* node_json.c - a node, a GPU and a port as programs get them; see docs/json.md
 *
 * Each name is always there: what is not known is null. */
#include "client/node_json.h"

#include <stdlib.h>
#include <string.h>

/* An optional number of record r, under its own name or another. */
#define OPT_UINT(o, p, r, f, key) put_uint(o, key, MSG_HAS(p, r, f), (p)->f)

static void put_uint(struct out *o, const char *key, bool known, uint64_t v)
{
	if (known)
		out_uint(o, key, NULL, v);
	else
		out_null(o, key);
}

static void put_milli(struct out *o, const char *key, bool known, double v)
{
	if (known)
		out_num(o, key, NULL, v / 1000);
	else
		out_null(o, key);
}

static void put_bool(struct out *o, const char *key, bool known, bool v)
{
	if (known)
		out_bool(o, key, NULL, v);
	else
		out_null(o, key);
}

static void put_time(struct out *o, const char *key, bool known, int64_t v)
{
	if (known)
		out_int(o, key, NULL, v);
	else
		out_null(o, key);
}

static void process_json(struct out *o, const struct rec_gpu_proc *p)
{
	out_start(o, NULL, OUT_ROW);
	out_uint(o, "pid", NULL, p->pid);
	OPT_UINT(o, p, gpu_proc, uid, "uid");
	out_str(o, "user", NULL, p->user);
	out_str(o, "name", NULL, p->name);
	OPT_UINT(o, p, gpu_proc, mem, "mem");
	OPT_UINT(o, p, gpu_proc, job, "job");
	out_end(o);
}

void gpu_json(struct out *o, const struct rec_gpu *g)
{
	out_uint(o, "index", NULL, g->index);
	out_str(o, "uuid", NULL, g->uuid);
	out_str(o, "name", NULL, g->name);
	out_str(o, "pci", NULL, g->pci);
	OPT_UINT(o, g, gpu, numa, "numa");
	OPT_UINT(o, g, gpu, mem_total, "mem_total");
	OPT_UINT(o, g, gpu, mem_used, "mem_used");
	OPT_UINT(o, g, gpu, temp_c, "temp_c");
	put_milli(o, "power_w", MSG_HAS(g, gpu, power_mw), g->power_mw);
	put_milli(o, "power_limit_w", MSG_HAS(g, gpu, power_limit_mw), g->power_limit_mw);
	OPT_UINT(o, g, gpu, util, "util");
	OPT_UINT(o, g, gpu, ecc_corrected, "ecc_corrected");
	OPT_UINT(o, g, gpu, ecc_uncorrected, "ecc_uncorrected");
	OPT_UINT(o, g, gpu, xids, "xids");
	OPT_UINT(o, g, gpu, xid, "xid");
	put_time(o, "xid_ms", MSG_HAS(g, gpu, xid_wall_ms), g->xid_wall_ms);
	OPT_UINT(o, g, gpu, job, "job");
	out_bool(o, "shared_out", NULL, g->shared_out);
	out_str(o, "text", NULL, g->text);
	out_str(o, "note", NULL, g->note);
	if (g->procs_unknown) {
		out_null(o, "processes");
		return;
	}
	out_start(o, "processes", OUT_TABLE);
	for (size_t i = 0; i < g->n_procs; i++)
		process_json(o, &g->procs[i]);
	out_end(o);
}

void port_json(struct out *o, const struct rec_port *p)
{
	out_str(o, "device", NULL, p->device);
	out_uint(o, "port", NULL, p->port);
	out_str(o, "state", NULL, p->state);
	out_str(o, "phys_state", NULL, p->phys_state);
	put_milli(o, "rate", MSG_HAS(p, port, rate_mbps), p->rate_mbps);
	OPT_UINT(o, p, port, lanes, "lanes");
	out_str(o, "speed", NULL, p->speed);
	OPT_UINT(o, p, port, lid, "lid");
	OPT_UINT(o, p, port, sm_lid, "sm_lid");
	out_str(o, "link_layer", NULL, p->link_layer);
	out_str(o, "gid", NULL, p->gid);
	OPT_UINT(o, p, port, gids, "gids");
	out_str(o, "fw", NULL, p->fw);
	out_str(o, "board", NULL, p->board);
	out_str(o, "pci", NULL, p->pci);
	out_str(o, "netdev", NULL, p->netdev);
	OPT_UINT(o, p, port, numa, "numa");
	OPT_UINT(o, p, port, mtu, "mtu");
	put_time(o, "since_ms", MSG_HAS(p, port, since_wall_ms), p->since_wall_ms);
	out_bool(o, "excluded", NULL, p->excluded);
	out_str(o, "text", NULL, p->text);
}

/* ---- a node -------------------------------------------------------------- */

static bool source_ok(const struct rec_node_info *n, const char *name)
{
	for (size_t i = 0; i < n->n_sources; i++)
		if (strcmp(n->sources[i].name, name) == 0)
			return n->sources[i].ok;
	return false;
}

/* An empty list has no place on the wire: there are none if whoever would know
 * could be asked, or if none are counted. */
static bool gpus_known(const struct rec_node_info *n)
{
	return n->n_gpu_list || source_ok(n, "nvml") || (MSG_HAS(n, node_info, gpus) && !n->gpus);
}

static bool ports_known(const struct rec_node_info *n)
{
	return n->n_port_list || source_ok(n, "verbs") || source_ok(n, "sysfs") ||
	       (MSG_HAS(n, node_info, ports) && !n->ports);
}

static void lists_json(struct out *o, const struct rec_node_info *n)
{
	if (!gpus_known(n)) {
		out_null(o, "gpus");
	} else {
		out_start(o, "gpus", OUT_TABLE);
		for (size_t i = 0; i < n->n_gpu_list; i++) {
			out_start(o, NULL, OUT_ROW);
			gpu_json(o, &n->gpu_list[i]);
			out_end(o);
		}
		out_end(o);
	}
	if (!ports_known(n)) {
		out_null(o, "ports");
	} else {
		out_start(o, "ports", OUT_TABLE);
		for (size_t i = 0; i < n->n_port_list; i++) {
			out_start(o, NULL, OUT_ROW);
			port_json(o, &n->port_list[i]);
			out_end(o);
		}
		out_end(o);
	}
}

static void host_json(struct out *o, const struct rec_node_info *n)
{
	const struct rec_host *h = n->host;

	if (!n->n_host) {
		out_null(o, "host");
		return;
	}
	out_start(o, "host", OUT_OBJECT);
	OPT_UINT(o, h, host, cpus, "cpus");
	OPT_UINT(o, h, host, numa_nodes, "numa_nodes");
	OPT_UINT(o, h, host, mem_total, "mem_total");
	OPT_UINT(o, h, host, mem_available, "mem_available");
	put_bool(o, "clock_synced", MSG_HAS(h, host, clock_synced), h->clock_synced);
	put_milli(o, "clock_error_ms", MSG_HAS(h, host, clock_error_us), (double)h->clock_error_us);
	out_end(o);
}

static void sources_json(struct out *o, const struct rec_node_info *n)
{
	out_start(o, "sources", OUT_TABLE);
	for (size_t i = 0; i < n->n_sources; i++) {
		const struct rec_source *s = &n->sources[i];

		out_start(o, NULL, OUT_ROW);
		out_str(o, "name", NULL, s->name);
		out_bool(o, "ok", NULL, s->ok);
		out_str(o, "text", NULL, s->text);
		put_milli(o, "age_s", MSG_HAS(s, source, age_ms), (double)s->age_ms);
		out_end(o);
	}
	out_end(o);
}

static void attention_json(struct out *o, const struct rec_node_info *n)
{
	out_start(o, "attention", OUT_TABLE);
	for (size_t i = 0; i < n->n_attention; i++) {
		const struct rec_attention *a = &n->attention[i];

		out_start(o, NULL, OUT_ROW);
		out_str(o, "severity", NULL, a->severity);
		out_str(o, "subject", NULL, a->subject);
		out_str(o, "text", NULL, a->text);
		out_str(o, "fix", NULL, a->fix);
		out_str(o, "brief", NULL, a->brief);
		put_time(o, "since_ms", MSG_HAS(a, attention, since_wall_ms), a->since_wall_ms);
		out_end(o);
	}
	out_end(o);
}

static void topology_json(struct out *o, const struct rec_node_info *n)
{
	out_start(o, "topology", OUT_TABLE);
	for (size_t i = 0; i < n->n_topology; i++) {
		out_start(o, NULL, OUT_ROW);
		out_str(o, "a", NULL, n->topology[i].a);
		out_str(o, "b", NULL, n->topology[i].b);
		out_str(o, "how", NULL, n->topology[i].how);
		out_end(o);
	}
	out_end(o);
	out_start(o, "numa", OUT_TABLE);
	for (size_t i = 0; i < n->n_numa; i++) {
		out_start(o, NULL, OUT_ROW);
		out_uint(o, "numa", NULL, n->numa[i].numa);
		out_str(o, "cpus", NULL, n->numa[i].cpus);
		OPT_UINT(o, &n->numa[i], numa, mem, "mem");
		out_end(o);
	}
	out_end(o);
}

static void counts_json(struct out *o, const struct rec_node_info *n)
{
	OPT_UINT(o, n, node_info, gpus, "gpus_total");
	OPT_UINT(o, n, node_info, gpus_busy, "gpus_busy");
	OPT_UINT(o, n, node_info, ports, "ports_total");
	OPT_UINT(o, n, node_info, ports_active, "ports_active");
	put_milli(o, "skew_ms", n->skew_ref || MSG_HAS(n, node_info, skew_us), (double)n->skew_us);
	put_milli(o, "skew_error_ms", MSG_HAS(n, node_info, skew_error_us), (double)n->skew_error_us);
	out_bool(o, "skew_ref", NULL, n->skew_ref);
	put_bool(o, "skew_bad", MSG_HAS(n, node_info, skew_bad), n->skew_bad);
	put_bool(o, "clock_synced", MSG_HAS(n, node_info, clock_synced), n->clock_synced);
}

void node_json(struct out *o, const struct rec_node_info *n, bool topology)
{
	out_str(o, "name", NULL, n->name);
	out_str(o, "state", NULL, n->state);
	out_nums(o, "jobs", NULL, n->job_ids, n->n_job_ids);
	put_uint(o, "job", n->n_job_ids, n->n_job_ids ? strtoull(n->job_ids[0], NULL, 10) : 0);
	put_uint(o, "age_s", MSG_HAS(n, node_info, age_ms), n->age_ms / 1000);
	out_str(o, "note", NULL, n->note ? n->note : "");
	out_str(o, "brief", NULL, n->brief);
	put_time(o, "brief_since_ms", MSG_HAS(n, node_info, brief_since_wall_ms), n->brief_since_wall_ms);
	out_str(o, "cordon", NULL, n->cordon);
	out_bool(o, "drained", NULL, n->drained);
	out_str(o, "cordon_by", NULL, n->cordon_by);
	put_time(o, "cordon_since_ms", MSG_HAS(n, node_info, cordon_since_wall_ms), n->cordon_since_wall_ms);
	put_uint(o, "cpus", n->cpus, n->cpus);
	out_str(o, "address", NULL, n->address);
	out_str(o, "software", NULL, n->software);
	out_str(o, "boot_id", NULL, n->boot_id);
	out_bool(o, "submit", NULL, n->submit);
	counts_json(o, n);
	attention_json(o, n);
	lists_json(o, n);
	host_json(o, n);
	sources_json(o, n);
	if (topology)
		topology_json(o, n);
}
