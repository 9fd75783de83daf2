#!/usr/bin/python3
"""gpu_jobs.py BIN - on a host with two NVIDIA GPUs or more: jobs get GPUs of their own, and strangers' are left alone

BIN holds nodeagentd, nodectl and the others (tests/bench/pack_portable.sh makes
one that travels). Runs a standalone cluster with the real driver and PyTorch
jobs (the interpreter named by $PYTHON), compares with nvidia-smi, and prints
how long things took. Exit code 1 at the first difference.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PYTHON = os.environ.get("PYTHON") or sys.executable
# says which GPUs it was given, holds 1 GB of the first and stays until told
WORK = """import os, signal, sys, torch
x = torch.ones(1 << 28, device='cuda')
print('have', ' '.join('GPU-' + str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())), flush=True)
sys.stdin.read() if len(sys.argv) > 1 else signal.pause()
"""


def say(what):
    print(f"ok    {what}", flush=True)


def smi(query, fields):
    out = subprocess.run(["nvidia-smi", f"--query-{query}={fields}", "--format=csv,noheader,nounits"],
                         capture_output=True, text=True, check=True).stdout
    return [[c.strip() for c in line.split(",")] for line in out.splitlines()]


def until(f, seconds, what):
    """f() once it is true, and after how long."""
    begin = time.monotonic()
    while not (value := f()):
        assert time.monotonic() - begin < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return value, time.monotonic() - begin


class Cluster:
    def __init__(self, where, work, n):
        self.bin, self.dir = where, os.path.join(work, f"c{n}")
        with open(os.path.join(work, f"log{n}"), "wb") as log:
            self.p = subprocess.Popen([f"{where}/nodeagentd", "--standalone", "--virtual-nodes", str(n), "--dir", self.dir],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        assert self.p.stdout.readline().startswith(b"ready"), open(log.name).read()
        until(lambda: all(x["gpus_total"] for x in self.json("status")["nodes"]), 30, "GPUs are known")

    def ctl(self, *args, **kw):
        return subprocess.run([f"{self.bin}/nodectl", "--dir", self.dir, *map(str, args)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=90, **kw)

    def json(self, *args):
        r = self.ctl("--json", *args)
        assert r.returncode == 0, r
        return json.loads(r.stdout)

    def gpus(self):
        return sorted(self.json("gpus")["gpus"], key=lambda g: (g["node"], g["index"]))

    def detach(self, *args):
        r = self.ctl("--json", "launch", "--detach", *args)
        assert r.returncode == 0, r
        return json.loads(r.stdout)["job"]

    def have(self, job, seconds=60):
        """The GPUs that a job's ranks found, by UUID, once they have."""
        def look():
            return [sorted(line.split("have ")[1].split()) for line in self.ctl("logs", job).stdout.splitlines() if "have " in line]
        return until(look, seconds, f"job {job} has GPUs")[0]

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        self.p.wait(60)
        self.p.stdout.close()


def one_node(where, work):
    used = smi("gpu", "memory.used")
    c = Cluster(where, work, 1)
    try:
        rows = c.gpus()
        real = sorted(smi("gpu", "pci.bus_id,uuid,name"))
        assert [(g["uuid"], g["name"]) for g in rows] == [tuple(r[1:]) for r in real], (rows, real)
        assert not [r for r in smi("compute-apps", "pid,name") if "nodeagent" in r[1]]
        assert all(abs(int(a[0]) - int(b[0])) < 64 for a, b in zip(used, smi("gpu", "memory.used"))), "a daemon holds GPU memory"
        n = len(rows)
        say(f"{n} GPUs as nvidia-smi lists them ({rows[0]['name']}); no daemon holds memory of theirs")
        queue(c, n)
        stranger(c, n)
        job = c.detach("--", PYTHON, "-c", WORK)
        assert c.have(job) == [sorted(g["uuid"] for g in rows)]
        c.ctl("kill", job)
        say("by default a job has all of them")
    finally:
        c.stop()


