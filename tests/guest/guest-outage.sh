# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest, for test-guest-outage.sh: OUTAGES, a list of WHAT-SECONDS-USE
# (that script's head tells which), one after the other, with the program
# `outage` at work on a device of `farpage attach --persist`.  After each: how
# long it had to wait, whether the connection was made again, and that neither
# it nor the kernel saw anything wrong.  Then the server on HOST_PORT_2, which
# has no volumes.

: "${OUTAGES:?}" "${SEED:?}" "${HOST:?}" "${HOST_PORT:?}" "${HOST_PORT_2:?}"
modprobe nbd nbds_max=4 || fail "no nbd module"
modprobe -a ext4 sch_netem sch_ingress cls_matchall act_gact ||
  fail "no ext4, or no way to drop packets"
MORE_MS=3000                    # than the outage, with one connection
SEEN_MS=500                     # an outage is seen this soon

mkdir -p /var && ln -s /run /var/run
tc qdisc add dev eth0 ingress || fail "ingress"

# Memory that is mostly out.
far=/sys/fs/cgroup/far
mkdir $far && echo 4M > $far/memory.max || fail "cgroup"

now_ms ()
{
  read -r up _ < /proc/uptime
  echo "$((${up%.*} * 1000 + 1${up#*.} * 10 - 1000))"
}

# attach NAME URI DEVICE OPTION...: what its watcher says is in /run/watch-NAME.
attach ()
{
  local name=$1 uri=$2 device=$3
  shift 3
  farpage attach "$uri" "$device" --persist --background "$@" \
    > /run/attached 2>> "/run/watch-$name" ||
    fail "attach: $(cat "/run/watch-$name")"
}

# use NAME: at work on that device, in the background: $user.
use ()
{
  rm -f /run/used
  case $1 in
    swap | volatile)
      # shellcheck disable=SC2016 # of the other shell
      sh -c 'echo 0 > "$0/cgroup.procs" && exec "$@"' $far \
        outage memory 12 "$SEED" > /run/used &
      ;;
    *) outage files "/mnt/$1" "$SEED" > /run/used & ;;
  esac
  user=$!
  within 60 test -s /run/used
}

again () { grep -c 'connected again' "/run/watch-$1"; }

# The watcher's own measure of the last time.
again_after ()
{
  sed -n 's/.*connected again, after \(.*\) s/\1/p' "/run/watch-$1" | tail -n 1
}

no_errors ()
{
  ! dmesg | grep -E 'I/O error|[Ee]rror on swap|EXT4-fs (error|warning)|oom-kill' ||
    fail "the kernel saw errors"
}

# tc, which is there already when packets are to come and go no more.
mkfifo /run/tc
tc -batch /run/tc &
exec 8> /run/tc
traffic ()                      # add drop, or del
{
  printf 'filter %s dev eth0 ingress %s\n' "$1" "${2:+matchall action drop}" >&8
  printf 'qdisc %s dev eth0 root %s\n' "$1" "${2:+netem loss 100%}" >&8
}

# dropped WHAT SECONDS: as the host's server_away, without a start.
dropped ()
{
  local begin
  begin=$(now_ms)
  if [ "$1" = mute ]; then
    # What it has acknowledged by then it replies to too late.
    host server_halt > /dev/null || return
    sleep 0.3
  fi
  traffic add drop
  if [ "$1" = mute ]; then
    sleep 0.3                   # until tc has done it
    host server_go_on > /dev/null || return
  fi
  sleep "$2"
  traffic del
  echo "$(($(now_ms) - begin)) 0"
}

# go_through WHAT SECONDS USE: an outage
go_through ()
{
  local what=$1 seconds=$2 use=$3 before times longest more again=no
  before=$(again "$use")
  use "$use"
  case $what in
    kill | stop) times=$(host server_away "$what" "$seconds") ;;
    drop | mute) times=$(dropped "$what" "$seconds") ;;
    *) fail "an outage cannot be '$what'" ;;
  esac || fail "no outage: $times"
  kill "$user"
  wait "$user" || fail "status $? after $what of $seconds s: $(cat /run/used)"
  test "$(again "$use")" -gt "$before" && again=$(again_after "$use")
  longest=$(sed -n 's/^longest_ms=\([0-9]*\) .*/\1/p' /run/used)
  more=$((longest - ${times% *}))
  result outage "$what-$seconds-$use outage_ms=${times% *} \
start_ms=${times#* } again_s=$again $(tail -n 1 /run/used) more_ms=$more"
  no_errors
  test $more -ge -$SEEN_MS || fail "nobody saw the outage"
  test "$use" = several || [ $more -le $MORE_MS ] ||
    fail "longer than the outage by more than $MORE_MS ms"
  # A loss of packets may be over before the connection is.
  case $what-$seconds in
    drop-[1-3] | mute-[1-3]) ;;
    *) test "$again" != no || fail "it is the old connection" ;;
  esac
}

step "attach"
uri=nbd://$HOST:$HOST_PORT
attach swap "$uri/swap/guest1:128M" /dev/nbd0 --swap
attach ext4 "$uri/disk" /dev/nbd1
attach several "$uri/disk-several" /dev/nbd2 --connections 3
index=1
for use in ext4 several; do
  mkfs.ext4 -q -F /dev/nbd$index || fail "mkfs"
  mkdir -p /mnt/$use
  mount -o noinit_itable /dev/nbd$index /mnt/$use || fail "mount"
  index=$((index + 1))
done

for item in $OUTAGES; do
  step "$item"
  rest=${item#*-}
  go_through "${item%%-*}" "${rest%-*}" "${rest#*-}"
done

step "an end to it"
farpage detach /dev/nbd0 || fail "detach"
index=1
for use in ext4 several; do
  umount /mnt/$use || fail "umount"
  e2fsck -fn /dev/nbd$index > /run/fsck 2>&1 ||
    fail "$use is not clean: $(cat /run/fsck)"
  index=$((index + 1))
done
no_errors

# Whoever waits for its pages waits until the device is given up, and ends.
step "a server that has nothing any more"
attach volatile "nbd://$HOST:$HOST_PORT_2/swap/guest1:128M" /dev/nbd3 --swap
use volatile
host volatile_killed > /dev/null || fail "host"
told () { grep -q -e "$1" /run/watch-volatile; }
within 20 told 'does not have what it had'
sleep 2
told 'given up' && fail "given up too early"
kill "$user" || fail "it got pages, or ended: $(cat /run/used)"
test "$(cat /run/used)" = ready || fail "it got pages: $(cat /run/used)"
within 60 told 'given up: the server was away for too long'
ended () { ! grep -q '^State:.*[RSD] ' "/proc/$user/status" 2> /dev/null; }
within 20 ended
wait "$user"
status=$?
test $status -eq 135 || fail "it ended with status $status, not by SIGBUS"
result outage "kill-volatile told=yes dead=yes"
step "done"
