"""fusefs.py DIR [--mute|--slow] - a small FUSE file system on DIR, with a file "data": hangs when this process is stopped

--mute: it never answers, so who touches it sleeps uninterruptibly (state D), as with a dead NFS server.
--slow: what is read comes after 8 s; all else is answered at once, as by a busy server.
"""
import ctypes
import os
import struct
import sys
import threading
import time

path = sys.argv[1]
fd = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
opts = f"fd={fd},rootmode=40755,user_id={os.getuid()},group_id={os.getgid()},allow_other".encode()
if libc.mount(b"na", path.encode(), b"fuse.nafs", 6, opts):
    sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
print("ready", flush=True)
if "--mute" in sys.argv:
    time.sleep(3600)


def attr(ino):
    mode, size = (0o40755, 0) if ino == 1 else (0o100644, 8)
    return struct.pack("<QQQQQQIIIIIIIIII", ino, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


while True:
    try:
        b = os.read(fd, 1 << 17)
    except OSError:
        break
    n, op, unique, node = struct.unpack("<IIQQ", b[:24])

    def reply(data=b"", err=0, unique=unique):
        os.write(fd, struct.pack("<IiQ", 16 + len(data), -err, unique) + data)
    if op == 26:  # INIT
        reply(struct.pack("<IIIIHHIIHHI", 7, 31, 65536, 0, 12, 10, 65536, 1, 0, 0, 0) + bytes(24))
    elif op == 17:  # STATFS
        reply(struct.pack("<QQQQQIIII", 1000000, 900000, 900000, 1000, 900, 4096, 255, 4096, 0) + bytes(24))
    elif op == 3:  # GETATTR
        reply(struct.pack("<QII", 0, 0, 0) + attr(node))
    elif op == 1 and b[40:].split(b"\0")[0] == b"data":  # LOOKUP
        reply(struct.pack("<QQQQII", 2, 1, 0, 0, 0, 0) + attr(2))
    elif op == 1:
        reply(err=2)
    elif op in (14, 27):  # OPEN, OPENDIR
        reply(struct.pack("<QII", 1, 1, 0))
    elif op == 15:  # READ
        line = b"a line.\n" if struct.unpack("<QQI", b[40:60])[1] == 0 else b""
        threading.Timer(8 if "--slow" in sys.argv else 0, reply, (line,), {"unique": unique}).start()
    elif op in (16, 18, 25, 29):
        reply()
    elif op not in (2, 42):  # FORGET has no answer
        reply(err=38)
