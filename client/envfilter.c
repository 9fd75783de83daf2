/* envfilter.c - which of the caller's variables a job gets, see envfilter.h
 *
 * Dropped is what is true of this host or this session only, and what another
 * launcher has said to this process: a rank that believes an outer SLURM_PROCID
 * or RANK joins the wrong group. An entry that ends in '*' is a prefix. */
#include "client/envfilter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kept in step with nodectl-launch(1), section ENVIRONMENT OF THE JOB. */
static const char *const dropped[] = {
	/* this session */
	"SSH_*", "XDG_*", "DBUS_*", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "WINDOWID",
	"TMUX", "TMUX_PANE", "STY", "COLUMNS", "LINES", "LS_COLORS", "OLDPWD", "_",
	/* would reach into every process of the job */
	"LD_PRELOAD", "LD_AUDIT",
	/* systemd's word to this process alone */
	"NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "WATCHDOG_*", "LISTEN_*",
	/* ranks as other launchers number them */
	"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_*", "ROLE_*", "NODE_RANK",
	"NNODES", "MASTER_ADDR", "MASTER_PORT", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE",
	"TORCHELASTIC_*", "PET_NODE_RANK", "PET_NNODES", "PET_MASTER_ADDR", "PET_MASTER_PORT",
	"PET_RDZV_ID",
	"SLURM_*", "SLURMD_*", "PMI_*", "PMIX_*", "MPI_LOCAL*", "OMPI_COMM_*", "OMPI_MCA_*",
	"HYDRA_*", "HYDI_*", "SKYPILOT_*", "DSTACK_*",
	/* our own */
	"NODEAGENT_*",
};

static const char *const basic[] = { "HOME", "USER", "LOGNAME", "SHELL", "PATH",
				     "LANG", "LC_*", "TERM",	"TZ" };

static const char *const secret[] = { "TOKEN", "SECRET", "PASSW", "PASSPHRASE", "KEY",
				      "CREDENTIAL", "AUTH", "COOKIE" };

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

static bool matches(const char *pattern, const char *name, size_t len)
{
	size_t n = strlen(pattern);

	if (pattern[n - 1] == '*')
		return len >= n - 1 && memcmp(name, pattern, n - 1) == 0;
	return len == n && memcmp(name, pattern, n) == 0;
}

static bool listed(const char *const *list, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (matches(list[i], name, len))
			return true;
	return false;
}

bool env_is_dropped(const char *name, size_t len)
{
	return listed(dropped, LEN(dropped), name, len);
}

bool env_is_basic(const char *name, size_t len)
{
	return listed(basic, LEN(basic), name, len);
}

bool env_is_secret(const char *name, size_t len)
{
	for (size_t i = 0; i < LEN(secret); i++)
		if (memmem(name, len, secret[i], strlen(secret[i])))
			return true;
	return false;
}

/* Length of the name in "NAME=value"; 0 when there is none. */
static size_t name_length(const char *var)
{
	const char *eq = strchr(var, '=');

	return eq ? (size_t)(eq - var) : 0;
}

/* ---- finding a name: there may be a hundred thousand --------------------- */

static uint64_t hash(const char *p, size_t n)
{
	uint64_t h = 1469598103934665603u; /* FNV-1a; who chooses names to collide waits for himself */

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)p[i]) * 1099511628211u;
	return h ^ h >> 32;
}

/* The slot of the name, or the free one where it belongs. Entries are "NAME" or "NAME=value". */
static uint32_t *slot_of(const struct env_index *x, const char *const *list, const char *name, size_t len)
{
	size_t at = hash(name, len) & (x->size - 1);

	for (;; at = (at + 1) & (x->size - 1)) {
		const char *there = x->slots[at] ? list[x->slots[at] - 1] : NULL;

		if (!there || (strncmp(there, name, len) == 0 && (there[len] == '=' || !there[len])))
			return &x->slots[at];
	}
}

static bool grow(struct env_index *x, const char *const *list)
{
	struct env_index more = { .size = x->size ? 2 * x->size : 64, .used = x->used };

	more.slots = calloc(more.size, sizeof(*more.slots));
	if (!more.slots)
		return false;
	for (size_t i = 0; i < x->size; i++)
		if (x->slots[i]) {
			const char *s = list[x->slots[i] - 1];

			*slot_of(&more, list, s, strcspn(s, "=")) = x->slots[i];
		}
	free(x->slots);
	*x = more;
	return true;
}

