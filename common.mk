# SPDX-License-Identifier: BSD-2-Clause
# What every layer's Makefile.am shares. A layer names the lower layers that it
# may include in AM_CPPFLAGS; nothing else puts a layer on a compile line.

AM_CFLAGS = $(WARN_CFLAGS) $(SANITIZE_CFLAGS) -std=gnu11 -pthread \
	-fvisibility=hidden
AM_LDFLAGS = $(SANITIZE_CFLAGS) -pthread
# Objects once, as a shared library needs them; who makes an archive for others
# says so himself (client/pager).
AM_LIBTOOLFLAGS = --tag=disable-static
TESTS =
check_PROGRAMS =
noinst_PROGRAMS =
EXTRA_PROGRAMS =
CLEANFILES =
EXTRA_DIST =

# `make bench` and `make check-long` go through all layers; a layer with
# something to add makes bench-local or check-long-local depend on it.
.PHONY: bench bench-local check-long check-long-local
bench check-long:
	@for d in $(SUBDIRS); do \
	  test "$$d" = . || $(MAKE) -C "$$d" $@ || exit 1; done
	@$(MAKE) $@-local
bench-local check-long-local:
