/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers of the server, for people: at 80 columns, and plain ASCII.
 *
 * Called by ls.c and stat.c; table.c does the columns.  A key that is not
 * there is printed as 0, "" or "-": an older server lacks what a newer one
 * has, and neither is a reason to show nothing.
 */

#include <config.h>

#include "print.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "size.h"
#include "table.h"
#include "tool.h"

#define BAR_MAX     40 /* characters */
#define BLOCK_BYTES 4096

static uint64_t
number (const json_t *json, const char *key)
{
  json_int_t n = json_integer_value (json_object_get (json, key));

  return n > 0 ? (uint64_t) n : 0;
}

static double
seconds (const json_t *json, const char *key)
{
  return json_number_value (json_object_get (json, key));
}

static const char *
string (const json_t *json, const char *key)
{
  const char *text = json_string_value (json_object_get (json, key));

  return text != NULL && text[0] != '\0' ? text : "-";
}

static void
size_cell (struct table *t, uint64_t bytes)
{
  char text[HUMAN_BYTES];

  table_cell (t, "%s", size_human (bytes, text));
}

static void
time_cell (struct table *t, double s)
{
  char text[HUMAN_BYTES];

  table_cell (t, "%s", time_human (s, text));
}

/* The names of those keys that are true, or "-". */
static void
flags_cell (struct table *t, const json_t *json, const char *const *keys)
{
  char text[128] = "";

  for (; *keys != NULL; keys++)
    if (json_is_true (json_object_get (json, *keys))) {
      strcat (text, text[0] != '\0' ? "," : "");
      strcat (text, *keys);
    }
  table_cell (t, "%s", text[0] != '\0' ? text : "-");
}

void
print_json (json_t *answer, bool as_line)
{
  json_object_del (answer, "ok");
  json_dumpf (answer, stdout,
              JSON_REAL_PRECISION (15) | (as_line ? 0 : JSON_INDENT (2)));
  putchar ('\n');
}

void
print_objects (const json_t *objects)
{
  static const char *const heads[] = { "<NAME",     ">SIZE", ">MAPPED",
                                       ">RESERVED", ">OPEN", "<FLAGS",
                                       "<OWNER",    NULL };
  static const char *const flags[] = { "unnamed", "reserved", "shared", NULL };
  struct table *t = table_new (heads);
  const json_t *o;
  size_t i;

  json_array_foreach (objects, i, o)
  {
    table_cell (t, "%s", string (o, "name"));
    size_cell (t, number (o, "size_bytes"));
    size_cell (t, number (o, "mapped_bytes"));
    size_cell (t, number (o, "reserved_bytes"));
    table_cell (t, "%" PRIu64, number (o, "connections"));
    flags_cell (t, o, flags);
    table_cell (t, "%s", string (o, "owner"));
  }
  table_print (t, 0);
}

/* ---- the parts of stat ---- */

static void
print_share (const char *what, uint64_t bytes, uint64_t whole)
{
  char text[HUMAN_BYTES];
  double share = percent (bytes, whole);
  int bar = share > 100 ? BAR_MAX : (int) (share * BAR_MAX / 100 + 0.5);

  printf ("%-11s %8s %6.1f %%", what, size_human (bytes, text), share);
  if (bar > 0)
    printf ("  %.*s", bar, "########################################");
  putchar ('\n');
}

static void
print_pool (const json_t *pool)
{
  uint64_t size = number (pool, "size_bytes");
  uint64_t stripe = number (pool, "stripe_blocks");
  uint64_t moved = number (pool, "relocation_bytes");
  char used_text[HUMAN_BYTES], text[HUMAN_BYTES];

  printf ("Pool: %s, space is %s\n\n", size_human (size, text),
          string (pool, "space"));
  print_share ("mapped", number (pool, "mapped_bytes"), size);
  print_share ("reserved", number (pool, "reserved_bytes"), size);
  print_share ("parked", number (pool, "parked_bytes"), size);
  print_share ("free", number (pool, "free_bytes"), size);
  size_human (number (pool, "relocation_used_bytes"), used_text);
  printf ("relocation  %8s of %s\n", used_text, size_human (moved, text));
  printf ("stripe      %8s (%" PRIu64 " blocks)\n",
          size_human (stripe * BLOCK_BYTES, text), stripe);
}

