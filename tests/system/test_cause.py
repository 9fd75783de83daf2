"""test_cause.py - whose end was the first, what the host knows of it, and the story of a job, with the real daemons"""
import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from cluster import BUILD, PYTHON, ROOT, SLOW, Cluster, kill, wait_until
from test_probe_agent import Host

PROBE = os.path.join(BUILD, "nodeagent-probe")
WAIT = "import time\ntime.sleep(1000)\n"
V1 = "/sys/fs/cgroup/memory"


def story(j):
    return [m["text"] for m in j["story"]]


def has(j, text):
    return any(text in t for t in story(j))


def test_a_rank_killed_from_outside_is_told_from_one_the_kernel_killed(cluster):
    c = cluster(2)
    job = c.detach("-N", 2, "--", PYTHON, "-c", WAIT)
    pid = c.wait_state(job, "running")["ranks"][1]["pid"]
    kill(pid, signal.SIGKILL)
    j = c.wait_end(job)
    assert (j["state"], j["exit_code"]) == ("failed", 137)
    assert j["first"].startswith(f"rank 1 ({c.names[1]}, pid {pid}) was killed by signal 9"), j["first"]
    assert j["cause"].startswith(("sent by neither nodeagent nor", "not sent by nodeagent")), j["cause"]
    assert j["others"].startswith("1 other rank (collateral): 1 by our SIGTERM"), j["others"]
    assert j["either"] is None and [r["maybe_first"] for r in j["ranks"]] == [False, False]
    for text in ("submitted by", "placed on", "prepared on all nodes", "started: 2 processes", "rank 1 (", "all others are ended",
                 "failed, exit code 137"):
        assert has(j, text), (text, story(j))
    times = [m["at_us"] for m in j["story"]]
    assert times == sorted(times)
    death = next(m for m in j["story"] if m["text"].startswith("rank 1"))
    assert 0 < death["error_us"] < 1000000 and death["node"] == c.names[1]
    text = c.ctl("job", job, env={"COLUMNS": "80"}).ok().out
    assert all(len(line) <= 80 for line in text.splitlines()), text


def test_the_earlier_of_two_ends_is_the_first_whoever_is_heard_first(cluster):
    """Node 2's agent is stopped while its rank fails, so node 1's failure 0.3 s later is heard before it."""
    c = cluster(2)
    code = ("import os,sys,time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.005)\n"
            "time.sleep(0.05 if os.environ['RANK']=='1' else 0.35)\nsys.exit(3 + int(os.environ['RANK']))\n")
    go = c.path("go")
    job = c.detach("-N", 2, "--", PYTHON, "-c", code, go)
    c.wait_state(job, "running")
    agent = c.agent_pid(c.names[1])
    os.kill(agent, signal.SIGSTOP)
    try:
        c.write("go", "")
        wait_until(lambda: c.job(job)["ranks"][0]["state"] == "exited", 10 * SLOW, "node 1 is heard")
        time.sleep(0.5)
    finally:
        os.kill(agent, signal.SIGCONT)
    j = c.wait_end(job)
    assert (j["state"], j["exit_code"]) == ("failed", 4), j
    assert j["first"].startswith("rank 1 ("), j["first"]
    assert has(j, "an earlier end was reported: rank 0"), story(j)


def test_two_ends_that_the_clocks_tell_apart_are_not_in_doubt(cluster):
    c = cluster(2)
    job = c.detach("-N", 2, "--", "sh", "-c", "sleep 0.$((RANK * 4 + 1)); exit $((RANK + 5))")
    j = c.wait_end(job)
    assert j["exit_code"] == 5 and j["either"] is None, j


def test_a_death_is_told_to_who_launched(cluster):
    c = cluster(1)
    r = c.launch("--", "sh", "-c", "kill -9 $$")
    assert r.code == 137
    assert "  cause   sent by neither nodeagent nor" in r.err or "  cause   not sent by nodeagent" in r.err, r


# ---- the kernel's OOM killer -----------------------------------------------------------

@pytest.fixture
def small_cgroup():
    """A cgroup of the memory controller, version 1, with a limit; or skip with the reason."""
    if not ROOT:
        pytest.skip("making a cgroup needs root")
    if not os.path.exists(os.path.join(V1, "memory.limit_in_bytes")):
        pytest.skip("no memory controller of cgroup version 1 is mounted")
    with open("/proc/self/cgroup", encoding="ascii") as f:
        own = next(line.split(":", 2)[2].strip() for line in f if ":memory:" in line)
    path = os.path.join(V1 + own, f"na-test-{os.getpid()}-{time.monotonic_ns()}")
    try:
        os.mkdir(path)
        with open(os.path.join(path, "memory.limit_in_bytes"), "w", encoding="ascii") as f:
            f.write(str(600 << 20))
    except OSError as e:
        pytest.skip(f"no cgroup can be made: {e}")
    yield path
    with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as f:
        for pid in f.read().split():
            try:
                with open(os.path.join(V1 + own, "cgroup.procs"), "w", encoding="ascii") as up:
                    up.write(pid)
            except OSError:
                pass  # it has gone meanwhile
    os.rmdir(path)


