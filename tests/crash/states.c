/* SPDX-License-Identifier: BSD-2-Clause */
/* Crash states; see states.h.  explore.c walks over them.
 *
 *   record   w0 w1 [flush] w2 w3 | w4 ...
 *            '---'         '---' ^
 *            sure          maybe at
 *
 * A write is sure when a flush of its volume was begun after it had ended,
 * and that flush has ended: a flush covers nothing that was still under way
 * when it was asked for.  Every other write that has begun may be there or
 * not, or in part by sectors, whatever the order they were made in.
 *
 * If the process alone dies, a write that has ended is sure.
 *
 * A choice is a number, and what it means depends on nothing but the record
 * and the point: it can be written down and made again.
 */

#include <config.h>

#include "states.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "super.h"

#define RANDOM_SUBSETS 32u
#define TORN_MAX       32u
#define SECTORS        (PAGE_BYTES / SECTOR_BYTES)

static void *
must (void *p)
{
  if (p == NULL)
    abort ();
  return p;
}

/* What is left of a write that is torn. */
enum {
  TORN_PREFIX,
  TORN_SUFFIX,
  TORN_RANDOM,
  TORN_BLOCK, /* one block is not there; of a write of one block: a sector */
  TORN_WAYS
};

/* ---- disks ---- */

void
disks_copy (struct disks *to, const struct disks *from)
{
  to->nr = from->nr;
  for (unsigned i = 0; i < from->nr; i++)
    image_copy (&to->image[i], &from->image[i]);
}

void
disks_free (struct disks *d)
{
  for (unsigned i = 0; i < d->nr; i++)
    image_free (&d->image[i]);
  d->nr = 0;
}

uint64_t
disks_hash (const struct disks *d)
{
  uint64_t hash = d->nr;

  for (unsigned i = 0; i < d->nr; i++)
    hash = hash_add (hash, d->image[i].hash);
  return hash;
}

/* ---- points ---- */

static int
compare_points (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return (x > y) - (x < y);
}

static unsigned
machine_points (const struct record *r, uint64_t *p)
{
  unsigned nr = 0, kept = 0;

  for (unsigned i = 0; i < r->nr_writes; i++)
    p[nr++] = r->writes[i].begin;
  for (unsigned i = 0; i < r->nr_flushes; i++)
    if (r->flushes[i].end != RECORD_NEVER)
      p[nr++] = r->flushes[i].end;
  p[nr++] = r->clock;
  qsort (p, nr, sizeof *p, compare_points);
  for (unsigned i = 0; i < nr; i++)
    if (kept == 0 || p[kept - 1] != p[i])
      p[kept++] = p[i];
  return kept;
}

unsigned
states_points (const struct record *r, enum crash_kind kind, uint64_t **points)
{
  uint64_t *p = must (malloc ((r->clock + r->nr_writes + 1) * sizeof *p));
  unsigned nr = 0;

  *points = p;
  if (kind == CRASH_MACHINE)
    return machine_points (r, p);
  /* What came before the record (record_begin_with ()) is over at 1. */
  for (uint64_t at = r->nr_writes > 0 && r->writes[0].end == 0; at <= r->clock;
       at++)
    p[nr++] = at;
  return nr;
}

static bool
is_super (const struct rec_write *w, const struct disks *d)
{
  for (unsigned slot = 0; slot < DISK_SUPER_SLOTS; slot++)
    if (w->volume == 0 && w->first == super_slot_block (d->image[0].nr, slot))
      return true;
  return false;
}

static bool
is_moment (const struct record *r, const struct disks *d, uint64_t at,
           enum moment moment)
{
  if (moment == MOMENT_SUPER)
    for (unsigned i = 0; i < r->nr_writes; i++)
      if (r->writes[i].begin == at && is_super (&r->writes[i], d))
        return true;
  if (moment == MOMENT_FLUSH)
    for (unsigned i = 0; i < r->nr_flushes; i++)
      if (r->flushes[i].end == at)
        return true;
  return moment == MOMENT_ANY;
}

