"""test_netns.py - four hosts with addresses of their own on a bridge; cut, healed, killed, firewalled (root only)"""
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from cluster import SLOW, Reader, Site, alive, cmdline, kill, marked, wait_until

pytestmark = pytest.mark.root


def ip(*args):
    subprocess.run(["ip", *args], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)


class Hosts:
    """n network namespaces on one bridge, 10.213.X.1 .. n; names carry our pid."""

    def __init__(self, n):
        self.tag = f"na{os.getpid() % 100000}"
        self.bridge = f"{self.tag}b"
        self.net = f"10.213.{os.getpid() % 250}"
        self.n = n
        self.made = []

    def __enter__(self):
        ip("link", "add", self.bridge, "type", "bridge")
        ip("link", "set", self.bridge, "up")
        for i in range(1, self.n + 1):
            ns = self.ns(i)
            ip("netns", "add", ns)
            self.made.append(ns)
            ip("link", "add", self.veth(i), "type", "veth", "peer", "name", "eth0", "netns", ns)
            ip("link", "set", self.veth(i), "master", self.bridge, "up")
            ip("-n", ns, "addr", "add", f"{self.addr(i)}/24", "dev", "eth0")
            ip("-n", ns, "link", "set", "eth0", "up")
            ip("-n", ns, "link", "set", "lo", "up")
        return self

    def __exit__(self, *exc):
        for i, ns in enumerate(self.made, 1):
            subprocess.run(["ip", "link", "del", self.veth(i)], capture_output=True, check=False)
            subprocess.run(["ip", "netns", "del", ns], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True, check=False)

    def ns(self, i):
        return f"{self.tag}h{i}"

    def veth(self, i):
        return f"{self.tag}v{i}"

    def addr(self, i):
        return f"{self.net}.{i}"

    def on(self, i):
        return ["ip", "netns", "exec", self.ns(i)]

    def cut(self, i):
        ip("link", "set", self.veth(i), "down")

    def heal(self, i):
        ip("link", "set", self.veth(i), "up")


class NetSite(Site):
    """The head on host 1 with node h1; nodes h2.. on the other hosts."""

    def __init__(self, hosts):
        super().__init__()
        self.hosts = hosts

    def build(self, conf="", head_conf=""):
        self.head(host=self.hosts.addr(1), port=7411, conf=head_conf, prefix=self.hosts.on(1))
        for i in range(1, self.hosts.n + 1):
            self.node(f"h{i}", conf=conf, prefix=self.hosts.on(i))
        return self


@pytest.fixture
def four(request):
    with Hosts(4) as hosts:
        s = NetSite(hosts)
        try:
            yield s
        finally:
            left = s.finish()
            if getattr(request.node, "failed", False) or left:
                print(s.logs())
            s.remove()
            assert not left, f"processes left behind: {left}"


def agent_pids(site, i):
    """The agent's own process on host i (ip netns exec replaces itself)."""
    return site.daemons[f"h{i}"].pid


def test_a_job_meets_across_hosts(four):
    four.build()
    r = four.launch("-N", 4, "--procs-per-node", 2, "--", four.worker, "--size", 300000, "--steps", 3).ok()
    assert {k: t.strip() for k, t in r.by_rank().items()} == {
        k: f"rank {k} of 8 on h{k // 2 + 1}: sum of 300000 numbers is right" for k in range(8)}
    r = four.launch("-w", "h3,h2", "--", "sh", "-c", "echo $MASTER_ADDR $NCCL_SOCKET_IFNAME $GLOO_SOCKET_IFNAME").ok()
    want = f"{four.hosts.addr(3)} eth0 eth0\n"
    assert r.by_rank() == {0: want, 1: want}


def test_a_host_cut_off_is_unreachable_and_its_job_untouched_then_healed(four):
    four.build()
    p = four.popen("launch", "-N", 4, "--", "sh", "-c", "echo up; for i in $(seq 12); do sleep 1; done; echo done $RANK; sleep $((RANK / 3 * 2)); exit $((RANK / 3 * 5))")
    out, err = Reader(p.stdout), Reader(p.stderr)
    for k in range(4):
        out.wait(rf":{k}\] up")
    job = int(err.wait(r"job (\d+)").group(1))
    pids = [r["pid"] for r in four.job(job)["ranks"]]
    four.hosts.cut(3)
    start = time.monotonic()
    wait_until(lambda: four.state("h3") == "unreachable", 5, "shown unreachable")
    assert time.monotonic() - start <= 4.3
    assert {four.state(f"h{i}") for i in (1, 2, 4)} == {"ok"}
    assert all(alive(q) for q in pids) and four.job(job)["state"] == "running"
    # nobody else is disturbed: a new job on the others
    four.launch("-w", "h2,h4", "--", four.worker, "--size", 1000).ok()
    four.hosts.heal(3)
    wait_until(lambda: four.state("h3") == "ok", 20, "back after healing")
    assert p.wait(60) == 5
    out.thread.join(5)
    text = out.data.decode()
    assert sorted(re.findall(r"\[h\d:\d\] done \d", text)) == [f"[h{k + 1}:{k}] done {k}" for k in range(4)]


