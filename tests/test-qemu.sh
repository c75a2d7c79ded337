#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# qemu: convert and compare images, patterns by qemu-io, discard and zeroes.

. "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io mkfs.ext4

m=1048576
start_farpage a mem:128M sparse=yes || exit 1
"$farpage" create disk 64M
mkfs.ext4 -q "$dir/ext4" 64M
printf 'hello' | dd of="$dir/ext4" bs=1 seek=$((40 * m + 777)) conv=notrunc \
  status=none
ok 'convert in' qemu-img convert -n -f raw -O raw -W -m 8 "$dir/ext4" \
  "$(uri disk)"
ok 'compare' qemu-img compare -f raw -F raw "$dir/ext4" "$(uri disk)"
ok 'convert out' qemu-img convert -f raw -O qcow2 "$(uri disk)" "$dir/q"
ok 'compare' qemu-img compare -f raw -F qcow2 "$dir/ext4" "$dir/q"
like 'qemu sees holes' "$(qemu-img map -f raw --output=json "$(uri disk)")" \
  '"zero": true'

io ()
{
  local args=() command

  for command in "$@"; do
    args+=(-c "$command")
  done
  qemu-io -f raw -d unmap "$(uri disk)" "${args[@]}" >"$dir/io" 2>&1
  # qemu-io's own status does not tell a pattern that fails
  is "qemu-io $*" "$?, $(grep -iE "failed|error|can.t open" "$dir/io")" '0, '
}

io 'write -P 0xaa 0 64k' 'write -P 0xbb 1000 3000' 'read -P 0xaa 0 1000' \
  'read -P 0xbb 1000 3000' 'read -P 0xaa 4000 61536'
io 'aio_write -P 1 8M 1M' 'aio_write -P 2 9M 1M' 'aio_write -P 3 10M 1M' \
  'aio_flush' 'read -P 1 8M 1M' 'read -P 2 9M 1M' 'read -P 3 10M 1M'
io 'write -z -u 8M 2M' 'read -P 0 8M 2M' 'read -P 3 10M 1M'
io 'write -z 10M 4k' 'read -P 0 10M 4k' 'read -P 3 10489856 4k'
io 'discard 9M 2M' 'read -P 0 9M 2M'
io 'write -f -P 9 63M 1M' 'read -P 9 63M 1M' flush
io 'discard 16M 16M'
before=$(mapped)
io 'write -P 7 16M 16M'
is 'mapped' "$(mapped)" $((before + 16 * m))
io 'discard 16M 16M'
is 'discarded' "$(mapped)" "$before"

# One program after the other: the next comes before the server has seen that the
# last one went, and may write all the same.
next_in_line ()
{
  kill -STOP "$server"
  kill -KILL "$before"
  wait "$before" 2>/dev/null
  qemu-io -f raw -c 'write -P 5 0 4k' "$(uri disk)" >"$dir/next" 2>&1 &
  after=$!
  sleep 0.05
  kill -CONT "$server"
  wait "$after" || no "the next in line: $(cat "$dir/next")"
}

for _ in {1..10}; do
  cases=$((cases + 1))
  mkfifo "$dir/hold"
  qemu-io -f raw "$(uri disk)" <"$dir/hold" >"$dir/held" 2>&1 &
  before=$!
  exec 4>"$dir/hold"
  echo 'write -P 4 0 4k' >&4
  until_true 10 grep -q wrote "$dir/held" || no 'a program that writes'
  next_in_line
  exec 4>&-
  rm "$dir/hold"
done
alive || no 'the server died'
finish
