"""test_spool_caps.py - how much output a node keeps: of one job, of all, and for how long"""
import json
import os
import re
import time

from cluster import PYTHON, SLOW, Reader, wait_until

MB = 1 << 20
# numbered lines of 64 bytes, so many; then the end is said
WRITER = ("import sys\n"
          "for i in range(int(sys.argv[1])):\n"
          "    sys.stdout.write('%012d %s\\n' % (i, 'x' * 50))\n"
          "sys.stdout.write('the end\\n')\n")


def numbers(text):
    return [int(line.split()[0]) for line in text.splitlines() if re.fullmatch(r"\d{12} x{50}", line)]


def spool(cluster, job, node=None, attempt=1):
    return os.path.join(cluster.home, "nodes", node or cluster.names[0], "spool", f"{job}.{attempt}")


def on_disk(path):
    return sum(os.stat(os.path.join(path, n)).st_blocks * 512 for n in os.listdir(path) if n != "stamps")


def write(cluster, lines, *more):
    return cluster.detach(*more, "--", PYTHON, "-c", WRITER, lines)


def test_beyond_its_limit_the_oldest_output_goes_and_that_is_said(cluster):
    c = cluster(1, args=["--spool-per-job=1M"])
    job = write(c, 131072)  # 8 MiB
    assert c.wait_end(job)["state"] == "done"
    path = os.path.join(spool(c, job), "0.out")
    assert os.stat(path).st_size == 131072 * 64 + 8
    assert os.stat(path).st_blocks * 512 < 1.3 * MB
    r = c.ctl("logs", job).ok()
    got = numbers(r.out)
    assert "\0" not in r.out
    assert got == list(range(got[0], 131072)) and 131072 - len(got) > 6 * 16384, (got[:1], len(got))
    assert r.lines()[-1] == "the end"
    assert re.search(r"[67]\.\d MB of rank 0's oldest output \(stdout\) are gone: node \S+ keeps only so much of it "
                     r"\(spool_per_job, spool_per_node\)", r.err), r.err
    assert any("MB of the oldest output were given back" in n for n in c.job(job)["notices"]), c.job(job)
    # in JSON the number is exact, and offsets are those of the whole
    events = [json.loads(e) for e in c.ctl("--json", "logs", job).ok().lines()]
    missing = [e for e in events if e["event"] == "missing"]
    first = next(e for e in events if e["event"] == "output" and e["text"].startswith("0"))
    assert len(missing) == 1 and missing[0]["bytes"] % 65536 == 0
    assert first["offset"] - missing[0]["bytes"] <= 64 and first["offset"] == int(first["text"].split()[0]) * 64


def test_what_fits_is_kept_whole_and_nothing_is_said(cluster):
    c = cluster(1, args=["--spool-per-job=1M"])
    job = write(c, 12000)
    c.wait_end(job)
    r = c.ctl("logs", job).ok()
    assert numbers(r.out) == list(range(12000)) and r.err == ""
    assert not c.job(job)["notices"]


def test_a_slow_reader_sees_no_zeroes_and_is_told_of_the_gap(cluster):
    c = cluster(1, args=["--spool-per-job=1M"])
    job = write(c, 400000)  # 25 MB
    p = c.popen("logs", "-f", job)
    err = Reader(p.stderr)
    time.sleep(1)  # the pipe is full, the writer goes on
    c.wait_end(job, 60 * SLOW)
    out = Reader(p.stdout)
    assert p.wait(60) == 0
    out.thread.join(10)
    text = out.data.decode()
    assert "\0" not in text
    got = numbers(text)
    assert got == sorted(set(got)) and got[-1] == 399999
    assert text.endswith("the end\n")
    assert len(got) < 400000 and b"oldest output" in err.data, (len(got), err.data)


