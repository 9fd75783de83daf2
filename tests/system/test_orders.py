"""test_orders.py - launcher, agent, coordinator and client killed in all 24 orders under a running job of root

After each order everything but the client is started again: no exit code and no byte of output may be missing, and the
rank has run once. In every other order the job ends while all of them are dead.
"""
import itertools
import json
import os
import re
import shutil
import subprocess
import time

import pytest

from cluster import PYTHON, ROOT, SLOW, alive, kill, wait_until
from test_users import Host, closed, quote

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not all(map(shutil.which, ("unshare", "nsenter", "setpriv", "su", "prlimit"))),
                       reason="unshare, nsenter, setpriv, su and prlimit are needed"),
]

ORDERS = list(itertools.permutations(("launcher", "agent", "coordinator", "client")))
COUNT = ("import os,sys,time\n"
         "os.close(os.open(sys.argv[1]+'/'+os.environ['NODEAGENT_JOB']+'.'+os.environ['NODEAGENT_ATTEMPT'],os.O_CREAT|os.O_EXCL))\n"
         "for i in range(int(sys.argv[2])):\n"
         "    print('line %d' % i); print('err %d' % i, file=sys.stderr); time.sleep(0.1)\n"
         "sys.exit(int(sys.argv[3]))\n")


@pytest.fixture(scope="module")
def host(request):
    if not ROOT:
        pytest.skip("needs root")
    h = Host(launcher=("--allow-root",), agent_conf="allow_root = yes\nprobe = no\n")
    os.mkdir(h.path("marks"))
    yield h
    closed(h, request)


def begin(host, lines, code):
    """An attached client of root's, and its job that runs."""
    out, err = (open(host.path(f"client.{x}"), "w+b") for x in ("out", "err"))
    p = subprocess.Popen([*host.inside, host.path("bin/nodectl"), "--socket", host.path("run/agent.sock"), "launch", "--", PYTHON, "-uc",
                          COUNT, host.path("marks"), str(lines), str(code)], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=host.env)
    host.procs.append(p)

    def seen():
        err.seek(0)
        return re.search(rb"^job (\d+)\n", err.read(), re.M)
    job = int(wait_until(seen, 20 * SLOW, "the client is told a number").group(1))

    def shown():
        out.seek(0)
        return b"line 1\n" in out.read()
    wait_until(shown, 20 * SLOW, "the job runs and is seen")
    err.close()
    return p, job, out


def serves(host):
    """The agent has found the launcher again; the socket of ours is not systemd's, which never goes away."""
    wait_until(lambda: host.su("root", "nodectl launch -- true").code == 0, 20 * SLOW, "jobs can be started", 0.2)


def rank_pid(host, job):
    return json.loads(host.su("root", f"nodectl --json job {job}").ok().out)["ranks"][0]["pid"]


@pytest.mark.parametrize("number, order", list(enumerate(ORDERS)), ids=["-".join(o) for o in ORDERS])
def test_killed_in_this_order_and_nothing_is_lost(host, number, order):
    away = number % 2 == 1
    lines, code = (8 if away else 20), 3 + number
    serves(host)
    client, job, out = begin(host, lines, code)
    rank = rank_pid(host, job)
    for who in order:
        if who == "client":
            client.kill()
            client.wait()
        else:
            p = host.daemons.pop(who)
            kill(p.pid)
            p.wait()
        time.sleep(0.03)
    if away:
        wait_until(lambda: not alive(rank), 10, "the rank ends while nobody is there")
    else:
        assert alive(rank)
    for who in order:
        if who == "launcher":
            os.unlink(host.path("launcher.sock"))
            host.start_launcher()
        elif who != "client":
            host.start(who)

    def ended():
        r = host.su("root", f"nodectl --json job {job}")
        j = json.loads(r.out) if r.code == 0 else {}
        return j if j.get("state") in ("done", "failed", "lost") else None
    j = wait_until(ended, 40 * SLOW, f"job {job} ends", 0.1)
    assert (j["state"], j["exit_code"], j["attempt"]) == ("failed", code, 1), j
    r = host.su("root", f"nodectl logs {job}").ok()
    assert r.out == "".join(f"line {i}\n" for i in range(lines))
    assert r.err == "".join(f"err {i}\n" for i in range(lines))
    out.seek(0)
    assert r.out.startswith(out.read().decode())
    out.close()
    assert os.listdir(host.path("marks")).count(f"{job}.1") == 1


def test_afterwards_nothing_is_left_and_the_next_job_runs(host):
    serves(host)
    r = host.su("root", f"nodectl launch -- {PYTHON} -c {quote('print(7)')}").ok()
    assert r.out == "7\n"
    wait_until(lambda: os.listdir(host.path("run/shims")) == [], 20 * SLOW, "no record of any job is left")
