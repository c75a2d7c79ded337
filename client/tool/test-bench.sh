#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# `farpage bench` and `farpage bench-file` against nbdkit's memory plugin: their
# JSON has the keys that the manual tells, the plot is a picture, errors name the
# thing and the remedy, and nobody but a terminal is told how far it is.
#
# Environment: FARPAGE, SRCDIR, TOP_SRCDIR.

set -u
# shellcheck source-path=SCRIPTDIR/../../tests source=cases.sh
. "$TOP_SRCDIR/tests/cases.sh"
export LC_ALL=C.UTF-8
unset COLUMNS
for program in nbdkit jq script; do
  command -v $program >/dev/null || { echo "SKIP: no $program"; exit 77; }
done

dir=$(mktemp -d)
path=$PATH
pid=
finish ()
{
  [ -z "$pid" ] || kill "$pid" 2>/dev/null
  wait
  rm -rf "$dir"
}
trap finish EXIT

# bench ARGUMENT...: sets $status, $out, $err
command=bench
bench ()
{
  PATH=$path timeout 60 "$FARPAGE" $command "$@" >"$dir/out" 2>"$dir/err" \
    </dev/null
  status=$?
  out=$(cat "$dir/out") err=$(cat "$dir/err")
}

# refused STATUS REGEX ARGUMENT...: one line, and nothing else
refused ()
{
  local want=$1 regex=$2

  shift 2
  bench "$@"
  is "bench $*: status" "$status" "$want"
  is "bench $*: output" "$out" ''
  like "bench $*: why" "$err" "$regex"
  is "bench $*: lines" "$(wc -l <"$dir/err")" 1
}

# serve ARGUMENT...: nbdkit at $uri
serve ()
{
  if [ -n "$pid" ]; then
    kill "$pid"
    wait "$pid"
  fi
  rm -f "$dir/sock"
  nbdkit -f -U "$dir/sock" "$@" &
  pid=$!
  for _ in $(seq 200); do
    [ -S "$dir/sock" ] && return
    sleep 0.05
  done
  no 'nbdkit did not come up'
}

uri="nbd+unix:///?socket=$dir/sock"
short=(--seconds 0.05 --span 16M)

usage ()
{
  local option

  bench --help
  is '--help: status' "$status" 0
  for option in span cluster async connections seconds takeover plot json; do
    like '--help' "$out" "--$option"
  done
  refused 2 "it takes URI .see 'farpage bench --help'"
  refused 2 'one argument too many' a b
  refused 2 '--cluster takes up to 8 numbers' x --cluster 0
  refused 2 '--cluster takes up to 8 numbers' x --cluster 513
  refused 2 '--cluster takes up to 8 numbers' x --cluster 1,2,3,4,5,6,7,8,9
  refused 2 '--cluster takes up to 8 numbers' x --cluster 4,follow
  refused 2 '--async takes up to 8 of' x --async 1025
  refused 2 '--async takes up to 8 of' x --async 1,followed
  refused 2 '--connections is 1 to 16' x --connections 17
  refused 2 '--connections is 1 to 16' x --connections 1,2
  refused 2 "--span: not a size: 'much'" x --span much
  refused 2 '--span is 16M at least' x --span 15M
  refused 2 '--seconds is 0.05 to 3600' x --seconds 0
  refused 2 '--seconds is 0.05 to 3600' x --seconds 1s
  refused 2 "unknown option '--socket'" x --socket "$dir/sock"
}

# The thing and the remedy.
errors ()
{
  local url

  for url in "http://x/" "nbd+ssh://x/" "$dir/sock" "nbd://" \
    "nbd+unix:///?socket="; do
    refused 1 "^farpage: ${url//[+?]/.}: not a URI of an export.*HOST/NAME" \
      "$url"
  done
  refused 1 "$dir/sock: there is no such socket.*is the server started" "$uri"
  refused 1 '^farpage: nbd://localhost:1/x: nobody listens there.*started' \
    nbd://localhost:1/x
  refused 1 "^farpage: $dir/none/a.svg: No such file or directory$" \
    "$uri" --plot "$dir/none/a.svg"
  mkdir "$dir/bin"
  find /usr/bin ! -xtype d -exec cp -s -t "$dir/bin" {} +
  rm -f "$dir/bin"/gnuplot*
  path=$dir/bin
  refused 1 'there is no gnuplot .apt-get install gnuplot' \
    "$uri" --plot "$dir/a.svg"
  path=$PATH
  is 'no gnuplot: no file' "$(find "$dir" -name '*.svg')" ''
  refused 1 "/dev/null/x: .*Not a directory .is that the place of an NBD" \
    'nbd+unix:///?socket=/dev/null/x'
  serve memory 63M
  refused 1 'it is too small .64 MiB at least' "$uri"
  serve --filter=offset data '1 * 100 @0x4000000 0' offset=0
  refused 1 'it holds something else.*--takeover' "$uri"
  serve -r memory 64M
  refused 1 "$dir/sock: it is read-only .its server" "$uri"
}

