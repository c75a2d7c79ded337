/* SPDX-License-Identifier: BSD-2-Clause */
/* Check: who owns which block.
 *
 *   owned   a bit a block: named by a map, the table, or never to be given out
 *           (slots, ring, free map, what is behind the volume's end)
 *   node    a bit a block: a node of a tree
 *
 * Bits lie as those of a free map's leaves do, so that the two are compared by
 * bytes.  A block whose bit is set already goes into a list, and when all trees
 * have been walked, they are walked once more to find both its owners.
 *
 * Memory: 64 MiB a TiB of volumes, used as far as blocks are.
 */

#include <config.h>

#include "check-impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "crc32c.h"

static bool
get_bit (const uint8_t *bits, uint64_t i)
{
  return (bits[i / 8] >> i % 8 & 1) != 0;
}

static void
set_bit (uint8_t *bits, uint64_t i)
{
  bits[i / 8] |= (uint8_t) (1u << i % 8);
}

static void
set_bits (uint8_t *bits, uint64_t from, uint64_t to)
{
  for (; from < to && from % 8 != 0; from++)
    set_bit (bits, from);
  for (; to - from >= 8 && from < to; from += 8)
    bits[from / 8] = 0xff;
  for (; from < to; from++)
    set_bit (bits, from);
}

static int
begin_volume (struct check *c, unsigned i)
{
  uint64_t nr_blocks = c->root.members[i].nr_blocks;
  uint64_t nr_leaves = (nr_blocks - 1) / DISK_FREEMAP_BITS + 1;
  uint64_t bytes = nr_leaves * DISK_NODE_BODY;

  c->owned[i] = calloc (bytes, 1);
  c->node[i] = calloc (bytes, 1);
  if (c->owned[i] == NULL || c->node[i] == NULL)
    return ENOMEM;
  c->report->memory_bytes += 2 * bytes;
  set_bits (c->owned[i], 0, super_first_block (&c->root, i));
  set_bits (c->owned[i], nr_blocks - SLOTS_END, bytes * 8);
  return 0;
}

int
check_owners_begin (struct check *c)
{
  int err = 0;

  for (unsigned i = 0; i < c->nr_volumes && err == 0; i++)
    err = begin_volume (c, i);
  return err;
}

void
check_owners_end (struct check *c)
{
  for (unsigned i = 0; i < c->nr_volumes; i++) {
    free (c->owned[i]);
    free (c->node[i]);
    c->owned[i] = c->node[i] = NULL;
  }
  free (c->twice);
  c->twice = NULL;
  c->nr_twice = 0;
}

/* ---- blocks that are named twice ---- */

static void
add_twice (struct check *c, uint64_t blk)
{
  if (c->twice == NULL)
    c->twice = calloc (CHECK_TWICE_MAX, sizeof *c->twice);
  c->no_memory |= c->twice == NULL;
  if (c->no_memory)
    return;
  if (c->nr_twice == CHECK_TWICE_MAX) {
    struct check_place at = CHECK_NOWHERE;

    at.blk = blk;
    check_tell (c, CHECK_TWICE, &at,
                "has more than one owner (too many such "
                "blocks to say which)");
    return;
  }
  c->twice[c->nr_twice++].blk = blk;
}

static int
by_blk (const void *a, const void *b)
{
  const struct check_twice *x = a, *y = b;

  return x->blk < y->blk ? -1 : x->blk > y->blk;
}

static void
sort_twice (struct check *c)
{
  uint64_t n = 0;

  qsort (c->twice, c->nr_twice, sizeof *c->twice, by_blk);
  for (uint64_t i = 0; i < c->nr_twice; i++)
    if (n == 0 || c->twice[n - 1].blk != c->twice[i].blk)
      c->twice[n++] = c->twice[i];
  c->nr_twice = n;
}

