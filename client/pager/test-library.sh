#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# libfarpage as others see it: the header, the map, the library and the manual
# have the same functions, constants and fields.  It is installed to a folder of
# its own; programs in C and C++ are made with that copy by pkg-config, shared
# and static, and so is the one in docs/pager.md, which then pages.
#
# Environment: SRCDIR, CC, SANITIZERS.

# shellcheck disable=SC2016 # backticks are the document's
set -u
export LC_ALL=C
: "${SRCDIR:?}" "${CC:?}" "${SANITIZERS:?}"
header=$SRCDIR/../include/farpage.h
page=$SRCDIR/farpage.3
guide=$SRCDIR/../../docs/pager.md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cases=0
bad=0

no ()
{
  bad=$((bad + 1))
  echo "FAILED: $*"
}

# same WHAT FILE FILE LEAST: and there are so many lines at least
same ()
{
  cases=$((cases + 1))
  if ! diff "$2" "$3" >"$work/diff"; then
    no "$1:"
    cat "$work/diff"
  elif [ "$(wc -l <"$2")" -lt "$4" ]; then
    no "$1: only $(wc -l <"$2") are found"
  fi
}

# works WHAT COMMAND...
works ()
{
  local what=$1

  shift
  cases=$((cases + 1))
  "$@" >"$work/log" 2>&1 && return
  no "$what:"
  head -n 20 "$work/log"
}

# ---- names ----

# What the compiler sees of the header, a declaration a line.
declarations ()
{
  "${cc[@]}" -E -P "$header" | grep -v '^#' | tr '\n' ' ' | sed 's/;/;\n/g'
}

# Types and arguments without blanks that mean nothing.
squeeze ()
{
  sed -E -e 's/_Bool/bool/g' -e 's/ +/ /g' -e 's/ ?([(),*]) ?/\1/g' -e 's/^ //' | sort
}

