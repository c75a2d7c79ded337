#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A device flush that fails: the store has failed.  Writes and flushes are EIO,
# what was answered is still read, stat says why, and the next start has all
# that was flushed.  By strace in the server, and by qemu's blkdebug beneath a
# volume that is exported by FUSE.
#
# Environment: FARPAGE_SEED.

. "$(dirname "$0")/functions.sh"
requires strace
with_seed
need_staging || skip 'no tmpfs at /dev/shm'
strace -f -o "$dir/can" -e inject=getppid:signal=CONT:when=1 true \
  2>"$dir/err" || skip "strace cannot trace here: $(tail -1 "$dir/err")"

open_flushed ()
{
  open_client "$build/tests/nbd-oracle" -f "$socket" 4 8 one two
}

made ()
{
  local disk

  start_farpage "$1" "$2" staging= || no_start
  for disk in one two; do
    ok "$1: create" "$farpage" create $disk 4M --shared
  done
  open_flushed
  like "$1: all is well" "$(ask run 300)" '^ok .* lost=0 errors=0 '
  dies
}

# fails WHAT: the oracle runs into it, in the first or a later run
fails ()
{
  local client=$now answer i

  for ((i = 0; i < 10; i++)); do
    answer=$(ask run 3000)
    [[ $answer =~ ' errors=0 ' ]] || break
  done
  like "$1: the run" "$answer" \
    '^ok .* lost=0 errors=[1-9][0-9]* \(first: EIO\) wrong=0$'
  is "$1: replied pages are read" "$(ask look)" 'ok 2048'
  is "$1: writing, flushing" \
    "$(script "open $socket one" 'write 0 4096 1' flush | tail -2 | xargs)" \
    'EIO EIO'
  like "$1: stat" "$(stat_of '.state + ": " + .reason')" '^failed: .'
  like "$1: the log" "$(cat "$log")" 'failed'
  now=$client
}

# back WHAT VOLUME ARGUMENT...: after a restart
back ()
{
  local what=$1 volume=$2

  shift 2
  clean "$what" "$volume"
  around=()
  start_farpage "${what%%,*}" "$volume" "$@" || no_start
  is "$what: what was flushed is there" "$(ask verify)" 'ok 2048'
  like "$what: it goes on" "$(ask run 300)" '^ok .* lost=0 errors=0 .*wrong=0$'
  ok "$what: stop" "$farpage" stop
  ended "$what" 0
  clean "$what, stopped" "$volume"
}

# by_strace N ARGUMENT...: the N-th flush of a thread, of those that lead a
# commit; when one comes to it is not said, so fails () runs until then
by_strace ()
{
  local n=$1 pid what="strace$1"

  shift
  ok "$what: format" "$farpage" format "$dir/$what.vol" --size 64M --ring 4M
  made "$what" "$dir/$what.vol"
  around=(strace -f -o "$dir/trace" -e trace=fdatasync
    -e "inject=fdatasync:error=EIO:when=$n")
  start_farpage "$what" "$dir/$what.vol" "$@" -P "$dir/pid" || no_start
  pid=$(cat "$dir/pid")
  fails "$what"
  ok "$what: by strace" grep -q INJECTED "$dir/trace"
  kill -KILL "$pid"
  { wait "$server"; } 2>/dev/null
  forget "$server"
  back "$what, again" "$dir/$what.vol" "$@"
}

# beneath FLUSHES: a volume $dir/fuse whose flush fails once, after so many
beneath ()
{
  local i rules=

  for ((i = 1; i < $1; i++)); do
    rules+='{"event":"flush_to_disk","state":'"$i"
    rules+=',"new_state":'"$((i + 1))},"
  done
  : >"$dir/fuse"
  qemu-storage-daemon --blockdev '{"driver":"raw","node-name":"top","file":
    {"driver":"blkdebug","set-state":['"${rules%,}"'],"inject-error":
    [{"event":"flush_to_disk","state":'"$1"',"iotype":"flush","errno":5,
    "once":true}],"image":{"driver":"file","filename":"'"$dir/beneath"'"}}}' \
    --export type=fuse,id=e,node-name=top,mountpoint="$dir/fuse",writable=on \
    >"$dir/qsd.log" 2>&1 &
  qsd=$!
  pids+=($qsd)
  until_true 10 mounted
}

mounted ()
{
  is_gone $qsd || [ -s "$dir/fuse" ]
}

by_strace 12 staging="$staging"
by_strace 9 staging=
if [ -w /dev/fuse ] && command -v qemu-storage-daemon >/dev/null &&
  qemu-storage-daemon --help | grep -q fuse; then
  ok 'fuse: format' "$farpage" format "$dir/beneath" --size 64M --ring 4M
  made fuse "$dir/beneath"
  beneath 40
  # (direct=no: qemu 7.2 mixes up writes that come while it does another, and
  # through the page cache none do)
  start_farpage fuse "$dir/fuse" staging= direct=no || no_start
  fails fuse
  dies
  kill $qsd
  wait $qsd
  forget $qsd
  back 'fuse, again' "$dir/beneath" staging=
else
  note 'no qemu-storage-daemon with FUSE here: strace alone'
fi
finish
