/* nvml.c - the source of GPUs: NVIDIA's management library
 *
 * Only asks: no CUDA context, so no memory of a GPU is held. What it does hold
 * is the driver's device files, so `nvidia-smi --gpu-reset` wants the probe
 * stopped, as it does any monitor.
 *
 * Rows are in the order of PCI addresses; NVML promises no order of its own. A
 * GPU that is lost keeps its row: what is known of it stays, its text says
 * why nothing else is. When the number of GPUs changes, or the driver is
 * exchanged beneath us, everything is opened again. */
#include "hw/nvml.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/xid.h"
#include "hw/nvidia_pci.h"

#define PERIOD_MS 2000
#define REOPEN_MS 15000 /* between tries to open what could not be opened */
#define EVENT_SLICE_MS 500 /* how late a wake_fd may be seen */
#define WATCH_MS 10000 /* after an Xid: a link may go down, or a row be replaced, a moment after it is told */
#define HURRY_MS 3000 /* ... and thousands may come in a second: those that follow the first are left to the watch */
#define EVENTS_MAX 64 /* of one wake-up */

static void *nvml_open(const struct hw_options *o)
{
	struct nvml_source *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->o = o;
	s->users = usernames_new();
	return s;
}

static void end_session(struct nvml_source *s)
{
	if (s->set && s->lib.nvmlEventSetFree)
		s->lib.nvmlEventSetFree(s->set);
	s->set = NULL;
	nvml_lib_close(&s->lib);
	for (size_t i = 0; i < s->n; i++)
		s->gpus[i].handle = NULL;
}

static void nvml_close(void *source)
{
	struct nvml_source *s = source;

	end_session(s);
	usernames_free(s->users);
	free(s->gpus);
	free(s);
}

/* ---- events --------------------------------------------------------------- */

static void forget_events(struct nvml_source *s)
{
	s->listening = 0;
	for (size_t i = 0; i < s->n; i++)
		s->gpus[i].listened = false;
}

static void listen_for_events(struct nvml_source *s)
{
	const struct nvml_lib *l = &s->lib;

	forget_events(s);
	if (!l->nvmlEventSetCreate || !l->nvmlEventSetFree || !l->nvmlDeviceRegisterEvents ||
	    !l->nvmlEventSetWait)
		return;
	if (s->set)
		l->nvmlEventSetFree(s->set);
	s->set = NULL;
	if (l->nvmlEventSetCreate(&s->set) != NVML_OK) {
		s->set = NULL;
		return;
	}
	for (size_t i = 0; i < s->n; i++) {
		struct nvml_gpu *g = &s->gpus[i];

		if (!g->handle || g->trouble ||
		    l->nvmlDeviceRegisterEvents(g->handle, NVML_EVENT_XID, s->set) != NVML_OK)
			continue;
		s->listening++;
		g->listened = true;
		if (!g->row.xids.known)
			g->row.xids = g->row.xid_faults = hw_u32(0);
	}
}

/* All of it is asked for with the next poll, and some times more. */
static void hurry(struct nvml_gpu *g)
{
	mono_t now = hw_now();

	g->watch_until = mono_add_ms(now, WATCH_MS);
	if (!mono_due(g->hurry_again, now))
		return;
	g->soon_due = g->slow_due = now;
	g->hurry_again = mono_add_ms(now, HURRY_MS);
}

static void note_xid(struct nvml_source *s, const struct nvml_event *ev)
{
	for (size_t i = 0; i < s->n; i++) {
		struct hw_gpu *row = &s->gpus[i].row;

		if (s->gpus[i].handle != ev->device || !(ev->type & NVML_EVENT_XID))
			continue;
		row->xids = hw_u32(row->xids.v + (row->xids.v < UINT32_MAX - 1));
		row->xid = hw_u32((uint32_t)ev->data);
		row->xid_wall_ms = hw_wall_ms();
		if (!xid_is_fault(row->xid.v))
			continue;
		hurry(&s->gpus[i]);
		row->xid_faults = hw_u32(row->xid_faults.v + (row->xid_faults.v < UINT32_MAX - 1));
		/* what a fault sets off says least */
		if (!row->xid_fault.known || xid_kind(row->xid.v) >= xid_kind(row->xid_fault.v))
			row->xid_fault = row->xid;
		row->xid_fault_wall_ms = row->xid_wall_ms;
	}
}

