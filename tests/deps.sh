#!/bin/bash
# deps.sh build|check|bench|testbeds|bed-NAME - installs Debian, Ubuntu, Fedora or RHEL packages
#
# Does nothing when all are there. Without root and sudo it lists what is
# missing and stops: with 1 when the set cannot do without, with 0 when only
# optional ones (a test or a peer is then skipped and says so) are missing.
set -u
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
what=${1:-check}

# What a set consists of; names ending in -opt are optional.
packages() { # apt|dnf set
	case $1-$2 in
	apt-build) echo gcc make pkg-config libc6-dev libuv1-dev libcjson-dev libssl-dev libsqlite3-dev libinih-dev libyaml-dev libibverbs-dev \
		libhwloc-dev python3 ;;
	apt-check) echo libcmocka-dev python3-pytest clang clang-tidy cppcheck patch ;;
	apt-check-opt) echo shellcheck mandoc iproute2 nftables strace zsh ;;
	apt-bench-opt) echo mpich pdsh ;;
	apt-testbeds) echo iproute2 nftables e2fsprogs qemu-system-x86 systemd-container debootstrap ibsim-utils libumad2sim0 opensm \
		infiniband-diags rdma-core ibverbs-utils busybox-static ;;
	# of one bed of make diagnosis; a bed that is not named here needs nothing beside build
	apt-bed-ibsim) echo ibsim-utils libumad2sim0 opensm infiniband-diags rdma-core ;;
	apt-bed-rxe) echo qemu-system-x86 rdma-core ibverbs-utils iproute2 busybox-static ;;
	apt-bed-hosts | apt-bed-hosts-fed | apt-bed-memory) echo iproute2 nftables e2fsprogs ;;
	dnf-bed-ibsim) echo opensm infiniband-diags rdma-core ;;
	dnf-bed-rxe) echo qemu-system-x86 rdma-core libibverbs-utils iproute busybox ;;
	dnf-bed-hosts | dnf-bed-hosts-fed | dnf-bed-memory) echo iproute nftables e2fsprogs ;;
	dnf-build) echo gcc make pkgconf-pkg-config glibc-devel libuv-devel cjson-devel openssl-devel sqlite-devel inih-devel libyaml-devel \
		rdma-core-devel hwloc-devel python3 ;;
	dnf-check) echo libcmocka-devel python3-pytest clang clang-tools-extra compiler-rt libasan libubsan cppcheck patch ;;
	dnf-check-opt) echo ShellCheck mandoc iproute nftables strace zsh ;;
	dnf-bench-opt) echo mpich pdsh ;;
	dnf-testbeds) echo iproute nftables e2fsprogs qemu-system-x86 systemd-container debootstrap opensm infiniband-diags rdma-core \
		libibverbs-utils busybox ;;
	esac
}

say() { printf '%s\n' "deps: $*"; }

if command -v apt-get >/dev/null; then
	kind=apt
elif command -v dnf >/dev/null; then
	kind=dnf
else
	say "neither apt-get nor dnf here; install by hand what README.md lists, then go on with make"
	exit 1
fi

present() { # package
	if [ $kind = apt ]; then
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
	else
		rpm -q "$1" >/dev/null 2>&1
	fi
}

missing() { # packages...
	local p
	for p; do present "$p" || printf '%s ' "$p"; done
}

fuzzer_present() {
	local d
	d=$(mktemp -d) || return 1
	echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { (void)p; return (int)(n * 0); }' >"$d/a.c"
	clang -fsanitize=fuzzer,address -o "$d/a" "$d/a.c" >/dev/null 2>&1
	local rc=$?
	rm -rf "$d"
	return $rc
}

# libFuzzer and the sanitizers' runtime: the package carries clang's version in its name
fuzzer_package() {
	[ $kind = apt ] || return 0
	fuzzer_present && return 0
	local v
	v=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -1)
	[ -n "$v" ] && printf 'libclang-rt-%s-dev ' "$v"
}

case $what in
build) sets=build ;;
check) sets="build check" ;;
bench) sets="build bench" ;;
testbeds | bed-*) sets=$what ;;
*)
	say "usage: deps.sh build|check|bench|testbeds|bed-NAME"
	exit 2
	;;
esac
need=
opt=
for s in $sets; do
	need="$need $(packages $kind "$s")" opt="$opt $(packages $kind "$s-opt")"
done

need_missing() {
	# shellcheck disable=SC2086 # lists of words
	missing $need
	[ "$what" != check ] || fuzzer_package
}
m=$(need_missing)
# shellcheck disable=SC2086
mo=$(missing $opt)
[ -n "$m$mo" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
	if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
		sudo=sudo
	elif [ -n "$m" ]; then
		say "missing packages, and neither root nor sudo to install them:"
		say "  $m"
		say "ask an administrator to run: ${kind/apt/apt-get} install $m"
		exit 1
	else
		say "optional packages are missing (their tests are skipped): $mo"
		exit 0
	fi
fi

say "installing $m$mo"
run() { if [ -n "$sudo" ]; then sudo env DEBIAN_FRONTEND=noninteractive "$@"; else "$@"; fi; }
if [ $kind = apt ]; then
	run apt-get update -q >/dev/null || say "apt-get update failed; going on with the lists that are there"
	m=$(need_missing) # names that depend on the lists
	install() { run apt-get install -q -y --no-install-recommends "$@" </dev/null; }
else
	install() { run dnf install -q -y "$@" </dev/null; }
fi
# opensm starts at its installation: on a host with InfiniBand it would join in.
case "$what-$kind" in testbeds-apt | bed-*-apt) may_start=1 ;; *) may_start= ;; esac
if [ -n "$may_start" ] && [ ! -e /usr/sbin/policy-rc.d ]; then
	trap 'run rm -f /usr/sbin/policy-rc.d' EXIT
	printf '#!/bin/sh\nexit 101\n' | run tee /usr/sbin/policy-rc.d >/dev/null
	run chmod 755 /usr/sbin/policy-rc.d
fi
if [ -n "$m" ]; then
	# shellcheck disable=SC2086
	install $m || {
		say "could not install: $m"
		exit 1
	}
fi
# nor is it to come with the next boot: the package enables it
case " $m " in *" opensm "*) [ $kind != apt ] || run systemctl disable opensm >/dev/null 2>&1 || true ;; esac
for p in $mo; do
	install "$p" >/dev/null 2>&1 || say "optional $p could not be installed; what needs it is skipped"
done
exit 0
