#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# As a daemon: threads, control socket and I/O rings are made behind the fork;
# the control socket in its default place has the daemon's pid in its name,
# relative paths hold, and `farpage` finds the only server there is.

. "$(dirname "$0")/functions.sh"
requires nbdcopy

unset FARPAGE_SOCKET
truncate -s 64M "$dir/vol"
socket=$dir/d.sock
serve ()
{
  rm -f "$socket" "$dir/d.pid" # nbdkit leaves them
  (cd "$dir" && run_nbdkit -U d.sock -P d.pid "$plugin" vol \
    durability=volatile "$@") >"$dir/d.log" 2>&1
  is "nbdkit comes back ($*)" $? 0
  until_true 10 test -s "$dir/d.pid"
  server=$(cat "$dir/d.pid")
  pids+=("$server")
}

serve
until_true 10 test -S "$XDG_RUNTIME_DIR/farpage/$server.sock"
is 'the control socket' "$(ls "$XDG_RUNTIME_DIR/farpage")" "$server.sock"
is 'its mode' "$(stat -c %a "$XDG_RUNTIME_DIR/farpage/$server.sock")" 600
is 'the tool finds it' "$(stat_of .pid)" "$server"
"$farpage" create disk 32M
like 'the engine behind the fork' "$(stat_of '.volumes[0].engine')" \
  '(io_uring|sync|pread)'
note "engine: $(stat_of '.volumes[0] | "\(.engine) direct=\(.direct)"')"
head -c 32M /dev/urandom >"$dir/in"
ok 'nbdcopy in' nbdcopy -C 4 "$dir/in" "$(uri disk)"
ok 'nbdcopy out' nbdcopy -C 4 "$(uri disk)" "$dir/back"
ok 'the same' cmp "$dir/in" "$dir/back"
like 'farpage stop' "$("$farpage" stop)" "^stopped .pid $server.$"
ok 'the daemon has gone' until_true 5 is_gone "$server"
is 'no control socket is left' \
  "$(find "$dir/run" "$dir/c.sock" -type s 2>/dev/null)" ''

serve control=c.sock
until_true 10 test -S "$dir/c.sock"
ok 'a relative control socket' "$farpage" ls --socket "$dir/c.sock"
kill -TERM "$server"
ok 'the daemon has gone' until_true 5 is_gone "$server"
is 'no control socket is left' \
  "$(find "$dir/run" "$dir/c.sock" -type s 2>/dev/null)" ''

serve control=
until_true 10 test -S "$socket"
like 'no control socket' "$("$farpage" ls 2>&1)" 'no server found'
like 'it serves' "$(script1 "open $socket swap/a:1M" 'write 0 4096 1')" ok
kill -TERM "$server"
ok 'the daemon has gone' until_true 5 is_gone "$server"
finish
