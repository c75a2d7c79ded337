/* SPDX-License-Identifier: BSD-2-Clause */
/* One direction of one connection: reads, holds, writes.
 *
 * Called by conn.c, by the loop and by alarms; calls link.c for the times.
 *
 *   socket ─▶ read ─▶ stamp ─▶ queue ─────────▶ alarm ─▶ write ─▶ socket
 *            (in)    (link_     (no limit)     (due)    (out: only
 *                    schedule)                           when full)
 *
 * A read takes what has come, its time of arrival is one look at the clock, and
 * the times at which its first and its last byte are due are settled there
 * and then: by the rate's clock, the delay and the jitter as they are at that
 * moment.  What happens later, in this loop or in the machine, changes nothing
 * about them; a loop that is late sends at once all that is due.  A receiver
 * that takes nothing keeps its bytes waiting here, at the far end of the link,
 * and holds up nobody else.
 *
 * I1  last_due_ns never falls, so bytes leave in the order of their arrival.
 * I2  in_bytes - out_bytes is what the queue holds, unless it was dropped.
 * I3  out_bytes <= cut_at.
 * I4  While frozen nothing is read or written, and no alarm is set.
 *
 * An end and a reset travel like bytes.  One thread.
 */

#include <config.h>

#include "pipe.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "link.h"

/* Writes before the loop looks after others; of reads it is one. */
#define WRITES_PER_TURN 8

/* Bytes due within this time leave together, but at least an Ethernet frame's
 * worth.
 */
#define QUANTUM_NS    INT64_C (250000)
#define QUANTUM_BYTES UINT64_C (1448)

#define IOV_MAX_OURS 64

static void add_end (struct pipe *p, enum seg_kind kind, int64_t now);

static struct alarms *
alarms_of (struct pipe *p)
{
  return &p->conn->link->relay->alarms;
}

static struct travel *
travel_of (struct pipe *p)
{
  return &p->conn->link->travel[p->way];
}

static struct pipe *
other (struct pipe *p)
{
  return &p->conn->pipe[p->way == UP ? DOWN : UP];
}

/* Of this segment, how much is due and not sent. */
static uint32_t
due_bytes (const struct seg *seg, int64_t now)
{
  uint64_t due;

  if (now >= seg->end_ns)
    return seg->len - seg->sent;
  if (now < seg->begin_ns)
    return 0;
  due = (uint64_t) ((unsigned __int128) (now - seg->begin_ns) * seg->len /
                    (uint64_t) (seg->end_ns - seg->begin_ns));
  return due > seg->sent ? (uint32_t) due - seg->sent : 0;
}

/* When the next quantum of it is due, or its end. */
static int64_t
next_due_ns (const struct seg *seg)
{
  uint64_t takes_ns = seg->end_ns - seg->begin_ns;
  uint64_t quantum;

  if (takes_ns <= (uint64_t) QUANTUM_NS)
    return seg->end_ns;
  quantum = seg->len * (uint64_t) QUANTUM_NS / takes_ns;
  if (quantum < QUANTUM_BYTES)
    quantum = QUANTUM_BYTES;
  if (seg->sent + 2 * quantum > seg->len)
    return seg->end_ns;
  return seg->begin_ns +
         (int64_t) ((unsigned __int128) takes_ns * (seg->sent + quantum) /
                    seg->len) +
         1;
}

/* Nothing else goes out on this way. */
static void
out_is_over (struct pipe *p)
{
  queue_drop (&p->queue);
  p->out_over = true;
  alarm_clear (alarms_of (p), &p->alarm);
  ev_io_stop (p->conn->link->relay->loop, &p->in);
  ev_io_stop (p->conn->link->relay->loop, &p->out);
}

/* The receiver is gone.  Its own end, or its reset, is still to be read from
 * it, and the sender shall know no earlier.
 */
static void
receiver_gone (struct pipe *p, int64_t now)
{
  p->broken = true;
  out_is_over (p);
  if (other (p)->in_over) {
    other (p)->out_over = false; /* its end may have been passed on */
    add_end (other (p), SEG_RESET, now);
  }
}

/* The due front of the queue as a vector: its length. */
static unsigned
gather (struct pipe *p, int64_t now, struct iovec iov[IOV_MAX_OURS])
{
  uint64_t left = p->cut_at - p->out_bytes;
  struct queue_at at;
  unsigned nr = 0;
  void *bytes;

  for (struct seg *s = queue_first (&p->queue, &at, &bytes);
       s != NULL && s->kind == SEG_DATA && nr < IOV_MAX_OURS;
       s = queue_next (&at, &bytes)) {
    uint64_t due = due_bytes (s, now);
    bool whole = due == s->len - s->sent;

    if (due > left)
      due = left;
    if (due == 0)
      break;
    iov[nr++] = (struct iovec){ .iov_base = bytes, .iov_len = due };
    left -= due;
    if (!whole)
      break;
  }
  return nr;
}

/* true: some were written, and there may be more. */
static bool
write_some (struct pipe *p, int64_t now)
{
  struct iovec iov[IOV_MAX_OURS];
  struct msghdr msg = { .msg_iov = iov };
  ssize_t n;

  msg.msg_iovlen = gather (p, now, iov);
  if (msg.msg_iovlen == 0)
    return false;
  n = sendmsg (p->out.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n == -1) {
    if (errno == EINTR)
      return true;
    if (errno == EAGAIN || errno == ENOBUFS) {
      p->full = true;
      ev_io_start (p->conn->link->relay->loop, &p->out);
    } else {
      receiver_gone (p, now);
    }
    return false;
  }
  queue_sent (&p->queue, n);
  p->out_bytes += n;
  travel_of (p)->out_bytes += n;
  if (p->out_bytes == p->cut_at) {
    conn_cut_exactly (p->conn, p->cut_how);
    return false;
  }
  return true;
}

