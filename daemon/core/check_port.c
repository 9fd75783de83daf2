/* check_port.c - ports of RDMA devices. States and their meaning: the InfiniBand
 * architecture's port state machine, as libibverbs and ibstat name it. */
#include "core/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IB "InfiniBand"
#define ETHERNET "Ethernet"

/* A row speaks for a link layer, a state and a physical state; NULL: any. */
struct port_row {
	const char *layer, *state, *phys;
	const char *severity, *is, *text, *fix;
};

#define NO_LINK "ip link set NETDEV up; then look at the cable and the switch port; if it is not meant to be used, list it in " \
		"[agent] exclude_ports"

static const struct port_row port_rows[] = {
	{ IB, "Initializing", "LinkUp", "bad", "Initializing",
	  "Initializing: the cable is up, but no subnet manager has configured the port. Other "
	  "ports stay Active without one, so it may be down for all, or this port alone is left out",
	  "see whether opensm runs where it should (systemctl status opensm, on a host or the "
	  "switch); restart it, and enable it for the next boot" },
	{ IB, "Initializing", NULL, "bad", "Initializing",
	  "Initializing: the link is coming up and no subnet manager has configured it yet",
	  "if it stays so for a minute, look at the cable first, then at opensm" },
	{ IB, "Armed", NULL, "warn", "Armed",
	  "Armed: a subnet manager has configured it but has not activated it; for more than a few "
	  "seconds that is the manager's trouble",
	  "restart the subnet manager (opensm) and read its log" },
	{ IB, "Down", "Disabled", "bad", "Down/Disabled", "Down/Disabled: somebody has switched this port off",
	  "switch it on: ibportstate -C DEVICE -D 0 PORT enable" },
	/* of Ethernet drivers say so whenever there is no carrier, too (mlx5_query_port_roce(), bnxt_re_query_port()) */
	{ ETHERNET, "Down", "Disabled", "warn", "Down/Disabled",
	  "Down/Disabled: this RoCE port has no link: its interface is switched off, or it has no cable", NO_LINK },
	{ IB, "ActiveDefer", NULL, "warn", "ActiveDefer",
	  "ActiveDefer: it keeps its address, but the link makes errors and trains again; nothing is "
	  "sent meanwhile",
	  "if it stays so or comes again, replace the cable or transceiver" },
	{ NULL, "Down", "Polling", "warn", "Down/Polling",
	  "Down/Polling: it finds no partner; no cable, a bad one, or the other end is off",
	  "reseat the cable or try another switch port; if the port is not meant to be used, list "
	  "the device in [agent] exclude_ports" },
	{ NULL, "Down", "Sleep", "warn", "Down/Sleep", "Down/Sleep: the port is asleep",
	  "reload the driver or reboot; if it is not meant to be used, list it in [agent] exclude_ports" },
	{ NULL, "Down", "Training", "warn", "Down/Training",
	  "Down/Training: the two ends cannot agree on speed and width",
	  "reseat or replace the cable; compare the two ends' firmware" },
	{ NULL, NULL, "LinkErrorRecovery", "bad", "LinkErrorRecovery",
	  "LinkErrorRecovery: the link makes so many errors that it trains again",
	  "replace the cable or transceiver" },
	{ NULL, NULL, "PhyTest", "warn", "PhyTest", "PhyTest: the port is in a test mode", "reboot the host" },
	{ ETHERNET, "Down", NULL, "warn", "Down", "Down: the Ethernet link of this RoCE port is down", NO_LINK },
	{ NULL, "Down", NULL, "bad", "Down", "Down", "look at the cable and the switch port" },
};

static bool matches(const char *wanted, const char *is)
{
	return wanted == NULL || (is != NULL && strcmp(wanted, is) == 0);
}

/* What stands in a remedy for a thing of this port, or NULL. */
static const char *stand_in(struct arena *a, const char *at, const struct rec_port *p, size_t *ret_len)
{
	static const char *const words[] = { "DEVICE", "NETDEV", "PORT" };
	size_t i = 0;

	while (i < 3 && strncmp(at, words[i], strlen(words[i])) != 0)
		i++;
	if (i == 3)
		return NULL;
	*ret_len = strlen(words[i]);
	if (i == 0)
		return p->device;
	if (i == 1 && p->netdev != NULL)
		return p->netdev;
	return i == 1 ? "DEV" : arena_printf(a, "%u", p->port);
}

