"""torch_workers.py BUILD PYTHON - see torch.sh

Two virtual nodes, torchrun on each with two workers that reduce over gloo; one
of them comes to an end in each of the ways that jobs do.
"""
import os
import re
import signal
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/system"))
if len(sys.argv) > 1:
    os.environ["NODEAGENT_BUILD"] = sys.argv[1]
from cluster import Cluster, kill, wait_until  # noqa: E402

PYTHON = os.path.abspath(sys.argv[2])  # not resolved: it is a link into its environment
BEGIN = "import os,sys,time,signal\nimport torch\nimport torch.distributed as dist\nrank=int(os.environ['RANK'])\n"
LOOP = ("dist.init_process_group('gloo')\nx=torch.ones(1000)\nfor step in range(100000):\n"
        "    dist.all_reduce(x)\n    x/=dist.get_world_size()\n    time.sleep(0.02)\n"
        "    if rank==%d and step==%d:\n        %s\n")
RECORD = ("from torch.distributed.elastic.multiprocessing.errors import record\n@record\ndef main():\n    time.sleep(1)\n"
          "    if rank==1:\n        raise ValueError('recorded')\n    time.sleep(60)\nmain()\n")
failures = []


def script(c, text):
    return c.write(f"t{time.monotonic_ns()}.py", BEGIN + text)


def launch(c, text, *options, nodes=2, env=()):
    path = script(c, text)
    words = [w for e in env for w in ("--env", e)]
    return path, c.detach("-N", nodes, *words, "--", PYTHON, "-m", "torch.distributed.run", "--nproc-per-node", 2, *options, path)


def culprit(job):
    first = re.match(r"rank (\d+) \(.* below the launcher\)", job["first"] or "")
    return first and next((w for w in job["workers"] if w["rank"] == int(first.group(1))), None)


def check(name, job, rank, how, exception, began):
    w = culprit(job)
    got = w and (w["rank"], w["state"], w["code"] if w["state"] == "exited" else w["signal"])
    said = job["exception"]
    good = got == (rank, *how) and (said is None if exception is None else said is not None and exception in said)
    print(f"  {'ok  ' if good else 'FAIL'} {name}: {job['first']}; {said or 'no exception'} ({time.monotonic() - began:.1f} s)",
          flush=True)
    if not good:
        failures.append(name)


def ends(c, name, text, rank, how, exception, *options, **kw):
    began = time.monotonic()
    _, job = launch(c, text, *options, **kw)
    check(name, c.wait_end(job, seconds=90), rank, how, exception, began)
    return job


def killed_from_outside(c):
    """How long until the coordinator tells of it, while the launcher still lives or has just ended."""
    began = time.monotonic()
    _, job = launch(c, LOOP % (-1, 0, "pass"))
    j = wait_until(lambda: (lambda x: x if len(x["workers"]) == 4 else None)(c.job(job)), 60, "four workers are seen")
    seen = time.monotonic() - began
    time.sleep(1)
    pid = next(w["pid"] for w in j["workers"] if w["rank"] == 2)
    at = time.monotonic()
    kill(pid, signal.SIGKILL)
    wait_until(lambda: any(w["pid"] == pid and w["state"] == "killed" for w in c.job(job)["workers"]), 20, "it is told", 0.002)
    print(f"       workers seen {seen:.2f} s after the launch, the death told {1000 * (time.monotonic() - at):.0f} ms after it")
    check("killed from outside", c.wait_end(job, seconds=90), 2, ("killed", 9), None, began)


def cpu(pid):
    with open(f"/proc/{pid}/stat", encoding="latin1") as f:
        v = f.read().rsplit(")", 1)[1].split()
    return (int(v[11]) + int(v[12])) / os.sysconf("SC_CLK_TCK")


def cost(c):
    """CPU time of a shim that follows two workers for 20 s."""
    _, job = launch(c, LOOP % (-1, 0, "pass"), nodes=1)
    wait_until(lambda: len(c.job(job)["workers"]) == 2, 60, "the workers are seen")
    worker = c.job(job)["workers"][0]["pid"]
    shim = worker
    while not open(f"/proc/{shim}/comm").read().startswith("nodeagent-shim"):
        with open(f"/proc/{shim}/stat", encoding="latin1") as f:
            shim = int(f.read().rsplit(")", 1)[1].split()[1])
    before = cpu(shim)
    time.sleep(20)
    print(f"       a shim that follows two workers: {cpu(shim) - before:.2f} s of CPU time in 20 s")
    c.ctl("kill", job)
    c.wait_end(job)


def main():
    version = subprocess.run([PYTHON, "-c", "import torch;print(torch.__version__)"], capture_output=True, text=True)
    print(f"torchrun of PyTorch {version.stdout.strip()}")
    c = Cluster(2)
    try:
        ends(c, "raises", LOOP % (3, 20, "raise ValueError('bad step')"), 3, ("exited", 1), "ValueError: bad step at t")
        ends(c, "killed by itself", LOOP % (1, 20, "os.kill(os.getpid(),signal.SIGKILL)"), 1, ("killed", 9), None)
        ends(c, "exits silently", LOOP % (2, 20, "os._exit(3)"), 2, ("exited", 3), None)
        ends(c, "segmentation fault", LOOP % (0, 20, "import ctypes;ctypes.string_at(0)"), 0, ("killed", 11), None)
        ends(c, "raises before anybody looks", "if rank==1:\n    raise KeyError('early')\ntime.sleep(60)\n", 1, ("exited", 1),
             "KeyError: 'early' at t")
        ends(c, "an error file", RECORD, 1, ("exited", 1), "ValueError: recorded at t")
        logs = c.path("logs")
        os.mkdir(logs)
        ends(c, "logs of its own (PET_REDIRECTS=3)", LOOP % (3, 20, "raise ValueError('in its log')"), 3, ("exited", 1),
             "ValueError: in its log at t", env=(f"PET_LOG_DIR={logs}", "PET_REDIRECTS=3"))
        job = ends(c, "logs of its own and the console (PET_TEE=3)", LOOP % (3, 20, "raise ValueError('both')"), 3,
                   ("exited", 1), "ValueError: both at t", env=(f"PET_LOG_DIR={logs}", "PET_TEE=3"))
        out = c.ctl("logs", job)
        if not re.search(r"default1\]:.*ValueError: both", out.out + out.err):
            failures.append("PET_TEE: the console lost it")
        ends(c, "a round survived, the next not", "import time\ntime.sleep(1)\nn=os.environ['TORCHELASTIC_RESTART_COUNT']\n"
             "if rank==1-int(n):\n    raise ValueError('round '+n)\ntime.sleep(60)\n", 0, ("exited", 1), "ValueError: round 1 at t",
             "--standalone", "--max-restarts", 1, nodes=1)
        killed_from_outside(c)
        cost(c)
    finally:
        c.finish()
        c.remove()
    print(f"{11 - len(failures)} of 11 as they should be" + "".join(f"\n  not: {f}" for f in failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
