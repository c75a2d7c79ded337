/* SPDX-License-Identifier: BSD-2-Clause */
/* What both benches share, see bench-common.h. */

#include <config.h>

#include "bench-common.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "size.h"

/* Of syslog.h. */
#define PRIORITY_ERROR   3
#define PRIORITY_WARNING 4

static struct {
  pthread_mutex_t lock;
  bool opened;    /* [lock] */
  char last[512]; /* [lock] error */
} said = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- options ---- */

int
bench_parse_list (const char *text, unsigned max, const char *word,
                  unsigned *list, unsigned *nr)
{
  *nr = 0;
  while (*text != '\0') {
    size_t len = strcspn (text, ",");
    char *end;
    unsigned long n = strtoul (text, &end, 10);

    if (*nr == BENCH_LIST_MAX)
      return EINVAL;
    if (word != NULL && len == strlen (word) && strncmp (text, word, len) == 0)
      n = 0;
    else if (text[0] < '0' || text[0] > '9' || end != text + len || n < 1 ||
             n > max)
      return EINVAL;
    list[(*nr)++] = (unsigned) n;
    text += len + (text[len] == ',' && text[len + 1] != '\0');
  }
  return *nr > 0 ? 0 : EINVAL;
}

static int
parse_seconds (const char *text, double *seconds)
{
  char *end;

  *seconds = strtod (text, &end);
  return *end == '\0' && *seconds >= 0.05 && *seconds <= 3600 ? 0 : EINVAL;
}

int
bench_parse_common (const struct invocation *inv, uint64_t span_min,
                    unsigned *connections, uint64_t *span_bytes,
                    double *seconds)
{
  unsigned nr, one[BENCH_LIST_MAX];

  if (given (inv, OPT_CONNECTIONS)) {
    if (bench_parse_list (inv->value[OPT_CONNECTIONS], 16, NULL, one, &nr) !=
            0 ||
        nr != 1)
      return complain_usage (inv->command, "--connections is 1 to 16");
    *connections = one[0];
  }
  if (given (inv, OPT_SPAN) &&
      size_parse (inv->value[OPT_SPAN], span_bytes) != 0)
    return complain_usage (inv->command, "--span: not a size: '%s'",
                           inv->value[OPT_SPAN]);
  if (*span_bytes < span_min)
    return complain_usage (inv->command, "--span is %uM at least",
                           (unsigned) (span_min >> 20));
  if (given (inv, OPT_SECONDS) &&
      parse_seconds (inv->value[OPT_SECONDS], seconds) != 0)
    return complain_usage (inv->command, "--seconds is 0.05 to 3600");
  return 0;
}

/* ---- trouble ---- */

static void
log_line (void *arg, int priority, const char *text)
{
  bool keep;

  (void) arg;
  if (priority > PRIORITY_WARNING)
    return;
  pthread_mutex_lock (&said.lock);
  keep = priority <= PRIORITY_ERROR && !said.opened;
  if (keep)
    snprintf (said.last, sizeof said.last, "%s", text);
  pthread_mutex_unlock (&said.lock);
  if (!keep)
    complain (NULL, "%s", text);
}

void
bench_options_init (struct farpage_options *opts)
{
  farpage_options_init (opts);
  opts->log = log_line;
  pthread_mutex_lock (&said.lock);
  said.opened = false;
  said.last[0] = '\0';
  pthread_mutex_unlock (&said.lock);
}

void
bench_opened (void)
{
  pthread_mutex_lock (&said.lock);
  said.opened = true;
  pthread_mutex_unlock (&said.lock);
}

/* NULL: nothing better than what the library says. */
static const char *
reason (int err)
{
  switch (err) {
  case EEXIST:
    return "it holds something else, which would be lost (--takeover takes it "
           "all the same)";
  case EBUSY:
    return "another process uses it (--takeover takes it all the same)";
  case ENOSPC:
    return "it is too small (64 MiB at least)";
  case EROFS:
    return "it is read-only (its server can make it writable)";
  case EINVAL:
    return "not a URI of an export, as nbd://HOST/NAME or "
           "nbd+unix:///NAME?socket=PATH (see 'farpage bench --help')";
  case ECONNREFUSED:
    return "nobody listens there (is the server started?)";
  case ENOENT:
    return "there is no such socket or export (is the server started, and does "
           "it know that name?)";
  case ENOMEM:
    return "there is not enough memory";
  default:
    return NULL;
  }
}

void
bench_complain_open (const char *uri, int err)
{
  const char *why = reason (err);
  char last[sizeof said.last];

  pthread_mutex_lock (&said.lock);
  memcpy (last, said.last, sizeof last);
  pthread_mutex_unlock (&said.lock);
  if (why != NULL)
    complain (uri, "%s", why);
  else if (last[0] != '\0') /* it begins with the URI */
    complain (NULL, "%s (is that the place of an NBD server?)", last);
  else
    complain (uri, "%s (is that the place of an NBD server?)", strerror (err));
}

/* ---- numbers ---- */

uint64_t
bench_random (uint64_t *random)
{
  *random ^= *random << 13;
  *random ^= *random >> 7;
  *random ^= *random << 17;
  return *random;
}

int
bench_by_number (const void *a, const void *b)
{
  const double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}
