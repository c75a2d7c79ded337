#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# net-table.sh [--plot FILE.svg] LINES...: what test-guest-net.sh has printed or
# kept, as tables for docs/swap.md, and as a picture of it (gnuplot).  MB/s;
# medians, where a cell is there several times.

set -eu -o pipefail
plot=
if [ "${1-}" = --plot ]; then
  plot=${2:?--plot needs a FILE.svg}
  shift 2
fi
if [ $# -eq 0 ]; then
  echo "usage: net-table.sh [--plot FILE.svg] LINES..." >&2
  exit 2
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/net-table.XXXXXX")
trap 'rm -rf "$dir"' EXIT
servers='farpage nbdkit-file nbd-server'

# "KIND N DELAY LINK SERVER KEY MEDIAN"
grep -hE '^(disk|swap)-[^ ]* write=' "$@" | awk '{
    match ($1, /^[^-]*-[^-]*-[^-]*-[^-]*-/)
    name = substr ($1, 1, RLENGTH - 1)
    gsub ("-", " ", name)
    for (i = 2; i <= NF; i++) {
      split ($i, pair, "=")
      print name, substr ($1, RLENGTH + 1), pair[1], pair[2]
    }
  }' | sort -k1,6 -k7,7g | awk '
  function out () {
    if (n)
      print last, (value[int ((n + 1) / 2)] + value[int ((n + 2) / 2)]) / 2
    n = 0
  }
  { key = $1 " " $2 " " $3 " " $4 " " $5 " " $6 }
  key != last { out (); last = key }
  { value[++n] = $7 }
  END { out () }' > "$dir/medians"

# of KIND N DELAY LINK KEY...: each server's of these, as cells of a table
of ()
{
  local key server
  for key in "${@:5}"; do
    for server in $servers; do
      awk -v want="$1 $2 $3 $4 $server $key" '
        $1 " " $2 " " $3 " " $4 " " $5 " " $6 == want { value = $7 }
        END {
          if (value != "")
            value = sprintf (value < 10 ? "%.2f" : "%.1f", value)
          printf " %s |", value
        }' "$dir/medians"
    done
  done
}

# table KIND TITLE KEY...: a row for each link and number
table ()
{
  local key server nr delay link
  printf '| link | %s |' "$2"
  for key in "${@:3}"; do
    for server in $servers; do printf ' %s: %s |' "$key" "$server"; done
  done
  printf '\n|---|---:|'
  for key in "${@:3}"; do printf '%s' '---:|---:|---:|'; done
  printf '\n'
  awk -v kind="$1" '$1 == kind { print $4 != "plain", $3, $4, $2 }' \
    "$dir/medians" | sort -u -k1,1n -k2,2n -k3,3 -k4,4n |
    while read -r _ delay link nr; do
      printf '| %s ms%s | %s |' "$delay" "$(words "$link")" "$nr"
      of "$1" "$nr" "$delay" "$link" "${@:3}"
      printf '\n'
    done
  printf '\n'
}

words ()
{
  case $1 in
    loss*) printf ', %s %% lost' "${1#loss}" ;;
    *mbit) printf ', %s Mbit/s' "${1%mbit}" ;;
  esac
}

# curves KIND KEY N...: by delay, a block for each server and number, to plot
curves ()
{
  local server nr
  for server in $servers; do
    for nr in "${@:3}"; do
      case $1 in
        disk) echo "\"$server, $nr\"" ;;
        swap) echo "\"$server\"" ;;
      esac
      awk -v want="$1 $nr plain $server $2" '
        $1 " " $2 " " $4 " " $5 " " $6 == want { print $3, $7 }' \
        "$dir/medians" | sort -n
      printf '\n\n'
    done
  done
}

draw ()
{
  curves disk write 1 4 > "$dir/write"
  curves disk read 1 4 > "$dir/read"
  curves swap read 3 > "$dir/swap"
  curves swap random 3 > "$dir/random"
  gnuplot << END
set terminal svg size 900,760 font "sans,13" background "white"
set output "$dir/plot.svg"
set multiplot layout 2,2
set grid
set yrange [0:*]
set xrange [-0.5:20.5]
set xtics (0, 1, 5, 10, 20)
set ylabel "MB/s"
set xlabel "round trip, ms"
set key inside right top samplen 2 font ",10"
set offsets 0, 0, graph 0.4, 0
set bmargin 4
shape (i) = i % 2 == 0 ? 1 : 2
set title "disk, 1 and 4 connections: write"
plot for [i = 0:5] "$dir/write" index i with linespoints \\
  lw 2 lc i / 2 + 1 dt shape (i) pt i + 4 title columnheader(1)
set title "disk: read"
plot for [i = 0:5] "$dir/read" index i with linespoints \\
  lw 2 lc i / 2 + 1 dt shape (i) pt i + 4 title columnheader(1)
set title "swap: read in order"
plot for [i = 0:2] "$dir/swap" index i with linespoints \\
  lw 2 lc i + 1 pt i * 2 + 4 title columnheader(1)
set title "swap: single pages at random"
plot for [i = 0:2] "$dir/random" index i with linespoints \\
  lw 2 lc i + 1 pt i * 2 + 4 title columnheader(1)
unset multiplot
END
  mv "$dir/plot.svg" "$1"
}

table disk connections write read
table swap page-cluster write read random
test -z "$plot" || draw "$plot"
