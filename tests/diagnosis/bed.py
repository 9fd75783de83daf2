"""bed.py - the frame of `make diagnosis`: faults are injected, and it is looked what a user is told, when, and what else

A class of faults is a generator, and what must be seen stands beside it, written before the run:

    @fault("ib-port-armed", "a subnet manager has stopped half-way", bed="nodes",
           expect=Expect("ib.state", "a", what="mlx5_2", verdict="warn", words=("Armed",)))
    def armed(bed):
        bed.sys("a").set("mlx5_2", state="3: ARMED")      # what comes before is not timed if bed.mark() is called
        yield                                             # injected: the runner looks until it is seen
        bed.sys("a").set("mlx5_2", state="4: ACTIVE")     # healed: it must be gone again

A bed is made healthy, and no check may fire in it before. From the injection on `nodectl check --json` (or what
Expect.ask says) is asked again and again; what fires beside the expected is a failure unless it is declared with
'also', with its reason in a comment. expect=None: no fault, it must stay silent (for 'quiet' seconds); a generator
may yield a function that must become true first, so that silence is not that of one who has not looked.

Beds are used by one class after another as long as they come back to health. Those on which something stays (counters
of the last hour) are thrown away: spoils=True.
"""
import json
import os
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(TOP, "tests/diagnosis")
os.environ.setdefault("NODEAGENT_BUILD", "build")
sys.path.insert(0, os.path.join(TOP, "tests/system"))
import shutil  # noqa: E402

import cluster  # noqa: E402
from cluster import BUILD, SLOW, Site, wait_until  # noqa: E402
from probe import Tree  # noqa: E402

FAULTS = []
BEDS = {}
LOOK_S = 0.05 # between two looks


class Expect:
    """What must be told. check, node, what: the row of `nodectl check`; words: all in its text or remedy.

    ask(bed): another question than `check`: the text of the answer, in which the words must be (verdict is not looked
    at), None or "" while there is none. within: seconds from the injection.
    """

    def __init__(self, check, node=None, what=None, verdict="bad", words=(), within=5.0, ask=None):
        self.check, self.node, self.what, self.verdict = check, node, what, verdict
        self.words, self.within, self.ask = words, within, ask

    def text(self):
        where = " ".join(x for x in (self.node, self.what) if x)
        return f"{self.check} {self.verdict}" + (f" on {where}" if where else "")

    def is_row(self, row):
        said = " ".join(row.get(k) or "" for k in ("text", "fix", "reading"))
        return (row["id"] == self.check and self.node in (None, row["node"]) and self.what in (None, row.get("what")) and
                row["verdict"] == self.verdict and all(w in said for w in self.words))

    def seen(self, bed, rows):
        """What was told, or None."""
        if self.ask:
            said = self.ask(bed) or ""
            return said if said and all(w in said for w in self.words) else None
        return next((f"{r['id']} {r['verdict']} {r['node']} {r.get('what') or ''}: {r.get('text')}" for r in rows
                     if self.is_row(r)), None)


class Fault:
    def __init__(self, id, title, bed, expect, inject, **more):
        self.id, self.title, self.bed, self.expect, self.inject = id, title, bed, expect, inject
        self.also = set(more.pop("also", ()))      # ids of checks that may fire, too (reason beside)
        self.spoils = more.pop("spoils", False)    # something stays: the bed is thrown away, healing is not looked at
        self.quiet = more.pop("quiet", 8.0)        # of negative classes
        self.clear = more.pop("clear", 15.0)       # seconds until it must be gone after healing
        self.alone = more.pop("alone", False)      # by itself on the machine
        self.short = more.pop("short", False)      # part of `make check`
        self.settle = more.pop("settle", 2.5)      # looks for others after it was seen: a round of the probe
        self.recorded = more.pop("recorded", None) # (bed, function): in place of a bed that is absent
        self.group = os.path.basename(inject.__code__.co_filename)[6:-3]
        assert not more, more

    def row(self):
        return self.expect.text() if self.expect else "silence"


def fault(id, title, bed="nodes", expect=None, **more):
    """Registers a class; see the top."""
    def add(f):
        assert id not in [x.id for x in FAULTS], id
        FAULTS.append(Fault(id, title, bed, expect, f, **more))
        return f
    return add


