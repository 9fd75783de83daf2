#!/usr/bin/python3
"""gpu_job_nccl.py BIN [CASE...] - on a host with two NVIDIA GPUs: what is told of NCCL in running jobs, and of those that hang

BIN as for gpu_jobs.py; $PYTHON has PyTorch. Two virtual nodes own one GPU each; another
NCCL_HOSTID for each makes NCCL take its network between them, as between hosts. Each
case says before its run what is to be told, and prints what was told and after how long.
With the NCCL of PyTorch and, where there is one, with another libnccl.so.2 of the system.
A case that fails does not end the run; the last line counts, and the exit code is 1.
"""
import glob
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from gpu_jobs import Cluster, PYTHON, say, smi, until  # noqa: E402

TRAIN = r'''
import os, sys, time, torch, torch.distributed as dist
mode = sys.argv[1]
rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
torch.cuda.set_device(local)
dist.init_process_group("nccl", device_id=torch.device("cuda", local))
x = torch.ones(1 << 22, device="cuda")
for i in range(10 ** 9):
    if rank == 1 and i == 60 and mode == "withheld":
        time.sleep(1000)
    if rank == 0 and i == 60 and mode == "tokenising":
        end = time.monotonic() + 45
        while time.monotonic() < end:
            sum(range(100000))
    dist.all_reduce(x)
    torch.cuda.synchronize()
    if i % 50 == 0:
        print("step", i, flush=True)
    time.sleep(0.02)
'''
WRAP = 'NCCL_HOSTID=$NODEAGENT_NODE exec "$@"'
OTHER = sorted(p for g in ("/usr/lib/x86_64-linux-gnu/libnccl.so.2", "/usr/local/lib/libnccl.so.2", "/usr/lib64/libnccl.so.2")
               for p in glob.glob(g))


class Job:
    def __init__(self, c, mode, *options, preload=None):
        self.c = c
        if preload:
            options += ("--env", f"LD_PRELOAD={preload}")
        self.n = c.detach("-N", 2, "-G", 1, "--per-gpu", *options, "--", "sh", "-c", WRAP, "train", PYTHON, "-c", TRAIN, mode)

    def row(self):
        return self.c.json("job", self.n)

    def steps(self, n, seconds=90):
        """Both ranks have come so far."""
        def look():
            j = self.row()
            assert j["state"] in ("queued", "preparing", "starting", "running"), (j, self.c.ctl("logs", self.n).stdout[-3000:])
            return len(re.findall(rf"\bstep {n}\b", self.c.ctl("logs", self.n).stdout)) == 2
        until(look, seconds, f"step {n}")

    def pid(self, rank):
        return next(r["pid"] for r in self.row()["ranks"] if r["rank"] == rank)

    def hang(self, seconds):
        text, took = until(lambda: self.row()["hang"], seconds, "the hang is told")
        print(f"fig   told after {took:.1f} s: {text}")
        print(f"      power (W, limit), use: {smi('gpu', 'power.draw,power.limit,utilization.gpu')}")
        print(f"      RAS: {self.row()['ras']}")
        print("      why: " + " ".join(self.c.ctl("why", self.n).stdout.split()), flush=True)
        return text

    def end(self):
        self.c.ctl("kill", self.n)
        return until(lambda: (lambda j: j if j["state"] in ("failed", "done", "killed", "cancelled", "ended") else None)(self.row()),
                     60, "it is over")[0]


def with_job(c, mode, f, *options, preload=None):
    j = Job(c, mode, *options, preload=preload)
    try:
        return f(j)
    finally:
        j.end()


def network_is_named(c, preload=None):
    """Expected: NCCL's version, SOCKET!, and that this host has no InfiniBand device."""
    def look(j):
        _, took = until(lambda: (lambda n: n and n["nodes"] == 2 and n["brief"])(j.row()["nccl"]), 90, "NCCL's line")
        j.steps(50)
        n = j.row()["nccl"]
        print(f"fig   {n['brief']} ({took:.1f} s after the launch); reason {n.get('reason')}: {n.get('why')}")
        print("\n".join("      " + x for x in j.c.ctl("status").stdout.splitlines()))
        assert re.match(r"NCCL 2\.\d+\.\d+, SOCKET! ", n["brief"]), n
        assert "not in use" not in str(n), n
        return n["brief"]
    return with_job(c, "go", look, preload=preload)


