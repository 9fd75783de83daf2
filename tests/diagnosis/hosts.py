"""hosts.py - beds whose nodes are hosts of their own: network namespaces on a bridge, each with its own mounts and boot id

Real are processes, network, file systems and what the daemons do with them; all hosts have one kernel, and their
InfiniBand is a tree of files. Bed "hosts-fed" is the same one, for classes whose fault is fed in: a line of a kernel's
log, a recorded log of NCCL, a clock or a limit that tests/fake/host.c tells (nobody can set the clock of one namespace).
"""
import contextlib
import itertools
import os
import shutil
import subprocess
import time

from bed import BUILD, SLOW, Bed, Nodes, Site, bed_kind, wait_until
from cluster import PYTHON, ROOT, alive
from test_netns import Hosts, ip

COUNT = itertools.count()
FAKE_HOST = os.path.join(BUILD, "tests/fake/libhost.so")
HERE = os.path.dirname(os.path.abspath(__file__))


class Namespaces(Hosts):
    """As in the tests; several of them in one process."""

    def __init__(self, n):
        super().__init__(n)
        self.tag = f"d{os.getpid() % 100000}{chr(ord('a') + next(COUNT) % 26)}"
        self.bridge = f"{self.tag}b"


class HostSite(Site):
    """Each daemon on the host of its node; the coordinator on the first one's."""

    def __init__(self, hosts, nodes):
        super().__init__()
        self.hosts, self.numbers = hosts, {n: i + 1 for i, n in enumerate(nodes)}

    def on(self, node):
        return self.hosts.on(self.numbers[node])

    def head(self, conf=""):
        super().head(host=self.hosts.addr(1), port=7411, conf=conf, prefix=self.hosts.on(1))

    def join(self, name, token, *options, **kw):
        return super().join(name, token, *options, **{"prefix": self.on(name), **kw})


class Jobs:
    """What classes do with jobs: self.job is the one they look at."""

    job = None

    def start(self, *command, nodes=3, options=(), env=None):
        args = ["-N", nodes] if isinstance(nodes, int) else ["-w", nodes]
        self.job = self.site.detach(*args, "-G", 0, *options, "--", *command, **({"env": dict(self.site.env, **env)} if env else {}))
        return self.job

    def start_python(self, text, **kw):
        return self.start(PYTHON, self.script(text), **kw)

    def script(self, text):
        """A file with this program; rank and DIR, a folder of the job's, are there."""
        d = self.site.path(f"job{time.monotonic_ns()}")
        os.mkdir(d)
        os.chmod(d, 0o777)
        head = f"import os, sys, time, signal\nrank = int(os.environ['RANK'])\nDIR = {d!r}\n"
        self.dir = d
        return self.site.write(os.path.join(d, "rank.py"), head + text)

    def go(self):
        """What ranks wait for: while not os.path.exists(DIR + '/go')"""
        with open(os.path.join(self.dir, "go"), "w", encoding="ascii"):
            pass

    def running(self):
        return self.site.wait_state(self.job, "running", seconds=20 * SLOW)

    def pid(self, rank):
        return next(r["pid"] for r in self.site.job(self.job)["ranks"] if r["rank"] == rank)

    def why(self):
        """As one line: the paragraph, what was seen, what to do."""
        w = self.json("why", self.job)
        return " | ".join([w["verdict"], *(f["text"] for f in w["seen"]), *w["unknown"], *w["do"]])

    def over(self):
        """`why` of a job that is over."""
        return self.why() if self.site.job(self.job)["state"] in ("done", "failed", "lost") else None

    def hang(self):
        """What the job's page says of it, and `why` too."""
        j = self.site.job(self.job)
        return f"{j['phase']}: {j['hang']}; {j['hang_fix']}; why: {self.json('why', self.job)['verdict']}" if j["hang"] else None

    def phase(self):
        j = self.site.job(self.job)
        return f"{j['phase']}: {j['phase_note']}"

    def no_hang(self):
        """It was never said to hang."""
        j = self.site.job(self.job)
        said = [m["text"] for m in j["story"] if "hang" in m["text"]]
        assert not said and j["hang"] is None, said or j["hang"]
        return j

    def end_job(self):
        if self.job is not None:
            self.ctl("kill", self.job, "--grace", "0s")
            self.site.wait_end(self.job, 20 * SLOW)
        self.job = None