# The prototypes in the manual's synopsis.
synopsis ()
{
  sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESC/p' "$page" | awk '
    function strip(s) { gsub(/"/, "", s); return s }
    $1 == ".Ft" { type = strip(substr($0, 5)) }
    $1 == ".Fn" {
      n = split($0, part, "\"")
      args = ""
      for (i = 2; i <= n; i += 2)
        args = args (i > 2 ? "," : "") part[i]
      if (n < 2)
        args = $3
      print type " " $2 "(" args ")"
    }
    $1 == ".Fo" { name = $2; args = "" }
    $1 == ".Fa" { args = args (args != "" ? "," : "") strip(substr($0, 5)) }
    $1 == ".Fc" { print type " " name "(" args ")" }'
}

# The fields of its structs.
fields ()
{
  sed -e 's|/\*.*\*/||' -e '/\/\*/,/\*\//{s|/\*.*||;t;d}' "$header" | awk '
    /^struct farpage_[a-z_]* \{/ { inside = 1; next }
    /^\};/ { inside = 0 }
    inside { text = text " " $0 }
    END {
      n = split(text, part, ";")
      for (i = 1; i <= n; i++) {
        s = part[i]
        if (match(s, /\(\*[a-z_]+\)/))
          print substr(s, RSTART + 2, RLENGTH - 3)
        else {
          m = split(s, name, ",")
          for (j = 1; j <= m; j++) {
            sub(/\[.*/, "", name[j])
            if (match(name[j], /[a-z_]+ *$/))
              print substr(name[j], RSTART, RLENGTH)
          }
        }
      }
    }' | tr -d ' ' | sort -u
}

names ()
{
  read -r -a cc <<<"$CC"
  declarations | sed -nE 's/^ *(extern )?(.*farpage_[a-z_]+ ?\(.*\));$/\2/p' |
    squeeze | grep -E '^[a-z0-9_ ]*\*?farpage_' >"$work/prototypes"
  synopsis | squeeze >"$work/synopsis"
  same 'prototypes of header (<) and manual (>)' \
    "$work/prototypes" "$work/synopsis" 24

  sed -nE 's/^extern [^(;]*[ *](farpage_[a-z_]+) \(.*/\1/p' "$header" |
    sort >"$work/header"
  sed -nE 's/^ *(farpage_[a-z_]+);$/\1/p' "$SRCDIR/farpage.map" |
    sort >"$work/map"
  nm -D --defined-only .libs/libfarpage.so |
    awk '$2 != "A" { print $3 }' | sort >"$work/library"
  sed 's/$/@@FARPAGE_0.1/' "$work/header" >"$work/versions"
  sed -n '/^\.Sh DESC/,$p' "$page" |
    sed -nE 's/^\.F[no] (farpage_[a-z_]+).*/\1/p' | grep -v _fn |
    sort -u >"$work/described"
  same 'header (<) and map (>)' "$work/header" "$work/map" 23
  same 'header (<) and library (>)' "$work/versions" "$work/library" 23
  same 'header (<) and what the manual describes (>)' \
    "$work/header" "$work/described" 23

  sed -nE -e 's/^#define (FARPAGE_[A-Z_]+) .*/\1/p' \
    -e 's/^  (FARPAGE_[A-Z_]+)[ ,].*/\1/p' -e 's/^  (FARPAGE_[A-Z_]+)$/\1/p' \
    "$header" | sort -u >"$work/constants"
  grep -oE 'Dv FARPAGE_[A-Z_]+' "$page" | sed 's/Dv //' |
    sort -u >"$work/told"
  same 'constants of header (<) and manual (>)' \
    "$work/constants" "$work/told" 20

  fields >"$work/fields"
  sed -n '/^\.Sh DESC/,$p' "$page" | grep '^\.It Va' |
    grep -oE '[a-z_]{2,}' | grep -v -x -e It -e Va | sort -u >"$work/items"
  same 'fields of header (<) and manual (>)' "$work/fields" "$work/items" 50
  cases=$((cases + 1))
  objdump -p .libs/libfarpage.so >"$work/objdump"
  grep -q 'SONAME *libfarpage.so.0' "$work/objdump" ||
    no 'the name of the library'
}

# ---- programs ----

# An own make: ours runs with this one's options and targets.
install_copy ()
{
  env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make install DESTDIR="$work/copy"
}

# config ARGUMENT...: pkg-config of the copy
config ()
{
  PKG_CONFIG_LIBDIR=$(dirname "$pc"):$system_pc pkg-config \
    --define-variable=prefix="$prefix" "$@" farpage
}

# make_program WHAT COMPILER SOURCE: shared as $work/shared, static as
# $work/static
make_program ()
{
  local warn=(-Wall -Wextra -Werror -pedantic "${flags[@]}") libs

  read -r -a libs <<<"$(config --cflags --libs)"
  works "$1, shared" "$2" "${warn[@]}" "$3" -o "$work/shared" "${libs[@]}"
  # where there is the archive alone
  read -r -a libs <<<"$(config --cflags --libs --static)"
  works "$1, static" "$2" "${warn[@]}" "$3" -o "$work/static" \
    "${libs[@]/#-L*/-L$work/archive}"
  cases=$((cases + 1))
  if readelf -d "$work/static" 2>/dev/null | grep -q libfarpage; then
    no "$1, static: wants libfarpage.so"
  fi
}

# runs WHAT: both of them, and the version is that of the .pc file
runs ()
{
  works "$1, shared, runs" env LD_LIBRARY_PATH="$lib" "$work/shared"
  works "$1, static, runs" "$work/static"
  cases=$((cases + 1))
  [ "$(cat "$work/log")" = "$(config --modversion)" ] ||
    no "$1: version '$(cat "$work/log")' and '$(config --modversion)'"
}

programs ()
{
  local cxx=g++

  system_pc=$(pkg-config --variable pc_path pkg-config)
  works 'make install' install_copy
  pc=$(find "$work/copy" -name farpage.pc)
  lib=$(find "$work/copy" -name libfarpage.a -exec dirname {} +)
  prefix=$work/copy$(sed -n 's/^prefix=//p' "$pc")
  nm -g --defined-only "$lib/libfarpage.a" | awk 'NF == 3 { print $3 }' |
    sort >"$work/archived"
  same 'header (<) and archive (>)' "$work/header" "$work/archived" 23
  mkdir "$work/archive"
  cp "$lib/libfarpage.a" "$work/archive"
  cp "$SRCDIR/test-library.c" "$work/c.c"
  cp "$SRCDIR/test-library.c" "$work/cc.cc"
  make_program C "${cc[0]}" "$work/c.c"
  runs C
  [[ $CC != *clang* ]] || cxx=clang++
  if command -v "$cxx" >/dev/null; then
    make_program C++ "$cxx" "$work/cc.cc"
    runs C++
  else
    echo "no $cxx ('apt-get install g++'): C++ is left out"
  fi
}

# ---- the guide ----

# limit NUMBER NAME FILE VALUE: a number of the guide's table is the code's
limit ()
{
  cases=$((cases + 2))
  sed -n '/^## /h; /^|/{G; /\n## \(Limits\|Windows\)/P}' "$guide" |
    grep -qw -e "$1" || no "docs/pager.md: no limit of $1"
  grep -qF "#define $2 $4" <(tr -s ' ' <"$SRCDIR/$3") ||
    no "docs/pager.md: $1, but $3 has another $2"
}

# What it names is there, and its numbers are right.
guide ()
{
  grep -ohE '`(farpage|FARPAGE)_[A-Za-z_]+' "$guide" \
    "$SRCDIR/../../docs/far-memory.md" | tr -d '`' | sort -u >"$work/named"
  { cat "$work/header" "$work/constants"; echo farpage_stat; } |
    sort -u >"$work/known"
  comm -23 "$work/named" "$work/known" >"$work/unknown"
  same 'names in docs that the header has not' "$work/unknown" \
    /dev/null 0
  sed -n '/^## Limits/,/^## /p' "$guide" | awk -F'|' '/^\|/ { print $5 }' |
    grep -o '`[a-z_.\[]*\]*[a-z_.]*`' | sed 's/.*\.//' | tr -d '`' |
    grep -vx -e farpage_stat -e farpage_file_stat |
    sort -u >"$work/stats"
  comm -23 "$work/stats" "$work/fields" >"$work/unknown"
  same 'limits in docs/pager.md that farpage_stat has not' "$work/unknown" \
    /dev/null 0
  cases=$((cases + 1))
  [ "$(wc -l <"$work/stats")" -ge 15 ] || no 'docs/pager.md: the limits'
  limit 4096 SWAP_OPS_MAX swap.h 4096u
  limit 2048 SWAP_REQUESTS_MAX swap.h 2048u
  limit 1048576 SWAP_OBJECTS_MAX swap.h '(1u << 20)'
  limit 16 LINK_CONNS_MAX nbd-link.h 16u
  limit 4096 FARPAGE_COUNT_MAX ../include/farpage.h 4096u
  limit 256 FILE_IOS file.h 256u
  limit 128 FILE_PUT_IOS file.h 128u
  limit 256 FILE_MAPPED_MAX file-mapped.h 256u
  limit 255 FARPAGE_NAME_MAX ../include/farpage.h 255u
  limit '2^50' OBJECT_BYTES_MAX ../../src/base/types.h '(UINT64_C (1) << 50)'
  limit 24 WINDOW_DEMAND window.h '(WINDOW_REQUESTS * 3 / 8)'
  limit 16 WINDOW_WSYNC window.h '(WINDOW_REQUESTS / 4)'
  limit 8 WINDOW_AHEAD window.h '(WINDOW_REQUESTS / 8)'
  limit 24 WINDOW_REQUESTS window.h 64u
  limit 1024 WINDOW_NR_MAX window.h 1024u
  limit 4 WINDOW_ADMIN window.h 4u
}

# example FILE WORDS: its program compiles, runs, and says so
example ()
{
  local file=$SRCDIR/../../docs/$1

  sed -n '/^```c$/,/^```$/p' "$file" | grep -v '^```' >"$work/guide.c"
  make_program "docs/$1" "${cc[0]}" "$work/guide.c"
  if ! command -v nbdkit >/dev/null; then
    echo "no nbdkit ('apt-get install nbdkit'): docs/$1 is not run"
    return
  fi
  for how in shared static; do
    works "docs/$1, $how, runs" env LD_LIBRARY_PATH="$lib" \
      nbdkit -U - memory 64M --run "$work/$how"' "$uri"'
    cases=$((cases + 1))
    [ "$(cat "$work/log")" = "$2" ] ||
      no "docs/$1, $how: $(cat "$work/log")"
  done
}

flags=()
[ "$SANITIZERS" = no ] || flags=("-fsanitize=$SANITIZERS")
names
guide
programs
example pager.md 'from afar'
if [ -w /dev/userfaultfd ] || [ "$(id -u)" -eq 0 ]; then
  example far-memory.md 8796090925056
else
  echo 'no right to /dev/userfaultfd: docs/far-memory.md is not run'
fi
echo "test-library: $cases cases, $bad failed"
[ "$bad" -eq 0 ]
