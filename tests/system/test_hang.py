"""test_hang.py - what a job does, and which of its ranks hangs: processes, not GPUs (there are none here)"""
import json
import os
import signal
import time

from cluster import PYTHON, SLOW, Reader, wait_until
from test_workers import TORCHRUN, script

BUSY = "t=time.monotonic()+90\nwhile time.monotonic()<t:\n    sum(range(10000))\n"


def hang(c, job):
    return c.job(job)["hang"]


def computing(c, nproc):
    """As a training whose rank 0 tokenises while the others wait: CPU is used, and nothing is written."""
    path = script(c, f"if rank==0:\n    {BUSY.replace(chr(10), chr(10) + '    ')}")
    return [PYTHON, TORCHRUN, str(nproc), "--", path]


def workers(c, job, n):
    return wait_until(lambda: (lambda x: x if len(x["workers"]) == n else None)(c.job(job)), 20 * SLOW, f"{n} workers")


def stop_one(c, job, follower):
    """Rank 0 computes all the time: a rank that is stopped is told of all the same."""
    j = workers(c, job, 2)
    pid = next(w["pid"] for w in j["workers"] if w["rank"] == 1)
    wait_until(lambda: c.job(job)["phase"], 10 * SLOW, "a phase")
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    text = wait_until(lambda: hang(c, job), 30 * SLOW, "the hang is told")
    print(f"named after {time.monotonic() - began:.1f} s: {text}")
    node = j["nodes"][0]
    assert text.startswith(f"rank 1 on {node} (pid {pid}) is stopped (SIGSTOP, state T) for ")
    j = c.job(job)
    assert (j["phase"], j["hang_fix"], j["on_hang"]) == ("hung", f"on {node}: kill -CONT {pid}", "kill") and j["hang_stacks"]
    page = " ".join(c.ctl("status").ok().out.split())
    assert f"! job {job} hangs: rank 1 on {node} (pid {pid}) is stopped" in page and f"kill -CONT {pid}" in page
    table = c.ctl("job", job).ok().out
    assert "hung" in table and [x.split()[3] for x in table.splitlines() if x.split()[:1] == ["1"] and str(pid) in x] == ["hangs"], table
    assert [(w["state"], w["hangs"]) for w in j["workers"] if w["rank"] == 1] == [("running", True)]
    follower.wait(f"job {job}: hangs: rank 1 on {node}", 10 * SLOW)
    e = wait_until(lambda: [e for e in c.json("events", "--kind", "job.hung", "--job", job)["events"]], 10 * SLOW, "the event")
    assert len(e) == 1 and e[0]["node"] == node and f"job {job} of " in e[0]["text"] and "waits for a rank on" in e[0]["text"], e
    follower.wait(rf"\[nodeagent\] rank 1 \(pid {pid}, state T\), asked for by --on-hang stacks:", 15 * SLOW)
    follower.wait(rf"\[nodeagent\]    asked: dump --nonblocking --pid {pid}", 10 * SLOW)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: hang(c, job) is None, 15 * SLOW, "it goes on")
    follower.wait(f"job {job}: goes on again", 10 * SLOW)
    said = [m["text"] for m in c.job(job)["story"]]
    assert any(t.startswith("hangs: rank 1 ") for t in said) and "goes on again" in said
    assert c.job(job)["hung"].startswith(f"rank 1 on {node} (pid {pid}) is stopped") and c.job(job)["hung_until_ms"]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: hang(c, job), 30 * SLOW, "it hangs again")
    c.ctl("kill", job).ok()
    c.wait_end(job)
    said = " ".join(c.ctl("why", job).ok().out.split())
    assert "It had hung for" in said and f"rank 1 on {node} (pid {pid}) is stopped" in said, said
    assert c.job(job)["hung_until_ms"] is None and "hung" in c.ctl("job", job).ok().out


