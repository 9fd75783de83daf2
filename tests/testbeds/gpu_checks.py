#!/usr/bin/python3
"""gpu_checks.py BIN - on a host with NVIDIA GPUs that are well: no check of them warns, and what each reads is printed

BIN as for gpu_jobs.py. Exit code 1 when a check warns, or one that should be read on these GPUs is not.
"""
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from gpu_jobs import Cluster, say, smi, until  # noqa: E402

READ = {"gpu.xid", "gpu.ecc", "gpu.remap", "gpu.throttle", "gpu.temp", "gpu.pcie", "gpu.mode", "gpu.driver"}


def main():
    work = tempfile.mkdtemp(prefix="nagpu")
    try:
        print(f"      {smi('gpu', 'name,driver_version')}")
        c = Cluster(os.path.abspath(sys.argv[1]), work, 1)
        try:
            until(lambda: {r["verdict"] for r in c.json("check", "gpu.temp")["checks"]} == {"ok"}, 20, "GPUs are read")
            rows = c.json("check", "gpu.", "-v")["checks"]
            for r in rows:
                print(f"      {r['id']:<18} {r.get('what') or '':<8} {r['verdict']:<8} {r.get('reading') or ''} {r.get('text') or ''}")
            print(c.ctl("check").stdout)
            assert not [r for r in rows if r["verdict"] in ("warn", "bad")]
            assert READ <= {r["id"] for r in rows if r["verdict"] == "ok"}, READ - {r["id"] for r in rows if r["verdict"] == "ok"}
            say(f"no check of {len(smi('gpu', 'name'))} GPUs warns")
        finally:
            c.stop()
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
