"""test_job_nccl.py - what NCCL's log of a running job tells: network, reason, first trouble

The log is a recorded one (two H100, NCCL 2.28.9, and lines of net_ib.cc): a worker writes
it where NCCL would, to $NCCL_DEBUG_FILE."""
import os
import re
import time

from cluster import PYTHON, wait_until

WORKER = r'''
import os, sys, time
rank = int(os.environ["RANK"])
path = os.environ["NCCL_DEBUG_FILE"].replace("%%h", "host").replace("%%p", str(os.getpid()))
log = open(path, "w", buffering=1)
def say(text, warn=False):
    log.write("host:%%d:%%d [0] NCCL %%s %%s\n" %% (os.getpid(), os.getpid() + 1, "WARN" if warn else "INFO", text))
LINES = %s
for text in LINES:
    say(text)
%s
time.sleep(60)
'''
BEGIN = ["NCCL version 2.28.9+cuda13.0", "Bootstrap: Using eth0:192.0.2.2<0>"]
INIT = ["ncclCommInitRankConfig comm 0x558b rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 60 commId 0xa2fc - Init START",
        "ncclCommInitRankConfig comm 0x558b rank 0 nranks 2 cudaDev 0 nvmlDev 0 busId 60 commId 0xa2fc - Init COMPLETE"]
SOCKET = BEGIN + ["NET/IB : No device found.", "Failed to initialize NET plugin IB", "NET/Socket : Using [0]eth0:192.0.2.2<0>",
                  "Using network Socket"] + INIT
IB = BEGIN + ["NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB eth0:192.0.2.2<0>", "Using network IB"] + INIT + \
     ["Channel 00/0 : 0[0] -> 1[0] [send] via NET/IB/0/GDRDMA(PCI)/Shared"]


def start(c, lines, more="", nodes=2, launch=()):
    path = c.write(f"n{time.monotonic_ns()}.py", WORKER % (repr(lines), more))
    r = c.launch("-N", nodes, "--detach", *launch, "--", PYTHON, path)
    return int(re.search(r"\d+", r.out).group(0))


def known(c, job, want=lambda n: n["brief"]):
    def look():
        n = c.json("job", job)["nccl"]
        return n if n and want(n) else None
    return wait_until(look, 15, "what its NCCL said")


def test_a_job_over_tcp_is_marked_with_the_users_reason(shared):
    lines = ["NCCL_IB_DISABLE set by environment to 1."] + SOCKET
    job = start(shared, lines, launch=("--env", "NCCL_IB_DISABLE=1"))
    n = known(shared, job, lambda n: n["nodes"] == 2 and n["socket"])
    assert n["brief"] == "NCCL 2.28.9, SOCKET! eth0" and n["reason"] == "user", n
    assert "NCCL_IB_DISABLE=1 is set, by the job's environment" in n["why"]
    page = shared.ctl("status").out
    assert re.search(r"^JOB .*\bNET\b", page, re.M) and "SOCKET! eth0" in page, page
    assert f"job {job}: NCCL runs over TCP: NCCL_IB_DISABLE=1 is set" in " ".join(page.split()), page
    text = shared.ctl("job", job).out
    assert "NCCL 2.28.9, SOCKET! eth0" in text and "not in use" not in text, text
    why = shared.json("why", job)
    assert why["verdict"].startswith("Slow, not broken: NCCL runs over TCP and not over InfiniBand: NCCL_IB_DISABLE=1 is set"), why
    assert any(f["text"] == "Using network Socket" and "NCCL's log on" in f["source"] and f["at_ms"] for f in why["seen"]), why
    assert any("whether InfiniBand passes traffic" in u for u in why["unknown"]) and \
        "relaunch without NCCL_IB_DISABLE" in why["do"], why
    shared.ctl("kill", job)
    assert shared.wait_end(job)["nccl"]["reason"] == "user", "it is remembered"


def test_infiniband_and_the_first_trouble_with_its_rank(shared):
    more = ('if rank == 1:\n    time.sleep(1)\n    say("NET/IB: Got completion from peer 192.0.2.77<51234> with '
            'status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_WC_SEND(0) vendor_err=129 hca mlx5_1", True)\n    sys.exit(3)')
    job = start(shared, IB, more)
    end = shared.wait_end(job)
    n = end["nccl"]
    assert n["brief"] == "NCCL 2.28.9, IB x2 GDR", n
    node = end["nodes"][1]
    assert n["trouble"].startswith(f"rank 1 on {node} mlx5_1: a transfer failed: the peer stopped answering, or a link failed "
                                   "(completion status 12)") and "192.0.2.77" in n["trouble"], n
    assert any("NCCL: rank 1 on" in m["text"] for m in end["story"]), "said in the last moment, and heard"


