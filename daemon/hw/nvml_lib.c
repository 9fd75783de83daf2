/* nvml_lib.c - see nvml_lib.h */
#include "hw/nvml_lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libnvidia-ml.so.1"

static int load(struct nvml_lib *lib, const char *path, struct err *e)
{
	lib->handle = dlopen(path ? path : LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (lib->handle)
		return 0;
	if (path || access("/proc/driver/nvidia/version", F_OK) == 0)
		return err_set(e, ENOENT, "the NVIDIA driver's library cannot be loaded: %.150s",
			       dlerror());
	return err_set(e, ENODEV, "no NVIDIA driver on this host (%s is not installed)", LIBRARY);
}

static int bind_all(struct nvml_lib *lib, struct err *e)
{
	const char *lacks = NULL;
	void *p;

#define X(name, params, needed)                                                                    \
	p = dlsym(lib->handle, #name);                                                             \
	memcpy(&lib->name, &p, sizeof p); /* ISO C has no cast for this */                         \
	if ((needed) && !p)                                                                        \
		lacks = #name;
	NVML_FUNCTIONS(X)
#undef X
	if (!lacks)
		return 0;
	return err_set(e, ENOENT, "the NVIDIA driver is too old: its library has no %s", lacks);
}

static bool is_version(const char *word)
{
	return strchr(word, '.') && word[strspn(word, "0123456789.")] == '\0';
}

/* The kernel module's version, "" when it is not loaded. */
static void module_version(char out[32])
{
	FILE *f = fopen("/proc/driver/nvidia/version", "re");
	char line[256], *save = NULL;

	out[0] = '\0';
	if (!f)
		return;
	/* "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build" */
	if (fgets(line, sizeof line, f))
		for (char *w = strtok_r(line, " \t\n", &save); w; w = strtok_r(NULL, " \t\n", &save))
			if (is_version(w)) {
				snprintf(out, 32, "%.31s", w);
				break;
			}
	fclose(f);
}

static int say_mismatch(struct err *e)
{
	char version[32];

	module_version(version);
	return err_set(e, ENOENT,
		       "the NVIDIA kernel module%s%s is another version than its library: the driver "
		       "was updated; reboot, or reload the module",
		       version[0] ? " " : "", version);
}

static int say_init(nvml_ret r, struct err *e)
{
	switch (r) {
	case NVML_DRIVER_NOT_LOADED:
		return err_set(e, ENODEV,
			       "the NVIDIA driver is not loaded: its library is there, its kernel module is not");
	case NVML_LIB_RM_VERSION_MISMATCH:
		return say_mismatch(e);
	case NVML_NO_PERMISSION:
		return err_set(e, ENOENT,
			       "the NVIDIA driver refuses this user: /dev/nvidiactl cannot be opened");
	case NVML_GPU_IS_LOST:
		return err_set(e, ENOENT, "a GPU fell off the bus and the NVIDIA driver does not start");
	case NVML_IRQ_ISSUE:
	case NVML_INSUFFICIENT_POWER:
		return err_set(e, ENOENT, "the NVIDIA driver does not start: %s",
			       nvml_gpu_trouble(r));
	default:
		return err_set(e, ENOENT, "the NVIDIA driver does not start: nvmlInit says %d", r);
	}
}

int nvml_lib_open(struct nvml_lib *lib, const char *path, struct err *e)
{
	nvml_ret r;
	int rc = load(lib, path, e);

	if (rc == 0)
		rc = bind_all(lib, e);
	if (rc == 0 && (r = lib->nvmlInit_v2()) != NVML_OK)
		rc = say_init(r, e);
	if (rc == 0)
		return 0;
	/* the file may be another one at the next try */
	if (lib->handle)
		dlclose(lib->handle);
	*lib = (struct nvml_lib){ 0 };
	return rc;
}

void nvml_lib_close(struct nvml_lib *lib)
{
	if (!lib->handle)
		return;
	lib->nvmlShutdown();
	dlclose(lib->handle);
	*lib = (struct nvml_lib){ 0 };
}

const char *nvml_gpu_trouble(nvml_ret r)
{
	switch (r) {
	case NVML_GPU_IS_LOST:
		return "fell off the bus: the driver cannot reach it any more; reboot the node";
	case NVML_RESET_REQUIRED:
		return "needs a reset before it can be used again";
	case NVML_INSUFFICIENT_POWER:
		return "its external power cables are not attached properly";
	case NVML_IRQ_ISSUE:
		return "the kernel does not deliver its interrupts";
	default:
		return NULL;
	}
}

bool nvml_session_over(nvml_ret r)
{
	return r == NVML_UNINITIALIZED || r == NVML_DRIVER_NOT_LOADED ||
	       r == NVML_LIB_RM_VERSION_MISMATCH;
}
