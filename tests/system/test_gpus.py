"""test_gpus.py - GPUs from the library to a rank's environment: the real probe, agents and coordinator, a library that is none"""
import json
import os
import shutil
import subprocess
import time

import pytest

from cluster import BUILD, SLOW, Cluster, children, clean_env, kill, wait_until

FAKE = os.path.join(BUILD, "tests/fake/libnvml.so")
PROBE = os.path.join(BUILD, "nodeagent-probe")
SEE = "echo see=$CUDA_VISIBLE_DEVICES order=$CUDA_DEVICE_ORDER"

pytestmark = pytest.mark.skipif(not os.path.exists(PROBE), reason="nodeagent-probe is not built")


class Bed:
    """A cluster whose hosts have the GPUs that a file names."""

    def __init__(self, n, gpus, where):
        self.lib = os.path.join(where, "libnvml.so")
        shutil.copy(FAKE, self.lib)
        os.makedirs(os.path.join(where, "sys/class/infiniband"))
        self.have(gpus)
        self.c = Cluster(n, args=("--sysfs-root", os.path.join(where, "sys"), "--nvml", self.lib))
        wait_until(lambda: self.counts()[1] is not None, 20 * SLOW, "GPUs are known")

    def have(self, *lines):
        with open(self.lib + ".conf~", "w", encoding="ascii") as f:
            f.write("\n".join(lines) + "\n")
        os.replace(self.lib + ".conf~", self.lib + ".conf")

    def counts(self):
        """(busy, all) of the first node; None where it is not known."""
        r = self.c.ctl("--json", "status")
        if r.code:
            return "nobody", "answers"
        n = json.loads(r.out)["nodes"][0]
        return n["gpus_busy"], n["gpus_total"]

    def rows(self):
        return sorted(self.c.json("gpus")["gpus"], key=lambda g: (g["node"], g["index"]))

    def holders(self):
        """Job, or None, of each GPU that is listed."""
        return [g["job"] for g in self.rows()]

    def sleeper(self, *args):
        """A job that says what it sees and stays: (job, its CUDA_VISIBLE_DEVICES)."""
        job = self.c.detach(*args, "--", "sh", "-c", SEE + "; exec sleep 1000")
        return job, self.seen(job)

    def seen(self, job):
        wait_until(lambda: "see=" in self.c.ctl("logs", job).out, 20 * SLOW, f"job {job} has said what it sees")
        return sorted(line.split("see=")[1].split()[0] if not line.split("see=")[1].startswith(" ") else ""
                      for line in self.c.ctl("logs", job).lines())

    def why(self, job):
        return self.c.job(job).get("why") or ""


@pytest.fixture
def bed(tmp_path, request):
    made = []

    def make(n=1, gpus="count 4"):
        made.append(Bed(n, gpus, str(tmp_path)))
        return made[-1]
    yield make
    for b in made:
        left = b.c.finish()
        if left or getattr(request.node, "failed", False):
            print(b.c.logs())
        b.c.remove()
        assert not left, left


def test_two_jobs_have_their_own_and_the_third_waits(bed):
    b = bed(gpus="count 2")
    first, saw1 = b.sleeper("-G", 1)
    second, saw2 = b.sleeper("-G", 1)
    assert (saw1, saw2) == (["0"], ["1"])
    assert b.holders() == [first, second] and b.counts() == (2, 2)
    third = b.c.detach("-G", 1, "--", "sh", "-c", SEE)
    assert f"node1 runs job {first} of " in wait_until(lambda: b.why(third), 10 * SLOW, "the third says what it waits for")
    assert b.c.job(third)["state"] == "queued"
    b.c.ctl("kill", second, "--grace", "0s").ok()
    b.c.wait_end(third)
    assert b.seen(third) == ["1"]
    r = b.c.launch("-G", 2, "--immediate", "--", "true")
    assert r.code == 1 and "not now: 1 node with 2 free GPUs asked for" in r.err and f"runs job {first}" in r.err
    wait_until(lambda: b.counts() == (1, 2), 10 * SLOW, "the third's is seen to be free")
    b.c.launch("-G", 1, "--immediate", "--", "true").ok()


