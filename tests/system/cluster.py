"""cluster.py - starts clusters of the real programs for the tests, by process id, and proves that nothing is left

Everything lives under one temporary directory. Every process we start carries
NA_TEST_MARK=<that directory> in its environment and hands it down to jobs,
so whoever is still alive afterwards is found, named and ended.
"""
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import shutil

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("NODEAGENT_BUILD") or "build-san")
NODECTL = os.path.join(BUILD, "nodectl")
NODEAGENTD = os.path.join(BUILD, "nodeagentd")
WORKER = os.path.join(BUILD, "worker-allreduce")
PYTHON = "/usr/bin/python3"
SANITIZED = "build-san" in BUILD
ROOT = os.geteuid() == 0
# times are stretched where the sanitisers make programs several times slower
SLOW = 3 if SANITIZED else 1
MARK = "NA_TEST_MARK"


def need(program):
    assert os.access(program, os.X_OK), f"{program} is not built (make SAN=1 all worker)"


def clean_env(mark, **more):
    """The test's own environment, made equal on every machine."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("PYTHON", "NODEAGENT", "SLURM", "PMI", "OMPI")) and k not in ("COLUMNS", "LD_PRELOAD")}
    env["ASAN_OPTIONS"] = "detect_leaks=1:abort_on_error=0:exitcode=99"
    env["UBSAN_OPTIONS"] = "print_stacktrace=1"
    env[MARK] = mark
    env.update(more)
    return env


def wait_until(f, seconds, what, step=0.02):
    """f() until it is true; its value. Fails with 'what' after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        value = f()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(step)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="latin1") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def kill(pid, sig=signal.SIGKILL):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def proc_text(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as f:
            return f.read()
    except OSError:
        return b""


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def make_immortal(pid):
    """A killed process stops short of its end until let_die(), as one in state D does. False: not allowed here."""
    return LIBC.ptrace(0x4206, pid, None, 0x40) == 0  # PTRACE_SEIZE, PTRACE_O_TRACEEXIT


def let_die(pid):
    LIBC.ptrace(17, pid, None, None)  # PTRACE_DETACH


def cmdline(pid):
    return proc_text(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()


def children(pid):
    out = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        stat = proc_text(p, "stat").decode("latin1")
        if stat and int(stat.rsplit(")", 1)[1].split()[1]) == pid:
            out.append(int(p))
    return sorted(out)


def holds(pid, text):
    """Has it a file open below such a path? A shim's environment and command line do not name its cluster."""
    try:
        return any(text in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def marked(text):
    """Live processes with this text in their environment, on their command line, or, if it is a
    path, in the names of their open files; except us and ours."""
    needle, out = os.fsencode(str(text)), []
    for p in filter(str.isdigit, os.listdir("/proc")):
        if int(p) == os.getpid() or not alive(p):
            continue
        if (needle in proc_text(p, "environ") or needle in proc_text(p, "cmdline")
                or cmdline(p).startswith("nodeagent-shim") and holds(p, str(text))):
            out.append(int(p))
    return sorted(out)


class Result:
    def __init__(self, args, code, out, err, seconds):
        self.args, self.code, self.stdout, self.stderr, self.seconds = args, code, out, err, seconds
        self.out = out.decode("utf-8", "surrogateescape")
        self.err = err.decode("utf-8", "surrogateescape")

    def __repr__(self):
        return (f"{' '.join(map(str, self.args))}\n  code {self.code} after {self.seconds:.2f} s\n"
                f"  stdout: {self.out[-1500:]!r}\n  stderr: {self.err[-1500:]!r}")

    def ok(self):
        assert self.code == 0, self
        return self

    def lines(self):
        return self.out.splitlines()

    def by_rank(self):
        """Labelled output as {rank: text without labels}."""
        got = {}
        for line in self.out.splitlines(keepends=True):
            m = re.match(r"\[([a-z0-9._-]+):(\d+)\] (.*)", line, re.S)
            assert m, f"line without a label: {line!r} in {self}"
            got.setdefault(int(m.group(2)), []).append(m.group(3))
        return {r: "".join(v) for r, v in got.items()}


class Base:
    """A directory, a mark, and nodectl against one socket."""

    def __init__(self):
        # short: a Unix socket's path has 107 bytes
        self.dir = tempfile.mkdtemp(prefix="na", dir="/tmp")
        self.env = clean_env(self.dir)
        self.procs = []

    def ctl_dir(self):
        return self.dir

    def args(self, *args):
        return [NODECTL, "--dir", self.ctl_dir(), *map(str, args)]

    def popen(self, *args, env=None, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        p = subprocess.Popen(self.args(*args), env=self.env if env is None else env, **kw)
        self.procs.append(p)
        return p

    def ctl(self, *args, timeout=60, input=None, env=None, **kw):
        start = time.monotonic()
        p = self.popen(*args, env=env, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL, **kw)
        try:
            out, err = p.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            out, err = p.communicate()
            raise AssertionError(f"nodectl did not return in {timeout} s: "
                                 f"{Result(p.args, None, out or b'', err or b'', timeout)}") from None
        return Result(p.args[1:], p.returncode, out or b"", err or b"", time.monotonic() - start)

    def launch(self, *args, **kw):
        return self.ctl("launch", *args, **kw)

    def json(self, *args, **kw):
        r = self.ctl("--json", *args, **kw).ok()
        return json.loads(r.out)

    def detach(self, *args, **kw):
        """Job number of a detached launch."""
        return int(self.json("launch", "--detach", *args, **kw)["job"])

    def job(self, job):
        return self.json("job", job)

    def wait_state(self, job, *states, seconds=30):
        def look():
            j = self.job(job)
            return j if j["state"] in states else None
        return wait_until(look, seconds, f"job {job} in state {' or '.join(states)}", 0.05)

    def wait_end(self, job, seconds=60):
        return self.wait_state(job, "done", "failed", "lost", seconds=seconds)

    def nodes_now(self):
        return {n["name"]: n for n in self.json("status")["nodes"]}

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def write(self, name, text, mode=0o644):
        p = self.path(name)
        with open(p, "wb" if isinstance(text, bytes) else "w") as f:
            f.write(text)
        os.chmod(p, mode)
        return p

    def end_clients(self):
        for p in self.procs:
            if p.poll() is None:
                p.kill()
            p.wait()
            for f in (p.stdin, p.stdout, p.stderr):
                if f:
                    f.close()

    def remains(self):
        return marked(self.dir)

    def finish(self):
        """Nothing of ours may be alive; what is, is ended and reported."""
        self.end_clients()
        end = time.monotonic() + 3
        while self.remains() and time.monotonic() < end:
            time.sleep(0.05)
        left = {p: cmdline(p) for p in self.remains()}
        end = time.monotonic() + 10
        while marked(self.dir):
            for p in marked(self.dir):
                left.setdefault(p, cmdline(p))
                kill(p)
            time.sleep(0.05)
            assert time.monotonic() < end, "cannot be killed: " + str({
                p: (cmdline(p), proc_text(p, "stat"), proc_text(p, "wchan")) for p in marked(self.dir)})
        return left

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def logs(self):
        out = []
        for folder, _, names in os.walk(self.dir):
            for name in sorted(names):
                if name.endswith(".log") or name == "log":
                    with open(os.path.join(folder, name), "rb") as f:
                        text = f.read().decode("utf-8", "replace")
                    out.append(f"---- {os.path.relpath(os.path.join(folder, name), self.dir)}\n" + text[-6000:])
        return "\n".join(out)


class Cluster(Base):
    """nodeagentd --standalone with n virtual nodes."""

    def __init__(self, n=1, args=(), env=None, build=None):
        super().__init__()
        self.n, self.extra, self.more_env = n, list(args), env or {}
        self.home = self.path("c")
        self.proc = self.address = None
        try:
            self.start()
        except BaseException:
            self.finish()
            self.remove()
            raise

    def ctl_dir(self):
        return self.home

    def start(self, seconds=15):
        need(NODEAGENTD)
        need(NODECTL)
        log = open(self.path("nodeagentd.log"), "ab")
        self.proc = subprocess.Popen([NODEAGENTD, "--standalone", "--virtual-nodes", str(self.n), "--dir", self.home,
                                      *self.extra], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                     env=dict(self.env, **self.more_env))
        log.close()
        line = read_line(self.proc.stdout, seconds)
        assert line and line.startswith("ready "), f"no ready line: {line!r}\n{self.logs()}"
        self.address = line.split()[1]
        self.names = sorted(self.nodes_now(), key=natural)
        assert len(self.names) == self.n
        return self

    def stop(self, sig=signal.SIGTERM, seconds=20):
        if self.proc is None:
            return None
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
            self.proc.wait(seconds)
        self.proc.stdout.close()
        return self.proc.returncode

    def role_pids(self):
        """{'coordinator': pid, node name: pid} of the daemons below the supervisor."""
        found = {}
        for p in children(self.proc.pid):
            words = cmdline(p)
            m = re.search(r"--state=\S*/nodes/([a-z0-9._-]+)", words)
            if "nodeagentd" not in words.split(" ")[0]:
                continue
            if m:
                found[m.group(1)] = p
            elif "--coordinator" in words:
                found["coordinator"] = p
        return found

    def agent_pid(self, node):
        return wait_until(lambda: self.role_pids().get(node), 5, f"agent of {node}")

    def finish(self):
        self.end_clients()
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        return super().finish()


class Site(Base):
    """A cluster as an administrator makes it: init, tokens, join, each daemon by itself.

    DIR/head is the coordinator's directory, DIR/NAME a node's. Requests go
    through the socket of one node ('via'), the first one made.

    No node may speak for root on other nodes, so a test that runs as root makes
    the cluster as an ordinary user, with copies of the programs that this user
    can surely reach.
    """

    def __init__(self):
        super().__init__()
        self.daemons = {}
        self.address = None
        self.via = None
        self.uid = 65534 if ROOT else os.getuid()
        self.drop = ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups"] if ROOT else []
        self.bin = BUILD
        if ROOT:
            self.bin = self.path("bin")
            os.mkdir(self.bin)
            for name in ("nodeagentd", "nodectl", "nodeagent-shim", "worker-allreduce"):
                shutil.copy(os.path.join(BUILD, name), self.bin)
            os.chown(self.dir, self.uid, self.uid)
        self.nodeagentd, self.nodectl, self.worker = (os.path.join(self.bin, n) for n in
                                                      ("nodeagentd", "nodectl", "worker-allreduce"))

    def write(self, name, text, mode=0o644):
        path = super().write(name, text, mode)
        if ROOT:
            os.chown(path, self.uid, self.uid)
        return path

    def args(self, *args):
        return [*self.drop, self.nodectl, "--socket", self.socket(self.via), *map(str, args)]

    def socket(self, node):
        return self.path(node, "run", "agent.sock")

    def run(self, *args, input=None, timeout=30, prefix=(), env=None):
        """Any program to its end, as the cluster's user."""
        start = time.monotonic()
        feed = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        p = subprocess.run([*prefix, *self.drop, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=env or self.env, timeout=timeout, **feed)
        return Result(args, p.returncode, p.stdout, p.stderr, time.monotonic() - start)

    def daemon(self, name, *args, prefix=(), env=None):
        log = open(self.path(f"{name}.log"), "ab")
        p = subprocess.Popen([*prefix, *self.drop, self.nodeagentd, *map(str, args)], stdin=subprocess.DEVNULL, stdout=log,
                             stderr=log, env=env or self.env)
        log.close()
        self.daemons[name] = p
        self.procs.append(p)
        return p

    def conf(self, name, text):
        return self.write(f"{name}.conf", text)

    # the head

    def head(self, host="127.0.0.1", port=None, conf="", prefix=()):
        """init and the coordinator."""
        self.port = port or free_port()
        self.address = f"{host}:{self.port}"
        self.run(self.nodeagentd, "init", "--dir", self.path("head"), "--listen", self.address, prefix=prefix).ok()
        self.start_head(conf, prefix)

    def start_head(self, conf="", prefix=()):
        self.daemon("head", "--coordinator", "--dir", self.path("head"), *self.conf_args("head", conf), prefix=prefix)
        wait_until(lambda: self.admin("token", "create").code == 0, 10 * SLOW, "the coordinator's socket answers", 0.1)

    def conf_args(self, name, text):
        return ["--config", self.conf(name, text)] if text else []

    def admin(self, *args, prefix=()):
        """nodectl on the coordinator's own socket."""
        return self.run(self.nodectl, "--socket", self.path("head", "coordinator.sock"), *args, prefix=prefix)

    def token(self, *options):
        r = self.admin("--json", "token", "create", *options).ok()
        return json.loads(r.out)["token"]

    # nodes

    def join(self, name, token, *options, address=None, prefix=(), dir=None):
        path = self.write("token", token + "\n", 0o600)
        return self.run(self.nodeagentd, "join", address or self.address, "--name", name, "--dir", dir or self.path(name),
                        "--token-file", path, *options, prefix=prefix)

    def agent(self, name, conf="", prefix=(), seconds=10):
        p = self.daemon(name, "--agent", "--dir", self.path(name), *self.conf_args(name, conf), prefix=prefix)
        self.via = self.via or name
        wait_until(lambda: self.state(name) == "ok", seconds * SLOW, f"{name} is registered", 0.1)
        return p

    def node(self, name, conf="", prefix=(), submit=True):
        self.join(name, self.token(*(["--submit", "--uids", "1000-4000000000"] if submit else [])), prefix=prefix).ok()
        return self.agent(name, conf, prefix)

    def state(self, name):
        r = self.ctl("--json", "status")
        if r.code:
            return None
        return {n["name"]: n["state"] for n in json.loads(r.out)["nodes"]}.get(name)

    def stop_daemon(self, name, sig=signal.SIGTERM, seconds=15):
        p = self.daemons.pop(name)
        if p.poll() is None:
            kill(p.pid, signal.SIGCONT)
            p.send_signal(sig)
        return p.wait(seconds)

    def finish(self):
        """Jobs of real agents outlive them by design, so they are ended first."""
        for p in self.daemons.values():
            kill(p.pid, signal.SIGCONT)
        if self.via and "head" in self.daemons:
            try:
                for j in self.json("jobs", timeout=20)["jobs"]:
                    self.ctl("kill", j["job"], "--grace", "0s", timeout=20)
                    self.wait_end(j["job"], 20)
            except (AssertionError, KeyError, ValueError):
                pass
        for name in sorted(self.daemons, key=lambda n: n == "head"):
            try:
                self.stop_daemon(name)
            except subprocess.TimeoutExpired:
                pass
        for p in marked(self.dir):  # a shim whose agent has gone waits for the next one, by design
            if cmdline(p).startswith("nodeagent-shim") and not children(p):
                kill(p)
        return super().finish()


def natural(name):
    return [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", name)]


def read_line(f, seconds):
    """One line of an unbuffered pipe, or None at its end or after so many seconds."""
    import select
    got = b""
    end = time.monotonic() + seconds
    while b"\n" not in got:
        left = end - time.monotonic()
        if left <= 0 or not select.select([f], [], [], left)[0]:
            return None
        piece = os.read(f.fileno(), 4096)
        if not piece:
            return None
        got += piece
    return got.decode().split("\n")[0]


class Reader:
    """Reads a pipe in a thread: text so far, and when each piece came."""

    def __init__(self, f):
        import threading
        self.data, self.times = b"", []
        self.thread = threading.Thread(target=self.run, args=(f,), daemon=True)
        self.thread.start()

    def run(self, f):
        while True:
            try:
                piece = os.read(f.fileno(), 65536)
            except (OSError, ValueError):
                return
            if not piece:
                return
            self.times.append((time.monotonic(), len(self.data)))
            self.data += piece

    def wait(self, pattern, seconds=10):
        pattern = pattern.encode() if isinstance(pattern, str) else pattern
        return wait_until(lambda: re.search(pattern, self.data), seconds, f"{pattern!r} in {self.data[-2000:]!r}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
