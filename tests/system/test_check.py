"""test_check.py - nodectl check: real probes over a tree like sysfs's and a library like NVIDIA's, to the screen"""
import json
import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BUILD, SLOW, Cluster, wait_until  # noqa: E402
from probe import Tree  # noqa: E402

FAKE = os.path.join(BUILD, "tests/fake/libnvml.so")
pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(BUILD, "nodeagent-probe")), reason="nodeagent-probe is not built")


class Lab:
    """Two nodes with four ports and two GPUs each: all well."""

    def __init__(self, where):
        self.tree = Tree(os.path.join(where, "sys"))
        for i in range(4):
            self.tree.device(f"mlx5_{i}", i, **{"pkeys/0": "0xffff", "pkeys/1": "0x0000"})
            self.tree.counters(f"mlx5_{i}")
        self.lib = os.path.join(where, "libnvml.so")
        shutil.copy(FAKE, self.lib)
        self.gpus("count 2")
        self.c = Cluster(2, args=("--sysfs-root", self.tree.root, "--nvml", self.lib))
        wait_until(lambda: self.verdicts("ib.lid") == {"ok"} and self.verdicts("gpu.temp") == {"ok"}, 20 * SLOW, "all is read")

    def gpus(self, *lines):
        with open(self.lib + ".conf~", "w", encoding="ascii") as f:
            f.write("\n".join(lines) + "\n")
        os.replace(self.lib + ".conf~", self.lib + ".conf")

    def rows(self, *args):
        r = self.c.ctl("--json", "check", *args)
        # 3: the probes have not read anything yet, and so nothing is checked
        assert r.code in (0, 1) or r.code == 3 and "not yet" in " ".join(r.err.split()), r.err
        return json.loads(r.out)["checks"]

    def verdicts(self, check):
        return {r["verdict"] for r in self.rows(check)}

    def not_ok(self):
        """{(check, what)} that warn or are bad, without what depends on the host that runs the tests."""
        return {(r["id"], r["what"]) for r in self.rows() if r["verdict"] in ("warn", "bad") and not r["id"].startswith("node.")}

    def fired(self, want):
        """The rows of one check and one thing that warn or are bad: one a node."""
        return [r for r in self.rows(want[0]) if r["what"] == want[1] and r["verdict"] in ("warn", "bad")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(str(tmp_path_factory.mktemp("lab")))
    yield lab
    lab.c.stop()


def test_checks_of_what_no_node_has_are_no_success(cluster, tmp_path):
    tree = Tree(str(tmp_path / "sys"))
    tree.device("mlx5_0")
    c = cluster(1, args=("--sysfs-root", tree.root))
    wait_until(lambda: c.json("ports")["ports"], 20 * SLOW, "all is read")
    r = wait_until(lambda: next((r for r in [c.ctl("check", "gpu.")] if r.code != 0), None), 20 * SLOW, "that there is no driver is known", 0.2)
    assert r.code == 3 and "gpu. checked nothing: the one node of this cluster has no GPU" in " ".join(r.err.split()), r
    r = c.ctl("--json", "check", "gpu.", "-w", c.names[0])
    assert r.code == 3 and json.loads(r.out)["checks"] == [] and "the one node asked for has no GPU" in " ".join(r.err.split()), r
    r = c.ctl("check", "gpu.nvlink")  # so it would be with GPUs that have no links
    assert r.code == 3 and "gpu.nvlink checked nothing: the one node of this cluster has no GPU that it is about" in " ".join(r.err.split()), r
    r = c.ctl("check", "sm.")
    assert r.code == 0 and " ".join(r.out.split()) == (
        "sm. has nothing to say of this one node: a subnet manager that runs where it is enabled is well"), r
    assert c.ctl("check", "ib.state").code == 0 and c.ctl("check", "gpu.", "--explain").code == 0 and c.ctl("check").code in (0, 1)


def test_nodes_that_are_drained_alike_are_one_row(cluster):
    c = cluster(3)
    c.ctl("drain", "node[1-2]", "--why", "new NIC").ok()
    r = c.ctl("check", "node.cordon", env=dict(c.env, COLUMNS="200"))
    assert len([line for line in r.out.splitlines() if "new NIC" in line]) == 1 and "node[1-2]" in r.out, r
    assert "fix: nodectl resume node[1-2]\n" in r.out and ": drained by " not in r.out and "drained by " in r.out, r
    c.ctl("drain", "node3", "--why", "old NIC").ok()
    r = c.ctl("check", "node.cordon", env=dict(c.env, COLUMNS="200"))
    assert "fix: nodectl resume node[1-2]\n" in r.out and "fix: nodectl resume node3\n" in r.out, r
    assert [x["fix"] for x in c.json("check")["checks"] if x["id"] == "node.cordon"] == [f"nodectl resume node{i}" for i in (1, 2, 3)]


def test_what_is_known_of_the_nodes_that_are_read_is_told(ctl, agent):
    agent.checks = {"nodes": 3, "ok": 0, "warn": 0, "bad": 0, "unknown": 0, "unread": 1}
    r = ctl("check", "ib.")
    assert r.code == 3 and " ".join(r.err.split()) == (
        "nodectl: ib. checked nothing: 1 of the 3 nodes of this cluster is not read, or not yet (nodectl check -v tells why); "
        "the other 2 have no RDMA port"), r
    r = ctl("check", "sm.running")
    assert r.code == 0 and " ".join(r.out.split()) == (
        "sm.running has nothing to say of these 3 nodes, of which 1 is not read, or not yet (nodectl check -v tells why)"), r
    agent.checks.update(nodes=2, unread=2)
    r = ctl("check", "gpu.temp")
    assert r.code == 3 and "2 of the 2 nodes of this cluster are not read" in " ".join(r.err.split()) and "other" not in r.err, r


def test_all_is_well_and_counted(lab):
    assert lab.not_ok() == set()
    doc = json.loads(lab.c.ctl("--json", "check").out)
    assert doc["nodes"] == 2 and doc["ok"] > 100 and doc["bad"] == 0
    one = json.loads(lab.c.ctl("--json", "check", "-w", "node1", "-v").out)
    assert one["nodes"] == 1 and len(one["checks"]) == one["ok"] + one["warn"] + one["bad"] + one["unknown"]
    for check in "ib.state", "ib.rate", "ib.pkey", "ib.counters.symbol_error", "gpu.throttle", "gpu.driver", "node.disk", "node.mounts", "node.limits":
        assert "unknown" not in lab.verdicts(check), check
    text = lab.c.ctl("check", "-w", "node1").out
    assert text.splitlines()[-1].startswith(f"{len(one['checks'])} checks on 1 node"), text


# what breaks, and which checks fire: no others may
@pytest.mark.parametrize("port, gpu, want, words", [
    ({"state": "2: INIT"}, (), ("ib.state", "mlx5_2"), "Ports of 2 nodes are so: the subnet manager is down"),
    ({"rate": "100 Gb/sec (4X EDR)"}, (), ("ib.rate", "mlx5_2"), "it was at 400 Gb/s before"),
    ({"sm_lid": "0x0"}, (), ("ib.lid", "mlx5_2"), "knows no subnet manager"),
    ({}, ("set 0 72 throttle",), ("gpu.throttle", "GPU 1"), "too hot"),
    ({}, ("set 0 8 width",), ("gpu.pcie", "GPU 1"), "8 lanes of 16"),
    ({}, ("temp 0 96",), ("gpu.temp", "GPU 1"), "96 C"),
])
def test_one_fault_fires_one_check_and_goes_with_it(lab, port, gpu, want, words):
    before = {}
    for file, text in port.items():
        with open(lab.tree.path(f"class/infiniband/mlx5_2/ports/1/{file}"), encoding="ascii") as f:
            before[file] = f.read().strip()
        lab.tree.write(f"class/infiniband/mlx5_2/ports/1/{file}", text)
    lab.gpus("count 2", *gpu)
    also = {("ib.width", want[1])} if want[0] == "ib.rate" else set()
    try:
        # virtual nodes share the ports, and part the GPUs; each has a probe of its own, and the second may be later
        wait_until(lambda: lab.not_ok() - also == {want} and len(lab.fired(want)) == (2 if port else 1), 12 * SLOW,
                   f"{want} fires, on each node that has it, and nothing else")
        wait_until(lambda: all(words in r["text"] and r["fix"] for r in lab.fired(want)), 5 * SLOW, f"{lab.fired(want)} say {words!r}")
        bad = any(r["verdict"] == "bad" for r in lab.fired(want))
        assert lab.c.ctl("check", want[0]).code == (1 if bad else 0)
        if port:  # two nodes, one row
            assert f"node[1-2] {want[1]}" in lab.c.ctl("check", want[0]).out
    finally:
        for file, text in before.items():
            lab.tree.write(f"class/infiniband/mlx5_2/ports/1/{file}", text)
        lab.gpus("count 2")
    wait_until(lambda: lab.not_ok() == set(), 12 * SLOW, "it is well again")


def test_a_storm_of_errors_is_seen_by_its_growth(lab):
    lab.tree.counters("mlx5_1", symbol_error=60000)
    wait_until(lambda: ("ib.counters.symbol_error", "mlx5_1") in lab.not_ok(), 12 * SLOW, "60000 new errors are told")
    row = next(r for r in lab.rows() if r["id"] == "ib.counters.symbol_error")
    assert row["verdict"] == "bad" and "symbol errors: 60000 in the last" in row["text"] and "cable" in row["fix"]


def test_each_check_explains_itself_and_a_wrong_name_is_told(lab):
    about = json.loads(lab.c.ctl("--json", "check", "--explain").out)["about"]
    ids = [a["id"] for a in about]
    assert len(ids) >= 50 and len(set(ids)) == len(ids) and all(a["threshold"] and a["source"] and a["remedy"] for a in about)
    out = lab.c.ctl("check", "ib.rate", "--explain").out
    assert all(w in out for w in ("ib.rate", "reading", "threshold", "source", "remedy"))
    r = lab.c.ctl("check", "ib.nonsense")
    assert r.code == 3 and "no check" in r.err
    r = lab.c.ctl("check", "ib")
    assert r.code == 3 and "with a dot at its end, ib., it is a group" in r.err
    r = lab.c.ctl("check", "-w", "node7")
    assert r.code == 3 and "no node named node7" in r.err
    assert lab.c.ctl("check", "ib.state", "ib.rate").code == 2
