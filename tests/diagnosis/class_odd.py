"""class_odd.py - unusual hosts and jobs on which nothing is wrong, and what NCCL says on a bad day"""
import ctypes
import os
import time

import hosts  # noqa: F401
from bed import Expect, fault
from class_gpu import WITH_XID, gpu, quiet
from class_ib import DOWN, NODES
from class_jobs import GATE, LOG, WAIT, job, nccl

# ---- GPUs ------------------------------------------------------------------------------------------------------

NOT_SUPPORTED = 3
quiet("ok-mig", "a GPU is cut up (MIG): use and processes are not told of the whole", ["set 0 1 mig", f"fail 0 {NOT_SUPPORTED} util", f"fail 0 {NOT_SUPPORTED} procs"],
      lambda bed: bed.gpu("a", 1).get("util") is None, reset=True)
quiet("ok-vgpu", "a virtual GPU tells no heat, power, errors or link", [f"fail 0 {NOT_SUPPORTED} {c}" for c in ("temp", "power", "limit", "ecc", "util")],
      lambda bed: bed.gpu("a", 1).get("temp_c") is None)
quiet("ok-exclusive", "a GPU is in exclusive mode: one program at a time, as jobs have it", ["set 0 3 compute"],
      lambda bed: "exclusive" in bed.reading("gpu.mode", "a", "GPU 1"))
quiet("ok-fabric", "a GPU has joined its NVLink fabric", ["set 0 3 fabric"], lambda bed: any(r["id"] == "gpu.fabric" and r["verdict"] == "ok" for r in bed.check("-v")), reset=True)
gpu("gpu-fabric-progress", "a GPU does not get into the NVLink fabric (In Progress)", "gpu.fabric", "bad", ["set 0 2 fabric"], "in progress", "error 802", reset=True)
gpu("gpu-fabric-failed", "a GPU's joining of the NVLink fabric failed", "gpu.fabric", "bad", ["set 0 3 fabric", "set 0 999 fabricstatus"], "failed", "999", reset=True)
gpu("gpu-prohibited", "a GPU is closed to programs (compute mode Prohibited)", "gpu.mode", "bad", ["set 0 2 compute"], "Prohibited", "-c DEFAULT")
gpu("gpu-ecc-off", "ECC is off on one GPU", "gpu.mode", "warn", ["set 0 0 eccmode"], "ECC is off", "5 of 6", reset=True)
quiet("ok-display", "a GPU holds some memory for a display", ["mem 0 900"], lambda bed: True)
gpu("gpu-nvlink-one", "one NVLink of 18 is down", "gpu.nvlink", "bad", ["set 0 17 links", "xid 0 74"], "17 NVLinks", "18", **WITH_XID)
for xid, verdict, word in ((64, "bad", "row"), (92, "warn", "correctable"), (120, "bad", "GSP"), (140, "bad", "ECC"), (145, "warn", "NVLink"), (154, "warn", "recovery"),
                           (62, "bad", "halted"), (158, "bad", "timeout"), (156, "warn", "retire"), (54, "bad", "power"), (46, "bad", "stopped"),
                           (150, "warn", "NVLink"), (167, "bad", "PCIe")):
    gpu(f"gpu-xid-{xid}", f"Xid {xid}", "gpu.xid", verdict, [f"xid 0 {xid}"], f"Xid {xid}", word, spoils=True, within=1)


@fault("ok-other-model", "a node has one A100 of an older driver branch's name beside nodes of H100", spoils=True, quiet=6)
def other_model(bed):
    bed.restart_agent("a", lambda: bed.nvml("a", "name 0 A100-SXM4-80GB", "set 0 12 links", "set 0 400 limit", "set 0 4 gen", "set 0 4 genmax", count=1))
    yield lambda: "A100" in (bed.gpu("a", 0).get("name") or "")


# ---- ports -------------------------------------------------------------------------------------------------------


def alike(bed, device, **files):
    """The second port of each node's third card."""
    for n in NODES:
        bed.sys(n).device(device, 3, 1, **files)


