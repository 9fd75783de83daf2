"""test_end.py - the end of a job: everybody is told at once, and nobody is left, however deep it hid"""
import os
import re
import shutil
import signal
import time

import pytest

from cluster import PYTHON, SLOW, Reader, alive, children, cmdline, kill, let_die, make_immortal, marked, proc_text, wait_until

# Four ways to get out of a parent's sight; each writes its pid to a file of its own and stays.
HIDERS = {
    "grandchild": "import os,time\nif os.fork()==0:\n    if os.fork()==0:\n        stay()\n    os._exit(0)\n",
    "setsid": "import os,time\nif os.fork()==0:\n    os.setsid()\n    stay()\n",
    "double_fork": "import os,time\nif os.fork()==0:\n    os.setsid()\n    if os.fork()==0:\n        stay()\n    os._exit(0)\n",
    "nohup": "import os,time,signal\nif os.fork()==0:\n    signal.signal(signal.SIGHUP,signal.SIG_IGN)\n"
             "    signal.signal(signal.SIGTERM,signal.SIG_IGN)\n    stay()\n",
    "deaf_daemon": "import os,time,signal\nfor s in (1,2,3,13,15): signal.signal(s,signal.SIG_IGN)\nif os.fork()==0:\n"
                   "    os.setsid()\n    if os.fork()==0:\n        os.chdir('/')\n        os.closerange(0,64)\n        stay()\n    os._exit(0)\n",
    "clean_environment": "import os,time\nif os.fork()==0:\n    os.setsid()\n    if os.fork()==0:\n"
                         "        note()\n        os.execve('/bin/sleep',['sleep','1000'],{})\n    os._exit(0)\n",
}
PRELUDE = ("import os,time\n"
           "def note():\n    open(os.environ['HIDE']+'/%d'%os.getpid(),'w').close()\n"
           "def stay():\n    note()\n    while True: time.sleep(1000)\n")


def hidden(folder):
    return [int(n) for n in os.listdir(folder)]


def start_hider(c, how, n=2, tail="time.sleep(1000)"):
    folder = c.path(f"hide{time.monotonic_ns()}")
    os.mkdir(folder, 0o777)
    os.chmod(folder, 0o777)
    job = c.detach("-N", n, "--grace", "1s", "--env", f"HIDE={folder}", "--", PYTHON, "-c", PRELUDE + HIDERS[how] + tail)
    wait_until(lambda: len(hidden(folder)) == n, 15, "the hidden processes are there")
    time.sleep(0.2)
    return job, hidden(folder)


@pytest.mark.parametrize("how", HIDERS)
def test_nobody_hides_from_a_kill(shared, how):
    job, pids = start_hider(shared, how)
    assert all(alive(p) for p in pids)
    shared.ctl("kill", job).ok()
    shared.wait_end(job, 15 * SLOW)
    assert not [p for p in pids if alive(p)]


@pytest.mark.parametrize("how", ["grandchild", "deaf_daemon", "clean_environment"])
def test_nobody_outlives_a_job_that_ends_by_itself(shared, how):
    job, pids = start_hider(shared, how, tail="time.sleep(0.5)")
    j = shared.wait_end(job, 15 * SLOW)
    assert j["state"] == "done" and j["exit_code"] == 0
    assert not [p for p in pids if alive(p)]


def test_nobody_outlives_a_rank_killed_from_outside(shared):
    job, pids = start_hider(shared, "setsid")
    ranks = shared.job(job)["ranks"]
    os.kill(ranks[1]["pid"], signal.SIGKILL)
    j = shared.wait_end(job, 15 * SLOW)
    assert j["exit_code"] == 137
    assert not [p for p in pids if alive(p)]


def test_others_get_term_at_once(shared):
    script = ("import os,signal,sys,time\n"
              "def told(*a):\n    print('told after %.3f' % (time.time()-float(open(os.environ['T']).read()))); sys.exit(0)\n"
              "signal.signal(signal.SIGTERM, told)\n"
              "if os.environ['RANK']=='2':\n    time.sleep(0.5)\n    open(os.environ['T'],'w').write(str(time.time()))\n    os._exit(5)\n"
              "time.sleep(60)\n")
    t = shared.path("t.time")
    r = shared.launch("-N", 4, "--env", f"T={t}", "--", PYTHON, "-c", script)
    assert r.code == 5
    after = [float(x) for x in re.findall(r"told after ([\d.]+)", r.out)]
    assert len(after) == 3 and max(after) < 0.8 * SLOW, after


