"""test_fix_sm_host.py - nodectl fix sm on a host as systemd runs it: the launcher does it where root allows it, and
everybody is told what happened

systemctl is a script of the test, seen in the mount namespace of the host's programs only.
"""
import json
import os
import shutil
import signal
import threading

import pytest

from cluster import BUILD, ROOT, SLOW, wait_until
from probe import Tree
from test_users import USERS, Host, closed
from test_users import pytestmark as several_users

pytestmark = [*several_users, pytest.mark.skipif(not os.path.exists(os.path.join(BUILD, "nodeagent-probe")),
                                                 reason="nodeagent-probe is not built")]


class SmHost(Host):
    """One node with an InfiniBand port and opensm, and a systemctl that does as the test says."""

    def programs(self):
        super().programs()
        shutil.copy(os.path.join(BUILD, "nodeagent-probe"), self.path("bin"))
        self.tree = Tree(self.path("sys"))
        self.tree.device("mlx5_0", state="2: INIT", lid="0x0", sm_lid="0x0")
        self.tree.write("systemd/opensm.service", "")

    def namespace(self):
        super().namespace()
        self.systemctl("true")
        self.run("mount", "--bind", self.path("systemctl"), "/usr/bin/systemctl").ok()

    def cluster(self, agent_conf):
        super().cluster(f"sysfs_root = {self.dir}/sys\n")

    def systemctl(self, then):
        """Written in place: the mount is of the file."""
        with open(self.path("systemctl"), "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\necho \"$@\" >>{self.dir}/asked\n{then}\n")
        os.chmod(self.path("systemctl"), 0o755)

    def asked(self):
        if not os.path.exists(self.path("asked")):
            return []
        with open(self.path("asked"), encoding="ascii") as f:
            return f.read().splitlines()

    def fix(self, *args):
        return self.admin("fix", "sm", *args)

    def set_port(self, state, **files):
        self.tree.set("mlx5_0", state=state, **files)

    def state(self):
        return json.loads(self.admin("--json", "status").ok().out)["nodes"][0]["ports"][0]["state"]

    def new_launcher(self):
        """One that has restarted nothing yet: it does so three times in ten minutes."""
        if "launcher" in self.daemons:
            self.stop("launcher")
        if os.path.exists(self.path("launcher.sock")):
            os.unlink(self.path("launcher.sock"))
        self.start_launcher()
        wait_until(lambda: self.su("alice", "nodectl launch -G 0 -- true").code == 0, 20 * SLOW, "the agent has found the launcher", 0.3)

    def fix_while(self, hurt):
        """What nodectl said when this was done while systemctl was at work, which happened once."""
        self.write("allow-fix-sm", "", 0o644)
        self.new_launcher()
        self.set_port("4: ACTIVE", lid="0x1", sm_lid="0x1")
        wait_until(lambda: self.state() == "Active", 15 * SLOW, "the port is well")
        before, said = len(self.asked()), []
        go = self.path("go")  # when it may end, and 2 s later it does: who was ended and is back may meet it at work
        self.systemctl(f"for i in $(seq 75); do [ -e {go} ] && break; sleep 0.2; done; rm -f {go}; sleep 2")
        t = threading.Thread(target=lambda: said.append(self.fix("--wait", "0")))
        t.start()
        wait_until(lambda: len(self.asked()) > before, 15 * SLOW, "systemctl is at work", 0.05)
        hurt()
        self.write("go", "")
        t.join()
        assert len(self.asked()) == before + 1
        return said[0]

    def events(self):
        got = json.loads(self.su("alice", "nodectl --json events --kind fix").ok().out)
        return [(e["kind"], e["severity"], e["node"], e["text"]) for e in got["events"]]


@pytest.fixture(scope="module")
def host(request):
    if not ROOT:
        pytest.skip("needs root")
    h = SmHost(launcher=())
    h.launcher = ("--fix-sm", h.path("allow-fix-sm"))
    wait_until(lambda: json.loads(h.admin("--json", "status").ok().out)["nodes"][0]["ports"], 15 * SLOW, "readings have come", 0.2)
    h.new_launcher()
    yield h
    closed(h, request)


