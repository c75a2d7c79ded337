#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# /init of a test guest whose root is on its first virtio disk (run-guest.sh
# --root-disk): busybox and a few modules, which are gone from memory when the
# disk's own /init (guest-init.sh) runs.

export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
modprobe -a virtio_pci virtio_blk crc32c_intel ext4
tries=100
until [ -b /dev/vda ] || [ $tries -eq 0 ]; do
  sleep 0.1
  tries=$((tries - 1))
done
mount -t ext4 /dev/vda /new
cp /guest/script /guest/params /new/guest/
umount /dev /proc
exec switch_root /new /init
