"""nodeagent-launcher as root: what it refuses, whom it becomes, whom it kills.

Uses system users that every host has: 'games' is the agent, 'daemon' and 'bin' run jobs.
"""
import errno
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import children, let_die, make_immortal  # noqa: E402
import wire  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, os.environ.get("NODEAGENT_BUILD") or "build-san")
PATH = "/usr/local/bin:/usr/bin:/bin"
PYTHON = "/usr/bin/python3"
REQUEST = struct.Struct("=IIQQIIII64s64s")
REPLY = struct.Struct("=IIQiI512s")
LAUNCH, KILL, CLEAN, ASIDE, REMOVE, FIX_SM = 1, 2, 3, 4, 5, 6


def known(*names):
    try:
        return all(pwd.getpwnam(n) for n in names)
    except KeyError:
        return False


pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the launcher is root's program: run the tests as root"),
    pytest.mark.skipif(not os.path.exists(os.path.join(BUILD, "nodeagent-launcher")),
                       reason="nodeagent-launcher is not built"),
    pytest.mark.skipif(not known("games", "daemon", "bin"), reason="users games, daemon and bin do not exist here"),
]


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it left by itself


def processes_with(needle):
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


def cgroup_of(pid):
    with open(f"/proc/{pid}/cgroup") as f:
        return next((line.strip()[3:] for line in f if line.startswith("0::")), None)


HIDDEN = ["sleep", str(80000000 + os.getpid())]  # of this run of the tests


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().decode().split("\0")[:-1]
    except OSError:
        return []


class Reply:
    def __init__(self, raw):
        self.version, self.op, self.id, self.error, self.result, text = REPLY.unpack(raw)
        self.text = text.partition(b"\0")[0].decode()


class Launcher:
    build = BUILD

    def __init__(self, *options, wrap=(), shim=None, start=True):
        self.dir = tempfile.mkdtemp(prefix="launcher.")
        os.chmod(self.dir, 0o755)
        self.spool = os.path.join(self.dir, "spool")
        self.shim = shim or shutil.copy(os.path.join(self.build, "nodeagent-shim"), self.dir)
        self.log = os.path.join(self.dir, "log")
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.cookies, self.jobs, self.links, self.listeners = [], [], [], []
        self.hidden = []  # processes without a cookie, which only a passing test has ended
        self.ids = 0
        argv = [*wrap, os.path.join(self.build, "nodeagent-launcher"), "--spool", self.spool,
                "--fd", str(theirs.fileno()), "--agent-user", "games", "--uid-min", "1", "--uid-max", "60000",
                "--shim", self.shim, *options]
        with open(self.log, "wb") as log:
            self.proc = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log,
                                         stderr=log, env={**os.environ, "LD_LIBRARY_PATH": ""})
        theirs.close()

    def ask(self, op, fds=(), job=None, attempt=1, uid=1, user=b"daemon", nprocs=1, rank_base=0, cookie=b"",
            version=1):
        self.ids += 1
        raw = REQUEST.pack(version, op, self.ids, job, attempt, uid, nprocs, rank_base, user, cookie)
        socket.send_fds(self.sock, [raw], list(fds))
        return self.ids

    def answer(self, timeout=20):
        self.sock.settimeout(timeout)
        raw = self.sock.recv(4096)
        assert raw, "the launcher has closed the connection: " + open(self.log).read()
        return Reply(raw)

    def fds(self, argv, name):
        """Specification and listening socket, as the agent makes them."""
        memfd = os.memfd_create("spec", os.MFD_ALLOW_SEALING)
        os.write(memfd, wire.spec("/", argv, {"PATH": PATH}))
        path = os.path.join(self.dir, name)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(4)
        self.listeners.append(listener)
        return memfd, listener, path

    def launch(self, argv, job=None, **kw):
        """A job whose shim is connected and has said hello; None and the reply when refused."""
        job = job or int.from_bytes(os.urandom(6), "big")
        cookie = os.urandom(16).hex().encode()
        self.cookies.append(cookie)
        memfd, listener, path = self.fds(argv, f"{len(self.listeners)}")
        self.ask(LAUNCH, [memfd, listener.fileno()], job=job, cookie=cookie, **kw)
        os.close(memfd)
        reply = self.answer()
        if reply.error:
            return None, reply
        self.jobs.append((job, kw))
        link = wire.Link.connect(path)
        self.links.append(link)
        hello = link.recv(20)
        assert hello["pid"] == reply.result
        link.job, link.cookie, link.pid = job, cookie, reply.result
        return link, reply

    def refused(self, argv=("true",), **kw):
        link, reply = self.launch(list(argv), **kw)
        assert link is None and reply.error
        assert reply.text and "\n" not in reply.text
        return reply

    def run(self, argv, n=1, **kw):
        """Runs a job to its end; returns rank 0's output."""
        link, _ = self.launch(argv, nprocs=n, **kw)
        start(link, n)
        ended = link.expect("shim_ended", 30)
        assert all(r["state"] == "exited" and r["code"] == 0 for r in ended["ranks"]), ended
        link.send("shim_bye")
        with open(f"{self.spool}/{link.job}.1/0.out") as f:
            return f.read(), link

    def finish(self):
        for cookie in self.cookies:
            for pid in processes_with(cookie):
                kill(pid)
        for pid in self.hidden:
            if command(pid) == HIDDEN:
                kill(pid)
        for job, kw in self.jobs:
            for _ in range(100):
                self.ask(CLEAN, job=job, **{k: v for k, v in kw.items() if k == "attempt"})
                if self.answer().error != errno.EBUSY:
                    break
                time.sleep(0.02)
        self.sock.close()
        for s in self.listeners + self.links:
            (s.sock if isinstance(s, wire.Link) else s).close()
        try:
            self.proc.wait(15)  # it leaves with its only connection
        finally:
            if self.proc.poll() is None:
                self.proc.kill()
                self.proc.wait()
            shutil.rmtree(self.dir, ignore_errors=True)


