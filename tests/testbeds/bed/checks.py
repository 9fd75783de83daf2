"""checks.py - what must be true whatever was done: looked at during the run (Poller) and after it (Checks)

Numbers in brackets are those of the invariants, as tests/sim counts them.
"""
import collections
import json
import os
import re
import subprocess
import threading
import time

from bed import procs
from bed.hosts import USER, as_user
from bed.jobs import RESTARTS, TERMINAL

ORDER = {"queued": 0, "preparing": 1, "ready": 2, "running": 3, "ending": 4, "done": 5, "failed": 5, "lost": 5}
RSS_MIB = {"agent": 48, "coordinator": 64, "launcher": 12, "shim": 12, "probe": 64}
NODES_OK_S, JOBS_END_S, CLEAN_S = 60, 150, 60
RUN_LEFT = re.compile(r"^\d+\.\d+\.(held|latch|sock|ports)$")


class Poller(threading.Thread):
    """Asks any node how jobs are, all the time: states go forward, and last ones stay. [5]"""

    def __init__(self, bed, jobs, rng):
        super().__init__(daemon=True)
        self.bed, self.jobs, self.rng = bed, jobs, rng
        self.seen, self.bad, self.polls, self.silent = {}, [], 0, 0
        self.again, self.named = set(), 0
        self.rss = collections.Counter()
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.7):
            self.ask(self.rng.choice(self.bed.hosts))
            self.weigh()

    def ask(self, host):
        try:
            p = self.bed.ctl(host, "--json", "jobs", "--all")
        except subprocess.TimeoutExpired:
            self.silent += 1
            return None
        if p.returncode:
            self.silent += 1
            return None
        self.polls += 1
        found = json.loads(p.stdout)["jobs"]
        for j in found:
            self.note(int(j["job"]), j)
        return found

    def note(self, number, j):
        if self.named < len(self.jobs.all):
            self.named = len(self.jobs.all)
            self.again = {x.id for x in self.jobs.all if x.kind == "again"}  # lists do not say which attempt it is
        now = (j["state"], j.get("exit_code") if j["state"] in TERMINAL else None)
        was = self.seen.get(number)
        if was and was[0] in TERMINAL and now != was:
            self.bad.append(f"job {number} was {was} and is {now} [5]")
        elif was and j.get("name") not in self.again and now[0] in ORDER and was[0] in ORDER and ORDER[now[0]] < ORDER[was[0]]:
            self.bad.append(f"job {number} went back from {was} to {now} [5]")
        self.seen[number] = now
        if now[0] in TERMINAL:
            self.jobs.ended.add(number)

    def weigh(self):
        for p in procs.look(self.bed):
            m = re.search(rb"VmRSS:\s+(\d+) kB", procs.text(p.pid, "status"))
            if m and p.role in RSS_MIB:
                self.rss[p.role] = max(self.rss[p.role], int(m.group(1)))


