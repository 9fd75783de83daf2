"""class_node.py - classes of faults of nodes: file systems, memory, limits, clock, the kernel's log, agents and hosts that go"""
import os
import signal

import hosts  # noqa: F401
from bed import HERE, Expect, fault


def fuse(bed, node, path, *args):
    """A file system of ours, and the process that serves it."""
    bed.inside(node, "mkdir", "-p", path)
    p = bed.within(node, "/usr/bin/python3", os.path.join(HERE, "fusefs.py"), path, *args)
    assert p.stdout.readline() == "ready\n"
    return p


@fault("node-shm-full", "/dev/shm is filled", bed="hosts",
       expect=Expect("node.shm", "b", verdict="bad", words=("/dev/shm has", "free", "bus error")))
def shm_full(bed):
    bed.inside("b", "fallocate", "-l", "1060M", "/dev/shm/torch_1")
    yield
    bed.inside("b", "rm", "/dev/shm/torch_1")


@fault("node-mount-hangs", "the server of a mounted file system stops answering (FUSE)", bed="hosts", spoils=True,
       expect=Expect("node.mounts", "b", verdict="warn", words=("/mnt/data", "does not answer", "umount"), within=5))
def mount_hangs(bed):
    # the figure is 5 s to be slow and 5 s to be asked: one that is slow for a moment is no fault
    p = fuse(bed, "b", "/mnt/data")
    bed.until(lambda: "/mnt/data" in bed.inside("b", "cat", f"/proc/{bed.site.daemons['b'].pid}/mountinfo").stdout, "mounted")
    bed.until(lambda: [r for r in bed.check("node.mounts", "-v", "-w", "b") if "3 answer" in (r["reading"] or "")], "it is read")
    bed.mark()
    os.kill(p.pid, signal.SIGSTOP)
    yield
    os.kill(p.pid, signal.SIGCONT)


def small_disk(bed, node, *options):
    """An ext4 of 200 MB on /mnt/disk, in place of one of before."""
    bed.inside(node, "umount", "-l", "/mnt/disk", check=False)
    image = bed.site.path(f"{node}.img")
    with open(image, "wb") as f:
        f.truncate(200 << 20)
    bed.inside(node, "mkfs.ext4", "-q", "-F", *options, image)
    bed.inside(node, "mkdir", "-p", "/mnt/disk")
    bed.inside(node, "mount", "-o", "loop", image, "/mnt/disk")


@fault("node-disk-full", "a file system of a disk is filled", bed="hosts",
       expect=Expect("node.disk", "b", verdict="bad", words=("/mnt/disk is nearly full", "du -xsh")))
def disk_full(bed):
    small_disk(bed, "b")
    bed.until(lambda: [r for r in bed.check("node.disk", "-v", "-w", "b") if r["verdict"] == "ok"], "it is read")
    bed.inside("b", "sh", "-c", "head -c 300M /dev/zero >/mnt/disk/x || true")
    bed.mark()
    yield
    bed.inside("b", "rm", "/mnt/disk/x")


@fault("node-inodes-gone", "a file system has room for bytes and none for files", bed="hosts",
       expect=Expect("node.disk", "b", verdict="bad", words=("/mnt/disk has", "inodes free", "du --inodes")))
def inodes(bed):
    small_disk(bed, "b", "-N", "2000")
    bed.until(lambda: [r for r in bed.check("node.disk", "-v", "-w", "b") if r["verdict"] == "ok"], "it is read")
    bed.inside("b", "/usr/bin/python3", "-c", "for i in range(2100): open(f'/mnt/disk/f{i}', 'w').close()", check=False)
    bed.mark()
    yield
    bed.inside("b", "sh", "-c", "rm /mnt/disk/f*")


@fault("node-memlock", "jobs may lock 64 KiB of memory", bed="hosts-fed",
       expect=Expect("node.memlock", "b", verdict="warn", words=("64 KiB", "LimitMEMLOCK=infinity")))
def memlock(bed):
    bed.fake_host("b", memlock=65536)
    yield
    bed.fake_host("b", memlock=-1)


@fault("node-open-files", "jobs may open 1024 files", bed="hosts-fed",
       expect=Expect("node.limits", "b", verdict="warn", words=("1024 open files", "Too many open files")))
def nofile(bed):
    bed.fake_host("b", nofile=1024)
    yield
    bed.fake_host("b", nofile=1048576)


@fault("node-clock-ahead", "the clock jumps 2.1 s ahead", bed="hosts-fed",
       expect=Expect("node.clock", "b", verdict="bad", words=("ahead by 2.1 s", "chrony")))