def start(link, n=1):
    link.send("shim_setup", rank_base=0, nprocs=n, world=n, node_rank=0, nnodes=1, grace_ms=5000, node="n1")
    ready = link.expect("shim_ready", 20)
    assert ready["ok"], ready
    link.send("shim_go", master_addr="127.0.0.1", master_port=20000)


@pytest.fixture
def launcher():
    made = []

    def make(*a, **kw):
        made.append(Launcher(*a, **kw))
        return made[-1]

    yield make
    for x in made:
        x.finish()


WHO = ("import json,os,resource;"
       "s=dict(l.rstrip().split(':',1) for l in open('/proc/self/status'));"
       "print(json.dumps([s,sorted(map(int,os.listdir('/proc/self/fd')))[:-1],dict(os.environ),os.umask(0),"
       "resource.getrlimit(resource.RLIMIT_MEMLOCK),open('/proc/self/oom_score_adj').read()]))")


def most_memlock():
    """Unlimited, or the hard limit where root may not raise it (containers)."""
    code = ("import resource as r\ntry: r.setrlimit(r.RLIMIT_MEMLOCK,(-1,-1))\nexcept (ValueError, OSError): pass\n"
            "print(r.getrlimit(r.RLIMIT_MEMLOCK)[1])")
    return [int(subprocess.run([PYTHON, "-c", code], capture_output=True, check=True).stdout)] * 2


@pytest.mark.parametrize("user", ["daemon", "bin"])
def test_a_worker_has_the_identity_of_a_fresh_login_and_nothing_else(launcher, user):
    pw = pwd.getpwnam(user)
    x = launcher()
    out, link = x.run([PYTHON, "-c", WHO], uid=pw.pw_uid, user=user.encode())
    status, fds, env, umask, memlock, oom = json.loads(out)
    assert status["Uid"].split() == [str(pw.pw_uid)] * 4
    assert status["Gid"].split() == [str(pw.pw_gid)] * 4
    assert sorted(map(int, status["Groups"].split())) == sorted(set(os.getgrouplist(user, pw.pw_gid)))
    for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[cap], 16) == 0, cap
    assert status["NoNewPrivs"].strip() == "0"  # sudo and setuid tools go on working
    assert fds == [0, 1, 2] and umask == 0o022 and oom.strip() == "0"
    assert memlock == most_memlock()
    assert env["NODEAGENT_COOKIE"].encode() == link.cookie
    assert "LD_LIBRARY_PATH" not in env and "NODEAGENT_AGENT_UID" not in env