def test_kill_follows_after_the_grace(shared):
    script = ("import os,signal,sys,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
              "if os.environ['RANK']=='0':\n    time.sleep(0.3)\n    sys.exit(6)\ntime.sleep(60)\n")
    start = time.monotonic()
    r = shared.launch("-N", 2, "--grace", "1500ms", "--", PYTHON, "-c", script)
    took = time.monotonic() - start
    assert r.code == 6 and 1.6 < took < 1.8 + 2 * SLOW, took


def test_time_to_save_within_the_grace(shared):
    path = shared.path("saved")
    script = (f"trap 'sleep 0.7; echo saved > {path}; exit 0' TERM; echo up; while :; do sleep 0.1; done")
    job = shared.detach("--grace", "20s", "--", "sh", "-c", script)
    p = shared.popen("logs", job, "-f")
    Reader(p.stdout).wait("up")
    start = time.monotonic()
    shared.ctl("kill", job).ok()
    shared.wait_end(job)
    assert os.path.exists(path) and time.monotonic() - start < 8



@pytest.mark.parametrize("how", ["deaf_daemon", "clean_environment"])
def test_shim_killed_leaves_no_process_of_the_job(cluster, how):
    c = cluster(2)
    other, others = start_hider(c, how)  # a job that has nothing to do with it
    theirs = set(shim_pids(c))
    job, pids = start_hider(c, how)
    found = [p for p in shim_pids(c) if p not in theirs]
    assert found, "no shim found"
    kill(found[0])
    j = c.wait_end(job, 30)
    assert j["state"] in ("failed", "lost") and j["exit_code"] != 0
    assert not [p for p in pids if alive(p)]
    assert all(alive(p) for p in others) and c.job(other)["state"] == "running"
    for agent in c.role_pids().values():
        wait_until(lambda: not [p for p in children(agent) if proc_state(p) == "Z"], 5, "no zombie is left")


def own_agent(site, prefix, conf=""):
    """A cluster of one node whose agent is started by 'prefix'."""
    site.head()
    site.join("n1", site.token("--submit", "--uids", "1000-4000000000")).ok()
    site.agent("n1", conf, prefix)
    job, pids = start_hider(site, "clean_environment", 1)
    return job, pids[0], [p for p in marked(site.dir) if "nodeagent-shim" in cmdline(p)]


def named(site, job):
    return " ".join(site.job(job)["notices"])


def test_a_child_that_the_agent_was_started_with_is_no_orphan(site):
    """sh -c 'logger & exec nodeagentd': it was killed, with the first shim that was."""
    mark = f"{site.path('logger')}"
    site.write("logger", "import os, time\nwhile True: time.sleep(1000)\n")
    job, pid, shims = own_agent(site, ["sh", "-c", f'{PYTHON} {mark} & exec "$@"', "-"])
    try:
        loggers = [p for p in marked(mark) if "exec" not in cmdline(p)]
        assert loggers and len(shims) == 1
        kill(shims[0])
        j = site.wait_end(job, 20)
        assert j["state"] in ("failed", "lost")
        assert all(alive(p) for p in loggers) and alive(pid)
        assert f"pid {pid} (sleep, state S) may be of the job and was left alone" in named(site, job)
    finally:
        for p in [pid, *marked(mark)]:
            kill(p)


