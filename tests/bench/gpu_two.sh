#!/bin/bash
# gpu_two.sh [FOLDER] - real jobs on a host with two GPUs, beside plain torchrun on the same host in the same run
#
# FOLDER is what pack_portable.sh made (default: where this script lies). Needs
# python3 with PyTorch and torchrun; nvcc and NCCL for part (c). Without GPUs,
# or with one, it runs through gloo and says so: then the figures show the
# launchers, not the network.
#
#   REPS=3      runs of each figure, taking turns      LIMIT=60   seconds to wait for what may never return
#   DEFAULT=0   1: also wait for the default node_lost_timeout (two minutes more)
#   PARTS="first killed node c"   only these
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=${1:-$here}
reps=${REPS:-3}
limit=${LIMIT:-60}
parts=${PARTS:-first killed node c}
bin=$root/bin
ddp=$here/ddp_steps.py
python=$(command -v python3)
work=$(mktemp -d "${TMPDIR:-/tmp}/nagpu.XXXXXX") || exit 1
daemon=
unset PYTHONUNBUFFERED
export OMP_NUM_THREADS=1

now() { date +%s.%N; }
minus() { awk "BEGIN { printf \"%.2f\", $1 - $2 }"; }
say() { printf '%s\n' "$*"; }
part() { # name heading: whether it was asked for
	case " $parts " in *" $1 "*) ;; *) return 1 ;; esac
	say ""
	say "$2"
}

