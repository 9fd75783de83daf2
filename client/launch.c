/* launch.c - working directory, environment and description of a launch */
#include "client/launch.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/net_plan.h"
#include "client/status.h"
#include "client/term.h"
#include "client/trainer.h"

extern char **environ;

static bool same_place(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* $PWD if it is true: /data/run stays /data/run where /data is a link, and the
 * link's target may differ between nodes. malloc'ed; NULL and errno. */
static char *where_we_are(void)
{
	const char *pwd = getenv("PWD");

	if (pwd && pwd[0] == '/' && same_place(pwd, "."))
		return strdup(pwd);
	return getcwd(NULL, 0);
}

static int choose_directory(struct launch *w, struct err *e)
{
	char *here;
	int n;

	if (w->cwd && w->cwd[0] == '/') {
		w->dir = strdup(w->cwd);
		return w->dir ? 0 : err_set(e, ENOMEM, "out of memory");
	}
	here = where_we_are();
	if (!here)
		return err_set(e, EINVAL, "this directory cannot be named (%s); give one with --cwd",
			       strerror(errno));
	if (!w->cwd || !*w->cwd || strcmp(w->cwd, ".") == 0) {
		w->dir = here;
		return 0;
	}
	n = asprintf(&w->dir, "%s/%s", strcmp(here, "/") == 0 ? "" : here, w->cwd);
	free(here);
	if (n >= 0)
		return 0;
	w->dir = NULL;
	return err_set(e, ENOMEM, "out of memory");
}

static bool set_by_user(const struct launch *w, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < w->n_choices; i++)
		if (strncmp(w->choices[i], name, n) == 0 && (w->choices[i][n] == '=' || !w->choices[i][n]))
			return true;
	return false;
}

/* The shim looks there for steps and loss; it is read as the job's user. */
static int name_trainer_log(struct launch *w, struct err *e)
{
	static const char name[] = "NODEAGENT_TRAINER_LOG";
	char *path;
	bool ok;

	if (set_by_user(w, name) || !(path = trainer_log(w->argv, w->dir)))
		return 0;
	ok = envset_put(&w->env, name, path);
	free(path);
	return ok ? 0 : err_set(e, ENOMEM, "out of memory");
}

int launch_prepare(struct launch *w, struct err *e)
{
	int r = choose_directory(w, e);

	if (r == 0)
		r = envfilter(environ, w->choices, w->n_choices, w->clean_env, &w->env, e);
	if (r == 0 && !set_by_user(w, "PWD") && !envset_put(&w->env, "PWD", w->dir))
		r = err_set(e, ENOMEM, "out of memory");
	if (r == 0 && w->argv)
		r = name_trainer_log(w, e);
	return r;
}

static void add_word(struct buf *b, const char *word)
{
	bool plain = *word && !strpbrk(word, " \t\n\r'\"\\$`;&|<>()*?[]#~!");

	if (!plain)
		buf_addc(b, '\'');
	for (size_t n = strlen(word), at = 0; at < n;) {
		unsigned columns;
		size_t len = term_char(word + at, n - at, &columns);

		if (len == 1 && (unsigned char)word[at] >= 0x80)
			buf_addc(b, '?'); /* not UTF-8 */
		else
			term_add_clean(b, word + at, len);
		at += len;
	}
	if (!plain)
		buf_addc(b, '\'');
}

void launch_command_text(char *const *argv, char *out, size_t size)
{
	const char *s;
	size_t n = 0, len, all;
	struct buf b;

	buf_init(&b);
	for (size_t i = 0; argv[i] && b.len < size * 2; i++) {
		if (i)
			buf_addc(&b, ' ');
		add_word(&b, argv[i]);
	}
	s = buf_str(&b);
	all = strlen(s);
	while (n < all) { /* never half a character */
		unsigned columns;

		len = term_char(s + n, all - n, &columns);
		if (n + len >= size)
			break;
		n += len;
	}
	memcpy(out, s, n);
	out[n] = '\0';
	buf_finish(&b);
}