static void
print_armour (const json_t *armour)
{
  if (!json_is_object (armour)) /* an older server */
    return;
  printf ("armour      %s, %s, OOM score %" JSON_INTEGER_FORMAT "\n",
          json_is_true (json_object_get (armour, "locked"))
              ? "memory locked"
              : "memory not locked",
          json_is_true (json_object_get (armour, "flusher")) ? "I/O flusher"
                                                             : "no I/O flusher",
          json_integer_value (json_object_get (armour, "oom_score_adj")));
}

static void
print_cache (const json_t *cache)
{
  static const char *const heads[] = { "<CACHE", ">CLEAN",   ">DIRTY",
                                       ">OF",    ">DIRTY %", NULL };
  static const char *const types[] = { "meta", "data", "undo" };
  struct table *t = table_new (heads);
  char size[HUMAN_BYTES], left[HUMAN_BYTES];

  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    const json_t *use = json_object_get (cache, types[i]);
    uint64_t dirty = number (use, "dirty_bytes");
    uint64_t max = number (use, "dirty_max_bytes");

    table_cell (t, "%s", types[i]);
    size_cell (t, number (use, "clean_bytes"));
    size_cell (t, dirty);
    size_cell (t, max);
    table_cell (t, "%.1f", percent (dirty, max));
  }
  table_print (t, 0);
  printf ("%s of %s free; %" PRIu64 " hits, %" PRIu64 " loads, %" PRIu64
          " evicted\n",
          size_human (number (cache, "free_bytes"), left),
          size_human (number (cache, "size_bytes"), size),
          number (cache, "hits"), number (cache, "loads"),
          number (cache, "evicted"));
}

static void
print_log (const json_t *log)
{
  static const char *const kinds[] = { "direct", "data", "log", "meta" };
  char used[HUMAN_BYTES], size[HUMAN_BYTES], key[32];

  printf ("log         %8s of %s; durable to %" PRIu64 " of %" PRIu64 "\n",
          size_human (number (log, "used_bytes"), used),
          size_human (number (log, "size_bytes"), size),
          number (log, "durable_lsn"), number (log, "tail_lsn"));
  printf ("flusher     %8" PRIu64 " commits, %" PRIu64 " cycles, %" PRIu64
          " device flushes\n",
          number (log, "commits"), number (log, "cycles"),
          number (log, "flushes"));
  printf ("written     %8.2f times what clients wrote:\n           ",
          seconds (log, "write_amplification"));
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    snprintf (key, sizeof key, "%s_bytes", kinds[i]);
    printf ("%s %s %s", i > 0 ? "," : "", kinds[i],
            size_human (number (log, key), size));
  }
  putchar ('\n');
}

static void
print_recovery (const json_t *r)
{
  char took[HUMAN_BYTES];

  if (json_is_true (json_object_get (r, "clean"))) {
    printf ("last start  clean, nothing to recover\n");
    return;
  }
  printf ("last start  recovered in %s: %" PRIu64 " staged, %" PRIu64
          " redone, %" PRIu64 " fell back\n",
          time_human (seconds (r, "duration"), took), number (r, "staged"),
          number (r, "redone"), number (r, "fallen"));
}

static void
print_durable (const json_t *store)
{
  char staging[1024];

  if (!json_is_object (store))
    return;
  putchar ('\n');
  print_log (json_object_get (store, "log"));
  print_recovery (json_object_get (store, "recovery"));
  snprintf (staging, sizeof staging, "%s", string (store, "staging"));
  make_printable (staging);
  printf ("staging     %s\n", strcmp (staging, "-") != 0
                                  ? staging
                                  : "none: replies wait for their writes");
  putchar ('\n');
  print_cache (json_object_get (store, "cache"));
}

