#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The sweep over crash states: the store with staging, without, strict, each
# for its share of FARPAGE_CRASH_SECONDS (120); faults of media at an eighth of
# all places, every kind, and of memory at all; and five broken rules, each of
# which has to be noticed.  The seed is FARPAGE_SEED or random, and printed.

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

# The share of the states that is asked for is what a busy machine reaches.
try --subject store --seconds $((seconds / 2)) \
    --min-distinct $((seconds * ${FARPAGE_CRASH_RATE:-100}))
try --subject plain --seconds $((seconds / 8))
try --subject strict --seconds $((seconds / 8))
for subject in store plain strict; do
  try --subject $subject --faults --parts 8 --seconds $((seconds / 4))
  try --subject $subject --memory-from 0
done
try --subject store --sabotage-some 5 --seconds 60
echo "$nr cases, $failed failed"
exit $((failed > 0))
