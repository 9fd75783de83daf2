"""class_jobs.py - classes of faults of jobs: ranks that end, stop, wait or are slow, and those that only look so"""
import os
import re
import signal
import time

import hosts  # noqa: F401
from bed import FAULTS, Expect, fault

def computes(bed):
    """The phase, when it names a rank with a CPU of its own."""
    said = bed.phase()
    return said if re.search(r" ([3-9][0-9]|1[0-9][0-9]) % CPU", said) else None


ASK = {"computes": computes, "over": lambda bed: bed.over(), "hang": lambda bed: bed.hang(), "phase": lambda bed: bed.phase(), "why": lambda bed: bed.why()}
WAIT = "time.sleep(600)\n"
SPIN = "while True: sum(range(10000))\n"
GATE = "while not os.path.exists(DIR + '/go'): time.sleep(0.01)\n"


def job(id, title, ask=None, words=(), within=5.0, verdict=None, bed="hosts", **more):
    """A class whose verdict is told of a job, by `over` (why, when it is over), `hang`, `phase` or `why`. The same without
    root, where nodes share a host. ask=None: silence."""
    expect = Expect("job", "its", verdict=verdict or ask, words=words, within=within, ask=ASK[ask]) if ask else None

    def add(f):
        fault(id, title, bed=bed, expect=expect, **more)(f)
        FAULTS[-1].recorded = ("plain", f)
        return f
    return add


def ended(id, title, words, how, text=GATE + WAIT, **more):
    """A job of three ranks that wait; how(bed) ends rank 1 on b. The others are ended by us."""
    def inject(bed):
        bed.start_python(text)
        bed.running()
        bed.mark()
        how(bed)
        yield
        bed.end_job()
    inject.__qualname__ = id
    return job(id, title, "over", words, **more)(inject)


# ---- ranks that end ----------------------------------------------------------------------------

ended("job-exit-code", "rank 1 ends with code 7 and says nothing",
      ("It failed: rank 1 (b, pid", "exited with code 7", "no exception was found in its output", "2 other ranks (collateral)"),
      lambda bed: bed.go(), text=GATE + "if rank == 1: os._exit(7)\n" + WAIT)
ended("job-killed", "rank 1 gets SIGKILL from somebody",
      ("It failed: rank 1 (b, pid", "was killed by signal 9: sent by neither nodeagent nor the kernel's OOM killer", "2 other ranks (collateral)"),
      lambda bed: os.kill(bed.pid(1), signal.SIGKILL))
ended("job-segv", "rank 1 reads where there is no memory",
      ("It failed: rank 1 (b, pid", "was killed by signal 11"),
      lambda bed: bed.go(), text=GATE + "import ctypes\nif rank == 1: ctypes.string_at(0)\n" + WAIT)
ended("job-exception-first", "rank 1 raises, the others follow 50 ms later with errors of the connection",
      ("It failed: rank 1 (b, pid", "ValueError: bad batch"),
      lambda bed: bed.go(), text=GATE + "if rank != 1:\n    time.sleep(0.05)\n    raise ConnectionResetError('Connection reset by peer')\n"
      "raise ValueError('bad batch')\n")
