"""test_quickstart.py - what 'make quickstart' runs once everything is built: as root and as an ordinary user"""
import os
import shutil
import subprocess
import tempfile

import pytest

from cluster import BUILD, ROOT, SLOW, TOP, clean_env, marked

PROGRAMS = ("nodeagentd", "nodectl", "nodeagent-shim", "nodeagent-launcher", "nodeagent-probe", "worker-allreduce")
USER = 61234  # of no account


def place(where):
    """The script and the programs where anybody may read them; a TMPDIR that anybody may write to."""
    os.chmod(where, 0o755)
    os.makedirs(f"{where}/tests")
    os.makedirs(f"{where}/build")
    shutil.copy(f"{TOP}/tests/quickstart", f"{where}/tests/quickstart")
    for p in PROGRAMS:
        if os.path.exists(f"{BUILD}/{p}"):
            shutil.copy(f"{BUILD}/{p}", f"{where}/build/{p}")
    os.makedirs(f"{where}/tmp")
    os.chmod(f"{where}/tmp", 0o1777)


@pytest.mark.parametrize("who", ["root", "user"] if ROOT else ["user"])
def test_quickstart_runs_a_real_job_and_leaves_nothing(who):
    # not below pytest's own directory: another run of pytest closes that to other users
    with tempfile.TemporaryDirectory(prefix="naquick", dir="/tmp") as where:
        quickstart(where, who)


def quickstart(where, who):
    place(where)
    drop = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"] if ROOT and who == "user" else []
    env = clean_env(where, TMPDIR=f"{where}/tmp", HOME=f"{where}/tmp")
    p = subprocess.run([*drop, f"{where}/tests/quickstart", "build"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, env=env, text=True, timeout=60 * SLOW, cwd="/")
    assert p.returncode == 0, p.stdout
    for rank in range(4):
        assert any(line.startswith(f"[node{rank // 2 + 1}:{rank}] ") for line in p.stdout.splitlines()), p.stdout
    assert "2 nodes" in p.stdout and "STATE" in p.stdout, p.stdout
    assert os.listdir(f"{where}/tmp") == [] and marked(where) == [], p.stdout
