# SPDX-License-Identifier: BSD-2-Clause
# What all figures share.  Sourced; the caller has `set -eu`, and $program for
# what is told.
#
#   $dir     a folder of its own
#   dirs     these go at the end, $dir is among them
#   pids     so do these processes

dir=$(mktemp -d "${TMPDIR:-/tmp}/farpage-bench.XXXXXX")
dirs=("$dir")
pids=()

cleanup () {
  for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done
  wait
  rm -rf "${dirs[@]}"
}
trap cleanup EXIT

# wait_for SOCKET
wait_for () {
  for _ in $(seq 100); do
    [ -S "$1" ] && return
    sleep 0.1
  done
  # shellcheck disable=SC2154 # the caller's
  echo "$program: $1 did not come" >&2
  exit 1
}

# need PROGRAM...: or nothing can be measured here
need () {
  local tool

  for tool in "$@"; do
    command -v "$tool" > /dev/null || {
      echo "$program: $tool is missing (apt-get install fio jq nbdkit" \
        "gnuplot-nox libnbd-bin qemu-utils)" >&2
      exit 77
    }
  done
}
