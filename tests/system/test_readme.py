"""test_readme.py - the sessions that README shows are what is printed"""
import os
import re
import subprocess

from cluster import PYTHON, SLOW, TOP

# raises in line 6, as README has it
TRAIN = """import os, time

rank = int(os.environ["RANK"])
time.sleep(0.5)
if rank == 3:
    raise ValueError("bad batch")
time.sleep(60)
"""


def session(name):
    """The lines that README shows below the launch of train.py."""
    with open(os.path.join(TOP, name), encoding="utf-8") as f:
        text = f.read()
    return re.search(r"^\$ build/nodectl --dir DIR launch [^\n]*-- python3 train\.py\n(.*?)^\$ echo \$\?\n1\n", text,
                     re.M | re.S).group(1)


def plain(text, where):
    """Without what differs from run to run: numbers of job and process, times, the directory."""
    text = text.replace(where, "/tmp/run")
    text = re.sub(r"^job \d+", "job N", text, flags=re.M)
    text = re.sub(r"FAILED [\dm.]+s:", "FAILED T:", text)
    text = re.sub(r"pid \d+", "pid P", text)
    text = re.sub(r"^  cause .*\n", "", text, flags=re.M)  # this host's own troubles
    return re.sub(r"3 by our SIGTERM from .*later", "3 by our SIGTERM from T later", text)


def test_the_failing_job_looks_as_README_has_it(cluster):
    c = cluster(2)
    where = c.path("run")
    os.mkdir(where)
    with open(os.path.join(where, "train.py"), "w", encoding="ascii") as f:
        f.write(TRAIN)
    p = c.popen("launch", "-N", 2, "--procs-per-node", 2, "--", PYTHON, f"{where}/train.py", stderr=subprocess.STDOUT)
    out, _ = p.communicate(timeout=30 * SLOW)
    assert p.returncode == 1
    for name in ("README.md", "README.zh-CN.md"):
        assert plain(out.decode(), where) == plain(session(name), "/tmp/run"), name
