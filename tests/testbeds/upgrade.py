#!/usr/bin/python3
"""upgrade.py - programs of an earlier commit are replaced under a running job

    upgrade.py [BUILD [COMMIT]]

Builds COMMIT (default: the first one of this version) from `git archive` under .check/upgrade, makes a cluster with its
programs, starts jobs, and then runs today's coordinator and agents over the same directories, one by one in both orders:
the old shims live on under the new daemons, exit codes and output are whole, and new jobs run on nodes of both versions.
What an older coordinator or agent would ignore (--max-restarts) is refused with a sentence, also when it waited for one.
Needs git and what building needs; no network but the loopback.
"""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
build = sys.argv[1] if len(sys.argv) > 1 else "build"
os.environ["NODEAGENT_BUILD"] = build
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from cluster import ROOT, PYTHON, Reader, Site, alive, kill  # noqa: E402

BASE = os.path.join(TOP, ".check", "upgrade")
COUNT = ("import sys,time\n"
         "for i in range(int(sys.argv[1])):\n    print('line %d' % i, flush=True); print('err %d' % i, file=sys.stderr, flush=True); time.sleep(0.1)\n"
         "sys.exit(int(sys.argv[2]))\n")
PROGRAMS = ("nodeagentd", "nodectl", "nodeagent-shim", "worker-allreduce")


def git(*args, **kw):
    return subprocess.run(["git", "-C", TOP, *args], check=True, capture_output=True, **kw).stdout


def first_commit():
    """The oldest that is a whole: the one with the first system tests of survival."""
    return git("log", "--diff-filter=A", "--format=%H", "--", "tests/system/test_survive.py").decode().split()[-1]


def build_old(commit):
    folder = os.path.join(BASE, commit[:12])
    if os.path.exists(os.path.join(folder, "done")):
        return os.path.join(folder, "build")
    print(f"building {commit[:12]} in {folder}", flush=True)
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", folder], input=git("archive", commit), check=True)
    with open(os.path.join(folder, "log"), "wb") as log:
        subprocess.run(["make", "-j2", "WERROR=", "all", "worker"], cwd=folder, check=True, stdout=log, stderr=log)
    with open(os.path.join(folder, "done"), "w", encoding="ascii"):
        pass
    return os.path.join(folder, "build")


class Upgrade(Site):
    def __init__(self, old):
        super().__init__()
        self.folders = {}
        for name, source in (("old", old), ("new", os.path.join(TOP, build))):
            self.folders[name] = self.path(name)
            os.mkdir(self.path(name))
            for p in PROGRAMS:
                if os.path.exists(os.path.join(source, p)):
                    subprocess.run(["cp", os.path.join(source, p), self.path(name)], check=True)
        self.use("old")

    def use(self, name):
        self.bin = self.folders[name]
        self.nodeagentd, self.nodectl, self.worker = (os.path.join(self.bin, n) for n in ("nodeagentd", "nodectl", "worker-allreduce"))

    def args(self, *args):
        return [*self.drop, self.nodectl, "--socket", self.socket(self.via), *map(str, args)]

    def again(self, who, sig=15):
        """This daemon of the version in use, over the directory of the one before."""
        self.stop_daemon(who, sig)
        if who == "head":
            self.start_head()
        else:
            self.agent(who)


def check_job(s, job, lines, code):
    j = s.wait_end(job, 60)
    assert (j["state"], j["exit_code"]) == ("failed", code), j
    r = s.ctl("logs", job).ok()
    assert r.by_rank() == {k: "".join(f"line {i}\n" for i in range(lines)) for k in range(2)}, r


ASKED = ("launch", "--max-restarts", 1, "--", "true")


def check_refused(s, p):
    """An older one would drop the option without a word: so it is not asked, and the sentence says what to do."""
    assert p.code == 1 and "--max-restarts" in p.err and "updated" in p.err, p


def check_waiting(s):
    """One that waits for a coordinator while none is there, and then an older one comes."""
    s.use("old")
    s.stop_daemon("head")
    s.use("new")
    p = s.popen(*ASKED)
    err = Reader(p.stderr)
    err.wait("the coordinator does not answer", 10)
    s.use("old")
    s.start_head()
    assert p.wait(30) == 1, err.data
    err.thread.join(5)
    assert b"--max-restarts" in err.data and b"updated" in err.data, err.data
    s.use("new")


def one(old, order):
    s = Upgrade(old)
    try:
        s.head()
        s.node("n1")
        s.node("n2")
        jobs = [(s.detach("-N", 2, "--", PYTHON, "-c", COUNT, n, code), n, code) for n, code in ((40, 7), (120, 9))]
        for job, _, _ in jobs:
            s.wait_state(job, "running")
        pids = [r["pid"] for r in s.job(jobs[1][0])["ranks"]]
        s.use("new")
        for who in order:
            s.again(who, 9 if who == order[0] else 15)
            r = s.launch("-N", 2, "--", "sh", "-c", "echo $RANK").ok()
            assert r.by_rank() == {0: "0\n", 1: "1\n"}, r
            if who != "head" and "head" in order[order.index(who):]:
                check_refused(s, s.launch(*ASKED[1:]))
            if who == s.via and "head" in order[order.index(who):]:
                check_waiting(s)
        assert s.launch(*ASKED[1:]).code == 0
        assert all(alive(p) for p in pids)
        for job, n, code in jobs:
            check_job(s, job, n, code)
        time.sleep(0.5)
    finally:
        left = s.finish()
        if sys.exc_info()[0]:
            print(s.logs())
        for p in left:
            kill(p)
        s.remove()
    assert not left, left
    print(f"ok: {' '.join(order)}", flush=True)


if __name__ == "__main__":
    commit = git("rev-parse", sys.argv[2] if len(sys.argv) > 2 else first_commit()).decode().strip()
    old = build_old(commit)
    for order in (("head", "n1", "n2"), ("n2", "n1", "head"), ("n1", "head", "n2")):
        one(old, order)
    print(f"upgraded from {commit[:12]} under running jobs, {'as root' if ROOT else 'as a user'}: 3 orders passed")
