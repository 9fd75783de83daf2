#!/usr/bin/python3
"""faketorchrun.py [options] NPROC -- SCRIPT ARGS: starts workers as torchrun does, for the tests

Workers get RANK, LOCAL_RANK, WORLD_SIZE and an error file of their own. The first that fails ends
the others with SIGTERM; then a summary like torchrun's and a traceback go to standard error, and 1
is the exit code. It reaps its workers at once, as torchrun does.

  --quiet          no summary, no traceback
  --no-files       without TORCHELASTIC_ERROR_FILE
  --redirect DIR   standard error of each worker to DIR/LOCAL_RANK.err
  --slow S[:NODE]  so long between the others' end and its own (on that node)
  --restarts N     that many tries more
"""
import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time

p = argparse.ArgumentParser()
p.add_argument("nproc", type=int)
p.add_argument("--quiet", action="store_true")
p.add_argument("--no-files", action="store_true")
p.add_argument("--redirect")
p.add_argument("--slow", default="0")
p.add_argument("--restarts", type=int, default=0)
p.add_argument("command", nargs=argparse.REMAINDER)
a = p.parse_args()
command = [w for w in a.command if w != "--"]
node, nodes = int(os.environ.get("NODE_RANK", 0)), int(os.environ.get("NNODES", 1))
folder = tempfile.mkdtemp(prefix="faketorchrun_", dir=os.environ.get("NA_TEST_MARK"))


def start(local, restart):
    env = dict(os.environ, RANK=str(node * a.nproc + local), LOCAL_RANK=str(local), WORLD_SIZE=str(nodes * a.nproc),
               LOCAL_WORLD_SIZE=str(a.nproc), GROUP_RANK=str(node), TORCHELASTIC_RUN_ID="none",
               TORCHELASTIC_RESTART_COUNT=str(restart))
    if not a.no_files:
        env["TORCHELASTIC_ERROR_FILE"] = os.path.join(folder, f"{restart}.{local}.json")
    err = open(os.path.join(a.redirect, f"{local}.err"), "ab") if a.redirect else None
    return subprocess.Popen([sys.executable, *command], env=env, stderr=err)


def summary(workers, first):
    bad = [k for k, w in enumerate(workers) if w.returncode and k != first]
    print("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n" + "=" * 60 +
          "\ntrain.py FAILED\n" + "-" * 60 + "\nFailures:" + ("" if bad else "\n  <NO_OTHER_FAILURES>"), file=sys.stderr)
    for n, k in enumerate(bad + [first]):
        if k == first:
            print("-" * 60 + "\nRoot Cause (first observed failure):", file=sys.stderr)
        print(f"[{n}]:\n  time      : 2026-11-25_17:26:56\n  host      : here\n  rank      : {node * a.nproc + k} (local_rank: {k})\n"
              f"  exitcode  : {workers[k].returncode} (pid: {workers[k].pid})\n  error_file: <N/A>\n"
              "  traceback : To enable traceback see: the documents", file=sys.stderr)
    print("=" * 60, file=sys.stderr, flush=True)


stop = []
signal.signal(signal.SIGTERM, lambda s, f: stop.append(s))
for restart in range(a.restarts + 1):
    workers = [start(k, restart) for k in range(a.nproc)]
    while not stop and not any(w.poll() for w in workers) and any(w.poll() is None for w in workers):
        time.sleep(0.002)
    first = next((k for k, w in enumerate(workers) if w.returncode), None)
    for w in workers:
        if w.poll() is None:
            w.terminate()
    for w in workers:
        w.wait()
    if stop or first is None:
        break
if not stop and first is None:
    sys.exit(0)
slow, _, where = a.slow.partition(":")
if where in ("", str(node)):
    time.sleep(float(slow))
if stop:
    sys.exit(1)
if not a.quiet:
    print('Traceback (most recent call last):\n  File "/opt/bin/torchrun", line 8, in <module>\n    sys.exit(main())',
          file=sys.stderr)
    summary(workers, first)
sys.exit(1)
