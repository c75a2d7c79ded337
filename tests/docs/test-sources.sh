#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# docs/sources.md: each function of ours that it names is in the file it names
# for it, and each source has a row for each of its functions.

# shellcheck disable=SC2016 # backticks are the document's
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
doc=$top/docs/sources.md

# section NAME: its lines
section ()
{
  awk -v s="## $1" '/^## / { on = ($0 == s) } on' "$doc"
}

# functions SECTION: the first cells of its rows
functions ()
{
  section "$1" | sed -n 's/^| `\([a-z_0-9]*\)` |.*/\1/p'
}

# said SHORT: how many functions the first table gives to a source
said ()
{
  sed -n "s/^| $1 |.*| *\([0-9]*\) |\$/\1/p" "$doc"
}

# The files of these revisions have so many, however the document counts.
for source in swap:26 vnode:22 hammer:46; do
  name=${source%:*}
  is "$name: functions" "$(said "$name")" "${source#*:}"
  is "$name: rows" "$(functions "$name" | wc -l)" "${source#*:}"
  is "$name: rows that are there twice" \
    "$(functions "$name" | sort | uniq -d | tr '\n' ' ')" ''
  bad=$(section "$name" | sed -n '/^| `/p' | grep -Ev \
    '^\| `[a-z_0-9]+` \| (here|in part|issue [3-6]|none) \|' | cut -c1-60)
  is "$name: second columns" "$bad" ''
  # What is here names a function; why there is none is said.
  bad=$(section "$name" | grep -E '^\| `[^|]*\| (here|in part) \|' |
    grep -Ev '`: `' | cut -c1-60)
  is "$name: rows that are here but not where" "$bad" ''
  bad=$(section "$name" | grep -E '^\| `[^|]*\| none \| *\|$' | cut -c1-60)
  is "$name: rows without a reason" "$bad" ''
  is "$name: 'in part' and no issue" "$(section "$name" |
    grep -E '^\| `[^|]*\| in part \|' | grep -Ev 'issues? [3-6]' | cut -c1-60)" ''
done

# Each trait and each mistake names what has it and what shows it.
is 'traits without a test' "$(section Traits | grep '^|' |
  tail -n +3 | grep -Ev '/test-[a-z-]+\.(c|sh)`' | cut -c1-60)" ''
is 'mistakes without a test' "$(section 'Mistakes not repeated' |
  grep '^| `' | grep -Ev '/test-[a-z-]+\.c`|issue [3-6] \|$' | cut -c1-60)" ''
theirs=$(functions swap; functions vnode; functions hammer)
for name in $(functions 'Mistakes not repeated'); do
  grep -qx "$name" <<<"$theirs"
  check $? "mistakes: no source has $name"
done

check_names "$doc" 150
finish
