#!/bin/bash
# systemd.sh [BUILD] - the installed units under a real systemd: two containers, one cluster
#
# Two systemd-nspawn containers with their own networks, joined by a veth pair:
# "head" and "gpu01". Installs with `make install DESTDIR=`, makes the cluster as an administrator
# does, and then does to its services what happens to services. Needs root, and
# the packages of `make deps-testbeds`. Nothing is left behind but a Debian tree under .check/testbeds,
# which takes a minute to make and is used again.
#
# One line for each check; the last line counts them, code 1 when one failed.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build}
suite=bookworm
packages=systemd,systemd-sysv,dbus,procps,libuv1,libcjson1,libssl3,libsqlite3-0,libinih1,libyaml-0-2,libibverbs1,libhwloc15
base=.check/testbeds/$suite
work=$(mktemp -d /tmp/nasd.XXXXXX) || exit 1 # short: names of network namespaces and machines derive from it
tag=${work##*.}
passed=0 failed=0
declare -A pid ns lead
log=$work/log
journals=.check/testbeds/journals

say() { printf '%s\n' "$*"; }

# ---- machines -----------------------------------------------------------------

need() {
	local t missing=
	[ "$(id -u)" = 0 ] || { say "testbed-systemd: needs root"; exit 1; }
	for t in systemd-nspawn debootstrap ip nsenter; do
		command -v $t >/dev/null || missing="$missing $t"
	done
	[ -z "$missing" ] || { say "testbed-systemd: missing:$missing; make deps-testbeds"; exit 1; }
	[ -x "$build/nodeagentd" ] || { say "testbed-systemd: $build/nodeagentd is not built"; exit 1; }
}

rootfs() {
	[ "$(cat "$base.done" 2>/dev/null)" = $packages ] && return
	say "making a Debian tree in $base (about a minute, once)"
	rm -rf "$base"
	mkdir -p "${base%/*}"
	debootstrap --variant=minbase --include=$packages $suite "$base" >"$work/debootstrap" 2>&1 || { tail -n 5 "$work/debootstrap"; exit 1; }
	: >"$base/etc/machine-id"
	echo $packages >"$base.done"
}

# networks: a namespace for each machine, and a cable
network() {
	local h i=1
	for h in head gpu01; do
		ns[$h]=na$tag-$h
		ip netns add "${ns[$h]}"
	done
	ip link add v0 netns "${ns[head]}" type veth peer name v0 netns "${ns[gpu01]}"
	for h in head gpu01; do
		ip -n "${ns[$h]}" addr add 10.77.0.$i/24 dev v0
		ip -n "${ns[$h]}" link set v0 up
		ip -n "${ns[$h]}" link set lo up
		i=$((i + 1))
	done
}

prepare() { # host
	local r=$work/$1
	cp -a --reflink=auto "$base" "$r"
	echo "$1" >"$r/etc/hostname"
	printf '127.0.0.1 localhost\n10.77.0.1 head\n10.77.0.2 gpu01\n' >"$r/etc/hosts"
	# the same users on both; carol's uid is beyond what nodes serve
	printf 'alice:x:2001:2001::/home/alice:/bin/bash\nbob:x:2002:2002::/home/bob:/bin/bash\ncarol:x:70001:70001::/home/carol:/bin/bash\n' >>"$r/etc/passwd"
	printf 'alice:x:2001:\nbob:x:2002:\ncarol:x:70001:\nlab:x:3000:alice\n' >>"$r/etc/group"
	printf '%s:*:19000:0:99999:7:::\n' alice bob carol >>"$r/etc/shadow"
	local u
	for u in alice:2001 bob:2002 carol:70001; do
		install -d -m 700 -o "${u#*:}" -g "${u#*:}" "$r/home/${u%:*}"
	done
	files "$1" >"$work/$1.before"
}

# what is there besides logs and systemd's own records
files() { # host
	(cd "$work/$1" && find . -xdev ! -path './var/log/*' ! -path './proc/*' ! -path './sys/*' ! -path './dev/*' ! -path './run/*' \
		! -path './tmp/*' ! -path './var/tmp/*' ! -path './var/lib/systemd/*' ! -path './home/*' ! -name '*-' | sort)
}

# A cgroup for each machine where its processes may go: systemd-nspawn puts "payload" into the one that it is
# started in, and two systemds in one tree take each other's away.
cgroups() { # host: their directories
	local line path
	while IFS= read -r line; do
		path=${line#*:*:}
		case $line in
		0::*) findmnt -n -t cgroup2 -o TARGET | head -n 1 ;;
		*:name=systemd:*) findmnt -n -t cgroup -O name=systemd -o TARGET | head -n 1 ;;
		esac | sed "s|\$|${path%/}/na$tag-$1|"
	done </proc/self/cgroup
}

