# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What the tests of this folder share.  Each case ends in `ok` or `no`; the
# script ends with `finish_cases`.
#
# Environment: TOP_SRCDIR, TOP_BUILDDIR.

set -u
export LC_ALL=C.UTF-8
PATH=$PATH:/usr/sbin:/sbin
# A make above this script is none of this script's makes'.
unset MAKEFLAGS MFLAGS MAKELEVEL GNUMAKEFLAGS
: "${TOP_SRCDIR:?}" "${TOP_BUILDDIR:?}"

test_name=$(basename "$0" .sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cases=0
bad=0

ok ()
{
  cases=$((cases + 1))
}

no ()
{
  cases=$((cases + 1))
  bad=$((bad + 1))
  printf 'FAILED: %s\n' "$*"
}

skip ()
{
  printf 'SKIP: %s\n' "$*"
  exit 77
}

# compile_lines FOLDER: one for each set of preprocessor flags that it has
compile_lines ()
{
  local variable

  {
    echo AM_CPPFLAGS
    grep -oE '^[a-z_]+_CPPFLAGS =' "$TOP_BUILDDIR/$1/Makefile" | sed 's/ =//'
  } | while read -r variable; do
    # shellcheck disable=SC2016 # these are make's variables
    printf 'include Makefile\nflags-of:\n\t@printf "%%s\\n" '"'%s'\n" \
      '$(CC) $(DEFS) $(DEFAULT_INCLUDES) $(INCLUDES) $('"$variable"') $(CPPFLAGS) $(AM_CFLAGS) $(CFLAGS)' |
      make -s --no-print-directory -C "$TOP_BUILDDIR/$1" -f - flags-of
  done
}

finish_cases ()
{
  echo "$test_name: $cases cases, $bad failed"
  [ "$bad" -eq 0 ] && [ "$cases" -gt 0 ]
}
