"""What systemd gets from us: units that verify, an installation that can be removed, and the notify protocol."""
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from cluster import BUILD, PYTHON, SLOW, TOP, kill, wait_until

UNITS = ["nodeagent-coordinator.service", "nodeagent-launcher.service", "nodeagent-launcher.socket", "nodeagentd.service"]
# systemd-analyze's exposure, 0 to 10: not to be exceeded. What the launcher lacks its jobs would inherit.
EXPOSURE = {"nodeagent-coordinator.service": 2.0, "nodeagentd.service": 2.5, "nodeagent-launcher.service": 10.0}
NOTED_WITH = "systemd 252 "  # other versions count differently

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


# ---- installing ---------------------------------------------------------------------


def make(*args):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    r = subprocess.run(["make", "--no-print-directory", "-C", TOP, f"B={BUILD}", *args], capture_output=True, text=True,
                       env=env, timeout=300)
    assert r.returncode == 0, r.stderr


def files(top):
    return sorted(os.path.relpath(os.path.join(d, n), top) for d, _, names in os.walk(top) for n in names)


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


@pytest.fixture
def dest():
    d = tempfile.mkdtemp(prefix="nai")
    yield d
    shutil.rmtree(d)


@pytest.fixture(scope="module")
def installed():
    """Installed below a prefix of its own, so that the units name programs that are there."""
    d = tempfile.mkdtemp(prefix="nai")
    make("install", f"PREFIX={d}/usr", f"SYSCONFDIR={d}/etc")
    yield d
    shutil.rmtree(d)


def test_install_puts_everything_below_the_prefix_and_uninstall_takes_it_away(dest):
    make("install", f"DESTDIR={dest}", "PREFIX=/usr")
    have = files(dest)
    assert {"etc/nodeagent/nodeagentd.conf", "etc/nodeagent/launcher.env", "usr/bin/nodectl", "usr/sbin/nodeagentd",
            "usr/libexec/nodeagent/nodeagent-shim", "usr/libexec/nodeagent/nodeagent-launcher",
            "usr/lib/sysusers.d/nodeagent.conf", "usr/lib/tmpfiles.d/nodeagent.conf", "usr/share/man/man8/nodeagentd.8",
            *(f"usr/lib/systemd/system/{u}" for u in UNITS)} <= set(have)
    assert all(f.startswith(("usr/", "etc/nodeagent/")) for f in have)
    for f in have:
        if f.startswith(("usr/lib/", "usr/share/doc", "etc/")):
            assert "/usr/local" not in read(dest, f), f
    # an administrator's configuration survives an upgrade and an uninstallation
    with open(f"{dest}/etc/nodeagent/nodeagentd.conf", "w") as f:
        f.write("[agent]\n")
    make("install", f"DESTDIR={dest}", "PREFIX=/usr")
    assert read(dest, "etc/nodeagent/nodeagentd.conf") == "[agent]\n"
    assert files(dest) == have
    os.makedirs(f"{dest}/var/lib/nodeagent/agent")
    make("uninstall", f"DESTDIR={dest}", "PREFIX=/usr")
    assert files(dest) == ["etc/nodeagent/launcher.env", "etc/nodeagent/nodeagentd.conf"]
    assert os.path.isdir(f"{dest}/var/lib/nodeagent/agent")
    make("purge", f"DESTDIR={dest}", "PREFIX=/usr")
    assert files(dest) == [] and not os.path.exists(f"{dest}/var/lib/nodeagent")
    make("purge", f"DESTDIR={dest}", "PREFIX=/usr")  # twice is harmless


def test_what_others_keep_in_shared_directories_is_left(dest):
    make("install", f"DESTDIR={dest}")
    other = f"{dest}/usr/local/share/man/man1/other.1"
    with open(other, "w"):
        pass
    make("purge", f"DESTDIR={dest}")
    assert files(dest) == [os.path.relpath(other, dest)]
    assert sorted(os.listdir(f"{dest}/usr/local")) == ["bin", "lib", "sbin", "share"]  # a host has these


@needs_systemd
def test_the_units_verify_without_a_word(installed):
    units = f"{installed}/usr/lib/systemd/system"
    r = subprocess.run(["systemd-analyze", "verify", "--man=no", *(f"{units}/{u}" for u in UNITS)], capture_output=True,
                       text=True, env={**os.environ, "SYSTEMD_UNIT_PATH": units + ":"}, timeout=60)
    assert r.returncode == 0 and r.stdout + r.stderr == "", r.stdout + r.stderr


