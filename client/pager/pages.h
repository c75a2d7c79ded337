/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages of a file in memory: found by their number, with what is valid and what
 * is dirty of each, in blocks of 512 bytes.
 *
 *            take               filled                 touched
 *     FREE ───────▶ BUSY ────────────────▶ INACTIVE ──────────▶ ACTIVE
 *      ▲             │ ▲ refill     write │ ▲ clean               │
 *      │  not filled │ └──────────────┐   ▼ │                     │
 *      ├─────────────┘                └ LAUNDRY ◀─────────────────┘
 *      └──── dropped, or used again: INACTIVE    oldest, not touched
 *
 * All memory is made at the start.  A dirty page is never used again: who wants
 * a page and gets none has to write some.
 * Lock: the file's, for all of it; nothing here waits.
 */

#ifndef FARPAGE_PAGES_H
#define FARPAGE_PAGES_H

#include "types.h"

#define PAGES_MAX (UINT32_C (1) << 26) /* 256 GiB */

enum page_state {
  PAGE_FREE,
  PAGE_BUSY,     /* its blocks that are not valid are being read */
  PAGE_INACTIVE, /* clean: the oldest is the next to be used again */
  PAGE_LAUNDRY,  /* dirty, or being written: the oldest is written first */
  PAGE_ACTIVE,   /* touched again, clean or dirty */
  PAGE_STATES
};

/* Bit i: bytes from 512 i on, 512 of them. */
typedef uint8_t page_bits;
#define PAGE_BITS_ALL ((page_bits) 0xff)

struct page {
  pgno_t pgno;                     /* [const] while it is not FREE */
  uint8_t *data;                   /* [const] a page */
  struct page *prev, *next, *hash; /* the table's */
  enum page_state state;
  page_bits valid, dirty;
  page_bits writing; /* were dirty, and a write has them: dirty or not since */
  bool touched;      /* since somebody last looked */
  bool alone;        /* a write of it failed: the next is of no other page */
};

struct page_list {
  struct page *first, *last; /* oldest, newest */
  uint32_t nr;
};

struct pages {
  struct page_list list[PAGE_STATES];
  uint32_t nr;       /* [const] */
  uint32_t nr_dirty; /* have dirty blocks */
  /* The table's own. */
  struct page *page; /* [const] nr of them */
  uint8_t *memory;   /* [const] */
  struct page **hash;
  uint32_t nr_hash; /* a power of two */
};

/* Dirty, or being written: then the server may not have it yet. */
static inline bool
page_is_unwritten (const struct page *p)
{
  return (p->dirty | p->writing) != 0;
}

/* EINVAL: 0 or more than PAGES_MAX.  ENOMEM. */
extern int pages_create (uint32_t nr, struct pages **psp);
/* NULL is fine. */
extern void pages_destroy (struct pages *ps);

/* NULL: it is not in memory. */
extern struct page *page_find (struct pages *ps, pgno_t pgno);

/* For one that is not in memory: BUSY, nothing valid.  NULL: every page is
 * busy, dirty or being written.
 */
extern struct page *page_take (struct pages *ps, pgno_t pgno);
/* Not BUSY, some blocks not valid: BUSY, to read those. */
extern void page_refill (struct pages *ps, struct page *p);
/* BUSY: these are valid, too.  active: somebody waits for it. */
extern void page_filled (struct pages *ps, struct page *p, page_bits bits,
                         bool active);
/* Not FREE: these blocks are valid no more, but for those that are unwritten.
 */
extern void page_unfill (struct pages *ps, struct page *p, page_bits bits);
/* BUSY: it is as before; FREE if nothing was valid. */
extern void page_not_filled (struct pages *ps, struct page *p);

/* Not FREE and not BUSY, here and below. */
extern void page_touch (struct pages *ps, struct page *p);
/* Bytes [from, from + len) are written: blocks that they fill become valid, all
 * that they touch dirty.  A block that is only touched must be valid.
 */
extern void page_write (struct pages *ps, struct page *p, unsigned from,
                        unsigned len);
/* To be written: what is dirty is with the write now.  Dirty, and no other
 * write has it.  Returns which blocks.
 */
extern page_bits page_put_begin (struct pages *ps, struct page *p);
/* These blocks are done, the others dirty again.  idle: the next to be used
 * again, if it is clean.
 */
extern void page_put_end (struct pages *ps, struct page *p, page_bits done,
                          bool idle);
/* Blocks that nobody wants any more: not dirty. */
extern void page_clean (struct pages *ps, struct page *p, page_bits bits);
/* Not being written: FREE, whatever is dirty. */
extern void page_drop (struct pages *ps, struct page *p);

/* Blocks that bytes [from, from + len) of a page touch; that they fill. */
extern page_bits page_bits_touched (unsigned from, unsigned len);
extern page_bits page_bits_filled (unsigned from, unsigned len);

/* NULL, or what is wrong. */
extern const char *pages_check (const struct pages *ps);

#endif /* FARPAGE_PAGES_H */
