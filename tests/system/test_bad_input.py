"""test_bad_input.py - what nobody should send, and what everybody sends at last: a sentence each, and nobody else disturbed"""
import json
import os
import re
import select
import resource
import signal
import socket
import sqlite3
import ssl
import struct
import subprocess
import threading
import time

import pytest

from cluster import NODECTL, PYTHON, ROOT, SANITIZED, SLOW, Reader, alive, free_port, kill, proc_text, wait_until

MB = 1 << 20


def frame(payload, kind=1, length=None):
    payload = payload.encode() if isinstance(payload, str) else payload
    return struct.pack(">IB", len(payload) if length is None else length, kind) + payload


def hello(role="client", **more):
    return frame(json.dumps({"t": "hello", "proto": 1000, "software": "test", "role": role, **more}))


def local(c, name="nodectl.sock"):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    s.connect(os.path.join(c.home, name))
    return s


STRANGER = 1000  # a user of the head host; ourselves, without root


def head(c, uid=STRANGER):
    """The coordinator's own socket, as another user."""
    if not ROOT:
        return local(c, "coordinator.sock")
    for folder in (c.dir, c.home, os.path.join(c.home, "coordinator")):
        os.chmod(folder, 0o711)
    os.seteuid(uid)
    try:
        return local(c, "coordinator.sock")
    finally:
        os.seteuid(0)


def tcp(c):
    host, port = c.address.rsplit(":", 1)
    s = socket.create_connection((host.strip("[]"), int(port)), 5)
    s.settimeout(5)
    return s


