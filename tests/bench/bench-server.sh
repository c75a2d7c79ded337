#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The server beside its peers: fio's nbd engine over a Unix socket, the same
# jobs against all servers in turn, several rounds.  Prints the medians and the
# medians of ratios taken within a round, and writes them as JSON.
#
#   bench-server.sh PLUGIN.so OUT.json
#
# FARPAGE_BENCH_ROUNDS (5), FARPAGE_BENCH_SECONDS (2) for each figure,
# FARPAGE_BENCH_MB (512) for each disk, FARPAGE_BENCH_SERVERS, _JOBS.
# Exit status 1: the floor against `nbdkit memory` was missed.
set -eu -o pipefail

plugin=$(realpath "$1")
out=$2
rounds=${FARPAGE_BENCH_ROUNDS:-5}
seconds=${FARPAGE_BENCH_SECONDS:-2}
mb=${FARPAGE_BENCH_MB:-512}
read -ra servers <<< "${FARPAGE_BENCH_SERVERS:-farpage-mem farpage-file null memory file qemu-raw qemu-qcow2}"
read -ra jobs <<< "${FARPAGE_BENCH_JOBS:-rread-q1 rread-q32 rwrite-q1 rwrite-q32 rwrite-q32-fsync32 read-128k write-128k}"

program=bench-server
# shellcheck source-path=SCRIPTDIR source=bench.sh
. "$(dirname "$0")/bench.sh"
need fio jq nbdkit qemu-nbd qemu-img

# What each server is, and the export to ask it for.
start () {
  local name=$1 sock=$dir/$1.sock
  case $name in
    farpage-mem)
      nbdkit -f -U "$sock" "$plugin" "mem:$((mb * 5 / 4))M" control= & ;;
    farpage-file)
      truncate -s "$((mb * 5 / 4 + 2))M" "$dir/$name.img"
      nbdkit -f -U "$sock" "$plugin" "$dir/$name.img" durability=volatile \
        control= & ;;
    null) nbdkit -f -U "$sock" null "${mb}M" & ;;
    memory) nbdkit -f -U "$sock" memory "${mb}M" & ;;
    file)
      truncate -s "${mb}M" "$dir/$name.img"
      nbdkit -f -U "$sock" file "$dir/$name.img" & ;;
    qemu-raw)
      truncate -s "${mb}M" "$dir/$name.img"
      qemu-nbd -t -e 8 -f raw -k "$sock" "$dir/$name.img" & ;;
    qemu-qcow2)
      qemu-img create -q -f qcow2 "$dir/$name.img" "${mb}M"
      qemu-nbd -t -e 8 -f qcow2 -k "$sock" "$dir/$name.img" & ;;
    *) echo "bench-server: no server '$name'" >&2; exit 2 ;;
  esac
  pids+=($!)
  wait_for "$sock"
}

uri () {
  case $1 in
    farpage-*) echo "nbd+unix:///swap/bench:${mb}M?socket=$dir/$1.sock" ;;
    *) echo "nbd+unix:///?socket=$dir/$1.sock" ;;
  esac
}

run_fio () {
  fio --name=x --ioengine=nbd --uri="$(uri "$1")" --size="${mb}m" \
    --output="$dir/fio.json" --output-format=json "${@:2}" > /dev/null 2>&1 || {
    echo "bench-server: fio failed against $1" >&2
    exit 1
  }
}

# One figure: requests a second.
measure () {
  local opts=(--time_based --runtime="$seconds" --refill_buffers=0)
  case $2 in
    rread-q1) opts+=(--rw=randread --bs=4k --iodepth=1) ;;
    rread-q32) opts+=(--rw=randread --bs=4k --iodepth=32) ;;
    rwrite-q1) opts+=(--rw=randwrite --bs=4k --iodepth=1) ;;
    rwrite-q32) opts+=(--rw=randwrite --bs=4k --iodepth=32) ;;
    rwrite-q32-fsync32)
      opts+=(--rw=randwrite --bs=4k --iodepth=32 --fsync=32) ;;
    read-128k) opts+=(--rw=read --bs=128k --iodepth=8) ;;
    write-128k) opts+=(--rw=write --bs=128k --iodepth=8) ;;
    *) echo "bench-server: no job '$2'" >&2; exit 2 ;;
  esac
  run_fio "$1" "${opts[@]}"
  sed -n '/^{/,$p' "$dir/fio.json" |
    jq '.jobs[0] | (.read.iops + .write.iops) | floor'
}

