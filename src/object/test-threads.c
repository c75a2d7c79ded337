/* SPDX-License-Identifier: BSD-2-Clause */
/* Many threads on few pages: no page is torn, nobody's bytes change under
 * him; and how much stack all of it takes.
 */

#include <config.h>

#include "test-disk.h"

#include <sys/mman.h>

#define PAGES(n)   ((uint64_t) (n) << PAGE_SHIFT)
#define SECTORS(n) ((uint64_t) (n) << SECTOR_SHIFT)
#define RUN_NS     (3 * NS_PER_S)

/* ---- no torn page ---- */

/* Each word says where it is and who wrote it: bit 63 a write of whole pages,
 * bits 40-62 the write, bits 0-39 the place.
 */
#define WORD_WHOLE    (UINT64_C (1) << 63)
#define WORD_PLACE(w) ((w) & ((UINT64_C (1) << 40) - 1))
#define WORD_WRITE(w) ((w) >> 40)
#define TORN_PAGES    6
#define TORN_WRITERS  5
#define TORN_READERS  3
#define PAGE_WORDS    (PAGE_BYTES / 8)

struct torn {
  struct disk *d;
  uint64_t end_ns;
  unsigned id;
  uint64_t seed, nr;
  const char *wrong;
};

static void
stamp (uint64_t *buf, uint64_t off, uint64_t bytes, uint64_t high)
{
  for (uint64_t i = 0; i < bytes / 8; i++)
    buf[i] = high | (off + 8 * i + 1);
}

static void *
torn_writer (void *arg)
{
  struct torn *t = arg;
  uint64_t *buf = malloc (PAGES (TORN_PAGES));

  while (env_now_ns () < t->end_ns && t->wrong == NULL) {
    bool whole = test_random (&t->seed) & 64;
    uint64_t grain = whole ? PAGE_BYTES : 8;
    uint64_t off =
        (test_random (&t->seed) >> 11) % (PAGES (TORN_PAGES) / grain) * grain;
    uint64_t most = (PAGES (TORN_PAGES) - off) / grain;
    uint64_t bytes = (1 + (test_random (&t->seed) >> 11) % most) * grain;
    uint64_t write = (t->nr++ * TORN_WRITERS + t->id) & 0x7fffff;
    int err;

    if (!whole && bytes > 3000)
      bytes = 8 + bytes % 3000 / 8 * 8;
    stamp (buf, off, bytes, write << 40 | (whole ? WORD_WHOLE : 0));
    if (test_random (&t->seed) % 40 == 0)
      err = disk_zero (t->d, off, bytes, test_random (&t->seed) & 1);
    else
      err = disk_write (t->d, buf, off, bytes);
    if (err != 0)
      t->wrong = strerror (err);
  }
  free (buf);
  return NULL;
}

/* All words of a page are in their place, and those of writes of whole pages
 * are of one write.
 */
static const char *
torn_page (const uint64_t *page, uint64_t off)
{
  uint64_t whole = 0;

  for (unsigned i = 0; i < PAGE_WORDS; i++) {
    if (page[i] == 0)
      continue;
    if (WORD_PLACE (page[i]) != off + 8 * i + 1)
      return "a word of another place";
    if (!(page[i] & WORD_WHOLE))
      continue;
    if (whole != 0 && WORD_WRITE (page[i]) != whole)
      return "a torn page";
    whole = WORD_WRITE (page[i]);
  }
  return NULL;
}

static void *
torn_reader (void *arg)
{
  struct torn *t = arg;
  uint64_t *buf = malloc (PAGES (TORN_PAGES));

  while (env_now_ns () < t->end_ns && t->wrong == NULL) {
    pgno_t first = (test_random (&t->seed) >> 11) % TORN_PAGES;
    uint64_t nr = 1 + (test_random (&t->seed) >> 11) % (TORN_PAGES - first);
    int err = disk_read (t->d, buf, PAGES (first), PAGES (nr));

    if (err != 0)
      t->wrong = strerror (err);
    for (uint64_t i = 0; i < nr && t->wrong == NULL; i++)
      t->wrong = torn_page (buf + i * PAGE_WORDS, PAGES (first + i));
    t->nr++;
  }
  free (buf);
  return NULL;
}

