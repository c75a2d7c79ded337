#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Swap on farpage does not freeze a machine that is short of memory: guests that
# want twice the memory that they have, with other load beside it, with a server
# on another machine or on their own, near and far (guest-pressure.sh).  In each
# cell no turn takes longer than 30 s (pressure.c), no task hangs for 30 s, no
# page is wrong, and the kernel has nothing to complain of.  Processes that are
# killed for want of memory are counted.
#
# FARPAGE_SEED: of the data.  FARPAGE_CELLS: which cells: `all`, a list of names
# (memory-kind-place-delay), or those of the short form.  FARPAGE_TIME: seconds
# of pressure in each, or twice as much if that was not enough to use all
# memory.  FARPAGE_RESULTS: a folder for one line of each cell, by commit; cells
# that are there are not run again.  GUEST_SERVER: a peer
# (nbdkit-memory or nbd-server on the host, nbdkit-file or nbd-server in the
# guest): if that freezes, it is a result.  FARPAGE_ARMOUR, FARPAGE_LIMIT:
# armour=, and whether the load has a memory cgroup, where a guest has the server
# itself (both yes, as the manual says).  FARPAGE_TUNE: how the guest is set up
# (`page_cluster=5 zram=96:100`; tune () in guest-pressure.sh).  For that there
# is one more kind, `hot`: memory that is more like a program's (pressure.c).

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

# Memory (512, 256, 192, 128), kind (anon, files, io, fork), place and delay (0,
# 10, 100): 96 cells.  Of these 12, one for each kind k and delay d: memory is
# number (k + d) mod 4, so that each delay has each memory, and places are
# such that each kind and delay has both, and so has each memory but 192 and 128,
# which are too little for a server of their own.  So every other pair of two
# dimensions is in a cell but for four of memory and kind, which are 16 pairs:
# 128-anon, 512-files, 256-io and 192-fork.
all=(
  512-anon-host-0 256-anon-guest-10 192-anon-host-100
  256-files-guest-0 192-files-host-10 128-files-host-100
  192-io-host-0 128-io-host-10 512-io-guest-100
  128-fork-host-0 512-fork-guest-10 256-fork-host-100
)
short=(256-files-guest-0 128-files-host-100)

guest_need nbdkit:nbdkit
: "${GUEST_PROGRAMS:?this is run by make check}" "${GUEST_BUILD:?}"
: "${FARPAGE_PLUGIN:?}" "${FARPAGE_TOOL:?}"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-pressure.XXXXXX") || exit 1
trap 'server_stop; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM} tune=${FARPAGE_TUNE-}
case ${FARPAGE_CELLS-} in
  '') cells=("${short[@]}") time=${FARPAGE_TIME:-20} ;;
  all) cells=("${all[@]}") time=${FARPAGE_TIME:-60} ;;
  *) read -ra cells <<< "$FARPAGE_CELLS" && time=${FARPAGE_TIME:-60} ;;
esac
echo "seed $seed (FARPAGE_SEED sets it), server $GUEST_SERVER," \
  "${#cells[@]} cells of $time s"
begin_ms=$(guest_now)

guest_results "$GUEST_SERVER-$time"

# far_start: the server's port through a relay, half of the delay each way.
far_start ()
{
  local pause
  rm -f "$work/relay.in"
  mkfifo "$work/relay.in" || return
  "${GUEST_RELAY:?}" a tcp:127.0.0.1:0 "tcp:127.0.0.1:$server_port" \
    delay=$((delay * 500)) < "$work/relay.in" > "$work/relay.out" &
  exec 7> "$work/relay.in"      # it ends when this is closed
  for ((pause = 0; pause < 100; pause++)); do
    far_port=$(sed -n 's/^ok a tcp:127.0.0.1://p' "$work/relay.out")
    if [ -n "$far_port" ]; then return; fi
    sleep 0.1
  done
  guest_fail "the relay did not start: $(< "$work/relay.out")"
}

# make_place: the server, or the disk of the guest's own; sets $options.
make_place ()
{
  local size=$((mem * 2))
  options=()
  if [ "$place" = host ]; then
    rm -f "$work/pid"
    server_start "$work" ${size}M
    far_start
    options=(--host-port "$far_port")
    return
  fi
  rm -f "$work/disk"
  if [ "$GUEST_SERVER" = farpage ]; then
    "$FARPAGE_TOOL" format "$work/disk" --size $((size * 5 / 4 + 64))M \
      --sparse > "$work/out" || guest_fail "format"
  else
    truncate -s ${size}M "$work/disk"
  fi
  options=(--disk "$work/disk")
}

# cell NAME: one line; false if it failed.
cell ()
{
  local mem kind place delay status options
  IFS=- read -r mem kind place delay <<< "$1"
  make_place
  "$here/run-guest.sh" --root-disk "$work/root" --mem "$mem" \
    --timeout $((time * 2 + 150)) ${options[@]+"${options[@]}"} \
    --env MEM="$mem" --env KIND="$kind" --env PLACE="$place" \
    --env DELAY="$delay" --env TIME="$time" --env SEED="$seed" \
    --env SERVER="$GUEST_SERVER" --env TUNE="$tune" \
    --env ARMOUR="${FARPAGE_ARMOUR:-yes}" --env LIMIT="${FARPAGE_LIMIT:-yes}" \
    "$here/guest-pressure.sh" > "$work/out" 2> "$work/err"
  status=$?
  exec 7>&-
  server_stop || { echo "the server failed"; status=1; }
  test $status -ne 77 || { cat "$work/err" >&2; exit 77; }
  line=$(grep '^RESULT mem=' "$work/out") || line="RESULT mem=$mem kind=$kind \
server=$place delay_ms=$delay"
  line+=" peer=$GUEST_SERVER tune=${tune// /,} status=$status"
  test $status -ne 0 || return 0
  line+=" why=$(sed -n "s/^guest: \(.*\); the whole console.*/\1/p" \
    "$work/err" | tr ' ' '_')"
  cat "$work/err"
  return 1
}

server_root "$work" "$GUEST_BUILD/pressure"
failed=0 nr=0
for name in "${cells[@]}"; do
  nr=$((nr + 1))
  if [ -n "$results" ] && [ -s "$results/$name" ]; then
    cat "$results/$name"
    continue
  fi
  echo "cell $nr of ${#cells[@]}: $name," \
    "$(guest_seconds $(($(guest_now) - begin_ms))) s"
  good=yes
  cell "$name" || good=no
  echo "$line"
  if [ $good = no ] && [ "$GUEST_SERVER" = farpage ]; then
    failed=$((failed + 1))
  elif [ -n "$results" ]; then
    echo "$line" > "$results/$name"
  fi
done
echo "test-guest-pressure: ${#cells[@]} cases, $failed failed," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
test $failed -eq 0
