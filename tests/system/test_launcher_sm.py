"""nodeagent-launcher restarts the subnet manager where root's own file allows it, with fixed words and no environment.

systemctl is a script of the test, seen in the launcher's mount namespace only.
"""
import errno
import os
import shutil
import subprocess
import tempfile
import time

import pytest

from cluster import SLOW, wait_until
from test_launcher import FIX_SM, REQUEST, Launcher, processes_with, socket
from test_launcher import pytestmark as as_root

pytestmark = [*as_root, pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0,
    reason="mount namespaces are needed")]
OPENSM, OPENSMD = 1, 2
TELL = 2  # LAUNCHER_FIX_TELL


class Manager(Launcher):
    """A launcher that is shown this in place of systemctl."""

    def __init__(self, then="true", allow=True, systemctl=True):
        self.tools = tempfile.mkdtemp(prefix="launcher-sm.")
        os.chmod(self.tools, 0o755)
        self.file, self.asked = os.path.join(self.tools, "allow-fix-sm"), os.path.join(self.tools, "asked")
        fake = os.path.join(self.tools, "systemctl")
        with open(fake, "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\necho \"$@\" >>{self.asked}\n{then}\n")
        os.chmod(fake, 0o755 if systemctl else 0o644)
        if allow:
            self.allow()
        super().__init__("--fix-sm", self.file, wrap=["unshare", "-m", "sh", "-c",
                         f'mount --bind {fake} /usr/bin/systemctl && exec "$@"', "sh"])

    def allow(self, mode=0o644, owner=0):
        with open(self.file, "w", encoding="ascii"):
            pass
        os.chmod(self.file, mode)
        os.chown(self.file, owner, 0)

    def fix(self, unit=OPENSM, enable=False, **kw):
        self.ask(FIX_SM, job=kw.pop("job", 0), attempt=0, uid=0, user=b"", nprocs=unit, rank_base=int(enable), **kw)
        return self.answer(60 * SLOW)

    def words(self):
        if not os.path.exists(self.asked):
            return []
        with open(self.asked, encoding="ascii") as f:
            return f.read().splitlines()

    def finish(self):
        super().finish()
        shutil.rmtree(self.tools)


@pytest.fixture
def manager():
    made = []

    def make(*a, **kw):
        made.append(Manager(*a, **kw))
        return made[-1]

    yield make
    for x in made:
        x.finish()


def test_root_allows_it_with_a_file_and_takes_it_back(manager):
    x = manager(allow=False)
    r = x.fix()
    assert r.error == errno.EPERM and f"root allows it there with: touch {x.file}" in r.text, r.text
    for mode, owner in ((0o664, 0), (0o646, 0), (0o644, 1)):
        x.allow(mode, owner)
        r = x.fix()
        assert r.error == errno.EPERM and "only root can change" in r.text, r.text
    assert x.words() == []
    x.allow()
    r = x.fix()
    assert (r.error, r.result, r.text) == (0, 0, ""), r.text
    assert x.words() == ["--no-ask-password restart opensm.service"]
    os.unlink(x.file)
    assert x.fix(OPENSMD).error == errno.EPERM and len(x.words()) == 1


def test_only_two_units_can_be_named_and_nothing_else_said(manager):
    x = manager()
    for kw in ({"unit": 0}, {"unit": 3}, {"unit": 2 ** 32 - 1}, {"enable": 4}, {"cookie": b"ab"}):
        r = x.fix(**kw)
        assert r.error == errno.EINVAL and "malformed" in r.text, (kw, r.text)
    raw = REQUEST.pack(1, FIX_SM, 99, 0, 0, 0, OPENSM, 0, b"opensm; reboot", b"")
    x.sock.send(raw)
    assert x.answer().error == errno.EINVAL
    r0, w0 = os.pipe()
    socket.send_fds(x.sock, [REQUEST.pack(1, FIX_SM, 100, 0, 0, 0, OPENSM, 0, b"", b"")], [r0])
    assert x.answer().error == errno.EPROTO  # descriptors come with a launch only
    os.close(r0)
    os.close(w0)
    assert x.words() == []


