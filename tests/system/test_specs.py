"""Specifications (command and environment) where jobs are submitted: kept while a job may need them, then removed."""
import os
import signal

from cluster import SLOW, kill, wait_until


def specs(c, node):
    return sorted(os.listdir(os.path.join(c.home, "nodes", node, "specs")))


def wait_gone(c, node, what):
    wait_until(lambda: not specs(c, node), 10 * SLOW, f"{what}: {specs(c, node)}")


def test_a_specification_goes_with_the_last_job_that_uses_it(cluster):
    c = cluster(2)
    env = dict(c.env, PWD=c.dir)
    assert c.launch("-N", "2", "--", "true", env=env).ok()
    wait_gone(c, "node1", "one job, over")
    flag = c.path("go")
    script = f"while [ ! -e {flag}$NODEAGENT_JOB ]; do sleep 0.05; done"
    first, second = (c.detach("-w", "node2", "--", "sh", "-c", script, env=env) for _ in range(2))
    assert len(specs(c, "node1")) == 1, "the same command twice is one file"
    assert specs(c, "node2") == []
    c.write(f"go{first}", "")
    c.wait_end(first)
    assert len(specs(c, "node1")) == 1
    c.write(f"go{second}", "")
    c.wait_end(second)
    wait_gone(c, "node1", "both are over")


def test_a_job_that_ends_while_its_submitting_agent_is_away(cluster):
    c = cluster(2)
    flag = c.path("go")
    job = c.detach("-w", "node2", "--", "sh", "-c", f"while [ ! -e {flag} ]; do sleep 0.05; done")
    pid = c.agent_pid("node1")
    kill(pid, signal.SIGSTOP)
    c.write("go", "")
    held = os.path.join(c.home, "run/node2/shims", f"{job}.1.held")  # removed when the coordinator has the end
    wait_until(lambda: not os.path.exists(held), 10 * SLOW, "the job has ended on node2")
    kill(pid, signal.SIGKILL)  # and comes back
    wait_gone(c, "node1", "the job ended meanwhile")
    assert c.wait_end(job)["state"] == "done"


def test_one_user_cannot_fill_the_disk_with_specifications(cluster):
    c = cluster(1, args=["--specs-user-max", "256K"])
    big = dict(c.env, BALLAST="x" * 100_000)
    jobs = [c.detach("--", "sleep", str(100 + i), env=big) for i in range(2)]
    r = c.launch("--", "sleep", "103", env=big)
    assert r.code == 1 and "specs_user_max" in r.err and "0.25 MiB" in r.err, r
    assert len(r.err.strip().splitlines()) == 1, r
    c.ctl("kill", jobs[0]).ok()
    c.wait_end(jobs[0])
    wait_until(lambda: len(specs(c, "node1")) == 1, 10 * SLOW, "the ended job's is gone")
    assert c.launch("--", "true", env=big).ok()
