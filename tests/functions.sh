# SPDX-License-Identifier: BSD-2-Clause
# What the tests of the server share.  A test sets nothing and sources this:
#
#   . "$(dirname "$0")/functions.sh"
#
# It then has a directory of its own, $dir, which goes away at the end with
# every process in $pids.  Each comparison below is one case; `finish` prints
# how many there were and ends the test.
#
# Environment: FARPAGE_BUILD, the top of the build tree (default: what the
# test was started in, or its parent).

set -u
PATH=$PATH:/usr/sbin:/sbin # where a user's PATH has no mkfs
export LC_ALL=C.UTF-8
unset FARPAGE_SOCKET COLUMNS
test_name=$(basename "$0" .sh)
build=${FARPAGE_BUILD:-$(if test -d plugins; then pwd; else cd .. && pwd; fi)}
srcdir=$(cd "$(dirname "$0")" && pwd)
plugin=$build/plugins/farpage/.libs/nbdkit-farpage-plugin.so
farpage=$build/client/tool/farpage
# shellcheck source-path=SCRIPTDIR source=cases.sh
. "$(dirname "${BASH_SOURCE[0]}")/cases.sh"
pids=()
staging= # a directory in memory, see need_staging
around=() # a command that runs the server's, as strace does
SECONDS=0

skip ()
{
  echo "SKIP: $test_name: $*"
  exit 77
}

# requires PROGRAM...: or the test cannot run here
requires ()
{
  local program

  for program in "$@"; do
    command -v "$program" >/dev/null || skip "no $program on this machine"
  done
}

requires nbdkit jq
[ -e "$plugin" ] || skip "no $plugin (run make)"
dir=$(mktemp -d "${TMPDIR:-/tmp}/farpage-test.XXXXXX") || exit 1
export XDG_RUNTIME_DIR=$dir/run
mkdir "$XDG_RUNTIME_DIR"
# A plugin built with a sanitizer needs its library in nbdkit, too.
preload=$(ldd "$plugin" | awk '$1 ~ /^lib[at]san/ { print $3; exit }')

