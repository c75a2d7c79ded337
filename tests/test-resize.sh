#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# farpage resize under the real nbdkit, of a volatile and of a durable store:
# larger while a client has the disk open, smaller when nobody has, refused else.

. "$(dirname "$0")/functions.sh"
requires nbdinfo qemu-img

# resized NAME SIZE: it works
resized ()
{
  ok "resize $1 $2" "$farpage" resize "$1" "$2"
}

# refuses REGEX NAME SIZE: and says why, in one line
refuses ()
{
  local out

  out=$("$farpage" resize "$2" "$3" 2>&1)
  is "resize $2 $3: status" $? 1
  like "resize $2 $3" "$out" "^farpage: $1"
  is "resize $2 $3: lines" "$(wc -l <<<"$out")" 1
}

# sizes NAME BYTES: as everybody sees it
sizes ()
{
  is "$1: ls" "$(object "$1" size_bytes)" "$2"
  is "$1: nbdinfo" "$(nbdinfo --size "$(uri "$1")")" "$2"
  is "$1: qemu-img" "$(qemu-img info --output=json "$(uri "$1")" |
    jq '."virtual-size"')" "$(((($2 + 511) / 512) * 512))"
}

# A disk that is open: its client keeps its end.
larger ()
{
  ok 'create' "$farpage" create --shared disk 1000001
  open_client
  ask open "$socket" disk >"$dir/out"
  is 'write' "$(ask write 0 1000001 7)" ok
  resized disk 64M
  sizes disk 67108864
  is 'its client reads' "$(ask check 0 1000001 7)" ok
  like 'beyond its end' "$(ask write 1000001 1 8)" 'EINVAL|EIO|ENOSPC'
  is 'its client writes' "$(ask write 999999 2 9)" ok
  is 'a new one' "$(script1 "open $socket disk" 'check 0 999999 7')" ok
  is 'the old end' "$(script1 "open $socket disk" 'check 999999 2 9')" ok
  is 'what is new' "$(script1 "open $socket disk" \
    'check 1000001 30000000 0')" ok
  is 'it takes bytes' "$(script1 "open $socket disk" \
    'write 67108863 1 5')" ok
  refuses 'disk: a client has it open' disk 1000
  sizes disk 67108864
  close_client
}

smaller ()
{
  local before

  before=$(mapped)
  until_true 5 "$farpage" resize disk 5001 || no 'smaller'
  sizes disk 5001
  like 'what it frees' $((before - $(mapped))) '^[1-9][0-9]{5,}$'
  is 'what is left' "$(script1 "open $socket disk" 'check 0 5001 7')" ok
  until_true 5 "$farpage" resize disk 8M || no 'larger again'
  is 'the end that was' "$(script1 "open $socket disk" 'check 0 5001 7')" ok
  is 'what was behind it' "$(script1 "open $socket disk" \
    'check 5001 8383607 0')" ok
  resized disk 8M
}

others ()
{
  open_client
  ask open "$socket" swap/s:1M >"$dir/out"
  refuses 'swap/s: swap keeps the size' swap/s 2M
  close_client
  refuses 'none: no such disk' none 2M
  ok 'create --reserve' "$farpage" create --reserve kept 4M
  resized kept 10M
  like 'reserved' "$(object kept reserved_bytes)" '^104857'
  refuses 'kept: not enough free space' kept 10G
  sizes kept 10485760
  resized kept 1
  sizes kept 1
  is 'not reserved any more' "$(object kept reserved_bytes)" 4096
  "$farpage" resize kept 0 2>"$dir/out"
  is 'to nothing: status' $? 2
}

start_farpage volatile mem:256M sparse=yes || exit 1
larger
smaller
others
ok 'stop' "$farpage" stop
ended 'farpage stop' 0

volume=$dir/volume
ok 'format' "$farpage" format --size 256M "$volume"
start_farpage durable "$volume" staging= || exit 1
larger
smaller
others
resized disk 6M
is 'write' "$(script1 "open $socket disk" 'write 6000000 100 3' flush)" ok
resized disk 3G
is 'far away' "$(script1 "open $socket disk" 'write 3000000000 100 4')" ok
dies "$server"
start_farpage again "$volume" staging= || exit 1
sizes disk 3221225472
sizes kept 1
is 'after a crash' "$(script1 "open $socket disk" 'check 6000000 100 3')" ok
is 'far away' "$(script1 "open $socket disk" 'check 3000000000 100 4')" ok
until_true 5 "$farpage" resize disk 6000050 || no 'smaller than far away'
dies "$server"
clean 'after a crash' "$volume"
start_farpage once-more "$volume" staging= || exit 1
sizes disk 6000050
is 'the rest' "$(script1 "open $socket disk" 'check 6000000 50 3')" ok
ok 'stop' "$farpage" stop
ended 'farpage stop' 0
clean 'stopped' "$volume"
finish