def test_a_rank_that_the_oom_killer_ends_is_told_so(cluster, small_cgroup):
    c = cluster(1)
    with open(os.path.join(small_cgroup, "cgroup.procs"), "w", encoding="ascii") as f:
        f.write(str(c.agent_pid(c.names[0])))
    job = c.detach("--", PYTHON, "-c", "import time\nx=[]\nwhile True: x.append(bytearray(32<<20)); time.sleep(0.01)")
    j = c.wait_end(job)
    assert (j["state"], j["exit_code"]) == ("failed", 137), j
    assert j["cause"] == "by the kernel's OOM killer, for its cgroup was out of memory (its limit is 600 MiB)", j["cause"]


def test_a_child_that_the_oom_killer_ends_is_told_of_its_rank(cluster, small_cgroup):
    """As with torchrun: the rank itself only exits with a code."""
    c = cluster(1)
    with open(os.path.join(small_cgroup, "cgroup.procs"), "w", encoding="ascii") as f:
        f.write(str(c.agent_pid(c.names[0])))
    eater = "x=[]\nwhile True: x.append(bytearray(32<<20))"
    job = c.detach("--", "sh", "-c", f'{PYTHON} -c "$1"; exit 1', "sh", eater)
    j = c.wait_end(job)
    assert (j["state"], j["exit_code"]) == ("failed", 1), j
    assert j["cause"].startswith("the kernel's OOM killer has ended a process of its cgroup"), j["cause"]


# ---- the kernel's log, and readings -------------------------------------------------------

needs_probe = pytest.mark.skipif(not os.path.exists(PROBE), reason="nodeagent-probe is not built")


class Log:
    def __init__(self, where):
        self.path = os.path.join(where, "kmsg")
        self.seq = 100
        with open(self.path, "w", encoding="ascii") as f:
            f.write("6,99,1000000,-;NVRM: Xid (PCI:0000:01:00): 31, pid=1, it was before\n")

    def say(self, text):
        self.seq += 1
        with open(self.path, "a", encoding="ascii") as f:
            f.write(f"3,{self.seq},{self.seq}000000,-;{text}\n SUBSYSTEM=pci\n")


@pytest.fixture
def host(cluster):
    h = Host(cluster)
    h.log = Log(h.dir)
    yield h
    shutil.rmtree(h.dir, ignore_errors=True)


@needs_probe
def test_lines_of_the_kernels_log_are_put_beside_the_end(host):
    c = host.start(1, "--kmsg", host.log.path)
    job = c.detach("--", PYTHON, "-c", WAIT)
    pid = c.wait_state(job, "running")["ranks"][0]["pid"]
    host.log.say("usb 1-1: new device")
    host.log.say(f"Memory cgroup out of memory: Killed process {pid} (python3) total-vm:1kB, anon-rss:1kB")
    wait_until(lambda: has(c.job(job), f"OOM killer ended pid {pid}"), 10 * SLOW, "the story tells it")
    kill(pid, signal.SIGKILL)
    j = c.wait_end(job)
    assert f"the kernel's OOM killer ended pid {pid} (python3): its cgroup was out of memory" in j["cause"], j["cause"]
    assert j["cause"].rstrip().endswith("before"), j["cause"]
    assert not has(j, "it was before"), story(j)


@needs_probe
def test_another_jobs_misfortune_is_not_put_beside_the_end(host):
    c = host.start(1, "--kmsg", host.log.path)
    a, b = (c.detach("-G", 0, "--", PYTHON, "-c", WAIT) for _ in range(2))
    pids = [c.wait_state(job, "running")["ranks"][0]["pid"] for job in (a, b)]
    host.log.say(f"Out of memory: Killed process {pids[0]} (python3) total-vm:1kB")
    wait_until(lambda: has(c.job(a), "OOM killer"), 10 * SLOW, "the story of its own job tells it")
    kill(pids[1], signal.SIGTERM)
    j = c.wait_end(b)
    assert j["cause"] is None and not has(j, "OOM"), j
    kill(pids[0], signal.SIGKILL)
    c.wait_end(a)


@needs_probe
def test_an_xid_of_the_jobs_gpu_is_put_beside_the_end(host):
    c = host.start(1, "--kmsg", host.log.path)
    job = c.detach("-G", 1, "--", PYTHON, "-c", WAIT)
    j = c.wait_state(job, "running")
    mine = j["gpus"][0]["gpus"][0]
    host.gpus("count 2", f"xid {mine} 31", f"xid {1 - mine} 79")  # NVML counts them the other way round
    wait_until(lambda: has(c.job(job), f"Xid 79 on GPU {mine}"), 20 * SLOW, "the story tells it")
    kill(j["ranks"][0]["pid"], signal.SIGABRT)
    j = c.wait_end(job)
    assert f"Xid 79 on GPU {mine} " in j["cause"] and "Xid 31" not in j["cause"], j["cause"]
    assert f"GPU {mine}, pid" in j["first"] and j["ranks"][0]["gpu"] == mine, j["first"]
    assert not has(j, "Xid 31"), story(j)


@needs_probe
def test_a_port_that_goes_down_on_another_node_is_named(host):
    c = host.start(2, "--kmsg", host.log.path)
    job = c.detach("-N", 2, "-G", 0, "--", PYTHON, "-c", WAIT)
    j = c.wait_state(job, "running")
    host.tree.set("mlx5_0", state="1: DOWN", phys_state="2: Polling")
    wait_until(lambda: has(c.job(job), "port mlx5_0/1 went down"), 20 * SLOW, "the story tells it")
    kill(j["ranks"][0]["pid"], signal.SIGABRT)
    j = c.wait_end(job)
    assert "port mlx5_0/1 went down" in j["cause"], j["cause"]
