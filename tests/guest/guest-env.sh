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
# makes in a tmpfs too; the script itself stays out of swap.
load ()
{
  sh -c 'echo 0 > /sys/fs/cgroup/cgroup.procs && exec "$@"' load "$@"
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
