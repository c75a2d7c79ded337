#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# `farpage stop` with clients attached and requests in flight, then a start:
# clients that send again what was not answered go on without an error, and the
# store was closed cleanly, so that nothing is recovered.
#
# Environment: FARPAGE_SEED.

. "$(dirname "$0")/functions.sh"
with_seed
need_staging || skip 'no tmpfs at /dev/shm'

# stop_start WHAT ARGUMENT...
stop_start ()
{
  local what=$1

  shift
  ok "$what: stop" "$farpage" stop
  ended "$what" 0
  like "$what: info" "$("$farpage" info --json "$dir/vol" |
    jq -r '.. | .state? // empty' | sort -u | xargs)" '^clean$'
  is "$what: nothing is staged" "$(ls -A "$staging")" ''
  start_farpage server "$dir/vol" -v "$@" || no_start
  unlike "$what: nothing is recovered" "$(cat "$log")" 'store: recovered'
}

# rounds WHAT ARGUMENT...: three of them under four connections
rounds ()
{
  local what=$1 n answer

  shift
  open_oracle 4 4 one two
  echo 'resume 4000' >&"${client_in[now]}"
  for n in 1 2 3; do
    random 500
    sleep "$(printf '0.%03d' $((random + 200)))"
    stop_start "$what $n" "$@"
  done
  read -r -t 60 answer <&"${client_out[now]}"
  like "$what: the clients" "$answer" \
    '^ok replied=[1-9][0-9]+ lost=0 errors=0 \(first: none\) wrong=0$'
  note "$what: $answer"
  is "$what: all is there" "$(ask verify)" 'ok 2048'
}

ok format "$farpage" format "$dir/vol" --size 64M --ring 4M
start_farpage server "$dir/vol" -v staging="$staging" || no_start
for disk in one two three; do
  ok create "$farpage" create $disk 4M --shared
done
rounds staged staging="$staging"
for disk in one two; do
  ok 'trim' "$build/tests/nbd-script" <<<"open $socket $disk
trim 0 4194304"
done
rounds 'with delays' staging="$staging" --filter=delay rdelay=20ms wdelay=20ms

# qemu's own client
if command -v qemu-io >/dev/null; then
  {
    for ((i = 0; i < 4000; i++)); do
      echo "write -P $((i % 250 + 1)) $((i % 1024 * 4096)) 4k"
      echo "read -P $((i % 250 + 1)) $((i % 1024 * 4096)) 4k"
    done
    echo quit
  } >"$dir/qemu.in"
  image=driver=nbd,server.type=unix,server.path=$socket
  qemu-io --image-opts "$image",export=three,reconnect-delay=30 \
    <"$dir/qemu.in" >"$dir/qemu.out" 2>&1 &
  qemu=$!
  pids+=($qemu)
  sleep 0.5
  for n in 1 2; do
    stop_start "qemu $n" staging="$staging"
    sleep 0.5
  done
  wait $qemu
  is 'qemu: status' $? 0
  unlike 'qemu: no error' "$(cat "$dir/qemu.out")" '[Ff]ailed|rror'
  is 'qemu: all was done' "$(grep -c '^\(qemu-io> \)*wrote 4096' \
    "$dir/qemu.out")" 4000
fi
ok 'stop' "$farpage" stop
clean 'at the end' "$dir/vol"
finish
