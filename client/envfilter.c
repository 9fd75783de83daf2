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

static char **find(char **vars, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(vars[i], name, len) == 0 && vars[i][len] == '=')
			return &vars[i];
	return NULL;
}

static bool append(char ***list, size_t *n, char *owned)
{
	char **more = owned ? realloc(*list, (*n + 2) * sizeof(char *)) : NULL;

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
static bool put(char ***list, size_t *n, char *var)
{
	char **old = var ? find(*list, *n, var, name_length(var)) : NULL;

	if (!old)
		return append(list, n, var);
	free(*old);
	*old = var;
	return true;
}

bool envset_put(struct envset *s, const char *name, const char *value)
{
	size_t n = strlen(name), m = strlen(value);
	char *var = malloc(n + m + 2);

	if (!var)
		return false;
	snprintf(var, n + m + 2, "%s=%s", name, value);
	return put(&s->env, &s->count, var);
}

static bool chosen(const char *const *choices, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strncmp(choices[i], name, len) == 0 &&
		    (choices[i][len] == '=' || !choices[i][len]))
			return true;
	return false;
}

/* The caller's own variables. Those that are set by a choice are neither kept nor "dropped". */
static bool take_callers(struct envset *s, char *const *environ, const char *const *choices,
			 size_t n_choices, bool clean)
{
	for (; *environ; environ++) {
		size_t len = name_length(*environ);
		bool drop;

		if (!len || chosen(choices, n_choices, *environ, len) ||
		    find(s->env, s->count, *environ, len))
			continue;
		drop = clean ? !env_is_basic(*environ, len) : env_is_dropped(*environ, len);
		if (!(drop ? append(&s->dropped, &s->n_dropped, strndup(*environ, len)) :
			     append(&s->env, &s->count, strdup(*environ))))
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
		if (put(&s->env, &s->count, strdup(choice)) && put(&s->set, &s->n_set, strdup(choice)))
			return 0;
		return err_set(e, ENOMEM, "out of memory");
	}
	for (; *environ; environ++)
		if (name_length(*environ) == len && memcmp(*environ, choice, len) == 0)
			return put(&s->env, &s->count, strdup(*environ)) ?
				       0 :
				       err_set(e, ENOMEM, "out of memory");
	return err_set(e, EINVAL, "--env %s: there is no variable of that name here to pass on; "
				  "write --env %s=value to set it", choice, choice);
}

int envfilter(char *const *environ, const char *const *choices, size_t n_choices, bool clean,
	      struct envset *ret, struct err *e)
{
	struct envset s = { 0 };
	int r = 0;

	if (!take_callers(&s, environ, choices, n_choices, clean))
		r = err_set(e, ENOMEM, "out of memory");
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
	memset(s, 0, sizeof(*s));
}
