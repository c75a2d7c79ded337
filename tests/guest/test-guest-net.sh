#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Disks and swap over a network that is slow, narrow or loses packets
# (guest-net.sh): what is read is what was written, and the kernel sees no
# error.  How fast that is is printed, for farpage and its peers.
#
# FARPAGE_SEED: of the data.  FARPAGE_CELLS: which cells: `all`, a list of names
# (kind-number-delay-link-server), or those of the short form, of farpage alone.
# FARPAGE_ROUNDS: how often each (1).  FARPAGE_RESULTS: a folder for the cells'
# lines, by commit; rounds that are there are not run again.  net-table.sh makes
# tables and a picture of them.

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

# each_server CELL: servers are in turn in each condition
each_server ()
{
  printf "$1-%s\n" farpage nbdkit-file nbd-server
}

# Swap has one connection, and its number is vm.page-cluster, for which 3 is the
# kernel's default.
all_cells ()
{
  local link
  for link in 0-plain 1-plain 5-plain 20-plain; do
    each_server disk-1-$link
    each_server disk-4-$link
    each_server swap-3-$link
    case $link in
      1-* | 20-*) printf "swap-%d-$link-farpage\n" 0 5 ;;
    esac
  done
  for link in 5-loss0.1 5-loss1 1-100mbit; do
    each_server disk-1-$link
    each_server disk-4-$link
  done
  for link in 0-plain 1-plain 5-plain 20-plain; do
    each_server disk-2-$link
  done
}
short=(disk-4-20-plain-farpage disk-1-1-loss1-farpage swap-3-5-plain-farpage)

guest_need nbdkit:nbdkit fio:fio
: "${GUEST_PROGRAMS:?this is run by make check}"
: "${FARPAGE_PLUGIN:?}" "${FARPAGE_TOOL:?}"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-net.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM} rounds=${FARPAGE_ROUNDS:-1}
case ${FARPAGE_CELLS-} in
  '') cells=("${short[@]}") ;;
  all) mapfile -t cells < <(all_cells) ;;
  *) read -ra cells <<< "$FARPAGE_CELLS" ;;
esac
case ${cells[*]} in
  *-nbd-server*) guest_need nbd-server:nbd-server ;;
esac
echo "seed $seed (FARPAGE_SEED sets it), ${#cells[@]} cells, $rounds rounds"
begin_ms=$(guest_now)

guest_results net
lines=${results:-$work}/lines
touch "$lines"

# round N: the cells that have not been run so often; keep their lines.
round ()
{
  local cell todo=() status
  for cell in "${cells[@]}"; do
    test "$(grep -c "^$cell " "$lines")" -ge "$1" || todo+=("$cell")
  done
  test ${#todo[@]} -gt 0 || return 0
  "$here/run-guest.sh" --root-disk "$work/root" --mem 640 \
    --timeout $((60 + ${#todo[@]} * 60)) --env SEED="$seed" \
    --env CELLS="${todo[*]}" "$here/guest-net.sh" 2> "$work/err" |
    sed -un 's/^RESULT cell=//p' | tee -a "$lines"
  status=${PIPESTATUS[0]}
  test "$status" -eq 0 || cat "$work/err" >&2
  return "$status"
}

server_root "$work" "$(command -v fio)"
for nr in $(seq "$rounds"); do
  round "$nr" || exit
done
echo "test-guest-net: ${#cells[@]} cases," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
