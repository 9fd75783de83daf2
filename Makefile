# Makefile - builds build/nodeagentd build/nodectl build/nodeagent-*
#
#   make deps | make | make quickstart | make check | make bench | make sim SEEDS=n
#   make install DESTDIR= PREFIX=     SAN=1: address and undefined-behaviour sanitizers (build-san/)

CC ?= gcc
SAN ?= 0
B := $(if $(filter 1,$(SAN)),build-san,build)
PREFIX ?= /usr/local
PKGS := libuv libcjson openssl sqlite3 inih
CSTD := -std=gnu11
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wno-unused-parameter
HARD := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
CPPFLAGS += -D_GNU_SOURCE -I. -Idaemon
CFLAGS ?= -O2 -g
ALLCFLAGS = $(CSTD) $(WARN) $(CPPFLAGS) $(CFLAGS) -MMD -MP
ifeq ($(SAN),1)
ALLCFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDSAN := -fsanitize=address,undefined
else
ALLCFLAGS += $(HARD)
LDSAN := -pie -Wl,-z,relro,-z,now
endif
LINK = $(CC) $(LDSAN) $(LDFLAGS) -Wl,--as-needed -o $@ $^

COMMON := $(patsubst %.c,$(B)/%.o,$(wildcard common/*.c))
PROTO := $(patsubst %.c,$(B)/%.o,$(wildcard proto/*.c))
CORE := $(patsubst %.c,$(B)/%.o,$(wildcard daemon/core/*.c))
IO := $(patsubst %.c,$(B)/%.o,$(wildcard daemon/io/*.c))
SHIM := $(patsubst %.c,$(B)/%.o,$(wildcard daemon/shim/*.c))
LAUNCHER := $(patsubst %.c,$(B)/%.o,$(wildcard daemon/launcher/*.c))
CLIENT := $(patsubst %.c,$(B)/%.o,$(wildcard client/*.c))

PROGS := $(B)/nodeagentd $(B)/nodectl $(B)/nodeagent-shim $(B)/nodeagent-launcher

.PHONY: all clean
all: $(PROGS)

# common and proto as archives: every program takes what it uses
$(B)/libcommon.a: $(COMMON)
	@rm -f $@; $(AR) rcs $@ $^
$(B)/libproto.a: $(PROTO)
	@rm -f $@; $(AR) rcs $@ $^

$(B)/nodeagentd: $(B)/daemon/main.o $(IO) $(CORE) $(B)/libproto.a $(B)/libcommon.a
	$(LINK) -luv -lcjson -lssl -lcrypto -lsqlite3 -linih -lm
$(B)/nodectl: $(CLIENT) $(B)/libproto.a $(B)/libcommon.a
	$(LINK) -lcjson -lm
$(B)/nodeagent-shim: $(SHIM) $(B)/libproto.a $(B)/libcommon.a
	$(LINK) -lcjson -lm
# libc only, by design: root's program parses nothing
$(B)/nodeagent-launcher: $(LAUNCHER) $(B)/libcommon.a
	$(LINK)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALLCFLAGS) -c -o $@ $<

-include $(shell find $(B) -name '*.d' 2>/dev/null)

clean:
	rm -rf build build-san .check