enter_cgroups() { # host
	local d
	for d in $(cgroups "$1"); do
		mkdir -p "$d" && echo $BASHPID >"$d/cgroup.procs" || return 1
	done
}

# Whoever is still in them lives in a container of ours, whatever has become of systemd-nspawn.
leave_no_cgroups() { # host
	local d
	for d in $(cgroups "$1"); do
		[ -d "$d" ] || continue
		until_ok 10 empty "$d"
		find "$d" -depth -type d -exec rmdir {} +
	done
}

empty() { # cgroup
	local p
	p=$(find "$1" -name cgroup.procs -exec cat {} +)
	[ -z "$p" ] && return
	# shellcheck disable=SC2086 # a list of numbers
	kill -9 $p
	return 1
}

# As on a real host of today: one cgroup tree, and the right to raise limits.
boot() { # host
	(
		enter_cgroups "$1" && SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn -q --capability=CAP_SYS_RESOURCE \
			-D "$work/$1" --register=no --keep-unit -M "$1" --console=read-only \
			--network-namespace-path="/run/netns/${ns[$1]}" -b
	) >"$work/$1.console" 2>&1 &
	pid[$1]=$!
	until_ok 20 find_leader "$1" && until_ok 30 booted "$1"
}

# systemd-nspawn has short-lived children, too: the one that is 1 in its own namespace
find_leader() { # host
	local c of
	read -ra of <"/proc/${pid[$1]}/task/${pid[$1]}/children" # no newline: its code says nothing
	for c in "${of[@]}"; do
		grep -q '^NSpid:.*[[:space:]]1$' "/proc/$c/status" && lead[$1]=$c && return
	done
	return 1
}

booted() { [ "$(on "$1" systemctl is-system-running 2>/dev/null)" = running ]; }

on() { # host command...
	local h=$1
	shift
	nsenter -t "${lead[$h]}" -m -u -i -n -p -C -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root \
		SHELL=/bin/bash LANG=C.UTF-8 "$@" </dev/null
}

as() { # user host command: one string for a login shell
	on "$2" su -l "$1" -c "$3"
}

down() { # host: 1 when it had to be ended by force
	local rc=0
	[ -n "${pid[$1]:-}" ] || return 0
	[ -z "${lead[$1]:-}" ] || on "$1" systemctl poweroff >/dev/null 2>&1
	until_ok 15 ended "${pid[$1]}" || { kill -9 "${pid[$1]}"; rc=1; }
	wait "${pid[$1]}" 2>/dev/null
	unset "pid[$1]"
	return $rc
}
ended() { ! kill -0 "$1"; }

