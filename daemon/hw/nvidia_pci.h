/* nvidia_pci.h - NVIDIA's GPUs as the PCI bus shows them, without any driver */
#ifndef NA_HW_NVIDIA_PCI_H
#define NA_HW_NVIDIA_PCI_H

#include "hw/sysfs.h"

/* PCI addresses of display controllers of NVIDIA, in order; at most max. How many. */
size_t nvidia_pci_list(const struct sysfs *fs, char (*out)[HW_PCI_SIZE], size_t max);
/* Order of addresses: as CUDA_DEVICE_ORDER=PCI_BUS_ID counts. "" comes last. */
int pci_order(const char *a, const char *b);

#endif
