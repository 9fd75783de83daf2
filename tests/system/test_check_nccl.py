"""test_check_nccl.py - nodectl check nccl, with a CUDA and an NCCL that are none (tests/fake)"""
import json
import os

import pytest
from cluster import BUILD, SLOW

FAKE = os.path.join(BUILD, "tests/fake/env")
OPS = ["broadcast", "reduce", "all_reduce", "all_gather", "reduce_scatter", "gather", "send_recv"]


@pytest.fixture(scope="module")
def nodes():
    """A cluster for the whole file; each test gets its environment by fake()."""
    from cluster import Cluster
    c = Cluster(4)
    os.mkdir(c.path("comms"))
    yield c
    left = c.finish()
    c.remove()
    assert not left, left


def fake(c, **more):
    return dict(c.env, FAKE_NCCL_DIR=c.path("comms"), **more)


def check(c, *args, env=None, prefix=FAKE):
    return c.ctl("check", "nccl", "--env", prefix, "--mib", "1", *args, env=env or fake(c), timeout=60 * SLOW)


def test_all_operations_are_right_inside_and_between(nodes):
    r = check(nodes, "-N", "2", "--procs-per-node", "2").ok()
    for op in OPS:
        assert any(line.startswith(op + " ") for line in r.lines()), r
    assert "IN A NODE" in r.out and "BETWEEN NODES" in r.out and "data exact" in r.out
    doc = json.loads(check(nodes, "-N", "2", "--procs-per-node", "2", "--json").ok().out)
    got = {(x["scope"], x.get("node"), x["op"]): x for x in doc["results"]}
    assert len(got) == 3 * len(OPS) and doc["ok"] and not doc["problems"]
    reduce = got["between", None, "all_reduce"]
    # the fake's operations take 1 ms each: algbw is bytes / time, busbw 2 (n - 1) / n of it
    assert reduce["algbw"] == pytest.approx(1.049, abs=0.001) and reduce["busbw"] == pytest.approx(1.573, abs=0.001)
    assert all(x["wrong"] == 0 for x in doc["results"])


def test_wrong_data_names_the_rank(nodes):
    env = fake(nodes, FAKE_NCCL_FAULT="corrupt all_gather", FAKE_NCCL_FAULT_RANK="3")
    r = check(nodes, "-N", "2", "--procs-per-node", "2", env=env)
    assert r.code == 1 and "BAD all_gather gives wrong data" in r.out and "rank 3 (node2" in r.out, r
    assert "NOT ok" in r.out and "data exact" not in r.out


def test_a_rank_that_stops_is_named_at_the_deadline(nodes):
    env = fake(nodes, FAKE_NCCL_FAULT="stop all_reduce", FAKE_NCCL_FAULT_RANK="2")
    r = check(nodes, "-N", "4", "--procs-per-node", "1", "--timeout", "1s", "--ops", "all_reduce", env=env)
    assert r.code == 1 and "rank 2 (node3" in r.out and "does not answer" in r.out, r
    assert r.seconds < 20 * SLOW
    assert "all_reduce hangs" in r.out


def test_a_rank_that_ends_is_named_before_those_that_follow(nodes):
    env = fake(nodes, FAKE_NCCL_FAULT="exit all_reduce", FAKE_NCCL_FAULT_RANK="1")
    r = check(nodes, "-N", "2", "--procs-per-node", "1", "--timeout", "3s", "--ops", "all_reduce", env=env)
    assert r.code != 0 and "all_reduce: rank 1 (node2" in r.out and "has ended" in r.out, r


def test_one_that_waits_in_vain_and_one_that_fails_are_told_apart(nodes):
    env = fake(nodes, FAKE_NCCL_FAULT="withhold all_reduce", FAKE_NCCL_FAULT_RANK="1")
    r = check(nodes, "-N", "2", "--procs-per-node", "1", "--timeout", "1s", "--ops", "all_reduce", env=env)
    assert r.code == 1 and "all 2 ranks wait for data that does not come" in r.out, r
    env = fake(nodes, FAKE_NCCL_FAULT="fail join", FAKE_NCCL_FAULT_RANK="1")
    r = check(nodes, "-N", "2", "--procs-per-node", "1", "--ops", "all_reduce", env=env)
    assert r.code == 1 and "rank 1 (node2" in r.out and "internal error" in r.out, r
    assert r.seconds < 10 * SLOW  # the other does not wait for its deadline


def test_the_slow_node_is_found_by_pairs(nodes):
    env = fake(nodes, FAKE_NCCL_MS_RANK="2:4")
    r = check(nodes, "-N", "4", "--procs-per-node", "1", "--bisect", "--ops", "all_reduce", env=env)
    assert r.code == 1 and "all pairs with node3 are slow" in r.out, r
    assert "nodectl drain" in r.out


def test_a_search_that_finds_nothing_is_no_warning(nodes):
    r = check(nodes, "-N", "4", "--procs-per-node", "1", "--bisect", "-v", "--ops", "all_reduce").ok()
    assert "slower than the others" in r.out and "WARN" not in r.out and "between nodes: SHM" in r.out and "BUSBW GB/S" in r.out, r


def test_different_versions_are_found_before_the_start(nodes):
    env = fake(nodes, FAKE_NCCL_VERSION_RANK="1:22105")
    r = check(nodes, "-N", "2", "--procs-per-node", "1", env=env)
    assert r.code == 3 and "NCCL is 2.28.9 on node1" in " ".join(r.out.split()) and "2.21.5 on node2" in " ".join(r.out.split()), r
    assert "started" in r.out and "BUSBW" not in r.out


def test_what_is_missing_is_said(nodes):
    r = nodes.ctl("check", "nccl")
    assert r.code == 3 and "GPU" in r.err, r
    r = check(nodes, "-N", "1", "--procs-per-node", "1", prefix="/nonexistent")
    assert r.code == 3 and "cannot be entered" in r.out and "/nonexistent" in r.out, r
    r = check(nodes, "-N", "1", "--procs-per-node", "1", prefix="/tmp")
    assert r.code == 3 and "libcudart" in r.out and "beneath /tmp" in r.out, r
    r = check(nodes, "-N", "1", "--procs-per-node", "1", env=fake(nodes, FAKE_CUDA_GPUS="-1"))
    assert r.code == 3 and "driver" in r.out, r
    r = nodes.ctl("check", "nccl", "-w", "node9")
    assert r.code != 0 and "node9" in r.err, r
    r = check(nodes, "-N", "3", "--procs-per-node", "2", prefix="/nonexistent")
    assert r.code == 3 and "node1 and 2 more: the environment /nonexistent cannot be entered" in " ".join(r.out.split()), r
    r = check(nodes, "-N", "1", "--procs-per-node", "1")
    assert r.code == 3 and "nothing was checked" in r.out and "NOT ok" in r.out, r
    r = nodes.ctl("check", "nccl", "--ops", "all_reduce,foo")
    assert r.code == 2 and '"foo" is none of broadcast' in r.err, r
    r = nodes.ctl("check", "nccl", "--env", "relative")
    assert r.code == 2 and "absolute" in r.err, r


def test_what_was_expected_and_not_reached_is_bad(nodes):
    # as nodectl gives it where it knows the hardware: here by hand, as a job of one's own
    r = nodes.launch("-N", "2", "-G", "0", "--procs-per-node", "1", "--no-label", "--", "nodeagent-nccl", "--env", FAKE, "--mib", "1",
                     "--ops", "all_reduce", "--expect-between", "100", env=fake(nodes))
    assert r.code == 1 and '"severity":"bad"' in r.out and "expected 100.0" in r.out, r
