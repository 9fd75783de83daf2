"""The real nodeagent-shim, driven over its socket as an agent would."""
import base64
import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("NODEAGENT_BUILD") or "build-san")
SHIM = os.path.join(BUILD, "nodeagent-shim")
PATH = "/usr/local/bin:/usr/bin:/bin"
PYTHON = "/usr/bin/python3"
ROOT = os.geteuid() == 0

pytestmark = pytest.mark.skipif(not os.path.exists(SHIM), reason="nodeagent-shim is not built")


def wait_for(what, timeout=10.0):
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it left by itself


def processes_with(needle):
    """Live processes with this text in their environment, as they were started."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{p}/environ", "rb") as f:
                inside = needle in f.read()
            with open(f"/proc/{p}/stat", "rb") as f:
                state = f.read().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if inside and state != b"Z":
            found.append(int(p))
    return found


class Shim:
    """A shim with its descriptors: all its files, as from the launcher, or the spool's directory, as from an agent."""

    def __init__(self, nprocs=1, agent_uid=None, fds=None, spool=False):
        self.n = nprocs
        self.spool = spool
        self.dir = tempfile.mkdtemp(prefix="shim.")
        os.chmod(self.dir, 0o755)
        self.cookie = os.urandom(12).hex()
        self.path = os.path.join(self.dir, "s")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.env = {"NODEAGENT_COOKIE": self.cookie}
        if agent_uid is not None:
            self.env["NODEAGENT_AGENT_UID"] = str(agent_uid)
        self.given = fds or {}
        self.pid = None
        self.rc = None
        self.link = None
        self.links = []

    def file(self, name):
        return os.path.join(self.dir, name)

    def _open(self, number, name, append=True):
        if number in self.given:
            return os.dup(self.given[number])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | (os.O_APPEND if append else 0)
        return os.open(self.file(name), flags, 0o640)

    def start(self, argv, env=None, cwd="/", raw_spec=None):
        memfd = os.memfd_create("spec", os.MFD_ALLOW_SEALING)
        os.write(memfd, wire.spec(cwd, argv, {"PATH": PATH, **(env or {})}) if raw_spec is None else raw_spec)
        fds = {3: memfd, 4: os.dup(self.listener.fileno())}
        if self.spool:
            fds[7] = os.open(self.dir, os.O_RDONLY)
        else:
            fds.update({5: self._open(5, "status", append=False), 6: self._open(6, "stamps")})
        for i in range(0 if self.spool else 2 * self.n):
            fds[10 + i] = self._open(10 + i, f"{i // 2}.{'err' if i % 2 else 'out'}")
        high = 20 + 2 * self.n + max(fds.values())  # above every source and target
        actions = [(os.POSIX_SPAWN_DUP2, fd, high + i) for i, fd in enumerate(fds.values())]
        actions += [(os.POSIX_SPAWN_DUP2, high + i, number) for i, number in enumerate(fds)]
        self.pid = os.posix_spawn(SHIM, [SHIM, "12", "3", str(self.n)], self.env, file_actions=actions)
        for fd in fds.values():
            os.close(fd)
        return self

    def connect(self):
        self.link = wire.Link.connect(self.path)
        self.links.append(self.link)
        hello = self.link.recv(20)
        assert hello["t"] == "shim_hello"
        return hello

    def setup(self, **over):
        fields = dict(rank_base=0, nprocs=self.n, world=self.n, node_rank=0, nnodes=1,
                      grace_ms=20000, node="gpu02")
        self.link.send("shim_setup", **{**fields, **over})
        return self.link.expect("shim_ready", 20)

    def go(self, **over):
        self.link.send("shim_go", **{"master_addr": "127.0.0.1", "master_port": 20000, **over})

    def begin(self, argv, env=None, cwd="/", **over):
        """From nothing to running ranks; returns the first ranks message."""
        self.start(argv, env, cwd)
        self.connect()
        assert self.setup(**over)["ok"]
        self.go()
        return self.link.expect("ranks", 20)

    def end(self, grace_ms):
        self.link.send("shim_end", grace_ms=grace_ms)

    def ended(self, timeout=30):
        return self.link.expect("shim_ended", timeout)

    def bye(self, **over):
        self.link.send("shim_bye", **over)
        return self.wait()

    def wait(self, timeout=20):
        end = time.monotonic() + timeout
        while self.rc is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.rc = os.waitstatus_to_exitcode(status)
            else:
                assert time.monotonic() < end, "the shim does not leave"
                time.sleep(0.005)
        return self.rc

    def out(self, rank=0, kind="out"):
        with open(self.file(f"{rank}.{kind}"), "rb") as f:
            return f.read()

    def err(self, rank=0):
        return self.out(rank, "err")

    def status(self):
        """Written when the agent is away, or has not settled the end for a second."""
        wait_for(lambda: os.path.exists(self.file("status")) and os.path.getsize(self.file("status")) > 0)
        with open(self.file("status"), "rb") as f:
            return json.loads(f.read())

    def left(self):
        """Processes of the job that live, the shim not counted."""
        return [p for p in processes_with(self.cookie.encode()) if p != self.pid]

    def finish(self):
        for link in self.links:
            link.close()
        if self.pid and self.rc is None:
            kill(self.pid)
            self.wait()
        for pid in self.left():
            kill(pid)
        self.listener.close()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture
