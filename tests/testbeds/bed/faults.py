"""faults.py - what is done to the bed: a plan from a seed, carried out one after the other, and taken back"""
import collections
import heapq
import math
import os
import random
import signal
import time

from bed import procs
from bed.hosts import fill

Fault = collections.namedtuple("Fault", "kind target pick length_s gap_s")
#          kind    target         weight
WEIGHTS = (("kill", "agent", 14), ("kill", "coordinator", 8), ("kill", "launcher", 7), ("kill", "shim", 3), ("kill", "client", 6),
           ("kill", "probe", 3), ("kill", "rank", 2), ("stop", "agent", 8), ("stop", "coordinator", 5), ("stop", "launcher", 4),
           ("stop", "shim", 5), ("stop", "client", 3), ("stop", "probe", 2), ("stop", "rank", 2), ("term", "agent", 4),
           ("term", "coordinator", 3), ("term", "launcher", 3), ("cut", "host", 7), ("cut-in", "host", 4), ("cut-out", "host", 4),
           ("cut-pair", "host", 3), ("full", "host", 4), ("full", "head", 2), ("kill-all", "daemons", 2))
LENGTHS = {"stop": (0.1, 20), "cut": (0.3, 20), "cut-in": (0.3, 20), "cut-out": (0.3, 20), "cut-pair": (0.3, 20), "full": (0.5, 8)}


def plan(seed, n, gap_s):
    """The same seed, the same plan; whom it meets depends on who is alive then."""
    rng = random.Random(seed)
    kinds = [(k, t) for k, t, _ in WEIGHTS]
    weights = [w for _, _, w in WEIGHTS]
    out = []
    for _ in range(n):
        kind, target = rng.choices(kinds, weights)[0]
        low, high = LENGTHS.get(kind, (1, 1))
        out.append(Fault(kind, target, rng.random(), math.exp(rng.uniform(math.log(low), math.log(high))), rng.expovariate(1 / gap_s)))
    return out


class Faults:
    def __init__(self, bed):
        self.bed, self.undo, self.count, self.missed, self.n = bed, [], collections.Counter(), 0, 0
        self.touched = {}  # job: what was done to a shim or rank of it
        self.full = []  # (folder, from, until)
        self.troubled = collections.Counter()  # host: faults on it
        self.number = 0

    def do(self, f):
        done = getattr(self, "do_" + f.kind.split("-")[0])(f)
        if not done:
            self.missed += 1
            self.bed.log(f"FAULT {f.kind} {f.target}: nobody there")
            return False
        self.n += 1
        self.count[f"{f.kind} {f.target}"] += 1
        self.bed.log(f"FAULT {self.n} {f.kind} {done}" + (f" for {f.length_s:.1f} s" if f.kind in LENGTHS else ""))
        return True

    def later(self, seconds, what, text):
        self.number += 1
        heapq.heappush(self.undo, (time.monotonic() + seconds, self.number, what, text))

    def tick(self, all_of_them=False):
        while self.undo and (all_of_them or self.undo[0][0] <= time.monotonic()):
            _, _, what, text = heapq.heappop(self.undo)
            what()
            self.bed.log(text)

    # ---- processes

    def signal(self, p, sig):
        """The text for the log, or None when it was gone."""
        hold = procs.Hold(p)
        if sig in (signal.SIGKILL, signal.SIGTERM):
            with self.bed.lock:  # before the supervisor sees its end
                self.bed.expected[p.pid] = sig.name
        if p.role in ("shim", "rank") and sig == signal.SIGKILL and p.job:
            self.touched.setdefault(p.job, []).append(f"{p.role} killed")
        if not hold.send(sig):
            hold.close()
            return None
        if p.host:
            self.troubled[p.host.name] += 1
        text = f"{p.role} {p.host.name if p.host else 'of the bed'} pid {p.pid}" + (f" job {p.job}" if p.job else "")
        return text, hold

    def pick(self, f):
        found = [p for p in procs.look(self.bed) if p.role == f.target]
        return found[int(f.pick * len(found))] if found else None

    def do_kill(self, f):
        if f.target == "daemons":
            return self.kill_all()
        p = self.pick(f)
        done = p and self.signal(p, signal.SIGKILL)
        if done:
            done[1].close()
        return done and done[0]

    def do_term(self, f):
        p = self.pick(f)
        done = p and self.signal(p, signal.SIGTERM)
        if done:
            done[1].close()
        return done and done[0]

    def kill_all(self):
        n = 0
        for p in procs.look(self.bed):
            if p.role in ("agent", "coordinator", "launcher"):
                done = self.signal(p, signal.SIGKILL)
                if done:
                    done[1].close()
                    n += 1
        return n and f"{n} daemons at once"

    def do_stop(self, f):
        p = self.pick(f)
        done = p and self.signal(p, signal.SIGSTOP)
        if not done:
            return None
        text, hold = done

        def go_on():
            hold.send(signal.SIGCONT)
            hold.close()
        self.later(f.length_s, go_on, f"go on {text}")
        return text

    # ---- links

    def do_cut(self, f):
        h = self.bed.hosts[int(f.pick * len(self.bed.hosts))]
        self.troubled[h.name] += 1
        if f.kind == "cut":
            h.cut()
        elif f.kind == "cut-pair":
            other = self.bed.hosts[(h.i + int(f.pick * 97) % (len(self.bed.hosts) - 1)) % len(self.bed.hosts)]
            h.cut_from(other)
        else:
            h.cut_one_way("input" if f.kind == "cut-in" else "output")
        self.later(f.length_s, h.heal, f"heal {h.name}")
        return h.name

    # ---- disks

    def do_full(self, f):
        h = self.bed.hosts[int(f.pick * len(self.bed.hosts))]
        folder = self.bed.path("head") if f.target == "head" else h.dir
        path = fill(folder)
        entry = [folder, time.monotonic(), None]
        self.full.append(entry)
        self.troubled[os.path.basename(folder)] += 1

        def free():
            entry[2] = time.monotonic()
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
        self.later(f.length_s, free, f"free {os.path.basename(folder)}")
        return f"disk of {os.path.basename(folder)}"
