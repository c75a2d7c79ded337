/* SPDX-License-Identifier: BSD-2-Clause */
/* docs/format.md against the structures it describes, both ways: each row of
 * its tables is a field at that place, each field has a row, and the fields
 * of a table leave no byte out.  Then a label that the server's code wrote is
 * read by the table alone, and labels that break a rule are refused.
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

#include "crc32c.h"
#include "disk.h"
#include "medium.h"
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

struct field {
  const char *name;
  uint64_t offset, bytes;
};

#define FIELD(type, name)                                                 \
  {                                                                       \
#name, offsetof(struct type, name), sizeof(((struct type *) 0)->name) \
  }

static const struct field label_fields[] = {
  FIELD (disk_label, magic),  FIELD (disk_label, version),
  FIELD (disk_label, spare0), FIELD (disk_label, size_bytes),
  FIELD (disk_label, uuid),   FIELD (disk_label, spare1),
  FIELD (disk_label, crc),    { NULL, sizeof (struct disk_label), 0 },
};

static const struct field swent_fields[] = {
  FIELD (swent, word),
  FIELD (swent, crc),
  FIELD (swent, spare),
  { NULL, sizeof (struct swent), 0 },
};

#define NUMBER(name) \
  {                  \
#name, name, 0   \
  }

static const struct field numbers[] = {
  NUMBER (DISK_LABEL_VERSION), NUMBER (DISK_LABEL_BYTES),
  NUMBER (LABEL_AREA_BYTES),   NUMBER (VOLUME_BYTES_MIN),
  NUMBER (PAGE_BYTES),         NUMBER (SECTOR_BYTES),
  NUMBER (BLKNO_PLACE_BITS),   NUMBER (VOLUMES_MAX),
  NUMBER (SWMETA_KIND_SHIFT),  NUMBER (SWMETA_ABSENT),
  NUMBER (SWMETA_BLOCK),       NUMBER (SWMETA_ZERO),
  NUMBER (SWBLOCK_PAGES),      { NULL, 0, 0 },
};

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
test_label (void **state)
{
  (void) state;
  compare ("## `struct disk_label`", label_fields);
}

static void
test_entry (void **state)
{
  (void) state;
  compare ("The plain entry", swent_fields);
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

/* A number of the label, by the table alone: little-endian. */
static uint64_t
label_number (const uint8_t *label, const char *name)
{
  unsigned i = table_after ("## `struct disk_label`");
  uint64_t value = 0;
  struct row row;

  for (take_row (line[i], &row); strcmp (row.cell[2], name) != 0;
       take_row (line[++i], &row))
    assert_true (line[i][0] == '|');
  label += number (row.cell[0]);
  for (uint64_t k = number (row.cell[1]); k > 0; k--)
    value = value << 8 | label[k - 1];
  return value;
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
    cmocka_unit_test (test_label),
    cmocka_unit_test (test_entry),
    cmocka_unit_test (test_numbers),
    cmocka_unit_test (test_words),
    cmocka_unit_test_setup_teardown (test_written, make_file, remove_file),
    cmocka_unit_test_setup_teardown (test_refused, make_file, remove_file),
  };

  return cmocka_run_group_tests_name ("format", tests, read_document,
                                      forget_document);
}
