/* topology.c - the source of distances between GPUs, RDMA devices and memory: hwloc
 *
 * Loading costs tens of milliseconds and some megabytes, so it is done once and
 * again only when somebody says that devices have changed; nothing of hwloc's
 * stays in memory.
 *
 * The words are those of `nvidia-smi topo -m`:
 *   PIX   at most one PCIe bridge (switch) lies between
 *   PXB   several bridges, but no host bridge
 *   PHB   one host bridge
 *   NODE  several host bridges of one NUMA node
 *   SYS   the link between NUMA nodes
 */
#include "hw/topology.h"

#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES_MAX 128 /* pairs fit into a message */
#define VENDOR_NVIDIA 0x10de
#define CLASS_DISPLAY 0x03

struct device {
	hwloc_obj_t pci;
	char name[65];
};

struct found {
	struct device list[DEVICES_MAX];
	size_t n;
};

/* ---- distances ------------------------------------------------------------ */

static bool is_bridge(hwloc_obj_t o, hwloc_obj_bridge_type_t upstream)
{
	return o->type == HWLOC_OBJ_BRIDGE && o->attr->bridge.upstream_type == upstream;
}

/* Bridges between an object and one of its ancestors. */
static unsigned bridges_below(hwloc_obj_t ancestor, hwloc_obj_t o)
{
	unsigned n = 0;

	for (o = o->parent; o && o != ancestor; o = o->parent)
		n += is_bridge(o, HWLOC_OBJ_BRIDGE_PCI);
	return n;
}

static hwloc_obj_t common_ancestor(hwloc_obj_t a, hwloc_obj_t b)
{
	for (hwloc_obj_t x = a->parent; x; x = x->parent)
		for (hwloc_obj_t y = b->parent; y; y = y->parent)
			if (x == y)
				return x;
	return NULL;
}

/* Both near the same single NUMA node. Firmware that does not tell puts a
 * device near all of them. */
static bool same_node(hwloc_topology_t t, hwloc_obj_t a, hwloc_obj_t b)
{
	hwloc_obj_t x = hwloc_get_non_io_ancestor_obj(t, a), y = hwloc_get_non_io_ancestor_obj(t, b);

	return x && y && x->nodeset && y->nodeset && hwloc_bitmap_isequal(x->nodeset, y->nodeset) &&
	       hwloc_bitmap_weight(x->nodeset) == 1;
}

static const char *distance(hwloc_topology_t t, hwloc_obj_t a, hwloc_obj_t b)
{
	hwloc_obj_t up = common_ancestor(a, b);

	if (up && is_bridge(up, HWLOC_OBJ_BRIDGE_PCI))
		return bridges_below(up, a) <= 1 && bridges_below(up, b) <= 1 ? "PIX" : "PXB";
	if (up && is_bridge(up, HWLOC_OBJ_BRIDGE_HOST))
		return "PHB";
	return same_node(t, a, b) ? "NODE" : "SYS";
}

/* ---- what is there -------------------------------------------------------- */

static void add(struct found *f, hwloc_obj_t pci, const char *name)
{
	if (f->n == DEVICES_MAX)
		return;
	f->list[f->n].pci = pci;
	hw_copy(f->list[f->n].name, sizeof f->list[f->n].name, name);
	f->n++;
}

static void find_gpus(hwloc_topology_t t, struct found *f)
{
	hwloc_obj_t o = NULL;
	char name[24];

	while ((o = hwloc_get_next_pcidev(t, o))) {
		const struct hwloc_pcidev_attr_s *p = &o->attr->pcidev;

		if (p->vendor_id != VENDOR_NVIDIA || p->class_id >> 8 != CLASS_DISPLAY)
			continue;
		snprintf(name, sizeof name, "%04x:%02x:%02x.%x", p->domain, p->bus, p->dev, p->func);
		add(f, o, name);
	}
}

