#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# farpage format: what it makes, what it refuses and leaves as it was, and that
# it can be killed anywhere.

. "$(dirname "$0")/functions.sh"
requires mkfs.ext4 blkid
cd "$dir" || exit 1

# format ARGUMENT...: $status, $out, $err
format ()
{
  "$farpage" format "$@" >"$dir/out" 2>"$dir/err" </dev/null
  status=$? out=$(cat "$dir/out") err=$(cat "$dir/err")
}

# no_format STATUS REGEX ARGUMENT...: refused with one line
no_format ()
{
  local want=$1 regex=$2

  shift 2
  format "$@"
  is "format $*: status" "$status" "$want"
  like "format $*" "$err" "^farpage: .*$regex"
  is "format $*: one line" "$(wc -l <"$dir/err")" 1
  is "format $*: no output" "$out" ''
}

# shellcheck disable=SC2317 # called by ok
# good FILE...: are these volumes of one store, each with four good slots?
good ()
{
  "$farpage" info "$@" --json | jq -e --argjson n $# '
    (.volumes | length) == $n and
    (.volumes | all(.good and (.slots | all(.good)))) and
    ([.volumes[].best.uuid] | unique | length) == 1' >"$dir/good" 2>&1 &&
    "$farpage" dump "$@" --freemap >"$dir/good" 2>&1 &&
    "$farpage" dump "$@" --log >"$dir/good" 2>&1
}

# ---- what it makes ----

format a --size 64M
is 'format: status' "$status" 0
like 'format' "$out" '^Store [0-9a-f]{32}'
like 'format: sizes' "$out" '0 +a +64.0M +32.0M +4.0K +32.0M'
is 'format: nothing else is said' "$err" ''
ok 'a store' good a
is 'for its owner alone' "$(stat -c %a a)" 600
ok 'allocated' test "$(stat -c %b a)" -ge 131072
like 'its state' "$("$farpage" info a)" 'state +clean'
is 'its log has nothing bad' "$("$farpage" dump a --log --json |
  jq -c '[.item, .nr_good, .nr_bad, .nr_empty]')" '["ring",0,0,8192]'
is 'blkid knows it not, and sees nothing else' "$(blkid -p a 2>&1)" ''

format b c d --size=9M --ring 1M --json
is 'three volumes: status' "$status" 0
is 'three volumes' "$(jq -c '[.ring_bytes, [.volumes[] | .volume, .name,
  .size_bytes, .freemap_bytes, .rest_bytes]]' <<<"$out")" \
  '[1048576,[0,"b",9437184,4096,8368128,1,"c",9437184,4096,9416704,2,"d",9437184,4096,9416704]]'
ok 'a store of three' good d b c
is 'its number' "$("$farpage" info c --json | jq '.volumes[0].best.volume')" 1
is 'random uuids' "$("$farpage" info a b --json |
  jq '[.volumes[].best.uuid] | unique | length')" 2

format e --size 40M --sparse
is 'sparse: status' "$status" 0
ok 'sparse' test "$(stat -c %b e)" -lt 81920

truncate -s 33M f
format f --ring 512K
is 'a file that is there: status' "$status" 0
ok 'a file that is there' good f
ok 'and is allocated' test "$(stat -c %b f)" -ge 67584

# ---- what it refuses ----

cp a before
no_format 1 'a: .*--force' a
no_format 1 'durable store' a b
ok 'nothing is touched' cmp a before
no_format 1 'nope: there is no such file .give --size' nope
no_format 1 'sub/x: .*directory' sub/x --size 8M
no_format 1 'x: .*bytes' x --size 64K
ok 'nothing is left' test ! -e x
no_format 1 'x: .*ring.*at least 524288' x --size 8M --ring 64K
ok 'nothing is left' test ! -e x
no_format 1 'x: .*too few .at least 8.*or a ring of at most 8[0-9]{6}.$' \
  x --size 8M --ring 8M
ok 'nothing is left' test ! -e x
no_format 1 'x: a ring of 9223372036854775807 bytes is larger than any volume' \
  x --size 8M --ring 9223372036854775807
ok 'nothing is left' test ! -e x

# a small first volume beside large ones: what is told is enough, and no less
truncate -s 2M root
truncate -s 4T large
no_format 1 'root: has 2097152 bytes.*at least 1[0-9]{9}, for the log of' \
  root large --sparse
truncate -s 32G large
no_format 1 'root: has 2097152 bytes.*few .at least [0-9]+, for the log of' \
  root large --sparse
