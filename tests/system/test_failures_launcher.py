"""test_failures_launcher.py - each system call of root's launcher fails once while it starts, kills and clears away jobs

Started by root directly, never through anything setuid. An answer that could not be given is a closed connection or an
error with a sentence; whatever it was, no process of a refused job is left and the next job starts.
"""
import errno
import os
import random
import time

import pytest

from failcall import LIBRARY, orders, preloaded
from test_launcher import CLEAN, KILL, Launcher, kill, processes_with, start
from test_launcher import pytestmark as as_root

PICKS = 12  # of each row; most opens are looks into /proc
ALL = os.environ.get("NODEAGENT_SWEEP") == "all"
pytestmark = [*as_root, pytest.mark.skipif(not os.path.exists(LIBRARY), reason=f"{LIBRARY} is not built (make SAN=1 fakes)")]
ROWS = (("open", ("EMFILE", "ENFILE", "ENOSPC", "EIO")), ("fork", ("EAGAIN", "ENOMEM")), ("pipe", ("EMFILE", "ENFILE")), ("name", ("ENOSPC", "EIO")),
        ("dup", ("EMFILE",)), ("write", ("EINTR", "EAGAIN")), ("read", ("EIO",)), ("socket", ("EMFILE",)))


class Failing(Launcher):
    def __init__(self, folder):
        self.orders = orders(folder)
        before = dict(os.environ)
        os.environ.update(preloaded(folder, {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=1:exitcode=99")}))
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


@pytest.fixture
def failing(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("fc")) + "/failcall"
    os.chmod(os.path.dirname(folder), 0o755)
    x = Failing(folder)
    yield x
    x.finish()


def test_each_call_of_the_launcher_may_fail(failing):
    x = failing
    count, outcomes, rng = 0, {}, random.Random(5)
    for call, errors in ROWS:
        for error in errors if ALL else errors[:1]:
            x.order.arm(call, error, first=1 << 30)
            x.whole()
            seen = x.order.disarm()[0]
            for n in range(seen) if ALL else sorted(rng.sample(range(seen), min(seen, PICKS))):
                x.order.arm(call, error, first=n)
                said = x.whole()
                failed, last = x.order.disarm()[1:]
                what = f"{call} number {n} of {seen} fails with {error} ({last}): {said}"
                count += failed
                for code, text in said:
                    outcomes[errno.errorcode.get(code, code)] = outcomes.get(errno.errorcode.get(code, code), 0) + 1
                    assert code == 0 or text and "\n" not in text, what
                assert x.proc.poll() is None, f"the launcher has ended with {x.proc.returncode}: {what}"
                end = time.monotonic() + 10
                while processes_with(x.cookies[-1]):
                    if time.monotonic() > end:
                        left = processes_with(x.cookies[-1])
                        for p in left:
                            kill(p)
                        pytest.fail(f"processes {left} are left: {what}")
                    time.sleep(0.01)
    link, reply = x.launch(["true"])
    assert link and reply.error == 0
    print(f"{count} calls have failed; answers: {outcomes}")
    assert count >= (40 if ALL else 20)
    with open(x.log, encoding="utf-8", errors="replace") as f:
        text = f.read()
    assert "Sanitizer" not in text and "runtime error" not in text, text