@fault("ok-unused-ports", "the second port of a card of each node has no cable, and never had", quiet=6, spoils=True)
def unused(bed):
    def change():
        alike(bed, "mlx5_9", state="1: DOWN", phys_state="2: Polling", rate=DOWN, lid="0x0", sm_lid="0x0")
    bed.restart_all(change)
    yield lambda: all(bed.port(n, "mlx5_9").get("state") == "Down" for n in NODES)


@fault("ok-disabled-ports", "a port of each node was switched off long ago, for nobody uses it", quiet=6, spoils=True)
def disabled(bed):
    bed.restart_all(lambda: alike(bed, "mlx5_9", state="1: DOWN", phys_state="3: Disabled", rate=DOWN, lid="0x0", sm_lid="0x0"))
    yield lambda: all(bed.port(n, "mlx5_9").get("state") == "Down" for n in NODES)


@fault("ok-card-swapped", "a card was exchanged: another GUID, another LID", quiet=6)
def swapped(bed):
    bed.sys("a").set("mlx5_2", **{"gids/0": "fe80:0000:0000:0000:a088:c203:00ff:0001", "lid": "0x77"})
    yield lambda: bed.port("a", "mlx5_2").get("lid") == 0x77
    bed.sys("a").set("mlx5_2", **{"gids/0": "fe80:0000:0000:0000:a088:c203:00ab:0002", "lid": "0x4"})


@fault("ok-rails", "each rail is a fabric of its own: the same LIDs in each, and managers of their own", quiet=6)
def rails(bed):
    def put(lid, sm):
        for k, n in enumerate(NODES):
            for i in range(4):
                bed.sys(n).set(f"mlx5_{i}", lid=hex(lid(k, i)), sm_lid=hex(sm(i)))
    put(lambda k, i: k + 10, lambda i: i + 1)
    yield lambda: all(bed.port(n, "mlx5_3").get("sm_lid") == 4 for n in NODES)
    put(lambda k, i: 10 * k + i + 2, lambda i: 1)


@fault("ok-traffic", "an hour's counts of a busy port: waits, and packets out of order by the million", quiet=6, spoils=True)
def traffic(bed):
    bed.sys("a").counter("mlx5_1", out_of_sequence=40000000, port_rcv_data=10**12, port_xmit_data=10**12)
    yield lambda: "40000000" in bed.reading("ib.counters.out_of_sequence", "a", "mlx5_1")


@fault("ok-partitions", "each port is in a second partition too", quiet=6, spoils=True)
def partitions(bed):
    for n in NODES:
        bed.sys(n).set("mlx5_2", **{"pkeys/1": "0x8005" if n != "a" else "0x8006"})
    yield lambda: "2 in use" in bed.reading("ib.pkey", "a", "mlx5_2")


# ---- the kernel's log -----------------------------------------------------------------------------------------------


def harmless(id, title, *lines, levels=4):
    def inject(bed):
        for x in lines:
            bed.kmsg("b", x, level=levels)
        yield
    inject.__qualname__ = id
    return fault(id, title, bed="nodes", quiet=5, spoils=True)(inject)


harmless("ok-log-boot", "what NVIDIA's, Mellanox's and the IOMMU's drivers say at a good start",
         "nvidia: module license 'NVIDIA' taints kernel.", "Disabling lock debugging due to kernel taint",
         "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build", "nvidia-uvm: Loaded the UVM driver, major device number 511.",
         "mlx5_core 0000:17:00.0: firmware version: 28.39.1002", "mlx5_core 0000:17:00.0: 252.048 Gb/s available PCIe bandwidth (32.0 GT/s PCIe x8 link)",
         "mlx5_core 0000:17:00.0 ibp23s0: Link up", "mlx5_core 0000:17:00.0: Port module event: module 0, Cable plugged",
         "DMAR: IOMMU enabled", "pci 0000:17:00.0: Adding to iommu group 44", "pcieport 0000:16:01.0: AER: enabled with IRQ 30",
         "ACPI: PCI: Interrupt link LNKA configured for IRQ 0", "EDAC MC0: Giving out device to module i10nm_edac controller",
         "nvidia-nvswitch0: open (major=510)", "NVRM: GPU at PCI:0000:17:00: GPU-11111111-2222-3333-4444-555555555555")
