#!/usr/bin/python3
"""make_tapes.py - records the conversations of today's agent and shim into golden/shim-N (once for each new N)

    NODEAGENT_BUILD=build make_tapes.py N
"""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Site  # noqa: E402
from test_tapes import HERE, JOBS  # noqa: E402

INTO = os.path.join(HERE, "golden", f"shim-{int(sys.argv[1])}")


def record(name, args):
    s = Site()
    try:
        os.chmod(s.dir, 0o755)
        os.mkdir(s.path("tapes"))
        os.chmod(s.path("tapes"), 0o777)
        for part in ("shim_tape.py", "wire.py"):
            with open(os.path.join(HERE, part), encoding="utf-8") as f:
                s.write(part, f.read())
        shim = s.write("shim", f"#!/bin/sh\nexec /usr/bin/python3 -B {s.path('shim_tape.py')} record {s.path('tapes', name)} "
                               f"{s.bin}/nodeagent-shim \"$@\"\n", 0o755)
        s.head()
        s.node("n1", conf=f"[agent]\nshim = {shim}\nprobe = no\n")
        if name == "killed":
            job = s.detach(*args)
            s.wait_state(job, "running")
            time.sleep(0.3)
            s.ctl("logs", job).ok()
            s.ctl("kill", "--grace", "3s", job).ok()
            s.wait_end(job)
        else:
            s.ctl("launch", *args, input=b"hello\n" if "--stdin" in args else None)
        time.sleep(1)
        with open(s.path("tapes", name), encoding="utf-8") as tape, open(f"{INTO}/{name}.tape", "x", encoding="utf-8") as f:
            f.write(tape.read())
    finally:
        s.finish()
        s.remove()


os.makedirs(INTO, exist_ok=True)
for job_name, (job_args, _) in JOBS.items():
    record(job_name, job_args)
