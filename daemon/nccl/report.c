/* report.c - see report.h */
#include "nccl/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nccl/library.h"

static void member_str(struct jw *w, const char *key, const char *v)
{
	jw_key(w, key);
	jw_str(w, v);
}

static void member_uint(struct jw *w, const char *key, uint64_t v)
{
	jw_key(w, key);
	jw_uint(w, v);
}

/* Three digits after the point are more than is measured. */
static void member_rate(struct jw *w, const char *key, double v)
{
	jw_key(w, key);
	jw_dbl(w, (double)(int64_t)(v * 1000 + 0.5) / 1000);
}

static void begin(struct jw *w, struct buf *b, const char *kind)
{
	buf_init(b);
	jw_init(w, b);
	jw_obj(w);
	member_str(w, "kind", kind);
}

static void end(struct jw *w, struct buf *b)
{
	jw_end_obj(w);
	buf_addc(b, '\n');
	if (!buf_failed(b))
		fwrite(b->data, 1, b->len, stdout);
	fflush(stdout);
	buf_finish(b);
}

static void say(const char *kind, const char *severity, const char *text, const char *fix)
{
	struct buf b;
	struct jw w;

	begin(&w, &b, kind);
	member_str(&w, "severity", severity);
	member_str(&w, "text", text);
	if (fix != NULL)
		member_str(&w, "fix", fix);
	end(&w, &b);
}

void report_problem(const char *text, const char *fix)
{
	say("problem", "bad", text, fix);
}

void report_warning(const char *text, const char *fix)
{
	say("problem", "warn", text, fix);
}

void report_note(const char *text, const char *fix)
{
	say("problem", "note", text, fix);
}

static void env_node(const struct cast *c, uint32_t node, struct jw *w)
{
	const cJSON *first = NULL;
	char nccl[24], cuda[24];
	uint32_t ranks = 0;

	for (uint32_t i = 0; i < c->world; i++) {
		if (c->players[i].hello == NULL || c->players[i].node != node)
			continue;
		first = first == NULL ? c->players[i].hello : first;
		ranks++;
	}
	library_nccl_text((int)wire_num(first, "nccl"), nccl);
	snprintf(cuda, sizeof cuda, "%d.%d", (int)wire_num(first, "cuda") / 1000, (int)wire_num(first, "cuda") % 1000 / 10);
	jw_obj(w);
	member_str(w, "node", c->nodes[node]);
	member_uint(w, "ranks", ranks);
	member_str(w, "gpu", wire_str(first, "gpu"));
	member_str(w, "driver", wire_str(first, "driver"));
	member_str(w, "nccl", wire_num(first, "nccl") > 0 ? nccl : "");
	member_str(w, "nccl_path", wire_str(first, "nccl_path"));
	member_str(w, "cuda", wire_num(first, "cuda") > 0 ? cuda : "");
	jw_end_obj(w);
}

void report_env(const struct cast *c)
{
	struct buf b;
	struct jw w;

	begin(&w, &b, "env");
	member_uint(&w, "ranks", c->world);
	jw_key(&w, "nodes");
	jw_arr(&w);
	for (uint32_t k = 0; k < c->n_nodes; k++)
		env_node(c, k, &w);
	jw_end_arr(&w);
	end(&w, &b);
}

/* In a few words how data went. */
static const char *how(const struct team *t)
{
	if (t->how.mixed)
		return "mixed";
	if (t->how.sends > 0)
		return t->how.net[0] ? t->how.net : "network";
	if (t->how.p2p > 0)
		return t->how.shm > 0 ? "P2P+SHM" : "P2P";
	return t->how.shm > 0 ? "SHM" : "";
}

/* Those that hang may have been left out. */
static uint32_t count_nodes(const struct cast *c, const struct team *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n; i++) {
		uint32_t k = 0;

		while (k < i && c->players[t->ranks[k]].node != c->players[t->ranks[i]].node)
			k++;
		n += k == i;
	}
	return n;
}

static void scope_members(struct jw *w, const struct cast *c, const struct team *t, const char *scope, const char *node)
{
	member_str(w, "scope", scope);
	if (node != NULL)
		member_str(w, "node", node);
	else
		member_uint(w, "nodes", count_nodes(c, t));
	member_uint(w, "ranks", t->n);
}