def shim():
    made = []

    def make(*a, **kw):
        made.append(Shim(*a, **kw))
        return made[-1]

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield make
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for s in made:
        s.finish()


def sh(script):
    return ["sh", "-c", script]


def py(script):
    return [PYTHON, "-c", script]


def rank(message, n=0):
    return next(r for r in message["ranks"] if r["rank"] == n)


# ---- the check ------------------------------------------------------------


def test_a_good_job_is_ready(shim):
    s = shim().start(["true"])
    hello = s.connect()
    assert (hello["phase"], hello["job"], hello["attempt"], hello["proto"]) == ("setup", "12", 3, 2)
    assert hello["pid"] == s.pid
    with open(f"/proc/{s.pid}/stat") as f:
        assert hello["start_time"] == f.read().rpartition(")")[2].split()[19]
    assert s.setup()["ok"]
    assert s.bye() == 0


def script(directory, name, text, mode=0o755):
    path = os.path.join(directory, name)
    with open(path, "w", newline="") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


@pytest.mark.parametrize("what, code, words", [
    ("no-cwd", 1, ["cwd /no/such/place does not exist"]),
    ("file-cwd", 1, ["is not a directory"]),
    ("no-command", 127, ["command 'no-such-command' not found on the node, in ", "(PATH=/usr/local/bin:/usr/bin:/bin)"]),
    ("no-path", 127, ["command './none' not found"]),
    ("not-executable", 126, ["is not executable for uid"]),
    ("directory", 126, ["is a directory"]),
    ("no-interpreter", 127, ["interpreter '/opt/none/python'", "does not exist"]),
    ("dos-script", 127, ["CR LF", "'/bin/sh'"]),
    ("bad-spec", 1, []),
])
def test_what_cannot_run_is_refused_with_a_sentence(shim, what, code, words):
    s = shim()
    d = s.dir
    args = {
        "no-cwd": dict(argv=["true"], cwd="/no/such/place"),
        "file-cwd": dict(argv=["true"], cwd="/etc/passwd"),
        "no-command": dict(argv=["no-such-command"]),
        "no-path": dict(argv=["./none"]),
        "not-executable": dict(argv=["tool"], cwd=d, env={"PATH": f"/none:{d}"}),
        "directory": dict(argv=[d]),
        "no-interpreter": dict(argv=["./tool"], cwd=d),
        "dos-script": dict(argv=["./tool"], cwd=d),
        "bad-spec": dict(argv=["true"], raw_spec=b"NASPEC1\nnot one"),
    }[what]
    text = {"no-interpreter": "#!/opt/none/python -u\n", "dos-script": "#!/bin/sh\r\n"}.get(what, "x")
    script(d, "tool", text, 0o644 if what == "not-executable" else 0o755)
    s.start(**args)
    s.connect()
    ready = s.setup()
    assert not ready["ok"] and ready["code"] == code, ready
    assert all(w in ready["text"] for w in words), ready
    assert "\n" not in ready["text"]
    again = s.connect()
    assert again["phase"] == "failed" and again["text"] == ready["text"]
    assert s.link.expect("shim_ready") == ready  # the code, too
    s.go()
    assert s.bye() == 0
    assert s.out() == b""


def test_a_script_without_an_interpreter_line_is_run_by_sh(shim):
    s = shim()
    script(s.dir, "tool", "echo plain $1\n")
    s.begin(["./tool", "arg"], cwd=s.dir)
    s.ended()
    assert s.out() == b"plain arg\n"