cleanup() {
	trap - EXIT INT TERM
	cluster_stop
	end_marked
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Processes of ours carry GPU_TWO=<work> in their environment: torchrun's orphans too.
marked() {
	local p
	for p in /proc/[0-9]*; do
		p=${p#/proc/}
		[ "$p" != $$ ] && [ "$p" != "$BASHPID" ] &&
			tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qxF "GPU_TWO=$work" && echo "$p"
	done 2>/dev/null
}
end_marked() {
	local p
	for p in $(marked); do kill -KILL "$p" 2>/dev/null; done
}

# ---- the cluster ---------------------------------------------------------

cluster_start() { # nodes [line of configuration...]
	local n=$1
	shift
	printf '%s\n' "$@" >"$work/conf"
	"$bin/nodeagentd" --standalone --virtual-nodes "$n" --dir "$work/c" --config "$work/conf" >"$work/ready" 2>>"$work/log" &
	daemon=$!
	for _ in $(seq 200); do
		grep -q '^ready ' "$work/ready" && return 0
		sleep 0.05
	done
	say "the cluster did not start:"
	tail -n 20 "$work/log"
	exit 1
}
cluster_stop() {
	[ -n "$daemon" ] || return 0
	kill -CONT "$daemon" 2>/dev/null
	kill -TERM "$daemon" 2>/dev/null
	wait "$daemon" 2>/dev/null
	daemon=
	rm -rf "$work/c"
}
ctl() { GPU_TWO=$work "$bin/nodectl" --dir "$work/c" "$@"; }

# ---- what is launched ----------------------------------------------------

# One GPU a node, chosen by the node's number until allocation exists; another host id makes NCCL use its network path.
# shellcheck disable=SC2016 # expanded by the job's shell
per_node='[ "$GPUS" -lt 2 ] || export CUDA_VISIBLE_DEVICES=$NODE_RANK
export NCCL_HOSTID=node$NODE_RANK NCCL_SOCKET_IFNAME=lo GLOO_SOCKET_IFNAME=lo
exec torchrun --nnodes=2 --node-rank="$NODE_RANK" --nproc-per-node=1 --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" "$@"'

direct() { ctl launch --procs-per-node 2 -- "$python" "$ddp" "$@"; }
on_nodes() { ctl launch -N 2 -- bash -c "$per_node" torchrun "$ddp" "$@"; }
plain_one() { GPU_TWO=$work torchrun --nproc-per-node 2 --master-port "$port" "$ddp" "$@"; }
plain_node() { # node arguments...: one of two torchruns started by hand
	local node=$1
	shift
	GPU_TWO=$work NODE_RANK=$node MASTER_ADDR=127.0.0.1 MASTER_PORT=$port bash -c "$per_node" torchrun "$ddp" "$@"
}
plain_two() {
	plain_node 0 "$@" &
	local first=$! code
	plain_node 1 "$@"
	code=$?
	wait "$first" || code=$?
	return $code
}

port=23000
next_port() { port=$((port + 1)); }

# ---- time to the first all-reduce ----------------------------------------

first_of() { # name command...: seconds from command to first finished all-reduce, and to its return
	local name=$1 begin end f code
	shift
	next_port
	begin=$(now)
	"$@" >"$work/out" 2>"$work/err"
	code=$?
	end=$(now)
	f=$(sed -n 's/.*FIRST \([0-9.]*\).*/\1/p' "$work/out" | head -1)
	if [ $code != 0 ] || [ -z "$f" ]; then
		say "  $name: failed with code $code"
		tail -n 5 "$work/err" | sed 's/^/    /'
		return
	fi
	printf '%s %s %s\n' "$(minus "$f" "$begin")" "$(minus "$end" "$begin")" "$(phases "$begin")" >>"$work/first.${name// /_}"
}

# Rank 0's way: seconds to its process's begin, to torch being imported, to the process group, to the first result.
phases() { # begin
	sed -n 's/.*FIRST \([0-9.]*\) started \([0-9.]*\) imported \([0-9.]*\) group \([0-9.]*\).*/\1 \2 \3 \4/p' "$work/out" |
		head -1 | awk -v b="$1" '{ printf "%.2f %.2f %.2f %.2f", $2 - b, $3 - $2, $4 - $3, $1 - $4 }'
}

median_line() { # name
	local f="$work/first.${1// /_}"
	[ -s "$f" ] || {
		printf '  %-34s no run succeeded\n' "$1"
		return
	}
	sort -n "$f" | awk -v name="$1" '{ a[NR] = $1; t[NR] = $2; way[NR] = $3 " + " $4 " + " $5 " + " $6; has = NF > 2 }
		END { m = int((NR + 1) / 2)
			printf "  %-34s %6.2f s   (%.2f - %.2f, %d runs; whole command about %.2f s)\n", name, a[m], a[1], a[NR], NR, t[m]
			if (has) printf "  %-34s   rank 0 begins + imports torch + process group + first result: %s\n", "", way[m] }'
}

# ---- a worker, or a whole node, is killed --------------------------------

# Waits until the job in the background has begun its steps; worker pids by rank are then in $work/out.
wait_started() { # file ranks
	for _ in $(seq 600); do
		[ "$(grep -c 'RANK [0-9]* pid' "$1")" -ge "$2" ] && grep -q FIRST "$1" && return 0
		sleep 0.1
	done
	return 1
}
pid_of() { sed -n "s/.*RANK $2 pid \([0-9]*\).*/\1/p" "$1" | head -1; }

# Seconds until the process returns and its code, or "still waiting".
until_back() { # pid limit
	local begin code
	begin=$(now)
	for _ in $(seq $(($2 * 50))); do
		if ! kill -0 "$1" 2>/dev/null; then
			wait "$1"
			code=$?
			say "$(minus "$(now)" "$begin") s, code $code"
			return
		fi
		sleep 0.02
	done
	kill -TERM "$1" 2>/dev/null
	say "still waiting after $2 s"
}

long=(--steps 100000 --sleep 0.02)

worker_killed() { # name command...
	local name=$1 job
	shift
	next_port
	: >"$work/out"
	"$@" "${long[@]}" >"$work/out" 2>"$work/err" &
	job=$!
	if wait_started "$work/out" 2; then
		kill -KILL "$(pid_of "$work/out" 1)"
		until_back "$job" "$limit" >"$work/said"
		printf '  %-34s %s\n' "$name" "$(cat "$work/said")"
		grep -aE 'rank 1' "$work/err" | head -2 | sed 's/^/      it says: /'
	else
		printf '  %-34s did not start\n' "$name"
		tail -n 5 "$work/err" | sed 's/^/    /'
	fi
	kill -KILL "$job" 2>/dev/null
	sleep 1
	printf '  %-34s %s of its processes left\n' "" "$(marked | wc -l)"
	end_marked
	wait "$job" 2>/dev/null
}

# The second node falls silent and all on it is gone: its agent is stopped (its connection
# stays open and says nothing, as a dead host's), its shim and ranks are killed.
node_killed() { # name seconds to wait
	local job agent p
	: >"$work/out"
	on_nodes "${long[@]}" >"$work/out" 2>"$work/err" &
	job=$!
	if ! wait_started "$work/out" 2; then
		printf '  %-34s did not start\n' "$1"
		return
	fi
	agent=$(second_agent)
	kill -STOP "$agent"
	for p in $(below "$agent"); do kill -KILL "$p" 2>/dev/null; done
	until_back "$job" "$2" >"$work/said"
	printf '  %-34s %s\n' "$1" "$(cat "$work/said")"
	tail -n 3 "$work/err" | sed 's/^/      it says: /'
	kill -KILL "$job" 2>/dev/null
	wait "$job" 2>/dev/null
	kill -CONT "$agent" 2>/dev/null
}
children_of() { # pid
	local s
	for s in /proc/[0-9]*/stat; do
		awk -v want="$1" '{ sub(/.*\) /, ""); split($0, f, " "); if (f[2] == want) { split(FILENAME, n, "/"); print n[3] } }' \
			"$s" 2>/dev/null
	done
}
below() { # pid: all its descendants
	local c
	for c in $(children_of "$1"); do
		echo "$c"
		below "$c"
	done
}
second_agent() {
	local c
	for c in $(children_of "$daemon"); do
		tr '\0' ' ' <"/proc/$c/cmdline" | grep -qE 'nodes/[a-z]*0*2( |/|$)' && echo "$c"
	done | head -1
}
plain_node_killed() {
	local zero one p
	next_port
	: >"$work/out"
	plain_node 0 "${long[@]}" >>"$work/out" 2>"$work/err" &
	zero=$!
	plain_node 1 "${long[@]}" >>"$work/out" 2>"$work/err1" &
	one=$!
	if wait_started "$work/out" 2; then
		for p in $(below "$one") "$one"; do kill -KILL "$p" 2>/dev/null; done
		until_back "$zero" "$limit" >"$work/said"
		printf '  %-34s the other one: %s\n' "two torchruns by hand" "$(cat "$work/said")"
	fi
	end_marked
	wait "$zero" "$one" 2>/dev/null
}

# ---- a program in C ------------------------------------------------------

nccl_folder() { # of the Python package, if NCCL came with it
	"$python" -c '
import importlib.util
try:
    s = importlib.util.find_spec("nvidia.nccl")
except ModuleNotFoundError:
    s = None
print(list(s.submodule_search_locations)[0] if s else "")'
}
c_build() {
	local inc=() lib=(-lnccl) nccl
	nccl=$(nccl_folder)
	if [ -n "$nccl" ]; then
		inc=(-I "$nccl/include")
		lib=(-L "$nccl/lib" "-l:libnccl.so.2" -Xlinker -rpath -Xlinker "$nccl/lib")
	fi
	nvcc -O2 "${inc[@]}" -o "$work/nccl_allreduce" "$here/nccl_allreduce.c" "${lib[@]}" 2>"$work/err"
}
c_by_hand() {
	local r pids=() rc=0
	for r in $(seq 0 $((ranks - 1))); do
		GPU_TWO=$work RANK=$r LOCAL_RANK=$r WORLD_SIZE=$ranks MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$work/nccl_allreduce" &
		pids+=($!)
	done
	for r in "${pids[@]}"; do wait "$r" || rc=$?; done
	return $rc
}
c_one_node() { ctl launch --procs-per-node "$ranks" -- "$work/nccl_allreduce"; }
# shellcheck disable=SC2016 # expanded by the job's shell
c_two_nodes() {
	ctl launch -N 2 -- bash -c 'export CUDA_VISIBLE_DEVICES=$NODE_RANK NCCL_HOSTID=node$NODE_RANK NCCL_SOCKET_IFNAME=lo; exec "$0"' \
		"$work/nccl_allreduce"
}
c_part() {
	if [ "$GPUS" -lt 1 ] || ! command -v nvcc >/dev/null; then
		say "  left out: no GPU or no nvcc here"
		return
	fi
	if ! c_build; then
		say "  left out: nccl_allreduce.c could not be built"
		tail -n 3 "$work/err" | sed 's/^/    /'
		return
	fi
	ranks=2
	[ "$GPUS" -ge 2 ] || ranks=1
	cluster_start 2
	for _ in $(seq "$reps"); do
		first_of "nodectl, C with NCCL" c_one_node
		grep -ah DONE "$work/out" | sed 's/^/    /'
		first_of "started by hand, C with NCCL" c_by_hand
		grep -ah DONE "$work/out" | sed 's/^/    by hand: /'
		[ "$GPUS" -lt 2 ] && continue
		first_of "nodectl, 2 nodes, NCCL's network" c_two_nodes
		grep -ah DONE "$work/out" | sed 's/^/    over the network path: /'
	done
	cluster_stop
	median_line "nodectl, C with NCCL"
	median_line "started by hand, C with NCCL"
	[ "$GPUS" -lt 2 ] || median_line "nodectl, 2 nodes, NCCL's network"
}

# ---- the run -------------------------------------------------------------

[ -x "$bin/nodectl" ] || {
	say "gpu_two.sh: no programs in $bin: run pack_portable.sh first"
	exit 1
}
command -v torchrun >/dev/null || {
	say "gpu_two.sh: no torchrun on PATH"
	exit 1
}
GPUS=$("$python" -c 'import torch; print(torch.cuda.device_count())')
export GPUS
[ "$GPUS" -ge 2 ] || export SHARED_GPU=1
say "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(getconf _NPROCESSORS_ONLN) cores, $GPUS GPUs, PyTorch $("$python" -c 'import torch; print(torch.__version__)')"
[ "$GPUS" = 0 ] || nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
[ "$GPUS" -ge 2 ] || say "fewer than two GPUs: through gloo; read the figures as the launchers' own"

plain_one --steps 1 >/dev/null 2>&1 # warm the page cache for all
if part first "command to first finished all-reduce, PyTorch DDP, 2 ranks, $reps runs in turn"; then
	for _ in $(seq "$reps"); do
		cluster_start 1
		first_of "nodectl, 2 ranks on one node" direct
		cluster_stop
		first_of "torchrun --nproc-per-node 2" plain_one
		cluster_start 2
		first_of "nodectl, torchrun on 2 nodes" on_nodes
		cluster_stop
		first_of "two torchruns by hand" plain_two
	done
	for name in "nodectl, 2 ranks on one node" "torchrun --nproc-per-node 2" "nodectl, torchrun on 2 nodes" "two torchruns by hand"; do
		median_line "$name"
	done
fi

if part killed "one worker killed (kill -9): until the command returns"; then
	cluster_start 1
	worker_killed "nodectl, 2 ranks on one node" direct
	cluster_stop
	cluster_start 2
	worker_killed "nodectl, torchrun on 2 nodes" on_nodes
	cluster_stop
	worker_killed "two torchruns by hand" plain_two
fi

if part node "a whole node silent and dead: until the command returns"; then
	cluster_start 2 '[coordinator]' 'node_lost_timeout = 10s'
	node_killed "nodectl, node_lost_timeout 10 s" $((limit + 60))
	cluster_stop
	if [ "${DEFAULT:-0}" = 1 ]; then
		cluster_start 2
		node_killed "nodectl, the default of 120 s" 200
		cluster_stop
	fi
	plain_node_killed
fi

if part c "128 MiB all-reduce in C"; then
	c_part
fi
