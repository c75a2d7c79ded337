# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest, for test-guest-space.sh: what the server has in use for swap,
# when a process ends that held most of it, and when pages are given back one by
# one; what it has in use for a client that is silent for good.  Then the guest
# waits to be killed.
#
# Linux trims a cluster (2 MiB) of swap when its last slot is free; freed slots
# are kept for a while, 64 for each CPU, and a cluster that two processes have
# filled has slots of both.  So processes are on one CPU, their memory is out
# before the next one begins, and those kept slots are let go by a swapoff of
# another device: what is left over is the server's.

: "${SEED:?}" "${KEPT:?}" "${GONE:?}" "${HOST:?}" "${HOST_PORT:?}"
modprobe loop || fail "no loop module"
modprobe nbd nbds_max=2 || fail "no nbd module"
WITHIN_MS=5000
PER_CENT=105                    # of the swap that is used

step "attach"
farpage attach "nbd://$HOST:$HOST_PORT/swap/guest1:640M" /dev/nbd0 --swap \
  --persist --background || fail "attach"
base=$(host server_mapped) || fail "host"
busybox dd if=/dev/zero of=/guest/spare bs=64k count=1 2> /dev/null
losetup /dev/loop0 /guest/spare || fail "losetup"
mkswap -q /dev/loop0 || fail "mkswap of the spare"

says () { test "$(tail -n 1 "/run/$1.out")" = "$2"; }

# hold NAME MIB: a process with so much memory on swap, and 16 MiB more here.
hold ()
{
  local group=/sys/fs/cgroup/$1
  mkdir "$group" || fail "cgroup"
  echo 16M > "$group/memory.max" || fail "cgroup"
  mkfifo "/run/$1.in"
  LOAD_GROUP=$1 load taskset 1 holder $(($2 + 16)) "$SEED" < "/run/$1.in" \
    > "/run/$1.out" &
  eval "pid_$1=$!"
  case $1 in
    kept) exec 5> "/run/$1.in" ;;
    gone) exec 6> "/run/$1.in" ;;
    bits) exec 7> "/run/$1.in" ;;
  esac
  within 300 says "$1" ready
}

used () { awk '$1 == "/dev/nbd0" { print $4 * 1024 }' /proc/swaps; }

let_go_of_slots ()
{
  swapon /dev/loop0 || fail "swapon of the spare"
  swapoff /dev/loop0 || fail "swapoff of the spare"
}

# look: $used and $mapped, bytes
look ()
{
  used=$(used)
  mapped=$(host server_mapped) || fail "host"
  mapped=$((mapped - base))
}

now_ms ()
{
  read -r up _ < /proc/uptime
  echo "$((${up%.*} * 1000 + 1${up#*.} * 10 - 1000))"
}

step "a process that has $KEPT MiB, and one of $GONE"
hold kept "$KEPT"
hold gone "$GONE"
look
before=$used
result full "used=$used mapped=$mapped"
test $((before * 9 / 10)) -le $((GONE << 20)) || fail "it has too little of it"

step "the larger one ends"
exec 6>&-
# shellcheck disable=SC2154 # set by hold
wait "$pid_gone" || fail "status $?"
begin=$(now_ms)
let_go_of_slots
look
while [ $mapped -gt $((used * PER_CENT / 100)) ]; do
  test $(($(now_ms) - begin)) -lt $WITHIN_MS ||
    fail "$mapped bytes are mapped for $used that are used"
  sleep 0.2
  look
done
result left "used=$used mapped=$mapped after_ms=$(($(now_ms) - begin))"
test "$used" -gt $((KEPT << 19)) || fail "only $used bytes are used"
test "$used" -lt $((KEPT << 21)) || fail "$used bytes are used: it is there"

step "pages are given back at random"
hold bits 64
only_kept=$mapped used_by_kept=$used
for share in 0 100 300 500 700 900 990 999; do
  echo "free $share" >&7
  within 60 says bits ok
  let_go_of_slots
  sleep 2
  look
  result given_back "$share used=$((used - used_by_kept)) \
mapped=$((mapped - only_kept))"
  : > /run/bits.out
done
exec 7>&-
# shellcheck disable=SC2154
wait "$pid_bits" || fail "status $?"

step "what was kept is right"
echo check >&5
within 120 says kept ok
: > /run/kept.out

step "a client that is silent"
make_store
ip netns exec store listen 10.1.0.2 10809 /run/nbd nbdkit -f \
  /usr/bin/nbdkit-farpage-plugin.so mem:64M control=/run/control linger=2 \
  armour=no > /run/log 2>&1 &
wait_for test -S /run/control
farpage attach nbd://10.1.0.2/swap/silent:32M /dev/nbd1 > /dev/null ||
  fail "attach"
dd if=/dev/zero bs=64k count=16 2> /dev/null | tr '\0' x > /run/data
dd if=/run/data of=/dev/nbd1 bs=64k oflag=direct 2> /dev/null || fail "dd"
farpage stat --socket /run/control > /run/stat || fail "stat"
stat_of ()
{
  farpage stat --json --socket /run/control | tr -d ' \n' |
    sed "s/.*\"$1\":\([0-9]*\).*/\1/"
}
test "$(stat_of mapped_bytes)" -ge 1048576 || fail "nothing is mapped"
begin=$(now_ms)
tc qdisc replace dev near root netem loss 100% || fail "netem"
empty () { test "$(stat_of mapped_bytes)" -eq 0; }
within 60 empty
result silent "after_ms=$(($(now_ms) - begin))"

step "cut"
host guest_killed || fail "host"
sleep 100
fail "this guest was not cut"
