#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A disk larger than the pool: ENOSPC for new pages and for nothing else; the
# tool says so, and subscribers are told each change once.

. "$(dirname "$0")/functions.sh"

start_farpage a mem:16M || exit 1
"$farpage" create disk 64M
"$farpage" create kept 2M --reserve
"$farpage" stat --follow --json >"$dir/events" 2>"$dir/err" &
pids+=($!)
until_true 5 test -s "$dir/events"
open_client
ask open "$socket" disk >"$dir/out"
full=0
for step in 65536 4096; do
  for at in $(seq "$full" $step 16777216); do
    answer=$(ask write "$at" $step 1)
    [ "$answer" = ok ] || { full=$at; break; }
  done
done
is 'a new page is refused' "$answer" ENOSPC
note "full after $((full / 1048576)) MiB of 16"
like 'most of the pool is of use' $((full > 11 * 1048576)) 1
is 'again' "$(ask write $((full + 8192)) 4096 1)" ENOSPC
is 'also zeros that are to stay' "$(ask zero $((full + 8192)) 65536 nohole)" \
  ENOSPC
is 'but not a hole' "$(ask zero $((full + 8192)) 65536)" ok
is 'but not zeros' "$(ask write $((full + 8192)) 65536 0)" ok
is 'nor an overwrite' "$(ask write 0 "$full" 2)" ok
for at in 0 4096 1000 $((full - 4097)); do
  is "nor a small one" "$(ask write "$at" 4097 3)" ok
done
is 'reads are right' "$(ask check 1000 4097 3)" ok
is 'reads are right' "$(ask check 12288 $((full - 24576)) 2)" ok
is 'nor a reserved disk' \
  "$(script1 "open $socket kept" 'write 0 2097152 5' 'check 0 2097152 5')" ok
is 'stat says so' "$(stat_of .pool.space)" full
like 'also for people' "$("$farpage" stat)" 'full'
like 'and no new reserve' "$("$farpage" create more 4M --reserve 2>&1)" \
  'not enough free space'
is 'trim works' "$(ask trim 0 "$full")" ok
until_true 5 grep -q '"state": *"ok"' "$dir/events"
is 'room again' "$(ask write "$full" 4096 1)" ok
is 'stat says so' "$(stat_of .pool.space)" ok
events=$(jq -r 'select(.event == "space") | .state' "$dir/events" |
  tr '\n' ',')
# (a subscriber who is slow may miss a state between two others)
like 'each event once' "$events" '^(almost full,)?full,(almost full,)?ok,$'

# swap is reserved when it is opened: no write to it ever finds the pool full
start_farpage b mem:16M || exit 1
open_client
ask open "$socket" swap/a:8M >"$dir/out"
"$farpage" create disk 64M
script "open $socket disk" 'write 0 4194304 1' 'write 4194304 4194304 1' \
  'write 8388608 4194304 1' >"$dir/out"
is 'the pool is full' "$(tail -1 "$dir/out")" ENOSPC
is 'swap is not' "$(ask write 0 8388608 1)" ok
is 'reads' "$(ask check 0 8388608 1)" ok
finish
