#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A durable store at its last block, 100 times over: overwriting is never
# ENOSPC, a new page always is; flush, restart, and recovery after kill -9 work;
# what a trim gives back can be had again.
#
# Environment: FARPAGE_CYCLES (100), FARPAGE_SEED.

. "$(dirname "$0")/functions.sh"
cycles=${FARPAGE_CYCLES:-100}
with_seed
need_staging || skip 'no tmpfs at /dev/shm'

# up: a server, and a client that has the disk open
up ()
{
  start_farpage server "$dir/vol" staging="$staging" cache=1M || no_start
  [ $# -eq 0 ] || return 0
  open_client
  is "$what: open" "$(ask open "$socket" disk | cut -c 1-2)" ok
}

# fill: from $full on, until there is no room; $full is where the last page
# ends
fill ()
{
  local step answer

  for step in 1048576 65536 4096; do
    answer=ok
    while [ "$answer" = ok ]; do
      answer=$(ask write "$full" $step "$byte")
      [ "$answer" != ok ] || full=$((full + step))
    done
    is "$what: at the end" "$answer" ENOSPC
  done
}

# over: written over in parts, in an order that is not that of writing
over ()
{
  local i at nr=8 part

  part=$((full / nr / 4096 * 4096))
  byte=$((byte % 250 + 1))
  for i in 5 2 7 0 3 6 1 4; do
    is "$what: over it" "$(ask write $((i * part)) $part $byte)" ok
  done
  at=$((nr * part))
  [ $at -ge $full ] ||
    is "$what: over it" "$(ask write $at $((full - at)) $byte)" ok
  is "$what: over a part" "$(ask write 512 4096 $byte)" ok
}

# holds: all of it is the last that was written, now
holds ()
{
  is "$what: all is there" "$(ask check 0 $full $byte)" ok
}

what=begin byte=1 full=0
ok format "$farpage" format "$dir/vol" --size 16M --ring 4M
up no client
ok create "$farpage" create disk 64M --shared
open_client
ask open "$socket" disk >/dev/null
fill
first=$full
note "full with $((full / 4096)) pages"
for ((n = 1; n <= cycles; n++)); do
  what="cycle $n"
  fill # (blocks of map nodes come back late)
  over
  case $((n % 5)) in
  0)
    is "$what: flush" "$(ask flush)" ok
    close_client
    ok "$what: stop" "$farpage" stop
    ended "$what" 0
    up
    ;;
  1 | 3)
    close_client
    dies
    up
    ;;
  2)
    random $((full / 4096 - 16))
    is "$what: trim" "$(ask trim $((random * 4096)) 65536)" ok
    is "$what: flush" "$(ask flush)" ok
    is "$what: again" "$(ask write $((random * 4096)) 65536 $byte)" ok
    ;;
  4)
    is "$what: trim all" "$(ask trim 0 $full)" ok
    is "$what: flush" "$(ask flush)" ok
    full=0
    fill
    like "$what: as much as before ($first, $full)" \
      $((full >= first - 65536)) 1
    ;;
  esac
  holds
  is "$what: stat" "$(stat_of .pool.mapped_bytes)" "$full"
  [ $failed -eq 0 ] || finish
done
close_client
ok stop "$farpage" stop
ended stop 0
clean 'at the end' "$dir/vol"
finish
