#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# `farpage attach` and `farpage detach` with a kernel's nbd driver: as the README
# has it; then swap and disks on a durable store, whose server is killed and
# started again, and comes back without a disk.  (test-guest-outage.sh: how long
# that takes.)
#
# FARPAGE_SEED: of the data.

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

# ---- the host's side of the guest ----

# shellcheck disable=SC2317 # asked for
server_killed ()
{
  lasting_kill
  sleep 3
  lasting_start
}

# shellcheck disable=SC2317
server_resizes ()
{
  "$FARPAGE_TOOL" resize disk "$1" --socket "$server_dir/control"
}

# shellcheck disable=SC2317
write_is_held ()
{
  local pause
  for ((pause = 0; pause < 100; pause++)); do
    if [ -e "$held.held" ]; then return 0; fi
    sleep 0.1
  done
  return 1
}

# shellcheck disable=SC2317
hold_a_write ()
{
  touch "$held"
}

# What has become of it, in a word.
# shellcheck disable=SC2317
let_go ()
{
  local pause
  touch "$held.go"
  for ((pause = 0; pause < 100; pause++)); do
    if cat "$held.done" 2> /dev/null; then return; fi
    sleep 0.1
  done
  return 1
}

# away COMMAND...: while the guest does not see the server.
away ()
{
  local port=$server_port
  lasting_kill
  server_port=$((port + 1))
  lasting_start && "$@" || return
  lasting_kill
  server_port=$port
  lasting_start
}

# shellcheck disable=SC2317
server_grown_while_away ()
{
  away server_resizes "$1"
}

# The disk is smaller, and the server takes fewer connections than the device
# has: a generation of which one connection fails.
# shellcheck disable=SC2317
server_smaller ()
{
  server_filter+=" --filter=limit"
  server_parameters+=" limit=2"
  away server_resizes "$1"
}

# As it was started before.
# shellcheck disable=SC2317
server_again ()
{
  lasting_kill
  lasting_start
}

# The same name, and another disk.
# shellcheck disable=SC2317
make_another ()
{
  "$FARPAGE_TOOL" rm disk --socket "$server_dir/control" &&
    "$FARPAGE_TOOL" create disk 384M --socket "$server_dir/control"
}

# shellcheck disable=SC2317
server_without ()
{
  away make_another
}

if [ "${1-}" = --asked ]; then
  "${@:2}"
  exit
fi

# ---- the test ----

guest_need nbdkit:nbdkit
: "${GUEST_PROGRAMS:?this is run by make check}" "${FARPAGE_TOOL:?}"
: "${GUEST_BUILD:?}"
test "$GUEST_SERVER" = farpage || guest_skip "a peer has no instances"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-attach.XXXXXX") || exit 1
trap 'lasting_end; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM}
echo "seed $seed (FARPAGE_SEED sets it)"
begin_ms=$(guest_now)
# The README's commands, in a smaller machine.
# shellcheck disable=SC2016 # the guest's variables
recipe=$(sed -n '/^## Swap on another machine/,/^## A/s/^    //p' \
  "$here/../../README.md" |
  sed 's|//SERVER|//$HOST:$HOST_PORT|; s/:1G/:256M/; s/ *#.*//')
test "$(wc -l <<< "$recipe")" -eq 3 || guest_fail "the README has: $recipe"
mkdir "$work/server"
export held=$work/held
export server_filter=--filter=$GUEST_BUILD/.libs/hold.so
export server_parameters=hold=$held
lasting_make "$work/server" 256M disk || guest_fail "no server"
GUEST_PROGRAMS="$GUEST_PROGRAMS $FARPAGE_TOOL" \
  "$here/run-guest.sh" --mem 256 --timeout 600 --host-port "$server_port" \
  --env SEED="$seed" --env BYTES=$((180 << 20)) --env RECIPE="$recipe" \
  --on-ask "$here/test-guest-attach.sh --asked" "$here/guest-attach.sh" || exit
echo "test-guest-attach: 18 cases," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
