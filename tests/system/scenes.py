"""scenes.py - clusters to look at: what a coordinator would say of them, for the fake agent

    agent.status = scenes.mixed()

All times are those of NOW, so that a screen is the same on every day. Fields
that only a detailed answer has (gpu_list and the like) are there; the fake
agent leaves them out unless it is asked for them.
"""
NOW = 1_700_000_000_000  # wall clock of the coordinator, ms
GIB = 1 << 30
DRIVER = "driver 550.54.15"


def proc(pid, user, name, gib, **more):
    return {"pid": pid, "uid": 1000, "user": user, "name": name, "mem": str(int(gib * GIB)), **more}


def gpu(i, job=None, **more):
    g = {"index": i, "uuid": f"GPU-0000000{i}", "name": "NVIDIA A800-SXM4-80GB", "pci": f"0000:{23 + i * 16:02x}:00.0",
         "numa": i // 4, "mem_total": str(85899345920), "mem_used": str(int(0.5 * GIB)), "temp_c": 31 + i, "power_mw": 61_400,
         "power_limit_mw": 400_000, "util": 0, "ecc_corrected": "0", "ecc_uncorrected": "0", "xids": 0}
    if job:
        g.update(job=str(job), mem_used=str(int(71.3 * GIB)), util=98, power_mw=371_000, temp_c=58 + i,
                 procs=[proc(40110 + i, "li", "python", 71, job=str(job))])
    g.update(more)
    return g


