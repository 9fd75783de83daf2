"""ibsim.py BUILD [short|fix] - see ibsim.sh

ibsim's library shows a tool a host's ports as files in a folder, a snapshot of
the moment the tool began. So a snapshot is taken, put where the probe looks,
and taken again: the probe runs all the while, as it does on a real host. Two
look at the same folder: a probe by itself, and the agent's of a standalone
cluster, whose nodectl is asked as a user would.
"""
import concurrent.futures
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/system"))
if len(sys.argv) > 1:
    os.environ["NODEAGENT_BUILD"] = sys.argv[1]
from cluster import SLOW, Cluster, wait_until  # noqa: E402
from probe import Probe, port  # noqa: E402

PRELOAD = (glob.glob("/usr/lib/*/umad2sim/libumad2sim.so") + glob.glob("/usr/lib*/umad2sim/libumad2sim.so") + [""])[0]
# The glob makes the library connect and write its folder. It disconnects in its destructor, which bash runs and
# dash does not; ibsim has room for ten clients.
TAKE = 'for f in /sys/class/infiniband/*; do :; done; env -u LD_PRELOAD cp -r "sys-$$/sys" "$1"; exit $?'


class Fabric:
    """ibsim with a network of our own; hosts are names in it."""

    def __init__(self, where, net):
        self.dir = tempfile.mkdtemp(dir=where)
        self.started = []
        with open(self.path("net"), "w", encoding="ascii") as f:
            f.write(net)
        os.mkfifo(self.path("console"))
        self.env = dict(os.environ, IBSIM_SOCKNAME=f"nodeagent-{os.getpid()}-{os.path.basename(self.dir)}",
                        OSM_TMP_DIR=self.dir, OSM_CACHE_DIR=self.dir)
        console = os.open(self.path("console"), os.O_RDWR)  # a reader of its own: opening does not wait
        self.log = open(self.path("ibsim.log"), "wb")
        self.ibsim = subprocess.Popen(["ibsim", "-s", self.path("net")], stdin=console, stdout=self.log,
                                      stderr=self.log, env=self.env, cwd=self.dir)
        self.started.append(self.ibsim)
        self.console_fd = console
        self.wait_ready()

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def wait_ready(self):
        for _ in range(500):
            with open(self.path("ibsim.log"), "rb") as f:
                if b"sim>" in f.read():
                    return
            assert self.ibsim.poll() is None, open(self.path("ibsim.log")).read()
            time.sleep(0.01)
        raise AssertionError("ibsim is not ready")

    def console(self, line):
        os.write(self.console_fd, line.encode() + b"\n")
        time.sleep(0.2)

    def on(self, host):
        return dict(self.env, SIM_HOST=host, LD_PRELOAD=PRELOAD)

    def ibstat(self, host):
        r = subprocess.run(["ibstat"], env=self.on(host), cwd=self.dir, capture_output=True, text=True, timeout=10,
                           check=True)
        return parse_ibstat(r.stdout)

    def snapshot(self, host, target):
        """The folder 'target' gets class/infiniband/... of the host, as it is now."""
        r = subprocess.run(["bash", "-c", TAKE, "take", target], env=self.on(host), cwd=self.dir, timeout=10,
                           capture_output=True, text=True, check=False)
        assert r.returncode == 0, r.stderr  # in good times it has words too: "real_poll failure", at SIGCHLD

    def opensm(self, host):
        """A subnet manager that stays, sweeping every second."""
        log = open(self.path("opensm.out"), "wb")
        p = subprocess.Popen(["opensm", "-s", "1", "-f", self.path("opensm.log")], env=self.on(host), cwd=self.dir,
                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.started.append(p)
        return p

    def popen_opensm(self, host, conf, priority, number):
        """One of several managers, with settings of its own."""
        own = os.path.join(self.dir, f"sm{number}")
        os.mkdir(own)
        env = dict(self.on(host), OSM_TMP_DIR=own, OSM_CACHE_DIR=own)
        with open(os.path.join(own, "out"), "wb") as log:
            p = subprocess.Popen(["opensm", "-F", conf, "-s", "1", "-p", str(priority), "-f", os.path.join(own, "log")], env=env,
                                 cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started.append(p)
        return p

    @staticmethod
    def end(p):
        if p.poll() is None:
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()

    def finish(self):
        for p in reversed(self.started):
            self.end(p)
        os.close(self.console_fd)
        self.log.close()


def parse_ibstat(text):
    """{port: {field: value}}, with the device's own fields in each."""
    device, ports, now = {}, {}, None
    for line in text.splitlines():
        m = re.match(r"\s*Port (\d+):$", line)
        if m:
            now = ports.setdefault(int(m.group(1)), {})
        elif ": " in line:
            key, value = line.strip().split(": ", 1)
            (device if now is None else now)[key] = value
    for p in ports.values():
        p.update(device)
    return ports


def differences(row, said):
    """Fields in which a row differs from what ibstat said."""
    guid = int(said["Port GUID"], 16)
    expected = {
        "state": said["State"], "phys_state": said["Physical state"],
        "rate_mbps": int(float(said["Rate"]) * 1000), "lid": int(said["Base lid"]), "sm_lid": int(said["SM lid"]),
        "link_layer": {"IB": "InfiniBand"}.get(said["Link layer"], said["Link layer"]),
        "fw": said["Firmware version"], "board": said["CA type"],
    }
    bad = {k: (row.get(k), v) for k, v in expected.items() if row.get(k) != v}
    if int(row["gid"].replace(":", "")[16:], 16) != guid:
        bad["gid"] = (row["gid"], said["Port GUID"])
    return bad


def at_once(f, items):
    """[f(i)], four at a time: ibsim has room for ten clients."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(f, items))


class View:
    """What the probe is shown: a link that is moved from one snapshot to the next."""

    def __init__(self, where):
        self.dir = tempfile.mkdtemp(dir=where)
        self.root = os.path.join(self.dir, "root")
        self.n = 0
        os.mkdir(self.next())
        self.turn()

    def next(self):
        return os.path.join(self.dir, f"s{self.n + 1}")

    def turn(self):
        self.n += 1
        os.symlink(f"s{self.n}", self.root + "~")
        os.replace(self.root + "~", self.root)

    def show(self, fabric, host):
        fabric.snapshot(host, self.next())
        self.turn()

    def show_all(self, fabric, hosts):
        """All hosts at once, each as a device of its name."""
        os.makedirs(os.path.join(self.next(), "class/infiniband"))

        def take(h):
            one = os.path.join(self.dir, f"one-{h}")
            fabric.snapshot(h, one)
            os.rename(os.path.join(one, "class/infiniband/ibsim0"), os.path.join(self.next(), "class/infiniband", h))
            shutil.rmtree(one)

        at_once(take, hosts)
        self.turn()


def say(what):
    print(f"ok    {what}", flush=True)


class Lookers:
    """The probe's frames, and what nodectl shows of a cluster. Rows are as the probe has them."""

    def __init__(self, program, view):
        self.probe = Probe(program, "--sysfs-root", view.root)
        self.cluster = None
        try:
            self.cluster = Cluster(1, args=["--sysfs-root", view.root])
        except BaseException:
            self.probe.finish()
            raise
        self.node = {}

    def ask_nodectl(self):
        """{(device, port): row}; both commands say the same, or it is asked again."""
        while True:
            listed = self.cluster.json("ports")["ports"]
            self.node = self.cluster.json("status")["nodes"][0]
            by_key = lambda rows: sorted(rows, key=lambda r: (r["device"], r["port"]))
            if by_key([{k: v for k, v in r.items() if k != "node"} for r in listed]) == by_key(self.node["ports"] or []):
                break
        return {(r["device"], r["port"]): dict(r, rate_mbps=r["rate"] and round(r["rate"] * 1000)) for r in listed}

    def until(self, good, what):
        """good(get) of both, within two of their rounds; get(device, port) is a row or None."""
        end = time.monotonic() + 5
        # a probe that is silent for longer than its round has nothing new to say
        while (m := self.probe.next(2.5)) and not good(lambda d, n=1, m=m: port(m, d, n)) and time.monotonic() < end:
            pass
        assert good(lambda d, n=1: port(self.probe.last, d, n)), f"{what}; the probe: {self.probe.last}"
        end = time.monotonic() + 5 * SLOW
        while not good(lambda d, n=1, rows=(rows := self.ask_nodectl()): rows.get((d, n))):
            assert time.monotonic() < end, f"{what}; nodectl: {rows}"
            time.sleep(0.05)

    def judged(self, words=None):
        """What nodectl says that the port's state means; None: nothing is wrong with it."""
        texts = [a["text"] for a in self.node["attention"] if a["subject"].split()[-1].startswith("ibsim0")]
        assert any(words in t for t in texts) if words else not texts, self.node["attention"]

    def finish(self):
        try:
            left = self.cluster.finish()
            assert not left, f"processes left behind: {left}"
        finally:
            self.cluster.remove()
            code = self.probe.finish()
        assert code == 0, code


def compare(fabric, host, view, lookers, device="ibsim0"):
    """Both show just what ibstat says now."""
    view.show(fabric, host)
    said = fabric.ibstat(host)
    lookers.until(lambda get: all(get(device, n) and not differences(get(device, n), s) for n, s in said.items()),
                  f"{host} as ibstat says: {said}")
    return {n: port(lookers.probe.last, device, n) for n in said}


def settled(fabric, hosts, state, seconds=20):
    """Waits until ibstat says the same of all hosts twice: the subnet manager is done."""
    end, before = time.monotonic() + seconds, None
    while True:
        now = {h: fabric.ibstat(h)[1] for h in hosts}
        if now == before and all(p["State"] == state for p in now.values()):
            return
        assert time.monotonic() < end, f"not {state}: {now}"
        before = now


def compare_active(fabric, host, view, lookers):
    settled(fabric, [host], "Active")
    return compare(fabric, host, view, lookers)[1]


# w= and s= are verbs' numbers for lanes and speed: hostB has 4X SDR, hostC 8X DDR, hostD 1X SDR
SMALL = """Switch 8 "Sw1"
[1] "hostA"[1]
[2] "hostB"[1]
[3] "hostC"[1] w=4 s=2
[4] "hostD"[1] w=1 s=1

Hca 1 "hostA"
[1] "Sw1"[1]

Hca 1 "hostB"
[1] "Sw1"[2]

Hca 2 "hostC"
[1] "Sw1"[3] w=4 s=2

Hca 1 "hostD"
[1] "Sw1"[4] w=1 s=1
"""


def states(where, program, short):
    """Initializing, Active after opensm, Down after Unlink, and stuck without it."""
    f, view = Fabric(where, SMALL), View(where)
    try:
        both = Lookers(program, view)
    except BaseException:
        f.finish()
        raise
    try:
        rows = compare(f, "hostB", view, both)
        assert (rows[1]["state"], rows[1]["phys_state"], rows[1]["lid"]) == ("Initializing", "LinkUp", 0), rows
        both.judged("no subnet manager has configured")
        assert both.node["state"] == "degraded" and both.node["ports_active"] == 0, both.node
        say(f"hostB before any subnet manager: {rows[1]['state']}, {rows[1]['phys_state']}, lid 0")
        for host, rate, lanes in () if short else (("hostC", 40000, 8), ("hostD", 2500, 1)):
            rows = compare(f, host, view, both)
            assert (rows[1]["rate_mbps"], rows[1]["lanes"]) == (rate, lanes), rows
            say(f"{host}: {rate / 1000:g} Gb/s on {lanes} lane{'s' * (lanes > 1)}")

        sm = f.opensm("hostA")
        row = compare_active(f, "hostB", view, both)
        assert row["lid"] > 0 and row["sm_lid"] > 0 and int(row["since_wall_ms"]) > 0, row
        both.judged()
        assert both.node["ports_active"] == 1, both.node
        say(f"opensm configures hostB: {row['state']}, lid {row['lid']}, SM lid {row['sm_lid']}")

        f.console('Unlink "hostB"[1]')
        rows = compare(f, "hostB", view, both)
        assert (rows[1]["state"], rows[1]["phys_state"]) == ("Down", "Polling"), rows
        both.judged("finds no partner")
        say("its cable is pulled: Down, Polling")
        f.console('ReLink "hostB"[1]')
        row = compare_active(f, "hostB", view, both)
        say("plugged in again: Active")
        if short:
            return

        f.end(sm)
        rows = compare(f, "hostB", view, both)
        assert rows[1]["state"] == "Active", rows
        say("opensm ends: ports stay Active")
        f.console('Unlink "hostB"[1]')
        f.console('ReLink "hostB"[1]')
        time.sleep(2)
        rows = compare(f, "hostB", view, both)
        assert (rows[1]["state"], rows[1]["phys_state"]) == ("Initializing", "LinkUp"), rows
        say("flapped without it: stuck in Initializing, LinkUp")
    finally:
        f.finish()
        both.finish()


def large(where, program, n=36):
    """As many hosts as a switch has ports, all of them compared."""
    hosts = [f"h{i:02d}" for i in range(1, n + 1)]
    net = f'Switch {n} "Sw1"\n' + "".join(f'[{i}] "{h}"[1]\n' for i, h in enumerate(hosts, 1))
    net += "".join(f'\nHca 1 "{h}"\n[1] "Sw1"[{i}]\n' for i, h in enumerate(hosts, 1))
    f, view = Fabric(where, net), View(where)
    try:
        both = Lookers(program, view)
    except BaseException:
        f.finish()
        raise

    def all_as_ibstat():
        view.show_all(f, hosts)
        said = dict(zip(hosts, at_once(lambda h: f.ibstat(h)[1], hosts)))
        both.until(lambda get: all(get(h) and not differences(get(h), said[h]) for h in hosts),
                   f"as ibstat says: {said}")
        active = sum(p["State"] == "Active" for p in said.values())
        assert (both.node["ports_total"], both.node["ports_active"]) == (n, active), both.node
        return [port(both.probe.last, h) for h in hosts]

    try:
        assert {r["state"] for r in all_as_ibstat()} == {"Initializing"}
        say(f"{n} ports, all Initializing, all as ibstat says")
        f.opensm(hosts[0])
        settled(f, [hosts[0], hosts[-1]], "Active", 60)
        rows = all_as_ibstat()
        assert {r["state"] for r in rows} == {"Active"}, rows
        assert len({r["lid"] for r in rows}) == n and {r["sm_lid"] for r in rows} == {rows[0]["lid"]}, rows
        say(f"{n} ports Active with lids of their own, all as ibstat says")
        f.console(f'Unlink "{hosts[20]}"[1]')
        rows = all_as_ibstat()
        assert [h for h, r in zip(hosts, rows) if r["state"] != "Active"] == [hosts[20]], rows
        say(f"one cable pulled: {hosts[20]} alone is Down")
    finally:
        f.finish()
        both.finish()


# What the host's programs see as systemctl: it starts the real opensm on hostA of the fabric, as its unit would
SYSTEMCTL = """#!/bin/sh
echo "$@" >>{dir}/asked
[ "$2" = restart ] || exit 0
[ -s {dir}/opensm.pid ] && kill "$(cat {dir}/opensm.pid)" 2>/dev/null
cd {fabric} || exit 1
export IBSIM_SOCKNAME={name} SIM_HOST=hostA OSM_TMP_DIR={fabric} OSM_CACHE_DIR={fabric}
LD_PRELOAD={preload} setsid opensm -s 1 -f {fabric}/opensm.log </dev/null >{fabric}/opensm.out 2>&1 &
echo $! >{dir}/opensm.pid
"""


def opensm_pid(host):
    """Of the one that runs; None: none does."""
    try:
        with open(host.path("opensm.pid"), encoding="ascii") as f:
            pid = int(f.read())
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            return pid if f.read().strip() == "opensm" else None
    except (OSError, ValueError):
        return None


def unit(host, view):
    """The next snapshot tells of the unit, too, and whether it has a process."""
    os.makedirs(os.path.join(view.next(), "systemd"))
    group = os.path.join(view.next(), "fs/cgroup/system.slice/opensm.service")
    os.makedirs(group)
    open(os.path.join(view.next(), "systemd/opensm.service"), "w", encoding="ascii").close()
    with open(os.path.join(group, "cgroup.procs"), "w", encoding="ascii") as f:
        f.write(f"{opensm_pid(host)}\n" if opensm_pid(host) else "")


def sm_host(where, fabric, view):
    """A host of several users (launcher, agent and coordinator as users of their own) whose opensm is the fabric's."""
    from test_users import Host

    class SmHost(Host):
        def programs(self):
            super().programs()
            shutil.copy(os.path.join(TOP, sys.argv[1], "nodeagent-probe"), self.path("bin"))
            with open(self.path("systemctl"), "w", encoding="ascii") as f:
                f.write(SYSTEMCTL.format(dir=self.dir, fabric=fabric.dir, name=fabric.env["IBSIM_SOCKNAME"], preload=PRELOAD))
            os.chmod(self.path("systemctl"), 0o755)

        def namespace(self):
            super().namespace()
            self.run("mount", "--bind", self.path("systemctl"), "/usr/bin/systemctl").ok()

        def cluster(self, agent_conf):
            super().cluster(f"sysfs_root = {view.root}\n")
            self.launcher = ("--fix-sm", self.path("allow-fix-sm"))

        def start_launcher(self):
            self.launcher = ("--fix-sm", self.path("allow-fix-sm"))
            super().start_launcher()

    os.chmod(where, 0o755)  # the probe is the agent's user
    os.chmod(view.dir, 0o755)
    return SmHost()


class Shower(threading.Thread):
    """Shows the host's two ports, and its unit, again and again, as they are."""

    def __init__(self, fabric, host, view):
        super().__init__(daemon=True)
        self.fabric, self.host, self.view, self.stop, self.wrong = fabric, host, view, threading.Event(), None

    def run(self):
        try:
            while not self.stop.is_set():
                unit(self.host, self.view)
                self.view.show_all(self.fabric, ["hostA", "hostB"])
                self.stop.wait(0.2)
        except Exception as e:  # noqa: BLE001 - told by whoever waits for us
            self.wrong = e

    def finish(self):
        self.stop.set()
        self.join(20)
        assert self.wrong is None, self.wrong


def fix_sm(where):
    """opensm is killed, a port that flaps sticks, and nodectl fix sm has the launcher restart it: the port is Active."""
    f, view = Fabric(where, SMALL), View(where)
    host = shower = None
    words = lambda r: " ".join((r.out + r.err).split())
    try:
        host = sm_host(where, f, view)
        shower = Shower(f, host, view)
        shower.start()
        ports = lambda: {p["device"]: p["state"] for p in json.loads(host.admin("--json", "status").ok().out)["nodes"][0]["ports"] or []}
        is_so = lambda good, what: wait_until(lambda: shower.wrong or good(), 30 * SLOW, what, 0.2)
        is_so(lambda: ports() == {"hostA": "Initializing", "hostB": "Initializing"}, "both ports wait")
        is_so(lambda: "opensm on n1: NOT running" in words(host.su("alice", "nodectl fix sm")), "the unit is seen")
        r = host.admin("fix", "sm")
        assert r.code == 1 and f"touch {host.dir}/allow-fix-sm" in words(r) and opensm_pid(host) is None, r
        say("without root's permission on its host nothing is restarted")
        host.write("allow-fix-sm", "", 0o644)
        r = host.admin("fix", "sm")
        assert r.code == 0 and "2 ports that waited are Active after" in words(r), r
        say(f"fix sm: {' '.join(r.out.split())}")
        first = opensm_pid(host)
        is_so(lambda: "opensm on n1: running, not enabled for the next boot, the master (LID" in words(host.su("alice", "nodectl fix sm")),
              "the ports name it")
        say("by the ports' SM LID it is the master, and runs")

        os.kill(first, signal.SIGKILL)
        f.console('Unlink "hostB"[1]')
        f.console('ReLink "hostB"[1]')
        is_so(lambda: ports() == {"hostA": "Active", "hostB": "Initializing"}, "hostB is stuck, hostA is not")
        is_so(lambda: "opensm on n1 is not running: nodectl fix sm" in words(host.admin("status")), "the verdict says so")
        assert f.ibstat("hostB")[1]["State"] == "Initializing"
        say("opensm is killed: the port that flaps is stuck in Initializing, the other stays Active, and status says why")
        r = host.admin("--json", "fix", "sm", "--enable")
        assert r.code == 0, r
        d = json.loads(r.out)
        assert (d["by"], d["was_running"], d["waited_for"], d["waiting"], d["active"]) == ("launcher", False, 1, 0, 2), d
        assert f.ibstat("hostB")[1]["State"] == "Active" and opensm_pid(host) not in (None, first)
        say(f"fix sm --enable: restarted by the launcher, Active after {d['seconds']:.1f} s")
        events = json.loads(host.su("alice", "nodectl --json events --kind fix.sm").ok().out)["events"]
        assert [e["severity"] for e in events] == ["warn", "info", "info"], events
        shower.finish()
    finally:
        if shower:
            shower.stop.set()
            shower.join(20)
        if host:
            if (pid := opensm_pid(host)) is not None:
                os.kill(pid, signal.SIGTERM)
            left = host.finish()
            host.remove()
        f.finish()
    assert not left, f"processes left behind: {left}"


def main():
    program = os.path.join(TOP, sys.argv[1], "nodeagent-probe")
    short, only_fix = sys.argv[2:] == ["short"], sys.argv[2:] == ["fix"]
    assert PRELOAD, "libumad2sim is not installed: make deps-testbeds"
    where = tempfile.mkdtemp(prefix="nodeagent-ibsim-")
    begin = time.monotonic()
    try:
        if not only_fix:
            states(where, program, short)
        if not short and not only_fix:
            large(where, program)
        if not short and os.geteuid() == 0:
            fix_sm(where)
        elif not short:
            print("skipped: nodectl fix sm, which takes root")
        print(f"passed in {time.monotonic() - begin:.1f} s")
    finally:
        shutil.rmtree(where)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
