"""Which agents let which others in, and for how long: seen by the connections at their peer ports."""
import os
import signal
import time

import pytest

from cluster import SLOW, Reader, kill, wait_until

ESTABLISHED = "01"
FADE_S = 30  # agent_peer.c
SILENCE_S = 5  # agent_role.c
IDLE_S = 60  # bulk_pool.c: the reader's side closes by itself


def connected(run_dir):
    """The other ends of connections that peers have to the agent with this run directory."""
    with open(os.path.join(run_dir, "peer.port")) as f:
        port = int(f.read())
    found = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(name) as f:
            for line in f.readlines()[1:]:
                words = line.split()
                if words[3] == ESTABLISHED and int(words[1].rsplit(":", 1)[1], 16) == port:
                    found.add(words[2])
    return found


def ticking(site, node):
    job = site.detach("-w", node, "--", "sh", "-c", "i=0; while sleep 0.1; do i=$((i+1)); echo tick $i; done")
    site.wait_state(job, "running")
    return job


def through(site, node, *args):
    """nodectl at this node's agent."""
    before, site.via = site.via, node
    try:
        return site.popen(*args)
    finally:
        site.via = before


@pytest.fixture
def three(site):
    """a2 runs a job, a3 follows its output."""
    site.head()
    for name in ("a1", "a2", "a3"):
        site.node(name)
    site.job_no = ticking(site, "a2")
    site.reader = Reader(through(site, "a3", "logs", "-f", site.job_no).stdout)
    site.reader.wait("tick 3", 10 * SLOW)
    return site


def test_a_node_removed_while_another_was_away_is_cut_off_after_a_coordinator_restart(three):
    site, run = three, three.path("a2", "run")
    assert len(connected(run)) == 1
    a2 = site.daemons["a2"]
    kill(a2.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    site.admin("node-remove", "--force", "a3").ok()
    site.stop_daemon("head")
    site.start_head()
    # long enough for it not to believe what the old coordinator has said meanwhile
    time.sleep(max(0, stopped + SILENCE_S + 1 - time.monotonic()))
    kill(a2.pid, signal.SIGCONT)
    wait_until(lambda: not connected(run), FADE_S - 10, "a2 has closed the link of a3")
    wait_until(lambda: site.state("a2") == "ok", 15 * SLOW, "a2 is back")
    had = len(site.reader.data)
    time.sleep(1)
    assert len(site.reader.data) == had and not connected(run)
    assert site.job(site.job_no)["state"] == "running"


def test_a_node_enrolled_again_with_its_key_may_read_again(three):
    site = three
    site.admin("node-remove", "--force", "a3").ok()
    wait_until(lambda: not connected(site.path("a2", "run")), 5 * SLOW, "a2 has closed the link of a3")
    site.stop_daemon("a3")
    site.node("a3")
    again = Reader(through(site, "a3", "logs", "-f", site.job_no).stdout)
    again.wait("tick 3", 15 * SLOW)


def test_readers_notice_nothing_of_a_coordinator_restart(three):
    site = three
    links = connected(site.path("a2", "run"))
    site.stop_daemon("head")
    site.start_head()
    wait_until(lambda: {site.state(n) for n in ("a1", "a2", "a3")} == {"ok"}, 20 * SLOW, "all are back")
    n = len(site.reader.data.splitlines())
    site.reader.wait(f"tick {n + 20}\n", 10 * SLOW)
    lines = site.reader.data.decode().splitlines()
    assert connected(site.path("a2", "run")) == links and len(links) == 1
    assert [x.split("tick ")[1] for x in lines if "tick " in x][:n] == [str(i + 1) for i in range(n)]


def test_the_reader_of_an_ended_job_is_let_in_for_a_limited_time(cluster):
    c = cluster(2)
    job = c.detach("-w", "node2", "--", "echo", "hello")
    c.wait_end(job)
    assert "hello" in c.ctl("logs", job).ok().out
    run = os.path.join(c.home, "run", "node2")
    start = time.monotonic()
    assert len(connected(run)) == 1
    wait_until(lambda: not connected(run), FADE_S + 10, "node2 lets node1 in no more", 0.2)
    assert time.monotonic() - start < IDLE_S - 10
    assert "hello" in c.ctl("logs", job).ok().out, "asked again it may again"
