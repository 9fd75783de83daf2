"""class_ib.py - classes of faults of InfiniBand ports

Most are recorded: files as the kernel writes them, changed one by one. That the kernel writes them so is shown by
class_sm.py (a simulated fabric) and class_rxe.py (a kernel's real events).
"""
import os

from bed import Expect, fault

NODES = "abc"


def texts(tree, device, files):
    """What stands in them now."""
    found = {}
    for file in files:
        with open(tree.path(f"class/infiniband/{device}/{file}"), encoding="ascii") as f:
            found[file] = f.read().strip()
    return found


def port(id, title, expect, files, nodes="a", devices=("mlx5_2",), **more):
    """A class that changes files of ports and puts them back."""
    def inject(bed):
        before = {}
        files_of = {f if f in ("fw_ver", "board_id") else f"ports/1/{f}": text for f, text in files.items()}
        for n in nodes:
            for d in devices:
                before[n, d] = texts(bed.sys(n), d, files_of)
                bed.sys(n).dev(d, **files_of)
        yield
        for (n, d), old in before.items():
            bed.sys(n).dev(d, **old)
    return fault(id, title, expect=expect, **more)(inject)


def elsewhere(n):
    """A port of its own for each class in which one goes down: twice on one is flapping."""
    return {"nodes": NODES[n % 3], "devices": (f"mlx5_{n // 3}",)}


DOWN = "10 Gb/sec (4X SDR)"  # what the kernel writes of a port that is down


def state(*words, verdict="bad", n=6):
    return Expect("ib.state", NODES[n % 3], f"mlx5_{n // 3}", verdict, words)


# ---- states ---------------------------------------------------------------------------------------------------------

port("ib-initializing", "one port waits for a subnet manager, the others are Active",
     state("Initializing", "subnet manager", "this port alone", n=4), {"state": "2: INIT"}, short=True, **elsewhere(4))
port("ib-down-polling", "a cable that was good is pulled (Down, Polling)",
     state("Down/Polling", "no partner", "it was Active before", n=0), {"state": "1: DOWN", "phys_state": "2: Polling", "rate": DOWN},
     **elsewhere(0), spoils=True)
port("ib-down-disabled", "somebody has switched a port off (Down, Disabled)", state("switched this port off", "ibportstate", n=1),
     {"state": "1: DOWN", "phys_state": "3: Disabled", "rate": DOWN}, short=True, **elsewhere(1))
port("ib-armed", "a subnet manager has stopped half-way (Armed)", state("Armed", "activated", verdict="warn", n=6), {"state": "3: ARMED"},
     **elsewhere(6))
port("ib-error-recovery", "a link makes so many errors that it trains again (LinkErrorRecovery)", state("LinkErrorRecovery", "cable", n=8),
     {"phys_state": "6: LinkErrorRecovery"}, **elsewhere(8))
port("ib-active-defer", "a link trains again and keeps its address (ActiveDefer)", state("ActiveDefer", verdict="warn", n=7),
     {"state": "5: ACTIVE_DEFER"}, **elsewhere(7), spoils=True)
port("ib-training", "two ends cannot agree on speed and width (Down, Training)", state("Training", "agree", "it was Active before", n=2),
     {"state": "1: DOWN", "phys_state": "4: PortConfigurationTraining", "rate": DOWN}, **elsewhere(2), spoils=True)
port("ib-sleep", "a port is asleep (Down, Sleep)", state("asleep", n=3),
     {"state": "1: DOWN", "phys_state": "1: Sleep", "rate": DOWN}, **elsewhere(3), spoils=True)
port("ib-phy-test", "a port is in a test mode (PhyTest)", state("test mode", verdict="warn", n=8), {"phys_state": "7: Phy Test"},
     **elsewhere(8))
port("ib-roce-down", "a RoCE port's Ethernet link is down", state("ip link set", n=5), {"state": "1: DOWN", "phys_state": "3: Disabled", "rate": DOWN,
     "link_layer": "Ethernet"}, also={"ib.layers"}, **elsewhere(5), spoils=True)  # it becomes one by the same files, among InfiniBand ports of its model


