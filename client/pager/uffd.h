/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory whose pages come when they are touched: a memfd, mapped twice, and a
 * userfaultfd on the first mapping.
 *
 *                 users' mapping            our own
 *                    | faults                  | never faults
 *                    '--------> memfd <--------'
 *
 * A page is one of
 *   ABSENT    not in the memfd: a touch is a fault, and waits
 *   HIDDEN    in the memfd, filled by our own mapping: a touch is a fault
 *   MAPPED    users have it; from a protected one on it is known whether it was
 *             written; the kernel may unmap it, and a touch is a fault then
 *   POISONED  a touch is SIGBUS
 *
 *   ABSENT --written by our own mapping--> HIDDEN --uffd_map--> MAPPED
 *      ^                                     |  ^--uffd_hide------'
 *      '--------------uffd_drop--------------'
 *
 * Kernels from 6.1 on (Linux).  What a later one can do better is looked for at
 * open; FARPAGE_UFFD_WITHOUT in the environment, words of "wp-async",
 * "continue-wp" and "poison", has it do as one that cannot:
 *   wp-async     6.7: a protected page is written without a fault
 *   continue-wp  6.4: a hidden page is mapped protected; before, it goes
 *                through a copy
 *   poison       6.6: before, an empty file is mapped over it
 *
 * All of it may be called from one thread at a time, which never touches the
 * users' mapping.  Nothing allocates but open.
 */

#ifndef FARPAGE_UFFD_H
#define FARPAGE_UFFD_H

#include "types.h"

struct uffd;

enum uffd_kind {
  UFFD_ABSENT,   /* touched while ABSENT, */
  UFFD_HIDDEN,   /* or HIDDEN */
  UFFD_PROTECTED /* written while protected */
};

struct uffd_fault {
  pgno_t page;
  enum uffd_kind kind;
  bool write;
};

/* All pages ABSENT.  EPERM, ENOSYS, EOPNOTSUPP: told in the log, with what is
 * missing and the remedy.  ENOMEM, EMFILE.
 */
extern int uffd_open (uint64_t nr_pages, struct uffd **up);
/* Every touch from now on is SIGSEGV, also of those that wait in a fault: they
 * are woken.
 */
extern void uffd_forbid (struct uffd *u);
/* Unmaps.  Nobody waits in a fault (uffd_forbid ()). */
extern void uffd_close (struct uffd *u);

extern void *uffd_users (const struct uffd *u);
extern uint8_t *uffd_own (const struct uffd *u, pgno_t page);
/* Readable when there are faults. */
extern int uffd_fd (const struct uffd *u);
extern unsigned uffd_read (struct uffd *u, struct uffd_fault *faults,
                           unsigned max);

/* HIDDEN to MAPPED, of nr pages that lie together, and who waits for them is
 * woken.  writable: not protected.  ENOMEM: as before, none of them or some of
 * them; may be tried again.
 */
extern int uffd_map (struct uffd *u, pgno_t first, uint64_t nr, bool writable);
/* What was MAPPED was touched, and nobody found it so: the kernel unmaps a page
 * when it looks for memory, and keeps the mark of uffd_written ().  It is
 * mapped again, and who waits for it is woken.  writable: as above, and always
 * so where uffd_maps_protected () does not hold.  EEXIST: it is mapped as it
 * was.  ENOMEM.
 */
extern int uffd_map_again (struct uffd *u, pgno_t page, bool writable);
/* MAPPED to HIDDEN, none of them is written from now on. */
extern void uffd_hide (struct uffd *u, pgno_t first, uint64_t nr);
/* HIDDEN to ABSENT: the memory is the system's. */
extern void uffd_drop (struct uffd *u, pgno_t first, uint64_t nr);
/* ABSENT to HIDDEN, of nr pages that lie together: zeros, or memory for what is
 * about to be read.  ENOMEM: some of them may be.
 */
extern int uffd_make (struct uffd *u, pgno_t first, uint64_t nr);
/* MAPPED: from now on it is known when it is written. */
extern void uffd_protect (struct uffd *u, pgno_t first, uint64_t nr);
/* MAPPED: it may be written, and who waits to do so is woken. */
extern void uffd_unprotect (struct uffd *u, pgno_t page);
/* Who waits for it looks again. */
extern void uffd_wake (struct uffd *u, pgno_t page);
/* ABSENT to POISONED. */
extern void uffd_poison (struct uffd *u, pgno_t page);

extern bool uffd_maps_protected (const struct uffd *u);
/* A write to a protected page is UFFD_PROTECTED; else uffd_written () tells. */
extern bool uffd_tells_writes (const struct uffd *u);
/* written[i]: page first + i was written since it was protected, by a user;
 * MAPPED, or HIDDEN and mapped before.
 */
extern void uffd_written (const struct uffd *u, pgno_t first, unsigned nr,
                          bool written[]);
/* Memory that the memfd has. */
extern uint64_t uffd_resident_bytes (const struct uffd *u);

#endif /* FARPAGE_UFFD_H */