def test_a_host_that_ends_its_rank_while_cut_off_reports_on_return(four):
    four.build()
    job = four.detach("-w", "h2,h3", "--", "sh", "-c", "sleep $((3 + RANK)); echo late $RANK; exit $((RANK * 9))")
    four.wait_state(job, "running")
    four.hosts.cut(3)
    time.sleep(5)
    assert four.job(job)["state"] == "running"
    four.hosts.heal(3)
    j = four.wait_end(job, 40)
    assert (j["state"], j["exit_code"]) == ("failed", 9)
    assert four.ctl("logs", job).ok().by_rank() == {0: "late 0\n", 1: "late 1\n"}


def test_the_clients_host_cut_off_does_not_end_the_job(four):
    four.build()
    p = four.popen("launch", "-w", "h2,h3", "--", "sh", "-c", "echo up; sleep 100")
    out, err = Reader(p.stdout), Reader(p.stderr)
    out.wait(r":1\] up")
    job = int(err.wait(r"job (\d+)").group(1))
    pids = [r["pid"] for r in four.job(job)["ranks"]]
    four.hosts.cut(2)
    time.sleep(6)
    assert all(alive(q) for q in pids)
    four.hosts.heal(2)
    wait_until(lambda: four.state("h2") == "ok", 20, "back")
    assert four.job(job)["state"] == "running"
    p.kill()


def test_one_agent_killed_is_down_at_once(four):
    four.build()
    job = four.detach("-N", 4, "--", "sh", "-c", "sleep 5; exit $((RANK == 3 ? 8 : 0))")
    four.wait_state(job, "running")
    pids = [r["pid"] for r in four.job(job)["ranks"]]
    kill(agent_pids(four, 4))
    wait_until(lambda: four.state("h4") == "down", 1 * SLOW, "down")
    assert all(alive(q) for q in pids)
    four.daemons["h4"].wait()
    four.agent("h4", prefix=four.hosts.on(4))
    j = four.wait_end(job, 30)
    assert (j["state"], j["exit_code"]) == ("failed", 8)


def firewall(hosts, i, *rule):
    if shutil.which("nft"):
        rules = "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c " + " ".join(rule)
        p = subprocess.run([*hosts.on(i), "nft", rules], capture_output=True, check=False)
        return p.returncode == 0
    return False


def test_a_firewall_on_the_master_port_range_is_named(four):
    four.build()
    if not firewall(four.hosts, 1, "tcp dport 20000-32767 drop"):
        pytest.skip("no nft here, or the kernel has no nftables")
    r = four.launch("-w", "h1,h2", "--", four.worker, "--size", 1000, timeout=90)
    assert r.code != 0 and "h1" in r.err and "h2" in r.err, r
    assert re.search(r"firewall|cannot be reached|does not reach|timed out|no answer", r.err), r
    four.launch("-w", "h2,h3", "--", four.worker, "--size", 1000).ok()


def test_a_firewall_that_rejects_is_named_too(four):
    four.build()
    if not firewall(four.hosts, 1, "tcp dport 20000-32767 reject with tcp reset"):
        pytest.skip("no nft here, or the kernel has no nftables")
    r = four.launch("-w", "h1,h2", "--", four.worker, "--size", 1000, timeout=90)
    assert r.code != 0 and "h1" in r.err and re.search(r"refused|firewall|reach", r.err), r


def test_rank_0s_second_address_that_nobody_reaches_is_not_chosen(four):
    hosts = four.hosts
    # an address of the same shape on an interface that leads nowhere, as an unplugged port or a container bridge has
    ip("-n", hosts.ns(1), "link", "add", "dead0", "type", "veth", "peer", "name", "dead1")
    ip("-n", hosts.ns(1), "link", "set", "dead1", "up")
    ip("-n", hosts.ns(1), "addr", "add", "10.99.99.1/24", "dev", "dead0")
    ip("-n", hosts.ns(1), "link", "set", "dead0", "up")
    four.build()
    r = four.launch("-w", "h1,h2", "--", "sh", "-c", "echo $MASTER_ADDR").ok()
    assert r.by_rank() == {0: hosts.addr(1) + "\n", 1: hosts.addr(1) + "\n"}