/* A remedy with this port's own names; the interface, where it is not known, is
 * DEV, and how to find it. */
static const char *fill_in(struct arena *a, const char *text, const struct rec_port *p)
{
	bool lookup = p->netdev == NULL && strstr(text, "NETDEV") != NULL;
	char out[256]; /* as long as a remedy may be */
	size_t n = 0, word;

	for (const char *at = text; *at != '\0' && n < sizeof(out) - 1;) {
		const char *with = stand_in(a, at, p, &word);

		if (with == NULL) {
			out[n++] = *at++;
			continue;
		}
		snprintf(out + n, sizeof(out) - n, "%s", with);
		n += strlen(out + n);
		at += word;
	}
	out[n] = '\0';
	if (lookup)
		snprintf(out + n, sizeof(out) - n, " (rdma link names its DEV)");
	return arena_strdup(a, out);
}

/* ---- state and addresses ------------------------------------------------------------ */

/* What it was like while it was Active; NULL: it never was. */
static const struct port_base *base_of(const struct check_at *at)
{
	for (size_t i = 0; i < at->in->n_bases; i++)
		if (at->in->bases[i].port == at->port->port && strcmp(at->in->bases[i].device, at->port->device) == 0)
			return &at->in->bases[i];
	return NULL;
}

/* Old ports stay Active without a manager; of several nodes it is not the port. */
static const char *no_manager(const struct check_at *at)
{
	uint32_t n = at->in->peers != NULL ? at->in->peers->nodes_init : 0;

	if (n < 2)
		return NULL;
	return arena_printf(at->a, "Initializing: the cable is up, but no subnet manager has configured the port. "
			    "Ports of %u nodes are so: the subnet manager is down, or their switch is cut off "
			    "from it; ports that are Active stay so without one", n);
}

/* Hosts have ports that nobody uses, the second one of a card first of all. One that was Active is used. */
static bool went_down(const struct check_at *at)
{
	return strcmp(at->port->state, "Down") == 0 && base_of(at) != NULL;
}

#define RAIL_NODES 3 /* whose port of one name went down: no coincidence of cables */

/* It was good. Where others of its name went down, too, they have in common what they are plugged into; but a
 * port that was switched off is somebody's doing. (RoCE ports without a link are called so whatever it is.) */
static void say_went_down(const struct check_at *at, const struct port_row *r, struct check_is *is)
{
	bool off = is->verdict == CHECK_BAD && strcmp(r->is, "Down/Disabled") == 0;
	struct tally_view v = { 0 };
	char name[66];

	if (at->in->peers != NULL && !off)
		tally_look(at->in->peers, TALLY_WENT, tally_port_name(at->port, name), "1", &v);
	if (v.n_same >= RAIL_NODES)
		check_say(is, CHECK_BAD, r->is, arena_printf(at->a, "%s; it was Active before. %.50s of %u nodes went down: it is their switch, most likely, and not "
			  "a cable", r->text, at->port->device, v.n_same), "look at the switch of these ports (power, its log) before cables are moved");
	else if (is->verdict == CHECK_WARN)
		check_say(is, CHECK_BAD, r->is, arena_printf(at->a, "%s; it was Active before", r->text), is->fix);
}

/* "0000:17:00" of "0000:17:00.1" */
static bool same_card(const struct rec_port *p, const struct rec_port *q)
{
	size_t n = p->pci != NULL ? strcspn(p->pci, ".") : 0;

	if (strcmp(p->device, q->device) == 0)
		return true;
	return n > 0 && q->pci != NULL && strcspn(q->pci, ".") == n && strncmp(p->pci, q->pci, n) == 0;
}

/* The second port of a card whose first one is used, or a card unlike those that are. One of eight rails is neither. */
static bool may_be_spare(const struct check_at *at)
{
	const struct rec_port *p = at->port;
	bool any = false, model = false;

	for (size_t i = 0; i < at->r->n_ports; i++) {
		const struct rec_port *q = &at->r->ports[i];

		if (q->excluded || !check_is_active(q))
			continue;
		if (same_card(p, q))
			return true;
		any = true;
		model = model || p->board == NULL || q->board == NULL || strcmp(p->board, q->board) == 0;
	}
	return any && !model;
}

#define SPARE_NODES 3 /* of two nodes both may have the same fault */

