#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# kv on a disk of a durable server: whatever was ok is there after the server
# was killed, after kv was killed with it, and in between; the one command that
# was under way is there or not, and nothing else is.
#
# Environment: FARPAGE_BUILD, TOP_SRCDIR, FARPAGE_SEED.

# shellcheck source-path=SCRIPTDIR/../../tests source=functions.sh
. "$TOP_SRCDIR/tests/functions.sh"
with_seed
need_staging || skip 'no tmpfs at /dev/shm'
kv=$build/client/examples/kv
[ -x "$kv" ] || skip "no $kv (run make)"
work=$dir/work
mkdir "$work"

# run STATUS OUTPUT ARGUMENT...: of kv on the last server's disk
run ()
{
  local want=$1 output=$2 status

  shift 2
  timeout 60 "$kv" "$(uri kv)" "$@" >"$work/out" 2>"$work/err"
  status=$?
  is "kv $*: status" $status "$want"
  is "kv $*" "$(cat "$work/out")" "$output"
}

commands ()
{
  run 0 '' list
  run 0 ok put a 1
  run 0 1 get a
  run 0 ok put a 'two  words'
  run 0 ok put b ''
  run 0 'two  words' get a
  run 0 '' get b
  is 'list' "$("$kv" "$(uri kv)" list | sort)" $'a\nb'
  run 0 ok del b
  run 1 '' del b
  like 'del again' "$(cat "$work/err")" '^kv: b: not there$'
  run 1 '' get b
  run 1 '' put '' 1
  like 'no key' "$(cat "$work/err")" '^kv: key: it has 1 to 1024 bytes$'
  run 0 a list
  run 2 '' put b
  run 2 '' list b
  run 0 ok del a
  is 'lines' "$(printf 'put c 4 5\nget c\ndel c\nget c\nput d 6\ndel d\n' |
    "$kv" "$(uri kv)" - 2>&1)" $'ok\n4 5\nok\nkv: c: not there\nok\nok'
}

# Not enough room, and something else in the place of a log.
refusals ()
{
  like 'no room' "$(nbdkit -U - memory 16k 2>"$work/err" --run \
    "head -c 20000 /dev/zero | tr '\0' x >$work/large
     $kv \"\$uri\" put a \"\$(cat $work/large)\" 2>&1; echo \$?")" \
    'kv: a: there is no room for it .give a larger export..1$'
  like 'too small' "$(nbdkit -U - memory 4095 2>"$work/err" --run \
    "$kv \"\$uri\" list 2>&1; echo \$?")" 'it is too small .4096 bytes at least..1$'
  like 'something else' "$(nbdkit -U - data '@2000 0x53 0xef' size=1M \
    2>"$work/err" --run \
    "$kv \"\$uri\" list 2>&1; echo \$?")" 'it holds something else .*zeros..1$'
}

# on_file COMMAND...: of kv on an image that other means have changed, in one line
on_file ()
{
  nbdkit -U - file "$work/image" 2>"$work/err" --run \
    "$kv \"\$uri\" $* 2>&1" | sort | tr '\n' ' '
}

# A record that is not whole is the end, also of those that are behind it.
torn ()
{
  truncate -s 1M "$work/image"
  is 'three' "$(on_file put a 1; on_file put b 2; on_file put c 3)" 'ok ok ok '
  is 'list' "$(on_file list)" 'a b c '
  # head, record of 14 bytes, checksum and lengths, b
  is 'the value of b' "$(dd if="$work/image" bs=1 skip=4123 count=1 2>&-)" 2
  printf 3 | dd of="$work/image" bs=1 seek=4123 conv=notrunc 2>&-
  is 'b is torn' "$(on_file list)" 'a '
  is 'b again' "$(on_file put b 4)" 'ok '
  is 'c is not' "$(on_file list)" 'a b '
  is 'b has' "$(on_file get b)" '4 '
}

# lines NUMBER ROUND: commands, each of which says ok
lines ()
{
  awk -v nr="$1" -v round="$2" -v seed=$((FARPAGE_SEED % 32768 + $2)) 'BEGIN {
    srand(seed)
    for (i = 1; i <= nr; i++) {
      if (i % 5 == 4)
        print "put d" i " gone soon"
      else if (i % 5 == 0)
        print "del d" i - 1
      else {
        value = round "-" i
        n = int(rand() * 40)
        while (n-- > 0)
          value = value " " i * n
        print "put k" int(rand() * 300) " " value
      }
    }
  }'
}

# state NUMBER: what is there after so many lines of this round
state ()
{
  { cat "$work/done"; head -n "$1" "$work/lines"; } | awk '
    $1 == "put" { key = $2; sub(/^put [^ ]* /, ""); value[key] = $0 }
    $1 == "del" { delete value[$2] }
    END { for (key in value) print key " " value[key] }' | sort
}

# What kv says is there.
all ()
{
  timeout 60 "$kv" "$(uri kv)" list >"$work/keys" || return
  paste -d ' ' "$work/keys" \
    <(sed 's/^/get /' "$work/keys" | timeout 60 "$kv" "$(uri kv)" -) | sort
}

nr_ok ()
{
  grep -cx ok "$work/ok"
}

# shellcheck disable=SC2317 # until_true calls it
has_ok ()
{
  [ "$(nr_ok)" -ge "$1" ]
}

start ()
{
  start_farpage kv "$dir/volume" staging="$staging" || no_start
}

# begin NUMBER ROUND: kv, in the background
begin ()
{
  lines "$1" "$2" >"$work/lines"
  : >"$work/ok"
  "$kv" "$(uri kv)" - <"$work/lines" >"$work/ok" 2>"$work/kv.err" &
  writer=$!
  pids+=("$writer")
}

# verify WHAT: of the last round all that was ok is there, and at most the next
verify ()
{
  local n

  n=$(nr_ok)
  all >"$work/all"
  state "$n" >"$work/want"
  if ! cmp -s "$work/want" "$work/all"; then
    n=$((n + 1))
    state "$n" >"$work/want"
  fi
  is "$1: after $n ok" "$(diff "$work/want" "$work/all" | head -5)" ''
  head -n "$n" "$work/lines" >>"$work/done"
}

# The server dies three times, kv goes on.
server_dies ()
{
  local n at status

  begin 700 0
  for n in 1 2 3; do
    random 150
    at=$((n * 200 - 150 + random))
    until_true 60 has_ok $at || no "kv has not said ok $at times"
    dies
    start
  done
  wait "$writer"
  status=$?
  is "kv's status ($(tail -1 "$work/kv.err"))" $status 0
  forget "$writer"
  is 'all are ok' "$(nr_ok)" 700
  verify 'the server died'
}

# Both die, in either order.
both_die ()
{
  begin 100000 "$1"
  random 150
  until_true 60 has_ok $((random + 1)) || no 'kv says nothing'
  if [ $(($1 % 2)) -eq 0 ]; then
    dies
    dies "$writer"
  else
    dies "$writer"
    dies
  fi
  is "$1: kv had more to do" "$(($(nr_ok) < 100000))" 1
  start
  verify "both died, $1"
}

ok 'format' "$farpage" format "$dir/volume" --size 256M --ring 4M
start
ok 'create' "$farpage" create kv 128M
commands
refusals
torn
: >"$work/done"
server_dies
for n in 1 2 3 4; do
  both_die $n
done
ok 'stop' "$farpage" stop
ended 'stop' 0
clean 'volume' "$dir/volume"
finish
