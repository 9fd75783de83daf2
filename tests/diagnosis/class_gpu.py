"""class_gpu.py - classes of faults of GPUs

All are recorded: the library in place of NVIDIA's answers as NVML does. Number 0 of the library's is GPU 1 of ours.
"""
import os
import shutil
import subprocess
import threading

from bed import Expect, Nodes, bed_kind, fault


def told(bed, lines, reset):
    """The library says other things. reset: a mode that a GPU takes on by a reset, for which nodeagentd is stopped."""
    if reset:
        bed.restart_agent("a", lambda: bed.nvml("a", *lines))
    else:
        bed.nvml("a", *lines)


def gpu(id, title, check, verdict, lines, *words, what="GPU 1", within=5.0, reset=False, **more):
    """A class in which the library says other things. Of an Xid the driver writes the same into the kernel's log."""
    more.setdefault("spoils", reset)
    more.setdefault("also", {"node.kmsg.xid"} if check == "gpu.xid" else ())

    @fault(id, title, expect=Expect(check, "a", what, verdict, words, within), **more)
    def inject(bed):
        told(bed, lines, reset)
        yield
        bed.nvml("a")
    return inject


WITH_XID = {"also": {"gpu.xid", "node.kmsg.xid"}, "spoils": True}  # the driver tells of links and rows by an Xid too

# ---- Xids: they stay until the driver is reset, for the counts are its session's --------------------------------------------

gpu("gpu-xid-79", "Xid 79: off the bus", "gpu.xid", "bad", ["xid 0 79"], "Xid 79", "fallen off the bus", spoils=True, within=1, short=True)
gpu("gpu-xid-48", "Xid 48: a memory error that ECC cannot correct", "gpu.xid", "bad", ["xid 0 48"], "Xid 48", "ECC", spoils=True, within=1)
gpu("gpu-xid-119", "Xid 119: the GPU's system processor does not answer", "gpu.xid", "bad", ["xid 0 119"], "Xid 119", "GSP", spoils=True, within=1)
gpu("gpu-xid-74", "Xid 74: NVLink error", "gpu.xid", "bad", ["xid 0 74"], "Xid 74", "NVLink", spoils=True, within=1)
gpu("gpu-xid-63", "Xid 63: a row of memory is to be replaced", "gpu.xid", "warn", ["xid 0 63"], "Xid 63", "row", spoils=True, within=1)
gpu("gpu-xid-94", "Xid 94: a contained memory error", "gpu.xid", "warn", ["xid 0 94"], "Xid 94", "contained", spoils=True, within=1)
gpu("gpu-xid-95-45", "Xid 95, and the 45 that follows it: the grave one is told", "gpu.xid", "bad", ["xid 0 95", "xid 0 45", "xid 0 45"], "Xid 95",
    spoils=True, within=1)
gpu("gpu-xid-unknown", "an Xid that nobody knows", "gpu.xid", "warn", ["xid 0 777"], "Xid 777", spoils=True, within=1)


@fault("ok-gpu-reset", "a GPU with Xid 79 that was lost is reset, and answers again", quiet=5, also={"node.kmsg.xid"}, spoils=True)
def reset(bed):
    bed.nvml("a", "lost 0 15", "xid 0 79")
    bed.until(lambda: any(r["id"] == "gpu.present" for r in bed.firing()), "it is lost")
    bed.nvml("a", "xid 0 79")
    bed.until(lambda: not any(r["id"].startswith("gpu.") for r in bed.firing()), "it is well again", 10)
    yield


class Fit(Nodes):
    """... whose administrator wants bad nodes to be left out."""

    def head_conf(self):
        return "[coordinator]\ncordon_on = bad\n"

    def cordon(self, node):
        return next(n for n in self.json("nodes")["nodes"] if n["name"] == node).get("cordon") or ""


bed_kind("nodes-cordon", real=False)(Fit)


