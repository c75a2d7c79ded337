#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Real file systems go in and come out byte by byte, by one and by many
# connections, over a Unix socket and over TCP, on memory and on files.

. "$(dirname "$0")/functions.sh"
requires nbdcopy mkfs.ext4 ss

mkdir "$dir/tree"
head -c 12M /dev/urandom >"$dir/tree/random"
cp "$srcdir"/* "$dir/tree" 2>/dev/null
mkfs.ext4 -q -d "$dir/tree" "$dir/ext4" 64M

# in_and_out WHERE URI: both ways by many connections, and by one
in_and_out ()
{
  local n

  for n in 1 4 8; do
    ok "$1: in by $n" nbdcopy --connections=$n --threads=$n \
      --requests=32 "$dir/ext4" "$2"
    rm -f "$dir/back"
    ok "$1: out by $n" nbdcopy --connections=$n --threads=$n "$2" "$dir/back"
    ok "$1: the same" cmp "$dir/ext4" "$dir/back"
  done
  ok "$1: without extents" nbdcopy --no-extents "$2" "$dir/back"
  ok "$1: the same" cmp "$dir/ext4" "$dir/back"
}

start_farpage mem mem:128M || exit 1
"$farpage" create disk 64M
in_and_out 'memory, Unix socket' "$(uri disk)"
memory=$(uri disk)
like 'fewer blocks than the image has' $(($(mapped) < 33554432)) 1

truncate -s 96M "$dir/vol"
# An ephemeral port of the loopback, taken by nbdkit itself.
control=$dir/tcp.ctl log=$dir/tcp.log
export FARPAGE_SOCKET=$control
run_nbdkit -f -i 127.0.0.1 -p 0 "$plugin" "$dir/vol" durability=volatile \
  control="$control" >"$log" 2>&1 &
server=$!
pids+=($server)
until_true 20 test -S "$control" || no "no server: $(cat "$log")"
port=$(ss -Hltnp | sed -n "s/.*127\.0\.0\.1:\([0-9]*\) .*pid=$server,.*/\1/p")
"$farpage" create disk 64M
in_and_out 'file, TCP' "nbd://127.0.0.1:$port/disk"
open_client
ask open "$port" disk >"$dir/out"
like 'the peer is told' "$(stat_of '.connections[0].peer')" '^127\.0\.0\.1:[0-9]+$'
is 'write' "$(ask write 0 4096 1)" ok
is 'its owner is its address' "$(object disk owner)" 127.0.0.1
ok 'from server to server' nbdcopy -C 4 "$memory" \
  "nbd://127.0.0.1:$port/disk"
ok 'out' nbdcopy "nbd://127.0.0.1:$port/disk" "$dir/back"
ok 'the same' cmp "$dir/ext4" "$dir/back"
ok 'stop' "$farpage" stop
finish