def test_the_shim_gets_two_variables_its_descriptors_and_no_right_to_return(launcher):
    x = launcher()
    link, reply = x.launch(["sleep", "1000"], nprocs=3)
    with open(f"/proc/{link.pid}/environ", "rb") as f:
        assert sorted(f.read().split(b"\0")[:-1]) == [
            b"NODEAGENT_AGENT_UID=%d" % pwd.getpwnam("games").pw_uid, b"NODEAGENT_COOKIE=" + link.cookie]
    with open(f"/proc/{link.pid}/cmdline", "rb") as f:
        assert f.read().split(b"\0") == [b"nodeagent-shim", b"%d" % link.job, b"1", b"3", b""]
    names = {fd: os.readlink(f"/proc/{link.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{link.pid}/fd")}
    spool = f"{x.spool}/{link.job}.1/"
    assert names["0"] == names["1"] == names["2"] == "/dev/null"
    assert [names[str(i)] for i in (5, 6)] == [spool + "status", spool + "stamps"]
    assert [names[str(10 + i)] for i in range(6)] == [f"{spool}{i // 2}.{'err' if i % 2 else 'out'}" for i in range(6)]
    assert all(n.startswith(("/dev/null", "/memfd:spec", "socket:", spool, "anon_inode:", "/proc")) for n in names.values())
    with open(f"/proc/{link.pid}/status") as f:
        assert next(line for line in f if line.startswith("Uid:")).split()[1:] == ["1"] * 4


def test_the_spool_belongs_to_root_and_its_files_to_the_user(launcher):
    x = launcher()
    _, link = x.run(["true"], n=2)
    games = pwd.getpwnam("games").pw_gid
    st = os.stat(x.spool)
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (0, games, 0o750)
    st = os.stat(f"{x.spool}/{link.job}.1")
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (0, games, 0o750)
    names = sorted(os.listdir(f"{x.spool}/{link.job}.1"))
    assert names == ["0.err", "0.out", "1.err", "1.out", "stamps", "status"]
    for name in names:
        st = os.lstat(f"{x.spool}/{link.job}.1/{name}")
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode), st.st_nlink) == (1, games, 0o640, 1)


def test_the_shim_finds_an_exception_in_a_spool_whose_directory_is_closed_to_it(launcher):
    """More of it than the shim keeps in memory lies behind."""
    x = launcher()
    link, reply = x.launch([PYTHON, "-c", "import sys,traceback\ntry: 1/0\nexcept ZeroDivisionError: traceback.print_exc()\n"
                            "for i in range(60): print('Traceback (most recent call last):\\n  '+'x'*99+'\\nKeyboardInterrupt',"
                            "file=sys.stderr)\n"
                            "sys.exit(1)"])
    start(link)
    rank = link.expect("shim_ended", 20)["ranks"][0]
    assert rank["exception"] == "ZeroDivisionError: division by zero at <string>:2"
    link.send("shim_bye")


def test_256_ranks_are_launched(launcher):
    x = launcher()
    t = time.monotonic()
    link, _ = x.launch(["true"], nprocs=256)
    print(f"launch of 256 ranks: {(time.monotonic() - t) * 1000:.1f} ms")
    start(link, 256)
    assert all(r["code"] == 0 for r in link.expect("shim_ended", 60)["ranks"])
    link.send("shim_bye")


