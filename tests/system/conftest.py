"""conftest.py - fixtures of the system tests

cluster(n): a standalone cluster of n virtual nodes, stopped after the test.
shared:     one of four nodes for a whole file of tests that do it no harm.
site:       daemons started one by one, as on real hosts.
Each asserts at its end that no process of it is left, and prints the daemons'
logs when its test failed.
agent, ctl: an agent that only plays, and nodectl at it.
"""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Cluster, Site, ROOT  # noqa: E402
from ctl import Ctl  # noqa: E402
from fake_agent import FakeAgent  # noqa: E402

# started in the background or by nohup we would hand ignored signals down to every program under test
for sig in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(sig) == signal.SIG_IGN:
        signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)


def told_to_stop(signum, frame):
    """Fixtures stop what they started before we go."""
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, told_to_stop)


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.failed = True
        item.session.failed_files = getattr(item.session, "failed_files", set()) | {str(item.fspath)}


def close(things, failed):
    left = {}
    for c in things:
        try:
            left.update(c.finish())
            if failed or left:
                print(c.logs())
        finally:
            c.remove()
    assert not left, f"processes left behind: {left}"


@pytest.fixture
def cluster(request):
    made = []

    def make(n=1, **kw):
        made.append(Cluster(n, **kw))
        return made[-1]

    yield make
    close(made, getattr(request.node, "failed", False))


@pytest.fixture
def site(request):
    s = Site()
    yield s
    close([s], getattr(request.node, "failed", False))


@pytest.fixture(scope="module")
def shared(request):
    c = Cluster(4)
    yield c
    close([c], str(request.fspath) in getattr(request.session, "failed_files", set()))


@pytest.fixture
def agent():
    with FakeAgent() as a:
        yield a


@pytest.fixture
def ctl(agent):
    c = Ctl(agent)
    yield c
    c.close()


def pytest_configure(config):
    config.addinivalue_line("markers", "root: needs root (skipped, and counted, otherwise)")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("root") and not ROOT:
            item.add_marker(pytest.mark.skip(reason="needs root"))
