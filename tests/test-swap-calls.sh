#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What a server of swap must not do while pages are on their way: ask anybody
# for memory, or write a message.  Requests of all kinds over all of a swap
# export, from the first on, of memory, of a file, of a store that is kept, and
# of swap that is kept; count-calls.c counts.  What nbdkit does for itself is
# told, and not judged.

. "$(dirname "$0")/functions.sh"
requires od
[ -z "$preload" ] || skip 'a sanitizer has an allocator of its own'
counter=$build/tests/.libs/count-calls.so
[ -e "$counter" ] || skip "no $counter (run make check)"
preload=$counter # for run_nbdkit
size=$((48 * 1048576))
page=4096
kinds=(memory 'memory back' mappings threads text)
export FARPAGE_CALLS

count () # 1 or 0
{
  printf "\\$1\\0\\0\\0" |
    dd of="$FARPAGE_CALLS" conv=notrunc bs=4 count=1 status=none
}

# as a kernel has them: 128 KiB and less, clusters, single pages; and worse
requests ()
{
  local i

  for ((i = 0; i < size; i += 131072)); do
    echo "write $i 131072 $((i / 131072 % 250 + 1))"
  done
  for ((i = 0; i < 800; i++)); do # all over it, so that no run stays whole
    echo "write $((i * 61 * page % size)) $page $((i % 250 + 1))"
  done
  for ((i = 0; i < size; i += 2097152)); do
    echo "trim $i 1048576"
    echo "write $((i + 3 * page)) $((5 * page)) 7"
  done
  for ((i = 0; i < size - 131072; i += 131072 * 7)); do
    echo "read $i 131072"
    echo "read $((i + page)) $page"
    echo "write $((i + 100)) 5000 9" # parts of pages
    echo "trim $((i + 50000)) 9000"
    echo "zero $((i + 60000)) 12288"
    echo "zero $((i + 80000)) 12288 nohole"
    echo "write $i 65536 0" # zeros
    echo flush
  done
  for ((i = 0; i < size; i += 16777216)); do
    echo "write $i 16777216 3"
    echo "read $i 16777216"
  done
  echo "cache 0 $size"
  echo "trim 0 $size"
  echo flush
  for ((i = 0; i < size; i += 1048576)); do
    echo "write $i 1048576 11"
  done
  echo "check 0 $((size / 2)) 11"
  echo flush
}

# counted WHAT PARAMETER...: of a server with these
counted ()
{
  local what=$1 ours others i=0

  shift
  FARPAGE_CALLS=$dir/calls
  : >"$FARPAGE_CALLS"
  start_farpage swap "$@" -v armour=no || no_start
  open_client
  like "$what: open" "$(ask "open $socket swap/a:$size")" '^ok'
  sleep 1.5 # with its first tick the control thread's loop has its memory
  count 1
  cat "$dir/requests" >&"${client_in[now]}" &
  for ((i = 0; i < nr; i++)); do
    read -r -t 60 -u "${client_out[now]}" answer || break
    echo "$answer"
  done >"$dir/answers"
  sleep 2.5 # the threads' own work, too
  count 0
  is "$what: answers" "$(sort "$dir/answers" | uniq -c | xargs)" "$nr ok"
  i=0
  while read -r ours others; do
    is "$what: ${kinds[i]}" "$ours" 0
    note "$what: ${kinds[i]}: nbdkit's own: $others in $nr requests"
    i=$((i + 1))
  done < <(od -An -v -w8 -tu4 -j8 -N40 "$FARPAGE_CALLS")
  is "$what: the report is whole" "$i" ${#kinds[@]}
  places "$what"
  # that it would have been seen: this one allocates
  count 1
  ok "$what: another" "$farpage" stat
  count 0
  like "$what: what stat takes is seen" \
    "$(od -An -v -w4 -tu4 -j8 -N4 "$FARPAGE_CALLS")" '[1-9]'
  like "$what: and the text of it" \
    "$(tr -d '\0' <"$FARPAGE_CALLS")" 'calloc|malloc'
  ask close >"$dir/out"
  close_client
  ok "$what: stop" "$farpage" stop
  ended "$what" 0
}

# Where in the plugin each of ours was called, if there were any.
places ()
{
  local name at

  tail -c +49 "$FARPAGE_CALLS" | tr '\0' '\n' | grep -a . |
    sort | uniq -c | while read -r _ name at; do
    echo "$1: $name:"
    # shellcheck disable=SC2086 # one each
    addr2line -sfe "$plugin" $at 2>&1 | paste - - | sed 's/^/    /'
  done
}

requests >"$dir/requests"
nr=$(wc -l <"$dir/requests")
counted memory mem:56M
truncate -s 64M "$dir/vol"
counted file "$dir/vol" durability=volatile
if need_staging; then
  rm "$dir/vol"
  ok format "$farpage" format "$dir/vol" --size 96M --ring 4M
  counted 'a store that is kept' "$dir/vol" staging="$staging"
  counted 'swap that is kept' "$dir/vol" staging="$staging" swap-keep=yes
else
  note 'no tmpfs at /dev/shm: nothing of a store that is kept'
fi
finish
