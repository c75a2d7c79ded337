#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# sort and table in far memory, more than their budget: what is sorted is what
# sort(1) makes of it, and no key is missing.  The same on a file, which the
# kernel pages.
#
# Environment: FARPAGE_BUILD, TOP_SRCDIR.

# shellcheck source-path=SCRIPTDIR/../../tests source=functions.sh
. "$TOP_SRCDIR/tests/functions.sh"
examples=$build/client/examples
for program in sort table; do
  [ -x "$examples/$program" ] || skip "no $examples/$program (run make)"
done
[ -w /dev/userfaultfd ] || [ "$(id -u)" -eq 0 ] ||
  skip 'no right to /dev/userfaultfd (become root)'
work=$dir/work
mkdir "$work"

# lines FILE: its numbers
lines () { od -An -v -w8 -tu8 "$1" | tr -d ' '; }

# sorts WHAT WHERE SIZE
sorts ()
{
  head -c "$3" /dev/urandom >"$work/in"
  "$examples/sort" "$2" 1 "$work/in" "$work/out" 2>"$work/err"
  is "sort, $1: status" $? 0
  lines "$work/in" | LC_ALL=C sort -n >"$work/wanted"
  lines "$work/out" >"$work/got"
  cases=$((cases + 1))
  cmp -s "$work/wanted" "$work/got" || no "sort, $1, $3 bytes"
  like "sort, $1" "$(tail -n 1 "$work/err")" \
    '^sort: [0-9.]+ s, [0-9]+ faults, .* MiB read, .* MiB written$'
}

# tables WHAT WHERE: 6,000 keys are 2.1 MiB
tables ()
{
  "$examples/table" "$2" 1 6000 2>"$work/err"
  is "table, $1: status" $? 0
  like "table, $1" "$(cat "$work/err")" $'^filled: .*\nlooked up: .*written$'
}

nbdkit -f -U "$work/socket" memory 64M 2>"$work/nbdkit" &
pids+=($!)
until_true 10 test -S "$work/socket"
uri="nbd+unix:///?socket=$work/socket"
sorts 'nbdkit memory' "$uri" $((4 << 20))
sorts 'nbdkit memory' "$uri" 8
sorts 'nbdkit memory' "$uri" $(((1 << 20) + 8))
tables 'nbdkit memory' "$uri"
sorts 'a file' "$work/file" $((4 << 20))
tables 'a file' "$work/file"
"$examples/sort" "$uri" 1 "$work/none" "$work/out" 2>"$work/err"
is 'no input: status' $? 1
like 'no input' "$(cat "$work/err")" 'none: No such file'
"$examples/table" "$uri" 1 2>"$work/err"
is 'usage: status' $? 2
finish
