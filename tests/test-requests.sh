#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Requests across the end, of length 0, and of one byte at each edge of a page
# are done or refused as they should be, and change nothing around them.

. "$(dirname "$0")/functions.sh"

start_farpage a mem:64M || exit 1
"$farpage" create disk $((1048576 + 100))
size=$((1048576 + 100))
open_client
is 'open' "$(ask open "$socket" disk)" "ok $size"

# requests that a server must refuse; a write beyond the end is ENOSPC in NBD
bad ()
{
  local want=$1

  shift
  is "$*" "$(ask "$@")" "$want"
  alive || no "the server died of $*"
}

for page in 0 1 255; do
  ask write $((page * 4096)) 4096 $((page + 1)) >"$dir/out"
done
for at in $((size - 1)) $size $((size + 1)) $((1 << 40)) \
  9223372036854775807; do
  bad EINVAL read $at 4096
  bad ENOSPC write $at 4096 7
  bad EINVAL trim $at 4096
  bad ENOSPC zero $at 4096
  bad ENOSPC zero $at 4096 fast
  bad EINVAL cache $at 4096
  bad EINVAL map $at 4096
done
bad EINVAL read 0 $((size + 1))
bad ENOSPC write 0 $((size + 1)) 7
bad EINVAL trim 0 4294967295
for request in read 'write' trim zero cache map; do
  like "$request of length 0" "$(ask $request 0 0)" '^(ok|EINVAL|ENOSPC)$'
  alive || no "the server died of $request 0 0"
done
is 'page 0' "$(ask check 0 4096 1)" ok
is 'page 1' "$(ask check 4096 4096 2)" ok
is 'page 255' "$(ask check $((255 * 4096)) 4096 256)" '0x00 at 1044480'
is 'the end' "$(ask check 1048576 100 0)" ok

# one byte at each edge of pages 1 and 255, and at both ends of the disk
edges="0 4095 4096 8191 8192 1048575 1048576 $((size - 1))"
for at in $edges; do
  is "write at $at" "$(ask write "$at" 1 165)" ok
  is "read at $at" "$(ask check "$at" 1 165)" ok
done
is 'between' "$(ask check 1 4094 1)" ok
is 'between' "$(ask check 4097 4094 2)" ok
is 'between' "$(ask check 8193 4095 0)" ok
is 'before the end' "$(ask check 1048577 98 0)" ok
for at in $edges; do
  is "zero at $at" "$(ask zero "$at" 1)" ok
  is "zeroed at $at" "$(ask check "$at" 1 0)" ok
  is "write at $at" "$(ask write "$at" 1 165)" ok
  is "trim at $at" "$(ask trim "$at" 1)" ok
  is "trimmed at $at" "$(ask check "$at" 1 0)" ok
done
is 'page 0' "$(ask check 1 4094 1)" ok
is 'page 1' "$(ask check 4097 4094 2)" ok
is 'across an edge' "$(ask write 4000 200 3)" ok
is 'across an edge' "$(ask check 4000 200 3)" ok
is 'before it' "$(ask check 1 3999 1)" ok
is 'behind it' "$(ask check 4200 3991 2)" ok
is 'whole' "$(ask write 0 $size 5)" ok
is 'whole' "$(ask check 0 $size 5)" ok
finish
