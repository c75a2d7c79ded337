# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest, for test-guest-pressure.sh: one cell.  Swap of twice the
# machine's memory (MEM) by way of PLACE: a server on the `host`, or one of this
# `guest` on /dev/vdb.  DELAY ms on the way there: of netem, or in the host's
# relay.  Then pressure of this KIND for TIME seconds, with as much memory that
# about half of it is out.  SERVER as in server.sh, in the guest with this
# ARMOUR.  TUNE as in tune ().  With LIMIT=yes the load of a guest that has the
# server has a memory cgroup.
#
# Server, watcher and load may be swapped out, as on any machine (load): only
# the harness may not.

: "${MEM:?}" "${KIND:?}" "${PLACE:?}" "${DELAY:?}" "${TIME:?}" "${SEED:?}"
: "${SERVER:?}" "${ARMOUR:?}" "${TUNE?}" "${LIMIT:?}" "${HOST:?}"
PRIORITY=10
modprobe nbd nbds_max=1 || fail "no nbd module"
modprobe sch_netem || fail "no netem"
size=$((MEM * 2))
export=swap/guest1:${size}M

# As long as a turn of pressure may take.  No wait on the way to swap is meant
# to be longer: requests that a connection has lost go out again each second.
echo 30 > /proc/sys/kernel/hung_task_timeout_secs

# As the manual says for a machine's own swap.
by_unix () { test "$SERVER-$DELAY" = farpage-0; }

# A namespace of the server's own, so that each packet is delayed.
make_network ()
{
  if by_unix; then return; fi
  make_store
  test "$DELAY" -eq 0 || tc -n store qdisc add dev far root netem \
    delay "${DELAY}ms" limit 20000 || fail "netem"
  HOST=10.1.0.2 HOST_PORT=10809
}

in_store ()
{
  if by_unix; then
    load "$@"
  else
    load ip netns exec store "$@"
  fi
}

start_server ()
{
  case $SERVER in
    # A store on a disk, whose swap outlives the server: so would somebody set
    # it up who wants to start the server anew under a machine that runs, and
    # it does all that a server can do for a page: map, log, checksums.  Its
    # buffers are small, as the machine is.
    farpage)
      if by_unix; then
        set -- -t 4 -U /run/nbd
        uri=nbd+unix:///$export?socket=/run/nbd
      else
        set -- -t 4 -i "$HOST" -p "$HOST_PORT"
      fi
      in_store nbdkit "$@" /usr/bin/nbdkit-farpage-plugin.so /dev/vdb \
        control=/run/control swap-keep=yes cache=8M armour="$ARMOUR" ||
        fail "nbdkit"
      wait_for test -S /run/control
      ;;
    nbdkit-file)
      # Not a daemon: that would undo --swap's lock.
      in_store nbdkit --swap -f -i "$HOST" -p "$HOST_PORT" -P /run/nbdkit.pid \
        /usr/bin/nbdkit-file-plugin.so /dev/vdb &
      wait_for test -s /run/nbdkit.pid
      ;;
    nbd-server)
      make_nbd_server "$HOST_PORT" /dev/vdb in_store
      sleep 1
      ;;
    *) fail "SERVER=$SERVER is none that can be in the guest" ;;
  esac
}

attach ()
{
  local name=''
  if [ "$SERVER" = farpage ]; then
    load farpage attach "${uri:-nbd://$HOST:$HOST_PORT/$export}" /dev/nbd0 \
      --swap --priority $PRIORITY --persist --background 2> /run/watch ||
      fail "attach: $(cat /run/watch)"
    return
  fi
  test "$SERVER" != nbd-server || name=swap
  load nbd-client -b 4096 -swap -persist -N "$name" "$HOST" "$HOST_PORT" \
    /dev/nbd0 || fail "nbd-client"
  wait_for test -e /sys/block/nbd0/pid
  mkswap -q /dev/nbd0 || fail "mkswap"
  swapon -d -p $PRIORITY /dev/nbd0 || fail "swapon"
}

# tune NAME=VALUE: the machine, as its administrator may
tune ()
{
  local value=${1#*=}
  case $1 in
    min_free=*) echo "$value" > /proc/sys/vm/min_free_kbytes ;;
    page_cluster=*) echo "$value" > /proc/sys/vm/page-cluster ;;
    swappiness=*) echo "$value" > /proc/sys/vm/swappiness ;;
    # MIB:PRIORITY, beside farpage with its own
    zram=*:*)
      modprobe zram && echo "${value%:*}M" > /sys/block/zram0/disksize &&
        mkswap -q /dev/zram0 && swapon -p "${value#*:}" /dev/zram0
      ;;
    # per cent of memory; of a kernel that has it, which a cloud kernel has not
    zswap=*)
      echo "$value" > /sys/module/zswap/parameters/max_pool_percent &&
        echo 1 > /sys/module/zswap/parameters/enabled
      ;;
    *) false ;;
  esac || fail "tune $1"
}

step "swap of $size MiB, server in the $PLACE, $DELAY ms"
if [ "$PLACE" = guest ]; then
  # nbdkit has 192 MiB of zeros, which the kernel lets nobody have by default
  # who has not that much memory.
  echo 1 > /proc/sys/vm/overcommit_memory
  make_network
  start_server
fi
attach
cat /proc/swaps
mkdir -p /tmp/files
free=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
mib=$((free * 2 / 1024))
# Now, so that there is as much pressure as without.
for word in $TUNE; do tune "$word"; done
out=$(vmstat_of pswpout) in=$(vmstat_of pswpin)

# On a machine that has its server itself memory runs short for the load alone,
# which has a cgroup: what the server and the kernel ask for is there.
if [ "$PLACE" = guest ] && [ "$LIMIT" = yes ]; then
  LOAD_GROUP=load
  mkdir /sys/fs/cgroup/load || fail "no cgroup"
  free=$((free - 64 * 1024))
  test $free -gt 16384 || fail "too little memory for the server and a load"
  echo ${free}K > /sys/fs/cgroup/load/memory.max
  mib=$((free * 2 / 1024))
fi

step "$KIND, $mib MiB of memory for $TIME s"
case $KIND in
  anon) load pressure $mib "$TIME" "$SEED" ;;
  hot) load pressure $mib "$TIME" "$SEED" hot ;;
  *) load pressure $mib "$TIME" "$SEED" "$KIND" /tmp/files ;;
esac > /run/pressure
status=$?
out=$(($(vmstat_of pswpout) - out)) in=$(($(vmstat_of pswpin) - in))
result mem "$MEM kind=$KIND server=$PLACE delay_ms=$DELAY mib=$mib \
$(cat /run/pressure) out=$out in=$in"
test $status -eq 0 || fail "pressure ended with status $status"
test "$out" -gt 0 || fail "nothing was swapped out"
! dmesg | grep -E 'I/O error|[Ee]rror on swap' || fail "the kernel saw errors"

step "an end to it"
if [ "$SERVER" = farpage ]; then
  farpage detach /dev/nbd0 || fail "detach"
fi
step "done"
