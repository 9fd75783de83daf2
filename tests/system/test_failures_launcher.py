"""test_failures_launcher.py - each system call and allocation of root's launcher fails once while it starts, kills and
clears away jobs

Started by root directly, never through anything setuid. An answer that could not be given is a closed connection or an
error with a sentence; whatever it was, no process of a refused job is left and the next job starts.
"""
import errno
import os
import random
import time

import pytest

from failcall import LIBRARY, PLAIN, PLAIN_LIBRARY, orders, preloaded
from test_launcher import CLEAN, KILL, Launcher, kill, processes_with, start
from test_launcher import pytestmark as as_root

PICKS = 12  # of each row; most opens are looks into /proc
ALL = os.environ.get("NODEAGENT_SWEEP") == "all"
pytestmark = as_root
ROWS = (("open", ("EMFILE", "ENFILE", "ENOSPC", "EIO")), ("fork", ("EAGAIN", "ENOMEM")), ("pipe", ("EMFILE", "ENFILE")), ("name", ("ENOSPC", "EIO")),
        ("dup", ("EMFILE",)), ("write", ("EINTR", "EAGAIN")), ("read", ("EIO",)), ("socket", ("EMFILE",)))


class Failing(Launcher):
    def __init__(self, folder, library=LIBRARY):
        self.orders = orders(folder, library)
        if library == PLAIN_LIBRARY:
            self.build = PLAIN
        before = dict(os.environ)
        asan = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=1:exitcode=99")}
        os.environ.update(preloaded(folder, asan, library))
        try:
            super().__init__()
        finally:
            os.environ.clear()
            os.environ.update(before)
        self.order = self.orders["launcher"]

    def whole(self):
        """A job from its launch to the clearing away; what was answered to each."""
        said = []
        link, reply = self.launch(["sleep", "1000"])
        said.append((reply.error, reply.text))
        if link:
            start(link)
            link.expect("ranks", 20)
            self.ask(KILL, job=link.job, cookie=link.cookie)
            r = self.answer(30)
            said.append((r.error, r.text))
            if r.error:  # once more, unhindered: the agent does the same
                self.order.disarm()
                self.ask(KILL, job=link.job, cookie=link.cookie)
                assert self.answer(30).error == 0
            link.close()
            self.ask(CLEAN, job=link.job)
            r = self.answer(30)
            said.append((r.error, r.text))
        return said


    def count(self, call, error):
        """How many calls of that kind a job takes."""
        self.order.arm(call, error, first=1 << 30)
        self.whole()
        return self.order.disarm()[0]

    def one(self, call, error, n, outcomes):
        """The n-th of them fails; 1 if there was one. Counts the answers."""
        self.order.arm(call, error, first=n)
        said = self.whole()
        failed, last = self.order.disarm()[1:]
        what = f"{call} number {n} fails with {error} ({last}): {said}"
        for code, text in said:
            outcomes[errno.errorcode.get(code, code)] = outcomes.get(errno.errorcode.get(code, code), 0) + 1
            assert code == 0 or text and "\n" not in text, what
        assert self.proc.poll() is None, f"the launcher has ended with {self.proc.returncode}: {what}"
        self.nothing_left(what)
        return failed

    def sweep(self, call, error, picks, outcomes):
        """Each of them, or so many; how many have failed."""
        seen, rng = self.count(call, error), random.Random(5)
        return sum(self.one(call, error, n, outcomes) for n in sorted(rng.sample(range(seen), seen if ALL else min(seen, picks))))

    def nothing_left(self, what):
        end = time.monotonic() + 10
        while processes_with(self.cookies[-1]):
            if time.monotonic() > end:
                left = processes_with(self.cookies[-1])
                for p in left:
                    kill(p)
                pytest.fail(f"processes {left} are left: {what}")
            time.sleep(0.01)

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def still_works(self):
        link, reply = self.launch(["true"])
        assert link and reply.error == 0
        text = self.said()
        assert "Sanitizer" not in text and "runtime error" not in text, text


@pytest.fixture
def failing(tmp_path_factory):
    made = []

    def make(library):
        if not os.path.exists(library):
            pytest.skip(f"{library} is not built (make fakes, make SAN=1 fakes)")
        folder = str(tmp_path_factory.mktemp("fc")) + "/failcall"
        os.chmod(os.path.dirname(folder), 0o755)
        made.append(Failing(folder, library))
        return made[-1]

    yield make
    for x in made:
        x.finish()


def test_each_call_of_the_launcher_may_fail(failing):
    x = failing(LIBRARY)
    count, outcomes = 0, {}
    for call, errors in ROWS:
        for error in errors if ALL else errors[:1]:
            count += x.sweep(call, error, PICKS, outcomes)
    print(f"{count} calls have failed; answers: {outcomes}")
    x.still_works()
    assert count >= (40 if ALL else 20)


def test_each_allocation_of_the_launcher_may_fail(failing):
    """Those of the C library too, which looks users up. The launcher goes on, and whoever is refused is told why."""
    x, outcomes = failing(PLAIN_LIBRARY), {}
    count = x.sweep("malloc", "ENOMEM", 3 * PICKS, outcomes)
    print(f"{count} allocations have failed; answers: {outcomes}")
    x.still_works()
    assert count >= (200 if ALL else 20)


def test_an_allocation_may_fail_in_the_first_job_of_a_launcher(failing):
    """Its own tables are made then: of children, without which nothing is started, and of shims, without which it goes on."""
    first, outcomes = failing(PLAIN_LIBRARY), {}
    seen = first.count("malloc", "ENOMEM")
    for n in range(0, seen) if ALL else (0, *sorted(random.Random(6).sample(range(1, seen), 5))):
        x = failing(PLAIN_LIBRARY)
        x.refused(version=2)  # it has begun
        assert x.one("malloc", "ENOMEM", n, outcomes) or n > 0  # looks into /proc differ
        assert n > 0 or "the launcher is out of memory" in x.said()
        x.still_works()
    print(f"of {seen}; answers: {outcomes}")
    assert outcomes.get("ENOMEM")