static void
torn (enum disk_kind kind)
{
  struct disk *d = disk_open (kind, 64, PAGES (TORN_PAGES), false);
  struct torn t[TORN_WRITERS + TORN_READERS];
  pthread_t thread[TORN_WRITERS + TORN_READERS];
  uint64_t nr[2] = { 0, 0 };
  uint64_t seed = test_seed ();

  for (unsigned i = 0; i < TORN_WRITERS + TORN_READERS; i++) {
    t[i] = (struct torn){
      .d = d, .id = i, .seed = seed + i, .end_ns = env_now_ns () + RUN_NS / 2
    };
    pthread_create (&thread[i], NULL,
                    i < TORN_WRITERS ? torn_writer : torn_reader, &t[i]);
  }
  for (unsigned i = 0; i < TORN_WRITERS + TORN_READERS; i++) {
    pthread_join (thread[i], NULL);
    if (t[i].wrong != NULL)
      fail_msg ("%s", t[i].wrong);
    nr[i >= TORN_WRITERS] += t[i].nr;
  }
  print_message ("%" PRIu64 " writes, %" PRIu64 " reads\n", nr[0], nr[1]);
  assert_true (nr[0] > 100 && nr[1] > 100);
  disk_close (d);
}

static void
test_torn (void **state)
{
  UNUSED (state);
  torn (DISK_MEMORY);
  torn (DISK_FAULT);
  torn (DISK_FILE);
}

/* ---- everybody his own sectors ---- */

#define OWNERS 6

struct owner {
  struct disk *d;
  uint64_t end_ns, size, seed, nr;
  unsigned id;
  uint8_t *want; /* its own sectors of it are good */
  const char *wrong;
};

/* Sectors belong to owners in turn: a few pages' worth at a time below, less
 * or more than a page.
 */
static uint64_t
piece_of (const struct owner *w, uint64_t sector)
{
  return sector < w->size / SECTOR_BYTES / 2 ? 11 : 173;
}

/* A random range of bytes that are w's own. */
static void
pick_own (struct owner *w, uint64_t *off, uint64_t *bytes)
{
  uint64_t sector, piece, end;

  do {
    sector = (test_random (&w->seed) >> 11) % (w->size / SECTOR_BYTES);
    piece = piece_of (w, sector);
  } while (sector / piece % OWNERS != w->id);
  end = min_u64 ((sector / piece + 1) * piece, w->size / SECTOR_BYTES);
  if (piece == 11)
    end = min_u64 (end, w->size / SECTOR_BYTES / 2);
  *off = SECTORS (sector);
  *bytes = SECTORS (end) - *off;
  if (test_random (&w->seed) & 64)
    *bytes = 1 + (test_random (&w->seed) >> 11) % *bytes;
  if (test_random (&w->seed) & 64) {
    uint64_t skip = (test_random (&w->seed) >> 11) % *bytes;

    *off += skip;
    *bytes -= skip;
  }
}

static int
own_change (struct owner *w, uint64_t off, uint64_t bytes)
{
  uint64_t op = test_random (&w->seed) >> 11;

  if (op % 4 == 0) {
    memset (w->want + off, 0, bytes);
    return disk_zero (w->d, off, bytes, op & 8);
  }
  memset (w->want + off, op % 32 ? (int) (op >> 8) : 0, bytes);
  w->want[off + bytes / 2] ^= (uint8_t) op;
  return disk_write (w->d, w->want + off, off, bytes);
}

static void
own_verify (struct owner *w, uint64_t off, uint64_t bytes)
{
  uint8_t *got = malloc (bytes);

  if (disk_read (w->d, got, off, bytes) != 0)
    w->wrong = "a read failed";
  else if (memcmp (got, w->want + off, bytes) != 0)
    w->wrong = "what was written is not there";
  free (got);
}