# Keys of the JSON and those that the manual names, both ways.
keys ()
{
  jq -r '[.. | objects | keys[]] | unique[]' <<<"$out" >"$dir/keys"
  awk -v it="^.It Ic $command Ar" '/^[.](It|El)/ { on = $0 ~ it } on' \
    "$SRCDIR/farpage.1" | sed -nE 's/^\.Va ([a-z0-9_]+).*/\1/p' |
    sort -u >"$dir/told"
  is "$command: keys of --json (<) and of farpage.1 (>)" \
    "$(diff "$dir/keys" "$dir/told")" ''
}

json ()
{
  serve memory 128M
  bench "$uri" "${short[@]}" --cluster 8,16 --async 4,follow --connections 2 \
    --json
  is 'status' "$status" 0
  is 'nothing but JSON, and no progress' "$err" ''
  is 'a cluster of much of the span' "$(bench "$uri" "${short[@]}" \
    --cluster 512 --async follow --json; echo "$status $err")" '0 '
  keys
  like 'keys' "$(tr '\n' ' ' <"$dir/keys")" 'async .*trip_beside_puts uri'
  cases=$((cases + 1))
  jq -e --arg uri "$uri" '
    def speed: .bytes_per_s > 0 and .pages_per_request >= 0.9 and
      .moved_per_byte > 0.9;
    def trip: .least_us > 0 and .least_us <= .median_us and
      .median_us <= .p99_us;
    .uri == $uri and .seconds == 0.05 and
    (.clusters | map(.cluster_pages)) == [8, 16] and
    (.clusters | all((.put_by_async | map(.async)) == ["4", "follow"] and
      (.put_by_async | all(.bytes_per_s > 0)) and
      (.put | speed) and (.get | speed) and (.put_random | speed) and
      (.get_random | speed) and (.trip | trip) and (.trip_beside_puts | trip)))
    ' <<<"$out" >/dev/null || no "--json: $out"
}

# svg FILE: it is a picture
svg ()
{
  if command -v rsvg-convert >/dev/null; then
    rsvg-convert "$1" >"$dir/png" && [ "$(wc -c <"$dir/png")" -gt 2000 ]
  else
    grep -q '</svg>' "$1"
  fi
}

tables ()
{
  bench "$uri" "${short[@]}" --cluster 16 --async 2,follow --plot "$dir/a.svg"
  is 'tables: status' "$status" 0
  is 'tables: no progress' "$err" ''
  like 'tables' "$out" 'CLUSTER +2 +follow'
  like 'tables' "$out" 'RANDOM PUT +PAGES A WRITE .*BESIDE PUTS'
  if command -v gnuplot >/dev/null; then
    cases=$((cases + 1))
    svg "$dir/a.svg" || no "--plot: $(head -c 300 "$dir/a.svg")"
  else
    echo "no gnuplot ('apt-get install gnuplot-nox'): --plot is left out"
  fi
}

# typed COMMAND ARGUMENT...: what it says on a terminal
typed ()
{
  script -qec "$(printf '%q ' "$FARPAGE" "$@")" /dev/null </dev/null
}

