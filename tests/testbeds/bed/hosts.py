"""hosts.py - eight hosts in network namespaces, their daemons, and a supervisor that plays systemd

Everything happens inside namespaces of our own (violence.py makes them): pids, mounts and network. So every process
that can be seen here was started by the bed, and all of them end with it. Each host has a network namespace on one
bridge, a small tmpfs for its state, run directory and spool, and, where root starts jobs, a cgroup.
"""
import collections
import json
import os
import random
import subprocess
import threading
import time

LAUNCHER_HOSTS = 4  # h1..h4: a launcher, agents as 'games'; the others serve one user, without root
DISK_MIB = 24
AGENT, USER = (5, 60), (1, 1)  # games runs the daemons; daemon's are the jobs
PORT = 7411
CGROUPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
NODE_LOST_S = 30


def ip(*args):
    subprocess.run(["ip", *map(str, args)], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)


def as_user(who):
    return ["setpriv", f"--reuid={who[0]}", f"--regid={who[1]}", "--clear-groups"]


class Log:
    """Every fault and every action, with its time since the start."""

    def __init__(self, path):
        self.begin, self.f, self.lock = time.monotonic(), open(path, "a", buffering=1, encoding="utf-8"), threading.Lock()
        self.path = path

    def __call__(self, text):
        with self.lock:
            self.f.write(f"{time.monotonic() - self.begin:9.3f} {time.strftime('%H:%M:%S')} {text}\n")


class Daemon:
    """One program that is to run: its command, its process now, when it is started again."""

    def __init__(self, role, host, argv):
        self.role, self.host, self.argv = role, host, argv
        self.proc = self.due = None
        self.starts = 0
        self.wanted = True

    @property
    def name(self):
        return f"{self.role} {self.host.name}"


