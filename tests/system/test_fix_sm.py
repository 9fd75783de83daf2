"""test_fix_sm.py - the subnet manager found on its host, named by the verdict, restarted by root, the ports waited for

A cluster of one user, which has no launcher: see test_fix_sm_host.py for that.
"""
import os
import shutil
import subprocess
import tempfile

import pytest

from cluster import BUILD, ROOT, SLOW, wait_until
from probe import Tree

pytestmark = pytest.mark.skipif(not os.path.exists(os.path.join(BUILD, "nodeagent-probe")), reason="nodeagent-probe is not built")
NAMESPACE = ROOT and shutil.which("unshare") and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


@pytest.fixture
def tree():
    t = Tree(tempfile.mkdtemp(prefix="nodeagent-sm-"))
    t.device("mlx5_0", lid="0x1")  # as its sm_lid is
    yield t
    shutil.rmtree(t.root)


def start(cluster, tree, n=1):
    c = cluster(n, args=["--sysfs-root", tree.root])
    wait_until(lambda: len(c.json("ports")["ports"]) == n, 15 * SLOW, "readings have come")
    return c


def attention(c):
    """All that needs a person: sentences with their remedies."""
    return " | ".join(c.json("status")["attention"])


def fake_systemctl(tree, then):
    """In place of the real one, seen by what is run below it only."""
    path = os.path.join(tree.root, "systemctl")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"#!/bin/sh\necho \"$@\" >>{tree.root}/asked\n{then}\n")
    os.chmod(path, 0o755)
    return ["unshare", "-m", "sh", "-c", f'mount --bind {path} /usr/bin/systemctl && exec "$@"', "sh"]


def run(prefix, c, *args):
    p = subprocess.run([*prefix, *c.args(*args)], capture_output=True, text=True, timeout=90, check=False)
    return p.returncode, p.stdout, p.stderr


def test_without_one_it_says_so(cluster, tree):
    c = start(cluster, tree)
    r = c.ctl("fix", "sm")
    assert r.code == 1 and f"the subnet manager is on {c.names[0]}, but not as the service" in r.err, r
    tree.set("mlx5_0", lid="0x5")
    wait_until(lambda: c.json("ports")["ports"][0]["lid"] == 5, 15 * SLOW, "another LID")
    r = c.ctl("fix", "sm")
    assert r.code == 1 and "the ports name LID 1 as their subnet manager's, which no node here has" in r.err, r
    tree.set("mlx5_0", state="2: INIT")
    wait_until(lambda: c.json("ports")["ports"][0]["state"] == "Initializing", 15 * SLOW, "it waits")
    r = c.ctl("fix", "sm")
    assert r.code == 1 and "no node has opensm or opensmd installed" in r.err, r
    r = c.ctl("fix", "sm", "-w", "nosuch")
    assert r.code != 0 and "nosuch" in r.err, r
    assert c.ctl("fix", "sm", "--wait", "soon").code == 2


