#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A durable store in a file beside `nbdkit file` and `qemu-nbd` on the same
# file system, and `nbdkit memory`, which keeps nothing and is as fast as a
# plugin can be: fio's nbd engine over a Unix socket, the same jobs against all
# servers in turn, several rounds.  Then, of the store alone: bytes that went
# to the volume for each byte written, at falling rates, and what its maps take.
#
#   bench-durable.sh [--quick] PLUGIN.so FARPAGE OUT.json
#
# --quick is for seeing that it works: its figures mean nothing.
#
# FARPAGE_BENCH_ROUNDS (5), FARPAGE_BENCH_SECONDS (2) for each figure,
# FARPAGE_BENCH_MB (512) for each disk, FARPAGE_BENCH_THREADS (16) of nbdkit,
# FARPAGE_BENCH_SERVERS, _JOBS; FARPAGE_BENCH_VOLUME_MB (4096), _RATES and
# FARPAGE_BENCH_RATE_SECONDS (60) for the second part; FARPAGE_BENCH_STAGING
# (/dev/shm), a directory on tmpfs; the files lie in TMPDIR (/tmp).
# Goals that are missed are told, and are no failure.
set -eu -o pipefail

quick=
if [ "$1" = --quick ]; then quick=yes; shift; fi
plugin=$(realpath "$1")
farpage=$(realpath "$2")
out=$3
by () { if [ -n "$quick" ]; then echo "$1"; else echo "$2"; fi; }

rounds=${FARPAGE_BENCH_ROUNDS:-$(by 1 5)}
seconds=${FARPAGE_BENCH_SECONDS:-$(by 1 2)}
mb=${FARPAGE_BENCH_MB:-$(by 128 512)}
threads=${FARPAGE_BENCH_THREADS:-16}
volume_mb=${FARPAGE_BENCH_VOLUME_MB:-$(by 256 4096)}
rate_seconds=${FARPAGE_BENCH_RATE_SECONDS:-$(by 4 60)}
read -ra servers <<< "${FARPAGE_BENCH_SERVERS:-$(by "farpage file" "farpage file memory qemu-raw")}"
read -ra jobs <<< "${FARPAGE_BENCH_JOBS:-rwrite-q32 rwrite-q32-fsync32 rread-q32-cold rread-q32 read-128k-aged write-128k read-128k}"
read -ra rates <<< "${FARPAGE_BENCH_RATES-$(by 0 "0 50000 20000 5000 1000")}"

program=bench-durable
# shellcheck source-path=SCRIPTDIR source=bench.sh
. "$(dirname "$0")/bench.sh"
need fio jq nbdkit qemu-nbd
staging=$(mktemp -d "${FARPAGE_BENCH_STAGING:-/dev/shm}/farpage-bench.XXXXXX")
dirs+=("$staging")
unset pids
declare -A pids=()              # by name of the server

# ---- servers

# A store NAME with a disk of MB; OPTION...: of format.
start_store () {
  local name=$1 disk_mb=$2 pool_mb
  pool_mb=$((disk_mb * 3 / 2 + 384))
  "$farpage" format "$dir/$name.img" --size "${pool_mb}M" "${@:3}" > /dev/null
  nbdkit -f -t "$threads" -U "$dir/$name.sock" "$plugin" "$dir/$name.img" \
    staging="$staging" control="$dir/$name.control" &
  pids[$name]=$!
  wait_for "$dir/$name.control"
  "$farpage" create bench "${disk_mb}M" --socket "$dir/$name.control" > /dev/null
}

start () {
  local name=$1 sock=$dir/$1.sock
  case $name in
    farpage) start_store "$name" "$mb" ;;
    file)
      truncate -s "${mb}M" "$dir/$name.img"
      nbdkit -f -t "$threads" -U "$sock" file "$dir/$name.img" &
      pids[$name]=$! ;;
    memory)
      nbdkit -f -t "$threads" -U "$sock" memory "${mb}M" &
      pids[$name]=$! ;;
    qemu-raw)
      truncate -s "${mb}M" "$dir/$name.img"
      qemu-nbd -t -e 8 -f raw -k "$sock" "$dir/$name.img" &
      pids[$name]=$! ;;
    *) echo "bench-durable: no server '$name'" >&2; exit 2 ;;
  esac
  wait_for "$sock"
}

stop () {
  kill "${pids[$1]}"
  wait "${pids[$1]}" || true
  unset "pids[$1]"
  rm -f "$dir/$1.img"
}