cleanup ()
{
  local pid

  trap - EXIT
  for pid in "${pids[@]}"; do
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done 2>/dev/null
  rm -rf "$dir" $staging || { sleep 0.5; rm -rf "$dir" $staging; }
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# ---- cases ----

note ()
{
  echo "$test_name: $*"
}

# ok WHAT COMMAND...: it works, and says why if it does not
ok ()
{
  local what=$1

  shift
  cases=$((cases + 1))
  "$@" >"$dir/ok.out" 2>&1 || no "$what: status $?: $(tail -3 "$dir/ok.out")"
}

finish ()
{
  local sanitizer

  sanitizer=$(grep -hE -m1 'ERROR: .*Sanitizer|WARNING: Thread|runtime error:' \
    "$dir"/*.log 2>/dev/null)
  [ -z "$sanitizer" ] || no "$sanitizer"
  echo "$test_name: $cases cases, $failed failed, $SECONDS s"
  [ "$failed" -eq 0 ]
  exit
}

# until_true SECONDS COMMAND...: 1 if it never is
until_true ()
{
  local n=$(($1 * 20))

  shift
  while ! "$@" >/dev/null 2>&1; do
    n=$((n - 1))
    [ $n -gt 0 ] || return 1
    sleep 0.05
  done
}

# ---- servers ----

run_nbdkit ()
{
  # Not a subshell's child: `nbdkit -f` ends with the thread that started it.
  export LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0
  exec "${around[@]}" nbdkit "$@"
}

server_up ()
{
  [ -S "$1" ] && [ -S "$2" ] || is_gone "$server"
}

# start_farpage NAME ARGUMENT...: a server in the foreground with parameters
# and options of nbdkit's.  Sets $server (pid), $socket, $control, $log, which
# last until the next start.  1: it did not come up.
start_farpage ()
{
  local name=$1

  shift
  socket=$dir/$name.sock control=$dir/$name.ctl log=$dir/$name.log
  rm -f "$socket" "$control" # of one that was killed
  run_nbdkit -f -U "$socket" "$plugin" "$@" control="$control" >"$log" 2>&1 &
  server=$!
  pids+=("$server")
  export FARPAGE_SOCKET=$control
  until_true 20 server_up "$socket" "$control"
  alive && return
  echo "the server did not start: $(cat "$log")"
  return 1
}

no_start ()
{
  no 'a server did not start'
  finish
}

alive ()
{
  ! is_gone "$server"
}

# ended WHAT STATUS: the server ends within 10 s, with this status
ended ()
{
  until_true 10 is_gone "$server" || no "$1: it does not end"
  wait "$server" 2>/dev/null
  is "$1: status" $? "$2"
}

# dies [PID]: it is killed as by kill -9
dies ()
{
  local pid=${1-$server}

  kill -KILL "$pid"
  { wait "$pid"; } 2>/dev/null
  forget "$pid"
}

# forget PID: it has ended, and its number is anybody's
forget ()
{
  local i

  for i in "${!pids[@]}"; do
    [ "${pids[i]}" != "$1" ] || unset "pids[i]"
  done
}

said_or_gone ()
{
  is_gone "$1" || grep -qE -e "$3" "$2"
}

# gave_up WHAT PID LOG SECONDS REGEX: nbdkit ends with status 1.  With a sanitizer
# in it, it says why and then hangs in an exit handler of libp11-kit: there
# only that it says why is looked at.
gave_up ()
{
  if [ -n "$preload" ]; then
    until_true "$4" said_or_gone "$2" "$3" "$5"
    kill -KILL "$2" 2>/dev/null
    wait "$2" 2>/dev/null
    return
  fi
  until_true "$4" is_gone "$2" || kill "$2"
  wait "$2"
  is "$1: status" $? 1
}

# refused REGEX ARGUMENT...: a server with these does not start and says why
refused ()
{
  local want=$1 pid

  shift
  (run_nbdkit -f -U "$dir/refused.sock" "$plugin" "$@") \
    >"$dir/refused.log" 2>&1 </dev/null &
  pid=$!
  pids+=("$pid")
  gave_up "$*" $pid "$dir/refused.log" 20 "$want"
  like "$*" "$(cat "$dir/refused.log")" "$want"
  rm -f "$dir/refused.sock"
}

# Also of a zombie that nobody has waited for.
is_gone ()
{
  ! readlink "/proc/$1/exe" >/dev/null
}

# uri [NAME]: of the last server's export
uri ()
{
  echo "nbd+unix:///${1-}?socket=$socket"
}

# ---- durable stores ----

# need_staging: $staging is a directory in memory; 1: there is none here
need_staging ()
{
  [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] || return 1
  staging=$(mktemp -d /dev/shm/farpage-test.XXXXXX)
}

# random BELOW: $random is a number, out of $FARPAGE_SEED
random ()
{
  random=$(((RANDOM << 15 | RANDOM) % $1))
}

# with_seed: $FARPAGE_SEED is told, and is what random numbers come from
with_seed ()
{
  export FARPAGE_SEED=${FARPAGE_SEED:-$((RANDOM << 15 | RANDOM))}
  note "FARPAGE_SEED=$FARPAGE_SEED"
  RANDOM=$((FARPAGE_SEED % 32768))
}

# open_oracle MIB CONNS NAME...: a client that knows what its disks must hold
open_oracle ()
{
  open_client "$build/tests/nbd-oracle" "$socket" "$@"
}

# clean WHAT VOLUME...: `farpage check` finds nothing wrong
clean ()
{
  local what=$1

  shift
  ok "$what: check" "$farpage" check "$@"
}

# ---- looking ----

# script LINE...: what nbd-script answers, a line each
script ()
{
  printf '%s\n' "$@" | timeout 100 "$build/tests/nbd-script"
}

# script1 LINE...: the last answer alone
script1 ()
{
  script "$@" | tail -1
}

# open_client [PROGRAM ARGUMENT...]: one more nbd-script, or what is given, in
# the background; $now is its number, and says whom `ask LINE` asks.  Its pid is
# ${clients[now]}.
clients=() client_in=() client_out=()
open_client ()
{
  local in out

  now=${#clients[@]}
  [ $# -gt 0 ] || set -- "$build/tests/nbd-script"
  mkfifo "$dir/client$now.in" "$dir/client$now.out"
  "$@" <"$dir/client$now.in" >"$dir/client$now.out" &
  clients+=($!)
  pids+=($!)
  exec {in}>"$dir/client$now.in" {out}<"$dir/client$now.out"
  client_in+=("$in") client_out+=("$out")
}

ask ()
{
  local line

  echo "$*" >&"${client_in[now]}"
  read -r -t 60 line <&"${client_out[now]}"
  echo "$line"
}

# close_client: it comes to its end
close_client ()
{
  exec {client_in[now]}>&- {client_out[now]}<&-
  { wait "${clients[now]}"; } 2>/dev/null
  forget "${clients[now]}"
}

# asked WANTED LINE...: does a client of this moment get this answer?
asked ()
{
  local want=$1

  shift
  [ "$(script1 "$@")" = "$want" ]
}

# stat FILTER: of `farpage stat --json`, by jq
stat_of ()
{
  "$farpage" stat --json | jq -r "$1"
}

mapped ()
{
  stat_of .pool.mapped_bytes
}

# An object's numbers: object NAME KEY
object ()
{
  "$farpage" ls --json |
    jq -r --arg n "$1" ".objects[] | select(.name == \$n) | .$2"
}