/* Nobody uses it, on purpose: it never was Active, and on most nodes it is down like here. */
static bool is_spare(const struct check_at *at, struct tally_view *ret)
{
	char name[66];

	if (strcmp(at->port->state, "Down") != 0 || base_of(at) != NULL || at->in->peers == NULL || at->r == NULL)
		return false;
	tally_look(at->in->peers, TALLY_DOWN, tally_port_name(at->port, name), "1", ret);
	return ret->n_all >= SPARE_NODES && ret->most != NULL && strcmp(ret->most, "1") == 0 && may_be_spare(at);
}

void check_port_state(const struct check_at *at, struct check_is *is)
{
	struct tally_view v;
	const struct rec_port *p = at->port;
	const char *layer = check_is_ethernet(p) ? ETHERNET : check_is_infiniband(p) ? IB : "";

	if (p->excluded) {
		is->verdict = CHECK_SKIP;
		return;
	}
	if (p->state == NULL) {
		/* the check is unknown, and that nobody can know it is a warning */
		check_say(is, CHECK_WARN, "not readable",
			  arena_printf(at->a, "its state is not known: %.200s", p->text != NULL ? p->text : "not read"), NULL);
		return;
	}
	is->reading = arena_printf(at->a, "%s%s%s", p->state, p->phys_state != NULL ? "/" : "",
				   p->phys_state != NULL ? p->phys_state : "");
	is->verdict = CHECK_OK;
	if (check_is_active(p) && (p->phys_state == NULL || strcmp(p->phys_state, "LinkUp") == 0))
		return;
	if (is_spare(at, &v)) {
		is->reading = arena_printf(at->a, "%s; so is it on %u of %u nodes, and it never was Active: nobody uses it", is->reading, v.n_most, v.n_all);
		return;
	}
	for (size_t i = 0; i < sizeof(port_rows) / sizeof(port_rows[0]); i++) {
		const struct port_row *r = &port_rows[i];

		if (!matches(r->layer, layer) || !matches(r->state, p->state) ||
		    !matches(r->phys, p->phys_state))
			continue;
		check_say(is, strcmp(r->severity, "bad") == 0 ? CHECK_BAD : CHECK_WARN, r->is, r->text, fill_in(at->a, r->fix, p));
		if (i == 0 && no_manager(at) != NULL)
			is->text = no_manager(at);
		if (went_down(at))
			say_went_down(at, r, is);
		return;
	}
}

/* Only an Active port of InfiniBand has to have what the manager gives. */
static bool configured(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;

	if (p->excluded || !check_is_infiniband(p))
		is->verdict = CHECK_SKIP;
	else if (p->state == NULL)
		is->reading = "the port's state is not known";
	else if (!check_is_active(p))
		is->reading = "the port is not Active";
	else
		return true;
	return false;
}

/* Active, and yet never configured: RoCE ports have no LID, that is right. */
void check_port_lid(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;
	bool no_lid = MSG_HAS(p, port, lid) && (p->lid == 0 || p->lid == 0xffff);
	bool no_sm = MSG_HAS(p, port, sm_lid) && p->sm_lid == 0;

	if (!configured(at, is))
		return;
	if (no_lid || no_sm)
		check_say(is, CHECK_BAD, no_lid ? "without LID" : "without SM",
			  no_lid ? "Active without a LID: no subnet manager has given it an address"
				 : "Active, but it knows no subnet manager (SM LID 0)",
			  "restart the subnet manager (opensm) and see whether the LID comes");
	else if (MSG_HAS(p, port, lid) && MSG_HAS(p, port, sm_lid))
		check_ok(is, arena_printf(at->a, "LID %u, SM LID %u", p->lid, p->sm_lid));
	else
		is->reading = "not read";
}