static void report_op(const struct cast *c, const struct team *t, const char *scope, const char *node, enum op op)
{
	const struct team_op *r = &t->op[op];
	struct buf b;
	struct jw w;

	begin(&w, &b, "result");
	scope_members(&w, c, t, scope, node);
	member_str(&w, "op", op_name(op));
	member_uint(&w, "bytes", r->bytes);
	member_rate(&w, "time_us", r->us);
	member_rate(&w, "algbw", r->algbw);
	member_rate(&w, "busbw", r->busbw);
	member_uint(&w, "wrong", r->wrong);
	if (r->wrong > 0)
		member_str(&w, "wrong_at", cast_name(c, r->wrong_rank));
	if (r->wrong > 0)
		member_uint(&w, "wrong_element", r->wrong_first);
	member_str(&w, "transport", how(t));
	if (t->how.sends > 0) {
		jw_key(&w, "gdr");
		jw_bool(&w, t->how.gdr > 0);
		if (strcmp(t->how.net, "Socket") == 0)
			member_str(&w, "interface", t->how.via);
		if (strcmp(t->how.net, "Socket") == 0 && t->how.ib_why[0])
			member_str(&w, "no_ib", t->how.ib_why);
	}
	end(&w, &b);
}

void report_results(const struct cast *c, const struct team *t, const char *scope, const char *node)
{
	for (int op = 0; op < OP_N; op++)
		if (t->op[op].done)
			report_op(c, t, scope, node, (enum op)op);
}

static uint32_t count_blamed(const struct cast *c, const struct team *t)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n; i++)
		n += c->players[t->ranks[i]].gone || c->players[t->ranks[i]].silent;
	return n;
}

/* Who went first; else who says nothing. When one goes, its job ends and the others follow. */
static const struct player *first_blamed(const struct cast *c, const struct team *t, const char **ret_name)
{
	const struct player *first = NULL;

	for (uint32_t i = 0; i < t->n; i++) {
		const struct player *p = &c->players[t->ranks[i]];

		if ((!p->gone && !p->silent) || (first != NULL && !p->gone) ||
		    (first != NULL && first->gone && first->gone_as < p->gone_as))
			continue;
		first = p;
		*ret_name = cast_name(c, t->ranks[i]);
	}
	return first;
}

static const cJSON *first_error(const struct cast *c, const struct team *t, const char **ret_name)
{
	for (uint32_t i = 0; i < t->n; i++) {
		const cJSON *m = c->players[t->ranks[i]].reply;

		if (m != NULL && wire_is(m, "fail")) {
			*ret_name = cast_name(c, t->ranks[i]);
			return m;
		}
	}
	return NULL;
}

/* One sentence: what stopped. */
static void what_failed(const struct cast *c, const struct team *t, char *out, size_t size)
{
	const char *name = "";
	const struct player *first = first_blamed(c, t, &name);
	const cJSON *error = NULL;

	if (first != NULL && first->gone) {
		snprintf(out, size, "%s: %s has ended", t->doing, name);
		return;
	}
	if (first != NULL) {
		snprintf(out, size, "%s hangs: %s%s, the others wait", t->doing, name,
			 count_blamed(c, t) > 1 ? " and others do not answer" : " does not answer");
		return;
	}
	error = first_error(c, t, &name);
	if (error != NULL)
		snprintf(out, size, "%s: %.500s", name, wire_str(error, "text"));
	else
		snprintf(out, size, "%s hangs: all %u ranks wait for data that does not come", t->doing, t->n);
}

void report_failed(const struct cast *c, const struct team *t, const char *scope, const char *node)
{
	char text[768];
	struct buf b;
	struct jw w;

	what_failed(c, t, text, sizeof text);
	begin(&w, &b, "problem");
	member_str(&w, "severity", "bad");
	scope_members(&w, c, t, scope, node);
	member_str(&w, "op", t->doing);
	member_str(&w, "text", text);
	if (count_blamed(c, t) > 0)
		member_str(&w, "fix", "look at that process and its GPU (nodectl gpus, dmesg on its node)");
	else if (strcmp(scope, "between") == 0)
		member_str(&w, "fix", "see that the nodes reach each other on the interface NCCL chose; nodectl ports");
	jw_key(&w, "ranks_state");
	jw_arr(&w);
	team_blame(c, t, &w);
	jw_end_arr(&w);
	end(&w, &b);
}

