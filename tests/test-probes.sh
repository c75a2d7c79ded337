#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Looks at an export (NBD_OPT_INFO), and four connections at a time, all see
# the one object that the first of them made; none is made twice or torn.

. "$(dirname "$0")/functions.sh"
requires nbdcopy nbdinfo

start_farpage a mem:128M swap-size=16M || exit 1
objects ()
{
  "$farpage" ls --json | jq -r '[.objects[] | .name + " " + .instance] | .[]'
}

like 'a probe' "$(script1 "probe $socket swap/a:32M")" '^ok 33554432$'
made=$(objects)
like 'one object' "$made" '^swap/a [0-9a-f]{32}$'
is 'nobody has it' "$(object swap/a connections)" 0
is 'it is reserved' "$(object swap/a reserved_bytes)" 33554432
sleep 1.5 # more than a turn of what drops the dead
for _ in 1 2 3; do
  script1 "probe $socket swap/a:32M" >"$dir/out"
  script1 "probe $socket swap/a" >"$dir/out"
  nbdinfo "$(uri swap/a:32M)" >"$dir/out" 2>&1
done
is 'the same object' "$(objects)" "$made"

# Four openers at once of a name that is not there: one object.
for n in $(seq 20); do
  for _ in 1 2 3 4; do
    script1 "open $socket swap/race$n:1M" &
  done
  wait $(jobs -p | grep -vxF "$server")
done >"$dir/race"
is 'all were let in' "$(grep -c '^ok 1048576$' "$dir/race")" 80
is 'one object each' "$(objects | grep -c race)" 20
is 'what is reserved' "$(stat_of .pool.reserved_bytes)" \
  $((33554432 + 20 * 1048576))

# Data by many connections, and back.
head -c 32M /dev/urandom >"$dir/in"
ok 'nbdcopy in' nbdcopy -C 4 -T 4 "$dir/in" "$(uri swap/a:32M)"
ok 'nbdcopy out' nbdcopy -C 4 -T 4 "$(uri swap/a)" "$dir/back"
ok 'the same' cmp "$dir/in" "$dir/back"
instance=${made#swap/a }
ok 'by its instance' nbdcopy "$(uri "swap/a~$instance")" "$dir/back"
ok 'the same' cmp "$dir/in" "$dir/back"
is 'still one object' "$(objects | grep -v race)" "$made"

# Swap exports are not listed, disks are.
is 'the list' "$(nbdinfo --list --json "$(uri)" | jq -c '.exports // []')" '[]'
"$farpage" create disk 1M
is 'the list' "$(nbdinfo --list --json "$(uri)" |
  jq -r '.exports[]."export-name"')" disk
# ... and the only one is what the empty name means
is 'the default export' "$(script1 "open $socket")" 'ok 1048576'
"$farpage" create other 2M
unlike 'no default of two' "$(script1 "open $socket")" '^ok'
start_farpage b mem:16M default=other || exit 1
"$farpage" create disk 1M
"$farpage" create other 2M
is 'default=other' "$(script1 "open $socket")" 'ok 2097152'
finish
