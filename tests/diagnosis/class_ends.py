"""class_ends.py - classes of ranks that end, as jobs of torchrun, accelerate and DeepSpeed do on a bad day

What Python, torch and the C library say is recorded; the processes, signals, limits and file systems are real.
"""
import os
import signal

import hosts  # noqa: F401
from class_jobs import GATE, WAIT, ended, job

# What torch says of itself when the connection to a peer is lost, or a peer does not come.
TORCH = '''
class AcceleratorError(RuntimeError): pass
AcceleratorError.__module__ = "torch"
class DistBackendError(RuntimeError): pass
DistBackendError.__module__ = "torch.distributed"
def hook(kind, value, at):
    import traceback
    for line in "".join(traceback.format_exception(kind, value, at)).splitlines():
        sys.stderr.write(f"[rank{rank}]: {line}\\n")
sys.excepthook = hook # as torch.distributed has it
def watchdog(rank, ms=600026):
    sys.stderr.write(f"[rank{rank}]:[E1126 03:12:44.118 ProcessGroupNCCL.cpp:685] [Rank {rank}] Watchdog caught collective operation timeout: "
        f"WorkNCCL(SeqNum=216, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for {ms} milliseconds before timing out.\\n"
        f"[rank{rank}]:[E1126 03:12:44.119 ProcessGroupNCCL.cpp:2168] [PG ID 0 PG GUID 0(default_pg) Rank {rank}] failure detected by watchdog\\n"
        "terminate called after throwing an instance of 'c10::DistBackendError'\\n"
        f"  what():  [PG ID 0 PG GUID 0(default_pg) Rank {rank}] Process group watchdog thread terminated with exception: "
        f"[Rank {rank}] Watchdog caught collective operation timeout\\n")
    sys.stderr.flush()
    os.abort()
''' 
ONE = GATE + TORCH


def raises(id, title, words, text, **more):
    """Rank 1 ends by these lines, the others wait."""
    body = "".join(f"    {line}\n" for line in text.splitlines())
    return ended(id, title, ("It failed: rank 1 (b, pid", *words), lambda bed: bed.go(), text=ONE + "if rank == 1:\n" + body + WAIT, **more)


# ---- exceptions -----------------------------------------------------------------------------------------

ended("end-cuda-launch-failure", "a kernel of rank 1 fails, NCCL's watchdogs of the others abort half a second later",
      ("It failed: rank 1 (b, pid", "CUDA error: unspecified launch failure", "2 other ranks (collateral)"), lambda bed: bed.go(),
      text=ONE + "if rank != 1:\n    time.sleep(0.5); watchdog(rank)\n"
      "raise AcceleratorError('CUDA error: unspecified launch failure\\nCUDA kernel errors might be asynchronously reported at some other API call')\n")
ended("end-slow-to-die", "rank 1 raises and takes 2 s to end, the watchdogs of the others abort before",
      ("rank 1", "ValueError: bad batch"), lambda bed: bed.go(),
      text=ONE + "import atexit\nif rank != 1:\n    time.sleep(0.5); watchdog(rank)\natexit.register(time.sleep, 2)\nraise ValueError('bad batch')\n")
raises("end-module-missing", "an environment of b lacks a module", ("ModuleNotFoundError: No module named 'flash_attn_2'",),
       "import flash_attn_2")
raises("end-library-missing", "a library that torch needs is not on b", ("ImportError: libcudnn.so.9: cannot open shared object file",),
       "raise ImportError('libcudnn.so.9: cannot open shared object file: No such file or directory')")
raises("end-quota", "the user's quota is used up when rank 1 writes its checkpoint", ("OSError: [Errno 122] Disk quota exceeded", "quota"),
       "raise OSError(122, 'Disk quota exceeded', '/data/ckpt/step-100.pt')")
raises("end-permission", "rank 1 may not write where its checkpoint goes", ("PermissionError: [Errno 13] Permission denied", "/ckpt"),
       "d = DIR + '/ckpt'; os.mkdir(d, 0o500); os.setuid(65534) if os.getuid() == 0 else None; open(d + '/x', 'w')")