harmless("ok-log-users", "what users' programs and their ends leave in the log",
         "python3[4711]: segfault at 0 ip 00007f0000000000 sp 00007ffe00000000 error 4 in libtorch_cuda.so[7f0000000000+1000]",
         "perf: interrupt took too long (3127 > 3126), lowering kernel.perf_event_max_sample_rate to 63750",
         "TCP: request_sock_TCP: Possible SYN flooding on port 29500. Sending cookies.", "process 'train.py' started with executable stack",
         "python3 (4711): drop_caches: 3", "cgroup: fork rejected by pids controller in /user.slice",
         "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 22013, Non-fatal, Link 32 AN1 Heartbeat Timeout Error (First)",
         "NVRM: Xid (PCI:0000:10:00): 45, pid=4711, name=python3, Ch 00000008", "device mlx5_0 entered promiscuous mode")
harmless("ok-log-aer-few", "three errors of PCIe that were corrected", *["pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0"] * 3)


def log(id, title, check, verdict, words, *lines, what=None, **more):
    def inject(bed):
        for x in lines:
            bed.kmsg("b", x, level=3)
        yield
    inject.__qualname__ = id
    return fault(id, title, bed="nodes", spoils=True, expect=Expect(check, "b", what, verdict, words), **more)(inject)


log("log-aer-storm", "a storm of errors of PCIe that were corrected", "node.kmsg.pcie-corrected", "warn", ("PCIe",),
    *["pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0"] * 200)
log("log-aer-fatal", "an error of PCIe that was not corrected", "node.kmsg.pcie", "bad", ("PCIe",),
    "pcieport 0000:16:01.0: AER: Uncorrected (Fatal) error message received from 0000:17:00.0")
log("log-nvswitch", "an NVSwitch has a fatal error", "node.kmsg.nvswitch", "bad", ("NVSwitch",),
    "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 32 LTSSM Fault Up")
log("log-xid-154", "the driver asks for a reboot", "node.kmsg.xid", "warn", ("Xid",),
    "NVRM: Xid (PCI:0000:10:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)", also=("gpu.xid",))
log("log-iommu", "the IOMMU refuses a device's access", "node.kmsg.iommu", "warn", ("reached for memory", "17:00.0"),
    "DMAR: [DMA Write NO_PASID] Request device [17:00.0] fault addr 0xfe000000 [fault reason 0x05] PTE Write access is not set")
log("log-cable-unplugged", "an adapter's cable is pulled", "node.kmsg.port", "warn", ("ports that went down",),
    *[f"mlx5_core 0000:1{i}:00.0 ibp2{i}s0: Link down" for i in range(4)])
log("log-mlx5-power", "an adapter gets too little power from its slot", "node.kmsg.nic-module", "warn", ("power",),
    "mlx5_core 0000:17:00.0: mlx5_pcie_event:301:(pid 4711): Detected insufficient power on the PCIe slot (27W).")
log("log-mlx5-module-hot", "a transceiver is too hot", "node.kmsg.nic-module", "warn", ("emperature",),
    "mlx5_core 0000:17:00.0: Port module event[error]: module 0, Cable error, High Temperature")
log("log-mlx5-bad-cable", "a cable is of no use to its adapter", "node.kmsg.nic-module", "warn", ("shorted",),
    "mlx5_core 0000:17:00.0: Port module event[error]: module 0, Cable error, Bad or shorted cable/module")

# ---- jobs that are well ---------------------------------------------------------------------------------------------


@job("ok-compile", "processes that a rank has set apart (as torch.compile does) compute for long, the others wait", bed="hosts", quiet=35)
def compiles(bed):
    bed.start_python("if rank == 1 and os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True: sum(range(10000))\n" + WAIT)
    bed.running()
    yield lambda: bed.phase().startswith(("tokenising: rank 1", "busy: rank 1"))
    bed.no_hang()
    bed.end_job()