@fault("ib-unreadable", "the driver does not answer for a port any more (its files are gone)",
       expect=Expect("ib.state", "a", "mlx5_2", "warn", ("its state is not known",)))
def unreadable(bed):
    tree = bed.sys("a")
    before = texts(tree, "mlx5_2", ["ports/1/state"])
    tree.dev("mlx5_2", **{"ports/1/state": "garbage"})
    yield
    tree.dev("mlx5_2", **before)


@fault("ib-adapter-gone", "an adapter fell off the bus: its device is not there any more",
       expect=Expect("ib.count", "a", None, "bad", ("mlx5_2 was Active", "3 RDMA ports, and had 4")), short=True)
def gone(bed):
    tree = bed.sys("a")
    link = tree.path("class/infiniband/mlx5_2")
    target = os.readlink(link)
    os.unlink(link)
    yield
    os.symlink(target, link)


@fault("ib-adapter-missing", "a node came up with an adapter fewer than its like",
       expect=Expect("ib.count", "a", None, "warn", ("3 RDMA ports", "2 of 3 nodes of its make have 4"), within=25), spoils=True)
def missing(bed):
    bed.restart_all(lambda: os.unlink(bed.sys("a").path("class/infiniband/mlx5_2")))
    yield


# ---- addresses and partitions -----------------------------------------------------------------------------------------

port("ib-lid-0", "Active without a LID", Expect("ib.lid", "a", "mlx5_2", "bad", ("without a LID",)), {"lid": "0x0"})
port("ib-lid-ffff", "Active with the LID of nobody (0xffff)", Expect("ib.lid", "a", "mlx5_2", "bad", ("without a LID",)), {"lid": "0xffff"})
port("ib-sm-lid-0", "Active, and knows no subnet manager", Expect("ib.lid", "a", "mlx5_2", "bad", ("SM LID 0",)), {"sm_lid": "0x0"})
port("ib-sm-lid-other", "one port obeys another subnet manager than its like",
     Expect("ib.sm", "a", "mlx5_2", "warn", ("SM LID 77", "SM LID 1"), within=15), {"sm_lid": "0x4d"}, clear=30)
port("ib-no-gid", "a port without a GID", Expect("ib.gids", "a", "mlx5_2", "warn", ("GID table is empty",)),
     {"gids/0": "0000:0000:0000:0000:0000:0000:0000:0000"}, clear=40)
port("ib-pkey-other", "a port is in another partition", Expect("ib.pkey", "a", "mlx5_2", "warn", ("0x0001", "do not hear each other")),
     {"pkeys/0": "0x8001"}, clear=40)
port("ib-pkey-limited", "a port is a limited member of its partition", Expect("ib.pkey", "a", "mlx5_2", "warn", ("limited",)),
     {"pkeys/0": "0x7fff"}, clear=40)
port("ib-pkey-none", "a port without a partition", Expect("ib.pkey", "a", "mlx5_2", "warn", ("belongs to no partition",)),
     {"pkeys/0": "0x0000"}, clear=40)
port("ib-mixed-layers", "one of a node's adapters of one model is set to Ethernet",
     Expect("ib.layers", "a", None, "warn", ("mlx5_3 speaks Ethernet", "LINK_TYPE")), {"link_layer": "Ethernet"}, devices=("mlx5_3",), clear=40)
port("ib-firmware", "an adapter has another firmware", Expect("ib.firmware", "a", "mlx5_2", "warn", ("28.30.1000", "mlxfwmanager")),
     {"fw_ver": "28.30.1000"}, clear=40)

# ---- rate and width ---------------------------------------------------------------------------------------------------

port("ib-width-1x", "a bad lane: 4X becomes 1X", Expect("ib.width", "a", "mlx5_2", "bad", ("1X", "it was at 4X before")),
     {"rate": "100 Gb/sec (1X NDR)"}, also={"ib.rate"})  # fewer lanes are a lower rate
