#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Durable stores of two and three volumes of unequal size: found again in any
# order; refused, and the volume named, if one is missing, another store's, or
# a copy of an earlier time, in use, or on a medium that cannot be written.
#
# Environment: FARPAGE_SEED.

. "$(dirname "$0")/functions.sh"
with_seed
need_staging || skip 'no tmpfs at /dev/shm'

# round WHAT VOLUME...: killed and restarted, with the volumes in this order
round ()
{
  local what=$1

  shift
  rm -f "$dir"/*.sock
  start_farpage server "$@" staging="$staging" || no_start
  is "$what: all is there" "$(ask verify)" 'ok 4096'
  like "$what: it goes on" "$(ask run 200)" '^ok .* errors=0 .* wrong=0$'
  dies
}

# store NAME SIZE...: made, with two disks, and killed
store ()
{
  local name=$1 size n=0 disk

  shift
  vols=()
  for size in "$@"; do
    truncate -s "$size" "$dir/$name$n"
    vols+=("$dir/$name$n")
    n=$((n + 1))
  done
  ok "$name: format" "$farpage" format "${vols[@]}" --ring 4M
  start_farpage server "${vols[@]}" staging="$staging" || no_start
  for disk in one two; do
    ok "$name: create" "$farpage" create $disk 8M --shared
  done
  open_oracle 8 8 one two
  like "$name: run" "$(ask run 500)" '^ok .* errors=0 .* wrong=0$'
  dies
}

store two 40M 17M
round 'two, turned' "${vols[1]}" "${vols[0]}"
round 'two' "${vols[@]}"
refused 'two0: .* number 1 is missing' "${vols[0]}" staging=
refused 'two1: .* number 0 is missing' "${vols[1]}" staging=
round 'two, after that' "${vols[@]}"
clean two "${vols[@]}"
two=("${vols[@]}")

store three 20M 33M 9M
a=${vols[0]} b=${vols[1]} c=${vols[2]}
round 'three, c a b' "$c" "$a" "$b"
cp --sparse=always "$b" "$dir/old-b"
cp --sparse=always "$a" "$dir/old-a"
round 'three, b c a' "$b" "$c" "$a"
refused 'three0: .* number 1 is missing' "$a" "$c" staging=
refused 'three1: .* number 2 is missing' "$b" "$a" staging=
refused 'two1' "$a" "$b" "${two[1]}" staging=
refused 'two1' "$a" "$b" "$c" "${two[1]}" staging=
truncate -s 16M "$dir/none"
refused 'none.*farpage format' "$a" "$b" "$dir/none" staging=
refused 'old-b' "$a" "$dir/old-b" "$c" staging=
refused 'old-b|twice|both|same' "$a" "$b" "$c" "$dir/old-b" staging=
refused 'newer than what points to it' "$dir/old-a" "$b" "$c" staging=
truncate -s -4096 "$dir/old-b"
refused 'old-b' "$a" "$dir/old-b" "$c" staging=
round 'three, after that' "$a" "$c" "$b"
clean three "$a" "$b" "$c"

# ---- in use ----

start_farpage server "$a" "$b" "$c" staging="$staging" || no_start
is 'three: all is there' "$(ask verify)" 'ok 4096'
like 'format of a volume in use' "$("$farpage" format "$b" 2>&1)" 'in use'
like 'even by force' "$("$farpage" format --force "$b" 2>&1)" 'in use'
like 'check of a volume in use' "$("$farpage" check "$a" "$b" "$c" 2>&1)" \
  'in use'
ok 'info of a running store' "$farpage" info "$a" "$b" "$c"
like 'the store goes on' "$(ask run 200)" '^ok .* errors=0 .* wrong=0$'
ok stop "$farpage" stop
ended stop 0

# ---- a medium that cannot be written ----

sum=$(cat "$a" "$b" "$c" | cksum)
chmod 400 "$a" "$b" "$c"
if [ "$(id -u)" -ne 0 ]; then
  refused "three0" "$a" "$b" "$c" staging=
fi
start_farpage server "$a" "$b" "$c" readonly=yes || no_start
is 'readonly: all is there' "$(ask verify)" 'ok 4096'
like 'readonly: a write' \
  "$(script1 "open $socket one" 'write 0 4096 1')" 'EPERM|EROFS'
like 'readonly: create' "$("$farpage" create new 4M 2>&1)" 'ead-only'
like 'readonly: rm' "$("$farpage" rm one 2>&1)" 'ead-only'
is 'readonly: all is there still' "$(ask verify)" 'ok 4096'
dies
is 'readonly: nothing was written' "$(cat "$a" "$b" "$c" | cksum)" "$sum"
finish
