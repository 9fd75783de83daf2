"""test_survive.py - daemons die and come back; jobs, codes and output do not notice"""
import glob
import os
import re
import signal
import subprocess
import time

import pytest

from cluster import PYTHON, SLOW, Reader, alive, cmdline, kill, marked, wait_until

# Counts lines while daemons come and go, then ends with a code of its own.
COUNT = ("import os,sys,time\n"
         "n=int(os.environ.get('COUNT','40'))\n"
         "for i in range(n):\n    print('line %d' % i)\n    time.sleep(0.1)\n"
              "if os.environ['RANK']=='0': sys.exit(0)\n"
         "time.sleep(1)\n"  # the other one has written its last line by then
         "sys.exit(3)\n")
WHOLE = "".join(f"line {i}\n" for i in range(40))


def start_counting(c, **kw):
    job = c.detach("-N", 2, "--", PYTHON, "-c", COUNT, **kw)
    j = c.wait_state(job, "running")
    return job, [r["pid"] for r in c.job(job)["ranks"]]


def check_whole(c, job, pids):
    assert all(alive(p) for p in pids), "ranks go on"
    j = c.wait_end(job, 40)
    assert (j["state"], j["exit_code"]) == ("failed", 3)
    assert c.ctl("logs", job).ok().by_rank() == {0: WHOLE, 1: WHOLE}
    assert j["attempt"] == 1


def test_an_agent_killed_comes_back_and_its_job_goes_on(cluster):
    c = cluster(2)
    job, pids = start_counting(c)
    old = c.agent_pid(c.names[1])
    kill(old)
    wait_until(lambda: c.role_pids().get(c.names[1]) not in (None, old), 15, "the supervisor starts it again")
    wait_until(lambda: c.nodes_now()[c.names[1]]["state"] == "ok", 15, "it registers again")
    check_whole(c, job, pids)


