/* SPDX-License-Identifier: BSD-2-Clause */
/* What a store may hold, for long runs: the contract without model.h's orders,
 * for there is none but one after the other; and between them requests of
 * several clients, which are over before the next one begins.  Of those the
 * model says what they may leave.
 *
 * live is what a read may give; durable what may be found after the machine
 * has crashed.  A change that failed, or was under way, may have been done: it
 * adds to what a page may be.
 */

#ifndef FARPAGE_CRASH_LEDGER_H
#define FARPAGE_CRASH_LEDGER_H

#include "model.h"

struct ledger {
  bool strict; /* every reply means durable */
  struct expect live, durable;
};

enum ledger_how {
  LEDGER_WELL,
  LEDGER_MAYBE /* it failed, or has no reply yet */
};

extern void ledger_begin (struct ledger *l, const struct expect *start,
                          bool strict);
/* A write, trim, zero, flush, create, remove or resize; others change nothing.
 */
extern void ledger_note (struct ledger *l, const struct done_op *o,
                         enum ledger_how how);
/* So many changes and flushes by several clients at once; as they are when the
 * record's clock is `at`.  Of a page that they touch live has one version.
 */
extern void ledger_note_together (struct ledger *l, const struct done_op *ops,
                                  unsigned nr, uint64_t at);
/* A page may be so many things that a flush is due. */
extern bool ledger_is_full (const struct ledger *l);

#endif /* FARPAGE_CRASH_LEDGER_H */
