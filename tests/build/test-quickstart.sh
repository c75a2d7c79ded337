#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# contrib/quickstart with this build: its options, --once, serving until
# `farpage stop` and until Ctrl-C, a port that is taken; and what
# contrib/listen refuses.  The sources are reached by links from a folder of
# the test, so that ./farpage-data is there and not beside the sources.

# shellcheck source-path=SCRIPTDIR source=build-lib.sh
. "$(dirname "$0")/build-lib.sh"
unset FARPAGE_SOCKET XDG_RUNTIME_DIR

pids=()
finish ()
{
  for pid in "${pids[@]}"; do
    kill -TERM "$pid" 2>/dev/null && wait "$pid"
  done
  rm -rf "$work"
}
trap finish EXIT

for program in nbdkit nbdinfo nbdcopy mke2fs flock dpkg-query; do
  command -v $program >/dev/null || skip "no $program"
done
[ "$SANITIZERS" = no ] || skip 'nbdkit does not load a plugin with sanitizers'
tree=$work/tree
mkdir -p "$tree"
cp -R "$TOP_SRCDIR/contrib" "$tree"
chmod -R u+w "$tree" # a tarball being checked is read-only
for part in src plugins client docs configure; do
  ln -s "$TOP_SRCDIR/$part" "$tree/$part"
done
tool=$TOP_BUILDDIR/client/tool/farpage
listen=$TOP_BUILDDIR/contrib/listen
data=$tree/farpage-data

quickstart ()
{
  timeout 120 "$tree/contrib/quickstart" --build "$TOP_BUILDDIR" "$@" \
    >"$work/out" 2>"$work/err" </dev/null
}

# expect STATUS REGEX ARGUMENT...: the status, and what it says on stderr
expect ()
{
  local want=$1 regex=$2 status=0
  shift 2
  quickstart "$@" || status=$?
  if [ $status -eq "$want" ] && grep -qE -e "$regex" "$work/err"; then
    ok
  else
    no "quickstart $*: status $status: $(tail -n 3 "$work/err")"
  fi
}

# expect_in FILE REGEX
expect_in ()
{
  if grep -qE -e "$2" "$1"; then
    ok
  else
    no "no '$2' in $(tail -n 5 "$1")"
  fi
}

options ()
{
  expect 2 "unknown option '--sise'" --sise 1G
  expect 2 "unknown option 'x'" x
  expect 2 '--size needs a value' --size
  for size in '' x -1G 1.5G 1KB 0x10 99999999999999999999 9999999T; do
    expect 2 "--size: '$size' is not a size" --size "$size"
  done
  expect 2 'at least 64M' --size=0
  expect 2 'at least 64M' --size 63M
  for port in '' 0 65536 x -1 123456; do
    expect 2 "--port: '$port' is not a port" "--port=$port"
  done
  expect 2 '--listen needs an address' --listen ''
  expect 2 'is not a directory' --build "$work/none"
  expect 1 'not enough space for a pool of 1048576G.*--size' --size 1024T
  expect 1 'too small, 256M' --once --size 128M
  expect 1 'not enough memory.*--size' --memory --size 1024T
  expect 1 'listen: no[.]such[.]host, port' --listen no.such.host --memory \
    --size 64M
  if quickstart --help && [ ! -s "$work/err" ]; then
    ok
  else
    no '--help'
  fi
  expect_in "$work/out" '^Usage: '
}

once ()
{
  if quickstart --once --size 256M; then
    ok
  else
    no "--once: $(cat "$work/out" "$work/err")"
  fi
  expect_in "$work/out" 'kill -9 [0-9]* .*: ok'
  expect_in "$work/out" 'the two are equal: ok'
  expect_in "$work/out" '^ *0 *67108864 .*hole,zero'
  expect_in "$work/out" 'all well, in [0-9]+ s'
  if [ -z "$(ls "$data")" ] || [ "$(ls "$data")" = "$before" ]; then
    ok
  else
    no "--once leaves $(ls "$data")"
  fi
}

