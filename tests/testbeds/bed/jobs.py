"""jobs.py - work for the bed: jobs of several kinds all the time, by clients that try again when they are killed"""
import json
import os
import random
import subprocess
import sys
import threading
import time

from bed.hosts import USER, as_user

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "system"))
import wire  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"
AT_ONCE = 6
TERMINAL = ("done", "failed", "lost")
#       kind      lines       pause, ms  code
KINDS = (("count", (20, 80), (50, 250), 0), ("count", (20, 80), (50, 250), 0), ("code", (5, 60), (50, 200), None),
         ("code", (5, 60), (50, 200), None), ("deaf", (5, 40), (50, 200), 7), ("long", (100000, 100000), (200, 400), 0),
         ("litter", (5, 20), (50, 100), 0), ("burst", (2000, 4000), (0, 0), 0), ("again", (10, 60), (50, 200), 9))
RESTARTS = 3


class Job:
    def __init__(self, rng, n, hosts):
        self.id = f"job-{n:04d}"
        self.kind, lines, pause, code = rng.choice(KINDS)
        self.lines, self.pause = rng.randint(*lines), rng.randint(*pause)
        self.code = rng.randint(1, 120) if code is None else code
        self.nodes, self.procs = rng.choice((1, 1, 2, 2, 3, 4)), rng.choice((1, 1, 1, 2))
        self.attached = rng.random() < 0.25
        self.kill_after = rng.uniform(3, 15) if self.kind == "long" else None
        self.hosts = rng.sample(hosts, len(hosts))
        self.job = self.acked = self.refused = self.client = self.client_code = None
        self.killed_clients = 0
        self.kill_wanted = self.kill_said = None
        self.start_wall = time.time()

    @property
    def world(self):
        return self.nodes * self.procs

    def argv(self, bed):
        return [PYTHON, "-ISB", bed.path("rank.py"), self.kind, str(self.lines), str(self.pause), str(self.code), bed.dir]


class Jobs(threading.Thread):
    """Submits, sees to clients, kills the long ones. 'all' is theirs who hold the lock."""

    def __init__(self, bed, seed):
        super().__init__(daemon=True)
        self.bed, self.rng, self.all, self.lock = bed, random.Random(seed + 2), [], threading.Lock()
        self.more, self.over = True, threading.Event()
        self.ended = set()  # numbers of jobs that the poller has seen in their last state
        for name, mode in (("marks", 0o1777), ("twice", 0o1777), ("out", 0o755)):
            os.mkdir(bed.path(name))
            os.chmod(bed.path(name), mode)
        self.acks = bed.write("acks", "", 0o666)
        # where everybody can read it: the sources may lie in somebody's home
        with open(os.path.join(HERE, "rank.py"), encoding="utf-8") as f:
            bed.write("rank.py", f.read())
        for name, path in (("client.py", HERE), ("wire.py", os.path.dirname(wire.__file__))):
            with open(os.path.join(path, name), encoding="utf-8") as f:
                bed.write(name, f.read())

    def run(self):
        while not self.over.wait(0.1):
            with self.lock:
                self.read_acks()
                for j in self.all:
                    self.see_to(j)
                open_jobs = [j for j in self.all if not (j.refused or j.job in self.ended)]
                if self.more and len(open_jobs) < AT_ONCE:
                    self.all.append(Job(self.rng, len(self.all), self.bed.hosts))
                    self.start_client(self.all[-1])

    def start_client(self, j):
        if j.attached:
            with open(self.bed.path("out", j.id + ".out"), "wb") as out, open(self.bed.path("out", j.id + ".err"), "wb") as err:
                j.client = subprocess.Popen([*as_user(USER), f"{self.bed.bin}/nodectl", "--socket", j.hosts[0].socket, "launch", "-N", str(j.nodes),
                                             "--procs-per-node", str(j.procs), "--grace", "2s", "--name", j.id, "--label",
                                             *(("--max-restarts", str(RESTARTS), "--restart-on", "any") if j.kind == "again" else ()), "--",
                                             *j.argv(self.bed)], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            env=self.bed.env, cwd="/")
            return
        spec = wire.spec("/", j.argv(self.bed), {"PATH": "/usr/bin:/bin"})
        request = json.dumps({"nnodes": j.nodes, "procs_per_node": j.procs, "command": j.kind, "grace_ms": 2000,
                              **({"max_restarts": RESTARTS, "restart_any": True} if j.kind == "again" else {})})
        j.client = subprocess.Popen([*as_user(USER), PYTHON, self.bed.path("client.py"), self.acks, j.id, request, spec.hex(),
                                     *[h.socket for h in j.hosts[:3]]], stdin=subprocess.DEVNULL, env=self.bed.env, cwd="/",
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def see_to(self, j):
        code = j.client.poll() if j.client else None
        if code is not None:
            j.client, j.client_code = None, code
            if code < 0 and not j.attached and not j.acked:  # it was killed: the same request once more
                j.killed_clients += 1
                self.start_client(j)
            elif code < 0:
                j.killed_clients += 1
            elif j.attached and not j.acked:
                self.read_attached(j)
                j.refused = j.refused or (None if j.acked else f"nodectl: {code}")
        if j.attached and not j.acked and not j.refused:
            self.read_attached(j)
            if code is not None and code < 0 and not j.acked:
                j.refused = "its client was killed before it was told a number"
        if j.acked and j.kill_after is not None and not j.kill_said and j.job not in self.ended and \
                time.monotonic() > j.acked + j.kill_after:
            self.kill(j)

    def kill(self, j):
        """Of a long one, by a client; again until somebody says that it was heard."""
        if j.kill_wanted and j.kill_wanted.poll() is None:
            return
        if j.kill_wanted and j.kill_wanted.returncode == 0:
            j.kill_said = time.monotonic()
            return
        h = self.rng.choice(self.bed.hosts)
        j.kill_wanted = subprocess.Popen([*as_user(USER), f"{self.bed.bin}/nodectl", "--socket", h.socket, "kill", str(j.job)], env=self.bed.env,
                                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def read_attached(self, j):
        with open(self.bed.path("out", j.id + ".err"), encoding="utf-8", errors="replace") as f:
            for line in f:
                words = line.split()
                if len(words) > 1 and words[0] == "job" and words[1].isdigit():
                    self.acknowledge(j, int(words[1]))
                    return

    def read_acks(self):
        by_id = {j.id: j for j in self.all}
        with open(self.acks, encoding="utf-8") as f:
            for line in f.read().splitlines():
                who, what, *rest = line.split(" ", 2)
                j = by_id.get(who)
                if j and what == "job":
                    self.acknowledge(j, int(rest[0]))
                elif j and what in ("refused", "gave-up") and not j.acked:
                    j.refused = line

    def acknowledge(self, j, job):
        if j.job not in (None, job):
            self.bed.log(f"{j.id}: told {j.job}, then {job}")
            j.refused = f"two numbers: {j.job} and {job}"
        if not j.acked:
            j.job, j.acked = job, time.monotonic()
            self.bed.log(f"{j.id} is job {job}: {j.kind}, {j.nodes} x {j.procs}")
