# SPDX-License-Identifier: Apache-2.0
#
# One makefile, no recursion. Each directory lists its objects in a Kbuild file:
#   objs-<name> := ...          sources of the library or program <name>
#
#   make                 the programs kvd, etcfs and kvctl and the libraries, under $(O)
#   make run [MNT=dir]   install what is missing, build, start one member, mount it
#   make check           install what is missing, build, run the tests
#   make deps            install the Debian packages
#   make sim [SEEDS=n]   simulate that many groups under faults
#   make coverage        which lines of the libraries the tests run
#   make fuzz [FUZZ_SECONDS=n]  look for inputs that trip an assertion (clang)
#   make install         DESTDIR= prefix=/usr/local
#   O=dir                where the build goes (default: build)
#   V=1                  show the commands
#   SAN=address,undefined  or SAN=thread: build with sanitizers

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

O       ?= build
SAN     ?=
V       ?= 0
prefix  ?= /usr/local
DESTDIR ?=
CC      ?= cc
ifeq ($(origin CC),default)
CC      := cc
endif
AR      := ar
VERSION := 0.1.0

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-7s %s\n' $(1) $(2)
endif

DEB_BUILD := build-essential pkg-config libuv1-dev libnghttp2-dev libprotobuf-c-dev \
	protobuf-c-compiler libdb5.3-dev libfuse3-dev fuse3 libcmocka-dev libjansson-dev \
	libyaml-dev libhttp-parser-dev libisal-dev libssl-dev libsystemd-dev
DEB_CHECK := universal-ctags

pkgs_lib  := libuv libnghttp2 libprotobuf-c jansson yaml-0.1
pkgs_kvd  := libisal libsystemd
pkgs_fuse := fuse3
have_deps := $(shell pkg-config --exists $(pkgs_lib) $(pkgs_kvd) $(pkgs_fuse) \
	cmocka openssl 2>/dev/null && test -e /usr/include/db.h && \
	test -e /usr/include/http_parser.h && command -v protoc-c >/dev/null && echo yes)

CFLAGS   ?= -O2 -g
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wpointer-arith -Wwrite-strings -Wundef -Wformat=2 -Wno-unused-parameter -Werror
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE
CPPFLAGS += -D_GNU_SOURCE -DKVD_VERSION='"$(VERSION)"' -Iinclude -I. -I$(O)
ifeq ($(SAN),)
CPPFLAGS += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif
ALL_CFLAGS := -std=gnu11 $(WARN) $(HARDEN) $(CFLAGS)
LDFLAGS  += -pie -Wl,-z,relro,-z,now -pthread
ifneq ($(SAN),)
ALL_CFLAGS += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS  += -fsanitize=$(SAN)
endif

ifeq ($(have_deps),yes)
CPPFLAGS += $(shell pkg-config --cflags $(pkgs_lib) $(pkgs_kvd) $(pkgs_fuse))
LIBS_LIB  := $(shell pkg-config --libs $(pkgs_lib)) -lhttp_parser -lcrypto
LIBS_KVD  := $(shell pkg-config --libs $(pkgs_kvd)) -ldb-5.3 $(LIBS_LIB)
LIBS_FUSE := $(shell pkg-config --libs $(pkgs_fuse)) $(LIBS_LIB)
LIBS_CTL  := $(LIBS_LIB)
endif

# --- what there is -----------------------------------------------------------

include $(wildcard libraft/Kbuild libmvcc/Kbuild lib/Kbuild kvd/Kbuild etcfs/Kbuild \
	ctl/Kbuild tests/Kbuild)

protos   := $(wildcard lib/proto/*.proto)
proto_c  := $(protos:%.proto=$(O)/%.pb-c.c)
proto_h  := $(protos:%.proto=$(O)/%.pb-c.h)
obj      = $(patsubst %.c,$(O)/obj/%.o,$(1))
o_raft   := $(call obj,$(addprefix libraft/,$(objs-raft)))
o_mvcc   := $(call obj,$(addprefix libmvcc/,$(objs-mvcc)))
o_lib    := $(call obj,$(addprefix lib/,$(objs-lib))) $(proto_c:.c=.o)
o_kvd    := $(call obj,$(addprefix kvd/,$(objs-kvd)))
o_etcfs  := $(call obj,$(addprefix etcfs/,$(objs-etcfs)))
o_ctl    := $(call obj,$(addprefix ctl/,$(objs-ctl)))
all_c    := $(wildcard lib*/*.c kvd/*.c etcfs/*.c ctl/*.c tests/*/*.c)