def test_jobs_share_what_a_node_keeps(cluster):
    c = cluster(1, args=["--spool-per-node=2M", "--spool-per-job=2M"])
    go = c.path("go")
    wait = f"import os, time\nwhile not os.path.exists({go!r}): time.sleep(0.05)\n"
    jobs = [c.detach("--", PYTHON, "-c", WRITER + "sys.stdout.flush()\n" + wait, 65536)
            for _ in range(2)]  # 4 MiB each
    for j in jobs:
        c.wait_state(j, "running")
    wait_until(lambda: all(os.path.exists(os.path.join(spool(c, j), "0.out")) and
                           os.stat(os.path.join(spool(c, j), "0.out")).st_size == 65536 * 64 + 8 for j in jobs),
               30, "both have written all")
    wait_until(lambda: sum(on_disk(spool(c, j)) for j in jobs) < 2.6 * MB, 20, "together they keep to the limit")
    open(go, "w").close()
    for j in jobs:
        assert c.wait_end(j)["state"] == "done"


def test_ended_jobs_make_room_the_oldest_first(cluster):
    c = cluster(1, args=["--spool-per-node=1M"])
    jobs = []
    for _ in range(4):
        jobs.append(write(c, 6400))  # 400 KiB
        c.wait_end(jobs[-1])
        time.sleep(1.1)  # the times of files count
    wait_until(lambda: not os.path.exists(spool(c, jobs[1])), 40, "the second one's output is removed")
    assert not os.path.exists(spool(c, jobs[0]))
    assert os.path.exists(spool(c, jobs[2])) and os.path.exists(spool(c, jobs[3]))
    r = c.ctl("logs", jobs[0])
    assert r.out == ""
    assert re.search(rf"output of node \S+ is missing: it holds no output of job {jobs[0]}\.1 \(any more\): it is "
                     r"kept for 7 days after its end \(spool_keep\), and while all output takes less than 1\.0 MB "
                     r"\(spool_per_node\)", r.err), r
    assert numbers(c.ctl("logs", jobs[3]).ok().out) == list(range(6400))
    assert c.job(jobs[0])["state"] == "done"  # its history stays


def test_output_is_kept_for_so_long(cluster):
    c = cluster(1, args=["--spool-keep=2s"])
    job = write(c, 10)
    c.wait_end(job)
    assert len(numbers(c.ctl("logs", job).ok().out)) == 10
    wait_until(lambda: not os.path.exists(spool(c, job)), 40, "it is removed for its age")


def test_the_limit_holds_without_the_agent_and_with_its_next_life(cluster):
    c = cluster(1, args=["--spool-per-job=1M"])
    go = c.path("go")
    job = c.detach("--", PYTHON, "-c", f"import os, time\nwhile not os.path.exists({go!r}): time.sleep(0.05)\n" + WRITER,
                   65536)
    c.wait_state(job, "running")
    old = c.agent_pid(c.names[0])
    os.kill(old, 9)
    open(go, "w").close()
    wait_until(lambda: c.role_pids().get(c.names[0], old) != old and c.ctl("jobs").code == 0, 20 * SLOW,
               "the agent is back")
    assert c.wait_end(job, 60)["state"] == "done"
    assert on_disk(spool(c, job)) < 1.3 * MB
    assert c.ctl("logs", job).ok().out.endswith("the end\n")


def test_who_follows_is_told_as_soon_as_output_is_given_back(cluster):
    c = cluster(1, args=["--spool-per-job=1M"])
    go = c.path("go")
    wait = f"import os, time\nwhile not os.path.exists({go!r}): time.sleep(0.05)\n"
    p = c.popen("launch", "--", PYTHON, "-c", WRITER + "sys.stdout.flush()\n" + wait, 65536)
    out, err = Reader(p.stdout), Reader(p.stderr)
    err.wait(r"job \d+: node \S+: it writes more than is kept here \(spool_per_job, spool_per_node\): from now on its oldest "
             "output is given back\n", 20 * SLOW)
    assert p.poll() is None
    open(go, "w").close()
    assert p.wait(20 * SLOW) == 0
    out.thread.join(10)
    err.thread.join(10)
    assert err.data.count(b"from now on") == 1 and err.data.count(b"MB of the oldest output were given back") == 1, err.data
