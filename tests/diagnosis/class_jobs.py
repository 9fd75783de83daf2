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
    return said if re.search(r" (8[0-9]|9[0-9]|1[0-9][0-9]) % CPU", said) else None


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

@job("job-tokenising", "rank 0 computes for long while the others wait: no hang", quiet=35)
def tokenising(bed):
    bed.start_python("if rank == 0:\n    " + SPIN + WAIT)
    bed.running()
    yield lambda: bed.phase().startswith("tokenising: rank 0 on a (pid") or "rank 0 on a (pid" in bed.phase()
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
     ("busy: rank 1 on b (pid", "% CPU"), within=30)
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
