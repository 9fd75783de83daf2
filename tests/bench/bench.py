#!/usr/bin/python3
"""bench.py - nodeagent's speed and size, beside other launchers on the same machine in the same run

Contenders take turns, so that a busy minute hits all of them; figures are
medians with the smallest and the largest, ratios are of medians. A peer that
is not installed is said to be absent. Besides the text, --json FILE gets
everything (default BUILD/bench.json).

  bench.py [--build DIR] [--only spawn,nodes,output,fail,idle,status] [--quick] [--json FILE]
"""
import argparse
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
result = {"host": {}, "figures": [], "targets": []}


# ---- measuring -----------------------------------------------------------


def wait(p, limit):
    """(exit code, time of the end), or (None, None) when it runs too long: then it is killed.
    Popen.wait(timeout) looks every 50 ms; this one is woken."""
    fd = os.pidfd_open(p.pid)
    try:
        ended = select.select([fd], [], [], limit)[0]
        end = time.monotonic()
    finally:
        os.close(fd)
    if not ended:
        os.killpg(p.pid, signal.SIGKILL)  # a session of its own
        p.wait()
        return None, None
    return p.wait(), end


def start_quiet(cmd, **kw):
    kw.setdefault("stdout", subprocess.DEVNULL)
    return subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, start_new_session=True, **kw)


def once(cmd, limit=120):
    """Milliseconds of a whole command, or None when it failed or hung."""
    start = time.monotonic()
    code, end = wait(start_quiet(cmd), limit)
    return (end - start) * 1000 if code == 0 else None


def turns(contenders, rounds):
    """{name: function giving a number or None} -> {name: [numbers]}; all in turn, the first round does not count."""
    got = {name: [] for name in contenders}
    for r in range(rounds + 1):
        for name, f in contenders.items():
            value = f()
            if r and value is not None:
                got[name].append(value)
    return got


def spread(v):
    return {"median": statistics.median(v), "min": min(v), "max": max(v), "n": len(v)} if v else None


def table(title, unit, got, ours="nodectl", better="lower", key=None):
    """Prints a block of contenders with their ratio to ours and keeps it."""
    print(f"\n{title} ({unit})")
    mine = spread(got.get(ours) or [])
    rows = {}
    for name, v in got.items():
        s = spread(v)
        if not s:
            print(f"  {name:<24} did not finish")
            rows[name] = None
            continue
        ratio = ""
        if mine and name != ours:
            ratio = f"  ours / it = {mine['median'] / s['median']:.2f}"
        print(f"  {name:<24} {s['median']:9.1f}   {s['min']:.1f} - {s['max']:.1f}, {s['n']} runs{ratio}")
        rows[name] = s
    result["figures"].append({"what": title, "key": key or title, "unit": unit, "better": better, "rows": rows})
    sys.stdout.flush()
    return {name: s and s["median"] for name, s in rows.items()}


def target(text, value, limit, unit="", at_least=False):
    """A line of the issue: a figure and its limit."""
    if value is None or limit is None:
        verdict, shown = "not measured", "-"
    else:
        verdict = "ok" if (value >= limit if at_least else value <= limit) else "MISSED"
        shown = f"{value:.4g}{unit}"
    lim = "-" if limit is None else f"{limit:.4g}{unit}"
    print(f"  {verdict:<12} {text}: {shown} ({'at least' if at_least else 'at most'} {lim})")
    result["targets"].append({"what": text, "value": value, "limit": limit, "at_least": at_least, "verdict": verdict})
    sys.stdout.flush()


# ---- the machine ---------------------------------------------------------


def first(path, word):
    try:
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.startswith(word):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown"


def fsync_ms(folder):
    took = []
    fd = os.open(os.path.join(folder, "fsync"), os.O_CREAT | os.O_WRONLY)
    for _ in range(200):
        start = time.monotonic()
        os.write(fd, b"x" * 4096)
        os.fdatasync(fd)
        took.append((time.monotonic() - start) * 1000)
    os.close(fd)
    return took


def describe(folder):
    f = spread(fsync_ms(folder))
    host = {"cpu": first("/proc/cpuinfo", "model name"), "cores": len(os.sched_getaffinity(0)),
            "kernel": os.uname().release, "load": os.getloadavg()[0], "fsync_ms": f,
            "peers": {name: shutil.which(name) for name in ("mpiexec.mpich", "pdsh", "srun", "xargs")}}
    result["host"] = host
    print(f"{host['cpu']}, {host['cores']} cores, Linux {host['kernel']}, load {host['load']:.1f}")
    print(f"4 KiB append + fdatasync on the cluster's disk: {f['median']:.2f} ms ({f['min']:.2f} - {f['max']:.2f})")
    for name, path in host["peers"].items():
        if not path:
            print(f"peer {name}: not installed")
    if host["peers"]["srun"] and once(["srun", "-n1", "true"], 10) is None:
        host["peers"]["srun"] = None
        print("peer srun: installed, but no cluster of it answers here")


