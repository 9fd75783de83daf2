"""test_client.py - nodectl against an agent that only plays: words, codes, labels, signals, lost connections"""
import base64
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import NODECTL, SLOW, Reader, proc_text, wait_until  # noqa: E402
from ctl import Terminal, finish  # noqa: E402
from fake_agent import FakeAgent  # noqa: E402
import wire  # noqa: E402

MB = 1 << 20


def decode_spec(blob):
    assert blob[:8] == b"NASPEC1\n"
    argc, envc = struct.unpack(">II", blob[8:16])
    words = blob[16:].split(b"\0")
    assert words.pop() == b"" and len(words) == 1 + argc + envc
    return words[0], words[1:1 + argc], dict(w.split(b"=", 1) for w in words[1 + argc:])


# ---- the command line ----------------------------------------------------


@pytest.mark.parametrize("words, want", [
    (["launhc"], 'did you mean "launch"'), (["frobnicate"], "see nodectl help"), ([], "which command"),
    (["--sokcet", "x", "jobs"], "did you mean --socket"), (["launch", "--nodse", "2", "--", "true"], "did you mean --nodes"),
    (["launch", "-N", "two", "--", "true"], "two"), (["launch", "-N", "0", "--", "true"], "from 1 to"),
    (["launch", "-N"], "needs a value"), (["launch", "-Z", "--", "true"], "-Z"), (["launch"], "what is to be started"),
    (["launch", "--detach=1", "--", "true"], "no value"), (["launch", "--time", "soon", "--", "true"], "soon"),
    (["launch", "--time", "60", "--", "true"], "30s"),
    (["launch", "--time", "213503982335d", "--", "true"], "too long"), (["launch", "--time", "1d213503982335d", "--", "true"], "too long"), (["launch", "--env", "=x", "--", "true"], "--env"),
    (["launch", "--env", "NOT_THERE_AT_ALL", "--", "true"], "NOT_THERE_AT_ALL"), (["launch", "--", ""], "empty"),
    (["launch", "--per-node", "--procs-per-node", "2", "--", "true"], "exclude each other"),
    (["launch", "--detach", "--stdin", "--", "true"], "--stdin"), (["launch", "-N", "3", "-w", "a,b", "--", "true"], "-N 3"),
    (["launch", "-w", "a,b", "-x", "a,b", "--", "true"], "leaves none"), (["launch", "--name", "", "--", "true"], "--name"),
    (["launch", "-G", "two", "--", "true"], "from 0 to 1024"), (["launch", "-G", "1025", "--", "true"], "from 0 to 1024"),
    (["launch", "--per-gpu", "--", "true"], "give -G N"), (["launch", "--per-gpu", "-G", "0", "--", "true"], "give -G N"),
    (["launch", "--per-gpu", "-G", "8", "--per-node", "--", "true"], "exclude each other"),
    (["launch", "--per-gpu", "-G", "8", "--procs-per-node", "8", "--", "true"], "exclude each other"),
    (["launch", "-G", "0", "--busy-gpus", "--", "true"], "none are wanted"),
    (["launch", "--per-gpu", "-G", "8", "--", "torchrun", "train.py"], "torchrun starts a worker for each GPU by itself"),
    (["launch", "--per-gpu", "-G", "8", "--", "/opt/env/bin/llamafactory-cli", "train", "x"], "llamafactory-cli starts"),
    (["launch", "--per-gpu", "-G", "8", "deepspeed", "x.py"], "deepspeed starts"),
    (["launch", "--per-gpu", "-G", "8", "accelerate", "launch"], "accelerate starts"),
    (["launch", "--per-gpu", "-G", "8", "--", "python3.10", "-u", "-m", "torch.distributed.run", "x.py"], "torch.distributed.run starts"),
    (["launch", "--per-gpu", "-G", "8", "--", "python", "/opt/env/bin/torchrun", "x.py"], "torchrun starts"),
    (["launch", "--max-restarts", "many", "--", "true"], "from 0 to 1000"),
    (["launch", "--max-restarts", "1", "--restart-on", "moon", "--", "true"], "takes node"),
    (["launch", "--restart-on", "any", "--", "true"], "only with --max-restarts"),
    (["launch", "--spares", "1", "--", "true"], "only with --max-restarts"),
    (["launch", "--max-restarts", "1", "--stdin", "--", "true"], "once only"),
    (["launch", "--max-restarts", "1", "--spares", "1", "-w", "a,b", "--", "true"], "-N"),
    (["launch", "--max-restarts", "1", "--spares", "1", "-N", "2", "-w", "a,b", "--", "true"], "more nodes than"),
    (["launch", "--net", "roce", "--", "true"], "auto, ib"),
    (["launch", "--net", "socket", "--env", "NCCL_NET=IB", "--", "true"], "contradicts NCCL_NET=IB"),
    (["launch", "--net", "ib", "--env", "NCCL_IB_DISABLE=1", "--", "true"], "contradicts NCCL_IB_DISABLE=1"),
    (["launch", "--no-preflight", "--", "true"], "not in this version"),
    (["job"], "which job? nodectl jobs lists them"), (["job", "abc"], "abc"), (["job", "1", "2"], "too many"), (["job", "0"], "0"), (["kill"], "which job"),
    (["logs", "1", "--rank", "3-1"], "3-1"), (["logs"], "which job"), (["attach", "x"], "no job id"), (["jobs", "x"], "no job id"),
    (["token"], "token create"), (["token", "create", "--uids", "1-2"], "--submit"), (["token", "create", "--uids", "x"], "1000-59999"),
    (["token", "create", "--uses", "0"], "--uses"), (["node-remove", "UPPER"], "UPPER"), (["status", "--watch"], "terminal"),
    (["status", "gpu01"], "nodectl node gpu01"), (["node"], "which node"), (["node", "a", "b"], "too many"),
    (["why"], "which job? nodectl jobs lists them"), (["events", "-n", "0"], ': -n "0" is'), (["events", "--limit", "0"], ': --limit "0" is'),
    (["logs", "-n", "x", "1"], ': -n "x" is'), (["jobs", "-n", "x"], ': -n "x" is'), (["launch", "-w", "", "--", "true"], "-w: the host list is empty"),
    (["events", "--kind", "foo"], "node, verdict, cordon"), (["events", "--kind", "node.d"], "no kind"), (["fix"], "fix sm"),
    (["nodes", "a"], "too many"), (["help", "lunch"], "launch"),
])
def test_what_is_wrong_with_a_command_line_is_one_sentence(ctl, agent, words, want):
    r = ctl(*words)
    assert r.code == 2 and r.out == "" and want in r.err, r.err
    assert len(r.err.splitlines()) == 1 and r.err.startswith("nodectl")
    assert not agent.got("submit")


def test_hosts_lists_are_checked_here_with_a_caret(ctl, agent):
    for option in ("-w", "-x"):
        r = ctl("launch", option, "gpu[01-04,x]", "--", "true")
        lines = r.err.splitlines()
        assert r.code == 2 and len(lines) == 3 and option in lines[0]
        assert "gpu[01-04,x]" in lines[1] and lines[2].strip() == "^"
        assert lines[1][lines[2].index("^")] == "x", r.err
    assert not agent.got("hello")


def test_every_command_has_help(ctl):
    out = ctl("help").out
    names = re.findall(r"^  (\w[\w-]*(?: \w+)?)  ", out, re.M)
    assert {"launch", "attach", "logs", "kill", "jobs", "job", "status", "nodes", "node", "ports", "gpus", "token create", "node-remove", "drain", "resume", "help"} <= set(names)
    for name in names:
        r = ctl(*name.split(), "--help")
        assert r.code == 0 and r.err == "" and f"usage: nodectl {name}" in r.out
        assert r.out == ctl("help", *name.split()).out
        assert max(len(line) for line in r.out.splitlines()) <= 80, r.out
    for group, word in (("token", "create"), ("fix", "sm")):
        r = ctl(group, "--help")
        assert r.code == 0 and r.err == "" and r.out == ctl("help", group).out and f"\n  {group} {word}  " in r.out, r.out
    assert ctl("nodes", "--help").out.startswith("usage: nodectl nodes\n")
    assert ctl("--help").out == out and ctl("--version").out.startswith("nodectl ")


