/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages to one callback; see log.h.  No state but the callback, no lock,
 * no allocation: a message is cut at LOG_BYTES_MAX.
 */

#include <config.h>

#include "log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "env.h"

#define LOG_BYTES_MAX 512
#define LIMIT_NS      UINT64_C (1000000000)

static log_fn callback;
static void *callback_arg;

void
log_set (log_fn fn, void *arg)
{
  callback = fn;
  callback_arg = arg;
}

static void
emit (enum log_level level, const char *fmt, va_list args, unsigned dropped)
{
  char text[LOG_BYTES_MAX];
  int len;

  if (callback == NULL)
    return;
  len = vsnprintf (text, sizeof text, fmt, args);
  if (dropped > 0 && len >= 0 && (size_t) len < sizeof text)
    snprintf (text + len, sizeof text - len, " (and %u more like it)", dropped);
  callback (callback_arg, level, text);
}

void
log_write (enum log_level level, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  emit (level, fmt, args, 0);
  va_end (args);
}

void
log_limited (struct log_limit *limit, enum log_level level, const char *fmt,
             ...)
{
  uint64_t now = env_now_ns ();
  uint64_t next = atomic_load (&limit->next_ns);
  va_list args;

  if (now < next || !atomic_compare_exchange_strong (&limit->next_ns, &next,
                                                     now + LIMIT_NS)) {
    atomic_fetch_add (&limit->dropped, 1);
    return;
  }
  va_start (args, fmt);
  emit (level, fmt, args, atomic_exchange (&limit->dropped, 0));
  va_end (args);
}