.PHONY: all
ifeq ($(have_deps),yes)
all: $(O)/kvd $(O)/etcfs $(O)/kvctl $(O)/libraft.a $(O)/libmvcc.a compile_commands.json
else
all:
	@echo 'make: packages are missing; run "make deps" as root (Debian 12), or "make run"' >&2
	@exit 1
endif

# Everything is rebuilt when the flags change.
flags := $(CC) $(ALL_CFLAGS) $(CPPFLAGS) $(LDFLAGS)
$(O)/.flags: FORCE
	@mkdir -p $(O)
	@printf '%s\n' "$(subst ",\",$(flags))" | cmp -s - $@ || \
		printf '%s\n' "$(subst ",\",$(flags))" > $@
.PHONY: FORCE
FORCE:

$(O)/obj/%.o: %.c $(O)/.flags | $(proto_h)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(CPPFLAGS) -include include/banned.h -MMD -MP -c -o $@ $<

# The commit that --version tells of; asked for only when that file is compiled.
git_sha = $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
$(O)/obj/kvd/version.o: CPPFLAGS += -DKVD_GIT_SHA='"$(git_sha)"'

$(O)/%.pb-c.o: $(O)/%.pb-c.c $(O)/.flags
	$(call say,CC,$<)
	$(Q)$(CC) -std=gnu11 $(HARDEN) $(CFLAGS) $(if $(SAN),-fsanitize=$(SAN)) $(CPPFLAGS) -MMD -MP -c -o $@ $<

$(O)/lib/proto/%.pb-c.c $(O)/lib/proto/%.pb-c.h &: lib/proto/%.proto
	$(call say,PROTOC,$<)
	@mkdir -p $(O)/lib/proto
	$(Q)protoc-c --c_out=$(O) -I. $<
.SECONDARY: $(proto_c) $(proto_h)

define archive
	$(call say,AR,$@)
	$(Q)rm -f $@
	$(Q)$(AR) rcsD $@ $^
endef
$(O)/libraft.a: $(o_raft) ; $(archive)
$(O)/libmvcc.a: $(o_mvcc) ; $(archive)
$(O)/lib.a: $(o_lib) ; $(archive)
# The daemon without its main(): what the simulator and the unit tests link.
$(O)/kvd.a: $(filter-out $(O)/obj/kvd/main.o,$(o_kvd)) ; $(archive)
$(O)/etcfs.a: $(filter-out $(O)/obj/etcfs/main.o,$(o_etcfs)) ; $(archive)
$(O)/ctl.a: $(filter-out $(O)/obj/ctl/main.o,$(o_ctl)) ; $(archive)

define link
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o %.a,$^)
endef
$(O)/kvd: $(O)/obj/kvd/main.o $(O)/kvd.a $(O)/libraft.a $(O)/libmvcc.a $(O)/lib.a
	$(link) $(LIBS_KVD)
$(O)/etcfs: $(O)/obj/etcfs/main.o $(O)/etcfs.a $(O)/lib.a
	$(link) $(LIBS_FUSE)
$(O)/kvctl: $(O)/obj/ctl/main.o $(O)/ctl.a $(O)/lib.a
	$(link) $(LIBS_CTL)

# --- tests: tests/unit/X.c is the program $(O)/tests/unit/X ------------------
# A test says what it needs beyond libraft, libmvcc and lib with the first lines
# of tests/Kbuild (kvd_tests, etcfs_tests, ctl_tests: those that link the daemon,
# the mount or the CLI without its main).

