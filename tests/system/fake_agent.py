"""fake_agent.py - an agent that only plays: the client's side of the protocol without a cluster

    with FakeAgent() as a:
        p = subprocess.Popen([NODECTL, "--dir", a.dir, "launch", "-N", "2", "--", "true"])
        a.submitted()                      waits for the job
        a.start("n1", "n2")
        a.write(0, 1, b"hello\\n")
        a.end(exit_code=0)

Every message that arrived is kept in a.seen as (type, fields). One job, any
number of clients. Run by itself it plays a small job at DIR/nodectl.sock, or
shows a cluster of scenes.py:
    fake_agent.py DIR [status|lines|bars|fail|wait|SCENE [N DIGITS]]
"""
import os
import select
import shutil
import socket
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import scenes  # noqa: E402
import wire  # noqa: E402

CHUNK = 60_000


class Follower:
    """Sends one follow's output within its credit."""

    def __init__(self, agent, client, m):
        self.agent, self.client, self.sid, self.credit = agent, client, m["sid"], m["credit"]
        self.live, self.granted = m.get("live", False), m["credit"]
        self.ranks = {int(r) for r in m["ranks"]} if m.get("ranks") else None
        froms = {(f["rank"], f["fd"]): int(f["offset"]) for f in m.get("from", [])} if agent.honour_from else {}
        self.at, self.ended, self.lost, self.over = {}, set(), {}, False
        for key, data in agent.streams.items():
            self.at[key] = froms.get(key, len(data) if m.get("from_end") else 0)

    def next(self):
        """The next frame to send, or None. The agent's lock is held."""
        for key, data in self.agent.streams.items():
            if self.ranks is not None and key[0] not in self.ranks:
                continue
            at = self.at.setdefault(key, 0)
            if self.agent.given.get(key, 0) > at:
                self.at[key] = self.agent.given[key]
                return wire.data(self.sid, *key, b"", wire.GIVEN, self.at[key])
            n = min(len(data) - at, self.credit, CHUNK)
            if n > 0:
                self.at[key] += n
                self.credit -= n
                return wire.data(self.sid, *key, bytes(data[at:at + n]), 0, at)
            if self.agent.lost.get(key, 0) > self.lost.get(key, 0):
                self.lost[key] = self.agent.lost[key]
                return wire.data(self.sid, *key, b"", wire.LOST, self.lost[key])
            if at == len(data) and self.agent.output_over and key not in self.ended:
                self.ended.add(key)
                return wire.data(self.sid, *key, b"", wire.EOF, at)
        if not self.over and (self.agent.output_over or not self.live) and all(
                self.at[k] == len(d) for k, d in self.agent.streams.items() if self.ranks is None or k[0] in self.ranks):
            self.over = True
            fields = {"text": self.agent.end_text} if self.agent.end_text else {}
            return wire.message("follow_end", sid=self.sid, **fields)
        return None


