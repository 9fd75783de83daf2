"""test_logs_anywhere.py - a job's output from any node that may have it, from any place in it, of any attempt"""
import json
import re
import subprocess
import time

import pytest

from cluster import PYTHON, Reader, wait_until

TALK = ("import os, sys, time\n"
        "for i in range(100): print('line', i, flush=True)\n"
        "print('trouble', file=sys.stderr, flush=True)\n"
        "while not os.path.exists(sys.argv[1]): time.sleep(0.05)\n"
        "print('late', flush=True)\n")


def at(site, node, *args, **kw):
    """nodectl on another node."""
    return site.run(site.nodectl, "--socket", site.socket(node), *args, **kw)


def plain_uid(site):
    """One that a node may speak for that is no submit node."""
    return 1000 <= site.uid <= 59999


def test_logs_and_attach_on_a_node_that_had_no_part_in_it(site):
    site.head()
    for name, submit in (("n1", True), ("n2", False), ("n3", True), ("n4", False)):
        site.node(name, submit=submit)
    go = site.path("go")
    talk = site.write("talk.py", TALK)
    job = site.detach("-w", "n1,n2", "--", PYTHON, talk, go)
    site.wait_state(job, "running")
    wait_until(lambda: site.ctl("logs", job).out.count("line 99") == 2, 20, "both have spoken")

    r = at(site, "n3", "logs", job).ok()  # neither submitted nor run there
    assert r.by_rank() == {k: "".join(f"line {i}\n" for i in range(100)) for k in (0, 1)}, r
    assert at(site, "n3", "logs", job, "--stderr").ok().err.count("trouble") == 2
    r = at(site, "n3", "logs", job, "--rank", "1", "-n", "3", "--stdout").ok()
    assert r.lines() == ["line 97", "line 98", "line 99"], r
    assert at(site, "n3", "logs", job, "--rank", "0", "--head", "2", "--stdout").ok().lines() == ["line 0", "line 1"]
    assert at(site, "n3", "logs", job, "--rank", "0", "--from", "7", "--stdout").ok().lines()[0] == "line 1"
    assert at(site, "n3", "logs", job, "--since", "1h", "--stdout").ok().out.count("line 0\n") == 2
    assert at(site, "n3", "logs", job, "--since", "2099-01-01").ok().out == ""
    events = [json.loads(e) for e in at(site, "n3", "--json", "logs", job, "--rank", "1", "--stdout").ok().lines()]
    assert [e["offset"] for e in events[:3]] == [0, 7, 14]
    assert at(site, "n3", "logs", job, "-n", "1", "--from", "5").code == 2

    r = at(site, "n4", "logs", job)  # it may speak about its own only
    assert r.code == 1 and re.search(f"job {job} is yours, but node n4 may not speak for its users .* ask on n1"
                                     if plain_uid(site) else "node n4 may not speak for uid", r.err), r

    a = subprocess.Popen([*site.drop, site.nodectl, "--socket", site.socket("n3"), "attach", str(job)], env=site.env,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    site.procs.append(a)
    out = Reader(a.stdout)
    time.sleep(1)
    site.write("go", "")
    assert a.wait(30) == 0
    out.thread.join(5)
    assert sorted(out.data.decode().splitlines()) == ["[n1:0] late", "[n2:1] late"], out.data

    # a node that cannot be reached is named, and the others' output is there
    site.stop_daemon("n2")
    wait_until(lambda: site.state("n2") != "ok", 20, "n2 is away")
    r = at(site, "n3", "logs", job, "--stdout")
    assert set(re.findall(r"\[(n\d):", r.out)) == {"n1"} and "output of node n2 is missing" in r.err, r
    site.agent("n2")


def test_a_job_that_runs_on_one_plain_node_is_read_there(site):
    if not plain_uid(site):
        pytest.skip("a plain node speaks for uids 1000-59999 only: run this as such a user")
    site.head()
    site.node("n1")
    site.node("n2", submit=False)
    job = site.detach("-w", "n2", "--", "echo", "here")
    site.wait_end(job)
    assert at(site, "n2", "logs", job).ok().out == "here\n"
    assert json.loads(at(site, "n2", "--json", "job", job).ok().out)["state"] == "done"
    both = site.detach("-w", "n1,n2", "--", "echo", "there")
    site.wait_end(both)
    assert at(site, "n2", "logs", both).code == 1


def test_an_earlier_attempts_output_is_asked_for_by_its_number(cluster):
    c = cluster(2)
    job = c.detach("-N", 2, "--max-restarts", "1", "--restart-on", "any", "--", "sh", "-c",
                   'echo "attempt $TORCHELASTIC_RESTART_COUNT rank $RANK"; [ $TORCHELASTIC_RESTART_COUNT = 1 ] || { sleep 1; exit 7; }') # both have spoken by then
    j = c.wait_end(job, 60)
    assert (j["state"], j["attempt"]) == ("done", 2), j
    assert sorted(c.ctl("logs", job).ok().by_rank().values()) == ["attempt 1 rank 0\n", "attempt 1 rank 1\n"]
    first = c.ctl("logs", job, "--attempt", "1").ok()
    assert sorted(first.by_rank().values()) == ["attempt 0 rank 0\n", "attempt 0 rank 1\n"], first
    assert len(c.ctl("logs", job, "--attempt", "2").ok().lines()) == 2
    r = c.ctl("logs", job, "--attempt", "3")
    assert r.code == 1 and f"job {job} has no attempt 3" in r.err, r


ONCE = """#!/bin/sh
echo spoken by attempt $NODEAGENT_ATTEMPT
rm -f "$0"
exit 7
"""


def test_where_there_is_nothing_to_show_it_is_said_and_what_there_is_is_shown(site):
    """A last attempt that never started does not hide the output of the one before."""
    c = site
    c.head()
    c.node("n1")
    job = c.detach("--max-restarts", "1", "--restart-on", "any", "--", c.write("once", ONCE, 0o755))
    j = c.wait_end(job, 60)
    assert (j["attempt"], j["start_ms"]) == (2, None), j
    assert c.ctl("logs", "--attempt", "1", job).ok().out == "spoken by attempt 1\n"
    r = c.ctl("logs", "--attempt", "2", job).ok()
    assert r.out == "" and f"attempt 2 of job {job} was never started: it has no output" in r.err, r
    r = c.ctl("logs", job).ok()
    assert r.out == "" and f"was never started: it has no output; 'nodectl logs --attempt 1 {job}' shows the one before" in r.err, r
    assert "was never started" in c.ctl("logs", "-f", job).ok().err
    assert c.ctl("launch", "--", "/nowhere/to/be/found").err.count("never started") == 0

    c.admin("drain", "n1").ok()
    queued = c.detach("--", "echo", "never")
    c.wait_state(queued, "queued")
    assert f"job {queued} was not started yet: there is no output" in c.ctl("logs", queued).ok().err
    c.ctl("kill", queued).ok()
    c.wait_end(queued, 30)
    assert f"job {queued} was never started: it has no output" in c.ctl("logs", queued).ok().err
    c.admin("resume", "n1").ok()
    silent = c.detach("--", "true")
    c.wait_end(silent, 30)
    r = c.ctl("logs", silent).ok()
    assert (r.out, r.err) == ("", ""), r