class HostsBed(Jobs, Nodes):
    """Hosts a, b, c. Each has a /dev/shm of its own, of 1.1 GiB, and an empty file system at /mnt."""

    fed = False

    @classmethod
    def missing(cls):
        if not ROOT:
            return "namespaces need root"
        tools = [t for t in ("ip", "nsenter", "mount", "nft", "mkfs.ext4") if not shutil.which(t)]
        if tools:
            return f"{', '.join(tools)} not installed"
        return Nodes.missing() or (None if os.path.exists(FAKE_HOST) else f"{FAKE_HOST} is not built: make diagnosis ONLY=ID,... builds what is needed")

    def make_site(self):
        self.hosts = Namespaces(len(self.nodes)).__enter__()
        return HostSite(self.hosts, self.nodes)

    def __init__(self):
        self.own = []
        super().__init__()

    def prepare(self):
        os.chmod(self.site.dir, 0o755)
        super().prepare()
        if self.fed:
            self.preload_probe()
        for n in self.nodes:
            os.mkdir(self.site.path(f"{n}.host"))
            self.fake_host(n, memlock=-1, nofile=1048576, clock_ms=0)
            self.new_boot(n)

    def preload_probe(self):
        """It starts with an empty environment."""
        shutil.copy(FAKE_HOST, self.site.path("libhost.so"))
        real = os.path.join(self.site.bin, "probe.real")
        os.rename(os.path.join(self.site.bin, "nodeagent-probe"), real)
        self.site.write("bin/nodeagent-probe", "#!/bin/sh\nNA_FAKE_HOST=$(cat /mnt/fake-host) "
                        f"LD_PRELOAD={self.site.path('libhost.so')} exec {real} \"$@\"\n", 0o755)

    def new_boot(self, node):
        import uuid
        self.site.write(f"{node}.host/boot_id", str(uuid.uuid4()) + "\n")

    def fake_host(self, node, **values):
        """What tests/fake/host.c tells there: memlock and nofile in bytes and files, clock_ms ahead."""
        for name, v in values.items():
            path = self.site.path(f"{node}.host", name)
            self.site.write(path + "~", str(v))
            os.replace(path + "~", path)

    def agent_prefix(self, node):
        d = self.site.path(f"{node}.host")
        make = (f"mount --bind {d}/boot_id /proc/sys/kernel/random/boot_id && mount -t tmpfs -o size=1100m,mode=1777 tmpfs /dev/shm"
                f" && mount -t tmpfs -o size=1m tmpfs /mnt && echo {d} >/mnt/fake-host; exec \"$@\"")
        fake = ["env", f"NA_FAKE_HOST={d}", f"LD_PRELOAD={self.site.path('libhost.so')}"] if self.fed else []
        return [*self.site.on(node), *fake, "sh", "-c", make, "sh"]

    def is_read(self):
        mine = {n["name"] for n in self.json("status")["nodes"]} - set(self.nodes)
        for n in mine: # of the head's own host, which has no agent here
            self.site.admin("node-remove", n).ok()
        return super().is_read()

    def inside(self, node, *command, **kw):
        """Runs on that host, as root."""
        kw.setdefault("check", True)
        return subprocess.run(["nsenter", "-t", str(self.site.daemons[node].pid), "-m", "-n", *map(str, command)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, **kw)

    def within(self, node, *command):
        """A process there that goes on, ended with the bed."""
        p = subprocess.Popen(["nsenter", "-t", str(self.site.daemons[node].pid), "-m", "-n", *map(str, command)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.own.append(p)
        return p

    def number(self, node):
        return self.site.numbers[node]

    def address(self, node):
        return self.hosts.addr(self.number(node))

    def end_own(self):
        for p in self.own:
            if p.poll() is None:
                p.kill()
            p.wait()
            p.stdout.close()
        self.own = []

    def tidy(self):
        self.end_own() # nobody may be stuck in them any more
        self.end_job()

    def finish(self):
        try:
            return super().finish()
        finally:
            self.hosts.__exit__()


@bed_kind("hosts", real=True)
class Real(HostsBed):
    """Faults that are real there."""


@bed_kind("hosts-fed", real=False)
class Fed(HostsBed):
    """Faults that are fed in there."""

    fed = True


def memory_cgroup():
    """A folder below which cgroups with a limit of memory can be made, and the name of the limit; None: there is none."""
    for top, limit in ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"):
        d = os.path.join(top, f"na-diagnosis-{os.getpid()}")
        try:
            os.mkdir(d)
            there = os.path.exists(os.path.join(d, limit))
            os.rmdir(d)
        except OSError:
            continue
        if there:
            return top, limit
    return None


@bed_kind("memory", real=True)
class Memory(HostsBed):
    """Where the kernel limits memory of cgroups."""

    @classmethod
    def missing(cls):
        return HostsBed.missing() or (None if memory_cgroup() else "no cgroup with a limit of memory can be made")

    @contextlib.contextmanager
    def limited(self, pid, mib):
        top, limit = memory_cgroup()
        d = os.path.join(top, f"na-diagnosis-{os.getpid()}")
        os.mkdir(d)
        try:
            for name, text in (limit, mib << 20), ("cgroup.procs", pid):
                with open(os.path.join(d, name), "w", encoding="ascii") as f:
                    f.write(str(text))
            yield
        finally:
            wait_until(lambda: not alive(pid), 20, f"pid {pid} ends")
            time.sleep(0.1)
            os.rmdir(d)


@bed_kind("plain", real=False)
class Plain(Jobs, Nodes):
    """Where there is no root: jobs of nodes that share this host."""

    def tidy(self):
        self.end_job()