def tls(c, folder):
    """A TLS connection to the coordinator with the key that lies in the folder."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    ctx.load_cert_chain(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
    return ctx.wrap_socket(tcp(c))


def talk(s, data):
    """Sends, and returns what came back until the other side closed (or 5 s passed)."""
    got = b""
    try:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR) if not isinstance(s, ssl.SSLSocket) else None
    except OSError:
        pass
    try:
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
    except OSError:
        pass
    s.close()
    return got


def rss_mb(pid):
    m = re.search(rb"VmRSS:\s+(\d+)", proc_text(pid, "status"))
    return int(m.group(1)) // 1024 if m else 0


@pytest.fixture
def steady(shared):
    """The daemons are the same ones afterwards, no bigger than before, and still serve."""
    before = shared.role_pids()
    size = {k: rss_mb(p) for k, p in before.items()}
    yield shared
    assert shared.role_pids() == before, "a daemon died"
    for k, p in before.items():
        assert rss_mb(p) < size[k] + (60 if SANITIZED else 20), f"{k} grew from {size[k]} to {rss_mb(p)} MB"
    assert shared.launch("-N", 4, "--", "true").code == 0


JUNK = {
    "nothing": b"",
    "random": os.urandom(200000),
    "text": b"GET / HTTP/1.0\r\n\r\n",
    "huge length": frame(b"{}", length=0xFFFFFFFF),
    "just over the limit": frame(b"x" * 70000),
    "truncated": frame(b'{"t":"hello"', length=1000),
    "zero length": frame(b""),
    "unknown type": frame(b"{}", kind=77),
    "data before hello": frame(b"\0" * 24, kind=2),
    "short data": frame(b"\0" * 3, kind=2),
    "not json": frame(b"hello"),
    "deep": frame(b"[" * 30000),
    "deep object": frame(b'{"t":"hello","a":' + b'{"a":' * 40 + b"1" + b"}" * 41),
    "two keys": frame(b'{"t":"hello","t":"hello","proto":1000,"software":"x","role":"client"}'),
    "nul": frame(b'{"t":"hello","proto":1000,"software":"a\\u0000b","role":"client"}'),
    "no utf-8": frame(b'{"t":"hello","proto":1000,"software":"\xff\xfe","role":"client"}'),
    "trailing": frame(b'{"t":"hello","proto":1000,"software":"x","role":"client"} x'),
    "wrong kinds": frame(b'{"t":"hello","proto":"1000","software":7,"role":[]}'),
    "missing fields": frame(b'{"t":"hello"}'),
    "huge number": frame(b'{"t":"hello","proto":1e999,"software":"x","role":"client"}'),
    "another role": hello("emperor"),
    "future version": frame(b'{"t":"hello","proto":9000,"software":"x","role":"client"}'),
    "hello twice": hello() + hello(),
    "answer to nobody": hello() + frame(b'{"t":"pong","seq":"1"}') + frame(b'{"t":"prepared","job":"1","attempt":1,"ok":true}'),
    "agent's words from a client": hello() + frame(b'{"t":"ended","job":"1","attempt":1,"ranks":[]}')
                                   + frame(b'{"t":"start","job":"1","attempt":1,"boot_id":"x","master_addr":"x","master_port":1}'),
    "unknown message": hello() + frame(b'{"t":"no_such_thing"}'),
    "follow without a watch": hello() + frame(b'{"t":"follow","sid":1,"job":"1","credit":1000}'),
    "credit for nothing": hello() + frame(b'{"t":"credit","sid":4,"bytes":1073741824}') * 50,
    "data for nothing": hello() + frame(struct.pack(">IIBBHQI", 9, 0, 0, 0, 0, 0, 0) + b"x" * 1000, kind=2) * 50,
    "an upload without an end": hello() + frame(struct.pack(">IIBBHQI", 0, 0, 3, 0, 0, 0, 0) + b"x" * 60000, kind=2) * 60,
}


@pytest.mark.parametrize("what", JUNK)
def test_junk_on_the_local_socket(steady, what):
    talk(local(steady), JUNK[what])


@pytest.mark.parametrize("what", JUNK)
def test_junk_on_the_coordinators_socket(steady, what):
    talk(head(steady), JUNK[what])


@pytest.mark.parametrize("what", ["nothing", "random", "text", "huge length", "truncated"])
def test_junk_instead_of_tls(steady, what):
    talk(tcp(steady), JUNK[what])


@pytest.mark.parametrize("what", JUNK)
def test_junk_from_an_enrolled_node(steady, what):
    """Inside TLS, with the key of a node: it may fool nobody but itself."""
    node = steady.names[3]
    s = tls(steady, os.path.join(steady.home, "nodes", node))
    s.settimeout(1)
    talk(s, JUNK[what].replace(b'"role": "client"', b'"role": "agent"'))
    wait_until(lambda: steady.nodes_now()[node]["state"] == "ok", 15, "the node itself is back")


def test_refusals_are_sentences(shared):
    for what, word in (("not json", "json"), ("future version", "upgrade"), ("huge length", "4294967295 bytes"),
                       ("unknown type", "frame type 77"), ("short data", "data frame")):
        got = talk(local(shared), JUNK[what])
        assert b'"refused"' in got, (what, got)
        text = json.loads(got[5:5 + struct.unpack(">I", got[:4])[0]])["text"]
        assert len(text) > 15 and word in text.lower(), text


def test_a_client_that_stops_in_the_middle_is_dropped(steady):
    s = local(steady)
    s.sendall(b"\0\0")
    s.settimeout(20)
    start = time.monotonic()
    assert s.recv(1000) == b"" or s.recv(1000) == b""
    assert time.monotonic() - start < 15
    s.close()


def test_500_idle_connections_keep_nobody_out(steady):
    folder = os.path.join(steady.home, "nodes", steady.names[0])
    held = []
    try:
        for _ in range(500):
            held.append(tcp(steady))
            held.append(local(steady))
        start = time.monotonic()
        steady.launch("-N", 4, "--", "true").ok()
        assert time.monotonic() - start < SLOW, "a launch beside 1,000 idle connections"
        assert {n["state"] for n in steady.nodes_now().values()} == {"ok"}
    finally:
        for s in held:
            s.close()


def ask(rid):
    return (frame(json.dumps({"t": "status_get", "rid": rid, "detail": True}))
            + frame(json.dumps({"t": "jobs_get", "rid": rid + 1, "all": True})))


def flood(conns, seconds):
    """Each of them asks and asks, and never reads what it is answered."""
    questions = b"".join(ask(2 * i + 1) for i in range(500))
    todo = {s: memoryview(hello() + questions) for s in conns}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sent = 0
        for s in list(todo):
            try:
                k = s.send(todo[s])
                sent += k
                todo[s] = todo[s][k:] or memoryview(questions)
            except BlockingIOError:
                pass
            except OSError:
                del todo[s]
        if not sent:
            time.sleep(0.05)


# freed memory counts: the sanitiser keeps 256 MB of it otherwise
THRIFTY = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99:quarantine_size_mb=8"}


def test_200_askers_that_never_read_hold_up_nobody_and_cost_no_memory(cluster):
    """Each of them could have the coordinator queue answers without end: 900 MB, and nodes unreachable."""
    steady = cluster(4, env=THRIFTY)
    pid = steady.role_pids()["coordinator"]
    before = rss_mb(pid)
    held = []
    try:
        for _ in range(200):
            held.append(head(steady))
            held[-1].setblocking(False)
        flooder = threading.Thread(target=flood, args=(held, 8 * SLOW))
        flooder.start()
        largest = slowest = 0
        while flooder.is_alive():
            now = steady.nodes_now()
            assert {n["state"] for n in now.values()} == {"ok"}, now
            start = time.monotonic()
            steady.ctl("status").ok()
            slowest = max(slowest, time.monotonic() - start)
            largest = max(largest, rss_mb(pid))
        assert slowest < 1 * SLOW, f"status took {slowest:.1f} s"
        assert largest - before < (150 if SANITIZED else 50), f"from {before} to {largest} MB"
        if ROOT:
            s = local(steady, "coordinator.sock")
            assert b"welcome" in talk(s, hello()), "root gets in"
        assert steady.role_pids()["coordinator"] == pid
    finally:
        for s in held:
            s.close()


def test_idle_connections_to_the_coordinator_keep_nobody_out(steady):
    held = []
    try:
        for _ in range(300):
            held.append(head(steady))  # says nothing
        for _ in range(40):
            assert b"welcome" in talk(head(steady), hello()), "the oldest that said nothing gives way"
        assert b"welcome" in talk(local(steady, "coordinator.sock"), hello())
        steady.launch("-N", 4, "--", "true").ok()
    finally:
        for s in held:
            s.close()


def test_one_connection_too_many_in_use_is_told_so(steady):
    held = []
    try:
        for _ in range(64):
            held.append(head(steady))
            held[-1].sendall(hello())
            assert held[-1].recv(1000)
        got = talk(head(steady), hello())
        assert b'"busy"' in got and b"too many connections" in got, got
        held.pop().close()
        wait_until(lambda: b"welcome" in talk(head(steady), hello()), 5, "there is room again")
    finally:
        for s in held:
            s.close()


def in_use(c, uid):
    """64 connections that have said something, each taking part in nothing."""
    held = [head(c, uid) for _ in range(64)]
    for s in held:
        s.sendall(hello())
    for s in held:
        assert b"welcome" in s.recv(1000)
    return held


@pytest.mark.root
def test_many_users_with_connections_in_use_keep_nobody_out(cluster):
    """One person may have thousands of uids, for containers."""
    c = cluster(2)
    job = c.detach("--", "sleep", "1000")
    crowd, mine = [], []
    try:
        watcher = head(c, 0)
        watcher.sendall(hello() + frame(json.dumps({"t": "watch", "rid": 1, "job": str(job)})))
        for uid in range(100000, 100008):
            crowd += in_use(c, uid)
        for s in crowd[::64]:  # the first of each is heard again
            s.sendall(frame(json.dumps({"t": "jobs_get", "rid": 1})))
            assert b'"jobs"' in s.recv(65536)
        for i in range(80):
            mine.append(head(c, STRANGER if i < 40 else 200000 + i))
            mine[-1].sendall(hello())
            assert b"welcome" in mine[-1].recv(1000), i
        assert all(still_open(s) for s in mine), "nobody's with few goes while somebody has many"
        gone = [s for s in crowd if not still_open(s)]
        assert 80 <= len(gone) <= 90 and not set(gone) & set(crowd[::64]), len(gone)
        # those on their way out, slow to leave, are no crowd of their own either
        for i in range(12):
            for uid in range(100000, 100020):
                for _ in range(8):
                    crowd.append(head(c, uid))
                    crowd[-1].setblocking(False)
            s = head(c, STRANGER + 1)
            s.settimeout(5)
            assert b"welcome" in talk(s, hello()), i
        assert still_open(watcher)
        assert b"welcome" in talk(head(c, 0), hello())
        c.launch("-N", 2, "--", "true").ok()
    finally:
        for s in [*crowd, *mine, watcher]:
            s.close()
    c.ctl("kill", job).ok()


def long_answers(c, jobs=400):
    """A history that takes a megabyte to tell: six bytes of JSON for each of a command's control characters."""
    for _ in range(jobs // 40):
        for p in [c.popen("launch", "--detach", "--", "\x01" * 250) for _ in range(40)]:
            p.communicate(timeout=30)
    assert len(c.ctl("--json", "jobs", "--all").out) > jobs * 1500


def test_long_answers_that_nobody_reads_are_bounded_for_each_user(cluster):
    """Not by the number of connections alone; and the user's own commands go on after some seconds."""
    c = cluster(2, env=THRIFTY)
    long_answers(c)
    pid = c.role_pids()["coordinator"]
    before = rss_mb(pid)
    asker = head(c)
    asker.settimeout(30)
    asker.sendall(hello())
    assert asker.recv(1000)
    held = []
    try:
        for _ in range(60):
            held.append(head(c))
            held[-1].setblocking(False)
        flood(held, 2 * SLOW)
        assert rss_mb(pid) - before < (150 if SANITIZED else 40), f"from {before} to {rss_mb(pid)} MB"
        start = time.monotonic()
        c.ctl("status").ok()
        assert time.monotonic() - start < SLOW
        asker.sendall(frame(json.dumps({"t": "status_get", "rid": 1})))
        got = b""
        while b'"status"' not in got:
            piece = asker.recv(65536)
            assert piece, got
            got += piece
        assert time.monotonic() - start < 20 * SLOW
    finally:
        for s in [*held, asker]:
            s.close()


def history(c, jobs):
    """As many ended jobs as if they had run, of 1.8 KB each in an answer."""
    job = c.detach("--", "true")
    c.wait_end(job)
    c.stop()
    with sqlite3.connect(os.path.join(c.home, "coordinator", "state.db")) as db:
        (text,) = db.execute("select json from job where key = ?", (str(job),)).fetchone()
        row = json.loads(text)
        for i in range(1000, 1000 + jobs):
            row.update(job=str(i), client_id=f"{i:032x}", command="\x01" * 250)
            db.execute("insert into job (key, json) values (?, ?)", (str(i), json.dumps(row)))
    db.close()
    c.start()


def askers_that_never_read(c, n, who=None):
    held = []
    for _ in range(n):
        held.append((who or head)(c))
        held[-1].sendall(hello() + frame(json.dumps({"t": "jobs_get", "rid": 1, "all": True})))
    return held


def hung_up(s):
    """Seen without reading: who is looked at by reading is a reader."""
    p = select.poll()
    p.register(s, select.POLLRDHUP)
    return bool(p.poll(0))


def enough_are_closed(c, held, who, meanwhile=lambda: None):
    """Of those that never read as many are closed as keep their user's next question waiting: two of 3.6 MB
    each are below the limit of 8 MiB, and may stay. Where not all were answered at once, some are closed
    each time, and then the next ones: each time takes up to 10 s."""
    def closed():
        meanwhile()
        return sum(map(hung_up, held)) >= len(held) - 2

    wait_until(closed, 20 * SLOW, "those that never read are closed")
    asker = who(c)
    asker.settimeout(0.25)
    asker.sendall(hello() + frame(json.dumps({"t": "status_get", "rid": 1})))
    got, end = b"", time.monotonic() + 10 * SLOW
    while b'"status"' not in got:
        meanwhile()
        try:
            piece = asker.recv(65536)
        except TimeoutError:
            assert time.monotonic() < end, got
            continue
        assert piece, got
        got += piece
    asker.close()


def test_a_slow_but_steady_reader_is_not_taken_for_a_stopped_one(cluster):
    """A long write counts as waiting until its last byte is taken."""
    c = cluster(1, env=THRIFTY)
    history(c, 2000)
    held = []
    try:
        slow = head(c)
        slow.sendall(hello() + frame(json.dumps({"t": "jobs_get", "rid": 1, "all": True})))
        got = 0

        def read(most=16384):  # five times what must be read in a time, for a loaded machine
            nonlocal got
            piece = slow.recv(most)
            assert piece, f"closed after {got} bytes"
            got += len(piece)

        def read_slowly():
            if got < 3_000_000:
                read()
                time.sleep(0.25)

        while got < 600_000:  # what follows is one write
            read(65536)
        held = askers_that_never_read(c, 6)
        end = time.monotonic() + 13
        while time.monotonic() < end:
            read_slowly()
        enough_are_closed(c, held, head, read_slowly)  # who stops now is rightly closed
        slow.settimeout(5 * SLOW)
        while got < 3_000_000:  # and all of it comes
            read(1 << 20)
    finally:
        for s in [*held, slow]:
            s.close()


@pytest.mark.root
def test_slow_readers_of_many_uids_do_not_keep_all_others_waiting(cluster):
    """Together they are above the limit of all, and drop by drop they would be so for hours."""
    c = cluster(1, env=THRIFTY)
    history(c, 12000)
    slow, asker, start = [], None, time.monotonic()
    try:
        for uid in range(100000, 100004):
            slow += askers_that_never_read(c, 1, lambda c, uid=uid: head(c, uid))
        time.sleep(1)
        pid = c.role_pids()["coordinator"]
        before, late = rss_mb(pid), []
        for i in range(10):  # who comes later has no answer of its own on top
            late += askers_that_never_read(c, 1, lambda c, uid=100000 + i: head(c, uid))
            time.sleep(0.1)
        assert rss_mb(pid) - before < (70 if SANITIZED else 30), f"from {before} to {rss_mb(pid)} MB"
        for s in late:
            s.close()
        asker = head(c)
        asker.settimeout(0.1)
        asker.sendall(hello() + frame(json.dumps({"t": "status_get", "rid": 1})))
        got = b""
        while b'"status"' not in got:
            assert time.monotonic() - start < 20 * SLOW, got
            for s in slow:
                s.recv(4096)
            try:
                got += asker.recv(65536)
            except TimeoutError:
                pass
        assert time.monotonic() - start > 2, "it had to wait, or this tests nothing"
    finally:
        for s in [*slow, *([asker] if asker else [])]:
            s.close()


def test_a_reader_that_stopped_is_one_also_while_more_comes_for_it(cluster):
    """Updates of watched jobs: what waits for it grows, and that says nothing of what it takes."""
    c = cluster(1, env=THRIFTY)
    history(c, 2000)
    held = []
    sock = lambda c: local(c, "coordinator.sock")
    try:
        jobs = [c.detach("--", "sleep", "1000") for _ in range(20)]
        watcher = sock(c)
        watcher.sendall(hello() + b"".join(frame(json.dumps({"t": "watch", "rid": int(j), "job": str(j)})) for j in jobs)
                        + frame(json.dumps({"t": "jobs_get", "rid": 1, "all": True})))
        held = askers_that_never_read(c, 6, sock)
        end = time.monotonic() + 13
        while time.monotonic() < end:
            c.ctl("kill", jobs.pop()).ok()
            time.sleep(1)
        assert jobs, "more comes for it"
        enough_are_closed(c, held, sock)
        assert hung_up(watcher)
    finally:
        for s in [*held, watcher]:
            s.close()
    for job in jobs:
        c.ctl("kill", job, "--grace", "0s").ok()


def test_an_answer_larger_than_any_queue_comes_whole(cluster):
    """Its pieces are queued at once: they closed the link that asked, a node's with all its heartbeats as well."""
    c = cluster(2, env=THRIFTY)
    history(c, 12000)
    for more in ([], ["--socket", os.path.join(c.home, "coordinator.sock")]):
        r = c.ctl("--json", *more, "jobs", "--all", timeout=60).ok()
        assert len(json.loads(r.out)["jobs"]) > 12000
    assert "it does not take what is sent to it" not in c.logs()
    assert {n["state"] for n in c.nodes_now().values()} == {"ok"}


def still_open(s):
    s.settimeout(0.01)
    try:
        while s.recv(1000):
            pass
        return False
    except TimeoutError:
        return True
    except OSError:
        return False


def test_a_nodes_key_has_few_connections(steady):
    node = steady.names[3]
    folder = os.path.join(steady.home, "nodes", node)
    held = []
    try:
        for _ in range(30):
            held.append(tls(steady, folder))
        wait_until(lambda: sum(still_open(s) for s in held) <= 8, 5, "the older ones give way")
        wait_until(lambda: steady.nodes_now()[node]["state"] == "ok", 15, "the node itself is back")
    finally:
        for s in held:
            s.close()


def test_a_launch_at_the_coordinators_socket_says_where_to_go(shared):
    big = dict(shared.env, BIG="x" * 100_000)
    for env in (shared.env, dict(big, **{f"BIG{i}": "x" * 100_000 for i in range(5)})):
        r = shared.ctl("--socket", os.path.join(shared.home, "coordinator.sock"), "launch", "--", "true", env=env)
        assert r.code == 1 and "a node's agent" in r.err and "--socket" in r.err and "bulk" not in r.err, r


def test_output_asked_for_at_the_coordinators_socket_says_where_to_go(shared):
    """It waited for ever."""
    job = shared.detach("--", "echo", "hi")
    for verb in ("logs", "attach"):
        r = shared.ctl("--socket", os.path.join(shared.home, "coordinator.sock"), verb, job, timeout=20)
        assert r.code == 1 and "a node's agent" in r.err and "--socket" in r.err, r


def piece(n, last=False):
    return frame(struct.pack(">IIBBHQI", 0, 0, 3, 1 if last else 0, 0, 0, 0) + b"x" * n, kind=2)


def test_unfinished_specifications_of_one_user_are_bounded_together(cluster):
    c = cluster(1, env=THRIFTY)
    pid = c.agent_pid(c.names[0])
    before = rss_mb(pid)
    for _ in range(2):  # and what goes is given back
        held = [local(c) for _ in range(100)]
        try:
            for s in held:
                s.sendall(hello() + b"".join(piece(60_000) for _ in range(32)))
            s.sendall(piece(0, last=True) + frame(json.dumps(
                {"t": "submit", "rid": 7, "client_id": "x", "nnodes": 1, "command": "true", "spec_hash": "", "spec_size": 1})))
            got = b""
            while b'"refused"' not in got:
                more = s.recv(65536)
                assert more, got
                got += more
            assert b'"busy"' in got and b"32 MiB" in got, got
            assert rss_mb(pid) - before < (150 if SANITIZED else 70), f"from {before} to {rss_mb(pid)} MB"
            r = c.launch("--", "true", env=dict(c.env, **big_env(1_000_000)))
            assert r.code == 1 and "try again" in r.err, r
        finally:
            for s in held:
                s.close()
        wait_until(lambda: c.launch("--", "true", env=dict(c.env, **big_env(1_000_000))).code == 0, 5, "there is room again")


def test_half_sent_messages_of_one_user_are_bounded_together(cluster):
    """A frame may have a MiB, and its last byte may never come."""
    c = cluster(1, env=THRIFTY)
    pid = c.agent_pid(c.names[0])
    before = rss_mb(pid)
    for _ in range(2):  # and what goes is given back
        held, told = [local(c) for _ in range(150)], 0
        try:
            for s in held:
                s.settimeout(2)
                try:
                    s.sendall(hello() + frame(b" " * (MB - 1000), length=MB))
                except OSError:
                    pass
            assert rss_mb(pid) - before < (150 if SANITIZED else 60), f"from {before} to {rss_mb(pid)} MB"
            for s in held[100:]:
                got = talk(s, b"")
                told += b'"busy"' in got and b"32 MiB" in got
            assert told == 50
            assert sum(still_open(s) for s in held[:100]) in range(30, 40)
            c.ctl("status").ok()
        finally:
            for s in held:
                s.close()
        wait_until(lambda: c.launch("--", "true", env=dict(c.env, **big_env(1_000_000))).code == 0, 5, "there is room again")


# ---- what users get wrong -----------------------------------------------


def test_a_billion_hosts(shared):
    for text in ("n[1-1000000000]", "n[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]", "n[1-99999999999999999999]"):
        start = time.monotonic()
        r = shared.launch("-w", text, "--", "true")
        assert r.code != 0 and r.err.strip() and time.monotonic() - start < SLOW, r


def big_env(total, one=120_000):
    n = total // one
    return {f"BIG_{i:03d}": "x" * (one - 20) for i in range(n)}


def raise_stack():
    resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_an_environment_of_almost_2_mib_passes(shared):
    env = dict(shared.env, **big_env(1_900_000))
    r = shared.ctl("launch", "-N", 2, "--", "sh", "-c", "env | wc -c", env=env, preexec_fn=raise_stack)
    assert r.code == 0 and all(int(t) > 1_780_000 for t in r.by_rank().values()), r


def test_an_environment_of_3_mib_is_refused_with_its_largest_variables(shared):
    env = dict(shared.env, **big_env(3_000_000))
    env["LARGEST"] = "y" * 125_000
    r = shared.ctl("launch", "-N", 2, "--", "true", env=env, preexec_fn=raise_stack)
    assert r.code != 0 and "LARGEST" in r.err and "2" in r.err, r
    assert len(r.err) < 2000


def test_what_the_kernel_would_not_pass_on_is_refused_before_anything_starts(shared):
    """The kernel counts a pointer of 8 bytes for each variable, too: 1.94 MB in 20,000 of them is over 2 MiB."""
    env = dict(shared.env, **{f"V_{i:05d}": "x" * 88 for i in range(20_000)})
    r = shared.ctl("launch", "-N", 2, "--", "sh", "-c", "echo started", env=env, preexec_fn=raise_stack)
    assert r.code == 126 and "started" not in r.out, r
    said = r.err.splitlines()[-1]
    assert re.search(r"node \S+: command and environment take \d{7} bytes \(3 arguments, 20\d\d\d variables, "
                     r"8 bytes for each included\), but at most \d+ can be passed", said), r
    assert "could not start" not in r.err and "--clean-env" in said and len(r.err) < 1500


def test_a_hundred_thousand_variables_start_as_fast_as_few(shared):
    env = dict(shared.env, **{f"V_{i:06d}": "1" for i in range(60_000)})
    start = time.monotonic()
    r = shared.ctl("launch", "--", "sh", "-c", "env | grep -c ^V_", env=env, preexec_fn=raise_stack)
    assert r.code == 0 and "60000" in r.out and time.monotonic() - start < 4 * SLOW, r


def test_too_many_arguments_are_named_in_a_dry_run_as_well(shared):
    for more in ((), ("--dry-run",)):
        r = shared.ctl("launch", *more, "--", "true", *["y" * 125_000 for _ in range(20)], preexec_fn=raise_stack)
        assert r.code == 2 and "take 25" in r.err and "the largest: argument 1 (125001 bytes)" in r.err, r
        assert "PATH" not in r.err and "put it into a file" in r.err


def test_a_working_directory_that_is_not_there(shared):
    r = shared.launch("-N", 2, "--cwd", "/no/such/folder", "--", "true")
    assert r.code != 0 and "/no/such/folder" in r.err and any(n in r.err for n in shared.names)


def test_unknown_options_and_commands_are_named(shared):
    for args in (["launch", "--nodse", "2", "--", "true"], ["launhc"], ["launch", "-N", "two", "--", "true"],
                 ["launch", "-N", "0", "--", "true"], ["launch", "-N", "-1", "--", "true"],
                 ["launch", "--procs-per-node", "99999999", "--", "true"], ["launch", "--time", "soon", "--", "true"],
                 ["launch", "--env", "=x", "--", "true"], ["job", "abc"], ["job"], ["logs", "1", "--rank", "x"]):
        r = shared.ctl(*args)
        assert r.code != 0 and r.err.strip() and "\x1b" not in r.err, r
        assert len(r.err.splitlines()) <= 12


def test_no_daemon_is_a_sentence_with_the_socket(shared):
    r = shared.ctl("status", env=shared.env)
    import subprocess
    p = subprocess.run([NODECTL, "--dir", shared.path("nobody"), "status"], capture_output=True, env=shared.env, timeout=30)
    assert p.returncode != 0 and b"nobody" in p.stderr and len(p.stderr.splitlines()) <= 4


# ---- hosts that differ ---------------------------------------------------


@pytest.mark.root
def test_a_command_and_a_directory_missing_on_one_node(two_hosts):
    site, only = two_hosts
    tool = os.path.join(only, "tool")
    with open(tool, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\necho here\n")
    os.chmod(tool, 0o755)
    r = site.launch("-w", "n1", "--", tool).ok()
    assert r.out == "here\n"
    r = site.launch("-w", "n1,n2", "--", tool)
    assert r.code == 127 and "n2" in r.err and tool in r.err, r
    assert "here" not in r.out, "nobody starts when one cannot"
    r = site.launch("-w", "n1,n2", "--cwd", only + "/sub", "--", "pwd")
    assert r.code != 0 and only + "/sub" in r.err
    os.mkdir(only + "/sub")
    os.chmod(only + "/sub", 0o755)
    r = site.launch("-w", "n1,n2", "--cwd", only + "/sub", "--", "pwd")
    assert r.code != 0 and "n2" in r.err and only + "/sub" in r.err and not r.out


@pytest.fixture
def two_hosts(site):
    """n1 as it is; n2 in a mount namespace of its own where one directory is empty and the spool is small."""
    only = site.path("only-on-n1")
    os.mkdir(only)
    os.chmod(only, 0o777)
    site.head()
    site.node("n1")
    site.node("n2", "[agent]\nspool_per_node = 1G\n", prefix=["unshare", "-m", "sh", "-c",
                            'mount -t tmpfs -o mode=777 none "$0" && install -d -o 65534 "${1%/*}" "$1" && mount -t tmpfs -o mode=777,size=2m none "$1" && shift && exec "$@"',
                            only, site.path("n2", "spool")])
    return site, only


@pytest.mark.root
def test_a_full_disk_holds_up_no_rank_and_is_told(two_hosts):
    site, _ = two_hosts
    r = site.launch("-w", "n1,n2", "--", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' 'a'; echo; echo end >&2", timeout=90)
    assert r.code == 0, r
    n1 = sum(len(x) for x in r.stdout.splitlines() if x.startswith(b"[n1:0]"))
    assert n1 >= 20_000_000
    assert r.err.count("end") >= 1
    told = [x for x in r.err.splitlines() if re.search("disk|space|lost|room", x)]
    spool = site.path("n2", "spool")
    # where in the output it began, and that it did (if the job was not over by then): each once; last, how much it was
    kinds = ("nodectl: node n2 has no room left for output", "node n2: there is no room in its spool directory: output of the job is being lost")
    assert [x for x in told[:-1] if not any(k in x for k in kinds)] == [], r.err[-2000:]
    assert all(sum(k in x for x in told) <= 1 for k in kinds), r.err[-2000:]
    assert re.search(rf"node n2: \d{{8}} bytes of output of 1 process were lost, for there was no room in {spool}; "
                     "remove files there", told[-1]), told
    log = [x for x in site.logs().splitlines() if "its output is being lost" in x]
    assert len(log) == 1 and spool in log[0], log
    assert len(re.findall(r"it has ended; \d{8} bytes of its output were lost", site.logs())) == 1
    # nobody else is disturbed, and small jobs on n2 work while there is room or say so
    assert site.launch("-w", "n1", "--", "echo", "fine").ok().out == "fine\n"
    again = site.launch("-w", "n2", "--", "true")
    assert again.code == 0 or "space" in again.err, again


@pytest.mark.root
def test_a_disk_without_room_for_another_file_is_named(two_hosts):
    site, _ = two_hosts
    spool = site.path("n2", "spool")
    inside = ["nsenter", "-t", str(site.daemons["n2"].pid), "-m"]
    subprocess.run([*inside, "mount", "-o", "remount,nr_inodes=1", spool], check=True)
    r = site.launch("-w", "n2", "--", "true")
    assert r.code == 1 and f"cannot make {spool}/1.1, for the job's output: No space left on device; remove files" in r.err, r
    assert "df -i" in r.err


def test_a_port_range_used_up_is_named(cluster, tmp_path):
    low = 21000 + os.getpid() % 9000
    conf = tmp_path / "conf"
    conf.write_text(f"[agent]\nport_min = {low}\nport_max = {low + 6}\n")
    c = cluster(2, args=["--config", str(conf)])
    running = []
    while len(running) < 8:
        job = c.detach("-N", 2, "--", "sleep", "100")
        j = c.wait_state(job, "running", "failed", "lost")
        if j["state"] != "running":
            break
        running.append(job)
    assert 1 <= len(running) < 8
    r = c.launch("-N", 2, "--", "true", timeout=60)
    assert r.code != 0 and str(low) in r.err and "port" in r.err.lower(), r
    c.ctl("kill", running[0]).ok()
    c.wait_end(running[0])
    c.launch("-N", 2, "--", "true").ok()
