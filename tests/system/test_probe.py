"""The real nodeagent-probe: what changes is said, what is hostile does no harm, and it ends when nobody reads."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import BUILD, SLOW, clean_env  # noqa: E402
from probe import Frames, Probe, Tree, port, source  # noqa: E402

PROBE = os.path.join(BUILD, "nodeagent-probe")
FAKE = os.path.join(BUILD, "tests/fake/libnvml.so")

pytestmark = pytest.mark.skipif(not os.path.exists(PROBE), reason="nodeagent-probe is not built")


class Bed:
    """A tree, a library that is told what to show, and probes that look at them."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="nodeagent-probe-")
        self.tree = Tree(os.path.join(self.dir, "sys"))
        self.control = os.path.join(self.dir, "nvml")
        self.gpus("count 0")
        self.probes = []

    def gpus(self, *lines):
        with open(self.control + "~", "w", encoding="ascii") as f:
            f.write("\n".join(lines) + "\n")
        os.replace(self.control + "~", self.control)

    def env(self):
        return clean_env(self.dir, FAKE_NVML=self.control)

    def start(self, *args, nvml=True, **kw):
        p = Probe(PROBE, "--sysfs-root", self.tree.root, *(["--nvml", FAKE] if nvml else []), *args, env=self.env(), **kw)
        self.probes.append(p)
        return p

    def finish(self):
        codes = [p.p.poll() if p.p.returncode is not None else p.finish() for p in self.probes]
        shutil.rmtree(self.dir)
        return codes


@pytest.fixture
def bed():
    b = Bed()
    yield b
    codes = b.finish()
    assert all(c in (0, -signal.SIGTERM, -signal.SIGKILL) for c in codes), codes


def test_first_frame_has_everything(bed):
    for i in range(9):
        bed.tree.device(f"mlx5_{i}", i)
    bed.gpus("count 8", f"proc 3 {os.getpid()} 1000")
    m = bed.start().next(5 * SLOW)
    assert {s["name"]: s["ok"] for s in m["sources"] if s["name"] != "kmsg"} == {"sysfs": True, "nvml": True, "host": True, "hwloc": True}
    assert [g["index"] for g in m["gpus"]] == list(range(8))
    assert [p["device"] for p in m["ports"]] == [f"mlx5_{i}" for i in range(9)]
    p = port(m, "mlx5_4")
    assert p == {"device": "mlx5_4", "port": 1, "state": "Active", "phys_state": "LinkUp", "rate_mbps": 400000,
                 "lanes": 4, "speed": "NDR", "lid": 6, "sm_lid": 1, "link_layer": "InfiniBand",
                 "gid": "fe80:0000:0000:0000:a088:c203:00ab:0004", "gids": 1, "fw": "28.39.1002",
                 "board": "MT_0000000838", "pci": "0000:14:00.0", "numa": 0, "losses": 0, "counters_text": "none can be read: absent"}
    proc = m["gpus"][4]["procs"][0]
    assert proc["pid"] == os.getpid() and proc["uid"] == os.geteuid() and proc["mem"] == "1000"
    assert m["host"][0]["cpus"] == os.cpu_count()
    assert m["numa"][0]["cpus"]


def test_limits_are_those_of_whoever_starts_jobs(bed):
    """Not the agent's where nodeagent-launcher does: that gives them all the memory to lock."""
    bed.tree.device("mlx5_0", 0)
    assert int(bed.start().next(5 * SLOW)["host"][0]["nofile"]) >= 256
    assert not {"memlock", "nofile", "nproc"} & set(bed.start("--launcher").next(5 * SLOW)["host"][0])


def test_changes_of_a_port_are_said_soon(bed):
    bed.tree.device("mlx5_0", 0, state="2: INIT", lid="0x0")
    p = bed.start()
    assert port(p.next(5 * SLOW), "mlx5_0")["state"] == "Initializing"
    for state, word, phys, phys_word in (("4: ACTIVE", "Active", "5: LinkUp", "LinkUp"),
                                         ("1: DOWN", "Down", "2: Polling", "Polling"),
                                         ("1: DOWN", "Down", "3: Disabled", "Disabled"),
                                         ("3: ARMED", "Armed", "5: LinkUp", "LinkUp")):
        bed.tree.set("mlx5_0", state=state, phys_state=phys)
        row, _ = p.until(lambda m, w=word, q=phys_word: port(m, "mlx5_0")["state"] == w and
                         port(m, "mlx5_0")["phys_state"] == q and port(m, "mlx5_0"), 3, word)
        assert abs(int(row["since_wall_ms"]) / 1000 - time.time()) < 10


