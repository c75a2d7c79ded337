#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# configure names the Debian package that brings what is missing, and refuses
# values it does not know.

# shellcheck source-path=SCRIPTDIR source=build-lib.sh
. "$(dirname "$0")/build-lib.sh"

# configure sees the .pc files of this folder alone.
export PKG_CONFIG_PATH='' PKG_CONFIG_LIBDIR=$work/pc
mapfile -t pc_dirs < <(env -u PKG_CONFIG_LIBDIR pkg-config \
  --variable pc_path pkg-config | tr : '\n')

# Everything this machine has, but MODULE.
pc_without ()
{
  local dir

  rm -rf "$work/pc"
  mkdir "$work/pc"
  for dir in "${pc_dirs[@]}"; do
    [ ! -d "$dir" ] || find "$dir" -name '*.pc' -exec ln -sf -t "$work/pc" {} +
  done
  rm -f "$work/pc/$1.pc"
}

# configure ARGUMENT...: in an empty folder; its words are in $work/out.  What
# it has found out about the compiler is kept, about libraries it is not.
configure ()
{
  rm -rf "$work/build"
  mkdir "$work/build"
  (cd "$work/build" && timeout 120 "$TOP_SRCDIR/configure" --no-create \
    --cache-file="$work/cache" "$@") >"$work/out" 2>&1 </dev/null
  local status=$?
  [ ! -f "$work/cache" ] || sed -i '/pkg_cv_/d; /ev_h/d' "$work/cache"
  return $status
}

missing ()                      # MODULE PACKAGE
{
  pc_without "$1"
  refused "apt-get install .*$2"
}

warned ()                       # MODULE PACKAGE
{
  pc_without "$1"
  if configure && grep -q "apt-get install .*$2" "$work/out"; then
    ok
  else
    no "without $1: $(tail -n 3 "$work/out")"
  fi
}

refused ()                      # REGEX ARGUMENT...
{
  local regex=$1
  shift
  if configure "$@"; then
    no "configure $* is content, without '$regex'"
  elif grep -q -e "$regex" "$work/out"; then
    ok
  else
    no "configure $*, no '$regex': $(tail -n 3 "$work/out")"
  fi
}

[ -x "$TOP_SRCDIR/configure" ] || skip 'no configure'
missing nbdkit nbdkit-plugin-dev
missing liburing liburing-dev
missing libisal libisal-dev
missing jansson libjansson-dev
missing blkid libblkid-dev
warned cmocka libcmocka-dev
missing libnbd libnbd-dev
pc_without none
# libev has no .pc file in Debian: as if the compiler had not found it.
rm -f "$work/pc/libev.pc"
ac_cv_header_ev_h=no refused 'apt-get install libev-dev'
refused 'enable-sanitizers takes' --enable-sanitizers=memory
refused 'enable-sanitizers takes' --enable-sanitizers=address,thread
refused 'enable-sanitizers takes' --enable-sanitizers
finish_cases
