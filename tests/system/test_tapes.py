"""test_tapes.py - old shims under today's agent, and today's shim under old agents, from tapes of real conversations

golden/shim-N holds what agents and shims of version N of their protocol have said to each other (shim_tape.py). A shim
outlives any number of upgrades, so these never change, and this must not fail.
"""
import collections
import glob
import json
import os
import re
import time

import pytest

import wire
from cluster import TOP, Site, wait_until
from shim_tape import Tape, anew
from test_shim import Shim

HERE = os.path.dirname(os.path.abspath(__file__))
TAPES = sorted(glob.glob(f"{HERE}/golden/shim-*/*.tape"))
PLAYER = os.path.join(HERE, "shim_tape.py")
WHOLE = 'read x; echo out $RANK $x; echo err $RANK >&2; sleep 0.3; exit $((RANK * 3))'
# what was launched when a tape was made, and what becomes of it
JOBS = {"whole": (["--stdin", "--procs-per-node", "2", "--name", "golden", "--grace", "4s", "--", "sh", "-c", WHOLE], 3),
        "killed": (["--grace", "5s", "--", "sh", "-c", "echo up; exec sleep 100"], 143),
        "refused": (["--", "/no/such/command"], 127)}


def name_of(path):
    return os.path.basename(path)[:-len(".tape")]


def version_of(path):
    return os.path.basename(os.path.dirname(path))


def ids(path):
    return f"{version_of(path)}-{name_of(path)}"


def test_there_is_a_tape_of_each_kind():
    with open(os.path.join(TOP, "proto", "message.h"), encoding="utf-8") as f:
        now = int(re.search(r"#define NA_SHIM_PROTO (\d+)", f.read()).group(1))
    for version in {version_of(p) for p in TAPES} | {f"shim-{n}" for n in range(1, now + 1)}:  # make_tapes.py
        assert {name_of(p) for p in TAPES if version_of(p) == version} >= set(JOBS)
    for path in TAPES:
        said = {json.loads(text)["t"] for _, text in Tape(path).talk if text.startswith("{")}
        assert {"shim_hello", "shim_setup", "shim_ready", "shim_bye"} <= said


@pytest.fixture
def site():
    s = Site()
    os.chmod(s.dir, 0o755)
    yield s
    left = s.finish()
    s.remove()
    assert not left, left


@pytest.mark.parametrize("path", TAPES, ids=ids)
def test_todays_agent_understands_an_old_shim(site, path):
    for name in (path, PLAYER, os.path.join(HERE, "wire.py")):  # the sources may lie where the cluster's user cannot read
        with open(name, encoding="utf-8") as f:
            site.write(os.path.basename(name), f.read())
    shim = site.write("shim", f"#!/bin/sh\nexec /usr/bin/python3 -B {site.path('shim_tape.py')} play {site.path(os.path.basename(path))} "
                              f"\"$1\" \"$2\" 2>>{site.path('player.log')}\n", 0o755)
    site.head()
    site.node("n1", conf=f"[agent]\nshim = {shim}\nprobe = no\n")
    args, code = JOBS[name_of(path)]
    if name_of(path) == "killed":
        job = site.detach(*args)
        site.wait_state(job, "running")
        site.ctl("kill", "--grace", "3s", job).ok()
        assert site.wait_end(job)["exit_code"] == code
        assert site.ctl("logs", job).ok().out == "up\n"
    else:
        r = site.launch(*args, input=b"hello\n" if "--stdin" in args else None)
        assert r.code == code, r
        tape = Tape(path)
        want = sorted(f"[n1:{n[0]}] {line}" for n, data in tape.files.items() if n.endswith(".out") for line in data.decode().splitlines())
        assert sorted(r.lines()) == want, r
    wait_until(lambda: not os.listdir(site.path("n1", "run", "shims")), 10, "the old shim was let go and forgotten")
    log = site.path("player.log")
    assert not os.path.exists(log) or os.path.getsize(log) == 0, open(log, encoding="utf-8").read()


def within(old, new):
    """All that was said is said today; there may be more."""
    volatile = {"pid", "start_time", "start_wall_ms", "end_wall_ms", "end_us", "end_mono_us"}
    if isinstance(old, dict):
        return isinstance(new, dict) and all(k in new and (k in volatile or within(v, new[k])) for k, v in old.items())
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(within, old, new))
    return old == new


class Drive:
    """An old agent: says what is on the tape when it has heard what came before."""

    def __init__(self, shim, tape):
        self.s, self.tape, self.seen, self.wanted = shim, tape, collections.defaultdict(list), collections.Counter()

    def hear(self, seconds=20):
        end = time.monotonic() + seconds
        while any(len(self.seen[t]) < min(n, 1 if t in ("shim_grown", "ranks") else n) for t, n in self.wanted.items()):
            m = self.s.link.recv(max(0, end - time.monotonic()))
            if isinstance(m, dict):
                self.seen[m["t"]].append(m)

    def written(self):
        return all(os.path.exists(self.s.file(n)) and os.path.getsize(self.s.file(n)) == len(d) for n, d in self.tape.files.items())

    def run(self):
        for mark, text in self.tape.talk:
            if mark == "<":
                self.wanted[json.loads(text)["t"]] += 1
                continue
            self.hear()
            if '"shim_end"' in text:
                wait_until(self.written, 10, "the rank has written what it wrote then")
            if text.startswith("data"):
                _, rank, fd, flags, offset, *data = text.split(" ")
                self.s.link.send_raw(wire.data(0, int(rank), int(fd), bytes.fromhex("".join(data)), int(flags), int(offset)))
                continue
            until = str(int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1000) + 4000)  # the order is fresh
            self.s.link.send_raw(wire.frame(wire.JSON, anew(text, until_mono_ms=until).encode()))
            if '"shim_bye"' in text:
                return  # what was said behind it nobody heard


@pytest.mark.parametrize("path", TAPES, ids=ids)
def test_todays_shim_obeys_an_old_agent(path):
    tape = Tape(path)
    setup = next(json.loads(t) for m, t in tape.talk if m == ">" and '"shim_setup"' in t)
    args = JOBS[name_of(path)][0]
    s = Shim(setup["nprocs"], spool=True)
    try:
        s.start(args[args.index("--") + 1:])
        s.link = wire.Link.connect(s.path)
        s.links.append(s.link)
        drive = Drive(s, tape)
        drive.run()
        for kind in ("shim_hello", "shim_ready", "shim_ended"):
            old = [json.loads(t) for m, t in tape.talk if m == "<" and f'"t":"{kind}"' in t]
            for a, b in zip(old, drive.seen[kind]):
                if kind == "shim_hello":
                    assert b["proto"] >= a["proto"]
                    a = {**a, "job": b["job"], "attempt": b["attempt"], "proto": b["proto"]}  # of this shim and its command line
                assert within(a, b), (a, b)
            assert len(old) <= len(drive.seen[kind])
        assert s.wait() == 0
        for name, data in tape.files.items():
            with open(s.file(name), "rb") as f:
                assert f.read() == data
    finally:
        s.finish()
