/* SPDX-License-Identifier: BSD-2-Clause */
/* docs/format.md against the structures it describes, both ways: each row of
 * its tables is a field at that place, each field has a row, and the fields
 * of a table leave no byte out.  Then a label, a store and an undo file that
 * farpage's code wrote are read by the tables alone, and labels that break a
 * rule are refused.
 *
 * Markdown is taken as it is: a table's row is a line that begins with '|',
 * its cells stand between bars, and a name is in backticks.  The file is
 * $TOP_SRCDIR/docs/format.md.
 */

#include <config.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "check.h"
#include "crc32c.h"
#include "disk.h"
#include "format-fields.h"
#include "medium.h"
#include "super.h"
#include "swmeta.h"
#include "types.h"
#include "volume.h"

#define LINES_MAX  1000
#define CELLS_MAX  8
#define CELL_MAX   128
#define PATH_BYTES (LABEL_AREA_BYTES + VOLUME_BYTES_MIN + 5 * PAGE_BYTES + 123)

struct row {
  unsigned nr;
  char cell[CELLS_MAX][CELL_MAX];
};

static char *line[LINES_MAX];
static unsigned nr_lines;
static char volume_path[PATH_MAX];

/* ---- the document ---- */

static int
read_document (void **state)
{
  const char *top = getenv ("TOP_SRCDIR");
  char path[PATH_MAX];
  size_t bytes;
  FILE *f;

  (void) state;
  snprintf (path, sizeof path, "%s/docs/format.md", top != NULL ? top : ".");
  f = fopen (path, "re");
  if (f == NULL)
    return -1;
  for (; nr_lines < LINES_MAX; nr_lines++) {
    line[nr_lines] = NULL;
    bytes = 0;
    if (getline (&line[nr_lines], &bytes, f) == -1)
      break;
  }
  fclose (f);
  return nr_lines < LINES_MAX ? 0 : -1;
}

/* An empty file for a volume; remove_file () takes it away, come what may. */
static int
make_file (void **state)
{
  const char *tmp = getenv ("TMPDIR");
  int fd;

  (void) state;
  snprintf (volume_path, sizeof volume_path, "%s/farpage-format.XXXXXX",
            tmp != NULL ? tmp : "/tmp");
  fd = mkostemp (volume_path, O_CLOEXEC);
  if (fd == -1)
    return -1;
  if (ftruncate (fd, PATH_BYTES) == -1)
    unlink (volume_path);
  return close (fd);
}

static int
remove_file (void **state)
{
  (void) state;
  return unlink (volume_path);
}

static int
forget_document (void **state)
{
  (void) state;
  for (unsigned i = 0; i <= nr_lines; i++)
    free (line[i]);
  return 0;
}

/* A cell without its spaces and backticks. */
static void
take_cell (char *to, const char *from, size_t len)
{
  size_t n = 0;

  while (len > 0 && (*from == ' ' || *from == '`'))
    from++, len--;
  while (len > 0 && strchr (" `\n", from[len - 1]) != NULL)
    len--;
  for (; n < len && n < CELL_MAX - 1; n++)
    to[n] = from[n];
  to[n] = '\0';
}

static void
take_row (const char *text, struct row *row)
{
  memset (row, 0, sizeof *row);
  while (*text == '|' && row->nr < CELLS_MAX) {
    const char *end = strchr (text + 1, '|');

    if (end == NULL)
      break;
    take_cell (row->cell[row->nr++], text + 1, (size_t) (end - text - 1));
    text = end;
  }
}

/* The line behind the head of the first table after a line with this text. */
static unsigned
table_after (const char *text)
{
  unsigned i = 0;

  while (i < nr_lines && strstr (line[i], text) == NULL)
    i++;
  while (i < nr_lines && line[i][0] != '|')
    i++;
  assert_true (i + 2 < nr_lines);
  return i + 2; /* its head and the rule below */
}

static uint64_t
number (const char *text)
{
  char *end;
  uint64_t n = strtoull (text, &end, 0);

  if (*text == '\0' || *end != '\0')
    fail_msg ("'%s' is no number", text);
  return n;
}

static bool
has_text (const char *text)
{
  for (unsigned i = 0; i < nr_lines; i++)
    if (strstr (line[i], text) != NULL)
      return true;
  return false;
}

/* ---- tests ---- */

