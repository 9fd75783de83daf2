"""test_cluster.py - init, tokens, join, configuration; silence and death of nodes; daemons started one by one"""
import json
import os
import re
import signal
import socket
import stat
import time

import pytest

from cluster import PYTHON, SLOW, Reader, Site, alive, cmdline, free_port, kill, marked, wait_until


def sentence(r, *words):
    """A refusal: not zero, a short text for people that has these words."""
    assert r.code != 0, r
    assert 1 <= len(r.err.strip().splitlines()) <= 6, r
    for w in words:
        assert re.search(w, r.err, re.I), f"{w!r} is not in {r}"
    return r


# ---- making it ----------------------------------------------------------


def test_two_nodes_join_and_run_a_job(site):
    site.head()
    site.node("a1")
    site.node("a2")
    r = site.launch("-N", 2, "--", "sh", "-c", "echo $NODE_RANK of $NNODES").ok()
    assert r.by_rank() == {0: "0 of 2\n", 1: "1 of 2\n"}
    for path in ("head/key.pem", "a1/key.pem"):
        assert stat.S_IMODE(os.stat(site.path(path)).st_mode) == 0o600


def test_init_twice_is_refused_and_changes_nothing(site):
    site.head()
    before = open(site.path("head", "cert.pem"), encoding="ascii").read()
    sentence(site.run(site.nodeagentd, "init", "--dir", site.path("head"), "--listen", site.address), "already")
    assert open(site.path("head", "cert.pem"), encoding="ascii").read() == before


def test_token_create_prints_the_command_and_apart_from_it_the_token(site):
    site.head()
    r = site.admin("token", "create").ok()
    assert "nodeagentd join" in r.out and site.address in r.out
    token = site.token()
    joins = [line for line in r.lines() if "nodeagentd join" in line]
    assert joins and all(len(w) < 60 for line in joins for w in line.split()), "no secret on a command line"
    assert len(token) > 40


def test_wrong_used_and_expired_tokens(site):
    site.head()
    token = site.token()
    wrong = token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "BBBBBB")
    sentence(site.join("a1", wrong), "token")
    sentence(site.join("a1", "rubbish"), "token")
    sentence(site.join("a1", ""), "token")
    site.join("a1", token).ok()
    sentence(site.join("a2", token), "token", "used|uses|not known|unknown")
    short = site.token("--ttl", "1s")
    time.sleep(1.2)
    sentence(site.join("a2", short), "token", "expired")
    many = site.token("--uses", "2")
    site.join("a2", many).ok()
    site.join("a3", many).ok()
    sentence(site.join("a4", many), "token")


def test_a_token_is_good_for_the_named_nodes_only(site):
    site.head()
    token = site.token("--nodes", "gpu[01-02]")
    sentence(site.join("a1", token), "a1")
    site.join("gpu02", token).ok()


def test_a_second_node_of_the_same_name_is_refused(site):
    site.head()
    site.node("a1")
    sentence(site.join("a1", site.token(), dir=site.path("other")), "a1", "--name|name")
    assert site.state("a1") == "ok"


def test_the_token_is_for_this_coordinator_only(site):
    """Another machine at the same address cannot pass for the coordinator: its key is not the token's."""
    other = Site()
    try:
        other.head()
        site.head()
        sentence(site.join("a1", site.token(), address=other.address), "key|coordinator|token")
    finally:
        left = other.finish()
        other.remove()
    assert not left


def test_a_node_with_another_key_is_not_let_in(site):
    site.head()
    site.node("a1")
    site.node("a2")
    site.stop_daemon("a2")
    for name in ("key.pem", "cert.pem"):
        os.unlink(site.path("a2", name))
    # a key that nobody enrolled
    site.run("sh", "-c", "openssl req -x509 -newkey ed25519 -nodes -subj /CN=x -days 3650 -keyout $0/key.pem -out $0/cert.pem",
             site.path("a2"))
    site.daemon("a2", "--agent", "--dir", site.path("a2"))
    time.sleep(1.5)
    assert site.state("a2") in ("down", "unreachable")
    text = open(site.path("a2.log"), encoding="utf-8").read()
    assert re.search(r"key|join|enrol", text), text


