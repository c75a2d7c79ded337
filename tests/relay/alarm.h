/* SPDX-License-Identifier: BSD-2-Clause */
/* Alarms of a loop, to the microsecond. */

#ifndef FARPAGE_RELAY_ALARM_H
#define FARPAGE_RELAY_ALARM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ev.h>

struct alarm;
typedef void alarm_fn (struct alarm *alarm, int64_t now_ns);

/* Embedded in what it belongs to.  All zero but ring: not set. */
struct alarm {
  alarm_fn *ring;
  int64_t at_ns;
  size_t place; /* in the heap, from 1; 0: not set */
  bool at_once; /* its time was over when it was set */
};

struct alarms {
  struct ev_loop *loop;
  ev_io io; /* of the timerfd */
  int64_t armed_ns;
  int64_t lead_ns;     /* how much earlier the timer is set */
  int64_t turn_ns;     /* when the last one rang */
  struct alarm **heap; /* [1] rings first */
  size_t nr, room;

  /* How late they rang. */
  uint64_t nr_rung;
  int64_t late_sum_ns, late_max_ns;
};

/* CLOCK_MONOTONIC. */
int64_t now_ns (void);

/* 0 or a positive errno. */
int alarms_open (struct alarms *as, struct ev_loop *loop);
void alarms_close (struct alarms *as);

/* Makes room for nr alarms, so that alarm_set () cannot fail: 0 or ENOMEM. */
int alarms_reserve (struct alarms *as, size_t nr);

/* alarm->ring () is called at at_ns or as soon as possible after it, once, and
 * never from in here.  Replaces an earlier time.
 */
void alarm_set (struct alarms *as, struct alarm *alarm, int64_t at_ns);
void alarm_clear (struct alarms *as, struct alarm *alarm);

#endif /* FARPAGE_RELAY_ALARM_H */