def test_enabling_follows_a_restart_that_went_well(manager):
    x = manager('case "$2" in enable) echo "Failed to enable unit: read-only"; exit 1;; esac')
    r = x.fix(OPENSMD, enable=True)
    assert (r.error, r.result) == (0, 256 + 1) and r.text == "systemctl enable opensmd ended with 1: Failed to enable unit: read-only"
    assert x.words() == ["--no-ask-password restart opensmd.service", "--no-ask-password enable opensmd.service"]
    x = manager("printf 'Job failed.\\n\\033[31mSee journalctl'; exit 5")
    r = x.fix(enable=True)
    assert (r.error, r.result) == (0, 5) and r.text == "systemctl restart opensm ended with 5: ?[31mSee journalctl", r.text
    assert len(x.words()) == 1


def test_systemctl_meets_a_constant_environment_and_three_descriptors(manager):
    x = manager()
    with open(os.path.join(x.tools, "systemctl"), "w", encoding="ascii") as f:
        f.write(f"#!/bin/sh\n(env; echo fds $(ls /proc/$$/fd); echo dir $PWD; umask; grep -h SigBlk /proc/$$/status) >{x.asked} 2>&1\n")
    assert x.fix().error == 0
    seen = x.words()
    env = {w.partition("=")[0] for w in seen if "=" in w}
    assert env <= {"PATH", "LC_ALL", "SYSTEMD_COLORS", "SYSTEMD_PAGER", "PWD", "OLDPWD", "SHLVL", "_"}, seen
    assert "PATH=/usr/sbin:/usr/bin:/sbin:/bin" in seen and "dir /" in seen and "0022" in seen, seen
    assert "SigBlk:\t0000000000000000" in seen, seen
    fds = set(next(w for w in seen if w.startswith("fds ")).split()[1:])
    assert fds - {"10", "11", "255"} == {"0", "1", "2"}, seen  # the shell's own: the script that it reads


def test_one_that_hangs_is_ended_at_its_deadline_and_one_at_a_time_runs(manager):
    cookie = f"hangs{os.getpid()}"
    x = manager(f"FIXSM={cookie} exec sleep 300")
    begin = time.monotonic()
    x.ask(FIX_SM, job=0, attempt=0, uid=0, user=b"", nprocs=OPENSM)
    wait_until(lambda: processes_with(cookie.encode()), 10 * SLOW, "systemctl runs")
    r = x.fix()  # the answer to this one comes first
    assert r.error == errno.EBUSY and "already" in r.text, r.text
    r = x.answer(40 * SLOW)
    took = time.monotonic() - begin
    assert r.error == errno.ETIME and "did not end within 20 s" in r.text, r.text
    assert 19 < took < 24 * SLOW, took
    assert not processes_with(cookie.encode())


def test_an_order_is_carried_out_once_and_answered_each_time(manager):
    go = tempfile.mktemp(prefix="launcher-sm.go")  # when it may end
    x = manager(f"for i in $(seq 75); do [ -e {go} ] && break; sleep 0.2; done; rm -f {go}; echo 'Unit is masked.'; exit 5")
    r = x.fix(job=77, enable=TELL)
    assert r.error == errno.ENOENT and "does not know this order" in r.text and "systemctl status opensm" in r.text, r.text
    x.ask(FIX_SM, job=77, attempt=0, uid=0, user=b"", nprocs=OPENSM)
    wait_until(x.words, 10 * SLOW, "systemctl runs")
    assert x.fix(job=78).error == errno.EBUSY
    with open(go, "w", encoding="ascii"):
        pass
    for tell in (TELL, 0, TELL):  # while it works, mostly, and afterwards
        r = x.fix(job=77, enable=tell)
        assert (r.error, r.result) == (0, 5) and "Unit is masked." in r.text, r.text
    assert len(x.words()) == 1


def test_a_loop_of_a_client_cannot_restart_it_again_and_again(manager):
    x = manager()
    for job in (0, 0, 5):
        assert x.fix(job=job).error == 0
    r = x.fix(job=6)
    assert r.error == errno.EBUSY and "3 times in the last 10 minutes" in r.text and "may be tried again in " in r.text, r.text
    assert len(x.words()) == 3 and x.fix(job=5).error == 0 and len(x.words()) == 3  # that one is over


def test_what_it_leaves_running_is_not_waited_for(manager):
    x = manager("sleep 3 & exit 0")
    begin = time.monotonic()
    assert x.fix().error == 0 and time.monotonic() - begin < 2.5 * SLOW


def test_without_systemctl_it_says_so(manager):
    x = manager(systemctl=False)
    r = x.fix()
    assert (r.error, r.result) == (0, 127) and "/usr/bin/systemctl: Permission denied" in r.text, r.text