@pytest.mark.parametrize("kw, code, words", [
    (dict(uid=0, user=b"root"), errno.EPERM, "root are not allowed"),
    (dict(uid=60001, user=b"far"), errno.EPERM, "uid 60001 (far) may not run jobs on this node: allowed are 1 to 60000"),
    (dict(uid=1, user=b"bin"), errno.EPERM, "uid 1 is 'bin' on the submitting node but 'daemon' on this one"),
    (dict(uid=54321, user=b"nobody54321"), errno.ENOENT, "uid 54321 (nobody54321) is not known on this node"),
    (dict(nprocs=0), errno.EINVAL, "0 ranks"),
    (dict(nprocs=4097), errno.EINVAL, "4097 ranks"),
    (dict(user=b"x" * 64), errno.EINVAL, "malformed"),
    (dict(user=b""), errno.EINVAL, "malformed"),
    (dict(version=2), errno.EPROTO, "different versions"),
])
def test_refusals_are_sentences(launcher, kw, code, words):
    x = launcher()
    reply = x.refused(**kw)
    assert reply.error == code and words in reply.text, reply.text
    assert not os.path.exists(x.spool) or os.listdir(x.spool) == []
    link, _ = x.launch(["true"])  # and it goes on
    assert link


def test_root_runs_only_where_it_is_allowed(launcher):
    x = launcher("--allow-root")
    out, _ = x.run(["id", "-u"], uid=0, user=b"root")
    assert out == "0\n"


def test_the_same_attempt_is_not_launched_twice(launcher):
    x = launcher()
    link, _ = x.launch(["sleep", "1000"])
    reply = x.refused(job=link.job)
    assert reply.error == errno.EEXIST and "spool" in reply.text


def test_the_spool_of_a_former_cluster_is_moved_aside_when_asked(launcher):
    x = launcher()
    out, link = x.run(["echo", "first"])
    x.ask(CLEAN, job=link.job)
    assert x.answer().error == 0
    assert x.refused(job=link.job).error == errno.EEXIST
    x.ask(ASIDE, job=link.job)
    assert x.answer().error == 0
    x.ask(ASIDE, job=link.job)
    assert x.answer().error == errno.ENOENT
    assert x.run(["echo", "second"], job=link.job)[0] == "second\n"
    old = [n for n in os.listdir(x.spool) if n.startswith(f"{link.job}.1.old-")]
    with open(f"{x.spool}/{old[0]}/0.out") as f:
        assert len(old) == 1 and f.read() == out == "first\n"


def test_the_spool_of_a_living_job_is_not_moved(launcher):
    x = launcher()
    link, _ = x.launch(["sleep", "1000"])
    if f"nodeagent-{link.job}.1" not in (cgroup_of(link.pid) or ""):
        pytest.skip("no cgroup v2 here")
    x.ask(ASIDE, job=link.job)
    reply = x.answer()
    assert reply.error == errno.EBUSY and "still lives" in reply.text
    assert os.path.isdir(f"{x.spool}/{link.job}.1")


def test_the_spool_of_an_ended_attempt_is_removed_when_asked(launcher):
    x = launcher()
    _, link = x.run(["echo", "first"])
    x.ask(REMOVE, job=link.job, nprocs=0)
    assert x.answer().error == errno.EBUSY  # its shim was not cleaned up
    x.ask(CLEAN, job=link.job)
    assert x.answer().error == 0
    x.ask(ASIDE, job=link.job)
    assert x.answer().error == 0
    _, link = x.run(["echo", "second"], job=link.job)
    x.ask(CLEAN, job=link.job)
    assert x.answer().error == 0
    other, _ = x.launch(["sleep", "1000"])
    os.symlink("/etc/passwd", f"{x.spool}/{link.job}.1/7.out")
    x.ask(REMOVE, job=link.job, nprocs=0)
    assert x.answer().error == 0
    left = os.listdir(x.spool)
    assert f"{link.job}.1" not in left and any(n.startswith(f"{link.job}.1.old-") for n in left)
    x.ask(REMOVE, job=link.job, nprocs=1)
    assert x.answer().error == 0
    x.ask(REMOVE, job=link.job, nprocs=0)
    assert x.answer().error == 0  # there is none: that is what was asked for
    assert os.listdir(x.spool) == [f"{other.job}.1"] and os.path.exists("/etc/passwd")


