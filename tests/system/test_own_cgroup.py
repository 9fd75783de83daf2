"""test_own_cgroup.py - an agent without root in a cgroup v2 of its own: nothing of a killed shim hides from it"""
import os
import shutil
import time

import pytest

from cluster import PYTHON, ROOT, alive, children, cmdline, kill, marked, wait_until
from test_end import SETUID, start_hider


def mount():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return next((x.split(" ")[4] for x in f if " - cgroup2 " in x), None)


class Delegated:
    """As systemd makes it for a unit with Delegate=yes: directory and cgroup.procs belong to the user."""

    def __init__(self, uid):
        self.path = f"{mount()}/natest-{os.getpid()}"
        os.mkdir(self.path)
        for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(os.path.join(self.path, name), uid, uid)
        self.prefix = ["sh", "-c", f"echo $$ >{self.path}/cgroup.procs && exec \"$@\"", "-"]

    def leaves(self):
        return [x for x in os.listdir(self.path) if x.startswith("nodeagent-")]

    def remove(self):
        for x in self.leaves():
            with open(f"{self.path}/{x}/cgroup.kill", "w") as f:
                f.write("1")
        wait_until(lambda: "populated 0" in open(f"{self.path}/cgroup.events").read(), 20, "nobody is left in it")
        for x in self.leaves():
            os.rmdir(f"{self.path}/{x}")
        os.rmdir(self.path)


@pytest.fixture
def subtree():
    if not ROOT or mount() is None:
        pytest.skip("no cgroup v2 tree in which a subtree can be given to a user")
    try:
        d = Delegated(65534)
    except OSError as e:
        pytest.skip(f"no cgroup can be made: {e}")
    yield d
    d.remove()


@pytest.fixture
def delegated(subtree, site):
    assert site.uid == 65534
    site.head()
    site.node("n1", prefix=subtree.prefix)
    return site, subtree


def leaf_of(pid):
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
        return next(x.strip() for x in f if x.startswith("0::")).rsplit("/", 1)[1]


def shims(site):
    return [p for p in marked(site.dir) if "nodeagent-shim" in cmdline(p)]


def test_each_attempt_has_one_and_it_goes_with_it(delegated):
    site, d = delegated
    jobs = [site.detach("--", "sleep", "1000") for _ in range(2)]
    for j in jobs:
        site.wait_state(j, "running")
        assert leaf_of(site.job(j)["ranks"][0]["pid"]).startswith(f"nodeagent-{j}.1-")
    assert len(d.leaves()) == 2
    for j in jobs:
        site.ctl("kill", j).ok()
        site.wait_end(j, 15)
    wait_until(lambda: not d.leaves(), 10, "they are removed")
    assert "jobs get no cgroup" not in site.logs()


def test_what_the_shim_of_an_earlier_life_leaves_is_found_without_cookie_and_parent(delegated):
    """Even by an agent that was started again somewhere else."""
    site, d = delegated
    job, pids = start_hider(site, "clean_environment", 1)
    other, others = start_hider(site, "clean_environment", 1)
    mine, = [p for p in shims(site) if leaf_of(p).startswith(f"nodeagent-{job}.1-")]
    site.stop_daemon("n1", 9)
    site.agent("n1")
    wait_until(lambda: site.job(job)["state"] == "running", 15, "it is found again")
    kill(mine)
    site.wait_end(job, 20)
    assert not alive(pids[0]) and alive(others[0]) and site.job(other)["state"] == "running"
    wait_until(lambda: len(d.leaves()) == 1, 10, "only the other's is left")
    assert site.logs().count("jobs get no cgroup of their own (cgroup /") == 1  # the second agent, once


def test_what_became_root_is_ended_too(delegated):
    site, d = delegated
    program = shutil.copy("/usr/bin/setpriv", site.path("setpriv"))
    os.chown(program, 0, 0)
    os.chmod(program, 0o4755)
    job = site.detach("--", PYTHON, "-c", SETUID, program)
    site.wait_state(job, "running")
    try:
        pid = wait_until(lambda: [p for p in children(shims(site)[0]) if cmdline(p) == "sleep 1000"], 10, "root's")[0]
    except AssertionError:
        pytest.skip("setuid programs have no effect here")
    kill(shims(site)[0])
    site.wait_end(job, 20)
    time.sleep(0.1)
    assert not alive(pid)
    assert not site.json("nodes")["nodes"][0].get("cordon")
