/* verdict.c - see verdict.h. States and their meaning: the InfiniBand
 * architecture's port state machine, as libibverbs and ibstat name it. */
#include "core/verdict.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define IB "InfiniBand"
#define ETHERNET "Ethernet"

/* A row speaks for a link layer, a state and a physical state; NULL: any. */
struct port_row {
	const char *layer, *state, *phys;
	const char *severity, *is, *text, *fix;
};

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
	{ ETHERNET, "Down", "Disabled", "bad", "Down/Disabled", "Down/Disabled: somebody has switched this RoCE port off",
	  "switch it on: ip link set NETDEV up" },
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
	{ ETHERNET, "Down", NULL, "bad", "Down", "Down: the Ethernet link of this RoCE port is down",
	  "ip link set NETDEV up; then look at the cable and the switch port" },
	{ NULL, "Down", NULL, "bad", "Down", "Down", "look at the cable and the switch port" },
};

static bool matches(const char *wanted, const char *is)
{
	return wanted == NULL || (is != NULL && strcmp(wanted, is) == 0);
}

/* One verdict; 'what' is the part of the node, NULL: the node itself. */
struct saying {
	const char *severity, *what;
	struct verdict_kind kind;
	const char *brief; /* NULL: what it is, and its kind */
	const char *text, *fix;
};

static void say(struct arena *a, const struct verdict_in *in, struct saying s, struct verdicts *out)
{
	const char *subject = s.what != NULL ? arena_printf(a, "%s %s", in->node, s.what) : in->node;
	const char *brief = s.brief;

	if (brief == NULL)
		brief = s.what != NULL ? arena_printf(a, "%s %s", s.what, s.kind.is) : s.kind.is;
	if (out->n == VERDICTS_MAX || subject == NULL || s.text == NULL)
		return;
	out->kind[out->n] = s.kind;
	out->v[out->n++] = (struct rec_attention){ .severity = s.severity, .subject = subject,
						   .text = s.text, .fix = s.fix, .brief = brief };
}

/* ---- ports ---------------------------------------------------------------------- */

static bool is_ethernet(const struct rec_port *p)
{
	return p->link_layer != NULL && strcmp(p->link_layer, ETHERNET) == 0;
}

/* ActiveDefer is not: it carries nothing. The client's lists of ports have the same rule. */
static bool is_active(const struct rec_port *p)
{
	return p->state != NULL && strcmp(p->state, "Active") == 0;
}

/* A device may have 64 bytes as a node may, a subject 128. */
static const char *port_name(struct arena *a, const struct rec_port *p)
{
	return p->port == 1 ? arena_printf(a, "%.50s", p->device)
			    : arena_printf(a, "%.50s/%u", p->device, p->port);
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

/* Active, and yet never configured: RoCE ports have no LID, that is right. */
static void judge_lids(struct arena *a, const struct verdict_in *in, const struct rec_port *p,
		       struct verdicts *out)
{
	bool no_lid = MSG_HAS(p, port, lid) && (p->lid == 0 || p->lid == 0xffff);
	bool no_sm = MSG_HAS(p, port, sm_lid) && p->sm_lid == 0;

	if (is_ethernet(p) || (!no_lid && !no_sm))
		return;
	say(a, in, (struct saying){
		.severity = "bad", .what = port_name(a, p), .kind = { "port", no_lid ? "without LID" : "without SM" },
		.text = no_lid ? "Active without a LID: no subnet manager has given it an address"
			       : "Active, but it knows no subnet manager (SM LID 0)",
		.fix = "restart the subnet manager (opensm) and see whether the LID comes" }, out);
}

/* When its state changed, by the coordinator's clock; its own may be wrong. */
static void add_since(const struct verdict_in *in, const struct rec_port *p, struct verdicts *out, size_t i)
{
	int64_t ahead_ms = in->has_skew && !in->is_ref ? in->skew_us / 1000 : 0, since;

	if (i < out->n && MSG_HAS(p, port, since_wall_ms) &&
	    !__builtin_sub_overflow(p->since_wall_ms, ahead_ms, &since))
		MSG_SET(&out->v[i], attention, since_wall_ms, since);
}

static void judge_port(struct arena *a, const struct verdict_in *in, const struct rec_port *p,
		       struct verdicts *out)
{
	const char *layer = is_ethernet(p) ? ETHERNET : IB;
	size_t before = out->n;

	if (p->excluded)
		return;
	if (p->state == NULL) {
		say(a, in, (struct saying){
			.severity = "warn", .what = port_name(a, p), .kind = { "port", "not readable" },
			.text = arena_printf(a, "its state is not known: %.200s",
					     p->text != NULL ? p->text : "not read") }, out);
		return;
	}
	if (is_active(p)) {
		judge_lids(a, in, p, out);
		return;
	}
	for (size_t i = 0; i < sizeof(port_rows) / sizeof(port_rows[0]); i++) {
		const struct port_row *r = &port_rows[i];

		if (!matches(r->layer, layer) || !matches(r->state, p->state) ||
		    !matches(r->phys, p->phys_state))
			continue;
		say(a, in, (struct saying){ .severity = r->severity, .what = port_name(a, p),
					    .kind = { "port", r->is }, .text = r->text,
					    .fix = fill_in(a, r->fix, p) }, out);
		add_since(in, p, out, before);
		return;
	}
}

void verdict_count_ports(const struct rec_readings *r, uint32_t *ret_all, uint32_t *ret_active)
{
	*ret_all = *ret_active = 0;
	for (size_t i = 0; i < r->n_ports; i++) {
		*ret_all += !r->ports[i].excluded;
		*ret_active += !r->ports[i].excluded && is_active(&r->ports[i]);
	}
}

static bool is_of_ports(const struct rec_source *s)
{
	return strcmp(s->name, "verbs") == 0 || strcmp(s->name, "sysfs") == 0;
}

bool verdict_ports_known(const struct rec_readings *r)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if (is_of_ports(&r->sources[i]) && r->sources[i].ok)
			return true;
	return false;
}

