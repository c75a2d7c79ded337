# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash disable=SC3043
#
# In the guest, for test-guest-vm.sh, whose root is an export of the server.
# SYNCED is 0 in the first guest, which is killed at its end: fio and a writer
# while the server is killed KILLS times, and fstrim.  The second has SYNCED
# files to find, gets a larger disk, and ends well.

: "${SYNCED:?}" "${KILLS:?}" "${SEED:?}"

# writer: files one after the other, each synced and then told.
writer ()
{
  local n=1 name size
  while [ ! -e /run/stop ]; do
    nth_file /root $n
    pattern sync "$name" "$size" $((SEED + n)) > /dev/null || return
    printf 'RESULT synced=%d\n' $n >&9
    echo $n > /run/synced.new
    mv /run/synced.new /run/synced
    n=$((n + 1))
  done
}

# progress N: the writer has N more files, within 100 s.
progress ()
{
  local goal now tries=500
  read -r now < /run/synced
  goal=$((now + $1))
  while [ "$now" -lt $goal ]; do
    tries=$((tries - 1))
    test $tries -gt 0 || fail "no progress"
    sleep 0.2
    read -r now < /run/synced
  done
}

# try_fio NAME OPTION...: 16 MiB of blocks with checksums in /root/NAME.
try_fio ()
{
  local name=$1
  shift
  timeout 100 fio --name=verify --filename="/root/$name" --size=16M \
    --ioengine=libaio --direct=1 --iodepth=16 --rw=randwrite \
    --bsrange=4k-64k --randseed="$SEED" --verify=crc32c --verify_fatal=1 \
    --verify_state_save=0 --end_fsync=1 "$@" > /run/fio-out 2>&1 || {
    cat /run/fio-out
    return 1
  }
}

# fios: until told to stop; how many of them.
fios ()
{
  local n=0
  while [ ! -e /run/stop-fio ]; do
    try_fio gone --fsync=64 || return
    n=$((n + 1))
  done
  result fios $n
}

no_errors ()
{
  ! dmesg | grep -E 'I/O error|EXT4-fs (error|warning)|Remounting' ||
    fail "the kernel saw errors"
}

# sample NAME: how much of the server's space is in use, once all is on it.
sample ()
{
  sync
  host server_sample "$1" || fail "host"
}

first ()
{
  local writer fios
  mkdir /root/d0 /root/d1 /root/d2 /root/d3 /root/d4
  try_fio kept || fail "fio"
  echo 0 > /run/synced
  writer &
  writer=$!
  fios &
  fios=$!
  for kill in $(seq "$KILLS"); do
    progress 5
    step "kill the server, time $kill"
    host server_killed || fail "host"
  done
  progress 5
  touch /run/stop-fio
  wait $fios || fail "fio failed"
  no_errors

  step "fstrim"
  sample full
  rm /root/gone
  sync
  fstrim -v / || fail "fstrim"
  sample trimmed
  progress 5
  step "cut"
  host guest_killed || fail "host"
  wait $writer
  fail "this guest was not cut"
}

second ()
{
  local n=1 name size
  while [ $n -le "$SYNCED" ]; do
    nth_file /root $n
    pattern check "$name" "$size" $((SEED + n)) > /dev/null ||
      fail "file $n of $SYNCED is not as it was synced"
    n=$((n + 1))
  done
  try_fio kept --verify_only || fail "what fio wrote is not there"
  step "$SYNCED synced files are right, and those of fio"

  host grown || fail "host"
  touch /root/used
  sync
  size=$(blockdev --getsize64 /dev/vda)
  host grown_told || fail "host"
  n=0
  while [ "$(blockdev --getsize64 /dev/vda)" -eq "$size" ]; do
    n=$((n + 1))
    test $n -lt 100 || fail "the disk does not grow"
    sleep 0.1
  done
  result disk_bytes "$(blockdev --getsize64 /dev/vda)"
  resize2fs /dev/vda || fail "resize2fs"
  result free_mb "$(df -m / | awk 'NR == 2 { print $4 }')"
  step "larger"
  try_fio larger || fail "fio"
  fstrim -v / || fail "fstrim"
  sync
  mount -o remount,ro / || fail "the root is busy"
}

if [ "$SYNCED" -eq 0 ]; then
  first
else
  second
fi
no_errors
step "done"
