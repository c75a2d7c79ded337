# SPDX-License-Identifier: BSD-2-Clause
# The controller on reckoned links; run by `make plot` where the tables are.
set terminal svg size 1000,1100 font "sans,13" background "white"
set output "bdp.svg"
set multiplot layout 4,1
set grid
set key outside right top width -4
set lmargin 9
set rmargin 26
set yrange [0:*]
set xrange [0:2]
set title "1 Gbit/s, 50 ms: the start"
set ylabel "units of 64 KiB"
plot "bdp-start.txt" using 1:2 with lines lw 2 title "limit", \
  "" using 1:3 with lines dt 2 lc "black" title "rate x delay", \
  "" using 1:6 with lines title "queue, the most"
set xrange [0:105]
set title "1 Gbit/s; 1, 10, 1, 10 ms, half of it another's, alone, two speeds"
plot "bdp-change.txt" using 1:2 with lines title "limit", \
  "" using 1:3 with lines dt 2 lc "black" title "rate x delay"
unset title
plot "bdp-change.txt" using 1:6 with lines title "queue, the most", \
  "" using 1:($3 / 2 + 6) with lines dt 2 lc "black" title "bound, settled"
set ylabel "MB/s"
set xlabel "s"
plot "bdp-change.txt" using 1:($4 / 1e6) with lines title "comes back"
unset multiplot
