#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The sweep over crash states: the store with staging, without, strict, each
# for its share of FARPAGE_CRASH_SECONDS (120), and huge for a moment; faults of
# media at an eighth of all places, every kind, and of memory at all; and five
# broken rules, each of which has to be noticed.  The seed is FARPAGE_SEED or
# random, and printed.
#
# Every sequence of one operation is tried with each state that a crash at any
# point may leave (--whole 1), also when the time is over: 10 to 25 s of a
# processor for each of the three.  --min-distinct is what must come of that,
# whatever else the machine does.  With two processors to itself the first line
# alone has more than 100,000 distinct states.

set -u
crash=./crash
[ -x "$crash" ] || { echo "no $crash: build it first" >&2; exit 1; }
seconds=${FARPAGE_CRASH_SECONDS:-120}
seed=${FARPAGE_SEED:-$RANDOM$RANDOM}
export FARPAGE_SEED=$seed
nr=0
failed=0

try ()                          # ARGUMENT...
{
  nr=$((nr + 1))
  if ! "$crash" "$@"; then
    echo "FAIL: crash $* (seed $seed)"
    failed=$((failed + 1))
  fi
}

try --subject store --whole 1 --seconds $((seconds / 2)) --min-distinct 35000
try --subject plain --whole 1 --seconds $((seconds / 8)) --min-distinct 20000
try --subject strict --whole 1 --seconds $((seconds / 8)) --min-distinct 20000
try --subject huge --seconds $((seconds / 24))
for subject in store plain strict; do
  try --subject $subject --faults --parts 8 --seconds $((seconds / 4))
  try --subject $subject --memory-from 0
done
try --subject store --sabotage-some 5 --seconds 60
echo "$nr cases, $failed failed"
exit $((failed > 0))
