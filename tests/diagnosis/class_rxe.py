"""class_rxe.py - events of a real kernel's ports: soft RoCE in a virtual machine, where a cluster of one node runs

Its processors are emulated: what one nodectl takes by itself is measured before and taken off.
"""
import glob
import json
import os
import re
import shutil
import sys
import tempfile
import time

from bed import BUILD, TOP, Expect, bed_kind, fault

sys.path.insert(0, os.path.join(TOP, "tests/testbeds"))
import rxe_vm  # noqa: E402

KERNEL = os.path.join(TOP, ".check/testbeds/kernel")


@bed_kind("rxe", real=True)
class Rxe:
    @classmethod
    def missing(cls):
        path = os.environ["PATH"] + ":/usr/sbin"
        tools = [t for t in ("qemu-system-x86_64", "rdma", "ibv_devinfo", "busybox", "ip") if not shutil.which(t, path=path)]
        if tools:
            return f"{', '.join(tools)} not installed: make deps-testbeds"
        return None if glob.glob(f"{KERNEL}/boot/vmlinuz-*") else "no kernel: tests/testbeds/rxe-vm.sh kernel"

    def __init__(self):
        os.environ["PATH"] = os.environ["PATH"].replace(":/usr/sbin", "") + ":/usr/sbin"
        self.t0, self.dir, self.vm = None, tempfile.mkdtemp(prefix="nodeagent-rxe-"), None
        try:
            self.vm = rxe_vm.Machine(self.dir, BUILD, KERNEL)
            self.vm.wait_for(rb"READY\r?\n", 120)
            self.vm.sh("export PATH=/bin:/usr/bin; true")
            for i in range(3):
                self.vm.sh(f"ip.real link add rail{i} type dummy && ip.real addr add 192.0.2.{i + 1}/24 dev rail{i} && "
                           f"ip.real link set rail{i} up && rdma.real link add rxe{i} type rxe netdev rail{i}")
            self.vm.sh("nodeagentd --standalone --dir /tmp/c >/tmp/ready 2>/tmp/log & "
                       "until grep -q ready /tmp/ready; do usleep 50000; done", 60)
            end = time.monotonic() + 60
            while not self.is_read():
                assert time.monotonic() < end, "ports are not read"
        except BaseException:
            self.finish()
            raise

    def mark(self):
        self.t0 = time.monotonic()

    def begin(self, fault):
        """What an emulated nodectl takes by itself is no part of what is measured."""
        took = []
        for _ in range(3):
            start = time.monotonic()
            self.firing()
            took.append(time.monotonic() - start)
        self.asking_s = min(took)

    def check(self, *args):
        """Answers may be long for a serial line: only what is asked for comes over it."""
        said = self.vm.sh(f"nodectl --dir /tmp/c --json check {' '.join(args)}; true")
        return json.loads(re.search(r"\{.*\}", said.replace("\r", "").replace("\n", "")).group(0))["checks"]

    def firing(self):
        return [r for r in self.check() if r["verdict"] in ("warn", "bad")]

    def is_read(self):
        said = self.vm.sh("nodectl --dir /tmp/c --json ports; true")
        return said.count('"state":"Active"') == 3

    def finish(self):
        if self.vm:
            self.vm.finish()
        shutil.rmtree(self.dir)
        return None


def recorded(bed):
    """The same by files, where no events are."""
    bed.sys("a").set("mlx5_1", state="1: DOWN", phys_state="3: Disabled", link_layer="Ethernet")
    yield
    bed.sys("a").set("mlx5_1", state="4: ACTIVE", phys_state="5: LinkUp", link_layer="InfiniBand")


@fault("rxe-port-down", "an interface is switched off beneath a RoCE port: the kernel's event", bed="rxe", alone=True, also={"ib.layers"},
       recorded=("nodes", recorded), expect=Expect("ib.state", None, None, "bad", ("its interface is switched off", "ip link set"), within=1.0))
def port_down(bed):
    bed.vm.sh("ip.real link set rail1 down")
    yield
    bed.vm.sh("ip.real link set rail1 up")
