#!/bin/bash
# pack_portable.sh [FOLDER] - programs and the shared libraries they need, to be carried to a machine without packages
#
# FOLDER (default build/portable) gets bin/ and lib/; the programs find
# lib/ by their own place ($ORIGIN/../lib), so LD_LIBRARY_PATH stays alone and
# jobs never see our libraries. The C library is the target's: one at least as
# new as this machine's; so is libibverbs (rdma-core).
set -eu
cd "$(dirname "$0")/../.."
out=${1:-build/portable}
make --no-print-directory -j2 B="$out/obj" LDFLAGS="-Wl,-rpath,'\$\$ORIGIN/../lib'" all worker bench-programs >/dev/null
rm -rf "${out:?}/bin" "${out:?}/lib"
mkdir -p "$out/bin" "$out/lib"
for p in nodeagentd nodectl nodeagent-shim nodeagent-launcher nodeagent-probe nodeagent-nccl worker-allreduce; do
	[ -e "$out/obj/$p" ] || continue # the probe needs libibverbs and hwloc
	install -m 755 "$out/obj/$p" "$out/bin/$p"
	strip "$out/bin/$p"
done
for p in "$out"/bin/*; do
	ldd "$p" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | while read -r lib; do
		case ${lib##*/} in
		libc.so* | libm.so* | libpthread.so* | libdl.so* | librt.so* | ld-linux*) ;; # the target's own
		libibverbs.so* | libnl-* | libudev.so*) ;; # so are these: libibverbs goes with its host's drivers only
		*) [ -e "$out/lib/${lib##*/}" ] || cp -L "$lib" "$out/lib/" ;;
		esac
	done
done
cp tests/bench/gpu_two.sh tests/bench/ddp_steps.py tests/bench/nccl_allreduce.c "$out/"
rm -rf "$out/obj"
du -sh "$out" | sed 's/^/packed: /'