@job("ok-slow-files", "rank 1 reads from a file server that takes 8 s for each answer", bed="hosts", quiet=40, spoils=True)
def slow_files(bed):
    from class_node import fuse
    fuse(bed, "b", "/mnt/slow", "--slow")
    bed.start_python(GATE + "if rank == 1:\n    for i in range(99):\n        f = os.open('/mnt/slow/data', os.O_RDONLY | os.O_DIRECT); os.read(f, 65536); os.close(f)\n" + WAIT)
    bed.running()
    bed.go()
    yield
    bed.no_hang()
    bed.end_own()
    bed.end_job()


@job("ok-prints", "ranks print a line each second and sleep", bed="hosts", quiet=35)
def prints(bed):
    bed.start_python("while True: print('waiting for the queue', flush=True); time.sleep(1)\n")
    bed.running()
    yield
    bed.no_hang()
    bed.end_job()


@job("ok-user-environment", "a proxy, CUDA_VISIBLE_DEVICES, OMP_NUM_THREADS and a MASTER_PORT of the user's", bed="hosts", quiet=5)
def environment(bed):
    bed.start_python(WAIT, options=("--env", "http_proxy=http://192.0.2.9:3128", "--env", "CUDA_VISIBLE_DEVICES=0,1", "--env", "OMP_NUM_THREADS=1"))
    bed.running()
    yield
    bed.end_job()


# ---- NCCL -----------------------------------------------------------------------------------------------------------


def quiet_nccl(id, title, text, words, nodes=3, **more):
    """Ranks whose NCCL says this, and nothing is wrong: `why` says so."""
    def inject(bed):
        bed.start_python(LOG.replace("nranks 3", f"nranks {nodes}") + text + WAIT, nodes=nodes)
        bed.running()
        bed.mark()
        bed.go()
        yield
        bed.end_job()
    inject.__qualname__ = id
    return job(id, title, "why", ("It runs, and nothing is known to be wrong with it", *words), bed="hosts-fed", **more)(inject)


quiet_nccl("ok-nccl-one-node", "NCCL of a job of one node names the socket network, and needs none", "version(); socket('NET/IB : No device found.')\n", (), nodes=1)
quiet_nccl("ok-nccl-plugin", "NCCL takes an InfiniBand plugin (HPC-X)",
           "version()\nsay('NET/Plugin: Loaded net plugin IBext_v8 (v8)')\nsay('NET/IB : Using [0]mlx5_0:1/IB/SHARP [1]mlx5_1:1/IB/SHARP [RO]; OOB eth0:192.0.2.2<0>')\n"
           "say('Using network IBext_v8'); init()\nsay('Channel 00/0 : 0[0] -> 1[0] [send] via NET/IBext_v8/0/GDRDMA/Shared')\n", ("IBext",))
quiet_nccl("ok-nccl-noise", "plug-ins that NCCL does not find, and does not need",
           "version()\nsay('NET/Plugin: Could not find: libnccl-net.so. Using internal network plugin.')\nsay('TUNER/Plugin: Could not find: libnccl-tuner.so')\n"
           "say('PROFILER/Plugin: Could not find: libnccl-profiler.so')\nsay('Failed to find CUDA library libcuda.so.1 in RAS, NVLS multicast support is not available on dev 0')\n"
           "ib()\n", ("IB x4",))
nccl("nccl-shm-full", "NCCL finds /dev/shm full on b", ("rank 1 on b", "/dev/shm"),
     "version(); ib()\nif rank == 1:\n    say('Error while creating shared memory segment /dev/shm/nccl-Ab12Cd (size 9637888), error: No space left on device (28)', 'WARN')\n")
nccl("nccl-same-gpu", "two ranks use one GPU", ("rank 1 on b", "GPU"),
     "version()\nif rank == 1: say('Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 60000', 'WARN')\n")
nccl("nccl-peer-closed", "rank 1's peer closed the connection", ("rank 1 on b", "closed"),
     "version(); ib()\nif rank == 1: say('socketProgress: Connection closed by remote peer host-a<40123>', 'WARN')\n")
nccl("nccl-async-event", "an adapter tells NCCL that its port is down", ("rank 1 on b", "mlx5_2", "port"),
     "version(); ib()\nif rank == 1: say('NET/IB : mlx5_2:1 Got async event : port error', 'WARN')\n")
