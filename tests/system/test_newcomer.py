"""test_newcomer.py - what somebody meets in the first hours: words, and answers that come soon enough"""
import os
import re
import signal
import time

import pytest

from cluster import SLOW, wait_until


def test_the_name_of_a_job_that_runs_is_shown(cluster):
    c = cluster(2)
    job = c.detach("-N", 2, "--name", "llama-7b-second-try", "--", "sleep", "1000")
    c.wait_state(job, "running")
    other = c.detach("--", "sleep", "1001")
    c.wait_state(other, "running")
    for command in ("jobs", "status"):
        wide = c.ctl(command, env=dict(c.env, COLUMNS="130")).ok().out
        assert "  NAME  " in wide and " llama-7b-second-try " in wide, wide
        narrow = c.ctl(command, env=dict(c.env, COLUMNS="80")).ok().out
        assert " NAME " in narrow and " llama-" in narrow and " sleep 1" in narrow, narrow  # both have room
        assert all(len(line) <= 80 for line in narrow.splitlines()), narrow


def test_one_dir_is_enough_for_what_init_made(site):
    """init --dir C prints nodectl --dir C token create, and the agent's socket is in C/agent."""
    site.head()
    site.daemon("a", "--agent", "--dir", site.path("head", "agent"))
    here = (site.nodectl, "--dir", site.path("head"))
    wait_until(lambda: "  ok" in site.run(*here, "status").out, 20, "status by the directory given to init", 0.1)
    assert "nodeagentd join" in site.run(*here, "token", "create").ok().out
    assert "  ok" in site.run(site.nodectl, "nodes", env=dict(site.env, NODEAGENT_DIR=site.path("head"))).ok().out
    site.stop_daemon("a")
    site.stop_daemon("head")
    r = site.run(*here, "status")
    assert r.code == 3 and "agent" in r.err, r
    os.mkdir(site.path("empty"), 0o755)
    r = site.run(site.nodectl, "--dir", site.path("empty"), "token", "create")
    assert r.code == 3 and r.err.startswith(f"nodectl: there is no coordinator's socket at {site.path('empty')}/coordinator.sock; "), r
    r = site.run(site.nodectl, "--dir", site.path("empty"), "status")
    assert r.code == 3 and r.err == (f"nodectl: there is no agent at {site.path('empty')}/nodectl.sock; start nodeagentd, or "
                                     "name its place with --dir, --socket or NODEAGENT_DIR\n"), r


def test_a_standalone_cluster_takes_back_its_own_node_that_was_removed(cluster):
    c = cluster(3)
    c.ctl("node-remove", "node3").ok()
    assert sorted(c.nodes_now()) == ["node1", "node2"]
    c.stop()
    c.start()
    assert "node node3 was taken out of this cluster (nodectl node-remove)" in c.logs() and "is taken in again" in c.logs()
    wait_until(lambda: {n["state"] for n in c.nodes_now().values()} == {"ok"} and len(c.nodes_now()) == 3, 20, "all three", 0.1)
    c.launch("-N", 3, "--", "true").ok()
    begun = time.monotonic()
    c.stop()
    assert time.monotonic() - begun < 2 * SLOW
    assert "ending jobs" in c.logs() and "jobs go on" not in c.logs()


def test_no_host_is_asked_to_join_a_standalone_cluster(cluster):
    c = cluster(1)
    r = c.ctl("token", "create").ok()
    assert "(no other host reaches 127.0.0.1:" in r.out and r.out.splitlines()[-1].startswith("na1."), r


def test_nodes_that_are_not_asked_for_any_more_are_named(cluster):
    c = cluster(2)
    job = c.detach("-w", "node2", "--", "sleep", "1000")
    c.wait_state(job, "running")
    c.stop(signal.SIGKILL)
    c.n = 1
    with pytest.raises(AssertionError):  # it is still a node of the cluster
        c.start()
    assert {k: n["state"] for k, n in c.nodes_now().items()} == {"node1": "ok", "node2": "down"}
    assert "start nodeagentd --standalone again with enough --virtual-nodes" in " ".join(c.ctl("status").out.split())
    assert (f"node node2 of an earlier start is left out: 1 virtual node is asked for; it holds what cannot be ended or read "
            f"without it: job {job}") in c.logs()
    c.stop()
    c.n = 2
    c.start()
    assert c.logs().count("is left out") == 1
    c.ctl("kill", job, "--grace", "0s").ok()
    c.wait_end(job)


