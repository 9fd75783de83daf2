"""NCCL's network as it is chosen: two agents with sysfs trees of their own, and ranks that print what they got."""
import json
import os
import re
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BUILD, SLOW, wait_until  # noqa: E402
from probe import Tree  # noqa: E402

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(BUILD, "nodeagent-probe")), reason="nodeagent-probe is not built")

PRINT = ("sh", "-c", "env | grep -E '^(NCCL_(NET|IB_|SOCKET)|GLOO_|TP_)' | sort | sed \"s/^/$NODE_RANK /\"")
SILENT = {k: None for k in os.environ if k.startswith(("NCCL_", "GLOO_", "TP_"))}


class Pair:
    """n1 and n2, with ports that a test changes."""

    def __init__(self, site):
        self.site = site
        if site.bin != BUILD:
            shutil.copy(os.path.join(BUILD, "nodeagent-probe"), site.bin)
        site.env = {k: v for k, v in site.env.items() if k not in SILENT}
        site.head()
        self.trees = {}
        for name in ("n1", "n2"):
            self.trees[name] = t = Tree(site.path(name + "-sys"))
            for i in range(2):
                t.device(f"mlx5_{i}", i)
            site.node(name, conf=f"[agent]\nsysfs_root = {t.root}\n")
        self.see(n1={"mlx5_0": "Active", "mlx5_1": "Active"}, n2={"mlx5_0": "Active", "mlx5_1": "Active"})

    def ports(self):
        return {(p["node"], p["device"]): p["state"] for p in self.site.json("ports")["ports"]}

    def see(self, **nodes):
        want = {(n, d): s for n, ports in nodes.items() for d, s in ports.items()}
        wait_until(lambda: want.items() <= self.ports().items(), 10 * SLOW, f"{want}", 0.1)

    def down(self, node, device):
        self.trees[node].set(device, state="1: DOWN", phys_state="2: Polling")
        self.see(**{node: {device: "Down"}})

    def launch(self, *options, env=None):
        """The result, and {node rank: {name: value}} of what the ranks printed."""
        r = self.site.launch("-N", 2, "-G", 0, "--no-label", *options, "--", *PRINT, env=dict(self.site.env, **(env or {})))
        got = {0: {}, 1: {}}
        for line in r.lines():
            m = re.fullmatch(r"([01]) (\w+)=(.*)", line)
            got[int(m[1])][m[2]] = m[3]
        return r, got

    def last(self):
        return self.site.job(max(j["job"] for j in self.site.json("jobs", "--all")["jobs"]))


@pytest.fixture
def pair(site):
    return Pair(site)


def test_the_ports_that_are_good_on_all_nodes_are_named_and_a_bad_one_is_told(pair):
    r, got = pair.launch()
    assert r.code == 0 and all(got[i]["NCCL_IB_HCA"] == "=mlx5_0:1,mlx5_1:1" for i in (0, 1)), r
    assert all("NCCL_NET" not in got[i] and got[i]["NCCL_SOCKET_IFNAME"] == "lo" for i in (0, 1)), r
    j = pair.last()
    assert j["notices"] == [] and j["net"] == "auto" and j["net_text"] == "InfiniBand: 2 ports of 400 Gb/s on each node"
    rows = {s["name"]: s for s in j["net_settings"]}
    assert rows["NCCL_IB_HCA"]["value"] == "=mlx5_0:1,mlx5_1:1" and rows["NCCL_IB_HCA"]["yours"] is False
    assert rows["GLOO_SOCKET_IFNAME"]["value"] == "lo" and "proved route" in rows["GLOO_SOCKET_IFNAME"]["why"]
    text = pair.site.ctl("job", j["job"]).ok().out
    assert re.search(r"^network +InfiniBand: 2 ports", text, re.M) and re.search(r"^NCCL_IB_HCA +=mlx5_0:1,mlx5_1:1", text, re.M), text

    # one port of one node: left out on both, and said
    pair.down("n2", "mlx5_1")
    r, got = pair.launch("--net", "ib")
    assert r.code == 0 and all(got[i]["NCCL_IB_HCA"] == "=mlx5_0:1" and got[i]["NCCL_NET"] == "IB" for i in (0, 1)), r
    told = "NCCL gets 1 port on each node, the same on all: n2: mlx5_1 Down/Polling, 1 of 2 Active"
    assert told in pair.last()["notices"]

    # what its owner has set stays, and is shown
    r, got = pair.launch(env={"NCCL_IB_HCA": "^mlx5_1", "NCCL_IB_DISABLE": "0"})
    assert r.code == 0 and all(got[i]["NCCL_IB_HCA"] == "^mlx5_1" and got[i]["NCCL_IB_DISABLE"] == "0" for i in (0, 1)), r
    rows = {s["name"]: s for s in pair.last()["net_settings"]}
    assert rows["NCCL_IB_HCA"]["yours"] and rows["NCCL_IB_HCA"]["value"] is None and "left alone" in rows["NCCL_IB_HCA"]["why"]
    assert "NCCL_IB_DISABLE, which its owner has set, decides" in pair.last()["net_text"]

    # also in a file of NCCL's
    os.mkdir(pair.site.path("home"))
    with open(pair.site.path("home", ".nccl.conf"), "w", encoding="ascii") as f:
        f.write("NCCL_IB_HCA=mlx5_7\n")
    r, got = pair.launch("--net", "ib", env={"HOME": pair.site.path("home")})
    assert r.code == 0 and all("NCCL_IB_HCA" not in got[i] and got[i]["NCCL_NET"] == "IB" for i in (0, 1)), r
    assert {s["name"]: s["yours"] for s in pair.last()["net_settings"]}["NCCL_IB_HCA"]

    # asked for by hand
    r, got = pair.launch("--net", "socket")
    assert r.code == 0 and all((got[i]["NCCL_NET"], got[i]["NCCL_IB_DISABLE"]) == ("Socket", "1") for i in (0, 1)), r
    r, _ = pair.launch("--net", "socket", env={"NCCL_NET": "IB"})
    assert r.code == 2 and "--net socket contradicts NCCL_NET=IB" in r.err
    r, _ = pair.launch("--net", "ib", env={"NCCL_IB_DISABLE": "1"})
    assert r.code == 2 and "contradicts NCCL_IB_DISABLE=1" in r.err

    # a plan of it
    plan = json.loads(pair.site.ctl("--json", "launch", "-N", 2, "-G", 0, "--dry-run", "--net", "ib", "--", "true").ok().out)
    assert plan["plan_nodes"] == ["n1", "n2"] and plan["plan_text"] is None and told in plan["plan_notices"]
    assert {s["name"]: s["value"] for s in plan["net_settings"]} == {
        "NCCL_NET": "IB", "NCCL_IB_HCA": "=mlx5_0:1", "NCCL_SOCKET_IFNAME": None, "GLOO_SOCKET_IFNAME": None, "TP_SOCKET_IFNAME": None}
    text = pair.site.ctl("launch", "-N", 2, "-G", 0, "--dry-run", "--", "true", env=dict(pair.site.env, NCCL_DEBUG="WARN")).ok().out
    print(text)
    assert "=mlx5_0:1" in text and told in text.replace("\n  ", " ") and re.search(r"^NCCL_DEBUG +WARN", text, re.M), text
    assert len(pair.site.json("jobs", "--all")["jobs"]) == 5