def test_joining_nobody_says_so_in_time(site):
    site.head()
    token = site.token()
    sentence(site.join("a1", token, address=f"127.0.0.1:{free_port()}"), "refused|connect", "start the coordinator",
             "HOST:PORT")
    sentence(site.join("a1", token, address="nosuch.invalid:70"), "nosuch.invalid", "look at the name")


def test_the_token_may_come_from_standard_input_but_never_from_the_command_line(site):
    site.head()
    token = site.token()
    r = site.run(site.nodeagentd, "join", site.address, token, "--name", "a1", "--dir", site.path("a1"))
    assert r.code != 0
    site.run(site.nodeagentd, "join", site.address, "--name", "a1", "--dir", site.path("a1"), input=(token + "\n").encode()).ok()


def test_secrets_are_in_no_log_and_readable_by_nobody_else(site):
    site.head()
    token = site.token()
    site.join("a1", token).ok()
    site.agent("a1")
    for folder, _, names in os.walk(site.dir):
        for name in names:
            path = os.path.join(folder, name)
            if not stat.S_ISREG(os.lstat(path).st_mode) or name == "token":
                continue
            with open(path, "rb") as f:
                assert token.encode() not in f.read(), path
            if name.endswith((".pem", ".db", ".ini")):
                assert not os.stat(path).st_mode & 0o077 or name == "cert.pem", path


# ---- configuration -------------------------------------------------------


@pytest.mark.parametrize("text, words", [
    ("[agent]\nlisten = 127.0.0.1\ncolour = blue\n", [r":3\b", "colour"]),
    ("[sauce]\nx = 1\n", [r":\d", "sauce"]),
    ("[coordinator]\n\n\nheartbeat = soon\n", [r":4\b", "heartbeat"]),
    ("[coordinator]\nheartbeat = 1d\n", [r":2\b", "heartbeat"]),
    ("hello\n", [r":1\b"]),
])
def test_a_bad_configuration_is_refused_with_file_and_line(site, text, words):
    conf = site.conf("bad", text)
    r = site.run(site.nodeagentd, "--standalone", "--dir", site.path("c"), "--config", conf)
    sentence(r, re.escape(conf), *words)


def test_a_configuration_that_is_not_there_is_refused_when_named(site):
    sentence(site.run(site.nodeagentd, "--standalone", "--dir", site.path("c"), "--config", "/no/such/file"), "/no/such/file")


def test_the_sample_configuration_is_accepted(cluster):
    from cluster import TOP
    sample = os.path.join(TOP, "systemd", "nodeagentd.conf")
    c = cluster(1, args=["--config", sample])
    c.launch("--", "true").ok()


def test_sample_and_manual_name_every_key(site):
    """The keys of nodeagentd --help, of the sample and of nodeagentd.conf(5) are the same."""
    from cluster import TOP
    said = site.run(site.nodeagentd, "--help").ok().out
    keys = {}
    for part, section in (("\nCoordinator", "coordinator"), ("\nAgent", "agent")):
        text = said.split(part, 1)[1].split("\n\n", 1)[0]
        keys[section] = sorted(w.replace("-", "_") for w in re.findall(r"^  --([a-z-]+)", text, re.M))
    sample = {}
    with open(os.path.join(TOP, "systemd", "nodeagentd.conf"), encoding="utf-8") as f:
        for line in f:
            if line.startswith("["):
                section = line.strip("[]\n")
            m = re.match(r"#?(\w+) = ", line)
            if m:
                sample.setdefault(section, []).append(m.group(1))
    assert {s: sorted(v) for s, v in sample.items()} == keys
    with open(os.path.join(TOP, "docs", "man", "nodeagentd.conf.5"), encoding="utf-8") as f:
        page = re.findall(r"^\.It Cm (\w+)", f.read(), re.M)
    assert sorted(page) == sorted(keys["coordinator"] + keys["agent"])


def test_unknown_options_are_named(site):
    for args in (["--nonsense"], ["--standalone"], ["frobnicate"], ["join"], ["--standalone", "--virtual-nodes", "x", "--dir", "/tmp/x"]):
        r = site.run(site.nodeagentd, *args)
        assert r.code != 0 and r.err.strip(), r


