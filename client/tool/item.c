/* SPDX-License-Identifier: BSD-2-Clause */
/* Items: built as JSON, and printed as such or for people.
 *
 * Called by dump*.c and disk-json.c.  Memory that is out loses a value, never
 * more: jansson passes NULL through.
 */

#include <config.h>

#include "item.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"
#include "types.h"

#define WIDTH 79

json_t *
item_new (const char *kind, const char *at, ...)
{
  json_t *item = json_object ();
  char text[256];
  va_list args;

  va_start (args, at);
  vsnprintf (text, sizeof text, at, args);
  va_end (args);
  json_object_set_new (item, "item", json_string (kind));
  json_object_set_new (item, "at", json_string (text));
  return item;
}

void
item_judge (json_t *item, const char *error)
{
  json_object_set_new (item, "good", json_boolean (error == NULL));
  if (error != NULL)
    json_object_set_new (item, "error", json_string (error));
}

json_t *
item_number (uint64_t n)
{
  char text[32];

  if (n <= INT64_MAX)
    return json_integer ((json_int_t) n);
  snprintf (text, sizeof text, "%" PRIu64, n);
  return json_string (text);
}

json_t *
item_hex (const void *bytes, size_t len)
{
  const uint8_t *p = bytes;
  char text[1024] = "";

  for (size_t i = 0; i < len && 2 * i + 2 < sizeof text; i++)
    snprintf (text + 2 * i, 3, "%02x", p[i]);
  return json_string (text);
}

json_t *
item_text (const void *bytes, size_t len)
{
  json_t *text = json_stringn (bytes, strnlen (bytes, len));

  return text != NULL ? text : item_hex (bytes, len);
}

json_t *
item_block (uint64_t blk)
{
  char text[48];

  if (blk == blkno_make (blkno_volume (blk), blkno_place (blk)))
    snprintf (text, sizeof text, "%u:%" PRIu64, blkno_volume (blk),
              blkno_place (blk));
  else
    snprintf (text, sizeof text, "0x%016" PRIx64, blk);
  return json_string (text);
}

/* ---- for people ---- */

static void
value_text (const json_t *value, char *to, size_t len)
{
  if (json_is_string (value))
    snprintf (to, len, "%s", json_string_value (value));
  else if (json_is_integer (value))
    snprintf (to, len, "%" JSON_INTEGER_FORMAT, json_integer_value (value));
  else
    snprintf (to, len, "%s",
              json_is_true (value)    ? "yes"
              : json_is_false (value) ? "no"
                                      : "-");
  make_printable (to);
}

/* key=value after the others on the line, or on a new one. */
static void
print_pair (const char *key, const json_t *value, int indent, int *column)
{
  char text[1200];
  size_t n = 0;

  if (key != NULL)
    n = (size_t) snprintf (text, sizeof text, "%s=", key);
  value_text (value, text + n, sizeof text - n);
  if (*column > indent && *column + 1 + (int) strlen (text) > WIDTH) {
    putchar ('\n');
    *column = 0;
  }
  if (*column == 0)
    *column = printf ("%*s%s", indent, "", text);
  else
    *column += printf (" %s", text);
}

static bool
is_heading (const char *key)
{
  static const char *const keys[] = { "item", "at", "good", "error" };

  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
    if (strcmp (keys[i], key) == 0)
      return true;
  return false;
}

static void
print_pairs (const json_t *object, int indent)
{
  const json_t *value;
  const char *key;
  int column = 0;

  json_object_foreach ((json_t *) object, key, value)
  {
    if (!is_heading (key) && !json_is_array (value))
      print_pair (key, value, indent, &column);
  }
  if (column > 0)
    putchar ('\n');
}

static void
print_array (const char *key, const json_t *array, int indent)
{
  const json_t *value;
  int column = 0;
  size_t i;

  if (json_array_size (array) == 0)
    return;
  printf ("%*s%s:\n", indent, "", key);
  json_array_foreach (array, i, value)
  {
    if (json_is_object (value))
      print_pairs (value, indent + 2);
    else
      print_pair (NULL, value, indent + 2, &column);
  }
  if (column > 0)
    putchar ('\n');
}

static const char *
item_string (const json_t *item, const char *key)
{
  const char *text = json_string_value (json_object_get (item, key));

  return text != NULL ? text : "";
}

static void
print_people (const json_t *item)
{
  const json_t *good = json_object_get (item, "good");
  char at[256];
  const json_t *value;
  const char *key;

  snprintf (at, sizeof at, "%s", item_string (item, "at"));
  make_printable (at);
  printf ("%s %s%s%s\n", item_string (item, "item"), at,
          good == NULL          ? ""
          : json_is_true (good) ? ": good"
                                : ": BAD: ",
          item_string (item, "error"));
  print_pairs (item, 2);
  json_object_foreach ((json_t *) item, key, value)
  {
    if (json_is_array (value))
      print_array (key, value, 2);
  }
}

void
item_print (json_t *item, bool as_json)
{
  if (as_json) {
    json_dumpf (item, stdout, JSON_COMPACT);
    putchar ('\n');
  } else
    print_people (item);
  json_decref (item);
}
