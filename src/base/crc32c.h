/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC32C (Castagnoli), the check of pages and on-disk structures: ISA-L's
 * routine with the usual inversion before and after, so that the CRC of
 * "123456789" is 0xe3069283.  Blocks: no.
 */

#ifndef FARPAGE_CRC32C_H
#define FARPAGE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of len bytes; crc is 0, or the CRC of the bytes before them. */
extern uint32_t crc32c (uint32_t crc, const void *buf, size_t len);

#endif /* FARPAGE_CRC32C_H */