static void *
owner_thread (void *arg)
{
  struct owner *w = arg;

  while (env_now_ns () < w->end_ns && w->wrong == NULL) {
    uint64_t off, bytes;

    pick_own (w, &off, &bytes);
    if (test_random (&w->seed) % 3 == 0)
      own_verify (w, off, bytes);
    else if (own_change (w, off, bytes) != 0)
      w->wrong = "a write failed";
    w->nr++;
  }
  for (uint64_t i = 0; i < w->size / SECTOR_BYTES && w->wrong == NULL; i++)
    if (i / piece_of (w, i) % OWNERS == w->id)
      own_verify (w, SECTORS (i), SECTOR_BYTES);
  return NULL;
}

static void
owners (enum disk_kind kind, uint64_t nr_blocks, bool reserved)
{
  uint64_t size = PAGES (700);
  struct disk *d = disk_open (kind, nr_blocks, size, reserved);
  struct owner w[OWNERS];
  pthread_t thread[OWNERS];
  uint64_t nr = 0;
  uint64_t seed = test_seed ();

  for (unsigned i = 0; i < OWNERS; i++) {
    w[i] = (struct owner){ .d = d,
                           .id = i,
                           .size = size,
                           .seed = seed + i,
                           .want = calloc (1, size),
                           .end_ns = env_now_ns () + RUN_NS };
    pthread_create (&thread[i], NULL, owner_thread, &w[i]);
  }
  for (unsigned i = 0; i < OWNERS; i++) {
    pthread_join (thread[i], NULL);
    free (w[i].want);
    nr += w[i].nr;
    if (w[i].wrong != NULL)
      fail_msg ("%s", w[i].wrong);
  }
  print_message ("%" PRIu64 " requests\n", nr);
  assert_true (nr > 100);
  disk_close (d);
}

static void
test_owners_memory (void **state)
{
  UNUSED (state);
  owners (DISK_MEMORY, 934, true); /* full to the last page, always */
}

static void
test_owners_checked (void **state)
{
  UNUSED (state);
  owners (DISK_FAULT, 2048, false);
}

static void
test_owners_file (void **state)
{
  UNUSED (state);
  owners (DISK_FILE, 1024, false);
}

/* ---- stack ---- */

#define STACK_BYTES MIB
#define STACK_PAINT 0xa5

static void *
stack_thread (void *arg)
{
  struct disk *d = arg;
  uint8_t *buf = malloc (PAGES (601));

  memset (buf, 1, PAGES (601));
  disk_write (d, buf, 0, PAGES (600));
  disk_write (d, buf + 3, 5, PAGES (3));
  disk_zero (d, 7, PAGES (599), true);
  disk_read (d, buf, 3, PAGES (590));
  disk_read (d, buf + 1, 0, PAGES (600));
  disk_zero (d, 7, PAGES (599), false);
  free (buf);
  return NULL;
}

static void
stack_of (enum disk_kind kind)
{
  struct disk *d = disk_open (kind, 4096, PAGES (600), false);
  uint8_t *stack = mmap (NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  pthread_attr_t attr;
  pthread_t thread;
  size_t unused = 0;

  memset (stack, STACK_PAINT, STACK_BYTES);
  pthread_attr_init (&attr);
  assert_int_equal (pthread_attr_setstack (&attr, stack, STACK_BYTES), 0);
  pthread_create (&thread, &attr, stack_thread, d);
  pthread_join (thread, NULL);
  pthread_attr_destroy (&attr);
  while (unused < STACK_BYTES && stack[unused] == STACK_PAINT)
    unused++;
  print_message ("stack: %zu KiB\n", (STACK_BYTES - unused + 1023) / 1024);
  if (SLOWER == 1)
    assert_true (STACK_BYTES - unused < 128 * 1024);
  munmap (stack, STACK_BYTES);
  disk_close (d);
}

static void
test_stack (void **state)
{
  UNUSED (state);
  stack_of (DISK_MEMORY);
  stack_of (DISK_FAULT);
  stack_of (DISK_FILE);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_torn),
    cmocka_unit_test (test_owners_memory),
    cmocka_unit_test (test_owners_checked),
    cmocka_unit_test (test_owners_file),
    cmocka_unit_test (test_stack),
  };

  return cmocka_run_group_tests (tests, test_begin, test_end);
}
