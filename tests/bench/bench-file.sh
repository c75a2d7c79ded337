#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# An export read as a file over a slow network: `farpage bench-file` through the
# relay, with half of the delay each way.  In order; all data of 1 TiB in which
# there is 1 GiB, beside 1 GiB without holes; and, near, pages that are in the
# cache beside the same reads of an nbdfuse mount.  `nbdkit memory` serves all.
# All in turn at each delay, several rounds, medians.
#
#   bench-file.sh [--quick] [--markdown FILE] FARPAGE RELAY OUT.json
#
# --quick is for seeing that it works: its figures mean nothing.  --markdown
# writes the tables for docs/bench.md.
#
# FARPAGE_BENCH_ROUNDS (3), FARPAGE_BENCH_SECONDS (5) for each figure,
# FARPAGE_BENCH_DELAYS ("0 10 20 50", milliseconds there and back),
# FARPAGE_BENCH_RATE (125000000 bytes a second).
# Goals that are missed are told, and are no failure.
set -eu -o pipefail

quick='' markdown=''
while [[ ${1-} == --* ]]; do
  case $1 in
    --quick) quick=yes ;;
    --markdown) markdown=${2:?--markdown needs a FILE}; shift ;;
    *) echo "bench-file: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
[ $# -eq 3 ] || {
  echo "bench-file: it takes FARPAGE RELAY OUT.json" >&2
  exit 2
}
farpage=$(realpath "$1") relay=$(realpath "$2") out=$3
by () { if [ -n "$quick" ]; then echo "$1"; else echo "$2"; fi; }

rounds=${FARPAGE_BENCH_ROUNDS:-$(by 1 3)}
seconds=${FARPAGE_BENCH_SECONDS:-$(by 0.5 5)}
read -ra delays <<< "${FARPAGE_BENCH_DELAYS:-$(by "0 10" "0 10 20 50")}"
rate=${FARPAGE_BENCH_RATE:-125000000}
parts=16                        # of the data, this many MiB each
part=$(by 16 64)

program=bench-file
# shellcheck source-path=SCRIPTDIR source=far.sh
. "$(dirname "$0")/far.sh"
need fio jq nbdkit nbdfuse qemu-io

# fill NAME BYTES-APART: parts of data
fill () {
  local i commands=()

  for i in $(seq 0 $((parts - 1))); do
    commands+=(-c "write -q -P $((i + 1)) $((i * $2)) ${part}M")
  done
  qemu-io -f raw "${commands[@]}" "$(near_uri "$1")"
}

start () {
  far_begin
  far_serve whole memory "$((parts * part))M"
  far_serve sparse memory 1T
  far_serve span memory 512M
  fill whole $((part << 20))
  fill sparse $((1 << 36))
  qemu-io -f raw -c 'write -q -P 77 0 512M' "$(near_uri span)"
}

# read_file URI OPTION...: the figures, as JSON
read_file () {
  "$farpage" bench-file "$@" --json 2> "$dir/err" || {
    cat "$dir/err" >&2
    exit 1
  }
}

# data NAME: seconds that all of its data took
data () {
  read_file "$(far_uri "$1")" --span 128M --seconds 0.05 --data |
    jq .data_seconds
}

# far DELAY: one line of JSON on stdout
far () {
  local in_order

  in_order=$(read_file "$(far_uri span)" --seconds "$seconds")
  jq -c --argjson delay "$1" --argjson whole "$(data whole)" \
    --argjson sparse "$(data sparse)" '
    {delay: $delay, read: .in_order_bytes_per_s, median_us, p99_us,
     whole_s: $whole, sparse_s: $sparse}' <<< "$in_order"
}