def test_without_a_port_to_use_ib_is_refused_and_auto_says_socket(pair):
    pair.down("n2", "mlx5_0")
    pair.down("n2", "mlx5_1")
    cause = "n2 has no Active port (mlx5_0 Down/Polling, mlx5_1 Down/Polling)"
    r, got = pair.launch("--net", "ib")
    assert r.code == 1 and r.out == "" and f"--net ib: {cause}" in r.err, r
    j = pair.last()
    assert j["state"] == "failed" and all(k["pid"] is None for k in j["ranks"]), "no rank was started"
    r, got = pair.launch()
    assert r.code == 0 and all(got[i]["NCCL_NET"] == "Socket" and "NCCL_IB_HCA" not in got[i] for i in (0, 1)), r
    assert f"SOCKET: NCCL is told to use TCP on all nodes, many times slower: {cause}" in r.err.replace("\n", " "), r
    assert pair.last()["net_text"] == f"SOCKET: {cause}"
    r = pair.site.ctl("--json", "launch", "-N", 2, "-G", 0, "--dry-run", "--net", "ib", "--", "true")
    assert r.code == 1 and cause in json.loads(r.out)["plan_text"]
    r = pair.site.ctl("launch", "-N", 2, "-G", 0, "--dry-run", "--net", "ib", "--", "true")
    assert r.code == 1 and "it would not start" in r.out and " ".join(r.out.split()).count(cause) == 1, r
    assert "now it would get" not in r.out and "SETTING" not in r.out, r
    # it is mended while nobody is looking
    pair.trees["n2"].set("mlx5_0", state="4: ACTIVE", phys_state="5: LinkUp")
    pair.see(n2={"mlx5_0": "Active"})
    r, got = pair.launch("--net", "ib")
    assert r.code == 0 and got[1]["NCCL_IB_HCA"] == "=mlx5_0:1", r


def test_each_node_has_its_own_names_when_they_differ(pair):
    for i in range(2):
        pair.trees["n2"].remove(f"mlx5_{i}")
    pair.trees["n2"].device("ibp1s0", 0)
    pair.see(n2={"ibp1s0": "Active"})
    wait_until(lambda: ("n2", "mlx5_1") not in pair.ports(), 20 * SLOW, "the old ones are gone", 0.1)
    r, got = pair.launch()
    assert r.code == 0 and (got[0]["NCCL_IB_HCA"], got[1]["NCCL_IB_HCA"]) == ("=mlx5_0:1", "=ibp1s0:1"), r
    rows = [(s["nodes"], s["value"]) for s in pair.last()["net_settings"] if s["name"] == "NCCL_IB_HCA"]
    assert rows == [("n1", "=mlx5_0:1"), ("n2", "=ibp1s0:1")]
    assert any("name their Active ports differently" in n for n in pair.last()["notices"])
