/* SPDX-License-Identifier: BSD-2-Clause */
/* What a durable store's layers count, as store.h tells it; called by stat.c.
 * No state, no lock of its own: the figures are not of one instant.
 */

#include <config.h>

#include "durable-impl.h"

static uint64_t
bytes (uint64_t nr_buffers)
{
  return nr_buffers * BUF_BYTES;
}

static struct cache_use
cache_use (struct durable *d, const struct bufs_stat *bst, enum buf_type type)
{
  return (struct cache_use){
    .clean_bytes = bytes (bst->nr_clean[type]),
    .dirty_bytes = bytes (bst->nr_dirty[type]),
    .dirty_max_bytes = bytes (bufs_dirty_max (d->bs, type)),
  };
}

static void
stat_cache (struct durable *d, struct durable_stat *st)
{
  struct bufs_stat bst;

  bufs_stat (d->bs, &bst);
  st->cache.size_bytes = bytes (bst.nr);
  st->cache.free_bytes = bytes (bst.nr_free);
  st->cache.writing_bytes = bytes (bst.nr_running);
  st->cache.meta = cache_use (d, &bst, BUF_META);
  st->cache.data = cache_use (d, &bst, BUF_DATA);
  st->cache.undo = cache_use (d, &bst, BUF_UNDO);
  st->cache.nr_hits = bst.nr_hits;
  st->cache.nr_loads = bst.nr_loads;
  st->cache.nr_evicted = bst.nr_evicted;
}

static uint64_t
log_used (const struct flush_stat *fst)
{
  return fst->tail_lsn > fst->redo_lsn ? fst->tail_lsn - fst->redo_lsn : 0;
}

static void
stat_log (struct durable *d, struct durable_stat *st)
{
  struct flush_stat fst;

  flush_stat (d->fl, &fst);
  st->epoch = fst.epoch;
  st->log.size_bytes = bytes (fst.ring_blocks);
  st->log.used_bytes = bytes (log_used (&fst));
  st->log.first_lsn = fst.redo_lsn;
  st->log.tail_lsn = fst.tail_lsn;
  st->log.durable_lsn = fst.durable_lsn;
  st->log.cycle = fst.cycle;
  st->log.nr_commits = fst.nr_commits;
  st->log.nr_cycles = fst.nr_cycles;
  st->log.nr_flushes = fst.nr_device_flushes;
  st->log.direct_bytes = fst.bytes_direct;
  st->log.data_bytes = fst.bytes_data;
  st->log.log_bytes = fst.bytes_log;
  st->log.meta_bytes = fst.bytes_meta;
}

void
durable_stat (struct durable *d, struct durable_stat *st)
{
  const struct recover_report *r = &d->report;

  st->staging = d->staging != NULL ? d->s->config.staging_dir : NULL;
  stat_cache (d, st);
  stat_log (d, st);
  st->recovery.clean = r->clean && r->nr_staged == 0;
  st->recovery.duration_ns = d->recover_ns;
  st->recovery.first_lsn = r->first_lsn;
  st->recovery.end_lsn = r->end_lsn;
  st->recovery.durable_lsn = r->durable_lsn;
  st->recovery.nr_staged = r->nr_staged;
  st->recovery.nr_undone = r->nr_undone;
  st->recovery.nr_redone = r->nr_redone;
  st->recovery.nr_verified = r->nr_verified;
  st->recovery.nr_fallen = r->nr_fallen;
}

const char *
durable_fail_reason (struct durable *d)
{
  return flush_failed (d->fl) ? flush_fail_reason (d->fl) : NULL;
}

uint64_t
durable_nr_parked_meta (struct durable *d)
{
  return parked_nr_meta (d->pk);
}

void
durable_each_bound (struct durable *d,
                    void (*fn) (void *arg, const char *name, uint64_t used,
                                uint64_t max),
                    void *arg)
{
  static const struct {
    enum buf_type type;
    const char *name;
  } shares[] = {
    { BUF_META, "buffers of changed map nodes" },
    { BUF_DATA, "buffers of data not written yet" },
    { BUF_UNDO, "buffers of the log" },
  };
  struct flush_stat fst;

  flush_stat (d->fl, &fst);
  for (unsigned i = 0; i < sizeof shares / sizeof *shares; i++)
    fn (arg, shares[i].name, bufs_nr_dirty (d->bs, shares[i].type),
        bufs_dirty_max (d->bs, shares[i].type));
  fn (arg, "log blocks", log_used (&fst), fst.ring_blocks);
}