def test_until_root_allows_it_nobody_may(host):
    """Not even for the coordinator's administrator: that is the word of root on the manager's host. (The test is root
    there, but --socket names no agent, so nothing is done directly.)"""
    r = host.fix()
    assert r.code == 1 and "opensm on n1: NOT running, not enabled" in r.err, r
    assert f"is not allowed on this node; root allows it there with: touch {host.dir}/allow-fix-sm" in " ".join(r.err.split()), r
    assert host.asked() == []
    (kind, severity, node, text), = host.events()
    assert (kind, severity, node) == ("fix.sm", "warn", "n1") and text.startswith("opensm was not restarted, as root asked: "), text


def test_who_is_no_administrator_is_told_where_it_is_and_what_to_type(host):
    host.write("allow-fix-sm", "", 0o644)
    r = host.su("alice", "nodectl fix sm --enable")
    assert r.code == 1 and "opensm on n1: NOT running" in r.err and "is for administrators" in r.err, r
    assert "n1# systemctl restart opensm && systemctl enable opensm" in " ".join(r.err.split()), r
    assert host.asked() == []


def test_the_launcher_restarts_it_and_the_ports_are_waited_for(host):
    host.write("allow-fix-sm", "", 0o644)
    ports = host.tree.path("class/infiniband/mlx5_0/ports/1")
    host.systemctl(f"case $2 in restart) (sleep 2; echo 0x1 >{ports}/lid; echo 0x1 >{ports}/sm_lid; echo '4: ACTIVE' >{ports}/state) & esac")
    wait_until(lambda: host.state() == "Initializing", 15 * SLOW, "the port waits")
    r = host.admin("--json", "fix", "sm", "--enable")
    assert r.code == 0, r
    assert host.asked() == ["--no-ask-password restart opensm.service", "--no-ask-password enable opensm.service"]
    assert "restarting opensm on n1 by its launcher" in r.err and "waiting for 1 port, 60 s at most: n1 mlx5_0 Initializing" in r.err, r
    d = json.loads(r.out)
    assert (d["node"], d["unit"], d["by"], d["was_running"], d["enabled"]) == ("n1", "opensm", "launcher", False, True), d
    assert (d["waited_for"], d["waiting"], d["active"], d["ports"]) == (1, 0, 1, 1) and 1 < d["seconds"] < 15 * SLOW, d
    assert host.events()[-1] == ("fix.sm", "info", "n1", "opensm was restarted and enabled, as root asked")
    with open(host.path("launcher.log"), encoding="utf-8") as f:
        assert "fix sm: systemctl restart opensm and enable, asked for by the agent" in f.read()
    # now the ports say who it is
    wait_until(lambda: "the last master (LID 1, mlx5_0)" in host.su("alice", "nodectl fix sm").err, 20 * SLOW, "it is named", 0.5)


def test_what_did_not_go_well_is_told_with_the_last_line_of_systemctl(host):
    host.write("allow-fix-sm", "", 0o644)
    host.systemctl("echo 'Unit opensm.service is masked.'; exit 1")
    r = host.fix()
    assert r.code == 1 and "systemctl restart opensm ended with 1: Unit opensm.service is masked." in " ".join(r.err.split()), r
    assert host.events()[-1][3].endswith("Unit opensm.service is masked."), host.events()
    host.systemctl("case $2 in enable) echo 'Read-only file system'; exit 1; esac")
    r = host.fix("--enable")
    assert r.code == 1 and "warning: systemctl enable opensm ended with 1: Read-only file system" in " ".join(r.err.split()), r
    assert "opensm on n1 was restarted: no port waited for it (1 of 1 are Active)" in " ".join(r.out.split()), r


