"""test_drain.py - nodes that get no new jobs, over restarts, and what is told to those who wait"""
import signal

from cluster import SLOW, wait_until


def state(site, name):
    return next(n for n in site.json("nodes")["nodes"] if n["name"] == name)


def test_a_drained_node_is_left_out_until_it_is_resumed_also_over_a_restart(site):
    site.head()
    site.node("a1")
    site.node("a2")
    runs = site.detach("-w", "a2", "--", "sleep", "1000")
    site.wait_state(runs, "running")
    r = site.admin("drain", "a2", "--why", "new NIC").ok()
    assert r.out == "a2: no new jobs start there; what runs there goes on, see nodectl status\n"
    n = state(site, "a2")
    assert n["cordon"].endswith(": new NIC") and n["cordon"].startswith("it is drained by ") and n["drained"] is True
    assert n["brief"] == "drained: new NIC" and n["cordon_since_ms"] > 0
    waits = site.detach("-N", "2", "--", "true")
    wait_until(lambda: "a2 gets no new jobs: it is drained by" in (site.job(waits)["why"] or ""), 10 * SLOW, "it says why")
    assert "new NIC" in site.job(waits)["why"]
    for _ in range(4):
        assert site.launch("--", "sh", "-c", "echo $NODEAGENT_NODE").ok().out == "a1\n"
    assert "drained: new NIC" in site.ctl("nodes").ok().out and "none: drained" in site.ctl("node", "a2").ok().out
    assert "nodectl resume a2" in site.ctl("status").ok().out
    site.admin("drain", "a2").ok()  # says nothing new
    assert state(site, "a2")["brief"] == "drained: new NIC"
    r = site.admin("node-remove", "a2")
    assert r.code == 1 and f"in use by job {runs}, so nothing was done" in r.err and "--force a2" in r.err, r
    assert "--force" in site.admin("node-remove", "--help").ok().out
    site.stop_daemon("head", signal.SIGKILL)
    site.start_head()
    wait_until(lambda: site.ctl("status").code == 0 and site.state("a2") == "ok", 20 * SLOW, "the node is back")
    assert state(site, "a2")["cordon"].endswith(": new NIC")
    assert site.job(runs)["state"] == "running" and site.job(waits)["state"] == "queued"
    site.admin("resume", "a[1-2]").ok()
    assert site.wait_end(waits)["exit_code"] == 0
    assert state(site, "a2")["cordon"] is None


def test_drain_names_what_it_does_not_know_and_does_nothing_then(site):
    site.head()
    site.node("a1")
    r = site.admin("drain", "a[1-3]")
    assert r.code == 1 and "no node named a2" in r.err and "nothing was done" in r.err, r
    assert state(site, "a1")["cordon"] is None
    assert site.admin("resume", "a1").ok().out == "a1: new jobs may start there\n"
    r = site.run(site.nodectl, "--socket", site.socket("a1"), "drain", "a1")
    assert r.code == 1 and "administrator" in r.err, r
