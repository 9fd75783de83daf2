"""test_limits.py - daemons with a handful of descriptors, and a state directory of 4 MB that fills up"""
import os
import re
import resource
import socket
import subprocess
import time

import pytest

from cluster import ROOT, SLOW, Site, wait_until

pytestmark = pytest.mark.skipif(subprocess.run(["prlimit", "--version"], capture_output=True, check=False).returncode != 0,
                                reason="prlimit is needed")


def limited(n):
    return ["prlimit", f"--nofile={n}:{n}"]


def log(site, name):
    with open(site.path(f"{name}.log"), encoding="utf-8", errors="replace") as f:
        return f.read()


def exhaust(path, n=200):
    """Connections to a socket until it takes no more, or n."""
    held = []
    for _ in range(n):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(0.5)
        try:
            s.connect(path)
        except OSError:
            s.close()
            break
        held.append(s)
    return held


@pytest.mark.parametrize("role", ["coordinator", "agent"])
def test_too_few_descriptors_to_begin_with_are_a_sentence(site, role):
    site.head()
    site.node("n1")
    name = "head" if role == "coordinator" else "n1"
    site.stop_daemon(name)
    env = dict(site.env, ASAN_OPTIONS="detect_leaks=0:exitcode=99")  # the leak checker needs descriptors itself
    for n in range(4, 16):
        p = site.daemon("few", f"--{role}", "--dir", site.path(name), prefix=limited(n), env=env)
        try:
            code = p.wait(3 * SLOW)
        except subprocess.TimeoutExpired:  # it is enough to begin with
            p.terminate()
            code = p.wait(20)
            assert code == 0
            break
        # 127: not even the C library's loader had enough; a sentence then, too
        assert code in (1, 71, 127), (n, code, log(site, "few"))
    site.daemons.pop("few", None)
    assert re.search(r"Too many open files|error while loading", log(site, "few")), log(site, "few")


def test_an_agent_with_32_descriptors_serves_and_recovers(site):
    """Some of them are clients that take all there are; jobs that cannot start say why; nothing falls over."""
    site.head()
    site.node("n1")
    site.stop_daemon("n1")
    agent = site.daemon("n1", "--agent", "--dir", site.path("n1"), prefix=limited(32))
    wait_until(lambda: site.state("n1") == "ok", 10 * SLOW, "registered")
    living = site.detach("--", "sh", "-c", "sleep 4; echo whole; exit 6")
    site.wait_state(living, "running")
    # as many jobs as it can hold, and more: each has its own code, or a sentence
    clients = [site.popen("launch", "--", "sh", "-c", "sleep 1; exit 5") for _ in range(4)]
    codes = []
    for p in clients:
        _, err = p.communicate(timeout=60 * SLOW)
        assert p.returncode in (1, 3, 5) and err.strip(), (p.returncode, err)
        codes.append(p.returncode)
    held = exhaust(site.socket("n1"))
    time.sleep(1)
    for s in held:
        s.close()
    wait_until(lambda: site.ctl("launch", "--", "true").code == 0, 20 * SLOW, "the next job runs", 0.2)
    j = site.wait_end(living, 30)
    assert j["exit_code"] == 6 and site.ctl("logs", living).ok().out == "whole\n"
    assert agent.poll() is None, agent.returncode
    print(f"codes of 4 jobs at once: {codes}")


def test_a_coordinator_with_32_descriptors_serves_and_recovers(site):
    site.head()
    site.node("n1")
    site.stop_daemon("head")
    site.start_head(prefix=limited(32))
    wait_until(lambda: site.state("n1") == "ok", 20 * SLOW, "registered again")
    held = exhaust(site.path("head", "coordinator.sock"))
    wait_until(lambda: "descriptor" in log(site, "head"), 10 * SLOW, "it says that it has none left")
    site.launch("--", "true").ok()  # the links it has go on
    for s in held:
        s.close()
    wait_until(lambda: site.admin("token", "create").code == 0, 20 * SLOW, "clients are served again")
    assert site.daemons["head"].poll() is None


@pytest.fixture
def small():
    """A site whose coordinator's state lies on a disk of 4 MB."""
    s = Site()
    os.mkdir(s.path("head"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=4m,mode=0700,uid={s.uid},gid={s.uid}", "small", s.path("head")], check=True)
    try:
        yield s
        left = s.finish()
    finally:
        subprocess.run(["umount", "-l", s.path("head")], check=False)
        s.remove()
    assert not left, left


@pytest.mark.root
def test_a_limit_of_the_size_of_files_is_like_a_full_disk(shared):
    first = shared.launch("--", "true")
    assert first.code == 0
    pids = shared.role_pids()
    for name, pid in pids.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    r = shared.launch("--detach", "--", "true", timeout=60)
    assert r.code == 1 and len(r.err.splitlines()) == 1, r
    assert shared.role_pids() == pids, "nobody was killed by SIGXFSZ"
    for pid in pids.values():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_until(lambda: shared.launch("--", "true").code == 0, 20 * SLOW, "jobs are taken again")
    assert shared.role_pids() == pids


@pytest.mark.root
def test_a_state_directory_of_4_MB_that_fills_up(small):
    """Nothing is acknowledged that is not stored, the coordinator stays, and goes on when there is room again."""
    s = small
    assert ROOT
    s.head()
    s.node("n1")
    coordinator = s.daemons["head"]
    running = s.detach("--", "sh", "-c", "sleep 5; exit 7")
    s.wait_state(running, "running")
    ballast = s.path("head", "ballast")
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, b"\0" * 4096):
            pass
    except OSError:
        os.close(fd)
    acked, refused = [running], 0
    for i in range(60):
        r = s.ctl("--json", "launch", "--detach", "--name", f"n{i}", "--", "true")
        if r.code == 0:
            acked.append(int(re.search(r'"job":\s*"?(\d+)', r.out).group(1)))
            continue
        assert r.code == 1 and re.search(r"full|space", r.err), r
        refused += 1
        if refused == 3:
            break
    assert refused, "the disk was never full"
    assert coordinator.poll() is None and s.ctl("status").code == 0
    time.sleep(1)
    os.unlink(ballast)
    wait_until(lambda: s.ctl("launch", "--", "true").code == 0, 20 * SLOW, "it recovers unaided", 0.2)
    assert s.wait_end(running, 30)["exit_code"] == 7
    for job in acked:
        assert s.wait_end(job, 30)["exit_code"] in (0, 7)
    assert coordinator.poll() is None
    # and all of it is there after a sudden death
    coordinator.kill()
    s.stop_daemon("head")
    s.start_head()
    wait_until(lambda: s.state("n1") == "ok", 20 * SLOW, "registered again")
    known = {int(j["job"]): j["exit_code"] for j in s.json("jobs", "--all")["jobs"]}
    assert set(acked) <= set(known) and known[running] == 7
