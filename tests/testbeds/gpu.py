#!/usr/bin/python3
"""gpu.py PROBE [SECONDS] - on a host with NVIDIA GPUs: what nodeagent-probe says is what nvidia-smi says

Compares identities, order, limits, modes and topology, starts a process on a GPU (when
the interpreter named by $PYTHON has PyTorch) and looks for it, and prints what
the probe costs with the real library. Exit code 1 at the first difference.
"""
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../system"))
from probe import Probe, cpu_ns, source, threads_ns  # noqa: E402

# takes a context and 1 GB, says so, and waits
WORK = ("import torch, sys\nx = torch.ones(1 << 28, device='cuda:%d')\nprint('ready', flush=True)\nsys.stdin.read()\n")


def smi(*fields):
    """Rows of nvidia-smi, in the order of PCI addresses."""
    out = subprocess.run(["nvidia-smi", f"--query-gpu=pci.bus_id,{','.join(fields)}", "--format=csv,noheader,nounits"],
                         capture_output=True, text=True, check=True).stdout
    rows = [[c.strip() for c in line.split(",")] for line in out.splitlines()]
    return sorted(rows, key=lambda r: r[0])


def short(pci):
    """00000000:17:00.0 as the kernel writes it"""
    domain, rest = pci.lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"


def say(what):
    print(f"ok    {what}", flush=True)


def identities(m):
    rows = smi("uuid", "name", "memory.total", "enforced.power.limit", "driver_version", "ecc.errors.uncorrected.volatile.total",
               "temperature.gpu")
    assert len(rows) == len(m["gpus"]), (rows, m["gpus"])
    for i, (r, g) in enumerate(zip(rows, m["gpus"])):
        assert g["index"] == i
        assert (short(r[0]), r[1], r[2]) == (g["pci"], g["uuid"], g["name"]), (r, g)
        assert abs(int(r[3]) - int(g["mem_total"]) / (1 << 20)) < 1024, (r, g)
        assert round(float(r[4]) * 1000) == g["power_limit_mw"], (r, g)
        assert source(m, "nvml")["text"].startswith(f"driver {r[5]}"), (r, source(m, "nvml"))
        if r[6].isdigit():
            assert int(r[6]) == int(g["ecc_uncorrected"]), (r, g)
        assert abs(int(r[7]) - g["temp_c"]) < 15 and 0 < g["power_mw"] < 2000000 and g["util"] <= 100, (r, g)
        assert g.get("xids") == 0 and "text" not in g, g
    say(f"{len(rows)} GPUs as nvidia-smi says: {m['gpus'][0]['name']}, {source(m, 'nvml')['text']}")


def modes(m):
    """MIG, ECC, compute mode, and the NVLink fabric as nvidia-smi -q tells of it."""
    words = {"Default": 0, "Prohibited": 2, "Exclusive_Process": 3}
    for r, g in zip(smi("mig.mode.current", "ecc.mode.current", "compute_mode"), m["gpus"]):
        assert g.get("mig") == {"Enabled": True, "Disabled": False}.get(r[1]), (r, g)
        assert g.get("ecc_on") == {"Enabled": True, "Disabled": False}.get(r[2]), (r, g)
        assert g.get("compute_mode") == words[r[3]], (r, g)
    text = subprocess.run(["nvidia-smi", "-q"], capture_output=True, text=True, check=True).stdout
    told = re.findall(r"^    Fabric\n\s+State\s+: (.*)\n\s+Status\s+: (.*)$", text, re.M)
    states = {"N/A": None, "Not Started": 1, "In Progress": 2, "Completed": 3}
    for (state, status), g in zip(told, m["gpus"]):
        assert g.get("fabric") == states[state], (state, status, g)
        if status == "Success":
            assert g["fabric_status"] == 0, (state, status, g)
    say(f"modes: nvidia-smi's fabric {told}, ours "
        f"{[{k: g.get(k) for k in ('mig', 'ecc_on', 'compute_mode', 'fabric', 'fabric_status')} for g in m['gpus']]}")


def topology(m):
    text = subprocess.run(["nvidia-smi", "topo", "-m"], capture_output=True, text=True, check=True).stdout
    print(text)
    table = {frozenset((a["a"], a["b"])): a["how"] for a in m.get("topology", [])}
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    names = re.findall(r"GPU\d+", text.splitlines()[0])
    for line in text.splitlines()[1:]:
        cells = line.split()
        if not cells or not re.fullmatch(r"GPU\d+", cells[0]):
            continue
        for name, how in zip(names, cells[1:]):
            if name != cells[0] and not how.startswith("NV"):  # NVLink hides the way over PCI
                got = table[frozenset((name.lower(), cells[0].lower()))]
                assert got == how, (name, cells[0], how, got)
    say(f"topology: {m.get('topology', [])[:4]}, NUMA {m.get('numa', [])[:2]}")


def processes(p, gpu):
    w = subprocess.Popen([os.environ.get("PYTHON") or sys.executable, "-c", WORK % gpu], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                         env=dict(os.environ, CUDA_DEVICE_ORDER="PCI_BUS_ID"))
    try:
        if w.stdout.readline() != "ready\n":
            print("skip  processes: no PyTorch here")
            return
        begin = time.monotonic()
        row, took = p.until(lambda m: m["gpus"][gpu].get("procs"), 4, "a process")
        print(row, f"{time.monotonic() - begin:.2f} s after it was ready")
        if w.pid in [r["pid"] for r in row]:
            row = next(r for r in row if r["pid"] == w.pid)
            assert row["uid"] == os.geteuid() and row["name"].startswith("python"), row
            say(f"process: {row}")
        else:
            say("process: of another pid namespace, its pid is the host's")
        assert int(p.last["gpus"][gpu]["mem_used"]) > 1 << 30
        w.stdin.close()
        w.wait()
        p.until(lambda m: not m["gpus"][gpu].get("procs"), 4, "it has ended")
        say("and it is gone again")
    finally:
        if w.poll() is None:
            w.kill()
            w.wait()


def cost(p, seconds):
    apps = subprocess.run(["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"], capture_output=True,
                          text=True, check=True).stdout.split()
    assert str(p.p.pid) not in apps
    threads, before, begin, frames = threads_ns(p.p.pid), cpu_ns(p.p.pid), time.monotonic(), 0
    while (left := begin + seconds - time.monotonic()) > 0:
        frames += p.next(left) is not None
    percent = (cpu_ns(p.p.pid) - before) / 1e9 / seconds * 100
    print(f"cost: {percent:.2f} % of a core with {len(p.last['gpus'])} GPUs, {p.memory_kb()} kB resident, {frames} frames in "
          f"{seconds} s; no compute context of its own")
    each = {k: (v - threads.get(k, 0)) / 1e7 / seconds for k, v in threads_ns(p.p.pid).items()}
    print("cost: " + ", ".join(f"{k} {v:.3f} %" for k, v in sorted(each.items(), key=lambda x: -x[1]) if v >= 0.001))


def main():
    p = Probe(sys.argv[1])
    begin = time.monotonic()
    m = p.next(20)
    print(f"first frame after {time.monotonic() - begin:.2f} s")
    m, _ = p.until(lambda m: source(m, "nvml")["ok"] and m, 20, "the driver") if not source(m, "nvml")["ok"] else (m, 0)
    for s in m["sources"]:
        print("source", s)
    identities(m)
    modes(m)
    topology(m)
    processes(p, len(m["gpus"]) - 1)
    cost(p, float(sys.argv[2]) if len(sys.argv) > 2 else 30)
    assert p.finish() == 0
    say("ended with its reader")


if __name__ == "__main__":
    main()