def test_the_user_who_asks_for_the_log_keeps_it(shared):
    path = shared.write("e.py", "import os\nprint({k: v for k, v in os.environ.items() if k.startswith('NCCL_DEBUG')})\n")
    r = shared.launch("--env", "NCCL_DEBUG=WARN", "--", PYTHON, path)
    assert "{'NCCL_DEBUG': 'WARN'}" in r.out, r.out
    r = shared.launch("--env", "NODEAGENT_NCCL_LOG=0", "--", PYTHON, path)
    assert "{}" in r.out, r.out
    r = shared.launch("--", PYTHON, path)
    assert "'NCCL_DEBUG': 'INFO'" in r.out and "'NCCL_DEBUG_SUBSYS': 'INIT,BOOTSTRAP,ENV,NET'" in r.out, r.out


def test_a_flood_and_garbage_harm_nobody(shared):
    more = ("os.set_blocking(log.fileno(), True)\nfor i in range(2000):\n    log.write('x' * 5000)\n"
            "log.write('\\n\\xff\\x00 NCCL WARN \\x1b[31m odd\\n')\nsay('Using network Socket')\nprint('through', flush=True)\nsys.exit(0)")
    path = shared.write("f.py", WORKER % (repr(BEGIN), more))
    r = shared.launch("-N", 1, "--", PYTHON, path, timeout=60)
    assert r.code == 0 and "through" in r.out, r.err


def test_why_speaks_of_each_state(shared):
    nodes = shared.nodes_now()
    hold = shared.detach("-N", len(nodes), "-G", "0", "--", "sleep", "60")
    shared.wait_state(hold, "running")
    r = shared.ctl("why", hold)
    assert r.ok and r.out.startswith("It runs, and nothing is known to be wrong with it."), r.out
    assert re.search(r"^  unknown  which network NCCL uses", r.out, re.M), r.out
    shared.ctl("kill", hold)
    shared.wait_end(hold)
    path = shared.write("bad.py", "raise ValueError('no such thing')\n")
    r = shared.launch("--", PYTHON, path)
    job = int(re.search(r"job (\d+)", r.err).group(1))
    text = " ".join(shared.ctl("why", job).out.split())
    assert text.startswith("It failed: rank 0 (") and "ValueError: no such thing" in text and "Its exit code is 1." in text, text
    assert f"do nodectl logs {job} --rank 0" in text, text
    r = shared.launch("--", "true")
    assert shared.json("why", job + 1)["verdict"] == "It ended well."
    r = shared.ctl("why", 9999)
    assert r.code != 0 and "there is no job 9999" in r.err and not r.out, r
    r = shared.ctl("why", "x")
    assert r.code == 2, r


# NCCL's RAS of 2.28.9: one line an answer, then JSON until the end of the connection. What it was asked goes to a file.
RAS = r'''
import json, socket, threading
def pids():
    open(DIR + "/pid%%d" %% rank, "w").write(str(os.getpid()))
    while not all(os.path.exists(DIR + "/pid%%d" %% r) and open(DIR + "/pid%%d" %% r).read() for r in (0, 1)):
        time.sleep(0.02)
    return [int(open(DIR + "/pid%%d" %% r).read()) for r in (0, 1)]
PIDS = pids()
def counts(n): return {"Broadcast": 1, "Reduce": 0, "AllGather": 0, "ReduceScatter": 0, "AllReduce": n}
def one(r): return {"rank": r, "host": "127.0.0.1", "pid": PIDS[r], "cuda_dev": r, "nvml_dev": r, "status": {"init_state": 0,
                    "async_error": 0, "finalize_called": False, "destroy_flag": False, "abort_flag": False},
                    "collective_counts": counts(216 - r)}
REPLY = {"nccl_version": "2.28.9", "communicators_count": 1, "communicators": [{"hash": "0xa2fc", "size": 2, "ranks_count": 2,
         "missing_ranks_count": 0, "ranks": [one(0), one(1)], "missing_ranks": []}], "ras": {"collection_time_sec": 0.001, "timeouts_count": 0}}
def serve():
    host, port = os.environ["NCCL_RAS_ADDR"].rsplit(":", 1)
    s = socket.create_server((host, int(port)))
    while True:
        k, _ = s.accept()
        f = k.makefile("rwb")
        for line in f:
            line = line.decode().strip()
            open(DIR + "/asked", "a").write(line + "\n")
            if line == "STATUS":
                f.write(json.dumps(REPLY, indent=1).encode())
                f.flush()
                break
            f.write(b"SERVER PROTOCOL 2\n" if line.startswith("CLIENT") else FORMAT if line.startswith("SET") else b"OK\n")
            f.flush()
        f.close()
        k.close()
threading.Thread(target=serve, daemon=True).start()
time.sleep(0.3)
'''
TROUBLE = ('if rank == 0:\n    time.sleep(0.7)\n    say("NET/IB: Got completion from peer 192.0.2.77<51234> with '
           'status=IBV_WC_RETRY_EXC_ERR(12) opcode=IBV_WC_SEND(0) vendor_err=129 hca mlx5_1", True)\n')


def ras_job(c, name, lines=IB, form='b"OK\\n"'):
    d = c.path(name)
    os.mkdir(d)
    return d, start(c, lines, f"DIR = {d!r}\nFORMAT = {form}\n" + RAS.replace("%%", "%") + TROUBLE)