void check_port_pkey(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;
	struct tally_view v = { 0 };
	char value[16];

	if (!configured(at, is))
		return;
	if (!MSG_HAS(p, port, pkey)) {
		is->reading = "not read";
		return;
	}
	is->reading = arena_printf(at->a, "0x%04x, %u in use", p->pkey, p->pkeys);
	is->verdict = CHECK_OK;
	snprintf(value, sizeof(value), "%u", p->pkey & 0x7fff);
	if (at->in->peers != NULL)
		tally_look(at->in->peers, TALLY_PKEY, "", value, &v);
	if ((p->pkey & 0x7fff) == 0)
		check_say(is, CHECK_WARN, "without partition", "its first partition key is empty: it belongs to no partition",
			  "look at the subnet manager's partitions.conf");
	else if (!(p->pkey & 0x8000) && p->pkeys <= 1)
		check_say(is, CHECK_WARN, "a limited member",
			  arena_printf(at->a, "it is a limited member of its only partition (0x%04x): limited members do not hear each other", p->pkey),
			  "look at the subnet manager's partitions.conf: nodes that train together need full membership (=full)");
	else if (v.most != NULL && v.n_same < v.n_most)
		check_say(is, CHECK_WARN, "in another partition",
			  arena_printf(at->a, "its partition is 0x%04x, that of %u of %u ports 0x%04x: they do not hear each "
				       "other", p->pkey & 0x7fff, v.n_most, v.n_all, (unsigned)strtoul(v.most, NULL, 10)),
			  "look at the subnet manager's partitions.conf; or set NCCL_IB_PKEY for jobs");
}

/* A manager that is exchanged tells its LID to one port after another, and ports are read one after another. */
void check_port_sm(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;
	struct tally_view v = { 0 };
	char value[16];

	if (!configured(at, is))
		return;
	if (!MSG_HAS(p, port, sm_lid) || p->sm_lid == 0) {
		is->reading = "not known";
		return;
	}
	check_ok(is, arena_printf(at->a, "SM LID %u", p->sm_lid));
	snprintf(value, sizeof(value), "%u", p->sm_lid);
	if (at->in->peers == NULL || at->in->sm_moves)
		return;
	tally_look(at->in->peers, TALLY_SM, p->device, value, &v);
	if (v.most != NULL && v.n_same < v.n_most)
		check_say(is, CHECK_WARN, "with another SM",
			  arena_printf(at->a, "it obeys the subnet manager at SM LID %u, %u of %u ports of this name the one at SM LID %.10s: it was left "
				       "out of a handover, or it is in another fabric", p->sm_lid, v.n_most, v.n_all, v.most),
			  "sminfo on both nodes; look where the cable goes (ibnetdiscover)");
}

void check_port_gids(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;

	if (p->excluded)
		is->verdict = CHECK_SKIP;
	else if (!MSG_HAS(p, port, gids))
		is->reading = "not read";
	else if (!check_is_active(p))
		is->reading = "the port is not Active";
	else if (p->gids == 0)
		check_say(is, CHECK_WARN, "without GID", check_is_ethernet(p) ?
			  "its GID table is empty: RoCE has no address" :
			  "its GID table is empty", check_is_ethernet(p) ? "give its interface an IP address" :
			  "restart the subnet manager (opensm)");
	else
		check_ok(is, arena_printf(at->a, "%u in use", p->gids));
}

/* One node's ports are of one layer, or somebody has set one wrongly (LINK_TYPE of mlxconfig). */
void check_layers(const struct check_at *at, struct check_is *is)
{
	size_t ib = 0, eth = 0, n = at->r != NULL ? at->r->n_ports : 0;

	if (at->r == NULL || !verdict_ports_known(at->r)) {
		is->reading = "not read";
		return;
	}
	/* of one model: a slow Ethernet card beside InfiniBand is usual */
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++) {
			const struct rec_port *p = &at->r->ports[i], *q = &at->r->ports[k];

			if (p->excluded || q->excluded || p->board == NULL || q->board == NULL ||
			    strcmp(p->board, q->board) != 0 || !check_is_ethernet(p) || !check_is_infiniband(q))
				continue;
			ib++;
			eth++;
			is->text = arena_printf(at->a, "%.50s speaks Ethernet and %.50s InfiniBand, and they are of one model (%.60s): "
						"one of them is set wrongly", p->device, q->device, p->board);
		}
	if (ib > 0 && eth > 0) {
		check_say(is, CHECK_WARN, "mixed link layers", is->text,
			  "mlxconfig -d PCI-ADDRESS set LINK_TYPE_P1=1 (InfiniBand) or 2 (Ethernet), then reboot; or list it in "
			  "[agent] exclude_ports");
		is->brief = "mixed link layers";
		return;
	}
	if (n == 0)
		is->verdict = CHECK_SKIP;
	else
		check_ok(is, "ports of one model have one link layer");
}