cleanup() {
	local h
	for h in head gpu01; do
		down $h
		leave_no_cgroups $h
		ip netns del "na$tag-$h" 2>/dev/null
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- checks --------------------------------------------------------------------

until_ok() { # seconds command...: the last try may speak
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { "$@"; return; }
		sleep 0.1
	done
}

check() { # "sentence" command...: its output is shown when it fails
	local what=$1 t0=$EPOCHREALTIME rc s
	shift
	"$@" >"$log" 2>&1
	rc=$?
	s=$(awk -v a="$t0" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
	if [ $rc = 0 ]; then
		passed=$((passed + 1))
		say "ok      $what (${s}s)"
	else
		failed=$((failed + 1))
		say "FAILED  $what (${s}s)"
		tail -n 25 "$log" | sed 's/^/        /'
		keep_journals
	fi
	return 0
}

# .check/testbeds/journals: what the services said up to the first failure
keep_journals() {
	local h
	[ $failed = 1 ] || return
	for h in head gpu01; do
		[ -z "${lead[$h]:-}" ] || on $h journalctl -q -o short-precise -u 'nodeagent*' >"$journals/$h" 2>/dev/null
	done
	say "        journals of both: $journals/"
}

same() { # "what" want got
	[ "$2" = "$3" ] && return
	say "$1: want '$2', got '$3'"
	return 1
}

owner() { # host path "user group mode"
	same "$1:$2" "$3" "$(on "$1" stat -c '%U %G %a' "$2")"
}

main_pid() { on "$1" systemctl show -P MainPID "$2"; } # as the container counts
restarts() { on "$1" systemctl show -P NRestarts "$2"; }

active() { # host units...
	local h=$1 u
	shift
	for u; do
		same "$h $u" active "$(on "$h" systemctl is-active "$u")" || return 1
	done
}

# The job waits for a file, and ends with 7 when it is there.
start_job() { # sets $job
	rm -f "$work"/*/home/alice/go
	job=$(as alice head "nodectl --json launch --detach -N 2 -- sh -c 'echo rank \$RANK; while [ ! -e go ]; do sleep 0.1; done; exit 7'" |
		sed -n 's/.*"job": *"\?\([0-9]*\).*/\1/p')
	[ -n "$job" ] || { say "no job"; return 1; }
	until_ok 20 runs
}

field() { as alice head "nodectl --json job $job" | python3 -c "import json, sys; print(json.load(sys.stdin).get('$1'))"; }
runs() { [ "$(field state)" = running ]; }
ranks() { on "$1" pgrep -u alice -f 'while . ! -e go'; }

ends_right() { # the job is alive on both, then its code comes
	local h
	for h in head gpu01; do
		ranks $h >/dev/null || { say "no rank on $h"; return 1; }
	done
	touch "$work/head/home/alice/go" "$work/gpu01/home/alice/go"
	until_ok 20 over || { say "state $(field state)"; return 1; }
	same "state" failed "$(field state)" && same "exit code" 7 "$(field exit_code)" &&
		same "output" "rank 0 rank 1" "$(as alice head "nodectl logs --no-label $job" | sort | xargs)"
}
over() { case $(field state) in failed | lost | "done") ;; *) return 1 ;; esac; }

nodes_ok() {
	[ "$(as alice head 'nodectl --json nodes' | grep -o '"state": *"ok"' | wc -l)" = 2 ]
}

# ---- the story -------------------------------------------------------------------

install_all() {
	local h
	for h in head gpu01; do
		make --no-print-directory install B="$build" DESTDIR="$work/$h" >/dev/null || return 1
	done
}

first_steps() { # host
	on "$1" systemd-sysusers && on "$1" systemd-tmpfiles --create && on "$1" systemctl daemon-reload
}

make_cluster() { # with root's umask at its strictest
	on head sh -c 'umask 077; nodeagentd init' && owner head /var/lib/nodeagent "root root 755" &&
		owner head /var/lib/nodeagent/coordinator/key.pem "nodeagent nodeagent 600" &&
		owner head /var/lib/nodeagent/coordinator "nodeagent nodeagent 700" &&
		owner head /var/lib/nodeagent/agent/node.ini "nodeagent nodeagent 600"
}

start_head() { on head systemctl enable --now nodeagent-coordinator nodeagentd; }

join_node() {
	local token
	token=$(on head nodectl --json token create | grep -o 'na1\.[0-9a-f.]*') || return 1
	on gpu01 sh -c "umask 077; echo $token | nodeagentd join head:7070" && owner gpu01 /var/lib/nodeagent "root root 755" &&
		owner gpu01 /var/lib/nodeagent/agent/key.pem "nodeagent nodeagent 600" && on gpu01 systemctl enable --now nodeagentd
}

all_active() {
	active head nodeagent-coordinator.service nodeagentd.service nodeagent-launcher.service nodeagent-launcher.socket &&
		active gpu01 nodeagentd.service nodeagent-launcher.service nodeagent-launcher.socket
}

who_they_are() {
	local h p
	for h in head gpu01; do
		p=$(main_pid $h nodeagentd)
		# shellcheck disable=SC2016 # awk's own
		same "agent's uid" nodeagent "$(on $h stat -c %U /proc/"$p")" &&
			same "agent's rights" "0000000000000000 0000000000000000 1 2" \
				"$(on $h awk '/^(CapEff|CapBnd|NoNewPrivs|Seccomp):/ { printf "%s%s", s, $2; s = " " }' /proc/"$p"/status)" &&
			owner $h /run/nodeagent-launcher.sock "root nodeagent 660" && owner $h /run/nodeagent "nodeagent nodeagent 755" &&
			owner $h /var/lib/nodeagent/spool "root nodeagent 750" || return 1
	done
}

