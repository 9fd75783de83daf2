"""test_restart.py - jobs that are started again: when, where, at which step, and never twice at once"""
import json
import os
import re
import signal
import time

from cluster import PYTHON, SLOW, Reader, alive, cmdline, kill, proc_text, wait_until

LOST = 6  # node_lost_timeout, s: also the lease

# Counts steps to a file, as training writes checkpoints; each rank says when it was alive.
STEPS = """
import os, sys, time
d, rank, attempt, steps = sys.argv[1], os.environ['RANK'], os.environ['NODEAGENT_ATTEMPT'], int(sys.argv[2])
path = f'{d}/step.{rank}'
step = int(open(path).read()) if os.path.exists(path) else 0
print(f'attempt {attempt} begins at step {step}')
with open(f'{d}/env.{rank}.{attempt}', 'w') as f:
    f.write('\\n'.join(f'{k}={v}' for k, v in os.environ.items()))
log = open(f'{d}/log.{rank}', 'a')
while step < steps:
    with open(path + '.new', 'w') as f:
        f.write(str(step + 1))
    log.write(f'{attempt} {step} {time.clock_gettime(time.CLOCK_BOOTTIME)}\\n')
    log.flush()
    os.replace(path + '.new', path)
    step += 1
    time.sleep(0.1)
print(f'attempt {attempt} has done step {step}')
"""


def log_of(d, rank):
    """[(attempt, step, time)]"""
    with open(os.path.join(d, f"log.{rank}"), encoding="ascii") as f:
        return [(int(a), int(s), float(t)) for a, s, t in (line.split() for line in f)]


def env_of(d, rank, attempt):
    with open(os.path.join(d, f"env.{rank}.{attempt}"), encoding="utf-8") as f:
        return dict(line.split("=", 1) for line in f.read().split("\n") if "=" in line)


def work_dir(site):
    d = site.path("work")
    os.mkdir(d, 0o777)
    os.chmod(d, 0o777)
    return d


def three_nodes(site):
    site.head(conf=f"[coordinator]\nnode_lost_timeout = {LOST}s\n")
    return [site.node(f"a{i}") for i in (1, 2, 3)]


def shim_of(pid):
    """The parent of a rank, and nobody else."""
    shim = int(proc_text(pid, "stat").decode("latin1").rsplit(")", 1)[1].split()[1])
    assert cmdline(shim).startswith("nodeagent-shim"), cmdline(shim)
    return shim


def begin(site, *options, steps=150):
    d = work_dir(site)
    p = site.popen("launch", "-N", 2, "--grace", "1s", *options, "--", PYTHON, "-c", STEPS, d, steps)
    out, err = Reader(p.stdout), Reader(p.stderr)
    out.wait(r"a2:1\] attempt 1 begins at step 0", 20 * SLOW)
    job = int(re.search(rb"job (\d+)", err.data).group(1))
    wait_until(lambda: os.path.exists(f"{d}/log.1") and len(log_of(d, 1)) > 10, 10 * SLOW, "some steps are done")
    return d, p, out, err, job


def check_steps(d, steps, attempts=2):
    """No step left out, none done twice but the one under way; one attempt after the other."""
    first, last = {}, {}
    for rank in (0, 1):
        log = log_of(d, rank)
        assert [s for _, s, _ in log] == sorted(s for _, s, _ in log), f"rank {rank} went back: {log}"
        assert {s for _, s, _ in log} == set(range(steps))
        for a, _, t in log:
            first[a] = min(first.get(a, t), t)
            last[a] = max(last.get(a, t), t)
    assert sorted(first) == list(range(1, attempts + 1))
    for a in range(1, attempts):
        assert last[a] < first[a + 1], "never two attempts at once"


