#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Reads the log that qemu's blklogwrites makes of all writes to a volume.

log-replay.py LOG flushes              print the numbers of entries that come
                                       before the end of each flush
log-replay.py LOG apply FROM TO COPY   do entries FROM to TO - 1 to a copy

The format is that of Linux's dm-log-writes: a superblock (magic, version,
number of entries, sector size), then for each entry a sector with (sector,
sectors, flags, data bytes) and its data, in whole sectors.
"""

import struct
import sys

MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


def entries(log):
    """(number, sector size, sector, sectors, flags); the file is at its data"""
    magic, version, number, size = struct.unpack("<QQQI", log.read(28))
    if magic != MAGIC or version != 1:
        sys.exit("not a log of writes")
    at = size
    for i in range(number):
        log.seek(at)
        head = log.read(32)
        sector, sectors, flags, _ = struct.unpack("<QQQQ", head)
        at += size
        log.seek(at)
        yield i, size, sector, sectors, flags
        if not flags & DISCARD:
            at += sectors * size


def main():
    with open(sys.argv[1], "rb") as log:
        if sys.argv[2] == "flushes":
            for i, _, _, _, flags in entries(log):
                if flags & FLUSH:
                    print(i + 1)
            return
        first, end = int(sys.argv[3]), int(sys.argv[4])
        with open(sys.argv[5], "r+b") as copy:
            for i, size, sector, sectors, flags in entries(log):
                if i >= end:
                    break
                if i < first or flags & MARK or sectors == 0:
                    continue
                copy.seek(sector * size)
                if flags & DISCARD:
                    copy.write(bytes(sectors * size))
                else:
                    copy.write(log.read(sectors * size))


main()