/* ---- GPUs -------------------------------------------------------------------------- */

static void judge_strangers(struct arena *a, const struct verdict_in *in, const struct rec_gpu *g,
			    struct verdicts *out)
{
	char who[300] = "";
	size_t len = 0;

	if (g->procs_unknown) {
		say(a, in, (struct saying){
			.severity = "warn", .what = arena_printf(a, "GPU %u", g->index),
			.kind = { "GPU", "of unknown use" },
			.text = "the driver does not tell which processes use it; it is not given out",
			.fix = "see that nobody uses it, and launch with --busy-gpus" }, out);
		return;
	}
	if (g->index >= 64 || !(in->strange_gpus >> g->index & 1))
		return;
	for (size_t i = 0; i < g->n_procs && len < 200; i++) {
		const struct rec_gpu_proc *p = &g->procs[i];

		len += (size_t)snprintf(who + len, sizeof(who) - len, "%s%.32s (pid %u%s%.32s)",
					len ? ", " : "", p->name != NULL ? p->name : "a process",
					p->pid, p->user != NULL ? " of " : "",
					p->user != NULL ? p->user : "");
	}
	say(a, in, (struct saying){
		.severity = "warn", .what = arena_printf(a, "GPU %u", g->index),
		.kind = { "GPU", "used by strangers" },
		.text = arena_printf(a, "in use by %s, which no job started; it is not given out", who),
		.fix = "end that process, or launch with --busy-gpus" }, out);
}

/* The probe's words for NVML's codes (hw/nvml_lib.c) begin so. */
static const char *gpu_is(const char *text)
{
	if (strncmp(text, "fell off the bus", 16) == 0)
		return "lost";
	return strncmp(text, "needs a reset", 13) == 0 ? "to be reset" : "not readable";
}

static void judge_gpu(struct arena *a, const struct verdict_in *in, const struct rec_gpu *g,
		      struct verdicts *out)
{
	struct saying s = { .severity = "warn", .what = arena_printf(a, "GPU %u", g->index) };

	if (g->shared_out)
		return;
	if (g->text != NULL) {
		s.severity = "bad";
		s.kind = (struct verdict_kind){ "GPU", gpu_is(g->text) };
		s.text = arena_printf(a, "cannot be read: %.250s", g->text);
		s.fix = "look at the kernel log (dmesg | grep -i nvrm); a GPU off the bus needs a reboot";
		say(a, in, s, out);
		return;
	}
	if (MSG_HAS(g, gpu, ecc_uncorrected) && g->ecc_uncorrected > 0) {
		s.kind = (struct verdict_kind){ "GPU", "with memory errors" };
		s.text = arena_printf(a, "%" PRIu64 " uncorrectable memory errors since the driver was loaded",
				      g->ecc_uncorrected);
		s.fix = "end what runs on it and reset or reboot; if they come back, have it replaced";
		say(a, in, s, out);
	}
	if (MSG_HAS(g, gpu, xids) && g->xids > 0) {
		s.kind = (struct verdict_kind){ "GPU", "with Xid errors" };
		s.brief = arena_printf(a, "GPU %u Xid %u", g->index, g->xid);
		s.text = arena_printf(a, "the driver reported Xid %u (%u in all)", g->xid, g->xids);
		s.fix = "look the Xid up in NVIDIA's list, and at dmesg";
		say(a, in, s, out);
	}
	judge_strangers(a, in, g, out);
}

