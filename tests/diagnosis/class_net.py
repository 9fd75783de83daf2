"""class_net.py - classes of faults of the network between hosts: firewalls, wrong interfaces, links, names

Found before a job's first rank is started, by proving the ports, or by the pings.
"""
import os
import re
import socket
import subprocess
import time

import hosts  # noqa: F401
from bed import Expect, fault
from test_netns import ip


def rules(bed, node, *lines):
    """nftables of that host; none: they are gone."""
    text = "table inet diagnosis\ndelete table inet diagnosis\n"
    if lines:
        text += "table inet diagnosis {\nchain in {\ntype filter hook input priority 0;\n" + "\n".join(lines) + "\n}\n}\n"
    p = subprocess.run([*bed.site.on(node), "nft", "-f", "-"], input=text, text=True, capture_output=True)
    assert p.returncode == 0, p.stderr


def launch(id, title, words, begin, end, within=5.0, nodes="a,b,c", options=(), ask=None, **more):
    """begin(bed) makes the fault, then a job is launched: what does its user read? Afterwards, end(bed), one runs."""
    def inject(bed):
        begin(bed)
        bed.mark()
        bed.said = None
        p = bed.site.popen("launch", "-w", nodes, "-G", 0, *options, "--", "sleep", "30")
        bed.ask_launch = p
        yield
        if p.poll() is None:
            p.terminate()
        p.communicate()
        end(bed)
        bed.site.launch("-w", nodes, "-G", 0, *options, "--", "true", timeout=60).ok()

    def told(bed):
        jobs = bed.json("jobs", "--all")["jobs"]
        j = bed.site.job(max(x["job"] for x in jobs)) if jobs else None
        if not j:
            return None
        return " | ".join(str(x) for x in [j["state"], j["why"] or "", *j["notices"], j.get("net_text") or ""])
    inject.__qualname__ = id
    return fault(id, title, bed="hosts", expect=Expect("launch", None, verdict="told", words=words, within=within, ask=ask or told), **more)(inject)


launch("net-master-port-firewall", "host a drops connections to ports 20000-32767, where MASTER_PORT is", ("failed", "a", "b", "firewall"),
       lambda bed: rules(bed, "a", "tcp dport 20000-32767 drop"), lambda bed: rules(bed, "a"))
launch("net-master-port-refused", "host a's firewall refuses connections to ports 20000-32767", ("failed", "a", "b", "refuse"),
       lambda bed: rules(bed, "a", "tcp dport 20000-32767 reject with tcp reset"), lambda bed: rules(bed, "a"))
launch("net-ephemeral-firewall", "host b drops connections to ephemeral ports (NCCL and Gloo use them)", ("failed", "b", "firewall"),
       lambda bed: rules(bed, "b", "tcp dport 32768-60999 ct state new drop"), lambda bed: rules(bed, "b"))
# not from who fetches the job's specification there: that is tried for 13 s before another copy is asked for
launch("net-ephemeral-one-way", "host a drops new connections from host c only", ("failed", "node c cannot reach an ephemeral port of node a", "firewall"),
       lambda bed: rules(bed, "a", f"ip saddr {bed.address('c')} tcp dport 32768-60999 ct state new drop"), lambda bed: rules(bed, "a"))


@fault("net-link-down", "the link of host b goes down", bed="hosts",
       expect=Expect("node.reachable", "b", verdict="bad", words=("unreachable",)))
def link_down(bed):
    bed.hosts.cut(bed.number("b"))
    yield
    bed.hosts.heal(bed.number("b"))


@fault("net-coordinator-port", "host b cannot reach the coordinator's port any more", bed="hosts",
       expect=Expect("node.reachable", "b", verdict="bad", words=("unreachable",)))
def coordinator_port(bed):
    rules(bed, "a", f"ip saddr {bed.address('b')} tcp dport 7411 drop")
    yield
    rules(bed, "a")


launch("net-mtu-differs", "the interface of host b has another MTU", ("MTUs of the interfaces between the nodes differ", "1500 on a,c", "1400 on b"),
       lambda bed: bed.inside("b", "ip", "link", "set", "eth0", "mtu", 1400), lambda bed: bed.inside("b", "ip", "link", "set", "eth0", "mtu", 1500))
launch("net-interface-wrong", "the user's NCCL_SOCKET_IFNAME names an interface that b has not", ("NCCL_SOCKET_IFNAME=eth7", "b"),
       lambda bed: None, lambda bed: None, options=("--env", "NCCL_SOCKET_IFNAME=eth7"))
launch("net-interface-loopback", "the user's NCCL_SOCKET_IFNAME is lo, on three hosts", ("NCCL_SOCKET_IFNAME=lo", "other nodes"),
       lambda bed: None, lambda bed: None, options=("--env", "NCCL_SOCKET_IFNAME=lo"))