class Client(threading.Thread):
    def __init__(self, agent, sock):
        super().__init__(daemon=True)
        self.agent, self.link, self.sock = agent, wire.Link(sock), sock
        self.spec, self.watches, self.followers, self.out = b"", [], {}, threading.Lock()
        self.start()

    def send(self, t, **fields):
        self.send_raw(wire.message(t, **fields))

    def send_raw(self, raw):
        with self.out:
            try:
                self.sock.sendall(raw, socket.MSG_NOSIGNAL)
            except OSError:
                pass

    def run(self):
        try:
            while True:
                if select.select([self.sock], [], [], 0.02)[0]:
                    more = self.sock.recv(1 << 20)
                    if not more:
                        raise wire.Gone
                    self.link.buf += more
                for m in self.messages():
                    self.agent.handle(self, m)
                self.pump()
        except (wire.Gone, OSError, ValueError):
            self.agent.forget(self)

    def messages(self):
        """What is complete so far; never waits, so the socket stays blocking for senders."""
        while True:
            try:
                yield self.link.recv(-1)
            except TimeoutError:
                return

    def pump(self):
        for f in list(self.followers.values()):
            for _ in range(64):
                with self.agent.lock:
                    raw = f.next()
                if raw is None:
                    break
                self.send_raw(raw)

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class FakeAgent:
    def __init__(self, dir=None, name="nodectl.sock"):
        self.own = dir is None
        self.dir = dir or tempfile.mkdtemp(prefix="nafake", dir="/tmp")
        self.path = os.path.join(self.dir, name)
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.clients, self.seen = [], []
        self.listener = None
        self.reset()
        self.listen()

    def reset(self):
        self.job, self.client_ids, self.spec = 18, {}, None
        self.checks, self.events = {}, []
        self.info = {"job": "18", "state": "queued", "user": "li", "uid": os.getuid(), "command": "true", "attempt": 1,
                     "nnodes": 1, "world": 1, "procs_per_node": 1, "submit_wall_ms": str(int(time.time() * 1000))}
        self.settled = False
        self.given = {}
        self.streams, self.lost, self.output_over, self.end_text = {}, {}, False, ""
        self.stdin, self.stdin_over = b"", False
        self.honour_from, self.mute_submit, self.mute_watch, self.refuse, self.piecewise = True, False, False, {}, False
        self.welcome = {"proto": 1000, "software": "0.1.0", "node": "n1", "cluster": "lab",
                        "features": ["restarts", "spares", "time"]}
        self.status = {"cluster": "lab", "nodes": [], "jobs": []}
        self.stdin_credit, self.mute_status = 65536, False
        self.after_kill = lambda a: a.end(state="failed", exit_code=143, why="ended by its user")

    # ---- connections

    def listen(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                s, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.clients.append(Client(self, s))

    def forget(self, client):
        with self.lock:
            if client in self.clients:
                self.clients.remove(client)

    def go_away(self):
        """As a killed agent: socket file stays, nobody listens, links close."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # away already
        self.listener.close()
        with self.lock:
            clients, self.clients = self.clients, []
        for c in clients:
            c.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.go_away()
        if self.own:
            shutil.rmtree(self.dir, ignore_errors=True)

    # ---- what the test says

    def start(self, *nodes, each=1, state="running", **more):
        nodes = nodes or ("n1",)
        now = str(int(time.time() * 1000))
        world = len(nodes) * each
        self.update(state=state, nodes=",".join(nodes), node_names=list(nodes), nnodes=len(nodes), world=world,
                    procs_per_node=each, start_wall_ms=now, running=world, **more)

    def update(self, **fields):
        with self.lock:
            self.info.update(fields)
            self.push()

    def push(self):
        for c in self.clients:
            for rid in c.watches:
                c.send("job_update", rid=rid, job=[self.info], settled=self.settled)

    def write(self, rank, fd, data):
        with self.lock:
            self.streams.setdefault((rank, fd), bytearray()).extend(data)

    def lose(self, rank, fd, n):
        with self.lock:
            self.streams.setdefault((rank, fd), bytearray())
            self.lost[(rank, fd)] = self.lost.get((rank, fd), 0) + n

    def end(self, exit_code=0, state=None, output=True, **more):
        with self.lock:
            self.settled = True
            if output:
                self.output_over = True
            self.update(**{"state": state or ("failed" if exit_code else "done"), "exit_code": exit_code, "running": 0,
                           "end_wall_ms": str(int(time.time() * 1000)), **more})

    def wait_for(self, f, seconds=20, what="something"):
        end = time.monotonic() + seconds
        with self.lock:
            while not f():
                left = end - time.monotonic()
                assert left > 0, f"not within {seconds} s: {what}; seen {[t for t, _ in self.seen]}"
                self.changed.wait(min(left, 0.1))

    def got(self, t):
        with self.lock:
            return [m for name, m in self.seen if name == t]

    def wait_msg(self, t, n=1):
        self.wait_for(lambda: len(self.got(t)) >= n, what=f"{n} x {t}")
        return self.got(t)[n - 1]

    def submitted(self):
        self.wait_msg("watch")
        return self.got("submit")[0]

    # ---- what clients say

    def handle(self, c, m):
        with self.lock:
            if isinstance(m, tuple):
                self.on_data(c, m)
            else:
                self.seen.append((m["t"], m))
                if m["t"] in self.refuse and "rid" in m:
                    code, text = self.refuse[m["t"]]
                    c.send("refused", rid=m["rid"], code=code, text=text)
                else:
                    getattr(self, "on_" + m["t"], lambda *a: None)(c, m)
            self.changed.notify_all()

    def on_data(self, c, m):
        _, sid, rank, fd, flags, offset, payload = m
        if fd == 3:
            assert offset == len(c.spec)
            c.spec += payload
        if fd == 0:
            assert offset == len(self.stdin), (offset, len(self.stdin))
            self.stdin += payload
            self.stdin_over |= bool(flags & wire.EOF)
            c.send("credit", sid=sid, bytes=len(payload))

    def on_hello(self, c, m):
        if "hello" in self.refuse:
            c.send("refused", code=self.refuse["hello"][0], text=self.refuse["hello"][1])
            return
        c.send("welcome", **self.welcome)

    def on_submit(self, c, m):
        assert m["spec_size"] == len(c.spec)
        self.spec = c.spec
        self.client_ids.setdefault(m["client_id"], self.job)
        self.info["command"] = m["command"]
        if not self.mute_submit:
            c.send("submitted", rid=m["rid"], job=str(self.job))

    def on_watch(self, c, m):
        if self.mute_watch:
            return
        if int(m["job"]) != self.job:
            c.send("refused", rid=m["rid"], code="not-found", text=f"there is no job {m['job']}")
            return
        c.watches.append(m["rid"])
        c.send("job_update", rid=m["rid"], job=[self.info], settled=self.settled)

    def on_follow(self, c, m):
        if not c.watches:
            c.send("refused", rid=m["sid"], code="denied", text=f"job {m['job']} is not watched by you")
            return
        if "follow" in self.refuse:
            c.send("refused", rid=m["sid"], code=self.refuse["follow"][0], text=self.refuse["follow"][1])
            return
        c.followers[m["sid"]] = Follower(self, c, m)

    def on_credit(self, c, m):
        if m["sid"] in c.followers:
            c.followers[m["sid"]].credit += m["bytes"]
            c.followers[m["sid"]].granted += m["bytes"]

    def on_stdin_open(self, c, m):
        c.send("credit", sid=m["sid"], bytes=self.stdin_credit)

    def on_kill(self, c, m):
        c.send("ok", rid=m["rid"], text=f"job {m['job']} is being ended")
        threading.Timer(0.05, lambda: self.after_kill(self)).start()

    def on_events_get(self, c, m):
        c.send("events", rid=m["rid"], events=self.events, last=str(len(self.events)))

    def on_checks_get(self, c, m):
        about = [{"id": i, "title": "a", "reads": "b", "threshold": "c", "source": "d", "remedy": "e"} for i in ("ib.state", "ib.speed", "sm.running")]
        c.send("checks", rid=m["rid"], **({"about": about} if m.get("explain") else {}), **self.checks)

    def on_jobs_get(self, c, m):
        jobs = [self.info] if int(m.get("job", self.job)) == self.job else []
        if "jobs" in self.status and "job" not in m:
            jobs = self.status["jobs"] or jobs
        if "job" in m:  # a scene's own
            jobs = [j for j in self.status.get("jobs", []) if j["job"] == str(m["job"]) and "story" in j] or jobs
        for job in list(jobs) if self.piecewise else []:
            ranks = job.get("ranks", [])
            for k in range(0, len(ranks), 3):
                c.send("jobs", rid=m["rid"], jobs=[dict(job, ranks=ranks[k:k + 3])], more=True)
            jobs = []
        c.send("jobs", rid=m["rid"], jobs=jobs, wall_ms=self.status.get("wall_ms", str(int(time.time() * 1000))))

    def on_status_get(self, c, m):
        if self.mute_status:
            return
        s = {"wall_ms": str(int(time.time() * 1000)), **self.status}
        s["nodes"] = [self.answer_node(n, m) for n in s["nodes"] if m.get("node") in (None, n["name"])]
        nodes, jobs = s.pop("nodes"), s.pop("jobs")
        size = 1 if self.piecewise else 100 if m.get("detail") else 2000
        pieces = [{"nodes": nodes[k:k + size]} for k in range(0, len(nodes), size)]
        pieces += [{"jobs": jobs[k:k + size]} for k in range(0, len(jobs), size)]
        if not self.piecewise and len(pieces) == 2:
            pieces = [{**pieces[0], **pieces[1]}]
        for piece in pieces[:-1]:
            c.send("status", rid=m["rid"], more=True, **piece, **s)
        c.send("status", rid=m["rid"], **(pieces[-1] if pieces else {}), **s)

    def answer_node(self, n, m):
        """As the coordinator: what was not asked for is left out."""
        leave = set() if m.get("topology") else {"topology", "numa"}
        if not m.get("detail"):
            leave |= {"gpu_list", "port_list", "host", "sources"}
        return {k: v for k, v in n.items() if k not in leave}

    def on_token_create(self, c, m):
        c.send("token", rid=m["rid"], token="na1.SECRET.words", address="head:7070",
               expires_wall_ms=str(int(time.time() * 1000) + m.get("ttl_s", 3600) * 1000))

    def on_node_remove(self, c, m):
        c.send("ok", rid=m["rid"])

    def on_node_drain(self, c, m):
        c.send("ok", rid=m["rid"], text=f"{m['nodes']}: no new jobs start there; nothing runs there")


LAB = {
    "cluster": "lab", "coordinator": "0.1.0",
    "nodes": [
        {"name": "gpu01", "state": "ok", "age_ms": "400", "job_ids": ["17", "18"], "submit": True, "cpus": 128},
        {"name": "gpu02", "state": "ok", "age_ms": "900", "job_ids": ["17"], "cpus": 128},
        {"name": "gpu03", "state": "unreachable", "age_ms": "185000", "note": "silent since 10:02; its jobs are left alone"},
        {"name": "gpu-with-a-long-name-0141", "state": "down", "age_ms": "172800000"},
        {"name": "gpu05", "state": "quarantined", "note": "two hosts answer with this identity"},
    ],
    "jobs": [
        {"job": "17", "state": "running", "user": "li", "nodes": "gpu[01-02]", "node_names": ["gpu01", "gpu02"], "nnodes": 2,
         "world": 16, "running": 16, "command": "llamafactory-cli train config/train_config.yaml",
         "start_wall_ms": str(int(time.time() * 1000) - 372_000)},
        {"job": "18446744073709551615", "state": "running", "user": "\u738b\u5c0f\u660e", "nodes": "gpu01",
         "node_names": ["gpu01"], "nnodes": 1, "world": 4, "running": 3, "command": "python \u8bad\u7ec3/\u811a\u672c.py --lr 0.1",
         "start_wall_ms": str(int(time.time() * 1000) - 12_000), "notices": ["rank 2 has lost 4096 bytes of output"]},
        {"job": "19", "state": "queued", "user": "a-user-with-a-long-name", "nnodes": 4, "world": 4, "command": "./a.out",
         "why": "waiting for 4 nodes: gpu03 is unreachable", "submit_wall_ms": str(int(time.time() * 1000) - 7_200_000)},
    ],
}


def play(a, what, *args):
    a.status = getattr(scenes, what)(*map(int, args)) if hasattr(scenes, what) else LAB
    if what == "status" or hasattr(scenes, what):
        time.sleep(3600)
    a.submitted()
    if what == "wait":
        a.update(state="queued", why="waiting for 2 nodes: gpu03 is unreachable")
        time.sleep(2)
    a.start("gpu01", "gpu02")
    for i in range(20):
        for rank in (0, 1):
            if what == "bars":
                a.write(rank, 1, b"\r%3d%%|%s|" % (i * 5, b"#" * i))
            else:
                a.write(rank, 1, b"line %d of rank %d\n" % (i, rank))
        time.sleep(0.3)
    if what == "fail":
        import base64
        a.write(1, 2, b"Traceback\nValueError: the cause\n")
        a.end(exit_code=7, why="the others were ended", first=[{
            "rank": 1, "state": "exited", "pid": 40112, "code": 7, "node": "gpu02",
            "tail": base64.b64encode(b"Traceback\nValueError: the cause\n").decode()}])
    else:
        a.end()
    time.sleep(1)


if __name__ == "__main__":
    with FakeAgent(sys.argv[1]) as agent:
        play(agent, *(sys.argv[2:] or ["lines"]))
