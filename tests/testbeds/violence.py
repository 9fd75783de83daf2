#!/usr/bin/python3
"""violence.py - eight hosts, jobs all the time, and random faults: kill -9, SIGSTOP, cut links, full disks

    violence.py [BUILD] [--faults N | --seconds S] [--seed K] [--gap S] [--hosts N] [--keep]

Needs root. Hosts are network namespaces; the daemons and jobs live in a pid namespace of their own, so that nothing else
can be hit and nothing is left. A fault's kind, its target's kind and its length come from the seed; when it comes and whom
it meets does not, so a seed repeats the faults and not the run. What must be true afterwards is in bed/checks.py.
On failure the seed, the log of all faults and actions, and the place of the evidence are printed; --keep keeps it in any case.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
INSIDE = "NA_VIOLENCE_INSIDE"
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "nft", "mount")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", nargs="?", default="build")
    p.add_argument("--faults", type=int, default=500)
    p.add_argument("--seconds", type=float, help="stop making faults after so long")
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--gap", type=float, default=1.0, help="mean time between two faults, s")
    p.add_argument("--hosts", type=int, default=8)
    p.add_argument("--keep", action="store_true", help="leave the evidence in place when all is well, too")
    return p.parse_args()


def enter(folder):
    """This program again as the child of process 1 of new namespaces; its end ends all of them."""
    argv = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private",
            sys.executable, "-B", os.path.abspath(__file__), *sys.argv[1:]]
    p = subprocess.Popen(argv, env={**os.environ, INSIDE: folder})

    def stop(signum, frame):
        p.send_signal(signum)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, lambda *_: None)  # it has it from the terminal
    return p.wait()


def init(work):
    """Process 1 of the namespace: reaps orphans until its one child has ended."""
    child = os.fork()
    if child == 0:
        sys.exit(work())
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGINT))
    signal.signal(signal.SIGINT, lambda *_: None)
    while True:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def torment(bed, jobs, o):
    from bed.faults import Faults, plan
    faults, begin = Faults(bed), time.monotonic()
    for f in plan(o.seed, o.faults * 4, o.gap):
        until = time.monotonic() + f.gap_s
        while time.monotonic() < until:
            faults.tick()
            time.sleep(0.02)
        if faults.n >= o.faults or (o.seconds and time.monotonic() - begin > o.seconds):
            break
        faults.do(f)
    faults.tick(all_of_them=True)
    for h in bed.hosts:
        h.heal()
    with jobs.lock:
        jobs.more = False
    bed.log(f"healed after {faults.n} faults")
    return faults, time.monotonic() - begin


def report(o, faults, checks, poller, bed, seconds):
    print(f"seed {o.seed}: {faults.n} faults in {seconds:.0f} s ({faults.missed} met nobody)")
    for name, n in sorted(faults.count.items()):
        print(f"  {name:<22} {n}")
    print(f"{sum(checks.outcomes.values())} jobs")
    for name, n in sorted(checks.outcomes.items()):
        print(f"  {name:<48} {n}")
    for name, n in checks.figures.items():
        print(f"{name}: {n:.1f} s" if isinstance(n, float) else f"{name}: {n}")
    print(f"{poller.polls} answers to questions from any node, {poller.silent} without one; most memory, MiB: "
          + ", ".join(f"{r} {k / 1024:.1f}" for r, k in sorted(poller.rss.items())))
    print("daemons started: " + ", ".join(f"{r} {sum(d.starts for d in bed.all if d.role == r)}" for r in ("coordinator", "agent", "launcher")))
    print("ends: " + ", ".join(f"{k} x{n}" for k, n in sorted(bed.exits.items())))


def work(o, folder):
    from bed.checks import Checks, Poller
    from bed.hosts import Bed, Log
    from bed.jobs import Jobs
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    log = Log(os.path.join(folder, "log"))
    bed = Bed(folder, os.path.join(TOP, o.build) if not os.path.isabs(o.build) else o.build, o.hosts, o.seed, log)
    bad = ["it did not come to its end"]
    try:
        bed.start()
        jobs = Jobs(bed, o.seed)
        poller = Poller(bed, jobs, random.Random(o.seed + 3))
        first = Checks(bed, jobs, None, poller, False)
        first.wait(first.nodes_ok, 60, "the cluster is there")
        if first.bad:
            raise RuntimeError(first.bad[0])
        jobs.start()
        poller.start()
        faults, seconds = torment(bed, jobs, o)
        checks = Checks(bed, jobs, faults, poller, "san" in o.build)
        bad = checks.all()
        jobs.over.set()
        poller.over.set()
        with open(os.path.join(folder, "jobs.json"), "w", encoding="utf-8") as f:
            json.dump({"touched": faults.touched, "jobs": checks.info}, f, indent=1)
        report(o, faults, checks, poller, bed, seconds)
    finally:
        bed.stop()
        bed.remove_cgroups()
        with open(os.path.join(folder, "bad.json"), "w", encoding="utf-8") as f:
            json.dump(bad, f)
        # the disks are seen inside only
        for h in bed.hosts:
            shutil.copytree(h.dir, os.path.join(folder, "disks", h.name), ignore=lambda d, names: [
                n for n in names if not (os.path.isdir(os.path.join(d, n)) or os.path.isfile(os.path.join(d, n))) or n == ".full"],
                dirs_exist_ok=True)
    return 1 if bad else 0


def main():
    o = options()
    if os.environ.get(INSIDE):
        sys.exit(init(lambda: work(o, os.environ[INSIDE])))
    missing = [t for t in TOOLS if not shutil.which(t, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
    if os.geteuid() != 0 or missing or not os.path.isdir("/run"):
        sys.exit("violence.py: " + ("needs root" if os.geteuid() else f"not installed: {', '.join(missing)}"))
    os.makedirs("/run/netns", exist_ok=True)
    if "--seed" not in sys.argv:
        sys.argv += ["--seed", str(o.seed)]
    folder = tempfile.mkdtemp(prefix="nav", dir="/tmp")
    code = enter(folder)
    try:
        with open(os.path.join(folder, "bad.json"), encoding="utf-8") as f:
            bad = json.load(f)
    except (OSError, ValueError):
        bad = ["it was ended before its end"]
    for text in bad:
        print(f"WRONG: {text}")
    if bad or code or o.keep:
        print(f"seed {o.seed}; faults and actions: {folder}/log; daemons' logs: {folder}/logs; disks: {folder}/disks")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print("FAILED" if bad or code else "ok")
    sys.exit(1 if bad or code else 0)


if __name__ == "__main__":
    main()