def bed_kind(name, real):
    """Registers a kind of bed. real: what is read is no recording. missing(): why it cannot be here, or None."""
    def add(cls):
        BEDS[name] = cls
        cls.name, cls.real = name, real
        return cls
    return add


class Sys(Tree):
    """A node's tree like sysfs's: a healthy NDR host to begin with. Removed files are as absent."""

    def healthy(self, number, ports=4):
        for i in range(ports):
            self.device(f"mlx5_{i}", i, **{"pkeys/0": "0xffff", "pkeys/1": "0x0000", "lid": hex(10 * number + i + 2)})
            self.counters(f"mlx5_{i}")

    def counter(self, device, **values):
        """Changes these counters alone."""
        for name, v in values.items():
            for folder in "counters", "hw_counters":
                path = f"class/infiniband/{device}/ports/1/{folder}/{name}"
                if os.path.exists(self.path(path)):
                    self.write(path, str(v))

    def dev(self, device, **files):
        for name, text in files.items():
            self.write(f"class/infiniband/{device}/{name}", text)

    def unit(self, name="opensm", running=True, enabled=True):
        """A subnet manager of this host, as systemd keeps it."""
        self.write(f"systemd/{name}.service", "[Unit]")
        self.write(f"fs/cgroup/system.slice/{name}.service/cgroup.procs", "4711" if running else "")
        if not running:
            with open(self.path(f"fs/cgroup/system.slice/{name}.service/cgroup.procs"), "w"):
                pass
        link = self.path(f"systemd/multi-user.target.wants/{name}.service")
        os.makedirs(os.path.dirname(link), exist_ok=True)
        if enabled and not os.path.islink(link):
            os.symlink(f"../{name}.service", link)
        elif not enabled and os.path.islink(link):
            os.unlink(link)

    def no_unit(self):
        for d in "systemd", "fs":
            shutil.rmtree(self.path(d), ignore_errors=True)


class Bed:
    """Real daemons of a cluster: a coordinator, and an agent with a probe for each node."""

    real = False
    nodes = ("a", "b", "c")

    @classmethod
    def missing(cls):
        need = [p for p in ("nodeagentd", "nodectl", "nodeagent-probe") if not os.path.exists(os.path.join(BUILD, p))]
        return f"{', '.join(need)} not built" if need else None

    def __init__(self):
        self.t0 = None
        self.site = self.make_site()
        try:
            if self.site.bin != BUILD:
                shutil.copy(os.path.join(BUILD, "nodeagent-probe"), self.site.bin)
            self.prepare()
            self.site.head(conf=self.head_conf())
            for n in self.nodes:
                self.site.join(n, self.site.token("--submit", "--uids", "1000-4000000000")).ok()
                self.start_agent(n)
            for n in self.nodes:
                wait_until(lambda n=n: self.site.state(n) in ("ok", "degraded"), 20 * SLOW, f"{n} is registered", 0.1)
            wait_until(self.is_read, 20 * SLOW, "all is read", 0.1)
        except BaseException:
            self.finish()
            raise

    # what beds differ in

    def make_site(self):
        return Site()

    def prepare(self):
        """Makes what nodes show, before daemons start."""

    def head_conf(self):
        return ""

    def agent_conf(self, node):
        return ""

    def agent_prefix(self, node):
        return ()

    def is_read(self):
        """Is there nothing any more that readings have yet to bring?"""
        return True

    def begin(self, fault):
        """A class is about to begin here."""

    def tidy(self):
        """Ends what is no process of the site's."""

    # for classes

    def mark(self):
        """The time of the injection, in place of that before the generator began."""
        self.t0 = time.monotonic()

    def start_agent(self, node):
        self.site.daemon(node, "--agent", "--dir", self.site.path(node), *self.site.conf_args(node, self.agent_conf(node)),
                         prefix=self.agent_prefix(node))
        self.site.via = self.nodes[-1] # the last one: classes try the first

    def restart_agent(self, node, change=lambda: None):
        """Ends an agent, changes something, and marks the time when it starts again."""
        self.site.stop_daemon(node)
        change()
        self.mark()
        self.start_agent(node)
        self.until(lambda: self.states().get(node) not in ("down", "unreachable"), "the agent is back")

    def restart_all(self, change):
        """Everybody anew, so that nothing is known of before; the time is marked when they start again."""
        for n in (*self.nodes, "head"):
            self.site.stop_daemon(n)
        change()
        self.mark()
        self.site.start_head(self.head_conf())
        for n in self.nodes:
            self.start_agent(n)
        self.until(lambda: all(self.states().get(n) in ("ok", "degraded") for n in self.nodes), "all are back")
        self.site.admin("resume", ",".join(self.nodes)).ok()  # how ports were before is kept on disk; this says that it is meant so

    def states(self):
        r = self.site.ctl("--json", "status")
        return {n["name"]: n["state"] for n in json.loads(r.out)["nodes"]} if r.code == 0 else {}

    def ctl(self, *args, **kw):
        return self.site.ctl(*args, **kw)

    def json(self, *args, **kw):
        return self.site.json(*args, **kw)

    def check(self, *args):
        r = self.site.ctl("--json", "check", *args, timeout=20)
        assert r.code in (0, 1), r
        return json.loads(r.out)["checks"]

    def reading(self, check, node, what=None):
        """What a check has read there, "" when there is none."""
        return next((r.get("reading") or "" for r in self.check(check, "-v") if (r["node"], r.get("what")) == (node, what)), "")

    def firing(self):
        return [r for r in self.check() if r["verdict"] in ("warn", "bad")]

    def port(self, node, device):
        """The row of a port in `nodectl ports`, {} when it is not there."""
        return next((p for p in self.json("ports")["ports"] if (p["node"], p["device"]) == (node, device)), {})

    def gpu(self, node, index):
        return next((g for g in self.json("gpus")["gpus"] if (g["node"], g["index"]) == (node, index)), {})

    def events(self, *args):
        return self.json("events", *args)["events"]

    def until(self, f, what, seconds=20):
        return wait_until(f, seconds * SLOW, what, 0.1)

    def finish(self):
        try:
            self.tidy()
        finally:
            left = self.site.finish()
            self.site.remove()
        return left


