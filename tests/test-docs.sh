#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The parameters of `nbdkit PLUGIN --help` are those of the manual, both ways;
# the manual tells every form of an export name, and man finds no fault in it.

. "$(dirname "$0")/functions.sh"
requires man col

man=${TOP_SRCDIR:-$srcdir/..}/plugins/farpage/nbdkit-farpage-plugin.1
[ -r "$man" ] || no "no $man"

nbdkit_help ()
{
  LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 nbdkit "$plugin" --help
}

nbdkit_help | sed -n '/^\[volume=\]/,$p' |
  sed -nE 's/^\[?([a-z-]+)=.*/\1/p' | sort -u >"$dir/help"
# ".It Cm KEY Ns = ..." or ".It Oo Cm volume Ns = Oc ..."
sed -nE 's/^\.It (Oo )?Cm ([a-z-]+) ?Ns =.*/\2/p' "$man" | sort -u >"$dir/man"
is 'parameters of --help (<) and of the manual (>)' \
  "$(diff "$dir/help" "$dir/man")" ''
like 'there are parameters' "$(tr '\n' ' ' <"$dir/help")" \
  'control .*durability .*volume'

# Each parameter that is told works, and the synopsis has it.
while read -r key; do
  like "$key: the synopsis" "$(sed -n '/^\.Sh SYNOPSIS/,/^\.Sh DESC/p' "$man")" \
    "Cm $key"
done <"$dir/help"

text=$(MANWIDTH=200 man -P cat -l "$man" 2>/dev/null | col -b)
for form in 'NAME' 'swap/ID' 'swap/ID:SIZE' '~INSTANCE' \
  '~INSTANCE\.SESSION\.GENERATION' '~\.SESSION\.GENERATION'; do
  like "export form $form" "$text" "$form"
done
for default in 'linger=.*600' 'volatile with mem: alone' 'reserve=.*swap' \
  'direct=.*auto' 'XDG_RUNTIME_DIR'; do
  like 'a default is told' "${text//$'\n'/ }" "$default"
done
is 'man --warnings' "$(man --warnings -E UTF-8 -l -Tutf8 -Z "$man" 2>&1 \
  >/dev/null)" ''
finish