static const char *one_of(const char *const *list, const char *word)
{
	for (; *list; list++)
		if (strcmp(*list, word) == 0)
			return *list;
	return NULL;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Also as "python [-u] -m torch.distributed.run ...", which is what torchrun is. */
const char *launch_own_workers(char *const *argv)
{
	static const char *const programs[] = { "torchrun", "llamafactory-cli", "deepspeed", "accelerate",
						NULL };
	static const char *const modules[] = { "torch.distributed.run", "torch.distributed.launch",
					       "accelerate.commands.launch", "deepspeed.launcher.runner",
					       "llamafactory.cli", NULL };
	const char *name = base_name(argv[0]);

	if (strncmp(name, "python", 6) != 0)
		return one_of(programs, name);
	for (char *const *a = argv + 1; *a && **a == '-'; a++)
		if (strcmp(*a, "-m") == 0 && a[1])
			return one_of(modules, a[1]);
	return argv[1] && argv[1][0] != '-' ? one_of(programs, base_name(argv[1])) : NULL;
}

/* ---- --dry-run ---------------------------------------------------------- */

static void dry_gpus(const struct ctl *c, struct out *o, const struct rec_submit *m)
{
	const char *busy = m->busy_gpus ? ", busy ones too" : "";
	bool all = !MSG_HAS(m, submit, gpus_per_node), any = !all || c->json || !status_has_none(c, "gpu.");
	char text[64];

	if (all) {
		snprintf(text, sizeof(text), "all%s", busy);
		out_null(o, "gpus_per_node");
	} else {
		snprintf(text, sizeof(text), "%u%s", m->gpus_per_node, busy);
		out_uint(o, "gpus_per_node", NULL, m->gpus_per_node);
	}
	out_str(o, NULL, any ? "GPUs of each" : NULL, m->gpus_per_node || all ? text : "none");
	out_bool(o, "busy_gpus", NULL, m->busy_gpus);
}

static void dry_nodes(const struct ctl *c, struct out *o, const struct launch *w)
{
	const struct rec_submit *m = &w->request.u.submit;
	struct buf b;

	buf_init(&b);
	buf_addf(&b, "%u", m->nnodes);
	if (m->hosts)
		buf_addf(&b, m->nnodes < w->hosts.count ? " of %s" : ": %s", m->hosts);
	if (m->exclude)
		buf_addf(&b, ", none of %s", m->exclude);
	out_str(o, NULL, "nodes", buf_str(&b));
	out_uint(o, "nnodes", NULL, m->nnodes);
	out_strs(o, "hosts", NULL, (const char *const *)w->hosts.names, w->hosts.count);
	out_strs(o, "exclude", NULL, (const char *const *)w->exclude.names, w->exclude.count);
	out_uint(o, "procs_per_node", "processes on each", m->procs_per_node);
	dry_gpus(c, o, m);
	buf_finish(&b);
}

/* "NAME=value", or the name alone when its value is nobody's business. */
static char *shown(const char *var)
{
	size_t n = strcspn(var, "=");
	char *text;

	if (!env_is_secret(var, n))
		return strdup(var);
	return asprintf(&text, "%.*s=(not shown)", (int)n, var) < 0 ? NULL : text;
}

static void list(struct out *o, const char *key, const char *title, char *const *vars, size_t n)
{
	struct buf b;

	if (!n)
		title = NULL;
	out_strs(o, key, NULL, (const char *const *)vars, n);
	buf_init(&b);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_addc(&b, ' ');
		buf_adds(&b, vars[i]);
	}
	out_str(o, NULL, title, buf_str(&b));
	buf_finish(&b);
}

static void dry_environment(struct out *o, const struct launch *w)
{
	char **set = calloc(w->env.n_set + 1, sizeof(*set)), **nccl = calloc(w->env.count + 1, sizeof(*nccl));
	size_t n = 0;

	for (size_t i = 0; set && i < w->env.n_set; i++)
		set[i] = shown(w->env.set[i]);
	for (size_t i = 0; nccl && i < w->env.count; i++)
		if (strncmp(w->env.env[i], "NCCL_", 5) == 0)
			nccl[n++] = shown(w->env.env[i]);
	out_uint(o, "env_count", "variables passed on", w->env.count);
	list(o, "env_set", "set", set, set ? w->env.n_set : 0);
	list(o, "env_nccl", "NCCL, yours", nccl, n);
	list(o, "env_dropped", "dropped", w->env.dropped, w->env.n_dropped);
	for (size_t i = 0; set && i < w->env.n_set; i++)
		free(set[i]);
	for (size_t i = 0; i < n; i++)
		free(nccl[i]);
	free(set);
	free(nccl);
}

