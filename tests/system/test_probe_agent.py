"""Real agents and their probes: stopped, killed, broken or hanging ones cost their own readings only, and not for long."""
import os
import shutil
import signal
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cluster as cluster_py  # noqa: E402
from cluster import BUILD, SLOW, Cluster, children, cmdline, kill, wait_until  # noqa: E402
from probe import Tree  # noqa: E402

PROBE = os.path.join(BUILD, "nodeagent-probe")
FAKE = os.path.join(BUILD, "tests/fake/libnvml.so")
HANG_S = 15  # HANG_MS of daemon/io/probe.c
STUCK_S = 10  # SOURCE_STUCK_MS of daemon/probe/sources.h

pytestmark = pytest.mark.skipif(not os.path.exists(PROBE), reason="nodeagent-probe is not built")


class Host:
    """A tree with a port, a library with GPUs, and a cluster that looks at them."""

    def __init__(self, make):
        self.dir = tempfile.mkdtemp(prefix="nodeagent-host-")
        self.make = make
        self.tree = Tree(os.path.join(self.dir, "sys"))
        self.tree.device("mlx5_0")
        self.library = os.path.join(self.dir, "libnvml.so")
        shutil.copy(FAKE, self.library)
        self.gpus("count 2")

    def gpus(self, *lines):
        with open(self.library + ".conf~", "w", encoding="ascii") as f:
            f.write("\n".join(lines) + "\n")
        os.replace(self.library + ".conf~", self.library + ".conf")

    def start(self, n=1, *args):
        self.c = self.make(n, args=["--sysfs-root", self.tree.root, "--nvml", self.library, *args])
        for name in self.c.names:
            wait_until(lambda name=name: self.port(name) == "Active", 10 * SLOW, f"{name}'s readings")
        return self.c

    def probe(self, node):
        """The pid of a node's probe, None while there is none."""
        found = [p for p in children(self.c.agent_pid(node)) if cmdline(p).startswith("nodeagent-probe")]
        assert len(found) < 2, found
        return found[0] if found else None

    def new_probe(self, node, old, seconds):
        return wait_until(lambda: self.probe(node) not in (None, old) and self.probe(node), seconds, "another probe", 0.1)

    def node(self, name):
        return self.c.nodes_now()[name]

    def port(self, node, device="mlx5_0"):
        """The state that is shown; "?" for unknown, None when there is no such port."""
        found = [p for p in self.c.json("ports")["ports"] if p["node"] == node and p["device"] == device]
        return (found[0]["state"] or "?") if found else None

    def said(self, node):
        return {s["name"]: s["text"] for s in self.node(node)["sources"] or []}


@pytest.fixture
def host(cluster):
    h = Host(cluster)
    yield h
    shutil.rmtree(h.dir)


def test_a_probe_that_is_stopped_is_replaced_and_nobody_else_suffers(host):
    c = host.start(2)
    one, other = c.names
    old, untouched = host.probe(one), host.probe(other)
    os.kill(old, signal.SIGSTOP)
    begin = time.monotonic()
    said = False
    while host.probe(one) in (None, old):
        took = time.monotonic() - begin
        assert took < HANG_S + 15 * SLOW, "not replaced"
        n = host.node(one)
        said = said or "has not answered" in str(n["sources"])
        assert n["state"] in ("ok", "degraded"), n
        assert host.node(other)["state"] == "ok" and host.port(other) == "Active"
        assert c.ctl("launch", "-N", "2", "-G", "0", "--no-label", "--", "/bin/echo", "well").ok().out == "well\nwell\n"
        time.sleep(0.3)
    assert time.monotonic() - begin > HANG_S - 11, "it speaks every 10 s: sooner it could not be known"
    wait_until(lambda: host.port(one) == "Active" and host.node(one)["state"] == "ok", 10 * SLOW, "readings again")
    assert host.probe(other) == untouched
    assert said or "has not answered for 15 s" in c.logs()


def test_a_probe_that_is_killed_is_started_anew(host):
    c = host.start()
    old = host.probe(c.names[0])
    kill(old)
    host.new_probe(c.names[0], old, 5 * SLOW)
    wait_until(lambda: host.port(c.names[0]) == "Active", 5 * SLOW, "readings again")
    assert "killed by signal 9" in c.logs()


