/* env.c - see env.h. What each variable is for: facts of torchrun, DeepSpeed
 * and LLaMA-Factory; a direct start sets what torchrun would, except its own
 * store (TORCHELASTIC_USE_AGENT_STORE, TORCHELASTIC_RUN_ID). */
#include "shim/env.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"

/* GPUS: ours where the node's GPUs are managed, else the caller's. NET: a
 * default that the coordinator chooses; it may set no other name. */
enum kind { OURS, DEFAULT, DROPPED, GPUS, NET };

struct name {
	const char *name;
	enum kind kind;
};

/* Sorted by strcmp. */
static const struct name names[] = {
	{ "CROSS_RANK", OURS },
	{ "CROSS_SIZE", OURS },
	{ "CUDA_DEVICE_ORDER", GPUS }, /* the indices are ours: in another order they name others' GPUs */
	{ "CUDA_VISIBLE_DEVICES", GPUS },
	{ "FORCE_TORCHRUN", DEFAULT },
	{ "GLOO_SOCKET_IFNAME", DEFAULT },
	{ "GROUP_RANK", OURS },
	{ "GROUP_WORLD_SIZE", OURS },
	{ "LOCAL_RANK", OURS },
	{ "LOCAL_SIZE", OURS },
	{ "LOCAL_WORLD_SIZE", OURS },
	{ "MASTER_ADDR", OURS },
	{ "MASTER_PORT", OURS },
	{ "NCCL_DEBUG", DEFAULT },
	{ "NCCL_DEBUG_FILE", DEFAULT },
	{ "NCCL_DEBUG_SUBSYS", DEFAULT },
	{ "NCCL_IB_DISABLE", NET },
	{ "NCCL_IB_GID_INDEX", NET },
	{ "NCCL_IB_HCA", NET },
	{ "NCCL_NET", NET },
	{ "NCCL_RAS_ADDR", DEFAULT },
	{ "NCCL_SOCKET_IFNAME", DEFAULT },
	{ "NNODES", OURS },
	{ "NODEAGENT_AGENT_UID", DROPPED },
	{ "NODEAGENT_ATTEMPT", OURS },
	{ "NODEAGENT_COOKIE", OURS },
	{ "NODEAGENT_JOB", OURS },
	{ "NODEAGENT_NODE", OURS },
	{ "NODE_RANK", OURS },
	{ "OMP_NUM_THREADS", DEFAULT },
	{ "PET_MASTER_ADDR", DEFAULT },
	{ "PET_MASTER_PORT", DEFAULT },
	{ "PET_NNODES", DEFAULT },
	{ "PET_NODE_RANK", DEFAULT },
	{ "PET_RDZV_ID", DEFAULT },
	{ "PYTHONUNBUFFERED", DEFAULT },
	{ "RANK", OURS },
	{ "ROLE_NAME", OURS },
	{ "ROLE_RANK", OURS },
	{ "ROLE_WORLD_SIZE", OURS },
	{ "TORCHELASTIC_MAX_RESTARTS", OURS },
	{ "TORCHELASTIC_RESTART_COUNT", OURS },
	{ "TORCHELASTIC_RUN_ID", DROPPED },
	{ "TORCHELASTIC_USE_AGENT_STORE", DROPPED },
	{ "TORCH_NCCL_ASYNC_ERROR_HANDLING", DEFAULT },
	{ "TP_SOCKET_IFNAME", DEFAULT },
	{ "WORLD_SIZE", OURS },
};
#define N_NAMES (sizeof names / sizeof names[0])

#define RANK_VARS 4 /* RANK LOCAL_RANK ROLE_RANK NCCL_RAS_ADDR */
#define RANK_BYTES 512

struct env {
	struct arena arena;
	struct env_job job;
	bool has[N_NAMES]; /* from the user; NET: or from us */
	bool failed;
	bool standalone; /* torchrun --standalone */
	char **vars; /* the job's, then ours, then RANK_VARS, then NULL */
	size_t n; /* shared ones */
	char rank_bytes[RANK_BYTES];
};

static int compare(const void *key, const void *elem)
{
	const char *var = key, *name = ((const struct name *)elem)->name;
	size_t len = strlen(name);
	int c = strncmp(var, name, len);

	return c ? c : (var[len] == '=' ? 0 : 1);
}

