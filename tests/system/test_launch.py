"""test_launch.py - nodectl launch: where ranks start, what they are given, what comes back"""
import json
import os
import re
import signal
import subprocess
import time

import pytest

from cluster import PYTHON, SLOW, WORKER, Reader, alive, children, kill, marked, natural, wait_until

PRINT_ENV = "import os,sys; sys.stdout.buffer.write(b''.join(k+b'='+v+b'\\0' for k,v in os.environb.items()))"
ASK = 'echo "$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $NODE_RANK $NNODES $NODEAGENT_NODE"'


def env_of(c, *options, env=None, rank_file="%s"):
    """The environment that each rank saw: {rank: {name: value}}."""
    folder = c.path(f"env{time.monotonic_ns()}")
    os.mkdir(folder)
    script = f"import os;open('{folder}/'+os.environ['RANK'],'wb').write(b'\\0'.join(k+b'='+v for k,v in os.environb.items()))"
    c.launch(*options, "--", PYTHON, "-c", script, env=env).ok()
    got = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as f:
            got[int(name)] = dict(w.split(b"=", 1) for w in f.read().split(b"\0"))
    return {r: {os.fsdecode(k): os.fsdecode(v) for k, v in e.items()} for r, e in got.items()}


# ---- where --------------------------------------------------------------


def test_one_process_on_one_node_is_the_default(shared):
    r = shared.launch("--", "sh", "-c", ASK).ok()
    assert r.out.split()[:6] == ["0", "1", "0", "1", "0", "1"]
    assert not r.out.startswith("["), "one rank needs no label"


def test_job_number_is_said_on_stderr(shared):
    r = shared.launch("--", "true").ok()
    assert r.out == ""
    assert re.search(r"\bjob \d+", r.err)


def test_one_process_per_node(shared):
    got = shared.launch("-N", 3, "--", "sh", "-c", ASK).ok().by_rank()
    assert {r: t.split()[:6] for r, t in got.items()} == {
        r: [str(r), "3", "0", "1", str(r), "3"] for r in range(3)}


def test_labels_name_node_and_rank(shared):
    names = shared.names
    r = shared.launch("-N", 4, "--", "echo", "hello").ok()
    assert sorted(r.lines()) == sorted(f"[{names[k]}:{k}] hello" for k in range(4))