def peer(name):
    return result["host"]["peers"].get(name)


# ---- our cluster ---------------------------------------------------------


class Cluster:
    """nodeagentd --standalone in a directory of its own, while the block lasts."""

    def __init__(self, n, base, options=()):
        self.n, self.base, self.options = n, base, list(options)

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="nab", dir=self.base)
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.proc = subprocess.Popen([f"{build}/nodeagentd", "--standalone", "--virtual-nodes", str(self.n), "--dir", self.dir, *self.options],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, env=env)
        line = self.proc.stdout.readline()
        if not line.startswith(b"ready "):
            sys.exit(f"bench: the cluster did not start: {open(self.log.name).read()[-2000:]}")
        return self

    def __exit__(self, *exc):
        self.proc.terminate()
        self.proc.wait(60)
        self.proc.stdout.close()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def launch(self, *args):
        return [f"{build}/nodectl", "--dir", self.dir, "launch", *map(str, args)]


# ---- figures -------------------------------------------------------------


def spawn(base):
    limits = {}
    with Cluster(1, base) as c:
        for n in (1, 8, 64, 256):
            contenders = {
                "posix_spawn loop": lambda: once([f"{build}/tests/bench/spawn_loop", str(n), "/bin/true"]),
                "nodectl": lambda: once(c.launch("--procs-per-node", n, "--", "/bin/true")),
            }
            if peer("mpiexec.mpich"):
                contenders["mpiexec.mpich"] = lambda: once(["mpiexec.mpich", "-n", str(n), "/bin/true"])
            contenders["xargs -P"] = lambda: once(["sh", "-c", f"seq {n} | xargs -P {n} -n 1 /bin/true"])
            if peer("pdsh") and n <= 64:
                contenders["pdsh -R exec"] = lambda: once(["pdsh", "-R", "exec", "-f", str(n), "-w", f"h[1-{n}]", "/bin/true"])
            if peer("srun"):
                contenders["srun"] = lambda: once(["srun", "-O", f"-n{n}", "/bin/true"])
            limits[n] = table(f"/bin/true, {n} rank{'s' * (n > 1)}, one host, whole command", "ms",
                              turns(contenders, rounds(25 if n < 64 else 15)), key=f"spawn-{n}")
    print()
    target("1 rank", limits[1]["nodectl"], 10, " ms")
    for n in (8, 64, 256):
        target(f"{n} ranks against mpiexec", limits[n]["nodectl"], limits[n].get("mpiexec.mpich"), " ms")
    loop = limits[256]["posix_spawn loop"]
    target("256 ranks against 1.5 x the loop", limits[256]["nodectl"], loop and 1.5 * loop, " ms")


def nodes(base):
    for n, limit in ((8, 28), (64, 206)):
        with Cluster(n, base) as c:
            contenders = {"nodectl": lambda: once(c.launch("-N", n, "--", "/bin/true"))}
            if peer("pdsh"):
                contenders["pdsh -R exec, no daemon"] = lambda: once(["pdsh", "-R", "exec", "-f", str(n), "-w", f"h[1-{n}]",
                                                                      "/bin/true"])
            got = table(f"/bin/true, {n} virtual nodes x 1 rank, durable, with the barrier", "ms",
                        turns(contenders, rounds(15)), key=f"nodes-{n}")
        target(f"{n} nodes", got["nodectl"], limit, " ms")


def rate(cmd, mb, check=False):
    """MB/s of payload through the command's stdout, or None when what arrives is not what was written."""
    start = time.monotonic()
    p = start_quiet(cmd, stdout=subprocess.PIPE)
    sink = subprocess.Popen([f"{build}/tests/bench/writer", "--check" if check else "--drain"], stdin=p.stdout,
                            stdout=subprocess.PIPE)
    p.stdout.close()
    try:
        said = sink.communicate(timeout=300)[0].split()
        code = p.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
        sink.kill()
        sink.communicate()
        return None
    took = time.monotonic() - start
    lines = mb * 1000000 // 80
    if code or sink.returncode or int(said[0]) < lines * 80 or (check and int(said[1]) != lines):
        return None
    return mb / took