port("ib-width-2x", "4X becomes 2X on a port that had four lanes", Expect("ib.width", "a", "mlx5_2", "bad", ("it was at 4X before",)),
     {"rate": "200 Gb/sec (2X NDR)"}, also={"ib.rate"})  # as above
port("ib-speed", "a link trains at a lower speed with all lanes", Expect("ib.rate", "a", "mlx5_2", "bad", ("100 Gb/s", "it was at 400 Gb/s before")),
     {"rate": "100 Gb/sec (4X EDR)"}, short=True)


@fault("ib-slower-than-peers", "a port was slow from the start", spoils=True,
       expect=Expect("ib.rate", "a", "mlx5_2", "bad", ("11 of 12 ports of its model are at 400 Gb/s",), within=25))
def slow_from_start(bed):
    bed.restart_all(lambda: bed.sys("a").set("mlx5_2", rate="100 Gb/sec (4X EDR)"))
    yield


# ---- counters -----------------------------------------------------------------------------------------------------------


def counter(id, title, name, value, verdict, *words, check=None, **more):
    @fault(id, title, spoils=True, expect=Expect(check or f"ib.counters.{name}", "a", "mlx5_1", verdict, words), **more)
    def inject(bed):
        bed.sys("a").counter("mlx5_1", **{name: value})
        yield
    return inject


counter("ib-symbol-storm", "a storm of symbol errors", "symbol_error", 60000, "bad", "60000", "cable", short=True)
counter("ib-symbol-some", "some symbol errors", "symbol_error", 40, "warn", "40")
counter("ib-link-recovery", "a link recovers again and again", "link_error_recovery", 20, "warn", "20")
counter("ib-link-downed", "the hardware counts a link that comes and goes", "link_downed", 5, "bad", "5",
        also={"ib.flap"})  # the same count is the flap's
counter("ib-rcv-errors", "packets received with errors", "port_rcv_errors", 5000, "bad", "5000")
counter("ib-remote-errors", "packets that were bad before they came here", "port_rcv_remote_physical_errors", 500, "warn", "further away")
counter("ib-discards", "packets not sent", "port_xmit_discards", 5000, "warn", "5000")
counter("ib-integrity", "local link integrity errors", "local_link_integrity_errors", 3, "warn", "3")
counter("ib-overrun", "buffer overruns", "excessive_buffer_overrun_errors", 12, "bad", "12")
counter("ib-ack-timeout", "packets that nobody acknowledges (NCCL's error 12 is near)", "local_ack_timeout_err", 200, "warn", "200", "other end")
counter("ib-rnr", "receivers that were not ready", "rnr_nak_retry_err", 3, "warn", "stands still")
counter("ib-saturated", "a counter stands at its maximum and counts no more", "symbol_error", 65535, "bad", "65535")


@fault("ib-flap", "a link comes and goes twice", spoils=True, also={"ib.state"},  # it is down while it is down
       expect=Expect("ib.flap", "a", "mlx5_2", "warn", ("comes and goes",)))
def flap(bed):
    for _ in range(2):
        bed.mark()  # the last time it goes down is what makes it flapping
        bed.sys("a").set("mlx5_2", state="1: DOWN", phys_state="2: Polling")
        bed.until(lambda: bed.port("a", "mlx5_2").get("state") == "Down", "it is seen down")
        bed.sys("a").set("mlx5_2", state="4: ACTIVE", phys_state="5: LinkUp")
        bed.until(lambda: bed.port("a", "mlx5_2").get("state") == "Active", "it is seen up")
    yield


@fault("ib-driver-gone", "the InfiniBand driver of a node is unloaded (no class/infiniband)",
       expect=Expect("ib.count", "a", None, "bad", ("no RDMA port, and had 4")), also={"node.sources"})  # nobody can know the ports
def driver_gone(bed):
    d = bed.sys("a").path("class/infiniband")
    os.rename(d, d + "-away")
    yield
    os.rename(d + "-away", d)


# ---- no faults ------------------------------------------------------------------------------------------------------------


