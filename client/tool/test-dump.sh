#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# farpage info and dump: each structure is printed as it was written (by
# dump-image), damage is named and never followed, and nothing is changed.
# Environment: FARPAGE and DUMP_IMAGE (programs), TOP_SRCDIR,
# FARPAGE_SEED.

set -u
# shellcheck source-path=SCRIPTDIR/../../tests source=cases.sh
. "$TOP_SRCDIR/tests/cases.sh"
export LC_ALL=C.UTF-8
unset FARPAGE_SOCKET
farpage=$(realpath "${FARPAGE:?}") image=$(realpath "${DUMP_IMAGE:?}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/farpage-dump.XXXXXX") || exit 1
holder=0
finish ()
{
  [ $holder -eq 0 ] || kill $holder 2>/dev/null
  cd / && rm -rf "$dir"
}
trap finish EXIT
cd "$dir" || exit 1

# run STATUS ARGUMENT...: with nothing but "farpage: ..." lines on stderr
run ()
{
  local want=$1 status

  shift
  cases=$((cases + 1))
  timeout 40 "$farpage" "$@" >out 2>err </dev/null
  status=$?
  [ $status -eq "$want" ] ||
    no "farpage $*: status $status, not $want: $(tail -2 out) $(cat err)"
  ! grep -qv '^farpage: ' err || no "farpage $*: $(cat err)"
}

# has TEXT [FILE]: a line of the output is TEXT, or begins with it
has ()
{
  cases=$((cases + 1))
  grep -qe "^ *$1" "${2-out}" || no "'$1' is not in: $(head -40 "${2-out}")"
}

hasnt ()
{
  cases=$((cases + 1))
  ! grep -qe "$1" out || no "'$1' is in: $(head -40 out)"
}

# json FILTER: true of the lines of the output together
json ()
{
  cases=$((cases + 1))
  jq -se "$1" out >jq.out 2>&1 || no "jq '$1': $(head -c 2000 out)"
}

# poke FILE BLOCK BYTE TEXT
poke ()
{
  printf '%b' "$4" | dd of="$1" bs=1 seek=$(($2 * 4096 + $3)) conv=notrunc \
    status=none
}

# block_copy FILE FROM TO
block_copy ()
{
  dd if="$1" of="$1" bs=4096 skip="$2" seek="$3" count=1 conv=notrunc \
    status=none
}

fresh ()
{
  cp good v
}

run 0 format good --size 8M --ring 1M
cases=$((cases + 1))
first=$("$image" good) || no 'dump-image'
sum=$(cksum good)

# ---- each structure, as people and programs see it ----

run 0 dump good
has 'slot 1 of good, block 2046: good'
has 'slot 2 of good, block 1: good'
has 'sequence=5 epoch=1 state=in use entry_bytes=12'
has "members:"
run 0 dump good --slot --json
json 'length == 4 and all(.item == "slot" and .good) and
  (map(.sequence) | sort) == [2, 3, 4, 5] and
  (.[0].members | length) == 1 and .[1].table == "0:'"$first"'" and
  .[1].retired == [{volume: 0, block: 2000, count: 5},
                   {volume: 0, block: 2010, count: 1}] and .[0].retired == []'

run 0 dump good --log
has 'log 1: good'
has 'record=map object=0x1000 page=7 nr=3 block=0:800'
has 'record=zero object=0x0 page=20 nr=10'
has 'record=free object=0x0 page=40 nr=5'
has '.*bytes_behind=48'
has "record=node object=0x1000 level=0 index=2 block=0:$((first + 4))"
has "record=unnode object=0x1000 level=0 index=1 block=0:$((first + 5))"
has 'record=object object=0x0 place=6 id=0x1002'
has 'kind=undo lsn=3 epoch=1 durable=2 bytes=3968 image_of=0:'"$first"
has 'nr_good=3 nr_bad=0 nr_empty=253 redo_lsn=1 durable_lsn=4'
run 0 dump good --log --json
json 'map(.lsn) == [1, 2, 3, null] and
  .[0].records[0].crc == ["0x11111111", "0x22222222", "0x33333333"]'

