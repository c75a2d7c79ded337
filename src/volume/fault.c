/* SPDX-License-Identifier: BSD-2-Clause */
/* A volume that fails on demand; see fault.h.
 *
 *   start --> rule that fits --> act before | inner, here and now | act after
 *
 * A rule goes
 *
 *   empty --> armed [fault_add] --> spent [its count, or fault_release]
 *     ^---------------------------------'--- [fault_clear]
 *
 * I1. Every fault_clear () begins a new generation.  A transfer that was held
 *     in an older one goes on and touches no rule any more.
 * I2. held counts the transfers of this generation that wait for the rule.
 *
 * Lock: fault.mutex guards everything but the inner volume.  It is a plain
 * pthread mutex on purpose: a held transfer stands for a medium that is slow,
 * and its thread may have a shard locked (read-modify-write), which the
 * checker of ranks would take for a mistake.  Nothing is taken under it.
 *
 * An inner volume that needs a batch gets one on the stack (vio_run), with
 * the sync engine: tests of io_uring itself have no business here.
 */

#include <config.h>

#include "fault.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "env.h"
#include "medium.h"

struct rule {
  struct fault_rule want;
  unsigned nr_skipped;
  unsigned nr_hits;
  unsigned nr_held;
  bool released;
};

struct fault {
  struct volume v;
  struct volume *inner; /* [const] */
  pthread_mutex_t mutex;
  pthread_cond_t changed;             /* [mutex] held, released, generation */
  struct rule rules[FAULT_RULES_MAX]; /* [mutex] */
  int nr_rules;                       /* [mutex] */
  unsigned generation;                /* [mutex] */
  int flush_error;                    /* [mutex] */
};

static struct fault *
fault_of (struct volume *v)
{
  return (struct fault *) ((char *) v - offsetof (struct fault, v));
}

/* ---- rules ---- */

static bool
rule_fits (const struct fault_rule *want, const struct vio *io)
{
  if (want->op != io->op)
    return false;
  return want->bytes == 0 ||
         (io->off < want->off + want->bytes && want->off < io->off + io->bytes);
}

static bool
rule_is_spent (const struct rule *r)
{
  return r->released || (r->want.count > 0 && r->nr_hits >= r->want.count);
}

/* The rule that acts on io, which counts as a hit, or NULL. */
static struct rule *
rule_take_locked (struct fault *f, const struct vio *io)
{
  for (int i = 0; i < f->nr_rules; i++) {
    struct rule *r = &f->rules[i];

    if (rule_is_spent (r) || !rule_fits (&r->want, io))
      continue;
    if (r->nr_skipped < r->want.skip) {
      r->nr_skipped++;
      continue;
    }
    r->nr_hits++;
    return r;
  }
  return NULL;
}

static void
hold_locked (struct fault *f, struct rule *r)
{
  unsigned generation = f->generation;

  r->nr_held++;
  pthread_cond_broadcast (&f->changed);
  while (f->generation == generation && !r->released)
    pthread_cond_wait (&f->changed, &f->mutex);
  if (f->generation == generation)
    r->nr_held--;
}

/* ---- the table ---- */

static void
sleep_ns (uint64_t ns)
{
  struct timespec ts = { .tv_sec = (time_t) (ns / NS_PER_S),
                         .tv_nsec = (long) (ns % NS_PER_S) };

  while (nanosleep (&ts, &ts) == -1 && errno == EINTR)
    ;
}

/* Move io on the inner volume; returns its error, which is told there. */
static int
inner_move (struct fault *f, const struct vio *io)
{
  struct vio inner = *io;

  inner.volume = f->inner;
  vio_run (&inner);
  return inner.error;
}

/* Turn a bit of what io has moved, at byte at of the volume. */
static int
corrupt (struct fault *f, const struct vio *io, uint64_t at)
{
  _Alignas(PAGE_BYTES) uint8_t page[PAGE_BYTES];
  struct vio copy = { .op = VIO_READ,
                      .off = at & ~(uint64_t) PAGE_MASK,
                      .buf = page,
                      .bytes = sizeof page };
  int err;

  if (io->op == VIO_READ) {
    unsigned part;

    *(uint8_t *) vio_rest (io, at - io->off, &part).iov_base ^= 1;
    return 0;
  }
  err = inner_move (f, &copy);
  if (err != 0)
    return err;
  page[at & PAGE_MASK] ^= 1;
  copy.op = VIO_WRITE;
  return inner_move (f, &copy);
}

