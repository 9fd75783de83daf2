"""rxe_vm.py BUILD KERNEL - see rxe-vm.sh

The machine has two serial lines: on one a shell takes commands, on the other
the probe's frames come out, so both are timed by this side's clock. At last a
standalone cluster runs in it, and its nodectl is asked.
"""
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests/system"))
from probe import Frames, port, source  # noqa: E402

MODULES = ("dummy", "ib_uverbs", "crc32_generic", "rdma_rxe")
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /tmp
for m in $(cat /modules/order); do insmod /modules/$m || echo "insmod $m failed"; done
stty -F /dev/ttyS1 raw -echo clocal
stty -F /dev/ttyS0 -echo
ip link set lo up
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo READY
while read -r line; do eval "$line"; echo "DONE $?"; done
"""


# ---- the initial file system -------------------------------------------------


class Cpio:
    """An archive in the form that the kernel unpacks (newc)."""

    def __init__(self, path):
        self.f = open(path, "wb")
        self.seen = set()

    def entry(self, name, mode, data=b""):
        name = name.lstrip("/")
        if os.path.dirname(name) and os.path.dirname(name) not in self.seen:
            self.entry(os.path.dirname(name), 0o40755)
        if name in self.seen:
            return
        self.seen.add(name)
        fields = [len(self.seen), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        self.put(b"070701" + "".join(f"{v:08x}" for v in fields).encode() + name.encode() + b"\0")
        self.put(data)

    def put(self, data):
        self.f.write(data + b"\0" * (-len(data) % 4))

    def file(self, source, name=None, mode=0o100755):
        with open(source, "rb") as f:
            self.entry(name or source, mode, f.read())

    def program(self, path, name=None):
        """With the libraries that it is linked with."""
        self.file(path, name)
        out = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for lib in re.findall(r"(/\S+) \(0x", out):
            self.file(os.path.realpath(lib), lib)

    def finish(self):
        self.entry("TRAILER!!!", 0)
        self.f.close()


def modules(kernel):
    """Files of the modules wanted, those they depend on first."""
    files = {os.path.basename(p)[:-3].replace("-", "_"): p for p in glob.glob(f"{kernel}/lib/modules/*/kernel/**/*.ko", recursive=True)}
    order = []

    def add(name):
        with open(files[name], "rb") as f:
            depends = re.search(rb"\0depends=([^\0]*)\0", f.read()).group(1).decode()
        for d in filter(None, depends.split(",")):
            add(d.replace("-", "_"))
        if files[name] not in order:
            order.append(files[name])

    for m in MODULES:
        add(m)
    return order


def initramfs(path, build, kernel):
    c = Cpio(path)
    for d in ("proc", "sys", "dev"):
        c.entry(d, 0o40755)
    c.entry("init", 0o100755, INIT.encode())
    c.file("/bin/busybox", "bin/busybox")
    order = modules(kernel)
    for m in order:
        c.file(m, "modules/" + os.path.basename(m))
    c.entry("modules/order", 0o100644, "\n".join(os.path.basename(m) for m in order).encode())
    for name in ("nodeagent-probe", "nodeagentd", "nodeagent-shim", "nodectl"):
        c.program(os.path.join(build, name), f"usr/bin/{name}")
    c.entry("etc/passwd", 0o100644, b"root:x:0:0:root:/:/bin/sh\n")
    for tool in ("rdma", "ip", "ibv_devinfo"):
        c.program(shutil.which(tool), f"usr/bin/{tool}.real")
    provider = glob.glob("/usr/lib/*/libibverbs/librxe-*.so")[0]
    c.program(provider)
    c.file("/etc/libibverbs.d/rxe.driver", mode=0o100644)
    c.finish()


# ---- the machine -------------------------------------------------------------


class Machine:
    def __init__(self, where, build, kernel):
        self.dir = where  # no_timer_check: on a loaded host the emulated timer is late, and the kernel gives up
        initramfs(os.path.join(where, "initramfs"), build, kernel)
        self.lines = [self.listen(n) for n in ("console", "frames")]
        self.log = open(os.path.join(where, "qemu.log"), "wb")
        self.qemu = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512", "-smp", "2", "-nodefaults",
             "-no-reboot", "-display", "none", "-kernel", glob.glob(f"{kernel}/boot/vmlinuz-*")[0],
             "-initrd", os.path.join(where, "initramfs"), "-append", "console=ttyS0 quiet panic=-1 no_timer_check",
             *[x for n in ("console", "frames") for x in ("-serial", f"unix:{os.path.join(where, n)}")]],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        for s in self.lines:
            s.settimeout(20)
        self.console, self.frames_line = [s.accept()[0] for s in self.lines]
        self.said = b""
        self.frames = Frames(self.frames_line.fileno())
        self.last = None

    def listen(self, name):
        s = socket.socket(socket.AF_UNIX)
        s.bind(os.path.join(self.dir, name))
        s.listen(1)
        return s

    def wait_for(self, pattern, seconds):
        """What the console said up to and with the pattern."""
        end = time.monotonic() + seconds
        while not (m := re.search(pattern, self.said)):
            left = end - time.monotonic()
            assert left > 0, f"no {pattern} in {seconds} s: {self.said[-2000:].decode('utf-8', 'replace')}"
            self.console.settimeout(left)
            try:
                more = self.console.recv(65536)
            except TimeoutError:
                continue
            assert more, f"the machine is gone: {self.said[-2000:].decode('utf-8', 'replace')}"
            self.said += more
        text, self.said = self.said[:m.end()], self.said[m.end():]
        return text.decode("utf-8", "replace")

    def sh(self, line, seconds=20):
        """Runs a line; what it said. Fails when it failed."""
        self.console.sendall(line.encode() + b"\n")
        text = self.wait_for(rb"DONE (\d+)\r?\n", seconds)
        assert text.rstrip().endswith("DONE 0"), f"{line}: {text}"
        return text

    def start(self, *args):
        self.sh(f"nodeagent-probe {' '.join(args)} >/dev/ttyS1 2>/tmp/err & echo $! >/tmp/pid")

    def stop(self):
        self.sh("kill $(cat /tmp/pid); while kill -0 $(cat /tmp/pid) 2>/dev/null; do usleep 20000; done")
        while self.frames.next(0.3):
            pass
        self.frames.buf = b""

    def until(self, f, seconds, what):
        begin = time.monotonic()
        while (left := begin + seconds - time.monotonic()) > 0:
            m = self.frames.next(left)
            if m:
                self.last = m
                if f(m):
                    return time.monotonic() - begin
        raise AssertionError(f"not within {seconds} s: {what}; last: {self.last}")

    def finish(self):
        if self.qemu.poll() is None:
            self.qemu.terminate()
            try:
                self.qemu.wait(5)
            except subprocess.TimeoutExpired:
                self.qemu.kill()
                self.qemu.wait()
        for s in (*self.lines, self.console, self.frames_line):
            s.close()
        self.log.close()


# ---- what is tried -----------------------------------------------------------


def say(what):
    print(f"ok    {what}", flush=True)


def state(m, device):
    p = port(m, device)
    return (p.get("state"), p.get("phys_state")) if p else None


def rails(vm):
    for i in range(3):
        vm.sh(f"ip.real link add rail{i} type dummy && ip.real addr add 192.0.2.{i + 1}/24 dev rail{i} && "
              f"ip.real link set rail{i} up && rdma.real link add rxe{i} type rxe netdev rail{i}")
    vm.start()
    vm.until(lambda m: all(state(m, f"rxe{i}") == ("Active", "LinkUp") and port(m, f"rxe{i}")["gids"] >= 2
                           for i in range(3)), 20, "three rails with the GIDs of their addresses")
    m = vm.last
    assert source(m, "verbs")["ok"] and not source(m, "sysfs"), m["sources"]
    for i in range(3):
        p = port(m, f"rxe{i}")
        assert (p["link_layer"], p["netdev"], p["lanes"], p["speed"], p["rate_mbps"]) == \
            ("Ethernet", f"rail{i}", 1, "SDR", 2500) and "text" not in p, p
    say(f"three rails by verbs: {port(m, 'rxe1')}")
    said = vm.sh("ibv_devinfo.real -d rxe1 -i 1")
    assert "PORT_ACTIVE" in said and re.search(rf"active_mtu:\s+{port(m, 'rxe1')['mtu']} ", said), said
    said = vm.sh("ibv_devinfo.real -v -d rxe1 -i 1 | grep -i 'GID\\[  *0\\]'")
    gid = re.search(r"([0-9a-f:]+)\s*(,|\r?\n)", said.split("]:")[1].strip() + "\n").group(1)
    assert socket.inet_pton(socket.AF_INET6, gid) == socket.inet_pton(socket.AF_INET6, port(m, "rxe1")["gid"]), (said, m)
    say("mtu and GID 0 as ibv_devinfo says")


def flaps(vm):
    """Both ways five times: events, not luck with the 2 s between looks."""
    times = []
    for _ in range(5):
        vm.sh("ip.real link set rail1 down")
        times.append(vm.until(lambda m: state(m, "rxe1") == ("Down", "Disabled"), 5, "down"))
        assert state(vm.last, "rxe0") == state(vm.last, "rxe2") == ("Active", "LinkUp")
        vm.sh("ip.real link set rail1 up")
        times.append(vm.until(lambda m: state(m, "rxe1") == ("Active", "LinkUp"), 5, "up"))
        assert int(port(vm.last, "rxe1")["since_wall_ms"]) > 0
        time.sleep(0.37)
    assert max(times) < 1, times
    say(f"one rail down and up: seen after {min(times):.2f} to {max(times):.2f} s")


def gids(vm):
    before = port(vm.last, "rxe0")["gids"]
    vm.sh("ip.real addr add 198.51.100.7/24 dev rail0")
    took = vm.until(lambda m: port(m, "rxe0")["gids"] == before + 1, 5, "one more GID")
    assert took < 1, took
    say(f"another address is another GID: seen after {took:.2f} s")


def plugging(vm):
    vm.sh("rdma.real link del rxe2")
    took = vm.until(lambda m: port(m, "rxe2") is None, 6, "unplugged")
    assert state(vm.last, "rxe0") == ("Active", "LinkUp")
    say(f"a rail is unplugged while it is listened to: gone after {took:.2f} s")
    vm.sh("rdma.real link add rxe3 type rxe netdev rail2")
    took = vm.until(lambda m: state(m, "rxe3") == ("Active", "LinkUp"), 6, "plugged in")
    say(f"and another plugged in: there after {took:.2f} s")
    vm.sh("ip.real link set rail2 down")
    took = vm.until(lambda m: state(m, "rxe3") == ("Down", "Disabled"), 5, "its events")
    assert took < 1, took
    say(f"its events are heard too: {took:.2f} s")
    vm.sh("for i in 0 1 3; do rdma.real link del rxe$i; done")
    took = vm.until(lambda m: not m.get("ports"), 8, "all are gone")
    say(f"all unplugged: {vm.last['sources'][0]['text']}")


def without_verbs(vm):
    vm.stop()
    for i in range(2):
        vm.sh(f"rdma.real link add rxe{i} type rxe netdev rail{i}")
    vm.sh("mv /dev/infiniband /dev/hidden")
    vm.start("--exclude", "rxe1")
    vm.until(lambda m: state(m, "rxe0") == ("Active", "LinkUp"), 20, "by sysfs")
    v = source(vm.last, "verbs")
    assert not v["ok"] and "/dev/infiniband is absent" in v["text"] and source(vm.last, "sysfs")["ok"], vm.last["sources"]
    assert port(vm.last, "rxe1")["excluded"] and "state" not in port(vm.last, "rxe1")
    say(f"without /dev/infiniband: by sysfs, and why: {v['text']}")
    vm.sh("ip.real link set rail0 down")
    took = vm.until(lambda m: state(m, "rxe0") == ("Down", "Disabled"), 5, "the next look")
    say(f"without events: seen after {took:.2f} s")
    vm.sh("mv /dev/hidden /dev/infiniband")
    took = vm.until(lambda m: source(m, "verbs")["ok"] and not source(m, "sysfs"), 40, "verbs are back")
    say(f"its file comes back: by verbs after {took:.1f} s")


SHOWS = """shows() {
until nodectl --dir /tmp/c --json ports >/tmp/out 2>&1 && grep -q "$1" /tmp/out; do
[ $(cut -d. -f1 /proc/uptime) -lt $end ] || { cat /tmp/out /tmp/log; return 1; }; done; }"""


def with_cluster(vm):
    """From an event to nodectl's answer, by way of probe, agent, coordinator, agent and client, on slow processors."""
    vm.sh("nodeagentd --standalone --dir /tmp/c >/tmp/ready 2>/tmp/log & echo $! >/tmp/cluster; "
          "until grep -q ready /tmp/ready; do kill -0 $(cat /tmp/cluster) || { cat /tmp/log; break; }; usleep 50000; done; "
          "grep -q ready /tmp/ready", 60)
    vm.sh(SHOWS.replace("\n", " "))

    def shown(event, device, state, phys, seconds=10):
        """Seconds from the event until nodectl shows it."""
        row = f'"device":"{device}","port":1,"state":"{state}","phys_state":"{phys}"'
        begin = time.monotonic()
        vm.sh(f"end=$(($(cut -d. -f1 /proc/uptime) + {seconds})); {event}; shows '{row}'", seconds + 10)
        return time.monotonic() - begin

    shown("ip.real link set rail0 up", "rxe0", "Active", "LinkUp", 20)
    alone = min(shown("true", "rxe0", "Active", "LinkUp") for _ in range(3))
    times = []
    for _ in range(5):
        times.append(shown("ip.real link set rail1 down", "rxe1", "Down", "Disabled"))
        times.append(shown("ip.real link set rail1 up", "rxe1", "Active", "LinkUp"))
        time.sleep(0.37)
    assert max(times) < 1.5, times
    say(f"in nodectl ports --json of a cluster: {min(times):.2f} to {max(times):.2f} s after the event, "
        f"of which one nodectl takes {alone:.2f}")
    row = '"ports_total":2,"ports_active":'
    vm.sh("ip.real link set rail0 down")
    vm.sh(f"end=$(($(cut -d. -f1 /proc/uptime) + 10)); until nodectl --dir /tmp/c --json status | grep -q '{row}1'; do "
          "[ $(cut -d. -f1 /proc/uptime) -lt $end ] || break; done; "
          f"nodectl --dir /tmp/c --json status >/tmp/out; cat /tmp/out; grep -q '{row}1' /tmp/out && grep -q degraded /tmp/out")
    say("status counts and judges it")
    vm.sh("kill $(cat /tmp/cluster); while kill -0 $(cat /tmp/cluster) 2>/dev/null; do usleep 20000; done", 30)


def main():
    build = os.path.join(TOP, sys.argv[1])
    where = tempfile.mkdtemp(prefix="nodeagent-rxe-")
    begin = time.monotonic()
    vm = None
    try:
        vm = Machine(where, build, sys.argv[2])
        vm.wait_for(rb"READY\r?\n", 120)
        print(f"booted after {time.monotonic() - begin:.1f} s")
        vm.sh("export PATH=/bin:/usr/bin; true")
        for part in (rails, flaps, gids, plugging, without_verbs):
            part(vm)
        vm.stop()
        assert not (said := vm.sh("cat /tmp/err")).replace("\r", "").removesuffix("DONE 0\n").strip(), said
        with_cluster(vm)
        print(f"passed in {time.monotonic() - begin:.1f} s")
    finally:
        if vm:
            vm.finish()
        shutil.rmtree(where)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