least=${err##*at least } least=${least%%,*}
no_format 1 'root: a ring of 1048576 .*at least [0-9]+: make the ring larger' \
  root large --sparse --ring 1M
ring=${err##*at least } ring=${ring%%:*}
no_format 1 "root: has 2097152 bytes.*at least $least, for the log of" \
  root large --sparse --ring "$ring"
truncate -s $((least - 4096)) root
no_format 1 "at least $least, for the log of" root large --sparse
is 'nothing is written' "$(tr -d '\0' <root | wc -c)" 0
truncate -s "$least" root
format root large --sparse
is 'as large as was told: status' "$status" 0
ok 'as large as was told' good root large
rm -f root large
no_format 1 'a: is there already, and has 64.0M' x a --size 8M
ok 'nothing is left' test ! -e x
no_format 1 'x: is given twice' x ./x --size 8M
ok 'nothing is left' test ! -e x
no_format 1 'mem:1G: a store in memory needs no format' mem:1G
no_format 1 '/dev/null: ' /dev/null
no_format 1 '\.: ' .
no_format 2 'takes VOLUME'
no_format 2 "'1x' is no size" x --size 1x
no_format 2 "'0' is no size" x --size 0
no_format 2 "unknown option '--socket'" x --socket y

truncate -s 32M ext4
mkfs.ext4 -q ext4 2>"$dir/mkfs"
no_format 1 'ext4: .*ext4' ext4
like 'still ext4' "$(blkid -p ext4)" 'TYPE="ext4"'
truncate -s 32M text
printf 'dear diary' | dd of=text conv=notrunc status=none
no_format 1 'text: .*data' text
is 'still text' "$(head -c 10 text)" 'dear diary'

# all volumes are looked at before one is touched
truncate -s 32M empty
no_format 1 'ext4: .*ext4' empty ext4
is 'nothing is touched' "$(tr -d '\0' <empty | wc -c)" 0

# ---- force ----

for volume in a ext4 text; do
  format "$volume" --force
  is "$volume --force: status" "$status" 0
  like "$volume --force: says so" "$err" "$volume: .*overwriting"
  ok "$volume --force" good "$volume"
done
is 'no ext4 any more' "$(blkid -p ext4 2>&1)" ''
format b c d --force
is 'again: status' "$status" 0
format d c --force
is 'fewer, in another order: status' "$status" 0
ok 'fewer, in another order' good c d
is 'd is its root' "$("$farpage" info d --json | jq '.volumes[0].best.volume')" 0

# ---- volumes that somebody has ----

truncate -s 16M live
start_farpage live "$dir/live" durability=volatile || exit 1
no_format 1 'live: .*in use' live
no_format 1 'live: .*in use' live --force
ok 'the server goes on' "$farpage" create disk 1M
ok 'stop' "$farpage" stop
format live
is 'the label of a volatile store is nothing: status' "$status" 0
ok 'a store where a label was' good live

# ---- interrupted ----

# killed_at N: format of two volumes that dies at its N-th write or flush
killed_at ()
{
  strace -f -o "$dir/strace.out" -e trace=pwrite64,pwritev,pwritev2,fdatasync \
    -e inject=pwrite64,pwritev,pwritev2,fdatasync:signal=KILL:when="$1" \
    "$farpage" format k1 k2 --ring 1M >"$dir/out" 2>&1
}

if command -v strace >/dev/null &&
  strace -o "$dir/strace.out" -e trace=none true 2>/dev/null; then
  ends=0 stores=0
  for n in $(seq 1 60); do
    rm -f k1 k2
    truncate -s 3M k1 k2
    { killed_at "$n"; } 2>/dev/null && break
    ends=$((ends + 1))
    if "$farpage" info k1 >"$dir/out" 2>&1; then
      stores=$((stores + 1))
      ok "killed at $n: a whole store" "$farpage" dump k1 k2 --freemap
    fi
  done
  ok "killed at $ends places, $stores times with a store" \
    test "$ends" -gt 15 -a "$stores" -gt 2 -a "$stores" -lt "$ends"
  format k1 k2 --force
  is 'format after it: status' "$status" 0
  ok 'format after it' good k1 k2

  # on a terminal, and only there, it tells how far it is
  if command -v script >/dev/null; then
    slow="strace -f -o $dir/strace.out -e trace=pwrite64,pwritev,pwritev2 \
      -e inject=pwrite64,pwritev,pwritev2:delay_enter=250000"
    command script -qec "$slow $farpage format k3 --ring 8M --size 16M" /dev/null \
      >"$dir/tty" 2>&1 </dev/null
    like 'progress' "$(cat "$dir/tty")" 'format: [0-9.]+M of 10.0M written, '
    $slow "$farpage" format k3 --force >"$dir/out" 2>"$dir/err"
    unlike 'no progress in a file' "$(cat "$dir/err")" 'written'
  fi
else
  note 'no strace here: not killed anywhere'
fi
finish
