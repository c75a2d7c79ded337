/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages to their places, neighbours in one transfer.  See buf.h.
 *
 * Called by the commit and the cycle (commit.c, cycle.c), which choose the
 * pages and their order; calls volume.h.
 *
 *   ios:   [7][8][9] | [20] | [21' of another volume] ..
 *   runs:  one vio,    one,   one: up to VIO_MAX of them, then wait
 *
 * I1. Every io.error is set from the transfer it went with: if a run fails,
 *     none of its pages counts as written.
 * I2. What comes after a failed transfer is written all the same: more of what
 *     was replied to reaches its volume.
 *
 * No locks, no allocation: runs lie on the stack (17 KiB).
 */

#include <config.h>

#include "buf-impl.h"

#include <assert.h>

struct run {
  struct vio io;
  struct buf_io *ios;
  unsigned nr;
  struct iovec iov[BUF_RUN_MAX];
};

_Static_assert(BUF_RUN_MAX <= VIO_IOV_MAX, "a run is one transfer");

/* Pages from ios[0] on that lie beside each other. */
static unsigned
run_length (const struct buf_io *ios, unsigned max)
{
  unsigned nr = 1;

  while (nr < max && ios[nr].volume == ios[0].volume &&
         ios[nr].first == ios[0].first + nr)
    nr++;
  return nr;
}

static void
start_run (struct bufs *bs, struct vbatch *batch, struct run *r,
           struct buf_io *ios, unsigned nr)
{
  assert (ios->volume < bs->config.nr_volumes);
  r->ios = ios;
  r->nr = nr;
  r->io = (struct vio){ .volume = bs->config.volumes[ios->volume],
                        .op = VIO_WRITE,
                        .off = ios->first * BUF_BYTES,
                        .buf = ios->page,
                        .bytes = (size_t) nr * BUF_BYTES };
  if (nr > 1) {
    for (unsigned i = 0; i < nr; i++)
      r->iov[i] =
          (struct iovec){ .iov_base = ios[i].page, .iov_len = BUF_BYTES };
    r->io.iov = r->iov;
    r->io.nr_iov = nr;
  }
  vio_start (batch, &r->io);
}

int
bufs_write (struct bufs *bs, struct vbatch *batch, struct buf_io *ios,
            unsigned nr)
{
  struct run runs[VIO_MAX];
  unsigned done = 0;
  int err = 0;

  while (done < nr) {
    unsigned nr_runs = 0;

    for (; nr_runs < VIO_MAX && done < nr; nr_runs++) {
      unsigned max = nr - done < BUF_RUN_MAX ? nr - done : BUF_RUN_MAX;
      unsigned length = run_length (ios + done, max);

      start_run (bs, batch, &runs[nr_runs], ios + done, length);
      done += length;
    }
    vbatch_wait (batch);
    for (unsigned i = 0; i < nr_runs; i++) {
      for (unsigned k = 0; k < runs[i].nr; k++)
        runs[i].ios[k].error = runs[i].io.error;
      if (err == 0)
        err = runs[i].io.error;
    }
  }
  return err;
}
