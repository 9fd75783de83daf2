"""The wire of nodeagent for tests: frames, messages, data headers, specifications.

Written from proto/PROTOCOL.md, on its own: it shares no code with the programs,
so both sides cannot be wrong in the same way.
"""
import json
import socket
import struct
import time

JSON, DATA = 1, 2
EOF, LOST, GIVEN = 1, 2, 4


def frame(kind, payload):
    return struct.pack(">IB", len(payload), kind) + payload


def message(t, **fields):
    """A JSON frame; wide() gives the fields that travel as decimal strings."""
    return frame(JSON, json.dumps({"t": t, **fields}).encode())


def wide(n):
    return str(n)


def data(sid, rank, fd, payload=b"", flags=0, offset=0):
    head = struct.pack(">IIBBHQI", sid, rank, fd, flags, 0, offset, 0)
    return frame(DATA, head + payload)


def spec(cwd, argv, env):
    """The specification: cwd, argv and 'NAME=value' strings, as bytes."""
    def enc(s):
        return s if isinstance(s, bytes) else s.encode()

    if isinstance(env, dict):
        env = [enc(k) + b"=" + enc(v) for k, v in env.items()]
    blob = b"NASPEC1\n" + struct.pack(">II", len(argv), len(env))
    return blob + b"".join(enc(s) + b"\0" for s in [cwd, *argv, *env])


class Gone(Exception):
    """The other side has closed the connection."""


class Link:
    """One framed connection. Messages come as dicts, DATA frames as ("data", ...) tuples."""

    def __init__(self, sock):
        self.sock = sock
        self.buf = b""

    @classmethod
    def connect(cls, path):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.connect(path)
        return cls(s)

    def send(self, t, **fields):
        self.sock.sendall(message(t, **fields))

    def send_raw(self, raw):
        self.sock.sendall(raw)

    def recv(self, timeout=10.0):
        """The next frame; TimeoutError when there is none in time."""
        end = time.monotonic() + timeout
        while True:
            if len(self.buf) >= 5:
                n, kind = struct.unpack(">IB", self.buf[:5])
                if len(self.buf) >= 5 + n:
                    body, self.buf = self.buf[5:5 + n], self.buf[5 + n:]
                    return json.loads(body) if kind == JSON else self._data(body)
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("no frame in time")
            self.sock.settimeout(left)
            try:
                more = self.sock.recv(1 << 20)
            except (ConnectionResetError, BrokenPipeError):
                raise Gone from None
            if not more:
                raise Gone
            self.buf += more

    @staticmethod
    def _data(body):
        sid, rank, fd, flags, _, offset, _ = struct.unpack(">IIBBHQI", body[:24])
        return ("data", sid, rank, fd, flags, offset, body[24:])

    def expect(self, t, timeout=10.0):
        """The next message of type t; others before it are dropped."""
        end = time.monotonic() + timeout
        while True:
            m = self.recv(max(0.0, end - time.monotonic()))
            if isinstance(m, dict) and m["t"] == t:
                return m

    def close(self):
        self.sock.close()