nccl("nccl-qp-timeout", "NCCL cannot bring a queue pair up: the peer's GID is not reached", ("rank 1 on b", "ibv_modify_qp"),
     "version(); ib()\nif rank == 1: say('Call to ibv_modify_qp failed with 110 Connection timed out, on dev mlx5_1:1, curr state INIT, next state RTR, local GID index 3', 'WARN')\n")
nccl("nccl-cuda-802", "CUDA is not ready (error 802): the fabric manager", ("rank 1 on b", "system not yet initialized", "nvidia-fabricmanager"),
     "version()\nif rank == 1: say(\"Cuda failure 802 'system not yet initialized'\", 'WARN')\n")
nccl("nccl-cuda-oom", "NCCL gets no GPU memory", ("rank 1 on b", "out of memory", "smaller batches"),
     "version(); ib()\nif rank == 1: say(\"Cuda failure 2 'out of memory'\", 'WARN')\n")
nccl("nccl-no-route", "NCCL's bootstrap cannot reach rank 0", ("rank 1 on b", "192.0.2.2"),
     "version()\nif rank == 1: say('socketStartConnect: Connect to 192.0.2.2<40123> failed : No route to host', 'WARN')\n")
nccl("nccl-no-gdr", "InfiniBand without GPUDirect on b", ("its nodes differ", "no GDR! on b"),
     "version()\nsay('NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [2]mlx5_2:1/IB [3]mlx5_3:1/IB [RO]; OOB eth0:192.0.2.2<0>')\nsay('Using network IB'); init()\n"
     "say('Channel 00/0 : 0[0] -> 1[0] [send] via NET/IB/0' + ('' if rank == 1 else '/GDRDMA'))\n")
nccl("nccl-unequal-ports", "NCCL on b uses two of four ports", ("its nodes differ", "x2-4! (x2 on b)"), "version(); ib(2 if rank == 1 else 4)\n")


@job("hang-frozen", "rank 1's cgroup is frozen (docker pause, systemctl freeze)", "hang", ("rank 1 on b (pid", "is frozen with its cgroup", "thaw"),
     within=30, spoils=True)
def frozen(bed):
    old = os.path.isdir("/sys/fs/cgroup/freezer")
    bed.inside("b", "sh", "-c", "mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/freezer && mount -t cgroup -o freezer none /sys/fs/cgroup/freezer"
               if old else "mount -t cgroup2 none /sys/fs/cgroup")  # ip netns exec has put a /sys of its own there
    d = os.path.join("/sys/fs/cgroup/freezer" if old else "/sys/fs/cgroup", f"na-frozen-{os.getpid()}")
    file, words = ("freezer.state", ("FROZEN", "THAWED")) if old else ("cgroup.freeze", ("1", "0"))

    def put(name, text):
        with open(os.path.join(d, name), "w", encoding="ascii") as f:
            f.write(str(text))
    bed.start_python(WAIT)
    bed.running()
    bed.until(lambda: bed.site.job(bed.job)["phase"], "a phase")
    os.mkdir(d)
    try:
        put("cgroup.procs", bed.pid(1))
        bed.mark()
        put(file, words[0])
        yield
    finally:
        put(file, words[1])
        bed.end_job()
        time.sleep(0.5)
        os.rmdir(d)


@job("hang-debugger", "somebody holds rank 1 in a debugger", "hang", ("rank 1 on b (pid", "held by a debugger"), within=30)
def debugger(bed):
    bed.start_python(WAIT)
    bed.running()
    bed.until(lambda: bed.site.job(bed.job)["phase"], "a phase")
    pid = bed.pid(1)
    r, w = os.pipe()
    bed.mark()
    child = os.fork()
    if child == 0: # PTRACE_ATTACH holds it until this process ends
        libc = ctypes.CDLL(None)
        libc.ptrace(16, pid, 0, 0)
        os.read(r, 1)
        os._exit(0)
    yield
    os.write(w, b"x")
    os.waitpid(child, 0)
    os.close(r)
    os.close(w)
    bed.until(lambda: bed.site.job(bed.job)["hang"] is None, "it goes on", 15)
    bed.end_job()


