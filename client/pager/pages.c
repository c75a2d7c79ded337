/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages of a file in memory; pages.h has the picture.  Called by the file
 * pager, with the file's lock held; calls nobody.
 *
 * Which is used again: first those that are FREE, then the oldest of INACTIVE.
 * A page that is touched a second time there becomes ACTIVE, so that one pass
 * over a large file does not put out what is in use.  When there are few
 * INACTIVE and LAUNDRY, the oldest ACTIVE that was not touched since it was
 * last looked at becomes one of them.
 *
 *        to   FREE  BUSY  INACTIVE  LAUNDRY  ACTIVE
 *   FREE       -    take     -         -       -
 *   BUSY      fails  -     filled    filled  filled
 *   INACTIVE  drop  refill  touch    write   touch
 *   LAUNDRY   drop  refill  written  touch   touch
 *   ACTIVE    drop  refill  aged     aged    touch
 *
 * Invariants (pages_check):
 * I1. A page is in the list of its state, and in the hash if it is not FREE.
 * I2. dirty and writing are valid, too.
 * I3. INACTIVE and FREE have nothing dirty and nothing being written; all that
 *     is on LAUNDRY has.
 * I4. nr_dirty counts the pages with dirty blocks.
 *
 * Deliberately not here: any wait, any I/O, and how many dirty pages are many.
 */

#include <config.h>

#include "pages.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BLOCKS (PAGE_BYTES / SECTOR_BYTES)

_Static_assert(BLOCKS == 8, "a page's blocks are the bits of a byte");

/* The table above. */
static const bool may_become[PAGE_STATES][PAGE_STATES] = {
  [PAGE_FREE] = { [PAGE_BUSY] = true },
  [PAGE_BUSY] = { [PAGE_FREE] = true,
                  [PAGE_INACTIVE] = true,
                  [PAGE_LAUNDRY] = true,
                  [PAGE_ACTIVE] = true },
  [PAGE_INACTIVE] = { [PAGE_FREE] = true,
                      [PAGE_BUSY] = true,
                      [PAGE_INACTIVE] = true,
                      [PAGE_LAUNDRY] = true,
                      [PAGE_ACTIVE] = true },
  [PAGE_LAUNDRY] = { [PAGE_FREE] = true,
                     [PAGE_BUSY] = true,
                     [PAGE_INACTIVE] = true,
                     [PAGE_LAUNDRY] = true,
                     [PAGE_ACTIVE] = true },
  [PAGE_ACTIVE] = { [PAGE_FREE] = true,
                    [PAGE_BUSY] = true,
                    [PAGE_INACTIVE] = true,
                    [PAGE_LAUNDRY] = true,
                    [PAGE_ACTIVE] = true },
};

/* ---- blocks ---- */

page_bits
page_bits_touched (unsigned from, unsigned len)
{
  unsigned first = from / SECTOR_BYTES;
  unsigned end = (from + len + SECTOR_BYTES - 1) / SECTOR_BYTES;

  assert (from + len <= PAGE_BYTES);
  return len == 0 ? 0 : (page_bits) ((1u << end) - (1u << first));
}

page_bits
page_bits_filled (unsigned from, unsigned len)
{
  unsigned first = (from + SECTOR_BYTES - 1) / SECTOR_BYTES;
  unsigned end = (from + len) / SECTOR_BYTES;

  assert (from + len <= PAGE_BYTES);
  return end <= first ? 0 : (page_bits) ((1u << end) - (1u << first));
}

/* ---- lists ---- */

static void
list_append (struct page_list *list, struct page *p)
{
  p->prev = list->last;
  p->next = NULL;
  if (list->last != NULL)
    list->last->next = p;
  else
    list->first = p;
  list->last = p;
  list->nr++;
}

static void
list_prepend (struct page_list *list, struct page *p)
{
  p->prev = NULL;
  p->next = list->first;
  if (list->first != NULL)
    list->first->prev = p;
  else
    list->last = p;
  list->first = p;
  list->nr++;
}

static void
list_remove (struct page_list *list, struct page *p)
{
  if (p->prev != NULL)
    p->prev->next = p->next;
  else
    list->first = p->next;
  if (p->next != NULL)
    p->next->prev = p->prev;
  else
    list->last = p->prev;
  list->nr--;
}

/* It is the newest there. */
static void
become (struct pages *ps, struct page *p, enum page_state state)
{
  assert (may_become[p->state][state]);
  list_remove (&ps->list[p->state], p);
  p->state = state;
  list_append (&ps->list[state], p);
}

static enum page_state
idle_state (const struct page *p)
{
  return page_is_unwritten (p) ? PAGE_LAUNDRY : PAGE_INACTIVE;
}

