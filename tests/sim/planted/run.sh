#!/bin/sh
# run.sh [NAME...] - does the simulator find the bugs planted here?
#
# For each *.patch: a copy of the tree with the objects of 'make sim-program',
# the patch, what it touches compiled anew (-O1), and the simulator, which has
# to fail within SEEDS seeds (10000) and SECONDS_EACH seconds (60), with a seed
# that holds without the patch. Prints a line
# for each bug, "NAME: found, seed ...", or what is wrong, and a count; exit 1
# when one was not found, or when the tree without any fails. A patch that does
# not apply any more counts as failed: mend it, the bug is still one.
set -eu
cd "$(dirname "$0")/../../.."
top=$PWD
SEEDS=${SEEDS:-10000}
SECONDS_EACH=${SECONDS_EACH:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

make -s SAN=0 B=build sim-program
if ! build/sim --seeds 2000 >"$work/out"; then
	tail -4 "$work/out"
	echo "without a planted bug: FAILED"
	exit 1
fi

# Times are kept, so that make sees what is up to date.
fresh_tree() {
	rm -rf "$work/tree"
	mkdir -p "$work/tree/tests" "$work/tree/build/tests" "$work/tree/build/daemon"
	cp -a Makefile common proto daemon "$work/tree/"
	cp -a tests/sim "$work/tree/tests/"
	cp -a build/common build/proto build/lib*.a "$work/tree/build/"
	cp -a build/daemon/core build/daemon/shim "$work/tree/build/daemon/"
	mkdir "$work/tree/build/daemon/io"
	cp -a build/daemon/io/store_db.* build/daemon/io/store_group.* "$work/tree/build/daemon/io/"
	cp -a build/tests/sim "$work/tree/build/tests/"
}

# What became of it, in a line; false when the bug was not found.
try() {
	fresh_tree
	cd "$work/tree"
	if ! patch -s -F0 -p1 <"$1" >"$work/log" 2>&1; then
		echo "the patch does not apply"
	elif ! make -s SAN=0 B=build CFLAGS=-O1 WERROR= build/sim >"$work/log" 2>&1; then
		echo "does not build: $(grep -m1 error "$work/log")"
	elif build/sim --seeds "$SEEDS" --seconds "$SECONDS_EACH" >"$work/out" 2>&1; then
		echo "NOT FOUND within $SEEDS seeds"
	elif ! grep -q '^broken: ' "$work/out"; then
		echo "the simulator itself fails: $(tail -1 "$work/out")"
	elif ! "$top/build/sim" --scenario "$(sed -n 's/^scenario: *//p' "$work/out")" --seeds 1 \
		--first "$(sed -n 's/^seed: *//p' "$work/out")" >"$work/log" 2>&1; then
		echo "seed $(sed -n 's/^seed: *//p' "$work/out") fails without it, too"
	else
		echo "found, seed $(sed -n 's/^seed: *//p' "$work/out"): $(sed -n 's/^broken: *//p' "$work/out")"
		return 0
	fi
	return 1
}

found=0 missed=0
for p in "$top"/tests/sim/planted/*.patch; do
	name=$(basename "$p" .patch)
	[ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
	if what=$(try "$p"); then
		found=$((found + 1))
	else
		missed=$((missed + 1))
	fi
	echo "$name: $what"
done
echo "$found planted bugs found, $missed missed"
[ "$missed" -eq 0 ]
