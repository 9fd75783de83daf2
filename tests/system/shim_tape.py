#!/usr/bin/python3
"""shim_tape.py - conversations of agents and shims on tape: recorded once, played to newer ones for ever

    shim_tape.py record TAPE SHIM JOB ATTEMPT NPROCS    stands between an agent and its shim, and writes down what they say
    shim_tape.py play TAPE JOB ATTEMPT NPROCS           is that shim

A tape has a line for each frame, in the order of arrival here:

    > {...}                      JSON, from the agent to the shim, as it was on the wire
    < {...}                      from the shim to the agent
    > data RANK FD FLAGS OFFSET HEX
    = 0.out HEX                  a file that the shim has left in its spool

What an agent chooses anew each time (job, attempt, pid, times) is put in when a shim is played. Tapes of released
versions are never changed; a new version of the protocol gets tapes of its own (tests/system/golden/shim-N).
"""
import json
import os
import select
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import wire  # noqa: E402

SPOOL_FD, LISTEN_FD = 7, 4


def frames(buf):
    """Whole frames at the begin of a buffer, and the rest."""
    out = []
    while len(buf) >= 5:
        n = int.from_bytes(buf[:4], "big")
        if len(buf) < 5 + n:
            break
        out.append((buf[4], buf[5:5 + n]))
        buf = buf[5 + n:]
    return out, buf


def text_of(kind, body):
    if kind == wire.JSON:
        return body.decode()
    _, _, rank, fd, flags, offset, data = wire.Link._data(body)
    return f"data {rank} {fd} {flags} {offset} {data.hex()}"


def record(tape, shim, args):
    """The agent's listening socket is ours; the shim gets another one."""
    path = tape + ".sock"
    inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    inner.bind(path)
    inner.listen(4)
    outer = socket.socket(fileno=os.dup(LISTEN_FD))
    outer.setblocking(True)
    if os.fork() == 0:
        os.dup2(inner.fileno(), LISTEN_FD)
        os.execv(shim, ["nodeagent-shim", *args])
    inner.close()
    agent, _ = outer.accept()
    real = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    real.connect(path)
    sides = {agent: (real, ">", b""), real: (agent, "<", b"")}
    with open(tape, "w", encoding="utf-8", buffering=1) as f:
        while sides:
            for s in select.select(list(sides), [], [])[0]:
                other, mark, buf = sides[s]
                more = s.recv(65536)
                if not more:
                    other.shutdown(socket.SHUT_WR)
                    del sides[s]
                    continue
                whole, rest = frames(buf + more)
                sides[s] = (other, mark, rest)
                for kind, body in whole:
                    f.write(f"{mark} {text_of(kind, body)}\n")
                other.sendall(more)
        for name in sorted(os.listdir(SPOOL_FD)):
            if name.endswith((".out", ".err")):
                with open(name, "rb", opener=lambda p, fl: os.open(p, fl, dir_fd=SPOOL_FD)) as spool:
                    f.write(f"= {name} {spool.read().hex()}\n")
    os.unlink(path)
    os.wait()


class Tape:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.lines = [line.rstrip("\n").split(" ", 1) for line in f if not line.startswith("#")]
        self.files = {w.split(" ")[0]: bytes.fromhex(w.split(" ")[1]) for mark, w in self.lines if mark == "="}
        self.talk = [(mark, w) for mark, w in self.lines if mark in "<>"]


def anew(text, **fields):
    """The recorded message, byte for byte but for what its sender chooses anew."""
    m = json.loads(text)
    for key, value in fields.items():
        if key in m:
            text = text.replace(f'"{key}":{json.dumps(m[key])}', f'"{key}":{json.dumps(value)}', 1)
    return text


def start_time():
    with open("/proc/self/stat", encoding="latin1") as f:
        return f.read().rsplit(")", 1)[1].split()[19]


def play(tape, job, attempt):
    tape = Tape(tape)
    listener = socket.socket(fileno=LISTEN_FD)
    listener.setblocking(True)
    link = wire.Link(listener.accept()[0])
    own = {"job": job, "attempt": int(attempt), "pid": os.getpid(), "start_time": start_time()}
    armed = False
    for mark, text in tape.talk:
        t = text.split(" ")[0] if text.startswith("data") else json.loads(text)["t"]
        if mark == ">" and t != "shim_arm":
            while True:  # an agent may ask for other things meanwhile, or say a thing twice
                m = link.recv(60)
                kind = m["t"] if isinstance(m, dict) else "data"
                armed = armed or kind == "shim_arm"
                if kind == t:
                    break
            if t == "shim_bye":
                return  # what was said behind it nobody heard
            if t == "shim_go":
                for name, data in tape.files.items():
                    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640, dir_fd=SPOOL_FD)
                    os.write(fd, data)
                    os.close(fd)
        elif mark == "<" and (t != "shim_grown" or armed):
            armed = armed and t != "shim_grown"
            link.send_raw(wire.frame(wire.JSON, anew(text, **(own if t in ("shim_hello", "ranks") else {})).encode()))


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        play(sys.argv[2], sys.argv[3], sys.argv[4])
