/* SPDX-License-Identifier: BSD-2-Clause */
/* Check: recovery as the server runs it, over the volumes that check has.
 *
 * The stack of a durable store is opened far enough to recover, and thrown
 * away; readonly tells it to make no staging file of its own.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "durable.h"

/* As many buffers as the server that crashed had, or the usual: with fewer
 * recovery would write nodes early, which is memory in an overlay, too.
 */
static uint64_t
cache_bytes (const struct check *c)
{
  return min_u64 (2 * c->root.dirty_max * BUF_BYTES, CACHE_BYTES);
}

int
check_recover (struct check *c)
{
  struct store *s = calloc (1, sizeof *s);
  int err;

  if (s == NULL)
    return ENOMEM;
  s->config.readonly = true;
  s->config.durability = STORE_FLUSH;
  s->config.cache_bytes = cache_bytes (c);
  s->config.staging_dir = c->config->staging_dir;
  s->nr_volumes = c->nr_volumes;
  memcpy (s->volumes, c->volumes, sizeof s->volumes);
  lock_init (&s->news_lock, LOCK_LEAF, "store news");
  err = durable_open (s);
  durable_close (s->durable);
  space_destroy (s->space);
  lock_destroy (&s->news_lock);
  free (s);
  return err;
}
