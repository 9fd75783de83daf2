"""test_failures.py - each system call of a daemon fails once, or all of a kind for a while: nothing is promised that is not kept

A small job runs while the n-th open, write, fsync, fork, accept, socket, pipe, link or dup of one role fails. Whatever
happens then: what was acknowledged is there, no rank runs twice, the job has its own exit code or a sentence that says
why not, no daemon crashes, and the next job runs. By default a few n of each row; NODEAGENT_SWEEP=all takes every one
(make testbed-failures), but of the daemons' allocations some; NODEAGENT_SWEEP=K/N of these every N-th, from the K-th on
(make testbed-allocations runs all N beside each other).
"""
import json
import os
import random
import re
import time

import pytest

from cluster import SLOW, Reader, kill, wait_until
from failcall import EVERY, LIBRARY, PLAIN_LIBRARY, FailingSite

ALL = os.environ.get("NODEAGENT_SWEEP") == "all"
PART = re.fullmatch(r"(\d+)/(\d+)", os.environ.get("NODEAGENT_SWEEP") or "")
PICKS = 2
pytestmark = [pytest.mark.skipif(not os.path.exists(LIBRARY), reason=f"{LIBRARY} is not built (make SAN=1 fakes)")]

DISK, FILES, MEMORY, LATER = ("ENOSPC", "EIO"), ("EMFILE", "ENFILE"), ("ENOMEM",), ("EAGAIN", "EINTR")
#        role           call          errors
ROWS = (("coordinator", "write", DISK + LATER), ("coordinator", "fsync", DISK),
        ("agent", "open", FILES + DISK + MEMORY), ("agent", "write", DISK + LATER), ("agent", "fsync", DISK),
        ("agent", "fork", ("EAGAIN", "ENOMEM")), ("agent", "accept", FILES + ("EINTR", "ENOMEM")), ("agent", "socket", FILES),
        ("agent", "name", DISK), ("agent", "dup", FILES), ("agent", "read", ("EIO",)),
        ("shim", "open", FILES + DISK), ("shim", "write", DISK), ("shim", "fork", ("EAGAIN", "ENOMEM")), ("shim", "accept", FILES),
        ("shim", "pipe", FILES), ("shim", "name", DISK), ("shim", "dup", FILES))
RESTARTS = (("coordinator", "open", FILES + DISK), ("coordinator", "write", DISK), ("coordinator", "fsync", DISK),
            ("coordinator", "socket", FILES), ("coordinator", "accept", FILES),
            ("agent", "open", FILES + MEMORY), ("agent", "socket", FILES), ("agent", "accept", FILES), ("agent", "name", DISK),
            ("agent", "dup", FILES), ("agent", "read", ("EIO",)))  # pipes: libuv aborts; see test_limits.py
# each rank leaves a mark that can be left once
SCRIPT = 'set -C; : >"$0/$NODEAGENT_JOB.$NODEAGENT_ATTEMPT.$RANK" || : >"$0/twice.$NODEAGENT_JOB"; echo one; echo two >&2; sleep $1; exit 5'


@pytest.fixture
def failing(request):
    yield from made(request)


@pytest.fixture
def failing_malloc(request):
    if not os.path.exists(PLAIN_LIBRARY):
        pytest.skip(f"{PLAIN_LIBRARY} is not built (make all fakes)")
    yield from made(request, plain=True)


def made(request, **kw):
    s = FailingSite(**kw)
    try:
        os.mkdir(s.path("marks"))
        os.chmod(s.path("marks"), 0o1777)
        yield s
    finally:
        left = s.finish()
        if getattr(request.node, "failed", False) or left:
            print(s.logs())
        s.remove()
    assert not left, f"processes left behind: {left}"


