#!/bin/bash
# rxe-vm.sh [BUILD|kernel] - test bed: nodeagent-probe with verbs on soft RoCE, inside a virtual machine
#
# QEMU without KVM boots Debian's kernel (unpacked, not installed) and busybox.
# Three rails go down and up, are unplugged and plugged in while the probe
# listens to their events; then a standalone cluster runs there, and the time is
# taken until nodectl shows an event. Packages: make deps-testbeds. The kernel's package is
# kept in .check/testbeds. Leaves nothing running.
set -eu
cd "$(dirname "$0")/../.."
for tool in qemu-system-x86_64 rdma ibv_devinfo busybox; do
	command -v "$tool" >/dev/null || {
		echo "rxe-vm.sh: $tool is not installed: make deps-testbeds" >&2
		exit 1
	}
done
kernel=.check/testbeds/kernel
if ! compgen -G "$kernel/boot/vmlinuz-*" >/dev/null; then
	command -v apt-get >/dev/null || {
		echo "rxe-vm.sh: needs apt-get for Debian's kernel" >&2
		exit 1
	}
	package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\).*/\1/p' | head -1)
	rm -rf "$kernel" && mkdir -p "$kernel/deb"
	(cd "$kernel/deb" && apt-get download -q "$package")
	dpkg -x "$kernel"/deb/*.deb "$kernel"
	rm -rf "$kernel/deb"
fi
[ "${1:-}" != kernel ] || exit 0 # that it is there is all that is asked for
PATH=$PATH:/usr/sbin PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/testbeds/rxe_vm.py "${1:-build}" "$kernel"
