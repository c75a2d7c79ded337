# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash disable=SC2034,SC2154
# (program and running belong to who sources this)
#
# What quickstart and check share: the Debian packages farpage needs, with the
# reason for each, and how messages look.  To be sourced.

# Group, package, what for.  Groups: `run` to build and serve; `test` for
# `make check`; `guest` for the tests with a kernel of their own (amd64).
packages ()
{
  cat <<'LIST'
run   gcc                      compiles it
run   libc6-dev                the C library's headers
run   make                     builds it
run   autoconf                 makes configure
run   automake                 makes the Makefile.in files
run   libtool                  links the plugin
run   pkgconf                  finds the libraries below
run   nbdkit                   the server that loads the plugin
run   nbdkit-plugin-dev        its headers
run   libev-dev                event loop of the control socket, of libfarpage
run   libnbd-dev               the protocol, for libfarpage and tests
run   libnl-genl-3-dev         netlink: farpage attach and the nbd driver
run   liburing-dev             I/O to files and block devices
run   libisal-dev              CRC32C
run   libjansson-dev           JSON of the control socket
run   libblkid-dev             sees a file system before it is overwritten
run   libnbd-bin               nbdinfo, nbdcopy: looks and copies
run   e2fsprogs                mke2fs, e2fsck: the image that --once copies
test  libcmocka-dev            unit tests
test  jq                       reads the tool's JSON
test  procps                   looks at processes
test  iproute2                 ss, looks at sockets
test  strace                   kills and fails system calls at will
test  qemu-system-common       qemu-storage-daemon: a volume that logs and fails
test  python3                  reads its log
test  fio                      many requests at a time, checked
test  qemu-utils               qemu-img, qemu-io, qemu-nbd: another peer
test  nbd-server               one more server, for libfarpage
test  gnutls-bin               certtool, psktool: keys for TLS
test  g++                      a program in C++ with libfarpage
test  gnuplot-nox              draws what farpage bench measured
test  librsvg2-bin             rsvg-convert: is that a picture?
test  man-db                   shows a manual page
test  groff-base               formats it
test  bsdextrautils            col, makes it plain text
test  clang                    a second compiler
test  clang-format             checks the form of the code
test  shellcheck               checks the scripts
test  mandoc                   checks the manual pages
test  systemd                  systemd-analyze: checks the units
test  valgrind                 checks memory (make check-valgrind)
guest qemu-system-x86          the machine
guest linux-image-cloud-amd64  its kernel
guest busybox-static           small programs in it
guest dash                     its shell
guest kmod                     its modules
guest cpio                     packs its files
guest nbd-client               attaches the disk
guest util-linux               mkswap, fstrim
guest mount                    swapon, mount
guest xfsprogs                 mkfs.xfs
LIST
}

note ()
{
  printf '%s: %s\n' "$program" "$*"
}

warn ()
{
  printf '%s: %s\n' "$program" "$*" >&2
}

# die TEXT: what is wrong and what helps.
die ()
{
  warn "$*"
  exit 1
}

# usage_error TEXT: the command line makes no sense.
usage_error ()
{
  warn "$* (see $program --help)"
  exit 2
}

# with_progress WHAT LOG COMMAND...: run it, its output into LOG, and tell
# now and then, after two seconds first, that it is still going.  Its status is the command's.
with_progress ()
{
  local what=$1 log=$2 pid start=$SECONDS next=2 taken status=0
  shift 2

  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  running=$pid
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.1
    taken=$((SECONDS - start))
    if [ $taken -ge $next ]; then
      next=$((taken + (taken < 30 ? taken : 30)))
      note "$what... ${taken} s"
    fi
  done
  wait "$pid" || status=$?
  running=
  return $status
}

# show_log LOG: its end, for a failure.
show_log ()
{
  warn "what failed in, and the end of, $1:"
  { head -n -20 "$1" | { grep -B8 -E '^\[  FAILED  \]|^FAIL: ' || true; } |
      tail -n 40
    tail -n 20 "$1"; } | sed 's/^/    /' >&2
}

# install_packages GROUP...: what is missing of these groups, and nothing if
# all is there: then no network and no root are needed.
install_packages ()
{
  local groups=" $* " group package why missing=() have arch

  if ! command -v dpkg-query >/dev/null; then
    warn "not a Debian system: cannot look for packages; configure will name" \
      "what it misses"
    return 0
  fi
  arch=$(dpkg --print-architecture)
  have=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' |
    sed -n 's/ installed$//p')
  while read -r group package why; do
    [[ $groups == *" $group "* ]] || continue
    [ "$group" != guest ] || [ "$arch" = amd64 ] || continue
    if ! grep -qxF -e "$package" <<<"$have"; then
      [ ${#missing[@]} -gt 0 ] || note 'installing with apt-get:'
      printf '    %-24s %s\n' "$package" "$why"
      missing+=("$package")
    fi
  done < <(packages)
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

apt_install ()
{
  local as_root=() log
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o DPkg::Lock::Timeout=120)

  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "packages are missing, and there is no" \
      "sudo: run as root 'apt-get install $*', then this again"
    sudo -n true 2>/dev/null || die "packages are missing, and sudo wants a" \
      "password: run 'sudo apt-get install $*', then this again"
    as_root=(sudo -n)
  fi
  log=$(mktemp)
  if ! with_progress 'apt-get update' "$log" \
    "${as_root[@]}" "${apt[@]}" update; then
    show_log "$log"
    warn 'apt-get update failed; trying with the lists that are there'
  fi
  if ! with_progress 'apt-get install' "$log" "${as_root[@]}" "${apt[@]}" \
    install --no-install-recommends "$@"; then
    show_log "$log"
    rm -f "$log"
    die "apt-get could not install: $* (is there a network, and are these in" \
      'the sources of /etc/apt?)'
  fi
  rm -f "$log"
}

make_writable ()
{
  mkdir -p "$1" 2>/dev/null || :
  [ -w "$1" ] || die "$1: cannot write there (whose is it? remove it, or use" \
    'a copy of the sources of your own)'
}

# build DIRECTORY CONFIGURE-OPTION...: configure there, once, and make.
# The log of what went wrong is DIRECTORY/build.log.
build ()
{
  local dir=$1 log=$1/build.log jobs
  shift

  jobs=$(nproc)
  make_writable "$dir"
  if [ ! -x configure ]; then
    with_progress 'autoreconf' "$log" autoreconf -fi || {
      show_log "$log"
      die 'autoreconf failed (see above)'
    }
  fi
  if [ ! -f "$dir/config.status" ]; then
    with_progress 'configure' "$log" env -C "$dir" "$PWD/configure" "$@" || {
      show_log "$log"
      rm -f "$dir/config.status"
      die "configure failed (see above, and $dir/config.log)"
    }
  fi
  with_progress "building in $dir" "$log" make -j"$jobs" -C "$dir" || {
    show_log "$log"
    die "the build failed (all of it: $log; after a change of system or" \
      "folder, 'rm -r $dir' helps)"
  }
}