def test_a_taken_port_is_a_sentence(site):
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        site.run(site.nodeagentd, "init", "--dir", site.path("head"), "--listen", f"127.0.0.1:{port}").ok()
        r = site.run(site.nodeagentd, "--coordinator", "--dir", site.path("head"))
        sentence(r, str(port), "in use")


# ---- silence and death ---------------------------------------------------


def job_on(site, node, script="echo up; exec sleep 100"):
    job = site.detach("-w", node, "--", "sh", "-c", script)
    site.wait_state(job, "running")
    return job, site.job(job)["ranks"][0]["pid"]


def test_a_silent_node_is_unreachable_in_4_s_and_its_job_untouched(site):
    site.head()
    site.node("a1")
    a2 = site.node("a2")
    job, pid = job_on(site, "a2")
    os.kill(a2.pid, signal.SIGSTOP)
    start = time.monotonic()
    wait_until(lambda: site.state("a2") == "unreachable", 4 + 1, "shown unreachable")
    assert time.monotonic() - start <= 4.3
    assert alive(pid) and site.job(job)["state"] == "running"
    line = [x for x in site.ctl("status").ok().lines() if x.startswith("a2")]
    assert line and "unreachable" in line[0]
    time.sleep(2)
    assert alive(pid) and site.job(job)["state"] == "running"
    os.kill(a2.pid, signal.SIGCONT)
    wait_until(lambda: site.state("a2") == "ok", 10, "back again")
    assert alive(pid) and site.job(job)["state"] == "running"


def test_the_coordinators_log_tells_each_transition(site):
    site.head()
    site.node("a1")
    a2 = site.node("a2")
    job, _ = job_on(site, "a2", "sleep 100; echo SECRETWORD")
    os.kill(a2.pid, signal.SIGSTOP)
    wait_until(lambda: site.state("a2") == "unreachable", 6, "shown unreachable")
    os.kill(a2.pid, signal.SIGCONT)
    wait_until(lambda: site.state("a2") == "ok", 10 * SLOW, "back again")
    site.ctl("kill", job, "--grace", "1s").ok()
    site.wait_end(job)
    with open(site.path("head.log"), encoding="utf-8") as f:
        log = f.read()
    for words in (r"node a2: down -> ok \(registered from 127\.0\.0\.1\)", r"node a2: ok -> unreachable \(silent for [34]\.\d s\)",
                  r"node a2: unreachable -> ok \(", rf"job {job}: new -> preparing \(of \S+, from a1: 1 node, 1 process each\)",
                  rf"job {job}: preparing -> running$", rf"job {job}: running -> ending$", rf"job {job}: ending -> failed \(exit code 143\)$"):
        assert len(re.findall(words, log, re.M)) == 1, (words, log)
    assert "SECRETWORD" not in log


def test_a_dead_agent_is_down_at_once_and_its_job_untouched(site):
    site.head()
    site.node("a1")
    a2 = site.node("a2")
    job, pid = job_on(site, "a2", "sleep 4; echo late; exit 5")
    a2.kill()
    start = time.monotonic()
    wait_until(lambda: site.state("a2") == "down", 1 * SLOW, "shown down")
    assert alive(pid) and site.job(job)["state"] == "running"
    a2.wait()
    site.agent("a2")
    j = site.wait_end(job)
    assert (j["state"], j["exit_code"]) == ("failed", 5)
    assert site.ctl("logs", job).ok().out == "late\n"


def test_a_node_lost_for_too_long_fails_its_job(site):
    site.head(conf="[coordinator]\nnode_lost_timeout = 6s\n")
    site.node("a1")
    a2 = site.node("a2")
    p = site.popen("launch", "-w", "a1,a2", "--", "sh", "-c", "echo up; exec sleep 100")
    out, err = Reader(p.stdout), Reader(p.stderr)
    out.wait(r"a2:1\] up")
    os.kill(a2.pid, signal.SIGSTOP)
    start = time.monotonic()
    code = p.wait(20)
    assert code != 0 and 5 < time.monotonic() - start < 11 + 2 * SLOW
    text = err.data.decode()
    assert "a2" in text and re.search("lost|silent|unreachable", text), text
    os.kill(a2.pid, signal.SIGCONT)
    # on return the node is told that the job is over: nothing of it stays
    wait_until(lambda: not [q for q in marked(site.dir) if cmdline(q).startswith("sleep 100")], 20, "its rank is gone as well")


