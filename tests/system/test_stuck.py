"""test_stuck.py - a process that cannot be killed (state D): its job ends, its node gets no new jobs until it is gone

A frozen process of the v1 freezer is in state D and dies of nothing before it is
thawed; where there is no such freezer, a traced one stops short of its end.
"""
import os
import signal
import time

import pytest

from cluster import ROOT, SLOW, kill, let_die, make_immortal, marked, cmdline, wait_until

FREEZER = "/sys/fs/cgroup/freezer"


class Frozen:
    """Processes that no signal ends, while it is not thawed."""

    def __init__(self, pids):
        self.dir = f"{FREEZER}/natest-{os.getpid()}-{pids[0]}"
        os.mkdir(self.dir)
        for pid in pids:
            self.write("cgroup.procs", pid)
        self.write("freezer.state", "FROZEN")
        wait_until(lambda: open(f"{self.dir}/freezer.state").read() == "FROZEN\n", 10, "it is frozen")

    def write(self, name, value):
        with open(f"{self.dir}/{name}", "w") as f:
            f.write(str(value))

    def thaw(self):
        self.write("freezer.state", "THAWED")

    def remove(self):
        self.thaw()
        wait_until(lambda: not open(f"{self.dir}/cgroup.procs").read(), 20, "nobody is left in it")
        os.rmdir(self.dir)


@pytest.fixture
def freeze():
    made = []

    def do(*pids):
        if not ROOT or not os.path.exists(f"{FREEZER}/cgroup.procs"):
            pytest.skip("no v1 freezer that this user may use")
        try:
            made.append(Frozen(pids))
        except OSError as e:
            pytest.skip(f"nothing can be frozen here: {e}")
        return made[-1]
    yield do
    for f in made:
        f.remove()


def state(site, name):
    return next(n for n in site.json("nodes")["nodes"] if n["name"] == name)


def two_nodes(site):
    site.head()
    site.node("a1")
    site.node("a2")


def rank_pid(site, job):
    return next(r["pid"] for r in site.job(job)["ranks"])


def test_a_rank_in_state_D_ends_its_job_and_cordons_its_node_until_it_is_gone(site, freeze):
    two_nodes(site)
    job = site.detach("-w", "a2", "--grace", "1s", "--", "sleep", "1000")
    site.wait_state(job, "running")
    pid = rank_pid(site, job)
    f = freeze(pid)
    site.ctl("kill", job).ok()
    begin = time.monotonic()
    j = site.wait_end(job, 60)
    assert 28 < time.monotonic() - begin < 45, "it is given half a minute"
    said = f"process {pid} (sleep) cannot be killed: state D (disk sleep)"
    assert any(said in n for n in j["notices"]), j
    n = state(site, "a2")
    assert n["cordon"].startswith(f"process {pid} (sleep) of job {job} cannot be killed: state D (disk sleep)"), n
    assert n["state"] == "degraded" and n["drained"] is False
    assert "nodectl resume a2" in n["attention"][0]["fix"]
    waits = site.detach("-w", "a2", "--", "true")
    wait_until(lambda: f"a2 gets no new jobs: process {pid}" in (site.job(waits)["why"] or ""), 10 * SLOW, "it says why")
    # whatever is restarted, it is known
    site.stop_daemon("head", signal.SIGKILL)
    site.start_head()
    site.stop_daemon("a2", signal.SIGKILL)
    site.daemon("a2", "--agent", "--dir", site.path("a2"))
    wait_until(lambda: site.state("a2") == "degraded", 20 * SLOW, "its agent is back")
    time.sleep(2.5)
    assert str(pid) in state(site, "a2")["cordon"] and site.job(waits)["state"] == "queued"
    f.thaw()
    wait_until(lambda: state(site, "a2")["cordon"] is None, 15 * SLOW, "it is gone, and so is the cordon")
    assert site.wait_end(waits)["exit_code"] == 0


def test_what_a_killed_shim_left_in_state_D_cordons_its_node_until_resume(site, freeze):
    two_nodes(site)
    job = site.detach("-w", "a2", "--", "sleep", "1000")
    site.wait_state(job, "running")
    pid = rank_pid(site, job)
    shim = next(p for p in marked(site.dir) if os.path.basename(cmdline(p).split(" ")[0]).startswith("nodeagent-shim"))
    f = freeze(pid)
    kill(shim)
    j = site.wait_end(job, 60)
    assert any(f"pid {pid} (sleep, state D) could not be ended" in n for n in j["notices"]), j
    assert state(site, "a2")["cordon"].startswith(f"process {pid} (sleep) of job {job} cannot be killed: state D")
    site.admin("resume", "a2").ok()
    assert state(site, "a2")["cordon"] is None
    assert site.launch("-w", "a2", "--", "true").code == 0
    time.sleep(3)
    assert state(site, "a2")["cordon"] is None, "its agent does not tell it again"
    f.thaw()


def test_a_drain_is_left_alone_when_the_process_is_gone(site, freeze):
    two_nodes(site)
    job = site.detach("-w", "a2", "--grace", "0s", "--", "sleep", "1000")
    site.wait_state(job, "running")
    pid = rank_pid(site, job)
    f = freeze(pid)
    site.ctl("kill", job).ok()
    site.wait_end(job, 60)
    assert state(site, "a2")["cordon"].startswith(f"process {pid} (sleep)")
    site.admin("drain", "a2").ok()
    f.thaw()
    time.sleep(4)
    assert state(site, "a2")["cordon"].startswith("it is drained by")
    site.admin("resume", "a2").ok()
    assert site.launch("-w", "a2", "--", "true").code == 0


def test_a_process_that_a_tracer_holds_ends_its_job_and_cordons_nothing(site):
    """Its shim cannot kill it and says so; but that is nothing wrong with the node, and any user could do it."""
    two_nodes(site)
    job = site.detach("-w", "a2", "--grace", "0s", "--", "sleep", "1000")
    site.wait_state(job, "running")
    pid = rank_pid(site, job)
    if not make_immortal(pid):
        pytest.skip("processes may not be traced here")
    try:
        site.ctl("kill", job).ok()
        j = site.wait_end(job, 60)
        assert any(f"process {pid} (sleep) cannot be killed: state t" in n and "did not see that itself" in n
                   for n in j["notices"]), j
        assert state(site, "a2")["cordon"] is None
        assert site.launch("-w", "a2", "--", "true").code == 0
    finally:
        let_die(pid)
