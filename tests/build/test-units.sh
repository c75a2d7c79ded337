#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The systemd units: systemd-analyze finds nothing wrong with them, and little
# that the server could do beyond its work.
#
# Environment: TOP_BUILDDIR, TOP_SRCDIR.

set -u
# shellcheck source-path=SCRIPTDIR/.. source=../cases.sh
. "$TOP_SRCDIR/tests/cases.sh"
export LC_ALL=C.UTF-8

command -v systemd-analyze >/dev/null || {
  echo 'SKIP: no systemd-analyze (apt-get install systemd)'
  exit 77
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
units=$TOP_BUILDDIR/contrib/systemd

# The programs of this build, which may not be installed.
tool=$(realpath "$TOP_BUILDDIR/client/tool/farpage")
cp "$TOP_SRCDIR/contrib/systemd/farpage.socket" "$dir"
for unit in farpage.service farpage-attach@.service; do
  cases=$((cases + 1))
  grep -q '@[A-Za-z]*@' "$units/$unit" && no "$unit: a place is not filled in"
  sed "s|=[^ ]*/farpage |=$tool |" "$units/$unit" >"$dir/$unit"
done

# verify UNIT...: without a word
verify ()
{
  cases=$((cases + 1))
  SYSTEMD_UNIT_PATH=$dir: systemd-analyze verify --man=no \
    --recursive-errors=no "$@" >"$dir/out" 2>&1 || no "verify $*: $(cat "$dir/out")"
  [ ! -s "$dir/out" ] || no "verify $*: $(cat "$dir/out")"
}

cp "$dir/farpage-attach@.service" "$dir/farpage-attach@nbd0.service"
verify "$dir/farpage.socket" "$dir/farpage.service"
verify "$dir/farpage-attach@nbd0.service"

cases=$((cases + 1))
systemd-analyze security --offline=true --threshold=25 "$dir/farpage.service" \
  >"$dir/out" 2>&1 || no "security: $(tail -n 5 "$dir/out")"
tail -n 2 "$dir/out"

# The verifier would see it: an unknown key, a program that is not there.
for wrong in 's/^LimitMEMLOCK=/LimitMEMLOK=/' 's|^ExecStop=.*|ExecStop=/none|'; do
  cases=$((cases + 1))
  mkdir -p "$dir/wrong"
  cp "$dir/farpage.socket" "$dir/wrong"
  sed "$wrong" "$dir/farpage.service" >"$dir/wrong/farpage.service"
  SYSTEMD_UNIT_PATH=$dir/wrong: systemd-analyze verify --man=no \
    --recursive-errors=no "$dir/wrong/farpage.service" >"$dir/out" 2>&1
  [ -s "$dir/out" ] || no "verify: '$wrong' is not seen"
done
echo "test-units: $cases cases, $failed failed"
[ "$failed" -eq 0 ]
