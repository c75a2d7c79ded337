#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The tool against the real server: create, ls, stat, rm, stop, and every key
# of --json that docs/control.md promises.

. "$(dirname "$0")/functions.sh"

start_farpage a mem:64M || exit 1
ok 'create' "$farpage" create disk 8M
like 'create --json' "$("$farpage" create --json --reserve kept 4M)" \
  '"instance": "[0-9a-f]{32}"'
like 'create twice' "$("$farpage" create disk 8M 2>&1)" 'disk: is there already'
like 'create too much' "$("$farpage" create --reserve big 1G 2>&1)" \
  'not enough free space'
is 'sizes' "$(object disk size_bytes) $(object kept reserved_bytes)" \
  '8388608 4194304'
open_client
ask open "$socket" disk >"$dir/out"
ask write 0 1048576 1 >"$dir/out"
open_client
ask open "$socket" swap/s:1M >"$dir/out"
ask read 0 4096 >"$dir/out"

# has PATH KEY...: each is there, and has a value
json=$("$farpage" stat --json)
has ()
{
  cases=$((cases + $# - 2))
  is "$1: keys that are missing" "$(jq -c "$1 as \$o | \$ARGS.positional |
    map(select(\$o[.] == null))" --args "${@:2}" <<<"$json")" '[]'
}
has . version pid uptime state reason durability pool retired volumes objects connections \
  requests bounds
has .pool size_bytes mapped_bytes reserved_bytes parked_bytes free_bytes \
  relocation_bytes relocation_used_bytes space stripe_blocks fragments
has '.volumes[0]' name kind engine size_bytes used_bytes errors direct sparse \
  checked
has '.objects[0]' name instance size_bytes mapped_bytes reserved_bytes unnamed \
  reserved shared connections owner linger
has '.connections[0]' id export peer age idle read_only fenced under_way \
  requests
for kind in read write flush trim zero extents cache; do
  has ".requests.$kind" count bytes errors
  has ".connections[0].requests.$kind" count bytes errors
done
has '.bounds[0]' name used max

# and each key that docs/control.md has between backquotes is in some answer
doc=${TOP_SRCDIR:-$srcdir/..}/docs/control.md
mapfile -t keys < <(sed -n '/^`stat` answers/,/^$/p' "$doc" |
  grep -o '`[a-z_]*[`[]' | tr -d '`[' |
  grep -vxE 'stat|ok|full|running|stopping|failed|readonly|null')
like 'docs/control.md has keys' ${#keys[@]} '^[4-9][0-9]$'
cases=$((cases + ${#keys[@]} - 1))
is 'keys of docs/control.md that no answer has' "$(jq -c '
  [.. | objects | keys[]] as $there | $ARGS.positional - $there' \
  --args "${keys[@]}" <<<"$json")" '[]'

# numbers that are right
is 'objects' "$(jq -c '[.objects[].name]' <<<"$json")" '["disk","kept","swap/s"]'
is 'mapped' "$(jq .pool.mapped_bytes <<<"$json")" 1048576
is 'reserved' "$(jq .pool.reserved_bytes <<<"$json")" $((4194304 + 1048576))
is 'writes' "$(jq -c .requests.write <<<"$json")" \
  '{"count":1,"bytes":1048576,"errors":0}'
is 'reads' "$(jq -c .requests.read <<<"$json")" \
  '{"count":1,"bytes":4096,"errors":0}'
is 'who' "$(jq -r '.connections | map(.export) | sort | join(" ")' \
  <<<"$json")" 'disk swap/s'
is 'its peer' "$(jq -r '.connections[] | select(.export == "disk") | .peer' \
  <<<"$json")" "pid ${clients[0]} (uid $(id -u))"
is 'its owner' "$(object disk owner)" "pid ${clients[0]} (uid $(id -u))"
is 'the pool' "$(jq '.pool.size_bytes' <<<"$json")" 67108864
is 'fragments add up' "$(jq '[.pool.fragments | to_entries[] |
  select(.value > 0)] | length > 0' <<<"$json")" true
is 'bounds' "$(jq '[.bounds[] | .used <= .max] | all' <<<"$json")" true
is 'bounds are named' "$(jq -r '[.bounds[].name] | contains(["connections",
  "objects", "volumes", "control clients"])' <<<"$json")" true
is 'one disk' "$("$farpage" stat disk --json |
  jq -c '[.objects[].name, .connections[].export]')" '["disk","disk"]'
like 'for people' "$("$farpage" stat)" 'disk .*swap/s'
like 'no such disk' "$("$farpage" stat none 2>&1)" 'none: no such disk'

# rm
like 'rm of an open disk' "$("$farpage" rm disk 2>&1)" 'a client has it open'
now=0
is 'it is still there' "$(ask check 0 1048576 1)" ok
ok 'rm --force' "$farpage" rm --force disk
is 'its client' "$(ask read 0 4096)" ESHUTDOWN
is 'its space' "$(mapped)" 0
ok 'the name is free' "$farpage" create disk 1M
is 'its old client' "$(ask read 0 4096)" ESHUTDOWN
is 'a new one' "$(script1 "open $socket disk" 'check 0 1048576 0')" ok
until_true 5 "$farpage" rm disk || no 'rm of a closed disk'
ok 'rm kept' "$farpage" rm kept
like 'rm of swap' "$("$farpage" rm swap/s 2>&1)" 'farpage: '
is 'what is left' "$("$farpage" ls --json | jq -c '[.objects[].name]')" \
  '["swap/s"]'
ok 'stop' "$farpage" stop
ended 'farpage stop' 0
like 'no server' "$("$farpage" ls 2>&1)" 'No such file'
is 'no control socket' "$(find "$dir" -name '*.ctl*')" ''
finish
