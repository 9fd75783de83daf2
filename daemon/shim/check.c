/* check.c - see check.h */
#include "shim/check.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/env.h"

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin" /* of a job without PATH */
#define SHEBANG_MAX 256 /* what the kernel reads of a script */
#define ROOM_KEPT 8192 /* pages are counted whole, and a script's interpreter comes on top */

#define ELSEWHERE "; a job's directory must be there on each of its nodes: share it, or give another with --cwd"

int check_cwd(const struct spec *spec, struct err *e)
{
	if (chdir(spec->cwd) == 0)
		return 0;

	switch (errno) {
	case ENOENT:
		return err_set(e, ENOENT, "cwd %s does not exist" ELSEWHERE, spec->cwd);
	case ENOTDIR:
		return err_set(e, ENOTDIR, "cwd %s is not a directory" ELSEWHERE, spec->cwd);
	case EACCES:
		return err_set(e, EACCES, "cwd %s may not be entered by uid %u; give another with --cwd",
			       spec->cwd, (unsigned)geteuid());
	default:
		return err_set(e, errno, "cwd %s cannot be used: %s" ELSEWHERE, spec->cwd,
			       strerror(errno));
	}
}

/* 0, or -errno: ENOENT as well as EACCES. *ret_there: it exists as far as we
 * can see; a directory on the way that may not be entered hides it. */
static int runnable(const char *path, bool *ret_there)
{
	struct stat st;

	*ret_there = stat(path, &st) == 0;
	if (!*ret_there)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 ? 0 : -errno;
}

/* The interpreter of a "#!" file, or false. */
static bool shebang(const char *path, char out[SHEBANG_MAX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;
	char *p;

	if (fd < 0)
		return false; /* a program may be executable and unreadable */
	n = read(fd, out, SHEBANG_MAX - 1);
	close(fd);
	if (n < 3 || memcmp(out, "#!", 2) != 0)
		return false;

	out[n] = '\0';
	p = out + 2 + strspn(out + 2, " \t");
	p[strcspn(p, " \t\n")] = '\0';
	memmove(out, p, strlen(p) + 1);
	return *out != '\0';
}

static int check_interpreter(const char *name, const char *path, uint32_t *ret_code, struct err *e)
{
	char interp[SHEBANG_MAX], *cr;
	bool there;
	int r;

	if (!shebang(path, interp))
		return 0;
	r = runnable(interp, &there);
	if (r == 0)
		return 0;

	*ret_code = r == -ENOENT || r == -ENOTDIR ? 127 : 126;
	cr = strchr(interp, '\r');
	if (cr) {
		*cr = '\0';
		return err_set(e, r,
			       "the first line of '%s' ends in CR LF, so its interpreter '%s' is "
			       "not found: convert the file to Unix line ends",
			       name, interp);
	}
	return err_set(e, r, "the interpreter '%s' of the script '%s' %s", interp, path,
		       *ret_code == 127 ? "does not exist" : "cannot be executed");
}

/* What runs a file of this name, or NULL. */
static const char *runner_of(const char *path)
{
	const char *dot = strrchr(path, '.');

	return !dot ? NULL : strcmp(dot, ".py") == 0 ? "python3" : strcmp(dot, ".sh") == 0 ? "bash" : NULL;
}

/* "; make it executable ...": of a file that nobody may execute, most often a script that was just written. Else "". */
static void say_chmod(const char *path, char *out, size_t size)
{
	const char *with = runner_of(path);
	struct stat st;

	*out = '\0';
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & 0111) != 0)
		return;
	if (with)
		snprintf(out, size, "; make it executable (chmod +x), or run it as %s %s", with, path);
	else
		snprintf(out, size, "; make it executable: chmod +x %s", path);
}

static int not_executable(const char *path, int code, uint32_t *ret_code, struct err *e)
{
	char remedy[PATH_MAX + 64];

	*ret_code = 126;
	if (code == -EISDIR)
		return err_set(e, EISDIR, "command '%s' is a directory", path);
	say_chmod(path, remedy, sizeof(remedy));
	return err_set(e, -code, "command '%s' is not executable for uid %u: %s%s", path,
		       (unsigned)geteuid(), strerror(-code), remedy);
}

static int found(const char *name, const char *path, char **ret_path, uint32_t *ret_code,
		 struct err *e)
{
	int r = check_interpreter(name, path, ret_code, e);
	char *copy;

	if (r < 0)
		return r;
	copy = strdup(path);
	if (!copy)
		return err_set(e, ENOMEM, "out of memory");
	*ret_path = copy;
	return 0;
}

/* Like a shell: the first that can run; else remember a file that is there but
 * cannot. Directories of that name, and those that may not be entered, do not count. */
static int search(const char *name, const char *dirs, char *out, char *denied)
{
	int why = -ENOENT;

	*denied = '\0';
	for (const char *p = dirs;; p++) {
		size_t n = strcspn(p, ":");
		bool there = false;
		int r = -ENAMETOOLONG;

		if (snprintf(out, PATH_MAX, "%.*s%s%s", (int)n, p, n ? "/" : "./", name) < PATH_MAX)
			r = runnable(out, &there);
		if (r == 0)
			return 0;
		if (r == -EACCES && there && !*denied) {
			memcpy(denied, out, strlen(out) + 1);
			why = r;
		}
		p += n;
		if (!*p)
			return why;
	}
}

