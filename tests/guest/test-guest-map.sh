#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Memory from afar in a guest, whose kernel (6.1) cannot do all that newer ones
# can: the examples sort and table, and who may run them.

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

guest_need nbdkit:nbdkit jq:jq
: "${GUEST_EXAMPLES:?this is run by make check}"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-map.XXXXXX") || exit 1
trap 'server_stop; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

begin_ms=$(guest_now)
for program in sort table; do
  cp "$GUEST_EXAMPLES/$program" "$work/far-$program" || exit 1
done
server_start "$work" 64M
for name in a b; do
  server_create "map-$name" 64M || guest_fail "no export map-$name"
done
GUEST_PROGRAMS="$work/far-sort $work/far-table" \
  "$here/run-guest.sh" --mem 400 --timeout 300 --host-port "$server_port" \
  --env EXPORT=map "$here/guest-map.sh" || exit
server_stop || guest_fail "the server ended with status $?"
echo "test-guest-map: 4 cases," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