raises("end-files", "rank 1 has too many files open", ("Too many open files",),
       "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)); f = [open('/dev/null') for i in range(64)]")
raises("end-stdin", "rank 1 asks a question, and nobody is there to answer", ("EOFError: EOF when reading a line",),
       "input('Do you wish to run the custom code? [y/N] ')")
raises("end-exit-message", "rank 1 ends by sys.exit with a message and no exception", ("exited with code 1", "no data at /data/alpaca"),
       "sys.exit('train.py: no data at /data/alpaca')")
raises("end-argparse", "rank 1 does not know an option", ("exited with code 2", "unrecognized arguments: --bf17"),
       "import argparse; argparse.ArgumentParser(prog='train.py').parse_args(['--bf17'])")
raises("end-cuda-error-c", "a C++ program checks CUDA by itself and ends", ("exited with code 1", "out of memory"),
       "print('CUDA failure /src/main.cu:120: \\'out of memory\\'', file=sys.stderr); sys.stderr.flush(); os._exit(1)")
raises("end-abort-quiet", "a library of rank 1 aborts", ("was killed by signal 6", "Assertion"),
       "import os as o; sys.stderr.write(\"python3: ../src/alloc.c:77: take: Assertion `p != NULL' failed.\\n\"); sys.stderr.flush(); o.abort()")

# ---- below a shell ---------------------------------------------------------------------------------------------


def shell(id, title, words, script, **more):
    """Rank 1's command is a script of a shell; the others wait."""
    def inject(bed):
        d = bed.site.path(f"sh{id}")
        os.mkdir(d)
        os.chmod(d, 0o777)
        bed.dir = d
        path = bed.site.write(d + "/train.sh", f"#!/bin/bash\nwhile [ ! -e {d}/go ]; do sleep 0.02; done\n[ $RANK = 1 ] || exec sleep 600\n" + script, 0o755)
        bed.start("/bin/bash", path)
        bed.running()
        bed.mark()
        bed.go()
        yield
        bed.end_job()
    inject.__qualname__ = id
    return job(id, title, "over", ("It failed: rank 1 (b, pid", *words), **more)(inject)


shell("end-shell-not-found", "a script calls torchrun, which b has not", ("exited with code 127", "torchrun: command not found"),
      "torchrun --nnodes 3 train.py\n")
shell("end-shell-killed", "Python below a script is killed: the shell ends with 137", ("exited with code 137", "signal 9", "Killed"),
      "/usr/bin/python3 -c 'import os; os.kill(os.getpid(), 9)'\nexit $?\n")
shell("end-shell-segv", "Python below a script reads where there is no memory: 139", ("exited with code 139", "signal 11", "Segmentation fault"),
      "/usr/bin/python3 -c 'import os; os.kill(os.getpid(), 11)'\nexit $?\n")
shell("end-shell-glibc", "an environment of a newer system: the loader refuses", ("exited with code 1", "version `GLIBC_2.38' not found"),
      "echo \"/opt/env/bin/python3: /lib/x86_64-linux-gnu/libc.so.6: version \\`GLIBC_2.38' not found (required by /opt/env/bin/python3)\" >&2\nexit 1\n")
shell("end-shell-conda", "a script activates an environment, and conda is not set up", ("exited with code 1", "conda"),
      "echo \"CommandNotFoundError: Your shell has not been properly configured to use 'conda activate'.\" >&2\nexit 1\n")

# ---- signals, memory ---------------------------------------------------------------------------------------------

ended("end-sigterm", "somebody sends SIGTERM to rank 1", ("It failed: rank 1 (b, pid", "was killed by signal 15", "2 other ranks (collateral)"),
      lambda bed: os.kill(bed.pid(1), signal.SIGTERM))


@job("end-bus-error", "rank 1 writes into /dev/shm, which is full: bus error", "over",
     ("It failed: rank 1 (b, pid", "was killed by signal 7", "/dev/shm"), also=("node.shm",), spoils=True)
