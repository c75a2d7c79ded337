/* SPDX-License-Identifier: BSD-2-Clause */
/* The grammar of export names: every form, every edge, and bytes at random. */

#include <config.h>

#include "test-store.h"

#include "test-util.h"

static const char *
parse (const char *text)
{
  struct export_name name;

  return export_name_parse (text, &name);
}

static void
must_fail (const char *text, const char *why)
{
  const char *wrong = parse (text);

  if (wrong == NULL || strstr (wrong, why) == NULL)
    fail_msg ("'%s': says '%s', not '%s'", text, wrong != NULL ? wrong : "fine",
              why);
}

/* ---- forms ---- */

struct form {
  const char *text, *name;
  bool unnamed;
  uint64_t size_bytes;
  bool has_instance, has_session;
  uint64_t generation;
};

static const struct form forms[] = {
  { "disk", "disk", false, 0, false, false, 0 },
  { "a", "a", false, 0, false, false, 0 },
  { "swap", "swap", false, 0, false, false, 0 },
  { "swapX", "swapX", false, 0, false, false, 0 },
  { "disk.img", "disk.img", false, 0, false, false, 0 },
  { "with space", "with space", false, 0, false, false, 0 },
  { "-x", "-x", false, 0, false, false, 0 },
  { "%s%n\\", "%s%n\\", false, 0, false, false, 0 },
  { "disk~", "disk", false, 0, false, false, 0 },
  { "disk~" HEX_A, "disk", false, 0, true, false, 0 },
  { "disk~." HEX_B ".7", "disk", false, 0, false, true, 7 },
  { "disk~" HEX_A "." HEX_B ".0", "disk", false, 0, true, true, 0 },
  { "swap/x", "swap/x", true, 0, false, false, 0 },
  { "swap/swap", "swap/swap", true, 0, false, false, 0 },
  { "swap/x:1", "swap/x", true, 1, false, false, 0 },
  { "swap/x:4096", "swap/x", true, 4096, false, false, 0 },
  { "swap/x:10G", "swap/x", true, 10 * GIB, false, false, 0 },
  { "swap/x:512m", "swap/x", true, 512 * MIB, false, false, 0 },
  { "swap/x:1P", "swap/x", true, OBJECT_BYTES_MAX, false, false, 0 },
  { "swap/x~", "swap/x", true, 0, false, false, 0 },
  { "swap/x~" HEX_A, "swap/x", true, 0, true, false, 0 },
  { "swap/x:2K~" HEX_A, "swap/x", true, 2048, true, false, 0 },
  { "swap/x:2K~." HEX_B ".18446744073709551609", "swap/x", true, 2048, false,
    true, UINT64_C (18446744073709551609) },
  { "swap/x:2K~" HEX_A "." HEX_B ".00012", "swap/x", true, 2048, true, true,
    12 },
};

static void
test_forms (void **state)
{
  (void) state;
  for (size_t i = 0; i < ARRAY (forms); i++) {
    const struct form *f = &forms[i];
    struct export_name name;
    char hex[INSTANCE_HEX + 1];

    assert_null (export_name_parse (f->text, &name));
    assert_string_equal (name.name, f->name);
    assert_int_equal (name.unnamed, f->unnamed);
    assert_int_equal (name.size_bytes, f->size_bytes);
    assert_int_equal (name.has_instance, f->has_instance);
    assert_int_equal (name.has_session, f->has_session);
    assert_int_equal (name.generation, f->generation);
    hex_put (hex, name.instance, sizeof name.instance);
    if (f->has_instance)
      assert_string_equal (hex, HEX_A);
    hex_put (hex, name.session, sizeof name.session);
    if (f->has_session)
      assert_string_equal (hex, HEX_B);
  }
}

static void
test_hex_case (void **state)
{
  struct export_name upper, lower;

  (void) state;
  assert_null (
      export_name_parse ("d~00112233445566778899AABBCCDDEEFF", &upper));
  assert_null (export_name_parse ("d~" HEX_A, &lower));
  assert_memory_equal (upper.instance, lower.instance, INSTANCE_BYTES);
}

/* ---- what is refused ---- */

