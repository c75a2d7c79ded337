/* SPDX-License-Identifier: BSD-2-Clause */
/* How far a command is: one line on stderr's terminal, from 2 s on, which is
 * wiped before anything else is told.
 *
 * Commands that are called as they go show it themselves; for commands of steps
 * in which they wait, a thread does.
 */

#ifndef FARPAGE_PROGRESS_H
#define FARPAGE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* The time counts from here.  lines_ns: where there is no terminal, how often a
 * line is told; 0: never.
 */
extern void progress_begin (const char *command, uint64_t lines_ns);
extern bool progress_on_terminal (void);
/* Is it time to show it (again)? */
extern bool progress_due (void);
/* "farpage: COMMAND: ..." */
extern void progress_show (const char *fmt, ...)
    __attribute__ ((format (printf, 1, 2)));
/* The line goes away, if it stands. */
extern void progress_wipe (void);

/* A command of so many steps, until progress_end (). */
extern void progress_steps (const char *command, unsigned all);
/* The next step begins. */
extern void progress_step (const char *fmt, ...)
    __attribute__ ((format (printf, 1, 2)));
/* So much of the step is done; amount: that in other words, or NULL. */
extern void progress_part (uint64_t done, uint64_t all, const char *amount);
extern void progress_end (void);

#endif /* FARPAGE_PROGRESS_H */