def test_a_state_is_told_below_a_second_also_without_events(bed):
    """Sysfs has none: the states are looked at twice a second."""
    bed.tree.device("mlx5_0", 0)
    bed.tree.device("mlx5_1", 1)
    p = bed.start()
    assert p.next(5 * SLOW)
    time.sleep(0.6)
    bed.tree.set("mlx5_1", state="2: INIT")
    _, took = p.until(lambda m: port(m, "mlx5_1")["state"] == "Initializing", 3, "the state")
    assert took < 0.9 * SLOW, took


def test_faults_are_told_within_five_seconds(bed):
    """What changes seldom, too: partition keys, the RoCE address, NVLinks, replaced rows; and what counts or is never still."""
    v2 = "0000:0000:0000:0000:0000:ffff:c0a8:0101"
    bed.tree.device("mlx5_0", 0, **{"pkeys/0": "0x8001", "pkeys/1": "0xffff", **{f"pkeys/{i}": "0x0000" for i in range(2, 8)}})
    bed.tree.device("mlx5_1", 1, link_layer="Ethernet", **{"gids/3": v2, "gid_attrs/types/3": "RoCE v2"})
    bed.tree.counters("mlx5_0")
    bed.gpus("count 1", "set 0 18 links", "temp 0 60")
    p = bed.start()
    m = p.next(5 * SLOW)
    assert port(m, "mlx5_0")["pkey_table"] == "8001,ffff" and port(m, "mlx5_1")["gid_v2"] == 3
    bed.tree.set("mlx5_0", **{"pkeys/0": "0x7fff"})
    bed.tree.set("mlx5_1", **{"gids/3": "0000:0000:0000:0000:0000:0000:0000:0000"})
    bed.tree.counters("mlx5_0", symbol_error=500)
    bed.gpus("count 1", "set 0 17 links", "set 0 1 pending", "temp 0 93", "xid 0 74")  # by which links and rows are read again
    left = time.monotonic() + 4.6 * SLOW  # of the five, the rest is the way to the coordinator
    wanted = {"key": lambda m: port(m, "mlx5_0").get("pkey") == 0x7fff and port(m, "mlx5_0")["pkey_table"] == "7fff,ffff",
              "RoCE address": lambda m: "gid_v2" not in port(m, "mlx5_1"),
              "counter": lambda m: any(c["name"] == "symbol_error" and c["delta"] == "500" for c in port(m, "mlx5_0").get("counters", [])),
              "NVLinks": lambda m: m["gpus"][0]["nvlinks"] == 17, "rows": lambda m: m["gpus"][0]["remap_pending"],
              "heat": lambda m: m["gpus"][0]["temp_c"] == 93}
    for what, seen in wanted.items():
        if not seen(p.last):
            p.until(seen, left - time.monotonic(), what)
    bed.tree.set("mlx5_0", **{"pkeys/2": "0x8002"})
    p.until(lambda m: port(m, "mlx5_0")["pkey_table"] == "7fff,ffff,8002", 5 * SLOW, "one more")


def test_devices_come_and_go(bed):
    bed.tree.device("mlx5_0", 0)
    bed.tree.device("mlx5_1", 1)
    p = bed.start()
    assert len(p.next(5 * SLOW)["ports"]) == 2
    bed.tree.remove("mlx5_0")
    p.until(lambda m: [q["device"] for q in m["ports"]] == ["mlx5_1"], 3, "one is gone")
    bed.tree.remove("mlx5_1")
    p.until(lambda m: not m.get("ports"), 3, "none is left")
    bed.tree.device("mlx5_7", 7)
    p.until(lambda m: port(m, "mlx5_7"), 3, "another one")
    shutil.rmtree(bed.tree.root)
    p.until(lambda m: not m.get("ports") and not source(m, "sysfs")["ok"], 3, "all is gone")


