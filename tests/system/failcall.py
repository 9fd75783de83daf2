"""failcall.py - daemons whose system calls fail when a test says so (tests/fake/failcall.c), and what starts them again"""
import errno
import mmap
import os
import shutil
import struct
import threading
import time

from cluster import BUILD, ROOT, SANITIZED, TOP, Site, children, cmdline, kill, marked, wait_until

LIBRARY = os.path.join(BUILD, "tests", "fake", "libfailcall.so")
# the sanitizers bring their own malloc, which nobody may replace: for allocations there are the programs without them
PLAIN = os.path.join(TOP, "build")
PLAIN_LIBRARY = os.path.join(PLAIN, "tests", "fake", "libfailmalloc.so")
CALLS = ("", "open", "write", "fsync", "fork", "accept", "socketpair", "pipe", "socket", "name", "read", "dup", "malloc")
ROLES = ("coordinator", "agent", "shim", "launcher")
EVERY = 0xFFFFFFFF
ORDER = struct.Struct("=IiIIIIII100s")


class Order:
    """What one role is to fail at; shared with all its processes."""

    def __init__(self, folder, role):
        path = os.path.join(folder, role)
        with open(path, "wb") as f:
            f.write(b"\0" * 4096)
        os.chmod(path, 0o666)
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 4096)

    def fields(self):
        return ORDER.unpack_from(self.map)

    def arm(self, call, error, first=0, count=1):
        """From the first-th call on (0: the next one) so many fail. The call's number is written last: it arms."""
        struct.pack_into("=iIIII", self.map, 4, getattr(errno, error), first, count, 0, 0)
        self.map[28:132] = b"\0" * 104
        struct.pack_into("=I", self.map, 0, CALLS.index(call))

    def disarm(self):
        """(calls seen, calls that failed, what failed last)"""
        struct.pack_into("=I", self.map, 0, 0)
        f = self.fields()
        return f[4], f[5], f[8].split(b"\0")[0].decode("utf-8", "replace")

    @property
    def loaded(self):
        return self.fields()[6]


def preloaded(folder, env=(), library=LIBRARY):
    """The environment of a program whose calls may fail."""
    more = {"LD_PRELOAD": os.path.join(folder, os.path.basename(library)), "FAILCALL_DIR": folder}
    if SANITIZED and library == LIBRARY:
        more["ASAN_OPTIONS"] = dict(env).get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return {**dict(env), **more}


def orders(folder, library=LIBRARY):
    """Makes such a directory: {role: Order}."""
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    shutil.copy(library, folder)
    return {role: Order(folder, role) for role in ROLES}


class FailingSite(Site):
    """A coordinator and nodes whose calls may fail; daemons that end are started again, as systemd does it."""

    def __init__(self, plain=False):
        super().__init__()
        os.chmod(self.dir, 0o755)
        if plain:
            self.use_plain()
        folder, library = self.path("failcall"), PLAIN_LIBRARY if plain else LIBRARY
        self.orders = orders(folder, library)
        env = preloaded(folder, self.env, library)
        self.failing = env
        self.argv, self.deaths, self.lock, self.over = {}, [], threading.Lock(), threading.Event()
        # the agent gives a shim no environment, so it comes by a script
        words = " ".join(f"{k}='{env[k]}'" for k in ("LD_PRELOAD", "FAILCALL_DIR", "ASAN_OPTIONS", "UBSAN_OPTIONS") if k in env)
        self.shim = self.write("shim", f"#!/bin/sh\nexport {words}\nexec {self.bin}/nodeagent-shim \"$@\"\n", 0o755)
        self.keeper = threading.Thread(target=self.keep, daemon=True)

    def use_plain(self):
        """Allocations can fail in these only."""
        names = ("nodeagentd", "nodectl", "nodeagent-shim")
        if ROOT:
            for name in names:
                shutil.copy(os.path.join(PLAIN, name), self.bin)
        else:
            self.bin = PLAIN
            self.nodeagentd, self.nodectl = (os.path.join(PLAIN, n) for n in names[:2])

    def daemon(self, name, *args, prefix=(), env=None):
        with self.lock:
            self.argv[name] = (args, prefix)
            return super().daemon(name, *args, prefix=prefix, env=self.failing)

    def keep(self):
        while not self.over.wait(0.02):
            with self.lock:
                for name, p in list(self.daemons.items()):
                    code = p.poll()
                    if code is None:
                        continue
                    self.deaths.append((name, code))
                    args, prefix = self.argv[name]
                    super().daemon(name, *args, prefix=prefix, env=self.failing)

    def build(self, nodes=1, **kw):
        self.head(**kw)
        for i in range(1, nodes + 1):
            self.node(f"n{i}", conf=f"[agent]\nshim = {self.shim}\nprobe = no\n")
        self.keeper.start()
        return self

    def stop_daemon(self, name, sig=15, seconds=15):
        with self.lock:
            return super().stop_daemon(name, sig, seconds)

    def restart(self, name):
        """kill -9, and up again. Its own death is expected and no longer in 'deaths'."""
        old = self.daemons[name].pid
        kill(old)
        wait_until(lambda: self.daemons[name].pid != old, 10, f"{name} is started again", 0.01)
        self.deaths.remove((name, -9))

    def finish(self):
        for o in self.orders.values():
            o.disarm()
        self.over.set()
        if self.keeper.is_alive():
            self.keeper.join()
        return super().finish()

    def shims(self):
        """Those that no rank keeps."""
        return [p for p in marked(self.dir) if "bin/nodeagent-shim " in cmdline(p) and not children(p)]
