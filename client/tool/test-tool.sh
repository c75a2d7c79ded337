#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# What `farpage` takes and refuses, its exit statuses and JSON, against the
# control server over a fake store; and its help against its manual.
#
# Environment: FARPAGE, FAKE_SERVER (programs), SRCDIR, TOP_SRCDIR.

set -u
# shellcheck source-path=SCRIPTDIR/../../tests source=cases.sh
. "$TOP_SRCDIR/tests/cases.sh"
export LC_ALL=C.UTF-8
unset FARPAGE_SOCKET COLUMNS

command -v jq >/dev/null || { echo "SKIP: no jq"; exit 77; }
[ -x "$FAKE_SERVER" ] || { echo "SKIP: no $FAKE_SERVER"; exit 77; }

dir=$(mktemp -d)
mkdir "$dir/run"
export XDG_RUNTIME_DIR=$dir/run
sock=$dir/c.sock
pids=()

finish ()
{
  for pid in "${pids[@]}"; do
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  rm -rf "$dir"
}
trap finish EXIT

# expect STATUS OUT-REGEX ERR-REGEX ARGUMENT...: an empty regex: no output
expect ()
{
  local want=$1 out=$2 err=$3 status
  shift 3
  cases=$((cases + 1))
  timeout 40 "$FARPAGE" "$@" >"$dir/out" 2>"$dir/err" </dev/null
  status=$?
  [ $status -eq "$want" ] || no "farpage $*: status $status, not $want"
  match "$dir/out" "$out" || no "farpage $*: stdout: $(cat "$dir/out")"
  match "$dir/err" "$err" || no "farpage $*: stderr: $(cat "$dir/err")"
  if [ -s "$dir/err" ]; then
    # one line, "farpage: THING: what (remedy)", and no control character
    if [ "$(wc -l <"$dir/err")" -ne 1 ] || ! grep -q '^farpage: ' "$dir/err" ||
      LC_ALL=C grep -q '[[:cntrl:]]' "$dir/err"; then
      no "farpage $*: not a good message: $(cat "$dir/err")"
    fi
  fi
}

match ()
{
  if [ -z "$2" ]; then
    [ ! -s "$1" ]
  else
    grep -qE -e "$2" "$1"
  fi
}

# serve ARGUMENT...: start a fake server; its pid is $server
serve ()
{
  : >"$dir/path"
  "$FAKE_SERVER" "$@" >"$dir/path" 2>>"$dir/log" &
  server=$!
  pids+=("$server")
  for _ in $(seq 100); do
    [ -s "$dir/path" ] && return
    sleep 0.05
  done
  no "the fake server does not start: $(cat "$dir/log")"
}