@fault("gpu-xid-cordons", "a GPU's own Xid with cordon_on = bad: the node gets no new jobs", bed="nodes-cordon", spoils=True,
       also={"gpu.xid", "node.kmsg.xid", "node.cordon"},  # the verdict that it rests on
       expect=Expect("node.cordon", "a", words=("unfit", "GPU 1 Xid 79"), within=2, ask=lambda bed: bed.cordon("a")))
def cordons(bed):
    bed.nvml("a", "xid 0 79")
    yield


@fault("ok-xid-31", "Xid 31, a program's bad address, with cordon_on = bad: the GPU is well, the node gets jobs", bed="nodes-cordon",
       spoils=True, quiet=5)
def programs(bed):
    bed.nvml("a", "xid 0 31")
    yield lambda: "the last one was 31" in bed.reading("gpu.xid", "a", "GPU 1")


@fault("ok-xid-43-kmsg", "a program's Xids 13 and 43 in the kernel's log", spoils=True, quiet=5)
def programs_kmsg(bed):
    bed.kmsg("a", "NVRM: Xid (PCI:0000:10:00): 13, pid=4711, name=python, Graphics SM Warp Exception on (GPC 0, TPC 0, SM 0): Out Of Range Address")
    bed.kmsg("a", "NVRM: Xid (PCI:0000:10:00): 43, pid=4711, name=python, Ch 00000008")
    yield


@fault("gpu-xid-kmsg", "NVRM's line in the kernel's log", spoils=True,
       expect=Expect("node.kmsg.xid", "a", None, "warn", (), within=1))