status_lines() {
	until_ok 10 status_is head nodeagentd "registered with head:7070, 0 jobs" &&
		until_ok 10 status_is head nodeagent-coordinator "serving head:7070: 2 of 2 nodes ok, 0 jobs" &&
		status_is head nodeagent-launcher "listening for the agent (nodeagent, uid $(on head id -u nodeagent))"
}
status_is() { same "$2" "$3" "$(on "$1" systemctl show -P StatusText "$2")"; }

# One of each agent, and a child of it: a former agent's leaves by itself.
probes_run() { # longer than it takes to be started anew
	local h
	sleep 3
	for h in head gpu01; do
		same "$h: probes of the agent" "$(on $h pgrep nodeagent-probe)" "$(on $h pgrep -P "$(main_pid $h nodeagentd)")" &&
			same "$h: probes" 1 "$(on $h pgrep -c nodeagent-probe)" &&
			same "$h: probe's user" nodeagent "$(on $h ps -o user= -C nodeagent-probe | xargs)" || return 1
	done
	! on head journalctl -q -u nodeagentd -o cat | grep -qi 'probe.*\(anew\|malformed\|killed\)' &&
		as alice head "nodectl --json nodes" | python3 -c 'import json, sys
for n in json.load(sys.stdin)["nodes"]:
    # without a driver: none where the bus has none, else not known
    assert n["ports"] == [] and n["gpus"] == ([] if n["gpus_total"] == 0 else None), n'
}

two_nodes_as_a_user() {
	local who="uid=2001(alice) gid=2001(alice) groups=2001(alice),3000(lab)"
	same output "$who gpu01 $who head" "$(as alice head "nodectl launch -N 2 --no-label -- sh -c 'echo \$(id) \$(hostname)'" | sort | xargs)"
}

# What a service takes away must not reach a job: compared with a login of the
# same user through a service, as ssh is.
show='grep -E "^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:|Cpus_allowed:)" /proc/self/status; umask
	grep -v "locked memory" /proc/self/limits; cat /proc/self/oom_score_adj; nice; ls /proc/self/fd | wc -l
	stat -Lc %i /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/user /proc/self/ns/ipc; ls -d /tmp/systemd-private* 2>&1 | head -n 1 | cut -c1-20'
as_a_login() {
	printf '%s\n' "$show" >"$work/head/usr/local/show.sh"
	on head systemd-run -q --pipe --wait su -l alice -c 'sh /usr/local/show.sh' >"$work/login"
	as alice head 'nodectl launch -w head -- sh /usr/local/show.sh' >"$work/job"
	rm -f "$work/head/usr/local/show.sh"
	[ "$(wc -l <"$work/job")" -gt 25 ] && diff "$work/login" "$work/job"
}

memlock_unlimited() { # or as much as a container's root may allow
	same memlock "$(on head systemd-run -q --pipe --wait -p LimitMEMLOCK=infinity sh -c 'ulimit -Hl')" "$(as alice head 'nodectl launch -w head -- sh -c "ulimit -l"')"
}

in_its_own_cgroup() {
	start_job || return 1
	same cgroup "0::/system.slice/nodeagent-launcher.service/nodeagent-$job.1" \
		"$(for p in $(ranks head); do on head grep 0:: /proc/"$p"/cgroup; done | sort -u)" && ends_right
}

others_see_nothing() {
	start_job || return 1
	local p out cmd
	p=$(ranks head | head -n 1)
	for cmd in "nodectl logs $job" "nodectl attach $job" "nodectl job $job" "nodectl kill $job"; do
		out=$(as bob head "$cmd" 2>&1) && { say "bob: $cmd: $out"; return 1; }
		case $out in *"is not yours: it belongs to alice"*) ;; *) say "bob: $cmd: $out"; return 1 ;; esac
	done
	as bob head "ls /var/lib/nodeagent/spool" && return 1
	as bob head "cat /var/lib/nodeagent/spool/$job.1/0.out" && return 1
	as bob head "cat /proc/$p/environ" && return 1
	as bob head "kill $p" && return 1
	same "the launcher's socket" "Permission denied" "$(as bob head "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_SEQPACKET, 0);
		connect(S, sockaddr_un(q(/run/nodeagent-launcher.sock))) and print(1) or print(\$!)'")" || return 1
	ends_right
}

