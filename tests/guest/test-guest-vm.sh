#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A VM's disk, as the README has it: its commands are run as they stand there,
# but for the server's port and for contrib/quickstart, which is the server's
# start as server.sh has it, on a durable store.  An image goes in, and is the
# same for nbdcopy, qemu-img and nbdinfo.  A guest boots from it; fio finds all
# that it wrote, without an error, while the server is killed under it; fstrim
# gives space back.  The guest is killed and booted again: what was synced is
# there, its disk grows, and the copy of the image that comes out is clean for
# e2fsck, and the store for `farpage check --data`.
#
# FARPAGE_SEED: of the content.  FARPAGE_KILLS: of the server (2).

set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=guest-lib.sh
. "$here/guest-lib.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$here/server.sh"

# ---- the recipe ----

# recipe N: the README's Nth run of commands on a VM's disk, a line each.
recipe ()
{
  sed -n "/^## A VM's disk/,/^## The/p" "$here/../../README.md" |
    awk -v want="$1" '
      /^    / { if (!inside++) n++; if (n == want) print substr ($0, 5); next }
      { inside = 0 }' |
    sed -e ':a' -e '/\\$/{N;s/\\\n *//;ta' -e '}' \
      -e "s/localhost:10809/localhost:$server_port/g"
}

# follow N: run these, each of which must be well.
follow ()
{
  local line lines
  mapfile -t lines < <(recipe "$1")
  test ${#lines[@]} -gt 0 || guest_fail "the README has no commands $1"
  for line in "${lines[@]}"; do
    echo "\$ $line"
    eval "$line" || guest_fail "status $? of the README's: $line"
  done
}

# ---- the host's side of the guests ----

# shellcheck disable=SC2317 # asked for
server_killed ()
{
  lasting_kill
  sleep 0.$((RANDOM % 10))
  lasting_start
}

# After up to a second, in which the guest goes on.
# shellcheck disable=SC2317
guest_killed ()
{
  touch "${guest_cut:?}"
  (
    sleep 0.$((RANDOM % 10))
    kill -KILL "$GUEST_QEMU_PID"
  ) > /dev/null 2>&1 < /dev/null &
}

# shellcheck disable=SC2317
grown ()
{
  cd "$server_dir/.." || exit
  follow 3 >&2
}

# In qemu's monitor: what it has to say against it comes at once.
# shellcheck disable=SC2317
grown_told ()
{
  local line
  line=$(recipe 4)
  echo "$line" >&2
  echo "${line#(qemu) }" > "$guest_monitor.in"
  timeout 1 cat "$guest_monitor.out" >> "$guest_monitor.log"
  ! grep -a Error: "$guest_monitor.log" >&2
}

if [ "${1-}" = --asked ]; then
  "${@:2}"
  exit
fi

# ---- the test ----

guest_need nbdkit:nbdkit qemu-system-x86_64:qemu-system-x86 jq:jq fio:fio \
  nbdcopy:libnbd-bin nbdinfo:libnbd-bin qemu-img:qemu-utils \
  resize2fs:e2fsprogs e2fsck:e2fsprogs
: "${GUEST_PROGRAMS:?this is run by make check}" "${FARPAGE_TOOL:?}"
test "$GUEST_SERVER" = farpage || guest_skip "the recipe is farpage's"
work=$(mktemp -d "${TMPDIR:-/tmp}/test-guest-vm.XXXXXX") || exit 1
trap 'lasting_end; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
seed=${FARPAGE_SEED:-$RANDOM} kills=${FARPAGE_KILLS:-2}
echo "seed $seed (FARPAGE_SEED sets it), $kills kills"
begin_ms=$(guest_now)
cases=0
export guest_cut=$work/cut guest_monitor=$work/monitor

# good WHAT COMMAND...: a case
good ()
{
  cases=$((cases + 1))
  "${@:2}" > "$work/out" 2>&1 ||
    guest_fail "$1: status $?: $(tail -n 20 "$work/out")"
}

# same WHAT HAVE WANT
same ()
{
  good "$1: '$2', not '$3'" test "$2" = "$3"
}

# As contrib/quickstart leaves it.
make_folder ()
{
  mkdir -p "$work"/{server,contrib,farpage-data,build-quickstart/client/tool}
  ln -s "$FARPAGE_TOOL" "$work/build-quickstart/client/tool/farpage"
  ln -s "$work/server/control" "$work/farpage-data/control.sock"
  printf '#!/bin/sh\nexec "%s" --asked lasting_start\n' \
    "$here/test-guest-vm.sh" > "$work/contrib/quickstart"
  chmod +x "$work/contrib/quickstart"
  mkfifo "$guest_monitor.in" "$guest_monitor.out"
}

# Where there is data, by qemu-img and by nbdinfo: start and end of each run.
data_of ()
{
  case $1 in
    qemu-img)
      qemu-img map -f raw --output=json "$2" |
        jq -r '.[] | select (.data) | "\(.start) \(.start + .length)"'
      ;;
    nbdinfo)
      nbdinfo --map --json "$2" |
        jq -r '.[] | select (.type % 2 == 0) |
          "\(.offset) \(.offset + .length)"'
      ;;
  esac | awk 'NR == 1 || $1 != end { if (NR > 1) print start, end; start = $1 }
    { end = $2 } END { print start, end }'
}

