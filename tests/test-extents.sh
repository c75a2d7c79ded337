#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The extents of a huge hole, asked for with the longest length there is, come
# in one piece and do not abort the server (nbdkit 1.32 dies of an extent that
# goes beyond the request, CVE-2025-47711).

. "$(dirname "$0")/functions.sh"
requires nbdinfo

g=1073741824
start_farpage a mem:64M || exit 1
"$farpage" create disk 8G
open_client
is 'open' "$(ask open "$socket" disk)" "ok $((8 * g))"
for at in 0 $((2 * g)) $((3 * g + 4096)) $((4 * g)); do
  is "map $at" "$(ask map $at 4294967295)" 'ok 4294967295:3'
done
is 'beyond the end' "$(ask map $((4 * g + 4096)) 4294967295)" EINVAL
is 'one byte' "$(ask map $((8 * g - 1)) 1)" 'ok 1:3'
is 'write' "$(ask write $((5 * g)) 4096 1)" ok
like 'up to data' "$(ask map $((4 * g)) 4294967295)" \
  "^ok $g:3( 4096:0 $((3 * g - 4097)):3)?$"
is 'read behind it' "$(ask check $((5 * g)) 4096 1)" ok
json=$(nbdinfo --map --json "$(uri disk)" |
  jq -c '[.[] | [.offset, .length, .type]]')
is 'nbdinfo --map' "$json" \
  "[[0,$((5 * g)),3],[$((5 * g)),4096,0],[$((5 * g + 4096)),$((3 * g - 4096)),3]]"

# The largest disk there is.
"$farpage" create huge 1P
is 'open' "$(ask open "$socket" huge)" "ok $((1 << 50))"
is 'map' "$(ask map $(((1 << 50) - 4294967295)) 4294967295)" 'ok 4294967295:3'
alive || no 'the server died'
finish
