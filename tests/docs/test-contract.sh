#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# docs/contract.md: each test that it names is there and is run, each bound is
# what the code says.  Also the names in docs/format.md and
# docs/interoperability.md.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
doc=$top/docs/contract.md

# What expressions of bounds are made of.
# shellcheck disable=SC2034 # arithmetic takes it
NS_PER_S=1000000000 PAGE_BYTES=4096 SPACE_HANDOUT_MAX=256

# value NAME FILE: of a #define
value ()
{
  local text

  text=$(sed -n "s/^#define $1  *\([^ ].*\)/\1/p" "$2" |
    sed -E 's,/\*.*,,; s/UINT(32|64)_C *//g; s/\b([0-9]+)u\b/\1/g
            s/\b([0-9]+)\.0\b/\1/g; s/\(uint64_t\)//g')
  [ -n "$text" ] && echo $((text))
}

nr=0
while IFS='|' read -r _ bound number name file _; do
  number=${number// /} name=${name//[ \`]/} file=${file//[ \`]/}
  nr=$((nr + 1))
  is "$bound" "$(value "$name" "$top/$file")" "$number"
done < <(awk '/^## / { on = ($0 == "## Bounds") } on && /^\|.*`/' "$doc")
[ $nr -ge 36 ]
check $? "only $nr bounds were found"

# The constants of our expressions, too.
is NS_PER_S "$(value NS_PER_S "$top/src/base/env.h")" $NS_PER_S
is SPACE_HANDOUT_MAX "$(value SPACE_HANDOUT_MAX "$top/src/space/space.h")" \
  $SPACE_HANDOUT_MAX

# A test that is named is one that `make check` runs.
while read -r line file; do
  case $(basename "$file") in
  test-*.c) name=$(basename "$file" .c) ;;
  test-*.sh) name=$(basename "$file") ;;
  *) continue ;;
  esac
  grep -Eq "(^|[[:space:]])$name([[:space:]]|\$)" \
    "$top/$(dirname "$file")/Makefile.am"
  check $? "contract.md:$line: no Makefile.am runs $file"
done < <(names_of "$doc" | awk 'NF == 2')

# Each row of a table of promises names a test.
for section in Requests 'The end of the server' Errors; do
  bad=$(awk -v s="## $section" '/^## / { on = ($0 == s) } on && /^\|/' "$doc" |
    tail -n +3 | grep -Ev '/test-[a-z-]+\.(c|sh)`' | cut -c1-60)
  is "$section: rows without a test" "$bad" ''
done

check_names "$doc" 100
check_names "$top/docs/format.md" 3
check_names "$top/docs/interoperability.md" 12
finish