def test_a_relative_command_is_found_from_cwd(shim):
    s = shim()
    script(s.dir, "tool", "#!/bin/sh\npwd\n")
    s.begin(["tool"], cwd=s.dir, env={"PATH": "/none::"})  # an empty entry is the cwd
    s.ended()
    assert s.out().decode() == s.dir + "\n"


# ---- ranks ----------------------------------------------------------------


def test_output_is_exact_and_the_streams_are_apart(shim):
    s = shim(2)
    s.begin(py(
        "import os,random\n"
        "r=random.Random(int(os.environ['RANK']))\n"
        "for i in range(300):\n"
        "  os.write(1, r.randbytes(r.choice((1,80,4096,70000))))\n"
        "  os.write(2, b'e%d\\n' % i)\n"))
    message = s.ended()
    import random
    for n in range(2):
        r = random.Random(n)
        assert s.out(n) == b"".join(r.randbytes(r.choice((1, 80, 4096, 70000))) for _ in range(300))
        assert s.err(n) == b"".join(b"e%d\n" % i for i in range(300))
        assert rank(message, n)["code"] == 0
    offsets = {}
    with open(s.file("stamps")) as f:
        for line in f:
            wall, who, fd, offset = map(int, line.split())
            assert abs(wall - time.time() * 1000) < 600000
            assert offset > offsets.get((who, fd), -1)
            offsets[who, fd] = offset
    assert set(offsets) == {(0, 1), (0, 2), (1, 1), (1, 2)}


@pytest.mark.parametrize("what, state, value", [
    ("exit 0", "exited", 0), ("exit 7", "exited", 7), ("exit 255", "exited", 255),
    ("kill -SEGV $$", "killed", signal.SIGSEGV), ("kill -KILL $$", "killed", signal.SIGKILL),
    ("kill -TERM $$", "killed", signal.SIGTERM),
])
def test_exit_codes_and_signals_are_told_as_they_are(shim, what, state, value):
    s = shim()
    s.begin(sh("ulimit -c 0; echo last words >&2; " + what))
    r = rank(s.ended())
    assert r["state"] == state and r["code" if state == "exited" else "sig"] == value
    assert "ours" not in r
    assert 0 <= int(r["end_wall_ms"]) - int(r["start_wall_ms"]) < 20000
    assert ("tail" in r) == (value != 0)
    if value:
        assert base64.b64decode(r["tail"]) == b"last words\n"
    assert s.status() == {"t": "shim_ended", "ranks": [r]}
    assert s.bye() == 0


def test_the_tail_is_the_last_ten_lines_of_stderr(shim):
    s = shim()
    s.begin(sh("echo out; for i in $(seq 2000); do echo line $i >&2; done; exit 1"))
    tail = base64.b64decode(rank(s.ended())["tail"])
    assert tail == b"".join(b"line %d\n" % i for i in range(1991, 2001))


def test_a_rank_has_three_descriptors_default_signals_and_its_own_session(shim):
    s = shim()
    resource_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    s.begin([PYTHON, "-c",
             "import os,resource,json;print(json.dumps([sorted(map(int,os.listdir('/proc/self/fd')))[:-1],"
             "os.getsid(0)==os.getpid()==os.getpgrp(),resource.getrlimit(7),"
             "[l.split()[1] for l in open('/proc/self/status') if l[:6] in('SigBlk','SigPnd','ShdPnd')],"
             "os.readlink('/proc/self/fd/0'),os.getppid(),os.environ['NODEAGENT_COOKIE']]))"])
    s.ended()
    fds, session, nofile, signals, stdin, parent, cookie = json.loads(s.out())
    assert fds == [0, 1, 2] and session and stdin == "/dev/null"
    assert tuple(nofile) == resource_limit
    assert all(int(x, 16) == 0 for x in signals)
    assert parent == s.pid and cookie == s.cookie
    s = shim()
    s.begin(["cat", "/proc/self/status"])  # python ignores SIGPIPE by itself
    s.ended()
    ignored = int(s.out().partition(b"SigIgn:\t")[2].split()[0], 16)
    assert ignored & ~(3 << 31) == 0  # 32 and 33: the C library's own, as our posix_spawn leaves them


