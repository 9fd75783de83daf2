"""procs.py - who is alive in the bed's pid namespace, and signals that can only reach who was looked at"""
import collections
import os
import signal

Proc = collections.namedtuple("Proc", "pid start role host job")
ROLES = ("agent", "coordinator", "launcher", "shim", "client", "probe", "rank")


def text(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as f:
            return f.read()
    except OSError:
        return b""


def stat(pid):
    """(state, start time), or None."""
    raw = text(pid, "stat").decode("latin1")
    words = raw.rsplit(")", 1)[1].split() if raw else None
    return (words[0], int(words[19])) if words else None


def environ(pid):
    return dict(v.split(b"=", 1) for v in text(pid, "environ").split(b"\0") if b"=" in v)


def role_of(pid):
    try:
        exe = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return None
    words = text(pid, "cmdline").split(b"\0")
    if exe == "nodeagentd":
        return "coordinator" if b"--coordinator" in words else "agent" if b"--agent" in words else None
    if exe == "nodectl":
        return "client" if b"launch" in words else None
    if exe.startswith("python"):
        script = os.path.basename(words[1].decode()) if len(words) > 1 else ""
        return {"rank.py": "rank", "client.py": "client"}.get(script)
    return {"nodeagent-launcher": "launcher", "nodeagent-shim": "shim", "nodeagent-probe": "probe"}.get(exe)


def look(bed):
    """All that may be hurt, in an order that does not hang on pids as far as possible."""
    nets, found = {h.netns: h for h in bed.hosts}, []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        now, role = stat(pid), role_of(pid)
        if now is None or now[0] in "ZX" or role is None:
            continue
        try:
            host = nets.get(os.stat(f"/proc/{pid}/ns/net").st_ino)
        except OSError:
            continue
        job = None
        if role == "shim":
            words = text(pid, "cmdline").split(b"\0")
            job = int(words[1]) if len(words) > 2 and words[1].isdigit() else None
        elif role == "rank":
            job = int(environ(pid).get(b"NODEAGENT_JOB", b"0")) or None
        found.append(Proc(pid, now[1], role, host, job))
    return sorted(found, key=lambda p: (p.role, p.host.i if p.host else 0, p.job or 0, p.start, p.pid))


class Hold:
    """A process held by a descriptor: a signal reaches it or nobody."""

    def __init__(self, proc):
        self.proc, self.fd = proc, None
        try:
            fd = os.pidfd_open(proc.pid)
        except OSError:
            return
        now = stat(proc.pid)
        if now is None or now[1] != proc.start:
            os.close(fd)
            return
        self.fd = fd

    def send(self, sig):
        if self.fd is None:
            return False
        try:
            signal.pidfd_send_signal(self.fd, sig)
            return True
        except OSError:
            return False

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def of_jobs():
    """{pid: command} of whoever carries a job's cookie, shims included."""
    out = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        now = stat(pid)
        if now and now[0] not in "ZX" and b"NODEAGENT_COOKIE=" in text(pid, "environ"):
            out[pid] = text(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace")[:120]
    return out
