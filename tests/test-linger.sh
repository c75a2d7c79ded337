#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The life of swap/ID: it lives while somebody has it, then for linger=, can be
# had again by its instance, and is never had again after its death.

. "$(dirname "$0")/functions.sh"

start_farpage a mem:64M linger=3 || exit 1
sole ()
{
  "$farpage" ls --json | jq -r '.objects | map(.name) | join(" ")'
}
closed ()
{
  [ "$(object "$1" connections)" = 0 ]
}
gone ()
{
  [ "$(sole)" = "${1-}" ]
}

open_client
is 'open' "$(ask open "$socket" swap/a:8M)" 'ok 8388608'
is 'write' "$(ask write 0 8192 1)" ok
is 'reserved' "$(stat_of .pool.reserved_bytes)" $((8388608 - 8192))
instance=$(object swap/a instance)
sleep 4
is 'it lives while it is open' "$(object swap/a instance)" "$instance"
is 'no linger yet' "$(object swap/a linger)" 0
ask close >"$dir/out"
until_true 3 closed swap/a
sleep 1
like 'it lingers' "$(object swap/a linger)" '^[0-2](\.[0-9]+)?$'

# by ID, by instance, by both, and the linger begins anew each time
for name in swap/a swap/a:8M "swap/a~$instance" "swap/a:8M~$instance"; do
  is "$name" "$(script1 "open $socket $name" 'check 0 8192 1')" ok
  sleep 1
done
is 'the same' "$(object swap/a instance)" "$instance"
unlike 'another instance' \
  "$(script1 "open $socket swap/a~${instance//[0-9]/0}")" '^ok'
ok 'it dies' until_true 7 gone
is 'all is free' "$(stat_of '.pool | .mapped_bytes + .reserved_bytes')" 0
for name in "swap/a~$instance" "swap/a:8M~$instance"; do
  unlike "no life after death: $name" "$(script1 "open $socket $name")" '^ok'
  is 'and no new one' "$(sole)" ''
done
is 'the ID means a new one' \
  "$(script1 "open $socket swap/a:8M" 'check 0 8388608 0')" ok
unlike 'of another instance' "$(object swap/a instance)" "^$instance$"
"$farpage" stop >"$dir/out"

# never written: 10 s at most, here 1; written: as long as was asked for
start_farpage b mem:64M linger=600 || exit 1
script "open $socket swap/idle:1M" 'read 0 4096' >"$dir/out"
script "open $socket swap/used:1M" 'write 0 4096 1' >"$dir/out"
like 'never written' "$(object swap/idle linger)" '^([0-9]|10)(\.|$)'
like 'written' "$(object swap/used linger)" '^(59[0-9]|600)(\.|$)'
ok 'the one never written dies' until_true 14 gone swap/used
is 'the other one lives' \
  "$(script1 "open $socket swap/used" 'check 0 4096 1')" ok
finish