static const struct {
  const char *text, *why;
} refused[] = {
  { "", "empty" },
  { "~" HEX_A, "empty" },
  { "swap/", "empty" },
  { "swap/:1G", "empty" },
  { "swap/~" HEX_A, "empty" },
  { ".", "dot" },
  { ".hidden", "dot" },
  { "swap/.x", "dot" },
  { "a/b", "one of" },
  { "/", "one of" },
  { "swap/a/b", "one of" },
  { "swap//", "one of" },
  { "disk:1G", "one of" },
  { "disk#1", "one of" },
  { "disk?x", "one of" },
  { "swap/x#", "one of" },
  { "swap/x@s", "one of" },
  { "Swap/x", "one of" },
  { "disk@snap", "no snapshots" },
  { "@", "no snapshots" },
  { "swap/X:0", "0 or too large" },
  { "swap/X:0K", "0 or too large" },
  { "swap/X:", "not a size" },
  { "swap/X:-1", "not a size" },
  { "swap/X:+1", "not a size" },
  { "swap/X: 1", "not a size" },
  { "swap/X:1 ", "not a size" },
  { "swap/X:0x10", "not a size" },
  { "swap/X:1.5G", "not a size" },
  { "swap/X:1GB", "not a size" },
  { "swap/X:G", "not a size" },
  { "swap/X:1:2", "not a size" },
  { "swap/X:9223372036854775808", "not a size" },
  { "swap/X:18446744073709551617", "not a size" },
  { "swap/X:8E", "not a size" },
  { "swap/X:1125899906842625", "0 or too large" },
  { "swap/X:2P", "0 or too large" },
  { "swap/X:0000000000000000000000000000000000001", "not a size" },
  { "d~0", "32 hex" },
  { "d~" HEX_A "0", "32 hex" },
  { "d~0011223344556677889gaabbccddeeff", "32 hex" },
  { "d~ 0112233445566778899aabbccddeeff", "32 hex" },
  { "d~0x112233445566778899aabbccddeeff", "32 hex" },
  { "d~" HEX_A "~", "32 hex" },
  { "d~~", "32 hex" },
  { "d~.", "session" },
  { "d~." HEX_B, "session" },
  { "d~.0.1", "session" },
  { "d~." HEX_B "1.1", "session" },
  { "d~" HEX_A ".", "session" },
  { "d~." HEX_B ".", "generation is missing" },
  { "d~." HEX_B ".-1", "not a decimal" },
  { "d~." HEX_B ".+1", "not a decimal" },
  { "d~." HEX_B ".1x", "not a decimal" },
  { "d~." HEX_B ".1.2", "not a decimal" },
  { "d~." HEX_B ". 1", "not a decimal" },
  { "d~." HEX_B ".18446744073709551616", "too large" },
  { "d~." HEX_B ".99999999999999999999", "too large" },
  { "d~." HEX_B ".184467440737095516150", "too large" },
};

static void
test_refused (void **state)
{
  (void) state;
  for (size_t i = 0; i < ARRAY (refused); i++)
    must_fail (refused[i].text, refused[i].why);
}

/* Each byte that may not stand in a name, at each place of it. */
static void
test_forbidden_bytes (void **state)
{
  (void) state;
  for (unsigned c = 1; c < 256; c++)
    for (unsigned at = 0; at < 3; at++) {
      char text[] = "abc";
      bool bad = c < 0x20 || c >= 0x7f || strchr ("/@~:#?", (int) c) != NULL ||
                 (c == '.' && at == 0);

      text[at] = (char) c;
      assert_int_equal (store_name_error (text) != NULL, bad);
      if (c < 0x20 || c == 0x7f)
        must_fail (text, "control character");
    }
}

/* ---- UTF-8 ---- */

static void
test_utf8 (void **state)
{
  static const char *const good[] = {
    "\xc2\xa0",         "\xc3\xbc",         "\xdf\xbf",         "\xe0\xa0\x80",
    "\xe2\x82\xac",     "\xed\x9f\xbf",     "\xee\x80\x80",     "\xef\xbf\xbf",
    "\xf0\x90\x80\x80", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "d\xc3\xbcsk",
  };
  static const char *const bad[] = {
    "\x80",
    "\xbf", /* nothing begins so */
    "\xc0\x80",
    "\xc0\xaf", /* overlong: NUL, / */
    "\xc1\xbf",
    "\xe0\x80\xaf", /* overlong */
    "\xe0\x9f\xbf",
    "\xf0\x80\x80\xaf", /* overlong */
    "\xf0\x8f\xbf\xbf",
    "\xed\xa0\x80", /* overlong; surrogates */
    "\xed\xbf\xbf",
    "\xed\xa0\x80\xed\xb0\x80",
    "\xf4\x90\x80\x80",
    "\xf5\x80\x80\x80", /* beyond U+10FFFF */
    "\xf8\x88\x80\x80\x80",
    "\xfe", /* no such forms */
    "\xff",
    "\xc3", /* cut */
    "\xe2\x82",
    "\xf0\x9f\x98", /* cut */
    "\xc3x",
    "\xe2\x82x", /* cut in the middle */
    "a\xe2",
    "\xf0\x9f\x98/",
  };

  (void) state;
  for (size_t i = 0; i < ARRAY (good); i++)
    assert_null (parse (good[i]));
  for (size_t i = 0; i < ARRAY (bad); i++)
    must_fail (bad[i], "not UTF-8");
  for (unsigned c = 0x80; c < 0xa0; c++) {
    char text[] = { 'x', (char) 0xc2, (char) c, '\0' };

    must_fail (text, "control character");
  }
}

/* ---- lengths ---- */

