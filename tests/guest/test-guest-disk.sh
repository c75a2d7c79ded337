#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A guest has ext4 and XFS on named exports, each over 2 connections: files are
# what was written, file systems are clean, fstrim frees the server's space.
#
# FARPAGE_SEED: of the files' content.

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
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-disk.XXXXXX") || exit 1
trap 'server_stop; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM}
echo "seed $seed (FARPAGE_SEED sets it), server $GUEST_SERVER"

begin_ms=$(guest_now)
server_start "$work" 2G
for fs in ext4 xfs; do
  server_create "disk-$fs" 2G || guest_fail "no export disk-$fs"
done
"$here/run-guest.sh" --mem 400 --timeout 400 --host-port "$server_port" \
  --env EXPORT=disk --env SEED="$seed" \
  --on-ask "$here/test-guest-disk.sh --asked" "$here/guest-disk.sh" |
  tee "$work/results"
status=$?
test $status -eq 0 || exit $status

for fs in ext4 xfs; do
  deleted=$(sed -n "s/^RESULT deleted_$fs=//p" "$work/results")
  test -n "$deleted" || guest_fail "$fs: how much was deleted?"
  freed=$(($(server_mapped_at $fs-removed) - $(server_mapped_at $fs-trimmed)))
  echo "$fs: deleted $deleted, fstrim freed $freed"
  test $((freed * 2)) -ge "$deleted" ||
    guest_fail "$fs: fstrim freed less than half of what was deleted"
done
server_stop || guest_fail "the server ended with status $?"
echo "test-guest-disk: 2 cases," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
