/* nccl_ras.c - see nccl_ras.h */
#include "common/nccl_ras.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

static const char *const coll_keys[RAS_COLLS] = { "Broadcast", "Reduce", "AllGather", "ReduceScatter", "AllReduce" };
static const char *const coll_names[RAS_COLLS] = { "broadcast", "reduce", "all-gather", "reduce-scatter", "all-reduce" };

const char *ras_coll_name(enum ras_coll c)
{
	return (unsigned)c < RAS_COLLS ? coll_names[c] : "?";
}

static bool is_from(const char *version, unsigned from_minor, unsigned from_patch)
{
	unsigned major = 0, minor = 0, patch = 0;

	if (!version || sscanf(version, "%u.%u.%u", &major, &minor, &patch) < 2)
		return false;
	return major > 2 || (major == 2 && (minor > from_minor || (minor == from_minor && patch >= from_patch)));
}

bool nccl_ras_has_json(const char *version)
{
	return is_from(version, 28, 7);
}

bool nccl_ras_safe_missing(const char *version)
{
	return is_from(version, 29, 2);
}

/* ---- the comma that is not there ------------------------------------------------ */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* "nvml_dev": N "status"  ->  "nvml_dev": N, "status". There is always a blank between to take its place. */
static void mend(char *text, size_t len)
{
	static const char key[] = "\"nvml_dev\"", next[] = "\"status\"";
	char *at = text, *end = text + len;

	while ((at = memmem(at, (size_t)(end - at), key, sizeof key - 1)) != NULL) {
		char *number;

		at += sizeof key - 1;
		while (at < end && (is_blank(*at) || *at == ':'))
			at++;
		while (at < end && (*at == '-' || (*at >= '0' && *at <= '9')))
			at++;
		number = at;
		while (at < end && is_blank(*at))
			at++;
		if (at > number && (size_t)(end - at) >= sizeof next - 1 && memcmp(at, next, sizeof next - 1) == 0)
			*number = ',';
	}
}

/* ---- values ------------------------------------------------------------------- */

