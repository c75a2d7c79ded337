#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Export names that make no sense, or mean nothing here, are refused with a
# message; the server and what is on its disks are as before.

. "$(dirname "$0")/functions.sh"

start_farpage a mem:64M || exit 1
"$farpage" create disk 8M
open_client
like 'open disk' "$(ask open "$socket" disk)" 'ok 8388608'
is 'write' "$(ask write 4096 4096 9)" ok

# bad NAME: by NBD_OPT_GO and by NBD_OPT_INFO
bad ()
{
  local verb

  for verb in open probe; do
    unlike "$verb '${1:0:40}'" "$(script1 "$verb $socket $1")" '^ok'
  done
  is "after '$1'" "$(ask check 4096 4096 9)" ok
  alive || no "the server died of '$1'"
}

# told NAME MESSAGE: the log tells one mistake of a client a second
told ()
{
  local text

  sleep 1.1
  : >"$log"
  bad "$1"
  text=$(tr -d '\0' <"$log")
  like "'${1:0:40}': the log" "$text" "$2"
}

told none 'no such disk .make it with'
told 'disk\xff' 'not UTF-8'
bad '\xc0\xaf'
bad 'a\x01b'
bad 'a/b'
bad .hidden
bad disk@snap
bad swap/
bad swap/:1M
told swap/X 'its size is not known .say swap/ID:SIZE'
told swap/X:0 'is 0 or too large'
bad swap/X:-1
bad swap/X:
bad swap/X:9223372036854775808
bad swap/X:1Q
bad swap/a/b:1M
told swap/X:65M 'no room to reserve'
bad swap/X:1T
told "disk~00000000000000000000000000000000" 'instance is gone'
bad "swap/X:1M~00000000000000000000000000000000"
bad disk~0
bad disk~.0.1
bad "disk~.$(printf '%032d' 0).x"
bad "disk~.$(printf '%032d' 0).99999999999999999999"
bad "$(printf '%0256d' 0)"
bad "$(printf '%04096d' 0)"
is 'nothing was made' "$("$farpage" ls --json | jq -r '.objects[].name')" disk

# An ID has one size as long as it lives.
like 'swap/Y:1M' "$(script1 "open $socket swap/Y:1M")" 'ok 1048576'
told swap/Y:2M 'in use with another size'
like 'swap/Y' "$(script1 "open $socket swap/Y")" 'ok 1048576'

# libnbd and nbdkit both know that 4096 is the limit; the raw one goes out.
unlike '4097 bytes' "$(script1 "long-name $socket 4097")" 'reply 0x3'
unlike '16384 bytes' "$(script1 "long-name $socket 16384")" 'reply 0x3'
is 'a long name is heard' "$(script1 "long-name $socket 8")" 'reply 0x80000006'
is 'after all' "$(ask check 4096 4096 9)" ok
alive || no 'the server died'
finish
