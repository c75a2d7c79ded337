#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A guest of 400 MiB keeps 450 MiB in a tmpfs, with swap on the server: what
# comes back is what was written, and the server has its space again, nearly
# all at swapoff (swapon -d), all of it after the disconnect.
#
# FARPAGE_SEED: of the data.

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

# With --on-ask this file is also the host's side of its guest.
if [ "${1-}" = --asked ]; then
  "${@:2}"
  exit
fi

guest_need nbdkit:nbdkit jq:jq
: "${GUEST_PROGRAMS:?this is run by make check}"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-swap.XXXXXX") || exit 1
trap 'server_stop; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM}
echo "seed $seed (FARPAGE_SEED sets it), server $GUEST_SERVER"

begin_ms=$(guest_now)
server_start "$work" 512M
server_sample before
"$here/run-guest.sh" --mem 400 --timeout 400 --host-port "$server_port" \
  --env EXPORT=swap/guest1:512M --env BYTES=$((450 << 20)) \
  --env SEED="$seed" --on-ask "$here/test-guest-swap.sh --asked" \
  "$here/guest-swap.sh" || exit

before=$(server_mapped_at before) peak=$(server_mapped_at written read1 read2)
left=$(($(server_mapped_at swapoff) - before))
echo "mapped: peak $peak, after swapoff $left more than before"
test "$peak" -ge $((50 << 20)) ||
  guest_fail "at most $peak bytes were mapped: what held 450 MiB?"
test $((left * 100)) -le "$peak" ||
  guest_fail "after swapoff $left bytes are mapped, over 1 % of $peak"
# A swap export's object ends 5 s (linger) after its last connection.
if [ "$GUEST_SERVER" = farpage ]; then
  for ((tries = 0; tries < 30; tries++)); do
    test "$(server_mapped)" -ne "$before" || break
    sleep 0.5
  done
  server_sample after
  test "$(server_mapped_at after)" -eq "$before" ||
    guest_fail "mapped is not what it was before the guest ($before)"
fi
server_stop || guest_fail "the server ended with status $?"
echo "test-guest-swap: 1 case," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