/* Waits for one event and takes what else is there. True when there was any. */
static bool take_events(struct nvml_source *s, int timeout_ms)
{
	struct nvml_event ev;
	bool any = false;

	for (int i = 0; i < EVENTS_MAX; i++) {
		nvml_ret r;

		memset(&ev, 0, sizeof ev);
		r = s->lib.nvmlEventSetWait(s->set, &ev, any ? 0 : (unsigned)timeout_ms);
		s->deaf = r != NVML_OK && r != NVML_TIMEOUT;
		if (r == NVML_TIMEOUT)
			break;
		if (s->deaf) { /* a GPU of the set was lost, or the driver went away */
			forget_events(s);
			s->listen_again = true;
			break;
		}
		note_xid(s, &ev);
		any = true;
	}
	return any;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* Without a driver there is nothing to poll before the next try. */
static int nvml_idle(void *source)
{
	struct nvml_source *s = source;
	int64_t left = mono_sub_ms(s->retry, hw_now());

	return s->lib.handle || left <= 0 ? 0 : (int)left;
}

static bool nvml_wait(void *source, int wake_fd, int timeout_ms)
{
	struct nvml_source *s = source;
	mono_t end = mono_add_ms(hw_now(), timeout_ms);

	while (s->lib.handle && s->set && s->listening > 0 && !readable(wake_fd)) {
		int64_t left = mono_sub_ms(end, hw_now());

		if (left <= 0)
			return false;
		if (take_events(s, left < EVENT_SLICE_MS ? (int)left : EVENT_SLICE_MS))
			return true;
	}
	if (s->lib.handle && s->set && s->listening > 0)
		return false;
	hw_sleep(wake_fd, (int)(mono_sub_ms(end, hw_now()) > 0 ? mono_sub_ms(end, hw_now()) : 0));
	return false;
}

/* ---- which GPUs there are ------------------------------------------------- */

nvml_ret nvml_address(const struct nvml_lib *l, nvml_device d, char out[HW_PCI_SIZE])
{
	struct nvml_pci pci = { 0 };
	nvml_ret r = NVML_FUNCTION_NOT_FOUND;

	if (l->nvmlDeviceGetPciInfo_v3)
		r = l->nvmlDeviceGetPciInfo_v3(d, &pci);
	else if (l->nvmlDeviceGetPciInfo_v2)
		r = l->nvmlDeviceGetPciInfo_v2(d, &pci);
	if (r == NVML_OK && (pci.bus > 0xff || pci.device > 0x1f))
		r = NVML_UNKNOWN;
	if (r != NVML_OK)
		return r;
	snprintf(out, HW_PCI_SIZE, "%04x:%02x:%02x.0", pci.domain, pci.bus, pci.device);
	return NVML_OK;
}

/* What does not change while the session lasts. Without its address nobody
 * knows which of the host's GPUs it is, and so it cannot be had. */
static nvml_ret identify(struct nvml_source *s, struct nvml_gpu *g)
{
	const struct nvml_lib *l = &s->lib;
	nvml_ret r = nvml_address(l, g->handle, g->row.pci);
	char text[96];

	if (r != NVML_OK)
		return r;
	/* jobs hold it by this name: without it, it is not given out */
	r = l->nvmlDeviceGetUUID ? l->nvmlDeviceGetUUID(g->handle, text, sizeof text) : NVML_OK;
	if (r == NVML_OK && l->nvmlDeviceGetUUID)
		hw_copy(g->row.uuid, sizeof g->row.uuid, text);
	else if (r != NVML_OK)
		return r;
	if (l->nvmlDeviceGetName && l->nvmlDeviceGetName(g->handle, text, sizeof text) == NVML_OK)
		hw_copy(g->row.name, sizeof g->row.name, text);
	return NVML_OK;
}

/* False: not one of ours (containers see GPUs that they may not use). */
static bool find_gpu(struct nvml_source *s, unsigned index, struct nvml_gpu *g)
{
	nvml_ret r = s->lib.nvmlDeviceGetHandleByIndex_v2(index, &g->handle);

	*g = (struct nvml_gpu){ .handle = r == NVML_OK ? g->handle : NULL, .number = index };
	if (r == NVML_NO_PERMISSION)
		return false;
	if (r == NVML_OK)
		r = identify(s, g);
	if (r != NVML_OK)
		g->handle = NULL;
	g->trouble = nvml_gpu_trouble(r);
	g->odd = r;
	return true;
}

static int by_address(const void *a, const void *b)
{
	const struct nvml_gpu *x = a, *y = b;

	return pci_order(x->row.pci, y->row.pci);
}

static bool has_address(const struct nvml_gpu *gpus, size_t n, const char *pci)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(gpus[i].row.pci, pci) == 0)
			return true;
	return false;
}

