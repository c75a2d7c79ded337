# SPDX-License-Identifier: BSD-2-Clause
# What the figures over a slow network share: servers, and the relay before
# them, with what bench.sh has.  Sourced; the caller calls `far_begin` when it
# knows $relay and $rate.
#
#   far_serve NAME ARGUMENT...   nbdkit ARGUMENT..., near at near_uri NAME and
#                                through the relay at far_uri NAME
#   far_delay MILLISECONDS       there and back, of all

# shellcheck source-path=SCRIPTDIR source=bench.sh
. "$(dirname "${BASH_SOURCE[0]}")/bench.sh"
names=()

far_begin () {
  mkfifo "$dir/script"
  # shellcheck disable=SC2154 # the caller's
  "$relay" --realtime < "$dir/script" > "$dir/relay.out" &
  pids+=($!)
  exec 3> "$dir/script"
}

near_uri () { echo "nbd+unix:///?socket=$dir/near.$1"; }
far_uri () { echo "nbd+unix:///?socket=$dir/far.$1"; }

far_serve () {
  local name=$1

  shift
  nbdkit -f -t 16 -U "$dir/near.$name" "$@" &
  pids+=($!)
  wait_for "$dir/near.$name"
  # shellcheck disable=SC2154 # the caller's
  echo "listen $name unix:$dir/far.$name unix:$dir/near.$name rate=$rate" >&3
  wait_for "$dir/far.$name"
  names+=("$name")
}

far_delay () {
  local name

  for name in "${names[@]}"; do
    echo "set $name delay=$(($1 * 500))" >&3
  done
  sleep 0.2
}