/* What is dirty or being written has changed. */
static void
settle (struct pages *ps, struct page *p)
{
  if (p->state != PAGE_ACTIVE && p->state != idle_state (p))
    become (ps, p, idle_state (p));
}

static void
set_dirty (struct pages *ps, struct page *p, page_bits dirty)
{
  ps->nr_dirty += (dirty != 0) - (p->dirty != 0);
  p->dirty = dirty;
}

/* ---- the hash ---- */

static struct page **
head_of (const struct pages *ps, pgno_t pgno)
{
  uint64_t h = pgno * UINT64_C (0x9e3779b97f4a7c15);

  return &ps->hash[(h >> 32) & (ps->nr_hash - 1)];
}

struct page *
page_find (struct pages *ps, pgno_t pgno)
{
  struct page *p = *head_of (ps, pgno);

  while (p != NULL && p->pgno != pgno)
    p = p->hash;
  return p;
}

static void
hash_in (struct pages *ps, struct page *p)
{
  struct page **head = head_of (ps, p->pgno);

  p->hash = *head;
  *head = p;
}

static void
hash_out (struct pages *ps, struct page *p)
{
  struct page **at = head_of (ps, p->pgno);

  while (*at != p)
    at = &(*at)->hash;
  *at = p->hash;
}

/* ---- making ---- */

