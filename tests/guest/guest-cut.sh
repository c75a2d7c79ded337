# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest, for test-guest-cut.sh: a server on the virtio disk's first
# partition, a client that writes batches and marks, until the power is cut.
# FIRST is the first batch; before it, if it is not 1, the disk is checked.
# BATCHES is how many are written before the host is asked for the cut.

: "${FIRST:?}" "${BATCHES:?}" "${SEED:?}"
modprobe virtio_blk || fail "no virtio_blk module"
tries=100
until [ -b /dev/vda2 ] || [ $tries -eq 0 ]; do
  sleep 0.1
  tries=$((tries - 1))
done
grep -q 'write back' /sys/block/vda/queue/write_cache ||
  fail "the disk has no cache that could be lost"

step "serve"
mkdir /run/staging
nbdkit -P /run/pid -U /run/socket /usr/bin/nbdkit-farpage-plugin.so \
  /dev/vda1 control=/run/control staging=/run/staging || fail "nbdkit"
tries=100
until [ -S /run/control ] && [ -S /run/socket ] || [ $tries -eq 0 ]; do
  sleep 0.1
  tries=$((tries - 1))
done
if [ "$FIRST" -eq 1 ]; then
  farpage create disk 32M --socket /run/control || fail "create"
else
  batches check /run/socket disk "$SEED" $((FIRST - 1)) || fail "check"
fi

step "write from batch $FIRST"
: > /run/synced
batches write /run/socket disk "$SEED" "$FIRST" /dev/vda2 0 > /run/synced &
writer=$!
last=$((FIRST + BATCHES))
until grep -qx "synced $last" /run/synced; do
  kill -0 $writer 2> /dev/null || fail "the client ended"
  sleep 0.2
done
step "$(tail -n 1 /run/synced)"
host cut
sleep 100
fail "the power was not cut"
