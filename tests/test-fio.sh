#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Writes that overlap, in random order, from two jobs at a time, read back with
# their checksums: on memory and on files, past the page cache and through it.

. "$(dirname "$0")/functions.sh"
requires fio
fio --enghelp 2>/dev/null | grep -qw nbd || skip 'this fio has no nbd engine'

seed=${FARPAGE_SEED:-$RANDOM}
note "FARPAGE_SEED=$seed"

# verify WHAT: two disks, a job each, blocks of 512 bytes to 128 KiB
verify ()
{
  local n

  "$farpage" create one 24M
  "$farpage" create two 24M
  for n in one two; do
    printf '[%s]\nuri=%s\n' $n "$(uri $n)"
  done >"$dir/jobs"
  cat - "$dir/jobs" >"$dir/fio" <<'END'
[global]
ioengine=nbd
rw=randrw
bsrange=512-128k
blockalign=512
size=24M
iodepth=16
verify=crc32c
verify_fatal=1
do_verify=1
norandommap=0
fsync=64
END
  ok "$1" timeout 60 fio --randseed="$seed" \
    --output="$dir/fio.out" "$dir/fio"
  grep -qE 'err= *[1-9]|verify failed' "$dir/fio.out" &&
    no "$1: $(grep -E 'err=|verify' "$dir/fio.out" | head -3)"
  is "$1: no request failed" \
    "$(stat_of '[.requests[].errors] | add')" 0
  "$farpage" rm one
  "$farpage" rm two
  is "$1: all is free again" "$(mapped)" 0
  ok "$1: stop" "$farpage" stop
}

start_farpage mem mem:64M || exit 1
verify 'memory'
for direct in yes no auto; do
  rm -f "$dir/vol"
  truncate -s 64M "$dir/vol"
  start_farpage "direct-$direct" "$dir/vol" durability=volatile \
    direct=$direct || {
    # O_DIRECT is not everywhere
    [ $direct = yes ] && grep -q 'past the page cache' "$log" && continue
    no "direct=$direct does not start"
  }
  note "direct=$direct: $(stat_of '.volumes[0] | "\(.engine), \(.direct)"')"
  verify "file, direct=$direct"
done
finish
