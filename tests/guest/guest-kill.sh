# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash disable=SC3043
#
# In the guest, for test-guest-kill.sh: ext4 on /dev/nbd0 and XFS on /dev/nbd1,
# a writer on each that says which of its files are synced.  SYNCED_ext4 and
# SYNCED_xfs are those that must be there from the guests before (0: file
# systems are made).  KILLS times the server is killed and started again, then,
# if CUT is set, the host is asked for it (and the writers go on).

: "${SYNCED_ext4:?}" "${SYNCED_xfs:?}" "${KILLS:?}" "${SEED:?}" "${CUT?}"
: "${HOST:?}" "${HOST_PORT:?}" "${ATTACH?}"
modprobe -a ext4 xfs || fail "no file system modules"
modprobe nbd nbds_max=2 || fail "no nbd module"

attach_fs ()                    # FS INDEX
{
  # shellcheck disable=SC2086 # none, or one option
  farpage attach "nbd://$HOST:$HOST_PORT/disk-$1" "/dev/nbd$2" --persist \
    --background $ATTACH 2> "/run/attach-$1" || fail "$(cat "/run/attach-$1")"
}

mount_fs ()                     # FS INDEX
{
  mkdir -p "/mnt/$1"
  mount -t "$1" -o discard "/dev/nbd$2" "/mnt/$1" || fail "mount of $1"
}

# writer FS FIRST: files FIRST, FIRST + 1, ..., each synced and then told; and
# others that are not, and are overwritten or removed.
writer ()
{
  local n=$2 name size
  while [ ! -e /run/stop ]; do
    nth_file "/mnt/$1" "$n"
    pattern sync "$name" "$size" $((SEED + n)) > /dev/null || return
    printf 'RESULT synced_%s=%d\n' "$1" "$n" >&9
    echo "$n" > "/run/synced-$1.new"
    mv "/run/synced-$1.new" "/run/synced-$1"
    pattern write "/mnt/$1/churn$((n % 9))" $((n * 4099 % 200000)) "$n" \
      > /dev/null || return
    if [ $((n % 4)) -eq 0 ] && [ "$n" -gt 20 ]; then
      nth_file "/mnt/$1" $((n - 20))
      rm -f "$name" || return
    fi
    n=$((n + 1))
  done
}

start_writers ()
{
  rm -f /run/stop
  for fs in ext4 xfs; do
    read -r n < /run/synced-$fs
    writer $fs $((n + 1)) &
    eval "writer_$fs=$!"
  done
}

# progress N: each file system has N more synced files, within 100 s.
progress ()
{
  local fs goal now tries=500
  for fs in ext4 xfs; do
    read -r now < /run/synced-$fs
    goal=$((now + $1))
    while [ "$now" -lt $goal ]; do
      tries=$((tries - 1))
      test $tries -gt 0 || fail "$fs: no progress"
      sleep 0.2
      read -r now < /run/synced-$fs
    done
  done
}

stop_writers ()
{
  touch /run/stop
  # shellcheck disable=SC2154 # set by start_writers
  wait "$writer_ext4" || fail "the writer on ext4 failed"
  # shellcheck disable=SC2154
  wait "$writer_xfs" || fail "the writer on xfs failed"
}

# verify FS: all files that were synced; of every fourth only the last ones
# were not removed.
verify ()
{
  local n=1 last name size
  read -r last < "/run/synced-$1"
  while [ "$n" -le "$last" ]; do
    nth_file "/mnt/$1" "$n"
    if [ $((n % 4)) -ne 0 ] || [ $((n + 16)) -gt "$last" ]; then
      pattern check "$name" "$size" $((SEED + n)) > /dev/null ||
        fail "$1: file $n of $last is not as it was synced"
    fi
    n=$((n + 1))
  done
  step "$1: $last synced files are right"
}

# clean FS INDEX: unmount it; nothing is wrong with it.
clean ()
{
  umount "/mnt/$1" || fail "umount of $1"
  case $1 in
    ext4) e2fsck -fn "/dev/nbd$2" ;;
    xfs) xfs_repair -n "/dev/nbd$2" ;;
  esac > /run/fsck 2>&1 || { cat /run/fsck; fail "$1 is not clean"; }
}

# both COMMAND: for ext4 and XFS
both ()
{
  "$1" ext4 0
  "$1" xfs 1
}

no_errors ()
{
  ! dmesg | grep -E 'I/O error|EXT4-fs (error|warning)|XFS .*([Ee]rror|Corrupt)' ||
    fail "the kernel saw errors"
}

make_fs ()                      # FS INDEX
{
  case $1 in
    ext4) mkfs.ext4 -q -F "/dev/nbd$2" ;;
    xfs) mkfs.xfs -q -f "/dev/nbd$2" ;;
  esac || fail "mkfs.$1"
  mount_fs "$1" "$2"
  mkdir "/mnt/$1/d0" "/mnt/$1/d1" "/mnt/$1/d2" "/mnt/$1/d3" "/mnt/$1/d4"
  sync -f "/mnt/$1"
}

echo "$SYNCED_ext4" > /run/synced-ext4
echo "$SYNCED_xfs" > /run/synced-xfs
step "attach"
both attach_fs
if [ "$SYNCED_ext4" -eq 0 ]; then
  both make_fs
else
  step "replay the journals"
  both mount_fs
  both verify
  both clean
  both mount_fs
fi

if [ "$KILLS" -gt 0 ]; then
  start_writers
  for kill in $(seq "$KILLS"); do
    progress 5
    step "kill the server, time $kill"
    host server_killed || fail "host"
  done
  progress 5
  stop_writers
  grep -q 'connected again' /run/attach-ext4 || fail "no connection was lost"
  both clean
  both mount_fs
  both verify
fi
no_errors
if [ -n "$CUT" ]; then
  start_writers
  progress 10
  step "cut"
  host "$CUT" || fail "host"
  sleep 100
  fail "this guest was not cut"
fi
both clean
no_errors
step "done"
