#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Pages over a slow network: `farpage bench` through the relay, with half of the
# delay each way and one rate for all connections, beside fio's nbd engine with
# 16 requests under way on one and on eight connections.  The server is `nbdkit
# memory`.  All peers in turn at each delay, several rounds, medians.
#
#   bench-net.sh [--quick] [--markdown FILE] [--plot FILE.svg]
#     FARPAGE RELAY OUT.json
#
# --quick is for seeing that it works: its figures mean nothing.  --markdown
# writes the tables for docs/bench.md, --plot (gnuplot) draws them.  Without
# FARPAGE and RELAY both are made from the figures that OUT.json has.
#
# FARPAGE_BENCH_ROUNDS (3), FARPAGE_BENCH_SECONDS (3) for each figure,
# FARPAGE_BENCH_DELAYS ("0 10 20 50", milliseconds there and back),
# FARPAGE_BENCH_RATE (125000000 bytes a second).
# Goals that are missed are told, and are no failure.
set -eu -o pipefail

quick='' markdown='' plot=''
while [[ ${1-} == --* ]]; do
  case $1 in
    --quick) quick=yes ;;
    --markdown) markdown=${2:?--markdown needs a FILE}; shift ;;
    --plot) plot=${2:?--plot needs a FILE.svg}; shift ;;
    *) echo "bench-net: unknown option $1" >&2; exit 2 ;;
  esac
  shift
done
case $# in
  1) farpage='' relay='' out=$1 ;;
  3) farpage=$(realpath "$1") relay=$(realpath "$2") out=$3 ;;
  *) echo "bench-net: it takes FARPAGE RELAY OUT.json" >&2; exit 2 ;;
esac
by () { if [ -n "$quick" ]; then echo "$1"; else echo "$2"; fi; }

rounds=${FARPAGE_BENCH_ROUNDS:-$(by 1 3)}
seconds=${FARPAGE_BENCH_SECONDS:-$(by 0.3 3)}
read -ra delays <<< "${FARPAGE_BENCH_DELAYS:-$(by "0 10" "0 10 20 50")}"
rate=${FARPAGE_BENCH_RATE:-125000000}
fio_seconds=$(awk -v s="$seconds" 'BEGIN { print s < 1 ? 1 : int (s + 0.5) }')
asyncs=$(by 4,follow 1,2,4,8,16,32,64,follow)

program=bench-net
# shellcheck source-path=SCRIPTDIR source=far.sh
. "$(dirname "$0")/far.sh"
need fio jq nbdkit ${plot:+gnuplot}

start () {
  far_begin
  far_serve memory memory 1G
  uri=$(far_uri memory)
}

# ours DELAY: one line of JSON on stdout
ours () {
  "$farpage" bench "$uri" --takeover --seconds "$seconds" --cluster 16 \
    --async "$asyncs" --json 2> "$dir/err" | jq -c --argjson delay "$1" '
    .clusters[0] | {peer: "farpage", delay: $delay,
      write: .put.bytes_per_s, read: .get.bytes_per_s,
      random: .put_random.bytes_per_s,
      pages_a_write: .put_random.pages_per_request,
      moved: .put_random.moved_per_byte,
      trip_p99_us: .trip.p99_us, beside_p99_us: .trip_beside_puts.p99_us,
      by_async: .put_by_async}' || {
    cat "$dir/err" >&2
    exit 1
  }
}

# theirs DELAY CONNECTIONS: the same
theirs () {
  local rw rates=()

  for rw in write read; do
    fio --name=x --ioengine=nbd --uri="$uri" --rw=$rw --bs=64k --iodepth=16 \
      --numjobs="$2" --size=64m --offset_increment=64m --time_based \
      --runtime="$fio_seconds" --group_reporting --output-format=json \
      --output="$dir/fio.json" > /dev/null 2>&1
    rates+=("$(jq ".jobs[0].$rw.bw_bytes" "$dir/fio.json")")
  done
  jq -nc --argjson delay "$1" --arg peer "libnbd $2 x 16" \
    --argjson write "${rates[0]}" --argjson read "${rates[1]}" \
    '{peer: $peer, delay: $delay, write: $write, read: $read}'
}