def test_go_twice_starts_once(shim):
    s = shim()
    first = s.begin(sh("echo started; sleep 0.3"))
    s.go()
    again = s.link.expect("ranks")
    assert rank(again)["pid"] == rank(first)["pid"]
    s.connect()
    s.go()
    s.ended()
    s.go()
    assert rank(s.link.expect("ranks"))["state"] == "exited"
    assert s.out() == b"started\n"


def test_a_failing_rank_leaves_the_others_running(shim):
    s = shim(3)
    s.begin(sh("[ $RANK = 1 ] && exit 3; exec sleep 1000"), rank_base=0)
    m = s.link.expect("ranks")
    assert [(r["rank"], r["code"]) for r in m["ranks"]] == [(1, 3)]
    time.sleep(0.3)
    assert len(s.left()) == 2
    s.end(5000)
    m = s.ended()
    assert [rank(m, i).get("ours") for i in range(3)] == [True, None, True]


def test_global_ranks_and_the_environment_reach_the_ranks(shim):
    s = shim(2)
    s.start(["env"], {"WORLD_SIZE": "stale", "NCCL_DEBUG": "INFO"})
    s.connect()
    s.setup(rank_base=6, world=8, node_rank=3, nnodes=4)
    s.go(master_addr="10.0.0.9", master_port=20017, ifname="ib0", ras=["127.0.0.1:1", "127.0.0.1:2"])
    m = s.ended()
    assert [r["rank"] for r in m["ranks"]] == [6, 7]
    env = dict(line.split("=", 1) for line in s.out(1).decode().splitlines())
    assert (env["RANK"], env["LOCAL_RANK"], env["WORLD_SIZE"], env["NODE_RANK"]) == ("7", "1", "8", "3")
    assert (env["MASTER_ADDR"], env["MASTER_PORT"], env["NCCL_SOCKET_IFNAME"]) == ("10.0.0.9", "20017", "ib0")
    assert env["NCCL_RAS_ADDR"] == "127.0.0.1:2" and env["NCCL_DEBUG"] == "INFO"
    assert env["NODEAGENT_COOKIE"] == s.cookie and "NODEAGENT_AGENT_UID" not in env


def test_256_ranks(shim):
    s = shim(256)
    t = time.monotonic()
    s.begin(sh("echo out $RANK; echo err $RANK >&2; exit $((RANK % 3))"))
    m = s.ended(120)
    print(f"256 ranks in {time.monotonic() - t:.2f} s")
    assert [r["code"] for r in m["ranks"]] == [i % 3 for i in range(256)]
    assert sum("tail" in r for r in m["ranks"]) == 16
    for i in range(256):
        assert s.out(i) == b"out %d\n" % i and s.err(i) == b"err %d\n" % i
    assert s.bye() == 0


# ---- the end --------------------------------------------------------------


def test_an_end_before_go_starts_nothing(shim):
    s = shim(2).start(sh("echo no"))
    s.connect()
    s.setup()
    s.end(1000)
    assert [r["state"] for r in s.ended()["ranks"]] == ["waiting", "waiting"]
    s.go()
    assert s.bye() == 0
    assert s.out() == b"" and [r["state"] for r in s.status()["ranks"]] == ["waiting", "waiting"]


def test_TERM_reaches_the_whole_tree_at_once(shim):
    s = shim()
    s.begin(sh("setsid sh -c 'trap \"echo child; exit\" TERM; echo up; while :; do sleep 0.05; done' & "
               "trap 'exit 4' TERM; while :; do sleep 0.05; done"))
    wait_for(lambda: b"up" in s.out())
    t = time.monotonic()
    s.end(20000)
    m = s.ended()
    assert time.monotonic() - t < 10
    assert b"child" in s.out() and rank(m)["ours"] and "orphans" not in m
    assert s.left() == []


def test_a_rank_that_ignores_TERM_is_killed_after_the_grace(shim):
    s = shim()
    s.begin(sh("trap '' TERM; echo up; while :; do sleep 0.05; done"))
    wait_for(lambda: s.out() == b"up\n")
    t = time.monotonic()
    s.end(700)
    r = rank(s.ended())
    assert 0.6 < time.monotonic() - t < 10
    assert (r["state"], r["sig"], r["ours"]) == ("killed", 9, True)
    assert s.left() == []