refused() { # user host "sentence"
	local out
	out=$(as "$1" "$2" 'nodectl launch -- id' 2>&1) && { say "$out"; return 1; }
	case $out in *"$3"*) ;; *) say "$out"; return 1 ;; esac
}

root_by_permission() {
	echo 'LAUNCHER_OPTIONS=--allow-root' >"$work/head/etc/nodeagent/launcher.env"
	printf '[agent]\nallow_root = yes\n' >"$work/head/etc/nodeagent/nodeagentd.conf"
	on head systemctl restart nodeagent-launcher nodeagentd
	until_ok 10 nodes_ok
	# no node may speak for root: the coordinator's own socket is root's way
	refused root head "may not speak for uid 0"
}

journal_fields() {
	start_job && ends_right || return 1
	on head journalctl -q -o cat "JOB=$job" "NODE=head" | grep "job $job.1: shim [0-9]* started for alice" || return 1
	on head journalctl -q -o json "JOB=$job" -u nodeagent-launcher -p info | grep -q '"ATTEMPT":"1"' || return 1
	on head journalctl -q -o json -u nodeagentd | grep -q '"PRIORITY":"6"'
}

dropin() { # host unit text
	on "$1" sh -c "mkdir -p /run/systemd/system/$2.service.d; printf '[Service]\n$3\n' >/run/systemd/system/$2.service.d/t.conf
		systemctl daemon-reload; systemctl restart $2"
}

watchdog_fires() { # host unit
	local before p
	dropin "$1" "$2" WatchdogSec=2 && until_ok 10 nodes_ok && start_job || return 1
	sleep 5 # longer than the watchdog: it pings
	same "restarts of a healthy one" 0 "$(restarts "$1" "$2")" || return 1
	before=$(restarts "$1" "$2")
	p=$(main_pid "$1" "$2")
	on "$1" kill -STOP "$p"
	until_ok 15 restarted "$1" "$2" "$before" && until_ok 10 active "$1" "$2" || return 1
	on "$1" journalctl -q -u "$2" | grep -q "Watchdog timeout" || return 1
	until_ok 10 nodes_ok && ends_right
}
restarted() { [ "$(restarts "$1" "$2")" -gt "$3" ]; }

killed() { # host unit
	local before
	start_job || return 1
	before=$(restarts "$1" "$2")
	on "$1" kill -9 "$(main_pid "$1" "$2")"
	until_ok 15 restarted "$1" "$2" "$before" && until_ok 10 active "$1" "$2" && until_ok 15 nodes_ok && ends_right && two_nodes_as_a_user
}

restarted_by_hand() { # host units...: a launch straight after it works, too
	local h=$1
	shift
	start_job && on "$h" systemctl restart "$@" && active "$h" "$@" && two_nodes_as_a_user && ends_right
}

upgraded() {
	start_job && install_all || return 1
	for h in head gpu01; do
		on $h systemctl daemon-reload && on $h systemctl restart nodeagent-launcher nodeagentd || return 1
	done
	on head systemctl restart nodeagent-coordinator && until_ok 15 nodes_ok && ends_right
}

units() { if [ "$1" = head ]; then echo nodeagent-coordinator nodeagentd; else echo nodeagentd; fi; }

stopped_and_started() {
	start_job || return 1
	for h in head gpu01; do
		# shellcheck disable=SC2046 # a list of words
		on $h systemctl stop $(units $h) nodeagent-launcher.socket nodeagent-launcher.service || return 1
		ranks $h >/dev/null || { say "no rank on $h"; return 1; }
		same launcher inactive "$(on $h systemctl is-active nodeagent-launcher.service)" || return 1
	done
	for h in head gpu01; do
		# shellcheck disable=SC2046
		on $h systemctl start $(units $h) || return 1
	done
	until_ok 15 nodes_ok && ends_right
}

no_launcher_is_said() {
	on gpu01 systemctl stop nodeagent-launcher.socket nodeagent-launcher.service
	until_ok 10 status_is gpu01 nodeagentd "registered with head:7070, 0 jobs; nodeagent-launcher is away: no job can be started here" || return 1
	refused alice head "x" && return 1 # head can still start
	on gpu01 systemctl start nodeagent-launcher.socket && until_ok 10 status_is gpu01 nodeagentd "registered with head:7070, 0 jobs" &&
		two_nodes_as_a_user
}

