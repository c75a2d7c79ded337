/* SPDX-License-Identifier: BSD-2-Clause */
/* What tests of the link against fake-nbd.c share: one server, one link. */

#ifndef FARPAGE_TEST_FAKE_H
#define FARPAGE_TEST_FAKE_H

#include "fake-nbd.h"
#include "test-net.h"

#define CLUSTER 65536u
#define S_US    UINT64_C (1000000)

extern struct fake fake;
extern struct link *l;
extern char uri[256];
extern uint8_t page[4096], other[4096];
extern atomic_uint events[4], admitted;
extern atomic_int admit_error;

extern int on_admit (void *arg, const uint8_t *block);
extern struct link_config config_of (void);
extern int setup (void **state);
extern int teardown (void **state);
extern void go_with (const struct link_config *config);
/* So many connections, and all of them up. */
extern void go (unsigned connections);
extern int write_page (enum request_pool pool, uint64_t off);
extern void wait_count (enum fake_kind kind, unsigned nr);
extern void wait_event (enum link_event event);
extern void set_rules (struct link_rules rules);
/* Until the link has so many writes replied to. */
extern void wait_written (unsigned nr);

#define TEST(name) cmocka_unit_test_setup_teardown (name, setup, teardown)

#endif /* FARPAGE_TEST_FAKE_H */