def test_what_is_no_directory_of_ours_is_not_removed(launcher):
    x = launcher()
    _, link = x.run(["echo", "first"])
    x.ask(CLEAN, job=link.job)
    assert x.answer().error == 0
    os.mkdir(x.dir + "/elsewhere")
    os.mkdir(x.dir + "/elsewhere/precious")
    os.symlink(x.dir + "/elsewhere", f"{x.spool}/777.1")
    os.mkdir(f"{x.spool}/778.1")
    os.chown(f"{x.spool}/778.1", 1, 1)
    for job in (777, 778):
        x.ask(REMOVE, job=job, nprocs=0)
        reply = x.answer()
        assert reply.error and "cannot remove the spool directory" in reply.text, reply.text
    assert os.path.isdir(x.dir + "/elsewhere/precious")


def test_a_link_in_the_place_of_the_spool_is_not_followed(launcher):
    x = launcher()
    os.mkdir(x.dir + "/elsewhere")
    os.symlink(x.dir + "/elsewhere", x.spool)
    assert "spool" in x.refused().text
    assert os.listdir(x.dir + "/elsewhere") == []
    os.unlink(x.spool)
    os.mkdir(x.spool)
    os.symlink(x.dir + "/elsewhere", x.spool + "/77.1")
    assert x.refused(job=77).error == errno.EEXIST
    assert os.listdir(x.dir + "/elsewhere") == []


def test_a_spool_that_others_can_change_is_not_used(launcher):
    x = launcher()
    x.run(["true"])
    os.chown(x.spool, 5, 0)
    assert "can be changed by others" in x.refused().text
    os.chown(x.spool, 0, 0)
    os.chmod(x.spool, 0o770)
    assert "can be changed by others" in x.refused().text
    os.chmod(x.spool, 0o750)
    x.run(["true"])


def test_a_spool_below_a_directory_of_others_is_refused_at_the_start(launcher):
    d = tempfile.mkdtemp()
    try:
        os.chown(d, 5, 5)
        p = subprocess.run([os.path.join(BUILD, "nodeagent-launcher"), "--spool", d + "/spool", "--socket", d + "/s",
                            "--agent-user", "games", "--shim", "/bin/true"], capture_output=True, text=True, timeout=20)
        assert p.returncode == 1 and f"{d}, where the spool lies, can be changed by others" in p.stderr
        assert os.listdir(d) == []
    finally:
        shutil.rmtree(d)


def test_wrong_descriptors_are_refused_and_not_kept(launcher):
    x = launcher()
    fd = os.open("/dev/null", os.O_RDONLY)
    for op, fds in ((LAUNCH, []), (LAUNCH, [fd]), (LAUNCH, [fd] * 3), (KILL, [fd]), (CLEAN, [fd]), (99, [])):
        x.ask(op, fds, job=5, cookie=b"ab")
        reply = x.answer()
        assert reply.error == errno.EPROTO and reply.id == x.ids, reply.text
    held = [os.readlink(f"/proc/{x.proc.pid}/fd/{n}") for n in os.listdir(f"/proc/{x.proc.pid}/fd")]
    assert held.count("/dev/null") == 1  # its own stdin
    os.close(fd)


def test_a_packet_of_another_size_ends_the_connection(launcher):
    x = launcher()
    x.sock.send(b"x" * 100)
    x.sock.settimeout(10)
    assert x.sock.recv(100) == b""
    x.jobs.clear()
    assert x.proc.wait(10) == 0


def test_a_shim_that_others_can_change_is_not_started(launcher):
    x = launcher()
    x.run(["true"])
    os.chmod(x.shim, 0o757)
    assert "only root can change" in x.refused().text
    os.chmod(x.shim, 0o755)
    os.chown(x.shim, 1, 0)
    assert "only root can change" in x.refused().text
    os.chown(x.shim, 0, 0)
    os.chmod(x.dir, 0o777)
    assert "can be changed by others" in x.refused().text
    os.chmod(x.dir, 0o755)
    x.run(["true"])


def test_strangers_may_not_even_connect(launcher):
    d = tempfile.mkdtemp()
    os.chmod(d, 0o755)
    shim = shutil.copy(os.path.join(BUILD, "nodeagent-shim"), d)
    p = subprocess.Popen([os.path.join(BUILD, "nodeagent-launcher"), "--spool", d + "/spool", "--socket", d + "/s",
                          "--agent-user", "games", "--shim", shim], stderr=subprocess.DEVNULL)
    try:
        while not os.path.exists(d + "/s"):
            assert p.poll() is None
            time.sleep(0.01)
        for uid, welcome in ((1, False), (5, True)):
            code = (f"import os,socket;os.setuid({pwd.getpwuid(uid).pw_uid});"
                    f"c=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET);c.settimeout(10);c.connect('{d}/s')\n"
                    f"try: c.send(bytes.fromhex('{REQUEST.pack(1, 3, 7, 1, 1, 1, 1, 0, b'', b'').hex()}'));print(len(c.recv(1000)))\n"
                    f"except OSError: print(0)")
            out = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True).stdout
            assert (out.strip() == str(REPLY.size)) == welcome, (uid, out)
    finally:
        p.kill()
        p.wait()
        shutil.rmtree(d)


ESCAPER = ("import os,signal,sys,time\n"
           "for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(s, signal.SIG_IGN)\n"
           "for i in range(3):\n"
           "  if os.fork() == 0:\n"
           "    os.setsid()\n"
           "    if os.fork(): os._exit(0)\n"
           "    break\n"
           "print('up', flush=True); time.sleep(1000)\n")


def run_escapers(x):
    link, _ = x.launch([PYTHON, "-c", ESCAPER])
    start(link)
    path = f"{x.spool}/{link.job}.1/0.out"
    end = time.monotonic() + 20
    while open(path).read().count("up") < 4:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert len(processes_with(link.cookie)) == 5  # with the shim
    return link


def kill_all(x, link):
    x.ask(KILL, job=link.job, cookie=link.cookie)
    reply = x.answer()
    assert reply.error == 0 and reply.op == KILL, reply.text
    assert processes_with(link.cookie) == []
    return reply.result


def test_KILL_leaves_nothing_of_a_job(launcher):
    x = launcher()
    link = run_escapers(x)
    other, _ = x.launch(["sleep", "1000"])
    in_cgroup = f"nodeagent-{link.job}.1" in (cgroup_of(link.pid) or "")
    assert kill_all(x, link) == 5
    assert processes_with(other.cookie) == [other.pid]  # nobody else was hit
    if not in_cgroup:
        pytest.skip("no cgroup v2 here: only the sweep was tested")
    x.ask(CLEAN, job=other.job)
    assert x.answer().error == errno.EBUSY
    x.ask(CLEAN, job=link.job)
    assert x.answer().error == 0
    x.ask(CLEAN, job=link.job)
    assert x.answer().error == 0  # twice is harmless


def cgroup_directory(pid):
    with open("/proc/self/mountinfo") as f:
        mount = next(line.split(" ")[4] for line in f if " - cgroup2 " in line)
    return mount + cgroup_of(pid)


def test_CLEAN_waits_for_a_shim_that_is_on_its_way_out(launcher):
    x = launcher()
    link, _ = x.launch(["sleep", "1000"])
    if f"nodeagent-{link.job}.1" not in (cgroup_of(link.pid) or ""):
        pytest.skip("no cgroup v2 here")
    where = cgroup_directory(link.pid)
    x.ask(CLEAN, job=link.job)
    time.sleep(0.3)
    assert os.path.isdir(where)
    os.kill(link.pid, signal.SIGKILL)
    assert x.answer().error == 0
    assert not os.path.exists(where)


def test_a_new_launcher_removes_what_the_former_could_not(launcher):
    x = launcher()
    empty, full = (x.launch(["sleep", "1000"])[0] for _ in range(2))
    if f"nodeagent-{full.job}.1" not in (cgroup_of(full.pid) or ""):
        pytest.skip("no cgroup v2 here")
    gone, kept = cgroup_directory(empty.pid), cgroup_directory(full.pid)
    os.kill(empty.pid, signal.SIGKILL)
    while empty.pid in processes_with(empty.cookie):
        time.sleep(0.01)
    y = launcher()  # in the same cgroup as the first
    y.ask(CLEAN, job=1)
    y.answer()
    assert not os.path.exists(gone) and os.path.isdir(kept)