rebooted() { # records of another boot are of no use, and the services come by themselves
	start_job || return 1
	down gpu01 || { say "it did not shut down in 15 s"; return 1; }
	boot gpu01 && until_ok 20 nodes_ok || return 1
	until_ok 20 over || { as alice head "nodectl job $job"; return 1; }
	two_nodes_as_a_user
}

gone() { # host
	# shellcheck disable=SC2046
	on "$1" systemctl disable --now $(units "$1") nodeagent-launcher.socket && on "$1" systemctl stop nodeagent-launcher.service &&
		same "processes" "" "$(on "$1" pgrep -l nodeagent)" &&
		on "$1" sh -c 'rm -rf /run/nodeagent /run/nodeagent-coordinator; userdel nodeagent; groupdel nodeagent-admin' &&
		make --no-print-directory purge B="$build" DESTDIR="$work/$1" >/dev/null && on "$1" systemctl daemon-reload || return 1
	files "$1" | diff "$work/$1.before" - && same "/run" "" "$(on "$1" sh -c 'ls -d /run/nodeagent* 2>/dev/null')"
}

clean_journal() { # nothing of ours above notice but what we did to it
	on "$1" journalctl -q -p warning -o cat _SYSTEMD_UNIT=nodeagentd.service + _SYSTEMD_UNIT=nodeagent-launcher.service |
		grep -iE 'denied|not permitted|read-only|sanitizer|out of memory|a bug' && return 1
	return 0
}

need
mkdir -p $journals
rootfs
network
for h in head gpu01; do prepare $h; done
check "make install DESTDIR= on both" install_all
for h in head gpu01; do check "$h boots" boot $h; done
[ $failed = 0 ] || { say "$passed passed, $failed failed"; exit 1; }
for h in head gpu01; do check "$h: users and directories" first_steps $h; done
check "units verify on a host that has them" on head systemd-analyze verify --man=no nodeagentd.service nodeagent-coordinator.service \
	nodeagent-launcher.service nodeagent-launcher.socket
check "init leaves files to nodeagent, whatever root's umask" make_cluster
check "the head's services start and are ready" start_head
check "gpu01 joins and its agent is ready" join_node
check "both nodes are ok" until_ok 15 nodes_ok
check "all units are active" all_active
check "agents have no rights, files have the right owners" who_they_are
check "systemctl status tells how they are" status_lines
[ ! -x "$build/nodeagent-probe" ] || check "the probe runs in the agent's fence" probes_run
check "a user's job runs on both, as him, with his groups" two_nodes_as_a_user
check "a job has what a login has" as_a_login
check "... and may lock memory" memlock_unlimited
check "a job has its own cgroup below the launcher's" in_its_own_cgroup
check "another user sees and touches nothing of it" others_see_nothing
check "root's job is refused with a sentence" refused root head "uid 0"
check "a uid beyond the range is refused with a sentence" refused carol head "uid 70001"
check "root's job stays refused where only the node allows it" root_by_permission
check "the journal knows jobs and nodes" journal_fields
check "watchdog: a stopped agent is restarted, the job lives on" watchdog_fires gpu01 nodeagentd
check "watchdog: a stopped launcher is restarted, the job lives on" watchdog_fires gpu01 nodeagent-launcher
check "watchdog: a stopped coordinator is restarted, the job lives on" watchdog_fires head nodeagent-coordinator
check "kill -9 of the agent with a job alive" killed gpu01 nodeagentd
check "kill -9 of the launcher with a job alive" killed gpu01 nodeagent-launcher
check "kill -9 of the coordinator with a job alive" killed head nodeagent-coordinator
check "kill -9 of the submitting node's agent" killed head nodeagentd
check "restart of the agent" restarted_by_hand gpu01 nodeagentd
check "restart of the launcher" restarted_by_hand gpu01 nodeagent-launcher
check "restart of the coordinator" restarted_by_hand head nodeagent-coordinator
[ ! -x "$build/nodeagent-probe" ] || check "... and deaths and restarts have left no second one" probes_run
check "installing again and restarting everything (an upgrade)" upgraded
check "stop of everything, start of everything, the job lives on" stopped_and_started
check "an agent without its launcher says so" no_launcher_is_said
check "a reboot with a job alive, which holds nothing up" rebooted
for h in head gpu01; do check "$h: no sandbox is in anybody's way" clean_journal $h; done
for h in head gpu01; do check "$h: stop, disable, purge leave nothing" gone $h; done
say "$passed passed, $failed failed"
[ $failed = 0 ]
