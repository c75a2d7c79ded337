#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Memory from afar through the relay, with half of the delay each way: a touch
# beside a read by libnbd and the barest userfaultfd loop; orders with and
# without what is read ahead; a reader in order beside others at random; pages
# written for pages changed; and the examples sort and table beside themselves
# on nbdfuse, mapped by mmap, in the same cgroup with the same limit of memory.
# `nbdkit memory` serves all.  All in turn, several rounds, medians.
#
#   bench-map.sh [--quick] [--no-examples] [--markdown FILE] [--plot FILE.svg]
#     BUILD OUT.json
#
# --no-examples leaves sort and table out, which are most of the time; what
# OUT.json has of them is kept.  --quick is for seeing that it works: its
# figures mean nothing.  --markdown writes the tables for docs/bench.md, --plot
# (gnuplot) draws them.  BUILD is the top of a build; - makes both from the
# figures that OUT.json has.
#
# FARPAGE_BENCH_ROUNDS (3), FARPAGE_BENCH_RATE (125000000 bytes a second).
# Goals that are missed are told, and are no failure.
set -eu -o pipefail

quick='' no_examples='' markdown='' plot=''
while [[ ${1-} == --* ]]; do
  case $1 in
    --quick) quick=yes ;;
    --no-examples) no_examples=yes ;;
    --markdown) markdown=${2:?--markdown needs a FILE}; shift ;;
    --plot) plot=${2:?--plot needs a FILE.svg}; shift ;;
    *) echo "bench-map: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
