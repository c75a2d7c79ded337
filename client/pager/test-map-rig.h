/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of maps. */

#ifndef FARPAGE_TEST_MAP_RIG_H
#define FARPAGE_TEST_MAP_RIG_H

#include "map.h"
#include "test-rig.h"

#define WORDS (FARPAGE_PAGE / sizeof (uint64_t)) /* of a page */

/* What a program of cases ends with: as NET_RUN (), or 77, with the reason,
 * where this process may not handle page faults.
 */
#define MAP_RUN(tests) (map_can_run () ? NET_RUN (tests) : 77)
extern bool map_can_run (void);

/* It has so many frames; fails the test. */
extern struct farpage_map *map_open (struct farpage_object *o,
                                     uint64_t nr_frames);
/* map_check () on the loop; fails the test. */
extern void map_recount (struct farpage_map *m);
extern struct farpage_map_stat map_stat (struct farpage_map *m);
extern void map_print (const char *what, struct farpage_map *m);

/* The kernel unmaps pages [first, first + nr), as one does that looks for
 * memory.
 */
extern void map_page_out (struct farpage_map *m, uint64_t first, uint64_t nr);

/* Read or write a byte.  0, or the signal that it was: SIGBUS, SIGSEGV. */
extern int map_peek (const volatile uint8_t *at, uint8_t *byte);
extern int map_poke (volatile uint8_t *at, uint8_t byte);

#endif /* FARPAGE_TEST_MAP_RIG_H */