@needs_systemd
def test_the_units_are_fenced_in_as_told(installed):
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True).stdout
    notes = read(TOP, "docs", "operations.md")
    for unit, most in EXPOSURE.items():
        r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                            f"{installed}/usr/lib/systemd/system/{unit}"], capture_output=True, text=True, timeout=60)
        if "offline" in r.stderr:
            pytest.skip("this systemd-analyze judges running units only")
        score = re.search(r"exposure level for \S+: ([0-9.]+)", r.stdout)
        assert score, r.stdout + r.stderr
        print(f"exposure of {unit}: {score.group(1)}")
        assert float(score.group(1)) <= most, r.stdout
        if version.startswith(NOTED_WITH):
            assert re.search(rf"\| `{unit}` \|.*\| {score.group(1)} \|", notes), \
                f"docs/operations.md does not say {score.group(1)} of {unit}"


def test_every_service_is_watched_and_comes_back(installed):
    for unit in UNITS:
        text = read(installed, "usr/lib/systemd/system", unit)
        assert re.search(r"^StartLimitIntervalSec=0$", text, re.M), unit  # a node must not be lost to a bad minute
        if unit.endswith(".service"):
            for line in ("Type=notify", "NotifyAccess=main", "Restart=always", r"WatchdogSec=\d+"):
                assert re.search(f"^{line}$", text, re.M), (unit, line)


def test_nothing_on_the_launcher_that_jobs_would_inherit(installed):
    """Whatever fences in a unit is inherited by its children, and jobs are children of the launcher."""
    text = read(installed, "usr/lib/systemd/system/nodeagent-launcher.service")
    keys = re.findall(r"^([A-Za-z]+)=", text, re.M)
    bad = [k for k in keys if re.match(r"(Protect|Private|Restrict|SystemCall|Capabilit|Ambient|NoNew|Lock|Memory|Device|"
                                       r"ReadOnly|Inaccessible|UMask|User|Group|Supplementary|PAM|Keyring|CPU|IO|IP|Nice|"
                                       r"SecureBits|Dynamic|Root|Temporary|Bind|Mount|Network|LimitCORE|LimitNOFILE)", k)]
    assert bad == []
    assert {"KillMode", "Delegate", "LimitMEMLOCK", "TasksMax", "OOMScoreAdjust"} <= set(keys)


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("systemd-sysusers") or not shutil.which("systemd-tmpfiles"),
                    reason="systemd-sysusers and systemd-tmpfiles are not installed")
def test_users_and_directories_are_made_with_the_right_owners(dest):
    make("install", f"DESTDIR={dest}", "PREFIX=/usr")
    for name in ("passwd", "group"):
        with open(f"{dest}/etc/{name}", "w") as f:
            f.write("root:x:0:0::/root:/bin/sh\n" if name == "passwd" else "root:x:0:\n")
    subprocess.run(["systemd-sysusers", f"--root={dest}", "nodeagent.conf"], check=True, timeout=60)
    subprocess.run(["systemd-tmpfiles", f"--root={dest}", "--create", "nodeagent.conf"], check=True, timeout=60)
    user = next(line for line in read(dest, "etc/passwd").splitlines() if line.startswith("nodeagent:")).split(":")
    assert user[6].endswith("nologin") and 0 < int(user[2]) < 1000
    assert "\nnodeagent-admin:" in read(dest, "etc/group")
    for path, mode, gid in (("var/lib/nodeagent", 0o755, 0), ("var/lib/nodeagent/spool", 0o750, int(user[3]))):
        st = os.stat(f"{dest}/{path}")
        assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (mode, 0, gid), path