# run_fio SERVER MB OPTION...
run_fio () {
  local export=
  case $1 in farpage*) export=bench ;; esac
  fio --name=x --ioengine=nbd --uri="nbd+unix:///$export?socket=$dir/$1.sock" \
    --size="${2}m" --refill_buffers=0 --output="$dir/fio.json" \
    --output-format=json "${@:3}" > /dev/null 2>&1 || {
    echo "bench-durable: fio failed against $1" >&2
    exit 1
  }
}

# ---- one figure

# What is still to be written of one server is not to weigh on the next one.
settle () { [ ! -e "$dir/$1.img" ] || sync "$dir/$1.img"; }

forget_pages () {
  settle "$1"
  [ ! -e "$dir/$1.img" ] ||
    dd if="$dir/$1.img" iflag=nocache count=0 status=none
}

# Everything is read once, in order, so that what can be cached is.
warm () { run_fio "$1" "$mb" --rw=read --bs=1m --iodepth=4; }

# JOB SERVER: {"iops": …, "p99_us": …} of its reads or writes.
measure () {
  local opts=(--time_based --runtime="$seconds")
  case $1 in
    rwrite-q32) opts+=(--rw=randwrite --bs=4k --iodepth=32) ;;
    rwrite-q32-fsync32)
      opts+=(--rw=randwrite --bs=4k --iodepth=32 --fsync=32) ;;
    rread-q32-cold)
      forget_pages "$2"
      opts+=(--rw=randread --bs=4k --iodepth=32) ;;
    rread-q32)
      warm "$2"
      opts+=(--rw=randread --bs=4k --iodepth=32) ;;
    read-128k-aged)
      warm "$2"
      opts+=(--rw=read --bs=128k --iodepth=8) ;;
    write-128k) opts+=(--rw=write --bs=128k --iodepth=8) ;;
    read-128k)
      run_fio "$2" "$mb" --rw=write --bs=128k --iodepth=8
      warm "$2"
      opts+=(--rw=read --bs=128k --iodepth=8) ;;
    *) echo "bench-durable: no job '$1'" >&2; exit 2 ;;
  esac
  run_fio "$2" "$mb" "${opts[@]}"
  settle "$2"
  sed -n '/^{/,$p' "$dir/fio.json" | jq -c '.jobs[0]
    | (if .read.total_ios > 0 then .read else .write end)
    | {iops: (.iops | floor),
       p99_us: (.clat_ns.percentile["99.000000"] / 1000 | floor)}'
}

load () { cut -d ' ' -f 1 /proc/loadavg; }