class Sweep:
    """One role's calls of one kind, one after the other; counts what it did."""

    def __init__(self, site):
        self.s, self.rng, self.acked, self.failed, self.codes = site, random.Random(3), {}, 0, {}
        self.unmet = 0

    def order(self, role):
        return self.s.orders[role]

    def picks(self, n, some=PICKS, pick=not ALL):
        if PART:
            return range(int(PART[1]), n, int(PART[2]))
        return range(n) if not pick else sorted(self.rng.sample(range(n), min(n, some)))

    def launch(self, what, seconds=0):
        p = self.s.launch("--name", what, "--", "sh", "-c", SCRIPT, self.s.path("marks"), seconds, timeout=90)
        m = re.search(r"^(?:nodectl: )?job (\d+)\b", p.err, re.M)
        if m:
            self.acked[int(m.group(1))] = what
        return p, m and int(m.group(1))

    def end_of(self, job, what):
        """As wait_end(); an agent that starts again meanwhile does not answer."""
        def look():
            p = self.s.ctl("--json", "job", job, timeout=60)
            j = json.loads(p.out) if p.code == 0 else {}
            return j if j.get("state") in ("done", "failed", "lost") else None
        return wait_until(look, 60 * SLOW, f"job {job} ends: {what}", 0.1)

    def settled(self, job, what):
        j = self.end_of(job, what)
        assert j["exit_code"] == 5 or (j["exit_code"] and (j.get("why") or j.get("notices") or j.get("first"))), (what, j)
        return j["exit_code"]

    def works(self, what):
        """Recovers unaided."""
        wait_until(lambda: self.s.ctl("launch", "--", "true", timeout=60).code == 0, 40 * SLOW, f"the next job runs after {what}", 0.2)

    def daemons(self, what):
        for name, code in self.s.deaths:
            assert code in (1, 71), f"{name} ended with {code}: {what}"
        self.s.deaths.clear()

    def check(self):
        assert not [n for n in os.listdir(self.s.path("marks")) if n.startswith("twice")]
        known = {int(j["job"]): j for j in self.s.json("jobs", "--all")["jobs"]}
        for job, what in self.acked.items():
            assert job in known, f"job {job} was acknowledged and is gone: {what}"

    def one(self, role, call, error, n):
        what = f"{role}: {call} number {n} fails with {error}"
        self.order(role).arm(call, error, first=n)
        p, job = self.launch(what)
        _, failed, last = self.order(role).disarm()
        what += f" ({last})"
        assert p.code not in (0, 99) and p.err.strip(), (what, p)
        if p.code == 5:
            assert p.out == "one\n" or re.search(r"lost|missing|room", p.err), (what, p)
        if job:
            self.settled(job, what)
        self.works(what)
        self.daemons(what)
        self.failed += failed
        self.unmet += not failed  # the number of calls is not the same each time
        self.codes[p.code] = self.codes.get(p.code, 0) + 1

    def all_of(self, role, call, errors, some=PICKS, pick=not ALL):
        for error in errors:
            self.order(role).arm(call, error, first=1 << 30)
            self.launch(f"{role} {call}: counted")
            time.sleep(0.2)
            n = self.order(role).disarm()[0]
            for k in self.picks(n, some, pick):
                self.one(role, call, error, k)
        self.check()

    def restart(self, role, call, error, n):
        """A daemon is killed while a job runs, and the n-th call of its next life fails; the job goes on and ends as it should."""
        what = f"{role} is started again: {call} number {n} fails with {error}"
        job = self.s.detach("--name", what, "--", "sh", "-c", SCRIPT, self.s.path("marks"), 1)
        self.s.wait_state(job, "running")
        name = "head" if role == "coordinator" else "n1"
        self.order(role).arm(call, error, first=n)
        self.s.restart(name)
        self.works(what)
        j = self.end_of(job, what)
        seen, failed, last = self.order(role).disarm()
        what += f" ({last})"
        assert j["exit_code"] == 5, (what, j)
        assert self.s.ctl("logs", job).ok().out == "one\n", what
        self.daemons(what)
        self.failed += failed
        return seen

    def all_restarts(self, role, call, errors):
        for error in errors:
            n = self.restart(role, call, error, 1 << 30)
            for k in self.picks(n, 1):
                self.restart(role, call, error, k)
        self.check()


