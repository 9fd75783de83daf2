#!/usr/bin/python3
"""probe_cost.py [SECONDS] [--limit PERCENT] - what nodeagent-probe costs a node of 8 GPUs and 9 ports

Runs build/nodeagent-probe (make all fakes) on a tree like sysfs's and a library
like NVIDIA's, with a process on each GPU, and prints CPU time, memory, wake-ups
and frames. Drivers' own work is not in it: see docs/measurements.md for a real
GPU. Exit code 1 when it takes more than --limit percent of a core.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/system"))
from probe import Probe, Tree, cpu_ns, threads_ns  # noqa: E402


def switches(pid):
    """Context switches of all threads so far."""
    total = 0
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/status", encoding="latin1") as f:
            total += sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
    return total


def main():
    a = argparse.ArgumentParser()
    a.add_argument("seconds", nargs="?", type=float, default=60)
    a.add_argument("--limit", type=float, help="percent of a core")
    a.add_argument("--build", default=os.path.join(TOP, "build"))
    args = a.parse_args()
    where = tempfile.mkdtemp(prefix="nodeagent-probe-cost-")
    sleeper = subprocess.Popen(["sleep", "86400"])
    try:
        tree = Tree(where + "/sys")
        for i in range(9):
            tree.device(f"mlx5_{i}", i, **{f"pkeys/{k}": "0xffff" if k == 0 else "0x0000" for k in range(128)})
            tree.counters(f"mlx5_{i}", symbol_error=3, port_rcv_data=10**12)
        with open(where + "/nvml", "w", encoding="ascii") as f:
            f.write("count 8\n" + "".join(f"set {i} 18 links\n" for i in range(8)) + "".join(f"proc {i} {sleeper.pid} 1000000000\n" for i in range(8)))
        p = Probe(args.build + "/nodeagent-probe", "--sysfs-root", tree.root, "--nvml",
                  args.build + "/tests/fake/libnvml.so", env=dict(os.environ, FAKE_NVML=where + "/nvml"))
        m = p.next()
        assert len(m["gpus"]) == 8 and len(m["ports"]) == 9, m
        time.sleep(1)  # what starting costs is another question
        pid, begin, cpu, sw, frames, threads = p.p.pid, time.monotonic(), cpu_ns(p.p.pid), switches(p.p.pid), 0, threads_ns(p.p.pid)
        while (left := begin + args.seconds - time.monotonic()) > 0:
            frames += p.next(left) is not None
        took = time.monotonic() - begin
        percent = (cpu_ns(pid) - cpu) / took / 1e7
        print(f"8 GPUs, 9 ports, {took:.0f} s: {percent:.3f} % of a core, {(switches(pid) - sw) / took:.1f} context "
              f"switches/s, {p.memory_kb()} kB resident, {frames} frames")
        print(", ".join(f"{k} {(v - threads.get(k, 0)) / took / 1e7:.3f} %" for k, v in sorted(threads_ns(pid).items(), key=lambda x: -x[1])))
        p.finish()
        sys.exit(1 if args.limit and percent > args.limit else 0)
    finally:
        sleeper.kill()
        sleeper.wait()
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