/* Rows and fields are the same, in order, and cover the structure. */
static void
compare (const char *title, const struct field *field)
{
  uint64_t end = 0;
  unsigned i = table_after (title);
  struct row row;

  for (; field->name != NULL; field++, i++) {
    take_row (line[i], &row);
    assert_string_equal (row.cell[2], field->name);
    assert_int_equal (number (row.cell[0]), field->offset);
    assert_int_equal (number (row.cell[1]), field->bytes);
    assert_int_equal (field->offset, end); /* nothing left out */
    end = field->offset + field->bytes;
  }
  take_row (line[i], &row);
  assert_int_equal (number (row.cell[0]), end);
  assert_string_equal (row.cell[3], "end");
  assert_int_equal (field->offset, end);
  assert_true (i + 1 == nr_lines || line[i + 1][0] != '|');
}

static void
test_structs (void **state)
{
  (void) state;
  for (unsigned i = 0; i < sizeof structs / sizeof structs[0]; i++)
    compare (structs[i].title, structs[i].fields);
}

/* Every structure of disk.h has its table. */
static void
test_all (void **state)
{
  const char *top = getenv ("TOP_SRCDIR");
  char path[PATH_MAX], text[256], title[128], name[64];
  unsigned nr = 0;
  FILE *f;

  (void) state;
  snprintf (path, sizeof path, "%s/src/base/disk.h", top != NULL ? top : ".");
  f = fopen (path, "re");
  assert_non_null (f);
  while (fgets (text, sizeof text, f) != NULL)
    if (sscanf (text, "struct %63[a-z_] {", name) == 1 &&
        strchr (text, '{') != NULL) {
      snprintf (title, sizeof title, "## `struct %s`", name);
      if (!has_text (title))
        fail_msg ("no %s", title);
      nr++;
    }
  fclose (f);
  assert_int_equal (nr, sizeof structs / sizeof structs[0] - 1);
}

static void
test_numbers (void **state)
{
  unsigned i = table_after ("## Numbers");
  struct row row;

  (void) state;
  for (const struct field *n = numbers; n->name != NULL; n++, i++) {
    take_row (line[i], &row);
    assert_string_equal (row.cell[0], n->name);
    assert_int_equal (number (row.cell[1]), n->offset);
  }
  assert_true (i == nr_lines || line[i][0] != '|');
  take_row (line[table_after ("## `struct disk_label`")], &row);
  assert_non_null (strstr (row.cell[3], DISK_LABEL_MAGIC));
}

static void
test_words (void **state)
{
  blkno_t blk = blkno_make (3, 5);
  const uint64_t says[] = { blk, swmeta_word (SWMETA_BLOCK, blk),
                            swmeta_word (SWMETA_ZERO, 0) };
  char text[32];

  (void) state;
  for (unsigned i = 0; i < sizeof says / sizeof says[0]; i++) {
    snprintf (text, sizeof text, "0x%016" PRIx64, says[i]);
    assert_true (has_text (text));
  }
  assert_int_equal (swmeta_blkno (says[1]), blk);
  assert_int_equal (blkno_volume (blk), 3);
  assert_int_equal (blkno_place (blk), 5);
}

/* A field's bytes, by the table with this title alone. */
static const uint8_t *
bytes_of (const char *title, const uint8_t *at, const char *name,
          uint64_t *nr_bytes)
{
  unsigned i = table_after (title);
  struct row row;

  for (take_row (line[i], &row); strcmp (row.cell[2], name) != 0;
       take_row (line[++i], &row))
    assert_true (line[i][0] == '|');
  *nr_bytes = number (row.cell[1]);
  return at + number (row.cell[0]);
}

/* Its number: little-endian. */
static uint64_t
number_of (const char *title, const uint8_t *at, const char *name)
{
  uint64_t nr_bytes, value = 0;

  at = bytes_of (title, at, name, &nr_bytes);
  while (nr_bytes-- > 0)
    value = value << 8 | at[nr_bytes];
  return value;
}

static uint64_t
label_number (const uint8_t *label, const char *name)
{
  return number_of ("## `struct disk_label`", label, name);
}

