/* SPDX-License-Identifier: BSD-2-Clause */
/* The model of nbd-oracle.  Each sector has a list of *candidates*, requests
 * whose value it may hold:
 *
 *   write 7 --- issued ---- replied
 *   write 9 ------- issued - - - - - (no reply)      sector: { 7, 9 }
 *   write 12 ----------------------- issued -- replied      { 9, 12 }
 *
 * When a request stands, it drops every candidate that was over before it was
 * issued; two that were in flight together have no order, so both stay.  It
 * stands when it was replied, or with KEEPS_FLUSHED when a flush that was
 * issued after that was replied, or its own FUA.
 *
 * A page is never torn: of a request that covers several sectors of one, all
 * are there or none.  That is looked at where its sectors have one other
 * candidate each.
 *
 * Values name request and sector, so that a sector at a wrong place, or of two
 * halves, is none.  The clock counts events; a journal has them one a line:
 *
 *   i ID DISK FIRST NR ZERO | o ID SURE FUA | f CLOCK | F CLOCK | m NR
 */

#include <config.h>

#include "oracle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANDIDATES 12u
#define WORDS      (SECTOR / 8)
#define NEVER      UINT64_MAX
#define TOLD_MAX   10u

struct op {
  struct range r;
  uint64_t issued, over; /* NEVER: in flight */
  bool zero, sure, stands;
};

struct sector {
  uint32_t nr, ids[CANDIDATES];
  uint64_t touched; /* when last something of it began or ended */
};

struct oracle {
  unsigned nr_disks;
  uint32_t disk_sectors;
  enum oracle_keeps keeps;
  struct sector *sectors;
  struct op *ops; /* ops[0] is the zeros of the beginning */
  uint32_t nr_ops, room;
  uint32_t first_open; /* all ops below stand, or never will */
  uint64_t clock;
  unsigned nr_told;
  FILE *journal, *playing;
  bool played_all;
  uint64_t held;          /* the mark that playing has come to */
  uint64_t *due;          /* what stands when the next mark is passed: an id, */
  uint32_t nr_due, r_due; /* or a flush with this bit: */
};

#define DUE_FLUSH (UINT64_C (1) << 63)

static void *
more (void *p, size_t bytes)
{
  p = realloc (p, bytes);
  if (p == NULL) {
    perror ("oracle");
    exit (1);
  }
  return p;
}

static struct sector *
sector_at (struct oracle *o, unsigned disk, uint32_t nr)
{
  return &o->sectors[(size_t) disk * o->disk_sectors + nr];
}

struct oracle *
oracle_new (unsigned nr_disks, uint32_t disk_sectors, enum oracle_keeps keeps,
            const char *journal)
{
  struct oracle *o = more (NULL, sizeof *o);
  size_t nr = (size_t) nr_disks * disk_sectors;

  memset (o, 0, sizeof *o);
  o->nr_disks = nr_disks;
  o->disk_sectors = disk_sectors;
  o->keeps = keeps;
  o->sectors = more (NULL, nr * sizeof *o->sectors);
  for (size_t i = 0; i < nr; i++)
    o->sectors[i] = (struct sector){ .nr = 1 };
  o->ops = more (NULL, sizeof *o->ops);
  o->ops[0] = (struct op){ .zero = true, .sure = true, .stands = true };
  o->nr_ops = o->room = o->first_open = 1;
  o->clock = 1;
  if (journal != NULL && (o->journal = fopen (journal, "w")) == NULL) {
    perror (journal);
    exit (1);
  }
  return o;
}

void
oracle_free (struct oracle *o)
{
  if (o->journal != NULL)
    fclose (o->journal);
  if (o->playing != NULL)
    fclose (o->playing);
  free (o->due);
  free (o->ops);
  free (o->sectors);
  free (o);
}

/* ---- events ---- */

