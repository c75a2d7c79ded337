#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# A volume that another process has is waited for, then refused; who had it
# goes on undisturbed.  The wait is 30 s, so this test has a script of its own.

. "$(dirname "$0")/functions.sh"

truncate -s 16M "$dir/vol"
start_farpage first "$dir/vol" durability=volatile || exit 1
"$farpage" create disk 4M
script "open $socket disk" 'write 0 8192 7' >"$dir/out"

(run_nbdkit -f -U "$dir/second.sock" "$plugin" "$dir/vol" durability=volatile) \
  >"$dir/second.log" 2>&1 </dev/null &
second=$!
pids+=($second)
started=$SECONDS

# A lock that comes free in time: the same, with a server that goes away.
truncate -s 16M "$dir/vol2"
first_socket=$socket
start_farpage third "$dir/vol2" durability=volatile || exit 1
(run_nbdkit -f -U "$dir/fourth.sock" "$plugin" "$dir/vol2" durability=volatile \
  control="$dir/fourth.ctl") >"$dir/fourth.log" 2>&1 </dev/null &
pids+=($!)
ok 'the waiting server says so' until_true 15 \
  grep -q 'vol2: is in use; waiting' "$dir/fourth.log"
ok 'stop' "$farpage" stop
until_true 5 test -S "$dir/fourth.ctl"
ok 'a server that waited starts' "$farpage" stop --socket "$dir/fourth.ctl"

gave_up 'the second server' $second "$dir/second.log" 40 'not opened'
waited=$((SECONDS - started))
like "$waited s" $((waited >= 29 && waited <= 34)) 1
like 'the message' "$(cat "$dir/second.log")" 'vol: .*(in use|held|lock)'
is 'the first server serves' \
  "$(script1 "open $first_socket disk" 'check 0 8192 7')" ok
finish