def test_a_shorter_grace_wins(shim):
    s = shim()
    s.begin(sh("trap '' TERM; echo up; while :; do sleep 0.05; done"))
    wait_for(lambda: s.out() == b"up\n")
    s.end(1000000)
    s.end(200)
    assert rank(s.ended(15))["sig"] == 9


def test_a_stopped_rank_is_ended_too(shim):
    s = shim()
    m = s.begin(["sleep", "1000"])
    os.kill(rank(m)["pid"], signal.SIGSTOP)
    s.end(15000)
    t = time.monotonic()
    assert rank(s.ended())["sig"] == 15
    assert time.monotonic() - t < 10


DAEMON = ("import os,sys,signal,time\n"
          "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
          "if os.fork(): os._exit(0)\n"
          "os.setsid()\n"
          "if os.fork(): os._exit(0)\n"
          "os.close(0); os.close(1); os.close(2)\n"
          "open(sys.argv[1], 'w').close()\n"
          "time.sleep(1000)\n")


def test_nothing_survives_the_last_rank(shim):
    s = shim()
    mark = s.file("daemon-is-up")
    s.begin(sh(f"setsid sleep 1000 & (setsid sleep 1000 &) ; {PYTHON} -c '{DAEMON.replace(chr(39), chr(34))}' {mark};"
               f"while ! [ -e {mark} ]; do sleep 0.05; done; exit 0"))
    t = time.monotonic()
    m = s.ended()
    assert 1.5 < time.monotonic() - t < 15  # the daemon ignores TERM for the 2 s it is given
    assert rank(m)["code"] == 0 and m["orphans"] == 3 and "3 processes" in m["text"]
    assert s.left() == []


def test_nothing_survives_an_end(shim):
    s = shim(2)
    mark = s.file("daemon-is-up")
    s.begin(sh(f"setsid sleep 1000 & {PYTHON} -c '{DAEMON.replace(chr(39), chr(34))}' {mark}.$RANK; exec sleep 1000"))
    wait_for(lambda: os.path.exists(mark + ".0") and os.path.exists(mark + ".1"))
    s.end(500)
    m = s.ended()
    assert all(r["ours"] for r in m["ranks"])
    assert s.left() == []


def test_a_pipe_held_by_a_stranger_does_not_hold_the_job(shim):
    """The write end travels to a process that is not of the job."""
    s = shim()
    there = s.file("fd")
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    keeper.bind(there)
    keeper.listen(1)
    s.begin(py(f"import socket;c=socket.socket(socket.AF_UNIX);c.connect('{there}');socket.send_fds(c,[b'x'],[1]);c.recv(1)"))
    c, _ = keeper.accept()
    _, fds, _, _ = socket.recv_fds(c, 1, 1)
    c.send(b"y")
    m = s.ended()
    assert "outside the job" in m["text"] and rank(m)["code"] == 0
    os.close(fds[0])
    keeper.close()


def test_SIGTERM_to_the_shim_ends_the_job(shim):
    s = shim()
    s.begin(["sleep", "1000"])
    os.kill(s.pid, signal.SIGHUP)
    os.kill(s.pid, signal.SIGINT)
    time.sleep(0.2)
    assert len(s.left()) == 1
    os.kill(s.pid, signal.SIGTERM)
    assert rank(s.ended())["ours"]


def test_killing_the_shim_takes_the_ranks_along(shim):
    s = shim(4)
    s.begin(["sleep", "1000"])
    os.kill(s.pid, signal.SIGKILL)
    s.wait()
    wait_for(lambda: s.left() == [])


# ---- the agent comes and goes ---------------------------------------------


def test_a_new_agent_is_told_everything_in_every_phase(shim):
    s = shim(2).start(sh("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"))
    assert s.connect()["phase"] == "setup"
    hello = s.connect()
    assert hello["phase"] == "setup" and "ranks" not in hello
    assert s.setup()["ok"]
    hello = s.connect()
    assert hello["phase"] == "ready" and [r["state"] for r in hello["ranks"]] == ["waiting"] * 2
    assert s.setup()["ok"]  # asked again, answered again
    s.go()
    s.link.expect("ranks")
    hello = s.connect()
    assert hello["phase"] == "running" and all(r["state"] == "running" and r["pid"] for r in hello["ranks"])
    wait_for(lambda: s.out(0) == s.out(1) == b"up\n")
    os.kill(hello["ranks"][0]["pid"], signal.SIGSTOP)
    os.kill(hello["ranks"][1]["pid"], signal.SIGKILL)
    assert s.link.expect("ranks")["ranks"][0]["sig"] == 9
    hello = s.connect()
    assert [r["state"] for r in hello["ranks"]] == ["running", "killed"]
    s.end(20000)
    s.connect()
    ended = s.ended()
    hello = s.connect()
    assert hello["phase"] == "ended" and s.ended() == ended
    assert s.bye() == 0