static void
add_op (struct oracle *o, struct range r, bool zero)
{
  if (o->nr_ops == o->room) {
    o->room *= 2;
    o->ops = more (o->ops, o->room * sizeof *o->ops);
  }
  o->ops[o->nr_ops++] =
      (struct op){ .r = r, .issued = ++o->clock, .over = NEVER, .zero = zero };
}

uint32_t
oracle_issue (struct oracle *o, struct range r, bool zero)
{
  uint32_t id = o->nr_ops;

  for (uint32_t i = 0; i < r.nr; i++)
    if (sector_at (o, r.disk, r.first + i)->nr == CANDIDATES)
      return 0;
  add_op (o, r, zero);
  for (uint32_t i = 0; i < r.nr; i++) {
    struct sector *s = sector_at (o, r.disk, r.first + i);

    s->ids[s->nr++] = id;
    s->touched = o->clock;
  }
  if (o->journal != NULL)
    fprintf (o->journal, "i %u %u %u %u %d\n", id, r.disk, r.first, r.nr, zero);
  return id;
}

static bool
is_candidate (const struct sector *s, uint32_t id)
{
  for (uint32_t k = 0; k < s->nr; k++)
    if (s->ids[k] == id)
      return true;
  return false;
}

/* What was over before this one was issued is overwritten for good. */
static void
stand (struct oracle *o, uint32_t id)
{
  struct op *op = &o->ops[id];

  op->stands = true;
  for (uint32_t i = 0; i < op->r.nr; i++) {
    struct sector *s = sector_at (o, op->r.disk, op->r.first + i);
    uint32_t kept = 0;

    if (!is_candidate (s, id))
      continue; /* itself overwritten, or another was found there */
    for (uint32_t k = 0; k < s->nr; k++)
      if (s->ids[k] == id || o->ops[s->ids[k]].over >= op->issued)
        s->ids[kept++] = s->ids[k];
    s->nr = kept;
  }
}

static void
due (struct oracle *o, uint64_t what)
{
  if (o->nr_due == o->r_due) {
    o->r_due = 2 * o->r_due + 64;
    o->due = more (o->due, o->r_due * sizeof *o->due);
  }
  o->due[o->nr_due++] = what;
}

void
oracle_over (struct oracle *o, uint32_t id, bool sure, bool fua)
{
  struct op *op = &o->ops[id];

  op->over = ++o->clock;
  op->sure = sure;
  for (uint32_t i = 0; i < op->r.nr; i++)
    sector_at (o, op->r.disk, op->r.first + i)->touched = o->clock;
  if (o->journal != NULL)
    fprintf (o->journal, "o %u %d %d\n", id, sure, fua);
  if (!sure || (o->keeps == KEEPS_FLUSHED && !fua))
    return;
  if (o->playing != NULL)
    due (o, id);
  else
    stand (o, id);
}

uint64_t
oracle_flush (struct oracle *o)
{
  o->clock++;
  if (o->journal != NULL)
    fprintf (o->journal, "f %" PRIu64 "\n", o->clock);
  return o->clock;
}

static void
flush_stands (struct oracle *o, uint64_t flush)
{
  bool open = false;

  for (uint32_t id = o->first_open; id < o->nr_ops; id++) {
    struct op *op = &o->ops[id];

    if (op->sure && !op->stands && op->over < flush)
      stand (o, id);
    open = open || op->over == NEVER || (op->sure && !op->stands);
    if (!open)
      o->first_open = id + 1;
  }
}

void
oracle_flushed (struct oracle *o, uint64_t flush)
{
  o->clock++;
  if (o->journal != NULL)
    fprintf (o->journal, "F %" PRIu64 "\n", flush);
  if (o->playing != NULL)
    due (o, flush | DUE_FLUSH);
  else if (o->keeps == KEEPS_FLUSHED)
    flush_stands (o, flush);
}

void
oracle_mark (struct oracle *o, uint64_t nr)
{
  if (o->journal != NULL)
    fprintf (o->journal, "m %" PRIu64 "\n", nr);
}