bool
states_put_off (const struct record *r, const struct disks *d, uint64_t at,
                bool wanted, struct rng *rng, enum moment *waits)
{
  if (wanted && *waits == MOMENT_ANY) {
    uint64_t n = rng_below (rng, 2 * (MOMENTS - 1));

    *waits = n < MOMENTS ? (enum moment) n : MOMENT_ANY;
    wanted = *waits == MOMENT_ANY;
  }
  if (*waits == MOMENT_ANY || !is_moment (r, d, at, *waits))
    return wanted;
  *waits = MOMENT_ANY;
  return true;
}

/* ---- the walk ---- */

void
states_begin (struct states *s, const struct record *r,
              const struct disks *start, enum crash_kind kind)
{
  *s = (struct states){ .record = r, .kind = kind };
  disks_copy (&s->sure, start);
  s->covered = must (calloc (r->nr_writes + 1, 1));
  s->maybe = must (calloc (r->nr_writes + 1, sizeof *s->maybe));
}

void
states_end (struct states *s)
{
  disks_free (&s->sure);
  free (s->covered);
  free (s->maybe);
}

/* Is w on the medium whatever happens at this point? */
static bool
is_sure (const struct states *s, const struct rec_write *w, uint64_t at)
{
  const struct record *r = s->record;

  if (w->end >= at)
    return false;
  if (s->kind == CRASH_PROCESS)
    return true;
  for (unsigned i = r->nr_flushes; i-- > 0 && r->flushes[i].begin > w->end;)
    if (r->flushes[i].volume == w->volume && r->flushes[i].end < at)
      return true;
  return false;
}

static void
apply (const struct states *s, const struct rec_write *w, struct disks *to)
{
  for (unsigned i = 0; i < w->nr; i++)
    image_set (&to->image[w->volume], w->first + i,
               s->record->blocks[w->blocks + i]);
}

static void
count_choices (struct states *s)
{
  unsigned n = s->nr_maybe;

  if (n <= STATES_ALL)
    s->nr_whole = 1u << n;
  else /* none, prefixes (all is the last), one lost, one kept, random */
    s->nr_whole = 1 + 3 * n + RANDOM_SUBSETS;
  s->nr = s->nr_whole + (TORN_WAYS * n < TORN_MAX ? TORN_WAYS * n : TORN_MAX);
}

void
states_advance (struct states *s, uint64_t at)
{
  const struct record *r = s->record;

  s->at = at;
  s->nr_maybe = 0;
  for (unsigned i = 0; i < r->nr_writes && r->writes[i].begin < at; i++) {
    if (s->covered[i])
      continue;
    s->covered[i] = is_sure (s, &r->writes[i], at);
    if (s->covered[i])
      apply (s, &r->writes[i], &s->sure);
    else
      s->maybe[s->nr_maybe++] = i;
  }
  count_choices (s);
}

/* ---- choices ---- */

struct choice {
  struct rng rng;  /* of which writes are kept */
  struct rng tear; /* of what is left of the torn one */
  int torn;        /* which of maybe; -1: none */
  unsigned how;    /* TORN_* */
};

static struct choice
choice_of (const struct states *s, unsigned i)
{
  struct choice c = { .torn = -1 };

  c.rng.state = rng_mix (s->at) ^ i;
  c.tear.state = rng_mix (c.rng.state);
  if (i >= s->nr_whole) {
    c.torn = (int) ((i - s->nr_whole) / TORN_WAYS % s->nr_maybe);
    c.how = (i - s->nr_whole) % TORN_WAYS;
    if (s->nr_maybe > TORN_MAX / TORN_WAYS)
      c.torn = (int) rng_below (&c.rng, s->nr_maybe);
  }
  return c;
}