def queue(c, n):
    jobs = [c.detach("-G", n // 2, "--", PYTHON, "-c", WORK) for _ in range(2)]
    third = c.detach("-G", n // 2, "--", PYTHON, "-c", WORK)
    for j in jobs:
        mine = sorted(g["uuid"] for g in c.gpus() if g["job"] == j)
        assert len(mine) == n // 2 and c.have(j) == [mine], (j, mine, c.have(j))
    until(lambda: all(p["job"] in jobs for g in c.gpus() for p in g["processes"]) and all(g["processes"] for g in c.gpus()[:2]), 10,
          "each job's process is seen, and as its own")
    assert {g["job"] for g in c.gpus()} == set(jobs)
    state = c.json("job", third)
    assert state["state"] == "queued" and "runs job" in state["why"], state
    text = c.ctl("status").stdout
    assert f"GPUs {n} busy / {n}" in text, text
    print(text)
    say(f"two jobs with {n // 2} each on GPUs of their own; the third waits: {state['why']}")
    freed = sorted(g["uuid"] for g in c.gpus() if g["job"] == jobs[0])
    begin = time.monotonic()
    c.ctl("kill", jobs[0], "--grace", "0s")
    until(lambda: c.json("job", third)["state"] == "running", 60, "the third runs")
    took = time.monotonic() - begin
    assert c.have(third) == [freed]
    say(f"the third runs {took:.2f} s after the kill of the first, on its GPUs")
    for j in (jobs[1], third):
        c.ctl("kill", j, "--grace", "0s")
    until(lambda: c.json("status")["nodes"][0]["gpus_busy"] == 0, 60, "all are free")


def stranger(c, n):
    begin = time.monotonic()
    p = subprocess.Popen([PYTHON, "-c", WORK, "stay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         env=dict(os.environ, CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID"))
    try:
        assert p.stdout.readline().startswith(b"have")
        _, took = until(lambda: c.json("status")["nodes"][0]["gpus_busy"] == 1, 20, "the stranger's process is seen")

        def mine(): # it may have been read before it had its memory
            return [x for x in c.gpus()[0]["processes"] if x["pid"] == p.pid and int(x["mem"]) > 1 << 30]
        found = until(mine, 20, "its memory is seen")[0]
        assert found[0]["job"] is None, c.gpus()[0]
        r = c.ctl("launch", "-G", n, "--immediate", "--", "true")
        assert r.returncode == 1 and "processes of no job" in r.stderr, r
        job = c.detach("-G", 1, "--", PYTHON, "-c", WORK)
        assert c.have(job) == [[c.gpus()[1]["uuid"]]]
        c.ctl("kill", job, "--grace", "0s")
        print(c.ctl("gpus").stdout)
        say(f"a stranger's process is seen {took:.2f} s after it had its memory ({time.monotonic() - begin:.0f} s in all), with pid and "
            "user, and its GPU is not given out")
    finally:
        p.kill()
        p.wait()
        p.stdin.close()
        p.stdout.close()
    _, took = until(lambda: c.json("status")["nodes"][0]["gpus_busy"] == 0, 20, "its GPU is free again")
    say(f"its GPU is free {took:.2f} s after its end")


def two_nodes(where, work):
    c = Cluster(where, work, 2)
    try:
        job = c.detach("-N", 2, "--", PYTHON, "-c", WORK)
        until(lambda: len(c.have(job)) == 2, 60, "both ranks have GPUs")
        got = c.have(job)
        want = [sorted(g["uuid"] for g in c.gpus() if g["node"] == name and not g["shared_out"]) for name in ("node1", "node2")]
        assert sorted(got) == sorted(want) and not set(got[0]) & set(got[1]), (got, want)
        c.ctl("kill", job, "--grace", "0s")
        say("two virtual nodes have them between them")
    finally:
        c.stop()


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    work = tempfile.mkdtemp(prefix="nagj")
    try:
        for part in (one_node, two_nodes):
            part(os.path.abspath(sys.argv[1]), work)
    except AssertionError as e:
        print(f"FAILED {e}")
        for name in sorted(os.listdir(work)):
            if name.startswith("log"):
                print(open(os.path.join(work, name), encoding="utf-8", errors="replace").read()[-3000:])
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
