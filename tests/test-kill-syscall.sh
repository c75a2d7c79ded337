#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# SIGKILL at the N-th system call of a kind, by strace, instead of that call:
# in recovery for small N, later between the steps of commits and cycles.
# After each, the volume is consistent as it is, and a restart has every
# request that was answered.
#
# strace counts the calls of each thread for itself, and which thread writes
# and flushes is whoever waits first: a large N may not come in a run.  Then
# half of it is tried, down to one that does; every point is reached.
#
# Environment: FARPAGE_POINTS (60), FARPAGE_SEED.

. "$(dirname "$0")/functions.sh"
requires strace
points=${FARPAGE_POINTS:-60}
with_seed
need_staging || skip 'no tmpfs at /dev/shm'
strace -f -o "$dir/can" -e inject=getppid:signal=CONT:when=1 true \
  2>"$dir/err" || skip "strace cannot trace here: $(tail -1 "$dir/err")"

# The server's own pid: to kill strace leaves it running.
traced ()
{
  cat "$dir/pid" 2>/dev/null
}

# up ARGUMENT...: a server that nothing traces
up ()
{
  around=()
  start_farpage plain "$dir/vol" "$@" || no_start
}

# killed_at CALL N ARGUMENT...: 1 if no thread came to that call
killed_at ()
{
  local call=$1 n=$2 answer pid what="$1 $2" reached=0

  shift 2
  rm -f "$dir/pid" "$dir/trace"
  around=(strace -f -o "$dir/trace" -e "trace=$call"
    -e "inject=$call:signal=KILL:when=$n")
  if start_farpage plain "$dir/vol" "$@" -P "$dir/pid" >"$dir/out"; then
    answer=$(ask run 1500)
    like "$what: the run" "$answer" '^(gone|ok) .* \(first: none\) wrong=0$'
    [ "${answer%% *}" = gone ] || reached=1
  else
    early=$((early + 1))
  fi
  [ $reached -ne 0 ] ||
    ok "$what: it was killed there" grep -q 'killed by SIGKILL' "$dir/trace"
  pid=$(traced) && kill -KILL "$pid" 2>/dev/null
  { wait "$server"; } 2>/dev/null
  forget "$server"
  # as after a power cut that lost nothing: the staging file is not looked at
  clean "$what" "$dir/vol"
  up "$@"
  is "$what: all is there" "$(ask verify)" 'ok 2048'
  dies
  [ $failed -eq 0 ] || finish
  return $reached
}

early=0 late=0 nr=0
ok format "$farpage" format "$dir/vol" --size 64M --ring 4M
up staging="$staging"
for disk in one two; do
  ok create "$farpage" create $disk 4M --shared
done
open_oracle 4 8 one two
is 'to begin with' "$(ask verify)" 'ok 2048'
dies
calls=(pwritev2 fdatasync io_uring_enter)
while [ $nr -lt "$points" ]; do
  call=${calls[nr % 3]}
  # The first of each in turn, for recovery and the open; then any.
  n=$((nr / 3 + 1))
  if [ $n -gt 10 ]; then
    random 20
    n=$((random + 11))
  fi
  staged=staging=$staging
  [ $((nr / 3 % 3)) -ne 2 ] || staged=staging=
  until killed_at $call $n "$staged"; do
    late=$((late + 1)) n=$((n / 2))
    [ $n -gt 0 ] || {
      no "$call: no thread came to the first"
      finish
    }
  done
  nr=$((nr + 1))
done
note "$nr points, $early before the server was up, $late tried with half"
finish
