# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest, for test-guest-attach.sh: `farpage attach` and `detach`, from
# inside a network namespace.  Swap whose server is killed under it; disks in
# all the ways that are refused; a disk that is gone when the server is there
# again.  BYTES of data from SEED are on the swap.

: "${SEED:?}" "${BYTES:?}" "${RECIPE:?}" "${HOST:?}" "${HOST_PORT:?}"
modprobe nbd nbds_max=2 || fail "no nbd module"
modprobe ext4 || fail "no ext4 module"
uri=nbd://$HOST:$HOST_PORT

# The only way to the host is in a namespace, the driver's family is not.
mkdir -p /var && ln -s /run /var/run
ip netns add far || fail "ip netns"
ip link set eth0 netns far || fail "eth0"
ip -n far link set lo up
ip -n far address add 10.0.2.15/24 dev eth0
ip -n far link set eth0 up
far () { ip netns exec far farpage "$@"; }

# said TEXT: the last command has said so on stderr.
said ()
{
  grep -q -e "$1" /run/said || fail "'$1' was not said, but: $(cat /run/said)"
}

# refused TEXT COMMAND...: it fails, and says so.
refused ()
{
  local text=$1
  shift
  if far "$@" > /run/out 2> /run/said; then fail "farpage $*: not refused"; fi
  said "$text"
}

attached () { test -e "/sys/block/nbd$1/pid"; }

# watchers: the processes that watch a device.
watchers () { grep -lsx farpage /proc/[0-9]*/comm; }

# logged TEXT: within 20 s in what the watcher of the disk says.
logged ()
{
  local tries=200
  until grep -q -e "$1" /run/watch; do
    tries=$((tries - 1))
    test $tries -gt 0 || fail "'$1' is not in: $(cat /run/watch)"
    sleep 0.1
  done
}

no_errors ()
{
  ! dmesg | grep -E 'I/O error|[Ee]rror on swap|EXT4-fs (error|warning)' ||
    fail "the kernel saw errors"
}

step "as the README has it"
(
  # shellcheck disable=SC2317 # by the recipe
  farpage () { far "$@"; }
  while read -r line <&3; do
    echo "# $line"
    eval "$line" 3<&- || fail "status $? of $line"
    case $line in
      *--swap*) grep -q '^/dev/nbd0 ' /proc/swaps || fail "no swap" ;;
    esac
  done 3<< END
$RECIPE
END
) || exit
attached 0 && fail "it is still attached"

step "swap"
far attach "$uri/swap/guest1:512M" /dev/nbd0 --swap --label far --priority 7 \
  --persist --background --json > /run/json 2> /run/watch ||
  fail "attach: $(cat /run/watch)"
cat /run/json /proc/swaps
grep -q '"device": "/dev/nbd0"' /run/json || fail "JSON"
grep -q '^/dev/nbd0 .*[[:blank:]]7$' /proc/swaps || fail "no swap of priority 7"
test "$(cat /sys/block/nbd0/queue/io_timeout)" -eq 700 || fail "io_timeout"
test "$(cat /sys/block/nbd0/queue/max_sectors_kb)" -eq 1024 || fail "sectors"
grep -q '\[none\]' /sys/block/nbd0/queue/scheduler || fail "scheduler"
test "$(blkid -o value -s LABEL /dev/nbd0)" = far || fail "no label"
refused 'attached already' attach "$uri/disk" /dev/nbd0
watchers > /run/pid || fail "nobody watches"
watcher=$(sed -n '1s|/comm$||p' /run/pid)
grep -q '^VmLck:[[:blank:]]*[1-9]' "$watcher/status" || fail "it is not locked"
rss=$(sed -n 's/^VmRSS:[[:blank:]]*\([0-9]*\) kB/\1/p' "$watcher/status")
result watcher "rss_kib=$rss"
test "$rss" -le 16384 || fail "it has $rss KiB, which nobody else can have"
test "$(cat "$watcher/oom_score_adj")" -eq -1000 || fail "it may be killed"
test ! -s /run/watch || fail "armour: $(cat /run/watch)"

mount -t tmpfs -o size=300M data /mnt || fail "tmpfs"
sum=$(load pattern write /mnt/data "$BYTES" "$SEED") || fail "pattern write"
step "the server is killed, and comes back after 3 s"
(sleep 1 && host server_killed) &
again=$(load pattern check /mnt/data "$BYTES" "$SEED") || fail "pattern check"
wait $! || fail "host"
test "$sum" = "$again" || fail "sum $again, written was $sum"
logged 'connected again'
no_errors

step "an end to it"
umount /mnt
far detach /dev/nbd0 || fail "detach"
attached 0 && fail "still attached"
test ! -s /proc/swaps || test "$(wc -l < /proc/swaps)" -eq 1 || fail "still swap"
watchers && fail "still watched"
refused 'not attached' detach /dev/nbd0

