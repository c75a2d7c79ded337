/* SPDX-License-Identifier: BSD-2-Clause */
/* Large tables that cost what is touched of them; see tables.c. */

#ifndef FARPAGE_CRASH_TABLES_H
#define FARPAGE_CRASH_TABLES_H

/* Before anything is allocated: small memory is kept by malloc. */
extern void tables_tune (void);

#endif /* FARPAGE_CRASH_TABLES_H */
