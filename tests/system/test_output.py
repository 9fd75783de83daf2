"""test_output.py - what ranks print arrives whole, in order, apart, alive, and never stops a rank"""
import hashlib
import os
import re
import subprocess
import time

import pytest

from cluster import PYTHON, SANITIZED, SLOW, Reader, proc_text, wait_until

MB = 1 << 20
SIZE = 50 * MB


@pytest.fixture(scope="module")
def random_text(shared):
    """Random bytes in lines of all lengths, NULs and carriage returns included, no newline at the end."""
    path = shared.path("random.bin")
    with open(path, "wb") as f:
        f.write(os.urandom(SIZE - 1) + b"x")
    with open(path, "rb") as f:
        return path, hashlib.sha256(f.read()).hexdigest()


def digest_of(shared, *args):
    """(code, bytes, sha256, stderr) of nodectl's standard output."""
    p = shared.popen(*args)
    err = Reader(p.stderr)
    h, n = hashlib.sha256(), 0
    while True:
        piece = p.stdout.read(MB)
        if not piece:
            break
        h.update(piece)
        n += len(piece)
    return p.wait(60), n, h.hexdigest(), err.data


def test_50_mb_arrive_byte_for_byte(shared, random_text):
    path, want = random_text
    code, n, got, err = digest_of(shared, "launch", "--", "cat", path)
    assert (code, n, got) == (0, SIZE, want), err


def test_logs_give_the_same_bytes_again(shared, random_text):
    path, want = random_text
    job = shared.detach("--", "cat", path)
    shared.wait_end(job)
    code, n, got, err = digest_of(shared, "logs", job)
    assert (code, n, got) == (0, SIZE, want), err


def test_spool_file_is_byte_for_byte_too(shared, random_text):
    path, want = random_text
    job = shared.detach("-N", 2, "--", "cat", path)
    shared.wait_end(job)
    for rank, node in enumerate(shared.names[:2]):
        with open(os.path.join(shared.home, "nodes", node, "spool", f"{job}.1", f"{rank}.out"), "rb") as f:
            assert hashlib.sha256(f.read()).hexdigest() == want


def test_labels_taken_off_give_the_same_bytes(shared):
    """Lines without \\r: the label is put before each line, and nothing else changes."""
    path = shared.path("lines.bin")
    data = os.urandom(5 * MB).replace(b"\r", b".") + b"no newline at the end"
    with open(path, "wb") as f:
        f.write(data)
    r = shared.launch("-N", 3, "--", "cat", path).ok()
    got = {0: b"", 1: b"", 2: b""}
    for line in r.stdout.split(b"\n"):
        m = re.match(rb"\[[a-z0-9._-]+:(\d)\] ", line)
        if not m:
            assert line == b"", line[:100]
            continue
        got[int(m.group(1))] += line[m.end():] + b"\n"
    for rank, text in got.items():
        assert hashlib.sha256(text[:-1]).digest() == hashlib.sha256(data).digest(), f"rank {rank}"