/* ---- playing a journal ---- */

static void
pass_mark (struct oracle *o)
{
  for (uint32_t i = 0; i < o->nr_due; i++)
    if (o->due[i] & DUE_FLUSH)
      flush_stands (o, o->due[i] & ~DUE_FLUSH);
    else
      stand (o, (uint32_t) o->due[i]);
  o->nr_due = 0;
}

static void
play_line (struct oracle *o, const char *line)
{
  struct range r;
  uint64_t clock;
  unsigned id, a, b;
  bool ok = true;

  if (sscanf (line, "i %u %u %u %u %u", &id, &r.disk, &r.first, &r.nr, &a) == 5)
    ok = oracle_issue (o, r, a != 0) == id;
  else if (sscanf (line, "o %u %u %u", &id, &a, &b) == 3)
    oracle_over (o, id, a != 0, b != 0);
  else if (sscanf (line, "f %" SCNu64, &clock) == 1)
    ok = oracle_flush (o) == clock;
  else if (sscanf (line, "F %" SCNu64, &clock) == 1)
    oracle_flushed (o, clock);
  else
    ok = false;
  if (!ok) {
    fprintf (stderr, "oracle: the journal does not say how to go on: %s", line);
    exit (1);
  }
}

void
oracle_play (struct oracle *o, const char *journal, uint64_t nr)
{
  char line[128];

  if (o->playing == NULL && (o->playing = fopen (journal, "r")) == NULL) {
    perror (journal);
    exit (1);
  }
  while (!o->played_all && o->held <= nr) {
    if (o->held != 0)
      pass_mark (o);
    o->held = 0;
    while (o->held == 0 && !o->played_all)
      if (fgets (line, sizeof line, o->playing) == NULL)
        o->played_all = true;
      else if (sscanf (line, "m %" SCNu64, &o->held) != 1)
        play_line (o, line);
  }
}

/* ---- values ---- */