def test_several_processes_per_node_are_numbered_node_by_node(shared):
    got = shared.launch("-N", 2, "--procs-per-node", 3, "--", "sh", "-c", ASK).ok().by_rank()
    assert {r: t.split()[:6] for r, t in got.items()} == {
        r: [str(r), "6", str(r % 3), "3", str(r // 3), "2"] for r in range(6)}


def test_host_list_decides_the_order(shared):
    n = shared.names
    want = [n[3], n[0], n[2]]
    r = shared.launch("-w", ",".join(want), "--", "sh", "-c", "echo $RANK").ok()
    assert sorted(r.lines()) == sorted(f"[{want[k]}:{k}] {k}" for k in range(3))


def test_host_list_in_brackets(shared):
    m = re.fullmatch(r"(.*?)(\d+)", shared.names[0])
    last = re.fullmatch(r"(.*?)(\d+)", shared.names[2]).group(2)
    r = shared.launch("-w", f"{m.group(1)}[{m.group(2)}-{last}]", "--", "true").ok()
    job = int(re.search(r"job (\d+)", r.err).group(1))
    assert shared.job(job)["nodes"] == shared.names[:3]


def test_count_takes_the_first_of_the_host_list(shared):
    n = shared.names
    r = shared.launch("-N", 2, "-w", f"{n[2]},{n[1]},{n[0]}", "--", "echo", "x").ok()
    assert sorted(r.lines()) == sorted([f"[{n[2]}:0] x", f"[{n[1]}:1] x"])


def test_excluded_nodes_are_left_out(shared):
    n = shared.names
    r = shared.launch("-N", 1, "-x", "nosuch", "--", "true")
    assert r.code == 1 and "nosuch" in r.err and "nodectl nodes" in r.err, r
    r = shared.launch("-N", 2, "-x", f"{n[0]},{n[2]}", "--", "echo", "x").ok()
    assert sorted(r.lines()) == sorted([f"[{n[1]}:0] x", f"[{n[3]}:1] x"])


def test_more_nodes_than_there_are_is_refused(shared):
    r = shared.launch("-N", 5, "--", "true")
    assert r.code != 0 and "5 nodes were asked for, but this cluster has 4" in r.err, r


def test_unknown_node_is_named(shared):
    r = shared.launch("-w", "nosuchnode", "--", "true")
    assert r.code != 0 and "nosuchnode" in r.err


@pytest.mark.parametrize("bad", ["n[1-", "n[3-1]", "n[", "n]1", "n[01-2]", ",", "n[a-b]", "N1", "n[1-999999999]"])
def test_malformed_host_list_shows_the_place(shared, bad):
    r = shared.launch("-w", bad, "--", "true")
    assert r.code != 0
    lines = r.err.splitlines()
    assert any(line.strip() and set(line.strip()) == {"^"} for line in lines), f"no caret: {r}"
    assert any(bad in line for line in lines)


def test_no_command_is_refused_with_a_sentence(shared):
    r = shared.launch("-N", 2)
    assert r.code != 0 and r.err.strip() and not r.out


# ---- what ranks are given -----------------------------------------------


def test_names_of_torchrun_and_deepspeed(shared):
    env = dict(shared.env, OMP_NUM_THREADS="")
    del env["OMP_NUM_THREADS"]
    got = env_of(shared, "-N", 2, "--procs-per-node", 2, env=env)
    assert sorted(got) == [0, 1, 2, 3]
    for r, e in got.items():
        local, node = r % 2, r // 2
        want = {
            "RANK": r, "LOCAL_RANK": local, "GROUP_RANK": node, "ROLE_RANK": r, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2,
            "GROUP_WORLD_SIZE": 2, "ROLE_WORLD_SIZE": 4, "ROLE_NAME": "default", "TORCHELASTIC_RESTART_COUNT": 0,
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": 1, "OMP_NUM_THREADS": 1,  # torchrun's
            "LOCAL_SIZE": 2, "CROSS_RANK": node, "CROSS_SIZE": 2,  # DeepSpeed's
            "NNODES": 2, "NODE_RANK": node,  # LLaMA-Factory's
            "PYTHONUNBUFFERED": 1,
        }
        assert {k: e.get(k) for k in want} == {k: str(v) for k, v in want.items()}, f"rank {r}"
        assert e["MASTER_ADDR"] and 1024 < int(e["MASTER_PORT"]) < 65536
        # with these every rank would be a client of a store that nobody hosts
        assert e.get("TORCHELASTIC_USE_AGENT_STORE") in (None, "False")
        assert "TORCHELASTIC_RUN_ID" not in e
        assert "FORCE_TORCHRUN" not in e, "only for one process per node"
    assert len({(e["MASTER_ADDR"], e["MASTER_PORT"]) for e in got.values()}) == 1
    ras = [e["NCCL_RAS_ADDR"] for e in got.values()]
    assert len(set(ras)) == 4 and all(a.startswith("127.0.0.1:") for a in ras)
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"):
        assert all(e.get(name) for e in got.values()), name


def test_one_process_per_node_is_ready_for_llamafactory(shared):
    got = env_of(shared, "-N", 2)
    for r, e in got.items():
        assert (e["NNODES"], e["NODE_RANK"], e["RANK"]) == ("2", str(r), str(r))
        assert e["FORCE_TORCHRUN"] in ("1", "true")
        assert "NPROC_PER_NODE" not in e, "not known to us: its launcher counts the devices"
        assert "OMP_NUM_THREADS" not in e or "OMP_NUM_THREADS" in os.environ, "torchrun sets it for its workers"


def test_callers_environment_is_passed_on(shared):
    env = dict(shared.env, NA_HELLO="a b\tc\n\"d'$", NA_EMPTY="", LANG="C")
    e = env_of(shared, env=env)[0]
    assert (e["NA_HELLO"], e["NA_EMPTY"], e["LANG"]) == ("a b\tc\n\"d'$", "", "C")
    assert e["PATH"] == env["PATH"]


def test_environment_is_bytes(shared):
    env = {os.fsencode(k): os.fsencode(v) for k, v in shared.env.items()}
    env[b"NA_GBK"] = b"\xb2\xe2\xca\xd4"
    assert os.fsencode(env_of(shared, env=env)[0]["NA_GBK"]) == b"\xb2\xe2\xca\xd4"


def test_host_specific_variables_are_dropped(shared):
    drop = {"SSH_CLIENT": "1", "SSH_CONNECTION": "1", "XDG_RUNTIME_DIR": "/x", "DBUS_SESSION_BUS_ADDRESS": "x", "DISPLAY": ":0",
            "SLURM_PROCID": "3", "SLURM_JOB_ID": "9", "PMI_RANK": "5", "OMPI_COMM_WORLD_RANK": "7",
            "GROUP_RANK": "66", "RANK": "55", "LOCAL_RANK": "44", "TORCHELASTIC_RUN_ID": "old"}
    e = env_of(shared, env=dict(shared.env, **drop))[0]
    assert {k: e[k] for k in drop if k in e} == {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}


def test_callers_own_settings_win(shared):
    mine = {"PYTHONUNBUFFERED": "0", "NCCL_SOCKET_IFNAME": "eth7", "CUDA_DEVICE_ORDER": "FASTEST_FIRST", "OMP_NUM_THREADS": "5"}
    for e in env_of(shared, "-N", 2, env=dict(shared.env, **mine)).values():
        assert {k: e[k] for k in mine} == mine


def test_env_option_sets_passes_and_cleans(shared):
    env = dict(shared.env, NA_A="1", NA_B="2")
    e = env_of(shared, "--env", "NA_A=x=y", "--env", "NA_C=", env=env)[0]
    assert (e["NA_A"], e["NA_B"], e["NA_C"]) == ("x=y", "2", "")
    e = env_of(shared, "--clean-env", "--env", "NA_A", "--env", "NA_D=4", env=env)[0]
    assert (e["NA_A"], e["NA_D"]) == ("1", "4") and "NA_B" not in e and e["RANK"] == "0"
    # the mark of this test is not passed either, and nothing of ours leaks in
    assert not [k for k in e if k.startswith("NODEAGENT_") and k not in
                ("NODEAGENT_COOKIE", "NODEAGENT_NODE", "NODEAGENT_JOB", "NODEAGENT_JOB_ID", "NODEAGENT_ATTEMPT")]


def test_working_directory_is_the_callers_or_the_one_named(shared):
    here = shared.path("a folder")
    os.makedirs(here, exist_ok=True)
    assert shared.launch("--", "pwd", cwd=here).ok().out == here + "\n"
    assert shared.launch("--cwd", "/usr/lib", "--", "pwd", cwd=here).ok().out == "/usr/lib\n"


def test_arguments_arrive_byte_for_byte(shared):
    args = [b"", b"a b", b"\xff\xfe\x80", b"'\"$`\\", b"-N", b"--", b"\n"]
    r = shared.launch("--", PYTHON, "-c", "import sys,os;print([os.fsencode(a) for a in sys.argv[1:]])",
                      *[os.fsdecode(a) for a in args]).ok()
    assert eval(r.out) == args


def test_open_files_are_the_three_only(shared):
    r = shared.launch("-N", 2, "--", "sh", "-c", "ls /proc/self/fd").ok()
    for text in r.by_rank().values():
        assert text.split() == ["0", "1", "2", "3"], "3 is ls's own"


def test_signals_are_at_their_defaults(shared):
    r = shared.launch("--", "sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status").ok()
    assert re.findall(r"(\w+):\s+([0-9a-f]+)", r.out) == [("SigBlk", "0" * 16), ("SigIgn", "0" * 16)]


def test_stdin_goes_to_rank_0(shared):
    data = os.urandom(3_000_000)
    import hashlib
    r = shared.launch("-N", 2, "--stdin", "--", "sha256sum", input=data).ok()
    got = {k: t.split()[0] for k, t in r.by_rank().items()}
    assert got == {0: hashlib.sha256(data).hexdigest(), 1: hashlib.sha256(b"").hexdigest()}


def test_without_stdin_option_nobody_reads_ours(shared):
    r = shared.launch("--", "wc", "-c", input=b"hello").ok()
    assert r.out.strip() == "0"


def test_stdin_may_end_late(shared):
    p = shared.popen("launch", "--stdin", "--", "sh", "-c", "read a; echo got $a; cat; echo end", stdin=subprocess.PIPE)
    out = Reader(p.stdout)
    p.stdin.write(b"one\n")
    p.stdin.flush()
    out.wait("got one")
    p.stdin.write(b"two\n")
    p.stdin.flush()
    out.wait("two")
    assert p.poll() is None
    p.stdin.close()
    assert p.wait(20) == 0
    out.wait("end")


# ---- what comes back ----------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_exit_code_of_one_rank(shared, code):
    assert shared.launch("--", "sh", "-c", f"exit {code}").code == code


@pytest.mark.parametrize("sig", ["KILL", "TERM", "SEGV"])
def test_death_by_signal_is_128_and_its_number(shared, sig):
    r = shared.launch("--", "sh", "-c", f"kill -{sig} $$")
    assert r.code == 128 + getattr(signal, f"SIG{sig}")
    assert sig in r.err or str(int(getattr(signal, f"SIG{sig}"))) in r.err


def test_command_that_does_not_exist(shared):
    r = shared.launch("-N", 2, "--", "no-such-program-here")
    assert r.code == 127 and "no-such-program-here" in r.err
    named = [n for n in shared.names if n in r.err]
    assert len(named) == 1 and r.err.count(named[0]) == 1, f"the node is named once: {r}"


def test_command_that_may_not_be_executed(shared):
    path = shared.write("plain.txt", "hello\n", 0o644)
    r = shared.launch("--", path)
    assert r.code == 126 and path in r.err


def test_script_with_a_missing_interpreter_names_it(shared):
    path = shared.write("bad-shebang", "#!/no/such/python\nprint(1)\n", 0o755)
    r = shared.launch("--", path)
    assert r.code in (126, 127) and "/no/such/python" in r.err


def test_first_rank_to_fail_decides_and_is_named(shared):
    n = shared.names
    start = time.monotonic()
    r = shared.launch("-N", 4, "--procs-per-node", 2, "--", "sh", "-c",
                      "[ $RANK = 5 ] && { echo last words >&2; exit 7; }; exec sleep 100")
    assert r.code == 7
    assert time.monotonic() - start < 3 * SLOW
    line = [x for x in r.err.splitlines() if "rank 5" in x and n[2] in x and "7" in x and re.search(r"pid \d+", x)]
    assert line, f"no line naming rank, node, pid and code: {r}"
    assert "last words" in r.err


def test_first_of_two_failures_wins(shared):
    r = shared.launch("-N", 2, "--grace", "5s", "--", PYTHON, "-c",
                      "import os,time,signal,sys\n"
                      "signal.signal(signal.SIGTERM, lambda *a: os._exit(9))\n"
                      "if os.environ['RANK'] == '1': time.sleep(0.3); sys.exit(3)\n"
                      "time.sleep(60)")
    assert r.code == 3


def test_ranks_meet_at_the_master_address(shared):
    r = shared.launch("-N", 4, "--procs-per-node", 2, "--", WORKER, "--size", 200000, "--steps", 3).ok()
    assert {k: t.strip() for k, t in r.by_rank().items()} == {
        k: f"rank {k} of 8 on {shared.names[k // 2]}: sum of 200000 numbers is right" for k in range(8)}


def test_worker_that_fails_in_the_middle(shared):
    # the survivors notice too and end with 1; the first death decides. They linger, as ranks with a GPU do: what
    # dies within the same millisecond is a question of luck on a loaded host
    r = shared.launch("-N", 2, "--procs-per-node", 2, "--", "sh", "-c", '"$@"; code=$?; [ $code = 41 ] || sleep 0.3; exit $code',
                      "worker", WORKER, "--size", 1000, "--steps", 1000, "--sleep", 5,
                      "--fail-rank", 2, "--fail-step", 20, "--fail-code", 41)
    assert r.code == 41 and "rank 2" in r.err


def test_two_jobs_at_once_have_ports_of_their_own(shared):
    ps = [shared.popen("launch", "-N", 2, "--", "sh", "-c", "echo port $MASTER_PORT; sleep 1; exec \"$0\" --size 1000", WORKER)
          for _ in range(4)]
    ports = []
    for p in ps:
        out, err = p.communicate(timeout=60)
        assert p.returncode == 0, err
        ports.append(set(re.findall(rb"port (\d+)", out)))
    assert all(len(s) == 1 for s in ports) and len(set.union(*ports)) == 4
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        low = int(f.read().split()[0])
    for port in map(int, set.union(*ports)):
        assert port < low and port not in (28028, 29500)


def test_time_limit_ends_the_job(shared):
    start = time.monotonic()
    r = shared.launch("--time", "1s", "--grace", "1s", "--", "sleep", "100")
    assert r.code != 0 and 0.9 < time.monotonic() - start < 5 * SLOW
    assert "time" in r.err and "limit" in r.err


# ---- jobs without their client ------------------------------------------


def test_detached_job_can_be_looked_at_attached_and_read(shared):
    job = shared.detach("-N", 2, "--name", "demo", "--", "sh", "-c", "echo begin $RANK; sleep 1; echo end $RANK; sleep 0.$((RANK * 5)); exit $((RANK * 5))")
    j = shared.wait_state(job, "running")
    assert j["name"] == "demo" and j["nnodes"] == 2
    assert str(job) in shared.ctl("jobs").ok().out
    r = shared.ctl("attach", job)
    assert r.code == 5
    assert all(t.endswith(f"end {k}\n") for k, t in r.by_rank().items()), "attach follows from now on"
    j = shared.wait_end(job)
    assert (j["state"], j["exit_code"]) == ("failed", 5)
    logs = shared.ctl("logs", job).ok()
    assert logs.by_rank() == {0: "begin 0\nend 0\n", 1: "begin 1\nend 1\n"}
    one = shared.ctl("logs", job, "--rank", 1).ok()
    assert "end 1" in one.out and "end 0" not in one.out
    shown = shared.ctl("job", job).ok().out
    assert "demo" in shown and "failed" in shown.lower()


def test_logs_follow_a_running_job(shared):
    job = shared.detach("--", "sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.4; done")
    p = shared.popen("logs", job, "-f")
    out = Reader(p.stdout)
    out.wait("line 1")
    assert p.poll() is None
    assert p.wait(20) == 0
    out.thread.join(5)
    assert out.data == b"line 1\nline 2\nline 3\n"


def test_kill_ends_a_job(shared):
    job = shared.detach("-N", 2, "--", "sleep", "100")
    shared.wait_state(job, "running")
    shared.ctl("kill", job).ok()
    j = shared.wait_end(job, 10 * SLOW)
    assert j["state"] == "failed" and j["exit_code"] != 0
    j = shared.job(job)
    assert j["state"] == "failed" and j["asked"] is True, j
    assert re.search(rf"^{job} .* ended +143 ", shared.ctl("jobs", "--all").ok().out, re.M)
    assert shared.ctl("job", job).ok().out.splitlines()[0].split() == ["job", str(job), "ended"]
    again = shared.ctl("kill", job)
    assert again.code != 0 or "ended" in again.out + again.err


def test_unknown_job_is_a_sentence(shared):
    for command in ("job", "logs", "attach", "kill"):
        r = shared.ctl(command, 999999)
        assert r.code != 0 and "999999" in r.err, r


def test_jobs_show_ended_ones_on_request_as_json(shared):
    job = shared.detach("--", "true")
    shared.wait_end(job)
    jobs = shared.json("jobs", "--all")["jobs"]
    assert [j for j in jobs if int(j["job"]) == job and j["state"] == "done" and j["exit_code"] == 0]


def waiting_launch(shared, *options, script="echo up $RANK; exec sleep 100"):
    p = shared.popen("launch", "-N", 2, *options, "--", "sh", "-c", script)
    out, err = Reader(p.stdout), Reader(p.stderr)
    out.wait("up 0")
    out.wait("up 1")
    job = int(err.wait(r"job (\d+)").group(1))
    return p, job, out, err


def test_interrupt_once_shows_twice_ends(shared):
    p, job, out, err = waiting_launch(shared)
    before = len(err.data)
    p.send_signal(signal.SIGINT)
    wait_until(lambda: len(err.data) > before, 5, "a word about what is running")
    time.sleep(0.3)
    assert p.poll() is None and shared.job(job)["state"] == "running"
    p.send_signal(signal.SIGINT)
    time.sleep(0.2)
    if p.poll() is None and shared.job(job)["state"] == "running":
        p.send_signal(signal.SIGINT)  # twice means twice in a row
    assert p.wait(15) == 130
    assert shared.wait_end(job)["state"] == "failed"


def test_terminating_the_client_ends_the_job(shared):
    p, job, out, err = waiting_launch(shared)
    p.send_signal(signal.SIGTERM)
    assert p.wait(15) == 143
    assert shared.wait_end(job)["state"] == "failed"


def test_hanging_up_leaves_the_job(shared):
    p, job, out, err = waiting_launch(shared)
    p.send_signal(signal.SIGHUP)
    p.wait(15)
    time.sleep(0.5)
    assert shared.job(job)["state"] == "running"
    shared.ctl("kill", job).ok()
    shared.wait_end(job)


def test_killing_the_client_leaves_the_job_and_its_output(shared):
    p, job, out, err = waiting_launch(shared, script="echo up $RANK; sleep 1.5; echo late $RANK; sleep 0.3; exit 3")
    p.kill()
    p.wait()
    time.sleep(0.3)
    assert shared.job(job)["state"] == "running"
    r = shared.ctl("attach", job)
    assert r.code == 3
    assert all(t.endswith(f"late {k}\n") for k, t in r.by_rank().items())
    assert shared.ctl("logs", job).ok().by_rank() == {0: "up 0\nlate 0\n", 1: "up 1\nlate 1\n"}


def test_dry_run_starts_nothing(shared):
    before = len(shared.json("jobs", "--all")["jobs"])
    r = shared.launch("-N", 2, "--dry-run", "--", "touch", shared.path("dry"))
    assert r.code == 0 and not os.path.exists(shared.path("dry"))
    assert len(shared.json("jobs", "--all")["jobs"]) == before


def test_status_fits_80_columns_and_has_no_colour_in_a_pipe(shared):
    job = shared.detach("-N", 4, "--name", "a-name-that-is-long-enough-to-be-cut-by-a-careful-program", "--", "sleep", "100")
    shared.wait_state(job, "running")
    try:
        for command in (["status"], ["nodes"], ["jobs"], ["job", job]):
            r = shared.ctl(*command, env=dict(shared.env, COLUMNS="80")).ok()
            assert "\x1b" not in r.out
            assert max(len(line) for line in r.lines()) <= 80, r.out
        out = shared.ctl("status").ok().out
        assert all(n in out for n in shared.names) and str(job) in out
        status = shared.json("status")
        assert {n["name"]: n["state"] for n in status["nodes"]} == {n: "ok" for n in shared.names}
        for n in status["nodes"]:
            assert set(n) >= {"name", "state"} and "job" in n
    finally:
        shared.ctl("kill", job)
        shared.wait_end(job)


def test_256_ranks_on_one_node_start_once_each(shared):
    r = shared.launch("--procs-per-node", 256, "--no-label", "--", "sh", "-c", "echo $RANK", timeout=120).ok()
    assert sorted(map(int, r.lines())) == list(range(256))
