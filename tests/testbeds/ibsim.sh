#!/bin/bash
# ibsim.sh [BUILD [short|fix]] - test bed: a simulated InfiniBand fabric with a real subnet manager
#
# The users' own fault is shown and read: ports stay Initializing until a subnet
# manager configures them. What nodeagent-probe says by itself, and what nodectl
# shows of a standalone cluster, is compared, field by field, with ibstat's words.
# Packages: make deps-testbeds. Leaves nothing behind. The short form (the states
# of one port) is a part of `make check`; fix, as root: only nodectl fix sm, by which the
# launcher restarts an opensm that was killed.
set -eu
cd "$(dirname "$0")/../.."
for tool in ibsim opensm ibstat; do
	command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || {
		echo "ibsim.sh: $tool is not installed: make deps-testbeds" >&2
		exit 1
	}
done
PATH=$PATH:/usr/sbin PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/testbeds/ibsim.py "${1:-build}" ${2:+"$2"}