static void
test_lengths (void **state)
{
  char text[EXPORT_NAME_MAX + 64], part[300];
  struct export_name name;

  (void) state;
  memset (part, 'n', sizeof part);
  for (int swap = 0; swap < 2; swap++)
    for (int len = 254; len <= 256; len++) {
      snprintf (text, sizeof text, "%s%.*s~" HEX_A "." HEX_B ".1",
                swap ? "swap/" : "", len, part);
      if (len == 256) {
        must_fail (text, "longer than 255");
        continue;
      }
      assert_null (export_name_parse (text, &name));
      assert_int_equal (strlen (name.name), len + 5 * swap);
    }
  /* A character of two bytes across the limit. */
  memset (text, 'n', 254);
  strcpy (text + 254, "\xc3\xbc");
  must_fail (text, "longer than 255");
}

/* 4096 bytes are the most, also where leading zeros would do no harm. */
static void
test_length_of_all (void **state)
{
  char text[EXPORT_NAME_MAX + 2];
  int n = snprintf (text, sizeof text, "d~." HEX_B ".");

  (void) state;
  memset (text + n, '0', sizeof text - n);
  text[EXPORT_NAME_MAX] = '\0';
  assert_null (parse (text));
  text[EXPORT_NAME_MAX] = '0';
  text[EXPORT_NAME_MAX + 1] = '\0';
  must_fail (text, "longer than 4096");
}

/* ---- for the log ---- */

static void
test_shown (void **state)
{
  char to[16];

  (void) state;
  export_name_show ("d\xc3\xbcsk", to, sizeof to);
  assert_string_equal (to, "d\xc3\xbcsk");
  export_name_show ("a\nb\x1b[2J\x7f", to, sizeof to);
  assert_string_equal (to, "a?b?[2J?");
  export_name_show ("\xff\xc2\x9b"
                    "2J\xe2\x82",
                    to, sizeof to);
  assert_string_equal (to, "??2J??");
  export_name_show ("01234567890123\xc3\xbc", to, sizeof to);
  assert_string_equal (to, "01234567890123");
  export_name_show ("0123456789012\xc3\xbc", to, sizeof to);
  assert_string_equal (to, "0123456789012\xc3\xbc");
}

/* ---- bytes at random ---- */

/* What was read, written again, must mean the same. */
static void
round_trip (const struct export_name *name)
{
  char text[EXPORT_NAME_MAX], hex[INSTANCE_HEX + 1];
  struct export_name again;
  int n = snprintf (text, sizeof text, "%s", name->name);

  if (name->size_bytes != 0)
    n += snprintf (text + n, sizeof text - n, ":%" PRIu64, name->size_bytes);
  n += snprintf (text + n, sizeof text - n, "~");
  hex_put (hex, name->instance, sizeof name->instance);
  if (name->has_instance)
    n += snprintf (text + n, sizeof text - n, "%s", hex);
  hex_put (hex, name->session, sizeof name->session);
  if (name->has_session)
    snprintf (text + n, sizeof text - n, ".%s.%" PRIu64, hex, name->generation);
  assert_null (export_name_parse (text, &again));
  assert_memory_equal (&again, name, sizeof again);
}

/* A text of pieces that names are made of, and of any bytes. */
static void
random_text (uint64_t *seed, char *text, size_t bytes)
{
  static const char *const pieces[] = {
    "swap/", "~",   HEX_A, HEX_B,  ".",
    ":",     "10G", "1",   "disk", "\xc3",
    "\xbc",  "\n",  "@",   "0",    "18446744073709551615"
  };
  size_t len = 0;

  for (uint64_t n = test_random_below (seed, 8); n > 0; n--) {
    uint64_t pick = test_random_below (seed, ARRAY (pieces) + 3);
    const char *piece = pick < ARRAY (pieces) ? pieces[pick] : "";

    if (len + strlen (piece) + 2 > bytes)
      break;
    len = (size_t) (stpcpy (text + len, piece) - text);
    if (piece[0] == '\0')
      text[len++] = (char) (1 + test_random_below (seed, 255));
  }
  text[len] = '\0';
}

static void
test_random (void **state)
{
  uint64_t seed = test_seed () | 1, nr = 0, nr_good = 0;
  time_t until = time (NULL) + 2;

  (void) state;
  while (nr % 1024 != 0 || time (NULL) < until) {
    char text[200], shown[64];
    char *exact;
    struct export_name name;

    random_text (&seed, text, sizeof text);
    exact = strdup (text); /* so that a step too far is seen */
    export_name_show (exact, shown, sizeof shown);
    if (export_name_parse (exact, &name) == NULL) {
      round_trip (&name);
      nr_good++;
    }
    free (exact);
    nr++;
  }
  printf ("%" PRIu64 " random texts, %" PRIu64 " of them names\n", nr, nr_good);
  assert_true (nr_good > nr / 100);
}

int
main (void)
{
  static const struct CMUnitTest tests[] = {
    cmocka_unit_test (test_forms),
    cmocka_unit_test (test_hex_case),
    cmocka_unit_test (test_refused),
    cmocka_unit_test (test_forbidden_bytes),
    cmocka_unit_test (test_utf8),
    cmocka_unit_test (test_lengths),
    cmocka_unit_test (test_length_of_all),
    cmocka_unit_test (test_shown),
    cmocka_unit_test (test_random),
  };

  return cmocka_run_group_tests_name ("names", tests, NULL, NULL);
}