def test_a_job_that_ends_with_its_cluster_says_so(cluster):
    c = cluster(2)
    job = c.detach("-N", 2, "--", "sleep", "1000")
    c.wait_state(job, "running")
    c.stop()
    c.start()
    assert "ended its part of the job: nodeagentd was stopped there" in c.job(job)["why"]


def test_words_for_what_a_newcomer_types(cluster):
    c = cluster(1)
    r = c.launch("--", "python3 train.py")
    assert r.code == 127 and "it is one word with blanks in it: leave the quotes out, or write sh -c '...'" in r.err, r
    r = c.launch("--", "export")
    assert r.code == 127 and "it is a command of the shell" in r.err and "PATH" not in r.err, r
    for word, command in (("run", "launch"), ("cancel", "kill"), ("stop", "kill"), ("ps", "jobs"), ("version", "--version")):
        r = c.ctl(word)
        assert r.code == 2 and r.err == f'nodectl: there is no command "{word}"; you want: nodectl {command}\n', r
    r = c.ctl("job")
    assert r.code == 2 and r.err == "nodectl job: which job? nodectl jobs lists them\n", r
    job = c.detach("--", "echo", "hello")
    c.wait_end(job)
    r = c.ctl("attach", job)
    assert r.code == 0 and r.err == f"job {job} has ended: done; its output: nodectl logs {job}\n", r
    job = c.detach("--", "sh", "-c", "exit 7")
    c.wait_end(job)
    r = c.ctl("attach", job)
    assert r.code == 7 and f"job {job} has ended: failed; its output: nodectl logs {job}\njob {job} FAILED" in r.err, r


def test_a_spare_and_the_times_of_a_restarted_job_are_shown(cluster):
    c = cluster(3)
    job = c.detach("-N", 2, "--spares", 1, "--max-restarts", 1, "--restart-on", "any", "--", "sh", "-c",
                   "sleep 1; [ $NODEAGENT_ATTEMPT = 2 ] && sleep 1000; exit 3")
    c.wait_state(job, "running")
    spare = next(n for n in c.names if n not in c.job(job)["nodes"])
    assert f" {job} spare" in next(line for line in c.ctl("nodes").ok().lines() if line.startswith(spare))
    assert f" {job} spare" in next(line for line in c.ctl("status").ok().lines() if line.startswith(spare))
    assert re.search(rf"^held +{spare}$", c.ctl("job", job).ok().out, re.M)
    wait_until(lambda: c.job(job).get("attempt") == 2 and c.job(job)["state"] == "running", 30, "attempt 2", 0.1)
    out = c.ctl("job", job).ok().out
    whole, last = re.search(r"^time +([0-9.]+)s \(attempt 2: ([0-9.]+)s\)$", out, re.M).groups()
    assert float(whole) > float(last) + 1 and re.search(r"^started +\d{4}-", out, re.M) and re.search(r"^again +\d{4}-", out, re.M), out


def test_how_a_job_began_is_known_after_its_daemons_were_killed(cluster):
    c = cluster(1)
    job = c.detach("--", "sleep", "1000")
    c.wait_state(job, "running")
    time.sleep(0.6)
    c.stop(signal.SIGKILL)
    c.start()
    wait_until(lambda: c.job(job)["state"] == "running", 20, "it runs again", 0.1)
    told = [m["text"] for m in c.job(job)["story"]]
    for begin in ("submitted by", "placed on node1", "prepared", "started: 1 process", "the coordinator was restarted"):
        assert any(t.startswith(begin) for t in told), told