def test_a_coordinator_restart_loses_no_registration(site):
    site.head()
    site.node("a1")
    site.node("a2")
    job, pid = job_on(site, "a2", "sleep 3; exit 6")
    site.daemons["head"].kill()
    site.stop_daemon("head")
    assert alive(pid)
    time.sleep(0.5)
    site.daemon("head", "--coordinator", "--dir", site.path("head"))
    wait_until(lambda: site.state("a1") == site.state("a2") == "ok", 20, "both are back without a new join", 0.1)
    j = site.wait_end(job)
    assert (j["state"], j["exit_code"]) == ("failed", 6)


def test_agents_without_a_coordinator_wait_and_say_so(site):
    site.head()
    site.node("a1")
    site.stop_daemon("head")
    start = time.monotonic()
    r = site.ctl("status", timeout=60)
    assert r.code != 0 and re.search("coordinator", r.err), r
    assert time.monotonic() - start < 40


def test_waiting_for_a_node_that_is_down(site):
    site.head()
    site.node("a1")
    a2 = site.node("a2")
    a2.kill()
    wait_until(lambda: site.state("a2") == "down", 3, "down")
    r = site.launch("-N", 2, "--immediate", "--", "true")
    assert r.code != 0 and "a2" in r.err, r
    job = site.detach("-N", 2, "--", "true")
    time.sleep(0.5)
    j = site.job(job)
    assert j["state"] == "queued" and "a2" in j["why"]
    a2.wait()
    site.agent("a2")
    assert site.wait_end(job)["exit_code"] == 0


def test_only_administrators_make_tokens(site):
    site.head()
    site.node("a1")
    r = site.ctl("token", "create")  # through an agent's socket
    assert r.code != 0 and r.err.strip()


@pytest.mark.root
def test_another_user_cannot_use_the_administrators_socket(site):
    site.head()
    os.chmod(site.dir, 0o755)
    os.chmod(site.path("head"), 0o755)
    site.drop = ["setpriv", "--reuid", "65533", "--regid", "65533", "--clear-groups"]
    r = site.admin("token", "create")
    sentence(r, "administrator|denied|may not")


def test_a_single_users_cluster_serves_that_user_only(cluster):
    if os.geteuid() != 0:
        pytest.skip("needs root to be another user")
    c = cluster(1)
    os.chmod(c.dir, 0o755)
    os.chmod(c.home, 0o755)
    import subprocess

    def launch(uid):
        return subprocess.run(["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", *c.args("launch", "--", "id")],
                              capture_output=True, env=c.env, timeout=30, stdin=subprocess.DEVNULL)
    p = launch("65534")
    assert p.returncode != 0 and b"uid=" not in p.stdout and p.stderr.strip()
    os.chmod(c.home, 0o700)
    assert b"this socket belongs to the administrator" in launch("65534").stderr
    os.chown(c.home, 65534, 65534)  # as if nobody, who has a name, had started it
    p = launch("65533")
    os.chown(c.home, 0, 0)
    assert p.returncode == 3 and b"this cluster is for nobody only, who started it" in p.stderr, p


def test_a_copied_state_directory_is_named_on_both_sides(site):
    """Two agents of one boot replaced each other several times a second, and nobody said why."""
    site.head()
    site.node("n1")
    assert site.run("cp", "-r", "--", site.path("n1"), site.path("copy")).code == 0
    site.run("rm", "-rf", site.path("copy", "run")).ok()
    site.daemon("copy", "--agent", "--dir", site.path("copy"))

    def log(name):
        with open(site.path(f"{name}.log"), encoding="utf-8") as f:
            return f.read()

    wait_until(lambda: "quarantined" in log("head"), 20 * SLOW, "the coordinator names it", 0.1)
    assert "another agent with its key" in log("head") and "two agents on its host use its key" in log("head")
    for name in ("n1", "copy"):
        wait_until(lambda: "quarantined" in log(name) and "node-remove n1" in log(name), 20 * SLOW, f"{name} is told", 0.1)
    nodes = json.loads(site.admin("--json", "status").ok().out)["nodes"]
    assert nodes[0]["state"] == "quarantined" and "two agents on its host" in nodes[0]["note"], nodes
    site.via = None  # its agent would wait for the coordinator, and there is no job