static bool has_port(const struct rec_readings *r, const struct port_base *b)
{
	for (size_t i = 0; i < r->n_ports; i++)
		if (r->ports[i].port == b->port && strcmp(r->ports[i].device, b->device) == 0)
			return true;
	return false;
}

/* RoCE ports of one adapter that are bonded are one device, "mlx5_bond_0", in the adapter's slot: nothing is gone. */
static bool is_bonded(const struct rec_readings *r, const struct port_base *b)
{
	const char *dot = strrchr(b->pci, '.');

	for (size_t i = 0; dot != NULL && i < r->n_ports; i++) {
		const struct rec_port *p = &r->ports[i];

		if (p->pci != NULL && strstr(p->device, "_bond_") != NULL && strncmp(p->pci, b->pci, (size_t)(dot - b->pci) + 1) == 0)
			return true;
	}
	return false;
}

/* The first that was Active and is not listed any more; renamed ones are not missed while there are as many. */
static const struct port_base *missed(const struct check_at *at)
{
	const struct port_base *gone = NULL;
	size_t bonded = 0;

	for (size_t i = at->in->n_bases; i-- > 0;) {
		const struct port_base *b = &at->in->bases[i];

		if (has_port(at->r, b))
			continue;
		if (is_bonded(at->r, b))
			bonded++;
		else
			gone = b;
	}
	return at->r->n_ports + bonded < at->in->n_bases ? gone : NULL;
}

void check_ports_count(const struct check_at *at, struct check_is *is)
{
	const struct port_base *gone = at->r != NULL ? missed(at) : NULL;
	size_t n = at->r != NULL ? at->r->n_ports : 0;
	const char *now = n > 0 ? arena_printf(at->a, "%zu RDMA port%s", n, n == 1 ? "" : "s") : "no RDMA port";
	struct tally_view v = { 0 };
	char make[66];
	unsigned most;

	if (at->r == NULL || (n == 0 && !verdict_ports_known(at->r) && !verdict_is_absent(at->r))) {
		is->reading = "not read";
		return;
	}
	if (at->in->peers != NULL)
		tally_look(at->in->peers, TALLY_PORTS, tally_make(at->r, make), NULL, &v);
	most = v.most != NULL ? (unsigned)strtoul(v.most, NULL, 10) : 0;
	check_ok(is, now);
	if (gone != NULL) {
		is->brief = arena_printf(at->a, "%.40s is gone", gone->device);
		check_say(is, CHECK_BAD, "port gone",
			  arena_printf(at->a, "%.50s was Active and is not there any more: it has %s, and had %zu", gone->device, now, at->in->n_bases),
			  arena_printf(at->a, "lspci, and dmesg | grep -i mlx5; modprobe mlx5_ib, reboot, or reseat the adapter. If it was taken out: "
				       "nodectl resume %.64s", at->in->node));
	} else if (n > 0 && n < most) {
		is->brief = arena_printf(at->a, "%zu ports of %u", n, most);
		check_say(is, CHECK_WARN, "port count",
			  arena_printf(at->a, "it has %s, %u of %u nodes of its make have %u", now, v.n_most, v.n_all, most),
			  "lspci, and dmesg | grep -i mlx5; an adapter that is missing needs a reboot, or to be reseated");
	} else if (n == 0) {
		is->verdict = CHECK_SKIP; /* a node without RDMA */
	}
}

/* ---- rate and width ------------------------------------------------------------------- */

/* A port that is down has no rate, and a kernel that does not know its speed
 * says 10 Gb/s of any: it says so of all, so they are equal. */
static bool has_rate(const struct check_at *at, struct check_is *is, bool known)
{
	if (at->port->excluded)
		is->verdict = CHECK_SKIP;
	else if (!check_is_active(at->port))
		is->reading = "the port is not Active";
	else if (!known)
		is->reading = "not read";
	else
		return true;
	return false;
}

/* It is so on most nodes: a port for storage, at a slower switch. At half the lanes it may be a split cable. */
static const char *meant_so(const struct check_at *at, enum tally_kind kind, const char *value)
{
	struct tally_view v;
	char name[66];

	tally_look(at->in->peers, kind, tally_port_name(at->port, name), value, &v);
	if (v.n_all > 1 && v.most != NULL && v.n_same == v.n_most)
		return arena_printf(at->a, "; so is it on %u of %u nodes: it may be meant for a slower switch", v.n_most, v.n_all);
	return at->port->lanes == 2 ? "; two lanes are right on a split cable" : NULL;
}

