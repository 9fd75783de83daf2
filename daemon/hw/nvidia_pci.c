/* nvidia_pci.c - see nvidia_pci.h */
#include "hw/nvidia_pci.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hw/port_text.h"

#define PCI_MAX 4096
#define VENDOR_NVIDIA 0x10de
#define CLASS_VGA 0x0300 /* upper 16 of the 24 bits of 'class' */
#define CLASS_3D 0x0302

static bool is_address(const char *name)
{
	char pci[HW_PCI_SIZE];

	return text_pci(name, pci);
}

static bool number_in(int dir, const char *name, uint64_t *ret)
{
	char text[SYSFS_TEXT];

	return sysfs_read(dir, name, text, sizeof text) > 0 && text_number(text, UINT32_MAX, ret);
}

static bool is_gpu(const struct sysfs *fs, int devices, const char *name)
{
	int dir = sysfs_dir(fs, devices, name);
	uint64_t vendor, class;
	bool yes;

	if (dir < 0)
		return false;
	yes = number_in(dir, "vendor", &vendor) && vendor == VENDOR_NVIDIA &&
	      number_in(dir, "class", &class) && (class >> 8 == CLASS_VGA || class >> 8 == CLASS_3D);
	close(dir);
	return yes;
}

int pci_order(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);

	if (!na || !nb)
		return !na - !nb;
	if (na != nb) /* a domain of more digits is a greater one */
		return na < nb ? -1 : 1;
	return strcmp(a, b);
}

static int by_address(const void *a, const void *b)
{
	return pci_order(a, b);
}

size_t nvidia_pci_list(const struct sysfs *fs, char (*out)[HW_PCI_SIZE], size_t max)
{
	static const char path[] = "bus/pci/devices";
	sysfs_name names[PCI_MAX];
	int devices = sysfs_dir(fs, fs->root, path);
	int found = sysfs_list(devices, ".", is_address, names, PCI_MAX);
	size_t n = 0;

	for (int i = 0; i < found && n < max; i++)
		if (is_gpu(fs, devices, names[i]))
			text_pci(names[i], out[n++]);
	if (devices >= 0)
		close(devices);
	qsort(out, n, sizeof *out, by_address);
	return n;
}
