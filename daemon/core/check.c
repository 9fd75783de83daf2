/* check.c - the table of checks, see check.h
 *
 * Sources of thresholds, shortened: 'error_thresholds' is infiniband-diags' etc/error_thresholds;
 * 'NVSentinel' its docs/nic-health-monitor.md; 'IBTA' the InfiniBand architecture
 * specification, volume 1 (PortInfo) and 2 (link); 'NVML' NVIDIA's nvml.h. */
#include "core/check.h"

#include <stdio.h>
#include <string.h>

#define CABLE "reseat or replace the cable or transceiver, or try another switch port"
#define COUNTER(id_, file, title_, w, b, threshold_, source_, remedy_) \
	{ .id = "ib.counters." id_, .scope = OF_PORT, .judge = check_port_counter, .noun = "port", .title = title_, \
	  .reads = "class/infiniband/DEVICE/ports/PORT/" file ", every 5 s; its growth in the last hour", \
	  .threshold = threshold_, .source = source_, .remedy = remedy_, .counter = id_, .warn = w, .bad = b }
#define KMSG(kind_, title_, w, b, threshold_, source_, remedy_) \
	{ .id = "node.kmsg." kind_, .scope = OF_NODE, .judge = check_node_kmsg, .title = title_, \
	  .reads = "/dev/kmsg, the last hour; the same of the same device counts once in ten minutes", .threshold = threshold_, \
	  .source = source_, .remedy = remedy_, .counter = kind_, .warn = w, .bad = b }
#define COUNTERS "counters/"
#define HW_COUNTERS "hw_counters/"

