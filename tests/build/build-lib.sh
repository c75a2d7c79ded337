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

finish_cases ()
{
  echo "$test_name: $cases cases, $bad failed"
  [ "$bad" -eq 0 ] && [ "$cases" -gt 0 ]
}
