#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# WRITE_ZEROES of 200 MiB writes zeros at the right place and nowhere else,
# with every flag and at odd places; so does a trim.  (nbdkit 1.32 repeats a
# large zero that a plugin refuses, at the wrong offset.)

. "$(dirname "$0")/functions.sh"

m=1048576
start_farpage a mem:320M || exit 1
"$farpage" create disk 256M
open_client
ask open "$socket" disk >"$dir/out"

# fill: 2 pages of data in each of 64 MiB parts, and around the range
fill ()
{
  for at in 0 $((20 * m - 8192)) $((20 * m)) $((64 * m)) $((128 * m)) \
    $((192 * m)) $((220 * m - 8192)) $((220 * m)) $((256 * m - 8192)); do
    ask write $at 8192 171 >>"$dir/out"
  done
}

# zeroed FROM BYTES: there, and only there
zeroed ()
{
  local from=$1 end=$(($1 + $2))

  local at

  # wherever there was data in the range, and at its ends
  for at in "$from" $((20 * m + 4096)) $((64 * m)) $((128 * m)) $((192 * m)) \
    $((220 * m - 8192)) $((end - 4096)); do
    [ $((at + 4096)) -le $end ] || continue
    is "zeros at $at ($round)" "$(ask check $((at < from ? from : at)) 4096 0)" ok
  done
  is "the first pages ($round)" "$(ask check 0 8192 171)" ok
  is "before ($round)" \
    "$(ask check $((20 * m - 8192)) $((from - 20 * m + 8192)) 171)" ok
  is "behind ($round)" "$(ask check "$end" $((220 * m + 8192 - end)) 171)" ok
  is "the last pages ($round)" "$(ask check $((256 * m - 8192)) 8192 171)" ok
}

for round in zero 'zero fast' 'zero nohole' 'zero fast nohole' trim; do
  for odd in 0 1; do
    fill
    from=$((20 * m + odd * 513)) bytes=$((200 * m - odd * 1111))
    # shellcheck disable=SC2086
    set -- $round
    verb=$1
    shift
    is "$round at $from" "$(ask "$verb" $from $bytes "$@")" ok
    zeroed $from $bytes
  done
done

# Reserved zeros are no hole, and take up room; others do not.
is 'zero nohole' "$(ask zero $((20 * m)) $((200 * m)) nohole)" ok
is 'map' "$(ask map $((20 * m)) $((200 * m)))" "ok $((200 * m)):2"
# fast and less than a page: no faster than writing, and then nothing changed
is 'zero fast of 100 bytes' "$(ask zero 10 100 fast)" EOPNOTSUPP
is 'nothing changed' "$(ask check 0 8192 171)" ok
is 'zero of 100 bytes' "$(ask zero 10 100)" ok
is 'zeros' "$(ask check 10 100 0)" ok
is 'before' "$(ask check 0 10 171)" ok
is 'behind' "$(ask check 110 8082 171)" ok
alive || no 'the server died'
finish
