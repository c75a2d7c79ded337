#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A machine with a server on a disk of its own loses its power.  What the disk
# may hold then is made from the log of its writes and flushes (powercut.c): at
# any moment, of what was not flushed any part.  Each such state opens, is clean
# to `farpage check --data`, and has all that was synced by then; one more is
# booted, goes on and is cut again: of what it leaves the same holds.
#
# FARPAGE_SEED: of all.  FARPAGE_CUTS: states of each of the two logs (25).
# FARPAGE_CUT_SEED: only the state of this seed, of the first log.

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"

# With --on-ask this file is also the host's side of its guest.
if [ "${1-}" = --asked ]; then
  touch "$2"
  kill -KILL "$GUEST_QEMU_PID"
  exit
fi

guest_need nbdkit:nbdkit qemu-system-x86_64:qemu-system-x86
: "${GUEST_PROGRAMS:?this is run by make check}"
: "${FARPAGE_PLUGIN:?}" "${FARPAGE_TOOL:?}" "${GUEST_BUILD:?}"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-cut.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM}
cuts=${FARPAGE_CUTS:-25}
echo "seed $seed (FARPAGE_SEED sets it), $cuts states of each log"
begin_ms=$(guest_now)
GUEST_PROGRAMS+=" $GUEST_BUILD/batches $(command -v nbdkit)"
GUEST_PROGRAMS+=" $FARPAGE_PLUGIN $FARPAGE_TOOL"

# The medium: a partition table in the first MiB, the volume, a MiB for marks.
volume_mib=64
mark_off=$(((1 + volume_mib) << 20))

# word N: 4 bytes, little-endian, for printf %b
word ()
{
  printf '\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) \
    $(($1 >> 24))
}

# partition FIRST COUNT: an entry of a partition table, in sectors
partition ()
{
  printf '%b' '\0\0\0\0\x83\0\0\0' "$(word "$1")" "$(word "$2")"
}

make_medium ()                  # FILE
{
  local sectors=$((volume_mib * 2048))
  "$FARPAGE_TOOL" format "$work/volume" --size ${volume_mib}M --ring 1M \
    --sparse > "$work/out" || guest_fail "format"
  truncate -s $((mark_off + (1 << 20))) "$1" || exit 1
  {
    partition 2048 $sectors
    partition $((2048 + sectors)) 2048
    head -c 32 /dev/zero
    printf '\x55\xaa'
  } | dd of="$1" bs=1 seek=446 conv=notrunc status=none
  dd if="$work/volume" of="$1" bs=1M seek=1 conv=notrunc,sparse status=none
}

# boot MEDIUM LOG FIRST BATCHES: run the guest on a copy of MEDIUM until it is
# cut.
boot ()
{
  local status
  cp --sparse=always "$1" "$work/disk" && : > "$2" || exit 1
  rm -f "$work/cut"
  "$here/run-guest.sh" --mem 400 --timeout $((150 + $4)) --disk "$work/disk,$2" \
    --env FIRST="$3" --env BATCHES="$4" --env SEED="$seed" \
    --cut "$work/cut" --on-ask "$here/test-guest-cut.sh --asked $work/cut" \
    "$here/guest-cut.sh"
  status=$?
  test $status -ne 77 || exit 77
  test $status -eq 3 || guest_fail "a guest ended with status $status"
  rm "$work/disk"
}

# state LOG MEDIUM SEED: $work/state is what is left of MEDIUM, $mark the last
# batch that was synced, before the log began ($booted) or in it.
booted=0
state ()
{
  local text
  cp --sparse=always "$2" "$work/state" || exit 1
  text=$("$GUEST_BUILD/powercut" "$1" "$work/state" $mark_off "$3") ||
    guest_fail "powercut"
  mark=${text##* }
  test "$mark" -ge "$booted" || mark=$booted
  echo "seed $3: $text"
}

# serve PARAMETER...: check the disk of $work/volume by a server with these
# parameters.  Before the first mark there may be no disk.
serve ()
{
  if [ "$mark" -eq 0 ]; then
    timeout 100 nbdkit -U - "$FARPAGE_PLUGIN" "$work/volume" control= \
      staging= sparse=yes "$@" --run 'true'
    return
  fi
  # shellcheck disable=SC2016 # nbdkit sets it
  seed=$seed mark=$mark batches=$GUEST_BUILD/batches timeout 100 \
    nbdkit -U - "$FARPAGE_PLUGIN" "$work/volume" control= staging= sparse=yes \
    "$@" --run '"$batches" check "$unixsocket" disk "$seed" "$mark"'
}

# says COMMAND...: run it; if it fails, show what it printed.
says ()
{
  "$@" > "$work/out" 2>&1 && return
  echo "FAIL (status $?): $*"
  cat "$work/out"
  return 1
}

# try_state: nothing is wrong with $work/state.
cases=0 failed=0
try_state ()
{
  cases=$((cases + 1))
  dd if="$work/state" of="$work/volume" bs=1M skip=1 count=$volume_mib \
    conv=sparse status=none
  {
    says timeout 100 "$FARPAGE_TOOL" check --data --staging "$work" \
      "$work/volume" && says serve readonly=yes && says serve &&
      says timeout 100 "$FARPAGE_TOOL" check --data "$work/volume"
  } || failed=$((failed + 1))
}

# sweep LOG MEDIUM SEED: that many states.
sweep ()
{
  local i
  for ((i = 0; i < cuts; i++)); do
    state "$1" "$2" $(($3 + i))
    try_state
  done
}

make_medium "$work/medium"
boot "$work/medium" "$work/log" 1 "${FARPAGE_BATCHES:-150}"
if [ -n "${FARPAGE_CUT_SEED-}" ]; then
  state "$work/log" "$work/medium" "$FARPAGE_CUT_SEED"
  try_state
  exit $failed
fi
sweep "$work/log" "$work/medium" $((seed * 100000))

mark=0 extra=$((seed * 100000 + 50000))
while [ "$mark" -eq 0 ]; do
  extra=$((extra + 1))
  state "$work/log" "$work/medium" $extra
done
echo "this one is booted"
mv "$work/state" "$work/medium2"
booted=$mark
boot "$work/medium2" "$work/log2" $((mark + 1)) 30
sweep "$work/log2" "$work/medium2" $((seed * 100000 + 60000))
echo "test-guest-cut: $cases cases, $failed failed," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
test $failed -eq 0
