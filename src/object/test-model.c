/* SPDX-License-Identifier: BSD-2-Clause */
/* An object against an array of bytes: one thread, random requests of every
 * alignment, pools with room and pools without, and after every few requests
 * everything is counted again.
 */

#include <config.h>

#include "test-disk.h"

#define OPS        (240 / SLOWER)
#define CHECK_EACH 8

enum page_kind {
  PAGE_HOLE,
  PAGE_BLOCK,
  PAGE_ZERO
};

struct model {
  struct disk *d;
  uint64_t seed, size;
  pgno_t nr_pages;
  uint8_t *want, *got; /* padded to whole pages */
  uint8_t *data;       /* what a request writes; any alignment */
  enum page_kind *kind;
  unsigned nr_enospc;
};

static uint64_t
below (struct model *m, uint64_t n)
{
  return (test_random (&m->seed) >> 11) % n;
}

/* A random range; often short, often on an edge of something. */
static void
pick_range (struct model *m, uint64_t *off, uint64_t *bytes)
{
  static const uint64_t grain[] = { 1, 1, 512, 4096, 4096, 2 * MIB };
  uint64_t g = grain[below (m, 6)];
  uint64_t h = grain[below (m, 5)];
  uint64_t longest = below (m, 4) == 0 ? m->size : min_u64 (m->size, 70000);

  *off = below (m, m->size) / g * g;
  *bytes = (1 + below (m, longest)) / h * h;
  if (*bytes == 0)
    *bytes = h;
  if (*bytes > m->size - *off || below (m, 10) == 0)
    *bytes = m->size - *off;
}

/* ---- comparing ---- */

static bool
is_zero (const uint8_t *p)
{
  for (unsigned i = 0; i < PAGE_BYTES; i++)
    if (p[i] != 0)
      return false;
  return true;
}

static uint64_t
mapped (const struct model *m, enum page_kind kind)
{
  uint64_t nr = 0;

  for (pgno_t i = 0; i < m->nr_pages; i++)
    nr += m->kind[i] == kind;
  return nr;
}

static void
check_kinds (struct model *m)
{
  for (uint64_t off = 0; off < m->size;) {
    struct strategy_extent x = disk_extent (m->d, off, m->size - off);
    enum page_kind kind = x.hole ? PAGE_HOLE : x.zero ? PAGE_ZERO : PAGE_BLOCK;

    assert_in_range (x.bytes, 1, m->size - off);
    assert_true (!x.hole || x.zero);
    for (pgno_t i = off >> PAGE_SHIFT; i <= (off + x.bytes - 1) >> PAGE_SHIFT;
         i++)
      if (m->kind[i] != kind)
        fail_msg ("page %" PRIu64 " is of kind %d, not %d", i, kind,
                  m->kind[i]);
    off += x.bytes;
  }
  assert_int_equal (object_nr_mapped (m->d->o), mapped (m, PAGE_BLOCK));
  if (!m->d->reserved)
    assert_int_equal (object_nr_reserved (m->d->o), mapped (m, PAGE_ZERO));
}

static void
check_bytes (struct model *m, uint64_t off, uint64_t bytes)
{
  uint8_t *got = m->got + below (m, 3); /* any alignment */

  memset (got, 0xdb, bytes + 1);
  assert_int_equal (disk_read (m->d, got, off, bytes), 0);
  for (uint64_t i = 0; i < bytes; i++)
    if (got[i] != m->want[off + i])
      fail_msg ("byte %" PRIu64 " is %#x, not %#x", off + i, got[i],
                m->want[off + i]);
  assert_int_equal (got[bytes], 0xdb); /* no byte too many */
}

/* ---- what a request does to the model ---- */

static bool
covers_page (const struct model *m, pgno_t pgno, uint64_t off, uint64_t bytes)
{
  uint64_t first = pgno << PAGE_SHIFT;

  return off <= first && off + bytes >= min_u64 (first + PAGE_BYTES, m->size);
}

/* A write of an object's short last page is one of a part. */
static bool
replaces_page (const struct model *m, pgno_t pgno, uint64_t off, uint64_t bytes,
               bool write)
{
  if (write && (pgno + 1) << PAGE_SHIFT > m->size)
    return false;
  return covers_page (m, pgno, off, bytes);
}

/* src NULL: zeros.  Returns how many pages get a promise. */
static uint64_t
model_apply (struct model *m, uint8_t *bytes_of, enum page_kind *kind_of,
             uint64_t off, uint64_t bytes, const uint8_t *src, bool keep)
{
  uint64_t nr_new = 0;

  if (src != NULL)
    memcpy (bytes_of + off, src, bytes);
  else
    memset (bytes_of + off, 0, bytes);
  for (pgno_t i = off >> PAGE_SHIFT; i <= (off + bytes - 1) >> PAGE_SHIFT;
       i++) {
    enum page_kind was = kind_of[i];

    if (!is_zero (bytes_of + (i << PAGE_SHIFT)))
      kind_of[i] = PAGE_BLOCK;
    else if (src == NULL && keep && !m->d->reserved)
      kind_of[i] = PAGE_ZERO;
    else if (was == PAGE_ZERO && !replaces_page (m, i, off, bytes, src != NULL))
      kind_of[i] = PAGE_ZERO; /* the promise was for all of it */
    else
      kind_of[i] = PAGE_HOLE;
    nr_new += was == PAGE_HOLE && kind_of[i] != PAGE_HOLE;
  }
  return nr_new;
}