# After two seconds, whatever it waits for; and nothing of it is left on the
# screen, neither before figures nor before a complaint.
terminal ()
{
  local text slow=(--seconds 0.05 --span 128M --data)

  text=$(typed bench "$uri" --seconds 0.4 --span 16M --cluster 16 \
    --async 4,follow)
  like 'on a terminal' "$text" 'farpage: bench: [0-9]+ of 11, clusters of 16: '
  like 'on a terminal: the line is wiped' "$text" $'\r\e\\[KPuts, bytes'
  text=$(typed bench-file "$uri" --seconds 1.2 --span 128M)
  like 'a file' "$text" 'farpage: bench-file: 4 of 4, cached pages, '
  like 'a file: the line is wiped' "$text" $'\r\e\\[KReads of a file'

  serve --filter=delay memory 16M delay-open=2500ms
  text=$(typed bench "$uri" --cluster 16 --async 4)
  like 'opening' "$text" 'bench: 1 of 10, clusters of 16: opening, \? left'
  like 'a complaint: the line is wiped' "$text" $'\r\e\\[Kfarpage: nbd.unix'
  text=$(typed bench-file "$uri")
  like 'a file: opening' "$text" 'bench-file: 1 of 4, opening, \? left'
  like 'a file, a complaint' "$text" $'\r\e\\[Kfarpage: nbd.unix'
  bench "$uri"
  is 'no progress in a file' "$(wc -l <"$dir/err")" 1

  serve --filter=rate data '85*134217728' rate=150M
  text=$(typed bench-file "$uri" "${slow[@]}")
  like '--data' "$text" \
    'bench-file: 5 of 5, all data, [0-9]+ %, [0-9.]+M, [0-9.]+m?s left'
}

# dies COMMAND ARGUMENT...: in its middle the server does, and it says so, not
# after the minutes that the library tries again.
dies ()
{
  local bench

  PATH=$path "$FARPAGE" "$@" >"$dir/out" 2>"$dir/err" </dev/null &
  bench=$!
  sleep 1
  { kill -KILL "$pid"; wait "$pid"; } 2>/dev/null
  for _ in $(seq 100); do
    [ -s "$dir/err" ] && break
    sleep 0.05
  done
  { kill -KILL $bench; wait $bench; } 2>/dev/null
  pid=
  like "the server dies under $1" "$(head -1 "$dir/err")" \
    "^farpage: nbd.unix.*$dir/sock: connection [0-9]: "
}

killed ()
{
  serve memory 128M
  dies bench "$uri" --seconds 30 --async 4
  serve data '85*134217728'
  dies bench-file "$uri" --seconds 30 --span 128M
}

# Pages that are timed are of the server, not of the cache: there half of the
# span would be after the reads in order, and the median one or the other.
far_pages ()
{
  serve --filter=delay data '85*134217728' rdelay=2ms
  for _ in 1 2 3 4; do
    bench "$uri" --span 128M --seconds 0.5 --json
    is 'a page takes its time' "$(jq '.median_us > 2000' <<<"$out")" true
  done
}

# An export of 1 TiB with 256 MiB in two places.
file ()
{
  command=bench-file
  bench --help
  for option in span connections seconds data json; do
    like 'bench-file --help' "$out" "--$option"
  done
  refused 2 "it takes URI .see 'farpage bench-file --help'"
  refused 2 '--seconds is 0.05 to 3600' x --seconds 0
  refused 2 '--span is 128M at least' x --span 127M
  serve memory 128M
  refused 1 'it is too small: it has 128.0M, and --span is 256.0M' "$uri"
  serve memory 1T
  bench "$uri" --seconds 0.05
  is 'file: status' "$status" 0
  like 'file' "$out" 'IN ORDER +CACHED +PAGE, US'
  command -v qemu-io >/dev/null || { echo 'no qemu-io: --data is left out'; return; }
  qemu-io -f raw -c 'write -q -P 7 300G 128M' -c 'write -q -P 8 1023G 128M' \
    "$uri"
  bench "$uri" --seconds 0.05 --data --json
  is 'file, --data: status and errors' "$status $err" '0 '
  is 'file, --data: bytes' "$(jq .data_bytes <<<"$out")" 268435456
  keys
  cases=$((cases + 1))
  jq -e --arg uri "$uri" '.uri == $uri and .seconds == 0.05 and
    .in_order_bytes_per_s > 0 and .cached_bytes_per_s > 0 and
    .median_us <= .p99_us and .data_seconds > 0' <<<"$out" >/dev/null ||
    no "bench-file --json: $out"
  far_pages
}

usage
errors
json
tables
terminal
killed
file
echo "test-bench: $cases cases, $failed failed"
[ "$failed" -eq 0 ]