run 0 dump good --table
has 'object 0x1000, place 0: good'
has 'name=vm1' <(tr ' ' '\n' <out)
has 'name=626164ff0a6e616d65' <(tr ' ' '\n' <out) # no UTF-8: in hex
has 'nr_objects=2'
run 0 dump good --table --json
json '.[0].name == "vm1" and .[0].reserved and .[1].state == "dying"'

run 0 dump good --object 0x1000 --json
json '[.[1:][] | [.at, .nr_pages, .kind, .block]] ==
  [["0", 10, "block", "0:500"], ["10", 1, "block", "0:700"],
   ["20", 10, "zero", null], ["512", 2, "block", "0:511"]]'
run 0 dump good --object 4096
has 'pages 20'
run 1 dump good --object 0x1234
has 'object 0x1234: BAD: there is no such object'

run 0 dump good --freemap
has 'used 0:0'
has "nr_blocks=$first\$"
has 'used 0:2046'
has "nr_blocks=2048 nr_used=$((first + 2))"
run 0 dump good --node "0:$((first + 3))" --json
json '.[0].good and .[0].type == "map" and .[0].nr_used == 21 and
  .[0].entries[3] == {"page": 3, "block": "0:503", "crc": "0xc0de0003"}'
run 0 dump good --node "$first"
has 'type=inner level=1 blk=0:'"$first"
has "child=0 blk=0:$((first + 1)) blk_cycle=1"
run 0 dump good --node "0:$((first - 1))" --json
json '.[0].type == "freemap" and .[0].used[0] == {first: 0, nr_blocks: '"$first"'}'

run 0 info good
has 'state   was not closed: its next start recovers it'
has '1   2046         5      1  counts'
has 'retired 6 blocks that failed a write: 0:2000-2004, 0:2010'
run 0 info good --json
json '.[0].volumes[0] | .good and .best.sequence == 5 and
  (.slots | length) == 4 and .in_use == false'
cases=$((cases + 1))
[ "$(cksum good)" = "$sum" ] || no 'the volume was changed'

# ---- several volumes ----

run 0 format r p --size 4M --ring 512K
run 0 info p r
has 'p: 4.0M, 1024 blocks, volume 1 of 2'
has 'r: 4.0M, 1024 blocks, volume 0 of 2 (root)'
run 0 dump p r --freemap
has 'freemap of volume 1'
run 1 dump r --freemap
has 'node 1:2, level 0, index 0: BAD: is on a volume that was not named'
has 'freemap of volume 0'
run 1 dump p --log
has 'farpage: volume 0 of the store is not among those named' err
run 0 dump p --node 1:2
run 1 dump r good --table
has 'farpage: good: has the same number as r' err
run 1 info r nothing
has 'farpage: nothing: ' err

# ---- damage ----

# one slot: the next best counts
fresh
poke v 2046 100 '\0377'
run 0 info v
has '1   2046         0      0  its CRC is wrong'
has '0      0         4      1  counts'
run 1 dump v
has 'slot 1 of v, block 2046: BAD: its CRC is wrong'
run 0 dump v --table # as of that slot
has 'nr_objects=0'

# all of them
for block in 0 1 2046 2047; do
  poke v $block 100 '\0377'
done
run 1 info v
has 'farpage: v: no superblock is good .run .farpage check' err
has 'v: 8.0M, 2048 blocks: no good superblock'
run 1 dump v --table
has 'farpage: v: no good superblock, so nothing can be followed' err
run 0 dump v --node "0:$((first + 1))" # on any volume
has 'type=table'
truncate -s 8M zeros
run 1 info zeros
has 'farpage: zeros: not a farpage volume' err
run 1 dump zeros
has 'slot 0 of zeros, block 0: BAD: there is no superblock'
hasnt 'version='

