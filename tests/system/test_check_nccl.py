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
    """Without what earlier tests did."""
    return c.ctl("check", "nccl", "--env", prefix, "--mib", "1", "--no-baseline", *args, env=env or fake(c), timeout=60 * SLOW)


def again(c, *args, env=None, mib=1):
    """... compared and kept; tests that do this have arrays of their own size."""
    return c.ctl("check", "nccl", "--env", FAKE, "--mib", str(mib), *args, env=env or fake(c), timeout=60 * SLOW)


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
    text = " ".join(r.out.split())
    assert r.code == 1 and "BAD all_gather gives wrong data: 1 number on 1 of 4 ranks, the first is element 32768 of rank 3 (node2" in text, r
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


def test_a_drained_node_is_not_waited_for(nodes):
    nodes.ctl("drain", "node4").ok()
    try:
        r = check(nodes, "--procs-per-node", "1", "--ops", "all_reduce").ok()
    finally:
        nodes.ctl("resume", "node4").ok()
    assert "3 nodes, 3 GPUs" in r.out, r


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
    assert r.code == 3 and "node9" in r.err, r
    r = check(nodes, "-N", "9", "--procs-per-node", "1")
    assert r.code == 3 and "9 nodes were asked for" in r.err, r
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


def test_a_gpu_that_does_not_open_is_named(nodes):
    """The usual death of a GPU: CUDA hangs while it is initialised."""
    env = fake(nodes, FAKE_CUDA_STOP_RANK="2")
    r = check(nodes, "-N", "2", "--procs-per-node", "2", "--timeout", "1s", env=env)
    text = " ".join(r.out.split())
    assert r.code == 3 and "BAD rank 2 (node2, GPU 0, pid" in text and "hangs after 10 s: CUDA is loaded" in text, r
    assert "rank 1" not in text and "rank 3" not in text, r
    env = fake(nodes, FAKE_CUDA_EXIT_RANK="1")
    r = check(nodes, "-N", "2", "--procs-per-node", "1", env=env)
    assert r.code != 0 and "BAD rank 1 (node2, GPU 0, pid" in r.out and "has ended while CUDA" in " ".join(r.out.split()), r
    assert r.seconds < 10 * SLOW, r


# ---- the baseline: sizes of arrays tell these tests' runs apart


def kept(c, mib):
    doc = json.loads(c.ctl("check", "nccl", "--history", "--json").ok().out)
    return {s["nodes"]: s for s in doc["sets"] if s["mib"] == mib}


def test_a_run_is_compared_with_the_runs_before(nodes):
    args = ("-N", "2", "--procs-per-node", "2", "--ops", "all_reduce,gather")
    r = again(nodes, *args, mib=2).ok()
    text = " ".join(r.out.split())
    assert "no baseline yet: inside node1, inside node2, between node[1-2]; this run is kept" in text and "OF BASELINE" not in text, r
    r = again(nodes, *args, mib=2).ok()
    text = " ".join(r.out.split())
    assert "OF BASELINE" in text and text.count("100 %") == 4 and "below 90 % of a baseline is slow (as nccl-tests has it)" in text, r
    sets = kept(nodes, 2)
    assert set(sets) == {"node1", "node2", "node[1-2]"} and sets["node1"]["good"] == 2 and sets["node[1-2]"]["ranks"] == 4, sets
    assert len(sets["node1"]["runs"]) == 2 and sets["node1"]["runs"][0]["by"], sets


