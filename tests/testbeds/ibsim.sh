#!/bin/bash
# ibsim.sh - test bed: a simulated InfiniBand fabric with a real subnet manager
#
# The users' own fault is shown and read: ports stay Initializing until a subnet
# manager configures them. nodeagent-probe's words are compared, field by field,
# with ibstat's. Packages: make deps-testbeds. Leaves nothing behind.
set -eu
cd "$(dirname "$0")/../.."
for tool in ibsim opensm ibstat; do
	command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || {
		echo "ibsim.sh: $tool is not installed: make deps-testbeds" >&2
		exit 1
	}
done
PATH=$PATH:/usr/sbin PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/testbeds/ibsim.py "${1:-build}"