def test_a_job_goes_on_at_its_step_when_agent_and_shim_of_a_node_are_killed(site):
    _, a2, _ = three_nodes(site)
    d, p, out, err, job = begin(site, "--max-restarts", 3)
    pid = site.job(job)["ranks"][1]["pid"]
    a2.kill()
    kill(shim_of(pid))
    wait_until(lambda: not alive(pid), 2 * SLOW, "its rank dies with its shim")
    assert p.wait(90) == 0, err.data
    check_steps(d, 150)
    # the client has shown both attempts, and said why there are two
    text = out.data.decode()
    assert "[a1:0] attempt 1 begins at step 0" in text
    assert re.search(r"\[a3:1\] attempt 2 begins at step [1-9]\d*\n", text), text
    assert len(re.findall(r"has done step 150", text)) == 2
    said = err.data.decode()
    assert re.search(r"rank 1 \(a2.*was lost.*\n(.*\n)*.* restarting \(1 of 3\) on (a1,a3|a\[1,3\])", said), said
    assert len(re.findall("was lost", said)) == 1, said
    j = site.job(job)
    assert (j["state"], j["attempt"], j["restarts"], j["max_restarts"]) == ("done", 2, 1, 3)
    assert j["barred"] == ["a2"] and j["nodes"] == ["a1", "a3"]
    one, two = j["attempts"]
    assert (one["attempt"], one["guilty"], two["attempt"], two["exit_code"]) == (1, "a2", 2, 0)
    assert one["end_ms"] <= two["start_ms"]
    shown = site.ctl("job", job).ok().out
    assert re.search(r"restarts\s+1 of 3", shown) and "a2" in shown, shown
    # and each attempt's ranks were told so
    e1, e2 = env_of(d, 0, 1), env_of(d, 0, 2)
    assert (e1["TORCHELASTIC_RESTART_COUNT"], e2["TORCHELASTIC_RESTART_COUNT"]) == ("0", "1")
    assert (e1["TORCHELASTIC_MAX_RESTARTS"], e2["NODEAGENT_ATTEMPT"]) == ("3", "2")
    assert e1["PET_RDZV_ID"] != e2["PET_RDZV_ID"]
    assert (e1["MASTER_ADDR"], e1["MASTER_PORT"]) != (e2["MASTER_ADDR"], e2["MASTER_PORT"])


def test_ranks_of_a_stopped_node_are_dead_before_others_take_their_places(site):
    """Agent and shim are stopped: nobody there can end the rank, and nobody hears of it. The kernel does."""
    _, a2, _ = three_nodes(site)
    d, p, out, err, job = begin(site, "--max-restarts", 1, "--spares", 1, steps=200)
    j = site.job(job)
    assert j["spares"] == ["a3"]
    pid = j["ranks"][1]["pid"]
    shim = shim_of(pid)
    os.kill(a2.pid, signal.SIGSTOP)
    os.kill(shim, signal.SIGSTOP)
    time.sleep(LOST / 2)
    assert alive(pid), "silence alone ends nothing"
    out.wait(r"a3:1\] attempt 2 begins", 60)
    assert not alive(pid) and not alive(shim)
    os.kill(a2.pid, signal.SIGCONT)
    assert p.wait(90) == 0, err.data
    check_steps(d, 200)
    wait_until(lambda: site.state("a2") == "ok", 20 * SLOW, "the node comes back")
    wait_until(lambda: not [x for x in os.listdir(site.path("a2", "run", "shims")) if x.startswith(f"{job}.")], 20,
               "it is told to forget the attempt that is over")
    assert site.job(job)["spares"] == [] and site.job(job)["attempt"] == 2


def test_a_cut_shorter_than_the_lease_is_not_noticed(site):
    _, a2, _ = three_nodes(site)
    d, p, out, err, job = begin(site, "--max-restarts", 1, steps=80)
    os.kill(a2.pid, signal.SIGSTOP)
    time.sleep(LOST / 2)
    os.kill(a2.pid, signal.SIGCONT)
    assert p.wait(60) == 0, err.data
    check_steps(d, 80, attempts=1)
    assert site.job(job)["attempts"][0]["attempt"] == 1


def test_the_coordinator_may_be_killed_while_one_attempt_follows_the_other(site):
    _, a2, _ = three_nodes(site)
    d, p, out, err, job = begin(site, "--max-restarts", 2)
    a2.kill()
    kill(shim_of(site.job(job)["ranks"][1]["pid"]))
    for _ in range(3):
        site.daemons["head"].kill()
        site.stop_daemon("head")
        site.daemon("head", "--coordinator", "--dir", site.path("head"), "--config", site.path("head.conf"))
        time.sleep(2)
    assert p.wait(120) == 0, err.data
    check_steps(d, 150)
    assert site.job(job)["attempt"] == 2