static bool
own_first (struct check *c, const struct check_owner *owner, uint64_t blk)
{
  unsigned volume = blkno_volume (blk);
  uint64_t place = blkno_place (blk);

  if (owner->node) {
    if (get_bit (c->node[volume], place))
      return false;
    set_bit (c->node[volume], place);
  }
  if (owner->tree >= DISK_TREE_FREEMAP && owner->tree < DISK_TREE_FIRST)
    return true; /* in an area of its own */
  if (get_bit (c->owned[volume], place))
    add_twice (c, blk);
  set_bit (c->owned[volume], place);
  return true;
}

static struct check_twice *
find_twice (struct check *c, uint64_t blk)
{
  const struct check_twice key = { .blk = blk };

  if (c->nr_twice == 0)
    return NULL;
  return bsearch (&key, c->twice, c->nr_twice, sizeof key, by_blk);
}

bool
check_is_owned (const struct check *c, uint64_t blk)
{
  return get_bit (c->owned[blkno_volume (blk)], blkno_place (blk));
}

bool
check_is_twice (struct check *c, uint64_t blk)
{
  return find_twice (c, blk) != NULL;
}

bool
check_own (struct check *c, const struct check_owner *owner, uint64_t blk)
{
  struct check_twice *t;

  if (c->pass == PASS_LOOK)
    return own_first (c, owner, blk);
  t = find_twice (c, blk);
  if (t == NULL)
    return true;
  if (c->pass == PASS_OWNERS) {
    if (t->nr < 2)
      t->owner[t->nr] = *owner;
    if (t->nr < 2 && (owner->node || (owner->crc_right && t->keeps == 2)))
      t->keeps = t->nr;
    t->nr++;
    return true;
  }
  return c->pass != PASS_DROP || owner->node ||
         (t->keeps < 2 && t->owner[t->keeps].tree == owner->tree &&
          t->owner[t->keeps].pgno == owner->pgno);
}

static void
name_owner (struct check *c, const struct check_owner *owner, char *to,
            size_t bytes)
{
  const struct check_object *o = check_object_of (c, owner->tree);

  if (owner->tree == DISK_TREE_TABLE)
    snprintf (to, bytes, "the object table");
  else
    snprintf (to, bytes, "%s%.64s%s%s %" PRIu64, o != NULL ? "'" : "",
              o != NULL ? o->name : "an object", o != NULL ? "'" : "",
              owner->node ? ", node for page" : ", page", owner->pgno);
}

static void
tell_twice (struct check *c, const struct check_twice *t)
{
  struct check_place at = CHECK_NOWHERE;
  char who[2][128];

  for (unsigned i = 0; i < 2; i++)
    name_owner (c, &t->owner[i], who[i], sizeof who[i]);
  at.blk = t->blk;
  if (c->lose_pages)
    at.repair = t->keeps == 0   ? "the first keeps it, the other's page is lost"
                : t->keeps == 1 ? "the second keeps it, the other's page is "
                                  "lost"
                                : "both pages are lost";
  check_tell (c, CHECK_TWICE, &at, "belongs to %s and %s%s%s", who[0], who[1],
              t->nr > 2 ? " and others" : "",
              t->keeps == 0   ? "; it has the content of the first"
              : t->keeps == 1 ? "; it has the content of the second"
                              : "; it has the content of neither");
}

int
check_twice (struct check *c, int (*again) (struct check *c))
{
  int err;

  if (c->no_memory)
    return ENOMEM;
  if (c->nr_twice == 0)
    return 0;
  sort_twice (c);
  for (uint64_t i = 0; i < c->nr_twice; i++)
    c->twice[i].keeps = 2;
  c->pass = PASS_OWNERS;
  err = again (c);
  c->pass = PASS_LOOK;
  for (uint64_t i = 0; i < c->nr_twice && err == 0; i++)
    tell_twice (c, &c->twice[i]);
  if (err == 0 && c->fix && c->lose_pages) {
    c->pass = PASS_DROP;
    err = again (c);
    c->pass = PASS_LOOK;
  }
  return err;
}