static void find_rdma(hwloc_topology_t t, struct found *f)
{
	hwloc_obj_t o = NULL;

	while ((o = hwloc_get_next_osdev(t, o))) {
		hwloc_obj_t pci = o->parent;

		if (o->attr->osdev.type != HWLOC_OBJ_OSDEV_OPENFABRICS || !o->name)
			continue;
		while (pci && pci->type != HWLOC_OBJ_PCI_DEVICE)
			pci = pci->parent;
		if (pci) /* soft RoCE has no place */
			add(f, pci, o->name);
	}
}

static void read_distances(hwloc_topology_t t, struct hw_readings *ret)
{
	struct found f = { .n = 0 };
	size_t n = 0;

	find_gpus(t, &f);
	find_rdma(t, &f);
	if (f.n < 2)
		return;
	ret->affinity = arena_alloc(&ret->arena, f.n * (f.n - 1) / 2 * sizeof *ret->affinity);
	for (size_t i = 0; ret->affinity && i < f.n; i++)
		for (size_t k = i + 1; k < f.n; k++) {
			struct hw_affinity *a = &ret->affinity[n++];

			memcpy(a->a, f.list[i].name, sizeof a->a);
			memcpy(a->b, f.list[k].name, sizeof a->b);
			a->how = distance(t, f.list[i].pci, f.list[k].pci);
		}
	ret->n_affinity = n;
}

static void read_numa(hwloc_topology_t t, struct hw_readings *ret)
{
	int n = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
	size_t k = 0;

	if (n <= 0)
		return;
	n = n < HW_NUMA_MAX ? n : HW_NUMA_MAX;
	ret->numa = arena_alloc(&ret->arena, (size_t)n * sizeof *ret->numa);
	for (int i = 0; ret->numa && i < n; i++) {
		hwloc_obj_t o = hwloc_get_obj_by_type(t, HWLOC_OBJ_NUMANODE, (unsigned)i);
		struct hw_numa *to = &ret->numa[k];

		if (!o || o->os_index > 65535)
			continue;
		to->numa = o->os_index;
		/* a list that does not fit would be a wrong one */
		if (hwloc_bitmap_list_snprintf(to->cpus, sizeof to->cpus, o->cpuset) >= (int)sizeof to->cpus)
			to->cpus[0] = '\0';
		if (o->attr->numanode.local_memory)
			to->mem = hw_u64(o->attr->numanode.local_memory);
		k++;
	}
	ret->n_numa = k;
}

/* ---- the source ----------------------------------------------------------- */

static bool load(hwloc_topology_t t, const char *xml)
{
	/* what matters is PCI and memory; caches and cores only cost time */
	hwloc_topology_set_all_types_filter(t, HWLOC_TYPE_FILTER_KEEP_NONE);
	hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_ALL);
	hwloc_topology_set_type_filter(t, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL);
	hwloc_topology_set_type_filter(t, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
	if (xml && hwloc_topology_set_xml(t, xml) < 0)
		return false;
	return hwloc_topology_load(t) == 0;
}

void topology_read(const char *xml, struct hw_readings *ret)
{
	struct hw_source *line = &ret->sources[ret->n_sources++];
	hwloc_topology_t t;

	if (hwloc_topology_init(&t) < 0) {
		hw_say(line, "hwloc", false, "out of memory");
		return;
	}
	if (load(t, xml)) {
		read_distances(t, ret);
		read_numa(t, ret);
		hw_say(line, "hwloc", true, NULL);
	} else {
		hw_say(line, "hwloc", false, "hwloc cannot read this host's topology");
	}
	hwloc_topology_destroy(t);
}

static void *topology_open(const struct hw_options *o)
{
	static char nothing; /* it keeps nothing */

	return &nothing;
}

static void topology_poll(void *source, struct hw_readings *ret)
{
	topology_read(NULL, ret);
}

static void topology_close(void *source)
{
}

const struct hw_ops hw_topology = {
	.name = "hwloc",
	.period_ms = -1,
	.open = topology_open,
	.poll = topology_poll,
	.close = topology_close,
};