# The image is the disk, for all that look.
looks ()
{
  local bytes
  nbdcopy "$uri" "$work/out.raw" || guest_fail "nbdcopy out"
  good 'nbdcopy in and out' cmp "$work/image.raw" "$work/out.raw"
  rm "$work/out.raw"
  good 'qemu-img compare' qemu-img compare -f raw -F raw "$work/image.raw" \
    "$uri"
  data_of qemu-img "$uri" > "$work/map-qemu"
  data_of nbdinfo "$uri" > "$work/map-nbd"
  good 'the maps' diff "$work/map-qemu" "$work/map-nbd"
  bytes=$(awk '{ sum += $2 - $1 } END { print sum }' "$work/map-nbd")
  same 'data in the map' "$bytes" "$(farpage stat vm1 --json |
    jq '.objects[0].mapped_bytes')"
  good "$bytes bytes are not all" test "$bytes" -lt $((256 << 20))
}

# last KEY: of the guests' results
last ()
{
  sed -n "s/^RESULT $1=//p" "$work/results" | tail -n 1
}

# boot STATUS SYNCED
boot ()
{
  local status words
  rm -f "$guest_cut"
  mapfile -t words < <(recipe 2)
  eval "${words[0]}; words=(${words[1]})"
  # What is left when all before -drive is: our own.
  while [ ${#words[@]} -gt 2 ] && [ "${words[0]}" != -drive ]; do
    words=("${words[@]:1}")
  done
  "$here/run-guest.sh" --mem 400 --timeout $((150 + kills * 40)) \
    --root-drive "${words[1]-}" --monitor "$guest_monitor" \
    --host-port "$server_port" --env KILLS="$kills" --env SEED="$seed" \
    --env SYNCED="$2" --cut "$guest_cut" \
    --on-ask "$here/test-guest-vm.sh --asked" "$here/guest-vm.sh" \
    >> "$work/results"
  status=$?
  test $status -ne 77 || exit 77
  same 'status of a guest' $status "$1"
}

make_folder
GUEST_INITRAMFS=$work/initramfs
export GUEST_INITRAMFS
# shellcheck disable=SC2086 # a list
"$here/mkinitramfs.sh" --root-disk "$work/image.raw" "$GUEST_INITRAMFS" \
  $GUEST_PROGRAMS "$(command -v fio)" "$(command -v resize2fs)" || exit
truncate -s 1G "$work/image.raw"
lasting_make "$work/server" 0 || guest_fail "no server"
export server_sock=$server_dir/control server_samples=$work/samples
uri=nbd://localhost:$server_port/vm1

cd "$work" || exit
follow 1
looks
boot 3 0
good 'fio, with the server killed' test "$(last fios)" -ge 1
freed=$(($(server_mapped_at full) - $(server_mapped_at trimmed)))
echo "synced $(last synced), fio $(last fios) times, fstrim freed $freed"
good "fstrim freed $freed" test $freed -ge $((12 << 20))
boot 0 "$(last synced)"
same 'the disk that grew' "$(last disk_bytes)" $((2 << 30))
good 'its file system' test "$(last free_mb)" -gt 1024

follow 5
good 'the copy of the disk' qemu-img compare -f raw -F raw copy.raw "$uri"
same 'its size' "$(stat -c %s copy.raw)" $((2 << 30))
good 'e2fsck' e2fsck -fn copy.raw
lasting_kill
# shellcheck disable=SC2086 # a list
good 'farpage check' farpage check --data --staging "$server_staging" \
  $server_volumes
echo "test-guest-vm: $cases cases," \
  "$(guest_seconds $(($(guest_now) - begin_ms))) s"
