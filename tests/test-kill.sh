#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# kill -9 under eight connections that write: after the restart every request
# that was answered is there, every other is there or not, page by page.  Also
# when the next server is killed while it recovers, and with no staging.
#
# Environment: FARPAGE_KILLS (20), FARPAGE_SEED.

. "$(dirname "$0")/functions.sh"
kills=${FARPAGE_KILLS:-20}
with_seed
need_staging || skip 'no tmpfs at /dev/shm'

# killed HOW: at a random moment of a run, or of its recovery
killed ()
{
  local answer killer

  # a slow machine dials for longer than the server may live
  is "$1: connect" "$(ask dial)" ok
  random 500
  printf -v at '0.%03d' $((random + 30))
  {
    sleep "$at"
    kill -KILL "$server"
  } 2>/dev/null &
  killer=$!
  answer=$(ask run 20000)
  { wait $killer "$server"; } 2>/dev/null
  is "$1: it lived until then" $? 137
  forget "$server"
  like "$1: the run until $at s" "$answer" \
    '^gone .* errors=0 \(first: none\) wrong=0$'
  [[ ! $answer =~ replied=([0-9]+) ]] || replied=$((replied + BASH_REMATCH[1]))
}

# phase NAME KILLS ARGUMENT...: a store, killed and restarted
phase ()
{
  local name=$1 nr=$2 n more disk

  shift 2
  replied=0 again=0
  ok "$name: format" "$farpage" format "$dir/$name" --size 64M --ring 4M
  start_farpage "$name" "$dir/$name" "$@" || no_start
  for disk in one two; do
    ok "$name: create" "$farpage" create $disk 8M --shared
  done
  open_oracle 8 8 one two
  for ((n = 1; n <= nr; n++)); do
    killed "$name $n"
    # every third time: once or twice more, while it recovers
    for ((more = n % 3 == 0 ? 1 + n % 2 : 0; more > 0; more--)); do
      run_nbdkit -f -U "$dir/again.sock" "$plugin" "$dir/$name" "$@" control= \
        >"$dir/again.log" 2>&1 &
      random 50
      sleep "$(printf '0.%03d' "$random")"
      dies $!
      rm -f "$dir/again.sock"
      again=$((again + 1))
    done
    start_farpage "$name" "$dir/$name" "$@" || no_start
    is "$name $n: all is there" "$(ask verify)" 'ok 4096'
    [ $failed -eq 0 ] || finish
  done
  note "$name: $nr kills, $again in recovery, $replied requests replied"
  ok "$name: stop" "$farpage" stop
  ended "$name" 0
  clean "$name" "$dir/$name"
}

phase staged $((kills * 5 / 10)) staging="$staging"
phase small $((kills * 2 / 10)) staging="$staging" cache=1M
phase unstaged $((kills * 3 / 10)) staging=
finish