class Host:
    def __init__(self, bed, i):
        self.bed, self.i, self.name = bed, i, f"h{i}"
        self.addr, self.veth = f"10.213.0.{i}", f"v{i}"
        self.dir = bed.path(self.name)
        self.launcher = i <= LAUNCHER_HOSTS
        self.user = AGENT if self.launcher else USER
        self.inside = ["nsenter", f"--net=/run/netns/{self.name}"]
        self.netns = None

    def make(self):
        ip("netns", "add", self.name)
        ip("link", "add", self.veth, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", self.veth, "master", "br0", "up")
        ip("-n", self.name, "addr", "add", f"{self.addr}/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")
        ip("-n", self.name, "link", "set", "lo", "up")
        self.netns = os.stat(f"/run/netns/{self.name}").st_ino
        os.mkdir(self.dir)
        mount_disk(self.dir)
        for part in ("state", "run", *(() if self.launcher else ("spool",))):
            os.mkdir(f"{self.dir}/{part}", 0o755)
            os.chown(f"{self.dir}/{part}", *self.user)
        more = f"launcher = {self.dir}/launcher.sock\n" if self.launcher else "single_user = yes\n"
        self.conf = self.bed.write(f"{self.name}.conf", f"[agent]\nstate = {self.dir}/state\nrun = {self.dir}/run\n"
                                   f"spool = {self.dir}/spool\nuid_min = 1\nshim = {self.bed.bin}/nodeagent-shim\n{more}")

    @property
    def socket(self):
        return f"{self.dir}/run/agent.sock"

    def cgroup(self):
        """Puts what follows into a cgroup of this host's own: jobs have the same numbers everywhere."""
        path = self.bed.cgroup and f"{self.bed.cgroup}/{self.name}"
        if not path:
            return []
        os.makedirs(path, exist_ok=True)
        return ["sh", "-c", f'echo $$ >{path}/cgroup.procs; exec "$@"', "sh"]

    def join(self, token):
        path = self.bed.write(f"{self.name}.token", token + "\n", 0o600)
        os.chown(path, *self.user)
        self.bed.must(*self.inside, *as_user(self.user), f"{self.bed.bin}/nodeagentd", "join", self.bed.address, "--name",
                      self.name, "--dir", f"{self.dir}/state", "--token-file", path)

    def daemons(self):
        if self.launcher:
            yield Daemon("launcher", self, [*self.cgroup(), *self.inside, f"{self.bed.bin}/nodeagent-launcher", "--socket",
                                            f"{self.dir}/launcher.sock", "--spool", f"{self.dir}/spool", "--shim",
                                            f"{self.bed.bin}/nodeagent-shim", "--agent-user", "games", "--uid-min", "1",
                                            "--uid-max", "60000"])
        yield Daemon("agent", self, [*self.inside, *as_user(self.user), f"{self.bed.bin}/nodeagentd", "--agent", "--config",
                                     self.conf])

    # ---- faults of the network: each is taken back by heal()

    def cut(self):
        ip("link", "set", self.veth, "down")

    def cut_one_way(self, hook):
        """Nothing comes in ('input') or goes out ('output') any more; the other direction works."""
        self.nft(f"add table inet cut; add chain inet cut {hook} {{ type filter hook {hook} priority 0; }}; "
                 f"add rule inet cut {hook} {'iif' if hook == 'input' else 'oif'}name eth0 drop")

    def cut_from(self, other):
        """These two do not reach each other; all others reach both."""
        self.nft("add table inet cut; add chain inet cut pair { type filter hook input priority 0; }; "
                 f"add rule inet cut pair ip saddr {other.addr} drop")

    def heal(self):
        ip("link", "set", self.veth, "up")
        subprocess.run(["ip", "netns", "exec", self.name, "nft", "delete table inet cut"], capture_output=True, check=False)

    def nft(self, rules):
        subprocess.run(["ip", "netns", "exec", self.name, "nft", rules], check=True, capture_output=True, timeout=20)


def mount_disk(path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0755", "disk", path], check=True)


def fill(folder):
    """Until nothing more goes in; the file that took the room."""
    path = f"{folder}/.full"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for size in (1 << 20, 4096, 512, 64, 1):
            try:
                while os.write(fd, b"\0" * size) == size:
                    pass
            except OSError:
                pass
    finally:
        os.close(fd)
    return path


class Bed:
    """All hosts and daemons. start() makes a cluster of them as an administrator does."""

    def __init__(self, folder, build, n, seed, log):
        self.dir, self.build, self.n, self.log = folder, build, n, log
        self.rng = random.Random(seed + 1)  # delays of restarts; the faults have their own
        self.bin = self.path("bin")
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                    "ASAN_OPTIONS": "detect_leaks=0:exitcode=99:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
        self.hosts, self.all = [], []
        self.exits = collections.Counter()
        self.strange = []  # exits that no fault explains
        self.expected = {}  # pid: what the bed did to it
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.cgroup = None

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def find_cgroup(self):
        for top in CGROUPS:
            if os.path.exists(f"{top}/cgroup.procs"):
                path = f"{top}/nodeagent-bed-{os.path.basename(self.dir)}"
                try:
                    os.mkdir(path)
                    return path
                except OSError:
                    pass
        return None

    def start(self):
        os.chmod(self.dir, 0o755)
        os.mkdir(self.bin)
        for name in ("nodeagentd", "nodectl", "nodeagent-shim", "nodeagent-launcher", "nodeagent-probe"):
            subprocess.run(["cp", f"{self.build}/{name}", self.bin], check=name != "nodeagent-probe")
        os.mkdir(self.path("logs"))
        self.cgroup = self.find_cgroup()
        ip("link", "set", "lo", "up")
        ip("link", "add", "br0", "type", "bridge")
        ip("link", "set", "br0", "up")
        self.hosts = [Host(self, i + 1) for i in range(self.n)]
        for h in self.hosts:
            h.make()
        self.head()
        for h in self.hosts:
            h.join(self.token())
            for d in h.daemons():
                self.all.append(d)
                self.run(d)
        threading.Thread(target=self.supervise, daemon=True).start()

    def head(self):
        os.mkdir(self.path("head"))
        mount_disk(self.path("head"))
        os.chown(self.path("head"), *AGENT)
        h = self.hosts[0]
        self.address = f"{h.addr}:{PORT}"
        conf = self.write("head.conf", f"[coordinator]\nnode_lost_timeout = {NODE_LOST_S}s\n")
        base = [*h.inside, *as_user(AGENT), f"{self.bin}/nodeagentd"]
        self.must(*base, "init", "--dir", self.path("head"), "--listen", self.address)
        self.coordinator = Daemon("coordinator", h, [*base, "--coordinator", "--dir", self.path("head"), "--config", conf])
        self.all.append(self.coordinator)
        self.run(self.coordinator)

    def must(self, *argv):
        p = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, env=self.env, timeout=60, check=False)
        if p.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {p.stderr.decode('utf-8', 'replace')}")

    def token(self):
        end = time.monotonic() + 30
        while True:
            p = subprocess.run([*as_user(AGENT), f"{self.bin}/nodectl", "--json", "--socket", self.path("head/coordinator.sock"), "token", "create",
                                "--submit", "--uids", "1-60000"], capture_output=True, env=self.env, check=False, timeout=60)
            if p.returncode == 0:
                return json.loads(p.stdout)["token"]
            assert time.monotonic() < end, p.stderr
            time.sleep(0.1)

    # ---- the supervisor: starts again what has ended, after a while

    def run(self, d):
        with open(self.path("logs", f"{d.role}-{d.host.name}.log"), "ab") as out:
            d.proc = subprocess.Popen(d.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env)
        d.due = None
        d.starts += 1

    def supervise(self):
        while not self.over.wait(0.02):
            with self.lock:
                for d in self.all:
                    self.watch(d)

    def watch(self, d):
        if d.due is None:
            code = d.proc.poll()
            if code is None:
                return
            cause = self.expected.pop(d.proc.pid, None)
            self.exits[f"{d.role}: {code}"] += 1
            self.log(f"{d.name} has ended with {code}" + ("" if cause else ", by itself"))
            if cause is None:
                self.strange.append((time.monotonic(), d.name, code))
            d.due = time.monotonic() + self.rng.choice((0.05, 0.3, 1, 1, 2.5))
        if d.wanted and time.monotonic() >= d.due:
            self.run(d)
            self.log(f"{d.name} started again, pid {d.proc.pid}")

    def ctl(self, host, *args, timeout=40):
        p = subprocess.run([*as_user(USER), f"{self.bin}/nodectl", "--socket", host.socket, *map(str, args)],
                           stdin=subprocess.DEVNULL, capture_output=True, env=self.env, timeout=timeout, check=False)
        return p

    def stop(self):
        self.over.set()
        with self.lock:
            for d in self.all:
                d.wanted = False
                if d.proc.poll() is None:
                    self.expected[d.proc.pid] = "the end"
                    d.proc.terminate()
            for d in self.all:
                try:
                    d.proc.wait(20)
                except subprocess.TimeoutExpired:
                    d.proc.kill()
                    d.proc.wait()

    def remove_cgroups(self):
        if not self.cgroup:
            return
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                pass
