"""client.py - a client that submits until it is told a number: the same client id however often, through any host

    client.py ACKS CLIENT_ID REQUEST(JSON) SPEC(HEX) SOCKET...

Whoever kills it starts it again with the same id. What was acknowledged is appended to the file ACKS.
"""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "system"))
import wire  # noqa: E402

PATIENCE_S = 150
acks, client_id, request, spec, sockets = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), bytes.fromhex(sys.argv[4]), sys.argv[5:]


def say(text):
    fd = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    os.write(fd, f"{client_id} {text}\n".encode())
    os.close(fd)


def once(path):
    """The answer, or None: ask again."""
    link = wire.Link.connect(path)
    try:
        link.send("hello", proto=1000, software="bed", role="client")
        if link.recv(10)["t"] != "welcome":
            return None
        link.send_raw(wire.data(0, 0, 3, spec, wire.EOF))
        link.send("submit", rid=1, client_id=client_id, name=client_id, spec_size=len(spec), **request)
        while True:
            m = link.recv(40)
            if isinstance(m, dict) and m.get("rid") == 1:
                return m
    finally:
        link.close()


end, n = time.monotonic() + PATIENCE_S, 0
while time.monotonic() < end:
    try:
        m = once(sockets[n // 2 % len(sockets)])
    except (OSError, wire.Gone, TimeoutError, ValueError):
        m = None
    if m and m["t"] == "submitted":
        say(f"job {m['job']}")
        sys.exit(0)
    if m and m["t"] == "refused" and m.get("code") in ("bad-request", "denied", "too-large", "version"):
        say(f"refused {m.get('code')} {m.get('text')}")
        sys.exit(1)
    n += 1
    time.sleep(0.3)
say("gave-up")
sys.exit(2)
