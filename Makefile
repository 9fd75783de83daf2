# Makefile - builds build/nodeagentd build/nodectl build/nodeagent-*
#
#   make deps           install what building and `make check` need (root or sudo), once
#   make                build/            make SAN=1: address and undefined-behaviour sanitizers, build-san/
#   make quickstart     deps, build, a cluster of two virtual nodes, a real job; leaves nothing running
#   make check          deps, build, all tests; the last line counts them (SUITES="unit system": only these)
#   make bench          figures beside what other launchers need on the same machine
#   make sim SEEDS=n    the simulator, optimised           make fuzz FUZZ_S=n   each decoder for n seconds
#   make sim-exhaustive a crash after every action of its scenarios, and PAIRS=n pairs of crashes of each
#   make testbed-ibsim  ports of a simulated fabric with a real subnet manager
#   make testbed-rxe    a virtual machine with soft RoCE: events, hot unplug, several rails
#   make diagnosis [ONLY=ID,...]   about 260 classes of faults, injected one by one: what is told, after how long, what else
#   make testbed-checkpoint  a PyTorch training comes back at its step after a node is lost
#   make testbed-torch  ranks below the real torchrun: PyTorch for the CPU, from the Python index
#   make testbed-systemd    the installed units under a real systemd in containers; root
#   make testbed-violence FAULTS=500 [SEED=n]   eight hosts in namespaces, jobs all the time, random faults; root
#   make testbed-upgrade [FROM=commit]   programs of an earlier commit replaced under running jobs
#   make testbed-allocations  each allocation of the real coordinator fails once (ROLE=agent: of an agent; half an hour)
#   make testbed-failures   each system call of each daemon fails once, and all of a kind for a while (minutes)
#   make help           this list                          make V=1: whole compile commands
#   make lint           warnings of gcc and clang, cppcheck, clang-tidy, shellcheck, mandoc
#   make install DESTDIR= PREFIX=                          make uninstall      make purge: configuration and state too
#
# CC=clang works as well as CC=gcc; B=DIR builds somewhere else.

ifeq ($(origin CC),default)
CC := gcc
endif
SAN ?= 0
B := $(if $(filter 1,$(SAN)),build-san,build)
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
SEEDS ?= 20000
PAIRS ?= 2000
FAULTS ?= 500
SEED ?=
FUZZ_S ?= 60
SUITES ?=
PKGS := libuv libcjson openssl sqlite3 inih yaml-0.1
CSTD := -std=gnu11
WERROR ?= -Werror
WARN := -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wno-unused-parameter
HARD := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
CPPFLAGS += -D_GNU_SOURCE -I. -Idaemon
CFLAGS ?= -O2 -g
ALLCFLAGS = $(CSTD) $(WARN) $(CPPFLAGS) $(CFLAGS) -MMD -MP
ifeq ($(SAN),1)
ALLCFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDSAN := -fsanitize=address,undefined
else ifeq ($(SAN),fuzz) # clang only: see `make fuzz`
ALLCFLAGS += -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDSAN := -fsanitize=address,undefined
else
ALLCFLAGS += $(HARD)
LDSAN := -pie -Wl,-z,relro,-z,now
endif
LINK = $(Q)$(if $(Q),echo "  LD   $(patsubst $(B)/%,%,$@)" &&) $(CC) $(LDSAN) $(LDFLAGS) -Wl,--as-needed -o $@ $^