@fault("node-tmp-full", "a /tmp of its own (tmpfs) is filled", bed="hosts", expect=Expect("node.disk", "b", verdict="bad", words=("/var/tmp is nearly full",)))
def tmp_full(bed):
    bed.inside("b", "mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/var/tmp")
    bed.until(lambda: [r for r in bed.check("node.disk", "-v", "-w", "b") if r["verdict"] == "ok"], "it is read")
    bed.inside("b", "sh", "-c", "head -c 70M /dev/zero >/var/tmp/x || true")
    bed.mark()
    yield
    bed.inside("b", "umount", "-l", "/var/tmp")


@fault("ok-full-images", "read-only images (snaps, CD-ROMs) are always full", bed="hosts", quiet=10)
def images(bed):
    image = bed.site.path("image.img")
    bed.inside("b", "sh", "-c", f"truncate -s 16M {image} && mkfs.ext4 -q -F -m 0 {image} && mkdir -p /mnt/snap && mount -o loop {image} /mnt/snap && "
               "(head -c 30M /dev/zero >/mnt/snap/x || true) && mount -o remount,ro /mnt/snap")
    yield
    bed.inside("b", "umount", "-l", "/mnt/snap")


def job_on(id, title, words, what, **more):
    """A job runs on all nodes of 'nodes' when something befalls b: why tells."""
    def inject(bed):
        bed.start_python(WAIT)
        bed.running()
        bed.mark()
        what(bed)
        yield
        bed.end_job()
    inject.__qualname__ = id
    return job(id, title, "why", words, bed="hosts-fed", spoils=True, **more)(inject)


job_on("why-port-down", "a port of a running job's node goes down", ("It runs, on a node that is not well", "b mlx5_1", "Down/Polling"),
       lambda bed: bed.sys("b").set("mlx5_1", state="1: DOWN", phys_state="2: Polling", rate=DOWN), also=("ib.state",))
job_on("why-xid", "a GPU of a running job's node falls off the bus", ("It runs, on a node that is not well", "b GPU 1", "Xid 79"),
       lambda bed: bed.nvml("b", "xid 0 79"), also=("gpu.xid", "node.kmsg.xid"))


# ---- a fabric's bad days ------------------------------------------------------------------------------------------------


@fault("ib-rail-down", "the switch of a rail dies: the same port of all nodes goes down", spoils=True, also={"ib.state"},  # of the other nodes
       expect=Expect("ib.state", "a", "mlx5_1", "bad", ("it was Active before", "3 nodes", "switch")))
def rail_down(bed):
    for n in NODES:
        bed.sys(n).set("mlx5_1", state="1: DOWN", phys_state="2: Polling", rate=DOWN)
    yield


@fault("ok-lids-renumbered", "a new subnet manager gives all ports other LIDs", quiet=6)
def renumbered(bed):
    for base in 100, 2:
        for k, n in enumerate(NODES):
            for i in range(4):
                bed.sys(n).set(f"mlx5_{i}", lid=hex(10 * k + i + base))
        if base == 100:
            yield lambda: all(bed.port(n, "mlx5_3").get("lid", 0) >= 100 for n in NODES)


@fault("ok-link-negotiating", "a port that comes up passes Initializing and Armed within a second", quiet=6, spoils=True, also={"ib.state"})  # meanwhile
def negotiating(bed):
    bed.restart_agent("a", lambda: bed.sys("a").set("mlx5_2", state="1: DOWN", phys_state="4: PortConfigurationTraining", rate=DOWN))
    for state in "2: INIT", "3: ARMED", "4: ACTIVE":
        bed.sys("a").set("mlx5_2", state=state, phys_state="5: LinkUp", rate="400 Gb/sec (4X NDR)")
        time.sleep(0.3)
    yield lambda: bed.port("a", "mlx5_2").get("state") == "Active"


@job("hang-nccl-init", "rank 1 does not come to NCCL's initialisation, the others wait there", "hang", ("rank 1 on b has not come to NCCL's initialisation", "why: It hangs"), within=30, bed="hosts-fed")
def init_missing(bed):
    bed.start_python(LOG + "if rank != 1:\n    version(); say('Using network IB'); say(INIT + 'START')\n" + WAIT)
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.end_job()