const struct check check_table[] = {
	/* ---- nodes ---- */
	{ "node.clock", OF_NODE, check_node_clock, NULL, "clock of the node",
	  "its clock minus the coordinator's, measured over their connection; adjtimex: whether the kernel's clock is steered",
	  "bad: more than 500 ms off, 100 ms where nobody steers it, measuring errors taken off",
	  "torchrun compares heartbeats between hosts (3 x 5 s, torch/distributed/elastic dynamic_rendezvous.py); logs of two "
	  "nodes cannot be put in order long before",
	  "run chrony or ntpd on every host; without internet let one host be the others' time server", NULL, 0, 0 },
	{ "node.mem", OF_NODE, check_node_mem, NULL, "memory of the node", "/proc/meminfo: MemAvailable, MemTotal",
	  "warn: less than 5 % and less than 8 GiB available; bad: less than 1 %",
	  "ours: pinned memory of NCCL and of data loaders is taken in pieces of GiB, and the kernel's OOM killer comes at about 0",
	  "see who has it: ps aux --sort=-rss | head", NULL, 0, 0 },
	{ "node.disk", OF_NODE, check_node_disk, NULL, "free space of file systems", "statvfs of mounted file systems",
	  "warn: less than 5 % and less than 20 GiB free; bad: less than 1 % and less than 1 GiB, or than 1 % and 10000 of its inodes",
	  "ours: ext4 keeps 5 % for root; a checkpoint of a 7B model is 14 to 90 GiB", "delete or move what is not needed: du -xsh PATH/*",
	  NULL, 0, 0 },
	{ "node.mounts", OF_NODE, check_node_mounts, NULL, "file systems that answer",
	  "statvfs of each in a thread of its own", "warn: no answer for 3 s, asked every 1.5 s; bad: for 20 s",
	  "ours: statvfs takes below 1 s on a loaded NFS server, and seconds while it takes a checkpoint; who uses a dead one hangs in state D",
	  "see whether its server can be reached; umount -l PATH, then mount it again", NULL, 0, 0 },
	{ "node.memlock", OF_NODE, check_node_memlock, NULL, "memory that jobs may lock",
	  "RLIMIT_MEMLOCK of the agent, which its jobs inherit; nodeagent-launcher, where it starts them, lifts it", "warn: not unlimited, on a node with RDMA ports",
	  "NCCL registers its buffers with the adapter; its troubleshooting guide asks for unlimited (ibv_reg_mr fails, and NCCL "
	  "falls back to sockets or ends)",
	  "LimitMEMLOCK=infinity in nodeagentd's unit (and memlock unlimited in /etc/security/limits.d), then restart it", NULL, 0, 0 },
	{ "node.shm", OF_NODE, check_node_shm, NULL, "/dev/shm", "statvfs of /dev/shm",
	  "warn: less than 1 GiB in all or free; bad: less than 64 MiB free, or it is absent",
	  "NCCL takes 9 to 33 MiB for each pair of ranks that use SHM, PyTorch's data loaders a batch for each worker; docker's default is 64 MiB",
	  "rm stale /dev/shm/nccl-* and torch_*; mount -o remount,size=50% /dev/shm; in a container --shm-size", NULL, 0, 0 },
	{ "node.hugepages", OF_NODE, check_node_hugepages, NULL, "reserved huge pages", "/proc/meminfo: HugePages_Total, HugePages_Free, Hugepagesize",
	  "warn: more than half of the memory is reserved and unused", "ours: memory that no training can use",
	  "sysctl vm.nr_hugepages=0, unless a program asks for them", NULL, 0, 0 },
	{ "node.limits", OF_NODE, check_node_limits, NULL, "limits of jobs",
	  "RLIMIT_NOFILE (hard) and RLIMIT_NPROC of the agent, which its jobs inherit; not read where nodeagent-launcher starts them",
	  "warn: fewer than 65536 open files or 16384 processes",
	  "ours: a rank of a large job has a few thousand sockets, data loaders a process for each CPU; systemd gives 524288 files",
	  "LimitNOFILE=, or LimitNPROC= and TasksMax=, in nodeagentd's unit; ulimit -n or -u before nodeagentd where it is started by hand; "
	  "then restart it", NULL, 0, 0 },
	{ "node.kmsg.oom", OF_NODE, check_node_kmsg, NULL, "processes killed for want of memory", "/dev/kmsg, the last hour",
	  "warn: one", "any is the loss of a process", "nodectl jobs shows whose it was; ask for less memory, or fewer data loaders", "oom", 1, 0 },
	{ "node.kmsg.xid", OF_NODE, check_node_kmsg, NULL, "NVRM: Xid in the kernel's log", "/dev/kmsg, the last hour",
	  "warn: one", "NVIDIA's Xid catalogue: each tells of a fault of GPU, driver or program", "look the Xid up in NVIDIA's list, and at dmesg",
	  "xid", 1, 0 },
	{ "node.kmsg.port", OF_NODE, check_node_kmsg, NULL, "ports that went down", "/dev/kmsg and the ports' states, the last hour",
	  "warn: three", "ours: one is a cable that somebody has moved", CABLE, "port", 3, 0 },
	KMSG("hung-task", "processes stuck in the kernel", 1, 0, "warn: one",
	     "the kernel's hung_task.c: 120 s in state D without a switch; whoever waits for the same hangs as well",
	     "see what it waits for: cat /proc/PID/stack; a dead NFS server, a disk or a driver"),
	KMSG("lockup", "CPUs that are locked up", 1, 1, "bad: one", "the kernel's watchdog: 20 s without a schedule (soft), 10 s without an interrupt (hard)",
	     "drain the node and reboot it; look at firmware and microcode if it comes again"),
	KMSG("nic", "adapters whose driver reports a fatal error", 1, 1, "bad: one", "mlx5 health.c: the firmware counts no more, or it asserts",
	     "drain the node; mlxfwreset or a power cycle; look at firmware and heat of the adapter"),
	KMSG("nic-module", "adapters that complain of cable, transceiver, power or heat", 1, 0, "warn: one",
	     "mlx5 events.c: module events (bad or shorted cable, high temperature, power budget), sensors, the power that the slot gives",
	     "reseat or replace the cable or transceiver that is named; of power: the slot and its auxiliary cable; of heat: fans and air flow"),
	KMSG("gpu-bus", "GPUs that fell off the bus", 1, 1, "bad: one", "NVIDIA's Xid catalogue: as Xid 79, also where no Xid can be told",
	     "drain the node and power it off and on; reseat the GPU if it comes again"),
	KMSG("gpu-driver", "GPUs that the driver cannot start", 1, 0, "warn: one", "NVRM: RmInitAdapter failed, API mismatch",
	     "an API mismatch goes with a reboot after an upgrade; else nvidia-smi -q, and power off and on"),
	KMSG("nvswitch", "fatal errors of NVSwitches", 1, 1, "bad: one", "NVIDIA's Fabric Manager guide, SXid: a fatal one ends jobs over NVLink",
	     "drain the node; reset all GPUs and restart the fabric manager, or reboot"),
	KMSG("pcie", "fatal PCIe errors", 1, 1, "bad: one", "PCI Express, AER: the link is not to be relied on any more",
	     "drain the node; reseat the device or its riser; lspci -vv tells its LnkSta"),
	KMSG("pcie-nonfatal", "PCIe errors that were not corrected", 1, 0, "warn: one",
	     "PCI Express, AER: one transaction failed, the link is well; unsupported requests come on healthy hosts, too",
	     "look whether jobs failed at that time; reseat the device or its riser if they come again"),
	KMSG("pcie-corrected", "storms of corrected PCIe errors", 1, 0, "warn: ten lines of one device in an hour",
	     "PCI Express, AER: each is sent again; ours: ten an hour are a bad contact, and cost GPUDirect its speed",
	     "reseat the device or its riser; lspci -vv tells its LnkSta"),
	KMSG("mem-ue", "memory errors that were not corrected", 1, 1, "bad: one", "EDAC, memory-failure.c: data was lost, the page is taken out of use",
	     "drain the node and replace the DIMM that it names (ipmitool sel list)"),
	KMSG("mem-ce", "storms of corrected memory errors", 1, 0, "warn: ten lines in an hour", "ours: rasdaemon's default takes pages out of use at 50 a day",
	     "ipmitool sel list, ras-mc-ctl --errors; replace the DIMM before it gets worse"),
	KMSG("fs", "file systems that are broken", 1, 1, "bad: one", "ext4, xfs and btrfs go read-only, or shut down, when they find themselves damaged: checkpoints are lost",
	     "look at the disk (smartctl, nvme smart-log), unmount it and run fsck"),
	KMSG("io", "disks with errors", 1, 0, "warn: one", "blk-core.c, nvme pci.c: a request failed or had to be ended", "smartctl -a, nvme smart-log; replace the disk"),
	KMSG("heat", "CPUs slowed by heat", 1, 0, "warn: ten times in an hour", "ours; therm_throt.c: each CPU tells of it at most every five minutes",
	     "look at fans, air flow and the room"),
	KMSG("iommu", "devices that reached for memory that is not theirs", 1, 0, "warn: one",
	     "Intel and AMD IOMMU: with it GPUDirect and peer to peer fail or hang (NCCL's troubleshooting guide)",
	     "intel_iommu=off or iommu=pt on the kernel's command line; ACS off; else look at the device's driver"),
	KMSG("nfs", "NFS servers that did not answer", 1, 0, "warn: one", "sunrpc clnt.c: no answer within the mount's timeo",
	     "see whether the server can be reached; node.mounts tells whether it hangs now"),
	{ "gpu.driver", OF_NODE, check_gpu_driver, NULL, "NVIDIA driver",
	  "nvmlSystemGetDriverVersion, of this node and the others", "warn: another version than most nodes have",
	  "NCCL and CUDA run with any, but not alike: what works on one node fails on the next",
	  "install the same driver on all nodes, and reboot", NULL, 0, 0 },
	{ "gpu.count", OF_NODE, check_gpu_count, NULL, "number of GPUs", "nvmlDeviceGetCount, of this node and the others",
	  "warn: fewer than most nodes with this model of GPU have",
	  "ours: nodes of one make are alike; a GPU that fell off the bus at boot is not listed at all",
	  "lspci | grep -i nvidia, dmesg | grep -i nvrm; a GPU that is not listed needs a reboot, or to be reseated", NULL, 0, 0 },
	{ "gpu.fabricmanager", OF_NODE, check_gpu_fabricmanager, NULL, "NVIDIA fabric manager",
	  "/proc: a process nv-fabricmanager; /proc/driver/nvidia-nvswitch/devices", "bad: NVSwitches, and it does not run",
	  "NVIDIA's Fabric Manager guide: without it CUDA does not start on HGX boards (error 802)",
	  "systemctl enable --now nvidia-fabricmanager, of the very version of the driver", NULL, 0, 0 },
	{ "gpu.peermem", OF_NODE, check_gpu_peermem, NULL, "nvidia_peermem",
	  "/sys/module/nvidia_peermem; /proc/driver/nvidia/version: open kernel modules. On nodes with GPUs and InfiniBand", "warn: not loaded, with closed modules",
	  "NVIDIA's GPUDirect RDMA guide; with dma-buf (Linux 5.12, open kernel modules) NCCL does without",
	  "modprobe nvidia_peermem, and a line in /etc/modules-load.d; look for GDRDMA in NCCL's log", NULL, 0, 0 },
	{ "ib.layers", OF_NODE, check_layers, NULL, "link layers of ports of one model", "class/infiniband/*/ports/*/link_layer, board_id",
	  "warn: Ethernet and InfiniBand", "ours: NCCL leaves out the ones or the others",
	  "mlxconfig -d PCI-ADDRESS set LINK_TYPE_P1=1 (InfiniBand) or 2 (Ethernet), then reboot; or exclude_ports", NULL, 0, 0 },
	{ "ib.count", OF_NODE, check_ports_count, NULL, "number of RDMA ports", "class/infiniband, of this node before and of the others",
	  "bad: one that was Active is not there any more; warn: fewer than most nodes of its make have",
	  "ours: nodes with the same GPUs, or without any the same adapters, are alike; an adapter that fell off the bus, or whose driver is not loaded, is not listed at all",
	  "lspci | grep -i mellanox, dmesg | grep -i mlx5; modprobe mlx5_ib; an adapter that is missing needs a reboot, or to be reseated", NULL, 0, 0 },
	/* ---- sources ---- */
	{ "node.sources", OF_SOURCE, check_node_source, NULL, "readings can be had",
	  "whether the probe, verbs or sysfs, NVML, the host and the kernel's log answer",
	  "bad: nobody knows the ports or the GPUs, or their driver has not answered for 10 s; warn: another source, an answer that is 2 s late "
	  "and later than usual; at a driver's start 10 s and 30 s",
	  "what is not read is not judged; ours: a driver answers in milliseconds, and takes seconds for each GPU when it starts",
	  "the source's own words say why; nodectl node NAME lists them", NULL, 0, 0 },
	/* ---- ports ---- */
	{ "ib.state", OF_PORT, check_port_state, "port", "state of the port", "ibv_query_port, or ports/PORT/state and phys_state in sysfs, every 2 s and at each event",
	  "bad: Initializing, Down/Disabled, LinkErrorRecovery, and any Down of a port that was Active; "
	  "warn: other Down, Armed, ActiveDefer, PhyTest; none: down on most of three nodes or more, never Active, and the second port of a card or a card "
	  "unlike those in use",
	  "IBTA, port state machine: only Active carries data; Initializing with LinkUp is a subnet manager's lack. Of several nodes at once it is the manager, of one it may be the port",
	  "by state: the subnet manager (opensm), the cable, ibportstate enable, ip link set up", NULL, 0, 0 },
	{ "ib.lid", OF_PORT, check_port_lid, "port", "addresses given by the subnet manager", "LID and SM LID of an Active InfiniBand port",
	  "bad: LID 0 or 0xffff, or SM LID 0", "IBTA: the manager gives both before it activates a port",
	  "restart the subnet manager (opensm) and see whether the LID comes", NULL, 0, 0 },
	{ "ib.sm", OF_PORT, check_port_sm, "port", "the same subnet manager as its like",
	  "SM LID of an Active InfiniBand port, and of ports of its name on other nodes",
	  "warn: another one than more than half of them have, 2.5 s after the last change",
	  "IBTA: one master for a subnet; who has another was left out of a handover, or is cabled into another fabric",
	  "sminfo on both nodes; look where the cable goes (ibnetdiscover)", NULL, 0, 0 },
	{ "ib.rate", OF_PORT, check_port_rate, "port", "rate of the port", "lanes times speed of an Active port",
	  "bad: lower than it has been, or than more than half of the ports of its model; warn: the latter with two lanes, or on most nodes",
	  "IBTA: links train to what both ends can do; sysfs knows no maximum, so its like are the measure. A split cable (HDR100, NDR200) has two lanes",
	  CABLE "; where a slower link is meant: nodectl resume NODE makes it the measure", NULL, 0, 0 },
	{ "ib.width", OF_PORT, check_port_width, "port", "lanes of the port", "active_width of an Active port",
	  "bad: fewer than it has had, or than more than half of the ports of its model; warn: the latter with two",
	  "as ib.rate", CABLE, NULL, 0, 0 },
	{ "ib.flap", OF_PORT, check_port_flap, "port", "the link stays up",
	  "changes of state that the probe saw, and link_downed, whichever are more, in the last hour",
	  "warn: 2 in an hour; bad: 4", "ours; NVSentinel takes any for fatal, which a switch that is restarted is not",
	  CABLE, NULL, 0, 0 },
	{ "ib.firmware", OF_PORT, check_port_firmware, "port", "firmware of adapters", "fw_ver and board_id of this and the other nodes",
	  "warn: another one than more than half of its model have, or several are in use", "ours: unlike ones are where odd faults come from",
	  "bring all adapters to one firmware (mlxfwmanager)", NULL, 0, 0 },
	{ "ib.pkey", OF_PORT, check_port_pkey, "port", "partition", "ports/PORT/pkeys/0 of this and the other nodes",
	  "warn: empty, a limited membership, or another one than more than half of the ports have", "IBTA: ports of different partitions do not hear each other",
	  "look at the subnet manager's partitions.conf; or set NCCL_IB_PKEY for jobs", NULL, 0, 0 },
	{ "ib.gids", OF_PORT, check_port_gids, "port", "GID table", "ports/PORT/gids: entries in use",
	  "warn: none", "IBTA, RoCE: without a GID there is no address", "give its interface an IP address (RoCE), or look at the subnet manager", NULL, 0, 0 },
	COUNTER("symbol_error", COUNTERS "symbol_error", "symbol errors", 10, 120,
		"warn: 10 in an hour; bad: 120", "error_thresholds: 10; NVSentinel and IBTA's bit error rate of 1e-12: 120 in an hour", CABLE),
	COUNTER("link_error_recovery", COUNTERS "link_error_recovery", "link recoveries", 10, 300,
		"warn: 10 in an hour; bad: 300", "error_thresholds: 10; NVSentinel: 5 in a minute", CABLE),
	COUNTER("link_downed", COUNTERS "link_downed", "link went down", 2, 4,
		"warn: 2 in an hour; bad: 4", "ours, as ib.flap; error_thresholds: 10, NVSentinel: any", CABLE),
	COUNTER("port_rcv_errors", COUNTERS "port_rcv_errors", "packets received with errors", 10, 1000,
		"warn: 10 in an hour; bad: 1000", "error_thresholds: 10; ours", CABLE),
	COUNTER("port_rcv_remote_physical_errors", COUNTERS "port_rcv_remote_physical_errors", "packets that were bad before they came here", 100, 0,
		"warn: 100 in an hour", "error_thresholds: 100", "look at the other ports of the fabric: the bad link is one further away (ibqueryerrors)"),
	COUNTER("port_xmit_discards", COUNTERS "port_xmit_discards", "packets not sent", 100, 0,
		"warn: 100 in an hour", "error_thresholds: 100", "congestion or a port that went down: look at the switch, and at the far ends of the traffic"),
	COUNTER("local_link_integrity_errors", COUNTERS "local_link_integrity_errors", "local link integrity errors", 1, 10,
		"warn: one in an hour; bad: 10", "error_thresholds: 10; NVSentinel: any", CABLE),
	COUNTER("excessive_buffer_overrun_errors", COUNTERS "excessive_buffer_overrun_errors", "buffer overruns", 1, 10,
		"warn: one in an hour; bad: 10", "error_thresholds: 10; NVSentinel: any", "compare the firmware and MTU of the two ends"),
	COUNTER("local_ack_timeout_err", HW_COUNTERS "local_ack_timeout_err", "packets that nobody acknowledged in time", 10, 0,
		"warn: 10 in an hour", "ours: it comes before NCCL's error 12 (IBV_WC_RETRY_EXC_ERR)",
		"look at the port at the other end (nodectl ports), and at the switches between"),
	COUNTER("rnr_nak_retry_err", HW_COUNTERS "rnr_nak_retry_err", "receivers that were not ready in time", 1, 0,
		"warn: one in an hour", "NVSentinel: any", "the receiving process stands still: look which rank does (nodectl job)"),
	COUNTER("out_of_sequence", HW_COUNTERS "out_of_sequence", "packets out of order", 1000, 0,
		"warn: 1000 in an hour, where packets were also lost (local_ack_timeout_err, port_rcv_errors, port_xmit_discards)",
		"ours: adaptive routing, usual since NDR, makes it count by the million where nothing is lost", "look at the switches' counters (ibqueryerrors)"),
	/* ---- GPUs ---- */
	{ "gpu.present", OF_GPU, check_gpu_present, "GPU", "the GPU answers", "every NVML call", "bad: it does not",
	  "NVML: GPU_IS_LOST, RESET_REQUIRED and the like", "look at the kernel log (dmesg | grep -i nvrm); a GPU off the bus needs a reboot", NULL, 0, 0 },
	{ "gpu.ecc", OF_GPU, check_gpu_ecc, "GPU", "uncorrectable memory errors", "nvmlDeviceGetTotalEccErrors, uncorrected, since the driver was loaded",
	  "warn: one", "NVIDIA's GPU memory error management guide: the row is replaced at the next reset",
	  "end what runs on it and reset or reboot; if they come back, have it replaced", NULL, 0, 0 },
	{ "gpu.xid", OF_GPU, check_gpu_xid, "GPU", "Xid errors", "NVML's events, since the probe began to listen, or the GPU was reset; the gravest",
	  "bad: one that is the GPU's own (48, 64, 74, 79, 95, 119 ...); warn: one that is to be watched (63, 92, 94 ...) or unknown; "
	  "none: what a program brings about by itself (13, 31, 43, 45, 68, 69, 109, 137)",
	  "NVIDIA's Xid catalogue", "look the Xid up in NVIDIA's list, and at dmesg", NULL, 0, 0 },
	{ "gpu.strangers", OF_GPU, check_gpu_strangers, "GPU", "leftover and strangers' processes", "nvmlDeviceGetComputeRunningProcesses, and which job started them",
	  "warn: one that no job started, or the driver does not tell", "ours: it takes memory and time that the job counts on",
	  "end that process, or launch with --busy-gpus", NULL, 0, 0 },
	{ "gpu.memory", OF_GPU, check_gpu_memory, "GPU", "memory that nobody has", "nvmlDeviceGetMemoryInfo, nvmlDeviceGetComputeRunningProcesses",
	  "warn: 2 GiB or more in use, and no process", "ours: the driver itself takes 0.5 to 1 GiB",
	  "fuser -v /dev/nvidia*; nvidia-smi --gpu-reset or reboot when no job runs there", NULL, 0, 0 },
	{ "gpu.remap", OF_GPU, check_gpu_remap, "GPU", "replaced rows of memory", "nvmlDeviceGetRemappedRows, every 30 s and at once after an Xid",
	  "bad: a replacement failed; warn: one is pending, or 8 or more were made after uncorrectable errors",
	  "NVIDIA's GPU memory error management guide: a failed one is a reason for replacement (RMA); 512 rows in all, 8 for one bank",
	  "pending: reset the GPU (nvidia-smi -r) or reboot when no job runs; failed: have it replaced", NULL, 0, 0 },
	{ "gpu.throttle", OF_GPU, check_gpu_throttle, "GPU", "clocks held down", "nvmlDeviceGetCurrentClocksEventReasons (ThrottleReasons)",
	  "bad: hardware slowdown, thermal or by the power brake; warn: slowdown in software for heat",
	  "NVML: HwSlowdown halves the clocks or worse; SwPowerCap at full load and GpuIdle are as they should be",
	  "heat: fans, air flow, room; power brake: power supplies and their cables (ipmitool sel list)", NULL, 0, 0 },
	{ "gpu.temp", OF_GPU, check_gpu_temp, "GPU", "temperature", "nvmlDeviceGetTemperature, and the slowdown threshold of this GPU",
	  "warn: within 5 degrees of its slowdown (90 where it does not tell); bad: at or above it",
	  "NVML: NVML_TEMPERATURE_THRESHOLD_SLOWDOWN, different for each model", "fans, air flow, room; compare with the other GPUs (nodectl gpus)", NULL, 0, 0 },
	{ "gpu.power", OF_GPU, check_gpu_power, "GPU", "power state and limit", "nvmlDeviceGetEnforcedPowerLimit, nvmlDeviceGetPerformanceState, utilisation",
	  "warn: limit lower than that of most GPUs of its model here or in the cluster; or busy in state P8 or deeper",
	  "ours: equal GPUs are equally limited, or a job waits for the slowest", "nvidia-smi -pl WATTS; nvidia-smi -q -d POWER,PERFORMANCE", NULL, 0, 0 },
	{ "gpu.pcie", OF_GPU, check_gpu_pcie, "GPU", "PCIe link", "nvmlDeviceGetCurrPcieLinkWidth and Generation, and the maxima",
	  "warn: fewer lanes than the maximum, a lower generation while it is busy, or a lower maximum than most of its model have",
	  "NVML; idle GPUs train the generation down to save power, never the width",
	  "reseat the GPU or its riser; look for AER in dmesg", NULL, 0, 0 },
	{ "gpu.nvlink", OF_GPU, check_gpu_nvlink, "GPU", "NVLinks", "nvmlDeviceGetNvLinkState of each, every 30 s and at once after an Xid; the GPUs of its model",
	  "bad: fewer than its model has (A100, H100: 12, 18; A800, H800: 8) where some are active, or than most of its model here; warn: none",
	  "NVIDIA's data sheets: A100 600 GB/s in 12 links, A800 400 in 8, H100 900 in 18, H800 400 in 8", "dmesg | grep -i nvlink; reset the GPU, restart the fabric manager, reboot", NULL, 0, 0 },
	{ "gpu.fabric", OF_GPU, check_gpu_fabric, "GPU", "membership of the NVLink fabric", "nvmlDeviceGetGpuFabricInfo, where there are NVSwitches; every 30 s, more often until it is complete",
	  "bad: not complete, or completed with an error", "NVIDIA's Fabric Manager guide: before it is complete CUDA does not start (error 802)",
	  "systemctl restart nvidia-fabricmanager, of the very version of the driver; see its log", NULL, 0, 0 },
	{ "gpu.mode", OF_GPU, check_gpu_mode, "GPU", "compute mode and ECC", "nvmlDeviceGetComputeMode, nvmlDeviceGetEccMode, nvmlDeviceGetMigMode",
	  "bad: compute mode Prohibited; warn: ECC off where most GPUs of its model have it on; exclusive mode and MIG are somebody's intention",
	  "NVML: in Prohibited mode no context can be made; without ECC memory errors become wrong numbers", "nvidia-smi -c DEFAULT, nvidia-smi -e 1", NULL, 0, 0 },
	{ "gpu.persistence", OF_GPU, check_gpu_persistence, "GPU", "persistence mode", "nvmlDeviceGetPersistenceMode", "warn: off",
	  "NVIDIA's driver persistence guide: without it the driver unloads a GPU that nobody uses, and each start takes seconds and forgets ECC counts",
	  "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1", NULL, 0, 0 },
	{ "gpu.nic", OF_GPU, check_gpu_nic, "GPU", "the adapter next to each GPU", "hwloc's distances of GPUs and adapters, and the ports' states",
	  "warn: the nearest has no Active port, and what is left is farther",
	  "NCCL takes the nearest of the ports it is allowed, and GPUDirect over PCIe switches only (NCCL_NET_GDR_LEVEL, PXB)",
	  "mend the port: ib.state says how; nodectl node --topology NAME shows the distances", NULL, 0, 0 },
	{ .id = NULL },
};

