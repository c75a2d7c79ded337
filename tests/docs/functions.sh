# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What the tests of docs/ share.  Sourced; wants $TOP_SRCDIR or sits in it.
#
# Each comparison is one case; `finish` says how many there were.

set -u
top=${TOP_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}
cases=0 failures=0

# check CONDITION-RESULT TEXT: one case
check ()
{
  cases=$((cases + 1))
  [ "$1" = 0 ] && return 0
  failures=$((failures + 1))
  echo "not ok: $2"
}

# is TEXT GOT EXPECTED
is ()
{
  [ "$2" = "$3" ]
  check $? "$1: '$2', not '$3'"
}

# file_of NAME: the file of the tree that a document calls so
file_of ()
{
  local base

  for base in "$top" "$top/src"; do
    if [ -f "$base/$1" ]; then
      echo "$base/$1"
      return
    fi
  done
  return 1
}

# names_of DOCUMENT: "LINE FILE FUNCTION" for every function named in
# backticks after a file's name, "LINE FILE" for every file.  A file's name has
# a slash and a known ending; what follows it up to the end of the cell, or to
# the next file, is in it.
names_of ()
{
  awk '
    function token(t) {
      if (t ~ /^[A-Za-z0-9_.\/-]+\/[A-Za-z0-9_.-]+\.(c|h|sh|am)$/) {
        file = t
        print FNR, file
      } else if (file != "" && t ~ /^[a-z_][a-z_0-9]*$/)
        print FNR, file, t
    }
    /^$/ { file = ""; open = 0 }
    {
      line = $0
      if (line ~ /^\|/ || line ~ /^- /) { file = ""; open = 0 }
      n = length(line)
      word = ""
      for (i = 1; i <= n; i++) {
        c = substr(line, i, 1)
        if (c == "`") {
          if (open) token(word)
          open = !open
          word = ""
        } else if (open)
          word = word c
        else if (c == "|" || c == ".")
          file = ""
      }
      open = 0
    }' "$1"
}

# defined FILE FUNCTION: is it defined (or a test of cmocka) there?
defined ()
{
  case $1 in
  *.c | *.h) grep -Eq "^$2 \(" "$1" ;;
  *.sh) grep -Eq "^$2 \(\)" "$1" ;;
  *) return 1 ;;
  esac
}

# check_names DOCUMENT LEAST: every name in it is there; at least so many
check_names ()
{
  local line file function path nr=0

  while read -r line file function; do
    nr=$((nr + 1))
    path=$(file_of "$file")
    check $? "$(basename "$1"):$line: there is no $file"
    if [ -z "$path" ] || [ -z "$function" ]; then
      continue
    fi
    defined "$path" "$function"
    check $? "$(basename "$1"):$line: $file has no function $function"
  done < <(names_of "$1")
  [ $nr -ge "$2" ]
  check $? "$(basename "$1"): only $nr names were found"
}

finish ()
{
  echo "$(basename "$0"): $cases cases, $failures failed"
  [ $failures -eq 0 ] || exit 1
  exit 0
}
