#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The sweep itself, on stores that are known: the toy passes, the same way with
# the same seed, but not with media that lie, for it looks at no CRC when it
# reads; the trivial store fails, and shows it again by what it printed.

set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nr=0
failed=0

case_ ()                        # WHAT STATUS
{
  nr=$((nr + 1))
  if [ "$2" -ne 0 ]; then
    echo "FAIL: $1"
    cat "$work/out"
    failed=$((failed + 1))
  fi
}

./crash --subject toy --seconds 5 --min-distinct 500 >"$work/out" 2>&1
case_ "the toy passes" $?
head -n 4 "$work/out"
./crash --subject toy --seconds 20 --faults >"$work/out" 2>&1
[ $? -eq 1 ] && grep -qE '^FAIL: (lost|misdirected|stale|bit|flush)' "$work/out"
case_ "the toy serves what lying media give" $?

for i in 1 2; do
  ./crash --subject toy --seconds 0 --whole 1 --procs 1 --seed 7 |
    sed -E 's/ openings .*//' >"$work/same$i"
done
cat "$work/same1" >"$work/out"
grep -qE 'length 1: ([0-9]{2,}) of \1,' "$work/out"
case_ "every sequence of one operation is tried" $?
cmp "$work/same1" "$work/same2" >>"$work/out"
case_ "a seed says all" $?

./crash --subject trivial --seconds 20 >"$work/out" 2>&1
[ $? -eq 1 ]
case_ "the trivial store fails" $?
again=$(sed -n 's/^again: //p' "$work/out" | tail -n 1)
cp "$work/out" "$work/first"
eval "$again" >"$work/out" 2>&1
[ $? -eq 1 ] &&
  [ "$(grep WRONG "$work/out")" = "$(grep WRONG "$work/first")" ]
case_ "it fails again: $again" $?
./crash --subject toy --seconds 20 --toy-error 1 >"$work/out" 2>&1
[ $? -eq 1 ]
case_ "a toy that does not flush fails" $?
echo "$nr cases, $failed failed"
exit $((failed > 0))
