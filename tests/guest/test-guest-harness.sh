#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The harness itself: what a script says and how it ends comes back, and a
# guest that panics, never ends or is killed is a failure that shows why.

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)

# With --on-ask this file is also the host's side of its guests.
if [ "${1-}" = --asked ]; then
  case $2 in
    add) echo "$(($3 + $4))" ;;
    no) exit 4 ;;
    kill-qemu) kill -KILL "$GUEST_QEMU_PID" ;;
  esac
  exit
fi

# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-harness.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work/tmp" "$work/logs"
export TMPDIR=$work/tmp GUEST_LOGDIR=$work/logs
GUEST_INITRAMFS=$work/initramfs
"$here/mkinitramfs.sh" "$GUEST_INITRAMFS" || exit
export GUEST_INITRAMFS

cases=0 failed=0
# check TEXT COMMAND...: one case.
check ()
{
  cases=$((cases + 1))
  if "${@:2}"; then return; fi
  failed=$((failed + 1))
  echo "FAIL: $1"
}

# guest STATUS OPTION...: run the script on stdin; it must end with STATUS and
# leave nothing but its results in $work/out, $work/err and a kept log.
guest ()
{
  local want=$1 status
  cat > "$work/script.sh"
  rm -f "$work/logs"/*
  "$here/run-guest.sh" --on-ask "$here/test-guest-harness.sh --asked" \
    "${@:2}" "$work/script.sh" > "$work/out" 2> "$work/err"
  status=$?
  if [ $status -eq 77 ]; then
    cat "$work/err" >&2
    exit 77
  fi
  grep '^guest: script.sh:' "$work/err"
  check "status $status, not $want" test $status -eq "$want"
  check "GUEST-EXIT $want is last" \
    test "$(tail -n 1 "$work/out")" = "GUEST-EXIT $want"
  check "something is left in TMPDIR" test -z "$(ls -A "$TMPDIR")"
}

says () { grep -qF -- "$1" "$work/err"; }
result_is () { grep -qxF -- "RESULT $1" "$work/out"; }
log_kept () { test "$(find "$work/logs" -type f | wc -l)" -eq "$1"; }

echo "a script that works, and its own status"
guest 3 --mem 256 --env "TEXT=it's \$HOME" << 'EOS'
result text "$TEXT"
result sum "$(host add 2 3)"
host no > /dev/null
result no $?
swapon --version | grep -q util-linux && tc -V | grep -q iproute2 &&
  ip -V | grep -q iproute2 && mkswap --version | grep -q util-linux
result real_tools $?
modprobe -a nbd ext4 xfs loop sch_netem veth
result modules $?
echo "said by the script"
exit 3
EOS
check "a variable with quotes" result_is "text=it's \$HOME"
check "an answer from the host" result_is sum=5
check "a status from the host" result_is no=4
check "no applet shadows a tool" result_is real_tools=0
check "modules" result_is modules=0
check "output with its prefix" says "| said by the script"
check "why" says "the script failed with status 3"
check "one log is kept" log_kept 1

echo "success, with a process left behind that holds the output"
guest 0 --mem 256 <<< 'sleep 1000 & exit 0'
check "no log is kept" log_kept 0

echo "a root on a disk, and another disk"
cp "$GUEST_INITRAMFS" "$work/large" && truncate -s 1M "$work/disk" || exit 1
"$here/mkinitramfs.sh" --root-disk "$work/root" "$GUEST_INITRAMFS" || exit
sum=$(md5sum < "$work/root")
guest 0 --mem 128 --root-disk "$work/root" --disk "$work/disk" \
  --env TEXT=given << 'EOS'
grep -q '^/dev/vda / ext4 rw' /proc/mounts
result root $?
result text "$TEXT"
result other "$(blockdev --getsize64 /dev/vdb)"
echo text > /dev/vdb && echo text > /file && sync
result mib $(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
EOS
check "the root" result_is root=0
check "a variable" result_is text=given
check "the disk" result_is other=$((1 << 20))
check "what is written there" test "$(head -c 4 "$work/disk")" = text
check "the root is as it was" test "$sum" = "$(md5sum < "$work/root")"
mib=$(sed -n 's/^RESULT mib=//p' "$work/out")
check "of 128 MiB only ${mib:-none} are free" test "${mib:-0}" -ge 40
mv "$work/large" "$GUEST_INITRAMFS"

echo "a panic"
guest 125 --mem 256 <<< 'echo c > /proc/sysrq-trigger; sleep 100'
check "why" says "the guest's kernel failed: "
check "the trace is shown" says "sysrq_handle_crash"
check "one log is kept" log_kept 1

echo "a hung task"
guest 125 --mem 256 << 'EOS'
echo 4 > /proc/sys/kernel/hung_task_timeout_secs
modprobe -a loop ext4
busybox dd if=/dev/zero of=disk bs=1M count=8 2> /dev/null
mkfs.ext4 -q disk && mount -o loop disk /mnt && fsfreeze --freeze /mnt
touch /mnt/file
EOS
check "why" says "blocked for more than"

echo "qemu is killed half-way; a script's text is not the kernel's"
guest 125 --mem 256 << 'EOS'
echo "[    1.000000] Kernel panic - not syncing: only said"
host kill-qemu
sleep 100
EOS
check "why" says "the guest ended before its script did"

echo "the harness is ended half-way"
"$here/run-guest.sh" --mem 256 "$work/script.sh" > "$work/out" 2>&1 &
pid=$!
until qemu=$(pgrep -P $pid -x 'qemu-system-x86') ||
  ! kill -0 $pid 2> /dev/null; do sleep 0.1; done
kill -TERM $pid
wait $pid
check "status" test $? -eq 143
check "qemu is gone" test ! -e "/proc/${qemu:-self}"
check "something is left in TMPDIR" test -z "$(ls -A "$TMPDIR")"

echo "a script that never ends"
guest 124 --mem 256 --timeout 10 <<< 'sleep 1000'
check "why" says "the guest was not done after"
check "one log is kept" log_kept 1

echo "test-guest-harness: $cases cases, $failed failed"
test $failed -eq 0
