/* SPDX-License-Identifier: BSD-2-Clause */
/* The barest loop that handles page faults: a thread that polls, reads one
 * fault, and maps a copy of a page of its own there, into which it may read
 * before.  What memory from afar costs more than a read of its server is
 * measured with it.
 */

#ifndef FARPAGE_BARE_FAULT_H
#define FARPAGE_BARE_FAULT_H

struct bare_fault;

/* nr pages, each to be touched once; fill, or NULL, is called for each.  Ends
 * the program if it fails.
 */
extern struct bare_fault *
bare_fault_open (unsigned nr, void (*fill) (void *arg, void *page), void *arg);
extern void bare_fault_touch (struct bare_fault *b, unsigned page);
extern void bare_fault_close (struct bare_fault *b);

#endif /* FARPAGE_BARE_FAULT_H */
