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


def test_one_class_of_faults_installs_what_its_bed_needs_and_no_more(tmp_path):
    """apt-get and what it needs are stubs that write down what they are asked for; nothing counts as installed."""
    for name in "apt-get", "tee", "chmod", "rm", "systemctl", "sudo":
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} \"$@\" >>{tmp_path}/asked\n", encoding="ascii")
    (tmp_path / "dpkg-query").write_text("#!/bin/sh\necho none\n", encoding="ascii")
    (tmp_path / "id").write_text("#!/bin/sh\necho 0\n", encoding="ascii")
    for f in tmp_path.iterdir():
        f.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"}

    def run(*args):
        return subprocess.run(args, cwd=TOP, env=env, capture_output=True, text=True, timeout=60, check=False)

    def beds(only):
        return run("/usr/bin/python3", "-B", "tests/diagnosis/run.py", "--only", only, "--beds").stdout.split()

    assert beds("gpu-xid-79,ib-flap") == ["nodes"] and beds("sm-back") == ["ibsim"]
    assert run("/usr/bin/python3", "-B", "tests/diagnosis/run.py", "--only", "nosuch", "--beds").returncode != 0
    assert run("tests/deps.sh", "bed-nodes").returncode == 0 and not (tmp_path / "asked").exists()
    assert run("tests/deps.sh", "bed-ibsim").returncode == 0
    asked = (tmp_path / "asked").read_text(encoding="ascii")
    assert "apt-get install" in asked and " ibsim-utils " in asked and "qemu" not in asked and "nftables" not in asked, asked
