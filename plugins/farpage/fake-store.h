/* SPDX-License-Identifier: BSD-2-Clause */
/* A store that is a table of names, for tests of the control protocol. */

#ifndef FARPAGE_FAKE_STORE_H
#define FARPAGE_FAKE_STORE_H

#include "store.h"

/* Everything in it has a value that is easy to tell from others. */
extern struct store *fake_store_new (void);
extern void fake_store_free (struct store *s);

/* As if the pool's state had changed; calls the callback in this thread. */
extern void fake_store_space (struct store *s, enum space_state state);

/* Tell of every object n times, as if there were that many. */
extern void fake_store_repeat (struct store *s, unsigned n);

extern unsigned fake_store_ticks (struct store *s);
extern unsigned fake_store_created (struct store *s);

#endif /* FARPAGE_FAKE_STORE_H */
