#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Parameters of a store that is kept: readonly, swap-keep, discard, strict, no
# staging; and what stat says of each.

. "$(dirname "$0")/functions.sh"

v=$dir/vol
staging=$(mktemp -d /dev/shm/farpage-test.XXXXXX 2>/dev/null) ||
  skip 'no /dev/shm to stage in'
trap 'rm -rf "$staging"; cleanup' EXIT

# start NAME PARAMETER...: with staging where nobody else is
starts=0
start ()
{
  starts=$((starts + 1))
  start_farpage "$1$starts" "$v" staging="$staging" "${@:2}" || exit 1
}

stop ()
{
  ok "$1: stop" "$farpage" stop
  ended "$1" 0
}

kill_server ()
{
  kill -KILL "$server"
  wait "$server" 2>/dev/null
  rm -f "$control"
}

on_disk ()
{
  stat -c %b "$v"
}

discard ()
{
  local full

  "$farpage" format "$v" --size 96M --sparse >"$dir/out" || exit 1
  start d sparse=yes
  ok 'create' "$farpage" create d 40M
  is 'sparse' "$(stat_of '.volumes[0].sparse')" true
  script "open $socket d" 'write 0 20971520 7' flush >"$dir/out"
  full=$(on_disk)
  ok 'they are on the disk' test "$full" -gt 80000 # 32 MiB is the log
  script "open $socket d" 'trim 0 20971520' flush >"$dir/out"
  # a flush makes the record durable; then the blocks leave their park
  until_true 10 eval '[ "$(on_disk)" -lt $((full - 38000)) ]' ||
    no "trimmed blocks do not come back: $full, now $(on_disk)"
  stop discard
  start d sparse=yes discard=off
  script "open $socket d" 'write 0 20971520 7' flush 'trim 0 20971520' flush \
    >"$dir/out"
  sleep 1
  ok 'discard=off keeps them' test "$(on_disk)" -gt 80000
  stop 'discard=off'
  start d
  is 'a file without sparse=yes is kept' "$(stat_of '.volumes[0].sparse')" false
  stop 'not sparse'
  refused "$v: discard=on would give away.*sparse=yes" "$v" discard=on \
    staging="$staging" control="$dir/no.ctl"
}

swap_keep ()
{
  local how

  for how in stop kill_server; do
    start k swap-keep=yes
    script "open $socket swap/$how:4M" 'write 8192 65536 5' >"$dir/out"
    $how k
    start k swap-keep=yes linger=3
    is "swap-keep, $how" "$(script1 "open $socket swap/$how" \
      'check 8192 65536 5')" ok
    stop k
    start n
    script "open $socket swap/n$how:4M" 'write 8192 65536 5' >"$dir/out"
    $how n
    start n
    is "no swap-keep, $how" "$(stat_of '[.objects[].name |
      select(startswith("swap/n"))] | length')" 0
    stop n
  done
  # it lingers from the start, then it is gone, and its space with it
  start k swap-keep=yes linger=2
  is 'it is there' "$(stat_of '[.objects[] | select(.unnamed)] | length')" 2
  until_true 15 eval '[ "$(stat_of "[.objects[] | select(.unnamed)] | length")" = 0 ]' ||
    no 'swap that is kept does not expire'
  stop k
}

readonly_store ()
{
  local sum

  start w
  script "open $socket d" 'write 0 65536 9' >"$dir/out"
  kill_server # a recovery is needed
  rm -f "$staging"/*
  start w staging=
  is 'no staging' "$(stat_of .store.staging)" ''
  script "open $socket d" 'write 0 65536 9' >"$dir/out"
  kill_server
  chmod 0400 "$v"
  sum=$(cksum <"$v")
  start_farpage ro "$v" readonly=yes || exit 1
  is 'state' "$(stat_of .state)" readonly
  is 'it was recovered' "$(stat_of .store.recovery.clean)" false
  is 'and has what was answered' "$(script1 "open $socket d" \
    'check 0 65536 9')" ok
  like 'a write' "$(script1 "open $socket d" 'write 0 4096 1')" 'E[A-Z]+'
  like 'create' "$("$farpage" create x 1M 2>&1)" 'x: the store is open read-only'
  like 'rm' "$("$farpage" rm d 2>&1)" 'd: the store is open read-only'
  like 'new swap' "$(script1 "open $socket swap/new:1M")" 'E|fail|error'
  stop ro
  is 'nothing was written' "$(cksum <"$v")" "$sum"
  chmod 0600 "$v"
}

# The bytes of the volume at a moment after the reply, with no flush sent.
strict ()
{
  local before

  start s durability=strict
  is 'durability' "$(stat_of .durability)" strict
  before=$(stat_of .store.log.flushes)
  for i in 1 2 3 4 5; do
    script "open $socket d" "write $((i * 8192)) 4096 $i" >"$dir/out"
    [ "$(stat_of .store.log.flushes)" -gt "$before" ] ||
      no "strict: write $i was answered before any flush"
    before=$(stat_of .store.log.flushes)
  done
  cases=$((cases + 5))
  like 'told to clients' "$(nbdinfo "$(uri d)" 2>/dev/null)" 'durability=strict'
  cp "$v" "$dir/image"
  kill_server
  start_farpage i "$dir/image" staging= || exit 1
  for i in 1 2 3 4 5; do
    is "write $i in the image" "$(script1 "open $socket d" \
      "check $((i * 8192)) 4096 $i")" ok
  done
  stop image
}

discard
swap_keep
readonly_store
strict
finish