/* An end or a reset at the front of the queue, and it is due. */
static void
pass_end (struct pipe *p, enum seg_kind kind)
{
  if (kind == SEG_RESET) {
    conn_cut_exactly (p->conn, CUT_RESET);
    return;
  }
  shutdown (p->out.fd, SHUT_WR);
  out_is_over (p);
  conn_pipe_over (p->conn);
}

/* Sends what is due; sets the alarm for what is next. */
static void
run (struct pipe *p, int64_t now)
{
  struct queue_at at;
  struct seg *seg;
  void *bytes;

  if (p->frozen_ns != 0 || p->full)
    return;
  /* All that is due at now, not what becomes due meanwhile: crumbs. */
  for (unsigned n = 0; n < WRITES_PER_TURN && write_some (p, now); n++)
    ;
  if (p->conn->state != CONN_OPEN || p->out_over || p->full)
    return;
  seg = queue_first (&p->queue, &at, &bytes);
  if (seg == NULL)
    alarm_clear (alarms_of (p), &p->alarm);
  else if (seg->kind != SEG_DATA && now >= seg->end_ns)
    pass_end (p, seg->kind);
  else
    alarm_set (alarms_of (p), &p->alarm,
               due_bytes (seg, now) > 0 ? now : next_due_ns (seg));
}

static void
on_alarm (struct alarm *alarm, int64_t now)
{
  struct pipe *p =
      (struct pipe *) ((char *) alarm - offsetof (struct pipe, alarm));

  run (p, now);
}

static void
on_out (struct ev_loop *loop, ev_io *w, int revents)
{
  struct pipe *p = w->data;

  (void) revents;
  ev_io_stop (loop, w);
  p->full = false;
  run (p, now_ns ());
}

static void
add_end (struct pipe *p, enum seg_kind kind, int64_t now)
{
  struct seg seg = { .kind = kind };
  size_t room;

  p->in_over = true;
  ev_io_stop (p->conn->link->relay->loop, &p->in);
  if (p->out_over)
    return;
  if (queue_room (&p->queue, &room) == NULL) {
    conn_cut (p->conn, CUT_RESET);
    return;
  }
  link_schedule (p, now, &seg);
  queue_add (&p->queue, &seg);
  run (p, now);
}

static void
read_some (struct pipe *p)
{
  struct seg seg = { .kind = SEG_DATA };
  size_t room;
  void *to = queue_room (&p->queue, &room);
  int64_t now;
  ssize_t n;

  if (to == NULL) {
    conn_cut (p->conn, CUT_RESET);
    return;
  }
  n = recv (p->in.fd, to, room, MSG_DONTWAIT);
  now = now_ns ();
  if (n == -1 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    add_end (p, n == -1 || other (p)->broken ? SEG_RESET : SEG_END, now);
    return;
  }
  seg.len = (uint32_t) n;
  link_schedule (p, now, &seg);
  queue_add (&p->queue, &seg);
  p->in_bytes += n;
  travel_of (p)->in_bytes += n;
  if (p->alarm.place == 0)
    run (p, now);
}

static void
on_in (struct ev_loop *loop, ev_io *w, int revents)
{
  (void) loop;
  (void) revents;
  read_some (w->data);
}

void
pipe_open (struct pipe *p, struct conn *conn, enum way way, int from, int to)
{
  struct travel *t = &conn->link->travel[way];

  *p = (struct pipe){
    .conn = conn,
    .way = way,
    .alarm = { .ring = on_alarm },
    .own = { .bytes_per_s = t->rate.bytes_per_s },
    .cut_at = t->cut_at,
    .cut_how = t->cut_how,
    .jitter_state = conn->link->seed ^ conn->id * 2 ^ way,
    .frozen_ns = t->frozen_ns,
  };
  ev_io_init (&p->in, on_in, from, EV_READ);
  ev_io_init (&p->out, on_out, to, EV_WRITE);
  p->in.data = p;
  p->out.data = p;
}

void
pipe_start (struct pipe *p)
{
  p->running = true;
  if (p->frozen_ns == 0)
    ev_io_start (p->conn->link->relay->loop, &p->in);
}

void
pipe_stop (struct pipe *p)
{
  p->running = false;
  p->in_over = true;
  out_is_over (p);
}

void
pipe_freeze (struct pipe *p, int64_t now)
{
  struct ev_loop *loop = p->conn->link->relay->loop;

  if (p->frozen_ns != 0)
    return;
  p->frozen_ns = now;
  ev_io_stop (loop, &p->in);
  ev_io_stop (loop, &p->out);
  alarm_clear (alarms_of (p), &p->alarm);
}

void
pipe_thaw (struct pipe *p, int64_t now)
{
  int64_t stood_ns = now - p->frozen_ns;

  if (p->frozen_ns == 0)
    return;
  p->frozen_ns = 0;
  queue_shift (&p->queue, stood_ns);
  rate_shift (&p->own, stood_ns);
  p->last_due_ns += stood_ns;
  if (!p->running)
    return;
  if (!p->in_over)
    ev_io_start (p->conn->link->relay->loop, &p->in);
  p->full = false;
  if (!p->out_over)
    run (p, now);
}

int
pipe_cut_at (struct pipe *p, uint64_t bytes, enum cut_how how)
{
  if (bytes < p->out_bytes)
    return EINVAL;
  p->cut_at = bytes;
  p->cut_how = how;
  if (bytes == p->out_bytes)
    conn_cut_exactly (p->conn, how);
  return 0;
}