static void
print_retired (const json_t *retired)
{
  static const char *const heads[] = { "/RETIRED ON", ">BLOCK", ">COUNT",
                                       NULL };
  struct table *t;
  const json_t *r;
  size_t i;

  if (json_array_size (retired) == 0)
    return;
  t = table_new (heads);
  json_array_foreach (retired, i, r)
  {
    table_cell (t, "%s", string (r, "volume"));
    table_cell (t, "%" PRIu64, number (r, "block"));
    table_cell (t, "%" PRIu64, number (r, "count"));
  }
  table_print (t, 0);
  putchar ('\n');
}

static void
print_failure (const json_t *stat)
{
  char reason[1024];

  snprintf (reason, sizeof reason, "%s", string (stat, "reason"));
  make_printable (reason);
  if (strcmp (reason, "-") != 0)
    printf ("FAILED: %s\nNothing is written any more; reads go on.\n\n",
            reason);
}

static void
print_volumes (const json_t *volumes)
{
  static const char *const heads[] = { "/VOLUME", "<KIND",  "<ENGINE",
                                       ">SIZE",   ">USED",  ">USED %",
                                       ">ERRORS", "<FLAGS", NULL };
  static const char *const flags[] = { "direct", "sparse", "checked", NULL };
  struct table *t = table_new (heads);
  const json_t *v;
  size_t i;

  json_array_foreach (volumes, i, v)
  {
    uint64_t size = number (v, "size_bytes"), used = number (v, "used_bytes");

    table_cell (t, "%s", string (v, "name"));
    table_cell (t, "%s", string (v, "kind"));
    table_cell (t, "%s", string (v, "engine"));
    size_cell (t, size);
    size_cell (t, used);
    table_cell (t, "%.1f", percent (used, size));
    table_cell (t, "%" PRIu64, number (v, "errors"));
    flags_cell (t, v, flags);
  }
  table_print (t, 0);
}

/* The sum of one count over all kinds of requests. */
static uint64_t
sum (const json_t *requests, const char *count)
{
  const char *kind;
  json_t *req;
  uint64_t n = 0;

  json_object_foreach ((json_t *) requests, kind, req) n += number (req, count);
  return n;
}

/* Up to the instance, which is long and says nothing to people. */
static int
export_length (const json_t *connection)
{
  return (int) strcspn (string (connection, "export"), "~");
}

static void
print_connections (const json_t *connections)
{
  static const char *const heads[] = { ">ID",   "<EXPORT", "<PEER",
                                       ">AGE",  ">IDLE",   ">REQUESTS",
                                       ">BUSY", ">ERRORS", "<FLAGS",
                                       NULL };
  static const char *const flags[] = { "read_only", "fenced", NULL };
  struct table *t = table_new (heads);
  const json_t *c;
  size_t i;

  json_array_foreach (connections, i, c)
  {
    const json_t *requests = json_object_get (c, "requests");

    table_cell (t, "%" PRIu64, number (c, "id"));
    table_cell (t, "%.*s", export_length (c), string (c, "export"));
    table_cell (t, "%s", string (c, "peer"));
    time_cell (t, seconds (c, "age"));
    time_cell (t, seconds (c, "idle"));
    table_cell (t, "%" PRIu64, sum (requests, "count"));
    table_cell (t, "%" PRIu64, number (c, "under_way"));
    table_cell (t, "%" PRIu64, sum (requests, "errors"));
    flags_cell (t, c, flags);
  }
  table_print (t, 0);
}

