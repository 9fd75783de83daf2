#!/usr/bin/python3
"""gpu_bisect.py BIN - on a host with four NVIDIA GPUs or more: 'check nccl' over several nodes, and its search for the slow one

BIN as for gpu_jobs.py. Virtual nodes own one GPU each. Expected: all operations on all nodes are good, and a
search finds nothing where nothing is slow; the same over sockets (GPU-to-GPU and shared memory off), and there a rank
that is stopped three quarters of the time makes its node slow, and the search names that node and no other (from GPU to GPU nothing
comes of it: what is queued runs on without the process). Then all GPUs of one node. Prints figures. Exit code 1 at the first difference.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_jobs import Cluster, PYTHON, say, smi, until  # noqa: E402

PREFIX = subprocess.run([PYTHON, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True).stdout.strip()
SOCKETS = {"NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1"}


def check(c, n, *args, env=None):
    begin = time.monotonic()
    r = c.ctl("check", "nccl", "--no-expect", "--no-baseline", "-N", n, "-G", 1, "--env", PREFIX, *args, env=dict(os.environ, **(env or {})))
    return r, time.monotonic() - begin


class Slowed:
    """The process of a rank of the next job, stopped three quarters of the time."""

    def __init__(self, c, rank):
        self.c, self.rank, self.over = c, rank, False
        self.last = max((j["job"] for j in c.json("jobs", "--all")["jobs"]), default=0)
        self.t = threading.Thread(target=self.run)

    def find(self):
        jobs = [j["job"] for j in self.c.json("jobs")["jobs"] if j["job"] > self.last and j["state"] == "running"]
        ranks = self.c.json("job", jobs[0])["ranks"] if jobs else []
        return next((r["pid"] for r in ranks if r["rank"] == self.rank and r.get("pid")), None)

    def run(self):
        pid = until(self.find, 30, "the rank runs")[0]
        try:
            while not self.over:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.03)
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.01)
        except ProcessLookupError:
            pass

    def __enter__(self):
        self.t.start()

    def __exit__(self, *_):
        self.over = True
        self.t.join()


def good(c, n, env, what):
    r, took = check(c, n, env=env)
    print(r.stdout + r.stderr)
    assert r.returncode == 0, r
    say(f"{n} nodes, {what}: data exact, whole command {took:.1f} s")
    r, took = check(c, n, "--bisect", env=env)
    print(r.stdout[-1500:])
    assert r.returncode == 0 and not re.search(r"node \S+ is slow", r.stdout), r
    say(f"{n} nodes, {what}: nothing is slow, and nothing is found ({took:.1f} s)")


def slowed(c, n, env, what):
    with Slowed(c, n - 2):
        r, took = check(c, n, "--bisect", "--timeout", "60s", env=env)
    print(r.stdout + r.stderr)
    named = set(re.findall(r"node\d+", " ".join(x for x in r.stdout.splitlines() if "slow" in x)))
    assert r.returncode == 1 and named == {f"node{n - 1}"}, (named, r)
    say(f"{n} nodes, {what}: node{n - 1} is found, after {took:.1f} s")


def main():
    work, n = tempfile.mkdtemp(prefix="nagpu"), len(smi("gpu", "name"))
    assert n >= 4, f"{n} GPUs here, four are needed"
    try:
        print(f"      {smi('gpu', 'name,driver_version')}")
        c = Cluster(os.path.abspath(sys.argv[1]), work, n)
        try:
            good(c, n, None, "GPU to GPU")
            good(c, n, SOCKETS, "sockets")
            slowed(c, n, SOCKETS, "sockets")
        finally:
            c.stop()
        c = Cluster(os.path.abspath(sys.argv[1]), work, 1)
        try:
            begin = time.monotonic()
            r = c.ctl("check", "nccl", "--env", PREFIX)
            print(r.stdout)
            doc = json.loads(c.ctl("--json", "check", "nccl", "--env", PREFIX).stdout)
            assert r.returncode == 0 and doc["results"], r
            say(f"{n} GPUs of one node, against what is expected: {time.monotonic() - begin:.1f} s for two runs")
        finally:
            c.stop()
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
