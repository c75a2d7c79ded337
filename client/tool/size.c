/* SPDX-License-Identifier: BSD-2-Clause */
/* Sizes and times, as people write and read them; see size.h.  Pure. */

#include <config.h>

#include "size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MIN  60
#define HOUR 3600
#define DAY  86400

/* The power of two that a letter stands for, or -1. */
static int
suffix_shift (char letter)
{
  static const char letters[] = "bBsSkKmMgGtTpPeE";
  static const signed char shifts[] = { 0, 9, 10, 20, 30, 40, 50, 60 };
  const char *p = strchr (letters, letter);

  return letter == '\0' || p == NULL ? -1 : shifts[(p - letters) / 2];
}

int
size_parse (const char *text, uint64_t *bytes)
{
  uint64_t n = 0;
  bool too_big = false;
  int shift = 0;

  if (*text < '0' || *text > '9')
    return EINVAL;
  for (; *text >= '0' && *text <= '9'; text++)
    if (n > INT64_MAX / 10)
      too_big = true; /* but what follows may be no number at all */
    else
      n = n * 10 + (*text - '0');
  if (*text != '\0') {
    shift = suffix_shift (*text);
    if (shift < 0 || text[1] != '\0')
      return EINVAL;
  }
  if (too_big || n > (uint64_t) INT64_MAX >> shift)
    return ERANGE;
  *bytes = n << shift;
  return 0;
}

const char *
size_human (uint64_t bytes, char to[HUMAN_BYTES])
{
  static const char units[] = "KMGTPE";
  double n = (double) bytes / 1024;
  int i = 0;

  if (bytes < 1024) {
    snprintf (to, HUMAN_BYTES, "%dB", (int) bytes);
    return to;
  }
  for (; n >= 1023.95 && i < 5; i++) /* or it would print as 1024.0 */
    n /= 1024;
  snprintf (to, HUMAN_BYTES, "%.1f%c", n, units[i]);
  return to;
}

const char *
time_human (double seconds, char to[HUMAN_BYTES])
{
  uint64_t s = seconds > 0 && seconds < 1e15 ? (uint64_t) seconds : 0;

  if (seconds < 0.9995)
    snprintf (to, HUMAN_BYTES, "%.0fms", seconds > 0 ? seconds * 1000 : 0.0);
  else if (seconds < 9.95)
    snprintf (to, HUMAN_BYTES, "%.1fs", seconds);
  else if (s < MIN)
    snprintf (to, HUMAN_BYTES, "%ds", (int) s);
  else if (s < HOUR)
    snprintf (to, HUMAN_BYTES, "%dm %ds", (int) (s / MIN), (int) (s % MIN));
  else if (s < DAY)
    snprintf (to, HUMAN_BYTES, "%dh %dm", (int) (s / HOUR),
              (int) (s % HOUR / MIN));
  else
    snprintf (to, HUMAN_BYTES, "%llud %dh", (unsigned long long) (s / DAY),
              (int) (s % DAY / HOUR));
  return to;
}

double
percent (uint64_t part, uint64_t whole)
{
  return whole == 0 ? 0 : 100.0 * (double) part / (double) whole;
}
