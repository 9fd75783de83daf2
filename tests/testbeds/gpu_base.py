#!/usr/bin/python3
"""gpu_base.py BIN [RUNS] - on a host with two NVIDIA GPUs or more: how much runs of 'check nccl' differ, and their baseline

BIN as for gpu_jobs.py; $PREFIX: the environment whose NCCL is taken, else that of $PYTHON; $MIB: the arrays' size. RUNS (20) runs of all
operations on two GPUs, one after the other, kept by the coordinator: prints of each operation the median and the lowest and highest run
relative to it, which runs were told as slow, and how long the command takes. Then one more, one with NVLink
off (its settings are named, and that it is slow), and the history.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_jobs import Cluster, PYTHON  # noqa: E402

PREFIX = os.environ.get("PREFIX") or subprocess.run([PYTHON, "-c", "import sys; print(sys.prefix)"], capture_output=True,
                                                    text=True, check=True).stdout.strip()
MIB = os.environ.get("MIB", "128")


def check(c):
    begin = time.monotonic()
    r = c.ctl("--json", "check", "nccl", "-G", 2, "--mib", MIB, "--env", PREFIX)
    return json.loads(r.stdout), r.returncode, time.monotonic() - begin


def main():
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with tempfile.TemporaryDirectory(prefix="na", dir="/tmp") as work:
        c = Cluster(os.path.abspath(sys.argv[1]), work, 1)
        try:
            speeds, took, bad = {}, [], []
            for k in range(runs):
                doc, code, seconds = check(c)
                took.append(seconds)
                assert doc["results"], doc
                for x in doc["results"]:
                    speeds.setdefault(x["op"], []).append(x["busbw"])
                if code:
                    bad.append([k] + [f["text"] for f in doc["findings"]])
            for op, v in speeds.items():
                m = statistics.median(v)
                print(f"fig   {op}: median {m:.1f} GB/s, {100 * min(v) / m:.1f} to {100 * max(v) / m:.1f} % of it in {len(v)} runs")
            print(f"fig   {len(bad)} of {runs} runs below the baseline or what is expected: {bad}")
            print(f"fig   whole command {statistics.median(took):.1f} s ({min(took):.1f} to {max(took):.1f})")
            for settings in ({}, {"NCCL_P2P_DISABLE": "1"}):
                print(c.ctl("check", "nccl", "-G", 2, "--mib", MIB, "--env", PREFIX, env=dict(os.environ, **settings)).stdout)
            print(c.ctl("check", "nccl", "--history").stdout)
        finally:
            c.stop()


if __name__ == "__main__":
    main()