measure () {
  local total n=0 begin=$SECONDS round delay

  total=$((rounds * ${#delays[@]}))
  for round in $(seq "$rounds"); do
    for delay in "${delays[@]}"; do
      echo "bench-net: round $round of $rounds, $delay ms, $n of $total done," \
        "$((SECONDS - begin)) s" >&2
      far_delay "$delay"
      ours "$delay"
      theirs "$delay" 1
      theirs "$delay" 8
      n=$((n + 1))
    done
  done > "$dir/lines"

  mkdir -p "$(dirname "$out")"
  jq -s '
  def median: sort | if length == 0 then null else .[(length - 1) / 2 | floor] end;
  [group_by([.peer, .delay])[] | {peer: .[0].peer, delay_ms: .[0].delay,
    write: (map(.write) | median), write_range: (map(.write) | [min, max]),
    read: (map(.read) | median), read_range: (map(.read) | [min, max])} +
    (if .[0].random then {random: (map(.random) | median),
      pages_a_write: (map(.pages_a_write) | median),
      moved: (map(.moved) | median),
      trip_p99_us: (map(.trip_p99_us) | median),
      beside_p99_us: (map(.beside_p99_us) | median),
      by_async: [(map(.by_async) | transpose[]) |
        {async: .[0].async, bytes_per_s: (map(.bytes_per_s) | median)}]}
     else {} end)]' "$dir/lines" > "$out"
}

if [ -n "$farpage" ]; then
  start
  measure
fi

# ---- a table, and what was to be reached

jq -r '
  def mb: . / 1e6 | round;
  (["PEER", "MS", "PUT MB/s", "GET MB/s", "RANDOM", "PAGES/WRITE", "99TH US",
    "BESIDE PUTS"] | @tsv),
  (sort_by(.delay_ms, .peer)[] | [.peer, .delay_ms, (.write | mb), (.read | mb),
    (if .random then (.random | mb) else "" end),
    (if .random then (.pages_a_write * 10 | round / 10) else "" end),
    (if .random then (.trip_p99_us | round) else "" end),
    (if .random then (.beside_p99_us | round) else "" end)] | @tsv)' "$out" |
  column -t -s "$(printf '\t')"

goals='
  def of($d): map(select(.peer == "farpage" and .delay_ms == $d))[0];
  of(0) as $zero |
  ({"10": 0.9, "20": 0.85, "50": 0.75} | to_entries[]) as $g |
  of($g.key | tonumber) as $far | select($zero != null and $far != null) |
  (["write", "read"][] | {what: "\(.) at \($g.key) ms, of 0 ms",
    is: ($far[.] / $zero[.]), goal: $g.value, good: ($far[.] / $zero[.] >= $g.value)}),
  {what: "demand beside puts at \($g.key) ms, us", is: $far.beside_p99_us,
    goal: (($g.key | tonumber) * 2000 + 2000),
    good: ($far.beside_p99_us <= ($g.key | tonumber) * 2000 + 2000)},
  {what: "pages a random write at \($g.key) ms", is: $far.pages_a_write, goal: 8,
    good: ($far.pages_a_write >= 8)},
  {what: "pages written for one put at random at \($g.key) ms", is: $far.moved,
    goal: 1.05, good: ($far.moved <= 1.05)}'
jq -r "$goals | \"\(if .good then \"met   \" else \"MISSED\" end)  \(.what): \(.is * 1000 | round / 1000) (\(.goal))\"" "$out"

# ---- for docs/bench.md

tables () {
  jq -r '
    def mb: . / 1e6 | round;
    def row: "| " + (map (tostring) | join (" | ")) + " |";
    def of($d; $p): map(select(.delay_ms == $d and .peer == $p))[0];
    . as $all | (map(.delay_ms) | unique) as $delays |
    (map(select(.peer != "farpage").peer) | unique) as $peers |
    "MB/s; of `farpage` also its share of what it makes at \($delays[0]) ms:", "",
    (["round trip", "put: farpage", "share", ($peers[]),
      "get: farpage", "share", ($peers[])] | row),
    ([range(5 + 2 * ($peers | length)) | "---:"] | row),
    ($delays[] as $d | ($all | of($d; "farpage")) as $f |
      ($all | of($delays[0]; "farpage")) as $zero |
      ["\($d) ms"] +
      (["write", "read"] | map(. as $w | [($f[$w] | mb),
        ($f[$w] / $zero[$w] * 100 | round / 100),
        ($peers[] as $p | $all | of($d; $p)[$w] | mb)]) | add) | row),
    "", "Of `farpage` alone:", "",
    (["round trip", "random puts, MB/s", "pages a write", "written for one put",
      "a page, 99 %, us", "the same beside puts"] | row),
    ([range(6) | "---:"] | row),
    ($delays[] as $d | $all | of($d; "farpage") |
      ["\($d) ms", (.random | mb), (.pages_a_write * 10 | round / 10),
       (.moved * 1000 | round / 1000), (.trip_p99_us | round), (.beside_p99_us | round)] | row),
    "", "Puts, MB/s, with so many clusters under way, and with a number that follows:", "",
    (["round trip", ($all | of($delays[0]; "farpage").by_async[].async)] | row),
    (["---:", ($all | of($delays[0]; "farpage").by_async[] | "---:")] | row),
    ($delays[] as $d | ["\($d) ms",
      ($all | of($d; "farpage").by_async[].bytes_per_s | mb)] | row),
    ""' "$out"
  echo '| goal | is | wanted | |'
  echo '|---|---:|---:|---|'
  jq -r "$goals | \"| \(.what) | \(.is * 1000 | round / 1000) | \(.goal) | \(if .good then \"met\" else \"missed\" end) |\"" "$out"
}

# lines KEY: delay and MB/s of each peer, a block each
lines () {
  jq -r --arg key "$1" 'group_by(.peer)[] | "\"\(.[0].peer)\"",
    (sort_by(.delay_ms)[] | "\(.delay_ms) \(.[$key] / 1e6)"), "", ""' "$out"
}

# sweep: place and MB/s by limit, a block each delay
sweep () {
  jq -r 'map(select(.by_async)) | sort_by(.delay_ms)[] | "\"\(.delay_ms) ms\"",
    (.by_async | to_entries[] | "\(.key) \(.value.bytes_per_s / 1e6)"), "", ""' \
    "$out"
}

draw () {
  local nr places

  nr=$(jq 'map(.peer) | unique | length' "$out")
  places=$(jq -r 'map(select(.by_async))[0].by_async | to_entries |
    map("\"\(.value.async)\" \(.key)") | join(", ")' "$out")
  lines write > "$dir/write"
  lines read > "$dir/read"
  sweep > "$dir/sweep"
  gnuplot <<EOF
set terminal svg size 800,1000 font "sans,13" background "white"
set output "$dir/plot.svg"
set multiplot layout 3,1
set grid
set yrange [0:*]
set key outside right top width -2
set lmargin 9
set rmargin 22
set ylabel "MB/s"
set xlabel "round trip, ms"
set title "puts in order"
plot for [i = 0:$((nr - 1))] "$dir/write" index i \
  with linespoints lw 2 title columnheader(1)
set title "gets in order"
plot for [i = 0:$((nr - 1))] "$dir/read" index i \
  with linespoints lw 2 title columnheader(1)
set title "farpage: puts, by clusters under way"
set xlabel "clusters of 64 KiB"
set xtics ($places)
plot for [i = 0:$((${#delays[@]} - 1))] "$dir/sweep" index i \
  with linespoints lw 2 title columnheader(1)
unset multiplot
EOF
  mv "$dir/plot.svg" "$1"
}

read -ra delays <<< "$(jq -r 'map(.delay_ms) | unique | join(" ")' "$out")"
[ -z "$markdown" ] || tables > "$markdown"
[ -z "$plot" ] || draw "$plot"
