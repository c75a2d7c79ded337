#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The relay's command line and its commands: each is answered by one line, and
# one that is wrong changes nothing.  What it does to bytes is in test-relay.c
# and test-cuts.c, whether its times are true in test-times.c.

set -u
relay=${RELAY-./relay}
[ -x "$relay" ] || { echo "SKIP: no $relay (run make check)"; exit 77; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/farpage-relay.XXXXXX") || exit 1
cases=0 failed=0
coproc_pid=

cleanup ()
{
  [ -z "$coproc_pid" ] || kill "$coproc_pid" 2>/dev/null
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

is () # WHAT GOT WANTED
{
  cases=$((cases + 1))
  [ "$2" = "$3" ] && return
  echo "FAILED: $1: got '$2', wanted '$3'"
  failed=$((failed + 1))
}

like () # WHAT GOT REGEX
{
  cases=$((cases + 1))
  [[ $2 =~ $3 ]] && return
  echo "FAILED: $1: got '$2', wanted /$3/"
  failed=$((failed + 1))
}

start () # ARGUMENT...
{
  coproc RELAY_IO { exec "$relay" "$@"; }
  coproc_pid=$RELAY_IO_PID
  to=${RELAY_IO[1]} from=${RELAY_IO[0]}
}

tell () # LINE...: its answer
{
  local line

  echo "$*" >&"$to"
  read -r -t 10 line <&"$from"
  echo "$line"
}

at=unix:$dir/at target=unix:$dir/target

# ---- command line ----

help=$("$relay" --help)
is 'help: status' $? 0
for word in listen set freeze thaw cut refuse heal stat sleep delay jitter \
  rate each seed --realtime; do
  like "help: $word" "$help" "$word"
done
"$relay" one "$at" nowhere </dev/null >"$dir/out"
is 'a bad argument: status' $? 2
is 'a bad argument' "$(cat "$dir/out")" 'error nowhere: no address'
out=$("$relay" one "$at" "$target" delay=1000 </dev/null)
is 'end of input: status' $? 0
is 'arguments are a link' "$out" "ok one $at"
is 'its socket is gone' "$(ls -A "$dir")" out

# From a file, without a terminal or a pipe.
printf 'listen a %s %s\nsleep 1000\nstat b' "$at" "$target" >"$dir/script"
is 'a script' "$("$relay" <"$dir/script")" "ok a $at"$'\n''ok'

# ---- commands ----

start
like 'port 0' "$(tell listen tcp tcp:127.0.0.1:0 "$target")" \
  '^ok tcp tcp:127\.0\.0\.1:[1-9][0-9]*$'
is 'listen' "$(tell listen a "$at" "$target" rate=5 seed=3)" "ok a $at"
while read -r line; do
  like "$line" "$(tell "$line")" '^error '
done <<LINES
nonsense
listen
listen b $at
listen a $at.2 $target
listen b $at $target
listen b $at.2 $target delay=x
listen b $at.2 $target delay=1 more
listen b tcp:127.0.0.1:1x $target
listen b unix:$dir/no/such $target
listen abcdefghijklmnopqrstuvwxyz0123456 $at.2 $target
set
set b delay=1
set a delay
set a delay=
set a delay=-1
set a delay=1.5
set a delay=3600000001
set a delay-left=1
set a jitter=99999999999999999999999
set a rate=1000000000001
set a each=2
set a delay=1 delays=2
freeze
freeze b
freeze a left
freeze a conn=1
freeze a at=3
thaw a conn=x
cut a up
cut a at=3
cut a up at=3 after=3
cut a up down at=3
cut a up at=18446744073709551615
cut a how=soon
refuse b
refuse a now
heal b
stat b
stat a b
sleep
sleep 1 2
sleep -1
LINES
[ -e "$dir/at.2" ]
is 'a bad listen leaves no socket' $? 1
for line in 'set a delay=1 jitter-up=2 rate-down=3 each=1' 'set a delay-up=0' \
  'freeze a' 'freeze a' 'thaw a' 'thaw a down' 'freeze a up' 'heal a' 'cut a' \
  'cut a up at=10 how=close' 'refuse a' 'refuse a' 'heal a' 'heal a' \
  'sleep 1000'; do
  is "$line" "$(tell "$line")" ok
done
if command -v jq >/dev/null; then
  stat=$(tell stat)
  is 'stat' "$(jq -r '.[].name' <<<"${stat#ok }" | xargs)" 'tcp a'
  stat=$(tell stat a)
  is 'stat of one' "$(jq -r '.[0] | [.name, .open, .memory_bytes] | @csv' \
    <<<"${stat#ok }")" '"a",0,0'
fi
echo >&"$to" # a blank line is none
is 'after a blank line' "$(tell heal a)" ok
like 'many words' "$(tell "$(printf 'w %.0s' {1..40})")" '^error '
exec {to}>&-
wait "$coproc_pid"
is 'the end: status' $? 0
coproc_pid=

# A line without an end.
head -c 10000 /dev/zero | tr '\0' x >"$dir/script"
like 'an endless line' "$("$relay" <"$dir/script")" '^error a line of more than'

# SIGTERM ends it like the end of its input.
start a "$at" "$target"
read -r -t 10 _ <&"$from"
kill "$coproc_pid"
wait "$coproc_pid"
is 'SIGTERM: status' $? 0
coproc_pid=
[ -e "$dir/at" ]
is 'SIGTERM: its socket is gone' $? 1

echo "test-relay.sh: $cases cases, $failed failed"
[ $failed -eq 0 ]