# serve ARGUMENT...: in the background; its pid is $served
serve ()
{
  : >"$work/out"                # the words of an earlier one are none of it
  # As a terminal has it: bash lets what runs in the background ignore SIGINT.
  env --default-signal=INT setsid "$tree/contrib/quickstart" --build "$TOP_BUILDDIR" "$@" \
    >"$work/out" 2>"$work/err" </dev/null &
  served=$!
  pids+=("$served")
  for _ in $(seq 600); do
    grep -q 'Ctrl-C stops it' "$work/out" && return 0
    kill -0 "$served" 2>/dev/null || break
    sleep 0.1
  done
  no "quickstart $* does not serve: $(cat "$work/out" "$work/err")"
  return 1
}

# ended STATUS REGEX: it ends by itself now, with these last words
ended ()
{
  local status=0

  wait "$served" || status=$?
  if [ $status -eq "$1" ]; then
    ok
  else
    no "quickstart ended with status $status, not $1"
  fi
  expect_in "$work/out" "$2"
  if [ -e "$data/nbd.sock" ] || [ -e "$data/control.sock" ]; then
    no 'sockets are left'
  else
    ok
  fi
}

# The URI of the disk, as quickstart printed it.
printed_uri ()
{
  grep -oE "$1" "$work/out" | head -n 1
}

by_tcp='nbd://localhost:[0-9]*/disk'
by_unix='nbd\+unix:///disk[^ ]*sock'

