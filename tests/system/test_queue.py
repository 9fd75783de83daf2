"""test_queue.py - who waits for GPUs, who may pass, and what people are told about it"""
import json
import os
import re
import time

import pytest

from cluster import SLOW, wait_until
from test_gpus import PROBE, bed  # noqa: F401 (a fixture)

pytestmark = pytest.mark.skipif(not os.path.exists(PROBE), reason="nodeagent-probe is not built")


def state(b, job):
    return b.c.job(job)["state"]


def test_what_is_over_in_time_passes_the_first_in_line(bed):  # noqa: F811
    b = bed(gpus="count 2")
    holder = b.c.detach("-G", 1, "--time", "10m", "--grace", "1s", "--", "sleep", "1000")
    b.c.wait_state(holder, "running")
    first = b.c.detach("-G", 2, "--", "sleep", "1000")
    b.c.wait_state(first, "queued")
    j = b.c.job(first)
    left = j["start_by_ms"] / 1000 - time.time()
    assert 590 < left < 625, j  # the limit, the grace, and until the GPU is seen to be free
    text = b.c.ctl("job", first).ok().out
    assert re.search(r"queue +may start at (\d{4}-\d\d-\d\d )?\d\d:\d\d at the latest", text), text

    long = b.c.detach("-G", 1, "--time", "10m", "--", "true")
    without = b.c.detach("-G", 1, "--", "true")
    assert "an earlier job waits for" in b.why(long) and b.c.job(long)["start_by_ms"] is None
    short = b.c.detach("-G", 1, "--time", "1:00", "--grace", "1s", "--", "sleep", "1000")
    b.c.wait_state(short, "running")
    assert state(b, long) == state(b, without) == state(b, first) == "queued"

    b.c.ctl("kill", short, "--grace", "0s").ok()
    b.c.wait_end(short)
    time.sleep(1)
    assert state(b, long) == "queued"  # the free GPU is kept
    b.c.ctl("kill", holder, "--grace", "0s").ok()
    b.c.wait_state(first, "running", seconds=30 * SLOW)
    b.c.ctl("kill", first, "--grace", "0s").ok()
    assert b.c.wait_end(long)["state"] == "done" and b.c.wait_end(without)["state"] == "done"
    starts = [b.c.job(j)["start_ms"] for j in (long, without)]
    assert starts[0] <= starts[1] + 1000  # each has a GPU of its own now


def test_equals_start_in_the_order_of_their_submission(bed):  # noqa: F811
    b = bed(gpus="count 1")
    jobs = [b.c.detach("-G", 1, "--time", "5m", "--", "sleep", "0.3") for _ in range(4)]
    for j in jobs:
        assert b.c.wait_end(j, 60 * SLOW)["state"] == "done"
    starts = [b.c.job(j)["start_ms"] for j in jobs]
    ends = [b.c.job(j)["end_ms"] for j in jobs]
    assert all(ends[i] <= starts[i + 1] for i in range(3)), (starts, ends)


def test_a_limit_goes_on_where_it_was_when_the_coordinator_comes_back(bed):  # noqa: F811
    b = bed(gpus="count 1")
    job = b.c.detach("--time", "6s", "--grace", "1s", "--", "sleep", "1000")
    b.c.wait_state(job, "running")
    begin = time.monotonic()
    time.sleep(3)
    old = b.c.role_pids()["coordinator"]
    os.kill(old, 9)
    wait_until(lambda: b.c.role_pids().get("coordinator", old) != old, 20 * SLOW, "the coordinator is back")
    wait_until(lambda: json.loads(b.c.ctl("--json", "job", job).out or "{}").get("state") == "failed", 30 * SLOW, "it is ended")
    took = time.monotonic() - begin
    assert b.c.job(job)["exit_code"] == 124 and took < 6 + 5 * SLOW, took