@fault("ok-counter-reset", "somebody sets counters to 0 (perfquery -R)", quiet=8, spoils=True)
def counter_reset(bed):
    bed.sys("a").counter("mlx5_1", symbol_error=9)
    bed.until(lambda: "(9 in all)" in bed.reading("ib.counters.symbol_error", "a", "mlx5_1"), "9 are read")
    bed.sys("a").counter("mlx5_1", symbol_error=0)
    yield lambda: "(0 in all)" in bed.reading("ib.counters.symbol_error", "a", "mlx5_1")


@fault("ok-counter-wrap", "a counter of 64 bits wraps", quiet=8, spoils=True)
def counter_wrap(bed):
    # the value of before the probe looks first, so the agent is started anew
    bed.restart_agent("a", lambda: bed.sys("a").counter("mlx5_1", local_ack_timeout_err=2**64 - 3))
    said = lambda: bed.reading("ib.counters.local_ack_timeout_err", "a", "mlx5_1")
    bed.until(lambda: str(2**64 - 3) in said(), "it is read")
    bed.sys("a").counter("mlx5_1", local_ack_timeout_err=2)
    yield lambda: "(2 in all)" in said()


@fault("ok-old-errors", "errors of before the daemon began (lifetime values)", quiet=8, spoils=True)
def old_errors(bed):
    bed.restart_agent("a", lambda: bed.sys("a").counter("mlx5_1", symbol_error=40000, link_downed=200, port_rcv_errors=3000))
    yield lambda: "(40000 in all)" in bed.reading("ib.counters.symbol_error", "a", "mlx5_1")


@fault("ok-split-cable", "all ports of the cluster have two lanes (split cables)", quiet=6, spoils=True)
def split(bed):
    def change():
        for n in NODES:
            for i in range(4):
                bed.sys(n).set(f"mlx5_{i}", rate="200 Gb/sec (2X NDR)")
    bed.restart_all(change)
    yield lambda: all("2X" in bed.reading("ib.width", n, "mlx5_3") for n in NODES)


@fault("ok-excluded", "an excluded device goes down", quiet=6, spoils=True)
def excluded(bed):
    conf = bed.agent_conf
    bed.agent_conf = lambda n: conf(n) + ("exclude_ports = mlx5_2\n" if n == "a" else "")
    bed.restart_agent("a", lambda: bed.sys("a").set("mlx5_2", state="1: DOWN", phys_state="2: Polling"))
    yield lambda: bed.port("a", "mlx5_2").get("excluded")


@fault("ok-one-flap", "a link that is down for a moment, once", quiet=6, also={"ib.state"}, spoils=True)  # while it is down
def one_flap(bed):
    bed.sys("a").set("mlx5_0", state="1: DOWN", phys_state="2: Polling")
    bed.until(lambda: bed.port("a", "mlx5_0").get("state") == "Down", "it is seen down")
    bed.sys("a").set("mlx5_0", state="4: ACTIVE", phys_state="5: LinkUp")
    yield lambda: bed.port("a", "mlx5_0").get("state") == "Active"


@fault("ok-new-sm", "another subnet manager takes over: all ports have its LID", quiet=8)
def new_sm(bed):
    for lid in "0x9", "0x1":
        for n in NODES:
            for i in range(4):
                bed.sys(n).set(f"mlx5_{i}", sm_lid=lid)
        if lid == "0x9":
            yield lambda: all(bed.port(n, "mlx5_0").get("sm_lid") == 9 for n in NODES)


@fault("ok-idle-ethernet", "a card of another model speaks Ethernet beside InfiniBand, and has no cable", quiet=6, spoils=True,
       also={"ib.state"})  # a port without a cable is told: a warning, and what to do where none is meant to be
def ethernet(bed):
    for n in NODES:  # alike on all
        bed.sys(n).device("mlx5_bond_0", 9, link_layer="Ethernet", state="1: DOWN", phys_state="2: Polling", rate=DOWN, lid="0x0",
                          sm_lid="0x0")
        bed.sys(n).dev("mlx5_bond_0", board_id="MT_0000000359", hca_type="MT4119", fw_ver="16.35.2000")
    yield lambda: all(bed.port(n, "mlx5_bond_0").get("board") == "MT_0000000359" for n in NODES)