def test_an_agent_without_descriptors_takes_no_living_job_for_dead(site):
    """Adoption runs out of them at each of many points: whatever the agent does then, the ranks stay."""
    def log():
        with open(site.path("n1.log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def down():
        p = site.daemons["n1"]
        if p.poll() is None:
            p.kill()
        p.wait()
    site.head()
    site.node("n1")
    jobs = [site.detach("--", "sleep", "1000") for _ in range(8)]
    pids = [site.wait_state(j, "running")["ranks"][0]["pid"] for j in jobs]
    met = set()
    for n in range(14, 62, 3):
        down()
        before = len(log())
        p = site.daemon("n1", "--agent", "--dir", site.path("n1"), prefix=["prlimit", f"--nofile={n}:{n}"])
        end = time.monotonic() + 2 * SLOW
        while time.monotonic() < end and p.poll() is None and "registered" not in log()[before:]:
            time.sleep(0.05)
        time.sleep(0.3)
        text = log()[before:]
        met |= {w for w in ("Too many open files", "its shim is alive", "is registered") if w.lower() in text.lower()}
        assert all(alive(x) for x in pids), (n, text)
        assert not any(x in text for x in ("its shim is dead", "its record is removed", "lost")), (n, text)
    assert len(met) == 3, f"the test did not get where it should: {met}"
    down()
    site.agent("n1")
    for j, pid in zip(jobs, pids):
        assert site.wait_state(j, "running")["ranks"][0]["pid"] == pid and alive(pid)
        site.ctl("kill", j, "--grace", "0s").ok()
    for j in jobs:
        site.wait_end(j)


def test_the_submitting_agent_killed_costs_the_client_only_its_view(cluster):
    c = cluster(2)
    p = c.popen("launch", "-N", 2, "--", PYTHON, "-c", COUNT)
    out, err = Reader(p.stdout), Reader(p.stderr)
    job = int(err.wait(r"job (\d+)").group(1))
    out.wait(":1. line 5")
    kill(c.agent_pid(c.names[0]))
    code = p.wait(40)
    if code != 3:  # it left: then with a sentence that names the job, and attach works
        assert str(job) in err.data.decode()
        wait_until(lambda: c.ctl("job", job).code == 0, 15, "the socket answers again")
        c.wait_end(job)
    assert c.job(job)["exit_code"] == 3
    assert c.ctl("logs", job).ok().by_rank() == {0: WHOLE, 1: WHOLE}


def test_a_rank_that_ends_while_its_agent_is_away_is_not_lost(cluster):
    c = cluster(2)
    job, pids = start_counting(c, env=dict(c.env, COUNT="12"))
    agent = c.agent_pid(c.names[1])
    os.kill(agent, signal.SIGSTOP)  # nobody starts another one meanwhile
    wait_until(lambda: not alive(pids[1]), 15, "rank 1 ends by itself")
    kill(agent)
    j = c.wait_end(job, 40)
    assert (j["state"], j["exit_code"]) == ("failed", 3)
    assert c.ctl("logs", job).ok().by_rank()[1] == "".join(f"line {i}\n" for i in range(12))


def test_the_coordinator_killed_comes_back_and_keeps_all(cluster):
    c = cluster(2)
    done = c.detach("--", "sh", "-c", "exit 9")
    c.wait_end(done)
    job, pids = start_counting(c)
    old = c.role_pids()["coordinator"]
    kill(old)
    wait_until(lambda: c.role_pids().get("coordinator") not in (None, old), 15, "the supervisor starts it again")
    assert all(alive(p) for p in pids)
    wait_until(lambda: c.ctl("status").code == 0, 15, "clients are served again")
    assert {n: v["state"] for n, v in wait_until(
        lambda: (lambda s: s if all(v["state"] == "ok" for v in s.values()) and len(s) == 2 else None)(c.nodes_now()),
        20, "both nodes are registered again without a new join").items()} == {n: "ok" for n in c.names}
    assert c.job(done)["exit_code"] == 9
    check_whole(c, job, pids)


def test_a_client_waits_while_the_coordinator_restarts(cluster):
    c = cluster(2)
    p = c.popen("launch", "-N", 2, "--", PYTHON, "-c", COUNT)
    out = Reader(p.stdout)
    out.wait(":1. line 5")
    kill(c.role_pids()["coordinator"])
    assert p.wait(40) == 3
    out.thread.join(5)
    text = out.data.decode()
    for rank in (0, 1):
        assert re.findall(rf"\[[^:]+:{rank}\] (line \d+)", text) == WHOLE.split("\n")[:-1]


def test_everything_killed_is_the_same_cluster_again(cluster):
    """kill -9 of all daemons; the shims stay. Started again with the same directory it finds them."""
    c = cluster(2)
    job, pids = start_counting(c)
    before = c.json("status")
    for p in [c.proc.pid, *c.role_pids().values()]:
        kill(p)
    c.proc.wait()
    c.proc.stdout.close()
    assert all(alive(p) for p in pids)
    time.sleep(0.5)
    c.start()
    after = c.json("status")
    assert after["cluster"] == before["cluster"]
    check_whole(c, job, pids)


def test_a_job_that_ends_while_all_daemons_are_gone_is_known_afterwards(cluster):
    c = cluster(2)
    job, pids = start_counting(c, env=dict(c.env, COUNT="10"))
    for p in [c.proc.pid, *c.role_pids().values()]:
        kill(p)
    c.proc.wait()
    c.proc.stdout.close()
    wait_until(lambda: not any(alive(p) for p in pids), 20, "the ranks end by themselves")
    time.sleep(0.3)
    c.start()
    j = c.wait_end(job, 30)
    assert (j["state"], j["exit_code"]) == ("failed", 3)
    want = "".join(f"line {i}\n" for i in range(10))
    assert c.ctl("logs", job).ok().by_rank() == {0: want, 1: want}


def test_stopped_and_started_again_it_has_its_history(cluster):
    c = cluster(2)
    first = c.detach("--name", "before", "--", "sh", "-c", "echo kept; exit 4")
    c.wait_end(first)
    assert c.stop() == 0
    c.start()
    j = c.job(first)
    assert (j["name"], j["state"], j["exit_code"]) == ("before", "failed", 4)
    assert c.ctl("logs", first).ok().out == "kept\n"
    assert c.detach("--", "true") > first, "numbers are never used again"


def test_a_second_daemon_on_the_same_directory_is_refused(cluster):
    c = cluster(1)
    from cluster import NODEAGENTD
    r = subprocess.run([NODEAGENTD, "--standalone", "--dir", c.home], stdin=subprocess.DEVNULL, capture_output=True, timeout=20,
                       env=c.env)
    assert r.returncode != 0 and r.stderr.strip()
    c.launch("--", "true").ok()


def test_killed_again_and_again(cluster):
    """Agents and coordinator die at random while short jobs run; every job that was accepted has its one true end."""
    import random
    rng = random.Random(7)
    c = cluster(3)
    folder = c.path("once")
    os.mkdir(folder)
    script = 'for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; echo x >> "$0/$NA_N.$RANK"; exit $((RANK == 0 ? NA_N % 3 : 0))'
    jobs = {}
    for n in range(8):
        wait_until(lambda: c.ctl("status").code == 0, 30, "a cluster that answers")
        p = c.ctl("--json", "launch", "--detach", "-N", 2, "--env", f"NA_N={n}", "--", "sh", "-c", script, folder, timeout=60)
        if p.code == 0:
            jobs[n] = int(re.search(r'"job":\s*"?(\d+)', p.out).group(1))
        pids = c.role_pids()
        if pids:
            kill(rng.choice(sorted(pids.values())))
        time.sleep(rng.random() * 0.6)
    assert len(jobs) >= 5
    wait_until(lambda: c.ctl("status").code == 0, 30, "a cluster that answers")
    for n, job in jobs.items():
        j = c.wait_end(job, 60)
        for rank in (0, 1):
            path = os.path.join(folder, f"{n}.{rank}")
            times = open(path, encoding="ascii").read().count("x") if os.path.exists(path) else 0
            assert times <= 1, f"job {job} rank {rank} ran {times} times"
            if j["exit_code"] == n % 3 and j["state"] in ("done", "failed") and n % 3 == 0:
                assert times == 1, f"job {job} is done, rank {rank} never ran"


def test_a_record_that_cannot_be_read_is_no_proof_of_death(site):
    """Its ranks may live: nothing is told as ended, and nothing is ended, before another boot is known of."""
    site.head()
    site.node("n1")
    job = site.detach("--", "sleep", "1000")
    site.wait_state(job, "running")
    rank = site.job(job)["ranks"][0]["pid"]
    site.stop_daemon("n1", signal.SIGKILL)
    held, = glob.glob(f"{site.dir}/**/shims/{job}.1.held", recursive=True)
    good = open(held, "rb").read()
    with open(held, "wb") as f:  # its latch is another name of it
        f.write(good[:len(good) // 2])
    site.agent("n1")
    wait_until(lambda: "cannot be read any more" in " ".join(site.job(job)["notices"]), 10, "it is told")
    site.ctl("kill", job, "--grace", "0s", timeout=20).ok()
    time.sleep(1)
    assert site.job(job)["state"] == "ending" and alive(rank)
    site.stop_daemon("n1", signal.SIGKILL)
    with open(os.path.dirname(held) + "/../boot", "w") as f:  # as if the host had been rebooted since
        f.write("01234567-89ab-cdef-0123-456789abcdef")
    kill(rank)
    site.agent("n1")
    site.wait_end(job, 15)
    assert not os.path.exists(held)
