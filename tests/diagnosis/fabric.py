"""fabric.py - the bed of a simulated fabric: ibsim, real opensm, and an agent for each of its hosts

What a host's ports are is taken from ibsim (a folder like sysfs's, a snapshot) and put where the host's probe looks.
Each run can be recorded: without ibsim the same class is run from what was shown then (recordings/CLASS.json).
"""
import json
import os
import shutil
import sys
import time

from bed import HERE, TOP, Bed, Sys, bed_kind

sys.path.insert(0, os.path.join(TOP, "tests/testbeds"))
_argv, sys.argv = sys.argv, sys.argv[:1]  # it takes a build from there
import ibsim  # noqa: E402
sys.argv = _argv

NET = """Switch 8 "Sw1"
[1] "a"[1]
[2] "b"[1]
[3] "c"[1]
[4] "d"[1]

Hca 1 "a"
[1] "Sw1"[1]

Hca 1 "b"
[1] "Sw1"[2]

Hca 1 "c"
[1] "Sw1"[3]

Hca 1 "d"
[1] "Sw1"[4]
"""
RECORDINGS = os.path.join(HERE, "recordings")
OPENSM_CONF = "sminfo_polling_timeout 500\npolling_retry_number 2\n"


def files(root):
    """{path: text} of a tree."""
    found = {}
    for folder, _, names in os.walk(root):
        for n in names:
            path = os.path.join(folder, n)
            with open(path, encoding="latin1") as f:
                found[os.path.relpath(path, root)] = f.read()
    return found


@bed_kind("ibsim", real=True)
class Ibsim(Bed):
    """Hosts a, b and c with a port each on one switch. Host d is for subnet managers of nobody's node (a switch's)."""

    nodes = ("a", "b", "c")

    @classmethod
    def missing(cls):
        path = os.environ["PATH"] + ":/usr/sbin"
        tools = [t for t in ("ibsim", "opensm") if not shutil.which(t, path=path)]
        if tools or not ibsim.PRELOAD:
            return f"{', '.join(tools) or 'libumad2sim'} not installed: make deps-testbeds"
        return Bed.missing()

    def prepare(self):
        os.environ["PATH"] = os.environ["PATH"].replace(":/usr/sbin", "") + ":/usr/sbin"
        self.fabric = ibsim.Fabric(self.site.dir, NET)
        self.views = {n: ibsim.View(self.site.dir) for n in self.nodes}
        for v in self.views.values():
            os.chmod(v.dir, 0o755)
        os.chmod(self.site.dir, 0o755)
        self.shown, self.n_sm = [], 0
        self.sm = {}
        self.opensm("a")
        self.settle("Active")
        self.show()

    def begin(self, fault):
        """A class begins with its bed as it is: that is the first thing recorded."""
        self.fault, self.shown = fault, []
        self.show()

    def agent_conf(self, node):
        return f"[agent]\nsysfs_root = {self.views[node].root}\nkmsg = {self.site.path('kmsg')}\n"

    def is_read(self):
        return all(self.port(n, "ibsim0").get("state") == "Active" for n in self.nodes)

    # what classes do

    def show(self):
        """What each host has now is what its probe reads from now on."""
        now = {}
        for n, v in self.views.items():
            self.fabric.snapshot(n, v.next())
            if self.sm_units:
                self.put_units(n, v.next())
            v.turn()
            now[n] = files(os.path.join(v.dir, f"s{v.n}"))
        self.shown.append(now)

    sm_units = False

    def put_units(self, node, root):
        """The host of the node's own manager has it as a service of systemd's."""
        if node != "a":
            return
        tree = Sys(root)
        p = self.sm.get("a")
        tree.unit("opensm", running=p is not None and p.poll() is None)

    def console(self, line):
        self.fabric.console(line)
        self.show()

    def relink(self, host):
        self.fabric.console(f'Unlink "{host}"[1]')
        self.fabric.console(f'ReLink "{host}"[1]')
        self.show()

    def opensm(self, host, priority=5):
        conf = self.site.path(f"opensm-{host}.conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write(OPENSM_CONF)
        self.n_sm += 1
        p = self.fabric.popen_opensm(host, conf, priority, self.n_sm)
        self.sm[host] = p

    def end_opensm(self, host):
        self.fabric.end(self.sm.pop(host))

    def show_until_other_sm(self, old):
        """Shows the fabric again and again until all ports have another subnet manager than before."""
        def lids():
            return {self.fabric.ibstat(n)[1]["SM lid"] for n in self.nodes}
        end = time.monotonic() + 30
        while len(now := lids()) > 1 or now == {str(old)}:
            assert time.monotonic() < end, f"SM LIDs are {now}, and were {old}"
            time.sleep(0.2)
        self.show()

    def settle(self, state, hosts=None, seconds=20):
        ibsim.settled(self.fabric, hosts or self.nodes, state, seconds)

    def lid_of(self, host):
        return int(self.fabric.ibstat(host)[1]["Base lid"])

    def keep(self):
        """Writes what was shown."""
        os.makedirs(RECORDINGS, exist_ok=True)
        texts = sorted({t for s in self.shown for h in s.values() for t in h.values()})
        with open(os.path.join(RECORDINGS, f"{self.fault.id}.json"), "w", encoding="utf-8") as f:
            json.dump({"texts": texts, "shown": [{h: {p: texts.index(t) for p, t in x.items()} for h, x in s.items()}
                                                 for s in self.shown]}, f, separators=(",", ":"), sort_keys=True)
            f.write("\n")

    def tidy(self):
        if hasattr(self, "fabric"):
            self.fabric.finish()


@bed_kind("ibsim-recorded", real=False)
class Recorded(Ibsim):
    """The same from a recording."""

    @classmethod
    def missing(cls):
        return Bed.missing()

    def __init__(self, fault):
        self.fault = fault
        with open(os.path.join(RECORDINGS, f"{fault.id}.json"), encoding="utf-8") as f:
            kept = json.load(f)
        self.left = [{h: {p: kept["texts"][t] for p, t in x.items()} for h, x in s.items()} for s in kept["shown"]]
        super().__init__()

    def prepare(self):
        self.views = {n: ibsim.View(self.site.dir) for n in self.nodes}
        for v in self.views.values():
            os.chmod(v.dir, 0o755)
        self.shown, self.sm = [], {}
        self.show()

    def begin(self, fault):
        pass  # the first was shown when the bed was made

    def show(self):
        now = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        for n, v in self.views.items():
            for path, text in now[n].items():
                full = os.path.join(v.next(), path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="latin1") as f:
                    f.write(text)
            v.turn()

    def console(self, line):
        self.show()

    def relink(self, host):
        self.show()

    def opensm(self, host, priority=5):
        self.sm[host] = None

    def end_opensm(self, host):
        self.sm.pop(host, None)

    def show_until_other_sm(self, old):
        self.show()

    def settle(self, state, hosts=None, seconds=20):
        pass

    def tidy(self):
        pass
