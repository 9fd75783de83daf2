"""test_workers.py - ranks below torchrun: found, followed, and named when they were first"""
import json
import os
import re
import time

from cluster import PYTHON, alive, kill, wait_until

TORCHRUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faketorchrun.py")
HEAD = "import os,sys,time,signal,json\nrank=int(os.environ['RANK'])\n"
WAIT = "\ntime.sleep(60)\n"


def script(c, text):
    return c.write(f"w{time.monotonic_ns()}.py", HEAD + text + WAIT)


def run(c, text, *options, nproc=2, nodes=1, launch=()):
    """Launches the fake torchrun on so many nodes; the client's result and the job."""
    path = script(c, text)
    r = c.launch("-N", nodes, *launch, "--", PYTHON, TORCHRUN, *options, nproc, "--", path, timeout=60)
    job = c.wait_end(int(re.search(r"\bjob (\d+)", r.err).group(1)))
    return r, job, path


def bad(job):
    return [w for w in job["workers"] if w["state"] != "running" and not w["ours"]]


# the wait makes sure that a look has found them: it comes every 0.25 s at first
ONE = "if rank==1:\n    time.sleep(1.5)\n    "


def test_a_worker_that_raises_is_named_with_its_exception(shared):
    r, job, path = run(shared, ONE + "raise ValueError('bad step')")
    assert r.code == 1
    first = bad(job)[0]
    assert (first["rank"], first["local_rank"], first["state"], first["code"]) == (1, 1, "exited", 1)
    want = f"ValueError: bad step at {os.path.basename(path)}:5"
    assert first["exception"] == job["exception"] == want
    assert f"rank 1 ({job['nodes'][0]}, local rank 1, pid {first['pid']}, below the launcher) exited with code 1" in r.err
    assert want in r.err
    assert "Root Cause" not in r.err.split("FAILED", 2)[-1], "torchrun's last lines are not the cause"
    assert job["why"].startswith(f"rank 1 ({job['nodes'][0]}, below the launcher, pid ") and want in job["why"]


def test_a_killed_worker_is_named_with_its_signal(shared):
    r, job, _ = run(shared, "print('Traceback (most recent call last):', '  File \"old.py\", line 1, in f',"
                    " 'ValueError: old', sep='\\n', file=sys.stderr)\n" + ONE + "os.kill(os.getpid(), signal.SIGKILL)")
    first = bad(job)[0]
    assert (first["rank"], first["state"], first["signal"]) == (1, "killed", 9)
    assert "was killed by signal 9 (SIGKILL)" in r.err and "below the launcher" in r.err
    assert first["exception"] is None and job["exception"] is None, "who was killed has not raised"


def test_a_silent_exit_code_is_told(shared):
    r, job, _ = run(shared, ONE + "os._exit(3)")
    assert [(w["rank"], w["code"]) for w in bad(job)][:1] == [(1, 3)]
    assert "below the launcher) exited with code 3" in r.err
    assert job["exception"] is None


def test_the_others_that_the_launcher_ended_come_later(shared):
    _, job, _ = run(shared, "if rank==2:\n    time.sleep(1.5)\n    sys.exit(5)", nproc=4)
    order = [(w["rank"], w["state"]) for w in bad(job)]
    assert order[0] == (2, "exited") and sorted(order[1:]) == [(0, "killed"), (1, "killed"), (3, "killed")]


def test_the_error_file_says_more_than_the_output(shared):
    text = ONE + ("open(os.environ['TORCHELASTIC_ERROR_FILE'],'w').write(json.dumps({'message': {'message': 'KeyError: 1',"
                  " 'extraInfo': {'py_callstack': 'Traceback (most recent call last):\\n  File \"/x/model.py\", line 77, in f\\n"
                  "KeyError: 1\\n', 'timestamp': '1'}}}))\n    os._exit(1)")
    r, job, _ = run(shared, text, "--slow", 0.5)
    assert job["exception"] == "KeyError: 1 at model.py:77"
    assert "KeyError: 1 at model.py:77" in r.err


def test_an_error_file_that_is_none_does_no_harm(shared):
    text = ONE + "os.mkfifo(os.environ['TORCHELASTIC_ERROR_FILE'])\n    raise ValueError('real')"
    _, job, path = run(shared, text, "--slow", 0.3)
    assert job["exception"] == f"ValueError: real at {os.path.basename(path)}:6"


def test_logs_of_the_launchers_own_are_read(shared):
    folder = shared.path(f"logs{time.monotonic_ns()}")
    os.mkdir(folder)
    r, job, path = run(shared, ONE + "raise ValueError('in a file')", "--redirect", folder, "--slow", 0.5)
    assert job["exception"] == f"ValueError: in a file at {os.path.basename(path)}:5"
    assert "in a file" not in r.out


def test_one_that_is_gone_before_it_was_seen_is_known_from_the_last_lines(shared):
    r, job, path = run(shared, "if rank==1:\n    raise ValueError('at once')")
    first = bad(job)[0]
    assert (first["rank"], first["code"], first["exception"]) == (1, 1, f"ValueError: at once at {os.path.basename(path)}:4")
    assert "rank 1 (" in r.err and "below the launcher) exited with code 1" in r.err


def test_a_rank_without_workers_has_its_exception_told(shared):
    path = script(shared, "raise KeyError('nobody below')")
    r = shared.launch("--", PYTHON, path, timeout=60)
    want = f"KeyError: 'nobody below' at {os.path.basename(path)}:3"
    job = shared.wait_end(int(re.search(r"\bjob (\d+)", r.err).group(1)))
    assert job["exception"] == want and want in r.err and job["workers"] == []
    assert job["ranks"][0]["exception"] == want