def test_no_line_is_cut_by_another_rank(shared):
    script = ("import sys,os\nr=os.environ['RANK']\n"
              "for i in range(4000):\n"
              "    s='r%s i%d %s\\n' % (r, i, r*(i*37%300))\n"
              "    half=len(s)//2\n"
              "    sys.stdout.write(s[:half]); sys.stdout.flush(); sys.stdout.write(s[half:]); sys.stdout.flush()\n")
    r = shared.launch("-N", 4, "--procs-per-node", 2, "--", PYTHON, "-c", script, timeout=120).ok()
    seen = {k: 0 for k in range(8)}
    for line in r.lines():
        m = re.fullmatch(r"\[([^:]+):(\d)\] r(\d) i(\d+) (\d*)", line)
        assert m, f"cut or mixed: {line!r}"
        rank, i = int(m.group(2)), int(m.group(4))
        assert m.group(3) == m.group(2) and m.group(5) == m.group(3) * (i * 37 % 300) and i == seen[rank]
        assert m.group(1) == shared.names[rank // 2]
        seen[rank] += 1
    assert set(seen.values()) == {4000}


def test_stdout_and_stderr_are_kept_apart(shared):
    r = shared.launch("-N", 2, "--", "sh", "-c", "echo out$RANK; echo err$RANK >&2").ok()
    assert r.by_rank() == {0: "out0\n", 1: "out1\n"}
    assert "err0" in r.err and "err1" in r.err and "out0" not in r.err


def test_progress_bars_stay_readable(shared):
    script = "for i in 1 2 3; do printf '\\rstep %d of 3' $i; sleep 0.3; done; echo"
    p = shared.popen("launch", "-N", 2, "--", "sh", "-c", script)
    out = Reader(p.stdout)
    out.wait("step 1 of 3", 20)
    assert b"step 3" not in out.data, "the bar is shown while it moves"
    assert p.wait(30) == 0
    out.thread.join(5)
    pieces = [x for x in re.split(rb"[\r\n]+", out.data) if x]
    assert all(re.match(rb"\[[^:]+:[01]\] ?(step \d of 3)?$", x) for x in pieces), pieces
    for rank in b"01":
        steps = [x for x in pieces if re.match(rb"\[[^:]+:%c\] step" % rank, x)]
        assert steps[-1].endswith(b"step 3 of 3")


def test_python_is_live_without_a_flush(shared):
    env = {k: v for k, v in shared.env.items() if k != "PYTHONUNBUFFERED"}
    p = shared.popen("launch", "-N", 2, "--", PYTHON, "-c", "import time\nprint('now')\ntime.sleep(5)\nprint('later')", env=env)
    out = Reader(p.stdout)
    out.wait(r":0\] now", 4)
    out.wait(r":1\] now", 2)
    assert b"later" not in out.data
    assert p.wait(30) == 0


def test_a_line_without_its_end_is_shown_at_last(shared):
    r = shared.launch("-N", 2, "--", "printf", "half").ok()
    assert sorted(re.findall(r"\[[^:]+:(\d)\] half", r.out)) == ["0", "1"]


def rss(pid):
    m = re.search(rb"VmRSS:\s+(\d+)", proc_text(pid, "status"))
    return int(m.group(1)) * 1024 if m else 0


def test_a_reader_that_stalls_costs_bounded_memory_and_disturbs_nobody(cluster):
    c = cluster(2)
    pids = c.role_pids()
    size = 300 * MB
    # the client's stdout is a pipe that nobody reads
    done = c.path("done")
    p = c.popen("launch", "-N", 2, "--no-label", "--", "sh", "-c", f"head -c {size} /dev/zero; touch {done}.$RANK")
    job = int(Reader(p.stderr).wait(r"job (\d+)").group(1))
    wait_until(lambda: os.path.exists(done + ".0") and os.path.exists(done + ".1"), 60, "the ranks end though nobody reads")
    wait_until(lambda: c.job(job).get("running", 0) == 0, 10, "their end is known though nobody reads")
    base = 60 * MB * (3 if SANITIZED else 1)
    sizes = {name: rss(pid) // MB for name, pid in pids.items()}
    sizes["nodectl"] = rss(p.pid) // MB
    assert all(n * MB < base for n in sizes.values()), f"MB: {sizes}"
    start = time.monotonic()
    c.launch("-N", 2, "--", "true").ok()
    assert time.monotonic() - start < 2 * SLOW, "another job is not disturbed"
    n = 0
    while True:  # now it reads on, and nothing is missing
        piece = p.stdout.read(MB)
        if not piece:
            break
        n += len(piece)
    assert p.wait(30) == 0 and n == 2 * size


def test_a_client_whose_reader_has_gone_leaves_the_job_a_result(shared):
    p = shared.popen("launch", "--", "sh", "-c", "for i in $(seq 2000); do echo line $i; done; sleep 0.5; exit 4")
    err = Reader(p.stderr)
    job = int(err.wait(r"job (\d+)").group(1))
    p.stdout.read(10)
    p.stdout.close()  # as `| head` does
    p.wait(20)
    assert shared.wait_end(job)["exit_code"] in (4, 128 + 13, 128 + 15)


def test_lost_output_is_counted_nowhere_when_nothing_is_lost(shared):
    job = shared.detach("--", "sh", "-c", "head -c 1000000 /dev/zero")
    shared.wait_end(job)
    assert all(not r.get("lost_bytes") for r in shared.job(job).get("ranks", []))


def test_8_ranks_write_at_once_and_nothing_is_lost(shared):
    script = "import os\nd=(b'%07d' % int(os.environ['RANK'])) + b'\\n'\nos.write\nimport sys\nfor _ in range(300): sys.stdout.buffer.write(d*1000)"
    r = shared.launch("-N", 4, "--procs-per-node", 2, "--", PYTHON, "-c", script, timeout=120).ok()
    counts = {}
    for line in r.stdout.splitlines():
        counts[line] = counts.get(line, 0) + 1
    assert counts == {f"[{shared.names[k // 2]}:{k}] {k:07d}".encode(): 300000 for k in range(8)}


def test_the_last_lines_of_the_failed_rank_are_shown_once_more(shared):
    r = shared.launch("-N", 2, "--", "sh", "-c",
                      "[ $RANK = 1 ] || exec sleep 50; echo noise; echo 'ValueError: the cause' >&2; exit 1")
    assert r.code == 1 and "ValueError: the cause" in r.err


def test_output_of_a_short_rank_is_never_dropped(shared):
    for _ in range(10):
        r = shared.launch("-N", 4, "--", "sh", "-c", "echo a; echo b >&2").ok()
        assert len(r.lines()) == 4 and r.err.count("] b") == 4
