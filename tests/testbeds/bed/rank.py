"""rank.py - one rank of a job under violence: leaves a mark that can be left only once, counts, ends as told

    rank.py KIND LINES PAUSE_MS CODE FOLDER

count, burst and litter write LINES lines and exit with CODE; of code and deaf the last rank does, the others count on
until they are ended, and deaf ones do not hear SIGTERM; long ones are ended by a client. litter leaves processes behind.
again is a job with restarts: its first attempt fails as code does, later ones do all their work.

FOLDER/marks/JOB.ATTEMPT.RANK is made with O_EXCL: whoever finds it there has been started twice. Each line goes to
standard output first and into the mark afterwards, so what the mark has must be in the job's output.
"""
import os
import signal
import sys
import time

kind, lines, pause, code, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) / 1000, int(sys.argv[4]), sys.argv[5]
if kind == "again":
    kind, code = ("count", 0) if os.environ["NODEAGENT_ATTEMPT"] != "1" else ("code", code)
if kind in ("code", "deaf") and int(os.environ["RANK"]) != int(os.environ["WORLD_SIZE"]) - 1:
    lines, code = 100000, 0
key = ".".join(os.environ[n] for n in ("NODEAGENT_JOB", "NODEAGENT_ATTEMPT", "RANK"))


def mark(path, flags):
    return os.open(f"{folder}/{path}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | flags, 0o666)


def note(text):
    os.write(fd, f"{text} {time.clock_gettime(time.CLOCK_BOOTTIME):.3f}\n".encode())


try:
    fd = mark(f"marks/{key}", os.O_EXCL)
except FileExistsError:
    os.write(mark(f"twice/{key}", 0), b"x\n")
    sys.exit(99)
note(f"start {os.getpid()}")
if kind == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if kind == "litter":
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                null = os.open("/dev/null", os.O_RDWR)
                for i in range(3):
                    os.dup2(null, i)
                time.sleep(600)
            os._exit(0)
for i in range(lines):
    os.write(1, f"{key} line {i}\n".encode())
    note(i)
    if i % 5 == 0:
        os.write(2, f"{key} err {i}\n".encode())
    time.sleep(pause)
note("end")
os._exit(code)
