#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The form of the code: clang-format, tabs and blanks, the licence's line,
# functions of at most 60 lines and files of at most 600 (longer ones, with
# their reasons, are in tidy.allow), scripts shellcheck has nothing to say about.
# A tool that is missing leaves its cases out; with no clang-format, exit 77.

# shellcheck source-path=SCRIPTDIR source=build-lib.sh
. "$(dirname "$0")/build-lib.sh"

readonly FUNCTION_LINES=60 FILE_LINES=600
allow=$TOP_SRCDIR/tests/build/tidy.allow
cd "$TOP_SRCDIR" || exit 1

# Our sources: not what configure and make may have put beside them.
list ()                         # PATTERN...
{
  local patterns=() pattern

  for pattern in "$@"; do
    patterns+=(-o -name "$pattern")
  done
  find src plugins client tests contrib .ci -type f \
    \( "${patterns[@]:1}" \) | sort
}

verdict ()                      # WHAT FINDINGS
{
  if [ -z "$2" ]; then
    ok
  else
    no "$1:"$'\n'"$2"
  fi
}

# allowed FILE KIND: the limit for it, from tidy.allow or the usual one
allowed ()
{
  awk -v file="$1" -v kind="$2" -v limit="$3" \
    '$1 == file && $2 == kind { limit = $3 } END { print limit }' "$allow"
}

blanks ()
{
  local file

  for file in "${c_files[@]}" "${scripts[@]}"; do
    verdict "$file: tabs, or blanks at an end" \
      "$(grep -nP '\t|[ \t]$' "$file" | head -n 5)"
    if head -n 3 "$file" | grep -q 'SPDX-License-Identifier: BSD-2-Clause'; then
      ok
    else
      no "$file: no SPDX line on top"
    fi
  done
  while read -r file; do
    verdict "$file: blanks at an end" "$(grep -nE '[[:blank:]]+$' "$file" | head -n 5)"
  done < <(list 'Makefile.am' '*.1' '*.md')
}

lengths ()
{
  local file limit

  for file in "${c_files[@]}"; do
    limit=$(allowed "$file" file $FILE_LINES)
    if [ "$(wc -l <"$file")" -le "$limit" ]; then
      ok
    else
      no "$file: $(wc -l <"$file") lines, more than $limit"
    fi
    limit=$(allowed "$file" function $FUNCTION_LINES)
    # From the brace in column 0 to the brace in column 0, without them.
    verdict "$file: functions of more than $limit lines" "$(awk -v limit="$limit" '
      /^[a-z_A-Z].*\(/ { name = $1 }
      /^{/ { start = FNR }
      /^}/ && start {
        if (FNR - start - 1 > limit)
          print name ", line " start ": " FNR - start - 1 " lines"
        start = 0
      }' "$file")"
  done
}

# An entry of tidy.allow that nothing needs any more is to go.
allow_list ()
{
  local file kind limit reason

  while read -r file kind limit reason; do
    [[ $file != '#'* && -n $file ]] || continue
    if [ -f "$file" ] && [[ $kind == file || $kind == function ]] &&
      [[ $limit =~ ^[0-9]+$ ]] && [ -n "$reason" ]; then
      ok
    else
      no "tidy.allow: $file $kind $limit: no such file, kind, or no reason"
    fi
  done <"$allow"
}

mapfile -t c_files < <(list '*.c' '*.h')
mapfile -t scripts < <(
  list '*.sh'
  echo contrib/quickstart
  echo contrib/check
  echo .ci/run
)
blanks
lengths
allow_list

if command -v shellcheck >/dev/null; then
  for file in "${scripts[@]}"; do
    # All it has to say about what runs outside of the tests.
    level=error
    [[ $file != contrib/* && $file != tests/build/* ]] || level=style
    verdict "shellcheck $file" \
      "$(shellcheck -x -e SC2148 -P SCRIPTDIR -S $level -f gcc "$file" 2>&1 |
        head -n 5)"
  done
fi
if command -v mandoc >/dev/null; then
  while read -r page; do
    verdict "mandoc $page" "$(mandoc -T lint -W error "$page" | head -n 5)"
  done < <(list '*.[1-8]')
fi
if command -v clang-format >/dev/null; then
  verdict "clang-format" \
    "$(clang-format --dry-run -Werror "${c_files[@]}" 2>&1 | head -n 20)"
elif [ $bad -eq 0 ]; then
  echo "$test_name: $cases cases, 0 failed"
  skip "no clang-format ('apt-get install clang-format'); the rest is well"
fi
finish_cases
