"""test_completion.py - Tab in bash and zsh: words, options, and what is alive now; and the pages that name them

bash is asked as it asks itself (COMP_WORDS); zsh is typed at on a terminal.
What the programs take is read from their --help, so nothing can be forgotten.
"""
import glob
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import scenes  # noqa: E402
from cluster import NODECTL, SLOW, TOP  # noqa: E402

BASH = os.path.join(TOP, "client", "completion", "nodectl.bash")
ZSH = os.path.join(TOP, "client", "completion", "_nodectl")
MAN = os.path.join(TOP, "docs", "man")


def bash(ctl, line, program=NODECTL):
    """What bash offers behind this line; its last word is the one being typed."""
    words = line.split(" ")
    script = (f'source {BASH}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _nodectl; printf "%s\\n" "${{COMPREPLY[@]}}"')
    r = subprocess.run(["bash", "--norc", "-c", script, "bash", program, *words], env=ctl.env, capture_output=True, timeout=20, text=True)
    assert r.stderr == "", r.stderr
    return sorted(r.stdout.split())


def at(agent, line):
    return f"--dir {agent.dir} {line}"


def commands(ctl):
    return re.findall(r"^  (\w[\w-]*(?: \w+)?)  ", ctl("help").out, re.M)


def options(ctl, command):
    """Every option that its help names."""
    out = ctl(*command.split(), "--help").out
    return sorted(set(re.findall(r"^ +(?:-\w, |      )?(--[\w-]+)", out, re.M)) | set(re.findall(r"^  (-\w), --", out, re.M)))


# ---- the words that a program asks for ---------------------------------------


def test_names_and_ids_come_one_a_line(ctl, agent):
    agent.status = scenes.mixed()
    assert ctl("--complete", "nodes").out.split() == [f"gpu0{i}" for i in range(1, 7)]
    assert ctl("--complete", "jobs").out.split() == ["17", "18", "19"]
    assert not agent.got("jobs_get")[0].get("all")
    assert ctl("--complete", "all-jobs").out.split() == ["17", "18", "19"] and agent.got("jobs_get")[1]["all"] is True
    r = ctl("--complete", "nonsense")
    assert (r.code, r.out, r.err) == (0, "", "")
    assert "--complete" not in ctl("help").out


def test_who_has_nothing_to_say_says_it_quickly_and_quietly(ctl, agent):
    agent.mute_status = True
    begin = time.monotonic()
    r = ctl("--complete", "nodes")
    assert (r.code, r.out, r.err) == (0, "", "") and time.monotonic() - begin < 2 + SLOW
    agent.go_away()
    r = ctl("--complete", "jobs")
    assert (r.code, r.out, r.err) == (0, "", "")
    r = subprocess.run([NODECTL, "--dir", "/nonexistent", "--complete", "nodes"], env=ctl.env, capture_output=True)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b"")


# ---- bash ----------------------------------------------------------------------


def test_bash_completes_names_and_ids_live(ctl, agent):
    agent.status = scenes.mixed()
    assert bash(ctl, at(agent, "node gpu0")) == [f"gpu0{i}" for i in range(1, 7)]
    assert bash(ctl, at(agent, "node gpu04")) == ["gpu04"]
    assert bash(ctl, at(agent, "kill 1")) == ["17", "18", "19"]
    assert bash(ctl, at(agent, "node-remove gpu06")) == ["gpu06"]
    for verb in ("attach", "logs", "job"):
        assert bash(ctl, at(agent, f"{verb} 17")) == ["17"]
    assert bash(ctl, at(agent, "launch -w gpu01,gpu0"))[:2] == ["gpu01,gpu01", "gpu01,gpu02"]
    assert bash(ctl, at(agent, "drain gpu01,gpu06")) == ["gpu01,gpu06"] and bash(ctl, at(agent, "resume gpu06")) == ["gpu06"]
    assert bash(ctl, at(agent, "ports -w gpu03")) == ["gpu03"] == bash(ctl, at(agent, "gpus --hosts gpu03"))
    assert bash(ctl, f"node --dir {agent.dir} gpu05") == ["gpu05"], "the cluster may be named behind the command"
    assert bash(ctl, f"--dir={agent.dir} node gpu05") == bash(ctl, f"node --dir = {agent.dir} gpu05") == ["gpu05"]
    assert bash(ctl, f"node --dir = {agent.dir[:-1]}") == [agent.dir]
    assert bash(ctl, "launch -N 2 -- sh") and bash(ctl, "launch -N 2 -- echo rbas") == []  # a command, then its own words
    assert "rbash" in bash(ctl, "launch -N 2 rbas") and bash(ctl, "launch -N 2 --name x echo rbas") == []
    offered = bash(ctl, "launch -N 2 l")
    assert len(offered) == len(set(offered)), "each once"
    agent.go_away()
    assert bash(ctl, at(agent, "node gpu0")) == []


