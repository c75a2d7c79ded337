#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Memory: mem: is allocated at the start or refused with a message; sparse=yes
# takes it as it is written, and gives it back after a trim.

. "$(dirname "$0")/functions.sh"

m=1048576
refused 'only [0-9]+ MiB of memory are available' mem:900G
refused 'memory are available|cannot be made' mem:1000000T
available=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
[ "$available" -gt 512 ] || skip 'too little memory for the rest'

resident () # MiB, of the server's shared memory
{
  awk '/^RssShmem/ { print int($2 / 1024) }' "/proc/$server/status"
}

# what the memfd has, whether or not it is mapped now
taken ()
{
  local fd

  for fd in /proc/"$server"/fd/*; do
    case $(readlink "$fd") in
    /memfd:*) echo $(($(stat -L -c %b "$fd") / 2048)) ;;
    esac
  done
}

start_farpage whole mem:96M || exit 1
is 'allocated at the start' "$(taken)" 96
"$farpage" stop >"$dir/out"

start_farpage sparse mem:256M sparse=yes || exit 1
like 'nothing at the start' "$(taken)" '^[01]$'
"$farpage" create disk 192M
open_client
ask open "$socket" disk >"$dir/out"
for at in 0 32 64 96; do
  is "write at $at MiB" "$(ask write $((at * m)) $((32 * m)) 1)" ok
done
like "taken: $(taken) MiB" $(($(taken) >= 128 && $(taken) <= 136)) 1
is 'trim' "$(ask trim 0 $((96 * m)))" ok
given_back ()
{
  [ "$(taken)" -le 40 ] && [ "$(resident)" -le 44 ]
}
until_true 5 given_back
note "after a trim of 96 of 128 MiB: taken $(taken), resident $(resident) MiB"
like 'given back' $(($(taken) >= 32 && $(taken) <= 40)) 1
like 'also from its resident pages' $(($(resident) <= 44)) 1
is 'the rest stays' "$(ask check $((96 * m)) $((32 * m)) 1)" ok
is 'zeros' "$(ask check 0 $((32 * m)) 0)" ok
is 'write again' "$(ask write 0 $((32 * m)) 2)" ok
is 'read again' "$(ask check 0 $((32 * m)) 2)" ok
is 'the rest stays' "$(ask check $((96 * m)) $((32 * m)) 1)" ok
is 'stat says sparse' "$(stat_of '.volumes[0].sparse')" true
finish
