#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# farpage info and dump on a store that a server has written: beside it, after
# its death, after its stop.  Each structure, field by field, is test-dump.sh's.

. "$(dirname "$0")/functions.sh"
cd "$dir" || exit 1

# info FILTER: of `farpage info --json` of both volumes
info ()
{
  "$farpage" info a b --json | jq -r "$1"
}

# shellcheck disable=SC2317 # called by ok
# dump OPTION...: all of it good?  Its lines are in $dir/dump.
dump ()
{
  "$farpage" dump a b "$@" --json >"$dir/dump"
}

# lines FILTER: of the lines
lines ()
{
  jq -sr "$1" "$dir/dump"
}

# shellcheck disable=SC2317 # called by ok
unused ()
{
  [ "$(info '[.volumes[].in_use] | any')" = false ]
}

serve ()
{
  start_farpage "$1" "$dir/a" volume="$dir/b" staging= || exit 1
}

ok 'format' "$farpage" format a b --size 48M --ring 4M
serve first
is 'in use' "$(info '[.volumes[].in_use] | all')" true
is 'epoch' "$(info '.volumes[0].best.epoch')" 2
is 'state' "$(info '.volumes[0].best.state')" 'in use'
like 'state, told' "$("$farpage" info a)" 'state +in use by a server'
"$farpage" format a b --force >"$dir/out" 2>&1
is 'format refuses it' $? 1
like 'format refuses it' "$(cat "$dir/out")" 'a: .*in use'

ok 'create' "$farpage" create vm1 20M
is 'write' "$(script1 "open $socket vm1" 'write 0 1048576 7' \
  'write 4194304 4096 8' flush)" ok
for n in 1 2 3; do
  "$farpage" info a b >"$dir/out" 2>&1
  is "info beside it, $n" $? 0
done
ok 'the log beside it' dump --log
is 'records of the write' "$(lines '[.[] | .records // [] | .[] |
  select(.record == "map") | .nr] | add == 257')" true
is 'the object is in the log' "$(lines '[.[] | .records // [] | .[] |
  select(.record == "object") | .name] | unique | join(" ")')" vm1

{
  kill -KILL "$server"
  until_true 10 is_gone "$server"
} 2>/dev/null
wait "$server" 2>/dev/null
ok 'killed: not in use' until_true 10 unused
like 'killed: told' "$("$farpage" info a)" 'state +was not closed'

serve second
is 'epoch' "$(info '.volumes[0].best.epoch > 2')" true
is 'all of it is there' "$(script1 "open $socket vm1" 'check 0 1048576 7' \
  'check 4194304 4096 8')" ok
ok 'stop' "$farpage" stop

is 'stopped: state' "$(info '.volumes[0].best.state')" clean
like 'stopped: told' "$("$farpage" info b a)" 'state +clean'
is 'all slots are good' "$(info '[.volumes[].slots[].good] | all')" true
ok 'slots' dump --slot
ok 'log' dump --log
ok 'table' dump --table
is 'the disk' "$(lines '.[0] | [.name, .size_bytes, .state, .nr_mapped] |
  join(" ")')" "vm1 20971520 live 257"
id=$(lines '.[0].id')
ok 'its map' dump --object "$id"
is 'its pages' "$(lines '[.[] | select(.item == "pages") | .nr_pages] | add')" 257
is 'the last one' "$(lines '.[-1].at')" 1024
first_block=$(lines '.[1].block')
ok 'free map' dump --freemap
used=$(lines '[.[] | select(.item == "freemap") | .nr_used] | add')
nodes=$("$farpage" dump a b --table --json | jq -s '.[0].nr_nodes')
height=$(info '.volumes[0].best.table_height')
# slots, ring and free maps; nodes of the table and of the map; pages
is 'blocks in use' "$used" $((8 + 1024 + 2 + height + 1 + nodes + 257))
"$farpage" dump a b --node "$first_block" >"$dir/out"
is 'a page is no node' $? 1
finish
