/* SPDX-License-Identifier: BSD-2-Clause */
/* One line of the control protocol to one answer; see docs/control.md. */

#ifndef FARPAGE_REQUEST_H
#define FARPAGE_REQUEST_H

#include <sys/socket.h>

#include "stat-json.h"

#define REQUEST_LINE_MAX   65536u /* bytes, without the end of line */
#define REQUEST_DEPTH_MAX  16u
#define REQUEST_ANSWER_MAX (UINT32_C (16) << 20)

struct request_env {
  struct store *store;
  const struct armour *armour;
  struct ucred peer;      /* who asks, for the log */
  struct bound clients;   /* of the control socket */
  enum space_state space; /* the last that was heard of */
};

struct request_answer {
  char *text; /* JSON with its end of line, from malloc; NULL: no memory */
  size_t bytes;
  bool stop;      /* it was a good `stop` */
  bool subscribe; /* it was a good `events` */
};

/* Do what the line asks.  Anything at all may be in it.  Blocks: as the store
 * function that cmd names does.
 */
extern void request_run (const struct request_env *env, const char *line,
                         size_t bytes, struct request_answer *answer);

/* {"ok": false, …} as a line of its own; err is a positive errno. */
extern void request_refuse (int err, const char *text,
                            struct request_answer *answer);

#endif /* FARPAGE_REQUEST_H */
