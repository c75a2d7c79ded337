/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages to their places, neighbours in one transfer.  See buf.h.
 *
 * Called by the commit and the cycle (commit.c, cycle.c), which choose the
 * pages and their order; calls volume.h.
 *
 *   ios:   [7][8][9] | [20] | [21' of another volume] ..
 *   runs:  one vio,    one,   one: as many as the batch takes, then wait
 *
 * I1. Every io.error is set from the transfer it went with: if a run fails,
 *     none of its pages counts as written.
 * I2. What comes after a failed transfer is written all the same: more of what
 *     was replied to reaches its volume.
 *
 * No locks, no allocation: runs and what they point to lie on the stack (20
 * KiB).
 */

#include <config.h>

#include "buf-impl.h"

#include <assert.h>

struct run {
  struct vio io;
  struct buf_io *ios;
  unsigned nr;
};

/* Runs under way, and the pieces of all of them. */
struct runs {
  struct run run[VIO_DEPTH_MAX];
  struct iovec iov[VIO_MAX * BUF_RUN_MAX];
  unsigned nr, nr_iov;
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
start_run (struct bufs *bs, struct vbatch *batch, struct runs *rs,
           struct buf_io *ios, unsigned nr)
{
  struct run *r = &rs->run[rs->nr++];
  struct iovec *iov = rs->iov + rs->nr_iov;

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
      iov[i] = (struct iovec){ .iov_base = ios[i].page, .iov_len = BUF_BYTES };
    r->io.iov = iov;
    r->io.nr_iov = nr;
    rs->nr_iov += nr;
  }
  vio_start (batch, &r->io);
}

/* Start as many runs as there is room for.  Returns how many pages they have.
 */
static unsigned
start_runs (struct bufs *bs, struct vbatch *batch, struct runs *rs,
            struct buf_io *ios, unsigned nr)
{
  unsigned depth = vbatch_depth (batch), done = 0;

  rs->nr = rs->nr_iov = 0;
  while (rs->nr < depth && done < nr &&
         rs->nr_iov + BUF_RUN_MAX <= VIO_MAX * BUF_RUN_MAX) {
    unsigned max = nr - done < BUF_RUN_MAX ? nr - done : BUF_RUN_MAX;
    unsigned length = run_length (ios + done, max);

    start_run (bs, batch, rs, ios + done, length);
    done += length;
  }
  return done;
}

int
bufs_write (struct bufs *bs, struct vbatch *batch, struct buf_io *ios,
            unsigned nr)
{
  unsigned done = 0;
  struct runs rs;
  int err = 0;

  while (done < nr) {
    done += start_runs (bs, batch, &rs, ios + done, nr - done);
    vbatch_wait (batch);
    for (unsigned i = 0; i < rs.nr; i++) {
      struct run *r = &rs.run[i];

      for (unsigned k = 0; k < r->nr; k++)
        r->ios[k].error = r->io.error;
      if (err == 0)
        err = r->io.error;
    }
  }
  return err;
}