static void
test_written (void **state)
{
  const struct volume_path_options options = { 0 };
  int fd = open (volume_path, O_RDWR | O_CLOEXEC);
  uint8_t *area = malloc (LABEL_AREA_BYTES);
  struct volume *v;

  (void) state;
  assert_true (fd >= 0);
  assert_non_null (area);
  assert_int_equal (volume_open_path (volume_path, &options, &v), 0);
  assert_int_equal (v->size_bytes, VOLUME_BYTES_MIN + 5 * PAGE_BYTES);
  assert_int_equal (pread (fd, area, LABEL_AREA_BYTES, 0), LABEL_AREA_BYTES);
  assert_memory_equal (area, DISK_LABEL_MAGIC, 8);
  assert_int_equal (label_number (area, "version"), DISK_LABEL_VERSION);
  assert_int_equal (label_number (area, "size_bytes"), PATH_BYTES);
  assert_int_equal (label_number (area, "crc"), crc32c (0, area, 4092));
  for (unsigned i = 40; i < LABEL_AREA_BYTES; i++)
    if (i < 4092 || i >= 4096)
      assert_int_equal (area[i], 0);
  volume_close (v);
  close (fd);
  free (area);
}

#define STORE_BLOCKS 40000 /* free map of two leaves */
#define RING_BLOCKS  128

static uint64_t
super_number (const uint8_t *slot, const char *name)
{
  return number_of ("## `struct disk_super`", slot, name);
}

static uint64_t
node_number (const uint8_t *node, const char *name)
{
  return number_of ("## `struct disk_node`", node, name);
}

static void
check_slots (const uint8_t *store)
{
  static const unsigned blocks[] = { 0, STORE_BLOCKS - 2, 1, STORE_BLOCKS - 1 };

  for (unsigned i = 0; i < 4; i++) {
    const uint8_t *slot = store + UINT64_C (4096) * blocks[i];

    assert_memory_equal (slot, DISK_SUPER_MAGIC, 8);
    assert_int_equal (super_number (slot, "version"), 1);
    assert_int_equal (super_number (slot, "slot"), i);
    assert_int_equal (super_number (slot, "sequence"), i == 0 ? 4 : i);
    assert_int_equal (super_number (slot, "nr_blocks"), STORE_BLOCKS);
    assert_int_equal (super_number (slot, "state"), 1);
    assert_int_equal (super_number (slot, "ring_first"), 2);
    assert_int_equal (super_number (slot, "ring_blocks"), RING_BLOCKS);
    assert_int_equal (super_number (slot, "redo_lsn"), 1);
    assert_int_equal (super_number (slot, "crc"), crc32c (0, slot, 4092));
  }
}

/* The free map, from the superblock to a bit. */
static void
check_bits (const uint8_t *store)
{
  uint64_t bytes, root, leaf;
  const uint8_t *member =
      bytes_of ("## `struct disk_super`", store, "members", &bytes);
  const uint8_t *at =
      bytes_of ("## `struct disk_member`", member, "freemap", &bytes);
  const uint8_t *node, *body;

  assert_int_equal (number_of ("## `struct disk_member`", member, "nr_blocks"),
                    STORE_BLOCKS);
  root = number_of ("## `struct disk_pointer`", at, "blk");
  assert_int_equal (root, 2 + RING_BLOCKS + 2); /* behind its leaves */
  node = store + root * 4096;
  assert_memory_equal (node, "FAPN", 4);
  assert_int_equal (node_number (node, "type"), 1);
  assert_int_equal (node_number (node, "level"), 1);
  assert_int_equal (node_number (node, "tree"), 0x100);
  body = bytes_of ("## `struct disk_node`", node, "body", &bytes);
  for (unsigned i = 0; i < STORE_BLOCKS; i++) {
    bool used = i < 2 + RING_BLOCKS + 3 || i >= STORE_BLOCKS - 2;

    at = body + i / 30720 * 16; /* child of the root */
    leaf = number_of ("## `struct disk_pointer`", at, "blk");
    node = store + leaf * 4096;
    if (i % 30720 == 0) {
      assert_int_equal (node_number (node, "blk"), leaf);
      assert_int_equal (node_number (node, "index"), i / 30720);
      assert_int_equal (node_number (node, "type"), 4);
      assert_int_equal (node_number (node, "crc"), crc32c (0, node, 4092));
    }
    assert_int_equal (node[128 + i % 30720 / 8] >> i % 8 & 1, used);
  }
}

static void
test_store (void **state)
{
  struct volume *v;
  struct super_format format = { .volumes = &v,
                                 .nr_volumes = 1,
                                 .ring_bytes = RING_BLOCKS * 4096 };
  uint8_t *store = malloc (STORE_BLOCKS * UINT64_C (4096));
  uint64_t bytes;
  uint8_t uuid[16];

  (void) state;
  assert_non_null (store);
  assert_int_equal (
      volume_open_memory ("m", STORE_BLOCKS * UINT64_C (4096), true, &v), 0);
  assert_int_equal (super_format (&format, uuid), 0);
  assert_int_equal (volume_read (v, 0, store, STORE_BLOCKS * UINT64_C (4096)),
                    0);
  assert_memory_equal (
      bytes_of ("## `struct disk_super`", store, "uuid", &bytes), uuid, 16);
  check_slots (store);
  check_bits (store);
  volume_close (v);
  free (store);
}