/* Compared with its like, and with itself in better times. */
static void compare(const struct check_at *at, enum tally_kind kind, uint32_t value, uint32_t before,
		    const char *(*show)(struct arena *a, uint32_t v), struct check_is *is)
{
	const char *model = tally_port_model(at->port);
	struct tally_view v = { 0 };
	char text[16];
	uint32_t most;

	snprintf(text, sizeof(text), "%u", value);
	if (at->in->peers != NULL && *model != '\0')
		tally_look(at->in->peers, kind, model, text, &v);
	most = v.most != NULL ? (uint32_t)strtoul(v.most, NULL, 10) : 0;
	if (before > value) {
		check_say(is, CHECK_BAD, "slower than before",
			  arena_printf(at->a, "%s, and it was at %s before: the link has trained down", show(at->a, value),
				       show(at->a, before)),
			  "reseat or replace the cable or transceiver, or try another switch port");
	} else if (most > value && v.n_same < v.n_most) {
		const char *excuse = meant_so(at, kind, text);

		check_say(is, excuse != NULL ? CHECK_WARN : CHECK_BAD, "slower than its peers",
			  arena_printf(at->a, "%s, %u of %u ports of its model are at %s%s", show(at->a, value), v.n_most, v.n_all,
				       show(at->a, most), excuse != NULL ? excuse : ""),
			  "reseat the cable, or try another switch port; a split cable or a slower switch port is meant to be so");
	} else if (v.n_all > 1 || before != 0) {
		is->verdict = CHECK_OK;
	}
}

static const char *show_rate(struct arena *a, uint32_t mbps)
{
	return arena_printf(a, mbps % 1000 ? "%.1f Gb/s" : "%.0f Gb/s", mbps / 1000.0);
}

static const char *show_lanes(struct arena *a, uint32_t lanes)
{
	return arena_printf(a, "%uX", lanes);
}

void check_port_rate(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;
	const struct port_base *b = base_of(at);

	if (!has_rate(at, is, MSG_HAS(p, port, rate_mbps)))
		return;
	is->reading = arena_printf(at->a, "%s%s%s", show_rate(at->a, p->rate_mbps), p->speed != NULL ? " " : "",
				   p->speed != NULL ? p->speed : "");
	compare(at, TALLY_RATE, p->rate_mbps, b != NULL ? b->rate_mbps : 0, show_rate, is);
	if (is->verdict == CHECK_UNKNOWN)
		is->reading = arena_printf(at->a, "%s; there is nothing to compare it with", is->reading);
}

/* What the rate says already is not said twice. */
void check_port_width(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;
	const struct port_base *b = base_of(at);

	if (!has_rate(at, is, MSG_HAS(p, port, lanes)))
		return;
	is->reading = show_lanes(at->a, p->lanes);
	compare(at, TALLY_LANES, p->lanes, b != NULL ? b->lanes : 0, show_lanes, is);
	if (is->verdict == CHECK_UNKNOWN)
		is->reading = arena_printf(at->a, "%s; there is nothing to compare it with", is->reading);
	is->untold = MSG_HAS(p, port, rate_mbps);
}

void check_port_firmware(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;
	const char *model = tally_port_model(p);
	struct tally_view v = { 0 };

	if (p->excluded) {
		is->verdict = CHECK_SKIP;
		return;
	}
	if (p->fw == NULL || *model == '\0') {
		is->reading = "not read";
		return;
	}
	is->reading = p->fw;
	if (at->in->peers != NULL)
		tally_look(at->in->peers, TALLY_FIRMWARE, model, p->fw, &v);
	if (v.most == NULL && v.n_all > v.n_same)
		check_say(is, CHECK_WARN, "of differing firmware",
			  arena_printf(at->a, "firmware %.60s, and ports of its model (%.60s) have several others", p->fw, model),
			  "bring all adapters to one firmware (mlxfwmanager); NCCL over unlike ones is where odd faults come from");
	else if (v.most != NULL && v.n_same < v.n_most)
		check_say(is, CHECK_WARN, "of other firmware",
			  arena_printf(at->a, "firmware %.60s, %u of %u ports of its model (%.60s) have %.60s", p->fw, v.n_most,
				       v.n_all, model, v.most),
			  "bring all adapters to one firmware (mlxfwmanager)");
	else if (v.n_all > 0)
		is->verdict = CHECK_OK;
}

