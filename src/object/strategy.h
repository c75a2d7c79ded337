/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading and writing an object: the pager's strategy routine.
 *
 * Ranges lie inside the object.  fenced is the flag of the connection the
 * request came by: while it is up the request publishes nothing and ends with
 * ESHUTDOWN.  All block, and may be called by any number of threads at once.
 *
 * fua: a change is durable before it is answered; it counts for durable objects
 * only.  When their store has failed, changes and flushes end with EIO; reads
 * go on.
 *
 * Errors: EIO (a medium failed, or a page did not pass its check), ENOSPC,
 * ENOMEM, ESHUTDOWN; of several the one at the lowest offset.  After an error
 * a part of a write may have been done, each page whole.
 */

#ifndef FARPAGE_STRATEGY_H
#define FARPAGE_STRATEGY_H

#include "object.h"

#include <stdatomic.h>

/* Longest data request. */
#define STRATEGY_BYTES_MAX (UINT32_C (64) << 20)

extern int strategy_read (struct object *o, const atomic_bool *fenced,
                          void *buf, uint64_t off, uint64_t bytes);
extern int strategy_write (struct object *o, const atomic_bool *fenced,
                           const void *buf, uint64_t off, uint64_t bytes,
                           bool fua);

/* The range reads as zeros afterwards.  Whole pages lose their blocks; with
 * keep (and if the object is not reserved as a whole) each keeps a promise of
 * one.  bytes is below 2^32.
 */
extern int strategy_zero (struct object *o, const atomic_bool *fenced,
                          uint64_t off, uint64_t bytes, bool keep, bool fua);

/* All changes that were answered before the call, of all objects of the store,
 * are durable when it returns 0.  An object in memory keeps no promise beyond
 * the process, and has nothing to do.
 */
extern int strategy_flush (struct object *o, const atomic_bool *fenced);

/* The run of pages at off: its end, at most max bytes further (and at most at
 * the end of off's shard), and what block status says of it.
 */
struct strategy_extent {
  uint64_t bytes;
  bool hole, zero;
};
extern int strategy_extent (struct object *o, uint64_t off, uint64_t max,
                            struct strategy_extent *extent);

#endif /* FARPAGE_STRATEGY_H */