/* ---- findings -------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void text_of(char *out, size_t size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out, size, fmt, ap);
	va_end(ap);
}

static const char *speed(double gbps, char out[32])
{
	if (gbps < 0)
		snprintf(out, 32, "no data");
	else
		snprintf(out, 32, "%.1f GB/s", gbps);
	return out;
}

static const char *words_of(const struct cast *c, const struct bisect_finding *f, char *out, size_t size)
{
	const char *a = c->nodes[f->a], *b = c->nodes[f->b];
	char got[32], usual[32];

	speed(f->got, got);
	speed(f->usual, usual);
	switch (f->kind) {
	case BISECT_NODE:
		text_of(out, size, "all pairs with %s are %s: %s, others %s", a, f->got < 0 ? "dead" : "slow", got, usual);
		return "look at its ports (nodectl ports), cables and PCIe width; keep jobs off it meanwhile: nodectl drain";
	case BISECT_LINK:
		text_of(out, size, "%s and %s are %s with each other only: %s, others %s", a, b,
			f->got < 0 ? "dead" : "slow", got, usual);
		return "look at the path between the two: switch ports, routing";
	case BISECT_ALL:
		text_of(out, size, "every pair of nodes is slow: %s", got);
		return "not one node's fault: look at what NCCL chose (interface, IB or Socket) and at the switch";
	case BISECT_FABRIC:
		text_of(out, size, "pairs are good, groups of %u nodes are not (%s to %s: %s, pairs %s)", f->size, a, b, got, usual);
		return "the fabric above the nodes is the bottleneck: links between switches, routing (opensm)";
	default:
		text_of(out, size, "%s is slow (%s, others %s), and no good node is left to try it with again", a, got, usual);
		return "check it together with other nodes";
	}
}

void report_finding(const struct cast *c, const struct bisect_finding *f, uint32_t round)
{
	static const char *const kinds[] = { "node", "link", "all", "fabric", "unsure" };
	char text[400];
	const char *fix = words_of(c, f, text, sizeof text);
	struct buf b;
	struct jw w;

	begin(&w, &b, "finding");
	member_str(&w, "severity", f->kind == BISECT_UNSURE ? "warn" : "bad");
	member_str(&w, "what", kinds[f->kind]);
	if (f->kind != BISECT_ALL)
		member_str(&w, "node", c->nodes[f->a]);
	if (f->kind == BISECT_LINK)
		member_str(&w, "other", c->nodes[f->b]);
	if (f->got >= 0)
		member_rate(&w, "got", f->got);
	member_rate(&w, "usual", f->usual);
	member_uint(&w, "rounds", round);
	member_str(&w, "text", text);
	member_str(&w, "fix", fix);
	end(&w, &b);
}

void report_slow(const char *node, double got, double usual, const char *of)
{
	char text[300];
	struct buf b;
	struct jw w;

	text_of(text, sizeof text, "all_reduce reaches %.1f GB/s, %s %.1f", got, of, usual);
	begin(&w, &b, "finding");
	member_str(&w, "severity", "bad");
	member_str(&w, "what", "slow");
	member_str(&w, "scope", node != NULL ? "inside" : "between");
	if (node != NULL)
		member_str(&w, "node", node);
	member_rate(&w, "got", got);
	member_rate(&w, "usual", usual);
	member_str(&w, "text", text);
	member_str(&w, "fix",
		   node != NULL ? "look at its NVLinks and PCIe (nvidia-smi nvlink -s, nvidia-smi topo -m), throttling, other processes"
				: "nodectl check nccl --bisect finds the node or link");
	end(&w, &b);
}

void report_end(bool good, double seconds, const char *text)
{
	struct buf b;
	struct jw w;

	begin(&w, &b, "end");
	jw_key(&w, "ok");
	jw_bool(&w, good);
	member_rate(&w, "seconds", seconds);
	if (text != NULL)
		member_str(&w, "text", text);
	end(&w, &b);
}