def test_the_newest_agent_wins(shim):
    s = shim().start(["true"])
    s.connect()
    old = s.link
    s.connect()
    with pytest.raises(wire.Gone):
        old.recv(5)
    assert s.setup()["ok"]


def test_without_an_agent_the_exit_code_is_kept(shim):
    s = shim(2)
    s.begin(sh("sleep 0.3; echo kept; exit $((RANK + 40))"))
    s.link.close()
    wait_for(lambda: os.path.getsize(s.file("status")) > 0)
    assert [r["code"] for r in s.status()["ranks"]] == [40, 41]
    assert s.connect()["phase"] == "ended"
    assert [r["code"] for r in s.ended()["ranks"]] == [40, 41]
    s.link.close()
    os.kill(s.pid, signal.SIGKILL)
    s.wait()
    assert [r["code"] for r in s.status()["ranks"]] == [40, 41]
    assert s.out(1) == b"kept\n"


def test_a_connection_that_breaks_the_rules_is_closed_and_nothing_else(shim):
    s = shim()
    s.begin(["sleep", "1000"])
    for bad in (b"\xff\xff\xff\xff\x01", wire.frame(9, b"x"), wire.frame(1, b"{"), wire.frame(1, b'{"t":"shim_end"}'),
                wire.frame(2, b"short"), wire.data(0, 0, 0, b"not granted")):
        s.connect()
        s.link.send_raw(bad)
        if bad[4:5] == b"\x02" and len(bad) > 20:
            continue  # this job has no stdin: dropped
        with pytest.raises(wire.Gone):
            while True:
                s.link.recv(5)
    hello = s.connect()
    assert hello["ranks"][0]["state"] == "running"
    s.link.send("ping", seq="1")
    s.link.send("from_the_future", x=1)
    s.end(5000)
    s.ended()


@pytest.mark.skipif(not ROOT, reason="needs root to be somebody else")
def test_only_the_agents_user_root_and_the_owner_may_connect(shim):
    s = shim(agent_uid=2).start(["true"])
    os.chmod(s.path, 0o777)
    for uid, welcome in ((1, False), (2, True)):
        code = (f"import os,socket;os.setgid({uid});os.setuid({uid});c=socket.socket(socket.AF_UNIX);"
                f"c.settimeout(5);c.connect('{s.path}');print(len(c.recv(100)) > 0)")
        out = subprocess.run(py(code), capture_output=True, text=True, check=True).stdout
        assert out == f"{welcome}\n"


# ---- output that waits for nobody -----------------------------------------


def test_growth_is_told_once_for_each_arm(shim):
    s = shim(2)
    s.begin(sh("read x; echo one; read x; echo three >&2; read x"), with_stdin=True)
    s.link.send("shim_arm")
    g = s.link.expect("shim_grown")  # rank 1 has no stdin: it ends at once
    seen = {}
    while True:
        for o in g["outs"]:
            seen[o["local"], o["fd"]] = o
        if seen.get((1, 1), {}).get("eof") and seen.get((1, 2), {}).get("eof"):
            break
        s.link.send("shim_arm")
        g = s.link.expect("shim_grown")
    assert seen[1, 1]["size"] == "4"
    s.link.send("shim_arm")
    with pytest.raises(TimeoutError):
        s.link.expect("shim_grown", 0.3)
    s.link.send_raw(wire.data(0, 0, 0, b"\n"))
    assert s.link.expect("shim_grown")["outs"] == [{"local": 0, "fd": 1, "size": "4"}]
    s.link.send_raw(wire.data(0, 0, 0, b"\n"))
    wait_for(lambda: s.err(0) == b"three\n")
    with pytest.raises(TimeoutError):
        s.link.expect("shim_grown", 0.3)  # not armed
    s.link.send("shim_arm")
    assert s.link.expect("shim_grown")["outs"] == [{"local": 0, "fd": 2, "size": "6"}]
    s.connect()
    s.link.send("shim_arm")  # a new agent knows nothing
    assert len(s.link.expect("shim_grown")["outs"]) == 4
    s.end(0)
    s.ended()