def test_bash_finds_the_jobs_command_behind_every_option_with_a_value(ctl, agent):
    with_value = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+) [^ ]", ctl("launch", "--help").out.partition("\n\n")[2], re.M))
    assert {"--net", "--on-hang", "--nodes", "--socket"} <= with_value, with_value
    for option in with_value:
        assert "rbash" in bash(ctl, f"launch {option} x rbas"), option
    assert "rbash" in bash(ctl, "launch -N 2 -G 1 --detach rbas") and bash(ctl, "launch --detach x rbas") == []


def test_checks_are_completed_by_their_ids(ctl, agent):
    assert bash(ctl, at(agent, "check ib.s")) == ["ib.speed", "ib.state"] == bash(ctl, at(agent, "check -w gpu01 ib.s"))
    assert bash(ctl, at(agent, "check ")) == ["gpu.", "ib.", "nccl", "node.", "sm."]
    agent.go_away()
    assert bash(ctl, at(agent, "check ib")) == ["ib."]


def test_bash_knows_the_second_words_that_help_takes(ctl):
    second = {}
    for c in commands(ctl):
        second.setdefault(c.split()[0], []).extend(c.split()[1:])
    assert second["fix"] == ["sm"] and second["check"] == ["nccl"]
    for verb, words in second.items():
        assert bash(ctl, f"help {verb} ") == words, verb


def test_bash_knows_every_command(ctl, agent):
    want = sorted({c.split()[0] for c in commands(ctl)})
    assert [w for w in bash(ctl, "") if not w.startswith("-")] == want
    assert bash(ctl, "help ") == want
    assert bash(ctl, "stat") == ["status"] and bash(ctl, "token ") == ["create"]


def test_bash_knows_every_option(ctl, agent):
    for command in commands(ctl):
        if command == "help":
            continue
        want = options(ctl, command)
        assert len(want) >= 5 or command in ("nodes", "job", "node-remove", "resume"), (command, want)
        got = bash(ctl, f"{command} -")
        assert set(want) - {"-h"} <= set(got), (command, set(want) - set(got))
        assert set(got) <= set(want), (command, "no such option", set(got) - set(want))


def test_both_know_every_kind_of_event_and_group_of_checks(ctl):
    with open(os.path.join(TOP, "docs", "man", "nodectl-events.1"), encoding="utf-8") as page:
        kinds = set(re.findall(r"[a-z.]+", " ".join(re.findall(r"^\.It ((?!Fl).*)", page.read(), re.M))))
    groups = set()
    for source in glob.glob(os.path.join(TOP, "daemon", "core", "*.c")):
        with open(source, encoding="utf-8") as f:
            groups |= set(re.findall(r'\.id = "([a-z]+\.)[a-z_.]+"', f.read()))
    with open(ZSH, encoding="utf-8") as f:
        zsh = f.read()
    assert len(kinds) > 25 and kinds <= set(bash(ctl, "events --kind ")), kinds - set(bash(ctl, "events --kind "))
    for kind in kinds:
        assert "no kind" not in ctl("events", "--kind", kind).err, kind
    assert kinds <= set(re.search(r":kind:\(([^)]*)", zsh)[1].split())
    assert len(groups) == 4 and groups < set(bash(ctl, "check ")) and groups < set(re.search(r"compadd (nccl .*)", zsh)[1].split())


# ---- zsh -----------------------------------------------------------------------


