#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Pools of two and three volumes of unequal size: every byte of them is of use,
# data spread over all, and an allocation ends where its volume ends.

. "$(dirname "$0")/functions.sh"
requires nbdcopy

# filled WHAT: a disk of all that is free, written, read back, removed
filled ()
{
  local bytes

  bytes=$(stat_of '.pool.free_bytes')
  "$farpage" create disk "$bytes" --reserve
  head -c "$bytes" /dev/urandom >"$dir/in"
  ok "$1: in" nbdcopy -C 4 "$dir/in" "$(uri disk)"
  ok "$1: out" nbdcopy -C 4 "$(uri disk)" "$dir/back"
  ok "$1: the same" cmp "$dir/in" "$dir/back"
  is "$1: mapped" "$(mapped)" "$bytes"
  # what is not free for pages is the reserve for moving them
  is "$1: every volume is used" \
    "$(stat_of '[.volumes[] | .used_bytes > .size_bytes / 2] | all')" true
  # overwriting works in a full pool, in an order that is not that of writing
  ok "$1: over it" nbdcopy -C 8 --request-size=65536 "$dir/back" "$(uri disk)"
  ok "$1: out again" nbdcopy "$(uri disk)" "$dir/back"
  ok "$1: the same" cmp "$dir/in" "$dir/back"
  ok "$1: rm" "$farpage" rm disk
  is "$1: nothing is mapped" "$(mapped)" 0
  is "$1: all is free" "$(stat_of '.pool.free_bytes')" "$bytes"
  ok "$1: stop" "$farpage" stop
}

start_farpage two mem:40M mem:9M || exit 1
is 'two volumes' "$(stat_of '.volumes | length')" 2
filled 'two in memory'

truncate -s $((11 * 1048576 + 4096 * 3 + 17)) "$dir/a"
truncate -s 24M "$dir/b"
start_farpage three "$dir/a" mem:5M volume="$dir/b" durability=volatile ||
  exit 1
is 'three volumes' "$(stat_of '[.volumes[].kind] | join(" ")')" \
  'file memory file'
filled 'three of two kinds'
ok 'a used volume is allocated' test "$(stat -c %b "$dir/b")" -ge 49152
finish
