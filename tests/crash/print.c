/* SPDX-License-Identifier: BSD-2-Clause */
/* A run in words: operations as text and back, its history beside what came to
 * the media.
 */

#include <config.h>

#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char kinds[OP_KINDS] = {
  [OP_WRITE] = 'w',         [OP_TRIM] = 't',   [OP_ZERO] = 'z',
  [OP_ZERO_RESERVED] = 'Z', [OP_FLUSH] = 'f',  [OP_CREATE] = 'c',
  [OP_REMOVE] = 'r',        [OP_RESIZE] = 'R', [OP_SLEEP] = 's',
  [OP_REOPEN] = 'o',
};

static bool
has_name (const struct op *op)
{
  return op->kind != OP_SLEEP && op->kind != OP_REOPEN;
}

/* KIND[!] NAME FIRST+NR [@CLIENT]: "wa0+8", "w!a0+8@1", "fa", "ca0+64", "s".
 * FIRST and NR in sectors; of a create or resize ("Ra0+32"), NR in pages.  "o":
 * closed and opened again.
 */
void
op_print (const struct op *op, char *text, size_t bytes)
{
  int at = snprintf (text, bytes, "%c%s", kinds[op->kind], op->fua ? "!" : "");
  bool ranged = op->nr > 0;

  if (has_name (op))
    at += snprintf (text + at, bytes - (size_t) at, "%c", 'a' + op->name);
  if (ranged)
    at += snprintf (text + at, bytes - (size_t) at, "%u+%u", op->first, op->nr);
  if (op->client > 0)
    snprintf (text + at, bytes - (size_t) at, "@%u", op->client);
}

int
op_parse (const char *text, struct op *op)
{
  const char *kind = text[0] != '\0' ? memchr (kinds, text[0], OP_KINDS) : NULL;
  int used = 0;

  if (kind == NULL)
    return EINVAL;
  *op = (struct op){ .kind = (enum op_kind) (kind - kinds) };
  text++;
  if (*text == '!') {
    op->fua = true;
    text++;
  }
  if (has_name (op)) {
    if (*text < 'a' || *text >= 'a' + (int) MODEL_NAMES)
      return EINVAL;
    op->name = (unsigned) (*text++ - 'a');
  }
  if (sscanf (text, "%u+%u%n", &op->first, &op->nr, &used) == 2)
    text += used;
  used = 0;
  if (sscanf (text, "@%u%n", &op->client, &used) == 1)
    text += used;
  return *text == '\0' ? 0 : EINVAL;
}

/* ---- a history ---- */

/* The event with this time, if it is one of an operation. */
static bool
print_op_event (const struct run *run, uint64_t at, int fd)
{
  for (unsigned i = 0; i < run->history.nr; i++) {
    const struct done_op *o = &run->history.op[i];
    char text[64];

    if (o->begin != at && o->reply != at)
      continue;
    op_print (&o->op, text, sizeof text);
    if (o->begin == at && o->token != 0)
      dprintf (fd, "  %4llu  %s begins: operation %u\n",
               (unsigned long long) at, text, o->token);
    else
      dprintf (fd, "  %4llu  %s %s%s\n", (unsigned long long) at, text,
               o->begin == at ? "begins" : "is answered",
               o->begin != at && o->error != 0 ? strerror (o->error) : "");
    return true;
  }
  if (at != run->history.opened)
    return false;
  dprintf (fd, "  %4llu  the store is open and was compared\n",
           (unsigned long long) at);
  return true;
}

static void
print_disk_event (const struct run *run, uint64_t at, int fd)
{
  const struct record *r = &run->record;

  for (unsigned i = 0; i < r->nr_writes; i++) {
    const struct rec_write *w = &r->writes[i];

    if (w->begin == at)
      dprintf (fd, "  %4llu      write %u: vol%u, %u blocks at %u%s\n",
               (unsigned long long) at, i, w->volume, w->nr, w->first,
               w->end == at + 1 ? "" : " begins");
    else if (w->end == at && w->begin + 1 != at)
      dprintf (fd, "  %4llu      write %u ends\n", (unsigned long long) at, i);
  }
  for (unsigned i = 0; i < r->nr_flushes; i++) {
    const struct rec_flush *f = &r->flushes[i];

    if (f->begin == at || f->end == at)
      dprintf (fd, "  %4llu      flush of vol%u %s\n", (unsigned long long) at,
               f->volume, f->begin == at ? "begins" : "ends");
  }
}

void
run_print (const struct run *run, int fd)
{
  for (uint64_t at = 0; at < run->record.clock; at++)
    if (!print_op_event (run, at, fd))
      print_disk_event (run, at, fd);
  if (run->failed)
    dprintf (fd, "  WRONG: %s\n", run->why);
}

void
content_print (const struct content *c, char *text, size_t bytes)
{
  size_t at = 0;

  for (unsigned i = 0; i < PAGE_SECTORS && at < bytes; i++)
    at += (size_t) snprintf (text + at, bytes - at, "%s%u", i > 0 ? " " : "",
                             c->token[i]);
}