bool check_matches(const struct check *c, const char *id)
{
	size_t n = id != NULL ? strlen(id) : 0;

	if (n == 0 || strcmp(c->id, id) == 0)
		return true;
	return id[n - 1] == '.' && strncmp(c->id, id, n) == 0;
}

const char *check_verdict_name(enum check_verdict v)
{
	static const char *const names[] = { "unknown", "ok", "warn", "bad", "-" };

	return names[v];
}

void checks_add(struct arena *a, struct checks *c, const struct check_found *f)
{
	if (c->n == c->cap) {
		size_t cap = c->cap != 0 ? 2 * c->cap : 128;
		struct check_found *v = arena_alloc(a, cap * sizeof(*v));

		if (v == NULL) {
			c->oom = true;
			return;
		}
		if (c->n > 0)
			memcpy(v, c->v, c->n * sizeof(*v));
		c->v = v;
		c->cap = cap;
	}
	c->v[c->n++] = *f;
}

void check_say(struct check_is *is, enum check_verdict v, const char *word, const char *text, const char *fix)
{
	is->verdict = v;
	is->is = word;
	is->text = text;
	is->fix = fix;
}

void check_ok(struct check_is *is, const char *reading)
{
	is->verdict = CHECK_OK;
	is->reading = reading;
}

bool check_is_ethernet(const struct rec_port *p)
{
	return p->link_layer != NULL && strcmp(p->link_layer, "Ethernet") == 0;
}

bool check_is_infiniband(const struct rec_port *p)
{
	return p->link_layer == NULL || strcmp(p->link_layer, "InfiniBand") == 0;
}

/* ActiveDefer is not: it carries nothing. The client's lists of ports have the same rule. */
bool check_is_active(const struct rec_port *p)
{
	return p->state != NULL && strcmp(p->state, "Active") == 0;
}

const char *check_bytes(struct arena *a, uint64_t bytes)
{
	if (bytes < 1u << 20)
		return arena_printf(a, "%llu KiB", (unsigned long long)(bytes >> 10));
	if (bytes < 1u << 30)
		return arena_printf(a, "%llu MiB", (unsigned long long)(bytes >> 20));
	return arena_printf(a, "%.1f GiB", (double)bytes / (1 << 30));
}
