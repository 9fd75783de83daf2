"""test_newcomer.py - what somebody meets in the first hours: words, and answers that come soon enough"""


def test_the_name_of_a_job_that_runs_is_shown(cluster):
    c = cluster(2)
    job = c.detach("-N", 2, "--name", "llama-7b-second-try", "--", "sleep", "1000")
    c.wait_state(job, "running")
    other = c.detach("--", "sleep", "1001")
    c.wait_state(other, "running")
    for command in ("jobs", "status"):
        wide = c.ctl(command, env=dict(c.env, COLUMNS="130")).ok().out
        assert "  NAME  " in wide and " llama-7b-second-try " in wide, wide
        narrow = c.ctl(command, env=dict(c.env, COLUMNS="80")).ok().out
        assert " NAME " in narrow and " llama-" in narrow and " sleep 1" in narrow, narrow  # both have room
        assert all(len(line) <= 80 for line in narrow.splitlines()), narrow