ended("job-cuda-oom", "rank 1 has no GPU memory left (its exception, recorded)",
      ("It failed: rank 1 (b, pid", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.90 GiB"), bed="hosts-fed",
      how=lambda bed: bed.go(), text="class OutOfMemoryError(RuntimeError): pass\nOutOfMemoryError.__module__ = 'torch'\n" + GATE +
      "if rank == 1: raise OutOfMemoryError('CUDA out of memory. Tried to allocate 2.90 GiB. GPU 0 has a total capacity of 79.3 GiB "
      "of which 0.4 GiB is free.')\n" + WAIT)


def oom_said(bed):
    """Without a cgroup's counter the kernel's log is what tells."""
    bed.kmsg("b", f"Memory cgroup out of memory: Killed process {bed.pid(1)} (python3) total-vm:99999999kB, anon-rss:99999999kB, "
             "file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:1kB oom_score_adj:0", level=3)
    bed.until(lambda: any("OOM killer" in m["text"] for m in bed.site.job(bed.job)["story"]), "the log is read")
    os.kill(bed.pid(1), signal.SIGKILL)


@job("job-oom-killed", "the kernel's OOM killer ends rank 1, whose cgroup may use 200 MiB", "over",
     ("It failed: rank 1 (b, pid", "was killed by signal 9", "by the kernel's OOM killer"), bed="memory")
def oom(bed):
    bed.start_python(GATE + "x = []\nwhile rank == 1: x.append(bytearray(8 << 20)); time.sleep(0.002)\n" + WAIT)
    bed.running()
    with bed.limited(bed.pid(1), 200):
        bed.mark()
        bed.go()
        yield
        bed.job = None


# node.kmsg.oom: the node's own word on the same event
ended("job-oom-in-kernel-log", "the kernel's log tells that the OOM killer ended rank 1",
      ("It failed: rank 1 (b, pid", "the kernel's OOM killer ended pid", "its cgroup was out of memory"), oom_said, bed="hosts-fed",
      spoils=True, also=("node.kmsg.oom",))


@job("job-time-limit", "a job runs into its time limit", "over", ("time limit of 2 s",))
def time_limit(bed):
    bed.start("sleep", "600", options=("--time", "2s"))
    bed.running()
    time.sleep(1.5)
    bed.mark()
    yield
    bed.job = None


@job("job-port-taken", "rank 0 finds its MASTER_PORT taken (EADDRINUSE)", "over",
     ("It failed: rank 0 (a, pid", "Address already in use"))
def port_taken(bed):
    bed.start_python(GATE + "import socket\nif rank == 0:\n    a = socket.socket(); a.bind(('', 0)); a.listen()\n"
                     "    b = socket.socket(); b.bind(('', a.getsockname()[1]))\n" + WAIT)
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.job = None


@job("job-spool-full", "the disk of b that keeps output is full while a job writes", "why",
     ("node b: there is no room in its spool directory", "output of the job is being lost"), spoils=True)
def spool_full(bed):
    bed.site.launch("-w", "b", "-G", 0, "--", "true").ok() # makes it
    bed.inside("b", "mount", "-t", "tmpfs", "-o", f"size=2m,mode=0700,uid={bed.site.uid},gid={bed.site.uid}", "tmpfs", bed.site.path("b", "spool"))
    bed.start_python(GATE + "for i in range(80000): print(str(i).rjust(100), flush=False)\n" + WAIT, nodes="b")
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.end_job()
    bed.inside("b", "umount", "-l", bed.site.path("b", "spool"))


# ---- ranks that hang ------------------------------------------------------------------------------

@job("job-stopped", "rank 1 is stopped (SIGSTOP), the others wait", "hang",
     ("rank 1 on b (pid", "is stopped (SIGSTOP", "kill -CONT", "why: It hangs: rank 1 on b"), within=30)
def stopped(bed):
    bed.start_python(WAIT)
    bed.running()
    bed.until(lambda: bed.site.job(bed.job)["phase"], "a phase")
    bed.mark()
    os.kill(bed.pid(1), signal.SIGSTOP)
    yield
    os.kill(bed.pid(1), signal.SIGCONT)
    bed.until(lambda: bed.site.job(bed.job)["hang"] is None, "it goes on", 10)
    bed.end_job()


@job("job-stopped-while-others-spin", "rank 2 is stopped (SIGSTOP), the others use all their CPU", "hang",
     ("rank 2 on c (pid", "is stopped (SIGSTOP"), within=30)
def stopped_busy(bed):
    bed.start_python(SPIN)
    bed.running()
    bed.until(lambda: bed.site.job(bed.job)["phase"], "a phase")
    bed.mark()
    os.kill(bed.pid(2), signal.SIGSTOP)
    yield
    os.kill(bed.pid(2), signal.SIGCONT)
    bed.until(lambda: bed.site.job(bed.job)["hang"] is None, "it goes on", 10)
    bed.end_job()


# node.mounts: the node's own word on the same file system
@job("job-dead-mount", "rank 1 reads from a file system that does not answer (state D)", "hang",
     ("rank 1 on b (pid", "state D for", "no byte moves"), within=30, spoils=True, also=("node.mounts",))
def dead_mount(bed):
    from class_node import fuse
    fuse(bed, "b", "/mnt/dead", "--mute")
    bed.start_python(GATE + "if rank == 1: open('/mnt/dead/data').read()\n" + WAIT)
    bed.running()
    bed.until(lambda: bed.site.job(bed.job)["phase"], "a phase")
    bed.mark()
    bed.go()
    yield
    bed.end_own()
    bed.end_job()


@job("job-hung-mount", "rank 1 reads from a file system whose server has stopped (FUSE, state S)", "hang",
     ("rank 1 on b (pid", "waits for a file system whose server does not answer", "nodectl check node.mounts"), within=30, spoils=True, also=("node.mounts",))
def hung_mount(bed):
    from class_node import fuse
    p = fuse(bed, "b", "/mnt/data")
    bed.start_python(GATE + "if rank == 1: open('/mnt/data/data').read()\n" + WAIT)
    bed.running()
    bed.until(lambda: bed.site.job(bed.job)["phase"], "a phase")
    bed.mark()
    os.kill(p.pid, signal.SIGSTOP)
    bed.go()
    yield
    os.kill(p.pid, signal.SIGCONT)
    bed.end_job()


@job("job-worker-dead", "a worker below a launcher is killed, and the launcher waits on", "hang",
     ("rank 1 on", "was killed by signal 9", "its launcher runs on"), within=30)
def worker_dead(bed):
    text = ("import subprocess\nenv = lambda k: dict(os.environ, RANK=str(rank * 2 + k), LOCAL_RANK=str(k), WORLD_SIZE='4', "
            "LOCAL_WORLD_SIZE='2', GROUP_RANK=str(rank), TORCHELASTIC_RUN_ID='none', TORCHELASTIC_RESTART_COUNT='0')\n"
            "ps = [subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], env=env(k)) for k in (0, 1)]\n"
            "open(DIR + f'/pid{rank}', 'w').write(str(ps[1].pid))\nps[1].wait()\n" + WAIT)
    bed.start_python(text, nodes=2)
    bed.running()
    bed.until(lambda: len(bed.site.job(bed.job)["workers"]) == 4, "4 workers")
    with open(bed.dir + "/pid0", encoding="ascii") as f:
        pid = int(f.read())
    bed.mark()
    os.kill(pid, signal.SIGKILL)
    yield
    bed.end_job()


# ---- ranks that only seem to hang ---------------------------------------------------------------------

@job("job-tokenising", "rank 0 computes for long while the others wait: no hang", quiet=35, alone=True)
def tokenising(bed):
    bed.start_python("if rank == 0:\n    " + SPIN + WAIT)
    bed.running()
    # on a loaded host it gets less than half a core, and is "busy"
    yield lambda: bed.phase().startswith(("tokenising: rank 0 on a (pid", "busy: rank 0 on a (pid"))
    assert bed.no_hang()["phase"] in ("tokenising", "busy")
    bed.end_job()


@job("job-checkpointing", "rank 0 writes and syncs for long while the others wait: no hang", quiet=35)
def checkpointing(bed):
    bed.start_python("print('\\r 28%|##8       | 340/1200 [1:02:11<2:37:18, 10.98s/it]', end='', file=sys.stderr, flush=True)\n"
                     "if rank == 0:\n    while True:\n        with open(DIR + '/checkpoint', 'wb') as f:\n            for i in range(10):\n"
                     "                f.write(bytes(8 << 20)); f.flush(); os.fsync(f.fileno()); time.sleep(0.2)\n" + WAIT)
    bed.running()
    yield lambda: bed.phase().startswith("checkpointing: rank 0 on a (pid")
    bed.no_hang()
    bed.end_job()


@job("job-slow-rank", "rank 1 computes long after the others, who wait for it: named, and no hang", "computes",
     ("rank 1 on b (pid", "% CPU", "all 2 others wait"), within=30, alone=True)
def slow_rank(bed):
    text = ("import socket\nN = 3\n"
            "def barrier(i):\n    open(DIR + f'/{i}.{rank}', 'w').close()\n"
            "    while not all(os.path.exists(DIR + f'/{i}.{r}') for r in range(N)): time.sleep(0.1)\n"
            "for i in range(10000):\n    t = time.monotonic() + (5 if rank == 1 and os.path.exists(DIR + '/go') else 0.2)\n"
            "    while time.monotonic() < t: sum(range(10000))\n    barrier(i)\n")
    bed.start_python(text)
    bed.running()
    time.sleep(16) # "starting" so long
    bed.mark()
    bed.go()
    yield
    bed.no_hang()
    bed.end_job()


@job("job-idle", "a job that only waits is idle: no hang", quiet=35)
def idle(bed):
    bed.start_python(WAIT)
    bed.running()
    yield lambda: bed.phase().startswith("idle: no rank uses CPU")
    bed.no_hang()
    bed.end_job()


# ---- NCCL of running jobs: its log is recorded (NCCL 2.28.9 on two H100, net_ib.cc), the ranks that write it are real ---------

LOG = '''
path = os.environ["NCCL_DEBUG_FILE"].replace("%h", "host").replace("%p", str(os.getpid()))
log = open(path, "w", buffering=1)
def say(text, level="INFO"):
    log.write(f"host:{os.getpid()}:{os.getpid() + 1} [0] NCCL {level} {text}\\n")
INIT = "ncclCommInitRankConfig comm 0x558b rank %d nranks 3 cudaDev 0 nvmlDev 0 busId 60 commId 0xa2fc - Init " % rank
def init():
    say(INIT + "START"); say(INIT + "COMPLETE")
def version(v="2.28.9+cuda13.0"):
    say("NCCL version " + v); say("Bootstrap: Using eth0:192.0.2.2<0>")
def socket(*why):
    for w in why: say(w)
    say("Failed to initialize NET plugin IB"); say("NET/Socket : Using [0]eth0:192.0.2.2<0>"); say("Using network Socket"); init()
def ib(n=4):
    say("NET/IB : Using " + " ".join(f"[{i}]mlx5_{i}:1/IB" for i in range(n)) + " [RO]; OOB eth0:192.0.2.2<0>")
    say("Using network IB"); init()
    say("Channel 00/0 : 0[0] -> 1[0] [send] via NET/IB/0/GDRDMA(PCI)/Shared")
while not os.path.exists(DIR + '/go'): time.sleep(0.01)
'''


def nccl(id, title, words, text, within=5.0, before=None, after=None, options=(), **more):
    """Ranks whose NCCL says this; `why` must tell."""
    def inject(bed):
        if before:
            before(bed)
        # -G 0: these have no GPU; what NCCL says decides
        bed.start_python(LOG + text + WAIT, options=options)
        bed.running()
        bed.mark()
        bed.go()
        yield
        bed.end_job()
        if after:
            after(bed)
    inject.__qualname__ = id
    return job(id, title, "why", words, within, bed="hosts-fed", **more)(inject)


TCP = "Slow, not broken: NCCL runs over TCP and not over InfiniBand: "
nccl("nccl-user-environment", "the job's environment has NCCL_IB_DISABLE=1",
     (TCP + "NCCL_IB_DISABLE=1 is set, by the job's environment", "all 4 InfiniBand ports of", "relaunch without NCCL_IB_DISABLE"),
     "version(); socket('NCCL_IB_DISABLE set by environment to 1.')\n", options=("--env", "NCCL_IB_DISABLE=1"))
nccl("nccl-no-library", "libibverbs is not in the environment of rank 1 on b",
     (TCP + "libibverbs is not found by its processes on b", "install libibverbs"),
     "version()\nsocket('Failed to open libibverbs.so[.1]') if rank == 1 else ib()\n")
nccl("nccl-version-differs", "NCCL on b is another one", ("It runs, and its nodes differ: NCCL 2.28.9 and others! (2.21.5 on b)",),
     "version('2.21.5+cuda12.4' if rank == 1 else '2.28.9+cuda13.0')\nib()\n")
nccl("nccl-one-node-on-tcp", "NCCL on b found no port, the others did", (TCP, "on b"),
     "version()\nsocket('NET/IB : No device found.') if rank == 1 else ib()\n")


def ports_of_b(state):
    def f(bed):
        for i in range(4):
            bed.sys("b").set(f"mlx5_{i}", state=state)
        bed.until(lambda: all(bed.port("b", f"mlx5_{i}").get("state") == state[3:].capitalize().replace("Init", "Initializing")
                              for i in range(4)), "it is read")
    return f


# ib.state: the ports' own verdict; node.kmsg.port: four went down within an hour
nccl("nccl-ports-not-active", "no port of b is Active", (TCP + "NCCL uses Active ports only, and no InfiniBand port of b is: "
     "mlx5_0 is Initializing",), "version()\nsocket('NET/IB : No device found.') if rank == 1 else ib()\n",
     before=ports_of_b("2: INIT"), after=ports_of_b("4: ACTIVE"), also=("ib.state", "node.kmsg.port"), spoils=True)
nccl("nccl-memlock", "NCCL cannot register memory on b: memlock", ("rank 1 on b: memory could not be registered: the limit of locked memory (memlock) is too low", "LimitMEMLOCK=infinity"),
     "version()\nsay('NET/IB : No device found.')\n"
     "if rank == 1: say('Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory', 'WARN')\nsocket()\n")
nccl("nccl-peer-silent", "a transfer of rank 1 to rank 2 fails (completion 12)",
     ("NCCL has met trouble: rank 1 on b mlx5_1: a transfer failed: the peer stopped answering, or a link failed (completion status 12)",
      "its port is Active"),
     "version(); ib()\ntime.sleep(0.3)\nif rank == 1: say('NET/IB: Got completion from peer 192.0.2.77<51234> with "
     "status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_WC_SEND(0) vendor_err=129 hca mlx5_1', 'WARN')\n")


@job("nccl-user-file", "~/.nccl.conf has NCCL_IB_DISABLE=1", "why",
     (TCP + "NCCL_IB_DISABLE=1 is set, by ", ".nccl.conf", "all 4 InfiniBand ports of"), bed="hosts-fed")
def user_file(bed):
    home = bed.site.path(f"home{time.monotonic_ns()}")
    os.mkdir(home)
    bed.site.write(home + "/.nccl.conf", "NCCL_IB_DISABLE=1\n")
    bed.start_python(LOG + f"version(); say('NCCL_IB_DISABLE set by environment to 1.'); socket()\n" + WAIT, env={"HOME": home})
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.end_job()


@job("nccl-system-file", "/etc/nccl.conf of b has NCCL_IB_DISABLE=1", "why",
     (TCP + "NCCL_IB_DISABLE=1 is set, by ", "/etc/nccl.conf", "b"), bed="hosts-fed", spoils=True)
def system_file(bed):
    # a file system over /etc would hide it from all
    conf = bed.site.write(f"nccl{time.monotonic_ns()}.conf", "NCCL_IB_DISABLE=1\n")
    bed.inside("b", "sh", "-c", f"mkdir -p {bed.site.path('etc-up')} {bed.site.path('etc-work')} && mount -t overlay overlay -o "
               f"lowerdir=/etc,upperdir={bed.site.path('etc-up')},workdir={bed.site.path('etc-work')} /etc && cp {conf} /etc/nccl.conf")
    bed.start_python(LOG + "version()\nsocket('NCCL_IB_DISABLE set by environment to 1.') if rank == 1 else ib()\n" + WAIT)
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.end_job()
    bed.inside("b", "umount", "-l", "/etc")


# ---- ranks of NCCL that are behind: its RAS is recorded (2.28.9), the processes are real -----------------------------------

RAS = '''
import json, threading
import socket as sockets
def pids():
    open(DIR + f"/pid{rank}~", "w").write(str(os.getpid()))
    os.rename(DIR + f"/pid{rank}~", DIR + f"/pid{rank}")
    while not all(os.path.exists(DIR + f"/pid{r}") for r in range(3)): time.sleep(0.02)
    return [int(open(DIR + f"/pid{r}").read()) for r in range(3)]
PIDS, ADDRS = pids(), ADDRESSES
def reply():
    n = [216 + int(10 * time.monotonic()) if not os.path.exists(DIR + "/held") else 99999 - (r == 2) for r in range(3)]
    one = lambda r: {"rank": r, "host": ADDRS[r], "pid": PIDS[r], "cuda_dev": 0, "nvml_dev": 0, "status": {"init_state": 0, "async_error": 0,
        "finalize_called": False, "destroy_flag": False, "abort_flag": False},
        "collective_counts": {"Broadcast": 1, "Reduce": 0, "AllGather": 0, "ReduceScatter": 0, "AllReduce": n[r]}}
    return {"nccl_version": "2.28.9", "communicators_count": 1, "communicators": [{"hash": "0xa2fc", "size": 3, "ranks_count": 3,
        "missing_ranks_count": 0, "ranks": [one(r) for r in range(3)], "missing_ranks": []}], "ras": {"collection_time_sec": 0.001, "timeouts_count": 0}}
def serve():
    host, port = os.environ["NCCL_RAS_ADDR"].rsplit(":", 1)
    s = sockets.create_server((host, int(port)))
    while True:
        k, _ = s.accept()
        f = k.makefile("rwb")
        for line in f:
            line = line.decode().strip()
            if line == "STATUS":
                f.write(json.dumps(reply(), indent=1).encode()); f.flush()
                break
            f.write(b"SERVER PROTOCOL 2\\n" if line.startswith("CLIENT") else b"OK\\n"); f.flush()
        f.close(); k.close()
threading.Thread(target=serve, daemon=True).start()
'''


@job("job-withheld-rank", "rank 2 does not enter the collective that the others wait in (NCCL's RAS, recorded)", "hang",
     ("rank 2 on c has launched 99998 all-reduces, all others 99999", "why: It hangs: rank 2 on c"), within=30, bed="hosts-fed")
def withheld(bed):
    addresses = [bed.address(n) for n in bed.nodes] if hasattr(bed, "address") else ["127.0.0.1"] * 3
    # until it is held every rank makes progress; then they sleep, as ranks that block do
    bed.start_python(LOG.replace("while not os.path.exists(DIR + '/go'): time.sleep(0.01)\n", "") + f"ADDRESSES = {addresses!r}\n" + RAS +
                     "version(); ib()\nwhile not os.path.exists(DIR + '/held'): sum(range(10000))\n" + WAIT)
    bed.running()
    bed.until(lambda: bed.site.job(bed.job)["nccl"], "NCCL's log is read")
    time.sleep(6)
    bed.mark()
    bed.site.write(os.path.join(bed.dir, "held"), "")
    yield
    bed.end_job()