for s in "${servers[@]}"; do
  start "$s"
  run_fio "$s" --rw=write --bs=1m --iodepth=4
done

n=$((rounds * ${#jobs[@]} * ${#servers[@]}))
echo "bench-server: $n figures of $seconds s each, about $((n * (seconds + 1) / 60 + 1)) minutes" >&2
: > "$dir/rows"
for round in $(seq "$rounds"); do
  for job in "${jobs[@]}"; do
    for s in "${servers[@]}"; do
      printf '{"round":%d,"job":"%s","server":"%s","iops":%s}\n' \
        "$round" "$job" "$s" "$(measure "$s" "$job")" >> "$dir/rows"
    done
  done
  echo "bench-server: round $round of $rounds done" >&2
done

mkdir -p "$(dirname "$out")"
jq -s --arg nbdkit "$(nbdkit --version)" --arg fio "$(fio --version)" \
  --arg kernel "$(uname -r)" --argjson cpus "$(nproc)" \
  --argjson seconds "$seconds" --argjson mb "$mb" '
  def median: sort | if length % 2 == 1 then .[length / 2 | floor]
    else (.[length / 2 - 1] + .[length / 2]) / 2 end;
  . as $rows
  | ([.[].server] | unique) as $servers
  | ([.[].job] | unique) as $jobs
  | def iops($r; $j; $s): $rows[] | select(.round == $r and .job == $j and .server == $s) | .iops;
  { nbdkit: $nbdkit, fio: $fio, kernel: $kernel, cpus: $cpus,
    seconds: $seconds, disk_mb: $mb, rounds: ([.[].round] | max),
    iops: (reduce $jobs[] as $j ({}; .[$j] = (reduce $servers[] as $s ({};
      .[$s] = ([$rows[] | select(.job == $j and .server == $s) | .iops] | median))))),
    ratios: (reduce $jobs[] as $j ({}; .[$j] = (reduce ($servers[] | select(startswith("farpage"))) as $f ({};
      .[$f] = (reduce ($servers[] | select(startswith("farpage") | not)) as $p ({};
        .[$p] = ([range(1; ([$rows[].round] | max) + 1) as $r | iops($r; $j; $f) / ([iops($r; $j; $p), 1] | max)]
          | {median: median, min: min, max: max}))))))),
    rows: $rows }' "$dir/rows" > "$out"

echo
echo "requests a second, medians of $rounds rounds"
{
  printf 'job'; printf '\t%s' "${servers[@]}"; echo
  for job in "${jobs[@]}"; do
    printf '%s' "$job"
    for s in "${servers[@]}"; do
      printf '\t%s' "$(jq -r --arg j "$job" --arg s "$s" '.iops[$j][$s]' "$out")"
    done
    echo
  done
} | column -t -s "$(printf '\t')"
echo
echo "ratios within a round: median [least-most]"
for f in "${servers[@]}"; do
  case $f in farpage-*) ;; *) continue ;; esac
  {
    printf '%s /' "$f"
    for p in "${servers[@]}"; do
      case $p in farpage-*) ;; *) printf '\t%s' "$p" ;; esac
    done
    echo
    for job in "${jobs[@]}"; do
      printf '%s' "$job"
      for p in "${servers[@]}"; do
        case $p in farpage-*) continue ;; esac
        printf '\t%s' "$(jq -r --arg j "$job" --arg f "$f" --arg p "$p" \
          '.ratios[$j][$f][$p] | "\(.median * 100 | round / 100) [\(.min * 100 | round / 100)-\(.max * 100 | round / 100)]"' "$out")"
      done
      echo
    done
  } | column -t -s "$(printf '\t')"
  echo
done

# The floor: a memory pool beside nbdkit's memory plugin.
jq -e 'def floor_ok($j; $least):
    (.ratios[$j]["farpage-mem"].memory.median // empty) as $r
    | "\($j): \($r * 100 | round / 100) of nbdkit memory, floor \($least): \(if $r >= $least then "ok" else "MISSED" end)";
  [floor_ok("rread-q32"; 0.9), floor_ok("rwrite-q32"; 0.8)]' "$out" > "$dir/floor"
jq -r '.[]' "$dir/floor"
if grep -q MISSED "$dir/floor"; then exit 1; fi