units := $(patsubst %.c,$(O)/%,$(wildcard tests/unit/*.c))
$(O)/tests/unit/%: $(O)/obj/tests/unit/%.o $(O)/libraft.a $(O)/libmvcc.a $(O)/lib.a
	$(link) $(LIBS_KVD) -lcmocka
$(addprefix $(O)/tests/unit/,$(kvd_tests)): $(O)/tests/unit/%: $(O)/obj/tests/unit/%.o \
		$(O)/kvd.a $(O)/libraft.a $(O)/libmvcc.a $(O)/lib.a
	$(link) $(LIBS_KVD) -lcmocka
$(addprefix $(O)/tests/unit/,$(etcfs_tests)): $(O)/tests/unit/%: $(O)/obj/tests/unit/%.o \
		$(O)/etcfs.a $(O)/lib.a
	$(link) $(LIBS_FUSE) -lcmocka
$(addprefix $(O)/tests/unit/,$(ctl_tests)): $(O)/tests/unit/%: $(O)/obj/tests/unit/%.o \
		$(O)/ctl.a $(O)/lib.a
	$(link) $(LIBS_CTL) -lcmocka

# Programs that the scripts under tests/ run.
tools := $(O)/tests/diff/replay $(addprefix $(O)/tests/fault/,kill ask kvd_power)
$(O)/tests/diff/replay: $(O)/obj/tests/diff/replay.o $(O)/obj/tests/diff/message.o $(O)/lib.a
$(O)/tests/fault/kill: $(call obj,tests/fault/kill.c tests/fault/member.c) $(O)/lib.a
$(O)/tests/fault/ask: $(O)/obj/tests/fault/ask.o $(O)/obj/tests/diff/message.o $(O)/lib.a
$(O)/tests/fault/kvd_power: $(call obj,$(addprefix tests/fault/,kvd_power.c member.c cuts.c \
	image.c shim.c)) $(O)/lib.a
$(tools):
	$(link) $(LIBS_LIB)

# kvd, with all its calls that touch files going through shim.c.
traced := $(O)/tests/fault/kvd
$(traced): $(call obj,kvd/main.c tests/fault/shim.c) $(O)/kvd.a $(O)/libraft.a $(O)/libmvcc.a \
		$(O)/lib.a
	$(link) $(LIBS_KVD)

# libraft's proof: scripts, and a simulator; they link nothing but libraft. And kvd's core
# in libraft's place.
sim := $(O)/raft_script $(O)/raft_sim $(O)/kvd_sim
$(O)/raft_script: $(call obj,$(addprefix tests/sim/,raft_script.c script_conf.c \
	script_group.c script_seen.c script_work.c)) $(O)/libraft.a
world := run.c world.c net.c disk.c chaos.c calm.c check.c
$(O)/raft_sim: $(call obj,$(addprefix tests/sim/,raft_sim.c node.c client.c links.c $(world))) \
	$(O)/libraft.a
$(O)/kvd_sim: $(call obj,$(addprefix tests/sim/,kvd_sim.c kvd_node.c kvd_store.c kvd_client.c \
	kvd_watch.c kvd_model.c $(world))) $(O)/kvd.a $(O)/libraft.a $(O)/libmvcc.a $(O)/lib.a
$(sim):
	$(link) $(if $(filter %/kvd_sim,$@),$(LIBS_KVD))

# make sim SEEDS=n: that many groups under every class of faults
SEEDS ?= 1000
.PHONY: sim
sim: $(O)/raft_sim $(O)/kvd_sim
	@$(O)/raft_sim --seeds $(SEEDS)
	@$(O)/kvd_sim --seeds $$(( $(SEEDS) / 10 ))

# What libmvcc does a second, beside what the machine does.
bench += $(O)/tests/bench/mvcc_bench
$(O)/tests/bench/mvcc_bench: $(call obj,$(addprefix tests/bench/,mvcc_bench.c \
	mvcc_bench_limits.c)) $(O)/libmvcc.a
	$(link) -ldb-5.3

# How long a put can take beside what frees history.
bench += $(O)/tests/bench/pause
$(O)/tests/bench/pause: $(call obj,$(addprefix tests/bench/,pause.c witness.c)) $(O)/lib.a
	$(link) $(LIBS_LIB)

# What libraft costs; the link lets the program count what is allocated.
bench += $(O)/tests/bench/raft_bench
$(O)/tests/bench/raft_bench: $(O)/obj/tests/bench/raft_bench.o $(O)/libraft.a
	$(link) $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc free)
comma := ,

# make fuzz [FUZZ_SECONDS=n]: libFuzzer, which comes with clang
FUZZ_SECONDS ?= 60
fuzzers := $(O)/fuzz/raft_step_fuzz
$(O)/fuzz/%: tests/fuzz/%.c $(addprefix libraft/,$(objs-raft)) $(wildcard libraft/*.h include/*.h)
	$(call say,CLANG,$@)
	@mkdir -p $(@D)
	$(Q)clang -std=gnu11 -O1 -g -D_GNU_SOURCE -Iinclude -I. -fno-omit-frame-pointer \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $(filter %.c,$^)
.PHONY: fuzz
fuzz: $(fuzzers)
	@for f in $(notdir $^); do O=$(abspath $(O)) tests/fuzz/run.sh $$f $(FUZZ_SECONDS) || exit; done

# What happens to the store when disks, memory and power fail.
fault := $(addprefix $(O)/tests/fault/,power error damage memory)
$(fault): $(O)/tests/fault/%: $(call obj,$(addprefix tests/fault/,%.c shim.c image.c model.c \
	verify.c looks.c points.c cuts.c)) $(O)/libmvcc.a
	$(link) -ldb-5.3
$(O)/tests/fault/memory: private LDFLAGS += \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup

# make coverage [MISSED=1]: which lines of libmvcc and libraft the tests run
cover := CFLAGS='-O0 -g --coverage -Wno-maybe-uninitialized' \
	LDFLAGS='--coverage -Wl,--wrap=_exit $(O)/coverage/obj/tests/coverage.o'
.PHONY: coverage
coverage:
	@$(cover) $(MAKE) O=$(O)/coverage $(O)/coverage/obj/tests/coverage.o
	@$(cover) $(MAKE) O=$(O)/coverage units fault raft_script
	@MISSED=$(MISSED) tests/coverage.sh $(O)/coverage

# Kept, although only the test programs ask for them.
.SECONDARY: $(call obj,$(wildcard tests/*/*.c))

