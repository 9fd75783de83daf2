"""A node as systemd runs it, for several users: launcher as root, agent and coordinator as a user of their own.

Users, groups and their passwords' absence are ours: the programs run in a mount
namespace where /etc/passwd, group and shadow are files of the test.
"""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest

from cluster import (BUILD, PYTHON, SLOW, Base, Result, alive, children, cmdline, free_port, kill, marked, proc_text,
                     wait_until)

# alice and bob may run jobs here; dave's uid is too high for the node, erin's for its launcher, carol's for any node
USERS = {"nodeagent": 20900, "alice": 20001, "bob": 20002, "erin": 25001, "dave": 30001, "carol": 60001}
GROUPS = {"lab": (20100, ["alice", "bob"]), "secret": (20101, ["alice"]), "nodeagent-admin": (20102, [])}
AGENT_MAX, LAUNCHER_MAX = 29999, 24999
SUBMIT = "0-59999"  # whom the coordinator lets this node speak for

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not all(map(shutil.which, ("unshare", "nsenter", "setpriv", "su", "prlimit"))),
                       reason="unshare, nsenter, setpriv, su and prlimit are needed"),
]


class Host(Base):
    def __init__(self, launcher=(), agent_conf=""):
        super().__init__()
        os.chmod(self.dir, 0o755)
        self.daemons = {}
        self.holder = None
        try:
            self.programs()
            self.namespace()
            self.cluster(agent_conf)
            self.launcher = launcher
            self.start_launcher()
            self.start("coordinator")
            self.join()
            self.start("agent")
            wait_until(lambda: self.su("alice", "nodectl --json status | grep -q '\"ok\"'").code == 0, 15 * SLOW, "registered", 0.2)
        except BaseException:
            print(self.logs())
            self.finish()
            self.remove()
            raise

    # ---- making it

    def programs(self):
        os.mkdir(self.path("bin"))
        for name in ("nodeagentd", "nodectl", "nodeagent-shim", "nodeagent-launcher"):
            shutil.copy(os.path.join(BUILD, name), self.path("bin"))

    def namespace(self):
        homes = self.path("home")
        os.mkdir(homes)
        os.chmod(homes, 0o755)
        passwd, shadow = "root:x:0:0:root:/root:/bin/sh\n", "root:*:19000:0:99999:7:::\n"
        group = "root:x:0:\n" + "".join(f"{g}:x:{gid}:{','.join(who)}\n" for g, (gid, who) in GROUPS.items())
        for user, uid in USERS.items():
            home = os.path.join(homes, user)
            os.mkdir(home, 0o700)
            os.chown(home, uid, uid)
            passwd += f"{user}:x:{uid}:{uid}::{home}:/bin/sh\n"
            group += f"{user}:x:{uid}:\n"
            shadow += f"{user}:*:19000:0:99999:7:::\n"
        script = "set -e\n"
        for name, text in (("passwd", passwd), ("group", group), ("shadow", shadow)):
            script += f"mount --bind {self.write(name, text, 0o600 if name == 'shadow' else 0o644)} /etc/{name}\n"
        self.holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c",
                                        script + "echo up; exec sleep 100000"], stdout=subprocess.PIPE, env=self.env)
        assert self.holder.stdout.readline() == b"up\n"
        self.inside = ["nsenter", "-t", str(self.holder.pid), "-m"]

    def cluster(self, agent_conf):
        self.port = free_port()
        for role in ("coordinator", "agent"):
            self.write(f"{role}.conf", f"[coordinator]\nstate = {self.dir}/coordinator\nsocket = {self.dir}/crun/c.sock\n"
                       f"[agent]\nstate = {self.dir}/{'head' if role == 'coordinator' else 'agent'}\nrun = {self.dir}/run\n"
                       f"spool = {self.dir}/spool\nlauncher = {self.dir}/launcher.sock\nuid_max = {AGENT_MAX}\n"
                       f"shim = {self.dir}/bin/nodeagent-shim\n" + agent_conf)
        for d in ("run", "crun"):
            os.mkdir(self.path(d))
            os.chmod(self.path(d), 0o755)
            os.chown(self.path(d), USERS["nodeagent"], USERS["nodeagent"])
        self.run(self.path("bin/nodeagentd"), "init", "--config", self.path("coordinator.conf"), "--listen",
                 f"127.0.0.1:{self.port}").ok()

    def join(self):
        """As root, and the files are the daemons' user's."""
        wait_until(lambda: self.admin("token", "create").code == 0, 15 * SLOW, "the coordinator answers", 0.2)
        token = json.loads(self.admin("--json", "token", "create", "--submit", "--uids", SUBMIT).ok().out)["token"]
        path = self.write("token", token + "\n", 0o600)
        self.run(self.path("bin/nodeagentd"), "join", f"127.0.0.1:{self.port}", "--name", "n1", "--config",
                 self.path("agent.conf"), "--token-file", path).ok()

    # ---- running things

    def run(self, *args, timeout=60, env=None, **kw):
        start = time.monotonic()
        p = subprocess.run([*self.inside, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=env or self.env, timeout=timeout, **kw)
        return Result(args, p.returncode, p.stdout, p.stderr, time.monotonic() - start)

    def admin(self, *args):
        return self.run(self.path("bin/nodectl"), "--socket", self.path("crun/c.sock"), *args)

    def su(self, user, command, timeout=60):
        """In a fresh login of a user; nodectl means this node's."""
        ctl = f"nodectl() {{ {self.dir}/bin/nodectl --socket {self.dir}/run/agent.sock \"$@\"; }}\n"
        return self.run("su", "-l", user, "-c", ctl + command, timeout=timeout)

    def daemon(self, name, *args, prefix=()):
        with open(self.path(f"{name}.log"), "ab") as log:
            p = subprocess.Popen([*self.inside, *prefix, *map(str, args)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 env=self.env)
        self.daemons[name] = p
        return p

    def start_launcher(self):
        limit = json.loads(self.su("alice", f"{PYTHON} -c 'import resource as r; print(list(r.getrlimit(r.RLIMIT_NOFILE)))'").ok().out)
        # descriptors as a login has them: a service has the same from systemd
        self.daemon("launcher", self.path("bin/nodeagent-launcher"), "--socket", self.path("launcher.sock"), "--spool",
                    self.path("spool"), "--shim", self.path("bin/nodeagent-shim"), "--uid-max", LAUNCHER_MAX, *self.launcher,
                    prefix=["prlimit", f"--nofile={limit[0]}:{limit[1]}"])
        wait_until(lambda: os.path.exists(self.path("launcher.sock")), 10 * SLOW, "the launcher listens")

    def start(self, role):
        """As its unit does."""
        return self.daemon(role, self.path("bin/nodeagentd"), f"--{role}", "--config", self.path(f"{role}.conf"),
                           prefix=["setpriv", f"--reuid={USERS['nodeagent']}", f"--regid={USERS['nodeagent']}", "--init-groups",
                                   "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])

    def stop(self, name, sig=signal.SIGTERM):
        p = self.daemons.pop(name)
        p.send_signal(sig)
        return p.wait(20)

    # ---- jobs

    def launch(self, user, command, timeout=60):
        """Number of a detached job that runs."""
        r = self.su(user, f"nodectl --json launch --detach {command}", timeout).ok()
        job = int(json.loads(r.out)["job"])
        self.wait_job(user, job, "running")
        return job

    def look(self, user, job):
        return json.loads(self.su(user, f"nodectl --json job {job}").ok().out)

    def wait_job(self, user, job, *states):
        def there():
            j = self.look(user, job)
            return j if j["state"] in states else None
        return wait_until(there, 20 * SLOW, f"job {job} is {states}", 0.1)

    def finish(self):
        for p in marked(self.path("spool")):  # shims live on without daemons: with them go their ranks
            kill(p)
        for name in ("agent", "coordinator", "launcher"):
            p = self.daemons.get(name)
            if p and p.poll() is None:
                p.terminate()
                try:
                    p.wait(15)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
        if self.holder:
            self.holder.kill()
            self.holder.wait()
            self.holder.stdout.close()
        return super().finish()


def closed(host, request):
    failed = str(request.fspath) in getattr(request.session, "failed_files", set())
    if failed:
        print(host.logs())
    left = host.finish()
    host.remove()
    assert not left, f"processes left behind: {left}"


@pytest.fixture(scope="module")
def host(request):
    h = Host()
    yield h
    closed(h, request)


# ---- who is who ----------------------------------------------------------------------------

# Everything that a process has from whoever started it.
STATE = ("import json,os,resource as r,sys;"
         "s=dict(l.rstrip().split(':',1) for l in open('/proc/self/status'));"
         "keep=('Uid','Gid','Groups','CapInh','CapPrm','CapEff','CapBnd','CapAmb','NoNewPrivs','Seccomp','SigBlk','SigIgn',"
         "'Cpus_allowed','Mems_allowed');"
         "print('STATE'+json.dumps(dict(status={k:s[k].split() for k in keep if k in s},"
         "fds=sorted(map(int,os.listdir('/proc/self/fd')))[:-1],umask=os.umask(0),"
         "limits={n:r.getrlimit(getattr(r,n)) for n in dir(r) if n.startswith('RLIMIT_')},"
         "oom=open('/proc/self/oom_score_adj').read().strip(),nice=os.nice(0),cwd=os.getcwd(),env=dict(os.environ))))")

# What a rank has besides: who it is, and defaults where the user has set nothing.
OURS = set("""RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE NODE_RANK NNODES MASTER_ADDR MASTER_PORT GROUP_RANK GROUP_WORLD_SIZE ROLE_NAME
ROLE_RANK ROLE_WORLD_SIZE LOCAL_SIZE CROSS_RANK CROSS_SIZE TORCHELASTIC_RESTART_COUNT TORCHELASTIC_MAX_RESTARTS NODEAGENT_JOB NODEAGENT_ATTEMPT NODEAGENT_NODE
NODEAGENT_COOKIE FORCE_TORCHRUN GLOO_SOCKET_IFNAME NCCL_SOCKET_IFNAME TP_SOCKET_IFNAME NCCL_RAS_ADDR OMP_NUM_THREADS
PYTHONUNBUFFERED TORCH_NCCL_ASYNC_ERROR_HANDLING PET_NNODES PET_NODE_RANK PET_MASTER_ADDR PET_MASTER_PORT
PET_RDZV_ID NCCL_DEBUG NCCL_DEBUG_FILE NCCL_DEBUG_SUBSYS""".split())


def state_of(r):
    return json.loads(next(line for line in r.ok().out.splitlines() if line.startswith("STATE"))[5:])


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_rank_has_what_a_fresh_login_of_its_user_has(host, user):
    command = f"{PYTHON} -c \"$CODE\""
    login = state_of(host.su(user, f"CODE={quote(STATE)}; {command} </dev/null"))
    rank = state_of(host.su(user, f"CODE={quote(STATE)}; nodectl launch -- {command}"))
    groups = sorted([str(USERS[user])] + [str(gid) for gid, who in GROUPS.values() if user in who])
    assert sorted(rank["status"]["Groups"]) == sorted(login["status"]["Groups"]) == groups
    assert rank["status"]["Uid"] == [str(USERS[user])] * 4 and rank["status"]["Gid"] == [str(USERS[user])] * 4
    for s in (rank, login):  # signals 32 and 33 are libc's own: whoever started us may have left them ignored
        s["status"]["SigIgn"] = [f"{int(v, 16) & ~(3 << 31):016x}" for v in s["status"]["SigIgn"]]
    assert rank["status"] == login["status"]
    assert rank["fds"] == login["fds"] == [0, 1, 2]
    for key in ("umask", "oom", "nice", "cwd"):
        assert rank[key] == login[key], key
    memlock = rank["limits"].pop("RLIMIT_MEMLOCK"), login["limits"].pop("RLIMIT_MEMLOCK")
    assert memlock[0][0] == -1 or memlock[0][0] >= memlock[1][1] > 0  # the one that is better, for InfiniBand
    assert rank["limits"] == login["limits"]
    lost = {k: v for k, v in login["env"].items() if rank["env"].get(k) != v}
    assert set(lost) <= {"_", "OLDPWD", "SHLVL", "PWD"}, lost
    assert set(rank["env"]) - set(login["env"]) - OURS == set()
    assert rank["env"]["NODEAGENT_NODE"] == "n1" and "NODEAGENT_AGENT_UID" not in rank["env"]


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def test_the_daemons_have_no_rights_and_the_shim_knows_the_agent(host):
    for role in ("agent", "coordinator"):
        status = dict(line.split(":", 1) for line in proc_text(host.daemons[role].pid, "status").decode().splitlines())
        assert status["Uid"].split() == [str(USERS["nodeagent"])] * 4
        assert [int(status[c], 16) for c in ("CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 4
        assert status["NoNewPrivs"].strip() == "1"
    job = host.launch("alice", "-- sleep 1000")
    shim = next(p for p in children(host.daemons["launcher"].pid) if cmdline(p).startswith(f"nodeagent-shim {job} "))
    assert f"NODEAGENT_AGENT_UID={USERS['nodeagent']}".encode() in proc_text(shim, "environ").split(b"\0")
    assert os.stat(f"/proc/{shim}").st_uid == USERS["alice"]
    host.su("alice", f"nodectl kill --grace 0s {job}").ok()


def test_init_and_join_leave_files_to_the_daemons_user(host):
    for path, mode in (("coordinator", 0o700), ("coordinator/key.pem", 0o600), ("coordinator/state.db", None), ("head", 0o700),
                       ("head/node.ini", 0o600), ("agent", 0o700), ("agent/key.pem", 0o600), ("agent/node.ini", 0o600)):
        st = os.stat(host.path(path))
        assert (st.st_uid, st.st_gid) == (USERS["nodeagent"],) * 2, path
        assert mode is None or stat.S_IMODE(st.st_mode) == mode, path


def test_the_working_directory_is_entered_as_the_user(host):
    home = host.path("home", "alice")  # 0700: neither root's nor the agent's to enter
    assert host.su("alice", f"cd {home} && nodectl launch -- pwd").ok().out.strip() == home
    r = host.su("bob", f"nodectl launch --cwd {home} -- pwd")
    assert r.code and f"node n1: cwd {home} may not be entered by uid {USERS['bob']}" in r.err


# ---- one from another ------------------------------------------------------------------------

HUSH = "hush-7f3a"
SEES = """import os, sys
for path in sys.argv[1:]:
    try:
        print('READ', path, os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(100))
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def secrets(host):
    """A running job of each, that says a secret, has one in its environment and one as an argument."""
    command = f"--env KEPT={HUSH}-env -- sh -c 'echo {HUSH}-out; sleep 1000' {HUSH}-arg"
    jobs = {user: host.launch(user, command) for user in ("alice", "bob")}
    for user, job in jobs.items():
        wait_until(lambda: f"{HUSH}-out" in host.su(user, f"nodectl logs {job}").out, 10 * SLOW, "the secret is said", 0.1)
    yield jobs
    for user, job in jobs.items():
        host.su(user, f"nodectl kill --grace 0s {job}").ok()
        host.wait_job(user, job, "done", "failed")


@pytest.fixture(params=["alice", "bob"])
def pair(request, secrets):
    """(whose job, the other one, the job)"""
    other = {"alice": "bob", "bob": "alice"}[request.param]
    return request.param, other, secrets[request.param]


def rank_of(host, user, job):
    return int(host.look(user, job)["ranks"][0]["pid"])


def test_another_users_output_and_job_are_refused_by_nodectl(host, pair):
    owner, other, job = pair
    for command in ("logs", "logs -f", "attach", "job", "--json job", "--json logs"):
        words = command.split()
        r = host.su(other, f"nodectl {' '.join(w for w in words if w.startswith('--'))} "
                           f"{' '.join(w for w in words if not w.startswith('--'))} {job}")
        assert r.code and HUSH not in r.out + r.err, r
        assert f"job {job} is not yours: it belongs to {owner}" in r.err + r.out, r


def test_lists_show_that_it_exists_and_nothing_of_it(host, pair):
    owner, other, job = pair
    for command in ("jobs --all", "status", "--json jobs", "--json status", "node n1", "nodes"):
        words = command.split()
        flags = [w for w in words if w == "--json"]
        r = host.su(other, f"nodectl {' '.join(flags)} {' '.join(w for w in words if w != '--json')}").ok()
        # the other one's own job has the same words: only lines and records of the owner's count
        if flags:
            text = json.dumps([j for j in json.loads(r.out).get("jobs", []) if int(j["job"]) == job])
        else:
            text = "\n".join(line for line in r.lines() if owner in line)
        assert HUSH not in text, (command, text)
    assert any(owner in line for line in host.su(other, "nodectl jobs").ok().lines())


def test_another_users_ranks_cannot_be_ended(host, pair):
    owner, other, job = pair
    pid = rank_of(host, owner, job)
    r = host.su(other, f"nodectl kill --grace 0s {job}")
    assert r.code and f"job {job} is not yours: it belongs to {owner}" in r.err
    assert host.su(other, f"kill -9 {pid}").code
    assert alive(pid) and host.look(owner, job)["state"] == "running"


FORGER = """import sys, wire
path, proto, job, uid, user, kinds = sys.argv[1:]
l = wire.Link.connect(path)
l.send('hello', proto=int(proto), software='0', role='client')
print(l.recv())
for n, t in enumerate(kinds.split(',')):
    l.send(t, rid=n + 1, job=job, uid=int(uid), user=user)
    print(l.recv())
l.send('follow', rid=9, sid=3, job=job, attempt=1, credit=100000, live=False)
try:
    while True:
        print('FOLLOW', l.recv(2))
except Exception as e:
    print('END', type(e).__name__)
"""


def test_a_forged_name_in_a_request_is_of_no_use(host, pair):
    """The agent writes uid and user into each request itself, whatever the client has put there."""
    owner, other, job = pair
    shutil.copy(os.path.join(os.path.dirname(__file__), "wire.py"), host.dir)
    host.write("forger.py", FORGER)
    version = host.run(host.path("bin/nodeagentd"), "--version").ok().out
    major, minor = map(int, re.search(r"protocol (\d+)\.(\d+)", version).groups())

    def talk(user, kinds):
        return host.su(user, f"{PYTHON} -B {host.dir}/forger.py {host.dir}/run/agent.sock {major * 1000 + minor} {job} "
                             f"{USERS[owner]} {owner} {kinds}").ok()

    r = talk(other, "kill,watch,jobs_get")
    assert "welcome" in r.lines()[0]
    for line in r.lines()[1:4]:
        assert "refused" in line and f"job {job} is not yours: it belongs to {owner}" in line, r
    assert HUSH not in r.out and "'data'" not in r.out and len(r.lines()) <= 6, r
    assert host.look(owner, job)["state"] == "running"
    r = talk(owner, "watch")  # the owner is answered, so the words were right
    assert f"{HUSH}-out" in r.out and "FOLLOW" in r.out, r


def test_the_file_system_shows_another_users_job_to_nobody(host, pair):
    owner, other, job = pair
    pid = rank_of(host, owner, job)
    shim = next(p for p in children(host.daemons["launcher"].pid) if cmdline(p).startswith(f"nodeagent-shim {job} "))
    paths = [host.path(*p) for p in (("spool",), ("spool", f"{job}.1"), ("spool", f"{job}.1", "0.out"), ("agent",),
                                     ("agent", "specs"), ("agent", "key.pem"), ("run", "shims"), ("coordinator",),
                                     ("coordinator", "state.db"), ("home", owner))]
    paths += [f"/proc/{p}/{name}" for p in (pid, shim, host.daemons["agent"].pid) for name in ("environ", "fd", "mem")]
    r = host.su(other, f"{PYTHON} -c {quote(SEES)} {' '.join(paths)}").ok()
    assert r.out == ""
    # and the test can see: root reads all of them
    r = host.run(PYTHON, "-c", SEES, *[p for p in paths if not p.endswith("mem")]).ok()
    assert len(r.lines()) == len([p for p in paths if not p.endswith("mem")]) and HUSH in r.out


def test_output_belongs_to_root_and_its_user_and_the_agent_may_read_it(host, secrets):
    gid = USERS["nodeagent"]
    st = os.stat(host.path("spool"))
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (0, gid, 0o750)
    for user, job in secrets.items():
        st = os.stat(host.path("spool", f"{job}.1"))
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (0, gid, 0o750)
        for name in os.listdir(host.path("spool", f"{job}.1")):
            st = os.lstat(host.path("spool", f"{job}.1", name))
            assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (USERS[user], gid, 0o640), name


def test_the_launcher_hears_nobody_but_the_agent(host):
    code = (f"import socket; c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); c.settimeout(10)\n"
            f"try: c.connect('{host.dir}/launcher.sock'); c.send(b'x' * 168); print(len(c.recv(2000)))\n"
            f"except OSError as e: print('no')\n")
    assert host.su("bob", f"{PYTHON} -c {quote(code)}").ok().out.strip() in ("0", "no")


# ---- who may run jobs ---------------------------------------------------------------------------


@pytest.mark.parametrize("user, words", [
    ("carol", f"node n1 may not speak for uid {USERS['carol']}: it was enrolled for uids {SUBMIT}"),
    ("dave", f"uid {USERS['dave']} (dave) is outside of the allowed 1000-{AGENT_MAX}"),
    ("erin", f"uid {USERS['erin']} (erin) may not run jobs on this node: allowed are 1000 to {LAUNCHER_MAX}"),
    ("nodeagent", None),  # a uid like any other here: in range, so it may
    ("root", "jobs of root are not allowed there (allow_root = yes in nodeagentd.conf)"),
])
def test_who_may_not_run_jobs_is_told_why(host, user, words):
    r = host.su(user, "cd /; nodectl launch -- id -u")
    if words is None:
        assert r.ok().out.strip() == str(USERS[user])
    else:
        assert r.code and words in r.err and r.out == "", r


def test_root_runs_jobs_where_node_and_launcher_allow_it(request):
    """The node's word alone is not enough: the launcher has a policy of its own."""
    h = Host(agent_conf="allow_root = yes\n")
    try:
        r = h.su("root", "cd /; nodectl launch -- id -u")
        assert r.code and "jobs of root are not allowed on this node" in r.err, r
        h.stop("launcher")
        h.launcher = ["--allow-root"]
        os.unlink(h.path("launcher.sock"))
        h.start_launcher()
        wait_until(lambda: h.su("alice", "nodectl launch -- true").code == 0, 10 * SLOW, "the launcher is back", 0.5)
        r = h.su("root", "cd /; nodectl launch -- sh -c 'id -u; grep CapEff /proc/self/status'").ok()
        assert r.lines()[0] == "0" and int(r.lines()[1].split()[1], 16) != 0
    finally:
        closed(h, request)


def test_what_a_former_cluster_left_in_the_spool_is_in_nobodys_way(host):
    """Job numbers begin anew with a new cluster."""
    job = int(json.loads(host.su("alice", "nodectl --json launch --detach -- true").ok().out)["job"])
    left = host.path("spool", f"{job + 1}.1")
    os.mkdir(left, 0o750)
    with open(os.path.join(left, "0.out"), "w") as f:
        f.write("old\n")
    assert host.su("alice", "nodectl launch -- echo new").ok().out == "new\n"
    assert host.su("alice", f"nodectl logs --no-label {job + 1}").ok().out == "new\n"
    old = [n for n in os.listdir(host.path("spool")) if n.startswith(f"{job + 1}.1.old-")]
    assert len(old) == 1 and os.listdir(host.path("spool", old[0])) == ["0.out"]


# ---- restarts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["agent", "launcher", "coordinator"])
def test_jobs_of_both_outlive_a_death(host, name):
    go = {user: host.path("home", user, f"go-{name}") for user in ("alice", "bob")}
    jobs = {user: host.launch(user, f"-- sh -c 'while [ ! -e {go[user]} ]; do sleep 0.05; done; echo end of $LOGNAME; exit 5'")
            for user in go}
    host.stop(name, signal.SIGKILL)
    if name == "launcher":
        os.unlink(host.path("launcher.sock"))
        host.start_launcher()
    else:
        host.start(name)
    for path in go.values():
        with open(path, "w"):
            pass
    for user, job in jobs.items():
        wait_until(lambda: host.su(user, f"nodectl job {job}").code == 0, 20 * SLOW, "it answers again", 0.2)
        assert host.wait_job(user, job, "failed")["exit_code"] == 5
        assert host.su(user, f"nodectl logs --no-label {job}").ok().out == f"end of {user}\n"
    assert wait_until(lambda: host.su("bob", "nodectl launch -- id -un").out.strip(), 15 * SLOW, "a new job runs", 0.5) == "bob"