def test_the_verdict_names_the_host_and_who_is_not_root_is_told_what_to_type(cluster, tree):
    tree.write("systemd/opensmd.service", "")
    tree.set("mlx5_0", state="2: INIT")
    c = start(cluster, tree)
    node = c.names[0]
    wait_until(lambda: f"opensmd on {node} is not running: nodectl fix sm" in attention(c), 15 * SLOW, "the verdict")
    tree.write("fs/cgroup/system.slice/opensmd.service/cgroup.procs", "1")
    tree.set("mlx5_0", state="4: ACTIVE")
    wait_until(lambda: "is not enabled" in attention(c) and "nodectl fix sm --enable" in attention(c), 20 * SLOW, "running, not enabled")
    os.makedirs(tree.path("systemd/multi-user.target.wants"))
    os.symlink("../opensmd.service", tree.path("systemd/multi-user.target.wants/opensmd.service"))
    wait_until(lambda: not attention(c), 20 * SLOW, "all is well")
    if ROOT and subprocess.run(["unshare", "-U", "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
        code, _, err = run(["unshare", "-U"], c, "fix", "sm", "--enable")  # not root there
        assert code == 1 and "without nodeagent-launcher" in err, err
        assert "as root: systemctl restart opensmd && systemctl enable opensmd\n" in " ".join(err.split(" ")), err
        code, _, err = run(["unshare", "-U"], c, "fix", "sm", "--enable", "--socket", os.path.join(c.ctl_dir(), "nodectl.sock"))
        assert code == 1 and "is for administrators" in err and f"{node}# systemctl restart opensmd && systemctl enable opensmd\n" in err, err


def test_debians_unit_starts_others_and_has_no_process_of_its_own(cluster, tree):
    """Its opensm.service is Type=oneshot, and starts an opensm@GUID.service for each port."""
    tree.write("systemd/opensm.service", "")
    tree.write("systemd/opensm@.service", "")
    group = "fs/cgroup/system.slice/system-opensm.slice"
    tree.write(f"{group}/opensm@0x0002c9030002fce9.service/cgroup.procs", "1")
    os.makedirs(tree.path("systemd/network-online.target.wants"))
    os.symlink("/lib/systemd/system/opensm.service", tree.path("systemd/network-online.target.wants/opensm.service"))
    c = start(cluster, tree)
    wait_until(lambda: c.json("ports")["ports"], 15 * SLOW, "the ports are read")
    wait_until(lambda: c.ctl("check", "sm.").code == 0, 15 * SLOW, "it is known that it runs, and that is well")
    os.truncate(tree.path(f"{group}/opensm@0x0002c9030002fce9.service/cgroup.procs"), 0)
    wait_until(lambda: "opensm is enabled here and does not run" in attention(c), 15 * SLOW, "it has ended")


@pytest.mark.skipif(not NAMESPACE, reason="needs root and mount namespaces")
def test_root_on_its_host_restarts_it_and_waits_for_the_ports(cluster, tree):
    tree.write("systemd/opensm.service", "")
    tree.set("mlx5_0", state="2: INIT")
    c = start(cluster, tree)
    ok = fake_systemctl(tree, f"(sleep 2; echo '4: ACTIVE' >{tree.path('class/infiniband/mlx5_0/ports/1/state')}) &")
    wait_until(lambda: "opensm on" in attention(c), 15 * SLOW, "the manager is found")
    code, out, err = run(ok, c, "fix", "sm", "--enable")
    assert code == 0, err
    with open(tree.path("asked"), encoding="ascii") as f:
        assert f.read() == "--no-ask-password restart opensm.service\n--no-ask-password enable opensm.service\n"
    assert "the launcher of" in err and "its agent has no nodeagent-launcher\n" in err and "type there" not in err, err
    assert "RDMA port" not in err and "NOT running, not enabled" in err and "waiting for 1 port, 60 s at most: " in err, err
    assert "was restarted and enabled: 1 port that waited is Active after" in out and "(1 of 1)" in " ".join(out.split()), out
    tree.set("mlx5_0", state="2: INIT")
    wait_until(lambda: c.json("ports")["ports"][0]["state"] == "Initializing", 15 * SLOW, "the port is down again")
    code, _, err = run(fake_systemctl(tree, "true"), c, "fix", "sm", "--wait", "2s")
    assert code == 1 and "after 2 s 1 port is still not Active" in err and "warning: opensm is not enabled" in err, err
    assert "mlx5_0 port 1 is still Initializing: " in err and "opensm on" in err and "has ended again" in err, err
    code, _, err = run(fake_systemctl(tree, "echo 'Unit opensm.service is masked.'; exit 5"), c, "fix", "sm")
    assert code == 1 and "systemctl restart opensm ended with 5: Unit opensm.service is masked." in err, err


def test_a_cluster_without_a_port_is_told_so_first(cluster, tree):
    shutil.rmtree(tree.path("class/infiniband"))
    tree.write("systemd/opensm.service", "")
    c = cluster(1, args=["--sysfs-root", tree.root])
    wait_until(lambda: "has no RDMA port" in " ".join(c.ctl("check", "ib.").err.split()), 15 * SLOW, "that is known")
    r = c.ctl("fix", "sm", "-w", "nosuch")
    assert r.code != 0 and r.err.startswith("no node of this cluster has an RDMA port: "), r


def test_an_agent_of_an_older_version_is_named(agent, ctl):
    r = ctl("fix", "sm")
    assert r.code == 1 and "the agent here (version " in r.err and ") is older than this command" in " ".join(r.err.split()), r