/* Is the j-th of maybe kept in choice i? */
static bool
is_kept (const struct states *s, unsigned i, unsigned j, struct choice *c)
{
  unsigned n = s->nr_maybe;

  if (c->torn >= 0) /* what came before it, mostly */
    return (int) j <= c->torn || (rng_next (&c->rng) & 3) == 0;
  if (n <= STATES_ALL)
    return i >> j & 1;
  if (i <= n)
    return j < i;
  i -= n + 1;
  if (i < n)
    return j != i;
  i -= n;
  if (i < n)
    return j == i;
  return rng_next (&c->rng) & 1;
}

/* Which sectors of one block of a torn write are new, a bit each. */
static unsigned
torn_mask (struct choice *c, unsigned nr, unsigned cut, unsigned first_sector)
{
  unsigned below = 0;

  if (c->how == TORN_RANDOM)
    return (unsigned) rng_next (&c->tear) & 0xff;
  if (c->how == TORN_BLOCK && nr == 1)
    return 0xff ^ 1u << cut;
  if (c->how == TORN_BLOCK)
    return cut / SECTORS == first_sector / SECTORS ? 0 : 0xff;
  for (unsigned i = 0; i < SECTORS; i++)
    if (first_sector + i < cut)
      below |= 1u << i;
  return c->how == TORN_PREFIX ? below : ~below & 0xff;
}

static void
apply_torn (const struct states *s, const struct rec_write *w, struct choice *c,
            struct disks *to)
{
  static const uint8_t zeros[PAGE_BYTES];
  struct image *im = &to->image[w->volume];
  unsigned cut = 1 + (unsigned) rng_below (&c->tear, w->nr * SECTORS - 1);
  uint8_t page[PAGE_BYTES];

  for (unsigned i = 0; i < w->nr; i++) {
    const struct block *old = image_get (im, w->first + i);
    const struct block *new = s->record->blocks[w->blocks + i];
    unsigned mask = torn_mask (c, w->nr, cut, i * SECTORS);
    struct block *b;

    memcpy (page, old != NULL ? old->data : zeros, PAGE_BYTES);
    for (unsigned j = 0; j < SECTORS; j++)
      if (mask >> j & 1)
        memcpy (page + j * SECTOR_BYTES,
                (new != NULL ? new->data : zeros) + j * SECTOR_BYTES,
                SECTOR_BYTES);
    b = block_new (page);
    image_set (im, w->first + i, b);
    block_put (b);
  }
}

bool
states_keeps (const struct states *s, unsigned i, unsigned write)
{
  struct choice c = choice_of (s, i);
  bool keeps = false;

  for (unsigned j = 0; j < s->nr_maybe; j++) {
    bool kept = is_kept (s, i, j, &c);

    if (s->maybe[j] == write)
      keeps = kept;
  }
  return keeps;
}

void
states_make (const struct states *s, unsigned i, struct disks *to)
{
  struct choice c = choice_of (s, i);

  disks_copy (to, &s->sure);
  for (unsigned j = 0; j < s->nr_maybe; j++) {
    const struct rec_write *w = &s->record->writes[s->maybe[j]];
    bool kept = is_kept (s, i, j, &c);

    if ((int) j == c.torn)
      apply_torn (s, w, &c, to);
    else if (kept)
      apply (s, w, to);
  }
}

void
states_print (const struct states *s, unsigned i, int fd)
{
  static const char *const how[] = { "its first sectors", "its last sectors",
                                     "some of its sectors",
                                     "all but one of its blocks" };
  struct choice c = choice_of (s, i);

  if (s->nr_maybe == 0)
    dprintf (fd, "    every write was there for sure\n");
  for (unsigned j = 0; j < s->nr_maybe; j++) {
    const struct rec_write *w = &s->record->writes[s->maybe[j]];
    bool kept = is_kept (s, i, j, &c);
    const char *fate = kept ? "kept" : "lost";

    if ((int) j == c.torn)
      fate = how[c.how];
    dprintf (fd, "    write %u (vol%u, %u blocks at %u, begun at %llu%s): %s\n",
             s->maybe[j], w->volume, w->nr, w->first,
             (unsigned long long) w->begin, w->end < s->at ? "" : ", under way",
             fate);
  }
}