/* A GPU whose handle cannot be had tells no address; when as many addresses of
 * the bus are left over as there are such GPUs, they are theirs. */
static void guess_addresses(const struct sysfs *fs, struct nvml_gpu *gpus, size_t n)
{
	char all[HW_GPUS_MAX][HW_PCI_SIZE];
	size_t found, lacking = 0, left = 0;

	for (size_t i = 0; i < n; i++)
		lacking += !gpus[i].row.pci[0];
	if (lacking == 0)
		return;
	found = nvidia_pci_list(fs, all, HW_GPUS_MAX);
	for (size_t i = 0; i < found; i++)
		if (!has_address(gpus, n, all[i]))
			memmove(all[left++], all[i], HW_PCI_SIZE);
	if (left != lacking)
		return;
	for (size_t i = n; i-- > 0;)
		if (!gpus[i].row.pci[0])
			memcpy(gpus[i].row.pci, all[--left], HW_PCI_SIZE);
}

/* What an earlier session counted goes on counting. */
static void inherit(const struct nvml_source *s, struct nvml_gpu *gpus, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < s->n; j++) {
			const struct hw_gpu *old = &s->gpus[j].row;
			struct hw_gpu *row = &gpus[i].row;

			if (!row->pci[0] || strcmp(row->pci, old->pci) != 0)
				continue;
			gpus[i].before = s->gpus[j].before;
			row->xids = old->xids;
			row->xid = old->xid;
			row->xid_wall_ms = old->xid_wall_ms;
			row->xid_faults = old->xid_faults;
			row->xid_fault = old->xid_fault;
			row->xid_fault_wall_ms = old->xid_fault_wall_ms;
			if (gpus[i].handle)
				continue;
			memcpy(row->uuid, old->uuid, sizeof row->uuid);
			memcpy(row->name, old->name, sizeof row->name);
		}
}

static int list_gpus(struct nvml_source *s, unsigned count)
{
	size_t max = count < HW_GPUS_MAX ? count : HW_GPUS_MAX, n = 0;
	struct nvml_gpu *gpus = calloc(max + 1, sizeof *gpus);
	struct sysfs fs;

	if (!gpus)
		return -ENOMEM;
	s->refused = 0;
	for (unsigned i = 0; i < max; i++) {
		if (find_gpu(s, i, &gpus[n]))
			n++;
		else
			s->refused++;
	}
	sysfs_open(&fs, s->o->sysfs ? s->o->sysfs : "/sys");
	guess_addresses(&fs, gpus, n);
	for (size_t i = 0; i < n; i++)
		if (gpus[i].row.pci[0])
			gpus[i].row.numa = sysfs_pci_numa(&fs, gpus[i].row.pci);
	sysfs_close(&fs);
	qsort(gpus, n, sizeof *gpus, by_address);
	inherit(s, gpus, n);
	free(s->gpus);
	s->gpus = gpus;
	s->n = n;
	s->count = count;
	return 0;
}

