/* SPDX-License-Identifier: BSD-2-Clause */
/* Staging for the simulator: a directory in memory that outlives a process and
 * not the machine (buffer/staging.h).
 */

#ifndef FARPAGE_CRASH_RAM_H
#define FARPAGE_CRASH_RAM_H

#include <stdint.h>

/* What the directory held at one moment; NULL: nothing. */
struct ram_copy;

extern void ram_begin (void); /* staging_set (): from now on it is here */
extern void ram_end (void);

/* The directory becomes what it was then, with nobody at work in it. */
extern void ram_restore (struct ram_copy *copy);
extern struct ram_copy *ram_save (void);

extern struct ram_copy *ram_ref (struct ram_copy *copy); /* NULL is fine */
extern void ram_put (struct ram_copy *copy);             /* NULL is fine */
extern uint64_t ram_hash (const struct ram_copy *copy);

#endif /* FARPAGE_CRASH_RAM_H */