static const struct name *find(const char *var)
{
	return bsearch(var, names, N_NAMES, sizeof names[0], compare);
}

const char *env_get(const char *const *env, const char *name)
{
	size_t len = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
			return *env + len + 1;
	return NULL;
}

static bool user_has(const struct env *e, const char *var)
{
	const struct name *n = find(var);

	return n && e->has[n - names];
}

__attribute__((format(printf, 2, 3))) static void add(struct env *e, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (user_has(e, text))
		return;

	e->vars[e->n] = arena_strdup(&e->arena, text);
	if (e->vars[e->n])
		e->n++;
	else
		e->failed = true;
}

static bool may_set(const struct env *e, const struct name *n)
{
	return !n || n->kind == DEFAULT || n->kind == NET || (n->kind == GPUS && !e->job.setup->gpus && !e->job.go->gpus);
}

static void add_user(struct env *e, const struct spec *spec)
{
	for (uint32_t i = 0; i < spec->envc; i++) {
		const struct name *n = find(spec->env[i]);

		if (!may_set(e, n))
			continue;
		if (n)
			e->has[n - names] = true;
		e->vars[e->n++] = (char *)spec->env[i];
	}
}

/* Of a file of NCCL's: like the user's own. */
static void add_conf(struct env *e)
{
	for (size_t i = 0; e->job.conf && i < e->job.conf->n; i++) {
		char var[NCCL_CONF_NAME_MAX + 2];
		const struct name *n;

		snprintf(var, sizeof var, "%s=", e->job.conf->names[i]);
		n = find(var);
		if (n && (n->kind == NET || n->kind == DEFAULT))
			e->has[n - names] = true;
	}
}

static void add_places(struct env *e)
{
	const struct rec_shim_setup *s = e->job.setup;

	add(e, "WORLD_SIZE=%u", s->world);
	add(e, "LOCAL_WORLD_SIZE=%u", s->nprocs);
	add(e, "NODE_RANK=%u", s->node_rank);
	add(e, "GROUP_RANK=%u", s->node_rank);
	add(e, "NNODES=%u", s->nnodes);
	add(e, "GROUP_WORLD_SIZE=%u", s->nnodes);
	add(e, "ROLE_WORLD_SIZE=%u", s->world);
	add(e, "ROLE_NAME=default");
	add(e, "LOCAL_SIZE=%u", s->nprocs);
	add(e, "CROSS_RANK=%u", s->node_rank);
	add(e, "CROSS_SIZE=%u", s->nnodes);
	add(e, "TORCHELASTIC_MAX_RESTARTS=%u", s->max_restarts);
	add(e, "TORCHELASTIC_RESTART_COUNT=%u", e->job.attempt ? e->job.attempt - 1 : 0);
	add(e, "MASTER_ADDR=%s", e->job.go->master_addr);
	add(e, "MASTER_PORT=%u", e->job.go->master_port);
	add(e, "NODEAGENT_JOB=%" PRIu64, e->job.job);
	add(e, "NODEAGENT_ATTEMPT=%u", e->job.attempt);
	add(e, "NODEAGENT_NODE=%s", s->node);
	if (e->job.cookie)
		add(e, "NODEAGENT_COOKIE=%s", e->job.cookie);
}

/* torchrun's own options, where its command line names none. With --standalone
 * each node is on its own: PET_NNODES would let it wait for the others. */
static void add_torchrun(struct env *e)
{
	add(e, "PET_NNODES=%u", e->job.setup->nnodes);
	add(e, "PET_NODE_RANK=%u", e->job.setup->node_rank);
	add(e, "PET_MASTER_ADDR=%s", e->job.go->master_addr);
	add(e, "PET_MASTER_PORT=%u", e->job.go->master_port);
	/* a worker of an attempt before that still lives somewhere must not join this one */
	add(e, "PET_RDZV_ID=nodeagent-%" PRIu64 ".%u", e->job.job, e->job.attempt);
}

/* Also inside of "bash -c ..."; a script's own text is not read. */
static bool says_standalone(const struct spec *spec)
{
	for (uint32_t i = 0; i < spec->argc; i++)
		if (strstr(spec->argv[i], "--standalone"))
			return true;
	return false;
}