def ras_of(c, job, want):
    def look():
        r = c.json("job", job)["ras"]
        return r if r and want(r) else None
    return wait_until(look, 20, "what RAS said")


def test_on_suspicion_ras_names_the_rank_that_is_behind(shared):
    d, job = ras_job(shared, "ras1")
    r = ras_of(shared, job, lambda r: r["words"])
    node = shared.json("job", job)["nodes"][1]
    assert r["words"] == f"rank 1 on {node} has launched 215 all-reduces, others 216", r
    assert (r["version"], r["collective"], r["count"], r["most"], r["missing"]) == ("2.28.9", "all-reduce", 215, 216, 0), r
    assert open(d + "/asked").read().split("\n") == ["CLIENT PROTOCOL 2", "TIMEOUT 5", "SET FORMAT json", "STATUS", ""], "asked once"
    assert any(f["source"] == "NCCL's RAS" and "215 all-reduces" in f["text"] for f in shared.json("why", job)["seen"])
    assert "has launched 215 all-reduces" in shared.ctl("job", job).out
    shared.ctl("kill", job)
    shared.wait_end(job)


def test_an_nccl_without_json_is_not_asked_for_its_status(shared):
    d, job = ras_job(shared, "ras2", form='b"ERROR: Unknown command set format json\\n"')
    r = ras_of(shared, job, lambda r: r["text"])
    assert r["text"] == "its NCCL is older than 2.28.7, whose RAS does not answer in JSON", r
    assert "STATUS" not in open(d + "/asked").read()
    shared.ctl("kill", job)
    old = [t.replace("2.28.9", "2.21.5") for t in IB]
    d, job = ras_job(shared, "ras3", lines=old)
    r = ras_of(shared, job, lambda r: r["text"])
    assert r["text"].startswith("NCCL 2.21.5 is older than 2.28.7") and not os.path.exists(d + "/asked"), r
    shared.ctl("kill", job)
    half = IB + [INIT[0]]
    d, job = ras_job(shared, "ras4", lines=half)
    r = ras_of(shared, job, lambda r: r["text"])
    assert "a communicator is being made on" in r["text"] and not os.path.exists(d + "/asked"), r
    shared.ctl("kill", job)
    shared.wait_end(job)


# PyTorch's flight recorder: each rank reads its FIFO, and writes its dump when a byte comes
RECORDER = r'''
import pickle, threading
def record():
    pipe = os.environ["TORCH_NCCL_DEBUG_INFO_PIPE_FILE"] + "%d.pipe" % rank
    os.mkfifo(pipe)
    fd = os.open(pipe, os.O_RDWR)
    seq = 61 - rank
    while os.read(fd, 1):
        entry = {"pg_id": 0, "collective_seq_id": seq, "profiling_name": "nccl:all_reduce", "is_p2p": False, "state": "started"}
        dump = {"version": "2.10", "pg_status": {"0": {"last_enqueued_collective": seq, "last_started_collective": seq,
                "last_completed_collective": seq - 1}}, "entries": [dict(entry, collective_seq_id=k) for k in range(1, seq)] + [entry]}
        open(os.environ["TORCH_FR_DUMP_TEMP_FILE"] + str(rank), "wb").write(pickle.dumps(dump, protocol=2))
threading.Thread(target=record, daemon=True).start()
time.sleep(0.3)
'''


def test_where_ras_may_not_be_asked_the_flight_recorders_name_the_rank_that_is_behind(shared):
    old = [t.replace("2.28.9", "2.21.5") for t in IB]
    d = shared.path("recorder")
    os.mkdir(d)
    job = start(shared, old, RECORDER + TROUBLE,
                launch=("--env", "TORCH_FR_BUFFER_SIZE=2000", "--env", f"TORCH_NCCL_DEBUG_INFO_PIPE_FILE={d}/fr_", "--env",
                        f"TORCH_FR_DUMP_TEMP_FILE={d}/dump_"))
    r = ras_of(shared, job, lambda r: r["words"])
    node = shared.json("job", job)["nodes"][1]
    assert r["words"] == f"rank 1 on {node} has enqueued 60 collectives, others 61", r
    assert (r["source"], r["collective"], r["count"], r["most"], r["missing"]) == ("flight recorder", "collective", 60, 61, 0), r
    assert any(f["source"] == "PyTorch's flight recorder" for f in shared.json("why", job)["seen"])
    assert "PyTorch's flight recorder: rank 1 on" in str(shared.json("job", job)["story"])
    shared.ctl("kill", job)
    shared.wait_end(job)


def test_a_flight_recorder_that_is_off_is_said(shared):
    job = start(shared, [t.replace("2.28.9", "2.21.5") for t in IB], TROUBLE)
    r = ras_of(shared, job, lambda r: r["text"] and "flight" in r["text"])
    assert r["text"].endswith("; PyTorch's flight recorder cannot be asked: the job does not set TORCH_NCCL_DEBUG_INFO_PIPE_FILE=/PATH"), r
    shared.ctl("kill", job)
    shared.wait_end(job)