def test_a_wrappers_traceback_is_no_cause(shared):
    """As llamafactory-cli does: it raises because torchrun has failed."""
    inner = script(shared, ONE + "raise ValueError('inner')")
    outer = shared.write(f"cli{time.monotonic_ns()}.py", "import subprocess,sys\nsubprocess.run([sys.executable, "
                         f"{TORCHRUN!r}, '2', '--', {inner!r}], check=True)\n")
    r = shared.launch("--", PYTHON, outer, timeout=60)
    job = shared.wait_end(int(re.search(r"\bjob (\d+)", r.err).group(1)))
    assert job["exception"] == f"ValueError: inner at {os.path.basename(inner)}:5"
    assert bad(job)[0]["rank"] == 1
    assert "CalledProcessError" not in job["exception"]


def test_what_a_worker_starts_is_no_worker(shared):
    path = script(shared, "import subprocess\nk=[subprocess.Popen(['sleep','60']) for _ in range(3)]\nprint('up',flush=True)")
    job = shared.detach("--", PYTHON, TORCHRUN, 2, "--", path)
    try:
        j = wait_until(lambda: (lambda x: x if len(x["workers"]) == 2 else None)(shared.job(job)), 20, "two workers")
        time.sleep(1)
        j = shared.job(job)
        assert [(w["rank"], w["local_rank"], w["state"]) for w in j["workers"]] == [(0, 0, "running"), (1, 1, "running")]
        assert (j["ranks"][0]["workers_found"], j["ranks"][0]["workers_alive"]) == (2, 2)
        assert all(alive(w["pid"]) for w in j["workers"])
        assert re.search(r"^\s*1\s+\S+\s+1\s+running\s+\d+", shared.ctl("job", job).ok().out, re.M)
    finally:
        shared.ctl("kill", job)
    job = shared.wait_end(job)
    assert bad(job) == [], "we have ended them"


def test_a_round_that_the_launcher_has_survived_is_forgotten(shared):
    text = ("if rank==1 and os.environ['TORCHELASTIC_RESTART_COUNT']=='0':\n    time.sleep(1)\n    sys.exit(9)\n"
            "if rank==0 and os.environ['TORCHELASTIC_RESTART_COUNT']=='1':\n    time.sleep(1.5)\n    sys.exit(4)")
    _, job, _ = run(shared, text, "--restarts", 1)
    assert [(w["rank"], w["code"]) for w in bad(job)][0] == (0, 4)


def test_of_two_nodes_the_one_whose_worker_died_first(shared):
    """The launcher of the first node is sooner done with it: its end is told first, the other's was first."""
    text = "if rank==3:\n    time.sleep(1.5)\n    raise ValueError('first')\nif rank==0:\n    time.sleep(2.2)\n    raise KeyError('second')"
    r, job, path = run(shared, text, nodes=2)
    assert job["exception"] == f"ValueError: first at {os.path.basename(path)}:5"
    assert f"rank 3 ({job['nodes'][1]}, local rank 1, pid " in r.err


def test_of_two_nodes_also_when_its_launcher_takes_longer_to_give_up(shared):
    """The other's end is told first, and ends the job; this one's was first, by its worker's time."""
    text = "if rank==3:\n    time.sleep(1.5)\n    raise ValueError('first')\nif rank==0:\n    time.sleep(2.2)\n    raise KeyError('second')"
    r, job, path = run(shared, text, "--slow", "2:1", nodes=2)
    assert job["exception"] == f"ValueError: first at {os.path.basename(path)}:5"
    assert f"rank 3 ({job['nodes'][1]}, local rank 1, pid " in r.err
    assert job["why"].startswith(f"rank 3 ({job['nodes'][1]}, below the launcher, pid ")


def look(c, job):
    """None while a daemon is away."""
    r = c.ctl("--json", "job", job)
    return json.loads(r.out) if r.code == 0 else None


def test_what_is_known_of_workers_outlives_the_daemons(cluster):
    def workers():
        return sorted(w["pid"] for w in (look(c, job) or {"workers": []})["workers"])

    def again(role):
        old = c.role_pids()[role]
        kill(old)
        wait_until(lambda: c.role_pids().get(role) not in (None, old), 15, "the supervisor starts it again")

    def ended():
        j = look(c, job)
        return j if j and j["state"] == "failed" else None
    c = cluster(1)
    path = script(c, "if rank==1:\n    while not os.path.exists(sys.argv[1]): time.sleep(0.1)\n    raise ValueError('at last')")
    go = c.path("go")
    job = c.detach("--", PYTHON, TORCHRUN, 2, "--", path, go)
    wait_until(lambda: len(workers()) == 2, 20, "two workers")
    pids = workers()
    for role in (c.names[0], "coordinator"):
        again(role)
        wait_until(lambda: workers() == pids, 15, "they are known after its restart")
    kill(c.role_pids()[c.names[0]])  # while it is away one of them dies
    open(go, "w").close()
    j = wait_until(ended, 30, "the end is told")
    want = ([(1, "exited", 1), (0, "killed", None)], f"ValueError: at last at {os.path.basename(path)}:5")
    assert ([(w["rank"], w["state"], w["code"]) for w in j["workers"]], j["exception"]) == want
    again("coordinator")  # and from its disk
    j = wait_until(ended, 30, "it is told again")
    assert ([(w["rank"], w["state"], w["code"]) for w in j["workers"]], j["exception"]) == want
