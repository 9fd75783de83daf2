"""probe.py - runs the real nodeagent-probe and reads its frames; trees like sysfs's to show it

Shared by the tests, the test beds and the figure of its cost.
"""
import json
import os
import select
import shutil
import struct
import subprocess
import time

ZERO_GID = "0000:0000:0000:0000:0000:0000:0000:0000"


class Tree:
    """A folder with class/infiniband, as real sysfs has it: devices by way of links."""

    def __init__(self, root):
        self.root = str(root)
        os.makedirs(os.path.join(self.root, "class/infiniband"), exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def write(self, path, text):
        """Replaces a file at once: no reader sees a half of it."""
        path = self.path(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + "~", "w", encoding="utf-8") as f:
            f.write(text + "\n")
        os.replace(path + "~", path)

    def device(self, name, number=0, function=0, **changed):
        """A healthy NDR port on a device of its own, or the second one of a card; 'changed' files hold other texts."""
        pci = f"0000:{0x10 + number:02x}:00.{function}"
        home = f"devices/pci0000:00/{pci}"
        dev = f"{home}/infiniband/{name}"
        for file, text in {"fw_ver": "28.39.1002", "board_id": "MT_0000000838", "hca_type": "MT4129",
                           "node_guid": "a088:c203:00ab:1234"}.items():
            self.write(f"{dev}/{file}", text)
        self.write(f"{home}/numa_node", str(number % 2))
        files = {"state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)",
                 "lid": hex(number + 2), "sm_lid": "0x1", "link_layer": "InfiniBand",
                 "gids/0": f"fe80:0000:0000:0000:a088:c203:00ab:{number:04x}"}
        files.update({f"gids/{i}": ZERO_GID for i in range(1, 8)})
        files.update(changed)
        for file, text in files.items():
            self.write(f"{dev}/ports/1/{file}", text)
        os.symlink(f"../../../{pci}", self.path(dev, "device"))
        link = self.path("class/infiniband", name)
        if not os.path.islink(link):
            os.symlink(f"../../{dev}", link)

    def counters(self, name, **values):
        """Its error counters, all 0 but for these."""
        zero = ["symbol_error", "link_error_recovery", "link_downed", "port_rcv_errors", "port_rcv_remote_physical_errors",
                "port_xmit_discards", "local_link_integrity_errors", "excessive_buffer_overrun_errors", "port_rcv_data", "port_xmit_data"]
        hw = ["local_ack_timeout_err", "rnr_nak_retry_err", "out_of_sequence"]
        for folder, names in ("counters", zero), ("hw_counters", hw):
            for n in names:
                self.write(f"class/infiniband/{name}/ports/1/{folder}/{n}", str(values.get(n, 0)))

    def set(self, name, **files):
        for file, text in files.items():
            self.write(f"class/infiniband/{name}/ports/1/{file}", text)

    def remove(self, name):
        link = self.path("class/infiniband", name)
        target = os.path.realpath(link)
        os.unlink(link)
        shutil.rmtree(target)


class Frames:
    """Splits what comes out of a descriptor into messages."""

    def __init__(self, fd):
        self.fd = fd
        self.buf = b""

    def next(self, timeout):
        """The next message; None when there is none in time, EOFError at the end."""
        end = time.monotonic() + timeout
        while True:
            if len(self.buf) >= 5:
                n, kind = struct.unpack(">IB", self.buf[:5])
                assert kind == 1 and n <= 1 << 20, self.buf[:5]
                if len(self.buf) >= 5 + n:
                    body, self.buf = self.buf[5:5 + n], self.buf[5 + n:]
                    m = json.loads(body)
                    assert m["t"] == "readings"
                    return m
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                return None
            more = os.read(self.fd, 1 << 20)
            if not more:
                raise EOFError
            self.buf += more


def cpu_ns(pid):
    """Nanoseconds on a CPU, of all threads: finer than the ticks of /proc/PID/stat."""
    total = 0
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total


def threads_ns(pid):
    """{source: nanoseconds on a CPU so far}"""
    found = {}
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/comm", encoding="utf-8") as name, open(f"/proc/{pid}/task/{t}/schedstat", encoding="ascii") as f:
            who = name.read().strip()
            found[who] = found.get(who, 0) + int(f.read().split()[0])
    return found


class Probe:
    def __init__(self, program, *args, env=None, pass_fds=(), stderr=None):
        self.p = subprocess.Popen([program, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                                  env=env, pass_fds=pass_fds)
        self.frames = Frames(self.p.stdout.fileno())
        self.last = None

    def next(self, timeout=10):
        m = self.frames.next(timeout)
        if m:
            self.last = m
        return m

    def until(self, f, seconds, what):
        """Reads frames until f(message) is true; (its value, seconds that took)."""
        begin = time.monotonic()
        while True:
            left = begin + seconds - time.monotonic()
            m = self.next(max(left, 0))
            if m and f(m):
                return f(m), time.monotonic() - begin
            assert m or left > 0, f"not within {seconds} s: {what}; last: {self.last}"

    def cpu_s(self):
        with open(f"/proc/{self.p.pid}/stat", encoding="latin1") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_kb(self):
        with open(f"/proc/{self.p.pid}/status", encoding="latin1") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))

    def finish(self, seconds=10):
        """Closes our end, which ends it; its exit code."""
        self.p.stdout.close()
        try:
            return self.p.wait(seconds)
        finally:
            if self.p.poll() is None:
                self.p.kill()
                self.p.wait()


def port(message, device, number=1):
    """The row of a port, None when it is not there."""
    return next((p for p in message.get("ports", []) if p["device"] == device and p["port"] == number), None)


def source(message, name):
    return next((s for s in message["sources"] if s["name"] == name), None)