def another_nccl_is_named(c):
    """Expected: as before, and another version."""
    if not OTHER:
        return print("skip  no other libnccl.so.2 on this host")
    one, two = network_is_named(c), network_is_named(c, OTHER[0])
    assert one.split(",")[0] != two.split(",")[0], (one, two)


def disabled_by_the_user_is_told(c):
    """Expected: the user's NCCL_IB_DISABLE is the reason."""
    def look(j):
        j.steps(0)
        n, _ = until(lambda: (lambda n: n if n and n.get("why") else None)(j.row()["nccl"]), 20, "the reason")
        print(f"fig   {n['brief']}: {n['why']}")
        assert n["reason"] == "user" and "NCCL_IB_DISABLE=1" in n["why"], n
    with_job(c, "go", look, "--env", "NCCL_IB_DISABLE=1")


def withheld_rank_is_named(c, preload=None):
    """Expected: rank 1, within 30 s (it sleeps before its 61st all-reduce, rank 0 waits in it)."""
    def look(j):
        j.steps(50)
        assert re.search(r"\brank 1\b", j.hang(45))
    with_job(c, "withheld", look, preload=preload)


def recorder_names_the_rank(c):
    """Expected: with an NCCL whose RAS may not be asked, PyTorch's flight recorders tell who is behind; the hang is told within 45 s."""
    d = tempfile.mkdtemp(prefix="nafr")
    def look(j):
        j.steps(50)
        text = j.hang(45)
        ras = j.row()["ras"]
        assert ras["source"] == "flight recorder" and "rank 1 on node2" in ras["words"], ras
        # by its counts when three answers have come, by its processes when these come later than that it has rested for 25 s
        assert re.match(r"rank 1 on node2 (has launched \d+ collectives, all others \d+|.* does nothing)", text), text
    try:
        with_job(c, "withheld", look, "--env", "TORCH_FR_BUFFER_SIZE=2000", "--env", "TORCH_NCCL_TRACE_BUFFER_SIZE=2000", "--env",
                 f"TORCH_NCCL_DEBUG_INFO_PIPE_FILE={d}/fr_", "--env", f"TORCH_NCCL_DEBUG_INFO_TEMP_FILE={d}/dump_", preload=OTHER[0])
    finally:
        print(f"      left by PyTorch: {sorted(os.listdir(d))}")
        shutil.rmtree(d)


def stacks_are_told(c):
    """Expected: --on-hang stacks,kill: where the threads of the ranks are, in their standard error, then the job is ended."""
    def look(j):
        j.steps(50)
        j.hang(45)
        _, took = until(lambda: j.row()["state"] not in ("running", "ending"), 90, "it is ended")
        r = j.c.ctl("logs", j.n)
        said = [x for x in (r.stdout + r.stderr).splitlines() if "[nodeagent]" in x]
        print(f"fig   ended {took:.1f} s after it was told; {len(said)} lines of stacks:")
        print("\n".join("      " + x[:150] for x in said[:40]))
        assert len(said) > 4, (said, r.stderr[-2000:])
    with_job(c, "withheld", look, "--on-hang", "stacks,kill")


def search_after_a_hang(c):
    """Expected: rank 1 is stopped while operations run: named at the deadline; it goes on, and the search for who it was ends."""
    got = {}

    def check():
        got["r"] = c.ctl("check", "nccl", "--no-expect", "--no-baseline", "-N", 2, "-G", 1, "--mib", 2048, "--timeout", "5s", "--bisect")
    t = threading.Thread(target=check)
    t.start()
    job = until(lambda: [j["job"] for j in c.json("jobs")["jobs"] if j["state"] == "running"], 30, "it runs")[0][0]
    pid = until(lambda: next((r["pid"] for r in c.json("job", job)["ranks"] if r["rank"] == 1 and r.get("pid")), None), 30, "rank 1")[0]
    until(lambda: str(pid) in [r[0] for r in smi("compute-apps", "pid")], 30, "it has its GPU")
    time.sleep(1.5)
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    time.sleep(9)
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass
    t.join(85)
    r = got["r"]
    print("\n".join("      " + x for x in (r.stdout + r.stderr).splitlines()))
    print(f"fig   the check ended {time.monotonic() - begin:.1f} s after SIGSTOP, exit code {r.returncode}")
    assert r.returncode != 0 and f"pid {pid}" in r.stdout + r.stderr, r