objects = $(patsubst %.c,$(B)/%.o,$(wildcard $(1)/*.c))
COMMON := $(call objects,common)
PROTO := $(call objects,proto)
CORE := $(call objects,daemon/core)
IO := $(call objects,daemon/io)
SHIM := $(call objects,daemon/shim)
LAUNCHER := $(call objects,daemon/launcher)
CLIENT := $(call objects,client)
HW := $(call objects,daemon/hw)
PROBE := $(call objects,daemon/probe)
NCCL := $(call objects,daemon/nccl)

PROGS := $(B)/nodeagentd $(B)/nodectl $(B)/nodeagent-shim $(B)/nodeagent-launcher $(B)/nodeagent-nccl
# readings of hardware want libibverbs and hwloc; without them nodes run jobs and show no ports
HWLIBS := $(shell pkg-config --libs libibverbs hwloc 2>/dev/null)
ifneq ($(HWLIBS),)
PROGS += $(B)/nodeagent-probe
endif
WORKER := $(B)/worker-allreduce

# `make V=1` shows whole commands, and so does make -n
Q := $(if $(filter 1,$(V)),,@)
short = @$(if $(filter 1,$(V)),:,echo "  $(1) $(patsubst $(B)/%,%,$@)")

.PHONY: all worker clean help
all: $(PROGS)
	@$(if $(HWLIBS),:,echo "no libibverbs and hwloc to build against: nodeagent-probe is left out")
worker: $(WORKER)

# common and proto as archives: every program takes what it uses
$(B)/libcommon.a: $(COMMON)
	@rm -f $@; $(AR) rcs $@ $^
$(B)/libproto.a: $(PROTO)
	@rm -f $@; $(AR) rcs $@ $^

DAEMONLIBS := -luv -lcjson -lssl -lcrypto -lsqlite3 -linih -lm
$(B)/nodeagentd: $(B)/daemon/main.o $(IO) $(CORE) $(B)/libproto.a $(B)/libcommon.a
	$(LINK) $(DAEMONLIBS)
$(B)/nodectl: $(CLIENT) $(B)/libproto.a $(B)/libcommon.a
	$(LINK) -lcjson -lyaml -lm
$(B)/nodeagent-shim: $(SHIM) $(B)/libproto.a $(B)/libcommon.a
	$(LINK) -lcjson -lm -pthread
# libc only, by design: root's program parses nothing
$(B)/nodeagent-launcher: $(LAUNCHER) $(B)/libcommon.a
	$(LINK)

# CUDA and NCCL are those of the environment under test: loaded at run time
$(B)/nodeagent-nccl: $(NCCL) $(B)/libcommon.a
	$(LINK) -lcjson -ldl -lm

$(B)/nodeagent-probe: $(PROBE) $(HW) $(B)/libproto.a $(B)/libcommon.a
	$(LINK) $(HWLIBS) -lcjson -ldl -pthread -lm

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call short,CC  )
	$(Q)$(CC) $(ALLCFLAGS) -c -o $@ $<

# ---- test programs ------------------------------------------------------

$(WORKER): $(B)/tests/worker/allreduce.o
	$(LINK) -lm

# Everything but the mains, as archives: a test takes the object it names.
# client/ and daemon/io/ have link.o each, so a test gets one or the other.
LIBS := core io shim launcher client nccl $(if $(HWLIBS),hw probe)
$(B)/libcore.a: $(CORE)
$(B)/libio.a: $(IO)
$(B)/libshim.a: $(filter-out %/main.o,$(SHIM))
$(B)/liblauncher.a: $(filter-out %/main.o,$(LAUNCHER))
$(B)/libclient.a: $(filter-out %/main.o,$(CLIENT))
$(B)/libnccl.a: $(filter-out %/main.o,$(NCCL))
$(B)/libhw.a: $(HW)
$(B)/libprobe.a: $(filter-out %/main.o,$(PROBE))
$(LIBS:%=$(B)/lib%.a):
	@rm -f $@; $(AR) rcs $@ $^

ARCHIVES := $(LIBS:%=$(B)/lib%.a) $(B)/libproto.a $(B)/libcommon.a
uses = $(shell grep -lE '$(2)' $(1))
libs_of = -Wl,--start-group $(if $(call uses,$(1),include "client/),$(filter-out %/libio.a,$(ARCHIVES)),$(filter-out \
  %/libclient.a,$(ARCHIVES))) -Wl,--end-group $(DAEMONLIBS) -lyaml $(HWLIBS) -ldl -pthread

# tests/unit/test_*.c are cmocka programs, the other files there are helpers;
# a test that includes failmalloc.h meets a failing malloc.
UNIT := $(patsubst %.c,$(B)/%,$(filter-out $(if $(HWLIBS),,tests/unit/test_hw_% tests/unit/test_probe%),\
  $(wildcard tests/unit/test_*.c)))
UNIT_HELP := $(patsubst %.c,$(B)/%.o,$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))
WRAP := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=strndup
$(UNIT): $(B)/%: $(B)/%.o $(UNIT_HELP) $(ARCHIVES)
	$(CC) $(LDSAN) $(LDFLAGS) -Wl,--as-needed -o $@ $< $(if $(call uses,$*.c,failmalloc.h),$(WRAP) \
	  $(UNIT_HELP),$(filter-out %/failmalloc.o,$(UNIT_HELP))) $(call libs_of,$*.c) -lcmocka

# A library of NVIDIA's that is none: complete, of an old driver, and of one too old
NVMLS := $(addprefix $(B)/tests/fake/,libnvml.so libnvml-old.so libnvml-older.so)
$(B)/tests/fake/libnvml.so: FAKE :=
$(B)/tests/fake/libnvml-old.so: FAKE := -DFAKE_OLD
$(B)/tests/fake/libnvml-older.so: FAKE := -DFAKE_OLDER
$(NVMLS): tests/fake/nvml.c daemon/hw/nvml_abi.h
	@mkdir -p $(@D)
	$(CC) $(filter-out -fPIE,$(ALLCFLAGS)) $(FAKE) -MF $@.d -fPIC -shared -o $@ $<
# System calls that fail on demand, for a program that preloads it: not sanitised, it may be there before the sanitiser
FAILCALL := $(addprefix $(B)/tests/fake/,libfailcall.so libfailmalloc.so libhost.so)
$(B)/tests/fake/libfailmalloc.so: FAKE := -DFAILCALL_MALLOC
$(B)/tests/fake/libfailcall.so $(B)/tests/fake/libfailmalloc.so: tests/fake/failcall.c
$(B)/tests/fake/libhost.so: tests/fake/host.c
$(FAILCALL):
	@mkdir -p $(@D)
	$(CC) $(filter-out -fPIE -fsanitize% -fno-sanitize% -D_FORTIFY_SOURCE%,$(ALLCFLAGS)) $(FAKE) -MF $@.d -fPIC -shared -o $@ $<
# CUDA and NCCL that are none, as an environment keeps them
FAKE_ENV := $(addprefix $(B)/tests/fake/env/lib/,libcudart.so.12 libnccl.so.2)
$(B)/tests/fake/env/lib/libcudart.so.12: tests/fake/cudart.c
$(B)/tests/fake/env/lib/libnccl.so.2: tests/fake/nccl.c
$(FAKE_ENV): daemon/nccl/abi.h
	@mkdir -p $(@D)
	$(CC) $(filter-out -fPIE -fsanitize% -fno-sanitize%,$(ALLCFLAGS)) -MF $@.d -fPIC -shared -o $@ $(filter %.c,$^) -ldl
FAKES := $(NVMLS) $(FAILCALL) $(FAKE_ENV)

SIM := $(call objects,tests/sim)
SIM_ARCHIVES := $(B)/libcore.a $(B)/libshim.a $(B)/libproto.a $(B)/libcommon.a
SIM_STORE := $(addprefix $(B)/daemon/io/,store_db.o store_group.o)
$(B)/sim: $(SIM) $(SIM_STORE) $(SIM_ARCHIVES)
	$(CC) $(LDSAN) $(LDFLAGS) -Wl,--as-needed -o $@ $(SIM) $(SIM_STORE) -Wl,--start-group $(SIM_ARCHIVES) -Wl,--end-group $(DAEMONLIBS)

# The way of a rank's output: the agent's and the client's part of it are no cores, and run on a world of their own
FLOW_PARTS := $(addprefix $(B)/daemon/io/,bulk.o bulk_follow.o bulk_part.o bulk_serve.o bulk_source.o bulk_spool.o \
  bulk_begin.o) $(addprefix $(B)/client/,streams.o sink.o label.o term.o) $(B)/daemon/shim/output.o
FLOW := $(call objects,tests/sim/output)
FLOW_WRAP := -Wl,--wrap=write,--wrap=fallocate,--wrap=spool_stream,--wrap=spool_stamps
$(B)/sim-output: $(FLOW) $(FLOW_PARTS) $(B)/libproto.a $(B)/libcommon.a
	$(CC) $(LDSAN) $(LDFLAGS) $(FLOW_WRAP) -Wl,--as-needed -o $@ $(FLOW) $(FLOW_PARTS) -Wl,--start-group $(B)/libproto.a \
	  $(B)/libcommon.a -Wl,--end-group -lcjson -lm

FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
$(FUZZERS): $(B)/%: $(B)/%.o $(ARCHIVES)
	$(CC) $(LDSAN) -fsanitize=fuzzer $(LDFLAGS) -Wl,--as-needed -o $@ $< \
	  $(call libs_of,$*.c)

BENCH := $(patsubst %.c,$(B)/%,$(filter-out tests/bench/nccl_%,$(wildcard tests/bench/*.c)))
$(BENCH): $(B)/%: $(B)/%.o
	$(LINK)

.PHONY: unit-programs sim-program fuzz-programs bench-programs fakes
unit-programs: $(UNIT) $(FAKES)
fakes: $(FAKES)
sim-program: $(if $(SIM),$(B)/sim $(B)/sim-output)
fuzz-programs: $(FUZZERS) $(ARCHIVES) $(B)/daemon/main.o $(WORKER)
bench-programs: $(BENCH)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- what people type ---------------------------------------------------

.PHONY: deps deps-build deps-bench deps-testbeds testbed-ibsim testbed-rxe testbed-systemd testbed-torch testbed-checkpoint \
  testbed-violence testbed-failures testbed-allocations testbed-upgrade diagnosis quickstart check bench sim sim-exhaustive fuzz lint install uninstall purge
help:
	@sed -n '2,/^$$/{s/^# \{0,1\}//;p}' Makefile
deps:
	@tests/deps.sh check
deps-build deps-bench deps-testbeds:
	@tests/deps.sh $(@:deps-%=%)

quickstart: deps-build
	@$(MAKE) --no-print-directory WERROR= all worker
	@tests/quickstart $(B)

check:
	@CC="$(CC)" tests/run-suites $(SUITES)

lint:
	@CC="$(CC)" LINT_FULL=1 tests/run-suites includes lint scripts man

sim:
	@$(MAKE) --no-print-directory SAN=0 sim-program
	build/sim --seeds $(SEEDS)
	build/sim-output --seeds $$(($(SEEDS) / 20))

sim-exhaustive:
	@$(MAKE) --no-print-directory SAN=0 sim-program
	build/sim --exhaustive --pairs $(PAIRS) --verbose

fuzz:
	@CC="$(CC)" FUZZ_S=$(FUZZ_S) tests/run-suites fuzz

testbed-ibsim testbed-rxe: deps-testbeds
	@$(MAKE) --no-print-directory SAN=0 all
	tests/testbeds/$(if $(filter %-rxe,$@),rxe-vm,ibsim).sh build

# Without root the beds that are not there are told, and their classes run from recorded readings.
diagnosis: deps-build
	@set -e; beds="$$(/usr/bin/python3 -B tests/diagnosis/run.py $(if $(ONLY),--only $(ONLY)) --beds)"; \
	for bed in $$beds; do tests/deps.sh bed-$$bed || true; done; \
	case " $$beds " in *" rxe "*) tests/testbeds/rxe-vm.sh kernel || true ;; esac
	@$(MAKE) --no-print-directory SAN=0 all worker fakes
	@/usr/bin/python3 -B tests/diagnosis/run.py $(if $(ONLY),--only $(ONLY)) $(if $(MARKDOWN),--markdown)

bench: deps-bench
	@$(MAKE) --no-print-directory SAN=0 all worker fakes bench-programs
	tests/bench/bench.py --build build

testbed-checkpoint:
	@$(MAKE) --no-print-directory SAN=0 all
	tests/testbeds/checkpoint.sh build

testbed-torch:
	@$(MAKE) --no-print-directory SAN=0 all
	tests/testbeds/torch.sh build

testbed-systemd: deps-testbeds
	@$(MAKE) --no-print-directory SAN=0 all
	tests/testbeds/systemd.sh build

testbed-violence: deps-build
	@$(MAKE) --no-print-directory SAN=0 all
	tests/testbeds/violence.py build --faults $(FAULTS) $(if $(SEED),--seed $(SEED))

testbed-upgrade: deps-build
	@$(MAKE) --no-print-directory SAN=0 all
	tests/testbeds/upgrade.py build $(FROM)

testbed-failures:
	@$(MAKE) --no-print-directory SAN=1 all fakes
	@$(MAKE) --no-print-directory SAN=0 all fakes
	NODEAGENT_SWEEP=all NODEAGENT_BUILD=build-san /usr/bin/python3 -m pytest -p no:cacheprovider -q -rP tests/system/test_failures.py \
	  tests/system/test_failures_launcher.py tests/system/test_limits.py

# each allocation of the real coordinator in a whole job, once: each costs a connection, so many parts wait beside each other
PARTS ?= 6
testbed-allocations:
	@$(MAKE) --no-print-directory SAN=1 all fakes
	@$(MAKE) --no-print-directory SAN=0 all fakes
	mkdir -p .check/logs; for k in $$(seq 0 $$(($(PARTS) - 1))); do \
	  NODEAGENT_SWEEP=$$k/$(PARTS) NODEAGENT_BUILD=build-san /usr/bin/python3 -m pytest -p no:cacheprovider -q -rP \
	    tests/system/test_failures.py -k "allocations and $(or $(ROLE),coordinator)" >.check/logs/allocations.$$k 2>&1 & pids="$$pids $$!"; \
	done; r=0; for p in $$pids; do wait $$p || r=1; done; grep -h "allocations have failed" .check/logs/allocations.*; \
	[ $$r = 0 ] || { grep -hE "^E  |FAILED" .check/logs/allocations.*; false; }

LIBEXEC := $(PREFIX)/libexec/nodeagent
SHARE := $(PREFIX)/share
UNITS := nodeagentd.service nodeagent-coordinator.service nodeagent-launcher.service nodeagent-launcher.socket
CONF := $(DESTDIR)$(SYSCONFDIR)/nodeagent
INSTALL = install -D
# Directories that install may have been the first to need, deepest first.
MAYBE_EMPTY := lib/systemd/system lib/systemd lib/sysusers.d lib/tmpfiles.d libexec share/bash-completion/completions \
  share/bash-completion share/zsh/site-functions share/zsh share/fish/vendor_completions.d share/fish \
  share/man/man1 share/man/man5 share/man/man8 share/doc
# The files name /usr/local; another PREFIX is written into them on the way.
install_text = sed 's|/usr/local|$(PREFIX)|g' $(1) >$(B)/.text && $(INSTALL) -m 644 $(B)/.text $(2) && rm -f $(B)/.text

install: all
	$(INSTALL) -m 755 $(B)/nodectl $(DESTDIR)$(PREFIX)/bin/nodectl
	$(INSTALL) -m 755 $(B)/nodeagentd $(DESTDIR)$(PREFIX)/sbin/nodeagentd
	$(INSTALL) -m 755 $(B)/nodeagent-shim $(DESTDIR)$(LIBEXEC)/nodeagent-shim
	$(INSTALL) -m 755 $(B)/nodeagent-launcher $(DESTDIR)$(LIBEXEC)/nodeagent-launcher
	$(INSTALL) -m 755 $(B)/nodeagent-nccl $(DESTDIR)$(LIBEXEC)/nodeagent-nccl
	$(if $(HWLIBS),$(INSTALL) -m 755 $(B)/nodeagent-probe $(DESTDIR)$(LIBEXEC)/nodeagent-probe)
	set -e; for m in docs/man/*.[1-8]; do \
	  $(call install_text,$$m,$(DESTDIR)$(SHARE)/man/man$${m##*.}/$${m##*/}); done
	$(INSTALL) -m 644 docs/json.md $(DESTDIR)$(SHARE)/doc/nodeagent/json.md
	set -e; for u in $(UNITS); do $(call install_text,systemd/$$u,$(DESTDIR)$(PREFIX)/lib/systemd/system/$$u); done
	$(call install_text,systemd/sysusers.conf,$(DESTDIR)$(PREFIX)/lib/sysusers.d/nodeagent.conf)
	$(call install_text,systemd/tmpfiles.conf,$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/nodeagent.conf)
	$(call install_text,systemd/nodeagentd.conf,$(DESTDIR)$(SHARE)/doc/nodeagent/nodeagentd.conf)
	$(INSTALL) -m 644 systemd/launcher.env $(DESTDIR)$(SHARE)/doc/nodeagent/launcher.env
	set -e; for f in nodeagentd.conf launcher.env; do test -e $(CONF)/$$f || \
	  $(INSTALL) -m 644 $(DESTDIR)$(SHARE)/doc/nodeagent/$$f $(CONF)/$$f; done
	set -e; for c in $(wildcard client/completion/*); do case $$c in \
	  *.bash) $(INSTALL) -m 644 $$c $(DESTDIR)$(SHARE)/bash-completion/completions/nodectl;; \
	  *.fish) $(INSTALL) -m 644 $$c $(DESTDIR)$(SHARE)/fish/vendor_completions.d/nodectl.fish;; \
	  *.zsh|*/_nodectl) $(INSTALL) -m 644 $$c $(DESTDIR)$(SHARE)/zsh/site-functions/_nodectl;; esac; done

# Configuration and state (/etc/nodeagent, /var/lib/nodeagent) are left: they are yours; purge takes them too.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/nodectl $(DESTDIR)$(PREFIX)/sbin/nodeagentd
	rm -rf $(DESTDIR)$(LIBEXEC) $(DESTDIR)$(SHARE)/doc/nodeagent
	for m in docs/man/*.[1-8]; do rm -f $(DESTDIR)$(SHARE)/man/man$${m##*.}/$${m##*/}; done
	rm -f $(UNITS:%=$(DESTDIR)$(PREFIX)/lib/systemd/system/%)
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/nodeagent.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/nodeagent.conf
	rm -f $(DESTDIR)$(SHARE)/bash-completion/completions/nodectl $(DESTDIR)$(SHARE)/zsh/site-functions/_nodectl \
	  $(DESTDIR)$(SHARE)/fish/vendor_completions.d/nodectl.fish
	-rmdir $(MAYBE_EMPTY:%=$(DESTDIR)$(PREFIX)/%) 2>/dev/null || true

purge: uninstall
	rm -rf $(CONF) $(DESTDIR)/var/lib/nodeagent $(DESTDIR)/run/nodeagent $(DESTDIR)/run/nodeagent-coordinator

clean:
	rm -rf build build-san .check