@bed_kind("nodes", real=False)
class Nodes(Bed):
    """Three nodes with four NDR ports and two GPUs each; what they are is a tree of files and a library without GPUs
    behind it, so all from the probe to nodectl is real, and what it reads is recorded."""

    gpus = 2

    @classmethod
    def missing(cls):
        lib = os.path.join(BUILD, "tests/fake/libnvml.so")
        return Bed.missing() or (None if os.path.exists(lib) else f"{lib} is not built: make diagnosis ONLY=ID,... builds what is needed")

    def prepare(self):
        self.trees, self.gpu_lines = {}, {}
        for i, n in enumerate(self.nodes):
            d = self.site.path(f"hw-{n}")
            os.mkdir(d)
            self.trees[n] = Sys(os.path.join(d, "sys"))
            self.trees[n].healthy(i)
            shutil.copy(os.path.join(BUILD, "tests/fake/libnvml.so"), d)
            with open(os.path.join(d, "kmsg"), "w"):
                pass
            self.nvml(n)

    def agent_conf(self, node):
        d = self.site.path(f"hw-{node}")
        return f"[agent]\nsysfs_root = {d}/sys\nnvml = {d}/libnvml.so\nkmsg = {d}/kmsg\n"

    def is_read(self):
        rows = self.check("-v")
        good = lambda id: [r["node"] for r in rows if r["id"] == id and r["verdict"] == "ok"]
        return all(good("gpu.temp").count(n) == self.gpus and good("ib.lid").count(n) == 4 and
                   good("ib.counters.symbol_error").count(n) == 4 and n in good("node.sources") for n in self.nodes)

    def sys(self, node):
        return self.trees[node]

    def nvml(self, node, *lines, count=None):
        """What NVIDIA's library shows there (tests/fake/nvml.c): healthy H100s and these lines, nothing of before.

        Number I of the library's is GPU count - 1 - I of ours.
        """
        count = self.gpus if count is None else count
        healthy = [x for i in range(count) for x in (f"name {i} H100 80GB HBM3", f"set {i} 18 links")]
        path = self.site.path(f"hw-{node}", "libnvml.so.conf")
        with open(path + "~", "w", encoding="ascii") as f:
            f.write("\n".join([f"count {count}", *healthy, *lines]) + "\n")
        os.replace(path + "~", path)

    def kmsg(self, node, text, level=4):
        """A line of the kernel's log."""
        self.seq = getattr(self, "seq", 0) + 1
        with open(self.site.path(f"hw-{node}", "kmsg"), "a", encoding="utf-8") as f:
            f.write(f"{level},{self.seq},{int(time.monotonic() * 1e6)},-;{text}\n")