/* Our own programs need not be in anybody's PATH: they are where the shim is. */
static bool is_ours(const char *name, char *out)
{
	char self[PATH_MAX];
	ssize_t n = strncmp(name, "nodeagent-", 10) == 0 ? readlink("/proc/self/exe", self, sizeof(self) - 1) : -1;
	char *slash;
	bool there;

	if (n <= 0)
		return false;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash == NULL)
		return false;
	slash[1] = '\0';
	return snprintf(out, PATH_MAX, "%s%s", self, name) < PATH_MAX && runnable(out, &there) == 0;
}

/* Commands of the shell alone: no file has their names. */
static bool is_of_the_shell(const char *name)
{
	static const char *const names[] = { "cd", "export", "source", ".", "alias", "ulimit", "set", "unset", "eval",
					     "exec", "module", "conda", "umask" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* What people mean who write -- "python3 train.py" or -- cd /data; NULL: nothing comes to mind. */
static const char *not_found_hint(const struct spec *spec)
{
	if (strchr(spec->argv[0], ' '))
		return "it is one word with blanks in it: leave the quotes out, or write sh -c '...'";
	if (is_of_the_shell(spec->argv[0]))
		return "it is a command of the shell, not a program: write sh -c '...' (or bash -lc '...')";
	return NULL;
}

int check_command(const struct spec *spec, char **ret_path, uint32_t *ret_code, struct err *e)
{
	const char *name = spec->argv[0], *dirs = env_get(spec->env, "PATH");
	char path[PATH_MAX], denied[PATH_MAX];
	const char *hint;
	bool there;
	int r;

	*ret_code = 127;
	if (strchr(name, '/')) {
		r = runnable(name, &there);
		if (r == 0)
			return found(name, name, ret_path, ret_code, e);
		if (r == -EACCES || r == -EISDIR)
			return not_executable(name, r, ret_code, e);
		hint = not_found_hint(spec);
		return err_set(e, -r, "command '%s' not found: %s; %s", name, strerror(-r),
			       hint ? hint : "it must be there on each node of the job");
	}

	if (!dirs)
		dirs = DEFAULT_PATH;
	r = *name ? search(name, dirs, path, denied) : -ENOENT;
	if (r == -ENOENT && is_ours(name, path))
		r = 0;
	if (r == 0)
		return found(name, path, ret_path, ret_code, e);
	if (r == -EACCES)
		return not_executable(denied, r, ret_code, e);
	hint = not_found_hint(spec);
	if (hint)
		return err_set(e, ENOENT, "command '%s' not found: %s", name, hint);
	return err_set(e, ENOENT, "command '%s' not found on the node, in %s: install it there, give its path, or pass "
			"another with --env PATH=... (PATH=%.80s%s)", name,
		       env_get(spec->env, "PATH") ? "your PATH" : "the usual directories, as you have no PATH", dirs,
		       strlen(dirs) > 80 ? "..." : "");
}

/* ---- room ------------------------------------------------------------ */

/* fs/exec.c: a quarter of the soft limit of the stack, at most 6 MiB, at least
 * 128 KiB; one string at most 32 pages. */
void check_room_here(struct room *ret)
{
	const size_t most = 6u << 20, least = 128u << 10;
	struct rlimit r;

	ret->one = 32 * (size_t)sysconf(_SC_PAGESIZE);
	ret->all = most;
	if (getrlimit(RLIMIT_STACK, &r) == 0 && r.rlim_cur / 4 < most)
		ret->all = (size_t)(r.rlim_cur / 4);
	if (ret->all < least)
		ret->all = least;
}

static size_t measure(const char *const *v, size_t *n, size_t *longest)
{
	size_t sum = 0;

	for (; *v; v++, (*n)++) {
		size_t len = strlen(*v) + 1;

		sum += len + sizeof(*v); /* the kernel counts the pointer, too */
		if (len > *longest)
			*longest = len;
	}
	return sum;
}

int check_room(const struct room *room, const char *path, const char *const *argv,
	       const char *const *env, struct err *e)
{
	size_t argc = 0, envc = 0, longest = 0;
	size_t all = strlen(path) + 1 + measure(argv, &argc, &longest) + measure(env, &envc, &longest);
	struct buf list;
	int r;

	if (longest <= room->one && all + ROOM_KEPT <= room->all)
		return 0;
	buf_init(&list);
	spec_add_largest(argv, env, &list);
	if (longest > room->one)
		r = err_set(e, E2BIG, "the kernel passes at most %zu bytes in one argument or variable: %s; "
			    "put it into a file", room->one, buf_str(&list));
	else
		r = err_set(e, E2BIG, "command and environment take %zu bytes (%zu arguments, %zu variables, 8 "
			    "bytes for each included), but at most %zu can be passed to a program with the "
			    "stack limit there; " SPEC_PASS_LESS "%s%s", all, argc, envc,
			    room->all - ROOM_KEPT, list.len ? "; the largest: " : "", buf_str(&list));
	buf_finish(&list);
	return r;
}