.PHONY: units tools fault raft_script check deps run install uninstall clean peer
units: $(units)
tools: $(tools) $(traced) $(sim) $(fault) $(bench)
fault: $(fault)
raft_script: $(O)/raft_script

deps:
	@if [ "$$(id -u)" != 0 ]; then \
		echo 'make deps: run as root: it installs Debian packages with apt-get' >&2; exit 1; fi
	@apt-get update -qq
	@DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(DEB_BUILD) $(DEB_CHECK) >/dev/null

ifeq ($(have_deps),yes)
run: $(O)/kvd $(O)/etcfs $(O)/kvctl
	@tests/run.sh $(O) $(MNT)
check: all units tools
	@tests/check.sh $(O)
else
# The packages come first; then the same goal again, which now finds them.
run check:
	@$(MAKE) deps
	@$(MAKE) $@
endif

# The reference, etcd 3.7.1, and the programs that drive it. Needs Go >= 1.26.
peer:
	$(call say,GO,tests/peer)
	@mkdir -p $(O)/peer
	$(Q)cd tests/peer && go build -o $(abspath $(O))/peer/ ./...

compile_commands.json: $(O)/.flags Makefile
	@{ echo '['; sep=; for f in $(all_c); do \
		printf '%s{"directory":"%s","file":"%s","command":"%s"}\n' "$$sep" "$(CURDIR)" \
		"$$f" '$(CC) -std=gnu11 $(filter-out -DKVD_VERSION=%,$(CPPFLAGS)) -c '"$$f"; sep=,; \
	done; echo ']'; } > $@

install: all
	install -d $(DESTDIR)$(prefix)/sbin $(DESTDIR)$(prefix)/bin
	install -m 755 $(O)/kvd $(O)/etcfs $(DESTDIR)$(prefix)/sbin/
	install -m 755 $(O)/kvctl $(DESTDIR)$(prefix)/bin/
	install -d $(DESTDIR)$(prefix)/share/man/man8 $(DESTDIR)$(prefix)/share/man/man1
	install -m 644 docs/kvd.8 docs/etcfs.8 $(DESTDIR)$(prefix)/share/man/man8/
	install -m 644 docs/kvctl.1 $(DESTDIR)$(prefix)/share/man/man1/

uninstall:
	rm -f $(addprefix $(DESTDIR)$(prefix)/,sbin/kvd sbin/etcfs bin/kvctl \
		share/man/man8/kvd.8 share/man/man8/etcfs.8 share/man/man1/kvctl.1)

clean:
	rm -rf $(O) compile_commands.json

-include $(shell find $(O) -name '*.d' 2>/dev/null)
