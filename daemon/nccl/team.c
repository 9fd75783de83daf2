/* team.c - see team.h */
#include "nccl/team.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MS 5000 /* beyond a rank's own deadline: then it hangs, or its host does */
#define TIME_US 200000.0 /* an operation is repeated for about this long */
#define TIMES_MAX 50

static void begin(struct jw *w, struct buf *b, const char *what)
{
	buf_init(b);
	wire_begin(w, b, what);
}

static void member_num(struct jw *w, const char *key, uint64_t v)
{
	jw_key(w, key);
	jw_uint(w, v);
}

static void member_str(struct jw *w, const char *key, const char *v)
{
	jw_key(w, key);
	jw_str(w, v);
}

static void fail(struct team *t, const char *doing)
{
	if (!t->failed)
		snprintf(t->doing, sizeof t->doing, "%s", doing);
	t->failed = true;
}

/* Is each of its ranks' answers of this kind? */
static void check_replies(struct cast *c, struct team *t, const char *what, const char *doing)
{
	for (uint32_t i = 0; i < t->n; i++) {
		const struct player *p = &c->players[t->ranks[i]];

		if (p->reply == NULL || !wire_is(p->reply, what))
			fail(t, doing);
	}
}

/* ---- steps: a question to all teams that still go, and the answers ------------------- */

static void step_ids(struct cast *c, struct team *teams, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		struct buf b;
		struct jw w;

		begin(&w, &b, "id");
		jw_end_obj(&w);
		cast_ask(c, teams[k].ranks[0], (uint32_t)k, &b);
	}
	cast_gather(c, ANSWER_MS);
	for (size_t k = 0; k < n; k++) {
		const cJSON *reply = c->players[teams[k].ranks[0]].reply;

		if (reply == NULL || !wire_is(reply, "id"))
			fail(&teams[k], "making an id");
		else
			snprintf(teams[k].id, sizeof teams[k].id, "%.256s", wire_str(reply, "id"));
	}
}

static void step_join(struct cast *c, struct team *teams, size_t n, int timeout_ms)
{
	for (size_t k = 0; k < n; k++)
		for (uint32_t i = 0; i < teams[k].n && !teams[k].failed; i++) {
			struct buf b;
			struct jw w;

			begin(&w, &b, "join");
			member_str(&w, "id", teams[k].id);
			member_num(&w, "n", teams[k].n);
			member_num(&w, "rank", i);
			member_num(&w, "ms", (uint64_t)timeout_ms);
			jw_end_obj(&w);
			cast_ask(c, teams[k].ranks[i], (uint32_t)k, &b);
		}
	cast_gather(c, timeout_ms + ANSWER_MS);
	for (size_t k = 0; k < n; k++)
		if (!teams[k].failed)
			check_replies(c, &teams[k], "ok", "making the communicator");
}

/* times: of each team; NULL: one that is looked at. */
static void step_op(struct cast *c, struct team *teams, size_t n, enum op op, const struct check_options *o,
		    const uint32_t *times)
{
	for (size_t k = 0; k < n; k++)
		for (uint32_t i = 0; i < teams[k].n && !teams[k].failed; i++) {
			struct buf b;
			struct jw w;

			begin(&w, &b, times != NULL ? "time" : "verify");
			member_str(&w, "op", op_name(op));
			member_num(&w, "bytes", o->bytes);
			member_num(&w, "times", times != NULL ? times[k] : 0);
			member_num(&w, "ms", (uint64_t)o->timeout_ms);
			jw_end_obj(&w);
			cast_ask(c, teams[k].ranks[i], (uint32_t)k, &b);
		}
	cast_gather(c, o->timeout_ms + ANSWER_MS);
	for (size_t k = 0; k < n; k++)
		if (!teams[k].failed)
			check_replies(c, &teams[k], "done", op_name(op));
}

/* Looked at twice, alone and after many in a row: the worse of the two counts. */
static void take_wrong(struct cast *c, struct team *t, struct team_op *r)
{
	struct team_op is = { .wrong = 0 };

	for (uint32_t i = 0; i < t->n; i++) {
		const cJSON *m = c->players[t->ranks[i]].reply;
		double wrong = wire_num(m, "wrong");

		if (!(wrong > 0))
			continue;
		if (is.wrong == 0) {
			is.wrong_rank = t->ranks[i];
			is.wrong_first = (size_t)wire_num(m, "first");
		}
		is.wrong += (size_t)wrong;
		is.wrong_ranks++;
	}
	if (is.wrong <= r->wrong)
		return;
	r->wrong = is.wrong;
	r->wrong_rank = is.wrong_rank;
	r->wrong_first = is.wrong_first;
	r->wrong_ranks = is.wrong_ranks;
}

static void take_op(struct cast *c, struct team *t, enum op op, bool timed)
{
	struct team_op *r = &t->op[op];
	double sum = 0, slowest = 0;

	for (uint32_t i = 0; i < t->n; i++) {
		double us = wire_num(c->players[t->ranks[i]].reply, "us");

		sum += us;
		slowest = us > slowest ? us : slowest;
	}
	take_wrong(c, t, r);
	r->us = sum / t->n;
	r->slowest_us = slowest;
	r->done = timed;
}

