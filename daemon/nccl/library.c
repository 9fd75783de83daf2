/* library.c - see library.h */
#include "nccl/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Beneath a prefix, newest first: wheels of CUDA 13, of CUDA 12 and 11, conda's own. */
static const char *const cuda_globs[] = {
	"lib/python3*/site-packages/nvidia/cu13/lib/libcudart.so.*",
	"lib/python3*/site-packages/nvidia/cuda_runtime/lib/libcudart.so.*",
	"lib/libcudart.so.*",
	"targets/x86_64-linux/lib/libcudart.so.*",
	"lib64/libcudart.so.*",
	NULL,
};
static const char *const nccl_globs[] = {
	"lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2",
	"lib/libnccl.so.2",
	"lib64/libnccl.so.2",
	NULL,
};
/* for the loader's own search */
static const char *const cuda_names[] = { "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0",
					  "libcudart.so", NULL };
static const char *const nccl_names[] = { "libnccl.so.2", NULL };
#define TOOLKIT "/usr/local/cuda"

struct search {
	const char *what, *const *globs, *const *names, *brings;
};

static void *open_first(const char *prefix, const char *pattern, char ret_path[LIBRARY_PATH_SIZE])
{
	char full[PATH_MAX];
	void *handle = NULL;
	glob_t g;

	if ((size_t)snprintf(full, sizeof full, "%s/%s", prefix, pattern) >= sizeof full ||
	    glob(full, 0, NULL, &g) != 0)
		return NULL;
	/* the last one: the newest Python, the longest version */
	for (size_t i = g.gl_pathc; i > 0 && !handle; i--) {
		handle = dlopen(g.gl_pathv[i - 1], RTLD_NOW | RTLD_GLOBAL);
		if (handle)
			snprintf(ret_path, LIBRARY_PATH_SIZE, "%s", g.gl_pathv[i - 1]);
	}
	globfree(&g);
	return handle;
}

static void *open_beneath(const char *prefix, const struct search *s, char ret_path[LIBRARY_PATH_SIZE])
{
	void *handle = NULL;

	for (size_t i = 0; prefix && s->globs[i] && !handle; i++)
		handle = open_first(prefix, s->globs[i], ret_path);
	return handle;
}

static void *open_named(const struct search *s, char ret_path[LIBRARY_PATH_SIZE])
{
	for (size_t i = 0; s->names[i]; i++) {
		void *handle = dlopen(s->names[i], RTLD_NOW | RTLD_GLOBAL);

		if (handle) {
			snprintf(ret_path, LIBRARY_PATH_SIZE, "%s", s->names[i]);
			return handle;
		}
	}
	return NULL;
}

static int find(const struct search *s, const char *prefix, void **ret, char ret_path[LIBRARY_PATH_SIZE],
		struct err *e)
{
	void *handle = open_beneath(prefix, s, ret_path);

	if (!handle && !prefix)
		handle = open_named(s, ret_path);
	if (!handle && !prefix)
		handle = open_beneath(TOOLKIT, s, ret_path);
	if (!handle && prefix)
		return err_set(e, ENOENT, "no %s beneath %.200s: give the environment's own folder with --env, or %s there",
			       s->what, prefix, s->brings);
	if (!handle)
		return err_set(e, ENOENT, "no %s found by the loader or in " TOOLKIT ": name the environment of the "
			       "training with --env PREFIX, or %s", s->what, s->brings);
	*ret = handle;
	return 0;
}

/* Where a function really came from: links resolved. */
static void real_path(void *function, char out[LIBRARY_PATH_SIZE])
{
	char full[PATH_MAX];
	Dl_info info;

	if (dladdr(function, &info) && info.dli_fname && realpath(info.dli_fname, full))
		snprintf(out, LIBRARY_PATH_SIZE, "%.511s", full);
}

