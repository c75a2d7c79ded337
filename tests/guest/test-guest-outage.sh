#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Outages with a kernel's nbd driver that `farpage attach --persist` watches, of
# a server with a durable store: whoever uses the device waits at most 3 s
# longer than the outage lasts, and everything is as it was written.  (With
# several connections the driver may wait 30 s for one: told, not held to.)
#
# An outage is WHAT-SECONDS-USE.  WHAT: kill (kill -9, and started again), stop
# (farpage stop, and started again), drop (all packets are dropped), mute (all
# packets, just when the server had taken a request and not replied to it).
# USE: swap, ext4, several (ext4 on a device with 3 connections).
#
# Last, swap on a server without volumes: what was on it is gone with the
# server, and nobody is told otherwise.
#
# FARPAGE_SEED: of the data.  FARPAGE_OUTAGES: `all`, a list, or the short form.

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

short=(stop-3-swap drop-1-swap mute-4-swap kill-1-ext4 drop-5-ext4)
all=(kill-3-several stop-10-several drop-10-several mute-2-swap)
for what in kill stop drop mute; do
  for seconds in 1 3 10 30; do
    all+=("$what-$seconds-swap" "$what-$seconds-ext4")
  done
done

# ---- the host's side of the guest ----

clock_ms () { date +%s%3N; }

# server_away WHAT SECONDS: prints from when to when nobody listened, and how
# long the start took until somebody did, in ms.
# shellcheck disable=SC2317 # asked for
server_away ()
{
  local begin start listens
  begin=$(clock_ms)
  case $1 in
    kill) lasting_kill ;;
    stop) "$FARPAGE_TOOL" stop --socket "$server_dir/control" > /dev/null ;;
  esac || return
  sleep "$2"
  start=$(clock_ms)
  lasting_start || return
  # It writes this as soon as it listens.
  listens=$(stat -c %.3Y "$server_dir/pid") || return
  listens=${listens/./}
  echo "$((listens - begin)) $((listens - start))"
}

# shellcheck disable=SC2317
server_halt ()
{
  kill -STOP "$(< "$server_dir/pid")"
}

# shellcheck disable=SC2317
server_go_on ()
{
  kill -CONT "$(< "$server_dir/pid")"
}

# shellcheck disable=SC2317
volatile_killed ()
{
  server_dir=$volatile_dir server_port=$volatile_port
  server_pool=$volatile_pool
  # So that a request is on its way.
  kill -STOP "$(< "$server_dir/pid")"
  sleep 1
  lasting_kill
  sleep 1
  lasting_start
}

if [ "${1-}" = --asked ]; then
  "${@:2}"
  exit
fi

# ---- the test ----

# Beside the other one; waiting for its swap is over after 10 s.
volatile_start ()
{
  export volatile_pool='mem:200M linger=10'
  local server_dir=$work/volatile server_port='' server_pool=$volatile_pool
  mkdir "$server_dir" || return
  lasting_start || return
  export volatile_dir=$server_dir volatile_port=$server_port
}

volatile_end ()
{
  local server_dir=$work/volatile
  if [ -s "$server_dir/pid" ]; then lasting_kill 2> /dev/null; fi
}

guest_need nbdkit:nbdkit
: "${GUEST_PROGRAMS:?this is run by make check}" "${FARPAGE_TOOL:?}"
: "${GUEST_BUILD:?}"
test "$GUEST_SERVER" = farpage || guest_skip "a peer has no instances"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-outage.XXXXXX") || exit 1
trap 'volatile_end; lasting_end; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM}
case ${FARPAGE_OUTAGES-} in
  '') outages=("${short[@]}") ;;
  all) outages=("${all[@]}") ;;
  *) read -ra outages <<< "$FARPAGE_OUTAGES" ;;
esac
echo "seed $seed (FARPAGE_SEED sets it), ${#outages[@]} outages"
begin_ms=$(guest_now)
mkdir "$work/server"
lasting_make "$work/server" 64M disk disk-several || guest_fail "no server"
volatile_start || guest_fail "no server without volumes"
GUEST_PROGRAMS="$GUEST_PROGRAMS $GUEST_BUILD/outage $FARPAGE_TOOL" \
  "$here/run-guest.sh" --mem 256 --timeout $((150 + ${#outages[@]} * 60)) \
  --host-port "$server_port" --host-port "$volatile_port" \
  --env SEED="$seed" --env OUTAGES="${outages[*]}" \
  --on-ask "$here/test-guest-outage.sh --asked" "$here/guest-outage.sh" || exit
echo "test-guest-outage: $((${#outages[@]} + 1)) cases," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
