"""checkpoint.py BUILD PYTHON - see checkpoint.sh"""
import os
import re
import shutil
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/system"))
if len(sys.argv) > 1:
    os.environ["NODEAGENT_BUILD"] = sys.argv[1]
from cluster import Reader, Site, alive, children, cmdline, kill, proc_text, wait_until  # noqa: E402

PYTHON = os.path.abspath(sys.argv[2])  # not resolved: it is a link into its environment
STEPS, EVERY, PAUSE = 120, 5, 0.1
LOST = 6  # node_lost_timeout, s


def interpreter(site):
    """The command that runs PyTorch as the cluster's user. A Python in root's home cannot be that: then the system's, if it is the same."""
    if subprocess.run([*site.drop, "test", "-x", PYTHON]).returncode == 0:
        return [PYTHON], []
    where = subprocess.run([PYTHON, "-c", "import os,torch;print(os.path.dirname(os.path.dirname(torch.__file__)))"], capture_output=True,
                           text=True, check=True).stdout.strip()
    test = subprocess.run([*site.drop, "/usr/bin/python3", "-c", "import torch"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": where})
    assert test.returncode == 0, f"{PYTHON} is not for other users, and /usr/bin/python3 cannot use its PyTorch: {test.stderr[-300:]}"
    return ["/usr/bin/python3"], ["--env", f"PYTHONPATH={where}"]


def work_dir(site, name):
    d = site.path(name)
    os.mkdir(d)
    os.chmod(d, 0o777)
    return d


def train(site, d, *options):
    script = site.path("train.py")
    if not os.path.exists(script):
        shutil.copy(os.path.join(TOP, "tests/testbeds/checkpoint_train.py"), script)
        os.chmod(script, 0o644)
    python, env = interpreter(site)
    return site.popen("launch", "-N", 2, "--grace", "2s", *env, *options, "--", *python, "-m", "torch.distributed.run",
                      "--nproc-per-node", 1, script, d, STEPS, EVERY, PAUSE)


def steps_of(d):
    """[(attempt, step, loss)] as rank 0 has done them."""
    if not os.path.exists(f"{d}/steps"):
        return []
    with open(f"{d}/steps", encoding="ascii") as f:
        return [(int(a), int(s), x) for a, s, x in (line.split() for line in f if line.endswith("\n"))]


def weights(text):
    return re.search(r"weights ([0-9a-f]{64}) loss (\S+)", text).groups()


def below(pid):
    found = children(pid)
    for child in list(found):
        found += below(child)
    return found


def kill_node(site, job, node, agent):
    """Its agent, its shim and all that runs below, as when the power goes; each is looked at before it is killed."""
    pid = next(r["pid"] for r in site.job(job)["ranks"] if r["node"] == node)
    shim = int(proc_text(pid, "stat").decode("latin1").rsplit(")", 1)[1].split()[1])
    assert cmdline(shim).startswith("nodeagent-shim"), cmdline(shim)
    ranks = below(shim)
    assert pid in ranks and any("train.py" in cmdline(p) for p in ranks)
    agent.kill()
    for p in [shim, *ranks]:
        kill(p)
    wait_until(lambda: not [p for p in ranks if alive(p)], 10, "nothing of the node lives")


def check(what, good):
    print(f"  {'ok  ' if good else 'FAIL'} {what}", flush=True)
    return [] if good else [what]


def main():
    version = subprocess.run([PYTHON, "-c", "import torch;print(torch.__version__)"], capture_output=True, text=True, check=True)
    print(f"a training with torchrun of PyTorch {version.stdout.strip()}: {STEPS} steps, a checkpoint every {EVERY}")
    site, bad = Site(), []
    try:
        site.head(conf=f"[coordinator]\nnode_lost_timeout = {LOST}s\n")
        agents = {f"a{i}": site.node(f"a{i}") for i in (1, 2, 3)}
        plain = work_dir(site, "plain")
        p = train(site, plain)
        out, err = p.communicate(timeout=300)
        assert p.returncode == 0, err
        want = weights(out.decode())

        d = work_dir(site, "faulted")
        begin = time.monotonic()
        p = train(site, d, "--max-restarts", 3)
        out, err = Reader(p.stdout), Reader(p.stderr)
        job = int(err.wait(r"job (\d+)", 30).group(1))
        wait_until(lambda: len(steps_of(d)) > 42, 120, "it is at step 42")
        kill_node(site, job, "a2", agents["a2"])
        at, done = time.monotonic(), max(s for _, s, _ in steps_of(d)) + 1
        wait_until(lambda: any(a == 2 for a, _, _ in steps_of(d)), 120, "it goes on")
        print(f"       node a2 killed at step {done}; the next attempt did its first step {time.monotonic() - at:.1f} s later")
        p.wait(300)
        out.thread.join(10)
        text, log = out.data.decode(), steps_of(d)
        j = site.job(job)
        first = [s for a, s, _ in log if a == 2][0]
        done = max(s for a, s, _ in log if a == 1) + 1
        losses = {}
        for _, s, x in log:
            losses.setdefault(s, set()).add(x)
        bad += check(f"the job is done: exit code {p.returncode}, {j['restarts']} restart, on {','.join(j['nodes'])}",
                     p.returncode == 0 and j["restarts"] == 1 and "a2" not in j["nodes"])
        bad += check(f"it went on at step {first}: the last checkpoint before step {done}", first == done - done % EVERY and first > 0)
        bad += check(f"every step was done, and again only those since the checkpoint ({len(log) - STEPS})",
                     set(losses) == set(range(STEPS)) and len(log) - STEPS == done - first)
        bad += check("what was done twice had the same loss, bit for bit", all(len(x) == 1 for x in losses.values()))
        bad += check(f"weights and loss are those of a run without a fault: {want[0][:16]}.. {want[1]}", weights(text) == want)
        print(f"       all of it took {time.monotonic() - begin:.1f} s")
    finally:
        site.finish()
        site.remove()
    print(f"{5 - len(bad)} of 5 as they should be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