/* list[i] can be found by its name from now on, unless one of that name can already. */
static bool add_name(struct env_index *x, const char *const *list, size_t i)
{
	uint32_t *slot;

	if (2 * (x->used + 1) > x->size && !grow(x, list))
		return false;
	slot = slot_of(x, list, list[i], strcspn(list[i], "="));
	if (*slot)
		return true;
	*slot = (uint32_t)i + 1;
	x->used++;
	return true;
}

/* Its index, or -1. */
static int64_t find(const struct env_index *x, const char *const *list, const char *name, size_t len)
{
	return x->size ? (int64_t)*slot_of(x, list, name, len) - 1 : -1;
}

#define CC(list) ((const char *const *)(list))

/* ---- lists ---------------------------------------------------------------- */

static bool append(char ***list, size_t *n, char *owned)
{
	bool full = (*n & (*n + 1)) == 0; /* room for 2, 4, 8 ... with the NULL */
	char **more = !owned ? NULL : full ? realloc(*list, 2 * (*n + 1) * sizeof(char *)) : *list;

	if (!more) {
		free(owned);
		return false;
	}
	more[(*n)++] = owned;
	more[*n] = NULL;
	*list = more;
	return true;
}

/* Takes ownership of 'var'. */
static bool put(char ***list, size_t *n, struct env_index *x, char *var)
{
	int64_t old = var ? find(x, CC(*list), var, name_length(var)) : -1;

	if (old < 0)
		return append(list, n, var) && add_name(x, CC(*list), *n - 1);
	free((*list)[old]);
	(*list)[old] = var;
	return true;
}

bool envset_put(struct envset *s, const char *name, const char *value)
{
	size_t n = strlen(name), m = strlen(value);
	char *var = malloc(n + m + 2);

	if (!var)
		return false;
	snprintf(var, n + m + 2, "%s=%s", name, value);
	return put(&s->env, &s->count, &s->env_at, var);
}

/* The caller's own variables. Those that are set by a choice are neither kept nor "dropped". */
static bool take_callers(struct envset *s, char *const *environ, const struct env_index *chosen,
			 const char *const *choices, bool clean)
{
	for (; *environ; environ++) {
		size_t len = name_length(*environ);
		bool drop;

		if (!len || find(chosen, choices, *environ, len) >= 0 ||
		    find(&s->env_at, CC(s->env), *environ, len) >= 0)
			continue;
		drop = clean ? !env_is_basic(*environ, len) : env_is_dropped(*environ, len);
		if (!(drop ? append(&s->dropped, &s->n_dropped, strndup(*environ, len)) :
			     put(&s->env, &s->count, &s->env_at, strdup(*environ))))
			return false;
	}
	return true;
}

static int take_choice(struct envset *s, char *const *environ, const char *choice, struct err *e)
{
	size_t len = strcspn(choice, "=");

	if (!len)
		return err_set(e, EINVAL, "--env \"%s\" names no variable: write --env NAME=value or --env NAME",
			       choice);
	if (choice[len]) {
		if (put(&s->env, &s->count, &s->env_at, strdup(choice)) &&
		    put(&s->set, &s->n_set, &s->set_at, strdup(choice)))
			return 0;
		return err_set(e, ENOMEM, "out of memory");
	}
	for (; *environ; environ++)
		if (name_length(*environ) == len && memcmp(*environ, choice, len) == 0)
			return put(&s->env, &s->count, &s->env_at, strdup(*environ)) ?
				       0 :
				       err_set(e, ENOMEM, "out of memory");
	return err_set(e, EINVAL, "--env %s: there is no variable of that name here to pass on; "
				  "write --env %s=value to set it", choice, choice);
}

int envfilter(char *const *environ, const char *const *choices, size_t n_choices, bool clean,
	      struct envset *ret, struct err *e)
{
	struct env_index chosen = { 0 };
	struct envset s = { 0 };
	bool good = true;
	int r = 0;

	for (size_t i = 0; good && i < n_choices; i++)
		good = add_name(&chosen, choices, i);
	if (!good || !take_callers(&s, environ, &chosen, choices, clean))
		r = err_set(e, ENOMEM, "out of memory");
	free(chosen.slots);
	for (size_t i = 0; r == 0 && i < n_choices; i++)
		r = take_choice(&s, environ, choices[i], e);
	if (r < 0) {
		envset_finish(&s);
		return r;
	}
	*ret = s;
	return 0;
}

static void free_list(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

void envset_finish(struct envset *s)
{
	free_list(s->env, s->count);
	free_list(s->dropped, s->n_dropped);
	free_list(s->set, s->n_set);
	free(s->env_at.slots);
	free(s->set_at.slots);
	memset(s, 0, sizeof(*s));
}