def test_what_never_rests_is_not_said(bed):
    bed.tree.device("mlx5_0")
    bed.gpus("count 8")
    p = bed.start()
    assert p.next(5 * SLOW)
    begin = time.monotonic()
    for i in range(4):
        bed.gpus("count 8", *[f"temp {g} {50 + i}" for g in range(8)])
        assert p.next(2) is None
    m = p.next(10)
    assert 9 < time.monotonic() - begin < 12, "a frame every 10 s says that it is alive"
    assert m["gpus"][0]["temp_c"] == 53
    assert all(int(s["age_ms"]) < 6000 for s in m["sources"] if s["name"] != "hwloc")


def test_gpu_events(bed):
    bed.gpus("count 2")
    p = bed.start()
    assert p.next(5 * SLOW)
    bed.gpus("count 2", "xid 1 79")
    _, took = p.until(lambda m: m["gpus"][0].get("xid") == 79, 3, "an Xid")
    assert took < 0.4 * SLOW, took
    bed.gpus("count 2", f"proc 0 {os.getpid()} 5")
    p.until(lambda m: m["gpus"][1].get("procs"), 3, "a process")
    bed.gpus("count 2")
    p.until(lambda m: not m["gpus"][1].get("procs"), 3, "it has ended")
    bed.gpus("count 2", "lost 0 15")
    m, _ = p.until(lambda m: m["gpus"][1].get("text") and m, 3, "a lost GPU")
    assert "fell off the bus" in m["gpus"][1]["text"] and len(m["gpus"]) == 2 and source(m, "nvml")["ok"]
    bed.gpus("count 3")
    p.until(lambda m: len(m["gpus"]) == 3, 3, "one more")


def test_drivers_that_cannot_be_had(bed):
    bed.gpus("init 18")
    bed.tree.device("mlx5_0")
    m = bed.start().next(5 * SLOW)
    assert not source(m, "nvml")["ok"] and "another version" in source(m, "nvml")["text"]
    assert port(m, "mlx5_0")["state"] == "Active" and "gpus" not in m
    m = bed.start("--nvml", "/nonexistent").next(5 * SLOW)
    assert not source(m, "nvml")["ok"] and "cannot be loaded" in source(m, "nvml")["text"]


def test_a_driver_that_hangs_holds_up_nothing_else(bed):
    bed.gpus("count 1", "hang 0")
    bed.tree.device("mlx5_0")
    m = bed.start().next(4 + 2 * SLOW)
    assert source(m, "nvml")["starting"], "the driver may be"
    p = bed.start("--again")
    m = p.next(4 + 2 * SLOW)
    assert source(m, "nvml")["text"] == "not read yet" and not {"age_ms", "starting"} & set(source(m, "nvml"))
    bed.tree.set("mlx5_0", state="1: DOWN")
    p.until(lambda m: port(m, "mlx5_0")["state"] == "Down", 8, "the port")
    p.until(lambda m: "does not answer" in source(m, "nvml").get("text", ""), 25, "it is called by its name")
    bed.gpus("count 1")
    p.until(lambda m: source(m, "nvml")["ok"] and m.get("gpus"), 15, "it goes on")
    bed.gpus("count 1", "hang 0")
    time.sleep(3)
    begin = time.monotonic()
    assert p.finish() == 0
    assert time.monotonic() - begin < 6


def test_what_a_hanging_driver_said_last_is_not_said_as_now(bed):
    bed.gpus("count 2", f"proc 0 {os.getpid()} 5")
    bed.tree.device("mlx5_0")
    p = bed.start()
    m = p.next(5 * SLOW)
    assert m["gpus"][1]["procs"] and m["gpus"][0]["temp_c"] == 41
    bed.gpus("count 2", "hang")
    m, _ = p.until(lambda m: source(m, "nvml").get("late") and m, 15, "it is late")
    assert source(m, "nvml")["ok"] and m["gpus"][0]["temp_c"] == 41 and m["gpus"][1]["procs"], "what was read holds a while"
    m, _ = p.until(lambda m: "does not answer" in source(m, "nvml").get("text", "") and m, 25, "it is called by its name")
    for g in m["gpus"]:
        assert set(g) == {"index", "uuid", "name", "pci", "xids", "xid_faults", "text", "procs_unknown"}, g
        assert g["text"].startswith("not read for 1"), g
    assert port(m, "mlx5_0")["state"] == "Active"
    assert p.next(1.5) is None, "that it goes on hanging is not said every moment"
    bed.gpus("count 2")
    m, _ = p.until(lambda m: source(m, "nvml")["ok"] and m, 15, "it goes on")
    assert m["gpus"][0]["temp_c"] == 41 and "text" not in m["gpus"][0] and "procs_unknown" not in m["gpus"][0]


