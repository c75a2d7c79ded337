/* SPDX-License-Identifier: BSD-2-Clause */
/* One run of a store from its open to its close, recorded and compared with
 * the model.
 */

#ifndef FARPAGE_CRASH_RUN_H
#define FARPAGE_CRASH_RUN_H

#include "model.h"
#include "ram.h"
#include "subject.h"

/* What a process that died had written and not flushed: the next one finds it,
 * and a machine that dies then may lose it.
 */
struct pending {
  unsigned refs;
  struct disks sure; /* without it */
  unsigned nr_writes, nr_blocks;
  struct rec_write *writes;
  struct block **blocks;
};
extern void pending_put (struct pending *p); /* NULL is fine */

/* What a run begins with: media, and what must be found on them. */
struct world {
  struct disks disks;
  struct ram_copy *staging; /* NULL: none */
  struct pending *pending;  /* NULL: none */
  enum crash_kind kind;     /* of the crash before it */
  /* What the store may hold if nothing but the media is left, and (after the
   * death of a process) with the staging.
   */
  struct expect expect[CRASH_KINDS];
  uint16_t next_token, next_life; /* 1 and up */
  unsigned depth;                 /* crashes before it */
  bool torn; /* one of them has left a torn write: check may say so */
};

extern void world_free (struct world *w);

#define RUN_WHY_BYTES 1024u
#define RUN_SAVES_MAX 4096u

/* Staging as it was when the record's clock had come to `at`. */
struct run_save {
  uint64_t at;
  void *staging;
};

struct run {
  struct record record;
  struct history history;
  struct disks disks; /* as the run left them */
  uint16_t next_token, next_life;
  struct run_save *saves;
  unsigned nr_saves, max_saves;
  bool failed;
  char why[RUN_WHY_BYTES]; /* if it failed: the first thing that was wrong */
  uint64_t trace, steps;
};

struct run_config {
  const struct subject *subject;
  const struct op *ops;
  unsigned nr_ops;
  uint64_t seed;
  bool read_all;                  /* also what the store says is a hole */
  bool saves;                     /* staging at each event is wanted */
  bool check_before, check_after; /* the media, when nobody has them open */
};

/* Open, compare, do the operations, compare, check, close. */
extern void run_world (const struct run_config *config, const struct world *w,
                       struct run *run);
extern void run_free (struct run *run);

/* SIGPROF when the process has used so much of a processor from now on; 0: no
 * more.  Not of real time: that goes on when the machine stands still.
 */
extern void run_limit (unsigned seconds);

/* The history, the media's events and the why, for people. */
extern void run_print (const struct run *run, int fd);

/* "w:a:0+8" and back (names of operations: see op_print). */
extern int op_parse (const char *text, struct op *op);
extern void op_print (const struct op *op, char *text, size_t bytes);
/* The operations that a page's sectors are of, with blanks between. */
extern void content_print (const struct content *c, char *text, size_t bytes);

/* The store's messages, from now on; has it said that it failed? */
extern void run_keep_log (void);
extern bool run_store_failed (void);
/* Those of the last run. */
extern void run_print_log (int fd);

#endif /* FARPAGE_CRASH_RUN_H */
