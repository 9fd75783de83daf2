#!/bin/sh
# run.sh [NAME...] - does the simulator find the bugs planted here?
#
# Copies the tree to a temporary folder, applies each *.patch in turn, builds
# sim optimised and expects a failure within SEEDS seeds (10000) and SECONDS
# seconds (60) each. Prints one line a bug and a count; exit 1 when one was not
# found, or when the tree without any fails. A patch that does not apply any
# more counts as failed: mend it, the bug is still one.
set -eu
cd "$(dirname "$0")/../../.."
SEEDS=${SEEDS:-10000}
SECONDS_EACH=${SECONDS_EACH:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
mkdir -p "$work/tests"
cp -r Makefile common proto daemon client "$work/"
cp -r tests/sim "$work/tests/"
planted=$work/tests/sim/planted
cd "$work"

build() {
	make -s SAN=0 B="$work/b" "$work/b/sim" >"$work/log" 2>&1 || {
		tail -5 "$work/log"
		return 1
	}
}
found=0 missed=0
build
if ! b/sim --seeds 2000 >"$work/out"; then
	tail -4 "$work/out"
	echo "without a planted bug: FAILED"
	exit 1
fi
for p in "$planted"/*.patch; do
	name=$(basename "$p" .patch)
	[ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
	if ! patch -s -p1 <"$p"; then
		echo "$name: the patch does not apply"
		missed=$((missed + 1))
		cp -r "$OLDPWD/daemon" "$work/"
		continue
	fi
	if ! build; then
		echo "$name: does not build"
		missed=$((missed + 1))
	elif b/sim --seeds "$SEEDS" --seconds "$SECONDS_EACH" >"$work/out" 2>&1; then
		echo "$name: NOT FOUND within $SEEDS seeds"
		missed=$((missed + 1))
	else
		echo "$name: found, seed $(sed -n 's/^seed: *//p' "$work/out"): $(sed -n 's/^broken: *//p' "$work/out")"
		found=$((found + 1))
	fi
	patch -s -R -p1 <"$p"
done
echo "$found planted bugs found, $missed missed"
[ "$missed" -eq 0 ]