def tmpfs_files(size, names):
    """Open files on a small tmpfs that exists nowhere but in these descriptors."""
    mine, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            where = tempfile.mkdtemp()
            ok = libc.unshare(0x20000) == 0 and libc.mount(None, b"/", None, 0x44000, None) == 0
            ok = ok and libc.mount(b"none", where.encode(), b"tmpfs", 0, f"size={size}".encode()) == 0
            if ok:
                fds = [os.open(f"{where}/{n}", os.O_RDWR | os.O_CREAT | (0 if n == "status" else os.O_APPEND))
                       for n in names]
                socket.send_fds(theirs, [b"x"], fds)
                for fd in fds:
                    os.close(fd)
            libc.umount2(where.encode(), 2)
            os.rmdir(where)
        finally:
            os._exit(0)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(mine, 1, len(names))
    os.waitpid(pid, 0)
    mine.close()
    return fds


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small tmpfs")
def test_a_full_disk_costs_output_but_never_the_rank(shim):
    status, stamps, out, err, ballast = tmpfs_files("4m", ["status", "stamps", "out", "err", "ballast"])
    os.write(ballast, bytes(2 << 20))
    s = shim(fds={5: status, 6: stamps, 10: out, 11: err})
    s.begin(py("import os,sys\n"
               "for i in range(128): os.write(1, b'x' * 65536)\n"
               "os.write(2, b'lost\\n'); sys.stdin.readline()\n"
               "os.write(1, b'y' * 1000000); sys.exit(9)"), with_stdin=True)
    wait_for(lambda: os.fstat(out).st_size > 1 << 20)
    grown = {}
    while int(grown.get(1, {}).get("lost", 0)) + int(grown.get(1, {}).get("size", 0)) < 128 * 65536:
        s.link.send("shim_arm")
        grown.update({o["fd"]: o for o in s.link.expect("shim_grown")["outs"]})
    first = os.fstat(out).st_size
    assert 1 << 20 < first < 2 << 20 and int(grown[1]["size"]) == first
    os.ftruncate(ballast, 0)  # room again: writing goes on by itself
    s.link.send_raw(wire.data(0, 0, 0, b"\n", flags=wire.EOF))
    m = s.ended()
    assert rank(m)["code"] == 9
    assert os.fstat(out).st_size == first + 1000000
    assert os.pread(out, 10, first) == b"y" * 10
    lost = 128 * 65536 - first
    assert lost <= int(rank(m)["lost_bytes"]) <= lost + 5  # stderr's line perhaps
    assert "text" not in m  # the agent tells, who knows where it is
    wait_for(lambda: os.fstat(status).st_size > 0)
    assert json.loads(os.pread(status, 100000, 0)) == m
    for fd in (status, stamps, out, err, ballast):
        os.close(fd)


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small tmpfs")
def test_the_exit_code_survives_a_disk_that_stays_full(shim):
    status, stamps, out, err = tmpfs_files("1m", ["status", "stamps", "out", "err"])
    s = shim(fds={5: status, 6: stamps, 10: out, 11: err})
    s.begin(sh("head -c 3000000 /dev/zero; exit 33"))
    s.ended()
    wait_for(lambda: os.fstat(status).st_size > 0)
    assert json.loads(os.pread(status, 100000, 0))["ranks"][0]["code"] == 33
    for fd in (status, stamps, out, err):
        os.close(fd)


def test_a_file_that_cannot_be_made_costs_output_until_it_can(shim):
    s = shim(spool=True)
    os.mkdir(s.file("0.out"))
    s.begin(sh("echo early; read x; echo late; exit 9"), with_stdin=True)
    s.link.send("shim_arm")
    assert s.link.expect("shim_grown")["outs"] == [{"local": 0, "fd": 1, "size": "0", "lost": "6"}]
    os.rmdir(s.file("0.out"))
    s.link.send_raw(wire.data(0, 0, 0, b"\n", flags=wire.EOF))
    m = s.ended()
    assert rank(m)["code"] == 9 and rank(m)["lost_bytes"] == "6"
    assert s.out() == b"late\n"


