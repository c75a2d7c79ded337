/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests that a test makes from its own thread: see test-net.h. */

#include <config.h>

#include "test-net.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

uint64_t
net_now_us (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void
net_sleep_ms (unsigned ms)
{
  struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

  nanosleep (&ts, NULL);
}

static void
on_done (struct request *req)
{
  struct io *io = (struct io *) req;

  io->end_us = net_now_us ();
  sem_post (&io->done);
}

static int
on_elsewhere (struct request *req)
{
  struct io *io = (struct io *) req;

  atomic_fetch_add (&io->asked, 1);
  if (!io->has_place)
    return EIO;
  req->off_bytes = io->place;
  return 0;
}

static void
submit (void *arg)
{
  struct io *io = arg;

  link_submit (io->link, &io->req);
}

void
io_start (struct io *io, struct link *l, enum request_kind kind,
          enum request_pool pool, uint64_t off, void *data, size_t len)
{
  io->req =
      (struct request){ .kind = kind,
                        .pool = pool,
                        .off_bytes = off,
                        .len_bytes = (uint32_t) len,
                        .data = kind == REQUEST_STATUS ? NULL : data,
                        .extents = kind == REQUEST_STATUS ? data : NULL,
                        .fua = io->fua,
                        .done = on_done,
                        .elsewhere = io->elsewhere != NULL ? io->elsewhere
                                                           : on_elsewhere };
  io->link = l;
  io->begin_us = net_now_us ();
  sem_init (&io->done, 0, 0);
  assert_int_equal (loop_call (link_loop (l), submit, io), 0);
}

int
io_wait_ms (struct io *io, unsigned ms)
{
  struct timespec ts;

  clock_gettime (CLOCK_REALTIME, &ts);
  ts.tv_sec += ms / 1000;
  ts.tv_nsec += ms % 1000 * 1000000;
  if (ts.tv_nsec >= 1000000000) {
    ts.tv_nsec -= 1000000000;
    ts.tv_sec++;
  }
  if (sem_timedwait (&io->done, &ts) == -1)
    return -1;
  sem_destroy (&io->done);
  return io->req.error;
}

int
io_wait (struct io *io)
{
  int error = io_wait_ms (io, 60000);

  if (error == -1)
    fail_msg ("a request never ends");
  return error;
}

int
io_do (struct link *l, enum request_kind kind, enum request_pool pool,
       uint64_t off, void *data, size_t len)
{
  struct io io = { 0 };

  io_start (&io, l, kind, pool, off, data, len);
  return io_wait (&io);
}

struct stat_call {
  struct link *link;
  struct link_stat *st;
  const char *why;
};

static void
do_stat (void *arg)
{
  struct stat_call *call = arg;

  link_stat (call->link, call->st);
}

static void
do_check (void *arg)
{
  struct stat_call *call = arg;

  call->why = link_check (call->link);
}

void
net_stat (struct link *l, struct link_stat *st)
{
  struct stat_call call = { l, st, NULL };

  loop_call (link_loop (l), do_stat, &call);
}

void
net_check (struct link *l)
{
  struct stat_call call = { .link = l };

  loop_call (link_loop (l), do_check, &call);
  if (call.why != NULL)
    fail_msg ("%s", call.why);
}

void
net_wait_up (struct link *l, unsigned nr)
{
  struct link_stat st = { 0 };

  for (unsigned i = 0; i < 1000; i++) {
    net_stat (l, &st);
    if (st.nr_conns_up == nr)
      return;
    net_sleep_ms (5);
  }
  fail_msg ("%u connections are up, not %u", st.nr_conns_up, nr);
}

void
net_fill (uint8_t *data, size_t len, uint64_t seed)
{
  uint64_t x = seed * UINT64_C (0x9e3779b97f4a7c15) + 1;

  for (size_t i = 0; i < len; i += 8) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    memcpy (data + i, &x, 8);
  }
}
