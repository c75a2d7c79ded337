/* SPDX-License-Identifier: BSD-2-Clause */
/* Findings, progress and summary of `farpage check`, for people and programs.
 */

#include <config.h>

#include "check-show.h"

#include <inttypes.h>
#include <string.h>

#include "env.h"
#include "item.h"
#include "progress.h"
#include "size.h"
#include "tool.h"

#define LINE_NS     (10 * NS_PER_S) /* where there is no terminal */
#define BAR         20
#define BAR_BYTES   (BAR + 4)
#define BLOCK_BYTES UINT64_C (4096)

/* ---- progress */

static const char *
amount (enum check_phase phase, uint64_t n, char to[HUMAN_BYTES])
{
  if (phase == CHECK_PHASE_DATA)
    return size_human (n * BLOCK_BYTES, to);
  snprintf (to, HUMAN_BYTES, "%" PRIu64 " nodes", n);
  return to;
}

static void
draw_bar (uint64_t filled, char to[BAR_BYTES])
{
  char bar[BAR + 1] = "";

  for (unsigned i = 0; i < BAR; i++)
    bar[i] = i < filled ? '#' : '-';
  snprintf (to, BAR_BYTES, "[%s] ", bar);
}

void
show_progress (void *arg, enum check_phase phase, uint64_t done, uint64_t all)
{
  struct show *s = arg;
  uint64_t now = env_now_ns ();
  char text[3][HUMAN_BYTES], left[HUMAN_BYTES], bar[BAR_BYTES] = "";
  double seconds, rate;

  if (phase != s->phase) {
    s->phase = phase;
    s->phase_ns = now;
  }
  done = done < all ? done : all; /* the table's counts may be wrong */
  if (all == 0 || !progress_due ())
    return;
  seconds = (double) (now - s->phase_ns) / (double) NS_PER_S;
  rate = seconds > 0 ? (double) done / seconds : 0;
  if (progress_on_terminal ())
    draw_bar (done * BAR / all, bar);
  progress_show ("%s: %s%s of %s, %s/s, %s left", check_phase_names[phase], bar,
                 amount (phase, done, text[0]), amount (phase, all, text[1]),
                 amount (phase, (uint64_t) rate, text[2]),
                 rate > 0 ? time_human ((double) (all - done) / rate, left)
                          : "?");
}

/* ---- findings */

static void
set_number (json_t *json, const char *key, uint64_t n)
{
  if (n != CHECK_NONE)
    json_object_set_new (json, key, item_number (n));
}

static void
set_text (json_t *json, const char *key, const char *text)
{
  if (text != NULL)
    json_object_set_new (json, key, item_text (text, strlen (text)));
}

static void
add_finding (struct show *s, const struct check_finding *f)
{
  json_t *json = json_object ();

  set_text (json, "kind", check_kind_names[f->kind]);
  set_text (json, "volume", f->volume);
  set_number (json, "block", f->blk);
  if (f->blk != CHECK_NONE)
    set_number (json, "nr_blocks", f->nr_blocks);
  set_number (json, "tree", f->tree);
  set_text (json, "disk", f->object);
  set_number (json, "page", f->pgno);
  if (f->pgno != CHECK_NONE)
    set_number (json, "nr_pages", f->nr_pages);
  set_text (json, "what", f->what);
  set_text (json, "repair", f->repair);
  json_array_append_new (s->findings, json);
}

void
show_found (void *arg, const struct check_finding *f)
{
  struct show *s = arg;
  char text[2048];

  if (!s->all && s->nr_told[f->kind] == SHOW_MAX)
    return;
  s->nr_told[f->kind]++;
  if (s->json != NULL) {
    add_finding (s, f);
    return;
  }
  check_finding_text (f, text, sizeof text);
  make_printable (text);
  progress_wipe ();
  printf ("%s\n", text);
}

void
show_note (void *arg, const char *text)
{
  struct show *s = arg;

  if (s->json != NULL) {
    json_array_append_new (s->notes, item_text (text, strlen (text)));
    return;
  }
  progress_wipe ();
  printf ("%s\n", text);
}

void
show_plan (struct show *s, uint64_t nr_blocks)
{
  char size[HUMAN_BYTES];

  s->nr_planned = nr_blocks;
  progress_wipe ();
  if (s->json != NULL)
    return;
  printf ("To be written: %s; ", size_human (nr_blocks * BLOCK_BYTES, size));
  if (s->left.nr_all == 0)
    printf ("after that nothing is wrong\n");
  else
    printf ("after that %" PRIu64 " findings are left\n", s->left.nr_all);
  fflush (stdout);
}

