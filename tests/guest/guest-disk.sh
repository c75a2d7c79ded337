# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash disable=SC3043
#
# In the guest, for test-guest-disk.sh: ext4 and then XFS, each on an export of
# its own (EXPORT-ext4, EXPORT-xfs) over 2 connections: files are written,
# checked after a remount, and their space is given back by fstrim.

: "${EXPORT:?}" "${SEED:?}" "${HOST:?}" "${HOST_PORT:?}"
files=300
modprobe -a ext4 xfs || fail "no file system modules"
modprobe nbd nbds_max=1 || fail "no nbd module"

# file_of N: file N's $name and $size: empty, small, odd, and some megabytes.
file_of ()
{
  name=/mnt/d$(($1 % 7))/f$1
  case $1 in
    *00) size=0 ;;
    *50) size=$((8 << 20)) ;;
    *5) size=$(((1 << 20) + $1 * 4099)) ;;
    *) size=$(($1 * $1 * 7919 % 65536)) ;;
  esac
}

# each COMMAND FIRST STEP: pattern COMMAND for these files; prints one sum over
# all of theirs.
each ()
{
  local i=$2 name size
  while [ "$i" -le $files ]; do
    file_of "$i"
    pattern "$1" "$name" "$size" $((SEED + i)) || return
    i=$((i + $3))
  done > sums
  md5sum < sums
}

attach ()
{
  local port
  nbd-client -C 2 -N "$EXPORT-$1" -b 4096 "$HOST" "$HOST_PORT" /dev/nbd0 ||
    fail "nbd-client"
  port=$(printf ':%04X 01 ' "$HOST_PORT")
  test "$(grep -c "$port" /proc/net/tcp)" -eq 2 || fail "not 2 connections"
}

# A peer's only export still holds what was made before: -F and -f.
make_fs ()
{
  case $1 in
    ext4) mkfs.ext4 -q -F /dev/nbd0 ;;
    xfs) mkfs.xfs -q -f /dev/nbd0 ;;
  esac
}

# check_fs FS: the unmounted file system is clean.
check_fs ()
{
  case $1 in
    ext4) e2fsck -fn /dev/nbd0 ;;
    xfs) xfs_repair -n /dev/nbd0 ;;
  esac > fsck 2>&1 || { cat fsck; fail "$1 is not clean"; }
}

remove_half ()
{
  local i=2 bytes=0 name size
  while [ "$i" -le $files ]; do
    file_of "$i"
    rm "$name" || fail "rm"
    bytes=$((bytes + size))
    i=$((i + 2))
  done
  result "deleted_$1" $bytes
  sync
}

try ()
{
  local fs=$1 sum again odd
  step "$fs: make"
  attach "$fs"
  make_fs "$fs" || fail "mkfs.$fs"
  mount -t "$fs" /dev/nbd0 /mnt || fail "mount"
  mkdir /mnt/d0 /mnt/d1 /mnt/d2 /mnt/d3 /mnt/d4 /mnt/d5 /mnt/d6

  step "$fs: write $files files"
  sum=$(each write 1 1) || fail "$fs: write"
  odd=$(each check 1 2) || fail "$fs: check of half"
  umount /mnt || fail "umount"
  check_fs "$fs"

  step "$fs: check after a remount"
  mount -t "$fs" /dev/nbd0 /mnt || fail "mount"
  again=$(each check 1 1) || fail "$fs: check"
  test "$sum" = "$again" || fail "$fs: files are not as they were written"

  step "$fs: remove half, trim"
  remove_half "$fs"
  host server_sample "$fs-removed" || fail "host"
  fstrim -v /mnt || fail "fstrim"
  host server_sample "$fs-trimmed" || fail "host"
  umount /mnt || fail "umount"
  check_fs "$fs"
  mount -t "$fs" /dev/nbd0 /mnt || fail "mount"
  again=$(each check 1 2) || fail "$fs: check of half"
  test "$odd" = "$again" || fail "$fs: fstrim harmed files that are left"
  umount /mnt || fail "umount"
  nbd-client -d /dev/nbd0 || fail "nbd-client -d"
}

try ext4
try xfs
step "done"