static uint64_t
mix (uint64_t x)
{
  x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static void
value (uint32_t id, uint64_t place, uint64_t words[WORDS])
{
  words[0] = id;
  words[1] = place;
  for (unsigned i = 2; i < WORDS; i++)
    words[i] = mix (((uint64_t) id << 32) + place * WORDS + i);
}

static uint64_t
place (struct range r, uint32_t i)
{
  return ((uint64_t) r.disk << 32) + r.first + i;
}

void
oracle_fill (uint32_t id, struct range r, void *bytes)
{
  uint64_t words[WORDS];

  for (uint32_t i = 0; i < r.nr; i++) {
    value (id, place (r, i), words);
    memcpy ((char *) bytes + (size_t) i * SECTOR, words, SECTOR);
  }
}

/* Whose value this is: 0 for zeros, UINT32_MAX for nobody's here. */
static uint32_t
whose (uint64_t at, const void *bytes)
{
  static const uint64_t zeros[WORDS];
  uint64_t words[WORDS], want[WORDS];

  memcpy (words, bytes, SECTOR);
  if (memcmp (words, zeros, SECTOR) == 0)
    return 0;
  if (words[0] >= UINT32_MAX)
    return UINT32_MAX;
  value ((uint32_t) words[0], at, want);
  return memcmp (words, want, SECTOR) == 0 ? (uint32_t) words[0] : UINT32_MAX;
}

/* ---- looking ---- */

/* Has a reply that a store at work must honour overwritten it? */
static bool
hidden (struct oracle *o, const struct sector *s, uint32_t id)
{
  for (uint32_t k = 0; k < s->nr; k++)
    if (o->ops[s->ids[k]].sure && o->ops[id].over < o->ops[s->ids[k]].issued)
      return true;
  return false;
}

static bool
may_hold (struct oracle *o, const struct sector *s, uint32_t found,
          bool at_work)
{
  for (uint32_t k = 0; k < s->nr; k++) {
    uint32_t id = s->ids[k];

    if ((o->ops[id].zero ? 0 : id) == found && !(at_work && hidden (o, s, id)))
      return true;
  }
  return false;
}

static void
tell (struct oracle *o, struct range r, uint32_t i, uint32_t found)
{
  struct sector *s = sector_at (o, r.disk, r.first + i);

  if (o->nr_told++ >= TOLD_MAX)
    return;
  fprintf (stderr, "disk %u sector %u: ", r.disk, r.first + i);
  if (found == UINT32_MAX)
    fprintf (stderr, "holds what was never written there");
  else if (found == 0)
    fprintf (stderr, "holds zeros");
  else
    fprintf (stderr, "holds %u", found);
  if (found > 0 && found < o->nr_ops)
    fprintf (stderr, " (%" PRIu64 " to %" PRIu64 ")", o->ops[found].issued,
             o->ops[found].over);
  fprintf (stderr, ", it is %" PRIu64 "; may hold", o->clock);
  for (uint32_t k = 0; k < s->nr; k++) {
    const struct op *op = &o->ops[s->ids[k]];

    fprintf (stderr, " %u%s%s (%" PRIu64 " to %" PRIu64 ")", s->ids[k],
             op->zero ? " zeros" : "",
             op->stands ? " stands"
             : op->sure ? " replied"
                        : "",
             op->issued, op->over);
  }
  fprintf (stderr, "\n");
}

/* Is b later than a, and another value? */
static bool
differ (const struct oracle *o, uint32_t a, uint32_t b)
{
  return o->ops[a].over < o->ops[b].issued &&
         !(o->ops[a].zero && o->ops[b].zero);
}

/* A request that is a candidate with one earlier other in some sectors of a
 * page: it is in all of them or in none.
 */
static bool
torn (struct oracle *o, struct range r, uint32_t page, const void *bytes)
{
  uint32_t id = 0, nr_in = 0, nr_out = 0;

  for (uint32_t i = page; i < page + PAGE_SECTORS; i++) {
    struct sector *s = sector_at (o, r.disk, r.first + i);
    uint32_t found = whose (place (r, i), (const char *) bytes + i * SECTOR);

    if (s->nr != 2)
      continue;
    if (id == 0)
      id = s->ids[1];
    if (s->ids[1] != id || !differ (o, s->ids[0], id))
      continue;
    if (found == (o->ops[id].zero ? 0 : id))
      nr_in++;
    else
      nr_out++;
  }
  if (nr_in == 0 || nr_out == 0)
    return false;
  fprintf (stderr, "disk %u page %u: half of request %u is there\n", r.disk,
           (r.first + page) / PAGE_SECTORS, id);
  return true;
}

static void
fix (struct oracle *o, struct sector *s, uint32_t found)
{
  for (uint32_t k = 0; k < s->nr; k++) {
    uint32_t id = s->ids[k];

    if ((o->ops[id].zero ? 0 : id) == found) {
      *s = (struct sector){ .nr = 1, .ids = { id }, .touched = s->touched };
      return;
    }
  }
}

unsigned
oracle_check (struct oracle *o, struct range r, const void *bytes,
              enum oracle_look look, uint64_t since)
{
  unsigned wrong = 0;

  if (look != LOOK_READ && r.first % PAGE_SECTORS == 0)
    for (uint32_t i = 0; i + PAGE_SECTORS <= r.nr; i += PAGE_SECTORS)
      wrong += torn (o, r, i, bytes);
  for (uint32_t i = 0; i < r.nr; i++) {
    struct sector *s = sector_at (o, r.disk, r.first + i);
    uint32_t found = whose (place (r, i), (const char *) bytes + i * SECTOR);

    if (look == LOOK_READ && s->touched >= since)
      continue;
    if (!may_hold (o, s, found, look == LOOK_READ)) {
      tell (o, r, i, found);
      wrong++;
    } else if (look == LOOK_RESTART) {
      fix (o, s, found);
    }
  }
  return wrong;
}
