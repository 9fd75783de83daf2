#!/usr/bin/python3
"""gpu_nccl.py BIN - on a host with two NVIDIA GPUs or more: the active check of NCCL, with every NCCL that is there

BIN as for gpu_jobs.py. With the loader's NCCL and with that of the interpreter's
environment ($PYTHON): the table of operations on all GPUs of one node; the rate
beside a loop written by hand with the same library (nccl_allreduce.c, built
here); two virtual nodes over the network (another NCCL_HOSTID for each); a
rank that is stopped and one that is killed are named; other versions on two
ranks are found before the start. Prints figures. Exit code 1 at the first difference.
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

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from gpu_jobs import Cluster, PYTHON, say, smi, until  # noqa: E402

PREFIX = subprocess.run([PYTHON, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True).stdout.strip()
PIP = subprocess.run([PYTHON, "-c", "import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])"], capture_output=True, text=True,
                     check=False).stdout.strip()


def lines(r):
    return [json.loads(x) for x in r.stdout.splitlines() if x.startswith("{")]


def table(c, what, *args):
    begin = time.monotonic()
    r = c.ctl("check", "nccl", "--no-expect", *args)
    assert r.returncode == 0, r
    print(r.stdout, end="", flush=True)
    took = time.monotonic() - begin
    say(f"{what}: whole command {took:.1f} s")
    return took


def by_hand(work):
    """GB/s of a plain loop, or None where it cannot be built."""
    source, program = os.path.join(HERE, "nccl_allreduce.c"), os.path.join(work, "hand")
    if not os.path.exists(source):
        source = os.path.join(os.path.dirname(HERE), "bench/nccl_allreduce.c")
    cuda = "/usr/local/cuda"
    r = subprocess.run(["gcc", "-O2", f"-I{cuda}/include", f"-I{PIP}/include", source, "-o", program, f"-L{cuda}/lib64",
                        f"-L{cuda}/targets/x86_64-linux/lib", "-lcudart", f"{PIP}/lib/libnccl.so.2", f"-Wl,-rpath,{PIP}/lib"],
                       capture_output=True, text=True, check=False)
    if r.returncode:
        return print(f"skip  no loop by hand: {r.stderr[:200]}")
    best = []
    for k in range(3):
        ranks = [subprocess.Popen([program, "100"], stdout=subprocess.PIPE, text=True,
                                  env=dict(os.environ, RANK=str(i), LOCAL_RANK=str(i), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                                           MASTER_PORT=str(24100 + k))) for i in range(2)]
        out = [p.communicate(timeout=60)[0] for p in ranks]
        best.append(float(re.search(r"best ([\d.]+) GB/s", out[0]).group(1)))
    return sorted(best)[1]


def ratio(c, work):
    hand = by_hand(work)
    if hand is None:
        return
    ours = []
    for _ in range(3):
        r = c.ctl("--json", "check", "nccl", "--no-expect", "-G", 2, "--env", PREFIX, "--ops", "all_reduce")
        ours.append(json.loads(r.stdout)["results"][0]["busbw"])
    print(f"fig   all_reduce of 128 MiB, 2 GPUs: check {sorted(ours)[1]:.1f} GB/s, by hand {hand:.1f} GB/s, ratio {sorted(ours)[1] / hand:.3f}")
    assert abs(sorted(ours)[1] / hand - 1) < 0.03, (ours, hand)


def rank_pid(c, job, rank):
    def look():
        ranks = c.json("job", job)["ranks"]
        return next((r["pid"] for r in ranks if r["rank"] == rank and r.get("pid")), None)
    return until(look, 30, "the rank runs")[0]


def disturbed(c, sig, word):
    """One rank gets a signal in the middle of large operations."""
    got = {}

    def run():
        got["r"] = c.ctl("check", "nccl", "--no-expect", "-G", 2, "--env", PREFIX, "--mib", 4096, "--timeout", "5s")
    t = threading.Thread(target=run)
    t.start()
    job = until(lambda: [j["job"] for j in c.json("jobs")["jobs"] if j["state"] == "running"], 30, "it runs")[0][0]
    pid = rank_pid(c, job, 1)
    # not before its GPU is taken: it is in the operations then
    until(lambda: str(pid) in [r[0] for r in smi("compute-apps", "pid")], 30, "it has its GPU")
    time.sleep(1.5)
    os.kill(pid, sig)
    begin = time.monotonic()
    t.join(80)
    r = got["r"]
    assert r.returncode != 0 and f"pid {pid}" in r.stdout + r.stderr and word in r.stdout + r.stderr, r
    print(r.stdout, end="")
    say(f"rank 1 {signal.Signals(sig).name}: named after {time.monotonic() - begin:.1f} s")


def network(c):
    """Two virtual nodes that NCCL takes for two hosts."""
    inner = 'NCCL_HOSTID=$NODEAGENT_NODE exec "$0" --env "$1" --ops all_reduce,all_gather,send_recv --mib 64'
    r = c.ctl("launch", "-N", 2, "-G", 1, "--per-gpu", "--no-label", "--", "sh", "-c", inner, f"{c.bin}/nodeagent-nccl", PREFIX)
    assert r.returncode == 0, r
    for x in lines(r):
        if x["kind"] == "result":
            print(f"fig   between two: {x['op']:<10} {x['busbw']:7.2f} GB/s over {x['transport']} {x.get('interface', '')}: {x.get('no_ib', '')}")
            assert x["scope"] == "between" and x["wrong"] == 0 and x["transport"] in ("Socket", "IB"), x
    say("NCCL's network is named, with the reason when it is not InfiniBand")


def versions(c):
    inner = 'if [ $RANK = 1 ]; then exec "$0"; else exec "$0" --env "$1"; fi'
    r = c.ctl("launch", "-N", 2, "-G", 1, "--per-gpu", "--no-label", "--", "sh", "-c", inner, f"{c.bin}/nodeagent-nccl", PREFIX)
    text = next((x["text"] for x in lines(r) if x["kind"] == "problem"), "")
    if "NCCL is" not in text:
        return print(f"skip  only one version of NCCL here: {r.stdout[:300]}")
    print(text)
    say("two versions of NCCL are told before the start")


def main():
    where = os.path.abspath(sys.argv[1])
    work = tempfile.mkdtemp(prefix="nagpu")
    try:
        print(f"      {smi('gpu', 'name,driver_version')}")
        c = Cluster(where, work, 1)
        try:
            table(c, "the loader's NCCL")
            took = table(c, "the environment's NCCL", "--env", PREFIX)
            assert took < 10, took
            r = c.ctl("check", "nccl", "--env", PREFIX)
            print(r.stdout, end="")
            say(f"against what is expected: exit code {r.returncode}")
            ratio(c, work)
            disturbed(c, signal.SIGSTOP, "does not answer")
            disturbed(c, signal.SIGKILL, "rank 1")
        finally:
            c.stop()
        c = Cluster(where, work, 2)
        try:
            network(c)
            versions(c)
        finally:
            c.stop()
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
