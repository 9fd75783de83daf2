"""test_containers.py - 'docker run' in a job is said: what it starts is the daemon's and does not end with the job"""
import os
import time

from cluster import SLOW, wait_until


def notices(c, job):
    return c.job(job)["notices"]


def test_a_script_that_runs_docker_is_told_with_its_rank_and_remedy(shared):
    docker = shared.path("docker")
    with open(docker, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nsleep 1000\n:\n")
    os.chmod(docker, 0o755)
    script = f"[ $RANK = 1 ] && {docker} run --gpus all train:1 --steps 5; sleep 1000"
    job = shared.detach("-N", 2, "--grace", "0s", "--", "sh", "-c", script)
    wait_until(lambda: notices(shared, job), 15 * SLOW, "it is said")
    said = notices(shared, job)
    assert len(said) == 1 and "rank 1 runs 'docker run --gpus all train:1 --steps 5'" in said[0], said
    assert "does not end with it" in said[0] and "podman" in said[0]
    time.sleep(4)
    assert notices(shared, job) == said, "once"
    assert "docker run" in shared.ctl("job", job).out
    shared.ctl("kill", job).ok()
    shared.wait_end(job, 20 * SLOW)


def test_other_commands_of_docker_say_nothing(shared):
    docker = shared.path("docker")
    with open(docker, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nsleep 1000\n:\n")
    os.chmod(docker, 0o755)
    job = shared.detach("--grace", "0s", "--", docker, "logs", "-f", "x")
    time.sleep(4)
    assert notices(shared, job) == []
    shared.ctl("kill", job).ok()
    shared.wait_end(job, 20 * SLOW)