def test_joins_and_their_refusals_are_in_the_coordinators_log(site):
    site.head()
    token = site.token()
    site.join("n1", token).ok()
    sentence(site.join("n2", token))
    wrong = token[:30] + ("0" if token[30] != "0" else "1") + token[31:]
    sentence(site.join("n3", wrong))
    with open(site.path("head.log"), encoding="utf-8") as f:
        log = f.read()
    assert "node n1: joined from 127.0.0.1" in log, log
    assert re.search("join refused: n2 from 127.0.0.1: .*used up", log), log
    assert re.search("join refused: n3 from 127.0.0.1: .*token is not known", log), log
    secret = token.split(".")[2]
    assert secret not in log and secret[8:] not in log
    for _ in range(30):
        site.join("n4", wrong)
    with open(site.path("head.log"), encoding="utf-8") as f:
        log = f.read()
    assert len(re.findall("join refused: n", log)) == 20 and "those that follow are left out" in log, log


def test_the_directory_that_join_names_is_good_for_nodectl_too(site):
    site.head()
    r = site.join("n1", site.token()).ok()
    assert f"nodectl --dir {site.path('n1')} status" in r.out, r
    site.agent("n1")
    r = site.run(site.nodectl, "--dir", site.path("n1"), "status").ok()
    assert "n1" in r.out
    assert os.readlink(site.path("n1", "nodectl.sock")) == "run/agent.sock"
    site.stop_daemon("n1")
    site.run("rm", "-rf", site.path("n1", "run"))
    elsewhere = site.path("elsewhere.sock")
    site.daemon("n1", "--agent", "--dir", site.path("n1"), "--socket", elsewhere)
    wait_until(lambda: site.run(site.nodectl, "--dir", site.path("n1"), "status").code == 0, 10 * SLOW, "it answers there", 0.1)
    site.via = None


def test_an_agents_socket_may_be_what_its_directorys_link_is_called(site):
    """It removed what it had just bound, and nodectl.sock led to itself; a link left from before kept it from starting."""
    site.head()
    site.node("n1")
    link, plain = site.path("n1", "nodectl.sock"), site.path("n1", "run", "agent.sock")
    here = ["--socket", os.path.join(site.dir, "n1", "..", "n1", "nodectl.sock")]

    def again(*options, sig=signal.SIGTERM):
        if "n1" in site.daemons:
            site.stop_daemon("n1", sig)
        site.via = None
        site.daemon("n1", "--agent", "--dir", site.path("n1"), *options)
        wait_until(lambda: site.run(site.nodectl, "--dir", site.path("n1"), "status").code == 0, 10 * SLOW, "it answers there", 0.1)

    second = site.daemon("second", "--agent", "--dir", site.path("n1"), *here)
    assert second.wait(10) == 1
    with open(site.path("second.log"), encoding="utf-8") as f:
        assert "another process listens there" in f.read()
    del site.daemons["second"]
    assert os.readlink(link) == "run/agent.sock" and answers(plain)
    again(*here)
    assert stat.S_ISSOCK(os.lstat(link).st_mode)
    again(*here, sig=signal.SIGKILL)
    assert stat.S_ISSOCK(os.lstat(link).st_mode)
    again(sig=signal.SIGKILL)
    assert os.readlink(link) == "run/agent.sock"
    site.stop_daemon("n1")
    os.unlink(link)
    with open(link, "w", encoding="ascii") as f:
        f.write("somebody's")
    site.daemon("n1", "--agent", "--dir", site.path("n1"))
    wait_until(lambda: answers(plain), 10 * SLOW, "it answers at its own socket", 0.1)
    with open(link, encoding="ascii") as f:
        assert f.read() == "somebody's"


def answers(path):
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except OSError:
            return False
    return True


def test_a_long_directory_leaves_nothing_beside_it(cluster):
    """Its sockets are below /tmp then: they go with the cluster, and a second start makes them again."""
    c = cluster(1)
    c.stop()
    c.home = c.path("d" * 100)
    for _ in range(2):
        c.start()
        run = os.readlink(os.path.join(c.home, "run"))
        assert os.path.isdir(run) and not run.startswith(c.home)
        c.launch("--", "true").ok()
        assert c.stop() == 0
        assert not os.path.lexists(run), os.listdir(run)
        assert not os.path.lexists(os.path.join(c.home, "run"))