def test_every_call_of_a_whole_job_may_fail(failing):
    s = Sweep(failing.build())
    for row in ROWS:
        s.all_of(*row)
    print(f"{s.failed} calls have failed; exit codes of the jobs then: {s.codes}")
    assert s.failed >= (100 if ALL else 60)
    assert not os.listdir(failing.path("n1", "run", "shims"))
    wait_until(lambda: not failing.shims(), 10, f"no shim stays: {failing.shims()}", 0.1)


def test_every_call_of_a_restart_may_fail_and_the_job_goes_on(failing):
    s = Sweep(failing.build())
    for role, call, errors in RESTARTS:
        s.all_restarts(role, call, errors if ALL else errors[:1])
    print(f"{s.failed} calls have failed")
    assert s.failed >= (100 if ALL else 6)


@pytest.mark.parametrize("role, short, long", [("coordinator", 2, 40), ("agent", 3, 60), ("shim", 10, 1000)])
def test_allocations_of_the_real_programs_may_fail(failing_malloc, role, short, long):
    """Libraries included. The pure cores are swept whole in tests/unit/test_oom_*.c; here a failure can cost a reconnection
    (10 s), so of a daemon's some are picked."""
    s = Sweep(failing_malloc.build())
    s.all_of(role, "malloc", ("ENOMEM",), some=long if ALL else short, pick=True)
    print(f"{role}: {s.failed} allocations have failed, {s.unmet} were not met; exit codes of the jobs then: {s.codes}")
    assert s.failed >= short // 2  # how many there are differs from run to run: threads, and what they come to see
    for p in failing_malloc.shims():  # one without the memory to understand its 'bye' leaves after ten minutes
        assert role == "shim"
        kill(p)


WINDOWS = (("coordinator", "write", "ENOSPC"), ("agent", "open", "EMFILE"), ("agent", "accept", "EMFILE"), ("agent", "fork", "EAGAIN"),
           ("coordinator", "fsync", "EIO"), ("coordinator", "accept", "EMFILE"), ("agent", "socket", "ENFILE"), ("agent", "write", "ENOSPC"),
           ("shim", "fork", "EAGAIN"), ("shim", "pipe", "EMFILE"))


@pytest.mark.parametrize("role, call, error", WINDOWS if ALL else WINDOWS[:4])
def test_while_all_calls_of_a_kind_fail_nothing_is_promised_and_afterwards_all_is_well(failing, role, call, error):
    s = Sweep(failing.build())
    living = failing.detach("--", "sh", "-c", "sleep 2; echo whole; exit 6")
    failing.wait_state(living, "running")
    failing.orders[role].arm(call, error, count=EVERY)
    what = f"{role}: {call} fails with {error}"
    clients = [failing.popen("launch", "--name", f"{what} {i}", "--", "sh", "-c", SCRIPT, failing.path("marks"), "0") for i in range(3)]
    errs = [Reader(p.stderr) for p in clients]
    time.sleep(3)
    failing.orders[role].disarm()
    for p, err in zip(clients, errs):
        code = p.wait(60 * SLOW)
        err.thread.join(5)
        assert code not in (0, 99) and err.data.strip(), (what, code, err.data)
        m = re.search(rb"^job (\d+)\b", err.data, re.M)
        if m:
            s.acked[int(m.group(1))] = what
            s.settled(int(m.group(1)), what)
    s.works(what)
    s.daemons(what)
    s.check()
    j = s.end_of(living, what)
    assert j["exit_code"] == 6
    if (role, call) != ("shim", "write"):
        assert failing.ctl("logs", living).ok().out == "whole\n"