# ---- one class ----------------------------------------------------------------------------------------------------


class Outcome:
    def __init__(self, fault, real):
        self.fault, self.real = fault, real
        self.seconds = self.seen = None
        self.others, self.problems = [], []

    @property
    def passed(self):
        return not self.problems

    def line(self):
        f = self.fault
        took = f"{self.seconds:.2f} s" if self.seconds is not None else "-"
        said = (self.seen or "nothing")[:150]
        lines = [f"{'ok  ' if self.passed else 'FAIL'} {f.id:<28} {'real' if self.real else 'recorded':<8} {took:>8}  "
                 f"expected {f.row()}; seen: {said}; others: {', '.join(self.others) or 'none'}"]
        return "\n".join(lines + [f"       {p}" for p in self.problems])


def key(row):
    return row["id"], row["node"], row.get("what") or ""


def say(k):
    return " ".join(x for x in k if x)


def standing(bed, fault, out):
    """What fires before. Of the host that runs this (its limits, disk, clock) some may: they are not ours."""
    rows = bed.firing()
    ours = [f"{say(key(r))}: {r.get('text')}" for r in rows if not r["id"].startswith("node.") or
            (fault.expect and r["id"] == fault.expect.check)]
    if ours:
        out.problems.append(f"fires before the injection: {'; '.join(ours)}")
    return {key(r) for r in rows}


def watch(bed, fault, out, before):
    """From the injection until it is seen, and a while longer."""
    e, others = fault.expect, {}
    end = bed.t0 + (max(e.within * SLOW, 1) + 10 if e else fault.quiet)
    while time.monotonic() < end:
        rows = bed.firing()
        said = e.seen(bed, rows) if e and out.seen is None else None
        now = time.monotonic()
        if said:
            out.seen, out.seconds = " ".join(said.split()), max(now - bed.t0 - getattr(bed, "asking_s", 0), 0)
            end = now + fault.settle
        for r in rows:
            if key(r) in before or r["id"] in fault.also or (e and e.is_row(r)):
                continue
            # the expected one may be worse or in other words on its way
            if e and not e.ask and r["id"] == e.check and (r["node"], r.get("what")) == (e.node or r["node"], e.what or r.get("what")) and not out.seen:
                continue
            others.setdefault(say(key(r)), r.get("text"))
        time.sleep(LOOK_S)
    out.others = list(others)
    if others:
        out.problems.append("others fire: " + "; ".join(f"{k}: {t}" for k, t in others.items()))
    if e and out.seen is None:
        now = "; ".join(f"{say(key(r))} {r['verdict']}: {r.get('text')}" for r in rows if key(r) not in before)
        out.problems.append(f"not seen: {e.text()} {e.words}; told instead: {now or 'nothing'}" +
                            (f"; asked: {e.ask(bed)}" if e.ask else ""))
    elif e and out.seconds > e.within * SLOW:
        out.problems.append(f"late: {out.seconds:.2f} s, the figure is {e.within:g} s")


def run_class(fault, bed):
    """The outcome; bed.well tells whether the bed can be used again."""
    out = Outcome(fault, bed.real)
    bed.well = False
    before = standing(bed, fault, out)
    g = fault.inject(bed)
    bed.mark()
    try:
        proof = next(g)
        if callable(proof):
            wait_until(proof, 20 * SLOW, "the injected reading has arrived", LOOK_S)
            if not fault.expect:
                bed.mark()
        watch(bed, fault, out, before)
        if next(g, "healed") != "healed":
            out.problems.append("the class yields twice")
    finally:
        g.close()
    if not fault.spoils:
        end = time.monotonic() + fault.clear * SLOW
        while ((left := {key(r) for r in bed.firing()} - before) or not bed.is_read()) and time.monotonic() < end:
            time.sleep(0.1)
        if left:
            out.problems.append(f"still fires {fault.clear:g} s after healing: {', '.join(map(say, left))}")
        bed.well = not left and bed.is_read()
    return out