/* After ENOSPC: each page must be the old or the new one; take what it is. */
static void
adopt (struct model *m, const uint8_t *new_bytes, const enum page_kind *new)
{
  assert_int_equal (disk_read (m->d, m->got, 0, m->size), 0);
  for (pgno_t i = 0; i < m->nr_pages; i++) {
    uint64_t pos = i << PAGE_SHIFT;
    size_t len = min_u64 (PAGE_BYTES, m->size - pos);

    if (memcmp (m->got + pos, m->want + pos, len) == 0 &&
        disk_extent (m->d, pos, len).hole == (m->kind[i] == PAGE_HOLE))
      continue;
    assert_memory_equal (m->got + pos, new_bytes + pos, len);
    memcpy (m->want + pos, new_bytes + pos, len);
    m->kind[i] = new[i];
  }
}

static void
change (struct model *m, bool zero)
{
  uint64_t room = disk_stat (m->d).nr_charge_max - disk_stat (m->d).nr_charged;
  uint8_t *bytes_of = malloc (m->nr_pages << PAGE_SHIFT);
  enum page_kind *kind_of = malloc (m->nr_pages * sizeof *kind_of);
  bool keep = below (m, 2) == 0;
  uint8_t *src = zero ? NULL : m->data + below (m, 4096);
  uint64_t off, bytes, nr_new;
  int err;

  pick_range (m, &off, &bytes);
  if (!zero) {
    for (uint64_t i = 0; i < bytes; i += 61)
      src[i] = (uint8_t) test_random (&m->seed);
    if (below (m, 3) == 0)
      memset (src + below (m, bytes), 0, min_u64 (bytes, 9000)); /* padded */
    if (below (m, 6) == 0)
      memset (src, 0, bytes);
  }
  memcpy (bytes_of, m->want, m->nr_pages << PAGE_SHIFT);
  memcpy (kind_of, m->kind, m->nr_pages * sizeof *kind_of);
  nr_new = model_apply (m, bytes_of, kind_of, off, bytes, src, keep);
  err = zero ? disk_zero (m->d, off, bytes, keep)
             : disk_write (m->d, src, off, bytes);
  if (err != 0) {
    assert_int_equal (err, ENOSPC);
    assert_false (m->d->reserved);
    assert_true (nr_new > room); /* never for an overwrite or a trim */
    m->nr_enospc++;
    adopt (m, bytes_of, kind_of);
  } else {
    memcpy (m->want, bytes_of, m->nr_pages << PAGE_SHIFT);
    memcpy (m->kind, kind_of, m->nr_pages * sizeof *kind_of);
  }
  free (bytes_of);
  free (kind_of);
}

static void
one_op (struct model *m)
{
  uint64_t off, bytes;

  switch (below (m, 8)) {
  case 0:
  case 1:
    pick_range (m, &off, &bytes);
    check_bytes (m, off, bytes);
    break;
  case 2:
  case 3:
    change (m, true);
    break;
  default:
    change (m, false);
  }
}

/* ---- the runs ---- */

static unsigned
run (enum disk_kind kind, uint64_t nr_blocks, uint64_t size, bool reserved)
{
  struct model m = { .size = size,
                     .nr_pages = (size + PAGE_MASK) / PAGE_BYTES };
  unsigned ops = size > MIB ? OPS / 2 : OPS;

  m.d = disk_open (kind, nr_blocks, size, reserved);
  m.seed = test_seed ();
  m.want = calloc (m.nr_pages, PAGE_BYTES);
  m.got = calloc (m.nr_pages + 1, PAGE_BYTES);
  m.data = calloc (1, 2 * size + 16384);
  m.kind = calloc (m.nr_pages, sizeof *m.kind);
  for (unsigned i = 0; i < ops; i++) {
    one_op (&m);
    if (i % CHECK_EACH == 0) {
      disk_check (m.d);
      check_kinds (&m);
    }
  }
  check_bytes (&m, 0, size);
  check_kinds (&m);
  disk_check (m.d);
  assert_int_equal (disk_zero (m.d, 0, size, false), 0);
  assert_int_equal (object_nr_mapped (m.d->o), 0);
  disk_close (m.d);
  free (m.want);
  free (m.got);
  free (m.data);
  free (m.kind);
  return m.nr_enospc;
}

static void
runs (enum disk_kind kind)
{
  static const uint64_t sizes[] = { 1,           511,     4095,
                                    4096,        4097,    2 * MIB - 1,
                                    2 * MIB + 1, 5 * MIB, 40 * PAGE_BYTES - 7 };
  unsigned nr_enospc = 0;

  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    uint64_t nr_pages = (sizes[i] + PAGE_MASK) / PAGE_BYTES;
    uint64_t tight = max_u64 (32, nr_pages * 4 / 3 + 2);

    run (kind, 2 * nr_pages + 1024, sizes[i], false);
    run (kind, tight, sizes[i], true);
    run (kind, tight, sizes[i], false);
    nr_enospc += run (kind, 32, sizes[i], false);
  }
  assert_true (nr_enospc > 0);
}

static void
test_memory (void **state)
{
  UNUSED (state);
  runs (DISK_MEMORY);
}

static void
test_checked (void **state)
{
  UNUSED (state);
  runs (DISK_FAULT);
}

static void
test_on_file (void **state)
{
  UNUSED (state);
  runs (DISK_FILE);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_memory),
    cmocka_unit_test (test_checked),
    cmocka_unit_test (test_on_file),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
