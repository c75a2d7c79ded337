# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What mkinitramfs.sh, run-guest.sh and the tests share.  Sourced, never run.

# This tree is used by tests that must also run for a plain user, whose PATH
# may lack the places of modprobe, mkfs and nbd-client.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# guest_skip REASON: end a test that this machine cannot run.
guest_skip ()
{
  printf 'SKIP: %s\n' "$*" >&2
  exit 77
}

# guest_fail REASON: end a test that failed.
guest_fail ()
{
  printf 'FAIL: %s\n' "$*" >&2
  exit 1
}

# guest_need COMMAND:PACKAGE...: every command is here, or exit 77 with the
# line that brings all missing ones.
guest_need ()
{
  local item commands='' packages=''
  for item; do
    command -v "${item%%:*}" > /dev/null && continue
    commands+=" ${item%%:*}"
    packages+=" ${item##*:}"
  done
  test -z "$commands" ||
    guest_skip "missing:$commands; on Debian, 'apt-get install$packages'" \
      "brings them"
}

# guest_kernel: set $kernel to the newest installed cloud kernel's release, or
# to $GUEST_KERNEL if the caller chose one.
guest_kernel ()
{
  local image releases=()
  test "$(uname -m)" = x86_64 || guest_skip "guests are x86-64 only"
  kernel=${GUEST_KERNEL-}
  if [ -z "$kernel" ]; then
    for image in /boot/vmlinuz-*-cloud-amd64; do
      test -d "/lib/modules/${image#/boot/vmlinuz-}" || continue
      releases+=("${image#/boot/vmlinuz-}")
    done
    kernel=$(printf '%s\n' ${releases[@]+"${releases[@]}"} |
      sort -V | tail -n 1)
  fi
  if [ ! -r "/boot/vmlinuz-$kernel" ] || [ ! -d "/lib/modules/$kernel" ]; then
    guest_skip "no kernel ${kernel:-*-cloud-amd64} with modules; on Debian," \
      "'apt-get install linux-image-cloud-amd64' brings one"
  fi
}

# guest_results NAME: set $results to the folder FARPAGE_RESULTS/COMMIT/NAME, for
# lines to keep: empty without a commit, or with changes to one.
guest_results ()
{
  local commit
  results=
  test -n "${FARPAGE_RESULTS-}" || return 0
  # shellcheck disable=SC2154 # the caller's
  commit=$(git -C "$here" describe --always --dirty --abbrev=12 \
    --exclude='*' 2> /dev/null)
  case $commit in
    '' | *-dirty) echo "no commit: results are not kept" ;;
    *)
      results=$FARPAGE_RESULTS/$commit/$1
      mkdir -p "$results" || exit 1
      ;;
  esac
}

# guest_now: monotonic time in milliseconds.
guest_now ()
{
  local up
  read -r up _ < /proc/uptime
  printf '%d\n' "$((10#${up/./}0))"
}

# guest_seconds MS: as seconds with one decimal.
guest_seconds ()
{
  printf '%d.%d\n' "$(($1 / 1000))" "$(($1 % 1000 / 100))"
}

# guest_cpio DIR: DIR as an initramfs archive, on stdout.  Its length is a
# multiple of 512, so that archives can be joined.
guest_cpio ()
{
  (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
    cpio --null --create --format=newc --owner=0:0 --quiet)
}
