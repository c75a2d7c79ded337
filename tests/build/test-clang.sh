#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# clang has no warning about any C file, with the flags of this build, which
# another compiler makes.

# shellcheck source-path=SCRIPTDIR source=build-lib.sh
. "$(dirname "$0")/build-lib.sh"

command -v clang >/dev/null || skip "no clang ('apt-get install clang')"

# Every file with a set of its folder's flags that it compiles with.
check_folder ()
{
  local file flags lines

  mapfile -t lines < <(compile_lines "$1")
  for file in "$TOP_SRCDIR/$1"/*.c; do
    for flags in "${lines[@]}"; do
      if (cd "$TOP_BUILDDIR/$1" &&
        eval "clang -Werror ${flags#* } -fsyntax-only $file") \
        >"$work/out" 2>&1; then
        ok
        continue 2
      fi
    done
    no "$file: $(head -n 4 "$work/out")"
  done
}

while read -r folder; do
  check_folder "$folder"
done < <(cd "$TOP_SRCDIR" && find src plugins client contrib tests \
  -name '*.c' -printf '%h\n' | sort -u)
finish_cases
