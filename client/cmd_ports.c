/* cmd_ports.c - nodectl ports [-w hosts]: the InfiniBand ports, as ibstat names their states */
#include <string.h>

#include "client/devices.h"
#include "client/node_json.h"
#include "client/reading.h"
#include "client/render.h"

static bool active(const struct rec_port *p)
{
	return p->state && strcmp(p->state, "Active") == 0;
}

static bool ethernet(const struct rec_port *p)
{
	return p->link_layer && strcmp(p->link_layer, "Ethernet") == 0;
}

static size_t count(const struct rec_node_info *n)
{
	return n->n_port_list;
}

static void get(const struct rec_node_info *n, size_t i, struct device *ret)
{
	const struct rec_port *p = &n->port_list[i];

	ret->port = p;
	ret->rank = p->excluded || active(p) ? 2 : p->state ? 0 : 1;
}

static int compare(const struct device *a, const struct device *b)
{
	int c = node_name_cmp(a->port->device, b->port->device);

	return c ? c : (int)a->port->port - (int)b->port->port;
}

static void json(struct out *o, const struct device *d)
{
	port_json(o, d->port);
}

/* ---- the table ----------------------------------------------------------- */

/* What anybody knows: a column each. */
struct known {
	bool phys, rate, lid, sm_lid, layer, fw, numa, note;
};

static bool has_note(const struct rec_port *p)
{
	return p->text || p->excluded || (!active(p) && MSG_HAS(p, port, since_wall_ms));
}

static struct known look(const struct devices *d)
{
	struct known k = { 0 };

	for (size_t i = 0; i < d->n; i++) {
		const struct rec_port *p = d->v[i].port;

		k.phys |= p->phys_state != NULL;
		k.rate |= MSG_HAS(p, port, rate_mbps);
		k.lid |= MSG_HAS(p, port, lid);
		k.sm_lid |= MSG_HAS(p, port, sm_lid);
		k.layer |= p->link_layer != NULL;
		k.fw |= p->fw != NULL;
		k.numa |= MSG_HAS(p, port, numa);
		k.note |= has_note(p);
	}
	return k;
}

static void rate_cell(struct out *o, const struct rec_port *p)
{
	struct buf b;

	buf_init(&b);
	reading_rate(&b, p);
	out_cell(o, "RATE", 0, OUT_PLAIN, "%s", buf_str(&b));
	buf_finish(&b);
}

/* Ethernet has no LIDs: RoCE reports 0, which means nothing. */
static void lid_cell(struct out *o, const char *title, unsigned flags, const struct rec_port *p, bool known,
		     uint32_t lid)
{
	if (ethernet(p))
		out_cell(o, title, flags | OUT_RIGHT, OUT_PLAIN, "-");
	else if (known)
		out_cell(o, title, flags | OUT_RIGHT, OUT_PLAIN, "%u", lid);
	else
		out_cell(o, title, flags | OUT_RIGHT, OUT_PLAIN, "?");
}

static void note_cell(struct out *o, const struct devices *d, const struct rec_port *p)
{
	struct buf b;

	buf_init(&b);
	if (p->excluded)
		buf_adds(&b, "excluded, not judged");
	if (!active(p) && MSG_HAS(p, port, since_wall_ms)) {
		buf_adds(&b, b.len ? "; for " : "for ");
		devices_add_age(&b, d, p->since_wall_ms);
	}
	if (p->text)
		buf_addf(&b, "%s%s", b.len ? "; " : "", p->text);
	out_cell(o, "NOTE", OUT_SHRINK, p->excluded ? OUT_DIM : OUT_PLAIN, "%s", buf_str(&b));
	buf_finish(&b);
}

static const char *or_unknown(const char *s)
{
	return s ? s : "?";
}

static void row(struct out *o, const struct devices *d, const struct device *one, const struct known *k)
{
	const struct rec_port *p = one->port;
	enum out_tone tone = !p->state ? OUT_PLAIN : p->excluded ? OUT_DIM : active(p) ? OUT_GOOD : OUT_BAD;

	out_start(o, NULL, OUT_ROW);
	devices_node_cell(o, d, one);
	out_cell(o, "DEVICE", 0, OUT_PLAIN, "%s", p->device);
	out_cell(o, "PORT", OUT_RIGHT, OUT_PLAIN, "%u", p->port);
	out_cell(o, "STATE", 0, tone, "%s", or_unknown(p->state));
	if (k->phys)
		out_cell(o, "PHYS", 0, OUT_PLAIN, "%s", or_unknown(p->phys_state));
	if (k->rate)
		rate_cell(o, p);
	if (k->lid)
		lid_cell(o, "LID", OUT_SPARE, p, MSG_HAS(p, port, lid), p->lid);
	if (k->sm_lid)
		lid_cell(o, "SM_LID", 0, p, MSG_HAS(p, port, sm_lid), p->sm_lid);
	if (k->layer)
		out_cell(o, "LAYER", OUT_SPARE, OUT_PLAIN, "%s", or_unknown(p->link_layer));
	if (k->fw)
		out_cell(o, "FW", OUT_SPARE, OUT_PLAIN, "%s", or_unknown(p->fw));
	if (k->numa)
		devices_numa_cell(o, MSG_HAS(p, port, numa), p->numa);
	if (k->note)
		note_cell(o, d, p);
	out_end(o);
}

static void table(struct out *o, const struct devices *d)
{
	struct known k = look(d);

	out_start(o, "ports", OUT_TABLE);
	for (size_t i = 0; i < d->n; i++)
		row(o, d, &d->v[i], &k);
	out_end(o);
}

const struct device_kind devices_ports = {
	.key = "ports",
	.none = "no ports are known; nodectl node NAME tells what there is to read from",
	.count = count,
	.get = get,
	.compare = compare,
	.table = table,
	.json = json,
};

static int run(struct ctl *c)
{
	return devices_run(c, &devices_ports);
}

const struct command cmd_ports = {
	.verb = "ports",
	.args = "[-w HOSTLIST]",
	.brief = "the InfiniBand ports: state, rate, addresses",
	.help = "Lists the ports of RDMA devices of all nodes, those in trouble first, in the words of ibstat. "
		"Initializing: the cable is up and no subnet manager has configured the port. Down, Polling: there is no "
		"partner at the other end of the cable.",
	.opts = devices_opts,
	.run = run,
};