int
pages_create (uint32_t nr, struct pages **psp)
{
  struct pages *ps;

  if (nr == 0 || nr > PAGES_MAX)
    return EINVAL;
  ps = calloc (1, sizeof *ps);
  if (ps == NULL)
    return ENOMEM;
  ps->nr = nr;
  ps->nr_hash = 1;
  while (ps->nr_hash < nr)
    ps->nr_hash *= 2;
  ps->page = calloc (nr, sizeof *ps->page);
  ps->hash = calloc (ps->nr_hash, sizeof (struct page *));
  ps->memory = mmap (NULL, (size_t) nr << PAGE_SHIFT, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (ps->memory == MAP_FAILED)
    ps->memory = NULL;
  if (ps->page == NULL || ps->hash == NULL || ps->memory == NULL) {
    pages_destroy (ps);
    return ENOMEM;
  }
  for (uint32_t i = 0; i < nr; i++) {
    ps->page[i].data = ps->memory + ((size_t) i << PAGE_SHIFT);
    list_append (&ps->list[PAGE_FREE], &ps->page[i]);
  }
  *psp = ps;
  return 0;
}

void
pages_destroy (struct pages *ps)
{
  if (ps == NULL)
    return;
  if (ps->memory != NULL)
    munmap (ps->memory, (size_t) ps->nr << PAGE_SHIFT);
  free (ps->page);
  free (ps->hash);
  free (ps);
}

/* ---- reading ---- */

static void
forget (struct pages *ps, struct page *p)
{
  assert (p->writing == 0);
  set_dirty (ps, p, 0);
  hash_out (ps, p);
  p->valid = 0;
  p->touched = p->alone = false;
  become (ps, p, PAGE_FREE);
}

/* A third of what is in memory may be used again, or after it was written; and
 * one at once, if any is clean.
 */
static void
age (struct pages *ps)
{
  const struct page_list *active = &ps->list[PAGE_ACTIVE];
  const struct page_list *inactive = &ps->list[PAGE_INACTIVE];
  uint32_t idle = inactive->nr + ps->list[PAGE_LAUNDRY].nr;
  uint64_t looks = 2 * (uint64_t) active->nr;

  for (; looks > 0 && active->nr > 0; looks--) {
    struct page *p = active->first;

    if (inactive->nr > 0 && active->nr <= 2 * (uint64_t) idle)
      break;

    if (p->touched) {
      p->touched = false;
      become (ps, p, PAGE_ACTIVE);
    } else {
      become (ps, p, idle_state (p));
      idle++;
    }
  }
}

struct page *
page_take (struct pages *ps, pgno_t pgno)
{
  struct page *p;

  assert (page_find (ps, pgno) == NULL);
  if (ps->list[PAGE_FREE].nr == 0) {
    age (ps);
    if (ps->list[PAGE_INACTIVE].nr == 0)
      return NULL;
    forget (ps, ps->list[PAGE_INACTIVE].first);
  }
  p = ps->list[PAGE_FREE].first;
  p->pgno = pgno;
  hash_in (ps, p);
  become (ps, p, PAGE_BUSY);
  return p;
}

static bool
is_there (const struct page *p)
{
  return p->state != PAGE_FREE && p->state != PAGE_BUSY;
}

void
page_refill (struct pages *ps, struct page *p)
{
  assert (is_there (p) && p->valid != PAGE_BITS_ALL);
  become (ps, p, PAGE_BUSY);
}

void
page_filled (struct pages *ps, struct page *p, page_bits bits, bool active)
{
  assert (p->state == PAGE_BUSY);
  p->valid |= bits;
  become (ps, p, active ? PAGE_ACTIVE : idle_state (p));
}

void
page_unfill (struct pages *ps, struct page *p, page_bits bits)
{
  (void) ps;
  assert (p->state != PAGE_FREE);
  p->valid &= ~bits | p->dirty | p->writing;
}

void
page_not_filled (struct pages *ps, struct page *p)
{
  assert (p->state == PAGE_BUSY);
  if (p->valid == 0)
    forget (ps, p);
  else
    become (ps, p, idle_state (p));
}

/* ---- using ---- */

void
page_touch (struct pages *ps, struct page *p)
{
  assert (is_there (p));
  if (p->touched && p->state != PAGE_ACTIVE)
    become (ps, p, PAGE_ACTIVE);
  p->touched = true;
}

void
page_write (struct pages *ps, struct page *p, unsigned from, unsigned len)
{
  const page_bits touched = page_bits_touched (from, len);

  assert (is_there (p));
  p->valid |= page_bits_filled (from, len);
  assert ((touched & ~p->valid) == 0);
  set_dirty (ps, p, p->dirty | touched);
  settle (ps, p);
}

page_bits
page_put_begin (struct pages *ps, struct page *p)
{
  assert (is_there (p) && p->dirty != 0 && p->writing == 0);
  p->writing = p->dirty;
  set_dirty (ps, p, 0);
  return p->writing;
}

void
page_put_end (struct pages *ps, struct page *p, page_bits done, bool idle)
{
  const page_bits again = p->writing & ~done;

  assert (p->writing != 0);
  p->writing = 0;
  p->alone = again != 0;
  set_dirty (ps, p, p->dirty | again);
  if (p->state == PAGE_BUSY)
    return;
  settle (ps, p);
  if (again != 0) {
    become (ps, p, PAGE_ACTIVE);
  } else if (idle && idle_state (p) == PAGE_INACTIVE) {
    become (ps, p, PAGE_INACTIVE);
    list_remove (&ps->list[PAGE_INACTIVE], p);
    list_prepend (&ps->list[PAGE_INACTIVE], p);
    p->touched = false;
  }
}

void
page_clean (struct pages *ps, struct page *p, page_bits bits)
{
  assert (is_there (p));
  set_dirty (ps, p, p->dirty & ~bits);
  settle (ps, p);
}

void
page_drop (struct pages *ps, struct page *p)
{
  assert (is_there (p));
  forget (ps, p);
}

/* ---- checking ---- */

static const char *
check_page (const struct pages *ps, const struct page *p)
{
  const bool idle = p->state == PAGE_FREE || p->state == PAGE_INACTIVE;
  const page_bits unclean = p->dirty | p->writing;

  if ((unclean & ~p->valid) != 0)
    return "a block is dirty and not valid";
  if (idle && unclean != 0)
    return "a page that may be used again is dirty";
  if (p->state == PAGE_LAUNDRY && unclean == 0)
    return "a clean page is to be written";
  if (p->state == PAGE_FREE)
    return p->valid != 0 ? "a free page is valid" : NULL;
  for (const struct page *q = *head_of (ps, p->pgno); q != NULL; q = q->hash)
    if (q == p)
      return NULL;
  return "a page is not in the hash";
}

static const char *
check_list (const struct pages *ps, enum page_state state, uint32_t *nr_dirty)
{
  const struct page_list *list = &ps->list[state];
  const struct page *prev = NULL;
  const char *wrong;
  uint32_t nr = 0;

  for (const struct page *p = list->first; p != NULL; prev = p, p = p->next) {
    if (p->state != state || p->prev != prev || ++nr > list->nr)
      return "a list";
    wrong = check_page (ps, p);
    if (wrong != NULL)
      return wrong;
    *nr_dirty += p->dirty != 0;
  }
  return list->last != prev || nr != list->nr ? "the end of a list" : NULL;
}

const char *
pages_check (const struct pages *ps)
{
  uint32_t nr = 0, nr_hash = 0, nr_dirty = 0;

  for (unsigned i = 0; i < PAGE_STATES; i++) {
    const char *wrong = check_list (ps, i, &nr_dirty);

    if (wrong != NULL)
      return wrong;
    nr += ps->list[i].nr;
  }
  for (uint32_t i = 0; i < ps->nr_hash; i++)
    for (const struct page *p = ps->hash[i]; p != NULL; p = p->hash)
      nr_hash++;
  if (nr != ps->nr)
    return "pages in no list";
  if (nr_hash != nr - ps->list[PAGE_FREE].nr)
    return "pages in the hash";
  return nr_dirty != ps->nr_dirty ? "the count of dirty pages" : NULL;
}