# Both read 16 MiB again and again, 4 KiB at a time.
near () {
  local ours theirs fuse mount=$dir/mount

  ours=$(read_file "$(near_uri span)" --seconds "$seconds" |
    jq .cached_bytes_per_s)
  mkdir -p "$mount"
  nbdfuse "$mount/disk" "$(near_uri span)" 2> "$dir/fuse" &
  fuse=$!
  pids+=("$fuse")
  for _ in $(seq 100); do
    [ -e "$mount/disk" ] && break
    sleep 0.1
  done
  fio --name=x --filename="$mount/disk" --ioengine=psync --rw=randread --bs=4k \
    --size=16m --time_based --runtime="$(by 1 "$seconds")" \
    --output-format=json --output="$dir/fio.json" > /dev/null
  theirs=$(jq '.jobs[0].read.bw_bytes' "$dir/fio.json")
  kill "$fuse"                  # which unmounts it
  wait "$fuse" || true
  jq -nc --argjson ours "$ours" --argjson theirs "$theirs" \
    '{cached: $ours, nbdfuse: $theirs}'
}

measure () {
  local total n=0 begin=$SECONDS round delay

  total=$((rounds * (${#delays[@]} + 1)))
  for round in $(seq "$rounds"); do
    for delay in "${delays[@]}"; do
      echo "bench-file: round $round of $rounds, $delay ms, $n of $total done," \
        "$((SECONDS - begin)) s" >&2
      far_delay "$delay"
      far "$delay"
      n=$((n + 1))
    done
    near
    n=$((n + 1))
  done > "$dir/lines"
  mkdir -p "$(dirname "$out")"
  jq -s '
  def median: sort | .[(length - 1) / 2 | floor];
  {far: [map(select(.read)) | group_by(.delay)[] | {delay_ms: .[0].delay,
     read: (map(.read) | median), read_range: (map(.read) | [min, max]),
     median_us: (map(.median_us) | median), p99_us: (map(.p99_us) | median),
     whole_s: (map(.whole_s) | median), sparse_s: (map(.sparse_s) | median),
     sparse: (map(.sparse_s / .whole_s) | median)}],
   near: (map(select(.cached)) | {cached: (map(.cached) | median),
     nbdfuse: (map(.nbdfuse) | median),
     ratio: (map(.cached / .nbdfuse) | median)})}' "$dir/lines" > "$out"
}

start
measure

# ---- a table, and what was to be reached

# shellcheck disable=SC2016 # they are jq's
goals='
  .far[0] as $zero |
  ({"10": 0.9, "20": 0.85, "50": 0.75} as $wanted | .far[] |
    select($wanted[.delay_ms | tostring]) | $wanted[.delay_ms | tostring] as $goal |
    {what: "read in order at \(.delay_ms) ms, of 0 ms", is: (.read / $zero.read),
     goal: $goal, good: (.read / $zero.read >= $goal)}),
  (.far[] | {what: "all data of 1 TiB at \(.delay_ms) ms, of a whole file",
    is: .sparse, goal: 1.2, good: (.sparse <= 1.2)}),
  (.near | {what: "pages in the cache, of nbdfuse", is: .ratio, goal: 5,
    good: (.ratio >= 5)})'
jq -r "$goals | \"\(if .good then \"met   \" else \"MISSED\" end)  \(.what): \(.is * 1000 | round / 1000) (\(.goal))\"" "$out"

tables () {
  jq -r '
    def row: "| " + (map (tostring) | join (" | ")) + " |";
    .far[0] as $zero |
    (["round trip", "in order, MB/s", "share", "a page, us", "99 %",
      "1 GiB, s", "1 TiB with as much, s", "ratio"] | row),
    ([range(8) | "---:"] | row),
    (.far[] | ["\(.delay_ms) ms", (.read / 1e6 | round),
      (.read / $zero.read * 100 | round / 100), (.median_us | round),
      (.p99_us | round), (.whole_s * 100 | round / 100),
      (.sparse_s * 100 | round / 100), (.sparse * 100 | round / 100)] | row),
    "", "Pages in the cache, MB/s: \(.near.cached / 1e6 | round); the same reads of nbdfuse: \(.near.nbdfuse / 1e6 | round).",
    ""' "$out"
  echo '| goal | is | wanted | |'
  echo '|---|---:|---:|---|'
  jq -r "$goals | \"| \(.what) | \(.is * 1000 | round / 1000) | \(.goal) | \(if .good then \"met\" else \"missed\" end) |\"" "$out"
}

[ -z "$markdown" ] || tables > "$markdown"