static int bind_cuda(struct library *lib, struct err *e)
{
	const char *lacks = NULL;
	void *p;

#define X(name, params, needed)                                                                    \
	p = dlsym(lib->cuda_handle, #name);                                                        \
	memcpy(&lib->name, &p, sizeof p); /* ISO C has no cast for this */                         \
	if ((needed) && !p)                                                                        \
		lacks = #name;
	CUDA_FUNCTIONS(X)
#undef X
	p = dlsym(lib->cuda_handle, "cudaGetErrorString");
	memcpy(&lib->cudaGetErrorString, &p, sizeof p);
	if (lacks || !p)
		return err_set(e, ENOENT, "%s has no %s: it is too old (CUDA 11 is needed)", lib->cuda_path,
			       lacks ? lacks : "cudaGetErrorString");
	real_path(p, lib->cuda_path);
	return 0;
}

static int bind_nccl(struct library *lib, struct err *e)
{
	const char *lacks = NULL;
	void *p;

#define X(name, params, needed)                                                                    \
	p = dlsym(lib->nccl_handle, #name);                                                        \
	memcpy(&lib->name, &p, sizeof p);                                                          \
	if ((needed) && !p)                                                                        \
		lacks = #name;
	NCCL_FUNCTIONS(X)
#undef X
	p = dlsym(lib->nccl_handle, "ncclGetLastError");
	memcpy(&lib->ncclGetLastError, &p, sizeof p);
	p = dlsym(lib->nccl_handle, "ncclGetErrorString");
	memcpy(&lib->ncclGetErrorString, &p, sizeof p);
	if (lacks || !p)
		return err_set(e, ENOENT, "%s has no %s: it is too old (NCCL 2.7 is needed)", lib->nccl_path,
			       lacks ? lacks : "ncclGetErrorString");
	real_path(p, lib->nccl_path);
	return 0;
}

static bool is_version(const char *word)
{
	return strchr(word, '.') && word[strspn(word, "0123456789.")] == '\0';
}

/* "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build" */
static void read_driver(char out[32])
{
	FILE *f = fopen("/proc/driver/nvidia/version", "re");
	char line[256], *save = NULL;

	out[0] = '\0';
	if (!f)
		return;
	if (fgets(line, sizeof line, f))
		for (char *w = strtok_r(line, " \t\n", &save); w && !out[0]; w = strtok_r(NULL, " \t\n", &save))
			if (is_version(w))
				snprintf(out, 32, "%.31s", w);
	fclose(f);
}

void library_nccl_text(int code, char out[24])
{
	if (code < 0)
		code = 0;
	if (code < 10000) /* up to 2.8 */
		snprintf(out, 24, "%d.%d.%d", code / 1000, code / 100 % 10, code % 100);
	else
		snprintf(out, 24, "%d.%d.%d", code / 10000, code / 100 % 100, code % 100);
}

int library_load(struct library *lib, const char *prefix, struct err *e)
{
	static const struct search cuda = { "CUDA runtime (libcudart.so)", cuda_globs, cuda_names,
					    "install PyTorch with CUDA or the CUDA toolkit" };
	static const struct search nccl = { "NCCL (libnccl.so.2)", nccl_globs, nccl_names,
					    "install PyTorch with CUDA or NCCL" };
	int r;

	*lib = (struct library){ .nccl_version = 0 };
	read_driver(lib->driver);
	if (prefix && access(prefix, X_OK) < 0)
		return err_set(e, ENOENT, "the environment %.200s cannot be entered: %s; it must be there on each node", prefix,
			       strerror(errno));
	r = find(&cuda, prefix, &lib->cuda_handle, lib->cuda_path, e);
	if (r == 0)
		r = bind_cuda(lib, e);
	if (r == 0)
		r = find(&nccl, prefix, &lib->nccl_handle, lib->nccl_path, e);
	if (r == 0)
		r = bind_nccl(lib, e);
	if (r < 0)
		return r;
	if (lib->ncclGetVersion(&lib->nccl_version) != NCCL_OK)
		lib->nccl_version = 0;
	lib->cudaRuntimeGetVersion(&lib->cuda_runtime);
	if (lib->cudaDriverGetVersion(&lib->cuda_driver) != CUDA_OK)
		lib->cuda_driver = 0;
	return 0;
}