def stopped_rank_is_named(c, preload=None):
    """Expected: rank 1 is stopped, within 30 s; it goes on when it is let."""
    def look(j):
        j.steps(50)
        pid = j.pid(1)
        os.kill(pid, signal.SIGSTOP)
        try:
            text = j.hang(45)
            assert f"(pid {pid}) is stopped" in text and text.startswith("rank 1 "), text
        finally:
            os.kill(pid, signal.SIGCONT)
        _, took = until(lambda: j.row()["hang"] is None, 30, "it goes on")
        print(f"fig   said to go on {took:.1f} s after SIGCONT")
    with_job(c, "go", look, preload=preload)


def killed_rank_is_the_first_cause(c):
    """Expected: rank 1, signal 9; the job is over within seconds."""
    def look(j):
        j.steps(50)
        os.kill(j.pid(1), signal.SIGKILL)
        _, took = until(lambda: j.row()["state"] == "failed", 40, "it is over")
        r = j.row()
        print(f"fig   over after {took:.1f} s: {r.get('why')}")
        assert r["exit_code"] == 137 and "rank 1" in r["why"], r
    with_job(c, "go", look)


def tokenising_rank_is_no_hang(c):
    """Expected: no hang is told in 45 s in which rank 0 computes and rank 1 waits in an all-reduce."""
    def look(j):
        j.steps(50)
        end, phases = time.monotonic() + 42, {}
        while time.monotonic() < end:
            r = j.row()
            phases[r["phase"]] = r.get("phase_note")
            assert r["hang"] is None, r
            time.sleep(1)
        print(f"fig   phases meanwhile: {phases}")
        j.steps(150, 60)
    with_job(c, "tokenising", look)


def steps_in_one_node(c):
    """Expected: both GPUs of one node: no network, so no SOCKET!"""
    j = c.detach("-N", 1, "-G", 2, "--per-gpu", "--", PYTHON, "-c", TRAIN, "go")
    try:
        n, _ = until(lambda: (lambda n: n if n and n["brief"] else None)(c.json("job", j)["nccl"]), 90, "NCCL's line")
        time.sleep(5)
        n = c.json("job", j)["nccl"]
        print(f"fig   inside a node: {n['brief']}")
        assert "SOCKET!" not in n["brief"], n
    finally:
        c.ctl("kill", j)


def two(name, f, *args):
    return name, f, args


CASES = [two("network", network_is_named), two("other", another_nccl_is_named), two("user", disabled_by_the_user_is_told),
         two("withheld", withheld_rank_is_named), two("stopped", stopped_rank_is_named),
         two("killed", killed_rank_is_the_first_cause), two("stacks", stacks_are_told), two("search", search_after_a_hang),
         two("tokenising", tokenising_rank_is_no_hang)]
if OTHER:
    CASES += [two("withheld-other", withheld_rank_is_named, OTHER[0]), two("recorder", recorder_names_the_rank)]


def run(c, cases):
    failed = 0
    for name, f, args in cases:
        begin = time.monotonic()
        print(f"----  {name}: {f.__doc__.split('Expected: ')[1]}", flush=True)
        try:
            f(c, *args)
            say(f"{name} ({time.monotonic() - begin:.1f} s)")
        except (AssertionError, KeyError, StopIteration, TypeError, ValueError):
            traceback.print_exc(limit=3, file=sys.stdout)
            print(f"FAIL  {name}", flush=True)
            failed += 1
    return failed


def main():
    where, only = os.path.abspath(sys.argv[1]), sys.argv[2:]
    work = tempfile.mkdtemp(prefix="nagpu")
    cases = [k for k in CASES if not only or k[0] in only]
    failed = done = 0
    try:
        print(f"      {smi('gpu', 'name,driver_version')}")
        for n, some in (2, cases), (1, [two("one-node", steps_in_one_node)] if not only or "one-node" in only else []):
            c = Cluster(where, work, n)
            try:
                failed += run(c, some)
                done += len(some)
            finally:
                c.stop()
    finally:
        shutil.rmtree(work)
    print(f"{done - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