def output(base):
    mb = 200 if args.quick else 2000
    for block, name in ((65536, "64 KiB writes"), (80, "80-byte writes")):
        writer = [f"{build}/tests/bench/writer", str(mb), "--block", str(block)]

        def ours(*options, check=False):
            with Cluster(1, base) as c:  # a new one each time: its spool goes with it
                return rate(c.launch(*options, "--", *writer), mb, check)

        contenders = {"nodectl": lambda: ours("--label"), "nodectl --no-label": lambda: ours("--no-label")}
        if peer("mpiexec.mpich"):
            contenders["mpiexec -l"] = lambda: rate(["mpiexec.mpich", "-l", "-n", "1", *writer], mb)
            contenders["mpiexec"] = lambda: rate(["mpiexec.mpich", "-n", "1", *writer], mb)
        if peer("pdsh"):
            small = [writer[0], str(mb // 10), *writer[2:]]
            contenders["pdsh -R exec, a tenth"] = lambda: rate(["pdsh", "-R", "exec", "-w", "h1", *small], mb // 10)
        if peer("srun"):
            contenders["srun -l"] = lambda: rate(["srun", "-l", "-n1", *writer], mb)
        exact = ours("--label", check=True) is not None
        print(f"\nlabelled output compared line by line, {mb} MB in {name}: {'exact' if exact else 'NOT EXACT'}")
        result["figures"].append({"what": f"exact, {name}", "value": exact})
        got = table(f"one rank's output to the client's pipe, {mb} MB in {name}", "MB/s", turns(contenders, 3), better="higher",
                    key=f"output-{block}")
        if block == 65536:
            ref = got.get("mpiexec -l")
            target("labelled, 64 KiB writes, against 3 x mpiexec -l", got["nodectl"], ref and 3 * ref, " MB/s", at_least=True)
        if not exact:
            target(f"byte-exact, {name}", 1, 0)


def fail(base):
    stamp = os.path.join(base, "fail.time")
    cmd = [f"{build}/tests/bench/fail_at", "3", "7", "300", stamp]
    seen = {}

    def back(name, launcher, limit=5):
        """Milliseconds from the rank's exit to the launcher's return; its code is kept."""
        if os.path.exists(stamp):
            os.unlink(stamp)
        code, end = wait(start_quiet([*launcher, *cmd]), limit)
        if code is None:
            seen[name] = "never"
            return None
        seen[name] = code
        with open(stamp, encoding="ascii") as f:
            return (end - int(f.read()) / 1e9) * 1000

    with Cluster(1, base) as one, Cluster(8, base) as eight:
        contenders = {
            "nodectl": lambda: back("nodectl", one.launch("--procs-per-node", 8, "--")),
            "nodectl, 8 nodes": lambda: back("nodectl, 8 nodes", eight.launch("-N", 8, "--")),
        }
        if peer("srun"):
            contenders["srun -K"] = lambda: back("srun -K", ["srun", "-K", "-O", "-n8"])
        got = turns(contenders, rounds(15))
        if peer("mpiexec.mpich"):
            got["mpiexec.mpich"] = [v for v in [back("mpiexec.mpich", ["mpiexec.mpich", "-n", "8"])] if v is not None]
    m = table("rank 3 of 8 exits 7, the others sleep: until the launcher returns", "ms", got, key="fail")
    print("  exit codes: " + ", ".join(f"{k} {v}" for k, v in seen.items()))
    result["figures"].append({"what": "exit codes", "value": seen})
    target("back after the exit", m["nodectl"], 50, " ms")
    target("back after the exit, 8 nodes", m["nodectl, 8 nodes"], 50, " ms")
    target("its code is 7", abs(int(seen["nodectl"]) - 7) if seen["nodectl"] != "never" else 1, 0)


def uss_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("Private_Clean", "Private_Dirty")))


def on_cpu_ns(pid):
    return sum(int(open(f"/proc/{pid}/task/{t}/schedstat", encoding="ascii").read().split()[0])
               for t in os.listdir(f"/proc/{pid}/task"))


def switches(pid):
    n = 0
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/status", encoding="ascii") as f:
            n += sum(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt"))
    return n


def daemons(c):
    """{'coordinator', 'agent', 'probe'...: pid} below the supervisor of one node, and it."""
    found, parents, words = {"supervisor": c.proc.pid}, {}, {}
    for p in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{p}/stat", encoding="latin1") as f:
                parents[p] = int(f.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{p}/cmdline", encoding="latin1") as f:
                words[p] = f.read().split("\0")
        except OSError:
            continue
    for p, parent in parents.items():
        if parent == c.proc.pid:
            found["coordinator" if "--coordinator" in words[p] else "agent"] = p
        elif parents.get(parent) == c.proc.pid:
            found[words[p][0].rsplit("-", 1)[-1]] = p
    return found


def idle(base):
    seconds = 10 if args.quick else 60
    with Cluster(1, base) as c:
        once(c.launch("--", "/bin/true"))  # it has worked before it rests
        time.sleep(3)
        pids = daemons(c)
        before = {k: (on_cpu_ns(p), switches(p)) for k, p in pids.items()}
        time.sleep(seconds)
        rows = {}
        print(f"\nidle for {seconds} s")
        for k, p in pids.items():
            cpu = (on_cpu_ns(p) - before[k][0]) / 1e9 * 60 / seconds
            wakes = (switches(p) - before[k][1]) / seconds
            rows[k] = {"uss_mb": uss_kb(p) / 1024, "cpu_s_per_minute": cpu, "wakeups_per_s": wakes}
            print(f"  {k:<12} USS {rows[k]['uss_mb']:.2f} MB, {cpu:.3f} CPU-seconds a minute, {wakes:.1f} wake-ups a second")
        result["figures"].append({"what": "idle", "key": "idle", "rows": rows})
    if "probe" not in rows:
        sys.exit("bench: no nodeagent-probe is running: what a node costs would be told too low")
    node = {k: rows["agent"][k] + rows["probe"][k] for k in rows["agent"]}  # a host of a cluster runs these
    target("one node's memory (agent and probe)", node["uss_mb"], 8, " MB")
    target("one node's CPU-seconds a minute", node["cpu_s_per_minute"], 0.12)
    target("one node's wake-ups a second", node["wakeups_per_s"], 4)


# ---- the picture ---------------------------------------------------------


def hardware(where):
    """Options for nodes that see 8 GPUs and 9 ports, which are none (make fakes)."""
    sys.path.insert(0, os.path.join(TOP, "tests/system"))
    from probe import Tree  # noqa: E402
    tree, lib = Tree(where + "/sys"), where + "/libnvml.so"
    for i in range(9):
        tree.device(f"mlx5_{i}", i)
    shutil.copy(f"{build}/tests/fake/libnvml.so", lib)
    with open(lib + ".conf", "w", encoding="ascii") as f:
        f.write("count 8\n")
    return ["--sysfs-root", tree.root, "--nvml", lib]


def settled_kb(pid):
    """USS after what starting took is given back: the same for 12 s, in which each node has sent its readings again."""
    was, since, end = -1, time.monotonic(), time.monotonic() + 120
    while time.monotonic() < end and time.monotonic() - since < 12:
        now = uss_kb(pid)
        if abs(now - was) > was * 0.01:
            was, since = now, time.monotonic()
        time.sleep(1)
    return was


def status(base):
    """What people type twenty times a day, on 64 nodes; and what a node costs the coordinator."""
    options, uss, got = hardware(tempfile.mkdtemp(prefix="hw", dir=base)), {}, {}
    for n, extra in ((1, options), (64, []), (64, options)):
        with Cluster(n, base, extra) as c:
            uss[n, bool(extra)] = settled_kb(daemons(c)["coordinator"])
            if n == 1 or not extra:
                continue
            ctl = [f"{build}/nodectl", "--dir", c.dir]
            got = turns({"nodectl": lambda: once(ctl + ["status"]), "nodectl --json status": lambda: once(ctl + ["--json", "status"]),
                             "nodectl --version": lambda: once(ctl + ["--version"])}, rounds(25))
            limits = table("nodectl status, 64 virtual nodes with 8 GPUs and 9 ports", "ms", got)
    bare, full = (uss[64, False] - uss[1, True]) / 63, (uss[64, True] - uss[1, True]) / 63
    print(f"\ncoordinator's USS for each node: {bare:.1f} KB of a node without devices (nearly all of it TLS), "
          f"{full:.1f} with 8 GPUs and 9 ports")
    result["figures"].append({"what": "coordinator, KB a node", "key": "status", "rows": {"bare": bare, "full": full}})
    target("status of 64 nodes", limits["nodectl"], 30, " ms")
    target("coordinator's memory for a node's readings", full - bare, 10, " KB")
    target("coordinator's memory for a node", full, 10, " KB")


def rounds(n):
    return max(3, n // 5) if args.quick else n


PARTS = {"spawn": spawn, "nodes": nodes, "output": output, "fail": fail, "idle": idle, "status": status}

if __name__ == "__main__":
    ap = argparse.ArgumentParser(description="speed and size beside other launchers")
    ap.add_argument("--build", default="build")
    ap.add_argument("--only", default=",".join(PARTS))
    ap.add_argument("--quick", action="store_true", help="fewer runs, less output: a look, not a figure")
    ap.add_argument("--json")
    ap.add_argument("--tmp", default=os.environ.get("TMPDIR") or "/tmp")
    args = ap.parse_args()
    os.chdir(TOP)
    build = os.path.abspath(args.build)
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    work = tempfile.mkdtemp(prefix="na-bench-", dir=args.tmp)
    try:
        describe(work)
        for part in args.only.split(","):
            PARTS[part](work)
        path = args.json or os.path.join(build, "bench.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
        missed = [t for t in result["targets"] if t["verdict"] == "MISSED"]
        print(f"\n{len(result['targets'])} targets, {len(missed)} missed; all figures in {os.path.relpath(path, TOP)}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
