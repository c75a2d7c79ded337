# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# What a test script finds in the guest: these functions, the parameters that
# run-guest.sh was given with --env as variables, HOST (the host's loopback)
# and HOST_PORT (the first --host-port).

HOST=10.0.2.2
: "$HOST"

# result KEY VALUE: hand a result to the host.
result ()
{
  printf 'RESULT %s=%s\n' "$1" "$2" >&9
  printf '%s = %s\n' "$1" "$2"
}

# host WORD...: run the host's --on-ask command with these words; print the
# first line it printed and return its status.  The guest waits.
host ()
{
  printf 'ASK %s\n' "$*" >&9
  read -r host_status host_text <&9
  printf '%s\n' "$host_text"
  return "$host_status"
}

# load COMMAND...: run it with pages that may be swapped out, the files it
# makes in a tmpfs too; the script itself stays out of swap.  In the memory
# cgroup LOAD_GROUP, if that is set.
load ()
{
  # shellcheck disable=SC2016 # of the other shell
  sh -c 'echo 0 > "$0" && exec "$@"' \
    "/sys/fs/cgroup/${LOAD_GROUP:+$LOAD_GROUP/}cgroup.procs" "$@"
}

# within SECONDS COMMAND...: wait until it is true.
within ()
{
  within_tries=$(($1 * 10))
  shift
  until "$@"; do
    within_tries=$((within_tries - 1))
    test $within_tries -gt 0 || fail "not in time: $*"
    sleep 0.1
  done
}

wait_for () { within 30 "$@"; }

# nth_file DIR N: $name and $size of its Nth file, in one of five folders.
nth_file ()
{
  name=$1/d$(($2 % 5))/f$2
  case $2 in
    *7) size=$((200000 + $2 * 4099 % 300000)) ;;
    *) size=$(($2 * $2 * 7919 % 40000)) ;;
  esac
  : "$name" "$size"
}

# make_store: a network namespace `store` for servers, with 10.1.0.2 on its
# veth `far`; the other end of that is `near` here, with 10.1.0.1.
make_store ()
{
  modprobe -a veth sch_netem || fail "no veth, or no netem"
  mkdir -p /var && ln -s /run /var/run
  ip netns add store || fail "ip netns"
  ip link add near type veth peer name far netns store || fail "veth"
  ip address add 10.1.0.1/24 dev near
  ip link set near up
  ip -n store address add 10.1.0.2/24 dev far
  ip -n store link set lo up
  ip -n store link set far up
}

# make_nbd_server PORT FILE: nbd-server with FILE as its export `swap`, by
# COMMAND... if there is one.
make_nbd_server ()
{
  printf '[generic]\nport = %s\n[swap]\nexportname = %s\n' "$1" "$2" \
    > /run/nbd-server.conf
  shift 2
  "$@" nbd-server -C /run/nbd-server.conf || fail "nbd-server"
}

# fail TEXT: end the script as failed.
fail ()
{
  printf 'FAIL: %s\n' "$*"
  exit 1
}

# step TEXT: say what comes, with the time since boot.
step ()
{
  read -r step_time _ < /proc/uptime
  printf '[%s] %s\n' "$step_time" "$*"
}

# vmstat_of NAME: one counter of /proc/vmstat.
vmstat_of ()
{
  sed -n "s/^$1 //p" /proc/vmstat
}
