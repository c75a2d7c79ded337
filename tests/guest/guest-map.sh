# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest, for test-guest-map.sh: memory from afar with this kernel's
# userfaultfd.  Numbers are sorted in EXPORT-a's memory, eight times as much as
# the budget, and a table is filled in EXPORT-b's.  Then as a user who has no
# right to handle faults, and as one to whom it was given.

: "${EXPORT:?}" "${HOST:?}" "${HOST_PORT:?}"
uri=nbd://$HOST:$HOST_PORT/$EXPORT
result kernel "$(uname -r)"
mount -t tmpfs -o size=100M data /mnt || fail "tmpfs"
cd /mnt || fail "cd"

step "sort"
dd if=/dev/urandom of=numbers bs=1M count=4 2> /dev/null || fail "dd"
far-sort "$uri-a" 1 numbers far || fail "sort, far"
far-sort file 1 numbers near || fail "sort, a file"
cmp far near || fail "sort: they differ"
if cmp -s far numbers; then fail "sort: nothing was sorted"; fi

step "table"
far-table "$uri-b" 1 6000 || fail "table"

step "without a right"
echo 'nobody:x:65534:65534::/:/bin/sh' > /etc/passwd
chmod 777 /mnt
echo 0 > /proc/sys/vm/unprivileged_userfaultfd
chmod 600 /dev/userfaultfd || fail "no /dev/userfaultfd"
if su nobody -c "far-table $uri-b 1 600" 2> said; then
  fail "a user without a right could handle faults"
fi
cat said
grep -q '/dev/userfaultfd' said || fail "what is missing was not said"

step "with it"
chmod 666 /dev/userfaultfd
su nobody -c "far-table $uri-b 1 6000" || fail "table, as a user"
step "done"
