#!/usr/bin/python3
"""gpu_faults.py BIN - on a host with two NVIDIA GPUs or more: what becomes of a training whose rank dies

BIN as for gpu_jobs.py. On two virtual nodes with a GPU each, the real torchrun and
NCCL: a worker is killed and the training goes on at its step in another
attempt; a CUDA error and an illegal memory access are named with their rank;
memory is back before a GPU is released. Prints how long things took. Exit code
1 at the first difference.
"""
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_jobs import Cluster, PYTHON, say, until  # noqa: E402

# counts steps by an all-reduce of both ranks; the checkpoint is rank 0's
TRAIN = """
import json, os, sys, time, torch, torch.distributed as dist
where = sys.argv[1]
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group("nccl")
rank, at = dist.get_rank(), os.path.join(where, "checkpoint")
step, total = json.load(open(at)) if os.path.exists(at) else (0, 0.0)
print(f"attempt {os.environ['NODEAGENT_ATTEMPT']} rank {rank} begins at step {step}", flush=True)
while step < 60:
    x = torch.full((1 << 20,), float(step + rank), device="cuda")
    dist.all_reduce(x)
    step, total = step + 1, total + x[0].item()
    if rank == 0:
        with open(at + ".new", "w") as f:
            json.dump((step, total), f)
        os.replace(at + ".new", at)
        with open(os.path.join(where, "steps"), "a") as f:
            f.write(f"{os.environ['NODEAGENT_ATTEMPT']} {step} {time.time()}\\n")
    time.sleep(0.1)
print(f"done, total {total}", flush=True)
dist.destroy_process_group()
"""

# rank 1 asks for an element that is not there
ASSERTS = """
import os, torch, torch.distributed as dist
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group("nccl")
x = torch.ones(8, device="cuda")
dist.all_reduce(x)
if dist.get_rank() == 1:
    x[torch.tensor([99], device="cuda")].sum().item()
dist.all_reduce(x)
torch.cuda.synchronize()
"""

# rank 1 writes where no memory is: the driver reports an Xid
WILD = """
import os, torch, triton, triton.language as tl
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
@triton.jit
def wild(p):
    tl.store(p + 1099511627776, 1.0)
x = torch.ones(8, device="cuda")
torch.cuda.synchronize()
if int(os.environ["RANK"]) == 1:
    wild[(1,)](x)
    torch.cuda.synchronize()
import time
time.sleep(60)
"""

HOLDS = "import torch, signal; x = torch.ones(5 << 30, device='cuda'); torch.cuda.synchronize(); print('have it', flush=True); signal.pause()"


def script(work, name, text):
    path = os.path.join(work, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def torchrun(*args):
    return [PYTHON, "-m", "torch.distributed.run", *args]


def steps(work):
    try:
        with open(os.path.join(work, "steps")) as f:
            return [(int(a), int(s), float(t)) for a, s, t in (line.split() for line in f)]
    except OSError:
        return []


def goes_on(c, work):
    job = c.detach("-N", 2, "--max-restarts", 2, "--restart-on", "any", "--grace", "2s", "--",
                   *torchrun(script(work, "train.py", TRAIN), work))
    until(lambda: len(steps(work)) > 20, 180, "20 steps are done")
    told = c.json("job", job)
    workers = [w for r in told["ranks"] for w in r.get("workers", [])] or told.get("workers", [])
    pid = [w["pid"] for w in workers if w["rank"] == 1]
    assert pid, told
    begin = time.time()
    os.kill(pid[0], signal.SIGKILL)
    until(lambda: any(a == 2 for a, _, _ in steps(work)), 180, "a second attempt makes a step")
    took = [t for a, _, t in steps(work) if a == 2][0] - begin
    until(lambda: c.json("job", job)["state"] in ("done", "failed"), 120, "it has ended")
    text = c.ctl("job", job).stdout
    told = c.json("job", job)
    print(text)
    last = max(s for a, s, _ in steps(work) if a == 1)
    first = min(s for a, s, _ in steps(work) if a == 2)
    assert told["state"] == "done" and first == last + 1, (told["state"], last, first)
    # 2 step + 1 for each of 60 steps, whatever was in between
    with open(os.path.join(work, "checkpoint")) as f:
        assert json.load(f) == [60, float(sum(2 * s + 1 for s in range(60)))]
    why = told["attempts"][0]["why"]
    assert "rank 1 " in why and "signal 9" in why, told["attempts"]
    say(f"worker killed after step {last}; {took:.1f} s later attempt 2 had done step {first}, and the sum is right: {why}")


def is_named(c, work, name, text, seconds, *want):
    job = c.detach("-N", 2, "--grace", "2s", "--", *torchrun(script(work, name, text)))
    until(lambda: c.json("job", job)["state"] == "failed", seconds, f"{name} has failed")
    time.sleep(3) # the driver's word may come after the end
    print(c.ctl("job", job).stdout)
    told = c.json("job", job)
    out = " ".join(str(told[k]) for k in ("first", "exception", "cause", "either", "others"))
    for w in want:
        assert re.search(w, out), (w, out, c.ctl("logs", job).stdout[-3000:])
    return out


def one_after_the_other(c):
    """How long a job on both GPUs waits for the memory of the one before it."""
    took = []
    for _ in range(6):
        begin = time.monotonic()
        r = c.ctl("launch", "-N", 2, "--", PYTHON, "-c", "import torch; x = torch.ones(1 << 30, device='cuda'); torch.cuda.synchronize()")
        assert r.returncode == 0, r
        job = max(j["job"] for j in c.json("jobs", "--all")["jobs"])
        told = c.json("job", job)
        took.append((told["start_ms"] - told["submit_ms"]) / 1000)
        print("     ", [(m["node"], m["text"]) for m in told["story"] if "released" in m["text"]], f"{time.monotonic() - begin:.1f} s")
    say("jobs on both GPUs, one after the other, waited " + " ".join(f"{t:.2f}" for t in took) + " s for their GPUs")


def memory(c):
    job = c.detach("-w", "node1", "-G", 1, "--", PYTHON, "-c", HOLDS)
    c.have(job)
    used = until(lambda: max(int(g["mem_used"] or 0) for g in c.gpus()) >> 30 >= 20 and
                 max(int(g["mem_used"]) for g in c.gpus()), 30, "its memory is seen")[0]
    c.ctl("kill", job, "--grace", "0s")
    told = until(lambda: [m for m in c.json("job", job)["story"] if "released" in m["text"]], 40, "its GPU is released")[0]
    say(f"{used / 1e9:.0f} GB are given back: {told[0]['text']}")


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    work = tempfile.mkdtemp(prefix="nagf")
    c = Cluster(os.path.abspath(sys.argv[1]), work, 2)
    try:
        memory(c)
        one_after_the_other(c)
        goes_on(c, work)
        is_named(c, work, "asserts.py", ASSERTS, 180, r"rank 1 ", r"Error: .*device-side assert")
        say("a device-side assert is named with its rank")
        try:
            import triton  # noqa: F401
        except ImportError:
            print("skip  an illegal access: no Triton here")
            return 0
        out = is_named(c, work, "wild.py", WILD, 180, r"rank 1 ", r"illegal memory access")
        say("an illegal memory access is named with its rank" + ("; so is its Xid" if "Xid" in out else "; no Xid was seen"))
    except AssertionError as e:
        print(f"FAILED {e}")
        with open(os.path.join(work, "log2"), encoding="utf-8", errors="replace") as f:
            print(f.read()[-3000:])
        raise
    finally:
        c.stop()
        shutil.rmtree(work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