static void
fault_start (struct volume *v, struct vbatch *batch, struct vio *io)
{
  struct fault *f = fault_of (v);
  struct fault_rule act = { .action = FAULT_DELAY }; /* by nothing */
  struct rule *r;
  int err;

  (void) batch;
  pthread_mutex_lock (&f->mutex);
  r = rule_take_locked (f, io);
  if (r != NULL)
    act = r->want;
  if (r != NULL && act.action == FAULT_HOLD)
    hold_locked (f, r);
  pthread_mutex_unlock (&f->mutex);

  if (act.action == FAULT_FAIL) {
    vio_finish (io, act.error);
    return;
  }
  if (act.action == FAULT_DELAY && act.delay_ns > 0)
    sleep_ns (act.delay_ns);
  err = inner_move (f, io);
  if (err == 0 && act.action == FAULT_CORRUPT)
    err = corrupt (f, io, act.bytes > 0 ? max_u64 (io->off, act.off) : io->off);
  io->done = err == 0 ? io->bytes : 0;
  vio_finish (io, err);
}

static int
fault_flush (struct volume *v)
{
  struct fault *f = fault_of (v);
  int err;

  pthread_mutex_lock (&f->mutex);
  err = f->flush_error;
  pthread_mutex_unlock (&f->mutex);
  return err != 0 ? err : volume_flush (f->inner);
}

static int
fault_trim (struct volume *v, uint64_t off, uint64_t bytes)
{
  return volume_trim (fault_of (v)->inner, off, bytes);
}

static void
fault_close (struct volume *v)
{
  struct fault *f = fault_of (v);

  volume_close (f->inner);
  pthread_cond_destroy (&f->changed);
  pthread_mutex_destroy (&f->mutex);
  medium_fini (v);
  free (f);
}

static const struct volume_ops fault_ops = {
  .kind = "fault",
  .start = fault_start,
  .flush = fault_flush,
  .trim = fault_trim,
  .close = fault_close,
};

int
volume_open_fault (struct volume *inner, struct volume **vp)
{
  struct fault *f = calloc (1, sizeof *f);
  pthread_condattr_t attr;

  if (f == NULL || medium_init (&f->v, &fault_ops, inner->name) != 0) {
    free (f);
    return ENOMEM;
  }
  f->inner = inner;
  f->v.size_bytes = inner->size_bytes;
  f->v.align = inner->align;
  f->v.checked = inner->checked;
  f->v.direct = inner->direct;
  f->v.sparse = inner->sparse;
  f->v.readonly = inner->readonly;
  pthread_mutex_init (&f->mutex, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&f->changed, &attr);
  pthread_condattr_destroy (&attr);
  *vp = &f->v;
  return 0;
}

/* ---- what tests call ---- */

static struct fault *
fault_lock (struct volume *v)
{
  struct fault *f = fault_of (v);

  assert (v->ops == &fault_ops);
  pthread_mutex_lock (&f->mutex);
  return f;
}

int
fault_add (struct volume *v, const struct fault_rule *rule)
{
  struct fault *f = fault_lock (v);
  int nr = -1;

  assert (rule->action != FAULT_FAIL || rule->error > 0);
  if (f->nr_rules < FAULT_RULES_MAX) {
    nr = f->nr_rules++;
    f->rules[nr] = (struct rule){ .want = *rule };
  }
  pthread_mutex_unlock (&f->mutex);
  return nr;
}

void
fault_clear (struct volume *v)
{
  struct fault *f = fault_lock (v);

  f->nr_rules = 0;
  f->flush_error = 0;
  f->generation++;
  pthread_cond_broadcast (&f->changed);
  pthread_mutex_unlock (&f->mutex);
}

static bool
held_locked (const struct fault *f, int rule, unsigned nr)
{
  return rule >= 0 && rule < f->nr_rules && f->rules[rule].nr_held >= nr;
}

bool
fault_wait_held (struct volume *v, int rule, unsigned nr, uint64_t timeout_ns)
{
  struct fault *f = fault_lock (v);
  struct timespec ts;
  bool held;
  int err = 0;

  /* Real time even if the core runs on a clock of a test's own. */
  clock_gettime (CLOCK_MONOTONIC, &ts);
  timeout_ns += (uint64_t) ts.tv_nsec;
  ts.tv_sec += (time_t) (timeout_ns / NS_PER_S);
  ts.tv_nsec = (long) (timeout_ns % NS_PER_S);
  while (!held_locked (f, rule, nr) && err == 0)
    err = pthread_cond_timedwait (&f->changed, &f->mutex, &ts);
  held = held_locked (f, rule, nr);
  pthread_mutex_unlock (&f->mutex);
  return held;
}

void
fault_release (struct volume *v, int rule)
{
  struct fault *f = fault_lock (v);

  if (rule >= 0 && rule < f->nr_rules)
    f->rules[rule].released = true;
  pthread_cond_broadcast (&f->changed);
  pthread_mutex_unlock (&f->mutex);
}

unsigned
fault_nr_hits (struct volume *v, int rule)
{
  struct fault *f = fault_lock (v);
  unsigned nr = 0;

  if (rule >= 0 && rule < f->nr_rules)
    nr = f->rules[rule].nr_hits;
  pthread_mutex_unlock (&f->mutex);
  return nr;
}

void
fault_fail_flush (struct volume *v, int error)
{
  struct fault *f = fault_lock (v);

  f->flush_error = error;
  pthread_mutex_unlock (&f->mutex);
}
