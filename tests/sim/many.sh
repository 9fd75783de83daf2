#!/bin/sh
# many.sh N [SIM] - N seeds on all processors, each of them at its own seeds; exit code 1 when one has failed
set -eu
n=$1 sim=${2:-build/sim} cpus=$(nproc)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
each=$(((n + cpus - 1) / cpus)) begun=$(date +%s) i=0
while [ "$i" -lt "$cpus" ]; do
	("$sim" --first $((1 + i * each)) --seeds "$each" >"$work/$i" 2>&1 || touch "$work/failed") &
	i=$((i + 1))
done
wait
tail -qn 5 "$work"/[0-9]* | grep -E '^(scenario|seed|broken|replay)' || true
echo "$((each * cpus)) seeds on $cpus processors in $(($(date +%s) - begun)) s"
[ ! -e "$work/failed" ]
