"""test_history.py - jobs that are over: what is shown of them, how they are picked, how many are kept"""
import getpass
import re
import time

from cluster import wait_until


def ids(cluster, *args):
    return [j["job"] for j in cluster.json("jobs", *args)["jobs"]]


def rows(r):
    head, *lines = r.lines()
    return head.split(), lines


def test_what_has_ended_is_listed_with_its_code_and_can_be_picked(cluster):
    c = cluster(2)
    good = c.detach("--name", "good", "--", "true")
    c.wait_end(good)
    bad = c.detach("--", "sh", "-c", "exit 7")
    c.wait_end(bad)
    time.sleep(1.1)
    between = time.strftime("%Y-%m-%d %H:%M:%S")
    time.sleep(1.1)
    runs = c.detach("-N", 2, "--", "sleep", "1000")
    c.wait_state(runs, "running")

    assert ids(c) == [runs]
    assert ids(c, "--all") == [runs, bad, good]
    assert ids(c, "-s", "failed,lost") == [bad] and ids(c, "--state", "done", "--state", "running") == [runs, good]
    assert ids(c, "--since", between) == [runs] and ids(c, "--since", "1h") == [runs, bad, good]
    assert ids(c, "-a", "-u", getpass.getuser()) == [runs, bad, good]
    assert ids(c, "-a", "-n", "2") == [runs, bad] and ids(c, good, runs) == [runs, good]
    r = c.ctl("jobs", good, 999, runs, 1000)
    assert r.code == 1 and r.err == "nodectl: there are no jobs 999, 1000; nodectl jobs --all lists them\n" and " done " in r.out, r
    r = c.ctl("jobs", 999, "-s", "failed")
    assert r.code == 1 and "there is no job 999;" in r.err and r.out == "", r
    assert c.ctl("jobs", good, "-s", "failed").ok().out == "no such jobs\n"  # it is there
    r = c.ctl("jobs", "--user", "nobody-such")
    assert r.code == 1 and 'there is no user "nobody-such" on this host, and no job of such a user' in r.err, r
    assert c.ctl("jobs", "--user", "daemon").ok().out == "no jobs of daemon; with --all those that have ended\n"

    columns, lines = rows(c.ctl("jobs", "--all", env=dict(c.env, COLUMNS="120")).ok())  # whatever the user's name is
    assert columns == ["JOB", "USER", "NODES", "STATE", "CODE", "RANKS", "TIME", "ENDED", "NAME", "COMMAND"]
    assert re.search(rf"^{bad} .* failed +7 +1 +\S+ +\d\d:\d\d:\d\d +- +sh -c 'exit 7'", lines[1]), lines
    assert re.search(rf"^{good} .* done +0 +1 .* good +true", lines[2]), lines
    assert re.search(rf"^{runs} .* running +- ", lines[0]), lines
    assert "CODE" not in c.ctl("jobs").out  # nothing of it has ended

    for args, word in ((["-s", "fine"], "is no state of a job"), (["-s", "ready"], "is no state of a job: queued preparing running ending"), (["--since", "soon"], "is no time"), (["-n", "0"], "not a number"),
                       (["1x"], "1x")):
        r = c.ctl("jobs", *args)
        assert r.code == 2 and word in r.err, r
    assert "no such jobs" in c.ctl("jobs", "-s", "lost").out
    c.ctl("kill", runs, "--grace", "0s").ok()


def test_of_many_ranks_the_ends_are_counted(cluster):
    c = cluster(1)
    job = c.detach("--procs-per-node", 24, "--", "sh", "-c", '[ "$RANK" = 9 ] && sleep 0.5 && exit 7; exec sleep 1000')
    j = c.wait_end(job)
    ends = {(e["state"], e["code"], e["signal"], e["ours"]): e["ranks"] for e in j["ends"]}
    assert ends == {("exited", 7, None, False): 1, ("killed", None, 15, True): 23}, j["ends"]
    assert [r["rank"] for r in j["ranks"]] == [9] and j["exit_code"] == 7
    text = c.ctl("job", job).ok().out
    assert re.search(r"ends +1 exited with code 7, 23 were ended by us \(1 of 24 kept one by one\)", text), text
    few = c.detach("--procs-per-node", 3, "--", "true")
    j = c.wait_end(few)
    assert len(j["ranks"]) == 3 and [e["ranks"] for e in j["ends"]] == [3]


def test_only_so_many_are_kept_also_over_a_restart(cluster):
    c = cluster(1, args=["--history-jobs=3"])
    jobs = []
    for _ in range(5):
        jobs.append(c.detach("--", "true"))
        c.wait_end(jobs[-1])
    wait_until(lambda: ids(c, "--all") == jobs[:1:-1], 5, "the oldest two are gone")
    before = c.json("jobs", "--all")["jobs"]
    c.stop()
    c.start()
    assert c.json("jobs", "--all")["jobs"] == before
    r = c.ctl("job", jobs[0])
    assert r.code == 1 and f"there is no job {jobs[0]}" in r.err
    assert c.detach("--", "true") == jobs[-1] + 1
