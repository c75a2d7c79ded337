#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# SIGTERM with a client connected: nbdkit ends with status 0, and neither the
# control socket nor a lock is left (the socket of -U stays: nbdkit's habit).
# Requests that it still reads are answered with ESHUTDOWN, which is why
# `farpage stop` exists.

. "$(dirname "$0")/functions.sh"

truncate -s 32M "$dir/vol"
start_farpage a "$dir/vol" durability=volatile || exit 1
"$farpage" create disk 8M
open_client
ask open "$socket" disk >"$dir/out"
is 'write' "$(ask write 0 1048576 1)" ok
kill -TERM "$server"
# nbdkit waits for its connections to close; no longer than that
sleep 0.5
answer=$(ask read 0 4096)
note "a request after SIGTERM: $answer"
like "a request after SIGTERM: $answer" "$answer" \
  '^(ESHUTDOWN|ENOTCONN|EINVAL|FAILED|EPIPE|ECONNRESET)$'
ask abandon >"$dir/out"
ended 'after SIGTERM' 0
is 'no control socket is left' "$(find "$dir" -name '*.ctl*')" ''
unlike 'the log' "$(cat "$log")" 'Assert|assert|Sanitizer'

# The volume is free again, and its label known.
rm -f "$socket"
start_farpage a "$dir/vol" durability=volatile || no 'the volume is held'
"$farpage" create disk 8M
is 'nothing outlived the server' "$(script1 "open $socket disk" 'check 0 4096 0')" \
  ok
# ... also of a server that was killed
kill -KILL "$server"
wait "$server" 2>/dev/null
rm -f "$socket"
start_farpage a "$dir/vol" durability=volatile || no 'a dead server holds it'
kill -TERM "$server"
ended 'an idle server' 0
is 'no control socket is left' "$(find "$dir" -name '*.ctl*')" ''
finish
