#!/bin/sh
# run.sh [NAME...] - does the simulator find the bugs planted here?
#
# For each *.patch, here and in ../output/planted (those are for build/sim-output): a copy of the tree with the objects of 'make sim-program',
# the patch, what it touches compiled anew (-O1), and the simulator, which has
# to fail within SEEDS seeds (10000) and SECONDS_EACH seconds (200, for a loaded machine), with a seed
# that holds without the patch. Prints a line
# for each bug, "NAME: found, seed ...", or what is wrong, and a count; exit 1
# when one was not found, or when the tree without any fails. A patch that does
# not apply any more counts as failed: mend it, the bug is still one.
#
# JOBS patches are tried at a time (one a processor), each in a tree of its own;
# the lines come in the order of the names all the same.
set -eu
cd "$(dirname "$0")/../../.."
top=$PWD
SEEDS=${SEEDS:-10000}
SECONDS_EACH=${SECONDS_EACH:-200}
JOBS=${JOBS:-$(nproc)}
work=$(mktemp -d)
workers=
trap '[ -z "$workers" ] || kill $workers || true; wait; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

make -s SAN=0 B=build sim-program
# a few: each seed that finds a bug is tried without it, too
if ! build/sim --seeds 500 >"$work/out" || ! build/sim-output --seeds 100 >"$work/out"; then
	tail -4 "$work/out"
	echo "without a planted bug: FAILED"
	exit 1
fi

# A tree in $1. Times are kept, so that make sees what is up to date.
fresh_tree() {
	mkdir -p "$1/tests" "$1/build/tests" "$1/build/daemon/io" "$1/build/client"
	cp -a Makefile common proto daemon client "$1/"
	cp -a tests/sim "$1/tests/"
	cp -a build/common build/proto build/libcommon.a build/libproto.a build/libcore.a build/libshim.a "$1/build/"
	cp -a build/daemon/core build/daemon/shim "$1/build/daemon/"
	cp -a build/daemon/io/store_db.* build/daemon/io/store_group.* "$1/build/daemon/io/"
	cp -a build/daemon/io/bulk*.[od] "$1/build/daemon/io/"
	cp -a build/client/*.[od] "$1/build/client/"
	cp -a build/tests/sim "$1/build/tests/"
}

# So that a worker that is ended ends it.
simulate() {
	"$sim" --seeds "$SEEDS" --seconds "$SECONDS_EACH" >../out 2>&1 &
	child=$!
	if wait "$child"; then set -- 0; else set -- 1; fi
	child=
	return "$1"
}

# What became of patch $1, in a line; false when the bug was not found. $2: a folder for it.
try() {
	fresh_tree "$2/tree"
	cd "$2/tree"
	sim=build/sim
	[ "${1%/output/*}" = "$1" ] || sim=build/sim-output
	if ! patch -s -F0 -p1 <"$1" >../log 2>&1; then
		echo "the patch does not apply"
	elif ! make -s SAN=0 B=build CFLAGS=-O1 WERROR= "$sim" >../log 2>&1; then
		echo "does not build: $(grep -m1 error ../log)"
	elif simulate; then
		echo "NOT FOUND within $SEEDS seeds: $(tail -1 ../out)"
	elif ! grep -q '^broken: ' ../out; then
		echo "the simulator itself fails: $(tail -1 ../out)"
	elif ! "$top/$sim" --scenario "$(sed -n 's/^scenario: *//p' ../out)" --seeds 1 \
		--first "$(sed -n 's/^seed: *//p' ../out)" >../log 2>&1; then
		echo "seed $(sed -n 's/^seed: *//p' ../out) fails without it, too"
	else
		echo "found, seed $(sed -n 's/^seed: *//p' ../out): $(sed -n 's/^broken: *//p' ../out)"
		return 0
	fi
	return 1
}

file_of() {
	for f in "$top/tests/sim/planted/$1.patch" "$top/tests/sim/output/planted/$1.patch"; do
		[ ! -e "$f" ] || echo "$f"
	done
}

# Tries what no other worker has begun with: the folder is made once.
worker() {
	child=
	trap 'kill $child 2>/dev/null; exit 1' TERM
	for name in $names; do
		mkdir "$work/$name" 2>/dev/null || continue
		if try "$(file_of "$name")" "$work/$name" >"$work/$name/said"; then
			touch "$work/$name/found"
		fi
		cd "$top"
		rm -rf "$work/$name/tree"
	done
}

for name; do
	[ -n "$(file_of "$name")" ] || { echo "no planted bug is called $name"; exit 1; }
done
names=
for p in "$top"/tests/sim/planted/*.patch "$top"/tests/sim/output/planted/*.patch; do
	name=$(basename "$p" .patch)
	[ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
	names="$names $name"
done
i=0
while [ "$i" -lt "$JOBS" ]; do
	worker &
	workers="$workers $!"
	i=$((i + 1))
done
for pid in $workers; do
	wait "$pid"
done
workers=

found=0 missed=0
for name in $names; do
	if [ -e "$work/$name/found" ]; then
		found=$((found + 1))
	else
		missed=$((missed + 1))
	fi
	echo "$name: $(cat "$work/$name/said")"
done
echo "$found planted bugs found, $missed missed"
[ "$missed" -eq 0 ]
