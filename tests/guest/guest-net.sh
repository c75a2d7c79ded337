# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest, for test-guest-net.sh: CELLS, one after the other, of which each
# is KIND-N-DELAY-LINK-SERVER.  All servers are in a namespace of their own with
# their data in memory, and netem is at both ends of the veth to there.
#
#   disk  fio over N connections: 16 MiB in blocks of 128 KiB at random, 16
#         under way, written and then read and compared
#   swap  a tmpfs of twice what its cgroup may have, with vm.page-cluster=N:
#         written, read in order, and 512 pages of it at random; all compared
#
# LINK: plain; loss0.1 and loss1 (per cent of packets, each way); 100mbit.

: "${CELLS:?}" "${SEED:?}"
host=10.1.0.2
data=$((8 << 20))
modprobe nbd nbds_max=1 || fail "no nbd module"

# far COMMAND...: there
far ()
{
  ip netns exec store "$@"
}

# port_of SERVER, name_of KIND SERVER: its port, and its export for this
port_of ()
{
  case $1 in
    farpage) echo 10809 ;;
    nbdkit-file) echo 10810 ;;
    nbd-server) echo 10811 ;;
    *) fail "no server $1" ;;
  esac
}

name_of ()
{
  case $1-$2 in
    disk-farpage) echo disk ;;
    swap-farpage) echo swap/net:64M ;;
    *-nbd-server) echo swap ;;
  esac
}

start_server ()
{
  case $1 in
    farpage)
      far nbdkit -i $host -p "$(port_of "$1")" \
        /usr/bin/nbdkit-farpage-plugin.so mem:160M control=/run/control ||
        fail "nbdkit"
      wait_for test -S /run/control
      farpage create disk 64M --socket /run/control || fail "create"
      ;;
    nbdkit-file)
      truncate -s 64M /store/nbdkit-file
      far nbdkit -i $host -p "$(port_of "$1")" \
        /usr/bin/nbdkit-file-plugin.so /store/nbdkit-file || fail "nbdkit file"
      ;;
    nbd-server)
      truncate -s 64M /store/nbd-server
      make_nbd_server "$(port_of "$1")" /store/nbd-server far
      sleep 1
      ;;
  esac
}

# link DELAY LINK: half of DELAY each way.  Packets are lost and counted as they
# are on a cable, not as the 64 KiB that Linux hands on inside a machine.
link ()
{
  local half=$(($1 * 500)) segs=65535 netem='' rtt
  case $2 in
    plain) ;;
    loss*) netem="loss ${2#loss}%" segs=1 ;;
    *mbit) netem="rate $2" segs=1 ;;
    *) fail "no link $2" ;;
  esac
  tc qdisc del dev near root 2> /dev/null
  tc -n store qdisc del dev far root 2> /dev/null
  ip link set near gso_max_segs $segs || fail "gso_max_segs"
  ip -n store link set far gso_max_segs $segs || fail "gso_max_segs"
  test "$netem$half" != 0 || return 0
  # shellcheck disable=SC2086 # words
  { tc qdisc add dev near root netem delay ${half}us $netem limit 20000 &&
    tc -n store qdisc add dev far root netem delay ${half}us $netem \
      limit 20000; } || fail "netem"

  # It is there.
  rtt=$(ping -q -c 3 -A $host | sed -n 's|.* = \([0-9]*\)\..*|\1|p')
  test "${rtt:-0}" -ge "$1" || fail "a round trip of $rtt ms, not $1"
}

# attach SERVER KIND N
attach ()
{
  local name options='' nr=$3
  name=$(name_of "$2" "$1")
  test "$2" != swap || { nr=1; options=--swap; }
  if [ "$1" = farpage ]; then
    # shellcheck disable=SC2086 # one or none
    farpage attach "nbd://$host:$(port_of "$1")/$name" /dev/nbd0 $options \
      --connections "$nr" --persist --background || fail "attach"
    return
  fi
  nbd-client -b 4096 -C "$nr" -N "$name" $host "$(port_of "$1")" \
    /dev/nbd0 || return
  wait_for test -e /sys/block/nbd0/pid
  test "$2" = swap || return 0
  mkswap -q /dev/nbd0 || fail "mkswap"
  swapon -d /dev/nbd0 || fail "swapon"
}

# detach SERVER KIND
detach ()
{
  if [ "$1" = farpage ]; then
    farpage detach /dev/nbd0 || fail "detach"
    return
  fi
  test "$2" = disk || swapoff /dev/nbd0 || fail "swapoff"
  nbd-client -d /dev/nbd0 || fail "nbd-client -d"
}

# try_disk: prints figures
try_disk ()
{
  fio --name=verify --filename=/dev/nbd0 --size=16M --ioengine=libaio \
    --direct=1 --iodepth=16 --rw=randwrite --bs=128k --randseed="$SEED" \
    --verify=crc32c --verify_fatal=1 --verify_state_save=0 --minimal \
    > /run/fio 2>&1 || { cat /run/fio >&2; return 1; }
  awk -F ';' '$1 == 3 { printf "write=%.2f read=%.2f\n", $48 * 1024 / 1e6,
    $7 * 1024 / 1e6 }' /run/fio
}

# timed BYTES COMMAND...: MB/s
timed ()
{
  local bytes=$1 begin end
  shift
  begin=$(now)
  "$@" > /run/pattern || return
  end=$(now)
  awk "BEGIN { printf \"%.3f\n\", $bytes / 1e4 / ($end - $begin + 1) }"
}

# now: hundredths of a second
now ()
{
  local up
  read -r up _ < /proc/uptime
  echo "${up%.*}${up#*.}"
}

# try_swap N: prints figures
try_swap ()
{
  local group=/sys/fs/cgroup/net write read random
  LOAD_GROUP=net
  mkdir -p $group || fail "no cgroup"
  echo $((data / 2)) > $group/memory.max
  echo "$1" > /proc/sys/vm/page-cluster
  mount -t tmpfs data /mnt || fail "tmpfs"
  write=$(timed $data load pattern write /mnt/data $data "$SEED") &&
    read=$(timed $data load pattern check /mnt/data $data "$SEED") &&
    random=$(timed $((2 << 20)) load pattern jump /mnt/data $data "$SEED") ||
    return
  umount /mnt || fail "umount"
  echo "write=$write read=$read random=$random"
}

cell ()
{
  local kind nr delay link server figures
  IFS=- read -r kind nr delay link server << END
$1
END
  step "$1"
  if [ "$delay-$link" != "$last_link" ]; then link "$delay" "$link"; fi
  last_link=$delay-$link
  attach "$server" "$kind" "$nr" || fail "$1: not attached"
  figures=$("try_$kind" "$nr") || fail "$1: not as it was written"
  test -n "$figures" || fail "$1: no figures"
  detach "$server" "$kind"
  result cell "$1 $figures"
  ! dmesg | grep -E 'I/O error|[Ee]rror on swap' ||
    fail "$1: the kernel saw errors"
}

# nbdkit has 192 MiB of zeros.
echo 1 > /proc/sys/vm/overcommit_memory
make_store
mkdir /store
mount -t tmpfs store /store || fail "tmpfs"
for server in farpage nbdkit-file nbd-server; do
  case "$CELLS " in
    *-"$server "*) start_server $server ;;
  esac
done
last_link=
for cell in $CELLS; do cell "$cell"; done
step "done"