def test_who_is_told_to_stand_it_for_a_time_ends_then(bed):
    bed.gpus("count 1")
    p = bed.start("--patience", "14")
    assert p.next(5 * SLOW)["gpus"]
    bed.gpus("count 1", "hang")
    begin = time.monotonic()
    with pytest.raises(EOFError):
        p.until(lambda m: False, 40, "its end")
    assert 12 < time.monotonic() - begin < 22
    assert p.p.wait(5) == 3
    bed.probes.remove(p)
    p.p.stdout.close()


def test_who_hangs_inside_the_kernel_stays_for_the_others(bed):
    """A process with a thread in state D does not end: its end would cost the other sources' readings."""
    bed.gpus("count 1")
    bed.tree.device("mlx5_0")
    p = bed.start("--patience", "1")
    assert p.next(5 * SLOW)["gpus"]
    bed.gpus("count 1", "freeze")
    p.until(lambda m: "inside the kernel" in source(m, "nvml").get("text", ""), 20, "it is said")
    time.sleep(3)
    bed.tree.set("mlx5_0", state="1: DOWN")
    p.until(lambda m: port(m, "mlx5_0")["state"] == "Down", 3, "the others are read")
    bed.gpus("count 1")
    p.until(lambda m: source(m, "nvml")["ok"], 5, "it goes on")


def test_values_that_cannot_be_read_are_missing(bed):
    bed.gpus("count 1", "fail 0 999 temp")
    m = bed.start().next(5 * SLOW)
    g = m["gpus"][0]
    assert g["note"] == "temperature: error 999" and "temp_c" not in g and "text" not in g and g["util"] == 0


def test_hostile_trees(bed):
    t = bed.tree
    for i in range(6):
        t.device(f"mlx5_{i}", i)
    state = "class/infiniband/mlx5_{}/ports/1/state"
    os.unlink(t.path(state.format(0)))
    os.mkfifo(t.path(state.format(0)))
    os.unlink(t.path(state.format(1)))
    os.symlink("/dev/zero", t.path(state.format(1)))
    with open(t.path(state.format(2)), "wb") as f:
        f.write(os.urandom(1 << 20))
    t.set("mlx5_3", rate="N/A (no PMA)", lid="not a number")
    os.symlink("/", t.path("class/infiniband/evil"))
    os.symlink("evil2", t.path("class/infiniband/evil2"))
    os.mkfifo(t.path("class/infiniband/fifo"))
    p = bed.start()
    m = p.next(5 * SLOW)
    assert [q["device"] for q in m["ports"]] == [f"mlx5_{i}" for i in range(6)]
    assert "no regular file" in port(m, "mlx5_0")["text"] and "state" not in port(m, "mlx5_0")
    assert "no regular file" in port(m, "mlx5_1")["text"]
    assert "state" not in port(m, "mlx5_2") and port(m, "mlx5_2")["phys_state"] == "LinkUp"
    assert "lid" not in port(m, "mlx5_3") and "rate_mbps" not in port(m, "mlx5_3")
    assert port(m, "mlx5_5")["state"] == "Active" and "text" not in port(m, "mlx5_5")
    t.set("mlx5_5", state="1: DOWN")
    p.until(lambda m: port(m, "mlx5_5")["state"] == "Down", 3, "it still reads")


def test_excluded_devices_are_not_asked(bed):
    bed.tree.device("mlx5_0")
    bed.tree.device("mlx5_1", 1)
    # a read of this would be seen: the probe would call it no regular file
    os.unlink(bed.tree.path("class/infiniband/mlx5_1/ports/1/state"))
    os.mkfifo(bed.tree.path("class/infiniband/mlx5_1/ports/1/state"))
    m = bed.start("--exclude", "mlx5_1,mlx5_9").next(5 * SLOW)
    assert port(m, "mlx5_1") == {"device": "mlx5_1", "port": 1, "pci": "0000:11:00.0", "numa": 1, "excluded": True}
    assert "excluded" not in port(m, "mlx5_0")


