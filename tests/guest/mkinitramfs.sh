#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# mkinitramfs.sh [--root-disk IMAGE] OUT [PROGRAM...]: an initramfs for test
# guests from this machine's Debian packages, plus PROGRAMs of our own (into
# /usr/bin).  With --root-disk all this is in IMAGE, an ext4 with some room, and
# OUT has only what mounts it (guest-root.sh): the guest has its memory for
# itself.
#
# Only what the tests use is in it: dash as the shell, busybox for the small
# things, the real tools where their behaviour is what a test is about, and
# the modules of the newest cloud kernel (run-guest.sh boots the same one).
# busybox's applets are links in /applets, the last place of PATH, and the
# shell is not busybox's, which would prefer its own applets to PATH: so no
# applet shadows the real mkswap, swapon, ip or tc.
#
# It is not compressed: an emulated CPU unpacks slower than it copies.
# Exit 77: something is not installed (the message names the packages).

set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"

tools=(
  dash:dash busybox:busybox-static modprobe:kmod
  nbd-client:nbd-client mkswap:util-linux swapon:mount swapoff:mount
  blkid:util-linux blockdev:util-linux fstrim:util-linux
  mkfs.ext4:e2fsprogs e2fsck:e2fsprogs resize2fs:e2fsprogs mkfs.xfs:xfsprogs xfs_repair:xfsprogs
  ip:iproute2 tc:iproute2
)
root_modules=(virtio_pci virtio_blk crc32c_intel ext4)
modules=(
  "${root_modules[@]}" virtio_net virtio_rng nbd xfs loop sch_netem veth
  sch_ingress cls_matchall act_gact zram lzo-rle
)

copy_file ()                    # SOURCE: to the same place below $root
{
  mkdir -p "$root${1%/*}"
  test -e "$root$1" || cp -L "$1" "$root$1"
}

copy_program ()                 # SOURCE DESTINATION: with its libraries
{
  local lib
  cp -L "$1" "$root$2"
  chmod 755 "$root$2"
  # "name => /path (address)" or "/path (address)"; a static one has none.
  { ldd "$1" 2> /dev/null || :; } |
    sed -n 's|^[^/]*\(/[^ ]*\) (0x.*|\1|p' |
    while read -r lib; do copy_file "$lib"; done
}

make_tree ()
{
  mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{applets,etc,mnt,root} \
    "$root"/{dev,proc,sys,run,tmp,guest}
  local d
  for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
  ln -s /proc/self/mounts "$root/etc/mtab"
}

copy_tools ()
{
  local item
  for item in "${tools[@]}"; do
    item=${item%%:*}
    copy_program "$(command -v "$item")" "/usr/sbin/$item"
  done
  mv "$root/usr/sbin/dash" "$root/usr/bin/sh"
  mv "$root/usr/sbin/busybox" "$root/usr/bin/busybox"
  for item in $(busybox --list); do
    ln -s /usr/bin/busybox "$root/applets/$item"
  done
  copy_file /etc/mke2fs.conf
  if [ -d /usr/lib/tc ]; then cp -rL /usr/lib/tc "$root/usr/lib/"; fi
}

copy_modules ()                 # MODULE...
{
  local name word path
  for name; do
    modprobe --set-version "$kernel" --show-depends "$name" |
      while read -r word path _; do
        test "$word" = builtin || copy_file "$path"
      done
  done
  for path in "/lib/modules/$kernel"/modules.{order,builtin,builtin.modinfo}
  do
    copy_file "$path"
  done
  depmod -b "$root" "$kernel"
}

# The few files that come before a root on a disk.
make_small_tree ()
{
  local item
  mkdir -p "$root"/{bin,dev,proc,new,guest}
  cp "$(command -v busybox)" "$root/bin/"
  for item in sh mount umount modprobe sleep cp switch_root; do
    ln -s busybox "$root/bin/$item"
  done
  copy_modules "${root_modules[@]}"
  cp "$here/guest-root.sh" "$root/init"
  chmod 755 "$root/init"
}

image=
if [ "${1-}" = --root-disk ] && [ $# -ge 2 ]; then
  image=$2
  shift 2
fi
if [ $# -lt 1 ]; then
  echo "usage: mkinitramfs.sh [--root-disk IMAGE] OUT [PROGRAM...]" >&2
  exit 2
fi
out=$1
shift
guest_need "${tools[@]}" depmod:kmod cpio:cpio ldd:libc-bin \
  mke2fs:e2fsprogs
kernel=''
guest_kernel

work=$(mktemp -d "${TMPDIR:-/tmp}/mkinitramfs.XXXXXX")
trap 'rm -rf "$work" "$out.part" ${image:+"$image.part"}' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root
make_tree
copy_tools
copy_modules "${modules[@]}"
for program; do copy_program "$program" "/usr/bin/${program##*/}"; done
cp "$here/guest-init.sh" "$root/init"
cp "$here/guest-env.sh" "$root/guest/env.sh"
chmod 755 "$root/init"
if [ -n "$image" ]; then
  truncate -s 768M "$image.part"
  mke2fs -q -t ext4 -d "$root" "$image.part"
  mv "$image.part" "$image"
  root=$work/small
  make_small_tree
fi
guest_cpio "$root" > "$out.part"
mv "$out.part" "$out"
