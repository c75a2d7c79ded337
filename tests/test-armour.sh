#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# armour=: in the foreground and behind the fork, what the server has the rights
# for is on, on all threads; what a swap export needs is there before its first
# request, and stat says so.  With fewer rights, or RLIMIT_MEMLOCK as users have
# it, the server says what it lacks, once, and serves; with armour=yes it does not
# start.  And how deep the stacks of our own threads go.
#
# What this machine gives is found out first; what it does not is left out.

. "$(dirname "$0")/functions.sh"
requires setpriv prlimit
[ -z "$preload" ] || skip 'a sanitizer does not let memory be locked'

m=1048576
flusher_flag=$((0x80000)) # PF_MEMALLOC_NOIO in linux/sched.h

status_kib () # KEY
{
  awk -v key="$1:" '$1 == key { print $2 }' "/proc/$server/status"
}

# pool: "SIZE RSS LOCKED" in KiB of the server's memory volume
pool ()
{
  awk '/^[0-9a-f]+-/ { on = $6 ~ /^\/memfd:farpage/ }
    on && /^(Size|Rss|Locked):/ { printf "%s%s", n++ ? " " : "", $2 }' \
    "/proc/$server/smaps"
}

# stack_of TASK: how many KiB of a thread's stack were touched, and how far from
# its lowest byte the thread is now.  Other memory may be mapped right above a
# stack, below it is always its guard.
stack_of ()
{
  local sp line first last pages

  sp=$(awk '{ print $(NF - 1) }' "$1/syscall")
  [[ $sp == 0x* ]] || sp=0 # it runs
  while read -r line _; do
    first=$((16#${line%-*})) last=$((16#${line#*-}))
    ((first <= sp && sp < last)) || continue
    pages=$(dd if="/proc/$server/pagemap" bs=8 skip=$((first / 4096)) \
      count=64 status=none | od -An -v -w8 -tx8 | grep -c '^ [89a-f]')
    echo "$((pages * 4)) $(((sp - first) / 1024))"
  done <"/proc/$server/maps"
}

armour ()
{
  stat_of '.armour | "\(.flusher) \(.locked) \(.oom_score_adj)"'
}

has_workers ()
{
  local tasks=("/proc/$server/task"/*)

  [ ${#tasks[@]} -ge 16 ]
}

# All threads have the flusher's flag, those of a connection too.
flags_ok ()
{
  local task flags

  [ "${here%% *}" = true ] || return 0
  ok 'a connection has threads' until_true 10 has_workers
  for task in "/proc/$server/task"/*; do
    flags=$(cut -d ' ' -f 9 "$task/stat" 2>/dev/null) || continue
    ok 'a thread has the flag' test $((flags & flusher_flag)) -ne 0
  done
}

# faults_of_writing MIB: of the server, for what is opened before; the client
# is left open
faults_of_writing ()
{
  local i before

  open_client
  like 'open' "$(ask "open $socket swap/a:$(($1 * m))")" '^ok'
  before=$(cut -d ' ' -f 10 "/proc/$server/stat")
  for ((i = 0; i < $1 * 8; i++)); do
    ask "write $((i * 131072)) 131072 7"
  done >"$dir/answers"
  is 'writes' "$(sort -u "$dir/answers")" ok
  faults=$(($(cut -d ' ' -f 10 "/proc/$server/stat") - before))
}

# probe: what is to be had, $here, as armour () tells it; and $param, with which
# a server must have it
probe ()
{
  start_farpage probe mem:16M || no_start
  here=$(armour)
  ok 'stop' "$farpage" stop
  ended 'probe' 0
  note "armour here: $here"
  param=armour=auto
  [ "$here" != 'true true -1000' ] || param=armour=yes
}

whole ()
{
  local bare

  start_farpage bare mem:64M armour=no || no_start
  is 'no: nothing' "$(armour)" "false false $(cat /proc/self/oom_score_adj)"
  is 'no: not locked' "$(status_kib VmLck)" 0
  unlike 'no: not a word' "$(cat "$log")" armour
  faults_of_writing 32
  bare=$faults
  close_client
  ok 'stop' "$farpage" stop

  start_farpage whole mem:64M "$param" || no_start
  is 'all of it' "$(armour)" "$here"
  like 'stat tells it' "$("$farpage" stat)" \
    'armour      memory locked, (no )?I/O flusher, OOM score -?[0-9]+'
  [ "$param" = armour=auto ] || unlike 'not a word' "$(cat "$log")" armour
  is 'the score' "$(cat "/proc/$server/oom_score_adj")" "${here##* }"
  is 'the pool is there, and locked' "$(pool)" \
    '65536 65536 65536'
  like 'address space is locked' $(($(status_kib VmLck) > 65536)) 1
  # 16 stacks of 8 MiB, and locked, but no more of them than is touched
  faults_of_writing 32
  flags_ok
  note "page faults of writing 8192 pages: $faults, without armour $bare"
  # nbdkit's 16 threads: a buffer of 128 KiB and some stack each
  like 'nothing of the pool is touched first' $((faults < 2048)) 1
  like 'which would be seen' $((bare > 8192)) 1
  like "resident: $(status_kib VmRSS) KiB" \
    $(($(status_kib VmRSS) < 64 * 1024 + 65536)) 1
  close_client
  ok 'stop' "$farpage" stop
}

behind_the_fork ()
{
  local params=(mem:64M "$param" "control=$dir/d.ctl")

  (run_nbdkit -U "$dir/d.sock" -P "$dir/d.pid" "$plugin" "${params[@]}") \
    >"$dir/d.log" 2>&1
  is 'a daemon: nbdkit comes back' $? 0
  until_true 10 test -S "$dir/d.ctl"
  server=$(cat "$dir/d.pid")
  pids+=("$server")
  socket=$dir/d.sock
  export FARPAGE_SOCKET=$dir/d.ctl
  is 'a daemon: all of it' "$(armour)" "$here"
  is 'a daemon: the pool' "$(pool)" '65536 65536 65536'
  open_client
  like 'a daemon: open' "$(ask "open $socket swap/a:1M")" '^ok'
  flags_ok
  close_client
  ok 'a daemon: stop' "$farpage" stop
  until_true 5 is_gone "$server"

  start_farpage sparse mem:256M sparse=yes "$param" || no_start
  is 'sparse: locked' "$(armour)" "$here"
  like 'sparse: is not filled' "$(pool)" '^262144 [0-9]{1,3} '
  ok 'sparse: stop' "$farpage" stop
}

# serves WHAT: many connections, each with its threads
serves ()
{
  local i

  for ((i = 0; i < 16; i++)); do
    echo "use $i"
    echo "open $socket swap/$i:1M"
    echo 'write 0 1048576 3'
  done | timeout 60 "$build/tests/nbd-script" >"$dir/answers"
  is "$1: serves" "$(sort "$dir/answers" | uniq -c | xargs)" \
    '16 ok 16 ok 1048576'
}

# less WHAT ARMOUR WORDS: a server that cannot have it all says so in one line
less ()
{
  local what=$1

  start_farpage less mem:32M || no_start
  is "$what: stat" "$(armour)" "$2"
  is "$what: one line" "$(grep -c armour "$log")" 1
  like "$what: says what" "$(cat "$log")" "armour: refused: $3"
  serves "$what"
  ok "$what: stop" "$farpage" stop
  ended "$what" 0
  start_farpage none mem:32M armour=no || no_start
  unlike "$what: no" "$(cat "$log")" armour
  ok "$what: stop" "$farpage" stop
  ended "$what" 0
  refused "armour: refused: $3.*armour=auto" mem:32M armour=yes
  # also of a daemon, before it goes away
  (run_nbdkit -U "$dir/y.sock" "$plugin" mem:32M armour=yes control=) \
    >"$dir/y.log" 2>&1
  is "$what: a daemon does not start" $? 1
  like "$what: and says why" "$(cat "$dir/y.log")" "armour: refused: $3"
}

fewer_rights ()
{
  local few=() score
  local resource='I/O flusher .*CAP_SYS_RESOURCE.*OOM score'

  score=$(cat /proc/self/oom_score_adj)
  [ "$(id -u)" -ne 0 ] || few=(setpriv
    --bounding-set '-sys_resource,-ipc_lock'
    --inh-caps '-sys_resource,-ipc_lock')
  around=(prlimit --memlock=1048576:1048576 "${few[@]}")
  less 'a small limit' "false false $score" \
    "$resource.*locked memory .LimitMEMLOCK=infinity"
  [ "$(id -u)" -eq 0 ] || return
  if prlimit --memlock=unlimited:unlimited true 2>/dev/null; then
    around=(prlimit --memlock=unlimited:unlimited "${few[@]}")
    less 'no limit' "false true $score" "$resource"
    unlike 'no limit: not of memory' "$(cat "$dir/less.log")" 'locked memory'
  fi

  # a user as any other
  chmod 777 "$dir"
  cp "$plugin" "$dir/plugin.so"
  local plugin=$dir/plugin.so
  around=(prlimit --memlock=8388608:8388608
    setpriv --reuid 65534 --regid 65534 --clear-groups)
  less 'nobody' "false false $score" "$resource.*locked memory"
}

# Of our own threads, each of which has 256 KiB.
stacks ()
{
  local task name touched at i nr=0

  around=()
  need_staging || return 0
  ok format "$farpage" format "$dir/vol" --size 96M --ring 4M
  start_farpage stacks "$dir/vol" staging="$staging" armour=no swap-keep=yes ||
    no_start
  open_client
  like 'open' "$(ask "open $socket swap/a:40M")" '^ok'
  for ((i = 0; i < 1200; i++)); do
    ask "write $((i * 61 * 4096 % (40 * m))) 4096 7"
    ((i % 40)) || ask flush
  done >"$dir/answers"
  ask "trim 0 $((40 * m))" >>"$dir/answers"
  is 'requests' "$(sort -u "$dir/answers")" ok
  for i in 1 2 3; do
    ok 'create' "$farpage" create "disk$i" 4M --reserve
    ok 'stat' "$farpage" stat "disk$i"
    ok 'stat' "$farpage" stat --json
    ok 'rm' "$farpage" rm "disk$i"
  done
  sleep 1.5 # a tick
  for task in "/proc/$server/task"/*; do
    name=$(cat "$task/comm" 2>/dev/null) # it may have ended
    case $name in
    commit | cycle | control) ;;
    *) continue ;;
    esac
    read -r touched at <<<"$(stack_of "$task")"
    note "$name: touched $touched KiB of its stack of 256"
    like "$name: it is there" $((touched > 0 && at < 256)) 1
    like "$name: half of it is enough" $((touched <= 128)) 1
    nr=$((nr + 1))
  done
  is 'our threads' "$nr" 3
  close_client
  ok 'stop' "$farpage" stop
}

probe
case $here in
*' true '*)
  whole
  behind_the_fork
  ;;
*) note 'memory cannot be locked here: nothing of a server that can' ;;
esac
fewer_rights
stacks
finish