/* ---- sources and clock --------------------------------------------------------------- */

static void judge_source(struct arena *a, const struct verdict_in *in, const struct rec_source *s,
			 struct verdicts *out)
{
	bool grave = strcmp(s->name, "nvml") == 0 || strcmp(s->name, "probe") == 0 ||
		     (is_of_ports(s) && !verdict_ports_known(in->readings)); /* by nobody else either */

	if (s->ok || s->absent)
		return;
	say(a, in, (struct saying){
		.severity = grave ? "bad" : "warn",
		.kind = { NULL, s->name }, .brief = arena_printf(a, "%s: no readings", s->name),
		.text = arena_printf(a, "%s: %.250s", s->name, s->text != NULL ? s->text : "no readings") }, out);
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

static void judge_clock(struct arena *a, const struct verdict_in *in, struct verdicts *out)
{
	if (!verdict_clock_off(in))
		return;
	say(a, in, (struct saying){
		.severity = "bad", .kind = { NULL, "clock" },
		.brief = arena_printf(a, "clock %s off", span(a, skew_size(in))),
		.text = arena_printf(a, "its clock is %s by %s (+-%s)%s: torchrun's heartbeats and the "
				     "order of log lines go wrong",
				     in->skew_us < 0 ? "behind" : "ahead", span(a, skew_size(in)),
				     span(a, in->skew_error_us),
				     unsteered(in) ? ", and nobody steers it" : ""),
		.fix = "run chrony or ntpd on every host; without internet let one host be the others' "
		       "time server" }, out);
}

/* There are lines of these sources, and none is ok. */
bool verdict_is_out(const struct rec_readings *r, const char *name, const char *or_name)
{
	bool there = false;

	for (size_t i = 0; i < r->n_sources; i++) {
		const struct rec_source *s = &r->sources[i];

		if (strcmp(s->name, name) != 0 && strcmp(s->name, or_name) != 0)
			continue;
		if (s->ok)
			return false;
		there = true;
	}
	return there;
}

void verdict_node(struct arena *a, const struct verdict_in *in, struct verdicts *out)
{
	out->n = 0;
	judge_clock(a, in, out);
	if (in->readings == NULL)
		return;
	for (size_t i = 0; i < in->readings->n_sources; i++)
		judge_source(a, in, &in->readings->sources[i], out);
	/* of a source that could not be had its own line says all */
	for (size_t i = 0; i < in->readings->n_ports && !verdict_is_out(in->readings, "verbs", "sysfs"); i++)
		judge_port(a, in, &in->readings->ports[i], out);
	for (size_t i = 0; i < in->readings->n_gpus && !verdict_is_out(in->readings, "nvml", "nvml"); i++)
		judge_gpu(a, in, &in->readings->gpus[i], out);
}

static bool same_kind(const struct verdicts *v, size_t i, size_t k)
{
	return v->kind[i].noun != NULL && v->kind[k].noun != NULL &&
	       strcmp(v->kind[i].noun, v->kind[k].noun) == 0 && strcmp(v->kind[i].is, v->kind[k].is) == 0;
}

const char *verdict_brief(struct arena *a, const struct verdicts *v, int64_t *ret_since_wall_ms)
{
	size_t worst = 0, count = 0;
	int64_t since = 0;

	while (worst < v->n && strcmp(v->v[worst].severity, "bad") != 0)
		worst++;
	if (worst == v->n)
		worst = 0;
	for (size_t i = worst; i < v->n; i++) {
		const struct rec_attention *x = &v->v[i];

		if (i != worst && !same_kind(v, worst, i))
			continue;
		count++;
		if (MSG_HAS(x, attention, since_wall_ms) && (since == 0 || x->since_wall_ms < since))
			since = x->since_wall_ms;
	}
	*ret_since_wall_ms = since;
	if (count < 2)
		return v->n > 0 ? v->v[worst].brief : NULL;
	return arena_printf(a, "%zu %ss %s", count, v->kind[worst].noun, v->kind[worst].is);
}

bool verdict_bad(const struct verdicts *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (strcmp(v->v[i].severity, "bad") == 0)
			return true;
	return false;
}