def test_a_pipe_that_does_not_block_gets_all_of_it(ctl):
    r, w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    junk = 0
    try:
        while True:
            junk += os.write(w, b"." * 512)
    except BlockingIOError:
        pass
    p = ctl.popen("help", stdout=w)
    os.close(w)
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(0.3)
    os.set_blocking(r, True)
    with open(r, "rb") as f:
        got = f.read()
    assert p.wait(20) == 0 and p.stderr.read() == b""
    assert got[junk:].decode() == ctl("help").out


@pytest.mark.parametrize("words", [["help"], ["help", "jobs"], ["jobs", "--help"], ["--version"]])
def test_what_cannot_be_written_is_no_success(ctl, words):
    with open("/dev/full", "wb") as full:
        r = ctl.popen(*words, stdout=full)
        assert r.wait(20) == 1 and b"cannot write: No space left" in r.stderr.read()


def test_output_that_cannot_be_written_is_named_and_the_job_goes_on(ctl, agent):
    with open("/dev/full", "wb") as full:
        p = ctl.popen("launch", "--", "true", stdout=full)
        agent.submitted()
        agent.start()
        agent.write(0, 1, b"hello\n")
        assert p.wait(20) == 1
    assert b"cannot write the output: No space left on device; job 18 goes on: nodectl attach 18" in p.stderr.read()


def test_no_agent_is_one_sentence_and_code_3(ctl, agent):
    agent.go_away()
    r = ctl("jobs")
    assert r.code == 3 and agent.path in r.err and len(r.err.splitlines()) == 1
    os.unlink(agent.path)
    r = ctl("launch", "--", "true")
    assert r.code == 3 and agent.path in r.err and "nodeagentd" in r.err and len(r.err.splitlines()) == 1
    p = subprocess.run([NODECTL, "--socket", "/tmp/" + "x" * 120, "jobs"], capture_output=True, env=ctl.env)
    assert p.returncode == 3 and b"there is no agent at /tmp/xxx" in p.stderr


def test_socket_comes_from_option_directory_or_environment(ctl, agent):
    for args, env in ((["--socket", agent.path], {}), (["--dir", agent.dir], {}), ([], {"NODEAGENT_DIR": agent.dir}),
                      (["jobs", "--dir", agent.dir], {})):
        words = args if "jobs" in args else [*args, "jobs"]
        p = subprocess.run([NODECTL, *words], env=dict(ctl.env, **env), capture_output=True, timeout=20)
        assert p.returncode == 0, p.stderr


def test_refusals_are_the_servers_sentences(ctl, agent):
    agent.refuse = {"submit": ("denied", "you may not launch here: ask for --uids"), "kill": ("denied", "job 18 belongs to wang"),
                    "jobs_get": ("unavailable", "the coordinator is away")}
    for args, text, code in ((["launch", "--", "true"], "you may not launch here", 1), (["kill", 18], "belongs to wang", 1),
                             (["jobs"], "is away", 3)):
        r = ctl(*args)
        assert r.code == code and text in r.err and len(r.err.splitlines()) == 1
    agent.refuse = {"hello": ("version", "this agent speaks 3.0; upgrade nodectl")}
    r = ctl("jobs")
    assert r.code == 1 and "upgrade nodectl" in r.err
    agent.refuse = {}
    agent.welcome = dict(agent.welcome, proto=3000)
    r = ctl("jobs")
    assert r.code != 0 and len(r.err.splitlines()) == 1


# ---- launch: what is sent -------------------------------------------------


def launched(ctl, agent, *args, **kw):
    """A launch that ends at once; its submit message and specification."""
    p = ctl.popen("launch", *args, **kw)
    m = agent.submitted()
    agent.start()
    agent.end()
    code, out, err = finish(p)
    assert code == 0, err
    return m, decode_spec(agent.spec)


def test_the_request_says_what_was_asked_for(ctl, agent):
    m, (cwd, argv, env) = launched(ctl, agent, "-N2", "-w", "gpu[01-04]", "-x", "gpu03", "--procs-per-node=4", "--name", "训练",
                                   "--time", "1h30m", "--grace", "90s", "--immediate", "-G", "0", "python", "-u", "a b", "--", "-x")
    assert argv == [b"python", b"-u", b"a b", b"--", b"-x"]
    want = {"nnodes": 2, "hosts": "gpu[01-04]", "exclude": "gpu03", "procs_per_node": 4, "name": "训练", "time_s": 5400,
            "grace_ms": 90000, "immediate": True, "command": "python -u 'a b' -- -x", "spec_size": len(agent.spec)}
    assert {k: m.get(k) for k in want} == want
    assert not m.get("per_node") and not m.get("with_stdin") and m["gpus_per_node"] == 0 and not m.get("busy_gpus")
    assert re.fullmatch("[0-9a-f]{32}", m["client_id"])


def test_one_process_per_node_is_the_default(ctl, agent):
    m, _ = launched(ctl, agent, "--", "true")
    assert m["per_node"] is True and m["nnodes"] == 1 and m["procs_per_node"] == 1


def test_gpus_are_asked_for_and_all_when_nobody_says(ctl, agent):
    m, _ = launched(ctl, agent, "--", "true")
    assert "gpus_per_node" not in m and not m.get("busy_gpus")
    for args, want in ((["-G", "4"], (4, None, 1, True)), (["-G4", "--busy-gpus"], (4, True, 1, True)), (["--busy-gpus"], (None, True, 1, True)),
                       (["-N", "2", "--per-gpu", "-G", "8"], (8, None, 8, None)), (["-G", "8", "--procs-per-node", "2"], (8, None, 2, None))):
        agent.reset()
        agent.seen.clear()
        m, _ = launched(ctl, agent, *args, "--", "python", "torchrun_like.py")
        assert (m.get("gpus_per_node"), m.get("busy_gpus"), m["procs_per_node"], m.get("per_node")) == want, args


def test_a_command_that_starts_its_own_workers_may_do_so_on_each_node(ctl, agent):
    m, (_, argv, _) = launched(ctl, agent, "-G", "8", "--", "torchrun", "train.py")
    assert m["per_node"] is True and m["procs_per_node"] == 1 and argv[0] == b"torchrun"


def test_hosts_without_a_number_mean_all_that_are_not_excluded(ctl, agent):
    m, _ = launched(ctl, agent, "-w", "gpu[01-04]", "-x", "gpu03,gpu09", "--", "true")
    assert m["nnodes"] == 3


def test_environment_and_arguments_are_bytes(ctl, agent):
    env = dict(ctl.env, RANK="3", SLURM_PROCID="1", SSH_TTY="x", KEPT="1", GBK=b"\xb2\xe2".decode("latin1"))
    env = {os.fsencode(k): (v.encode("latin1") if k == "GBK" else os.fsencode(v)) for k, v in env.items()}
    m, (cwd, argv, got) = launched(ctl, agent, "--env", "A=b=c", "--env", "SSH_TTY", "--", "x", b"\xff\xfe".decode("utf-8", "surrogateescape"),
                                   env=env)
    assert argv[1] == b"\xff\xfe" and m["command"] == "x ??"
    assert got[b"GBK"] == b"\xb2\xe2" and got[b"KEPT"] == b"1" and got[b"A"] == b"b=c" and got[b"SSH_TTY"] == b"x"
    assert b"RANK" not in got and b"SLURM_PROCID" not in got


