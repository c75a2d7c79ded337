#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Includes go down only: with the flags a layer is compiled with, no header of
# a higher layer is found, and those of the lower ones are.  A header whose head
# says "private to" its folder is included nowhere else.

# shellcheck source-path=SCRIPTDIR source=build-lib.sh
. "$(dirname "$0")/build-lib.sh"

# Each folder and the folders it may see, itself among them.
rules ()
{
  cat <<'EOF'
src/base src/base
src/volume src/volume src/base
src/buffer src/buffer src/volume src/base
src/space src/space src/buffer src/volume src/base
src/object src/object src/space src/buffer src/volume src/base
src/store src/store src/object src/space src/buffer src/volume src/base
plugins/farpage plugins/farpage src/store src/volume src/base
client/pager client/pager client/include src/base
client/examples client/examples client/include
client/tool client/tool client/include src/store src/object src/space src/buffer src/volume src/base
EOF
}

# includes FLAGS FOLDER HEADER: does it compile?
includes ()
{
  printf '#include <config.h>\n#include "%s"\nint layer_test;\n' "$3" \
    >"$work/probe.c"
  # As make does it: from the folder, with flags that make has expanded.
  (cd "$TOP_BUILDDIR/$2" && eval "$1 -fsyntax-only $work/probe.c") \
    >"$work/out" 2>&1
}

check_folder ()
{
  local folder=$1 flags other header name lines
  shift

  mapfile -t lines < <(compile_lines "$folder")
  [ ${#lines[@]} -gt 0 ] || no "$folder: no compile line"
  for other in $(rules | cut -d' ' -f1); do
    for header in "$TOP_SRCDIR/$other"/*.h; do
      [ -e "$header" ] || continue # it has none
      name=$(basename "$header")
      [[ $name != test-* && $name != *-impl.h ]] || continue
      ! private "$header" || [ "$other" = "$folder" ] || continue
      if [[ " $* " == *" $other "* ]]; then
        check_found "$folder" "$name"
      elif ! visible "$name" "$@"; then
        check_hidden "$folder" "$name" "$other"
      fi
    done
  done
}

private ()                      # HEADER
{
  head -n 8 "$1" | grep -q 'private to'
}

# visible NAME FOLDER...: a header of that name may be seen
visible ()
{
  local name=$1
  shift
  for _ in "$@"; do
    [ ! -e "$TOP_SRCDIR/$1/$name" ] || return 0
    shift
  done
  return 1
}

# Allowed: with one of the folder's lines at least.
check_found ()
{
  local flags

  for flags in "${lines[@]}"; do
    if includes "$flags" "$1" "$2"; then
      ok
      return
    fi
  done
  no "$1 cannot include its own or lower $2: $(head -n 1 "$work/out")"
}

# Forbidden: with none of them.
check_hidden ()
{
  local flags

  for flags in "${lines[@]}"; do
    if includes "$flags" "$1" "$2"; then
      no "$1 can include $3/$2"
    elif grep -q "$2: No such file" "$work/out"; then
      ok
    else
      no "$1, $2: $(head -n 1 "$work/out")"
    fi
  done
}

# What no flag can forbid.
check_paths ()
{
  local found

  found=$(cd "$TOP_SRCDIR" && find src plugins client -name '*.[ch]' \
    -exec grep -nE '^ *# *include +"[^"]*/' {} +)
  if [ -z "$found" ]; then
    ok
  else
    no "includes by path: $found"
  fi
}

# The simulator looks into all layers.
check_private ()
{
  local header name found

  for header in $(cd "$TOP_SRCDIR" && find src plugins client -name '*.h'); do
    private "$TOP_SRCDIR/$header" || continue
    name=$(basename "$header")
    found=$(cd "$TOP_SRCDIR" && find src plugins client -name '*.[ch]' \
      ! -path "$(dirname "$header")/*" -exec grep -l "^#include \"$name\"" {} +)
    if [ -z "$found" ]; then
      ok
    else
      no "$header is private, and included by $found"
    fi
  done
}

# A layer's own tests link no higher layer.
check_links ()
{
  local i j below=(base volume buffer space object store)

  for i in 0 1 2 3 4 5; do
    for ((j = i + 1; j < 6; j++)); do
      if grep -q "lib${below[j]}\.la" \
        "$TOP_SRCDIR/src/${below[i]}/Makefile.am"; then
        no "src/${below[i]} links lib${below[j]}.la"
      else
        ok
      fi
    done
  done
}

while read -r folder allowed; do
  # shellcheck disable=SC2086 # a list
  check_folder "$folder" $allowed
done < <(rules)
check_paths
check_private
check_links
finish_cases
