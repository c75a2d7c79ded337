/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking a durable store through, and repairing it: what `farpage check`
 * does, as functions of one thread that print nothing.
 *
 * Nobody else has the volumes while one of these runs: a store that is open
 * would look damaged.
 */

#ifndef FARPAGE_CHECK_H
#define FARPAGE_CHECK_H

#include "types.h"

struct volume;

enum check_kind {
  CHECK_VOLUME,  /* missing, foreign, older than the others: no store */
  CHECK_SLOT,    /* a superblock slot */
  CHECK_LOG,     /* a hole in the log */
  CHECK_OBJECT,  /* an entry of the object table */
  CHECK_NODE,    /* a node of the table or of a map that is not good */
  CHECK_ENTRY,   /* a page's entry, or a pointer, that cannot be */
  CHECK_COUNT,   /* a number that is not what was counted */
  CHECK_TWICE,   /* a block with two owners */
  CHECK_LOST,    /* a block in use that the free map would give away */
  CHECK_LEAKED,  /* a block that nobody uses and the free map keeps */
  CHECK_FREEMAP, /* a node of the free map */
  CHECK_RETIRED, /* a block that failed a write, and is in use */
  CHECK_DATA,    /* a page whose CRC is wrong, or that cannot be read */
  CHECK_KINDS
};
extern const char *const check_kind_names[CHECK_KINDS];

#define CHECK_NONE UINT64_MAX

struct check_finding {
  enum check_kind kind;
  const char *volume;      /* its name; NULL: of no volume */
  uint64_t blk, nr_blocks; /* from the volume's start; CHECK_NONE */
  uint64_t tree;           /* object's id or DISK_TREE_; CHECK_NONE */
  const char *object;      /* its name, harmless text; NULL: has none */
  uint64_t pgno, nr_pages; /* of the object; CHECK_NONE */
  const char *what;
  const char *repair; /* what repairing will do about it; NULL: nothing */
};

/* All of it on a line: "VOLUME: block 7: disk 'a', page 3: what". */
extern void check_finding_text (const struct check_finding *f, char *to,
                                size_t bytes);

enum check_phase {
  CHECK_PHASE_SUPER,
  CHECK_PHASE_LOG,
  CHECK_PHASE_TABLE,
  CHECK_PHASE_MAPS,
  CHECK_PHASE_BLOCKS,
  CHECK_PHASE_DATA,
  CHECK_PHASES
};
extern const char *const check_phase_names[CHECK_PHASES];

struct check_config {
  struct volume *const *volumes; /* in any order; stay the caller's */
  unsigned nr_volumes;
  bool data;               /* read and verify every page */
  const char *staging_dir; /* NULL: no staging is looked for */
  /* A store that was not closed is recovered in memory first, and what that
   * gives is looked at.  With no_recover only its superblocks and log are.
   */
  bool no_recover;

  /* Any of these may be NULL.  found: strings are good until it returns. */
  void (*found) (void *arg, const struct check_finding *f);
  void (*note) (void *arg, const char *text); /* a line that is no fault */
  void (*progress) (void *arg, enum check_phase phase, uint64_t done,
                    uint64_t all);
  bool (*stop) (void *arg); /* true: end early, with EINTR */
  void *arg;
};

struct check_report {
  uint64_t nr_found[CHECK_KINDS], nr_all;
  uint64_t nr_repairs; /* of them will be repaired (check_repair) */
  bool whole;          /* every phase was gone through */
  bool closed;         /* the store was closed */
  bool recovered;      /* what was looked at is what recovery gave */
  uint64_t nr_staged;  /* pages and log blocks of a process that died */
  uint64_t nr_objects, nr_nodes, nr_mapped, nr_zero; /* as counted */
  uint64_t nr_blocks, nr_used;                       /* of all volumes */
  uint64_t nr_retired;    /* blocks that failed a write, in no use */
  uint64_t nr_verified;   /* pages read */
  uint64_t nr_pages_lost; /* pages below nodes that are not good */
  uint64_t memory_bytes;  /* that it took for the blocks' owners */
};

/* Look the store through.  Nothing is written.  0: it was looked at, as far as
 * it goes, and report says what was found.  EINTR, ENOMEM; EINVAL: the volumes
 * are no store (findings of CHECK_VOLUME say why).  Blocks: yes.
 */
extern int check_run (const struct check_config *config,
                      struct check_report *report);

/* ---- repairing ---- */

struct check_repair {
  bool lose_pages;       /* pages that are lost may become holes */
  const char *undo_path; /* a file that is not there yet */
  /* All has been decided and nothing is written yet: nr_blocks will be, of
   * which the undo file keeps what they hold; after is what a check will find
   * then.  False: do not.
   */
  bool (*go) (void *arg, uint64_t nr_blocks, const struct check_report *after);
};

/* Look the store through as check_run () does, telling of each finding what
 * will be done about it; put it right in memory; look that through; write what
 * the blocks hold into the undo file, durably; then write the blocks.  Those
 * are as they were, as they will be, or both in an order that a second repair
 * (or check_restore ()) makes good, whenever it is interrupted.
 *
 * *nr_written 0: there was nothing to be repaired, or go () said no; then there
 * is no undo file.  Errors as check_run (), EEXIST, EIO, and what opening the
 * undo file can fail with.
 */
extern int check_repair (const struct check_config *config,
                         const struct check_repair *repair,
                         struct check_report *report, uint64_t *nr_written);

/* Put back what an undo file has.  EUCLEAN: it is not whole.  EINVAL: it is no
 * undo file, or of other volumes.  Told in the log.
 */
extern int check_restore (const char *undo_path, struct volume *const *volumes,
                          unsigned nr_volumes, uint64_t *nr_written);

/* For a simulator, on images of volumes that nobody has open: NULL, or the
 * first thing that is wrong (good until the next call).  A store that was not
 * closed is recovered in memory if recover is set, else only its superblocks
 * and its log are looked at.
 */
extern const char *check_store_images (struct volume *const *volumes,
                                       unsigned nr_volumes, bool recover);

#endif /* FARPAGE_CHECK_H */