def test_working_directory_keeps_the_name_it_was_entered_by(ctl, agent):
    real, link = os.path.join(agent.dir, "real"), os.path.join(agent.dir, "link")
    os.mkdir(real)
    os.symlink(real, link)
    for pwd, args, want in ((link, [], link), ("/wrong", [], real), (link, ["--cwd", "sub"], link + "/sub"), (link, ["--cwd", "/x/y"], "/x/y")):
        agent.reset()
        agent.seen.clear()
        _, (cwd, _, env) = launched(ctl, agent, *args, "--", "true", cwd=real, env=dict(ctl.env, PWD=pwd))
        assert cwd.decode() == want and env[b"PWD"].decode() == want


def test_a_big_environment_goes_in_pieces(ctl, agent):
    env = dict(ctl.env, **{f"BIG{i}": "x" * 100_000 for i in range(12)})
    _, (_, _, got) = launched(ctl, agent, "--", "true", env=env)
    assert sum(len(v) for v in got.values()) > 1_200_000


def test_a_training_that_would_begin_anew_is_told_before_the_start(ctl, agent):
    conf = os.path.join(agent.dir, "conf.yaml")
    with open(conf, "w", encoding="ascii") as f:
        f.write("stage: sft\noverwrite_output_dir: true\nsave_only_model: true\n")
    with open(os.path.join(agent.dir, "llamafactory-cli"), "w", encoding="ascii") as f:
        os.fchmod(f.fileno(), 0o755)
    line = ["--cwd", agent.dir, "--env", f"PATH={agent.dir}", "--", "llamafactory-cli", "train", "conf.yaml"]
    r = ctl("launch", "--dry-run", "--max-restarts", 3, *line)
    assert r.code == 0 and r.err.splitlines() == [
        "nodectl: warning: a restart would begin at step 0: overwrite_output_dir: true in conf.yaml:2 (checkpoints in output_dir are not "
        "looked for); set it to false, or leave out --max-restarts",
        "nodectl: warning: a restart would begin at step 0: save_only_model: true in conf.yaml:3 (no optimizer state is saved); set it to "
        "false, or leave out --max-restarts"]
    j = json.loads(ctl("--json", "launch", "--dry-run", "--max-restarts", 3, *line).out)
    assert len(j["warnings"]) == 2 and "conf.yaml:2" in j["warnings"][0]
    assert json.loads(ctl("--json", "launch", "--dry-run", "--max-restarts", 3, "--", "true").out)["warnings"] == []
    r = ctl("launch", "--dry-run", *line)
    assert (r.code, r.err) == (0, ""), "who asks for no restart is not told of them"
    r = ctl("launch", "--dry-run", "--max-restarts", 3, *line, "overwrite_output_dir=false", "save_only_model=false")
    assert (r.code, r.err) == (0, "")


def test_dry_run_says_what_this_host_has_not(ctl, agent):
    for args, words in ((["--cwd", "/nowhere", "--", "true"], "no directory /nowhere on this host"),
                        (["--", "no-such-program"], "no program no-such-program is in your PATH on this host"),
                        (["--env", "PATH=/nowhere", "--", "true"], "no program true is in your PATH"),
                        (["--cwd", "/", "--", "./etc/passwd"], "./etc/passwd is no program that can be run")):
        r = ctl("launch", "--dry-run", *args)
        assert r.code == 0 and words in r.err and len(r.err.splitlines()) <= 2, r
    for args in (["--", "true"], ["--cwd", "/", "--", "bin/true"], ["--", "/bin/true"], ["--", "nodeagent-nccl"]):
        assert "warning" not in ctl("launch", "--dry-run", *args).err


def test_dry_run_shows_and_sends_nothing(ctl, agent):
    env = dict(ctl.env, NCCL_DEBUG="INFO", SLURM_JOB_ID="1", HF_TOKEN="sesame", PWD="/")
    args = ["launch", "--dry-run", "-w", "gpu[01-02]", "--env", "HF_TOKEN=open", "--env", "A=1", "--", "python", "a b"]
    r = ctl(*args, env=env)
    assert r.code == 0 and not agent.got("submit")
    for text in ("python 'a b'", "gpu[01-02]", "SLURM_JOB_ID", "NCCL_DEBUG=INFO", "A=1", "HF_TOKEN=(not shown)", "Nothing was started"):
        assert text in r.out, r.out
    assert "sesame" not in r.out and "open" not in r.out
    j = json.loads(ctl("--json", *args, env=env).out)
    assert j["argv"] == ["python", "a b"] and j["nnodes"] == 2 and "SLURM_JOB_ID" in j["env_dropped"]
    assert j["gpus_per_node"] is None and j["busy_gpus"] is False and re.search(r"^GPUs of each +all$", r.out, re.M)
    agent.checks = {"nodes": 2}  # of which none has a GPU
    assert "GPUs of each" not in ctl(*args, env=env).out and "GPUs of each" in ctl("launch", "-G", 1, *args[1:], env=env).out
    for more, want, number in ((["-G", "0"], "none", 0), (["-G", "4", "--busy-gpus"], "4, busy ones too", 4), (["--busy-gpus"], "all, busy ones too", None)):
        agent.checks = {}
        assert re.search(rf"^GPUs of each +{want}$", ctl("launch", *more, *args[1:], env=env).out, re.M)
        j = json.loads(ctl("--json", "launch", *more, *args[1:], env=env).out)
        assert (j["gpus_per_node"], j["busy_gpus"]) == (number, "--busy-gpus" in more)
    assert j["env_nccl"] == ["NCCL_DEBUG=INFO"] and j["env_set"] == ["HF_TOKEN=(not shown)", "A=1"]


def test_detach_prints_the_id_and_leaves(ctl, agent):
    r = ctl("launch", "--detach", "--", "true")
    assert r.code == 0 and r.out == "job 18\n" and "job 18" in r.err
    r = ctl("--json", "launch", "--detach", "--", "true")
    assert json.loads(r.out) == {"job": 18}
    assert not agent.got("watch") and not agent.got("follow")
    agent.job = 2 ** 64 - 1
    assert json.loads(ctl("launch", "--json", "--detach", "true").out)["job"] == 2 ** 64 - 1


# ---- launch: what comes back ----------------------------------------------