def clock(bed):
    bed.fake_host("b", clock_ms=2100)
    yield
    bed.fake_host("b", clock_ms=0)


@fault("node-agent-killed", "nodeagentd is killed", bed="hosts",
       expect=Expect("node.reachable", "b", verdict="bad", words=("down", "nodeagentd")))
def agent_killed(bed):
    os.kill(bed.site.daemons["b"].pid, signal.SIGKILL)
    yield
    bed.site.daemons["b"].wait()
    bed.start_agent("b")


@fault("node-agent-stopped", "nodeagentd hangs (SIGSTOP)", bed="hosts",
       expect=Expect("node.reachable", "b", verdict="bad", words=("unreachable",)))
def agent_stopped(bed):
    os.kill(bed.site.daemons["b"].pid, signal.SIGSTOP)
    yield
    os.kill(bed.site.daemons["b"].pid, signal.SIGCONT)


# node.reachable: it is away while it boots
@fault("node-rebooted", "a host boots anew with a job on it", bed="hosts", also=("node.reachable",),
       expect=Expect("job", "b", verdict="lost", words=("b", "rebooted"), ask=lambda bed: bed.over()))
def rebooted(bed):
    bed.start("sleep", "100", nodes="b")
    bed.running()
    pids = [bed.pid(0), bed.site.daemons["b"].pid]
    import subprocess
    shims = [int(p) for p in subprocess.run(["ps", "-o", "ppid=", "-p", str(pids[0])], capture_output=True, text=True).stdout.split()]
    bed.mark()
    for p in pids[1:] + shims + pids[:1]:
        os.kill(p, signal.SIGKILL)
    bed.site.daemons["b"].wait()
    bed.new_boot("b")
    bed.start_agent("b")
    yield
    assert [e for e in bed.events() if e["kind"] == "node.rebooted" and e["node"] == "b"], bed.events()
    bed.job = None


# ---- the kernel's log: its lines are fed in ---------------------------------------------------------

def log(id, title, line, expect, level=3, **more):
    def inject(bed):
        bed.kmsg("b", line, level=level)
        yield
    inject.__qualname__ = id
    return fault(id, title, bed="hosts-fed", expect=expect, spoils=True, **more)(inject)


log("node-log-oom", "the kernel's log: a process was killed for want of memory",
    "Out of memory: Killed process 4711 (python3) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:1kB oom_score_adj:0",
    Expect("node.kmsg.oom", "b", verdict="warn", words=("processes killed for want of memory",)))
log("node-log-xid", "the kernel's log: Xid 79", "NVRM: Xid (PCI:0000:17:00): 79, pid=4711, name=python3, GPU has fallen off the bus.",
    Expect("node.kmsg.xid", "b", verdict="warn", words=("Xid",)), also=("node.kmsg.gpu-bus", "gpu.xid"))
log("node-log-hung-task", "the kernel's log: a task is stuck for two minutes", "INFO: task python3:4711 blocked for more than 122 seconds.",
    Expect("node.kmsg.hung-task", "b", verdict="warn", words=("stuck in the kernel",)))
log("node-log-mlx5-fatal", "the kernel's log: the firmware of an adapter has stopped",
    "mlx5_core 0000:12:00.0: poll_health:815:(pid 0): device's health compromised - reached miss count",
    Expect("node.kmsg.nic", "b", verdict="bad", words=("fatal error", "drain the node")))
log("node-log-gpu-init", "the kernel's log: NVIDIA's driver cannot start a GPU", "NVRM: GPU 0000:17:00.0: RmInitAdapter failed! (0x24:0x72:1568)",
    Expect("node.kmsg.gpu-driver", "b", verdict="warn", words=("cannot start",)))
log("node-log-lockup", "the kernel's log: a CPU is locked up", "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python3:4711]",
    Expect("node.kmsg.lockup", "b", verdict="bad", words=("locked up", "reboot")))
log("node-log-read-only", "the kernel's log: a damaged file system goes read-only", "EXT4-fs (nvme0n1p2): Remounting filesystem read-only",
    Expect("node.kmsg.fs", "b", verdict="bad", words=("broken", "fsck")))
log("node-log-memory-error", "the kernel's log: a memory error that was not corrected",
    "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0 page:0x5a4c21 offset:0x0 grain:32)",
    Expect("node.kmsg.mem-ue", "b", verdict="bad", words=("memory errors", "DIMM")))