static const cJSON *get(const cJSON *o, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double number(const cJSON *o, const char *key, double absent)
{
	const cJSON *v = get(o, key);

	return cJSON_IsNumber(v) && isfinite(v->valuedouble) ? v->valuedouble : absent;
}

static uint32_t get_u32(const cJSON *o, const char *key)
{
	double v = number(o, key, 0);

	return v >= 0 && v <= UINT32_MAX ? (uint32_t)v : 0;
}

static int32_t get_i32(const cJSON *o, const char *key, int32_t absent)
{
	double v = number(o, key, absent);

	return v >= INT32_MIN && v <= INT32_MAX ? (int32_t)v : absent;
}

static uint64_t get_count(const cJSON *o, const char *key)
{
	double v = number(o, key, 0);

	return v >= 0 && v < 0x1p53 ? (uint64_t)v : 0;
}

static bool get_bool(const cJSON *o, const char *key)
{
	const cJSON *v = get(o, key);

	return cJSON_IsTrue(v) || (cJSON_IsNumber(v) && v->valuedouble != 0);
}

/* Printable ASCII only; of an address the port is left out. */
static void get_text(const cJSON *o, const char *key, char *out, size_t size)
{
	const cJSON *v = get(o, key);
	size_t n = 0;

	if (cJSON_IsNumber(v)) {
		snprintf(out, size, "%.0f", v->valuedouble);
		return;
	}
	for (const char *p = cJSON_IsString(v) ? v->valuestring : ""; *p && *p != '<' && n + 1 < size; p++)
		out[n++] = *p >= ' ' && *p < 0x7f ? *p : '?';
	out[n] = '\0';
}

/* ---- ranks and communicators ----------------------------------------------------- */

static void read_rank(const cJSON *o, bool missing, struct ras_rank *r)
{
	const cJSON *status = get(o, "status"), *counts = get(o, "collective_counts");

	*r = (struct ras_rank){ .rank = get_u32(o, "rank"), .pid = get_u32(o, "pid"), .missing = missing };
	get_text(o, "host", r->host, sizeof r->host);
	r->cuda_dev = get_i32(o, "cuda_dev", -1);
	r->nvml_dev = get_i32(o, "nvml_dev", -1);
	r->unresponsive = get_bool(status, "unresponsive");
	r->dead = get_bool(status, "considered_dead");
	r->init_state = get_i32(status, "init_state", 0);
	r->async_error = get_i32(status, "async_error", 0);
	r->finalizing = get_bool(status, "finalize_called");
	r->destroyed = get_bool(status, "destroy_flag");
	r->aborted = get_bool(status, "abort_flag");
	for (int i = 0; i < RAS_COLLS; i++)
		r->counts[i] = get_count(counts, coll_keys[i]);
}

static int by_rank(const void *a, const void *b)
{
	const struct ras_rank *x = a, *y = b;

	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static size_t array_len(const cJSON *a)
{
	size_t n = 0;

	for (const cJSON *o = cJSON_IsArray(a) ? a->child : NULL; o; o = o->next)
		n++;
	return n;
}

static int read_comm(const cJSON *o, size_t *left, struct ras_comm *c)
{
	const cJSON *here = get(o, "ranks"), *missing = get(o, "missing_ranks");
	size_t n = array_len(here) + array_len(missing);

	get_text(o, "hash", c->hash, sizeof c->hash);
	c->size = get_u32(o, "size");
	if (n > *left)
		return -E2BIG;
	*left -= n;
	if (n == 0)
		return 0;
	c->ranks = calloc(n, sizeof *c->ranks);
	if (!c->ranks)
		return -ENOMEM;

	for (const cJSON *r = cJSON_IsArray(here) ? here->child : NULL; r; r = r->next)
		read_rank(r, false, &c->ranks[c->n_ranks++]);
	for (const cJSON *r = cJSON_IsArray(missing) ? missing->child : NULL; r; r = r->next, c->n_missing++)
		read_rank(r, true, &c->ranks[c->n_ranks++]);
	qsort(c->ranks, c->n_ranks, sizeof *c->ranks, by_rank);
	return 0;
}

static int read_comms(const cJSON *a, struct nccl_ras *r)
{
	size_t n = array_len(a), left = NCCL_RAS_RANKS_MAX;

	if (n > NCCL_RAS_COMMS_MAX)
		return -E2BIG;
	r->comms = calloc(n ? n : 1, sizeof *r->comms);
	if (!r->comms)
		return -ENOMEM;
	for (const cJSON *o = a->child; o; o = o->next) {
		int rc = read_comm(o, &left, &r->comms[r->n_comms++]);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int read_reply(const cJSON *o, struct nccl_ras *r, struct err *e)
{
	const cJSON *comms = get(o, "communicators"), *ras = get(o, "ras");
	int rc;

	if (!cJSON_IsObject(o) || !cJSON_IsArray(comms))
		return err_set(e, -EINVAL, "the reply of NCCL's RAS names no communicators");
	get_text(o, "nccl_version", r->version, sizeof r->version);
	r->version[strcspn(r->version, "+ ")] = '\0';
	r->collection_s = number(ras, "collection_time_sec", -1);
	r->timeouts = get_u32(ras, "timeouts_count");
	rc = read_comms(comms, r);
	return rc < 0 ? err_set(e, rc, rc == -E2BIG ? "the reply of NCCL's RAS has too many ranks" : "out of memory") : 0;
}

int nccl_ras_parse(const char *text, size_t len, struct nccl_ras *ret, struct err *e)
{
	struct nccl_ras r = { .n_comms = 0 };
	cJSON *json;
	char *copy;
	int rc;

	if (len > NCCL_RAS_REPLY_MAX)
		return err_set(e, -E2BIG, "the reply of NCCL's RAS is too long");
	copy = malloc(len + 1);
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(copy, text, len);
	mend(copy, len);
	json = json_parse(copy, len, e);
	free(copy);
	if (!json)
		return -EINVAL;

	rc = read_reply(json, &r, e);
	cJSON_Delete(json);
	if (rc < 0)
		nccl_ras_finish(&r);
	else
		*ret = r;
	return rc;
}

void nccl_ras_finish(struct nccl_ras *r)
{
	for (size_t i = 0; i < r->n_comms; i++)
		free(r->comms[i].ranks);
	free(r->comms);
	*r = (struct nccl_ras){ .n_comms = 0 };
}

/* ---- what follows from it ---------------------------------------------------------- */

static bool counted(const struct ras_rank *r)
{
	return !r->missing && r->init_state == 0;
}

/* Of one collective of one communicator. */
static bool find_behind(const struct ras_comm *c, enum ras_coll coll, struct ras_behind *ret)
{
	const struct ras_rank *least = NULL;
	uint64_t most = 0;
	size_t n = 0, behind = 0;

	for (size_t i = 0; i < c->n_ranks; i++)
		if (counted(&c->ranks[i])) {
			n++;
			if (c->ranks[i].counts[coll] > most)
				most = c->ranks[i].counts[coll];
			if (!least || c->ranks[i].counts[coll] < least->counts[coll])
				least = &c->ranks[i];
		}
	for (size_t i = 0; i < c->n_ranks; i++)
		behind += counted(&c->ranks[i]) && c->ranks[i].counts[coll] < most;
	if (!least || least->counts[coll] == most)
		return false;
	*ret = (struct ras_behind){ .comm = c, .rank = least, .coll = coll, .count = least->counts[coll],
				    .most = most, .n_behind = behind };
	return n > 1;
}

static bool better(const struct ras_behind *a, const struct ras_behind *b)
{
	if (a->n_behind != b->n_behind)
		return a->n_behind < b->n_behind;
	return a->most - a->count > b->most - b->count;
}

/* A rooted collective (broadcast, reduce) is counted on each rank like the others. */
bool nccl_ras_behind(const struct nccl_ras *r, struct ras_behind *ret)
{
	struct ras_behind best, b;
	bool found = false;

	for (size_t i = 0; i < r->n_comms; i++)
		for (int k = 0; k < RAS_COLLS; k++)
			if (find_behind(&r->comms[i], (enum ras_coll)k, &b) && (!found || better(&b, &best))) {
				best = b;
				found = true;
			}
	if (found)
		*ret = best;
	return found;
}

uint64_t nccl_ras_sum(const struct nccl_ras *r)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < r->n_comms; i++)
		for (size_t k = 0; k < r->comms[i].n_ranks; k++)
			for (int c = 0; c < RAS_COLLS; c++)
				sum += r->comms[i].ranks[k].counts[c];
	return sum;
}
