/* SPDX-License-Identifier: BSD-2-Clause */
/* Do a store's books balance?  For tests, and for store_close () in a build
 * with --enable-debug: what all maps have, with what the durable half of the
 * store has for itself, is what space has given.  Nobody else is at work but
 * the store's own threads.
 */

#include <config.h>

#include "durable.h"

static const char *
check_once (struct store *s)
{
  uint64_t nr_used = 0;

  for (unsigned i = 0; i < s->nr_exports; i++) {
    const struct export *x = s->exports[i];
    const char *wrong = object_check (x->o);

    if (wrong != NULL)
      return wrong;
    if (x->dobj == NULL)
      nr_used += object_nr_mapped (x->o);
  }
  if (s->durable != NULL)
    nr_used += durable_nr_blocks (s->durable);
  return space_check (s->space, nr_used);
}

const char *
store_check (struct store *s)
{
  const char *wrong;
  uint64_t nr_parked;

  reap_wait (s);
  /* The flusher may free what is parked meanwhile. */
  do {
    nr_parked = s->durable != NULL ? durable_nr_parked (s->durable) : 0;
    wrong = check_once (s);
  } while (wrong != NULL && s->durable != NULL &&
           durable_nr_parked (s->durable) != nr_parked);
  return wrong;
}