/* ---- counters ------------------------------------------------------------------------- */

static const struct rec_counter *counter_of(const struct rec_port *p, const char *name)
{
	for (size_t i = 0; i < p->n_counters; i++)
		if (strcmp(p->counters[i].name, name) == 0)
			return &p->counters[i];
	return NULL;
}

static const char *window(struct arena *a, uint32_t s)
{
	if (s >= 3600)
		return "hour";
	return s >= 120 ? arena_printf(a, "%u min", s / 60) : arena_printf(a, "%u s", s);
}

static bool grew(const struct rec_port *p, const char *name)
{
	const struct rec_counter *x = counter_of(p, name);

	return x != NULL && x->delta > 0;
}

/* With adaptive routing, usual since NDR, packets come out of order by the million. Lost ones are missed elsewhere, too. */
static bool is_routing(const struct check *c, const struct rec_port *p)
{
	return strcmp(c->counter, "out_of_sequence") == 0 && !grew(p, "local_ack_timeout_err") && !grew(p, "port_rcv_errors") &&
	       !grew(p, "port_xmit_discards");
}

void check_port_counter(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;
	const struct check *c = at->check;
	const struct rec_counter *x = counter_of(p, c->counter);
	uint64_t delta = x != NULL ? x->delta : 0;
	const char *over;

	if (p->excluded) {
		is->verdict = CHECK_SKIP;
		return;
	}
	if (!MSG_HAS(p, port, counters_s)) {
		is->reading = p->counters_text != NULL ? p->counters_text : "not read";
		return;
	}
	if (x != NULL && !MSG_HAS(x, counter, value)) {
		is->reading = x->text != NULL ? x->text : "not read";
		return;
	}
	is->untold = strcmp(c->counter, "out_of_sequence") == 0; /* the others tell */
	over = window(at->a, p->counters_s);
	is->reading = arena_printf(at->a, "+%" PRIu64 " in the last %s (%" PRIu64 " in all)", delta, over, x != NULL ? x->value : 0);
	if (is_routing(c, p) && (x == NULL || !x->stuck))
		is->verdict = CHECK_OK;
	else if (c->bad != 0 && delta >= c->bad)
		check_say(is, CHECK_BAD, c->counter,
			  arena_printf(at->a, "%s: %" PRIu64 " in the last %s", c->title, delta, over), c->remedy);
	else if (delta >= c->warn)
		check_say(is, CHECK_WARN, c->counter,
			  arena_printf(at->a, "%s: %" PRIu64 " in the last %s", c->title, delta, over), c->remedy);
	else if (x != NULL && x->stuck)
		check_say(is, CHECK_WARN, c->counter,
			  arena_printf(at->a, "%s: the counter stands at its maximum (%" PRIu64 ") and counts no more, so what comes "
				       "is not seen", c->title, x->value),
			  arena_printf(at->a, "set the counters to 0: perfquery -R -C %.50s -P %u", p->device, p->port));
	else
		is->verdict = CHECK_OK;
}

/* Two sources: state changes that the probe saw, and the hardware's own count. */
void check_port_flap(const struct check_at *at, struct check_is *is)
{
	const struct rec_port *p = at->port;
	const struct rec_counter *x = counter_of(p, "link_downed");
	uint64_t n = MSG_HAS(p, port, losses) ? p->losses : 0;
	bool counted = MSG_HAS(p, port, counters_s) && (x == NULL || MSG_HAS(x, counter, delta));

	if (p->excluded) {
		is->verdict = CHECK_SKIP;
		return;
	}
	if (!MSG_HAS(p, port, losses) && !counted) {
		is->reading = "not read";
		return;
	}
	if (counted && x != NULL && x->delta > n)
		n = x->delta;
	is->reading = arena_printf(at->a, "%" PRIu64 " times down in the last hour", n);
	is->verdict = CHECK_OK;
	if (n >= FLAPS_WARN)
		check_say(is, n >= FLAPS_BAD ? CHECK_BAD : CHECK_WARN, "flapping",
			  arena_printf(at->a, "its link went down %" PRIu64 " times in the last hour: it comes and goes, and each time "
				       "jobs over it break or stall", n),
			  "replace the cable or transceiver, or try another switch port");
}
