#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# `make install DESTDIR=` puts each thing in its place and nowhere else, and
# `make uninstall` takes all of it away.

# shellcheck source-path=SCRIPTDIR source=build-lib.sh
. "$(dirname "$0")/build-lib.sh"

# variable FOLDER NAME: what make has for it
variable ()
{
  # shellcheck disable=SC2016 # make's variable
  printf 'include Makefile\nvalue-of:\n\t@echo "$(%s)"\n' "$2" |
    make -s --no-print-directory -C "$TOP_BUILDDIR/$1" -f - value-of
}

# installed PATTERN: there is such a file
installed ()
{
  # shellcheck disable=SC2086 # a pattern
  if compgen -G "$dest"$1 >/dev/null; then
    ok
  else
    no "not installed: $1"
  fi
}

dest=$work/dest
plugindir=$(variable plugins/farpage plugindir)
if make -C "$TOP_BUILDDIR" install DESTDIR="$dest" >"$work/log" 2>&1; then
  ok
else
  no "make install: $(tail -n 5 "$work/log")"
fi

# Where nbdkit itself looks, unless configure was told otherwise.
if [ "$plugindir" = "$(pkg-config --variable=plugindir nbdkit)" ] ||
  grep -q 'NBDKIT_PLUGINDIR=' "$TOP_BUILDDIR/config.status"; then
  ok
else
  no "plugindir is $plugindir"
fi
installed "$plugindir/nbdkit-farpage-plugin.so"
installed "$(variable client/tool bindir)/farpage"
installed "$(variable . docdir)/README.md"
for file in libfarpage.so.0 libfarpage.a pkgconfig/farpage.pc; do
  installed "$(variable client/pager libdir)/$file"
done
installed "$(variable client/pager includedir)/farpage.h"
installed "$(variable contrib bashcompdir)/farpage"
unitdir=$(variable contrib systemdsystemunitdir)
for unit in farpage.service farpage.socket farpage-attach@.service; do
  installed "$unitdir/$unit"
done
# A manual page for every one there is in the sources.
while read -r page; do
  page=${page##*/}
  installed "$(variable . mandir)/man${page##*.}/$page"
done < <(find "$TOP_SRCDIR/src" "$TOP_SRCDIR/plugins" "$TOP_SRCDIR/client" \
  -name '*.[1-8]')
installed "$(variable . mandir)/man1/farpage.1"

# No test, no helper, no library of one layer.
others=$(cd "$dest" && find . -type f | grep -vE -e \
  '/nbdkit-farpage-plugin\.(so|la)$|/bin/farpage$|/man/|/doc/|completions/' \
  -e '/libfarpage\.(so\.[0-9.]*|a|la)$|/include/farpage\.h$|/farpage\.pc$' \
  -e '/system/farpage(-attach@)?\.(service|socket)$')
if [ -z "$others" ]; then
  ok
else
  no "installed too: $others"
fi

# It is loaded from there: a plugin with a symbol missing is none.
if [ "$SANITIZERS" = no ]; then
  if nbdkit --dump-plugin "$dest$plugindir/nbdkit-farpage-plugin.so" \
    >"$work/dump" 2>&1 && grep -q '^name=farpage' "$work/dump"; then
    ok
  else
    no "nbdkit does not load it: $(head -n 3 "$work/dump")"
  fi
fi

make -C "$TOP_BUILDDIR" uninstall DESTDIR="$dest" >"$work/log" 2>&1
left=$(find "$dest" ! -type d)
if [ -z "$left" ]; then
  ok
else
  no "make uninstall leaves $left"
fi
finish_cases