def test_KILL_of_a_dead_shims_processes(launcher):
    x = launcher()
    link = run_escapers(x)
    os.kill(link.pid, signal.SIGKILL)
    kill_all(x, link)


NO_CGROUP = ["unshare", "-m", "sh", "-c", "umount -l /sys/fs/cgroup/unified /sys/fs/cgroup 2>/dev/null; exec \"$@\"", "-"]


def test_without_cgroups_the_cookie_finds_them(launcher):
    x = launcher(wrap=NO_CGROUP)
    link = run_escapers(x)
    assert "nodeagent-" not in (cgroup_of(link.pid) or "")
    # the rank itself may be gone before the sweep comes to it: it dies with its shim
    assert kill_all(x, link) in (4, 5)
    with open(x.log) as f:
        assert f.read().count("jobs get no cgroup") == 1
    x.ask(CLEAN, job=link.job)
    assert x.answer().error == 0


def test_without_cgroups_the_spool_of_a_living_job_is_not_moved(launcher):
    x = launcher(wrap=NO_CGROUP)
    link, _ = x.launch(["sleep", "1000"])
    x.ask(ASIDE, job=link.job)
    reply = x.answer()
    assert reply.error == errno.EBUSY and "still lives" in reply.text
    assert os.path.isdir(f"{x.spool}/{link.job}.1")
    kill_all(x, link)
    x.ask(ASIDE, job=link.job)  # it is over, cleaned or not
    assert x.answer().error == 0


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def run_hider(x):
    """A job with a daemon that has thrown away its environment; its link and the daemon's pid."""
    script = f"setsid sh -c 'echo $$; exec env -i {' '.join(HIDDEN)}' & sleep 1000"
    link, _ = x.launch(["sh", "-c", script])
    start(link)
    path = f"{x.spool}/{link.job}.1/0.out"
    end = time.monotonic() + 20
    while not open(path).read().endswith("\n"):
        assert time.monotonic() < end
        time.sleep(0.02)
    pid = int(open(path).read())
    x.hidden.append(pid)
    while link.cookie in open(f"/proc/{pid}/environ", "rb").read():
        time.sleep(0.01)
    return link, pid


def test_without_cgroups_a_dead_shims_orphan_is_found_whatever_its_environment(launcher):
    x = launcher(wrap=NO_CGROUP)
    other, theirs = run_hider(x)
    for dead_first in (True, False):
        link, pid = run_hider(x)
        if dead_first:
            os.kill(link.pid, signal.SIGKILL)
        assert kill_all(x, link) >= 1
        assert not alive(pid) and alive(theirs) and alive(other.pid)
    kill_all(x, other)
    assert not alive(theirs)


def test_without_cgroups_a_launcher_that_had_children_leaves_orphans_alone_and_names_them(launcher):
    """Its own child, that child's daemon and a job's look the same to it."""
    before = ["sh", "-c", f"{' '.join(HIDDEN)} & (sleep 1; setsid {' '.join(HIDDEN)} & setsid {' '.join(HIDDEN)}) & exec \"$@\"", "-"]
    x = launcher(wrap=[*NO_CGROUP, *before])
    try:
        link, pid = run_hider(x)
        end = time.monotonic() + 10
        while len(strangers()) < 4:  # the job's is one of them
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(link.pid, signal.SIGKILL)
        x.ask(KILL, job=link.job, cookie=link.cookie)
        reply = x.answer()
        assert reply.error == 0 and len(strangers()) == 4
        assert f"pid {pid} (sleep, state S) may be of the job and was left alone" in reply.text
        assert "a process that had other children" in reply.text
    finally:
        x.hidden += strangers()


def strangers():
    return [int(p) for p in os.listdir("/proc") if p.isdigit() and command(p) == HIDDEN]


