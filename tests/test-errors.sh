#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# The errors that a client sees on the wire: EPERM, ENOSPC, ESHUTDOWN, EIO,
# each where it is due, and never EINVAL for what is not the client's fault.

. "$(dirname "$0")/functions.sh"

start_farpage a mem:8M || exit 1
"$farpage" create disk 4M
"$farpage" create large 64M

# nobody has written to NAME, or who had is gone
free ()
{
  [ "$(object "$1" owner)" = '' ]
}

# EPERM: a connection that is there when another client becomes the owner
open_client # 0
is 'open' "$(ask open "$socket" disk)" 'ok 4194304'
open_client # 1
is 'a second one may write' "$(ask open "$socket" disk)" 'ok 4194304'
is 'it is the first that does' "$(ask write 0 4096 1)" ok
now=0
for request in 'write 0 4096 2' 'zero 0 4096' 'trim 0 4096'; do
  is "the other one: $request" "$(ask $request)" EPERM
done
is 'it may read' "$(ask check 0 4096 1)" ok
is 'it may flush' "$(ask flush)" ok

# EPERM: a connection that comes later is read-only
answers=$(script "open $socket disk" 'write 0 4096 3' 'zero 0 4096' \
  'trim 0 4096' 'check 0 4096 1' flush | tr '\n' ' ')
is 'a later one' "$answers" 'ok 4194304 read-only EPERM EPERM EPERM ok ok '
like 'the owner is told' "$(object disk owner)" "^pid ${clients[1]} "

# who had it goes away, and the next who writes owns it
kill "${clients[1]}"
wait "${clients[1]}" 2>/dev/null
until_true 5 free disk || no 'the owner stays'
is 'when the owner has gone' "$(ask write 0 4096 4)" ok

# ENOSPC: a disk larger than the pool
open_client
ask open "$socket" large >"$dir/out"
for at in $(seq 0 15); do
  answer=$(ask write $((at * 1048576)) 1048576 7)
  [ "$answer" = ok ] || break
done
is 'the pool is full' "$answer" ENOSPC

# ESHUTDOWN: a disk that was removed
ok 'rm --force' "$farpage" rm --force large
is 'read' "$(ask read 0 4096)" ESHUTDOWN
is 'write' "$(ask write 0 4096 1)" ESHUTDOWN
is 'zero' "$(ask zero 0 4096)" ESHUTDOWN
is 'trim' "$(ask trim 0 4096)" ESHUTDOWN
is 'flush' "$(ask flush)" ESHUTDOWN
is 'cache' "$(ask cache 0 4096)" ESHUTDOWN
is 'map' "$(ask map 0 4096)" ESHUTDOWN

# ESHUTDOWN: a generation that is fenced; the new one writes at once
s=$(printf '%032d' 7)
now=0
ask close >"$dir/out"
until_true 5 free disk || no 'the owner stays'
ask open "$socket" "disk~.$s.1" >"$dir/out"
is 'generation 1' "$(ask write 0 4096 1)" ok
is 'generation 2' "$(script1 "open $socket disk~.$s.2" 'write 0 4096 2')" ok
is 'generation 1 is fenced' "$(ask write 0 4096 3)" ESHUTDOWN
unlike 'generation 1 again' "$(script1 "open $socket disk~.$s.1")" '^ok'
is 'map' "$(ask map 0 4096)" ESHUTDOWN
is 'read' "$(ask read 0 4096)" ESHUTDOWN
is 'what generation 2 wrote' "$(script1 "open $socket disk" 'check 0 4096 2')" ok
# EIO: a medium that fails, here because somebody has cut the file
truncate -s 16M "$dir/vol"
"$farpage" stop >"$dir/out"
start_farpage b "$dir/vol" durability=volatile direct=no || exit 1
"$farpage" create disk 8M
open_client
ask open "$socket" disk >"$dir/out"
is 'write' "$(ask write 0 8388608 1)" ok
truncate -s 2M "$dir/vol"
is 'read' "$(ask read 0 8388608)" EIO
is 'the server counts it' "$(stat_of '.volumes[0].errors > 0')" true
is 'and per kind' "$(stat_of .requests.read.errors)" 1
is 'others are served' "$(ask check 8192 4096 1)" ok
alive || no 'the server died'
finish
