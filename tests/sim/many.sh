#!/bin/sh
# many.sh N [SIM [FIRST [ARGS...]]] - N seeds from FIRST (1) on, on all processors
#
# All of them run, whatever fails: a line for each seed that did, "FAILED
# SCENARIO SEED: what is broken", at most MOST (200) of them printed, then how
# many seeds have run and how many failed. ARGS (--scenario NAME) are for SIM.
# Exit code 1 when a seed has failed, 2 when a processor did not come to its end.
set -eu
[ $# -ge 1 ] || { sed -n '2,7s/^# //p' "$0" >&2; exit 2; }
n=$1 sim=${2:-build/sim} first=${3:-1} cpus=$(nproc)
if [ $# -le 3 ]; then set --; else shift 3; fi
[ -x "$sim" ] || { echo "$sim is no program: build one first (make SAN=0 B=build sim-program)" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 2' INT TERM
begun=$(date +%s) last=$((first + n))
# Parts of a size that no processor is left with a long one at the end.
each=$((n / (cpus * 20) + 1))
export work sim each last
# shellcheck disable=SC2016 # for the inner shell
seq "$first" "$each" $((last - 1)) | xargs -P "$cpus" -I FIRST sh -c '
	from=$1
	shift
	[ $((from + each)) -le "$last" ] || each=$((last - from))
	r=0
	"$sim" --keep-going --first "$from" --seeds "$each" "$@" >"$work/$from.out" 2>"$work/$from.err" || r=$?
	[ "$r" -le 1 ] || echo "exit code $r: seeds $from to $((from + each - 1)): $(tail -1 "$work/$from.err")" >"$work/$from.died"
' many FIRST "$@"
cat "$work"/*.out | grep '^FAILED ' | sort >"$work/failed" || true
head -n "${MOST:-200}" "$work/failed"
cat "$work"/*.died 2>/dev/null | head -n 20 || true
ran=$(cat "$work"/*.out | awk '$2 ~ /^runs/ { n += $1 } END { print n + 0 }')
failed=$(wc -l <"$work/failed")
echo "$ran seeds ($first to $((last - 1))) on $cpus processors in $(($(date +%s) - begun)) s, $failed failed"
[ "$ran" -eq "$n" ] || { echo "that is not $n" >&2; exit 2; }
[ "$failed" -eq 0 ]