def test_a_stopped_rank_is_named_and_one_that_computes_while_others_wait_is_no_hang(shared):
    busy = shared.detach("--", *computing(shared, 3))
    workers(shared, busy, 3)
    until = time.monotonic() + 31
    tool = shared.path("tools/py-spy")
    os.makedirs(os.path.dirname(tool), exist_ok=True)
    with open(tool, "w", encoding="utf-8") as f:
        f.write('#!/bin/sh\necho "asked: $*"\n')
    os.chmod(tool, 0o755)
    p = shared.popen("launch", "--on-hang", "stacks,kill", "--env", f"PATH={os.path.dirname(tool)}:/usr/bin:/bin", "--",
                     *computing(shared, 2))
    follower = Reader(p.stderr)
    job = int(follower.wait(r"job (\d+)", 20 * SLOW).group(1))
    try:
        stop_one(shared, job, follower)
        while time.monotonic() < until:
            assert hang(shared, busy) is None
            time.sleep(1)
        j = shared.job(busy)
        assert j["hang"] is None and not any("hangs" in m["text"] for m in j["story"])
        assert j["phase"] == "busy" and j["phase_note"].startswith(f"rank 0 on {j['nodes'][0]} (pid "), j
    finally:
        for k in busy, job:
            shared.ctl("kill", k)
            shared.wait_end(k)
        p.communicate()


def test_idle_ranks_are_idle_and_no_hang(shared):
    job = shared.detach("--procs-per-node", 2, "--", "sleep", 60)
    try:
        j = wait_until(lambda: (lambda x: x if x["phase"] == "idle" else None)(shared.job(job)), 30 * SLOW, "idle")
        assert j["hang"] is None and "no rank uses CPU, disk or GPU for " in j["phase_note"]
    finally:
        shared.ctl("kill", job)
        shared.wait_end(job)


def test_step_loss_and_time_left_come_from_a_bar(shared):
    path = shared.write("bar.py", "import sys,time\nfor i in range(60):\n    sys.stderr.write(f'\\r 28%|##8       | {340+i}/1200 "
                        "[1:02:11<2:37:18, 10.98s/it]'); sys.stderr.flush()\n    print({'loss': 1.31, 'epoch': 0.5},flush=True)\n"
                        "    time.sleep(1)\n")
    job = shared.detach("--", PYTHON, path)
    try:
        j = wait_until(lambda: (lambda x: x if x["step"] else None)(shared.job(job)), 20 * SLOW, "a step")
        assert j["step"] >= 340 and j["steps"] == 1200 and j["loss"] == "1.31" and j["left_s"] == 9438, j
        assert j["step_from"] == "tqdm" and j["phase"] == "training"
        page = shared.ctl("status").ok().out
        row = next(line for line in page.splitlines() if line.split()[:1] == [str(job)])
        assert "PHASE" in page and "training" in row and "/1200" in row and "1.31" in row and "2h3" in row, page
        first = j["step"]
        wait_until(lambda: shared.job(job)["step"] > first, 20 * SLOW, "the next step")
    finally:
        shared.ctl("kill", job)
        shared.wait_end(job)


def test_the_trainers_own_log_says_it(shared):
    out = shared.path(f"out{time.monotonic_ns()}")
    os.mkdir(out)
    line = {"current_steps": 10, "total_steps": 1200, "loss": 2.5, "epoch": 0.02, "percentage": 0.83,
            "elapsed_time": "0:01:50", "remaining_time": "1 day, 3:38:22"}
    log = os.path.join(out, "trainer_log.jsonl")
    with open(log, "w", encoding="utf-8") as f:
        f.write(json.dumps({**line, "current_steps": 1200}) + "\n")  # an earlier run's
    job = shared.detach("--env", f"NODEAGENT_TRAINER_LOG={log}", "--", "sh", "-c",
                        f"sleep 5; echo '{json.dumps(line)}' >> {log}; sleep 60")
    try:
        j = wait_until(lambda: (lambda x: x if x["step"] else None)(shared.job(job)), 30 * SLOW, "a step")
        assert (j["step"], j["steps"], j["loss"], j["left_s"], j["step_from"]) == (10, 1200, "2.5", 99502, "trainer_log")
    finally:
        shared.ctl("kill", job)
        shared.wait_end(job)