def port(i, **more):
    p = {"device": f"mlx5_{i}", "port": 1, "state": "Active", "phys_state": "LinkUp", "rate_mbps": 200_000, "lanes": 4, "speed": "HDR",
         "lid": 11 + i, "sm_lid": 1, "link_layer": "InfiniBand", "gid": "fe80::1", "gids": 1, "fw": "20.38.1002", "board": "MT_0000000223",
         "pci": f"0000:{24 + i * 16:02x}:00.0", "netdev": f"ibs{i}", "numa": i // 4, "mtu": 4096}
    p.update(more)
    return p


def topology():
    """8 GPUs and 8 NICs: a pair shares a switch, four pairs a socket."""
    def how(a, b):
        return "PIX" if a == b else "NODE" if a // 4 == b // 4 else "SYS"

    gg = [{"a": f"gpu{a}", "b": f"gpu{b}", "how": how(a, b)} for a in range(8) for b in range(a + 1, 8)]
    gn = [{"a": f"gpu{a}", "b": f"mlx5_{b}", "how": how(a, b)} for a in range(8) for b in range(8)]
    return gg + gn


def node(name, skew_us=400, job=None, state="ok", **more):
    """A host with 8 GPUs and 8 ports, all well."""
    n = {"name": name, "state": state, "age_ms": "400", "cpus": 256, "software": "0.1.0", "address": "192.168.20.14",
         "boot_id": "0b7cb2b9-3d11-4cb3-9bb8-3f9b3d0bd1d1", "job_ids": [str(job)] if job else [], "jobs": 1 if job else 0,
         "gpus": 8, "gpus_busy": 8 if job else 0, "ports": 8, "ports_active": 8, "clock_synced": True,
         "gpu_list": [gpu(i, job) for i in range(8)], "port_list": [port(i) for i in range(8)],
         "host": [{"cpus": 256, "numa_nodes": 2, "mem_total": str(1008 * GIB), "mem_available": str(950 * GIB), "clock_synced": True,
                   "clock_error_us": "1200"}],
         "sources": [{"name": "nvml", "ok": True, "text": DRIVER, "age_ms": "2100"}, {"name": "verbs", "ok": True, "age_ms": "900"},
                     {"name": "hwloc", "ok": True, "age_ms": "3600000"}, {"name": "host", "ok": True, "age_ms": "900"}],
         "topology": topology(),
         "numa": [{"numa": 0, "cpus": "0-63,128-191", "mem": str(504 * GIB)}, {"numa": 1, "cpus": "64-127,192-255", "mem": str(504 * GIB)}]}
    if skew_us is None:
        n.update(skew_ref=True)
    else:
        n.update(skew_us=str(skew_us), skew_error_us="150")
    n.update(more)
    return n


def job(number, nodes, names, user="li", each=8, ago_s=11_400, **more):
    return {"job": str(number), "state": "running", "user": user, "uid": 1000, "nodes": nodes, "node_names": names, "nnodes": len(names),
            "world": len(names) * each, "running": len(names) * each, "procs_per_node": each, "gpus": [f"0-{each - 1}"] * len(names),
            "command": "llamafactory-cli train config/train_config.yaml", "start_wall_ms": str(NOW - ago_s * 1000),
            "submit_wall_ms": str(NOW - ago_s * 1000 - 3000), **more}


def cluster(nodes, jobs=(), **more):
    return {"cluster": "lab", "coordinator": "0.1.0", "wall_ms": str(NOW), "nodes": nodes, "jobs": list(jobs), **more}


def healthy():
    return cluster([node("gpu01", None, 17), node("gpu02", 412, 17), node("gpu03", 911), node("gpu04", -230)],
                   [job(17, "gpu[01-02]", ["gpu01", "gpu02"])])


# the coordinator's words, as of daemon/core/verdict.c; tests/unit/test_page.c shows them as they are
NO_SM = {"severity": "bad",
         "text": "Initializing: the cable is up, but no subnet manager has configured the port. Other ports stay Active without one, so it "
                 "may be down for all, or this port alone is left out",
         "fix": "see whether opensm runs where it should (systemctl status opensm, on a host or the switch); restart it, and enable it for "
                "the next boot", "since_wall_ms": str(NOW - 185_000)}


def attends(*attention):
    """The fields of a node whose worst attention is the first one; None: none."""
    return {"attention": list(attention), "brief": attention[0]["brief"], "brief_since_wall_ms": attention[0]["since_wall_ms"]}


def mixed():
    """What issue 3 wants to see: a port without a manager, a wrong clock, a stranger, a silent node, a GPU that is gone."""
    ill = node("gpu03", 911, state="degraded", ports_active=7,
               **attends(dict(NO_SM, subject="gpu03 mlx5_2", brief="mlx5_2 Initializing")))
    ill["port_list"][2] = port(2, state="Initializing", lid=0, sm_lid=0, since_wall_ms=str(NOW - 185_000))
    late = node("gpu04", -2_100_000, state="degraded", clock_synced=False, skew_bad=True, gpus_busy=1, **attends(
        {"severity": "bad", "subject": "gpu04", "brief": "clock 2.1 s off", "since_wall_ms": str(NOW - 7_300_000),
         "text": "its clock is behind by 2.1 s (+-0.1 ms), and nobody steers it: torchrun's heartbeats and the order of log lines go wrong",
         "fix": "run chrony or ntpd on every host; without internet let one host be the others' time server"},
        {"severity": "warn", "subject": "gpu04 GPU 5", "brief": "GPU 5 used by strangers", "since_wall_ms": str(NOW - 40_000),
         "text": "in use by python (pid 4711 of wang), which no job started; it is not given out",
         "fix": "end that process, or launch with --busy-gpus"}))
    late["gpu_list"][5] = gpu(5, procs=[proc(4711, "wang", "python", 30.2)], mem_used=str(31 * GIB), util=77)
    gone = node("gpu05", 300, state="degraded", gpus=7, **attends(
        {"severity": "bad", "subject": "gpu05 GPU 3", "brief": "GPU 3 lost", "since_wall_ms": str(NOW - 240_000),
         "text": "cannot be read: fell off the bus: the driver cannot reach it any more; reboot the node",
         "fix": "look at the kernel log (dmesg | grep -i nvrm); a GPU off the bus needs a reboot"}))
    gone["gpu_list"][3] = {"index": 3, "pci": "0000:47:00.0", "text": "fell off the bus", "xids": 1, "xid": 79,
                           "xid_wall_ms": str(NOW - 240_000)}
    silent = node("gpu06", 250, state="unreachable", age_ms="185000", note="silent; its jobs are left alone", job=18)
    return cluster([node("gpu01", None, 17), node("gpu02", 412, 17), ill, late, gone, silent],
                   [job(17, "gpu[01-02]", ["gpu01", "gpu02"]), job(18, "gpu06", ["gpu06"], user="wang", ago_s=400),
                    {"job": "19", "state": "queued", "user": "zhao", "nnodes": 4, "world": 4, "command": "./pretrain.sh", "gpus_per_node": 8,
                     "why": "waiting for 4 nodes with 8 free GPUs", "submit_wall_ms": str(NOW - 7_200_000)}])


def many(n, digits):
    """n nodes: one job on a quarter of them, a rack that is silent, some ports that no manager has configured."""
    nodes, held = [], []
    for i in range(1, n + 1):
        name = f"gpu{i:0{digits}}"
        if i == 1:
            one = node(name, None)
        elif i <= n // 4:
            one = node(name, (i * 37) % 900, 17)
            held.append(name)
        elif n // 2 <= i < n // 2 + n // 16:
            one = node(name, 100, state="unreachable", age_ms=str(185_000 + i * 10), note="silent; its jobs are left alone")
        elif i % (n // 4) == 3:
            one = node(name, 100, state="degraded", ports_active=7,
                       **attends(dict(NO_SM, subject=f"{name} mlx5_2", brief="mlx5_2 Initializing")))
        else:
            one = node(name, -((i * 53) % 950) if i % 9 else 3_000 + i)
        nodes.append(one)
    return cluster(nodes, [job(17, f"gpu[{2:0{digits}}-{n // 4:0{digits}}]", held, ago_s=90_000)])


def bare():
    """Two hosts without GPUs and InfiniBand, on one of which the coordinator runs: nothing has data but the states."""
    nodes = []
    for name in ("node1", "node2"):
        nodes.append({"name": name, "state": "ok", "age_ms": "300", "job_ids": [], "cpus": 4, "software": "0.1.0", "skew_ref": True,
                      "clock_synced": True, "sources": [{"name": "nvml", "ok": False, "text": "libnvidia-ml.so.1 is not there"},
                                                        {"name": "sysfs", "ok": True, "age_ms": "500", "text": "no RDMA devices"}]})
    return cluster(nodes)


def chinese():
    """People and jobs with names of two columns a character; notes as well."""
    ill = node("gpu02", 500, state="degraded", attention=[
        {"severity": "warn", "subject": "gpu02 /data", "text": "\u7a7a\u76ee\u5f55\uff0c\u4e0d\u662f NFS \u6302\u8f7d\u70b9", "fix": "mount /data"}])
    return cluster([node("gpu01", None, 17), ill, node("\u8bad\u7ec3\u8282\u70b903", 600, 18), node("gpu04", 600)],
                   [job(17, "gpu01", ["gpu01"], user="\u738b\u5c0f\u660e", command="python \u8bad\u7ec3/\u811a\u672c.py --lr 0.1"),
                    job(18, "\u8bad\u7ec3\u8282\u70b903", ["\u8bad\u7ec3\u8282\u70b903"], user="li", name="\u5fae\u8c03")])


def failed():
    """A job of which a GPU fell off the bus: its story, whose end was the first, and what may have been."""
    us = NOW * 1000
    end = us + 372_400_000

    def told(after_us, text, where=None, error_us=0):
        return {"wall_us": str(us + after_us), "text": text, **({"node": where} if where else {}),
                **({"error_us": str(error_us)} if error_us else {})}

    def rank(r, node, state, **more):
        return {"rank": r, "node": node, "pid": 40112 + r, "state": state, **more}
    first = rank(11, "gpu02", "killed", sig=6, gpu=3, core=True, at_us=str(end), at_error_us="310",
                 cause="Xid 79 on GPU 3 0.4 s before; on gpu01 port mlx5_0/1 went down 12.0 s before")
    either = rank(3, "gpu01", "exited", code=1, at_us=str(end + 500), at_error_us="420", maybe_first=True)
    return cluster([node("gpu01", None), node("gpu02", 412)], [
        job(18, "gpu[01-02]", ["gpu01", "gpu02"], state="failed", world=16, procs_per_node=8, exit_code=134, running=0,
            end_wall_ms=str(NOW + 372_800), submit_wall_ms=str(NOW), start_wall_ms=str(NOW + 500), command="python train.py --lr 0.1",
            first=[first], either=[either], why="rank 11 (gpu02) as the lines before have it",
            others="14 other ranks (collateral): 12 by our SIGTERM from 4.1 ms later, 2 exited with code 1 from 210.0 ms later",
            ranks=[either, first, rank(12, "gpu02", "killed", sig=15, ours=True)], story_dropped=3,
            story=[told(0, "submitted by li", "gpu01"), told(4_100, "placed on gpu[01-02], attempt 1"),
                   told(480_000, "prepared on all nodes"), told(500_000, "started: 16 processes, rank 0 at gpu01"),
                   *[told(60_000_000 + i * 1_000_000, ("unreachable: it is silent", "heard again")[i % 2], "gpu02") for i in range(29)],
                   told(360_400_000, "port mlx5_0/1 went down", "gpu01", 290),
                   told(372_000_000, "Xid 79 on GPU 3", "gpu02", 310),
                   told(372_400_000, "rank 11 (gpu02, GPU 3, pid 40123) was killed by signal 6 and dumped core: Xid 79 on GPU 3 0.4 s before; "
                        "on gpu01 port mlx5_0/1 went down 12.0 s before", "gpu02", 310),
                   told(372_401_200, "all others are ended: SIGTERM, and SIGKILL 30.0 s later"), told(372_800_000, "failed, exit code 134")])])


def unknowns():
    """Nodes of which something, or nothing, is known."""
    def known(name, **fields):
        return {"name": name, "state": "ok", "age_ms": "400", "job_ids": [], **fields}

    return cluster([node("gpu01", 0, None), known("gpu02"), known("gpu03", gpus=8), known("gpu04", gpus=0, ports=0, skew_us="0"),
                    known("gpu05", ports=8, gpus=8, gpus_busy=0), known("gpu06", skew_us="700000", skew_error_us="900000"),
                    known("gpu07", skew_us="150000", clock_synced=False, skew_bad=True), known("gpu08", state="down", note="its agent has ended or is cut off"),
                    dict(known("gpu09", port_list=[{"device": "mlx5_0", "port": 1}, {"device": "mlx5_1", "port": 1, "state": "Active"}],
                               gpu_list=[{"index": 0}, {"index": 1, "mem_total": str(80 * GIB), "procs": [{"pid": 99}]}]), ports=2, gpus=2)])