def test_default_is_all_and_none_hides_all(bed):
    b = bed()
    r = b.c.launch("--", "sh", "-c", SEE).ok()
    assert "see=0,1,2,3 order=PCI_BUS_ID" in r.out
    r = b.c.launch("-G", 0, "--", "sh", "-c", SEE + "; env | grep -c ^CUDA_VISIBLE_DEVICES=$").ok()
    assert "see= " in r.out and r.lines()[-1].endswith("1")
    r = b.c.launch("-G", 3, "--per-gpu", "--", "sh", "-c", "echo $LOCAL_RANK of $CUDA_VISIBLE_DEVICES").ok()
    assert sorted(x.split("] ")[1] for x in r.lines()) == [f"{i} of 0,1,2" for i in range(3)]
    r = b.c.launch("-G", 5, "--", "true")
    assert r.code != 0 and "5 GPUs" in r.err and "nodectl gpus" in r.err


def test_virtual_nodes_share_them_out(bed):
    b = bed(n=2)
    r = b.c.launch("-N", 2, "--", "sh", "-c", SEE).ok()
    assert sorted(x.split("see=")[1].split()[0] for x in r.lines()) == ["0,2", "1,3"]


def test_a_strangers_process_keeps_its_gpu(bed):
    b = bed(gpus="count 2")
    stranger = subprocess.Popen(["sleep", "1000"], env=clean_env(b.c.dir))
    try:
        b.have("count 2", f"proc 1 {stranger.pid} 1000000000")  # number 1 of the library's is GPU 0
        wait_until(lambda: b.counts() == (1, 2), 15 * SLOW, "it is seen")
        p = b.rows()[0]["processes"][0]
        assert p["pid"] == stranger.pid and p["job"] is None and p["name"] == "sleep"
        text = b.c.ctl("status").out
        assert f"node1 GPU 0: in use by sleep (pid {stranger.pid} of " in " ".join(text.split())
        assert "see=1 " in b.c.launch("-G", 1, "--", "sh", "-c", SEE).ok().out
        assert b.c.launch("-G", 2, "--immediate", "--", "true").code == 1
        assert "see=0,1 " in b.c.launch("-G", 2, "--busy-gpus", "--", "sh", "-c", SEE).ok().out
    finally:
        stranger.kill()
        stranger.wait()
    b.have("count 2")
    wait_until(lambda: b.counts() == (0, 2), 15 * SLOW, "it is gone")


def test_our_own_process_is_no_stranger(bed):
    b = bed(gpus="count 2")
    job, _ = b.sleeper("-G", 1)
    pid = b.c.job(job)["ranks"][0]["pid"]
    b.have("count 2", f"proc 1 {pid} 1000000000")
    wait_until(lambda: b.rows()[0]["processes"], 15 * SLOW, "its process is seen")
    assert b.rows()[0]["processes"][0]["job"] == job and b.counts() == (1, 2)


def test_one_that_fell_off_the_bus_is_not_given_out(bed):
    b = bed()
    b.have("count 4", "lost 3 15")  # number 3 of the library's is GPU 0
    wait_until(lambda: b.counts() == (0, 3), 15 * SLOW, "it is missed")
    assert b.rows()[0]["text"] and not b.rows()[1]["text"]
    r = b.c.launch("-G", 3, "--", "sh", "-c", SEE).ok()
    names = [g["uuid"] for g in b.rows()]
    assert f"see={','.join(names[1:])} " in r.out, "by name: CUDA may count on without the lost one"
    assert b.c.launch("-G", 4, "--", "true").code != 0


def test_one_that_is_listed_no_more_shifts_nobodys(bed):
    b = bed()
    first, _ = b.sleeper("-G", 1)
    second, _ = b.sleeper("-G", 1)
    names = {g["job"]: g["uuid"] for g in b.rows() if g["job"]}
    b.have("count 3")  # the library's number 3, which was GPU 0
    wait_until(lambda: b.counts()[1] == 3, 20 * SLOW, "it is missed")
    now = {g["uuid"]: g["job"] for g in b.rows()}
    assert names[first] not in now and now[names[second]] == second
    third, saw = b.sleeper("-G", 1)
    assert third not in (first, second) and saw == ["1"], "GPU 0 is the second job's now"
    assert b.holders() == [second, third, None]


def test_what_is_held_survives_agent_and_coordinator(bed):
    b = bed()
    job, _ = b.sleeper("-G", 3)
    for role in ("agent", "coordinator"):
        kill(b.c.role_pids()["node1" if role == "agent" else role])
        wait_until(lambda: b.counts() == (3, 4), 30 * SLOW, f"three are held after the {role} was killed")
        assert b.holders() == [job] * 3 + [None]
    b.c.ctl("kill", job, "--grace", "0s").ok()
    wait_until(lambda: b.counts() == (0, 4), 20 * SLOW, "they are free")