static void
print_requests (const json_t *requests)
{
  static const char *const heads[] = { "<REQUESTS", ">COUNT", ">DATA",
                                       ">ERRORS", NULL };
  struct table *t = table_new (heads);
  const char *kind;
  json_t *req;

  json_object_foreach ((json_t *) requests, kind, req)
  {
    table_cell (t, "%s", kind);
    table_cell (t, "%" PRIu64, number (req, "count"));
    size_cell (t, number (req, "bytes"));
    table_cell (t, "%" PRIu64, number (req, "errors"));
  }
  table_print (t, 0);
}

static void
print_bounds (const json_t *bounds)
{
  static const char *const heads[] = { "<BOUND", ">USED", ">MAX", ">USED %",
                                       NULL };
  struct table *t = table_new (heads);
  const json_t *b;
  size_t i;

  json_array_foreach (bounds, i, b)
  {
    uint64_t used = number (b, "used"), max = number (b, "max");

    table_cell (t, "%s", string (b, "name"));
    table_cell (t, "%" PRIu64, used);
    table_cell (t, "%" PRIu64, max);
    table_cell (t, "%.1f", percent (used, max));
  }
  table_print (t, 0);
}

/* One bar for each power of two: how many free runs are that long. */
static void
print_fragments (const json_t *fragments)
{
  static const char *const heads[] = { ">FREE RUNS FROM", ">COUNT", "<", NULL };
  struct table *t = table_new (heads);
  json_int_t most = 1;
  const json_t *f;
  size_t i;

  json_array_foreach (fragments, i, f) if (json_integer_value (f) > most) most =
      json_integer_value (f);
  json_array_foreach (fragments, i, f)
  {
    json_int_t n = json_integer_value (f);
    int bar = (int) ((double) n * BAR_MAX / (double) most + 0.5);

    if (i > 50) /* longer than any volume */
      break;
    size_cell (t, (uint64_t) BLOCK_BYTES << i);
    table_cell (t, "%" JSON_INTEGER_FORMAT, n);
    table_cell (t, "%.*s", n > 0 && bar == 0 ? 1 : bar,
                "########################################");
  }
  table_print (t, 0);
}

void
print_stat (const json_t *stat)
{
  char text[HUMAN_BYTES];

  printf ("farpage %s, pid %" PRIu64 ", %s for %s, durability %s\n\n",
          string (stat, "version"), number (stat, "pid"),
          string (stat, "state"), time_human (seconds (stat, "uptime"), text),
          string (stat, "durability"));
  print_failure (stat);
  print_pool (json_object_get (stat, "pool"));
  print_armour (json_object_get (stat, "armour"));
  print_durable (json_object_get (stat, "store"));
  putchar ('\n');
  print_volumes (json_object_get (stat, "volumes"));
  putchar ('\n');
  print_retired (json_object_get (stat, "retired"));
  print_objects (json_object_get (stat, "objects"));
  putchar ('\n');
  print_connections (json_object_get (stat, "connections"));
  putchar ('\n');
  print_requests (json_object_get (stat, "requests"));
  putchar ('\n');
  print_bounds (json_object_get (stat, "bounds"));
  putchar ('\n');
  print_fragments (
      json_object_get (json_object_get (stat, "pool"), "fragments"));
}

void
print_object (const json_t *stat)
{
  const json_t *o = json_array_get (json_object_get (stat, "objects"), 0);
  uint64_t size = number (o, "size_bytes");
  char text[HUMAN_BYTES], name[1024];

  snprintf (name, sizeof name, "%s", string (o, "name"));
  make_printable (name);
  printf ("%s: %s (%" PRIu64 " bytes), instance %s\n\n", name,
          size_human (size, text), size, string (o, "instance"));
  print_share ("mapped", number (o, "mapped_bytes"), size);
  print_share ("reserved", number (o, "reserved_bytes"), size);
  if (seconds (o, "linger") > 0)
    printf ("linger      %8s\n", time_human (seconds (o, "linger"), text));
  putchar ('\n');
  print_objects (json_object_get (stat, "objects"));
  putchar ('\n');
  print_connections (json_object_get (stat, "connections"));
}
