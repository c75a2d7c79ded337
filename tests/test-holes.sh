#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Blocks go back to the pool by trim, by zeroes, and by writing zeros; only
# whole pages do, the edges become zeros in place.

. "$(dirname "$0")/functions.sh"

start_farpage a mem:64M || exit 1
free0=$(stat_of .pool.free_bytes)
"$farpage" create disk 16M
open_client
ask open "$socket" disk >"$dir/out"

# step REQUEST... -- BYTES: what is mapped after it
step ()
{
  local want=${*: -1}

  is "${*:1:$#-2}" "$(ask "${@:1:$#-2}")" ok
  is "${*:1:$#-2}: mapped" "$(mapped)" "$want"
}

is 'nothing' "$(mapped)" 0
step write 0 16777216 1 -- 16777216
is 'free' "$(stat_of .pool.free_bytes)" $((free0 - 16777216))
step write 0 8192 2 -- 16777216
step trim 0 1048576 -- 15728640
step trim 1048577 8190 -- 15728640
is 'the edges are zeros' "$(ask check 1048577 8190 0)" ok
is 'what is before them stays' "$(ask check 1048576 1 1)" ok
is 'what is behind them stays' "$(ask check 1056767 1 1)" ok
step trim 1048577 12287 -- $((15728640 - 8192))
step zero 2097152 1048576 -- $((15728640 - 8192 - 1048576))
step zero 4194304 1048576 fast -- $((15728640 - 8192 - 2 * 1048576))
now_mapped=$((15728640 - 8192 - 2 * 1048576))
step write 6291456 1048576 0 -- $((now_mapped - 1048576))
is 'zeros written are a hole' "$(ask map 6291456 1048576)" 'ok 1048576:3'
is 'zeros written read as zeros' "$(ask check 6291456 1048576 0)" ok
is 'behind them' "$(ask check 7340032 4096 1)" ok
step write 8388609 4095 0 -- $((now_mapped - 1048576))
# the last byte of a page that is not zero makes the page one of zeros
is 'a page of zeros but one' "$(ask check 8388608 1 1)" ok
is 'the page gets its last zero' "$(ask write 8388608 1 0)" ok
is 'it reads as zeros' "$(ask check 8388608 4096 0)" ok
step trim 0 16777216 -- 0
is 'free' "$(stat_of .pool.free_bytes)" "$free0"
is 'all zeros' "$(ask check 0 16777216 0)" ok

# A reserved disk keeps its space, whatever is in it.
"$farpage" create kept 16M --reserve
open_client
ask open "$socket" kept >"$dir/out"
is 'reserved' "$(object kept reserved_bytes)" 16777216
free=$(stat_of .pool.free_bytes)
is 'free' "$free" $((free0 - 16777216))
is 'write' "$(ask write 0 16777216 1)" ok
is 'reserved' "$(object kept reserved_bytes)" 0
is 'trim' "$(ask trim 0 16777216)" ok
is 'reserved' "$(object kept reserved_bytes)" 16777216
is 'zero' "$(ask zero 0 16777216)" ok
is 'zeros' "$(ask write 0 16777216 0)" ok
is 'free' "$(stat_of .pool.free_bytes)" "$free"
ask close >"$dir/out"
until_true 5 "$farpage" rm kept || no 'rm'
is 'free' "$(stat_of .pool.free_bytes)" "$free0"
finish
