#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The simulator's build of the core has every source of the layers, and they
# start no thread, sleep and read no clock but through base.

set -u
nr=0
failed=0
cd "$TOP_SRCDIR" || exit 1

no ()
{
  echo "FAIL: $1"
  failed=$((failed + 1))
}

for file in src/{base,volume,buffer,space,object,store}/*.c; do
  case ${file##*/} in
    test-* | bench-*) continue ;;
    armour.c) continue ;;       # of a process, not of a store
  esac
  nr=$((nr + 1))
  grep -qF "../../$file" tests/crash/Makefile.am ||
    no "$file is not in tests/crash/Makefile.am (libcore_la_SOURCES)"
  case $file in
    src/base/env.c | src/base/lock.c | src/base/task.c) continue ;;
    src/volume/*) continue ;; # media are real, or the simulator's own
  esac
  nr=$((nr + 1))
  found=$(grep -nE '\<(pthread_[a-z_]*|nanosleep|usleep|sleep|sched_yield|clock_gettime|gettimeofday|time|getrandom|rand|random) \(' \
    "$file" | grep -vE '^[0-9]+: ?\*' | head -n 3)
  [ -z "$found" ] || no "$file: not through base: $found"
done
echo "$nr cases, $failed failed"
exit $((failed > 0))
