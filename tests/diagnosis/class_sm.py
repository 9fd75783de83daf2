"""class_sm.py - classes of faults of the subnet manager: a real opensm on a simulated fabric (fabric.py)

What is recorded only: services of systemd's, as files.
"""
import time

from bed import Expect, fault
import fabric  # noqa: F401

IB = "ibsim0"


def real(id, title, expect, **more):
    """Clears as soon as the fabric is well; a bed is thrown away, its manager has a history."""
    return fault(id, title, bed="ibsim", expect=expect, spoils=True, **more)


def state(node, verdict, *words, within=5.0):
    return Expect("ib.state", node, IB, verdict, words, within)


@real("sm-down-one-stuck", "opensm ends, and one port flaps: it sticks in Initializing, the others stay Active", short=True,
      expect=state("b", "bad", "Initializing", "no subnet manager", "this port alone"))
def one_stuck(bed):
    bed.end_opensm("a")
    bed.mark()
    bed.relink("b")
    yield


@real("sm-down-all-stuck", "opensm ends, and all hosts are booted: the subnet manager is told, not the ports",
      expect=state("b", "bad", "subnet manager is down", "Ports of 3 nodes"), also={"ib.state"})  # of the other two, as expected
def all_stuck(bed):
    bed.end_opensm("a")
    for n in "a", "c":
        bed.relink(n)
    bed.mark()
    bed.relink("b")
    yield


@real("sm-back", "opensm comes back: the stuck port is Active, and nothing is told any more", None, quiet=5,
      also={"ib.state"})  # until it is back
def back(bed):
    bed.end_opensm("a")
    bed.relink("b")
    bed.until(lambda: bed.port("b", IB).get("state") == "Initializing", "it is stuck")
    bed.opensm("a")
    bed.settle("Active")
    bed.show()
    bed.until(lambda: bed.port("b", IB).get("state") == "Active" and
              not any(r["id"] == "ib.state" for r in bed.firing()), "it is well")
    yield


@real("sm-gone-all-active", "opensm ends: ports stay Active, which proves nothing, and nobody is told a fault that is not seen", None, quiet=6)
def gone(bed):
    bed.end_opensm("a")
    bed.show()
    yield


@real("sm-service-down", "opensm is enabled on a host and ends, all ports still Active", expect=Expect("sm.running", "a", None, "bad",
      ("does not run", "Initializing"), within=6))
def service_down(bed):
    bed.sm_units = True
    bed.show()
    bed.until(lambda: bed.check("sm.") == [], "it runs", 10)
    bed.end_opensm("a")
    bed.mark()
    bed.show()
    yield


@real("sm-failover", "the master ends and the one in reserve takes over", None, quiet=8)
def failover(bed):
    bed.opensm("c", priority=1)
    bed.settle("Active")
    old = bed.port("b", IB).get("sm_lid")
    bed.end_opensm("a")
    bed.show_until_other_sm(old)
    yield lambda: bed.port("b", IB).get("sm_lid") not in (None, old)


@real("sim-cable-pulled", "a cable of the simulated fabric is pulled", state("b", "bad", "no partner", "it was Active before"))
def pulled(bed):
    bed.console('Unlink "b"[1]')
    yield


@real("sim-flap", "a port of the simulated fabric goes down and comes back three times",
      Expect("ib.flap", "b", IB, "warn", ("comes and goes",), within=8),  # the bed's own way from the cable to Active is in it
      also={"ib.state", "node.kmsg.port"})  # while it is down; the same, counted of a node
def flap(bed):
    for i in range(3):
        bed.mark()
        bed.console('Unlink "b"[1]')
        bed.until(lambda: bed.port("b", IB).get("state") == "Down", "it is seen down")
        bed.fabric.console('ReLink "b"[1]') if bed.real else None
        bed.settle("Active")
        bed.show()
        if i < 2:
            bed.until(lambda: bed.port("b", IB).get("state") == "Active", "it is seen up")
    yield


# ---- services, as files of systemd's ----------------------------------------------------------------------------------------


@fault("sm-not-enabled", "opensm runs and is not enabled: after the next boot nobody configures ports",
       expect=Expect("sm.enabled", "a", None, "warn", ("not enabled", "nodectl fix sm --enable"), within=6))
def not_enabled(bed):
    bed.sys("a").unit(enabled=False)
    yield
    bed.sys("a").no_unit()


@fault("sm-several", "two subnet managers run", expect=Expect("sm.several", "a", None, "warn", ("other node",), within=6),
       also={"sm.several"})  # of the other node
def several(bed):
    bed.sys("a").unit()
    bed.sys("b").unit("opensmd")
    yield
    for n in "a", "b":
        bed.sys(n).no_unit()


@fault("sm-down-with-stuck", "opensm is enabled and does not run, and a port waits for it: the remedy names its host",
       expect=Expect("ib.state", "b", "mlx5_3", "bad", ("Initializing", "opensm on a is not running", "nodectl fix sm"), within=6),
       also={"sm.running"}, spoils=True)  # the cause itself
def down_with_stuck(bed):
    bed.sys("a").unit(running=False)
    bed.sys("b").set("mlx5_3", state="2: INIT")
    yield


@fault("ok-sm-reserve", "one manager runs and another host has one in reserve", quiet=8)
def reserve(bed):
    bed.sys("a").unit()
    time.sleep(5)  # it runs and is read, then the other is installed
    bed.sys("b").unit(running=False)
    yield
    for n in "a", "b":
        bed.sys(n).no_unit()
