/* SPDX-License-Identifier: BSD-2-Clause */
/* What an export name says.  A pure parser of bytes from outside.
 *
 *   NAME                    a named object
 *   NAME@SNAPSHOT           (no store has snapshots yet: refused by name)
 *   swap/ID, swap/ID:SIZE   an unnamed object
 *   ...~[INSTANCE][.SESSION.GENERATION]
 *
 * NAME and ID are 1 to 255 bytes of UTF-8 without control characters or any
 * of / @ ~ : # ?, and do not begin with a dot.  INSTANCE and SESSION are 32
 * hex digits, GENERATION is decimal.
 */

#include <config.h>

#include "store-impl.h"

#include <inttypes.h>
#include <string.h>

#include "size.h"

/* The length of the UTF-8 character at p, of at most max bytes; 0: none. */
static size_t
utf8_length (const unsigned char *p, size_t max)
{
  static const struct {
    unsigned char mask, value;
    uint32_t least;
  } form[] = { { 0x80, 0x00, 0 },
               { 0xe0, 0xc0, 0x80 },
               { 0xf0, 0xe0, 0x800 },
               { 0xf8, 0xf0, 0x10000 } };

  for (size_t len = 1; len <= 4 && len <= max; len++) {
    uint32_t c = p[0] & ~form[len - 1].mask & 0xff;

    if ((p[0] & form[len - 1].mask) != form[len - 1].value)
      continue;
    for (size_t i = 1; i < len; i++) {
      if ((p[i] & 0xc0) != 0x80)
        return 0;
      c = c << 6 | (p[i] & 0x3f);
    }
    /* Overlong forms, surrogates and what lies beyond are no characters. */
    if (c < form[len - 1].least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
      return 0;
    return len;
  }
  return 0;
}

/* C0, DEL or, in two bytes, C1; p holds a character of len bytes. */
static bool
is_control (const unsigned char *p, size_t len)
{
  return (len == 1 && (p[0] < 0x20 || p[0] == 0x7f)) ||
         (len == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

void
export_name_show (const char *text, char *to, size_t bytes)
{
  size_t max = strlen (text), len;

  for (; max > 0; text += len, max -= len) {
    const unsigned char *p = (const unsigned char *) text;
    size_t n = utf8_length (p, max);
    bool good = n > 0 && !is_control (p, n);

    len = n > 0 ? n : 1;
    if ((good ? len : 1) >= bytes)
      break;
    if (good)
      memcpy (to, text, len);
    else
      *to = '?';
    to += good ? len : 1;
    bytes -= good ? len : 1;
  }
  *to = '\0';
}

static const char *
part_error (const char *text, size_t len)
{
  if (len == 0)
    return "the name is empty";
  if (len > OBJECT_NAME_MAX)
    return "the name is longer than 255 bytes";
  if (text[0] == '.')
    return "the name begins with a dot";
  for (size_t i = 0; i < len;) {
    unsigned char c = (unsigned char) text[i];
    size_t n = utf8_length ((const unsigned char *) text + i, len - i);

    if (n == 0)
      return "the name is not UTF-8 text";
    if (is_control ((const unsigned char *) text + i, n))
      return "the name has a control character";
    if (strchr ("/@~:#?", c) != NULL)
      return "the name has one of / @ ~ : # ?";
    i += n;
  }
  return NULL;
}

const char *
store_name_error (const char *name)
{
  return part_error (name, strlen (name));
}

static int
hex_digit (char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 32 hex digits at text; the text behind them, or NULL. */
static const char *
hex_get (const char *text, uint8_t bytes[16])
{
  for (unsigned i = 0; i < 16; i++) {
    int hi = hex_digit (text[2 * i]);
    int lo = hi < 0 ? -1 : hex_digit (text[2 * i + 1]);

    if (lo < 0)
      return NULL;
    bytes[i] = (uint8_t) (hi << 4 | lo);
  }
  return text + 32;
}

void
hex_put (char *text, const uint8_t *bytes, size_t nr)
{
  static const char digits[] = "0123456789abcdef";

  for (size_t i = 0; i < nr; i++) {
    *text++ = digits[bytes[i] >> 4];
    *text++ = digits[bytes[i] & 15];
  }
  *text = '\0';
}

static const char *
generation_parse (const char *text, uint64_t *generation)
{
  uint64_t n = 0;

  if (*text == '\0')
    return "the generation is missing";
  for (; *text != '\0'; text++) {
    if (*text < '0' || *text > '9')
      return "the generation is not a decimal number";
    if (n > (UINT64_MAX - 9) / 10)
      return "the generation is too large";
    n = n * 10 + (uint64_t) (*text - '0');
  }
  *generation = n;
  return NULL;
}

/* What follows the tilde. */
static const char *
suffix_parse (const char *text, struct export_name *name)
{
  if (*text != '.' && *text != '\0') {
    text = hex_get (text, name->instance);
    if (text == NULL)
      return "the instance after ~ is not 32 hex digits";
    name->has_instance = true;
  }
  if (*text == '\0')
    return NULL;
  if (*text != '.')
    return "the instance after ~ is not 32 hex digits";
  text = hex_get (text + 1, name->session);
  if (text == NULL || *text != '.')
    return "the session after ~ is not 32 hex digits and .GENERATION";
  name->has_session = true;
  return generation_parse (text + 1, &name->generation);
}

/* "ID" or "ID:SIZE" of len bytes. */
static const char *
swap_parse (const char *text, size_t len, struct export_name *name)
{
  const char *colon = memchr (text, ':', len);
  size_t id_len = colon != NULL ? (size_t) (colon - text) : len;
  const char *wrong = part_error (text, id_len);

  if (wrong != NULL)
    return wrong;
  if (colon != NULL) {
    char size[32];
    size_t size_len = len - id_len - 1;

    if (size_len >= sizeof size)
      return "the size after : is not a size";
    memcpy (size, colon + 1, size_len);
    size[size_len] = '\0';
    if (size_parse (size, &name->size_bytes) != 0)
      return "the size after : is not a size";
    if (name->size_bytes == 0 || name->size_bytes > OBJECT_BYTES_MAX)
      return "the size after : is 0 or too large";
  }
  memcpy (name->name, "swap/", 5);
  memcpy (name->name + 5, text, id_len);
  name->name[5 + id_len] = '\0';
  name->unnamed = true;
  return NULL;
}

const char *
export_name_parse (const char *text, struct export_name *name)
{
  const char *tilde = strchr (text, '~');
  size_t len = tilde != NULL ? (size_t) (tilde - text) : strlen (text);
  const char *wrong;

  memset (name, 0, sizeof *name);
  if (strnlen (text, EXPORT_NAME_MAX + 1) > EXPORT_NAME_MAX)
    return "the name is longer than 4096 bytes";
  if (tilde != NULL) {
    wrong = suffix_parse (tilde + 1, name);
    if (wrong != NULL)
      return wrong;
  }
  if (len >= 5 && memcmp (text, "swap/", 5) == 0)
    return swap_parse (text + 5, len - 5, name);
  if (memchr (text, '@', len) != NULL)
    return "this store has no snapshots";
  wrong = part_error (text, len);
  if (wrong != NULL)
    return wrong;
  memcpy (name->name, text, len);
  name->name[len] = '\0';
  return NULL;
}
