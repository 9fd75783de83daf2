/* kmsg_faults.c - see kmsg_text.h: lines of the kernel's log that tell of broken hardware or a stuck host
 *
 * The texts are those of the kernel's source (hung_task.c, watchdog.c, aer.c, edac_mc.c,
 * memory-failure.c, therm_throt.c, ext4 and xfs super.c, nvme pci.c, nfs sunrpc clnt.c,
 * intel and amd iommu, mlx5 health.c and events.c) and of NVIDIA's drivers:
 *
 *   INFO: task python3:4711 blocked for more than 122 seconds.
 *   watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python3:4711]
 *   mlx5_core 0000:17:00.0: poll_health:815:(pid 0): device's health compromised - reached miss count
 *   mlx5_core 0000:17:00.0: Port module event[error]: module 0, Cable error, High Temperature
 *   NVRM: GPU 0000:17:00.0: GPU has fallen off the bus.
 *   nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 32 LTSSM Fault Up
 *   pcieport 0000:16:01.0: AER: Uncorrected (Non-Fatal) error message received from 0000:17:00.0
 *   pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0
 *   EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 ...
 *   Memory failure: 0x5a4c21: recovery action for dirty LRU page: Recovered
 *   EXT4-fs (nvme0n1p2): Remounting filesystem read-only
 *   nvme nvme0: I/O 123 QID 4 timeout, aborting
 *   CPU3: Package temperature above threshold, cpu clock throttled (total events = 42)
 *   DMAR: [DMA Write NO_PASID] Request device [17:00.0] fault addr 0xfe000000 ...
 *   nfs: server 10.0.0.9 not responding, still trying
 *
 * All but the first two begin with words of the kernel's own; where a process's name
 * begins a line its pid follows in brackets, and such a line is nobody's here.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/utf8.h"
#include "hw/kmsg_text.h"

#define COMM_MAX 15
#define TOLD_MAX 160

/* A line is of this kind when it begins and goes on like this ("a|b": one of these). */
static const struct fault {
	const char *kind, *begins, *has;
} faults[] = {
	{ "lockup", "watchdog: BUG: soft lockup", "" },
	{ "lockup", "BUG: soft lockup", "" },
	{ "lockup", "watchdog: Watchdog detected hard LOCKUP", "" },
	{ "lockup", "NMI watchdog: Watchdog detected hard LOCKUP", "" },
	{ "lockup", "rcu: INFO: ", "self-detected stall" },
	{ "nic", "mlx5_core ", "health compromised|atal error|internal error|assert_var|error state|failed to recover|timeout. Will cause a leak" },
	{ "nic-module", "mlx5_core ", "Port module event[error]|nsufficient power on the PCIe slot|igh temperature on sensors" },
	{ "gpu-bus", "NVRM: ", "has fallen off the bus" },
	{ "gpu-driver", "NVRM: ", "RmInitAdapter failed|rm_init_adapter failed|API mismatch|failed to initialize|probe routine failed" },
	{ "nvswitch", "nvidia-nvswitch", ", Fatal, " },
	{ "pcie-nonfatal", "pcieport ", "AER: Uncorrected (Non-Fatal)|AER: Multiple Uncorrected (Non-Fatal)|severity=Uncorrected (Non-Fatal)" },
	{ "pcie-nonfatal", "mlx5_core ", "severity=Uncorrected (Non-Fatal)" },
	{ "pcie-nonfatal", "nvidia ", "severity=Uncorrected (Non-Fatal)" },
	{ "pcie", "pcieport ", "AER: Uncorrected|AER: Multiple Uncorrected|severity=Uncorrected" },
	{ "pcie", "mlx5_core ", "severity=Uncorrected" },
	{ "pcie", "nvidia ", "severity=Uncorrected" },
	{ "pcie-corrected", "pcieport ", "AER: Corrected error|AER: Multiple Corrected error|AER: Correctable error|AER: Multiple Correctable" },
	{ "mem-ue", "EDAC ", " UE " },
	{ "mem-ue", "Memory failure: ", "" },
	{ "mem-ue", "mce: Uncorrected hardware memory error", "" },
	{ "mem-ce", "EDAC ", " CE " },
	{ "mem-ce", "mce: [Hardware Error]: Machine check events logged", "" },
	{ "fs", "EXT4-fs", "emounting filesystem read-only|EXT4-fs error" },
	{ "fs", "XFS (", "hutting down filesystem|as been shut down|orruption" },
	{ "fs", "BTRFS ", "forced readonly" },
	{ "io", "Buffer I/O error on dev", "" },
	{ "io", "blk_update_request: I/O error", "" },
	{ "io", "I/O error, dev ", "" },
	{ "io", "critical medium error, dev ", "" },
	{ "io", "nvme nvme", "timeout, aborting|timeout, reset|controller is down|Device not ready|after probe failure" },
	{ "heat", "CPU", " temperature above threshold| temperature is above threshold" },
	{ "iommu", "DMAR: ", "fault addr" },
	{ "iommu", "AMD-Vi: ", "IO_PAGE_FAULT" },
	{ "nfs", "nfs: server ", "not responding" },
};