# Some port that is free now; nothing promises that it stays so.
free_port ()
{
  local port

  for port in $(seq $((20000 + RANDOM % 10000)) 32000); do
    if ! (: <"/dev/tcp/localhost/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

# kill -9 for the server, by the pid that it tells
kill_served ()
{
  kill -KILL "$("$tool" stat --json --socket "$data/control.sock" |
    grep -oE '"pid": *[0-9]+' | grep -oE '[0-9]+')"
}

serving ()
{
  local port file

  port=$(free_port)
  serve --size 128M --port "$port" || return
  for uri in "$(printed_uri "$by_tcp")" "$(printed_uri "$by_unix")"; do
    if nbdinfo --size "$uri" >"$work/size" 2>&1 &&
      [ "$(cat "$work/size")" = $((32 * 1024 * 1024)) ]; then
      ok
    else
      no "nbdinfo $uri: $(cat "$work/size")"
    fi
  done
  # A second one: the pool is served; --once: the port is taken, it goes on.
  expect 1 'another quickstart serves it .*farpage stop' --port "$port"
  before=$(ls "$data")
  once
  expect 1 "port $port of localhost is in use" --once --size 256M --port "$port"
  "$tool" stop --socket "$data/control.sock" >"$work/stop" 2>&1
  ended 0 'the server was stopped'

  # Pages of other machines are not for everyone.
  if [ -z "$(find "$data" -perm /077 ! -type l)" ]; then
    ok
  else
    no "others may read $(find "$data" -perm /077)"
  fi
  # Again, on the same file, with what a client writes and the server's death.
  file=$(stat -c %i "$data/pool")
  serve --port "$port" || return
  expect_in "$work/out" 'Its disks outlive the server'
  head -c 8M /dev/urandom >"$work/written"
  nbdcopy "$work/written" "$(printed_uri "$by_tcp")" >"$work/copy" 2>&1 ||
    no "nbdcopy: $(cat "$work/copy")"
  kill_served
  ended 1 'Ctrl-C stops it'
  serve --port "$port" || return
  nbdcopy "$(printed_uri "$by_unix")" "$work/read" >"$work/copy" 2>&1 ||
    no "nbdcopy: $(cat "$work/copy")"
  if cmp -n 8388608 "$work/written" "$work/read"; then
    ok
  else
    no 'what was written is not there after kill -9'
  fi
  expect 1 'another quickstart serves it' --size 64M
  # What Ctrl-C sends.
  kill -INT "$served"
  ended 0 'stopped; its disks are in .*, for the next start'
  expect 1 'has a store of 128M' --size 64M
  if [ "$(stat -c '%i %s' "$data/pool")" = "$file $((128 << 20))" ]; then
    ok
  else
    no 'the pool was not used again'
  fi

  # The server is killed: that is an error.
  serve --port "$port" --memory --size 64M || return
  expect_in "$work/out" 'Nothing in it outlives the server'
  kill_served
  ended 1 'Ctrl-C stops it'
  expect_in "$work/err" 'the server ended with status 137'
}

# What a program inherits from listen, and what listen refuses.
listening ()
{
  local port

  port=$(free_port)
  # shellcheck disable=SC2016 # for the inner shell
  if "$listen" 127.0.0.1 "$port" "$work/l.sock" \
    bash -c '[ "$LISTEN_FDS" = 2 ] && [ "$LISTEN_PID" = $$ ] &&
      [ -S /dev/fd/3 ] && [ -S /dev/fd/4 ] && [ ! -e /dev/fd/5 ]' 7</dev/null
  then
    ok
  else
    no 'listen hands over the wrong things'
  fi
  # Its socket file is dead now, and taken over.
  refuses 0 '' 127.0.0.1 "$port" "$work/l.sock" true
  refuses 2 Usage 127.0.0.1 "$port" "$work/l.sock"
  refuses 1 'No such file' 127.0.0.1 "$port" "$work/none/l.sock" true
  refuses 1 'too long' 127.0.0.1 "$port" "$work/$(printf '%0200d' 0)" true
  refuses 1 'No such file' 127.0.0.1 "$port" "$work/l.sock" "$work/none"
  refuses 1 'port x' 127.0.0.1 x "$work/l.sock" true
  echo mine >"$work/file"
  refuses 3 "$work/file: Address already in use" \
    127.0.0.1 "$port" "$work/file" true
  expect_in "$work/file" mine
  # While another one holds both.
  "$listen" 127.0.0.1 "$port" "$work/l.sock" sleep 30 &
  pids+=($!)
  for _ in $(seq 100); do
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.05
  done
  refuses 3 "127.0.0.1, port $port: Address already" \
    127.0.0.1 "$port" "$work/2.sock" true
  refuses 3 "l.sock: Address already" \
    127.0.0.1 "$(free_port)" "$work/l.sock" true
}

refuses ()                      # STATUS REGEX ARGUMENT...
{
  local want=$1 regex=$2 status=0
  shift 2
  "$listen" "$@" >"$work/out" 2>&1 || status=$?
  if [ $status -eq "$want" ] && grep -q -e "$regex" "$work/out"; then
    ok
  else
    [ -z "$regex" ] && [ $status -eq "$want" ] && ok && return
    no "listen $*: status $status: $(cat "$work/out")"
  fi
}

# apt is asked for what is missing and nothing else, and only if something is;
# as root through sudo that asks no password.  Stand-ins take the calls.
packages ()
{
  local bin=$work/bin PATH=$work/bin:$PATH

  mkdir "$bin"
  printf '#!/bin/sh\necho 1000\n' >"$bin/id"
  cat >"$bin/dpkg-query" <<EOF
#!/bin/sh
sed -n 's/^run *\([^ ]*\) .*/\1 installed/p' $tree/contrib/packages.sh |
  grep -vxF -e "\$(cat $work/missing)"
EOF
  printf '#!/bin/sh\necho "$*" >>%s\n' "$work/apt" >"$bin/apt-get"
  printf '#!/bin/sh\nexit 1\n' >"$bin/sudo"
  chmod +x "$bin"/*

  echo 'libjansson-dev installed' >"$work/missing"
  : >"$work/apt"
  expect 1 "password: run 'sudo apt-get install libjansson-dev'" --once
  expect_in "$work/out" 'libjansson-dev +JSON of the control socket'
  verdict_apt 0
  printf '#!/bin/sh\nshift\nexec "$@"\n' >"$bin/sudo"
  # It goes on, to a pool that does not fit.
  expect 1 'not enough space' --size 1024T
  verdict_apt 2
  expect_in "$work/apt" ' install --no-install-recommends libjansson-dev$'
  echo none >"$work/missing"
  : >"$work/apt"
  expect 1 'not enough space' --size 1024T
  verdict_apt 0
}

verdict_apt ()                  # CALLS
{
  if [ "$(wc -l <"$work/apt")" -eq "$1" ]; then
    ok
  else
    no "apt-get was called: $(cat "$work/apt")"
  fi
}

listening
options
packages
serving
finish_cases