def test_a_killed_cluster_in_a_long_directory_finds_its_shims_again(cluster):
    c = cluster(1)
    c.stop()
    c.home = c.path("d" * 100)
    c.start()
    job = c.detach("--", "sleep", "100")
    c.wait_state(job, "running")
    run = os.readlink(os.path.join(c.home, "run"))
    for p in [*c.role_pids().values(), c.proc.pid]:
        kill(p, signal.SIGSTOP)
    for p in [c.proc.pid, *c.role_pids().values()]:
        kill(p)
    c.proc.wait()
    c.start()
    assert os.readlink(os.path.join(c.home, "run")) == run
    assert c.job(job)["state"] == "running"
    assert c.stop() == 0
    assert not os.path.lexists(run)


def test_few_heartbeats_make_no_node_unreachable(cluster):
    """heartbeat = 5s, as the manual allows, was longer than both sides' patience."""
    c = cluster(1, args=["--heartbeat", "5s"])
    time.sleep(9)  # and we ask nothing: that would be a word of the node
    assert c.nodes_now()[c.names[0]]["state"] == "ok"
    assert "unreachable" not in c.logs() and "no word from" not in c.logs(), c.logs()


def test_settings_that_do_not_go_together_are_refused_with_file_and_line(site):
    conf = site.conf("bad", "[agent]\nport_min = 30000\nport_max = 20000\n")
    for role in ("--agent", "--standalone"):
        r = site.run(site.nodeagentd, role, "--dir", site.path("x"), "--config", conf)
        assert r.code == 2 and f"{conf}:3: " in r.err and "port_min" in r.err, r
        assert len(r.err.splitlines()) == 1
    r = site.run(site.nodeagentd, "--coordinator", "--dir", site.path("x"), "--heartbeat", "5s", "--unreachable-after", "4s")
    assert r.code == 2 and "unreachable_after to 15000 ms" in r.err, r


def test_a_file_that_was_good_for_an_earlier_version_is_warned_of_and_daemons_start(site):
    """Nobody is there to change a file while daemons are upgraded; what counts instead is said."""
    site.head(conf="[coordinator]\nheartbeat = 1s\nunreachable_after = 2s\n")
    site.node("a1", conf="[agent]\nspool_per_job = 2G\nspool_per_node = 1G\n")
    assert site.launch("--", "true").code == 0
    assert "until then, unreachable_after counts as 3000 ms" in site.logs()
    assert "until then, it counts as much as spool_per_node" in site.logs()


def test_who_waits_for_the_coordinator_is_told_so_and_not_for_long(site):
    site.head()
    site.node("a1")
    job = site.detach("--", "sleep", "1000")
    site.wait_state(job, "running")
    os.kill(site.daemons["head"].pid, signal.SIGSTOP)  # the link is there, and nobody speaks
    begun = time.monotonic()
    r = site.ctl("status")
    assert r.code == 3 and "did not answer within" in r.err and f"node a1 itself holds job {job} (running)" in r.err, r
    assert "nodectl: no answer yet; waiting for the coordinator" in r.err and time.monotonic() - begun < 3 + 2 * SLOW, r
    site.daemons["head"].kill()
    site.daemons["head"].wait()
    time.sleep(2.5)
    for command in ("nodes", "jobs", "job"):  # known to be down: told at once
        r = site.ctl(command, *([job] if command == "job" else []))
        assert r.code == 3 and r.seconds < 1 * SLOW and "no connection to the coordinator" in r.err, r
        assert f"running jobs go on: node a1 itself holds job {job} (running)" in r.err, r
    p = site.popen("launch", "--", "true")
    err = Reader(p.stderr)
    err.wait("the coordinator does not answer; waiting for it until", 5 * SLOW)
    p.terminate()
    assert p.wait(2 * SLOW) == 143
    err.wait("left before the job had a number, so it was not ended; whether it was taken: nodectl jobs")
    site.start_head()
    assert [j["job"] for j in site.json("jobs")["jobs"]] == [job]  # an attempt to connect is made at once
    site.ctl("kill", job, "--grace", "0s").ok()
    site.wait_end(job)