def kmsg(bed):
    bed.kmsg("a", "NVRM: Xid (PCI:0000:10:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
    yield


# ---- memory -----------------------------------------------------------------------------------------------------------------

gpu("gpu-lost", "a GPU is lost", "gpu.present", "bad", ["lost 0 15"], "fell off the bus", short=True)
gpu("gpu-needs-reset", "a GPU needs a reset", "gpu.present", "bad", ["lost 0 16"], "needs a reset")
gpu("gpu-ecc", "memory errors that ECC could not correct", "gpu.ecc", "warn", ["set 0 2 ecc"], "2 uncorrectable")
gpu("gpu-remap-pending", "a row of memory waits for a reset to be replaced", "gpu.remap", "warn", ["set 0 1 pending", "set 0 1 remapu", "xid 0 63"], "reset", **WITH_XID)
gpu("gpu-remap-failed", "a row of memory could not be replaced", "gpu.remap", "bad", ["set 0 1 failed", "xid 0 64"], "replaced", **WITH_XID)
gpu("gpu-remap-many", "many rows were replaced", "gpu.remap", "warn", ["set 0 9 remapu", "xid 0 63"], "9 rows", **WITH_XID)
gpu("gpu-memory-left", "memory is in use, and no process is there that has it", "gpu.memory", "warn", ["mem 0 30000"], "29.3 GiB", "no process")


@fault("gpu-stranger", "a leftover process holds a GPU", expect=Expect("gpu.strangers", "a", "GPU 1", "warn", ("sleep", "no job started")))
def stranger(bed):
    p = subprocess.Popen(["sleep", "1000"])
    try:
        bed.mark()
        bed.nvml("a", f"proc 0 {p.pid} {20 << 30}", "mem 0 21000")
        yield
    finally:
        p.kill()
        p.wait()
        bed.nvml("a")


# ---- clocks, heat, power ------------------------------------------------------------------------------------------------------

gpu("gpu-thermal", "the hardware holds clocks down for heat", "gpu.throttle", "bad", ["set 0 72 throttle"], "too hot", short=True)
gpu("gpu-thermal-sw", "the driver holds clocks down for heat", "gpu.throttle", "warn", ["set 0 32 throttle"], "hot")
gpu("gpu-power-brake", "the power brake holds clocks down", "gpu.throttle", "bad", ["set 0 136 throttle"], "power brake")
gpu("gpu-hot", "a GPU is near its slowdown", "gpu.temp", "warn", ["temp 0 92"], "92 C")
gpu("gpu-too-hot", "a GPU is above its slowdown", "gpu.temp", "bad", ["temp 0 96"], "96 C")
gpu("gpu-limit", "one GPU has a lower power limit than its like", "gpu.power", "warn", ["set 0 400 limit"], "400 W")
gpu("gpu-slow-pstate", "a busy GPU is in an idle one's power state", "gpu.power", "warn", ["set 0 8 pstate", "set 0 100 util"], "P8")


def quiet(id, title, lines, proof, reset=False, **more):
    @fault(id, title, quiet=6, spoils=reset, **more)
    def inject(bed):
        told(bed, lines, reset)
        yield lambda: proof(bed)
        bed.nvml("a")


quiet("ok-power-cap", "full load at the power limit is no fault", ["set 0 4 throttle", "set 0 100 util"],
      lambda bed: any("power limit" in (r.get("reading") or "") for r in bed.check("gpu.throttle", "-v")))
quiet("ok-idle", "an idle GPU lets its PCIe link and clocks down", ["set 0 1 throttle", "set 0 8 pstate", "set 0 1 gen", "set 0 0 util"],
      lambda bed: any("generation 1" in (r.get("reading") or "") for r in bed.check("gpu.pcie", "-v")))
quiet("ok-warm", "a GPU at 85 C under load", ["temp 0 85", "set 0 100 util"], lambda bed: "85 C" in bed.reading("gpu.temp", "a", "GPU 1"))

# ---- links ----------------------------------------------------------------------------------------------------------------------

gpu("gpu-pcie-width", "a PCIe link has half its lanes", "gpu.pcie", "warn", ["set 0 8 width"], "8 lanes of 16")
gpu("gpu-pcie-gen", "a busy GPU's PCIe link is of an old generation", "gpu.pcie", "warn", ["set 0 3 gen", "set 0 100 util"], "generation 3 of 5")


@fault("gpu-pcie-slot", "a GPU came up in a slot that gives it less than its like", spoils=True,
       expect=Expect("gpu.pcie", "a", "GPU 1", "warn", ("8 lanes here", "generation 5 with 16")))
def slot(bed):
    bed.restart_agent("a", lambda: bed.nvml("a", "set 0 8 width", "set 0 8 widthmax"))
    yield


gpu("gpu-nvlink", "two NVLinks of a GPU are down", "gpu.nvlink", "bad", ["set 0 16 links", "xid 0 74"], "16 NVLinks", "18", **WITH_XID)
gpu("gpu-nvlink-silent", "two NVLinks of a GPU are down, and no Xid was told", "gpu.nvlink", "bad", ["set 0 16 links"], "16 NVLinks", "18", within=35, clear=40)
gpu("gpu-nvlink-none", "all NVLinks of a GPU are down", "gpu.nvlink", "bad", ["set 0 0 links", "set 0 1 linksdown", "xid 0 74"], "0 NVLinks", **WITH_XID)
gpu("gpu-persistence", "persistence mode is off", "gpu.persistence", "warn", ["set 0 0 persist"], "persistence", clear=40)

# ---- of a node --------------------------------------------------------------------------------------------------------------------


@fault("gpu-count", "a GPU is not there any more", expect=Expect("gpu.count", "a", None, "warn", ("1 GPUs", "2")))
def count(bed):
    bed.nvml("a", count=1)
    yield
    bed.nvml("a")


@fault("gpu-driver", "a node has another NVIDIA driver", spoils=True,
       expect=Expect("gpu.driver", "a", None, "warn", ("550.54.14", "580.95.05"), within=20))
def driver(bed):
    bed.restart_agent("a", lambda: bed.nvml("a", "driver 550.54.14"))  # a driver is changed by a reboot
    yield


@fault("gpu-driver-hangs", "the NVIDIA driver does not answer any more", spoils=True,
       expect=Expect("node.sources", "a", None, "warn", ("nvml", "has not answered", "may hang")), settle=1)
def hangs(bed):
    bed.nvml("a", "hang")
    yield
    bed.nvml("a")


@fault("gpu-driver-hangs-on", "... for 10 s: its GPUs are not known any more", spoils=True,
       expect=Expect("node.sources", "a", None, "bad", ("nvml", "does not answer"), within=10 + 5), settle=1)
def hangs_on(bed):
    bed.nvml("a", "hang")
    yield
    bed.nvml("a")


@fault("ok-driver-starts", "a driver takes 7 s to start with the agent", spoils=True, quiet=12)
def starts(bed):
    bed.restart_agent("a", lambda: bed.nvml("a", "hang"))
    soon = threading.Timer(7, lambda: bed.nvml("a"))
    soon.start()
    yield
    soon.join()
    assert "driver" in bed.reading("node.sources", "a", "nvml"), "it has started"


@fault("ok-driver-busy", "a driver answers after 1.5 s, once", quiet=6)
def busy(bed):
    bed.nvml("a", "hang")
    soon = threading.Timer(1.5, lambda: bed.nvml("a"))
    soon.start()
    yield
    soon.join()


@fault("gpu-driver-mismatch", "the driver was exchanged beneath the library (version mismatch)", spoils=True,
       expect=Expect("node.sources", "a", None, "bad", ("nvml", "version"), within=20))
def mismatch(bed):
    bed.restart_agent("a", lambda: bed.nvml("a", "init 18"))
    yield


class Switched(Nodes):
    """... with NVSwitches, and a program that is called as the fabric manager is. Needs root: /proc is made up."""

    nodes = ("a", "b")

    @classmethod
    def missing(cls):
        if os.geteuid():
            return "needs root for a mount namespace"
        return Nodes.missing() or (None if shutil.which("unshare") else "unshare is not installed")

    def prepare(self):
        super().prepare()
        self.program = self.site.path("nv-fabricmanager")
        shutil.copy(shutil.which("sleep"), self.program)
        self.manager = None
        if self.switches:
            self.manage()
        d = self.site.path("driver")
        for sub in ("nvidia", "nvidia-nvswitch/devices/0000:05:00.0")[:1 + self.switches]:
            os.makedirs(os.path.join(d, sub))
        with open(os.path.join(d, "nvidia/version"), "w", encoding="ascii") as f:
            f.write(f"NVRM version: NVIDIA UNIX {self.modules} for x86_64  580.95.05\n")

    modules, switches = "Open Kernel Module", True

    def agent_prefix(self, node):
        return ("unshare", "-m", "sh", "-c", f'mount --bind {self.site.path("driver")} /proc/driver && exec "$@"', "sh")

    def manage(self):
        self.manager = subprocess.Popen([self.program, "1000"])

    def end_manager(self):
        if self.manager:
            self.manager.kill()
            self.manager.wait()
        self.manager = None

    def tidy(self):
        self.end_manager()


bed_kind("nvswitch", real=False)(Switched)


@fault("gpu-fabricmanager", "the fabric manager has ended", bed="nvswitch", spoils=True,
       expect=Expect("gpu.fabricmanager", None, None, "bad", ("error 802",)), also={"gpu.fabricmanager"})  # of the other node: one host
def fabricmanager(bed):
    bed.end_manager()
    yield


class Closed(Switched):
    """... with the closed kernel modules, which need nvidia_peermem for GPUDirect."""

    modules, switches = "x86_64 Kernel Module", False

    def prepare(self):
        super().prepare()
        for n in self.nodes:
            os.makedirs(self.sys(n).path("module/nvidia_peermem"))


bed_kind("peermem", real=False)(Closed)


@fault("gpu-peermem", "nvidia_peermem is not loaded beside closed kernel modules", bed="peermem",
       expect=Expect("gpu.peermem", "a", None, "warn", ("nvidia_peermem is not loaded", "modprobe")))
def peermem(bed):
    os.rmdir(bed.sys("a").path("module/nvidia_peermem"))
    yield
    os.mkdir(bed.sys("a").path("module/nvidia_peermem"))
