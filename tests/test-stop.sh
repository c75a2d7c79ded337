#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# `farpage stop` while clients have requests in flight: no client ever sees an
# error, only the end of its connection; what was not answered is for the next
# server.  A bare SIGTERM is different, and documented.

. "$(dirname "$0")/functions.sh"
requires fio

# stopped WHAT HOW ERRORS: 4 connections with 16 requests each under way
stopped ()
{
  local out=$dir/client.out client

  "$farpage" create disk 16M --shared
  "$build/tests/nbd-stop" "$socket" disk 4 16 >"$out" 2>&1 &
  client=$!
  pids+=($client)
  until_true 10 grep -q started "$out"
  sleep 0.3
  case $2 in
  stop) like "$1: farpage stop" "$("$farpage" stop)" \
    "^stopped .pid $server.$" ;;
  TERM) kill -TERM "$server" ;;
  esac
  ended "$1" 0
  wait $client
  is "$1: every connection ends" $? 0
  note "$1: $(tail -1 "$out")"
  like "$1: the client" "$(tail -1 "$out")" "$3"
}

none='^replied=[0-9]+ errors=0 \(first: none\) lost=(64|[0-9]+)$'
for n in 1 2 3; do
  start_farpage "plain$n" mem:32M || exit 1
  stopped "round $n" stop "$none"
done
truncate -s 32M "$dir/vol"
start_farpage file "$dir/vol" durability=volatile || exit 1
stopped 'file' stop "$none"
start_farpage delay mem:32M --filter=delay rdelay=50ms wdelay=50ms || exit 1
stopped 'delayed' stop "$none"
like 'delayed: all 64 are unanswered' "$(tail -1 "$dir/client.out")" 'lost=64$'
start_farpage term mem:32M --filter=delay rdelay=50ms wdelay=50ms || exit 1
stopped 'SIGTERM' TERM 'errors=[1-9][0-9]* \(first: ESHUTDOWN\)'

# fio does not see an error of the server, either
start_farpage fio mem:64M --filter=delay rdelay=5ms wdelay=5ms || exit 1
"$farpage" create disk 32M
fio --name=a --ioengine=nbd --uri="$(uri disk)" --rw=randrw --bs=4k \
  --iodepth=16 --time_based --runtime=20 --size=32M >"$dir/fio.out" 2>&1 &
client=$!
pids+=($client)
busy ()
{
  [ "$(stat_of '.requests.write.count > 100')" = true ]
}
until_true 10 busy || no 'fio does nothing'
like 'fio: farpage stop' "$("$farpage" stop)" '^stopped'
wait $client
unlike 'fio: no reply is an error' "$(cat "$dir/fio.out")" \
  '[Ss]hutdown|ESHUTDOWN|Input/output'
finish