compare () {
  local n=$((rounds * ${#jobs[@]} * ${#servers[@]}))

  for s in "${servers[@]}"; do
    start "$s"
    run_fio "$s" "$mb" --rw=write --bs=1m --iodepth=4
  done
  echo "bench-durable: $n figures of $seconds s each, about $((n * (seconds + 2) / 60 + 1)) minutes" >&2
  for round in $(seq "$rounds"); do
    for job in "${jobs[@]}"; do
      for s in "${servers[@]}"; do
        measure "$job" "$s" |
          jq -c --argjson round "$round" --arg job "$job" --arg server "$s" \
            '{round: $round, job: $job, server: $server} + .' >> "$dir/rows"
      done
    done
    echo "bench-durable: round $round of $rounds done, load $(load)" >&2
  done
  for s in "${servers[@]}"; do stop "$s"; done
}

# ---- bytes to the volume, and bytes of maps

written () { sed -n 's/^write_bytes: //p' "/proc/${pids[$1]}/io"; }

# Until nothing has been written for longer than a cycle waits.
idle () {
  local before='' now same=0

  for _ in $(seq 60); do
    now=$(written "$1")
    if [ "$now" = "$before" ]; then same=$((same + 1)); else same=0; fi
    [ "$same" -lt 7 ] || return 0
    before=$now
    sleep 1
  done
}

# What the server itself says that it wrote; null if it does not say.
says () {
  "$farpage" stat --json --socket "$dir/$1.control" |
    jq -c '.store.log // {} | {data: .data_bytes, direct: .direct_bytes,
                               log: .log_bytes, meta: .meta_bytes}'
}

# RATE: requests a second, 0 for as many as come.
amplify () {
  local s=farpage-volume opts=(--rw=randwrite --bs=4k --iodepth=32 --randrepeat=0)
  local before after says_before says_after

  if [ "$1" = 0 ]; then opts+=(--io_size="${volume_mb}m")
  else opts+=(--time_based --runtime="$rate_seconds" --rate_iops="$1"); fi
  idle "$s"
  before=$(written "$s") says_before=$(says "$s")
  run_fio "$s" "$volume_mb" "${opts[@]}"
  idle "$s"
  after=$(written "$s") says_after=$(says "$s")
  sed -n '/^{/,$p' "$dir/fio.json" |
    jq -c --argjson rate "$1" --argjson volume "$((after - before))" \
      --argjson a "$says_before" --argjson b "$says_after" '.jobs[0].write
      | {rate: $rate, iops: (.iops | floor), client_bytes: .io_bytes,
         volume_bytes: $volume, ratio: ($volume / .io_bytes),
         said: ($b | with_entries(.value -= ($a[.key] // 0)?))}' >> "$dir/rates"
}

maps () {
  local s=farpage-volume

  "$farpage" stat --json --socket "$dir/$s.control" > "$dir/stat.json"
  "$farpage" info --json "$dir/$s.img" > "$dir/info.json"
  jq -n --slurpfile stat "$dir/stat.json" --slurpfile info "$dir/info.json" '
    ($info[0].volumes[0].best) as $super | ($stat[0].pool) as $pool
    | ($stat[0].bounds[] | select(.name == "blocks promised to pages") | .used) as $charged
    | { data_bytes: $pool.mapped_bytes,
        map_bytes: ($charged * 4096 - $pool.mapped_bytes - ([$stat[0].objects[].reserved_bytes] | add)),
        freemap_bytes: ($super.members[0].freemap_blocks * 4096),
        ring_bytes: ($super.ring_blocks * 4096),
        reserve_bytes: $pool.relocation_bytes,
        volume_bytes: $stat[0].volumes[0].size_bytes }
    | .ratio = (.map_bytes + .freemap_bytes) / .data_bytes' > "$dir/maps"
}

of_the_store () {
  [ "${#rates[@]}" -gt 0 ] || { echo null > "$dir/maps"; return 0; }
  start_store farpage-volume "$volume_mb" --ring 256M
  run_fio farpage-volume "$volume_mb" --rw=write --bs=1m --iodepth=4
  for rate in "${rates[@]}"; do
    amplify "$rate"
    echo "bench-durable: rate $rate done, load $(load)" >&2
  done
  maps
  stop farpage-volume
}

# ---- telling

collect () {
  jq -n --slurpfile rows "$dir/rows" --slurpfile rates "$dir/rates" \
    --slurpfile maps "$dir/maps" --arg nbdkit "$(nbdkit --version)" \
    --arg fio "$(fio --version)" --arg kernel "$(uname -r)" \
    --argjson cpus "$(nproc)" --argjson seconds "$seconds" \
    --argjson mb "$mb" --argjson threads "$threads" --arg quick "$quick" \
    --argjson load_first "$load_first" --argjson load_last "$(load)" '
    def median: sort | if length % 2 == 1 then .[length / 2 | floor]
      else (.[length / 2 - 1] + .[length / 2]) / 2 end;
    ([$rows[].server] | unique) as $servers | ([$rows[].job] | unique) as $jobs
    | ([$rows[].round] | max // 0) as $rounds
    | def figure($r; $j; $s; $what):
        [$rows[] | select(.round == $r and .job == $j and .server == $s)][0][$what];
      def medians($what):
        reduce $jobs[] as $j ({}; .[$j] = (reduce $servers[] as $s ({};
          .[$s] = ([$rows[] | select(.job == $j and .server == $s) | .[$what]] | median))));
      def ratios($what):
        reduce $jobs[] as $j ({}; .[$j] = (
          reduce ($servers[] | select(startswith("farpage"))) as $f ({}; .[$f] = (
            reduce ($servers[] | select(startswith("farpage") | not)) as $p ({}; .[$p] = (
              [range(1; $rounds + 1) as $r
               | figure($r; $j; $f; $what) / ([figure($r; $j; $p; $what), 1] | max)]
              | {median: median, min: min, max: max}))))));
      { quick: ($quick != ""), nbdkit: $nbdkit, fio: $fio, kernel: $kernel,
        cpus: $cpus, load: {first: $load_first, last: $load_last},
        seconds: $seconds, disk_mb: $mb, threads: $threads, rounds: $rounds,
        iops: medians("iops"), p99_us: medians("p99_us"),
        ratios: ratios("iops"), p99_ratios: ratios("p99_us"),
        amplification: $rates, maps: $maps[0], rows: $rows }' > "$out"
}

# TITLE KEY: medians of all servers.
table () {
  echo
  echo "$1, medians of $rounds rounds"
  {
    printf 'job'; printf '\t%s' "${servers[@]}"; echo
    for job in "${jobs[@]}"; do
      printf '%s' "$job"
      for s in "${servers[@]}"; do
        printf '\t%s' "$(jq -r --arg j "$job" --arg s "$s" ".$2[\$j][\$s]" "$out")"
      done
      echo
    done
  } | column -t -s "$(printf '\t')"
}

# TITLE KEY: farpage's to others'.
ratio_table () {
  for f in "${servers[@]}"; do
    case $f in farpage*) ;; *) continue ;; esac
    echo
    {
      printf '%s, %s /' "$f" "$1"
      for p in "${servers[@]}"; do
        case $p in farpage*) ;; *) printf '\t%s' "$p" ;; esac
      done
      echo
      for job in "${jobs[@]}"; do
        printf '%s' "$job"
        for p in "${servers[@]}"; do
          case $p in farpage*) continue ;; esac
          printf '\t%s' "$(jq -r --arg j "$job" --arg f "$f" --arg p "$p" \
            ".$2[\$j][\$f][\$p]"' | "\(.median * 100 | round / 100) [\(.min * 100 | round / 100)-\(.max * 100 | round / 100)]"' "$out")"
        done
        echo
      done
    } | column -t -s "$(printf '\t')"
  done
}

tell_store () {
  echo
  echo "bytes to the volume for each byte written at random, $volume_mb MiB, ring of 256 MiB"
  jq -r '(["asked","IOPS","written MiB","to the volume","of it log","map"]),
    (.amplification[] | [(if .rate == 0 then "as they come" else .rate end),
      .iops, (.client_bytes / 1048576 | floor),
      (.ratio * 1000 | round / 1000),
      (if .said.log then .said.log / .client_bytes * 1000 | round / 1000 else "-" end),
      (if .said.meta then .said.meta / .client_bytes * 1000 | round / 1000 else "-" end)])
    | @tsv' "$out" | column -t -s "$(printf '\t')"
  echo
  jq -r '.maps // empty | "of \(.data_bytes) bytes of data: maps \(.map_bytes), free map \(.freemap_bytes)"
    + "; besides: ring \(.ring_bytes), reserve \(.reserve_bytes)"' "$out"
}

# The goals, of the store with the ring that format chooses.
goals () {
  echo
  jq -r 'def verdict($what; $is; $ok; $goal):
      if $is == null then empty else
        "\($what): \($is * 1000 | round / 1000), goal \($goal): \(if $ok then "ok" else "MISSED" end)" end;
    def memory($j): .iops[$j] | if .memory and .file
      then " (nbdkit memory: \(.memory / .file * 100 | round / 100))" else "" end;
    def least($map; $j; $g): ($map[$j].farpage.file.median) as $x
      | verdict("\($j) of nbdkit file"; $x; $x >= $g; "at least \($g)") + memory($j);
    least(.ratios; "rwrite-q32"; 2.5),
    least(.ratios; "rwrite-q32-fsync32"; 3),
    (.p99_ratios["rwrite-q32"].farpage.file.median as $x
     | verdict("rwrite-q32, 99th percentile, of nbdkit file"; $x; $x <= 0.5; "at most 0.5")),
    least(.ratios; "rread-q32"; 0.95),
    least(.ratios; "read-128k"; 0.8),
    least(.ratios; "write-128k"; 0.8),
    ([.amplification[] | select(.rate == 0)][0].ratio as $x
     | verdict("bytes to the volume per byte, depth 32"; $x; $x <= 1.15; "at most 1.15")),
    (.maps.ratio? as $x
     | verdict("maps and free map, part of the data"; $x; $x <= 0.006; "at most 0.006"))' "$out"
  jq -r '"load of the machine: \(.load.first) at the start, \(.load.last) at the end"' "$out"
}

load_first=$(load)
: > "$dir/rows"
: > "$dir/rates"
compare
of_the_store
mkdir -p "$(dirname "$out")"
collect
table "requests a second" iops
table "99th percentile of a request's time, microseconds" p99_us
ratio_table "requests a second" ratios
ratio_table "99th percentile" p99_ratios
tell_store
goals