class Zsh:
    """An interactive zsh that has our completion, with nodectl on its path."""

    def __init__(self, ctl, agent):
        home = os.path.join(agent.dir, "zsh")
        os.makedirs(os.path.join(home, "bin"))
        shutil.copy(ZSH, home)
        os.symlink(NODECTL, os.path.join(home, "bin", "nodectl"))
        with open(os.path.join(home, ".zshrc"), "w", encoding="utf-8") as f:
            f.write(f"fpath=({home} $fpath); path=({home}/bin $path); autoload -Uz compinit; compinit -u -d {home}/dump; bindkey -e\n"
                    "setopt no_beep list_rows_first; unsetopt prompt_sp; LISTMAX=1000; zstyle ':completion:*' verbose no; PS1='%% '\n"
                    "list() { zle list-choices; print -rn -- '<LISTED>' }; zle -N list; bindkey '^G' list\n"
                    "gone() { zle kill-whole-line; print -rn -- '<GONE>' }; zle -N gone; bindkey '^T' gone\n")
        pid, self.fd = pty.fork()
        if not pid:
            os.execvpe("zsh", ["zsh", "-d", "-i"], {**ctl.env, "TERM": "dumb", "ZDOTDIR": home, "LINES": "100", "COLUMNS": "200",
                                                    "NODEAGENT_DIR": agent.dir})
        self.pid, self.data = pid, b""
        self.read_until(b"% ")

    def read_until(self, what, seconds=15):
        end = time.monotonic() + seconds
        while what not in self.data:
            left = end - time.monotonic()
            assert left > 0, self.data
            if select.select([self.fd], [], [], left)[0]:
                self.data += os.read(self.fd, 65536)

    def tab(self, line):
        """What is offered behind this line: drawn when the widget has returned, before the next key is taken."""
        self.data = b""
        os.write(self.fd, line.encode() + b"\x07")
        self.read_until(b"<LISTED>")
        os.write(self.fd, b"\x14")
        self.read_until(b"<GONE>")
        drawn = self.data.partition(b"<LISTED>")[2].rpartition(b"% ")[0]
        return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\r", b" ", drawn).decode("utf-8", "replace")

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def zsh(ctl, agent):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    agent.status = scenes.mixed()
    z = Zsh(ctl, agent)
    yield z
    z.close()


def test_zsh_completes_names_and_ids_live(zsh, agent):
    out = zsh.tab("nodectl node gpu0")
    assert all(f"gpu0{i}" in out for i in range(1, 7)), out
    assert "gpu06" in zsh.tab("nodectl launch -w gpu01,gpu0")
    assert "gpu04" in zsh.tab("nodectl ports -w gpu0")
    assert "ib.state" in zsh.tab("nodectl check ib.s") and "nccl" in zsh.tab("nodectl help check ")
    out = zsh.tab("nodectl kill 1")
    assert "17" in out and "19" in out
    agent.go_away()
    assert "gpu04" not in zsh.tab("nodectl node gpu0")


def test_zsh_knows_every_command_and_option(zsh, ctl):
    out = zsh.tab("nodectl ")
    for command in commands(ctl):
        assert re.search(rf"\b{command.split()[0]}\b", out), (command, out)
        if command == "help":
            continue
        shown = zsh.tab(f"nodectl {command} -")
        for option in set(options(ctl, command)) - {"-h"}:
            assert re.search(rf"(?<![\w-]){option}\b", shown), (command, option, shown)


# ---- manual pages ----------------------------------------------------------------


def test_every_command_has_a_page_that_names_its_options(ctl):
    for command in commands(ctl):
        if command == "help":
            continue
        name = os.path.join(MAN, f"nodectl-{command.split()[0]}.1")
        with open(name, encoding="utf-8") as f:
            page = f.read()
        plain = page.replace("\\-", "-").replace("\\(en", "-")
        with open(os.path.join(MAN, "nodectl.1"), encoding="utf-8") as f:
            assert f" Xr nodectl-{command.split()[0]} 1\n" in f.read()
        for option in options(ctl, command):
            if option in ("--dir", "--socket", "--json", "--help", "-h"):
                continue
            assert re.search(rf"^\.(It|Op|Fl).*\bFl {option[1:]}\b|^\.It Fl .* , {option[1:]}\b", plain, re.M), (command, option)
        documented = set(re.findall(r"^\.It Fl (?:\w , )?-([\w-]+)", plain, re.M))
        page_of = [c for c in commands(ctl) if c.split()[0] == command.split()[0]]  # one page for "check" and "check nccl"
        known = {o[2:] for c in page_of for o in options(ctl, c) if o.startswith("--")}
        assert documented <= known | {"label"}, (command, documented - known)


def test_both_readmes_hold_the_same_sessions():
    """What is typed and what comes back is the same in any language; a remark behind three blanks is not."""
    sessions = []
    for name in ("README.md", "README.zh-CN.md"):
        with open(os.path.join(TOP, name), encoding="utf-8") as f:
            text = f.read()
        blocks = re.findall(r"```\n(.*?)```", text, re.S)
        sessions.append([re.sub(r"(?m)^(\w+# .*?)   .*$", r"\1", b) for b in blocks] + re.findall(r"(?m)^\| `.*?` \|", text))
    assert sessions[0] == sessions[1] and len(sessions[0]) > 10
