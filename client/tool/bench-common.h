/* SPDX-License-Identifier: BSD-2-Clause */
/* What `farpage bench` and `farpage bench-file` share: options, what is told of
 * trouble, numbers.
 */

#ifndef FARPAGE_BENCH_COMMON_H
#define FARPAGE_BENCH_COMMON_H

#include <stdint.h>

#include "farpage.h"
#include "tool.h"

#define BENCH_LIST_MAX 8u

/* "1,2,follow": numbers from 1 to max; 0 stands for the word. */
extern int bench_parse_list (const char *text, unsigned max, const char *word,
                             unsigned *list, unsigned *nr);
/* --connections, --span and --seconds, where they are given.  0, or the exit
 * status, and it has complained.
 */
extern int bench_parse_common (const struct invocation *inv, uint64_t span_min,
                               unsigned *connections, uint64_t *span_bytes,
                               double *seconds);

/* As farpage_options_init (); what the library says is told.  Its last error
 * before bench_opened () is kept, as a reason for bench_complain_open ().
 */
extern void bench_options_init (struct farpage_options *opts);
extern void bench_opened (void);
/* Why an export was not opened, and what to do. */
extern void bench_complain_open (const char *uri, int err);

/* xorshift64: the next number after *random, which begins as BENCH_SEED. */
#define BENCH_SEED UINT64_C (88172645463325252)
extern uint64_t bench_random (uint64_t *random);
/* Of qsort (), for doubles. */
extern int bench_by_number (const void *a, const void *b);

#endif /* FARPAGE_BENCH_COMMON_H */