usage ()
{
  expect 2 '' "no command .see 'farpage --help'"
  expect 2 '' "unknown command 'frob'" frob
  expect 2 '' "unknown option '--bad'" --bad
  expect 2 '' "unknown option '-h'" -h
  expect 2 '' "unknown option '--json'" --json ls
  expect 2 '' "ls: unknown option '--force'.*farpage ls --help" ls --force
  expect 2 '' "unknown option '--jso'" ls --jso
  expect 2 '' "unknown option '-x'" ls -x
  expect 2 '' '--json takes no value' ls --json=1
  expect 2 '' '--socket needs a PATH' ls --socket
  expect 2 '' '--socket needs a PATH' ls --socket=
  expect 2 '' 'one argument too many' ls a
  expect 2 '' 'one argument too many' stop a
  expect 2 '' 'one argument too many' stat a b
  expect 2 '' 'it takes NAME' rm
  expect 2 '' 'it takes NAME SIZE' create a
  expect 2 '' 'one argument too many' create a 1G 2G
  for size in '' -- x 1.5G 1KB ' 1' 1G1 0x10; do
    expect 2 '' "is no size|unknown option|it takes NAME" create a "$size"
  done
  expect 2 '' "unknown option '-1G'" create a -1G
  expect 2 '' 'is no size' create a -- -1G
  expect 2 '' 'a disk has' create a 0
  expect 2 '' 'a disk has' create a 8E
  expect 2 '' 'a disk has' create a 99999999999999999999
  expect 2 '' 'is not UTF-8' create $'\xff' 1G
  expect 2 '' 'is not UTF-8' rm $'\xff'
  expect 2 '' 'it takes NAME SIZE' resize a
  expect 2 '' 'one argument too many' resize a 1G 2G
  expect 2 '' "unknown option '--force'" resize a 1G --force
  expect 2 '' 'is no size' resize a 1KB
  expect 2 '' 'a disk has' resize a 0
  expect 2 '' 'is not UTF-8' resize $'\xff' 1G
  expect 2 '' 'is not UTF-8' stat $'\xff'
  expect 2 '' "unknown command '.a.'" $'\na\e'
  expect 0 '^farpage [0-9]' '' --version
  expect 0 '^Usage: farpage COMMAND' '' --help
  expect 2 '' 'it takes URI' attach
  expect 2 '' 'one argument too many' attach nbd://h /dev/nbd0 x
  for path in /dev/sda nbd0 /dev/nbd /dev/nbd0p1 /dev/nbd-1 /dev/nbd99999; do
    expect 2 '' "'$path' is no /dev/nbdN" attach nbd://h/x $path
    expect 2 '' "'$path' is no /dev/nbdN" detach $path
    expect 2 '' "'$path' is no /dev/nbdN" grow $path
  done
  expect 2 '' 'no TLS.*WireGuard' attach nbds://h/x
  expect 2 '' 'no TLS.*WireGuard' attach nbds+unix:///x
  for option in --label=x --priority=1 --discard=no --force; do
    expect 2 '' "${option%=*} is for --swap" attach nbd://h/x $option
  done
  expect 2 '' '--background is for --persist' attach nbd://h/x --background
  expect 2 '' '--unverified is for --persist' attach nbd://h/x --unverified
  expect 2 '' 'at most 15 bytes' attach nbd://h/x --swap --label 1234567890123456
  for n in -1 32768 x 1x 99999999999999999999; do
    expect 2 '' "'$n' is no priority" attach nbd://h/x --swap --priority=$n
  done
  expect 2 '' '--discard is one of no, once' attach nbd://h/x --swap --discard x
  for n in 0 17 x 1x -1; do
    expect 2 '' '--connections is 1 to 16' attach nbd://h/x --connections=$n
  done
  expect 2 '' 'swap has one connection' attach nbd://h/x --swap --connections 2
  expect 1 '' '/dev/nbd65535: it is not attached' detach /dev/nbd65535
  expect 1 '' '/dev/nbd65535: it is not attached' grow /dev/nbd65535
  for command in create rm resize ls stat stop format info dump check bench \
    attach grow detach; do
    expect 0 "^Usage: farpage $command" '' $command --help
  done
}

unreachable ()
{
  expect 1 '' "no server found in $dir/run/farpage or /run/farpage" ls
  expect 1 '' 'No such file.*nbdkit farpage' ls --socket "$sock"
  expect 1 '' 'File name too long' ls --socket "$(printf '%0200d' 0)"
  : >"$dir/file"
  expect 1 '' "$dir/file: Connection refused" ls --socket "$dir/file"
  FARPAGE_SOCKET=$dir/none expect 1 '' "$dir/none: No such file" ls
  FARPAGE_SOCKET='' expect 1 '' 'no server found' ls
}

answers ()
{
  serve "$sock"
  export FARPAGE_SOCKET=$sock
  expect 0 '^vm1 ' '' ls
  expect 0 '^NAME ' '' ls --socket="$sock"
  FARPAGE_SOCKET=$dir/none expect 0 '^NAME ' '' ls --socket "$sock"
  expect 0 '^NAME ' '' --socket "$sock" ls
  expect 0 '' '' create a 10G
  expect 1 '' '^farpage: a: is there already' create a 1
  expect 0 '"instance": "[0-9a-f]{32}"' '' create b 1p --json --shared
  expect 1 '' 'size must be a whole number' create c 2P
  expect 1 '' 'not enough free space' create c 512T --reserve
  expect 0 '' '' create --reserve c 1g
  expect 1 '' 'none of /' create a/b 1G
  expect 0 '' '' create -- -name 1G
  expect 2 '' 'unknown option' rm -name
  expect 0 '' '' rm -- -name
  expect 1 '' '^farpage: -name: no such disk' rm -- -name
  expect 1 '' 'vm1: a client has it open' rm vm1
  expect 1 '' 'vm1: a client has it open, and' resize vm1 1
  expect 1 '' 'size must be a whole number' resize vm1 2P
  expect 1 '' '^farpage: none: no such disk' resize none 1
  expect 1 '' '^farpage: swap/a: swap keeps' resize swap/a 1
  expect 0 '' '' resize a 12G
  expect 0 '^a: 12.0G \(12884901888 bytes\)' '' stat a
  expect 0 '' '' resize a 10G
  expect 0 '' '' rm vm1 --force
  expect 1 '' 'no such disk' stat vm1
  expect 1 '' 'no such disk' stat -- --json
  expect 0 '^a: 10.0G \(10737418240 bytes\)' '' stat a
}