# a leaf of the table
fresh
poke v $((first + 1)) 300 '\0377'
run 1 dump v --table
has "node 0:$((first + 1)), level 0, index 0: BAD: its checksum is wrong"
has 'nr_objects=0'
run 1 dump v --node "$((first + 1))"
has "node 0:$((first + 1)): BAD: its checksum is wrong"
has 'name=vm1' <(tr ' ' '\n' <out)
run 1 dump v --object 0x1000
has '.*BAD: there is no such object'

# a leaf where another should be, and one that is gone
fresh
block_copy v $((first + 4)) $((first + 3))
run 1 dump v --object 0x1000 --json
json '(map(select(.good == false)) | length) == 1 and
  .[1].error == "was written for another block" and .[-1].at == "512"'
run 1 dump v --node 0:500
has 'node 0:500: BAD: is no node'
run 1 dump v --node 0:99999
has '.*BAD: is behind its volume'
run 1 dump v --node 7:1
has '.*BAD: is on a volume that was not named'
run 1 dump v --node 0xffffffffffffffff
has '.*BAD: there can be no such block'

# a node that its parent's last write should have replaced
run 0 format stale --size 8M --ring 1M
cases=$((cases + 1))
"$image" stale stale >out || no 'dump-image stale'
run 1 dump stale --object 0x1000
has '.*level 1, index 0: BAD: is of another cycle than what points to it'
hasnt 'pages'

# log blocks
fresh
poke v $((2 + 2)) 200 '\0377'
block_copy v $((2 + 3)) $((2 + 9))
run 1 dump v --log
has 'log place 2: BAD: its checksum is wrong'
has 'log place 9: BAD: belongs into another place'
has 'log 3: good'
has 'nr_good=2 nr_bad=2'

# ---- somebody has it ----

if command -v qemu-io >/dev/null; then
  qemu-io -f raw "$dir/good" -c 'sleep 20000' >/dev/null 2>&1 &
  holder=$!
  for _ in $(seq 100); do
    "$farpage" info good --json | jq -e '.volumes[0].in_use' >jq.out && break
    sleep 0.05
  done
  run 0 info good
  has 'state   in use by a server'
  run 0 dump good --log
  kill $holder
  wait $holder 2>/dev/null
  holder=0
fi

# ---- usage ----

run 2 dump good --log --table
has 'farpage: dump: one thing at a time' err
run 2 dump good --node x
has "farpage: dump: --node: 'x' is no block" err
run 2 dump good --node 0:
run 2 dump good --node 64:1
run 2 dump good --node -1
run 2 dump good --object vm1
has "farpage: dump: --object: 'vm1' is no id" err
run 2 dump
run 2 info
run 2 info good --socket x
run 1 dump good ./good
has 'farpage: ./good: is given twice' err

# ---- whatever is there ----

RANDOM=${FARPAGE_SEED:-$RANDOM}
echo "FARPAGE_SEED=$RANDOM"
RANDOM=${FARPAGE_SEED:-$RANDOM}
for n in $(seq 40); do
  fresh
  for block in 0 1 2046 2047 3 4 5 $((first - 1)) "$first" $((first + 1)) \
    $((first + 2)) $((first + 3)); do
    [ $((RANDOM % 3)) -eq 0 ] || continue
    case $((RANDOM % 3)) in
    0) poke v "$block" $((RANDOM % 4096)) "\\0$((RANDOM % 4))$((RANDOM % 8))7" ;;
    1) block_copy v $((RANDOM % 270)) "$block" ;;
    2) dd if=/dev/urandom of=v bs=4096 seek="$block" count=1 conv=notrunc \
      status=none ;;
    esac
  done
  for what in --slot --log --table --freemap '--object 0x1000' \
    "--node $first" "--node $((first + 3))"; do
    cases=$((cases + 1))
    # shellcheck disable=SC2086 # an option and its value
    timeout 40 "$farpage" dump v $what --json >out 2>err
    [ $? -le 1 ] || no "round $n, $what: $(tail -3 err)"
    [ ! -s out ] || jq -se . out >jq.out 2>&1 || no "round $n, $what: no JSON"
  done
done
echo "test-dump: $cases cases, $failed failed"
[ "$failed" -eq 0 ]