class Checks:
    def __init__(self, bed, jobs, faults, poller, sanitized):
        self.bed, self.jobs, self.faults, self.poller, self.sanitized = bed, jobs, faults, poller, sanitized
        self.bad, self.outcomes, self.figures = [], collections.Counter(), {}

    def wrong(self, text):
        self.bad.append(text)
        self.bed.log(f"WRONG {text}")

    # ---- after the healing: in time [25]

    def converge(self):
        begin = time.monotonic()
        self.wait(self.nodes_ok, NODES_OK_S, "all nodes are ok")
        self.figures["nodes ok after"] = time.monotonic() - begin
        self.wait(self.jobs_over, JOBS_END_S, "all jobs have ended")
        self.figures["jobs ended after"] = time.monotonic() - begin
        self.wait(lambda: not self.left(), CLEAN_S, "nothing of any job is left", self.left)
        self.figures["nothing left after"] = time.monotonic() - begin
        self.figures["empty cgroups left to the launchers' next start"] = sum(len(self.cgroups(h)) for h in self.bed.hosts)

    def wait(self, f, seconds, what, why=lambda: ""):
        end = time.monotonic() + seconds
        while True:
            try:
                if f():
                    return
            except (subprocess.TimeoutExpired, ValueError, KeyError):
                pass
            if time.monotonic() > end:
                self.wrong(f"not within {seconds} s: {what} {why()} [25]")
                return
            time.sleep(0.3)

    def nodes_ok(self):
        p = self.bed.ctl(self.bed.hosts[1], "--json", "status")
        nodes = json.loads(p.stdout)["nodes"] if p.returncode == 0 else []
        ours = {h.name for h in self.bed.hosts}
        return len(ours & {n["name"] for n in nodes if n["state"] in ("ok", "degraded")}) == self.bed.n

    def jobs_over(self):
        """No client goes on, and every job has its last state. Long ones are killed by their client meanwhile."""
        with self.jobs.lock:
            clients = [j for j in self.jobs.all if j.client]
        self.listed = self.poller.ask(self.bed.hosts[2])
        return self.listed is not None and not clients and all(j["state"] in TERMINAL for j in self.listed)

    def left(self):
        """Processes, sockets, latches, leases, cgroups of jobs. [6, 7]"""
        out = [f"pid {p}: {c}" for p, c in procs.of_jobs().items()]
        for h in self.bed.hosts:
            out += [f"{h.name}: {n}" for n in os.listdir(f"{h.dir}/run/shims") if RUN_LEFT.match(n)]
            agent = next((d for d in self.bed.all if d.host is h and d.role == "agent"), None)
            names = procs.text(agent.proc.pid, "net/unix").decode() if agent else ""
            out += [f"{h.name}: {w}" for w in re.findall(r"@nodeagent-port-\d+", names)]
            out += [f"{h.name}: cgroup {n}" for n in self.cgroups(h) if self.populated(h, n)]
        return out

    def cgroups(self, h):
        path = f"{self.bed.cgroup}/{h.name}"
        return [n for n in os.listdir(path) if n.startswith("nodeagent-")] if self.bed.cgroup and os.path.isdir(path) else []

    def populated(self, h, name):
        """An empty one may stay where its launcher was away when it was to be removed: the next launcher's start does it."""
        try:
            with open(f"{self.bed.cgroup}/{h.name}/{name}/cgroup.procs", encoding="ascii") as f:
                return bool(f.read())
        except OSError:
            return False

    def whole(self, listed):
        """With its attempt and notices, which lists leave out."""
        p = self.bed.ctl(self.poller.rng.choice(self.bed.hosts), "--json", "job", listed["job"])
        if p.returncode:
            self.wrong(f"job {listed['job']} is listed, and cannot be asked for: {p.stderr!r}")
            return listed
        return json.loads(p.stdout)

    # ---- what was acknowledged [3, 4]

    def submits(self):
        names = collections.defaultdict(list)
        for j in self.listed or []:
            names[j.get("name")].append(int(j["job"]))
        for name, numbers in names.items():
            if len(numbers) > 1:
                self.wrong(f"{name} has become the jobs {numbers} [4]")
        for j in self.jobs.all:
            if j.acked and j.job not in names[j.id]:
                self.wrong(f"{j.id} was acknowledged as job {j.job}, and there is no such job [3]")
            if j.refused and j.refused.startswith("two"):
                self.wrong(f"{j.id}: {j.refused} [4]")

    # ---- what ran [1, 2]

    def marks(self):
        """{job: {attempt: {rank: (started, last line noted, its time, ended)}}}"""
        out = {}
        for name in os.listdir(self.bed.path("marks")):
            job, attempt, rank = map(int, name.split("."))
            with open(self.bed.path("marks", name), encoding="ascii") as f:
                lines = [x.split() for x in f.read().splitlines()]
            numbers = [int(x[0]) for x in lines if x[0].isdigit()]
            start = float(lines[0][2]) if lines and len(lines[0]) > 2 else 0.0
            last = float(lines[-1][-1]) if lines else start
            out.setdefault(job, {}).setdefault(attempt, {})[rank] = (start, max(numbers, default=-1), last, any(x[0] == "end" for x in lines))
        return out

    def once(self, marks):
        for name in os.listdir(self.bed.path("twice")):
            self.wrong(f"job.attempt.rank {name} ran twice [1]")
        for job, attempts in marks.items():
            for a in sorted(attempts)[1:]:
                before = max(t[2] for t in attempts[a - 1].values()) if a - 1 in attempts else 0
                if before > min(t[0] for t in attempts[a].values()):
                    self.wrong(f"job {job}: attempt {a} began while attempt {a - 1} was alive")

    # ---- how it ended [8]

    def ends(self, marks):
        for j in self.jobs.all:
            if j.acked and j.job in self.info:
                outcome = self.end_of(j, self.info[j.job], marks.get(j.job, {}))
                self.outcomes[f"{j.kind}: {outcome}"] += 1
            else:
                self.outcomes[f"not submitted: {(j.refused or 'no answer')[:60]}"] += 1

    def end_of(self, j, info, attempts):
        if j.kind == "again" and info.get("attempt", 1) > RESTARTS:
            return "restarts used up"
        code, why = info.get("exit_code"), info.get("why") or ""
        ranks = attempts.get(info.get("attempt", 1), {})
        touched = self.faults.touched.get(j.job)
        if len(ranks) < j.world:
            if info["state"] == "done":
                self.wrong(f"job {j.job} is done, and {j.world - len(ranks)} of its ranks never ran")
            if not (why or info.get("notices") or info.get("first")) and not touched:
                self.wrong(f"job {j.job} ended before all its ranks ran, and does not say why: {info}")
            return "not started" if not ranks else "begun by some nodes only"
        if touched:
            return "its shim or rank was hurt"
        if re.search(r"\blost\b|silent|unreachable", why) or info["state"] == "lost":
            if not any(self.faults.troubled[n] for n in info.get("node_names") or []):
                self.wrong(f"job {j.job} was lost, and nothing was done to its nodes: {why}")
            return "node lost"
        if j.kind == "long":
            if code == 0 or info["state"] == "done":
                self.wrong(f"job {j.job} was killed, and is {info['state']} with {code}")
            return "killed"
        want = 0 if j.kind == "again" else j.code  # its first attempt failed, and was not the last
        if (info["state"], code) != ("failed" if want else "done", want):
            self.wrong(f"job {j.job} ({j.kind}) is {info['state']} with {code}, not with {want}: {why} [8]")
            return "wrong code"
        return "right code"

    # ---- what it wrote [12]

    def outputs(self, marks):
        total = collections.Counter()
        for j in self.jobs.all:
            if j.acked and j.job in self.info and marks.get(j.job):
                self.output_of(j, marks[j.job], total)
        self.figures["lines checked"], self.figures["ranks whose output was cut by a fault"] = total["lines"], total["cut"]

    def output_of(self, j, attempts, total):
        host = self.poller.rng.choice(self.bed.hosts)
        attempt = max(attempts)
        p = self.bed.ctl(host, "--json", "logs", "--attempt", attempt, j.job, timeout=90)
        if p.returncode:
            self.wrong(f"logs of job {j.job} from {host.name}: code {p.returncode}, {p.stderr[-300:]!r} [12]")
            return
        text, lost = collections.defaultdict(list), collections.Counter()
        for event in map(json.loads, p.stdout.splitlines()):
            key = (event.get("rank"), event.get("stream"))
            if event["event"] == "output" and not event.get("partial"):
                text[key].append(event["text"])
            elif event["event"] == "missing":
                lost[key] += int(event.get("bytes") or 0)
        # an agent that was started again since has only the job's notice of it
        told = any(re.search(r"output.* lost", n) for n in self.info[j.job].get("notices") or [])
        for rank, (_, noted, _, _) in attempts[attempt].items():
            for stream, word, step in (("stdout", "line", 1), ("stderr", "err", 5)):
                start = f"{j.job}.{attempt}.{rank} {word} "
                got = [int(t[len(start):]) for t in text[(rank, stream)] if t.startswith(start) and t[len(start):].isdigit()]
                total["lines"] += len(got)
                self.compare(j, rank, word, got, noted, step, lost[(rank, stream)] or told, total)

    def compare(self, j, rank, word, got, noted, step, lost, total):
        if lost:  # where some is missing, halves of two lines may have met
            got = [n for i, n in enumerate(got) if (i == 0 or got[i - 1] < n) and n <= noted + 1]
        if got != sorted(set(got)):
            self.wrong(f"job {j.job} rank {rank}: {word}s twice or not in order: {got[:50]} [12]")
        whole = got == [step * i for i in range(len(got))]
        # what is noted was written before; a line at most is not noted, and stderr's comes after the note
        least = (noted + 1) if step == 1 else len(range(0, noted, step))
        if whole and len(got) >= least:
            return
        total["cut"] += 1
        hurt = any("shim" in t for t in self.faults.touched.get(j.job, []))
        if not lost and not (hurt and whole):
            self.wrong(f"job {j.job} ({j.kind}) rank {rank}: {len(got)} of {least} {word}s, gap {not whole}, nothing counted as lost [12, 13]")

    # ---- what the daemons did [13, 14]

    def daemons(self):
        factor = 6 if self.sanitized else 1
        for role, kib in self.poller.rss.items():
            if kib > RSS_MIB[role] * 1024 * factor:
                self.wrong(f"a {role} had {kib // 1024} MiB [13]")
        for at, name, code in self.bed.strange:
            full = any(a <= at <= (b or at) + 3 for _, a, b in self.faults.full)
            if not full or code < 0 or code == 99:
                self.wrong(f"{name} ended by itself with {code} [14]")
        found = subprocess.run(["grep", "-lE", "Sanitizer|runtime error|Assertion", "-r", self.bed.path("logs")], capture_output=True, text=True,
                               check=False).stdout.split()
        for path in found:
            self.wrong(f"a sanitizer or an assertion speaks in {path}")

    def all(self):
        self.listed = None
        self.converge()
        self.info = {int(j["job"]): self.whole(j) for j in self.listed or []}
        self.submits()
        marks = self.marks()
        self.once(marks)
        self.ends(marks)
        self.outputs(marks)
        self.daemons()
        for text in self.poller.bad:
            self.wrong(text)
        return self.bad


def admin_look(bed):
    """For the evidence: what the cluster says of itself at the end."""
    p = subprocess.run([*as_user(USER), f"{bed.bin}/nodectl", "--socket", bed.hosts[1].socket, "status"], capture_output=True, text=True,
                       env=bed.env, timeout=40, check=False)
    return p.stdout + p.stderr