json ()
{
  cases=$((cases + 4))
  "$FARPAGE" ls --json | jq -e '
    .objects | length == 4 and all(.size_bytes > 0) and
    (map(select(.name == "c")) | .[0].reserved)' >"$dir/out" ||
    no "ls --json: $("$FARPAGE" ls --json)"
  "$FARPAGE" stat --json | jq -e '
    .pool.size_bytes == 107374182400 and .pool.mapped_bytes > 0 and
    .pool.reserved_bytes > 0 and .pool.parked_bytes > 0 and
    .state == "running" and .durability == "strict" and
    .armour == {"flusher": false, "locked": true, "oom_score_adj": -7} and
    .store.epoch == 12 and .store.cache.meta.dirty_bytes == 3145728 and
    .store.log.write_amplification > 0 and .store.recovery.staged == 17 and
    .retired[0].block == 4711 and .reason == "" and
    (.volumes | length) == 2 and (.objects | length) == 4 and
    (.connections | length) == 2 and .requests.read.count == 1000 and
    (.bounds | all(.used <= .max)) and (has("ok") | not)' >"$dir/out" ||
    no "stat --json: $("$FARPAGE" stat --json)"
  "$FARPAGE" stat --json >"$dir/out"
  grep -q '"uptime": 93784.123,' "$dir/out" ||
    no 'stat --json: uptime is not as the server says'
  "$FARPAGE" stat a --json | jq -e '.objects[0].name == "a"' >"$dir/out" ||
    no "stat a --json: $("$FARPAGE" stat a --json)"
}

# For people: 80 columns, no control character, also where names have some.
pretty ()
{
  cases=$((cases + 3))
  expect 0 '' '' create $'\u78c1\u789f\u78c1\u789f\u78c1\u789f\u0378' 1G
  for columns in 1 40 60 79; do
    COLUMNS=$columns "$FARPAGE" stat >"$dir/out" || no "stat, $columns columns"
  done
  expect 0 '' '' rm $'\u78c1\u789f\u78c1\u789f\u78c1\u789f\u0378'
  COLUMNS=80 "$FARPAGE" stat >"$dir/out"
  [ "$(wc -L <"$dir/out")" -le 80 ] || no "stat is wider than 80 columns"
  LC_ALL=C grep -q $'[^[:print:]]' "$dir/out" && no 'stat: not printable'
  grep -q ' $' "$dir/out" && no 'stat: blanks at the end of a line'
  for word in '^Pool: 100.0G' \
    '^armour  *memory locked, no I/O flusher, OOM score -7$' '^log .*of 1.0G' '^CACHE' '^staging .*run' 'RETIRED' '^mapped' '^VOLUME' '^NAME' '^ID' '^REQUESTS' \
    '^BOUND' '^FREE RUNS' 'fenced' '1d 1h' '#####'; do
    grep -q -e "$word" "$dir/out" || no "stat shows no '$word'"
  done
}

follow ()
{
  local tail1 tail2

  cases=$((cases + 2))
  "$FARPAGE" stat --follow >"$dir/follow" 2>>"$dir/log" &
  tail1=$!
  "$FARPAGE" stat --follow --json >"$dir/follow.json" 2>>"$dir/log" &
  tail2=$!
  pids+=("$tail1" "$tail2")
  for _ in $(seq 40); do
    sleep 0.25 # both have their first answer, and a subscription after it
    [ -s "$dir/follow" ] && [ -s "$dir/follow.json" ] && break
  done
  kill -USR1 "$server"
  for _ in $(seq 40); do
    sleep 0.25
    grep -q event "$dir/follow.json" && grep -q 'space: almost' "$dir/follow" &&
      break
  done
  grep -qE '^[0-9: -]{19}  space: almost full$' "$dir/follow" ||
    no "stat --follow: $(tail -1 "$dir/follow")"
  jq -e -s '.[0].pool and .[1].event == "space"' "$dir/follow.json" \
    >"$dir/out" || no "stat --follow --json: $(cat "$dir/follow.json")"
}