static bool can_run(const char *dir, size_t n, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	if (snprintf(path, sizeof(path), "%.*s%s%s", (int)n, dir, n > 0 ? "/" : "", name) >= PATH_MAX)
		return true; /* not for us to say */
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* In the job's PATH, as its shims will look; what is relative there, from the job's directory. */
static bool in_path(const struct launch *w, const char *name)
{
	const char *dirs = "/usr/local/bin:/usr/bin:/bin";
	char place[PATH_MAX];

	for (char *const *v = w->env.env; v && *v; v++)
		if (strncmp(*v, "PATH=", 5) == 0)
			dirs = *v + 5;
	for (const char *p = dirs;; p++) {
		size_t n = strcspn(p, ":");

		if (snprintf(place, sizeof(place), "%s%s%.*s", *p == '/' ? "" : w->dir, *p == '/' ? "" : "/", (int)n, p) >=
			    PATH_MAX ||
		    can_run(place, strlen(place), name))
			return true;
		p += n;
		if (*p == '\0')
			return false;
	}
}

/* For --dry-run: each node of a job looks for these itself when it prepares; here we can say what this host lacks. */
static void look_here(const struct launch *w, struct buf *b)
{
	const char *name = w->argv[0];
	bool here = name[0] == '/' ? can_run("", 0, name) : strchr(name, '/') ? can_run(w->dir, strlen(w->dir), name) :
		    strncmp(name, "nodeagent-", 10) == 0 || in_path(w, name);
	struct stat st;

	if (stat(w->dir, &st) != 0 || !S_ISDIR(st.st_mode))
		buf_addf(b, "there is no directory %s on this host; each node of the job must have it\n", w->dir);
	else if (!here && strchr(name, '/'))
		buf_addf(b, "%s is no program that can be run on this host; each node of the job must have it\n", name);
	else if (!here)
		buf_addf(b, "no program %s is in your PATH on this host; each node of the job must have it there\n", name);
}

void launch_warn(struct launch *w)
{
	struct buf b;
	const char *line, *end;

	buf_init(&b);
	if (w->dry_run)
		look_here(w, &b);
	if (w->request.u.submit.max_restarts)
		trainer_warn(w->argv, w->dir, &b);
	for (line = buf_str(&b); (end = strchr(line, '\n')) != NULL; line = end + 1)
		ctl_fail(0, "warning: %.*s", (int)(end - line), line);
	w->warnings = b.len > 0 ? buf_steal(&b, NULL) : NULL;
	buf_finish(&b);
}

/* In the document, for programs; people have read them on stderr. */
static void dry_warnings(struct out *o, const struct launch *w)
{
	const char *end;
	char line[1024];

	out_start(o, "warnings", OUT_LINES);
	for (const char *p = w->warnings; p && (end = strchr(p, '\n')) != NULL; p = end + 1) {
		snprintf(line, sizeof(line), "%.*s", (int)(end - p), p);
		out_line(o, OUT_WARN, line);
	}
	out_end(o);
}

int launch_dry_run(const struct ctl *c, const struct launch *w)
{
	const struct rec_submit *m = &w->request.u.submit;
	struct buf b;
	struct out *o = ctl_out(c, &b);
	size_t argc = 0;
	bool starts;
	int r;

	while (w->argv[argc])
		argc++;
	out_strs(o, "argv", NULL, (const char *const *)w->argv, argc);
	out_str(o, NULL, "command", m->command);
	out_str(o, "cwd", "cwd", w->dir);
	dry_nodes(c, o, w);
	if (m->name)
		out_str(o, "name", "name", m->name);
	if (m->time_s)
		out_uint(o, "time_limit_s", "time limit, s", m->time_s);
	if (MSG_HAS(m, submit, grace_ms))
		out_uint(o, "grace_ms", "grace, ms", m->grace_ms);
	if (m->with_stdin)
		out_bool(o, "stdin", "stdin to rank 0", true);
	if (m->immediate)
		out_bool(o, "immediate", "immediate", true);
	if (m->max_restarts) {
		out_uint(o, "max_restarts", "restarts, at most", m->max_restarts);
		out_str(o, "restart_on", "restarts when", m->restart_any ? "any" : "node");
		out_uint(o, "spares", "spare nodes", m->spares);
	}
	if (m->on_hang) {
		out_str(o, "on_hang", "when it hangs", m->on_hang);
		out_bool(o, "hang_stacks", "stacks when it hangs", m->hang_stacks);
	}
	if (c->json)
		dry_warnings(o, w);
	dry_environment(o, w);
	starts = net_plan_ask(c, w, o);
	out_data(o, NULL, "Nothing was started.");
	r = ctl_print(o, &b);
	return r == 0 && !starts ? EXIT_REFUSED : r;
}