def test_a_name_service_that_hangs_delays_nobody(launcher):
    """The users' file is a pipe that nobody writes to, seen by the launcher only."""
    x = launcher(wrap=["unshare", "-m"])
    link = run_escapers(x)
    fifo = x.dir + "/fifo"
    os.mkfifo(fifo)
    subprocess.run(["nsenter", "-t", str(x.proc.pid), "-m", "mount", "--bind", fifo, "/etc/passwd"], check=True)
    t = time.monotonic()
    memfd, listener, _ = x.fds(["true"], "hung")
    hung = x.ask(LAUNCH, [memfd, listener.fileno()], job=1, cookie=b"ab")
    os.close(memfd)
    time.sleep(0.2)
    kill_all(x, link)
    assert time.monotonic() - t < 5
    reply = x.answer(30)
    assert (reply.id, reply.error) == (hung, errno.ETIMEDOUT) and "10 s" in reply.text
    assert 9 < time.monotonic() - t < 25


def test_a_look_up_that_does_not_even_die_is_not_taken_for_an_orphan(launcher):
    x = launcher(wrap=NO_CGROUP)
    link, pid = run_hider(x)
    fifo = x.dir + "/fifo"
    os.mkfifo(fifo)
    inside = ["nsenter", "-t", str(x.proc.pid), "-m"]
    subprocess.run([*inside, "mount", "--bind", fifo, "/etc/passwd"], check=True)
    memfd, listener, _ = x.fds(["true"], "hung")
    x.ask(LAUNCH, [memfd, listener.fileno()], job=1, cookie=b"ab")
    os.close(memfd)
    time.sleep(0.3)
    hung = next(p for p in children(x.proc.pid) if "nodeagent-launcher" in command(p)[0])
    if not make_immortal(hung):
        pytest.skip("processes may not be traced here")
    try:
        assert x.answer(30).error == errno.ETIMEDOUT
        for job in (2, 3):  # its place is used again, and once more
            x.ask(KILL, job=job, cookie=b"abcd")
            assert x.answer().error == 0
        os.kill(link.pid, signal.SIGKILL)
        x.ask(KILL, job=link.job, cookie=link.cookie)
        reply = x.answer()
        assert (reply.error, reply.text) == (0, "") and alive(hung) and not alive(pid)
    finally:
        let_die(hung)


def test_told_to_leave_it_ends_and_answers_what_it_began(launcher):
    """The look-up of the user waits in a pipe, which then has nobody in it."""
    x = launcher(wrap=["unshare", "-m"])
    x.ask(CLEAN, job=5)
    x.answer()  # it is up
    fifo = x.dir + "/fifo"
    os.mkfifo(fifo)
    inside = ["nsenter", "-t", str(x.proc.pid), "-m"]
    subprocess.run([*inside, "mount", "--bind", fifo, "/etc/passwd"], check=True)
    memfd, listener, _ = x.fds(["true"], "late")
    begun = x.ask(LAUNCH, [memfd, listener.fileno()], job=77, cookie=b"ab")
    os.close(memfd)
    time.sleep(0.3)  # its child looks the user up
    x.proc.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert x.proc.poll() is None
    x.ask(CLEAN, job=5)  # too late: not taken any more
    subprocess.run([*inside, "umount", "-l", "/etc/passwd"], check=True)
    with open(fifo, "w"):
        pass
    reply = x.answer()
    assert (reply.id, reply.error) == (begun, errno.ENOENT) and "is not known on this node" in reply.text
    assert x.proc.wait(10) == 0
    with pytest.raises((AssertionError, ConnectionResetError)):
        x.answer()


def test_it_is_not_started_by_anybody_else():
    r = subprocess.run([os.path.join(BUILD, "nodeagent-launcher"), "--spool", "/"], capture_output=True, text=True)
    assert r.returncode == 1 and "usage" in r.stderr
    code = f"import os;os.setuid(1);os.execv('{BUILD}/nodeagent-launcher',['l','--spool','/nonexistent','--shim','/bin/true','--fd','0'])"
    if subprocess.run(["setpriv", "--reuid=1", "--clear-groups", "test", "-x", f"{BUILD}/nodeagent-launcher"]).returncode:
        pytest.skip("this build directory is root's alone")
    r = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    assert r.returncode == 1 and "must be started by root" in r.stderr
