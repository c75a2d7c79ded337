#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# /init of a test guest (the first program of the initramfs; see run-guest.sh,
# which also puts /guest/script and /guest/params beside it).
#
# ttyS0 is the console: the kernel's messages, and the script's output with
# "| " before each line.  ttyS1 is the line to the host, which carries only
#   START UPTIME        the script is about to run
#   RESULT key=value    from result
#   ASK word...         from host; the host answers "status text"
#   EXIT status         the script has ended
# so that no kernel message can break a result in two.

export PATH=/usr/sbin:/usr/bin:/applets HOME=/root LC_ALL=C

# The harness and the script stay out of swap, so that a guest under pressure
# can be driven, and so that what is on swap is what the script put there with
# `load`.  Pages belong to the group of whoever made them: hence the exec.
if [ "${1-}" != again ]; then
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount -t cgroup2 cgroup /sys/fs/cgroup
  echo +memory > /sys/fs/cgroup/cgroup.subtree_control
  mkdir /sys/fs/cgroup/harness
  echo 0 > /sys/fs/cgroup/harness/memory.swap.max
  echo 0 > /sys/fs/cgroup/harness/cgroup.procs
  exec /init again
fi
mount -t devtmpfs dev /dev 2> /dev/null
mount -t tmpfs -o mode=755 run /run

stty -F /dev/ttyS1 raw -echo
exec 9<> /dev/ttyS1
say () { printf '%s\n' "$*" >&9; }

# A lock-up is one by a busy machine's measure; an emulated CPU can lose its
# host's CPU for seconds.
echo 30 > /proc/sys/kernel/watchdog_thresh
echo 1 > /proc/sys/kernel/softlockup_panic
echo 1 > /proc/sys/kernel/hung_task_panic
echo 1 > /proc/sys/kernel/panic_on_oops

echo /sbin/modprobe > /proc/sys/kernel/modprobe
modprobe -a virtio_pci virtio_rng virtio_net
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0    # no route: only the host is reached

# The script's output goes through a named pipe, not a pipeline: a process
# that the script leaves behind keeps it open, and must not hold up the end.
mkfifo /run/output
while IFS= read -r line; do printf '| %s\n' "$line"; done < /run/output &
output_pid=$!

# What hangs, shortly before the host gives up.
# shellcheck source=/dev/null
. /guest/params
(
  sleep $((GUEST_TIMEOUT - 8))
  echo 8 > /proc/sys/kernel/printk
  for key in m l w; do echo $key > /proc/sysrq-trigger; done
) > /dev/null 2>&1 < /dev/null &

read -r uptime _ < /proc/uptime
say "START $uptime"
(
  cd /tmp || exit 1
  # shellcheck source=/dev/null
  exec sh -c '. /guest/params; . /guest/env.sh; . /guest/script' \
    /guest/script
) > /run/output 2>&1 < /dev/null
status=$?

tries=20
while kill -0 $output_pid 2> /dev/null && [ $tries -gt 0 ]; do
  sleep 0.1
  tries=$((tries - 1))
done
say "EXIT $status"
exec 9>&-
reboot -f
