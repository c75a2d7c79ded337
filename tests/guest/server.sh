# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# The server that a guest uses, on the host's loopback.  Sourced by tests after
# guest-lib.sh.  GUEST_SERVER chooses it:
#
#   farpage   the plugin of this tree
#   file      nbdkit's file plugin on a sparse file: a peer that also gives
#             space back, to see whether a failure is ours
#
# and, for server_start alone, swap as people have it today:
#
#   nbdkit-memory   nbdkit's memory plugin, with --swap
#   nbd-server      on a sparse file
#
# A guest's own servers are its script's affair: server_root puts them there.
#
# FARPAGE_PLUGIN and FARPAGE_TOOL are files of the build tree (Makefile.am).
# The server_* variables are exported, so that a test's --on-ask side has them.

export GUEST_SERVER=${GUEST_SERVER:-farpage}

# server_command DIR PORT SIZE: set $command.
server_command ()
{
  command=(nbdkit -f -i 127.0.0.1 -p "$2" -P "$1/pid")
  case $GUEST_SERVER in
    farpage)
      if [ ! -e "${FARPAGE_PLUGIN:?}" ] || [ ! -x "${FARPAGE_TOOL:?}" ]; then
        guest_fail "no $FARPAGE_PLUGIN or no $FARPAGE_TOOL: run 'make' first"
      fi
      command+=("$FARPAGE_PLUGIN" mem:1200M "control=$server_sock" linger=5)
      ;;
    file)
      truncate -s "$3" "$server_file" || return
      command+=(file "$server_file")
      ;;
    nbdkit-memory) command+=(--swap memory "$3") ;;
    nbd-server)
      truncate -s "$3" "$server_file" || return
      printf '[generic]\nlistenaddr = %s\nport = %s\n[swap]\nexportname = %s\n' \
        127.0.0.1 "$2" "$server_file" > "$1/nbd-server.conf"
      # In the foreground it takes one connection, and no more.
      # shellcheck disable=SC2016 # of the other shell
      command=(bash -c 'nbd-server -p "$0/daemon" -C "$0/nbd-server.conf" ||
        exit
        until [ -s "$0/daemon" ]; do sleep 0.1; done
        trap "kill $(< "$0/daemon"); exit 0" TERM
        mv "$0/daemon" "$0/pid"
        while :; do sleep 1 & wait $!; done' "$1")
      ;;
    *) guest_fail "GUEST_SERVER=$GUEST_SERVER is none that is known here" ;;
  esac
}

# server_start DIR SIZE: start the server on a free port of 127.0.0.1, with its
# files in DIR, in a session of its own so that only server_stop ends it.
# SIZE is how large a peer's only export is.  Sets server_port and server_pid.
# Not in a subshell: Debian's nbdkit -f ends with the thread that started it.
server_start ()
{
  local dir=$1 command tries pause
  export server_sock=$dir/control server_file=$dir/disk
  export server_samples=$dir/samples

  # A port that nobody has is found by trying.
  for tries in 1 2 3 4 5 6 7 8 9 10; do
    server_port=$((20000 + RANDOM % 12000))
    server_command "$dir" $server_port "$2" || return
    setsid "${command[@]}" < /dev/null 2> "$dir/server.log" &
    server_pid=$!
    for ((pause = 0; pause < 300; pause++)); do
      if [ -s "$dir/pid" ]; then return 0; fi
      kill -0 $server_pid 2> /dev/null || break
      sleep 0.1
    done
    server_stop
    grep -q 'in use' "$dir/server.log" || break
  done
  cat "$dir/server.log" >&2
  guest_fail "the server did not start ($tries tries)"
}

# server_stop: end the server if there is one; fails if it had to be killed,
# or ended with an error.
server_stop ()
{
  local pid=${server_pid-} pause
  test -n "$pid" || return 0
  server_pid=''
  kill -TERM "$pid" 2> /dev/null
  for ((pause = 0; pause < 100; pause++)); do
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
  done
  if kill -KILL "$pid" 2> /dev/null; then
    echo "the server did not end in 10 s and was killed" >&2
  fi
  wait "$pid"
}

# server_create NAME SIZE: make a named export, where the server knows names.
server_create ()
{
  test "$GUEST_SERVER" = farpage || return 0
  "$FARPAGE_TOOL" create "$1" "$2" --socket "$server_sock"
}

# server_mapped: how many bytes of the server's space are in use.
server_mapped ()
{
  case $GUEST_SERVER in
    farpage)
      "$FARPAGE_TOOL" stat --json --socket "$server_sock" |
        jq -e .pool.mapped_bytes
      ;;
    file) echo "$(($(stat -c '%b * %B' "$server_file")))" ;;
  esac
}

# server_sample NAME: note and print how much of the server is mapped now.
server_sample ()
{
  local mapped
  mapped=$(server_mapped) || guest_fail "the server does not tell its space"
  echo "$1 $mapped" | tee -a "${server_samples:?}"
}