/* ---- summary */

static const char *
verdict (const struct show *s, int status)
{
  switch (status) {
  case 0:
    return "clean";
  case STATUS_CHECK_REPAIRED:
    return "repaired";
  case STATUS_CHECK_ERRORS:
    return s->nr_written > 0 ? "repaired in part: damage is left" : "damaged";
  case STATUS_CHECK_CANCELLED:
    return "cancelled";
  default:
    return "not checked";
  }
}

static void
end_json (struct show *s, const struct check_report *r, int status)
{
  json_t *nr = json_object (), *sum = json_object ();

  for (unsigned i = 0; i < CHECK_KINDS; i++)
    if (r->nr_found[i] > 0)
      set_number (nr, check_kind_names[i], r->nr_found[i]);
  json_object_set_new (s->json, "verdict", json_string (verdict (s, status)));
  json_object_set_new (s->json, "findings", s->findings);
  json_object_set_new (s->json, "found", nr);
  json_object_set_new (s->json, "notes", s->notes);
  json_object_set_new (sum, "whole", json_boolean (r->whole));
  json_object_set_new (sum, "closed", json_boolean (r->closed));
  json_object_set_new (sum, "recovered", json_boolean (r->recovered));
  set_number (sum, "disks", r->nr_objects);
  set_number (sum, "nodes", r->nr_nodes);
  set_number (sum, "pages", r->nr_mapped);
  set_number (sum, "zero_pages", r->nr_zero);
  set_number (sum, "blocks", r->nr_blocks);
  set_number (sum, "used_blocks", r->nr_used);
  set_number (sum, "retired_blocks", r->nr_retired);
  set_number (sum, "verified_pages", r->nr_verified);
  set_number (sum, "lost_pages", r->nr_pages_lost);
  set_number (sum, "memory_bytes", r->memory_bytes);
  set_number (sum, "written_blocks", s->nr_written);
  set_number (sum, "left", s->nr_written > 0 ? s->left.nr_all : r->nr_all);
  json_object_set_new (s->json, "summary", sum);
  json_dumpf (s->json, stdout, JSON_INDENT (2));
  putchar ('\n');
  json_decref (s->json);
}

static void
end_text (const struct show *s, const struct check_report *r, int status)
{
  char size[3][HUMAN_BYTES];

  for (unsigned i = 0; i < CHECK_KINDS; i++)
    if (r->nr_found[i] > s->nr_told[i])
      printf ("%" PRIu64 " more of kind '%s' (--all tells them)\n",
              r->nr_found[i] - s->nr_told[i], check_kind_names[i]);
  if (r->nr_blocks > 0)
    printf ("%" PRIu64 " disks, %s in pages (%" PRIu64 " read), %" PRIu64
            " nodes; %s of %s in use; checked with %s of memory\n",
            r->nr_objects, size_human (r->nr_mapped * BLOCK_BYTES, size[0]),
            r->nr_verified, r->nr_nodes,
            size_human (r->nr_used * BLOCK_BYTES, size[1]),
            size_human (r->nr_blocks * BLOCK_BYTES, size[2]),
            size_human (r->memory_bytes, (char[HUMAN_BYTES]){ "" }));
  if (r->nr_pages_lost > 0)
    printf ("%" PRIu64 " pages cannot be read any more\n", r->nr_pages_lost);
  if (!r->whole && status == STATUS_CHECK_ERRORS)
    printf ("Not all could be looked at.\n");
  printf ("%s", verdict (s, status));
  if (r->nr_all > 0)
    printf (": %" PRIu64 " finding%s", r->nr_all, r->nr_all > 1 ? "s" : "");
  if (status == STATUS_CHECK_ERRORS && s->nr_written == 0)
    printf (" (--repair --undo-file FILE puts right what can be)");
  putchar ('\n');
}

void
show_begin (struct show *s, bool json, bool all)
{
  memset (s, 0, sizeof *s);
  s->all = all;
  s->phase_ns = env_now_ns ();
  s->phase = CHECK_PHASES;
  progress_begin ("check", LINE_NS);
  if (json) {
    s->json = json_object ();
    s->findings = json_array ();
    s->notes = json_array ();
  }
}

void
show_end (struct show *s, const struct check_report *report, int status)
{
  if (s->json != NULL)
    end_json (s, report, status);
  else
    end_text (s, report, status);
}