# ---- the submit node is lost ---------------------------------------------

TELLS = """
import json, os, sys, time
d, rank, attempt = sys.argv[1], os.environ['RANK'], os.environ['NODEAGENT_ATTEMPT']
with open(f'{d}/told.{rank}.{attempt}.new', 'wb') as f:
    f.write(b'\\n'.join([*map(os.fsencode, sys.argv[2:]), os.environb[b'KEPT']]))
os.rename(f.name, f'{d}/told.{rank}.{attempt}')
print(f'attempt {attempt} of {rank}', flush=True)
while not os.path.exists(f'{d}/go'):
    time.sleep(0.05)
print(f'rank {rank} is done', flush=True)
"""


def copies(site, node):
    d = site.path(node, "specs")
    return [os.path.join(d, name) for name in sorted(os.listdir(d))]


def told(d, attempt, n):
    paths = [f"{d}/told.{rank}.{attempt}" for rank in range(n)]
    return all(map(os.path.exists, paths)) and [open(p, "rb").read() for p in paths]


def test_an_attempt_needs_nothing_of_the_node_where_the_job_was_submitted(site):
    """It had rank 0, and never comes back. One copy of the command is gone, one has been changed: the third will do."""
    site.head(conf=f"[coordinator]\nnode_lost_timeout = {LOST}s\n")
    a1, a2 = [site.node(f"a{i}") for i in (1, 2, 3, 4)][:2]
    d = work_dir(site)
    odd = b"of \xff\nbytes"
    job = site.detach("-N", 3, "--spares", 1, "--max-restarts", 1, "--grace", "1s", "--", PYTHON, "-c", TELLS, d, os.fsdecode(odd), "",
                      env={**site.env, "KEPT": "a secret"})
    want = [odd + b"\n\n" + b"a secret"] * 3
    assert wait_until(lambda: told(d, 1, 3), 20 * SLOW, "attempt 1 runs") == want
    j = site.job(job)
    assert (j["nodes"], j["spares"], j["submit_node"]) == (["a1", "a2", "a3"], ["a4"], "a1")
    wait_until(lambda: all(copies(site, n) for n in ("a1", "a2", "a3", "a4")), 10 * SLOW, "each has a copy")
    names = {os.path.basename(copies(site, n)[0]) for n in ("a1", "a2", "a3", "a4")}
    assert len(names) == 1, names
    for n in ("a2", "a4"):
        st = os.stat(copies(site, n)[0])
        assert st.st_mode & 0o777 == 0o600 and st.st_uid == site.uid and os.stat(site.path(n, "specs")).st_mode & 0o77 == 0
    a2.kill()  # what an agent that was restarted finds counts as well
    site.stop_daemon("a2")
    site.via = "a3"
    site.agent("a2")

    os.unlink(copies(site, "a4")[0])
    with open(copies(site, "a2")[0], "r+b") as f:
        f.seek(-3, os.SEEK_END)
        f.write(b"RET")
    a1.kill()
    kill(shim_of(j["ranks"][0]["pid"]))
    assert wait_until(lambda: told(d, 2, 3), 60 * SLOW, "attempt 2 runs") == want
    j = site.job(job)
    assert (j["nodes"], j["attempt"], j["barred"]) == (["a2", "a3", "a4"], 2, ["a1"])
    wait_until(lambda: copies(site, "a4"), 5, "and the next one could begin there")

    # all that a user asks is answered elsewhere, and the end waits for nobody
    assert sorted(site.ctl("logs", job, "--stdout").ok().out.split("\n"))[1:] == [f"[a{r + 2}:{r}] attempt 2 of {r}" for r in range(3)]
    r = site.ctl("logs", job, "--attempt", 1, "--stdout")  # but for what lies there
    assert sorted(r.out.split("\n"))[1:] == [f"[a{k + 1}:{k}] attempt 1 of {k}" for k in (1, 2)] and "a1" in r.err, r
    attached = site.popen("attach", job)
    out = Reader(attached.stdout)
    time.sleep(1)
    begun = time.monotonic()
    site.write("work/go", "")
    assert site.wait_end(job, 10)["exit_code"] == 0
    assert attached.wait(10) == 0
    out.wait("rank 2 is done")
    assert time.monotonic() - begun < 5 * SLOW
    assert "a1" in site.ctl("job", job).ok().out
    wait_until(lambda: not any(copies(site, n) for n in ("a2", "a3", "a4")), 5 * SLOW, "copies are given back")
    site.daemons.pop("a1")
    site.agent("a1")
    wait_until(lambda: not copies(site, "a1"), 10 * SLOW, "and so is the first one, when its node is there again")