/* An undo file of a repair that wrote one slot anew. */
static void
test_undo (void **state)
{
  static const char head[] = "## `struct disk_undo`",
                    rec[] = "### `struct disk_undo_rec`";
  struct volume *v;
  struct super_format format = { .volumes = &v,
                                 .nr_volumes = 1,
                                 .ring_bytes = RING_BLOCKS * 4096 };
  struct check_config config = { .volumes = &v, .nr_volumes = 1 };
  struct check_repair repair = { .undo_path = volume_path };
  struct check_report report;
  uint8_t uuid[16], was[4096], file[4096 + 32 + 4096 + 1];
  uint64_t bytes, nr = 0;
  int fd;

  (void) state;
  assert_int_equal (unlink (volume_path), 0);
  assert_int_equal (
      volume_open_memory ("m", STORE_BLOCKS * UINT64_C (4096), true, &v), 0);
  assert_int_equal (super_format (&format, uuid), 0);
  memset (was, 0x5a, sizeof was);
  assert_int_equal (volume_write (v, 4096, was, sizeof was), 0); /* slot 2 */
  assert_int_equal (check_repair (&config, &repair, &report, &nr), 0);
  assert_int_equal (nr, 1);
  volume_close (v);
  fd = open (volume_path, O_RDONLY | O_CLOEXEC);
  assert_true (fd >= 0);
  assert_int_equal (read (fd, file, sizeof file), sizeof file - 1);
  close (fd);
  assert_memory_equal (file, "FARPAGEU", 8);
  assert_int_equal (number_of (head, file, "version"), 1);
  assert_int_equal (number_of (head, file, "nr_volumes"), 1);
  assert_int_equal (number_of (head, file, "nr_records"), 1);
  assert_memory_equal (bytes_of (head, file, "uuid", &bytes), uuid, 16);
  assert_int_equal (number_of (head, file, "crc"), crc32c (0, file, 4092));
  assert_int_equal (number_of (rec, file + 4096, "number"), 0);
  assert_int_equal (number_of (rec, file + 4096, "blk"), 1);
  assert_int_equal (number_of (rec, file + 4096, "data_crc"),
                    crc32c (0, was, sizeof was));
  assert_int_equal (number_of (rec, file + 4096, "unread"), 0);
  assert_int_equal (number_of (rec, file + 4096, "crc"),
                    crc32c (0, file + 4096, 28));
  assert_memory_equal (file + 4096 + 32, was, sizeof was);
}

/* Rules 2 to 4: what a good CRC does not make good. */
static void
test_refused (void **state)
{
  static const uint64_t places[] = { 0, 8, 12, 40, 4091 };
  const struct volume_path_options options = { 0 };
  int fd = open (volume_path, O_RDWR | O_CLOEXEC);
  struct disk_label good, bad;
  struct volume *v;

  (void) state;
  assert_true (fd >= 0);
  assert_int_equal (volume_open_path (volume_path, &options, &v), 0);
  volume_close (v);
  assert_int_equal (pread (fd, &good, sizeof good, 0), sizeof good);
  for (unsigned i = 0; i <= sizeof places / sizeof places[0]; i++) {
    bad = good;
    if (i < sizeof places / sizeof places[0])
      ((uint8_t *) &bad)[places[i]] ^= 3;
    bad.crc = htole32 (crc32c (0, &bad, offsetof (struct disk_label, crc)));
    if (i == sizeof places / sizeof places[0])
      bad.crc ^= 1;
    assert_int_equal (pwrite (fd, &bad, sizeof bad, 0), sizeof bad);
    assert_int_equal (volume_open_path (volume_path, &options, &v), EEXIST);
  }
  close (fd);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_structs),
    cmocka_unit_test (test_all),
    cmocka_unit_test (test_numbers),
    cmocka_unit_test (test_words),
    cmocka_unit_test (test_store),
    cmocka_unit_test_setup_teardown (test_undo, make_file, remove_file),
    cmocka_unit_test_setup_teardown (test_written, make_file, remove_file),
    cmocka_unit_test_setup_teardown (test_refused, make_file, remove_file),
  };

  return cmocka_run_group_tests_name ("format", tests, read_document,
                                      forget_document);
}
