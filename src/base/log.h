/* SPDX-License-Identifier: BSD-2-Clause */
/* The one way out for messages: a callback handed down at start.
 *
 * Layers below the plugin and the tool never print.  They say what happened
 * and what to do about it here.  Not for the path of a request that succeeds;
 * what a failing medium can repeat for ever goes through log_limited ().
 */

#ifndef FARPAGE_LOG_H
#define FARPAGE_LOG_H

#include <stdatomic.h>
#include <stdint.h>

enum log_level {
  LOG_ERROR,
  LOG_WARNING,
  LOG_INFO,
  LOG_DEBUG
};

typedef void (*log_fn) (void *arg, enum log_level level, const char *text);

/* Where messages go; NULL (the start) drops them.  Not thread safe: set it
 * before any other thread runs.
 */
extern void log_set (log_fn fn, void *arg);

extern void log_write (enum log_level level, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));

/* The same, at most once a second for each struct log_limit; the next message
 * that goes out says how many did not.
 */
struct log_limit {
  _Atomic uint64_t next_ns;
  atomic_uint dropped;
};
extern void log_limited (struct log_limit *limit, enum log_level level,
                         const char *fmt, ...)
    __attribute__ ((format (printf, 3, 4)));

#endif /* FARPAGE_LOG_H */