def test_output_and_code_of_a_job(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    for rank in (0, 1):
        agent.write(rank, 1, b"out %d\nhalf" % rank)
        agent.write(rank, 2, b"err %d\n" % rank)
    agent.end()
    code, out, err = finish(p)
    assert code == 0
    assert sorted(out.splitlines()) == [b"[n1:0] half", b"[n1:0] out 0", b"[n2:1] half", b"[n2:1] out 1"]
    lines = err.splitlines()
    assert lines[0] == "job 18" and sorted(lines[1:]) == ["[n1:0] err 0", "[n2:1] err 1"]


def test_one_rank_has_no_labels_and_every_byte(ctl, agent):
    data = os.urandom(5 * MB)
    p = ctl.popen("launch", "--", "true")
    agent.submitted()
    agent.start()
    agent.write(0, 1, data)
    agent.end()
    code, out, err = finish(p)
    assert code == 0 and hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_labels_can_be_forced_and_forbidden(ctl, agent):
    for option, nodes, want in (("--label", ["n1"], b"[n1:0] x\n"), ("--no-label", ["n1", "n2"], b"x\n")):
        agent.reset()
        agent.seen.clear()
        p = ctl.popen("launch", option, "--", "true")
        agent.submitted()
        agent.start(*nodes)
        agent.write(0, 1, b"x\n")
        agent.end()
        assert finish(p)[1] == want


def test_labels_taken_off_give_the_exact_bytes_of_each_rank(ctl, agent):
    sent = {r: re.sub(rb"[^\n\r ]", b".", os.urandom(400_000)) + b"\n" for r in range(4)}
    p = ctl.popen("launch", "-N", 2, "--procs-per-node", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2", each=2)
    for i in range(0, 400_001, 7919):
        for r in sent:
            agent.write(r, 1, sent[r][i:i + 7919])
    agent.end()
    code, out, err = finish(p)
    got = {r: b"" for r in sent}
    for piece in re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)", out):
        m = re.match(rb"\[n([12]):(\d)\] ", piece)
        assert m and int(m.group(1)) == int(m.group(2)) // 2 + 1, piece[:80]
        got[int(m.group(2))] += piece[m.end():]
    assert got == sent


def test_a_failure_is_told_with_rank_node_pid_and_last_lines(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("gpu01", "gpu02", each=8)
    tail = b"".join(b"line %d\n" % i for i in range(20)) + b"1%\r99%\nlast\x1b[2J \x1b[1;31mred\x1b[0m\x1bX\x1b[\n"
    agent.end(exit_code=7, why="15 ranks were ended by us", notices=["gpu02 lost 10 bytes"], first=[
        {"rank": 11, "state": "exited", "pid": 40112, "code": 7, "tail": base64.b64encode(tail).decode()}],
        start_wall_ms="1000", end_wall_ms="373500")
    code, out, err = finish(p)
    assert code == 7
    assert err.splitlines() == [
        "job 18", "job 18 FAILED 6m12s: rank 11 (gpu02, pid 40112) exited with code 7",
        *[f"  line {i}" for i in range(12, 20)], "  99%", "  last red?X", "  15 ranks were ended by us", "job 18: gpu02 lost 10 bytes"]


@pytest.mark.parametrize("first, code, text", [
    ({"rank": 1, "state": "killed", "sig": 9, "pid": 5}, 137, "rank 1 (n2, pid 5) was killed by signal 9 (SIGKILL)"),
    ({"rank": 0, "state": "killed", "sig": 11, "core": True}, 139, "rank 0 (n1) was killed by signal 11 (SIGSEGV), core dumped"),
    ({"rank": 1, "state": "failed", "code": 127, "text": "no-such: not found"}, 127, "rank 1 (n2) could not start: no-such: not found"),
    ({"rank": 1, "state": "lost"}, 1, "rank 1 (n2) was lost with its node"),
    ({"rank": 1, "state": "lost", "status_unknown": True}, 1, "rank 1 (n2) was lost, exit status unknown"),
    ({"rank": 1, "state": "exited", "code": 1, "pid": 5, "exception": "ValueError: x at t.py:3"}, 1,
     "rank 1 (n2, pid 5) exited with code 1\n  ValueError: x at t.py:3\n"),
    ({"rank": 1, "state": "exited", "code": 1, "pid": 5, "workers": [
        {"rank": 9, "local_rank": 1, "pid": 77, "state": "killed", "sig": 9},
        {"rank": 8, "local_rank": 0, "pid": 76, "state": "killed", "sig": 15}]}, 1,
     "rank 9 (n2, local rank 1, pid 77, below the launcher) was killed by signal 9 (SIGKILL)"),
    ({"rank": 1, "state": "exited", "code": 1, "pid": 5, "workers": [{"rank": 9, "state": "unknown"}]}, 1,
     "rank 9 (n2, below the launcher) ended, exit status unknown"),
    ({"rank": 1, "state": "exited", "code": 1, "pid": 5, "workers": [{"rank": 9, "pid": 4, "state": "killed", "sig": 15,
                                                                      "ours": True}]}, 1, "rank 1 (n2, pid 5) exited with code 1"),
])
def test_each_kind_of_end_has_its_words(ctl, agent, first, code, text):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    agent.end(exit_code=code, first=[first])
    got, out, err = finish(p)
    assert got == code and text in err, err


def test_a_job_that_never_started_says_why(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.end(exit_code=1, why="gpu03: /data/run does not exist")
    code, out, err = finish(p)
    assert code == 1 and "job 18 FAILED: gpu03: /data/run does not exist" in err


def test_success_is_quiet_but_for_notices(ctl, agent):
    p = ctl.popen("launch", "--", "true")
    agent.submitted()
    agent.start()
    agent.end(notices=["3 processes had to be killed at the end"])
    assert finish(p)[2] == "job 18\njob 18: 3 processes had to be killed at the end\n"


def test_a_notice_is_told_when_it_comes_and_once(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    err = Reader(p.stderr)
    agent.submitted()
    agent.start("n1", "n2")
    agent.update(notices=["node n1: 'docker run' in this job: its containers are not ended with it"])
    err.wait("job 18: node n1: 'docker run'")
    assert p.poll() is None
    agent.update(notices=["node n1: 'docker run' in this job: its containers are not ended with it", "node n2: the second"])
    err.wait("job 18: node n2: the second")
    agent.go_away()
    agent.listen()
    agent.end(notices=["node n1: 'docker run' in this job: its containers are not ended with it", "node n2: the second"])
    assert p.wait(20) == 0
    err.thread.join(5)
    assert err.data.count(b"docker run") == 1 and err.data.count(b"the second") == 1


@pytest.mark.parametrize("command", ["launch", "attach"])
def test_a_coordinator_that_does_not_answer_is_told_after_a_second_and_until_when(ctl, agent, command):
    agent.mute_submit = agent.mute_watch = True
    if command == "attach":
        agent.start()
    p = ctl.popen(*(("launch", "--", "true") if command == "launch" else ("attach", 18)))
    begun, err = time.monotonic(), Reader(p.stderr)
    err.wait(r"nodectl: the coordinator does not answer; waiting for it until \d\d:\d\d:\d\d \(29 s\)"
             + (", to take the job\n" if command == "launch" else "\n"))
    assert 0.9 < time.monotonic() - begun < 3 * SLOW
    time.sleep(1.5)
    assert err.data.count(b"does not answer") == 1
    p.kill()


@pytest.mark.parametrize("option", [("--max-restarts", 2), ("--max-restarts", 2, "--spares", 1), ("--time", "1h")])
def test_an_agent_of_an_older_version_is_not_asked_for_what_it_would_ignore(ctl, agent, option):
    agent.welcome = {k: v for k, v in agent.welcome.items() if k != "features"}
    r = ctl("launch", *option, "--", "true")
    assert r.code == 1 and not agent.got("submit")
    assert r.err == (f"nodectl: the agent at {agent.path} (version 0.1.0) is older than this program and does not say "
                     f"that it knows {option[0]}, so it might ignore it: leave it out, or have the agent updated (what runs "
                     "goes on meanwhile)\n")
    agent.welcome["features"] = ["restarts", "time"]
    if "--spares" in option:
        assert "does not know --spares" in ctl("launch", *option, "--", "true").err
    else:
        ctl.popen("launch", *option, "--", "true")
        agent.submitted()


def test_the_end_of_a_restarted_job_tells_its_attempts(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--max-restarts", 5, "--restart-on", "any", "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    over = [{"attempt": k, "nodes": "n1,n2", "why": "x", "start_wall_ms": "1000000", "end_wall_ms": "1001000"}
            for k in range(1, 7)]
    agent.end(7, attempt=6, restarts=5, max_restarts=5, attempts=over, why="rank 1 exited with code 7",
              start_wall_ms="5260000", end_wall_ms="5320000")
    code, _, err = finish(p)
    assert code == 7
    assert "job 18 FAILED 1m00s (attempt 6, after 5 of 5 restarts; 1h12m in all): rank 1" in err, err


def test_what_a_job_waits_for_is_told_once_and_when_it_changes(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    err = Reader(p.stderr)
    agent.submitted()
    agent.update(why="waiting for 2 nodes: gpu03 is unreachable")
    time.sleep(0.1)
    assert b"waits" not in err.data, "not before 300 ms"
    err.wait("gpu03 is unreachable")
    agent.update(running=0)
    agent.update(why="waiting for 2 nodes: gpu04 is down")
    err.wait("gpu04 is down")
    agent.start("n1", "n2")
    err.wait(r"runs on n1,n2")
    agent.end()
    assert p.wait(20) == 0 and err.data.count(b"gpu03") == 1


def test_a_countdown_is_not_told_every_second(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    err = Reader(p.stderr)
    agent.submitted()
    for n in range(20, 5, -1):
        agent.update(why=f"restarting: attempt 2 of 4; waiting until node gpu03 has gone: at most {n} s")
        time.sleep(0.05)
    agent.update(why="restarting: attempt 2 of 4; waiting until node gpu04 has gone: at most 5 s")
    err.wait("gpu04 has gone: at most 5 s")
    agent.start("n1", "n2")
    agent.end()
    assert p.wait(20) == 0 and err.data.count(b"waits") == 2, err.data


def test_why_an_attempt_ended_is_told_before_what_the_next_one_waits_for(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--max-restarts", 3, "--restart-on", "any", "--", "true")
    err = Reader(p.stderr)
    agent.submitted()
    agent.start("n1", "n2")
    time.sleep(0.4)
    why = "rank 1 (n2, pid 20167) exited with code 7"
    over = [{"attempt": 1, "nodes": "n1,n2", "why": why}]
    agent.update(state="restarting", why="restarting in 1 s: attempt 2 of 4", attempts=over, max_restarts=3)
    err.wait("restarting in 1 s")
    agent.update(state="preparing", why="", attempt=2, nodes="n1,n2", attempts=over, max_restarts=3)
    err.wait(r"restarting \(1 of 3\)")
    agent.end(attempt=2)
    assert p.wait(20) == 0
    assert err.data.decode().splitlines()[-3:] == [f"job 18: {why}", "job 18 waits: restarting in 1 s: attempt 2 of 4",
                                                   "job 18: restarting (1 of 3) on n1,n2"]


def test_lost_output_is_told_on_stderr(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    err = Reader(p.stderr)
    agent.submitted()
    agent.start("n1", "n2")
    agent.write(1, 1, b"x\n")
    agent.lose(1, 1, 1000)
    err.wait("node n2 has no room left for output, and some of it is lost from here on")
    agent.lose(1, 1, 24)
    agent.lose(1, 2, 24)
    agent.lose(0, 2, 24)
    err.wait("node n1 has no room left for output")
    agent.end()
    assert p.wait(20) == 0
    err.thread.join(5)
    assert err.data.count(b"node n2 has no room") == 1 and err.data.count(b"lost") == 2  # once a node


def test_output_that_stays_away_is_told(ctl, agent):
    p = ctl.popen("launch", "--", "true")
    agent.submitted()
    agent.start()
    agent.end_text = "gpu02 is unreachable: its output is missing"
    agent.end()
    code, out, err = finish(p)
    assert code == 0 and "its output is missing" in err


def test_following_too_early_is_tried_again(ctl, agent):
    agent.refuse["follow"] = ("not-found", "job 18 has not started")
    p = ctl.popen("launch", "--", "true")
    agent.submitted()
    agent.wait_msg("follow")
    del agent.refuse["follow"]
    agent.start()
    agent.wait_msg("follow", 2)
    agent.write(0, 1, b"hello\n")
    agent.end()
    assert finish(p)[:2] == (0, b"hello\n")


def test_json_launch_is_a_stream_of_objects(ctl, agent):
    p = ctl.popen("--json", "launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    agent.write(1, 2, b"o\0e\nt\xff")
    agent.write(1, 2, b"wo\nhalf")
    agent.end(exit_code=7, first=[{"rank": 1, "state": "exited", "code": 7}])
    code, out, err = finish(p)
    assert code == 7 and err == ""
    events = [json.loads(line) for line in out.decode().splitlines()]
    assert events[0] == {"event": "submitted", "job": 18}
    got = [e for e in events if e["event"] == "output"]
    assert [(e["text"], e["rank"], e["node"], e["stream"]) for e in got] == [
        ("o\0e", 1, "n2", "stderr"), ("t\ufffdwo", 1, "n2", "stderr"), ("half", 1, "n2", "stderr")]
    assert got[2]["partial"] is True
    end = events[-1]
    assert (end["event"], end["job"], end["state"], end["exit_code"], end["nodes"]) == ("end", 18, "failed", 7, ["n1", "n2"])


def test_what_comes_after_a_gap_is_another_line(ctl, agent):
    p = ctl.popen("--json", "launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    agent.wait_msg("follow")
    q = ctl.popen("attach", 18)
    agent.wait_msg("follow", 2)
    out = Reader(q.stdout)
    agent.write(1, 1, b"one\nbegun")
    out.wait("one")
    for c in list(agent.clients):
        for f in c.followers.values():
            c.send_raw(wire.data(f.sid, 1, 1, b"end\nnew\n", 0, 5000))
    agent.streams[(1, 1)] += b"." * (5008 - 9)
    for c in list(agent.clients):
        for f in c.followers.values():
            f.at[(1, 1)] = 5008
    agent.end()
    code, got, err = finish(p)
    assert code == 0
    got = [e for e in map(json.loads, got.decode().splitlines()) if e.get("rank") == 1]
    assert [(e["event"], e.get("offset"), e["text"], e.get("partial")) for e in got] == [
        ("output", 0, "one", None), ("output", 4, "begun", True), ("missing", None, "did not arrive", None),
        ("output", 5000, "end", None), ("output", 5004, "new", None)]
    assert q.wait(20) == 0
    out.thread.join(5)
    assert [x for x in out.data.decode().splitlines() if "n2" in x] == ["[n2:1] one", "[n2:1] begun", "[n2:1] end", "[n2:1] new"]


def test_a_very_long_line_in_json_is_cut_between_characters(ctl, agent):
    p = ctl.popen("--json", "launch", "--", "true")
    agent.submitted()
    agent.start()
    text = "x" + "\u00e4" * 700_000
    agent.write(0, 1, text.encode() + b"\n")
    agent.end()
    code, out, err = finish(p)
    got = [e for e in map(json.loads, out.decode().splitlines()) if e["event"] == "output"]
    assert len(got) > 1 and "".join(e["text"] for e in got) == text
    assert [e["offset"] for e in got] == [len("".join(g["text"] for g in got[:i]).encode()) for i in range(len(got))]


# ---- standard input --------------------------------------------------------


def test_standard_input_goes_to_the_job_within_its_credit(ctl, agent):
    data = os.urandom(1_000_000)
    p = ctl.popen("launch", "--stdin", "--", "cat", stdin=subprocess.PIPE)
    assert agent.submitted()["with_stdin"] is True
    agent.start()
    p.stdin.write(data)
    p.stdin.close()
    agent.wait_for(lambda: agent.stdin_over, what="the end of standard input")
    assert agent.stdin == data
    agent.end()
    assert p.wait(20) == 0


def test_standard_input_is_left_alone_without_the_option(ctl, agent):
    p = ctl.popen("launch", "--", "cat", stdin=subprocess.PIPE)
    agent.submitted()
    agent.start()
    agent.end()
    assert p.wait(20) == 0 and not agent.got("stdin_open")


# ---- signals ----------------------------------------------------------------


def running(ctl, agent, *args, **kw):
    p = ctl.popen("launch", "-N", 2, *args, "--", "true", **kw)
    agent.submitted()
    agent.start("gpu01", "gpu02", each=8)
    agent.write(0, 1, b"up\n")
    out, err = Reader(p.stdout), Reader(p.stderr)
    out.wait("up")
    return p, out, err


def test_interrupt_once_tells_and_twice_ends_the_job(ctl, agent):
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGINT)
    err.wait("again within 3 s")
    assert b"runs 16 of 16 ranks (gpu01: ranks 0-7, gpu02: ranks 8-15)" in err.data
    assert p.poll() is None and not agent.got("kill")
    p.send_signal(signal.SIGINT)
    agent.wait_msg("kill")
    assert p.wait(20) == 130  # as shells expect, whatever signal ended the ranks
    err.thread.join(5)
    assert b"job 18 FAILED" in err.data and b"ended by its user" in err.data


def test_interrupts_far_apart_end_nothing(ctl, agent):
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGINT)
    err.wait("again within")
    time.sleep(3.2)
    p.send_signal(signal.SIGINT)
    wait_until(lambda: err.data.count(b"again within") == 2, 5, "told again")
    assert not agent.got("kill")
    agent.end()
    assert p.wait(20) == 0


def test_a_third_interrupt_leaves(ctl, agent):
    agent.after_kill = lambda a: None
    p, out, err = running(ctl, agent)
    for n in (1, 2, 3):
        p.send_signal(signal.SIGINT)
        if n < 3:
            err.wait(["", "again within", "ending job"][n])
    assert p.wait(10) == 130
    err.thread.join(5)
    assert b"nodectl attach 18" in err.data


def unanswered(ctl, agent, *args):
    """A launch whose job has no number yet."""
    agent.mute_submit = True
    p = ctl.popen("launch", *args, "--", "true")
    agent.wait_msg("submit")
    return p, Reader(p.stderr)


def answer(agent, start=True):
    """The number comes after all, as from a coordinator that was stopped."""
    agent.mute_submit = False
    with agent.lock:
        rid, client = agent.got("submit")[-1]["rid"], agent.clients[-1]
    if start:
        agent.start()
    client.send("submitted", rid=rid, job=str(agent.job))


def test_interrupts_before_the_job_has_a_number_end_it_when_it_has_one(ctl, agent):
    p, err = unanswered(ctl, agent)
    p.send_signal(signal.SIGINT)
    err.wait("has no number yet: it is submitted")
    err.wait("again within 3 s")
    assert p.poll() is None
    p.send_signal(signal.SIGINT)
    err.wait("waiting up to 45 s for the agent to tell it, to end the job then; .C once more leaves")
    answer(agent)
    assert agent.wait_msg("kill")["job"] == "18"
    assert p.wait(20) == 130


def test_a_third_interrupt_before_the_job_has_a_number_leaves(ctl, agent):
    p, err = unanswered(ctl, agent)
    for text in ("again within", "waiting up to", "so it was not ended; whether it was taken: nodectl jobs"):
        p.send_signal(signal.SIGINT)
        err.wait(text)
    assert p.wait(10) == 130


@pytest.mark.parametrize("first", [(), ("--detach",), ("^C",)])
def test_terminated_before_the_job_has_a_number_ends_it_when_it_has_one(ctl, agent, first):
    p, err = unanswered(ctl, agent, *(a for a in first if a != "^C"))
    if "^C" in first:
        p.send_signal(signal.SIGINT)
        err.wait("again within")
    p.send_signal(signal.SIGTERM)
    err.wait(r"no number yet: nodectl was told to \(SIGTERM\); waiting up to 45 s")
    time.sleep(0.3)
    assert p.poll() is None
    answer(agent)
    assert agent.wait_msg("kill")["job"] == "18"
    assert p.wait(20) == 143


def test_the_number_is_not_waited_for_for_ever(ctl, agent):
    p, err = unanswered(ctl, agent)
    p.send_signal(signal.SIGTERM)
    assert p.wait(60) == 143
    err.wait("not answered within 45 s: whether it took the job.*is not known; nodectl jobs tells")


def test_hang_up_after_terminate_tells_that_the_job_is_ending(ctl, agent):
    agent.after_kill = lambda a: None
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGTERM)
    agent.wait_msg("kill")
    p.send_signal(signal.SIGHUP)
    assert p.wait(10) == 129
    err.thread.join(5)
    assert b"job 18 is still ending" in err.data and b"goes on" not in err.data


def test_hang_up_together_with_terminate_ends_the_job_all_the_same(ctl, agent):
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGSTOP)
    p.send_signal(signal.SIGHUP)
    p.send_signal(signal.SIGTERM)
    p.send_signal(signal.SIGCONT)
    assert p.wait(10) == 129
    agent.wait_msg("kill")


def test_terminate_ends_the_job_and_waits(ctl, agent):
    agent.after_kill = lambda a: (time.sleep(0.5), a.end(state="failed", exit_code=5))
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGTERM)
    agent.wait_msg("kill")
    assert p.wait(20) == 5
    agent.reset()
    agent.seen.clear()
    agent.after_kill = lambda a: a.end(state="failed", exit_code=0)
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGTERM)
    assert p.wait(20) == 143


def test_hang_up_leaves_at_once(ctl, agent):
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGHUP)
    assert p.wait(10) == 129 and not agent.got("kill")
    err.thread.join(5)
    assert b"job 18 goes on: nodectl attach 18" in err.data


def test_nohup_is_respected(ctl, agent):
    p, out, err = running(ctl, agent, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    p.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert p.poll() is None
    agent.end()
    assert p.wait(20) == 0


def test_a_stopped_client_goes_on_when_continued(ctl, agent):
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGSTOP)  # TSTP is ignored where there is no job control, as in CI
    wait_until(lambda: b"T (stopped)" in proc_text(p.pid, "status"), 5, "stopped")
    agent.write(0, 1, b"x" * 10_000_000 + b"\nlast\n")
    time.sleep(0.3)
    p.send_signal(signal.SIGCONT)
    agent.end()
    assert p.wait(30) == 0
    out.thread.join(5)
    assert out.data.endswith(b"last\n")


def test_a_reader_that_leaves_is_told_and_the_job_goes_on(ctl, agent):
    p, out, err = running(ctl, agent)
    p.stdout.close()
    wait_until(lambda: (agent.write(0, 1, b"more\n"), p.poll() is not None)[1], 10, "the client leaves", 0.1)
    assert p.returncode == 141 and not agent.got("kill")
    err.thread.join(5)
    assert b"nodectl attach 18" in err.data


def test_standard_output_may_be_a_socket_as_under_sshd(ctl, agent):
    import socket
    ours, theirs = socket.socketpair()
    data = os.urandom(3 * MB)
    p = ctl.popen("launch", "--", "true", stdout=theirs)
    theirs.close()
    agent.submitted()
    agent.start()
    agent.write(0, 1, data)
    agent.end()
    got = b""
    while piece := ours.recv(MB):
        got += piece
    ours.close()
    assert p.wait(20) == 0 and got == data


def test_both_outputs_in_one_file_keep_their_lines_whole(ctl, agent):
    path = os.path.join(agent.dir, "both")
    with open(path, "wb") as f:
        p = ctl.popen("launch", "-N", 2, "--", "true", stdout=f, stderr=subprocess.STDOUT)
        agent.submitted()
        agent.start("n1", "n2")
        for i in range(200):
            agent.write(0, 1, b"out%d" % i)
            agent.write(1, 2, b"err%d" % i)
            agent.write(0, 1, b"\n")
            agent.write(1, 2, b"\n")
        agent.end()
        assert p.wait(20) == 0
    with open(path, "rb") as f:
        lines = f.read().splitlines()
    assert lines[0] == b"job 18"
    assert sorted(lines[1:]) == sorted([b"[n1:0] out%d" % i for i in range(200)] + [b"[n2:1] err%d" % i for i in range(200)])


def test_closed_descriptors_do_no_harm(ctl, agent):
    sh = '"$0" --dir "$1" jobs <&- >&-'
    p = subprocess.run(["sh", "-c", sh, NODECTL, agent.dir], env=ctl.env, capture_output=True, timeout=20)
    assert p.returncode in (0, 1) and agent.got("jobs_get"), p.stderr


def test_a_full_disk_behind_the_output_is_told(ctl, agent):
    with open("/dev/full", "wb") as full:
        p = ctl.popen("launch", "--", "true", stdout=full)
        agent.submitted()
        agent.start()
        agent.write(0, 1, b"x\n")
        assert p.wait(20) == 1
        assert b"No space left" in p.stderr.read()


def test_a_reader_that_stalls_costs_little_and_signals_still_work(ctl, agent):
    p = ctl.popen("launch", "-N", 2, "--", "true")
    err = Reader(p.stderr)
    agent.submitted()
    agent.start("n1", "n2")
    for _ in range(60):
        agent.write(0, 1, (b"x" * 79 + b"\n") * 13107)
    agent.wait_msg("follow")
    time.sleep(1.0)
    m = re.search(rb"VmRSS:\s+(\d+)", proc_text(p.pid, "status"))
    assert int(m.group(1)) < (40 if SLOW == 1 else 150) * 1024, "the agent holds the rest"
    p.send_signal(signal.SIGINT)
    err.wait("again within 3 s")
    agent.end()
    out = p.stdout.read()
    assert p.wait(30) == 0 and len(out) == 60 * 13107 * 87


def test_credit_is_never_exceeded_and_given_back_in_steps(ctl, agent):
    p = ctl.popen("launch", "--", "true")
    agent.submitted()
    agent.start()
    for _ in range(40):
        agent.write(0, 1, b"y" * MB)
    agent.end()
    code, out, err = finish(p, 40)
    assert code == 0 and len(out) == 40 * MB
    first = agent.got("follow")[0]["credit"]
    steps = [m["bytes"] for m in agent.got("credit")]
    assert all(n >= first // 4 for n in steps) and len(steps) <= 40


# ---- connections that are lost --------------------------------------------


@pytest.mark.parametrize("honour", [True, False])
def test_output_goes_on_at_the_exact_byte_after_the_agent_was_away(ctl, agent, honour):
    agent.honour_from = honour
    p = ctl.popen("launch", "-N", 2, "--", "true")
    out, err = Reader(p.stdout), Reader(p.stderr)
    agent.submitted()
    agent.start("n1", "n2")
    agent.write(0, 1, b"one\ntw")
    agent.write(1, 1, b"eins\n")
    out.wait("eins")
    agent.go_away()
    agent.write(0, 1, b"o\nthree\n")
    err.wait("waiting for it", 10)
    agent.write(0, 2, b"error\n")
    agent.listen()
    out.wait("three", 15)
    agent.write(1, 1, b"zwei\n")
    agent.end()
    assert p.wait(20) == 0
    out.thread.join(5)
    err.thread.join(5)
    lines = out.data.splitlines()
    assert [x for x in lines if b":0]" in x] == [b"[n1:0] one", b"[n1:0] two", b"[n1:0] three"]
    assert [x for x in lines if b":1]" in x] == [b"[n2:1] eins", b"[n2:1] zwei"]
    assert err.data.count(b"[n1:0] error") == 1 and b"is back" in err.data
    second = agent.got("follow")[1]
    assert {(f["rank"], f["fd"], f["offset"]) for f in second["from"]} == {(0, 1, "6"), (1, 1, "5")}
    assert len(agent.got("submit")) == 1


def test_a_submit_that_was_not_answered_is_sent_again_with_the_same_id(ctl, agent):
    agent.mute_submit = True
    p = ctl.popen("launch", "--", "true")
    agent.wait_msg("submit")
    agent.go_away()
    agent.mute_submit = False
    agent.listen()
    agent.wait_msg("watch")
    agent.start()
    agent.end()
    assert p.wait(20) == 0
    ids = [m["client_id"] for m in agent.got("submit")]
    assert len(ids) == 2 and len(set(ids)) == 1 and len(agent.client_ids) == 1


def test_a_kill_is_said_again_after_a_reconnect(ctl, agent):
    agent.after_kill = lambda a: None
    p, out, err = running(ctl, agent)
    p.send_signal(signal.SIGTERM)
    agent.wait_msg("kill")
    agent.go_away()
    agent.after_kill = lambda a: a.end(state="failed", exit_code=9)
    agent.listen()
    assert p.wait(20) == 9


def test_attach_shows_what_comes_from_now_on_and_ends_like_launch(ctl, agent):
    agent.start("n1", "n2")
    agent.write(0, 1, b"before\n")
    p = ctl.popen("attach", 18)
    agent.wait_msg("follow")
    time.sleep(0.2)
    agent.write(0, 1, b"after\n")
    agent.end(exit_code=5, first=[{"rank": 0, "state": "exited", "code": 5}])
    code, out, err = finish(p)
    assert (code, out) == (5, b"[n1:0] after\n") and "rank 0 (n1) exited with code 5" in err


@pytest.mark.parametrize("sig, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_attach_leaves_when_it_is_told_to_and_the_job_goes_on(ctl, agent, sig, code):
    agent.start("n1", "n2")
    p = ctl.popen("attach", 18)
    agent.wait_msg("follow")
    p.send_signal(sig)
    assert finish(p) == (code, b"", "nodectl: job 18 goes on: nodectl attach 18\n") and not agent.got("kill")


def test_attach_ends_the_job_by_its_keys(ctl, agent):
    agent.start("n1", "n2")
    p = ctl.popen("attach", 18)
    err = Reader(p.stderr)
    agent.wait_msg("follow")
    p.send_signal(signal.SIGINT)
    err.wait("again within 3 s")
    p.send_signal(signal.SIGINT)
    agent.wait_msg("kill")
    assert p.wait(20) == 130


def test_attach_to_a_job_that_has_ended_gives_its_code(ctl, agent):
    agent.start()
    agent.end(exit_code=4)
    assert ctl("attach", 18).code == 4
    r = ctl("attach", 99)
    assert r.code == 1 and "there is no job 99" in r.err


# ---- logs -------------------------------------------------------------------


def test_logs_show_all_or_some_ranks_from_the_begin(ctl, agent):
    agent.start("n1", "n2", each=2)
    for r in range(4):
        agent.write(r, 1, b"r%d\n" % r)
    assert sorted(ctl("logs", 18).out.splitlines()) == ["[n1:0] r0", "[n1:1] r1", "[n2:2] r2", "[n2:3] r3"]
    assert ctl("logs", "18", "--rank", "2").out == "r2\n"
    assert sorted(ctl("logs", "--rank=0-1,3", "18").out.splitlines()) == ["[n1:0] r0", "[n1:1] r1", "[n2:3] r3"]
    assert ctl("logs", "18", "-r", "1", "--label").out == "[n1:1] r1\n"
    r = ctl("logs", 18, "--rank", 7)
    assert r.code == 1 and "0-3" in r.err
    assert ctl("logs", 77).code == 1


@pytest.mark.parametrize("begin", [(), ("-n", 10), ("--since", "1h")])
def test_what_was_given_back_is_told_and_no_line_is_shown_in_part(ctl, agent, begin):
    agent.start("n1", "n2")
    agent.write(0, 1, b"x" * 65536 + b"agment\nwhole\nlast\n")
    agent.write(1, 1, b"y" * 65536 + b"never ends")
    agent.given = {(0, 1): 65536, (1, 1): 65536}
    agent.output_over = True
    r = ctl("logs", 18, *begin)
    assert r.code == 0 and sorted(r.out.splitlines()) == ["[n1:0] last", "[n1:0] whole", "[n2:1] never ends"]
    told = r.err.splitlines()
    assert len(told) == 2 and told[0] == (
        "nodectl: 65536 bytes of rank 0's oldest output (stdout) are gone: node n1 keeps only so much of it (spool_per_job, "
        "spool_per_node)"), told
    events = [json.loads(x) for x in ctl("--json", "logs", 18, *begin).out.splitlines()]
    assert [(e["event"], e.get("bytes"), e.get("offset"), e["text"][:10]) for e in events if e["rank"] == 0] == [
        ("missing", 65536, None, "were given"), ("output", None, 65543, "whole"), ("output", None, 65549, "last")]


def test_logs_follow_until_the_end(ctl, agent):
    agent.start()
    p = ctl.popen("logs", "-f", 18)
    out = Reader(p.stdout)
    agent.write(0, 1, b"one\n")
    out.wait("one")
    assert p.poll() is None
    agent.write(0, 1, b"two\n")
    agent.end(exit_code=3)
    assert p.wait(20) == 0
    out.thread.join(5)
    assert out.data == b"one\ntwo\n"


def test_logs_stop_quietly_like_any_filter_when_nobody_reads(ctl, agent):
    agent.start()
    agent.write(0, 1, b"x\n" * 3_000_000)
    p = ctl.popen("logs", 18)
    p.stdout.read(100)
    p.stdout.close()
    assert p.wait(20) == 141 and p.stderr.read() == b""


# ---- tables and documents ----------------------------------------------------


def test_kill_says_what_happened(ctl, agent):
    agent.start()
    r = ctl("kill", "--grace", "5s", 18)
    assert r.code == 0 and r.out == "job 18 is being ended\n" and agent.got("kill")[0]["grace_ms"] == 5000
    assert json.loads(ctl("--json", "kill", 18).out) == {"job": 18, "text": "job 18 is being ended"}


def test_the_administrators_words_go_to_the_coordinators_socket(ctl, agent):
    with FakeAgent(agent.dir, "coordinator.sock") as head:
        r = ctl("token", "create", "--ttl", "2h", "--uses", 3, "--nodes", "gpu[01-16]", "--submit", "--uids", "1000-59999")
        assert r.code == 0 and "nodeagentd join head:7070" in r.out and "na1.SECRET.words" in r.out
        m = head.got("token_create")[0]
        want = {"ttl_s": 7200, "uses": 3, "nodes": "gpu[01-16]", "submit": True, "uid_min": 1000, "uid_max": 59999}
        assert {k: m[k] for k in want} == want
        line = [x for x in r.out.splitlines() if "join" in x][0]
        assert "SECRET" not in line, "a token does not belong on a command line"
        with open("/dev/full", "wb") as full:
            r = ctl.popen("token", "create", stdout=full)
            assert r.wait(20) == 1 and b"cannot write" in r.stderr.read(), "a token that nobody has seen"
        j = json.loads(ctl("--json", "token", "create").out)
        assert j["token"] == "na1.SECRET.words" and j["address"] == "head:7070"
        r = ctl("node-remove", "gpu01")
        assert r.code == 0 and "gpu01" in r.out and head.got("node_remove")[0]["node"] == "gpu01"
        r = ctl("drain", "gpu[01-02]", "--why", "new NIC")
        assert (r.code, r.out) == (0, "gpu[01-02]: no new jobs start there; nothing runs there\n")
        assert {k: head.got("node_drain")[0].get(k) for k in ("nodes", "why", "resume")} == {"nodes": "gpu[01-02]", "why": "new NIC", "resume": None}
        j = json.loads(ctl("--json", "resume", "gpu02").out)
        assert j["nodes"] == ["gpu02"] and j["drained"] is False and head.got("node_drain")[1]["resume"] is True
    for line, word in ((["drain"], "missing"), (["drain", "a", "b"], "too many"), (["drain", "gpu[1-"], "^"), (["drain", "a", "--why", "x" * 257], "256"),
                       (["resume", "a", "--why", "x"], "--why"), (["resume"], "missing")):
        r = ctl(*line)
        assert r.code == 2 and word in r.err, (line, r.err)
    r = ctl("token", "create", "--nodes", "gpu[1-")
    assert r.code == 2 and "^" in r.err


# ---- on a terminal -------------------------------------------------------------


def test_a_prompt_is_shown_after_a_moment_and_closed_before_another_rank_writes(ctl, agent):
    t = Terminal(ctl, "launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    agent.write(0, 1, b"name? ")
    t.wait(rb"\[n1:0\] name\? $", 3)
    agent.write(1, 1, b"hello\n")
    t.wait(rb"name\? \r\n\[n2:1\] hello\r\n")
    agent.write(0, 1, b"li\n")
    t.wait(rb"\[n1:0\] li\r\n")
    agent.end()
    assert t.end() == 0


def test_progress_bars_are_drawn_over_and_cleared(ctl, agent):
    t = Terminal(ctl, "launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    agent.write(0, 1, b"a long bar 10%\r")
    t.wait(rb"10%\r$", 3)
    agent.write(0, 1, b"20%\n")
    t.wait(rb"10%\r\x1b\[K\[n1:0\] 20%")
    agent.end()
    assert t.end() == 0


def test_a_single_rank_is_passed_through_at_once(ctl, agent):
    t = Terminal(ctl, "launch", "--stdin", "--", "cat")
    agent.submitted()
    agent.start()
    agent.write(0, 1, b"prompt> ")
    t.wait(rb"prompt> $", 3)
    agent.wait_msg("stdin_open")
    t.type(b"typed\n")
    agent.wait_for(lambda: agent.stdin == b"typed\n", what="the typed line")
    t.type(b"\x04")
    agent.wait_for(lambda: agent.stdin_over, what="end of input")
    agent.end()
    assert t.end() == 0


def test_control_c_and_control_backslash_at_the_keyboard(ctl, agent):
    t = Terminal(ctl, "launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    t.wait(rb"goes on if this terminal closes")
    t.type(b"\x03")
    t.wait(rb"\x1b\[Kjob 18 runs 2 of 2 ranks")
    t.type(b"\x1c")
    assert t.end() == 131 and not agent.got("kill")
    assert b"nodectl attach 18" in t.data


def test_control_c_over_a_bar_leaves_no_torn_label(ctl, agent):
    t = Terminal(ctl, "launch", "-N", 2, "--", "true")
    agent.submitted()
    agent.start("n1", "n2")
    agent.write(0, 1, b"a long bar 10%\r")
    t.wait(rb"10%\r$", 3)
    t.type(b"\x03")
    t.wait(rb"10%\r(\^C)?\r\x1b\[Kjob 18 runs 2 of 2 ranks")
    agent.write(0, 1, b"20%\n")
    t.wait(rb"running\r\n\[n1:0\] 20%\r\n")
    agent.end()
    assert t.end() == 0


@pytest.mark.parametrize("columns, rest", [(80, 21), (50, 4)])
def test_events_are_wrapped_on_a_terminal_and_one_line_each_elsewhere(ctl, agent, columns, rest):
    text = "a sentence that is so long that it does not fit on a line of eighty columns behind all that"
    agent.welcome["features"] = ["events"]
    agent.events = [{"id": "1", "wall_ms": "1000", "kind": "node.unreachable", "severity": "bad", "node": "gpu01", "text": text}] * 2
    lines = ctl("events", env=dict(ctl.env, COLUMNS=str(columns))).out.splitlines()
    assert len(lines) == 2 and all(x.endswith(f"  gpu01  {text}") for x in lines), lines
    t = Terminal(ctl, "events", columns=columns)
    assert t.end() == 0
    shown = t.data.decode().replace("\x1b[31mbad \x1b[0m", "bad ")
    assert shown != t.data.decode() and " ".join(shown.split()) == " ".join(" ".join(lines).split()), shown
    assert all(len(x) <= columns for x in shown.splitlines()) and len(shown.splitlines()) > 2, shown
    assert all(re.match(rf"\d|{' ' * rest}\w", x) for x in shown.splitlines()), shown


def test_a_closed_terminal_leaves_the_job(ctl, agent):
    t = Terminal(ctl, "launch", "--", "true")
    agent.submitted()
    agent.start()
    t.wait(rb"job 18")
    os.close(t.fd)
    assert t.p.wait(10) == 129 and not agent.got("kill")


