#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What the server says about an export: sizes, flags, description; and its
# extents, coalesced and right, after writes here and there.

. "$(dirname "$0")/functions.sh"
requires nbdinfo

start_farpage a mem:64M linger=77 || exit 1
"$farpage" create disk 8M --shared
answer=$(script1 "open $socket disk" show)
flags='multi-conn flush fua trim zero fast-zero cache'
is 'a disk' "${answer% description=*}" \
  "ok size=8388608 min=1 preferred=4096 max=33554432 $flags"
like 'its description' "${answer#*description=}" \
  '^farpage instance=[0-9a-f]{32} durability=volatile linger=[0-9]+$'
like 'its instance' "$answer" "instance=$(object disk instance) "
answer=$(script1 "open $socket swap/a:4M" show)
is 'a swap export' "${answer% description=*}" \
  "ok size=4194304 min=1 preferred=4096 max=33554432 $flags"
like 'its description' "${answer#*description=}" \
  '^farpage instance=[0-9a-f]{32} durability=volatile linger=77$'
json=$(nbdinfo --json "$(uri disk)")
is 'nbdinfo' "$(jq -c '.exports[0] | [."export-size", ."is_read_only",
  ."can_multi_conn", ."can_fua", ."can_fast_zero", ."is_rotational",
  ."block_size_minimum", ."block_size_preferred", ."block_size_maximum"]' <<<"$json")" \
  '[8388608,false,true,true,true,false,1,4096,33554432]'

# 32 MiB is the most: it works, and more does not kill the server
"$farpage" create large 48M
is '32 MiB' "$(script1 "open $socket large" 'write 0 33554432 1' \
  'check 0 33554432 1')" ok
# anew: while its last client has not gone altogether, the next may only read
until_true 5 "$farpage" rm large
"$farpage" create large 48M
answer=$(script1 "open $socket large" 'write 0 50331648 1')
like "48 MiB: $answer" "$answer" '^(ok|EINVAL)$'
alive || no 'the server died'
until_true 5 "$farpage" rm large

# map WANTED: [offset, length, type] of all extents
map ()
{
  is "map: $1" "$(nbdinfo --map --json "$(uri disk)" |
    jq -c '[.[] | [.offset, .length, .type]]')" "$2"
}

open_client
ask open "$socket" disk >"$dir/out"
map 'all hole' '[[0,8388608,3]]'
ask write 4096 4096 1 >"$dir/out"
map 'one page' '[[0,4096,3],[4096,4096,0],[8192,8380416,3]]'
for page in 5 3 2 4; do # four single pages, out of order, one extent
  ask write $((page * 4096)) 4096 1 >"$dir/out"
done
map 'five pages' '[[0,4096,3],[4096,20480,0],[24576,8364032,3]]'
ask write $((2097152 - 4096)) 8192 1 >"$dir/out"
map 'across 2 MiB' '[[0,4096,3],[4096,20480,0],[24576,2068480,3],'\
'[2093056,8192,0],[2101248,6287360,3]]'
ask trim 8192 4096 >"$dir/out"
ask zero 12288 4096 >"$dir/out"
map 'a hole in it' '[[0,4096,3],[4096,4096,0],[8192,8192,3],[16384,8192,0],'\
'[24576,2068480,3],[2093056,8192,0],[2101248,6287360,3]]'
ask zero 8192 8192 nohole >"$dir/out"
map 'reserved zeros' '[[0,4096,3],[4096,4096,0],[8192,8192,2],[16384,8192,0],'\
'[24576,2068480,3],[2093056,8192,0],[2101248,6287360,3]]'
is 'one extent' "$(ask map $((2097152 - 4096)) 1048576 one)" 'ok 8192:0'
is 'one hole' "$(ask map 4190208 4194304 one)" 'ok 4194304:3'
is 'part of it' "$(ask map 5000 10000)" 'ok 3192:0 6808:2'
ask write 0 8388608 1 >"$dir/out"
map 'all data' '[[0,8388608,0]]'
ask trim 0 8388608 >"$dir/out"
map 'all hole again' '[[0,8388608,3]]'
finish
