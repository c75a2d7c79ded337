/* SPDX-License-Identifier: BSD-2-Clause */
/* The last words of the store that runs, kept for whoever prints a failure. */

#include <config.h>

#include "run.h"

#include <stdio.h>
#include <string.h>

#include "log.h"

#define LOG_LINES 12u

static char log_lines[LOG_LINES][256];
static unsigned nr_log_lines;
static bool store_failed;

static void
keep_line (void *arg, enum log_level level, const char *text)
{
  (void) arg;
  (void) level;
  snprintf (log_lines[nr_log_lines++ % LOG_LINES], sizeof log_lines[0], "%s",
            text);
  store_failed |= strstr (text, "store: failed") != NULL;
}

void
run_keep_log (void)
{
  nr_log_lines = 0;
  store_failed = false;
  log_set (keep_line, NULL);
}

bool
run_store_failed (void)
{
  return store_failed;
}

void
run_print_log (int fd)
{
  unsigned first = nr_log_lines > LOG_LINES ? nr_log_lines - LOG_LINES : 0;

  for (unsigned i = first; i < nr_log_lines; i++)
    dprintf (fd, "    %s\n", log_lines[i % LOG_LINES]);
}
