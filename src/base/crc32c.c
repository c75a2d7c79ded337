/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC32C by ISA-L; see crc32c.h. */

#include <config.h>

#include "crc32c.h"

#include <limits.h>
#include <isa-l/crc.h>

uint32_t
crc32c (uint32_t crc, const void *buf, size_t len)
{
  unsigned char *p = (unsigned char *) (uintptr_t) buf;

  crc = ~crc;
  while (len > INT_MAX) {
    crc = crc32_iscsi (p, 1 << 30, crc);
    p += 1 << 30;
    len -= 1 << 30;
  }
  return ~crc32_iscsi (p, (int) len, crc);
}
