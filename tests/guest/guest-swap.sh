# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest, for test-guest-swap.sh: swap on EXPORT holds more of a tmpfs
# than the guest has memory.  BYTES of data from SEED.
#
# Linux trims a cluster (2 MiB) of swap when its last slot is freed, but no
# more once swapoff has begun (6.1: free_cluster () asks for SWP_WRITEOK).  What
# swapoff still finds, pages of processes and freed slots in per-CPU caches,
# leaves its whole cluster untrimmed: 11 MB in 8 clusters were seen, whatever
# the server did.  So only the tmpfs is on swap here (load), and the caches are
# emptied first, which a swapoff of any other device does: /dev/loop0's.

: "${EXPORT:?}" "${BYTES:?}" "${SEED:?}" "${HOST:?}" "${HOST_PORT:?}"
modprobe loop || fail "no loop module"
modprobe nbd nbds_max=1 || fail "no nbd module"

step "attach"
nbd-client -N "$EXPORT" -b 4096 "$HOST" "$HOST_PORT" /dev/nbd0 ||
  fail "nbd-client"
result device_bytes "$(blockdev --getsize64 /dev/nbd0)"
mkswap /dev/nbd0 || fail "mkswap"
swapon -d /dev/nbd0 || fail "swapon"
busybox dd if=/dev/zero of=/guest/spare bs=64k count=1 2> /dev/null
losetup /dev/loop0 /guest/spare || fail "losetup"
mkswap -q /dev/loop0 || fail "mkswap of the spare"
swapon /dev/loop0 || fail "swapon of the spare"
cat /proc/swaps

step "write"
mount -t tmpfs -o size=500M data /mnt || fail "tmpfs"
sum=$(load pattern write /mnt/data "$BYTES" "$SEED") || fail "pattern write"
host server_sample written || fail "host"
for time in 1 2; do
  step "read, time $time"
  again=$(load pattern check /mnt/data "$BYTES" "$SEED") || fail "pattern check"
  test "$sum" = "$again" || fail "sum $again, written was $sum"
  host server_sample "read$time" || fail "host"
done
cat /proc/swaps

out=$(vmstat_of pswpout) in=$(vmstat_of pswpin)
result pswpout "$out"
result pswpin "$in"
if [ "$out" -eq 0 ] || [ "$in" -eq 0 ]; then fail "nothing was swapped"; fi

step "give back"
umount /mnt || fail "umount"
cat /proc/swaps
host server_sample unmounted || fail "host"
swapoff /dev/loop0 || fail "swapoff of the spare"
swapoff /dev/nbd0 || fail "swapoff"
host server_sample swapoff || fail "host"
nbd-client -d /dev/nbd0 || fail "nbd-client -d"
step "done"
