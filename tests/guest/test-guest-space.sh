#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Space comes back from swap: within 5 s after the end of a process that held
# nine tenths of it the server has in use what is still used, and 5 % at most;
# the rest, pages that are given back at random, is shown (guest-space.sh).  A
# client that is killed, and one that is silent for good, leave nothing.
#
# FARPAGE_SEED: of the data.

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

# shellcheck disable=SC2317 # asked for
guest_killed ()
{
  touch "${guest_cut:?}"
  kill -KILL "$GUEST_QEMU_PID"
}

if [ "${1-}" = --asked ]; then
  "${@:2}"
  exit
fi

guest_need nbdkit:nbdkit jq:jq
: "${GUEST_PROGRAMS:?this is run by make check}" "${GUEST_BUILD:?}"
: "${FARPAGE_TOOL:?}" "${FARPAGE_PLUGIN:?}" "${GUEST_LISTEN:?}"
test "$GUEST_SERVER" = farpage || guest_skip "a peer has no linger"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-space.XXXXXX") || exit 1
trap 'server_stop; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM}
echo "seed $seed (FARPAGE_SEED sets it)"
begin_ms=$(guest_now)
export guest_cut=$work/cut
server_start "$work" 0
before=$(server_mapped) || guest_fail "the server does not tell its space"
needed="$GUEST_PROGRAMS $GUEST_BUILD/holder $FARPAGE_TOOL $FARPAGE_PLUGIN"
GUEST_PROGRAMS="$needed $GUEST_LISTEN $(command -v nbdkit)" \
  "$here/run-guest.sh" --mem 320 --timeout 500 --host-port "$server_port" \
  --env SEED="$seed" --env KEPT=42 --env GONE=450 --cut "$guest_cut" \
  --on-ask "$here/test-guest-space.sh --asked" "$here/guest-space.sh"
status=$?
test $status -ne 77 || exit 77
test $status -eq 3 || guest_fail "status $status of the guest"

# linger is 5 s; the host sees that its client is gone.
for ((tries = 0; tries < 40; tries++)); do
  test "$(server_mapped)" -ne "$before" || break
  sleep 0.5
done
mapped=$(server_mapped)
test "$mapped" -eq "$before" ||
  guest_fail "of a killed client $mapped bytes are left, not $before"
server_stop || guest_fail "the server ended with status $?"
echo "test-guest-space: 4 cases," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