def test_files_are_made_when_there_is_something_for_them(shim):
    s = shim(nprocs=2, spool=True)
    s.begin(sh("test $RANK = 0 || echo here"))
    s.ended()
    assert sorted(os.listdir(s.dir)) == ["1.out", "s", "stamps"] and s.out(1) == b"here\n"
    assert stat.S_IMODE(os.stat(s.file("1.out")).st_mode) == 0o640
    assert s.bye(settled=True) == 0
    assert sorted(os.listdir(s.dir)) == ["1.out", "s", "stamps"]


def test_an_end_that_nobody_settled_is_in_the_status_file(shim):
    s = shim(spool=True)
    s.begin(sh("exit 7"))
    s.ended()
    assert s.bye() == 0
    assert s.status()["ranks"][0]["code"] == 7


def test_a_file_size_limit_does_not_end_the_shim(shim):
    s = shim()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, hard))
    try:
        s.start(sh("head -c 300000 /dev/zero; exit 2"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    s.connect()
    s.setup()
    s.go()
    r = rank(s.ended())
    assert (r["code"], r["lost_bytes"]) == (2, "200000") and len(s.out()) == 100000


# ---- standard input -------------------------------------------------------


def feed(s, blob):
    """Sends the blob as granted; returns the messages seen meanwhile."""
    credit, at = 0, 0
    while at < len(blob):
        if credit == 0:
            credit = s.link.expect("shim_stdin")["credit"]
            continue
        n = min(credit, 50000, len(blob) - at)
        s.link.send_raw(wire.data(0, 0, 0, blob[at:at + n], offset=at))
        at += n
        credit -= n
    s.link.send_raw(wire.data(0, 0, 0, b"", flags=wire.EOF, offset=at))


def test_stdin_reaches_the_first_rank_exactly(shim):
    s = shim(2)
    blob = os.urandom(3000000)
    s.begin(["cat"], with_stdin=True)
    feed(s, blob)
    s.ended()
    assert s.out(0) == blob and s.out(1) == b""


def test_stdin_never_runs_ahead_of_its_reader(shim):
    s = shim()
    s.begin(sh("sleep 0.5; exec cat"), with_stdin=True)
    total = 0
    try:
        while True:
            credit = s.link.expect("shim_stdin", 0.3)["credit"]
            s.link.send_raw(wire.data(0, 0, 0, bytes(credit), offset=total))
            total += credit
    except TimeoutError:
        pass
    assert 100000 < total < 1000000
    s.link.send_raw(wire.data(0, 0, 0, b"", flags=wire.EOF, offset=total))
    s.ended()
    assert len(s.out()) == total


def test_the_agent_hears_that_nobody_reads_stdin_any_more(shim):
    s = shim()
    s.begin(sh("exec <&-; sleep 1000"), with_stdin=True)
    assert s.link.expect("shim_stdin")["credit"] > 0
    assert s.link.expect("shim_stdin")["closed"]
    s.link.send_raw(wire.data(0, 0, 0, b"late"))
    s.connect()
    assert s.link.expect("shim_stdin")["closed"]
    s.end(0)
    s.ended()


def test_more_stdin_than_granted_closes_the_connection(shim):
    s = shim()
    s.begin(["sleep", "1000"], with_stdin=True)
    credit = s.link.expect("shim_stdin")["credit"]
    s.link.send_raw(wire.data(0, 0, 0, bytes(credit + 1)))
    with pytest.raises(wire.Gone):
        while True:
            s.link.recv(5)
    s.connect()
    s.end(0)
    s.ended()


# ---- cost -----------------------------------------------------------------


def switches(pid):
    with open(f"/proc/{pid}/status") as f:
        return [int(line.split()[1]) for line in f if line.startswith(("voluntary", "nonvoluntary"))]


def test_an_idle_shim_never_wakes_up(shim):
    s = shim(2)
    s.begin(["sleep", "1000"])
    s.link.send("shim_arm")
    time.sleep(0.3)
    before = switches(s.pid)
    time.sleep(3)
    assert switches(s.pid)[0] == before[0]
    s.end(0)
    s.ended()


def test_files_keep_the_mode_and_the_shim_adds_none(shim):
    s = shim()
    s.begin(["true"])
    s.ended()
    assert sorted(os.listdir(s.dir)) == ["0.err", "0.out", "s", "stamps", "status"]
    assert stat.S_IMODE(os.stat(s.file("status")).st_mode) == 0o640
