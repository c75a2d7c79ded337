/* SPDX-License-Identifier: BSD-2-Clause */
/* An oracle of three small disks of a living store: every version that a page
 * ever had, and which of them are over.
 */

#ifndef FARPAGE_TEST_CHECK_ORACLE_H
#define FARPAGE_TEST_CHECK_ORACLE_H

#include "test-check-live.h"

#define DISKS    3u
#define PAGES    56u /* of a disk; below */
#define VERSIONS 64u

static const struct {
  const char *name;
  uint64_t nr_pages;
} disks[DISKS] = {
  { "wide", 40000 }, /* a map of three levels */
  { "small", 200 },  /* of one */
  { "late", 300 },   /* made after the last cycle */
};

struct page {
  uint8_t version[VERSIONS]; /* in turn; 0 is a hole */
  unsigned nr, nr_flushed;   /* those before nr_flushed are over */
};

struct oracle {
  struct live *live;
  struct page pages[DISKS][PAGES];
  bool exists[DISKS];
};

/* Pages beside each other, at the ends of leaves, and far away. */
static inline uint64_t
pgno_of (unsigned disk, unsigned i)
{
  uint64_t pgno = i < 20 ? i : i < 40 ? 246 + (i - 20) : 32760 + (i - 40);

  return pgno < disks[disk].nr_pages ? pgno : CHECK_NONE;
}

static inline void
fill (uint8_t page[PAGE_BYTES], unsigned disk, unsigned i, uint8_t version)
{
  memset (page, 0, PAGE_BYTES);
  if (version == 0)
    return;
  memset (page, (int) (1 + disk * 80 + i), PAGE_BYTES);
  page[7] = page[4000] = version;
}

static inline struct conn *
connect_to (struct oracle *o, unsigned disk)
{
  const struct peer peer = { .kind = PEER_UNKNOWN };
  struct conn *c;

  return store_connect (o->live->s, disks[disk].name, false, &peer, &c) == 0
             ? c
             : NULL;
}

/* A new version of a page, or a hole.  False: it could not be written. */
static inline bool
put_page (struct oracle *o, struct conn *c, unsigned disk, unsigned i,
          bool hole)
{
  struct page *p = &o->pages[disk][i];
  uint64_t off = pgno_of (disk, i) * PAGE_BYTES;
  uint8_t page[PAGE_BYTES], version = hole ? 0 : (uint8_t) (1 + rnd () % 255);
  int err;

  assert_true (p->nr < VERSIONS);
  fill (page, disk, i, version);
  err = hole ? conn_trim (c, off, PAGE_BYTES, false)
             : conn_write (c, page, off, PAGE_BYTES, false);
  p->version[p->nr++] = version; /* it may be there if it failed, too */
  if (err == 0)
    return true;
  p->nr_flushed = 0;
  return false;
}

static inline void
set_flushed (struct oracle *o)
{
  for (unsigned d = 0; d < DISKS; d++)
    for (unsigned i = 0; i < PAGES; i++)
      o->pages[d][i].nr_flushed = o->pages[d][i].nr - 1;
}

/* Some pages of all disks that are there. */
static inline void
use_disks (struct oracle *o, unsigned nr, bool flush)
{
  for (unsigned d = 0; d < DISKS; d++) {
    struct conn *c = o->exists[d] ? connect_to (o, d) : NULL;

    if (c == NULL)
      continue;
    for (unsigned n = 0; n < nr; n++) {
      unsigned i = (unsigned) rnd () % PAGES;

      if (pgno_of (d, i) != CHECK_NONE)
        assert_true (put_page (o, c, d, i, rnd () % 5 == 0));
    }
    if (flush)
      assert_int_equal (conn_flush (c), 0);
    store_disconnect (c);
  }
  if (flush)
    set_flushed (o);
}

static inline bool
page_ok (const struct oracle *o, unsigned d, unsigned i,
         const uint8_t is[PAGE_BYTES], bool ever)
{
  const struct page *p = &o->pages[d][i];
  uint8_t page[PAGE_BYTES];

  for (unsigned k = ever ? 0 : p->nr_flushed; k < p->nr; k++) {
    fill (page, d, i, p->version[k]);
    if (memcmp (page, is, sizeof page) == 0)
      return true;
  }
  return false;
}

static inline void
create (struct oracle *o, unsigned disk)
{
  make (o->live, disks[disk].name, disks[disk].nr_pages * PAGE_BYTES);
  o->exists[disk] = true;
}

static inline void
oracle_begin (struct oracle *o, struct live *live)
{
  o->live = live;
  for (unsigned d = 0; d < DISKS; d++)
    for (unsigned i = 0; i < PAGES; i++)
      o->pages[d][i] = (struct page){ .nr = 1 };
}

#endif /* FARPAGE_TEST_CHECK_ORACLE_H */