def test_an_agent_that_is_process_1_leaves_orphans_alone(site):
    if os.geteuid() != 0:
        pytest.skip("a PID namespace needs root")
    # a process namespace with a /proc of its own: what an agent in a container has
    job, pid, shims = own_agent(site, ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
    try:
        kill(shims[0])
        site.wait_end(job, 20)
        inside = re.search(r"pid (\d+) \(sleep, state S\) may be of the job and was left alone", named(site, job))
        assert inside and "process 1" in named(site, job)
    finally:
        for p in marked(site.dir):
            if "nodeagentd --agent" in cmdline(p) and not cmdline(p).startswith("unshare"):
                kill(p)  # with all that is inside


SETUID = ("import os,sys,time\nif os.fork()==0:\n    os.setsid()\n    if os.fork()==0:\n"
          "        os.execve(sys.argv[1],['setpriv','--reuid=0','--regid=0','--clear-groups','sleep','1000'],{})\n    os._exit(0)\n"
          "time.sleep(1000)\n")


def test_an_orphan_that_may_not_be_signalled_cordons_its_node(site):
    """It has become root. Its job does not wait for it; the next one does, for it may use what that one would get."""
    if os.geteuid() != 0:
        pytest.skip("a setuid program needs root")
    program = shutil.copy("/usr/bin/setpriv", site.path("setpriv"))
    os.chown(program, 0, 0)
    os.chmod(program, 0o4755)
    site.head()
    site.node("n1")
    job = site.detach("--", PYTHON, "-c", SETUID, program)

    def roots():
        return [p for p in children(shims()[0]) if cmdline(p) == "sleep 1000"]

    def shims():
        return [p for p in marked(site.dir) if "nodeagent-shim" in cmdline(p)]

    site.wait_state(job, "running")
    try:
        pid = wait_until(roots, 10, "the orphan is root's")[0]
    except AssertionError:
        pytest.skip("setuid programs have no effect here")
    try:
        kill(shims()[0])
        site.wait_end(job, 10)
        assert alive(pid) and f"pid {pid} (sleep, state S) could not be ended: Operation not permitted" in named(site, job)
        cordon = site.json("nodes")["nodes"][0]["cordon"]
        assert f"process {pid} (sleep) of job {job} cannot be killed: state S (sleeping)" in cordon
        assert "it runs as uid 0, and may not be signalled" in cordon
        next_job = site.detach("--", "sleep", "1000")
        time.sleep(1)
        assert site.job(next_job)["state"] == "queued"
        kill(pid)
        site.wait_state(next_job, "running")
        kill(shims()[0])
        site.wait_end(next_job, 10)
        assert "could not be ended" not in named(site, next_job)
    finally:
        kill(pid)


def test_an_orphan_that_does_not_die_holds_up_its_own_job_for_30_s(cluster):
    c = cluster(1)
    job, pids = start_hider(c, "clean_environment", 1)
    if not make_immortal(pids[0]):
        pytest.skip("processes may not be traced here")
    try:
        start = time.monotonic()
        kill(shim_pids(c)[0])
        time.sleep(2)
        next_job, others = start_hider(c, "clean_environment", 1)
        kill(shim_pids(c)[0])
        c.wait_end(next_job, 10)
        assert not alive(others[0]) and "could not" not in named(c, next_job)
        assert c.job(job)["state"] not in ("failed", "lost")
        c.wait_end(job, 50)
        assert 28 < time.monotonic() - start < 45
        assert f"pid {pids[0]} (sleep, state t) could not be ended" in named(c, job)
    finally:
        let_die(pids[0])


def proc_state(pid):
    return (proc_text(pid, "stat") or b") X").rsplit(b")", 1)[1].split()[0].decode()


def shim_pids(c):
    found = [p for p in marked(c.dir) if os.path.basename(cmdline(p).split(" ")[0]).startswith("nodeagent-shim")]
    # the shim may run with an environment of its own: then it is a child of an agent
    for agent in c.role_pids().values():
        found += [p for p in children(agent) if "nodeagent-shim" in cmdline(p)]
    return found


def test_stopping_the_cluster_ends_its_jobs(cluster):
    c = cluster(2)
    job, pids = start_hider(c, "setsid")
    assert c.stop(signal.SIGTERM) == 0
    assert not [p for p in pids if alive(p)]


def test_interrupting_the_cluster_ends_its_jobs(cluster):
    c = cluster(2)
    job, pids = start_hider(c, "double_fork")
    assert c.stop(signal.SIGINT) == 0
    assert not [p for p in pids if alive(p)]


def test_a_fork_storm_is_ended(shared):
    """Processes that keep making new ones are caught too: the sweep repeats until nobody is left."""
    script = ("import os,time,signal\n"
              "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
              "end=time.time()+20\n"
              "def chain():\n"
              "    while time.time()<end:\n"
              "        if os.fork(): os._exit(0)\n"
              "        os.setsid()\n"
              "        time.sleep(0.005)\n"
              "if os.fork()==0: chain()\n"
              "print('up')\n"
              "time.sleep(100)\n")
    job = shared.detach("--grace", "500ms", "--env", "STORM=storm-of-this-test", "--", PYTHON, "-c", script)
    p = shared.popen("logs", job, "-f")
    Reader(p.stdout).wait("up")
    shared.ctl("kill", job).ok()
    shared.wait_end(job, 30)
    assert not marked("storm-of-this-test")
