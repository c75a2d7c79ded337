#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Power cuts by replay: qemu's blklogwrites notes every write to a volume that
# is exported by FUSE.  Onto a zeroed copy all of it is done up to each flush,
# and to a point between two; our server opens each such copy read-only, and
# must have what was flushed then, and nothing that was written later.
#
# Environment: FARPAGE_POINTS (200), FARPAGE_SEED.

. "$(dirname "$0")/functions.sh"
requires qemu-storage-daemon python3
points=${FARPAGE_POINTS:-200}
[ -w /dev/fuse ] || skip 'no /dev/fuse that can be used'
qemu-storage-daemon --help | grep -q fuse || skip 'qemu has no FUSE here'
with_seed

mounted ()
{
  is_gone $qsd || [ -s "$dir/vol" ]
}

replay ()
{
  python3 "$srcdir/log-replay.py" "$dir/log" "$@"
}

# ---- a run, on the export ----

truncate -s 32M "$dir/beneath"
: >"$dir/log"
: >"$dir/vol"
qemu-storage-daemon --blockdev file,node-name=volume,filename="$dir/beneath" \
  --blockdev file,node-name=log,filename="$dir/log" \
  --blockdev blklogwrites,node-name=top,file=volume,log=log \
  --export fuse,id=e,node-name=top,mountpoint="$dir/vol",writable=on \
  >"$dir/qsd.log" 2>&1 &
qsd=$!
pids+=($qsd)
until_true 10 mounted
is_gone $qsd && skip "qemu-storage-daemon: $(cat "$dir/qsd.log")"
ok format "$farpage" format "$dir/vol" --ring 4M --sparse
# (direct=no: qemu 7.2 mixes up writes that come while it does another, and
# through the page cache none do)
start_farpage run "$dir/vol" staging= direct=no cache=1M || no_start
for disk in one two; do
  ok create "$farpage" create $disk 2M --shared
done
created=$(od -An -t u8 -j 16 -N 8 "$dir/log" | tr -d ' ')
open_client "$build/tests/nbd-oracle" -f -j "$dir/journal" -l "$dir/log" \
  "$socket" 2 2 one two
for n in 1 2 3 4 5 6 7 8; do
  like 'the run' "$(ask run 3000)" '^ok .* lost=0 errors=0 .* wrong=0$'
  [ "$(replay flushes | wc -l)" -lt $((points + 50)) ] || break
done
close_client # its journal is whole now
dies
kill $qsd
wait $qsd
forget $qsd

# ---- its replay ----

mapfile -t flushes < <(replay flushes | awk -v n="$created" '$1 >= n')
note "${#flushes[@]} flushes, the first after entry $created"
truncate -s 32M "$dir/copy"
open_client "$build/tests/nbd-oracle" -f -p "$dir/journal" "$dir/look.sock" 2 2 \
  one two
at=0

# look_at NR: the copy with the first NR entries done
look_at ()
{
  replay apply $at "$1" "$dir/copy" || no "replay to $1"
  at=$1
  is "play to $at" "$(ask play "$at")" ok
  start_farpage look "$dir/copy" readonly=yes || no_start
  is "at entry $at" "$(ask verify)" 'ok 1024'
  dies
  [ $failed -eq 0 ] || finish
}

step=$(((${#flushes[@]} * 5 / 4 + points - 1) / points))
[ "$step" -ge 1 ] || step=1
for ((i = 0; i < ${#flushes[@]}; i += step)); do
  next=${flushes[i]}
  if [ $((i / step % 4)) -eq 3 ] && [ $((next - at)) -gt 2 ]; then
    random $((next - at - 1))
    look_at $((at + 1 + random))
  fi
  look_at "$next"
  if [ $((i / step % 20)) -eq 0 ]; then
    clean "at entry $at" "$dir/copy"
  fi
done
note "$cases cases to entry $at"
finish