# ---- the notify protocol ----------------------------------------------------------------


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + path[1:] if path.startswith("@") else path)
        if not path.startswith("@"):
            os.chmod(path, 0o777)
        self.env = {"NOTIFY_SOCKET": path}
        self.heard = []

    def watch(self, seconds):
        self.env["WATCHDOG_USEC"] = str(int(seconds * 1e6))
        return self

    def listen(self, seconds):
        """Everything of so many seconds."""
        end = time.monotonic() + seconds
        got = []
        while (left := end - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                got.append((time.monotonic(), self.sock.recv(4096).decode()))
            except TimeoutError:
                break
        self.heard += got
        return [text for _, text in got]

    def expect(self, text, seconds=10):
        end = time.monotonic() + seconds * SLOW
        while time.monotonic() < end:
            if text in [t for _, t in self.heard]:
                return
            self.listen(0.05)
        raise AssertionError(f"{text!r} was not told; heard: {self.heard}")

    def forget(self):
        self.listen(0.01)
        self.heard = []


@pytest.fixture
def systemd():
    made, d = [], tempfile.mkdtemp(prefix="nan")
    os.chmod(d, 0o755)

    def make_one(abstract=False):
        made.append(Systemd(f"@nodeagent-test/{os.getpid()}/{len(made)}" if abstract else f"{d}/{len(made)}"))
        return made[-1]

    yield make_one
    for s in made:
        s.sock.close()
    shutil.rmtree(d)


def answers(site, path):
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except OSError:
            return False
    return True


def test_coordinator_and_agent_tell_how_they_are(site, systemd):
    head, node = systemd(abstract=True).watch(1), systemd().watch(1)
    site.head()
    site.stop_daemon("head")
    site.daemon("head", "--coordinator", "--dir", site.path("head"), env={**site.env, **head.env})
    head.expect("READY=1")
    assert answers(site, site.path("head", "coordinator.sock"))
    head.expect(f"STATUS=serving {site.address}: 0 of 1 node ok, 0 jobs")

    site.join("n1", site.token("--submit", "--uids", "1000-4000000000")).ok()
    p = site.daemon("n1", "--agent", "--dir", site.path("n1"), env={**site.env, **node.env})
    site.via = "n1"
    node.expect("READY=1")
    assert answers(site, site.socket("n1"))
    node.expect(f"STATUS=registered with {site.address}, 0 jobs")
    head.expect(f"STATUS=serving {site.address}: 1 of 2 nodes ok, 0 jobs")
    job = site.detach("--", "sh", "-c", "env; exec sleep 1000")
    site.wait_state(job, "running")
    node.expect(f"STATUS=registered with {site.address}, 1 job")
    assert not re.search("NOTIFY_SOCKET|WATCHDOG", site.ctl("logs", job).ok().out)

    # alive: pings at half of the time; stopped: none
    for s in (head, node):
        s.forget()
        assert s.listen(3).count("WATCHDOG=1") in (4, 5, 6, 7), s.heard
    kill(p.pid, signal.SIGSTOP)
    node.forget()
    assert node.listen(1.5) == []
    kill(p.pid, signal.SIGCONT)
    node.expect("WATCHDOG=1")

    site.stop_daemon("head")
    head.expect("STOPPING=1")
    node.expect(f"STATUS=not registered: looking for {site.address}, 1 job")
    assert site.stop_daemon("n1") == 0
    node.expect("STOPPING=1")
    site.start_head()
    site.agent("n1")
    site.ctl("kill", job, "--grace", "0s").ok()
    site.wait_end(job)


def test_an_agent_whose_coordinator_is_away_is_ready(site, systemd):
    node = systemd()
    site.head()
    site.join("n1", site.token()).ok()
    site.stop_daemon("head")
    site.daemon("n1", "--agent", "--dir", site.path("n1"), env={**site.env, **node.env})
    node.expect("READY=1")
    assert f"STATUS=registered with {site.address}, 0 jobs" not in [t for _, t in node.heard]


@pytest.mark.root
def test_the_launcher_tells_how_it_is(systemd):
    """As systemd starts it: a listening socket as descriptor 3."""
    s = systemd(abstract=True).watch(1)
    d = tempfile.mkdtemp(prefix="nal")
    os.chmod(d, 0o755)
    shim = shutil.copy(os.path.join(BUILD, "nodeagent-shim"), d)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(d + "/s")
    listener.listen(4)
    code = ("import os,sys;os.dup2(int(sys.argv[1]),3);os.set_inheritable(3,True);os.execv(sys.argv[2],sys.argv[2:])")
    p = subprocess.Popen([PYTHON, "-c", code, str(listener.fileno()), os.path.join(BUILD, "nodeagent-launcher"), "--fd", "3",
                          "--spool", d + "/spool", "--shim", shim, "--agent-user", "games"], env={**os.environ, **s.env},
                         pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL)
    try:
        s.expect("READY=1")
        s.expect("STATUS=listening for the agent (games, uid 5)")
        s.forget()
        assert s.listen(3).count("WATCHDOG=1") in (4, 5, 6, 7), s.heard
        kill(p.pid, signal.SIGSTOP)
        s.forget()
        assert s.listen(1.5) == []
        kill(p.pid, signal.SIGCONT)
        s.expect("WATCHDOG=1")
        p.send_signal(signal.SIGTERM)
        s.expect("STOPPING=1")
        assert p.wait(10) == 0
    finally:
        p.kill()
        p.wait()
        listener.close()
        shutil.rmtree(d)


def test_the_supervisor_speaks_for_a_standalone_cluster_and_nobody_else(cluster, systemd):
    s = systemd()
    c = cluster(2, env=s.env)
    s.expect("READY=1")
    s.listen(0.5)
    assert [t for _, t in s.heard] == ["READY=1"]
    c.stop()
    s.listen(0.2)
    assert [t for _, t in s.heard] == ["READY=1", "STOPPING=1"]