static bool has_one(const char *text, const char *words)
{
	char word[64];

	for (const char *p = words; *p != '\0'; p += strcspn(p, "|"), p += *p == '|') {
		snprintf(word, sizeof word, "%.*s", (int)strcspn(p, "|"), p);
		if (strstr(text, word))
			return true;
	}
	return *words == '\0';
}

/* "python3[4711]: ...", "traps: python3[4711] ..." */
static bool names_a_process(const char *text)
{
	for (const char *p = strchr(text, '['); p && p - text <= COMM_MAX + 8; p = strchr(p + 1, '[')) {
		size_t n = strspn(p + 1, "0123456789");

		if (n > 0 && p[1 + n] == ']')
			return true;
	}
	return false;
}

/* "0000:17:00.0" or "17:00.0"; how long, 0: no address begins here. */
static size_t pci_at(const char *s)
{
	static const char hex[] = "0123456789abcdefABCDEF";
	size_t n = strspn(s, hex), domain = n == 4 || n == 8 ? n + 1 : 0;

	if (domain > 0 && s[n] != ':')
		return 0;
	s += domain;
	if (strspn(s, hex) != 2 || s[2] != ':' || strspn(s + 3, hex) != 2 || s[5] != '.' || s[6] < '0' || s[6] > '7')
		return 0;
	return domain + 7;
}

/* The last one: a bridge that reports comes first. */
static void find_pci(const char *text, struct hw_event *e)
{
	for (const char *p = text; *p != '\0'; p++) {
		size_t n = p == text || strchr(" [:=(", p[-1]) ? pci_at(p) : 0;

		if (n == 0 || n + 5 >= sizeof e->pci)
			continue;
		snprintf(e->pci, sizeof e->pci, "%s%.*s", n == 7 ? "0000:" : "", (int)n, p);
		p += n - 1;
	}
}

/* What it is about, where that is no PCI device: so that one is told beside another. */
static void find_device(const char *text, struct hw_event *e)
{
	static const char *const before[] = { " dev ", "nvme ", "EXT4-fs (", "(device ", "XFS (", "server " };

	for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
		const char *p = strstr(text, before[i]);

		if (!p)
			continue;
		p += strlen(before[i]);
		snprintf(e->device, sizeof e->device, "%.*s", (int)strcspn(p, " ,:)"), p);
		utf8_scrub(e->device);
		return;
	}
}

/* "INFO: task NAME:PID blocked for more than 122 seconds." A name may hold anything. */
static bool hung_task(const char *text, struct hw_event *e)
{
	static const char begins[] = "INFO: task ", words[] = " blocked for more than ";
	const char *name = text + sizeof begins - 1, *colon, *end;
	unsigned pid, s;

	if (strncmp(text, begins, sizeof begins - 1) != 0 || !(end = strstr(name, words)))
		return false;
	for (const char *p = strstr(end + 1, words); p; p = strstr(p + 1, words))
		end = p;
	colon = memrchr(name, ':', (size_t)(end - name));
	if (!colon || colon - name > COMM_MAX || sscanf(colon + 1, "%7u", &pid) != 1 || pid > 4194304 ||
	    sscanf(end + sizeof words - 1, "%7u", &s) != 1)
		return false;
	e->kind = "hung-task";
	e->pid = hw_u32(pid);
	snprintf(e->text, sizeof e->text, "%.*s (pid %u) has been blocked in the kernel for more than %u s", (int)(colon - name), name, pid, s);
	utf8_scrub(e->text);
	return true;
}

/* Drives without a medium, as servers' management and virtual machines have them: whoever looks at one brings an error about. */
static bool is_empty_drive(const char *device)
{
	return (strncmp(device, "sr", 2) == 0 || strncmp(device, "fd", 2) == 0) && isdigit((unsigned char)device[2]);
}

bool kmsg_fault(const char *text, struct hw_event *e)
{
	size_t len = strlen(text);

	if (names_a_process(text))
		return false;
	if (hung_task(text, e))
		return true;
	for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
		if (strncmp(text, faults[i].begins, strlen(faults[i].begins)) != 0 || !has_one(text, faults[i].has))
			continue;
		e->kind = faults[i].kind;
		find_pci(text, e);
		find_device(text, e);
		if (strcmp(e->kind, "io") == 0 && is_empty_drive(e->device))
			return false;
		snprintf(e->text, sizeof e->text, "%.*s", (int)utf8_cut(text, len < TOLD_MAX ? len : TOLD_MAX), text);
		utf8_scrub(e->text);
		return true;
	}
	return false;
}

bool kmsg_is_storm(const char *kind)
{
	return strcmp(kind, "pcie-corrected") == 0 || strcmp(kind, "mem-ce") == 0 || strcmp(kind, "heat") == 0;
}