[ $# -eq 2 ] || { echo "bench-map: it takes BUILD OUT.json" >&2; exit 2; }
out=$2
by () { if [ -n "$quick" ]; then echo "$1"; else echo "$2"; fi; }

rounds=${FARPAGE_BENCH_ROUNDS:-$(by 1 3)}
rate=${FARPAGE_BENCH_RATE:-125000000}
budget=$(by 4 16)               # MiB, of the examples
room=12                         # MiB, what a program has beside it
spread=4                        # they use so many budgets
threads=16                      # of table

program=bench-map
# shellcheck source-path=SCRIPTDIR source=far.sh
. "$(dirname "$0")/far.sh"

# ---- a limit of memory

cgroup=''
limit_begin () {
  local bytes=$(((budget + room) << 20))

  if [ -w /sys/fs/cgroup/memory ]; then
    cgroup=/sys/fs/cgroup/memory/farpage-bench.$$
    mkdir "$cgroup" && echo $bytes > "$cgroup/memory.limit_in_bytes"
  elif [ -w /sys/fs/cgroup/cgroup.subtree_control ]; then
    echo +memory > /sys/fs/cgroup/cgroup.subtree_control 2> /dev/null || true
    cgroup=/sys/fs/cgroup/farpage-bench.$$
    mkdir "$cgroup" && echo $bytes > "$cgroup/memory.max" &&
      echo 0 > "$cgroup/memory.swap.max"
  fi 2> /dev/null || {
    [ -z "$cgroup" ] || rmdir "$cgroup"
    cgroup=''
  }
  [ -n "$cgroup" ] || echo "bench-map: no memory cgroup can be made here" \
    "(become root): sort and table are left out" >&2
}

# limited COMMAND...: in it
limited () {
  # shellcheck disable=SC2016 # the inner shell's
  bash -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$cgroup" "$@"
}

# ---- sort and table

# seconds LOG: what the example took, all in all
seconds () { tail -n 1 "$1" | sed -nE 's/^[a-z ]+: ([0-9.]+) s,.*/\1/p'; }

# run_example WHERE: JSON of both programs
run_example () {
  limited "$build/client/examples/sort" "$1" "$budget" "$dir/numbers" \
    "$dir/sorted" 2> "$dir/sort.log" || { cat "$dir/sort.log" >&2; exit 1; }
  cmp -s "$dir/wanted" "$dir/sorted" || {
    echo "bench-map: $1: not sorted" >&2
    exit 1
  }
  blank "$2"
  limited "$build/client/examples/table" "$1" "$budget" \
    $(((budget * spread << 8) * 11)) $threads 2> "$dir/table.log" || {
    cat "$dir/table.log" >&2
    exit 1
  }
  jq -nc --argjson sort "$(seconds "$dir/sort.log")" \
    --argjson table "$(seconds "$dir/table.log")" '{$sort, $table}'
}

# blank NAME: zeros everywhere
blank () { qemu-io -f raw -c 'discard 0 256M' "$(near_uri "$1")" > /dev/null; }

examples () {
  local fuse mount=$dir/mount ours theirs

  [ -n "$cgroup" ] && [ -z "$no_examples" ] || return 0
  ours=$(run_example "$(far_uri swap)" swap)
  blank plain
  mkdir -p "$mount"
  nbdfuse "$mount/disk" "$(far_uri plain)" 2> "$dir/fuse" &
  fuse=$!
  pids+=("$fuse")
  for _ in $(seq 100); do
    [ -e "$mount/disk" ] && break
    sleep 0.1
  done
  theirs=$(run_example "$mount/disk" plain)
  kill "$fuse"                  # which unmounts it
  wait "$fuse" || true
  jq -nc --argjson ours "$ours" --argjson theirs "$theirs" \
    '{figure: "examples", $ours, $theirs}'
}

# ---- all

start () {
  build=$(realpath "$1")
  relay=$build/tests/relay/relay
  need jq nbdkit nbdfuse qemu-io ${plot:+gnuplot}
  far_begin
  far_serve swap memory 256M
  far_serve plain memory 256M
  limit_begin
  head -c $(((budget * spread / 2) << 20)) /dev/urandom > "$dir/numbers"
  "$build/client/examples/sort" "$dir/file" 1024 "$dir/numbers" "$dir/wanted" \
    2> /dev/null
  rm "$dir/file"
}

# figure NAME ARGUMENT...: one line of JSON
figure () {
  "$build/tests/bench/map-bench" "$@" | jq -c --arg figure "$1" \
    --argjson ms "$delay" '{$figure, $ms} + .'
}

one_round () {
  local uri delay

  uri=$(far_uri swap)
  for delay in $(by "1" "0 1 10"); do
    far_delay "$delay"
    figure touch "$uri"
  done
  for delay in $(by "10" "10 20 50"); do
    far_delay "$delay"
    figure fill "$uri" "$delay"
  done
  delay=1
  far_delay 1
  figure patterns "$uri"
  figure written "$uri"
  examples
}

measure () {
  local begin=$SECONDS round

  for round in $(seq "$rounds"); do
    echo "bench-map: round $round of $rounds, $((SECONDS - begin)) s" >&2
    one_round
  done > "$dir/lines"
  [ -z "$cgroup" ] || rmdir "$cgroup"
  mkdir -p "$(dirname "$out")"
  [ -n "$no_examples" ] && [ -s "$out" ] &&
    jq .examples "$out" > "$dir/kept" || echo null > "$dir/kept"
  jq -s --slurpfile kept "$dir/kept" '
  def median: sort | .[(length - 1) / 2 | floor];
  def of($f): map(select(.figure == $f));
  # medians of all numbers in objects of one shape
  def medians: . as $all | .[0] | with_entries(.key as $k |
    if (.value | type) == "object" then .value = ($all | map(.[$k]) | medians)
    elif (.value | type) == "number" then .value = ($all | map(.[$k]) | median)
    else . end);
  {touch: [of("touch") | group_by(.ms)[] | medians],
   fill: [of("fill") | group_by(.ms)[] | map(. + {share: (.beside / .alone)}) |
     medians],
   patterns: (of("patterns") | map(del(.figure, .ms)) | medians),
   written: (of("written") | map(del(.figure, .ms)) | medians),
   examples: (of("examples") | if length == 0 then $kept[0] else
     map({sort: {ours: .ours.sort, theirs: .theirs.sort,
            ratio: (.theirs.sort / .ours.sort)},
          table: {ours: .ours.table, theirs: .theirs.table,
            ratio: (.theirs.table / .ours.table)}}) | medians end)}
  ' "$dir/lines" > "$out"
}

if [ "$1" != - ]; then
  start "$1"
  measure
fi

# ---- tables, and what was to be reached

# shellcheck disable=SC2016 # they are jq's
goals='
  def at_most($what; $is; $goal): {$what, $is, $goal, good: ($is <= $goal)};
  def at_least($what; $is; $goal): {$what, $is, $goal, good: ($is >= $goal)};
  (.touch[] | at_most("a touch at \(.ms) ms, less libnbd, of a bare fault";
    (.touch_us - .libnbd_us) / .bare_us; 1.3)),
  (.fill[] |
    at_least("in order beside random touches at \(.ms) ms, of alone"; .share; 0.7),
    at_most("such a touch at \(.ms) ms, 99 %, us"; .p99_us; .ms * 2000 + 2000)),
  (.patterns | to_entries[] | select(.key != "random") |
    at_least("\(.key), of nothing read ahead"; .value.times; 20)),
  (.patterns.random | at_least("random, of nothing read ahead"; .times; 0.97),
    at_most("random, bytes read in vain"; .extra; 0.05)),
  (.written | to_entries[] |
    at_most("written for a page changed, \(.key)"; .value; 1.05)),
  (.examples // {} | to_entries[] |
    at_least("\(.key), of nbdfuse and mmap"; .value.ratio; 1.25))'
jq -r "$goals | \"\(if .good then \"met   \" else \"MISSED\" end)  \(.what): \(.is * 1000 | round / 1000) (\(.goal))\"" "$out"

tables () {
  jq -r '
    def row: "| " + (map (tostring) | join (" | ")) + " |";
    def r($n): . * pow(10; $n) | round / pow(10; $n);
    "A touch of a page that is not there, us:", "",
    (["round trip", "touch", "libnbd, 4 KiB", "bare fault",
      "bare fault that reads", "touch, less libnbd",
      "bare that reads, less libnbd"] | row), ([range(7) | "---:"] | row),
    (.touch[] | ["\(.ms) ms", (.touch_us | r(0)), (.libnbd_us | r(0)),
      (.bare_us | r(0)), (.bare_far_us | r(0)), (.touch_us - .libnbd_us | r(0)),
      (.bare_far_us - .libnbd_us | r(0))] | row),
    "", "Pages a second at 1 ms:", "",
    (["order", "read ahead", "nothing read ahead", "times", "read in vain"] | row),
    ([range(5) | "---:"] | row),
    (.patterns | to_entries[] | [(.key | gsub("_"; " ")), (.value.pages_per_s | r(0)),
      (.value.without | r(0)), (.value.times | r(1)),
      "\(.value.extra * 100 | r(2)) %"] | row),
    "", "A reader in order, pages a second, and four threads at random beside it:", "",
    (["round trip", "alone", "beside", "share", "a touch, us", "99 %"] | row),
    ([range(6) | "---:"] | row),
    (.fill[] | ["\(.ms) ms", (.alone | r(0)), (.beside | r(0)), (.share | r(2)),
      (.median_us | r(0)), (.p99_us | r(0))] | row),
    (if .examples then "", "The examples at 1 ms, seconds:", "",
      (["program", "farpage_map", "nbdfuse and mmap", "ratio"] | row),
      ([range(4) | "---:"] | row),
      (.examples | to_entries[] | [.key, (.value.ours | r(2)),
        (.value.theirs | r(2)), (.value.ratio | r(2))] | row) else empty end),
    ""' "$out"
  echo '| goal | is | wanted | |'
  echo '|---|---:|---:|---|'
  jq -r "$goals | \"| \(.what | gsub(\"_\"; \" \")) | \(.is * 1000 | round / 1000) | \(.goal) | \(if .good then \"met\" else \"missed\" end) |\"" "$out"
}

draw () {
  jq -r '.patterns | to_entries[] | "\"\(.key | gsub("_"; " "))\" " +
    "\(.value.pages_per_s) \(.value.without)"' "$out" > "$dir/patterns"
  jq -r '.fill[] | "\(.ms) \(.alone) \(.beside)"' "$out" > "$dir/fill"
  gnuplot <<EOF
set terminal svg size 800,700 font "sans,13" background "white"
set output "$dir/plot.svg"
set multiplot layout 2,1
set grid y
set key outside right top width -2
set lmargin 12
set rmargin 24
set ylabel "pages a second"
set title "touches at 1 ms, one thread"
set logscale y
set yrange [100:*]
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8
plot "$dir/patterns" using 2:xtic(1) title "read ahead", \
  "" using 3 title "nothing read ahead"
unset logscale y
set yrange [0:*]
set title "a reader in order"
set xlabel "round trip, ms"
plot "$dir/fill" using 1:2 with linespoints lw 2 title "alone", \
  "" using 1:3 with linespoints lw 2 title "4 others at random"
unset multiplot
EOF
  mv "$dir/plot.svg" "$1"
}

[ -z "$markdown" ] || tables > "$markdown"
[ -z "$plot" ] || draw "$plot"