def test_below_the_baseline_is_bad_and_an_event(nodes):
    args = ("-N", "2", "--procs-per-node", "2", "--ops", "all_reduce,broadcast")
    again(nodes, *args, mib=3).ok()
    slow = fake(nodes, FAKE_NCCL_MS="1.2")  # on all nodes alike: nothing but the baseline can tell
    r = again(nodes, *args, mib=3, env=slow)
    text = " ".join(r.out.split())
    assert r.code == 1 and "NOT ok, data exact" in text and "BAD node1: all_reduce reaches" in text, r
    assert "83 % of its baseline of" in text and "so are broadcast (83 %)" in text and "--new-baseline" in text, r
    assert "does not count for the baseline" in text, r
    doc = json.loads(again(nodes, *args, "--json", mib=3, env=slow).out)
    assert not doc["ok"] and all(b["verdict"] == "slow" and not b["counts"] for b in doc["baselines"]), doc
    assert [f["what"] for f in doc["findings"]] == ["baseline"] * 3, doc
    assert again(nodes, *args, "--baseline-tolerance", "20", mib=3, env=slow).code == 0
    events = nodes.ctl("events", "--kind", "nccl").ok().out
    assert events.count("nccl.slow") == 3 and "83 % of its baseline" in events, events
    again(nodes, *args, "--new-baseline", mib=3, env=slow).ok()
    r = again(nodes, *args, mib=3, env=slow).ok()
    assert "100 %" in r.out, r


def test_other_conditions_are_named_and_do_not_fail(nodes):
    args = ("-N", "2", "--procs-per-node", "1", "--ops", "all_reduce")
    again(nodes, *args, mib=4).ok()
    r = again(nodes, *args, mib=4, env=fake(nodes, FAKE_NCCL_VERSION="22105", FAKE_NCCL_MS="2")).ok()
    text = " ".join(r.out.split())
    assert "WARN between nodes: all_reduce reaches" in text and "NCCL 2.28.9 then, 2.21.5 now" in text and "~50 %" in text, r
    r = again(nodes, "-N", "3", *args[2:], mib=4).ok()
    assert "no baseline yet: between node[1-3] (there is one of node[1-2])" in " ".join(r.out.split()), r
    r = again(nodes, *args, mib=4, env=fake(nodes, NCCL_ALGO="Ring")).ok()
    assert "settings none then, NCCL_ALGO=Ring now" in " ".join(r.out.split()), r


def test_who_is_no_administrator_compares_and_leaves_no_trace(nodes):
    """The agent's socket, as a user's node has it: there the coordinator takes nothing."""
    args = ("-N", "2", "--procs-per-node", "1", "--ops", "all_reduce")
    again(nodes, *args, mib=5).ok()
    user = ("--socket", os.path.join(nodes.home, "nodectl.sock"))
    for ms in ("3", "0.01"):
        r = again(nodes, *args, *user, mib=5, env=fake(nodes, FAKE_NCCL_MS=ms))
        assert "this run is not kept: only an administrator's" in " ".join(r.out.split()), r
        assert r.code == (1 if ms == "3" else 0), r
    r = again(nodes, *args, *user, "--new-baseline", mib=5)
    assert r.code == 1 and "administrators" in r.err, r
    assert len(kept(nodes, 5)["node[1-2]"]["runs"]) == 1
    r = nodes.ctl("check", "nccl", "--history", "-w", "node2", *user).ok()
    assert "between node[1-2]" in r.out and "\nnode1 " not in r.out, r


def test_wrong_data_and_bad_words_touch_no_baseline(nodes):
    args = ("-N", "2", "--procs-per-node", "1", "--ops", "all_reduce")
    env = fake(nodes, FAKE_NCCL_FAULT="corrupt all_reduce", FAKE_NCCL_FAULT_RANK="1")
    r = again(nodes, *args, mib=6, env=env)
    assert r.code == 1 and "baseline:" not in r.out and not kept(nodes, 6), r
    again(nodes, *args, "--no-baseline", mib=6).ok()
    assert not kept(nodes, 6)
    for bad, words in ((("--history", "-N", "2"), "-w only"), (("--no-baseline", "--new-baseline"), "exclude each other"),
                       (("--baseline-tolerance", "100"), "--baseline-tolerance"), (("--history", "-w", "a[["), "-w")):
        r = nodes.ctl("check", "nccl", *bad)
        assert r.code == 2 and words in r.err, r


def test_the_baseline_outlives_the_coordinator():
    from cluster import Cluster
    c = Cluster(2)
    os.mkdir(c.path("comms"))
    try:
        args = ("-N", "2", "--procs-per-node", "1", "--ops", "all_reduce")
        again(c, *args).ok()
        c.stop()
        c.start()
        assert "100 %" in again(c, *args).ok().out
    finally:
        left = c.finish()
        c.remove()
    assert not left, left
