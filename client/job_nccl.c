/* job_nccl.c - see job_nccl.h */
#include "client/job_nccl.h"

#include <string.h>

static const struct rec_nccl_sum *sum(const struct rec_job_info *j)
{
	return j->n_nccl && *j->nccl->brief ? j->nccl : NULL;
}

bool job_nccl_known(const struct rec_job_info *j)
{
	return sum(j) != NULL;
}

/* "NCCL 2.28.9, IB x8 GDR": in a table the network is what one looks for. */
void job_nccl_cell(struct out *o, const struct rec_job_info *j)
{
	const struct rec_nccl_sum *s = sum(j);
	const char *net = s ? strstr(s->brief, ", ") : NULL;

	if (!s)
		out_cell(o, "NET", 0, OUT_PLAIN, "-");
	else
		out_cell(o, "NET", 0, strchr(s->brief, '!') ? OUT_BAD : OUT_PLAIN, "%s", net ? net + 2 : s->brief);
}

/* ---- for programs ------------------------------------------------------------ */

static void text_of(struct out *o, const char *key, const char *s)
{
	out_str(o, key, NULL, s);
}

static void number(struct out *o, const char *key, bool known, uint64_t v)
{
	if (known)
		out_uint(o, key, NULL, v);
	else
		out_null(o, key);
}

static void state_row(struct out *o, const struct rec_nccl_state *s)
{
	out_start(o, NULL, OUT_ROW);
	text_of(o, "node", s->node);
	text_of(o, "version", s->version);
	text_of(o, "net", s->net);
	text_of(o, "bootstrap", s->bootstrap);
	text_of(o, "interface", s->socket_if);
	out_strs(o, "hcas", NULL, (const char *const *)s->hcas, s->n_hcas);
	out_bool(o, "roce", NULL, s->roce);
	number(o, "processes", true, s->procs);
	number(o, "communicators", true, s->inits);
	number(o, "communicators_ready", true, s->inits_done);
	number(o, "channels_gpu", true, s->p2p);
	number(o, "channels_memory", true, s->shm);
	number(o, "channels_net", true, s->sends_net);
	number(o, "channels_gdr", true, s->gdr);
	text_of(o, "set_by", s->set_by);
	number(o, "memlock", MSG_HAS(s, nccl_state, memlock), s->memlock);
	text_of(o, "trouble", s->trouble);
	number(o, "number", MSG_HAS(s, nccl_state, number), s->number);
	text_of(o, "device", s->dev);
	text_of(o, "peer", s->peer);
	number(o, "rank", MSG_HAS(s, nccl_state, trouble_rank), s->trouble_rank);
	text_of(o, "said", s->text);
	text_of(o, "unread", s->unread);
	out_end(o);
}

void job_nccl_json(struct out *o, const struct rec_job_info *j, bool nodes)
{
	const struct rec_nccl_sum *s = j->n_nccl ? j->nccl : NULL;

	if (!s) {
		out_null(o, "nccl");
	} else {
		out_start(o, "nccl", OUT_OBJECT);
		text_of(o, "brief", s->brief);
		out_bool(o, "socket", NULL, s->socket);
		text_of(o, "reason", s->reason);
		text_of(o, "why", s->why);
		text_of(o, "fix", s->fix);
		text_of(o, "trouble", s->trouble);
		out_int(o, "at_ms", NULL, s->wall_ms);
		number(o, "nodes", true, s->nodes);
		out_end(o);
	}
	if (!nodes)
		return;
	out_start(o, "nccl_nodes", OUT_TABLE);
	for (size_t i = 0; i < j->n_nccl_nodes; i++)
		state_row(o, &j->nccl_nodes[i]);
	out_end(o);
}

/* ---- for people ----------------------------------------------------------------- */

static void ras_json(struct out *o, const struct rec_ras_state *r)
{
	if (!r) {
		out_null(o, "ras");
		return;
	}
	out_start(o, "ras", OUT_OBJECT);
	text_of(o, "text", r->text);
	text_of(o, "words", r->words);
	text_of(o, "source", r->flight ? "flight recorder" : "RAS");
	text_of(o, "version", r->version);
	out_int(o, "at_ms", NULL, r->wall_ms);
	number(o, "communicators", MSG_HAS(r, ras_state, comms), r->comms);
	number(o, "missing", MSG_HAS(r, ras_state, missing), r->missing);
	text_of(o, "collective", r->coll);
	number(o, "count", MSG_HAS(r, ras_state, count), r->count);
	number(o, "most", MSG_HAS(r, ras_state, most), r->most);
	number(o, "behind", MSG_HAS(r, ras_state, n_behind), r->n_behind);
	out_end(o);
}

/* Why nobody asked is of interest where NCCL is in use, or something hangs: a job of other programs does not wait for it. */
static void ras_line(struct out *o, const struct rec_job_info *j)
{
	const struct rec_ras_state *r = j->n_ras ? j->ras : NULL;
	bool why = sum(j) || (j->n_progress && j->progress->hang) || j->n_past_hang;
	const char *text = !r ? NULL : r->words ? r->words : why ? r->text : NULL;

	out_str(o, NULL, !text ? NULL : r->flight ? "recorder" : "RAS", text);
}

void job_nccl_lines(struct out *o, const struct rec_job_info *j)
{
	const struct rec_nccl_sum *s = sum(j);

	ras_json(o, j->n_ras ? j->ras : NULL);
	ras_line(o, j);

	if (!s)
		return;
	out_str(o, NULL, "network", s->brief);
	out_str(o, NULL, s->why ? "TCP because" : NULL, s->why);
	out_str(o, NULL, s->fix ? "fix" : NULL, s->fix);
	out_str(o, NULL, s->trouble ? "NCCL" : NULL, s->trouble);
}

bool job_nccl_alarm(const struct rec_job_info *j, const char **ret, struct arena *a)
{
	const struct rec_nccl_sum *s = sum(j);

	if (!s || (!s->trouble && !s->socket && !strchr(s->brief, '!')))
		return false;
	if (s->trouble)
		*ret = arena_printf(a, "%s", s->trouble);
	else if (s->socket)
		*ret = arena_printf(a, "NCCL runs over TCP%s%s", s->why ? ": " : "", s->why ? s->why : "");
	else
		*ret = s->brief;
	return *ret != NULL;
}