step "disks"
device=$(far attach "$uri/disk") || fail "attach"
test "$device" = /dev/nbd0 || fail "device $device"
refused 'nobody watches' grow /dev/nbd0
mkfs.ext4 -q -F /dev/nbd0 || fail "mkfs"
mount /dev/nbd0 /mnt || fail "mount"
pattern sync /mnt/file 3000000 "$SEED" > /dev/null || fail "pattern sync"
refused 'in use' detach /dev/nbd0
umount /mnt
far detach /dev/nbd0 || fail "detach"
refused 'it holds ext4' attach "$uri/disk" --swap
attached 0 && fail "attached though it was refused"
refused 'no TLS' attach "nbds://$HOST:$HOST_PORT/disk"
refused 'does not open' attach "$uri/none"
refused 'one connection' attach "$uri/disk" --swap --connections 2

step "several connections"
far attach "$uri/disk" /dev/nbd1 --connections 3 --persist --background \
  2> /run/watch || fail "attach: $(cat /run/watch)"
mount /dev/nbd1 /mnt || fail "mount"
pattern check /mnt/file 3000000 "$SEED" > /dev/null || fail "pattern check"
host server_killed || fail "host"
pattern sync /mnt/new 3000000 "$SEED" > /dev/null || fail "pattern sync"
logged 'connected again'

step "a disk grows"
: > /run/watch
host server_resizes 320M || fail "host"
test "$(blockdev --getsize64 /dev/nbd1)" -eq $((256 << 20)) || fail "by itself"
far grow /dev/nbd1 > /run/grown || fail "grow"
grep -qx '/dev/nbd1: 320.0M' /run/grown || fail "grow: $(cat /run/grown)"
test "$(blockdev --getsize64 /dev/nbd1)" -eq $((320 << 20)) || fail "320M"
far grow /dev/nbd1 | grep -qx '/dev/nbd1: 320.0M, as before' || fail "again"
host server_grown_while_away 384M || fail "host"
logged "it has $((384 << 20)) bytes now"
test "$(blockdev --getsize64 /dev/nbd1)" -eq $((384 << 20)) || fail "384M"
resize2fs /dev/nbd1 > /run/resize2fs 2>&1 || fail "$(cat /run/resize2fs)"
umount /mnt
e2fsck -fn /dev/nbd1 > /run/fsck 2>&1 || { cat /run/fsck; fail "not clean"; }
head -c 4096 /dev/urandom > /run/block
dd if=/run/block of=/dev/nbd1 bs=4096 seek=98303 oflag=direct 2> /run/dd ||
  fail "the new end: $(cat /run/dd)"
dd if=/dev/nbd1 of=/run/end bs=4096 skip=98303 iflag=direct 2> /run/dd ||
  fail "the new end: $(cat /run/dd)"
cmp /run/block /run/end || fail "the new end is not what was written"
no_errors

# Held in the server, sent again on the next generation's connection, answered,
# overwritten: then the first one goes on, and must come to nothing.
step "a write of an older generation"
block () { head -c 4096 /dev/zero | tr '\0' "$1"; }
put () { block "$1" | dd of=/dev/nbd0 bs=4096 count=1 oflag=direct 2> /run/dd; }
is_there ()
{
  dd if=/dev/nbd0 bs=4096 count=1 iflag=direct 2> /run/dd > /run/block &&
    block "$1" | cmp - /run/block
}
far attach "$uri/swap/fenced:64M" /dev/nbd0 --persist --background \
  2> /run/watch0 || fail "attach: $(cat /run/watch0)"
host hold_a_write || fail "host"
put a &
host write_is_held || fail "no write is held"
far grow /dev/nbd0 || fail "no new generation"
wait $! || fail "the write failed: $(cat /run/dd)"
is_there a || fail "it was not sent again"
put b || fail "write: $(cat /run/dd)"
become=$(host let_go) || fail "host"
test "$become" = ESHUTDOWN || fail "the older write has become '$become'"
is_there b || fail "the older write came through"
far detach /dev/nbd0 || fail "detach"

# Also not when some connections of a generation were told so and one failed.
step "the disk is smaller when the server is there again"
size=$(blockdev --getsize64 /dev/nbd1)
: > /run/watch
host server_smaller 128M || fail "host"
logged 'no server'
sleep 2
host server_again || fail "host"
logged 'another size'
sleep 2
grep -q 'connected again' /run/watch && fail "it was taken: $(cat /run/watch)"
test "$(blockdev --getsize64 /dev/nbd1)" -eq "$size" || fail "another size"
: > /run/watch

step "the disk is gone when the server is there again"
host server_without || fail "host"
logged 'does not have what it had'
dd if=/dev/nbd1 of=/dev/null bs=4096 count=1 iflag=direct 2> /run/dd &
sleep 3
test ! -s /run/dd || fail "it was read, or failed: $(cat /run/dd)"
attached 1 || fail "not attached any more"
far detach --force /dev/nbd1 || fail "detach"
step "done"