# ---- ranks that fail ----------------------------------------------------

FAILS = "echo attempt $NODEAGENT_ATTEMPT of rank $RANK; [ $RANK = 0 ] || exec sleep 100; [ $NODEAGENT_ATTEMPT -gt %d ] || exit %d; exit 0"


def one_rank(times, code):
    return ["--", "sh", "-c", FAILS % (times, code)]


def test_restart_on_any_starts_again_what_has_failed(cluster):
    c = cluster(1)
    r = c.launch("--max-restarts", 2, "--restart-on", "any", *one_rank(2, 7), timeout=60)
    assert r.code == 0, r
    assert re.findall(r"attempt (\d) of rank 0", r.out) == ["1", "2", "3"], r
    said = [line for line in r.err.splitlines() if "exited" in line or "restarting" in line]
    for i, line in enumerate(said):  # first why, then for what the next attempt waits, then that it begins
        assert re.search([r'rank 0 .* exited with code 7; its last line: "attempt \d of rank 0"$', r"waits: restarting in \d s: attempt \d of 3$",
                          rf"\d: restarting \({i // 3 + 1} of 2\) on "][i % 3], line), r
    assert len(said) == 6, r
    r = c.launch("--max-restarts", 1, "--restart-on", "any", *one_rank(9, 7), timeout=60)
    assert r.code == 7 and len(re.findall("of rank 0", r.out)) == 2, r
    events = [json.loads(line) for line in c.ctl("--json", "launch", "--max-restarts", 1, "--restart-on", "any",
                                                 *one_rank(1, 7), timeout=60).ok().lines()]
    (again,) = [e for e in events if e.get("event") == "restart"]
    assert again["attempt"] == 2 and again["guilty"] is None and "code 7" in again["why"]


def test_what_is_the_jobs_own_fault_is_not_tried_again(cluster):
    c = cluster(1)
    for options, command, code in ((["--max-restarts", 3], one_rank(9, 7), 7),
                                   (["--max-restarts", 3, "--restart-on", "any"], ["--", "no-such-command"], 127),
                                   (["--max-restarts", 3, "--restart-on", "any"], ["--", "/etc"], 126),
                                   (["--max-restarts", 3, "--restart-on", "any", "--time", "1s", "--grace", "1s"],
                                    ["--", "sleep", "100"], 124)):
        r = c.launch(*options, *command, timeout=60)
        assert r.code == code and "restarting" not in r.err, r
        assert c.json("jobs", "--all")["jobs"][0]["state"] == "failed"


def test_a_kill_between_two_attempts_is_the_end(cluster):
    c = cluster(1)
    job = c.detach("--max-restarts", 9, "--restart-on", "any", *one_rank(9, 7))
    # the third waits for 2 s, the fourth for 4
    def waits():
        j = c.job(job)
        return j if (j["state"], j["attempt"]) == ("restarting", 3) else None
    why = wait_until(waits, 30, "between two attempts")["why"]
    assert re.search(r"restarting in [1-4] s: attempt 4 of 10", why), why
    c.ctl("kill", job).ok()
    j = c.wait_end(job, 10)
    assert (j["state"], j["exit_code"], j["attempt"]) == ("failed", 143, 3)
    assert [a["exit_code"] for a in j["attempts"]] == [7, 7, 7]
    time.sleep(4)
    assert c.job(job)["attempt"] == 3
    # the last attempt's output is still there
    assert "attempt 3 of rank 0" in c.ctl("logs", job).ok().out
