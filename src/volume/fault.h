/* SPDX-License-Identifier: BSD-2-Clause */
/* A volume on top of another that fails, delays or holds what a test tells
 * it to.  For tests, and for every failure that real media rarely show.
 */

#ifndef FARPAGE_FAULT_H
#define FARPAGE_FAULT_H

#include "volume.h"

/* Takes inner over (closes it with itself, but not when this fails).
 * Transfers are over when start returns, in the thread that called it; a
 * batch is not needed.  size_bytes, align, checked, direct, sparse and readonly
 * are the inner volume's; a test that wants pages verified over a memory volume
 * sets checked of the new volume before anybody uses it.
 */
extern int volume_open_fault (struct volume *inner, struct volume **vp);

enum fault_action {
  FAULT_FAIL,    /* ends with error, nothing is moved */
  FAULT_DELAY,   /* waits delay_ns first */
  FAULT_HOLD,    /* waits until fault_release () */
  FAULT_CORRUPT, /* is done, then one bit of what was moved is turned: bit 0
                  * of the first byte that the transfer and the rule share;
                  * of a read in the buffer, of a write on the medium */
};

struct fault_rule {
  enum fault_action action;
  enum vio_op op;
  uint64_t off, bytes; /* transfers that touch this range; bytes 0: all */
  unsigned skip;       /* let this many pass first */
  unsigned count;      /* act on this many, then the rule is spent; 0: all */
  int error;           /* FAULT_FAIL: which */
  uint64_t delay_ns;   /* FAULT_DELAY */
};

#define FAULT_RULES_MAX 16

/* Rules are looked at in the order they were added; the first that fits acts,
 * and the others do not count the transfer.  Returns a number for the calls
 * below, good until fault_clear (), or -1 when there are too many.
 */
extern int fault_add (struct volume *v, const struct fault_rule *rule);
extern void fault_clear (struct volume *v); /* drops rules, releases all */

/* Wait until nr transfers are held by the rule.  False after timeout_ns. */
extern bool fault_wait_held (struct volume *v, int rule, unsigned nr,
                             uint64_t timeout_ns);
/* Let what the rule holds go on, and spend the rule. */
extern void fault_release (struct volume *v, int rule);
/* Transfers the rule has acted on. */
extern unsigned fault_nr_hits (struct volume *v, int rule);
/* The next flushes fail with this error; 0 = no more, but a volume whose flush
 * has failed once stays failed (volume_flush ()).
 */
extern void fault_fail_flush (struct volume *v, int error);

#endif /* FARPAGE_FAULT_H */
