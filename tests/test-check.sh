#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# `farpage check` on stores that a real server made: closed, killed, open;
# its exit statuses and JSON; repair, and the way back.

. "$(dirname "$0")/functions.sh"
requires nbdcopy

# check STATUS REGEX ARGUMENT...: of standard output and error together
check ()
{
  local want=$1 regex=$2 status

  shift 2
  timeout 100 "$farpage" check "$@" >"$dir/check.out" 2>&1 </dev/null
  status=$?
  is "check $*: status" $status "$want"
  like "check $*" "$(cat "$dir/check.out")" "$regex"
}

# json JQ-FILTER ARGUMENT...
json ()
{
  local filter=$1

  shift
  timeout 100 "$farpage" check --json "$@" >"$dir/check.json" 2>/dev/null
  is "check --json $*: $filter" "$(jq -r "$filter" "$dir/check.json")" true
}

# damage FILE OFFSET: another byte there
damage ()
{
  local byte

  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf "%b" "\\x$(printf %x $((byte ^ 1)))" |
    dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

vols=("$dir/va" "$dir/vb")
mkdir "$dir/shm"
staging=$(mktemp -d /dev/shm/farpage-test.XXXXXX) || skip 'no /dev/shm'
trap 'rm -rf "$staging"; cleanup' EXIT

# ---- usage ----

check 16 'it takes VOLUME'
check 16 "unknown option '--force'" --force "$dir/va"
check 16 'repair needs --undo-file FILE' --repair "$dir/va"
check 16 '.*--undo-file goes with --repair' --undo-file "$dir/u" "$dir/va"
check 16 'lose-pages goes with --repair' --lose-pages "$dir/va"
check 16 'restore goes with no other' --restore "$dir/u" --data "$dir/va"
check 8 'no such file' "$dir/va"
truncate -s 4M "$dir/zeros"
check 8 'zeros: is no volume of a durable store' "$dir/zeros"

# ---- a closed store ----

"$farpage" format "${vols[@]}" --size 32M --ring 1M >/dev/null || exit 1
check 0 'clean$' "${vols[@]}"
check 0 'clean$' "$dir/vb" --data "$dir/va"
check 8 'number 1 is missing' "$dir/va"
json '.verdict == "not checked" and .found.volume == 1' "$dir/va"

durable=(durability=flush staging="$staging")
start_farpage first "${vols[@]}" "${durable[@]}" || exit 1
"$farpage" create disk 8M
head -c 8M /dev/urandom >"$dir/data"
nbdcopy --flush "$dir/data" "$(uri disk)"
check 8 'is in use: by another process' "${vols[@]}"
chmod a-w "${vols[@]}"
if [ "$(id -u)" -ne 0 ]; then
  check 8 'a server has it open' "${vols[@]}"
fi
chmod u+w "${vols[@]}"
(
  sleep 1
  "$farpage" stop >/dev/null
) &
check 0 'clean$' "${vols[@]}"
ended stop 0
sum=$(sha256sum "${vols[@]}")
check 0 'clean$' --data "${vols[@]}"
json '.verdict == "clean" and .summary.closed and .summary.whole and
  .summary.disks == 1 and .summary.pages == 2048 and
  .summary.verified_pages == 2048 and .summary.retired_blocks == 0 and
  (.findings | length) == 0' \
  --data "${vols[@]}"
is 'nothing was written' "$(sha256sum "${vols[@]}")" "$sum"

# ---- a killed server ----

start_farpage second "${vols[@]}" "${durable[@]}" || exit 1
head -c 8M /dev/urandom >"$dir/data2"
nbdcopy "$dir/data2" "$(uri disk)"
kill -KILL "$server"
wait "$server" 2>/dev/null
sum=$(sha256sum "${vols[@]}" "$staging"/*)
check 0 'was not closed.*clean$' --staging "$staging" --data "${vols[@]}"
check 0 'no staging file of the process' --data "${vols[@]}"
json '(.summary.closed | not) and (.notes | length) >= 1' \
  --staging "$staging" "${vols[@]}"
is 'nothing was written after a kill' "$(sha256sum "${vols[@]}" "$staging"/*)" \
  "$sum"

check 1 'To be written: .*after that nothing is wrong.*repaired$' --repair \
  --undo-file "$dir/undo" --staging "$staging" "${vols[@]}"
check 16 'undo. is there already' --repair --undo-file "$dir/undo" "${vols[@]}"
check 0 'clean$' --data "${vols[@]}"
start_farpage third "${vols[@]}" "${durable[@]}" || exit 1
nbdcopy "$(uri disk)" "$dir/back"
ok 'all that was replied is there' cmp "$dir/data2" "$dir/back"
"$farpage" stop >/dev/null
ended stop 0

# ---- damage ----

# The slot that is written next may be cut off, and is told in a note.
slots=$("$farpage" info --json "$dir/va" |
  jq -c '.volumes[0].slots | sort_by(.sequence)')
read -r slot block < <(jq -r '.[0] | "\(.slot) \(.block)"' <<<"$slots")
damage "$dir/va" $((block * 4096 + 104))
check 0 "va: superblock slot $slot is not whole.*clean\$" "${vols[@]}"
damage "$dir/va" $((block * 4096 + 104)) # as it was
read -r slot block < <(jq -r '.[-2] | "\(.slot) \(.block)"' <<<"$slots")
damage "$dir/va" $((block * 4096 + 104))
check 4 "va: block $block: superblock slot $slot: its CRC is wrong.*damaged: 1" \
  "${vols[@]}"
json '.verdict == "damaged" and .found.superblock == 1 and
  .findings[0].block == '"$block"' and .findings[0].kind == "superblock"' \
  "${vols[@]}"
sum=$(sha256sum "${vols[@]}")
check 1 'is written anew.*repaired: 1 finding$' --repair --undo-file \
  "$dir/undo2" "${vols[@]}"
check 0 'clean$' "${vols[@]}"
check 0 'as before the repair' --restore "$dir/undo2" "${vols[@]}"
is 'all is as before the repair' "$(sha256sum "${vols[@]}")" "$sum"
check 8 'is no undo file' --restore "$dir/data" "${vols[@]}"
check 1 'repaired' --repair --undo-file "$dir/undo3" "${vols[@]}"

# block_of VOLUME:PLACE: the file, and the byte in it
block_of ()
{
  echo "${vols[${1%:*}]} $((${1#*:} * 4096))"
}

page=$("$farpage" dump --object 0x1000 --json "${vols[@]}" |
  jq -rs 'map(select(.item == "pages" and (.at | tonumber) >= 1792))[0].block')
# shellcheck disable=SC2046 # two words
damage $(block_of "$page")
check 0 'clean$' "${vols[@]}"
check 4 "block ${page#*:}: 'disk' .0x1000., page [0-9]+: its content's checks" \
  --data "${vols[@]}"
check 4 '.' --data --all --repair --undo-file "$dir/undo4" "${vols[@]}"

root=$("$farpage" dump --object 0x1000 --json "${vols[@]}" |
  jq -rs '.[0].root')
leaf=$("$farpage" dump --node "$root" --json "${vols[@]}" |
  jq -rs '.[0].children[7].blk')
# shellcheck disable=SC2046
damage $(block_of "$leaf")
check 4 "block ${leaf#*:}: 'disk' .0x1000., pages 1792-2047: node 7 of level 0: i\
s no node.*nothing that can be read uses it.*256 pages cannot be read" "${vols[@]}"
json '.found.node == 1 and .summary.lost_pages == 256' "${vols[@]}"
check 4 'damaged' --repair --undo-file "$dir/undo5" "${vols[@]}"
check 1 'its pages become holes' --repair --lose-pages --undo-file \
  "$dir/undo6" "${vols[@]}"
json '.summary.pages == 1792 and .verdict == "clean"' "${vols[@]}"
start_farpage fourth "${vols[@]}" "${durable[@]}" || exit 1
nbdcopy "$(uri disk)" "$dir/back"
ok 'all but what was lost is there' cmp -n 7340032 "$dir/data2" "$dir/back"
"$farpage" stop >/dev/null
ended stop 0
check 0 'clean$' "${vols[@]}"

# ---- a signal ----

"$farpage" check --data "${vols[@]}" >/dev/null 2>&1 &
pid=$!
kill -INT $pid 2>/dev/null
wait $pid
like 'ended by a signal, or before it' $? '^(0|32|130)$'

finish