bool env_nccl_log(const struct env *e)
{
	return e->job.nccl_file && !user_has(e, "NCCL_DEBUG=") && !user_has(e, "NCCL_DEBUG_FILE=") &&
	       !user_has(e, "NCCL_DEBUG_SUBSYS=");
}

/* All three or none: who asked for a level wants those lines where they are used to find them. */
static void add_nccl_log(struct env *e)
{
	if (!env_nccl_log(e))
		return;
	add(e, "NCCL_DEBUG=INFO");
	add(e, "NCCL_DEBUG_SUBSYS=INIT,BOOTSTRAP,ENV,NET");
	add(e, "NCCL_DEBUG_FILE=%s", e->job.nccl_file);
}

static void add_defaults(struct env *e)
{
	const struct rec_shim_setup *s = e->job.setup;
	const char *ifname = e->job.go->ifname;
	const char *gpus = e->job.go->gpus ? e->job.go->gpus : s->gpus;

	if (s->nprocs > 1)
		add(e, "OMP_NUM_THREADS=1"); /* as torchrun: or each rank takes all cores */
	add(e, "TORCH_NCCL_ASYNC_ERROR_HANDLING=1");
	add(e, "PYTHONUNBUFFERED=1"); /* Python keeps a pipe's output back otherwise */
	if (gpus) {
		add(e, "CUDA_DEVICE_ORDER=PCI_BUS_ID"); /* the order in which they were counted */
		add(e, "CUDA_VISIBLE_DEVICES=%s", gpus);
	}
	add_nccl_log(e);
	if (s->per_node) {
		add(e, "FORCE_TORCHRUN=1"); /* LLaMA-Factory: torchrun even with one GPU a node */
		if (!e->standalone)
			add_torchrun(e);
	}
	if (ifname && *ifname) {
		add(e, "NCCL_SOCKET_IFNAME=%s", ifname);
		add(e, "GLOO_SOCKET_IFNAME=%s", ifname);
		add(e, "TP_SOCKET_IFNAME=%s", ifname);
	}
}

/* What goes beyond the names that are meant for it is not for the coordinator to set. */
static void add_net(struct env *e)
{
	for (size_t i = 0; i < e->job.go->n_env; i++) {
		const struct name *n = find(e->job.go->env[i]);

		if (n && n->kind == NET && !e->has[n - names])
			add(e, "%s", e->job.go->env[i]);
		if (n && n->kind == NET)
			e->has[n - names] = true; /* once, or there would be no room */
	}
}

struct env *env_create(const struct spec *spec, const struct env_job *job)
{
	struct env *e = calloc(1, sizeof *e);

	if (!e)
		return NULL;

	arena_init(&e->arena);
	e->job = *job;
	e->standalone = says_standalone(spec);
	e->vars = calloc(spec->envc + N_NAMES + RANK_VARS + 1, sizeof *e->vars);
	if (!e->vars) {
		env_destroy(e);
		return NULL;
	}

	add_user(e, spec);
	add_conf(e);
	add_places(e);
	add_defaults(e);
	add_net(e);
	if (e->failed) {
		env_destroy(e);
		return NULL;
	}
	return e;
}

void env_destroy(struct env *e)
{
	if (!e)
		return;

	arena_finish(&e->arena);
	free(e->vars);
	free(e);
}

char **env_rank(struct env *e, uint32_t local)
{
	const struct rec_shim_setup *s = e->job.setup;
	const struct rec_shim_go *go = e->job.go;
	uint32_t rank = s->rank_base + local;
	char *p = e->rank_bytes, *end = p + sizeof e->rank_bytes;
	size_t n = e->n;

#define ADD_RANK(...) (e->vars[n++] = p, p += snprintf(p, (size_t)(end - p), __VA_ARGS__) + 1)
	ADD_RANK("RANK=%u", rank);
	ADD_RANK("LOCAL_RANK=%u", local);
	ADD_RANK("ROLE_RANK=%u", rank);
	if (local < go->n_ras && strlen(go->ras[local]) < 64 && !user_has(e, "NCCL_RAS_ADDR="))
		ADD_RANK("NCCL_RAS_ADDR=%s", go->ras[local]);
#undef ADD_RANK
	e->vars[n] = NULL;
	return e->vars;
}
