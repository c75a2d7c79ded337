/* SPDX-License-Identifier: BSD-2-Clause */
/* Every structure that farpage puts on a medium, and nothing else.
 *
 * All numbers are little-endian, spare bytes are zero and checked, the CRC
 * is the last field and covers all bytes before it.
 *
 * A volatile store keeps nothing; its path volumes carry this label in their
 * first 4096 bytes, so that the next start knows that what else is there may
 * be overwritten.
 *
 *   0        8        12       16       24               40        4092
 *   | magic  | version| zero   | bytes  | uuid (16)      | zeros .. | crc |
 */

#ifndef FARPAGE_DISK_H
#define FARPAGE_DISK_H

#include <stddef.h>
#include <stdint.h>

#define DISK_LABEL_MAGIC   "FARPAGEV"
#define DISK_LABEL_VERSION 1
#define DISK_LABEL_BYTES   4096

struct disk_label {
  uint8_t magic[8]; /* DISK_LABEL_MAGIC, no zero at the end */
  uint32_t version; /* DISK_LABEL_VERSION */
  uint32_t spare0;
  uint64_t size_bytes; /* of the volume when it was labelled */
  uint8_t uuid[16];    /* of this label */
  uint8_t spare1[DISK_LABEL_BYTES - 44];
  uint32_t crc; /* CRC32C of the bytes before it */
};

_Static_assert(sizeof (struct disk_label) == DISK_LABEL_BYTES, "label size");
_Static_assert(offsetof (struct disk_label, uuid) == 24, "label uuid");
_Static_assert(offsetof (struct disk_label, crc) == DISK_LABEL_BYTES - 4,
               "label crc");

#endif /* FARPAGE_DISK_H */