def test_a_port_that_stays_is_named_with_the_reason(host):
    host.new_launcher()
    host.write("allow-fix-sm", "", 0o644)
    host.systemctl("true")
    host.set_port("2: INIT", lid="0x0", sm_lid="0x0")
    wait_until(lambda: host.state() == "Initializing", 15 * SLOW, "the port waits")
    r = host.fix("--wait", "2s")
    err = " ".join(r.err.split())
    assert r.code == 1 and "warning: opensm is not enabled" in err, r
    assert "n1 mlx5_0 port 1 is still Initializing: " in err and "no subnet manager has configured" in err, r
    assert "opensm on n1 has ended again; there: systemctl status opensm" in err, r
    assert "after 2 s 1 port is still not Active: n1 mlx5_0 Initializing" in err, r
    assert host.fix("--wait", "0").code == 0  # not waited for, by wish


def test_without_its_launcher_or_its_agent_it_says_so(host):
    host.write("allow-fix-sm", "", 0o644)
    before = len(host.asked())
    host.stop("launcher")
    r = host.fix()
    assert r.code == 1 and "nodeagent-launcher does not run on this node" in " ".join(r.err.split()), r
    os.unlink(host.path("launcher.sock"))
    host.start_launcher()
    host.stop("agent")
    r = host.fix("-w", "n1")
    assert r.code == 1 and len(host.asked()) == before, r
    r = host.fix("-w", "nosuch")
    assert r.code == 1 and "no node named nosuch" in " ".join(r.err.split()), r
    host.start("agent")
    wait_until(lambda: host.su("alice", "nodectl --json status | grep -q '\"n1\"'").code == 0, 15 * SLOW, "registered", 0.2)


def test_an_agent_killed_meanwhile_tells_what_became_of_it(host):
    def hurt():
        host.stop("agent", signal.SIGKILL)
        host.start("agent")
    r = host.fix_while(hurt)
    assert r.code == 0 and "opensm on n1 was restarted" in " ".join(r.out.split()), r
    assert host.events()[-1] == ("fix.sm", "info", "n1", "opensm was restarted, as root asked"), host.events()


def test_a_coordinator_killed_meanwhile_tells_what_became_of_it(host):
    def hurt():
        host.stop("coordinator", signal.SIGKILL)
        host.stop("agent", signal.SIGKILL)
        host.start("coordinator")
        host.start("agent")
    r = host.fix_while(hurt)
    assert r.code != 0 and "what becomes of it is an event: nodectl events -k fix" in " ".join(r.err.split()), r
    wait_until(lambda: host.su("alice", "nodectl --json events --kind fix").code == 0 and
               host.events()[-1] == ("fix.sm", "info", "n1", "opensm was restarted, as root asked before"), 25 * SLOW, "the event", 0.3)


def test_a_launcher_killed_meanwhile_is_named_and_where_to_look(host):
    r = host.fix_while(lambda: host.stop("launcher", signal.SIGKILL))
    err = " ".join(r.err.split())
    assert r.code == 1 and "nodeagent-launcher on n1 has ended meanwhile; whether it was carried out: systemctl status opensm" in err, r
    assert "may or may not have been restarted, as root asked" in host.events()[-1][3], host.events()
    host.new_launcher()


def test_a_loop_is_told_when_it_may_go_on(host):
    host.write("allow-fix-sm", "", 0o644)
    host.new_launcher()
    host.systemctl("true")
    for _ in range(3):
        assert host.fix("--wait", "0").code == 0
    before = len(host.events()), len(host.asked())
    r = host.fix("--wait", "0")
    assert r.code == 1 and "was restarted 3 times in the last 10 minutes on this node; it may be tried again in " in " ".join(r.err.split()), r
    assert (len(host.events()), len(host.asked())) == before
    host.new_launcher()


def test_the_coordinators_socket_makes_nobody_an_administrator(host):
    host.write("allow-fix-sm", "", 0o644)
    before = len(host.asked())
    r = host.run("setpriv", f"--reuid={USERS['alice']}", f"--regid={USERS['alice']}", "--clear-groups", host.path("bin/nodectl"),
                 "--socket", host.path("crun/c.sock"), "fix", "sm")
    assert r.code == 1 and "restarting the subnet manager is for administrators" in " ".join(r.err.split()), r
    assert len(host.asked()) == before
