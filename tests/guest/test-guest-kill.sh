#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A guest has ext4 and XFS on a durable store, with a kernel's nbd client that
# connects again.  The server is killed and started again under it: the guest
# sees no error.  Then the guest is killed; then guest and server are, and what
# the server left in memory is lost as well.  After each, the next guest mounts
# (the journals are replayed): every synced file is there, and fsck finds
# nothing; and after all of it so does `farpage check --data`.
#
# FARPAGE_SEED: of the content.  FARPAGE_KILLS: of the server (3).
# FARPAGE_ROUNDS: how often guest, and guest and server, are killed (1).

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

# ---- the host's side of the guests ----

# shellcheck disable=SC2317 # asked for
server_killed ()
{
  lasting_kill
  sleep 0.$((RANDOM % 10))
  lasting_start
}

# soon COMMAND...: after up to a second, in which the guest goes on
soon ()
{
  touch "${guest_cut:?}"
  (
    sleep 0.$((RANDOM % 10))
    "$@"
  ) > /dev/null 2>&1 < /dev/null &
}

# shellcheck disable=SC2317
guest_killed ()
{
  soon kill -KILL "$GUEST_QEMU_PID"
}

# shellcheck disable=SC2317
both_killed ()
{
  soon kill -KILL "$GUEST_QEMU_PID" "$(< "$server_dir/pid")"
}

if [ "${1-}" = --asked ]; then
  "${@:2}"
  exit
fi

# ---- the test ----

guest_need nbdkit:nbdkit qemu-system-x86_64:qemu-system-x86
: "${GUEST_PROGRAMS:?this is run by make check}" "${FARPAGE_TOOL:?}"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-kill.XXXXXX") || exit 1
trap 'lasting_end; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM}
kills=${FARPAGE_KILLS:-3} rounds=${FARPAGE_ROUNDS:-1}
echo "seed $seed (FARPAGE_SEED sets it), server $GUEST_SERVER," \
  "$kills kills, $rounds rounds"
begin_ms=$(guest_now)
GUEST_INITRAMFS=$work/initramfs
# shellcheck disable=SC2086 # a list
"$here/mkinitramfs.sh" "$GUEST_INITRAMFS" $GUEST_PROGRAMS \
  "$FARPAGE_TOOL" || exit
export GUEST_INITRAMFS
export guest_cut=$work/cut
synced_ext4=0 synced_xfs=0 cases=0
# A peer tells no instance.
attach=
test "$GUEST_SERVER" = farpage || attach=--unverified

# synced FS: the last that any guest has told
synced ()
{
  sed -n "s/^RESULT synced_$1=//p" "$work/results" | tail -n 1
}

# boot KILLS CUT: a guest; CUT is asked for at its end ('': none).
boot ()
{
  local status want=0
  test -z "$2" || want=3
  rm -f "$guest_cut"
  # It checks all files that were synced before: half a second each at worst.
  "$here/run-guest.sh" --mem 400 \
    --timeout $((200 + $1 * 40 + (synced_ext4 + synced_xfs) / 2)) \
    --host-port "$server_port" --env KILLS="$1" --env CUT="$2" --env ATTACH=$attach \
    --env SEED="$seed" --env SYNCED_ext4="$synced_ext4" \
    --env SYNCED_xfs="$synced_xfs" --cut "$guest_cut" \
    --on-ask "$here/test-guest-kill.sh --asked" "$here/guest-kill.sh" \
    >> "$work/results"
  status=$?
  test $status -ne 77 || exit 77
  test $status -eq $want || guest_fail "status $status of a guest, not $want"
  synced_ext4=$(synced ext4) synced_xfs=$(synced xfs)
  cases=$((cases + 1))
  echo "synced: ext4 $synced_ext4, xfs $synced_xfs"
}

mkdir "$work/server"
lasting_make "$work/server" 400M disk-ext4 disk-xfs || guest_fail "no server"
boot "$kills" guest_killed
for ((round = 1; round <= rounds; round++)); do
  boot 0 both_killed
  lasting_gone && lasting_forget && lasting_start
  test $round -eq "$rounds" || boot 0 guest_killed
done
boot 0 ''

lasting_kill
if [ "$GUEST_SERVER" = farpage ]; then
  cases=$((cases + 1))
  # shellcheck disable=SC2086 # a list
  "$FARPAGE_TOOL" check --data --staging "$server_staging" \
    $server_volumes || guest_fail "farpage check: status $?"
fi
echo "test-guest-kill: $cases cases," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
