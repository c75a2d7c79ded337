/* SPDX-License-Identifier: BSD-2-Clause */
/* Tables for people.
 *
 * Called by print.c.  Cells are kept in one array, row after row, heads first,
 * and measured when all are there, in columns of the terminal (not bytes).
 *
 * I1. No control character of a cell reaches the terminal.
 * I2. Where COLUMNS or the terminal says how wide it is, the widest column
 *     that is adjusted left is cut, down to CUT_MIN, until lines fit; in a
 *     pipe nothing is cut.
 *
 * Memory that is out ends the program: there is nothing to lose here.
 */

#include <config.h>

#include "table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "tool.h"

#define GAP     2
#define CUT_MIN 10
#define CUT_END "..."

struct table {
  char adjust[TABLE_COLUMNS_MAX]; /* '<', '/' or '>' */
  int width[TABLE_COLUMNS_MAX];
  int nr_columns;
  char **cells;
  size_t nr, max;
};

static void *
need (void *memory)
{
  if (memory == NULL) {
    complain (NULL, "out of memory");
    exit (STATUS_NO);
  }
  return memory;
}

/* How many columns of a terminal text takes; in bytes if it is no text. */
static int
width_of (const char *text)
{
  wchar_t wide[512];
  size_t n = mbstowcs (wide, text, 511);
  int width = -1;

  if (n <= 511) {
    wide[n] = L'\0';
    width = wcswidth (wide, n);
  }
  return width >= 0 ? width : (int) strlen (text);
}

/* 0: no limit. */
static int
terminal_width (void)
{
  const char *columns = getenv ("COLUMNS");
  struct winsize size;
  int n = columns != NULL ? atoi (columns) : 0;

  if (n > 0)
    return n;
  if (isatty (STDOUT_FILENO) && ioctl (STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
    return size.ws_col;
  return 0;
}

static void
add (struct table *t, char *text)
{
  if (t->nr == t->max) {
    t->max = t->max * 2 + 64;
    t->cells = need (realloc (t->cells, t->max * sizeof *t->cells));
  }
  make_printable (text);
  t->cells[t->nr++] = text;
}

struct table *
table_new (const char *const *heads)
{
  struct table *t = need (calloc (1, sizeof *t));

  for (; *heads != NULL && t->nr_columns < TABLE_COLUMNS_MAX; heads++) {
    t->adjust[t->nr_columns++] = (*heads)[0];
    add (t, need (strdup (*heads + 1)));
  }
  return t;
}

void
table_cell (struct table *t, const char *fmt, ...)
{
  va_list args;
  char *text;

  va_start (args, fmt);
  if (vasprintf (&text, fmt, args) < 0)
    text = NULL;
  va_end (args);
  add (t, need (text));
}

static void
measure (struct table *t)
{
  for (size_t i = 0; i < t->nr; i++) {
    int *width = &t->width[i % t->nr_columns];
    int n = width_of (t->cells[i]);

    *width = n > *width ? n : *width;
  }
}

/* Make columns that are adjusted left narrower until a line fits. */
static void
fit (struct table *t, int room)
{
  int sum = 0;

  for (int i = 0; i < t->nr_columns; i++)
    sum += t->width[i] + (i > 0 ? GAP : 0);
  while (sum > room) {
    int widest = -1;

    for (int i = 0; i < t->nr_columns; i++)
      if (t->adjust[i] != '>' && t->width[i] > CUT_MIN &&
          (widest == -1 || t->width[i] > t->width[widest]))
        widest = i;
    if (widest == -1)
      return;
    t->width[widest]--;
    sum--;
  }
}

/* Shorten a path to width columns; its end tells more than its start. */
static void
cut_path (char *text, int width)
{
  char *p = text;

  if (width_of (text) <= width)
    return;
  while (p < text + strlen (CUT_END) ||
         width_of (p) > width - (int) strlen (CUT_END))
    do
      p++;
    while (((unsigned char) *p & 0xc0) == 0x80);
  memmove (text + strlen (CUT_END), p, strlen (p) + 1);
  memcpy (text, CUT_END, strlen (CUT_END));
}

/* Shorten text to width columns, with an end that shows it. */
static void
cut (char *text, int width)
{
  size_t n = strlen (text), end = strlen (CUT_END), max = n - end;

  if (width_of (text) <= width)
    return;
  while (n > max || width_of (text) > width - (int) end) {
    do
      n--;
    while (((unsigned char) text[n] & 0xc0) == 0x80);
    text[n] = '\0';
  }
  memcpy (text + n, CUT_END, end + 1);
}

/* Print a cell; *gap is the blanks due before it, so that none end a line. */
static void
print_cell (const struct table *t, size_t i, int *gap)
{
  int column = i % t->nr_columns;
  char *text = t->cells[i];
  int pad;

  if (t->adjust[column] == '/')
    cut_path (text, t->width[column]);
  else
    cut (text, t->width[column]);
  pad = t->width[column] - width_of (text);
  if (t->adjust[column] == '>')
    *gap += pad;
  if (text[0] != '\0') {
    printf ("%*s%s", *gap, "", text);
    *gap = 0;
  }
  if (t->adjust[column] != '>')
    *gap += pad;
  *gap += GAP;
}

void
table_print (struct table *t, int indent)
{
  int room = terminal_width (), gap = 0;

  measure (t);
  if (room > indent)
    fit (t, room - indent);
  for (size_t i = 0; i < t->nr; i++) {
    if (i % t->nr_columns == 0)
      gap = indent;
    print_cell (t, i, &gap);
    if ((i + 1) % t->nr_columns == 0)
      putchar ('\n');
    free (t->cells[i]);
  }
  free (t->cells);
  free (t);
}
