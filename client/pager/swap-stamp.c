/* SPDX-License-Identifier: BSD-2-Clause */
/* Block 0: the reading and writing of the stamp; stamp.c has its rules.
 * Opening and closing run on the caller's thread and wait for each request;
 * the beat is the loop's: read, ours? write with one beat more.
 *
 * Deliberately not done: a beat under way when its connection is lost is not
 * sent again, nor waited for; the next one follows.
 */

#include <config.h>

#include "swap.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "log.h"

/* ---- one request, waited for ---- */

struct stamp_io {
  struct call call; /* first */
  struct request req;
  struct farpage_swap *swap;
};

static void
io_done (struct request *req)
{
  struct stamp_io *io = req->arg;

  call_done (&io->call, req->error);
}

static void
io_start (struct job *job)
{
  struct stamp_io *io = (struct stamp_io *) job;

  link_submit (io->swap->link, &io->req);
}

static int
io_wait (struct farpage_swap *s, enum request_kind kind, uint8_t *block)
{
  struct stamp_io io = { .swap = s };

  io.req.kind = kind;
  io.req.pool = POOL_ADMIN;
  io.req.len_bytes = STAMP_BYTES;
  io.req.data = block;
  io.req.fua = kind == REQUEST_WRITE;
  io.req.done = io_done;
  io.req.arg = &io;
  return call_wait (s->loop, &io.call, io_start);
}

static void
pause_us (uint64_t us)
{
  struct timespec t = { .tv_sec = (time_t) (us / 1000000),
                        .tv_nsec = (long) (us % 1000000 * 1000) };

  while (nanosleep (&t, &t) != 0 && errno == EINTR)
    ;
}

/* ---- opening ---- */

/* Somebody had it, and did not close it: has he gone? */
static int
watch (struct farpage_swap *s, const uint8_t *first)
{
  struct stamp st;
  int err;

  if (stamp_read (first, &st) != STAMP_VALID)
    return EIO;
  for (unsigned i = 0; i < STAMP_LOOKS; i++) {
    pause_us (STAMP_LOOK_US);
    err = io_wait (s, REQUEST_READ, s->block);
    if (err)
      return err;
    if (stamp_is_alive (first, s->block)) {
      log_write (LOG_ERROR, "swap: the export is in use by process %lu on %s",
                 (unsigned long) st.pid, st.host);
      return EBUSY;
    }
  }
  log_write (LOG_WARNING,
             "swap: process %lu on %s did not close the export; "
             "what it had paged out is gone",
             (unsigned long) st.pid, st.host);
  return 0;
}

static int
take (struct farpage_swap *s)
{
  stamp_init (&s->stamp, s->nr_blocks);
  stamp_write (&s->stamp, s->block);
  return io_wait (s, REQUEST_WRITE, s->block);
}

/* Two may have come at once, also to one that was closed: who wrote last has
 * it.
 */
static int
look_again (struct farpage_swap *s)
{
  int err;

  pause_us (STAMP_LOOK_US);
  err = io_wait (s, REQUEST_READ, s->block);
  if (!err && !stamp_is_ours (s->block, &s->stamp)) {
    log_write (LOG_ERROR, "swap: another process opened the export just now");
    return EBUSY;
  }
  return err;
}

int
swap_stamp_open (struct farpage_swap *s, bool takeover)
{
  uint8_t first[STAMP_BYTES];
  int err = io_wait (s, REQUEST_READ, first);

  if (err)
    return err;
  switch (stamp_look (first, takeover)) {
  case STAMP_TAKE:
    break;
  case STAMP_WATCH:
    err = watch (s, first);
    break;
  case STAMP_SOMETHING:
    log_write (LOG_ERROR, "swap: the export holds something else");
    err = EEXIST;
    break;
  }
  if (!err)
    err = take (s);
  if (!err)
    err = look_again (s);
  return err;
}

int
swap_stamp_close (struct farpage_swap *s)
{
  if (s->lost)
    return ESTALE;
  s->stamp.state = STAMP_CLOSED;
  stamp_write (&s->stamp, s->block);
  return io_wait (s, REQUEST_WRITE, s->block);
}

/* ---- the beat ---- */

static void
beat_over (struct farpage_swap *s)
{
  s->beating = false;
  swap_quiet (s);
}

static void
beat_submit (struct farpage_swap *s, enum request_kind kind,
             void (*done) (struct request *req))
{
  s->beat = (struct request){ .kind = kind,
                              .pool = POOL_ADMIN,
                              .len_bytes = STAMP_BYTES,
                              .data = s->block,
                              .done = done,
                              .arg = s };
  link_submit (s->link, &s->beat);
}

static void
beat_written (struct request *req)
{
  beat_over (req->arg);
}

static void
beat_read (struct request *req)
{
  static struct log_limit limit;
  struct farpage_swap *s = req->arg;

  if (req->error || s->lost || s->closer != NULL) {
    if (req->error)
      log_limited (&limit, LOG_WARNING, "swap: cannot read the stamp: error %d",
                   req->error);
    beat_over (s);
    return;
  }
  if (!stamp_is_ours (s->block, &s->stamp)) {
    swap_set_lost (s, "another process has taken the export");
    beat_over (s);
    return;
  }
  s->stamp.beat++;
  stamp_write (&s->stamp, s->block);
  beat_submit (s, REQUEST_WRITE, beat_written);
}

void
swap_stamp_beat (struct farpage_swap *s)
{
  if (s->beating || s->lost || s->down)
    return;
  s->beating = true;
  beat_submit (s, REQUEST_READ, beat_read);
}