def test_gpus_of_a_node_whose_driver_breaks_are_not_known(bed):
    b = bed()
    b.have("init 18", "count 4")
    kill(children(b.c.agent_pid("node1"))[0])  # the probe
    wait_until(lambda: b.counts() == (None, None), 20 * SLOW, "they are not known")
    job = b.c.detach("--", "sh", "-c", SEE)
    assert "the GPUs of node1 are not known: " in wait_until(lambda: b.why(job), 10 * SLOW, "it says why it waits")
    assert "see= " in b.c.launch("-G", 0, "--", "sh", "-c", SEE).ok().out, "who wants none need not wait"
    b.have("count 4")
    b.c.wait_end(job, 60 * SLOW)
    assert b.seen(job) == ["0,1,2,3"]


def test_a_probe_that_dies_at_once_gives_no_gpu_twice(bed, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("nodeagentd", "nodeagent-shim", "nodeagent-launcher"):
        shutil.copy(os.path.join(BUILD, name), programs / name)
    broken = programs / "broken"
    probe = programs / "nodeagent-probe"
    probe.write_text(f"#!/bin/sh\n[ -e {broken} ] && exit 9\nexec {PROBE} \"$@\"\n")
    probe.chmod(0o755)
    monkeypatch.setattr("cluster.NODEAGENTD", str(programs / "nodeagentd"))
    b = bed()
    broken.touch()
    kill(b.c.agent_pid("node1"))
    wait_until(lambda: b.counts() == (None, None), 30 * SLOW, "they are not known")
    job = b.c.detach("--", "sh", "-c", SEE)
    other = b.c.detach("-G", 2, "--", "sh", "-c", SEE + "; exec sleep 1000")
    assert "the GPUs of node1 are not known" in wait_until(lambda: b.why(other), 20 * SLOW, "it says why it waits")
    assert [b.c.job(j)["state"] for j in (job, other)] == ["queued", "queued"]
    broken.unlink()
    b.c.wait_end(job, 60 * SLOW)
    assert b.seen(job) == ["0,1,2,3"] and b.seen(other) == ["0,1"]
    assert b.holders() == [other, other, None, None]


def full(n):
    return [f"mem {i} 12000" for i in range(n)]


def test_a_gpu_is_given_on_when_its_memory_is_back(bed):
    b = bed(gpus="count 2")
    first, _ = b.sleeper("-G", 2)
    pid = b.c.job(first)["ranks"][0]["pid"]
    b.have("count 2", f"proc 0 {pid} 1000000000", *full(2))
    wait_until(lambda: b.rows()[1]["processes"], 15 * SLOW, "it is seen at work")
    b.have("count 2", *full(2))  # its process goes, and the driver keeps the memory
    b.c.ctl("kill", first, "--grace", "0s").ok()
    b.c.wait_end(first)
    begin = time.monotonic()
    second = b.c.detach("-G", 2, "--", "sh", "-c", SEE)
    assert f"the memory of GPUs of node1 is not back since job {first} has ended" in wait_until(lambda: b.why(second), 10 * SLOW, "it says why")
    assert b.counts() == (2, 2) and b.c.job(second)["state"] == "queued"
    wait_until(lambda: "not released" in b.c.ctl("status").out, 40 * SLOW, "after half a minute somebody has to look")
    assert time.monotonic() - begin > 25
    text = " ".join(b.c.ctl("status").out.split())
    assert f"still holds 12.6 GB, more than 30 s after job {first} ended; no process owns it" in text and "--gpu-reset" in text
    b.have("count 2", "mem 0 1040", "mem 1 1060")
    b.c.wait_end(second, 20 * SLOW)
    assert b.seen(second) == ["0,1"]
    assert "not released" not in b.c.ctl("status").out


def test_a_clean_gpu_is_given_on_at_once(bed):
    """The probe would speak by itself after 10 s: it is asked."""
    b = bed(gpus="count 1")
    b.c.launch("-G", 1, "--", "true").ok()
    begin = time.monotonic()
    for _ in range(3):
        b.c.launch("-G", 1, "--", "true").ok()
    assert time.monotonic() - begin < 5 * SLOW
    assert any("GPUs released" in m["text"] for m in b.c.job(1).get("story") or []) or not b.c.job(1).get("story")
