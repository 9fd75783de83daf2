"""test_events.py - what happened in the cluster: told, followed, kept over restarts of the coordinator"""
import json
import signal

from cluster import SLOW, kill, wait_until


def kinds(site, *args):
    return [e["kind"] for e in site.json("events", *args)["events"]]


def test_events_tell_jobs_drains_and_lost_nodes_and_outlive_the_coordinator(site):
    site.head()
    site.node("a1")
    site.node("a2")
    site.launch("-w", "a1", "--", "sh", "-c", "exit 3")
    wait_until(lambda: "job.failed" in kinds(site), 10 * SLOW, "the end is told")
    of_job = site.json("events", "--kind", "job")["events"]
    assert [e["kind"] for e in of_job] == ["job.started", "job.failed"], of_job
    assert of_job[1]["node"] == "a1" and of_job[1]["job"] == 1 and of_job[1]["severity"] == "warn"
    assert "exit code 3" in of_job[1]["text"] and "exit 3" not in of_job[1]["text"].replace("exit code 3", "")
    site.admin("drain", "a2", "--why", "new NIC").ok()
    text = site.ctl("events", "-w", "a2").ok().out.splitlines()
    assert text[-1].endswith(": new NIC: no new jobs start there") and "  warn  node.drain" in text[-1], text
    assert site.ctl("events", "--kind", "node.drain", "-w", "a1").ok().out == "no such events\n"
    site.stop_daemon("a2", signal.SIGKILL)
    wait_until(lambda: "node.down" in kinds(site, "-w", "a2"), 20 * SLOW, "the lost agent is told")
    before = site.json("events")["events"]
    site.stop_daemon("head", signal.SIGTERM)
    site.start_head()
    wait_until(lambda: site.ctl("status").code == 0 and site.state("a1") == "ok", 20 * SLOW, "the node is back")
    assert site.json("events")["events"] == before  # and nothing is told anew
    assert site.json("events", "-n", "1")["events"] == before[-1:]
    assert site.json("events", "--since", "1d")["events"] == before


def test_events_are_followed(site):
    site.head()
    site.node("a1")
    f = site.popen("--json", "events", "-f", "--kind", "job")
    site.launch("-w", "a1", "--", "true").ok()
    lines = [json.loads(f.stdout.readline()) for _ in range(2)]
    assert [e["kind"] for e in lines] == ["job.started", "job.done"], lines
    assert lines[0]["id"] < lines[1]["id"] and lines[1]["severity"] == "info"
    kill(f.pid, signal.SIGINT)
    f.wait(10 * SLOW)


def test_bad_words_get_one_sentence(site):
    site.head()
    site.node("a1")
    for args, word in ((["--kind", "No!"], "no kind of event"), (["-n", "0"], "-n"), (["--since", "soon"], "--since"),
                       (["-w", "a["], "a["), (["x"], "one word too many")):
        r = site.ctl("events", *args)
        assert r.code == 2 and word in r.err, (args, r)
    for args, word in ((["-w", "nosuch"], 'there is no node "nosuch"'), (["-j", "99"], "there is no job 99")):
        r = site.ctl("events", *args)
        assert r.code == 1 and r.out == "" and word in r.err, (args, r)
    assert site.ctl("events", "-w", "a1", "--kind", "job").ok().out == "no such events\n"


def test_a_node_where_jobs_fail_is_quarantined_and_the_hook_hears_of_it(site):
    log = site.path("hooked")
    hook = site.write("hook", f"#!/bin/sh\ncat >>{log}\n", 0o755)
    site.write("hooked", "", 0o666)
    conf = f"[coordinator]\nquarantine_after = 1\nhook = {hook}\n"
    site.head(conf=conf)
    site.node("a1")
    site.node("a2")
    assert site.launch("-w", "a2", "--", "sh", "-c", "exit 5").code == 5
    wait_until(lambda: "quarantine" in kinds(site, "-w", "a2"), 10 * SLOW, "it is quarantined")
    n = next(x for x in site.json("nodes")["nodes"] if x["name"] == "a2")
    assert n["cordon"] == "it is quarantined: 1 job failed there within 60 min (1)" and n["cordon_by"] == "quarantine", n
    assert "none: quarantined" in site.ctl("node", "a2").ok().out
    waits = site.detach("-w", "a2", "--", "true")
    wait_until(lambda: "it is quarantined" in (site.job(waits)["why"] or ""), 10 * SLOW, "who waits is told why")

    def heard():
        with open(log) as f:
            return [json.loads(x) for x in f]
    wait_until(lambda: "quarantine" in [e["kind"] for e in heard()], 10 * SLOW, "the hook has heard it")
    assert [e["id"] for e in heard()] == sorted(e["id"] for e in heard())
    assert "nodectl resume a2" in site.ctl("status").ok().out
    site.admin("resume", "a2").ok()
    assert site.wait_end(waits)["exit_code"] == 0


def test_a_hook_that_fails_is_told_once_and_bad_settings_are_refused(site):
    site.head(conf="[coordinator]\nhook = /bin/false\n")
    site.node("a1")
    site.launch("--", "true").ok()
    wait_until(lambda: "hook.failed" in kinds(site), 10 * SLOW, "it is told")
    site.launch("--", "true").ok()
    wait_until(lambda: kinds(site).count("job.done") == 2, 10 * SLOW, "the second job is told")
    assert kinds(site).count("hook.failed") == 1
    r = site.run(site.nodeagentd, "--coordinator", "--dir", site.path("x"), "--hook", "bin/x")
    assert r.code == 2 and "absolute path" in r.err, r
