"""ctl.py - nodectl at a fake agent, through pipes or on a terminal"""
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from cluster import NODECTL, clean_env


class Ctl:
    """nodectl at a fake agent."""

    def __init__(self, agent):
        self.agent, self.env, self.procs = agent, clean_env(agent.dir), []
        for name in ("TERM", "NO_COLOR", "PWD"):
            self.env.pop(name, None)

    def popen(self, *args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        kw.setdefault("env", self.env)
        p = subprocess.Popen([NODECTL, "--dir", self.agent.dir, *map(str, args)], **kw)
        self.procs.append(p)
        return p

    def close(self):
        for p in self.procs:
            if p.poll() is None:
                p.kill()
            p.wait()
            for f in (p.stdin, p.stdout, p.stderr):
                if f:
                    f.close()

    def __call__(self, *args, input=None, timeout=30, **kw):
        p = self.popen(*args, **({"stdin": subprocess.PIPE} if input is not None else {}), **kw)
        out, err = p.communicate(input, timeout)
        p.out, p.err = out.decode("utf-8", "surrogateescape"), err.decode("utf-8", "surrogateescape")
        p.code = p.returncode
        assert p.code != 99 and "Sanitizer" not in p.err, p.err
        return p


def finish(p, seconds=20):
    out, err = p.communicate(timeout=seconds)
    err = err.decode("utf-8", "surrogateescape")
    assert p.returncode != 99 and "Sanitizer" not in err, err
    return p.returncode, out, err


class Terminal:
    """nodectl with a pseudo-terminal for all three."""

    def __init__(self, ctl, *args, columns=80, lines=24, env=None):
        self.fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.data = b""

        def own():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.p = ctl.popen(*args, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own,
                           env={**ctl.env, "TERM": "xterm", **(env or {})})
        os.close(slave)

    def wait(self, pattern, seconds=10):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.data):
            left = end - time.monotonic()
            assert left > 0, f"{pattern!r} not in {self.data!r}"
            self.read(left)
        return self.data

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                self.data += os.read(self.fd, 65536)
            except OSError:  # the other end is closed
                return False
        return True

    def end(self, seconds=20):
        end = time.monotonic() + seconds
        while self.p.poll() is None and time.monotonic() < end:
            self.read(0.1)
        while self.read(0.1) and select.select([self.fd], [], [], 0)[0]:
            pass
        os.close(self.fd)
        return self.p.returncode

    def type(self, text):
        os.write(self.fd, text)
