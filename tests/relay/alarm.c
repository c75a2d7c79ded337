/* SPDX-License-Identifier: BSD-2-Clause */
/* A heap of times on one timerfd.
 *
 * libev sleeps in whole milliseconds under epoll, so an ev_timer of 100 us
 * rings after 1 ms; a timerfd wakes the same loop within some ten
 * microseconds.  Called by pipe.c and conn.c.
 *
 *   alarm_set ─▶ heap[1] … heap[nr] ─▶ timerfd (the earliest) ─▶ ev_io ─▶ ring
 *
 * A timer's wake-up takes time of its own, 5 us on one machine and 70 on a
 * virtual one.  So the timerfd is set lead_ns early, and the last of it is
 * spent looking at the clock.  The lead moves by a microsecond at each wake-up,
 * up if it was late and down if it was early: it stays where half of them are
 * early, by little.
 *
 * I1  heap[i / 2]->at_ns <= heap[i]->at_ns; heap[i]->place == i.
 * I2  Between two turns of the loop the timerfd is set to heap[1] (less the
 *     lead), or to an earlier time, at which nothing rings.
 *
 * An alarm is out of the heap when it rings: it may set itself again, and its
 * owner may go.  One thread.
 */

#include <config.h>

#include "alarm.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/timerfd.h>

#include "rate.h"

/* A ring that asks for itself again at once must not keep the loop from its
 * sockets.
 */
#define RINGS_PER_TURN 256

#define LEAD_STEP_NS 1000
#define LEAD_MAX_NS  200000

int64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void
put (struct alarms *as, size_t i, struct alarm *alarm)
{
  as->heap[i] = alarm;
  alarm->place = i;
}

/* The hole at i takes alarm, or whom it belongs to instead. */
static void
settle (struct alarms *as, size_t i, struct alarm *alarm)
{
  while (i > 1 && alarm->at_ns < as->heap[i / 2]->at_ns) {
    put (as, i, as->heap[i / 2]);
    i /= 2;
  }
  for (size_t child = 2 * i; child <= as->nr; child = 2 * i) {
    if (child < as->nr && as->heap[child + 1]->at_ns < as->heap[child]->at_ns)
      child++;
    if (alarm->at_ns <= as->heap[child]->at_ns)
      break;
    put (as, i, as->heap[child]);
    i = child;
  }
  put (as, i, alarm);
}

static void
arm (struct alarms *as, int64_t at_ns)
{
  struct itimerspec it = { 0 };
  int64_t early_ns = at_ns - as->lead_ns;

  early_ns = early_ns > 0 ? early_ns : 1; /* 0 would stop it */
  it.it_value.tv_sec = early_ns / NS_PER_S;
  it.it_value.tv_nsec = early_ns % NS_PER_S;
  timerfd_settime (as->io.fd, TFD_TIMER_ABSTIME, &it, NULL);
  as->armed_ns = at_ns;
}

void
alarm_clear (struct alarms *as, struct alarm *alarm)
{
  size_t i = alarm->place;
  struct alarm *last;

  if (i == 0)
    return;
  alarm->place = 0;
  last = as->heap[as->nr--];
  if (last != alarm)
    settle (as, i, last);
}

void
alarm_set (struct alarms *as, struct alarm *alarm, int64_t at_ns)
{
  alarm_clear (as, alarm);
  alarm->at_ns = at_ns;
  alarm->at_once = at_ns <= as->turn_ns;
  settle (as, ++as->nr, alarm);
  if (at_ns < as->armed_ns)
    arm (as, at_ns);
}

/* One that was set to ring at once was due before, and has been counted. */
static void
note_late (struct alarms *as, int64_t late_ns)
{
  as->nr_rung++;
  as->late_sum_ns += late_ns;
  if (late_ns > as->late_max_ns)
    as->late_max_ns = late_ns;
}

/* The timerfd has woken the loop for at_ns, early or late. */
static void
wait_the_rest (struct alarms *as, int64_t at_ns)
{
  int64_t now = now_ns ();

  if (at_ns - now > as->lead_ns)
    return; /* for one that has been cleared */
  as->lead_ns += now > at_ns ? LEAD_STEP_NS : -LEAD_STEP_NS;
  if (as->lead_ns < 0 || as->lead_ns > LEAD_MAX_NS)
    as->lead_ns = as->lead_ns < 0 ? 0 : LEAD_MAX_NS;
  while (now < at_ns)
    now = now_ns ();
}

static void
on_timer (struct ev_loop *loop, ev_io *w, int revents)
{
  struct alarms *as = w->data;
  uint64_t count;

  (void) loop;
  (void) revents;
  if (read (w->fd, &count, sizeof count) == -1)
    return; /* set anew meanwhile */
  if (as->nr > 0)
    wait_the_rest (as, as->heap[1]->at_ns);
  as->armed_ns = INT64_MIN; /* this sets it, not who rings */
  for (unsigned n = 0; n < RINGS_PER_TURN && as->nr > 0; n++) {
    struct alarm *alarm = as->heap[1];
    int64_t now = now_ns ();

    as->turn_ns = now;
    if (alarm->at_ns > now)
      break;
    if (!alarm->at_once)
      note_late (as, now - alarm->at_ns);
    alarm_clear (as, alarm);
    alarm->ring (alarm, now);
  }
  as->armed_ns = INT64_MAX;
  if (as->nr > 0)
    arm (as, as->heap[1]->at_ns);
}

int
alarms_reserve (struct alarms *as, size_t nr)
{
  struct alarm **heap;
  size_t room = as->room;

  if (nr < room)
    return 0;
  while (nr >= room)
    room = room == 0 ? 64 : 2 * room;
  heap = realloc (as->heap, room * sizeof *heap);
  if (heap == NULL)
    return ENOMEM;
  as->heap = heap;
  as->room = room;
  return 0;
}

int
alarms_open (struct alarms *as, struct ev_loop *loop)
{
  int fd = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

  if (fd == -1)
    return errno;
  *as = (struct alarms){ .loop = loop, .armed_ns = INT64_MAX };
  ev_io_init (&as->io, on_timer, fd, EV_READ);
  ev_set_priority (&as->io, EV_MAXPRI);
  as->io.data = as;
  ev_io_start (loop, &as->io);
  return 0;
}

void
alarms_close (struct alarms *as)
{
  ev_io_stop (as->loop, &as->io);
  close (as->io.fd);
  free (as->heap);
}
