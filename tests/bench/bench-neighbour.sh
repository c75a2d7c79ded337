#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What a client has to wait for a page, alone and beside one that writes all it
# can to another disk of the same server: 4 KiB at random, one at a time, beside
# 128 KiB at random, 32 at a time.  fio's nbd engine over Unix sockets; servers
# in turn, several rounds, medians; and the medians of ratios taken within a
# round.
#
#   bench-neighbour.sh PLUGIN.so TOOL OUT.json
#
# FARPAGE_BENCH_ROUNDS (5), FARPAGE_BENCH_SECONDS (3) for each figure,
# FARPAGE_BENCH_MB (256) for each disk, FARPAGE_BENCH_SERVERS.
set -eu -o pipefail

plugin=$(realpath "$1")
tool=$(realpath "$2")
out=$3
rounds=${FARPAGE_BENCH_ROUNDS:-5}
seconds=${FARPAGE_BENCH_SECONDS:-3}
mb=${FARPAGE_BENCH_MB:-256}
read -ra servers <<< "${FARPAGE_BENCH_SERVERS:-farpage-mem farpage-durable file}"
ways=(read write)

program=bench-neighbour
# shellcheck source-path=SCRIPTDIR source=bench.sh
. "$(dirname "$0")/bench.sh"
need fio jq nbdkit

# farpage NAME VOLUME...: with the disks `quiet` and `loud`
farpage () {
  local name

  # What was replied and is not written yet is in memory.
  staging=$(mktemp -d /dev/shm/farpage-bench.XXXXXX)
  dirs+=("$staging")
  nbdkit -f -U "$dir/$1.sock" "$plugin" "${@:2}" staging="$staging" \
    control="$dir/$1.control" armour=no &
  pids+=($!)
  wait_for "$dir/$1.control"
  for name in quiet loud; do
    "$tool" create $name "${mb}M" --socket "$dir/$1.control" > /dev/null
  done
}

start () {
  case $1 in
    farpage-mem) farpage "$1" "mem:$((mb * 3))M" ;;
    farpage-durable)
      "$tool" format "$dir/volume" --size "$((mb * 3 + 128))M" > /dev/null
      farpage "$1" "$dir/volume"
      ;;
    file)
      mkdir "$dir/file"
      truncate -s "${mb}M" "$dir/file/quiet" "$dir/file/loud"
      nbdkit -f -U "$dir/file.sock" file dir="$dir/file" &
      pids+=($!)
      ;;
    *) echo "$program: no server '$1'" >&2; exit 2 ;;
  esac
  wait_for "$dir/$1.sock"
}

# run_fio OUT SERVER DISK OPTION...
run_fio () {
  fio --name=x --ioengine=nbd --uri="nbd+unix:///$3?socket=$dir/$2.sock" \
    --size="${mb}m" --output="$1" --output-format=json "${@:4}" \
    > /dev/null 2>&1 || {
    echo "$program: fio failed against $2" >&2
    exit 1
  }
}

# figure SERVER WAY: of the quiet one, microseconds: median, 99th percentile
figure () {
  run_fio "$dir/quiet.json" "$1" quiet --rw=rand"$2" --bs=4k --iodepth=1 \
    --time_based --runtime="$seconds"
  sed -n '/^{/,$p' "$dir/quiet.json" | jq --arg way "$2" '
    .jobs[0][$way].clat_ns.percentile
    | { us: (.["50.000000"] / 1000), p99_us: (.["99.000000"] / 1000) }'
}

# The loud one begins a second before, and writes until it is ended.
measure () {
  local alone beside loud

  alone=$(figure "$1" "$2")
  run_fio "$dir/loud.json" "$1" loud --rw=randwrite --bs=128k --iodepth=32 \
    --time_based --runtime=$((seconds + 2)) &
  loud=$!
  sleep 1
  beside=$(figure "$1" "$2")
  wait $loud
  sed -n '/^{/,$p' "$dir/loud.json" |
    jq -c --argjson round "$round" --arg server "$1" --arg way "$2" \
      --argjson alone "$alone" --argjson beside "$beside" '
      { $round, $server, $way, $alone, $beside,
        loud_mb_s: (.jobs[0].write.bw_bytes / 1e6) }'
}

for s in "${servers[@]}"; do
  start "$s"
  for disk in quiet loud; do
    run_fio "$dir/fill.json" "$s" $disk --rw=write --bs=1m --iodepth=4
  done
done
n=$((rounds * ${#ways[@]} * ${#servers[@]}))
echo "$program: $n figures of $((2 * seconds + 3)) s each, about" \
  "$((n * (2 * seconds + 5) / 60 + 1)) minutes" >&2
for round in $(seq "$rounds"); do
  for way in "${ways[@]}"; do
    for s in "${servers[@]}"; do
      measure "$s" "$way" >> "$dir/rows"
    done
  done
  echo "$program: round $round of $rounds done" >&2
done

mkdir -p "$(dirname "$out")"
jq -s --arg nbdkit "$(nbdkit --version)" --arg fio "$(fio --version)" \
  --arg kernel "$(uname -r)" --argjson cpus "$(nproc)" \
  --argjson seconds "$seconds" --argjson mb "$mb" '
  def median: sort | if length % 2 == 1 then .[length / 2 | floor]
    else (.[length / 2 - 1] + .[length / 2]) / 2 end;
  . as $rows
  | { nbdkit: $nbdkit, fio: $fio, kernel: $kernel, cpus: $cpus,
      seconds: $seconds, disk_mb: $mb, rounds: ([.[].round] | max),
      figures: [group_by([.way, .server])[] | {
        way: .[0].way, server: .[0].server,
        alone_p99_us: ([.[].alone.p99_us] | median),
        beside_us: ([.[].beside.us] | median),
        beside_p99_us: ([.[].beside.p99_us] | median),
        ratio: ([.[] | .beside.p99_us / .alone.p99_us] | median),
        least: ([.[] | .beside.p99_us / .alone.p99_us] | min),
        most: ([.[] | .beside.p99_us / .alone.p99_us] | max),
        loud_mb_s: ([.[].loud_mb_s] | median) }],
      rows: $rows }' "$dir/rows" > "$out"

echo
echo "4 KiB of a quiet client, microseconds; medians of $rounds rounds"
jq -r '(["", "server", "99 % alone", "median beside", "99 % beside",
    "99 % beside/alone", "the other, MB/s"], (.figures[] | [.way, .server,
    (.alone_p99_us | round), (.beside_us | round), (.beside_p99_us | round),
    "\(.ratio * 10 | round / 10) [\(.least * 10 | round / 10)-\(.most * 10 | round / 10)]",
    (.loud_mb_s | round)])) | join ("\t")' "$out" | column -t -s "$(printf '\t')"