def bus_error(bed):
    bed.start_python(GATE + "import mmap\nif rank == 1:\n    f = os.open('/dev/shm/torch_9', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 2 << 30)\n"
                     "    m = mmap.mmap(f, 2 << 30)\n    for i in range(0, 2 << 30, 4096): m[i] = 1\n" + WAIT)
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.end_job()


raises("end-worker-bus-error", "a data loader's worker of rank 1 gets a bus error",
       ("RuntimeError: DataLoader worker (pid 4711) is killed by signal: Bus error", "/dev/shm"),
       "raise RuntimeError('DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that dataloader\\'s workers are out of shared "
       "memory. Please try to raise your shared memory limit.')")

# ---- one ends well while the others go on -----------------------------------------------------------------------------


@job("end-exit-0", "rank 1 ends with code 0 while the others wait for it", "why", ("rank 1", "ended", "code 0"), within=30)
def exit_0(bed):
    bed.start_python(GATE + "if rank == 1: os._exit(0)\n" + WAIT)
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.end_job()


# ---- before the first rank ------------------------------------------------------------------------------------------------


@job("end-program-missing", "the environment's Python is not on b", "over", ("b", "/mnt/env/bin/python"))
def program_missing(bed):
    for n in "a", "c":
        bed.inside(n, "mkdir", "-p", "/mnt/env/bin")
        bed.inside(n, "ln", "-sf", "/usr/bin/python3", "/mnt/env/bin/python")
    bed.mark()
    bed.start("/mnt/env/bin/python", "-c", "import time; time.sleep(600)")
    yield
    bed.end_job()
    for n in "a", "c":
        bed.inside(n, "rm", "-r", "/mnt/env")


@job("end-script-missing", "the script is not on b (its file system is not mounted there)", "over",
     ("It failed: rank 1 (b, pid", "can't open file", "/mnt/train.py"))
def script_missing(bed):
    for n in "a", "c":
        bed.inside(n, "sh", "-c", "echo 'import time; time.sleep(600)' >/mnt/train.py")
    bed.mark()
    bed.start("/usr/bin/python3", "/mnt/train.py")
    yield
    bed.end_job()
    for n in "a", "c":
        bed.inside(n, "rm", "/mnt/train.py")


# ---- file systems, really full --------------------------------------------------------------------------------------


@job("end-no-space", "rank 1's checkpoint does not fit on its file system", "over",
     ("It failed: rank 1 (b, pid", "OSError: [Errno 28] No space left on device", "a file system of b is full"), also=("node.disk",), spoils=True)
def no_space(bed):
    bed.inside("b", "chmod", "1777", "/mnt")
    bed.start_python(GATE + "if rank == 1:\n    f = open('/mnt/checkpoint', 'wb', 0)\n    while True: f.write(bytes(65536))\n" + WAIT)
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.end_job()


@job("end-read-only", "the file system of rank 1's checkpoint is read-only", "over",
     ("It failed: rank 1 (b, pid", "OSError: [Errno 30] Read-only file system", "mounted read-only"), spoils=True)
def read_only(bed):
    bed.inside("b", "mount", "-o", "remount,ro", "/mnt")
    bed.start_python(GATE + "if rank == 1: open('/mnt/checkpoint', 'w')\n" + WAIT)
    bed.running()
    bed.mark()
    bed.go()
    yield
    bed.end_job()
    bed.inside("b", "mount", "-o", "remount,rw", "/mnt")


@job("end-shell-oom", "the kernel's OOM killer ends Python below a script, whose cgroup may use 200 MiB: the shell ends with 137", "over",
     ("It failed: rank 1 (b, pid", "OOM killer"), bed="memory")
def shell_oom(bed):
    d = bed.site.path("shoom")
    os.mkdir(d)
    os.chmod(d, 0o777)
    bed.dir = d
    path = bed.site.write(d + "/train.sh", f"#!/bin/bash\nwhile [ ! -e {d}/go ]; do sleep 0.02; done\n[ $RANK = 1 ] || exec sleep 600\n"
                          "/usr/bin/python3 -c 'x = []\nwhile True: x.append(bytearray(8 << 20))'\nexit $?\n", 0o755)
    bed.start("/bin/bash", path)
    bed.running()
    with bed.limited(bed.pid(1), 200):
        bed.mark()
        bed.go()
        yield
        bed.job = None