def test_a_probe_that_cannot_run_is_said_and_tried_less_and_less(host, monkeypatch):
    """The programs lie in a folder of their own, with a probe that ends at once."""
    starts = os.path.join(host.dir, "starts")
    for name in ("nodeagentd", "nodeagent-shim"):
        shutil.copy(os.path.join(BUILD, name), host.dir)
    with open(os.path.join(host.dir, "nodeagent-probe"), "w", encoding="ascii") as f:
        f.write(f"#!/bin/sh\ndate +%s.%N >>{starts}\nexit 7\n")
    os.chmod(os.path.join(host.dir, "nodeagent-probe"), 0o755)
    monkeypatch.setattr(cluster_py, "NODEAGENTD", os.path.join(host.dir, "nodeagentd"))
    c = host.c = host.make(1, args=["--sysfs-root", host.tree.root])
    name = c.names[0]

    def times():
        with open(starts, encoding="ascii") as f:
            return [float(x) for x in f]

    wait_until(lambda: len(times()) >= 4, 15, "four tries")
    gaps = [b - a for a, b in zip(times(), times()[1:])]
    assert 0.9 < gaps[0] < 2 + SLOW and 1.9 < gaps[1] < 3 + SLOW and 3.9 < gaps[2] < 5 + SLOW, gaps
    n = host.node(name)
    assert n["state"] == "degraded" and n["ports"] is None and n["gpus_total"] is None and n["ports_total"] is None
    assert host.said(name) == {"probe": "nodeagent-probe ended with code 7; it is started anew"}
    assert any("ended with code 7" in a["text"] for a in n["attention"])
    assert "ended with code 7" in c.ctl("status").ok().out
    assert c.ctl("launch", "-G", "0", "--", "/bin/true").code == 0


def test_a_change_of_a_port_is_seen_by_nodectl(host):
    c = host.start()
    name, times = c.names[0], []
    for state, word in (("2: INIT", "Initializing"), ("1: DOWN", "Down"), ("4: ACTIVE", "Active")):
        host.tree.set("mlx5_0", state=state)
        begin = time.monotonic()
        wait_until(lambda w=word: host.port(name) == w, 4 * SLOW, word)
        times.append(time.monotonic() - begin)
    print("seen after " + ", ".join(f"{t:.2f}" for t in times) + " s")
    host.tree.set("mlx5_0", state="2: INIT", lid="0x0", sm_lid="0x0")
    wait_until(lambda: host.node(name)["state"] == "degraded", 4 * SLOW, "it is judged")
    n = host.node(name)
    assert (n["ports_total"], n["ports_active"]) == (1, 0)
    assert any("no subnet manager" in a["text"] for a in n["attention"])


def test_devices_are_unplugged_and_plugged_in(host):
    host.tree.device("mlx5_1", 1)
    c = host.start()
    name = c.names[0]
    host.tree.remove("mlx5_0")
    wait_until(lambda: host.port(name) is None, 4 * SLOW, "it is gone")
    assert host.port(name, "mlx5_1") == "Active" and host.node(name)["ports_total"] == 1
    host.tree.device("mlx5_7", 7)
    wait_until(lambda: host.port(name, "mlx5_7") == "Active", 4 * SLOW, "another one")
    shutil.rmtree(host.tree.root)
    wait_until(lambda: host.node(name)["ports_total"] is None, 4 * SLOW, "nobody can tell")
    assert host.node(name)["state"] == "degraded"


def test_a_driver_that_hangs_is_not_shown_as_well_and_started_anew(host):
    c = host.start(1, "--probe-patience", f"{STUCK_S + 4}s")
    name, old = c.names[0], host.probe(c.names[0])
    wait_until(lambda: host.node(name)["gpus_total"] == 2, 5 * SLOW, "GPUs")
    g = c.json("gpus")["gpus"][0]
    assert g["temp_c"] is not None and g["processes"] == []
    host.gpus("count 2", "hang")
    wait_until(lambda: host.node(name)["gpus_total"] is None, STUCK_S + 5 * SLOW, "it is known to hang")
    n = host.node(name)
    assert n["state"] == "degraded" and any("does not answer" in a["text"] for a in n["attention"])
    assert len([a for a in n["attention"] if "nvml" in a["text"] or "GPU" in a["subject"]]) == 1, n["attention"]
    for g in c.json("gpus")["gpus"]:
        assert g["uuid"] and g["pci"] and g["text"].startswith("not read for "), g
        assert all(g[k] is None for k in ("temp_c", "mem_used", "power_w", "util", "ecc_corrected", "processes")), g
    table = c.ctl("gpus").ok().out
    assert "not read for " in table and "0%" not in table and "?" in table
    seen = set()

    def look():
        seen.add(host.port(name))
        return host.probe(name) not in (None, old)
    wait_until(look, 10 + 5 * SLOW, "its patience is over", 0.1)
    for _ in range(20):
        look()
        time.sleep(0.1)
    assert seen == {"Active"}, "ports are read all the while"
    assert f"does so after {2 * (STUCK_S + 4)} s" in c.logs()
    assert host.node(name)["gpus_total"] is None
    host.gpus("count 2")
    wait_until(lambda: host.node(name)["gpus_total"] == 2 and host.node(name)["state"] == "ok", 10 * SLOW, "it answers again")


def test_a_probe_ends_with_its_agent(host):
    c = host.start()
    pid = host.probe(c.names[0])
    assert isinstance(c, Cluster) and c.stop() == 0
    wait_until(lambda: not cluster_py.alive(pid), 5, "its end")