/* ---- opening -------------------------------------------------------------- */

static void add_bus(struct nvml_source *s, struct err *e)
{
	char all[HW_GPUS_MAX][HW_PCI_SIZE];
	struct sysfs fs;
	size_t n;

	sysfs_open(&fs, s->o->sysfs ? s->o->sysfs : "/sys");
	n = nvidia_pci_list(&fs, all, HW_GPUS_MAX);
	sysfs_close(&fs);
	s->absent = n == 0 && e->code == -ENODEV;
	if (n > 0)
		hw_remark(e->text, HW_TEXT_SIZE, "the PCI bus shows %zu GPU%s", n, n == 1 ? "" : "s");
}

static bool begin_session(struct nvml_source *s, unsigned *ret_count)
{
	char driver[81];

	s->absent = false;
	if (nvml_lib_open(&s->lib, s->o->nvml, &s->why) < 0) {
		add_bus(s, &s->why);
		return false;
	}
	s->driver[0] = '\0';
	if (s->lib.nvmlSystemGetDriverVersion &&
	    s->lib.nvmlSystemGetDriverVersion(driver, sizeof driver) == NVML_OK)
		hw_copy(s->driver, sizeof s->driver, driver);
	if (s->lib.nvmlDeviceGetCount_v2(ret_count) == NVML_OK && list_gpus(s, *ret_count) == 0) {
		listen_for_events(s);
		return true;
	}
	err_set(&s->why, EIO, "the NVIDIA driver does not tell how many GPUs there are");
	end_session(s);
	return false;
}

/* An open session that still holds what it held, or a new one. */
static bool session(struct nvml_source *s)
{
	unsigned count = 0;

	if (s->lib.handle) {
		nvml_ret r = s->lib.nvmlDeviceGetCount_v2(&count);

		if (r == NVML_OK && count == s->count && !s->over)
			return true;
		end_session(s);
		s->retry = (mono_t){ 0 };
	}
	if (!mono_due(s->retry, hw_now()))
		return false;
	s->over = s->listen_again = false;
	if (begin_session(s, &count))
		return true;
	s->retry = mono_add_ms(hw_now(), REOPEN_MS);
	return false;
}

static void say(const struct nvml_source *s, struct hw_source *ret)
{
	hw_say(ret, "nvml", true, "driver %s", s->driver[0] ? s->driver : "of unknown version");
	if (s->driver[0])
		hw_copy(ret->version, sizeof ret->version, s->driver);
	if (s->refused > 0)
		hw_remark(ret->text, sizeof ret->text, "%u more GPU%s may not be used from here", s->refused,
			  s->refused == 1 ? "" : "s");
	if (s->count > HW_GPUS_MAX)
		hw_remark(ret->text, sizeof ret->text, "only the first %d are read", HW_GPUS_MAX);
}

static void nvml_poll(void *source, struct hw_readings *ret)
{
	struct nvml_source *s = source;
	struct hw_source *line = &ret->sources[ret->n_sources++];

	if (!session(s)) {
		hw_say(line, "nvml", false, "%s", s->why.text);
		line->absent = s->absent;
		return;
	}
	if (s->listen_again) {
		s->listen_again = false;
		listen_for_events(s);
	}
	say(s, line);
	if (nvml_read_all(s, ret) < 0)
		hw_say(line, "nvml", false, "out of memory");
}

const struct hw_ops hw_nvml = {
	.name = "nvml",
	.period_ms = PERIOD_MS,
	.idle_ms = nvml_idle,
	.open = nvml_open,
	.poll = nvml_poll,
	.wait = nvml_wait,
	.close = nvml_close,
};