def test_a_reader_that_sleeps_costs_no_memory(bed):
    for i in range(30):
        bed.tree.device(f"mlx5_{i}", i)
    bed.gpus("count 16")
    p = bed.start()
    assert p.next(5 * SLOW)
    before = p.memory_kb()
    for i in range(20):  # each is a frame of 15 kB, and nobody takes them
        bed.tree.set("mlx5_0", state="1: DOWN" if i % 2 else "4: ACTIVE")
        time.sleep(0.5)
    assert p.p.poll() is None
    assert p.memory_kb() - before < 4096 * SLOW
    bed.tree.set("mlx5_0", lid="0x77")
    p.until(lambda m: port(m, "mlx5_0")["lid"] == 0x77, 5, "and the newest comes at last")


def test_it_ends_with_its_reader(bed):
    bed.tree.device("mlx5_0")
    p = bed.start()
    assert p.next(5 * SLOW)
    begin = time.monotonic()
    assert p.finish() == 0
    assert time.monotonic() - begin < 1 * SLOW


def test_it_ends_with_its_parent(bed):
    """The reader lives on, as a socket that was handed around would."""
    ours, its = socket.socketpair()
    code = ("import os, subprocess, sys, time\n"
            "p = subprocess.Popen(sys.argv[1:], pass_fds=(int(sys.argv[-1]),))\n"
            "print(p.pid, flush=True)\n"
            "time.sleep(60)\n")
    parent = subprocess.Popen([sys.executable, "-c", code, PROBE, "--sysfs-root", bed.tree.root, "--fd", str(its.fileno())],
                              pass_fds=(its.fileno(),), stdout=subprocess.PIPE, env=bed.env())
    pid = int(parent.stdout.readline())
    its.close()
    frames = Frames(ours.fileno())
    assert frames.next(5 * SLOW)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 5
    with pytest.raises(EOFError):
        while time.monotonic() < end:
            frames.next(0.1)
    ours.close()
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] in "ZX":
            break
        time.sleep(0.05)
    else:
        raise AssertionError("it lives")


def test_a_socket_and_other_descriptors(bed):
    """--fd N; what else was inherited is closed."""
    ours, its = socket.socketpair()
    r, w = os.pipe()
    p = bed.start("--fd", str(its.fileno()), pass_fds=(its.fileno(), w))
    its.close()
    os.close(w)
    assert Frames(ours.fileno()).next(5 * SLOW)
    assert os.read(r, 1) == b"", "only the probe could hold it open"
    os.close(r)
    ours.close()
    assert p.p.wait(10) == 0


def test_topology_is_read_again_when_devices_change(bed):
    xml = os.path.join(bed.dir, "host.xml")
    with open(os.path.join(os.path.dirname(__file__), "../unit/golden/two_sockets.xml"), encoding="utf-8") as f:
        text = f.read()

    def host(text):
        with open(xml, "w", encoding="utf-8") as f:
            f.write(text)

    host(text)
    bed.tree.device("mlx5_0")
    p = Probe(PROBE, "--sysfs-root", bed.tree.root, "--nvml", FAKE, env=dict(bed.env(), HWLOC_XMLFILE=xml))
    bed.probes.append(p)
    m = p.next(5 * SLOW)
    # the library's GPUs are on other addresses than the file's: what is not there is not told
    assert {(a["a"], a["b"]): a["how"] for a in m["topology"]} == {("mlx5_0", "mlx5_1"): "PHB"}
    assert [(n["numa"], n["cpus"], n["mem"]) for n in m["numa"]] == [(0, "0-1", str(1 << 30)), (1, "2-3", str(2 << 30))]
    host(text.replace("1073741824", "4096"))
    bed.tree.set("mlx5_0", state="1: DOWN")
    p.until(lambda m: port(m, "mlx5_0")["state"] == "Down", 3, "no device")
    assert p.last["numa"][0]["mem"] == str(1 << 30), "nothing has come or gone"
    bed.tree.device("mlx5_1", 1)
    p.until(lambda m: m["numa"][0]["mem"] == "4096", 5, "a new look at the topology")


def test_what_it_is_told(bed):
    def run(*args):
        return subprocess.run([PROBE, *args], capture_output=True, text=True, env=bed.env(), timeout=20, check=False)

    assert run("--help").returncode == 0 and "--sysfs-root" in run("--help").stdout
    assert run("--version").stdout.startswith("nodeagent-probe ")
    for bad in (["--fd", "x"], ["--fd", "0"], ["--fd", "999"], ["--nonsense"], ["more"], ["--exclude"]):
        r = run(*bad)
        assert r.returncode == 2 and r.stderr and not r.stdout, bad