# server_mapped_at NAME...: the largest of these samples.
server_mapped_at ()
{
  local name
  for name; do sed -n "s/^$name //p" "$server_samples"; done |
    sort -n | tail -n 1
}

# server_root DIR PROGRAM...: a root for guests that have the servers themselves
# (DIR/root), and their GUEST_INITRAMFS.
server_root ()
{
  local name programs=() dir=$1
  for name in nbd-server /usr/lib/*/nbdkit/plugins/nbdkit-file-plugin.so; do
    name=$(command -v "$name" || echo "$name")
    test ! -r "$name" || programs+=("$name")
  done
  export GUEST_INITRAMFS=$dir/initramfs
  # shellcheck disable=SC2086,SC2154 # a list; the caller's
  "$here/mkinitramfs.sh" --root-disk "$dir/root" "$GUEST_INITRAMFS" \
    $GUEST_PROGRAMS "$FARPAGE_PLUGIN" "$FARPAGE_TOOL" \
    "$(command -v nbdkit)" "${@:2}" ${programs[@]+"${programs[@]}"} || exit
}

# ---- a server that is killed, and started again where it was ----
# A daemon, so that also a test's --on-ask side can start it.  Its files are in
# server_dir, its pid in server_dir/pid; its memory is in server_staging.  A
# filter of nbdkit is in server_filter, as an option, its parameters are in
# server_parameters.

# lasting_make DIR SIZE NAME...: what lasting_start serves: exports of SIZE.
lasting_make ()
{
  local name
  export server_dir=$1
  mkdir "$server_dir/exports" || return
  server_staging=$(mktemp -d /dev/shm/farpage-guest.XXXXXX) ||
    guest_skip "no tmpfs in /dev/shm"
  export server_staging
  export server_volumes="$server_dir/volume0 $server_dir/volume1"
  export server_pool="$server_volumes sparse=yes swap-keep=yes"
  server_pool+=" staging=$server_staging"
  case $GUEST_SERVER in
    farpage)
      # shellcheck disable=SC2086 # a list
      "$FARPAGE_TOOL" format $server_volumes --size 512M --ring 4M --sparse
      ;;
    file) for name in "${@:3}"; do truncate -s "$2" "$1/exports/$name"; done ;;
    *) guest_fail "GUEST_SERVER=$GUEST_SERVER is neither farpage nor file" ;;
  esac || return
  lasting_start || return
  test "$GUEST_SERVER" = farpage || return 0
  for name in "${@:3}"; do
    "$FARPAGE_TOOL" create "$name" "$2" --socket "$server_dir/control" || return
  done
}

# The control socket comes once nbdkit is in the background.
lasting_ready ()
{
  local pause
  test "$GUEST_SERVER" = farpage || return 0
  for ((pause = 0; pause < 300; pause++)); do
    if [ -S "$server_dir/control" ]; then return 0; fi
    sleep 0.1
  done
  guest_fail "the server has no control socket"
}

# lasting_start: with the port that it had, or a free one.
lasting_start ()
{
  local command tries port
  rm -f "$server_dir/control" "$server_dir/pid"
  command=(file "dir=$server_dir/exports")
  # shellcheck disable=SC2206 # a list
  test "$GUEST_SERVER" = file ||
    command=("$FARPAGE_PLUGIN" $server_pool ${server_parameters-}
      "control=$server_dir/control")
  for tries in 1 2 3 4 5 6 7 8 9 10; do
    port=${server_port:-$((20000 + RANDOM % 12000))}
    # shellcheck disable=SC2086 # a list
    if setsid nbdkit ${server_filter-} -i 127.0.0.1 -p "$port" \
      -P "$server_dir/pid" \
      "${command[@]}" < /dev/null > "$server_dir/log" 2>&1; then
      export server_port=$port
      lasting_ready
      return
    fi
    grep -q 'in use' "$server_dir/log" || break
    sleep 0.5
  done
  cat "$server_dir/log" >&2
  guest_fail "the server did not start ($tries tries)"
}

# lasting_gone: wait until the server that was killed has let go of all.
lasting_gone ()
{
  local pid pause
  read -r pid < "$server_dir/pid" || return
  for ((pause = 0; pause < 1000; pause++)); do
    if ! kill -0 "$pid" 2> /dev/null ||
      grep -q '^State:.*zombie' "/proc/$pid/status" 2> /dev/null; then
      return 0
    fi
    sleep 0.02
  done
  guest_fail "the server was not killed"
}

# lasting_kill: the server, as it is.
lasting_kill ()
{
  kill -KILL "$(< "$server_dir/pid")"
  lasting_gone
}

# lasting_forget: what a killed server left in memory is lost.
lasting_forget ()
{
  rm -rf "${server_staging:?}" && mkdir -m 700 "$server_staging"
}

# lasting_end: all that lasting_make made outside of its DIR.
lasting_end ()
{
  if [ -s "${server_dir-}/pid" ]; then lasting_kill 2> /dev/null; fi
  if [ -n "${server_staging-}" ]; then rm -rf "$server_staging"; fi
}