/* Of all that its ranks have said until now. */
static void take_how(struct cast *c, struct team *t)
{
	memset(&t->how, 0, sizeof t->how);
	for (uint32_t i = 0; i < t->n; i++) {
		const cJSON *m = c->players[t->ranks[i]].reply;
		const char *net = wire_str(m, "net"), *why = wire_str(m, "ib_why");

		t->how.p2p += (uint32_t)wire_num(m, "p2p");
		t->how.shm += (uint32_t)wire_num(m, "shm");
		t->how.sends += (uint32_t)wire_num(m, "sends");
		t->how.gdr += (uint32_t)wire_num(m, "gdr");
		t->how.mixed = t->how.mixed || (i > 0 && strcmp(net, t->how.net) != 0);
		if (i == 0) {
			snprintf(t->how.net, sizeof t->how.net, "%.32s", net);
			snprintf(t->how.via, sizeof t->how.via, "%.63s", wire_str(m, "via"));
		}
		if (t->how.ib_why[0] == '\0')
			snprintf(t->how.ib_why, sizeof t->how.ib_why, "%.199s", why);
	}
}

static void rate(struct team *t, enum op op, size_t bytes)
{
	struct team_op *r = &t->op[op];

	r->bytes = op_size(op, t->n, bytes).bytes;
	r->algbw = r->us > 0 ? (double)r->bytes / r->us / 1000 : 0;
	r->busbw = r->algbw * op_bus_factor(op, t->n);
}

static void run_op(struct cast *c, struct team *teams, size_t n, enum op op, const struct check_options *o,
		   uint32_t *times)
{
	step_op(c, teams, n, op, o, NULL);
	for (size_t k = 0; k < n; k++) {
		double us = 0;

		if (!teams[k].failed) {
			take_op(c, &teams[k], op, false);
			take_how(c, &teams[k]);
			us = teams[k].op[op].slowest_us;
		}
		times[k] = us > 0 && us < TIME_US ? (uint32_t)(TIME_US / us) : 1;
		times[k] = times[k] > TIMES_MAX ? TIMES_MAX : times[k] + 1;
	}
	step_op(c, teams, n, op, o, times);
	for (size_t k = 0; k < n; k++) {
		if (teams[k].failed)
			continue;
		take_op(c, &teams[k], op, true);
		rate(&teams[k], op, o->bytes);
	}
}

void teams_leave(struct cast *c, struct team *teams, size_t n, int timeout_ms)
{
	for (size_t k = 0; k < n; k++)
		for (uint32_t i = 0; i < teams[k].n; i++) {
			struct buf b;
			struct jw w;

			if (teams[k].failed && c->players[teams[k].ranks[i]].reply == NULL)
				continue; /* it is known to hang, or was never asked */
			begin(&w, &b, "leave");
			member_num(&w, "abort", teams[k].failed);
			jw_end_obj(&w);
			cast_ask(c, teams[k].ranks[i], (uint32_t)k, &b);
		}
	cast_gather(c, timeout_ms + ANSWER_MS);
}

void teams_run(struct cast *c, struct team *teams, size_t n, const struct check_options *o, uint32_t ops)
{
	uint32_t *times = calloc(n + 1, sizeof *times);

	if (times == NULL)
		return;
	step_ids(c, teams, n);
	step_join(c, teams, n, o->init_timeout_ms);
	for (int op = 0; op < OP_N; op++)
		if (ops >> op & 1 && !c->ended)
			run_op(c, teams, n, (enum op)op, o, times);
	free(times);
}

/* ---- blame ---------------------------------------------------------------------------- */

static void blame(struct jw *w, const char *name, const char *is, const char *more, const char *said)
{
	jw_obj(w);
	member_str(w, "rank", name);
	member_str(w, "is", is);
	if (more[0] != '\0')
		member_str(w, "text", more);
	if (said[0] != '\0')
		member_str(w, "said", said);
	jw_end_obj(w);
}

void team_blame(const struct cast *c, const struct team *t, struct jw *out)
{
	for (uint32_t k = 1; k <= c->n_gone; k++)
		for (uint32_t i = 0; i < t->n; i++)
			if (c->players[t->ranks[i]].gone_as == k)
				blame(out, cast_name(c, t->ranks[i]), "gone", "", "");
	for (int pass = 0; pass < 3; pass++)
		for (uint32_t i = 0; i < t->n; i++) {
			const struct player *p = &c->players[t->ranks[i]];
			const char *name = cast_name(c, t->ranks[i]);

			if (pass == 0 && p->silent && !p->gone)
				blame(out, name, "silent", "", "");
			else if (pass == 1 && p->reply != NULL && wire_is(p->reply, "fail"))
				blame(out, name, "failed", wire_str(p->reply, "text"), wire_str(p->reply, "said"));
			else if (pass == 2 && p->reply != NULL && wire_is(p->reply, "waits"))
				blame(out, name, "waits", wire_str(p->reply, "text"), wire_str(p->reply, "said"));
		}
}