stop ()
{
  expect 0 "^stopped .pid $server.$" '' stop
  cases=$((cases + 1))
  kill -0 "$server" 2>/dev/null && no 'stop: the server is still there'
  [ -e "$sock" ] && no 'stop: the socket is still there'
  expect 1 '' 'No such file' stop
  unset FARPAGE_SOCKET

  serve - 3 # which takes three seconds to stop
  expect 0 '^stopped' 'waiting for the server' stop
}

found ()
{
  local first

  serve -
  first=$server
  expect 0 '^NAME ' '' ls
  serve -
  expect 1 '' "2 servers are running: .*sock, .*sock .*--socket" ls
  kill -KILL "$server"
  wait "$server" 2>/dev/null # its socket stays, and counts no more
  expect 0 '^NAME ' '' ls
  expect 0 "^stopped .pid $first" '' stop
  expect 1 '' 'no server found' stop
}

# An output that cannot be written is a failure.
full_output ()
{
  serve "$sock"
  cases=$((cases + 1))
  if "$FARPAGE" ls --socket "$sock" >/dev/full 2>"$dir/err"; then
    no 'ls to a full device is no failure'
  fi
  expect 0 stopped '' stop --socket "$sock"
}

# Options and commands of the help, the manual and the completion, both ways.
agreement ()
{
  local man=$SRCDIR/farpage.1 completion=$TOP_SRCDIR/contrib/completion/farpage

  cases=$((cases + 8))
  {
    "$FARPAGE" --help
    for command in $("$FARPAGE" --help | sed -n '/^Commands/,/^$/s/^  \([a-z-]*\) .*/\1/p'); do
      "$FARPAGE" "$command" --help
      echo "$command" >>"$dir/commands"
    done
  } | grep -o -e '--[a-z-]*' | sort -u >"$dir/help.options"
  sed -n 's/^\.It Fl -\([a-z-]*\).*/--\1/p' "$man" | sort -u >"$dir/man.options"
  diff "$dir/help.options" "$dir/man.options" >"$dir/out" ||
    no "options of --help (<) and of farpage.1 (>): $(cat "$dir/out")"
  sed -n 's/^\.It Ic \([a-z-]*\).*/\1/p' "$man" >"$dir/man.commands"
  diff "$dir/commands" "$dir/man.commands" >"$dir/out" ||
    no "commands of --help (<) and of farpage.1 (>): $(cat "$dir/out")"
  [ -s "$dir/commands" ] || no 'no commands in --help'
  while read -r command; do
    # those of this command alone: --socket and --help are told once
    "$FARPAGE" "$command" --help | sed 1d | grep -o -e '--[a-z-]*' | sort -u |
      grep -v -e --socket -e --help >"$dir/help.own"
    grep -e "^\.It Ic $command\( \|$\)" "$man" | grep -o -e 'Fl -[a-z-]*' |
      sed 's/Fl /-/' | sort -u >"$dir/man.own"
    diff "$dir/help.own" "$dir/man.own" >"$dir/out" ||
      no "$command: options of --help (<) and farpage.1 (>): $(cat "$dir/out")"
    "$FARPAGE" "$command" --help | grep -o -e '--[a-z-]*' | sort -u \
      >"$dir/help.own"
    sed -n "s/^  $command) words='\(.*\)'.*/\1/p" "$completion" | tr ' ' '\n' |
      sort -u >"$dir/completion.own"
    diff "$dir/help.own" "$dir/completion.own" >"$dir/out" ||
      no "$command: options of --help (<) and completion (>): $(cat "$dir/out")"
  done <"$dir/commands"
}

usage
unreachable
answers
json
pretty
follow
stop
found
full_output
agreement
echo "test-tool: $cases cases, $failed failed"
[ "$failed" -eq 0 ]
