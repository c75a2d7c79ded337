#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Parameters that make no sense, and volumes that cannot or must not be used,
# are refused by name with the remedy, and nothing on them is changed.

. "$(dirname "$0")/functions.sh"
requires setpriv truncate mkfs.ext4

v=$dir/vol
fresh ()
{
  rm -f "$v"
  truncate -s 16M "$v"
}

parameters ()
{
  refused "unknown parameter 'siez'" mem:16M siez=1
  refused 'no volume .say mem:1G' durability=volatile
  for size in 0 -1 9223372036854775808 99999999999999999999 1X '' 1.5G; do
    refused "mem:.*is not a size.*as in 10G|cannot be made|memory are avail" \
      "mem:$size"
    refused "swap-size: ('$size' is not a size|too large)" mem:16M \
      "swap-size=$size"
  done
  refused 'swap-size: too large .say 1P or less' mem:16M swap-size=2P
  refused 'too small .say mem:128K or more' mem:4096
  refused 'mem: keeps nothing .say durability=volatile' mem:16M durability=flush
  refused 'mem: keeps nothing' mem:16M durability=strict
  refused 'durability=bogus: there is no such thing .say flush, strict' mem:16M \
    durability=bogus
  refused 'cache=4095: too small' mem:16M cache=4095
  refused "cache: '1X' is not a size" mem:16M cache=1X
  refused 'discard: say discard=yes or' mem:16M discard=perhaps
  refused 'mem:.*discard=on would give away.*sparse=yes' mem:16M discard=on
  refused 'readonly=yes needs a store' mem:16M readonly=yes
  refused 'swap-keep=yes needs a store' mem:16M swap-keep=yes
  refused 'linger' mem:16M linger=-1
  refused 'linger=1000000000: say a number of seconds' mem:16M linger=1000000000
  refused 'default: the name has one of' mem:16M default=swap/a
  refused 'default: the name is not UTF-8' mem:16M default=$'\xff'
  for key in sparse force reserve direct armour readonly swap-keep; do
    refused "$key: say $key=yes or $key=no" mem:16M $key=perhaps
  done
  refused 'no control socket: ' mem:16M control="$dir/none/c.sock"
}

volumes ()
{
  fresh
  refused "$v: not a farpage volume .run 'farpage format $v'" "$v"
  refused 'the store was not opened: Wrong medium type' "$v"
  refused "mem: keeps nothing .say durability=volatile" mem:16M "$v"
  refused 'force=yes: a server never overwrites' "$v" force=yes
  refused 'no such file or device.*truncate' "$v.none" durability=volatile
  refused 'directory' "$dir" durability=volatile
  mkfifo "$dir/fifo"
  refused 'fifo: ' "$dir/fifo" durability=volatile
  refused '(character|device|null): ' /dev/null durability=volatile
  truncate -s 64K "$dir/small"
  refused 'has 65536 bytes, too few.*truncate -s' "$dir/small" \
    durability=volatile
  : >"$dir/empty"
  refused 'has 0 bytes, too few' "$dir/empty" durability=volatile
  refused 'twice' "$v" "$v" durability=volatile
  ln -s "$v" "$dir/link"
  refused 'twice' "$v" mem:16M "$dir/link" durability=volatile
}

# As a user without the right to write to everything.
read_only ()
{
  local drop=()

  fresh
  chmod 0400 "$v"
  [ "$(id -u)" -ne 0 ] ||
    drop=(setpriv --bounding-set -dac_override --inh-caps -dac_override)
  LD_PRELOAD=$preload "${drop[@]}" nbdkit -f -U "$dir/ro.sock" "$plugin" "$v" \
    durability=volatile >"$dir/ro.log" 2>&1 &
  pids+=($!)
  gave_up 'read-only volume' $! "$dir/ro.log" 20 'denied|read-only'
  like 'read-only volume' "$(cat "$dir/ro.log")" "$v: .*(denied|read-only)"
}

# What is on it stays until force=yes.
not_empty ()
{
  local at

  for at in 4096 $((16 * 1048576 - 1)); do
    fresh
    printf x | dd of="$v" bs=1 seek=$at conv=notrunc status=none
    cp "$v" "$v.copy"
    refused "$v: holds .*force=yes" "$v" durability=volatile
    ok 'a refused volume is unchanged' cmp "$v" "$v.copy"
  done
  fresh
  mkfs.ext4 -q "$v"
  cp "$v" "$v.copy"
  refused "$v: holds .*ext4.*force=yes" "$v" durability=volatile
  ok 'a refused file system is unchanged' cmp "$v" "$v.copy"
  start_farpage forced "$v" durability=volatile force=yes control= ||
    no 'force=yes is not enough'
  like 'force=yes says what it overwrites' "$(cat "$log")" 'ext4'
  "$farpage" stop >"$dir/out"
  # its label is ours now
  start_farpage again "$v" durability=volatile || no 'our own label is refused'
  "$farpage" stop >"$dir/out"
}

parameters
volumes
read_only
not_empty
# (nbdkit 1.32 itself leaves the socket of -U)
is 'no control socket is left' "$(find "$dir" -name '*.ctl*')" ''
finish
