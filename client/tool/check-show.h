/* SPDX-License-Identifier: BSD-2-Clause */
/* What `farpage check` shows. */

#ifndef FARPAGE_CHECK_SHOW_H
#define FARPAGE_CHECK_SHOW_H

#include <jansson.h>
#include <stdio.h>

#include "check.h"

/* Findings of a kind that are told without --all. */
#define SHOW_MAX 20u

struct show {
  bool all;
  json_t *json, *findings, *notes; /* json NULL: for people */
  uint64_t nr_told[CHECK_KINDS];
  enum check_phase phase;
  uint64_t phase_ns;
  uint64_t nr_planned, nr_written; /* blocks */
  struct check_report left;        /* after a repair */
};

extern void show_begin (struct show *s, bool json, bool all);
extern void show_end (struct show *s, const struct check_report *report,
                      int status);

/* For check_config; arg is the struct show. */
extern void show_found (void *arg, const struct check_finding *f);
extern void show_note (void *arg, const char *text);
extern void show_progress (void *arg, enum check_phase phase, uint64_t done,
                           uint64_t all);

/* So many blocks are about to be written, and s->left will be found then. */
extern void show_plan (struct show *s, uint64_t nr_blocks);

#endif /* FARPAGE_CHECK_SHOW_H */