# ---- below launchers -----------------------------------------------------------------------------------------------------

WORKERS = '''
import subprocess
env = lambda k: dict(os.environ, RANK=str(rank * 2 + k), LOCAL_RANK=str(k), WORLD_SIZE='4', LOCAL_WORLD_SIZE='2', GROUP_RANK=str(rank),
                     TORCHELASTIC_RUN_ID='none', TORCHELASTIC_RESTART_COUNT='0')
def workers(text):
    head = f"import os, sys, time\\nrank, DIR = int(os.environ['RANK']), {DIR!r}\\n"
    return [subprocess.Popen([sys.executable, '-c', head + text], env=env(k)) for k in (0, 1)]
'''


def below(id, title, words, text, launcher, ask="over", **more):
    """Two nodes with two workers each, below a launcher of Python's that says its part."""
    def inject(bed):
        bed.start_python(WORKERS + f"ps = workers({GATE + text + WAIT!r})\n" + launcher, nodes=2)
        bed.running()
        bed.until(lambda: len(bed.site.job(bed.job)["workers"]) == 4, "4 workers")
        bed.mark()
        bed.go()
        yield
        bed.end_job()
    inject.__qualname__ = id
    return job(id, title, ask, words, **more)(inject)


TORCHRUN = """
while all(p.poll() is None for p in ps): time.sleep(0.1)
bad = next(p for p in ps if p.poll() is not None)
for p in ps: p.terminate()
for p in ps: p.wait()
sys.stderr.write(f'''E1126 03:00:00.1 {os.getpid()} torch/distributed/elastic/multiprocessing/api.py:874] failed (exitcode: {bad.returncode}) local_rank: {ps.index(bad)} (pid: {bad.pid}) of binary: python
Traceback (most recent call last):
  File "/opt/env/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
============================================================
''')
sys.exit(1)
"""
DEEPSPEED = """
while all(p.poll() is None for p in ps): time.sleep(0.1)
bad = next(p for p in ps if p.poll() is not None)
for p in ps: p.terminate()
for p in ps: p.wait()
print(f'[2026-11-26 03:00:00,123] [ERROR] [launch.py:325:sigkill_handler] [python, train.py] exits with return code = {bad.returncode}', flush=True)
sys.exit(abs(bad.returncode))
"""
below("end-torchrun-worker", "a worker below torchrun raises", ("It failed: rank 3 (b", "below the launcher", "KeyError: 'text'"),
      "if rank == 3: raise KeyError('text')\n", TORCHRUN)
below("end-torchrun-worker-segv", "a worker below torchrun reads where there is no memory", ("It failed: rank 3 (b", "below the launcher", "was killed by signal 11"),
      "import ctypes\nif rank == 3: ctypes.string_at(0)\n", TORCHRUN)
below("end-deepspeed-worker", "a worker below DeepSpeed's launcher is killed", ("It failed: rank 3 (b", "below the launcher", "was killed by signal 9"),
      "if rank == 3: os.kill(os.getpid(), 9)\n", DEEPSPEED)
below("end-torchrun-worker-quiet", "a worker below torchrun ends with a message and no exception", ("It failed: rank 3 (b", "below the launcher", "exited with code 1",
      "no data at /data"), "if rank == 3: sys.exit('train.py: no data at /data')\n", TORCHRUN)
below("end-torchrun-slow-to-die", "a worker below torchrun raises and does not end, the others' watchdogs give up", ("rank", "ValueError: bad batch", "of another worker there"),
      TORCH + "import atexit\nif rank != 3:\n    time.sleep(1); watchdog(rank)\natexit.register(time.sleep, 30)\nraise ValueError('bad batch')\n", TORCHRUN)
