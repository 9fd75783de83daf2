#!/usr/bin/python3
"""run.py [--list] [--only ID,ID...] [--short] [--jobs N] [--markdown] [--record|--replay] - `make diagnosis`

Injects classes of faults one by one into test beds and looks what a user is told (bed.py). One line for each, the
last line counts them; exit code 1 when any failed. --markdown writes the table of docs/diagnosis.md, --record the
recordings of beds that can be recorded, and --replay uses them though the beds are there. Leaves nothing running.
"""
import argparse
import os
import re
import signal
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import bed as frame  # noqa: E402
from bed import BEDS, FAULTS, Outcome  # noqa: E402

for name in sorted(os.listdir(os.path.dirname(os.path.abspath(__file__)))):
    if name.startswith("class_") and name.endswith(".py"):
        __import__(name[:-3])

DOC = os.path.join(frame.TOP, "docs/diagnosis.md")
BEGIN, END = "<!-- table: make diagnosis -->", "<!-- end of table -->"


class Runner:
    def __init__(self, faults, jobs, record=False, replay=False):
        self.record, self.replay = record, replay
        self.todo = list(faults)
        self.jobs, self.outcomes = jobs, []
        self.lock = threading.Lock()
        self.stopping = False

    def next(self, kind):
        """A class of the kind of bed that is at hand, else any."""
        with self.lock:
            if self.stopping or not self.todo:
                return None
            f = next((f for f in self.todo if f.bed == kind), None)
            if f is None and kind is None:
                f = self.todo[0]
            if f is not None:
                self.todo.remove(f)
            return f

    def tell(self, out):
        with self.lock:
            self.outcomes.append(out)
            print(out.line(), flush=True)

    def one(self, f, bed):
        """Runs a class; the bed, None when it is of no more use."""
        kind = BEDS[f.bed]
        try:
            why = kind.missing()
            if why and f.recorded:
                kind, f.inject = BEDS[f.recorded[0]], f.recorded[1]
                why = kind.missing()
            elif (why or self.replay) and f.bed + "-recorded" in BEDS:  # the same class over what was shown then
                kind = BEDS[f.bed + "-recorded"]
                why = kind.missing()
            if why:
                raise AssertionError(f"{f.bed}: {why}")
            bed = bed or (kind(f) if kind.name.endswith("-recorded") else kind())
            bed.begin(f)
            out = frame.run_class(f, bed)
            if self.record and out.passed and hasattr(bed, "keep"):
                bed.keep()
        except Exception as e:
            out = Outcome(f, kind.real)
            out.problems.append("".join(traceback.format_exception_only(type(e), e)).strip()[:2500])
            if os.environ.get("DIAGNOSIS_TRACE"):
                traceback.print_exc()
            if bed:
                bed.well = False
        if bed and not bed.well:
            self.end(bed, out)
            bed = None
        self.tell(out)
        return bed

    def end(self, bed, out=None):
        try:
            if os.environ.get("DIAGNOSIS_TRACE") and out and not out.passed:
                print(bed.site.logs(), flush=True)
            left = bed.finish()
        except Exception as e:
            left = repr(e)
        if left:
            (out.problems if out else self.left).append(f"left behind: {left}")

    def worker(self):
        bed, kind = None, None
        while True:
            f = self.next(kind)
            if f is None and kind:
                if bed:
                    self.end(bed)
                bed, f = None, self.next(None)
            if f is None:
                break
            if f.bed != kind:
                bed = None
            kind = f.bed
            bed = self.one(f, bed)

    def go(self):
        self.left = []
        threads = [threading.Thread(target=self.worker) for _ in range(self.jobs)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return self.left


def table(outcomes, before):
    """Rows of classes that were run now, and those of before of the others that there are still."""
    head = ["| class | what is injected | bed | expected | seen after | others |", "|---|---|---|---|---:|---|"]
    rows = {m.group(1): line for line in before.splitlines() if (m := re.match(r"\| `([^`]+)` \|", line))}
    for o in outcomes:
        f = o.fault
        took = "FAILED" if not o.passed else f"{o.seconds:.2f} s" if o.seconds is not None else f"silent {f.quiet:g} s"
        rows[f.id] = (f"| `{f.id}` | {f.title} | {'real: ' if o.real else 'recorded: '}{f.bed} | {f.row()} | {took} | "
                      f"{', '.join(o.others) or 'none'} |")
    return "\n".join(head + [rows[f.id] for f in FAULTS if f.id in rows])


def write_doc(outcomes):
    with open(DOC, encoding="utf-8") as f:
        text = f.read()
    head, rest = text.split(BEGIN)
    with open(DOC, "w", encoding="utf-8") as f:
        f.write(head + BEGIN + "\n" + table(outcomes, rest.split(END)[0]) + "\n" + END + rest.split(END)[1])


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--list", action="store_true", help="the classes: id, bed, what is expected, what is injected")
    p.add_argument("--beds", action="store_true", help="the beds that the classes need, for `make`")
    p.add_argument("--only", default="", metavar="ID,...", help="these, or all that begin so: ib-flap,gpu-")
    p.add_argument("--short", action="store_true", help="a few of each kind, as make check runs them")
    p.add_argument("--jobs", type=int, default=3, metavar="N", help="so many at a time (3)")
    p.add_argument("--markdown", action="store_true", help="write the table of docs/diagnosis.md anew")
    p.add_argument("--record", action="store_true", help="keep what ibsim shows, for hosts without it")
    p.add_argument("--replay", action="store_true", help="take what was kept in place of ibsim")
    args = p.parse_args()
    wanted = [w for w in args.only.split(",") if w]
    unknown = [w for w in wanted if not any(f.id == w or (w.endswith("-") and f.id.startswith(w)) for f in FAULTS)]
    if unknown:
        sys.exit(f"run.py: no class {', '.join(unknown)}; --list shows them")
    chosen = [f for f in FAULTS if (not args.short or f.short) and
              (not wanted or any(f.id == w or (w.endswith("-") and f.id.startswith(w)) for w in wanted))]
    if args.beds:
        print(*sorted({f.bed for f in chosen}))
        return 0
    if args.list:
        for f in chosen:
            print(f"{f.id:<30} {f.bed:<8} {f.row():<45} {f.title}")
        return 0
    begin = time.monotonic()
    crowd = Runner([f for f in chosen if not f.alone], args.jobs, args.record, args.replay)
    lone = Runner([f for f in chosen if f.alone], 1, args.record, args.replay)

    def stop(signum, _):
        crowd.stopping = lone.stopping = True
        print("run.py: stopping", flush=True)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    left = crowd.go() + lone.go()
    outcomes = crowd.outcomes + lone.outcomes
    for x in left:
        print(f"left behind: {x}")
    if args.markdown and not crowd.stopping:
        write_doc(outcomes)
    failed = sum(not o.passed for o in outcomes) + len(left) + (len(chosen) - len(outcomes))
    recorded = sum(not o.real for o in outcomes)
    print(f"\nin {time.monotonic() - begin:.0f} s, {recorded} of {len(outcomes)} from recorded readings")
    print(f"{sum(o.passed for o in outcomes)} passed, {failed} failed", flush=True)
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
